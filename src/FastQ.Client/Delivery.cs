using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>A message in the hands of this consumer, under a lease. A view: the body lies where the broker wrote it. Settle it once, then forget it.</summary>
/// <remarks>For the session's thread. After it was settled, or the session ended, <see cref="Body"/> and the others that read the record throw; they never show other bytes.</remarks>
public readonly unsafe struct Delivery
{
    private readonly byte* _record;
    private readonly byte[]? _copy;
    private readonly int _length;

    internal Delivery(Subscription subscription, uint life, ulong number, ulong tag, ulong token, ushort count, bool isRedelivered, byte* record, int length, byte[]? copy)
    {
        Subscription = subscription;
        Life = life;
        Number = number;
        Tag = tag;
        TokenNumber = token;
        DeliveryCount = count;
        IsRedelivered = isRedelivered;
        _record = record;
        _length = length;
        _copy = copy;
    }

    /// <summary>Whose it is.</summary>
    public Subscription Subscription { get; }

    /// <summary>The subscription's life that <see cref="Number"/> belongs to.</summary>
    internal uint Life { get; }

    /// <summary>Delivery number: dense per subscription; it begins anew only when a restarted broker does not know the subscription any more.</summary>
    public ulong Number { get; }

    /// <summary>The message's place number in its queue, the same for life.</summary>
    public ulong Tag { get; }

    /// <summary>Second half of the fencing token; the first is <see cref="Subscription.Epoch"/>. (epoch, number) only rises for one message, over restarts too.</summary>
    public ulong TokenNumber { get; }

    /// <summary>How often the message has been delivered, this time included; 65,535 when more.</summary>
    public int DeliveryCount { get; }

    /// <summary>Delivered before.</summary>
    public bool IsRedelivered { get; }

    /// <summary>The body. Until it is settled.</summary>
    public ReadOnlySpan<byte> Body
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get
        {
            ReadOnlySpan<byte> record = Record;
            return record[(MessageHeader.SizeBytes + MemoryMarshal.Read<MessageHeader>(record).PropertyBytes)..];
        }
    }

    /// <summary>The properties' text, for <see cref="PropertyReader"/>. Until it is settled.</summary>
    public ReadOnlySpan<byte> Properties
    {
        get
        {
            ReadOnlySpan<byte> record = Record;
            return record.Slice(MessageHeader.SizeBytes, MemoryMarshal.Read<MessageHeader>(record).PropertyBytes);
        }
    }

    /// <summary>When the broker accepted it.</summary>
    public DateTimeOffset Timestamp => DateTimeOffset.UnixEpoch.AddMicroseconds(MemoryMarshal.Read<MessageHeader>(Record).NumberOrTimeMicros);

    /// <summary>Finds a header of text. Null when there is none. Allocates.</summary>
    public string? HeaderText(string key) => HeaderText(Properties, key);

    internal static string? HeaderText(ReadOnlySpan<byte> properties, string key)
    {
        PropertyReader reader = new(properties);
        while (reader.Next())
        {
            if (reader.Tag == PropertyTag.Header && reader.Type == PropertyType.Text && Encoding.UTF8.GetString(reader.Key) == key)
            {
                return Encoding.UTF8.GetString(reader.Value);
            }
        }

        return null;
    }

    /// <summary>In a dead-letter queue: where and why it died, the latest first. Elsewhere empty. Until it is settled. Allocates.</summary>
    public IReadOnlyList<Death> Deaths() => Death.ReadAll(Properties);

    private ReadOnlySpan<byte> Record
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get
        {
            Subscription.ThrowUnlessOpen(Number, Life);
            return _copy is not null ? _copy : new ReadOnlySpan<byte>(_record, _length);
        }
    }
}
