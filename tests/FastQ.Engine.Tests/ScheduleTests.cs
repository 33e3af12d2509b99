using FastQ.Protocol;
using Xunit;

namespace FastQ.Engine.Tests;

/// <summary>Schedules: each firing is its message and a fact, in one block; a replay asks no calendar.</summary>
public sealed class ScheduleTests
{
    private static Decision Taken => Decision.Taken;

    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void A_schedule_fires_when_it_is_due_and_says_when_the_next_is_over_restarts_too(string restart)
    {
        using World world = new();
        uint queue = world.Declare("q");
        long wall = world.WallMicros;
        long start = world.IntervalMicros;
        Assert.Equal(Taken, world.SetSchedule(queue, World.Definition("s"), wall + 1000, start + 1000));
        Assert.Equal(start + 1000, world.Engine.NextScheduleMicros);
        Restart(world, restart);
        Assert.Equal(start + 1000, world.Engine.NextScheduleMicros);
        world.IntervalMicros += 999;
        Assert.False(world.Engine.TryNextSchedule(world.IntervalMicros, out _));
        world.IntervalMicros += 1;
        Assert.Equal(Taken, world.Fire(wall + 5000, start + 5000));
        Restart(world, restart);
        Assert.Equal(start + 5000, world.Engine.NextScheduleMicros);
        ScheduleView view = Assert.Single(world.Engine.Schedules);
        Assert.Equal((1ul, wall + 1000, wall + 5000, "q"), (view.Fired, view.LastMicros, view.NextMicros, view.QueueName));
        world.IntervalMicros = start + 5000;
        Assert.Equal(Taken, world.Fire(0, 0));
        Assert.Equal((long.MaxValue, 2L), (world.Engine.NextScheduleMicros, world.Engine.View(queue).Ready)); // It has ended.
        Restart(world, restart);
        Assert.Equal((long.MaxValue, 2ul), (world.Engine.NextScheduleMicros, world.Engine.Schedules[0].Fired));
        world.Check();
    }

    [Fact]
    public void Of_those_that_are_due_the_first_fires_first_and_one_whose_queue_is_full_lets_the_others_go()
    {
        using World world = new();
        uint full = world.Declare("full", QueueAttributes.Default with { MaxLength = 1 }), queue = world.Declare("q");
        ulong producer = world.Open();
        world.Publish(producer, full);
        world.SetSchedule(queue, World.Definition("b"), 2000, world.IntervalMicros + 2);
        world.SetSchedule(full, World.Definition("a"), 1000, world.IntervalMicros + 1);
        world.IntervalMicros += 5;
        Assert.True(world.Engine.TryNextSchedule(world.IntervalMicros, out ScheduleView first));
        Assert.Equal(RefusalCode.LimitReached, world.Fire(1, 1).Code);
        world.Engine.RetrySchedule(first.Id, world.IntervalMicros + 100);
        Assert.Equal(Taken, world.Fire(0, 0));
        Assert.Equal(1L, world.Engine.View(queue).Ready);
        Assert.Equal(world.IntervalMicros + 100, world.Engine.NextScheduleMicros);
        world.Purge(full);
        world.IntervalMicros += 100;
        Assert.Equal(Taken, world.Fire(0, 0, isLate: true));
        Assert.Equal(1u, world.Engine.Schedules[0].Late);
        world.Check();
    }

    [Theory]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void A_schedule_is_replaced_paused_resumed_and_deleted_and_goes_with_its_queue(string restart)
    {
        using World world = new();
        uint queue = world.Declare("q"), other = world.Declare("o");
        world.SetSchedule(queue, World.Definition("s"), 1000, world.IntervalMicros + 1000);
        world.SetSchedule(other, World.Definition("s"), 3000, world.IntervalMicros + 3000);
        world.SetSchedule(other, World.Definition("t"), 9000, world.IntervalMicros + 9000);
        Assert.Equal([2u, 3], world.Engine.Schedules.Select(schedule => schedule.Id));
        Assert.Equal(Taken, world.PauseSchedule("s", isPaused: true, 3000, world.IntervalMicros + 3000));
        Assert.Equal(world.IntervalMicros + 9000, world.Engine.NextScheduleMicros);
        Restart(world, restart);
        Assert.True(world.Engine.Schedules[0].IsPaused);
        Assert.Equal(Taken, world.PauseSchedule("s", isPaused: false, 4000, world.IntervalMicros + 4000));
        Assert.Equal(world.IntervalMicros + 4000, world.Engine.NextScheduleMicros);
        Assert.Equal(Taken, world.DeleteSchedule("s"));
        Assert.Equal(RefusalCode.BadArgument, world.DeleteSchedule("s").Code);
        Assert.Equal(RefusalCode.BadArgument, world.PauseSchedule("s", isPaused: true, 1, 1).Code);
        world.Delete(other);
        Assert.Empty(world.Engine.Schedules);
        Restart(world, restart);
        Assert.Equal(Taken, world.SetSchedule(queue, World.Definition("u"), 1000, world.IntervalMicros + 1000));
        Assert.Equal(4u, world.Engine.Schedules[0].Id); // Never used again.
        world.Check();
    }

    [Fact]
    public void What_cannot_be_is_refused_by_name_and_schedules_are_bounded_and_charged()
    {
        using World world = new(new EngineLimits { MaxSchedules = 2 });
        uint queue = world.Declare("q");
        long before = world.Engine.StateBytes;
        Assert.Equal(RefusalCode.UnknownQueue, world.SetSchedule(77, World.Definition("s"), 1, 1).Code);
        Assert.Equal(RefusalCode.BadName, world.SetSchedule(queue, World.Definition("fastq.s"), 1, 1).Code);
        Assert.Equal((RefusalCode.TooLarge, (ulong)Limits.MaxScheduleBytes), Named(world.SetSchedule(queue, World.Definition("s", bodyBytes: Limits.MaxScheduleBytes), 1, 1)));
        Assert.Equal(RefusalCode.BadArgument, world.SetSchedule(queue, World.Definition("s", World.Property(PropertyTag.Ttl, 0)), 1, 1).Code);
        Assert.Equal(Taken, world.SetSchedule(queue, World.Definition("s", bodyBytes: 20_000), 1, 1));
        Assert.Equal(Taken, world.SetSchedule(queue, World.Definition("t"), 1, 1));
        Assert.Equal((RefusalCode.LimitReached, 2ul), Named(world.SetSchedule(queue, World.Definition("u"), 1, 1)));
        Assert.Equal(Taken, world.SetSchedule(queue, World.Definition("t"), 1, 1)); // One of its name is there.
        Assert.InRange(world.Engine.StateBytes - before, 20_000, 22_000);
        world.DeleteSchedule("s");
        world.DeleteSchedule("t");
        Assert.Equal(before, world.Engine.StateBytes);
        world.Check();
    }

    private static (RefusalCode Code, ulong Value) Named(Decision decision) => (decision.Code, decision.Value);

    private static void Restart(World world, string how)
    {
        if (how.Length > 0)
        {
            world.Restart(fromSnapshot: how == "snapshot");
        }
    }
}
