using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastQ.Protocol;

namespace FastQ.Engine;

// The queues: a deterministic state machine.
//
//   delayed --MessagesDue--> ready --Delivered--> in flight --accept--> gone             every arrow is a record
//      |                       ^---- release, LeaseEnded, session's end ---'             decide judges, apply changes;
//      ^---- release with a delay -------------------------------------'                 recovery is apply alone
//   ready, delayed --MessagesExpired--> dying <--reject, a delivery too many-- in flight     (Deaths.cs)
//
// Live, a submission's own bytes in the open block are its record: decide judges that copy, completes it (tag, time), and hands it to
// the same apply that a recovery uses. Counts always add up, per queue: published = accepted + rejected + exhausted + expired + purged
// + ready + delayed + in flight + damaged; those that are dying have died already, by the counts.

/// <summary>The engine of a namespace. One thread; no clock, no I/O. Room for records is the caller's and must be 8-byte aligned.</summary>
public sealed partial class QueueEngine : IDisposable
{
    /// <summary>Room that every method which writes a fact needs at most, in bytes (a name and attributes included). Three of them fit into the last 4 KiB of a slot: what a command may write opens none at rest.</summary>
    public const int MaxFactBytes = 1312;

    /// <summary>Times beyond are not ours: sums of times must not overflow.</summary>
    private const long LatestMicros = long.MaxValue / 4;

    private readonly EngineLimits _limits;
    private readonly PageAllocator _pages;
    private readonly WarmTails _warm = new();
    private readonly Dictionary<uint, Queue> _queues = [];
    private readonly Dictionary<string, Queue> _byName = new(StringComparer.Ordinal);
    private readonly Dictionary<uint, Subscription> _subscriptions = [];
    private readonly Dictionary<ulong, Producer> _producers = [];
    private readonly Dictionary<uint, SlotState> _slots = [];
    private readonly Queue<OrphanReference> _orphans = new();
    private readonly Queue<EndedSubscription> _ended = new();
    private readonly List<LateRange> _late = [];
    private Queue? _lastQueue;
    private Subscription? _lastSubscription;
    private SlotState? _arrivalSlot;
    private SlotState? _leaveSlot;
    private Producer? _source;
    private ulong _sourceNumber;
    private uint _nextQueue = 1;
    private uint _nextSubscription = 1;
    private ulong _nextProducer = 1;
    private ulong _nextToken = 1;
    private bool _isLive; // The first batch was begun: recovery is over.

    public QueueEngine(EngineLimits limits)
    {
        _limits = limits;
        _pages = new PageAllocator(limits.IndexBytes);
        _shared = new SharedRecords(_pages);
    }

    /// <summary>Interval time of the last batch.</summary>
    public long IntervalMicros { get; private set; }

    /// <summary>Wall time of the last batch.</summary>
    public long WallMicros { get; private set; }

    /// <summary>About what a snapshot will hold, in bytes. Cheap: may be asked each turn.</summary>
    public long StateBytes => _pages.UsedBytes + _subscriptions.Count * 256L + _queues.Count * 512L + _producers.Count * 64L;

    /// <summary>Memory outside the managed heap, in bytes: indexes, open deliveries, what came back. Its cost is that of all queues and subscriptions.</summary>
    public long MeasureNativeBytes() =>
        _pages.UsedBytes + _queues.Values.Sum(queue => queue.Index.TableBytes + queue.Returned.Bytes + queue.Lasts.Bytes + queue.DyingTags.Bytes + queue.DyingRequests.Bytes + queue.Unroutable.Bytes) + _subscriptions.Values.Sum(subscription => subscription.Window.Bytes);

    /// <summary>The block that is being written: what messages leave as another takes their place is said to have left in it. Set before <see cref="Publish"/>.</summary>
    public ulong OpenBlock { get; set; }

    /// <summary>For repair: records whose ground is lost are counted in <see cref="Lost"/> instead of being contradictions.</summary>
    public bool IsLenient { get; set; }

    /// <summary>What a lenient replay could not place, in words.</summary>
    public List<string> Lost { get; } = [];

