using System.Runtime.InteropServices;
using FastQ.Protocol;

namespace FastQ.Client;

// Request and reply, in place. A request is a message with an address for replies; a reply has no number, and is sent again after a
// reconnect all the same until the broker has read it and what was sent before it is written: the requester drops what comes twice.

/// <summary>A reply as it lies in the ring: valid within the call that gets it.</summary>
public readonly ref struct ReplyView
{
    internal ReplyView(in ReplyRecord header, ReadOnlySpan<byte> payload)
    {
        Header = header;
        Properties = payload[..header.PropertyBytes];
        Body = payload[header.PropertyBytes..];
    }

    internal ReplyRecord Header { get; }

    /// <summary>Number of the request.</summary>
    public ulong Request => Header.Request;

    /// <summary>Which part of the answer it is, from 0 on.</summary>
    public uint Part => Header.Part;

    /// <summary>No other comes after it.</summary>
    public bool IsLast => (Header.Flags & ReplyRecord.Last) != 0;

    /// <summary>The end of an answer in parts, and no part itself.</summary>
    public bool IsEnd => (Header.Flags & ReplyRecord.End) != 0;

    /// <summary>The request failed; the body says why, in words.</summary>
    public bool IsError => (Header.Flags & ReplyRecord.Error) != 0;

    /// <summary>Of an error that the broker tells: why. Else none.</summary>
    public RefusalCode Code => Header.Code;

    /// <summary>For <see cref="PropertyReader"/>.</summary>
    public ReadOnlySpan<byte> Properties { get; }

    public ReadOnlySpan<byte> Body { get; }
}

/// <summary>Takes a reply.</summary>
public delegate void ReplyHandler(in ReplyView reply);

public sealed unsafe partial class Session
{
    private const int RequestPropertyBytes = 4 + ReplyAddress.MostBytes + 2 * (4 + sizeof(long));

    /// <summary>Called with each reply to a request of this session, as it is taken. Session's thread: be short, and call nothing of the session there.</summary>
    public ReplyHandler? Replied { get; set; }

    /// <summary>Called with the cookie of a reply that this session sent: None where it is in its requester's ring, for those that asked for a word; else why it was dropped. Session's thread.</summary>
    public Action<ulong, RefusalCode>? ReplyEnded { get; set; }

    /// <summary>Sends a request: a message that is delivered once, to whose number replies come (<see cref="Replied"/>). Nobody waits for its confirm; that it was refused is told as of any message (<see cref="Refused"/>).</summary>
    /// <param name="queue">Where it goes.</param>
    /// <param name="body">At most <see cref="MaxMessageBytes"/>.</param>
    /// <param name="timeToLive">So long it may be delivered: as long as somebody waits for a reply. A part of a millisecond is a whole one.</param>
    /// <param name="waitsForResponder">Where the queue has no consumer: it waits for one. Else it is refused (no-responder).</param>
    /// <param name="properties">Others, without a reply-to and a time to live.</param>
    /// <returns>Its number.</returns>
    /// <exception cref="FastQException">The body or the properties are too large, or the time is out of range.</exception>
    public ulong Request(in QueueHandle queue, ReadOnlySpan<byte> body, TimeSpan timeToLive, bool waitsForResponder = false, ReadOnlySpan<byte> properties = default)
    {
        int propertyBytes = RequestPropertyBytes + properties.Length;
        int length = MessageHeader.SizeBytes + propertyBytes + body.Length;
        if (body.Length > MaxMessageBytes || propertyBytes > Limits.MaxPropertyBytes)
        {
            MakeRoom(length, body.Length, propertyBytes); // Says which.
        }

        EnsureRoom(length); // First: what it may have to wait for may take numbers of its own, and the address holds this one's.
        ulong number = _nextNumber;
        byte[]? rented = propertyBytes > 1024 ? System.Buffers.ArrayPool<byte>.Shared.Rent(propertyBytes) : null;
        PropertyWriter writer = new(rented ?? stackalloc byte[1024]);
        writer.Raw(properties);
        Span<byte> address = stackalloc byte[ReplyAddress.MostBytes];
        writer.Text(PropertyTag.ReplyTo, address[..new ReplyAddress(_producer, number).Write(address)]);
        writer.Number(PropertyTag.Ttl, PropertyType.Int64, PublishOptions.Milliseconds(timeToLive, "time-out", least: 1));
        writer.Number(PropertyTag.Request, PropertyType.Int64, waitsForResponder ? 0 : 1);
        ulong sent = Publish(queue, body, ConfirmLevel.None, writer.Written);
        Invariant.Holds(sent == number);
        if (rented is not null)
        {
            System.Buffers.ArrayPool<byte>.Shared.Return(rented);
        }

        return number;
    }

    /// <summary>Takes what has come: replies go to <see cref="Replied"/>. Where nothing has, waits for something, at most so long.</summary>
    /// <returns>False: the time is over and nothing came.</returns>
    public bool WaitForReplies(TimeSpan wait) => WaitForNews(new Deadline(_options.Surroundings, wait));

