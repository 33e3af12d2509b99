using System.Buffers;
using System.Runtime.InteropServices;
using System.Text;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Engine.Tests;

// An engine with the smallest broker around it: it keeps every record with its place and block, as a journal would.
//
//   a test -> World -> engine          live
//                  '-> Log -> replay   a second engine that gets the records alone
//
// After each step a test may ask for Check: the counts add up, and the replay's state is the live state, word for word.

/// <summary>A delivery as a client would see it.</summary>
internal readonly record struct Delivered(uint Subscription, uint Queue, ulong Delivery, ulong Tag, ulong Token, int Count, bool IsRedelivered, Place Place);

/// <summary>A record as the journal holds it.</summary>
internal readonly record struct Logged(byte[] Record, Place Place, ulong Block);

internal sealed partial class World : IDisposable
{
    private const uint SlotBytes = 64 * 1024;
    private readonly byte[] _room = new byte[QueueEngine.MaxFactBytes];
    private readonly DeliveryEntry[] _entries = new DeliveryEntry[Limits.MaxRunEntries];
    private readonly EngineLimits _limits;
    private readonly QueueEngine _replay;
    private int _replayed;
    private uint _slot = 1;
    private uint _offset;

    public World(EngineLimits? limits = null, bool isLogging = true)
    {
        _limits = limits ?? new EngineLimits();
        IsLogging = isLogging;
        Engine = new QueueEngine(_limits);
        _replay = new QueueEngine(_limits);
        Begin(0);
    }

    public QueueEngine Engine { get; private set; }

    public List<Logged> Log { get; } = [];

    public bool IsLogging { get; }

    public ulong Block { get; private set; } = 1;

    public long IntervalMicros { get; set; } = 1_000_000;

    public void Dispose()
    {
        Engine.Dispose();
        _replay.Dispose();
    }

    /// <summary>A little of everything that a state may hold.</summary>
    public static World WithEverything()
    {
        World world = new();
        ulong producer = world.Open();
        ulong other = world.Open(instance: 2);
        uint a = world.Declare("a");
        uint b = world.Declare("b");
        uint gone = world.Declare("gone");
        uint sub = world.Subscribe(a, other, credit: 20);
        world.PublishMany(producer, a, 30);
        world.PublishMany(producer, b, 10);
        world.PublishMany(producer, gone, 3);
        Assert.False(world.Publish(producer, 99).IsTaken);
        world.DispatchAll();
        world.Settle(other, sub, 1, 4);
        world.Settle(other, sub, 6, 2, Outcome.Release);
        world.Settle(other, sub, 9, 1, Outcome.Reject);
        world.MarkDamaged(a, 29);
        uint slow = world.Declare("slow", QueueAttributes.Default with { DelayMilliseconds = 60_000 });
        world.PublishMany(producer, slow, 5);
        world.Release(other, sub, 10, 2, delayMilliseconds: 5000, isCounted: false);
        world.Publish(producer, b, properties: Property(PropertyTag.Delay, 90_000));
        world.Purge(b);
        world.Publish(producer, b, properties: Property(PropertyTag.DeliverAt, world.WallMicros + 7_000_000));
        world.Delete(gone);
        world.PublishMany(producer, b, 2);
        world.Engine.Hold(sub, true); // What came back of "a" stays there.
        world.AddDeaths(producer, other);
        world.AddTurns(producer, other);
        uint same = world.Declare("same");
        world.Publish(producer, same, properties: Same(dedupId: "d", uniqueKey: "u"));
        world.Publish(producer, same, properties: Same(dedupId: "e"));
        world.Publish(producer, same, properties: Scheduled("s", 70_000, ScheduleMode.Debounce, longest: 90_000));
        Assert.True(world.SetSchedule(same, Definition("nightly"), world.WallMicros + 80_000_000, world.IntervalMicros + 80_000_000).IsTaken);
        uint ledger = world.Declare("ledger", QueueAttributes.Default with { ProcessedMilliseconds = 60_000 });
        Assert.True(world.AcceptProcessed(producer, ledger, 0, 0, "k", [1, 2, 3]).Decision.IsTaken);
        Assert.Equal(2u, world.Transact(producer, [MessageTo(same), MessageTo(99)]).Operation);
        Assert.True(world.Transact(producer, [MessageTo(same), MessageTo(same, properties: Same(dedupId: "d"))]).Decision.IsTaken);
        Assert.True(world.StartSweep(b, new SweepView(SweepAction.Move, 0, 0, "a", "type=x", 7, default, 0, 0)).IsTaken);
        world.AddRoutes(producer);
        world.AddRequests(producer, other);
        world.AddFlow(producer, other);
        world.Engine.Hold(sub, false);
        return world;
    }

    /// <summary>Requests that wait, are with a consumer, and have died.</summary>
    private void AddRequests(ulong producer, ulong consumer)
    {
        uint asked = Declare("asked", QueueAttributes.Default with { DeadLetter = "" });
        uint sub = Subscribe(asked, consumer, credit: 3);
        for (int i = 0; i < 4; i++)
        {
            Assert.True(Publish(producer, asked, properties: Request()).IsTaken);
        }

        DispatchAll();
        Assert.True(Reject(consumer, sub, 1, 1, "no"u8.ToArray()).IsTaken);
        Release(consumer, sub, 2, 1, 0);
    }

