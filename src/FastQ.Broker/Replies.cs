using System.Runtime.InteropServices;
using System.Text;
using FastQ.Engine;
using FastQ.Protocol;

namespace FastQ.Broker;

// Replies go from the ring of who answers straight into the ring of who asked, and into no journal:
//
//   responder's ring A --Reply--> (no room: waits here, bounded) --ReplyDelivered--> requester's ring B
//          ^---- ReplyEnded: why it is dropped; or, on request, that it is there ----'
//
// A request that has died (its consumer did, say) is answered by the broker in the same way.

/// <summary>A reply that has no room in its requester's ring yet.</summary>
/// <param name="Record">As it is to stand there, without padding.</param>
/// <param name="Responder">Session that sent it; 0: the broker itself.</param>
/// <param name="Cookie">The sender's.</param>
/// <param name="WantsWord">It is to be told when the reply is there.</param>
internal readonly record struct WaitingReply(byte[] Record, ulong Responder, ulong Cookie, bool WantsWord)
{
    private const int Overhead = 96;

    /// <summary>What it is charged with.</summary>
    public long Bytes => Record.Length + Overhead;
}

public sealed partial class Broker
{
    private const int LargestReplyBytes = ReplyRecord.SizeBytes + Limits.MaxPropertyBytes + Limits.MaxMessageBytes;

    /// <summary>So much may wait for a requester: the largest reply, and as many bytes of others. Charged to the budget of rings.</summary>
    private const long MostWaitingReplyBytes = 2L * Limits.MaxMessageBytes;

    private long _repliesDropped;

    /// <summary>Always true: it leaves the ring, unless the session has ended with it.</summary>
    private bool TakeReply(Session session, RingReader ring, RecordPrefix prefix)
    {
        int length = (int)prefix.LengthBytes;
        if (length < ReplyRecord.SizeBytes || prefix.Small > length - ReplyRecord.SizeBytes)
        {
            End(session, RefusalCode.RingViolation, $"A reply of {length} bytes is shorter than its header and its properties.");
            return true;
        }

        ReadOnlySpan<byte> record = ring.Bytes(length);
        ReplyRecord reply = MemoryMarshal.Read<ReplyRecord>(record);
        if (prefix.Kind == RecordKind.RepliesUnwanted)
        {
            session.Unwanted.Add(reply.Request);
            return true;
        }

        // What was judged, not what it may have become since; and of the rest only what is a responder's to say.
        byte shown = (byte)(prefix.Flags & (ReplyRecord.Last | ReplyRecord.Error | ReplyRecord.End));
        ReplyRecord delivered = new() { LengthBytes = prefix.LengthBytes, Kind = RecordKind.ReplyDelivered, Flags = shown, PropertyBytes = prefix.Small, Request = reply.Request, Check = reply.Check, Part = reply.Part };
        bool wantsWord = (prefix.Flags & ReplyRecord.WantsWord) != 0;
        RefusalCode code = delivered.PropertyBytes > Limits.MaxPropertyBytes || delivered.BodyBytes > _options.MaxMessageBytes || length > LargestReplyBytes
            ? RefusalCode.TooLarge
            : PassOn(reply.Producer, delivered, record[ReplyRecord.SizeBytes..], session.Id, reply.Cookie, wantsWord, out wantsWord);
        if (code == RefusalCode.None && !wantsWord)
        {
            return true;
        }

        Notice(session, ReplyEnded(code, reply.Cookie), "");
        session.RefusalHead = session.Rings.Deliveries.Head;
        Touch(session);
        return true;
    }

    private NoticeRecord ReplyEnded(RefusalCode code, ulong cookie)
    {
        _repliesDropped += code == RefusalCode.None ? 0 : 1;
        return new NoticeRecord { Kind = RecordKind.ReplyEnded, Code = code, Number = cookie, Value = code == RefusalCode.TooLarge ? (ulong)_options.MaxMessageBytes : 0 };
    }

    /// <summary>Writes a reply into the ring of who asked, or keeps it until there is room.</summary>
    /// <param name="producer">Who asked.</param>
    /// <param name="reply">The header.</param>
    /// <param name="payload">Properties and body; perhaps in the ring of a client that scribbles over them: the requester compares them with their check.</param>
    /// <param name="responder">Session that sent it; 0: the broker.</param>
    /// <param name="cookie">Its own.</param>
    /// <param name="wantsWord">It wants to hear of success, too.</param>
    /// <param name="isTold">It is to hear of it now.</param>
    /// <returns>None; or why it is dropped.</returns>
    private RefusalCode PassOn(ulong producer, in ReplyRecord reply, ReadOnlySpan<byte> payload, ulong responder, ulong cookie, bool wantsWord, out bool isTold)
    {
        isTold = false;
        if (!_byProducer.TryGetValue(producer, out Session? requester) || requester.IsGone || reply.Request == 0 || reply.Request > requester.Decided || requester.Unwanted.Contains(reply.Request))
        {
            return RefusalCode.NoRequester;
        }

        if (!requester.TryUpdatePosition())
        {
            Warm(requester); // It lied of its position, and is ended when its own ring is looked at.
            return RefusalCode.NoRequester;
        }

        if (requester.Replies.Count == 0 && !requester.IsMoving && requester.DeliveryRoom >= Limits.Align((int)reply.LengthBytes))
        {
            WriteReply(requester, reply, payload);
            isTold = wantsWord;
            return RefusalCode.None;
        }

        byte[] record = new byte[reply.LengthBytes];
        WaitingReply waiting = new(record, responder, cookie, wantsWord);
        if (requester.ReplyBytes + waiting.Bytes > MostWaitingReplyBytes || _ringBytes + waiting.Bytes > _options.MaxRingBytes)
        {
            return RefusalCode.LimitReached;
        }

        MemoryMarshal.Write(record, reply);
        payload.CopyTo(record.AsSpan(ReplyRecord.SizeBytes));
        requester.Replies.Enqueue(waiting);
        requester.ReplyBytes += waiting.Bytes;
        _ringBytes += waiting.Bytes;
        Warm(requester);
        return RefusalCode.None;
    }

