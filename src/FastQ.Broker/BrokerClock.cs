using FastQ.Engine;
using FastQ.Linux;

namespace FastQ.Broker;

/// <summary>Where time comes from. A seam: a simulation has its own.</summary>
internal sealed record Clocks(Func<long> BootNanoseconds, Func<long> WallNanoseconds)
{
    public static Clocks Kernel { get; } = new(Clock.BootNanoseconds, Clock.WallNanoseconds);
}

/// <summary>The engine's two times. Interval time goes on from the last one journaled, by the boot clock, which is never set; a stop counts by the wall clock's advance, within bounds (DESIGN-REVIEW R10).</summary>
internal sealed class BrokerClock
{
    private readonly long _offsetMicros;

    private readonly Clocks _clocks;

    public BrokerClock(Clocks clocks, long lastIntervalMicros, long lastWallMicros, TimeSpan maxDowntime)
    {
        _clocks = clocks;
        long wall = clocks.WallNanoseconds() / 1000;
        long down = lastWallMicros == 0 ? 0 : Math.Clamp(wall - lastWallMicros, 0, (long)maxDowntime.TotalMicroseconds);
        _offsetMicros = lastIntervalMicros + down - clocks.BootNanoseconds() / 1000;
    }

    public Now Read() => new(ReadInterval(), _clocks.WallNanoseconds() / 1000);

    public long ReadInterval() => _offsetMicros + _clocks.BootNanoseconds() / 1000;
}
