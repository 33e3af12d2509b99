using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using FastQ.Protocol;

namespace FastQ.Engine;

// Single messages, and sweeps: a walk over what a queue holds that moves or deletes what matches. Who reads the bytes, judges whether one
// matches and writes it again is the broker, as with dead letters; a move is one record, which is the message in its new queue and its end
// in the old one. A sweep is kept over restarts and goes on from the start of its range: what it has moved is not there any more.

/// <summary>How a sweep stands.</summary>
/// <param name="Action">What is done with what matches.</param>
/// <param name="First">The first tag that it looks at.</param>
/// <param name="End">The first that it does not: what comes later stays.</param>
/// <param name="Target">Where messages go; empty: where they died last.</param>
/// <param name="Filter">What matches, in the broker's words; empty: all.</param>
/// <param name="RateASecond">Most messages a second; 0: no bound.</param>
/// <param name="State">Whether it goes on.</param>
/// <param name="Done">Moved or deleted.</param>
/// <param name="Failed">Should have been, and could not.</param>
public readonly record struct SweepView(SweepAction Action, ulong First, ulong End, string Target, string Filter, uint RateASecond, SweepState State, ulong Done, ulong Failed);

/// <summary>A message that a sweep looks at.</summary>
/// <param name="Queue">Where it is.</param>
/// <param name="View">How it stands. Of none (tag 0): the sweep has come to its end.</param>
/// <param name="Sweep">Whose.</param>
/// <param name="DelayLeftMicros">Until it is due; 0: it is.</param>
/// <param name="LifeLeftMicros">How long it lives when it may be delivered; 0: for ever.</param>
/// <param name="Block">The sweep was begun in this block: what it looks at is written when that is.</param>
public readonly record struct SweptMessage(uint Queue, MessageView View, SweepView Sweep, long DelayLeftMicros, long LifeLeftMicros, ulong Block);

/// <summary>A sweep of a queue. What stands above the line is persistent.</summary>
internal sealed class Sweep(SweepView order)
{
    public SweepView Order => order;

    public SweepState State { get; set; } = SweepState.Running;

    public ulong Done { get; set; }

    public ulong Failed { get; set; }

    public SweepView View => order with { State = State, Done = Done, Failed = Failed };

    // ---- ephemeral

    public ulong Next { get; set; } = order.First;

    public ulong FailedHere { get; set; }

    public ulong Block { get; set; }

    /// <summary>Not before, by its rate or because its target was full.</summary>
    public long NextMicros { get; set; }
}

public sealed partial class QueueEngine
{
    private const int SweptATime = 1024;
    private const long SweepBurstMicros = 10_000;
    private readonly Queue<Queue> _sweeping = new();

    /// <summary>Some queue is being swept.</summary>
    public bool HasSweeps => _sweeping.Count > 0;

    /// <summary>Removes one message that is with nobody; it counts as purged.</summary>
    public Decision DeleteMessage(uint queue, ulong tag, bool isSwept, Span<byte> room, ulong block, out int written)
    {
        written = 0;
        Decision decision = JudgeAlone(queue, tag);
        if (decision.IsTaken)
        {
            written = Write(new FactRecord { Kind = RecordKind.MessageDeleted, Small = isSwept ? FactRecord.Swept : (ushort)0, Subject = queue, First = tag }, default, room, block);
        }

        return decision;
    }

    /// <summary>Gives one message that waits another priority, or another time.</summary>
    /// <param name="queue">Where it is.</param>
    /// <param name="tag">Its place, which it keeps.</param>
    /// <param name="priority">Null: as it is. Only in a queue with priority.</param>
    /// <param name="dueMicros">Interval time at which it may be delivered; one that has passed: at once. Null: as it is.</param>
    public Decision ChangeMessage(uint queue, ulong tag, byte? priority, long? dueMicros, Span<byte> room, ulong block, out int written)
    {
        written = 0;
        Decision decision = JudgeAlone(queue, tag);
        if (!decision.IsTaken)
        {
            return decision;
        }

        Queue found = _queues[queue];
        if (!(found.Index.Find(tag).IsReady || found.Index.Find(tag).State == EntryState.Delayed))
        {
            return Decision.Refuse(RefusalCode.BadArgument, 0, "The message is damaged or dead: it waits for no delivery");
        }

        if (priority is not null && !(found.Attributes.Priority && found.Order?.Contains(tag) == true))
        {
            return Decision.Refuse(RefusalCode.BadArgument, 0, "The queue has no priority, or had none when the message came");
        }

        if ((priority is null && dueMicros is null) || dueMicros is < 0 or > LatestMicros)
        {
            return Decision.Refuse(RefusalCode.BadArgument, 0, "Name a priority, or a time within the longest delay");
        }

        written = Write(new FactRecord { Kind = RecordKind.MessageChanged, Subject = queue, First = tag, Second = (ulong?)dueMicros ?? FactRecord.Unchanged, Third = priority ?? FactRecord.Unchanged }, default, room, block);
        return Decision.Taken;
    }

