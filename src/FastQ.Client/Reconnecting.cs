using System.Runtime.InteropServices;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Client;

// The broker is gone, or ended the session. What was not confirmed stands in the outboxes; it is copied into the new ring under the same
// numbers, and the broker drops what it has decided already. Subscriptions are resumed: what is in hand stays ours while its lease runs.

public sealed unsafe partial class Session
{
    /// <summary>Commands of ours that nobody waits for, by number, with the broker's number of the subscription when they were first sent.</summary>
    private readonly Dictionary<ulong, (Subscription Subscription, uint Id)> _resuming = [];
    private ulong _resumedAt;

    private void Reconnect()
    {
        ThrowIfSentAway();
        Drain(); // The old ring B is still ours to read.
        foreach (Subscription subscription in _subscriptions.Values)
        {
            // What was not handed out goes back uncounted, and comes again: an orderly stop has given it back already.
            GiveUpRuns(subscription);
        }

        PublishPosition();
        FreeRead();
        Deadline deadline = new(_options.Surroundings, _options.Patience);
        ulong claimed = _durableSeen; // Before the resend: the new counters soon pass what the broker knew.
        Connected old = Held;
        Welcome welcome = Again(old, deadline);
        while (!TryResend(old))
        {
            // The broker went away again. What was to be sent again still stands in the old rings.
            welcome.Dispose();
            Held = old;
            ThrowIfSentAway();
            welcome = Again(old, deadline);
        }

        ulong known = welcome.NextNumber - 1;
        old.Unconfirmed.Select(outbox => outbox.Rings).Append(old.Rings).Append(old.NextRings).Distinct().ToList().ForEach(rings => rings?.Dispose());
        old.Bell.Dispose();
        old.Pipe.Dispose();
        old.Socket.Dispose();
        if (claimed > known)
        {
            throw new FastQException(RefusalCode.DataLost, $"Submission {claimed} was confirmed as durable, the broker knows {known}");
        }

        foreach (Subscription subscription in _subscriptions.Values.ToArray())
        {
            Resume(subscription);
        }
    }

    /// <summary>To come back would end in the same way.</summary>
    private void ThrowIfSentAway()
    {
        if (LastWord is { Code: RefusalCode.RingViolation or RefusalCode.OutOfOrder or RefusalCode.UnknownRecord or RefusalCode.Fenced or RefusalCode.LimitReached } fatal)
        {
            IsClosed = true;
            throw fatal;
        }
    }

    /// <summary>What a connection consists of, and what of it was not confirmed.</summary>
    private sealed record Connected(UnixSocket Socket, EventDescriptor Bell, FileHandle Pipe, ClientRings Rings, ClientRings? NextRings, Outbox[] Unconfirmed);

    private Connected Held
    {
        get => new(_socket, _bell, _pipe, _rings, _nextRings, [.. _older, _outbox]);
        set
        {
            (_socket, _bell, _pipe, _rings, _nextRings, _outbox) = (value.Socket, value.Bell, value.Pipe, value.Rings, value.NextRings, value.Unconfirmed[^1]);
            _older.Clear();
            _older.AddRange(value.Unconfirmed[..^1]);
        }
    }

