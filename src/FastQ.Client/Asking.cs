using FastQ.Protocol;

namespace FastQ.Client;

// What is asked of the broker about queues, exchanges, limits, schedules and single messages: each as Session has it, on the connection's thread.

public sealed partial class Connection
{
    /// <summary>Makes a queue; one that exists with the same attributes is fine.</summary>
    /// <inheritdoc cref="Session.DeclareQueue"/>
    public Task<QueueInfo> DeclareQueueAsync(string name, QueueOptions? options = null, CancellationToken cancellation = default) => AskAsync(session => session.DeclareQueue(name, options), cancellation);

    /// <inheritdoc cref="Session.ChangeQueue"/>
    public Task<QueueInfo> ChangeQueueAsync(string name, QueueOptions changes, CancellationToken cancellation = default) => AskAsync(
        session =>
        {
            _queues.Remove(name); // What it says to senders is asked anew.
            return session.ChangeQueue(name, changes);
        },
        cancellation);

    /// <inheritdoc cref="Session.PauseQueue"/>
    public Task<QueueInfo> PauseQueueAsync(string name, PausedWays ways, CancellationToken cancellation = default) => AskAsync(session => session.PauseQueue(name, ways), cancellation);

    /// <inheritdoc cref="Session.PauseSubscription"/>
    public Task<QueueInfo> PauseSubscriptionAsync(string queue, uint subscription, bool isPaused, CancellationToken cancellation = default) => AskAsync(session => session.PauseSubscription(queue, subscription, isPaused), cancellation);

    /// <inheritdoc cref="Session.ListSubscriptions"/>
    public Task<IReadOnlyList<SubscriptionInfo>> ListSubscriptionsAsync(string queue, CancellationToken cancellation = default) => AskAsync(session => session.ListSubscriptions(queue), cancellation);

    /// <inheritdoc cref="Session.DeclareLimit"/>
    public Task<LimitInfo> DeclareLimitAsync(string name, FlowOptions limits, CancellationToken cancellation = default) => AskAsync(session => session.DeclareLimit(name, limits), cancellation);

    /// <inheritdoc cref="Session.ChangeLimit"/>
    public Task<LimitInfo> ChangeLimitAsync(string name, FlowOptions changes, CancellationToken cancellation = default) => AskAsync(session => session.ChangeLimit(name, changes), cancellation);

    /// <inheritdoc cref="Session.DeleteLimit"/>
    public Task DeleteLimitAsync(string name, CancellationToken cancellation = default) => AskAsync(
        session =>
        {
            session.DeleteLimit(name);
            return true;
        },
        cancellation);

    /// <inheritdoc cref="Session.ListLimits"/>
    public Task<IReadOnlyList<LimitInfo>> ListLimitsAsync(CancellationToken cancellation = default) => AskAsync(session => session.ListLimits(), cancellation);

    /// <summary>A queue by its name.</summary>
    public Task<QueueInfo> GetQueueAsync(string name, CancellationToken cancellation = default) => AskAsync(session => session.GetQueue(name), cancellation);

    /// <summary>All queues, by name.</summary>
    public Task<IReadOnlyList<QueueInfo>> ListQueuesAsync(CancellationToken cancellation = default) => AskAsync(session => session.ListQueues(), cancellation);

    /// <summary>Looks at up to <paramref name="most"/> messages in their places, by tag, without taking them: none is delivered, counted or changed by it.</summary>
    public Task<IReadOnlyList<BrowsedMessage>> BrowseAsync(string name, int most, ulong firstTag = 0, string filter = "", CancellationToken cancellation = default) =>
        AskAsync<IReadOnlyList<BrowsedMessage>>(session => [.. session.Browse(name, firstTag, filter).Take(most)], cancellation);

    /// <summary>Deletes a queue with all that it holds.</summary>
    public Task DeleteQueueAsync(string name, CancellationToken cancellation = default) => AskAsync(
        session =>
        {
            session.DeleteQueue(name);
            return _queues.Remove(name);
        },
        cancellation);

