using System.Runtime.InteropServices;
using FastQ.Engine;
using FastQ.Journal;
using FastQ.Protocol;

namespace FastQ.Broker;

// Transactions: one record of the ring, whose records stand in one block, as large as it must be. All records of a block take effect or none.

public sealed partial class Broker
{
    /// <summary>Takes a transaction whole: room for all of it first, one copy, and then what the engine says of that. False: no room in the journal.</summary>
    private bool TryTakeTransaction(Session session, RingReader ring, RecordPrefix prefix)
    {
        int length = (int)prefix.LengthBytes;
        TransactionHeader header = length < TransactionHeader.SizeBytes + MessageHeader.SizeBytes ? default : MemoryMarshal.Read<TransactionHeader>(ring.Bytes(TransactionHeader.SizeBytes));
        if (header.Count is 0 or > Limits.MaxTransactionOperations || length % Limits.RecordAlignment != 0)
        {
            End(session, RefusalCode.RingViolation, $"A transaction of {prefix.LengthBytes} bytes has {header.Count} records: 1 to {Limits.MaxTransactionOperations}, each padded to {Limits.RecordAlignment} bytes.");
            return true;
        }

        int bytes = length - TransactionHeader.SizeBytes;
        if (bytes > MostTransactionBytes)
        {
            return TryRefuseTransaction(session, header, Decision.Refuse(RefusalCode.TooLarge, (ulong)MostTransactionBytes, "Bytes of a transaction"));
        }

        if (_journal.Room != JournalRoom.Plenty)
        {
            return _journal.Room == JournalRoom.Scarce && TryRefuseTransaction(session, header, Decision.Refuse(RefusalCode.DiskFull));
        }

        if (!_journal.TryReserve(SourceRecord.SizeBytes + Math.Max(bytes, FactRecord.SizeBytes), out Span<byte> room, out Place place))
        {
            return _journal.RoomFault is not null && TryRefuseTransaction(session, header, Decision.Refuse(RefusalCode.DiskFull));
        }

        int source = BeginSource(session.Producer, room);
        Span<byte> records = room.Slice(source, bytes);
        ring.Bytes(length)[TransactionHeader.SizeBytes..].CopyTo(records);
        string fault = TransactionReader.Fault(records, header.Number, header.Count);
        if (fault.Length > 0)
        {
            Commit(source, source > 0 ? 1u : 0u);
            End(session, RefusalCode.RingViolation, fault);
            return true;
        }

        Decision decision = _engine.JudgeTransaction(records, out uint operation, out RoutedWithin routed);
        decision = decision.IsTaken ? JudgeWithRoutes(routed, bytes) : decision;
        if (!decision.IsTaken)
        {
            ConcludeTransaction(session, header, decision, operation, room, source);
            return true;
        }

        if (routed.Count > 0)
        {
            Span<byte> sent = LetterOf(bytes);
            records.CopyTo(sent);
            Commit(source, source > 0 ? 1u : 0u);
            if (!_journal.TryReserve(SourceRecord.SizeBytes + bytes + routed.MoreBytes, out room, out place))
            {
                return _journal.RoomFault is not null && TryRefuseTransaction(session, header, Decision.Refuse(RefusalCode.DiskFull));
            }

            source = BeginSource(session.Producer, room);
            bytes += routed.MoreBytes;
            records = room.Slice(source, bytes);
            LayOutTransaction(sent, routed, records);
        }

        _engine.ApplyTransaction(records, new Place(place.Slot, place.Offset + (uint)source), _journal.OpenBlock);
        _journal.Commit(source + bytes, (source > 0 ? 1u : 0u) + header.Count);
        _waitingForDurable += (header.Flags & MessageHeader.ConfirmMask) == (int)ConfirmLevel.Durable ? 1 : 0;
        session.Decided = header.LastNumber;
        CountSettled(session, records);
        Touch(session);
        return true;
    }

    /// <summary>A message to exchanges grows by the queues that it reaches: has the whole room in a block?</summary>
    private Decision JudgeWithRoutes(RoutedWithin routed, int bytes) => routed.MoreBytes == 0 || bytes + routed.MoreBytes <= Math.Max(MostTransactionBytes, _journal.SlotBytes / 4 * 3)
        ? Decision.Taken
        : Decision.Refuse(RefusalCode.TooLarge, (ulong)MostTransactionBytes, "Bytes of a transaction, with the queues that its messages reach");

