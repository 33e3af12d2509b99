using System.Text;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Engine.Tests;

/// <summary>Messages that die: of what, when not before, and that they are in one queue or in the other at every moment.</summary>
public sealed class DeathTests
{
    private static readonly byte[] s_words = "no such customer"u8.ToArray();

    private static QueueAttributes Most(int deliveries, string? deadLetter = null) => QueueAttributes.Default with { MaxDeliveries = deliveries, DeadLetter = deadLetter };

    private static uint Find(World world, string name) => world.Engine.TryFindQueue(Encoding.UTF8.GetBytes(name), out uint queue) ? queue : 0;

    [Theory]
    [InlineData("release")]
    [InlineData("lease")]
    [InlineData("end")]
    public void Three_deliveries_are_three_however_each_ends_and_then_it_is_a_dead_letter(string end)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", Most(3) with { LeaseMilliseconds = 1000 });
        world.Publish(producer, queue);
        for (int delivery = 1; delivery <= 3; delivery++)
        {
            uint subscription = world.Subscribe(queue, producer);
            Delivered one = Assert.Single(world.DispatchAll());
            Assert.Equal(delivery, one.Count);
            switch (end)
            {
                case "release":
                    world.Settle(producer, subscription, one.Delivery, 1, Outcome.Release);
                    break;
                case "lease":
                    world.Advance(1000);
                    break;
                default:
                    break;
            }

            world.Unsubscribe(subscription, producer, ulong.MaxValue);
        }

