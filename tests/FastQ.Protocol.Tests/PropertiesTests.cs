using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace FastQ.Protocol;

public sealed class PropertiesTests : IDisposable
{
    private readonly Guarded _memory = new();

    // A header has a key, everything else has none.
    private sealed record Property(PropertyTag Tag, PropertyType Type, string Key, byte[] Value)
    {
        public int Bytes => 4 + (Tag == PropertyTag.Header ? 1 + Encoding.UTF8.GetByteCount(Key) : 0) + Value.Length;
    }

    private static readonly Gen<string> s_text =
        from length in Gen.Choose(0, 30)
        from letters in Gen.Elements("a", "Z", "-", "é", "本", "📚").ArrayOf(length)
        select string.Concat(letters);

    private static readonly Gen<Property> s_header =
        from type in Gen.Choose(0, 9)
        from key in s_text
        from value in Generators.Bytes
        select new Property(PropertyTag.Header, (PropertyType)type, key + "k", value);

    private static readonly Gen<Property> s_ownProperty =
        from tag in Gen.Choose(2, 12)
        from text in s_text
        select new Property((PropertyTag)tag, PropertyType.Text, "", Encoding.UTF8.GetBytes(text));

    private static readonly Gen<Property[]> s_properties = Generators.Several(Gen.OneOf(s_header, s_ownProperty));

    public void Dispose() => _memory.Dispose();

    [Fact]
    public void What_is_written_is_read_again_in_room_that_just_suffices()
    {
        Prop.ForAll(Arb.From(s_properties), properties =>
        {
            PropertyWriter writer = new(_memory.AtEnd(properties.Sum(property => property.Bytes)));
            Write(ref writer, properties);
            Assert.False(writer.Overflowed);
            Assert.Equal(properties.Sum(property => property.Bytes), writer.Length);
            AssertReads(writer.Written, properties, isMalformed: false);
        }).Check(Generators.Config(300, 11));
    }

    [Fact]
    public void What_does_not_fit_is_left_out_with_all_that_follows_and_nothing_is_written_beyond_the_room()
    {
        Prop.ForAll(Arb.From(from properties in s_properties from cut in Gen.Choose(1, 100) select (properties, cut)), world =>
        {
            int room = Math.Max(0, world.properties.Sum(property => property.Bytes) - world.cut);
            PropertyWriter writer = new(_memory.AtEnd(room));
            Write(ref writer, world.properties);

            int fit = 0;
            for (int bytes = 0; fit < world.properties.Length && bytes + world.properties[fit].Bytes <= room; fit++)
            {
                bytes += world.properties[fit].Bytes;
            }

            Assert.Equal(fit < world.properties.Length, writer.Overflowed);
            AssertReads(writer.Written, world.properties[..fit], isMalformed: false);
        }).Check(Generators.Config(300, 12));
    }

    [Fact]
    public void Properties_cut_anywhere_but_between_two_are_not_valid()
    {
        Prop.ForAll(Arb.From(s_properties), properties =>
        {
            byte[] text = TextOf(properties);
            for (int cut = 0, whole = 0, end = 0; cut <= text.Length; cut++)
            {
                while (whole < properties.Length && end + properties[whole].Bytes <= cut)
                {
                    end += properties[whole++].Bytes;
                }

                AssertReads(_memory.AtEnd(text.AsSpan(0, cut)), properties[..whole], isMalformed: cut != end);
            }
        }).Check(Generators.Config(60, 13));
    }

    [Fact]
    public void Any_bytes_get_a_verdict_and_never_an_exception()
    {
        Prop.ForAll(Arb.From(Gen.OneOf(Generators.Bytes, Generators.Damaged(s_properties.Select(TextOf)))), text =>
        {
            PropertyReader reader = new(_memory.AtEnd(text));
            int at = 0;
            while (reader.Next())
            {
                int length = text[at + 2] + 256 * text[at + 3], key = text[at] == 1 ? text[at + 4] : 0, start = at + 4 + (text[at] == 1 ? 1 : 0);
                Assert.True(text[at] != 1 || key > 0);
                Assert.Equal(((PropertyTag)text[at], (PropertyType)text[at + 1]), (reader.Tag, reader.Type));
                Assert.Equal(text[start..(start + key)], reader.Key.ToArray());
                Assert.Equal(text[(start + key)..(at + 4 + length)], reader.Value.ToArray());
                at += 4 + length;
            }

            // It stopped where it had to: at the end, or where the next is cut short or a header without a key.
            bool isCut = at + 4 > text.Length || at + 4 + text[at + 2] + 256 * text[at + 3] > text.Length;
            bool lacksKey = !isCut && text[at] == 1 && (text[at + 2] + 256 * text[at + 3] is int length2 && (length2 == 0 || text[at + 4] == 0 || text[at + 4] >= length2));
            Assert.Equal(at != text.Length, reader.IsMalformed);
            Assert.Equal(at != text.Length, isCut && at != text.Length || lacksKey);
            Assert.Equal(!reader.IsMalformed, PropertyReader.AreValid(_memory.AtEnd(text)));
        }).Check(Generators.Config(2000, 14));
    }

