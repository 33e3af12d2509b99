using System.Runtime.InteropServices;
using FastQ.Engine;
using FastQ.Journal;
using FastQ.Protocol;

namespace FastQ.Broker;

// Sweeps: some messages each turn are read, judged by the sweep's filter, and moved or deleted. What cannot go now (a target that is full,
// no room) is tried again; what never can (its target is gone, its bytes are rotten) stays and is counted.

public sealed partial class Broker
{
    private const int SweptATurn = 64;
    private const int SweptBytesATurn = 256 * 1024;
    private const long SweepAgainMicros = 100_000;
    private const long SweepStepMicros = 10_000;
    private (string Text, MessageFilter Filter) _sweepFilter = ("", MessageFilter.All);

    private bool MoveSweeps()
    {
        int bytes = 0;
        int looked = 0;
        while (looked < SweptATurn && bytes < SweptBytesATurn && _engine.HasSweeps && _journal.Room == JournalRoom.Plenty && _engine.TryNextSwept(_now.IntervalMicros, out SweptMessage message))
        {
            bytes += (int)message.View.Place.LengthBytes;
            if (!TrySweep(message))
            {
                break;
            }

            looked++;
        }

        return looked > 0;
    }

    /// <summary>Looks at one message, and does with it what is to be done. False: nothing more now.</summary>
    private bool TrySweep(in SweptMessage message)
    {
        if (message.Block > _journal.WrittenBlock)
        {
            return false; // What it looks at cannot be read yet.
        }

        if (message.View.Tag == 0)
        {
            uint queue = message.Queue;
            return TryWriteFact(room => _engine.EndSweep(queue, SweepState.Finished, room, _journal.OpenBlock));
        }

        MessageFilter filter = FilterOf(message.Sweep.Filter);
        Span<byte> letter = LetterOf((int)message.View.Place.LengthBytes);
        bool isRead = TryReadRecord(message.View.Place, message.Queue, message.View.Tag, letter);
        if (!isRead && !filter.IsAll)
        {
            _engine.PassSwept(message.Queue, message.View.Tag, isDone: false, hasFailed: true);
            return true;
        }

        if (isRead && !filter.Matches(message.View, letter, _now))
        {
            _engine.PassSwept(message.Queue, message.View.Tag, isDone: false, hasFailed: false);
            return true;
        }

        return message.Sweep.Action == SweepAction.Delete ? TryDeleteSwept(message) : TryMoveSwept(message, isRead ? letter : default);
    }

    private bool TryDeleteSwept(in SweptMessage message)
    {
        (uint queue, ulong tag) = (message.Queue, message.View.Tag);
        bool isWritten = TryWriteFact(room =>
        {
            Decision decision = _engine.DeleteMessage(queue, tag, isSwept: true, room, _journal.OpenBlock, out int written);
            Invariant.Holds(decision.IsTaken);
            return written;
        });
        if (isWritten)
        {
            _engine.PassSwept(message.Queue, message.View.Tag, isDone: true, hasFailed: false);
        }

        return isWritten;
    }

    private bool TryMoveSwept(in SweptMessage message, ReadOnlySpan<byte> letter)
    {
        MessageHeader header = letter.IsEmpty ? default : MemoryMarshal.Read<MessageHeader>(letter);
        ReadOnlySpan<byte> properties = letter.IsEmpty ? default : letter.Slice(MessageHeader.SizeBytes, header.PropertyBytes);
        string target = message.Sweep.Target.Length > 0 ? message.Sweep.Target : Transfer.LastQueueOf(properties);
        if (letter.IsEmpty || !FindTarget(target, out uint queue).IsTaken || (queue == message.Queue && !message.View.IsStopped))
        {
            _engine.PassSwept(message.Queue, message.View.Tag, isDone: false, hasFailed: true);
            return true;
        }

        header.Kind = RecordKind.MessageTransferred;
        int propertyBytes = Transfer.Write(properties, message, _story);
        if (!TryWriteAgain(header, target, _story.AsSpan(0, propertyBytes), letter[(MessageHeader.SizeBytes + header.PropertyBytes)..], out Decision decision))
        {
            return false;
        }

        if (decision.IsTaken)
        {
            _engine.PassSwept(message.Queue, message.View.Tag, isDone: true, hasFailed: false);
        }
        else
        {
            _engine.PauseSweep(message.Queue, _now.IntervalMicros + SweepAgainMicros);
        }

        return true;
    }

    /// <summary>Filters of a sweep are parsed once, as long as only one runs.</summary>
    private MessageFilter FilterOf(string text)
    {
        if (_sweepFilter.Text != text)
        {
            // One that this broker does not understand any more matches nothing: nothing is lost by it.
            _sweepFilter = (text, MessageFilter.TryParse(text, out MessageFilter filter, out _) ? filter : MessageFilter.None);
        }

        return _sweepFilter.Filter;
    }

    // ---- commands

