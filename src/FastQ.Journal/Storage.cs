using FastQ.Linux;

namespace FastQ.Journal;

// The seam to the disk. Three bodies pass one suite: io_uring, a thread, and a simulated disk.
//
//   names and whole files: at once, for recovery and for jobs          blocks: handed over, their completions taken by Poll
//   Open, List, Rename, Unlink, SyncDirectory                          Write, Sync; Run does a job beside the turn

/// <summary>The end of something handed over.</summary>
/// <param name="Token">As given.</param>
/// <param name="Fault">What went wrong; null when all is well.</param>
public readonly record struct StorageCompletion(ulong Token, Fault? Fault);

/// <summary>An open file. The one that writes a slot is the one that syncs it.</summary>
public interface IStoredFile : IDisposable
{
    /// <summary>What faults name.</summary>
    string Path { get; }

    Result<long> Length();

    /// <summary>Reads as everybody does, through the page cache. Gives the bytes read; fewer at the end of the file.</summary>
    Result<int> ReadAt(Span<byte> into, long offset);

    /// <summary>Reads what the disk has, around the page cache. EINVAL where that cannot be had.</summary>
    Result<int> ReadDisk(Span<byte> into, long offset);

    Result WriteAt(ReadOnlySpan<byte> bytes, long offset);

    Result Allocate(long bytes);

    Result DataSync();

    Result Sync();

    /// <summary>A second, read-only descriptor, for passing to clients; null where there is none.</summary>
    Result<FileHandle>? OpenReadOnly();
}

/// <summary>A disk. All methods but those that say otherwise are for the journal's one thread.</summary>
public interface IStorage : IDisposable
{
    /// <summary>What statistics call it.</summary>
    string Name { get; }

    /// <summary>Readable when a completion waits; -1: only Poll tells.</summary>
    int WakeDescriptor { get; }

    /// <summary>Something was handed over and its completion not yet taken.</summary>
    bool IsBusy { get; }

    /// <summary>Names in a directory, sorted; empty when it is not there. Any thread.</summary>
    Result<IReadOnlyList<string>> List(string directory);

    /// <summary>Opens a file; makes it if asked. ENOENT when it is not there. Any thread.</summary>
    Result<IStoredFile> Open(string path, bool create);

    /// <summary>Any thread.</summary>
    Result Rename(string from, string to);

    /// <summary>Any thread.</summary>
    Result Unlink(string path);

    /// <summary>Any thread.</summary>
    Result MakeDirectory(string path);

    /// <summary>Makes the names of a directory last. Any thread.</summary>
    Result SyncDirectory(string path);

    /// <summary>Hands over a write. The buffer must stay until the completion.</summary>
    unsafe void Write(IStoredFile file, byte* from, int length, long offset, ulong token);

    /// <summary>Hands over an fdatasync: it covers what had completed when this was called.</summary>
    void Sync(IStoredFile file, ulong token);

    /// <summary>Does a job beside the turn; jobs run one after the other.</summary>
    void Run(Func<Result> job, ulong token);

    /// <summary>Takes completions; no system call when nothing is outstanding.</summary>
    int Poll(Span<StorageCompletion> into);

    /// <summary>Waits until at least one completion can be taken. Only when <see cref="IsBusy"/>.</summary>
    void WaitForCompletion();
}

/// <summary>Which body to use.</summary>
public enum StorageKind
{
    Auto,
    IoUring,
    Thread,
}

/// <summary>Chooses the storage, and says why.</summary>
public static class StorageFactory
{
    /// <param name="kind">Auto takes the thread: its lone writes are quicker (4 to 5 us against 10 to 20 through a kernel thread), its syncs are equal.</param>
    /// <param name="note">In words, for the line that is said at the start.</param>
    public static IStorage Open(StorageKind kind, out string note)
    {
        if (kind == StorageKind.IoUring)
        {
            Result<UringStorage> uring = UringStorage.Create();
            if (uring.Ok)
            {
                note = "io_uring";
                return uring.Value;
            }

            note = $"thread, as io_uring cannot be had here ({uring.Fault})";
            return new ThreadStorage();
        }

        note = kind == StorageKind.Thread ? "thread" : "thread (auto: a lone write is quicker than through io_uring, a sync equal)";
        return new ThreadStorage();
    }
}
