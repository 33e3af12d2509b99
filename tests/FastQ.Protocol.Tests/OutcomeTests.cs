using Xunit;

namespace FastQ.Protocol;

// The real ring and the real sleep numbers, in every order of their steps in a small world: which outcomes are permitted, and no other may be.
public sealed class OutcomeTests : IDisposable
{
    private readonly SharedRing _ring = new();

    public void Dispose() => _ring.Dispose();

    /// <summary>Four records of which two fit at once, so that the third waits for room and goes over the end.</summary>
    [Fact]
    public void In_any_order_of_steps_a_reader_sees_whole_records_in_order_and_never_one_before_it_is_published()
    {
        const int Records = 4, Length = 24_000;
        int published = 0, taken = 0;
        int runs = Interleavings.Explore(
            () =>
            {
                _ring.BeginAt(0);
                (published, taken) = (0, 0);
                return [Producer(), Consumer()];
            },
            () => Assert.Equal(Records, taken));

        Assert.InRange(runs, 1_000, 1_000_000); // the small world is not a trivial one

        IEnumerator<Func<bool>?> Producer()
        {
            for (int number = 0; number < Records; number++)
            {
                yield return () => _ring.Writer.Room(Volatile.Read(ref _ring.Position)) >= Length;
                _ring.Write(number, Length);
                yield return null;
                _ring.Writer.Publish();
                published++;
            }
        }

        IEnumerator<Func<bool>?> Consumer()
        {
            // Two looks whether or not something is there, then only when there is news.
            for (int looks = 0; taken < Records; looks++)
            {
                yield return looks < 2 ? null : () => _ring.Reader.HasNews;
                RingVerdict verdict = _ring.Reader.Next(out RecordPrefix prefix);
                Assert.Equal(taken < published ? RingVerdict.Record : RingVerdict.Empty, verdict);
                if (verdict == RingVerdict.Record)
                {
                    Assert.Equal(((uint)Length, (ushort)taken), (prefix.LengthBytes, prefix.Small));
                    yield return null; // meanwhile the writer may do what it can
                    SharedRing.AssertRecord(_ring.Reader.Bytes(Length), taken);
                    _ring.Reader.Advance(Length);
                    taken++;
                    yield return null;
                    _ring.Reader.Publish();
                }
            }
        }
    }

    public enum LeftOut
    {
        Nothing,
        LookAfterAnnouncing,
        AnnouncingBeforeLook,
        AskingWhetherToRing,
    }

    [Theory]
    [InlineData(LeftOut.Nothing, false)]
    [InlineData(LeftOut.LookAfterAnnouncing, true)]
    [InlineData(LeftOut.AnnouncingBeforeLook, true)]
    [InlineData(LeftOut.AskingWhetherToRing, true)]
    public void In_any_order_of_steps_a_sleeper_is_woken_unless_a_step_is_left_out(LeftOut leftOut, bool losesOne)
    {
        const int Records = 2, Length = 64;
        int taken = 0, bell = 0, lost = 0;
        HashSet<ulong> rung = [];
        int runs = Interleavings.Explore(
            () =>
            {
                _ring.BeginAt(0);
                (taken, bell) = (0, 0);
                rung.Clear();
                return [Producer(), Consumer()];
            },
            () => lost += taken < Records ? 1 : 0);

        Assert.Equal(losesOne, lost > 0);
        Assert.InRange(runs, 10, 1_000_000);

        IEnumerator<Func<bool>?> Producer()
        {
            Ringer ringer = _ring.RingerOf(0);
            for (int number = 0; number < Records; number++)
            {
                yield return null;
                _ring.Write(number, Length);
                _ring.Writer.Publish();
                yield return null;
                if (leftOut != LeftOut.AskingWhetherToRing && ringer.MustRing())
                {
                    Assert.True(rung.Add(_ring.SleepNumber(0)), "one sleep was rung twice");
                    yield return null;
                    bell = 1;
                }
            }
        }

        IEnumerator<Func<bool>?> Consumer()
        {
            Sleeper sleeper = _ring.SleeperOf(0);
            while (true)
            {
                yield return null;
                while (_ring.Reader.Next(out RecordPrefix prefix) == RingVerdict.Record)
                {
                    _ring.Reader.Advance((int)prefix.LengthBytes);
                    taken++;
                }

                bool lookedBefore = false;
                if (leftOut == LeftOut.AnnouncingBeforeLook)
                {
                    yield return null;
                    lookedBefore = _ring.Reader.HasNews;
                }

                yield return null;
                sleeper.Announce();
                yield return null;
                bool hasNews = leftOut switch { LeftOut.Nothing or LeftOut.AskingWhetherToRing => _ring.Reader.HasNews, LeftOut.AnnouncingBeforeLook => lookedBefore, _ => false };
                if (!hasNews)
                {
                    yield return () => bell > 0;
                    bell = 0;
                }

                yield return null;
                sleeper.Wake();
            }
        }
    }
}
