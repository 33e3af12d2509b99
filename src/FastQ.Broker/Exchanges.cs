using System.Runtime.InteropServices;
using FastQ.Engine;
using FastQ.Journal;
using FastQ.Protocol;

namespace FastQ.Broker;

// Messages that are sent to exchanges, and the commands that make and bind those. Which queues a message goes to is decided before its
// record is written, for that tells them; so it is taken out of the open block once more. To one queue it goes as if it had been sent there.

public sealed partial class Broker
{
    private readonly RoutedTarget[] _liveTargets = new RoutedTarget[Limits.MaxFanout];

    /// <summary>Takes a message for an exchange, whose sound copy stands in the open block behind its source and was not kept there yet.</summary>
    /// <returns>False: no room in the journal.</returns>
    private bool TryTakeRouted(Session session, RingReader ring, Span<byte> room, int source, int length, out int taken)
    {
        Span<byte> message = LetterOf(length);
        room.Slice(source, length).CopyTo(message);
        MessageHeader header = MemoryMarshal.Read<MessageHeader>(message);
        Decision decision = _engine.Route(message, out ReadOnlySpan<RoutedTarget> targets);
        decision = decision.IsTaken ? JudgeShared(targets.Length, length) : decision;
        if (!decision.IsTaken)
        {
            taken = Leave(session, ring, length, Conclude(session, decision, header.NumberOrTimeMicros, room, source));
            return true;
        }

        Commit(source, source > 0 ? 1u : 0u);
        taken = 0;
        int bytes = Math.Max(Limits.Align(StoredMessage.OffsetOf(targets.Length) + length), FactRecord.SizeBytes);
        if (!_journal.TryReserve(SourceRecord.SizeBytes + bytes, out room, out Place place))
        {
            return _journal.RoomFault is not null && TryRefuse(session, ring, length, RefusalCode.DiskFull, 0, out taken);
        }

        source = BeginSource(session.Producer, room);
        int written = WriteRouted(message, targets, room[source..], new Place(place.Slot, place.Offset + (uint)source));
        Commit(source + written, source > 0 ? 2u : 1u);
        _waitingForDurable += (header.Flags & MessageHeader.ConfirmMask) == (int)ConfirmLevel.Durable ? 1 : 0;
        session.Decided = header.NumberOrTimeMicros;
        TellRouted(session, header, targets.Length);
        taken = Leave(session, ring, length, isConcluded: true);
        Touch(session);
        return true;
    }

    /// <summary>Tells who asked how many queues took a message; before its number counts as decided, as a refusal would come.</summary>
    private static void TellRouted(Session session, in MessageHeader header, int queues)
    {
        if ((header.Flags & MessageHeader.WantsRouted) != 0)
        {
            Notice(session, new NoticeRecord { Kind = RecordKind.Routed, Number = header.NumberOrTimeMicros, Value = (ulong)queues }, "");
            session.RefusalHead = session.Rings.Deliveries.Head;
        }
    }

    /// <summary>Has a message with so many queues room in a slot, beside what else goes into one? Only where slots are small, and the queues thousands, it has not.</summary>
    private Decision JudgeShared(int targets, int length) => targets <= 1 || StoredMessage.OffsetOf(targets) + length <= _journal.SlotBytes / 4 * 3
        ? Decision.Taken
        : Decision.Refuse(RefusalCode.LimitReached, (ulong)targets, "Queues of one message that has room in a slot of the journal");