    /// <summary>Begins a sweep of a queue. Its filter is not judged here.</summary>
    /// <param name="queue">What is swept.</param>
    /// <param name="order">First and End: of tags; an End of 0: all that is there now. State and counts are not looked at.</param>
    public Decision StartSweep(uint queue, SweepView order, Span<byte> room, ulong block, out int written)
    {
        written = 0;
        if (FindQueue(queue) is not Queue found)
        {
            return Unknown(queue);
        }

        if (found.Sweep?.State == SweepState.Running)
        {
            return Decision.Refuse(RefusalCode.LimitReached, 1, "Sweeps of one queue at a time");
        }

        if (order.Action == SweepAction.Move && order.Target.Length > 0 && !_byName.ContainsKey(order.Target))
        {
            return Decision.Refuse(RefusalCode.UnknownQueue, 0, $"Queue {order.Target}, where they would go");
        }

        if (order.Action > SweepAction.Delete || order.Target == Encoding.UTF8.GetString(found.Name) || Encoding.UTF8.GetByteCount(order.Filter) > Limits.MaxFilterBytes)
        {
            return Decision.Refuse(RefusalCode.BadArgument, 0, $"Messages go to another queue than theirs, by a filter of at most {Limits.MaxFilterBytes} bytes");
        }

        Span<byte> payload = stackalloc byte[MaxFactBytes - FactRecord.SizeBytes];
        FieldWriter fields = new(payload);
        fields.Text(FieldTag.Target, order.Target);
        fields.Text(FieldTag.Filter, order.Filter);
        Invariant.Holds(!fields.Overflowed);
        ulong end = order.End == 0 ? found.Index.NextTag : Math.Min(order.End, found.Index.NextTag);
        written = Write(new FactRecord { Kind = RecordKind.SweepStarted, Small = (ushort)order.Action, Subject = queue, Count = order.RateASecond, First = Math.Min(order.First, end), Second = end }, fields.Written, room, block);
        return Decision.Taken;
    }

    /// <summary>Ends a sweep. Bytes written; 0 when none is under way.</summary>
    public int EndSweep(uint queue, SweepState how, Span<byte> room, ulong block) =>
        FindQueue(queue)?.Sweep is { State: SweepState.Running } sweep
            ? Write(new FactRecord { Kind = RecordKind.SweepEnded, Small = (ushort)how, Subject = queue, First = sweep.FailedHere }, default, room, block)
            : 0;

    /// <summary>The sweep of a queue, under way or the last one.</summary>
    public bool TryViewSweep(uint queue, out SweepView view)
    {
        Sweep? sweep = FindQueue(queue)?.Sweep;
        view = sweep?.View ?? default;
        view = sweep?.State == SweepState.Running ? view with { Failed = sweep.FailedHere } : view;
        return sweep is not null;
    }

