using System.Runtime.InteropServices;
using System.Text;
using FastQ.Engine;
using FastQ.Journal;
using FastQ.Protocol;

namespace FastQ.Broker;

// Messages that died go to their dead-letter queue, some each turn. One record is the message there and its end here; the queue, where
// it is not there yet, is made in the same block. What cannot go now (no room, too many queues) stays where it is, and is tried again.

public sealed partial class Broker
{
    private const int DeadLettersATurn = 64;
    private const int DeadLetterBytesATurn = 256 * 1024;
    private const int KeptLetterBytes = 1024 * 1024;
    private const long DeadLettersAgainMicros = 100_000;
    private readonly byte[] _story = new byte[Limits.MaxStoredPropertyBytes];
    private byte[] _letter = new byte[16 * 1024];

    /// <summary>Queues that hold more than they may let go of the oldest, before anybody is given one.</summary>
    private bool PushOut()
    {
        bool worked = false;
        while (_engine.HasOver)
        {
            if (!_journal.TryReserve(SourceRecord.SizeBytes + QueueEngine.MaxFactBytes, out Span<byte> room, out _))
            {
                _isBlocked = true;
                break;
            }

            int source = BeginSource(0, room);
            int written = _engine.PushOut(room[source..], _journal.OpenBlock);
            Commit(source + written, (source > 0 ? 1u : 0u) + (written > 0 ? 1u : 0u));
            worked |= written > 0;
        }

        return worked;
    }

    private bool MoveDeadLetters()
    {
        int bytes = 0;
        int moved = 0;
        while (moved < DeadLettersATurn && bytes < DeadLetterBytesATurn && _engine.HasDying && _journal.Room == JournalRoom.Plenty && _engine.TryNextDying(_now.IntervalMicros, out DyingMessage message))
        {
            bytes += (int)message.Place.LengthBytes;
            if (!TryBury(message))
            {
                break;
            }

            moved++;
        }

        return moved > 0;
    }

    /// <summary>Moves a message on its way. False: not now.</summary>
    private bool TryBury(in DyingMessage message)
    {
        Span<byte> letter = LetterOf((int)message.Place.LengthBytes);
        if (!TryReadRecord(message.Place, message.Queue, message.Tag, letter))
        {
            // What is not written yet cannot be read; what is, and fails twice, is rotten.
            return message.Block <= _journal.WrittenBlock && TryKeepDamaged(message);
        }

        MessageHeader header = MemoryMarshal.Read<MessageHeader>(letter);
        ReadOnlySpan<byte> properties = letter.Slice(MessageHeader.SizeBytes, header.PropertyBytes);
        if (message.Exchange.Length == 0 && message.IsRequest)
        {
            return TryEndRequest(message, properties);
        }

        if (Obituary.IsCircle(properties, message))
        {
            return TryStop(message);
        }

        int propertyBytes = Obituary.Write(properties, message, _now.WallMicros, _story);
        header.Kind = RecordKind.DeadLetter;
        if (message.Exchange.Length > 0)
        {
            return TryBuryThrough(message, header, properties, _story.AsSpan(0, propertyBytes), letter[(MessageHeader.SizeBytes + header.PropertyBytes)..]);
        }

        if (!TryWriteAgain(header, message.Target, _story.AsSpan(0, propertyBytes), letter[(MessageHeader.SizeBytes + header.PropertyBytes)..], out Decision decision))
        {
            return false;
        }

        if (!decision.IsTaken)
        {
            _engine.PauseDeadLetters(message.Queue, _now.IntervalMicros + DeadLettersAgainMicros);
        }

        return true;
    }

    /// <summary>As above, to an exchange: one record, which is the message in all queues that it leads to and its end where it died. One that leads to none stays, marked, and is tried again. False: not now.</summary>
    private bool TryBuryThrough(in DyingMessage message, MessageHeader header, ReadOnlySpan<byte> before, ReadOnlySpan<byte> properties, ReadOnlySpan<byte> body)
    {
        byte[] letter = new byte[MessageHeader.SizeBytes + properties.Length + body.Length];
        properties.CopyTo(letter.AsSpan(MessageHeader.SizeBytes));
        body.CopyTo(letter.AsSpan(MessageHeader.SizeBytes + properties.Length));
        (header.LengthBytes, header.PropertyBytes, header.Check) = ((uint)letter.Length, (ushort)properties.Length, RecordCheck.Of(letter.AsSpan(MessageHeader.SizeBytes)));
        MemoryMarshal.Write(letter, header);
        Decision decision = _engine.RouteDead(message.Exchange, letter, out uint exchange, out ReadOnlySpan<RoutedTarget> found);
        decision = decision.IsTaken ? JudgeShared(found.Length, letter.Length) : decision;
        if (!decision.IsTaken)
        {
            if (decision.Code == RefusalCode.Unroutable)
            {
                _engine.SetDeadLetterAside(message.Queue, message.Tag);
            }
            else
            {
                _engine.PauseDeadLetters(message.Queue, _now.IntervalMicros + DeadLettersAgainMicros);
            }

            return true;
        }

        List<RoutedTarget> targets = [];
        foreach (RoutedTarget target in found)
        {
            if (!Obituary.IsCircle(before, message with { Target = _engine.View(target.Queue).Name }))
            {
                targets.Add(target);
            }
        }

        if (targets.Count == 0)
        {
            return TryStop(message);
        }

        if (!_journal.TryReserve(SourceRecord.SizeBytes + Limits.Align(StoredMessage.OffsetOf(targets.Count) + letter.Length), out Span<byte> room, out Place place))
        {
            _isBlocked = true;
            return false;
        }

        int source = BeginSource(0, room);
        Place at = new(place.Slot, place.Offset + (uint)source);
        int written = targets.Count > 1 ? BuryInAll(exchange, CollectionsMarshal.AsSpan(targets), letter, room[source..], at) : BuryInOne(targets[0], letter, room[source..], at);
        Commit(source + written, source > 0 ? 2u : 1u);
        return true;
    }

