using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

// Limits on what flows, through the real client and a real broker.
public sealed class FlowTests : IDisposable
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);
    private readonly RunningBroker _broker = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _broker.Dispose();

    [Fact]
    public async Task Queues_share_a_limit_a_message_says_what_it_waits_for_and_the_limit_changes_while_it_runs()
    {
        await using Connection connection = await ConnectAsync();
        LimitInfo limit = await connection.DeclareLimitAsync("api", new FlowOptions { MaxInFlight = 1 }, Cancellation);
        Assert.Equal(("api", 1, 0), (limit.Name, limit.Limits.MaxInFlight, limit.Queues));
        QueueInfo queue = await connection.DeclareQueueAsync("a", new QueueOptions { Flow = new FlowOptions { Limit = "api" } }, Cancellation);
        Assert.Equal("api", queue.Flow.Limit);
        await connection.DeclareQueueAsync("b", new QueueOptions { Flow = new FlowOptions { Limit = "api" } }, Cancellation);
        await connection.PublishAsync("a", "1"u8.ToArray(), cancellation: Cancellation);
        await connection.PublishAsync("b", "2"u8.ToArray(), cancellation: Cancellation);
        await using Subscriber ofA = await connection.SubscribeAsync("a", cancellation: Cancellation), ofB = await connection.SubscribeAsync("b", cancellation: Cancellation);
        Message first = (await ofA.ReceiveAsync(Soon, Cancellation))!;
        Assert.Equal("limit api's max-in-flight of 1", (await connection.BrowseAsync("b", 1, cancellation: Cancellation))[0].WaitsFor);
        Assert.Equal("api", (await Assert.ThrowsAsync<FastQException>(() => connection.DeleteLimitAsync("api", Cancellation))).Message.Split(' ').First(word => word == "api"));
        Assert.Equal(1L, (await connection.ListLimitsAsync(Cancellation)).Single().InFlight);
        await first.AcceptAsync(cancellation: Cancellation);
        Message second = (await ofB.ReceiveAsync(Soon, Cancellation))!;
        await connection.PublishAsync("a", "3"u8.ToArray(), cancellation: Cancellation);
        Assert.Equal(2, (await connection.ChangeLimitAsync("api", new FlowOptions { MaxInFlight = 2 }, Cancellation)).Limits.MaxInFlight);
        Message third = (await ofA.ReceiveAsync(Soon, Cancellation))!;
        Assert.Equal("3", third.Text);
        await second.AcceptAsync(cancellation: Cancellation);
        await connection.ChangeQueueAsync("a", new QueueOptions { Flow = new FlowOptions { Limit = "" } }, Cancellation);
        await connection.DeleteQueueAsync("b", Cancellation);
        await connection.DeleteLimitAsync("api", Cancellation);
        Assert.Empty(await connection.ListLimitsAsync(Cancellation));
    }

    [Fact]
    public async Task A_rate_lets_the_next_message_come_when_its_token_is_due_and_refuses_what_is_published_too_fast_by_name()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", new QueueOptions { Flow = new FlowOptions { Rate = new Rate(10, RateUnit.Second), Burst = 1, PublishRate = new Rate(3, RateUnit.Hour), PublishBurst = 3 } }, Cancellation);
        for (int i = 0; i < 3; i++)
        {
            await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);
        }

        FastQException refused = await Assert.ThrowsAsync<FastQException>(async () => await connection.PublishAsync("q", new byte[1], cancellation: Cancellation));
        Assert.Equal((RefusalCode.LimitReached, 3ul), (refused.Code, refused.Value));
        Assert.Contains("publish-rate (3/h)", refused.Message, StringComparison.Ordinal);
        await using Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation);
        for (ulong tag = 1; tag <= 3; tag++)
        {
            Message message = (await subscriber.ReceiveAsync(Soon, Cancellation))!; // Nobody but the broker's timer wakes it.
            Assert.Equal(tag, message.Tag);
            await message.AcceptAsync(cancellation: Cancellation);
        }
    }

    [Fact]
    public async Task A_breaker_stops_a_queue_a_trial_opens_it_and_a_paused_consumer_gets_nothing()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", new QueueOptions { Flow = new FlowOptions { Breaker = new BreakerRule(100, 2), BreakerPause = TimeSpan.FromMilliseconds(10) } }, Cancellation);
        for (int i = 0; i < 5; i++)
        {
            await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);
        }

        await using Subscriber subscriber = await connection.SubscribeAsync("q", new SubscribeOptions { Credit = 1 }, Cancellation);
        for (int i = 0; i < 2; i++)
        {
            await (await subscriber.ReceiveAsync(Soon, Cancellation))!.RejectAsync("broken", cancellation: Cancellation);
        }

        Message trial = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
        Assert.Equal(PausedWays.Breaker, (await connection.GetQueueAsync("q", Cancellation)).Paused);
        await trial.AcceptAsync(cancellation: Cancellation);
        Message next = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
        Assert.Equal(PausedWays.None, (await connection.GetQueueAsync("q", Cancellation)).Paused);

        SubscriptionInfo consumer = (await connection.ListSubscriptionsAsync("q", Cancellation)).Single();
        Assert.Equal(consumer.Id, (await connection.BrowseAsync("q", 1, cancellation: Cancellation))[0].Subscription);
        await connection.PauseSubscriptionAsync("q", consumer.Id, isPaused: true, Cancellation);
        await next.AcceptAsync(cancellation: Cancellation);
        Assert.Equal((true, 1L), ((await connection.ListSubscriptionsAsync("q", Cancellation)).Single().IsPaused, (await connection.GetQueueAsync("q", Cancellation)).Ready));
        await connection.PauseSubscriptionAsync("q", consumer.Id, isPaused: false, Cancellation);
        Assert.NotNull(await subscriber.ReceiveAsync(Soon, Cancellation));
    }

    private Task<Connection> ConnectAsync() => Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket, Patience = Soon }, cancellation: Cancellation);
}