    /// <summary>Changes the state by one record. The one way in which it changes, live and at recovery.</summary>
    /// <param name="record">Whole, without padding; of any origin at recovery.</param>
    /// <param name="place">Where it lies.</param>
    /// <param name="block">The block that holds it.</param>
    public ApplyVerdict Apply(ReadOnlySpan<byte> record, Place place, ulong block)
    {
        if (record.Length < RecordPrefix.SizeBytes)
        {
            return ApplyVerdict.Contradiction;
        }

        RecordKind kind = (RecordKind)record[4];
        int least = kind switch
        {
            RecordKind.Message or RecordKind.MovedMessage or RecordKind.DeadLetter or RecordKind.MessageTransferred => MessageHeader.SizeBytes,
            RecordKind.Settle or RecordKind.Extend => SettleRecord.SizeBytes,
            RecordKind.PassedOver => MessageHeader.SizeBytes,
            RecordKind.Source => SourceRecord.SizeBytes,
            RecordKind.Delivered => DeliveredRecord.SizeBytes,
            RecordKind.LeaseEnded or RecordKind.NumberRefused or RecordKind.QueueDeclared or RecordKind.QueueDeleted or RecordKind.QueuePurged or RecordKind.PurgeSlice
                or RecordKind.Subscribed or RecordKind.Unsubscribed or RecordKind.ProducerOpened or RecordKind.ProducerForgotten or RecordKind.RefusalFloor
                or RecordKind.MessageDamaged or RecordKind.SubscriptionResumed or RecordKind.CommandDone or RecordKind.MessagesDue or RecordKind.MessagesExpired or RecordKind.DeathStopped or RecordKind.MessagesDropped or RecordKind.QueueChanged or RecordKind.QueuePaused or RecordKind.MessageDeleted or RecordKind.MessageChanged
                or RecordKind.SweepStarted or RecordKind.SweepEnded
                or RecordKind.ExchangeDeclared or RecordKind.ExchangeDeleted or RecordKind.BindingChanged or RecordKind.MessageUnrouted
                or RecordKind.TransactionRefused or RecordKind.MessageProcessed or RecordKind.RequestEnded or RecordKind.ScheduleSet or RecordKind.ScheduleDeleted or RecordKind.SchedulePaused or RecordKind.ScheduleFired or RecordKind.LimitSet or RecordKind.LimitDeleted or RecordKind.SubscriptionPaused => FactRecord.SizeBytes,
            RecordKind.RoutedMessage => StoredMessage.OffsetOf(1) + MessageHeader.SizeBytes,
            _ => 0,
        };
        if (least == 0)
        {
            return ApplyVerdict.UnknownRecord;
        }

        if (record.Length < least)
        {
            return ApplyVerdict.Contradiction;
        }

        bool fits = kind switch
        {
            RecordKind.Message => ApplyMessage(record, place, block),
            RecordKind.MovedMessage => ApplyMoved(record, place, block),
            RecordKind.DeadLetter => ApplyDeadLetter(record, place, block),
            RecordKind.MessageTransferred => ApplyTransferred(record, place, block),
            RecordKind.RoutedMessage => ApplyRouted(record, place, block),
            RecordKind.Settle => ApplySettle(MemoryMarshal.Read<SettleRecord>(record), record[SettleRecord.SizeBytes..], block),
            RecordKind.Extend => ApplyExtend(MemoryMarshal.Read<SettleRecord>(record)),
            RecordKind.Source => ApplySource(MemoryMarshal.Read<SourceRecord>(record)),
            RecordKind.Delivered => ApplyDelivered(record),
            RecordKind.PassedOver => ApplyPassedOver(MemoryMarshal.Read<MessageHeader>(record)),
            _ => ApplyFact(MemoryMarshal.Read<FactRecord>(record), record[FactRecord.SizeBytes..], block),
        };
        if (!fits && IsLenient)
        {
            Lost.Add($"{kind} record in block {block} (slot {place.Slot}, offset {place.Offset}): what it speaks of is not there");
            return ApplyVerdict.Applied;
        }

        return fits ? ApplyVerdict.Applied : ApplyVerdict.Contradiction;
    }

