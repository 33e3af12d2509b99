using System.Text;
using FastQ.Protocol;
using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace FastQ.Client;

// Headers keep their type on their way, whoever wrote them.
public sealed class HeaderValueTests
{
    private static readonly DateTimeOffset s_moment = new(2026, 11, 29, 12, 0, 0, 250, 125, TimeSpan.FromHours(1));

    private static readonly Gen<string> s_text = from length in Gen.Choose(0, 9) from letters in Gen.Elements("a", "Z", "-", "é", "本", "📚").ArrayOf(length) select string.Concat(letters);

    private static readonly Gen<byte[]> s_bytes = from length in Gen.Choose(0, 40) from bytes in Gen.Choose(0, 255).Select(value => (byte)value).ArrayOf(length) select bytes;

    private static Gen<HeaderValue> Values(int levels)
    {
        Gen<HeaderValue> plain = Gen.OneOf(
            s_text.Select(text => (HeaderValue)text),
            Gen.Elements(true, false).Select(value => (HeaderValue)value),
            Gen.Elements(0, -1, 7, long.MinValue, long.MaxValue).Select(number => (HeaderValue)number),
            Gen.Elements(0.0, -0.1, double.NaN, double.NegativeInfinity, double.Epsilon).Select(number => (HeaderValue)number),
            s_bytes.Select(bytes => (HeaderValue)bytes),
            Gen.Elements(s_moment, DateTimeOffset.MinValue, DateTimeOffset.MaxValue, DateTimeOffset.UnixEpoch).Select(moment => (HeaderValue)moment));
        return levels == 0
            ? plain
            : Gen.OneOf(
                plain,
                Several(Values(levels - 1)).Select(values => HeaderValue.ListOf(values)),
                Several(from key in s_text from value in Values(levels - 1) select KeyValuePair.Create(key + "k", value)).Select(pairs => HeaderValue.TableOf(pairs.DistinctBy(pair => pair.Key))));
    }

    private static Gen<T[]> Several<T>(Gen<T> one) => Gen.Choose(0, 5).SelectMany(count => one.ArrayOf(count));

    [Fact]
    public void Headers_of_any_type_and_depth_are_read_as_they_were_written()
    {
        Prop.ForAll(Arb.From(Several(Values(3))), values =>
        {
            Dictionary<string, HeaderValue> headers = values.Select((value, index) => KeyValuePair.Create($"header {index}", value)).ToDictionary();
            Dictionary<string, HeaderValue> read = HeaderValue.ReadAll(new PublishOptions { Headers = headers }.ToBytes());
            Assert.Equal(headers, read);
            Assert.All(headers, pair => Assert.Equal((pair.Value.GetHashCode(), pair.Value.ToString(), pair.Value.Type, false), (read[pair.Key].GetHashCode(), read[pair.Key].ToString(), read[pair.Key].Type, read[pair.Key].IsRaw)));
        }).Check(Config(300, 31));
    }

    [Fact]
    public void Any_bytes_are_a_value_and_go_on_as_they_came_where_they_have_not_the_form_of_their_type()
    {
        Gen<byte[]> written = Values(3).Select(value => BytesOf(value));
        Gen<byte[]> damaged = from bytes in written from at in Gen.Choose(0, 1 << 20) from value in Gen.Choose(0, 255) select Overwrite(bytes, at, (byte)value);
        Prop.ForAll(Arb.From(from bytes in Gen.OneOf(s_bytes, written, damaged) from type in Gen.Choose(0, 9) select (Type: (PropertyType)type, bytes)), sent =>
        {
            HeaderValue value = HeaderValue.Read(sent.Type, sent.bytes);
            Assert.Equal(sent.Type, value.Type);
            Assert.NotNull(value.ToString());
            Assert.Equal(value, HeaderValue.Read(value.Type, BytesOf(value)));
            if (value.IsRaw)
            {
                Assert.Equal(sent.bytes, value.AsBytes!.Value.ToArray());
                Assert.Equal(sent.bytes, BytesOf(value));
                Assert.True(value is { AsText: null, AsBoolean: null, AsInt64: null, AsDouble: null, AsTimestamp: null, AsList: null, AsTable: null });
            }
        }).Check(Config(3000, 32));
    }

