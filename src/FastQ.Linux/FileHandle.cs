using System.Diagnostics.CodeAnalysis;

namespace FastQ.Linux;

/// <summary>How a file is opened. O_CLOEXEC always.</summary>
[Flags]
[SuppressMessage("Naming", "CA1711", Justification = "Mode is the word.")]
public enum OpenMode
{
    ReadOnly = 0,
    ReadWrite = 2,
    Create = 0x40,
    Exclusive = 0x80,
    Truncate = 0x200,
    Direct = 0x4000,
    Directory = 0x10000,
}

/// <summary>What makes a file the same file.</summary>
public readonly record struct FileIdentity(ulong Device, ulong Inode);

/// <summary>Owns one descriptor of a file, a memory file or a pipe end. Closed once. Calls of several threads are the kernel's business; Dispose is the owner's.</summary>
public sealed unsafe class FileHandle : IDisposable
{
    private const int CloseOnExec = 0x80000, KeepSize = 1, Punch = 2;
    private int _descriptor;

    private FileHandle(int descriptor, string path)
    {
        (_descriptor, Path) = (descriptor, path);
    }

    /// <summary>The number; stays this object's.</summary>
    public int Descriptor
    {
        get
        {
            Invariant.Holds(_descriptor >= 0);
            return _descriptor;
        }
    }

    /// <summary>What faults name.</summary>
    public string Path { get; }

    /// <summary>Takes ownership of a descriptor.</summary>
    public static FileHandle Adopt(int descriptor, string name)
    {
        Invariant.Holds(descriptor >= 0);
        return new FileHandle(descriptor, name);
    }

