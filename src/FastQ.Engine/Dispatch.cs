using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastQ.Protocol;

namespace FastQ.Engine;

// Who gets what next. Queues that have messages and consumers with credit stand in one round; so do the
// subscriptions of a queue. Messages go in runs of consecutive tags: the lower of what came back and of the cursor (DESIGN-REVIEW R45, R46).

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
        HandedOver handed = default;
        ulong tag = first;
        while (handed.Count < most && (ulong)(to.OpenBytes + handed.RecordBytes) < to.CreditBytes)
        {
            ref IndexEntry entry = ref queue.Index.Find(tag);
            if (Unsafe.IsNullRef(ref entry) || entry.State != (cameBack ? EntryState.Returned : EntryState.Ready) || queue.IsVoid(tag, entry))
            {
                break;
            }

            int at = handed.Count;
            HandOver(to, firstDelivery + (ulong)at, tag, ref entry, leaseEnd, ref handed);
            entries[at] = new DeliveryEntry { Slot = entry.Slot, Offset = entry.Offset, LengthBytes = entry.LengthBytes, DeliveryCount = entry.Deliveries, Flags = entry.Deliveries > 1 ? DeliveryEntry.Redelivered : (ushort)0 };
            tag++;
        }

        int count = handed.Count;
        Invariant.Holds(count > 0);
        Book(to, handed);
        NoteLeaseEnd(to, leaseEnd);
        DropGoneFromHeap(queue);
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
        if (!queue.IsListed && queue.Subscriptions.Count > 0 && !queue.IsDeleted)
        {
            queue.IsListed = true;
            _listed.Enqueue(queue);
        }
    }

    private static bool TryNextSubscription(Queue queue, out uint subscription)
    {
        subscription = 0;
        if (queue.Ready == 0 || FirstReady(queue, out _) == 0)
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
        ulong inTurn = FirstInTurn(queue);
        cameBack = queue.Returned.Count > 0 && (inTurn == 0 || queue.Returned.Top < inTurn);
        return cameBack ? queue.Returned.Top : inTurn;
    }

    /// <summary>The first message that never was anything but ready; 0: none.</summary>
    private static ulong FirstInTurn(Queue queue)
    {
        // Between the cursor and the end those are passed over, once each, that are delayed, damaged or were out of turn (and, in repair, gaps).
        queue.Search = Math.Max(queue.Search, queue.Cursor);
        for (ulong end = queue.Index.NextTag; queue.Search < end; queue.Search = queue.Index.Next(queue.Search + 1, end))
        {
            ref IndexEntry entry = ref queue.Index.Find(queue.Search);
            if (!Unsafe.IsNullRef(ref entry) && entry.State == EntryState.Ready)
            {
                return queue.Search;
            }
        }

        return 0;
    }

    private static void DropGoneFromHeap(Queue queue)
    {
        while (queue.Returned.Count > 0)
        {
            ulong tag = queue.Returned.Top;
            ref IndexEntry entry = ref queue.Index.Find(tag);
            if (!Unsafe.IsNullRef(ref entry) && entry.State == EntryState.Returned && !queue.IsVoid(tag, entry))
            {
                return;
            }

            queue.Returned.Pop();
        }
    }
}
