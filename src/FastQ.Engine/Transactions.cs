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

/// <summary>The messages of a transaction that go to exchanges, in the order of its records, and the queues that each reaches.</summary>
public sealed class RoutedWithin
{
    /// <summary>In <see cref="MessageHeader.Tag"/> of one that was passed over as it reached no queue, and might: its exchange counts it.</summary>
    public const ulong Unrouted = 1;

    private readonly List<(uint Operation, int First, bool IsUnrouted)> _messages = [];
    private readonly List<RoutedTarget> _targets = [];

    public int Count => _messages.Count;

    /// <summary>Bytes that the records of those with several queues take more than they have.</summary>
    public int MoreBytes { get; private set; }

    /// <summary>Which record it is, from 1 on.</summary>
    public uint OperationOf(int index) => _messages[index].Operation;

    /// <summary>It reached no queue. Else, without targets: all of them had it already.</summary>
    public bool IsUnrouted(int index) => _messages[index].IsUnrouted;

    /// <summary>Its queues; their places are given when it is applied.</summary>
    public ReadOnlySpan<RoutedTarget> TargetsOf(int index)
    {
        int first = _messages[index].First;
        int end = index + 1 < _messages.Count ? _messages[index + 1].First : _targets.Count;
        return CollectionsMarshal.AsSpan(_targets)[first..end];
    }

    internal void Clear()
    {
        _messages.Clear();
        _targets.Clear();
        MoreBytes = 0;
    }

    internal void Begin(uint operation, bool isUnrouted) => _messages.Add((operation, _targets.Count, isUnrouted));

    internal void Add(uint queue)
    {
        _targets.Add(new RoutedTarget { Queue = queue });
        int targets = _targets.Count - _messages[^1].First;
        MoreBytes += targets == 1 ? 0 : targets == 2 ? StoredMessage.OffsetOf(2) : RoutedTarget.SizeBytes;
    }
}

public sealed partial class QueueEngine
{
    /// <summary>Memory that one message takes at most beside its entry, in bytes: its times, its turn, its keys.</summary>
    private const long TermsBytes = 512;

    private readonly Dictionary<uint, Taking> _taking = [];
    private readonly Dictionary<(uint Queue, bool IsUnique, UInt128 Key), bool> _keys = [];
    private readonly List<(uint Subscription, ulong First, ulong End, int Operation)> _ranges = [];
    private readonly RoutedWithin _routedWithin = new();
    private long _bytesNeeded;

    /// <summary>Judges a transaction by the state, and by what its earlier records take. Changes nothing.</summary>
    /// <param name="records">Judged by <see cref="TransactionReader.Fault"/>.</param>
    /// <param name="operation">Which of them was refused, from 1 on.</param>
    /// <param name="routed">Its messages to exchanges, in order: what they become before it is applied. Until the next call.</param>
    public Decision JudgeTransaction(Span<byte> records, out uint operation, out RoutedWithin routed)
    {
        (operation, routed) = (0, _routedWithin);
        routed.Clear();
        ulong number = MemoryMarshal.Read<ulong>(records[8..]);
        return number == _sourceNumber ? JudgeAll(records, out operation) : OtherNumber(number);
    }

