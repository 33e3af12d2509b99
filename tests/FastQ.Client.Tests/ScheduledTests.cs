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

    [Fact]
    public async Task A_schedule_sends_its_message_again_and_again_over_a_restart_until_it_is_paused_or_deleted()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        ScheduleOptions options = new() { Message = new PublishOptions { Type = "tick", Headers = new() { ["colour"] = "blue" } }, Missed = MissedFirings.None };
        ScheduleInfo made = await connection.ScheduleAsync("beat", "q", ScheduleRule.Every(TimeSpan.FromMilliseconds(100)), "tick"u8.ToArray(), options, Cancellation);
        Assert.Equal(("beat", "q", TimeSpan.FromMilliseconds(100), MissedFirings.None, 4L), (made.Name, made.Queue, made.Every, made.Missed, made.BodyBytes));
        await using (Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation))
        {
            DateTimeOffset before = DateTimeOffset.MinValue;
            for (int i = 0; i < 4; i++)
            {
                if (i == 2)
                {
                    _broker.Stop();
                    _broker.Start();
                }

                Message message = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
                Assert.Equal(("tick", "tick", "beat"), (message.Text, message.Type, message.HeaderText("fastq.schedule")));
                Assert.Equal("blue", message.HeaderText("colour"));
                DateTimeOffset scheduled = message.Headers["fastq.scheduled"].AsTimestamp!.Value;
                Assert.True(scheduled > before && scheduled <= message.Timestamp);
                before = scheduled;
                await message.AcceptAsync(cancellation: Cancellation);
            }
        }

        Assert.True((await connection.PauseScheduleAsync("beat", Cancellation)).IsPaused);
        ScheduleInfo shown = await connection.GetScheduleAsync("beat", Cancellation);
        Assert.True(shown is { IsPaused: true, Fired: >= 4, Failed: 0 } && shown.Last is not null);
        await connection.ScheduleAsync("copy", "q", ScheduleRule.Every(TimeSpan.FromHours(1)), shown.Body, new ScheduleOptions { Properties = shown.Properties }, Cancellation);
        ScheduleInfo copy = await connection.GetScheduleAsync("copy", Cancellation);
        Assert.True(shown.Properties.Length > 0 && copy.Body.Span.SequenceEqual("tick"u8) && copy.Properties.Span.SequenceEqual(shown.Properties.Span));
        await connection.DeleteScheduleAsync("copy", Cancellation);
        Assert.False((await connection.ResumeScheduleAsync("beat", Cancellation)).IsPaused);

        byte[] large = new byte[20_000];
        ScheduleInfo nightly = await connection.ScheduleAsync("nightly", "q", ScheduleRule.Cron("0 3 * * *", "Europe/Berlin"), large, new ScheduleOptions { Count = 5, Until = DateTimeOffset.UtcNow.AddYears(1) }, Cancellation);
        Assert.Equal(("0 3 * * *", "Europe/Berlin", 5L, 20_000L), (nightly.Cron, nightly.Zone, nightly.Count, nightly.BodyBytes));
        Assert.Empty(nightly.Body.ToArray());
        Assert.Equal(large, (await connection.GetScheduleAsync("nightly", Cancellation)).Body.ToArray());
        Assert.Equal(3, TimeZoneInfo.ConvertTime(nightly.Next!.Value, TimeZoneInfo.FindSystemTimeZoneById("Europe/Berlin")).Hour);
        Assert.Equal(["beat", "nightly"], (await connection.ListSchedulesAsync(Cancellation)).Select(schedule => schedule.Name));
        await connection.DeleteScheduleAsync("beat", Cancellation);
        Assert.Equal(["nightly"], (await connection.ListSchedulesAsync(Cancellation)).Select(schedule => schedule.Name));
        FastQException none = await Assert.ThrowsAsync<FastQException>(() => connection.GetScheduleAsync("beat", Cancellation));
        Assert.Contains("no schedule 'beat'", none.Message, StringComparison.Ordinal);
        FastQException wrong = await Assert.ThrowsAsync<FastQException>(() => connection.ScheduleAsync("x", "q", ScheduleRule.Cron("tomorrow"), large, cancellation: Cancellation));
        Assert.Contains("'tomorrow' is no cron expression", wrong.Message, StringComparison.Ordinal);
        await connection.DeleteQueueAsync("q", Cancellation);
        Assert.Empty(await connection.ListSchedulesAsync(Cancellation));
    }

    [Fact]
    public async Task A_queue_that_nobody_uses_is_deleted_and_its_users_are_told()
    {
        await using Connection connection = await ConnectAsync();
        QueueInfo made = await connection.DeclareQueueAsync("q", new QueueOptions { ExpiresAfter = TimeSpan.FromHours(1) }, Cancellation);
        Assert.Equal(TimeSpan.FromHours(1), made.ExpiresAfter);
        FastQException differs = await Assert.ThrowsAsync<FastQException>(() => connection.DeclareQueueAsync("q", cancellation: Cancellation));
        Assert.Contains("expires is 3600000 ms, not 0 ms", differs.Message, StringComparison.Ordinal);
        await PublishAsync(connection, "x", new PublishOptions());
        await using (Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation))
        {
            Assert.Equal(TimeSpan.FromMilliseconds(50), (await connection.ChangeQueueAsync("q", new QueueOptions { ExpiresAfter = TimeSpan.FromMilliseconds(50) }, Cancellation)).ExpiresAfter);
            Assert.Equal("x", (await subscriber.ReceiveAsync(Soon, Cancellation))!.Text);
            Assert.Equal(1, (await connection.GetQueueAsync("q", Cancellation)).Messages); // In use.
        }

        using (Session session = _broker.Connect())
        {
            Assert.True(SpinWait.SpinUntil(() => session.ListQueues().Count == 0, Soon));
        }

        FastQException gone = await Assert.ThrowsAsync<FastQException>(() => PublishAsync(connection, "y", new PublishOptions()));
        Assert.True(gone.Code is RefusalCode.QueueDeleted or RefusalCode.UnknownQueue);
    }

    private static async Task<Published> PublishAsync(Connection connection, string body, PublishOptions options) => await connection.PublishAsync("q", Encoding.UTF8.GetBytes(body), options, Cancellation);

    private Task<Connection> ConnectAsync() => Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket, Patience = Soon }, cancellation: Cancellation);
}
