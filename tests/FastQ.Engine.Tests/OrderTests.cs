using System.Globalization;
using FastQ.Protocol;
using FsCheck;
using FsCheck.Fluent;
using Xunit;
using Outcome = FastQ.Protocol.Outcome;

namespace FastQ.Engine.Tests;

/// <summary>Queues with an order of their own: priority, tenants in turn, groups; and whose turn it is among consumers.</summary>
public sealed class OrderTests
{
    private static QueueAttributes Priority { get; } = QueueAttributes.Default with { Priority = true, MaxDeliveries = 0 };

    private static QueueAttributes Fifo { get; } = QueueAttributes.Default with { Fifo = true, MaxDeliveries = 0 };

    private static QueueAttributes Fair { get; } = QueueAttributes.Default with { Fair = true, MaxDeliveries = 0 };

    private sealed class Bench : IDisposable
    {
        public Bench(QueueAttributes attributes)
        {
            Producer = World.Open();
            Queue = World.Declare("q", attributes);
        }

        public World World { get; } = new();

        public ulong Producer { get; }

        public uint Queue { get; }

        /// <summary>Gives its tag.</summary>
        public ulong Publish(int priority = 0, string group = "", string tenant = "")
        {
            Assert.True(World.Publish(Producer, Queue, properties: World.Turn(priority, group, tenant)).IsTaken);
            return World.Engine.View(Queue).Published;
        }

        public uint Subscribe(uint credit = 1000, byte priority = 0) => World.Subscribe(Queue, Producer, credit, priority: priority);

        /// <summary>Tags in the order in which they are handed out.</summary>
        public ulong[] Dispatch() => [.. World.DispatchAll().Select(one => one.Tag)];

        public void Settle(uint subscription, ulong delivery, Outcome outcome = Outcome.Accept) => Assert.True(World.Settle(Producer, subscription, delivery, 1, outcome).IsTaken);

        public void Dispose()
        {
            World.Check();
            World.Dispose();
        }
    }

    [Fact]
    public void Higher_priorities_go_first_and_those_of_one_by_age()
    {
        using Bench bench = new(Priority);
        foreach (int priority in (int[])[0, 5, 255, 5, 0, 255, 64, 63])
        {
            bench.Publish(priority);
        }

        bench.Subscribe();
        Assert.Equal([3ul, 6, 7, 8, 2, 4, 1, 5], bench.Dispatch());
    }

    [Fact]
    public void A_message_that_came_back_goes_before_younger_ones_of_its_priority_and_after_all_of_a_higher_one()
    {
        using Bench bench = new(Priority);
        bench.Publish(1);
        bench.Publish(1);
        uint one = bench.Subscribe(credit: 1);
        Assert.Equal([1ul], bench.Dispatch());
        bench.Publish(2);
        bench.Settle(one, 1, Outcome.Release);
        Assert.Equal([3ul], bench.Dispatch());
        bench.Settle(one, 2);
        Assert.Equal([1ul], bench.Dispatch());
    }

    [Fact]
    public void Without_the_switch_a_priority_is_ignored_and_what_was_there_when_it_was_set_counts_as_zero()
    {
        using Bench bench = new(Priority with { Priority = false });
        bench.Publish(9);
        bench.Publish(1);
        Assert.True(bench.World.Change(bench.Queue, Priority).IsTaken);
        bench.Publish(1);
        bench.Publish(0);
        Assert.True(bench.World.Change(bench.Queue, Priority with { Priority = false }).IsTaken);
        bench.Publish(200);
        bench.Subscribe();
        Assert.Equal([3ul, 1, 2, 4, 5], bench.Dispatch()); // 3 keeps the priority that it came with.
    }

    [Fact]
    public void Lower_priorities_get_the_share_that_they_were_given_and_it_goes_round_among_them()
    {
        using Bench bench = new(Priority with { PriorityShare = 20 });
        for (int i = 0; i < 100; i++)
        {
            bench.Publish(9);
        }

        for (int i = 0; i < 30; i++)
        {
            bench.Publish(i % 2 == 0 ? 1 : 4);
        }

        bench.Subscribe(credit: 105);
        ulong[] order = bench.Dispatch()[5..]; // What they are owed is nothing at first.
        Assert.Equal(20, order.Count(tag => tag > 100));
        Assert.All(order.Chunk(10), part => Assert.Equal(2, part.Count(tag => tag > 100)));
        Assert.Equal(10, order.Count(tag => tag > 100 && tag % 2 == 0)); // Those of priority 4.
    }

