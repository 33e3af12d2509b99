using System.Security.Cryptography;
using FastQ.Linux;

namespace FastQ.Client;

/// <summary>Time, waiting and dice as a session knows them. A seam: a simulation has its own, in which many clients and a broker share one thread.</summary>
internal interface ISurroundings
{
    /// <summary>For deadlines.</summary>
    long MonotonicNanoseconds();

    /// <summary>Lets others run for a moment.</summary>
    void Yield();

    /// <summary>Waits for any of three descriptors to be readable; -1: none. Says which are.</summary>
    (bool First, bool Second, bool Third) Wait(int first, int second, int third, int milliseconds);

    /// <summary>Rests before the next attempt to reach the broker. True: nobody wants to wait any more.</summary>
    bool Rest(int milliseconds, CancellationToken giveUp);

    /// <summary>Random bytes.</summary>
    void Fill(Span<byte> bytes);

    /// <summary>What this program sees where it checks a record: its page of the file may be rotten where the broker's is not.</summary>
    bool Sees(bool isSound);
}

/// <summary>The kernel's.</summary>
internal sealed class RealSurroundings : ISurroundings
{
    public static RealSurroundings Instance { get; } = new();

    public long MonotonicNanoseconds() => Clock.MonotonicNanoseconds();

    public void Yield() => Processor.Yield();

    public (bool First, bool Second, bool Third) Wait(int first, int second, int third, int milliseconds) => Poll.Wait(first, second, third, milliseconds);

    public bool Rest(int milliseconds, CancellationToken giveUp) => giveUp.WaitHandle.WaitOne(milliseconds);

    public void Fill(Span<byte> bytes) => RandomNumberGenerator.Fill(bytes);

    public bool Sees(bool isSound) => isSound;
}

/// <summary>A point in time, by the clock that is never set.</summary>
internal readonly struct Deadline
{
    private readonly ISurroundings _world;
    private readonly long _atNanoseconds;

    public Deadline(ISurroundings world, TimeSpan span)
    {
        _world = world;
        _atNanoseconds = span == Timeout.InfiniteTimeSpan ? long.MaxValue : world.MonotonicNanoseconds() + (long)span.TotalNanoseconds;
    }

    public bool IsOver => _atNanoseconds != long.MaxValue && _world.MonotonicNanoseconds() >= _atNanoseconds;

    /// <summary>For poll: -1 is for ever; a fraction of a millisecond is a whole one.</summary>
    public int MillisecondsLeft => _atNanoseconds == long.MaxValue ? -1 : (int)Math.Clamp((_atNanoseconds - _world.MonotonicNanoseconds() + 999_999) / 1_000_000, 0, int.MaxValue);

    /// <summary>Rests a little before the next attempt. False: the time is over, or nobody wants to wait any more.</summary>
    public bool TryPause(CancellationToken giveUp) => !IsOver && !_world.Rest(20, giveUp);
}
