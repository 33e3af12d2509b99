using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>When a schedule fires.</summary>
public sealed record ScheduleRule
{
    private ScheduleRule(string? expression, string? zone, TimeSpan? interval) => (Expression, Zone, Interval) = (expression, zone, interval);

    /// <summary>The cron expression; null: it is an interval.</summary>
    public string? Expression { get; }

    /// <summary>The time zone of the expression, by its IANA name; null: UTC.</summary>
    public string? Zone { get; }

    /// <summary>The interval; null: it is an expression.</summary>
    public TimeSpan? Interval { get; }

    /// <summary>By a cron expression: minute, hour, day, month and weekday, with seconds before them if there are six.</summary>
    /// <param name="expression">Like <c>0 3 * * 1-5</c>; at most 200 characters.</param>
    /// <param name="zone">Like <c>Europe/Berlin</c>, as the broker's system knows it; null: UTC. Where a change of clocks leaves a moment out, it fires when that is over; one that comes twice fires once, but where it is one of several in an hour.</param>
    public static ScheduleRule Cron(string expression, string? zone = null) => new(expression, zone, null);

    /// <summary>Each time that so much has passed, first so long from now on. At least 100 ms.</summary>
    public static ScheduleRule Every(TimeSpan interval) => new(null, null, interval);

    internal void Write(ref FieldWriter to)
    {
        if (Interval is TimeSpan interval)
        {
            to.Number(FieldTag.EveryMilliseconds, (ulong)PublishOptions.Milliseconds(interval, "schedule's interval", Limits.MinEveryMilliseconds));
            return;
        }

        to.Text(FieldTag.Cron, Expression);
        if (Zone is not null)
        {
            to.Text(FieldTag.Zone, Zone);
        }
    }
}

/// <summary>What a schedule sends, and how long.</summary>
public sealed record ScheduleOptions
{
    /// <summary>What goes with each message. Its level of confirmation means nothing here.</summary>
    public PublishOptions? Message { get; init; }

    /// <summary>The same as bytes, as <see cref="ScheduleInfo.Properties"/> has them; where there is no <see cref="Message"/>.</summary>
    public ReadOnlyMemory<byte> Properties { get; init; }

    /// <summary>What becomes of firings that were missed: the broker was away, or the queue full or paused.</summary>
    public MissedFirings Missed { get; init; }

    /// <summary>It does not fire after this moment. Null: for ever.</summary>
    public DateTimeOffset? Until { get; init; }

    /// <summary>It ends with so many messages. Null: it does not.</summary>
    public long? Count { get; init; }

    internal void Write(ref FieldWriter to)
    {
        to.Number(FieldTag.Missed, (ulong)Missed);
        if (Until is DateTimeOffset until)
        {
            to.Number(FieldTag.EndMicros, (ulong)PublishOptions.Micros(until));
        }

        if (Count is long count)
        {
            to.Number(FieldTag.Most, count > 0 ? (ulong)count : throw new FastQException(RefusalCode.BadArgument, "A schedule sends at least one message"));
        }

        to.Bytes(FieldTag.Properties, Message is null ? Properties.Span : Message.ToBytes());
    }
}

/// <summary>A schedule as the broker shows it. A copy; any thread.</summary>
public sealed record ScheduleInfo
{
    /// <summary>Its name.</summary>
    public string Name { get; init; } = "";

    /// <summary>Where its messages go.</summary>
    public string Queue { get; init; } = "";

    /// <summary>See <see cref="ScheduleRule.Cron"/>; null: it has an interval.</summary>
    public string? Cron { get; init; }

    /// <summary>See <see cref="ScheduleRule.Zone"/>; null: UTC.</summary>
    public string? Zone { get; init; }

    /// <summary>See <see cref="ScheduleRule.Every"/>; null: it has an expression.</summary>
    public TimeSpan? Every { get; init; }

    /// <summary>See <see cref="ScheduleOptions.Missed"/>.</summary>
    public MissedFirings Missed { get; init; }

    /// <summary>See <see cref="ScheduleOptions.Until"/>.</summary>
    public DateTimeOffset? Until { get; init; }

    /// <summary>See <see cref="ScheduleOptions.Count"/>.</summary>
    public long? Count { get; init; }

    /// <summary>Bytes of each message's body.</summary>
    public long BodyBytes { get; init; }

    /// <summary>The body itself; only of one that was asked for by its name (<see cref="Session.GetSchedule"/>), else empty.</summary>
    public ReadOnlyMemory<byte> Body { get; init; }

    /// <summary>Properties and headers of each message, as they stand in a record; likewise.</summary>
    public ReadOnlyMemory<byte> Properties { get; init; }

    /// <summary>When it fires next, by the wall clock; null: it has ended.</summary>
    public DateTimeOffset? Next { get; init; }

    /// <summary>For when its last firing was; null: there was none.</summary>
    public DateTimeOffset? Last { get; init; }

    /// <summary>Messages that it has sent.</summary>
    public ulong Fired { get; init; }

    /// <summary>Firings whose message its queue would never take: too large, or lacking a property.</summary>
    public ulong Failed { get; init; }

    /// <summary>It stands still.</summary>
    public bool IsPaused { get; init; }

    internal static ScheduleInfo From(ReadOnlySpan<byte> fields)
    {
        ScheduleInfo info = new();
        FieldReader reader = new(fields);
        while (reader.Next())
        {
            info = reader.Tag switch
            {
                FieldTag.Name => info with { Name = reader.Text },
                FieldTag.Target => info with { Queue = reader.Text },
                FieldTag.Cron => info with { Cron = reader.Text },
                FieldTag.Zone => info with { Zone = reader.Text },
                FieldTag.EveryMilliseconds => info with { Every = TimeSpan.FromMilliseconds(reader.Number) },
                FieldTag.Missed => info with { Missed = (MissedFirings)reader.Number },
                FieldTag.EndMicros => info with { Until = MomentOf(reader.Number) },
                FieldTag.Most => info with { Count = (long)reader.Number },
                FieldTag.BodyBytes => info with { BodyBytes = (long)reader.Number },
                FieldTag.Body => info with { Body = reader.Value.ToArray() },
                FieldTag.Properties => info with { Properties = reader.Value.ToArray() },
                FieldTag.DueMicros => info with { Next = MomentOf(reader.Number) },
                FieldTag.LastMicros => info with { Last = MomentOf(reader.Number) },
                FieldTag.Fired => info with { Fired = reader.Number },
                FieldTag.Failed => info with { Failed = reader.Number },
                FieldTag.Paused => info with { IsPaused = reader.Number == 1 },
                _ => info,
            };
        }

        return info;
    }

    private static DateTimeOffset? MomentOf(ulong micros) => micros == 0 ? null : DateTimeOffset.UnixEpoch.AddMicroseconds(Math.Min(micros, (ulong)(DateTimeOffset.MaxValue - DateTimeOffset.UnixEpoch).TotalMicroseconds - 1));
}
