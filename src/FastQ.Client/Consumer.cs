using System.Diagnostics;
using FastQ.Protocol;

namespace FastQ.Client;

// A host for a handler:
//
//   subscriber --> workers, each with one message in hand --> handler (a task of its own) --returns--> accepted
//                     |        '-- lease: extended at its half                 |--throws---> released, or rejected (RetryPolicy)
//                     |                                                        '--lease lost: nothing; it is somebody else's
//                     '-- stop: takes no more; ends when its handler has, or is given up: then the message goes back uncounted

/// <summary>Gives the messages of a queue to a handler, several at once, and settles them by what the handler does. A message comes at least once: a handler that succeeded may see it again when its lease was lost.</summary>
/// <remarks>
/// Any thread. A handler that returns accepts its message; one that throws has it released for another attempt, or rejected (<see cref="ConsumerOptions.Retry"/>). While it works, its lease is extended; its token is cancelled
/// when the lease is lost or the consumer gives up. Handlers run on the thread pool, never on the connection's thread: one that blocks keeps a thread of the pool, and nothing else (many that do want ThreadPool.SetMinThreads). The consumer rides out restarts of the broker as its
/// connection does, with its settlements.
/// </remarks>
public sealed class Consumer : IAsyncDisposable
{
    private readonly Subscriber _subscriber;
    private readonly Func<Message, CancellationToken, Task> _handler;
    private readonly ConsumerOptions _options;
    private readonly CancellationTokenSource _stop = new();
    private readonly CancellationTokenSource _work = new();
    private readonly TaskCompletionSource _givenUp = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _gate = new();
    private ConsumerHealth _health = new(ConsumerState.Running, 0, null, null, 0, 0, 0, 0);

    private Consumer(Subscriber subscriber, Func<Message, CancellationToken, Task> handler, ConsumerOptions options)
    {
        (_subscriber, _handler, _options) = (subscriber, handler, options);
        Completion = Task.Run(RunAsync);
    }

    /// <summary>Name of its queue.</summary>
    public string Queue => _subscriber.Queue;

    /// <summary>How it does now.</summary>
    public ConsumerHealth Health
    {
        get
        {
            lock (_gate)
            {
                return _health;
            }
        }
    }

    /// <summary>Completes when the consumer has ended; fails when it ended by itself: its queue was deleted, or the connection is lost.</summary>
    public Task Completion { get; }

    /// <summary>Subscribes, and begins to give messages to the handler.</summary>
    /// <param name="connection">Outlives the consumer.</param>
    /// <param name="queue">Its name. A queue that does not exist is an error, not a creation.</param>
    /// <param name="handler">Called for up to <see cref="ConsumerOptions.Parallelism"/> messages at once. Its token is cancelled when its work is in vain: the lease is lost, or the consumer gives up.</param>
    /// <param name="options">Null: the defaults.</param>
    /// <param name="cancellation">Ends the subscribing. A consumer that has started is ended by <see cref="StopAsync"/>.</param>
    /// <exception cref="FastQException">There is no such queue, something in the options is out of range, or the connection is lost.</exception>
    public static async Task<Consumer> StartAsync(Connection connection, string queue, Func<Message, CancellationToken, Task> handler, ConsumerOptions? options = null, CancellationToken cancellation = default)
    {
        options ??= new ConsumerOptions();
        options.ThrowIfOutOfRange();
        SubscribeOptions subscribe = new() { Credit = options.Parallelism, CreditBytes = options.CreditBytes, Lease = options.Lease };
        return new Consumer(await connection.SubscribeAsync(queue, subscribe, cancellation).ConfigureAwait(false), handler, options);
    }