    /// <summary>Properties of a request.</summary>
    public static byte[] Request(bool needsConsumer = true, long ttl = 60_000)
    {
        PropertyWriter writer = new(new byte[128]);
        writer.Text(PropertyTag.ReplyTo, "fastq.reply.1.1");
        writer.Number(PropertyTag.Ttl, PropertyType.Int64, ttl);
        writer.Number(PropertyTag.Request, PropertyType.Int64, needsConsumer ? 1 : 0);
        return writer.Written.ToArray();
    }

    /// <summary>Ends requests that died, as the broker does once it has told who waits.</summary>
    public List<DyingMessage> EndRequests()
    {
        Begin(0);
        List<DyingMessage> ended = [];
        while (Engine.TryNextDying(IntervalMicros, out DyingMessage message))
        {
            Assert.True(message.IsRequest);
            Keep(Engine.EndRequest(message.Queue, message.Tag, _room, Block));
            ended.Add(message);
        }

        return ended;
    }

    /// <summary>Groups of which one is with a consumer, one waits for its retry, one is ready; priorities, tenants, a consumer of a rank.</summary>
    private void AddTurns(ulong producer, ulong consumer)
    {
        uint ordered = Declare("ordered", QueueAttributes.Default with { Priority = true, PriorityShare = 10, Fifo = true, Fair = true, FairWeights = "gold=3", BackoffFirstMilliseconds = 3000 });
        uint sub = Subscribe(ordered, consumer, credit: 2, priority: 7);
        for (int i = 0; i < 12; i++)
        {
            Publish(producer, ordered, properties: Turn(priority: i % 3, group: $"g{i % 4}", tenant: i % 2 == 0 ? "gold" : "silver"));
        }

        DispatchAll();
        Settle(consumer, sub, 1, 1, Outcome.Release);
    }

    /// <summary>Limits that were used: a shared one, of tenants, of publishes, of groups; a breaker that has tripped; a consumer that is paused.</summary>
    private void AddFlow(ulong producer, ulong consumer)
    {
        Assert.True(SetLimit("api", FlowLimits.None with { MaxInFlight = 50, Rate = new Rate(100, RateUnit.Minute), Burst = 20 }).IsTaken);
        uint limited = Declare("limited", QueueAttributes.Default with
        {
            Fifo = true,
            Fair = true,
            Flow = FlowLimits.None with { MaxInFlight = 9, Rate = new Rate(70, RateUnit.Hour), Burst = 12, Limit = "api", GroupInFlight = 2, GroupRate = new Rate(5, RateUnit.Hour), GroupBurst = 3, DelayHoldsGroup = true, TenantInFlight = 5, TenantRate = new Rate(3, RateUnit.Minute), TenantBurst = 4, PublishRate = new Rate(100, RateUnit.Second) },
        });
        uint sub = Subscribe(limited, consumer, credit: 6);
        for (int i = 0; i < 12; i++)
        {
            Publish(producer, limited, properties: Turn(group: $"g{i % 3}", tenant: i % 2 == 0 ? "gold" : "silver"));
        }

        DispatchAll();
        Assert.True(PauseSubscription(limited, sub, isPaused: true).IsTaken);
        uint breaks = Declare("breaks", QueueAttributes.Default with { Flow = FlowLimits.None with { Breaker = new BreakerRule(50, 4), BreakerPauseMilliseconds = 1 } });
        uint failing = Subscribe(breaks, consumer, credit: 4);
        PublishMany(producer, breaks, 8);
        DispatchAll();
        Settle(consumer, failing, 1, 2);
        Settle(consumer, failing, 3, 2, Outcome.Reject);
    }

    /// <summary>Messages that expire, that came back at their last delivery and wait by a back-off, that die with words, that died elsewhere.</summary>
    private void AddDeaths(ulong producer, ulong consumer)
    {
        uint mortal = Declare("mortal", QueueAttributes.Default with { TtlMilliseconds = 50_000, MaxDeliveries = 2, BackoffFirstMilliseconds = 2000 });
        uint sub = Subscribe(mortal, consumer, credit: 9);
        PublishMany(producer, mortal, 8);
        Publish(producer, mortal, properties: Property(PropertyTag.Ttl, 40_000));
        DispatchAll();
        Assert.True(Reject(consumer, sub, 1, 1, "gone"u8.ToArray()).IsTaken);
        Bury();
        Assert.True(Reject(consumer, sub, 2, 1, "no such customer"u8.ToArray()).IsTaken);
        Settle(consumer, sub, 3, 2, Outcome.Reject);
        StopDeath(mortal, 4);
        Settle(consumer, sub, 5, 2, Outcome.Release);
    }

