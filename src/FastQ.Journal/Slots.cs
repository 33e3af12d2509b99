using System.Runtime.InteropServices;
using FastQ.Linux;

namespace FastQ.Journal;

// The slots of a namespace: files of one size, used again and again, one use at a time.
//
//   free --prepare (header written, synced)--> next --the current one is full--> current --full--> used --reclaim--> free or unlinked
//   (new file: allocated, fsync of file and directory, first; zeroed as far as there is time)
//
// The next slot is made ready beside the turn. A slot is usable only when its file, its name and its header are on the disk. One free slot is
// allocated ahead as well: on a full disk it takes the settlements that empty the others (DESIGN-REVIEW R27), and no new message.

/// <summary>One slot file. The descriptor that writes it is the one that syncs it.</summary>
internal sealed class Slot(uint id, IStoredFile file)
{
    public uint Id => id;

    public IStoredFile File => file;

    public ulong SegmentNumber { get; set; }

    /// <summary>0: no block in it.</summary>
    public ulong FirstBlock { get; set; }

    public ulong LastBlock { get; set; }

    /// <summary>Where the next block goes.</summary>
    public int Offset { get; set; } = Format.SegmentHeaderBytes;

    /// <summary>Wanted now: what of it is not zeroed yet stays as it was allocated. It reads as zeroes, too; the first sync of each place costs more.</summary>
    public volatile bool IsWanted;

    /// <summary>Written over once: appends change no metadata.</summary>
    public bool IsZeroed { get; set; }

    /// <summary>From before this start: clients may still map it.</summary>
    public bool IsOlderLife { get; set; }
}

/// <summary>A slot as shown to the owner.</summary>
/// <param name="Id">Never used again.</param>
/// <param name="SegmentNumber">Which use of a slot this is, counted over all slots.</param>
/// <param name="FirstBlock">0: none yet.</param>
/// <param name="LastBlock">The last so far.</param>
/// <param name="UsedBytes">Header and blocks.</param>
/// <param name="IsCurrent">Blocks are being written to it.</param>
/// <param name="IsOlderLife">Written before this start.</param>
public readonly record struct SlotInfo(uint Id, ulong SegmentNumber, ulong FirstBlock, ulong LastBlock, int UsedBytes, bool IsCurrent, bool IsOlderLife);

/// <summary>Which slots there are and what each is for.</summary>
internal sealed class Slots(IStorage storage, JournalOptions options, Guid uuid, Guid instance, ulong epoch)
{
    // The size of the write that first fills a page cache folio is the folio's, and ext4 walks all buffers of a folio for each write into it:
    // 4 KiB into a folio of 2 MiB takes 8.3 us, of 128 KiB 1.7 us; 256 KiB take the same in both.
    private const int ZeroBytes = 128 * 1024;
    private const int ZeroBytesASync = 2 * 1024 * 1024;
    private static readonly byte[] s_zeroes = new byte[ZeroBytes];
    private const int MostAhead = 2;
    private readonly List<Slot> _used = [];
    private readonly List<Slot> _free = [];
    private Slot? _next;
    private Slot? _preparing;
    private bool _isWaitedFor; // What is to be written now does not fit in the current one.
    private long _liveBytes;
    private long _starvedSinceMicros;
    private long _failedMicros;

    public Slot Current { get; private set; } = null!;

    public uint HighestId { get; set; }

    public ulong HighestSegment { get; set; }

    public int Count => _used.Count + _free.Count + 1 + (_next is null ? 0 : 1) + (_preparing is null ? 0 : 1);

    public bool HasNext => _next is not null;

    /// <summary>Slots on the disk that hold nothing, besides the current one.</summary>
    public int Ahead => _free.Count + (_next is null ? 0 : 1);

    public bool IsPreparing => _preparing is not null;

    /// <summary>A slot is wanted and may not be made yet.</summary>
    public bool IsStarved => _starvedSinceMicros != 0;

    /// <summary>Full ones, oldest first.</summary>
    public IReadOnlyList<Slot> Used => _used;

    public IEnumerable<Slot> All => _used.Append(Current).Concat(_free).Concat(_next is null ? [] : [_next]);

    public Slot? Find(uint id) => Current.Id == id ? Current : _next?.Id == id ? _next : FindIn(_used, id) ?? FindIn(_free, id);

    public static string PathOf(JournalOptions options, uint id) => Path.Combine(options.SlotDirectory, SegmentCatalogue.FileName(id));

    /// <summary>Takes in a slot found at the start.</summary>
    public void AdoptUsed(Slot slot) => _used.Add(slot);

