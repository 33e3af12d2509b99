using System.Runtime.InteropServices;
using FastQ.Linux;

namespace FastQ.Journal;

// Following the chain over segments and lives.
//
//   life 5:  seg 7 [..90 91 92|93 94]      a life's first segment names its parent: what an older life
//   life 6:  seg 8 {parent 92} [93' 94']   wrote after that block (93, 94) is void
//   life 7:  seg 9 {parent 94'} [95'' ...]
//
// A block is the successor if its number is the next, its chain hash is that of the last accepted block, its epoch is its segment's, no
// later life cut it off, and its own hash is right. It stands at the next 4 KiB place, or first in a later segment.

/// <summary>One slot file as found.</summary>
internal sealed class FoundSegment(uint slot, IStoredFile file, SegmentVerdict verdict, SegmentHeader header, long length, Fault? fault) : IDisposable
{
    public uint Slot => slot;

    public IStoredFile File => file;

    public SegmentVerdict Verdict => verdict;

    public SegmentHeader Header => header;

    public long Length => length;

    /// <summary>Why it cannot be read.</summary>
    public Fault? Fault => fault;

    /// <summary>First and last block of the accepted chain in it; 0: none.</summary>
    public ulong FirstBlock { get; set; }

    public ulong LastBlock { get; set; }

    /// <summary>Where the last accepted block ends.</summary>
    public int EndOffset { get; set; } = Format.SegmentHeaderBytes;

    /// <summary>Number of the block at its first place, of this segment's epoch and not void; 0: none.</summary>
    public ulong FirstPlace { get; set; }

    /// <summary>No block of this use is in it: the slot was made ready for its next use, and its blocks are still those of the use before.</summary>
    public bool HoldsLeftovers { get; set; }

    /// <summary>The owner keeps the file; it is not to be closed with the catalogue.</summary>
    public bool Kept { get; set; }

    public void Dispose()
    {
        if (!Kept)
        {
            file.Dispose();
        }
    }
}

/// <summary>All slots of a namespace.</summary>
internal sealed class SegmentCatalogue : IDisposable
{
    private readonly List<FoundSegment> _all = [];

    private SegmentCatalogue()
    {
    }

    /// <summary>Those with a good header, by segment number.</summary>
    public List<FoundSegment> Ordered { get; private set; } = [];

    public IReadOnlyList<FoundSegment> All => _all;

    public uint HighestSlot { get; private set; }

    public ulong HighestSegment => Ordered.Count > 0 ? Ordered[^1].Header.SegmentNumber : 0;

    public ulong HighestEpoch => Ordered.Count > 0 ? Ordered.Max(segment => segment.Header.Epoch) : 0;

    /// <summary>Name of a slot's file.</summary>
    public static string FileName(uint slot) => $"{slot:D10}.slot";

    public static Result<SegmentCatalogue> Load(IStorage storage, string directory, Guid uuid)
    {
        Result<IReadOnlyList<string>> names = storage.List(directory);
        if (!names.Ok)
        {
            return names.Fault;
        }

        SegmentCatalogue catalogue = new();
        byte[] head = new byte[SegmentHeader.SizeBytes];
        byte[] first = new byte[BlockHeader.SizeBytes];
        foreach (string name in names.Value)
        {
            if (!name.EndsWith(".slot", StringComparison.Ordinal) || !uint.TryParse(name.AsSpan(0, name.Length - 5), out uint slot) || slot == 0)
            {
                continue;
            }

            Result<IStoredFile> file = storage.Open(Path.Combine(directory, name), create: false);
            if (!file.Ok)
            {
                catalogue.Dispose();
                return file.Fault;
            }

            Result<long> length = file.Value.Length();
            Result<int> read = file.Value.ReadAt(head, 0);
            Result<int> place = file.Value.ReadAt(first, Format.SegmentHeaderBytes);
            read = place.Ok ? read : place;
            SegmentHeader header = default;
            SegmentVerdict verdict = !read.Ok || !length.Ok ? SegmentVerdict.Unreadable : SegmentHeader.Judge(head.AsSpan(0, read.Value), uuid, out header);
            if (verdict == SegmentVerdict.Good && header.Slot != slot)
            {
                verdict = SegmentVerdict.Bad; // A file that was renamed or copied over another.
            }

            bool isBlock = verdict == SegmentVerdict.Good && BlockHeader.TryRead(first.AsSpan(0, place.Value), out BlockHeader block) && block.Epoch == header.Epoch;
            ulong firstPlace = isBlock ? MemoryMarshal.Read<BlockHeader>(first).BlockNumber : 0;
            catalogue._all.Add(new FoundSegment(slot, file.Value, verdict, header, length.Ok ? length.Value : 0, read.Ok ? null : read.Fault) { FirstPlace = firstPlace });
            catalogue.HighestSlot = Math.Max(catalogue.HighestSlot, slot);
        }

        catalogue.Ordered = [.. catalogue._all.Where(segment => segment.Verdict == SegmentVerdict.Good).OrderBy(segment => segment.Header.SegmentNumber)];
        catalogue.FindLeftovers();
        return catalogue;
    }