    /// <summary>A state that was believed must bear work: nothing throws, the counts add up.</summary>
    public static void MustBearWork(QueueEngine engine)
    {
        engine.CheckConservation();
        engine.EndRecovery();
        byte[] room = new byte[QueueEngine.MaxFactBytes];
        _ = DumpOf(engine);
        engine.Begin(0, new Now(engine.IntervalMicros + 3_600_000_000, 0), room);
        foreach (uint queue in engine.QueueIds)
        {
            if (engine.Subscribe(queue, 1, 0, 0, false, room, 1, out _, out uint subscription).IsTaken)
            {
                engine.SetCredit(subscription, 100, ulong.MaxValue);
            }
        }

        DeliveryEntry[] entries = new DeliveryEntry[64];
        while (engine.TryNextDispatch(out uint to))
        {
            engine.Dispatch(to, room, entries, out _);
        }

        for (int i = 0; i < 100 && engine.RunTimer(room, 1) > 0; i++)
        {
            engine.CheckConservation();
        }
    }

    public static string DumpOf(QueueEngine engine)
    {
        using StringWriter text = new();
        engine.Dump(text);
        return text.ToString();
    }

    /// <summary>The counts add up, and what the records alone give is what is there.</summary>
    public void Check()
    {
        Engine.CheckConservation();
        for (; _replayed < Log.Count; _replayed++)
        {
            Assert.Equal(ApplyVerdict.Applied, Apply(_replay, Log[_replayed]));
        }

        _replay.CheckConservation();
        Assert.Equal(DumpOf(Engine), DumpOf(_replay));
    }

    public static ApplyVerdict Apply(QueueEngine engine, Logged logged) => engine.Apply(logged.Record, logged.Place, logged.Block);

    /// <summary>The broker dies and comes back: a new engine from the records alone.</summary>
    public void Restart(bool fromSnapshot = false)
    {
        QueueEngine next = new(_limits);
        if (fromSnapshot)
        {
            Assert.True(next.TryLoad(new MemoryStream(Saved())));
        }
        else
        {
            foreach (Logged logged in Log)
            {
                Assert.Equal(ApplyVerdict.Applied, Apply(next, logged));
            }
        }

        next.EndRecovery();
        Assert.Equal(DumpOf(Engine), DumpOf(next));
        Engine.Dispose();
        Engine = next;
        Begin(0);
    }

    public byte[] Saved()
    {
        ArrayBufferWriter<byte> to = new();
        Engine.Save(to);
        return to.WrittenSpan.ToArray();
    }

    public void Begin(ulong producer)
    {
        Block++;
        Engine.OpenBlock = Block;
        Keep(Engine.Begin(producer, new Now(IntervalMicros, WallMicros), _room));
    }

    public uint Declare(string name, long leaseMilliseconds = Limits.DefaultLeaseMilliseconds) => Declare(name, QueueAttributes.Default with { LeaseMilliseconds = leaseMilliseconds });

    public uint Declare(string name, QueueAttributes attributes)
    {
        Decision decision = Engine.DeclareQueue(Encoding.UTF8.GetBytes(name), attributes, _room, Block, out int written, out uint queue, out _, out _);
        Assert.True(decision.IsTaken);
        Keep(written);
        return queue;
    }

    public ulong Open(ulong wanted = 0, ulong instance = 1)
    {
        Decision decision = Engine.OpenProducer(wanted, instance, 0, _room, Block, out int written, out ulong producer);
        Assert.True(decision.IsTaken);
        Keep(written);
        return producer;
    }

    public uint Subscribe(uint queue, ulong producer, uint credit = 1000, ulong creditBytes = ulong.MaxValue, long leaseMilliseconds = 0, byte priority = 0)
    {
        Decision decision = TrySubscribe(queue, producer, out uint subscription, leaseMilliseconds, priority);
        Assert.True(decision.IsTaken);
        Engine.SetCredit(subscription, credit, creditBytes);
        return subscription;
    }

    public Decision TrySubscribe(uint queue, ulong producer, out uint subscription, long leaseMilliseconds = 0, byte priority = 0, bool isExclusive = false)
    {
        Decision decision = Engine.Subscribe(queue, producer, leaseMilliseconds, priority, isExclusive, _room, Block, out int written, out subscription);
        Keep(written);
        return decision;
    }

    /// <summary>Sends one message under the producer's next number; a refusal is journaled as the broker does.</summary>
    public Decision Publish(ulong producer, uint queue, int bodyBytes = 100, ulong number = 0, byte[]? properties = null)
    {
        Begin(producer);
        return PublishHere(producer, queue, bodyBytes, number, properties);
    }

    /// <summary>Properties that hold one number.</summary>
    public static byte[] Property(PropertyTag tag, long value)
    {
        Span<byte> room = stackalloc byte[64];
        PropertyWriter writer = new(room);
        writer.Number(tag, tag == PropertyTag.DeliverAt ? PropertyType.Timestamp : PropertyType.Int64, value);
        return writer.Written.ToArray();
    }

    /// <summary>Properties that say when its turn is.</summary>
    public static byte[] Turn(int priority = 0, string group = "", string tenant = "")
    {
        PropertyWriter writer = new(new byte[1024]);
        writer.Number(PropertyTag.Priority, PropertyType.Int64, priority);
        foreach ((PropertyTag tag, string key) in new[] { (PropertyTag.Group, group), (PropertyTag.Tenant, tenant) })
        {
            if (key.Length > 0)
            {
                writer.Text(tag, key);
            }
        }

        return writer.Written.ToArray();
    }

