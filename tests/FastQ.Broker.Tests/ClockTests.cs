using Xunit;

namespace FastQ.Broker;

// Leases run by a clock that nobody can set (DESIGN-REVIEW R10).
public sealed class ClockTests
{
    private const long Second = 1_000_000_000, Year = 365 * 24 * 3600L;
    private static readonly TimeSpan s_mostDowntime = TimeSpan.FromDays(7);

    [Theory]
    [InlineData(0)]
    [InlineData(10 * Year)]
    [InlineData(-10 * Year)]
    [InlineData(3600)]
    [InlineData(-1)]
    public void Interval_time_goes_on_by_the_boot_clock_whatever_is_done_to_the_wall_clock(long setSeconds)
    {
        long boot = 100 * Second, wall = 1_700_000_000 * Second;
        BrokerClock clock = new(new Clocks(() => boot, () => wall), 5_000_000, wall / 1000, s_mostDowntime);
        Assert.Equal(5_000_000, clock.ReadInterval());
        boot += 30 * Second;
        wall += (30 + setSeconds) * Second;
        Assert.Equal(35_000_000, clock.ReadInterval());
        Assert.Equal((35_000_000, wall / 1000), (clock.Read().IntervalMicros, clock.Read().WallMicros));
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(10, 10)]
    [InlineData(10 * Year, 7 * 24 * 3600)]
    [InlineData(-10 * Year, 0)]
    public void A_stop_counts_by_the_wall_clock_within_bounds(long downSeconds, long countedSeconds)
    {
        const long LastInterval = 77_000_000_000, LastWall = 1_700_000_000_000_000;
        long boot = 3 * Second, wall = LastWall * 1000 + downSeconds * Second; // The machine was started anew: its boot clock begins at nothing.
        BrokerClock clock = new(new Clocks(() => boot, () => wall), LastInterval, LastWall, s_mostDowntime);
        Assert.Equal(LastInterval + countedSeconds * 1_000_000, clock.ReadInterval());
    }
}