    /// <summary>Empties a queue of what is ready; what is in flight stays. Gives how many messages that was.</summary>
    public Task<long> PurgeQueueAsync(string name, CancellationToken cancellation = default) => AskAsync(session => session.PurgeQueue(name), cancellation);

    /// <summary>Moves or deletes messages of a queue, and comes back when that is done; it goes on over restarts of the broker, and when nobody waits any more. See <see cref="Session.StartSweep"/>.</summary>
    /// <returns>How it ended.</returns>
    public async Task<SweepInfo> SweepAsync(string queue, SweepOptions? options = null, CancellationToken cancellation = default)
    {
        SweepInfo sweep = await AskAsync(session => session.StartSweep(queue, options ?? new SweepOptions()), cancellation).ConfigureAwait(false);
        for (int milliseconds = 1; sweep.State == SweepState.Running; milliseconds = Math.Min(milliseconds * 2, 200))
        {
            await Task.Delay(milliseconds, cancellation).ConfigureAwait(false);
            sweep = await AskAsync(session => session.GetSweep(queue), cancellation).ConfigureAwait(false);
        }

        return sweep;
    }

    /// <summary>The sweep of a queue, under way or the last one.</summary>
    public Task<SweepInfo> GetSweepAsync(string queue, CancellationToken cancellation = default) => AskAsync(session => session.GetSweep(queue), cancellation);

    /// <summary>Ends the sweep of a queue; what it has done stays done.</summary>
    public Task<SweepInfo> CancelSweepAsync(string queue, CancellationToken cancellation = default) => AskAsync(session => session.CancelSweep(queue), cancellation);

    /// <summary>Removes one message that is with nobody. See <see cref="Session.DeleteMessage"/>.</summary>
    public Task DeleteMessageAsync(string queue, ulong tag, CancellationToken cancellation = default) => AskAsync(
        session =>
        {
            session.DeleteMessage(queue, tag);
            return true;
        },
        cancellation);

    /// <summary>Gives one message that waits another priority, another time, or both. See <see cref="Session.ChangeMessage"/>.</summary>
    public Task ChangeMessageAsync(string queue, ulong tag, byte? priority = null, TimeSpan? delay = null, CancellationToken cancellation = default) => AskAsync(
        session =>
        {
            session.ChangeMessage(queue, tag, priority, delay);
            return true;
        },
        cancellation);

    /// <inheritdoc cref="Session.DeclareExchange"/>
    public Task<ExchangeInfo> DeclareExchangeAsync(string name, ExchangeType type = ExchangeType.Direct, string? alternate = null, CancellationToken cancellation = default) =>
        AskAsync(session => session.DeclareExchange(name, type, alternate), cancellation);

    /// <inheritdoc cref="Session.GetExchange"/>
    public Task<ExchangeInfo> GetExchangeAsync(string name, CancellationToken cancellation = default) => AskAsync(session => session.GetExchange(name), cancellation);

    /// <inheritdoc cref="Session.GetBindings"/>
    public Task<IReadOnlyList<BindingInfo>> GetBindingsAsync(string exchange, CancellationToken cancellation = default) => AskAsync(session => session.GetBindings(exchange), cancellation);

    /// <inheritdoc cref="Session.ListExchanges"/>
    public Task<IReadOnlyList<ExchangeInfo>> ListExchangesAsync(CancellationToken cancellation = default) => AskAsync(session => session.ListExchanges(), cancellation);

    /// <inheritdoc cref="Session.DeleteExchange"/>
    public Task DeleteExchangeAsync(string name, CancellationToken cancellation = default) => AskAsync(
        session =>
        {
            session.DeleteExchange(name);
            return _exchanges.Remove(name);
        },
        cancellation);

    /// <inheritdoc cref="Session.Bind"/>
    public Task BindAsync(string exchange, string queue, BindingOptions? options = null, CancellationToken cancellation = default) => DoAsync(session => session.Bind(exchange, queue, options), cancellation);

    /// <inheritdoc cref="Session.BindExchange"/>
    public Task BindExchangeAsync(string exchange, string target, BindingOptions? options = null, CancellationToken cancellation = default) => DoAsync(session => session.BindExchange(exchange, target, options), cancellation);

