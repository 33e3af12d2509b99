using System.Text;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

// Delivery at most once: what is handed out is settled already, and what is not handed out is not lost.
public sealed class AtMostOnceTests : IDisposable
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);
    private static readonly SubscribeOptions AtMostOnce = new() { Mode = SettleMode.Automatic };
    private readonly RunningBroker _broker = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _broker.Dispose();

    [Fact]
    public async Task What_is_handed_out_is_gone_from_its_queue_and_what_was_only_fetched_goes_back_uncounted()
    {
        await using Connection connection = await Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket }, cancellation: Cancellation);
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        for (int i = 1; i <= 5; i++)
        {
            await connection.PublishAsync("q", Encoding.UTF8.GetBytes($"m{i}"), cancellation: Cancellation);
        }

        await using (Subscriber subscriber = await connection.SubscribeAsync("q", AtMostOnce, Cancellation))
        {
            Message first = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
            Assert.Equal("m1", first.Text);
            Assert.Equal(1ul, (await connection.GetQueueAsync("q", Cancellation)).Accepted);
            FastQException again = await Assert.ThrowsAsync<FastQException>(async () => await first.AcceptAsync(cancellation: Cancellation));
            Assert.Equal(RefusalCode.AlreadySettled, again.Code);
            await foreach (Message second in subscriber)
            {
                Assert.Equal("m2", second.Text);
                break;
            }
        }

        QueueInfo queue = await connection.GetQueueAsync("q", Cancellation);
        Assert.Equal((2ul, 3L, 0L), (queue.Accepted, queue.Ready, queue.InFlight));
        await using Subscriber next = await connection.SubscribeAsync("q", cancellation: Cancellation);
        Message third = (await next.ReceiveAsync(Soon, Cancellation))!;
        Assert.Equal(("m3", 1, false), (third.Text, third.DeliveryCount, third.IsRedelivered));
    }

    [Fact]
    public async Task Nothing_is_handed_out_whose_settlement_may_yet_be_lost()
    {
        await using Connection connection = await Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket, Patience = TimeSpan.FromSeconds(1) }, cancellation: Cancellation);
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        await connection.PublishAsync("q", "one"u8.ToArray(), cancellation: Cancellation);
        await connection.PublishAsync("q", "two"u8.ToArray(), cancellation: Cancellation);
        await using Subscriber subscriber = await connection.SubscribeAsync("q", AtMostOnce, Cancellation);
        Assert.Equal("one", (await subscriber.ReceiveAsync(Soon, Cancellation))!.Text);

        _broker.Stop(); // "two" has been fetched.
        FastQException away = await Assert.ThrowsAsync<FastQException>(async () => await subscriber.ReceiveAsync(Soon, Cancellation));
        Assert.Equal(RefusalCode.Disconnected, away.Code);
        _broker.Start();
    }

    [Fact]
    public void In_place_it_is_the_same_and_the_bytes_stay_readable_without_a_lease()
    {
        using Session session = _broker.Connect();
        session.DeclareQueue("q");
        QueueHandle queue = session.OpenQueue("q");
        session.Publish(queue, "one"u8);
        session.Publish(queue, "two"u8);
        session.Flush();

        Subscription subscription = session.Subscribe("q", AtMostOnce);
        Assert.True(subscription.Receive(Soon, out Delivery one));
        Assert.Equal(1ul, session.GetQueue("q").Accepted);
        Assert.True(subscription.Receive(Soon, out Delivery two));
        Assert.Equal(("one", "two"), (Encoding.UTF8.GetString(one.Body), Encoding.UTF8.GetString(two.Body)));
        Assert.False(subscription.Holds(one));
        Assert.Equal(RefusalCode.AlreadySettled, Assert.Throws<FastQException>(() => subscription.Accept(one)).Code);
        Assert.False(subscription.TryReceive(out _));
        Assert.Equal((2ul, 0L), (session.GetQueue("q").Accepted, session.GetQueue("q").Messages));
    }
}
