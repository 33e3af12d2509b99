using System.Runtime.InteropServices;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Journal;

// A start, step by step (DESIGN section 6):
//
//   FORMAT -> slots' headers -> newest good snapshot -> replay block by block -> the first place that fails, judged by RecoveryTable
//   -> the tail that was not known durable is proven on the disk -> a new life in a new segment
//
// Nothing is deleted and nothing is changed before the verdict is Cut. What it needs is read; what it finds is said.

/// <summary>One recovery. Used once.</summary>
internal sealed class Recovery(JournalOptions options, IStorage storage, IReplay replay)
{
    private readonly RecoveryReport _report = new();
    private JournalProblem? _problem;

    public RecoveryReport Report => _report;

    public JournalProblem? Problem => _problem;

    public Guid Uuid { get; private set; }

    public SegmentCatalogue Catalogue { get; private set; } = null!;

    /// <summary>Last accepted block and its hash.</summary>
    public ulong Block { get; private set; }

    public ulong Hash { get; private set; }

    public ulong Epoch { get; private set; }

    public List<SnapshotInfo> GoodSnapshots { get; } = [];

    /// <summary>Files of snapshots older than those two: a crash came between the third and the removal of the first.</summary>
    public List<string> SpareSnapshots { get; } = [];

    public ulong StartBlock => _report.SnapshotBlock;

    /// <summary>Makes the directories of a first start; reads FORMAT otherwise. False: refused.</summary>
    public bool TryBegin(out bool isFirstStart)
    {
        isFirstStart = false;
        Result<IStoredFile> file = storage.Open(options.FormatPath, create: false);
        if (!file.Ok && file.Fault.Errno != Errno.ENOENT)
        {
            return Refuse("unreadable", $"{file.Fault}. Nothing was changed; see to the file, then start again.");
        }

        if (!file.Ok)
        {
            isFirstStart = true;
            return TryFirstStart();
        }

        using IStoredFile format = file.Value;
        byte[] bytes = new byte[FormatFile.SizeBytes];
        Result<int> read = format.ReadAt(bytes, 0);
        if (!read.Ok)
        {
            return Refuse("unreadable", $"{read.Fault}. Nothing was changed.");
        }

        FormatFile header = MemoryMarshal.Read<FormatFile>(bytes);
        if (read.Value < bytes.Length || !header.IsValid)
        {
            return Refuse("corruption", $"{options.FormatPath} is damaged. Restore it from a copy of this directory; the segments hold the same uuid.");
        }

        if (header.Version > Format.Version)
        {
            return Refuse("not-ours", $"{options.FormatPath} says format {header.Version}; this version of FastQ reads up to {Format.Version}. Use a newer fastq.");
        }

        Uuid = header.Uuid;
        return TryCatalogue();
    }

    /// <summary>Loads the newest good snapshot and replays what came after. False: refused.</summary>
    public bool TryReplay()
    {
        if (!TryLoadSnapshot(out ulong block, out ulong hash))
        {
            return false;
        }

        // What a repair gave up stands in its snapshot alone: an older one would bring it back.
        if (Catalogue.Ordered.FirstOrDefault(segment => segment.Header.GapBlock != 0 && segment.Header.ParentBlock > block) is FoundSegment repaired)
        {
            return RefuseAt("file-missing", repaired.Slot, 0, repaired.Header.GapBlock, $"A repair began life {repaired.Header.Epoch} with a snapshot of block {repaired.Header.ParentBlock}, which is damaged or not there. Restore the file, or run again: fastq journal repair --accept-loss. Nothing was changed.");
        }

        using ChainWalk walk = new(Catalogue, Uuid, block, hash);
        if (walk.Seek() == BlockVerdict.Unreadable)
        {
            return RefuseAt("unreadable", walk.Failing.Segment.Slot, walk.Failing.Offset, walk.Block + 1, $"{walk.Fault}. A place that cannot be read is not a tail.");
        }

        BlockVerdict verdict;
        ulong durable = block;
        while ((verdict = walk.NextReadTwice()) == BlockVerdict.Valid)
        {
            durable = Math.Max(durable, walk.Header.DurableBlock);
            _tail.Add(new TailBlock(walk.Segment!, walk.BlockOffset, walk.NextOffset - walk.BlockOffset, walk.Block));
            if (!TryApply(walk))
            {
                return false;
            }
        }

        (Block, Hash) = (walk.Block, walk.Hash);
        Epoch = Math.Max(Catalogue.HighestEpoch, _snapshotEpoch);
        _report.LastBlock = Block;
        return TryJudgeEnd(walk, verdict, durable);
    }

