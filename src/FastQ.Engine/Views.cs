using System.Runtime.CompilerServices;
using System.Text;
using FastQ.Protocol;

namespace FastQ.Engine;

// What people and sessions may ask. May allocate; never on the hot path.

public sealed partial class QueueEngine
{
    public int QueueCount => _byName.Count;

    /// <summary>Messages in all queues, in whatever state.</summary>
    public long MessageCount => _byName.Values.Sum(queue => queue.Ready + queue.InFlight + queue.Delayed + queue.Damaged + queue.Dying);

    public long LiveBytes => _slots.Values.Sum(slot => slot.LiveBytes);

    public bool TryFindQueue(ReadOnlySpan<byte> name, out uint queue)
    {
        bool found = _byName.TryGetValue(Encoding.UTF8.GetString(name), out Queue? known);
        queue = found ? known!.Id : 0;
        return found;
    }

    public bool IsQueue(uint queue) => FindQueue(queue) is not null;

    /// <summary>Ids of all queues, by name.</summary>
    public IReadOnlyList<uint> QueueIds => [.. _byName.OrderBy(pair => pair.Key, StringComparer.Ordinal).Select(pair => pair.Value.Id)];

    /// <summary>A queue that is there.</summary>
    public QueueView View(uint queue)
    {
        Queue q = _queues[queue];
        int consumers = q.Subscriptions.Count(subscription => subscription.IsAttached);
        return new QueueView(q.Id, Encoding.UTF8.GetString(q.Name), q.Attributes, q.Paused, q.Ready, q.InFlight, q.Delayed, q.Damaged, q.Dying, q.WaitingBytes + q.HeldBytes, consumers, q.Published, q.Accepted, q.Rejected, q.Exhausted, q.Expired, q.Overflowed, q.DeadLettered, q.Redelivered, q.Purged, q.Moved, q.Owner != 0);
    }

    /// <summary>The consumers of a queue that is there.</summary>
    public IReadOnlyList<SubscriptionView> SubscriptionsOf(uint queue) =>
        [.. _queues[queue].Subscriptions.Select(one => new SubscriptionView(one.Id, one.Rank.Priority, one.Rank.IsExclusive, one.IsAttached, one.IsPaused, one.Open, one.CreditMessages))];

    public bool IsSubscription(uint subscription) => _subscriptions.ContainsKey(subscription);

    /// <summary>Queue, lease, next delivery number and how many are open of a subscription that is there.</summary>
    public (uint Queue, long LeaseMilliseconds, ulong NextDelivery, long Open) ViewSubscription(uint subscription)
    {
        Subscription found = _subscriptions[subscription];
        return (found.Queue.Id, found.LeaseMilliseconds, found.NextDelivery, found.Open);
    }

    /// <summary>Where an open delivery's message lies; false when it is not open.</summary>
    public bool TryFindDelivery(uint subscription, ulong delivery, out uint queue, out ulong tag, out DeliveryEntry entry)
    {
        (queue, tag, entry) = (0, 0, default);
        if (!_subscriptions.TryGetValue(subscription, out Subscription? found))
        {
            return false;
        }

        ref OpenDelivery open = ref found.Window.Find(delivery);
        if (Unsafe.IsNullRef(ref open))
        {
            return false;
        }

        ref IndexEntry at = ref found.Queue.Index.Find(open.Tag);
        Invariant.Holds(!Unsafe.IsNullRef(ref at));
        (queue, tag) = (found.Queue.Id, open.Tag);
        entry = new DeliveryEntry { Slot = at.Slot, Offset = at.Offset, LengthBytes = at.LengthBytes, DeliveryCount = at.Deliveries, Flags = at.Deliveries > 1 ? DeliveryEntry.Redelivered : (ushort)0 };
        return true;
    }

    /// <summary>Recounts everything: states, bytes, the conservation law. For tests, after each step; the cost is that of the state.</summary>
    public void CheckConservation()
    {
        Dictionary<uint, (long Live, long Bytes)> slots = [];
        Dictionary<Place, uint> shared = [];
        foreach (Queue queue in _queues.Values)
        {
            (long ready, long inFlight, long delayed, long damaged, long dying, long bytes) = (0, 0, 0, 0, 0, 0);
            ulong end = queue.Index.NextTag;
            for (ulong tag = queue.Index.Next(0, end); tag < end; tag = queue.Index.Next(tag + 1, end))
            {
                ref IndexEntry entry = ref queue.Index.Find(tag);
                if (!entry.IsShared || shared.TryAdd(new Place(entry.Slot, entry.Offset), 0))
                {
                    (long live, long slotBytes) = slots.GetValueOrDefault(entry.Slot);
                    slots[entry.Slot] = (live + 1, slotBytes + entry.LengthBytes);
                }

                if (entry.IsShared)
                {
                    shared[new Place(entry.Slot, entry.Offset)]++;
                }

                if (queue.IsVoid(tag, entry))
                {
                    continue;
                }

                bytes += entry.LengthBytes - MessageHeader.SizeBytes;
                ready += entry.IsReady ? 1 : 0;
                inFlight += entry.State == EntryState.InFlight ? 1 : 0;
                delayed += entry.State == EntryState.Delayed && queue.Due.TryFind(tag, out _) ? 1 : 0;
                damaged += entry.State == EntryState.Damaged ? 1 : 0;
                dying += entry.State == EntryState.Dying ? 1 : 0;
            }

            if (!queue.IsDeleted)
            {
                Invariant.Holds(ready == queue.Ready && inFlight == queue.InFlight && delayed == queue.Delayed && damaged == queue.Damaged && dying == queue.Dying && bytes == queue.WaitingBytes + queue.HeldBytes);
                Invariant.Holds(queue.Published == queue.Gone + (ulong)(ready + inFlight + delayed + damaged));
                Invariant.Holds(queue.Deaths >= queue.DeadLettered + (ulong)dying);
                Invariant.Holds(queue.Subscriptions.Sum(subscription => subscription.Open) == inFlight);
            }
        }

        Invariant.Holds(shared.Count == _shared.Count && shared.All(pair => _shared.QueuesAt(pair.Key) == pair.Value));
        CheckBindings();
        foreach (SharedLimit limit in _limitsByName.Values)
        {
            Queue[] sharing = [.. _queues.Values.Where(queue => queue.Flow?.Shared == limit)];
            Invariant.Holds(limit.InFlight == sharing.Sum(queue => queue.InFlight) && limit.Queues == sharing.Length);
        }

        foreach (SlotState slot in _slots.Values)
        {
            (long live, long bytes) = slots.GetValueOrDefault(slot.Id);
            Invariant.Holds(slot.Live == live && slot.LiveBytes == bytes);
        }
    }
}
