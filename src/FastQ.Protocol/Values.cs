using System.Buffers.Binary;
using System.Text;

namespace FastQ.Protocol;

// Values within values: what a header's list or table holds.
//
//   a list:   | type: u8 | length: u16 | value | ...                                              little-endian, unaligned
//   a table:  | key length: u8, not 0 | key: UTF-8 | type: u8 | length: u16 | value | ...
//
// A value may be a list or a table itself, down to Limits.MaxValueDepth levels: a header's own list is the first. A reader looks at one
// level; who goes down counts the levels, and takes what lies deeper for bytes.

/// <summary>Reads what stands in a list or a table of any origin. Never throws; what is cut short ends the reading and sets <see cref="IsMalformed"/>.</summary>
/// <param name="text">The value of the list or table.</param>
/// <param name="of"><see cref="PropertyType.List"/> or <see cref="PropertyType.Table"/>.</param>
public ref struct ValueReader(ReadOnlySpan<byte> text, PropertyType of)
{
    internal const int HeadBytes = 3;
    private readonly bool _hasKeys = of == PropertyType.Table;
    private ReadOnlySpan<byte> _rest = text;

    public PropertyType Type { get; private set; }

    /// <summary>In a table: its key, UTF-8, not empty. In a list: empty.</summary>
    public ReadOnlySpan<byte> Key { get; private set; }

    public ReadOnlySpan<byte> Value { get; private set; }

    public bool IsMalformed { get; private set; }

    /// <summary>Goes to the next value. False at the end.</summary>
    public bool Next()
    {
        if (_rest.IsEmpty)
        {
            return false;
        }

        int keyBytes = _hasKeys ? _rest[0] : 0;
        int head = (_hasKeys ? 1 : 0) + keyBytes;
        if ((_hasKeys && keyBytes == 0) || _rest.Length < head + HeadBytes || _rest.Length - head - HeadBytes < BinaryPrimitives.ReadUInt16LittleEndian(_rest[(head + 1)..]))
        {
            IsMalformed = true;
            _rest = default;
            return false;
        }

        int length = BinaryPrimitives.ReadUInt16LittleEndian(_rest[(head + 1)..]);
        Key = _rest[(head - keyBytes)..head];
        Type = (PropertyType)_rest[head];
        Value = _rest.Slice(head + HeadBytes, length);
        _rest = _rest[(head + HeadBytes + length)..];
        return true;
    }
}

/// <summary>Writes what stands in a list (values without keys) or a table (with keys) into room that the caller owns. Never writes beyond it: <see cref="Overflowed"/> tells.</summary>
public ref struct ValueWriter(Span<byte> room)
{
    private readonly Span<byte> _room = room;

    public int Length { get; private set; }

    /// <summary>Something did not fit, or had a key of not 1 to 255 bytes: what was written is of no use.</summary>
    public bool Overflowed { get; private set; }

    public readonly ReadOnlySpan<byte> Written => _room[..Length];

    /// <summary>A value of a list, in the form of its type.</summary>
    public void Value(PropertyType type, scoped ReadOnlySpan<byte> value)
    {
        int start = Begin(type);
        Raw(value);
        End(start);
    }

    /// <summary>A value of a table, in the form of its type.</summary>
    public void Value(ReadOnlySpan<char> key, PropertyType type, scoped ReadOnlySpan<byte> value)
    {
        int start = Begin(key, type);
        Raw(value);
        End(start);
    }

    /// <summary>A value of a list: what is written until <see cref="End"/> stands in it, values where it is a list or a table itself.</summary>
    /// <returns>Where it starts, for <see cref="End"/>.</returns>
    public int Begin(PropertyType type)
    {
        Overflowed |= _room.Length - Length < ValueReader.HeadBytes;
        if (!Overflowed)
        {
            _room[Length] = (byte)type;
            Length += ValueReader.HeadBytes;
        }

        return Length;
    }

    /// <summary>A value of a table.</summary>
    /// <inheritdoc cref="Begin(PropertyType)"/>
    public int Begin(ReadOnlySpan<char> key, PropertyType type)
    {
        int keyBytes = Encoding.UTF8.GetByteCount(key);
        Overflowed |= keyBytes is 0 or > byte.MaxValue || _room.Length - Length < 1 + keyBytes;
        if (!Overflowed)
        {
            _room[Length] = (byte)keyBytes;
            Encoding.UTF8.GetBytes(key, _room[(Length + 1)..]);
            Length += 1 + keyBytes;
        }

        return Begin(type);
    }

    /// <summary>Ends what <see cref="Begin(PropertyType)"/> began.</summary>
    public void End(int start)
    {
        Overflowed |= Length - start > ushort.MaxValue;
        if (!Overflowed)
        {
            BinaryPrimitives.WriteUInt16LittleEndian(_room[(start - sizeof(ushort))..], (ushort)(Length - start));
        }
    }

    /// <summary>Bytes as they are.</summary>
    public void Raw(scoped ReadOnlySpan<byte> bytes)
    {
        Overflowed |= _room.Length - Length < bytes.Length;
        if (!Overflowed)
        {
            bytes.CopyTo(_room[Length..]);
            Length += bytes.Length;
        }
    }
}
