using System.Globalization;
using System.IO.Hashing;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;
using Xunit;

namespace FastQ.Journal;

// The stored structs against the page that documents them, and what their checks cover.
public partial class FormatTests
{
    private static readonly Guid Uuid = new("00112233-4455-6677-8899-aabbccddeeff");

    private sealed record Row(int Offset, int Size, string Field);

    public static TheoryData<Type> Stored => [typeof(FormatFile), typeof(SegmentHeader), typeof(BlockHeader), typeof(SnapshotHeader)];

    [Theory]
    [MemberData(nameof(Stored))]
    public void A_stored_struct_lies_as_the_page_says(Type type)
    {
        (int sizeBytes, List<Row> rows) = TableOf(type.Name);
        Assert.Equal(sizeBytes, SizeOf(type));
        Assert.Equal(rows, FieldsOf(type));
    }

    [Theory]
    [MemberData(nameof(Stored))]
    public void A_stored_struct_has_no_holes_and_each_field_is_aligned(Type type)
    {
        int at = 0;
        foreach (Row field in FieldsOf(type))
        {
            Assert.Equal(at, field.Offset);
            Assert.Equal(0, field.Offset % Math.Min(field.Size, 8));
            at += field.Size;
        }

        Assert.Equal(SizeOf(type), at);
        Assert.Equal(0, at % 8);
    }

    [Fact]
    public void Every_struct_with_a_layout_in_this_room_has_a_table()
    {
        IEnumerable<string> laidOut = typeof(Format).Assembly.GetTypes().Where(type => type.IsExplicitLayout && type.Namespace == "FastQ.Journal").Select(type => type.Name);
        Assert.Equal(laidOut.Order(StringComparer.Ordinal), Heading().Matches(Page()).Select(match => match.Groups[1].Value).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Magic_numbers_read_as_words_in_a_hex_dump()
    {
        Assert.Equal("FQBK", Ascii(Format.BlockMagic));
        Assert.Equal("SEGMENT\n", Ascii(Format.SegmentMagic));
        Assert.Equal("SNPSHOT\n", Ascii(Format.SnapshotMagic));
        Assert.Equal("QFORMAT\n", Ascii(Format.FormatMagic));
    }

    [Fact]
    public void Blocks_start_on_4_KiB_and_headers_fit_in_one_sector()
    {
        Assert.Equal(0, Format.AlignBlock(0));
        Assert.Equal(4096, Format.AlignBlock(1));
        Assert.Equal(4096, Format.AlignBlock(4096));
        Assert.Equal(8192, Format.AlignBlock(4097));

        // A sector is written whole or not at all, so a header is never half new.
        Assert.All(Stored, row => Assert.True(SizeOf(row.Data) <= 512));
    }

    [Fact]
    public void A_segment_header_is_good_only_with_each_of_its_bytes()
    {
        byte[] good = Bytes(Segment());
        Assert.Equal(SegmentVerdict.Good, SegmentHeader.Judge(good, Uuid, out SegmentHeader read));
        Assert.Equal(7ul, read.SegmentNumber);
        EachFlip(good, flipped => Assert.Equal(SegmentVerdict.Bad, SegmentHeader.Judge(flipped, Uuid, out _)));
        Assert.Equal(SegmentVerdict.Bad, SegmentHeader.Judge(good.AsSpan(0, good.Length - 1), Uuid, out _));
    }

    [Fact]
    public void Another_namespaces_segment_and_a_newer_format_are_told_from_rot()
    {
        Assert.Equal(SegmentVerdict.Foreign, SegmentHeader.Judge(Bytes(Segment()), Guid.Empty, out _));
        SegmentHeader newer = Segment();
        newer.Version = Format.Version + 1;
        newer.SetHash();
        Assert.Equal(SegmentVerdict.Newer, SegmentHeader.Judge(Bytes(newer), Uuid, out _));
    }

    [Fact]
    public void A_block_header_is_read_only_with_each_of_its_bytes()
    {
        byte[] good = Bytes(Block([1, 2, 3, 4, 5, 6, 7, 8]));
        Assert.True(BlockHeader.TryRead(good, out BlockHeader read));
        Assert.Equal(41ul, read.BlockNumber);
        EachFlip(good, flipped => Assert.False(BlockHeader.TryRead(flipped, out _)));
        Assert.False(BlockHeader.TryRead(good.AsSpan(0, good.Length - 1), out _));
        Assert.False(BlockHeader.TryRead(new byte[64], out _));
    }

    [Fact]
    public void A_blocks_hash_covers_payload_and_header_and_belongs_to_one_namespace_and_life()
    {
        byte[] payload = [1, 2, 3, 4, 5, 6, 7, 8];
        BlockHeader header = Block(payload);
        long seed = Format.Seed(Uuid, 3);
        Assert.Equal(header.Hash, header.HashWith(payload, seed));
        EachFlip(payload, flipped => Assert.NotEqual(header.Hash, header.HashWith(flipped, seed)));
        Assert.NotEqual(header.Hash, header.HashWith(payload, Format.Seed(Uuid, 4)));
        Assert.NotEqual(header.Hash, header.HashWith(payload, Format.Seed(Guid.Empty, 3)));

        // All of the header but the two fields that are computed from it.
        byte[] bytes = Bytes(header);
        for (int at = 0; at < bytes.Length; at++)
        {
            byte[] flipped = [.. bytes];
            flipped[at] ^= 1;
            bool isComputed = at is >= 48 and < 56 or >= 60;
            Assert.Equal(isComputed, MemoryMarshal.Read<BlockHeader>(flipped).HashWith(payload, seed) == header.Hash);
        }
    }

    [Fact]
    public void The_hash_is_what_the_page_says_byte_for_byte()
    {
        byte[] payload = [1, 2, 3, 4, 5, 6, 7, 8];
        byte[] seedBytes = [.. Uuid.ToByteArray(), 3, 0, 0, 0, 0, 0, 0, 0];
        byte[] bare = Bytes(Block(payload));
        bare.AsSpan(48, 8).Clear();
        bare.AsSpan(60, 4).Clear();
        Assert.Equal(XxHash3.HashToUInt64([.. payload, .. bare], (long)XxHash3.HashToUInt64(seedBytes)), Block(payload).Hash);
    }

    [Fact]
    public void FORMAT_and_a_snapshots_header_are_valid_only_with_each_of_their_bytes()
    {
        FormatFile format = new() { Magic = Format.FormatMagic, Version = Format.Version, Uuid = Uuid };
        format.SetHash();
        Assert.True(format.IsValid);
        EachFlip(Bytes(format), flipped => Assert.False(MemoryMarshal.Read<FormatFile>(flipped).IsValid));

        SnapshotHeader snapshot = new() { Magic = Format.SnapshotMagic, Version = Format.Version, Uuid = Uuid, Block = 9, PayloadBytes = 100 };
        snapshot.SetHash();
        Assert.True(snapshot.IsValid);
        EachFlip(Bytes(snapshot), flipped => Assert.False(MemoryMarshal.Read<SnapshotHeader>(flipped).IsValid));
    }

    private static SegmentHeader Segment()
    {
        SegmentHeader header = new() { Magic = Format.SegmentMagic, Version = Format.Version, Slot = 4, Uuid = Uuid, SegmentNumber = 7, Epoch = 3, FirstOfLife = 1, ParentBlock = 40, SlotBytes = 65536 };
        header.SetHash();
        return header;
    }

    private static BlockHeader Block(byte[] payload)
    {
        BlockHeader header = new() { Magic = Format.BlockMagic, PayloadBytes = (uint)payload.Length, BlockNumber = 41, Epoch = 3, DurableBlock = 39, ChainHash = 0x1234, RecordCount = 1 };
        header.Hash = header.HashWith(payload, Format.Seed(Uuid, 3));
        header.SetCheck();
        return header;
    }

    private static void EachFlip(byte[] bytes, Action<byte[]> check)
    {
        for (int at = 0; at < bytes.Length; at++)
        {
            for (int bit = 0; bit < 8; bit++)
            {
                byte[] flipped = [.. bytes];
                flipped[at] ^= (byte)(1 << bit);
                check(flipped);
            }
        }
    }

    private static byte[] Bytes<T>(T value)
        where T : unmanaged => MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value)).ToArray();

