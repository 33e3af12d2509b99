using System.Buffers.Binary;
using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace FastQ.Protocol;

public sealed class FieldsTests : IDisposable
{
    private readonly Guarded _memory = new();

    private sealed record Field(FieldTag Tag, byte[] Value)
    {
        public int Bytes => 4 + Value.Length;
    }

    private static readonly Gen<Field[]> s_fields =
        Generators.Several(from tag in Gen.Choose(0, 90) from value in Generators.Bytes select new Field((FieldTag)tag, value));

    public void Dispose() => _memory.Dispose();

    [Fact]
    public void What_is_written_is_read_again_in_room_that_just_suffices()
    {
        Prop.ForAll(Arb.From(s_fields), fields =>
        {
            FieldWriter writer = new(_memory.AtEnd(fields.Sum(field => field.Bytes)));
            Write(ref writer, fields);
            Assert.False(writer.Overflowed);
            Assert.Equal(fields.Sum(field => field.Bytes), writer.Length);
            AssertReads(writer.Written, fields, isMalformed: false);
        }).Check(Generators.Config(300, 1));
    }

    [Fact]
    public void What_does_not_fit_is_left_out_with_all_that_follows_and_nothing_is_written_beyond_the_room()
    {
        Prop.ForAll(Arb.From(from fields in s_fields from cut in Gen.Choose(1, 100) select (fields, cut)), world =>
        {
            int room = Math.Max(0, world.fields.Sum(field => field.Bytes) - world.cut);
            FieldWriter writer = new(_memory.AtEnd(room));
            Write(ref writer, world.fields);

            int fit = 0;
            for (int bytes = 0; fit < world.fields.Length && bytes + world.fields[fit].Bytes <= room; fit++)
            {
                bytes += world.fields[fit].Bytes;
            }

            Assert.Equal(fit < world.fields.Length, writer.Overflowed);
            AssertReads(writer.Written, world.fields[..fit], isMalformed: false);
        }).Check(Generators.Config(300, 2));
    }

    [Fact]
    public void A_text_cut_anywhere_gives_its_whole_fields_and_says_that_it_was_cut()
    {
        Prop.ForAll(Arb.From(s_fields), fields =>
        {
            byte[] text = TextOf(fields);
            for (int cut = 0, whole = 0, end = 0; cut <= text.Length; cut++)
            {
                while (whole < fields.Length && end + fields[whole].Bytes <= cut)
                {
                    end += fields[whole++].Bytes;
                }

                AssertReads(_memory.AtEnd(text.AsSpan(0, cut)), fields[..whole], isMalformed: cut != end);
            }
        }).Check(Generators.Config(60, 3));
    }

    [Fact]
    public void Any_bytes_get_a_verdict_and_never_an_exception()
    {
        Prop.ForAll(Arb.From(Gen.OneOf(Generators.Bytes, Generators.Damaged(s_fields.Select(TextOf)))), text =>
        {
            (Field[] fields, bool isMalformed) = Plainly(text);
            ReadOnlySpan<byte> guarded = _memory.AtEnd(text);
            AssertReads(guarded, fields, isMalformed);
            foreach (FieldTag tag in Enum.GetValues<FieldTag>())
            {
                Field? first = fields.FirstOrDefault(field => field.Tag == tag);
                Assert.Equal(first is not null, FieldReader.TryBytes(guarded, tag, out ReadOnlySpan<byte> value));
                Assert.Equal(first?.Value ?? [], value.ToArray());
                Assert.Equal(first?.Value.Length == 8, FieldReader.TryNumber(guarded, tag, out ulong number));
                Assert.Equal(first?.Value.Length == 8 ? BinaryPrimitives.ReadUInt64LittleEndian(first.Value) : 0, number);
            }
        }).Check(Generators.Config(1000, 4));
    }