    /// <summary>Opens or makes a file; private (0600) unless said otherwise.</summary>
    public static Result<FileHandle> Open(string path, OpenMode mode, int permissions = 0x180)
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("open", injected, path);
        }

        int fd;
        do
        {
            fd = Libc.Open(path, (int)mode | CloseOnExec, permissions);
        }
        while (fd < 0 && Check.Last == Errno.EINTR);
        return fd >= 0 ? new FileHandle(fd, path) : new Fault("open", Check.Last, path);
    }

    /// <summary>Length in bytes.</summary>
    public Result<long> Length()
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("lseek", injected, Path);
        }

        long end = Libc.Seek(Descriptor, 0, 2);
        return end >= 0 ? end : new Fault("lseek", Check.Last, Path);
    }

    /// <summary>Cuts or extends (with a hole).</summary>
    public Result SetLength(long bytes) => Simple("ftruncate", Check.Injected(out Errno injected) ? Fail(injected) : Libc.Truncate(Descriptor, bytes), injected);

    /// <summary>Allocates blocks on the disk; the file grows to cover them.</summary>
    public Result Allocate(long offset, long bytes) => Simple("fallocate", Check.Injected(out Errno injected) ? Fail(injected) : AllocateWhole(0, offset, bytes), injected);

    /// <summary>Gives the blocks of a range back, leaving a hole that reads as zeroes.</summary>
    public Result PunchHole(long offset, long bytes) => Simple("fallocate", Check.Injected(out Errno injected) ? Fail(injected) : AllocateWhole(KeepSize | Punch, offset, bytes), injected);

    /// <summary>Writes all bytes at a place; short writes and EINTR are continued.</summary>
    public Result WriteAt(ReadOnlySpan<byte> bytes, long offset)
    {
        fixed (byte* from = bytes)
        {
            IoVector piece = new() { Base = from, Length = (nuint)bytes.Length };
            return WriteAllAt(new Span<IoVector>(ref piece), offset);
        }
    }

    /// <summary>Writes all pieces one after the other; short writes and EINTR are continued. The pieces are used up.</summary>
    public Result WriteAllAt(Span<IoVector> pieces, long offset)
    {
        const int MostPieces = 64;
        int first = 0;
        while (first < pieces.Length)
        {
            if (pieces[first].Length == 0)
            {
                first++;
                continue;
            }

            nint done;
            if (Check.Injected(out Errno injected))
            {
                if (injected != Errno.None)
                {
                    return new Fault("pwritev", injected, Path);
                }

                done = Libc.WriteAt(Descriptor, pieces[first].Base, Math.Min(pieces[first].Length, 7), offset); // None: a short write, which the kernel may always do.
            }
            else
            {
                fixed (IoVector* from = pieces)
                {
                    int left = Math.Min(pieces.Length - first, MostPieces);
                    done = left == 1 // The kernel takes longer over a list of one.
                        ? Libc.WriteAt(Descriptor, from[first].Base, from[first].Length, offset)
                        : Libc.WriteVectorAt(Descriptor, from + first, left, offset);
                }
            }

            if (done < 0 && Check.Last == Errno.EINTR)
            {
                continue;
            }

            if (done <= 0)
            {
                return new Fault("pwritev", done < 0 ? Check.Last : Errno.EIO, Path);
            }

            offset += done;
            for (nuint left = (nuint)done; left > 0;)
            {
                nuint step = Math.Min(left, pieces[first].Length);
                pieces[first].Base += step;
                pieces[first].Length -= step;
                left -= step;
                first += pieces[first].Length == 0 ? 1 : 0;
            }
        }

        return Result.Success;
    }

    /// <summary>Reads until <paramref name="into"/> is full or the file ends. Gives the bytes read.</summary>
    public Result<int> ReadAt(Span<byte> into, long offset)
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("pread", injected, Path);
        }

        int total = 0;
        fixed (byte* at = into)
        {
            while (total < into.Length)
            {
                nint done = Libc.ReadAt(Descriptor, at + total, (nuint)(into.Length - total), offset + total);
                if (done < 0 && Check.Last == Errno.EINTR)
                {
                    continue;
                }

                if (done < 0)
                {
                    return new Fault("pread", Check.Last, Path);
                }

                if (done == 0)
                {
                    break;
                }

                total += (int)done;
            }
        }

        return total;
    }

    /// <summary>fdatasync: the bytes, and what is needed to read them, are on the disk when it returns without a fault.</summary>
    public Result DataSync() => Simple("fdatasync", Check.Injected(out Errno injected) ? Fail(injected) : Libc.DataSync(Descriptor), injected);

    /// <summary>fsync.</summary>
    public Result Sync() => Simple("fsync", Check.Injected(out Errno injected) ? Fail(injected) : Libc.Sync(Descriptor), injected);

    /// <summary>Asks the kernel to begin writing a range back; waits for nothing and promises nothing.</summary>
    public Result StartWriteBack(long offset, long bytes) => Simple("sync_file_range", Check.Injected(out Errno injected) ? Fail(injected) : Libc.SyncRange(Descriptor, offset, bytes, 2), injected);

    /// <summary>Asks the kernel to forget clean, unmapped cached pages.</summary>
    public void DropCache() => _ = Libc.Advise(Descriptor, 0, 0, 4);

    /// <summary>Takes the whole-file lock without waiting. False: another open file description has it.</summary>
    public Result<bool> TryLockExclusive()
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("flock", injected, Path);
        }

        if (Libc.Lock(Descriptor, 2 | 4) == 0)
        {
            return true;
        }

        return Check.Last == Errno.EAGAIN ? false : new Fault("flock", Check.Last, Path);
    }

    /// <summary>Device and inode.</summary>
    public Result<FileIdentity> Identity() => Directories.StatusOf(Descriptor, "", Path);

    public void Dispose()
    {
        // A second close could hit a descriptor that another thread has just been given under the same number.
        int descriptor = Interlocked.Exchange(ref _descriptor, -1);
        if (descriptor >= 0)
        {
            _ = Libc.Close(descriptor);
        }
    }

    /// <summary>On a memory file a signal undoes a fallocate: it is begun again.</summary>
    private int AllocateWhole(int mode, long offset, long bytes)
    {
        int result;
        do
        {
            result = Libc.Allocate(Descriptor, mode, offset, bytes);
        }
        while (result < 0 && Check.Last == Errno.EINTR);
        return result;
    }

    private static int Fail(Errno injected)
    {
        Invariant.Holds(injected != Errno.None);
        return -1;
    }

    private Result Simple(string call, int result, Errno injected) =>
        result == 0 ? Result.Success : new Fault(call, injected != Errno.None ? injected : Check.Last, Path);
}
