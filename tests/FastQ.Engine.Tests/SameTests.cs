using System.Globalization;
using FastQ.Protocol;
using Xunit;
using Outcome = FastQ.Protocol.Outcome;

namespace FastQ.Engine.Tests;

/// <summary>Messages that a queue takes once: by deduplication id within a window of time, by unique key as long as one is alive.</summary>
public sealed class SameTests
{
    private static Decision Taken => Decision.Taken;

    private static Decision DuplicateOf(ulong tag) => Decision.Refuse(RefusalCode.Duplicate, tag);

    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void A_second_message_of_an_id_is_not_taken_within_the_window_and_over_restarts(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { DedupMilliseconds = 10_000, Fifo = true });
        world.Publish(producer, queue);
        Assert.Equal(Taken, world.Publish(producer, queue, properties: World.Same("a")));
        Assert.Equal(DuplicateOf(2), world.Publish(producer, queue, properties: World.Same("a", group: "g"))); // Of the queue, not of the group.
        Assert.Equal(Taken, world.Publish(producer, queue, properties: World.Same("b")));
        uint subscription = world.Subscribe(queue, producer);
        world.DispatchAll();
        world.Settle(producer, subscription, 1);
        world.DispatchAll();
        world.Settle(producer, subscription, 2); // Gone: its id stays.
        world.Advance(9_999);
        if (restart.Length > 0)
        {
            world.Restart(fromSnapshot: restart == "snapshot");
        }

