using System.Runtime.InteropServices;
using System.Text;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

// What no client may write into its rings: the session ends with a word that names it.
public sealed partial class HostileClientTests
{
    private const uint NoQueue = 1 << 30;

    /// <summary>A way to break the protocol, and how the broker names it.</summary>
    public sealed record Violation(string What, Action<RawClient> Deed, RefusalCode Code, string Words)
    {
        public override string ToString() => What;
    }

    private static readonly Violation[] s_violations =
    [
        new("the head goes backwards", client => ShowHead(client, client.Rings.Head - 8), RefusalCode.RingViolation, "submission ring"),
        new("the head goes to the start", client => ShowHead(client, 0), RefusalCode.RingViolation, "submission ring"),
        new("the head is beyond the ring", client => ShowHead(client, client.Rings.Head + (ulong)client.Rings.SubmissionBytes + 8), RefusalCode.RingViolation, "submission ring"),
        new("the head is at the end of all numbers", client => ShowHead(client, ulong.MaxValue - 7), RefusalCode.RingViolation, "submission ring"),
        new("the head is not aligned", client => ShowHead(client, client.Rings.Head + 4), RefusalCode.RingViolation, "submission ring"),
        new("a length of nothing", client => CommitPrefix(client, 0, RecordKind.Message, 64), RefusalCode.RingViolation, "does not fit"),
        new("a length below the prefix", client => CommitPrefix(client, 7, RecordKind.Message, 64), RefusalCode.RingViolation, "does not fit"),
        new("a length beyond what was committed", client => CommitPrefix(client, 65, RecordKind.Message, 64), RefusalCode.RingViolation, "does not fit"),
        new("a length beyond the ring", client => CommitPrefix(client, (uint)client.Rings.SubmissionBytes + 8, RecordKind.Message, 64), RefusalCode.RingViolation, "does not fit"),
        new("the largest length", client => CommitPrefix(client, uint.MaxValue, RecordKind.Message, 64), RefusalCode.RingViolation, "does not fit"),
        new("a message that is shorter than its header", client => CommitPrefix(client, 24, RecordKind.Message, 24), RefusalCode.RingViolation, "shorter than its header"),
        new("a settle that is shorter than its header", client => CommitPrefix(client, 32, RecordKind.Settle, 32), RefusalCode.RingViolation, "settle"),
        new("a settle with more words than there may be", client => CommitPrefix(client, SettleRecord.SizeBytes + Limits.MaxWordsBytes + 1, RecordKind.Settle, SettleRecord.SizeBytes + Limits.MaxWordsBytes + 8), RefusalCode.RingViolation, "settle"),
        new("an extension with words", client => CommitPrefix(client, 48, RecordKind.Extend, 48), RefusalCode.RingViolation, "settle"),
        new("a command that is shorter than its header", client => CommitPrefix(client, 16, RecordKind.Command, 16), RefusalCode.RingViolation, "command"),
        new("a command that is too long", client => CommitPrefix(client, CommandRecord.SizeBytes + Limits.MaxCommandBytes + 1, RecordKind.Command, CommandRecord.SizeBytes + Limits.MaxCommandBytes + 8), RefusalCode.RingViolation, "command"),
        new("a control record of another size", client => CommitPrefix(client, 40, RecordKind.Credit, 40), RefusalCode.RingViolation, "control"),
        new("a reply that is shorter than its header", client => CommitPrefix(client, 40, RecordKind.Reply, 40), RefusalCode.RingViolation, "reply"),
        new("a reply whose properties are longer than it", client => Commit(client, new ReplyRecord { Kind = RecordKind.Reply, PropertyBytes = 1 }), RefusalCode.RingViolation, "reply"),
        new("a kind of nothing", client => CommitPrefix(client, 32, RecordKind.Nothing, 32), RefusalCode.UnknownRecord, "kind 0"),
        new("a kind that is not known", client => CommitPrefix(client, 32, (RecordKind)20, 32), RefusalCode.UnknownRecord, "kind 20"),
        new("a kind that only a broker writes", client => CommitPrefix(client, 48, RecordKind.Deliveries, 48), RefusalCode.UnknownRecord, "kind 64"),
        new("a reply as only a broker writes it", client => CommitPrefix(client, 48, RecordKind.ReplyDelivered, 48), RefusalCode.UnknownRecord, "kind 72"),
        new("a kind that only the journal has", client => CommitPrefix(client, 48, RecordKind.Delivered, 48), RefusalCode.UnknownRecord, "kind 129"),
        new("a message whose bytes do not have its check", client => CommitMessage(client, header => header with { Check = header.Check ^ 1 }), RefusalCode.RingViolation, "check"),
        new("a message whose number is not the next", client => CommitMessage(client, header => header with { NumberOrTimeMicros = header.NumberOrTimeMicros + 1 }), RefusalCode.OutOfOrder, "was expected"),
        new("a settle whose number is not the next", client => CommitSettle(client, client.NextNumber + 5, 1, 1, 1), RefusalCode.OutOfOrder, "was expected"),
        new("a command whose number is not the next", client => Commit(client, new CommandRecord { Kind = RecordKind.Command, Command = CommandKind.ListQueues, Number = ulong.MaxValue }), RefusalCode.OutOfOrder, "was expected"),
        new("the position goes backwards", client => ShowPosition(client, 8), RefusalCode.RingViolation, "position"),
        new("the position goes beyond what was shown", client => ShowPosition(client, client.Rings.DeliveryHead + 8), RefusalCode.RingViolation, "position"),
        new("the position is at the end of all numbers", client => ShowPosition(client, ulong.MaxValue), RefusalCode.RingViolation, "position"),
        new("a move to rings that were not offered", client => Commit(client, new ControlRecord { Kind = RecordKind.ClientMovesRing, Subject = 1 }), RefusalCode.RingViolation, "not offered"),
    ];

