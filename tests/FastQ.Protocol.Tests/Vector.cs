using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;

namespace FastQ.Protocol;

// A byte vector: bytes with words beside them, for every implementer's tests (tests/vectors/README.md).
//
//   # Settle: accepts 7 deliveries             the first lines say what it is
//   28 00 00 00                # LengthBytes 40
//   02                         # Kind 2 Settle
//   |<- bytes in memory's  ->| |<- for people: the name, then the value ->|

/// <summary>Writes a vector's text.</summary>
internal sealed class Vector(string about)
{
    private const int BytesPerLine = 8;
    private readonly List<byte> _bytes = [];
    private readonly StringBuilder _text = new($"# {about}\n");

    public byte[] Bytes => [.. _bytes];

    public string Text => _text.ToString();

    /// <summary>A struct, a line for each field.</summary>
    public Vector Struct<T>(T value)
        where T : unmanaged
    {
        byte[] bytes = MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value)).ToArray();
        foreach (FieldPlace place in Layout.Of<T>().Fields)
        {
            object field = typeof(T).GetField(place.Name)!.GetValue(value)!;
            string number = field.GetType().IsEnum ? $"{((Enum)field).ToString("D")} {field}" : Convert.ToString(field, CultureInfo.InvariantCulture)!;
            Line(bytes.AsSpan(place.Offset, place.Bytes), $"{place.Name} {number}");
        }

        return this;
    }

    /// <summary>The header of a message on the socket.</summary>
    public Vector Frame(HandshakeKind kind)
    {
        byte[] header = new byte[Handshake.HeaderBytes];
        Handshake.WriteHeader(header, kind);
        return Line(header.AsSpan(0, 4), $"magic {Handshake.Magic}").Line(header.AsSpan(4, 2), $"kind {(int)kind} {kind}").Line(header.AsSpan(6, 2), "zero 0");
    }

    /// <summary>Fields, two lines each.</summary>
    public Vector Fields(ReadOnlySpan<byte> text)
    {
        FieldReader reader = new(text);
        while (reader.Next())
        {
            Line(BitConverter.GetBytes((ushort)reader.Tag), $"tag {(int)reader.Tag} {reader.Tag}").Line(BitConverter.GetBytes((ushort)reader.Value.Length), $"length {reader.Value.Length}");
            Line(reader.Value, IsText(reader.Tag) ? $"text {reader.Text}" : reader.Value.Length == 8 ? $"number {reader.Number}" : "bytes");
        }

        return this;
    }

    /// <summary>Properties of a message.</summary>
    public Vector Properties(ReadOnlySpan<byte> text)
    {
        PropertyReader reader = new(text);
        while (reader.Next())
        {
            bool isHeader = reader.Tag == PropertyTag.Header;
            int length = reader.Value.Length + (isHeader ? 1 + reader.Key.Length : 0);
            Line([(byte)reader.Tag], $"tag {(int)reader.Tag} {reader.Tag}").Line([(byte)reader.Type], $"type {(int)reader.Type} {reader.Type}").Line(BitConverter.GetBytes((ushort)length), $"length {length}");
            if (isHeader)
            {
                Line([(byte)reader.Key.Length], $"keyLength {reader.Key.Length}").Line(reader.Key, $"key {Encoding.UTF8.GetString(reader.Key)}");
            }

            Value(reader.Type, reader.Value);
        }

        return this;
    }

    /// <summary>A value of its type: of a list or a table what stands in it.</summary>
    public Vector Value(PropertyType type, ReadOnlySpan<byte> value)
    {
        if (type is not (PropertyType.List or PropertyType.Table))
        {
            return Line(value, WordOf(type, value));
        }

        ValueReader reader = new(value, type);
        while (reader.Next())
        {
            if (type == PropertyType.Table)
            {
                Line([(byte)reader.Key.Length], $"keyLength {reader.Key.Length}").Line(reader.Key, $"key {Encoding.UTF8.GetString(reader.Key)}");
            }

            Line([(byte)reader.Type], $"type {(int)reader.Type} {reader.Type}").Line(BitConverter.GetBytes((ushort)reader.Value.Length), $"length {reader.Value.Length}");
            Value(reader.Type, reader.Value);
        }

        return this;
    }

    /// <summary>Bytes with a word for them.</summary>
    public Vector Line(ReadOnlySpan<byte> bytes, string word)
    {
        _bytes.AddRange(bytes);
        for (int at = 0; at < bytes.Length; at += BytesPerLine)
        {
            string hex = Hex(bytes[at..Math.Min(bytes.Length, at + BytesPerLine)]);
            _text.Append(at == 0 ? $"{hex.PadRight(3 * BytesPerLine)} # {word}" : hex).Append('\n');
        }

        return this;
    }

    /// <summary>Zeroes to the next multiple of 8: where the next record of a ring begins.</summary>
    public Vector Padding() => Line(new byte[Limits.Align(_bytes.Count) - _bytes.Count], "padding");

    /// <summary>The bytes of a vector's text.</summary>
    public static byte[] Parse(string text) => [.. text.Split('\n').SelectMany(line => Convert.FromHexString(line.Split('#')[0].Replace(" ", "", StringComparison.Ordinal)))];

    private static string Hex(ReadOnlySpan<byte> bytes) => string.Join(' ', bytes.ToArray().Select(value => value.ToString("x2", CultureInfo.InvariantCulture)));

    private static bool IsText(FieldTag tag) => Page.Table("enum FieldTag").Rows.Single(row => row[1] == tag.ToString())[2] == "text" || tag == FieldTag.Json;

    private static string WordOf(PropertyType type, ReadOnlySpan<byte> value) => type switch
    {
        PropertyType.Text => $"text {Encoding.UTF8.GetString(value)}",
        PropertyType.Boolean => $"boolean {value[0]}",
        PropertyType.Int64 or PropertyType.Timestamp => $"number {BitConverter.ToInt64(value)}",
        PropertyType.Double => $"double {BitConverter.ToDouble(value).ToString(CultureInfo.InvariantCulture)}",
        _ => "bytes",
    };
}
