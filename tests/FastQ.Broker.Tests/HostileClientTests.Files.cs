using System.Runtime.InteropServices;
using System.Text;
using FastQ.Linux;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

// What a client does with the files and doorbells that it was given, and its death between any two steps.
public sealed partial class HostileClientTests
{
    [Fact]
    public void Neither_file_of_a_session_can_be_resized_unsealed_or_holed()
    {
        using (RawClient hostile = _broker.Connect())
        {
            hostile.MustDeliver("established: Mapped was heard");
            foreach (FileHandle file in (FileHandle[])[hostile.Rings.A, hostile.Rings.B])
            {
                long length = file.Length().OrThrow();
                Assert.Equal(Seals.Seal | Seals.Shrink | Seals.Grow | Seals.FutureWrite, MemoryFile.GetSeals(file).OrThrow());
                Assert.Equal(Errno.EPERM, file.SetLength(0).Fault.Errno);
                Assert.Equal(Errno.EPERM, file.SetLength(length + 4096).Fault.Errno);
                Assert.Equal(Errno.EPERM, file.Allocate(length, 4096).Fault.Errno);
                Assert.Equal(Errno.EPERM, file.PunchHole(0, length).Fault.Errno);
                Assert.Equal(Errno.EPERM, file.WriteAt([1, 2, 3], 0).Fault.Errno);
                Assert.Equal(Errno.EPERM, Mapping.OfFile(file, 4096, Protection.ReadWrite).Fault.Errno);
                Assert.Equal(Errno.EPERM, MemoryFile.AddSeals(file, Seals.Write).Fault.Errno);

                // Opened anew through /proc it is another description of the same sealed file.
                using FileHandle again = FileHandle.Open($"/proc/self/fd/{file.Descriptor}", OpenMode.ReadWrite).OrThrow();
                Assert.Equal(Errno.EPERM, again.SetLength(0).Fault.Errno);
                Assert.Equal(Errno.EPERM, again.WriteAt([1, 2, 3], 0).Fault.Errno);
                Assert.Equal(Errno.EPERM, Mapping.OfFile(again, 4096, Protection.ReadWrite).Fault.Errno);
            }

            hostile.MustDeliver("all is as it was");
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void Before_Mapped_B_is_sealed_for_good_and_A_against_resizing()
    {
        using (RawClient hostile = RawClient.Dial(_broker.Socket))
        {
            hostile.SayHello(new Hello());
            hostile.TakeWelcome();
            Assert.Equal(Seals.Shrink | Seals.Grow, MemoryFile.GetSeals(hostile.Rings.A).OrThrow());
            Assert.Equal(Errno.EPERM, hostile.Rings.A.SetLength(0).Fault.Errno);
            Assert.Equal(Seals.Seal | Seals.Shrink | Seals.Grow | Seals.FutureWrite, MemoryFile.GetSeals(hostile.Rings.B).OrThrow());
            Assert.Equal(Errno.EPERM, Mapping.OfFile(hostile.Rings.B, 4096, Protection.ReadWrite).Fault.Errno);
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void A_hole_punched_in_the_submission_ring_before_Mapped_is_harmless()
    {
        using (RawClient hostile = RawClient.Dial(_broker.Socket))
        {
            hostile.SayHello(new Hello());
            hostile.TakeWelcome();
            hostile.Rings.Map();
            hostile.Rings.A.PunchHole(Limits.ControlPageBytes, hostile.Rings.SubmissionBytes).OrThrow();
            hostile.SayMapped();
            hostile.MustDeliver("through a hole");
        }

        MustHaveHarmedNobody();
    }

    [Theory]
    [InlineData(Seals.Seal)]
    [InlineData(Seals.Seal | Seals.FutureWrite)]
    public void A_client_that_seals_its_file_itself_is_refused(Seals seals)
    {
        using (RawClient hostile = RawClient.Dial(_broker.Socket))
        {
            hostile.SayHello(new Hello());
            hostile.TakeWelcome();
            hostile.Rings.Map();
            MemoryFile.AddSeals(hostile.Rings.A, seals).OrThrow();
            hostile.SayMapped();
            Assert.Equal(RefusalCode.RingViolation, hostile.WaitForEnd().Code);
        }

        MustHaveHarmedNobody();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_flood_of_the_doorbell_is_not_listened_to_and_its_session_is_still_served(bool afterAnOffer)
    {
        using (RawClient hostile = _broker.Connect())
        using (RawClient honest = _broker.Connect())
        {
            if (afterAnOffer)
            {
                _ = hostile.AskForGrowth(Limits.DefaultRingBytes * 2);
            }

            using CancellationTokenSource enough = new();
            Thread flood = new(() =>
            {
                while (!enough.IsCancellationRequested)
                {
                    hostile.Ring();
                }
            });
            flood.Start();
            try
            {
                // Deaf: turns are made by the clock, a thousand or so a second, not by each of a million rings.
                _broker.WaitUntil(() => IsCalm(honest), "the broker is deaf to the flood");
                for (int i = 0; i < 20; i++)
                {
                    honest.MustDeliver("beside a flood");
                    hostile.MustDeliver("in spite of its flood");
                }
            }
            finally
            {
                enough.Cancel();
                flood.Join();
            }
        }

        MustHaveHarmedNobody();
    }

    /// <summary>In a fifth of a second the broker makes few turns: it sleeps between them. One that does not makes ten thousands.</summary>
    private static bool IsCalm(RawClient observer)
    {
        const int Milliseconds = 200, MostTurns = 3000;
        long from = observer.Statistic("turns");
        _ = Poll.Wait(observer.Socket.Descriptor, observer.Socket.Descriptor, Milliseconds); // Nobody speaks there meanwhile.
        return observer.Statistic("turns") - from < MostTurns;
    }

    [Fact]
    public void A_pipe_that_is_never_read_or_closed_stops_nobody()
    {
        using (RawClient hostile = _broker.Connect())
        {
            ulong sleep = 1;
            for (int i = 0; i < 200; i++)
            {
                hostile.Rings.ShowSleepNumber(sleep += 2); // Each time asleep anew: the broker rings each time.
                hostile.MustDeliver("rung for");
            }

            hostile.ClosePipe();
            for (int i = 0; i < 20; i++)
            {
                hostile.Rings.ShowSleepNumber(sleep += 2);
                hostile.MustDeliver("rung for in vain");
            }
        }

        MustHaveHarmedNobody();
    }

    public static TheoryData<int> HandshakeSteps => [.. Enumerable.Range(0, 7)];

    [Theory]
    [MemberData(nameof(HandshakeSteps))]
    public void A_client_that_dies_after_any_step_of_the_handshake_leaves_nothing(int steps)
    {
        for (int i = 0; i < 10; i++)
        {
            using RawClient dying = RawClient.Dial(_broker.Socket);
            Action[] all =
            [
                () => dying.SayHello(new Hello()),
                dying.TakeWelcome,
                () => dying.Rings.Map(),
                dying.SayMapped,
                () => dying.PutMessage(NoQueue, "never committed"u8),
                dying.Commit,
            ];
            foreach (Action step in all.Take(steps))
            {
                step();
            }
        }

        MustHaveHarmedNobody();
    }

    public static TheoryData<int> GrowthSteps => [.. Enumerable.Range(0, 9)];

    [Theory]
    [MemberData(nameof(GrowthSteps))]
    public void A_client_that_dies_after_any_step_of_growth_leaves_nothing(int steps)
    {
        for (int i = 0; i < 10; i++)
        {
            using RawClient dying = _broker.Connect();
            uint queue = dying.Declare($"growth-{Guid.NewGuid()}");
            RawRings? next = null;
            Action[] all =
            [
                () => Commit(dying, new ControlRecord { Kind = RecordKind.GrowRings, Subject = Limits.DefaultRingBytes * 4 }),
                () => next = dying.AskForGrowth(Limits.DefaultRingBytes * 4),
                () => next!.Map(),
                dying.SayMapped,
                () => Commit(dying, new ControlRecord { Kind = RecordKind.ClientMovesRing, Subject = next!.Number }),
                dying.MoveSubmissions,
                () => dying.PutMessage(queue, "in the new ring"u8),
                dying.Commit,
            ];
            foreach (Action step in all.Take(steps))
            {
                step();
            }
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void A_client_that_moves_before_it_has_mapped_and_dies_takes_nobody_along()
    {
        using (RawClient dying = _broker.Connect())
        {
            RawRings next = dying.AskForGrowth(Limits.DefaultRingBytes * 2);
            dying.Put(new ControlRecord { Kind = RecordKind.ClientMovesRing, Subject = next.Number });
            dying.Rings.ShowHead(dying.Rings.Head); // No bell: the broker finds it at the hang-up.
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void Rings_that_grow_without_end_end_at_the_largest()
    {
        using (RawClient hostile = _broker.Connect())
        {
            Commit(hostile, new ControlRecord { Kind = RecordKind.GrowRings, Subject = uint.MaxValue, Count = uint.MaxValue });
            Commit(hostile, new ControlRecord { Kind = RecordKind.GrowRings, Subject = Limits.MaxRingBytes * 2u });
            Commit(hostile, new ControlRecord { Kind = RecordKind.GrowRings, Subject = 12_345 });
            hostile.MustDeliver("nothing was offered");
            Assert.Null(hostile.Offered);
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void What_a_dead_client_held_goes_back_counted_where_it_was_taken_and_uncounted_where_it_was_not()
    {
        const int Subscriptions = 50;
        using (RawClient honest = _broker.Connect())
        {
            uint queue = honest.Declare("held by the dead");
            using (RawClient dying = _broker.Connect())
            {
                for (int i = 0; i < Subscriptions; i++)
                {
                    _ = dying.Subscribe(queue, credit: 1);
                }

                for (int i = 0; i < Subscriptions; i++)
                {
                    honest.PutMessage(queue, Encoding.UTF8.GetBytes($"{i}"));
                }

                honest.Commit();
                honest.WaitForWritten(honest.NextNumber - 1);
                _broker.WaitUntil(() => honest.Show(queue).Number(FieldTag.InFlight) == Subscriptions, "all are in flight");
                dying.Take(Subscriptions / 2);
            }

            uint subscription = honest.Subscribe(queue);
            List<RawDelivery> back = [];
            while (back.Count < Subscriptions)
            {
                back.AddRange(honest.NextDeliveries());
            }

            Assert.All(back, delivery => Assert.Equal(subscription, delivery.Subscription));
            Assert.Equal(Enumerable.Range(0, Subscriptions).Select(i => $"{i}"), back.Select(delivery => delivery.Body));
            Assert.Equal(Subscriptions / 2, back.Count(delivery => delivery.Entry.DeliveryCount == 2));
            Assert.Equal(Subscriptions / 2, back.Count(delivery => delivery.Entry.DeliveryCount == 1));
            Assert.Equal(1ul, honest.Show(queue).Number(FieldTag.Consumers));
        }

        MustHaveHarmedNobody();
    }
}
