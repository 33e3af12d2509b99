using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace FastQ.Protocol;

public sealed class ValuesTests : IDisposable
{
    private readonly Guarded _memory = new();

    /// <summary>A value; of a list or a table: what it holds, with a key each in a table.</summary>
    private sealed record Value(PropertyType Type, string Key, byte[] Bytes, Value[] Inner)
    {
        public bool HoldsValues => Type is PropertyType.List or PropertyType.Table;

        public int HeadBytes(PropertyType of) => (of == PropertyType.Table ? 1 + Encoding.UTF8.GetByteCount(Key) : 0) + 3;

        public int BodyBytes => HoldsValues ? Inner.Sum(inner => inner.HeadBytes(Type) + inner.BodyBytes) : Bytes.Length;
    }

    private static readonly Gen<string> s_key =
        from length in Gen.Choose(1, 9)
        from letters in Gen.Elements("a", "Z", "-", "é", "本", "📚").ArrayOf(length)
        select string.Concat(letters);

    private static Gen<Value> Values(int levels)
    {
        Gen<Value> plain = from type in Gen.Elements(0, 1, 2, 3, 4, 5, 8, 255) from key in s_key from bytes in Generators.Bytes select new Value((PropertyType)type, key, bytes, []);
        return levels == 0 ? plain : Gen.OneOf(plain, from type in Gen.Elements(PropertyType.List, PropertyType.Table) from key in s_key from inner in Generators.Several(Values(levels - 1)) select new Value(type, key, [], inner));
    }

    private static readonly Gen<Value> s_nested = from type in Gen.Elements(PropertyType.List, PropertyType.Table) from inner in Generators.Several(Values(3)) select new Value(type, "", [], inner);

    public void Dispose() => _memory.Dispose();

    [Fact]
    public void Values_within_values_are_read_as_they_were_written_in_room_that_just_suffices()
    {
        Prop.ForAll(Arb.From(s_nested), value =>
        {
            ValueWriter writer = new(_memory.AtEnd(value.BodyBytes));
            Write(ref writer, value);
            Assert.False(writer.Overflowed);
            Assert.Equal(value.BodyBytes, writer.Length);
            AssertReads(value, writer.Written);
        }).Check(Generators.Config(300, 21));
    }

    [Fact]
    public void What_does_not_fit_is_said_and_nothing_is_written_beyond_the_room()
    {
        Prop.ForAll(Arb.From(from value in s_nested from cut in Gen.Choose(1, 100) select (value, cut)), world =>
        {
            int room = Math.Max(0, world.value.BodyBytes - world.cut);
            ValueWriter writer = new(_memory.AtEnd(room));
            Write(ref writer, world.value);
            Assert.Equal(world.value.BodyBytes > room, writer.Overflowed);
        }).Check(Generators.Config(300, 22));
    }

    [Fact]
    public void Any_bytes_are_walked_within_them_and_get_a_verdict()
    {
        Gen<byte[]> whole = s_nested.Select(TextOf);
        Prop.ForAll(Arb.From(from bytes in Gen.OneOf(Generators.Bytes, Generators.Damaged(whole)) from type in Gen.Elements(PropertyType.List, PropertyType.Table) select (bytes, type)), world =>
        {
            ValueReader reader = new(_memory.AtEnd(world.bytes), world.type);
            int read = 0;
            while (reader.Next())
            {
                Assert.Equal(world.type == PropertyType.Table, !reader.Key.IsEmpty);
                read += (world.type == PropertyType.Table ? 1 + reader.Key.Length : 0) + 3 + reader.Value.Length;
                Assert.Equal(world.bytes[(read - reader.Value.Length)..read], reader.Value.ToArray());
            }

            // What it stopped at has no key, or reaches beyond the end.
            int head = world.type == PropertyType.Table && read < world.bytes.Length ? 1 + world.bytes[read] : 0;
            bool isCut = read + head + 3 > world.bytes.Length || read + head + 3 + world.bytes[read + head + 1] + 256 * world.bytes[read + head + 2] > world.bytes.Length;
            Assert.Equal(read != world.bytes.Length, reader.IsMalformed);
            Assert.Equal(read != world.bytes.Length, (isCut || head == 1) && read != world.bytes.Length);
            Assert.False(reader.Next());
        }).Check(Generators.Config(2000, 23));
    }

