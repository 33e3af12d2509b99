using System.Text;
using FastQ.Linux;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

// What a reader maps stays what it is while slots are moved out of, used again and unlinked around it (DESIGN-REVIEW R6, R8, R22, R30).
public sealed class ReaderTests
{
    private const int ManySlots = 30, Enough = 100;

    [Fact]
    public void What_is_in_flight_stays_where_its_reader_reads_it()
    {
        using RunningBroker broker = SmallSlots.Start();
        using RawClient reader = broker.Connect(), other = broker.Connect();
        RawDelivery held = Take(reader, "in flight", leaseMilliseconds: 3_600_000);
        MustStay(broker, reader, other, held);
        reader.Accept(held);
        MustBeLetGo(broker, reader, other, held);
    }

    [Fact]
    public void What_a_reader_still_reads_after_its_lease_is_not_overwritten_until_it_lets_go()
    {
        using RunningBroker broker = SmallSlots.Start();
        using RawClient reader = broker.Connect(), other = broker.Connect();
        RawDelivery held = Take(reader, "slowly read", leaseMilliseconds: 10);
        AcceptInstead(reader, other, held);
        MustStay(broker, reader, other, held);
        reader.Put(new ControlRecord { Kind = RecordKind.Done, Subject = held.Subscription, Value = 1, Count = 1_000_000 });
        reader.Commit();
        MustBeLetGo(broker, reader, other, held);
    }

    [Fact]
    public void A_reader_that_alone_keeps_a_slot_is_ended_and_the_bytes_that_it_maps_stay()
    {
        using RunningBroker broker = SmallSlots.Start(options => options with { ReaderPatience = TimeSpan.Zero });
        using RawClient reader = broker.Connect(), other = broker.Connect();
        RawDelivery held = Take(reader, "read for ever", leaseMilliseconds: 10);
        AcceptInstead(reader, other, held);
        SmallSlots.Pass(other, 1);
        Ending ending = reader.WaitForEnd();
        Assert.Equal(RefusalCode.LimitReached, ending.Code);
        Assert.Contains("reference", ending.Text, StringComparison.Ordinal);
        string name = Path.Combine(broker.SlotDirectory, $"{held.Entry.Slot:D10}.slot");
        for (int slots = 0; File.Exists(name); slots++)
        {
            Assert.True(slots < Enough, "The slot keeps its name.");
            SmallSlots.Pass(other, 1);
        }

        Assert.Equal(held.Record, SmallSlots.Seen(reader, held));
    }

    [Fact]
    public void All_that_a_client_may_read_when_it_is_sent_away_alive_stays_where_it_reads_it()
    {
        using RunningBroker broker = SmallSlots.Start(); // Seed 4769 of the simulation: it reads on until it has heard of its end.
        using RawClient reader = broker.Connect(), other = broker.Connect();
        RawDelivery[] held = new RawDelivery[3];
        for (int i = 0; i < held.Length; i++)
        {
            held[i] = Take(reader, $"held {i}", leaseMilliseconds: 3_600_000);
            SmallSlots.Pass(other, 2);
        }

        reader.Put(new SettleRecord { Kind = RecordKind.Deliveries });
        reader.Commit();
        Assert.Equal(RefusalCode.UnknownRecord, reader.WaitForEnd().Code);
        foreach (RawDelivery delivery in held)
        {
            other.Subscribe(other.Declare(delivery.Body));
            other.Accept(Assert.Single(other.NextDeliveries()));
        }

        string[] names = [.. held.Select(delivery => Path.Combine(broker.SlotDirectory, $"{delivery.Entry.Slot:D10}.slot"))];
        Assert.Equal(held.Length, names.Distinct().Count());
        for (int slots = 0; names.Any(File.Exists); slots++)
        {
            Assert.True(slots < Enough, "A slot keeps its name: it is used again in place.");
            SmallSlots.Pass(other, 1);
        }

        Assert.All(held, delivery => Assert.Equal(delivery.Record, SmallSlots.Seen(reader, delivery)));
    }

    [Fact]
    public void What_is_moved_keeps_its_count_over_a_restart()
    {
        using RunningBroker broker = SmallSlots.Start(); // CASES B18
        uint queue;
        RawDelivery first;
        using (RawClient client = broker.Connect())
        {
            first = Take(client, "moved", leaseMilliseconds: 3_600_000);
            queue = client.Declare("moved");
            Release(client, first);
            Release(client, Assert.Single(client.NextDeliveries()));
            Assert.Equal(3, Assert.Single(client.NextDeliveries()).Entry.DeliveryCount);
            Assert.Equal(RefusalCode.None, client.Ask(CommandKind.Unsubscribe, (FieldTag.Subscription, first.Subscription)).Code);
            FileHandle file = client.SlotFile(first.Entry.Slot);
            ulong segment = SmallSlots.SegmentOf(file);
            for (int slots = 0; !SmallSlots.IsLetGo(broker, file, first.Entry.Slot, segment); slots++)
            {
                Assert.True(slots < Enough, "It is not moved");
                SmallSlots.Pass(client, 1);
            }
        }

        broker.Restart();
        using RawClient after = broker.Connect();
        after.Subscribe(queue);
        RawDelivery moved = Assert.Single(after.NextDeliveries());
        Assert.Equal((4, "moved"), (moved.Entry.DeliveryCount, moved.Body));
    }

