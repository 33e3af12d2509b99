using System.Buffers.Binary;
using System.Text;

namespace FastQ.Protocol;

// Fields: how commands, answers, handshake messages and queue attributes are written.
//
//   | tag: u16 | length: u16 | value: length bytes | next field ...        little-endian, unaligned
//
// A reader skips tags that it does not know. Numbers are 8 bytes; text is UTF-8.

/// <summary>Tags of fields. Numbers never change their meaning.</summary>
public enum FieldTag : ushort
{
    None = 0,

    // Queues and subscriptions.
    Name = 1,
    Queue = 2,
    LeaseMilliseconds = 3,
    Created = 4,
    Ready = 5,
    InFlight = 6,
    Delayed = 7,
    Damaged = 8,
    Messages = 9,
    Bytes = 10,
    Consumers = 11,
    Subscription = 12,
    CreditMessages = 13,
    CreditBytes = 14,
    FirstDelivery = 15,
    Published = 16,
    Accepted = 17,
    Rejected = 18,
    Redelivered = 19,
    Purged = 20,
    Json = 21,
    Text = 22,
    Purge = 23,
    Tag = 24,
    State = 25,
    Deliveries = 26,
    Owner = 27,
    LeaseLeftMilliseconds = 28,
    BodyBytes = 29,
    Body = 30,
    Properties = 31,
    TimeMicros = 32,
    Most = 33,
    DelayMilliseconds = 34,
    DueMicros = 35,
    TtlMilliseconds = 36,
    MaxDeliveries = 37,
    BackoffFirstMilliseconds = 38,
    BackoffFactorPermille = 39,
    BackoffMostMilliseconds = 40,
    DeadLetter = 41,
    Exhausted = 42,
    Expired = 43,
    DeadLettering = 44,
    DeadLettered = 45,
    Reason = 46,
    Details = 47,
    Count = 48,
    FirstMicros = 49,
    LastMicros = 50,
    Stopped = 51,
    MaxLength = 52,
    MaxBytes = 53,
    Overflow = 54,
    MaxMessageSize = 55,
    Overflowed = 56,
    Paused = 57,
    Priority = 58,
    PriorityShare = 59,
    Fifo = 60,
    Fair = 61,
    FairWeights = 62,
    SingleActive = 63,

    // Handshake.
    MinVersion = 64,
    MaxVersion = 65,
    ClientName = 66,
    Instance = 67,
    Namespace = 68,
    Producer = 69,
    ClaimedDurable = 70,
    SubmissionRingBytes = 71,
    DeliveryRingBytes = 72,
    WantsCopies = 73,
    Epoch = 74,
    Decided = 75,
    Written = 76,
    Durable = 77,
    MaxMessageBytes = 78,
    SlotBytes = 79,
    Code = 80,
    Slot = 81,
    Ring = 82,
    ServerVersion = 83,
    ProducerEpoch = 84,
    NextNumber = 85,
    FencesAll = 86,

    // Queues and subscriptions, again.
    ConsumerPriority = 87,
    Exclusive = 88,
    Behind = 89,
    Moved = 90,
    Target = 91,
    Filter = 92,
    Action = 93,
    Rate = 94,
    Done = 95,
    Failed = 96,
    DedupMilliseconds = 97,
    DedupByGroup = 98,

    // More of queues.
    Require = 100,
    Lz4FromBytes = 101,

    // Exchanges.
    Exchange = 102,
    ExchangeType = 103,
    Alternate = 104,
    RoutingKey = 105,
    Arguments = 106,
    Match = 107,
    Discarded = 108,
    Bindings = 109,
    DeadLetterExchange = 110,
    Temporary = 111,
    ExchangeId = 112,
    ProcessedMilliseconds = 113,
    ProcessedKey = 114,
    ProcessedResult = 115,
    Late = 116,

    // Times of queues, and schedules.
    Key = 133,
    Timeliness = 134,
    Cron = 135,
    EveryMilliseconds = 136,
    Zone = 137,
    Missed = 138,
    EndMicros = 139,
    Fired = 140,
    ExpiresMilliseconds = 141,
    ReleaseReason = 142,

    // Limits on flow.
    Flow = 120,
    WaitsFor = 121,
    Queues = 122,
    Waiting = 123,
}

