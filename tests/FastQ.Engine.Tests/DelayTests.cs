using FastQ.Protocol;
using Xunit;

namespace FastQ.Engine.Tests;

/// <summary>Messages that wait for their time: never early, then at their place, whatever happened meanwhile.</summary>
public sealed class DelayTests
{
    private static byte[] Delay(long milliseconds) => World.Property(PropertyTag.Delay, milliseconds);

    [Fact]
    public void A_delayed_message_comes_when_it_is_due_and_not_a_moment_before_and_holds_nobody_up()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q"), slow = world.Declare("slow", QueueAttributes.Default with { DelayMilliseconds = 300 });
        world.Subscribe(queue, producer);
        world.Subscribe(slow, producer);
        world.Publish(producer, queue, properties: Delay(1000));
        world.Publish(producer, queue, properties: World.Property(PropertyTag.DeliverAt, world.WallMicros + 500_000));
        world.Publish(producer, queue, properties: World.Property(PropertyTag.DeliverAt, world.WallMicros - 500_000));
        world.Publish(producer, slow);
        world.Publish(producer, slow, properties: Delay(0)); // Its own word counts, also when it is: at once.
        Assert.Equal([(queue, 3ul), (slow, 2ul)], world.DispatchAll().Select(one => (one.Queue, one.Tag)).Order());
        Assert.Equal((2L, 1L), (world.Engine.View(queue).Delayed, world.Engine.View(slow).Delayed));
        Assert.Equal(world.IntervalMicros + 300_000, world.Engine.NextTimerMicros);
        List<(long After, uint Queue, ulong Tag)> came = [];
        for (long passed = 1; passed <= 1000; passed++)
        {
            world.Advance(1);
            came.AddRange(world.DispatchAll().Select(one => (passed, one.Queue, one.Tag)));
        }

