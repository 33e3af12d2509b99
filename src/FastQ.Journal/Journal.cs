using System.Buffers;
using System.IO.Hashing;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Journal;

// The journal: records into blocks, blocks into slots, in order, and what of it is written and durable.
//
//   TryReserve/Commit -> open block --Seal--> sealed: hash, chain, handed to the storage --completion--> written --sync--> durable
//
// Invariants: DurableBlock <= WrittenBlock < OpenBlock. Both are prefixes: a block counts only when all before it do. Durable passes a slot's
// last block only when that slot's own sync returned (DESIGN-REVIEW R11). A failed write or sync is final (R26): nothing counts after it.

/// <summary>How much a journal can still take.</summary>
public enum JournalRoom
{
    /// <summary>Everything.</summary>
    Plenty,

    /// <summary>The current slot is nearly full, and whether there can be a next one is not known yet: new messages wait to hear it, while there is room to refuse them.</summary>
    Awaited,

    /// <summary>The disk is full: settlements, refusals and moves, but no new messages.</summary>
    Scarce,

    /// <summary>As before, and what is refused had better wait: a refusal needs room, too.</summary>
    Spent,
}

/// <summary>An open journal. One thread, the broker's turn; jobs and syncs run beside it in the storage.</summary>
public sealed unsafe class Journal : IDisposable
{
    private const int PooledBlocks = 8;
    private const ulong SnapshotToken = 1, PrepareToken = 2, SyncToken = 3, FirstBlockToken = 16;
    private readonly JournalOptions _options;
    private readonly IStorage _storage;
    private readonly IDisposable? _lock;
    private readonly Slots _slots;
    private readonly Snapshots _snapshots;
    private readonly Stack<NativeBuffer> _pool = new();
    private readonly Queue<InFlight> _inFlight = new();
    private readonly Stack<InFlight> _landed = new();
    private readonly XxHash3 _hash;
    private readonly long _seed;
    private readonly StorageCompletion[] _completions = new StorageCompletion[32];
    private NativeBuffer? _open;
    private byte* _at;
    private int _fill;
    private int _hashed;
    private int _capacity;
    private int _reserved;
    private uint _records;
    private ulong _chainHash;
    private ulong _syncTarget;
    private ulong _syncCovers;
    private bool _syncRuns;
    private long _reserveTriedMicros;
    private bool _lastIsClosing;
    private long _bytesSinceSnapshot;
    private long _syncs;
    private long _bytesWritten;

    /// <summary>A block on its way to the file; used again and again, for a lone message is a block, too.</summary>
    private sealed class InFlight
    {
        public ulong Block { get; set; }

        public NativeBuffer Buffer { get; set; } = null!;

        public uint Slot { get; set; }

        /// <summary>Where it goes in its slot.</summary>
        public int Offset { get; set; }

        public int Length { get; set; }

        public bool Written { get; set; }
    }

    private Journal(JournalOptions options, IStorage storage, IDisposable? directoryLock, Guid uuid, ulong epoch, Slots slots, Snapshots snapshots, ulong block, ulong hash)
    {
        (_options, _storage, _lock, Uuid, Epoch, _slots, _snapshots) = (options, storage, directoryLock, uuid, epoch, slots, snapshots);
        _seed = Format.Seed(uuid, epoch);
        _hash = new XxHash3(_seed);
        WrittenBlock = DurableBlock = block;
        OpenBlock = block + 1;
        _chainHash = hash;
        for (int i = 0; i < PooledBlocks; i++)
        {
            _pool.Push(new NativeBuffer(options.BlockBytes));
        }

        _slots.Unlinked = slot => SlotGone?.Invoke(slot);
        _lastIsClosing = true;
    }

    public Guid Uuid { get; }

    /// <summary>This life of the broker.</summary>
    public ulong Epoch { get; }

    /// <summary>Number of the block that the next committed record belongs to.</summary>
    public ulong OpenBlock { get; private set; }

    /// <summary>Bytes of records in it.</summary>
    public int OpenBytes => _open is null ? 0 : _fill - BlockHeader.SizeBytes;

    /// <summary>The number that a record appended now, or the last one appended, is shown by: once this block is written, so is all that was appended.</summary>
    public ulong LastBlock => OpenBytes > 0 ? OpenBlock : OpenBlock - 1;

    public ulong WrittenBlock { get; private set; }

    public ulong DurableBlock { get; private set; }

    /// <summary>A write or a sync failed: final.</summary>
    public JournalProblem? Failure { get; private set; }

