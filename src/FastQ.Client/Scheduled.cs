using FastQ.Protocol;

namespace FastQ.Client;

// Messages that wait for their time under a schedule key, by their key.

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
