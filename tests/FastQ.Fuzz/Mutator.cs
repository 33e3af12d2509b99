using System.Buffers.Binary;

namespace FastQ.Fuzz;

/// <summary>Makes inputs from inputs: bits and numbers changed, stretches moved, dropped, doubled, and taken from others.</summary>
internal sealed class Mutator(Random dice, int mostBytes)
{
    private static readonly ulong[] s_numbers = [0, 1, 2, 7, 8, 9, 15, 16, 31, 32, 40, 63, 64, 127, 128, 255, 256, 4095, 4096, 32767, 32768, 65535, 65536, int.MaxValue, 0x8000_0000, uint.MaxValue - 7, uint.MaxValue, 1UL << 32, long.MaxValue, 1UL << 63, ulong.MaxValue - 7, ulong.MaxValue];

    public byte[] Mutate(List<byte[]> corpus)
    {
        List<byte> bytes = [.. corpus[dice.Next(corpus.Count)]];
        for (int left = 1 << dice.Next(5); left > 0; left--)
        {
            Once(bytes, corpus);
        }

        return [.. bytes.Take(mostBytes)];
    }

    private void Once(List<byte> bytes, List<byte[]> corpus)
    {
        if (bytes.Count == 0)
        {
            bytes.AddRange(corpus[dice.Next(corpus.Count)]);
            bytes.Add((byte)dice.Next(256));
        }

        int at = dice.Next(bytes.Count);
        int length = 1 + dice.Next(Math.Min(bytes.Count - at, 1 << dice.Next(10)));
        switch (dice.Next(10))
        {
            case 0:
                bytes[at] ^= (byte)(1 << dice.Next(8));
                break;
            case 1:
                bytes[at] = (byte)dice.Next(256);
                break;
            case 2 or 3:
                Number(bytes, at & ~(dice.Next(2) * 7));
                break;
            case 4:
                bytes.RemoveRange(at, length);
                break;
            case 5:
                bytes.InsertRange(at, bytes.GetRange(at, length));
                break;
            case 6:
                int to = dice.Next(bytes.Count - length + 1);
                List<byte> moved = bytes.GetRange(at, length);
                for (int i = 0; i < length; i++)
                {
                    bytes[to + i] = moved[i];
                }

                break;
            case 7:
                byte[] other = corpus[dice.Next(corpus.Count)];
                int from = other.Length == 0 ? 0 : dice.Next(other.Length);
                bytes.InsertRange(at, other.AsSpan(from, Math.Min(length, other.Length - from)).ToArray());
                break;
            case 8:
                bytes[at] += (byte)(dice.Next(2) == 0 ? 1 : -1);
                break;
            default:
                byte[] some = new byte[Math.Min(length, 16)];
                dice.NextBytes(some);
                bytes.InsertRange(at, some);
                break;
        }
    }

    /// <summary>A number that limits are made of, or one beside what is there, in one of the sizes.</summary>
    private void Number(List<byte> bytes, int at)
    {
        byte[] number = new byte[8];
        int size = Math.Min(1 << dice.Next(4), bytes.Count - at);
        for (int i = 0; i < size; i++)
        {
            number[i] = bytes[at + i];
        }

        ulong value = dice.Next(3) == 0 ? BinaryPrimitives.ReadUInt64LittleEndian(number) + (ulong)dice.Next(-16, 17) : s_numbers[dice.Next(s_numbers.Length)];
        BinaryPrimitives.WriteUInt64LittleEndian(number, value);
        for (int i = 0; i < size; i++)
        {
            bytes[at + i] = number[i];
        }
    }
}