    private int BuryInAll(uint exchange, ReadOnlySpan<RoutedTarget> targets, ReadOnlySpan<byte> letter, Span<byte> room, Place place)
    {
        Span<byte> shared = LayOut(exchange, RoutedHeader.DeadLetter, targets, letter, room);
        _engine.PublishRouted(shared, place, _journal.OpenBlock);
        return Limits.Align(shared.Length);
    }

    private int BuryInOne(RoutedTarget target, ReadOnlySpan<byte> letter, Span<byte> room, Place place)
    {
        int aligned = Limits.Align(letter.Length);
        MemoryMarshal.Write(room[(aligned - Limits.RecordAlignment)..], 0ul); // The padding.
        letter.CopyTo(room);
        MemoryMarshal.AsRef<MessageHeader>(room).Queue = target.Queue;
        Decision decision = _engine.TakeIn(room[..letter.Length], place, _journal.OpenBlock);
        Invariant.Holds(decision.IsTaken);
        return aligned;
    }

    private Span<byte> LetterOf(int bytes)
    {
        if (bytes > KeptLetterBytes)
        {
            return new byte[bytes];
        }

        if (bytes > _letter.Length)
        {
            _letter = new byte[Math.Min(KeptLetterBytes, bytes * 2)];
        }

        return _letter.AsSpan(0, bytes);
    }

    /// <summary>Writes a message into another queue, which is its end where it was: one record. A queue for dead letters is made when it is not there. False: no room in the journal now.</summary>
    private bool TryWriteAgain(MessageHeader header, string queue, ReadOnlySpan<byte> properties, ReadOnlySpan<byte> body, out Decision decision)
    {
        decision = default;
        int length = MessageHeader.SizeBytes + properties.Length + body.Length;
        if (!_journal.TryReserve(SourceRecord.SizeBytes + QueueEngine.MaxFactBytes + Limits.Align(length), out Span<byte> room, out Place place))
        {
            _isBlocked = true;
            return false;
        }

        int source = BeginSource(0, room);
        Facts facts = new(room, source);
        uint target;
        decision = header.Kind == RecordKind.DeadLetter ? FindOrMakeQueue(queue, ref facts, out target) : FindTarget(queue, out target);
        if (decision.IsTaken)
        {
            Span<byte> record = facts.Rest[..Limits.Align(length)];
            MemoryMarshal.Write(record[^Limits.RecordAlignment..], 0ul); // The padding.
            properties.CopyTo(record[MessageHeader.SizeBytes..]);
            body.CopyTo(record[(MessageHeader.SizeBytes + properties.Length)..]);
            header.LengthBytes = (uint)length;
            (header.PropertyBytes, header.Queue) = ((ushort)properties.Length, target);
            header.Check = RecordCheck.Of(record[MessageHeader.SizeBytes..length]);
            MemoryMarshal.Write(record, header);
            decision = _engine.TakeIn(record[..length], new Place(place.Slot, place.Offset + (uint)facts.Bytes), _journal.OpenBlock);
            facts.Add(decision.IsTaken ? Limits.Align(length) : 0);
        }

        Commit(facts.Bytes, facts.Records + (source > 0 ? 1u : 0u));
        return true;
    }

    private Decision FindTarget(string name, out uint queue) => _engine.TryFindQueue(Encoding.UTF8.GetBytes(name), out queue) ? Decision.Taken : Decision.Refuse(RefusalCode.UnknownQueue);

    private Decision FindOrMakeQueue(string name, ref Facts facts, out uint queue)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(name);
        if (_engine.TryFindQueue(bytes, out queue))
        {
            return Decision.Taken;
        }

        Decision decision = _engine.DeclareQueue(bytes, QueueAttributes.OfDeadLetters, facts.Rest, _journal.OpenBlock, out int written, out queue, out _, out _);
        facts.Add(written);
        return decision;
    }

    private bool TryStop(in DyingMessage message)
    {
        (uint queue, ulong tag) = (message.Queue, message.Tag);
        return TryWriteFact(room => _engine.StopDeath(queue, tag, room, _journal.OpenBlock));
    }

    private bool TryKeepDamaged(in DyingMessage message)
    {
        (uint queue, ulong tag) = (message.Queue, message.Tag);
        return TryWriteFact(room =>
        {
            bool isMarked = _engine.TryMarkDamaged(queue, tag, room, _journal.OpenBlock, out int marked);
            Invariant.Holds(isMarked);
            return marked;
        });
    }

    private delegate int WriteFact(Span<byte> room);

    /// <summary>Writes one fact of the broker's own doing. False: no room in the journal now.</summary>
    private bool TryWriteFact(WriteFact write)
    {
        if (!_journal.TryReserve(SourceRecord.SizeBytes + QueueEngine.MaxFactBytes, out Span<byte> room, out _))
        {
            _isBlocked = true;
            return false;
        }

        int source = BeginSource(0, room);
        int written = write(room[source..]);
        Commit(source + written, (source > 0 ? 1u : 0u) + (written > 0 ? 1u : 0u));
        return true;
    }
}
