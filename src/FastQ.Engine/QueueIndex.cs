using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastQ.Protocol;

namespace FastQ.Engine;

// The index of a queue: where each message lies and how it stands, 16 bytes each, addressed by its tag.
//
//   tag 1 .. 1022 | 1023 .. 2045 | 2046 ...            page = tag / 1023
//   [ full page ]   [ none ]       [ packed page ]      none: all gone
//
//   full page    | live (8) | - | entry of each tag ... 1,023
//   packed page  | used, live, capacity (2 each) | tag's number in the page, 2 each, rising | entries |      for 1, 6, 28 or 227 messages
//
// A page is packed while little lives in it: at the start of a small queue, and when all but a few of its messages have gone. So an
// unsettled message costs 32 bytes, not 16 KiB (DESIGN-REVIEW R41). The page that the next message goes to (the tail) stays full for a
// while when it empties: a queue that stays short would else unpack it for each burst.

/// <summary>How a message stands.</summary>
internal enum EntryState : uint
{
    /// <summary>Not there (any more).</summary>
    Gone = 0,

    /// <summary>Never delivered yet, or given back untaken.</summary>
    Ready = 1,

    /// <summary>With a consumer.</summary>
    InFlight = 2,

    /// <summary>Its record is rotten: kept, shown, never delivered.</summary>
    Damaged = 3,

    /// <summary>Came back, or its delay is over; waits in the heap.</summary>
    Returned = 4,

    /// <summary>Waits for its time.</summary>
    Delayed = 5,

    /// <summary>Died, and is to leave for the dead letters.</summary>
    Dying = 6,
}

/// <summary>One message. The three low bits of the offset, a multiple of 8, hold the state.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
internal struct IndexEntry
{
    public const int SizeBytes = 16;

    [FieldOffset(0)] public uint Slot;
    [FieldOffset(4)] private uint _offsetAndState;
    [FieldOffset(8)] private uint _lengthAndFlags; // Lengths are below 2^25.
    [FieldOffset(12)] public ushort Deliveries;

    /// <summary>Of a message that came back, or is delayed: the queue's purge generation then; an older one is purged by the newest purge. Of one that is dying: why, with <see cref="Stopped"/>.</summary>
    [FieldOffset(14)] public ushort Generation;

    private const uint SharedBit = 1u << 31;
    private const uint RequestBit = 1u << 30;
    private const int ReleaseShift = 27;
    private const uint ReleaseBits = 7u << ReleaseShift;
    private const uint NoRelease = (uint)ReleaseReason.LeaseEnded - 1; // 0 in its bits: it never came back.

    /// <summary>Of the record: header, properties and body. What is set is neither shared nor a request, and never came back, unless that is said after it.</summary>
    public uint LengthBytes
    {
        readonly get => _lengthAndFlags & ~(SharedBit | RequestBit | ReleaseBits);
        set => _lengthAndFlags = value;
    }

    /// <summary>Other queues may have the same record (Shared.cs).</summary>
    public readonly bool IsShared => (_lengthAndFlags & SharedBit) != 0;

    public void Share() => _lengthAndFlags |= SharedBit;

    /// <summary>Somebody waits for a reply to it: it is delivered once, and its death is told.</summary>
    public bool IsRequest
    {
        readonly get => (_lengthAndFlags & RequestBit) != 0;
        set => _lengthAndFlags = (_lengthAndFlags & ~RequestBit) | (value ? RequestBit : 0);
    }

    /// <summary>Why it came back from a consumer, when it did last.</summary>
    public ReleaseReason Release
    {
        readonly get => (_lengthAndFlags & ReleaseBits) == 0 ? ReleaseReason.None : (ReleaseReason)(((_lengthAndFlags & ReleaseBits) >> ReleaseShift) + NoRelease);
        set => _lengthAndFlags = (_lengthAndFlags & ~ReleaseBits) | (((uint)value - NoRelease) << ReleaseShift);
    }

    /// <summary>Added to the reason of a death: it went in a circle, and stays.</summary>
    public const ushort Stopped = 0x8000;

    public readonly DeathReason Reason => (DeathReason)(byte)Generation;

    public readonly bool IsStopped => State == EntryState.Dying && (Generation & Stopped) != 0;

    public readonly uint Offset => _offsetAndState & ~7u;

    public EntryState State
    {
        readonly get => (EntryState)(_offsetAndState & 7);
        set => _offsetAndState = (_offsetAndState & ~7u) | (uint)value;
    }

    public void Place(Place place, EntryState state) => (Slot, _offsetAndState) = (place.Slot, place.Offset | (uint)state);

    public readonly bool IsReady => State is EntryState.Ready or EntryState.Returned;
}

