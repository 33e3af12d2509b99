using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using FastQ.Protocol;
using Xunit;
using Outcome = FastQ.Protocol.Outcome;

namespace FastQ.Engine.Tests;

/// <summary>Messages and settlements that take effect together, or not at all.</summary>
public sealed partial class TransactionTests
{
    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void All_of_a_transaction_takes_effect_and_a_resend_of_it_is_none_over_restarts_too(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint from = world.Declare("from"), to = world.Declare("to"), other = world.Declare("other");
        world.PublishMany(producer, from, 4);
        uint subscription = world.Subscribe(from, producer);
        world.DispatchAll();
        byte[][] records = [World.SettleOf(subscription, 1, 2), World.MessageTo(to), World.SettleOf(subscription, 3, 1, Outcome.Release), World.MessageTo(other, 7), World.SettleOf(subscription, 4, 1, Outcome.Reject, [1, 2, 3])];
        ulong first = world.Engine.ViewProducer(producer).LastNumber + 1;
        Assert.Equal((Decision.Taken, 0u), world.Transact(producer, records));
        Assert.Equal((2ul, 1ul, 1L, 0L), (world.Engine.View(from).Accepted, world.Engine.View(from).Rejected, world.Engine.View(from).Ready, world.Engine.View(from).InFlight));
        Assert.Equal((1L, 1L, 7L), (world.Engine.View(to).Ready, world.Engine.View(other).Ready, world.Engine.View(other).Bytes));
        world.Check();
        if (restart.Length > 0)
        {
            world.Restart(fromSnapshot: restart == "snapshot");
        }

        Assert.Equal(DecisionKind.Duplicate, world.Transact(producer, records, first).Decision.Kind);
        Assert.Equal(DecisionKind.OutOfOrder, world.Transact(producer, records, first + 6).Decision.Kind);
        Assert.Equal((1ul, 2ul), (world.Engine.View(to).Published, world.Engine.View(from).Accepted));
        world.Check();
    }

    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void A_message_with_a_schedule_key_takes_the_place_of_the_one_that_waits_within_a_transaction_too(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        byte[] replace = World.Scheduled("k", 60_000), keep = World.Scheduled("k", 60_000, ScheduleMode.Keep);
        Assert.Equal(Decision.Taken, world.Publish(producer, queue, properties: replace));
        Assert.Equal((Decision.Taken, 0u), world.Transact(producer, [World.MessageTo(queue, properties: replace), World.MessageTo(queue, properties: keep), World.MessageTo(queue)]));
        if (restart.Length > 0)
        {
            world.Restart(fromSnapshot: restart == "snapshot");
        }

        QueueView view = world.Engine.View(queue);
        Assert.Equal((1L, 1L, 1ul, 3ul), (view.Delayed, view.Ready, view.Purged, view.Published)); // The one that kept its place was passed over.
        world.Check();
    }

    [Fact]
    public void The_places_that_messages_to_exchanges_name_count_to_the_size_of_their_transaction()
    {
        const int Queues = 400, PlaceBytes = 16;
        using World world = new();
        ulong producer = world.Open();
        uint wide = world.DeclareExchange("wide", ExchangeType.Fanout);
        for (int i = 0; i < Queues; i++)
        {
            Assert.True(world.Bind(wide, world.Declare($"q{i}")).IsTaken);
        }

        byte[] small = World.MessageTo(wide, 1, World.Routed(""));
        int tooMany = Limits.MaxTransactionBytes / (Queues * PlaceBytes) + 1;
        (Decision refused, uint operation) = world.Transact(producer, [.. Enumerable.Repeat(small, tooMany + 100).Select(record => record.ToArray())]);
        Assert.Equal((RefusalCode.TooLarge, (ulong)Limits.MaxTransactionBytes), (refused.Code, refused.Value));
        Assert.InRange(operation, (uint)tooMany - 10, (uint)tooMany + 10); // Nothing was looked at beyond.
        world.Check();
    }

