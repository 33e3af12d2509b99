using System.Runtime.CompilerServices;
using System.Text;

namespace FastQ.Linux;

/// <summary>Who is at the other end, as the kernel saw it at connect.</summary>
public readonly record struct PeerCredentials(int ProcessId, uint UserId, uint GroupId);

/// <summary>A message with descriptors.</summary>
public readonly record struct Received(int Bytes, int Descriptors);

/// <summary>A Unix socket of packets (SOCK_SEQPACKET). One thread at a time; the owner disposes.</summary>
public sealed unsafe class UnixSocket : IDisposable
{
    /// <summary>Longest path of a socket, in bytes: <c>sun_path</c> is 108 with its zero.</summary>
    public const int MaxPathBytes = 107;

    private const int AddressBytes = 2 + MaxPathBytes + 1;
    private const int Family = 1, SequencedPackets = 5, CloseOnExec = 0x80000, NonBlocking = 0x800;
    private const int SocketLevel = 1, PeerCredentialsOption = 17, PeerProcessOption = 77, RightsType = 1;
    private const int NoSignal = 0x4000, CloseReceivedOnExec = 0x40000000;
    private const int MostDescriptors = 16;
    private readonly FileHandle _file;

    private UnixSocket(FileHandle file)
    {
        _file = file;
    }

    public int Descriptor => _file.Descriptor;

    /// <summary>Listens at a path, non-blocking. The socket file is born with <paramref name="mode"/>; an existing one is EADDRINUSE.</summary>
    public static Result<UnixSocket> Listen(string path, int backlog, int mode)
    {
        byte* address = stackalloc byte[AddressBytes];
        Result<uint> length = AddressOf("bind", path, address);
        if (!length.Ok)
        {
            return length.Fault;
        }

        Result<UnixSocket> made = Make(path, NonBlocking);
        if (!made.Ok)
        {
            return made;
        }

        // Born with its mode, as a later chmod would leave a moment in which others could connect. umask is the process's: callers listen at start, before threads.
        uint before = Libc.Umask((uint)(~mode & 0x1FF));
        Errno errno = Check.Injected(out Errno injected) ? injected : Libc.Bind(made.Value.Descriptor, address, length.Value) == 0 ? Errno.None : Check.Last;
        _ = Libc.Umask(before);
        string call = "bind";
        if (errno == Errno.None)
        {
            call = "listen";
            errno = Check.Injected(out injected) ? injected : Libc.Listen(made.Value.Descriptor, backlog) == 0 ? Errno.None : Check.Last;
        }

        if (errno == Errno.None)
        {
            return made;
        }

        made.Value.Dispose();
        return new Fault(call, errno, path);
    }

    /// <summary>Connects, blocking.</summary>
    public static Result<UnixSocket> Connect(string path)
    {
        byte* address = stackalloc byte[AddressBytes];
        Result<uint> length = AddressOf("connect", path, address);
        if (!length.Ok)
        {
            return length.Fault;
        }

        Result<UnixSocket> made = Make(path, 0);
        if (!made.Ok)
        {
            return made;
        }

        Errno errno;
        do
        {
            errno = Check.Injected(out Errno injected) ? injected : Libc.Connect(made.Value.Descriptor, address, length.Value) == 0 ? Errno.None : Check.Last;
        }
        while (errno == Errno.EINTR); // It waited for room in the backlog: nothing has begun, so it may be asked again.
        if (errno == Errno.None)
        {
            return made;
        }

        made.Value.Dispose();
        return new Fault("connect", errno, path);
    }

