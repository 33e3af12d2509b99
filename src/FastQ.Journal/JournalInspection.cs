using System.Buffers;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Journal;

// Looking at a directory that no broker serves, and, by consent, repairing it.
//
//   start, tried in memory -> what a broker would say          every block of every slot, hashed -> what is rotten, needed or not
//   salvage: the newest good snapshot, then every block that can be read, damaged ones record by record
//   repair: a new life whose first segment names the gap, and a snapshot of what was salvaged. No block is changed.

/// <summary>A place that is not as it was written.</summary>
/// <param name="Kind">As in <see cref="RecoveryTable"/>, or what is damaged.</param>
/// <param name="Slot">0: not in a slot.</param>
/// <param name="Position">Byte offset of the block, or in the file.</param>
/// <param name="Bytes">How far it reaches; 0: unknown.</param>
/// <param name="Block">0: no block is meant.</param>
/// <param name="Text">In words.</param>
public sealed record JournalDamage(string Kind, uint Slot, long Position, long Bytes, ulong Block, string Text);

/// <summary>A slot as found.</summary>
/// <param name="Verdict">Of its header.</param>
/// <param name="Header">Means something only when the verdict is good.</param>
/// <param name="HoldsLeftovers">Made ready for its next use; its blocks are those of the use before.</param>
public readonly record struct InspectedSlot(uint Slot, SegmentVerdict Verdict, SegmentHeader Header, bool HoldsLeftovers);

/// <summary>A block as found.</summary>
/// <param name="IsWhole">Its hash is right.</param>
/// <param name="IsVoid">Written by a life after the point that a later life accepted.</param>
/// <param name="PayloadBytes">As much of it as the slot has.</param>
public readonly record struct InspectedBlock(uint Slot, int Position, BlockHeader Header, bool IsWhole, bool IsVoid, int PayloadBytes);

/// <summary>What a record's own check says.</summary>
public enum RecordVerdict
{
    /// <summary>It has no check of its own.</summary>
    Unchecked,

    Sound,

    Unsound,

    /// <summary>These bytes are no record.</summary>
    NoRecord,
}

/// <summary>Judges a record of <c>LengthBytes</c> bytes.</summary>
public delegate RecordVerdict RecordJudge(ReadOnlySpan<byte> record);

/// <summary>Takes a record: where it lies and what its check says.</summary>
public delegate void RecordVisitor(Place place, ReadOnlySpan<byte> record, RecordVerdict verdict);

/// <summary>What a salvage came to.</summary>
/// <param name="LastBlock">The highest block that anything speaks of: the new life goes on after it.</param>
/// <param name="LastHash">Its hash, as far as it is known.</param>
/// <param name="GapBlock">The first block that is not whole; 0: all are.</param>
/// <param name="BlocksLost">Blocks of which nothing could be read.</param>
/// <param name="BlocksDamaged">Blocks of which records were salvaged one by one: others may have been in them.</param>
public readonly record struct Salvage(ulong LastBlock, ulong LastHash, ulong GapBlock, long BlocksLost, long BlocksDamaged);

/// <summary>One look at a directory. Reads only, until <see cref="Repair"/>. One thread.</summary>
public sealed class JournalInspection : IDisposable
{
    private readonly JournalOptions _options;
    private readonly IStorage _storage;
    private readonly List<JournalDamage> _damage = [];
    private readonly List<InspectedBlock> _blocks = [];
    private readonly List<string> _badSnapshots = [];
    private readonly Dictionary<uint, FoundSegment> _bySlot = [];
    private SegmentCatalogue? _catalogue;
    private Guid _uuid;
    private ulong _snapshotBlock;
    private string? _snapshotPath; // Of the newest good one: what a file is called need not be what it is.

    private JournalInspection(JournalOptions options, IStorage storage)
    {
        (_options, _storage) = (options, storage);
    }

    /// <summary>What a start would refuse; null: it would serve.</summary>
    public JournalProblem? Refusal { get; private set; }

    /// <summary>What a start would report.</summary>
    public RecoveryReport Report { get; private set; } = new();

    /// <summary>Everything that is not as it was written and not given up already.</summary>
    public IReadOnlyList<JournalDamage> Damage => _damage;

