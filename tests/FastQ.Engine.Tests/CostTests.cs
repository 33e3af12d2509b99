using System.Runtime.InteropServices;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Engine.Tests;

/// <summary>What a message costs: no managed memory, at most 24 bytes while it waits, and no step that grows with what else is there.</summary>
public sealed class CostTests
{
    private readonly byte[] _room = new byte[QueueEngine.MaxFactBytes];
    private readonly byte[] _record = new byte[MessageHeader.SizeBytes + 100];
    private readonly byte[] _settle = new byte[SettleRecord.SizeBytes];
    private readonly DeliveryEntry[] _entries = new DeliveryEntry[Limits.MaxRunEntries];
    private ulong _number = 1;
    private ulong _settled = 1;

    [Fact]
    public void Publish_deliver_and_settle_allocate_nothing()
    {
        using QueueEngine engine = Ready(out ulong producer, out uint queue, out uint subscription);
        Pass(engine, producer, queue, subscription, batches: 20, perBatch: 1000); // Everything has its size now.
        long before = GC.GetAllocatedBytesForCurrentThread();
        Pass(engine, producer, queue, subscription, batches: 100, perBatch: 1000);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.Equal(120_000ul, engine.View(queue).Accepted);
        engine.CheckConservation();
    }

    [Fact]
    public void A_queued_message_costs_at_most_24_bytes()
    {
        using QueueEngine engine = Ready(out ulong producer, out uint queue, out _);
        const int Count = 1_000_000;
        long managed = GC.GetAllocatedBytesForCurrentThread();
        long native = engine.MeasureNativeBytes();
        Publish(engine, producer, queue, Count);
        long allocated = GC.GetAllocatedBytesForCurrentThread() - managed;
        Assert.True(engine.MeasureNativeBytes() - native <= 24L * Count, $"{(double)(engine.MeasureNativeBytes() - native) / Count} bytes outside the heap");
        Assert.True(allocated < 1_000_000, $"{allocated} bytes in the managed heap, which is for chunks and slots only");
        Assert.Equal(Count, engine.View(queue).Ready);
    }

    [Fact]
    public void A_message_in_flight_costs_at_most_64_bytes_and_its_memory_comes_back()
    {
        using QueueEngine engine = Ready(out ulong producer, out uint queue, out uint subscription);
        const int Count = 1_000_000;
        long empty = engine.MeasureNativeBytes();
        engine.SetCredit(subscription, Count, ulong.MaxValue);
        Publish(engine, producer, queue, Count);
        while (engine.TryNextDispatch(out uint to))
        {
            engine.Dispatch(to, _room, _entries, out _);
        }

        Assert.Equal(Count, engine.View(queue).InFlight);
        Assert.True(engine.MeasureNativeBytes() - empty <= 64L * Count, $"{(double)(engine.MeasureNativeBytes() - empty) / Count} bytes");
        Settle(engine, producer, subscription, Count);
        Assert.Equal(0, engine.View(queue).Messages);
        Assert.True(engine.MeasureNativeBytes() - empty < 128 * 1024, $"{engine.MeasureNativeBytes() - empty} bytes are kept by an empty queue");
    }

    [Fact]
    public void Leases_that_all_end_at_once_are_few_records_and_one_walk()
    {
        using QueueEngine engine = Ready(out ulong producer, out uint queue, out uint subscription);
        const int Count = 200_000;
        engine.SetCredit(subscription, Count, ulong.MaxValue);
        Publish(engine, producer, queue, Count);
        while (engine.TryNextDispatch(out uint to))
        {
            engine.Dispatch(to, _room, _entries, out _);
        }

        engine.Begin(0, new Now(engine.IntervalMicros + 60_000_000, 0), _room);
        int records = 0;
        while (engine.RunTimer(_room, 1) > 0)
        {
            records++;
        }

        Assert.Equal(Count, engine.View(queue).Ready);
        Assert.InRange(records, Count / (int)QueueEngine.SliceTags, Count / (int)QueueEngine.SliceTags + 2);
        engine.CheckConservation();
    }

