using System.Text;
using FastQ.Protocol;

namespace FastQ.Engine;

// Schedules: messages that are sent again and again. A schedule holds the whole message, so that a firing needs nothing else; its rule is
// words to the engine. Who reads them, asks the calendar and sends is the broker: a firing is the message's own record, and one fact beside
// it in the same block, which says for when it was, and when the next is due. So a replay asks no calendar.

/// <summary>A schedule as it stands.</summary>
/// <param name="Id">Never used again.</param>
/// <param name="Queue">Where its messages go.</param>
/// <param name="QueueName">The same.</param>
/// <param name="Definition">Fields: Name, the rule, what was missed, the message.</param>
/// <param name="NextMicros">Wall clock of the next firing; 0: there is none any more.</param>
/// <param name="DueMicros">Interval time at which that is due.</param>
/// <param name="LastMicros">Wall clock for which the last firing was; 0: there was none.</param>
/// <param name="Fired">Messages sent.</param>
/// <param name="Failed">Firings whose message the queue would never have taken.</param>
/// <param name="Late">Firings, one after the other, that came when the next was due already.</param>
/// <param name="IsPaused">It stands still.</param>
public readonly record struct ScheduleView(uint Id, uint Queue, string QueueName, ReadOnlyMemory<byte> Definition, long NextMicros, long DueMicros, long LastMicros, ulong Fired, ulong Failed, uint Late, bool IsPaused);

/// <summary>A schedule of a queue. What stands above the line is persistent.</summary>
internal sealed class Schedule(uint id, Queue queue, byte[] definition)
{
    public uint Id => id;

    public Queue Queue => queue;

    public byte[] Definition => definition;

    public string Name { get; } = FieldReader.TryBytes(definition, FieldTag.Name, out ReadOnlySpan<byte> name) ? Encoding.UTF8.GetString(name) : "";

    public long NextMicros { get; set; }

    public long DueMicros { get; set; }

    public long LastMicros { get; set; }

    public ulong Fired { get; set; }

    public ulong Failed { get; set; }

    public uint Late { get; set; }

    public bool IsPaused { get; set; }

    /// <summary>Bytes of memory that it is charged with.</summary>
    public long Bytes => definition.Length + 256;

    public ScheduleView View => new(id, queue.Id, Encoding.UTF8.GetString(queue.Name), definition, NextMicros, DueMicros, LastMicros, Fired, Failed, Late, IsPaused);

    // ---- ephemeral

    /// <summary>Its queue did not take the message: not before then.</summary>
    public long RetryMicros { get; set; }

    /// <summary>Interval time of its next firing; <see cref="long.MaxValue"/>: none comes by itself.</summary>
    public long WakeMicros => IsPaused || NextMicros == 0 ? long.MaxValue : Math.Max(DueMicros, RetryMicros);
}

public sealed partial class QueueEngine
{
    private readonly SortedDictionary<string, Schedule> _schedules = new(StringComparer.Ordinal);
    private uint _nextSchedule = 1;

    /// <summary>Interval time at which a schedule is to fire; <see cref="long.MaxValue"/>: none is.</summary>
    public long NextScheduleMicros { get; private set; } = long.MaxValue;

    /// <summary>All schedules, by name.</summary>
    public IReadOnlyList<ScheduleView> Schedules => [.. _schedules.Values.Select(schedule => schedule.View)];

    public bool TryViewSchedule(string name, out ScheduleView view)
    {
        bool isThere = _schedules.TryGetValue(name, out Schedule? schedule);
        view = isThere ? schedule!.View : default;
        return isThere;
    }