    /// <summary>The last block that counts of a life: what the first later life accepted.</summary>
    public ulong LimitOf(ulong epoch)
    {
        ulong limit = ulong.MaxValue;
        foreach (FoundSegment segment in Ordered)
        {
            if (segment.Header.FirstOfLife == 1 && segment.Header.Epoch > epoch)
            {
                limit = Math.Min(limit, segment.Header.ParentBlock);
            }
        }

        return limit;
    }

    public void Dispose() => _all.ForEach(segment => segment.Dispose());

    /// <summary>First blocks rise with segments. One that falls back is of the slot's use before: a recycled slot has its new header long before its new first block.</summary>
    private void FindLeftovers()
    {
        ulong highest = 0;
        foreach (FoundSegment segment in Ordered)
        {
            segment.FirstPlace = segment.FirstPlace <= LimitOf(segment.Header.Epoch) ? segment.FirstPlace : 0;
            segment.HoldsLeftovers = segment.FirstPlace != 0 && segment.FirstPlace < highest;
            highest = Math.Max(highest, segment.FirstPlace);
        }
    }
}

/// <summary>A place where a block could be, judged.</summary>
internal enum BlockVerdict
{
    Valid,
    NotTheSuccessor,
    Damaged,
    Unreadable,
}

/// <summary>Walks the chain. Owns a buffer; one thread.</summary>
internal sealed class ChainWalk(SegmentCatalogue catalogue, Guid uuid, ulong block, ulong hash) : IDisposable
{
    private readonly NativeBuffer _head = new(BlockHeader.SizeBytes);
    private readonly Dictionary<ulong, ulong> _limits = [];
    private NativeBuffer _payload = new(512 * 1024);
    private int _payloadBytes;
    private int _index = -1;
    private int _offset;

    /// <summary>Number of the last accepted block.</summary>
    public ulong Block { get; private set; } = block;

    /// <summary>Its hash.</summary>
    public ulong Hash { get; private set; } = hash;

    /// <summary>Its header; default before the first.</summary>
    public BlockHeader Header { get; private set; }

    /// <summary>The segment of the last accepted block; null before the first.</summary>
    public FoundSegment? Segment => _index < 0 ? null : catalogue.Ordered[_index];

    /// <summary>Offset of the last accepted block.</summary>
    public int BlockOffset { get; private set; }

    public ReadOnlySpan<byte> Payload => _payload.Span[.._payloadBytes];

    /// <summary>Where the chain would go on next, or stopped.</summary>
    public int NextOffset => _offset;

    public Fault? Fault { get; private set; }

    /// <summary>The place of the fault or damage.</summary>
    public (FoundSegment Segment, int Offset) Failing { get; private set; }

    /// <summary>Goes to the segment in which the successor of the start lies, by the first blocks of the segments. Not found: the next step ends.</summary>
    public BlockVerdict Seek()
    {
        for (int i = catalogue.Ordered.Count - 1; i >= 0; i--)
        {
            FoundSegment segment = catalogue.Ordered[i];
            if (ReadHeader(segment, Format.SegmentHeaderBytes, out _) == BlockVerdict.Unreadable)
            {
                Failing = (segment, Format.SegmentHeaderBytes);
                return BlockVerdict.Unreadable;
            }

            if (!segment.HoldsLeftovers && segment.FirstPlace != 0 && segment.FirstPlace <= Block)
            {
                return SkipTo(i);
            }
        }

        return BlockVerdict.Valid; // The successor, if any, is the first block of some segment.
    }

    /// <summary>Goes to the next block. Before the chain is said to end, its end is read again: a sector that reads wrong once must not cut off what was confirmed.</summary>
    public BlockVerdict NextReadTwice()
    {
        BlockVerdict verdict = Next();
        return verdict is BlockVerdict.Valid or BlockVerdict.Unreadable ? verdict : Next();
    }