    /// <summary>Applies all records of a transaction that was just judged and taken. What was a message that its queue has already is marked as passed over.</summary>
    /// <param name="records">They stand in the open block; messages to exchanges are what <see cref="JudgeTransaction"/> said.</param>
    /// <param name="place">Where they lie.</param>
    /// <param name="block">The open block.</param>
    public void ApplyTransaction(Span<byte> records, Place place, ulong block)
    {
        TransactionReader reader = new(records);
        while (reader.Next())
        {
            Place at = new(place.Slot, place.Offset + (uint)reader.Offset);
            bool fits = reader.Kind switch
            {
                RecordKind.Message => TakeOrPassOver(reader.Record, at, block),
                RecordKind.RoutedMessage => TakeRouted(reader.Record, at, block),
                RecordKind.PassedOver => ApplyPassedOver(MemoryMarshal.Read<MessageHeader>(reader.Record)),
                _ => ApplySettle(MemoryMarshal.Read<SettleRecord>(reader.Record), reader.Record[SettleRecord.SizeBytes..], block) && _late.Count == 0,
            };
            Invariant.Holds(fits);
            if (reader.Kind == RecordKind.Settle)
            {
                LookIfDone(_lastSubscription!);
            }
        }
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
            Decision decision = reader.Kind == RecordKind.Message ? JudgeMessage(reader.Record, operation)
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

    private Decision JudgeMessage(ReadOnlySpan<byte> record, uint operation)
    {
        MessageHeader header = MemoryMarshal.Read<MessageHeader>(record);
        if (header.PropertyBytes > Math.Min(Limits.MaxPropertyBytes, record.Length - MessageHeader.SizeBytes))
        {
            return Decision.Refuse(RefusalCode.BadArgument);
        }

        if (FindQueue(header.Queue) is not Queue queue)
        {
            return _exchanges.TryGetValue(header.Queue, out Exchange? exchange) ? JudgeRouted(exchange, record, header, operation) : Unknown(header.Queue);
        }

        if (header.BodyBytes > _limits.MaxMessageBytes)
        {
            return Decision.Refuse(RefusalCode.TooLarge, (ulong)_limits.MaxMessageBytes, "The broker's max-message-size");
        }

        MessageTerms terms = default;
        if (HasTerms(queue, header) && !TryTermsOf(queue, record, header, out terms))
        {
            return Decision.Refuse(RefusalCode.BadArgument);
        }

        return IsSameByThen(queue, terms) ? Decision.Taken : JudgeInTurn(queue, record, header, terms);
    }

    /// <summary>Chooses the queues of a message to an exchange, and judges whether each would take it by then.</summary>
    private Decision JudgeRouted(Exchange exchange, ReadOnlySpan<byte> record, in MessageHeader header, uint operation)
    {
        ReadOnlySpan<byte> properties = record.Slice(MessageHeader.SizeBytes, header.PropertyBytes);
        if (JudgeAddress(exchange, header, properties) is { IsTaken: false } wrong)
        {
            return wrong;
        }

        if (!TryReach(exchange, KeyIn(properties), properties, out ReadOnlySpan<Queue> queues))
        {
            return Decision.Refuse(RefusalCode.LimitReached, Limits.MaxFanout, "Queues that one message may reach (max-fanout)");
        }

        _routedWithin.Begin(operation, isUnrouted: queues.IsEmpty);
        if (queues.IsEmpty)
        {
            return JudgeUnrouted(exchange, header);
        }

        if (!TryReadWish(record, header, out Wish wish))
        {
            return Decision.Refuse(RefusalCode.BadArgument);
        }

        if (JudgeWishOfRouted(wish) is { IsTaken: false } single)
        {
            return single;
        }

        foreach (Queue queue in queues)
        {
            MessageTerms terms = TermsOf(queue, header.Kind, wish);
            if (IsSameByThen(queue, terms))
            {
                continue;
            }

            if (JudgeInTurn(queue, record, header, terms) is { IsTaken: false } beyond)
            {
                return Naming(queue, beyond);
            }

            _routedWithin.Add(queue.Id);
        }

        if (_routedWithin.MoreBytes > Limits.MaxTransactionBytes)
        {
            return Decision.Refuse(RefusalCode.TooLarge, Limits.MaxTransactionBytes, "Bytes of a transaction, with the queues that its messages reach"); // Before a few bytes of it have named a thousand million places.
        }

        return Decision.Taken;
    }

    /// <summary>Would the queue take it behind those before it?</summary>
    private Decision JudgeInTurn(Queue queue, ReadOnlySpan<byte> record, in MessageHeader header, in MessageTerms terms)
    {
        ref Taking taking = ref CollectionsMarshal.GetValueRefOrAddDefault(_taking, queue.Id, out _);
        if (JudgePublish(queue, record, header, terms, taking) is { IsTaken: false } beyond)
        {
            return beyond;
        }

        taking.Messages++;
        taking.Bytes += header.LengthBytes - MessageHeader.SizeBytes;
        _bytesNeeded += IndexEntry.SizeBytes + (HasTerms(queue, header) ? TermsBytes : 0);
        return _pages.HasRoomForBytes(_bytesNeeded) ? Decision.Taken : OutOfMemory(queue);
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

    /// <summary>Its places are those that its queues give next: they were not known before those before it had theirs.</summary>
    private bool TakeRouted(Span<byte> record, Place place, ulong block)
    {
        RoutedHeader header = MemoryMarshal.Read<RoutedHeader>(record);
        foreach (ref RoutedTarget target in MemoryMarshal.Cast<byte, RoutedTarget>(record[RoutedHeader.SizeBytes..StoredMessage.OffsetOf((int)header.Count)]))
        {
            target.Tag = FindQueue(target.Queue)!.Index.NextTag;
        }

        PublishRouted(record, place, block);
        return true;
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
            header.Tag = 0;
            return ApplyPassedOver(header);
        }

        Complete(queue, ref header, place);
        if (terms.ScheduleKey != 0)
        {
            terms = Supersede(queue, terms, block);
        }

        EnqueueOnTerms(queue, header.Tag, header.LengthBytes, place, terms, isPublished: true);
        return fits;
    }

    private bool ApplyPassedOver(in MessageHeader header)
    {
        CountNumber();
        if (header.Tag == RoutedWithin.Unrouted && _exchanges.TryGetValue(header.Queue, out Exchange? exchange))
        {
            exchange.Discarded++;
        }

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
