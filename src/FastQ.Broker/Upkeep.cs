using System.Runtime.InteropServices;
using FastQ.Journal;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Broker;

// What keeps memory and disk in bounds, a bounded piece a turn: ended sessions' memory, doorbells that were put out, snapshots, reclaim,
// compaction of slots in which little lives (DESIGN section 6).

public sealed partial class Broker
{
    private const long UpkeepMicros = 1000;
    private const long IdleSnapshotMicros = 500_000;
    private const long CompactAgainMicros = 5_000_000;
    private const ulong CompactFromAge = 3;
    private const long FewSlots = 6; // Of the eight beyond twice what lives: the current one and the one ahead are not full.
    private readonly Dictionary<uint, int> _pins = [];
    private readonly Dictionary<uint, long> _pinnedSinceMicros = [];
    private readonly HashSet<uint> _retired = [];
    private readonly Dictionary<uint, long> _notBeforeMicros = [];
    private readonly SlotUses _use;
    private SlotInfo? _currentSlot;
    private SegmentScan? _scan;
    private long _nextUpkeepMicros;
    private long _lastSnapshotMicros;
    private bool _upkeepWaits;
    private string? _lastSnapshotFault;

    /// <summary>The journal's questions about slots.</summary>
    private sealed class SlotUses(Broker broker) : ISlotUse
    {
        public SlotUse Of(uint slot)
        {
            Engine.SlotLive live = broker._engine.Slot(slot);
            bool isScanned = broker._scan?.Slot == slot;
            return new SlotUse(live.Live, live.LiveBytes, live.LastLeftBlock, isScanned || broker._pins.ContainsKey(slot), broker._retired.Contains(slot));
        }
    }

    private void Keep()
    {
        if (_dead.Count > 0)
        {
            _dead.ForEach(session => session.Dispose());
            _dead.Clear();
        }

        if (_currentSlot is null || _journal.CurrentSlot != _currentSlot.Value.Id)
        {
            _currentSlot = _journal.InfoOf(_journal.CurrentSlot);
            _nextUpkeepMicros = 0;
        }

        Compact();
        if (_now.IntervalMicros < _nextUpkeepMicros && !_journal.WantsRoom)
        {
            return;
        }

        _nextUpkeepMicros = _now.IntervalMicros + UpkeepMicros;
        ListenAgain();
        Expel();
        _journal.Reclaim(_use);
        TellOfGoneSlots();
        ChooseCompaction();
        Snapshot();
    }

    private void Snapshot()
    {
        if (_journal.OpenBytes > 0 || _journal.SnapshotRunning || _journal.Failure is not null)
        {
            return;
        }

        _journal.ReserveSnapshots(_engine.StateBytes);
        if (_journal.Room is JournalRoom.Scarce or JournalRoom.Spent && _engine.Slot(_journal.CurrentSlot).Live == 0 && _journal.TryLeaveSlot())
        {
            return; // All of it was consumed: it is one of those that snapshots let go of.
        }

        bool due = _journal.IsSnapshotDue(_engine.StateBytes);
        _upkeepWaits = _journal.AtRest && HasReclaimable();
        if (!due && _upkeepWaits && _now.IntervalMicros - _lastSnapshotMicros >= IdleSnapshotMicros)
        {
            // At rest: two more snapshots, each at a block of its own, let go of all that is dead.
            due = _journal.SealClosing();
        }

        // On a full disk what is dead is let go of as soon as it can be.
        due |= _journal.RoomFault is not null && _now.IntervalMicros - _lastSnapshotMicros >= IdleSnapshotMicros && HasReclaimable();
        if (due)
        {
            _lastSnapshotMicros = _now.IntervalMicros;
            Result taken = _journal.TakeSnapshot(_engine.Save);
            _lastSnapshotFault = taken.Ok ? null : taken.Fault.ToString();
        }
    }

    /// <summary>A slot holds nothing that lives and waits only for snapshots.</summary>
    private bool HasReclaimable()
    {
        for (int i = 0; i < _journal.FullSlots; i++)
        {
            SlotInfo slot = _journal.FullSlot(i);
            if (slot.LastBlock != 0 && _engine.Slot(slot.Id).Live == 0 && !_pins.ContainsKey(slot.Id))
            {
                return true;
            }
        }

        return false;
    }

    private void ListenAgain()
    {
        foreach (Session session in _hot)
        {
            if (session.DeafUntilMicros != 0 && session.DeafUntilMicros <= _now.IntervalMicros)
            {
                session.DeafUntilMicros = 0;
                _ = _epoll.Add(session.Bell.Descriptor, EpollInterest.In | EpollInterest.Edge, TokenOf(session.Id, EventKind.Bell));
            }
        }
    }

