using System.Runtime.InteropServices;
using System.Text;
using FastQ.Engine;
using FastQ.Journal;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Broker;

// From the engine into the delivery rings. The record of a delivery is in this turn's block; the entry in the ring is shown when that
// block is written (DESIGN-REVIEW R3). By reference where the client has the slot's file, else as a copy.

public sealed partial class Broker
{
    private const int DeliveriesATurn = 4096;
    private const int MostPendingCopies = 256;

    /// <summary>Segments back from the current one whose pages are surely still cached: 256 MiB.</summary>
    private const long WarmBytes = 256L * 1024 * 1024;

    private readonly Dictionary<uint, bool> _coldSlots = [];
    private readonly DeliveryEntry[] _entries = new DeliveryEntry[Limits.MaxRunEntries];
    private uint _coldAsOfSlot;

    private bool DispatchAll()
    {
        int handed = 0;
        while (handed < DeliveriesATurn && _engine.TryNextDispatch(out uint id))
        {
            if (!_bySubscription.TryGetValue(id, out Session? session))
            {
                _engine.SetCredit(id, 0, 0); // Its owner is not here.
                continue;
            }

            SessionSubscription subscription = session.Subscriptions[id];
            int most = RoomForEntries(session);
            if (most == 0)
            {
                subscription.IsHeld = true;
                _engine.Hold(id, true);
                continue;
            }

            if (!_journal.TryReserve(SourceRecord.SizeBytes + DeliveredRecord.SizeBytes + TagRun.SizeBytes, out Span<byte> room, out _))
            {
                _isBlocked = true;
                break;
            }

            int source = BeginSource(0, room);
            Span<DeliveryEntry> entries = RoomOf(session, most);
            int written = _engine.Dispatch(id, room[source..], entries, out DispatchedRun run);
            _journal.Commit(source + written, source > 0 ? 2u : 1u);
            HandOver(session, subscription, run, entries[..run.Count]);
            handed += run.Count;
        }

        return handed > 0;
    }

    /// <summary>Where a run's entries are filled in: in the delivery ring itself, which shows them to nobody before it is advanced and published; for copies in a place of our own.</summary>
    private Span<DeliveryEntry> RoomOf(Session session, int most) =>
        GoesByCopy(session)
            ? _entries.AsSpan(0, most)
            : MemoryMarshal.Cast<byte, DeliveryEntry>(session.Rings.Deliveries.Next(DeliveriesHeader.SizeBytes + most * DeliveryEntry.SizeBytes)[DeliveriesHeader.SizeBytes..]);

    private static bool GoesByCopy(Session session) => session.WantsCopies || session.Copies.Count > 0;

    private static int RoomForEntries(Session session)
    {
        if (GoesByCopy(session))
        {
            return session.Copies.Count < MostPendingCopies && !session.IsMoving ? 32 : 0;
        }

        long room = session.IsMoving ? 0 : session.DeliveryRoom - DeliveriesHeader.SizeBytes;
        return (int)Math.Clamp(room / DeliveryEntry.SizeBytes, 0, Limits.MaxRunEntries);
    }

    private void HandOver(Session session, SessionSubscription subscription, in DispatchedRun run, Span<DeliveryEntry> entries)
    {
        DeliveriesHeader header = new()
        {
            LengthBytes = (uint)(DeliveriesHeader.SizeBytes + entries.Length * DeliveryEntry.SizeBytes),
            Kind = RecordKind.Deliveries,
            Count = (ushort)entries.Length,
            Subscription = run.Subscription,
            Queue = run.Queue,
            FirstDelivery = run.FirstDelivery,
            FirstTag = run.FirstTag,
            FirstToken = run.FirstToken,
            LeaseEndMicros = run.LeaseEndMicros,
        };
        if (GoesByCopy(session) || !TryPrepareSlots(session, entries))
        {
            QueueCopies(session, header, entries);
            return;
        }

        RingWriter ring = session.Rings.Deliveries;
        Span<byte> room = ring.Next((int)header.LengthBytes);
        MemoryMarshal.Write(room, header); // The entries stand behind it already.
        ring.Advance((int)header.LengthBytes);
        session.AddRun(subscription, run.FirstDelivery + (ulong)run.Count);
        Touch(session);
    }

    private void QueueCopies(Session session, DeliveriesHeader header, ReadOnlySpan<DeliveryEntry> entries)
    {
        header.Kind = RecordKind.DeliveryCopy;
        header.Count = 1;
        foreach (DeliveryEntry entry in entries)
        {
            session.Copies.Enqueue(new PendingCopy(_journal.LastBlock, header, entry));
            header.FirstDelivery++;
            header.FirstTag++;
            header.FirstToken++;
        }
    }