    [Fact]
    public void A_client_that_does_not_look_at_its_socket_gets_few_files_and_then_copies()
    {
        const int Messages = 150; // More than enough for eight slots, and none of them sparse.
        using RunningBroker broker = SmallSlots.Start();
        using RawClient blind = broker.Connect(), other = broker.Connect();
        uint queue = other.Declare("spread");
        blind.Subscribe(queue);
        for (int i = 0; i < Messages; i++)
        {
            other.PutMessage(queue, new byte[60_000]);
            other.Commit();
            other.WaitForWritten(other.NextNumber - 1);
        }

        (int references, int copies) = (0, 0);
        broker.WaitUntil(
            () =>
            {
                while (blind.Rings.Position < blind.Rings.DeliveryHead)
                {
                    byte[] record = blind.Rings.Read();
                    blind.Rings.Position += (ulong)Limits.Align(record.Length);
                    blind.Rings.ShowPosition(blind.Rings.Position);
                    blind.Ring();
                    int count = BitConverter.ToUInt16(record, 6);
                    (references, copies) = (RecordKind)record[4] switch { RecordKind.Deliveries => (references + count, copies), RecordKind.DeliveryCopy => (references, copies + 1), _ => (references, copies) };
                }

                return references + copies == Messages;
            },
            "all messages came");
        int files = 0;
        while (blind.TryHear(out (HandshakeKind Kind, byte[] Fields, int[] Descriptors) heard))
        {
            files += heard.Kind == HandshakeKind.Slots ? 1 : 0;
            Array.ForEach(heard.Descriptors, descriptor => FileHandle.Adopt(descriptor, "slot").Dispose());
        }

        Assert.Equal(Limits.MaxSlotMessagesInFlight, files);
        Assert.True(references > 0 && copies > 0, $"{references} by reference, {copies} copies");
    }

    /// <summary>Publishes one message, and takes it.</summary>
    private static RawDelivery Take(RawClient reader, string body, ulong leaseMilliseconds)
    {
        uint queue = reader.Declare(body);
        RawAnswer subscribed = reader.Ask(CommandKind.Subscribe, (FieldTag.Queue, queue), (FieldTag.CreditMessages, 1), (FieldTag.LeaseMilliseconds, leaseMilliseconds));
        Assert.Equal(RefusalCode.None, subscribed.Code);
        reader.PutMessage(queue, Encoding.UTF8.GetBytes(body));
        reader.Commit();
        return Assert.Single(reader.NextDeliveries());
    }

    private static void Release(RawClient client, RawDelivery delivery)
    {
        client.Put(new SettleRecord { Kind = RecordKind.Settle, Number = client.NextNumber++, Subscription = delivery.Subscription, Count = 1, FirstDelivery = delivery.Number, Flags = SettleRecord.FlagsOf(Outcome.Release, ConfirmLevel.Written) });
        client.Commit();
    }

    /// <summary>The reader's lease ends, and somebody else gets the message and accepts it.</summary>
    private static void AcceptInstead(RawClient reader, RawClient other, RawDelivery held)
    {
        reader.Put(new ControlRecord { Kind = RecordKind.Credit, Subject = held.Subscription });
        reader.Commit();
        other.Subscribe(other.Declare(held.Body));
        other.Accept(Assert.Single(other.NextDeliveries()));
    }

    private static void MustStay(RunningBroker broker, RawClient reader, RawClient other, RawDelivery held)
    {
        ulong segment = SmallSlots.SegmentOf(reader.SlotFile(held.Entry.Slot));
        SmallSlots.Pass(other, ManySlots);
        Assert.True(Directory.GetFiles(broker.SlotDirectory).Length < ManySlots, "No slot was used again: this shows nothing.");
        Assert.Equal(segment, SmallSlots.SegmentOf(reader.SlotFile(held.Entry.Slot)));
        Assert.Equal(held.Record, SmallSlots.Seen(reader, held));
    }

    private static void MustBeLetGo(RunningBroker broker, RawClient reader, RawClient other, RawDelivery held)
    {
        FileHandle file = reader.SlotFile(held.Entry.Slot);
        ulong segment = SmallSlots.SegmentOf(file);
        for (int slots = 0; !SmallSlots.IsLetGo(broker, file, held.Entry.Slot, segment); slots++)
        {
            Assert.True(slots < Enough, "The slot is never used again.");
            SmallSlots.Pass(other, 1);
        }
    }
}
