using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace FastQ.Engine;

// Ordered sets of numbers, many in one pool outside the managed heap: 16 bytes an element. A set is its root, which its owner keeps; 0 is
// the empty one.
//
// Each is a treap: a search tree by number whose nodes are also a heap by a hash of it, so that its depth is that of a tree built in
// random order, whatever the order in which numbers come (Seidel and Aragon, Randomized search trees, 1996). Ours come mostly in rising
// order and leave from the front: both ends of the tree are short and stay in the cache.

/// <summary>A pool of sets of numbers. One thread. References to roots may be to managed or native memory.</summary>
internal sealed unsafe class NativeSets : IDisposable
{
    private const uint LeastCapacity = 16;
    private Node* _nodes;
    private uint _capacity;
    private uint _used = 1; // Node 0 is no node.
    private uint _free;

    public long Bytes => (long)_capacity * sizeof(Node);

    /// <summary>The lowest number of a set that is not empty.</summary>
    public ulong First(uint root)
    {
        Invariant.Holds(root != 0);
        while (_nodes[root].Left != 0)
        {
            root = _nodes[root].Left;
        }

        // What is lowest when this one has left: its right one, or a parent that was passed just now.
        if (Sse.IsSupported)
        {
            Sse.Prefetch0(_nodes + _nodes[root].Right);
        }

        return _nodes[root].Key;
    }

    /// <summary>Adds a number that is not there.</summary>
    public void Add(ref uint root, ulong key)
    {
        uint made = Take(key);
        ulong weight = WeightOf(key);
        ref uint link = ref root;
        while (link != 0 && WeightOf(_nodes[link].Key) >= weight)
        {
            link = ref key < _nodes[link].Key ? ref _nodes[link].Left : ref _nodes[link].Right;
        }

        // What stood here is parted into what is below the number and what is above it.
        uint rest = link;
        link = made;
        ref uint below = ref _nodes[made].Left;
        ref uint above = ref _nodes[made].Right;
        while (rest != 0)
        {
            if (_nodes[rest].Key < key)
            {
                below = rest;
                below = ref _nodes[rest].Right;
                rest = below;
            }
            else
            {
                above = rest;
                above = ref _nodes[rest].Left;
                rest = above;
            }
        }

        below = 0;
        above = 0;
    }

    /// <summary>Removes a number that is there.</summary>
    public void Remove(ref uint root, ulong key)
    {
        ref uint link = ref root;
        while (link != 0 && _nodes[link].Key != key)
        {
            link = ref key < _nodes[link].Key ? ref _nodes[link].Left : ref _nodes[link].Right;
        }

        Invariant.Holds(link != 0);
        uint gone = link;
        (uint below, uint above) = (_nodes[gone].Left, _nodes[gone].Right);
        while (below != 0 && above != 0)
        {
            if (WeightOf(_nodes[below].Key) >= WeightOf(_nodes[above].Key))
            {
                link = below;
                link = ref _nodes[below].Right;
                below = link;
            }
            else
            {
                link = above;
                link = ref _nodes[above].Left;
                above = link;
            }
        }

        link = below != 0 ? below : above;
        _nodes[gone].Left = _free;
        _free = gone;
    }

    /// <summary>All sets are empty from now on: their owners forget their roots.</summary>
    public void Clear() => (_used, _free) = (1, 0);

    public void Dispose()
    {
        NativeMemory.Free(_nodes);
        _nodes = null;
        _capacity = 0;
        Clear();
    }

    private uint Take(ulong key)
    {
        uint taken = _free;
        if (taken != 0)
        {
            _free = _nodes[taken].Left;
        }
        else
        {
            if (_used >= _capacity)
            {
                _capacity = Math.Max(LeastCapacity, _capacity * 2);
                _nodes = (Node*)NativeMemory.Realloc(_nodes, (nuint)_capacity * (nuint)sizeof(Node));
            }

            taken = _used++;
        }

        _nodes[taken] = new Node { Key = key };
        return taken;
    }

    /// <summary>The finalizer of MurmurHash3: one to one, so no two numbers weigh the same.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong WeightOf(ulong key)
    {
        key = (key ^ (key >> 33)) * 0xFF51AFD7ED558CCD;
        key = (key ^ (key >> 33)) * 0xC4CEB9FE1A85EC53;
        return key ^ (key >> 33);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Node
    {
        public ulong Key;
        public uint Left;
        public uint Right;
    }
}