    /// <summary>Goes to the next block of the chain.</summary>
    public BlockVerdict Next()
    {
        if (_index >= 0 && TryAccept(_index, _offset, out BlockVerdict verdict))
        {
            return verdict;
        }

        for (int i = _index + 1; i < catalogue.Ordered.Count; i++)
        {
            if (!catalogue.Ordered[i].HoldsLeftovers && TryAccept(i, Format.SegmentHeaderBytes, out verdict))
            {
                return verdict;
            }
        }

        if (Failing.Segment is null && _index >= 0)
        {
            Failing = (catalogue.Ordered[_index], _offset);
        }

        return BlockVerdict.NotTheSuccessor;
    }

    public ulong LimitOf(ulong epoch)
    {
        if (!_limits.TryGetValue(epoch, out ulong limit))
        {
            _limits[epoch] = limit = catalogue.LimitOf(epoch);
        }

        return limit;
    }

    public void Dispose()
    {
        _head.Dispose();
        _payload.Dispose();
    }

    /// <summary>True: a block was accepted, or the place cannot be read. False: look elsewhere.</summary>
    private bool TryAccept(int index, int offset, out BlockVerdict verdict)
    {
        FoundSegment segment = catalogue.Ordered[index];
        verdict = ReadHeader(segment, offset, out BlockHeader header);
        if (verdict == BlockVerdict.Unreadable)
        {
            Failing = (segment, offset);
            return true;
        }

        bool isNext = verdict == BlockVerdict.Valid && header.BlockNumber == Block + 1 && header.ChainHash == Hash && header.Epoch == segment.Header.Epoch && header.BlockNumber <= LimitOf(header.Epoch);
        if (!isNext)
        {
            return false;
        }

        if (!ReadPayload(segment, offset, header, out bool unreadable))
        {
            Failing = (segment, offset);
            verdict = unreadable ? BlockVerdict.Unreadable : BlockVerdict.Damaged;
            return unreadable;
        }

        if (header.HashWith(Payload, Format.Seed(uuid, header.Epoch)) != header.Hash)
        {
            Failing = (segment, offset);
            return false;
        }

        Accept(index, offset, header);
        return true;
    }

    private void Accept(int index, int offset, in BlockHeader header)
    {
        FoundSegment segment = catalogue.Ordered[index];
        _index = index;
        BlockOffset = offset;
        _offset = offset + Format.AlignBlock(BlockHeader.SizeBytes + (int)header.PayloadBytes);
        Block = header.BlockNumber;
        Hash = header.Hash;
        Header = header;
        Failing = default;
        segment.FirstBlock = segment.FirstBlock == 0 ? Block : segment.FirstBlock;
        segment.LastBlock = Block;
        segment.EndOffset = _offset;
    }

    /// <summary>In a segment that begins at or before the start's block: over the headers to its successor's place.</summary>
    private BlockVerdict SkipTo(int index)
    {
        FoundSegment segment = catalogue.Ordered[index];
        int offset = Format.SegmentHeaderBytes;
        while (offset + BlockHeader.SizeBytes <= segment.Length)
        {
            BlockVerdict verdict = ReadHeader(segment, offset, out BlockHeader header);
            if (verdict == BlockVerdict.Unreadable)
            {
                Failing = (segment, offset);
                return verdict;
            }

            bool counts = verdict == BlockVerdict.Valid && header.Epoch == segment.Header.Epoch && header.BlockNumber <= Block;
            if (counts)
            {
                segment.FirstBlock = segment.FirstBlock == 0 ? header.BlockNumber : segment.FirstBlock;
                segment.LastBlock = header.BlockNumber;
                segment.EndOffset = offset + Format.AlignBlock(BlockHeader.SizeBytes + (int)header.PayloadBytes);
            }

            if (counts && header.BlockNumber == Block && header.Hash == Hash)
            {
                (_index, _offset) = (index, segment.EndOffset);
                return BlockVerdict.Valid;
            }

            // A rotten header in a stretch that the snapshot covers hinders nobody: look at the next place.
            offset = counts ? segment.EndOffset : offset + Format.BlockAlignment;
        }

        (_index, _offset) = (index, (int)segment.Length); // The start's block is not here any more; its successor can only come first in a later segment.
        return BlockVerdict.Valid;
    }

