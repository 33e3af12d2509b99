using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastQ.Protocol;

namespace FastQ.Engine;

// Messages that are stored once for several queues: the entry of each names the same place, and says that it is shared. The table below
// counts the entries of each such record: what lives in a slot counts it once, and it goes with the last. The table is not saved: it
// follows from the entries.

/// <summary>How many entries name each record that queues share. One thread. Its memory is charged to the budget of the indexes.</summary>
internal sealed class SharedRecords(PageAllocator pages) : IDisposable
{
    private readonly NativeMap<Row> _rows = new();
    private long _charged;

    public int Count => _rows.Count;

    public uint QueuesAt(Place place)
    {
        ref Row row = ref _rows.Find(new Row(StoredMessage.NumberOf(place), 0, 0));
        return Unsafe.IsNullRef(ref row) ? 0 : row.Queues;
    }

    /// <summary>So many more entries name it. False: it has another length.</summary>
    public bool TryAdd(Place place, uint lengthBytes, uint queues, out bool isFirst)
    {
        ulong number = StoredMessage.NumberOf(place);
        ref Row row = ref _rows.Find(new Row(number, 0, 0));
        isFirst = Unsafe.IsNullRef(ref row);
        if (!isFirst)
        {
            row = new Row(number, row.Queues + queues, row.LengthBytes);
            return row.LengthBytes == lengthBytes;
        }

        _rows.Set(new Row(number, queues, lengthBytes));
        Charge();
        return true;
    }

    /// <summary>An entry names it no more. True: that was the last.</summary>
    public bool Remove(Place place)
    {
        ulong number = StoredMessage.NumberOf(place);
        ref Row row = ref _rows.Find(new Row(number, 0, 0));
        Invariant.Holds(!Unsafe.IsNullRef(ref row));
        if (row.Queues > 1)
        {
            row = new Row(number, row.Queues - 1, row.LengthBytes);
            return false;
        }

        _rows.Remove(new Row(number, 0, 0));
        Charge();
        return true;
    }

    public void Dispose()
    {
        _rows.Dispose();
        Charge();
    }

    private void Charge()
    {
        pages.Charge(_rows.Bytes - _charged);
        _charged = _rows.Bytes;
    }

    /// <summary>The number of a place is never 0: no slot has the id 0.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private readonly struct Row(ulong number, uint queues, uint lengthBytes) : IMapRow<Row>
    {
        public ulong Number => number;

        public uint Queues => queues;

        public uint LengthBytes => lengthBytes;

        public bool IsVacant => number == 0;

        public uint Hash => TagHash.Near(number >> 8); // What was written one after the other comes and goes so, too.

        public bool Is(scoped in Row other) => number == other.Number;
    }
}

public sealed partial class QueueEngine
{
    private readonly SharedRecords _shared;

    /// <summary>A message for several queues, as <see cref="Route"/> chose them: its record stands in the open block, complete but for what the broker alone knows.</summary>
    /// <param name="record">A <see cref="RecordKind.RoutedMessage"/>.</param>
    /// <param name="place">Where it lies.</param>
    /// <param name="block">The open block.</param>
    public void PublishRouted(Span<byte> record, Place place, ulong block)
    {
        RoutedHeader header = MemoryMarshal.Read<RoutedHeader>(record);
        int offset = StoredMessage.OffsetOf((int)header.Count);
        ref MessageHeader message = ref MemoryMarshal.AsRef<MessageHeader>(record[offset..]);
        message.Kind = RecordKind.SharedMessage;
        message.Flags = 0;
        message.Queue = header.Exchange;
        message.Tag = StoredMessage.NumberOf(Behind(place, offset));
        if (header.Flags == 0)
        {
            message.NumberOrTimeMicros = (ulong)WallMicros; // Of one that died the time of its acceptance stays.
        }

        bool fits = ApplyRouted(record, place, block);
        Invariant.Holds(fits);
    }

