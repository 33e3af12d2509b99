using System.Buffers.Binary;
using System.Text;

namespace FastQ.Protocol;

// Properties of a message: the text between its header and its body.
//
//   | tag: u8 | type: u8 | length: u16 | value | ...                      little-endian, unaligned
//   a header (tag 1): value = | key length: u8 | key: UTF-8 | value of `type` |
//
// Unknown tags and types are carried through untouched. What stands inside a list or a table: Values.cs.

/// <summary>Tags of properties.</summary>
public enum PropertyTag : byte
{
    None = 0,
    Header = 1,
    MessageId = 2,
    CorrelationId = 3,
    ReplyTo = 4,
    ContentType = 5,
    ContentEncoding = 6,
    Type = 7,
    Key = 8,
    SchemaVersion = 9,

    /// <summary>How the sender's library encoded the body: <see cref="Protocol.BodyEncoding"/>.</summary>
    BodyEncoding = 10,

    // From 32 on: what the broker acts upon.

    /// <summary>Milliseconds (Int64) from the acceptance on in which nobody gets the message. 0: none, whatever the queue's delay.</summary>
    Delay = 32,

    /// <summary>Wall clock (Timestamp) before which nobody gets the message. Excludes <see cref="Delay"/>.</summary>
    DeliverAt = 33,

    /// <summary>Milliseconds (Int64), at least 1, from when it may first be delivered: then it has expired. The queue's own may be shorter.</summary>
    Ttl = 34,

    /// <summary>0 (when it is not there) to 255 (Int64): higher ones go first, in a queue with priority.</summary>
    Priority = 35,

    /// <summary>A key (Text, 1 to 255 bytes): in a fifo queue messages of one group go one after the other.</summary>
    Group = 36,

    /// <summary>A key (Text, 1 to 255 bytes): in a fair queue tenants take turns.</summary>
    Tenant = 37,

    /// <summary>A key (Text, 1 to 255 bytes): a second message with it is not taken within the queue's window, and answered as a duplicate.</summary>
    DeduplicationId = 38,

    /// <summary>A key (Text, 1 to 255 bytes): while a message with it is alive in its queue, another one is not taken, and answered as a duplicate.</summary>
    UniqueKey = 39,

    /// <summary>How long <see cref="UniqueKey"/> is held (Int64): see <see cref="Protocol.UniqueUntil"/>; when it is not there, until the message is settled.</summary>
    UniqueUntil = 40,

    /// <summary>Name of the exchange that a message was sent to (Text). Written by the sender, judged by the broker.</summary>
    Exchange = 41,

    /// <summary>What an exchange chooses queues by (Text, at most 255 bytes).</summary>
    RoutingKey = 42,

    /// <summary>Somebody waits for a reply (Int64): the message is delivered once, and whoever waits is told of its death instead of the dead letters. 1: it is refused where its queue has no consumer; 0: it waits for one.</summary>
    Request = 51,

    /// <summary>A key (Text, 1 to 255 bytes): while a message with it waits for its time, a later one takes its place, or is not taken: see <see cref="ScheduleMode"/>.</summary>
    ScheduleKey = 48,

    /// <summary>What the message does where one of its <see cref="ScheduleKey"/> waits already (Int64): see <see cref="Protocol.ScheduleMode"/>; when it is not there, it replaces it.</summary>
    ScheduleMode = 49,

    /// <summary>Milliseconds (Int64), at least 1: of a <see cref="Protocol.ScheduleMode.Debounce"/>, how long it may be put off since the first of the key came.</summary>
    LongestWait = 50,

    // From 64 on: what the broker alone writes.

    /// <summary>A death (Bytes): fields. The latest stands first.</summary>
    Death = 64,

    /// <summary>Where it was before it was moved (Bytes): fields.</summary>
    Origin = 65,
}

/// <summary>Types of values.</summary>
public enum PropertyType : byte
{
    Text = 0,
    Boolean = 1,
    Int64 = 2,
    Double = 3,
    Bytes = 4,

    /// <summary>Microseconds since 1970.</summary>
    Timestamp = 5,

    /// <summary>Values in a row: <see cref="ValueReader"/>.</summary>
    List = 6,

    /// <summary>Values with keys: <see cref="ValueReader"/>.</summary>
    Table = 7,
}

