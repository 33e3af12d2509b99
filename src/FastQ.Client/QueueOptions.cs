using System.Globalization;
using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>Attributes of a queue that is declared. What is null is as by default. Times are up to <see cref="Limits.MaxDelayMilliseconds"/>; a part of a millisecond is a whole one.</summary>
public sealed record QueueOptions
{
    /// <summary>How long a delivery is held. 30 s by default.</summary>
    public TimeSpan? Lease { get; init; }

    /// <summary>How long a message that says nothing of it waits before it is delivered. Not at all by default.</summary>
    public TimeSpan? Delay { get; init; }

    /// <summary>A message expires so long after it may first be delivered: then it is never delivered; in flight it is left alone. Zero, the default: it lives for ever. A message may say that it lives shorter.</summary>
    public TimeSpan? TimeToLive { get; init; }

    /// <summary>A message that was delivered so often and not accepted goes to the dead-letter queue. 0: no limit; 20 by default; at most <see cref="Limits.MostMaxDeliveries"/>.</summary>
    /// <remarks>Its last allowed delivery goes alone, to a consumer that holds nothing else: a crash drags no neighbour along.</remarks>
    public int? MaxDeliveries { get; init; }

    /// <summary>How long a message waits after a release that counts, an ended lease, or the end of its consumer. A release with a delay of its own waits that instead. Not at all by default.</summary>
    public Backoff? Backoff { get; init; }

    /// <summary>Name of the queue where messages go that died: delivered too often, rejected or expired. It is made when first needed. Null: this queue's name with <c>.dead</c> behind it. Empty: there is none, and what would go there is gone.</summary>
    public string? DeadLetter { get; init; }

    /// <summary>So many messages may wait, ready or delayed; what is in flight does not count, and what comes back is always taken. 0, the default: no limit.</summary>
    public long? MaxLength { get; init; }

    /// <summary>So many bytes of properties and bodies may wait. 0, the default: no limit.</summary>
    public long? MaxBytes { get; init; }

    /// <summary>What happens when <see cref="MaxLength"/> or <see cref="MaxBytes"/> is reached: the next message is refused (<see cref="RefusalCode.LimitReached"/>), the default, or the oldest that wait are let go.</summary>
    public Overflow? Overflow { get; init; }

    /// <summary>Largest body, in bytes, as it is stored (<see cref="Lz4FromBytes"/>). 0, the default: as the broker has it.</summary>
    public long? MaxMessageSize { get; init; }

    /// <summary>Messages of a higher <see cref="PublishOptions.Priority"/> go first, those of one by age. Without it a message's priority is kept and ignored. Off by default.</summary>
    public bool? Priority { get; init; }

    /// <summary>So many of a hundred deliveries go to lower priorities, in turn, while the highest has messages: so that they do not starve. 0 to 50; 0 by default: strictly the highest first.</summary>
    public int? PriorityShare { get; init; }

    /// <summary>Messages of one <see cref="PublishOptions.Group"/> go one after the other: the next when the one before is settled, and not while it waits for its retry. Groups do not wait for each other. Those without a group are one. Off by default.</summary>
    public bool? Fifo { get; init; }

    /// <summary>The <see cref="PublishOptions.Tenant"/>s that have messages take turns (among those of one priority), so that none waits for all that another has. Those without a tenant are one. Off by default.</summary>
    public bool? Fair { get; init; }

    /// <summary>How many messages a tenant gets in a round, 1 to 1000, where that is not one.</summary>
    public IReadOnlyDictionary<string, int>? FairWeights { get; init; }

    /// <summary>One consumer at a time gets messages; the others stand by, and the next follows when it ends and nothing is with anybody. Off by default.</summary>
    public bool? SingleActive { get; init; }

    /// <summary>Properties that a message must have, as text that is not empty, to be taken (<see cref="RefusalCode.MissingProperty"/>). None by default. Dead letters come as they are.</summary>
    public RequiredProperties? Require { get; init; }

    /// <summary>Bodies from this size on, in bytes, are compressed with LZ4 by the libraries of their senders, where that makes them smaller, and decoded by those of their receivers. 0, the default: none is.</summary>
    /// <remarks>A sender learns it when it opens the queue; who has it open goes on as before. What is written in place (<see cref="Session.Reserve"/>) is never compressed. Limits and counts of the queue are of what is stored.</remarks>
    public long? Lz4FromBytes { get; init; }

    /// <summary>So long without consumers, and without a message that comes, the queue is deleted with all that it holds; to look at it is no use, a schedule that sends to it is. Zero, the default: never.</summary>
    public TimeSpan? ExpiresAfter { get; init; }

    /// <summary>So long a <see cref="PublishOptions.DeduplicationId"/> is remembered, by time, also when its message is gone. Five minutes by default, up to thirty days; zero: not at all.</summary>
    public TimeSpan? DedupWindow { get; init; }

