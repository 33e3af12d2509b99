using FastQ.Protocol;
using Xunit;

namespace FastQ.Engine.Tests;

/// <summary>The state as bytes: whole, and as a hostile file has it.</summary>
public sealed class SnapshotTests
{
    [Fact]
    public void What_goes_on_from_a_snapshot_equals_what_goes_on_from_the_records()
    {
        using World world = World.WithEverything();
        using QueueEngine loaded = new(new EngineLimits());
        Assert.True(loaded.TryLoad(new MemoryStream(world.Saved())));
        Assert.Equal(World.DumpOf(world.Engine), World.DumpOf(loaded));
        int after = world.Log.Count;
        world.PublishMany(1, 1, 5);
        world.Advance(60_000);
        world.DispatchAll();
        world.Settle(2, 1, 10, 5);
        foreach (Logged logged in world.Log.Skip(after))
        {
            Assert.Equal(ApplyVerdict.Applied, World.Apply(loaded, logged));
        }

        loaded.CheckConservation();
        Assert.Equal(World.DumpOf(world.Engine), World.DumpOf(loaded));
    }

    [Fact]
    public void A_snapshot_of_a_loaded_snapshot_is_the_same_bytes()
    {
        using World world = World.WithEverything();
        byte[] saved = world.Saved();
        world.Restart(fromSnapshot: true);
        Assert.Equal(saved.AsSpan(24).ToArray(), world.Saved().AsSpan(24).ToArray()); // Version and clocks before: the start has its own time.
    }

    [Fact]
    public void A_snapshot_with_any_byte_changed_is_refused_or_leads_to_a_state_that_adds_up()
    {
        using World world = World.WithEverything();
        byte[] saved = world.Saved();
        int refused = 0;
        foreach (byte flip in (byte[])[0x01, 0x80, 0xFF])
        {
            for (int at = 0; at < saved.Length; at++)
            {
                byte[] hostile = [.. saved];
                hostile[at] ^= flip;
                using QueueEngine engine = new(new EngineLimits());
                if (!engine.TryLoad(new MemoryStream(hostile)))
                {
                    refused++;
                    continue;
                }

                World.MustBearWork(engine);
            }
        }

        Assert.True(refused > saved.Length, $"{refused} of {3 * saved.Length} refused");
    }

    [Fact]
    public void A_snapshot_cut_anywhere_is_refused()
    {
        using World world = World.WithEverything();
        byte[] saved = world.Saved();
        for (int length = 0; length < saved.Length; length++)
        {
            using QueueEngine engine = new(new EngineLimits());
            Assert.False(engine.TryLoad(new MemoryStream(saved, 0, length)));
        }
    }

    [Fact]
    public void A_message_with_two_owners_is_refused()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint first = world.Subscribe(queue, producer, credit: 1);
        world.Subscribe(queue, producer, credit: 1);
        world.PublishMany(producer, queue, 2);
        Assert.Equal(2, world.DispatchAll().Count);
        byte[] saved = world.Saved();
        // | ... | delivery 1, tag, lease end of the first subscription | six numbers of the second | delivery 1, tag, lease end | slot count, slot, left | end mark
        Span<ulong> numbers = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, ulong>(saved.AsSpan(saved.Length % 8));
        int secondTag = numbers.Length - 4 - 2;
        int firstTag = secondTag - 9;
        Assert.Equal(3ul, numbers[firstTag] + numbers[secondTag]);
        numbers[secondTag] = numbers[firstTag];
        using QueueEngine engine = new(new EngineLimits());
        Assert.False(engine.TryLoad(new MemoryStream(saved)));
        Assert.NotEqual(0u, first);
    }
}
