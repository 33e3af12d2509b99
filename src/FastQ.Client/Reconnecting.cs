using System.Runtime.InteropServices;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Client;

// The broker is gone, or ended the session. What was not confirmed stands in the outboxes; it is copied into the new ring under the same
// numbers, and the broker drops what it has decided already. Subscriptions are resumed: what is in hand stays ours while its lease runs.

public sealed unsafe partial class Session
{
    private readonly Dictionary<ulong, Subscription> _resuming = [];
    private ulong _resumedAt;

    private void Reconnect()
    {
        while (!TryReconnect())
        {
        }
    }

    /// <returns>False: the broker that took us in went away before all was sent again. Everything is as before.</returns>
    private bool TryReconnect()
    {
        if (LastWord is { Code: RefusalCode.RingViolation or RefusalCode.OutOfOrder or RefusalCode.UnknownRecord or RefusalCode.Fenced or RefusalCode.LimitReached } fatal)
        {
            IsClosed = true;
            throw fatal;
        }

        Drain(); // The old ring B is still ours to read.
        foreach (Subscription subscription in _subscriptions.Values)
        {
            // What was not handed out goes back uncounted, and comes again: an orderly stop has given it back already.
            GiveUpRuns(subscription);
        }

        PublishPosition();
        FreeRead();
        Welcome welcome = AwaitBroker();
        Reconnects++;
        _resumedAt = welcome.NextNumber;
        ulong known = welcome.NextNumber - 1;
        ulong claimed = _durableSeen; // Before the resend: the new counters soon pass what the broker knew.
        Outbox[] unconfirmed = [.. _older, _outbox];
        ClientRings oldDeliveries = _rings;
        UnixSocket oldSocket = _socket;
        (EventDescriptor oldBell, FileHandle oldPipe) = (_bell, _pipe);
        (_socket, _bell, _pipe, _rings) = (welcome.Socket, welcome.Bell, welcome.Pipe, welcome.Rings);
        _outbox = new Outbox(_rings);
        _older.Clear();
        (_publishedPosition, _seen, _isGrowing, _slotsToAcknowledge) = (0, default, false, 0);
        Take(welcome);
        ForgetRunsInRing();

        if (!TryResend(unconfirmed))
        {
            // The old rings still hold all of it, and the socket still says that their broker is gone.
            (_socket, _bell, _pipe, _rings, _outbox) = (oldSocket, oldBell, oldPipe, oldDeliveries, unconfirmed[^1]);
            _older.Clear();
            _older.AddRange(unconfirmed[..^1]);
            welcome.Dispose();
            return false;
        }

        foreach (Outbox outbox in unconfirmed)
        {
            if (outbox.Rings != oldDeliveries && outbox.Rings != _nextRings)
            {
                outbox.Rings.Dispose();
            }
        }

        _nextRings?.Dispose();
        _nextRings = null;
        oldDeliveries.Dispose();
        oldBell.Dispose();
        oldPipe.Dispose();
        oldSocket.Dispose();
        if (claimed > known)
        {
            throw new FastQException(RefusalCode.DataLost, $"Submission {claimed} was confirmed as durable, the broker knows {known}");
        }

        foreach (Subscription subscription in _subscriptions.Values.ToArray())
        {
            Resume(subscription);
        }

        return true;
    }

    /// <summary>Connects within the patience, as the producer that this session is.</summary>
    private Welcome AwaitBroker()
    {
        int submissionBytes = _outbox.Ring.RingBytes;
        int deliveryBytes = _rings.Deliveries.RingBytes;
        Deadline deadline = new(_options.Patience);
        Welcome? welcome;
        while ((welcome = Connector.TryConnect(_options, _instance, _producer, _durableSeen, submissionBytes, deliveryBytes, out string why)) is null)
        {
            if (!deadline.TryPause(_giveUp))
            {
                throw new FastQException(RefusalCode.Disconnected, LastWord is FastQException said ? $"{why} (the broker's last word: {said.Message})" : why);
            }
        }

        return welcome;
    }

    /// <summary>Runs that are still being handed out hold nothing of the old ring; their place in it is no matter any more.</summary>
    private void ForgetRunsInRing()
    {
        while (_runs.TryDequeue(out DeliveryRun? run))
        {
            Invariant.Holds(run.IsTaken);
            run.IsListed = false;
            if (run.IsOver)
            {
                Free(run);
            }
        }
    }

