using System.Runtime.InteropServices;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

// What no client may write as a transaction, and what an older connection of a producer cannot finish.
public sealed partial class HostileClientTests
{
    public static TheoryData<string> BrokenTransactions => ["no records", "fewer records", "more records", "another kind", "a command", "a length beyond it", "another check", "another number", "something in the padding", "not padded", "no header"];

    [Theory]
    [MemberData(nameof(BrokenTransactions))]
    public void A_transaction_that_is_not_whole_ends_the_session_and_nothing_of_it_is_there(string what)
    {
        using (RawClient honest = _broker.Connect())
        using (RawClient hostile = _broker.Connect())
        {
            uint queue = honest.Declare("of transactions");
            byte[] record = TransactionOf(hostile, queue, "one", "two");
            Span<byte> second = record.AsSpan(TransactionHeader.SizeBytes + 40);
            switch (what)
            {
                case "no records":
                    record[16] = 0;
                    break;
                case "fewer records":
                    record[16] = 1;
                    break;
                case "more records":
                    record[16] = 3;
                    break;
                case "another kind":
                    second[4] = (byte)RecordKind.Extend;
                    break;
                case "a command":
                    second[4] = (byte)RecordKind.Command;
                    break;
                case "a length beyond it":
                    second[0] = 48;
                    break;
                case "another check":
                    second[20] ^= 1;
                    break;
                case "another number":
                    second[8]++;
                    break;
                case "something in the padding":
                    second[39] = 1;
                    break;
                case "not padded":
                    record[0]--;
                    break;
                default:
                    record = record[..16];
                    record[0] = 16;
                    break;
            }

            hostile.PutBytes(record);
            hostile.Commit();
            Assert.Equal((what, RefusalCode.RingViolation), (what, hostile.WaitForEnd().Code));
            Assert.Equal(0ul, honest.Show(queue).Number(FieldTag.Published));
        }

        MustHaveHarmedNobody();
    }

    // CASES B111: an older connection cannot finish what a newer one of its producer has begun anew, nor can its transaction meet another.
    [Fact]
    public void An_older_connection_of_a_producer_cannot_commit_and_a_stale_commit_is_dropped()
    {
        using RawClient older = _broker.Connect();
        uint queue = older.Declare("of a fenced one");
        byte[] stale = TransactionOf(older, queue, "old", "older"); // Gathered, and not sent.
        using RawClient newer = RawClient.Dial(_broker.Socket);
        newer.SayHello(new Hello { Producer = older.Producer });
        newer.TakeWelcome();
        newer.Rings.Map();
        newer.SayMapped();
        _ = older.WaitForEnd();
        older.PutBytes(stale);
        older.Commit(); // Into memory that nobody reads any more.
        newer.PutBytes(TransactionOf(newer, queue, "new", "newer"));
        newer.NextNumber += 2;
        newer.PutBytes(stale); // Delayed and repeated: its numbers were decided.
        newer.Commit();
        newer.WaitForWritten(newer.NextNumber - 1);
        uint subscription = newer.Subscribe(queue);
        List<RawDelivery> came = newer.NextDeliveries();
        Assert.Equal(["new", "newer"], came.Select(delivery => delivery.Body));
        Assert.Equal((2ul, subscription), (newer.Show(queue).Number(FieldTag.Published), came[0].Subscription));
    }

    [Fact]
    public void A_transaction_that_was_refused_is_told_once_with_its_place_and_again_to_who_comes_back()
    {
        ulong producer, first;
        using (RawClient client = _broker.Connect())
        {
            uint queue = client.Declare("good");
            producer = client.Producer;
            first = client.NextNumber;
            client.PutBytes(TransactionOf(client, queue, "a", "b"));
            client.NextNumber += 2;
            client.PutBytes(TransactionOf(client, NoQueue, "c", "d", "e"));
            client.NextNumber += 3;
            client.Commit();
            NoticeRecord told = client.NextNotice();
            Assert.Equal((RefusalCode.UnknownQueue, first + 2, 3u, 1u), (told.Code, told.Number, told.Count, told.Subject));
            client.WaitForWritten(first + 4);
            Assert.Equal(2ul, client.Show(queue).Number(FieldTag.Published));
        }

        using RawClient back = RawClient.Dial(_broker.Socket);
        back.SayHello(new Hello { Producer = producer });
        back.TakeWelcome();
        back.Rings.Map();
        back.SayMapped();
        NoticeRecord again = back.NextNotice();
        Assert.Equal((RefusalCode.UnknownQueue, first + 2, 3u, 1u), (again.Code, again.Number, again.Count, again.Subject));
    }

    private static byte[] TransactionOf(RawClient client, uint queue, params string[] bodies)
    {
        List<byte> records = [];
        foreach ((int i, string text) in bodies.Index())
        {
            byte[] body = System.Text.Encoding.UTF8.GetBytes(text);
            byte[] record = new byte[Limits.Align(MessageHeader.SizeBytes + body.Length)];
            MemoryMarshal.Write(record, client.MessageOf(queue, body) with { LengthBytes = (uint)(MessageHeader.SizeBytes + body.Length), NumberOrTimeMicros = client.NextNumber + (ulong)i });
            body.CopyTo(record, MessageHeader.SizeBytes);
            records.AddRange(record);
        }

        byte[] whole = new byte[TransactionHeader.SizeBytes + records.Count];
        MemoryMarshal.Write(whole, new TransactionHeader { LengthBytes = (uint)whole.Length, Kind = RecordKind.Transaction, Flags = (byte)ConfirmLevel.Written, Number = client.NextNumber, Count = (uint)bodies.Length });
        records.CopyTo(whole, TransactionHeader.SizeBytes);
        return whole;
    }
}
