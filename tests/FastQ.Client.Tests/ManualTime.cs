namespace FastQ.Client;

/// <summary>Time that stands still until a test moves it. Timers fire on the test's thread.</summary>
public sealed class ManualTime : TimeProvider
{
    private readonly Lock _gate = new();
    private readonly List<ManualTimer> _timers = [];
    private DateTimeOffset _now = DateTimeOffset.UnixEpoch;

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    /// <summary>Timers that were made and not disposed.</summary>
    public int Timers
    {
        get
        {
            lock (_gate)
            {
                return _timers.Count;
            }
        }
    }

    public override DateTimeOffset GetUtcNow()
    {
        lock (_gate)
        {
            return _now;
        }
    }

    public override long GetTimestamp() => GetUtcNow().Ticks;

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        lock (_gate)
        {
            ManualTimer timer = new(this, () => callback(state), period) { Due = _now + dueTime };
            _timers.Add(timer);
            return timer;
        }
    }

    public void Advance(TimeSpan by)
    {
        List<Action> due = [];
        lock (_gate)
        {
            _now += by;
            foreach (ManualTimer timer in _timers)
            {
                while (timer.Due <= _now)
                {
                    due.Add(timer.Fire);
                    timer.Due += timer.Period;
                }
            }
        }

        due.ForEach(fire => fire());
    }

    private sealed class ManualTimer(ManualTime time, Action fire, TimeSpan period) : ITimer
    {
        public DateTimeOffset Due { get; set; }

        public TimeSpan Period => period;

        public Action Fire => fire;

        public bool Change(TimeSpan dueTime, TimeSpan period) => throw new NotSupportedException();

        public void Dispose()
        {
            lock (time._gate)
            {
                time._timers.Remove(this);
            }
        }

        public ValueTask DisposeAsync()
        {
            Dispose();
            return ValueTask.CompletedTask;
        }
    }
}
