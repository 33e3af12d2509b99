using FastQ.Linux;

namespace FastQ.Journal;

/// <summary>One broker a directory: a whole-file lock on DATA/LOCK that the kernel gives back when the process ends, however it ends. Never unlinked.</summary>
public sealed class DirectoryLock : IDisposable
{
    private readonly FileHandle _file;

    private DirectoryLock(FileHandle file)
    {
        _file = file;
    }

    /// <summary>Takes the lock, or says in words why not.</summary>
    public static DirectoryLock? TryTake(string directory, bool allowNetworkFileSystem, out string? refusal)
    {
        refusal = null;
        Result made = MakeAll(directory);
        if (!made.Ok)
        {
            refusal = $"{made.Fault}. Choose another data directory (--data), or make this one writable.";
            return null;
        }

        Result<FileSystem> system = Directories.FileSystemOf(directory);
        if (!system.Ok)
        {
            refusal = $"{system.Fault}.";
            return null;
        }

        if (system.Value.IsNetwork && !allowNetworkFileSystem)
        {
            refusal = $"{directory} is on {system.Value.Name}, where locks and mappings are not what they seem. Use a local disk (--data), or --allow-network-file-system.";
            return null;
        }

        string path = Path.Combine(directory, "LOCK");
        Result<FileHandle> file = FileHandle.Open(path, OpenMode.ReadWrite | OpenMode.Create);
        if (!file.Ok)
        {
            refusal = $"{file.Fault}. The data directory must be writable.";
            return null;
        }

        Result<bool> locked = file.Value.TryLockExclusive();
        Result<FileIdentity> mine = file.Value.Identity();
        Result<FileIdentity> named = Directories.IdentityOf(path);

        // A lock on a file that no longer has the name would guard nothing.
        bool isSame = mine.Ok && named.Ok && mine.Value == named.Value;
        if (locked.Ok && locked.Value && isSame)
        {
            return new DirectoryLock(file.Value);
        }

        file.Value.Dispose();
        refusal = locked.Ok && !locked.Value
            ? $"{directory} is in use by another broker. Stop it first, or use another data directory (--data)."
            : locked.Ok ? $"{path} was replaced while it was locked. Start again." : $"{locked.Fault}.";
        return null;
    }

    public void Dispose() => _file.Dispose();

    private static Result MakeAll(string directory)
    {
        string? parent = Path.GetDirectoryName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(directory)));
        if (parent is not null && !Directory.Exists(parent))
        {
            Result made = MakeAll(parent);
            if (!made.Ok)
            {
                return made;
            }

            // Its name must last as what will lie in it; that of the innermost is synced at the first start.
            string? above = Path.GetDirectoryName(parent);
            Result synced = above is null ? Result.Success : Directories.Sync(above);
            if (!synced.Ok && synced.Fault.Errno != Errno.EACCES)
            {
                return synced;
            }
        }

        return Directories.CreatePrivate(directory);
    }
}