    [Fact]
    public void Four_consumers_cost_the_journal_little_more_than_one()
    {
        long one = JournalBytes(consumers: 1), four = JournalBytes(consumers: 4); // DESIGN-REVIEW R46
        Assert.True(four * 10 <= one * 11, $"{four} bytes with four consumers, {one} with one");
    }

    /// <summary>What the records take up of messages that come by the hundred, are delivered and accepted.</summary>
    private static long JournalBytes(int consumers)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        for (int i = 0; i < consumers; i++)
        {
            world.Subscribe(queue, producer, credit: 1000);
        }

        for (int batch = 0; batch < 50; batch++)
        {
            world.PublishMany(producer, queue, 400);
            foreach (IGrouping<uint, Delivered> of in world.DispatchAll().GroupBy(delivered => delivered.Subscription))
            {
                Assert.True(world.Settle(producer, of.Key, of.First().Delivery, (uint)of.Count()).IsTaken);
            }
        }

        Assert.Equal(0, world.Engine.View(queue).Messages);
        return world.Log.Sum(logged => (long)logged.Record.Length);
    }

    private QueueEngine Ready(out ulong producer, out uint queue, out uint subscription)
    {
        QueueEngine engine = new(new EngineLimits());
        engine.Begin(0, new Now(1_000_000, 1), _room);
        Assert.True(engine.OpenProducer(0, 1, 1, _room, 1, out _, out producer).IsTaken);
        Assert.True(engine.DeclareQueue("q"u8, QueueAttributes.Default, _room, 1, out _, out queue, out _, out _).IsTaken);
        Assert.True(engine.Subscribe(queue, producer, 0, 0, false, _room, 1, out _, out subscription).IsTaken);
        engine.SetCredit(subscription, 2000, ulong.MaxValue);
        return engine;
    }

    private void Pass(QueueEngine engine, ulong producer, uint queue, uint subscription, int batches, int perBatch)
    {
        for (int batch = 0; batch < batches; batch++)
        {
            Publish(engine, producer, queue, perBatch);
            engine.Begin(0, new Now(engine.IntervalMicros + 1000, 1), _room);
            while (engine.TryNextDispatch(out uint to))
            {
                engine.Dispatch(to, _room, _entries, out _);
            }

            Settle(engine, producer, subscription, (uint)perBatch);
            _ = engine.NextTimerMicros;
            while (engine.RunTimer(_room, 1) > 0)
            {
            }
        }
    }

    private void Publish(QueueEngine engine, ulong producer, uint queue, int count)
    {
        engine.Begin(producer, new Now(engine.IntervalMicros + 1000, 1), _room);
        for (int i = 0; i < count; i++, _number++)
        {
            ref MessageHeader header = ref MemoryMarshal.AsRef<MessageHeader>(_record.AsSpan());
            header = new MessageHeader { LengthBytes = (uint)_record.Length, Kind = RecordKind.Message, Queue = queue, NumberOrTimeMicros = _number };
            Decision decision = engine.Publish(_record, new Place((uint)(1 + _number / 500_000), (uint)(_number % 500_000 * 136)));
            if (!decision.IsTaken)
            {
                Assert.Fail(decision.ToString());
            }
        }
    }

    private void Settle(QueueEngine engine, ulong producer, uint subscription, uint count)
    {
        engine.Begin(producer, new Now(engine.IntervalMicros + 1000, 1), _room);
        SettleRecord settle = new() { LengthBytes = SettleRecord.SizeBytes, Kind = RecordKind.Settle, Flags = SettleRecord.FlagsOf(Outcome.Accept, ConfirmLevel.None), Number = _number++, Subscription = subscription, FirstDelivery = _settled, Count = count };
        MemoryMarshal.Write(_settle, settle);
        Assert.True(engine.Settle(_settle, 1).IsTaken && engine.LateRanges.IsEmpty); // No Assert.Equal here: it allocates.
        _settled += count;
    }
}