    public IReadOnlyList<InspectedSlot> Slots => [.. _bySlot.Values.OrderBy(found => found.Slot).Select(found => new InspectedSlot(found.Slot, found.Verdict, found.Header, found.HoldsLeftovers))];

    /// <summary>Every block that has a good header, slot by slot.</summary>
    public IReadOnlyList<InspectedBlock> Blocks => _blocks;

    /// <summary>Files whose header or pages are bad.</summary>
    public IReadOnlyList<string> BadSnapshots => _badSnapshots;

    /// <summary>Tries a start in memory, then reads everything. Null: there is nothing that could be looked at.</summary>
    /// <param name="replay">Holds afterwards what a start would serve, as far as it got.</param>
    public static JournalInspection? Open(JournalOptions options, IStorage storage, IReplay replay, out string? refusal)
    {
        JournalInspection inspection = new(options, storage);
        Result<IStoredFile> format = storage.Open(options.FormatPath, create: false);
        Result<IReadOnlyList<string>> slots = storage.List(options.SlotDirectory);
        if (!format.Ok && (!slots.Ok || slots.Value.Count == 0))
        {
            refusal = $"{options.Directory} holds no data of FastQ ({format.Fault}).";
            return null;
        }

        refusal = null;
        inspection.TryStart(format, replay);
        inspection.LookAtSlots();
        inspection.LookAtSnapshots();
        inspection.Judge();
        return inspection;
    }

    /// <summary>Reads bytes of a slot.</summary>
    public Result<int> Read(uint slot, long offset, Span<byte> into) => _bySlot.TryGetValue(slot, out FoundSegment? found) ? found.File.ReadAt(into, offset) : new Fault("pread", Errno.ENOENT, $"slot {slot}");

    /// <summary>Goes through the records of a block; where a record makes no sense, on to the next place that is surely one.</summary>
    public void Walk(in InspectedBlock block, RecordJudge judge, RecordVisitor visit)
    {
        byte[] payload = new byte[block.PayloadBytes];
        _ = Read(block.Slot, block.Position + BlockHeader.SizeBytes, payload); // What cannot be read is zeroes, which are no record.
        int at = 0;
        while (at + RecordPrefix.SizeBytes <= payload.Length)
        {
            int length = LengthAt(payload, at);
            RecordVerdict verdict = length == 0 ? RecordVerdict.NoRecord : judge(payload.AsSpan(at, length));

            // A length is believed when the record's check says so, or when it leads to another record or the end.
            int next = at + Limits.Align(length);
            bool isBelieved = verdict == RecordVerdict.Sound || (verdict != RecordVerdict.NoRecord && (next >= payload.Length || LeadsOn(payload, next, judge)));
            if (!isBelieved)
            {
                at = NextSound(payload, at + 8, judge);
                continue;
            }

            visit(new Place(block.Slot, (uint)(block.Position + BlockHeader.SizeBytes + at)), payload.AsSpan(at, length), verdict);
            at = next;
        }
    }

    /// <summary>Replays the newest good snapshot and all that can be read after it.</summary>
    /// <param name="replay">Must take what contradicts: see its leniency.</param>
    public Salvage SalvageInto(IReplay replay, RecordJudge judge)
    {
        LoadNewestSnapshot(replay);
        List<InspectedBlock> after = [.. _blocks.Where(block => !block.IsVoid && block.Header.BlockNumber > _snapshotBlock).OrderBy(block => block.Header.BlockNumber).ThenByDescending(block => block.IsWhole)];
        ulong last = _snapshotBlock;
        long lost = 0, damaged = 0;
        foreach (InspectedBlock block in after)
        {
            ulong number = block.Header.BlockNumber;
            if (number <= last)
            {
                continue; // A second copy.
            }

            lost += (long)(number - last - 1);
            damaged += block.IsWhole ? 0 : 1;
            last = number;
            Walk(block, judge, (place, record, _) => replay.Apply(number, place, record));
        }

        (ulong highest, ulong hash) = Highest();
        lost += (long)(highest - Math.Max(last, _snapshotBlock));
        ulong gap = _damage.Where(one => one.Block != 0 && one.Slot != 0).Select(one => one.Block).DefaultIfEmpty(lost > 0 ? _snapshotBlock + 1 : 0).Min();
        return new Salvage(highest, hash, gap, lost, damaged);
    }