    /// <summary>The last block is a closing one, and durable.</summary>
    public bool AtRest => _lastIsClosing && OpenBytes == 0 && DurableBlock == OpenBlock - 1;

    /// <summary>The last block is a closing one: nothing came after it.</summary>
    public bool HasClosing => _lastIsClosing && OpenBytes == 0;

    /// <summary>Id of the slot that blocks are being written to.</summary>
    public uint CurrentSlot => _slots.Current.Id;

    /// <summary>Readable when a completion waits.</summary>
    public int WakeDescriptor => _storage.WakeDescriptor;

    public bool IsBusy => _storage.IsBusy;

    public bool SnapshotRunning => _snapshots.IsRunning;

    public int SlotBytes => _options.SlotBytes;

    /// <summary>No slot is ready to go on to, and none may be made: the owner should snapshot and reclaim now.</summary>
    public bool WantsRoom => _slots.IsStarved;

    /// <summary>Why the next slot or the reserve for snapshots could not be made (a full disk); null when all is well.</summary>
    public Fault? RoomFault => _slots.LastFault ?? _snapshots.ReserveFault;

    /// <summary>What may still be written. Less than plenty when no further slot can be made: what is left is kept then for what makes room, or must be said.</summary>
    public JournalRoom Room
    {
        get
        {
            // In sixteenths. Of what is filled, never of what is open: what was scarce once must not be plenty because a block was handed over.
            long left = 16L * (_options.SlotBytes - _slots.Current.Offset - _fill) / _options.SlotBytes;
            if (RoomFault is null)
            {
                return _slots.HasNext || left >= 3 ? JournalRoom.Plenty : JournalRoom.Awaited;
            }

            // No further slot can be made. One that is there stays whole for the settlements that will empty others.
            if (_snapshots.ReserveFault is not null)
            {
                return _slots.Ahead > 0 || left >= 2 ? JournalRoom.Scarce : JournalRoom.Spent;
            }

            bool isReserve = _slots.Current.Id != _slots.FaultSlot; // It was the slot ahead when the fault came.
            if (_slots.Ahead == 0 && !isReserve && left >= 8)
            {
                return JournalRoom.Plenty; // A single failure, perhaps: half a slot is reserve enough until it is tried again.
            }

            return _slots.Ahead >= 2 || (_slots.Ahead == 1 && left >= 3) ? JournalRoom.Plenty : _slots.Ahead > 0 || left >= 2 ? JournalRoom.Scarce : JournalRoom.Spent;
        }
    }

    /// <summary>Told when a slot's file is gone for good.</summary>
    public Action<uint>? SlotGone { get; set; }

    /// <summary>How many full slots there are that something may still need.</summary>
    public int FullSlots => _slots.Used.Count;

    /// <summary>One of the full slots, oldest first.</summary>
    public SlotInfo FullSlot(int index) => InfoOf(_slots.Used[index]);

    public JournalStatistics Statistics => new(_storage.Name, WrittenBlock, DurableBlock, _syncs, _bytesWritten, _slots.Count, (long)_slots.Count * _options.SlotBytes, _snapshots.Taken, _snapshots.Bytes, _snapshots.LastPauseMilliseconds, _snapshots.LongestPauseMilliseconds, _snapshots.OlderBlock, _snapshots.NewestBlock);

    /// <summary>Recovers what the directory holds and opens it for a new life. Never throws for what the disk holds.</summary>
    public static JournalOpening Open(JournalOptions options, IStorage storage, IReplay replay, IDisposable? directoryLock = null)
    {
        long start = Clock.MonotonicNanoseconds();
        Recovery recovery = new(options, storage, replay);
        JournalOpening opening = Open(options, storage, recovery, directoryLock);
        recovery.Report.Milliseconds = (Clock.MonotonicNanoseconds() - start) / 1e6;
        return opening;
    }