    /// <summary>Connects again, within the patience, and goes over to the new rings.</summary>
    private Welcome Again(Connected old, Deadline deadline)
    {
        Welcome? welcome;
        while ((welcome = Connector.TryConnect(_options, _instance, _producer, _durableSeen, old.Unconfirmed[^1].Ring.RingBytes, old.Rings.Deliveries.RingBytes, deadline, out string why)) is null)
        {
            if (!deadline.TryPause(_giveUp))
            {
                throw new FastQException(RefusalCode.Disconnected, LastWord is FastQException said ? $"{why} (the broker's last word: {said.Message})" : why);
            }
        }

        Reconnects++;
        _resumedAt = welcome.NextNumber;
        (_socket, _bell, _pipe, _rings, _nextRings) = (welcome.Socket, welcome.Bell, welcome.Pipe, welcome.Rings, null);
        _outbox = new Outbox(_rings);
        _older.Clear();
        _slots.KeepAll();
        (_publishedPosition, _seen, _isGrowing, _slotsToAcknowledge) = (0, default, false, 0);
        Take(welcome);
        ForgetRunsInRing();
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

    /// <summary>Copies what was not confirmed from the old rings, in order, under the same numbers. False: the broker went away meanwhile.</summary>
    private bool TryResend(Connected before)
    {
        foreach (Outbox old in before.Unconfirmed)
        {
            for (ulong at = old.Freed; at < old.Ring.Head;)
            {
                RecordPrefix prefix = MemoryMarshal.Read<RecordPrefix>(old.Ring.Written(at, RecordPrefix.SizeBytes));
                int length = (int)prefix.LengthBytes;
                if (prefix.Kind is < RecordKind.Credit and not RecordKind.RepliesUnwanted && !TryResendOne(old.Ring.Written(at, length), prefix))
                {
                    return false;
                }

                at += (ulong)Limits.Align(length);
            }
        }

        return true;
    }

    private bool TryResendOne(ReadOnlySpan<byte> record, RecordPrefix prefix)
    {
        // A reply has no number: it is kept until all is written that is sent again.
        ulong number = prefix.Kind == RecordKind.Transaction ? MemoryMarshal.Read<TransactionHeader>(record).LastNumber : prefix.Kind == RecordKind.Reply ? LastNumber : MemoryMarshal.Read<ulong>(record[8..]);
        ConfirmLevel level = prefix.Kind == RecordKind.Reply ? ConfirmLevel.Written : (ConfirmLevel)(prefix.Flags & MessageHeader.ConfirmMask);
        level = level == ConfirmLevel.None && prefix.Kind != RecordKind.Message ? ConfirmLevel.Written : level;
        const int LooksBetween = 256;
        for (int looks = 1; _outbox.Room < record.Length + 2 * ControlRecord.SizeBytes || !_outbox.HasMarkRoom; looks++)
        {
            _options.Surroundings.Yield(); // The new ring is as large as the old one: the broker reads it as we go.
            Drain(); // It reads no further while refusals wait for room.
            FreeRead();
            if (looks % LooksBetween == 0 && TryReadSocket(out bool isGone) && isGone)
            {
                return false;
            }
        }

        RingWriter ring = _outbox.Ring;
        ulong start = ring.Head;
        Span<byte> again = ring.Next(record.Length);
        record.CopyTo(again);
        if (prefix.Kind == RecordKind.Command && MemoryMarshal.Read<CommandRecord>(record).Command == CommandKind.ResumeSubscription && _resuming.TryGetValue(number, out (Subscription Subscription, uint Id) resuming))
        {
            // An earlier connection's word: since then more was handed out, which is not to be given back.
            int fields = WriteResume(again[CommandRecord.SizeBytes..], resuming.Id, resuming.Subscription);
            Invariant.Holds(CommandRecord.SizeBytes + fields == record.Length);
        }

        ring.Advance(record.Length);
        _outbox.Add(start, number, level);
        ring.Publish();
        RingBroker();
        Resent++;
        return true;
    }

    /// <summary>Says that a subscription is still ours; the answer comes with the others (<see cref="TakeResumeAnswer"/>).</summary>
    private void Resume(Subscription subscription)
    {
        Span<byte> room = stackalloc byte[256];
        ReadOnlySpan<byte> fields = room[..WriteResume(room, subscription.Id, subscription)];
        _resuming[SendCommand(CommandKind.ResumeSubscription, fields, ConfirmLevel.Written)] = (subscription, subscription.Id);
    }

    /// <summary>Always of the same length.</summary>
    private static int WriteResume(Span<byte> room, uint id, Subscription subscription)
    {
        FieldWriter writer = new(room);
        writer.Number(FieldTag.Subscription, id);
        writer.Number(FieldTag.FirstDelivery, subscription.NextDelivery);
        writer.Number(FieldTag.CreditMessages, subscription.Credit);
        writer.Number(FieldTag.CreditBytes, (ulong)subscription.Options.CreditBytes);
        return writer.Length;
    }

    /// <summary>An answer that nobody waits for: that of a resumed subscription. One that the broker does not know any more is made anew.</summary>
    private void TakeResumeAnswer(in AnswerRecord answer, byte[] payload)
    {
        if (!_resuming.Remove(answer.Number, out (Subscription Subscription, uint Id) asked))
        {
            return;
        }

        Subscription subscription = asked.Subscription;
        if (subscription.Id != asked.Id)
        {
            return; // It was made anew meanwhile, by what was sent before this.
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
            GiveUpRuns(subscription);
            subscription.End(new FastQException(answer.Code));
            return;
        }

        // What was in hand has gone to others: settling it is answered as late by nobody, so it is not sent.
        GiveUpRuns(subscription);
        subscription.Restart(subscription.Id, 1);
        Span<byte> room = stackalloc byte[256];
        FieldWriter writer = new(room);
        WriteSubscribe(ref writer, subscription);
        _resuming[SendCommand(CommandKind.Subscribe, writer.Written, ConfirmLevel.Written)] = (subscription, subscription.Id);
    }
}
