using System.Globalization;
using FastQ.Client;
using FastQ.Protocol;

namespace FastQ.Simulation;

// Worlds with schedules, and with a queue that expires when nobody uses it. A schedule's messages are nobody's: the model makes one of each
// moment that they say they are for, and so each moment comes once, as any message does.

/// <summary>A schedule as it was set once: under its name another may follow.</summary>
internal sealed class Course(int number, string name, uint queue, long everyMicros, bool isCron, MissedFirings missed, int most, long askedMicros)
{
    public string Name => name;

    /// <summary>The number in its body that no producer has.</summary>
    public int Producer => -2 - number;

    public uint Queue => queue;

    public long EveryMicros => everyMicros;

    public bool IsCron => isCron;

    public MissedFirings Missed => missed;

    /// <summary>So many messages at the most; 0: no bound.</summary>
    public int Most => most;

    /// <summary>Wall clock at which it was asked for.</summary>
    public long AskedMicros => askedMicros;

    /// <summary>Wall clock of its first firing; 0: not known.</summary>
    public long FirstMicros { get; set; }

    /// <summary>Wall clock after which it fires no more; it is known to be on the disk.</summary>
    public long EndMicros { get; set; } = long.MaxValue;

    /// <summary>It stood still between these, by the wall clock; open at the end: it does.</summary>
    public List<(long From, long To)> Pauses { get; } = [];

    /// <summary>Something was asked of it, and whether that holds is not known.</summary>
    public bool IsUncertain { get; set; }

    /// <summary>The wall clock was set while it was there.</summary>
    public bool HasClockMoved { get; set; }

    public SortedSet<long> Moments { get; } = [];

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"schedule {name} ({number}; each {everyMicros / 1000} ms{(isCron ? " by cron" : "")}, missed {missed}, first {FirstMicros})");
}

/// <summary>What schedules must do, and must not.</summary>
internal sealed class Timetable(Model model)
{
    private const long RoundedMicros = 2000;
    private const string MomentHeader = "fastq.scheduled";
    private readonly List<Course> _courses = [];

    public IEnumerable<Course> Courses => _courses;

    public Course? Current(string name) => _courses.LastOrDefault(course => course.Name == name);

    public Course Begin(string name, uint queue, long everyMicros, bool isCron, MissedFirings missed, int most, long nowMicros)
    {
        Course course = new(_courses.Count, name, queue, everyMicros, isCron, missed, most, nowMicros) { IsUncertain = true };
        _courses.Add(course);
        return course;
    }

    public static byte[] BodyOf(Course course) => Model.BodyOf(course.Producer, 0, 24, new Dice((ulong)course.EveryMicros));

    /// <summary>Whose body is this, and for which moment?</summary>
    public Sent? Find(int producer, uint queue, in Delivery delivery, long nowMicros, IReadOnlyList<(long From, long To)> downs)
    {
        if (-2 - producer is not (>= 0 and int number) || number >= _courses.Count)
        {
            return null;
        }

        Course course = _courses[number];
        long moment = MomentIn(delivery.Properties);
        int sequence = (int)((moment - course.AskedMicros) / 1000);
        if (!course.Moments.Contains(moment))
        {
            Check(course, queue, moment, nowMicros, downs);
            course.Moments.Add(moment);
            model.Publish(new Sent(producer, sequence, course.Queue, BodyOf(course), delivery.Properties.ToArray()));
        }

        return model.TryFind(producer, sequence, out Sent? sent) ? sent : null;
    }

    /// <summary>A firing that was not seen before.</summary>
    private static void Check(Course course, uint queue, long moment, long nowMicros, IReadOnlyList<(long From, long To)> downs)
    {
        Model.Must(queue == course.Queue, $"{course} fired into queue {queue}");
        Model.Must(course.Most == 0 || course.Moments.Count < course.Most, $"{course} fired more than {course.Most} times");
        bool isOfGrid = course.IsCron ? moment % course.EveryMicros == 0 : course.FirstMicros == 0 || course.Pauses.Count > 0 || (moment - course.FirstMicros) % course.EveryMicros == 0;
        Model.Must(isOfGrid, $"{course} fired for {moment}, which is no moment of its rule");
        if (course.HasClockMoved)
        {
            return;
        }

        Model.Must(moment <= nowMicros + RoundedMicros, $"{course} fired {moment - nowMicros} us too soon");
        Model.Must(moment >= course.AskedMicros, $"{course} fired for {moment}, before it was set at {course.AskedMicros}");
        Model.Must(course.IsUncertain || moment - RoundedMicros <= course.EndMicros, $"{course} fired for {moment}, and had been ended at {course.EndMicros}");
        bool stoodStill = course.Pauses.Exists(pause => moment > pause.From + RoundedMicros && moment < pause.To - RoundedMicros);
        Model.Must(course.IsUncertain || !stoodStill, $"{course} fired for {moment}, when it stood still");
        long later = course.Missed == MissedFirings.One ? course.EveryMicros : 0; // Of those that were missed the last comes.
        bool wasMissed = course.Missed != MissedFirings.All && downs.Any(down => moment > down.From + RoundedMicros && moment + later < down.To - RoundedMicros);
        Model.Must(!wasMissed, $"{course} fired for {moment}, which it missed");
    }

