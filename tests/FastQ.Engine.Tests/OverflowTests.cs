using FastQ.Protocol;
using Xunit;

namespace FastQ.Engine.Tests;

/// <summary>Queues that may hold only so much: who is refused, who goes, and that no settlement ever is.</summary>
public sealed class OverflowTests
{
    private static QueueAttributes Length(long most, Overflow overflow = Overflow.Reject) => QueueAttributes.Default with { MaxLength = most, Overflow = overflow };

    private static ulong[] Waiting(World world, uint queue) => [.. world.Engine.Browse(queue, 0, 1000, out _).Where(message => message.State is MessageState.Ready or MessageState.Delayed).Select(message => message.Tag)];

    [Fact]
    public void A_full_queue_refuses_the_next_by_the_limits_name_and_takes_it_when_there_is_room()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", Length(3)), bytes = world.Declare("b", QueueAttributes.Default with { MaxBytes = 250 });
        uint subscription = world.Subscribe(queue, producer, credit: 1);
        world.PublishMany(producer, queue, 2);
        world.Publish(producer, queue, properties: World.Property(PropertyTag.Delay, 1000)); // What is delayed waits, too.
        Assert.Equal(Decision.Refuse(RefusalCode.LimitReached, 3, "The queue's max-length"), world.Publish(producer, queue));
        world.DispatchAll(); // What is in flight waits no more.
        Assert.True(world.Publish(producer, queue).IsTaken);
        Assert.False(world.Publish(producer, queue).IsTaken);
        world.Settle(producer, subscription, 1, 1, Outcome.Release); // It comes back whatever the limit.
        Assert.Equal(4, world.Engine.View(queue).Ready + world.Engine.View(queue).Delayed);
        Assert.False(world.Publish(producer, queue).IsTaken);
        world.PublishMany(producer, bytes, 2);
        Assert.Equal(Decision.Refuse(RefusalCode.LimitReached, 250, "The queue's max-bytes"), world.Publish(producer, bytes));
        Assert.True(world.Publish(producer, bytes, bodyBytes: 50).IsTaken);
        Assert.Equal(0, world.PushOut());
        world.Check();
    }

    [Fact]
    public void A_message_that_never_fits_is_too_large_and_is_said_so()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { MaxMessageSize = 100, MaxBytes = 150, Overflow = Overflow.DropHead });
        Assert.Equal(Decision.Refuse(RefusalCode.TooLarge, 100, "The queue's max-message-size"), world.Publish(producer, queue, bodyBytes: 101));
        PropertyWriter properties = new(new byte[200]);
        properties.Header("h", new string('x', 100));
        Assert.Equal(Decision.Refuse(RefusalCode.TooLarge, 150, "The queue's max-bytes"), world.Publish(producer, queue, bodyBytes: 60, properties: properties.Written.ToArray()));
        Assert.True(world.Publish(producer, queue, bodyBytes: 100).IsTaken);
        Assert.True(world.Publish(producer, queue, bodyBytes: 100).IsTaken);
        Assert.Equal(1, world.PushOut());
        Assert.Equal([2ul], Waiting(world, queue));
        world.Check();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_oldest_that_wait_are_dropped_and_what_is_in_flight_is_left_alone(bool fromSnapshot)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", Length(4, Overflow.DropHead));
        uint subscription = world.Subscribe(queue, producer, credit: 2);
        world.PublishMany(producer, queue, 2);
        world.DispatchAll();
        world.Publish(producer, queue, properties: World.Property(PropertyTag.Delay, 1000)); // 3: goes only where nothing is ready.
        world.PublishMany(producer, queue, 7);
        Assert.Equal(1, world.PushOut());
        Assert.Equal([3ul, 8, 9, 10], Waiting(world, queue));
        world.Settle(producer, subscription, 1, 1, Outcome.Release); // The oldest now, and one too many.
        world.Engine.Hold(subscription, true);
        world.Restart(fromSnapshot);
        Assert.Equal(1, world.PushOut());
        Assert.Equal([3ul, 8, 9, 10], Waiting(world, queue));
        QueueView view = world.Engine.View(queue);
        Assert.Equal((1L, 5ul, 0L, 0ul, 5L), (view.InFlight, view.Overflowed, view.Dying, view.DeadLettered, view.Messages));
        world.Check();
    }

    [Fact]
    public void The_oldest_go_to_the_dead_letters_in_order_where_the_queue_says_so()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", Length(2, Overflow.DeadLetter));
        world.PublishMany(producer, queue, 6);
        Assert.Equal(1, world.PushOut());
        Assert.Equal([(1ul, DeathReason.Overflow), (2, DeathReason.Overflow), (3, DeathReason.Overflow), (4, DeathReason.Overflow)], world.Bury().Select(one => (one.Message.Tag, one.Message.Reason)));
        Assert.Equal([5ul, 6], Waiting(world, queue));
        world.Check();
    }

    [Fact]
    public void A_dead_letter_queue_that_is_full_keeps_them_where_they_died_until_it_has_room()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q"), dead = world.Declare("q.dead", Length(1) with { DeadLetter = "" });
        uint subscription = world.Subscribe(queue, producer), reader = world.Subscribe(dead, producer, credit: 1);
        world.PublishMany(producer, queue, 2);
        world.DispatchAll();
        world.Settle(producer, subscription, 1, 2, Outcome.Reject);
        world.Bury(most: 1);
        Assert.True(world.Engine.TryNextDying(0, out DyingMessage second));
        Assert.Equal(RefusalCode.LimitReached, world.Engine.TakeIn(World.LetterOf(second, dead), new Place(1, 0), world.Block).Code);
        Assert.Equal((1L, 1L), (world.Engine.View(queue).Dying, world.Engine.View(dead).Ready));
        world.DispatchAll();
        Assert.Single(world.Bury());
        Assert.NotEqual(0u, reader);
        world.Check();
    }

    [Fact]
    public void A_flood_is_pushed_out_in_slices_and_delayed_ones_by_when_they_are_due()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", Length(10, Overflow.DropHead)), slow = world.Declare("slow", Length(2, Overflow.DropHead));
        world.PublishMany(producer, queue, 2 * (int)QueueEngine.SliceTags, bodyBytes: 1);
        foreach (long delay in (long[])[5000, 1000, 3000, 4000])
        {
            world.Publish(producer, slow, properties: World.Property(PropertyTag.Delay, delay));
        }

        Assert.Equal(2 + 2, world.PushOut());
        Assert.Equal(10, world.Engine.View(queue).Ready);
        Assert.Equal([1ul, 4], Waiting(world, slow));
        world.Check();
    }

    [Fact]
    public void What_contradicts_itself_is_refused_in_words()
    {
        Assert.Contains("needs a max-length", (QueueAttributes.Default with { Overflow = Overflow.DropHead }).Fault("q"), StringComparison.Ordinal);
        Assert.Contains("needs a dead-letter queue", (Length(1, Overflow.DeadLetter) with { DeadLetter = "" }).Fault("q"), StringComparison.Ordinal);
        Assert.Contains("max-length", Length(-1).Fault("q"), StringComparison.Ordinal);
        Assert.Contains("overflow must be", Length(1, (Overflow)3).Fault("q"), StringComparison.Ordinal);
        Assert.Contains("overflow is drop-head, not reject", Length(1, Overflow.DropHead).For("q").DifferenceTo(Length(1).For("q")), StringComparison.Ordinal);
        Assert.Equal("", Length(1, Overflow.DropHead).For("q").Fault("q"));
    }
}
