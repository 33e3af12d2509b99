using FastQ.Protocol;

namespace FastQ.Engine;

// The state's parts. What stands above the line in each class is persistent: changed by apply alone, in snapshots, equal after replay.
// What stands below it is ephemeral: rebuilt or zero after a recovery, never looked at by apply.

/// <summary>A queue.</summary>
internal sealed class Queue(uint id, byte[] name, QueueAttributes attributes, PageAllocator pages, WarmTails warm, ulong owner = 0) : IDisposable
{
    public uint Id => id;

    public byte[] Name => name;

    /// <summary>The producer whose session it goes with; 0: it stays until it is deleted.</summary>
    public ulong Owner => owner;

    /// <summary>Of which messages and subscriptions that come make use; those that are there keep what they have.</summary>
    public QueueAttributes Attributes { get; private set; } = attributes;

    public PausedWays Paused { get; private set; }

    /// <summary>Of a queue that is deleted when nobody uses it: interval time at which a message came last, a consumer left, or it was made or changed.</summary>
    public long LastUsedMicros { get; set; }

    public QueueIndex Index { get; } = new(pages, warm);

    /// <summary>When the delayed ones are due, by interval time.</summary>
    public MessageTimes Due { get; } = new(pages);

    /// <summary>When messages expire, by interval time: of those in flight, too, that they do when they come back.</summary>
    public MessageTimes Expiry { get; } = new(pages);

    /// <summary>Of messages that came while the queue had an order of its own; null: none ever did.</summary>
    public DeliveryOrder? Order { get; private set; }

    /// <summary>Limits on what flows; null: it has none.</summary>
    public QueueFlow? Flow { get; private set; }

    /// <summary>Deduplication ids; null: none ever came.</summary>
    public Ledger? Ledger { get; private set; }

    /// <summary>Keys that consumers have marked as processed; null: none ever was.</summary>
    public ProcessedKeys? Processed { get; private set; }

    /// <summary>Messages of which it holds one a key; null: none ever came.</summary>
    public UniqueKeys? Unique { get; private set; }

    /// <summary>Schedule keys of messages that waited for their time, until they are gone; null: none ever came.</summary>
    public UniqueKeys? Scheduled { get; private set; }

    /// <summary>No message that is ready and not in the heap has a lower tag: dispatch takes the lowest first.</summary>
    public ulong Cursor { get; set; } = 1;

    /// <summary>A purge is under way for tags below this one; 0: none.</summary>
    public ulong PurgeEnd { get; set; }

    /// <summary>Next tag that its slices look at.</summary>
    public ulong PurgeNext { get; set; }

    /// <summary>Rises with every purge: what came back before the newest one is purged too.</summary>
    public ushort PurgeGeneration { get; set; }

    /// <summary>The queue is gone for everybody; its entries are being freed.</summary>
    public bool IsDeleted { get; set; }

    public long Ready { get; set; }

    public long InFlight
    {
        get => _inFlight;
        set
        {
            if (Flow?.Shared is SharedLimit shared)
            {
                shared.InFlight += value - _inFlight;
            }

            _inFlight = value;
        }
    }

    private long _inFlight;

    public long Delayed { get; set; }

    public long Damaged { get; set; }

    /// <summary>Died, and have not left yet.</summary>
    public long Dying { get; set; }

    /// <summary>Of messages ready or delayed.</summary>
    public long WaitingBytes { get; set; }

    /// <summary>Of messages in flight, damaged or dying.</summary>
    public long HeldBytes { get; set; }

    public ulong Published { get; set; }

    public ulong Accepted { get; set; }

    /// <summary>Died of a reject. The others likewise: whether they left for the dead letters or were gone at once.</summary>
    public ulong Rejected { get; set; }

    public ulong Exhausted { get; set; }

    public ulong Expired { get; set; }

    public ulong Overflowed { get; set; }

    /// <summary>Of whatever reason.</summary>
    public ulong Deaths => Rejected + Exhausted + Expired + Overflowed;

    /// <summary>Left for the dead letters.</summary>
    public ulong DeadLettered { get; set; }

    public ulong Purged { get; set; }

    /// <summary>Moved to other queues, or to another place in this one.</summary>
    public ulong Moved { get; set; }