    /// <summary>Ends it in order: takes no more, gives back what was not begun, lets handlers finish, settles, and closes. Not to be awaited by a handler of its own, which it waits for.</summary>
    /// <param name="cancellation">The patience with handlers: when it fires, their tokens are cancelled, and the messages of those that have not ended go back, uncounted, at once; a handler that does not heed its token works on, in vain.</param>
    /// <remarks>While the broker is away it waits for it, as the connection does. Completes also when the consumer had ended by itself. To be called any number of times.</remarks>
    public async Task StopAsync(CancellationToken cancellation = default)
    {
        BeginToStop();
        using CancellationTokenRegistration registration = cancellation.Register(GiveUp);
        await Completion.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    /// <summary>As <see cref="StopAsync"/>, with endless patience.</summary>
    public async ValueTask DisposeAsync() => await StopAsync().ConfigureAwait(false);

    private async Task RunAsync()
    {
        Task working = Task.WhenAll(Enumerable.Range(0, _options.Parallelism).Select(_ => Task.Run(WorkAsync)));
        try
        {
            await GiveBackUntakenAsync(working).ConfigureAwait(false);
            await working.ConfigureAwait(false);
        }
        catch (Exception fault)
        {
            Note(fault, static health => health with { State = ConsumerState.Faulted });
            throw;
        }
        finally
        {
            await _subscriber.DisposeAsync().ConfigureAwait(false);
            Note(null, static health => health.State == ConsumerState.Faulted ? health : health with { State = ConsumerState.Stopped });
        }
    }

    /// <summary>From the stop on: no more is to come, and what came and was not begun goes back at once, not only when the last handler has ended.</summary>
    private async Task GiveBackUntakenAsync(Task working)
    {
        await Task.WhenAny(working, Task.Delay(Timeout.InfiniteTimeSpan, _stop.Token)).ConfigureAwait(false);
        CancellationTokenSource worked = new();
        _ = working.ContinueWith(_ => worked.Cancel(), CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        try
        {
            await _subscriber.StopFetchingAsync().WaitAsync(worked.Token).ConfigureAwait(false);
            while (await _subscriber.ReceiveAsync(Timeout.InfiniteTimeSpan, worked.Token).ConfigureAwait(false) is Message untaken)
            {
                await untaken.ReleaseAsync(TimeSpan.Zero, isCounted: false).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException)
        {
            // All have ended: closing gives back what is left.
        }
        catch (FastQException)
        {
            // The connection is lost, and the workers hear of it, too.
        }
    }

    // ---- a worker

    private async Task WorkAsync()
    {
        Activity.Current = null; // Handlers' spans begin traces of their own: whoever started the consumer is not what they are part of.
        try
        {
            while (await TakeAsync().ConfigureAwait(false) is Message message)
            {
                await (message.Age < _subscriber.Lease ? HandleAsync(message) : LetGoAsync(message)).ConfigureAwait(false);
            }
        }
        catch
        {
            BeginToStop(); // The others end, too.
            GiveUp();
            throw;
        }
    }

    /// <summary>Null: it is to end.</summary>
    private async ValueTask<Message?> TakeAsync()
    {
        try
        {
            return _stop.IsCancellationRequested ? null : await _subscriber.ReceiveAsync(Timeout.InfiniteTimeSpan, _stop.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            return null;
        }
    }

    /// <summary>Its lease ended before there was a worker for it, as a lost one makes room for more: it has most likely gone to somebody else.</summary>
    private static async Task LetGoAsync(Message message)
    {
        try
        {
            await message.ReleaseAsync(TimeSpan.Zero, isCounted: false).ConfigureAwait(false);
        }
        catch (FastQException late) when (IsSomebodyElses(late))
        {
            // It has.
        }
    }

    private async Task HandleAsync(Message message)
    {
        Note(null, static health => health with { InHand = health.InHand + 1 });
        Telemetry.InHand(Queue, 1);
        try
        {
            KeptLease lease = new(message, _subscriber.Lease, _options.TimeProvider, _work.Token);
            Task<Exception?> work = Task.Run(() => ProcessAsync(message, lease.Token));
            await Task.WhenAny(work, _givenUp.Task).ConfigureAwait(false);
            await lease.EndAsync().ConfigureAwait(false);
            await SettleAsync(message, lease.Lost, work).ConfigureAwait(false);
            if (work.IsCompleted)
            {
                lease.Dispose(); // What works on in vain keeps its token.
            }
        }
        finally
        {
            Telemetry.InHand(Queue, -1);
            Note(null, static health => health with { InHand = health.InHand - 1 });
        }
    }

    /// <summary>Gives what the handler threw; null: it returned.</summary>
    private async Task<Exception?> ProcessAsync(Message message, CancellationToken token)
    {
        using Activity? span = Telemetry.StartProcess(message);
        long start = _options.TimeProvider.GetTimestamp();
        Exception? failure = null;
        try
        {
            if (!_options.IsIdempotent || !await IsProcessedAsync(message, token).ConfigureAwait(false))
            {
                await _handler(message, token).ConfigureAwait(false);
            }
        }
        catch (Exception thrown)
        {
            failure = thrown;
        }

        Telemetry.EndProcess(span, Queue, _options.TimeProvider.GetElapsedTime(start), failure);
        return failure;
    }

    private async Task<bool> IsProcessedAsync(Message message, CancellationToken token)
    {
        if (await message.FindProcessedAsync(cancellation: token).ConfigureAwait(false) is not ReadOnlyMemory<byte> result)
        {
            return false;
        }

        message.Result = result;
        Note(null, static health => health with { AlreadyProcessed = health.AlreadyProcessed + 1 });
        return true;
    }

    /// <param name="message">In hand, unless its lease is lost. It is extended no more.</param>
    /// <param name="lost">Why its lease is lost; null: it is not.</param>
    /// <param name="work">The handler's. It has ended, or is given up.</param>
    private async Task SettleAsync(Message message, FastQException? lost, Task<Exception?> work)
    {
        if (lost is not null)
        {
            await Task.WhenAny(work, _givenUp.Task).ConfigureAwait(false); // It counts as in hand as long as it runs.
            if (_options.IsIdempotent && work.IsCompleted && await work.ConfigureAwait(false) is null)
            {
                await MarkLostAsync(message).ConfigureAwait(false);
            }

            NoteLeaseLost(message, lost);
            return;
        }

        try
        {
            Exception? failure = work.IsCompleted ? await work.ConfigureAwait(false) : new OperationCanceledException();
            await (failure switch
            {
                null => AcceptAsync(message),
                OperationCanceledException when _work.IsCancellationRequested => GiveBackAsync(message),
                _ => FailAsync(message, failure),
            }).ConfigureAwait(false);
        }
        catch (FastQException late) when (IsSomebodyElses(late))
        {
            NoteLeaseLost(message, late);
        }
    }

    private async Task AcceptAsync(Message message)
    {
        await ConfirmAsync("accept", _options.IsIdempotent ? MarkAsync(message) : message.Outgoing is OutgoingReply reply ? ReplyAsync(message, reply) : message.AcceptAsync(_options.Confirm)).ConfigureAwait(false);
        Note(null, static health => health with { Accepted = health.Accepted + 1 });
    }

    /// <summary>Done is done: whoever has it now is to know.</summary>
    private static async Task MarkLostAsync(Message message)
    {
        try
        {
            await message.AcceptProcessedAsync(message.Result).ConfigureAwait(false);
        }
        catch (FastQException gone) when (IsSomebodyElses(gone))
        {
            // The connection was closed by this program: nobody hears of it.
        }
    }

    private static async ValueTask MarkAsync(Message message)
    {
        if ((await message.AcceptProcessedAsync(message.Result).ConfigureAwait(false)).WasLate)
        {
            throw new FastQException(RefusalCode.LeaseLost, $"Message {message.Tag} of {message.Queue} is marked as processed all the same");
        }
    }

    /// <summary>That nobody waits for the reply any more is no failure of the handler's.</summary>
    private async ValueTask ReplyAsync(Message message, OutgoingReply reply) => _ = await message.SendLastAsync(reply, _options.Confirm, default).ConfigureAwait(false);

    private async Task FailAsync(Message message, Exception failure)
    {
        bool isRejected = _options.Retry.Rejects(failure);
        if (isRejected)
        {
            await ConfirmAsync("reject", message.RejectAsync(RejectWords.Reason(failure), failure.ToString(), _options.Confirm)).ConfigureAwait(false);
        }
        else
        {
            await ConfirmAsync("release", message.ReleaseAsync(_options.Retry.DelayOf(message), isCounted: true, _options.Confirm)).ConfigureAwait(false);
        }

        Note(failure, health => isRejected ? health with { Rejected = health.Rejected + 1 } : health with { Released = health.Released + 1 });
        _options.Failed?.Invoke(new HandlingFailure(message, failure, isRejected ? FailureOutcome.Rejected : FailureOutcome.Released));
    }

    /// <summary>The consumer stops: the delivery is as if it had not been.</summary>
    private async Task GiveBackAsync(Message message)
    {
        await ConfirmAsync("release", message.ReleaseAsync(TimeSpan.Zero, isCounted: false, _options.Confirm)).ConfigureAwait(false);
        Note(null, static health => health with { Released = health.Released + 1 });
    }

    private async ValueTask ConfirmAsync(string operation, ValueTask settlement)
    {
        long start = _options.TimeProvider.GetTimestamp();
        Exception? failure = null;
        try
        {
            await settlement.ConfigureAwait(false);
        }
        catch (Exception refused)
        {
            failure = refused;
            throw;
        }
        finally
        {
            Telemetry.Settled(operation, Queue, _options.TimeProvider.GetElapsedTime(start), failure);
        }
    }

    /// <summary>Does a refusal of a settlement say that the message is not in hand any more? To close the connection gives back what is.</summary>
    private static bool IsSomebodyElses(FastQException refusal) => refusal.Code is RefusalCode.LeaseLost or RefusalCode.AlreadySettled or RefusalCode.Closed;

    // ---- any thread

    private void BeginToStop()
    {
        Note(null, static health => health.State == ConsumerState.Running ? health with { State = ConsumerState.Stopping } : health);
        _stop.Cancel();
    }

    private void GiveUp()
    {
        _ = _work.CancelAsync(); // On the pool: what handlers hang on their tokens is nothing to wait for.
        _givenUp.TrySetResult();
    }

    private void NoteLeaseLost(Message message, FastQException lost)
    {
        Telemetry.LeaseLost(Queue);
        Note(lost, static health => health with { LeasesLost = health.LeasesLost + 1 });
        _options.Failed?.Invoke(new HandlingFailure(message, lost, FailureOutcome.LeaseLost));
    }

    private void Note(Exception? error, Func<ConsumerHealth, ConsumerHealth> change)
    {
        lock (_gate)
        {
            _health = change(error is null ? _health : _health with { LastError = error, LastErrorAt = _options.TimeProvider.GetUtcNow() });
        }
    }
}
