using FastQ.Linux;
using Xunit;

namespace FastQ.Protocol;

public sealed class SleepTests : IDisposable
{
    private const int Patience = 10_000; // milliseconds until a wait is given up and the test is red, not stuck
    private readonly SharedRing _ring = new();

    public void Dispose() => _ring.Dispose();

    // The whole protocol, by each of its ways.
    private static readonly (string Way, SleepProtocol Protocol)[] s_sound =
    [
        ("by pipe", new SleepProtocol()),
        ("by futex", new SleepProtocol { ByFutex = SleepProtocol.Futex.LoadedBeforeAnnouncing }),
        ("where the broker fences for its client, by pipe", new SleepProtocol { FencesAll = true, RingerFences = false }),
        ("where the broker fences for its client, and the client fences all the same", new SleepProtocol { FencesAll = true }),
    ];

    // With one step left out: each of them is there for a reason.
    private static readonly (string LeftOut, SleepProtocol Protocol)[] s_broken =
    [
        ("the ringer's fence", new SleepProtocol { RingerFences = false }),
        ("the sleeper's fence", new SleepProtocol { SleeperFences = false }),
        ("the sleeper's fence, where it would fence for both", new SleepProtocol { SleeperFences = false, FencesAll = true, RingerFences = false }),
        ("the look after the announcement", new SleepProtocol { Looks = false }),
        ("the even number of one who is awake", new SleepProtocol { SaysAwake = false }),
        ("the number, with a flag in its place", new SleepProtocol { Remembers = SleepProtocol.Memory.Flag }),
        ("loading the futex word before announcing, but between that and the look", new SleepProtocol { ByFutex = SleepProtocol.Futex.LoadedBeforeLook }),
        ("loading the futex word before the look", new SleepProtocol { ByFutex = SleepProtocol.Futex.LoadedAfterLook }),
    ];

    [Fact]
    public void No_order_of_steps_and_stores_loses_a_wake_up_or_rings_a_sleep_twice()
    {
        foreach ((string way, SleepProtocol protocol) in s_sound)
        {
            SleepOutcome outcome = SleepModel.Explore(protocol);
            Assert.True(outcome.Lost is null, $"{way}: lost after\n{outcome.Lost}");
            Assert.False(outcome.RungTwice, way);
            Assert.True(outcome.States > 300, $"{way}: only {outcome.States} states");
        }
    }

    [Fact]
    public void With_one_step_left_out_a_wake_up_can_be_lost()
    {
        Findings.None(from row in s_broken where SleepModel.Explore(row.Protocol).Lost is null select $"without {row.LeftOut} nothing is lost");
    }

    [Fact]
    public void A_ringer_that_forgets_what_it_rang_rings_twice()
    {
        Assert.True(SleepModel.Explore(new SleepProtocol { Remembers = SleepProtocol.Memory.Nothing }).RungTwice);
    }

    [Fact]
    public void A_sleeper_is_rung_once_a_sleep_and_never_when_it_is_awake()
    {
        Sleeper sleeper = _ring.SleeperOf(0);
        Ringer ringer = _ring.RingerOf(0);
        for (int sleep = 0; sleep < 3; sleep++)
        {
            Assert.False(sleeper.IsAnnounced || ringer.MustRing());
            sleeper.Announce();
            Assert.True(sleeper.IsAnnounced && ringer.MustRing());
            Assert.False(ringer.MustRing() || ringer.MustRingAfterFence());
            sleeper.Wake();
        }

        Assert.Equal(6ul, _ring.SleepNumber(0));
        Assert.Throws<InvariantViolation>(() => _ring.SleeperOf(0).Wake());
        sleeper.Announce();
        Assert.Throws<InvariantViolation>(() => _ring.SleeperOf(0).Announce());
    }

    // The two fences on the processor itself: both sides do their step at the same moment, again and again. Without either fence a store
    // stays behind in its buffer now and then, and neither side sees the other. It needs two free processors to have teeth: on a busy machine
    // the two may hardly ever meet, and a lost fence goes unseen; nothing is ever red without a fault.
    [Fact]
    public void When_head_and_announcement_meet_one_of_the_two_sides_sees_the_other()
    {
        const int Rounds = 100_000, Apart = 16; // longs: the two places must not share cache lines
        long[] places = new long[2 * Apart];
        bool mustRing = false;
        int lead = 0; // how much the sleeper would come first: who leads waits that much longer the next time
        Thread ringing = new(() =>
        {
            Ringer ringer = _ring.RingerOf(0);
            for (int round = 1; round <= Rounds; round++)
            {
                _ring.Write(round, 8);
                Meet(ref places[0], ref places[Apart], 2 * round);
                Dawdle(ref _ring.SleepNumber(0), round % 8 - lead);
                _ring.Writer.Publish();
                mustRing = ringer.MustRing();
                Meet(ref places[0], ref places[Apart], 2 * round + 1);
            }
        });
        ringing.Start();

        int lost = 0, sawHead = 0, sawNumber = 0;
        Sleeper sleeper = _ring.SleeperOf(0);
        for (int round = 1; round <= Rounds; round++)
        {
            Meet(ref places[Apart], ref places[0], 2 * round);
            Dawdle(ref _ring.Head, lead);
            sleeper.Announce();
            bool hasNews = _ring.Reader.HasNews;
            Meet(ref places[Apart], ref places[0], 2 * round + 1);
            lost += hasNews || mustRing ? 0 : 1;
            lead = Math.Clamp(lead + (mustRing ? 8 : 0) - (hasNews ? 8 : 0), -30_000, 30_000);
            sawHead += hasNews ? 1 : 0;
            sawNumber += mustRing ? 1 : 0;
            sleeper.Wake();
            Assert.Equal(RingVerdict.Record, _ring.Reader.Next(out _));
            _ring.Reader.Advance(8);
            _ring.Reader.Publish();
        }

        ringing.Join();
        Assert.True(lost == 0, $"{lost} of {Rounds} lost; the head was seen {sawHead} times, the number {sawNumber} times");
    }