    /// <summary>Makes the first slot of a life, at once: allocated, header written, all synced and read back (DESIGN-REVIEW R1).</summary>
    public Result OpenFirst(ulong parentBlock, ulong parentHash, ulong gapBlock)
    {
        uint id = ++HighestId;
        string path = PathOf(options, id);
        Result<IStoredFile> file = storage.Open(path, create: true);
        if (!file.Ok)
        {
            return file.Fault;
        }

        Slot slot = new(id, file.Value) { SegmentNumber = ++HighestSegment };
        SegmentHeader header = HeaderOf(slot, parentBlock, parentHash, 1, gapBlock);
        Result result = file.Value.Allocate(options.SlotBytes);
        result = result.Ok ? WriteHeader(slot, header) : result;
        result = result.Ok ? file.Value.Sync() : result;
        result = result.Ok ? storage.SyncDirectory(options.SlotDirectory) : result;
        result = result.Ok ? ReadBack(slot, header) : result;
        if (!result.Ok)
        {
            file.Value.Dispose();
            return result;
        }

        Current = slot;
        return Result.Success;
    }

    /// <summary>Begins to make the next slot ready, if there is none, or to allocate one in reserve. True: a job runs under <paramref name="token"/>.</summary>
    public bool TryPrepare(ulong token, long nowMicros)
    {
        if (_preparing is not null)
        {
            _preparing.IsWanted |= _isWaitedFor || Current.Offset > options.SlotBytes / 2;
            return false;
        }

        if (_next is null && _free.Count > 0)
        {
            Slot slot = _free[^1];
            _free.RemoveAt(_free.Count - 1);
            Prepare(slot, token);
            return true;
        }

        if (Ahead >= MostAhead || !MayMake(nowMicros))
        {
            return false;
        }

        uint id = ++HighestId;
        _failedMicros = nowMicros; // If it fails, that is.
        Result<IStoredFile> file = storage.Open(PathOf(options, id), create: true);
        if (!file.Ok)
        {
            Note(file.Fault);
            return false;
        }

        Make(new Slot(id, file.Value), token);
        return true;
    }

    /// <summary>Apart, as <see cref="Prepare"/> is: a closure is made at each call, and the caller is called once a turn.</summary>
    private void Make(Slot slot, ulong token)
    {
        _preparing = slot;
        storage.Run(() => Allocate(slot), token);
    }

    private bool MayMake(long nowMicros)
    {
        if (_next is null && Count >= 2 * _liveBytes / options.SlotBytes + options.MaxSlotsBeyondLive)
        {
            _starvedSinceMicros = _starvedSinceMicros == 0 ? nowMicros : _starvedSinceMicros;
            if (IsWithin(options.PatienceMicros, _starvedSinceMicros, nowMicros))
            {
                return false;
            }
        }

        // The reserve: nothing waits for it, and where there are many slots one will soon be free. After a fault it is the only way to know that there is room again.
        const int Least = 3; // The current one, the next, and the reserve.
        if (_next is not null && LastFault is null && Count >= _liveBytes / options.SlotBytes + Math.Max(Least, options.MaxSlotsBeyondLive - 1))
        {
            return false;
        }

        return LastFault is null || !IsWithin(options.RetryMicros, _failedMicros, nowMicros);
    }

    /// <summary>Why the last slot could not be made (no room on the disk); null when all is well.</summary>
    public Fault? LastFault { get; private set; }

    /// <summary>The slot that was the current one when the fault was first seen.</summary>
    public uint FaultSlot { get; private set; }

    private void Note(Fault? fault)
    {
        FaultSlot = LastFault is null ? Current.Id : FaultSlot;
        LastFault = fault;
    }

    /// <summary>The job has ended: a slot was allocated, or made ready to be the next.</summary>
    public void Prepared(Fault? fault)
    {
        Slot slot = _preparing!;
        _preparing = null;
        bool wasAllocated = slot.SegmentNumber == 0;
        if (fault is not null || wasAllocated) // That one could be made ready says nothing of room for another.
        {
            Note(fault);
        }

        if (fault is not null)
        {
            // A slot that could not be allocated is given up: what it holds of the disk goes back.
            slot.File.Dispose();
            _ = storage.Unlink(PathOf(options, slot.Id));
        }
        else if (wasAllocated)
        {
            _free.Add(slot);
        }
        else
        {
            _next = slot;
            _starvedSinceMicros = 0;
        }
    }

    /// <summary>The current slot is full: goes on to the next. False: it is not ready.</summary>
    public bool TryTurn()
    {
        if (_next is null)
        {
            _isWaitedFor = true;
            return false;
        }

        _isWaitedFor = false;
        _used.Add(Current);
        Current = _next;
        _next = null;
        return true;
    }

