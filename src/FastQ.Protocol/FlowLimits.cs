using System.Globalization;
using System.Text;

namespace FastQ.Protocol;

// Limits on what flows through a queue: how much is with consumers at once, and how much goes (or comes) in a while. On the wire and in
// the journal they are one field, FieldTag.Flow, in as few bytes as they need, as the attributes of a queue share one record:
//
//   | key: u8 | number: LEB128 | key: u8 | number | ...       of Limit the number is a length, and so many bytes of text follow
//
// What is not there stays as it is; behind a None (with number 0) it is 0 or empty.

/// <summary>Keys of limits on flow, within <see cref="FieldTag.Flow"/>. Numbers never change their meaning.</summary>
public enum FlowKey : byte
{
    /// <summary>What is not named behind it is 0 or empty, and not as it was.</summary>
    None = 0,
    MaxInFlight = 1,
    Rate = 2,
    Burst = 3,
    GroupInFlight = 4,
    DelayHoldsGroup = 5,
    TenantInFlight = 6,
    TenantRate = 7,
    TenantBurst = 8,
    Limit = 9,
    Breaker = 10,
    BreakerPause = 11,
    PublishRate = 12,
    PublishBurst = 13,
    GroupRate = 14,
    GroupBurst = 15,
}

/// <summary>In which time a rate counts.</summary>
public enum RateUnit : byte
{
    Second = 0,
    Minute = 1,
    Hour = 2,
}

/// <summary>So many in a while; a count of 0: no limit.</summary>
public sealed record Rate(int Count, RateUnit Unit)
{
    /// <summary>No limit.</summary>
    public static Rate None { get; } = new(0, RateUnit.Second);

    /// <summary>Length of the while, microseconds.</summary>
    public long UnitMicros => Unit switch { RateUnit.Hour => 3_600_000_000, RateUnit.Minute => 60_000_000, _ => 1_000_000 };

    /// <summary>So many come within a second, a part of one counted as one: what a bucket holds where nothing else is said.</summary>
    public int ASecond => (int)((Count * 1_000_000L + UnitMicros - 1) / UnitMicros);

    /// <summary>As <c>10/s</c>, <c>600/m</c> or <c>5/h</c>.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Count}/{Unit switch { RateUnit.Hour => 'h', RateUnit.Minute => 'm', _ => 's' }}");

    /// <summary>Reads <c>10</c> (a second), <c>10/s</c>, <c>600/m</c> or <c>5/h</c>; 0: no limit.</summary>
    public static bool TryParse(string text, out Rate rate)
    {
        rate = None;
        int slash = text.IndexOf('/', StringComparison.Ordinal);
        RateUnit? unit = slash < 0 ? RateUnit.Second : text[slash..] switch { "/s" => RateUnit.Second, "/m" => RateUnit.Minute, "/h" => RateUnit.Hour, _ => null };
        if (unit is null || !int.TryParse(slash < 0 ? text : text.AsSpan(0, slash), NumberStyles.None, CultureInfo.InvariantCulture, out int count) || count > FlowLimits.Most)
        {
            return false;
        }

        rate = new Rate(count, unit.Value);
        return true;
    }

    internal ulong Encoded => (ulong)Count * 4 + (ulong)Unit;

    internal static Rate From(ulong encoded) => new((int)Math.Min(encoded / 4, int.MaxValue), (RateUnit)(encoded % 4));
}

/// <summary>When a queue stops to deliver by itself: so many of a hundred of the last so many settlements were rejects or deaths. A window of 0: never.</summary>
public sealed record BreakerRule(int Percent, int Window)
{
    /// <summary>It never stops.</summary>
    public static BreakerRule Off { get; } = new(0, 0);

    /// <summary>As <c>50%/100</c>, or <c>off</c>.</summary>
    public override string ToString() => Window == 0 ? "off" : string.Create(CultureInfo.InvariantCulture, $"{Percent}%/{Window}");

    /// <summary>Reads <c>50%/100</c>, or <c>off</c>.</summary>
    public static bool TryParse(string text, out BreakerRule rule)
    {
        rule = Off;
        int sign = text.IndexOf("%/", StringComparison.Ordinal);
        if (sign < 0)
        {
            return text == "off";
        }

        bool isRead = int.TryParse(text.AsSpan(0, sign), NumberStyles.None, CultureInfo.InvariantCulture, out int percent) & int.TryParse(text.AsSpan(sign + 2), NumberStyles.None, CultureInfo.InvariantCulture, out int window);
        rule = new BreakerRule(percent, window);
        return isRead && rule.IsValid && window > 0;
    }

