using System.Runtime.InteropServices;

namespace FastQ.Journal;

/// <summary>Memory on a 4 KiB border, outside the managed heap. Zeroed at birth; given back once.</summary>
internal sealed unsafe class NativeBuffer : IDisposable
{
    public NativeBuffer(int bytes)
    {
        Length = bytes;
        Address = (byte*)NativeMemory.AlignedAlloc((nuint)bytes, Format.BlockAlignment);
        NativeMemory.Clear(Address, (nuint)bytes);
    }

    public byte* Address { get; private set; }

    public int Length { get; }

    public Span<byte> Span
    {
        get
        {
            Invariant.Holds(Address != null);
            return new Span<byte>(Address, Length);
        }
    }

    public void Dispose()
    {
        if (Address != null)
        {
            NativeMemory.AlignedFree(Address);
            Address = null;
        }
    }
}