    /// <summary>The client has, or is sent, the files of all these slots; entries of cold ones are marked. False: it cannot be sent one now.</summary>
    private bool TryPrepareSlots(Session session, Span<DeliveryEntry> entries)
    {
        uint known = 0;
        bool cold = false;
        for (int i = 0; i < entries.Length; i++)
        {
            ref DeliveryEntry entry = ref entries[i];
            if (entry.Slot != known)
            {
                if (!session.KnownSlots.Contains(entry.Slot) && !TrySendSlot(session, entry.Slot))
                {
                    return false;
                }

                known = entry.Slot;
                cold = IsCold(known);
            }

            entry.Flags |= cold ? DeliveryEntry.Cold : (ushort)0;
        }

        return true;
    }

    private bool IsCold(uint slot)
    {
        SlotInfo? current = _currentSlot;
        if (current is null || _coldAsOfSlot != current.Value.Id)
        {
            _coldSlots.Clear();
            _coldAsOfSlot = current?.Id ?? 0;
        }

        if (!_coldSlots.TryGetValue(slot, out bool cold))
        {
            SlotInfo? info = _journal.InfoOf(slot);
            cold = info is null || info.Value.IsOlderLife || (long)((current?.SegmentNumber ?? 0) - info.Value.SegmentNumber) * _journal.SlotBytes > WarmBytes;
            _coldSlots[slot] = cold;
        }

        return cold;
    }

    private bool TrySendSlot(Session session, uint slot)
    {
        if (session.SlotMessagesInFlight >= Limits.MaxSlotMessagesInFlight || _journal.OpenReadOnly(slot) is not { Ok: true } opened)
        {
            return false;
        }

        using FileHandle file = opened.Value;
        Span<byte> message = stackalloc byte[64];
        Handshake.WriteHeader(message, HandshakeKind.Slots);
        FieldWriter fields = new(message[Handshake.HeaderBytes..]);
        fields.Number(FieldTag.Slot, slot);
        if (!session.Socket.Send(message[..(Handshake.HeaderBytes + fields.Length)], [file.Descriptor]).Ok)
        {
            return false; // Its socket is full: it gets copies until it reads.
        }

        session.SlotMessagesInFlight++;
        session.KnownSlots.Add(slot);
        return true;
    }

    /// <summary>Moves on what waits for room in the session's delivery ring. True: something moved.</summary>
    private bool Pump(Session session)
    {
        bool moved = PumpMove(session);
        moved |= PumpAnswers(session);
        moved |= PumpCopies(session);
        moved |= PumpReplies(session);
        if (RoomForEntries(session) > 0)
        {
            foreach (SessionSubscription subscription in session.Subscriptions.Values)
            {
                if (subscription.IsHeld)
                {
                    subscription.IsHeld = false;
                    _engine.Hold(subscription.Id, false);
                }
            }
        }

        return moved;
    }

    private bool PumpAnswers(Session session)
    {
        bool moved = false;
        if (session.IsGone)
        {
            session.Answers.Clear();
        }

        while (session.Answers.TryPeek(out byte[]? answer) && session.AnswerRoom >= answer.Length + NoticeBytes)
        {
            answer.CopyTo(session.Rings.Deliveries.Next(answer.Length));
            session.Rings.Deliveries.Advance(answer.Length);
            session.Answers.Dequeue();
            Touch(session);
            moved = true;
        }

        return moved;
    }

    private bool PumpCopies(Session session)
    {
        bool moved = false;
        while (session.Copies.TryPeek(out PendingCopy copy) && copy.Block <= _journal.WrittenBlock && !session.IsMoving)
        {
            int length = DeliveriesHeader.SizeBytes + DeliveryEntry.SizeBytes + (int)copy.Entry.LengthBytes;
            if (length > session.Rings.DeliveryBytes - session.Rings.DeliveryBytes / 4)
            {
                Offer(session, 0, (uint)Limits.RingBytesFor(length));
                break;
            }

            if (session.DeliveryRoom < Limits.Align(length))
            {
                break;
            }

            session.Copies.Dequeue();
            session.Complaints.Remove((copy.Header.Subscription, copy.Header.FirstDelivery));
            moved = true;
            if (!session.Subscriptions.TryGetValue(copy.Header.Subscription, out SessionSubscription? subscription))
            {
                continue; // It has ended meanwhile.
            }

            WriteCopy(session, subscription, copy, length);
        }

        return moved;
    }

