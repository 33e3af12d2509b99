using System.Runtime.CompilerServices;
using FastQ.Protocol;

namespace FastQ.Engine;

// For verify and repair: what the state says of each message, and giving one up by consent. Never on the hot path.

/// <summary>A message that the state counts.</summary>
public readonly record struct KnownMessage(uint Queue, ulong Tag, Place Place, uint LengthBytes);

public sealed partial class QueueEngine
{
    /// <summary>Messages per queue id that a lenient replay missed: their tags were passed over.</summary>
    public Dictionary<uint, long> Missed { get; } = [];

    /// <summary>Ids of the slots in which a message lives.</summary>
    public IEnumerable<uint> LiveSlots => _slots.Values.Where(slot => slot.Live > 0).Select(slot => slot.Id).Order();

    /// <summary>Every message of every queue that is there, in whatever state.</summary>
    public IEnumerable<KnownMessage> Messages()
    {
        foreach (Queue queue in _byName.Values.OrderBy(queue => queue.Id))
        {
            ulong end = queue.Index.NextTag;
            for (ulong tag = queue.Index.Next(0, end); tag < end; tag = queue.Index.Next(tag + 1, end))
            {
                IndexEntry entry = queue.Index.Find(tag);
                if (!queue.IsVoid(tag, entry))
                {
                    yield return new KnownMessage(queue.Id, tag, new Place(entry.Slot, entry.Offset), entry.LengthBytes);
                }
            }
        }
    }

    /// <summary>After a lenient replay: what never was handed out, for the record of it is lost, but lies before the cursor goes back to its place, so that dispatch finds it.</summary>
    public void EndSalvage()
    {
        foreach (Queue queue in _byName.Values)
        {
            ulong end = Math.Min(queue.Cursor, queue.Index.NextTag);
            for (ulong tag = queue.Index.Next(0, end); tag < end; tag = queue.Index.Next(tag + 1, end))
            {
                ref IndexEntry entry = ref queue.Index.Find(tag);
                if (entry.State == EntryState.Ready && !queue.IsVoid(tag, entry))
                {
                    entry.State = EntryState.Returned;
                    entry.Generation = queue.PurgeGeneration;
                    Line(queue, tag, entry);
                }
            }
        }
    }

    /// <summary>Gives a message up by consent: it counts as purged. False: it is not there.</summary>
    public bool Discard(uint queue, ulong tag, ulong block)
    {
        if (FindQueue(queue) is not Queue found)
        {
            return false;
        }

        ref IndexEntry entry = ref found.Index.Find(tag);
        if (Unsafe.IsNullRef(ref entry) || found.IsVoid(tag, entry))
        {
            return false;
        }

        if (entry.State == EntryState.InFlight)
        {
            TakeBack(found, tag, entry.LengthBytes);
        }

        Uncount(found, tag, entry);
        found.Purged++;
        Free(found, tag, ref entry, block);
        DropGone(found);
        return true;
    }

    private static void TakeBack(Queue queue, ulong tag, uint lengthBytes)
    {
        foreach (Subscription subscription in queue.Subscriptions)
        {
            foreach ((ulong delivery, OpenDelivery open) in OpenOf(subscription))
            {
                if (open.Tag == tag)
                {
                    bool taken = subscription.Window.TryTake(delivery, out _);
                    Invariant.Holds(taken);
                    subscription.OpenBytes -= lengthBytes;
                    return;
                }
            }
        }
    }

    /// <summary>A lenient replay passes over tags whose messages are not there. A jump too far is rot in the tag itself.</summary>
    private bool NoteMissed(Queue queue, ulong tag)
    {
        const ulong MostMissed = 1 << 24;
        if (tag - queue.Index.NextTag > MostMissed)
        {
            return false;
        }

        Missed[queue.Id] = Missed.GetValueOrDefault(queue.Id) + (long)(tag - queue.Index.NextTag);
        return true;
    }
}
