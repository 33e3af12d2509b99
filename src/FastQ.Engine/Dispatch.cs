using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastQ.Protocol;

namespace FastQ.Engine;

// Who gets what next. Queues that have messages and consumers with credit stand in one round; so do the
// subscriptions of a queue. Messages go in runs of consecutive tags: the lower of what came back and of the cursor (DESIGN-REVIEW R45, R46).
//
// A message whose next delivery is the last that is allowed goes alone, to a consumer that holds nothing else: if that crashes over it,
// it drags no neighbour into the dead letters. Where all hold something, one is drained: it gets nothing more until it holds nothing.

public sealed partial class QueueEngine
{
    private const int SharedRun = 32;
    private readonly Queue<Queue> _listed = new();

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
        if (_freed.Count > 0)
        {
            WakeFreed();
        }

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
        ulong last = to.Open == 0 ? FirstLast(queue) : 0;
        Source source = Source.InTurn;
        ulong first = last != 0 ? last : FirstPlain(queue, subscription, out source);
        Invariant.Holds(first != 0);
        most = last != 0 ? 1 : most;
        most = queue.Flow is null ? most : (int)Math.Min(most, AllowanceOf(queue));
        bool isOrdered = queue.Order?.Contains(first) == true; // Then the whole run is.
        long leaseEnd = IntervalMicros + to.LeaseMilliseconds * 1000;
        ulong firstDelivery = to.NextDelivery;
        HandedOver handed = default;
        ulong tag = first;
        while (handed.Count < most && (ulong)(to.OpenBytes + handed.RecordBytes) < to.CreditBytes)
        {
            ref IndexEntry entry = ref queue.Index.Find(tag);
            if (Unsafe.IsNullRef(ref entry) || (last == 0 && !IsPlain(queue, tag, entry, source, subscription)))
            {
                break;
            }

            if (isOrdered)
            {
                queue.Order!.Serve(tag);
            }

            int at = handed.Count;
            HandOver(to, firstDelivery + (ulong)at, tag, ref entry, leaseEnd, ref handed);
            entries[at] = new DeliveryEntry { Slot = entry.Slot, Offset = entry.Offset, LengthBytes = entry.LengthBytes, DeliveryCount = entry.Deliveries, Flags = entry.Deliveries > 1 ? DeliveryEntry.Redelivered : (ushort)0 };
            tag++;
        }

        int count = handed.Count;
        Invariant.Holds(count > 0);
        Book(to, handed, first);
        NoteLeaseEnd(to, leaseEnd);
        DropGone(queue);
        ulong token = _nextToken;
        _nextToken += (ulong)count;
        run = new DispatchedRun(subscription, queue.Id, firstDelivery, first, token, count, leaseEnd);
        MemoryMarshal.Write(room, new DeliveredRecord { LengthBytes = DeliveredRecord.SizeBytes + TagRun.SizeBytes, Kind = RecordKind.Delivered, Runs = 1, Subscription = subscription, Count = (uint)count, FirstDelivery = firstDelivery, FirstToken = token, LeaseEndMicros = leaseEnd });
        MemoryMarshal.Write(room[DeliveredRecord.SizeBytes..], new TagRun { First = first, Count = (ulong)count });
        return DeliveredRecord.SizeBytes + TagRun.SizeBytes;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void List(Queue queue)
    {
        if (!queue.IsListed && queue.Subscriptions.Count > 0 && !queue.IsDeleted && queue.Flow is not { IsWaiting: true }) // Those that wait for a shared limit have their turn.
        {
            queue.IsListed = true;
            _listed.Enqueue(queue);
        }
    }

    private bool TryNextSubscription(Queue queue, out uint subscription)
    {
        subscription = 0;
        if (queue.Ready == 0 || (queue.Paused & PausedWays.Out) != 0 || (queue.Flow is not null && AllowanceOf(queue) == 0))
        {
            return false;
        }

        bool hasLast = FirstLast(queue) != 0;
        bool hasPlain = FirstPlain(queue, 0, out _) != 0;
        bool hasOwn = queue.Order?.HasOwn == true;
        Subscription? active = queue.Attributes.SingleActive ? ActiveOf(queue) : null;
        Drain(queue, hasLast, active);
        int count = queue.Subscriptions.Count;
        int chosen = -1;
        byte highest = 0;
        for (int i = 0; i < count && (hasLast || hasPlain || hasOwn); i++)
        {
            Subscription candidate = queue.Subscriptions[(queue.NextSubscription + i) % count];
            bool gets = (hasLast && candidate.Open == 0) || (candidate != queue.Drained && (hasPlain || (hasOwn && FirstPlain(queue, candidate.Id, out _) != 0)));
            if (!gets || !candidate.HasCredit || (queue.Attributes.SingleActive && candidate != active) || (chosen >= 0 && candidate.Rank.Priority <= highest))
            {
                continue;
            }

            (chosen, highest, subscription) = ((queue.NextSubscription + i) % count, candidate.Rank.Priority, candidate.Id);
            if (!queue.HasRanks)
            {
                break;
            }
        }

        queue.NextSubscription = chosen < 0 ? queue.NextSubscription : (chosen + 1) % count;
        return chosen >= 0;
    }

    /// <summary>The one consumer that gets messages, till it ends or its session does. Another follows it only when nothing is with anybody: what the former one holds may still be settled. Null: nobody, for now.</summary>
    private static Subscription? ActiveOf(Queue queue)
    {
        if (queue.Active is not { IsAttached: true, IsPaused: false })
        {
            queue.Active = null;
            foreach (Subscription candidate in queue.Subscriptions)
            {
                if (candidate.IsAttached && !candidate.IsPaused && candidate.CreditMessages > 0 && (queue.Active is null || candidate.Rank.Priority > queue.Active.Rank.Priority))
                {
                    queue.Active = candidate;
                }
            }
        }

        Subscription? active = queue.Active;
        return active is null || queue.InFlight != active.Open ? null : active;
    }