    internal bool IsValid => this == Off || (Percent is >= 1 and <= 100 && Window is >= 1 and <= FlowLimits.MostWindow);

    internal ulong Encoded => (ulong)Window * 128 + (ulong)Percent;

    internal static BreakerRule From(ulong encoded) => new((int)(encoded % 128), (int)Math.Min(encoded / 128, int.MaxValue));
}

/// <summary>Limits on what flows through a queue, or through all queues that name a limit. 0: none. Immutable; any thread.</summary>
public sealed record FlowLimits
{
    /// <summary>No number here is above it.</summary>
    public const int Most = 10_000_000;

    /// <summary>Most settlements that a breaker looks back on.</summary>
    public const int MostWindow = 10_000;

    /// <summary>Longest name of a limit, in bytes of UTF-8.</summary>
    public const int MostNameBytes = 64;

    /// <summary>Room that they need at most, in bytes, as one field's value.</summary>
    public const int MostBytes = 144;

    public static FlowLimits None { get; } = new();

    /// <summary>So many messages may be with consumers at once.</summary>
    public int MaxInFlight { get; init; }

    /// <summary>So many are delivered in a while.</summary>
    public Rate Rate { get; init; } = Rate.None;

    /// <summary>So many may go at once after a while without any; 0: as many as come within a second.</summary>
    public int Burst { get; init; }

    /// <summary>So many of one group may be with one consumer at once; 0 is 1.</summary>
    public int GroupInFlight { get; init; }

    /// <summary>As <see cref="Rate"/>, of each group.</summary>
    public Rate GroupRate { get; init; } = Rate.None;

    /// <summary>As <see cref="Burst"/>, of each group.</summary>
    public int GroupBurst { get; init; }

    /// <summary>What is delayed holds those behind it in its group.</summary>
    public bool DelayHoldsGroup { get; init; }

    /// <summary>As <see cref="MaxInFlight"/>, of each tenant.</summary>
    public int TenantInFlight { get; init; }

    /// <summary>As <see cref="Rate"/>, of each tenant.</summary>
    public Rate TenantRate { get; init; } = Rate.None;

    /// <summary>As <see cref="Burst"/>, of each tenant.</summary>
    public int TenantBurst { get; init; }

    /// <summary>Name of a limit that this queue shares with others; empty: none.</summary>
    public string Limit { get; init; } = "";

    /// <summary>When the queue stops to deliver by itself.</summary>
    public BreakerRule Breaker { get; init; } = BreakerRule.Off;

    /// <summary>How long until one message alone is tried then, in milliseconds; 0: not before somebody resumes the queue.</summary>
    public long BreakerPauseMilliseconds { get; init; }

    /// <summary>So many messages are taken in a while; the others are refused.</summary>
    public Rate PublishRate { get; init; } = Rate.None;

    /// <summary>So many may come at once after a while without any; 0: as many as within a second.</summary>
    public int PublishBurst { get; init; }

    /// <summary>These, with those that are named in a field's value in their place. Not judged: what cannot be read is a fault.</summary>
    public FlowLimits With(ReadOnlySpan<byte> value)
    {
        FlowLimits limits = this;
        FlowReader reader = new(value);
        while (reader.Next())
        {
            int number = (int)Math.Min(reader.Number, int.MaxValue);
            limits = reader.Key switch
            {
                FlowKey.None => None,
                FlowKey.MaxInFlight => limits with { MaxInFlight = number },
                FlowKey.Rate => limits with { Rate = Rate.From(reader.Number) },
                FlowKey.Burst => limits with { Burst = number },
                FlowKey.GroupInFlight => limits with { GroupInFlight = number },
                FlowKey.DelayHoldsGroup => limits with { DelayHoldsGroup = number != 0 },
                FlowKey.TenantInFlight => limits with { TenantInFlight = number },
                FlowKey.TenantRate => limits with { TenantRate = Rate.From(reader.Number) },
                FlowKey.TenantBurst => limits with { TenantBurst = number },
                FlowKey.Limit => limits with { Limit = Encoding.UTF8.GetString(reader.Text) },
                FlowKey.Breaker => limits with { Breaker = BreakerRule.From(reader.Number) },
                FlowKey.BreakerPause => limits with { BreakerPauseMilliseconds = (long)Math.Min(reader.Number, long.MaxValue) },
                FlowKey.PublishRate => limits with { PublishRate = Rate.From(reader.Number) },
                FlowKey.PublishBurst => limits with { PublishBurst = number },
                FlowKey.GroupRate => limits with { GroupRate = Rate.From(reader.Number) },
                FlowKey.GroupBurst => limits with { GroupBurst = number },
                _ => limits,
            };
        }

        return reader.IsMalformed ? limits with { MaxInFlight = -1 } : limits;
    }

