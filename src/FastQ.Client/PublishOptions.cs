using System.Text;
using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>What goes with a message besides its body.</summary>
public sealed record PublishOptions
{
    /// <summary>The confirm that <see cref="Connection.PublishAsync"/> waits for.</summary>
    public ConfirmLevel Confirm { get; init; } = ConfirmLevel.Durable;

    /// <summary>The application's own id of the message.</summary>
    public string? MessageId { get; init; }

    /// <summary>What it answers to.</summary>
    public string? CorrelationId { get; init; }

    /// <summary>Where an answer is awaited.</summary>
    public string? ReplyTo { get; init; }

    /// <summary>A media type, as application/json.</summary>
    public string? ContentType { get; init; }

    /// <summary>As gzip: how the body was encoded. FastQ does not look at it.</summary>
    public string? ContentEncoding { get; init; }

    /// <summary>The application's own kind of message.</summary>
    public string? Type { get; init; }

    /// <summary>What the message is about, as the number of an order. FastQ does not look at it.</summary>
    public string? Key { get; init; }

    /// <summary>Version of the form that the body has, in the application's own words. FastQ does not look at it, but a queue may demand it: <see cref="QueueOptions.Require"/>.</summary>
    public string? SchemaVersion { get; init; }

    /// <summary>How long nobody gets it, from its acceptance on; zero: not at all. Null: as the queue has it.</summary>
    public TimeSpan? Delay { get; init; }

    /// <summary>Nobody gets it before, by the broker's wall clock at its acceptance; a moment that has passed delays nothing. Not together with <see cref="Delay"/>.</summary>
    public DateTimeOffset? DeliverAt { get; init; }

    /// <summary>It expires so long after it may first be delivered, if the queue's own time is not shorter: then nobody gets it, and it goes to the dead letters. At least 1 ms. Null: as the queue has it.</summary>
    public TimeSpan? TimeToLive { get; init; }

    /// <summary>Higher ones go first, in a queue with <see cref="QueueOptions.Priority"/>; else kept and ignored. Null: 0.</summary>
    public byte? Priority { get; init; }

    /// <summary>In a queue with <see cref="QueueOptions.Fifo"/>: messages of one group go one after the other. 1 to 255 bytes of UTF-8.</summary>
    public string? Group { get; init; }

    /// <summary>In a queue with <see cref="QueueOptions.Fair"/>: tenants take turns. 1 to 255 bytes of UTF-8.</summary>
    public string? Tenant { get; init; }

    /// <summary>A second message with this id is not taken while the queue remembers it (<see cref="QueueOptions.DedupWindow"/>), and counts as published: <see cref="Session.Duplicated"/>. 1 to 255 bytes of UTF-8.</summary>
    public string? DeduplicationId { get; init; }

    /// <summary>While a message with this key is alive in the queue, another one is not taken, and counts as published: <see cref="Session.Duplicated"/>. 1 to 255 bytes of UTF-8.</summary>
    public string? UniqueKey { get; init; }

    /// <summary>How long <see cref="UniqueKey"/> is held.</summary>
    public UniqueUntil UniqueUntil { get; init; }

    /// <summary>What an exchange chooses queues by; at most 255 bytes of UTF-8. A queue keeps it, and dead letters that go to an exchange are routed by it. Null: empty.</summary>
    public string? RoutingKey { get; init; }

    /// <summary>Name of the exchange that it is sent to, for its receivers; it must be that one's. <see cref="Connection.PublishToExchangeAsync"/> sets it.</summary>
    public string? Exchange { get; init; }

    /// <summary>To an exchange: it is refused (<see cref="RefusalCode.Unroutable"/>) where it reaches no queue. False: it is gone then, and counts as published.</summary>
    public bool IsMandatory { get; init; } = true;