    private static JournalOpening Open(JournalOptions options, IStorage storage, Recovery recovery, IDisposable? directoryLock)
    {
        if (!recovery.TryBegin(out bool isFirstStart) || !recovery.TryReplay() || !recovery.TryProveTail())
        {
            return new JournalOpening(null, recovery.Report, recovery.Problem);
        }

        ulong epoch = recovery.Epoch + 1;
        recovery.Report.Epoch = epoch;
        Slots slots = new(storage, options, recovery.Uuid, options.NewGuid(), epoch) { HighestId = recovery.Catalogue.HighestSlot, HighestSegment = recovery.Catalogue.HighestSegment };
        Result first = slots.OpenFirst(recovery.Block, recovery.Hash, 0);

        // FORMAT may have been renamed by a first start that ended before its name was synced: until it lasts, nothing is confirmed beside it.
        first = !first.Ok ? first : isFirstStart ? WriteFormat(options, storage, recovery.Uuid) : storage.SyncDirectory(options.Directory);
        if (!first.Ok)
        {
            recovery.Catalogue.Dispose();
            JournalProblem problem = new("cannot-start", 0, 0, 0, $"{first.Fault}. Nothing of the data was changed; make room or see to the device, then start again.");
            return new JournalOpening(null, recovery.Report, problem);
        }

        foreach (FoundSegment segment in recovery.Catalogue.All)
        {
            segment.Kept = true;
            // What was not walked lies before the snapshot: its last block is not above the snapshot's.
            ulong last = segment.LastBlock != 0 ? segment.LastBlock : segment.Verdict == SegmentVerdict.Good ? Math.Min(recovery.StartBlock, recovery.Block) : 0;
            slots.AdoptUsed(new Slot(segment.Slot, segment.File) { SegmentNumber = segment.Header.SegmentNumber, FirstBlock = segment.FirstBlock, LastBlock = last, Offset = segment.EndOffset, IsOlderLife = true });
        }

        Snapshots snapshots = new(storage, options, recovery.Uuid);
        recovery.GoodSnapshots.ForEach(snapshots.Adopt);
        snapshots.RemoveLeftovers(recovery.SpareSnapshots);
        snapshots.Reserve(0);
        Journal journal = new(options, storage, directoryLock, recovery.Uuid, epoch, slots, snapshots, recovery.Block, recovery.Hash);
        return new JournalOpening(journal, recovery.Report, null);
    }

    /// <summary>Room for records of <paramref name="bytes"/> bytes in all, in the open block; opens one if needed, sealing a full one.</summary>
    /// <param name="bytes">A multiple of 8.</param>
    /// <param name="room">To be filled in place; what is not committed is taken back by the next reservation.</param>
    /// <param name="place">Where the first byte will lie.</param>
    /// <returns>False: no block can be opened now (no slot ready, or all buffers under way). Try again after <see cref="Poll"/>.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryReserve(int bytes, out Span<byte> room, out Place place) => TryReserve(bytes, bytes, out room, out place);

    /// <summary>As <see cref="TryReserve(int, out Span{byte}, out Place)"/>, but gives up to <paramref name="most"/> bytes where the open block has them: for a run of records.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryReserve(int bytes, int most, out Span<byte> room, out Place place)
    {
        if (_fill + bytes > _capacity && !TryOpen(bytes))
        {
            room = default;
            place = default;
            return false;
        }

        _reserved = Math.Min(most, _capacity - _fill);
        room = new Span<byte>(_at + _fill, _reserved);
        place = new Place(_slots.Current.Id, (uint)(_slots.Current.Offset + _fill));
        return true;
    }

    /// <summary>Keeps the first <paramref name="bytes"/> bytes of what was reserved: whole records, each padded to 8 with zeroes. They never change again.</summary>
    /// <param name="bytes">A multiple of 8.</param>
    /// <param name="records">How many records these are.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Commit(int bytes, uint records)
    {
        Invariant.Holds((uint)bytes <= (uint)_reserved && (bytes & 7) == 0);
        _reserved -= bytes;
        _fill += bytes;
        _records += records;
        if (_fill - _hashed >= Format.BlockAlignment)
        {
            HashOn(); // While it is in the first-level cache.
        }
    }

    /// <summary>Ends the open block and hands it to the storage. False: there was nothing in it.</summary>
    public bool Seal()
    {
        if (OpenBytes == 0)
        {
            return false;
        }

        Hand(isClosing: false);
        return true;
    }

    /// <summary>Writes an empty block that says what is durable, and has it synced; asks for no other (DESIGN-REVIEW R37). False: no block can be opened now.</summary>
    public bool SealClosing()
    {
        Invariant.Holds(OpenBytes == 0);
        if (_open is null && !TryOpen(0))
        {
            return false;
        }

        Hand(isClosing: true);
        RequestSync();
        return true;
    }

    /// <summary>Wants everything that is sealed now to become durable.</summary>
    public void RequestSync() => _syncTarget = OpenBlock - 1;