    // CASES B109: what is refused was never there for anybody.
    [Theory]
    [InlineData(0, RefusalCode.UnknownQueue)]
    [InlineData(1, RefusalCode.QueueDeleted)]
    [InlineData(2, RefusalCode.Paused)]
    [InlineData(3, RefusalCode.TooLarge)]
    [InlineData(4, RefusalCode.BadArgument)]
    [InlineData(5, RefusalCode.MissingProperty)]
    [InlineData(6, RefusalCode.LimitReached)]
    [InlineData(7, RefusalCode.UnknownSubscription)]
    [InlineData(8, RefusalCode.BadArgument)]
    [InlineData(9, RefusalCode.BadArgument)]
    public void One_operation_that_is_refused_refuses_all_and_is_named_and_kept_until_it_was_heard(int which, RefusalCode code)
    {
        using World world = new(new EngineLimits { MaxMessageBytes = 1000 });
        ulong producer = world.Open(), other = world.Open(instance: 2);
        uint good = world.Declare("good"), gone = world.Declare("gone"), paused = world.Declare("paused"), full = world.Declare("full", QueueAttributes.Default with { MaxLength = 1 });
        uint strict = world.Declare("strict", QueueAttributes.Default with { Require = RequiredProperties.Type });
        world.PublishMany(producer, good, 3);
        world.Publish(producer, full);
        world.Delete(gone);
        world.Pause(paused, PausedWays.In);
        uint mine = world.Subscribe(good, producer), theirs = world.Subscribe(full, other);
        world.DispatchAll();
        world.Publish(producer, full);
        byte[] bad = which switch
        {
            0 => World.MessageTo(99),
            1 => World.MessageTo(gone),
            2 => World.MessageTo(paused),
            3 => World.MessageTo(good, 1001),
            4 => World.MessageTo(good, properties: [1, 2, 3]),
            5 => World.MessageTo(strict),
            6 => World.MessageTo(full),
            7 => World.SettleOf(theirs, 1),
            8 => World.SettleOf(mine, 2, 9),
            _ => World.SettleOf(mine, 2, words: [1]),
        };
        ulong first = world.Engine.ViewProducer(producer).LastNumber + 1;
        string before = WithoutProducers(world);
        (Decision decision, uint operation) = world.Transact(producer, [World.MessageTo(good), World.SettleOf(mine, 1), bad, World.MessageTo(good)]);
        Assert.Equal((code, 3u), (decision.Code, operation));
        Assert.Equal(before, WithoutProducers(world));
        world.Check();
        world.Restart(fromSnapshot: which % 2 == 0);
        KeptRefusal kept = world.Engine.RefusalsOf(producer)[^1];
        Assert.Equal(new KeptRefusal(first, code, 4, 3), kept);
        Assert.Equal(first + 3, world.Engine.ViewProducer(producer).LastNumber);
        world.AcknowledgeRefusals(producer, first + 3);
        Assert.Empty(world.Engine.RefusalsOf(producer));
        Assert.True(world.Publish(producer, good).IsTaken);
        world.Check();
    }

    [Fact]
    public void Limits_count_what_earlier_operations_of_the_same_transaction_take()
    {
        using World world = new();
        ulong producer = world.Open();
        uint few = world.Declare("few", QueueAttributes.Default with { MaxLength = 3 }), small = world.Declare("small", QueueAttributes.Default with { MaxBytes = 250 }), both = world.Declare("drop", QueueAttributes.Default with { MaxLength = 2, Overflow = Overflow.DropHead });
        byte[][] Messages(uint queue, int count) => [.. Enumerable.Range(0, count).Select(_ => World.MessageTo(queue))];
        Assert.Equal((Decision.Refuse(RefusalCode.LimitReached, 3, "The queue's max-length"), 4u), world.Transact(producer, Messages(few, 4)));
        Assert.Equal(Decision.Taken, world.Transact(producer, Messages(few, 3)).Decision);
        Assert.Equal((RefusalCode.LimitReached, 1u), (world.Transact(producer, Messages(few, 1)).Decision.Code, 1u));
        Assert.Equal((Decision.Refuse(RefusalCode.LimitReached, 250, "The queue's max-bytes"), 3u), world.Transact(producer, Messages(small, 3)));
        Assert.Equal(Decision.Taken, world.Transact(producer, Messages(small, 2)).Decision);
        Assert.Equal(Decision.Taken, world.Transact(producer, Messages(both, 5)).Decision);
        Assert.Equal(1, world.PushOut());
        Assert.Equal((3L, 2L, 2L, 3ul), (world.Engine.View(few).Ready, world.Engine.View(small).Ready, world.Engine.View(both).Ready, world.Engine.View(both).Overflowed));
        world.Check();
    }

