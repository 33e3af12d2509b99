using FastQ.Linux;
using Xunit;

namespace FastQ.Client;

// Other threads end a session's wait by a call (Waiting.cs): whenever it comes, it is seen.
public sealed class CallTests : IDisposable
{
    private readonly RunningBroker _broker = new();

    public void Dispose() => _broker.Dispose();

    [Fact]
    public void A_call_that_comes_just_as_a_session_goes_to_sleep_for_the_first_time_wakes_it()
    {
        const int Sleeps = 2000;
        Random random = new(7);
        for (int sleep = 1; sleep <= Sleeps; sleep++)
        {
            AboutToSleep surroundings = new();
            using Session session = _broker.Connect(options => options with { Surroundings = surroundings });
            Thread sleeper = new(() => WaitForACall(session)) { IsBackground = true };
            sleeper.Start();
            while (!surroundings.IsAboutTo && sleeper.IsAlive)
            {
                Processor.Pause(1);
            }

            for (int pause = random.Next(16); pause > 0; pause--)
            {
                Processor.Pause(1);
            }

            session.Call();
            Assert.True(sleeper.Join(TimeSpan.FromSeconds(5)), $"seed 7: the call at sleep {sleep} was not seen.");
        }
    }

    private static void WaitForACall(Session session)
    {
        while (!session.IsCalled)
        {
            session.WaitForNewsOrCall();
        }
    }

    /// <summary>The kernel's surroundings, which tell when a session has yielded often enough to sleep next.</summary>
    private sealed class AboutToSleep : ISurroundings
    {
        private const int Yields = 95;
        private int _yields;

        public bool IsAboutTo => Volatile.Read(ref _yields) >= Yields;

        public long MonotonicNanoseconds() => RealSurroundings.Instance.MonotonicNanoseconds();

        public void Yield() => Volatile.Write(ref _yields, _yields + 1);

        public (bool First, bool Second, bool Third) Wait(int first, int second, int third, int milliseconds) => RealSurroundings.Instance.Wait(first, second, third, milliseconds);

        public bool Rest(int milliseconds, CancellationToken giveUp) => RealSurroundings.Instance.Rest(milliseconds, giveUp);

        public void Fill(Span<byte> bytes) => RealSurroundings.Instance.Fill(bytes);

        public bool Sees(bool isSound) => isSound;
    }
}
