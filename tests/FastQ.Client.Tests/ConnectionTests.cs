using System.Diagnostics;
using System.Text;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

// The async client: many threads, one connection, a real broker.
public sealed class ConnectionTests : IDisposable
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);
    private readonly RunningBroker _broker = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _broker.Dispose();

    [Fact]
    public async Task A_message_comes_as_it_was_sent_with_its_properties()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        PublishOptions options = new()
        {
            MessageId = "m1",
            CorrelationId = "c1",
            ReplyTo = "r",
            ContentType = "text/plain",
            ContentEncoding = "identity",
            Type = "greeting",
            Key = "order-17",
            SchemaVersion = "2",
            Headers = new() { ["colour"] = "blue", ["größe"] = 1.5, ["count"] = 7, ["sizes"] = HeaderValue.ListOf(1, 2), ["at"] = DateTimeOffset.UnixEpoch },
        };

        await connection.PublishAsync("q", "hello"u8.ToArray(), options, Cancellation);
        await using Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation);
        Message message = (await subscriber.ReceiveAsync(Soon, Cancellation))!;

        Assert.Equal("hello", message.Text);
        Assert.Equal(("m1", "c1", "r", "text/plain", "identity", "greeting"), (message.MessageId, message.CorrelationId, message.ReplyTo, message.ContentType, message.ContentEncoding, message.Type));
        Assert.Equal(("order-17", "2"), (message.Key, message.SchemaVersion));
        Assert.Equal(options.Headers, message.Headers);
        Assert.Equal(("q", 1ul, 1, false), (message.Queue, message.Tag, message.DeliveryCount, message.IsRedelivered));
        await message.AcceptAsync(cancellation: Cancellation);
        QueueInfo queue = await connection.GetQueueAsync("q", Cancellation);
        Assert.Equal((0L, 1ul), (queue.Messages, queue.Accepted));
    }

    [Fact]
    public async Task A_queue_refuses_what_lacks_a_property_that_it_demands_by_name_until_it_demands_it_no_more()
    {
        await using Connection connection = await ConnectAsync();
        QueueInfo queue = await connection.DeclareQueueAsync("q", new QueueOptions { Require = RequiredProperties.Type | RequiredProperties.SchemaVersion }, Cancellation);
        Assert.Equal(RequiredProperties.Type | RequiredProperties.SchemaVersion, queue.Require);
        FastQException differs = await Assert.ThrowsAsync<FastQException>(() => connection.DeclareQueueAsync("q", cancellation: Cancellation));
        Assert.Contains("require is 'type,schema-version', not ''", differs.Message, StringComparison.Ordinal);

        FastQException refused = await Assert.ThrowsAsync<FastQException>(async () => await connection.PublishAsync("q", "hello"u8.ToArray(), new PublishOptions { Type = "t" }, Cancellation));
        Assert.Equal(("missing-property", RefusalCode.MissingProperty), (refused.Name, refused.Code));
        Assert.Contains("The queue demands the property schema-version.", refused.Message, StringComparison.Ordinal);
        await connection.PublishAsync("q", "hello"u8.ToArray(), new PublishOptions { Type = "t", SchemaVersion = "1" }, Cancellation);
        Assert.Equal(RequiredProperties.None, (await connection.ChangeQueueAsync("q", new QueueOptions { Require = RequiredProperties.None }, Cancellation)).Require);
        await connection.PublishAsync("q", "hello"u8.ToArray(), cancellation: Cancellation);
        Assert.Equal(2, (await connection.GetQueueAsync("q", Cancellation)).Messages);
    }

    [Fact]
    public async Task A_message_comes_no_sooner_than_its_delay_its_moment_its_queue_or_who_released_it_said()
    {
        await using Connection connection = await ConnectAsync();
        QueueInfo slow = await connection.DeclareQueueAsync("slow", new QueueOptions { Delay = TimeSpan.FromMilliseconds(600) }, Cancellation);
        Assert.Equal(TimeSpan.FromMilliseconds(600), slow.Delay);
        FastQException differs = await Assert.ThrowsAsync<FastQException>(() => connection.DeclareQueueAsync("slow", cancellation: Cancellation));
        Assert.Contains("delay is 600 ms, not 0 ms", differs.Message, StringComparison.Ordinal);
        long start = Environment.TickCount64;
        await connection.PublishAsync("slow", "by its queue"u8.ToArray(), cancellation: Cancellation);
        await connection.PublishAsync("slow", "at once"u8.ToArray(), new PublishOptions { Delay = TimeSpan.Zero }, Cancellation);
        await connection.PublishAsync("slow", "by its moment"u8.ToArray(), new PublishOptions { DeliverAt = DateTimeOffset.UtcNow.AddMilliseconds(300) }, Cancellation);
        await connection.PublishAsync("slow", "by its delay"u8.ToArray(), new PublishOptions { Delay = TimeSpan.FromMilliseconds(900) }, Cancellation);
        IReadOnlyList<BrowsedMessage> waiting = await connection.BrowseAsync("slow", 10, cancellation: Cancellation);
        Assert.Equal([MessageState.Delayed, MessageState.Ready, MessageState.Delayed, MessageState.Delayed], waiting.Select(message => message.State));
        Assert.All(waiting.Where(message => message.Tag != 2), message => Assert.InRange((message.Due!.Value - message.Timestamp!.Value).TotalMilliseconds, 200, 950)); // The broker reads its two clocks one after the other.
        Assert.Null(waiting[1].Due);
        await using Subscriber subscriber = await connection.SubscribeAsync("slow", cancellation: Cancellation);
        List<string> came = [];
        while (came.Count < 6)
        {
            Message message = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
            came.Add(message.Text);
            long least = (message.Text, message.DeliveryCount, came.Count) switch
            {
                ("by its moment", _, _) => 200,
                ("by its queue", _, _) => 600,
                ("by its delay", _, _) => 900,
                ("at once", 1, 1) => 0,
                _ => 100,
            };
            Assert.True(Environment.TickCount64 - start >= least - 20, $"{message.Text} came after {Environment.TickCount64 - start} ms"); // Its clock steps by some milliseconds.
            switch (message)
            {
                case { Text: "at once", DeliveryCount: 1 } when came.Count == 1:
                    await message.ReleaseAsync(TimeSpan.FromMilliseconds(100), isCounted: false, cancellation: Cancellation);
                    break;
                case { Text: "at once", DeliveryCount: 1 }:
                    await message.ReleaseAsync(TimeSpan.FromMilliseconds(1), cancellation: Cancellation);
                    break;
                default:
                    await message.AcceptAsync(cancellation: Cancellation);
                    break;
            }
        }

        Assert.Equal(3, came.Count(text => text == "at once"));
        Assert.Equal(["by its delay", "by its moment", "by its queue"], came.Where(text => text != "at once").Order());
        QueueInfo queue = await connection.GetQueueAsync("slow", Cancellation);
        Assert.Equal((0L, 4ul, 1ul), (queue.Messages, queue.Accepted, queue.Redelivered));
        FastQException both = await Assert.ThrowsAsync<FastQException>(async () => await connection.PublishAsync("slow", default, new PublishOptions { Delay = TimeSpan.Zero, DeliverAt = DateTimeOffset.UtcNow }, Cancellation));
        Assert.Equal(RefusalCode.BadArgument, both.Code);
    }

    [Fact]
    public async Task A_rejected_message_goes_to_the_dead_letters_and_tells_where_and_why_it_died()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        await connection.DeclareQueueAsync("q.dead", new QueueOptions { DeadLetter = "last" }, Cancellation);
        await connection.PublishAsync("q", "hello"u8.ToArray(), new PublishOptions { MessageId = "m1", Headers = new() { ["k"] = "v" } }, Cancellation);
        Message living = await TakeAsync(connection, "q", message => message.RejectAsync("no such customer", "at Main()", cancellation: Cancellation));
        Assert.Empty(living.Deaths);

        Message dead = await TakeAsync(connection, "q.dead", message => message.RejectAsync(cancellation: Cancellation));
        Assert.Equal(("hello", "m1", "v", living.Timestamp), (dead.Text, dead.MessageId, dead.Headers["k"], dead.Timestamp));
        Death first = Assert.Single(dead.Deaths);
        Assert.Equal(("q", 1ul, DeathReason.Rejected, 1, 1L, "no such customer", "at Main()"), (first.Queue, first.Tag, first.Reason, first.Deliveries, first.Count, first.Text, first.Details));
        Assert.Equal(first.First, first.Last);
        Assert.InRange(first.Last, living.Timestamp, living.Timestamp.AddMinutes(1));
        QueueInfo queue = await connection.GetQueueAsync("q", Cancellation);
        Assert.Equal((0L, 1ul, 1ul, 0ul, "q.dead"), (queue.Messages, queue.Rejected, queue.DeadLettered, queue.Discarded, queue.DeadLetter));

        Message deader = await TakeAsync(connection, "last", message => message.AcceptAsync(cancellation: Cancellation));
        Assert.Equal([("q.dead", null), ("q", "no such customer")], deader.Deaths.Select(death => (death.Queue, death.Text)));
    }

    [Fact]
    public async Task Dead_letters_go_back_to_where_they_died_or_elsewhere_by_filter_and_single_messages_are_deleted_and_changed()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", new QueueOptions { Delay = TimeSpan.FromHours(1), Priority = true }, Cancellation);
        await connection.DeclareQueueAsync("elsewhere", cancellation: Cancellation);
        foreach (string body in (string[])["a", "b", "c"])
        {
            await connection.PublishAsync("q", Encoding.UTF8.GetBytes(body), new PublishOptions { Delay = TimeSpan.Zero, MessageId = body, Type = body == "c" ? "other" : "order" }, Cancellation);
            await TakeAsync(connection, "q", message => message.RejectAsync($"no {message.Text}", cancellation: Cancellation));
        }

        Message first = await TakeAsync(connection, "q.dead", message => message.ReleaseAsync(cancellation: Cancellation));
        FastQException fault = await Assert.ThrowsAsync<FastQException>(() => connection.SweepAsync("q.dead", new SweepOptions { Filter = "colour=red" }, Cancellation));
        Assert.Contains("'colour' is not known", fault.Message, StringComparison.Ordinal);
        Assert.Equal(["a"], (await connection.BrowseAsync("q.dead", 9, filter: "words='no a'", cancellation: Cancellation)).Select(message => message.MessageId));

        SweepInfo sweep = await connection.SweepAsync("q.dead", new SweepOptions { Filter = "reason=rejected and type=order" }, Cancellation);
        Assert.Equal((SweepState.Finished, 2L, 0L), (sweep.State, sweep.Done, sweep.Failed));
        sweep = await connection.SweepAsync("q.dead", new SweepOptions { To = "elsewhere" }, Cancellation);
        Assert.Equal((SweepState.Finished, 1L), (sweep.State, sweep.Done));
        Message back = await TakeAsync(connection, "q", message => message.RejectAsync("again", cancellation: Cancellation));
        Assert.Equal(("a", first.Timestamp, 1, "no a"), (back.MessageId, back.Timestamp, back.DeliveryCount, Assert.Single(back.Deaths).Text));
        Message again = await TakeAsync(connection, "q.dead", message => message.AcceptAsync(cancellation: Cancellation));
        Assert.Equal((2L, "again"), (Assert.Single(again.Deaths).Count, again.Deaths[0].Text));
        QueueInfo dead = await connection.GetQueueAsync("q.dead", Cancellation), elsewhere = await connection.GetQueueAsync("elsewhere", Cancellation);
        Assert.Equal((0L, 3ul, 1ul, 1L), (dead.Messages, dead.Moved, dead.Accepted, elsewhere.Ready));

        BrowsedMessage left = Assert.Single(await connection.BrowseAsync("q", 9, cancellation: Cancellation));
        await connection.ChangeMessageAsync("q", left.Tag, priority: 9, delay: TimeSpan.FromHours(2), cancellation: Cancellation);
        Assert.Equal(MessageState.Delayed, Assert.Single(await connection.BrowseAsync("q", 9, cancellation: Cancellation)).State);
        await connection.DeleteMessageAsync("q", left.Tag, Cancellation);
        FastQException gone = await Assert.ThrowsAsync<FastQException>(() => connection.DeleteMessageAsync("q", left.Tag, Cancellation));
        Assert.Equal(RefusalCode.BadArgument, gone.Code);
        Assert.Equal((0L, 1ul), ((await connection.GetQueueAsync("q", Cancellation)).Messages, (await connection.GetQueueAsync("q", Cancellation)).Purged));
    }

    [Fact]
    public async Task A_duplicate_counts_as_published_and_tells_the_place_of_the_first()
    {
        await using Connection connection = await ConnectAsync();
        QueueInfo declared = await connection.DeclareQueueAsync("q", new QueueOptions { DedupWindow = TimeSpan.FromHours(1) }, Cancellation);
        Assert.Equal((TimeSpan.FromHours(1), false), (declared.DedupWindow, declared.DedupByGroup));
        await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);
        Published first = await connection.PublishAsync("q", new byte[1], new PublishOptions { DeduplicationId = "a" }, Cancellation);
        Published second = await connection.PublishAsync("q", new byte[1], new PublishOptions { DeduplicationId = "a" }, Cancellation);
        Assert.Equal((false, null, true, 2ul), (first.IsDuplicate, first.FirstTag, second.IsDuplicate, second.FirstTag));
        await connection.PublishAsync("q", new byte[1], new PublishOptions { UniqueKey = "u" }, Cancellation);
        Assert.Equal(3ul, (await connection.PublishAsync("q", new byte[1], new PublishOptions { UniqueKey = "u", Confirm = ConfirmLevel.Written }, Cancellation)).FirstTag);
        Assert.Equal((3ul, 3L), ((await connection.GetQueueAsync("q", Cancellation)).Published, (await connection.GetQueueAsync("q", Cancellation)).Ready));
        Message message = await TakeAsync(connection, "q", one => one.AcceptAsync(cancellation: Cancellation));
        Assert.Null(message.DeduplicationId);
        FastQException empty = await Assert.ThrowsAsync<FastQException>(async () => await connection.PublishAsync("q", new byte[1], new PublishOptions { DeduplicationId = "" }, Cancellation));
        Assert.Equal(RefusalCode.BadArgument, empty.Code);
    }

    [Fact]
    public async Task Messages_come_by_priority_tenants_take_turns_and_a_group_waits_for_its_first()
    {
        await using Connection connection = await ConnectAsync();
        QueueInfo declared = await connection.DeclareQueueAsync("q", new QueueOptions { Priority = true, PriorityShare = 10, Fair = true, FairWeights = new Dictionary<string, int> { ["gold"] = 2 }, Fifo = true }, Cancellation);
        Assert.Equal((true, 10, true, "gold=2", true, false), (declared.Priority, declared.PriorityShare, declared.Fair, declared.FairWeights, declared.Fifo, declared.SingleActive));
        (string Body, byte Priority, string Tenant, string Group)[] messages = [("a1", 1, "iron", "a"), ("a2", 1, "iron", "a"), ("b", 1, "iron", "b"), ("c", 1, "gold", "c"), ("d", 1, "gold", "d"), ("e", 9, "iron", "e")];
        foreach ((string body, byte priority, string tenant, string group) in messages)
        {
            await connection.PublishAsync("q", Encoding.UTF8.GetBytes(body), new PublishOptions { Priority = priority, Tenant = tenant, Group = group }, Cancellation);
        }

        await using Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation);
        List<Message> came = [];
        while (came.Count < 5)
        {
            came.Add((await subscriber.ReceiveAsync(TimeSpan.FromSeconds(20), Cancellation))!);
        }

        Assert.Equal(["e", "a1", "c", "d", "b"], came.Select(message => message.Text));
        Assert.Equal(((byte)9, "iron", "e"), (came[0].Priority, came[0].Tenant, came[0].Group));
        BrowsedMessage behind = (await connection.BrowseAsync("q", 9, cancellation: Cancellation)).Single(message => message.State == MessageState.Ready);
        Assert.True(behind.IsBehind);
        await came[1].AcceptAsync(cancellation: Cancellation);
        Assert.Equal("a2", (await subscriber.ReceiveAsync(TimeSpan.FromSeconds(20), Cancellation))!.Text);
    }

    [Fact]
    public async Task An_exclusive_consumer_is_alone_and_the_single_active_one_is_followed_by_the_next()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", new QueueOptions { SingleActive = true }, Cancellation);
        await using (Subscriber alone = await connection.SubscribeAsync("q", new SubscribeOptions { IsExclusive = true }, Cancellation))
        {
            FastQException denied = await Assert.ThrowsAsync<FastQException>(() => connection.SubscribeAsync("q", cancellation: Cancellation));
            Assert.Equal(RefusalCode.Denied, denied.Code);
            Assert.Contains("exclusive", denied.Message, StringComparison.Ordinal);
        }

        Subscriber first = await connection.SubscribeAsync("q", new SubscribeOptions { Credit = 1 }, Cancellation);
        await using Subscriber second = await connection.SubscribeAsync("q", new SubscribeOptions { Credit = 1 }, Cancellation);
        await connection.PublishAsync("q", "1"u8.ToArray(), cancellation: Cancellation);
        await connection.PublishAsync("q", "2"u8.ToArray(), cancellation: Cancellation);
        Message one = (await first.ReceiveAsync(TimeSpan.FromSeconds(20), Cancellation))!;
        await one.AcceptAsync(cancellation: Cancellation);
        Assert.Equal("2", (await first.ReceiveAsync(TimeSpan.FromSeconds(20), Cancellation))!.Text);
        await first.DisposeAsync();
        Message next = (await second.ReceiveAsync(TimeSpan.FromSeconds(20), Cancellation))!;
        Assert.Equal(("2", 2), (next.Text, next.DeliveryCount));
    }

    [Fact]
    public async Task A_second_death_in_a_queue_of_the_same_reason_takes_the_place_of_the_first_and_is_counted()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", new QueueOptions { DeadLetter = "other" }, Cancellation);
        await connection.DeclareQueueAsync("other", new QueueOptions { DeadLetter = "q" }, Cancellation);
        await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);
        foreach ((string queue, string reason) in ((string, string)[])[("q", "one"), ("other", "two"), ("q", "three")])
        {
            await TakeAsync(connection, queue, message => message.RejectAsync(reason, cancellation: Cancellation));
        }

        IReadOnlyList<Death> deaths = (await TakeAsync(connection, "other", message => message.AcceptAsync(cancellation: Cancellation))).Deaths;
        Assert.Equal([("q", 2L, "three"), ("other", 1L, "two")], deaths.Select(death => (death.Queue, death.Count, death.Text!)));
        Assert.True(deaths[0].First <= deaths[1].First && deaths[1].First <= deaths[0].Last);
    }

    [Fact]
    public async Task A_message_that_was_delivered_too_often_goes_to_the_dead_letters_that_its_queue_names()
    {
        await using Connection connection = await ConnectAsync();
        QueueInfo declared = await connection.DeclareQueueAsync("q", new QueueOptions { MaxDeliveries = 2, DeadLetter = "morgue" }, Cancellation);
        Assert.Equal((2, "morgue", null, TimeSpan.Zero), (declared.MaxDeliveries, declared.DeadLetter, declared.Backoff, declared.TimeToLive));
        FastQException differs = await Assert.ThrowsAsync<FastQException>(() => connection.DeclareQueueAsync("q", new QueueOptions { DeadLetter = "morgue" }, Cancellation));
        Assert.Equal(RefusalCode.QueueExists, differs.Code);
        Assert.Matches("deliveries is 2, not 20", differs.Message);
        await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);
        foreach ((bool isCounted, int delivery) in ((bool, int)[])[(false, 1), (true, 1), (true, 2)])
        {
            Message message = await TakeAsync(connection, "q", message => message.ReleaseAsync(TimeSpan.Zero, isCounted, cancellation: Cancellation));
            Assert.Equal(delivery, message.DeliveryCount);
        }

        Death death = Assert.Single((await TakeAsync(connection, "morgue", message => message.AcceptAsync(cancellation: Cancellation))).Deaths);
        Assert.Equal((DeathReason.MaxDeliveries, 2, null), (death.Reason, death.Deliveries, death.Text));
        QueueInfo queue = await connection.GetQueueAsync("q", Cancellation);
        Assert.Equal((0L, 1ul, 0ul, 1ul), (queue.Messages, queue.Exhausted, queue.Rejected, queue.DeadLettered));
    }

    [Fact]
    public async Task A_full_queue_refuses_by_name_or_lets_the_oldest_go_as_it_was_told_and_settlements_always_pass()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("strict", new QueueOptions { MaxLength = 2 }, Cancellation);
        await connection.DeclareQueueAsync("latest", new QueueOptions { MaxLength = 2, Overflow = Overflow.DropHead }, Cancellation);
        await connection.DeclareQueueAsync("kept", new QueueOptions { MaxBytes = 2, Overflow = Overflow.DeadLetter, MaxMessageSize = 1 }, Cancellation);
        foreach (string queue in (string[])["strict", "latest", "kept"])
        {
            await connection.PublishAsync(queue, new byte[] { 1 }, cancellation: Cancellation);
            await connection.PublishAsync(queue, new byte[] { 2 }, cancellation: Cancellation);
        }

        FastQException full = await Assert.ThrowsAsync<FastQException>(() => connection.PublishAsync("strict", new byte[] { 3 }, cancellation: Cancellation).AsTask());
        Assert.Equal((RefusalCode.LimitReached, 2ul), (full.Code, full.Value));
        Assert.Contains("max-length", full.Message, StringComparison.Ordinal);
        await connection.PublishAsync("latest", new byte[] { 3 }, cancellation: Cancellation);
        await connection.PublishAsync("kept", new byte[] { 3 }, cancellation: Cancellation);
        FastQException large = await Assert.ThrowsAsync<FastQException>(() => connection.PublishAsync("kept", new byte[2], cancellation: Cancellation).AsTask());
        Assert.Equal((RefusalCode.TooLarge, 1ul), (large.Code, large.Value));
        Assert.Contains("max-message-size", large.Message, StringComparison.Ordinal);

        QueueInfo latest = await connection.GetQueueAsync("latest", Cancellation);
        Assert.Equal((2L, 1ul, 1ul, 0ul), (latest.Ready, latest.Overflowed, latest.Discarded, latest.DeadLettered));
        Assert.Equal(2, (await TakeAsync(connection, "latest", message => message.ReleaseAsync(cancellation: Cancellation))).Body.Span[0]);
        Message dead = await TakeAsync(connection, "kept.dead", message => message.AcceptAsync(cancellation: Cancellation));
        Assert.Equal((1, DeathReason.Overflow), (dead.Body.Span[0], Assert.Single(dead.Deaths).Reason));
        Assert.Equal(1, (await TakeAsync(connection, "strict", message => message.AcceptAsync(cancellation: Cancellation))).Body.Span[0]);
        await connection.PublishAsync("strict", new byte[] { 3 }, cancellation: Cancellation);
    }

    [Fact]
    public async Task A_queue_is_changed_and_paused_under_its_clients()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", new QueueOptions { MaxLength = 1 }, Cancellation);
        await connection.PublishAsync("q", new byte[] { 1 }, cancellation: Cancellation);
        Assert.Equal(RefusalCode.LimitReached, (await Assert.ThrowsAsync<FastQException>(() => connection.PublishAsync("q", new byte[1], cancellation: Cancellation).AsTask())).Code);
        QueueInfo changed = await connection.ChangeQueueAsync("q", new QueueOptions { MaxLength = 2, Lease = TimeSpan.FromSeconds(5) }, Cancellation);
        Assert.Equal((2L, TimeSpan.FromSeconds(5), 20, "q.dead"), (changed.MaxLength, changed.Lease, changed.MaxDeliveries, changed.DeadLetter));
        await connection.PublishAsync("q", new byte[] { 2 }, cancellation: Cancellation);

        await using Subscriber subscriber = await connection.SubscribeAsync("q", new SubscribeOptions { Credit = 1 }, Cancellation);
        Message first = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
        Assert.Equal(PausedWays.In | PausedWays.Out, (await connection.PauseQueueAsync("q", PausedWays.In | PausedWays.Out, Cancellation)).Paused);
        Assert.Equal(RefusalCode.Paused, (await Assert.ThrowsAsync<FastQException>(() => connection.PublishAsync("q", new byte[1], cancellation: Cancellation).AsTask())).Code);
        await first.AcceptAsync(cancellation: Cancellation); // Settlements always pass.
        Assert.Equal((1L, 0L), (await connection.GetQueueAsync("q", Cancellation)) is { } paused ? (paused.Ready, paused.InFlight) : default);
        await connection.PauseQueueAsync("q", PausedWays.None, Cancellation);
        Assert.Equal(2, (await subscriber.ReceiveAsync(Soon, Cancellation))!.Body.Span[0]);
    }

    [Fact]
    public async Task Where_a_queue_has_no_dead_letters_what_dies_is_gone_and_counted()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", new QueueOptions { MaxDeliveries = 1, DeadLetter = "" }, Cancellation);
        await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);
        await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);
        await connection.PublishAsync("q", new byte[1], new PublishOptions { TimeToLive = TimeSpan.FromMilliseconds(1) }, Cancellation);
        await TakeAsync(connection, "q", message => message.RejectAsync("nobody reads this", cancellation: Cancellation));
        await TakeAsync(connection, "q", message => message.ReleaseAsync(cancellation: Cancellation));

        QueueInfo queue = await AwaitQueueAsync(connection, "q", queue => queue.Messages == 0);
        Assert.Equal((1ul, 1ul, 1ul, 0ul, 3ul, ""), (queue.Rejected, queue.Exhausted, queue.Expired, queue.DeadLettered, queue.Discarded, queue.DeadLetter));
        Assert.Single(await connection.ListQueuesAsync(Cancellation));
    }

    [Fact]
    public async Task A_message_expires_by_its_own_time_or_by_its_queues_whichever_is_shorter_and_not_in_the_hands_of_a_consumer()
    {
        await using Connection connection = await ConnectAsync();
        QueueInfo shortLived = await connection.DeclareQueueAsync("short", new QueueOptions { TimeToLive = TimeSpan.FromMilliseconds(400) }, Cancellation);
        Assert.Equal(TimeSpan.FromMilliseconds(400), shortLived.TimeToLive);
        await connection.DeclareQueueAsync("long", new QueueOptions { TimeToLive = TimeSpan.FromHours(1) }, Cancellation);
        await connection.PublishAsync("short", "held"u8.ToArray(), new PublishOptions { Confirm = ConfirmLevel.Written }, Cancellation);
        await using Subscriber subscriber = await connection.SubscribeAsync("short", new SubscribeOptions { Credit = 1 }, Cancellation);
        Message held = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
        await connection.PublishAsync("short", "by its queue"u8.ToArray(), new PublishOptions { TimeToLive = TimeSpan.FromHours(1) }, Cancellation);
        await connection.PublishAsync("long", "by its own time"u8.ToArray(), new PublishOptions { TimeToLive = TimeSpan.FromMilliseconds(1) }, Cancellation);
        await connection.PublishAsync("long", "lives"u8.ToArray(), cancellation: Cancellation);

        foreach ((string queue, string body) in ((string, string)[])[("short", "by its queue"), ("long", "by its own time")])
        {
            Message dead = await TakeAsync(connection, queue + ".dead", message => message.AcceptAsync(cancellation: Cancellation));
            Death death = Assert.Single(dead.Deaths);
            Assert.Equal((body, queue, DeathReason.Expired, 0), (dead.Text, death.Queue, death.Reason, death.Deliveries));
        }

        await held.AcceptAsync(cancellation: Cancellation);
        QueueInfo now = await connection.GetQueueAsync("short", Cancellation);
        Assert.Equal((0L, 1ul, 1ul), (now.Messages, now.Accepted, now.Expired));
        Assert.Equal("lives", (await TakeAsync(connection, "long", message => message.AcceptAsync(cancellation: Cancellation))).Text);
    }

    [Fact]
    public async Task A_message_that_failed_waits_by_the_back_off_of_its_queue_unless_its_release_says_otherwise()
    {
        await using Connection connection = await ConnectAsync();
        Backoff backoff = new(TimeSpan.FromHours(1), 2.5, TimeSpan.FromHours(4));
        Assert.Equal(backoff, (await connection.DeclareQueueAsync("q", new QueueOptions { Backoff = backoff }, Cancellation)).Backoff);
        for (int i = 0; i < 3; i++)
        {
            await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);
        }

        await using (Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation))
        {
            await (await subscriber.ReceiveAsync(Soon, Cancellation))!.ReleaseAsync(cancellation: Cancellation);
            await (await subscriber.ReceiveAsync(Soon, Cancellation))!.ReleaseAsync(TimeSpan.FromMinutes(1), cancellation: Cancellation);
            Assert.NotNull(await subscriber.ReceiveAsync(Soon, Cancellation)); // It comes back with the subscriber's end.
        }

        IReadOnlyList<BrowsedMessage> waiting = await connection.BrowseAsync("q", 10, cancellation: Cancellation);
        Assert.All(waiting, message => Assert.Equal((MessageState.Delayed, 1), (message.State, message.Deliveries)));
        double[] minutes = [.. waiting.Select(message => (message.Due!.Value - DateTimeOffset.UtcNow).TotalMinutes)];
        Assert.InRange(minutes[0], 46, 61);
        Assert.InRange(minutes[1], 0, 2);
        Assert.InRange(minutes[2], 46, 61);
    }

    [Fact]
    public async Task Many_tasks_publish_and_consume_over_one_connection_and_each_message_is_accepted_once()
    {
        const int Producers = 8, Each = 500, Consumers = 4;
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        await using Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation);
        int[] seen = new int[Producers * Each];
        int left = seen.Length;
        using CancellationTokenSource done = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);

        async Task Produce(int producer)
        {
            for (int i = 0; i < Each; i++)
            {
                await connection.PublishAsync("q", BitConverter.GetBytes(producer * Each + i), new PublishOptions { Confirm = ConfirmLevel.Written }, Cancellation);
            }
        }

        async Task Consume()
        {
            try
            {
                await foreach (Message message in subscriber.WithCancellation(done.Token))
                {
                    Interlocked.Increment(ref seen[BitConverter.ToInt32(message.Body.Span)]);
                    await message.AcceptAsync(cancellation: Cancellation);
                    if (Interlocked.Decrement(ref left) == 0)
                    {
                        await done.CancelAsync();
                    }
                }
            }
            catch (OperationCanceledException)
            {
                // All there.
            }
        }

        await Task.WhenAll(Enumerable.Range(0, Producers).Select(Produce).Concat(Enumerable.Range(0, Consumers).Select(_ => Consume())));
        Assert.All(seen, count => Assert.Equal(1, count));
        Assert.Equal(0, (await connection.GetQueueAsync("q", Cancellation)).Messages);
    }

    [Fact]
    public async Task Publishes_that_are_started_one_after_the_other_stay_in_order_when_the_calls_are_more_than_may_wait()
    {
        const int Count = 5000;
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        PublishOptions written = new() { Confirm = ConfirmLevel.Written };
        List<Task> all = [];
        for (int i = 0; i < Count; i++)
        {
            // Awaited where they have to wait, as a sender does that heeds back-pressure.
            Task one = connection.PublishAsync("q", BitConverter.GetBytes(i), written, Cancellation).AsTask();
            all.Add(one);
            if (i % 1000 == 999)
            {
                await one;
            }
        }

        await Task.WhenAll(all);
        await using Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation);
        for (int i = 0; i < Count; i++)
        {
            Message message = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
            Assert.Equal(i, BitConverter.ToInt32(message.Body.Span));
            await message.AcceptAsync(ConfirmLevel.None, Cancellation);
        }
    }

    [Fact]
    public async Task Errors_name_the_refusal_and_the_connection_goes_on()
    {
        await using Connection connection = await ConnectAsync();
        Assert.Equal(RefusalCode.UnknownQueue, (await Assert.ThrowsAsync<FastQException>(() => connection.PublishAsync("none", new byte[1], cancellation: Cancellation).AsTask())).Code);
        Assert.Equal(RefusalCode.UnknownQueue, (await Assert.ThrowsAsync<FastQException>(() => connection.SubscribeAsync("none", cancellation: Cancellation))).Code);
        Assert.Equal(RefusalCode.BadName, (await Assert.ThrowsAsync<FastQException>(() => connection.DeclareQueueAsync("", cancellation: Cancellation))).Code);
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        Assert.Equal(RefusalCode.TooLarge, (await Assert.ThrowsAsync<FastQException>(() => connection.PublishAsync("q", new byte[17 << 20], cancellation: Cancellation).AsTask())).Code);
        PublishOptions emptyKey = new() { Headers = new() { [""] = "" } };
        Assert.Equal(RefusalCode.TooLarge, (await Assert.ThrowsAsync<FastQException>(async () => await connection.PublishAsync("q", new byte[1], emptyKey, Cancellation))).Code);

        await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);
        Assert.Null(connection.Fault);
    }

    [Fact]
    public async Task A_queue_deleted_and_made_anew_refuses_what_was_meant_for_the_old_one_once_and_then_takes_more()
    {
        await using Connection connection = await ConnectAsync();
        await using Connection other = await ConnectAsync();
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);
        await using Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation);
        await other.DeleteQueueAsync("q", Cancellation);
        await other.DeclareQueueAsync("q", cancellation: Cancellation);

        FastQException refused = await Assert.ThrowsAsync<FastQException>(() => connection.PublishAsync("q", new byte[1], cancellation: Cancellation).AsTask());
        Assert.Contains(refused.Code, new[] { RefusalCode.UnknownQueue, RefusalCode.QueueDeleted });
        await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);

        FastQException ended = await Assert.ThrowsAsync<FastQException>(async () =>
        {
            while (await subscriber.ReceiveAsync(Soon, Cancellation) is not null)
            {
            }
        });
        Assert.Equal(RefusalCode.QueueDeleted, ended.Code);
    }

    [Fact]
    public async Task Cancelling_a_wait_loses_no_message_and_leaving_a_loop_neither()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        await using Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation);
        using CancellationTokenSource cancelled = new();
        ValueTask<Message?> waiting = subscriber.ReceiveAsync(Soon, cancelled.Token);
        await cancelled.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting.AsTask());
        Assert.Null(await subscriber.ReceiveAsync(TimeSpan.FromMilliseconds(1), Cancellation));

        for (int i = 0; i < 10; i++)
        {
            await connection.PublishAsync("q", BitConverter.GetBytes(i), cancellation: Cancellation);
        }

        List<int> came = [];
        for (int round = 0; round < 10; round++)
        {
            await foreach (Message message in subscriber.WithCancellation(Cancellation))
            {
                came.Add(BitConverter.ToInt32(message.Body.Span));
                await message.AcceptAsync(cancellation: Cancellation);
                break;
            }
        }

        Assert.Equal(Enumerable.Range(0, 10), came);
    }

    [Fact]
    public async Task A_publish_that_was_cancelled_before_it_was_sent_is_never_sent()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        using CancellationTokenSource cancelled = new();
        await cancelled.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => connection.PublishAsync("q", new byte[1], cancellation: cancelled.Token).AsTask());
        await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);

        Assert.Equal(1, (await connection.GetQueueAsync("q", Cancellation)).Messages);
    }

    [Fact]
    public async Task What_nobody_took_goes_back_uncounted_and_what_was_not_settled_counted()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        for (int i = 0; i < 20; i++)
        {
            await connection.PublishAsync("q", BitConverter.GetBytes(i), new PublishOptions { Confirm = ConfirmLevel.Written }, Cancellation);
        }

        Subscriber first = await connection.SubscribeAsync("q", cancellation: Cancellation);
        for (int i = 0; i < 3; i++)
        {
            Assert.NotNull(await first.ReceiveAsync(Soon, Cancellation));
        }

        await first.DisposeAsync();
        Assert.Null(await first.ReceiveAsync(Soon, Cancellation));
        await using Subscriber second = await connection.SubscribeAsync("q", cancellation: Cancellation);
        for (int i = 0; i < 20; i++)
        {
            Message message = (await second.ReceiveAsync(Soon, Cancellation))!;
            Assert.Equal((i, i < 3 ? 2 : 1, i < 3), (BitConverter.ToInt32(message.Body.Span), message.DeliveryCount, message.IsRedelivered));
        }
    }

    [Fact]
    public async Task A_settle_that_comes_too_late_is_told_so()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);
        await using Subscriber slow = await connection.SubscribeAsync("q", new SubscribeOptions { Credit = 1, Lease = TimeSpan.FromMilliseconds(50) }, Cancellation);
        Message late = (await slow.ReceiveAsync(Soon, Cancellation))!;
        await using Subscriber next = await connection.SubscribeAsync("q", cancellation: Cancellation);
        Message again = (await next.ReceiveAsync(Soon, Cancellation))!;

        Assert.Equal(RefusalCode.LeaseLost, (await Assert.ThrowsAsync<FastQException>(() => late.AcceptAsync(cancellation: Cancellation).AsTask())).Code);
        Assert.True(again.Token > late.Token && again.IsRedelivered && again.DeliveryCount >= 2);
        await again.AcceptAsync(cancellation: Cancellation);
        Assert.Equal(RefusalCode.AlreadySettled, (await Assert.ThrowsAsync<FastQException>(() => again.AcceptAsync(cancellation: Cancellation).AsTask())).Code);
    }

    [Fact]
    public async Task It_rides_out_a_restart_while_calls_and_consumers_wait()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        await using Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation);
        ValueTask<Message?> waiting = subscriber.ReceiveAsync(Soon, Cancellation);
        _broker.Stop();
        Task published = connection.PublishAsync("q", "after"u8.ToArray(), cancellation: Cancellation).AsTask();
        Assert.False(published.IsCompleted);
        _broker.Start();

        await published;
        Message message = (await waiting)!;
        Assert.Equal("after", message.Text);
        await message.AcceptAsync(cancellation: Cancellation);
        Assert.Equal(1, connection.Reconnects);
    }

    [Fact]
    public async Task When_the_broker_does_not_come_back_every_call_and_consumer_hears_of_it()
    {
        await using Connection connection = await ConnectAsync(TimeSpan.Zero);
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        await using Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation);
        ValueTask<Message?> waiting = subscriber.ReceiveAsync(Soon, Cancellation);
        _broker.Stop();

        Assert.Equal(RefusalCode.Disconnected, (await Assert.ThrowsAsync<FastQException>(() => waiting.AsTask())).Code);
        Assert.Equal(RefusalCode.Disconnected, (await Assert.ThrowsAsync<FastQException>(() => connection.PublishAsync("q", new byte[1], cancellation: Cancellation).AsTask())).Code);
        Assert.Equal(RefusalCode.Disconnected, connection.Fault!.Code);
        await connection.DisposeAsync();
        await connection.DisposeAsync();
        _broker.Start();
    }

    [Fact]
    public async Task Disposal_ends_a_wait_for_a_broker_that_is_away()
    {
        Connection connection = await ConnectAsync(Timeout.InfiniteTimeSpan);
        _broker.Stop();
        Task published = connection.PublishAsync("q", new byte[1], cancellation: Cancellation).AsTask();
        await connection.DisposeAsync();

        Assert.Contains((await Assert.ThrowsAsync<FastQException>(() => published)).Code, new[] { RefusalCode.Disconnected, RefusalCode.Closed });
        Assert.Equal(RefusalCode.Closed, (await Assert.ThrowsAsync<FastQException>(() => connection.GetQueueAsync("q", Cancellation))).Code);
        _broker.Start();
    }

    [Fact]
    public async Task Connecting_can_be_cancelled()
    {
        using CancellationTokenSource cancelled = new();
        Task<Connection> connecting = Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket + "-not", Patience = Timeout.InfiniteTimeSpan }, cancellation: cancelled.Token);
        await cancelled.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => connecting);
    }

    [Fact]
    public async Task What_is_opened_while_the_broker_is_away_lets_calls_wait_until_it_comes_or_the_patience_ends()
    {
        _broker.Stop();
        await using (Connection hopeless = Connection.Open(new SessionOptions { Path = _broker.Socket, Patience = TimeSpan.Zero }))
        {
            Assert.Equal(RefusalCode.Disconnected, (await Assert.ThrowsAsync<FastQException>(() => hopeless.GetQueueAsync("q", Cancellation))).Code);
            Assert.Equal(RefusalCode.Disconnected, (await Assert.ThrowsAsync<FastQException>(() => hopeless.Connected)).Code);
        }

        Assert.Equal(RefusalCode.Disconnected, (await Assert.ThrowsAsync<FastQException>(() => ConnectAsync(TimeSpan.Zero))).Code);
        await using Connection connection = Connection.Open(new SessionOptions { Path = _broker.Socket, Patience = Soon });
        Task<QueueInfo> declared = connection.DeclareQueueAsync("q", cancellation: Cancellation);
        Assert.False(connection.Connected.IsCompleted || declared.IsCompleted);
        _broker.Start();
        await connection.Connected.WaitAsync(Soon, Cancellation);
        Assert.Equal("q", (await declared).Name);
    }

    [Fact]
    public async Task Disposal_sends_and_confirms_what_waits()
    {
        Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        Task[] published = [.. Enumerable.Range(0, 500).Select(i => connection.PublishAsync("q", Encoding.UTF8.GetBytes($"{i}"), cancellation: Cancellation).AsTask())];
        await connection.DisposeAsync();
        await connection.DisposeAsync();

        await Task.WhenAll(published);
        await using Connection other = await ConnectAsync();
        Assert.Equal(500, (await other.GetQueueAsync("q", Cancellation)).Messages);
    }

    [Theory]
    [InlineData("by three threads")]
    [InlineData("in a callback")]
    [InlineData("in a loop over messages")]
    [InlineData("while it reconnects")]
    public async Task Disposal_ends_whoever_asks_for_it_and_whenever(string where)
    {
        for (int round = 0; round < 25; round++) // CASES B101
        {
            Task closed = Task.CompletedTask;
            Connection? made = null;
            TaskCompletionSource refused = new(TaskCreationOptions.RunContinuationsAsynchronously);
            Connection connection = made = await Connection.ConnectAsync(
                new SessionOptions { Path = _broker.Socket },
                _ =>
                {
                    closed = made!.DisposeAsync().AsTask();
                    refused.TrySetResult();
                },
                Cancellation);
            await connection.DeclareQueueAsync("q", cancellation: Cancellation);
            await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);
            switch (where)
            {
                case "by three threads":
                    closed = Task.WhenAll(Enumerable.Range(0, 3).Select(_ => Task.Run(async () => await connection.DisposeAsync(), Cancellation)));
                    break;
                case "in a callback":
                    await connection.DeleteQueueAsync("q", Cancellation);
                    await connection.DeclareQueueAsync("gone", cancellation: Cancellation);
                    await connection.PublishAsync("gone", new byte[1], cancellation: Cancellation);
                    await using (Connection other = await ConnectAsync())
                    {
                        await other.DeleteQueueAsync("gone", Cancellation);
                    }

                    await Assert.ThrowsAsync<FastQException>(() => connection.PublishAsync("gone", new byte[1], cancellation: Cancellation).AsTask());
                    await refused.Task.WaitAsync(Soon, Cancellation);
                    break;
                case "in a loop over messages":
                    await using (Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation))
                    {
                        await foreach (Message message in subscriber.WithCancellation(Cancellation))
                        {
                            closed = connection.DisposeAsync().AsTask();
                            await closed.WaitAsync(Soon, Cancellation);
                        }
                    }

                    break;
                default:
                    _broker.Stop();
                    Task published = connection.PublishAsync("q", new byte[1], cancellation: Cancellation).AsTask();
                    closed = connection.DisposeAsync().AsTask();
                    _broker.Start();
                    try
                    {
                        await published.WaitAsync(Soon, Cancellation);
                    }
                    catch (FastQException ended)
                    {
                        Assert.Contains(ended.Code, new[] { RefusalCode.Closed, RefusalCode.Disconnected });
                    }

                    break;
            }

            await closed.WaitAsync(Soon, Cancellation);
        }
    }

    [Fact]
    public async Task Each_way_to_publish_is_refused_with_the_same_code_and_number()
    {
        await using Connection connection = await ConnectAsync(); // CASES B106
        using Session session = _broker.Connect();
        QueueHandle gone = new(session.DeclareQueue("gone").Id, "gone"), never = new(1 << 20, "never");
        await connection.PublishAsync("gone", new byte[1], cancellation: Cancellation); // It knows the queue's number from now on.
        session.DeleteQueue("gone");
        foreach ((QueueHandle queue, RefusalCode code) in ((QueueHandle, RefusalCode)[])[(gone, RefusalCode.QueueDeleted), (never, RefusalCode.UnknownQueue)])
        {
            foreach (ConfirmLevel level in (ConfirmLevel[])[ConfirmLevel.Accepted, ConfirmLevel.Written, ConfirmLevel.Durable])
            {
                ulong first = session.LastNumber + 1;
                FastQException single = Assert.Throws<FastQException>(() => session.WaitConfirmed(session.Publish(queue, new byte[1], level), level, Soon));
                FastQException inPlace = Assert.Throws<FastQException>(() => session.WaitConfirmed(session.Reserve(queue, 1).Commit(level), level, Soon));
                session.Publish(queue, new byte[1], level);
                FastQException batch = Assert.Throws<FastQException>(() => session.Flush(level, Soon));
                Assert.Equal([(code, first), (code, first + 1), (code, first + 2)], ((FastQException[])[single, inPlace, batch]).Select(refusal => (refusal.Code, refusal.Number)));
            }
        }

        Assert.Equal(RefusalCode.QueueDeleted, (await Assert.ThrowsAsync<FastQException>(() => connection.PublishAsync("gone", new byte[1], cancellation: Cancellation).AsTask())).Code);
        Assert.Equal(RefusalCode.UnknownQueue, (await Assert.ThrowsAsync<FastQException>(() => connection.PublishAsync("never", new byte[1], cancellation: Cancellation).AsTask())).Code);
        QueueHandle there = new(session.DeclareQueue("q").Id, "q");
        Assert.Equal(RefusalCode.TooLarge, Assert.Throws<FastQException>(() => session.Publish(there, new byte[(16 << 20) + 1])).Code);
        Assert.Equal(RefusalCode.TooLarge, Assert.Throws<FastQException>(() => session.Reserve(there, (16 << 20) + 1)).Code);
        Assert.Equal(RefusalCode.TooLarge, (await Assert.ThrowsAsync<FastQException>(() => connection.PublishAsync("q", new byte[(16 << 20) + 1], cancellation: Cancellation).AsTask())).Code);
        session.Flush();
        Assert.Equal(0, session.GetQueue("q").Messages);
    }

    /// <summary>Takes the next message of a queue that is there, or is being made, and settles it.</summary>
    private static async Task<Message> TakeAsync(Connection connection, string queue, Func<Message, ValueTask> settle)
    {
        _ = await AwaitQueueAsync(connection, queue, found => found.Ready > 0);
        await using Subscriber subscriber = await connection.SubscribeAsync(queue, new SubscribeOptions { Credit = 1 }, Cancellation);
        Message message = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
        await settle(message);
        return message;
    }

    /// <summary>Asks until the queue is there and as wanted.</summary>
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

    private Task<Connection> ConnectAsync(TimeSpan? patience = null) => Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket, Patience = patience ?? TimeSpan.FromSeconds(20) }, cancellation: Cancellation);
}
