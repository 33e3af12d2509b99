using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace FastQ.Engine;

/// <summary>A row of a <see cref="NativeMap{TRow}"/>: what it is found by, and whatever else.</summary>
internal interface IMapRow<TRow>
    where TRow : unmanaged, IMapRow<TRow>
{
    /// <summary>A row of zeros is vacant, no other one.</summary>
    bool IsVacant { get; }

    /// <summary>Of what it is found by, its bits well mixed.</summary>
    uint Hash { get; }

    /// <summary>Is it found by the same?</summary>
    bool Is(scoped in TRow other);
}

/// <summary>The hash of rows that are found by a tag.</summary>
internal static class TagHash
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint Of(ulong tag) => (uint)((tag * 0x9E3779B97F4A7C15) >> 32);

    /// <summary>Of eight neighbours the same but for its last bits: they come and go one after the other, and share two lines of the cache.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint Near(ulong tag) => (Of(tag >> 3) << 3) | (uint)(tag & 7);
}

/// <summary>Rows outside the managed heap: open addressing, a power of two, at most two thirds full. References are void when a row comes or goes. One thread.</summary>
internal sealed unsafe class NativeMap<TRow> : IDisposable
    where TRow : unmanaged, IMapRow<TRow>
{
    private const int LeastCapacity = 16;
    private TRow* _rows;
    private int _capacity;

    public int Count { get; private set; }

    public long Bytes => (long)_capacity * sizeof(TRow);

    /// <summary>Places for rows; some are vacant.</summary>
    public int Capacity => _capacity;

    /// <summary>The row at a place, in no order.</summary>
    public TRow At(int place)
    {
        Invariant.Holds((uint)place < (uint)_capacity);
        return _rows[place];
    }

    /// <summary>All of them, vacant ones between.</summary>
    public ReadOnlySpan<TRow> Rows => new(_rows, _capacity);

    /// <summary>The row that is found by the same as this one, or a null reference.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ref TRow Find(scoped in TRow like)
    {
        if (Count == 0)
        {
            return ref Unsafe.NullRef<TRow>();
        }

        ref TRow row = ref _rows[PlaceOf(like)];
        return ref row.IsVacant ? ref Unsafe.NullRef<TRow>() : ref row;
    }

    /// <summary>The row that is found by the same as this one will be wanted soon.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Prefetch(scoped in TRow like)
    {
        if (Count > 0 && Sse.IsSupported)
        {
            Sse.Prefetch0(_rows + Home(like));
        }
    }

    /// <summary>Sets a row, in the place of the one that is found by the same.</summary>
    public void Set(in TRow row)
    {
        Invariant.Holds(!row.IsVacant);
        if ((Count + 1) * 3 > _capacity * 2)
        {
            Resize(Math.Max(LeastCapacity, _capacity * 2));
        }

        int at = PlaceOf(row);
        Count += _rows[at].IsVacant ? 1 : 0;
        _rows[at] = row;
    }

    /// <summary>Removes the row that is found by the same as this one. False: there is none.</summary>
    public bool Remove(in TRow like)
    {
        int hole = Count == 0 ? -1 : PlaceOf(like);
        if (hole < 0 || _rows[hole].IsVacant)
        {
            return false;
        }

        // What stands behind it and would not be found any more moves up (Knuth, The Art of Computer Programming, volume 3, 6.4, algorithm R).
        int mask = _capacity - 1;
        for (int at = (hole + 1) & mask; !_rows[at].IsVacant; at = (at + 1) & mask)
        {
            if (((at - Home(_rows[at])) & mask) >= ((at - hole) & mask))
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
        }

        return true;
    }

    public void Dispose()
    {
        NativeMemory.Free(_rows);
        _rows = null;
        (_capacity, Count) = (0, 0);
    }

    /// <summary>Where the row stands, or the vacant place where it would.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private int PlaceOf(scoped in TRow row)
    {
        int at = Home(row);
        while (!_rows[at].IsVacant && !_rows[at].Is(row))
        {
            at = (at + 1) & (_capacity - 1);
        }

        return at;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private int Home(scoped in TRow row) => (int)row.Hash & (_capacity - 1);

    private void Resize(int capacity)
    {
        TRow* old = _rows;
        int oldCapacity = _capacity;
        _rows = (TRow*)NativeMemory.AllocZeroed((nuint)capacity, (nuint)sizeof(TRow));
        _capacity = capacity;
        for (int i = 0; i < oldCapacity; i++)
        {
            if (!old[i].IsVacant)
            {
                _rows[PlaceOf(old[i])] = old[i];
            }
        }

        NativeMemory.Free(old);
    }
}
