using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

[assembly: DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]

namespace FastQ.Linux;

/// <summary>The C library's functions, as they are. What may block or take over a microsecond keeps the GC transition; the two hot short ones drop it.</summary>
internal static unsafe partial class Libc
{
    private const string Name = "libc";

    [LibraryImport(Name, EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)] public static partial int Open(string path, int flags, int mode);
    [LibraryImport(Name, EntryPoint = "close", SetLastError = true)] public static partial int Close(int fd);
    [LibraryImport(Name, EntryPoint = "pread", SetLastError = true)] public static partial nint ReadAt(int fd, byte* into, nuint bytes, long offset);
    [LibraryImport(Name, EntryPoint = "pwrite", SetLastError = true)] public static partial nint WriteAt(int fd, byte* from, nuint bytes, long offset);
    [LibraryImport(Name, EntryPoint = "pwritev", SetLastError = true)] public static partial nint WriteVectorAt(int fd, IoVector* pieces, int count, long offset);
    [LibraryImport(Name, EntryPoint = "read", SetLastError = true)] public static partial nint Read(int fd, byte* into, nuint bytes);
    [LibraryImport(Name, EntryPoint = "write", SetLastError = true)] public static partial nint Write(int fd, byte* from, nuint bytes);
    [LibraryImport(Name, EntryPoint = "write"), SuppressGCTransition] public static partial nint WriteHot(int fd, byte* from, nuint bytes);
    [LibraryImport(Name, EntryPoint = "fdatasync", SetLastError = true)] public static partial int DataSync(int fd);
    [LibraryImport(Name, EntryPoint = "fsync", SetLastError = true)] public static partial int Sync(int fd);
    [LibraryImport(Name, EntryPoint = "sync_file_range", SetLastError = true)] public static partial int SyncRange(int fd, long offset, long bytes, uint flags);
    [LibraryImport(Name, EntryPoint = "fallocate", SetLastError = true)] public static partial int Allocate(int fd, int mode, long offset, long bytes);
    [LibraryImport(Name, EntryPoint = "ftruncate", SetLastError = true)] public static partial int Truncate(int fd, long bytes);
    [LibraryImport(Name, EntryPoint = "lseek", SetLastError = true)] public static partial long Seek(int fd, long offset, int whence);
    [LibraryImport(Name, EntryPoint = "posix_fadvise")] public static partial int Advise(int fd, long offset, long bytes, int advice);
    [LibraryImport(Name, EntryPoint = "flock", SetLastError = true)] public static partial int Lock(int fd, int operation);
    [LibraryImport(Name, EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)] public static partial int Status(int directory, string path, int flags, uint mask, byte* into);
    [LibraryImport(Name, EntryPoint = "statfs", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)] public static partial int FileSystemStatus(string path, byte* into);
    [LibraryImport(Name, EntryPoint = "mkdir", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)] public static partial int MakeDirectory(string path, int mode);
    [LibraryImport(Name, EntryPoint = "rename", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)] public static partial int Rename(string from, string to);
    [LibraryImport(Name, EntryPoint = "unlink", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)] public static partial int Unlink(string path);
    [LibraryImport(Name, EntryPoint = "mmap", SetLastError = true)] public static partial byte* Map(void* at, nuint bytes, int protection, int flags, int fd, long offset);
    [LibraryImport(Name, EntryPoint = "munmap", SetLastError = true)] public static partial int Unmap(void* at, nuint bytes);
    [LibraryImport(Name, EntryPoint = "madvise", SetLastError = true)] public static partial int AdviseMemory(void* at, nuint bytes, int advice);
    [LibraryImport(Name, EntryPoint = "memfd_create", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)] public static partial int MemoryFile(string name, uint flags);
    [LibraryImport(Name, EntryPoint = "fcntl", SetLastError = true)] public static partial int Control(int fd, int command, nint argument);
    [LibraryImport(Name, EntryPoint = "eventfd", SetLastError = true)] public static partial int EventDescriptor(uint initial, int flags);
    [LibraryImport(Name, EntryPoint = "pipe2", SetLastError = true)] public static partial int Pipe(int* both, int flags);
    [LibraryImport(Name, EntryPoint = "epoll_create1", SetLastError = true)] public static partial int EpollCreate(int flags);
    [LibraryImport(Name, EntryPoint = "epoll_ctl", SetLastError = true)] public static partial int EpollControl(int epoll, int operation, int fd, EpollEvent* what);
    [LibraryImport(Name, EntryPoint = "epoll_wait", SetLastError = true)] public static partial int EpollWait(int epoll, EpollEvent* into, int most, int milliseconds);
    [LibraryImport(Name, EntryPoint = "poll", SetLastError = true)] public static partial int Poll(PollEntry* entries, nuint count, int milliseconds);
    [LibraryImport(Name, EntryPoint = "socket", SetLastError = true)] public static partial int Socket(int family, int type, int protocol);
    [LibraryImport(Name, EntryPoint = "socketpair", SetLastError = true)] public static partial int SocketPair(int family, int type, int protocol, int* both);
    [LibraryImport(Name, EntryPoint = "bind", SetLastError = true)] public static partial int Bind(int fd, byte* address, uint bytes);
    [LibraryImport(Name, EntryPoint = "listen", SetLastError = true)] public static partial int Listen(int fd, int backlog);
    [LibraryImport(Name, EntryPoint = "accept4", SetLastError = true)] public static partial int Accept(int fd, byte* address, uint* bytes, int flags);
    [LibraryImport(Name, EntryPoint = "connect", SetLastError = true)] public static partial int Connect(int fd, byte* address, uint bytes);
    [LibraryImport(Name, EntryPoint = "sendmsg", SetLastError = true)] public static partial nint Send(int fd, MessageHead* message, int flags);
    [LibraryImport(Name, EntryPoint = "recvmsg", SetLastError = true)] public static partial nint Receive(int fd, MessageHead* message, int flags);
    [LibraryImport(Name, EntryPoint = "shutdown", SetLastError = true)] public static partial int Shutdown(int fd, int how);
    [LibraryImport(Name, EntryPoint = "getsockopt", SetLastError = true)] public static partial int SocketOption(int fd, int level, int option, void* value, uint* bytes);
    [LibraryImport(Name, EntryPoint = "syscall", SetLastError = true)] public static partial nint SystemCall(nint number, nint a, nint b, nint c, nint d, nint e, nint f);
    [LibraryImport(Name, EntryPoint = "clock_gettime"), SuppressGCTransition] public static partial int Clock(int which, TimeSpec* into);
    [LibraryImport(Name, EntryPoint = "sched_yield")] public static partial int Yield();
    [LibraryImport(Name, EntryPoint = "getuid")] public static partial uint UserId();
    [LibraryImport(Name, EntryPoint = "umask")] public static partial uint Umask(uint mask);
    [LibraryImport(Name, EntryPoint = "prctl", SetLastError = true)] public static partial int ProcessControl(int what, nuint a, nuint b, nuint c, nuint d);
    [LibraryImport(Name, EntryPoint = "getrlimit", SetLastError = true)] public static partial int Limit(int what, ulong* both);
    [LibraryImport(Name, EntryPoint = "setrlimit", SetLastError = true)] public static partial int SetLimit(int what, ulong* both);
    [LibraryImport(Name, EntryPoint = "kill", SetLastError = true)] public static partial int Kill(int process, int signal);
}

