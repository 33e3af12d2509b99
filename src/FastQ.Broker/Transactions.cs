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

        Decision decision = _engine.Transact(records, new Place(place.Slot, place.Offset + (uint)source), _journal.OpenBlock, out uint operation);
        if (!decision.IsTaken)
        {
            ConcludeTransaction(session, header, decision, operation, room, source);
            return true;
        }

        _journal.Commit(source + bytes, (source > 0 ? 1u : 0u) + header.Count);
        _waitingForDurable += (header.Flags & MessageHeader.ConfirmMask) == (int)ConfirmLevel.Durable ? 1 : 0;
        session.Decided = header.LastNumber;
        CountSettled(session, records);
        Touch(session);
        return true;
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