/// <summary>The memory of a page; its low bits say how it is laid out. Memory is aligned to 16 bytes.</summary>
internal readonly unsafe struct PageRef(nint value) : IVacant
{
    // By layout: packed pages of 1, 6, 28, 227 entries, then the full page.
    private static readonly int[] s_bytes = [32, 128, 512, 4096, PageAllocator.PageBytes];
    private static readonly int[] s_capacity = [1, 6, 28, 227, QueueIndex.EntriesAPage];

    public const int Small = 2, Full = 4;

    public bool IsVacant => value == 0;

    public bool IsFull => (value & 15) == 0;

    public int Layout => IsFull ? Full : (int)(value & 15) - 1;

    public byte* Memory => (byte*)(value & ~(nint)15);

    public long Live => IsFull ? *(long*)Memory : ((ushort*)Memory)[1];

    public int Used
    {
        get => *(ushort*)Memory;
        set => *(ushort*)Memory = (ushort)value;
    }

    public int Capacity => s_capacity[Layout];

    /// <summary>Packed: the numbers in the page of its entries.</summary>
    public ushort* Numbers => (ushort*)(Memory + 6);

    public IndexEntry* Entries => (IndexEntry*)(Memory + (IsFull ? 16 : (6 + 2 * Capacity + 15) & ~15));

    public static PageRef Make(PageAllocator pages, int layout) => new((nint)pages.Take(s_bytes[layout]) | (layout == Full ? 0 : layout + 1));

    public static int CapacityOf(int layout) => s_capacity[layout];

    public void Free(PageAllocator pages) => pages.Return(Memory, s_bytes[Layout]);

    public void AddLive(int change)
    {
        if (IsFull)
        {
            *(long*)Memory += change;
        }
        else
        {
            ((ushort*)Memory)[1] = (ushort)(((ushort*)Memory)[1] + change);
        }
    }

    /// <summary>Where the number stands or would stand in a packed page.</summary>
    public int LowerBound(int number)
    {
        ushort* numbers = Numbers;
        (int low, int high) = (0, Used);
        while (low < high)
        {
            int middle = (low + high) / 2;
            (low, high) = numbers[middle] < number ? (middle + 1, high) : (low, middle);
        }

        return low;
    }
}

/// <summary>Full pages at the end of queues that are nearly empty, the latest few only: they may stay as they are, for speed.</summary>
internal sealed class WarmTails
{
    private const int Most = 64;
    private readonly Queue<QueueIndex> _warm = new(Most + 1);

    public void Add(QueueIndex index)
    {
        _warm.Enqueue(index);
        if (_warm.Count > Most)
        {
            _warm.Dequeue().Cool();
        }
    }
}

/// <summary>The entries of one queue. One thread.</summary>
internal sealed unsafe class QueueIndex(PageAllocator pages, WarmTails warm) : IDisposable
{
    public const int EntriesAPage = PageAllocator.PageBytes / IndexEntry.SizeBytes - 1;

    /// <summary>A full page with so few live entries is packed.</summary>
    private const int SparseLive = 113;

    private const ulong NoPage = ulong.MaxValue;

    private readonly SparseRing<PageRef> _table = new();
    private ulong _tail;      // Number of the page made last.
    private nint _tailFull;   // Its memory when it is there and full; else 0, and _tailEnd is 0.
    private ulong _tailStart; // Its first tag.
    private ulong _tailEnd;
    private ulong _draining = NoPage; // The full page that became sparse last: in a queue in order it is empty soon, and packing it would be in vain.
    private bool _isWarm;
    private nint _hot;       // The full page that was looked at last: neighbours need no division and no table.
    private ulong _hotStart; // Its first tag.
    private ulong _hotCount; // Its entries; 0: there is none.

    /// <summary>The next message's tag. Tags start at 1.</summary>
    public ulong NextTag { get; private set; } = 1;

    public long TableBytes => _table.Bytes;

    /// <summary>May the next message need memory?</summary>
    public bool NeedsMemory => NextTag >= _tailEnd && MayGrow();

    /// <summary>The entry of a tag, or a null reference when it is not there.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ref IndexEntry Find(ulong tag)
    {
        if (tag - _hotStart >= _hotCount)
        {
            return ref FindSlowly(tag);
        }

        ref IndexEntry entry = ref ((IndexEntry*)_hot)[1 + (tag - _hotStart)];
        return ref entry.State == EntryState.Gone ? ref Unsafe.NullRef<IndexEntry>() : ref entry;
    }

    /// <summary>Adds the next message (or, at a load and in repair, one at a later tag). The caller gives it a state other than gone.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ref IndexEntry Add(ulong tag)
    {
        Invariant.Holds(tag >= NextTag);
        NextTag = tag + 1;
        if (tag < _tailEnd)
        {
            ++*(long*)_tailFull;
            return ref ((IndexEntry*)_tailFull)[1 + (tag - _tailStart)];
        }

        return ref AddSlowly(tag);
    }