    /// <summary>Proves on the disk what was not known durable (DESIGN-REVIEW R23, R24). False: refused.</summary>
    public bool TryProveTail()
    {
        foreach (FoundSegment segment in _tail.Select(block => block.Segment).Distinct())
        {
            _ = segment.File.DataSync(); // An error here is the older life's; what counts is what reads back below.
        }

        HashSet<FoundSegment> rewritten = [];
        foreach (TailBlock block in _tail)
        {
            byte[] cached = new byte[block.Bytes];
            byte[] onDisk = new byte[block.Bytes];
            Result<int> read = block.Segment.File.ReadAt(cached, block.Offset);
            if (!read.Ok || read.Value < BlockHeader.SizeBytes)
            {
                return RefuseAt("unreadable", block.Segment.Slot, block.Offset, block.Number, "It was readable a moment ago.");
            }

            _report.BlocksProven++;
            Result<int> direct = block.Segment.File.ReadDisk(onDisk, block.Offset);
            if (direct.Ok && direct.Value == read.Value && onDisk.AsSpan(0, read.Value).SequenceEqual(cached.AsSpan(0, read.Value)))
            {
                continue; // A good copy on the disk is never overwritten.
            }

            // The same bytes in the same place. Where the disk cannot be read around the cache, all of the tail is written again.
            Result written = block.Segment.File.WriteAt(cached.AsSpan(0, read.Value), block.Offset);
            if (!written.Ok)
            {
                return RefuseAt("unreadable", block.Segment.Slot, block.Offset, block.Number, $"It is in the page cache only and cannot be written: {written.Fault}.");
            }

            _report.BlocksRewritten += direct.Ok ? 1 : 0;
            rewritten.Add(block.Segment);
        }

        foreach (FoundSegment segment in _tail.Select(block => block.Segment).Distinct())
        {
            Result synced = segment.File.DataSync();
            if (!synced.Ok)
            {
                return RefuseAt("unreadable", segment.Slot, 0, Block, $"{synced.Fault}. Check the device, then start again.");
            }
        }

        foreach (TailBlock block in _tail.Where(block => rewritten.Contains(block.Segment)))
        {
            byte[] cached = new byte[block.Bytes];
            byte[] onDisk = new byte[block.Bytes];
            Result<int> read = block.Segment.File.ReadAt(cached, block.Offset);
            Result<int> direct = block.Segment.File.ReadDisk(onDisk, block.Offset);
            if (direct.Ok && !(read.Ok && onDisk.AsSpan(0, direct.Value).SequenceEqual(cached.AsSpan(0, read.Value))))
            {
                return RefuseAt("unreadable", block.Segment.Slot, block.Offset, block.Number, "What was written does not read back from the disk. Check the device.");
            }
        }

        return true;
    }

    private readonly record struct TailBlock(FoundSegment Segment, int Offset, int Bytes, ulong Number);

    private readonly List<TailBlock> _tail = [];
    private ulong _snapshotEpoch;
    private ulong _highestSnapshot;

