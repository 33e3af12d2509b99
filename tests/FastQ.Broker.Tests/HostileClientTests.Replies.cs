using System.Runtime.InteropServices;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

// Replies go from one client's ring into another's: what a hostile responder, or a hostile requester, can do with that.
public sealed partial class HostileClientTests
{
    [Fact]
    public void A_reply_to_nobody_or_to_a_request_that_was_not_made_is_told_so_and_dropped()
    {
        using (RawClient hostile = _broker.Connect())
        using (RawClient other = _broker.Connect())
        {
            other.MustDeliver("something was sent");
            long dropped = other.Statistic("repliesDropped");
            (ulong Producer, ulong Request)[] nobody = [(0, 1), (1 << 20, 1), (ulong.MaxValue, ulong.MaxValue), (other.Producer, 0), (other.Producer, other.NextNumber), (other.Producer, ulong.MaxValue)];
            foreach ((ulong producer, ulong request) in nobody)
            {
                Reply(hostile, producer, request, cookie: 4711);
                NoticeRecord ended = hostile.NextNotice();
                Assert.Equal((RecordKind.ReplyEnded, RefusalCode.NoRequester, 4711ul), (ended.Kind, ended.Code, ended.Number));
            }

            Assert.Equal(nobody.Length, other.Statistic("repliesDropped") - dropped);
            hostile.MustDeliver("after it");
        }

        MustHaveHarmedNobody();
    }

    // A requester that reads nothing: its responder is told, and served; what waits for it has a bound; and its end frees all of it.
    [Fact]
    public void Replies_that_nobody_reads_have_a_bound_and_hold_nobody_up()
    {
        const int BodyBytes = 150_000, Bound = 2 * Limits.MaxMessageBytes;
        using (RawClient honest = _broker.Connect())
        using (RawClient flooding = _broker.Connect())
        {
            using (RawClient deaf = _broker.Connect())
            {
                uint queue = deaf.Declare("a queue for a request");
                deaf.PutMessage(queue, "request"u8);
                deaf.Commit();
                ulong request = deaf.NextNumber - 1;
                deaf.WaitForWritten(request);
                int taken = 0, refused = 0;
                byte[] body = new byte[BodyBytes];
                while (refused < 20)
                {
                    Reply(flooding, deaf.Producer, request, cookie: 1, ReplyRecord.Last, body);
                    flooding.MustDeliver("between two replies");
                    NoticeRecord[] told = [.. flooding.NoticesTaken().Where(notice => notice.Kind != RecordKind.SubscriptionEnded)]; // Of its own queues.
                    Assert.All(told, notice => Assert.Equal((RecordKind.ReplyEnded, RefusalCode.LimitReached), (notice.Kind, notice.Code)));
                    refused += told.Length;
                    taken += told.Length == 0 ? 1 : 0;
                }

                Assert.InRange(taken * BodyBytes, Bound - Limits.DefaultRingBytes, Bound + Limits.DefaultRingBytes);
                honest.MustDeliver("while somebody is deaf");
            }

            flooding.Wait(() => Ended(flooding), "the requester's end is told for what waited");
            honest.MustDeliver("after its end");
        }

        MustHaveHarmedNobody();
    }

    private static bool Ended(RawClient flooding)
    {
        flooding.Drain();
        return flooding.NoticesTaken().Any(notice => notice.Code == RefusalCode.NoRequester);
    }

    // What waits in the broker goes on when there is room, in order, and its sender is told then.
    [Fact]
    public void Replies_that_wait_for_room_come_in_order_once_the_requester_reads_and_those_who_asked_are_told()
    {
        using (RawClient responder = _broker.Connect())
        using (RawClient requester = _broker.Connect())
        {
            uint queue = requester.Declare("a queue for a request");
            requester.PutMessage(queue, "request"u8);
            requester.Commit();
            ulong request = requester.NextNumber - 1;
            requester.WaitForWritten(request);
            const int Replies = 380;
            for (int i = 0; i < Replies; i++)
            {
                Reply(responder, requester.Producer, request, (ulong)i, ReplyRecord.WantsWord, new byte[i % 2 == 0 ? 2000 : 0], part: (uint)i); // A small one would still fit where a large one waits.
                if (i % 100 == 99)
                {
                    responder.Wait(() => responder.Rings.SubmissionPosition == responder.Rings.Head, "all are read"); // There is room for as many again.
                }
            }

            List<byte[]> came = [];
            requester.Wait(
                () =>
                {
                    requester.Drain();
                    came.AddRange(requester.RecordsTaken());
                    return came.Count == Replies;
                },
                "all came");
            Assert.All(came.Select((record, i) => (Reply: MemoryMarshal.Read<ReplyRecord>(record), i)), row => Assert.Equal(
                (RecordKind.ReplyDelivered, request, (uint)row.i, 0ul, 0ul, (byte)0),
                (row.Reply.Kind, row.Reply.Request, row.Reply.Part, row.Reply.Producer, row.Reply.Cookie, row.Reply.Flags)));
            List<ulong> told = [];
            responder.Wait(
                () =>
                {
                    responder.Drain();
                    told.AddRange(responder.NoticesTaken().Where(notice => notice.Code == RefusalCode.None).Select(notice => notice.Number));
                    return told.Count == Replies;
                },
                "each is told");
            Assert.Equal(Enumerable.Range(0, Replies).Select(i => (ulong)i), told);
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void Parts_that_a_requester_does_not_want_any_more_are_dropped_before_they_reach_it()
    {
        using (RawClient responder = _broker.Connect())
        using (RawClient requester = _broker.Connect())
        {
            uint queue = requester.Declare("a queue for a request");
            requester.PutMessage(queue, "request"u8);
            requester.Commit();
            ulong request = requester.NextNumber - 1;
            Commit(requester, new ReplyRecord { Kind = RecordKind.RepliesUnwanted, Request = request });
            requester.MustDeliver("it is read");
            Reply(responder, requester.Producer, request, 7);
            NoticeRecord ended = responder.NextNotice();
            Assert.Equal((RefusalCode.NoRequester, 7ul), (ended.Code, ended.Number));
        }

        MustHaveHarmedNobody();
    }

    private static void Reply(RawClient client, ulong producer, ulong request, ulong cookie, byte flags = ReplyRecord.Last, byte[]? body = null, uint part = 0)
    {
        body ??= [];
        client.Put(new ReplyRecord { LengthBytes = (uint)(ReplyRecord.SizeBytes + body.Length), Kind = RecordKind.Reply, Flags = flags, Producer = producer, Request = request, Cookie = cookie, Part = part, Check = RecordCheck.Of(body), Code = RefusalCode.Internal }, body);
        client.Commit();
    }
}
