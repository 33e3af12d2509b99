using System.Text;
using FastQ.Client;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Fuzz;

/// <summary>Properties, values within them, compressed bodies, fields and names of any bytes, in memory that ends where they end.</summary>
internal sealed class PropertyTarget : ITarget
{
    private readonly Guarded _memory = new();

    public IEnumerable<byte[]> Seeds
    {
        get
        {
            byte[] room = new byte[512];
            PropertyWriter properties = new(room);
            properties.Header("key", "value");
            properties.Header("number", PropertyType.Int64, BitConverter.GetBytes(7L));
            ValueWriter values = new(room.AsSpan(256));
            int list = values.Begin("list", PropertyType.List);
            values.Value(PropertyType.Text, "one"u8);
            values.End(list);
            properties.Header("table", PropertyType.Table, values.Written);
            yield return room[..properties.Length];
            FieldWriter fields = new(room);
            fields.Text(FieldTag.Name, "queue");
            fields.Number(FieldTag.Queue, 7);
            yield return room[..fields.Length];
            yield return Encoding.UTF8.GetBytes("fastq.name");
        }
    }

    public void Run(byte[] input)
    {
        ReadOnlySpan<byte> bytes = _memory.AtEnd(input);
        PropertyReader properties = new(bytes);
        int read = 0;
        while (properties.Next())
        {
            read += 4 + properties.Value.Length + (properties.Tag == PropertyTag.Header ? 1 + properties.Key.Length : 0);
            Assert.False(properties.IsMalformed);
            Assert.Equal(properties.Tag == PropertyTag.Header, !properties.Key.IsEmpty);
            Walk(properties.Type, properties.Value, Limits.MaxValueDepth);
            HeaderValue value = HeaderValue.Read(properties.Type, properties.Value);
            Assert.Equal(value, HeaderValue.Read(properties.Type, properties.Value));
            Assert.True(!value.IsRaw || properties.Value.SequenceEqual(value.AsBytes!.Value.Span));
        }

        Decode(bytes);

        Assert.Equal(PropertyReader.AreValid(bytes), !properties.IsMalformed);
        Assert.True(properties.IsMalformed ? read < bytes.Length : read == bytes.Length, $"{read} of {bytes.Length} bytes read");

        FieldReader fields = new(bytes);
        read = 0;
        while (fields.Next())
        {
            read += 4 + fields.Value.Length;
            _ = fields.Text;
        }

        Assert.True(fields.IsMalformed ? read < bytes.Length : read == bytes.Length, $"{read} of {bytes.Length} bytes of fields read");
        _ = FieldReader.TryNumber(bytes, FieldTag.Queue, out _);
        _ = Names.IsValid(bytes);
    }

    /// <summary>Goes down into lists and tables as far as a reader may; levels left.</summary>
    private static void Walk(PropertyType type, ReadOnlySpan<byte> value, int levels)
    {
        if (type is not (PropertyType.List or PropertyType.Table) || levels == 0)
        {
            return;
        }

        ValueReader values = new(value, type);
        int read = 0;
        while (values.Next())
        {
            read += (type == PropertyType.Table ? 1 + values.Key.Length : 0) + 3 + values.Value.Length;
            Assert.Equal(type == PropertyType.Table, !values.Key.IsEmpty);
            Walk(values.Type, values.Value, levels - 1);
        }

        Assert.True(values.IsMalformed ? read < value.Length : read == value.Length, $"{read} of {value.Length} bytes of values read");
    }

    /// <summary>The input as a compressed body, of the length that its own first bytes say.</summary>
    private static void Decode(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length < sizeof(ushort))
        {
            return;
        }

        ushort said = BitConverter.ToUInt16(bytes);
        try
        {
            Assert.Equal(said, Lz4Body.Decode(bytes[sizeof(ushort)..], new BodyEncoding(BodyEncoding.Lz4, said), tag: 1).Length);
        }
        catch (InvalidDataException)
        {
            // Said, not crashed.
        }
    }

    public void Dispose() => _memory.Dispose();
}
