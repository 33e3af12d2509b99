using System.Runtime.CompilerServices;
using FastQ.Protocol;

namespace FastQ.Engine;

// What the journal must know of the queues: which slots hold live messages, and whether a record still holds one. A slot counts every
// message whose entry is there, those included that a purge or deletion has taken out of the counts and a slice has not reached yet.

public sealed partial class QueueEngine
{
    /// <summary>What lives in a slot.</summary>
    public SlotLive Slot(uint slot) => _slots.TryGetValue(slot, out SlotState? state) ? new SlotLive(state.Live, state.LiveBytes, state.LastLeftBlock) : default;

    /// <summary>The slot's file is gone.</summary>
    public void ForgetSlot(uint slot)
    {
        if (_slots.TryGetValue(slot, out SlotState? state) && state.Live == 0)
        {
            _slots.Remove(slot);
            _arrivalSlot = _arrivalSlot == state ? null : _arrivalSlot;
            _leaveSlot = _leaveSlot == state ? null : _leaveSlot;
        }
    }

    /// <summary>Does this record still hold the message? For compaction.</summary>
    public bool IsLiveAt(uint queue, ulong tag, Place place, out bool isInFlight)
    {
        isInFlight = false;
        if (FindQueue(queue, withDeleted: true) is not Queue found)
        {
            return false;
        }

        ref IndexEntry entry = ref found.Index.Find(tag);
        if (Unsafe.IsNullRef(ref entry) || entry.Slot != place.Slot || entry.Offset != place.Offset)
        {
            return false;
        }

        isInFlight = entry.State == EntryState.InFlight;
        return true;
    }

    /// <summary>Applies a record that compaction wrote: the same message at another place. Its old bytes may still be read by who holds it.</summary>
    public void Move(ReadOnlySpan<byte> record, Place place, ulong block)
    {
        bool fits = ApplyMoved(record, place, block);
        Invariant.Holds(fits);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Arrive(uint slot, uint lengthBytes)
    {
        SlotState state = _arrivalSlot?.Id == slot ? _arrivalSlot : _arrivalSlot = SlotOf(slot);
        state.Live++;
        state.LiveBytes += lengthBytes;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Leave(uint slot, uint lengthBytes, ulong block)
    {
        SlotState state = _leaveSlot?.Id == slot ? _leaveSlot : _leaveSlot = SlotOf(slot);
        state.Live--;
        state.LiveBytes -= lengthBytes;
        state.LastLeftBlock = block;
        Invariant.Holds(state.Live >= 0);
    }

    private SlotState SlotOf(uint id)
    {
        if (!_slots.TryGetValue(id, out SlotState? state))
        {
            _slots[id] = state = new SlotState(id);
        }

        return state;
    }
}
