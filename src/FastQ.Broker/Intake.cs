using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastQ.Engine;
using FastQ.Journal;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Broker;

// From the rings into the open block. A record is copied once; what is checked, decided and applied is the copy: nothing is read from a
// ring twice (DESIGN-REVIEW R7). A refused record's bytes are taken back, and the refusal stands in its place (R2).

public sealed partial class Broker
{
    // A session's share of a turn. Larger ones save system calls and walks of the kernel over its pages; smaller ones saved no latency that could be measured.
    private const int RecordsATurn = 2048;
    private const uint BytesATurn = 256 * 1024;

    /// <summary>A run of messages is committed, and so hashed, while it is in the first-level cache.</summary>
    private const int RunBytes = 8 * 1024;

    private const int LargestMessageBytes = MessageHeader.SizeBytes + Limits.MaxPropertyBytes + Limits.MaxMessageBytes;

    /// <summary>Room that the notice of one refusal takes at most in a delivery ring.</summary>
    internal const int NoticeBytes = 256;

    /// <summary>Deliveries that a session may name in settles in one turn; the last record may go beyond.</summary>
    private const long DeliveriesNamedATurn = 64 * 1024;

    private long _deliveriesTaken;

    private bool TakeRings()
    {
        bool worked = false;
        for (int i = _hot.Count - 1; i >= 0; i--)
        {
            Session session = _hot[i];
            int taken = TakeFrom(session);
            if (session.HasEnded)
            {
                worked = true;
                continue;
            }

            worked |= taken > 0;
            worked |= Pump(session);
            session.QuietTurns = taken > 0 ? 0 : session.QuietTurns + 1;
            if (session.QuietTurns > TurnsBeforeCold)
            {
                Cool(session);
            }
        }

        return worked;
    }

    /// <summary>A session that was quiet for long must ring from now on.</summary>
    private void Cool(Session session)
    {
        session.QuietTurns = 0;
        if (session.DeafUntilMicros != 0 || session.Offered is not null || session.Answers.Count > 0 || session.Copies.Count > 0 || session.Replies.Count > 0)
        {
            return;
        }

        session.Rings.Sleep.Announce();
        FenceClients();
        if (session.HasWork)
        {
            session.Rings.Sleep.Wake();
            return;
        }

        session.IsHot = false;
        _hot.Remove(session);
    }

    /// <summary>Takes what a session's ring holds, within a turn's bounds. Gives the number of records.</summary>
    private int TakeFrom(Session session)
    {
        if (!session.TryUpdatePosition())
        {
            End(session, RefusalCode.RingViolation, "The position in the delivery ring went backwards or beyond what was shown.");
            return 0;
        }

        _deliveriesTaken = 0;
        if (!session.IsReadable)
        {
            return 0;
        }

        RingReader ring = session.Rings.Submissions;
        ulong end = ring.Position + BytesATurn;
        int records = 0;
        while (records < RecordsATurn && ring.Position < end && _deliveriesTaken < DeliveriesNamedATurn)
        {
            RingVerdict verdict = ring.Next(out RecordPrefix prefix);
            if (verdict == RingVerdict.Empty)
            {
                break;
            }

            if (verdict == RingVerdict.Violation)
            {
                End(session, RefusalCode.RingViolation, $"A record at position {ring.Position} of the submission ring does not fit in what was committed.");
                return records;
            }

            int taken = 1;
            bool hadRoom = prefix.Kind == RecordKind.Message
                ? TryTakeMessages(session, ring, prefix, RecordsATurn - records, out taken)
                : TryTakeOther(session, ring, prefix);
            if (!hadRoom)
            {
                _isBlocked = true; // No room in the journal now: it stays where it is.
                break;
            }

            records += taken;
            if (session.HasEnded)
            {
                return records;
            }

            if (!session.IsReadable || prefix.Kind == RecordKind.Damaged)
            {
                break; // Of complaints one a turn: each reads its message from the file.
            }
        }

        if (records > 0)
        {
            ring.Publish();
            session.HasNews = true;
        }

        return records;
    }

    private bool TryTakeOther(Session session, RingReader ring, RecordPrefix prefix)
    {
        bool taken = prefix.Kind switch
        {
            RecordKind.Settle or RecordKind.Extend => TryTakeSettle(session, ring, prefix),
            RecordKind.Command => TryTakeCommand(session, ring, prefix),
            RecordKind.Transaction => TryTakeTransaction(session, ring, prefix),
            RecordKind.Reply or RecordKind.RepliesUnwanted => TakeReply(session, ring, prefix),
            _ => TryTakeControl(session, ring, prefix),
        };
        if (taken && !session.HasEnded)
        {
            ring.Advance((int)prefix.LengthBytes);
        }

        return taken;
    }

