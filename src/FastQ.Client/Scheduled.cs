using FastQ.Protocol;

namespace FastQ.Client;

// Messages that wait for their time under a schedule key, by their key; and schedules, which send messages again and again.

public sealed unsafe partial class Session
{
    /// <summary>Removes the message that waits under a schedule key, if it is not too late; it counts as purged.</summary>
    /// <param name="queue">The queue's name.</param>
    /// <param name="key">Its <see cref="PublishOptions.ScheduleKey"/>.</param>
    /// <returns>Whether it was in time. Where the broker died with its answer, and is asked again, what was done then is <see cref="Timeliness.Gone"/>.</returns>
    /// <exception cref="FastQException">There is no such queue, or the key is out of its range.</exception>
    public Timeliness CancelScheduled(string queue, string key) => ChangeScheduled(CommandKind.CancelScheduled, queue, key, static (ref FieldWriter _) => { });

    /// <summary>Gives the message that waits under a schedule key another time, if it is not too late: so long from now on; zero: it may be delivered at once.</summary>
    /// <inheritdoc cref="CancelScheduled"/>
    /// <param name="queue">The queue's name.</param>
    /// <param name="key">Its <see cref="PublishOptions.ScheduleKey"/>.</param>
    /// <param name="delay">From now on.</param>
    public Timeliness Reschedule(string queue, string key, TimeSpan delay) =>
        ChangeScheduled(CommandKind.Reschedule, queue, key, (ref FieldWriter writer) => writer.Number(FieldTag.DelayMilliseconds, (ulong)PublishOptions.Milliseconds(delay, "delay")));

    /// <summary>As above: at a moment of the broker's wall clock; one that has passed: at once.</summary>
    /// <inheritdoc cref="CancelScheduled"/>
    /// <param name="queue">The queue's name.</param>
    /// <param name="key">Its <see cref="PublishOptions.ScheduleKey"/>.</param>
    /// <param name="at">The moment.</param>
    public Timeliness Reschedule(string queue, string key, DateTimeOffset at) =>
        ChangeScheduled(CommandKind.Reschedule, queue, key, (ref FieldWriter writer) => writer.Number(FieldTag.DueMicros, (ulong)PublishOptions.Micros(at)));

    /// <summary>Makes a schedule: its messages go to a queue, as any that is published there, each with the headers <c>fastq.schedule</c> (its name) and <c>fastq.scheduled</c> (for when it was). One of the same name is replaced. It is kept over restarts, and goes with its queue.</summary>
    /// <param name="name">1 to 255 bytes of UTF-8, as of a queue.</param>
    /// <param name="queue">Where its messages go.</param>
    /// <param name="rule">When.</param>
    /// <param name="body">Of each message; with all else of the schedule at most <see cref="Limits.MaxScheduleBytes"/>.</param>
    /// <param name="options">What else; null: the defaults.</param>
    /// <exception cref="FastQException">There is no such queue, the rule is not understood or never fires, or there are too many schedules.</exception>
    public ScheduleInfo SetSchedule(string name, string queue, ScheduleRule rule, ReadOnlyMemory<byte> body, ScheduleOptions? options = null)
    {
        uint id = GetQueue(queue).Id;
        return ChangeSchedule(name, ScheduleAction.Set, (ref FieldWriter writer) =>
        {
            writer.Number(FieldTag.Queue, id);
            rule.Write(ref writer);
            (options ?? new ScheduleOptions()).Write(ref writer);
            writer.Bytes(FieldTag.Body, body.Span);
        });
    }

    /// <summary>Ends a schedule; what it has sent stays.</summary>
    /// <exception cref="FastQException">There is none of this name.</exception>
    public void DeleteSchedule(string name) => _ = ChangeSchedule(name, ScheduleAction.Delete, static (ref FieldWriter _) => { });

    /// <summary>Lets a schedule stand still, over restarts too, or go on: then by the wall clock as it is, and what it missed meanwhile is not sent.</summary>
    /// <exception cref="FastQException">There is none of this name.</exception>
    public ScheduleInfo PauseSchedule(string name, bool isPaused) => ChangeSchedule(name, isPaused ? ScheduleAction.Pause : ScheduleAction.Resume, static (ref FieldWriter _) => { });

    /// <summary>All schedules, by name.</summary>
    public IReadOnlyList<ScheduleInfo> ListSchedules() => ListSchedules("");

    /// <summary>A schedule by its name.</summary>
    /// <exception cref="FastQException">There is none.</exception>
    public ScheduleInfo GetSchedule(string name) => ListSchedules(name) is [ScheduleInfo found] ? found : throw new FastQException(RefusalCode.BadArgument, $"There is no schedule '{name}'");

    private List<ScheduleInfo> ListSchedules(string name) =>
        [.. Ask(CommandKind.ListSchedules, (ref FieldWriter writer) => writer.Text(FieldTag.Name, name)).Where(fields => fields.Length > 0).Select(fields => ScheduleInfo.From(fields))];

    private ScheduleInfo ChangeSchedule(string name, ScheduleAction action, WriteFields writeMore) => ScheduleInfo.From(Ask(CommandKind.ChangeSchedule, (ref FieldWriter writer) =>
    {
        writer.Text(FieldTag.Name, name);
        writer.Number(FieldTag.Action, (ulong)action);
        writeMore(ref writer);
    })[0]);

    private Timeliness ChangeScheduled(CommandKind kind, string queue, string key, WriteFields writeTime)
    {
        uint id = GetQueue(queue).Id;
        byte[] answer = Ask(kind, (ref FieldWriter writer) =>
        {
            writer.Number(FieldTag.Queue, id);
            writer.Text(FieldTag.Key, key);
            writeTime(ref writer);
        })[0];
        return (Timeliness)Connector.Number(answer, FieldTag.Timeliness);
    }
}
