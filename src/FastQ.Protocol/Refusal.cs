namespace FastQ.Protocol;

/// <summary>Why something was refused. The numbers are part of the protocol and of the journal: never reused, never renumbered.</summary>
public enum RefusalCode : ushort
{
    /// <summary>Not refused.</summary>
    None = 0,
    UnknownQueue = 1,
    QueueExists = 2,
    QueueDeleted = 3,
    BadName = 4,
    BadArgument = 5,
    TooLarge = 6,
    LimitReached = 7,
    LeaseLost = 8,
    AlreadySettled = 9,
    Fenced = 10,
    TimedOut = 11,
    Disconnected = 12,
    Closed = 13,
    Denied = 14,
    Corrupt = 15,
    StorageFailed = 16,
    Internal = 17,
    UnknownSubscription = 18,
    RingViolation = 19,
    VersionMismatch = 20,
    UnknownProducer = 21,
    DataLost = 22,
    ShuttingDown = 23,
    DiskFull = 24,
    UnknownRecord = 25,
    OutOfOrder = 26,
    UnknownNamespace = 27,
    Paused = 28,
    MissingProperty = 29,
    Duplicate = 30,
    Unroutable = 31,
    UnknownExchange = 32,
    NoResponder = 37,
    NoRequester = 38,
}

/// <summary>One row of the table of refusals: the code as scripts see it, what it means, and what to do.</summary>
/// <param name="Code">The number on the wire and in the journal.</param>
/// <param name="Name">The stable text, in kebab-case, the same in every client.</param>
/// <param name="Cause">What happened, in a sentence.</param>
/// <param name="Remedy">What the reader can do about it, in a sentence.</param>
public readonly record struct Refusal(RefusalCode Code, string Name, string Cause, string Remedy)
{
    // The one table that broker, clients and documentation share (src/FastQ.Protocol/README.md lists it; a test compares).
    private static readonly Refusal[] s_table =
    [
        new(RefusalCode.None, "none", "Nothing was refused.", "Nothing to do."),
        new(RefusalCode.UnknownQueue, "unknown-queue", "No queue has this name or number.", "Create it first: fastq queue create NAME."),
        new(RefusalCode.QueueExists, "queue-exists", "A queue, or an exchange, of this name exists with other attributes.", "Use the existing attributes, or delete it first."),
        new(RefusalCode.QueueDeleted, "queue-deleted", "The queue was deleted while it was in use.", "Create it again if it is still wanted; one made anew is another queue."),
        new(RefusalCode.BadName, "bad-name", "A name is 1 to 255 bytes of UTF-8 without control characters and does not begin with 'fastq.'.", "Choose another name."),
        new(RefusalCode.BadArgument, "bad-argument", "An argument is outside its range.", "See the text of the refusal for the argument and its range."),
        new(RefusalCode.TooLarge, "too-large", "The message is larger than the broker allows.", "Send it in parts, or raise max-message-size (at most 16 MiB)."),
        new(RefusalCode.LimitReached, "limit-reached", "A limit of the broker is reached.", "See the text for the limit and its value; consume, or raise it."),
        new(RefusalCode.LeaseLost, "lease-lost", "The lease on this delivery ended before it was settled.", "The message is delivered again; make the work idempotent or extend the lease."),
        new(RefusalCode.AlreadySettled, "already-settled", "This delivery was settled before.", "Settle each delivery once."),
        new(RefusalCode.Fenced, "fenced", "A newer session uses this producer.", "Stop this one; only the newest may go on."),
        new(RefusalCode.TimedOut, "timed-out", "The answer did not come in time.", "Try again, or wait longer."),
        new(RefusalCode.Disconnected, "disconnected", "The connection to the broker is lost.", "Start the broker, or wait longer (patience)."),
        new(RefusalCode.Closed, "closed", "The connection or subscription was closed by this program.", "Open a new one."),
        new(RefusalCode.Denied, "denied", "This user may not do that.", "Ask the operator of the broker."),
        new(RefusalCode.Corrupt, "corrupt", "Stored data is damaged.", "Run: fastq journal verify DIR."),
        new(RefusalCode.StorageFailed, "storage-failed", "The disk reported an error; nothing is confirmed any more.", "Check the device (dmesg), then start the broker again."),
        new(RefusalCode.Internal, "internal", "A fault of the broker.", "Report it with the broker's log."),
        new(RefusalCode.UnknownSubscription, "unknown-subscription", "No such subscription belongs to this session.", "Subscribe first."),
        new(RefusalCode.RingViolation, "ring-violation", "The client wrote something into its ring that the protocol forbids.", "Use a client library of this protocol version; report it if you did."),
        new(RefusalCode.VersionMismatch, "version-mismatch", "Client and broker share no version of the protocol.", "Use a client of the broker's major version."),
        new(RefusalCode.UnknownProducer, "unknown-producer", "The producer to resume is not known (it may have been forgotten).", "Connect anew; what was not confirmed must be sent again by the application."),
        new(RefusalCode.DataLost, "data-lost", "The client holds confirms that the broker's journal does not know.", "The journal lost confirmed data or an older copy was restored: tell the operator."),
        new(RefusalCode.ShuttingDown, "shutting-down", "The broker is stopping and takes no new messages.", "Send again after it is back; the client library does so by itself."),
        new(RefusalCode.DiskFull, "disk-full", "No room on the disk for new messages.", "Free space, or consume; settlements still pass."),
        new(RefusalCode.UnknownRecord, "unknown-record", "The broker does not know this kind of record.", "Use a client of the broker's version or an older one."),
        new(RefusalCode.OutOfOrder, "out-of-order", "A submission number is not the next one.", "Use a client library of this protocol version; report it if you did."),
        new(RefusalCode.UnknownNamespace, "unknown-namespace", "No namespace has this name.", "Use the namespace 'default'."),
        new(RefusalCode.Paused, "paused", "The queue is paused and takes no new messages.", "Wait, or let it go on: fastq queue resume NAME."),
        new(RefusalCode.MissingProperty, "missing-property", "The message lacks a property that its queue demands.", "Set it; fastq queue show NAME lists what is demanded."),
        new(RefusalCode.Duplicate, "duplicate", "The message was taken before: the first one counts.", "Nothing to do; the value is the first one's place in its queue."),
        new(RefusalCode.Unroutable, "unroutable", "The exchange gives this message to no queue.", "Bind a queue: fastq bind EXCHANGE QUEUE --key KEY; or send it as optional."),
        new(RefusalCode.UnknownExchange, "unknown-exchange", "No exchange has this name.", "Create it first: fastq exchange create NAME."),
        new(RefusalCode.NoResponder, "no-responder", "Nobody answers this request: its queue has no consumer, or the one that had it ended before it replied.", "Start a responder, then ask again; whether work was begun is not known where one had it."),
        new(RefusalCode.NoRequester, "no-requester", "Nobody waits for this reply any more.", "Nothing to do; what the request asked for may be undone."),
    ];

    private static readonly Refusal[] s_byCode = [.. Enumerable.Range(0, (int)s_table[^1].Code + 1).Select(code => Array.Find(s_table, row => (int)row.Code == code) is { Name: not null } row ? row : s_table[(int)RefusalCode.Internal])];

    /// <summary>All rows, ordered by code.</summary>
    public static ReadOnlySpan<Refusal> Table => s_table;

    /// <summary>The row of a code; of <see cref="RefusalCode.Internal"/> for a code that this version does not know.</summary>
    public static Refusal Of(RefusalCode code) => (int)code < s_byCode.Length ? s_byCode[(int)code] : s_byCode[(int)RefusalCode.Internal];
}