    [Theory]
    [InlineData("")]
    [InlineData("orders")]
    [InlineData("Bücher, 本, 📚")]
    public void Texts_and_numbers_come_back(string text)
    {
        FieldWriter writer = new(_memory.AtEnd(100));
        writer.Text(FieldTag.Name, text);
        writer.Number(FieldTag.Queue, ulong.MaxValue - 1);
        FieldReader reader = new(writer.Written);
        Assert.True(reader.Next());
        Assert.Equal((FieldTag.Name, text), (reader.Tag, reader.Text));
        Assert.True(reader.Next());
        Assert.Equal((FieldTag.Queue, ulong.MaxValue - 1), (reader.Tag, reader.Number));
        Assert.False(reader.Next() || reader.IsMalformed);
    }

    [Fact]
    public void Bytes_that_are_no_text_become_replacement_characters()
    {
        FieldWriter writer = new(_memory.AtEnd(100));
        writer.Bytes(FieldTag.Text, [0x61, 0xFF, 0xC3]);
        writer.Text(FieldTag.Text, "a\uD800"); // half a pair cannot be written as UTF-8 either
        FieldReader reader = new(writer.Written);
        Assert.True(reader.Next());
        Assert.Equal("a\uFFFD\uFFFD", reader.Text);
        Assert.True(reader.Next());
        Assert.Equal("a\uFFFD", reader.Text);
    }

    [Fact]
    public void A_number_that_is_not_8_bytes_is_malformed_and_reads_as_0()
    {
        for (int length = 0; length < 20; length++)
        {
            FieldWriter writer = new(_memory.AtEnd(30));
            writer.Bytes(FieldTag.Queue, Enumerable.Repeat((byte)1, length).ToArray());
            FieldReader reader = new(writer.Written);
            Assert.True(reader.Next());
            Assert.Equal(length == 8 ? 0x0101010101010101ul : 0, reader.Number);
            Assert.Equal(length != 8, reader.IsMalformed);
        }
    }

    [Fact]
    public void A_value_longer_than_its_length_can_say_is_left_out()
    {
        FieldWriter writer = new(_memory.AtEnd(70_000));
        writer.Bytes(FieldTag.Json, new byte[65_536]);
        Assert.True(writer.Overflowed);
        Assert.Equal(0, writer.Length);

        writer = new FieldWriter(_memory.AtEnd(70_000));
        writer.Bytes(FieldTag.Json, new byte[65_535]);
        Assert.False(writer.Overflowed);
        AssertReads(writer.Written, [new Field(FieldTag.Json, new byte[65_535])], isMalformed: false);
    }

    private static void Write(ref FieldWriter writer, Field[] fields)
    {
        foreach (Field field in fields)
        {
            writer.Bytes(field.Tag, field.Value);
        }
    }

    private static byte[] TextOf(Field[] fields)
    {
        FieldWriter writer = new(new byte[fields.Sum(field => field.Bytes)]);
        Write(ref writer, fields);
        return writer.Written.ToArray();
    }

    private static void AssertReads(ReadOnlySpan<byte> text, Field[] fields, bool isMalformed)
    {
        FieldReader reader = new(text);
        foreach (Field field in fields)
        {
            Assert.True(reader.Next());
            Assert.Equal(field.Tag, reader.Tag);
            Assert.Equal(field.Value, reader.Value.ToArray());
        }

        Assert.False(reader.Next());
        Assert.Equal(isMalformed, reader.IsMalformed);
        Assert.False(reader.Next()); // an end stays an end
    }

    /// <summary>The page's words, byte by byte.</summary>
    private static (Field[] Fields, bool IsMalformed) Plainly(byte[] text)
    {
        List<Field> fields = [];
        int at = 0;
        while (at + 4 <= text.Length && at + 4 + text[at + 2] + 256 * text[at + 3] <= text.Length)
        {
            int length = text[at + 2] + 256 * text[at + 3];
            fields.Add(new Field((FieldTag)(text[at] + 256 * text[at + 1]), text[(at + 4)..(at + 4 + length)]));
            at += 4 + length;
        }

        return ([.. fields], at != text.Length);
    }
}