    /// <summary>Makes a schedule; one of the same name is replaced.</summary>
    /// <param name="queue">Where its messages go.</param>
    /// <param name="definition">Fields: Name, the rule (not judged here), Properties and Body of the message.</param>
    /// <param name="nextMicros">Wall clock of the first firing.</param>
    /// <param name="dueMicros">Interval time at which it is due.</param>
    /// <param name="room">At least <see cref="MaxFactBytes"/> and the definition.</param>
    /// <param name="block">The open block.</param>
    /// <param name="written">Bytes written.</param>
    public Decision SetSchedule(uint queue, ReadOnlySpan<byte> definition, long nextMicros, long dueMicros, Span<byte> room, ulong block, out int written)
    {
        written = 0;
        if (FindQueue(queue) is not Queue found)
        {
            return Unknown(queue);
        }

        if (!FieldReader.TryBytes(definition, FieldTag.Name, out ReadOnlySpan<byte> name) || !Names.IsValid(name))
        {
            return Decision.Refuse(RefusalCode.BadName, 0, "A schedule's name is as a queue's");
        }

        if (definition.Length > Limits.MaxScheduleBytes)
        {
            return Decision.Refuse(RefusalCode.TooLarge, Limits.MaxScheduleBytes, "Bytes of a schedule with its message");
        }

        if (!IsMessage(found, definition) || nextMicros <= 0 || dueMicros is < 0 or > LatestMicros)
        {
            return Decision.Refuse(RefusalCode.BadArgument, 0, "The queue would take no message of these properties");
        }

        if (!_schedules.ContainsKey(Encoding.UTF8.GetString(name)) && _schedules.Count >= _limits.MaxSchedules)
        {
            return Decision.Refuse(RefusalCode.LimitReached, (ulong)_limits.MaxSchedules, "Schedules");
        }

        if (!_pages.HasRoom)
        {
            return Decision.Refuse(RefusalCode.LimitReached, (ulong)_limits.IndexBytes, "Bytes of memory for the indexes of all queues");
        }

        written = Write(new FactRecord { Kind = RecordKind.ScheduleSet, Subject = _nextSchedule, Count = queue, First = (ulong)nextMicros, Second = (ulong)dueMicros }, definition, room, block);
        return Decision.Taken;
    }

    /// <summary>Ends a schedule; what it has sent stays.</summary>
    public Decision DeleteSchedule(string name, Span<byte> room, ulong block, out int written)
    {
        written = 0;
        if (!_schedules.TryGetValue(name, out Schedule? schedule))
        {
            return NoSchedule;
        }

        written = Write(new FactRecord { Kind = RecordKind.ScheduleDeleted, Subject = schedule.Id }, default, room, block);
        return Decision.Taken;
    }

    /// <summary>Lets a schedule stand still, over restarts too, or go on.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="isPaused">Whether it is to stand still.</param>
    /// <param name="nextMicros">Wall clock of its next firing from now on; 0: there is none.</param>
    /// <param name="dueMicros">Interval time at which that is due.</param>
    /// <param name="room">At least <see cref="MaxFactBytes"/>.</param>
    /// <param name="block">The open block.</param>
    /// <param name="written">Bytes written.</param>
    public Decision PauseSchedule(string name, bool isPaused, long nextMicros, long dueMicros, Span<byte> room, ulong block, out int written)
    {
        written = 0;
        if (!_schedules.TryGetValue(name, out Schedule? schedule))
        {
            return NoSchedule;
        }

        if (schedule.IsPaused != isPaused)
        {
            written = Write(new FactRecord { Kind = RecordKind.SchedulePaused, Small = isPaused ? (ushort)1 : (ushort)0, Subject = schedule.Id, First = (ulong)nextMicros, Second = (ulong)dueMicros }, default, room, block);
        }

        return Decision.Taken;
    }

    /// <summary>The schedule that is due first, of those that are due.</summary>
    /// <param name="nowMicros">Interval time.</param>
    /// <param name="view">It.</param>
    public bool TryNextSchedule(long nowMicros, out ScheduleView view)
    {
        view = default;
        if (NextScheduleMicros > nowMicros)
        {
            return false;
        }

        Schedule? first = FirstDue(nowMicros);
        view = first?.View ?? default;
        return first is not null;
    }

    /// <summary>A schedule has fired, or passed a firing over: it stands in the block of the message that was sent. Bytes written.</summary>
    /// <param name="schedule">Whose id.</param>
    /// <param name="outcome">What became of it.</param>
    /// <param name="isLate">The next one was due already.</param>
    /// <param name="scheduledMicros">Wall clock for which it was.</param>
    /// <param name="nextMicros">Wall clock of the next one; 0: there is none.</param>
    /// <param name="dueMicros">Interval time at which that is due.</param>
    /// <param name="room">At least <see cref="MaxFactBytes"/>.</param>
    /// <param name="block">The open block.</param>
    public int PassSchedule(uint schedule, Firing outcome, bool isLate, long scheduledMicros, long nextMicros, long dueMicros, Span<byte> room, ulong block) =>
        Write(new FactRecord { Kind = RecordKind.ScheduleFired, Small = (ushort)outcome, Subject = schedule, Count = isLate ? 1u : 0u, First = (ulong)scheduledMicros, Second = (ulong)nextMicros, Third = (ulong)dueMicros }, default, room, block);

    /// <summary>The queue does not take a schedule's message now: it is tried again.</summary>
    public void RetrySchedule(uint schedule, long atMicros)
    {
        if (FindSchedule(schedule) is Schedule found)
        {
            found.RetryMicros = atMicros;
            NoteSchedules();
        }
    }