    private void WriteReply(Session requester, in ReplyRecord reply, ReadOnlySpan<byte> payload)
    {
        RingWriter ring = requester.Rings.Deliveries;
        int length = (int)reply.LengthBytes;
        Span<byte> room = ring.Next(length);
        MemoryMarshal.Write(room, reply);
        payload.CopyTo(room[ReplyRecord.SizeBytes..]);
        ring.Advance(length);
        if (requester.Confirms.HasUnwritten)
        {
            Touch(requester); // What stands before it in the ring is shown when it is written.
            return;
        }

        requester.Show(ring.Head);
        Watch(requester);
    }

    private bool PumpReplies(Session requester)
    {
        bool moved = false;
        while (requester.Replies.TryPeek(out WaitingReply waiting) && !requester.IsMoving)
        {
            int length = waiting.Record.Length;
            if (length > requester.Rings.DeliveryBytes - requester.Rings.DeliveryBytes / 4)
            {
                Offer(requester, 0, (uint)Limits.RingBytesFor(length));
                if (requester.Offered is not null)
                {
                    break; // It goes into the larger ring.
                }

                DropFirstReply(requester, RefusalCode.LimitReached); // There is no memory for one.
                continue;
            }

            if (requester.DeliveryRoom < Limits.Align(length))
            {
                break;
            }

            WriteReply(requester, MemoryMarshal.Read<ReplyRecord>(waiting.Record), waiting.Record.AsSpan(ReplyRecord.SizeBytes));
            DropFirstReply(requester, RefusalCode.None);
            moved = true;
        }

        return moved;
    }

    /// <summary>The first reply that waits does so no more: its sender is told why, or that it is there if it wants to know.</summary>
    private void DropFirstReply(Session requester, RefusalCode code)
    {
        WaitingReply waiting = requester.Replies.Dequeue();
        requester.ReplyBytes -= waiting.Bytes;
        _ringBytes -= waiting.Bytes;
        NoticeRecord notice = ReplyEnded(code, waiting.Cookie);
        if ((code == RefusalCode.None && !waiting.WantsWord) || !_sessions.TryGetValue(waiting.Responder, out Session? responder))
        {
            return;
        }

        byte[] told = new byte[NoticeRecord.SizeBytes];
        notice.LengthBytes = NoticeRecord.SizeBytes;
        MemoryMarshal.Write(told, notice);
        responder.Answers.Enqueue(told);
        Warm(responder);
    }

    private void DropReplies(Session requester)
    {
        while (requester.Replies.Count > 0)
        {
            DropFirstReply(requester, RefusalCode.NoRequester);
        }
    }

    // ---- what the broker answers itself

    /// <summary>A request that has died is gone, and who waits for a reply is told. False: not now.</summary>
    private bool TryEndRequest(in DyingMessage message, ReadOnlySpan<byte> properties)
    {
        (uint queue, ulong tag) = (message.Queue, message.Tag);
        if (!TryWriteFact(room => _engine.EndRequest(queue, tag, room, _journal.OpenBlock)))
        {
            return false;
        }

        if (ReplyAddress.TryFind(properties, out ReplyAddress address))
        {
            TellOfDeath(address, message);
        }

        return true;
    }

    private void TellOfDeath(ReplyAddress address, in DyingMessage message)
    {
        RefusalCode code = message.Reason switch
        {
            DeathReason.MaxDeliveries => RefusalCode.NoResponder,
            DeathReason.Overflow => RefusalCode.LimitReached,
            _ => RefusalCode.None, // A consumer's own word.
        };
        FieldReader.TryBytes(message.Words.Span, FieldTag.Text, out ReadOnlySpan<byte> said);
        PropertyWriter payload = new(new byte[Limits.MaxWordsBytes + 64]);
        if (code == RefusalCode.None)
        {
            payload.Text(PropertyTag.Type, "rejected");
        }

        int propertyBytes = payload.Length;
        payload.Raw(said);
        Invariant.Holds(!payload.Overflowed);
        ReplyRecord reply = new()
        {
            LengthBytes = (uint)(ReplyRecord.SizeBytes + payload.Length),
            Kind = RecordKind.ReplyDelivered,
            Flags = ReplyRecord.Last | ReplyRecord.Error,
            PropertyBytes = (ushort)propertyBytes,
            Request = address.Request,
            Check = RecordCheck.Of(payload.Written),
            Code = code,
        };
        _ = PassOn(address.Producer, reply, payload.Written, 0, 0, wantsWord: false, out _);
    }
}

/// <summary>Requests of which nobody waits for parts any more: the last ones that were named.</summary>
internal sealed class UnwantedReplies
{
    private const int Kept = 64;
    private ulong[]? _requests;
    private int _next;

    public void Add(ulong request)
    {
        _requests ??= new ulong[Kept];
        _requests[_next++ % Kept] = request;
        _next %= Kept;
    }

    public bool Contains(ulong request) => _requests is not null && _requests.AsSpan().Contains(request);
}
