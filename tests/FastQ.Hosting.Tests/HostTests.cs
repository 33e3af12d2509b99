using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text;
using FastQ.Client;
using FastQ.Protocol;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Xunit;

namespace FastQ.Hosting;

// A real host over a real broker.
public sealed class HostTests : IDisposable
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);
    private readonly RunningBroker _broker = new();
    private readonly CollectedLog _log = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        _broker.Dispose();
        _log.Dispose();
    }

    [Fact]
    public async Task What_one_service_publishes_a_handler_gets_in_a_scope_of_its_own_over_the_hosts_connection()
    {
        await DeclareAsync("q");
        ConcurrentQueue<Handled> handled = [];
        using IHost host = Build(services => services
            .AddSingleton(handled)
            .AddScoped<Scoped>()
            .AddFastQConsumer<Handler>("q")
            .AddHostedService<Publisher>());
        await host.StartAsync(Cancellation);

        await AwaitQueueAsync("q", queue => queue.Accepted == 3);
        await host.StopAsync(Cancellation);
        Assert.Equal(["0", "1", "2"], handled.Select(one => one.Text).Order());
        Assert.Equal(3, handled.Select(one => one.Scoped).Distinct().Count());
        Assert.All(handled, one => Assert.True(one.Scoped.IsDisposed));
        Assert.Equal(
            [$"Connected to the broker at {_broker.Socket}", $"Takes messages of queue q, {Environment.ProcessorCount} at once", "Takes no more messages of queue q: 3 accepted, 0 released, 0 rejected, 0 leases lost"],
            _log.Lines.Select(line => line.Text));
        Assert.All(_log.Lines, line => Assert.Equal(LogLevel.Information, line.Level));
    }

    [Fact]
    public async Task A_host_whose_broker_does_not_come_does_not_start_and_says_why()
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddFastQ(new SessionOptions { Path = _broker.Socket + "-not", Patience = TimeSpan.Zero });
        using IHost host = builder.Build();

        FastQException why = await Assert.ThrowsAsync<FastQException>(() => host.StartAsync(Cancellation));
        Assert.Equal(RefusalCode.Disconnected, why.Code);
    }

    [Fact]
    public async Task A_host_whose_consumer_has_no_queue_or_no_connection_does_not_start_and_says_which()
    {
        using IHost without = Build(services => services.AddFastQConsumer("none", (_, _) => Task.CompletedTask));
        Assert.Equal(RefusalCode.UnknownQueue, (await Assert.ThrowsAsync<FastQException>(() => without.StartAsync(Cancellation))).Code);

        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddFastQConsumer("q", (_, _) => Task.CompletedTask);
        using IHost unconnected = builder.Build();
        InvalidOperationException why = await Assert.ThrowsAsync<InvalidOperationException>(() => unconnected.StartAsync(Cancellation));
        Assert.Contains("services.AddFastQ()", why.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_stop_of_the_host_lets_handlers_finish_and_no_consumer_takes_more_meanwhile()
    {
        await DeclareAsync("first");
        await DeclareAsync("second");
        ConcurrentDictionary<string, TaskCompletionSource> working = [];
        Task Handle(Message message, CancellationToken token) => working.GetOrAdd(message.Text, _ => new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).Task;
        using IHost host = Build(services => services.AddFastQConsumer("first", Handle).AddFastQConsumer("second", Handle));
        await host.StartAsync(Cancellation);
        await PublishAsync("second", "a");
        await AwaitAsync(() => working.Count == 1);

        Task stopped = host.StopAsync(Cancellation); // The second is stopped before the first, and waits for its handler.
        await AwaitAsync(() => host.Services.GetServices<IHostedService>().OfType<HostedConsumer>().All(consumer => consumer.Health is { State: not ConsumerState.Running }));
        await PublishAsync("first", "b");
        Assert.False(stopped.IsCompleted);
        working["a"].SetResult();
        await stopped.WaitAsync(Soon, Cancellation);
        Assert.Equal(0, (await AwaitQueueAsync("second", queue => queue.Accepted == 1)).Messages);
        Assert.Equal(1, (await AwaitQueueAsync("first", _ => true)).Ready);
        Assert.Single(working);
    }

    [Fact]
    public async Task When_the_hosts_patience_ends_what_is_in_hand_goes_back_uncounted()
    {
        await DeclareAsync("q");
        TaskCompletionSource<CancellationToken> begun = new(TaskCreationOptions.RunContinuationsAsynchronously);
        TaskCompletionSource never = new();
        using IHost host = Build(services => services.AddFastQConsumer("q", (_, token) =>
        {
            begun.TrySetResult(token);
            return never.Task;
        }));
        await host.StartAsync(Cancellation);
        await PublishAsync("q", "a");
        CancellationToken work = await begun.Task.WaitAsync(Soon, Cancellation);
        using CancellationTokenSource patience = new();
        Task stopped = host.StopAsync(patience.Token);
        await AwaitAsync(() => host.Services.GetServices<IHostedService>().OfType<HostedConsumer>().All(consumer => consumer.Health is { State: ConsumerState.Stopping }));
        Assert.False(stopped.IsCompleted || work.IsCancellationRequested);

        await patience.CancelAsync();
        await stopped.WaitAsync(Soon, Cancellation);
        await AwaitAsync(() => work.IsCancellationRequested);
        Assert.Equal((1L, 0ul), ((await AwaitQueueAsync("q", queue => queue.InFlight == 0)).Ready, (await AwaitQueueAsync("q", _ => true)).Redelivered));
    }

    [Fact]
    public async Task What_fails_is_logged_by_what_became_of_it_and_told_to_the_programs_own_hook()
    {
        await DeclareAsync("q");
        ConcurrentQueue<FailureOutcome> told = [];
        using IHost host = Build(services => services.AddFastQConsumer(
            "q",
            (message, _) => message.DeliveryCount == 1 ? throw new TimeoutException("slow") : throw new PermanentException("wrong"),
            new ConsumerOptions { Parallelism = 1, Failed = failure => told.Enqueue(failure.Outcome) }));
        await host.StartAsync(Cancellation);
        await PublishAsync("q", "a");
        await AwaitAsync(() => told.Count == 2);

        Assert.Equal([FailureOutcome.Released, FailureOutcome.Rejected], told);
        Assert.Equal(
            [(LogLevel.Warning, "Message 1 of queue q failed at delivery 1 and comes again", "slow"), (LogLevel.Error, "Message 1 of queue q failed for good at delivery 2 and went to the dead letters", "wrong")],
            _log.Lines.Where(line => line.Exception is not null).Select(line => (line.Level, line.Text, line.Exception!.Message)));
        await host.StopAsync(Cancellation);
    }

    [Fact]
    public async Task A_consumer_that_ends_by_itself_stops_the_host_and_is_no_longer_healthy()
    {
        await DeclareAsync("q");
        using IHost host = Build(services => services.AddFastQConsumer("q", (_, _) => Task.CompletedTask));
        Assert.Equal((HealthStatus.Unhealthy, "The consumer of queue 'q' has not started."), Told(await CheckAsync(host)));
        await host.StartAsync(Cancellation);
        HealthCheckResult healthy = await CheckAsync(host);
        Assert.Equal((HealthStatus.Healthy, "Connected; consumers that run: 1."), Told(healthy));
        Assert.Equal(ConsumerState.Running, Assert.IsType<ConsumerHealth>(healthy.Data["q"]).State);

        TaskCompletionSource stopping = new(TaskCreationOptions.RunContinuationsAsynchronously);
        host.Services.GetRequiredService<IHostApplicationLifetime>().ApplicationStopping.Register(stopping.SetResult);
        await host.Services.GetRequiredService<Connection>().DeleteQueueAsync("q", Cancellation);
        await stopping.Task.WaitAsync(Soon, Cancellation);
        HealthCheckResult ended = await CheckAsync(host);
        Assert.Equal(HealthStatus.Unhealthy, ended.Status);
        Assert.StartsWith("The consumer of queue 'q' has ended: queue-deleted:", ended.Description!, StringComparison.Ordinal);
        Assert.Single(_log.Lines, line => line is { Level: LogLevel.Critical, Text: "The consumer of queue q has ended by itself; the host stops" });
        await host.StopAsync(Cancellation);
    }

    [Fact]
    public async Task A_host_rides_out_a_restart_of_its_broker_and_is_unhealthy_when_it_stays_away()
    {
        await DeclareAsync("q");
        using IHost host = Build(services => services.AddFastQConsumer("q", (_, _) => Task.CompletedTask), TimeSpan.FromSeconds(20));
        await host.StartAsync(Cancellation);
        Connection connection = host.Services.GetRequiredService<Connection>();
        _broker.Stop();
        Task published = connection.PublishAsync("q", "a"u8.ToArray(), cancellation: Cancellation).AsTask();
        _broker.Start();
        await published.WaitAsync(Soon, Cancellation);
        await AwaitQueueAsync("q", queue => queue.Accepted == 1);
        Assert.Equal(HealthStatus.Healthy, (await CheckAsync(host)).Status);
        await host.StopAsync(Cancellation);

        using IHost impatient = Build(services => services.AddFastQConsumer("q", (_, _) => Task.CompletedTask), TimeSpan.Zero);
        await impatient.StartAsync(Cancellation);
        TaskCompletionSource stopping = new(TaskCreationOptions.RunContinuationsAsynchronously);
        impatient.Services.GetRequiredService<IHostApplicationLifetime>().ApplicationStopping.Register(stopping.SetResult);
        _broker.Stop();
        await stopping.Task.WaitAsync(Soon, Cancellation);
        HealthCheckResult lost = await CheckAsync(impatient);
        Assert.Equal(HealthStatus.Unhealthy, lost.Status);
        Assert.StartsWith("The connection is lost: disconnected:", lost.Description!, StringComparison.Ordinal);
        await impatient.StopAsync(Cancellation);
        _broker.Start();
    }

    private static (HealthStatus, string?) Told(HealthCheckResult result) => (result.Status, result.Description);

    private static Task<HealthCheckResult> CheckAsync(IHost host)
    {
        FastQHealthCheck check = host.Services.GetRequiredService<FastQHealthCheck>();
        return check.CheckHealthAsync(new HealthCheckContext { Registration = new HealthCheckRegistration("fastq", check, HealthStatus.Unhealthy, null) }, Cancellation);
    }

    private static async Task AwaitAsync(Func<bool> holds)
    {
        for (Stopwatch waited = Stopwatch.StartNew(); !holds(); await Task.Yield())
        {
            Assert.True(waited.Elapsed < Soon, "Waited in vain");
        }
    }

    private IHost Build(Action<IServiceCollection> add, TimeSpan? patience = null)
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Logging.AddProvider(_log);
        builder.Services.AddFastQ(new SessionOptions { Path = _broker.Socket, Patience = patience ?? Soon });
        add(builder.Services);
        return builder.Build();
    }

    private async Task DeclareAsync(string queue)
    {
        await using Connection connection = await Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket }, cancellation: Cancellation);
        await connection.DeclareQueueAsync(queue, cancellation: Cancellation);
    }

    private async Task PublishAsync(string queue, string text)
    {
        await using Connection connection = await Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket }, cancellation: Cancellation);
        await connection.PublishAsync(queue, Encoding.UTF8.GetBytes(text), cancellation: Cancellation);
    }

    private async Task<QueueInfo> AwaitQueueAsync(string name, Func<QueueInfo, bool> isAsWanted)
    {
        await using Connection connection = await Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket }, cancellation: Cancellation);
        for (Stopwatch waited = Stopwatch.StartNew(); ;)
        {
            QueueInfo queue = await connection.GetQueueAsync(name, Cancellation);
            if (isAsWanted(queue))
            {
                return queue;
            }

            Assert.True(waited.Elapsed < Soon, $"Waited in vain: {queue}");
        }
    }

    private sealed class Scoped : IDisposable
    {
        public bool IsDisposed { get; private set; }

        public void Dispose() => IsDisposed = true;
    }

    private sealed record Handled(string Text, Scoped Scoped);

    private sealed class Handler(Scoped scoped, ConcurrentQueue<Handled> handled) : IMessageHandler
    {
        public Task HandleAsync(Message message, CancellationToken cancellation)
        {
            handled.Enqueue(new Handled(message.Text, scoped));
            return Task.CompletedTask;
        }
    }

    private sealed class Publisher(Connection connection) : BackgroundService
    {
        protected override async Task ExecuteAsync(CancellationToken stoppingToken)
        {
            for (int i = 0; i < 3; i++)
            {
                await connection.PublishAsync("q", Encoding.UTF8.GetBytes($"{i}"), cancellation: stoppingToken);
            }
        }
    }
}