    /// <summary>The message, whose entry was found just now, is gone. References to entries are void after it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Remove(ulong tag, ref IndexEntry entry)
    {
        entry = default;
        if (tag - _hotStart >= _hotCount || --*(long*)_hot is SparseLive or 0)
        {
            OnFew(tag / EntriesAPage);
        }
    }

    /// <summary>The first tag from <paramref name="tag"/> on that is there, or <paramref name="end"/>. Pages that are not there cost nothing.</summary>
    public ulong Next(ulong tag, ulong end)
    {
        while (tag < end)
        {
            ulong page = _table.NextOccupied(tag / EntriesAPage);
            if (page == ulong.MaxValue)
            {
                return end;
            }

            ulong start = page * EntriesAPage;
            ulong found = start + NextIn(_table.Find(page), (int)(Math.Max(tag, start) - start));
            if (found < start + EntriesAPage)
            {
                return Math.Min(found, end);
            }

            tag = start + EntriesAPage;
        }

        return end;
    }

    /// <summary>The tag at which a walk from <paramref name="tag"/> has passed so many pages that are there; at most <paramref name="end"/>.</summary>
    public ulong AfterPages(ulong tag, int count, ulong end)
    {
        while (count-- > 0)
        {
            ulong page = _table.NextOccupied(tag / EntriesAPage);
            if (page == ulong.MaxValue || (page + 1) * EntriesAPage >= end)
            {
                return end;
            }

            tag = (page + 1) * EntriesAPage;
        }

        return tag;
    }

    /// <summary>Jumps over tags that were used and are gone: for loading.</summary>
    public void SetNextTag(ulong tag)
    {
        Invariant.Holds(tag >= NextTag);
        NextTag = tag;
    }

    /// <summary>Others are warm now: a nearly empty tail is packed, and what is left of the page before.</summary>
    public void Cool()
    {
        _isWarm = false;
        PackDraining();
        ref PageRef tail = ref _table.Find(_tail);
        if (!Unsafe.IsNullRef(ref tail) && tail.IsFull && tail.Live <= SparseLive)
        {
            Repack(ref tail, LayoutFor(tail.Live, PageRef.Small));
            NoteTail();
        }
    }

    public void Dispose()
    {
        for (ulong page = _table.NextOccupied(0); page != ulong.MaxValue; page = _table.NextOccupied(page + 1))
        {
            _table.Find(page).Free(pages);
        }

        _hotCount = 0;
        _draining = NoPage;
        _table.Dispose();
        NoteTail();
    }

    private ref IndexEntry FindSlowly(ulong tag)
    {
        ulong number = tag / EntriesAPage;
        ref PageRef page = ref _table.Find(number);
        if (Unsafe.IsNullRef(ref page))
        {
            return ref Unsafe.NullRef<IndexEntry>();
        }

        if (!page.IsFull)
        {
            return ref FindPacked(page, (int)(tag - number * EntriesAPage));
        }

        (_hot, _hotStart, _hotCount) = ((nint)page.Memory, number * EntriesAPage, EntriesAPage);
        ref IndexEntry entry = ref ((IndexEntry*)_hot)[1 + (tag - _hotStart)];
        return ref entry.State == EntryState.Gone ? ref Unsafe.NullRef<IndexEntry>() : ref entry;
    }

    private static ref IndexEntry FindPacked(PageRef page, int number)
    {
        int at = page.LowerBound(number);
        if (at == page.Used || page.Numbers[at] != number)
        {
            return ref Unsafe.NullRef<IndexEntry>();
        }

        ref IndexEntry entry = ref page.Entries[at];
        return ref entry.State == EntryState.Gone ? ref Unsafe.NullRef<IndexEntry>() : ref entry;
    }

    /// <summary>The number in the page of the first live entry from <paramref name="number"/> on; the page's span when there is none.</summary>
    private static ulong NextIn(PageRef page, int number)
    {
        int end = page.IsFull ? EntriesAPage : page.Used;
        for (int at = page.IsFull ? number : page.LowerBound(number); at < end; at++)
        {
            if (page.Entries[at].State != EntryState.Gone)
            {
                return page.IsFull ? (ulong)at : page.Numbers[at];
            }
        }

        return EntriesAPage;
    }

    private static int LayoutFor(long live, int least)
    {
        int layout = least;
        while (PageRef.CapacityOf(layout) < live)
        {
            layout++;
        }

        return layout;
    }

    private bool MayGrow()
    {
        ref PageRef page = ref _table.Find(NextTag / EntriesAPage);
        return Unsafe.IsNullRef(ref page) || (!page.IsFull && page.Used == page.Capacity);
    }