    public static TheoryData<int, string> Violations
    {
        get
        {
            TheoryData<int, string> rows = [];
            for (int i = 0; i < s_violations.Length; i++)
            {
                rows.Add(i, s_violations[i].What);
            }

            return rows;
        }
    }

    [Theory]
    [MemberData(nameof(Violations))]
    public void A_violation_of_the_ring_ends_the_session_by_its_name_and_nothing_else(int index, string what)
    {
        Violation violation = s_violations[index];
        using (RawClient hostile = _broker.Connect())
        {
            hostile.MustDeliver("before the deed"); // Both rings have a past.
            violation.Deed(hostile);
            Ending ending = hostile.WaitForEnd();
            Assert.True(violation.Code == ending.Code && ending.Text.Contains(violation.Words, StringComparison.Ordinal), $"{what}: {ending}");
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void What_was_committed_before_a_violation_is_kept()
    {
        using RawClient honest = _broker.Connect();
        uint queue = honest.Declare("before a violation");
        uint subscription = honest.Subscribe(queue);
        using (RawClient hostile = _broker.Connect())
        {
            hostile.PutMessage(queue, "good"u8);
            CommitPrefix(hostile, 7, RecordKind.Message, 64);
            Assert.Equal(RefusalCode.RingViolation, hostile.WaitForEnd().Code);
        }

        RawDelivery delivery = Assert.Single(honest.NextDeliveries());
        Assert.Equal((subscription, "good"), (delivery.Subscription, delivery.Body));
    }

    public static TheoryData<string, byte[], int> MalformedProperties => new()
    {
        { "more than the record", [0, 0, 0, 0], 5 },
        { "more than may be", new byte[Limits.MaxPropertyBytes + 4], Limits.MaxPropertyBytes + 4 },
        { "cut short in a header", [2, 0, 1], 3 },
        { "cut short in a value", [2, 0, 9, 0, 1], 5 },
        { "a header without a key", [1, 0, 1, 0, 0], 5 },
        { "a key beyond the header", [1, 0, 2, 0, 9, 65], 6 },
    };

    [Theory]
    [MemberData(nameof(MalformedProperties))]
    public void Malformed_properties_are_refused_and_the_session_lives(string what, byte[] payload, int propertyBytes)
    {
        using (RawClient hostile = _broker.Connect())
        {
            uint queue = hostile.Declare("malformed properties");
            hostile.Put(hostile.MessageOf(queue, payload) with { PropertyBytes = (ushort)propertyBytes }, payload);
            hostile.NextNumber++;
            hostile.Commit();
            Assert.True(hostile.NextRefusal().Code == RefusalCode.BadArgument, what);
            Assert.Equal(0ul, hostile.Show(queue).Number(FieldTag.Published));
            hostile.MustDeliver("after the refusal");
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void Nobody_settles_credits_or_ends_the_subscription_of_another()
    {
        using (RawClient honest = _broker.Connect())
        using (RawClient hostile = _broker.Connect())
        {
            uint queue = honest.Declare("of another");
            uint subscription = honest.Subscribe(queue, credit: 1);
            honest.PutMessage(queue, "one"u8);
            honest.PutMessage(queue, "two"u8);
            honest.Commit();
            RawDelivery delivery = Assert.Single(honest.NextDeliveries());

            CommitSettle(hostile, hostile.NextNumber++, subscription, 1, 1);
            Assert.Equal(RefusalCode.UnknownSubscription, hostile.NextRefusal().Code);
            Commit(hostile, new SettleRecord { Kind = RecordKind.Extend, Number = hostile.NextNumber++, Subscription = subscription, Count = 1, FirstDelivery = 1, Milliseconds = 60_000 });
            Assert.Equal(RefusalCode.UnknownSubscription, hostile.NextRefusal().Code);
            Commit(hostile, new ControlRecord { Kind = RecordKind.Credit, Subject = subscription, Count = 1000, Value = ulong.MaxValue });
            Commit(hostile, new ControlRecord { Kind = RecordKind.Done, Subject = subscription, Value = 1, Count = 1 });
            Commit(hostile, new ControlRecord { Kind = RecordKind.Damaged, Subject = subscription, Value = 1 });
            Assert.Equal(RefusalCode.UnknownSubscription, hostile.Ask(CommandKind.Unsubscribe, (FieldTag.Subscription, subscription)).Code);
            Assert.Equal(RefusalCode.UnknownSubscription, hostile.Ask(CommandKind.ResumeSubscription, (FieldTag.Subscription, subscription)).Code);

            RawAnswer view = honest.Show(queue); // One is in flight, the other waits for credit that only its owner gives.
            Assert.Equal((1ul, 1ul, 1ul), (view.Number(FieldTag.Ready), view.Number(FieldTag.InFlight), view.Number(FieldTag.Consumers)));
            honest.Accept(delivery);
            Assert.Equal("two", Assert.Single(honest.NextDeliveries()).Body);
        }

        MustHaveHarmedNobody();
    }

    [Theory]
    [InlineData(0u, 1ul)]
    [InlineData(1u, 0ul)]
    [InlineData(2u, 1ul)]
    [InlineData(1u, 2ul)]
    [InlineData(uint.MaxValue, 1ul)]
    [InlineData(1u, ulong.MaxValue)]
    [InlineData(uint.MaxValue, ulong.MaxValue)]
    public void A_range_of_deliveries_that_were_not_given_out_is_refused(uint count, ulong first)
    {
        using (RawClient hostile = _broker.Connect())
        {
            uint queue = hostile.Declare("ranges");
            uint subscription = hostile.Subscribe(queue);
            hostile.PutMessage(queue, "one"u8);
            hostile.Commit();
            RawDelivery delivery = Assert.Single(hostile.NextDeliveries());
            CommitSettle(hostile, hostile.NextNumber++, subscription, count, first);
            Assert.Equal(RefusalCode.BadArgument, hostile.NextRefusal().Code);
            Commit(hostile, new SettleRecord { Kind = RecordKind.Extend, Number = hostile.NextNumber++, Subscription = subscription, Count = 1, FirstDelivery = 1, Milliseconds = long.MinValue });
            Assert.Equal(RefusalCode.BadArgument, hostile.NextRefusal().Code);
            Commit(hostile, new SettleRecord { Kind = RecordKind.Settle, Flags = SettleRecord.FlagsOf((Outcome)7, ConfirmLevel.Written), Number = hostile.NextNumber++, Subscription = subscription, Count = 1, FirstDelivery = 1 });
            Assert.Equal(RefusalCode.BadArgument, hostile.NextRefusal().Code);
            Assert.Equal(1ul, hostile.Show(queue).Number(FieldTag.InFlight));
            hostile.Accept(delivery);
            hostile.MustDeliver("after the refusals");
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void Complaints_of_sound_messages_are_answered_by_one_copy_each_however_many_there_are()
    {
        const int Messages = 600, Complaints = 20;
        using (RawClient hostile = _broker.Connect(new Hello { SubmissionRingBytes = Limits.MaxLoadRingBytes, DeliveryRingBytes = Limits.MinRingBytes }))
        {
            uint queue = hostile.Declare("complaints");
            uint subscription = hostile.Subscribe(queue, credit: Messages);
            for (int i = 0; i < Messages; i++)
            {
                hostile.PutMessage(queue, "sound"u8);
            }

            hostile.Commit();
            List<RawDelivery> deliveries = [];
            while (deliveries.Count < Messages)
            {
                deliveries.AddRange(hostile.NextDeliveries());
            }

            for (int i = 0; i < Complaints; i++)
            {
                foreach (RawDelivery delivery in deliveries)
                {
                    hostile.Put(new ControlRecord { Kind = RecordKind.Damaged, Subject = subscription, Value = delivery.Number });
                }
            }

            hostile.Commit(); // And takes nothing of what comes until all are read.
            _broker.WaitUntil(() => hostile.Rings.SubmissionPosition == hostile.Rings.Head, "all complaints were read");
            int copies = 0;
            for (Dictionary<ulong, int> of = []; of.Count < Messages;)
            {
                hostile.Ring(); // There is room again.
                foreach (RawDelivery copy in hostile.NextDeliveries())
                {
                    Assert.Equal("sound", copy.Body);
                    of[copy.Number] = of.GetValueOrDefault(copy.Number) + 1;
                    copies++;
                }
            }

            for (int asked = 0; asked < 50; asked++)
            {
                hostile.Ring();
                _ = hostile.Show(queue); // A turn at least goes by, in which what waits moves on.
                while (hostile.DeliveriesWaiting > 0)
                {
                    copies += hostile.NextDeliveries().Count;
                    asked = 0;
                }
            }

            // Those that had their place in the ring were complained of again while others waited.
            Assert.InRange(copies, Messages, Messages * 2);
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void Settles_of_very_many_deliveries_leave_the_others_their_turns()
    {
        const int Messages = 100_000, Settles = 2000;
        using (RawClient honest = _broker.Connect())
        using (RawClient hostile = _broker.Connect(new Hello { SubmissionRingBytes = Limits.MaxLoadRingBytes, DeliveryRingBytes = Limits.MaxLoadRingBytes }))
        {
            uint queue = hostile.Declare("ranges of very many");
            uint subscription = hostile.Subscribe(queue, credit: Messages);
            for (int i = 0; i < Messages; i++)
            {
                hostile.PutMessage(queue, ""u8);
            }

            hostile.Commit();
            _broker.WaitUntil(() => honest.Show(queue).Number(FieldTag.InFlight) == Messages, "all are in flight");
            for (int i = 0; i < Settles; i++)
            {
                hostile.Put(new SettleRecord { Kind = RecordKind.Settle, Number = hostile.NextNumber++, Subscription = subscription, Count = Messages, FirstDelivery = 1 });
            }

            hostile.Commit();
            honest.MustDeliver("in between");
            Assert.True(hostile.Rings.SubmissionPosition < hostile.Rings.Head, "The whole ring was taken before anybody else was served.");
        }

        MustHaveHarmedNobody();
    }

    private static void ShowHead(RawClient client, ulong head)
    {
        client.Rings.ShowHead(head);
        client.Ring();
    }

    private static void ShowPosition(RawClient client, ulong position)
    {
        client.Rings.ShowPosition(position);
        client.PutMessage(NoQueue, ""u8); // The position is judged when there is something to read.
        client.Commit();
    }

    private static void CommitPrefix(RawClient client, uint length, RecordKind kind, int committedBytes)
    {
        byte[] bytes = new byte[committedBytes];
        MemoryMarshal.Write(bytes, new RecordPrefix { LengthBytes = length, Kind = kind });
        client.PutBytes(bytes);
        client.Commit();
    }

    private static void Commit<T>(RawClient client, T record)
        where T : unmanaged
    {
        client.Put(record);
        client.Commit();
    }

    private static void CommitMessage(RawClient client, Func<MessageHeader, MessageHeader> with)
    {
        byte[] body = Encoding.UTF8.GetBytes("a body of some length");
        client.Put(with(client.MessageOf(client.Declare("violations"), body)), body);
        client.Commit();
    }

    private static void CommitSettle(RawClient client, ulong number, uint subscription, uint count, ulong first) =>
        Commit(client, new SettleRecord { Kind = RecordKind.Settle, Number = number, Subscription = subscription, Count = count, FirstDelivery = first });
}