/// <summary>Writes properties into room that the caller owns. Never writes beyond it: <see cref="Overflowed"/> tells.</summary>
public ref struct PropertyWriter(Span<byte> room)
{
    private readonly Span<byte> _room = room;

    public int Length { get; private set; }

    public bool Overflowed { get; private set; }

    public readonly ReadOnlySpan<byte> Written => _room[..Length];

    /// <summary>A property of the message itself, as text.</summary>
    public void Text(PropertyTag tag, ReadOnlySpan<char> value)
    {
        if (TryHead(tag, PropertyType.Text, Encoding.UTF8.GetByteCount(value), out Span<byte> into))
        {
            Encoding.UTF8.GetBytes(value, into);
        }
    }

    /// <summary>A property of the message itself, as text that is UTF-8 already.</summary>
    public void Text(PropertyTag tag, scoped ReadOnlySpan<byte> value)
    {
        if (TryHead(tag, PropertyType.Text, value.Length, out Span<byte> into))
        {
            value.CopyTo(into);
        }
    }

    /// <summary>A property of the message itself, as a number: <see cref="PropertyType.Int64"/> or <see cref="PropertyType.Timestamp"/>.</summary>
    public void Number(PropertyTag tag, PropertyType type, long value)
    {
        if (TryHead(tag, type, sizeof(long), out Span<byte> into))
        {
            BinaryPrimitives.WriteInt64LittleEndian(into, value);
        }
    }

    /// <summary>A property of the message itself, as bytes.</summary>
    public void Bytes(PropertyTag tag, scoped ReadOnlySpan<byte> value)
    {
        if (TryHead(tag, PropertyType.Bytes, value.Length, out Span<byte> into))
        {
            value.CopyTo(into);
        }
    }

    /// <summary>A property as it was read: <see cref="PropertyReader.Raw"/>.</summary>
    public void Raw(scoped ReadOnlySpan<byte> property)
    {
        if (Overflowed || _room.Length - Length < property.Length)
        {
            Overflowed = true;
            return;
        }

        property.CopyTo(_room[Length..]);
        Length += property.Length;
    }

    /// <summary>A header with a text value.</summary>
    public void Header(ReadOnlySpan<char> key, ReadOnlySpan<char> value)
    {
        if (TryHeader(key, PropertyType.Text, Encoding.UTF8.GetByteCount(value), out Span<byte> into))
        {
            Encoding.UTF8.GetBytes(value, into);
        }
    }

    /// <summary>A header whose value is already in the form of its type.</summary>
    public void Header(ReadOnlySpan<char> key, PropertyType type, scoped ReadOnlySpan<byte> value)
    {
        if (TryHeader(key, type, value.Length, out Span<byte> into))
        {
            value.CopyTo(into);
        }
    }

    private bool TryHeader(ReadOnlySpan<char> key, PropertyType type, int valueBytes, out Span<byte> into)
    {
        into = default;
        int keyBytes = Encoding.UTF8.GetByteCount(key);
        if (keyBytes is 0 or > byte.MaxValue)
        {
            Overflowed = true; // An empty key is refused, a long one does not fit its length.
            return false;
        }

        if (!TryHead(PropertyTag.Header, type, 1 + keyBytes + valueBytes, out Span<byte> all))
        {
            return false;
        }

        all[0] = (byte)keyBytes;
        Encoding.UTF8.GetBytes(key, all[1..]);
        into = all[(1 + keyBytes)..];
        return true;
    }

    private bool TryHead(PropertyTag tag, PropertyType type, int length, out Span<byte> into)
    {
        if (Overflowed || length > ushort.MaxValue || _room.Length - Length < 4 + length)
        {
            Overflowed = true;
            into = default;
            return false;
        }

        _room[Length] = (byte)tag;
        _room[Length + 1] = (byte)type;
        BinaryPrimitives.WriteUInt16LittleEndian(_room[(Length + 2)..], (ushort)length);
        into = _room.Slice(Length + 4, length);
        Length += 4 + length;
        return true;
    }
}

/// <summary>Reads properties of any origin. Never throws; what is cut short ends the reading and sets <see cref="IsMalformed"/>.</summary>
public ref struct PropertyReader(ReadOnlySpan<byte> text)
{
    private ReadOnlySpan<byte> _rest = text;

    public PropertyTag Tag { get; private set; }

    public PropertyType Type { get; private set; }

    /// <summary>Of a header: its key, UTF-8. Else empty.</summary>
    public ReadOnlySpan<byte> Key { get; private set; }

    public ReadOnlySpan<byte> Value { get; private set; }

    /// <summary>The whole property with its tag, type and length.</summary>
    public ReadOnlySpan<byte> Raw { get; private set; }

    public bool IsMalformed { get; private set; }

    /// <summary>The value as a number of a type. False: it is of another type, or has not 8 bytes.</summary>
    public readonly bool TryNumber(PropertyType type, out long number)
    {
        bool isOne = Type == type && Value.Length == sizeof(long);
        number = isOne ? BinaryPrimitives.ReadInt64LittleEndian(Value) : 0;
        return isOne;
    }

    /// <summary>Goes to the next property. False at the end.</summary>
    public bool Next()
    {
        if (_rest.IsEmpty)
        {
            return false;
        }

        if (_rest.Length < 4 || _rest.Length - 4 < BinaryPrimitives.ReadUInt16LittleEndian(_rest[2..]))
        {
            return End();
        }

        int length = BinaryPrimitives.ReadUInt16LittleEndian(_rest[2..]);
        Tag = (PropertyTag)_rest[0];
        Type = (PropertyType)_rest[1];
        Key = default;
        Value = _rest.Slice(4, length);
        Raw = _rest[..(4 + length)];
        _rest = _rest[(4 + length)..];
        if (Tag != PropertyTag.Header)
        {
            return true;
        }

        if (Value.IsEmpty || Value[0] == 0 || Value.Length - 1 < Value[0])
        {
            return End();
        }

        int keyBytes = Value[0];
        Key = Value.Slice(1, keyBytes);
        Value = Value[(1 + keyBytes)..];
        return true;
    }

    /// <summary>Finds the first property with a tag, from the start of <paramref name="text"/>: the reader stands at it.</summary>
    public static bool TryFind(ReadOnlySpan<byte> text, PropertyTag tag, out PropertyReader found)
    {
        found = new PropertyReader(text);
        while (found.Next())
        {
            if (found.Tag == tag)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Finds the first property with a tag, as text; null when there is none. Allocates.</summary>
    public static string? TextOf(ReadOnlySpan<byte> text, PropertyTag tag) => TryFind(text, tag, out PropertyReader found) ? Encoding.UTF8.GetString(found.Value) : null;

    /// <summary>Are these properties whole, to the last byte?</summary>
    public static bool AreValid(ReadOnlySpan<byte> text)
    {
        PropertyReader reader = new(text);
        while (reader.Next())
        {
        }

        return !reader.IsMalformed;
    }

    private bool End()
    {
        IsMalformed = true;
        _rest = default;
        return false;
    }
}