        Assert.Equal(DuplicateOf(2), world.Publish(producer, queue, properties: World.Same("a")));
        Assert.Equal((3ul, 4), (world.Engine.View(queue).Published, world.Engine.RefusalsOf(producer).Count + 2));
        world.Advance(1);
        Assert.Equal(Taken, world.Publish(producer, queue, properties: World.Same("a")));
        Assert.Equal(DuplicateOf(4), world.Publish(producer, queue, properties: World.Same("a")));
        world.Check();
    }

    [Fact]
    public void Ids_whose_windows_end_at_once_are_forgotten_a_slice_at_a_time()
    {
        using World world = new(); // CASES B69
        const int Ids = 20_000;
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { DedupMilliseconds = 10_000 });
        long empty = world.Engine.StateBytes;
        for (int i = 0; i < Ids; i++)
        {
            world.Publish(producer, queue, properties: World.Same($"{i}"));
        }

        world.Purge(queue);
        world.Advance(9_000);
        long full = world.Engine.StateBytes;
        Assert.True(full > empty + Ids * 16, $"the ids are kept: {full} bytes, {empty} without them");
        int passes = 0;
        for (world.Advance(1_000); world.Engine.StateBytes > empty + 64 * 1024; world.Advance(1_000))
        {
            passes++;
            Assert.InRange(passes, 1, 50);
        }

        Assert.InRange(passes, Ids / (int)QueueEngine.SliceTags - 1, 50);
        Assert.Equal(Taken, world.Publish(producer, queue, properties: World.Same("7")));
        world.Check();
    }

    [Fact]
    public void Ids_are_compared_within_a_group_where_the_queue_says_so_and_not_at_all_where_it_has_no_window()
    {
        using World world = new();
        ulong producer = world.Open();
        uint byGroup = world.Declare("q", QueueAttributes.Default with { DedupByGroup = true }), none = world.Declare("n", QueueAttributes.Default with { DedupMilliseconds = 0 });
        Assert.Equal(Taken, world.Publish(producer, byGroup, properties: World.Same("a", group: "g")));
        Assert.Equal(Taken, world.Publish(producer, byGroup, properties: World.Same("a", group: "h")));
        Assert.Equal(DuplicateOf(1), world.Publish(producer, byGroup, properties: World.Same("a", group: "g")));
        Assert.Equal(Taken, world.Publish(producer, none, properties: World.Same("a")));
        Assert.Equal(Taken, world.Publish(producer, none, properties: World.Same("a")));
        world.Check();
    }

    // CASES B55: by time, and never by count.
    [Fact]
    public void A_hundred_thousand_other_ids_push_none_out_and_their_memory_is_given_back_when_their_time_is_over()
    {
        const int Count = 100_000;
        using World world = new(isLogging: false);
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { DedupMilliseconds = 60_000 });
        long before = world.Engine.StateBytes;
        world.Begin(producer);
        for (int i = 0; i < Count; i++)
        {
            Assert.True(world.PublishHere(producer, queue, 1, properties: World.Same(i.ToString(CultureInfo.InvariantCulture))).IsTaken);
        }

        Assert.Equal(DuplicateOf(1), world.Publish(producer, queue, properties: World.Same("0")));
        Assert.InRange(world.Engine.StateBytes - before, Count * 64, Count * 200);
        world.Purge(queue);
        world.Advance(0);
        Assert.Equal(DuplicateOf(Count), world.Publish(producer, queue, properties: World.Same("99999")));
        for (int i = 0; i < 200; i++)
        {
            world.Advance(1000);
        }

        Assert.InRange(world.Engine.StateBytes, 0, before + 64 * 1024);
    }

    [Fact]
    public void Where_there_is_no_memory_for_an_id_its_message_is_refused_by_the_limits_name()
    {
        using World world = new(new EngineLimits { IndexBytes = 64 * 1024 });
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        world.Begin(producer);
        Decision decision = Taken;
        for (int i = 0; decision.IsTaken; i++)
        {
            decision = world.PublishHere(producer, queue, 1, properties: World.Same(i.ToString(CultureInfo.InvariantCulture)));
        }

        Assert.Equal((RefusalCode.LimitReached, 64ul * 1024), (decision.Code, decision.Value));
        world.Check();
    }

    // CASES B58: the end of an older one does not free the key of a newer one.
    [Fact]
    public void A_key_has_one_living_message_until_that_is_accepted_dies_or_is_purged()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { MaxDeliveries = 0 });
        uint subscription = world.Subscribe(queue, producer);
        Assert.Equal(Taken, world.Publish(producer, queue, properties: World.Same(uniqueKey: "k")));
        Assert.Equal(DuplicateOf(1), world.Publish(producer, queue, properties: World.Same(uniqueKey: "k")));
        world.DispatchAll();
        Assert.Equal(DuplicateOf(1), world.Publish(producer, queue, properties: World.Same(uniqueKey: "k")));
        world.Settle(producer, subscription, 1, 1, Outcome.Release);
        Assert.Equal(DuplicateOf(1), world.Publish(producer, queue, properties: World.Same(uniqueKey: "k")));
        world.Restart(fromSnapshot: true);
        world.Resume(subscription, producer, ulong.MaxValue);
        world.Engine.SetCredit(subscription, 9, ulong.MaxValue);
        Assert.Equal(DuplicateOf(1), world.Publish(producer, queue, properties: World.Same(uniqueKey: "k")));
        world.DispatchAll();
        world.Settle(producer, subscription, 2);
        Assert.Equal(Taken, world.Publish(producer, queue, properties: World.Same(uniqueKey: "k")));
        world.DispatchAll();
        world.Settle(producer, subscription, 3, 1, Outcome.Reject);
        Assert.Equal(Taken, world.Publish(producer, queue, properties: World.Same(uniqueKey: "k")));
        world.Bury();
        Assert.Equal(DuplicateOf(3), world.Publish(producer, queue, properties: World.Same(uniqueKey: "k")));
        world.Purge(queue);
        world.Advance(0);
        Assert.Equal(Taken, world.Publish(producer, queue, properties: World.Same(uniqueKey: "k")));
        world.Check();
    }

    [Fact]
    public void A_key_that_is_held_until_the_start_is_free_when_its_message_goes_to_a_consumer()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        Assert.Equal(Taken, world.Publish(producer, queue, properties: World.Same(uniqueKey: "k", until: UniqueUntil.Started)));
        Assert.Equal(DuplicateOf(1), world.Publish(producer, queue, properties: World.Same(uniqueKey: "k", until: UniqueUntil.Started)));
        uint subscription = world.Subscribe(queue, producer);
        world.DispatchAll();
        Assert.Equal(Taken, world.Publish(producer, queue, properties: World.Same(uniqueKey: "k")));
        world.Settle(producer, subscription, 1);
        Assert.Equal(DuplicateOf(2), world.Publish(producer, queue, properties: World.Same(uniqueKey: "k")));
        world.Check();
    }

    [Fact]
    public void What_is_a_duplicate_is_one_also_where_the_queue_is_full_or_paused()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { MaxLength = 1 });
        Assert.Equal(Taken, world.Publish(producer, queue, properties: World.Same("a")));
        Assert.Equal(RefusalCode.LimitReached, world.Publish(producer, queue, properties: World.Same("b")).Code);
        Assert.Equal(DuplicateOf(1), world.Publish(producer, queue, properties: World.Same("a")));
        world.Pause(queue, PausedWays.In);
        Assert.Equal(DuplicateOf(1), world.Publish(producer, queue, properties: World.Same("a")));
        Assert.Equal(RefusalCode.Paused, world.Publish(producer, queue, properties: World.Same("b")).Code);
        world.Check();
    }

    [Fact]
    public void What_moves_within_the_broker_is_no_publish()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        world.Declare("q.dead", QueueAttributes.OfDeadLetters);
        for (int i = 0; i < 2; i++)
        {
            world.Publish(producer, queue);
            uint subscription = world.Subscribe(queue, producer);
            Delivered one = Assert.Single(world.DispatchAll());
            world.Settle(producer, subscription, one.Delivery, 1, Outcome.Reject);
            world.Unsubscribe(subscription, producer, ulong.MaxValue);
            (DyingMessage message, uint target, _, _) = Assert.Single(world.Bury(properties: World.Same("a", "k")));
            Assert.Equal(i + 1L, world.Engine.View(target).Ready);
        }

        world.Check();
    }
}
