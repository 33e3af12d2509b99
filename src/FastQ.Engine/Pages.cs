using System.Numerics;
using System.Runtime.InteropServices;

namespace FastQ.Engine;

// Memory of the indexes: pages of 16 KiB, and pieces of 32 B, 128 B, 512 B and 4 KiB for pages in which little lives.
//
//   chunk (1 MiB, aligned) | page | page | ... 64 of them
//   a page cut into pieces | header | piece | piece | ...     the free ones hold a list: each names the next
//
// Invariants: a page's chunk and a piece's page are found by rounding its address down. Pages with a free piece stand in a list per size.
// A chunk whose pages are all free goes back to the system, but for one.

/// <summary>Pages and pieces outside the managed heap, within a budget. One thread.</summary>
internal sealed unsafe class PageAllocator(long budgetBytes) : IDisposable
{
    public const int PageBytes = 16 * 1024;
    private const int ChunkBytes = 1024 * 1024;
    private readonly Dictionary<nint, Chunk> _chunks = [];
    private readonly Stack<nint> _withRoom = new(); // Each chunk at most once; full ones may be in it.
    private readonly PieceHeader*[] _cut = new PieceHeader*[s_pieceBytes.Length]; // by size: pages that have a free piece
    private int _emptyChunks;

    private static readonly int[] s_pieceBytes = [32, 128, 512, 4096];

    [ThreadStatic] private static int t_outstanding;

    /// <summary>Chunks that allocators of this thread took and did not give back. For worlds of one thread that look for what was forgotten.</summary>
    public static int Outstanding => t_outstanding;

    /// <summary>Bytes of pages in use, those cut into pieces included, and of what was charged.</summary>
    public long UsedBytes { get; private set; }

    /// <summary>Bytes taken from the system.</summary>
    public long ReservedBytes => (long)_chunks.Count * ChunkBytes;

    /// <summary>May a page be taken within the budget? Recovery and settlements take beyond it (DESIGN-REVIEW R49).</summary>
    public bool HasRoom => HasRoomForPages(1);

    /// <summary>As <see cref="HasRoom"/>, for so many at once.</summary>
    public bool HasRoomForPages(int pages) => UsedBytes + (long)pages * PageBytes <= budgetBytes;

    /// <summary>As <see cref="HasRoom"/>, where so many bytes more are to be taken.</summary>
    public bool HasRoomForBytes(long bytes) => UsedBytes + PageBytes + bytes <= budgetBytes;

    /// <summary>Memory beside the pages that counts as theirs; negative: it was given back.</summary>
    public void Charge(long bytes) => UsedBytes += bytes;

    /// <summary>Zeroed memory of one of the sizes, aligned to 16 bytes.</summary>
    public byte* Take(int bytes)
    {
        byte* memory = bytes == PageBytes ? TakePage() : TakePiece(Array.IndexOf(s_pieceBytes, bytes));
        NativeMemory.Clear(memory, (nuint)bytes);
        return memory;
    }

    /// <param name="bytes">As it was taken.</param>
    public void Return(byte* memory, int bytes)
    {
        if (bytes == PageBytes)
        {
            ReturnPage(memory);
            return;
        }

        ReturnPiece(memory, Array.IndexOf(s_pieceBytes, bytes));
    }

    public void Dispose()
    {
        foreach (nint chunk in _chunks.Keys)
        {
            NativeMemory.AlignedFree((void*)chunk);
            t_outstanding--;
        }

        _chunks.Clear();
        _withRoom.Clear();
        Array.Clear(_cut);
    }

    private byte* TakePage()
    {
        nint address = ChunkWithRoom();
        Chunk chunk = _chunks[address];
        int index = BitOperations.TrailingZeroCount(chunk.Free);
        _emptyChunks -= chunk.Free == ulong.MaxValue ? 1 : 0;
        chunk.Free &= chunk.Free - 1;
        UsedBytes += PageBytes;
        return (byte*)address + (long)index * PageBytes;
    }

    private void ReturnPage(byte* page)
    {
        nint address = (nint)page & ~(nint)(ChunkBytes - 1);
        Chunk chunk = _chunks[address];
        ulong bit = 1ul << (int)((page - (byte*)address) / PageBytes);
        Invariant.Holds((chunk.Free & bit) == 0);
        chunk.Free |= bit;
        UsedBytes -= PageBytes;
        if (chunk.Free == ulong.MaxValue)
        {
            if (_emptyChunks > 0)
            {
                _chunks.Remove(address);
                NativeMemory.AlignedFree((void*)address); // Its place in the stack is dropped when it is met there.
                t_outstanding--;
                return;
            }

            _emptyChunks++;
        }

        if (!chunk.IsStacked)
        {
            chunk.IsStacked = true;
            _withRoom.Push(address);
        }
    }

    private nint ChunkWithRoom()
    {
        while (_withRoom.TryPeek(out nint address))
        {
            if (_chunks.TryGetValue(address, out Chunk? chunk) && chunk.Free != 0)
            {
                return address;
            }

            _withRoom.Pop();
            if (chunk is not null)
            {
                chunk.IsStacked = false;
            }
        }

        nint made = (nint)NativeMemory.AlignedAlloc(ChunkBytes, ChunkBytes);
        t_outstanding++;
        _chunks.Add(made, new Chunk());
        _withRoom.Push(made);
        _emptyChunks++;
        return made;
    }

    private byte* TakePiece(int size)
    {
        PieceHeader* page = _cut[size];
        if (page == null)
        {
            page = Cut(size);
        }

        byte* piece = page->FirstFree;
        page->FirstFree = *(byte**)piece;
        page->Used++;
        if (page->FirstFree == null)
        {
            Unlink(page, size);
        }

        return piece;
    }

    private void ReturnPiece(byte* piece, int size)
    {
        PieceHeader* page = (PieceHeader*)((nint)piece & ~(nint)(PageBytes - 1));
        Invariant.Holds(page->Used > 0);
        if (page->FirstFree == null)
        {
            Link(page, size);
        }

        *(byte**)piece = page->FirstFree;
        page->FirstFree = piece;
        if (--page->Used == 0)
        {
            Unlink(page, size);
            ReturnPage((byte*)page);
        }
    }

    private PieceHeader* Cut(int size)
    {
        byte* page = TakePage();
        PieceHeader* header = (PieceHeader*)page;
        *header = default;
        int bytes = s_pieceBytes[size];
        for (int at = Math.Max(bytes, sizeof(PieceHeader)); at + bytes <= PageBytes; at += bytes)
        {
            *(byte**)(page + at) = header->FirstFree;
            header->FirstFree = page + at;
        }

        Link(header, size);
        return header;
    }

    private void Link(PieceHeader* page, int size)
    {
        page->Previous = null;
        page->Next = _cut[size];
        if (page->Next != null)
        {
            page->Next->Previous = page;
        }

        _cut[size] = page;
    }

    private void Unlink(PieceHeader* page, int size)
    {
        if (page->Next != null)
        {
            page->Next->Previous = page->Previous;
        }

        if (page->Previous != null)
        {
            page->Previous->Next = page->Next;
        }
        else
        {
            _cut[size] = page->Next;
        }
    }

    private sealed class Chunk
    {
        /// <summary>A bit for each free page.</summary>
        public ulong Free { get; set; } = ulong.MaxValue;

        public bool IsStacked { get; set; } = true;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct PieceHeader
    {
        public byte* FirstFree;
        public PieceHeader* Next;
        public PieceHeader* Previous;
        public long Used;
    }
}
