using System.Runtime.InteropServices;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Engine.Tests;

/// <summary>Records of any origin: each gets a verdict. A repair goes on where a recovery stops, and says what it lost.</summary>
public sealed class RecoveryTests
{
    private static World Told(out uint queue, out uint subscription)
    {
        World world = new();
        ulong producer = world.Open();
        queue = world.Declare("q");
        subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 10);
        world.DispatchAll();
        world.Settle(producer, subscription, 1, 3);
        world.Purge(queue);
        world.Advance(60_000);
        world.DispatchAll();
        return world;
    }

    [Fact]
    public void A_record_of_an_unknown_kind_is_said_to_be_unknown_and_changes_nothing()
    {
        using World world = Told(out _, out _);
        string before = World.DumpOf(world.Engine);
        foreach (RecordKind kind in (RecordKind[])[RecordKind.Nothing, RecordKind.Command, RecordKind.Credit, RecordKind.Deliveries, (RecordKind)200, (RecordKind)255])
        {
            byte[] record = new byte[64];
            record[0] = 64;
            record[4] = (byte)kind;
            Assert.Equal(ApplyVerdict.UnknownRecord, world.Engine.Apply(record, new Place(1, 0), 1));
        }

        Assert.Equal(before, World.DumpOf(world.Engine));
    }

    [Fact]
    public void A_record_that_names_what_never_was_is_a_contradiction()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, credit: 1);
        world.PublishMany(producer, queue, 2);
        world.DispatchAll();
        world.Begin(producer);
        MessageHeader message = new() { LengthBytes = MessageHeader.SizeBytes, Kind = RecordKind.Message, Queue = queue, Tag = 3 };
        MessageHeader moved = new() { LengthBytes = MessageHeader.SizeBytes + 100, Kind = RecordKind.MovedMessage, Queue = queue, Tag = 2 };
        SettleRecord extend = new() { LengthBytes = SettleRecord.SizeBytes, Kind = RecordKind.Extend, Subscription = subscription, FirstDelivery = 1, Count = 1, Milliseconds = 5000 };
        Place crooked = new(1, 4), straight = new(1, 8);
        Assert.Equal(ApplyVerdict.Contradiction, Applied(message with { LengthBytes = MessageHeader.SizeBytes - 1 }, straight));
        Assert.Equal(ApplyVerdict.Contradiction, Applied(message, crooked));
        Assert.Equal(ApplyVerdict.Contradiction, Applied(message with { Queue = queue + 1 }, straight));
        Assert.Equal(ApplyVerdict.Contradiction, Applied(message with { Tag = 4 }, straight));
        Assert.Equal(ApplyVerdict.Contradiction, Applied(moved with { Tag = 3 }, straight));
        Assert.Equal(ApplyVerdict.Contradiction, Applied(moved with { LengthBytes = MessageHeader.SizeBytes + 99 }, straight));
        Assert.Equal(ApplyVerdict.Contradiction, Applied(moved, crooked));
        Assert.Equal(ApplyVerdict.Contradiction, Applied(moved with { Queue = queue + 1 }, straight));
        Assert.Equal(ApplyVerdict.Contradiction, Applied(extend with { Subscription = subscription + 1 }, straight));
        Assert.Equal(ApplyVerdict.Contradiction, Applied(extend with { FirstDelivery = 2 }, straight));
        Assert.Equal(ApplyVerdict.Contradiction, Applied(extend with { Milliseconds = -1 }, straight));
        Assert.Equal(ApplyVerdict.Contradiction, Applied(extend with { Milliseconds = Limits.MaxLeaseMilliseconds + 1 }, straight));
        Assert.Equal(ApplyVerdict.Contradiction, Applied(new FactRecord { LengthBytes = FactRecord.SizeBytes, Kind = RecordKind.CommandDone, First = 77 }, straight));
        Assert.Equal(ApplyVerdict.Contradiction, Applied(new FactRecord { LengthBytes = FactRecord.SizeBytes, Kind = RecordKind.SubscriptionResumed, Subject = subscription + 1, First = 1 }, straight));

        // Each of them is believed once it is whole: it was the one thing changed that made it a contradiction.
        Assert.Equal(ApplyVerdict.Applied, Applied(message, straight));
        Assert.Equal(ApplyVerdict.Applied, Applied(moved, straight));
        Assert.Equal(ApplyVerdict.Applied, Applied(extend, straight));
        world.Engine.CheckConservation();

        ApplyVerdict Applied<T>(T record, Place place)
            where T : unmanaged => world.Engine.Apply(MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in record)), place, world.Block);
    }

    [Fact]
    public void A_fact_that_does_not_fit_what_stands_before_it_is_a_contradiction()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, credit: 1);
        world.PublishMany(producer, queue, 3);
        world.DispatchAll();
        world.Begin(0);

        // In flight is not ready; a batch of nobody's has no commands.
        FactRecord damaged = new() { LengthBytes = FactRecord.SizeBytes, Kind = RecordKind.MessageDamaged, Subject = queue, First = 1 };
        Assert.Equal(ApplyVerdict.Contradiction, Applied(damaged, []));
        Assert.Equal(ApplyVerdict.Applied, Applied(damaged with { First = 3 }, []));
        Assert.Equal(ApplyVerdict.Contradiction, Applied(damaged with { Kind = RecordKind.CommandDone }, []));

        // Delivery numbers are dense, and a lease ends while numbers can still tell when.
        DeliveredRecord delivered = new() { LengthBytes = DeliveredRecord.SizeBytes + TagRun.SizeBytes, Kind = RecordKind.Delivered, Runs = 1, Subscription = subscription, Count = 1, FirstDelivery = 2, FirstToken = 2, LeaseEndMicros = long.MaxValue / 4 };
        TagRun run = new() { First = 2, Count = 1 };
        Assert.Equal(ApplyVerdict.Contradiction, Applied(delivered with { FirstDelivery = 3 }, BytesOf(run)));
        Assert.Equal(ApplyVerdict.Contradiction, Applied(delivered with { FirstDelivery = 1 }, BytesOf(run)));
        Assert.Equal(ApplyVerdict.Contradiction, Applied(delivered with { LeaseEndMicros = long.MaxValue / 4 + 1 }, BytesOf(run)));
        Assert.Equal(ApplyVerdict.Contradiction, Applied(delivered with { LeaseEndMicros = -1 }, BytesOf(run)));
        Assert.Equal(ApplyVerdict.Applied, Applied(delivered, BytesOf(run)));

        Assert.Equal(ApplyVerdict.Contradiction, Declared(Limits.MinLeaseMilliseconds - 1));
        Assert.Equal(ApplyVerdict.Contradiction, Declared(Limits.MaxLeaseMilliseconds + 1));
        Assert.Equal(ApplyVerdict.Applied, Declared(Limits.MinLeaseMilliseconds));
        world.Engine.CheckConservation();

        ApplyVerdict Declared(ulong lease)
        {
            byte[] room = new byte[64];
            FieldWriter fields = new(room);
            fields.Bytes(FieldTag.Name, "r"u8);
            fields.Number(FieldTag.LeaseMilliseconds, lease);
            return Applied(new FactRecord { LengthBytes = (uint)(FactRecord.SizeBytes + fields.Length), Kind = RecordKind.QueueDeclared, Subject = queue + 1 }, fields.Written.ToArray());
        }

        ApplyVerdict Applied<T>(T record, byte[] rest)
            where T : unmanaged => world.Engine.Apply([.. BytesOf(record), .. rest], new Place(1, 8), world.Block);

        static byte[] BytesOf<T>(T record)
            where T : unmanaged => MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in record)).ToArray();
    }

    [Fact]
    public void Each_record_left_out_makes_a_later_one_a_contradiction_or_leaves_another_state()
    {
        using World world = Told(out _, out _);
        for (int without = 0; without < world.Log.Count; without++)
        {
            using QueueEngine engine = new(new EngineLimits());
            bool contradicts = world.Log.Where((_, i) => i != without).Any(logged => World.Apply(engine, logged) != ApplyVerdict.Applied);
            // Two records may be left out unseen: a source that only told the time, as the next one tells it too.
            bool isTime = world.Log[without].Record[4] == (byte)RecordKind.Source;
            Assert.True(contradicts || isTime || World.DumpOf(engine) != World.DumpOf(world.Engine), $"record {without} is not missed");
        }
    }

    [Fact]
    public void Hostile_records_never_throw_and_a_lenient_replay_still_adds_up()
    {
        using World world = Told(out _, out _);
        for (int at = 0; at < world.Log.Count; at++)
        {
            for (int i = 0; i < Math.Min(56, world.Log[at].Record.Length); i++)
            {
                foreach (byte flip in (byte[])[0x01, 0xFF])
                {
                    using QueueEngine engine = new(new EngineLimits()) { IsLenient = true };
                    for (int k = 0; k < world.Log.Count; k++)
                    {
                        Logged logged = world.Log[k];
                        byte[] record = [.. logged.Record];
                        if (k == at)
                        {
                            record[i] ^= flip;
                        }

                        _ = World.Apply(engine, logged with { Record = record });
                    }

                    engine.CheckConservation();
                }
            }
        }
    }

    [Fact]
    public void A_lenient_replay_goes_on_after_a_gap_and_names_what_is_lost()
    {
        using World world = Told(out uint queue, out _);
        using QueueEngine engine = new(new EngineLimits()) { IsLenient = true };
        foreach (Logged logged in world.Log.Where(logged => logged.Record[4] != (byte)RecordKind.Delivered))
        {
            Assert.Equal(ApplyVerdict.Applied, World.Apply(engine, logged));
        }

        engine.CheckConservation();
        Assert.Contains(engine.Lost, line => line.StartsWith("Settle", StringComparison.Ordinal));
        Assert.Equal(10ul, engine.View(queue).Published);
    }

    [Fact]
    public void A_lenient_replay_keeps_delivery_numbers_after_a_lost_delivery_record()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 3);
        world.DispatchAll(most: 1);
        using QueueEngine engine = new(new EngineLimits()) { IsLenient = true };
        int deliveries = 0;
        foreach (Logged logged in world.Log)
        {
            if (logged.Record[4] != (byte)RecordKind.Delivered || deliveries++ != 0)
            {
                Assert.Equal(ApplyVerdict.Applied, World.Apply(engine, logged));
            }
        }

        Assert.True(engine.TryFindDelivery(subscription, 2, out _, out ulong tag, out _));
        Assert.Equal(2ul, tag);
        Assert.False(engine.TryFindDelivery(subscription, 1, out _, out _, out _));
    }

    [Fact]
    public void A_start_under_a_smaller_limit_takes_the_state_and_refuses_new_messages_only()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, credit: 10_000);
        world.PublishMany(producer, queue, 10_000);
        world.DispatchAll();
        using QueueEngine small = new(new EngineLimits { IndexBytes = 64 * 1024 });
        foreach (Logged logged in world.Log)
        {
            Assert.Equal(ApplyVerdict.Applied, World.Apply(small, logged));
        }

        byte[] room = new byte[QueueEngine.MaxFactBytes];
        small.EndRecovery();
        small.Begin(producer, new Now(small.IntervalMicros, 0), room);
        int taken = 0;
        Decision last = Decision.Taken;
        for (ulong number = 10_001; last.IsTaken && taken <= 1024; number++, taken++)
        {
            byte[] record = new byte[MessageHeader.SizeBytes];
            MemoryMarshal.Write(record, new MessageHeader { LengthBytes = MessageHeader.SizeBytes, Kind = RecordKind.Message, NumberOrTimeMicros = number, Queue = queue });
            last = small.Publish(record, new Place(9, 0));
        }

        Assert.Equal((DecisionKind.Refused, RefusalCode.LimitReached, 64ul * 1024), (last.Kind, last.Code, last.Value));
        Assert.True(taken <= 1024, "what the open page holds may still come, no more");
        small.Refuse(10_000 + (ulong)taken, last.Code, room, 1);
        byte[] settle = new byte[SettleRecord.SizeBytes];
        MemoryMarshal.Write(settle, new SettleRecord { Kind = RecordKind.Settle, Flags = SettleRecord.FlagsOf(Outcome.Accept, ConfirmLevel.None), Number = 10_001 + (ulong)taken, Subscription = subscription, FirstDelivery = 1, Count = 10_000 });
        Assert.True(small.Settle(settle, 1).IsTaken);
        small.CheckConservation();
    }
}