    [Theory]
    [InlineData(true, new byte[] { 1, 0, 2, 0, 1, 0x6B })] // the key "k" and an empty value
    [InlineData(false, new byte[] { 1, 0, 2, 0, 0, 0x6B })] // an empty key
    [InlineData(false, new byte[] { 1, 0, 2, 0, 2, 0x6B })] // a key that would end behind its value
    [InlineData(false, new byte[] { 1, 0, 0, 0 })] // no room even for the key's length
    [InlineData(true, new byte[] { 0, 0, 0, 0, 200, 200, 1, 0, 7 })] // unknown tags and types
    public void A_header_has_a_key(bool isValid, byte[] text)
    {
        Assert.Equal(isValid, PropertyReader.AreValid(_memory.AtEnd(text)));
    }

    [Fact]
    public void A_header_without_a_key_or_with_one_of_more_than_255_bytes_is_not_written()
    {
        foreach ((string key, bool fits) in new[] { ("", false), ("k", true), (new string('k', 255), true), (new string('k', 256), false), (new string('é', 127), true), (new string('é', 128), false) })
        {
            PropertyWriter text = new(_memory.AtEnd(300));
            text.Header(key, "value");
            PropertyWriter typed = new(_memory.AtEnd(300));
            typed.Header(key, PropertyType.Boolean, [1]);
            Assert.Equal((!fits, !fits), (text.Overflowed, typed.Overflowed));
        }
    }

    [Fact]
    public void After_an_overflow_nothing_more_is_written_though_it_would_fit()
    {
        PropertyWriter writer = new(_memory.AtEnd(20));
        writer.Text(PropertyTag.Type, "t");
        writer.Header("", "value");
        writer.Text(PropertyTag.Key, "k");
        AssertReads(writer.Written, [new Property(PropertyTag.Type, PropertyType.Text, "", "t"u8.ToArray())], isMalformed: false);
    }

    [Fact]
    public void A_value_longer_than_its_length_can_say_is_left_out()
    {
        PropertyWriter writer = new(_memory.AtEnd(70_000));
        writer.Header("k", PropertyType.Bytes, new byte[65_534]);
        Assert.True(writer.Overflowed);

        writer = new PropertyWriter(_memory.AtEnd(70_000));
        writer.Header("k", PropertyType.Bytes, new byte[65_533]);
        AssertReads(writer.Written, [new Property(PropertyTag.Header, PropertyType.Bytes, "k", new byte[65_533])], isMalformed: false);
    }

    private static void Write(ref PropertyWriter writer, Property[] properties)
    {
        foreach (Property property in properties)
        {
            if (property.Tag != PropertyTag.Header)
            {
                writer.Text(property.Tag, Encoding.UTF8.GetString(property.Value));
            }
            else
            {
                writer.Header(property.Key, property.Type, property.Value);
            }
        }
    }

    private static byte[] TextOf(Property[] properties)
    {
        PropertyWriter writer = new(new byte[properties.Sum(property => property.Bytes)]);
        Write(ref writer, properties);
        return writer.Written.ToArray();
    }

    private static void AssertReads(ReadOnlySpan<byte> text, Property[] properties, bool isMalformed)
    {
        PropertyReader reader = new(text);
        foreach (Property property in properties)
        {
            Assert.True(reader.Next());
            Assert.Equal((property.Tag, property.Type, property.Key), (reader.Tag, reader.Type, Encoding.UTF8.GetString(reader.Key)));
            Assert.Equal(property.Value, reader.Value.ToArray());
        }

        Assert.False(reader.Next());
        Assert.Equal(isMalformed, reader.IsMalformed);
        Assert.Equal(!isMalformed, PropertyReader.AreValid(text));
    }
}