    /// <summary>Properties that say of what it is one.</summary>
    public static byte[] Same(string dedupId = "", string uniqueKey = "", UniqueUntil until = UniqueUntil.Settled, string group = "")
    {
        PropertyWriter writer = new(new byte[1024]);
        foreach ((PropertyTag tag, string key) in new[] { (PropertyTag.DeduplicationId, dedupId), (PropertyTag.UniqueKey, uniqueKey), (PropertyTag.Group, group) })
        {
            if (key.Length > 0)
            {
                writer.Text(tag, key);
            }
        }

        writer.Number(PropertyTag.UniqueUntil, PropertyType.Int64, (long)until);
        return writer.Written.ToArray();
    }

    /// <summary>Properties of a message that waits under a schedule key; no key: it has none.</summary>
    public static byte[] Scheduled(string key, long delay, ScheduleMode mode = ScheduleMode.Replace, long longest = 0, long life = 0)
    {
        PropertyWriter writer = new(new byte[1024]);
        writer.Number(PropertyTag.Delay, PropertyType.Int64, delay);
        writer.Number(PropertyTag.ScheduleMode, PropertyType.Int64, (long)mode);
        foreach ((PropertyTag tag, long milliseconds) in new[] { (PropertyTag.LongestWait, longest), (PropertyTag.Ttl, life) })
        {
            if (milliseconds > 0)
            {
                writer.Number(tag, PropertyType.Int64, milliseconds);
            }
        }

        if (key.Length > 0)
        {
            writer.Text(PropertyTag.ScheduleKey, key);
        }

        return writer.Written.ToArray();
    }

    /// <summary>The wall clock, microseconds.</summary>
    public long WallMicros => IntervalMicros + 1_700_000_000_000_000;

    /// <summary>As <see cref="Publish"/>, in the batch that was begun.</summary>
    public Decision PublishHere(ulong producer, uint queue, int bodyBytes, ulong number = 0, byte[]? properties = null)
    {
        properties ??= [];
        int length = MessageHeader.SizeBytes + properties.Length + bodyBytes;
        byte[] record = new byte[length];
        number = number == 0 ? Engine.ViewProducer(producer).LastNumber + 1 : number;
        MemoryMarshal.Write(record, new MessageHeader { LengthBytes = (uint)length, Kind = RecordKind.Message, PropertyBytes = (ushort)properties.Length, NumberOrTimeMicros = number, Queue = queue });
        properties.CopyTo(record, MessageHeader.SizeBytes);
        Place place = NextPlace(length);
        Decision decision = Engine.Publish(record, place);
        KeepOrRefuse(decision, number, record, place);
        return decision;
    }

    public void PublishMany(ulong producer, uint queue, int count, int bodyBytes = 100)
    {
        Begin(producer);
        for (int i = 0; i < count; i++)
        {
            Assert.True(PublishHere(producer, queue, bodyBytes).IsTaken);
        }
    }

    public Decision Settle(ulong producer, uint subscription, ulong first, uint count = 1, Outcome outcome = Outcome.Accept, ulong number = 0) =>
        SettleOrExtend(producer, new SettleRecord { Kind = RecordKind.Settle, Flags = SettleRecord.FlagsOf(outcome, ConfirmLevel.None), Subscription = subscription, FirstDelivery = first, Count = count, Number = number });

    public Decision Release(ulong producer, uint subscription, ulong first, uint count, long delayMilliseconds, bool isCounted = true) =>
        SettleOrExtend(producer, new SettleRecord { Kind = RecordKind.Settle, Flags = (byte)(SettleRecord.FlagsOf(Outcome.Release, ConfirmLevel.None) | (isCounted ? 0 : SettleRecord.Uncounted)), Subscription = subscription, FirstDelivery = first, Count = count, Milliseconds = delayMilliseconds });

    public Decision Reject(ulong producer, uint subscription, ulong first, uint count, byte[] words, Outcome outcome = Outcome.Reject) =>
        SettleOrExtend(producer, new SettleRecord { Kind = RecordKind.Settle, Flags = SettleRecord.FlagsOf(outcome, ConfirmLevel.None), Subscription = subscription, FirstDelivery = first, Count = count }, words);

    public Decision Extend(ulong producer, uint subscription, ulong first, uint count, long leaseMilliseconds) =>
        SettleOrExtend(producer, new SettleRecord { Kind = RecordKind.Extend, Subscription = subscription, FirstDelivery = first, Count = count, Milliseconds = leaseMilliseconds });

