using System.Text;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

/// <summary>Schedule keys and schedules, through the real client and broker.</summary>
public sealed class ScheduledTests : IDisposable
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);
    private readonly RunningBroker _broker = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _broker.Dispose();

    [Fact]
    public async Task A_message_that_waits_is_replaced_kept_put_off_moved_and_cancelled_by_its_schedule_key_and_who_is_too_late_is_told()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        PublishOptions inAnHour = new() { Delay = TimeSpan.FromHours(1), ScheduleKey = "k" };
        await PublishAsync(connection, "first", inAnHour);
        await PublishAsync(connection, "second", inAnHour);
        Published kept = await PublishAsync(connection, "third", inAnHour with { ScheduleMode = ScheduleMode.Keep });
        Assert.Equal((true, 2ul), (kept.IsDuplicate, kept.FirstTag));
        await PublishAsync(connection, "fourth", inAnHour with { ScheduleMode = ScheduleMode.Debounce, LongestWait = TimeSpan.FromHours(2) });
        BrowsedMessage waiting = Assert.Single(await connection.BrowseAsync("q", 9, cancellation: Cancellation));
        Assert.Equal(("fourth", MessageState.Delayed), (Encoding.UTF8.GetString(waiting.Body.Span), waiting.State));
        Assert.Equal(Timeliness.InTime, await connection.RescheduleAsync("q", "k", DateTimeOffset.UtcNow.AddDays(1), Cancellation));
        Assert.InRange((await connection.BrowseAsync("q", 9, cancellation: Cancellation))[0].Due!.Value, DateTimeOffset.UtcNow.AddHours(23), DateTimeOffset.UtcNow.AddHours(25));

        Assert.Equal(Timeliness.InTime, await connection.RescheduleAsync("q", "k", TimeSpan.Zero, Cancellation));
        await using Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation);
        Message message = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
        Assert.Equal(("fourth", "k"), (message.Text, message.ScheduleKey));
        Assert.Equal(Timeliness.HandedOut, await connection.CancelScheduledAsync("q", "k", Cancellation));
        await message.AcceptAsync(cancellation: Cancellation);
        Assert.Equal(Timeliness.Gone, await connection.CancelScheduledAsync("q", "k", Cancellation));

        await PublishAsync(connection, "fifth", inAnHour);
        Assert.Equal(Timeliness.InTime, await connection.CancelScheduledAsync("q", "k", Cancellation));
        QueueInfo queue = await connection.GetQueueAsync("q", Cancellation);
        Assert.Equal((0L, 3ul, 1ul, 4ul), (queue.Messages, queue.Purged, queue.Accepted, queue.Published));
        FastQException unfit = await Assert.ThrowsAsync<FastQException>(() => PublishAsync(connection, "x", inAnHour with { LongestWait = TimeSpan.FromHours(2) }));
        Assert.Equal(RefusalCode.BadArgument, unfit.Code);
    }

    private static async Task<Published> PublishAsync(Connection connection, string body, PublishOptions options) => await connection.PublishAsync("q", Encoding.UTF8.GetBytes(body), options, Cancellation);

    private Task<Connection> ConnectAsync() => Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket, Patience = Soon }, cancellation: Cancellation);
}
