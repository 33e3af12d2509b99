using System.Text;
using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>Limits on what flows through a queue, or (<see cref="MaxInFlight"/>, <see cref="Rate"/> and <see cref="Burst"/> alone) through all queues that name one limit. What is null is as by default, or stays as it is; 0 or empty: no limit. The broker holds them; they change while it runs.</summary>
public sealed record FlowOptions
{
    /// <summary>So many messages may be with consumers at once.</summary>
    public int? MaxInFlight { get; init; }

    /// <summary>So many are delivered in a while.</summary>
    public Rate? Rate { get; init; }

    /// <summary>So many may go at once after a while without any. By default as many as come within a second, at least one.</summary>
    public int? Burst { get; init; }

    /// <summary>In a fifo queue: so many of one group may be with one consumer at once, and with no other. 1 by default. One that comes back alone waits until the others are back: it is first again.</summary>
    public int? GroupInFlight { get; init; }

    /// <summary>In a fifo queue: so many of each group are delivered in a while. A group at its limit holds up no other.</summary>
    public Rate? GroupRate { get; init; }

    /// <summary>As <see cref="Burst"/>, of each group.</summary>
    public int? GroupBurst { get; init; }

    /// <summary>In a fifo queue: a message that waits for its time holds those behind it in its group. Off by default.</summary>
    public bool? DelayHoldsGroup { get; init; }

    /// <summary>In a fair queue: so many messages of each tenant may be with consumers at once. A tenant at its limit holds up no other.</summary>
    public int? TenantInFlight { get; init; }

    /// <summary>In a fair queue: so many of each tenant are delivered in a while.</summary>
    public Rate? TenantRate { get; init; }

    /// <summary>As <see cref="Burst"/>, of each tenant.</summary>
    public int? TenantBurst { get; init; }

    /// <summary>Name of a limit that the queue shares with others (<see cref="Session.DeclareLimit"/>); it must be there.</summary>
    public string? Limit { get; init; }

    /// <summary>When so many of a hundred of the last so many settlements were rejects or deaths of too many deliveries, the queue's way out is paused (<see cref="PausedWays.Breaker"/>), over restarts too, until it is resumed.</summary>
    public BreakerRule? Breaker { get; init; }

    /// <summary>So long after its breaker has tripped one message of the queue is tried alone: when it is accepted, the queue goes on; when it fails, the pause begins anew. Zero, the default: none is.</summary>
    public TimeSpan? BreakerPause { get; init; }

    /// <summary>So many messages are taken in a while; the next is refused (<see cref="RefusalCode.LimitReached"/>). What dies or is moved into the queue is not judged.</summary>
    public Rate? PublishRate { get; init; }

    /// <summary>As <see cref="Burst"/>, of what is published.</summary>
    public int? PublishBurst { get; init; }

    /// <exception cref="FastQException">Something is out of range.</exception>
    internal void Write(ref FieldWriter to)
    {
        if (Limit is not null && Encoding.UTF8.GetByteCount(Limit) > FlowLimits.MostNameBytes)
        {
            throw new FastQException(RefusalCode.BadArgument, $"The name of a limit has at most {FlowLimits.MostNameBytes} bytes of UTF-8");
        }

        FlowWriter flow = new(stackalloc byte[FlowLimits.MostBytes]);
        Write(ref flow, FlowKey.MaxInFlight, MaxInFlight);
        Write(ref flow, FlowKey.Rate, Rate);
        Write(ref flow, FlowKey.Burst, Burst);
        Write(ref flow, FlowKey.GroupInFlight, GroupInFlight);
        Write(ref flow, FlowKey.DelayHoldsGroup, DelayHoldsGroup is bool holds ? holds ? 1 : 0 : null);
        Write(ref flow, FlowKey.TenantInFlight, TenantInFlight);
        Write(ref flow, FlowKey.TenantRate, TenantRate);
        Write(ref flow, FlowKey.TenantBurst, TenantBurst);
        Write(ref flow, FlowKey.GroupRate, GroupRate);
        Write(ref flow, FlowKey.GroupBurst, GroupBurst);
        Write(ref flow, FlowKey.PublishRate, PublishRate);
        Write(ref flow, FlowKey.PublishBurst, PublishBurst);
        if (Breaker is BreakerRule rule)
        {
            flow.Number(FlowKey.Breaker, rule);
        }

        if (BreakerPause is TimeSpan pause)
        {
            flow.Number(FlowKey.BreakerPause, (ulong)PublishOptions.Milliseconds(pause, "breaker's pause"));
        }

        if (Limit is not null)
        {
            flow.Text(FlowKey.Limit, Limit);
        }

        if (flow.Length > 0)
        {
            to.Bytes(FieldTag.Flow, flow.Written);
        }
    }

    private static void Write(ref FlowWriter to, FlowKey key, int? number)
    {
        if (number is int wanted)
        {
            to.Number(key, wanted is >= 0 and <= FlowLimits.Most ? (ulong)wanted : throw new FastQException(RefusalCode.BadArgument, $"{key} is 0 to {FlowLimits.Most}"));
        }
    }

    private static void Write(ref FlowWriter to, FlowKey key, Rate? rate)
    {
        if (rate is Rate wanted)
        {
            to.Number(key, wanted.Count is >= 0 and <= FlowLimits.Most ? wanted : throw new FastQException(RefusalCode.BadArgument, $"{key} is 0 to {FlowLimits.Most} a second, minute or hour"));
        }
    }
}