    /// <summary>One run, to whom the engine says; nothing when nobody can take anything.</summary>
    public List<Delivered> DispatchOnce(int most = Limits.MaxRunEntries)
    {
        List<Delivered> delivered = [];
        if (!Engine.TryNextDispatch(out uint subscription))
        {
            return delivered;
        }

        Keep(Engine.Dispatch(subscription, _room, _entries.AsSpan(0, most), out DispatchedRun run));
        for (int i = 0; i < run.Count; i++)
        {
            DeliveryEntry entry = _entries[i];
            delivered.Add(new Delivered(run.Subscription, run.Queue, run.FirstDelivery + (ulong)i, run.FirstTag + (ulong)i, run.FirstToken + (ulong)i, entry.DeliveryCount, (entry.Flags & DeliveryEntry.Redelivered) != 0, new Place(entry.Slot, entry.Offset)));
        }

        return delivered;
    }

    public List<Delivered> DispatchAll(int most = Limits.MaxRunEntries)
    {
        Begin(0);
        List<Delivered> all = [];
        for (List<Delivered> run = DispatchOnce(most); run.Count > 0; run = DispatchOnce(most))
        {
            all.AddRange(run);
        }

        return all;
    }

    /// <summary>Time passes; everything due happens. Returns how many records that took.</summary>
    public int Advance(long milliseconds, int mostRecords = int.MaxValue)
    {
        IntervalMicros += milliseconds * 1000;
        Begin(0);
        int records = 0;
        while (records < mostRecords && Engine.RunTimer(_room, Block) is int written and > 0)
        {
            Keep(written);
            records++;
        }

        return records;
    }

    public ulong Purge(uint queue)
    {
        Begin(0);
        Assert.True(Engine.PurgeQueue(queue, _room, Block, out int written, out ulong purged).IsTaken);
        Keep(written);
        return purged;
    }

    public void Delete(uint queue)
    {
        Begin(0);
        Assert.True(Engine.DeleteQueue(queue, _room, Block, out int written).IsTaken);
        Keep(written);
    }

    public void Unsubscribe(uint subscription, ulong producer, ulong firstNotTaken)
    {
        Begin(0);
        Assert.True(Engine.Unsubscribe(subscription, producer, firstNotTaken, _room, Block, out int written).IsTaken);
        Keep(written);
    }

    public Decision Resume(uint subscription, ulong producer, ulong firstNotTaken)
    {
        Begin(0);
        Decision decision = Engine.ResumeSubscription(subscription, producer, firstNotTaken, _room, Block, out int written);
        Keep(written);
        return decision;
    }

    public void Detach(uint subscription, ulong firstNotTaken)
    {
        Begin(0);
        Keep(Engine.Detach(subscription, firstNotTaken, _room, Block));
    }

    public bool MarkDamaged(uint queue, ulong tag)
    {
        Begin(0);
        bool isMarked = Engine.TryMarkDamaged(queue, tag, _room, Block, out int written);
        Keep(written);
        return isMarked;
    }

    public void EndDelivery(uint subscription, ulong delivery)
    {
        Begin(0);
        Keep(Engine.EndDelivery(subscription, delivery, _room, Block));
    }

    public void AcknowledgeRefusals(ulong producer, ulong upTo)
    {
        Begin(0);
        Keep(Engine.AcknowledgeRefusals(producer, upTo, _room, Block));
    }

    public void FinishCommand(ulong producer)
    {
        Begin(producer);
        Keep(Engine.FinishCommand(Engine.ViewProducer(producer).LastNumber + 1, _room, Block));
    }

    /// <summary>Moves up to so many messages that died to their dead-letter queues, as the broker does; their story is that of the last death alone.</summary>
    public List<(DyingMessage Message, uint Target, ulong Tag, int Bytes)> Bury(int most = int.MaxValue, byte[]? properties = null)
    {
        Begin(0);
        List<(DyingMessage, uint, ulong, int)> buried = [];
        while (buried.Count < most && Engine.TryNextDying(IntervalMicros, out DyingMessage message))
        {
            if (message.IsRequest)
            {
                Keep(Engine.EndRequest(message.Queue, message.Tag, _room, Block));
                continue;
            }

            byte[] name = Encoding.UTF8.GetBytes(message.Target);
            if (!Engine.TryFindQueue(name, out uint target))
            {
                target = Declare(message.Target, QueueAttributes.OfDeadLetters);
            }

            byte[] record = LetterOf(message, target, properties);
            Place place = NextPlace(record.Length);
            Decision decision = Engine.TakeIn(record, place, Block);
            if (!decision.IsTaken)
            {
                Assert.Equal(RefusalCode.Paused, decision.Code);
                Engine.PauseDeadLetters(message.Queue, IntervalMicros + 1);
                continue;
            }

            if (IsLogging)
            {
                Log.Add(new Logged(record, place, Block));
            }

            buried.Add((message, target, MemoryMarshal.Read<MessageHeader>(record).Tag, record.Length - MessageHeader.SizeBytes));
        }

        return buried;
    }

