using System.Numerics;
using System.Runtime.InteropServices;

namespace FastQ.Engine;

/// <summary>Pages of 16 KiB outside the managed heap, within a budget. One thread.</summary>
/// <remarks>Chunks of 1 MiB, aligned to their size, so that a page finds its chunk by its address. A chunk whose pages are all free goes back to the system, but for one.</remarks>
internal sealed unsafe class PageAllocator(long budgetBytes) : IDisposable
{
    public const int PageBytes = 16 * 1024;
    private const int ChunkBytes = 1024 * 1024;
    private readonly Dictionary<nint, ulong> _free = []; // chunk -> its free pages, one bit each
    private readonly Stack<nint> _withRoom = new();

    /// <summary>Bytes of pages in use.</summary>
    public long UsedBytes { get; private set; }

    /// <summary>May a page be taken within the budget? Recovery takes beyond it (DESIGN-REVIEW R49).</summary>
    public bool HasRoom => UsedBytes + PageBytes <= budgetBytes;

    /// <summary>A zeroed page.</summary>
    public byte* Take()
    {
        nint chunk = ChunkWithRoom();
        ulong free = _free[chunk];
        int index = BitOperations.TrailingZeroCount(free);
        _free[chunk] = free & (free - 1);
        UsedBytes += PageBytes;
        byte* page = (byte*)chunk + (long)index * PageBytes;
        NativeMemory.Clear(page, PageBytes);
        return page;
    }

    public void Return(byte* page)
    {
        nint chunk = (nint)page & ~(nint)(ChunkBytes - 1);
        ulong bit = 1ul << (int)((page - (byte*)chunk) / PageBytes);
        ulong free = _free[chunk];
        Invariant.Holds((free & bit) == 0);
        UsedBytes -= PageBytes;
        if ((free | bit) == ulong.MaxValue && UsedBytes > 0 && _withRoom.Count > 1)
        {
            _free.Remove(chunk);
            NativeMemory.AlignedFree((void*)chunk);
            return;
        }

        _free[chunk] = free | bit;
        if (free == 0)
        {
            _withRoom.Push(chunk);
        }
    }

    public void Dispose()
    {
        foreach (nint chunk in _free.Keys)
        {
            NativeMemory.AlignedFree((void*)chunk);
        }

        _free.Clear();
        _withRoom.Clear();
    }

    /// <summary>The stack may name chunks that are full or gone by now: they are dropped here.</summary>
    private nint ChunkWithRoom()
    {
        while (_withRoom.TryPeek(out nint chunk))
        {
            if (_free.TryGetValue(chunk, out ulong free) && free != 0)
            {
                return chunk;
            }

            _withRoom.Pop();
        }

        nint made = (nint)NativeMemory.AlignedAlloc(ChunkBytes, ChunkBytes);
        _free.Add(made, ulong.MaxValue);
        _withRoom.Push(made);
        return made;
    }
}

/// <summary>A growable array of plain values outside the managed heap, used as a power-of-two ring by absolute index.</summary>
internal sealed unsafe class NativeRing<T> : IDisposable
    where T : unmanaged
{
    private T* _items;
    private ulong _mask;

    /// <summary>Index of the first kept item.</summary>
    public ulong First { get; private set; }

    /// <summary>One past the last.</summary>
    public ulong End { get; private set; }

    public ulong Count => End - First;

    public long Bytes => _items == null ? 0 : (long)((_mask + 1) * (ulong)sizeof(T));

    public ref T this[ulong index]
    {
        get
        {
            Invariant.Holds(index - First < End - First);
            return ref _items[index & _mask];
        }
    }

    /// <summary>Begins anew at an index; only when empty.</summary>
    public void StartAt(ulong index)
    {
        Invariant.Holds(Count == 0);
        First = End = index;
    }

    public void Add(T item)
    {
        if (_items == null || Count > _mask)
        {
            Grow();
        }

        _items[End & _mask] = item;
        End++;
    }

    public void RemoveFirst()
    {
        Invariant.Holds(Count > 0);
        First++;
        if (Count == 0 && _mask >= 4096)
        {
            Dispose(); // A burst has passed: the memory goes back.
        }
    }

    public void Clear()
    {
        First = End;
        Dispose();
    }

    public void Dispose()
    {
        NativeMemory.Free(_items);
        _items = null;
        _mask = 0;
    }

    private void Grow()
    {
        ulong count = Math.Max(16, Count * 2);
        T* larger = (T*)NativeMemory.Alloc((nuint)count, (nuint)sizeof(T));
        for (ulong i = First; i < End; i++)
        {
            larger[i & (count - 1)] = _items[i & _mask];
        }

        NativeMemory.Free(_items);
        _items = larger;
        _mask = count - 1;
    }
}

/// <summary>Numbers, the smallest first: a binary heap outside the managed heap. The same number may be in it twice.</summary>
internal sealed unsafe class NativeHeap : IDisposable
{
    private ulong* _items;
    private int _capacity;

    public int Count { get; private set; }

    public ulong Top
    {
        get
        {
            Invariant.Holds(Count > 0);
            return _items[0];
        }
    }

    public void Push(ulong item)
    {
        if (Count == _capacity)
        {
            _capacity = Math.Max(64, _capacity * 2);
            _items = (ulong*)NativeMemory.Realloc(_items, (nuint)_capacity * sizeof(ulong));
        }

        int at = Count++;
        while (at > 0 && _items[(at - 1) / 2] > item)
        {
            _items[at] = _items[(at - 1) / 2];
            at = (at - 1) / 2;
        }

        _items[at] = item;
    }

    public void Pop()
    {
        Invariant.Holds(Count > 0);
        ulong last = _items[--Count];
        int at = 0;
        while (2 * at + 1 < Count)
        {
            int child = 2 * at + 1;
            child += child + 1 < Count && _items[child + 1] < _items[child] ? 1 : 0;
            if (_items[child] >= last)
            {
                break;
            }

            _items[at] = _items[child];
            at = child;
        }

        _items[at] = last;
        if (Count == 0 && _capacity > 4096)
        {
            Dispose();
        }
    }

    public void Clear()
    {
        Count = 0;
        Dispose();
    }

    public void Dispose()
    {
        NativeMemory.Free(_items);
        _items = null;
        _capacity = 0;
        Count = 0;
    }
}