    [Fact]
    public void Strictly_the_lowest_waits_for_all_that_are_higher()
    {
        using Bench bench = new(Priority);
        bench.Publish(0);
        for (int i = 0; i < 300; i++)
        {
            bench.Publish(1);
        }

        bench.Subscribe(credit: 301);
        Assert.Equal(1ul, bench.Dispatch()[^1]);
    }

    [Fact]
    public void One_tenants_many_messages_do_not_delay_anothers_one()
    {
        using Bench bench = new(Fair);
        for (int i = 0; i < 50; i++)
        {
            bench.Publish(tenant: "big");
        }

        bench.Publish(tenant: "small");
        bench.Publish();
        bench.Subscribe();
        Assert.Equal([1ul, 51, 52, 2, 3], bench.Dispatch()[..5]);
    }

    [Fact]
    public void A_tenant_of_weight_three_gets_three_in_a_round_and_priority_goes_before_fairness()
    {
        using Bench bench = new(Fair with { Priority = true, FairWeights = "gold=3" });
        for (int i = 0; i < 6; i++)
        {
            bench.Publish(tenant: "plain");
            bench.Publish(tenant: "gold");
        }

        bench.Publish(1, tenant: "plain");
        bench.Subscribe();
        Assert.Equal([13ul, 1, 2, 4, 6, 3, 8, 10, 12, 5, 7, 9, 11], bench.Dispatch());
    }

    [Fact]
    public void A_group_has_one_in_flight_and_other_groups_go_on()
    {
        using Bench bench = new(Fifo);
        foreach (string group in (string[])["a", "a", "b", "a", "b", "", ""])
        {
            bench.Publish(group: group);
        }

        uint one = bench.Subscribe();
        Assert.Equal([1ul, 3, 6], bench.Dispatch());
        bench.Settle(one, 2);
        Assert.Equal([5ul], bench.Dispatch());
        bench.Settle(one, 1, Outcome.Release);
        Assert.Equal([1ul], bench.Dispatch()); // At its place again, before 2.
        bench.Settle(one, 5);
        Assert.Equal([2ul], bench.Dispatch());
        bench.Settle(one, 6, Outcome.Reject); // Dead: the group goes on.
        Assert.Equal([4ul], bench.Dispatch());
    }

    // CASES B47.
    [Fact]
    public void After_its_lease_a_group_comes_in_the_same_order_again()
    {
        using Bench bench = new(Fifo with { LeaseMilliseconds = 1000 });
        for (int i = 0; i < 6; i++)
        {
            bench.Publish(group: i % 2 == 0 ? "a" : "b");
        }

        uint one = bench.Subscribe();
        Assert.Equal([1ul, 2], bench.Dispatch());
        bench.World.Advance(1000);
        Assert.Equal([1ul, 2], bench.Dispatch());
        bench.Settle(one, 3);
        bench.Settle(one, 4);
        Assert.Equal([3ul, 4], bench.Dispatch());
    }

    [Fact]
    public void What_waits_for_its_retry_holds_its_group_and_what_waits_for_its_first_delivery_does_not()
    {
        using Bench bench = new(Fifo with { BackoffFirstMilliseconds = 1000, MaxDeliveries = 3 });
        Assert.True(bench.World.Publish(bench.Producer, bench.Queue, properties: [.. World.Turn(group: "a"), .. World.Property(PropertyTag.Delay, 5000)]).IsTaken);
        bench.Publish(group: "a");
        bench.Publish(group: "a");
        uint one = bench.Subscribe();
        Assert.Equal([2ul], bench.Dispatch());
        bench.Settle(one, 1, Outcome.Release);
        Assert.Empty(bench.Dispatch());
        bench.World.Restart(fromSnapshot: true); // That it holds its group is known from a snapshot, too.
        Assert.True(bench.World.Resume(one, bench.Producer, ulong.MaxValue).IsTaken);
        bench.World.Engine.SetCredit(one, 1000, ulong.MaxValue);
        Assert.Empty(bench.Dispatch());
        bench.World.Advance(1000);
        Assert.Equal([2ul], bench.Dispatch());
        bench.World.Advance(4000);
        Assert.Empty(bench.Dispatch()); // The delayed one is due now, and waits its turn.
        bench.Settle(one, 2);
        Assert.Equal([1ul], bench.Dispatch());
    }