    /// <summary>Writes and applies what became of a message for an exchange: nothing, a message of one queue, or one that several share. Bytes written, of one record.</summary>
    private int WriteRouted(ReadOnlySpan<byte> message, ReadOnlySpan<RoutedTarget> targets, Span<byte> room, Place place)
    {
        uint exchange = MemoryMarshal.Read<MessageHeader>(message).Queue;
        if (targets.IsEmpty)
        {
            return _engine.CountUnrouted(exchange, room, _journal.OpenBlock);
        }

        if (targets.Length > 1)
        {
            Span<byte> shared = LayOut(exchange, 0, targets, message, room);
            _engine.PublishRouted(shared, place, _journal.OpenBlock);
            return Limits.Align(shared.Length);
        }

        int aligned = Limits.Align(message.Length);
        MemoryMarshal.Write(room[(aligned - Limits.RecordAlignment)..], 0ul); // The padding.
        message.CopyTo(room);
        MemoryMarshal.AsRef<MessageHeader>(room).Queue = targets[0].Queue;
        Decision decision = _engine.Publish(room[..message.Length], place);
        Invariant.Holds(decision.IsTaken);
        return aligned;
    }

    /// <summary>The record of a message that several queues share, in its room.</summary>
    private static Span<byte> LayOut(uint exchange, byte flags, ReadOnlySpan<RoutedTarget> targets, ReadOnlySpan<byte> message, Span<byte> room)
    {
        int offset = StoredMessage.OffsetOf(targets.Length);
        Span<byte> record = room[..(offset + message.Length)];
        MemoryMarshal.Write(room[(Limits.Align(record.Length) - Limits.RecordAlignment)..], 0ul); // The padding.
        MemoryMarshal.Write(record, new RoutedHeader { LengthBytes = (uint)record.Length, Kind = RecordKind.RoutedMessage, Flags = flags, Exchange = exchange, Count = (uint)targets.Length });
        MemoryMarshal.AsBytes(targets).CopyTo(record[RoutedHeader.SizeBytes..]);
        message.CopyTo(record[offset..]);
        return record;
    }

    /// <summary>Compaction: as <see cref="TryMove"/>, of a message that several queues share. It is written again for those in which it lives.</summary>
    private bool TryMoveRouted(ReadOnlySpan<byte> record, Place place)
    {
        if (!StoredMessage.TryReadRouted(record, out RoutedHeader header, out ReadOnlySpan<RoutedTarget> targets, out ReadOnlySpan<byte> message))
        {
            return true; // The block is whole, so this cannot be; what is not understood stays.
        }

        Place at = new(place.Slot, place.Offset + (uint)StoredMessage.OffsetOf(targets.Length));
        int live = _engine.LiveTargets(targets, at, _liveTargets, out bool isInFlight);
        if (live == 0 || isInFlight)
        {
            return true; // What is in flight may be under a reader's eyes: it is not moved.
        }

        int bytes = Limits.Align(StoredMessage.OffsetOf(live) + message.Length);
        if (!_journal.TryReserve(bytes, out Span<byte> room, out Place to))
        {
            return false;
        }

        Span<byte> moved = LayOut(header.Exchange, RoutedHeader.Moved, _liveTargets.AsSpan(0, live), message, room);
        _engine.PublishRouted(moved, to, _journal.OpenBlock);
        _journal.Commit(bytes, 1);
        return true;
    }

    // ---- commands

    private void DeclareExchange(Session session, in CommandRecord command, ReadOnlySpan<byte> fields, ref Facts facts)
    {
        FieldReader.TryBytes(fields, FieldTag.Name, out ReadOnlySpan<byte> name);
        FieldReader.TryBytes(fields, FieldTag.Alternate, out ReadOnlySpan<byte> alternate);
        FieldReader.TryNumber(fields, FieldTag.ExchangeType, out ulong type);
        Decision decision = _engine.DeclareExchange(name, (ExchangeType)Math.Min(type, byte.MaxValue), alternate, facts.Rest, _journal.OpenBlock, out int written, out uint exchange, out bool isNew);
        facts.Add(written);
        Answer(session, command, decision, "", (ref FieldWriter writer) =>
        {
            writer.Number(FieldTag.Created, isNew ? 1u : 0u);
            WriteExchange(ref writer, _engine.ViewExchange(exchange));
        });
    }

    private void DeleteExchange(Session session, in CommandRecord command, ReadOnlySpan<byte> fields, ref Facts facts)
    {
        Decision decision = _engine.DeleteExchange(ExchangeIn(fields, FieldTag.Name), facts.Rest, _journal.OpenBlock, out int written);
        facts.Add(written);
        Answer(session, command, decision, "", static (ref FieldWriter _) => { });
    }

