using System.Text;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Engine.Tests;

/// <summary>What users and the other rooms rely on, each in a story of its own. Rn is the scenario in DESIGN-REVIEW.</summary>
public sealed class PromiseTests
{
    [Fact]
    public void A_refused_number_is_known_after_a_restart_until_its_producer_has_seen_it()
    {
        // R2: 1 taken, 2 refused, 3 taken; the broker dies before it could tell.
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        world.Publish(producer, queue);
        Assert.Equal(RefusalCode.UnknownQueue, world.Publish(producer, 77).Code);
        world.Publish(producer, queue);
        world.Restart();
        Assert.Equal(3ul, world.Engine.ViewProducer(producer).LastNumber);
        Assert.Equal([new KeptRefusal(2, RefusalCode.UnknownQueue)], world.Engine.RefusalsOf(producer));
        world.AcknowledgeRefusals(producer, 3);
        world.Restart(fromSnapshot: true);
        Assert.Empty(world.Engine.RefusalsOf(producer));
        world.Check();
    }

    [Fact]
    public void A_resent_number_is_dropped_and_a_number_too_high_is_told()
    {
        // R39
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        world.PublishMany(producer, queue, 3);
        world.Restart();
        Assert.Equal(DecisionKind.Duplicate, world.Publish(producer, queue, number: 3).Kind);
        Assert.Equal(DecisionKind.OutOfOrder, world.Publish(producer, queue, number: 5).Kind);
        Assert.True(world.Publish(producer, queue, number: 4).IsTaken);
        Assert.Equal(4, world.Engine.View(queue).Ready);
        world.Check();
    }

    [Fact]
    public void What_is_browsed_is_what_is_there_and_how_it_stands()
    {
        using World world = World.WithEverything(); // Of "a", 20 were handed out; 1 to 4 are accepted, 6 and 7 came back, 9 is rejected, 10 and 11 came back uncounted and are delayed, 29 has rotted.
        Assert.True(world.Engine.TryFindQueue("a"u8, out uint queue));
        List<MessageView> seen = [];
        for (ulong tag = 0; seen.Count == 0 || tag != 0;)
        {
            IReadOnlyList<MessageView> page = world.Engine.Browse(queue, tag, 7, out tag);
            Assert.InRange(page.Count, 1, 7);
            Assert.True(tag == 0 || page.Count == 7);
            seen.AddRange(page);
        }

        QueueView view = world.Engine.View(queue);
        Assert.Equal([5ul, 6, 7, 8, .. Enumerable.Range(10, 21).Select(one => (ulong)one)], seen.Select(message => message.Tag));
        Assert.Equal(view.Ready, seen.Count(message => message.State == MessageState.Ready));
        Assert.Equal(view.InFlight, seen.Count(message => message.State == MessageState.InFlight));
        Assert.Equal([10ul, 11], seen.Where(message => message.State == MessageState.Delayed).Select(message => message.Tag));
        Assert.All(seen, message => Assert.Equal(message.State == MessageState.Delayed ? world.IntervalMicros + 5_000_000 : 0, message.DueMicros));
        Assert.Equal([29ul], seen.Where(message => message.State == MessageState.Damaged).Select(message => message.Tag));
        Assert.All(seen, message => Assert.Equal(message.State == MessageState.InFlight, message.Subscription != 0 && message.LeaseEndMicros > world.IntervalMicros));
        Assert.Equal([1, 1], seen.Where(message => message.Tag is 6 or 7).Select(message => message.Deliveries));
        Assert.Empty(world.Engine.Browse(queue, ulong.MaxValue, 7, out ulong end));
        Assert.Equal(0ul, end);
        Assert.True(world.Engine.TryFindQueue("b"u8, out uint purged));
        Assert.Equal(3, world.Engine.Browse(purged, 0, 100, out _).Count); // Eleven are purged, and some of them may still lie in the index.
        world.Check();
    }

