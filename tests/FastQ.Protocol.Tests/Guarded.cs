using System.Runtime.InteropServices;
using Xunit;

namespace FastQ.Protocol;

//   | no access |<---------- Bytes ---------->| no access |
//
// A read or write one byte outside ends the whole run by a signal: what passes here has touched nothing else.

/// <summary>Memory between two pages that nobody may touch.</summary>
internal sealed unsafe partial class Guarded : IDisposable
{
    private const int Page = 4096;
    private const int Private = 2, Anonymous = 0x20;
    private readonly byte* _reserved;
    private readonly int _bytes;

    /// <param name="bytes">A multiple of 4,096.</param>
    public Guarded(int bytes = 32 * Page)
    {
        _bytes = bytes;
        _reserved = Map(null, (nuint)(bytes + 2 * Page), 0, Private | Anonymous, -1, 0);
        Assert.True((nint)_reserved != -1 && Protect(_reserved + Page, (nuint)bytes, 3) == 0, "no memory");
    }

    /// <summary>The last bytes: one further there is nothing.</summary>
    public Span<byte> AtEnd(int length) => Fits(length) ? new Span<byte>(_reserved + Page + _bytes - length, length) : default;

    /// <summary>The first bytes: one before there is nothing.</summary>
    public Span<byte> AtStart(int length) => Fits(length) ? new Span<byte>(_reserved + Page, length) : default;

    /// <summary>A copy that ends where the memory ends.</summary>
    public ReadOnlySpan<byte> AtEnd(ReadOnlySpan<byte> bytes)
    {
        Span<byte> copy = AtEnd(bytes.Length);
        bytes.CopyTo(copy);
        return copy;
    }

    public void Dispose() => _ = Unmap(_reserved, (nuint)(_bytes + 2 * Page));

    private bool Fits(int length)
    {
        Assert.InRange(length, 0, _bytes);
        return true;
    }

    [LibraryImport("libc", EntryPoint = "mmap")]
    private static partial byte* Map(void* address, nuint bytes, int protection, int flags, int descriptor, long offset);

    [LibraryImport("libc", EntryPoint = "mprotect")]
    private static partial int Protect(void* address, nuint bytes, int protection);

    [LibraryImport("libc", EntryPoint = "munmap")]
    private static partial int Unmap(void* address, nuint bytes);
}
