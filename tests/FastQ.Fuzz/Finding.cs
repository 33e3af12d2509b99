using System.IO.Hashing;
using System.IO.MemoryMappedFiles;
using System.Text;

namespace FastQ.Fuzz;

/// <summary>Inputs that did harm. The one that runs now lies in a mapped file, so that it outlives the process.</summary>
internal static class Finding
{
    private const int TargetBytes = 32, RoomBytes = 64 * 1024;
    private static readonly Lazy<MemoryMappedViewAccessor> s_last = new(Open);

    private static string LastPath => Path.Combine(Places.Fuzz, "last-input");

    public static void Note(string target, byte[] input)
    {
        byte[] name = new byte[TargetBytes];
        Encoding.ASCII.GetBytes(target, name);
        s_last.Value.WriteArray(0, name, 0, TargetBytes);
        s_last.Value.Write(TargetBytes, input.Length);
        s_last.Value.WriteArray(TargetBytes + sizeof(int), input, 0, Math.Min(input.Length, RoomBytes - TargetBytes - sizeof(int)));
    }

    /// <summary>What ran when the process died.</summary>
    public static bool TakeLast(out string target, out byte[] input)
    {
        (target, input) = ("", []);
        if (!File.Exists(LastPath))
        {
            return false;
        }

        byte[] all = File.ReadAllBytes(LastPath);
        target = Encoding.ASCII.GetString(all, 0, TargetBytes).TrimEnd('\0');
        input = all.AsSpan(TargetBytes + sizeof(int), BitConverter.ToInt32(all, TargetBytes)).ToArray();
        return target.Length > 0;
    }

    /// <summary>Writes the input to a file and says how to run it again.</summary>
    public static void Keep(string target, byte[] input, string what)
    {
        string folder = Path.Combine(Places.Fuzz, "findings");
        Directory.CreateDirectory(folder);
        string file = Path.Combine(folder, $"{target}-{XxHash3.HashToUInt64(input):x16}.bin");
        File.WriteAllBytes(file, input);
        Console.WriteLine($"""
            {target}: {what}
            input of {input.Length} bytes: {file}
            again: ./build.sh fuzz --target {target} --replay {file}
            """);
    }

    private static MemoryMappedViewAccessor Open()
    {
        Directory.CreateDirectory(Places.Fuzz);
        return MemoryMappedFile.CreateFromFile(LastPath, FileMode.Create, null, RoomBytes).CreateViewAccessor();
    }
}