    [Fact]
    public void A_late_settle_does_not_touch_the_same_message_delivered_again_to_the_same_consumer()
    {
        // R15: 1 to 10 delivered, 5's lease ends, 5 comes to the same consumer as delivery 11; its settle of 1 to 10 was sent before.
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, leaseMilliseconds: 1000);
        world.PublishMany(producer, queue, 10);
        world.DispatchAll();
        world.Extend(producer, subscription, 1, 4, 60_000);
        world.Extend(producer, subscription, 6, 5, 60_000);
        world.Advance(1000);
        Delivered again = Assert.Single(world.DispatchAll());
        Assert.Equal((11ul, 5ul, 2, true), (again.Delivery, again.Tag, again.Count, again.IsRedelivered));
        world.Settle(producer, subscription, 1, 10);
        Assert.Equal([new LateRange(5, 1, RefusalCode.LeaseLost)], world.Engine.LateRanges.ToArray());
        Assert.Equal((1L, 9ul), (world.Engine.View(queue).InFlight, world.Engine.View(queue).Accepted));
        world.Settle(producer, subscription, 1, 10);
        Assert.Equal([new LateRange(1, 10, RefusalCode.AlreadySettled)], world.Engine.LateRanges.ToArray());
        world.Check();
    }

    [Fact]
    public void A_settle_that_came_too_late_is_known_after_a_restart_until_its_client_has_seen_it()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, leaseMilliseconds: 1000);
        world.PublishMany(producer, queue, 1);
        world.DispatchAll();
        world.Advance(1000);
        world.DispatchAll();
        world.Settle(producer, subscription, 1, 1);
        Assert.Equal([new LateRange(1, 1, RefusalCode.LeaseLost)], world.Engine.LateRanges.ToArray());
        ulong number = world.Engine.ViewProducer(producer).LastNumber;
        world.Restart();
        Assert.Equal([new KeptRefusal(number, RefusalCode.LeaseLost)], world.Engine.RefusalsOf(producer));
        world.AcknowledgeRefusals(producer, number);
        Assert.Empty(world.Engine.RefusalsOf(producer));
    }

    [Fact]
    public void A_range_over_two_consumers_settles_only_the_askers_deliveries()
    {
        // R15: both have deliveries 1 to 32 of their own.
        using World world = new();
        ulong a = world.Open();
        ulong b = world.Open(instance: 2);
        uint queue = world.Declare("q");
        uint first = world.Subscribe(queue, a, credit: 32);
        uint second = world.Subscribe(queue, b, credit: 32);
        world.PublishMany(a, queue, 64);
        world.DispatchAll();
        world.Settle(a, first, 1, 32);
        Assert.Equal(32, world.Engine.ViewSubscription(second).Open);
        Assert.Equal(RefusalCode.UnknownSubscription, world.Settle(a, second, 1, 32).Code);
        Assert.Equal(RefusalCode.BadArgument, world.Settle(a, first, 1, 33).Code);
        Assert.Equal(RefusalCode.BadArgument, world.Settle(a, first, ulong.MaxValue, 5).Code);
        Assert.Equal(RefusalCode.BadArgument, world.Settle(a, first, 0, 1).Code);
        world.Check();
    }

    [Fact]
    public void Released_messages_go_out_in_their_places_and_the_cursor_does_not_go_back()
    {
        // R45: 100,000 in flight, every 1,000th comes back.
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, credit: 200_000);
        world.PublishMany(producer, queue, 100_000, bodyBytes: 0);
        world.DispatchAll();
        for (ulong tag = 1000; tag <= 100_000; tag += 1000)
        {
            world.Settle(producer, subscription, 101_000 - tag, 1, Outcome.Release);
        }

        List<Delivered> again = world.DispatchAll();
        Assert.Equal(Enumerable.Range(1, 100).Select(i => (ulong)i * 1000), again.Select(delivered => delivered.Tag));
        world.PublishMany(producer, queue, 1);
        Assert.Equal(100_001ul, Assert.Single(world.DispatchAll()).Tag);
        world.Check();
    }

    [Fact]
    public void A_queue_made_again_under_its_name_is_another_one()
    {
        // R60
        using World world = new();
        ulong producer = world.Open();
        uint old = world.Declare("q");
        uint subscription = world.Subscribe(old, producer);
        world.PublishMany(producer, old, 3);
        world.DispatchAll();
        world.Delete(old);
        uint queue = world.Declare("q");
        Assert.NotEqual(old, queue);
        world.PublishMany(producer, queue, 1);
        Assert.Equal(RefusalCode.UnknownSubscription, world.Settle(producer, subscription, 1, 3).Code);
        Assert.Equal(RefusalCode.QueueDeleted, world.Publish(producer, old).Code);
        Assert.Equal((1L, 0ul), (world.Engine.View(queue).Ready, world.Engine.View(queue).Accepted));
        Assert.True(world.Engine.TryTakeEnded(out EndedSubscription ended));
        Assert.Equal(new EndedSubscription(subscription, RefusalCode.QueueDeleted), ended);
        world.Advance(0);
        Assert.Equal(1, world.Engine.Slot(1).Live);
        world.Check();
    }

    [Fact]
    public void A_deleted_queue_gives_all_its_memory_back_when_its_slices_are_done()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        world.Subscribe(queue, producer, credit: 5000);
        world.PublishMany(producer, queue, 10_000, bodyBytes: 0);
        world.DispatchAll();
        world.Delete(queue);
        Assert.Equal(0, world.Engine.QueueCount);
        Assert.InRange(world.Advance(0), 2, 4);
        Assert.Equal(0, world.Engine.MeasureNativeBytes());
        Assert.Equal(0, world.Engine.LiveBytes);
        world.Check();
    }

    [Fact]
    public void Whoever_may_still_read_a_message_is_named_when_its_delivery_ends_without_his_word()
    {
        // R8: a lease's end and a deletion leave orphans, a settle and a session's end do not.
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, credit: 3, leaseMilliseconds: 1000);
        world.PublishMany(producer, queue, 6);
        world.DispatchAll();
        world.Settle(producer, subscription, 1);
        Assert.False(world.Engine.TryTakeOrphan(out _));
        world.Advance(1000);
        Assert.Equal([2ul, 3ul], Orphans(world, subscription));
        world.DispatchAll();
        world.Delete(queue);
        Assert.Equal([4ul, 5ul, 6ul], Orphans(world, subscription));
    }

    [Fact]
    public void A_recovery_ends_no_lease_before_the_grace_is_over_and_the_owner_may_settle_what_it_held()
    {
        // R36
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, leaseMilliseconds: 1000);
        world.PublishMany(producer, queue, 2);
        world.DispatchAll();
        world.Restart();
        world.Engine.GraceUntilMicros = world.IntervalMicros + 5_000_000;
        Assert.Equal(0, world.Advance(4_999));
        Assert.True(world.Engine.NextTimerMicros >= world.Engine.GraceUntilMicros);
        Assert.True(world.Resume(subscription, producer, 3).IsTaken);
        Assert.True(world.Settle(producer, subscription, 1).IsTaken);
        Assert.Equal(1, world.Advance(1));
        Assert.Equal((1L, 1ul), (world.Engine.View(queue).Ready, world.Engine.View(queue).Accepted));
        world.Settle(producer, subscription, 2);
        Assert.Equal([new LateRange(2, 1, RefusalCode.LeaseLost)], world.Engine.LateRanges.ToArray());
        world.Check();
    }

    [Fact]
    public void A_subscription_that_nobody_resumes_ends_when_its_leases_have_ended()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint idle = world.Subscribe(queue, producer);
        uint holding = world.Subscribe(queue, producer, leaseMilliseconds: 1000);
        world.Engine.SetCredit(idle, 0, 0);
        world.PublishMany(producer, queue, 1);
        world.DispatchAll();
        world.Restart();
        world.Advance(0);
        Assert.False(world.Engine.IsSubscription(idle));
        Assert.True(world.Engine.IsSubscription(holding));
        world.Advance(1000);
        Assert.False(world.Engine.IsSubscription(holding));
        Assert.Equal(1, world.Engine.View(queue).Ready);
        world.Check();
    }

    [Fact]
    public void What_a_client_never_took_goes_back_uncounted_and_what_it_took_counted()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 4);
        world.DispatchAll();
        world.Unsubscribe(subscription, producer, firstNotTaken: 3);
        world.Subscribe(queue, producer);
        Assert.Equal([(1ul, 2, true), (2ul, 2, true), (3ul, 1, false), (4ul, 1, false)], world.DispatchAll().Select(delivered => (delivered.Tag, delivered.Count, delivered.IsRedelivered)));
        Assert.Equal(2ul, world.Engine.View(queue).Redelivered);
        world.Check();
    }

    [Fact]
    public void A_purge_changes_the_counts_at_once_and_takes_nothing_that_comes_back_after_it()
    {
        // R43
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, credit: 10);
        world.PublishMany(producer, queue, 20_000, bodyBytes: 0);
        world.DispatchAll();
        Assert.Equal(19_990ul, world.Purge(queue));
        Assert.Equal((0L, 10L, 19_990ul), (world.Engine.View(queue).Ready, world.Engine.View(queue).InFlight, world.Engine.View(queue).Purged));
        world.Settle(producer, subscription, 1, 10, Outcome.Release);
        world.PublishMany(producer, queue, 5);
        Assert.Equal(15, world.Engine.View(queue).Ready);
        int slices = 0;
        while (world.Advance(0, mostRecords: 1) > 0)
        {
            slices++;
            world.Check();
            world.Restart(fromSnapshot: slices % 2 == 0);
            world.Engine.GraceUntilMicros = long.MaxValue; // Only the purge goes on.
        }

        Assert.InRange(slices, 4, 6);
        Assert.True(world.Resume(subscription, producer, 11).IsTaken);
        world.Engine.SetCredit(subscription, 100, ulong.MaxValue);
        Assert.Equal([.. Enumerable.Range(1, 10).Select(i => (ulong)i), .. Enumerable.Range(20_001, 5).Select(i => (ulong)i)], world.DispatchAll().Select(delivered => delivered.Tag));
        world.Check();
    }

    [Fact]
    public void A_second_purge_takes_what_came_back_after_the_first_and_is_one_record()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, credit: 10);
        world.PublishMany(producer, queue, 10_000, bodyBytes: 0);
        world.DispatchAll();
        world.Purge(queue);
        world.Settle(producer, subscription, 1, 10, Outcome.Release);
        Assert.Equal(10ul, world.Purge(queue));
        Assert.Equal(0ul, world.Purge(queue));
        world.Advance(0);
        Assert.Empty(world.DispatchAll());
        Assert.Equal((0L, 0L), (world.Engine.View(queue).Messages, world.Engine.View(queue).Bytes));
        world.Check();
    }

    [Fact]
    public void The_work_of_a_purge_goes_by_what_is_there_not_by_what_has_passed()
    {
        using World world = new(isLogging: false);
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, credit: 1000);
        world.PublishMany(producer, queue, 1); // The first one stays.
        world.DispatchAll();
        for (int i = 0; i < 200; i++)
        {
            world.PublishMany(producer, queue, 500, bodyBytes: 0);
            List<Delivered> delivered = world.DispatchAll();
            world.Settle(producer, subscription, delivered[0].Delivery, 500);
        }

        world.Purge(queue);
        Assert.InRange(world.Advance(0), 1, 2);
    }

    [Fact]
    public void Consumers_of_a_queue_share_it_and_queues_take_turns()
    {
        // R46
        using World world = new();
        ulong producer = world.Open();
        uint a = world.Declare("a");
        uint b = world.Declare("b");
        uint[] subscriptions = [world.Subscribe(a, producer), world.Subscribe(a, producer), world.Subscribe(b, producer)];
        world.PublishMany(producer, a, 128);
        world.PublishMany(producer, b, 128);
        world.Begin(0);
        List<Delivered>[] runs = [world.DispatchOnce(32), world.DispatchOnce(32), world.DispatchOnce(32), world.DispatchOnce(32)];
        Assert.All(runs, run => Assert.Equal(32, run.Count));
        Assert.Equal([a, b, a, b], runs.Select(run => run[0].Queue));
        Assert.Equal([subscriptions[0], subscriptions[2], subscriptions[1], subscriptions[2]], runs.Select(run => run[0].Subscription));
    }

    [Fact]
    public void Nobody_gets_more_than_its_credit_in_messages_or_bytes_or_while_it_is_held()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, credit: 5);
        world.PublishMany(producer, queue, 100, bodyBytes: 968);
        Assert.Equal(5, world.DispatchAll().Count);
        Assert.Empty(world.DispatchAll());
        world.Settle(producer, subscription, 1, 2);
        Assert.Equal(2, world.DispatchAll().Count);
        world.Engine.SetCredit(subscription, 100, 10_000);
        Assert.Equal(5, world.DispatchAll().Count); // One more record than fits into the bytes may be open.
        world.Engine.Hold(subscription, true);
        world.Engine.SetCredit(subscription, 100, ulong.MaxValue);
        Assert.Empty(world.DispatchAll());
        world.Engine.Hold(subscription, false);
        Assert.Equal(88, world.DispatchAll().Count);
        world.Check();
    }

    [Fact]
    public void A_damaged_message_is_kept_counted_and_passed_by()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, credit: 10);
        world.PublishMany(producer, queue, 4);
        Assert.True(world.MarkDamaged(queue, 1));
        Assert.True(world.MarkDamaged(queue, 3));
        Assert.False(world.MarkDamaged(queue, 3));
        Assert.Equal([2ul, 4ul], world.DispatchAll().Select(delivered => delivered.Tag));
        world.EndDelivery(subscription, 1);
        Assert.True(world.MarkDamaged(queue, 2));
        Assert.Empty(world.DispatchAll());
        Assert.Equal((3L, 1L), (world.Engine.View(queue).Damaged, world.Engine.View(queue).InFlight));
        world.Purge(queue);
        world.Advance(0);
        Assert.Equal(3, world.Engine.View(queue).Damaged);
        world.Check();
    }

    [Fact]
    public void A_moved_message_is_delivered_from_its_new_place_and_its_old_slot_is_free()
    {
        // R6
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 1000, bodyBytes: 100);
        Assert.True(world.Engine.Slot(1).Live > 0);
        long all = world.Engine.LiveBytes;
        ulong inFirst = (ulong)world.Engine.Slot(1).Live;
        Place place = default;
        for (ulong tag = 1; tag <= inFirst; tag++)
        {
            place = world.Move(queue, tag, 100);
        }

        Assert.Equal((0L, 0L, world.Block), (world.Engine.Slot(1).Live, world.Engine.Slot(1).LiveBytes, world.Engine.Slot(1).LastLeftBlock));
        Assert.Equal(all, world.Engine.LiveBytes);
        Assert.Equal(place, world.DispatchAll()[(int)inFirst - 1].Place);
        world.Check();
        world.Engine.ForgetSlot(1);
        Assert.Equal(default, world.Engine.Slot(1));
    }

    [Fact]
    public void Slots_count_what_lives_in_them_and_remember_when_the_last_left()
    {
        // R4 rests on it.
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 2, bodyBytes: 100);
        Assert.Equal(new SlotLive(2, 2 * (MessageHeader.SizeBytes + 100), 0), world.Engine.Slot(1));
        world.DispatchAll();
        world.Settle(producer, subscription, 1, 2);
        Assert.Equal(new SlotLive(0, 0, world.Block), world.Engine.Slot(1));
        world.Check();
    }

    [Fact]
    public void A_producer_is_forgotten_after_its_retention_and_never_taken_for_new()
    {
        // R38
        using World world = new();
        ulong gone = world.Open(instance: 1);
        ulong stays = world.Open(instance: 2);
        world.Engine.DetachProducer(gone);
        for (int hour = 0; hour < 7 * 24 - 1; hour++)
        {
            world.Advance(3_600_000);
        }

        Assert.True(world.Engine.ViewProducer(gone).IsKnown);
        world.Advance(2 * 3_600_000);
        Assert.False(world.Engine.ViewProducer(gone).IsKnown);
        Assert.True(world.Engine.ViewProducer(stays).IsKnown); // A session has it.
        world.Restart();
        world.Advance(3_600_000);
        Assert.True(world.Engine.ViewProducer(stays).IsKnown, "its retention begins when its session ended, not with its last message");
        byte[] room = new byte[QueueEngine.MaxFactBytes];
        Assert.Equal(RefusalCode.UnknownProducer, world.Engine.OpenProducer(gone, 1, 0, room, 1, out _, out _).Code);
        Assert.True(world.Open(instance: 1) > stays);
        world.Check();
    }

    [Fact]
    public void Only_the_same_client_resumes_a_producer_and_its_epoch_rises_each_time()
    {
        // R38
        using World world = new();
        ulong producer = world.Open(instance: 5);
        world.Publish(producer, world.Declare("q"));
        Assert.Equal(producer, world.Open(producer, instance: 5));
        world.Restart();
        Assert.Equal((2ul, 1ul), (world.Engine.ViewProducer(producer).Epoch, world.Engine.ViewProducer(producer).LastNumber));
        byte[] room = new byte[QueueEngine.MaxFactBytes];
        Assert.Equal(RefusalCode.Fenced, world.Engine.OpenProducer(producer, 6, 0, room, 1, out _, out _).Code);
        world.Check();
    }

    [Fact]
    public void Tokens_rise_over_restarts()
    {
        // R3: with the broker's epoch before them.
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, leaseMilliseconds: 1000);
        world.PublishMany(producer, queue, 3);
        ulong before = world.DispatchAll()[^1].Token;
        world.Restart(fromSnapshot: true);
        Assert.True(world.Resume(subscription, producer, 4).IsTaken);
        world.Engine.SetCredit(subscription, 10, ulong.MaxValue);
        world.Advance(1000);
        Assert.All(world.DispatchAll(), delivered => Assert.True(delivered.Token > before));
    }

    [Fact]
    public void A_queue_declared_again_is_the_same_and_one_with_other_attributes_is_refused_with_the_difference()
    {
        using World world = new();
        uint queue = world.Declare("q", 5000);
        Assert.Equal(queue, world.Declare("q", 5000));
        byte[] room = new byte[QueueEngine.MaxFactBytes];
        Decision other = world.Engine.DeclareQueue("q"u8, QueueAttributes.Default with { LeaseMilliseconds = 6000 }, room, 1, out int written, out _, out bool isNew, out string difference);
        Assert.Equal((RefusalCode.QueueExists, 0, false), (other.Code, written, isNew));
        Assert.Contains("5000", difference, StringComparison.Ordinal);
        Assert.Equal(RefusalCode.BadName, world.Engine.DeclareQueue("fastq.q"u8, QueueAttributes.Default, room, 1, out _, out _, out _, out _).Code);
        Assert.Equal(RefusalCode.BadArgument, world.Engine.DeclareQueue("r"u8, QueueAttributes.Default with { LeaseMilliseconds = 1 }, room, 1, out _, out _, out _, out _).Code);
        byte[] longest = Encoding.UTF8.GetBytes(new string('x', Limits.MaxNameBytes));
        Assert.True(world.Engine.DeclareQueue(longest, QueueAttributes.Default, room, 1, out written, out _, out _, out _).IsTaken);
        Assert.InRange(written, 1, QueueEngine.MaxFactBytes);
        Assert.True(world.Engine.TryFindQueue(longest, out _));
        Assert.False(world.Engine.TryFindQueue("none"u8, out _));
    }

    [Fact]
    public void Limits_refuse_with_their_value()
    {
        using World world = new(new EngineLimits { MaxQueues = 1, MaxSubscriptions = 1, MaxMessageBytes = 10 });
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        world.Subscribe(queue, producer);
        byte[] room = new byte[QueueEngine.MaxFactBytes];
        Assert.Equal(Decision.Refuse(RefusalCode.LimitReached, 1, "Queues"), world.Engine.DeclareQueue("r"u8, QueueAttributes.Default, room, 1, out _, out _, out _, out _));
        Assert.Equal(Decision.Refuse(RefusalCode.LimitReached, 1, "Subscriptions"), world.Engine.Subscribe(queue, producer, 0, 0, false, room, 1, out _, out _));
        Assert.Equal(Decision.Refuse(RefusalCode.TooLarge, 10, "The broker's max-message-size"), world.Publish(producer, queue, 11));
        Assert.True(world.Publish(producer, queue, 10).IsTaken);
        Assert.Equal([new KeptRefusal(1, RefusalCode.TooLarge)], world.Engine.RefusalsOf(producer));
        world.Check();
    }

    [Fact]
    public void A_command_takes_a_number_like_any_submission()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        world.FinishCommand(producer);
        Assert.Equal(DecisionKind.Duplicate, world.Publish(producer, queue, number: 1).Kind);
        Assert.True(world.Publish(producer, queue, number: 2).IsTaken);
        world.Begin(producer);
        Assert.Equal(DecisionKind.Duplicate, world.Engine.CheckNumber(2).Kind);
        Assert.True(world.Engine.CheckNumber(3).IsTaken);
        Assert.Equal(DecisionKind.OutOfOrder, world.Engine.CheckNumber(4).Kind);
        world.Check();
    }

    [Fact]
    public void Time_that_goes_back_ends_no_lease_and_time_does_not_go_back_with_it()
    {
        // R10: interval time never falls.
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        world.Subscribe(queue, producer, leaseMilliseconds: 1000);
        world.PublishMany(producer, queue, 1);
        world.DispatchAll();
        long then = world.IntervalMicros;
        world.IntervalMicros = 5;
        Assert.Equal(0, world.Advance(0));
        Assert.Equal(then, world.Engine.IntervalMicros);
        world.IntervalMicros = then;
        Assert.Equal(0, world.Advance(999));
        Assert.Equal(1, world.Advance(1));
        world.Check();
    }

    [Fact]
    public void A_lease_beyond_its_limits_is_refused_wherever_one_is_asked_for()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        byte[] room = new byte[QueueEngine.MaxFactBytes];
        foreach (long lease in (long[])[Limits.MinLeaseMilliseconds - 1, Limits.MaxLeaseMilliseconds + 1])
        {
            Assert.Equal(RefusalCode.BadArgument, world.Engine.DeclareQueue("r"u8, QueueAttributes.Default with { LeaseMilliseconds = lease }, room, 1, out int written, out _, out _, out string difference).Code);
            Assert.Contains($"{Limits.MaxLeaseMilliseconds} ms", difference, StringComparison.Ordinal);
            Assert.Equal(RefusalCode.BadArgument, world.Engine.Subscribe(queue, producer, lease, 0, false, room, 1, out int more, out _).Code);
            Assert.Equal((0, 0), (written, more));
        }

        uint subscription = world.Subscribe(queue, producer, leaseMilliseconds: Limits.MinLeaseMilliseconds);
        world.PublishMany(producer, queue, 1);
        world.DispatchAll();
        foreach (long lease in (long[])[Limits.MinLeaseMilliseconds - 1, Limits.MaxLeaseMilliseconds + 1])
        {
            Assert.Equal(RefusalCode.BadArgument, world.Extend(producer, subscription, 1, 1, lease).Code);
        }

        Assert.Equal(RefusalCode.BadArgument, world.Settle(producer, subscription, 1, count: 0).Code);
        Assert.True(world.Extend(producer, subscription, 1, 1, Limits.MaxLeaseMilliseconds).IsTaken);
        world.Check();
    }

    [Fact]
    public void A_queue_that_never_was_is_told_from_one_that_was_deleted()
    {
        using World world = new();
        ulong producer = world.Open();
        uint gone = world.Declare("gone");
        world.Delete(gone);
        byte[] room = new byte[QueueEngine.MaxFactBytes];
        foreach ((uint queue, RefusalCode code) in ((uint, RefusalCode)[])[(0, RefusalCode.UnknownQueue), (gone, RefusalCode.QueueDeleted), (gone + 1, RefusalCode.UnknownQueue)])
        {
            Assert.Equal(code, world.Publish(producer, queue).Code);
            Assert.Equal(code, world.Engine.Subscribe(queue, producer, 0, 0, false, room, 1, out _, out _).Code);
            Assert.Equal(code, world.Engine.PurgeQueue(queue, room, 1, out _, out _).Code);
            Assert.Equal(code, world.Engine.DeleteQueue(queue, room, 1, out _).Code);
        }

        world.Check();
    }

    [Fact]
    public void Only_its_producer_ends_or_resumes_a_subscription()
    {
        using World world = new();
        ulong producer = world.Open(), other = world.Open(instance: 2);
        uint subscription = world.Subscribe(world.Declare("q"), producer);
        byte[] room = new byte[QueueEngine.MaxFactBytes];
        foreach ((uint asked, ulong asker) in ((uint, ulong)[])[(subscription, other), (subscription + 1, producer), (0, producer)])
        {
            Assert.Equal(RefusalCode.UnknownSubscription, world.Engine.Unsubscribe(asked, asker, 1, room, 1, out int written).Code);
            Assert.Equal(RefusalCode.UnknownSubscription, world.Engine.ResumeSubscription(asked, asker, 1, room, 1, out int more).Code);
            Assert.Equal((0, 0), (written, more));
        }

        world.Unsubscribe(subscription, producer, 1);
        world.Check();
    }

    [Fact]
    public void A_refusal_that_was_acknowledged_is_not_acknowledged_by_another_record()
    {
        using World world = new();
        ulong producer = world.Open();
        Assert.False(world.Publish(producer, 99).IsTaken);
        world.AcknowledgeRefusals(producer, 1);
        Assert.Empty(world.Engine.RefusalsOf(producer));
        byte[] room = new byte[QueueEngine.MaxFactBytes];
        Assert.Equal(0, world.Engine.AcknowledgeRefusals(producer, 1, room, 1));
        Assert.Equal(0, world.Engine.AcknowledgeRefusals(producer, 0, room, 1));
        world.Check();
    }

    [Fact]
    public void Only_what_waits_can_be_marked_damaged()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, credit: 2);
        world.PublishMany(producer, queue, 4);
        world.DispatchAll();
        world.Settle(producer, subscription, 1);
        Assert.False(world.MarkDamaged(queue, 1), "it is gone");
        Assert.False(world.MarkDamaged(queue, 2), "it is in flight");
        Assert.True(world.MarkDamaged(queue, 3));
        Assert.False(world.MarkDamaged(queue, 3), "it is marked");
        Assert.False(world.MarkDamaged(queue, 99), "it never was");
        Assert.False(world.MarkDamaged(queue + 1, 1), "there is no such queue");
        world.Check();
    }

    private static List<ulong> Orphans(World world, uint subscription)
    {
        List<ulong> deliveries = [];
        while (world.Engine.TryTakeOrphan(out OrphanReference orphan))
        {
            Assert.Equal((subscription, 1u), (orphan.Subscription, orphan.Slot));
            deliveries.Add(orphan.Delivery);
        }

        return deliveries;
    }
}