    [Fact]
    public void Where_there_is_no_memory_for_all_of_it_none_is_taken()
    {
        using World world = new(new EngineLimits { IndexBytes = 64 * 1024 });
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        byte[][] records = [.. Enumerable.Range(0, 4000).Select(_ => World.MessageTo(queue, 1))];
        (Decision decision, uint operation) = world.Transact(producer, records);
        Assert.Equal((RefusalCode.LimitReached, 64ul * 1024, 0L), (decision.Code, decision.Value, world.Engine.View(queue).Ready));
        Assert.InRange(operation, 1000u, 3500u);
        Assert.True(world.Transact(producer, records[..1000]).Decision.IsTaken);
        world.Check();
    }

    // CASES B112: the second settlement of one delivery is an error by rule, and nothing of the transaction happens.
    [Fact]
    public void A_delivery_that_the_transaction_settles_twice_refuses_it()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q"), to = world.Declare("to");
        world.PublishMany(producer, queue, 20);
        uint subscription = world.Subscribe(queue, producer);
        world.DispatchAll();
        (byte[][] Records, uint Refused)[] cases =
        [
            ([World.SettleOf(subscription, 1), World.SettleOf(subscription, 1), World.MessageTo(to)], 2),
            ([World.SettleOf(subscription, 5, 5), World.MessageTo(to), World.SettleOf(subscription, 1, 5, Outcome.Release)], 3),
            ([World.SettleOf(subscription, 1, 20), World.SettleOf(subscription, 2), World.SettleOf(subscription, 19)], 2),
            ([World.SettleOf(subscription, 19), World.SettleOf(subscription, 2), World.SettleOf(subscription, 1, 20)], 3),
        ];
        foreach ((byte[][] records, uint refused) in cases)
        {
            (Decision decision, uint operation) = world.Transact(producer, records);
            Assert.Equal((RefusalCode.AlreadySettled, refused), (decision.Code, operation));
        }

