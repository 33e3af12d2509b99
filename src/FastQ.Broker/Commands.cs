using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using FastQ.Engine;
using FastQ.Journal;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Broker;

// Commands and their answers. Cold: they may allocate. A command is one number; its facts and its end stand in the same block.

public sealed partial class Broker
{
    private bool TryTakeCommand(Session session, RingReader ring, RecordPrefix prefix)
    {
        if (prefix.LengthBytes is < CommandRecord.SizeBytes or > CommandRecord.SizeBytes + Limits.MaxCommandBytes)
        {
            End(session, RefusalCode.RingViolation, $"A command record has {prefix.LengthBytes} bytes.");
            return true;
        }

        int most = Math.Max(3 * QueueEngine.MaxFactBytes, Limits.Align((int)prefix.LengthBytes) + 2 * QueueEngine.MaxFactBytes); // A schedule is kept with its message.
        if (!_journal.TryReserve(SourceRecord.SizeBytes + most, out Span<byte> room, out _))
        {
            return false;
        }

        byte[] copy = ring.Bytes((int)prefix.LengthBytes).ToArray();
        CommandRecord command = MemoryMarshal.Read<CommandRecord>(copy);
        int source = BeginSource(session.Producer, room);
        Decision number = _engine.CheckNumber(command.Number);
        if (!number.IsTaken)
        {
            return Conclude(session, number, command.Number, room, source);
        }

        Facts facts = new(room, source);
        Execute(session, command, copy.AsSpan(CommandRecord.SizeBytes), ref facts);
        facts.Add(_engine.FinishCommand(command.Number, facts.Rest, _journal.OpenBlock));
        _journal.Commit(facts.Bytes, facts.Records + (source > 0 ? 1u : 0u));
        session.Decided = command.Number;
        _waitingForDurable += (command.Flags & MessageHeader.ConfirmMask) == (int)ConfirmLevel.Durable ? 1 : 0;
        TakeOrphansAndEnds();
        _ = PumpAnswers(session);
        session.RefusalHead = session.Rings.Deliveries.Head; // An answer, too, comes before its number counts as decided.
        Touch(session);
        return true;
    }

    /// <summary>Facts being written one after the other.</summary>
    private ref struct Facts(Span<byte> room, int start)
    {
        private readonly Span<byte> _room = room;

        public int Bytes { get; private set; } = start;

        public uint Records { get; private set; }

        public readonly Span<byte> Rest => _room[Bytes..];

        public void Add(int written)
        {
            Bytes += written;
            Records += written > 0 ? 1u : 0u;
        }
    }

