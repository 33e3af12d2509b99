using FastQ.Protocol;
using Xunit;

namespace FastQ.Engine.Tests;

/// <summary>Attributes that change while a queue runs, and ways that stand still.</summary>
public sealed class ChangeTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_change_is_kept_and_touches_what_comes_not_what_is_there(bool fromSnapshot)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        world.PublishMany(producer, queue, 3);
        QueueAttributes to = QueueAttributes.Default with { TtlMilliseconds = 1000, DelayMilliseconds = 100, MaxLength = 4, MaxDeliveries = 5, LeaseMilliseconds = 77, DeadLetter = "morgue", Lz4FromBytes = 1000 };
        Assert.True(world.Change(queue, to).IsTaken);
        int records = world.Log.Count;
        Assert.True(world.Change(queue, to).IsTaken); // The same: no record but that of the batch.
        Assert.Equal(records + 1, world.Log.Count);
        world.Publish(producer, queue);
        Assert.Equal(RefusalCode.LimitReached, world.Publish(producer, queue).Code);
        world.Restart(fromSnapshot);
        Assert.Equal(to.For("q"), world.Engine.View(queue).Attributes);
        world.Advance(1100);
        Assert.Equal((3L, 1ul), (world.Engine.View(queue).Ready, world.Engine.View(queue).Expired));
        Assert.Equal("morgue", Assert.Single(world.Bury()).Message.Target);
        Assert.Equal(77, world.Engine.ViewSubscription(world.Subscribe(queue, producer)).LeaseMilliseconds);
        world.Check();
    }

    [Fact]
    public void What_is_not_named_stays_and_what_contradicts_itself_changes_nothing()
    {
        using World world = new();
        uint queue = world.Declare("q", QueueAttributes.Default with { MaxDeliveries = 3, TtlMilliseconds = 9 });
        byte[] room = new byte[QueueEngine.MaxFactBytes];
        FieldWriter fields = new(new byte[100]);
        fields.Number(FieldTag.Overflow, (ulong)Overflow.DropHead);
        Decision decision = world.Engine.ChangeQueue(queue, fields.Written, room, 1, out int written, out string fault);
        Assert.Equal((RefusalCode.BadArgument, 0), (decision.Code, written));
        Assert.Contains("needs a max-length", fault, StringComparison.Ordinal);
        fields.Number(FieldTag.MaxLength, 9);
        Assert.True(world.Engine.ChangeQueue(queue, fields.Written, room, 1, out written, out _).IsTaken && written > 0);
        Assert.Equal((QueueAttributes.Default with { MaxDeliveries = 3, TtlMilliseconds = 9, MaxLength = 9, Overflow = Overflow.DropHead }).For("q"), world.Engine.View(queue).Attributes);
        Assert.Equal(RefusalCode.UnknownQueue, world.Engine.ChangeQueue(99, fields.Written, room, 1, out _, out _).Code);
        Assert.Equal(RefusalCode.UnknownQueue, world.Engine.PauseQueue(99, PausedWays.In, room, 1, out _).Code);
        Assert.Equal(RefusalCode.BadArgument, world.Engine.PauseQueue(queue, (PausedWays)4, room, 1, out _).Code);
    }

    [Fact]
    public void Bodies_are_compressed_from_a_size_that_a_body_can_have_and_a_difference_is_said()
    {
        QueueAttributes From(long bytes) => QueueAttributes.Default with { Lz4FromBytes = bytes };
        Assert.All((long[])[0, 1, Limits.MaxMessageBytes], bytes => Assert.Equal("", From(bytes).Fault("q")));
        Assert.All((long[])[-1, Limits.MaxMessageBytes + 1], bytes => Assert.Equal($"lz4 must be 0 (no body is compressed) to {Limits.MaxMessageBytes}", From(bytes).Fault("q")));
        Assert.Equal("lz4 is 7 bytes, not 0 bytes", From(7).DifferenceTo(QueueAttributes.Default));
    }

    [Fact]
    public void A_lower_limit_kills_nobody_at_once_and_a_message_that_came_back_before_it_goes_alone()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 4);
        world.DispatchAll();
        world.Settle(producer, subscription, 1, 2, Outcome.Release);
        Assert.True(world.Change(queue, QueueAttributes.Default with { MaxDeliveries = 2 }).IsTaken);
        Assert.Equal((2L, 2L, 0ul), (world.Engine.View(queue).Ready, world.Engine.View(queue).InFlight, world.Engine.View(queue).Exhausted));
        world.Settle(producer, subscription, 3, 2);
        Delivered alone = Assert.Single(world.DispatchAll());
        Assert.Equal((1ul, 2), (alone.Tag, alone.Count));
        Assert.True(world.Change(queue, QueueAttributes.Default with { MaxDeliveries = 9 }).IsTaken);
        world.Settle(producer, subscription, alone.Delivery, 1, Outcome.Release); // It may come again, after all.
        Assert.Equal([1ul, 2], world.DispatchAll().Select(one => one.Tag));
        world.Check();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Where_dead_letters_are_switched_off_what_is_dying_waits_and_leaves_when_they_are_on_again(bool restarts)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 2);
        world.DispatchAll();
        world.Settle(producer, subscription, 1, 1, Outcome.Reject);
        world.Change(queue, QueueAttributes.Default with { DeadLetter = "" });
        Assert.Empty(world.Bury());
        world.Settle(producer, subscription, 2, 1, Outcome.Reject);
        Assert.Equal((1L, 2ul), (world.Engine.View(queue).Dying, world.Engine.View(queue).Rejected));
        if (restarts)
        {
            world.Restart(fromSnapshot: true);
        }

        world.Change(queue, QueueAttributes.Default with { DeadLetter = "r" });
        Assert.Equal("r", Assert.Single(world.Bury()).Message.Target);
        world.Check();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_paused_way_stands_still_over_restarts_and_what_is_held_may_be_settled(bool fromSnapshot)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, credit: 2);
        world.PublishMany(producer, queue, 4);
        world.DispatchAll();
        Assert.True(world.Pause(queue, PausedWays.In | PausedWays.Out).IsTaken);
        world.Restart(fromSnapshot);
        Assert.True(world.Resume(subscription, producer, ulong.MaxValue).IsTaken);
        world.Engine.SetCredit(subscription, 2, ulong.MaxValue);
        Assert.Equal(Decision.Refuse(RefusalCode.Paused), world.Publish(producer, queue));
        world.Settle(producer, subscription, 1);
        world.Settle(producer, subscription, 2, 1, Outcome.Release);
        Assert.Empty(world.DispatchAll());
        Assert.True(world.Pause(queue, PausedWays.In).IsTaken);
        Assert.Equal((ulong[])[2, 3], world.DispatchAll().Select(one => one.Tag).Order());
        Assert.True(world.Pause(queue, PausedWays.Out).IsTaken);
        Assert.True(world.Publish(producer, queue).IsTaken);
        Assert.True(world.Pause(queue, PausedWays.None).IsTaken);
        world.Settle(producer, subscription, 3);
        Assert.Single(world.DispatchAll());
        world.Check();
    }
}