    private bool TryFirstStart()
    {
        foreach (string directory in (ReadOnlySpan<string>)[options.Directory, Path.Combine(options.Directory, "namespaces"), options.NamespaceDirectory, options.SlotDirectory, options.SnapshotDirectory])
        {
            Result made = storage.MakeDirectory(directory);
            if (!made.Ok)
            {
                return Refuse("cannot-start", $"{made.Fault}. Choose another data directory (--data), or make this one writable.");
            }
        }

        // FORMAT is made last, so slots without it are the start of a first start that did not end, unless there is a block in one.
        Result<SegmentCatalogue> found = SegmentCatalogue.Load(storage, options.SlotDirectory, Guid.Empty);
        Result<IReadOnlyList<string>> snapshots = storage.List(options.SnapshotDirectory);
        if (!found.Ok)
        {
            return Refuse("unreadable", found.Fault.ToString());
        }

        using SegmentCatalogue leftovers = found.Value;
        bool holdsData = !snapshots.Ok || snapshots.Value.Count > 0 || leftovers.All.Any(BeginsWithBlock);
        if (holdsData)
        {
            return Refuse("file-missing", $"{options.FormatPath} is missing, but there is data beside it. Restore the file; nothing was changed.");
        }

        foreach (FoundSegment segment in leftovers.All)
        {
            _ = storage.Unlink(segment.File.Path);
        }

        Uuid = options.NewGuid();
        _report.Verdict = "first-start";
        return TryCatalogue();
    }

    private bool TryCatalogue()
    {
        Result<SegmentCatalogue> catalogue = SegmentCatalogue.Load(storage, options.SlotDirectory, Uuid);
        if (!catalogue.Ok)
        {
            return Refuse("unreadable", $"{catalogue.Fault}. Nothing was changed.");
        }

        Catalogue = catalogue.Value;
        foreach (FoundSegment segment in Catalogue.All)
        {
            switch (segment.Verdict)
            {
                case SegmentVerdict.Foreign:
                    return RefuseAt("not-ours", segment.Slot, 0, 0, $"{segment.File.Path} belongs to another namespace (its uuid differs). Move it away; it was not touched.");
                case SegmentVerdict.Newer:
                    return RefuseAt("not-ours", segment.Slot, 0, 0, $"{segment.File.Path} has format {segment.Header.Version}; this version reads up to {Format.Version}. Use a newer fastq.");
                case SegmentVerdict.Unreadable:
                    return RefuseAt("unreadable", segment.Slot, 0, 0, $"{segment.Fault}. A place that cannot be read is not a tail.");
            }
        }

        return true;
    }

    /// <summary>A slot that was only made ready for its first use does not. What cannot be read may.</summary>
    private static bool BeginsWithBlock(FoundSegment segment)
    {
        byte[] head = new byte[BlockHeader.SizeBytes];
        return !segment.File.ReadAt(head, Format.SegmentHeaderBytes).Ok || BlockHeader.TryRead(head, out _);
    }

