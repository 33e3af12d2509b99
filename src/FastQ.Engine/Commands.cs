using System.Runtime.CompilerServices;
using System.Text;
using FastQ.Protocol;

namespace FastQ.Engine;

// Commands: each judges, writes its facts into the room it is given, and applies them.

public sealed partial class QueueEngine
{
    /// <summary>Declares a queue. One that exists with the same attributes is a success without a record.</summary>
    /// <param name="name">Of any origin.</param>
    /// <param name="wanted">Attributes; judged here.</param>
    /// <param name="room">At least <see cref="MaxFactBytes"/>.</param>
    /// <param name="block">The open block.</param>
    /// <param name="written">Bytes written.</param>
    /// <param name="queue">Its id.</param>
    /// <param name="isNew">It was made now.</param>
    /// <param name="difference">With <see cref="RefusalCode.QueueExists"/>: what differs; with bad arguments: what is wrong.</param>
    /// <param name="owner">The producer whose session it goes with; 0: none.</param>
    public Decision DeclareQueue(ReadOnlySpan<byte> name, QueueAttributes wanted, Span<byte> room, ulong block, out int written, out uint queue, out bool isNew, out string difference, ulong owner = 0)
    {
        (written, queue, isNew) = (0, 0, false);
        if (JudgeQueue(name, wanted, out difference) is { IsTaken: false } wrong)
        {
            return wrong;
        }

        string text = Encoding.UTF8.GetString(name);
        wanted = wanted.For(text);

        difference = LimitFaultOf(wanted);
        if (difference.Length > 0)
        {
            return Decision.Refuse(RefusalCode.BadArgument);
        }

        if (_byName.TryGetValue(text, out Queue? existing))
        {
            queue = existing.Id;
            difference = existing.Owner != owner ? "it is, or is not, to be the queue of this session alone" : existing.Attributes.DifferenceTo(wanted);
            return difference.Length == 0 ? Decision.Taken : Decision.Refuse(RefusalCode.QueueExists);
        }

        if (_queues.Count >= _limits.MaxQueues)
        {
            return Decision.Refuse(RefusalCode.LimitReached, (ulong)_limits.MaxQueues, "Queues");
        }

        Span<byte> payload = stackalloc byte[MaxFactBytes - FactRecord.SizeBytes];
        FieldWriter fields = new(payload);
        fields.Bytes(FieldTag.Name, name);
        wanted.Write(ref fields);
        Invariant.Holds(!fields.Overflowed);
        queue = _nextQueue;
        isNew = true;
        written = Write(new FactRecord { Kind = RecordKind.QueueDeclared, Subject = queue, First = owner }, fields.Written, room, block);
        if (owner != 0)
        {
            Own(_queues[queue]);
        }

        TellOf(queue, new BrokerEvent(BrokerEventKind.QueueCreated, WallMicros) { IsTemporary = owner != 0 });

        return Decision.Taken;
    }

    /// <summary>May there be a queue of this name with these attributes?</summary>
    /// <param name="name">Any bytes.</param>
    /// <param name="wanted">As they came.</param>
    /// <param name="fault">What is wrong with them, in words.</param>
    public static Decision JudgeQueue(ReadOnlySpan<byte> name, QueueAttributes wanted, out string fault)
    {
        fault = "";
        if (!Names.IsValid(name))
        {
            return Decision.Refuse(RefusalCode.BadName);
        }

        string text = Encoding.UTF8.GetString(name);
        fault = wanted.For(text).Fault(text);
        return fault.Length > 0 ? Decision.Refuse(RefusalCode.BadArgument) : Decision.Taken;
    }

    /// <summary>Gives a queue other attributes. The same ones are a success without a record.</summary>
    /// <param name="queue">Its id.</param>
    /// <param name="fields">Those that change; the others stay.</param>
    /// <param name="room">At least <see cref="MaxFactBytes"/>.</param>
    /// <param name="block">The open block.</param>
    /// <param name="written">Bytes written.</param>
    /// <param name="fault">What is wrong with them, in words.</param>
    public Decision ChangeQueue(uint queue, ReadOnlySpan<byte> fields, Span<byte> room, ulong block, out int written, out string fault)
    {
        (written, fault) = (0, "");
        if (FindQueue(queue) is not Queue found)
        {
            return Unknown(queue);
        }

        string name = Encoding.UTF8.GetString(found.Name);
        QueueAttributes wanted = found.Attributes.With(fields).For(name);
        fault = wanted.Fault(name) is { Length: > 0 } wrong ? wrong : LimitFaultOf(wanted);
        if (fault.Length > 0)
        {
            return Decision.Refuse(RefusalCode.BadArgument);
        }

        if (wanted != found.Attributes)
        {
            Span<byte> payload = stackalloc byte[MaxFactBytes - FactRecord.SizeBytes];
            FieldWriter writer = new(payload);
            wanted.Write(ref writer);
            Invariant.Holds(!writer.Overflowed);
            written = Write(new FactRecord { Kind = RecordKind.QueueChanged, Subject = queue }, writer.Written, room, block);
        }

        return Decision.Taken;
    }