    /// <summary>The next message that a sweep is to look at, queue by queue; the same one until <see cref="PassSwept"/>. False: none now.</summary>
    /// <param name="nowMicros">Interval time.</param>
    /// <param name="message">It.</param>
    public bool TryNextSwept(long nowMicros, out SweptMessage message)
    {
        for (int left = _sweeping.Count; left > 0; left--)
        {
            Queue queue = _sweeping.Dequeue();
            if (queue.IsDeleted || queue.Sweep is not { State: SweepState.Running } sweep)
            {
                continue;
            }

            _sweeping.Enqueue(queue);
            if (sweep.NextMicros <= nowMicros && TryNextOf(queue, sweep, out ulong tag))
            {
                MessageView view = tag == 0 ? default : ViewOf(queue, tag, queue.Index.Find(tag));
                long due = Math.Max(view.DueMicros, IntervalMicros);
                long life = queue.Expiry.TryFind(tag, out long expiry) ? Math.Max(1, expiry - due) : 0;
                message = new SweptMessage(queue.Id, view, sweep.View, due - IntervalMicros, life, sweep.Block);
                return true;
            }
        }

        message = default;
        return false;
    }

    /// <summary>The sweep goes on behind the message that it looked at.</summary>
    /// <param name="queue">What is swept.</param>
    /// <param name="tag">The message's.</param>
    /// <param name="isDone">It matched, and was moved or deleted: its rate counts it.</param>
    /// <param name="hasFailed">It matched, and could not be.</param>
    public void PassSwept(uint queue, ulong tag, bool isDone, bool hasFailed)
    {
        if (FindQueue(queue)?.Sweep is Sweep sweep)
        {
            sweep.Next = tag + 1;
            sweep.FailedHere += hasFailed ? 1u : 0u;
            uint rate = sweep.Order.RateASecond;
            if (isDone && rate > 0)
            {
                sweep.NextMicros = Math.Max(sweep.NextMicros, IntervalMicros - SweepBurstMicros) + 1_000_000 / rate;
            }
        }
    }

    /// <summary>A sweep's message cannot go now: it is tried again then.</summary>
    public void PauseSweep(uint queue, long untilMicros) => _queues[queue].Sweep!.NextMicros = untilMicros;

    /// <summary>May something be done with this message alone?</summary>
    private Decision JudgeAlone(uint queue, ulong tag)
    {
        if (FindQueue(queue) is not Queue found)
        {
            return Unknown(queue);
        }

        ref IndexEntry entry = ref found.Index.Find(tag);
        if (Unsafe.IsNullRef(ref entry) || found.IsVoid(tag, entry))
        {
            return Decision.Refuse(RefusalCode.BadArgument, tag, "There is no message at that place of the queue");
        }

        return entry.State == EntryState.InFlight || (entry.State == EntryState.Dying && !entry.IsStopped)
            ? Decision.Refuse(RefusalCode.Denied, tag, "The message is with a consumer, or on its way to the dead letters")
            : Decision.Taken;
    }

    /// <summary>The next tag that may be moved or deleted; 0: the end is reached. False: so many were passed over that others are to have their turn.</summary>
    private static bool TryNextOf(Queue queue, Sweep sweep, out ulong tag)
    {
        ulong end = sweep.Order.End;
        int looked = 0;
        for (tag = queue.Index.Next(sweep.Next, end); tag < end; tag = queue.Index.Next(tag + 1, end))
        {
            sweep.Next = tag;
            ref IndexEntry entry = ref queue.Index.Find(tag);
            bool mayGo = entry.IsReady || entry.State == EntryState.Delayed || entry.IsStopped || (entry.State == EntryState.Damaged && sweep.Order.Action == SweepAction.Delete);
            if (mayGo && !queue.IsVoid(tag, entry))
            {
                return true;
            }

            if (++looked == SweptATime)
            {
                return false;
            }
        }

        tag = 0;
        return true;
    }

    /// <summary>A message's state counts it no more. What is in flight is the caller's to take from its consumer.</summary>
    private void Uncount(Queue queue, ulong tag, in IndexEntry entry)
    {
        long bytes = entry.LengthBytes - MessageHeader.SizeBytes;
        switch (entry.State)
        {
            case EntryState.InFlight:
                queue.InFlight--;
                queue.HeldBytes -= bytes;
                break;
            case EntryState.Damaged:
                queue.Damaged--;
                queue.HeldBytes -= bytes;
                break;
            case EntryState.Dying:
                Revive(queue, tag, entry);
                queue.HeldBytes -= bytes;
                break;
            default:
                Unline(queue, tag, entry);
                break;
        }
    }

