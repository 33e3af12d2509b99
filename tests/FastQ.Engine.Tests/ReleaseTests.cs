using FastQ.Protocol;
using Xunit;
using Outcome = FastQ.Protocol.Outcome;

namespace FastQ.Engine.Tests;

/// <summary>Why a message came back from a consumer: kept with it, over restarts and snapshots, until it is gone.</summary>
public sealed class ReleaseTests
{
    private static ReleaseReason[] Reasons(World world, uint queue) => [.. world.Engine.Browse(queue, 0, 100, out _).Select(message => message.Release)];

    [Fact]
    public void A_message_says_why_it_came_back_last_over_restarts_and_snapshots()
    {
        using World world = new();
        ulong producer = world.Open(), consumer = world.Open(instance: 2);
        uint work = world.Declare("work"), sub = world.Subscribe(work, consumer);
        world.PublishMany(producer, work, 5);
        world.DispatchAll();
        Assert.All(Reasons(world, work), reason => Assert.Equal(ReleaseReason.None, reason));
        world.Settle(consumer, sub, 1, 1, Outcome.Release);
        world.Release(consumer, sub, 2, 1, delayMilliseconds: 3_600_000, isCounted: false);
        world.EndDelivery(sub, 3); // As if it had not been.
        world.Engine.Hold(sub, true);
        _ = world.Advance(Limits.DefaultLeaseMilliseconds);
        ReleaseReason[] expected = [ReleaseReason.Released, ReleaseReason.ReleasedUncounted, ReleaseReason.None, ReleaseReason.LeaseEnded, ReleaseReason.LeaseEnded];
        Assert.Equal(expected, Reasons(world, work));
        world.Check();
        world.Restart();
        Assert.Equal(expected, Reasons(world, work));
        world.Restart(fromSnapshot: true);
        Assert.Equal(expected, Reasons(world, work));
    }

    [Fact]
    public void The_end_of_a_consumer_is_the_reason_for_what_it_began_and_for_nothing_else()
    {
        using World world = new();
        ulong producer = world.Open(), consumer = world.Open(instance: 2);
        uint work = world.Declare("work"), sub = world.Subscribe(work, consumer);
        world.PublishMany(producer, work, 3);
        world.DispatchAll();
        world.Settle(consumer, sub, 3, 1, Outcome.Release);
        world.DispatchAll();
        world.Unsubscribe(sub, consumer, firstNotTaken: 2); // The second, and the third at its second time, were never taken.
        Assert.Equal([ReleaseReason.ConsumerGone, ReleaseReason.None, ReleaseReason.Released], Reasons(world, work));
        Assert.Equal([1, 0, 1], world.Engine.Browse(work, 0, 10, out _).Select(message => message.Deliveries));
        world.Check();
    }

    [Fact]
    public void The_reason_stays_with_the_message_while_it_is_with_another_consumer_and_the_size_is_its_own()
    {
        using World world = new();
        ulong producer = world.Open();
        uint work = world.Declare("work"), sub = world.Subscribe(work, producer);
        Assert.True(world.Publish(producer, work, bodyBytes: 777).IsTaken);
        uint length = world.Engine.Browse(work, 0, 1, out _)[0].Place.LengthBytes;
        world.DispatchAll();
        world.Settle(producer, sub, 1, 1, Outcome.Release);
        world.DispatchAll();
        MessageView held = Assert.Single(world.Engine.Browse(work, 0, 1, out _));
        Assert.Equal((MessageState.InFlight, ReleaseReason.Released, length, 2), (held.State, held.Release, held.Place.LengthBytes, held.Deliveries));
        world.Settle(producer, sub, 2, 1);
        Assert.Equal((0, 0), (world.Engine.View(work).Messages, world.Engine.View(work).Bytes));
        world.Check();
    }
}