    private void WriteCopy(Session session, SessionSubscription subscription, PendingCopy copy, int length)
    {
        if (!TryReadRecord(copy.Entry, copy.Header.Queue, copy.Header.FirstTag, out byte[] record))
        {
            _ = TryTakeDamaged(session, copy.Header.Subscription, copy.Header.FirstDelivery);
            return;
        }

        RingWriter ring = session.Rings.Deliveries;
        Span<byte> room = ring.Next(length);
        DeliveriesHeader header = copy.Header;
        header.LengthBytes = (uint)length;
        MemoryMarshal.Write(room, header);
        MemoryMarshal.Write(room[DeliveriesHeader.SizeBytes..], copy.Entry);
        record.CopyTo(room[(DeliveriesHeader.SizeBytes + DeliveryEntry.SizeBytes)..]);
        ring.Advance(length);
        session.AddRun(subscription, header.FirstDelivery + 1);
        Touch(session);
    }

    /// <summary>Reads a written record and judges it by its check, twice if need be: a single read may fail. False: it is rotten, or another message lies there.</summary>
    private bool TryReadRecord(in DeliveryEntry entry, uint queue, ulong tag, out byte[] record)
    {
        record = new byte[entry.LengthBytes];
        return TryReadRecord(entry, queue, tag, record);
    }

    private bool TryReadRecord(in DeliveryEntry entry, uint queue, ulong tag, Span<byte> record) => IsReadOnce(entry, queue, tag, record) || IsReadOnce(entry, queue, tag, record);

    private bool IsReadOnce(in DeliveryEntry entry, uint queue, ulong tag, Span<byte> record)
    {
        Result<int> read = _journal.Read(entry.Slot, entry.Offset, record);
        return read.Ok && read.Value == record.Length && RecordCheck.Holds(record, queue, tag, new Place(entry.Slot, entry.Offset)) && ((RecordKind)record[4]).IsStoredMessage();
    }

    /// <summary>Puts a notice into a delivery ring; the caller knows that there is room.</summary>
    private static void Notice(Session session, NoticeRecord notice, string text)
    {
        if (session.IsGone)
        {
            return;
        }

        Span<byte> words = stackalloc byte[NoticeBytes - NoticeRecord.SizeBytes];
        Encoding.UTF8.TryGetBytes(text, words, out int textBytes);
        int length = NoticeRecord.SizeBytes + textBytes;
        notice.LengthBytes = (uint)length;
        Span<byte> room = session.Rings.Deliveries.Next(length);
        MemoryMarshal.Write(room, notice);
        words[..textBytes].CopyTo(room[NoticeRecord.SizeBytes..]);
        session.Rings.Deliveries.Advance(length);
    }

    // ---- references and ends that the engine tells of

    /// <summary>Pins what clients may still read, and tells them of subscriptions that ended.</summary>
    private void TakeOrphansAndEnds()
    {
        while (_engine.TryTakeOrphan(out OrphanReference orphan))
        {
            if (_bySubscription.TryGetValue(orphan.Subscription, out Session? session) && !session.WantsCopies && session.Orphans.TryAdd((orphan.Subscription, orphan.Delivery), orphan.Slot))
            {
                Pin(orphan.Slot);
            }
        }

        while (_engine.TryTakeEnded(out EndedSubscription ended))
        {
            if (_bySubscription.Remove(ended.Subscription, out Session? session))
            {
                session.Subscriptions.Remove(ended.Subscription);
                if (session.AnswerRoom >= NoticeBytes)
                {
                    Notice(session, new NoticeRecord { Kind = RecordKind.SubscriptionEnded, Code = ended.Code, Subject = ended.Subscription }, "");
                    Touch(session);
                }
            }
        }
    }

    private void ReturnReferences(Session session, uint subscription, ulong first, uint count)
    {
        if (session.Orphans.Count > 0)
        {
            ReturnOrphans(session, subscription, first, count);
        }
    }

    /// <summary>Apart, for its closure would be made at each call of the other, which is once a settlement.</summary>
    private void ReturnOrphans(Session session, uint subscription, ulong first, uint count)
    {
        foreach ((uint Subscription, ulong Delivery) key in session.Orphans.Keys.Where(key => key.Subscription == subscription && key.Delivery >= first && key.Delivery - first < count).ToArray())
        {
            session.Orphans.Remove(key, out uint slot);
            Unpin(slot);
        }
    }

    private void Pin(uint slot)
    {
        _pins[slot] = _pins.GetValueOrDefault(slot) + 1;
        _pinnedSinceMicros.TryAdd(slot, _now.IntervalMicros);
    }

    private void Unpin(uint slot)
    {
        if (--_pins[slot] == 0)
        {
            _pins.Remove(slot);
            _pinnedSinceMicros.Remove(slot);
        }
    }
}