    /// <summary>Those of a shared record's queues in which it is alive at this place. For compaction.</summary>
    /// <param name="targets">As its record has them.</param>
    /// <param name="place">Of the message in the record.</param>
    /// <param name="live">Room for as many.</param>
    /// <param name="isInFlight">Some consumer has it: it may be under a reader's eyes.</param>
    /// <returns>How many.</returns>
    public int LiveTargets(ReadOnlySpan<RoutedTarget> targets, Place place, Span<RoutedTarget> live, out bool isInFlight)
    {
        (int count, isInFlight) = (0, false);
        foreach (RoutedTarget target in targets)
        {
            if (IsLiveAt(target.Queue, target.Tag, place, out bool isHeld))
            {
                live[count++] = target;
                isInFlight |= isHeld;
            }
        }

        return count;
    }

    private static Place Behind(Place place, int bytes) => new(place.Slot, place.Offset + (uint)bytes);

    private bool ApplyRouted(ReadOnlySpan<byte> record, Place place, ulong block)
    {
        if (!StoredMessage.TryReadRouted(record, out RoutedHeader header, out ReadOnlySpan<RoutedTarget> targets, out ReadOnlySpan<byte> message) || (place.Offset & 7) != 0 || header.Flags > RoutedHeader.DeadLetter)
        {
            return false;
        }

        Place at = Behind(place, StoredMessage.OffsetOf(targets.Length));
        MessageHeader inner = MemoryMarshal.Read<MessageHeader>(message);
        if (header.Flags == RoutedHeader.Moved)
        {
            return ApplyMovedRouted(targets, inner, at, block);
        }

        bool isDeath = header.Flags == RoutedHeader.DeadLetter;
        inner.Kind = isDeath ? RecordKind.DeadLetter : RecordKind.Message; // What its properties may say, and whether it is a publish.
        if (isDeath)
        {
            bool departs = TryOriginOf(message, inner, PropertyTag.Death, out uint id, out ulong tag) && TryDepart(id, tag, block);
            if (!departs && !IsLenient)
            {
                return false;
            }
        }
        else
        {
            CountNumber();
        }

        if (!TryReadWish(message, inner, out Wish wish))
        {
            return false;
        }

        uint reached = 0;
        foreach (RoutedTarget target in targets)
        {
            inner.Tag = target.Tag;
            if (FindQueue(target.Queue) is Queue queue && IsNext(queue, inner, at))
            {
                EnqueueOnTerms(queue, inner.Tag, inner.LengthBytes, at, TermsOf(queue, inner.Kind, wish), isPublished: !isDeath, isShared: true);
                reached++;
            }
            else if (!IsLenient)
            {
                return false;
            }
        }

        return (reached == 0 || TryArriveShared(at, inner.LengthBytes, reached)) && reached == targets.Length;
    }

    /// <summary>Compaction wrote it again elsewhere, for the queues in which it was alive.</summary>
    private bool ApplyMovedRouted(ReadOnlySpan<RoutedTarget> targets, in MessageHeader message, Place to, ulong block)
    {
        bool fits = true;
        foreach (RoutedTarget target in targets)
        {
            bool isMoved = FindQueue(target.Queue, withDeleted: true) is Queue queue && TryMoveShared(queue, target.Tag, message.LengthBytes, to, block);
            fits &= isMoved;
            if (!isMoved && !IsLenient)
            {
                return false;
            }
        }

        return fits;
    }

    private bool TryMoveShared(Queue queue, ulong tag, uint lengthBytes, Place to, ulong block)
    {
        ref IndexEntry entry = ref queue.Index.Find(tag);
        if (Unsafe.IsNullRef(ref entry) || !entry.IsShared || entry.LengthBytes != lengthBytes || (entry.Slot == to.Slot && entry.Offset == to.Offset))
        {
            return false;
        }

        LeaveShared(entry, block);
        entry.Place(to, entry.State);
        if (entry.State == EntryState.Dying)
        {
            queue.DiedInBlock = block; // Where it lies now nobody can read it before that is written.
        }

        return TryArriveShared(to, lengthBytes, 1);
    }

    private bool TryArriveShared(Place place, uint lengthBytes, uint queues)
    {
        bool fits = _shared.TryAdd(place, lengthBytes, queues, out bool isFirst);
        if (isFirst)
        {
            Arrive(place.Slot, lengthBytes);
        }

        return fits;
    }

    private void LeaveShared(in IndexEntry entry, ulong block)
    {
        if (_shared.Remove(new Place(entry.Slot, entry.Offset)))
        {
            Leave(entry.Slot, entry.LengthBytes, block);
        }
    }
}