    /// <summary>All of them, as a field: those that are not named in it are 0 or empty.</summary>
    public void Write(ref FieldWriter to)
    {
        FlowWriter flow = new(stackalloc byte[MostBytes]);
        flow.Number(FlowKey.None, 0);
        flow.NumberIfAny(FlowKey.MaxInFlight, (ulong)MaxInFlight);
        flow.NumberIfAny(FlowKey.Rate, Rate.Encoded);
        flow.NumberIfAny(FlowKey.Burst, (ulong)Burst);
        flow.NumberIfAny(FlowKey.GroupInFlight, (ulong)GroupInFlight);
        flow.NumberIfAny(FlowKey.DelayHoldsGroup, DelayHoldsGroup ? 1u : 0u);
        flow.NumberIfAny(FlowKey.TenantInFlight, (ulong)TenantInFlight);
        flow.NumberIfAny(FlowKey.TenantRate, TenantRate.Encoded);
        flow.NumberIfAny(FlowKey.TenantBurst, (ulong)TenantBurst);
        flow.NumberIfAny(FlowKey.Breaker, Breaker.Encoded);
        flow.NumberIfAny(FlowKey.BreakerPause, (ulong)BreakerPauseMilliseconds);
        flow.NumberIfAny(FlowKey.PublishRate, PublishRate.Encoded);
        flow.NumberIfAny(FlowKey.PublishBurst, (ulong)PublishBurst);
        flow.NumberIfAny(FlowKey.GroupRate, GroupRate.Encoded);
        flow.NumberIfAny(FlowKey.GroupBurst, (ulong)GroupBurst);
        if (Limit.Length > 0)
        {
            flow.Text(FlowKey.Limit, Limit);
        }

        to.Bytes(FieldTag.Flow, flow.Written);
    }

    /// <summary>Says what is outside its range or contradicts itself; null: nothing.</summary>
    public string? Fault()
    {
        foreach ((string name, long number) in (ReadOnlySpan<(string, long)>)[("max-in-flight", MaxInFlight), ("burst", Burst), ("group-in-flight", GroupInFlight), ("group-burst", GroupBurst), ("tenant-in-flight", TenantInFlight), ("tenant-burst", TenantBurst), ("publish-burst", PublishBurst)])
        {
            if (number is < 0 or > Most)
            {
                return $"{name} must be 0 (no limit) to {Most}";
            }
        }

        foreach ((string name, Rate rate, int burst) in (ReadOnlySpan<(string, Rate, int)>)[("", Rate, Burst), ("group-", GroupRate, GroupBurst), ("tenant-", TenantRate, TenantBurst), ("publish-", PublishRate, PublishBurst)])
        {
            if (rate.Count > Most || rate.Unit > RateUnit.Hour)
            {
                return $"{name}rate must be 0 (no limit) to {Most} a second, minute or hour";
            }

            if (burst > 0 && rate.Count == 0)
            {
                return $"{name}burst needs a {name}rate";
            }
        }

        if (!Breaker.IsValid)
        {
            return $"breaker must be like 50%/100: 1 to 100 %, of 1 to {MostWindow} settlements";
        }

        if (BreakerPauseMilliseconds is < 0 or > Limits.MaxDelayMilliseconds)
        {
            return $"breaker-pause must be 0 (until it is resumed) to {Limits.MaxDelayMilliseconds} ms";
        }

        if (BreakerPauseMilliseconds > 0 && Breaker.Window == 0)
        {
            return "breaker-pause needs a breaker";
        }

        return Limit.Length > 0 && !IsName(Encoding.UTF8.GetBytes(Limit)) ? $"limit must be a name: 1 to {MostNameBytes} bytes of UTF-8 without control characters" : null;
    }

