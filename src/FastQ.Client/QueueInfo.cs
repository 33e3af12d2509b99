using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>A queue as the broker shows it. A copy; any thread.</summary>
public sealed record QueueInfo
{
    /// <summary>Its name.</summary>
    public string Name { get; init; } = "";

    /// <summary>The broker's number of it; never used again.</summary>
    public uint Id { get; init; }

    /// <summary>It was made by this declaration.</summary>
    public bool IsNew { get; init; }

    /// <summary>See <see cref="QueueOptions.Lease"/>.</summary>
    public TimeSpan Lease { get; init; }

    /// <summary>See <see cref="QueueOptions.Delay"/>.</summary>
    public TimeSpan Delay { get; init; }

    /// <summary>See <see cref="QueueOptions.TimeToLive"/>; zero: for ever.</summary>
    public TimeSpan TimeToLive { get; init; }

    /// <summary>See <see cref="QueueOptions.MaxDeliveries"/>; 0: no limit.</summary>
    public int MaxDeliveries { get; init; }

    /// <summary>See <see cref="QueueOptions.Backoff"/>; null: none.</summary>
    public Backoff? Backoff { get; init; }

    /// <summary>Name of the queue where messages go that died; empty: there is none.</summary>
    public string DeadLetter { get; init; } = "";

    /// <summary>See <see cref="QueueOptions.DeadLetterExchange"/>; empty: there is none.</summary>
    public string DeadLetterExchange { get; init; } = "";

    /// <summary>It goes with the session that declared it.</summary>
    public bool IsTemporary { get; init; }

    /// <summary>See <see cref="QueueOptions.MaxLength"/>; 0: no limit.</summary>
    public long MaxLength { get; init; }

    /// <summary>See <see cref="QueueOptions.MaxBytes"/>; 0: no limit.</summary>
    public long MaxBytes { get; init; }

    /// <summary>See <see cref="QueueOptions.Overflow"/>.</summary>
    public Overflow Overflow { get; init; }

    /// <summary>See <see cref="QueueOptions.MaxMessageSize"/>; 0: as the broker has it.</summary>
    public long MaxMessageSize { get; init; }

    /// <summary>See <see cref="QueueOptions.Priority"/>.</summary>
    public bool Priority { get; init; }

    /// <summary>See <see cref="QueueOptions.PriorityShare"/>.</summary>
    public int PriorityShare { get; init; }

    /// <summary>See <see cref="QueueOptions.Fifo"/>.</summary>
    public bool Fifo { get; init; }

    /// <summary>See <see cref="QueueOptions.Fair"/>.</summary>
    public bool Fair { get; init; }

    /// <summary>See <see cref="QueueOptions.FairWeights"/>, as <c>gold=4,silver=2</c>; empty: all get one.</summary>
    public string FairWeights { get; init; } = "";

    /// <summary>See <see cref="QueueOptions.SingleActive"/>.</summary>
    public bool SingleActive { get; init; }

    /// <summary>See <see cref="QueueOptions.Require"/>.</summary>
    public RequiredProperties Require { get; init; }

    /// <summary>See <see cref="QueueOptions.Lz4FromBytes"/>; 0: none.</summary>
    public long Lz4FromBytes { get; init; }

    /// <summary>See <see cref="QueueOptions.ProcessedWindow"/>; zero: nothing is remembered.</summary>
    public TimeSpan ProcessedWindow { get; init; }

    /// <summary>See <see cref="QueueOptions.ExpiresAfter"/>; zero: never.</summary>
    public TimeSpan ExpiresAfter { get; init; }

    /// <summary>See <see cref="QueueOptions.DedupWindow"/>; zero: ids are not remembered.</summary>
    public TimeSpan DedupWindow { get; init; }

    /// <summary>See <see cref="QueueOptions.DedupByGroup"/>.</summary>
    public bool DedupByGroup { get; init; }

    /// <summary>See <see cref="QueueOptions.Flow"/>; what is 0 or empty is not limited.</summary>
    public FlowLimits Flow { get; init; } = FlowLimits.None;

    /// <summary>Its ways that stand still.</summary>
    public PausedWays Paused { get; init; }

    /// <summary>Messages that wait for a consumer.</summary>
    public long Ready { get; init; }

    /// <summary>Messages with a consumer.</summary>
    public long InFlight { get; init; }

    /// <summary>Messages that wait for their time.</summary>
    public long Delayed { get; init; }

    /// <summary>Messages whose bytes have rotted.</summary>
    public long Damaged { get; init; }

    /// <summary>Messages that have died and are still here: on their way to the dead letters, or there for good, as they have gone in a circle.</summary>
    public long DeadLettering { get; init; }

    /// <summary>All of the five before.</summary>
    public long Messages { get; init; }

    /// <summary>Properties and bodies of all of them.</summary>
    public long Bytes { get; init; }

    /// <summary>Subscriptions.</summary>
    public int Consumers { get; init; }

    /// <summary>Messages that it ever took.</summary>
    public ulong Published { get; init; }