    /// <summary>Begins a batch: whose submissions follow, from which number on, and when. Writes and applies a source record.</summary>
    /// <param name="producer">0: the broker's own doing.</param>
    /// <param name="now">Interval time is never below the last one.</param>
    /// <param name="room">At least <see cref="SourceRecord.SizeBytes"/> bytes.</param>
    /// <returns>Bytes written.</returns>
    public int Begin(ulong producer, Now now, Span<byte> room)
    {
        ulong first = producer == 0 ? 0 : _producers[producer].Last + 1;
        SourceRecord record = new() { LengthBytes = SourceRecord.SizeBytes, Kind = RecordKind.Source, Producer = producer, FirstNumber = first, IntervalMicros = Math.Max(now.IntervalMicros, IntervalMicros), WallMicros = now.WallMicros };
        MemoryMarshal.Write(room, record);
        bool fits = ApplySource(record);
        Invariant.Holds(fits);
        if (!_isLive)
        {
            StartTimers();
        }

        return SourceRecord.SizeBytes;
    }

    /// <summary>Judges a message whose copy stands in the open block, completes it with tag and time, and applies it. One for an exchange is to be routed (<see cref="Route"/>): nothing has happened then.</summary>
    /// <param name="record">The whole record; its lengths were judged: header and properties fit. What the properties say is judged here.</param>
    /// <param name="place">Where the copy lies.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Decision Publish(Span<byte> record, Place place)
    {
        ref MessageHeader header = ref MemoryMarshal.AsRef<MessageHeader>(record);
        ulong number = header.NumberOrTimeMicros;
        if (number != _sourceNumber)
        {
            return OtherNumber(number);
        }

        Queue? queue = _lastQueue?.Id == header.Queue ? _lastQueue : FindQueue(header.Queue);
        if (queue is null)
        {
            return _exchanges.ContainsKey(header.Queue) ? new Decision(DecisionKind.ForExchange) : Unknown(header.Queue);
        }

        if (header.BodyBytes > _limits.MaxMessageBytes)
        {
            return Decision.Refuse(RefusalCode.TooLarge, (ulong)_limits.MaxMessageBytes, "The broker's max-message-size");
        }

        if (HasTerms(queue, header))
        {
            return PublishOnTerms(queue, record, ref header, place);
        }

        if (queue.HasLimits && JudgePublish(queue, record, header, default) is { IsTaken: false } beyond)
        {
            return beyond;
        }

        if (queue.Index.NeedsMemory && !_pages.HasRoom)
        {
            return OutOfMemory();
        }

        Complete(queue, ref header, place);
        Enqueue(queue, header.Tag, header.LengthBytes, place);
        return Decision.Taken;
    }

    /// <summary>As above, where the message or its queue says something of how it is delivered. Apart, so that the others do not pay for it.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private Decision PublishOnTerms(Queue queue, ReadOnlySpan<byte> record, ref MessageHeader header, Place place)
    {
        if (!TryTermsOf(queue, record, header, out MessageTerms terms))
        {
            return Decision.Refuse(RefusalCode.BadArgument);
        }

        if ((terms.DedupKey | terms.UniqueKey) != 0 && JudgeSame(queue, terms) is { IsTaken: false } same)
        {
            return same;
        }

        if (terms.ScheduleKey != 0 && JudgeScheduled(queue, terms) is { IsTaken: false } kept)
        {
            return kept;
        }

        if (JudgePublish(queue, record, header, terms, supersededBytes: SupersededBytes(queue, terms)) is { IsTaken: false } beyond)
        {
            return beyond;
        }

        if (!_pages.HasRoom && (queue.Index.NeedsMemory || queue.GivesTerms || terms != default))
        {
            return OutOfMemory();
        }

        Complete(queue, ref header, place);
        if (terms.ScheduleKey != 0)
        {
            terms = Supersede(queue, terms, OpenBlock);
        }

        EnqueueOnTerms(queue, header.Tag, header.LengthBytes, place, terms, isPublished: true);
        return Decision.Taken;
    }