    /// <summary>Copies what was not confirmed from the old rings, in order, under the same numbers.</summary>
    /// <returns>False: the broker went away while we waited for room.</returns>
    private bool TryResend(Outbox[] unconfirmed)
    {
        foreach (Outbox old in unconfirmed)
        {
            for (ulong at = old.Freed; at < old.Ring.Head;)
            {
                RecordPrefix prefix = MemoryMarshal.Read<RecordPrefix>(old.Ring.Written(at, RecordPrefix.SizeBytes));
                int length = (int)prefix.LengthBytes;
                if (prefix.Kind < RecordKind.Credit)
                {
                    if (!TryAwaitRoom(length))
                    {
                        return false;
                    }

                    ResendOne(old.Ring.Written(at, length), prefix);
                }

                at += (ulong)Limits.Align(length);
            }
        }

        return true;
    }

    /// <summary>The new ring is as large as the old one, yet what was under way may have been in two: the broker reads it as we go.</summary>
    private bool TryAwaitRoom(int length)
    {
        while (_outbox.Room < length + 2 * ControlRecord.SizeBytes || !_outbox.HasMarkRoom)
        {
            if (TryReadSocket(out bool isGone) && isGone)
            {
                return false;
            }

            Processor.Yield();
            Drain(); // It reads no further while refusals wait for room.
            FreeRead();
        }

        return true;
    }

    private void ResendOne(ReadOnlySpan<byte> record, RecordPrefix prefix)
    {
        ulong number = MemoryMarshal.Read<ulong>(record[8..]);
        ConfirmLevel level = (ConfirmLevel)(prefix.Flags & MessageHeader.ConfirmMask);
        level = level == ConfirmLevel.None && prefix.Kind != RecordKind.Message ? ConfirmLevel.Written : level;
        RingWriter ring = _outbox.Ring;
        ulong start = ring.Head;
        record.CopyTo(ring.Next(record.Length));
        ring.Advance(record.Length);
        _outbox.Add(start, number, level);
        ring.Publish();
        RingBroker();
        Resent++;
    }

    /// <summary>Says that a subscription is still ours; the answer comes with the others (<see cref="TakeResumeAnswer"/>).</summary>
    private void Resume(Subscription subscription)
    {
        Span<byte> room = stackalloc byte[256];
        FieldWriter writer = new(room);
        writer.Number(FieldTag.Subscription, subscription.Id);
        writer.Number(FieldTag.FirstDelivery, subscription.NextDelivery);
        writer.Number(FieldTag.CreditMessages, subscription.Credit);
        writer.Number(FieldTag.CreditBytes, (ulong)subscription.Options.CreditBytes);
        _resuming[SendCommand(CommandKind.ResumeSubscription, writer.Written, ConfirmLevel.Written)] = subscription;
    }

    /// <summary>An answer that nobody waits for: that of a resumed subscription. One that the broker does not know any more is made anew.</summary>
    private void TakeResumeAnswer(in AnswerRecord answer, byte[] payload)
    {
        if (!_resuming.Remove(answer.Number, out Subscription? subscription))
        {
            return;
        }

        if (answer.Code == RefusalCode.None)
        {
            if (Connector.Number(payload, FieldTag.Subscription) is ulong id && id != subscription.Id)
            {
                _subscriptions.Remove(subscription.Id);
                GiveUpRuns(subscription);
                subscription.Restart((uint)id, Connector.Number(payload, FieldTag.FirstDelivery));
                _subscriptions[subscription.Id] = subscription;
            }

            return;
        }

        if (answer.Code != RefusalCode.UnknownSubscription)
        {
            _subscriptions.Remove(subscription.Id);
            subscription.Ended = new FastQException(answer.Code);
            return;
        }

        // What was in hand has gone to others: settling it is answered as late by nobody, so it is not sent.
        GiveUpRuns(subscription);
        subscription.Restart(subscription.Id, 1);
        Span<byte> room = stackalloc byte[256];
        FieldWriter writer = new(room);
        writer.Number(FieldTag.Queue, subscription.Queue);
        writer.Number(FieldTag.LeaseMilliseconds, (ulong)(subscription.Options.Lease?.TotalMilliseconds ?? 0));
        writer.Number(FieldTag.CreditMessages, subscription.Credit);
        writer.Number(FieldTag.CreditBytes, (ulong)subscription.Options.CreditBytes);
        _resuming[SendCommand(CommandKind.Subscribe, writer.Written, ConfirmLevel.Written)] = subscription;
    }
}