    /// <summary>While a message with this key waits for its time (<see cref="Delay"/>, <see cref="DeliverAt"/>, or the queue's own delay), a later one does what <see cref="ScheduleMode"/> says; by it the one that waits is cancelled or moved: <see cref="Connection.CancelScheduledAsync"/>. 1 to 255 bytes of UTF-8.</summary>
    public string? ScheduleKey { get; init; }

    /// <summary>What this message does where one of its <see cref="ScheduleKey"/> waits already: takes its place (the default, also as the last of a debounce), or is not taken and counts as published: <see cref="Session.Duplicated"/>.</summary>
    public ScheduleMode ScheduleMode { get; init; }

    /// <summary>Of a <see cref="ScheduleMode.Debounce"/>: it comes no later than so long after the first message of its key came that was put off. At least 1 ms. Null: however long others come.</summary>
    public TimeSpan? LongestWait { get; init; }

    /// <summary>Headers: key (1 to 255 bytes of UTF-8) and value, whose type comes with it: <c>Headers = new() { ["colour"] = "blue", ["count"] = 7 }</c>.</summary>
    public Dictionary<string, HeaderValue>? Headers { get; init; }

    /// <summary>The properties as they stand in the record, as <see cref="Session.Publish"/> takes them; empty when there are none.</summary>
    /// <exception cref="FastQException">A delay is negative, longer than <see cref="Limits.MaxDelayMilliseconds"/> or beside a moment; a time to live is out of its range; they do not fit in <see cref="Limits.MaxPropertyBytes"/>, a header's key is empty or too long, or its lists and tables lie more than <see cref="Limits.MaxValueDepth"/> deep within one another.</exception>
    public byte[] ToBytes()
    {
        if (MessageId is null && CorrelationId is null && ReplyTo is null && ContentType is null && ContentEncoding is null && Type is null && Key is null && SchemaVersion is null && Delay is null && DeliverAt is null && TimeToLive is null && Priority is null && Group is null && Tenant is null && DeduplicationId is null && UniqueKey is null && RoutingKey is null && Exchange is null && ScheduleKey is null && LongestWait is null && Headers is null)
        {
            return [];
        }

        byte[] room = new byte[Limits.MaxPropertyBytes];
        PropertyWriter writer = new(room);
        Write(ref writer, PropertyTag.MessageId, MessageId);
        Write(ref writer, PropertyTag.CorrelationId, CorrelationId);
        Write(ref writer, PropertyTag.ReplyTo, ReplyTo);
        Write(ref writer, PropertyTag.ContentType, ContentType);
        Write(ref writer, PropertyTag.ContentEncoding, ContentEncoding);
        Write(ref writer, PropertyTag.Type, Type);
        Write(ref writer, PropertyTag.Key, Key);
        Write(ref writer, PropertyTag.SchemaVersion, SchemaVersion);
        WriteTimes(ref writer);
        WriteTurn(ref writer);
        WriteSame(ref writer);
        WriteRoute(ref writer);
        WriteSchedule(ref writer);
        WriteHeaders(ref writer);

        return writer.Overflowed
            ? throw new FastQException(RefusalCode.TooLarge, "Properties and headers do not fit, or a header's key has not 1 to 255 bytes", Limits.MaxPropertyBytes)
            : writer.Written.ToArray();
    }

    private void WriteHeaders(ref PropertyWriter writer)
    {
        if (Headers is null)
        {
            return;
        }

        byte[] room = new byte[Limits.MaxPropertyBytes];
        foreach ((string key, HeaderValue value) in Headers)
        {
            value.Write(ref writer, key, room);
        }
    }

    private void WriteTimes(ref PropertyWriter writer)
    {
        if (Delay is not null && DeliverAt is not null)
        {
            throw new FastQException(RefusalCode.BadArgument, "A message has a delay or a moment to deliver it at, not both");
        }

        if (Delay is TimeSpan delay)
        {
            writer.Number(PropertyTag.Delay, PropertyType.Int64, Milliseconds(delay, "delay"));
        }

        if (DeliverAt is DateTimeOffset at)
        {
            writer.Number(PropertyTag.DeliverAt, PropertyType.Timestamp, Micros(at));
        }

        if (TimeToLive is TimeSpan life)
        {
            writer.Number(PropertyTag.Ttl, PropertyType.Int64, Milliseconds(life, "time to live", least: 1));
        }
    }

