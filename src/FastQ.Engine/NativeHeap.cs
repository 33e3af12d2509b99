using System.Runtime.InteropServices;

namespace FastQ.Engine;

/// <summary>Plain values, the smallest first: a binary heap outside the managed heap. The same value may be in it twice. One thread.</summary>
internal sealed unsafe class NativeHeap<T> : IDisposable
    where T : unmanaged, IComparable<T>
{
    private const int LeastCapacity = 16;
    private const int FewItems = 4096;
    private T* _items;
    private int _capacity;

    public int Count { get; private set; }

    public long Bytes => (long)_capacity * sizeof(T);

    public T Top
    {
        get
        {
            Invariant.Holds(Count > 0);
            return _items[0];
        }
    }

    public void Push(T item)
    {
        if (Count == _capacity)
        {
            Resize(Math.Max(LeastCapacity, _capacity * 2));
        }

        int at = Count++;
        while (at > 0 && _items[(at - 1) / 2].CompareTo(item) > 0)
        {
            _items[at] = _items[(at - 1) / 2];
            at = (at - 1) / 2;
        }

        _items[at] = item;
    }

    public void Pop()
    {
        Invariant.Holds(Count > 0);
        T last = _items[--Count];
        int at = 0;
        while (2 * at + 1 < Count)
        {
            int child = 2 * at + 1;
            child += child + 1 < Count && _items[child + 1].CompareTo(_items[child]) < 0 ? 1 : 0;
            if (_items[child].CompareTo(last) >= 0)
            {
                break;
            }

            _items[at] = _items[child];
            at = child;
        }

        _items[at] = last;
        if (Count == 0 && _capacity > FewItems)
        {
            Dispose();
        }
    }

    /// <summary>Empties it, and keeps room for so many.</summary>
    public void Clear(int capacity)
    {
        Count = 0;
        Resize(Math.Max(LeastCapacity, capacity));
    }

    public void Dispose()
    {
        NativeMemory.Free(_items);
        _items = null;
        (_capacity, Count) = (0, 0);
    }

    private void Resize(int capacity)
    {
        _items = (T*)NativeMemory.Realloc(_items, (nuint)capacity * (nuint)sizeof(T));
        _capacity = capacity;
    }
}
