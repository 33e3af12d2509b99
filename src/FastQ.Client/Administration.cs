using System.Runtime.InteropServices;
using System.Text;
using FastQ.Protocol;

namespace FastQ.Client;

// Commands: one at a time, each waits for its answer. One whose answer was lost with the broker is asked again.

public sealed unsafe partial class Session
{
    private delegate void WriteFields(ref FieldWriter writer);

    private ulong _awaited;
    private bool _isAnswered;
    private RefusalCode _answerCode;
    private ulong _answerValue;
    private readonly List<byte[]> _answers = [];

    /// <summary>Makes a queue; one that exists with the same attributes is fine.</summary>
    /// <param name="name">1 to 255 bytes of UTF-8.</param>
    /// <param name="options">Its attributes; null: the defaults.</param>
    public QueueInfo DeclareQueue(string name, QueueOptions? options = null) => QueueInfo.From(Ask(CommandKind.DeclareQueue, (ref FieldWriter writer) =>
    {
        writer.Text(FieldTag.Name, name);
        options?.Write(ref writer);
    })[0]);

    /// <summary>Throws what a declaration of such a queue would, if there were none of the name; does nothing.</summary>
    /// <inheritdoc cref="DeclareQueue"/>
    public void JudgeQueue(string name, QueueOptions? options = null) => _ = Ask(CommandKind.JudgeQueue, (ref FieldWriter writer) =>
    {
        writer.Text(FieldTag.Name, name);
        options?.Write(ref writer);
    });

    /// <summary>Gives a queue other attributes while it runs; those that are null stay as they are. Messages and subscriptions that are there keep their times; a limit counts from the next message on.</summary>
    /// <returns>The queue as it is then.</returns>
    public QueueInfo ChangeQueue(string name, QueueOptions changes)
    {
        uint id = GetQueue(name).Id;
        return QueueInfo.From(Ask(CommandKind.ChangeQueue, (ref FieldWriter writer) =>
        {
            writer.Number(FieldTag.Queue, id);
            changes.Write(ref writer);
        })[0]);
    }

    /// <summary>Stops a queue's ways, or lets them go on; kept over restarts. What consumers hold stays theirs.</summary>
    /// <param name="name">The queue's.</param>
    /// <param name="ways">Those that stand still from now on; none: all go on.</param>
    /// <returns>The queue as it is then.</returns>
    public QueueInfo PauseQueue(string name, PausedWays ways)
    {
        uint id = GetQueue(name).Id;
        return QueueInfo.From(Ask(CommandKind.PauseQueue, (ref FieldWriter writer) =>
        {
            writer.Number(FieldTag.Queue, id);
            writer.Number(FieldTag.Paused, (ulong)ways);
        })[0]);
    }

    /// <summary>A queue by its name.</summary>
    public QueueInfo GetQueue(string name) => QueueInfo.From(Ask(CommandKind.ShowQueue, (ref FieldWriter writer) => writer.Text(FieldTag.Name, name))[0]);

    /// <summary>All queues, by name.</summary>
    public IReadOnlyList<QueueInfo> ListQueues() => [.. Ask(CommandKind.ListQueues, static (ref FieldWriter _) => { }).Where(fields => fields.Length > 0).Select(fields => QueueInfo.From(fields))];

    /// <summary>Deletes a queue with all that it holds.</summary>
    public void DeleteQueue(string name)
    {
        uint id = GetQueue(name).Id;
        _ = Ask(CommandKind.DeleteQueue, (ref FieldWriter writer) => writer.Number(FieldTag.Queue, id));
    }

    /// <summary>Empties a queue of what is ready; what is in flight stays.</summary>
    /// <returns>How many messages that was.</returns>
    public long PurgeQueue(string name)
    {
        uint id = GetQueue(name).Id;
        byte[] fields = Ask(CommandKind.PurgeQueue, (ref FieldWriter writer) => writer.Number(FieldTag.Queue, id))[0];
        return (long)Connector.Number(fields, FieldTag.Purged);
    }