    private bool TryLoadSnapshot(out ulong block, out ulong hash)
    {
        (block, hash) = (0, 0);
        Result<List<(SnapshotInfo Info, SnapshotHeader Header, IStoredFile File)>> found = Snapshots.Find(storage, options.SnapshotDirectory, Uuid, out int bad, out SegmentVerdict worst);
        if (!found.Ok)
        {
            return Refuse("unreadable", $"{found.Fault}. Nothing was changed.");
        }

        // A snapshot is published when all up to its block is durable: whatever has become of its bytes, its header and its name vouch for that.
        Result<IReadOnlyList<string>> names = storage.List(options.SnapshotDirectory);
        IEnumerable<ulong> named = names.Ok ? names.Value.Where(name => name.EndsWith(".snap", StringComparison.Ordinal)).Select(name => ulong.TryParse(Path.GetFileNameWithoutExtension(name), out ulong number) ? number : 0) : [];
        _highestSnapshot = found.Value.Select(snapshot => snapshot.Info.Block).Concat(named).DefaultIfEmpty().Max();
        try
        {
            if (worst != SegmentVerdict.Good)
            {
                return Refuse("not-ours", $"A snapshot in {options.SnapshotDirectory} is of {(worst == SegmentVerdict.Newer ? "a newer format" : "another namespace")}. Nothing was changed.");
            }

            bool loaded = false;
            for (int i = found.Value.Count - 1; i >= 0; i--)
            {
                (SnapshotInfo info, SnapshotHeader header, IStoredFile file) = found.Value[i];
                replay.Reset();
                SnapshotStream stream = new(file, header);
                bool good = replay.TryLoad(stream) && stream.IsWhole;
                bad += good ? 0 : 1;
                if (!good)
                {
                    continue;
                }

                GoodSnapshots.Insert(0, info);
                if (!loaded)
                {
                    loaded = true;
                    (block, hash, _snapshotEpoch) = (header.Block, header.BlockHash, header.Epoch);
                }

                break;
            }

            // The one before stays as what reclaim rests on; its pages are read when it is needed.
            GoodSnapshots.InsertRange(0, found.Value.Select(snapshot => snapshot.Info).Where(info => GoodSnapshots.Count > 0 && info.Block < GoodSnapshots[0].Block).TakeLast(1));
            SpareSnapshots.AddRange(found.Value.Select(snapshot => snapshot.Info).Where(info => GoodSnapshots.Count > 1 && info.Block < GoodSnapshots[0].Block).Select(info => info.Path));
            _report.SnapshotBlock = block;
            _report.SnapshotsRejected = bad;
            if (loaded)
            {
                return true;
            }

            replay.Reset();
            if (_report.Verdict == "first-start" || ChainStartsAtOne())
            {
                return true;
            }

            if (bad == 0 && Catalogue.All.FirstOrDefault(segment => segment.Verdict == SegmentVerdict.Bad && BeginsWithBlock(segment)) is FoundSegment rotten)
            {
                return RefuseAt("segment-header-rot", rotten.Slot, 0, 1, $"The header of {rotten.File.Path} is damaged, there is no snapshot, and the other segments do not begin at block 1. Run: fastq journal verify; then restore a copy, or: fastq journal repair --accept-loss.");
            }

            return bad > 0
                ? Refuse("corruption", $"All {bad} snapshots in {options.SnapshotDirectory} are damaged, and the segments before them are gone. Run: fastq journal verify; fastq journal repair --accept-loss keeps what can be read.")
                : Refuse("file-missing", $"{options.SnapshotDirectory} holds no snapshot, but the segments do not begin at block 1. Restore the missing files; nothing was changed.");
        }
        finally
        {
            found.Value.ForEach(snapshot => snapshot.File.Dispose());
        }
    }

    /// <summary>Without a snapshot, the chain must be there from its first block on; or the segment that it would lie in, which a power loss may have left without it: what follows then is judged as any other end.</summary>
    private bool ChainStartsAtOne() =>
        Catalogue.Ordered.Any(segment => (segment.FirstPlace == 1 && !segment.HoldsLeftovers) || (segment.Header.FirstOfLife == 1 && segment.Header.ParentBlock == 0));

    private bool TryApply(ChainWalk walk)
    {
        ReadOnlySpan<byte> payload = walk.Payload;
        int at = 0;
        uint records = 0;
        while (at < payload.Length)
        {
            RecordPrefix prefix = payload.Length - at >= RecordPrefix.SizeBytes ? MemoryMarshal.Read<RecordPrefix>(payload[at..]) : default;
            if (prefix.LengthBytes < RecordPrefix.SizeBytes || prefix.LengthBytes > payload.Length - at)
            {
                return RefuseAt("not-ours", walk.Segment!.Slot, walk.BlockOffset, walk.Block, "The block is whole, but its records have lengths that do not fit. It was written by something else.");
            }

            Place place = new(walk.Segment!.Slot, (uint)(walk.BlockOffset + BlockHeader.SizeBytes + at));
            ReplayVerdict verdict = replay.Apply(walk.Block, place, payload.Slice(at, (int)prefix.LengthBytes));
            if (verdict != ReplayVerdict.Applied)
            {
                string why = verdict == ReplayVerdict.UnknownRecord ? "is of a kind that this version does not know; use a newer fastq" : "contradicts the state before it; the directory is not one life's whole history";
                return RefuseAt("not-ours", walk.Segment.Slot, place.Offset, walk.Block, $"A record of kind {(byte)prefix.Kind} {why}. Nothing was changed.");
            }

            records++;
            at += Limits.Align((int)prefix.LengthBytes);
        }

        if (records != walk.Header.RecordCount)
        {
            return RefuseAt("not-ours", walk.Segment!.Slot, walk.BlockOffset, walk.Block, "The block is whole, but holds another number of records than it says.");
        }

        _report.BlocksReplayed++;
        _report.RecordsReplayed += records;
        _report.BytesReplayed += payload.Length;
        return true;
    }