    /// <summary>All that was ever published is gone in one of these ways, or is there.</summary>
    public ulong Gone => Accepted + Deaths + Purged + Moved;

    /// <summary>Under way, or the last one; null: there was none.</summary>
    public Sweep? Sweep { get; set; }

    /// <summary>Deliveries that were not a message's first.</summary>
    public ulong Redelivered { get; set; }

    /// <summary>What consumers said of rejects, of those that are dying; null: nothing.</summary>
    public Dictionary<ulong, byte[]>? Words { get; set; }

    /// <summary>Delivered so often, a message that is not accepted dies.</summary>
    public int MostDeliveries { get; private set; } = MostIn(attributes);

    public string DeadLetter => Attributes.DeadLetter ?? "";

    /// <summary>May a message have a time or a turn from its queue?</summary>
    public bool GivesTerms { get; private set; } = AreTermsIn(attributes);

    /// <summary>Is a message judged by limits or demands of its queue, or noted as its last use?</summary>
    public bool HasLimits { get; private set; } = AreLimitsIn(attributes);

    public void Change(QueueAttributes to)
    {
        Attributes = to;
        (MostDeliveries, GivesTerms) = (MostIn(to), AreTermsIn(to));
        Order?.Rule((int)to.PriorityShare, to.TenantWeights());
        Pause(Paused);
    }

    /// <summary>Its limits on what flows are these from now on.</summary>
    public void LimitTo(FlowLimits limits, SharedLimit? shared, long nowMicros)
    {
        Flow ??= limits == FlowLimits.None ? null : new QueueFlow();
        Flow?.Change(limits, shared, InFlight, nowMicros);
        Flow = limits == FlowLimits.None ? null : Flow;
        Order?.Limit(limits, nowMicros);
        Pause(Flow?.Breaker is null ? Paused & ~PausedWays.Breaker : Paused);
    }

    /// <summary>How a message of it that waits for its time stands to its group. What was delivered already holds those behind it.</summary>
    public Standing StandingOfDelayed(in IndexEntry entry) => entry.Deliveries > 0 || Attributes.Flow.DelayHoldsGroup ? Standing.Held : Standing.Out;

    public void Pause(PausedWays ways)
    {
        Paused = ways;
        HasLimits = AreLimitsIn(Attributes) || ways != PausedWays.None;
    }

    private static int MostIn(QueueAttributes attributes) => attributes.MaxDeliveries is long most and > 0 ? (int)most : int.MaxValue;

    private static bool AreTermsIn(QueueAttributes attributes) => attributes.DelayMilliseconds != 0 || attributes.TtlMilliseconds != 0 || attributes.IsOrdered;

    private static bool AreLimitsIn(QueueAttributes attributes) => (attributes.MaxLength | attributes.MaxBytes | attributes.MaxMessageSize | attributes.ExpiresMilliseconds) != 0 || attributes.Require != RequiredProperties.None || attributes.Flow.PublishRate.Count > 0;

    /// <summary>More waits than may.</summary>
    public bool IsOver => Exceeds(0, 0);

    /// <summary>Would so many more messages, of so many bytes together, be more than may wait?</summary>
    public bool Exceeds(long more, long bytes) => (Attributes.MaxLength != 0 && Ready + Delayed + more > Attributes.MaxLength) || (Attributes.MaxBytes != 0 && WaitingBytes + bytes > Attributes.MaxBytes);

    /// <summary>It has an order, unique keys or schedule keys: of its messages more is kept than their entries.</summary>
    public bool KeepsMore { get; private set; }

    /// <summary>A message has gone, or is to.</summary>
    public void Forget(ulong tag)
    {
        Order?.Remove(tag);
        Unique?.Remove(tag);
        Scheduled?.Remove(tag);
    }

    /// <summary>A message goes to a consumer.</summary>
    public void Start(ulong tag, uint subscription, long nowMicros)
    {
        Order?.Start(tag, subscription, nowMicros);
        Unique?.Start(tag);
    }

    public Ledger MakeLedger() => Ledger ??= new Ledger(pages);

    public ProcessedKeys MakeProcessed() => Processed ??= new ProcessedKeys(pages);

    public UniqueKeys MakeUnique()
    {
        KeepsMore = true;
        return Unique ??= new UniqueKeys(pages);
    }

