using FastQ.Engine;
using FastQ.Linux;

namespace FastQ.Broker;

/// <summary>The engine's two times. Interval time goes on from the last one journaled, by the boot clock, which is never set; a stop counts by the wall clock's advance, within bounds (DESIGN-REVIEW R10).</summary>
internal sealed class BrokerClock
{
    private readonly long _offsetMicros;

    public BrokerClock(long lastIntervalMicros, long lastWallMicros, TimeSpan maxDowntime)
    {
        long wall = Clock.WallNanoseconds() / 1000;
        long down = lastWallMicros == 0 ? 0 : Math.Clamp(wall - lastWallMicros, 0, (long)maxDowntime.TotalMicroseconds);
        _offsetMicros = lastIntervalMicros + down - Clock.BootNanoseconds() / 1000;
    }

    public Now Read() => new(ReadInterval(), Clock.WallNanoseconds() / 1000);

    public long ReadInterval() => _offsetMicros + Clock.BootNanoseconds() / 1000;
}
