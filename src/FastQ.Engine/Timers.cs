using FastQ.Protocol;

namespace FastQ.Engine;

// What happens by itself: leases that end, slices of purges and deletions, subscriptions that nobody speaks for, producers forgotten.
// Each is one record. What is due is found without looking at what is not:
//
//   leases: a heap of (a time not after the first lease end, subscription) --due--> a walk over its open deliveries, a record per run
//   dates:  a heap of (a time not after the first that is due or expires, queue) --due--> so many of its messages, a record
//   purges: their queues, lowest id first        producers: once an hour a walk over their ids, some thousands a call

public sealed partial class QueueEngine
{
    /// <summary>Tags, deliveries or producers that one record or call looks at, about.</summary>
    public const uint SliceTags = 4096;

    private const int SlicePages = 4;
    private const long HourMicros = 3600L * 1_000_000;
    private readonly SortedSet<uint> _purging = [];
    private readonly PriorityQueue<uint, long> _leases = new();
    private readonly PriorityQueue<uint, long> _queueTimers = new();
    private uint _walked; // The subscription whose leases are being walked over; 0: none.
    private ulong _forgetNext; // Next producer of the hourly walk; 0: none is under way.
    private ulong _oldestProducer = 1;
    private long _nextForgetMicros;

    /// <summary>Until then no lease ends: owners may come back after a restart (DESIGN-REVIEW R36). Interval time.</summary>
    public long GraceUntilMicros { get; set; }

    /// <summary>Interval time at which <see cref="RunTimer"/> has something to do; <see cref="long.MaxValue"/>: never. May be early, never late.</summary>
    public long NextTimerMicros
    {
        get
        {
            // After a recovery the first batch starts the timers: without it nobody would ever end the leases of owners that do not come back.
            if (!_isLive || _purging.Count > 0 || _forgetNext != 0)
            {
                return IntervalMicros;
            }

            long abandoned = _abandoned.Count > 0 ? Math.Max(IntervalMicros, GraceUntilMicros) : long.MaxValue;
            long lease = _walked != 0 ? IntervalMicros : _leases.TryPeek(out _, out long end) ? end : long.MaxValue;
            long due = _queueTimers.TryPeek(out _, out long first) ? first : long.MaxValue;
            return Math.Min(Math.Min(Math.Min(Math.Max(lease, GraceUntilMicros), due), abandoned), _nextForgetMicros == 0 ? long.MaxValue : _nextForgetMicros);
        }
    }

    /// <summary>Does one piece of what is due at the batch's time: a slice of a purge, delays that are over, messages that have expired, an ended lease, a subscription that nobody speaks for, a forgotten producer.</summary>
    /// <param name="room">At least <see cref="MaxFactBytes"/>.</param>
    /// <param name="block">The open block.</param>
    /// <returns>Bytes written, of one record; 0: nothing more is due now.</returns>
    public int RunTimer(Span<byte> room, ulong block)
    {
        if (_purging.Count > 0)
        {
            Queue queue = _queues[_purging.Min];
            ulong tags = queue.Index.AfterPages(queue.PurgeNext, SlicePages, queue.PurgeEnd) - queue.PurgeNext;
            return Write(new FactRecord { Kind = RecordKind.PurgeSlice, Subject = queue.Id, Count = (uint)Math.Min(tags, uint.MaxValue) }, default, room, block);
        }

        int written = RunDates(room, block);
        if (written > 0 || IntervalMicros < GraceUntilMicros)
        {
            return written;
        }

        written = DeleteAbandoned(room, block);
        written = written > 0 ? written : RunLeases(room, block);
        return written > 0 ? written : ForgetProducers(room, block);
    }

    /// <summary>Something of this queue falls due then.</summary>
    private void NoteQueueTimer(Queue queue, long atMicros)
    {
        if (_isLive && atMicros < queue.LookAtMicros)
        {
            queue.LookAtMicros = atMicros;
            _queueTimers.Enqueue(queue.Id, atMicros);
        }
    }

    /// <summary>So many messages of the queue that is due first expire, or are ready: a slice at a time, so that a flood holds nobody up. Entries of the heap that a later one replaced are dropped.</summary>
    private int RunDates(Span<byte> room, ulong block)
    {
        while (_queueTimers.TryPeek(out uint id, out long at) && at <= IntervalMicros)
        {
            _queueTimers.Dequeue();
            if (!_queues.TryGetValue(id, out Queue? queue) || queue.LookAtMicros != at || queue.IsDeleted)
            {
                continue;
            }

            queue.LookAtMicros = long.MaxValue;
            if (queue.Flow is QueueFlow flow)
            {
                WakeFlow(queue, flow);
            }

            queue.Ledger?.Clear(IntervalMicros, (int)SliceTags);
            queue.Processed?.Clear(IntervalMicros, (int)SliceTags);
            if (IdleMicros(queue) <= IntervalMicros)
            {
                TellDeleted(queue, EventCause.Idle);
                return Write(new FactRecord { Kind = RecordKind.QueueDeleted, Subject = id }, default, room, block);
            }

            bool expires = TryPeekExpiry(queue, out TimedTag oldest) && oldest.AtMicros <= IntervalMicros;
            if (expires || (queue.Due.TryPeek(out TimedTag first) && first.AtMicros <= IntervalMicros))
            {
                RecordKind kind = expires ? RecordKind.MessagesExpired : RecordKind.MessagesDue;
                return Write(new FactRecord { Kind = kind, Subject = id, Count = SliceTags, First = (ulong)IntervalMicros }, default, room, block);
            }

            NoteQueueTimer(queue, NextDate(queue));
        }

        return 0;
    }