    public UniqueKeys MakeScheduled()
    {
        KeepsMore = true;
        return Scheduled ??= new UniqueKeys(pages);
    }

    /// <summary>The order, made when it is needed first.</summary>
    public DeliveryOrder MakeOrder()
    {
        if (Order is null)
        {
            KeepsMore = true;
            Order = new DeliveryOrder(pages, PurgeGeneration);
            Order.Rule((int)Attributes.PriorityShare, Attributes.TenantWeights());
            Order.Limit(Attributes.Flow, 0);
        }

        return Order;
    }

    /// <summary>The next delivery is the last that is allowed.</summary>
    public bool IsLast(in IndexEntry entry) => entry.Deliveries + 1 >= MostDeliveries;

    /// <summary>Purged already by the counts; its entry waits for a slice to free it.</summary>
    public bool IsVoid(ulong tag, in IndexEntry entry) => tag < PurgeEnd && tag >= PurgeNext && (entry.State == EntryState.Ready || (entry.State is EntryState.Returned or EntryState.Delayed && entry.Generation != PurgeGeneration));

    // ---- ephemeral

    /// <summary>Where the search for the first message never delivered goes on: at the cursor or past what is damaged there.</summary>
    public ulong Search { get; set; } = 1;

    /// <summary>Tags of messages that came back, or whose delay is over, with leftovers of those that have gone since.</summary>
    public NativeHeap<ulong> Returned { get; } = new();

    /// <summary>As <see cref="Returned"/>, of those whose next delivery is the last that is allowed, where that is not the first.</summary>
    public NativeHeap<ulong> Lasts { get; } = new();

    /// <summary>Gets nothing more until it holds nothing: then it gets a message's last delivery.</summary>
    public Subscription? Drained { get; set; }

    /// <summary>Tags of those that are dying, with leftovers.</summary>
    public NativeHeap<ulong> DyingTags { get; } = new();

    /// <summary>As <see cref="DyingTags"/>, of requests: they leave whether or not there are dead letters.</summary>
    public NativeHeap<ulong> DyingRequests { get; } = new();

    /// <summary>Tags of dying messages that their exchange gives to nobody, with leftovers.</summary>
    public NativeHeap<ulong> Unroutable { get; } = new();

    public bool IsListedAsDying { get; set; }

    public bool IsListedAsOver { get; set; }

    /// <summary>The block in which a message of it died last, or one that is dying was moved.</summary>
    public ulong DiedInBlock { get; set; }

    /// <summary>Its dead letters could not leave: not before then.</summary>
    public long DeadLettersFromMicros { get; set; }

    public List<Subscription> Subscriptions { get; } = [];

    public int NextSubscription { get; set; }

    /// <summary>Some consumer has a priority.</summary>
    public bool HasRanks { get; set; }

    /// <summary>Where one consumer at a time gets messages: it.</summary>
    public Subscription? Active { get; set; }

    public bool IsListed { get; set; }

    /// <summary>The last search for the queues of a message that found it.</summary>
    public ulong ReachedBy { get; set; }

    /// <summary>Nothing of it falls due before.</summary>
    public long LookAtMicros { get; set; } = long.MaxValue;

    public void Dispose()
    {
        Index.Dispose();
        Due.Dispose();
        Expiry.Dispose();
        Order?.Dispose();
        Ledger?.Dispose();
        Processed?.Dispose();
        Unique?.Dispose();
        Scheduled?.Dispose();
        Returned.Dispose();
        Lasts.Dispose();
        DyingTags.Dispose();
        DyingRequests.Dispose();
        Unroutable.Dispose();
    }
}

/// <summary>A delivery that is open.</summary>
internal struct OpenDelivery : IVacant
{
    /// <summary>0: not open any more.</summary>
    public ulong Tag;

    public long LeaseEndMicros;

    public readonly bool IsVacant => Tag == 0;
}

/// <summary>How a consumer stands to the others of its queue.</summary>
/// <param name="Priority">Higher ones are served first, as long as they have credit.</param>
/// <param name="IsExclusive">There are no others.</param>
internal readonly record struct ConsumerRank(byte Priority, bool IsExclusive)
{
    private const ulong Exclusive = 256;

    public static bool IsRank(ulong value) => value < 2 * Exclusive;

    public static ConsumerRank From(ulong value) => new((byte)value, (value & Exclusive) != 0);

    public ulong Value => Priority | (IsExclusive ? Exclusive : 0);
}

