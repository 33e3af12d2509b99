using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FastQ.Protocol;

/// <summary>The 32-bit check that a record carries over its properties and body: CRC-32C (Castagnoli), initial value and final inversion as in RFC 3720, appendix B.4.</summary>
public static class RecordCheck
{
    /// <summary>The check of <paramref name="bytes"/>. About 0.1 ns a byte where the processor has the instruction; never throws, allocates nothing.</summary>
    public static uint Of(ReadOnlySpan<byte> bytes) => ~Continue(uint.MaxValue, bytes);

    private static uint Continue(uint crc, ReadOnlySpan<byte> bytes)
    {
        ref byte at = ref MemoryMarshal.GetReference(bytes);
        int left = bytes.Length;
        while (left >= 8)
        {
            crc = BitOperations.Crc32C(crc, Unsafe.ReadUnaligned<ulong>(ref at));
            at = ref Unsafe.Add(ref at, 8);
            left -= 8;
        }

        if (left >= 4)
        {
            crc = BitOperations.Crc32C(crc, Unsafe.ReadUnaligned<uint>(ref at));
            at = ref Unsafe.Add(ref at, 4);
            left -= 4;
        }

        for (int i = 0; i < left; i++)
        {
            crc = BitOperations.Crc32C(crc, Unsafe.Add(ref at, i));
        }

        return crc;
    }
}
