using FastQ.Protocol;
using Xunit;
using Outcome = FastQ.Protocol.Outcome;

namespace FastQ.Engine.Tests;

/// <summary>Single messages and sweeps: moved, deleted, changed; each is in one queue or the other, and the counts add up.</summary>
public sealed class SweepTests
{
    private static SweepView Move(string to, ulong first = 0, ulong end = 0, uint rate = 0) => new(SweepAction.Move, first, end, to, "", rate, default, 0, 0);

    [Fact]
    public void A_sweep_moves_what_was_there_when_it_began_and_what_consumers_hold_stays()
    {
        using World world = new();
        ulong producer = world.Open();
        uint from = world.Declare("from"), to = world.Declare("to");
        world.PublishMany(producer, from, 4);
        uint subscription = world.Subscribe(from, producer, credit: 1);
        world.DispatchAll();
        world.Publish(producer, from, properties: World.Property(PropertyTag.Delay, 9000));
        Assert.True(world.StartSweep(from, Move("to")).IsTaken);
        world.PublishMany(producer, from, 2);
        Assert.Equal([2ul, 3, 4, 5], world.Sweep().Select(message => message.View.Tag));
        QueueView left = world.Engine.View(from), moved = world.Engine.View(to);
        Assert.Equal((2L, 1L, 0L, 4ul), (left.Ready, left.InFlight, left.Delayed, left.Moved));
        Assert.Equal((3L, 1L, 4ul, 0ul), (moved.Ready, moved.Delayed, moved.Published, moved.Moved));
        Assert.True(world.Engine.TryViewSweep(from, out SweepView sweep));
        Assert.Equal((SweepState.Finished, 4ul, 0ul), (sweep.State, sweep.Done, sweep.Failed));
        Assert.True(world.Settle(producer, subscription, 1).IsTaken);
        world.Check();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_sweep_goes_on_over_a_restart_and_counts_each_message_once(bool fromSnapshot)
    {
        using World world = new();
        ulong producer = world.Open();
        uint from = world.Declare("from"), to = world.Declare("to");
        world.PublishMany(producer, from, 5);
        Assert.True(world.StartSweep(from, Move("to")).IsTaken);
        Assert.Equal(2, world.Sweep(most: 2).Count);
        world.Restart(fromSnapshot);
        world.PublishMany(producer, from, 1);
        Assert.True(world.Engine.HasSweeps);
        Assert.Equal(3, world.Sweep().Count);
        Assert.True(world.Engine.TryViewSweep(from, out SweepView sweep));
        Assert.Equal((SweepState.Finished, 5ul, 1L, 5L), (sweep.State, sweep.Done, world.Engine.View(from).Ready, world.Engine.View(to).Ready));
        world.Check();
    }

    [Fact]
    public void A_moved_message_keeps_what_is_left_of_its_times_and_counts_its_deliveries_anew()
    {
        using World world = new();
        ulong producer = world.Open();
        uint from = world.Declare("from", QueueAttributes.Default with { MaxDeliveries = 0 }), to = world.Declare("to");
        world.Publish(producer, from, properties: World.Property(PropertyTag.Ttl, 5000));
        uint subscription = world.Subscribe(from, producer);
        world.DispatchAll();
        world.Settle(producer, subscription, 1, 1, Outcome.Release);
        world.Unsubscribe(subscription, producer, ulong.MaxValue);
        world.Advance(2000);
        Assert.True(world.StartSweep(from, Move("to")).IsTaken);
        SweptMessage swept = Assert.Single(world.Sweep());
        Assert.Equal((0L, 3_000_000L, 1), (swept.DelayLeftMicros, swept.LifeLeftMicros, swept.View.Deliveries));
        world.Subscribe(to, producer);
        Assert.Equal(1, Assert.Single(world.DispatchAll()).Count);
        world.Check();
    }

    [Fact]
    public void A_sweep_keeps_its_rate_and_ends_when_it_is_told_to()
    {
        using World world = new();
        ulong producer = world.Open();
        uint from = world.Declare("from");
        world.Declare("to");
        world.PublishMany(producer, from, 1000);
        Assert.True(world.StartSweep(from, Move("to", rate: 100)).IsTaken);
        int moved = world.Sweep().Count;
        Assert.InRange(moved, 1, 2);
        for (int i = 0; i < 100; i++)
        {
            world.Advance(10);
            moved += world.Sweep().Count;
        }

        Assert.InRange(moved, 100, 103);
        Assert.Equal(RefusalCode.LimitReached, world.StartSweep(from, Move("to")).Code);
        Assert.True(world.EndSweep(from) > 0);
        Assert.Equal(0, world.EndSweep(from));
        world.Advance(1000);
        Assert.Empty(world.Sweep());
        Assert.True(world.Engine.TryViewSweep(from, out SweepView sweep));
        Assert.Equal((SweepState.Cancelled, (ulong)moved), (sweep.State, sweep.Done));
        Assert.True(world.StartSweep(from, Move("to")).IsTaken);
        Assert.Equal(1000 - moved, world.Sweep().Count);
        world.Check();
    }

    [Fact]
    public void What_cannot_be_moved_now_is_tried_again_and_what_never_can_stays_and_is_counted()
    {
        using World world = new();
        ulong producer = world.Open();
        uint from = world.Declare("from"), to = world.Declare("to", QueueAttributes.Default with { MaxLength = 1 });
        world.PublishMany(producer, from, 2);
        Assert.True(world.StartSweep(from, Move("to")).IsTaken);
        Assert.Single(world.Sweep());
        uint subscription = world.Subscribe(to, producer);
        world.DispatchAll();
        Assert.True(world.Settle(producer, subscription, 1).IsTaken);
        world.Advance(1);
        Assert.Single(world.Sweep());
        Assert.True(world.StartSweep(from, Move("")).IsTaken); // Back to where they died: these died nowhere.
        world.PublishMany(producer, from, 1);
        Assert.Empty(world.Sweep());
        Assert.True(world.StartSweep(from, Move("", first: 3, end: 4)).IsTaken);
        Assert.Empty(world.Sweep());
        Assert.True(world.Engine.TryViewSweep(from, out SweepView sweep));
        Assert.Equal((SweepState.Finished, 0ul, 1ul), (sweep.State, sweep.Done, sweep.Failed));
        world.Check();
    }

    [Fact]
    public void What_went_in_a_circle_is_freed_by_a_sweep_and_its_death_counts_no_more()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { TtlMilliseconds = 10 }), to = world.Declare("to");
        world.PublishMany(producer, queue, 2);
        world.Advance(10);
        world.StopDeath(queue, 1);
        Assert.Equal(2L, world.Engine.View(queue).Dying);
        Assert.True(world.StartSweep(queue, Move("to")).IsTaken);
        Assert.Equal(1ul, Assert.Single(world.Sweep()).View.Tag); // The other is on its way.
        QueueView view = world.Engine.View(queue);
        Assert.Equal((1L, 1ul, 1ul, 1L), (view.Dying, view.Expired, view.Moved, world.Engine.View(to).Ready));
        world.Check();
    }

    [Fact]
    public void One_message_is_deleted_wherever_it_waits_and_never_from_under_a_consumer()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { Fifo = true });
        world.Publish(producer, queue, properties: World.Turn(group: "a"));
        world.Publish(producer, queue, properties: World.Turn(group: "a"));
        world.Publish(producer, queue, properties: World.Property(PropertyTag.Delay, 1000));
        world.PublishMany(producer, queue, 1);
        uint subscription = world.Subscribe(queue, producer, credit: 1);
        Assert.Equal(1ul, Assert.Single(world.DispatchAll()).Tag);
        world.MarkDamaged(queue, 4);
        Assert.Equal(RefusalCode.Denied, world.DeleteMessage(queue, 1).Code);
        Assert.Equal(RefusalCode.BadArgument, world.DeleteMessage(queue, 9).Code);
        Assert.Equal(RefusalCode.UnknownQueue, world.DeleteMessage(77, 1).Code);
        foreach (ulong tag in (ulong[])[2, 3, 4])
        {
            Assert.True(world.DeleteMessage(queue, tag).IsTaken);
        }

        Assert.Equal(RefusalCode.BadArgument, world.DeleteMessage(queue, 2).Code);
        QueueView view = world.Engine.View(queue);
        Assert.Equal((0L, 1L, 0L, 0L, 3ul), (view.Ready, view.InFlight, view.Delayed, view.Damaged, view.Purged));
        world.Settle(producer, subscription, 1);
        Assert.Equal(0L, world.Engine.View(queue).Bytes);
        world.Check();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_message_that_waits_gets_another_priority_or_time_and_keeps_its_place(bool fromSnapshot)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { Priority = true });
        for (int i = 0; i < 4; i++)
        {
            world.Publish(producer, queue, properties: World.Turn(priority: 5));
        }

        Assert.True(world.ChangeMessage(queue, 3, priority: 9).IsTaken);
        Assert.True(world.ChangeMessage(queue, 1, priority: 0).IsTaken);
        Assert.True(world.ChangeMessage(queue, 2, dueMicros: world.IntervalMicros + 1_000_000).IsTaken);
        Assert.Equal(RefusalCode.BadArgument, world.ChangeMessage(queue, 2).Code);
        world.Restart(fromSnapshot);
        uint subscription = world.Subscribe(queue, producer);
        Assert.Equal([3ul, 4, 1], world.DispatchAll().Select(one => one.Tag));
        Assert.Equal(RefusalCode.Denied, world.ChangeMessage(queue, 3, priority: 1).Code);
        Assert.True(world.ChangeMessage(queue, 2, dueMicros: 0).IsTaken); // At once.
        Assert.Equal([2ul], world.DispatchAll().Select(one => one.Tag));
        uint plain = world.Declare("plain");
        world.PublishMany(producer, plain, 1);
        Assert.Equal(RefusalCode.BadArgument, world.ChangeMessage(plain, 1, priority: 1).Code);
        Assert.True(world.Settle(producer, subscription, 1, 4).IsTaken);
        world.Check();
    }

    [Fact]
    public void A_sweep_that_makes_no_sense_is_refused_and_begins_nothing()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        world.PublishMany(producer, queue, 1);
        Assert.Equal(RefusalCode.UnknownQueue, world.StartSweep(queue, Move("nowhere")).Code);
        Assert.Equal(RefusalCode.BadArgument, world.StartSweep(queue, Move("q")).Code);
        Assert.Equal(RefusalCode.BadArgument, world.StartSweep(queue, Move("") with { Filter = new string('x', Limits.MaxFilterBytes + 1) }).Code);
        Assert.Equal(RefusalCode.UnknownQueue, world.StartSweep(77, Move("")).Code);
        Assert.False(world.Engine.HasSweeps);
        Assert.False(world.Engine.TryViewSweep(queue, out _));
    }

    // CASES B140.
    [Fact]
    public void A_sweep_that_deletes_takes_its_range_and_not_one_more()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        world.PublishMany(producer, queue, 3000);
        Assert.True(world.StartSweep(queue, Move("", first: 10, end: 2000) with { Action = SweepAction.Delete }).IsTaken);
        Assert.Equal(1990, world.Sweep().Count);
        Assert.Equal((1010L, 1990ul), (world.Engine.View(queue).Ready, world.Engine.View(queue).Purged));
        world.Check();
    }
}
