using FastQ.Protocol;

namespace FastQ.Client;

// Single messages, and sweeps over many: what an operator does with what lies in a queue.

public sealed unsafe partial class Session
{
    private static readonly TimeSpan s_firstLook = TimeSpan.FromMilliseconds(1);
    private static readonly TimeSpan s_longestLook = TimeSpan.FromMilliseconds(200);

    /// <summary>Begins to move or delete messages of a queue, in the background; it goes on over restarts of the broker. One a queue at a time.</summary>
    /// <remarks>A message that is moved keeps its id, headers, story and time of acceptance, what is left of its times, and counts its deliveries anew. It is in one of both queues at every moment. What consumers hold stays theirs, and is passed over.</remarks>
    /// <exception cref="FastQException">A sweep of the queue is under way, the target is not there, or the filter is not understood.</exception>
    public SweepInfo StartSweep(string queue, SweepOptions options)
    {
        uint id = GetQueue(queue).Id;
        return SweepInfo.From(Ask(CommandKind.StartSweep, (ref FieldWriter writer) =>
        {
            writer.Number(FieldTag.Queue, id);
            writer.Number(FieldTag.Action, (ulong)options.Action);
            writer.Text(FieldTag.Target, options.To ?? "");
            writer.Text(FieldTag.Filter, options.Filter);
            writer.Number(FieldTag.Rate, (ulong)Math.Max(0, options.RateASecond));
            if (options.Tag != 0)
            {
                writer.Number(FieldTag.Tag, options.Tag);
            }
        })[0]);
    }

    /// <summary>The sweep of a queue, under way or the last one.</summary>
    public SweepInfo GetSweep(string queue)
    {
        uint id = GetQueue(queue).Id;
        return SweepInfo.From(Ask(CommandKind.ShowSweep, (ref FieldWriter writer) => writer.Number(FieldTag.Queue, id))[0]);
    }

    /// <summary>Ends the sweep of a queue; what it has done stays done. Nothing happens when none is under way.</summary>
    public SweepInfo CancelSweep(string queue)
    {
        uint id = GetQueue(queue).Id;
        return SweepInfo.From(Ask(CommandKind.CancelSweep, (ref FieldWriter writer) => writer.Number(FieldTag.Queue, id))[0]);
    }

    /// <summary>Waits until a queue's sweep has ended.</summary>
    /// <param name="queue">The queue's name.</param>
    /// <param name="progress">Told at each look; false ends the waiting, not the sweep.</param>
    public SweepInfo WaitForSweep(string queue, Func<SweepInfo, bool>? progress = null)
    {
        TimeSpan wait = s_firstLook;
        SweepInfo sweep = GetSweep(queue);
        while (sweep.State == SweepState.Running && progress?.Invoke(sweep) != false)
        {
            WaitForNewsWithin(wait);
            wait = wait * 2 < s_longestLook ? wait * 2 : s_longestLook;
            sweep = GetSweep(queue);
        }

        return sweep;
    }

    /// <summary>Removes one message that is with nobody; it counts as purged.</summary>
    /// <param name="queue">The queue's name.</param>
    /// <param name="tag">The message's place, as <see cref="Browse"/> shows it.</param>
    /// <exception cref="FastQException">There is none, or it is with a consumer.</exception>
    public void DeleteMessage(string queue, ulong tag)
    {
        uint id = GetQueue(queue).Id;
        _ = Ask(CommandKind.DeleteMessage, (ref FieldWriter writer) =>
        {
            writer.Number(FieldTag.Queue, id);
            writer.Number(FieldTag.Tag, tag);
        });
    }

    /// <summary>Gives one message that waits another priority, another time, or both; it keeps its place and all else.</summary>
    /// <param name="queue">The queue's name.</param>
    /// <param name="tag">The message's place, as <see cref="Browse"/> shows it.</param>
    /// <param name="priority">In a queue with <see cref="QueueOptions.Priority"/>. What the message itself says of it stays. Null: as it is.</param>
    /// <param name="delay">From now on; zero: it may be delivered at once. Null: as it is.</param>
    /// <exception cref="FastQException">There is none, it is with a consumer, or the queue has no priority.</exception>
    public void ChangeMessage(string queue, ulong tag, byte? priority = null, TimeSpan? delay = null)
    {
        uint id = GetQueue(queue).Id;
        _ = Ask(CommandKind.ChangeMessage, (ref FieldWriter writer) =>
        {
            writer.Number(FieldTag.Queue, id);
            writer.Number(FieldTag.Tag, tag);
            if (priority is byte wanted)
            {
                writer.Number(FieldTag.Priority, wanted);
            }

            if (delay is TimeSpan wait)
            {
                writer.Number(FieldTag.DelayMilliseconds, (ulong)PublishOptions.Milliseconds(wait, "delay"));
            }
        });
    }
}
