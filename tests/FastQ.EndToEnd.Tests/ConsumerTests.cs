using System.Collections.Concurrent;
using System.Text;
using FastQ.Client;
using FastQ.Protocol;
using Xunit;

namespace FastQ.EndToEnd;

// A consumer of this process, and a broker that is killed under it.
public class ConsumerTests
{
    private const int Messages = 40;

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task No_message_and_no_settlement_is_lost_when_the_broker_is_killed_between_a_handlers_end_and_its_settlement()
    {
        using TestBroker broker = new();
        await using Connection connection = await Connection.ConnectAsync(new SessionOptions { Path = broker.Socket }, cancellation: Cancellation);
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        for (int i = 0; i < Messages; i++)
        {
            await connection.PublishAsync("q", Encoding.UTF8.GetBytes($"{i}"), new PublishOptions { Confirm = i == Messages - 1 ? ConfirmLevel.Durable : ConfirmLevel.Written }, Cancellation);
        }

        ConcurrentDictionary<string, int> handled = [];
        using SemaphoreSlim killed = new(0);
        await using Consumer consumer = await Consumer.StartAsync(
            connection,
            "q",
            (message, _) =>
            {
                if (handled.AddOrUpdate(message.Text, 1, (_, times) => times + 1) == 1 && message.Text is "5" or "20" or "35")
                {
                    broker.Kill(); // The handler's last deed: its settlement finds no broker, and others' may be halfway.
                    killed.Release();
                }

                return Task.CompletedTask;
            },
            new ConsumerOptions { Parallelism = 4 },
            Cancellation);
        for (int kills = 0; kills < 3; kills++)
        {
            Assert.True(await killed.WaitAsync(TimeSpan.FromSeconds(30), Cancellation), $"Not killed: {consumer.Health}");
            broker.Start();
        }

        while (await connection.GetQueueAsync("q", Cancellation) is { Messages: > 0 })
        {
            Assert.False(consumer.Completion.IsCompleted, $"It has ended: {consumer.Health}");
        }

        await consumer.StopAsync(Cancellation);
        Assert.Equal(Messages, handled.Count);
        Assert.Equal(handled.Values.Sum(), consumer.Health.Accepted + consumer.Health.LeasesLost); // What was lost came again.
        QueueInfo queue = await connection.GetQueueAsync("q", Cancellation);
        Assert.Equal((ulong)Messages, queue.Accepted);
        Assert.Equal((0ul, ConsumerState.Stopped), (queue.Rejected, consumer.Health.State));
        Assert.InRange(connection.Reconnects, 3, int.MaxValue);
    }
}