    /// <summary>All that had to fire has.</summary>
    /// <param name="calmMicros">Since then nothing hindered it, by the wall clock.</param>
    public void MustHaveFired(long calmMicros)
    {
        foreach (Course course in _courses.Where(course => course is { IsUncertain: false, HasClockMoved: false, FirstMicros: > 0, Most: 0, EndMicros: < long.MaxValue, Pauses.Count: 0 }))
        {
            long moment = course.FirstMicros;
            if (course.Missed != MissedFirings.All && moment < calmMicros)
            {
                moment += (calmMicros - moment + course.EveryMicros - 1) / course.EveryMicros * course.EveryMicros;
            }

            for (; moment < course.EndMicros - RoundedMicros - course.EveryMicros; moment += course.EveryMicros)
            {
                Model.Must(course.Moments.Contains(moment), $"{course} did not fire for {moment}");
            }
        }
    }

    public void MoveClock() => _courses.ForEach(course => course.HasClockMoved = true);

    private static long MomentIn(ReadOnlySpan<byte> properties)
    {
        PropertyReader reader = new(properties);
        while (reader.Next())
        {
            if (reader.Tag == PropertyTag.Header && reader.Key.SequenceEqual(System.Text.Encoding.UTF8.GetBytes(MomentHeader)))
            {
                return System.Buffers.Binary.BinaryPrimitives.ReadInt64LittleEndian(reader.Value);
            }
        }

        throw new PromiseBroken("a schedule's message does not say for when it was");
    }
}

/// <summary>Sets schedules, ends them, and lets them stand still, as one of the clients. What it asked for is on the disk when it goes on; else it stays uncertain.</summary>
internal sealed class Scheduler(Actor actor, Model model, Machine machine, Dice dice)
{
    private readonly Session _session = actor.Session;

    public void Act(string queue)
    {
        string name = $"s{dice.Below(2)}";
        Course? course = model.Timetable!.Current(name);
        bool isThere = course is { EndMicros: long.MaxValue };
        switch (dice.Below(4))
        {
            case 0 when isThere:
                End(course!);
                break;
            case 1 when isThere:
                Pause(course!);
                break;
            default:
                Set(name, queue, course);
                break;
        }
    }