    /// <summary>Messages that consumers ever accepted.</summary>
    public ulong Accepted { get; init; }

    /// <summary>Messages that ever died as a consumer rejected them.</summary>
    public ulong Rejected { get; init; }

    /// <summary>Messages that ever died as they were delivered <see cref="MaxDeliveries"/> times and not accepted.</summary>
    public ulong Exhausted { get; init; }

    /// <summary>Messages that ever died as their time to live was over.</summary>
    public ulong Expired { get; init; }

    /// <summary>Messages that were ever pushed out of the full queue.</summary>
    public ulong Overflowed { get; init; }

    /// <summary>Messages that ever went to the dead letters.</summary>
    public ulong DeadLettered { get; init; }

    /// <summary>Messages that ever died where there was no queue for dead letters, or were dropped at the head: they are gone.</summary>
    public ulong Discarded => Rejected + Exhausted + Expired + Overflowed - DeadLettered - (ulong)DeadLettering;

    /// <summary>Deliveries that were not the first of their message.</summary>
    public ulong Redelivered { get; init; }

    /// <summary>Messages that were ever purged.</summary>
    public ulong Purged { get; init; }

    /// <summary>Messages that ever went to other queues: redriven, or moved by hand.</summary>
    public ulong Moved { get; init; }

    internal static QueueInfo From(ReadOnlySpan<byte> fields)
    {
        QueueInfo info = new() { Backoff = Backoff.From(fields) };
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
                FieldTag.TtlMilliseconds => info with { TimeToLive = TimeSpan.FromMilliseconds(reader.Number) },
                FieldTag.MaxDeliveries => info with { MaxDeliveries = (int)reader.Number },
                FieldTag.DeadLetter => info with { DeadLetter = reader.Text },
                FieldTag.DeadLetterExchange => info with { DeadLetterExchange = reader.Text },
                FieldTag.Temporary => info with { IsTemporary = reader.Number != 0 },
                FieldTag.Ready => info with { Ready = (long)reader.Number },
                FieldTag.InFlight => info with { InFlight = (long)reader.Number },
                FieldTag.Delayed => info with { Delayed = (long)reader.Number },
                FieldTag.Damaged => info with { Damaged = (long)reader.Number },
                FieldTag.DeadLettering => info with { DeadLettering = (long)reader.Number },
                FieldTag.Messages => info with { Messages = (long)reader.Number },
                FieldTag.Bytes => info with { Bytes = (long)reader.Number },
                FieldTag.Consumers => info with { Consumers = (int)reader.Number },
                FieldTag.Published => info with { Published = reader.Number },
                FieldTag.Accepted => info with { Accepted = reader.Number },
                FieldTag.Rejected => info with { Rejected = reader.Number },
                FieldTag.Exhausted => info with { Exhausted = reader.Number },
                FieldTag.Expired => info with { Expired = reader.Number },
                FieldTag.Overflowed => info with { Overflowed = reader.Number },
                FieldTag.Paused => info with { Paused = (PausedWays)reader.Number },
                FieldTag.MaxLength => info with { MaxLength = (long)reader.Number },
                FieldTag.MaxBytes => info with { MaxBytes = (long)reader.Number },
                FieldTag.Overflow => info with { Overflow = (Overflow)reader.Number },
                FieldTag.MaxMessageSize => info with { MaxMessageSize = (long)reader.Number },
                FieldTag.Priority => info with { Priority = reader.Number == 1 },
                FieldTag.PriorityShare => info with { PriorityShare = (int)reader.Number },
                FieldTag.Fifo => info with { Fifo = reader.Number == 1 },
                FieldTag.Fair => info with { Fair = reader.Number == 1 },
                FieldTag.FairWeights => info with { FairWeights = reader.Text },
                FieldTag.SingleActive => info with { SingleActive = reader.Number == 1 },
                FieldTag.ProcessedMilliseconds => info with { ProcessedWindow = TimeSpan.FromMilliseconds(reader.Number) },
                FieldTag.ExpiresMilliseconds => info with { ExpiresAfter = TimeSpan.FromMilliseconds(reader.Number) },
                FieldTag.DedupMilliseconds => info with { DedupWindow = TimeSpan.FromMilliseconds(reader.Number) },
                FieldTag.DedupByGroup => info with { DedupByGroup = reader.Number == 1 },
                FieldTag.Require => info with { Require = Requirement.TryParse(reader.Text, out RequiredProperties wanted, out _) ? wanted : RequiredProperties.None },
                FieldTag.Lz4FromBytes => info with { Lz4FromBytes = (long)reader.Number },
                FieldTag.Flow => info with { Flow = FlowLimits.None.With(reader.Value) },
                FieldTag.DeadLettered => info with { DeadLettered = reader.Number },
                FieldTag.Redelivered => info with { Redelivered = reader.Number },
                FieldTag.Moved => info with { Moved = reader.Number },
                FieldTag.Purged => info with { Purged = reader.Number },
                _ => info,
            };
        }

        return info;
    }
}
