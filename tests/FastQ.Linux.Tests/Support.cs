using System.Globalization;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using Xunit;

// Open descriptors and umask belong to the process: tests that look at them cannot run beside others.
[assembly: CollectionBehavior(CollectionBehavior.CollectionPerAssembly)]
[assembly: SupportedOSPlatform("linux")]

namespace FastQ.Linux.Tests;

/// <summary>A directory of its own, gone afterwards.</summary>
internal sealed class Scratch : IDisposable
{
    public const string Prefix = "fastq-linux-";
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory(Prefix);

    public string Root => _directory.FullName;

    public string File(string name) => Path.Combine(Root, name);

    public FileHandle OpenNew(string name) => FileHandle.Open(File(name), OpenMode.ReadWrite | OpenMode.Create | OpenMode.Exclusive).OrThrow();

    public void Dispose() => _directory.Delete(recursive: true);
}

/// <summary>What this process holds of the kernel.</summary>
internal static class Holdings
{
    // What this room can make. The runtime opens others when it likes: assemblies, sources of randomness.
    private static readonly string[] s_kinds = ["socket:", "pipe:", "anon_inode:", "memfd:", "pidfd", Scratch.Prefix];

    /// <summary>Each open descriptor with what it leads to.</summary>
    public static string[] Descriptors() =>
        [.. Directory.GetFiles("/proc/self/fd")
            .Select(static path => $"{Path.GetFileName(path)} {new FileInfo(path).LinkTarget}")
            .Where(static line => s_kinds.Any(kind => line.Contains(kind, StringComparison.Ordinal)))
            .Order(StringComparer.Ordinal)];

    /// <summary>Mappings of io_uring and of what is named <paramref name="name"/>.</summary>
    public static int Mappings(string name) => File.ReadLines("/proc/self/maps").Count(line => line.Contains(name, StringComparison.Ordinal));

    /// <summary>Address space in use or reserved, in bytes.</summary>
    public static long AddressSpace()
    {
        string line = File.ReadLines("/proc/self/status").First(static line => line.StartsWith("VmSize:", StringComparison.Ordinal));
        return 1024 * long.Parse(line["VmSize:".Length..^" kB".Length].Trim(), CultureInfo.InvariantCulture);
    }
}

/// <summary>Waiting for what must come.</summary>
internal static class Wait
{
    /// <summary>Milliseconds until a wait for a condition is given up and the test is red, not stuck.</summary>
    public const int Patience = 10_000;
}

/// <summary>What a hostile peer may call and this room does not.</summary>
internal static unsafe partial class Hostile
{
    public const int Remove = 9;

    [LibraryImport("libc", EntryPoint = "mprotect", SetLastError = true)]
    public static partial int Protect(void* at, nuint bytes, int protection);

    [LibraryImport("libc", EntryPoint = "strerrorname_np")]
    public static partial nint ErrorName(int errno);

    public static Errno ProtectWritable(Mapping mapping) => Protect(mapping.Address, (nuint)mapping.Length, (int)Protection.ReadWrite) == 0 ? Errno.None : Check.Last;

    public static Errno RemovePages(Mapping mapping) => Libc.AdviseMemory(mapping.Address, (nuint)mapping.Length, Remove) == 0 ? Errno.None : Check.Last;

    public static Errno Of(Result result) => result.Ok ? Errno.None : result.Fault.Errno;

    public static Errno Of<T>(Result<T> result)
        where T : IDisposable
    {
        if (!result.Ok)
        {
            return result.Fault.Errno;
        }

        result.Value.Dispose();
        return Errno.None;
    }
}