    /// <summary>Takes messages as long as they come, into one reservation. One that is not taken (a resend, a refusal, bytes without their check) ends the run, and is concluded when it stands first in one.</summary>
    /// <param name="taken">How many left the ring: at least one, unless the session has ended.</param>
    /// <returns>False: no room in the journal.</returns>
    private bool TryTakeMessages(Session session, RingReader ring, RecordPrefix prefix, int most, out int taken)
    {
        taken = 0;
        int length = (int)prefix.LengthBytes;
        if (length < MessageHeader.SizeBytes || length > ring.RingBytes)
        {
            End(session, RefusalCode.RingViolation, $"A message of {length} bytes is shorter than its header.");
            return true;
        }

        if (length > LargestMessageBytes)
        {
            return TryRefuse(session, ring, length, RefusalCode.TooLarge, (ulong)_options.MaxMessageBytes, out taken);
        }

        if (_journal.Room != JournalRoom.Plenty)
        {
            return _journal.Room == JournalRoom.Scarce && TryRefuse(session, ring, length, RefusalCode.DiskFull, 0, out taken);
        }

        // A refusal may have to stand in its place, so there is always room for one.
        int least = SourceRecord.SizeBytes + Math.Max(Limits.Align(length), FactRecord.SizeBytes);
        if (!_journal.TryReserve(least, Math.Max(least, RunBytes), out Span<byte> room, out Place place))
        {
            // A large one may need the next slot while there is room for small ones still.
            return _journal.RoomFault is not null && TryRefuse(session, ring, length, RefusalCode.DiskFull, 0, out taken);
        }

        int source = BeginSource(session.Producer, room);
        int used = source;
        Decision decision = Decision.Taken;
        bool isSound = true;
        ulong number = 0;
        while (used + Limits.Align(length) <= room.Length)
        {
            int aligned = Limits.Align(length);
            Span<byte> copy = room.Slice(used, length);
            MemoryMarshal.Write(room[(used + aligned - Limits.RecordAlignment)..], 0ul); // The padding.
            ring.Bytes(length).CopyTo(copy);
            MemoryMarshal.Write(copy, prefix); // What was judged, not what it may have become since.
            MessageHeader header = MemoryMarshal.Read<MessageHeader>(copy);
            number = header.NumberOrTimeMicros;
            isSound = header.Check == RecordCheck.Of(copy[MessageHeader.SizeBytes..]); // Of the copy: its writer may have changed bytes under us.
            if (!isSound)
            {
                break;
            }

            decision = HasRoomForProperties(copy, header) ? _engine.Publish(copy, new Place(place.Slot, place.Offset + (uint)used)) : JudgeNumberThenRefuse(number, RefusalCode.BadArgument);
            if (!decision.IsTaken)
            {
                break;
            }

            _waitingForDurable += (header.Flags & MessageHeader.ConfirmMask) == (int)ConfirmLevel.Durable ? 1 : 0;
            session.Decided = number;
            used += aligned;
            ring.Advance(length);
            if (++taken == most || ring.Next(out prefix) != RingVerdict.Record || prefix.Kind != RecordKind.Message)
            {
                break;
            }

            length = (int)prefix.LengthBytes;
            if (length is < MessageHeader.SizeBytes or > RunBytes)
            {
                break;
            }
        }

        if (taken == 0 && !isSound)
        {
            Commit(source, source > 0 ? 1u : 0u);
            End(session, RefusalCode.RingViolation, $"The bytes of message {number} do not have its check: they were changed after their commit, or were never right.");
            return true;
        }

        if (taken == 0 && decision.Kind == DecisionKind.ForExchange)
        {
            return TryTakeRouted(session, ring, room, source, length, out taken);
        }

        if (taken == 0)
        {
            taken = Leave(session, ring, length, Conclude(session, decision, number, room, source));
            return true;
        }

        Commit(used, (source > 0 ? 1u : 0u) + (uint)taken);
        Touch(session);
        return true;
    }

    /// <summary>A record that was concluded leaves the ring, unless its session has ended with it. Gives how many left.</summary>
    private static int Leave(Session session, RingReader ring, int length, bool isConcluded)
    {
        if (!isConcluded || session.HasEnded)
        {
            return 0;
        }

        ring.Advance(length);
        return 1;
    }

    private static bool HasRoomForProperties(ReadOnlySpan<byte> record, in MessageHeader header) => header.PropertyBytes <= Math.Min(Limits.MaxPropertyBytes, record.Length - MessageHeader.SizeBytes);