    /// <summary>Frees what is free by the three conditions (DESIGN section 6, Reclaim).</summary>
    public void Reclaim(ISlotUse use, ulong olderSnapshotBlock, ulong durableBlock)
    {
        SlotUse current = use.Of(Current.Id);
        _liveBytes = current.LiveBytes;
        for (int i = 0; i < _used.Count; i++)
        {
            Slot slot = _used[i];
            SlotUse what = use.Of(slot.Id);
            _liveBytes += what.LiveBytes;
            ulong needed = Math.Max(slot.LastBlock, what.LastLeftBlock);

            bool isFree = what.Live == 0 && !what.Pinned && needed <= olderSnapshotBlock && slot.LastBlock <= durableBlock;
            if (!isFree)
            {
                continue;
            }

            _used.RemoveAt(i--);
            if (what.Retire || slot.IsOlderLife || Ahead + (IsPreparing ? 1 : 0) > MostAhead)
            {
                slot.File.Dispose();
                _ = storage.Unlink(PathOf(options, slot.Id));
                Unlinked(slot.Id);
            }
            else
            {
                slot.FirstBlock = slot.LastBlock = slot.SegmentNumber = 0;
                slot.IsZeroed = true; // By what was written to it.
                slot.Offset = Format.SegmentHeaderBytes;
                _free.Add(slot);
            }
        }
    }

    /// <summary>Told when a slot's file is gone.</summary>
    public Action<uint> Unlinked { get; set; } = static _ => { };

    public void Dispose()
    {
        foreach (Slot slot in All)
        {
            slot.File.Dispose();
        }

        _preparing?.File.Dispose();
    }

    /// <summary>Has so much time not passed yet? A clock that was set back says yes for no one.</summary>
    private static bool IsWithin(long micros, long sinceMicros, long nowMicros) => nowMicros >= sinceMicros && nowMicros - sinceMicros < micros;

    private static Slot? FindIn(List<Slot> slots, uint id)
    {
        foreach (Slot slot in slots)
        {
            if (slot.Id == id)
            {
                return slot;
            }
        }

        return null;
    }

    private void Prepare(Slot slot, ulong token)
    {
        slot.SegmentNumber = ++HighestSegment;
        _preparing = slot;
        SegmentHeader header = HeaderOf(slot, 0, 0, 0, 0);
        storage.Run(() => MakeReady(slot, header), token);
    }

    private Result Allocate(Slot slot)
    {
        Result result = slot.File.Allocate(options.SlotBytes);
        result = result.Ok ? slot.File.Sync() : result;
        return result.Ok ? storage.SyncDirectory(options.SlotDirectory) : result;
    }

    private Result MakeReady(Slot slot, SegmentHeader header)
    {
        Result result = slot.IsZeroed ? Result.Success : Zero(slot);
        result = result.Ok ? WriteHeader(slot, header) : result;
        return result.Ok ? slot.File.DataSync() : result;
    }

    /// <summary>Writes zeroes once, so that later appends change no metadata, piece by piece, until the slot is wanted: a burst does not wait for 64 MiB of zeroes.</summary>
    private Result Zero(Slot slot)
    {
        slot.IsZeroed = true;
        for (long at = 0; at < options.SlotBytes && !slot.IsWanted; at += ZeroBytes)
        {
            Result result = slot.File.WriteAt(s_zeroes.AsSpan(0, (int)Math.Min(ZeroBytes, options.SlotBytes - at)), at);
            bool isDue = (at + ZeroBytes) % ZeroBytesASync == 0; // So that little is left for the sync that follows.
            result = result.Ok && isDue ? slot.File.DataSync() : result;
            if (!result.Ok)
            {
                return result;
            }
        }

        return Result.Success;
    }

    private SegmentHeader HeaderOf(Slot slot, ulong parentBlock, ulong parentHash, uint firstOfLife, ulong gapBlock)
    {
        SegmentHeader header = new() { Magic = Format.SegmentMagic, Version = Format.Version, Slot = slot.Id, Uuid = uuid, SegmentNumber = slot.SegmentNumber, Epoch = epoch, Instance = instance, ParentBlock = parentBlock, ParentHash = parentHash, FirstOfLife = firstOfLife, SlotBytes = (uint)options.SlotBytes, GapBlock = gapBlock };
        header.SetHash();
        return header;
    }

    private static Result WriteHeader(Slot slot, SegmentHeader header)
    {
        byte[] page = new byte[Format.SegmentHeaderBytes];
        MemoryMarshal.Write(page, header);
        return slot.File.WriteAt(page, 0);
    }

    private static Result ReadBack(Slot slot, SegmentHeader header)
    {
        byte[] page = new byte[SegmentHeader.SizeBytes];
        Result<int> read = slot.File.ReadDisk(page, 0);
        read = read.Ok ? read : slot.File.ReadAt(page, 0); // tmpfs has no disk behind its cache.
        if (!read.Ok)
        {
            return read.Fault;
        }

        return MemoryMarshal.Read<SegmentHeader>(page).Hash == header.Hash ? Result.Success : new Fault("pread", Errno.EIO, $"{slot.File.Path} (the header that was just written reads back differently)");
    }
}