    /// <summary>May a limit be called so?</summary>
    public static bool IsName(ReadOnlySpan<byte> name) => name.Length <= MostNameBytes && Names.IsValid(name);

    /// <summary>Adds what differs, in words.</summary>
    public void Compare(List<string> differences, FlowLimits other)
    {
        foreach ((string name, object mine, object its) in (ReadOnlySpan<(string, object, object)>)[
            ("max-in-flight", MaxInFlight, other.MaxInFlight), ("rate", Rate, other.Rate), ("burst", Burst, other.Burst), ("group-in-flight", GroupInFlight, other.GroupInFlight), ("group-rate", GroupRate, other.GroupRate), ("group-burst", GroupBurst, other.GroupBurst),
            ("delay-holds-group", DelayHoldsGroup, other.DelayHoldsGroup), ("tenant-in-flight", TenantInFlight, other.TenantInFlight), ("tenant-rate", TenantRate, other.TenantRate), ("tenant-burst", TenantBurst, other.TenantBurst),
            ("limit", Limit, other.Limit), ("breaker", Breaker, other.Breaker), ("breaker-pause", BreakerPauseMilliseconds, other.BreakerPauseMilliseconds), ("publish-rate", PublishRate, other.PublishRate), ("publish-burst", PublishBurst, other.PublishBurst)])
        {
            if (!mine.Equals(its))
            {
                differences.Add(string.Create(CultureInfo.InvariantCulture, $"{name} is '{mine}', not '{its}'"));
            }
        }
    }
}

/// <summary>Writes limits on flow into room that the caller owns, at least <see cref="FlowLimits.MostBytes"/>.</summary>
public ref struct FlowWriter(Span<byte> room)
{
    private readonly Span<byte> _room = room;

    public int Length { get; private set; }

    public readonly ReadOnlySpan<byte> Written => _room[..Length];

    public void Number(FlowKey key, ulong number)
    {
        _room[Length++] = (byte)key;
        for (; number >= 0x80; number >>= 7)
        {
            _room[Length++] = (byte)(number | 0x80);
        }

        _room[Length++] = (byte)number;
    }

    public void Number(FlowKey key, Rate rate) => Number(key, rate.Encoded);

    public void Number(FlowKey key, BreakerRule rule) => Number(key, rule.Encoded);

    /// <summary>A text of at most <see cref="FlowLimits.MostNameBytes"/>; empty: none.</summary>
    public void Text(FlowKey key, ReadOnlySpan<char> text)
    {
        Number(key, (ulong)Encoding.UTF8.GetByteCount(text));
        Length += Encoding.UTF8.GetBytes(text, _room[Length..]);
    }

    internal void NumberIfAny(FlowKey key, ulong number)
    {
        if (number != 0)
        {
            Number(key, number);
        }
    }
}

/// <summary>Reads limits on flow of any origin. Never throws.</summary>
internal ref struct FlowReader(ReadOnlySpan<byte> value)
{
    private const int MostShift = 56;
    private ReadOnlySpan<byte> _rest = value;

    public FlowKey Key { get; private set; }

    public ulong Number { get; private set; }

    public ReadOnlySpan<byte> Text { get; private set; }

    public bool IsMalformed { get; private set; }

    public bool Next()
    {
        if (_rest.IsEmpty || IsMalformed)
        {
            return false;
        }

        Key = (FlowKey)_rest[0];
        int at = 1;
        ulong number = 0;
        for (int shift = 0; ; shift += 7)
        {
            if (at == _rest.Length || shift > MostShift)
            {
                IsMalformed = true;
                return false;
            }

            byte part = _rest[at++];
            number |= (ulong)(part & 0x7F) << shift;
            if (part < 0x80)
            {
                break;
            }
        }

        Number = number;
        Text = default;
        _rest = _rest[at..];
        if (Key == FlowKey.Limit)
        {
            IsMalformed = number > (ulong)_rest.Length;
            int length = IsMalformed ? 0 : (int)number;
            Text = _rest[..length];
            _rest = _rest[length..];
        }

        return !IsMalformed;
    }
}
