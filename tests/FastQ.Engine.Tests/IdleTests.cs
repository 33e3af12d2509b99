using FastQ.Protocol;
using Xunit;
using Outcome = FastQ.Protocol.Outcome;

namespace FastQ.Engine.Tests;

/// <summary>A queue that nobody uses is deleted, counted from its last use.</summary>
public sealed class IdleTests
{
    private static QueueAttributes Expiring => QueueAttributes.Default with { ExpiresMilliseconds = 5000 };

    // CASES B139: from its last use, not from its creation; and not while there is a consumer.
    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void A_queue_is_deleted_when_it_was_not_used_for_so_long_and_over_restarts(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", Expiring);
        uint subscription = world.Subscribe(queue, producer);
        world.Advance(20_000);
        Restart(world, restart);
        world.Unsubscribe(subscription, producer, ulong.MaxValue);
        world.Advance(3000);
        Restart(world, restart);
        Assert.True(world.Engine.IsQueue(queue));
        subscription = world.Subscribe(queue, producer);
        world.Unsubscribe(subscription, producer, ulong.MaxValue);
        world.Advance(4999);
        Restart(world, restart);
        Assert.True(world.Engine.IsQueue(queue));
        world.Advance(1);
        Assert.False(world.Engine.IsQueue(queue));
        Assert.False(world.Engine.TryFindQueue("q"u8, out _));
        Restart(world, restart);
        Assert.False(world.Engine.IsQueue(queue));
        Assert.Equal(RefusalCode.QueueDeleted, world.Publish(producer, queue).Code);
        world.Check();
    }

    [Fact]
    public void A_message_that_comes_is_use_and_one_that_is_looked_at_is_none()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", Expiring), plain = world.Declare("p");
        for (int i = 0; i < 5; i++)
        {
            world.Advance(4000);
            world.Publish(producer, queue);
            world.Publish(producer, queue, properties: World.Property(PropertyTag.Delay, 3_600_000));
        }

        world.Advance(4000);
        Assert.Equal(10, world.Engine.Browse(queue, 0, 32, out _).Count);
        world.Advance(1000);
        Assert.Equal((false, true), (world.Engine.IsQueue(queue), world.Engine.IsQueue(plain)));
        world.Check();
    }

    [Fact]
    public void Whoever_held_something_at_a_restart_may_come_back_first_and_a_schedule_keeps_its_queue()
    {
        using World world = new();
        uint queue = world.Declare("q", Expiring), kept = world.Declare("k", Expiring);
        world.SetSchedule(kept, World.Definition("s"), world.WallMicros + 60_000_000, world.IntervalMicros + 60_000_000);
        world.Engine.GraceUntilMicros = world.IntervalMicros + 9_000_000;
        world.Advance(8999);
        Assert.True(world.Engine.IsQueue(queue));
        world.Advance(1);
        Assert.Equal((false, true), (world.Engine.IsQueue(queue), world.Engine.IsQueue(kept)));
        world.DeleteSchedule("s");
        world.Advance(4999);
        Assert.True(world.Engine.IsQueue(kept));
        world.Advance(1);
        Assert.False(world.Engine.IsQueue(kept));
        world.Check();
    }

    [Fact]
    public void A_queue_that_is_to_expire_from_now_on_counts_from_now_on_and_waits_for_what_is_on_its_way_to_the_dead_letters()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        world.Publish(producer, queue);
        uint subscription = world.Subscribe(queue, producer);
        world.DispatchAll();
        world.Settle(producer, subscription, 1, outcome: Outcome.Reject);
        world.Unsubscribe(subscription, producer, ulong.MaxValue);
        world.Advance(60_000);
        Assert.True(world.Change(queue, Expiring).IsTaken);
        world.Advance(5000);
        Assert.True(world.Engine.IsQueue(queue));
        Assert.Single(world.Bury());
        world.Advance(1000);
        Assert.False(world.Engine.IsQueue(queue));
        Assert.Equal(1, world.Engine.View(queue + 1).Ready);
        world.Check();
    }

    private static void Restart(World world, string how)
    {
        if (how.Length > 0)
        {
            world.Restart(fromSnapshot: how == "snapshot");
        }
    }
}
