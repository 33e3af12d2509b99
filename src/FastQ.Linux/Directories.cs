using System.Buffers.Binary;

namespace FastQ.Linux;

/// <summary>What holds a directory.</summary>
/// <param name="Magic">As <c>statfs</c> gives it.</param>
/// <param name="Name">In words.</param>
/// <param name="IsNetwork">A mapping of a file there is not coherent with other machines, or locks are not what they seem.</param>
/// <param name="IsCopyOnWrite">Overwriting in place allocates.</param>
public readonly record struct FileSystem(uint Magic, string Name, bool IsNetwork, bool IsCopyOnWrite);

/// <summary>Names in directories: made, renamed, removed, and made to last.</summary>
public static unsafe class Directories
{
    private const int CurrentDirectory = -100;

    // linux/magic.h and the file systems' own headers.
    internal static readonly FileSystem[] Known =
    [
        new(0xEF53, "ext4", false, false),
        new(0x58465342, "xfs", false, false),
        new(0x01021994, "tmpfs", false, false),
        new(0xF2F52010, "f2fs", false, false),
        new(0x794C7630, "overlayfs", false, false),
        new(0x9123683E, "btrfs", false, true),
        new(0x2FC12FC1, "zfs", false, true),
        new(0xCA451A4E, "bcachefs", false, true),
        new(0x6969, "nfs", true, false),
        new(0xFF534D42, "cifs", true, false),
        new(0xFE534D42, "smb2", true, false),
        new(0x517B, "smb", true, false),
        new(0x01021997, "9p", true, false),
        new(0x65735546, "fuse or virtiofs", true, false),
        new(0x00C36400, "ceph", true, false),
        new(0x0BD00BD0, "lustre", true, false),
        new(0x01161970, "gfs2", true, false),
        new(0x5346414F, "afs", true, false),
        new(0x7461636F, "ocfs2", true, false),
        new(0x47504653, "gpfs", true, false),
        new(0x6B414653, "afs", true, false),
        new(0x73757245, "coda", true, false),
        new(0x19830326, "beegfs", true, false),
        new(0x20030528, "orangefs", true, false),
        new(0x786F4256, "vboxsf", true, false),
        new(0xBACBACBC, "vmhgfs", true, false),
        new(0x9FA0, "proc", false, false),
    ];

    /// <summary>Makes a directory with mode 0700; an existing one is fine.</summary>
    public static Result CreatePrivate(string path)
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("mkdir", injected, path);
        }

        if (Libc.MakeDirectory(path, 0x1C0) == 0)
        {
            return Result.Success;
        }

        Errno errno = Check.Last;
        return errno == Errno.EEXIST && Directory.Exists(path) ? Result.Success : new Fault("mkdir", errno == Errno.EEXIST ? Errno.ENOTDIR : errno, path);
    }

    /// <summary>fsync of the directory: its names last when this returns without a fault.</summary>
    public static Result Sync(string path)
    {
        Result<FileHandle> directory = FileHandle.Open(path, OpenMode.ReadOnly | OpenMode.Directory);
        if (!directory.Ok)
        {
            return directory.Fault;
        }

        using FileHandle handle = directory.Value;
        return handle.Sync();
    }

    public static Result Rename(string from, string to)
    {
        Errno errno = Check.Injected(out Errno injected) ? injected : Libc.Rename(from, to) == 0 ? Errno.None : Check.Last;
        return errno == Errno.None ? Result.Success : new Fault("rename", errno, $"{from} to {to}");
    }

    public static Result Unlink(string path)
    {
        Errno errno = Check.Injected(out Errno injected) ? injected : Libc.Unlink(path) == 0 ? Errno.None : Check.Last;
        return errno == Errno.None ? Result.Success : new Fault("unlink", errno, path);
    }

    /// <summary>Device and inode of what a path leads to.</summary>
    public static Result<FileIdentity> IdentityOf(string path) => StatusOf(CurrentDirectory, path, path);

    /// <summary>Which file system holds a path.</summary>
    public static Result<FileSystem> FileSystemOf(string path)
    {
        byte* status = stackalloc byte[120];
        if (Check.Injected(out Errno injected))
        {
            return new Fault("statfs", injected, path);
        }

        if (Libc.FileSystemStatus(path, status) != 0)
        {
            return new Fault("statfs", Check.Last, path);
        }

        uint magic = (uint)*(long*)status;
        foreach (FileSystem known in Known)
        {
            if (known.Magic == magic)
            {
                return known;
            }
        }

        return new FileSystem(magic, $"0x{magic:x}", false, false);
    }

    /// <summary>Bytes that an unprivileged writer may still use.</summary>
    public static Result<long> FreeBytes(string path)
    {
        byte* status = stackalloc byte[120]; // struct statfs: type, block size, blocks, free, available, ...
        if (Check.Injected(out Errno injected))
        {
            return new Fault("statfs", injected, path);
        }

        return Libc.FileSystemStatus(path, status) == 0 ? ((long*)status)[4] * ((long*)status)[1] : new Fault("statfs", Check.Last, path);
    }

    internal static Result<FileIdentity> StatusOf(int descriptor, string path, string subject)
    {
        const int EmptyPath = 0x1000;
        const uint WantInode = 0x100;
        byte* status = stackalloc byte[256]; // struct statx
        if (Check.Injected(out Errno injected))
        {
            return new Fault("statx", injected, subject);
        }

        if (Libc.Status(descriptor, path, descriptor == CurrentDirectory ? 0 : EmptyPath, WantInode, status) != 0)
        {
            return new Fault("statx", Check.Last, subject);
        }

        ReadOnlySpan<byte> bytes = new(status, 256);
        ulong inode = BinaryPrimitives.ReadUInt64LittleEndian(bytes[32..]);
        ulong major = BinaryPrimitives.ReadUInt32LittleEndian(bytes[136..]);
        ulong minor = BinaryPrimitives.ReadUInt32LittleEndian(bytes[140..]);
        return new FileIdentity((major << 32) | minor, inode);
    }
}