    /// <summary>The records as they came, but for those to exchanges: they are what a message to these queues is in the journal.</summary>
    private static void LayOutTransaction(Span<byte> sent, RoutedWithin routed, Span<byte> room)
    {
        int at = 0;
        int next = 0;
        uint operation = 0;
        TransactionReader reader = new(sent);
        while (reader.Next())
        {
            operation++;
            bool isRouted = next < routed.Count && routed.OperationOf(next) == operation;
            ReadOnlySpan<RoutedTarget> targets = isRouted ? routed.TargetsOf(next) : default;
            if (targets.Length > 1)
            {
                uint exchange = MemoryMarshal.Read<MessageHeader>(reader.Record).Queue;
                at += Limits.Align(LayOut(exchange, 0, targets, reader.Record, room[at..]).Length);
            }
            else
            {
                int aligned = Limits.Align(reader.Record.Length);
                sent.Slice(reader.Offset, aligned).CopyTo(room[at..]);
                if (isRouted)
                {
                    Address(ref MemoryMarshal.AsRef<MessageHeader>(room[at..]), targets, routed.IsUnrouted(next));
                }

                at += aligned;
            }

            next += isRouted ? 1 : 0;
        }

        Invariant.Holds(at == room.Length && next == routed.Count);
    }

    private static void Address(ref MessageHeader header, ReadOnlySpan<RoutedTarget> targets, bool isUnrouted)
    {
        if (targets.IsEmpty)
        {
            header.Kind = RecordKind.PassedOver;
            header.Tag = isUnrouted ? RoutedWithin.Unrouted : 0;
            return;
        }

        header.Queue = targets[0].Queue;
    }

    private int MostTransactionBytes => Math.Min(_options.MaxMessageBytes, Limits.MaxTransactionBytes);

    /// <summary>Its deliveries count towards what a turn may settle, and their bytes are not looked at any more.</summary>
    private void CountSettled(Session session, Span<byte> records)
    {
        TransactionReader reader = new(records);
        while (reader.Next())
        {
            if (reader.Kind != RecordKind.Settle)
            {
                continue;
            }

            SettleRecord settle = MemoryMarshal.Read<SettleRecord>(reader.Record);
            _deliveriesTaken += settle.Count;
            if (session.Orphans.Count > 0)
            {
                ReturnReferences(session, settle.Subscription, settle.FirstDelivery, settle.Count);
            }
        }
    }

    /// <summary>Refuses one that is not even copied. False: no room in the journal for that.</summary>
    private bool TryRefuseTransaction(Session session, in TransactionHeader header, Decision refusal)
    {
        if (!_journal.TryReserve(SourceRecord.SizeBytes + FactRecord.SizeBytes, out Span<byte> room, out _))
        {
            return false;
        }

        int source = BeginSource(session.Producer, room);
        Decision decision = _engine.CheckNumber(header.Number);
        ConcludeTransaction(session, header, decision.IsTaken ? refusal : decision, 1, room, source);
        return true;
    }

    /// <summary>As <see cref="Conclude"/>, of all its numbers at once.</summary>
    private void ConcludeTransaction(Session session, in TransactionHeader header, Decision decision, uint operation, Span<byte> room, int source)
    {
        Commit(source, source > 0 ? 1u : 0u);
        switch (decision.Kind)
        {
            case DecisionKind.Duplicate:
                return;
            case DecisionKind.OutOfOrder:
                End(session, RefusalCode.OutOfOrder, $"Transaction {header.Number} came where {session.Decided + 1} was expected.");
                return;
        }

        if (EndIfTooManyAreKept(session))
        {
            return;
        }

        int written = _engine.RefuseTransaction(header.Number, header.Count, operation, decision.Code, room[source..], _journal.OpenBlock);
        _journal.Commit(written, 1);
        session.Decided = header.LastNumber;
        Notice(session, new NoticeRecord { Kind = RecordKind.Refused, Code = decision.Code, Number = header.Number, Subject = operation, Count = header.Count, Value = decision.Value }, decision.Limit);
        session.RefusalHead = session.Rings.Deliveries.Head;
        Touch(session);
    }
}