    private static string Ascii<T>(T magic)
        where T : unmanaged => Encoding.ASCII.GetString(Bytes(magic));

    private static int SizeOf(Type type) => (int)typeof(Unsafe).GetMethod(nameof(Unsafe.SizeOf))!.MakeGenericMethod(type).Invoke(null, null)!;

    private static List<Row> FieldsOf(Type type) =>
    [
        .. type.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic)
            .Select(field => new Row(field.GetCustomAttribute<FieldOffsetAttribute>()!.Value, SizeOf(field.FieldType), field.Name))
            .OrderBy(row => row.Offset),
    ];

    /// <summary>The table under "### Name (N bytes)".</summary>
    private static (int SizeBytes, List<Row> Rows) TableOf(string name)
    {
        string page = Page();
        Match heading = Heading().Matches(page).Single(match => match.Groups[1].Value == name);
        string section = page[(heading.Index + heading.Length)..].Split("\n###")[0];
        List<Row> rows = [.. TableRow().Matches(section).Select(row => new Row(Number(row.Groups[1]), Number(row.Groups[2]), row.Groups[3].Value))];
        return (Number(heading.Groups[2]), rows);
    }

    private static int Number(Group group) => int.Parse(group.Value, CultureInfo.InvariantCulture);

    private static string Page()
    {
        DirectoryInfo? at = new(AppContext.BaseDirectory);
        while (at is not null && !File.Exists(Path.Combine(at.FullName, "FastQ.sln")))
        {
            at = at.Parent;
        }

        return File.ReadAllText(Path.Combine(at!.FullName, "src", "FastQ.Journal", "README.md"));
    }

    [GeneratedRegex(@"^### (\w+) \((\d+) bytes\)$", RegexOptions.Multiline)]
    private static partial Regex Heading();

    [GeneratedRegex(@"^\| (\d+) \| (\d+) \| (\w+) \|", RegexOptions.Multiline)]
    private static partial Regex TableRow();
}