    private bool ApplyDeletedMessage(Queue queue, in FactRecord fact, ulong block)
    {
        if (!TryWithdraw(queue, fact.First, fact.Small == FactRecord.Swept, block))
        {
            return false;
        }

        queue.Purged++;
        return true;
    }

    /// <summary>A message that is with nobody is gone from here. False: there is none. Whether it was purged or moved is the caller's to count.</summary>
    private bool TryWithdraw(Queue queue, ulong tag, bool isSwept, ulong block)
    {
        ref IndexEntry entry = ref queue.Index.Find(tag);
        if (Unsafe.IsNullRef(ref entry) || queue.IsVoid(tag, entry) || entry.State == EntryState.InFlight || (entry.State == EntryState.Dying && !entry.IsStopped))
        {
            return false;
        }

        Uncount(queue, tag, entry);
        Free(queue, tag, ref entry, block);
        DropGone(queue);
        if (isSwept && queue.Sweep is Sweep sweep)
        {
            sweep.Done++;
        }

        List(queue); // What waited behind it in its group may go.
        return true;
    }

    private bool ApplyTransferred(ReadOnlySpan<byte> record, Place place, ulong block)
    {
        MessageHeader header = MemoryMarshal.Read<MessageHeader>(record);
        if (FindQueue(header.Queue) is not Queue target || !IsNext(target, header, place) || !TryTermsOf(target, record, header, out MessageTerms terms) || !TryOriginOf(record, header, PropertyTag.Origin, out uint id, out ulong tag))
        {
            return false;
        }

        if (FindQueue(id) is not Queue origin || !TryWithdraw(origin, tag, isSwept: true, block))
        {
            if (!IsLenient)
            {
                return false;
            }
        }
        else
        {
            origin.Moved++;
        }

        EnqueueOnTerms(target, header.Tag, header.LengthBytes, place, terms, isPublished: false);
        return true;
    }

    private bool ApplyChangedMessage(Queue queue, in FactRecord fact)
    {
        ulong tag = fact.First;
        ref IndexEntry entry = ref queue.Index.Find(tag);
        bool waits = !Unsafe.IsNullRef(ref entry) && (entry.IsReady || entry.State == EntryState.Delayed) && !queue.IsVoid(tag, entry);
        if (!waits || fact.Third is > byte.MaxValue and not FactRecord.Unchanged || fact.Second is > LatestMicros and not FactRecord.Unchanged)
        {
            return false;
        }

        if (fact.Third != FactRecord.Unchanged)
        {
            queue.Order?.Reorder(tag, (byte)fact.Third);
        }

        if (fact.Second != FactRecord.Unchanged)
        {
            long bytes = entry.LengthBytes - MessageHeader.SizeBytes;
            Unline(queue, tag, entry);
            queue.WaitingBytes += bytes;
            if ((long)fact.Second > IntervalMicros)
            {
                Delay(queue, tag, ref entry, (long)fact.Second);
            }
            else
            {
                MakeReady(queue, tag, ref entry);
            }
        }

        List(queue);
        return true;
    }

    private bool ApplySweepStarted(Queue queue, in FactRecord fact, ReadOnlySpan<byte> payload, ulong block)
    {
        if (fact.Small > (ushort)SweepAction.Delete || fact.First > fact.Second || fact.Second > queue.Index.NextTag || queue.Sweep?.State == SweepState.Running
            || !FieldReader.TryBytes(payload, FieldTag.Target, out ReadOnlySpan<byte> target) || !FieldReader.TryBytes(payload, FieldTag.Filter, out ReadOnlySpan<byte> filter))
        {
            return false;
        }

        queue.Sweep = new Sweep(new SweepView((SweepAction)fact.Small, fact.First, fact.Second, Encoding.UTF8.GetString(target), Encoding.UTF8.GetString(filter), fact.Count, default, 0, 0)) { Block = block };
        _sweeping.Enqueue(queue);
        return true;
    }

    private static bool ApplySweepEnded(Queue queue, in FactRecord fact)
    {
        if (queue.Sweep is not { State: SweepState.Running } sweep || (SweepState)fact.Small is not (SweepState.Finished or SweepState.Cancelled))
        {
            return false;
        }

        (sweep.State, sweep.Failed) = ((SweepState)fact.Small, fact.First);
        return true;
    }
}
