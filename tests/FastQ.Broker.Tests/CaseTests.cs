using System.Globalization;
using System.Text;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

// Faults that other brokers had, as trials on a broker of this process; tests/CASES.md says where each of them is.
[Collection(OneAtATime.Name)]
public sealed class CaseTests
{
    private const int FewSlots = 12;

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_release_beside_the_end_of_its_subscription_leaves_nothing_in_flight(bool releaseFirst)
    {
        using RunningBroker broker = RunningBroker.With(options => options); // CASES B50
        using RawClient client = broker.Connect(), next = broker.Connect();
        uint queue = client.Declare("q");
        uint subscription = client.Subscribe(queue, credit: 10);
        for (int i = 0; i < 10; i++)
        {
            client.PutMessage(queue, Encoding.UTF8.GetBytes($"{i}"));
        }

        client.Commit();
        Assert.Equal(10, Take(client, 10).Count);
        Action[] burst = [() => PutRelease(client, subscription, 10), () => PutUnsubscribe(client, subscription)];
        Array.ForEach(releaseFirst ? burst : [burst[1], burst[0]], step => step());
        client.Commit();
        if (!releaseFirst)
        {
            Assert.Equal(RefusalCode.UnknownSubscription, client.NextRefusal().Code);
        }

        client.WaitForWritten(client.NextNumber - 1);
        Assert.Equal((10ul, 0ul, 0ul), (next.Show(queue).Number(FieldTag.Ready), next.Show(queue).Number(FieldTag.InFlight), next.Show(queue).Number(FieldTag.Consumers)));
        next.Subscribe(queue);
        List<RawDelivery> again = Take(next, 10);
        Assert.Equal(Enumerable.Range(0, 10).Select(i => ($"{i}", 2)), again.Select(delivery => (delivery.Body, (int)delivery.Entry.DeliveryCount)));
        again.ForEach(next.Accept);
        Assert.Equal(0ul, next.Show(queue).Number(FieldTag.Messages));
    }

    [Fact]
    public void Queues_and_consumers_that_come_and_go_leave_nothing()
    {
        using RunningBroker broker = RunningBroker.With(options => options); // CASES B63
        using RawClient client = broker.Connect();
        long index = client.Statistic("indexBytes"); // Nothing but the client itself.
        ComeAndGo(client, 100);
        Holdings before = RunningBroker.Held();
        ComeAndGo(client, 3000);
        broker.WaitUntil(() => client.Statistic("indexBytes") == index, $"the index is as small as it was: {index} bytes");
        Assert.Equal((0L, 0L), (client.Statistic("queues"), client.Statistic("messages")));
        Assert.True(RunningBroker.Held().IsWithin(before), $"{RunningBroker.Held()} is held, {before} was");
    }

    [Fact]
    public void Stops_in_the_middle_of_compaction_are_stops_in_order()
    {
        using RunningBroker broker = SmallSlots.Start(); // CASES B66
        for (int stop = 1; stop <= 8; stop++)
        {
            using (RawClient client = broker.Connect())
            {
                PutEverySlot(client, slots: 6);
            }

            broker.Restart();
            Assert.Equal((0L, 0L), (broker.Recovery.BlocksCut, broker.Recovery.BlocksRewritten));
            Assert.InRange(broker.Recovery.RecordsReplayed, 0L, 10L);
            using RawClient after = broker.Connect();
            Assert.Equal((ulong)stop * 6, after.Show(after.Declare("kept")).Number(FieldTag.Ready));
        }
    }

    [Fact]
    public void Messages_that_stay_here_and_there_pin_little_and_a_purge_gives_it_back()
    {
        using RunningBroker broker = SmallSlots.Start(); // CASES B72
        using RawClient client = broker.Connect();
        const int Slots = 60, Enough = 40;
        for (int i = 1; i <= Slots; i++)
        {
            PutEverySlot(client, slots: 1);
            int live = i * SmallSlots.BodyBytes / SmallSlots.SlotBytes + 1;
            for (int more = 0; SlotsOf(broker) > 2 * live + FewSlots; more++)
            {
                Assert.True(more < Enough, $"{i} messages pin {SlotsOf(broker)} slots");
                SmallSlots.Pass(client, 1); // A slow disk lets compaction wait for its snapshots.
            }
        }

        Assert.InRange(SlotsOf(broker), 3, int.MaxValue);
        Assert.Equal(RefusalCode.None, client.Ask(CommandKind.PurgeQueue, (FieldTag.Queue, client.Declare("kept"))).Code);
        SmallSlots.Pass(client, FewSlots);
        broker.WaitUntil(() => SlotsOf(broker) <= FewSlots, $"few slots are left; there are {SlotsOf(broker)}");
    }