        Assert.Equal((20L, 0L), (world.Engine.View(queue).InFlight, world.Engine.View(to).Ready));
        Assert.True(world.Transact(producer, [World.SettleOf(subscription, 1, 10), World.SettleOf(subscription, 11, 10)]).Decision.IsTaken);
        world.Check();
    }

    [Fact]
    public void A_settlement_that_is_late_refuses_the_transaction_so_that_nothing_is_published_twice()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q"), to = world.Declare("to");
        world.PublishMany(producer, queue, 3);
        uint subscription = world.Subscribe(queue, producer, leaseMilliseconds: 1000);
        world.DispatchAll();
        world.Settle(producer, subscription, 1);
        (Decision settled, uint first) = world.Transact(producer, [World.MessageTo(to), World.SettleOf(subscription, 1, 2)]);
        Assert.Equal((RefusalCode.AlreadySettled, 2u), (settled.Code, first));
        world.Advance(1000);
        (Decision late, uint second) = world.Transact(producer, [World.SettleOf(subscription, 2), World.MessageTo(to)]);
        Assert.Equal((RefusalCode.LeaseLost, 1u), (late.Code, second));
        Assert.Equal((0ul, 2L), (world.Engine.View(to).Published, world.Engine.View(queue).Ready));
        world.Check();
    }

    [Fact]
    public void A_duplicate_is_passed_over_and_a_key_that_the_transaction_frees_is_free()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { MaxLength = 4 });
        world.Publish(producer, queue, properties: World.Same("a", "k"));
        uint subscription = world.Subscribe(queue, producer);
        world.DispatchAll();
        byte[][] records =
        [
            World.MessageTo(queue, properties: World.Same("a")), // Taken before.
            World.MessageTo(queue, properties: World.Same("b")),
            World.MessageTo(queue, properties: World.Same("b")), // Taken in this transaction.
            World.MessageTo(queue, properties: World.Same(uniqueKey: "k")), // Alive still.
            World.SettleOf(subscription, 1),
            World.MessageTo(queue, properties: World.Same(uniqueKey: "k")), // Not any more.
            World.MessageTo(queue, properties: World.Same(uniqueKey: "k")),
        ];
        Assert.Equal((Decision.Taken, 0u), world.Transact(producer, records));
        Assert.Equal((3ul, 2L), (world.Engine.View(queue).Published, world.Engine.View(queue).Ready));
        Assert.Empty(world.Engine.RefusalsOf(producer));
        world.Check();
        world.Restart(fromSnapshot: true);
        Assert.Equal(RefusalCode.Duplicate, world.Publish(producer, queue, properties: World.Same("b")).Code);
        Assert.Equal((Decision.Refuse(RefusalCode.LimitReached, 4, "The queue's max-length"), 4u), world.Transact(producer, [World.MessageTo(queue), World.MessageTo(queue, properties: World.Same("b")), World.MessageTo(queue), World.MessageTo(queue)]));
        world.Check();
    }

    /// <summary>What is taken does what its operations do one by one; what is refused fails at the first that would.</summary>
    [Fact]
    public void A_transaction_does_what_its_operations_do_one_by_one_or_nothing()
    {
        int taken = 0, refused = 0;
        for (int seed = 1; seed <= 300; seed++)
        {
            using World whole = new(), single = new();
            Random dice = new(seed);
            (ulong producer, uint subscription) = Prepare(whole);
            Assert.Equal((producer, subscription), Prepare(single));
            for (int round = 0; round < 6; round++)
            {
                List<byte[]> records = [.. Enumerable.Range(0, dice.Next(1, 6)).Select(_ => Draw(dice, subscription))];
                string before = WithoutProducers(whole);
                (Decision decision, uint operation) = whole.Transact(producer, [.. records.Select(record => record.ToArray())]);
                if (decision.IsTaken)
                {
                    taken++;
                    Assert.All(records, record => Assert.True(OneByOne(single, producer, record)));
                    Assert.Equal(WithoutProducers(single), WithoutProducers(whole));
                }
                else
                {
                    refused++;
                    Assert.Equal(before, WithoutProducers(whole));
                    Assert.InRange(operation, 1u, (uint)records.Count);
                }

                whole.DispatchAll(most: 4);
                single.DispatchAll(most: 4);
            }

            whole.Check();
        }

        Assert.InRange(taken, 300, 1700);
        Assert.InRange(refused, 100, 1500);
    }

    private static (ulong Producer, uint Subscription) Prepare(World world)
    {
        ulong producer = world.Open();
        uint source = world.Declare("source", QueueAttributes.Default with { MaxDeliveries = 2 });
        _ = world.Declare("few", QueueAttributes.Default with { MaxLength = 6 });
        _ = world.Declare("ordered", QueueAttributes.Default with { Priority = true, Fifo = true, TtlMilliseconds = 60_000 });
        world.PublishMany(producer, source, 12);
        uint subscription = world.Subscribe(source, producer, credit: 8);
        world.DispatchAll(most: 4);
        return (producer, subscription);
    }

    private static byte[] Draw(Random dice, uint subscription) => dice.Next(4) switch
    {
        0 => World.MessageTo(2, dice.Next(50)),
        1 => World.MessageTo(3, dice.Next(50), World.Turn(dice.Next(3), $"g{dice.Next(2)}")),
        2 => World.MessageTo(1, 10, World.Same($"d{dice.Next(9)}", $"u{dice.Next(5)}")),
        _ => World.SettleOf(subscription, (ulong)dice.Next(1, 12), (uint)dice.Next(1, 3), (Outcome)dice.Next(3)),
    };

    /// <summary>Did it do all that it says, or is it a duplicate?</summary>
    private static bool OneByOne(World world, ulong producer, byte[] record)
    {
        if (record[4] == (byte)RecordKind.Message)
        {
            MessageHeader header = MemoryMarshal.Read<MessageHeader>(record);
            Decision decision = world.Publish(producer, header.Queue, header.BodyBytes, properties: record[MessageHeader.SizeBytes..(MessageHeader.SizeBytes + header.PropertyBytes)]);
            return decision.IsTaken || decision.Code == RefusalCode.Duplicate;
        }

        SettleRecord settle = MemoryMarshal.Read<SettleRecord>(record);
        return world.Settle(producer, settle.Subscription, settle.FirstDelivery, settle.Count, settle.Outcome).IsTaken && world.Engine.LateRanges.Length == 0;
    }

    /// <summary>The state but for who sent it and where it lies.</summary>
    private static string WithoutProducers(World world) =>
        string.Join('\n', World.DumpOf(world.Engine).Split('\n').Where(line => !line.StartsWith("producer", StringComparison.Ordinal) && !line.StartsWith("slot", StringComparison.Ordinal)).Select(line => Place().Replace(line, "")));

    [GeneratedRegex(" at [0-9]+:[0-9]+")]
    private static partial Regex Place();
}