    /// <summary>A lease of this subscription ends then, or it is to be looked at.</summary>
    private void NoteLeaseEnd(Subscription subscription, long atMicros)
    {
        if (_isLive && atMicros < subscription.LookAtMicros)
        {
            subscription.LookAtMicros = atMicros;
            _leases.Enqueue(subscription.Id, atMicros);
        }
    }

    /// <summary>Nobody speaks for it, and it holds nothing: it is to be ended.</summary>
    private void LookIfDone(Subscription subscription)
    {
        if (!subscription.IsAttached && subscription.Open == 0)
        {
            NoteLeaseEnd(subscription, IntervalMicros);
        }
    }

    /// <summary>Recovery is over: each subscription is looked at once.</summary>
    private void StartTimers()
    {
        _isLive = true;
        _nextForgetMicros = IntervalMicros + HourMicros;
        foreach (Subscription subscription in _subscriptions.Values)
        {
            NoteLeaseEnd(subscription, IntervalMicros);
        }

        foreach (Queue queue in _queues.Values)
        {
            NoteQueueTimer(queue, NextDate(queue));
            LookIfOver(queue);
        }

        StartOwners();
    }

    private int RunLeases(Span<byte> room, ulong block)
    {
        while (_walked != 0 || TryNextWalk())
        {
            if (!_subscriptions.TryGetValue(_walked, out Subscription? subscription))
            {
                _walked = 0;
                continue;
            }

            if (TryNextLeaseRun(subscription, out ulong first, out uint count))
            {
                return Write(new FactRecord { Kind = RecordKind.LeaseEnded, Subject = subscription.Id, Count = count, First = first }, default, room, block);
            }

            _walked = 0;
            if (subscription.Open == 0 && !subscription.IsAttached)
            {
                TellOf(subscription.Queue.Id, new BrokerEvent(BrokerEventKind.ConsumerRemoved, WallMicros) { Subscription = subscription.Id, Cause = EventCause.NotReturned });
                return Write(new FactRecord { Kind = RecordKind.Unsubscribed, Subject = subscription.Id, First = ulong.MaxValue }, default, room, block);
            }

            if (subscription.WalkEarliest != long.MaxValue)
            {
                NoteLeaseEnd(subscription, subscription.WalkEarliest);
            }
        }

        return 0;
    }

    /// <summary>Begins a walk over the subscription that is due. Entries of the heap that a later one replaced are dropped.</summary>
    private bool TryNextWalk()
    {
        while (_leases.TryPeek(out uint id, out long at) && at <= IntervalMicros)
        {
            _leases.Dequeue();
            if (_subscriptions.TryGetValue(id, out Subscription? subscription) && subscription.LookAtMicros == at)
            {
                subscription.LookAtMicros = long.MaxValue;
                subscription.WalkNext = 0;
                subscription.WalkEarliest = long.MaxValue;
                _walked = id;
                return true;
            }
        }

        return false;
    }

    /// <summary>The next run of open deliveries, by their numbers, whose leases are over; what is not open between them does not part it.</summary>
    private bool TryNextLeaseRun(Subscription subscription, out ulong first, out uint count)
    {
        (first, count) = (0, 0);
        SparseRing<OpenDelivery> window = subscription.Window;
        for (ulong delivery = window.NextOccupied(subscription.WalkNext); delivery != ulong.MaxValue; delivery = window.NextOccupied(delivery + 1))
        {
            long end = window.Find(delivery).LeaseEndMicros;
            bool isOver = end <= IntervalMicros;
            if (count > 0 && (!isOver || delivery - first >= SliceTags))
            {
                subscription.WalkNext = delivery;
                return true;
            }

            if (isOver)
            {
                first = count == 0 ? delivery : first;
                count = (uint)(delivery - first + 1);
            }
            else
            {
                subscription.WalkEarliest = Math.Min(subscription.WalkEarliest, end);
            }
        }

        subscription.WalkNext = window.End;
        return count > 0;
    }

    /// <summary>Once an hour: forgets producers whose retention is over, renews those that a session has (DESIGN-REVIEW R38).</summary>
    private int ForgetProducers(Span<byte> room, ulong block)
    {
        if (_forgetNext == 0)
        {
            if (IntervalMicros < _nextForgetMicros)
            {
                return 0;
            }

            _forgetNext = _oldestProducer;
            _nextForgetMicros = IntervalMicros + HourMicros;
        }

        for (uint i = 0; i < SliceTags && _forgetNext < _nextProducer; i++, _forgetNext++)
        {
            if (!_producers.TryGetValue(_forgetNext, out Producer? producer))
            {
                _oldestProducer += _oldestProducer == _forgetNext ? 1u : 0u;
                continue;
            }

            long age = IntervalMicros - producer.LastSeenMicros;
            if (producer.IsAttached && age >= Math.Min(24 * HourMicros, _limits.ProducerRetentionMicros / 2))
            {
                return Write(new FactRecord { Kind = RecordKind.RefusalFloor, First = producer.Id, Second = producer.RefusalFloor }, default, room, block);
            }

            if (!producer.IsAttached && producer.Subscriptions == 0 && age >= _limits.ProducerRetentionMicros)
            {
                return Write(new FactRecord { Kind = RecordKind.ProducerForgotten, First = producer.Id }, default, room, block);
            }
        }

        _forgetNext = _forgetNext < _nextProducer ? _forgetNext : 0;
        return 0;
    }
}
