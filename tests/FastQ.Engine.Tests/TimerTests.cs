using FastQ.Protocol;
using Xunit;

namespace FastQ.Engine.Tests;

/// <summary>What happens by itself is looked for piece by piece: nothing is passed over, and whoever asks when to call again is told at once where a piece is left.</summary>
public sealed class TimerTests
{
    private const long Hour = 3_600_000, Day = 24 * Hour;

    [Fact]
    public void A_walk_over_many_producers_goes_on_where_its_slice_ended()
    {
        using World world = new();
        const int Renewed = (int)QueueEngine.SliceTags, Left = 100;
        ulong[] producers = [.. Enumerable.Range(0, Renewed + Left).Select(_ => world.Open())];
        Array.ForEach(producers, producer => world.Engine.DetachProducer(producer));
        Assert.Equal(0, world.Advance(6 * Day));
        Assert.Equal(world.IntervalMicros, world.Engine.NextTimerMicros);
        Assert.Equal(0, world.Advance(0));
        Assert.True(world.Engine.NextTimerMicros > world.IntervalMicros);
        foreach (ulong producer in producers[..Renewed])
        {
            world.Begin(producer); // A batch of its own: it is seen.
        }

        Assert.Equal(0, world.Advance(Day)); // A slice, in which all were seen a day ago.
        Assert.True(world.Engine.ViewProducer(producers[^1]).IsKnown);
        Assert.Equal(world.IntervalMicros, world.Engine.NextTimerMicros);
        Assert.Equal(Left, world.Advance(0));
        Assert.True(world.Engine.NextTimerMicros > world.IntervalMicros);
        Assert.All(producers, producer => Assert.Equal(producer <= Renewed, world.Engine.ViewProducer(producer).IsKnown));
        world.Check();
    }

    [Fact]
    public void A_producer_that_stays_hides_none_of_those_after_it()
    {
        using World world = new();
        ulong stays = world.Open(), second = world.Open();
        world.Engine.DetachProducer(second);
        world.Advance(4 * Day);
        ulong third = world.Open();
        world.Engine.DetachProducer(third);
        world.Advance(3 * Day);
        Assert.Equal((true, false, true), (IsKnown(stays), IsKnown(second), IsKnown(third)));
        world.Advance(4 * Day);
        Assert.Equal((true, false, false), (IsKnown(stays), IsKnown(second), IsKnown(third)));

        // It is still looked at: it was renewed while its session was there, and is forgotten in its own time.
        world.Engine.DetachProducer(stays);
        world.Advance(6 * Day);
        Assert.True(IsKnown(stays));
        world.Advance(2 * Day);
        Assert.False(IsKnown(stays));
        world.Check();

        bool IsKnown(ulong producer) => world.Engine.ViewProducer(producer).IsKnown;
    }

    [Fact]
    public void A_producer_is_not_forgotten_while_a_subscription_of_its_holds_something()
    {
        using World world = new(new EngineLimits { ProducerRetentionMicros = Hour * 1000 });
        ulong sender = world.Open(), holder = world.Open(instance: 2);
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, holder, leaseMilliseconds: 2 * Day);
        world.Publish(sender, queue);
        world.DispatchAll();
        world.Detach(subscription, firstNotTaken: 2);
        world.Engine.DetachProducer(holder);
        world.Advance(Day);
        Assert.True(world.Engine.ViewProducer(holder).IsKnown);
        Assert.Equal(1, world.Engine.View(queue).InFlight);
        world.Advance(Day);
        Assert.False(world.Engine.IsSubscription(subscription));
        Assert.False(world.Engine.ViewProducer(holder).IsKnown);
        Assert.Equal(1, world.Engine.View(queue).Ready);
        world.Check();
    }

    [Fact]
    public void A_walk_over_leases_that_is_under_way_is_to_be_gone_on_with_at_once()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, leaseMilliseconds: 1000);
        world.PublishMany(producer, queue, 3);
        world.DispatchAll();
        world.Extend(producer, subscription, 2, 1, 60_000);
        Assert.Equal(1, world.Advance(1000, mostRecords: 1));
        Assert.Equal((2L, world.IntervalMicros), (world.Engine.View(queue).InFlight, world.Engine.NextTimerMicros));
        Assert.Equal(1, world.Advance(0));
        Assert.Equal(1, world.Engine.View(queue).InFlight);
        Assert.True(world.Engine.NextTimerMicros > world.IntervalMicros);
        world.Check();
    }

    [Fact]
    public void To_hold_back_a_subscription_that_has_ended_changes_nothing()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint ended = world.Subscribe(queue, producer);
        world.Unsubscribe(ended, producer, 1);
        world.PublishMany(producer, queue, 2);
        string before = World.DumpOf(world.Engine);
        world.Engine.Hold(ended, true);
        world.Engine.Hold(ended, false);
        Assert.Equal(before, World.DumpOf(world.Engine));
        uint next = world.Subscribe(queue, producer);
        Assert.All(world.DispatchAll(), delivered => Assert.Equal(next, delivered.Subscription));
        Assert.Equal(2, world.Engine.View(queue).InFlight);
    }
}