    /// <summary>A dead letter whose story is where it died last.</summary>
    public static byte[] LetterOf(in DyingMessage message, uint target, byte[]? more = null)
    {
        FieldWriter death = new(new byte[64]);
        death.Number(FieldTag.Queue, message.Queue);
        death.Number(FieldTag.Tag, message.Tag);
        PropertyWriter properties = new(new byte[512]);
        properties.Bytes(PropertyTag.Death, death.Written);
        properties.Raw(more);
        byte[] record = new byte[MessageHeader.SizeBytes + properties.Length + 10];
        MemoryMarshal.Write(record, new MessageHeader { LengthBytes = (uint)record.Length, Kind = RecordKind.DeadLetter, PropertyBytes = (ushort)properties.Length, Queue = target });
        properties.Written.CopyTo(record.AsSpan(MessageHeader.SizeBytes));
        return record;
    }

    public Decision StartSweep(uint queue, SweepView order)
    {
        Begin(0);
        Decision decision = Engine.StartSweep(queue, order, _room, Block, out int written);
        Keep(written);
        return decision;
    }

    public int EndSweep(uint queue)
    {
        Begin(0);
        int written = Engine.EndSweep(queue, SweepState.Cancelled, _room, Block);
        Keep(written);
        return written;
    }

    public Decision DeleteMessage(uint queue, ulong tag)
    {
        Begin(0);
        Decision decision = Engine.DeleteMessage(queue, tag, isSwept: false, _room, Block, out int written);
        Keep(written);
        return decision;
    }

    public Decision ChangeMessage(uint queue, ulong tag, byte? priority = null, long? dueMicros = null)
    {
        Begin(0);
        Decision decision = Engine.ChangeMessage(queue, tag, priority, dueMicros, _room, Block, out int written);
        Keep(written);
        return decision;
    }

    /// <summary>Does what sweeps do, as the broker does, with up to so many messages that can be done now. What has no target died nowhere, and cannot go.</summary>
    public List<SweptMessage> Sweep(int most = int.MaxValue)
    {
        Begin(0);
        List<SweptMessage> done = [];
        while (done.Count < most && Engine.TryNextSwept(IntervalMicros, out SweptMessage message))
        {
            ulong tag = message.View.Tag;
            if (tag == 0)
            {
                Keep(Engine.EndSweep(message.Queue, SweepState.Finished, _room, Block));
                continue;
            }

            bool isDone = message.Sweep.Action == SweepAction.Delete ? Swept(Engine.DeleteMessage(message.Queue, tag, isSwept: true, _room, Block, out int written), written) : MoveSwept(message);
            if (isDone || message.Sweep.Target.Length == 0)
            {
                Engine.PassSwept(message.Queue, tag, isDone, hasFailed: !isDone);
            }
            else
            {
                Engine.PauseSweep(message.Queue, IntervalMicros + 1);
            }

            if (isDone)
            {
                done.Add(message);
            }
        }

        return done;
    }

    private bool Swept(Decision decision, int written)
    {
        Assert.True(decision.IsTaken);
        Keep(written);
        return true;
    }

    private bool MoveSwept(in SweptMessage message)
    {
        if (!Engine.TryFindQueue(Encoding.UTF8.GetBytes(message.Sweep.Target), out uint target))
        {
            return false;
        }

        FieldWriter origin = new(new byte[64]);
        origin.Number(FieldTag.Queue, message.Queue);
        origin.Number(FieldTag.Tag, message.View.Tag);
        PropertyWriter properties = new(new byte[128]);
        properties.Bytes(PropertyTag.Origin, origin.Written);
        properties.Number(PropertyTag.Delay, PropertyType.Int64, message.DelayLeftMicros / 1000);
        byte[] record = new byte[MessageHeader.SizeBytes + properties.Length + 10];
        MemoryMarshal.Write(record, new MessageHeader { LengthBytes = (uint)record.Length, Kind = RecordKind.MessageTransferred, PropertyBytes = (ushort)properties.Length, Queue = target });
        properties.Written.CopyTo(record.AsSpan(MessageHeader.SizeBytes));
        Place place = NextPlace(record.Length);
        bool isTaken = Engine.TakeIn(record, place, Block).IsTaken;
        if (isTaken && IsLogging)
        {
            Log.Add(new Logged(record, place, Block));
        }

        return isTaken;
    }

    public (Decision Decision, Timeliness Timeliness) CancelScheduled(uint queue, string key)
    {
        Begin(0);
        Decision decision = Engine.CancelScheduled(queue, Encoding.UTF8.GetBytes(key), _room, Block, out int written, out Timeliness timeliness);
        Keep(written);
        return (decision, timeliness);
    }

    public (Decision Decision, Timeliness Timeliness) Reschedule(uint queue, string key, long? delayMilliseconds)
    {
        Begin(0);
        Decision decision = Engine.Reschedule(queue, Encoding.UTF8.GetBytes(key), IntervalMicros + delayMilliseconds * 1000, _room, Block, out int written, out Timeliness timeliness);
        Keep(written);
        return (decision, timeliness);
    }

    /// <summary>What the broker would keep of a schedule whose rule is of no concern here.</summary>
    public static byte[] Definition(string name, byte[]? properties = null, int bodyBytes = 10)
    {
        FieldWriter fields = new(new byte[Limits.MaxCommandBytes]);
        fields.Text(FieldTag.Name, name);
        fields.Number(FieldTag.EveryMilliseconds, 1000);
        fields.Bytes(FieldTag.Properties, properties);
        fields.Bytes(FieldTag.Body, new byte[bodyBytes]);
        return fields.Written.ToArray();
    }

