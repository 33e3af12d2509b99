using System.Buffers;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Engine.Tests;

/// <summary>A replay over gaps, and giving messages up: whatever is missing, the counts add up and a start can read the state.</summary>
public sealed class RepairTests
{
    [Fact]
    public void Every_message_can_be_given_up_whatever_its_state_and_the_counts_add_up()
    {
        using World world = Work();
        foreach (KnownMessage message in world.Engine.Messages().ToArray())
        {
            ulong purged = world.Engine.View(message.Queue).Purged;
            Assert.True(world.Engine.Discard(message.Queue, message.Tag, world.Block));
            Assert.False(world.Engine.Discard(message.Queue, message.Tag, world.Block));
            Assert.Equal(purged + 1, world.Engine.View(message.Queue).Purged);
            AssertWhole(world.Engine);
        }

        Assert.Equal(0, world.Engine.MessageCount);
    }

    [Fact]
    public void Any_record_may_be_missing_and_the_rest_makes_a_whole_state()
    {
        using World world = Work();
        for (int missing = 0; missing < world.Log.Count; missing++)
        {
            using QueueEngine engine = Replay(world.Log.Where((_, i) => i != missing));
            AssertWhole(engine);
        }
    }

    [Fact]
    public void Any_stretch_of_records_may_be_missing()
    {
        using World world = Work();
        for (int first = 0; first < world.Log.Count; first += 3)
        {
            int from = first, to = first + 1 + (first * 7 % 20);
            using QueueEngine engine = Replay(world.Log.Where((_, i) => i < from || i >= to));
            AssertWhole(engine);
        }
    }

    [Fact]
    public void A_missing_message_is_counted_and_the_others_keep_their_tags()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("a");
        world.PublishMany(producer, queue, 5);
        int[] messages = [.. Enumerable.Range(0, world.Log.Count).Where(i => world.Log[i].Record[4] == (byte)RecordKind.Message)];
        using QueueEngine engine = Replay(world.Log.Where((_, i) => i != messages[1] && i != messages[2]));
        Assert.Equal(2, engine.Missed[queue]);
        Assert.Equal([1ul, 4ul, 5ul], engine.Messages().Select(message => message.Tag));
    }

    [Fact]
    public void What_came_back_and_was_given_up_is_passed_by_and_the_rest_goes_out_in_its_order()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("a");
        uint subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 4);
        world.DispatchAll();
        world.Settle(producer, subscription, 1, 4, Outcome.Release);
        Assert.True(world.Engine.Discard(queue, 2, world.Block));
        Assert.True(world.Engine.Discard(queue, 1, world.Block));
        Assert.Equal([3ul, 4ul], world.DispatchAll().Select(delivered => delivered.Tag));
        world.Engine.CheckConservation();
    }

    [Fact]
    public void A_message_in_flight_is_taken_from_whoever_holds_it_and_from_nobody_else()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("a");
        uint[] subscriptions = [world.Subscribe(queue, producer, credit: 1), world.Subscribe(queue, producer, credit: 1)];
        world.PublishMany(producer, queue, 2);
        Delivered second = world.DispatchAll()[1];
        Assert.True(world.Engine.Discard(queue, second.Tag, world.Block));
        Assert.Equal(subscriptions.Select(subscription => subscription == second.Subscription ? 0L : 1L), subscriptions.Select(subscription => world.Engine.ViewSubscription(subscription).Open));
        Assert.Equal((1L, 1ul), (world.Engine.View(queue).InFlight, world.Engine.View(queue).Purged));
        world.Engine.CheckConservation();
    }

    [Fact]
    public void After_a_repair_consumers_get_what_lies_behind_the_missing()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("a");
        world.PublishMany(producer, queue, 3);
        int first = world.Log.FindIndex(logged => logged.Record[4] == (byte)RecordKind.Message);
        using QueueEngine engine = Replay(world.Log.Where((_, i) => i != first));
        engine.EndRecovery();
        byte[] room = new byte[QueueEngine.MaxFactBytes];
        engine.Begin(0, new Now(engine.IntervalMicros, 0), room);
        Assert.True(engine.Subscribe(queue, producer, 0, 0, false, room, 1, out _, out uint subscription).IsTaken);
        engine.SetCredit(subscription, 10, ulong.MaxValue);
        Assert.True(engine.TryNextDispatch(out uint next));
        engine.Dispatch(next, room, new DeliveryEntry[10], out DispatchedRun run);
        Assert.Equal((subscription, 2ul, 2), (run.Subscription, run.FirstTag, run.Count));
    }

    private static World Work()
    {
        World world = new();
        ulong producer = world.Open();
        ulong other = world.Open(instance: 2);
        uint a = world.Declare("a");
        uint b = world.Declare("b");
        uint sub = world.Subscribe(a, other, credit: 20);
        world.PublishMany(producer, a, 30);
        world.PublishMany(producer, b, 10);
        world.DispatchAll();
        world.Settle(other, sub, 1, 4);
        world.Settle(other, sub, 6, 2, Outcome.Release);
        world.Settle(other, sub, 9, 1, Outcome.Reject);
        world.MarkDamaged(a, 29);
        world.Purge(b);
        world.PublishMany(producer, b, 2);
        world.DispatchAll();
        return world;
    }

    private static QueueEngine Replay(IEnumerable<Logged> records)
    {
        QueueEngine engine = new(new EngineLimits()) { IsLenient = true };
        foreach (Logged logged in records)
        {
            Assert.Equal(ApplyVerdict.Applied, World.Apply(engine, logged));
        }

        engine.EndSalvage();
        return engine;
    }

    private static void AssertWhole(QueueEngine engine)
    {
        engine.CheckConservation();
        ArrayBufferWriter<byte> saved = new();
        engine.Save(saved);
        using QueueEngine loaded = new(new EngineLimits());
        Assert.True(loaded.TryLoad(new MemoryStream(saved.WrittenSpan.ToArray())), World.DumpOf(engine));
        loaded.CheckConservation();
        Assert.Equal(engine.Messages(), loaded.Messages());
    }
}