    [Theory]
    [InlineData("expires")]
    [InlineData("purged")]
    [InlineData("deleted with its consumer")]
    public void A_group_goes_on_when_the_one_that_held_it_is_gone(string how)
    {
        using Bench bench = new(Fifo with { BackoffFirstMilliseconds = 60_000, MaxDeliveries = 3 });
        Assert.True(bench.World.Publish(bench.Producer, bench.Queue, properties: [.. World.Turn(group: "a"), .. World.Property(PropertyTag.Ttl, 2000)]).IsTaken);
        bench.Publish(group: "a");
        uint one = bench.Subscribe();
        Assert.Equal([1ul], bench.Dispatch());
        switch (how)
        {
            case "expires":
                bench.Settle(one, 1, Outcome.Release);
                Assert.Empty(bench.Dispatch());
                bench.World.Advance(2000);
                break;
            case "purged":
                bench.Settle(one, 1, Outcome.Release);
                bench.World.Purge(bench.Queue);
                bench.Publish(group: "a");
                break;
            default:
                bench.World.Unsubscribe(one, bench.Producer, firstNotTaken: 1);
                bench.Subscribe();
                Assert.Equal([1ul], bench.Dispatch());
                return;
        }

        Assert.Equal([how == "purged" ? 3ul : 2], bench.Dispatch());
    }

    [Fact]
    public void A_hundred_thousand_groups_go_side_by_side_and_a_poisoned_one_stops_only_itself()
    {
        using World world = new(isLogging: false);
        ulong producer = world.Open();
        uint queue = world.Declare("q", Fifo);
        const int Groups = 100_000;
        world.Begin(producer);
        for (int i = 0; i < 2 * Groups; i++)
        {
            Assert.True(world.PublishHere(producer, queue, 1, properties: World.Turn(group: (i % Groups).ToString(CultureInfo.InvariantCulture))).IsTaken);
        }

        uint one = world.Subscribe(queue, producer, credit: 2 * Groups);
        Assert.Equal(Groups, world.DispatchAll().Count);
        Assert.True(world.Settle(producer, one, 1, Groups - 1).IsTaken);
        Assert.Equal(Groups - 1, world.DispatchAll().Count); // The last group's first is still with its consumer.
    }

    [Fact]
    public void Whoever_looks_sees_who_waits_behind_another_of_its_group()
    {
        using Bench bench = new(Fifo);
        bench.Publish(group: "a");
        bench.Publish(group: "a");
        bench.Publish(group: "b");
        Assert.Equal([false, true, false], bench.World.Engine.Browse(bench.Queue, 0, 9, out _).Select(message => message.IsBehind));
        uint one = bench.Subscribe(credit: 1);
        Assert.Equal([1ul], bench.Dispatch());
        Assert.Equal([false, true, false], bench.World.Engine.Browse(bench.Queue, 0, 9, out _).Select(message => message.IsBehind));
        bench.Settle(one, 1);
        Assert.Equal([false, false], bench.World.Engine.Browse(bench.Queue, 2, 9, out _).Select(message => message.IsBehind));
    }

    [Fact]
    public void A_message_at_its_last_delivery_goes_alone_here_too_and_the_others_by_priority()
    {
        using Bench bench = new(Priority with { MaxDeliveries = 2 });
        bench.Publish(9);
        bench.Publish(1);
        bench.Publish(1);
        uint one = bench.Subscribe(credit: 2);
        Assert.Equal([1ul, 2], bench.Dispatch());
        bench.Settle(one, 1, Outcome.Release);
        Assert.Empty(bench.Dispatch()); // It holds 2, and is drained.
        bench.Settle(one, 2);
        Assert.Equal([1ul], bench.Dispatch());
        bench.Settle(one, 3, Outcome.Release);
        Assert.Equal(1ul, bench.World.Engine.View(bench.Queue).Exhausted);
        Assert.Equal([3ul], bench.Dispatch());
    }

    [Fact]
    public void Of_a_full_queue_the_oldest_of_the_lowest_priority_goes_first()
    {
        using Bench bench = new(Priority with { MaxLength = 2, Overflow = Overflow.DropHead });
        bench.Publish(9);
        bench.Publish(1);
        bench.Publish(5);
        bench.World.PushOut();
        bench.Publish(5);
        bench.World.PushOut();
        bench.Subscribe();
        Assert.Equal([1ul, 4], bench.Dispatch());
    }

    [Theory]
    [InlineData(PropertyTag.Priority, -1)]
    [InlineData(PropertyTag.Priority, 256)]
    [InlineData(PropertyTag.Group, 0)]
    [InlineData(PropertyTag.Tenant, 256)]
    public void A_turn_out_of_range_is_refused_in_any_queue(PropertyTag tag, int value)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        PropertyWriter writer = new(new byte[1024]);
        if (tag == PropertyTag.Priority)
        {
            writer.Number(tag, PropertyType.Int64, value);
        }
        else
        {
            writer.Text(tag, new string('x', value));
        }

