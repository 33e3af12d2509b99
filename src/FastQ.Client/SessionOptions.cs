using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>How a session connects.</summary>
public sealed record SessionOptions
{
    /// <summary>Path of the broker's socket.</summary>
    public string Path { get; init; } = SocketPath.Default();

    /// <summary>Shown to operators.</summary>
    public string ClientName { get; init; } = "FastQ.Client";

    /// <summary>How long to wait for a broker that is not there, at the start and after its death. Zero: not at all.</summary>
    public TimeSpan Patience { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Ask for copies instead of the journal's files: nothing of this program depends on the disk then.</summary>
    public bool WantsCopies { get; init; }

    /// <summary>Verify the check of every message before it is handed out, not only of cold ones.</summary>
    public bool VerifiesAll { get; init; }

    /// <summary>Bytes of the submission ring: a power of two; it is also the window of what may be unconfirmed.</summary>
    public int SubmissionRingBytes { get; init; } = Limits.DefaultRingBytes;

    /// <summary>Bytes of the delivery ring: a power of two.</summary>
    public int DeliveryRingBytes { get; init; } = Limits.DefaultRingBytes;

    /// <summary>Time and waiting.</summary>
    internal ISurroundings Surroundings { get; init; } = RealSurroundings.Instance;

    /// <summary>Rings grow by load up to this many bytes; larger only for larger messages.</summary>
    public int MaxLoadRingBytes { get; init; } = Limits.MaxLoadRingBytes;
}

/// <summary>Who settles what a consumer receives, and when.</summary>
public enum SettleMode
{
    /// <summary>The program, when it is done: at least once. What a consumer that dies had in hand comes again.</summary>
    Manual = 0,

    /// <summary>The library, before it hands a message out: at most once. What a consumer that dies had in hand does not come again; what it had not received, does.</summary>
    Automatic = 1,
}

/// <summary>How a consumer subscribes.</summary>
public sealed record SubscribeOptions
{
    /// <summary>Most deliveries unsettled at once.</summary>
    public int Credit { get; init; } = 1000;

    /// <summary>Most bytes unsettled at once.</summary>
    public long CreditBytes { get; init; } = 64L * 1024 * 1024;

    /// <summary>How long a delivery is held before it goes to somebody else; null: the queue's.</summary>
    public TimeSpan? Lease { get; init; }

    /// <summary>Consumers of a higher priority are served first, as long as they have credit; those of one in turn.</summary>
    public byte Priority { get; init; }

    /// <summary>This is to be the queue's only consumer: refused (<see cref="FastQ.Protocol.RefusalCode.Denied"/>) where there is another, and so is every other while this one is there.</summary>
    public bool IsExclusive { get; init; }

    /// <summary>Who settles. With <see cref="SettleMode.Automatic"/> a message is accepted, and its acceptance is <see cref="FastQ.Protocol.ConfirmLevel.Written"/>, before it is handed out: a round trip each. Only a loss of power can bring back what was received within the 100 ms before.</summary>
    public SettleMode Mode { get; init; }

    /// <summary>Settles of consecutive deliveries are gathered up to this many before they are sent (always when the client waits or flushes).</summary>
    public int SettleBatch { get; init; } = 64;
}