    /// <summary>What a queue has against a message that it does not have yet. The one place for all ways to it: by its name, by an exchange, in a transaction.</summary>
    /// <param name="before">What earlier messages of the same transaction take.</param>
    /// <param name="supersededBytes">Of the message whose place it takes; -1: it takes nobody's.</param>
    private Decision JudgePublish(Queue queue, ReadOnlySpan<byte> record, in MessageHeader header, in MessageTerms terms, in Taking before = default, long supersededBytes = -1)
    {
        if (terms.NeedsConsumer && queue.Subscriptions.Count == 0)
        {
            return Decision.Refuse(RefusalCode.NoResponder);
        }

        return queue.HasLimits ? JudgeSent(queue, record, header, before, supersededBytes) : Decision.Taken;
    }

    private Decision OutOfMemory() => Decision.Refuse(RefusalCode.LimitReached, (ulong)_limits.IndexBytes, "Bytes of memory for the indexes of all queues");

    /// <summary>The record gets what the broker alone knows.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Complete(Queue queue, ref MessageHeader header, Place place)
    {
        Invariant.Holds((place.Offset & 7) == 0 && header.LengthBytes >= MessageHeader.SizeBytes);
        header.NumberOrTimeMicros = (ulong)WallMicros;
        header.Tag = queue.Index.NextTag;
        header.Flags = 0; // Who waits for which confirm is the session's business.
        CountNumber();
    }

    /// <summary>Judges a settle or an extension whose copy stands in the open block, with the words behind it, and applies it to what is open in its range. The rest is in <see cref="LateRanges"/>.</summary>
    public Decision Settle(Span<byte> record, ulong block)
    {
        _late.Clear();
        SettleRecord settle = MemoryMarshal.Read<SettleRecord>(record);
        if (settle.Number != _sourceNumber)
        {
            return OtherNumber(settle.Number);
        }

        Subscription? subscription = _lastSubscription?.Id == settle.Subscription ? _lastSubscription : FindSubscription(settle.Subscription);
        if (subscription is null || subscription.Producer != _source!.Id)
        {
            return Decision.Refuse(RefusalCode.UnknownSubscription);
        }

        bool isExtension = settle.Kind == RecordKind.Extend;
        bool isValid = settle.Count > 0 && IsRange(subscription, settle.FirstDelivery, settle.Count)
            && (isExtension ? settle.Milliseconds is >= Limits.MinLeaseMilliseconds and <= Limits.MaxLeaseMilliseconds : IsOutcome(settle, record.Length - SettleRecord.SizeBytes));
        if (!isValid)
        {
            return Decision.Refuse(RefusalCode.BadArgument);
        }

        bool fits = isExtension ? ApplyExtend(settle) : ApplySettle(settle, record[SettleRecord.SizeBytes..], block);
        Invariant.Holds(fits);
        LookIfDone(subscription);
        return Decision.Taken;
    }

    /// <summary>Of the last <see cref="Settle"/>.</summary>
    public ReadOnlySpan<LateRange> LateRanges => CollectionsMarshal.AsSpan(_late);

    /// <summary>Is this the number that comes next in this batch?</summary>
    public Decision CheckNumber(ulong number) => number == _sourceNumber ? Decision.Taken : OtherNumber(number);

    /// <summary>Journals that the next number was refused. Bytes written.</summary>
    public int Refuse(ulong number, RefusalCode code, Span<byte> room, ulong block)
    {
        Invariant.Holds(number == _sourceNumber);
        return Write(new FactRecord { Kind = RecordKind.NumberRefused, Small = (ushort)code, First = number }, default, room, block);
    }

    /// <summary>Journals that the next number was a command, done. Bytes written.</summary>
    public int FinishCommand(ulong number, Span<byte> room, ulong block)
    {
        Invariant.Holds(number == _sourceNumber);
        return Write(new FactRecord { Kind = RecordKind.CommandDone, First = number }, default, room, block);
    }