    /// <summary>Stops or resumes a queue's ways; kept over restarts. What consumers hold stays theirs.</summary>
    public Decision PauseQueue(uint queue, PausedWays ways, Span<byte> room, ulong block, out int written)
    {
        written = 0;
        if (FindQueue(queue) is not Queue found)
        {
            return Unknown(queue);
        }

        if (ways > (PausedWays.In | PausedWays.Out | PausedWays.Breaker) || (ways & ~found.Paused & PausedWays.Breaker) != 0)
        {
            return Decision.Refuse(RefusalCode.BadArgument);
        }

        PausedWays before = found.Paused;
        written = ways == before ? 0 : Write(new FactRecord { Kind = RecordKind.QueuePaused, Small = (ushort)ways, Subject = queue }, default, room, block);
        TellPaused(found, before);
        return Decision.Taken;
    }

    /// <summary>Stops or resumes one consumer; kept over restarts. What it holds stays its own, and may be settled.</summary>
    public Decision PauseSubscription(uint queue, uint subscription, bool isPaused, Span<byte> room, ulong block, out int written)
    {
        written = 0;
        if (FindSubscription(subscription) is not Subscription found || found.Queue.Id != queue)
        {
            return Decision.Refuse(RefusalCode.UnknownSubscription, 0, $"The queue has no subscription {subscription}");
        }

        written = isPaused == found.IsPaused ? 0 : Write(new FactRecord { Kind = RecordKind.SubscriptionPaused, Small = isPaused ? (ushort)1 : (ushort)0, Subject = subscription }, default, room, block);
        return Decision.Taken;
    }

    private bool ApplySubscriptionPaused(Subscription subscription, ushort paused)
    {
        subscription.IsPaused = paused == 1;
        List(subscription.Queue);
        return paused <= 1;
    }

    /// <summary>Deletes a queue with all it holds. Its name is free at once; the work behind it is sliced.</summary>
    public Decision DeleteQueue(uint queue, Span<byte> room, ulong block, out int written)
    {
        written = 0;
        if (FindQueue(queue) is not Queue found)
        {
            return Unknown(queue);
        }

        TellDeleted(found, EventCause.Command);
        written = Write(new FactRecord { Kind = RecordKind.QueueDeleted, Subject = queue }, default, room, block);
        return Decision.Taken;
    }

    /// <summary>Empties a queue of what is ready or delayed; what is in flight stays. The counts change at once, the work behind it is sliced.</summary>
    public Decision PurgeQueue(uint queue, Span<byte> room, ulong block, out int written, out ulong purged)
    {
        (written, purged) = (0, 0);
        if (FindQueue(queue) is not Queue found)
        {
            return Unknown(queue);
        }

        purged = (ulong)(found.Ready + found.Delayed);
        written = Write(new FactRecord { Kind = RecordKind.QueuePurged, Subject = queue, First = found.Index.NextTag }, default, room, block);
        return Decision.Taken;
    }

    /// <summary>Makes a subscription.</summary>
    /// <param name="leaseMilliseconds">0: the queue's.</param>
    /// <param name="priority">0 to 255: higher ones are served first, as long as they have credit.</param>
    /// <param name="isExclusive">Refused where there is another, and so is every other while this one is there.</param>
    public Decision Subscribe(uint queue, ulong producer, long leaseMilliseconds, ulong priority, bool isExclusive, Span<byte> room, ulong block, out int written, out uint subscription)
    {
        (written, subscription) = (0, 0);
        if (FindQueue(queue) is not Queue found)
        {
            return Unknown(queue);
        }

        long lease = leaseMilliseconds == 0 ? found.Attributes.LeaseMilliseconds : leaseMilliseconds;
        if (lease is < Limits.MinLeaseMilliseconds or > Limits.MaxLeaseMilliseconds || priority > byte.MaxValue)
        {
            return Decision.Refuse(RefusalCode.BadArgument);
        }

        if (found.Owner != 0 && found.Owner != producer)
        {
            return Decision.Refuse(RefusalCode.Denied, 0, "The queue is another session's own");
        }

        if (found.Subscriptions.Count > 0 && (isExclusive || found.Subscriptions[0].Rank.IsExclusive))
        {
            return Decision.Refuse(RefusalCode.Denied, 0, isExclusive ? "The queue has consumers already: none can be exclusive" : "The queue has an exclusive consumer");
        }

        if (_subscriptions.Count >= _limits.MaxSubscriptions)
        {
            return Decision.Refuse(RefusalCode.LimitReached, (ulong)_limits.MaxSubscriptions, "Subscriptions");
        }

        subscription = _nextSubscription;
        written = Write(new FactRecord { Kind = RecordKind.Subscribed, Subject = subscription, Count = queue, First = producer, Second = (ulong)lease, Third = new ConsumerRank((byte)priority, isExclusive).Value }, default, room, block);
        _subscriptions[subscription].IsAttached = true;
        TellOf(queue, new BrokerEvent(BrokerEventKind.ConsumerAdded, WallMicros) { Subscription = subscription });
        return Decision.Taken;
    }

