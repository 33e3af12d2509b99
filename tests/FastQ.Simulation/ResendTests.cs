using FastQ.Client;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Simulation;

// Worlds that chance makes too seldom: the client's resend has to wait for room, as what is not confirmed fills two rings, and the broker dies in that wait.
public sealed class ResendTests
{
    private const int SmallBytes = 900, LargeBytes = 60_000, Small = 60, More = 50;

    [Fact]
    public void A_broker_that_dies_while_a_resend_waits_for_room_is_found_again_and_all_is_sent()
    {
        Dice dice = new(1);
        using Machine machine = new(new Setting { IsLarge = true, SlotBytes = 1 << 20, BlockBytes = 32 * 1024 }, new Trace(null), dice);
        Waits waits = new(new InMachine(machine, dice));
        using Session session = Session.Connect(new SessionOptions { Path = machine.SocketPath, SubmissionRingBytes = Limits.MinRingBytes, DeliveryRingBytes = Limits.MinRingBytes, Surroundings = waits }, TestContext.Current.CancellationToken);
        QueueInfo info = session.DeclareQueue("q");
        session.Flush();
        QueueHandle queue = new(info.Id, "q");

        // Nothing is written now, so all of it stands in the rings: the one that was left for a larger one, and the larger one.
        machine.StallDisk(3600L * 1_000_000_000);
        Publish(session, queue, Small, SmallBytes);
        Publish(session, queue, 1, LargeBytes);
        Publish(session, queue, More, SmallBytes);
        machine.StallDisk(0);
        machine.Fall(Crash.Kill);
        int deaths = 0;
        waits.Yielding = () =>
        {
            if (session.Reconnects == 1 && deaths++ == 0)
            {
                machine.Fall(Crash.Kill);
            }
        };
        session.Flush();
        Assert.True(deaths > 0, "the resend never waited");
        Assert.Equal(2, session.Reconnects);
        Assert.Equal(Small + 1 + More, session.GetQueue("q").Messages);
    }

    private static void Publish(Session session, QueueHandle queue, int count, int bytes)
    {
        for (int i = 0; i < count; i++)
        {
            session.Publish(queue, new byte[bytes]);
        }
    }

    private sealed class Waits(ISurroundings inner) : ISurroundings
    {
        public Action Yielding { get; set; } = static () => { };

        public long MonotonicNanoseconds() => inner.MonotonicNanoseconds();

        public void Yield()
        {
            Yielding();
            inner.Yield();
        }

        public (bool First, bool Second, bool Third) Wait(int first, int second, int third, int milliseconds) => inner.Wait(first, second, third, milliseconds);

        public bool Rest(int milliseconds, CancellationToken giveUp) => inner.Rest(milliseconds, giveUp);

        public void Fill(Span<byte> bytes) => inner.Fill(bytes);

        public bool Sees(bool isSound) => inner.Sees(isSound);
    }
}
