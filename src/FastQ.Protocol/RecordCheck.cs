using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FastQ.Protocol;

/// <summary>The 32-bit check that a record carries over its properties and body: CRC-32C (Castagnoli), initial value and final inversion as in RFC 3720, appendix B.4.</summary>
public static class RecordCheck
{
    // One chain of the instruction takes three cycles a step, yet a step can begin in each cycle: longer texts go in three lanes side by side.
    // The check is linear, so what a lane gives is carried over the bytes of the next one by a table, and there the two are added.
    private const int LaneBytes = 128;
    private static readonly uint[] s_overALane = TableOver(LaneBytes);

    /// <summary>The check of <paramref name="bytes"/>. About 0.1 ns a byte where the processor has the instruction; never throws, allocates nothing.</summary>
    public static uint Of(ReadOnlySpan<byte> bytes) => ~Continue(uint.MaxValue, bytes);

    /// <summary>Is this a whole message with the right check? The check says nothing of where properties end and the body begins: there they must end by their own lengths.</summary>
    /// <param name="record">As many bytes as the record is said to have.</param>
    public static bool Holds(ReadOnlySpan<byte> record)
    {
        if (record.Length < MessageHeader.SizeBytes)
        {
            return false;
        }

        MessageHeader header = MemoryMarshal.Read<MessageHeader>(record);
        ReadOnlySpan<byte> rest = record[MessageHeader.SizeBytes..];
        return header.LengthBytes == record.Length && header.PropertyBytes <= rest.Length && header.Check == Of(rest) && PropertyReader.AreValid(rest[..header.PropertyBytes]);
    }

    /// <summary>As above, and is it the message that is meant? A disk that put a write in the wrong place holds whole messages where others belong.</summary>
    /// <param name="record">As many bytes as the record is said to have.</param>
    /// <param name="queue">Whose it is to be.</param>
    /// <param name="tag">Its place there.</param>
    /// <param name="place">Where it is said to lie: of a message that several queues share, this is what its header says of it.</param>
    public static bool Holds(ReadOnlySpan<byte> record, uint queue, ulong tag, Place place)
    {
        MessageHeader header = record.Length < MessageHeader.SizeBytes ? default : MemoryMarshal.Read<MessageHeader>(record);
        bool isMeant = header.Kind == RecordKind.SharedMessage ? header.Tag == StoredMessage.NumberOf(place) : header.Queue == queue && header.Tag == tag;
        return isMeant && Holds(record);
    }

    private static uint Continue(uint crc, ReadOnlySpan<byte> bytes)
    {
        ref byte at = ref MemoryMarshal.GetReference(bytes);
        int left = bytes.Length;
        while (left >= 3 * LaneBytes)
        {
            (uint second, uint third) = (0, 0);
            for (int i = 0; i < LaneBytes; i += 8)
            {
                crc = BitOperations.Crc32C(crc, Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref at, i)));
                second = BitOperations.Crc32C(second, Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref at, LaneBytes + i)));
                third = BitOperations.Crc32C(third, Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref at, 2 * LaneBytes + i)));
            }

            crc = OverALane(OverALane(crc) ^ second) ^ third;
            at = ref Unsafe.Add(ref at, 3 * LaneBytes);
            left -= 3 * LaneBytes;
        }

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

    private static uint OverALane(uint crc)
    {
        uint[] table = s_overALane;
        return table[crc & 0xFF] ^ table[256 + ((crc >> 8) & 0xFF)] ^ table[512 + ((crc >> 16) & 0xFF)] ^ table[768 + (crc >> 24)];
    }

    /// <summary>What each value of each of the four bytes becomes when so many zero bytes follow.</summary>
    private static uint[] TableOver(int zeroBytes)
    {
        uint[] table = new uint[4 * 256];
        for (int i = 0; i < table.Length; i++)
        {
            uint crc = (uint)(i & 0xFF) << (i / 256 * 8);
            for (int done = 0; done < zeroBytes; done += 8)
            {
                crc = BitOperations.Crc32C(crc, 0ul);
            }

            table[i] = crc;
        }

        return table;
    }
}
