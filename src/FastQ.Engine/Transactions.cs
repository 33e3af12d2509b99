using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastQ.Protocol;

namespace FastQ.Engine;

// Transactions: messages and settlements that take effect together, or not at all.
//
//   judge each by the state, and by what those before it take --one is refused--> TransactionRefused: all its numbers, and nothing else
//      '--none is--> apply each, in order: ordinary records, side by side in one block, of which a recovery knows nothing special
//
// A settlement that would be late refuses the whole: what was consumed by somebody else as well must not be published twice. A message that
// its queue has already refuses nothing: it is passed over.

/// <summary>What earlier messages of a transaction take of a queue.</summary>
internal record struct Taking(long Messages, long Bytes);

public sealed partial class QueueEngine
{
    /// <summary>Memory that one message takes at most beside its entry, in bytes: its times, its turn, its keys.</summary>
    private const long TermsBytes = 512;

    private readonly Dictionary<uint, Taking> _taking = [];
    private readonly Dictionary<(uint Queue, bool IsUnique, UInt128 Key), bool> _keys = [];
    private readonly List<(uint Subscription, ulong First, ulong End, int Operation)> _ranges = [];
    private long _bytesNeeded;

    /// <summary>Judges a transaction whose records stand in the open block, and applies all of them or none. What was a message that its queue has already is marked as passed over.</summary>
    /// <param name="records">Judged by <see cref="TransactionReader.Fault"/>.</param>
    /// <param name="place">Where they lie.</param>
    /// <param name="block">The open block.</param>
    /// <param name="operation">Which of them was refused, from 1 on.</param>
    public Decision Transact(Span<byte> records, Place place, ulong block, out uint operation)
    {
        operation = 0;
        ulong number = MemoryMarshal.Read<ulong>(records[8..]);
        if (number != _sourceNumber)
        {
            return OtherNumber(number);
        }

        Decision decision = JudgeAll(records, out operation);
        if (decision.IsTaken)
        {
            ApplyAll(records, place, block);
        }

        return decision;
    }

    /// <summary>Journals that the numbers of a transaction were refused. Bytes written.</summary>
    public int RefuseTransaction(ulong number, uint count, uint operation, RefusalCode code, Span<byte> room, ulong block)
    {
        Invariant.Holds(number == _sourceNumber);
        return Write(new FactRecord { Kind = RecordKind.TransactionRefused, Small = (ushort)code, First = number, Count = count, Subject = operation }, default, room, block);
    }

    private Decision JudgeAll(Span<byte> records, out uint operation)
    {
        _taking.Clear();
        _keys.Clear();
        _bytesNeeded = 0;
        int twice = SettledTwice(records);
        operation = 0;
        TransactionReader reader = new(records);
        while (reader.Next())
        {
            operation++;
            Decision decision = reader.Kind == RecordKind.Message ? JudgeMessage(reader.Record)
                : operation == twice ? Decision.Refuse(RefusalCode.AlreadySettled, 0, "The transaction settles it twice")
                : JudgeSettle(reader.Record);
            if (!decision.IsTaken)
            {
                return decision;
            }
        }

        operation = 0;
        return Decision.Taken;
    }

    private Decision JudgeMessage(ReadOnlySpan<byte> record)
    {
        MessageHeader header = MemoryMarshal.Read<MessageHeader>(record);
        if (header.PropertyBytes > Math.Min(Limits.MaxPropertyBytes, record.Length - MessageHeader.SizeBytes))
        {
            return Decision.Refuse(RefusalCode.BadArgument);
        }

        if (FindQueue(header.Queue) is not Queue queue)
        {
            return Unknown(header.Queue);
        }

        if (header.BodyBytes > _limits.MaxMessageBytes)
        {
            return Decision.Refuse(RefusalCode.TooLarge, (ulong)_limits.MaxMessageBytes, "The broker's max-message-size");
        }

        bool hasTerms = HasTerms(queue, header);
        MessageTerms terms = default;
        if (hasTerms && !TryTermsOf(queue, record, header, out terms))
        {
            return Decision.Refuse(RefusalCode.BadArgument);
        }

        if (terms.NeedsConsumer && queue.Subscriptions.Count == 0)
        {
            return Decision.Refuse(RefusalCode.NoResponder);
        }

        if (IsSameByThen(queue, terms))
        {
            return Decision.Taken;
        }

        ref Taking taking = ref CollectionsMarshal.GetValueRefOrAddDefault(_taking, queue.Id, out _);
        if (queue.HasLimits && JudgeSent(queue, record, header, taking) is { IsTaken: false } beyond)
        {
            return beyond;
        }

        taking.Messages++;
        taking.Bytes += header.LengthBytes - MessageHeader.SizeBytes;
        _bytesNeeded += IndexEntry.SizeBytes + (hasTerms ? TermsBytes : 0);
        return _pages.HasRoomForBytes(_bytesNeeded) ? Decision.Taken : Decision.Refuse(RefusalCode.LimitReached, (ulong)_limits.IndexBytes, "Bytes of memory for the indexes of all queues");
    }

    /// <summary>Will its queue have it already, when it is its turn? If not, it is there from then on.</summary>
    private bool IsSameByThen(Queue queue, in MessageTerms terms)
    {
        bool isSame = (terms.DedupKey != 0 && (_keys.ContainsKey((queue.Id, false, terms.DedupKey)) || queue.Ledger?.TryFind(terms.DedupKey, IntervalMicros, out _) == true))
            || (terms.UniqueKey != 0 && (_keys.TryGetValue((queue.Id, true, terms.UniqueKey), out bool isAlive) ? isAlive : queue.Unique?.TryFind(terms.UniqueKey, out _) == true));
        if (isSame)
        {
            return true;
        }

        if (terms.DedupKey != 0)
        {
            _keys[(queue.Id, false, terms.DedupKey)] = true;
        }

        if (terms.UniqueKey != 0)
        {
            _keys[(queue.Id, true, terms.UniqueKey)] = true;
        }

        return false;
    }