    private bool TryTakeSettle(Session session, RingReader ring, RecordPrefix prefix)
    {
        int length = (int)prefix.LengthBytes;
        int most = SettleRecord.SizeBytes + (prefix.Kind == RecordKind.Settle ? Limits.MaxWordsBytes : 0);
        if (length < SettleRecord.SizeBytes || length > most)
        {
            End(session, RefusalCode.RingViolation, $"A settle record has {prefix.LengthBytes} bytes instead of {SettleRecord.SizeBytes} and its words.");
            return true;
        }

        int aligned = Limits.Align(length);
        if (!_journal.TryReserve(SourceRecord.SizeBytes + aligned, out Span<byte> room, out _))
        {
            return false;
        }

        int source = BeginSource(session.Producer, room);
        Span<byte> copy = room.Slice(source, length);
        MemoryMarshal.Write(room[(source + aligned - Limits.RecordAlignment)..], 0ul); // The padding.
        ring.Bytes(length).CopyTo(copy);
        MemoryMarshal.Write(copy, prefix);
        SettleRecord settle = MemoryMarshal.Read<SettleRecord>(copy);
        Decision decision = _engine.Settle(copy, _journal.OpenBlock);
        if (!decision.IsTaken)
        {
            return Conclude(session, decision, settle.Number, room, source);
        }

        _deliveriesTaken += settle.Count;
        _journal.Commit(source + aligned, source > 0 ? 2u : 1u);
        _waitingForDurable += (settle.Flags & MessageHeader.ConfirmMask) == (int)ConfirmLevel.Durable ? 1 : 0;
        session.Decided = settle.Number;
        if (_engine.LateRanges.Length > 0)
        {
            TellLate(session, settle);
            if (session.HasEnded)
            {
                return true;
            }
        }

        if (session.Orphans.Count > 0 && prefix.Kind == RecordKind.Settle)
        {
            ReturnReferences(session, settle.Subscription, settle.FirstDelivery, settle.Count);
        }

        Touch(session);
        return true;
    }

    private void TellLate(Session session, in SettleRecord settle)
    {
        foreach (LateRange late in _engine.LateRanges)
        {
            if (session.AnswerRoom < 2 * NoticeBytes)
            {
                break; // The rest is not told one by one: they are settled or lost all the same.
            }

            Notice(session, new NoticeRecord { Kind = RecordKind.LateSettle, Code = late.Code, Number = settle.Number, Subject = settle.Subscription, Count = late.Count, Value = late.First }, "");
        }

        session.RefusalHead = session.Rings.Deliveries.Head;
        EndIfTooManyAreKept(session);
    }

    private bool EndIfTooManyAreKept(Session session)
    {
        if (_engine.ViewProducer(session.Producer).KeptRefusals < Limits.MaxKeptRefusals)
        {
            return false;
        }

        End(session, RefusalCode.LimitReached, $"Limit reached: {Limits.MaxKeptRefusals} refusals are kept, and the client has not said that it took them.");
        return true;
    }

    /// <summary>Refuses a message that is not even copied. False: no room in the journal for that.</summary>
    private bool TryRefuse(Session session, RingReader ring, int length, RefusalCode code, ulong value, out int taken)
    {
        taken = 0;
        if (!_journal.TryReserve(SourceRecord.SizeBytes + FactRecord.SizeBytes, out Span<byte> room, out _))
        {
            return false;
        }

        ulong number = NumberAt(ring);
        int source = BeginSource(session.Producer, room);
        taken = Leave(session, ring, length, Conclude(session, JudgeNumberThenRefuse(number, code, value), number, room, source));
        return true;
    }

    private Decision JudgeNumberThenRefuse(ulong number, RefusalCode code, ulong value = 0)
    {
        Decision decision = _engine.CheckNumber(number);
        return decision.IsTaken ? Decision.Refuse(code, value) : decision;
    }

    /// <summary>What was not taken: a resend is dropped, a number out of order ends the session, a refusal is journaled and told.</summary>
    private bool Conclude(Session session, Decision decision, ulong number, Span<byte> room, int source)
    {
        Commit(source, source > 0 ? 1u : 0u);
        switch (decision.Kind)
        {
            case DecisionKind.Duplicate:
                return true;
            case DecisionKind.OutOfOrder:
                End(session, RefusalCode.OutOfOrder, $"Submission {number} came where {session.Decided + 1} was expected.");
                return true;
        }

        if (EndIfTooManyAreKept(session))
        {
            return true;
        }

        int written = _engine.Refuse(number, decision.Code, room[source..], _journal.OpenBlock);
        _journal.Commit(written, 1);
        session.Decided = number;
        Notice(session, new NoticeRecord { Kind = RecordKind.Refused, Code = decision.Code, Number = number, Count = 1, Value = decision.Value }, decision.Limit);
        session.RefusalHead = session.Rings.Deliveries.Head;
        Touch(session);
        return true;
    }

    private static ulong NumberAt(RingReader ring) => MemoryMarshal.Read<ulong>(ring.Bytes(16)[8..]);

