using FastQ.Protocol;
using Xunit;
using Outcome = FastQ.Protocol.Outcome;

namespace FastQ.Engine.Tests;

/// <summary>Limits on what flows through a queue: how much is with consumers, how much goes in a while, breakers, paused consumers.</summary>
public sealed class FlowTests
{
    /// <summary>Those that take the most room.</summary>
    internal static FlowLimits Longest { get; } = new()
    {
        MaxInFlight = FlowLimits.Most,
        Rate = new Rate(FlowLimits.Most, RateUnit.Hour),
        Burst = FlowLimits.Most,
        GroupInFlight = FlowLimits.Most,
        GroupRate = new Rate(FlowLimits.Most, RateUnit.Hour),
        GroupBurst = FlowLimits.Most,
        DelayHoldsGroup = true,
        TenantInFlight = FlowLimits.Most,
        TenantRate = new Rate(FlowLimits.Most, RateUnit.Hour),
        TenantBurst = FlowLimits.Most,
        Limit = new string('l', FlowLimits.MostNameBytes),
        Breaker = new BreakerRule(100, FlowLimits.MostWindow),
        BreakerPauseMilliseconds = Limits.MaxDelayMilliseconds,
        PublishRate = new Rate(FlowLimits.Most, RateUnit.Hour),
        PublishBurst = FlowLimits.Most,
    };

    private static QueueAttributes With(FlowLimits limits) => QueueAttributes.Default with { Flow = limits };

    private static FlowLimits InFlight(int most) => FlowLimits.None with { MaxInFlight = most };

    private static FlowLimits At(int count, RateUnit unit, int burst = 0) => FlowLimits.None with { Rate = new Rate(count, unit), Burst = burst };

    private static FlowLimits Breaking(int percent, int window, long pauseMilliseconds = 0) => FlowLimits.None with { Breaker = new BreakerRule(percent, window), BreakerPauseMilliseconds = pauseMilliseconds };

    private static ulong[] TagsOf(IEnumerable<Delivered> delivered) => [.. delivered.Select(one => one.Tag)];

    private static ulong[] Sorted(IEnumerable<Delivered> delivered) => [.. TagsOf(delivered).Order()];

    private static string? WaitsFor(World world, uint queue, ulong tag) => world.Engine.Browse(queue, tag, 1, out _)[0].WaitsFor;

