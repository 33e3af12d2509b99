using FastQ.Protocol;
using Xunit;
using Outcome = FastQ.Protocol.Outcome;

namespace FastQ.Engine.Tests;

/// <summary>Messages that wait for their time under a schedule key: of one key one waits, and by it it is cancelled or given another time.</summary>
public sealed class ScheduledTests
{
    private static Decision Taken => Decision.Taken;

    private static Decision DuplicateOf(ulong tag) => Decision.Refuse(RefusalCode.Duplicate, tag);

    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void A_later_message_of_a_key_takes_the_place_of_the_one_that_waits_with_body_and_time_and_over_restarts(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        Assert.Equal(Taken, Publish(world, producer, queue, "k", 5000, bodyBytes: 300));
        Assert.Equal(Taken, Publish(world, producer, queue, "other", 5000));
        world.Advance(4000);
        Restart(world, restart);
        Assert.Equal(Taken, Publish(world, producer, queue, "k", 2000, bodyBytes: 40));
        QueueView view = world.Engine.View(queue);
        Assert.Equal((2L, 0L, 3ul, 1ul), (view.Delayed, view.Ready, view.Published, view.Purged));
        world.Advance(1000);
        Assert.Equal((1L, 1L), (world.Engine.View(queue).Delayed, world.Engine.View(queue).Ready)); // The first would have been due.
        Restart(world, restart);
        world.Advance(1000);
        world.Subscribe(queue, producer);
        Assert.Equal([2ul, 3], world.DispatchAll().Select(one => one.Tag));
        world.Check();
    }