    public Decision SetSchedule(uint queue, byte[] definition, long nextMicros, long dueMicros)
    {
        Begin(0);
        byte[] room = new byte[QueueEngine.MaxFactBytes + Limits.MaxCommandBytes];
        Decision decision = Engine.SetSchedule(queue, definition, nextMicros, dueMicros, room, Block, out int written);
        Keep(written, room);
        return decision;
    }

    public Decision DeleteSchedule(string name)
    {
        Begin(0);
        Decision decision = Engine.DeleteSchedule(name, _room, Block, out int written);
        Keep(written);
        return decision;
    }

    public Decision PauseSchedule(string name, bool isPaused, long nextMicros, long dueMicros)
    {
        Begin(0);
        Decision decision = Engine.PauseSchedule(name, isPaused, nextMicros, dueMicros, _room, Block, out int written);
        Keep(written);
        return decision;
    }

    /// <summary>The schedule that is due fires, as the broker has it do: its message, and the fact beside it in the same block.</summary>
    public Decision Fire(long nextMicros, long dueMicros, bool isLate = false)
    {
        Begin(0);
        Assert.True(Engine.TryNextSchedule(IntervalMicros, out ScheduleView schedule));
        _ = FieldReader.TryBytes(schedule.Definition.Span, FieldTag.Properties, out ReadOnlySpan<byte> properties);
        byte[] record = new byte[MessageHeader.SizeBytes + properties.Length + 10];
        MemoryMarshal.Write(record, new MessageHeader { LengthBytes = (uint)record.Length, Kind = RecordKind.Message, PropertyBytes = (ushort)properties.Length, Queue = schedule.Queue });
        properties.CopyTo(record.AsSpan(MessageHeader.SizeBytes));
        Place place = NextPlace(record.Length);
        Decision decision = Engine.Publish(record, place);
        if (decision.IsTaken)
        {
            Log.Add(new Logged(record, place, Block));
            Keep(Engine.PassSchedule(schedule.Id, Firing.Sent, isLate, schedule.NextMicros, nextMicros, dueMicros, _room, Block));
        }

        return decision;
    }

    public Decision Change(uint queue, QueueAttributes to)
    {
        Begin(0);
        FieldWriter fields = new(new byte[2000]);
        to.Write(ref fields);
        Decision decision = Engine.ChangeQueue(queue, fields.Written, _room, Block, out int written, out _);
        Keep(written);
        return decision;
    }

    /// <summary>Makes, changes or deletes a limit that queues share.</summary>
    public Decision SetLimit(string name, FlowLimits limits, LimitAction action = LimitAction.Declare)
    {
        Begin(0);
        FieldWriter fields = new(new byte[200]);
        limits.Write(ref fields);
        _ = FieldReader.TryBytes(fields.Written, FieldTag.Flow, out ReadOnlySpan<byte> flow);
        Decision decision = Engine.SetLimit(name, action, flow, _room, Block, out int written, out _);
        Keep(written);
        return decision;
    }

    public Decision PauseSubscription(uint queue, uint subscription, bool isPaused)
    {
        Begin(0);
        Decision decision = Engine.PauseSubscription(queue, subscription, isPaused, _room, Block, out int written);
        Keep(written);
        return decision;
    }

    public Decision Pause(uint queue, PausedWays ways)
    {
        Begin(0);
        Decision decision = Engine.PauseQueue(queue, ways, _room, Block, out int written);
        Keep(written);
        return decision;
    }

    /// <summary>Queues that hold more than they may let go of the oldest, as the broker has them do each turn. Gives the records.</summary>
    public int PushOut()
    {
        Begin(0);
        int records = 0;
        while (Engine.PushOut(_room, Block) is int written and > 0)
        {
            Keep(written);
            records++;
        }

        Assert.False(Engine.HasOver);
        return records;
    }

    public int StopDeath(uint queue, ulong tag)
    {
        Begin(0);
        int written = Engine.StopDeath(queue, tag, _room, Block);
        Keep(written);
        return written;
    }

    /// <summary>Compaction writes a message again elsewhere.</summary>
    public Place Move(uint queue, ulong tag, int bodyBytes)
    {
        byte[] record = new byte[MessageHeader.SizeBytes + bodyBytes];
        MemoryMarshal.Write(record, new MessageHeader { LengthBytes = (uint)record.Length, Kind = RecordKind.MovedMessage, Queue = queue, Tag = tag });
        Place place = NextPlace(record.Length);
        Engine.Move(record, place, Block);
        Log.Add(new Logged(record, place, Block));
        return place;
    }

    private Decision SettleOrExtend(ulong producer, SettleRecord settle, byte[]? words = null)
    {
        Begin(producer);
        settle.LengthBytes = (uint)(SettleRecord.SizeBytes + (words?.Length ?? 0));
        settle.Number = settle.Number == 0 ? Engine.ViewProducer(producer).LastNumber + 1 : settle.Number;
        byte[] record = new byte[settle.LengthBytes];
        MemoryMarshal.Write(record, settle);
        words?.CopyTo(record, SettleRecord.SizeBytes);
        Decision decision = Engine.Settle(record, Block);
        KeepOrRefuse(decision, settle.Number, record, NextPlace(record.Length));
        return decision;
    }

