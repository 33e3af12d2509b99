using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FastQ.Engine;

// Plain values outside the managed heap, by an index that only rises.
//
//   old: sorted (index, item), few       ring: First .......... End, a power of two
//   [ 7 | 1022 | 90001 ]                 [ . . x x . x x x x ]
//
// Most items live briefly and leave in about the order in which they came: they stand in the ring, found without a search. The few that
// outlive their neighbours move to the sorted list, so that one of them keeps nothing else (an unsettled message of a year ago, a task
// that runs for a day).

/// <summary>An item that may be vacant: <c>default</c> is.</summary>
internal interface IVacant
{
    bool IsVacant { get; }
}

/// <summary>Items by rising index. One thread.</summary>
internal sealed unsafe class SparseRing<T> : IDisposable
    where T : unmanaged, IVacant
{
    /// <summary>A ring of this span is never thinned.</summary>
    private const ulong LeastSpan = 1024;

    private T* _items;
    private ulong _mask;
    private ulong _first;
    private OldItem* _old;
    private int _oldCount;
    private int _oldCapacity;
    private int _oldLive;

    /// <summary>One past the last index that was ever appended.</summary>
    public ulong End { get; private set; }

    /// <summary>Items that are not vacant.</summary>
    public long Live { get; private set; }

    /// <summary>Memory, in bytes.</summary>
    public long Bytes => (_items == null ? 0 : (long)(_mask + 1) * sizeof(T)) + (long)_oldCapacity * sizeof(OldItem);

    /// <summary>The item, or a null reference.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ref T Find(ulong index)
    {
        if (index - _first < End - _first)
        {
            ref T item = ref _items[index & _mask];
            return ref item.IsVacant ? ref Unsafe.NullRef<T>() : ref item;
        }

        return ref FindOld(index);
    }

    /// <summary>Adds an item at an index not below <see cref="End"/>; what lies between is vacant.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Append(ulong index, T item)
    {
        if (index != End || End - _first > _mask || _items == null)
        {
            Prepare(index);
        }

        _items[index & _mask] = item;
        End = index + 1;
        Live++;
    }

    /// <summary>Takes an item out, if it is there.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryTake(ulong index, out T item)
    {
        ref T found = ref Find(index);
        if (Unsafe.IsNullRef(ref found))
        {
            item = default;
            return false;
        }

        item = found;
        found = default;
        Live--;
        if (index == _first && End - _first > 1)
        {
            _first++; // The common case: in order, and more follow.
            return true;
        }

        AfterTake(index);
        return true;
    }

    public void Vacate(ulong index)
    {
        bool wasThere = TryTake(index, out _);
        Invariant.Holds(wasThere);
    }

    private void AfterTake(ulong index)
    {
        if (index - _first >= End - _first)
        {
            OnOldVacated();
        }
        else if (index == _first)
        {
            DropVacant();
        }

        if (End - _first > LeastSpan && End - _first > 4 * (ulong)Live)
        {
            Thin();
        }
    }

    /// <summary>The lowest index from <paramref name="from"/> on that is not vacant; <see cref="ulong.MaxValue"/>: none.</summary>
    public ulong NextOccupied(ulong from)
    {
        for (int i = LowerBound(from); i < _oldCount; i++)
        {
            if (!_old[i].Item.IsVacant)
            {
                return _old[i].Index;
            }
        }

        for (ulong index = Math.Max(from, _first); index < End; index++)
        {
            if (!_items[index & _mask].IsVacant)
            {
                return index;
            }
        }

        return ulong.MaxValue;
    }

    /// <summary>All below an index was used: the next append is not below it.</summary>
    public void Reach(ulong index)
    {
        if (index > End)
        {
            Prepare(index);
        }
    }

    public void Dispose()
    {
        NativeMemory.Free(_items);
        NativeMemory.Free(_old);
        _items = null;
        _old = null;
        (_mask, _oldCount, _oldCapacity, _oldLive, Live) = (0, 0, 0, 0, 0);
        _first = End;
    }

    /// <summary>Makes room for an index beyond the ring, or after a gap.</summary>
    private void Prepare(ulong index)
    {
        Invariant.Holds(index >= End);
        if (_first == End)
        {
            _first = End = index;
        }

        if (index - End > LeastSpan)
        {
            while (_first < End)
            {
                MoveFirst();
            }

            _first = End = index;
            ShrinkIfWide();
        }

        do
        {
            if (_items == null || End - _first > _mask)
            {
                Resize(Math.Max(4, (End - _first) * 2));
            }

            if (End == index)
            {
                return;
            }

            _items[End & _mask] = default;
            End++;
        }
        while (true);
    }

    private void Resize(ulong count)
    {
        T* larger = (T*)NativeMemory.Alloc((nuint)count, (nuint)sizeof(T));
        for (ulong i = _first; i < End; i++)
        {
            larger[i & (count - 1)] = _items[i & _mask];
        }

        NativeMemory.Free(_items);
        _items = larger;
        _mask = count - 1;
    }

    private void DropVacant()
    {
        while (_first < End && _items[_first & _mask].IsVacant)
        {
            _first++;
        }

        ShrinkIfWide();
    }

    /// <summary>A burst has passed: the memory goes back.</summary>
    private void ShrinkIfWide()
    {
        if (_mask + 1 >= 4 * LeastSpan && End - _first <= (_mask + 1) / 4)
        {
            Resize(BitOperations.RoundUpToPowerOf2(Math.Max(LeastSpan, 2 * (End - _first))));
        }
    }

    private void Thin()
    {
        while (End - _first > LeastSpan && End - _first > 4 * (ulong)Live)
        {
            MoveFirst();
        }

        ShrinkIfWide();
    }

    private void MoveFirst()
    {
        T item = _items[_first & _mask];
        if (!item.IsVacant)
        {
            if (_oldCount == _oldCapacity)
            {
                _oldCapacity = Math.Max(8, _oldCapacity * 2);
                _old = (OldItem*)NativeMemory.Realloc(_old, (nuint)_oldCapacity * (nuint)sizeof(OldItem));
            }

            _old[_oldCount++] = new OldItem { Index = _first, Item = item };
            _oldLive++;
        }

        _first++;
    }

    private int LowerBound(ulong index)
    {
        (int low, int high) = (0, _oldCount);
        while (low < high)
        {
            int middle = (low + high) / 2;
            (low, high) = _old[middle].Index < index ? (middle + 1, high) : (low, middle);
        }

        return low;
    }

    private ref T FindOld(ulong index)
    {
        int at = LowerBound(index);
        return ref at == _oldCount || _old[at].Index != index || _old[at].Item.IsVacant ? ref Unsafe.NullRef<T>() : ref _old[at].Item;
    }

    private void OnOldVacated()
    {
        _oldLive--;
        if (_oldLive * 2 > _oldCount)
        {
            return;
        }

        int kept = 0;
        for (int i = 0; i < _oldCount; i++)
        {
            if (!_old[i].Item.IsVacant)
            {
                _old[kept++] = _old[i];
            }
        }

        _oldCount = kept;
        if (kept == 0)
        {
            NativeMemory.Free(_old);
            _old = null;
            _oldCapacity = 0;
        }
        else if (kept <= _oldCapacity / 4)
        {
            _oldCapacity = kept * 2;
            _old = (OldItem*)NativeMemory.Realloc(_old, (nuint)_oldCapacity * (nuint)sizeof(OldItem));
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct OldItem
    {
        public ulong Index;
        public T Item;
    }
}