        QueueView view = world.Engine.View(queue);
        Assert.Equal((0L, 1L, 1ul, 0ul, 1L), (view.Ready, view.Dying, view.Exhausted, view.DeadLettered, view.Messages));
        (DyingMessage message, uint target, ulong tag, _) = Assert.Single(world.Bury());
        Assert.Equal(("q", 1ul, DeathReason.MaxDeliveries, "q.dead", 3), (message.QueueName, message.Tag, message.Reason, message.Target, message.Place.DeliveryCount));
        Assert.Equal((Find(world, "q.dead"), 1ul, 1L), (target, tag, world.Engine.View(target).Ready));
        view = world.Engine.View(queue);
        Assert.Equal((0L, 1ul), (view.Messages, view.DeadLettered));
        Assert.Equal("", world.Engine.View(target).Attributes.DeadLetter); // What dies there is gone: nothing goes on by itself.
        Assert.Equal(0, world.Engine.View(target).Attributes.MaxDeliveries);
        Assert.Equal(0, world.Advance(0));
        Assert.Empty(world.Bury());
        world.Check();
    }

    [Fact]
    public void What_does_not_count_kills_nobody()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", Most(2));
        world.Publish(producer, queue);
        uint subscription = world.Subscribe(queue, producer);
        for (int i = 0; i < 5; i++)
        {
            Assert.Equal(1, Assert.Single(world.DispatchAll()).Count);
            world.Release(producer, subscription, (ulong)i + 1, 1, 0, isCounted: false);
        }

        Assert.Equal(1, Assert.Single(world.DispatchAll()).Count);
        world.Unsubscribe(subscription, producer, 6); // It lay in the ring, untaken.
        for (int i = 0; i < 3; i++)
        {
            uint next = world.Subscribe(queue, producer);
            Assert.Equal(1, Assert.Single(world.DispatchAll()).Count);
            world.Unsubscribe(next, producer, 1);
        }

        Assert.Equal((1L, 0ul), (world.Engine.View(queue).Ready, world.Engine.View(queue).Exhausted));
        world.Check();
    }

    [Fact]
    public void The_last_delivery_goes_alone_to_one_who_holds_nothing_and_the_others_go_on_meanwhile()
    {
        using World world = new();
        ulong producer = world.Open(), other = world.Open(instance: 2);
        uint queue = world.Declare("q", Most(2));
        uint first = world.Subscribe(queue, producer, credit: 3), second = world.Subscribe(queue, other, credit: 3);
        world.PublishMany(producer, queue, 6);
        List<Delivered> all = world.DispatchAll(most: 3);
        world.Settle(all[0].Subscription == first ? producer : other, all[0].Subscription, 1, 1, Outcome.Release); // Tag 1.
        world.PublishMany(producer, queue, 4);
        List<Delivered> then = world.DispatchAll();
        Assert.DoesNotContain(then, delivered => delivered.Tag == 1); // Both hold something.

        // One of the two gets nothing more until it holds nothing: then the message, and nothing beside it.
        uint drained = then.Count == 0 || then[0].Subscription == second ? first : second;
        ulong owner = drained == first ? producer : other;
        (_, _, ulong next, long open) = world.Engine.ViewSubscription(drained);
        Assert.InRange(open, 1, 3);
        world.Settle(owner, drained, 1, (uint)(next - 1));
        then.AddRange(world.DispatchAll());
        Delivered last = Assert.Single(then, delivered => delivered.Subscription == drained);
        Assert.Equal((1ul, 2), (last.Tag, last.Count));
        world.Restart(fromSnapshot: true);
        Assert.True(world.Resume(drained, owner, ulong.MaxValue).IsTaken);
        world.Engine.SetCredit(drained, 100, ulong.MaxValue);
        Assert.Empty(world.DispatchAll()); // Over a restart, too.
        world.Settle(owner, drained, last.Delivery);
        Assert.NotEmpty(world.DispatchAll());
        world.Check();
    }

    [Fact]
    public void Where_one_delivery_is_allowed_each_goes_alone()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", Most(1));
        uint first = world.Subscribe(queue, producer), second = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 4);
        Assert.Equal([1ul, 2], world.DispatchAll().Select(delivered => delivered.Tag));
        world.Settle(producer, first, 1, 1);
        world.Settle(producer, second, 1, 1, Outcome.Release);
        Assert.Equal([3ul, 4], world.DispatchAll().Select(delivered => delivered.Tag));
        Assert.Equal(2ul, Assert.Single(world.Bury()).Message.Tag);
        world.Check();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_reject_kills_at_once_and_its_words_stay_with_the_message_until_it_has_left(bool fromSnapshot)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 3);
        world.DispatchAll();
        Assert.True(world.Reject(producer, subscription, 1, 2, s_words).IsTaken);
        world.Settle(producer, subscription, 3, 1, Outcome.Reject);
        world.Restart(fromSnapshot);
        Assert.True(world.Engine.HasDying);
        List<(DyingMessage Message, uint Target, ulong Tag, int)> buried = world.Bury();
        Assert.Equal([(1ul, "no such customer"), (2, "no such customer"), (3, "")], buried.Select(one => (one.Message.Tag, Encoding.UTF8.GetString(one.Message.Words.Span))));
        Assert.All(buried, one => Assert.Equal(DeathReason.Rejected, one.Message.Reason));
        Assert.Equal(3L, world.Engine.View(buried[0].Target).Ready);
        Assert.False(world.Engine.TryNextDying(long.MaxValue, out _) || world.Engine.HasDying);
        world.Check();
    }

    [Fact]
    public void Words_are_of_rejects_alone_and_have_a_limit()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 1);
        world.DispatchAll();
        Assert.Equal(RefusalCode.BadArgument, world.Reject(producer, subscription, 1, 1, s_words, Outcome.Accept).Code);
        Assert.Equal(RefusalCode.BadArgument, world.Reject(producer, subscription, 1, 1, s_words, Outcome.Release).Code);
        Assert.Equal(RefusalCode.BadArgument, world.Reject(producer, subscription, 1, 1, new byte[Limits.MaxWordsBytes + 1]).Code);
        Assert.True(world.Reject(producer, subscription, 1, 1, new byte[Limits.MaxWordsBytes]).IsTaken);
        world.Check();
    }

    [Fact]
    public void Where_there_are_no_dead_letters_what_dies_is_gone_and_counted()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", Most(2, ""));
        uint subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 2);
        world.Publish(producer, queue, properties: World.Property(PropertyTag.Ttl, 10));
        world.DispatchAll();
        world.Reject(producer, subscription, 1, 1, s_words);
        world.Settle(producer, subscription, 2, 1, Outcome.Release);
        world.DispatchAll();
        world.Settle(producer, subscription, 3, 1, Outcome.Release);
        world.Advance(10);
        world.DispatchAll();
        world.Settle(producer, subscription, 4, 1, Outcome.Release);
        QueueView view = world.Engine.View(queue);
        Assert.Equal((0L, 0L, 1ul, 1ul, 1ul, 0ul), (view.Messages, view.Bytes, view.Rejected, view.Exhausted, view.Expired, view.DeadLettered));
        Assert.Empty(world.Bury());
        Assert.Equal(0L, world.Engine.LiveBytes);
        Assert.Equal(0, world.Engine.View(world.Declare("r", QueueAttributes.Default with { DeadLetter = "" })).Attributes.MaxDeliveries); // Unless it is said, nothing is lost by counting.
        world.Check();
    }

    [Fact]
    public void At_every_record_a_dying_message_is_in_one_queue_or_in_the_other()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 5);
        world.DispatchAll();
        for (uint i = 1; i <= 5; i++)
        {
            world.Reject(producer, subscription, i, 1, s_words);
            world.Bury(most: i == 3 ? 0 : 1);
        }

        world.Bury();
        int last = -1;
        for (int cut = 0; cut <= world.Log.Count; cut++)
        {
            using QueueEngine engine = new(new EngineLimits());
            world.Log.Take(cut).ToList().ForEach(logged => Assert.Equal(ApplyVerdict.Applied, World.Apply(engine, logged)));
            engine.CheckConservation();
            long messages = engine.MessageCount;
            Assert.True(messages is >= 0 and <= 5 && messages >= last);
            last = (int)messages;
        }

        Assert.Equal(5, last);
        Assert.Equal(5, world.Engine.View(Find(world, "q.dead")).Ready);
        world.Check();
    }

    [Fact]
    public void What_cannot_leave_now_stays_and_is_tried_again_and_other_queues_do_not_wait_for_it()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q"), other = world.Declare("other");
        foreach (uint each in (uint[])[queue, other])
        {
            world.PublishMany(producer, each, 1);
            uint subscription = world.Subscribe(each, producer);
            world.DispatchAll();
            world.Settle(producer, subscription, 1, 1, Outcome.Reject);
        }

        world.Engine.PauseDeadLetters(queue, world.IntervalMicros + 100_000);
        Assert.Equal([other], world.Bury().Select(one => one.Message.Queue));
        Assert.True(world.Engine.HasDying);
        MessageView stays = Assert.Single(world.Engine.Browse(queue, 0, 10, out _));
        Assert.Equal((MessageState.DeadLettering, DeathReason.Rejected, false), (stays.State, stays.Reason, stays.IsStopped));
        world.Advance(100);
        Assert.Equal([queue], world.Bury().Select(one => one.Message.Queue));
        world.Check();
    }

    [Fact]
    public void A_dead_letter_that_finds_no_memory_stays_where_it_died()
    {
        using World world = new(new EngineLimits { IndexBytes = 64 * 1024 });
        ulong producer = world.Open();
        uint queue = world.Declare("q"), target = world.Declare("q.dead", QueueAttributes.OfDeadLetters), hog = world.Declare("hog");
        uint subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 1);
        world.DispatchAll();
        world.Settle(producer, subscription, 1, 1, Outcome.Reject);
        while (world.Publish(producer, hog, 1).IsTaken)
        {
        }

        Assert.True(world.Engine.TryNextDying(0, out DyingMessage message));
        Assert.Equal(RefusalCode.LimitReached, world.Engine.TakeIn(World.LetterOf(message, target), new Place(1, 0), world.Block).Code);
        Assert.Equal((1L, 0L), (world.Engine.View(queue).Dying, world.Engine.View(target).Ready));
        world.Check();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void What_has_gone_in_a_circle_stays_marked_and_is_tried_no_more(bool fromSnapshot)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 2);
        world.DispatchAll();
        world.Settle(producer, subscription, 1, 2, Outcome.Reject);
        Assert.True(world.StopDeath(queue, 1) > 0);
        world.Restart(fromSnapshot);
        Assert.Equal([2ul], world.Bury().Select(one => one.Message.Tag));
        Assert.False(world.Engine.TryNextDying(long.MaxValue, out _) || world.Engine.HasDying);
        MessageView stays = Assert.Single(world.Engine.Browse(queue, 0, 10, out _));
        Assert.Equal((1ul, MessageState.DeadLettering, DeathReason.Rejected, true), (stays.Tag, stays.State, stays.Reason, stays.IsStopped));
        world.Check();
    }

    [Fact]
    public void A_purge_leaves_the_dying_and_a_deletion_takes_them_with_their_words()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 3);
        world.DispatchAll();
        world.Reject(producer, subscription, 1, 2, s_words);
        world.Settle(producer, subscription, 3, 1, Outcome.Release);
        Assert.Equal(1ul, world.Purge(queue));
        world.Advance(0);
        Assert.Equal(2, world.Engine.View(queue).Dying);
        world.Delete(queue);
        world.Restart(fromSnapshot: true);
        Assert.Empty(world.Bury());
        world.Advance(0);
        Assert.Equal(0L, world.Engine.LiveBytes);
        Assert.Equal(0u, Find(world, "q.dead"));
        world.Check();
    }

    [Fact]
    public void A_dying_message_that_has_rotted_is_kept_as_damaged_and_its_death_is_not_counted()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 1);
        world.DispatchAll();
        world.Reject(producer, subscription, 1, 1, s_words);
        Assert.True(world.MarkDamaged(queue, 1));
        QueueView view = world.Engine.View(queue);
        Assert.Equal((0L, 1L, 0ul, 1L), (view.Dying, view.Damaged, view.Rejected, view.Messages));
        Assert.Empty(world.Bury());
        world.Restart(fromSnapshot: true);
        world.Check();
    }

    [Fact]
    public void A_dying_message_that_is_moved_is_not_looked_for_before_its_new_place_is_written()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 1);
        world.DispatchAll();
        world.Reject(producer, subscription, 1, 1, s_words);
        ulong died = world.Block;
        world.Begin(0);
        _ = world.Move(queue, 1, 100);
        Assert.True(world.Block > died);
        Assert.True(world.Engine.TryNextDying(world.IntervalMicros, out DyingMessage message));
        Assert.Equal(world.Block, message.Block);
        Assert.Single(world.Bury());
        world.Check();
    }

    [Theory]
    [InlineData("")]
    [InlineData("q.dead")]
    public void A_message_that_rots_in_its_consumers_hands_is_kept_as_damaged_whatever_back_off_or_last_delivery_says(string deadLetter)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", Most(2, deadLetter) with { BackoffFirstMilliseconds = 60_000 });
        uint subscription = world.Subscribe(queue, producer, credit: 1);
        world.PublishMany(producer, queue, 1);
        world.DispatchAll();
        world.Settle(producer, subscription, 1, 1, Outcome.Release);
        world.Advance(60_000);
        Assert.Equal(2, Assert.Single(world.DispatchAll()).Count);
        world.EndDelivery(subscription, 2);
        Assert.True(world.MarkDamaged(queue, 1));
        Assert.Equal((1L, 0ul), (world.Engine.View(queue).Damaged, world.Engine.View(queue).Exhausted));
        world.Check();
    }

    [Fact]
    public void A_message_that_died_elsewhere_is_refused_where_its_story_is_not_true()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        world.PublishMany(producer, queue, 1);
        DyingMessage lie = new(queue, "q", 1, default, DeathReason.Rejected, default, "q.dead", 0);
        byte[] record = World.LetterOf(lie, queue);
        BitConverter.TryWriteBytes(record.AsSpan(24), 2ul);
        Assert.Equal(ApplyVerdict.Contradiction, world.Engine.Apply(record, new Place(1, 8), 9));
        record[MessageHeader.SizeBytes] = (byte)PropertyTag.MessageId;
        Assert.Equal(ApplyVerdict.Contradiction, world.Engine.Apply(record, new Place(1, 8), 9));

        // Nor may a sender write it.
        PropertyWriter story = new(new byte[20]);
        story.Bytes(PropertyTag.Death, [1, 2, 3]);
        Assert.Equal(RefusalCode.BadArgument, world.Publish(producer, queue, properties: story.Written.ToArray()).Code);
        world.Check();
    }

    [Fact]
    public void A_failed_delivery_waits_longer_each_time_and_a_delay_of_its_own_instead_of_that()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { BackoffFirstMilliseconds = 1000, BackoffFactorPermille = 3000, BackoffMostMilliseconds = 20_000, LeaseMilliseconds = 500 });
        uint subscription = world.Subscribe(queue, producer);
        world.Publish(producer, queue);
        for (int delivery = 1; delivery <= 5; delivery++)
        {
            ulong number = Assert.Single(world.DispatchAll()).Delivery;
            if (delivery == 2)
            {
                world.Advance(500); // Its lease ends.
            }
            else
            {
                world.Settle(producer, subscription, number, 1, Outcome.Release);
            }

            long wait = delivery switch { 1 => 1000, 2 => 3000, 3 => 9000, _ => 20_000 };
            MessageView message = Assert.Single(world.Engine.Browse(queue, 0, 1, out _));
            Assert.Equal(MessageState.Delayed, message.State);
            Assert.InRange(message.DueMicros - world.IntervalMicros, wait * 800 - 1000, wait * 1000);
            world.Advance((message.DueMicros - world.IntervalMicros + 999) / 1000);
        }

        Delivered sixth = Assert.Single(world.DispatchAll());
        world.Release(producer, subscription, sixth.Delivery, 1, 50);
        world.Advance(50);
        Delivered seventh = Assert.Single(world.DispatchAll());
        world.Release(producer, subscription, seventh.Delivery, 1, 0, isCounted: false); // As if it had not been: at once.
        Assert.Single(world.DispatchAll());
        world.Check();
    }

    [Fact]
    public void The_waits_of_neighbours_are_apart_and_the_same_at_each_look()
    {
        QueueAttributes attributes = QueueAttributes.Default with { BackoffFirstMilliseconds = 1_000_000, BackoffMostMilliseconds = Limits.MaxDelayMilliseconds };
        long[] waits = [.. Enumerable.Range(1, 1000).Select(tag => attributes.BackoffAfter((ulong)tag, 1))];
        Assert.Equal(waits, Enumerable.Range(1, 1000).Select(tag => attributes.BackoffAfter((ulong)tag, 1)));
        Assert.All(waits, wait => Assert.InRange(wait, 800_000, 1_000_000));
        Assert.InRange(waits.Average(), 880_000, 920_000);
        Assert.True(waits.Distinct().Count() > 900);
        Assert.InRange(attributes.BackoffAfter(1, ushort.MaxValue), Limits.MaxDelayMilliseconds / 10 * 8, Limits.MaxDelayMilliseconds);
        Assert.Equal(0, QueueAttributes.Default.BackoffAfter(1, 5));
    }

    [Fact]
    public void What_is_left_open_follows_from_the_name_and_what_contradicts_itself_is_refused_in_words()
    {
        QueueAttributes plain = QueueAttributes.Default.For("orders");
        Assert.Equal(("orders.dead", 20L), (plain.DeadLetter, plain.MaxDeliveries!.Value));
        Assert.Equal("", plain.DifferenceTo((QueueAttributes.Default with { DeadLetter = "orders.dead", MaxDeliveries = 20 }).For("orders")));
        Assert.Contains("max-deliveries is 20, not 3", plain.DifferenceTo(Most(3).For("orders")), StringComparison.Ordinal);
        Assert.Contains("dead-letter is 'orders.dead', not ''", plain.DifferenceTo(Most(20, "").For("orders")), StringComparison.Ordinal);
        Assert.Contains("ttl is 0 ms, not 5 ms", plain.DifferenceTo(plain with { TtlMilliseconds = 5 }), StringComparison.Ordinal);
        string longest = new('ä', 127);
        Assert.Equal(new string('ä', 125) + ".dead", QueueAttributes.Default.For(longest).DeadLetter);
        Assert.Contains("its own", (QueueAttributes.Default with { DeadLetter = "q" }).Fault("q"), StringComparison.Ordinal);
        Assert.Contains("dead-letter", (QueueAttributes.Default with { DeadLetter = "a\nb" }).Fault("q"), StringComparison.Ordinal);
        Assert.Contains("max-deliveries", Most(-1).Fault("q"), StringComparison.Ordinal);
        Assert.Contains("ttl", (QueueAttributes.Default with { TtlMilliseconds = -1 }).Fault("q"), StringComparison.Ordinal);
        Assert.Contains("first wait is above", (QueueAttributes.Default with { BackoffFirstMilliseconds = 10, BackoffMostMilliseconds = 9 }).Fault("q"), StringComparison.Ordinal);
        Assert.Contains("factor", (QueueAttributes.Default with { BackoffFactorPermille = 999 }).Fault("q"), StringComparison.Ordinal);
        Assert.Equal("", plain.Fault("orders"));
    }
}