/// <summary>A consumer's claim on a queue.</summary>
internal sealed class Subscription(uint id, Queue queue, ulong producer, long leaseMilliseconds, ConsumerRank rank) : IDisposable
{
    public uint Id => id;

    public Queue Queue => queue;

    /// <summary>Whose it is: the producer id of its session.</summary>
    public ulong Producer => producer;

    public long LeaseMilliseconds => leaseMilliseconds;

    public ConsumerRank Rank => rank;

    /// <summary>Open deliveries by their number.</summary>
    public SparseRing<OpenDelivery> Window { get; } = new();

    public ulong NextDelivery => Math.Max(1, Window.End);

    /// <summary>How many are open.</summary>
    public long Open => Window.Live;

    public long OpenBytes { get; set; }

    /// <summary>It gets nothing, over restarts too; what it holds stays.</summary>
    public bool IsPaused { get; set; }

    // ---- ephemeral

    public uint CreditMessages { get; set; }

    public ulong CreditBytes { get; set; }

    public bool IsHeld { get; set; }

    /// <summary>A session speaks for it.</summary>
    public bool IsAttached { get; set; }

    /// <summary>No lease ends before this that a walk under way has not passed.</summary>
    public long LookAtMicros { get; set; } = long.MaxValue;

    /// <summary>Next delivery that a walk over its leases looks at.</summary>
    public ulong WalkNext { get; set; }

    /// <summary>Earliest lease end that the walk has passed.</summary>
    public long WalkEarliest { get; set; }

    /// <summary>Deliveries below this one are from before a recovery: what is not open may have been lost then.</summary>
    public ulong RecoveredBelow { get; set; }

    /// <summary>Numbers whose lease ended and whose client has not said a word of them since.</summary>
    public HashSet<ulong> Lost { get; } = [];

    /// <summary>Why a delivery is not open. Of one that was lost, this is the word of its client.</summary>
    public RefusalCode WhyLate(ulong delivery) => Lost.Remove(delivery) || delivery < RecoveredBelow ? RefusalCode.LeaseLost : RefusalCode.AlreadySettled;

    /// <summary>What it holds, if anything, is a message at its last delivery: nothing comes beside it.</summary>
    public bool HoldsLast { get; set; }

    public bool HasCredit => !IsHeld && !IsPaused && !(HoldsLast && Open > 0) && Open < CreditMessages && (ulong)OpenBytes < CreditBytes;

    public void Dispose() => Window.Dispose();
}

/// <summary>A refused submission that its producer has not acknowledged; or a refused transaction, which has so many numbers, for one of its records (from 1 on).</summary>
public readonly record struct KeptRefusal(ulong Number, RefusalCode Code, uint Count = 1, uint Operation = 0);

/// <summary>A source of submissions.</summary>
internal sealed class Producer(ulong id)
{
    public ulong Id => id;

    /// <summary>The last number that was decided.</summary>
    public ulong Last { get; set; }

    public ulong Epoch { get; set; }

    public ulong InstanceLow { get; set; }

    public ulong InstanceHigh { get; set; }

    /// <summary>Refusals up to here were taken by the client.</summary>
    public ulong RefusalFloor { get; set; }

    public List<KeptRefusal> Refusals { get; } = new(0);

    /// <summary>Interval time of its last record; renewed each day while a session has it.</summary>
    public long LastSeenMicros { get; set; }

    /// <summary>How many subscriptions are its own.</summary>
    public int Subscriptions { get; set; }

    // ---- ephemeral

    public bool IsAttached { get; set; }
}

/// <summary>What lives in a slot.</summary>
internal sealed class SlotState(uint id)
{
    public uint Id => id;

    public long Live { get; set; }

    public long LiveBytes { get; set; }

    /// <summary>The block in which a message last left it.</summary>
    public ulong LastLeftBlock { get; set; }
}

/// <summary>What lives in a slot, as answered to the journal.</summary>
public readonly record struct SlotLive(long Live, long LiveBytes, ulong LastLeftBlock);

/// <summary>Limits of an engine.</summary>
public sealed record EngineLimits
{
    public int MaxQueues { get; init; } = 100_000;

