using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastQ.Protocol;

namespace FastQ.Engine;

// Who gets what next, and when leases end. Queues that have messages and consumers with credit stand in one round; so do the
// subscriptions of a queue. Messages go in runs of consecutive tags: the lower of what came back and of the cursor (DESIGN-REVIEW R45, R46).

public sealed partial class QueueEngine
{
    /// <summary>Tags that one slice of a purge looks at.</summary>
    public const uint SliceTags = 4096;

    private const int SharedRun = 32;
    private const long ForgetMicros = 3600L * 1_000_000;
    private readonly Queue<Queue> _listed = new();
    private readonly SortedSet<uint> _purging = [];
    private long _nextForgetMicros;

    /// <summary>Until then no lease ends: owners may come back after a restart (DESIGN-REVIEW R36). Interval time.</summary>
    public long GraceUntilMicros { get; set; }

    /// <summary>Sets the window of a subscription: most deliveries and bytes unsettled at once.</summary>
    public void SetCredit(uint subscription, uint messages, ulong bytes)
    {
        Subscription found = _subscriptions[subscription];
        (found.CreditMessages, found.CreditBytes) = (messages, bytes);
        List(found.Queue);
    }

    /// <summary>No room to deliver to it now, or room again.</summary>
    public void Hold(uint subscription, bool isHeld)
    {
        if (_subscriptions.TryGetValue(subscription, out Subscription? found) && found.IsHeld != isHeld)
        {
            found.IsHeld = isHeld;
            List(found.Queue);
        }
    }

    /// <summary>The subscription whose turn it is: its queue has messages and it has credit. False: nobody.</summary>
    public bool TryNextDispatch(out uint subscription)
    {
        while (_listed.TryPeek(out Queue? queue))
        {
            if (TryNextSubscription(queue, out subscription))
            {
                return true;
            }

            _listed.Dequeue();
            queue.IsListed = false;
        }

        subscription = 0;
        return false;
    }

    /// <summary>Hands the next messages, of consecutive tags, to the subscription that <see cref="TryNextDispatch"/> named. Writes and applies one record.</summary>
    /// <param name="subscription">From <see cref="TryNextDispatch"/>.</param>
    /// <param name="room">At least 64 bytes.</param>
    /// <param name="entries">Filled from the start; at least one.</param>
    /// <param name="run">What was handed over.</param>
    /// <returns>Bytes written.</returns>
    public int Dispatch(uint subscription, Span<byte> room, Span<DeliveryEntry> entries, out DispatchedRun run)
    {
        Subscription to = _subscriptions[subscription];
        Queue queue = to.Queue;
        _ = _listed.TryDequeue(out Queue? front);
        Invariant.Holds(front == queue && to.HasCredit);
        _listed.Enqueue(queue); // The next queue's turn.

        bool shared = queue.Subscriptions.Count > 1;
        int most = (int)Math.Min(Math.Min(entries.Length, shared ? SharedRun : Limits.MaxRunEntries), to.CreditMessages - to.Open);
        ulong first = FirstReady(queue, out bool cameBack);
        Invariant.Holds(first != 0);
        long leaseEnd = IntervalMicros + to.LeaseMilliseconds * 1000;
        ulong firstDelivery = to.NextDelivery;
        if (to.Window.Count == 0)
        {
            to.Window.StartAt(firstDelivery);
        }

        int count = 0;
        ulong tag = first;
        while (count < most && (ulong)to.OpenBytes < to.CreditBytes)
        {
            ref IndexEntry entry = ref queue.Index.Find(tag);
            if (Unsafe.IsNullRef(ref entry) || (cameBack ? !IsReturned(queue, tag, entry.State) : entry.State != EntryState.Ready))
            {
                break;
            }

            HandOver(to, tag, ref entry, leaseEnd);
            entries[count++] = new DeliveryEntry { Slot = entry.Slot, Offset = entry.Offset, LengthBytes = entry.LengthBytes, DeliveryCount = entry.Deliveries, Flags = entry.Deliveries > 1 ? DeliveryEntry.Redelivered : (ushort)0 };
            tag++;
        }

        Invariant.Holds(count > 0);
        DropGoneFromHeap(queue);
        MoveStragglers(to);
        ulong token = _nextToken;
        _nextToken += (ulong)count;
        run = new DispatchedRun(subscription, queue.Id, firstDelivery, first, token, count, leaseEnd);
        MemoryMarshal.Write(room, new DeliveredRecord { LengthBytes = DeliveredRecord.SizeBytes + TagRun.SizeBytes, Kind = RecordKind.Delivered, Runs = 1, Subscription = subscription, Count = (uint)count, FirstDelivery = firstDelivery, FirstToken = token, LeaseEndMicros = leaseEnd });
        MemoryMarshal.Write(room[DeliveredRecord.SizeBytes..], new TagRun { First = first, Count = (ulong)count });
        return DeliveredRecord.SizeBytes + TagRun.SizeBytes;
    }

    /// <summary>Interval time at which <see cref="RunTimer"/> has something to do; <see cref="long.MaxValue"/>: never.</summary>
    public long NextTimerMicros
    {
        get
        {
            if (_purging.Count > 0)
            {
                return IntervalMicros;
            }

            long next = _nextForgetMicros == 0 ? long.MaxValue : _nextForgetMicros;
            foreach (Subscription subscription in _subscriptions.Values)
            {
                next = Math.Min(next, subscription.Open > 0 ? Math.Max(subscription.EarliestLeaseEnd, GraceUntilMicros) : subscription.IsAttached ? long.MaxValue : Math.Max(IntervalMicros, GraceUntilMicros));
            }

            return next;
        }
    }