    private void ShowExchange(Session session, in CommandRecord command, ReadOnlySpan<byte> fields)
    {
        uint exchange = ExchangeIn(fields, FieldTag.Name);
        if (exchange == 0)
        {
            Answer(session, command, Decision.Refuse(RefusalCode.UnknownExchange), "", static (ref FieldWriter _) => { });
            return;
        }

        foreach (BindingView binding in _engine.BindingsOf(exchange))
        {
            session.Answers.Enqueue(AnswerOf(command, Decision.Taken, "", AnswerRecord.More, (ref FieldWriter writer) =>
            {
                writer.Text(binding.IsToExchange ? FieldTag.Target : FieldTag.Name, binding.Target);
                writer.Bytes(FieldTag.RoutingKey, binding.Key.Span);
                writer.Bytes(FieldTag.Arguments, binding.Arguments.Span);
                writer.Number(FieldTag.Match, (ulong)binding.Match);
            }));
        }

        Answer(session, command, Decision.Taken, "", (ref FieldWriter writer) => WriteExchange(ref writer, _engine.ViewExchange(exchange)));
    }

    private void ListExchanges(Session session, in CommandRecord command)
    {
        foreach (uint exchange in _engine.ExchangeIds)
        {
            session.Answers.Enqueue(AnswerOf(command, Decision.Taken, "", AnswerRecord.More, (ref FieldWriter writer) => WriteExchange(ref writer, _engine.ViewExchange(exchange))));
        }

        Answer(session, command, Decision.Taken, "", static (ref FieldWriter _) => { });
    }

    private void Bind(Session session, in CommandRecord command, ReadOnlySpan<byte> fields, ref Facts facts)
    {
        FieldReader.TryBytes(fields, FieldTag.RoutingKey, out ReadOnlySpan<byte> key);
        FieldReader.TryBytes(fields, FieldTag.Arguments, out ReadOnlySpan<byte> arguments);
        FieldReader.TryNumber(fields, FieldTag.Match, out ulong match);
        bool isToExchange = FieldReader.TryBytes(fields, FieldTag.Target, out _);
        uint target = isToExchange ? ExchangeIn(fields, FieldTag.Target) : FieldReader.TryBytes(fields, FieldTag.Name, out ReadOnlySpan<byte> name) && _engine.TryFindQueue(name, out uint queue) ? queue : 0;
        int written = 0;
        Decision decision = target == 0
            ? Decision.Refuse(isToExchange ? RefusalCode.UnknownExchange : RefusalCode.UnknownQueue, 0, "What is to be bound")
            : _engine.Bind(ExchangeIn(fields, FieldTag.Exchange), target, key, arguments, (HeaderMatch)Math.Min(match, byte.MaxValue), command.Command == CommandKind.Bind, facts.Rest, _journal.OpenBlock, out written);
        facts.Add(written);
        Answer(session, command, decision, "", static (ref FieldWriter _) => { });
    }

    /// <summary>The id of the exchange that is named; 0, which is nobody's, where there is none.</summary>
    private uint ExchangeIn(ReadOnlySpan<byte> fields, FieldTag tag) => FieldReader.TryBytes(fields, tag, out ReadOnlySpan<byte> name) && _engine.TryFindExchange(name, out uint exchange) ? exchange : 0;

    private static void WriteExchange(ref FieldWriter writer, in ExchangeView view)
    {
        writer.Text(FieldTag.Name, view.Name);
        writer.Number(FieldTag.ExchangeId, view.Id);
        writer.Number(FieldTag.ExchangeType, (ulong)view.Type);
        writer.Text(FieldTag.Alternate, view.Alternate);
        writer.Number(FieldTag.Bindings, (ulong)view.Bindings);
        writer.Number(FieldTag.Discarded, view.Discarded);
    }
}
