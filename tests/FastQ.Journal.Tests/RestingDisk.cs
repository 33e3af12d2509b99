using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastQ.Linux;
using Xunit;

namespace FastQ.Journal;

/// <summary>A small directory for damage.</summary>
internal static class RestingDisk
{
    public const string Data = "/sim/data", SlotFolder = $"{Data}/namespaces/default/slots", SnapshotFolder = $"{Data}/namespaces/default/snapshots";
    public const int SlotBytes = 24 * 1024, BlockBytes = 4 * 1024;

    /// <summary>A disk after two lives and a stop: recycled slots, two snapshots, blocks after them, and a closing block.</summary>
    public static SimulatedStorage AtRest(out int applied, out ulong digest)
    {
        using SimulatedStorage disk = new("/sim");
        for (int life = 1; life <= 2; life++)
        {
            using Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
            for (int i = 0; i < 12; i++)
            {
                ulong id = ledger.Put(1000);
                ledger.Sync();
                if (i < 9)
                {
                    ledger.Drop(id);
                }

                if (i % 5 == 4)
                {
                    ledger.Snapshot();
                    ledger.Reclaim();
                }
            }

            ledger.Sync();
            Assert.True(ledger.Journal.SealClosing());
            ledger.Sync();
        }

        using Ledger last = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        (applied, digest) = (last.Applied, last.Digest);
        return disk.AfterKill();
    }

    /// <summary>Oldest first; what is only room for others is left out.</summary>
    public static IReadOnlyList<string> SnapshotNames(SimulatedStorage disk) => [.. disk.List(SnapshotFolder).OrThrow().Where(name => name.EndsWith(".snap", StringComparison.Ordinal))];

    public static IEnumerable<string> FilesOf(SimulatedStorage disk) =>
        disk.List(SlotFolder).OrThrow().Select(name => $"{SlotFolder}/{name}").Concat(SnapshotNames(disk).Select(name => $"{SnapshotFolder}/{name}")).Append($"{Data}/FORMAT");

    /// <summary>False: it is not longer than that.</summary>
    public static bool CutShort(SimulatedStorage disk, string path, int length)
    {
        byte[] bytes = new byte[length];
        using (IStoredFile whole = disk.Open(path, create: false).OrThrow())
        {
            if (whole.Length().OrThrow() <= length)
            {
                return false;
            }

            whole.ReadAt(bytes, 0).OrThrow();
        }

        disk.Unlink(path).OrThrow();
        using IStoredFile part = disk.Open(path, create: true).OrThrow();
        part.WriteAt(bytes, 0).OrThrow();
        part.Sync().OrThrow();
        disk.SyncDirectory(Path.GetDirectoryName(path)!).OrThrow();
        return true;
    }

    public static T Head<T>(SimulatedStorage disk, string path)
        where T : unmanaged
    {
        byte[] bytes = new byte[Unsafe.SizeOf<T>()];
        using IStoredFile file = disk.Open(path, create: false).OrThrow();
        file.ReadAt(bytes, 0).OrThrow();
        return MemoryMarshal.Read<T>(bytes);
    }

    public static void SetHead<T>(SimulatedStorage disk, string path, T head)
        where T : unmanaged
    {
        using IStoredFile file = disk.Open(path, create: false).OrThrow();
        file.WriteAt(MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in head)), 0).OrThrow();
        file.Sync().OrThrow();
    }

    /// <summary>Every byte that is not zero, and some of the zeroes.</summary>
    public static List<long> PlacesOf(SimulatedStorage disk, string path)
    {
        using IStoredFile file = disk.Open(path, create: false).OrThrow();
        byte[] bytes = new byte[file.Length().OrThrow()];
        file.ReadAt(bytes, 0).OrThrow();
        return [.. Enumerable.Range(0, bytes.Length).Where(at => at % 4096 < 128 || (bytes[at] != 0 ? at % 7 == 0 : at % 61 == 0)).Select(at => (long)at)];
    }
}
