using System.Text;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

/// <summary>The ledger for idempotent consumers, through the real client.</summary>
public sealed class ProcessedTests : IDisposable
{
    private static readonly TimeSpan s_long = TimeSpan.FromSeconds(20);
    private readonly RunningBroker _broker = new();

    public void Dispose() => _broker.Dispose();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    private Task<Connection> ConnectAsync() => Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket, Patience = s_long }, cancellation: Cancellation);

    [Fact]
    public async Task A_mark_is_set_with_its_accept_and_found_by_anybody_over_a_restart()
    {
        await using Connection connection = await ConnectAsync();
        QueueInfo declared = await connection.DeclareQueueAsync("q", new QueueOptions { ProcessedWindow = TimeSpan.FromDays(1) }, Cancellation);
        Assert.Equal(TimeSpan.FromDays(1), declared.ProcessedWindow);
        await connection.DeclareQueueAsync("none", cancellation: Cancellation);
        await connection.PublishAsync("q", new byte[1], new PublishOptions { MessageId = "m", DeduplicationId = "d" }, Cancellation);
        await connection.PublishAsync("q", new byte[1], new PublishOptions { MessageId = "m" }, Cancellation);
        await connection.PublishAsync("none", new byte[1], cancellation: Cancellation);
        await using Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation);
        Message first = await TakeAsync(subscriber), second = await TakeAsync(subscriber);
        Assert.Equal(("d", "m"), (first.ProcessedKey, second.ProcessedKey));
        Assert.Null(await first.FindProcessedAsync(cancellation: Cancellation));
        ProcessedInfo marked = await first.AcceptProcessedAsync("done"u8.ToArray(), cancellation: Cancellation);
        Assert.Equal((true, false, "done"), (marked.IsFirst, marked.WasLate, Encoding.UTF8.GetString(marked.Result.Span)));
        ProcessedInfo again = await second.AcceptProcessedAsync("twice"u8.ToArray(), key: "d", cancellation: Cancellation);
        Assert.Equal((false, false, "done"), (again.IsFirst, again.WasLate, Encoding.UTF8.GetString(again.Result.Span)));
        Assert.Equal(2ul, (await connection.GetQueueAsync("q", Cancellation)).Accepted);
        _broker.Stop();
        _broker.Start();
        Assert.Equal("done"u8.ToArray(), (await connection.FindProcessedAsync("q", "d", Cancellation))!.Value.ToArray());
        Assert.Null(await connection.FindProcessedAsync("q", "m", Cancellation));

        await using Subscriber forgetful = await connection.SubscribeAsync("none", cancellation: Cancellation);
        Message unmarked = await TakeAsync(forgetful);
        Assert.Equal(RefusalCode.BadArgument, (await Assert.ThrowsAsync<FastQException>(() => unmarked.AcceptProcessedAsync(cancellation: Cancellation))).Code);
        await unmarked.AcceptAsync(cancellation: Cancellation); // It was still in hand.
    }

    [Fact]
    public async Task An_idempotent_consumer_handles_each_key_once_though_a_message_comes_twice()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", new QueueOptions { ProcessedWindow = TimeSpan.FromDays(1), DedupWindow = TimeSpan.Zero }, Cancellation);
        foreach (string id in (string[])["a", "b", "a", "a"])
        {
            await connection.PublishAsync("q", Encoding.UTF8.GetBytes(id), new PublishOptions { MessageId = id }, Cancellation);
        }

        List<string> handled = [];
        await using Consumer consumer = await Consumer.StartAsync(
            connection,
            "q",
            (message, _) =>
            {
                handled.Add(message.Text);
                message.Result = Encoding.UTF8.GetBytes($"result of {message.Text}");
                return Task.CompletedTask;
            },
            new ConsumerOptions { Parallelism = 1, IsIdempotent = true },
            Cancellation);
        while ((await connection.GetQueueAsync("q", Cancellation)).Accepted < 4)
        {
            await Task.Yield();
        }

        await consumer.StopAsync(Cancellation);
        Assert.Equal(["a", "b"], handled);
        Assert.Equal((4L, 2L), (consumer.Health.Accepted, consumer.Health.AlreadyProcessed));
        Assert.Equal("result of b"u8.ToArray(), (await connection.FindProcessedAsync("q", "b", Cancellation))!.Value.ToArray());
    }

    [Fact]
    public void On_a_session_a_delivery_that_was_lost_is_marked_all_the_same_so_that_its_next_holder_knows()
    {
        using Session session = _broker.Connect();
        session.DeclareQueue("q", new QueueOptions { ProcessedWindow = TimeSpan.FromHours(1) });
        session.Publish(session.OpenQueue("q"), "x"u8);
        session.Flush();
        Subscription subscription = session.Subscribe("q", new SubscribeOptions { Lease = TimeSpan.FromMilliseconds(20) });
        Assert.True(subscription.Receive(s_long, out Delivery slow));
        Assert.True(subscription.Receive(s_long, out Delivery again)); // The lease of the first has ended.
        ProcessedInfo late = session.AcceptProcessed(slow, "k", "1"u8);
        Assert.Equal((true, true), (late.IsFirst, late.WasLate));
        Assert.Equal((slow.Tag, true), (again.Tag, again.IsRedelivered));
        Assert.Equal("1"u8.ToArray(), session.FindProcessed("q", "k")!.Value.ToArray());
        Assert.False(session.AcceptProcessed(again, "k").IsFirst);
    }

    private static async Task<Message> TakeAsync(Subscriber subscriber) => await subscriber.ReceiveAsync(s_long, Cancellation) ?? throw new InvalidOperationException("No message came.");
}
