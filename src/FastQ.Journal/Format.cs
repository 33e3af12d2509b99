using System.IO.Hashing;
using System.Numerics;
using System.Runtime.InteropServices;
using FastQ.Protocol;

namespace FastQ.Journal;

// What lies on the disk. Little-endian; offsets in README.md, compared by a test.
//
//   slot file
//   |<- 4 KiB ->|<- block, from a multiple of 4 KiB on ->|<- block ->| stale or zero ...
//   | segment   | 64 B header | records          | zeroes | 64 B ...  |
//   | header    |
//
// A block's hash covers payload, then header; its header has a check of its own, so that a torn length is never followed.

/// <summary>Constants of the stored format, each once.</summary>
public static class Format
{
    public const uint Version = 1;
    public const int BlockAlignment = 4096;
    public const int SegmentHeaderBytes = 4096;
    public const uint BlockMagic = 0x4B425146; // "FQBK"
    public const ulong SegmentMagic = 0x0A544E454D474553; // "SEGMENT\n"
    public const ulong SnapshotMagic = 0x0A544F4853504E53; // "SNPSHOT\n"
    public const ulong FormatMagic = 0x0A54414D524F4651; // "QFORMAT\n"
    public const int SnapshotPageBytes = 64 * 1024;

    /// <summary>Rounds up to where the next block may start.</summary>
    public static int AlignBlock(int bytes) => (bytes + BlockAlignment - 1) & ~(BlockAlignment - 1);

    /// <summary>The seed of block hashes: another namespace or life never has our hash by accident.</summary>
    public static long Seed(Guid uuid, ulong epoch)
    {
        Span<byte> bytes = stackalloc byte[24];
        uuid.TryWriteBytes(bytes);
        MemoryMarshal.Write(bytes[16..], epoch);
        return (long)XxHash3.HashToUInt64(bytes);
    }

    /// <summary>CRC-32C of a header's bytes before its check.</summary>
    public static uint CheckOf(ReadOnlySpan<byte> header) => RecordCheck.Of(header);
}

/// <summary>The first 64 bytes of a block.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct BlockHeader
{
    public const int SizeBytes = 64;

    [FieldOffset(0)] public uint Magic;
    [FieldOffset(4)] public uint PayloadBytes;
    [FieldOffset(8)] public ulong BlockNumber;
    [FieldOffset(16)] public ulong Epoch;

    /// <summary>Wall clock when it was sealed, microseconds since 1970.</summary>
    [FieldOffset(24)] public long SealedMicros;

    /// <summary>The highest block known durable when this one was sealed: what it vouches for.</summary>
    [FieldOffset(32)] public ulong DurableBlock;

    /// <summary><see cref="Hash"/> of the block before.</summary>
    [FieldOffset(40)] public ulong ChainHash;

    /// <summary>XXH3-64 over the payload, then over this header with Hash and HeaderCheck as 0; seeded by namespace and epoch.</summary>
    [FieldOffset(48)] public ulong Hash;

    [FieldOffset(56)] public uint RecordCount;

    /// <summary>CRC-32C over the 60 bytes before it.</summary>
    [FieldOffset(60)] public uint HeaderCheck;

    /// <summary>Is this the header of some block of ours? Says nothing of its payload.</summary>
    public static bool TryRead(ReadOnlySpan<byte> bytes, out BlockHeader header)
    {
        header = default;
        if (bytes.Length < SizeBytes)
        {
            return false;
        }

        header = MemoryMarshal.Read<BlockHeader>(bytes);
        return header.Magic == Format.BlockMagic && header.HeaderCheck == Format.CheckOf(bytes[..(SizeBytes - 4)]);
    }

    /// <summary>The hash that a block with this header and payload must have.</summary>
    public readonly ulong HashWith(ReadOnlySpan<byte> payload, long seed)
    {
        XxHash3 hash = new(seed);
        hash.Append(payload);
        return Finish(hash);
    }

    /// <summary>Adds this header to a hash that has the payload already.</summary>
    internal readonly ulong Finish(XxHash3 hash)
    {
        BlockHeader bare = this;
        bare.Hash = 0;
        bare.HeaderCheck = 0;
        hash.Append(MemoryMarshal.AsBytes(new ReadOnlySpan<BlockHeader>(in bare)));
        return hash.GetCurrentHashAsUInt64();
    }

    internal void SetCheck() => HeaderCheck = Format.CheckOf(MemoryMarshal.AsBytes(new ReadOnlySpan<BlockHeader>(in this))[..(SizeBytes - 4)]);
}