    [Theory]
    [InlineData(PropertyType.Boolean, new byte[] { })]
    [InlineData(PropertyType.Boolean, new byte[] { 2 })]
    [InlineData(PropertyType.Boolean, new byte[] { 1, 0 })]
    [InlineData(PropertyType.Int64, new byte[] { 1, 2, 3, 4, 5, 6, 7 })]
    [InlineData(PropertyType.Double, new byte[] { 1, 2, 3, 4, 5, 6, 7, 8, 9 })]
    [InlineData(PropertyType.Timestamp, new byte[] { })]
    [InlineData(PropertyType.Timestamp, new byte[] { 255, 255, 255, 255, 255, 255, 255, 127 })] // the year 294,247
    [InlineData(PropertyType.Timestamp, new byte[] { 0, 0, 0, 0, 0, 0, 0, 128 })]
    [InlineData(PropertyType.List, new byte[] { 1, 2, 0, 1 })]
    [InlineData(PropertyType.Table, new byte[] { 0, 1, 1, 0, 1 })]
    [InlineData((PropertyType)200, new byte[] { 7 })]
    public void What_has_not_the_form_of_its_type_is_shown_as_it_came(PropertyType type, byte[] sent)
    {
        HeaderValue value = HeaderValue.Read(type, sent);
        Assert.True(value.IsRaw);
        Assert.Equal((type, Convert.ToBase64String(sent)), (value.Type, value.ToString()));
        Assert.Equal(sent, value.AsBytes!.Value.ToArray());
    }

    [Fact]
    public void Each_type_is_told_by_what_it_was_made_from_and_gives_only_that()
    {
        HeaderValue[] values = ["blue", true, 7, 7.0, new byte[] { 1, 2 }, s_moment, HeaderValue.ListOf(1, "two"), new Dictionary<string, HeaderValue> { ["a"] = 1 }];
        Assert.Equal(Enum.GetValues<PropertyType>(), values.Select(value => value.Type));
        foreach (HeaderValue value in values)
        {
            object?[] views = [value.AsText, value.AsBoolean, value.AsInt64, value.AsDouble, value.AsBytes, value.AsTimestamp, value.AsList, value.AsTable];
            Assert.Equal((int)value.Type, Array.FindIndex(views, view => view is not null));
            Assert.Single(views, view => view is not null);
        }

        Assert.Equal(("blue", true, 7L, 7.0), (values[0].AsText, values[1].AsBoolean, values[2].AsInt64, values[3].AsDouble));
        Assert.Equal([1, 2], values[4].AsBytes!.Value.ToArray());
        Assert.Equal(s_moment, values[5].AsTimestamp);
        Assert.Equal([1, "two"], values[6].AsList!);
        Assert.Equal(1, values[7].AsTable!["a"]);
        Assert.Equal("blue|true|7|7|AQI=|2026-11-29T11:00:00.2501250Z|[1, two]|{a: 1}", string.Join('|', values));
    }

    [Fact]
    public void Values_are_equal_when_type_and_content_are()
    {
        HeaderValue table = new Dictionary<string, HeaderValue> { ["a"] = 1, ["b"] = HeaderValue.ListOf("x") };
        HeaderValue turned = new Dictionary<string, HeaderValue> { ["b"] = HeaderValue.ListOf("x"), ["a"] = 1 };
        Assert.True(table == turned && table.GetHashCode() == turned.GetHashCode());
        Assert.True((HeaderValue)"" == default && (HeaderValue)double.NaN == double.NaN && (HeaderValue)0.0 == -0.0);
        (HeaderValue, HeaderValue)[] different = [(7, 7.0), ("7", 7), (true, 1), (s_moment, s_moment.AddMicroseconds(1)), (HeaderValue.ListOf(1, 2), HeaderValue.ListOf(2, 1)), (table, HeaderValue.TableOf([])), ("ab", "ab"u8.ToArray())];
        Assert.All(different, pair => Assert.True(pair.Item1 != pair.Item2));
    }

