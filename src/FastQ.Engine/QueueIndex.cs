using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FastQ.Engine;

// The index of a queue: where each message lies and how it stands, 16 bytes each, addressed by its tag.
//
//   tag 1 .. 1023 | 1024 .. 2047 | 2048 ...            page = tag / 1024
//   [ page ]        [ none: all gone ]  [ page ]       a page whose entries are all gone is given back
//
// Tags rise by one; the table of pages begins at the page of the oldest message that is there.

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

    /// <summary>Came back; waits in the heap.</summary>
    Returned = 4,

    /// <summary>Came back while a purge was under way that does not concern it.</summary>
    ReturnedAfterPurge = 5,
}

/// <summary>One message. The three low bits of the offset, a multiple of 8, hold the state.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
internal struct IndexEntry
{
    public const int SizeBytes = 16;

    [FieldOffset(0)] public uint Slot;
    [FieldOffset(4)] private uint _offsetAndState;
    [FieldOffset(8)] public uint LengthBytes;
    [FieldOffset(12)] public ushort Deliveries;
    [FieldOffset(14)] public ushort Reserved;

    public uint Offset
    {
        readonly get => _offsetAndState & ~7u;
        set => _offsetAndState = value | (_offsetAndState & 7);
    }

    public EntryState State
    {
        readonly get => (EntryState)(_offsetAndState & 7);
        set => _offsetAndState = (_offsetAndState & ~7u) | (uint)value;
    }

    public readonly bool IsReady => State is EntryState.Ready or EntryState.Returned or EntryState.ReturnedAfterPurge;
}

/// <summary>The entries of one queue. One thread.</summary>
internal sealed unsafe class QueueIndex(PageAllocator pages) : IDisposable
{
    public const int EntriesAPage = PageAllocator.PageBytes / IndexEntry.SizeBytes - 1; // The first 16 bytes of a page count its live entries.
    private readonly NativeRing<nint> _table = new();

    /// <summary>The next message's tag. Tags start at 1.</summary>
    public ulong NextTag { get; private set; } = 1;

    /// <summary>No tag below this one is there.</summary>
    public ulong FirstTag => _table.Count == 0 ? NextTag : Math.Max(1, _table.First * EntriesAPage);

    public long TableBytes => _table.Bytes;

    /// <summary>Would the next message need a page?</summary>
    public bool NeedsPage => NextTag / EntriesAPage >= _table.End || _table.Count == 0 || _table[NextTag / EntriesAPage] == 0;

    /// <summary>The entry of a tag, or a null reference when it is not there (or its page is not).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ref IndexEntry Find(ulong tag)
    {
        ulong page = tag / EntriesAPage;
        if (page - _table.First >= _table.Count)
        {
            return ref Unsafe.NullRef<IndexEntry>();
        }

        nint memory = _table[page];
        if (memory == 0)
        {
            return ref Unsafe.NullRef<IndexEntry>();
        }

        ref IndexEntry entry = ref ((IndexEntry*)memory)[1 + (tag - page * EntriesAPage)];
        return ref entry.State == EntryState.Gone ? ref Unsafe.NullRef<IndexEntry>() : ref entry;
    }

    /// <summary>Adds the next message (or, in repair, one at a later tag).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ref IndexEntry Add(ulong tag)
    {
        Invariant.Holds(tag >= NextTag);
        ulong page = tag / EntriesAPage;
        if (page >= _table.End || _table.Count == 0 || _table[page] == 0)
        {
            MakePage(page);
        }

        nint memory = _table[page];
        ++*(long*)memory;
        NextTag = tag + 1;
        return ref ((IndexEntry*)memory)[1 + (tag - page * EntriesAPage)];
    }

    /// <summary>The message is gone.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Remove(ulong tag)
    {
        ulong page = tag / EntriesAPage;
        nint memory = _table[page];
        ref IndexEntry entry = ref ((IndexEntry*)memory)[1 + (tag - page * EntriesAPage)];
        Invariant.Holds(entry.State != EntryState.Gone);
        entry = default;
        if (--*(long*)memory == 0)
        {
            FreePage(page);
        }
    }

    /// <summary>Jumps over tags that were used and are gone: for loading.</summary>
    public void SetNextTag(ulong tag)
    {
        Invariant.Holds(tag >= NextTag);
        NextTag = tag;
    }

    /// <summary>Pages that are there, in order: number and memory.</summary>
    public IEnumerable<(ulong Page, nint Memory)> Pages()
    {
        for (ulong page = _table.First; page < _table.End; page++)
        {
            if (_table[page] != 0)
            {
                yield return (page, _table[page]);
            }
        }
    }

    /// <summary>The 16 KiB of a page.</summary>
    public static Span<byte> BytesOf(nint page) => new((void*)page, PageAllocator.PageBytes);

    /// <summary>For loading: a page with this number, to be filled by the caller and counted by <see cref="Recount"/>. Pages come in rising order.</summary>
    public Span<byte> LoadPage(ulong page)
    {
        MakePage(page);
        return BytesOf(_table[page]);
    }

    /// <summary>Counts a loaded page's live entries.</summary>
    public long Recount(ulong page)
    {
        IndexEntry* entries = (IndexEntry*)_table[page];
        long live = 0;
        for (int i = 1; i <= EntriesAPage; i++)
        {
            live += entries[i].State != EntryState.Gone ? 1 : 0;
        }

        *(long*)entries = live;
        ((long*)entries)[1] = 0;
        return live;
    }

    public void Dispose()
    {
        for (ulong page = _table.First; page < _table.End; page++)
        {
            if (_table[page] != 0)
            {
                pages.Return((byte*)_table[page]);
            }
        }

        _table.Dispose();
    }

    private void MakePage(ulong page)
    {
        if (_table.Count == 0)
        {
            _table.StartAt(page);
        }

        while (_table.End <= page)
        {
            _table.Add(0);
        }

        Invariant.Holds(_table[page] == 0);
        _table[page] = (nint)pages.Take();
        if (page > _table.First && _table[page - 1] != 0 && *(long*)_table[page - 1] == 0)
        {
            FreePage(page - 1); // It emptied while it was the page of the next message.
        }
    }

    private void FreePage(ulong page)
    {
        // The page that the next message goes to stays: a queue that stays short would else give back and take the same page for each message.
        if (page == NextTag / EntriesAPage && page + 1 == _table.End)
        {
            return;
        }

        pages.Return((byte*)_table[page]);
        _table[page] = 0;
        while (_table.Count > 0 && _table[_table.First] == 0)
        {
            _table.RemoveFirst();
        }
    }
}
