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

    /// <summary>The <see cref="Life"/> of a delivery that was settled before it was handed out: its bytes are its own.</summary>
    internal const uint SettledLife = uint.MaxValue;

    /// <summary>As it is once it has been settled, with bytes of its own.</summary>
    internal Delivery Settled(byte[] bytes) => new(Subscription, SettledLife, Number, Tag, TokenNumber, (ushort)DeliveryCount, IsRedelivered, null, bytes.Length, bytes);

    /// <summary>The whole record, copied.</summary>
    internal byte[] CopyRecord() => Record.ToArray();

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

    /// <summary>The body. Until it is settled. It lies where the broker wrote it, but where its sender's library compressed it (<see cref="IsEncoded"/>).</summary>
    /// <remarks>
    /// Then it is decoded at the first look, into memory of its own: an allocation of its size. The subscription keeps the last one, so that a second look costs nothing; a look at another
    /// delivery in between does. <see cref="CopyBody"/> decodes without an allocation.
    /// </remarks>
    /// <exception cref="InvalidDataException">What is stored cannot be decoded: damaged before it was sent, or made to do harm. The message can be settled all the same.</exception>
    public ReadOnlySpan<byte> Body
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get
        {
            ReadOnlySpan<byte> record = Record;
            int propertyBytes = MemoryMarshal.Read<MessageHeader>(record).PropertyBytes;
            return propertyBytes == 0 ? record[MessageHeader.SizeBytes..] : BodyBehind(propertyBytes);
        }
    }

    /// <summary>The body as it is stored, in place: compressed where <see cref="IsEncoded"/>. Until it is settled.</summary>
    public ReadOnlySpan<byte> StoredBody
    {
        get
        {
            ReadOnlySpan<byte> record = Record;
            return record[(MessageHeader.SizeBytes + MemoryMarshal.Read<MessageHeader>(record).PropertyBytes)..];
        }
    }

    /// <summary>Its sender's library encoded the body. Until it is settled.</summary>
    public bool IsEncoded => BodyEncoding.TryRead(Properties, out _);

    /// <summary>Bytes of <see cref="Body"/>. Decodes nothing. Until it is settled.</summary>
    /// <exception cref="InvalidDataException">What is stored cannot have the length that its sender says, or is encoded in a way that this library does not know.</exception>
    public int BodyBytes => BodyEncoding.TryRead(Properties, out BodyEncoding encoding) ? Lz4Body.LengthOf(StoredBody, encoding, Tag) : StoredBody.Length;

    /// <summary>Copies the body into memory of the caller's, decoded, without an allocation. Until it is settled.</summary>
    /// <param name="into">At least <see cref="BodyBytes"/>.</param>
    /// <exception cref="InvalidDataException">As for <see cref="Body"/>.</exception>
    /// <exception cref="ArgumentException"><paramref name="into"/> is too short.</exception>
    public void CopyBody(Span<byte> into)
    {
        if (!IsEncoded)
        {
            StoredBody.CopyTo(into);
            return;
        }

        int length = BodyBytes;
        if (into.Length < length)
        {
            throw new ArgumentException($"The body has {length} bytes, the room for it {into.Length}.", nameof(into));
        }

        Lz4Body.Decode(StoredBody, into[..length], Tag);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private ReadOnlySpan<byte> BodyBehind(int propertyBytes)
    {
        ReadOnlySpan<byte> record = Record;
        ReadOnlySpan<byte> stored = record[(MessageHeader.SizeBytes + propertyBytes)..];
        return BodyEncoding.TryRead(record.Slice(MessageHeader.SizeBytes, propertyBytes), out BodyEncoding encoding) ? Subscription.Decoded(this, encoding, stored) : stored;
    }

    /// <summary>The properties' text, for <see cref="PropertyReader"/>. Until it is settled. To be sent on together with <see cref="StoredBody"/>: they say how that is encoded.</summary>
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

    /// <summary>A property of text, as <see cref="PropertyTag.Type"/>. Null when there is none. Until it is settled. Allocates.</summary>
    public string? Text(PropertyTag property) => PropertyReader.TextOf(Properties, property);

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

    /// <summary>The headers, with their types; of a key that repeats the last. Until it is settled. Allocates.</summary>
    public IReadOnlyDictionary<string, HeaderValue> Headers() => HeaderValue.ReadAll(Properties);

    /// <summary>In a dead-letter queue: where and why it died, the latest first. Elsewhere empty. Until it is settled. Allocates.</summary>
    public IReadOnlyList<Death> Deaths() => Death.ReadAll(Properties);

    private ReadOnlySpan<byte> Record
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get
        {
            Subscription.ThrowUnlessReadable(Number, Life);
            return _copy is not null ? _copy : new ReadOnlySpan<byte>(_record, _length);
        }
    }
}