    /// <summary>Sends the only reply to a request, and accepts the request: both at once.</summary>
    /// <param name="delivery">The request, in hand.</param>
    /// <param name="body">At most <see cref="MaxMessageBytes"/>.</param>
    /// <param name="level">What is waited for of the accept.</param>
    /// <param name="properties">Written by a <see cref="PropertyWriter"/>; may be empty.</param>
    /// <returns>The accept's number; 0 while it is gathered with others, as settles are. When it is decided, the broker has passed the reply on, or told that it could not (<see cref="ReplyEnded"/>, with the delivery's number).</returns>
    /// <exception cref="FastQException">It is no request, is not in hand any more, or the reply is too large.</exception>
    public ulong Reply(in Delivery delivery, ReadOnlySpan<byte> body, ConfirmLevel level = ConfirmLevel.Accepted, ReadOnlySpan<byte> properties = default)
    {
        ReplyAddress address = ReplyAddress.TryFind(delivery.Properties, out ReplyAddress found) ? found : throw NoRequest();
        return Reply(delivery.Subscription, delivery.Number, delivery.Life, new ReplyRecord { Request = address.Request, Producer = address.Producer, Cookie = delivery.Number, Flags = ReplyRecord.Last }, properties, body, level);
    }

    internal static FastQException NoRequest() => new(RefusalCode.BadArgument, "This message is no request: it has no reply-to");

    /// <summary>As above.</summary>
    internal ulong Reply(Subscription subscription, ulong number, uint life, ReplyRecord reply, ReadOnlySpan<byte> properties, ReadOnlySpan<byte> body, ConfirmLevel level)
    {
        EnsureRoomForReply(properties, body, SettleRecord.SizeBytes + Limits.RecordAlignment);
        subscription.ThrowUnlessOpen(number, life); // Behind the wait for room: a restarted broker may have given it to others meanwhile.
        bool isSettledAtOnce = subscription.Options.SettleBatch == 1;
        WriteReply(reply, properties, body, isSettledAtOnce ? LastNumber + 1 : LastNumber); // It is kept until its accept is written.
        RingBroker();
        return subscription.Settle(number, life, Outcome.Accept, level);
    }

    /// <summary>Sends a reply, or a part of one, and settles nothing.</summary>
    internal void SendReply(ReplyRecord reply, ReadOnlySpan<byte> properties, ReadOnlySpan<byte> body)
    {
        EnsureRoomForReply(properties, body, 0);
        WriteReply(reply, properties, body, LastNumber);
        RingBroker();
    }

    private void EnsureRoomForReply(ReadOnlySpan<byte> properties, ReadOnlySpan<byte> body, int more)
    {
        int length = ReplyRecord.SizeBytes + properties.Length + body.Length;
        if (body.Length > MaxMessageBytes || properties.Length > Limits.MaxPropertyBytes)
        {
            MakeRoom(length, body.Length, properties.Length); // Says which.
        }

        EnsureRoom(length + more);
    }

    private void WriteReply(ReplyRecord reply, ReadOnlySpan<byte> properties, ReadOnlySpan<byte> body, ulong keptUntil)
    {
        int length = ReplyRecord.SizeBytes + properties.Length + body.Length;
        RingWriter ring = _outbox.Ring;
        ulong start = ring.Head;
        Span<byte> room = ring.Next(length);
        properties.CopyTo(room[ReplyRecord.SizeBytes..]);
        body.CopyTo(room[(ReplyRecord.SizeBytes + properties.Length)..]);
        (reply.LengthBytes, reply.Kind, reply.PropertyBytes) = ((uint)length, RecordKind.Reply, (ushort)properties.Length);
        reply.Check = RecordCheck.Of(room[ReplyRecord.SizeBytes..]);
        MemoryMarshal.Write(room, reply);
        ring.Advance(length);
        _outbox.Add(start, keptUntil, ConfirmLevel.Written);
        ring.Publish();
    }

    private void TakeReply(ReadOnlySpan<byte> record)
    {
        if (record.Length < ReplyRecord.SizeBytes)
        {
            return;
        }

        ReplyRecord header = MemoryMarshal.Read<ReplyRecord>(record);
        ReadOnlySpan<byte> payload = record[ReplyRecord.SizeBytes..];
        if (header.PropertyBytes > payload.Length)
        {
            return;
        }

        if (header.Check != RecordCheck.Of(payload))
        {
            // Its sender scribbled over it while the broker copied it.
            header = header with { Flags = ReplyRecord.Last | ReplyRecord.Error, Code = RefusalCode.Corrupt, PropertyBytes = 0 };
            payload = default;
        }

        Replied?.Invoke(new ReplyView(header, payload));
    }

    /// <summary>Nobody waits for parts of the answer to this request: the broker is to drop those that follow. Where there is no room, it is said at the next part.</summary>
    internal void RefuseReplies(ulong request)
    {
        const int Length = ReplyRecord.SizeBytes;
        if (_outbox.Room < Length + 2 * ControlRecord.SizeBytes || !_outbox.HasMarkRoom)
        {
            return;
        }

        RingWriter ring = _outbox.Ring;
        ulong start = ring.Head;
        MemoryMarshal.Write(ring.Next(Length), new ReplyRecord { LengthBytes = Length, Kind = RecordKind.RepliesUnwanted, Request = request });
        ring.Advance(Length);
        _outbox.Add(start, LastNumber, ConfirmLevel.None);
        ring.Publish();
        RingBroker();
    }
}