    private void Execute(Session session, in CommandRecord command, ReadOnlySpan<byte> fields, ref Facts facts)
    {
        switch (command.Command)
        {
            case CommandKind.DeclareQueue:
                Declare(session, command, fields, ref facts);
                break;
            case CommandKind.DeleteQueue:
                Decision deletion = _engine.DeleteQueue(IdIn(fields, FieldTag.Queue), facts.Rest, _journal.OpenBlock, out int written);
                facts.Add(written);
                Answer(session, command, deletion, "", static (ref FieldWriter _) => { });
                break;
            case CommandKind.PurgeQueue:
                Decision purge = _engine.PurgeQueue(IdIn(fields, FieldTag.Queue), facts.Rest, _journal.OpenBlock, out written, out ulong purged);
                facts.Add(written);
                Answer(session, command, purge, "", (ref FieldWriter writer) => writer.Number(FieldTag.Purged, purged));
                break;
            case CommandKind.ChangeQueue:
                Decision change = _engine.ChangeQueue(IdIn(fields, FieldTag.Queue), fields, facts.Rest, _journal.OpenBlock, out written, out string fault);
                facts.Add(written);
                AnswerView(session, command, change, IdIn(fields, FieldTag.Queue), fault);
                break;
            case CommandKind.PauseQueue when FieldReader.TryNumber(fields, FieldTag.Subscription, out _):
                PauseSubscription(session, command, fields, ref facts);
                break;
            case CommandKind.PauseQueue:
                ulong ways = FieldReader.TryNumber(fields, FieldTag.Paused, out ulong wanted) ? wanted : ulong.MaxValue;
                Decision pause = _engine.PauseQueue(IdIn(fields, FieldTag.Queue), (PausedWays)Math.Min(ways, byte.MaxValue), facts.Rest, _journal.OpenBlock, out written);
                facts.Add(written);
                AnswerView(session, command, pause, IdIn(fields, FieldTag.Queue), "");
                break;
            case CommandKind.FindQueue:
            case CommandKind.ShowQueue:
                Show(session, command, fields);
                break;
            case CommandKind.ListQueues:
                List(session, command);
                break;
            case CommandKind.Subscribe:
                Subscribe(session, command, fields, ref facts);
                break;
            case CommandKind.ResumeSubscription:
                Resume(session, command, fields, ref facts);
                break;
            case CommandKind.Unsubscribe:
                Unsubscribe(session, command, fields, ref facts);
                break;
            case CommandKind.Sync:
                Answer(session, command, Decision.Taken, "", static (ref FieldWriter _) => { });
                break;
            case CommandKind.BrowseQueue:
                Browse(session, command, fields);
                break;
            case CommandKind.DeleteMessage:
                DeleteMessage(session, command, fields, ref facts);
                break;
            case CommandKind.ChangeMessage:
                ChangeMessage(session, command, fields, ref facts);
                break;
            case CommandKind.StartSweep:
                StartSweep(session, command, fields, ref facts);
                break;
            case CommandKind.ShowSweep:
                ShowSweep(session, command, fields);
                break;
            case CommandKind.CancelSweep:
                CancelSweep(session, command, fields, ref facts);
                break;
            case CommandKind.DeclareExchange:
                DeclareExchange(session, command, fields, ref facts);
                break;
            case CommandKind.DeleteExchange:
                DeleteExchange(session, command, fields, ref facts);
                break;
            case CommandKind.ShowExchange:
                ShowExchange(session, command, fields);
                break;
            case CommandKind.ListExchanges:
                ListExchanges(session, command);
                break;
            case CommandKind.Bind or CommandKind.Unbind:
                Bind(session, command, fields, ref facts);
                break;
            case CommandKind.AcceptProcessed:
                AcceptProcessed(session, command, fields, ref facts);
                break;
            case CommandKind.FindProcessed:
                FindProcessed(session, command, fields);
                break;
            case CommandKind.JudgeQueue:
                Judge(session, command, fields);
                break;
            case CommandKind.CancelScheduled:
            case CommandKind.Reschedule:
                ChangeScheduled(session, command, fields, ref facts);
                break;
            case CommandKind.ChangeSchedule:
                ChangeSchedule(session, command, fields, ref facts);
                break;
            case CommandKind.ListSchedules:
                ListSchedules(session, command, fields);
                break;
            case CommandKind.SetLimit:
                SetLimit(session, command, fields, ref facts);
                break;
            case CommandKind.ListLimits:
                ListLimits(session, command);
                break;
            case CommandKind.ListSubscriptions:
                ListSubscriptions(session, command, fields);
                break;
            case CommandKind.Statistics:
                AnswerJson(session, command, StatisticsJson());
                break;
            default:
                Answer(session, command, Decision.Refuse(RefusalCode.UnknownRecord), $"Command {(int)command.Command} is not known to this broker.", static (ref FieldWriter _) => { });
                break;
        }
    }

    private void Declare(Session session, in CommandRecord command, ReadOnlySpan<byte> fields, ref Facts facts)
    {
        FieldReader.TryBytes(fields, FieldTag.Name, out ReadOnlySpan<byte> name);
        FieldReader.TryNumber(fields, FieldTag.Temporary, out ulong temporary);
        Decision decision = _engine.DeclareQueue(name, QueueAttributes.From(fields), facts.Rest, _journal.OpenBlock, out int written, out uint queue, out bool isNew, out string difference, temporary != 0 ? session.Producer : 0);
        facts.Add(written);
        Answer(session, command, decision, difference.Length > 0 ? $"{(decision.Code == RefusalCode.QueueExists ? "its " : "")}{difference}" : "", (ref FieldWriter writer) =>
        {
            writer.Number(FieldTag.Created, isNew ? 1u : 0u);
            WriteView(ref writer, _engine.View(queue));
        });
    }

    private static void Judge(Session session, in CommandRecord command, ReadOnlySpan<byte> fields)
    {
        FieldReader.TryBytes(fields, FieldTag.Name, out ReadOnlySpan<byte> name);
        Decision decision = QueueEngine.JudgeQueue(name, QueueAttributes.From(fields), out string fault);
        Answer(session, command, decision, fault, static (ref FieldWriter _) => { });
    }