    [Fact]
    public void A_message_that_is_kept_is_told_apart_and_a_later_one_counts_as_its_duplicate_as_long_as_it_waits()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        Assert.Equal(Taken, Publish(world, producer, queue, "k", 1000, ScheduleMode.Keep));
        Assert.Equal(DuplicateOf(1), Publish(world, producer, queue, "k", 9000, ScheduleMode.Keep));
        Assert.Equal(Taken, Publish(world, producer, queue, "other", 9000, ScheduleMode.Keep));
        world.Advance(1000);
        Assert.Equal(Taken, Publish(world, producer, queue, "k", 9000, ScheduleMode.Keep)); // The first is due: it waits no more.
        Assert.Equal(DuplicateOf(3), Publish(world, producer, queue, "k", 9000, ScheduleMode.Keep));
        Assert.Equal((1L, 2L), (world.Engine.View(queue).Ready, world.Engine.View(queue).Delayed));
        world.Check();
    }

    // WISHES 6: the last one within a window wins, and a longest wait since the first bounds it.
    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void What_is_put_off_comes_after_a_pause_as_the_last_of_them_or_after_the_longest_wait_since_the_first(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        for (int i = 0; i < 5; i++)
        {
            Assert.Equal(Taken, Publish(world, producer, queue, "k", 1000, ScheduleMode.Debounce, longest: 3500));
            world.Advance(800);
            Assert.Equal(i == 4 ? 1 : 0, world.Engine.View(queue).Ready); // Five times 800 ms are more than 3.5 s.
            Restart(world, restart);
        }

        Assert.Equal(0, world.Engine.View(queue).Delayed);
        Assert.Equal(Taken, Publish(world, producer, queue, "k", 1000, ScheduleMode.Debounce, longest: 3500)); // The next window begins anew.
        world.Advance(999);
        Assert.Equal(1, world.Engine.View(queue).Delayed);
        world.Advance(1);
        Assert.Equal((2L, 0L, 4ul), (world.Engine.View(queue).Ready, world.Engine.View(queue).Delayed, world.Engine.View(queue).Purged));
        world.Check();
    }

    [Fact]
    public void What_was_put_off_too_long_comes_at_once_and_its_life_begins_then()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { DeadLetter = "" });
        Publish(world, producer, queue, "k", 1000, ScheduleMode.Debounce, longest: 1000, life: 500);
        world.IntervalMicros += 1_000_000; // Due, and nobody has looked yet: it still waits.
        Assert.Equal(Taken, Publish(world, producer, queue, "k", 1000, ScheduleMode.Debounce, longest: 1000, life: 500));
        Assert.Equal((1L, 0L), (world.Engine.View(queue).Ready, world.Engine.View(queue).Delayed));
        world.Advance(499);
        Assert.Equal(1L, world.Engine.View(queue).Ready);
        world.Advance(1);
        Assert.Equal((0L, 1ul), (world.Engine.View(queue).Ready, world.Engine.View(queue).Expired));
        world.Check();
    }

    [Fact]
    public void A_message_without_a_delay_replaces_what_waits_and_holds_no_key()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        Publish(world, producer, queue, "k", 1000);
        Assert.Equal(Taken, Publish(world, producer, queue, "k", 0));
        Assert.Equal((1L, 0L), (world.Engine.View(queue).Ready, world.Engine.View(queue).Delayed));
        Assert.Equal((Taken, Timeliness.Gone), world.CancelScheduled(queue, "k"));
        Assert.Equal(Taken, Publish(world, producer, queue, "k", 1000, ScheduleMode.Keep));
        world.Check();
    }

    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void By_its_key_a_message_is_cancelled_or_moved_until_it_is_handed_out_and_who_comes_too_late_is_told(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { DeadLetter = "" });
        Assert.Equal((Taken, Timeliness.Gone), world.CancelScheduled(queue, "k"));
        Publish(world, producer, queue, "k", 1000);
        Publish(world, producer, queue, "l", 1000);
        Publish(world, producer, queue, "m", 1000);
        Assert.Equal((Taken, Timeliness.InTime), world.Reschedule(queue, "l", 5000));
        Assert.Equal((Taken, Timeliness.InTime), world.CancelScheduled(queue, "m"));
        Assert.Equal((Taken, Timeliness.Gone), world.CancelScheduled(queue, "m"));
        Restart(world, restart);
        world.Advance(1000);
        Assert.Equal((1L, 1L), (world.Engine.View(queue).Ready, world.Engine.View(queue).Delayed));
        Assert.Equal((Taken, Timeliness.InTime), world.Reschedule(queue, "k", 2000)); // Due, and with nobody.
        Assert.Equal(2L, world.Engine.View(queue).Delayed);
        Restart(world, restart);
        world.Advance(2000);
        uint subscription = world.Subscribe(queue, producer);
        Assert.Equal(1ul, Assert.Single(world.DispatchAll()).Tag);
        Assert.Equal((Taken, Timeliness.HandedOut), world.CancelScheduled(queue, "k"));
        Assert.Equal((Taken, Timeliness.HandedOut), world.Reschedule(queue, "k", 1));
        world.Release(producer, subscription, 1, 1, delayMilliseconds: 100);
        Assert.Equal((Taken, Timeliness.HandedOut), world.CancelScheduled(queue, "k")); // It waits again, and was handed out.
        world.Advance(100);
        ulong second = Assert.Single(world.DispatchAll()).Delivery;
        world.Settle(producer, subscription, second);
        Assert.Equal((Taken, Timeliness.Gone), world.CancelScheduled(queue, "k"));
        Assert.Equal((RefusalCode.BadArgument, RefusalCode.BadArgument), (world.Reschedule(queue, "l", null).Decision.Code, world.CancelScheduled(queue, "").Decision.Code));
        Assert.Equal(RefusalCode.UnknownQueue, world.CancelScheduled(99, "k").Decision.Code);
        world.Check();
    }

    [Fact]
    public void A_key_is_free_when_its_message_was_purged_deleted_dropped_or_released_and_a_slice_that_comes_later_frees_no_other()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        Publish(world, producer, queue, "k", 1000);
        world.Purge(queue);
        Assert.Equal((Taken, Timeliness.Gone), world.CancelScheduled(queue, "k"));
        Assert.Equal(Taken, Publish(world, producer, queue, "k", 1000, ScheduleMode.Keep));
        world.Advance(0); // The slice of the purge.
        Assert.Equal(DuplicateOf(2), Publish(world, producer, queue, "k", 1000, ScheduleMode.Keep));
        Assert.Equal(Taken, world.DeleteMessage(queue, 2));
        Assert.Equal(Taken, Publish(world, producer, queue, "k", 1, ScheduleMode.Keep));
        world.Advance(1);
        uint subscription = world.Subscribe(queue, producer);
        world.DispatchAll();
        world.Release(producer, subscription, 1, 1, delayMilliseconds: 1000);
        Assert.Equal(Taken, Publish(world, producer, queue, "k", 1000, ScheduleMode.Keep)); // What came back and waits again holds it no more.
        Assert.Equal(2L, world.Engine.View(queue).Delayed);
        world.Check();
    }

    [Fact]
    public void A_full_queue_takes_what_replaces_another_and_refuses_what_does_not()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { MaxLength = 1 });
        uint small = world.Declare("s", QueueAttributes.Default with { MaxBytes = 400 });
        Assert.Equal(Taken, Publish(world, producer, queue, "k", 1000));
        Assert.Equal((RefusalCode.LimitReached, 1ul), Named(Publish(world, producer, queue, "l", 1000)));
        Assert.Equal(Taken, Publish(world, producer, queue, "k", 1000));
        Assert.Equal(Taken, Publish(world, producer, small, "k", 1000, bodyBytes: 300));
        Assert.Equal(Taken, Publish(world, producer, small, "k", 1000, bodyBytes: 290));
        Assert.Equal((RefusalCode.LimitReached, 400ul), Named(Publish(world, producer, small, "l", 1000, bodyBytes: 300)));
        world.Pause(queue, PausedWays.In);
        Assert.Equal(RefusalCode.Paused, Publish(world, producer, queue, "k", 1000).Code);
        Assert.Equal(1L, world.Engine.View(queue).Delayed); // Refused, it has replaced nothing.
        world.Check();
    }

    [Fact]
    public void What_a_message_says_of_its_key_must_fit_together()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        Assert.Equal(RefusalCode.BadArgument, world.Publish(producer, queue, properties: World.Scheduled("", 1000, ScheduleMode.Keep)).Code);
        Assert.Equal(RefusalCode.BadArgument, Publish(world, producer, queue, "k", 1000, ScheduleMode.Replace, longest: 5).Code);
        Assert.Equal(RefusalCode.BadArgument, Publish(world, producer, queue, "k", 1000, (ScheduleMode)3).Code);
        Assert.Equal(RefusalCode.BadArgument, Publish(world, producer, queue, new string('k', 256), 1000).Code);
        Assert.Equal(Taken, Publish(world, producer, queue, "k", 1000, ScheduleMode.Debounce));
        world.Check();
    }

    [Fact]
    public void Keys_are_charged_to_the_budget_and_given_back()
    {
        const int Count = 20_000;
        using World world = new(isLogging: false);
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        long before = world.Engine.StateBytes;
        world.Begin(producer);
        for (int i = 0; i < Count; i++)
        {
            Assert.True(world.PublishHere(producer, queue, 1, properties: World.Scheduled($"{i}", 60_000)).IsTaken);
        }

        Assert.InRange(world.Engine.StateBytes - before, Count * 120, Count * 400);
        world.Delete(queue);
        world.Advance(0);
        Assert.InRange(world.Engine.StateBytes, 0, before + 64 * 1024);
    }

    private static (RefusalCode Code, ulong Value) Named(Decision decision) => (decision.Code, decision.Value);

    private static Decision Publish(World world, ulong producer, uint queue, string key, long delay, ScheduleMode mode = ScheduleMode.Replace, long longest = 0, long life = 0, int bodyBytes = 10) =>
        world.Publish(producer, queue, bodyBytes, properties: World.Scheduled(key, delay, mode, longest, life));

    private static void Restart(World world, string how)
    {
        if (how.Length > 0)
        {
            world.Restart(fromSnapshot: how == "snapshot");
        }
    }
}