    /// <summary>So long it is remembered, by time, what consumers have marked as processed (<see cref="Message.AcceptProcessedAsync"/>), up to thirty days. Zero, the default: not at all.</summary>
    public TimeSpan? ProcessedWindow { get; init; }

    /// <summary>Ids are compared within a <see cref="PublishOptions.Group"/>, not within the queue. Off by default.</summary>
    public bool? DedupByGroup { get; init; }

    /// <summary>The exchange for dead letters, in place of <see cref="DeadLetter"/>: it gives them on by their own routing keys and headers. What it gives to nobody stays, is shown as unroutable, and is tried again. Empty: there is none.</summary>
    public string? DeadLetterExchange { get; init; }

    /// <summary>The queue belongs to this session: nobody else consumes from it, and it is deleted when the session ends, or when the broker was restarted and the session does not come back. Only when a queue is made.</summary>
    public bool IsTemporary { get; init; }

    /// <summary>Limits on what flows through it: in flight, rates, a breaker. None by default.</summary>
    public FlowOptions? Flow { get; init; }

    /// <exception cref="FastQException">Something is out of range.</exception>
    internal void Write(ref FieldWriter to)
    {
        if (DeadLetter is { Length: > 0 } && DeadLetterExchange is { Length: > 0 })
        {
            throw new FastQException(RefusalCode.BadArgument, "A queue's dead letters go to a queue or to an exchange, not to both");
        }

        if (DeadLetterExchange is not null)
        {
            to.Text(FieldTag.DeadLetterExchange, DeadLetterExchange);
        }

        if (IsTemporary)
        {
            to.Number(FieldTag.Temporary, 1);
        }

        Write(ref to, FieldTag.LeaseMilliseconds, Lease, "lease");
        Write(ref to, FieldTag.DelayMilliseconds, Delay, "delay");
        Write(ref to, FieldTag.TtlMilliseconds, TimeToLive, "time to live");
        WriteMaxDeliveries(ref to);
        Backoff?.Write(ref to);
        if (DeadLetter is not null)
        {
            to.Text(FieldTag.DeadLetter, DeadLetter);
        }

        Write(ref to, FieldTag.MaxLength, MaxLength, "max-length");
        Write(ref to, FieldTag.MaxBytes, MaxBytes, "max-bytes");
        Write(ref to, FieldTag.Overflow, (long?)Overflow, "overflow");
        Write(ref to, FieldTag.MaxMessageSize, MaxMessageSize, "max-message-size");
        Write(ref to, FieldTag.Priority, Priority);
        Write(ref to, FieldTag.PriorityShare, PriorityShare, "priority-share");
        Write(ref to, FieldTag.Fifo, Fifo);
        Write(ref to, FieldTag.Fair, Fair);
        Write(ref to, FieldTag.SingleActive, SingleActive);
        Write(ref to, FieldTag.Lz4FromBytes, Lz4FromBytes, "lz4");
        Write(ref to, FieldTag.ExpiresMilliseconds, ExpiresAfter, "expiry");
        Write(ref to, FieldTag.DedupMilliseconds, DedupWindow, "deduplication window");
        Write(ref to, FieldTag.ProcessedMilliseconds, ProcessedWindow, "window of what was processed");
        Write(ref to, FieldTag.DedupByGroup, DedupByGroup);
        Flow?.Write(ref to);
        if (Require is RequiredProperties properties)
        {
            to.Text(FieldTag.Require, Requirement.NamesOf(properties));
        }

        if (FairWeights is not null)
        {
            to.Text(FieldTag.FairWeights, string.Join(',', FairWeights.Select(pair => string.Create(CultureInfo.InvariantCulture, $"{pair.Key}={pair.Value}"))));
        }
    }

    private static void Write(ref FieldWriter to, FieldTag tag, bool? isOn)
    {
        if (isOn is bool wanted)
        {
            to.Number(tag, wanted ? 1u : 0u);
        }
    }

    private static void Write(ref FieldWriter to, FieldTag tag, long? number, string what)
    {
        if (number is long wanted)
        {
            to.Number(tag, wanted >= 0 ? (ulong)wanted : throw new FastQException(RefusalCode.BadArgument, $"A {what} is not below 0"));
        }
    }

    private static void Write(ref FieldWriter to, FieldTag tag, TimeSpan? span, string what)
    {
        if (span is TimeSpan wanted)
        {
            to.Number(tag, (ulong)PublishOptions.Milliseconds(wanted, what));
        }
    }

    private void WriteMaxDeliveries(ref FieldWriter to)
    {
        if (MaxDeliveries is int most)
        {
            to.Number(FieldTag.MaxDeliveries, most is >= 0 and <= Limits.MostMaxDeliveries
                ? (ulong)most
                : throw new FastQException(RefusalCode.BadArgument, $"A queue's most deliveries are 0 to {Limits.MostMaxDeliveries}"));
        }
    }
}