    /// <summary>Looks at messages in their places, by tag, without taking them: none is delivered, counted or changed by it. What comes and goes meanwhile may be seen or not.</summary>
    /// <param name="name">The queue's.</param>
    /// <param name="firstTag">Where to begin.</param>
    /// <param name="filter">Only those that match: conditions like <c>reason=rejected and age>1h and header.customer=17</c>; see <c>fastq redrive --help</c>. Empty: all. What cannot be read does not match.</param>
    /// <exception cref="FastQException">The queue is not there, or the filter is not understood.</exception>
    public IEnumerable<BrowsedMessage> Browse(string name, ulong firstTag = 0, string filter = "")
    {
        uint id = GetQueue(name).Id;
        for (ulong tag = firstTag; ;)
        {
            List<byte[]> answers = [.. AskToBrowse(id, tag, filter)];
            foreach (byte[] message in answers.Take(answers.Count - 1))
            {
                yield return BrowsedMessage.From(message);
            }

            tag = Connector.Number(answers[^1], FieldTag.Tag);
            if (tag == 0)
            {
                yield break;
            }
        }
    }

    private List<byte[]> AskToBrowse(uint queue, ulong tag, string filter) => Ask(CommandKind.BrowseQueue, (ref FieldWriter writer) =>
    {
        writer.Number(FieldTag.Queue, queue);
        writer.Number(FieldTag.Tag, tag);
        writer.Text(FieldTag.Filter, filter);
    });

    /// <summary>The broker's statistics, as JSON.</summary>
    public string GetStatistics()
    {
        List<byte[]> parts = Ask(CommandKind.Statistics, static (ref FieldWriter _) => { });
        byte[] json = [.. parts.SelectMany(part => FieldReader.TryBytes(part, FieldTag.Json, out ReadOnlySpan<byte> value) ? value.ToArray() : [])];
        return Encoding.UTF8.GetString(json);
    }

    /// <summary>Subscribes to a queue.</summary>
    public Subscription Subscribe(string queue, SubscribeOptions? options = null)
    {
        Subscription subscription = new(this, OpenQueue(queue).Id, options ?? new SubscribeOptions());
        subscription.SetCreditInForce((uint)subscription.Options.Credit);
        Subscribe(subscription);
        return subscription;
    }

    private void Subscribe(Subscription subscription)
    {
        _ = Ask(CommandKind.Subscribe, (ref FieldWriter writer) => WriteSubscribe(ref writer, subscription), beforeRuns: answer =>
        {
            subscription.Restart((uint)Connector.Number(answer, FieldTag.Subscription), Connector.Number(answer, FieldTag.FirstDelivery));
            subscription.Lease = TimeSpan.FromMilliseconds(Connector.Number(answer, FieldTag.LeaseMilliseconds));
            _subscriptions[subscription.Id] = subscription;
        });
    }

    /// <summary>The first time, and when a restarted broker does not know it any more.</summary>
    private static void WriteSubscribe(ref FieldWriter writer, Subscription subscription)
    {
        writer.Number(FieldTag.Queue, subscription.Queue);
        writer.Number(FieldTag.LeaseMilliseconds, (ulong)(subscription.Options.Lease?.TotalMilliseconds ?? 0));
        writer.Number(FieldTag.CreditMessages, subscription.Credit);
        writer.Number(FieldTag.CreditBytes, (ulong)subscription.Options.CreditBytes);
        writer.Number(FieldTag.ConsumerPriority, subscription.Options.Priority);
        writer.Number(FieldTag.Exclusive, subscription.Options.IsExclusive ? 1u : 0u);
    }

    /// <summary>Ends a subscription; deliveries from this number on were not handed out, and go back uncounted.</summary>
    internal void Close(Subscription subscription, ulong firstNotHandedOut)
    {
        subscription.FlushSettles();
        GiveUpRuns(subscription);
        if (!_subscriptions.ContainsKey(subscription.Id) || subscription.Ended is not null)
        {
            return;
        }

        _ = Ask(CommandKind.Unsubscribe, (ref FieldWriter writer) =>
        {
            writer.Number(FieldTag.Subscription, subscription.Id);
            writer.Number(FieldTag.FirstDelivery, firstNotHandedOut);
        });
        _subscriptions.Remove(subscription.Id);
        GiveUpRuns(subscription);
        subscription.End(new FastQException(RefusalCode.Closed));
    }

    /// <summary>Runs that came and were not handed out go back to their places.</summary>
    private void GiveUpRuns(Subscription subscription)
    {
        while (subscription.Waiting.TryDequeue(out DeliveryRun? run))
        {
            run.IsTaken = true;
            End(run);
        }

        if (subscription.Current is DeliveryRun current)
        {
            subscription.Current = null;
            End(current);
        }
    }