/// <summary>As the kernel's <c>struct iovec</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
public unsafe struct IoVector
{
    public byte* Base;
    public nuint Length;
}

/// <summary>As the kernel's <c>struct msghdr</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct MessageHead
{
    public void* Name;
    public uint NameBytes;
    public IoVector* Pieces;
    public nuint PieceCount;
    public void* ControlData;
    public nuint ControlBytes;
    public int Flags;
}

/// <summary>As the kernel's <c>struct timespec</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TimeSpec
{
    public long Seconds;
    public long Nanoseconds;
}

/// <summary>As the kernel's <c>struct pollfd</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct PollEntry
{
    public int Descriptor;
    public short Wanted;
    public short Found;
}

/// <summary>Turns the C convention (negative and errno) into a <see cref="Result"/>; the one place where a test can make any call fail.</summary>
internal static class Check
{
    [ThreadStatic] private static int t_failAt;
    [ThreadStatic] private static Errno t_failWith;

    /// <summary>For tests: the <paramref name="callsFromNow"/>-th checked call of this thread fails with <paramref name="errno"/>, once. 0: never.</summary>
    public static void FailAt(int callsFromNow, Errno errno) => (t_failAt, t_failWith) = (callsFromNow, errno);

    /// <summary>A failure is still ahead: the operation made fewer calls than that.</summary>
    public static bool FailurePending => t_failAt > 0;

    /// <summary>Asked before a call is made: must it fail without being made?</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Injected(out Errno errno)
    {
        errno = default;
        if (t_failAt == 0)
        {
            return false;
        }

        if (--t_failAt > 0)
        {
            return false;
        }

        errno = t_failWith;
        return true;
    }

    public static Errno Last => (Errno)Marshal.GetLastPInvokeError();
}
