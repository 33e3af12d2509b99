using System.Text;
using Xunit;

namespace FastQ.Client;

// Polls that wait for the first message, and take what else is there.
public sealed class PollingTests : IDisposable
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);
    private readonly RunningBroker _broker = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _broker.Dispose();

    [Fact]
    public async Task A_poll_waits_for_the_first_and_takes_what_else_is_there_up_to_so_many()
    {
        await using Connection connection = await Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket }, cancellation: Cancellation);
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        await using Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation);
        Assert.Empty(await subscriber.ReceiveManyAsync(10, TimeSpan.FromMilliseconds(1), Cancellation));

        ValueTask<IReadOnlyList<Message>> waiting = subscriber.ReceiveManyAsync(10, Soon, Cancellation);
        await connection.PublishAsync("q", "first"u8.ToArray(), cancellation: Cancellation);
        List<Message> all = [.. await waiting];
        Assert.Equal("first", Assert.Single(all).Text);

        for (int i = 0; i < 25; i++)
        {
            await connection.PublishAsync("q", Encoding.UTF8.GetBytes($"m{i}"), cancellation: Cancellation);
        }

        all.Clear();
        while (all.Count < 25)
        {
            IReadOnlyList<Message> batch = await subscriber.ReceiveManyAsync(10, Soon, Cancellation);
            Assert.InRange(batch.Count, 1, 10);
            all.AddRange(batch);
        }

        Assert.Equal(Enumerable.Range(0, 25).Select(i => $"m{i}"), all.Select(message => message.Text));
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(async () => await subscriber.ReceiveManyAsync(0, Soon, Cancellation));
    }
}