    /// <summary>Takes the next connection, non-blocking. EAGAIN: none waits.</summary>
    public Result<UnixSocket> Accept()
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("accept4", injected, _file.Path);
        }

        int fd = Libc.Accept(Descriptor, null, null, CloseOnExec | NonBlocking);
        return fd >= 0 ? new UnixSocket(FileHandle.Adopt(fd, _file.Path)) : new Fault("accept4", Check.Last, _file.Path);
    }

    /// <summary>Two connected sockets, blocking.</summary>
    public static Result<(UnixSocket A, UnixSocket B)> Pair()
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("socketpair", injected, "socket pair");
        }

        int* both = stackalloc int[2];
        return Libc.SocketPair(Family, SequencedPackets | CloseOnExec, 0, both) == 0
            ? (new UnixSocket(FileHandle.Adopt(both[0], "socket pair")), new UnixSocket(FileHandle.Adopt(both[1], "socket pair")))
            : new Fault("socketpair", Check.Last, "socket pair");
    }

    /// <summary>Sends one packet, with at most 16 descriptors. They stay the sender's.</summary>
    public Result Send(ReadOnlySpan<byte> message, ReadOnlySpan<int> descriptors = default)
    {
        Invariant.Holds(descriptors.Length <= MostDescriptors);
        if (Check.Injected(out Errno injected))
        {
            return new Fault("sendmsg", injected, _file.Path);
        }

        byte* control = stackalloc byte[16 + MostDescriptors * sizeof(int)];
        fixed (byte* bytes = message)
        {
            IoVector piece = new() { Base = bytes, Length = (nuint)message.Length };
            MessageHead head = new() { Pieces = &piece, PieceCount = 1 };
            if (!descriptors.IsEmpty)
            {
                head.ControlData = control;
                head.ControlBytes = (nuint)(16 + ((descriptors.Length * sizeof(int) + 7) & ~7));
                *(nuint*)control = (nuint)(16 + descriptors.Length * sizeof(int));
                *(int*)(control + 8) = SocketLevel;
                *(int*)(control + 12) = RightsType;
                descriptors.CopyTo(new Span<int>(control + 16, MostDescriptors));
            }

            nint sent;
            do
            {
                sent = Libc.Send(Descriptor, &head, NoSignal);
            }
            while (sent < 0 && Check.Last == Errno.EINTR);
            return sent == message.Length ? Result.Success : new Fault("sendmsg", sent < 0 ? Check.Last : Errno.EMSGSIZE, _file.Path);
        }
    }

    /// <summary>Receives one packet without a control buffer: descriptors that the peer sends along are dropped by the kernel. 0 bytes: closed. A packet longer than <paramref name="into"/> is EMSGSIZE.</summary>
    public Result<int> Receive(Span<byte> into)
    {
        Result<Received> received = Receive(into, default);
        return received.Ok ? received.Value.Bytes : received.Fault;
    }

    /// <summary>Receives one packet with descriptors; they are the caller's from then on.</summary>
    public Result<Received> Receive(Span<byte> into, Span<int> descriptors)
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("recvmsg", injected, _file.Path);
        }

        byte* control = stackalloc byte[16 + MostDescriptors * sizeof(int)];
        fixed (byte* bytes = into)
        {
            IoVector piece = new() { Base = bytes, Length = (nuint)into.Length };
            MessageHead head = new() { Pieces = &piece, PieceCount = 1 };
            if (!descriptors.IsEmpty)
            {
                head.ControlData = control;
                head.ControlBytes = (nuint)(16 + Math.Min(descriptors.Length, MostDescriptors) * sizeof(int));
            }

            nint got;
            do
            {
                got = Libc.Receive(Descriptor, &head, CloseReceivedOnExec);
            }
            while (got < 0 && Check.Last == Errno.EINTR);
            if (got < 0)
            {
                return new Fault("recvmsg", Check.Last, _file.Path);
            }

            int count = TakeDescriptors(ref head, control, descriptors);
            const int Truncated = 0x20;
            if ((head.Flags & Truncated) != 0)
            {
                for (int i = 0; i < count; i++)
                {
                    _ = Libc.Close(descriptors[i]);
                }

                return new Fault("recvmsg", Errno.EMSGSIZE, _file.Path);
            }

            return new Received((int)got, count);
        }
    }

    /// <summary>Process, user and group of the peer.</summary>
    public Result<PeerCredentials> Peer()
    {
        int* credentials = stackalloc int[3];
        uint bytes = 12;
        Errno errno = Check.Injected(out Errno injected) ? injected : Libc.SocketOption(Descriptor, SocketLevel, PeerCredentialsOption, credentials, &bytes) == 0 ? Errno.None : Check.Last;
        return errno == Errno.None
            ? new PeerCredentials(credentials[0], (uint)credentials[1], (uint)credentials[2])
            : new Fault("getsockopt SO_PEERCRED", errno, _file.Path);
    }

    /// <summary>A descriptor of the peer's process, readable when it ends (Linux 6.5 on; else ENOPROTOOPT).</summary>
    public Result<FileHandle> PeerProcess()
    {
        int fd = -1;
        uint bytes = sizeof(int);
        Errno errno = Check.Injected(out Errno injected) ? injected : Libc.SocketOption(Descriptor, SocketLevel, PeerProcessOption, &fd, &bytes) == 0 ? Errno.None : Check.Last;
        return errno == Errno.None ? FileHandle.Adopt(fd, "peer process") : new Fault("getsockopt SO_PEERPIDFD", errno, _file.Path);
    }

    /// <summary>Switches between waiting and EAGAIN.</summary>
    public Result SetNonBlocking(bool on)
    {
        const int GetFlags = 3, SetFlags = 4;
        if (Check.Injected(out Errno injected))
        {
            return new Fault("fcntl", injected, _file.Path);
        }

        int flags = Libc.Control(Descriptor, GetFlags, 0);
        return flags >= 0 && Libc.Control(Descriptor, SetFlags, on ? flags | NonBlocking : flags & ~NonBlocking) == 0
            ? Result.Success
            : new Fault("fcntl", Check.Last, _file.Path);
    }

    /// <summary>No more in either direction; the peer sees a hang-up.</summary>
    public void Shutdown() => _ = Libc.Shutdown(Descriptor, 2);

    public void Dispose() => _file.Dispose();

    private static Result<UnixSocket> Make(string path, int flags)
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("socket", injected, path);
        }

        int fd = Libc.Socket(Family, SequencedPackets | CloseOnExec | flags, 0);
        return fd >= 0 ? new UnixSocket(FileHandle.Adopt(fd, path)) : new Fault("socket", Check.Last, path);
    }

    private static Result<uint> AddressOf(string call, string path, byte* address)
    {
        // A first byte of zero would make a name outside the file system, which no mode protects.
        if (path.Length == 0 || path.Contains('\0', StringComparison.Ordinal))
        {
            return new Fault(call, Errno.EINVAL, "a socket path that is empty or holds a zero byte");
        }

        int bytes = Encoding.UTF8.GetByteCount(path);
        if (bytes > MaxPathBytes)
        {
            return new Fault(call, Errno.ENAMETOOLONG, $"{path} ({bytes} bytes; a socket path has at most {MaxPathBytes})");
        }

        *(ushort*)address = Family;
        int written = Encoding.UTF8.GetBytes(path, new Span<byte>(address + 2, MaxPathBytes));
        address[2 + written] = 0;
        return (uint)(2 + written + 1);
    }

    private static int TakeDescriptors(ref MessageHead head, byte* control, Span<int> into)
    {
        if (head.ControlBytes < 16 || *(int*)(control + 8) != SocketLevel || *(int*)(control + 12) != RightsType)
        {
            return 0;
        }

        int count = (int)((*(nuint*)control - 16) / sizeof(int));
        new ReadOnlySpan<int>(control + 16, count).CopyTo(into);
        return count;
    }
}