    private static Decision NoSchedule => Decision.Refuse(RefusalCode.BadArgument, 0, "There is no schedule of this name");

    /// <summary>Would the queue understand what the message says?</summary>
    private bool IsMessage(Queue queue, ReadOnlySpan<byte> definition)
    {
        _ = FieldReader.TryBytes(definition, FieldTag.Properties, out ReadOnlySpan<byte> properties);
        byte[] record = new byte[MessageHeader.SizeBytes + properties.Length];
        properties.CopyTo(record.AsSpan(MessageHeader.SizeBytes));
        return properties.Length <= Limits.MaxPropertyBytes && TryTermsOf(queue, record, new MessageHeader { Kind = RecordKind.Message, PropertyBytes = (ushort)properties.Length }, out _);
    }

    /// <summary>Apart: it allocates, and is asked only when one is due.</summary>
    private Schedule? FirstDue(long nowMicros) => _schedules.Values.Where(schedule => schedule.WakeMicros <= nowMicros).MinBy(schedule => (schedule.WakeMicros, schedule.Id));

    private Schedule? FindSchedule(uint id) => _schedules.Values.FirstOrDefault(schedule => schedule.Id == id);

    private void NoteSchedules() => NextScheduleMicros = _schedules.Count == 0 ? long.MaxValue : _schedules.Values.Min(schedule => schedule.WakeMicros);

    private void AddSchedule(Schedule schedule)
    {
        RemoveSchedule(schedule.Name);
        _schedules.Add(schedule.Name, schedule);
        _pages.Charge(schedule.Bytes);
        NoteSchedules();
    }

    private void RemoveSchedule(string name)
    {
        if (_schedules.Remove(name, out Schedule? schedule))
        {
            _pages.Charge(-schedule.Bytes);
            NoteSchedules();
            Use(schedule.Queue);
        }
    }

    private void RemoveSchedulesOf(Queue queue)
    {
        foreach (Schedule schedule in _schedules.Values.Where(schedule => schedule.Queue == queue).ToArray())
        {
            RemoveSchedule(schedule.Name);
        }
    }

    private bool ApplyScheduleSet(in FactRecord fact, ReadOnlySpan<byte> definition)
    {
        if (FindQueue(fact.Count) is not Queue queue || fact.Subject < _nextSchedule || fact.Subject == uint.MaxValue || !IsFiring(fact.First, fact.Second)
            || definition.Length > Limits.MaxScheduleBytes || !FieldReader.TryBytes(definition, FieldTag.Name, out ReadOnlySpan<byte> name) || !Names.IsValid(name))
        {
            return false;
        }

        AddSchedule(new Schedule(fact.Subject, queue, definition.ToArray()) { NextMicros = (long)fact.First, DueMicros = (long)fact.Second });
        _nextSchedule = fact.Subject + 1;
        return true;
    }

    private bool ApplyScheduleDeleted(in FactRecord fact)
    {
        if (FindSchedule(fact.Subject) is not Schedule schedule)
        {
            return false;
        }

        RemoveSchedule(schedule.Name);
        return true;
    }

    private bool ApplySchedulePaused(in FactRecord fact)
    {
        if (FindSchedule(fact.Subject) is not Schedule schedule || fact.Small > 1 || !IsFiring(fact.First, fact.Second))
        {
            return false;
        }

        (schedule.IsPaused, schedule.NextMicros, schedule.DueMicros, schedule.Late) = (fact.Small == 1, (long)fact.First, (long)fact.Second, 0);
        NoteSchedules();
        return true;
    }

    private bool ApplyScheduleFired(in FactRecord fact)
    {
        if (FindSchedule(fact.Subject) is not Schedule schedule || fact.Small > (ushort)Firing.Failed || fact.First > LatestMicros || !IsFiring(fact.Second, fact.Third))
        {
            return false;
        }

        schedule.Fired += fact.Small == (ushort)Firing.Sent ? 1u : 0u;
        schedule.Failed += fact.Small == (ushort)Firing.Failed ? 1u : 0u;
        schedule.LastMicros = fact.Small == (ushort)Firing.Sent ? (long)fact.First : schedule.LastMicros;
        schedule.Late = fact.Count != 0 ? schedule.Late + 1 : 0;
        (schedule.NextMicros, schedule.DueMicros) = ((long)fact.Second, (long)fact.Third);
        NoteSchedules();
        return true;
    }

    private static bool IsFiring(ulong nextMicros, ulong dueMicros) => nextMicros <= LatestMicros && dueMicros <= LatestMicros;
}