/// <summary>The first bytes of a slot file: which use of the slot this is. Written and synced before the first block goes in, so a bad one is rot, never a torn write of something in use.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct SegmentHeader
{
    public const int SizeBytes = 104;

    [FieldOffset(0)] public ulong Magic;
    [FieldOffset(8)] public uint Version;
    [FieldOffset(12)] public uint Slot;
    [FieldOffset(16)] public Guid Uuid;
    [FieldOffset(32)] public ulong SegmentNumber;
    [FieldOffset(40)] public ulong Epoch;
    [FieldOffset(48)] public Guid Instance;

    /// <summary>Of the first segment of a life: the last block that this life accepted of those before it. Else 0.</summary>
    [FieldOffset(64)] public ulong ParentBlock;

    /// <summary>That block's hash.</summary>
    [FieldOffset(72)] public ulong ParentHash;

    /// <summary>1: the first segment of a life.</summary>
    [FieldOffset(80)] public uint FirstOfLife;

    [FieldOffset(84)] public uint SlotBytes;

    /// <summary>Of a life that began with a repair: the first block that it gave up, by consent. Else 0.</summary>
    [FieldOffset(88)] public ulong GapBlock;

    /// <summary>XXH3-64 over the 96 bytes before it.</summary>
    [FieldOffset(96)] public ulong Hash;

    internal void SetHash() => Hash = HashOf(this);

    /// <summary>Judges the start of a slot file.</summary>
    public static SegmentVerdict Judge(ReadOnlySpan<byte> bytes, Guid uuid, out SegmentHeader header)
    {
        header = default;
        if (bytes.Length < SizeBytes)
        {
            return SegmentVerdict.Bad;
        }

        header = MemoryMarshal.Read<SegmentHeader>(bytes);
        if (header.Magic != Format.SegmentMagic || header.Hash != HashOf(header))
        {
            return SegmentVerdict.Bad;
        }

        return header.Version > Format.Version ? SegmentVerdict.Newer : header.Uuid != uuid ? SegmentVerdict.Foreign : SegmentVerdict.Good;
    }

    private static ulong HashOf(in SegmentHeader header) =>
        XxHash3.HashToUInt64(MemoryMarshal.AsBytes(new ReadOnlySpan<SegmentHeader>(in header))[..(SizeBytes - 8)]);
}

/// <summary>What a slot's first bytes are.</summary>
public enum SegmentVerdict
{
    Good,
    Bad,
    Foreign,
    Newer,
    Unreadable,
}

/// <summary>The file FORMAT: made last at the first start, so that it says that the rest is there.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct FormatFile
{
    public const int SizeBytes = 40;

    [FieldOffset(0)] public ulong Magic;

    /// <summary>The lowest format version that can read this directory.</summary>
    [FieldOffset(8)] public uint Version;

    [FieldOffset(12)] public uint Reserved;
    [FieldOffset(16)] public Guid Uuid;

    /// <summary>XXH3-64 over the 32 bytes before it.</summary>
    [FieldOffset(32)] public ulong Hash;

    internal void SetHash() => Hash = HashOf(this);

    internal readonly bool IsValid => Magic == Format.FormatMagic && Hash == HashOf(this);

    private static ulong HashOf(in FormatFile file) => XxHash3.HashToUInt64(MemoryMarshal.AsBytes(new ReadOnlySpan<FormatFile>(in file))[..(SizeBytes - 8)]);
}

/// <summary>The first bytes of a snapshot file: written last, so it is the manifest. Then 4 KiB on: pages of 64 KiB, each followed by its XXH3-64.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct SnapshotHeader
{
    public const int SizeBytes = 88;

    [FieldOffset(0)] public ulong Magic;
    [FieldOffset(8)] public uint Version;
    [FieldOffset(12)] public uint Reserved;
    [FieldOffset(16)] public Guid Uuid;

    /// <summary>The block that this state includes, and no later one.</summary>
    [FieldOffset(32)] public ulong Block;

    [FieldOffset(40)] public ulong BlockHash;
    [FieldOffset(48)] public ulong Epoch;
    [FieldOffset(56)] public ulong PayloadBytes;

    /// <summary>XXH3-64 over all page hashes in order.</summary>
    [FieldOffset(64)] public ulong PagesHash;

    [FieldOffset(72)] public long WallMicros;

    /// <summary>XXH3-64 over the 80 bytes before it.</summary>
    [FieldOffset(80)] public ulong Hash;

    internal void SetHash() => Hash = HashOf(this);

    internal readonly bool IsValid => Magic == Format.SnapshotMagic && Hash == HashOf(this);

    private static ulong HashOf(in SnapshotHeader header) => XxHash3.HashToUInt64(MemoryMarshal.AsBytes(new ReadOnlySpan<SnapshotHeader>(in header))[..(SizeBytes - 8)]);
}