    /// <summary>Goes on to the next slot before the current one is full: nothing in it is needed, and nothing of it can be freed while it is the current one. False: none is ready.</summary>
    public bool TryLeaveSlot()
    {
        Invariant.Holds(OpenBytes == 0);
        return _slots.HasNext && _slots.Current.FirstBlock != 0 && _slots.TryTurn();
    }

    /// <summary>Takes completions and starts what is due. True: <see cref="WrittenBlock"/> or <see cref="DurableBlock"/> moved.</summary>
    public bool Poll()
    {
        (ulong written, ulong durable) = (WrittenBlock, DurableBlock);
        while (_storage.IsBusy)
        {
            int count = _storage.Poll(_completions);
            for (int i = 0; i < count; i++)
            {
                Complete(_completions[i]);
            }

            if (count < _completions.Length)
            {
                break;
            }
        }

        if (Failure is null)
        {
            StartDue();
        }

        return WrittenBlock != written || DurableBlock != durable;
    }

    /// <summary>Keeps room on the disk for the next snapshots, without which nothing is reclaimed. Cheap; for each upkeep.</summary>
    /// <param name="stateBytes">Size of the state, in bytes.</param>
    public void ReserveSnapshots(long stateBytes)
    {
        long now = _options.WallMicros();
        if (_snapshots.IsRunning || (_snapshots.ReserveFault is not null && now >= _reserveTriedMicros && now - _reserveTriedMicros < _options.RetryMicros))
        {
            return;
        }

        _reserveTriedMicros = now;
        _snapshots.Reserve(stateBytes);
    }

    /// <summary>Is a snapshot due, by how much was written since the last (DESIGN-REVIEW R30)?</summary>
    /// <param name="stateBytes">Size of the state, in bytes.</param>
    public bool IsSnapshotDue(long stateBytes) =>
        !_snapshots.IsRunning && Failure is null && (_bytesSinceSnapshot >= Math.Max(_options.SlotBytes, stateBytes / 4) || (WantsRoom && _bytesSinceSnapshot > 0));

    /// <summary>Takes a snapshot of the state as it is now, at a block border. The pages are written at once, which is the pause; the rest goes beside the turn.</summary>
    public Result TakeSnapshot(Action<IBufferWriter<byte>> save)
    {
        Invariant.Holds(OpenBytes == 0 && !_snapshots.IsRunning);
        _bytesSinceSnapshot = 0;
        Result begun = _snapshots.Begin(OpenBlock - 1, _chainHash, Epoch, save);
        RequestSync(); // The manifest waits until the described block is durable.
        return begun;
    }

    /// <summary>Frees slots by the owner's answers. Cheap; once a turn or less.</summary>
    public void Reclaim(ISlotUse use) => _slots.Reclaim(use, _snapshots.OlderBlock, DurableBlock);

    /// <summary>A slot that is in use; null when there is none of this id.</summary>
    public SlotInfo? InfoOf(uint slot) => _slots.Find(slot) is Slot found ? InfoOf(found) : null;

    /// <summary>A read-only descriptor of a slot, for passing on; null when there is none.</summary>
    public Result<FileHandle>? OpenReadOnly(uint slot) => _slots.Find(slot)?.File.OpenReadOnly();

    /// <summary>Reads bytes of a slot: through the page cache, or from memory where their block is open or on its way, so that what was appended can be read at once.</summary>
    /// <param name="slot">Its id.</param>
    /// <param name="offset">Bytes from the slot's start; what is read lies in one block.</param>
    /// <param name="into">As many as are wanted.</param>
    public Result<int> Read(uint slot, long offset, Span<byte> into)
    {
        if (_open is not null && slot == _slots.Current.Id && offset >= _slots.Current.Offset && offset + into.Length <= _slots.Current.Offset + _fill)
        {
            new ReadOnlySpan<byte>(_at + (offset - _slots.Current.Offset), into.Length).CopyTo(into);
            return into.Length;
        }

        foreach (InFlight block in _inFlight)
        {
            if (slot == block.Slot && offset >= block.Offset && offset + into.Length <= block.Offset + block.Length)
            {
                new ReadOnlySpan<byte>(block.Buffer.Address + (offset - block.Offset), into.Length).CopyTo(into);
                return into.Length;
            }
        }

        return _slots.Find(slot) is Slot found ? found.File.ReadAt(into, offset) : new Fault("pread", Errno.ENOENT, $"slot {slot}");
    }

    /// <summary>Begins to read a full slot block by block, each verified.</summary>
    public SegmentScan? StartScan(uint slot) => _slots.Used.FirstOrDefault(used => used.Id == slot) is Slot found ? new SegmentScan(found, Uuid) : null;