    private void Show(Session session, in CommandRecord command, ReadOnlySpan<byte> fields)
    {
        uint queue = 0;
        if (FieldReader.TryBytes(fields, FieldTag.Name, out ReadOnlySpan<byte> name))
        {
            _ = _engine.TryFindQueue(name, out queue);
        }
        else
        {
            queue = IdIn(fields, FieldTag.Queue);
        }

        AnswerView(session, command, _engine.IsQueue(queue) ? Decision.Taken : Decision.Refuse(RefusalCode.UnknownQueue), queue, "");
    }

    private void AnswerView(Session session, in CommandRecord command, Decision decision, uint queue, string fault) =>
        Answer(session, command, decision, fault, (ref FieldWriter writer) => WriteView(ref writer, _engine.View(queue)));

    private void List(Session session, in CommandRecord command)
    {
        foreach (uint queue in _engine.QueueIds)
        {
            session.Answers.Enqueue(AnswerOf(command, Decision.Taken, "", AnswerRecord.More, (ref FieldWriter writer) => WriteView(ref writer, _engine.View(queue))));
        }

        Answer(session, command, Decision.Taken, "", static (ref FieldWriter _) => { });
    }

    private void Subscribe(Session session, in CommandRecord command, ReadOnlySpan<byte> fields, ref Facts facts)
    {
        uint queue = IdIn(fields, FieldTag.Queue);
        FieldReader.TryNumber(fields, FieldTag.LeaseMilliseconds, out ulong lease);
        FieldReader.TryNumber(fields, FieldTag.ConsumerPriority, out ulong priority);
        FieldReader.TryNumber(fields, FieldTag.Exclusive, out ulong exclusive);
        Decision decision = _engine.Subscribe(queue, session.Producer, (long)Math.Min(lease, long.MaxValue), priority, exclusive != 0, facts.Rest, _journal.OpenBlock, out int written, out uint subscription);
        facts.Add(written);
        if (decision.IsTaken)
        {
            Attach(session, subscription, queue, fields, 1);
        }

        AnswerSubscription(session, command, decision, subscription);
    }

    private void Resume(Session session, in CommandRecord command, ReadOnlySpan<byte> fields, ref Facts facts)
    {
        uint subscription = IdIn(fields, FieldTag.Subscription);
        FieldReader.TryNumber(fields, FieldTag.FirstDelivery, out ulong firstNotTaken);
        if (session.Subscriptions.ContainsKey(subscription) && _engine.IsSubscription(subscription))
        {
            // Said again: an earlier connection's word was lost and is resent. What this session was given since is not given back for it.
            SetCredit(subscription, fields);
            AnswerSubscription(session, command, Decision.Taken, subscription);
            return;
        }

        int written = 0;
        Decision decision = IsUnreleased(subscription)
            ? Decision.Refuse(RefusalCode.UnknownSubscription)
            : _engine.ResumeSubscription(subscription, session.Producer, firstNotTaken, facts.Rest, _journal.OpenBlock, out written);
        facts.Add(written);
        if (decision.IsTaken)
        {
            // Numbers are never used again: what comes next has the engine's next number, whatever was not taken.
            Attach(session, subscription, _engine.ViewSubscription(subscription).Queue, fields, _engine.ViewSubscription(subscription).NextDelivery);
        }

        AnswerSubscription(session, command, decision, subscription);
    }

    private void Attach(Session session, uint subscription, uint queue, ReadOnlySpan<byte> fields, ulong firstNotTaken)
    {
        session.Subscriptions[subscription] = new SessionSubscription(subscription, queue) { FirstNotTaken = firstNotTaken };
        _bySubscription[subscription] = session;
        SetCredit(subscription, fields);
    }

    private void SetCredit(uint subscription, ReadOnlySpan<byte> fields)
    {
        FieldReader.TryNumber(fields, FieldTag.CreditMessages, out ulong messages);
        ulong bytes = FieldReader.TryNumber(fields, FieldTag.CreditBytes, out ulong credit) ? credit : ulong.MaxValue;
        _engine.SetCredit(subscription, (uint)Math.Min(messages, Limits.MaxCredit), bytes);
    }

    private void AnswerSubscription(Session session, in CommandRecord command, Decision decision, uint subscription) =>
        Answer(session, command, decision, "", (ref FieldWriter writer) =>
        {
            (uint queue, long lease, ulong next, _) = _engine.ViewSubscription(subscription);
            writer.Number(FieldTag.Subscription, subscription);
            writer.Number(FieldTag.Queue, queue);
            writer.Number(FieldTag.FirstDelivery, next);
            writer.Number(FieldTag.LeaseMilliseconds, (ulong)lease);
        });