    /// <summary>Writes a new life's first segment, which names the gap, then a snapshot of what was salvaged. No block is changed; a crash in between leaves what was there, and repair can be run again.</summary>
    public Result Repair(Salvage salvage, Action<IBufferWriter<byte>> save)
    {
        SegmentCatalogue catalogue = _catalogue!;
        ulong epoch = Math.Max(catalogue.HighestEpoch, _blocks.Select(block => block.Header.Epoch).DefaultIfEmpty().Max()) + 1;
        ulong gap = Math.Max(1, salvage.GapBlock == 0 ? salvage.LastBlock : salvage.GapBlock);
        Slots slots = new(_storage, _options, _uuid, _options.NewGuid(), epoch) { HighestId = catalogue.HighestSlot, HighestSegment = catalogue.HighestSegment };
        Result result = slots.OpenFirst(salvage.LastBlock, salvage.LastHash, gap);
        if (!result.Ok)
        {
            return result;
        }

        slots.Dispose();
        Snapshots snapshots = new(_storage, _options, _uuid);
        result = snapshots.Begin(salvage.LastBlock, salvage.LastHash, epoch, save);
        result = result.Ok ? snapshots.FinishNow() : result;
        string made = Snapshots.FileName(salvage.LastBlock);
        foreach (string path in _badSnapshots.Where(path => Path.GetFileName(path) != made))
        {
            result = result.Ok ? _storage.Unlink(path) : result;
        }

        return result.Ok ? Journal.WriteFormat(_options, _storage, _uuid) : result;
    }

    public void Dispose() => _catalogue!.Dispose();

    private static int LengthAt(ReadOnlySpan<byte> payload, int at)
    {
        uint length = payload.Length - at >= RecordPrefix.SizeBytes ? BitConverter.ToUInt32(payload[at..]) : 0;
        return length >= RecordPrefix.SizeBytes && length <= payload.Length - at ? (int)length : 0;
    }

    private static bool LeadsOn(ReadOnlySpan<byte> payload, int at, RecordJudge judge)
    {
        int length = LengthAt(payload, at);
        return length != 0 && judge(payload.Slice(at, length)) != RecordVerdict.NoRecord;
    }

    private static int NextSound(ReadOnlySpan<byte> payload, int at, RecordJudge judge)
    {
        for (; at + RecordPrefix.SizeBytes <= payload.Length; at += 8)
        {
            int length = LengthAt(payload, at);
            if (length != 0 && judge(payload.Slice(at, length)) == RecordVerdict.Sound)
            {
                break;
            }
        }

        return at;
    }

    private void TryStart(Result<IStoredFile> format, IReplay replay)
    {
        if (format.Ok)
        {
            format.Value.Dispose();
        }

        Recovery recovery = new(_options, _storage, replay);

        // Without FORMAT a start would make one: that is not for a look.
        bool began = format.Ok && recovery.TryBegin(out _);
        _ = began && recovery.TryReplay();
        Report = recovery.Report;
        Refusal = format.Ok ? recovery.Problem : new JournalProblem("file-missing", 0, 0, 0, $"{format.Fault}. There is data beside it; a missing file never looks like a first start.");
        _uuid = recovery.Uuid != Guid.Empty ? recovery.Uuid : UuidOfSlots();
        Result<SegmentCatalogue> catalogue = recovery.Catalogue is not null ? recovery.Catalogue : SegmentCatalogue.Load(_storage, _options.SlotDirectory, _uuid);
        _catalogue = catalogue.OrThrow();
        foreach (FoundSegment segment in _catalogue.All)
        {
            _bySlot[segment.Slot] = segment;
        }
    }

    /// <summary>Where FORMAT is gone: the uuid that the slots carry.</summary>
    private Guid UuidOfSlots()
    {
        using SegmentCatalogue any = SegmentCatalogue.Load(_storage, _options.SlotDirectory, Guid.Empty).OrThrow();
        return any.All.Where(segment => segment.Verdict == SegmentVerdict.Foreign).Select(segment => segment.Header.Uuid).FirstOrDefault();
    }