    /// <summary>Waits until all that is sealed is written and durable, and a running snapshot is done. For a stop.</summary>
    public void Drain()
    {
        RequestSync();
        while (Failure is null && (DurableBlock < OpenBlock - 1 || _snapshots.IsRunning))
        {
            Poll();
            if (_storage.IsBusy && (DurableBlock < OpenBlock - 1 || _snapshots.IsRunning))
            {
                _storage.WaitForCompletion();
            }
        }
    }

    public void Dispose()
    {
        while (_storage.IsBusy)
        {
            _storage.WaitForCompletion();
            int count = _storage.Poll(_completions);
            for (int i = 0; i < count; i++)
            {
                Complete(_completions[i]);
            }
        }

        _open?.Dispose();
        foreach (NativeBuffer buffer in _pool.Concat(_inFlight.Select(block => block.Buffer)))
        {
            buffer.Dispose();
        }

        _slots.Dispose();
        _storage.Dispose();
        _lock?.Dispose();
    }

    /// <summary>Writes FORMAT: the last step of a first start.</summary>
    internal static Result WriteFormat(JournalOptions options, IStorage storage, Guid uuid)
    {
        FormatFile format = new() { Magic = Format.FormatMagic, Version = Format.Version, Uuid = uuid };
        format.SetHash();
        string temporary = options.FormatPath + ".tmp";
        Result<IStoredFile> file = storage.Open(temporary, create: true);
        if (!file.Ok)
        {
            return file.Fault;
        }

        using IStoredFile handle = file.Value;
        Result result = handle.WriteAt(MemoryMarshal.AsBytes(new ReadOnlySpan<FormatFile>(in format)), 0);
        result = result.Ok ? handle.Sync() : result;

        // From the inside out: each name lasts before the one that says that it is there.
        foreach (string directory in (ReadOnlySpan<string>)[options.NamespaceDirectory, Path.Combine(options.Directory, "namespaces"), options.Directory])
        {
            result = result.Ok ? storage.SyncDirectory(directory) : result;
        }

        result = result.Ok ? SyncParent(options, storage) : result;
        result = result.Ok ? storage.Rename(temporary, options.FormatPath) : result;
        return result.Ok ? storage.SyncDirectory(options.Directory) : result;
    }

