using System.Runtime.InteropServices;
using System.Text;
using FastQ.Protocol;
using Xunit;
using Outcome = FastQ.Protocol.Outcome;

namespace FastQ.Engine.Tests;

/// <summary>Events: what is told, to whom, how often, and of what nothing is told.</summary>
public sealed class EventTests
{
    private static readonly QueueAttributes WithoutDeadLetters = QueueAttributes.Default with { DeadLetter = "" };

    /// <summary>Takes what was told, in words: kind, queue, and what else is said.</summary>
    private static string[] Told(World world)
    {
        List<string> told = [];
        while (world.Engine.TryNextEvent(out BrokerEvent one))
        {
            Assert.InRange(one.WallMicros, 1, world.Engine.WallMicros);
            (string Name, object Value)[] said =
            [
                ("tag", one.Tag), ("subscription", one.Subscription), ("deliveries", one.Deliveries), ("death", one.Death), ("cause", one.Cause), ("ways", one.Ways), ("limit", one.Limit), ("value", one.Value), ("untold", one.Untold), ("temporary", one.IsTemporary), ("name", one.Name ?? ""),
            ];
            IEnumerable<string> words = said.Where(word => Convert.ToString(word.Value, System.Globalization.CultureInfo.InvariantCulture) is not ("0" or "None" or "False" or "")).Select(word => string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{word.Name} {word.Value}"));
            told.Add(string.Join(' ', [one.Kind.ToString(), Encoding.UTF8.GetString(one.Queue.Span), .. words]).TrimEnd());
            world.Engine.TakeEvent();
        }

        return [.. told];
    }

    /// <summary>A world in which a queue gets all events.</summary>
    private static World Listening(out uint audit)
    {
        World world = new();
        audit = world.Declare("audit");
        Assert.True(world.Bind(QueueEngine.EventsExchange, audit, "#").IsTaken);
        Assert.Empty(Told(world));
        return world;
    }

    [Fact]
    public void Of_queues_it_is_told_that_they_come_pause_go_on_and_go_with_why()
    {
        using World world = Listening(out _);
        ulong producer = world.Open();
        uint work = world.Declare("work");
        Assert.True(world.DeclareTemporary("own", producer, out _).IsTaken);
        Assert.True(world.Pause(work, PausedWays.In).IsTaken && world.Pause(work, PausedWays.In | PausedWays.Out).IsTaken && world.Pause(work, PausedWays.In | PausedWays.Out).IsTaken && world.Pause(work, PausedWays.None).IsTaken);
        uint sub = world.Subscribe(work, producer);
        world.Delete(work);
        world.Engine.DetachProducer(producer);
        _ = world.Advance(1);
        _ = world.Declare("idle", QueueAttributes.Default with { ExpiresMilliseconds = 1000 });
        string[] before = Told(world);
        _ = world.Advance(5000);
        Assert.Equal(["QueueCreated work", "QueueCreated own temporary True", "QueuePaused work ways In", "QueuePaused work ways In, Out", "QueueResumed work ways In, Out", $"ConsumerAdded work subscription {sub}", $"ConsumerRemoved work subscription {sub} cause QueueDeleted", "QueueDeleted work cause Command", "QueueDeleted own cause SessionEnded temporary True", "QueueCreated idle"], before);
        Assert.Equal(["QueueDeleted idle cause Idle"], Told(world));
        world.Check();
    }

    [Fact]
    public void Of_messages_it_is_told_that_their_lease_ended_and_that_they_are_lost()
    {
        using World world = Listening(out _);
        ulong producer = world.Open(), consumer = world.Open(instance: 2);
        uint work = world.Declare("work", WithoutDeadLetters with { MaxDeliveries = 2 }), kept = world.Declare("kept");
        uint sub = world.Subscribe(work, consumer), other = world.Subscribe(kept, consumer);
        world.PublishMany(producer, work, 3);
        world.PublishMany(producer, kept, 1);
        Assert.True(world.Publish(producer, work, properties: World.Property(PropertyTag.Ttl, 1)).IsTaken);
        world.Engine.Hold(sub, true);
        _ = world.Advance(10);
        world.Engine.Hold(sub, false);
        world.DispatchAll();
        _ = Told(world).Length; // Consumers, and the one that expired: below.
        world.Settle(consumer, sub, 1, 1, Outcome.Reject);
        world.Settle(consumer, other, 1, 1, Outcome.Reject); // It goes to the dead letters: nothing is lost.
        Assert.Equal(["MessageDropped work tag 1 deliveries 1 death Rejected"], Told(world));
        _ = world.Advance(Limits.DefaultLeaseMilliseconds);
        Assert.Equal([$"LeaseEnded work tag 2 subscription {sub} deliveries 1", $"LeaseEnded work tag 3 subscription {sub} deliveries 1"], Told(world));
        world.DispatchAll();
        world.Unsubscribe(sub, consumer, ulong.MaxValue);
        Assert.Equal(["MessageDropped work tag 2 deliveries 2 death MaxDeliveries"], Told(world)); // The last delivery goes alone: the other waits.
        world.Check();
    }

    [Fact]
    public void A_message_that_expires_and_one_that_is_pushed_out_are_told()
    {
        using World world = Listening(out _);
        ulong producer = world.Open();
        uint work = world.Declare("work", WithoutDeadLetters with { MaxLength = 2, Overflow = Overflow.DropHead });
        Assert.True(world.Publish(producer, work, properties: World.Property(PropertyTag.Ttl, 1)).IsTaken);
        _ = world.Advance(10);
        world.PublishMany(producer, work, 3);
        _ = world.PushOut();
        Assert.Equal(["QueueCreated work", "MessageDropped work tag 1 death Expired", "LimitHit work limit MaxLength value 2", "MessageDropped work tag 2 death Overflow"], Told(world));
        world.Check();
    }

    [Fact]
    public void A_delivery_that_does_not_count_is_no_end_of_a_lease()
    {
        using World world = Listening(out _);
        ulong producer = world.Open();
        uint work = world.Declare("work"), sub = world.Subscribe(work, producer);
        world.PublishMany(producer, work, 1);
        world.DispatchAll();
        _ = Told(world);
        world.EndDelivery(sub, 1);
        Assert.Empty(Told(world));
    }

    [Fact]
    public void A_limit_is_told_once_a_second_and_queue_with_how_often_it_was_not()
    {
        using World world = Listening(out _);
        ulong producer = world.Open();
        uint a = world.Declare("a", WithoutDeadLetters with { MaxLength = 1, MaxMessageSize = 200 }), b = world.Declare("b", WithoutDeadLetters with { MaxLength = 1 });
        _ = Told(world);
        world.PublishMany(producer, a, 1);
        world.PublishMany(producer, b, 1);
        for (int i = 0; i < 5; i++)
        {
            Assert.Equal(RefusalCode.LimitReached, world.Publish(producer, a).Code);
        }

        Assert.Equal(RefusalCode.LimitReached, world.Publish(producer, b).Code);
        Assert.Equal(RefusalCode.TooLarge, world.Publish(producer, a, bodyBytes: 201).Code);
        Assert.Equal(["LimitHit a limit MaxLength value 1", "LimitHit b limit MaxLength value 1", "LimitHit a limit MaxMessageSize value 200"], Told(world));
        _ = world.Advance(999);
        Assert.Equal(RefusalCode.LimitReached, world.Publish(producer, a).Code);
        Assert.Empty(Told(world));
        _ = world.Advance(1);
        Assert.Equal(RefusalCode.LimitReached, world.Publish(producer, a).Code);
        Assert.Equal(["LimitHit a limit MaxLength value 1 untold 5"], Told(world));
        world.Check();
    }

    [Fact]
    public void Limits_on_what_flows_and_breakers_are_told()
    {
        using World world = Listening(out _);
        ulong producer = world.Open(), consumer = world.Open(instance: 2);
        Assert.True(world.SetLimit("api", FlowLimits.None with { MaxInFlight = 3 }).IsTaken);
        uint own = world.Declare("own", WithoutDeadLetters with { Flow = FlowLimits.None with { MaxInFlight = 1, Limit = "api" } }), shared = world.Declare("shared", WithoutDeadLetters with { Flow = FlowLimits.None with { Limit = "api" } });
        uint slow = world.Declare("slow", WithoutDeadLetters with { Flow = FlowLimits.None with { PublishRate = new Rate(1, RateUnit.Minute) } });
        uint frail = world.Declare("frail", WithoutDeadLetters with { Flow = FlowLimits.None with { Breaker = new BreakerRule(100, 2), BreakerPauseMilliseconds = 1000 } });
        uint first = world.Subscribe(own, consumer), second = world.Subscribe(shared, consumer), third = world.Subscribe(frail, consumer);
        _ = Told(world);
        world.PublishMany(producer, own, 2);
        world.PublishMany(producer, shared, 3);
        world.DispatchAll();
        Assert.Equal(["LimitHit own limit MaxInFlight value 1", "LimitHit shared limit Shared value 3 name api"], Told(world));
        Assert.True(world.Publish(producer, slow).IsTaken);
        Assert.Equal(RefusalCode.LimitReached, world.Publish(producer, slow).Code);
        Assert.Equal(["LimitHit slow limit PublishRate value 1"], Told(world));
        world.PublishMany(producer, frail, 4);
        world.DispatchAll();
        world.Settle(consumer, third, 1, 2, Outcome.Reject);
        Assert.Equal(["MessageDropped frail tag 1 deliveries 1 death Rejected", "MessageDropped frail tag 2 deliveries 1 death Rejected", "BreakerOpened frail cause Failures"], Told(world));
        world.Settle(consumer, third, 3, 2, Outcome.Release);
        _ = world.Advance(1000);
        world.DispatchAll();
        world.Settle(consumer, third, 5, 1, Outcome.Reject);
        Assert.Equal(["MessageDropped frail tag 3 deliveries 2 death Rejected", "BreakerOpened frail cause TrialFailed"], Told(world));
        _ = world.Advance(1000);
        world.DispatchAll();
        world.Settle(consumer, third, 6, 1);
        Assert.Equal(["BreakerClosed frail cause TrialAccepted"], Told(world));
        world.Check();
        Assert.True(first < second);
    }

    [Fact]
    public void Nothing_is_told_where_nobody_listens_nor_of_what_a_replay_does()
    {
        using World world = new();
        ulong producer = world.Open();
        uint work = world.Declare("work", WithoutDeadLetters with { MaxLength = 1 }), audit = world.Declare("audit");
        world.PublishMany(producer, work, 1);
        Assert.Equal(RefusalCode.LimitReached, world.Publish(producer, work).Code);
        uint sub = world.Subscribe(work, producer);
        world.DispatchAll();
        Assert.False(world.Engine.TellsEvents);
        Assert.Equal(0, world.Engine.WaitingEvents);
        Assert.True(world.Bind(QueueEngine.EventsExchange, audit, "lease.*").IsTaken && world.Engine.TellsEvents);
        _ = world.Advance(Limits.DefaultLeaseMilliseconds);
        world.Settle(producer, sub, 1, 1); // Too late.
        Assert.Equal(1, world.Engine.WaitingEvents);
        world.Restart();
        Assert.Equal((0, true), (world.Engine.WaitingEvents, world.Engine.TellsEvents));
        world.Restart(fromSnapshot: true);
        Assert.Equal((0, true), (world.Engine.WaitingEvents, world.Engine.TellsEvents));
        Assert.True(world.Bind(QueueEngine.EventsExchange, audit, "lease.*", isBound: false).IsTaken);
        Assert.False(world.Engine.TellsEvents);
    }

    [Fact]
    public void Of_queues_that_get_events_nothing_is_told_however_they_get_them()
    {
        using World world = new();
        ulong producer = world.Open();
        QueueAttributes full = WithoutDeadLetters with { MaxLength = 1, Overflow = Overflow.DropHead };
        uint straight = world.Declare("straight", full with { DeadLetterExchange = "dead", DeadLetter = "" }), behind = world.Declare("behind", full), dead = world.Declare("dead1", full with { DeadLetter = "dead2" }), plain = world.Declare("plain", full);
        uint other = world.DeclareExchange("other", ExchangeType.Fanout, "rest"), rest = world.DeclareExchange("rest", ExchangeType.Fanout), died = world.DeclareExchange("dead", ExchangeType.Fanout);
        Assert.True(world.Bind(QueueEngine.EventsExchange, straight, "lease.*").IsTaken && world.Bind(QueueEngine.EventsExchange, other, "#").IsTaken && world.Bind(rest, behind).IsTaken && world.Bind(died, dead).IsTaken);
        foreach (uint queue in new[] { straight, behind, dead, plain })
        {
            world.PublishMany(producer, queue, 2);
        }

        uint last = world.Declare("dead2", full); // Where dead letters of dead letters go: made when it is needed.
        world.PublishMany(producer, last, 2);
        _ = world.PushOut();
        Assert.Equal(["LimitHit plain limit MaxLength value 1", "MessageDropped plain tag 1 death Overflow"], Told(world));
        Assert.True(world.Bind(QueueEngine.EventsExchange, plain, "none").IsTaken);
        world.Delete(plain);
        Assert.Empty(Told(world));
        Assert.True(world.Bind(rest, behind, isBound: false).IsTaken);
        world.Delete(behind);
        Assert.Equal(["QueueDeleted behind cause Command"], Told(world));
    }

    [Fact]
    public void So_many_events_wait_and_no_more_and_those_beyond_are_counted()
    {
        using World world = Listening(out _);
        ulong producer = world.Open();
        uint work = world.Declare("work", WithoutDeadLetters), sub = world.Subscribe(work, producer, credit: 5000);
        _ = Told(world);
        world.PublishMany(producer, work, 1500);
        world.DispatchAll();
        world.Settle(producer, sub, 1, 1500, Outcome.Reject);
        Assert.Equal((EventRing.MostWaiting, 1500ul - EventRing.MostWaiting), (world.Engine.WaitingEvents, world.Engine.DroppedEvents));
        Assert.Equal(1500ul - EventRing.MostWaiting, world.Engine.ViewExchange(QueueEngine.EventsExchange).Discarded);
        string[] told = Told(world);
        Assert.Equal(("MessageDropped work tag 1 deliveries 1 death Rejected", $"MessageDropped work tag {EventRing.MostWaiting} deliveries 1 death Rejected"), (told[0], told[^1]));
        world.Check();
    }

    [Fact]
    public void A_queue_that_does_not_take_an_event_is_passed_over_and_counted()
    {
        using World world = Listening(out uint audit);
        uint full = world.Declare("full", WithoutDeadLetters with { MaxLength = 1 }), stopped = world.Declare("stopped"), none = world.Declare("none");
        ulong producer = world.Open();
        world.PublishMany(producer, full, 1);
        Assert.True(world.Bind(QueueEngine.EventsExchange, full, "lease.*").IsTaken && world.Bind(QueueEngine.EventsExchange, stopped, "#").IsTaken && world.Bind(QueueEngine.EventsExchange, none, "queue.*").IsTaken);
        Assert.True(world.Pause(stopped, PausedWays.In).IsTaken);
        byte[] properties = World.Routed("lease.ended");
        byte[] message = new byte[MessageHeader.SizeBytes + properties.Length];
        MemoryMarshal.Write(message, new MessageHeader { LengthBytes = (uint)message.Length, Kind = RecordKind.Message, PropertyBytes = (ushort)properties.Length, Queue = QueueEngine.EventsExchange });
        properties.CopyTo(message, MessageHeader.SizeBytes);
        Assert.Equal([audit], world.Engine.RouteEvent(message).ToArray().Select(target => target.Queue));
        Assert.Equal(2ul, world.Engine.DroppedEvents);
    }

    [Fact]
    public void The_exchange_of_events_is_always_there_and_nobodys_to_delete_to_send_to_or_to_bind_behind_another()
    {
        using World world = new();
        ulong producer = world.Open();
        Assert.Equal([QueueEngine.EventsExchange], world.Engine.ExchangeIds);
        ExchangeView view = world.Engine.ViewExchange(QueueEngine.EventsExchange);
        Assert.Equal((Names.Events, ExchangeType.Topic, "", 0), (view.Name, view.Type, view.Alternate, view.Bindings));
        Assert.Equal(RefusalCode.Denied, world.DeleteExchange(QueueEngine.EventsExchange).Code);
        Assert.Equal(RefusalCode.Denied, world.Route(producer, QueueEngine.EventsExchange, "lease.ended", out _).Code);
        uint mine = world.DeclareExchange("mine", ExchangeType.Fanout), audit = world.Declare("audit");
        Assert.Equal(RefusalCode.Denied, world.Bind(mine, QueueEngine.EventsExchange).Code);
        Assert.Equal(RefusalCode.BadName, world.Engine.DeclareExchange(Encoding.UTF8.GetBytes(Names.Events), ExchangeType.Topic, default, new byte[QueueEngine.MaxFactBytes], world.Block, out _, out _, out _).Code);
        Assert.True(world.Bind(QueueEngine.EventsExchange, audit, "lease.*").IsTaken);
        world.Check();
        world.Restart();
        world.Restart(fromSnapshot: true);
        Assert.Equal("lease.*", Encoding.UTF8.GetString(Assert.Single(world.Engine.BindingsOf(QueueEngine.EventsExchange)).Key.Span));
        Assert.Equal(2, world.Engine.ExchangeIds.Count);
    }
}