    private void CloseOrderly()
    {
        TimeSpan patience = TimeSpan.FromSeconds(5);
        foreach (Subscription subscription in _subscriptions.Values.ToArray())
        {
            Close(subscription, subscription.NextDelivery);
        }

        FlushAllSettles();
        ulong last = LastNumber;
        Deadline deadline = new(_options.Surroundings, patience);
        while (Counter(ConfirmLevel.Written) < last && WaitForNews(deadline))
        {
        }

        SendControl(new ControlRecord { Kind = RecordKind.Bye });
    }

    /// <summary>Sends a command and waits for its answer; asks again when the broker died with the answer.</summary>
    /// <param name="kind">What.</param>
    /// <param name="write">Writes its fields.</param>
    /// <param name="beforeRuns">Called with a good answer before anything that comes after it in the ring is looked at.</param>
    private List<byte[]> Ask(CommandKind kind, WriteFields write, Action<byte[]>? beforeRuns = null)
    {
        ObjectDisposedException.ThrowIf(IsClosed, this);
        bool isRepeated = false;
        while (true)
        {
            FieldWriter writer = new(new byte[4096]);
            write(ref writer);
            if (writer.Overflowed)
            {
                writer = new FieldWriter(new byte[Limits.MaxCommandBytes]);
                write(ref writer);
            }

            if (writer.Overflowed)
            {
                throw new FastQException(RefusalCode.BadArgument, "The command does not fit in its record");
            }

            _answers.Clear();
            (_isAnswered, _onAnswer) = (false, beforeRuns);
            _awaited = SendCommand(kind, writer.Written, ConfirmLevel.Written);
            int reconnects = Reconnects;
            Deadline forEver = new(_options.Surroundings, Timeout.InfiniteTimeSpan);
            while (!_isAnswered && !WasLost(reconnects))
            {
                _ = WaitForNews(forEver);
            }

            _onAnswer = null;
            if (!_isAnswered)
            {
                isRepeated = true;
                continue;
            }

            bool wasDone = isRepeated && ((kind == CommandKind.DeleteQueue && _answerCode is RefusalCode.UnknownQueue or RefusalCode.QueueDeleted) || (kind == CommandKind.DeleteExchange && _answerCode == RefusalCode.UnknownExchange));
            if (_answerCode != RefusalCode.None && !wasDone)
            {
                string text = _answers.Count > 0 && FieldReader.TryBytes(_answers[^1], FieldTag.Text, out ReadOnlySpan<byte> words) ? Encoding.UTF8.GetString(words) : "";
                throw new FastQException(_answerCode, text, _answerValue);
            }

            return _answers;
        }
    }

    private Action<byte[]>? _onAnswer;

    /// <summary>The broker had decided the command, and died with its answer.</summary>
    private bool WasLost(int reconnectsBefore) => Reconnects != reconnectsBefore && _awaited < _resumedAt;

    private ulong SendCommand(CommandKind kind, ReadOnlySpan<byte> fields, ConfirmLevel level)
    {
        int length = CommandRecord.SizeBytes + fields.Length;
        EnsureRoom(length);
        Span<byte> room = _outbox.Ring.Next(length);
        MemoryMarshal.Write(room, new CommandRecord { LengthBytes = (uint)length, Kind = RecordKind.Command, Flags = (byte)level, Command = kind, Number = _nextNumber });
        fields.CopyTo(room[CommandRecord.SizeBytes..]);
        return Commit(length, level);
    }

    private void TakeAnswer(ReadOnlySpan<byte> record)
    {
        if (record.Length < AnswerRecord.SizeBytes)
        {
            return;
        }

        AnswerRecord answer = MemoryMarshal.Read<AnswerRecord>(record);
        byte[] payload = record[AnswerRecord.SizeBytes..].ToArray();
        if (answer.Number != _awaited || _isAnswered)
        {
            TakeResumeAnswer(answer, payload);
            return;
        }

        _answers.Add(payload);
        if ((answer.Flags & AnswerRecord.More) != 0)
        {
            return;
        }

        (_answerCode, _answerValue, _isAnswered) = (answer.Code, answer.Value, true);
        if (answer.Code == RefusalCode.None)
        {
            _onAnswer?.Invoke(payload);
        }
    }
}