    /// <summary>The data directory's own name, which a start may just have made, must last too. One that we may not read was made by somebody else.</summary>
    private static Result SyncParent(JournalOptions options, IStorage storage)
    {
        string? parent = Path.GetDirectoryName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(options.Directory)));
        Result synced = parent is null ? Result.Success : storage.SyncDirectory(parent);
        return synced.Ok || synced.Fault.Errno == Errno.EACCES ? Result.Success : synced;
    }

    private bool TryOpen(int bytes)
    {
        if (Failure is not null)
        {
            return false;
        }

        if (OpenBytes > 0)
        {
            Hand(isClosing: false);
        }

        Invariant.Holds(bytes <= _options.MaxRecordBytes + Format.BlockAlignment);
        int wanted = Math.Max(_options.BlockBytes, Format.AlignBlock(BlockHeader.SizeBytes + bytes));
        Invariant.Holds(Format.SegmentHeaderBytes + wanted <= _options.SlotBytes);
        bool fits = _slots.Current.Offset + wanted <= _options.SlotBytes;
        bool isLarge = wanted > _options.BlockBytes;
        if (_open is not null)
        {
            // An empty open block: only its size may be wrong.
            if (wanted <= _capacity)
            {
                return true;
            }

            Return(_open);
            _open = null;
            _capacity = 0;
        }

        if ((!fits && !_slots.TryTurn()) || (!isLarge && _pool.Count == 0))
        {
            return false;
        }

        _open = isLarge ? new NativeBuffer(wanted) : _pool.Pop();
        _at = _open.Address;
        _capacity = wanted;
        _fill = _hashed = BlockHeader.SizeBytes;
        _reserved = 0;
        _records = 0;
        _hash.Reset();
        return true;
    }

    private void HashOn()
    {
        _hash.Append(new ReadOnlySpan<byte>(_at + _hashed, _fill - _hashed));
        _hashed = _fill;
    }

    private void Hand(bool isClosing)
    {
        HashOn();
        Slot slot = _slots.Current;
        BlockHeader header = new() { Magic = Format.BlockMagic, PayloadBytes = (uint)(_fill - BlockHeader.SizeBytes), BlockNumber = OpenBlock, Epoch = Epoch, SealedMicros = _options.WallMicros(), DurableBlock = DurableBlock, ChainHash = _chainHash, RecordCount = _records };
        header.Hash = header.Finish(_hash);
        header.SetCheck();
        MemoryMarshal.Write(new Span<byte>(_at, BlockHeader.SizeBytes), header);
        int length = Format.AlignBlock(_fill);
        new Span<byte>(_at + _fill, length - _fill).Clear();
        Invariant.Holds(slot.Offset % Format.BlockAlignment == 0 && slot.Offset + length <= _options.SlotBytes);

        NativeBuffer buffer = _open!;
        InFlight flight = _landed.TryPop(out InFlight? landed) ? landed : new InFlight();
        (flight.Block, flight.Buffer, flight.Written) = (OpenBlock, buffer, false);
        (flight.Slot, flight.Offset, flight.Length) = (slot.Id, slot.Offset, length);
        _inFlight.Enqueue(flight);
        slot.FirstBlock = slot.FirstBlock == 0 ? OpenBlock : slot.FirstBlock;
        slot.LastBlock = OpenBlock;
        int offset = slot.Offset;
        slot.Offset += length;
        _chainHash = header.Hash;
        _bytesSinceSnapshot += length;
        _bytesWritten += length;
        _lastIsClosing = isClosing;
        _storage.Write(slot.File, buffer.Address, length, offset, FirstBlockToken + OpenBlock);
        OpenBlock++;
        _open = null;
        _capacity = _fill = 0;
    }

    private void Complete(in StorageCompletion completion)
    {
        switch (completion.Token)
        {
            case SnapshotToken:
                _snapshots.Ended(completion.Fault);
                break;
            case PrepareToken:
                _slots.Prepared(completion.Fault);
                break;
            case SyncToken:
                _syncRuns = false;
                if (completion.Fault is null && Failure is null)
                {
                    _syncs++;
                    DurableBlock = _syncCovers;
                }

                Fail(completion.Fault, DurableBlock + 1);
                break;
            default:
                Wrote(completion.Token - FirstBlockToken, completion.Fault);
                break;
        }
    }

    private void Wrote(ulong block, Fault? fault)
    {
        Fail(fault, block);
        foreach (InFlight waiting in _inFlight)
        {
            if (waiting.Block == block)
            {
                waiting.Written = true;
                break;
            }
        }

        while (_inFlight.TryPeek(out InFlight? first) && first.Written)
        {
            _inFlight.Dequeue();
            Return(first.Buffer);
            _landed.Push(first);
            WrittenBlock = Failure is null ? first.Block : WrittenBlock;
        }
    }

    private void Fail(Fault? fault, ulong block)
    {
        if (fault is Fault what && Failure is null)
        {
            Failure = new JournalProblem("storage-failed", _slots.Current.Id, 0, block, $"{what}. The namespace stopped confirming after block {DurableBlock}. Check the device (dmesg), then start the broker again.");
        }
    }

    private void Return(NativeBuffer buffer)
    {
        if (buffer.Length == _options.BlockBytes)
        {
            _pool.Push(buffer);
        }
        else
        {
            buffer.Dispose();
        }
    }

    private void StartDue()
    {
        if (!_syncRuns && DurableBlock < _syncTarget && DurableBlock < WrittenBlock)
        {
            Slot slot = SlotOf(DurableBlock + 1);
            _syncCovers = Math.Min(WrittenBlock, slot.LastBlock);
            _syncRuns = true;
            _storage.Sync(slot.File, SyncToken);
        }

        _snapshots.Advance(DurableBlock, SnapshotToken);
        _slots.TryPrepare(PrepareToken, _options.WallMicros());
    }

    private Slot SlotOf(ulong block)
    {
        if (_slots.Current.FirstBlock != 0 && _slots.Current.FirstBlock <= block)
        {
            return _slots.Current;
        }

        for (int i = _slots.Used.Count - 1; i >= 0; i--)
        {
            Slot slot = _slots.Used[i];
            if (!slot.IsOlderLife && slot.FirstBlock != 0 && slot.FirstBlock <= block)
            {
                Invariant.Holds(block <= slot.LastBlock);
                return slot;
            }
        }

        throw new InvariantViolation($"No slot holds block {block}.");
    }

    private SlotInfo InfoOf(Slot slot) => new(slot.Id, slot.SegmentNumber, slot.FirstBlock, slot.LastBlock, slot.Offset, slot == _slots.Current, slot.IsOlderLife);
}
