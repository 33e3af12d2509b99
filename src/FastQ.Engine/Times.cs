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
internal sealed unsafe class MessageTimes(PageAllocator pages) : IDisposable
{
    private const int LeastCapacity = 16;
    private const int FewLeftovers = 64;
    private Row* _rows;
    private int _capacity;
    private readonly NativeHeap<TimedTag> _heap = new();
    private long _charged;

    /// <summary>How many messages have a time.</summary>
    public int Count { get; private set; }

    public long Bytes => (long)_capacity * sizeof(Row) + _heap.Bytes;

    /// <summary>The time of a message.</summary>
    public bool TryFind(ulong tag, out long atMicros)
    {
        int at = Count == 0 ? -1 : Find(tag);
        atMicros = at >= 0 && _rows[at].Tag == tag ? _rows[at].AtMicros : 0;
        return at >= 0 && _rows[at].Tag == tag;
    }

    /// <summary>Gives a message a time, in the place of the one it had.</summary>
    public void Set(ulong tag, long atMicros)
    {
        Invariant.Holds(tag != 0);
        if ((Count + 1) * 3 > _capacity * 2)
        {
            Resize(Math.Max(LeastCapacity, _capacity * 2));
        }

        int at = Find(tag);
        Count += _rows[at].Tag == tag ? 0 : 1;
        _rows[at] = new Row { Tag = tag, AtMicros = atMicros };
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
        int hole = Count == 0 ? -1 : Find(tag);
        if (hole < 0 || _rows[hole].Tag != tag)
        {
            return;
        }

        // What stands behind it and would not be found any more moves up (Knuth, The Art of Computer Programming, volume 3, 6.4, algorithm R).
        int mask = _capacity - 1;
        for (int at = (hole + 1) & mask; _rows[at].Tag != 0; at = (at + 1) & mask)
        {
            if (((at - Home(_rows[at].Tag)) & mask) >= ((at - hole) & mask))
            {
                _rows[hole] = _rows[at];
                hole = at;
            }
        }

        _rows[hole] = default;
        Count--;
        if (Count == 0)
        {
            Dispose();
        }
        else if (_capacity > LeastCapacity && Count < _capacity / 8)
        {
            Resize(_capacity / 2);
            DropLeftovers();
            Charge();
        }
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
        NativeMemory.Free(_rows);
        _heap.Dispose();
        _rows = null;
        (_capacity, Count) = (0, 0);
        Charge();
    }

    private void Charge()
    {
        pages.Charge(Bytes - _charged);
        _charged = Bytes;
    }

    /// <summary>Where the tag stands, or the free row where it would.</summary>
    private int Find(ulong tag)
    {
        int at = Home(tag);
        while (_rows[at].Tag != tag && _rows[at].Tag != 0)
        {
            at = (at + 1) & (_capacity - 1);
        }

        return at;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private int Home(ulong tag) => (int)((tag * 0x9E3779B97F4A7C15) >> 32) & (_capacity - 1);

    private void Resize(int capacity)
    {
        Row* old = _rows;
        int oldCapacity = _capacity;
        _rows = (Row*)NativeMemory.AllocZeroed((nuint)capacity, (nuint)sizeof(Row));
        _capacity = capacity;
        for (int i = 0; i < oldCapacity; i++)
        {
            if (old[i].Tag != 0)
            {
                _rows[Find(old[i].Tag)] = old[i];
            }
        }

        NativeMemory.Free(old);
    }

    /// <summary>Makes the heap anew from the rows.</summary>
    private void DropLeftovers()
    {
        _heap.Clear(Count * 3 / 2);
        for (int i = 0; i < _capacity; i++)
        {
            if (_rows[i].Tag != 0)
            {
                _heap.Push(new TimedTag(_rows[i].AtMicros, _rows[i].Tag));
            }
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Row
    {
        public ulong Tag;
        public long AtMicros;
    }
}