    /// <inheritdoc cref="Session.Unbind"/>
    public Task UnbindAsync(string exchange, string queue, BindingOptions? options = null, CancellationToken cancellation = default) => DoAsync(session => session.Unbind(exchange, queue, options), cancellation);

    /// <inheritdoc cref="Session.UnbindExchange"/>
    public Task UnbindExchangeAsync(string exchange, string target, BindingOptions? options = null, CancellationToken cancellation = default) => DoAsync(session => session.UnbindExchange(exchange, target, options), cancellation);

    /// <inheritdoc cref="Session.FindProcessed(string, string)"/>
    public Task<ReadOnlyMemory<byte>?> FindProcessedAsync(string queue, string key, CancellationToken cancellation = default) => AskAsync(session => session.FindProcessed(queue, key), cancellation);

    internal Task<ReadOnlyMemory<byte>?> FindProcessedAsync(uint queue, string key, CancellationToken cancellation) => AskAsync(session => session.FindProcessed(queue, key), cancellation);

    internal Task<ProcessedInfo> AcceptProcessedAsync(Message message, string key, ReadOnlyMemory<byte> result, CancellationToken cancellation) =>
        AskAsync(session => session.AcceptProcessed(message.Subscriber.Subscription, message.Handle, message.Life, key, result), cancellation);

    /// <inheritdoc cref="Session.CancelScheduled"/>
    public Task<Timeliness> CancelScheduledAsync(string queue, string key, CancellationToken cancellation = default) => AskAsync(session => session.CancelScheduled(queue, key), cancellation);

    /// <inheritdoc cref="Session.Reschedule(string, string, TimeSpan)"/>
    public Task<Timeliness> RescheduleAsync(string queue, string key, TimeSpan delay, CancellationToken cancellation = default) => AskAsync(session => session.Reschedule(queue, key, delay), cancellation);

    /// <inheritdoc cref="Session.Reschedule(string, string, DateTimeOffset)"/>
    public Task<Timeliness> RescheduleAsync(string queue, string key, DateTimeOffset at, CancellationToken cancellation = default) => AskAsync(session => session.Reschedule(queue, key, at), cancellation);

    /// <inheritdoc cref="Session.SetSchedule"/>
    public Task<ScheduleInfo> ScheduleAsync(string name, string queue, ScheduleRule rule, ReadOnlyMemory<byte> body, ScheduleOptions? options = null, CancellationToken cancellation = default) =>
        AskAsync(session => session.SetSchedule(name, queue, rule, body, options), cancellation);

    /// <inheritdoc cref="Session.ListSchedules()"/>
    public Task<IReadOnlyList<ScheduleInfo>> ListSchedulesAsync(CancellationToken cancellation = default) => AskAsync(session => session.ListSchedules(), cancellation);

    /// <inheritdoc cref="Session.GetSchedule"/>
    public Task<ScheduleInfo> GetScheduleAsync(string name, CancellationToken cancellation = default) => AskAsync(session => session.GetSchedule(name), cancellation);

    /// <summary>Lets a schedule stand still, over restarts too. See <see cref="Session.PauseSchedule"/>.</summary>
    public Task<ScheduleInfo> PauseScheduleAsync(string name, CancellationToken cancellation = default) => AskAsync(session => session.PauseSchedule(name, isPaused: true), cancellation);

    /// <summary>Lets a schedule go on. See <see cref="Session.PauseSchedule"/>.</summary>
    public Task<ScheduleInfo> ResumeScheduleAsync(string name, CancellationToken cancellation = default) => AskAsync(session => session.PauseSchedule(name, isPaused: false), cancellation);

    /// <inheritdoc cref="Session.DeleteSchedule"/>
    public Task DeleteScheduleAsync(string name, CancellationToken cancellation = default) => AskAsync(
        session =>
        {
            session.DeleteSchedule(name);
            return true;
        },
        cancellation);

    /// <summary>The broker's statistics, as JSON.</summary>
    public Task<string> GetStatisticsAsync(CancellationToken cancellation = default) => AskAsync(session => session.GetStatistics(), cancellation);
}