    private bool TryTakeControl(Session session, RingReader ring, RecordPrefix prefix)
    {
        if (prefix.Kind is < RecordKind.Credit or > RecordKind.Bye)
        {
            End(session, RefusalCode.UnknownRecord, $"A record of kind {(byte)prefix.Kind} is not known.");
            return true;
        }

        if (prefix.LengthBytes != ControlRecord.SizeBytes)
        {
            End(session, RefusalCode.RingViolation, $"A control record has {prefix.LengthBytes} bytes instead of {ControlRecord.SizeBytes}.");
            return true;
        }

        ControlRecord control = MemoryMarshal.Read<ControlRecord>(ring.Bytes(ControlRecord.SizeBytes));
        switch (prefix.Kind)
        {
            case RecordKind.Credit when session.Subscriptions.ContainsKey(control.Subject):
                _engine.SetCredit(control.Subject, Math.Min(control.Count, Limits.MaxCredit), control.Value);
                return true;
            case RecordKind.Done:
                ReturnReferences(session, control.Subject, control.Value, control.Count);
                return true;
            case RecordKind.RefusalsSeen:
                return TryAcknowledgeRefusals(session, control.Value);
            case RecordKind.SlotsMapped:
                session.SlotMessagesInFlight = Math.Max(0, session.SlotMessagesInFlight - (int)Math.Min(control.Subject, Limits.MaxSlotMessagesInFlight));
                return true;
            case RecordKind.GrowRings:
                Offer(session, control.Subject, control.Count);
                return true;
            case RecordKind.ClientMovesRing:
                return TakeMove(session, control.Subject);
            case RecordKind.Damaged:
                return TryTakeDamaged(session, control.Subject, control.Value);
            case RecordKind.Bye:
                End(session, RefusalCode.Closed, "", tell: false);
                return true;
            default:
                return true; // Credit for a subscription that has ended meanwhile.
        }
    }

    /// <summary>The client has moved. It said on the socket that it has mapped the ring before it wrote this, but the ring is the quicker way.</summary>
    private bool TakeMove(Session session, uint ring)
    {
        if (session.Offered is not null && !session.OfferedIsMapped)
        {
            OnSocket(session);
        }

        if (session.HasEnded)
        {
            return true;
        }

        if (session.Offered is not { } offered || !session.OfferedIsMapped || offered.Number != ring)
        {
            End(session, RefusalCode.RingViolation, $"Ring {ring} was not offered, or is not mapped yet.");
            return true;
        }

        session.IsMoving = true;
        return true;
    }

    private bool TryAcknowledgeRefusals(Session session, ulong upTo)
    {
        if (!_journal.TryReserve(SourceRecord.SizeBytes + FactRecord.SizeBytes, out Span<byte> room, out _))
        {
            return false;
        }

        int source = BeginSource(session.Producer, room);
        int written = _engine.AcknowledgeRefusals(session.Producer, upTo, room[source..], _journal.OpenBlock);
        Commit(source + written, (source > 0 ? 1u : 0u) + (written > 0 ? 1u : 0u));
        return true;
    }

    /// <summary>The client found that a record does not have its check. The broker looks itself: a good record goes as a copy, a bad message is kept as damaged (DESIGN-REVIEW R13).</summary>
    private bool TryTakeDamaged(Session session, uint subscription, ulong delivery)
    {
        if (!session.Subscriptions.ContainsKey(subscription) || !_engine.TryFindDelivery(subscription, delivery, out uint queue, out ulong tag, out DeliveryEntry entry))
        {
            return true;
        }

        if (TryReadRecord(entry, queue, tag, out _))
        {
            if (!session.Complaints.Add((subscription, delivery)))
            {
                return true; // A copy of it waits already: so no more can wait than it holds deliveries.
            }

            DeliveriesHeader header = new() { Kind = RecordKind.DeliveryCopy, Count = 1, Subscription = subscription, Queue = queue, FirstDelivery = delivery, FirstTag = tag };
            session.Copies.Enqueue(new PendingCopy(_journal.LastBlock, header, entry));
            return true;
        }

        if (!_journal.TryReserve(SourceRecord.SizeBytes + 2 * FactRecord.SizeBytes, out Span<byte> room, out _))
        {
            return false;
        }

        int source = BeginSource(0, room);
        int released = _engine.EndDelivery(subscription, delivery, room[source..], _journal.OpenBlock);
        bool isMarked = _engine.TryMarkDamaged(queue, tag, room[(source + released)..], _journal.OpenBlock, out int marked);
        Commit(source + released + marked, (source > 0 ? 1u : 0u) + (released > 0 ? 1u : 0u) + (isMarked ? 1u : 0u));
        TakeOrphansAndEnds();
        return true;
    }
}