    private BlockVerdict ReadHeader(FoundSegment segment, int offset, out BlockHeader header)
    {
        header = default;
        if (offset + BlockHeader.SizeBytes > segment.Length)
        {
            return BlockVerdict.NotTheSuccessor;
        }

        Result<int> read = segment.File.ReadAt(_head.Span, offset);
        if (!read.Ok || read.Value < BlockHeader.SizeBytes)
        {
            Fault = read.Ok ? new Fault("pread", Errno.EIO, segment.File.Path) : read.Fault;
            return BlockVerdict.Unreadable;
        }

        return BlockHeader.TryRead(_head.Span, out header) ? BlockVerdict.Valid : BlockVerdict.NotTheSuccessor;
    }

    private bool ReadPayload(FoundSegment segment, int offset, in BlockHeader header, out bool unreadable)
    {
        unreadable = false;
        if (header.PayloadBytes > segment.Length - offset - BlockHeader.SizeBytes)
        {
            return false;
        }

        _payloadBytes = (int)header.PayloadBytes;
        if (_payload.Length < _payloadBytes)
        {
            _payload.Dispose();
            _payload = new NativeBuffer(Format.AlignBlock(_payloadBytes));
        }

        Result<int> read = segment.File.ReadAt(_payload.Span[.._payloadBytes], offset + BlockHeader.SizeBytes);
        unreadable = !read.Ok || read.Value < _payloadBytes;
        if (unreadable)
        {
            Fault = read.Ok ? new Fault("pread", Errno.EIO, segment.File.Path) : read.Fault;
        }

        return !unreadable;
    }
}

/// <summary>What later blocks, headers and slots say about a place where the chain stopped.</summary>
internal readonly record struct Witnesses(bool LaterBlock, bool Vouched, long LaterBlocks, string Who, bool SuccessorUnderBadHeader, uint BadSlot, Fault? Unreadable)
{
    /// <summary>Looks at every 4 KiB place of the segment that stopped and of those after it, and of slots whose header is bad.</summary>
    public static Witnesses Gather(SegmentCatalogue catalogue, ChainWalk walk, ulong fromSegment)
    {
        bool later = false, vouched = false, underBad = false;
        uint badSlot = 0;
        long count = 0;
        string who = "";
        foreach (FoundSegment segment in catalogue.Ordered)
        {
            if (segment.Header.FirstOfLife == 1 && segment.Header.ParentBlock > walk.Block)
            {
                (vouched, who) = (true, $"the header of slot {segment.Slot} (life {segment.Header.Epoch}) names block {segment.Header.ParentBlock} as its parent");
            }
        }

        const int MostBytes = 1 << 20;
        long longest = catalogue.All.Count == 0 ? 0 : catalogue.All.Max(segment => segment.Length);
        byte[] chunk = new byte[Format.AlignBlock((int)Math.Min(longest, MostBytes))];
        foreach (FoundSegment segment in catalogue.All)
        {
            bool isBad = segment.Verdict == SegmentVerdict.Bad;
            if (!isBad && segment.Header.SegmentNumber < fromSegment)
            {
                continue;
            }

            for (long at = 0; at < segment.Length; at += chunk.Length)
            {
                Result<int> read = segment.File.ReadAt(chunk, at);
                if (!read.Ok)
                {
                    return new Witnesses(later, vouched, count, who, underBad, segment.Slot, read.Fault);
                }

                for (int i = at == 0 ? Format.SegmentHeaderBytes : 0; i + BlockHeader.SizeBytes <= read.Value; i += Format.BlockAlignment)
                {
                    if (!BlockHeader.TryRead(chunk.AsSpan(i), out BlockHeader header) || header.BlockNumber <= walk.Block || header.Epoch < walk.Header.Epoch || header.BlockNumber > walk.LimitOf(header.Epoch) || (!isBad && header.Epoch != segment.Header.Epoch))
                    {
                        continue;
                    }

                    later |= header.BlockNumber > walk.Block + 1;
                    count++;
                    underBad |= isBad && header.BlockNumber == walk.Block + 1 && header.ChainHash == walk.Hash;
                    badSlot = underBad && badSlot == 0 ? segment.Slot : badSlot;
                    if (header.DurableBlock > walk.Block)
                    {
                        (vouched, who) = (true, $"block {header.BlockNumber} in slot {segment.Slot} says that block {header.DurableBlock} was durable");
                    }
                }
            }
        }

        return new Witnesses(later, vouched, count, who, underBad, badSlot, null);
    }
}