    /// <summary>A reader that alone keeps a slot from being used again is expelled after a while; what it has mapped is unlinked then, not overwritten (DESIGN-REVIEW R8).</summary>
    private void Expel()
    {
        if (_pinnedSinceMicros.Count == 0)
        {
            return;
        }

        foreach ((uint slot, long since) in _pinnedSinceMicros.ToArray())
        {
            if (_engine.Slot(slot).Live > 0 || _now.IntervalMicros - since < (long)_options.ReaderPatience.TotalMicroseconds)
            {
                continue;
            }

            foreach (Session session in _sessions.Values.Where(session => session.Orphans.ContainsValue(slot)).ToArray())
            {
                End(session, RefusalCode.LimitReached, $"Limit reached: a reference whose lease had ended was kept for more than {_options.ReaderPatience.TotalSeconds:0} s, and alone held a slot of the journal.");
            }
        }
    }

    /// <summary>Chooses the oldest slot in which little lives, once several were filled after it.</summary>
    private void ChooseCompaction()
    {
        if (_scan is not null || _currentSlot is not SlotInfo current)
        {
            return;
        }

        // With no slot less than half full there are no more than two for what fills one (DESIGN-REVIEW R30); where there is room, moving waits until it is cheap.
        bool isOverBound = (long)_journal.FullSlots * _journal.SlotBytes > 2 * _engine.LiveBytes + FewSlots * _journal.SlotBytes;
        int most = _journal.SlotBytes / (isOverBound ? 2 : 4);
        for (int i = 0; i < _journal.FullSlots; i++)
        {
            SlotInfo slot = _journal.FullSlot(i);
            Engine.SlotLive live = _engine.Slot(slot.Id);
            bool isOld = slot.LastBlock != 0 && current.SegmentNumber - slot.SegmentNumber >= CompactFromAge;
            bool isSparse = live.Live > 0 && live.LiveBytes <= most;
            if (isOld && isSparse && _notBeforeMicros.GetValueOrDefault(slot.Id) <= _now.IntervalMicros)
            {
                _scan = _journal.StartScan(slot.Id);
                return;
            }
        }
    }

    /// <summary>Goes through one block of the chosen slot and writes again, at the head of the journal, what lives there.</summary>
    private void Compact()
    {
        if (_scan is not SegmentScan scan || _journal.WantsRoom || _journal.Room == JournalRoom.Spent)
        {
            return;
        }

        if (!scan.TryNext(out int offset, out ReadOnlySpan<byte> payload))
        {
            // What is in flight, or was damaged, stays; it is looked at again later. A slot that is empty now will be used again soon: that use is another matter.
            _notBeforeMicros[scan.Slot] = _engine.Slot(scan.Slot).Live > 0 ? _now.IntervalMicros + CompactAgainMicros : 0;
            scan.Dispose();
            _scan = null;
            return;
        }

        int at = 0;
        while (at < payload.Length)
        {
            RecordPrefix prefix = MemoryMarshal.Read<RecordPrefix>(payload[at..]);
            if (prefix.Kind.IsStoredMessage() || prefix.Kind == RecordKind.RoutedMessage)
            {
                Place place = new(scan.Slot, (uint)(offset + at));
                ReadOnlySpan<byte> record = payload.Slice(at, (int)prefix.LengthBytes);
                if (!(prefix.Kind == RecordKind.RoutedMessage ? TryMoveRouted(record, place) : TryMove(record, place)))
                {
                    break; // No room now: the next scan of this slot finds it.
                }
            }

            at += Limits.Align((int)prefix.LengthBytes);
        }
    }

    private bool TryMove(ReadOnlySpan<byte> record, Place place)
    {
        MessageHeader header = MemoryMarshal.Read<MessageHeader>(record);
        if (!_engine.IsLiveAt(header.Queue, header.Tag, place, out bool isInFlight) || isInFlight)
        {
            return true; // What is in flight may be under a reader's eyes: it is not moved.
        }

        int aligned = Limits.Align(record.Length);
        if (!_journal.TryReserve(aligned, out Span<byte> room, out Place to))
        {
            return false;
        }

        record.CopyTo(room);
        room[record.Length..aligned].Clear();
        room[4] = (byte)RecordKind.MovedMessage;
        _engine.Move(room[..record.Length], to, _journal.OpenBlock);
        _journal.Commit(aligned, 1);
        return true;
    }

    private void OnSlotGone(uint slot)
    {
        _engine.ForgetSlot(slot);
        _retired.Remove(slot);
        _notBeforeMicros.Remove(slot);
        foreach (Session session in _sessions.Values)
        {
            if (session.KnownSlots.Remove(slot))
            {
                session.GoneSlots.Enqueue(slot);
            }
        }
    }

    /// <summary>Who has a slot's file mapped keeps its room on the disk.</summary>
    private void TellOfGoneSlots()
    {
        foreach (Session session in _sessions.Values)
        {
            while (session.GoneSlots.Count > 0 && session.AnswerRoom >= 2 * NoticeBytes && !session.IsMoving)
            {
                Notice(session, new NoticeRecord { Kind = RecordKind.SlotRetired, Subject = session.GoneSlots.Dequeue() }, "");
                Touch(session);
            }
        }
    }
}
