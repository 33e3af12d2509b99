using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FastQ.Engine;

// Times of messages, by tag, outside the managed heap: when a delayed one is due, when one expires.
//
//   rows  [ tag, time | - | tag, time | ... ]     open addressing, a power of two, at most two thirds full: the truth
//   heap  [ (time, tag), the earliest first ]     with leftovers: one is true when the row of its tag says the same time
//
// A message costs 16 bytes here and 24 there. Leftovers never outnumber the true ones by more than a few.

/// <summary>A message's time.</summary>
internal readonly record struct TimedTag(long AtMicros, ulong Tag) : IComparable<TimedTag>
{
    public int CompareTo(TimedTag other) => AtMicros != other.AtMicros ? AtMicros.CompareTo(other.AtMicros) : Tag.CompareTo(other.Tag);
}

/// <summary>Times by tag, and the earliest of them. One thread. Its memory is charged to the budget of the indexes.</summary>
internal sealed class MessageTimes(PageAllocator pages) : IDisposable
{
    private const int FewLeftovers = 64;
    private readonly NativeMap<Row> _rows = new();
    private readonly NativeHeap<TimedTag> _heap = new();
    private long _charged;

    /// <summary>How many messages have a time.</summary>
    public int Count => _rows.Count;

    public long Bytes => _rows.Bytes + _heap.Bytes;

    /// <summary>The time of a message.</summary>
    public bool TryFind(ulong tag, out long atMicros)
    {
        ref Row row = ref _rows.Find(new Row { Tag = tag });
        bool isThere = !Unsafe.IsNullRef(ref row);
        atMicros = isThere ? row.AtMicros : 0;
        return isThere;
    }

    /// <summary>Gives a message a time, in the place of the one it had.</summary>
    public void Set(ulong tag, long atMicros)
    {
        _rows.Set(new Row { Tag = tag, AtMicros = atMicros });
        _heap.Push(new TimedTag(atMicros, tag));
        if (_heap.Count > 2 * Count + FewLeftovers)
        {
            DropLeftovers();
        }

        Charge();
    }

    /// <summary>A message has no time any more; nothing happens when it had none.</summary>
    public void Remove(ulong tag)
    {
        if (!_rows.Remove(new Row { Tag = tag }))
        {
            return;
        }

        if (Count == 0)
        {
            _heap.Dispose();
        }
        else if (_heap.Count > 8 * Count + FewLeftovers)
        {
            DropLeftovers();
        }

        Charge();
    }

    /// <summary>The earliest, the lowest tag first among equals.</summary>
    public bool TryPeek(out TimedTag earliest)
    {
        while (_heap.Count > 0)
        {
            earliest = _heap.Top;
            if (TryFind(earliest.Tag, out long at) && at == earliest.AtMicros)
            {
                return true;
            }

            _heap.Pop();
        }

        earliest = default;
        return false;
    }

    /// <summary>The one that <see cref="TryPeek"/> gave keeps its time, but is not looked for again before it is set anew.</summary>
    public void Pass() => _heap.Pop();

    public void Dispose()
    {
        _rows.Dispose();
        _heap.Dispose();
        Charge();
    }

    private void Charge()
    {
        pages.Charge(Bytes - _charged);
        _charged = Bytes;
    }

    /// <summary>Makes the heap anew from the rows.</summary>
    private void DropLeftovers()
    {
        _heap.Clear(Count * 3 / 2);
        foreach (ref readonly Row row in _rows.Rows)
        {
            if (!row.IsVacant)
            {
                _heap.Push(new TimedTag(row.AtMicros, row.Tag));
            }
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Row : IMapRow<Row>
    {
        public ulong Tag;
        public long AtMicros;

        public readonly bool IsVacant => Tag == 0;

        public readonly uint Hash => TagHash.Near(Tag);

        public readonly bool Is(scoped in Row other) => Tag == other.Tag;
    }
}