    private void LookAtSlots()
    {
        byte[] bytes = [];
        foreach (FoundSegment segment in _catalogue!.All.OrderBy(segment => segment.Slot))
        {
            if (segment.Verdict is SegmentVerdict.Foreign or SegmentVerdict.Newer)
            {
                continue; // Not ours to read; the start has refused it.
            }

            bytes = bytes.Length >= segment.Length ? bytes : new byte[segment.Length];
            Span<byte> slot = bytes.AsSpan(0, (int)segment.Length);
            ReadWhatCanBeRead(segment, slot);
            LookAtBlocks(segment, slot);
        }
    }

    /// <summary>4 KiB that cannot be read are zeroes, and noted.</summary>
    private void ReadWhatCanBeRead(FoundSegment segment, Span<byte> slot)
    {
        Result<int> whole = segment.File.ReadAt(slot, 0);
        if (whole.Ok && whole.Value == slot.Length)
        {
            return;
        }

        for (int at = 0; at < slot.Length; at += Format.BlockAlignment)
        {
            Span<byte> piece = slot.Slice(at, Math.Min(Format.BlockAlignment, slot.Length - at));
            Result<int> read = segment.File.ReadAt(piece, at);
            if (!read.Ok || read.Value < piece.Length)
            {
                piece.Clear();
                _damage.Add(new JournalDamage("unreadable", segment.Slot, at, piece.Length, 0, read.Ok ? "The file is shorter than it was." : read.Fault.ToString()));
            }
        }
    }

    private void LookAtBlocks(FoundSegment segment, ReadOnlySpan<byte> slot)
    {
        bool isBad = segment.Verdict != SegmentVerdict.Good;
        ulong last = 0;
        for (int at = Format.SegmentHeaderBytes; at + BlockHeader.SizeBytes <= slot.Length;)
        {
            bool isBlock = BlockHeader.TryRead(slot[at..], out BlockHeader header) && (isBad || header.Epoch == segment.Header.Epoch) && header.BlockNumber > last;
            if (!isBlock)
            {
                at += Format.BlockAlignment;
                continue;
            }

            int bytes = (int)Math.Min(header.PayloadBytes, (uint)(slot.Length - at - BlockHeader.SizeBytes));
            bool isWhole = bytes == header.PayloadBytes && header.HashWith(slot.Slice(at + BlockHeader.SizeBytes, bytes), Format.Seed(_uuid, header.Epoch)) == header.Hash;
            bool isVoid = segment.HoldsLeftovers || header.BlockNumber > _catalogue!.LimitOf(header.Epoch);
            _blocks.Add(new InspectedBlock(segment.Slot, at, header, isWhole, isVoid, bytes));
            last = header.BlockNumber;
            at += Format.AlignBlock(BlockHeader.SizeBytes + bytes);
        }
    }

    private void LookAtSnapshots()
    {
        foreach (string name in _storage.List(_options.SnapshotDirectory).OrThrow().Where(name => name.EndsWith(".snap", StringComparison.Ordinal)))
        {
            string path = Path.Combine(_options.SnapshotDirectory, name);
            using IStoredFile file = _storage.Open(path, create: false).OrThrow();
            bool isGood = TryReadHeader(file, out SnapshotHeader header);
            SnapshotStream stream = new(file, header);
            byte[] page = new byte[Format.SnapshotPageBytes];
            while (isGood && stream.Read(page) > 0)
            {
            }

            if (isGood && stream.IsWhole)
            {
                (_snapshotBlock, _snapshotPath) = header.Block >= _snapshotBlock ? (header.Block, path) : (_snapshotBlock, _snapshotPath);
                continue;
            }

            _badSnapshots.Add(path);
            _damage.Add(new JournalDamage("snapshot-damaged", 0, 0, 0, ulong.TryParse(Path.GetFileNameWithoutExtension(name), out ulong block) ? block : 0, $"{path} is damaged; a start falls back to the one before it."));
        }
    }

    private bool TryReadHeader(IStoredFile file, out SnapshotHeader header)
    {
        byte[] head = new byte[SnapshotHeader.SizeBytes];
        Result<int> read = file.ReadAt(head, 0);
        header = read.Ok && read.Value == head.Length ? System.Runtime.InteropServices.MemoryMarshal.Read<SnapshotHeader>(head) : default;
        return header.IsValid && header.Version <= Format.Version && header.Uuid == _uuid;
    }

