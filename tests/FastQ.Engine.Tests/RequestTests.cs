using System.Text;
using FastQ.Protocol;
using Xunit;
using Outcome = FastQ.Protocol.Outcome;

namespace FastQ.Engine.Tests;

/// <summary>Messages to which somebody waits for a reply: refused where nobody would answer, delivered once, and their deaths told instead of being kept.</summary>
public sealed class RequestTests
{
    [Fact]
    public void A_request_is_refused_where_its_queue_has_no_consumer_unless_it_waits_for_one()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        Assert.Equal(Decision.Refuse(RefusalCode.NoResponder), world.Publish(producer, queue, properties: World.Request()));
        Assert.Equal(Decision.Taken, world.Publish(producer, queue, properties: World.Request(needsConsumer: false)));
        uint subscription = world.Subscribe(queue, producer);
        Assert.Equal(Decision.Taken, world.Publish(producer, queue, properties: World.Request()));
        world.Unsubscribe(subscription, producer, ulong.MaxValue);
        Assert.Equal(RefusalCode.NoResponder, world.Publish(producer, queue, properties: World.Request()).Code);
        Assert.Equal(RefusalCode.BadArgument, world.Publish(producer, queue, properties: World.Property(PropertyTag.Request, 2)).Code);
        Assert.Equal(2ul, world.Engine.View(queue).Published);
        world.Check();
    }

    // A consumer's death, the end of its lease and a release that counts are one: the delivery is over, and no reply came.
    [Theory]
    [InlineData("death", "q.dead", "")]
    [InlineData("lease", "q.dead", "records")]
    [InlineData("release", "", "snapshot")]
    [InlineData("reject", "", "records")]
    [InlineData("reject", "q.dead", "snapshot")]
    public void A_request_is_delivered_once_and_its_death_is_told_whether_or_not_there_are_dead_letters(string end, string deadLetter, string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { DeadLetter = deadLetter, MaxDeliveries = 20, BackoffFirstMilliseconds = 1000 });
        uint subscription = world.Subscribe(queue, producer, leaseMilliseconds: 1000);
        world.Publish(producer, queue, properties: World.Request());
        world.Publish(producer, queue);
        Assert.Equal(2, world.DispatchAll().Count);
        switch (end)
        {
            case "death":
                world.Unsubscribe(subscription, producer, 2);
                break;
            case "lease":
                world.Advance(1000);
                break;
            case "release":
                world.Release(producer, subscription, 1, 1, 0);
                break;
            default:
                world.Reject(producer, subscription, 1, 1, Words("no such customer"));
                break;
        }

        if (restart.Length > 0)
        {
            world.Restart(restart == "snapshot");
        }

        QueueView dying = world.Engine.View(queue);
        Assert.Equal((1L, end == "reject" ? 1ul : 0, end == "reject" ? 0 : 1ul), (dying.Dying, dying.Rejected, dying.Exhausted));
        DyingMessage told = Assert.Single(world.EndRequests());
        Assert.Equal((1ul, end == "reject" ? DeathReason.Rejected : DeathReason.MaxDeliveries), (told.Tag, told.Reason));
        Assert.Equal(end == "reject" ? "no such customer" : "", FieldReader.TryBytes(told.Words.Span, FieldTag.Text, out ReadOnlySpan<byte> words) ? Encoding.UTF8.GetString(words) : "");
        QueueView view = world.Engine.View(queue);
        Assert.Equal((0L, 0ul, 1L), (view.Dying, view.DeadLettered, view.Messages));
        world.Check();
    }

    [Fact]
    public void A_request_that_was_given_back_uncounted_goes_to_the_next_consumer_and_still_only_once()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer);
        world.Publish(producer, queue, properties: World.Request());
        world.DispatchAll();
        world.Release(producer, subscription, 1, 1, 0, isCounted: false);
        world.Restart(fromSnapshot: true);
        Assert.True(world.Resume(subscription, producer, ulong.MaxValue).IsTaken);
        world.Engine.SetCredit(subscription, 9, ulong.MaxValue);
        Delivered again = Assert.Single(world.DispatchAll());
        Assert.Equal((1ul, 1), (again.Tag, again.Count));
        world.Release(producer, subscription, again.Delivery, 1, 0);
        Assert.Empty(world.DispatchAll());
        Assert.Single(world.EndRequests());
        world.Check();
    }

    [Fact]
    public void A_request_that_has_expired_is_gone_without_a_word_and_one_that_is_pushed_out_is_told()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { MaxLength = 1, Overflow = Overflow.DropHead });
        world.Publish(producer, queue, properties: World.Request(needsConsumer: false));
        world.Publish(producer, queue, properties: World.Request(needsConsumer: false, ttl: 500));
        world.PushOut();
        Assert.Equal(DeathReason.Overflow, Assert.Single(world.EndRequests()).Reason);
        world.Advance(500);
        Assert.Empty(world.EndRequests());
        QueueView view = world.Engine.View(queue);
        Assert.Equal((0L, 1ul, 1ul), (view.Messages, view.Expired, view.Overflowed));
        Assert.False(world.Engine.TryFindQueue("q.dead"u8, out _));
        world.Check();
    }

    // Where only one delivery is allowed, a message goes alone; requests go side by side, though each is delivered once.
    [Fact]
    public void Many_requests_go_to_one_consumer_at_once_and_dead_letters_do_not_stand_in_their_way()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer);
        world.Publish(producer, queue);
        for (int i = 0; i < 5; i++)
        {
            world.Publish(producer, queue, properties: World.Request());
        }

        Assert.Equal(6, world.DispatchAll().Count);
        world.Settle(producer, subscription, 1, 1, Outcome.Reject);
        world.Change(queue, QueueAttributes.Default with { DeadLetter = "" }); // What died before stays: it has no way out now.
        world.Settle(producer, subscription, 2, 4, Outcome.Reject);
        Assert.Equal([2ul, 3, 4, 5], world.EndRequests().Select(message => message.Tag));
        Assert.Equal((1L, 1L), (world.Engine.View(queue).Dying, world.Engine.View(queue).InFlight));
        world.Check();
    }

    private static byte[] Words(string text)
    {
        FieldWriter words = new(new byte[200]);
        words.Text(FieldTag.Text, text);
        return words.Written.ToArray();
    }
}