    private ref IndexEntry AddSlowly(ulong tag)
    {
        ulong number = tag / EntriesAPage;
        ref PageRef page = ref _table.Find(number);
        if (Unsafe.IsNullRef(ref page))
        {
            MakePage(number);
            page = ref _table.Find(number);
        }

        if (!page.IsFull && page.Used == page.Capacity)
        {
            Repack(ref page, page.Live <= page.Capacity / 2 ? page.Layout : page.Layout + 1);
            NoteTail();
        }

        int at = (int)(tag - number * EntriesAPage);
        if (!page.IsFull)
        {
            int used = page.Used;
            page.Numbers[used] = (ushort)at;
            page.Used = used + 1;
            at = used;
        }

        page.AddLive(1);
        return ref page.Entries[at];
    }

    private void MakePage(ulong number)
    {
        int layout = 0;
        ref PageRef before = ref _table.Find(_tail);
        if (!Unsafe.IsNullRef(ref before))
        {
            layout = _tail + 1 == number && before.IsFull ? PageRef.Full : 0;
            ulong old = _tail;
            _tail = number;
            if (!before.IsFull || before.Live <= SparseLive)
            {
                Pack(old, ref before);
            }
        }

        _tail = number;
        _table.Append(number, PageRef.Make(pages, layout));
        NoteTail();
    }

    /// <summary>An entry has gone from a packed page, or from a full one (and is counted there) that is sparse now.</summary>
    private void OnFew(ulong number)
    {
        ref PageRef page = ref _table.Find(number);
        if (!page.IsFull)
        {
            page.AddLive(-1);
            Tidy(number, ref page);
        }
        else if (number != _tail)
        {
            Drain(number, ref page);
        }
        else
        {
            Warm();
        }
    }

    /// <summary>A full page is sparse now, or empty. Packed is the one that was sparse before it: what lives there outlives its neighbours.</summary>
    private void Drain(ulong number, ref PageRef page)
    {
        if (page.Live == 0)
        {
            _draining = _draining == number ? NoPage : _draining;
            Pack(number, ref page);
            return;
        }

        PackDraining();
        _draining = number;
        Warm();
    }

    private void PackDraining()
    {
        if (_draining == NoPage)
        {
            return;
        }

        ulong number = _draining;
        _draining = NoPage;
        ref PageRef page = ref _table.Find(number);
        if (!Unsafe.IsNullRef(ref page) && page.IsFull)
        {
            Pack(number, ref page);
        }
    }

    private void Warm()
    {
        if (!_isWarm)
        {
            _isWarm = true;
            warm.Add(this);
        }
    }

    /// <summary>A packed page has lost an entry.</summary>
    private void Tidy(ulong number, ref PageRef page)
    {
        if (number != _tail)
        {
            if (page.Live <= Math.Max(1, page.Layout == 0 ? 0 : PageRef.CapacityOf(page.Layout - 1) / 2))
            {
                Pack(number, ref page);
            }
        }
        else if (page.Live == 0)
        {
            // Empty, but the next message comes here: small, and as new.
            if (page.Layout > PageRef.Small)
            {
                Repack(ref page, PageRef.Small);
            }

            page.Used = 0;
        }
    }

    /// <summary>Gives a page the smallest layout that holds it; none when it is empty.</summary>
    private void Pack(ulong number, ref PageRef page)
    {
        if (page.Live == 0)
        {
            _hotCount = 0;
            page.Free(pages);
            _table.Vacate(number);
            return;
        }

        int layout = LayoutFor(page.Live, 0);
        if (layout != page.Layout)
        {
            Repack(ref page, layout);
        }
    }

    /// <summary>Lays a page out anew, without the entries that are gone.</summary>
    private void Repack(ref PageRef page, int layout)
    {
        PageRef made = PageRef.Make(pages, layout);
        int used = 0;
        for (ulong number = NextIn(page, 0); number < EntriesAPage; number = NextIn(page, (int)number + 1))
        {
            IndexEntry entry = page.IsFull ? page.Entries[number] : FindPacked(page, (int)number);
            if (made.IsFull)
            {
                made.Entries[number] = entry;
                used++;
                continue;
            }

            made.Numbers[used] = (ushort)number;
            made.Entries[used++] = entry;
        }

        Invariant.Holds(used == page.Live && used <= made.Capacity);
        made.AddLive(used);
        if (!made.IsFull)
        {
            made.Used = used;
        }

        _hotCount = 0;
        page.Free(pages);
        page = made;
    }

    private void NoteTail()
    {
        ref PageRef tail = ref _table.Find(_tail);
        bool isFull = !Unsafe.IsNullRef(ref tail) && tail.IsFull;
        (_tailFull, _tailStart, _tailEnd) = isFull ? ((nint)tail.Memory, _tail * EntriesAPage, (_tail + 1) * EntriesAPage) : (0, 0, 0);
    }
}
