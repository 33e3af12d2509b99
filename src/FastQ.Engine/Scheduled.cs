using System.Runtime.CompilerServices;
using FastQ.Protocol;

namespace FastQ.Engine;

// Messages that wait for their time under a schedule key: of one key one waits. A later one takes its place in the same record, or is not
// taken; by its key it is cancelled, or given another time. The key stays with its message until that is gone, so that who comes too late
// is told whether it was handed out; it is held no longer than the message waits.

public sealed partial class QueueEngine
{
    /// <summary>Removes the message of a schedule key, if it is not too late; it counts as purged.</summary>
    /// <param name="queue">Its id.</param>
    /// <param name="key">The schedule key, of any origin.</param>
    /// <param name="room">At least <see cref="MaxFactBytes"/>.</param>
    /// <param name="block">The open block.</param>
    /// <param name="written">Bytes written; 0: nothing was done.</param>
    /// <param name="timeliness">Whether it was in time.</param>
    public Decision CancelScheduled(uint queue, ReadOnlySpan<byte> key, Span<byte> room, ulong block, out int written, out Timeliness timeliness)
    {
        written = 0;
        Decision decision = FindScheduled(queue, key, out ulong tag, out timeliness);
        if (decision.IsTaken && timeliness == Timeliness.InTime)
        {
            written = Write(new FactRecord { Kind = RecordKind.MessageDeleted, Subject = queue, First = tag }, default, room, block);
        }

        return decision;
    }

    /// <summary>Gives the message of a schedule key another time, if it is not too late.</summary>
    /// <param name="queue">Its id.</param>
    /// <param name="key">The schedule key, of any origin.</param>
    /// <param name="dueMicros">Interval time at which it may be delivered; one that has passed: at once. Null: it was not said, which is refused.</param>
    /// <param name="room">At least <see cref="MaxFactBytes"/>.</param>
    /// <param name="block">The open block.</param>
    /// <param name="written">Bytes written; 0: nothing was done.</param>
    /// <param name="timeliness">Whether it was in time.</param>
    public Decision Reschedule(uint queue, ReadOnlySpan<byte> key, long? dueMicros, Span<byte> room, ulong block, out int written, out Timeliness timeliness)
    {
        written = 0;
        Decision decision = FindScheduled(queue, key, out ulong tag, out timeliness);
        if (decision.IsTaken && dueMicros is not (>= 0 and <= LatestMicros))
        {
            return Decision.Refuse(RefusalCode.BadArgument, 0, "Name a time within the longest delay");
        }

        if (decision.IsTaken && timeliness == Timeliness.InTime)
        {
            written = Write(new FactRecord { Kind = RecordKind.MessageChanged, Subject = queue, First = tag, Second = (ulong)dueMicros!.Value, Third = FactRecord.Unchanged }, default, room, block);
        }

        return decision;
    }

    private Decision FindScheduled(uint queue, ReadOnlySpan<byte> key, out ulong tag, out Timeliness timeliness)
    {
        (tag, timeliness) = (0, Timeliness.Gone);
        if (FindQueue(queue) is not Queue found)
        {
            return Unknown(queue);
        }

        if (key.Length is 0 or > Limits.MaxNameBytes)
        {
            return Decision.Refuse(RefusalCode.BadArgument, 0, $"A schedule key has 1 to {Limits.MaxNameBytes} bytes");
        }

        if (found.Scheduled?.TryFind(QueueAttributes.KeyOf(default, key), out tag) == true)
        {
            ref IndexEntry entry = ref found.Index.Find(tag);
            bool waits = (entry.IsReady || entry.State == EntryState.Delayed) && entry.Deliveries == 0;
            timeliness = found.IsVoid(tag, entry) ? Timeliness.Gone : waits ? Timeliness.InTime : Timeliness.HandedOut;
        }

        return Decision.Taken;
    }

    /// <summary>Does what a message says of its schedule key fit together?</summary>
    private static bool IsSchedule(in Wish wish) =>
        wish.ScheduleKey.IsEmpty ? wish.ScheduleMode is null && wish.LongestWait is null : wish.LongestWait is null || wish.ScheduleMode == (long)ScheduleMode.Debounce;

    private static MessageTerms WithSchedule(in MessageTerms terms, in Wish wish) => terms with
    {
        ScheduleKey = QueueAttributes.KeyOf(default, wish.ScheduleKey),
        ScheduleMode = (ScheduleMode)(wish.ScheduleMode ?? 0),
        LongestWaitMicros = (wish.LongestWait ?? 0) * 1000,
    };

    /// <summary>Is it to leave another of its key where it is?</summary>
    private static Decision JudgeScheduled(Queue queue, in MessageTerms terms) =>
        terms.ScheduleMode == ScheduleMode.Keep && TryFindWaiting(queue, terms.ScheduleKey, out ulong first) ? Decision.Refuse(RefusalCode.Duplicate, first) : Decision.Taken;

    /// <summary>Bytes of the message whose place another one is to take; -1: none waits.</summary>
    private static long SupersededBytes(Queue queue, in MessageTerms terms) =>
        terms.ScheduleKey != 0 && TryFindWaiting(queue, terms.ScheduleKey, out ulong tag) ? queue.Index.Find(tag).LengthBytes - MessageHeader.SizeBytes : -1;

    /// <summary>The message that waits for its time under this key, and was never handed out.</summary>
    private static bool TryFindWaiting(Queue queue, UInt128 key, out ulong tag)
    {
        tag = 0;
        if (queue.Scheduled?.TryFind(key, out tag) != true)
        {
            return false;
        }

        ref IndexEntry entry = ref queue.Index.Find(tag);
        return entry.State == EntryState.Delayed && entry.Deliveries == 0 && !queue.IsVoid(tag, entry);
    }

    /// <summary>A message of this key comes: the one that waits is gone, and the key is free. Gives the terms of the new one, which is put off no longer than it may be.</summary>
    private MessageTerms Supersede(Queue queue, in MessageTerms terms, ulong block)
    {
        long first = IntervalMicros;
        if (TryFindWaiting(queue, terms.ScheduleKey, out ulong tag))
        {
            _ = queue.Scheduled!.TryFind(tag, out _, out long since);
            first = terms.ScheduleMode == ScheduleMode.Debounce ? since : first;
            bool isGone = TryWithdraw(queue, tag, isSwept: false, block);
            Invariant.Holds(isGone);
            queue.Purged++;
        }
        else if (tag != 0)
        {
            queue.Scheduled!.Remove(tag); // It waits no more.
        }

        long latest = terms.LongestWaitMicros == 0 ? long.MaxValue : first + terms.LongestWaitMicros;
        if (terms.DueMicros <= latest)
        {
            return terms with { FirstMicros = first };
        }

        long due = Math.Max(latest, IntervalMicros);
        long expiry = terms.ExpiryMicros == 0 ? 0 : terms.ExpiryMicros - (terms.DueMicros - due);
        return terms with { DueMicros = due > IntervalMicros ? due : 0, ExpiryMicros = expiry, FirstMicros = first };
    }

    /// <summary>A message that waits for its time holds its schedule key.</summary>
    private static void NoteScheduled(Queue queue, ulong tag, in MessageTerms terms)
    {
        if (terms.DueMicros != 0)
        {
            queue.MakeScheduled().Add(terms.ScheduleKey, tag, terms.FirstMicros);
        }
    }
}