    private void LoadNewestSnapshot(IReplay replay)
    {
        replay.Reset();
        if (_snapshotPath is null)
        {
            return;
        }

        using IStoredFile file = _storage.Open(_snapshotPath, create: false).OrThrow();
        _ = TryReadHeader(file, out SnapshotHeader header);
        if (!replay.TryLoad(new SnapshotStream(file, header)))
        {
            replay.Reset();
        }
    }

    /// <summary>The highest block that anything speaks of, and its hash where that is known.</summary>
    private (ulong Block, ulong Hash) Highest()
    {
        (ulong block, ulong hash) = (_snapshotBlock, 0);
        foreach (InspectedBlock found in _blocks.Where(found => !found.IsVoid))
        {
            ulong durable = found.Header.DurableBlock;
            (block, hash) = durable > block ? (durable, 0) : (block, hash);
            (block, hash) = found.Header.BlockNumber >= block ? (found.Header.BlockNumber, found.Header.Hash) : (block, hash);
        }

        foreach (FoundSegment segment in _catalogue!.Ordered)
        {
            (block, hash) = segment.Header.ParentBlock >= block ? (segment.Header.ParentBlock, segment.Header.ParentHash) : (block, hash);
        }

        return (block, hash);
    }

    /// <summary>Which of what is not whole matters: the unsynced tail does not, nor what a repair gave up.</summary>
    private void Judge()
    {
        foreach (InspectedBlock block in _blocks.Where(block => !block.IsWhole && Counts(block)))
        {
            _damage.Add(new JournalDamage("damaged-block", block.Slot, block.Position, BlockHeader.SizeBytes + block.PayloadBytes, block.Header.BlockNumber, "The block's hash does not match its bytes."));
        }

        foreach (IGrouping<uint, InspectedBlock> slot in _blocks.Where(Counts).GroupBy(block => block.Slot).ToArray())
        {
            if (_bySlot[slot.Key].Verdict == SegmentVerdict.Bad)
            {
                _damage.Add(new JournalDamage("segment-header-rot", slot.Key, 0, Format.SegmentHeaderBytes, slot.First().Header.BlockNumber, "The segment's header is damaged; blocks lie behind it."));
            }

            (int end, ulong next) = (Format.SegmentHeaderBytes, 0);
            foreach (InspectedBlock block in slot)
            {
                if (block.Position > end)
                {
                    NoteHidden(slot.Key, end, block.Position - end, next == 0 ? block.Header.BlockNumber - 1 : next);
                }

                end = block.Position + Format.AlignBlock(BlockHeader.SizeBytes + block.PayloadBytes);
                next = block.Header.BlockNumber + 1;
            }
        }

        if (Refusal is JournalProblem problem && !_damage.Any(one => one.Block == problem.Block && (one.Slot != 0) == (problem.Slot != 0)))
        {
            _damage.Add(new JournalDamage(problem.Kind, problem.Slot, problem.Position, 0, problem.Block, problem.Text));
        }

        _damage.Sort(static (a, b) => (a.Slot, a.Position).CompareTo((b.Slot, b.Position)));
    }

    /// <summary>Between two blocks stands one whose header cannot be read; its records may still be found one by one.</summary>
    private void NoteHidden(uint slot, int position, int bytes, ulong number)
    {
        _damage.Add(new JournalDamage("damaged-block", slot, position, bytes, number, "The block's header does not match its check."));
        _blocks.Add(new InspectedBlock(slot, position, new BlockHeader { BlockNumber = number }, IsWhole: false, IsVoid: false, bytes - BlockHeader.SizeBytes));
    }

    private bool Counts(InspectedBlock block)
    {
        ulong number = block.Header.BlockNumber;
        bool isTail = Refusal is null && number > Report.LastBlock;
        bool isGivenUp = _catalogue!.Ordered.Any(segment => segment.Header.GapBlock != 0 && segment.Header.GapBlock <= number && number <= segment.Header.ParentBlock);
        return !block.IsVoid && !isTail && !isGivenUp;
    }
}