        Assert.Equal(RefusalCode.BadArgument, world.Publish(producer, queue, properties: writer.Written.ToArray()).Code);
        world.Check();
    }

    [Fact]
    public void Consumers_of_a_higher_priority_are_served_first_as_long_as_they_have_credit()
    {
        using Bench bench = new(QueueAttributes.Default);
        bench.World.PublishMany(bench.Producer, bench.Queue, 7);
        uint low = bench.Subscribe(credit: 10);
        uint high = bench.Subscribe(credit: 2, priority: 3);
        uint alike = bench.Subscribe(credit: 2, priority: 3);
        Dictionary<uint, int> got = bench.World.DispatchAll().GroupBy(one => one.Subscription).ToDictionary(group => group.Key, group => group.Count());
        Assert.Equal((3, 2, 2), (got[low], got[high], got[alike]));
    }

    [Fact]
    public void An_exclusive_consumer_is_the_only_one()
    {
        using Bench bench = new(QueueAttributes.Default);
        Assert.True(bench.World.TrySubscribe(bench.Queue, bench.Producer, out uint first, isExclusive: true).IsTaken);
        Assert.Equal(RefusalCode.Denied, bench.World.TrySubscribe(bench.Queue, bench.Producer, out _).Code);
        bench.World.Restart(fromSnapshot: true);
        Assert.Equal(RefusalCode.Denied, bench.World.TrySubscribe(bench.Queue, bench.Producer, out _, isExclusive: true).Code);
        bench.World.Unsubscribe(first, bench.Producer, ulong.MaxValue);
        Assert.True(bench.World.TrySubscribe(bench.Queue, bench.Producer, out _).IsTaken);
        Assert.Equal(RefusalCode.Denied, bench.World.TrySubscribe(bench.Queue, bench.Producer, out _, isExclusive: true).Code);
    }

    [Fact]
    public void One_consumer_at_a_time_gets_messages_and_the_next_follows_when_nothing_is_with_anybody()
    {
        using Bench bench = new(QueueAttributes.Default with { SingleActive = true, LeaseMilliseconds = 60_000 });
        bench.World.PublishMany(bench.Producer, bench.Queue, 4);
        uint first = bench.Subscribe(credit: 2);
        uint second = bench.Subscribe(credit: 2);
        Assert.All(bench.World.DispatchAll(), one => Assert.Equal(first, one.Subscription));
        bench.World.Detach(first, firstNotTaken: 2); // Its session ends at a stop of the broker: delivery 1 is still its own.
        Assert.Empty(bench.World.DispatchAll());
        bench.World.Advance(60_000);
        Assert.Equal([(second, 1ul), (second, 2ul)], bench.World.DispatchAll().Select(one => (one.Subscription, one.Tag)));
    }

    [Fact]
    public void A_message_at_its_last_delivery_goes_to_the_active_consumer_alone()
    {
        using Bench bench = new(QueueAttributes.Default with { SingleActive = true, MaxDeliveries = 2 });
        bench.World.PublishMany(bench.Producer, bench.Queue, 3);
        uint first = bench.Subscribe(credit: 2);
        bench.Subscribe(credit: 2);
        Assert.Equal([1ul, 2], bench.Dispatch());
        bench.Settle(first, 1, Outcome.Release);
        Assert.Empty(bench.Dispatch());
        bench.Settle(first, 2);
        Assert.Equal([1ul], bench.Dispatch());
    }

    [Theory]
    [InlineData("a share without priority")]
    [InlineData("a share above the half")]
    [InlineData("weights without fair")]
    [InlineData("a weight of nothing")]
    [InlineData("a tenant twice")]
    public void What_contradicts_itself_is_refused_at_declare(string what)
    {
        using World world = new();
        QueueAttributes attributes = what switch
        {
            "a share without priority" => QueueAttributes.Default with { PriorityShare = 1 },
            "a share above the half" => Priority with { PriorityShare = 51 },
            "weights without fair" => QueueAttributes.Default with { FairWeights = "a=2" },
            "a weight of nothing" => Fair with { FairWeights = "a=0" },
            _ => Fair with { FairWeights = "a=2,a=3" },
        };
        Decision decision = world.Engine.DeclareQueue("q"u8, attributes, new byte[QueueEngine.MaxFactBytes], 1, out _, out _, out _, out string fault);
        Assert.Equal(RefusalCode.BadArgument, decision.Code);
        Assert.NotEmpty(fault);
    }

    [Fact]
    public void The_longest_names_and_attributes_fit_into_a_fact()
    {
        using World world = new();
        string longest = new('n', Limits.MaxNameBytes), other = new('d', Limits.MaxNameBytes);
        string weights = string.Join(',', Enumerable.Range(0, 64).Select(i => $"t{i}=1"))[..256].TrimEnd('=', ',', 't');
        QueueAttributes attributes = Priority with { Fair = true, Fifo = true, FairWeights = weights[..weights.LastIndexOf(',')], DeadLetter = other, Require = (RequiredProperties)0x7F, DedupMilliseconds = Limits.MaxDedupMilliseconds, MaxDeliveries = 5, ExpiresMilliseconds = 1, Flow = FlowTests.Longest };
        Assert.True(world.SetLimit(FlowTests.Longest.Limit, FlowLimits.None with { MaxInFlight = 1 }).IsTaken);
        uint queue = world.Declare(longest, attributes);
        Assert.True(world.Change(queue, attributes with { TtlMilliseconds = Limits.MaxDelayMilliseconds }).IsTaken);
        Assert.Equal(attributes with { TtlMilliseconds = Limits.MaxDelayMilliseconds }, world.Engine.View(queue).Attributes);
        world.Check();
    }

    /// <summary>One step of a queue in all three orders, and what it does.</summary>
    internal readonly record struct Step(int Bits);

    [Fact]
    public void Any_steps_on_an_ordered_queue_hand_out_what_a_plain_list_would()
    {
        Prop.ForAll(Arb.From(Gen.Choose(0, (1 << 20) - 1).Select(bits => new Step(bits)).ArrayOf(200)), RunAll)
            .Check(Config.QuickThrowOnFailure.WithMaxTest(60).WithReplay(48611, 611953));
    }

    private static void RunAll(Step[] steps)
    {
        using Bench bench = new(Priority with { Fifo = true, MaxDeliveries = 0, BackoffFirstMilliseconds = 500, BackoffFactorPermille = 1000 });
        uint subscription = bench.Subscribe(credit: 8);
        Dictionary<ulong, (int Priority, string Group)> ready = [], held = [];
        SortedDictionary<ulong, (ulong Tag, int Priority, string Group)> inFlight = [];
        foreach (Step step in steps)
        {
            int amount = (step.Bits >> 3) & 31;
            switch (step.Bits & 7)
            {
                case <= 2:
                    (int priority, string group) = (amount & 3, $"{(step.Bits >> 8) & 7}");
                    ready.Add(bench.Publish(priority, group), (priority, group));
                    break;
                case <= 4 when inFlight.Count > 0:
                    (ulong delivery, (ulong tag, int back, string of)) = inFlight.ElementAt(amount % inFlight.Count);
                    inFlight.Remove(delivery);
                    bool accepts = (step.Bits & 256) != 0;
                    bench.Settle(subscription, delivery, accepts ? Outcome.Accept : Outcome.Release);
                    if (!accepts)
                    {
                        held.Add(tag, (back, of));
                    }

                    break;
                case 5:
                    bench.World.Advance(600);
                    foreach ((ulong due, (int Priority, string Group) turn) in held)
                    {
                        ready.Add(due, turn);
                    }

                    held.Clear();
                    break;
                case 6 when (step.Bits & 0xF00) == 0:
                    bench.World.Purge(bench.Queue);
                    ready.Clear();
                    held.Clear();
                    break;
                default:
                    break;
            }

            foreach (Delivered one in bench.World.DispatchAll())
            {
                // Of each group with nothing in flight or held its oldest; of those the highest priority; of those the oldest.
                ulong expected = ready.Where(message => !inFlight.Values.Any(other => other.Group == message.Value.Group) && !held.Values.Any(other => other.Group == message.Value.Group))
                    .GroupBy(message => message.Value.Group).Select(group => group.MinBy(message => message.Key))
                    .OrderByDescending(message => message.Value.Priority).ThenBy(message => message.Key).First().Key;
                Assert.Equal(expected, one.Tag);
                inFlight.Add(one.Delivery, (one.Tag, ready[one.Tag].Priority, ready[one.Tag].Group));
                ready.Remove(one.Tag);
            }

            bool mayGo = ready.Any(message => !inFlight.Values.Any(other => other.Group == message.Value.Group) && !held.Values.Any(other => other.Group == message.Value.Group));
            Assert.True(!mayGo || inFlight.Count == 8, "Something may go, and did not.");
        }
    }
}
