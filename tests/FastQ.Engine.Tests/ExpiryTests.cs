using FastQ.Protocol;
using Xunit;

namespace FastQ.Engine.Tests;

/// <summary>Messages whose time is over: never delivered, wherever they stand; left alone while in flight.</summary>
public sealed class ExpiryTests
{
    private static byte[] Ttl(long milliseconds) => World.Property(PropertyTag.Ttl, milliseconds);

    [Fact]
    public void A_message_expires_when_its_time_is_over_and_not_a_moment_before_wherever_it_stands()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { TtlMilliseconds = 500 });
        world.Publish(producer, queue);
        world.Publish(producer, queue, properties: Ttl(200));
        world.Publish(producer, queue, properties: Ttl(10_000)); // The shorter of the two counts.
        world.Publish(producer, queue, properties: World.Property(PropertyTag.Delay, 300)); // From when it may first be delivered.
        List<(long After, ulong Tag)> died = [];
        for (long passed = 1; passed <= 800; passed++)
        {
            world.Advance(1);
            died.AddRange(world.Bury().Select(one => (passed, one.Message.Tag)));
        }

        Assert.Equal([(200L, 2ul), (500L, 1ul), (500L, 3ul), (800L, 4ul)], died);
        Assert.Equal((0L, 4ul, 4ul), (world.Engine.View(queue).Messages, world.Engine.View(queue).Expired, world.Engine.View(queue).DeadLettered));
        world.Check();
    }

    [Fact]
    public void An_expired_message_is_not_delivered_though_nobody_has_counted_it_yet()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, credit: 2);
        world.Publish(producer, queue, properties: Ttl(50));
        world.Publish(producer, queue);
        world.Publish(producer, queue, properties: Ttl(100));
        world.Publish(producer, queue, properties: Ttl(100));
        world.Publish(producer, queue);
        Assert.Equal([1ul, 2], world.DispatchAll().Select(one => one.Tag));
        world.Settle(producer, subscription, 1, 2, Outcome.Release);
        world.Engine.SetCredit(subscription, 100, ulong.MaxValue);
        world.IntervalMicros += 100_000; // No timer runs.
        Assert.Equal([2ul, 5], world.DispatchAll().Select(one => one.Tag));
        Assert.Equal(3, world.Engine.View(queue).Ready);
        world.Advance(0);
        Assert.Equal((0L, 3L, 3ul), (world.Engine.View(queue).Ready, world.Engine.View(queue).Dying, world.Engine.View(queue).Expired));
        Assert.Empty(world.DispatchAll());
        world.Check();
    }

    [Fact]
    public void In_flight_it_is_left_alone_and_dies_only_when_it_comes_back()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { TtlMilliseconds = 100 });
        uint subscription = world.Subscribe(queue, producer, credit: 3);
        world.PublishMany(producer, queue, 3);
        world.DispatchAll();
        world.Advance(10_000);
        Assert.Equal((3L, 0ul), (world.Engine.View(queue).InFlight, world.Engine.View(queue).Expired));
        Assert.True(world.Engine.NextTimerMicros > world.IntervalMicros); // It is not looked at again and again meanwhile.
        world.Settle(producer, subscription, 1);
        world.Restart(fromSnapshot: true);
        Assert.True(world.Resume(subscription, producer, ulong.MaxValue).IsTaken);
        world.Settle(producer, subscription, 2, 1, Outcome.Release);
        world.Release(producer, subscription, 3, 1, 5000);
        QueueView view = world.Engine.View(queue);
        Assert.Equal((1ul, 2ul, 2L, 0L, 0L), (view.Accepted, view.Expired, view.Dying, view.Ready, view.Delayed));
        Assert.All(world.Bury(), one => Assert.Equal(DeathReason.Expired, one.Message.Reason));
        world.Check();
    }

    [Fact]
    public void What_came_back_in_time_expires_at_its_time_though_it_was_passed_over_in_flight()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, credit: 1);
        world.Publish(producer, queue, properties: Ttl(1000));
        world.Publish(producer, queue, properties: Ttl(2000));
        world.Publish(producer, queue, properties: Ttl(400));
        world.DispatchAll();
        world.Advance(500);
        Assert.Equal([3ul], world.Bury().Select(one => one.Message.Tag)); // What expires next was looked for then: the first, but it is in flight.
        world.Release(producer, subscription, 1, 1, 400);
        world.Advance(499);
        Assert.Equal(2, world.Engine.View(queue).Messages - world.Engine.View(queue).Dying);
        world.Advance(1);
        Assert.Equal([1ul], world.Bury().Select(one => one.Message.Tag));
        world.Advance(1000);
        Assert.Equal([2ul], world.Bury().Select(one => one.Message.Tag));
        world.Check();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Times_survive_a_restart_and_time_while_the_broker_was_down_counts(bool fromSnapshot)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, credit: 1);
        world.Publish(producer, queue, properties: Ttl(3000));
        world.Publish(producer, queue, properties: Ttl(5000));
        world.Publish(producer, queue, properties: Ttl(9000));
        world.DispatchAll();
        world.Settle(producer, subscription, 1, 1, Outcome.Release);
        world.Restart(fromSnapshot);
        world.Advance(5000);
        Assert.Equal([1ul, 2], world.Bury().Select(one => one.Message.Tag));
        world.Advance(3999);
        Assert.Empty(world.Bury());
        world.Advance(1);
        Assert.Equal([3ul], world.Bury().Select(one => one.Message.Tag));
        world.Check();
    }

    [Fact]
    public void A_flood_that_expires_at_once_goes_in_slices_and_others_get_their_turn_between_them()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q"), other = world.Declare("other");
        const int Flood = 3 * (int)QueueEngine.SliceTags - 10;
        for (int i = 0; i < Flood; i++)
        {
            world.Publish(producer, queue, bodyBytes: 1, properties: Ttl(1000));
        }

        world.Publish(producer, other, properties: Ttl(1000));
        Assert.Equal(1, world.Advance(1000, mostRecords: 1));
        Assert.Equal(QueueEngine.SliceTags, world.Engine.View(queue).Expired);
        Assert.Equal(1, world.Advance(0, mostRecords: 1));
        Assert.Equal(1ul, world.Engine.View(other).Expired);
        Assert.Equal(2, world.Advance(0));
        Assert.Equal((ulong)Flood, world.Engine.View(queue).Expired);
        Assert.True(world.Engine.NextTimerMicros > world.IntervalMicros);
        world.Check();
    }

    [Fact]
    public void What_is_purged_or_accepted_or_deleted_does_not_expire_and_its_time_costs_nothing_more()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { TtlMilliseconds = 1000 }), gone = world.Declare("gone", QueueAttributes.Default with { TtlMilliseconds = 1000 });
        long before = world.Engine.StateBytes;
        uint subscription = world.Subscribe(queue, producer, credit: 100);
        world.PublishMany(producer, queue, 100);
        world.DispatchAll();
        world.PublishMany(producer, queue, 1000);
        world.PublishMany(producer, gone, 1000);
        world.Settle(producer, subscription, 1, 100);
        world.Purge(queue);
        world.Delete(gone);
        world.Advance(5000);
        Assert.Equal((0ul, 0L), (world.Engine.View(queue).Expired, world.Engine.View(queue).Messages));
        Assert.InRange(world.Engine.StateBytes, 0, before + 32 * 1024); // A page of the index is kept warm; the times of 2,100 messages would take 84 KB.
        world.Check();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-1)]
    [InlineData(Limits.MaxDelayMilliseconds + 1)]
    public void A_time_that_is_none_is_refused(long milliseconds)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        Assert.Equal(RefusalCode.BadArgument, world.Publish(producer, queue, properties: Ttl(milliseconds)).Code);
        Assert.Equal(RefusalCode.BadArgument, world.Publish(producer, queue, properties: [.. Ttl(5), .. Ttl(5)]).Code);
        world.Check();
    }
}