        Assert.Equal([(300L, slow, 1ul), (500L, queue, 2ul), (1000L, queue, 1ul)], came);
        world.Check();
    }

    [Fact]
    public void What_is_due_is_ready_at_its_place_whether_dispatch_has_passed_it_or_not()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        for (int i = 0; i < 9; i++)
        {
            world.Publish(producer, queue, properties: i % 3 == 0 ? Delay(i == 6 ? 2000 : 1000) : null);
        }

        uint one = world.Subscribe(queue, producer, credit: 2);
        Assert.Equal([2ul, 3], world.DispatchAll().Select(delivered => delivered.Tag));
        world.Advance(1000); // 1, which was passed over, and 4, which was not, are due; 7 is not.
        world.Engine.SetCredit(one, 100, ulong.MaxValue);
        Assert.Equal([1ul, 4, 5, 6, 8, 9], world.DispatchAll(most: 2).Select(delivered => delivered.Tag));
        world.Restart();
        Assert.True(world.Resume(one, producer, ulong.MaxValue).IsTaken);
        world.Engine.SetCredit(one, 100, ulong.MaxValue);
        world.Advance(999);
        Assert.Empty(world.DispatchAll());
        world.Advance(1);
        Assert.Equal([7ul], world.DispatchAll().Select(delivered => delivered.Tag));
        world.Check();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Delays_survive_a_restart_and_time_while_the_broker_was_down_counts(bool fromSnapshot)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 3);
        world.DispatchAll();
        world.Release(producer, subscription, 1, 1, 5000);
        world.Release(producer, subscription, 2, 1, 9000, isCounted: false);
        world.Publish(producer, queue, properties: Delay(7000));
        world.Restart(fromSnapshot);
        Assert.True(world.Resume(subscription, producer, ulong.MaxValue).IsTaken);
        world.Engine.SetCredit(subscription, 100, ulong.MaxValue);
        world.Engine.GraceUntilMicros = world.IntervalMicros + 60_000_000; // Of leases; nobody else waits for owners that may come back.
        Assert.Equal(0, world.Advance(4999));
        world.Advance(2001);
        Assert.Equal([(1ul, 2), (4, 1)], world.DispatchAll().Select(one => (one.Tag, one.Count)));
        world.Advance(2000);
        Assert.Equal([(2ul, 1)], world.DispatchAll().Select(one => (one.Tag, one.Count)));
        world.Check();
    }

    [Fact]
    public void A_flood_that_is_due_at_once_goes_in_slices_and_others_get_their_turn_between_them()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q"), other = world.Declare("other");
        const int Flood = 3 * (int)QueueEngine.SliceTags - 10;
        for (int i = 0; i < Flood; i++)
        {
            world.Publish(producer, queue, bodyBytes: 1, properties: Delay(1000));
        }

        world.Publish(producer, other, properties: Delay(1000));
        Assert.Equal(1, world.Advance(1000, mostRecords: 1));
        Assert.Equal((QueueEngine.SliceTags, world.IntervalMicros), (world.Engine.View(queue).Ready, world.Engine.NextTimerMicros));
        Assert.Equal(1, world.Advance(0, mostRecords: 1));
        Assert.Equal(1, world.Engine.View(other).Ready);
        Assert.Equal(2, world.Advance(0));
        Assert.Equal((Flood, 0), (world.Engine.View(queue).Ready, world.Engine.View(queue).Delayed));
        Assert.True(world.Engine.NextTimerMicros > world.IntervalMicros);
        world.Check();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void What_fell_due_while_the_broker_was_away_is_ready_a_slice_at_a_time(bool fromSnapshot)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { DelayMilliseconds = 1000 });
        world.PublishMany(producer, queue, 2 * (int)QueueEngine.SliceTags + 1, bodyBytes: 1);
        world.IntervalMicros += 3_600_000_000;
        world.Restart(fromSnapshot);
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(Math.Min(i * QueueEngine.SliceTags, 2 * QueueEngine.SliceTags + 1), world.Engine.View(queue).Ready);
            Assert.Equal(1, world.Advance(0, mostRecords: 1)); // Others have their turn between them.
        }

        Assert.Equal(2 * QueueEngine.SliceTags + 1, world.Engine.View(queue).Ready);
        world.Check();
    }

    [Fact]
    public void A_purge_takes_what_is_delayed_and_what_is_delayed_after_it_stays()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint subscription = world.Subscribe(queue, producer, credit: 2);
        world.PublishMany(producer, queue, 2);
        world.DispatchAll();
        world.Publish(producer, queue, properties: Delay(1000));
        world.Release(producer, subscription, 1, 1, 1000);
        Assert.Equal(2ul, world.Purge(queue));
        world.Release(producer, subscription, 2, 1, 1000); // It was in flight at the purge.
        world.Publish(producer, queue, properties: Delay(1000));
        world.Restart(fromSnapshot: true); // Before a slice has freed anything.
        Assert.Equal((0L, 2L), (world.Engine.View(queue).Ready, world.Engine.View(queue).Delayed));
        Assert.True(world.Resume(subscription, producer, ulong.MaxValue).IsTaken);
        world.Advance(1000);
        world.Engine.SetCredit(subscription, 100, ulong.MaxValue);
        Assert.Equal([2ul, 4], world.DispatchAll().Select(delivered => delivered.Tag));
        Assert.Equal(2ul, world.Engine.View(queue).Purged);
        world.Check();
    }

    [Fact]
    public void Memory_of_delays_counts_as_the_index_does_and_is_given_back()
    {
        using World world = new(new EngineLimits { IndexBytes = 256 * 1024 });
        ulong producer = world.Open();
        uint queue = world.Declare("q"), other = world.Declare("other");
        world.Begin(producer);
        Decision decision;
        int taken = 0;
        while ((decision = world.PublishHere(producer, queue, 1, properties: Delay(1000))).IsTaken)
        {
            taken++;
        }

        Assert.Equal((RefusalCode.LimitReached, 256ul * 1024), (decision.Code, decision.Value));
        Assert.InRange(taken, 1000, 256 * 1024 / 16);
        world.Advance(1000);
        Assert.Equal((taken, 0), (world.Engine.View(queue).Ready, world.Engine.View(queue).Delayed));
        world.Publish(producer, other, properties: Delay(1000));
        world.Purge(queue);
        world.Delete(other);
        world.Advance(0);
        Assert.InRange(world.Engine.StateBytes, 0, 40 * 1024);
        world.Check();
    }

    [Fact]
    public void Times_that_contradict_themselves_are_refused_and_said_to_be_wrong()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        byte[] at = World.Property(PropertyTag.DeliverAt, 1), wrongType = Delay(1);
        wrongType[1] = (byte)PropertyType.Timestamp;
        byte[][] wrong = [[.. Delay(1), .. at], [.. Delay(1), .. Delay(1)], [.. at, .. at], Delay(-1), Delay(Limits.MaxDelayMilliseconds + 1), World.Property(PropertyTag.DeliverAt, -1), World.Property(PropertyTag.DeliverAt, Limits.MaxDelayMilliseconds * 1000 + 1), wrongType];
        foreach (byte[] properties in wrong)
        {
            Assert.Equal(RefusalCode.BadArgument, world.Publish(producer, queue, properties: properties).Code);
        }

        Assert.True(world.Publish(producer, queue, properties: Delay(Limits.MaxDelayMilliseconds)).IsTaken);
        uint subscription = world.Subscribe(queue, producer);
        world.Publish(producer, queue);
        world.DispatchAll();
        Assert.Equal(RefusalCode.BadArgument, world.Release(producer, subscription, 1, 1, -1).Code);
        Assert.Equal(RefusalCode.BadArgument, world.Release(producer, subscription, 1, 1, Limits.MaxDelayMilliseconds + 1).Code);
        Assert.True(world.Release(producer, subscription, 1, 1, Limits.MaxDelayMilliseconds).IsTaken);
        Assert.Equal((0L, 2L), (world.Engine.View(queue).InFlight, world.Engine.View(queue).Delayed));
        world.Check();
    }

    [Fact]
    public void A_journal_that_says_that_what_is_not_due_is_due_is_no_history()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        world.Publish(producer, queue, properties: Delay(1000));
        byte[] record = new byte[FactRecord.SizeBytes];
        System.Runtime.InteropServices.MemoryMarshal.Write(record, new FactRecord { LengthBytes = FactRecord.SizeBytes, Kind = RecordKind.MessagesDue, Subject = queue, Count = 1, First = (ulong)world.IntervalMicros + 1 });
        Assert.Equal(ApplyVerdict.Contradiction, world.Engine.Apply(record, default, 1));
        System.Runtime.InteropServices.MemoryMarshal.Write(record, new FactRecord { LengthBytes = FactRecord.SizeBytes, Kind = RecordKind.MessagesDue, Subject = queue + 1, Count = 1, First = (ulong)world.IntervalMicros });
        Assert.Equal(ApplyVerdict.Contradiction, world.Engine.Apply(record, default, 1));
        Assert.Equal(1, world.Engine.View(queue).Delayed);
    }

    [Fact]
    public void A_moment_is_never_further_than_the_longest_delay_whatever_the_wall_clock_says()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        byte[] room = new byte[SourceRecord.SizeBytes];
        System.Runtime.InteropServices.MemoryMarshal.Write(room, new SourceRecord { LengthBytes = SourceRecord.SizeBytes, Kind = RecordKind.Source, Producer = producer, FirstNumber = 1, IntervalMicros = world.IntervalMicros, WallMicros = -long.MaxValue + 10 });
        Assert.Equal(ApplyVerdict.Applied, world.Engine.Apply(room, default, 1));
        Assert.True(world.PublishHere(producer, queue, 1, properties: World.Property(PropertyTag.DeliverAt, 5)).IsTaken);
        Assert.Equal(world.IntervalMicros + Limits.MaxDelayMilliseconds * 1000, Assert.Single(world.Engine.Browse(queue, 0, 1, out _)).DueMicros);
    }

    [Fact]
    public void Times_by_tag_are_those_of_a_plain_dictionary_and_the_earliest_is_the_earliest()
    {
        using PageAllocator pages = new(1 << 30);
        using MessageTimes times = new(pages);
        Dictionary<ulong, long> plain = [];
        Random random = new(4711);
        for (int round = 0; round < 60_000; round++)
        {
            ulong tag = (ulong)random.Next(1, round < 30_000 ? 5000 : 50);
            switch (random.Next(5))
            {
                case < 2:
                    long at = random.Next(1000);
                    times.Set(tag, at);
                    plain[tag] = at;
                    break;
                case 2:
                    times.Remove(tag);
                    plain.Remove(tag);
                    break;
                default:
                    Assert.Equal(plain.Count > 0, times.TryPeek(out TimedTag earliest));
                    if (plain.Count > 0)
                    {
                        (ulong first, long atFirst) = plain.MinBy(pair => (pair.Value, pair.Key));
                        Assert.Equal(new TimedTag(atFirst, first), earliest);
                        times.Remove(first);
                        plain.Remove(first);
                    }

                    break;
            }

            Assert.Equal(plain.Count, times.Count);
            Assert.Equal(plain.TryGetValue(tag, out long expected), times.TryFind(tag, out long found));
            Assert.Equal(expected, found);
            Assert.Equal(times.Bytes, pages.UsedBytes);
        }

        foreach (ulong tag in plain.Keys)
        {
            times.Remove(tag);
        }

        Assert.Equal(0, pages.UsedBytes);
    }

    // CASES B30, B40: 49.7 days are 2^32 milliseconds.
    [Fact]
    public void A_hundred_thousand_delays_of_months_come_when_they_are_due_and_none_sooner()
    {
        const long Day = 24L * 3600 * 1000;
        const int Count = 100_000;
        using World world = new(isLogging: false);
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        world.Begin(producer);
        for (int i = 0; i < Count; i++)
        {
            Assert.True(world.PublishHere(producer, queue, 1, properties: World.Property(PropertyTag.Delay, (40 + i % 60) * Day)).IsTaken);
        }

        for (int day = 1; day <= 100; day++)
        {
            world.Advance(Day);
            Assert.Equal(Enumerable.Range(0, Count).Count(i => 40 + i % 60 <= day), world.Engine.View(queue).Ready);
        }
    }

    // CASES B39.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_queues_own_delay_is_kept_over_a_restart(bool fromSnapshot)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { DelayMilliseconds = 700 });
        world.Restart(fromSnapshot);
        world.Publish(producer, queue);
        world.Subscribe(queue, producer);
        world.Advance(699);
        Assert.Empty(world.DispatchAll());
        world.Advance(1);
        Assert.Single(world.DispatchAll());
    }
}
