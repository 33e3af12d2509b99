using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text;
using FastQ.Engine;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

// A host for a handler, over a real broker. Time stands still where a test moves it.
public sealed class ConsumerTests : IAsyncDisposable
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);
    private readonly RunningBroker _broker = new();
    private readonly ManualTime _time = new();
    private readonly List<Consumer> _consumers = [];

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public async ValueTask DisposeAsync()
    {
        foreach (Consumer consumer in _consumers)
        {
            await consumer.StopAsync(new CancellationToken(canceled: true)); // A test that failed may have left its handler waiting.
        }

        _broker.Dispose();
    }

    [Fact]
    public async Task What_a_handler_returns_from_is_accepted_and_no_more_are_in_hand_than_it_was_told()
    {
        await using Connection connection = await ConnectAsync();
        await PublishAsync(connection, "q", 10);
        using SemaphoreSlim goOn = new(0);
        int running = 0, most = 0;
        Consumer consumer = await StartAsync(
            connection,
            "q",
            async (_, token) =>
            {
                int now = Interlocked.Increment(ref running);
                InterlockedMax(ref most, now);
                await goOn.WaitAsync(token);
                Interlocked.Decrement(ref running);
            },
            new ConsumerOptions { Parallelism = 3 });

        QueueInfo busy = await AwaitQueueAsync(connection, "q", _ => Volatile.Read(ref running) == 3);
        Assert.Equal((3L, 7L), (busy.InFlight, busy.Ready)); // What it has not begun stays with the broker, for others.
        Assert.Equal((ConsumerState.Running, 3), (consumer.Health.State, consumer.Health.InHand));
        goOn.Release(10);
        QueueInfo done = await AwaitQueueAsync(connection, "q", queue => queue.Messages == 0);
        Assert.Equal((10ul, 0ul), (done.Accepted, done.Redelivered));
        await consumer.StopAsync(Cancellation);
        Assert.Equal(new ConsumerHealth(ConsumerState.Stopped, 0, null, null, 10, 0, 0, 0), consumer.Health);
        Assert.Equal(3, most);
    }

    [Fact]
    public async Task What_a_handler_throws_at_comes_again_counted_until_it_succeeds()
    {
        await using Connection connection = await ConnectAsync();
        await PublishAsync(connection, "q", 1);
        ConcurrentQueue<int> deliveries = [];
        ConcurrentQueue<HandlingFailure> failures = [];
        Consumer consumer = await StartAsync(
            connection,
            "q",
            (message, _) =>
            {
                deliveries.Enqueue(message.DeliveryCount);
                return message.DeliveryCount < 3 ? throw new InvalidOperationException($"attempt {message.DeliveryCount}") : Task.CompletedTask;
            },
            new ConsumerOptions { Parallelism = 1, Failed = failures.Enqueue, TimeProvider = _time });

        await AwaitQueueAsync(connection, "q", queue => queue.Accepted == 1);
        await consumer.StopAsync(Cancellation);
        Assert.Equal([1, 2, 3], deliveries);
        Assert.Equal([("attempt 1", FailureOutcome.Released), ("attempt 2", FailureOutcome.Released)], failures.Select(failure => (failure.Exception.Message, failure.Outcome)));
        Assert.Equal((1, 2, 0), (consumer.Health.Accepted, consumer.Health.Released, consumer.Health.Rejected));
        Assert.Equal(("attempt 2", _time.GetUtcNow()), (consumer.Health.LastError!.Message, consumer.Health.LastErrorAt!.Value));
    }

    [Fact]
    public async Task What_a_handler_throws_at_waits_as_the_policy_says()
    {
        await using Connection connection = await ConnectAsync();
        await PublishAsync(connection, "q", 1);
        Consumer consumer = await StartAsync(
            connection,
            "q",
            (_, _) => throw new TimeoutException(),
            new ConsumerOptions { Retry = new RetryPolicy { Backoff = new Backoff(TimeSpan.FromHours(1), 2, TimeSpan.FromHours(8)) } });

        await AwaitQueueAsync(connection, "q", queue => queue.Delayed == 1);
        BrowsedMessage waiting = Assert.Single(await connection.BrowseAsync("q", 10, cancellation: Cancellation));
        Assert.Equal((MessageState.Delayed, 1), (waiting.State, waiting.Deliveries));
        Assert.InRange(waiting.Due!.Value - waiting.Timestamp!.Value, TimeSpan.FromMinutes(47), TimeSpan.FromMinutes(61));
    }

    [Theory]
    [InlineData(1, 1.0, 1)]
    [InlineData(100, 2.0, 3_600_000)]
    [InlineData(250, 1.5, 10_000)]
    [InlineData(1000, 100.0, 31_536_000_000)]
    public void A_policys_back_off_is_the_one_that_the_broker_works_out(long first, double factor, long most)
    {
        Backoff ours = new(TimeSpan.FromMilliseconds(first), factor, TimeSpan.FromMilliseconds(most));
        QueueAttributes theirs = new() { BackoffFirstMilliseconds = first, BackoffFactorPermille = (long)(factor * 1000), BackoffMostMilliseconds = most };
        foreach (ulong tag in (ulong[])[1, 2, 3, 77, ulong.MaxValue])
        {
            foreach (int deliveries in (int[])[1, 2, 3, 10, 100, ushort.MaxValue])
            {
                // The broker rounds down at each step.
                Assert.InRange(theirs.BackoffAfter(tag, deliveries) - ours.After(tag, deliveries).TotalMilliseconds, -20, 1);
            }
        }

        Assert.Equal(TimeSpan.Zero, new Backoff(TimeSpan.Zero, 2, TimeSpan.FromHours(1)).After(1, ushort.MaxValue));
    }

    [Theory]
    [InlineData("by its own type")]
    [InlineData("by a type that is listed")]
    [InlineData("by the predicate")]
    public async Task What_no_other_attempt_would_help_is_rejected_with_the_exceptions_words(string how)
    {
        await using Connection connection = await ConnectAsync();
        await PublishAsync(connection, "q", 1);
        Exception thrown = how switch
        {
            "by its own type" => new PermanentException("no such customer"),
            "by a type that is listed" => new FileNotFoundException("no such customer"),
            _ => new InvalidDataException("no such customer"),
        };
        RetryPolicy retry = new() { Permanent = [typeof(IOException)], IsPermanent = exception => exception is InvalidDataException };
        ConcurrentQueue<HandlingFailure> failures = [];
        Consumer consumer = await StartAsync(connection, "q", (_, _) => ThrowAsync(thrown), new ConsumerOptions { Retry = retry, Failed = failures.Enqueue });

        await AwaitQueueAsync(connection, "q.dead", queue => queue.Ready == 1);
        Death death = Assert.Single(Assert.Single(await connection.BrowseAsync("q.dead", 1, cancellation: Cancellation)).Deaths);
        Assert.Equal((DeathReason.Rejected, 1), (death.Reason, death.Deliveries));
        Assert.StartsWith($"{thrown.GetType()}: no such customer", death.Text!, StringComparison.Ordinal);
        Assert.Contains(nameof(ThrowAsync), death.Details!, StringComparison.Ordinal);
        await consumer.StopAsync(Cancellation);
        Assert.Equal((1, 0), (consumer.Health.Rejected, consumer.Health.Released));
        Assert.Equal((thrown, FailureOutcome.Rejected), (failures.Single().Exception, failures.Single().Outcome));
    }

    [Fact]
    public async Task An_exception_with_a_long_message_is_cut_to_what_a_reason_may_have()
    {
        await using Connection connection = await ConnectAsync();
        await PublishAsync(connection, "q", 1);
        Consumer consumer = await StartAsync(connection, "q", (_, _) => throw new PermanentException(new string('ß', 5000)));

        await AwaitQueueAsync(connection, "q.dead", queue => queue.Ready == 1);
        Death death = Assert.Single(Assert.Single(await connection.BrowseAsync("q.dead", 1, cancellation: Cancellation)).Deaths);
        Assert.InRange(Encoding.UTF8.GetByteCount(death.Text!), Subscription.MaxReasonBytes - 1, Subscription.MaxReasonBytes);
        Assert.EndsWith("ß", death.Text!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_lease_is_kept_while_the_handler_works_however_long()
    {
        await using Connection connection = await ConnectAsync();
        TimeSpan lease = TimeSpan.FromSeconds(1);
        await PublishAsync(connection, "q", 1);
        TaskCompletionSource<CancellationToken> begun = NewSource<CancellationToken>();
        TaskCompletionSource goOn = NewSource();
        Consumer consumer = await StartAsync(
            connection,
            "q",
            (_, token) =>
            {
                begun.TrySetResult(token);
                return goOn.Task;
            },
            new ConsumerOptions { Lease = lease, TimeProvider = _time });
        CancellationToken work = await begun.Task.WaitAsync(Soon, Cancellation);

        for (Stopwatch worked = Stopwatch.StartNew(); worked.Elapsed < lease * 2.5;)
        {
            _time.Advance(lease / 2);
            Assert.Equal(1, (await connection.GetQueueAsync("q", Cancellation)).InFlight);
        }

        goOn.SetResult();
        QueueInfo done = await AwaitQueueAsync(connection, "q", queue => queue.Messages == 0);
        Assert.Equal((1ul, 0ul, false), (done.Accepted, done.Redelivered, work.IsCancellationRequested));
        await consumer.StopAsync(Cancellation);
        Assert.Equal((1, 0), (consumer.Health.Accepted, consumer.Health.LeasesLost));
        Assert.Equal(0, _time.Timers);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_lease_that_was_lost_ends_the_handlers_work_and_is_counted_and_the_message_is_left_to_whom_it_went(bool isHeardWhileItWorks)
    {
        await using Connection connection = await ConnectAsync();
        TimeSpan lease = TimeSpan.FromMilliseconds(100);
        await PublishAsync(connection, "q", 1);
        TaskCompletionSource<(int Delivery, CancellationToken Token)> begun = NewSource<(int, CancellationToken)>();
        TaskCompletionSource goOn = NewSource();
        ConcurrentQueue<HandlingFailure> failures = [];
        Consumer consumer = await StartAsync(
            connection,
            "q",
            (message, token) =>
            {
                bool isFirst = begun.TrySetResult((message.DeliveryCount, token));
                return !isFirst ? Task.CompletedTask : isHeardWhileItWorks ? UntilCancelledAsync(token) : goOn.Task;
            },
            new ConsumerOptions { Parallelism = 2, Lease = lease, TimeProvider = _time, Failed = failures.Enqueue });
        (int first, CancellationToken work) = await begun.Task.WaitAsync(Soon, Cancellation);
        await AwaitQueueAsync(connection, "q", queue => queue.Accepted == 1); // Time stood still, nothing was extended, and the other worker has got and done it.

        if (isHeardWhileItWorks)
        {
            _time.Advance(lease / 2);
        }
        else
        {
            goOn.SetResult();
        }

        await AwaitAsync(() => consumer.Health.InHand == 0);
        Assert.Equal(isHeardWhileItWorks, work.IsCancellationRequested);
        HandlingFailure lost = Assert.Single(failures, failure => failure.Message.DeliveryCount == first);
        Assert.Equal((FailureOutcome.LeaseLost, RefusalCode.LeaseLost), (lost.Outcome, ((FastQException)lost.Exception).Code));
        await consumer.StopAsync(Cancellation);
        Assert.Equal((1, 0, 0, failures.Count), (consumer.Health.Accepted, consumer.Health.Released, consumer.Health.Rejected, consumer.Health.LeasesLost));
        Assert.Equal(1ul, (await connection.GetQueueAsync("q", Cancellation)).Accepted);
    }

    [Fact]
    public async Task A_message_whose_lease_ended_before_a_worker_was_free_is_not_begun()
    {
        await using Connection connection = await ConnectAsync();
        await PublishAsync(connection, "q", 1);
        ConcurrentQueue<int> begun = [];
        TaskCompletionSource<int> first = NewSource<int>();
        TaskCompletionSource goOn = NewSource();
        Consumer consumer = await StartAsync(
            connection,
            "q",
            (message, _) =>
            {
                begun.Enqueue(message.DeliveryCount);
                first.TrySetResult(message.DeliveryCount);
                return goOn.Task;
            },
            new ConsumerOptions { Parallelism = 1, Lease = TimeSpan.FromMilliseconds(100), TimeProvider = _time });
        int held = await first.Task.WaitAsync(Soon, Cancellation);
        while ((await connection.BrowseAsync("q", 1, cancellation: Cancellation))[0].Deliveries < held + 3)
        {
            Assert.Equal([held], begun); // The lease ends and ends: it comes again and again, and waits for the worker.
        }

        goOn.SetResult();
        await AwaitQueueAsync(connection, "q", queue => queue.Accepted == 1);
        await consumer.StopAsync(Cancellation);
        Assert.DoesNotContain(held + 1, begun);
    }

    [Fact]
    public async Task A_stop_takes_no_more_leaves_what_comes_to_others_and_lets_the_handlers_finish()
    {
        await using Connection connection = await ConnectAsync();
        await PublishAsync(connection, "q", 2);
        ConcurrentDictionary<string, TaskCompletionSource> working = [];
        Consumer consumer = await StartAsync(connection, "q", (message, _) => working.GetOrAdd(message.Text, _ => NewSource()).Task, new ConsumerOptions { Parallelism = 2 });
        await AwaitAsync(() => working.Count == 2);

        Task stopped = consumer.StopAsync(Cancellation);
        await connection.PublishAsync("q", "2"u8.ToArray(), cancellation: Cancellation);
        working["0"].SetResult(); // There is credit again, if it was not taken back.
        await AwaitAsync(() => consumer.Health is { State: ConsumerState.Stopping, InHand: 1, Accepted: 1 });
        await using Subscriber other = await connection.SubscribeAsync("q", cancellation: Cancellation);
        Message left = (await other.ReceiveAsync(Soon, Cancellation))!;
        Assert.Equal(("2", 1), (left.Text, left.DeliveryCount)); // Not as delivered before, and while "1" is still at work.
        Assert.False(stopped.IsCompleted);
        working["1"].SetResult();
        await stopped.WaitAsync(Soon, Cancellation);
        Assert.Equal((ConsumerState.Stopped, 2), (consumer.Health.State, consumer.Health.Accepted));
        Assert.Equal(2ul, (await connection.GetQueueAsync("q", Cancellation)).Accepted);
        Assert.Equal(2, working.Count);
        await consumer.StopAsync(Cancellation);
    }

    [Fact]
    public async Task A_stop_gives_back_at_once_and_uncounted_what_came_and_was_not_begun()
    {
        await using Connection connection = await ConnectAsync();
        await PublishAsync(connection, "q", 1);
        TaskCompletionSource goOn = NewSource();
        Consumer consumer = await StartAsync(connection, "q", (_, _) => goOn.Task, new ConsumerOptions { Parallelism = 1, Lease = TimeSpan.FromSeconds(2), TimeProvider = _time });
        while ((await connection.BrowseAsync("q", 1, cancellation: Cancellation))[0].Deliveries < 2)
        {
            Assert.Equal(ConsumerState.Running, consumer.Health.State); // Time stands still for it, the lease ends, and the message comes again while its worker is busy with the first.
        }

        Task stopped = consumer.StopAsync(Cancellation);
        await using Subscriber other = await connection.SubscribeAsync("q", cancellation: Cancellation);
        Assert.Equal(2, (await other.ReceiveAsync(Soon, Cancellation))!.DeliveryCount);
        Assert.False(stopped.IsCompleted);
        goOn.SetResult();
        await stopped.WaitAsync(Soon, Cancellation);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_stop_whose_patience_ends_cancels_the_handlers_and_gives_their_messages_back_uncounted(bool isHeeded)
    {
        await using Connection connection = await ConnectAsync();
        await PublishAsync(connection, "q", 1);
        TaskCompletionSource<CancellationToken> begun = NewSource<CancellationToken>();
        TaskCompletionSource never = NewSource();
        Consumer consumer = await StartAsync(
            connection,
            "q",
            (_, token) =>
            {
                begun.TrySetResult(token);
                return isHeeded ? UntilCancelledAsync(token) : never.Task;
            });
        CancellationToken work = await begun.Task.WaitAsync(Soon, Cancellation);
        using CancellationTokenSource patience = new();
        Task stopped = consumer.StopAsync(patience.Token);
        await AwaitAsync(() => consumer.Health.State == ConsumerState.Stopping);
        Assert.False(stopped.IsCompleted || work.IsCancellationRequested);

        await patience.CancelAsync();
        await AwaitAsync(() => stopped.IsCompleted, otherwise: never.SetResult);
        await AwaitAsync(() => work.IsCancellationRequested);
        Assert.Equal(new ConsumerHealth(ConsumerState.Stopped, 0, null, null, 0, 1, 0, 0), consumer.Health);
        await using Subscriber other = await connection.SubscribeAsync("q", cancellation: Cancellation);
        Message again = (await other.ReceiveAsync(Soon, Cancellation))!;
        Assert.Equal((1, false), (again.DeliveryCount, again.IsRedelivered));
        never.SetResult();
    }

    [Fact]
    public async Task A_settlement_rides_out_a_restart_of_the_broker_that_comes_between_the_handlers_end_and_it()
    {
        await using Connection connection = await ConnectAsync();
        await PublishAsync(connection, "q", 3);
        ConcurrentQueue<string> handled = [];
        TaskCompletionSource gone = NewSource();
        Consumer consumer = await StartAsync(
            connection,
            "q",
            (message, _) =>
            {
                handled.Enqueue(message.Text);
                if (message.Text == "1")
                {
                    _broker.Stop(); // The handler's last deed: its settlement finds no broker.
                    gone.SetResult();
                }

                return Task.CompletedTask;
            },
            new ConsumerOptions { Parallelism = 1 });
        await gone.Task.WaitAsync(Soon, Cancellation);
        _broker.Start();

        QueueInfo done = await AwaitQueueAsync(connection, "q", queue => queue.Messages == 0);
        Assert.Equal(["0", "1", "2"], handled);
        await consumer.StopAsync(Cancellation);
        Assert.Equal((3, 0, 1), (consumer.Health.Accepted, consumer.Health.LeasesLost, connection.Reconnects));
    }

    [Fact]
    public async Task A_handler_that_blocks_its_thread_blocks_neither_the_connection_nor_the_lease_nor_an_impatient_stop()
    {
        await using Connection connection = await ConnectAsync();
        await PublishAsync(connection, "q", 1);
        using ManualResetEventSlim blocked = new(), goOn = new();
        Consumer consumer = await StartAsync(
            connection,
            "q",
            (_, _) =>
            {
                blocked.Set();
                goOn.Wait(CancellationToken.None);
                return Task.CompletedTask;
            });
        await AwaitAsync(() => blocked.IsSet);

        try
        {
            await connection.PublishAsync("q", "more"u8.ToArray(), cancellation: Cancellation);
            await consumer.StopAsync(new CancellationToken(canceled: true)).WaitAsync(Soon, Cancellation);
            QueueInfo queue = await connection.GetQueueAsync("q", Cancellation);
            Assert.Equal((0L, 0ul), (queue.InFlight, queue.Accepted));
        }
        finally
        {
            goOn.Set();
        }
    }

    [Fact]
    public async Task When_its_queue_is_deleted_it_ends_and_says_why()
    {
        await using Connection connection = await ConnectAsync();
        await PublishAsync(connection, "q", 1);
        TaskCompletionSource<CancellationToken> begun = NewSource<CancellationToken>();
        Consumer consumer = await StartAsync(
            connection,
            "q",
            (_, token) =>
            {
                begun.TrySetResult(token);
                return UntilCancelledAsync(token);
            },
            new ConsumerOptions { Parallelism = 2, TimeProvider = _time });
        await begun.Task.WaitAsync(Soon, Cancellation);
        await connection.DeleteQueueAsync("q", Cancellation);

        FastQException why = await Assert.ThrowsAsync<FastQException>(() => consumer.Completion.WaitAsync(Soon, Cancellation));
        Assert.Equal(RefusalCode.QueueDeleted, why.Code);
        Assert.Equal((ConsumerState.Faulted, 0), (consumer.Health.State, consumer.Health.InHand));
        await consumer.StopAsync(Cancellation);
    }

    [Fact]
    public async Task When_its_connection_is_closed_it_ends_as_if_it_was_stopped_and_what_it_had_in_hand_goes_back()
    {
        Connection connection = await ConnectAsync();
        await PublishAsync(connection, "q", 1);
        TaskCompletionSource begun = NewSource(), goOn = NewSource();
        Consumer consumer = await StartAsync(
            connection,
            "q",
            (_, _) =>
            {
                begun.SetResult();
                return goOn.Task;
            });
        await begun.Task.WaitAsync(Soon, Cancellation);
        await connection.DisposeAsync();
        goOn.SetResult();

        await consumer.Completion.WaitAsync(Soon, Cancellation);
        Assert.Equal((ConsumerState.Stopped, 0, 1), (consumer.Health.State, consumer.Health.Accepted, consumer.Health.LeasesLost));
        await using Connection other = await ConnectAsync();
        Assert.Equal(1, (await AwaitQueueAsync(other, "q", queue => queue.InFlight == 0)).Ready);
    }

    [Fact]
    public async Task What_it_cannot_start_with_is_said_at_the_start()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        Task Start(string queue, ConsumerOptions options) => Consumer.StartAsync(connection, queue, (_, _) => Task.CompletedTask, options, Cancellation);

        Assert.Equal(RefusalCode.UnknownQueue, (await Assert.ThrowsAsync<FastQException>(() => Start("none", new ConsumerOptions()))).Code);
        FastQException none = await Assert.ThrowsAsync<FastQException>(() => Start("q", new ConsumerOptions { Parallelism = 0 }));
        Assert.Contains("parallelism is 1 to", none.Message, StringComparison.Ordinal);
        RetryPolicy shrinking = new() { Backoff = new Backoff(TimeSpan.FromSeconds(1), 0.5, TimeSpan.FromSeconds(1)) };
        Assert.Equal(RefusalCode.BadArgument, (await Assert.ThrowsAsync<FastQException>(() => Start("q", new ConsumerOptions { Retry = shrinking }))).Code);
    }

    private async Task<Consumer> StartAsync(Connection connection, string queue, Func<Message, CancellationToken, Task> handler, ConsumerOptions? options = null)
    {
        Consumer consumer = await Consumer.StartAsync(connection, queue, handler, options, Cancellation);
        _consumers.Add(consumer);
        return consumer;
    }

    private static Task UntilCancelledAsync(CancellationToken token) => NewSource().Task.WaitAsync(token);

    private static async Task ThrowAsync(Exception thrown)
    {
        await Task.Yield();
        throw thrown;
    }

    private static TaskCompletionSource NewSource() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private static TaskCompletionSource<T> NewSource<T>() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private static void InterlockedMax(ref int most, int now)
    {
        for (int seen = Volatile.Read(ref most); now > seen; seen = Volatile.Read(ref most))
        {
            Interlocked.CompareExchange(ref most, now, seen);
        }
    }

    private static async Task PublishAsync(Connection connection, string queue, int count)
    {
        await connection.DeclareQueueAsync(queue, new QueueOptions { MaxDeliveries = 0 }, Cancellation); // On a slow machine a short lease ends often.
        for (int i = 0; i < count; i++)
        {
            await connection.PublishAsync(queue, Encoding.UTF8.GetBytes($"{i}"), new PublishOptions { Confirm = ConfirmLevel.Written }, Cancellation);
        }
    }

    private static async Task AwaitAsync(Func<bool> holds, Action? otherwise = null)
    {
        for (Stopwatch waited = Stopwatch.StartNew(); !holds(); await Task.Yield())
        {
            if (waited.Elapsed > Soon)
            {
                otherwise?.Invoke();
                Assert.Fail("Waited in vain");
            }
        }
    }

    private static async Task<QueueInfo> AwaitQueueAsync(Connection connection, string name, Func<QueueInfo, bool> isAsWanted)
    {
        for (Stopwatch waited = Stopwatch.StartNew(); ;)
        {
            QueueInfo? queue = (await connection.ListQueuesAsync(Cancellation)).SingleOrDefault(queue => queue.Name == name);
            if (queue is not null && isAsWanted(queue))
            {
                return queue;
            }

            Assert.True(waited.Elapsed < Soon, $"Waited in vain: {queue}");
        }
    }

    private Task<Connection> ConnectAsync() => Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket, Patience = TimeSpan.FromSeconds(20) }, cancellation: Cancellation);
}