    /// <summary>All that it names must be open: one that is late is none.</summary>
    private Decision JudgeSettle(ReadOnlySpan<byte> record)
    {
        SettleRecord settle = MemoryMarshal.Read<SettleRecord>(record);
        if (FindSubscription(settle.Subscription) is not Subscription subscription || subscription.Producer != _source!.Id)
        {
            return Decision.Refuse(RefusalCode.UnknownSubscription);
        }

        if (settle.Count == 0 || !IsRange(subscription, settle.FirstDelivery, settle.Count) || !IsOutcome(settle, record.Length - SettleRecord.SizeBytes))
        {
            return Decision.Refuse(RefusalCode.BadArgument);
        }

        Queue queue = subscription.Queue;
        for (ulong delivery = settle.FirstDelivery; delivery < settle.FirstDelivery + settle.Count; delivery++)
        {
            ref OpenDelivery open = ref subscription.Window.Find(delivery);
            if (Unsafe.IsNullRef(ref open))
            {
                return Decision.Refuse(subscription.WhyLate(delivery), 0, $"Delivery {delivery} of queue {queue.Id}");
            }

            if (queue.Unique is UniqueKeys unique && unique.TryFind(open.Tag, out UInt128 key, out _) && Ends(queue, open.Tag, settle))
            {
                _keys[(queue.Id, true, key)] = false;
            }
        }

        return Decision.Taken;
    }

    /// <summary>Is a message in flight no more alive after this?</summary>
    private bool Ends(Queue queue, ulong tag, in SettleRecord settle) =>
        settle.Outcome != Outcome.Release
        || (!settle.IsUncounted && queue.Index.Find(tag).Deliveries >= queue.MostDeliveries)
        || (queue.Expiry.TryFind(tag, out long expiry) && expiry <= IntervalMicros);

    /// <summary>A settlement, from 1 on, that names a delivery which one before it names, too. 0: none does.</summary>
    private int SettledTwice(Span<byte> records)
    {
        _ranges.Clear();
        int operation = 0;
        TransactionReader reader = new(records);
        while (reader.Next())
        {
            operation++;
            if (reader.Kind == RecordKind.Settle)
            {
                SettleRecord settle = MemoryMarshal.Read<SettleRecord>(reader.Record);
                _ranges.Add((settle.Subscription, settle.FirstDelivery, settle.FirstDelivery + settle.Count, operation));
            }
        }

        _ranges.Sort();
        (int twice, uint subscription, ulong reach, int reaching) = (0, 0, 0, 0);
        foreach ((uint next, ulong first, ulong end, int which) in _ranges)
        {
            bool isSame = next == subscription;
            if (isSame && first < reach)
            {
                int second = Math.Max(reaching, which);
                twice = twice == 0 ? second : Math.Min(twice, second);
            }

            if (!isSame || end > reach)
            {
                (subscription, reach, reaching) = (next, end, which);
            }
        }

        return twice;
    }

    private void ApplyAll(Span<byte> records, Place place, ulong block)
    {
        TransactionReader reader = new(records);
        while (reader.Next())
        {
            bool fits = reader.Kind == RecordKind.Message
                ? TakeOrPassOver(reader.Record, new Place(place.Slot, place.Offset + (uint)reader.Offset), block)
                : ApplySettle(MemoryMarshal.Read<SettleRecord>(reader.Record), reader.Record[SettleRecord.SizeBytes..], block) && _late.Count == 0;
            Invariant.Holds(fits);
            if (reader.Kind == RecordKind.Settle)
            {
                LookIfDone(_lastSubscription!);
            }
        }
    }

    private bool TakeOrPassOver(Span<byte> record, Place place, ulong block)
    {
        ref MessageHeader header = ref MemoryMarshal.AsRef<MessageHeader>(record);
        Queue queue = FindQueue(header.Queue)!;
        if (!HasTerms(queue, header))
        {
            Complete(queue, ref header, place);
            Enqueue(queue, header.Tag, header.LengthBytes, place);
            return true;
        }

        bool fits = TryTermsOf(queue, record, header, out MessageTerms terms);
        bool isSame = ((terms.DedupKey | terms.UniqueKey) != 0 && !JudgeSame(queue, terms).IsTaken) || (terms.ScheduleKey != 0 && !JudgeScheduled(queue, terms).IsTaken);
        if (isSame)
        {
            header.Kind = RecordKind.PassedOver;
            return ApplyPassedOver();
        }

        Complete(queue, ref header, place);
        if (terms.ScheduleKey != 0)
        {
            terms = Supersede(queue, terms, block);
        }

        EnqueueOnTerms(queue, header.Tag, header.LengthBytes, place, terms, isPublished: true);
        return fits;
    }

    private bool ApplyPassedOver()
    {
        CountNumber();
        return _source is not null;
    }

    private bool ApplyTransactionRefused(in FactRecord fact)
    {
        if (_source is null || fact.First != _sourceNumber || fact.Count is 0 or > Limits.MaxTransactionOperations)
        {
            return false;
        }

        _source.Last = fact.First + fact.Count - 1;
        _sourceNumber = fact.First + fact.Count;
        _source.Refusals.Add(new KeptRefusal(fact.First, (RefusalCode)fact.Small, fact.Count, fact.Subject));
        return true;
    }
}
