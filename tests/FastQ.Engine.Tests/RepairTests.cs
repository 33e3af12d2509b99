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