    private void Unsubscribe(Session session, in CommandRecord command, ReadOnlySpan<byte> fields, ref Facts facts)
    {
        uint subscription = IdIn(fields, FieldTag.Subscription);
        ulong firstNotTaken = FieldReader.TryNumber(fields, FieldTag.FirstDelivery, out ulong first) ? first : ulong.MaxValue;
        Decision decision = Decision.Refuse(RefusalCode.UnknownSubscription);
        if (session.Subscriptions.Remove(subscription, out SessionSubscription? known))
        {
            _bySubscription.Remove(subscription);
            ReturnReferences(session, subscription, 0, uint.MaxValue);
            decision = _engine.Unsubscribe(subscription, session.Producer, firstNotTaken, facts.Rest, _journal.OpenBlock, out int written);
            facts.Add(written);
            TellRemoved(session, known.Queue, subscription, RefusalCode.Closed);
        }

        Answer(session, command, decision, "", static (ref FieldWriter _) => { });
    }

    /// <summary>An id; 0, which is nobody's, where it is missing or larger than an id can be.</summary>
    private static uint IdIn(ReadOnlySpan<byte> fields, FieldTag tag) => FieldReader.TryNumber(fields, tag, out ulong id) && id <= uint.MaxValue ? (uint)id : 0;

    private delegate void WriteFields(ref FieldWriter writer);

    private static void Answer(Session session, in CommandRecord command, Decision decision, string text, WriteFields write) =>
        session.Answers.Enqueue(AnswerOf(command, decision, text, 0, write));

    private static byte[] AnswerOf(in CommandRecord command, Decision decision, string text, byte flags, WriteFields write)
    {
        Span<byte> room = stackalloc byte[4096];
        FieldWriter writer = new(room);
        if (decision.IsTaken)
        {
            write(ref writer);
        }
        else
        {
            writer.Text(FieldTag.Text, text.Length > 0 ? text : decision.Limit);
        }

        Invariant.Holds(!writer.Overflowed);
        return AnswerBytes(command, decision, flags, writer.Written);
    }

    private static byte[] AnswerBytes(in CommandRecord command, Decision decision, byte flags, ReadOnlySpan<byte> payload)
    {
        byte[] bytes = new byte[Limits.Align(AnswerRecord.SizeBytes + payload.Length)];
        MemoryMarshal.Write(bytes, new AnswerRecord { LengthBytes = (uint)(AnswerRecord.SizeBytes + payload.Length), Kind = RecordKind.Answer, Flags = flags, Code = decision.Code, Number = command.Number, Cookie = command.Cookie, Value = decision.Value });
        payload.CopyTo(bytes.AsSpan(AnswerRecord.SizeBytes));
        return bytes;
    }

    private static void AnswerJson(Session session, in CommandRecord command, byte[] json)
    {
        const int PartBytes = 8192;
        for (int at = 0; at < json.Length; at += PartBytes)
        {
            ReadOnlySpan<byte> part = json.AsSpan(at, Math.Min(PartBytes, json.Length - at));
            byte[] room = new byte[PartBytes + 16];
            FieldWriter writer = new(room);
            writer.Bytes(FieldTag.Json, part);
            bool isLast = at + PartBytes >= json.Length;
            session.Answers.Enqueue(AnswerBytes(command, Decision.Taken, isLast ? (byte)0 : AnswerRecord.More, writer.Written));
        }
    }

    private static void WriteView(ref FieldWriter writer, in QueueView view)
    {
        writer.Text(FieldTag.Name, view.Name);
        writer.Number(FieldTag.Queue, view.Id);
        view.Attributes.Write(ref writer);
        writer.Number(FieldTag.Ready, (ulong)view.Ready);
        writer.Number(FieldTag.InFlight, (ulong)view.InFlight);
        writer.Number(FieldTag.Delayed, (ulong)view.Delayed);
        writer.Number(FieldTag.Damaged, (ulong)view.Damaged);
        writer.Number(FieldTag.DeadLettering, (ulong)view.Dying);
        writer.Number(FieldTag.Messages, (ulong)view.Messages);
        writer.Number(FieldTag.Bytes, (ulong)view.Bytes);
        writer.Number(FieldTag.Consumers, (ulong)view.Consumers);
        writer.Number(FieldTag.Published, view.Published);
        writer.Number(FieldTag.Accepted, view.Accepted);
        writer.Number(FieldTag.Rejected, view.Rejected);
        writer.Number(FieldTag.Exhausted, view.Exhausted);
        writer.Number(FieldTag.Expired, view.Expired);
        writer.Number(FieldTag.Overflowed, view.Overflowed);
        writer.Number(FieldTag.DeadLettered, view.DeadLettered);
        writer.Number(FieldTag.Redelivered, view.Redelivered);
        writer.Number(FieldTag.Purged, view.Purged);
        writer.Number(FieldTag.Moved, view.Moved);
        writer.Number(FieldTag.Paused, (ulong)view.Paused);
        writer.Number(FieldTag.Temporary, view.IsTemporary ? 1u : 0u);
    }