    /// <summary>Somebody is to hold nothing soon, while there is a message at its last delivery.</summary>
    private static void Drain(Queue queue, bool hasLast, Subscription? active)
    {
        if (!hasLast)
        {
            queue.Drained = null;
        }
        else if (queue.Attributes.SingleActive)
        {
            queue.Drained = active;
        }
        else if (queue.Drained is not { CreditMessages: > 0, HoldsLast: false, IsPaused: false })
        {
            queue.Drained = queue.Subscriptions.Find(static candidate => candidate.CreditMessages > 0 && !candidate.HoldsLast && !candidate.IsPaused);
        }
    }

    /// <summary>The first message whose next delivery is the last that is allowed; 0: none. Where only one is allowed they are all so.</summary>
    private ulong FirstLast(Queue queue) => queue.MostDeliveries == 1 ? First(queue, 0, out _) : Sooner(queue, FirstIn(queue, queue.Lasts), FirstOrdered(queue, last: true, 0));

    /// <summary>The first of the others; 0: none.</summary>
    /// <param name="to">A subscription: of groups of which it has some, too; 0: of none such.</param>
    private ulong FirstPlain(Queue queue, uint to, out Source source)
    {
        source = Source.InTurn;
        return queue.MostDeliveries == 1 ? 0 : First(queue, to, out source);
    }

    private ulong First(Queue queue, uint to, out Source source)
    {
        ulong returned = FirstIn(queue, queue.Returned);
        ulong inTurn = FirstInTurn(queue);
        bool cameBack = returned != 0 && (inTurn == 0 || returned < inTurn);
        ulong unordered = cameBack ? returned : inTurn;
        ulong ordered = FirstOrdered(queue, last: false, to);
        ulong first = Sooner(queue, unordered, ordered);
        source = first == ordered && ordered != 0 ? Source.Order : cameBack ? Source.Returned : Source.InTurn;
        return first;
    }

    /// <summary>Of a message that has no traits, and so no priority, and one that has: which goes first.</summary>
    private static ulong Sooner(Queue queue, ulong unordered, ulong ordered) =>
        ordered == 0 || (unordered != 0 && unordered < ordered && queue.Order!.PriorityOf(ordered) == 0) ? unordered : ordered;

    /// <summary>The message whose turn it is in the queue's own order; 0: none. What has expired steps out.</summary>
    private ulong FirstOrdered(Queue queue, bool last, uint to)
    {
        if (queue.Order is not DeliveryOrder order)
        {
            return 0;
        }

        ulong tag = order.First(last, to);
        while (tag != 0 && HasExpired(queue, tag))
        {
            order.Move(tag, Standing.Out);
            tag = order.First(last, to);
        }

        return tag;
    }

    /// <summary>The first message that never was anything but ready; 0: none.</summary>
    private ulong FirstInTurn(Queue queue)
    {
        // Between the cursor and the end those are passed over, once each, that are delayed, damaged, expired or were out of turn (and, in repair, gaps).
        queue.Search = Math.Max(queue.Search, queue.Cursor);
        for (ulong end = queue.Index.NextTag; queue.Search < end; queue.Search = queue.Index.Next(queue.Search + 1, end))
        {
            ref IndexEntry entry = ref queue.Index.Find(queue.Search);
            if (!Unsafe.IsNullRef(ref entry) && entry.State == EntryState.Ready && !HasExpired(queue, queue.Search))
            {
                return queue.Search;
            }
        }

        return 0;
    }

    /// <summary>Drops what has gone from the top of a heap of messages that came back, and gives what stands there then; 0: nothing.</summary>
    private ulong FirstIn(Queue queue, NativeHeap<ulong> heap)
    {
        for (; heap.Count > 0; heap.Pop())
        {
            ulong tag = heap.Top;
            ref IndexEntry entry = ref queue.Index.Find(tag);
            bool isHere = !Unsafe.IsNullRef(ref entry) && entry.State == EntryState.Returned && (heap == queue.Lasts) == (queue.IsLast(entry) && queue.MostDeliveries > 1);
            if (isHere && !queue.IsVoid(tag, entry) && !HasExpired(queue, tag))
            {
                return tag;
            }
        }

        return 0;
    }

    private void DropGone(Queue queue)
    {
        _ = FirstIn(queue, queue.Returned);
        _ = FirstIn(queue, queue.Lasts);
    }

    /// <summary>May it go in a run with its neighbours?</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool IsPlain(Queue queue, ulong tag, in IndexEntry entry, Source source, uint to) =>
        source == Source.InTurn ? entry.State == EntryState.Ready && !queue.IsVoid(tag, entry) && !HasExpired(queue, tag) : IsPlainOutOfTurn(queue, tag, entry, source, to);

    private bool IsPlainOutOfTurn(Queue queue, ulong tag, in IndexEntry entry, Source source, uint to) => source switch
    {
        Source.Returned => entry.State == EntryState.Returned && !queue.IsVoid(tag, entry) && !queue.IsLast(entry) && !HasExpired(queue, tag) && queue.Order?.Contains(tag) != true,
        _ => FirstPlain(queue, to, out Source next) == tag && next == Source.Order,
    };

    /// <summary>Where the first message was found.</summary>
    private enum Source
    {
        /// <summary>From the cursor on: it never was anything but ready.</summary>
        InTurn,

        /// <summary>It came back.</summary>
        Returned,

        /// <summary>In the queue's own order.</summary>
        Order,
    }
}
