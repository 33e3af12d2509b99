using System.Runtime.CompilerServices;
using FastQ.Protocol;

namespace FastQ.Engine;

/// <summary>A message where it stands.</summary>
/// <param name="Tag">Its place.</param>
/// <param name="State">How it stands.</param>
/// <param name="Deliveries">How often it was delivered.</param>
/// <param name="Place">Where its record lies, with its length.</param>
/// <param name="Subscription">Who holds it; 0: nobody.</param>
/// <param name="LeaseEndMicros">Interval time at which that ends.</param>
/// <param name="DueMicros">Delayed: interval time at which it is ready. Else 0.</param>
/// <param name="Reason">Dying: why. Else none.</param>
/// <param name="IsStopped">Dying, and it stays: it has gone in a circle.</param>
/// <param name="IsBehind">Ready, but another of its group comes first.</param>
/// <param name="WaitsFor">Ready: the limit that keeps it, with its value, in words. Null: none does.</param>
public readonly record struct MessageView(ulong Tag, MessageState State, int Deliveries, DeliveryEntry Place, uint Subscription, long LeaseEndMicros, long DueMicros, DeathReason Reason, bool IsStopped, bool IsBehind, string? WaitsFor = null);

// Looking at messages without taking them. Cold: it may allocate, and who holds a message is found by a look at all that is open.

public sealed partial class QueueEngine
{
    /// <summary>Up to <paramref name="most"/> messages of a queue that is there, by tag.</summary>
    /// <param name="queue">Its id.</param>
    /// <param name="first">The first tag to look at.</param>
    /// <param name="most">At least 1.</param>
    /// <param name="next">The tag to go on at; 0: there are no more.</param>
    public IReadOnlyList<MessageView> Browse(uint queue, ulong first, int most, out ulong next)
    {
        Queue found = _queues[queue];
        List<MessageView> messages = [];
        ulong end = found.Index.NextTag;
        for (ulong tag = found.Index.Next(Math.Min(first, end), end); tag < end; tag = found.Index.Next(tag + 1, end))
        {
            ref IndexEntry entry = ref found.Index.Find(tag);
            if (found.IsVoid(tag, entry))
            {
                continue;
            }

            if (messages.Count == most)
            {
                next = tag;
                return WithOwners(found, messages);
            }

            messages.Add(ViewOf(found, tag, entry));
        }

        next = 0;
        return WithOwners(found, messages);
    }

    private MessageView ViewOf(Queue queue, ulong tag, in IndexEntry entry)
    {
        MessageState state = entry.State switch
        {
            EntryState.InFlight => MessageState.InFlight,
            EntryState.Delayed => MessageState.Delayed,
            EntryState.Damaged => MessageState.Damaged,
            EntryState.Dying => MessageState.DeadLettering,
            _ => MessageState.Ready,
        };
        _ = queue.Due.TryFind(tag, out long due);
        return new MessageView(tag, state, entry.Deliveries, new DeliveryEntry { Slot = entry.Slot, Offset = entry.Offset, LengthBytes = entry.LengthBytes }, 0, 0, due, entry.State != EntryState.Dying ? DeathReason.None : queue.Unroutable.Count > 0 && !entry.IsStopped ? DeathReason.Unroutable : entry.Reason, entry.IsStopped, entry.IsReady && queue.Order?.IsBehind(tag) == true, entry.IsReady ? LimitOn(queue, tag) : null);
    }

    private static List<MessageView> WithOwners(Queue queue, List<MessageView> messages)
    {
        Dictionary<ulong, int> unowned = [];
        for (int i = 0; i < messages.Count; i++)
        {
            if (messages[i].State == MessageState.InFlight)
            {
                unowned[messages[i].Tag] = i;
            }
        }

        foreach (Subscription subscription in queue.Subscriptions)
        {
            for (ulong delivery = subscription.Window.NextOccupied(0); unowned.Count > 0 && delivery < subscription.Window.End; delivery = subscription.Window.NextOccupied(delivery + 1))
            {
                ref OpenDelivery open = ref subscription.Window.Find(delivery);
                if (!Unsafe.IsNullRef(ref open) && unowned.Remove(open.Tag, out int at))
                {
                    messages[at] = messages[at] with { Subscription = subscription.Id, LeaseEndMicros = open.LeaseEndMicros };
                }
            }
        }

        Invariant.Holds(unowned.Count == 0);
        return messages;
    }
}