    /// <summary>Sends records as one transaction under the producer's next numbers; each is a message or a settlement whose number is set here. A refusal is journaled as the broker does.</summary>
    /// <returns>What was decided, and which of them was refused, from 1 on.</returns>
    public (Decision Decision, uint Operation) Transact(ulong producer, IReadOnlyList<byte[]> records, ulong first = 0)
    {
        Begin(producer);
        first = first == 0 ? Engine.ViewProducer(producer).LastNumber + 1 : first;
        byte[] all = new byte[records.Sum(record => Limits.Align(record.Length))];
        for (int i = 0, at = 0; i < records.Count; at += Limits.Align(records[i++].Length))
        {
            MemoryMarshal.Write(records[i].AsSpan(8), first + (ulong)i);
            records[i].CopyTo(all, at);
        }

        Assert.Equal("", TransactionReader.Fault(all, first, (uint)records.Count));
        Place place = NextPlace(all.Length);
        Decision decision = Engine.JudgeTransaction(all, out uint operation, out _);
        if (decision.IsTaken)
        {
            Engine.ApplyTransaction(all, place, Block);
        }

        TransactionReader reader = new(all);
        while (decision.IsTaken && IsLogging && reader.Next())
        {
            Log.Add(new Logged(reader.Record.ToArray(), place with { Offset = place.Offset + (uint)reader.Offset }, Block));
        }

        if (decision.Kind == DecisionKind.Refused)
        {
            Keep(Engine.RefuseTransaction(first, (uint)records.Count, operation, decision.Code, _room, Block));
        }

        return (decision, operation);
    }

    public (Decision Decision, ProcessedMark Mark) AcceptProcessed(ulong producer, uint queue, uint subscription, ulong delivery, string key, byte[] result)
    {
        Begin(0);
        Decision decision = Engine.AcceptProcessed(queue, producer, subscription, delivery, Encoding.UTF8.GetBytes(key), result, _room, Block, out int written, out ProcessedMark mark);
        Keep(written);
        return (decision, mark);
    }

    /// <summary>The result; null: not marked.</summary>
    public byte[]? FindProcessed(uint queue, string key)
    {
        Assert.True(Engine.FindProcessed(queue, Encoding.UTF8.GetBytes(key), out bool isMarked, out ReadOnlyMemory<byte> result).IsTaken);
        return isMarked ? result.ToArray() : null;
    }

    /// <summary>A message as it stands in a transaction.</summary>
    public static byte[] MessageTo(uint queue, int bodyBytes = 100, byte[]? properties = null)
    {
        properties ??= [];
        byte[] record = new byte[MessageHeader.SizeBytes + properties.Length + bodyBytes];
        properties.CopyTo(record, MessageHeader.SizeBytes);
        MemoryMarshal.Write(record, new MessageHeader { LengthBytes = (uint)record.Length, Kind = RecordKind.Message, PropertyBytes = (ushort)properties.Length, Queue = queue, Check = RecordCheck.Of(record.AsSpan(MessageHeader.SizeBytes)) });
        return record;
    }

    /// <summary>A settlement as it stands in a transaction.</summary>
    public static byte[] SettleOf(uint subscription, ulong first, uint count = 1, Outcome outcome = Outcome.Accept, byte[]? words = null)
    {
        words ??= [];
        byte[] record = new byte[SettleRecord.SizeBytes + words.Length];
        words.CopyTo(record, SettleRecord.SizeBytes);
        MemoryMarshal.Write(record, new SettleRecord { LengthBytes = (uint)record.Length, Kind = RecordKind.Settle, Flags = SettleRecord.FlagsOf(outcome, ConfirmLevel.None), Subscription = subscription, FirstDelivery = first, Count = count });
        return record;
    }

    private void KeepOrRefuse(Decision decision, ulong number, byte[] record, Place place)
    {
        if (decision.IsTaken && IsLogging)
        {
            Log.Add(new Logged(record, place, Block));
        }

        if (decision.Kind == DecisionKind.Refused)
        {
            Keep(Engine.Refuse(number, decision.Code, _room, Block));
        }
    }

    /// <summary>One record that the engine wrote into the room.</summary>
    private void Keep(int written) => Keep(written, _room);

    private void Keep(int written, byte[] room)
    {
        if (written > 0)
        {
            int length = (int)MemoryMarshal.Read<RecordPrefix>(room).LengthBytes;
            Assert.Equal(written, Limits.Align(length));
            if (IsLogging)
            {
                Log.Add(new Logged(room[..length], NextPlace(length), Block));
            }
        }
    }

    private Place NextPlace(int length)
    {
        if (_offset + (uint)length > SlotBytes)
        {
            _slot++;
            _offset = 0;
        }

        Place place = new(_slot, _offset);
        _offset += (uint)Limits.Align(length);
        return place;
    }
}
