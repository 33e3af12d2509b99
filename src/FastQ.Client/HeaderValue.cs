using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>A value of a header, which keeps its type on its way: text, a boolean, a 64-bit integer, a double, bytes, a moment, a list or a table of such values. Immutable; any thread.</summary>
/// <remarks>Made by conversion: <c>Headers = new() { ["colour"] = "blue", ["count"] = 7, ["sizes"] = HeaderValue.ListOf(1, 2) }</c>. What another program sent in a form that its type does not have is kept as it came: <see cref="IsRaw"/>.</remarks>
public readonly struct HeaderValue : IEquatable<HeaderValue>
{
    private static readonly long s_leastMicros = (DateTimeOffset.MinValue - DateTimeOffset.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;
    private static readonly long s_mostMicros = (DateTimeOffset.MaxValue - DateTimeOffset.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;
    private readonly long _number; // A boolean, an integer, the bits of a double, microseconds since 1970.
    private readonly object? _content; // A string, byte[], HeaderValue[] or Dictionary; null beside a number, and of an empty text.

    private HeaderValue(PropertyType type, long number) => (Type, _number) = (type, number);

    private HeaderValue(PropertyType type, object content, bool isRaw = false)
    {
        ArgumentNullException.ThrowIfNull(content);
        (Type, _content, IsRaw) = (type, content, isRaw);
    }

    /// <summary>What it is. Text, empty, of one that nobody set.</summary>
    public PropertyType Type { get; }

    /// <summary>Its bytes have not the form of its type, or its type is none that this library knows: <see cref="AsBytes"/> gives what came. Sent again, it is the same.</summary>
    public bool IsRaw { get; }

    /// <summary>The text; null of another type. The others likewise.</summary>
    public string? AsText => Is(PropertyType.Text) ? (string?)_content ?? "" : null;

    public bool? AsBoolean => Is(PropertyType.Boolean) ? _number != 0 : null;

    public long? AsInt64 => Is(PropertyType.Int64) ? _number : null;

    public double? AsDouble => Is(PropertyType.Double) ? BitConverter.Int64BitsToDouble(_number) : null;

    /// <summary>The bytes; of a raw value those that came, whatever its type.</summary>
    public ReadOnlyMemory<byte>? AsBytes => IsRaw || Type == PropertyType.Bytes ? (byte[])_content! : (ReadOnlyMemory<byte>?)null; // A bare null would be an empty memory.

    /// <summary>The moment, in UTC, to the microsecond.</summary>
    public DateTimeOffset? AsTimestamp => Is(PropertyType.Timestamp) ? DateTimeOffset.UnixEpoch.AddTicks(_number * TimeSpan.TicksPerMicrosecond) : null;

    public IReadOnlyList<HeaderValue>? AsList => Is(PropertyType.List) ? (HeaderValue[])_content! : null;

    public IReadOnlyDictionary<string, HeaderValue>? AsTable => Is(PropertyType.Table) ? (Dictionary<string, HeaderValue>)_content! : null;

    public static implicit operator HeaderValue(string text) => new(PropertyType.Text, text);

    public static implicit operator HeaderValue(bool value) => new(PropertyType.Boolean, value ? 1 : 0);

    public static implicit operator HeaderValue(long number) => new(PropertyType.Int64, number);

    public static implicit operator HeaderValue(double number) => new(PropertyType.Double, BitConverter.DoubleToInt64Bits(number));

    /// <summary>A copy of the bytes.</summary>
    public static implicit operator HeaderValue(byte[] bytes) => new(PropertyType.Bytes, (object)((ReadOnlySpan<byte>)bytes).ToArray());

    /// <summary>A copy of the bytes.</summary>
    public static implicit operator HeaderValue(ReadOnlyMemory<byte> bytes) => new(PropertyType.Bytes, (object)bytes.ToArray());

    /// <summary>A moment to the microsecond; the offset is not kept.</summary>
    public static implicit operator HeaderValue(DateTimeOffset moment) => new(PropertyType.Timestamp, (moment - DateTimeOffset.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond);

    /// <inheritdoc cref="ListOf"/>
    public static implicit operator HeaderValue(HeaderValue[] values) => ListOf(values);

    /// <inheritdoc cref="TableOf"/>
    public static implicit operator HeaderValue(Dictionary<string, HeaderValue> values) => TableOf(values);

    public static bool operator ==(HeaderValue left, HeaderValue right) => left.Equals(right);

    public static bool operator !=(HeaderValue left, HeaderValue right) => !left.Equals(right);

    /// <summary>A list, which keeps its own copy.</summary>
    /// <param name="values">Of any types; lists and tables lie within one another up to <see cref="Limits.MaxValueDepth"/> deep when they are sent.</param>
    public static HeaderValue ListOf(params ReadOnlySpan<HeaderValue> values) => new(PropertyType.List, (object)values.ToArray());

    /// <summary>A table, which keeps its own copy. Its keys have 1 to 255 bytes of UTF-8 when it is sent.</summary>
    /// <param name="values">As in <see cref="ListOf"/>.</param>
    public static HeaderValue TableOf(IEnumerable<KeyValuePair<string, HeaderValue>> values) => new(PropertyType.Table, new Dictionary<string, HeaderValue>(values));

    /// <summary>Of the same type and value. Tables are equal in any order.</summary>
    public bool Equals(HeaderValue other) => Type == other.Type && IsRaw == other.IsRaw && (_content, other._content) switch
    {
        (byte[] mine, byte[] theirs) => mine.AsSpan().SequenceEqual(theirs),
        (HeaderValue[] mine, HeaderValue[] theirs) => mine.AsSpan().SequenceEqual(theirs),
        (Dictionary<string, HeaderValue> mine, Dictionary<string, HeaderValue> theirs) => mine.Count == theirs.Count && mine.All(pair => theirs.TryGetValue(pair.Key, out HeaderValue value) && value == pair.Value),
        _ when Type == PropertyType.Text => AsText == other.AsText,
        _ when Type == PropertyType.Double => AsDouble.Equals(other.AsDouble),
        _ => _number == other._number,
    };

    public override bool Equals(object? obj) => obj is HeaderValue other && Equals(other);

    public override int GetHashCode()
    {
        HashCode hash = default;
        hash.Add(Type);
        switch (_content)
        {
            case byte[] bytes:
                hash.AddBytes(bytes);
                break;
            case HeaderValue[] list:
                Array.ForEach(list, value => hash.Add(value));
                break;
            case Dictionary<string, HeaderValue> table:
                hash.Add(table.Aggregate(0, (all, pair) => all ^ HashCode.Combine(pair.Key, pair.Value)));
                break;
            default:
                hash.Add(Type switch { PropertyType.Text => AsText!.GetHashCode(StringComparison.Ordinal), PropertyType.Double => AsDouble!.Value.GetHashCode(), _ => _number.GetHashCode() });
                break;
        }

        return hash.ToHashCode();
    }

    /// <summary>For people: a text as it is, bytes in base64, moments as in ISO 8601, lists in square brackets, tables in curly ones.</summary>
    public override string ToString() => _content switch
    {
        byte[] bytes => Convert.ToBase64String(bytes),
        HeaderValue[] list => $"[{string.Join(", ", list)}]",
        Dictionary<string, HeaderValue> table => $"{{{string.Join(", ", table.Select(pair => $"{pair.Key}: {pair.Value}"))}}}",
        _ => Type switch
        {
            PropertyType.Boolean => _number != 0 ? "true" : "false",
            PropertyType.Int64 => _number.ToString(CultureInfo.InvariantCulture),
            PropertyType.Double => AsDouble!.Value.ToString(CultureInfo.InvariantCulture),
            PropertyType.Timestamp => AsTimestamp!.Value.UtcDateTime.ToString("O", CultureInfo.InvariantCulture),
            _ => AsText!,
        },
    };

    /// <summary>Reads a value of any origin. Never fails: what it cannot read is raw.</summary>
    /// <param name="type">As it stands before the value.</param>
    /// <param name="value">Its bytes.</param>
    public static HeaderValue Read(PropertyType type, ReadOnlySpan<byte> value) => Read(type, value, Limits.MaxValueDepth);

    /// <summary>The headers among a message's properties; of a key that repeats the last.</summary>
    internal static Dictionary<string, HeaderValue> ReadAll(ReadOnlySpan<byte> properties)
    {
        Dictionary<string, HeaderValue> headers = [];
        PropertyReader reader = new(properties);
        while (reader.Next())
        {
            if (reader.Tag == PropertyTag.Header)
            {
                headers[Encoding.UTF8.GetString(reader.Key)] = Read(reader.Type, reader.Value);
            }
        }

        return headers;
    }

    /// <summary>Writes it as a header.</summary>
    /// <param name="writer">Overflows where it does not fit.</param>
    /// <param name="key">The header's.</param>
    /// <param name="room">Of <see cref="Limits.MaxPropertyBytes"/>, to write lists and tables in first.</param>
    /// <exception cref="FastQException">Lists and tables lie too deep within one another, or have a key that is empty or too long, or do not fit.</exception>
    internal void Write(ref PropertyWriter writer, string key, Span<byte> room)
    {
        if (AsText is string text)
        {
            writer.Header(key, text);
            return;
        }

        if (AsList is null && AsTable is null)
        {
            writer.Header(key, Type, PlainBytes());
            return;
        }

        ValueWriter values = new(room);
        WriteInner(ref values, Limits.MaxValueDepth, key);
        if (values.Overflowed)
        {
            throw new FastQException(RefusalCode.TooLarge, $"The header '{key}' does not fit, or a key in it has not 1 to 255 bytes", Limits.MaxPropertyBytes);
        }

        writer.Header(key, Type, values.Written);
    }

    private static HeaderValue Read(PropertyType type, ReadOnlySpan<byte> value, int levels) => type switch
    {
        PropertyType.Text => Encoding.UTF8.GetString(value),
        PropertyType.Boolean when value is [0 or 1] => value[0] == 1,
        PropertyType.Int64 when value.Length == sizeof(long) => BinaryPrimitives.ReadInt64LittleEndian(value),
        PropertyType.Double when value.Length == sizeof(double) => BinaryPrimitives.ReadDoubleLittleEndian(value),
        PropertyType.Bytes => new HeaderValue(type, (object)value.ToArray()),
        PropertyType.Timestamp when value.Length == sizeof(long) && BinaryPrimitives.ReadInt64LittleEndian(value) is long micros && micros >= s_leastMicros && micros <= s_mostMicros => new HeaderValue(type, micros),
        PropertyType.List when levels > 0 && TryReadList(value, levels - 1, out HeaderValue list) => list,
        PropertyType.Table when levels > 0 && TryReadTable(value, levels - 1, out HeaderValue table) => table,
        _ => new HeaderValue(type, value.ToArray(), isRaw: true),
    };

    private static bool TryReadList(ReadOnlySpan<byte> text, int levels, out HeaderValue value)
    {
        List<HeaderValue> list = [];
        ValueReader reader = new(text, PropertyType.List);
        while (reader.Next())
        {
            list.Add(Read(reader.Type, reader.Value, levels));
        }

        value = new HeaderValue(PropertyType.List, (object)list.ToArray());
        return !reader.IsMalformed;
    }

    private static bool TryReadTable(ReadOnlySpan<byte> text, int levels, out HeaderValue value)
    {
        Dictionary<string, HeaderValue> table = [];
        ValueReader reader = new(text, PropertyType.Table);
        while (reader.Next())
        {
            table[Encoding.UTF8.GetString(reader.Key)] = Read(reader.Type, reader.Value, levels);
        }

        value = new HeaderValue(PropertyType.Table, table);
        return !reader.IsMalformed;
    }

    /// <summary>Writes what stands in this list or table, which may have so many levels with itself.</summary>
    private void WriteInner(ref ValueWriter writer, int levels, string header)
    {
        if (levels == 0)
        {
            throw new FastQException(RefusalCode.BadArgument, $"Lists and tables in the header '{header}' lie more than {Limits.MaxValueDepth} deep within one another");
        }

        foreach (HeaderValue value in AsList ?? [])
        {
            int start = writer.Begin(value.Type);
            value.WriteContent(ref writer, levels - 1, header);
            writer.End(start);
        }

        foreach ((string key, HeaderValue value) in AsTable ?? new Dictionary<string, HeaderValue>())
        {
            int start = writer.Begin(key, value.Type);
            value.WriteContent(ref writer, levels - 1, header);
            writer.End(start);
        }
    }

    private void WriteContent(ref ValueWriter writer, int levels, string header)
    {
        if (AsList is not null || AsTable is not null)
        {
            WriteInner(ref writer, levels, header);
        }
        else
        {
            writer.Raw(PlainBytes());
        }
    }

    /// <summary>The bytes of what is no list and no table.</summary>
    private byte[] PlainBytes() => (_content, Type) switch
    {
        (byte[] bytes, _) => bytes,
        (_, PropertyType.Text) => Encoding.UTF8.GetBytes(AsText!),
        (_, PropertyType.Boolean) => [(byte)_number],
        _ => BitConverter.GetBytes(_number),
    };

    private bool Is(PropertyType type) => Type == type && !IsRaw;
}