    private byte[] StatisticsJson()
    {
        JournalStatistics journal = _journal.Statistics;
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream))
        {
            json.WriteStartObject();
            json.WriteString("version", _options.ServerVersion);
            json.WriteNumber("pid", Environment.ProcessId);
            json.WriteNumber("uptimeSeconds", Math.Round((_now.IntervalMicros - _startedMicros) / 1e6, 3));
            json.WriteNumber("residentBytes", ThisProcess.ResidentBytes());
            json.WriteNumber("allocatedBytes", GC.GetTotalAllocatedBytes());
            json.WriteNumber("sessions", _sessions.Count);
            json.WriteNumber("repliesDropped", _repliesDropped);
            json.WriteNumber("eventsWaiting", _engine.WaitingEvents);
            json.WriteNumber("eventsDropped", _engine.DroppedEvents);
            json.WriteNumber("queues", _engine.QueueCount);
            json.WriteNumber("messages", _engine.MessageCount);
            json.WriteNumber("indexBytes", _engine.StateBytes);
            json.WriteNumber("epoch", _journal.Epoch);
            json.WriteNumber("turns", _turn);
            json.WriteNumber("slowTurns", _slowTurns);
            json.WriteNumber("longestTurnMicroseconds", _longestTurnMicros);
            json.WriteStartObject("journal");
            json.WriteNumber("writtenBlock", journal.WrittenBlock);
            json.WriteNumber("durableBlock", journal.DurableBlock);
            json.WriteNumber("syncs", journal.Syncs);
            json.WriteNumber("bytesWritten", journal.BytesWritten);
            json.WriteNumber("liveBytes", _engine.LiveBytes);
            json.WriteNumber("slots", journal.Slots);
            json.WriteNumber("slotBytes", journal.SlotBytes);
            json.WriteString("storage", journal.Storage);
            json.WriteNumber("snapshots", journal.Snapshots);
            json.WriteNumber("snapshotBytes", journal.SnapshotBytes);
            json.WriteNumber("lastSnapshotPauseMilliseconds", Math.Round(journal.LastSnapshotPauseMilliseconds, 3));
            json.WriteNumber("longestSnapshotPauseMilliseconds", Math.Round(journal.LongestSnapshotPauseMilliseconds, 3));
            if (_journal.RoomFault is Fault noRoom)
            {
                json.WriteString("roomFault", noRoom.ToString());
            }

            if (_lastSnapshotFault is not null)
            {
                json.WriteString("snapshotFault", _lastSnapshotFault);
            }

            json.WriteEndObject();
            WriteRecovery(json, Recovery);
            json.WriteEndObject();
        }

        return stream.ToArray();
    }

    private static void WriteRecovery(Utf8JsonWriter json, RecoveryReport report)
    {
        json.WriteStartObject("recovery");
        json.WriteString("verdict", report.Verdict);
        json.WriteNumber("milliseconds", Math.Round(report.Milliseconds, 3));
        json.WriteNumber("snapshotBlock", report.SnapshotBlock);
        json.WriteNumber("snapshotsRejected", report.SnapshotsRejected);
        json.WriteNumber("lastBlock", report.LastBlock);
        json.WriteNumber("blocksReplayed", report.BlocksReplayed);
        json.WriteNumber("recordsReplayed", report.RecordsReplayed);
        json.WriteNumber("bytesReplayed", report.BytesReplayed);
        json.WriteNumber("blocksCut", report.BlocksCut);
        json.WriteNumber("blocksProven", report.BlocksProven);
        json.WriteNumber("blocksRewritten", report.BlocksRewritten);
        json.WriteEndObject();
    }
}