    [Fact]
    public void However_much_of_each_slot_stays_the_disk_holds_no_more_than_twice_that_and_a_few()
    {
        using RunningBroker broker = SmallSlots.Start(); // DESIGN-REVIEW R30
        using RawClient client = broker.Connect(new Hello { SubmissionRingBytes = Limits.MaxLoadRingBytes });
        const int Slots = 70, OfTen = 3; // A third stays: more than a quarter.
        uint kept = client.Declare("kept");
        uint passing = client.Declare("passing");
        uint subscription = client.Subscribe(passing, credit: 10);
        byte[] body = new byte[SmallSlots.BodyBytes];
        const int Messages = Slots * SmallSlots.SlotBytes / SmallSlots.BodyBytes;
        for (int ten = 0; ten < Messages / 10; ten++)
        {
            for (int i = 0; i < 10; i++)
            {
                client.PutMessage(i < OfTen ? kept : passing, body);
            }

            client.Commit();
            List<RawDelivery> taken = Take(client, 10 - OfTen);
            client.Put(new SettleRecord { Kind = RecordKind.Settle, Number = client.NextNumber++, Subscription = subscription, Count = 10 - OfTen, FirstDelivery = taken[0].Number, Flags = SettleRecord.FlagsOf(Outcome.Accept, ConfirmLevel.Written) });
            client.Commit();
        }

        const int LiveSlots = Messages * OfTen / 10 * SmallSlots.BodyBytes / SmallSlots.SlotBytes + 1;
        SmallSlots.Pass(client, FewSlots);
        broker.WaitUntil(() => SlotsOf(broker) <= 2 * LiveSlots + FewSlots, $"twice what lives: {LiveSlots} slots; there are {SlotsOf(broker)}");
        Assert.Equal((ulong)(Messages / 10 * OfTen), client.Show(kept).Number(FieldTag.Ready));
    }

