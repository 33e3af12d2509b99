using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>A limit that queues share, as it stood when it was asked for. A copy; any thread.</summary>
/// <param name="Name">Its name, 1 to 64 bytes of UTF-8.</param>
/// <param name="Limits">Max-in-flight, rate and burst.</param>
/// <param name="InFlight">Messages with consumers, of all queues that name it.</param>
/// <param name="Queues">So many queues name it.</param>
/// <param name="Waiting">So many of them have messages and consumers, and wait for it.</param>
public sealed record LimitInfo(string Name, FlowLimits Limits, long InFlight, int Queues, int Waiting)
{
    internal static LimitInfo From(ReadOnlySpan<byte> fields)
    {
        LimitInfo info = new("", FlowLimits.None, 0, 0, 0);
        FieldReader reader = new(fields);
        while (reader.Next())
        {
            info = reader.Tag switch
            {
                FieldTag.Name => info with { Name = reader.Text },
                FieldTag.Flow => info with { Limits = FlowLimits.None.With(reader.Value) },
                FieldTag.InFlight => info with { InFlight = (long)reader.Number },
                FieldTag.Queues => info with { Queues = (int)reader.Number },
                FieldTag.Waiting => info with { Waiting = (int)reader.Number },
                _ => info,
            };
        }

        return info;
    }
}

/// <summary>A consumer of a queue, as it stood when it was asked for. A copy; any thread.</summary>
/// <param name="Id">Of its subscription; never used again.</param>
/// <param name="Owner">Name and process of its client; empty while that is away.</param>
/// <param name="Priority">See <see cref="SubscribeOptions.Priority"/>.</param>
/// <param name="IsExclusive">See <see cref="SubscribeOptions.IsExclusive"/>.</param>
/// <param name="IsPaused">It gets nothing: <see cref="Session.PauseSubscription"/>.</param>
/// <param name="InFlight">Messages with it.</param>
/// <param name="Credit">So many may be.</param>
public sealed record SubscriptionInfo(uint Id, string Owner, byte Priority, bool IsExclusive, bool IsPaused, long InFlight, long Credit)
{
    internal static SubscriptionInfo From(ReadOnlySpan<byte> fields)
    {
        SubscriptionInfo info = new(0, "", 0, false, false, 0, 0);
        FieldReader reader = new(fields);
        while (reader.Next())
        {
            info = reader.Tag switch
            {
                FieldTag.Subscription => info with { Id = (uint)reader.Number },
                FieldTag.Owner => info with { Owner = reader.Text },
                FieldTag.ConsumerPriority => info with { Priority = (byte)reader.Number },
                FieldTag.Exclusive => info with { IsExclusive = reader.Number == 1 },
                FieldTag.Paused => info with { IsPaused = reader.Number == 1 },
                FieldTag.InFlight => info with { InFlight = (long)reader.Number },
                FieldTag.CreditMessages => info with { Credit = (long)reader.Number },
                _ => info,
            };
        }

        return info;
    }
}

// Limits that queues share, and consumers that are paused.

public sealed unsafe partial class Session
{
    /// <summary>Makes a limit that queues may share by naming it (<see cref="FlowOptions.Limit"/>); one that exists with the same numbers is fine.</summary>
    /// <param name="name">1 to 64 bytes of UTF-8.</param>
    /// <param name="limits">MaxInFlight, Rate and Burst, and nothing else.</param>
    /// <exception cref="FastQException">It exists with other numbers, or these cannot be.</exception>
    public LimitInfo DeclareLimit(string name, FlowOptions limits) => LimitInfo.From(SetLimit(name, LimitAction.Declare, limits));

    /// <summary>Gives a limit other numbers while it runs; those that are null stay.</summary>
    /// <exception cref="FastQException">It is not there, or these cannot be.</exception>
    public LimitInfo ChangeLimit(string name, FlowOptions changes) => LimitInfo.From(SetLimit(name, LimitAction.Change, changes));

    /// <summary>Deletes a limit.</summary>
    /// <exception cref="FastQException">It is not there, or a queue names it.</exception>
    public void DeleteLimit(string name) => _ = SetLimit(name, LimitAction.Delete, new FlowOptions());

    /// <summary>All limits that queues may share, by name.</summary>
    public IReadOnlyList<LimitInfo> ListLimits() => [.. Ask(CommandKind.ListLimits, static (ref FieldWriter _) => { }).Where(fields => fields.Length > 0).Select(fields => LimitInfo.From(fields))];

    /// <summary>The consumers of a queue.</summary>
    public IReadOnlyList<SubscriptionInfo> ListSubscriptions(string queue)
    {
        uint id = GetQueue(queue).Id;
        return [.. Ask(CommandKind.ListSubscriptions, (ref FieldWriter writer) => writer.Number(FieldTag.Queue, id)).Where(fields => fields.Length > 0).Select(fields => SubscriptionInfo.From(fields))];
    }

    /// <summary>Lets one consumer of a queue stand still, or go on; kept over restarts. It gets nothing; what it holds stays its own and may be settled.</summary>
    /// <param name="queue">The queue's name.</param>
    /// <param name="subscription">Which: <see cref="ListSubscriptions"/>.</param>
    /// <param name="isPaused">Whether it stands still from now on.</param>
    /// <exception cref="FastQException">The queue has no such subscription.</exception>
    public QueueInfo PauseSubscription(string queue, uint subscription, bool isPaused)
    {
        uint id = GetQueue(queue).Id;
        return QueueInfo.From(Ask(CommandKind.PauseQueue, (ref FieldWriter writer) =>
        {
            writer.Number(FieldTag.Queue, id);
            writer.Number(FieldTag.Subscription, subscription);
            writer.Number(FieldTag.Paused, isPaused ? 1u : 0u);
        })[0]);
    }

    private byte[] SetLimit(string name, LimitAction action, FlowOptions limits) => Ask(CommandKind.SetLimit, (ref FieldWriter writer) =>
    {
        writer.Text(FieldTag.Name, name);
        writer.Number(FieldTag.Action, (ulong)action);
        limits.Write(ref writer);
    })[0];
}
