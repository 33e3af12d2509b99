using System.Runtime.CompilerServices;
using FastQ.Protocol;

namespace FastQ.Engine;

// Limits of a queue: how much may wait in it. What is in flight does not count, and what comes back is taken whatever the limit: no
// settlement is ever refused. A queue that pushes the oldest out has more than it may until the turn's end, when nobody has seen it yet.

public sealed partial class QueueEngine
{
    private readonly Queue<Queue> _over = new();

    /// <summary>Queues may hold more than they may.</summary>
    public bool HasOver => _over.Count > 0;

    /// <summary>Pushes some of the oldest messages out of a queue that holds more than it may. Bytes written, of one record; 0: none does.</summary>
    /// <param name="room">At least <see cref="MaxFactBytes"/>.</param>
    /// <param name="block">The open block.</param>
    public int PushOut(Span<byte> room, ulong block)
    {
        while (_over.TryPeek(out Queue? queue))
        {
            if (!queue.IsDeleted && queue.IsOver && TryOldest(queue, out ulong first))
            {
                TellOver(queue);
                return Write(new FactRecord { Kind = RecordKind.MessagesDropped, Subject = queue.Id, First = first, Count = CountToPushOut(queue, first) }, default, room, block);
            }

            _over.Dequeue();
            queue.IsListedAsOver = false;
        }

        return 0;
    }

    /// <summary>Is this message within what its queue takes, now?</summary>
    /// <param name="queue">Where it is to go.</param>
    /// <param name="header">Its own.</param>
    /// <param name="before">What goes there before it, and is not there yet.</param>
    /// <param name="supersededBytes">Of the message whose place it takes; -1: it takes nobody's.</param>
    private Decision JudgeLimits(Queue queue, in MessageHeader header, in Taking before = default, long supersededBytes = -1)
    {
        QueueAttributes attributes = queue.Attributes;
        if ((queue.Paused & PausedWays.In) != 0)
        {
            return Decision.Refuse(RefusalCode.Paused);
        }

        if (header.Kind == RecordKind.Message && JudgePublishRate(queue, before.Messages) is { IsTaken: false } tooFast)
        {
            return tooFast;
        }

        long bytes = header.LengthBytes - MessageHeader.SizeBytes;
        if (attributes.MaxMessageSize != 0 && header.BodyBytes > attributes.MaxMessageSize)
        {
            return TellLimit(queue, LimitKind.MaxMessageSize, Decision.Refuse(RefusalCode.TooLarge, (ulong)attributes.MaxMessageSize, "The queue's max-message-size"));
        }

        if (attributes.MaxBytes != 0 && bytes > attributes.MaxBytes)
        {
            return TellLimit(queue, LimitKind.MaxBytes, Decision.Refuse(RefusalCode.TooLarge, (ulong)attributes.MaxBytes, "The queue's max-bytes"));
        }

        int more = supersededBytes < 0 ? 1 : 0;
        if (attributes.Overflow != Overflow.Reject || !queue.Exceeds(more + before.Messages, bytes + before.Bytes - Math.Max(0, supersededBytes)))
        {
            return Decision.Taken;
        }

        return attributes.MaxLength != 0 && queue.Ready + queue.Delayed + before.Messages + more > attributes.MaxLength
            ? TellLimit(queue, LimitKind.MaxLength, Decision.Refuse(RefusalCode.LimitReached, (ulong)attributes.MaxLength, "The queue's max-length"))
            : TellLimit(queue, LimitKind.MaxBytes, Decision.Refuse(RefusalCode.LimitReached, (ulong)attributes.MaxBytes, "The queue's max-bytes"));
    }

    private void TellOver(Queue queue)
    {
        bool isLong = queue.Attributes.MaxLength != 0 && queue.Ready + queue.Delayed > queue.Attributes.MaxLength;
        _ = TellLimit(queue, isLong ? LimitKind.MaxLength : LimitKind.MaxBytes, Decision.Refuse(RefusalCode.LimitReached, (ulong)(isLong ? queue.Attributes.MaxLength : queue.Attributes.MaxBytes)));
    }

    private void LookIfOver(Queue queue)
    {
        if (queue.Attributes.Overflow != Overflow.Reject && !queue.IsListedAsOver && queue.IsOver)
        {
            queue.IsListedAsOver = true;
            _over.Enqueue(queue);
        }
    }

    /// <summary>The message that would be delivered first; else the delayed one that is due first.</summary>
    private bool TryOldest(Queue queue, out ulong tag)
    {
        ulong plain = FirstPlain(queue, 0, out _);
        ulong last = FirstLast(queue);
        tag = plain == 0 || (last != 0 && last < plain) ? last : plain;
        tag = OldestOrdered(queue) is ulong ordered and not 0 ? ordered : tag;
        tag = tag == 0 && queue.Due.TryPeek(out TimedTag earliest) ? earliest.Tag : tag;
        return tag != 0;
    }

    /// <summary>Where the queue has an order of its own: the first of the lowest priority; else the oldest of those that wait behind others of their group. 0: none.</summary>
    private static ulong OldestOrdered(Queue queue)
    {
        if (queue.Order is not { Count: > 0 } order)
        {
            return 0;
        }

        ulong lowest = order.Lowest();
        ulong end = queue.Index.NextTag;
        for (ulong tag = queue.Index.Next(0, end); lowest == 0 && tag < end; tag = queue.Index.Next(tag + 1, end))
        {
            ref IndexEntry entry = ref queue.Index.Find(tag);
            lowest = entry.State == EntryState.Returned && !queue.IsVoid(tag, entry) ? tag : 0;
        }

        return lowest;
    }

    /// <summary>How many from the oldest on, neighbours that wait as it does, until the queue holds what it may.</summary>
    private static uint CountToPushOut(Queue queue, ulong first)
    {
        uint count = 0;
        long bytes = 0;
        EntryState state = queue.Index.Find(first).State;
        for (ulong tag = first; count < SliceTags && queue.Exceeds(-count, -bytes); tag++)
        {
            ref IndexEntry entry = ref queue.Index.Find(tag);
            if (Unsafe.IsNullRef(ref entry) || entry.State != state || queue.IsVoid(tag, entry) || (count > 0 && (state == EntryState.Delayed || queue.Order?.Contains(tag) == true)))
            {
                break; // Of the delayed, and where there is an order, one at a time: neighbours have other turns.
            }

            count++;
            bytes += entry.LengthBytes - MessageHeader.SizeBytes;
        }

        return count;
    }

    private bool ApplyDropped(Queue queue, ulong first, uint count, ulong block)
    {
        if (count > SliceTags || first > MostTag)
        {
            return false;
        }

        bool fits = true;
        for (ulong tag = first; tag < first + count; tag++)
        {
            ref IndexEntry entry = ref queue.Index.Find(tag);
            bool waits = !Unsafe.IsNullRef(ref entry) && (entry.IsReady || entry.State == EntryState.Delayed) && !queue.IsVoid(tag, entry);
            fits &= waits;
            if (waits)
            {
                Unline(queue, tag, entry);
                Die(queue, tag, ref entry, DeathReason.Overflow, default, block);
            }
        }

        DropGone(queue);
        List(queue); // What waited behind it in its group may go.
        return fits;
    }
}