    [Theory]
    [InlineData(0, 6000)]
    [InlineData(1, 1500)]
    public void A_consumer_that_releases_for_ever_fills_no_disk(long delayMilliseconds, int rounds)
    {
        using RunningBroker broker = SmallSlots.Start(); // CASES B71, B74
        using RawClient client = broker.Connect();
        uint queue = client.Declare("released", maxDeliveries: 0);
        uint subscription = client.Subscribe(queue, credit: 10);
        for (int i = 0; i < 10; i++)
        {
            client.PutMessage(queue, Encoding.UTF8.GetBytes($"{i}"));
        }

        client.Commit();
        for (int round = 0; round < rounds; round++) // Two blocks of 4 KiB each, or three with the one in which they are due: fifty slots, or twenty.
        {
            List<RawDelivery> taken = Take(client, 10);
            Assert.Equal((0, 9), (int.Parse(taken[0].Body, CultureInfo.InvariantCulture), int.Parse(taken[9].Body, CultureInfo.InvariantCulture)));
            PutRelease(client, subscription, 10, taken[0].Number, delayMilliseconds);
            client.Commit();
        }

        Assert.InRange(SlotsOf(broker), 3, FewSlots);
        Assert.Equal(10ul, client.Show(queue).Number(FieldTag.Messages));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void After_a_slot_in_which_all_is_settled_a_restart_and_two_more_slots_all_is_readable(bool byPurge)
    {
        using RunningBroker broker = SmallSlots.Start(); // CASES B136
        uint queue;
        using (RawClient client = broker.Connect())
        {
            queue = client.Declare("q");
            if (byPurge)
            {
                Fill(client, queue, slots: 2);
                Assert.Equal(RefusalCode.None, client.Ask(CommandKind.PurgeQueue, (FieldTag.Queue, queue)).Code);
            }
            else
            {
                SmallSlots.Pass(client, 2);
            }
        }

        broker.Restart();
        using RawClient after = broker.Connect();
        int count = Fill(after, queue, slots: 3);
        after.Subscribe(queue);
        List<RawDelivery> all = Take(after, count);
        Assert.Equal(Enumerable.Range(0, count), all.Select(delivery => BitConverter.ToInt32(delivery.Record, delivery.Record.Length - SmallSlots.BodyBytes)));
    }

    [Fact]
    public void Thousands_of_consumers_that_drop_at_once_among_many_queues_hold_nobody_up()
    {
        const int Queues = 20_000, Consumers = 5000;
        using RunningBroker broker = RunningBroker.With(options => options); // CASES B119
        using RawClient honest = broker.Connect();
        using (RawClient dropping = broker.Connect(new Hello { DeliveryRingBytes = Limits.MaxLoadRingBytes, SubmissionRingBytes = Limits.MaxLoadRingBytes }))
        {
            uint[] queues = [.. Enumerable.Range(0, Queues).Select(i => honest.Declare($"queue-{i}"))];
            foreach (uint queue in queues.Take(Consumers))
            {
                dropping.Subscribe(queue, credit: 1);
                honest.PutMessage(queue, "held"u8);
                honest.Commit();
                honest.WaitForWritten(honest.NextNumber - 1);
            }

            dropping.Wait(() => honest.Statistic("messages") == Consumers, "all are there");
        }

        broker.WaitUntil(() => honest.Statistic("sessions") == 1, "its session has ended");
        honest.MustDeliver("meanwhile");
        Assert.Equal((1ul, 0ul, 0ul), (honest.Show(1).Number(FieldTag.Ready), honest.Show(1).Number(FieldTag.InFlight), honest.Show(1).Number(FieldTag.Consumers)));
        Assert.InRange(honest.Statistic("longestTurnMicroseconds"), 1, 1_000_000); // A walk over all queues for each consumer would be a hundred million steps.
    }

    private static List<RawDelivery> Take(RawClient client, int count)
    {
        List<RawDelivery> taken = [];
        while (taken.Count < count)
        {
            taken.AddRange(client.NextDeliveries());
        }

        return taken;
    }

    private static void PutRelease(RawClient client, uint subscription, uint count, ulong first = 1, long delayMilliseconds = 0) =>
        client.Put(new SettleRecord { Kind = RecordKind.Settle, Number = client.NextNumber++, Subscription = subscription, Count = count, FirstDelivery = first, Milliseconds = delayMilliseconds, Flags = SettleRecord.FlagsOf(Outcome.Release, ConfirmLevel.Written) });

    private static void PutUnsubscribe(RawClient client, uint subscription)
    {
        byte[] room = new byte[64];
        FieldWriter fields = new(room);
        fields.Number(FieldTag.Subscription, subscription);
        client.Put(new CommandRecord { Kind = RecordKind.Command, Command = CommandKind.Unsubscribe, Number = client.NextNumber++, Flags = (byte)ConfirmLevel.Written }, fields.Written);
    }

    /// <summary>Each round: a queue, a consumer that takes one of three messages, and the end of the queue.</summary>
    private static void ComeAndGo(RawClient client, int rounds)
    {
        for (int round = 0; round < rounds; round++)
        {
            uint queue = client.Declare("short-lived");
            client.Subscribe(queue, credit: 1);
            for (int i = 0; i < 3; i++)
            {
                client.PutMessage(queue, "x"u8);
            }

            client.Commit();
            Assert.Single(client.NextDeliveries());
            Assert.Equal(RefusalCode.None, client.Ask(CommandKind.DeleteQueue, (FieldTag.Queue, queue)).Code);
            Assert.Equal(RecordKind.SubscriptionEnded, client.NextNotice().Kind);
        }
    }

    /// <summary>Of each slot's worth of messages that pass one stays.</summary>
    private static void PutEverySlot(RawClient client, int slots)
    {
        uint kept = client.Declare("kept");
        for (int i = 0; i < slots; i++)
        {
            client.PutMessage(kept, new byte[SmallSlots.BodyBytes]);
            client.Commit();
            SmallSlots.Pass(client, 1);
        }
    }

    /// <summary>Numbered messages, and nobody who takes them. Gives how many.</summary>
    private static int Fill(RawClient client, uint queue, int slots)
    {
        int count = slots * SmallSlots.SlotBytes / SmallSlots.BodyBytes;
        for (int i = 0; i < count; i++)
        {
            byte[] body = new byte[SmallSlots.BodyBytes];
            BitConverter.TryWriteBytes(body, i);
            client.PutMessage(queue, body);
            client.Commit();
            client.WaitForWritten(client.NextNumber - 1);
        }

        return count;
    }

    private static int SlotsOf(RunningBroker broker) => Directory.GetFiles(broker.SlotDirectory).Length;
}