    private static void RestartIf(World world, string restart)
    {
        if (restart.Length > 0)
        {
            world.Restart(fromSnapshot: restart == "snapshot");
        }
    }

    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void No_more_are_in_flight_than_a_queue_allows_whoever_its_consumers_are(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", With(InFlight(3))), free = world.Declare("free");
        uint a = world.Subscribe(queue, producer), b = world.Subscribe(queue, producer), other = world.Subscribe(free, producer);
        world.PublishMany(producer, queue, 10);
        world.PublishMany(producer, free, 10);
        Assert.Equal(3 + 10, world.DispatchAll(most: 2).Count); // One that is at its limit holds up no other.
        Assert.Equal("the queue's max-in-flight of 3", WaitsFor(world, queue, 10));
        Assert.Null(WaitsFor(world, free, 10));
        RestartIf(world, restart);
        foreach (uint subscription in new[] { a, b, other })
        {
            world.Resume(subscription, producer, ulong.MaxValue);
            world.Engine.SetCredit(subscription, 100, ulong.MaxValue);
        }

        Assert.Empty(world.DispatchAll());
        world.Settle(producer, a, 1);
        Assert.Equal(4ul, Assert.Single(world.DispatchAll()).Tag);
        world.Settle(producer, b, 1, 1, Outcome.Release);
        Assert.Single(world.DispatchAll());
        Assert.True(world.Change(queue, With(InFlight(5))).IsTaken);
        Assert.Equal(2, world.DispatchAll().Count);
        Assert.True(world.Change(queue, QueueAttributes.Default).IsTaken);
        Assert.Equal(4, world.DispatchAll().Count);
        world.Check();
    }

    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void So_many_go_in_a_while_and_after_a_rest_no_more_than_the_burst_over_restarts_too(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", With(At(10, RateUnit.Second, burst: 3)));
        uint sub = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 30);
        Assert.Equal(3, world.DispatchAll().Count);
        Assert.Equal(world.IntervalMicros + 100_000, world.Engine.NextTimerMicros); // Nothing polls.
        Assert.Equal("the queue's rate of 10/s: the next may go in 0.1 s", WaitsFor(world, queue, 4));
        world.Advance(99);
        Assert.Empty(world.DispatchAll());
        RestartIf(world, restart);
        world.Resume(sub, producer, ulong.MaxValue);
        world.Engine.SetCredit(sub, 100, ulong.MaxValue);
        Assert.Empty(world.DispatchAll()); // A restart fills nothing.
        world.Advance(1);
        Assert.Equal(4ul, Assert.Single(world.DispatchAll()).Tag);
        world.Advance(3_600_000);
        Assert.Equal(3, world.DispatchAll().Count);
        world.Check();
    }

    [Fact]
    public void A_rate_does_not_drift_over_a_year_of_uneven_steps()
    {
        const int Tokens = 20_000;
        using World world = new(isLogging: false);
        ulong producer = world.Open();
        uint queue = world.Declare("q", With(At(7, RateUnit.Hour, burst: 2)));
        uint sub = world.Subscribe(queue, producer, credit: Tokens + 10);
        world.PublishMany(producer, queue, Tokens + 10, bodyBytes: 1);
        long start = world.IntervalMicros;
        int gone = world.DispatchAll().Count;
        while (gone < Tokens)
        {
            long next = world.Engine.NextTimerMicros;
            world.IntervalMicros = Math.Max(world.IntervalMicros + 1, next); // Each microsecond counts.
            world.Advance(0);
            gone += world.DispatchAll().Count;
        }

        // Each token is due the very microsecond when its share of the hour is over.
        Assert.Equal((start + ((Tokens - 2) * 3_600_000_000L + 6) / 7, Tokens), (world.IntervalMicros, gone));
    }

    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void Queues_that_name_a_limit_share_it_in_turns_and_it_changes_while_it_runs(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        Assert.Equal(Decision.Taken, world.SetLimit("api", InFlight(2)));
        uint[] queues = [.. Enumerable.Range(0, 3).Select(i => world.Declare($"q{i}", With(FlowLimits.None with { Limit = "api" })))];
        uint[] subscriptions = [.. queues.Select(queue => world.Subscribe(queue, producer))];
        foreach (uint queue in queues)
        {
            world.PublishMany(producer, queue, 10);
        }

        List<Delivered> first = world.DispatchAll();
        Assert.Equal(2, first.Count);
        Assert.All(queues, queue => Assert.Equal("limit api's max-in-flight of 2", WaitsFor(world, queue, 4)));
        RestartIf(world, restart);
        for (int i = 0; i < 3; i++)
        {
            world.Resume(subscriptions[i], producer, ulong.MaxValue);
            world.Engine.SetCredit(subscriptions[i], 100, ulong.MaxValue);
        }

        Assert.Empty(world.DispatchAll());
        LimitView view = Assert.Single(world.Engine.SharedLimits);
        Assert.Equal(("api", 2L, 3, 3), (view.Name, view.InFlight, view.Queues, view.Waiting));

        // Whoever gets what comes free: none waits for all of another.
        Queue<Delivered> open = new(first);
        HashSet<uint> served = [];
        for (int i = 0; i < 4; i++)
        {
            Delivered done = open.Dequeue();
            world.Settle(producer, done.Subscription, done.Delivery);
            Delivered next = Assert.Single(world.DispatchAll());
            served.Add(next.Queue);
            open.Enqueue(next);
        }

        Assert.Equal(3, served.Count);
        Assert.True(world.SetLimit("api", InFlight(4), LimitAction.Change).IsTaken);
        Assert.Equal(2, world.DispatchAll().Count);
        Assert.Equal(RefusalCode.Denied, world.SetLimit("api", FlowLimits.None, LimitAction.Delete).Code);
        Assert.True(world.Change(queues[0], QueueAttributes.Default).IsTaken);
        Assert.NotEmpty(world.DispatchAll());
        world.Delete(queues[1]);
        Assert.True(world.Change(queues[2], QueueAttributes.Default).IsTaken);
        Assert.Equal((0L, 0), (world.Engine.SharedLimits[0].InFlight, world.Engine.SharedLimits[0].Queues));
        Assert.True(world.SetLimit("api", FlowLimits.None, LimitAction.Delete).IsTaken);
        Assert.Empty(world.Engine.SharedLimits);
        world.Check();
    }

    [Fact]
    public void A_shared_rate_wakes_those_that_wait_for_it_and_serves_them_in_turns()
    {
        using World world = new();
        ulong producer = world.Open();
        Assert.True(world.SetLimit("api", At(1, RateUnit.Second)).IsTaken);
        uint[] queues = [.. Enumerable.Range(0, 4).Select(i => world.Declare($"q{i}", With(FlowLimits.None with { Limit = "api" })))];
        foreach (uint queue in queues)
        {
            world.Subscribe(queue, producer);
            world.PublishMany(producer, queue, 20);
        }

        List<uint> order = [world.DispatchAll().Single().Queue];
        for (int i = 1; i < 12; i++)
        {
            Assert.Equal(world.IntervalMicros + 1_000_000, world.Engine.NextTimerMicros);
            world.Advance(1000);
            order.Add(Assert.Single(world.DispatchAll()).Queue);
        }

        Assert.All(order.Chunk(4), round => Assert.Equal(4, round.Distinct().Count()));
        world.Delete(queues[0]); // Whoever waits first may go away: the others go on.
        world.Advance(1000);
        Assert.Single(world.DispatchAll());
        world.Advance(1000);
        Assert.Single(world.DispatchAll());
        world.Check();
    }

    [Fact]
    public void A_limit_that_is_not_there_is_not_named_and_one_that_is_there_is_not_made_anew()
    {
        using World world = new();
        byte[] room = new byte[QueueEngine.MaxFactBytes];
        Decision decision = world.Engine.DeclareQueue("q"u8, With(FlowLimits.None with { Limit = "none" }), room, world.Block, out _, out _, out _, out string fault);
        Assert.Equal((RefusalCode.BadArgument, "there is no limit none: make it first, with fastq limit create"), (decision.Code, fault));
        Assert.True(world.SetLimit("api", InFlight(2)).IsTaken);
        Assert.True(world.SetLimit("api", InFlight(2)).IsTaken);
        Assert.Equal(RefusalCode.QueueExists, world.SetLimit("api", InFlight(3)).Code);
        Assert.Equal(RefusalCode.BadArgument, world.SetLimit("other", InFlight(3), LimitAction.Change).Code);
        Assert.Equal(RefusalCode.BadArgument, world.SetLimit("other", FlowLimits.None, LimitAction.Delete).Code);
        Assert.Equal(RefusalCode.BadArgument, world.SetLimit("nothing", FlowLimits.None).Code);
        Assert.Equal(RefusalCode.BadArgument, world.SetLimit("groups", FlowLimits.None with { GroupInFlight = 2 }).Code);
        Assert.Equal(RefusalCode.BadArgument, world.SetLimit(new string('n', FlowLimits.MostNameBytes + 1), InFlight(3)).Code);
        world.Check();
    }

    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void A_tenant_at_its_limit_waits_and_the_others_do_not(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", With(FlowLimits.None with { TenantInFlight = 2 }) with { Fair = true, Priority = true });
        uint sub = world.Subscribe(queue, producer);
        for (int i = 0; i < 6; i++)
        {
            world.Publish(producer, queue, properties: World.Turn(priority: 9, tenant: "loud")); // Its messages are of a higher priority, too.
        }

        for (int i = 0; i < 3; i++)
        {
            world.Publish(producer, queue, properties: World.Turn(tenant: "quiet"));
        }

        Assert.Equal([1, 2, 7, 8], TagsOf(world.DispatchAll()));
        Assert.Equal("its tenant's in-flight limit of 2", WaitsFor(world, queue, 3));
        RestartIf(world, restart);
        world.Resume(sub, producer, ulong.MaxValue);
        world.Engine.SetCredit(sub, 100, ulong.MaxValue);
        Assert.Empty(world.DispatchAll());
        world.Settle(producer, sub, 3);
        Assert.Equal([9], TagsOf(world.DispatchAll()));
        world.Settle(producer, sub, 1, 2);
        Assert.Equal([3, 4], TagsOf(world.DispatchAll()));
        Assert.True(world.Change(queue, QueueAttributes.Default with { Fair = true, Priority = true }).IsTaken);
        Assert.Equal([5, 6], TagsOf(world.DispatchAll()));
        world.Check();
    }

    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void Each_tenant_has_a_rate_of_its_own(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", With(FlowLimits.None with { TenantRate = new Rate(6, RateUnit.Minute), TenantBurst = 2 }) with { Fair = true });
        uint sub = world.Subscribe(queue, producer);
        for (int i = 0; i < 10; i++)
        {
            world.Publish(producer, queue, properties: World.Turn(tenant: i < 5 ? "a" : "b"));
        }

        Assert.Equal([1, 2, 6, 7], Sorted(world.DispatchAll()));
        world.Advance(9_999);
        Assert.Empty(world.DispatchAll());
        Assert.Equal("its tenant's rate of 6/m: the next may go in 0.001 s", WaitsFor(world, queue, 3));
        RestartIf(world, restart);
        world.Resume(sub, producer, ulong.MaxValue);
        world.Engine.SetCredit(sub, 100, ulong.MaxValue);
        Assert.Empty(world.DispatchAll());
        Assert.InRange(world.Engine.NextTimerMicros, 0, world.IntervalMicros + 1000);
        world.Advance(1);
        Assert.Equal([3, 8], Sorted(world.DispatchAll()));
        world.Check();
        world.Advance(60_000); // Full again: there is nothing to know of them.
        world.Settle(producer, sub, 1, 6);
        Assert.Equal(4, world.DispatchAll().Count);
        world.Check();
    }

    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void Each_group_has_a_rate_of_its_own_and_one_at_its_limit_holds_up_no_other(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", With(FlowLimits.None with { GroupRate = new Rate(6, RateUnit.Minute), GroupBurst = 2 }) with { Fifo = true });
        uint sub = world.Subscribe(queue, producer);
        for (int i = 0; i < 9; i++)
        {
            world.Publish(producer, queue, properties: World.Turn(group: $"g{i % 3}"));
        }

        ulong delivery = 1;
        for (int round = 0; round < 2; round++, delivery += 3)
        {
            Assert.Equal([1ul + (3 * (ulong)round), 2ul + (3 * (ulong)round), 3ul + (3 * (ulong)round)], Sorted(world.DispatchAll()));
            world.Settle(producer, sub, delivery, 3);
        }

        world.Advance(9_999);
        Assert.Empty(world.DispatchAll());
        world.Publish(producer, queue, properties: World.Turn(group: "fresh"));
        Assert.Equal([10], Sorted(world.DispatchAll()));
        Assert.Equal("its group's rate of 6/m: the next may go in 0.001 s", WaitsFor(world, queue, 7));
        RestartIf(world, restart);
        world.Resume(sub, producer, ulong.MaxValue);
        world.Engine.SetCredit(sub, 100, ulong.MaxValue);
        world.Publish(producer, queue, properties: World.Turn(group: "fresh")); // Behind the one in hand.
        Assert.Empty(world.DispatchAll());
        Assert.InRange(world.Engine.NextTimerMicros, 0, world.IntervalMicros + 1000);
        world.Advance(1);
        Assert.Equal([7, 8, 9], Sorted(world.DispatchAll()));
        world.Check();
        world.Change(queue, With(FlowLimits.None) with { Fifo = true }); // What was barred is so no more.
        world.Settle(producer, sub, 7, 4);
        Assert.Equal([11], Sorted(world.DispatchAll()));
        world.Check();
    }

    [Fact]
    public void Rows_of_tenants_are_charged_and_go_when_they_are_full_again()
    {
        const int Count = 5000;
        using World world = new(isLogging: false);
        ulong producer = world.Open();
        uint queue = world.Declare("q", With(FlowLimits.None with { TenantRate = new Rate(1, RateUnit.Second) }) with { Fair = true, DeadLetter = "" });
        uint sub = world.Subscribe(queue, producer, credit: Count);
        long before = world.Engine.StateBytes;
        for (int i = 0; i < Count; i++)
        {
            world.Publish(producer, queue, properties: World.Turn(tenant: $"t{i}"));
        }

        Assert.Equal(Count, world.DispatchAll().Count);
        world.Settle(producer, sub, 1, Count);
        Assert.InRange(world.Engine.StateBytes - before, Count * 40, Count * 200);
        world.Advance(2000);
        world.Publish(producer, queue, properties: World.Turn(tenant: "last"));
        Assert.Single(world.DispatchAll());
        Assert.InRange(world.Engine.StateBytes - before, 0, 32 * 1024);
    }

    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void Several_of_one_group_go_to_the_consumer_that_has_some_and_to_no_other(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", With(FlowLimits.None with { GroupInFlight = 3 }) with { Fifo = true });
        uint a = world.Subscribe(queue, producer, credit: 2), b = world.Subscribe(queue, producer, credit: 1);
        for (int i = 0; i < 8; i++)
        {
            world.Publish(producer, queue, properties: World.Turn(group: i < 6 ? "g" : "h"));
        }

        Delivered[] first = [.. world.DispatchAll()];
        Assert.Equal([1, 2, 7], Sorted(first));
        uint ofG = first.Single(one => one.Tag == 1).Subscription;
        Assert.Equal(ofG, first.Single(one => one.Tag == 2).Subscription);
        Assert.NotEqual(ofG, first.Single(one => one.Tag == 7).Subscription);
        uint ofH = ofG == a ? b : a;
        RestartIf(world, restart);
        foreach (uint subscription in new[] { a, b })
        {
            world.Resume(subscription, producer, ulong.MaxValue);
            world.Engine.SetCredit(subscription, 100, ulong.MaxValue);
        }

        List<Delivered> more = world.DispatchAll();
        Assert.Equal([3, 8], Sorted(more));
        Assert.Equal([ofG, ofH], more.OrderBy(one => one.Tag).Select(one => one.Subscription));
        world.Settle(producer, ofG, 2);
        Assert.Equal((4ul, ofG), world.DispatchAll().Select(one => (one.Tag, one.Subscription)).Single());

        // What came back alone is first again when the others are back: order holds at redelivery.
        world.Settle(producer, ofG, 1, 1, Outcome.Release);
        Assert.Empty(world.DispatchAll());
        world.Settle(producer, ofG, 3, 1, Outcome.Release);
        Assert.Empty(world.DispatchAll());
        world.Settle(producer, ofG, 4);
        Assert.Equal([1, 3, 5], TagsOf(world.DispatchAll()));
        world.Check();
    }

    [Fact]
    public void A_group_goes_to_another_consumer_when_the_one_that_had_some_is_gone()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", With(FlowLimits.None with { GroupInFlight = 2 }) with { Fifo = true });
        uint a = world.Subscribe(queue, producer);
        for (int i = 0; i < 4; i++)
        {
            world.Publish(producer, queue, properties: World.Turn(group: "g"));
        }

        Assert.Equal([1, 2], TagsOf(world.DispatchAll()));
        uint b = world.Subscribe(queue, producer);
        Assert.Empty(world.DispatchAll());
        world.Unsubscribe(a, producer, 1);
        Assert.Equal([(1ul, b), (2ul, b)], world.DispatchAll().Select(one => (one.Tag, one.Subscription)));
        Assert.True(world.Change(queue, QueueAttributes.Default with { Fifo = true }).IsTaken);
        world.Settle(producer, b, 1);
        Assert.Empty(world.DispatchAll());
        world.Settle(producer, b, 2);
        Assert.Equal([3], TagsOf(world.DispatchAll()));
        world.Check();
    }

    [Theory]
    [InlineData(false, "")]
    [InlineData(true, "")]
    [InlineData(true, "records")]
    [InlineData(true, "snapshot")]
    public void A_delayed_message_holds_those_behind_it_in_its_group_where_the_queue_says_so(bool holds, string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", With(FlowLimits.None with { DelayHoldsGroup = holds }) with { Fifo = true });
        uint sub = world.Subscribe(queue, producer);
        world.Publish(producer, queue, properties: World.Turn(group: "g"));
        world.Publish(producer, queue, properties: [.. World.Turn(group: "g"), .. World.Property(PropertyTag.Delay, 1000)]);
        world.Publish(producer, queue, properties: World.Turn(group: "g"));
        world.Publish(producer, queue, properties: World.Turn(group: "h"));
        RestartIf(world, restart);
        world.Resume(sub, producer, ulong.MaxValue);
        world.Engine.SetCredit(sub, 100, ulong.MaxValue);
        Assert.Equal([1, 4], Sorted(world.DispatchAll())); // What stands before it goes.
        world.Settle(producer, sub, 1, 2);
        Assert.Equal(holds ? [] : [3], TagsOf(world.DispatchAll()));
        if (holds)
        {
            Assert.True(world.Engine.Browse(queue, 3, 1, out _)[0].IsBehind);
        }
        else
        {
            world.Settle(producer, sub, 3);
        }

        world.Advance(1000);
        Assert.Equal([2], TagsOf(world.DispatchAll()));
        world.Check();
    }

    [Fact]
    public void Whether_what_is_delayed_holds_its_group_may_change_while_it_is()
    {
        using World world = new();
        ulong producer = world.Open();
        QueueAttributes holds = With(FlowLimits.None with { DelayHoldsGroup = true }) with { Fifo = true };
        uint queue = world.Declare("q", holds);
        world.Subscribe(queue, producer);
        world.Publish(producer, queue, properties: [.. World.Turn(group: "g"), .. World.Property(PropertyTag.Delay, 1000)]);
        world.Publish(producer, queue, properties: World.Turn(group: "g"));
        Assert.Empty(world.DispatchAll());
        Assert.True(world.Change(queue, QueueAttributes.Default with { Fifo = true }).IsTaken);
        Assert.Equal([2], TagsOf(world.DispatchAll()));
        world.Check();
    }

    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void A_queue_refuses_what_is_published_faster_than_it_allows_by_name_and_value(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", With(FlowLimits.None with { PublishRate = new Rate(2, RateUnit.Second) }));
        Assert.True(world.Publish(producer, queue).IsTaken);
        Assert.True(world.Publish(producer, queue, properties: World.Same("x")).IsTaken);
        Assert.Equal(Decision.Refuse(RefusalCode.LimitReached, 2, "The queue's publish-rate (2/s)"), world.Publish(producer, queue));
        world.IntervalMicros += 499_999;
        RestartIf(world, restart);
        Assert.False(world.Publish(producer, queue).IsTaken);
        world.IntervalMicros += 1;
        Assert.True(world.Publish(producer, queue).IsTaken);
        Assert.False(world.Publish(producer, queue).IsTaken);
        world.Check();
    }

    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void A_breaker_stops_a_queue_whose_messages_fail_and_one_alone_is_tried_after_its_pause(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", With(Breaking(50, 10, pauseMilliseconds: 1000)));
        uint sub = world.Subscribe(queue, producer, credit: 12);
        world.PublishMany(producer, queue, 100);
        world.DispatchAll();
        world.Settle(producer, sub, 1, 5);
        world.Settle(producer, sub, 6, 4, Outcome.Reject);
        Assert.Equal(PausedWays.None, world.Engine.View(queue).Paused);
        world.Settle(producer, sub, 10, 1, Outcome.Reject);
        Assert.Equal(PausedWays.Breaker, world.Engine.View(queue).Paused);
        Assert.Equal(2, world.Engine.View(queue).InFlight);
        Assert.Empty(world.DispatchAll());
        Assert.Equal("the queue's breaker (50%/10): one message is tried in 1 s", WaitsFor(world, queue, 50));
        world.Settle(producer, sub, 11, 1); // What consumers hold stays theirs, and closes nothing.
        world.Advance(999);
        RestartIf(world, restart);
        world.Resume(sub, producer, ulong.MaxValue);
        world.Engine.SetCredit(sub, 12, ulong.MaxValue);
        Assert.Empty(world.DispatchAll());
        Assert.InRange(world.Engine.NextTimerMicros, 0, world.IntervalMicros + 1000);
        world.Advance(1);
        Delivered trial = Assert.Single(world.DispatchAll());
        Assert.Equal("the queue's breaker: another message is being tried alone", WaitsFor(world, queue, 50));
        world.Settle(producer, sub, 12, 1); // Another one's end says nothing of it.
        RestartIf(world, restart);
        world.Resume(sub, producer, ulong.MaxValue);
        world.Engine.SetCredit(sub, 12, ulong.MaxValue);
        Assert.Empty(world.DispatchAll());
        world.Settle(producer, sub, trial.Delivery, 1, Outcome.Release);
        trial = Assert.Single(world.DispatchAll()); // Back without a verdict: it is tried again.
        world.Settle(producer, sub, trial.Delivery, 1, Outcome.Reject);
        world.Advance(999);
        Assert.Empty(world.DispatchAll());
        world.Advance(1);
        trial = Assert.Single(world.DispatchAll());
        world.Settle(producer, sub, trial.Delivery);
        Assert.Equal(PausedWays.None, world.Engine.View(queue).Paused);
        Assert.Equal(12, world.DispatchAll().Count);
        world.Check();
    }

    [Fact]
    public void A_breaker_without_a_pause_stays_until_the_queue_is_resumed_and_counts_deaths_and_looks_back_no_further_than_its_window()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", With(Breaking(100, 3)) with { MaxDeliveries = 1 });
        uint sub = world.Subscribe(queue, producer, credit: 1);
        world.PublishMany(producer, queue, 20);
        void Work(Outcome outcome) => world.Settle(producer, sub, Assert.Single(world.DispatchAll()).Delivery, 1, outcome);
        Work(Outcome.Release);
        Work(Outcome.Reject);
        Work(Outcome.Accept);
        Work(Outcome.Release);
        Work(Outcome.Release);
        Assert.Equal(PausedWays.None, world.Engine.View(queue).Paused);
        Work(Outcome.Reject);
        Assert.Equal(PausedWays.Breaker, world.Engine.View(queue).Paused);
        world.Advance(1_000_000);
        Assert.Empty(world.DispatchAll());
        Assert.Equal("the queue's breaker (100%/3), till the queue is resumed", WaitsFor(world, queue, 15));
        Assert.True(world.Pause(queue, PausedWays.Breaker | PausedWays.In).IsTaken); // Another way is another matter.
        Assert.Empty(world.DispatchAll());
        Assert.True(world.Pause(queue, PausedWays.None).IsTaken);
        Assert.Equal(RefusalCode.BadArgument, world.Pause(queue, PausedWays.Breaker).Code); // It trips by itself alone.
        Work(Outcome.Reject);
        Work(Outcome.Reject);
        Assert.Equal(PausedWays.None, world.Engine.View(queue).Paused); // It looks back no further than the resumption.
        Work(Outcome.Reject);
        Assert.True(world.Change(queue, QueueAttributes.Default with { MaxDeliveries = 1 }).IsTaken); // Without a breaker nothing is broken.
        Assert.Single(world.DispatchAll());
        world.Check();
    }

    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void A_paused_consumer_gets_nothing_over_restarts_and_settles_what_it_holds(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q"), other = world.Declare("other");
        uint a = world.Subscribe(queue, producer, credit: 2), b = world.Subscribe(queue, producer, credit: 2);
        world.PublishMany(producer, queue, 20);
        world.DispatchAll(most: 1);
        Assert.True(world.PauseSubscription(queue, a, isPaused: true).IsTaken);
        RestartIf(world, restart);
        foreach (uint subscription in new[] { a, b })
        {
            world.Resume(subscription, producer, ulong.MaxValue);
            world.Engine.SetCredit(subscription, 2, ulong.MaxValue);
        }

        Assert.True(world.Settle(producer, a, 1, 2).IsTaken);
        Assert.Empty(world.Engine.LateRanges.ToArray());
        world.Settle(producer, b, 1, 2);
        Assert.All(world.DispatchAll(), one => Assert.Equal(b, one.Subscription));
        Assert.Equal([true, false], world.Engine.SubscriptionsOf(queue).OrderBy(one => one.Id).Select(one => one.IsPaused));
        Assert.Equal(RefusalCode.UnknownSubscription, world.PauseSubscription(other, a, isPaused: false).Code);
        Assert.True(world.PauseSubscription(queue, a, isPaused: false).IsTaken);
        Assert.All(world.DispatchAll(), one => Assert.Equal(a, one.Subscription));
        world.Check();
    }

    [Fact]
    public void A_paused_consumer_is_not_waited_for_by_last_deliveries_and_not_the_active_one()
    {
        using World world = new();
        ulong producer = world.Open();
        uint last = world.Declare("last", QueueAttributes.Default with { MaxDeliveries = 2 }), single = world.Declare("single", QueueAttributes.Default with { SingleActive = true });
        uint a = world.Subscribe(last, producer, credit: 2), b = world.Subscribe(last, producer, credit: 2);
        world.PublishMany(producer, last, 4);
        world.DispatchAll(most: 1);
        world.PauseSubscription(last, a, isPaused: true);
        world.Settle(producer, b, 1, 1, Outcome.Release);
        Assert.Empty(world.DispatchAll());
        world.Settle(producer, b, 2);
        Assert.Equal(b, Assert.Single(world.DispatchAll()).Subscription);

        uint c = world.Subscribe(single, producer, credit: 1), d = world.Subscribe(single, producer, credit: 1);
        world.PublishMany(producer, single, 4);
        Assert.Equal(c, Assert.Single(world.DispatchAll()).Subscription);
        world.PauseSubscription(single, c, isPaused: true);
        Assert.Empty(world.DispatchAll());
        world.Settle(producer, c, 1);
        Assert.Equal(d, Assert.Single(world.DispatchAll()).Subscription);
        world.Check();
    }

    // What is moved or dies within the broker is no publish, and a purge gives back nothing that was taken.
    [Fact]
    public void Dead_letters_are_not_held_back_by_a_publish_rate()
    {
        using World world = new();
        ulong producer = world.Open();
        uint dead = world.Declare("dead", With(FlowLimits.None with { PublishRate = new Rate(1, RateUnit.Hour) }) with { DeadLetter = "" });
        uint queue = world.Declare("q", QueueAttributes.Default with { DeadLetter = "dead" });
        uint sub = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 5);
        world.DispatchAll();
        world.Settle(producer, sub, 1, 5, Outcome.Reject);
        Assert.Equal(5, world.Bury().Count);
        Assert.True(world.Publish(producer, dead).IsTaken);
        Assert.False(world.Publish(producer, dead).IsTaken);
        world.Check();
    }

    [Theory]
    [InlineData("deleted")]
    [InlineData("moved")]
    [InlineData("expired")]
    [InlineData("purged")]
    public void A_group_goes_on_when_the_message_that_held_it_is_gone(string how)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { Fifo = true, BackoffFirstMilliseconds = 60_000, DeadLetter = "" });
        uint other = world.Declare("other");
        uint sub = world.Subscribe(queue, producer);
        byte[] turn = World.Turn(group: "g");
        world.Publish(producer, queue, properties: how == "expired" ? [.. turn, .. World.Property(PropertyTag.Ttl, 1000)] : turn);
        world.Publish(producer, queue, properties: turn);
        world.Settle(producer, sub, Assert.Single(world.DispatchAll()).Delivery, 1, Outcome.Release);
        Assert.Empty(world.DispatchAll()); // It waits for its retry.
        switch (how)
        {
            case "deleted":
                Assert.True(world.DeleteMessage(queue, 1).IsTaken);
                break;
            case "moved":
                Assert.True(world.StartSweep(queue, new SweepView(SweepAction.Move, 1, 2, "other", "", 0, default, 0, 0)).IsTaken);
                Assert.Single(world.Sweep());
                Assert.Equal(1ul, world.Engine.View(other).Published);
                break;
            case "expired":
                world.Advance(1000);
                break;
            default:
                world.Purge(queue);
                world.Publish(producer, queue, properties: turn);
                break;
        }

        Assert.Equal(how == "purged" ? 3ul : 2ul, Assert.Single(world.DispatchAll()).Tag);
        world.Check();
    }

    [Fact]
    public void A_group_goes_on_when_the_message_that_held_it_was_pushed_out()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", With(FlowLimits.None with { DelayHoldsGroup = true }) with { Fifo = true, MaxLength = 1, Overflow = Overflow.DropHead });
        world.Subscribe(queue, producer);
        world.Publish(producer, queue, properties: [.. World.Turn(group: "g"), .. World.Property(PropertyTag.Delay, 1000)]);
        world.Publish(producer, queue, properties: [.. World.Turn(group: "g"), .. World.Property(PropertyTag.Delay, 1001)]);
        Assert.Equal(1, world.PushOut());
        Assert.Equal(1ul, world.Engine.View(queue).Overflowed);
        world.Advance(1001);
        Assert.Equal(2ul, Assert.Single(world.DispatchAll()).Tag);
        world.Check();
    }

    [Fact]
    public void Whatever_happens_limits_hold_and_a_replay_gives_the_same_state()
    {
        for (int seed = 1; seed <= 20; seed++)
        {
            RunWildly(seed);
        }
    }

    private static void RunWildly(int seed)
    {
        Random random = new(seed);
        using World world = new();
        ulong producer = world.Open();
        int shared = random.Next(1, 5), own = random.Next(1, 5), group = random.Next(1, 4), tenant = random.Next(1, 4);
        world.SetLimit("api", InFlight(shared) with { Rate = new Rate(random.Next(1, 50), RateUnit.Second), Burst = random.Next(1, 4) });
        FlowLimits limits = InFlight(own) with { Limit = "api", GroupInFlight = group, TenantInFlight = tenant, DelayHoldsGroup = random.Next(2) == 0, TenantRate = random.Next(2) == 0 ? new Rate(random.Next(1, 90), RateUnit.Minute) : Rate.None, GroupRate = random.Next(2) == 0 ? new Rate(random.Next(1, 90), RateUnit.Minute) : Rate.None, Breaker = random.Next(2) == 0 ? new BreakerRule(60, 5) : BreakerRule.Off, BreakerPauseMilliseconds = 0 };
        limits = limits with { BreakerPauseMilliseconds = limits.Breaker.Window > 0 ? 700 : 0 };
        QueueAttributes attributes = QueueAttributes.Default with { Fifo = true, Fair = true, Priority = random.Next(2) == 0, MaxDeliveries = random.Next(1, 5), BackoffFirstMilliseconds = random.Next(2) * 300, DeadLetter = "", Flow = limits };
        uint[] queues = [world.Declare("a", attributes), world.Declare("b", attributes with { Flow = FlowLimits.None with { Limit = "api" } })];
        List<uint> subscriptions = [.. queues.Select(queue => world.Subscribe(queue, producer, credit: 4)), .. queues.Select(queue => world.Subscribe(queue, producer, credit: 3))];
        Dictionary<(uint, ulong), (uint Queue, ulong Tag)> open = [];
        for (int step = 0; step < 300; step++)
        {
            switch (random.Next(10))
            {
                case < 4:
                    byte[] turn = World.Turn(random.Next(3), $"g{random.Next(3)}", $"t{random.Next(3)}");
                    world.Publish(producer, queues[random.Next(2)], properties: random.Next(5) == 0 ? [.. turn, .. World.Property(PropertyTag.Delay, random.Next(1, 500))] : turn);
                    break;
                case < 7 when open.Count > 0:
                    (uint subscription, ulong delivery) = open.Keys.ElementAt(random.Next(open.Count));
                    world.Settle(producer, subscription, delivery, 1, (Outcome)random.Next(3));
                    open.Remove((subscription, delivery));
                    break;
                case 7:
                    world.Advance(random.Next(1, 400));
                    break;
                case 8 when random.Next(6) == 0:
                    world.Restart(fromSnapshot: random.Next(2) == 0);
                    subscriptions.ForEach(one => world.Resume(one, producer, ulong.MaxValue));
                    subscriptions.ForEach(one => world.Engine.SetCredit(one, 4, ulong.MaxValue));
                    break;
                case 8 when random.Next(6) == 0:
                    world.Purge(queues[random.Next(2)]);
                    break;
                case 9 when random.Next(8) == 0:
                    limits = limits with { GroupInFlight = group = random.Next(1, 4), TenantInFlight = tenant = random.Next(tenant, 5) };
                    world.Change(queues[0], attributes with { Flow = limits });
                    break;
                case 9 when random.Next(8) == 0:
                    world.Pause(queues[0], PausedWays.None);
                    break;
            }

            foreach (Delivered one in world.DispatchAll(most: random.Next(1, 5)))
            {
                open[(one.Subscription, one.Delivery)] = (one.Queue, one.Tag);
                Assert.InRange(world.Engine.View(queues[0]).InFlight, 0, own);
                Assert.InRange(open.Count, 0, shared);
            }

            world.Check();
        }
    }

    [Theory]
    [InlineData("max-in-flight")]
    [InlineData("group-in-flight, group-rate and delay-holds-group need fifo")]
    [InlineData("limits of tenants need fair")]
    [InlineData("burst needs a rate")]
    [InlineData("tenant-burst needs a tenant-rate")]
    [InlineData("breaker must be")]
    [InlineData("breaker-pause needs a breaker")]
    [InlineData("limit must be a name")]
    public void Limits_that_contradict_themselves_are_named(string fault)
    {
        FlowLimits limits = fault switch
        {
            "max-in-flight" => InFlight(FlowLimits.Most + 1),
            "group-in-flight, group-rate and delay-holds-group need fifo" => FlowLimits.None with { GroupRate = new Rate(2, RateUnit.Second) },
            "limits of tenants need fair" => FlowLimits.None with { TenantInFlight = 2 },
            "burst needs a rate" => FlowLimits.None with { Burst = 2 },
            "tenant-burst needs a tenant-rate" => FlowLimits.None with { TenantBurst = 2 },
            "breaker must be" => Breaking(101, 5),
            "breaker-pause needs a breaker" => FlowLimits.None with { BreakerPauseMilliseconds = 5 },
            _ => FlowLimits.None with { Limit = "a\nb" },
        };
        Assert.StartsWith(fault, With(limits).For("q").Fault("q"), StringComparison.Ordinal);
    }

    [Fact]
    public void Limits_are_read_as_they_were_written_and_what_is_cut_short_is_a_fault()
    {
        FlowLimits all = Longest;
        FieldWriter fields = new(new byte[200]);
        all.Write(ref fields);
        Assert.True(FieldReader.TryBytes(fields.Written, FieldTag.Flow, out ReadOnlySpan<byte> value));
        Assert.Equal(all, FlowLimits.None.With(value));
        for (int length = 0; length < value.Length; length++)
        {
            FlowLimits part = FlowLimits.None.With(value[..length]);
            Assert.True(part.Fault() is not null || part != all);
        }

        Assert.NotNull(FlowLimits.None.With([1]).Fault());
        Assert.NotNull(FlowLimits.None.With([9, 200, 1, 65]).Fault());
        Assert.NotNull(FlowLimits.None.With([1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]).Fault());
        Assert.Equal(FlowLimits.None, FlowLimits.None.With([77, 5])); // A key of a later version is skipped.
    }
}