    private void DeleteMessage(Session session, in CommandRecord command, ReadOnlySpan<byte> fields, ref Facts facts)
    {
        FieldReader.TryNumber(fields, FieldTag.Tag, out ulong tag);
        Decision decision = _engine.DeleteMessage(IdIn(fields, FieldTag.Queue), tag, isSwept: false, facts.Rest, _journal.OpenBlock, out int written);
        facts.Add(written);
        Answer(session, command, decision, "", static (ref FieldWriter _) => { });
    }

    private void ChangeMessage(Session session, in CommandRecord command, ReadOnlySpan<byte> fields, ref Facts facts)
    {
        FieldReader.TryNumber(fields, FieldTag.Tag, out ulong tag);
        byte? priority = FieldReader.TryNumber(fields, FieldTag.Priority, out ulong wanted) ? (byte)Math.Min(wanted, byte.MaxValue) : null;
        Decision decision = _engine.ChangeMessage(IdIn(fields, FieldTag.Queue), tag, priority, DueIn(fields), facts.Rest, _journal.OpenBlock, out int written);
        facts.Add(written);
        Answer(session, command, decision, "", static (ref FieldWriter _) => { });
    }

    /// <summary>The interval time that a command names, as a delay from now on or as a moment of the wall clock; null: it names none.</summary>
    private long? DueIn(ReadOnlySpan<byte> fields)
    {
        long? due = FieldReader.TryNumber(fields, FieldTag.DelayMilliseconds, out ulong delay) ? _now.IntervalMicros + (long)Math.Min(delay, Limits.MaxDelayMilliseconds) * 1000 : null;
        return FieldReader.TryNumber(fields, FieldTag.DueMicros, out ulong moment) ? _now.IntervalMicros + Math.Clamp((long)Math.Min(moment, long.MaxValue) - _now.WallMicros, 0, Limits.MaxDelayMilliseconds * 1000) : due;
    }

    private void StartSweep(Session session, in CommandRecord command, ReadOnlySpan<byte> fields, ref Facts facts)
    {
        string filter = TextIn(fields, FieldTag.Filter);
        if (!MessageFilter.TryParse(filter, out _, out string fault))
        {
            Answer(session, command, Decision.Refuse(RefusalCode.BadArgument), fault, static (ref FieldWriter _) => { });
            return;
        }

        FieldReader.TryNumber(fields, FieldTag.Action, out ulong action);
        FieldReader.TryNumber(fields, FieldTag.Rate, out ulong rate);
        ulong first = FieldReader.TryNumber(fields, FieldTag.Tag, out ulong tag) ? tag : 0;
        SweepView order = new((SweepAction)Math.Min(action, byte.MaxValue), first, first == 0 ? 0 : first + 1, TextIn(fields, FieldTag.Target), filter, (uint)Math.Min(rate, uint.MaxValue), default, 0, 0);
        uint queue = IdIn(fields, FieldTag.Queue);
        Decision decision = _engine.StartSweep(queue, order, facts.Rest, _journal.OpenBlock, out int written);
        facts.Add(written);
        AnswerSweep(session, command, decision, queue);
    }

    private void ShowSweep(Session session, in CommandRecord command, ReadOnlySpan<byte> fields)
    {
        uint queue = IdIn(fields, FieldTag.Queue);
        AnswerSweep(session, command, _engine.IsQueue(queue) ? Decision.Taken : Decision.Refuse(RefusalCode.UnknownQueue), queue);
    }

    private void CancelSweep(Session session, in CommandRecord command, ReadOnlySpan<byte> fields, ref Facts facts)
    {
        uint queue = IdIn(fields, FieldTag.Queue);
        facts.Add(_engine.EndSweep(queue, SweepState.Cancelled, facts.Rest, _journal.OpenBlock));
        AnswerSweep(session, command, _engine.IsQueue(queue) ? Decision.Taken : Decision.Refuse(RefusalCode.UnknownQueue), queue);
    }

    private void AnswerSweep(Session session, in CommandRecord command, Decision decision, uint queue) =>
        Answer(session, command, decision, "", (ref FieldWriter writer) =>
        {
            _ = _engine.TryViewSweep(queue, out SweepView sweep);
            writer.Number(FieldTag.State, (ulong)sweep.State);
            writer.Number(FieldTag.Action, (ulong)sweep.Action);
            writer.Text(FieldTag.Target, sweep.Target ?? "");
            writer.Text(FieldTag.Filter, sweep.Filter ?? "");
            writer.Number(FieldTag.Rate, sweep.RateASecond);
            writer.Number(FieldTag.Done, sweep.Done);
            writer.Number(FieldTag.Failed, sweep.Failed);
        });

    private static string TextIn(ReadOnlySpan<byte> fields, FieldTag tag) => FieldReader.TryBytes(fields, tag, out ReadOnlySpan<byte> text) ? System.Text.Encoding.UTF8.GetString(text) : "";
}