    public int MaxSubscriptions { get; init; } = 100_000;

    public int MaxExchanges { get; init; } = 100_000;

    /// <summary>Of all exchanges together. Their memory counts towards <see cref="IndexBytes"/>.</summary>
    public int MaxBindings { get; init; } = 1_000_000;

    /// <summary>Each keeps its message in memory: together at most so many times <see cref="Limits.MaxScheduleBytes"/>.</summary>
    public int MaxSchedules { get; init; } = 1000;

    /// <summary>Memory for the indexes of all queues, in bytes.</summary>
    public long IndexBytes { get; init; } = 4L * 1024 * 1024 * 1024;

    /// <summary>Largest body, in bytes.</summary>
    public int MaxMessageBytes { get; init; } = Limits.MaxMessageBytes;

    /// <summary>A producer is forgotten this long after its last record, when no session has it.</summary>
    public long ProducerRetentionMicros { get; init; } = 7L * 24 * 3600 * 1_000_000;
}

/// <summary>The two times that come in with each batch: interval time never jumps, wall time is the calendar's. Microseconds.</summary>
public readonly record struct Now(long IntervalMicros, long WallMicros);

/// <summary>What became of a record.</summary>
public enum ApplyVerdict
{
    Applied,
    UnknownRecord,
    Contradiction,
}

/// <summary>What was decided of a submission.</summary>
public enum DecisionKind
{
    Taken,

    /// <summary>Its number was decided before: a resend.</summary>
    Duplicate,

    Refused,

    /// <summary>Its number is above the next one.</summary>
    OutOfOrder,

    /// <summary>It is for an exchange, and was not judged yet.</summary>
    ForExchange,
}

/// <summary>A decision; for a refusal its code and the limit's value and name, where one is meant.</summary>
public readonly record struct Decision(DecisionKind Kind, RefusalCode Code = RefusalCode.None, ulong Value = 0, string Limit = "")
{
    public static Decision Taken => new(DecisionKind.Taken);

    public bool IsTaken => Kind == DecisionKind.Taken;

    public static Decision Refuse(RefusalCode code, ulong value = 0, string limit = "") => new(DecisionKind.Refused, code, value, limit);
}

/// <summary>Delivery numbers that a settle named and that were not open.</summary>
public readonly record struct LateRange(ulong First, uint Count, RefusalCode Code);

/// <summary>A delivery that ended by other than its client's word: the client may still read those bytes (DESIGN-REVIEW R8).</summary>
public readonly record struct OrphanReference(uint Subscription, ulong Delivery, uint Slot);

/// <summary>A subscription that the engine ended.</summary>
public readonly record struct EndedSubscription(uint Subscription, RefusalCode Code);

/// <summary>Messages handed to a subscription: consecutive delivery numbers, tags and tokens.</summary>
public readonly record struct DispatchedRun(uint Subscription, uint Queue, ulong FirstDelivery, ulong FirstTag, ulong FirstToken, int Count, long LeaseEndMicros);

/// <summary>A queue as shown to people.</summary>
public readonly record struct QueueView(uint Id, string Name, QueueAttributes Attributes, PausedWays Paused, long Ready, long InFlight, long Delayed, long Damaged, long Dying, long Bytes, int Consumers, ulong Published, ulong Accepted, ulong Rejected, ulong Exhausted, ulong Expired, ulong Overflowed, ulong DeadLettered, ulong Redelivered, ulong Purged, ulong Moved, bool IsTemporary)
{
    public long Messages => Ready + InFlight + Delayed + Damaged + Dying;
}

/// <summary>A consumer as shown to people.</summary>
/// <param name="Id">Of its subscription.</param>
/// <param name="IsAttached">Its session is there.</param>
/// <param name="Open">So many messages are with it.</param>
/// <param name="Credit">So many may be.</param>
public readonly record struct SubscriptionView(uint Id, byte Priority, bool IsExclusive, bool IsAttached, bool IsPaused, long Open, uint Credit);

/// <summary>A producer as shown to its session.</summary>
public readonly record struct ProducerView(bool IsKnown, ulong LastNumber, ulong Epoch, ulong RefusalFloor, int KeptRefusals, ulong InstanceLow, ulong InstanceHigh);