/// <summary>Writes fields into room that the caller owns. Never writes beyond it: <see cref="Overflowed"/> tells.</summary>
public ref struct FieldWriter(Span<byte> room)
{
    private readonly Span<byte> _room = room;

    /// <summary>Bytes written.</summary>
    public int Length { get; private set; }

    /// <summary>Something did not fit and was left out, with everything after it.</summary>
    public bool Overflowed { get; private set; }

    public readonly ReadOnlySpan<byte> Written => _room[..Length];

    public void Number(FieldTag tag, ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        Bytes(tag, bytes);
    }

    public void Text(FieldTag tag, ReadOnlySpan<char> text)
    {
        int length = Encoding.UTF8.GetByteCount(text);
        if (TryHead(tag, length, out Span<byte> into))
        {
            Encoding.UTF8.GetBytes(text, into);
        }
    }

    public void Bytes(FieldTag tag, scoped ReadOnlySpan<byte> value)
    {
        if (TryHead(tag, value.Length, out Span<byte> into))
        {
            value.CopyTo(into);
        }
    }

    private bool TryHead(FieldTag tag, int length, out Span<byte> into)
    {
        if (Overflowed || length > ushort.MaxValue || _room.Length - Length < 4 + length)
        {
            Overflowed = true;
            into = default;
            return false;
        }

        BinaryPrimitives.WriteUInt16LittleEndian(_room[Length..], (ushort)tag);
        BinaryPrimitives.WriteUInt16LittleEndian(_room[(Length + 2)..], (ushort)length);
        into = _room.Slice(Length + 4, length);
        Length += 4 + length;
        return true;
    }
}

/// <summary>Reads fields of any origin. Never throws; a text that is cut short ends the reading and sets <see cref="IsMalformed"/>.</summary>
public ref struct FieldReader(ReadOnlySpan<byte> text)
{
    private ReadOnlySpan<byte> _rest = text;

    /// <summary>The field read last.</summary>
    public FieldTag Tag { get; private set; }

    /// <summary>Its value as bytes.</summary>
    public ReadOnlySpan<byte> Value { get; private set; }

    public bool IsMalformed { get; private set; }

    /// <summary>Its value as a number; 0 and <see cref="IsMalformed"/> when it is not 8 bytes.</summary>
    public ulong Number
    {
        get
        {
            if (Value.Length == 8)
            {
                return BinaryPrimitives.ReadUInt64LittleEndian(Value);
            }

            IsMalformed = true;
            return 0;
        }
    }

    /// <summary>Its value as text; bytes that are no UTF-8 become U+FFFD. Allocates.</summary>
    public readonly string Text => Encoding.UTF8.GetString(Value);

    /// <summary>Goes to the next field. False at the end.</summary>
    public bool Next()
    {
        if (_rest.IsEmpty)
        {
            return false;
        }

        if (_rest.Length < 4 || _rest.Length - 4 < BinaryPrimitives.ReadUInt16LittleEndian(_rest[2..]))
        {
            IsMalformed = true;
            _rest = default;
            return false;
        }

        int length = BinaryPrimitives.ReadUInt16LittleEndian(_rest[2..]);
        Tag = (FieldTag)BinaryPrimitives.ReadUInt16LittleEndian(_rest);
        Value = _rest.Slice(4, length);
        _rest = _rest[(4 + length)..];
        return true;
    }

    /// <summary>Finds a number by its tag, from the start of <paramref name="text"/>.</summary>
    public static bool TryNumber(ReadOnlySpan<byte> text, FieldTag tag, out ulong value)
    {
        FieldReader reader = new(text);
        while (reader.Next())
        {
            if (reader.Tag == tag)
            {
                value = reader.Number;
                return !reader.IsMalformed;
            }
        }

        value = 0;
        return false;
    }

    /// <summary>Finds a value by its tag.</summary>
    public static bool TryBytes(ReadOnlySpan<byte> text, FieldTag tag, out ReadOnlySpan<byte> value)
    {
        FieldReader reader = new(text);
        while (reader.Next())
        {
            if (reader.Tag == tag)
            {
                value = reader.Value;
                return true;
            }
        }

        value = default;
        return false;
    }
}