    /// <summary>Opens a producer: a new one (0), or one that is resumed by the same client.</summary>
    public Decision OpenProducer(ulong wanted, ulong instanceLow, ulong instanceHigh, Span<byte> room, ulong block, out int written, out ulong id)
    {
        written = 0;
        id = wanted;
        if (wanted != 0 && !_producers.ContainsKey(wanted))
        {
            return Decision.Refuse(RefusalCode.UnknownProducer);
        }

        if (wanted != 0 && (_producers[wanted].InstanceLow, _producers[wanted].InstanceHigh) != (instanceLow, instanceHigh))
        {
            return Decision.Refuse(RefusalCode.Fenced);
        }

        id = wanted == 0 ? _nextProducer : wanted;
        written = Write(new FactRecord { Kind = RecordKind.ProducerOpened, First = id, Second = instanceLow, Third = instanceHigh }, default, room, block);
        _producers[id].IsAttached = true;
        return Decision.Taken;
    }

    /// <summary>The producer's session has ended: its retention begins.</summary>
    /// <param name="producer">Its id.</param>
    /// <param name="mayReturn">At a stop: queues that go with its session stay for now.</param>
    public void DetachProducer(ulong producer, bool mayReturn = false)
    {
        if (_producers.TryGetValue(producer, out Producer? known))
        {
            known.IsAttached = false;
            AbandonQueuesOf(producer, mayReturn);
        }
    }

    /// <summary>The client has taken all refusals up to a number: they are forgotten. Bytes written.</summary>
    public int AcknowledgeRefusals(ulong producer, ulong upTo, Span<byte> room, ulong block)
    {
        Producer known = _producers[producer];
        upTo = Math.Min(upTo, known.Last);
        return upTo <= known.RefusalFloor ? 0 : Write(new FactRecord { Kind = RecordKind.RefusalFloor, First = producer, Second = upTo }, default, room, block);
    }

    /// <summary>A producer, for its session.</summary>
    public ProducerView ViewProducer(ulong producer) =>
        _producers.TryGetValue(producer, out Producer? known) ? new ProducerView(true, known.Last, known.Epoch, known.RefusalFloor, known.Refusals.Count, known.InstanceLow, known.InstanceHigh) : default;

    /// <summary>Refusals of a producer that its client has not acknowledged, oldest first.</summary>
    public IReadOnlyList<KeptRefusal> RefusalsOf(ulong producer) => _producers[producer].Refusals;

    public bool TryTakeOrphan(out OrphanReference orphan) => _orphans.TryDequeue(out orphan);

    public bool TryTakeEnded(out EndedSubscription ended) => _ended.TryDequeue(out ended);

    public void Dispose()
    {
        foreach (Queue queue in _queues.Values)
        {
            queue.Dispose();
        }

        _shared.Dispose();
        foreach (Subscription subscription in _subscriptions.Values)
        {
            subscription.Dispose();
        }

        _pages.Dispose();
    }

    private Decision OtherNumber(ulong number) => new(number < _sourceNumber ? DecisionKind.Duplicate : DecisionKind.OutOfOrder);

    private Queue? FindQueue(uint id, bool withDeleted = false)
    {
        if (_queues.TryGetValue(id, out Queue? queue) && (withDeleted || !queue.IsDeleted))
        {
            _lastQueue = queue.IsDeleted ? _lastQueue : queue;
            return queue;
        }

        return null;
    }

    private Subscription? FindSubscription(uint id)
    {
        if (_subscriptions.TryGetValue(id, out Subscription? subscription))
        {
            _lastSubscription = subscription;
        }

        return subscription;
    }

    /// <summary>Writes a fact with a payload and applies it.</summary>
    private int Write(FactRecord record, ReadOnlySpan<byte> payload, Span<byte> room, ulong block)
    {
        int length = FactRecord.SizeBytes + payload.Length;
        int aligned = Limits.Align(length);
        record.LengthBytes = (uint)length;
        MemoryMarshal.Write(room, record);
        payload.CopyTo(room[FactRecord.SizeBytes..]);
        room[length..aligned].Clear();
        bool fits = ApplyFact(record, payload, block);
        Invariant.Holds(fits);
        return aligned;
    }
}