    private void Set(string name, string queue, Course? before)
    {
        bool isCron = dice.OnceIn(3);
        long every = (isCron ? dice.Of(2, 5, 10) : dice.Of(1, 3, 20)) * 1_000_000L;
        MissedFirings missed = dice.Of(MissedFirings.One, MissedFirings.All, MissedFirings.None);
        int most = dice.OnceIn(4) ? dice.Between(1, 20) : 0;
        uint id = _session.GetQueue(queue).Id;
        Course course = model.Timetable!.Begin(name, id, every, isCron, missed, most, machine.WallMicros);
        bool wasUncertain = before?.IsUncertain ?? false;
        Doubt(before);
        int reconnects = _session.Reconnects;
        ScheduleRule rule = isCron ? ScheduleRule.Cron($"*/{every / 1_000_000} * * * * *") : ScheduleRule.Every(TimeSpan.FromMicroseconds(every));
        ScheduleInfo info = _session.SetSchedule(name, queue, rule, Timetable.BodyOf(course), new ScheduleOptions { Missed = missed, Count = most > 0 ? most : null });
        machine.Say($"{actor.Name} sets {course}: {info.Next}");
        long now = machine.WallMicros;
        if (_session.Reconnects == reconnects && info.Next is DateTimeOffset first)
        {
            course.FirstMicros = (first - DateTimeOffset.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;
        }

        _session.Flush();
        course.IsUncertain = false;
        if (before is not null)
        {
            (before.EndMicros, before.IsUncertain) = (Math.Min(before.EndMicros, now), wasUncertain);
        }
    }

    public void End(Course course)
    {
        bool wasUncertain = course.IsUncertain;
        Doubt(course);
        try
        {
            _session.DeleteSchedule(course.Name);
        }
        catch (FastQException refused) when (refused.Code == RefusalCode.BadArgument)
        {
            return; // It is not there: its making was lost, or it was deleted by who died with the answer.
        }

        long now = machine.WallMicros;
        _session.Flush();
        machine.Say($"{actor.Name} has ended {course}");
        (course.EndMicros, course.IsUncertain) = (now, wasUncertain);
    }

    private void Pause(Course course)
    {
        bool isPaused = course.Pauses is [.., (_, long.MaxValue)];
        bool wasUncertain = course.IsUncertain;
        Doubt(course);
        long asked = machine.WallMicros;
        try
        {
            _ = _session.PauseSchedule(course.Name, !isPaused);
        }
        catch (FastQException refused) when (refused.Code == RefusalCode.BadArgument)
        {
            return;
        }

        long now = machine.WallMicros;
        _session.Flush();
        machine.Say($"{actor.Name} lets {course} {(isPaused ? "go on" : "stand still")}");
        if (isPaused)
        {
            course.Pauses[^1] = (course.Pauses[^1].From, asked);
        }
        else
        {
            course.Pauses.Add((now, long.MaxValue));
        }

        course.IsUncertain = wasUncertain;
    }

    private static void Doubt(Course? course)
    {
        if (course is not null)
        {
            course.IsUncertain = true;
        }
    }
}

/// <summary>A queue that expires when nobody uses it: not sooner than its time after its last use, and not while it has a consumer.</summary>
internal sealed class IdleQueue(Machine machine, long expiresMilliseconds)
{
    public const string Name = "idle";
    private readonly List<(Actor Actor, Subscription Subscription, ulong Epoch)> _consumers = [];
    private long _usedNanoseconds = long.MinValue;
    private bool _hasClockMoved;

    public TimeSpan ExpiresAfter => TimeSpan.FromMilliseconds(expiresMilliseconds);

    /// <summary>As it was known last; 0: not known.</summary>
    public uint Id { get; private set; }

    /// <summary>It was used no sooner than then, by the machine's clock.</summary>
    public void Use(long nanoseconds) => _usedNanoseconds = Math.Max(_usedNanoseconds, nanoseconds);

    public void Consume(Actor actor, Subscription subscription) => _consumers.Add((actor, subscription, actor.Session.Epoch));

    /// <summary>Who consumes from it uses it.</summary>
    public void Look()
    {
        _consumers.RemoveAll(one => one.Actor.IsGone || one.Actor.IsSentAway || one.Actor.Surroundings.IsDead || !one.Actor.Subscriptions.Contains(one.Subscription) || one.Actor.Session.Epoch != one.Epoch || machine.Epoch != one.Epoch);
        if (_consumers.Count > 0)
        {
            Use(machine.NowNanoseconds);
        }
    }

    /// <summary>It was seen, or was not there (0), or was made.</summary>
    public void See(uint id, bool isNew, long askedNanoseconds)
    {
        Look();
        bool hasExpired = Id != 0 && id != Id;
        bool mayHave = _hasClockMoved || _usedNanoseconds == long.MinValue || machine.NowNanoseconds >= _usedNanoseconds + expiresMilliseconds * 1_000_000;
        Model.Must(!hasExpired || mayHave, $"a queue that expires after {expiresMilliseconds} ms was used {(machine.NowNanoseconds - _usedNanoseconds) / 1_000_000} ms ago{(_consumers.Count > 0 ? ", has a consumer" : "")}, and is gone");
        if (hasExpired)
        {
            _usedNanoseconds = long.MinValue;
            _consumers.Clear();
            machine.Count("queue that expired");
        }

        Id = id;
        if (isNew)
        {
            Use(askedNanoseconds);
        }
    }

    public void LosePower()
    {
        (Id, _usedNanoseconds) = (0, long.MinValue);
        _consumers.Clear();
    }

    public void MoveClock() => _hasClockMoved = true;
}
