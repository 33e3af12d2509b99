namespace FastQ.Engine;

// Queues that are deleted when nobody uses them. What counts as use is in the state, and in records that are there anyway: a message that
// comes notes the time of its batch, a consumer that leaves likewise; while one is there the queue is in use. To look is no use.

public sealed partial class QueueEngine
{
    private const long LookAgainMicros = 1_000_000;

    /// <summary>Interval time at which the queue has been idle for so long that it goes; <see cref="long.MaxValue"/>: it does not, as it stands. Owners may come back after a restart first.</summary>
    private long IdleMicros(Queue queue)
    {
        if (queue.Attributes.ExpiresMilliseconds == 0 || queue.IsDeleted || queue.Subscriptions.Count > 0 || _schedules.Values.Any(schedule => schedule.Queue == queue))
        {
            return long.MaxValue;
        }

        long idle = Math.Max(queue.LastUsedMicros + queue.Attributes.ExpiresMilliseconds * 1000, GraceUntilMicros);
        return queue.Dying > 0 ? Math.Max(idle, IntervalMicros + LookAgainMicros) : idle; // What is on its way to the dead letters is not lost with it.
    }

    /// <summary>The queue was used.</summary>
    private void Use(Queue queue)
    {
        queue.LastUsedMicros = IntervalMicros;
        if (queue.Attributes.ExpiresMilliseconds != 0)
        {
            NoteQueueTimer(queue, NextDate(queue));
        }
    }
}