    private void WriteTurn(ref PropertyWriter writer)
    {
        if (Priority is byte priority)
        {
            writer.Number(PropertyTag.Priority, PropertyType.Int64, priority);
        }

        WriteKey(ref writer, PropertyTag.Group, Group, "group");
        WriteKey(ref writer, PropertyTag.Tenant, Tenant, "tenant");
    }

    private void WriteSame(ref PropertyWriter writer)
    {
        WriteKey(ref writer, PropertyTag.DeduplicationId, DeduplicationId, "deduplication id");
        WriteKey(ref writer, PropertyTag.UniqueKey, UniqueKey, "unique key");
        if (UniqueKey is not null && UniqueUntil != UniqueUntil.Settled)
        {
            writer.Number(PropertyTag.UniqueUntil, PropertyType.Int64, (long)UniqueUntil);
        }
    }

    private void WriteRoute(ref PropertyWriter writer)
    {
        WriteKey(ref writer, PropertyTag.Exchange, Exchange, "name of an exchange");
        if (RoutingKey is not null && Encoding.UTF8.GetByteCount(RoutingKey) > Limits.MaxNameBytes)
        {
            throw new FastQException(RefusalCode.BadArgument, $"A routing key has at most {Limits.MaxNameBytes} bytes of UTF-8");
        }

        Write(ref writer, PropertyTag.RoutingKey, RoutingKey);
    }

    private void WriteSchedule(ref PropertyWriter writer)
    {
        WriteKey(ref writer, PropertyTag.ScheduleKey, ScheduleKey, "schedule key");
        if (ScheduleKey is not null && ScheduleMode != ScheduleMode.Replace)
        {
            writer.Number(PropertyTag.ScheduleMode, PropertyType.Int64, (long)ScheduleMode);
        }

        if (LongestWait is TimeSpan longest)
        {
            writer.Number(PropertyTag.LongestWait, PropertyType.Int64, ScheduleKey is not null && ScheduleMode == ScheduleMode.Debounce
                ? Milliseconds(longest, "longest wait", least: 1)
                : throw new FastQException(RefusalCode.BadArgument, "A longest wait is of a debounce: set ScheduleKey, and ScheduleMode to Debounce"));
        }
    }

    private static void WriteKey(ref PropertyWriter writer, PropertyTag tag, string? key, string what)
    {
        if (key is not null && Encoding.UTF8.GetByteCount(key) is 0 or > Limits.MaxNameBytes)
        {
            throw new FastQException(RefusalCode.BadArgument, $"A {what} has 1 to {Limits.MaxNameBytes} bytes of UTF-8");
        }

        Write(ref writer, tag, key);
    }

    /// <summary>Whole milliseconds, a part of one as a whole one.</summary>
    internal static long Milliseconds(TimeSpan span, string what, long least = 0)
    {
        long milliseconds = (long)Math.Ceiling(span.TotalMilliseconds);
        return milliseconds >= least && milliseconds <= Limits.MaxDelayMilliseconds
            ? milliseconds
            : throw new FastQException(RefusalCode.BadArgument, $"A {what} is {least} to {Limits.MaxDelayMilliseconds} ms");
    }

    /// <summary>A moment as the wire has it; none before 1970.</summary>
    internal static long Micros(DateTimeOffset at) => Math.Max(0, (at - DateTimeOffset.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond);

    private static void Write(ref PropertyWriter writer, PropertyTag tag, string? value)
    {
        if (value is not null)
        {
            writer.Text(tag, value);
        }
    }
}
