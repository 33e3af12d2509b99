using System.Runtime.InteropServices;

namespace FastQ.Fuzz;

// What an input reached: a map of 64 KiB, a byte for each step from one branch to another, counting how often. The traced rooms write it.

/// <summary>The map, and what was ever reached.</summary>
internal static unsafe class Trace
{
    private const int MapBytes = 64 * 1024;
    private static readonly byte[] s_reached = new byte[MapBytes];

    // 1, 2, 3, 4 to 7, 8 to 15, 16 to 31, 32 to 127, 128 and more: a loop that runs once more is not news, one that runs twice as long is.
    private static readonly byte[] s_classes = [.. Enumerable.Range(0, 256).Select(count => (byte)(count switch { 0 => 0, 1 => 1, 2 => 2, 3 => 4, < 8 => 8, < 16 => 16, < 32 => 32, < 128 => 64, _ => 128 }))];

    public static int Reached => s_reached.Count(static classes => classes != 0);

    /// <summary>Before any traced code runs.</summary>
    public static void Begin() => SharpFuzz.Common.Trace.SharedMem = (byte*)NativeMemory.AllocZeroed(MapBytes);

    public static void Clear()
    {
        new Span<byte>(SharpFuzz.Common.Trace.SharedMem, MapBytes).Clear();
        SharpFuzz.Common.Trace.PrevLocation = 0;
    }

    /// <summary>Did it reach anything, or reach it so often, that was not before? Remembers it.</summary>
    public static bool TakeNews()
    {
        bool isNew = false;
        ReadOnlySpan<byte> map = new(SharpFuzz.Common.Trace.SharedMem, MapBytes);
        for (int at = 0; at < MapBytes; at += sizeof(ulong))
        {
            if (MemoryMarshal.Read<ulong>(map[at..]) == 0)
            {
                continue;
            }

            for (int i = at; i < at + sizeof(ulong); i++)
            {
                byte reached = s_classes[map[i]];
                isNew |= (reached & ~s_reached[i]) != 0;
                s_reached[i] |= reached;
            }
        }

        return isNew;
    }

    /// <summary>The places that it reached, however often.</summary>
    public static int[] Places()
    {
        List<int> places = [];
        for (int i = 0; i < MapBytes; i++)
        {
            if (SharpFuzz.Common.Trace.SharedMem[i] != 0)
            {
                places.Add(i);
            }
        }

        return [.. places];
    }

    public static void Forget() => Array.Clear(s_reached);
}