    /// <summary>A client that came back speaks for its subscription again. Deliveries that it never saw go back uncounted.</summary>
    public Decision ResumeSubscription(uint subscription, ulong producer, ulong firstNotTaken, Span<byte> room, ulong block, out int written)
    {
        written = 0;
        if (FindSubscription(subscription) is not Subscription found || found.Producer != producer)
        {
            return Decision.Refuse(RefusalCode.UnknownSubscription);
        }

        found.IsAttached = true;
        if (firstNotTaken < found.NextDelivery)
        {
            written = Write(new FactRecord { Kind = RecordKind.SubscriptionResumed, Subject = subscription, First = firstNotTaken }, default, room, block);
        }

        return Decision.Taken;
    }

    /// <summary>Ends a subscription: all that is open goes back to its place at once, from <paramref name="firstNotTaken"/> on uncounted.</summary>
    public Decision Unsubscribe(uint subscription, ulong producer, ulong firstNotTaken, Span<byte> room, ulong block, out int written)
    {
        written = 0;
        if (FindSubscription(subscription) is not Subscription found || found.Producer != producer)
        {
            return Decision.Refuse(RefusalCode.UnknownSubscription);
        }

        written = Write(new FactRecord { Kind = RecordKind.Unsubscribed, Subject = subscription, First = firstNotTaken }, default, room, block);
        return Decision.Taken;
    }

    /// <summary>The session is gone, but the owner may come back (a stop): nothing is dispatched to it, and what was not taken goes back uncounted.</summary>
    public int Detach(uint subscription, ulong firstNotTaken, Span<byte> room, ulong block)
    {
        Subscription found = _subscriptions[subscription];
        found.IsAttached = false;
        found.CreditMessages = 0;
        NoteLeaseEnd(found, IntervalMicros);
        return firstNotTaken < found.NextDelivery ? Write(new FactRecord { Kind = RecordKind.SubscriptionResumed, Subject = subscription, First = firstNotTaken }, default, room, block) : 0;
    }

    /// <summary>Ends one open delivery, as if it had not been: its message goes back to its place at once. Bytes written; 0 when it is not open.</summary>
    public int EndDelivery(uint subscription, ulong delivery, Span<byte> room, ulong block)
    {
        if (!TryFindDelivery(subscription, delivery, out _, out _, out _))
        {
            return 0;
        }

        int written = Write(new FactRecord { Kind = RecordKind.LeaseEnded, Small = FactRecord.Uncounted, Subject = subscription, Count = 1, First = delivery }, default, room, block);
        LookIfDone(_subscriptions[subscription]);
        return written;
    }

    /// <summary>The record of a message that is ready or dying is rotten: it is kept, shown and never delivered.</summary>
    public bool TryMarkDamaged(uint queue, ulong tag, Span<byte> room, ulong block, out int written)
    {
        written = 0;
        if (FindQueue(queue) is not Queue found)
        {
            return false;
        }

        ref IndexEntry entry = ref found.Index.Find(tag);
        if (Unsafe.IsNullRef(ref entry) || !(entry.IsReady || entry.State == EntryState.Dying) || found.IsVoid(tag, entry))
        {
            return false;
        }

        written = Write(new FactRecord { Kind = RecordKind.MessageDamaged, Subject = queue, First = tag }, default, room, block);
        return true;
    }

    private Decision Unknown(uint queue) => Decision.Refuse(queue != 0 && queue < _nextQueue ? RefusalCode.QueueDeleted : RefusalCode.UnknownQueue);
}