    /// <summary>Does one piece of what is due at the batch's time: an ended lease, a slice of a purge, a subscription that nobody speaks for, a forgotten producer.</summary>
    /// <param name="room">At least <see cref="MaxFactBytes"/>.</param>
    /// <param name="block">The open block.</param>
    /// <returns>Bytes written; 0: nothing is due.</returns>
    public int RunTimer(Span<byte> room, ulong block)
    {
        if (_purging.Count > 0)
        {
            return WriteSlice(_queues[_purging.Min], SliceTags, room, block);
        }

        if (IntervalMicros < GraceUntilMicros)
        {
            return 0;
        }

        foreach (Subscription subscription in _subscriptions.Values)
        {
            if (subscription.Open > 0 && subscription.EarliestLeaseEnd <= IntervalMicros && TryEndLeases(subscription, room, block, out int written))
            {
                return written;
            }

            if (subscription.Open == 0 && !subscription.IsAttached)
            {
                return Write(new FactRecord { Kind = RecordKind.Unsubscribed, Subject = subscription.Id, First = ulong.MaxValue }, default, room, block);
            }
        }

        return ForgetProducer(room, block);
    }

    private static bool IsReturned(Queue queue, ulong tag, EntryState state) =>
        state == EntryState.ReturnedAfterPurge || (state == EntryState.Returned && !queue.IsVoid(tag, state));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void List(Queue queue)
    {
        if (!queue.IsListed && queue.Subscriptions.Count > 0 && !queue.IsDeleted)
        {
            queue.IsListed = true;
            _listed.Enqueue(queue);
        }
    }

    private static bool TryNextSubscription(Queue queue, out uint subscription)
    {
        subscription = 0;
        if (queue.Ready == 0 || queue.IsDeleted || FirstReady(queue, out _) == 0)
        {
            return false;
        }

        int count = queue.Subscriptions.Count;
        for (int i = 0; i < count; i++)
        {
            Subscription candidate = queue.Subscriptions[(queue.NextSubscription + i) % count];
            if (candidate.HasCredit)
            {
                queue.NextSubscription = (queue.NextSubscription + i + 1) % count;
                subscription = candidate.Id;
                return true;
            }
        }

        return false;
    }

    /// <summary>The first message to go out; 0: none.</summary>
    private static ulong FirstReady(Queue queue, out bool cameBack)
    {
        DropGoneFromHeap(queue);
        cameBack = queue.Returned.Count > 0 && queue.Returned.Top < queue.Cursor;
        if (cameBack)
        {
            return queue.Returned.Top;
        }

        // Between the cursor and the end only damaged ones (and, in repair, gaps) are passed over.
        while (queue.Cursor < queue.Index.NextTag)
        {
            ref IndexEntry entry = ref queue.Index.Find(queue.Cursor);
            if (!Unsafe.IsNullRef(ref entry) && entry.State == EntryState.Ready)
            {
                return queue.Cursor;
            }

            queue.Cursor++;
        }

        return 0;
    }

    private static void DropGoneFromHeap(Queue queue)
    {
        while (queue.Returned.Count > 0)
        {
            ulong tag = queue.Returned.Top;
            ref IndexEntry entry = ref queue.Index.Find(tag);
            if (!Unsafe.IsNullRef(ref entry) && IsReturned(queue, tag, entry.State))
            {
                return;
            }

            queue.Returned.Pop();
        }
    }

    private int WriteSlice(Queue queue, uint tags, Span<byte> room, ulong block) =>
        Write(new FactRecord { Kind = RecordKind.PurgeSlice, Subject = queue.Id, Count = tags }, default, room, block);

    /// <summary>Ends the first run of leases that are over. False: none is, and the lower bound is put right.</summary>
    private bool TryEndLeases(Subscription subscription, Span<byte> room, ulong block, out int written)
    {
        written = 0;
        ulong first = 0, end = 0;
        long earliest = long.MaxValue;
        foreach ((ulong delivery, OpenDelivery straggler) in subscription.Stragglers)
        {
            earliest = Math.Min(earliest, straggler.LeaseEndMicros);
            if (first == 0 && straggler.LeaseEndMicros <= IntervalMicros)
            {
                (first, end) = (delivery, delivery + 1);
            }
        }

        for (ulong delivery = subscription.Window.First; delivery < subscription.Window.End; delivery++)
        {
            OpenDelivery open = subscription.Window[delivery];
            if (open.Tag == 0)
            {
                continue;
            }

            bool isOver = open.LeaseEndMicros <= IntervalMicros;
            earliest = Math.Min(earliest, open.LeaseEndMicros);
            if (isOver && first == 0)
            {
                (first, end) = (delivery, delivery + 1);
            }
            else if (isOver && end == delivery && end - first < SliceTags)
            {
                end++;
            }
        }

        subscription.EarliestLeaseEnd = earliest;
        if (first == 0)
        {
            return false;
        }

        written = Write(new FactRecord { Kind = RecordKind.LeaseEnded, Subject = subscription.Id, Count = (uint)(end - first), First = first }, default, room, block);
        return true;
    }

    /// <summary>Looks once an hour for producers whose retention is over (DESIGN-REVIEW R38).</summary>
    private int ForgetProducer(Span<byte> room, ulong block)
    {
        if (IntervalMicros < _nextForgetMicros)
        {
            return 0;
        }

        foreach (Producer producer in _producers.Values)
        {
            bool isOver = !producer.IsAttached && producer.LastSeenMicros + _limits.ProducerRetentionMicros <= IntervalMicros;
            if (isOver && !_subscriptions.Values.Any(subscription => subscription.Producer == producer.Id))
            {
                return Write(new FactRecord { Kind = RecordKind.ProducerForgotten, First = producer.Id }, default, room, block);
            }
        }

        _nextForgetMicros = IntervalMicros + ForgetMicros;
        return 0;
    }
}