    [Theory]
    [InlineData(PropertyType.List, true, new byte[] { })]
    [InlineData(PropertyType.List, true, new byte[] { 1, 1, 0, 1, 0, 0, 0 })] // true, and an empty text
    [InlineData(PropertyType.List, false, new byte[] { 1, 2, 0, 1 })] // cut short
    [InlineData(PropertyType.List, false, new byte[] { 1, 0 })]
    [InlineData(PropertyType.Table, true, new byte[] { })]
    [InlineData(PropertyType.Table, true, new byte[] { 1, 0x6B, 1, 1, 0, 1 })] // k: true
    [InlineData(PropertyType.Table, false, new byte[] { 0, 1, 1, 0, 1 })] // an empty key
    [InlineData(PropertyType.Table, false, new byte[] { 200, 0x6B, 1, 1, 0, 1 })] // a key that would end behind the table
    [InlineData(PropertyType.Table, false, new byte[] { 1, 0x6B, 1, 2, 0, 1 })]
    [InlineData(PropertyType.Table, false, new byte[] { 1 })]
    public void A_list_has_values_and_a_table_keys_and_values_to_their_last_byte(PropertyType type, bool isWhole, byte[] text)
    {
        ValueReader reader = new(_memory.AtEnd(text), type);
        while (reader.Next())
        {
        }

        Assert.Equal(isWhole, !reader.IsMalformed);
    }

    [Fact]
    public void A_value_of_a_table_without_a_key_or_with_one_of_more_than_255_bytes_is_not_written()
    {
        foreach ((string key, bool fits) in new[] { ("", false), ("k", true), (new string('k', 255), true), (new string('k', 256), false), (new string('é', 127), true), (new string('é', 128), false) })
        {
            ValueWriter value = new(_memory.AtEnd(300));
            value.Value(key, PropertyType.Boolean, [1]);
            ValueWriter list = new(_memory.AtEnd(300));
            list.End(list.Begin(key, PropertyType.List));
            Assert.Equal((!fits, !fits), (value.Overflowed, list.Overflowed));
        }
    }

    [Fact]
    public void What_is_longer_than_its_length_can_say_is_not_written()
    {
        foreach (int bytes in (int[])[65_535, 65_536])
        {
            ValueWriter value = new(_memory.AtEnd(70_000));
            value.Value(PropertyType.Bytes, new byte[bytes]);
            ValueWriter list = new(_memory.AtEnd(70_000));
            int start = list.Begin(PropertyType.List);
            list.Value(PropertyType.Bytes, new byte[bytes - 3]);
            list.End(start);
            Assert.Equal((bytes == 65_536, bytes == 65_536), (value.Overflowed, list.Overflowed));
        }
    }

    private static byte[] TextOf(Value value)
    {
        ValueWriter writer = new(new byte[value.BodyBytes]);
        Write(ref writer, value);
        return writer.Written.ToArray();
    }

    private static void Write(ref ValueWriter writer, Value of)
    {
        foreach (Value value in of.Inner)
        {
            bool isInTable = of.Type == PropertyType.Table;
            if (value.HoldsValues)
            {
                int start = isInTable ? writer.Begin(value.Key, value.Type) : writer.Begin(value.Type);
                Write(ref writer, value);
                writer.End(start);
            }
            else if (isInTable)
            {
                writer.Value(value.Key, value.Type, value.Bytes);
            }
            else
            {
                writer.Value(value.Type, value.Bytes);
            }
        }
    }

    private static void AssertReads(Value of, ReadOnlySpan<byte> text)
    {
        ValueReader reader = new(text, of.Type);
        foreach (Value value in of.Inner)
        {
            Assert.True(reader.Next());
            Assert.Equal((value.Type, of.Type == PropertyType.Table ? value.Key : ""), (reader.Type, Encoding.UTF8.GetString(reader.Key)));
            if (value.HoldsValues)
            {
                AssertReads(value, reader.Value);
            }
            else
            {
                Assert.Equal(value.Bytes, reader.Value.ToArray());
            }
        }

        Assert.False(reader.Next());
        Assert.False(reader.IsMalformed);
    }
}