    // Reads the other's word meanwhile: then it is near, and the load that matters is quick where the store is slow.
    private static void Dawdle(ref ulong others, int steps)
    {
        for (int step = 0; step <= steps; step++)
        {
            _ = Volatile.Read(ref others);
        }
    }

    /// <summary>Both leave at the same moment, as nearly as two processors can.</summary>
    private static void Meet(ref long mine, ref long other, long step)
    {
        Volatile.Write(ref mine, step);
        for (int spins = 0; Volatile.Read(ref other) < step; spins++)
        {
            if (spins > 2000)
            {
                Thread.Yield(); // the other does not run at all: it may need this processor
            }
        }
    }

    // Two threads, two bells: the reader sleeps for records, the writer for room. Small bursts let both sleep often; it ends on a count.
    [Fact]
    public void Two_threads_pass_every_record_and_each_wakes_the_other()
    {
        const int Records = 150_000, Seed = 51;
        using EventDescriptor readerBell = EventDescriptor.Create().OrThrow(), writerBell = EventDescriptor.Create().OrThrow();
        Exception? failure = null;
        Thread writer = new(() => failure = Record.Exception(Write));
        writer.Start();
        try
        {
            Read();
        }
        finally
        {
            writer.Join();
        }

        Assert.True(failure is null, $"seed {Seed}: {failure}");
        Assert.Equal(_ring.Head, _ring.Position);

        void Write()
        {
            Random random = new(Seed);
            Ringer reader = _ring.RingerOf(0);
            Sleeper self = _ring.SleeperOf(1);
            for (int number = 0; number < Records;)
            {
                int length = random.Next(RecordPrefix.SizeBytes, 300), burst = random.Next(10) == 0 ? 500 : random.Next(1, 4);
                long room = random.Next(4) switch { 0 => SharedRing.Bytes, 1 => SharedRing.Bytes / 4, _ => Limits.Align(length) };
                SleepUntil(() => _ring.Writer.Room(Volatile.Read(ref _ring.Position)) >= room, self, writerBell);
                for (int end = Math.Min(Records, number + burst); number < end && _ring.Writer.Room(Volatile.Read(ref _ring.Position)) >= Limits.Align(length); number++)
                {
                    _ring.Write(number, length);
                }

                _ring.Writer.Publish();
                if (reader.MustRing())
                {
                    readerBell.Signal();
                }
            }
        }

        void Read()
        {
            Ringer other = _ring.RingerOf(1);
            Sleeper self = _ring.SleeperOf(0);
            for (int number = 0; number < Records;)
            {
                SleepUntil(() => _ring.Reader.HasNews, self, readerBell);
                while (_ring.Reader.Next(out RecordPrefix prefix) is var verdict && verdict != RingVerdict.Empty)
                {
                    Assert.Equal(RingVerdict.Record, verdict);
                    SharedRing.AssertRecord(_ring.Reader.Bytes((int)prefix.LengthBytes), number++);
                    _ring.Reader.Advance((int)prefix.LengthBytes);
                }

                _ring.Reader.Publish();
                if (other.MustRing())
                {
                    writerBell.Signal();
                }
            }
        }
    }

    private static void SleepUntil(Func<bool> isSo, Sleeper sleeper, EventDescriptor bell)
    {
        while (!isSo())
        {
            sleeper.Announce();
            if (!isSo())
            {
                AwaitBell(bell);
            }

            sleeper.Wake();
        }
    }

    // A signal (the runtime's own, at a collection) ends a wait without news.
    private static void AwaitBell(EventDescriptor bell)
    {
        long start = Environment.TickCount64;
        while (!Poll.Wait(bell.Descriptor, bell.Descriptor, Patience).First)
        {
            Assert.True(Environment.TickCount64 - start < Patience, "nobody rang: a wake-up is lost");
        }

        bell.Drain();
    }
}