    [Fact]
    public void A_value_keeps_what_it_was_made_from_when_that_changes()
    {
        (byte[] bytes, HeaderValue[] list, Dictionary<string, HeaderValue> table) = ([1], [1], new() { ["a"] = 1 });
        HeaderValue[] values = [bytes, new ReadOnlyMemory<byte>(bytes), list, table];
        (bytes[0], list[0], table["a"]) = (2, 2, 2);
        HeaderValue[] wanted = [new byte[] { 1 }, new byte[] { 1 }, HeaderValue.ListOf(1), new Dictionary<string, HeaderValue> { ["a"] = 1 }];
        Assert.Equal(wanted, values);
    }

    [Fact]
    public void Lists_and_tables_lie_sixteen_deep_and_what_is_deeper_is_not_sent_and_not_read()
    {
        PublishOptions deepest = new() { Headers = new() { ["k"] = Nested(Limits.MaxValueDepth) } };
        Assert.Equal(deepest.Headers, HeaderValue.ReadAll(deepest.ToBytes()));
        FastQException tooDeep = Assert.Throws<FastQException>(() => new PublishOptions { Headers = new() { ["k"] = Nested(Limits.MaxValueDepth + 1) } }.ToBytes());
        Assert.Equal(RefusalCode.BadArgument, tooDeep.Code);
        Assert.Contains("'k' lie more than 16 deep", tooDeep.Message, StringComparison.Ordinal);

        // Somebody else's library may send it: thousands of levels end where the sixteenth does.
        byte[] text = [];
        for (int level = 0; level < 5000; level++)
        {
            text = [(byte)PropertyType.List, (byte)text.Length, (byte)(text.Length >> 8), .. text];
        }

        HeaderValue value = HeaderValue.Read(PropertyType.List, text);
        for (int level = 1; level <= Limits.MaxValueDepth; level++)
        {
            Assert.False(value.IsRaw);
            value = Assert.Single(value.AsList!);
        }

        Assert.True(value.IsRaw);
        Assert.Equal(PropertyType.List, value.Type);
    }

    [Fact]
    public void What_does_not_fit_or_lacks_a_key_is_refused_with_the_headers_name()
    {
        HeaderValue[] wrong = [HeaderValue.ListOf(new byte[Limits.MaxPropertyBytes]), new Dictionary<string, HeaderValue> { [""] = 1 }, new Dictionary<string, HeaderValue> { [new string('k', 256)] = 1 }];
        foreach (HeaderValue value in wrong)
        {
            FastQException refused = Assert.Throws<FastQException>(() => new PublishOptions { Headers = new() { ["wrong"] = value } }.ToBytes());
            Assert.Equal(RefusalCode.TooLarge, refused.Code);
            Assert.Contains("'wrong'", refused.Message, StringComparison.Ordinal);
        }

        Assert.Throws<ArgumentNullException>(() => (HeaderValue)(string)null!);
    }

    private static HeaderValue Nested(int levels) => levels == 0 ? "inmost" : levels % 2 == 0 ? HeaderValue.ListOf(Nested(levels - 1)) : HeaderValue.TableOf([KeyValuePair.Create("k", Nested(levels - 1))]);

    /// <summary>The value as it stands in the properties.</summary>
    private static byte[] BytesOf(HeaderValue value)
    {
        PropertyReader reader = new(new PublishOptions { Headers = new() { ["k"] = value } }.ToBytes());
        Assert.True(reader.Next());
        Assert.Equal("k", Encoding.UTF8.GetString(reader.Key));
        return reader.Value.ToArray();
    }

    private static byte[] Overwrite(byte[] bytes, int at, byte value)
    {
        byte[] damaged = [.. bytes];
        if (damaged.Length > 0)
        {
            damaged[at % damaged.Length] = value;
        }

        return damaged;
    }

    private static Config Config(int tests, ulong seed) => FsCheck.Config.QuickThrowOnFailure.WithMaxTest(tests).WithReplay(seed, 104729);
}