    private bool TryJudgeEnd(ChainWalk walk, BlockVerdict verdict, ulong durable)
    {
        foreach (FoundSegment segment in Catalogue.Ordered.Where(segment => segment.Header.FirstOfLife == 1 && segment.Header.ParentBlock <= Block))
        {
            durable = Math.Max(durable, segment.Header.ParentBlock);
        }

        _tail.RemoveAll(block => block.Number <= durable);
        ulong from = walk.Segment?.Header.SegmentNumber ?? 0;
        Witnesses witnesses = Witnesses.Gather(Catalogue, walk, from);
        if (_highestSnapshot > Block)
        {
            witnesses = witnesses with { Vouched = true, Who = $"a snapshot of block {_highestSnapshot} was taken" };
        }

        FailingPlace place = verdict == BlockVerdict.Unreadable || witnesses.Unreadable is not null ? FailingPlace.Unreadable
            : witnesses.SuccessorUnderBadHeader ? FailingPlace.BadSegmentHeader
            : FailingPlace.BadOrMissing;
        RecoveryRow row = RecoveryTable.Of(place, witnesses.LaterBlock, witnesses.Vouched);
        _report.Verdict = _report.Verdict == "first-start" ? _report.Verdict : row.Label;
        _report.BlocksCut = row.Action == RecoveryAction.Cut ? witnesses.LaterBlocks : 0;
        if (row.Action == RecoveryAction.Cut)
        {
            return HasWhatLives();
        }

        (uint slot, int offset) = place == FailingPlace.BadSegmentHeader || witnesses.Unreadable is not null ? (witnesses.BadSlot, 0) : (walk.Failing.Segment?.Slot ?? 0, walk.Failing.Offset);
        string detail = place == FailingPlace.Unreadable ? (walk.Fault ?? witnesses.Unreadable!.Value).ToString() : witnesses.Who;
        return RefuseAt(row.Label, slot, offset, Block + 1, $"{row.Meaning} {detail}. Run: fastq journal verify; then restore a copy, or: fastq journal repair --accept-loss.");
    }

    /// <summary>A slot before the snapshot is not walked, but what lives in it must be there. And the last life's first segment: it is there from before that life's first block until two snapshots of that life cover it.</summary>
    private bool HasWhatLives()
    {
        FoundSegment? last = Catalogue.Ordered.MaxBy(segment => segment.Header.Epoch);
        if (last is not null && _snapshotEpoch < last.Header.Epoch && !Catalogue.Ordered.Any(segment => segment.Header.FirstOfLife == 1 && segment.Header.Epoch == last.Header.Epoch))
        {
            return RefuseAt("file-missing", last.Slot, 0, 0, $"The first segment of life {last.Header.Epoch}, to which this slot belongs, is not there. Restore the file; or: fastq journal repair --accept-loss. Nothing was changed.");
        }

        foreach (uint slot in replay.SlotsNeeded)
        {
            if (!Catalogue.All.Any(found => found.Slot == slot) && replay.WouldMiss(slot))
            {
                return RefuseAt("file-missing", slot, 0, 0, $"{Slots.PathOf(options, slot)} is not there, but messages lie in it. Restore the file; or: fastq journal repair --accept-loss. Nothing was changed.");
            }
        }

        return true;
    }

    private bool Refuse(string kind, string text)
    {
        _report.Verdict = kind;
        _problem = new JournalProblem(kind, 0, 0, 0, text);
        return false;
    }

    private bool RefuseAt(string kind, uint slot, long position, ulong block, string text)
    {
        _report.Verdict = kind;
        string where = $"slot {slot}, position {position}, block {block}";
        _problem = new JournalProblem(kind, slot, position, block, $"{where}: {text}");
        return false;
    }
}
