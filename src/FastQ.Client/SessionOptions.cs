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

/// <summary>How a consumer subscribes.</summary>
public sealed record SubscribeOptions
{
    /// <summary>Most deliveries unsettled at once.</summary>
    public int Credit { get; init; } = 1000;

    /// <summary>Most bytes unsettled at once.</summary>
    public long CreditBytes { get; init; } = 64L * 1024 * 1024;

    /// <summary>How long a delivery is held before it goes to somebody else; null: the queue's.</summary>
    public TimeSpan? Lease { get; init; }

    /// <summary>Settles of consecutive deliveries are gathered up to this many before they are sent (always when the client waits or flushes).</summary>
    public int SettleBatch { get; init; } = 64;
}

/// <summary>A queue as the broker shows it.</summary>
public readonly record struct QueueInfo(string Name, uint Id, bool IsNew, TimeSpan Lease, TimeSpan Delay, long Ready, long InFlight, long Delayed, long Damaged, long Messages, long Bytes, int Consumers, ulong Published, ulong Accepted, ulong Rejected, ulong Redelivered, ulong Purged)
{
    internal static QueueInfo From(ReadOnlySpan<byte> fields)
    {
        QueueInfo info = default;
        FieldReader reader = new(fields);
        while (reader.Next())
        {
            info = reader.Tag switch
            {
                FieldTag.Name => info with { Name = reader.Text },
                FieldTag.Queue => info with { Id = (uint)reader.Number },
                FieldTag.Created => info with { IsNew = reader.Number == 1 },
                FieldTag.LeaseMilliseconds => info with { Lease = TimeSpan.FromMilliseconds(reader.Number) },
                FieldTag.DelayMilliseconds => info with { Delay = TimeSpan.FromMilliseconds(reader.Number) },
                FieldTag.Ready => info with { Ready = (long)reader.Number },
                FieldTag.InFlight => info with { InFlight = (long)reader.Number },
                FieldTag.Delayed => info with { Delayed = (long)reader.Number },
                FieldTag.Damaged => info with { Damaged = (long)reader.Number },
                FieldTag.Messages => info with { Messages = (long)reader.Number },
                FieldTag.Bytes => info with { Bytes = (long)reader.Number },
                FieldTag.Consumers => info with { Consumers = (int)reader.Number },
                FieldTag.Published => info with { Published = reader.Number },
                FieldTag.Accepted => info with { Accepted = reader.Number },
                FieldTag.Rejected => info with { Rejected = reader.Number },
                FieldTag.Redelivered => info with { Redelivered = reader.Number },
                FieldTag.Purged => info with { Purged = reader.Number },
                _ => info,
            };
        }

        return info;
    }
}
