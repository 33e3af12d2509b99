using System.Text;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

// What is well formed and still wrong: refused with the code of the protocol's table, and the session lives on.
public sealed partial class HostileClientTests
{
    public static TheoryData<string, byte[]> BadNames => new()
    {
        { "empty", [] },
        { "256 bytes", Encoding.UTF8.GetBytes(new string('q', Limits.MaxNameBytes + 1)) },
        { "a control character", "a\nb"u8.ToArray() },
        { "a zero byte", "a\0b"u8.ToArray() },
        { "DEL", "a\u007Fb"u8.ToArray() },
        { "a control character of the second kind", "a\u0085b"u8.ToArray() },
        { "the prefix of the house", "fastq.mine"u8.ToArray() },
        { "not UTF-8", [0x61, 0xFF, 0xFE] },
        { "UTF-8 that is cut short", [0x61, 0xE2, 0x82] },
        { "a surrogate", [0xED, 0xA0, 0x80] },
    };

    [Theory]
    [MemberData(nameof(BadNames))]
    public void A_bad_name_is_refused(string what, byte[] name)
    {
        using (RawClient client = _broker.Connect())
        {
            Assert.True(client.DeclareNamed(name).Code == RefusalCode.BadName, what);
            client.MustDeliver("after the refusal");
        }

        MustHaveHarmedNobody();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(Limits.MinLeaseMilliseconds - 1)]
    [InlineData(Limits.MaxLeaseMilliseconds + 1)]
    [InlineData(long.MaxValue)]
    [InlineData(ulong.MaxValue)]
    public void A_bad_lease_is_refused(ulong lease)
    {
        using (RawClient client = _broker.Connect())
        {
            RawAnswer declared = client.DeclareNamed("bad lease"u8, lease);
            Assert.Equal(RefusalCode.BadArgument, declared.Code);
            Assert.Contains($"{Limits.MaxLeaseMilliseconds}", declared.Text, StringComparison.Ordinal);
            if (lease != 0)
            {
                uint queue = client.Declare("good lease");
                Assert.Equal(RefusalCode.BadArgument, client.Ask(CommandKind.Subscribe, (FieldTag.Queue, queue), (FieldTag.LeaseMilliseconds, lease)).Code);
            }

            client.MustDeliver("after the refusal");
        }

        MustHaveHarmedNobody();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1ul << 30)]
    [InlineData(uint.MaxValue)]
    [InlineData(1ul << 32)]
    [InlineData(ulong.MaxValue)]
    public void A_queue_or_subscription_that_is_not_there_is_refused_by_every_command(ulong id)
    {
        using (RawClient client = _broker.Connect())
        {
            foreach (CommandKind command in (CommandKind[])[CommandKind.DeleteQueue, CommandKind.PurgeQueue, CommandKind.ShowQueue, CommandKind.Subscribe])
            {
                Assert.Equal((command, RefusalCode.UnknownQueue), (command, client.Ask(command, (FieldTag.Queue, id)).Code));
                Assert.Equal((command, RefusalCode.UnknownQueue), (command, client.Ask(command).Code));
            }

            foreach (CommandKind command in (CommandKind[])[CommandKind.Unsubscribe, CommandKind.ResumeSubscription])
            {
                Assert.Equal((command, RefusalCode.UnknownSubscription), (command, client.Ask(command, (FieldTag.Subscription, id)).Code));
            }

            client.PutMessage((uint)id, "for nobody"u8);
            client.Commit();
            Assert.Equal((uint)id == uint.MaxValue ? RefusalCode.Denied : RefusalCode.UnknownQueue, client.NextRefusal().Code); // The last id is that of the exchange for events.
            client.MustDeliver("after the refusals");
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void A_number_beyond_all_ids_does_not_stand_for_the_id_in_its_lower_half()
    {
        using (RawClient client = _broker.Connect())
        {
            uint queue = client.Declare("lower half");
            uint subscription = client.Subscribe(queue);
            Assert.Equal(RefusalCode.UnknownQueue, client.Ask(CommandKind.DeleteQueue, (FieldTag.Queue, (1ul << 32) + queue)).Code);
            Assert.Equal(RefusalCode.UnknownSubscription, client.Ask(CommandKind.Unsubscribe, (FieldTag.Subscription, (1ul << 32) + subscription)).Code);
            Assert.Equal(1ul, client.Show(queue).Number(FieldTag.Consumers));
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void What_speaks_of_a_deleted_queue_is_told_so()
    {
        using (RawClient client = _broker.Connect())
        {
            uint queue = client.Declare("deleted");
            Assert.Equal(RefusalCode.None, client.Ask(CommandKind.DeleteQueue, (FieldTag.Queue, queue)).Code);
            Assert.Equal(RefusalCode.QueueDeleted, client.Ask(CommandKind.DeleteQueue, (FieldTag.Queue, queue)).Code);
            Assert.Equal(RefusalCode.QueueDeleted, client.Ask(CommandKind.Subscribe, (FieldTag.Queue, queue)).Code);
            client.PutMessage(queue, "too late"u8);
            client.Commit();
            Assert.Equal(RefusalCode.QueueDeleted, client.NextRefusal().Code);
        }

        MustHaveHarmedNobody();
    }

    [Theory]
    [InlineData(0)]
    [InlineData((ushort)CommandKind.FindProcessed + 1)]
    [InlineData((ushort)CommandKind.JudgeQueue + 1)]
    [InlineData(ushort.MaxValue)]
    public void A_command_that_is_not_known_is_answered_so(ushort command)
    {
        using (RawClient client = _broker.Connect())
        {
            RawAnswer answer = client.Ask((CommandKind)command);
            Assert.Equal(RefusalCode.UnknownRecord, answer.Code);
            Assert.Contains($"{command}", answer.Text, StringComparison.Ordinal);
            client.MustDeliver("after the refusal");
        }

        MustHaveHarmedNobody();
    }

    [Theory]
    [InlineData(Limits.MaxMessageBytes + 1)]
    [InlineData(Limits.MaxMessageBytes + Limits.MaxPropertyBytes + 1)]
    [InlineData(Limits.MaxRingBytes - 4096)]
    public void A_message_that_is_too_large_is_refused_with_the_limit(int bodyBytes)
    {
        using (RawClient client = _broker.Connect(new Hello { SubmissionRingBytes = Limits.MaxRingBytes }))
        {
            uint queue = client.Declare("too large");
            client.PutMessage(queue, new byte[bodyBytes]);
            client.Commit();
            NoticeRecord refusal = client.NextRefusal();
            Assert.Equal((RefusalCode.TooLarge, (ulong)Limits.MaxMessageBytes), (refusal.Code, refusal.Value));
            Assert.Equal(0ul, client.Show(queue).Number(FieldTag.Published));
            client.MustDeliver("after the refusal");
        }

        MustHaveHarmedNobody();
    }

    [Theory]
    [InlineData(200)]
    [InlineData(Limits.MaxCommandBytes)]
    public void Fields_of_garbage_are_refused_by_every_command(int bytes)
    {
        using (RawClient client = _broker.Connect())
        {
            Random random = new(bytes);
            byte[] fields = new byte[bytes];
            foreach (CommandKind command in Enum.GetValues<CommandKind>())
            {
                random.NextBytes(fields);
                RawAnswer answer = client.Ask(command, fields);
                bool takesFields = command is not (CommandKind.ListQueues or CommandKind.ListExchanges or CommandKind.ListLimits or CommandKind.ListSchedules or CommandKind.Statistics or CommandKind.Sync);
                Assert.Equal((command, takesFields), (command, answer.Code != RefusalCode.None));
            }

            client.MustDeliver("after the garbage");
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void A_client_that_never_takes_its_refusals_is_read_no_further_and_costs_no_turns()
    {
        using (RawClient hostile = _broker.Connect(new Hello { DeliveryRingBytes = Limits.MinRingBytes }))
        using (RawClient honest = _broker.Connect())
        {
            for (int i = 0; i < 3000; i++)
            {
                hostile.PutMessage(NoQueue, ""u8);
            }

            hostile.Commit();
            _broker.WaitUntil(() => hostile.Rings.SubmissionPosition > 0 && IsCalm(honest), "the broker waits for room and sleeps");
            Assert.True(hostile.Rings.SubmissionPosition < hostile.Rings.Head);
            hostile.MustDeliver("as soon as it takes them");
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void A_client_that_never_says_that_it_took_its_refusals_is_ended_at_the_limit()
    {
        Ending ending = default;
        using (RawClient hostile = _broker.Connect(new Hello { SubmissionRingBytes = Limits.MaxLoadRingBytes, DeliveryRingBytes = Limits.MaxLoadRingBytes }))
        {
            for (int i = 0; i <= Limits.MaxKeptRefusals; i++)
            {
                hostile.PutMessage(NoQueue, ""u8);
            }

            hostile.Commit();
            ending = hostile.WaitForEnd();
        }

        Assert.Equal(RefusalCode.LimitReached, ending.Code);
        Assert.Contains($"{Limits.MaxKeptRefusals}", ending.Text, StringComparison.Ordinal);
        MustHaveHarmedNobody();
    }

    [Fact]
    public void Refusals_that_were_not_taken_are_told_to_whoever_comes_back_however_many()
    {
        const int Refusals = 20_000;
        using (RawClient hostile = _broker.Connect(new Hello { DeliveryRingBytes = Limits.MaxLoadRingBytes, SubmissionRingBytes = Limits.MaxLoadRingBytes }))
        {
            for (int i = 0; i < Refusals; i++)
            {
                hostile.PutMessage(NoQueue, ""u8);
            }

            hostile.Commit();
            _broker.WaitUntil(() => hostile.Rings.Decided == Refusals, "all are refused");
            using RawClient again = _broker.Connect(new Hello { Producer = hostile.Producer, DeliveryRingBytes = Limits.MinRingBytes });
            NoticeRecord refusal = again.NextNotice();
            Assert.Equal((1ul, (uint)Refusals, RefusalCode.UnknownQueue), (refusal.Number, refusal.Count, refusal.Code));
        }

        MustHaveHarmedNobody();
    }
}
