using System.Runtime.InteropServices;

namespace FastQ.Linux;

/// <summary>An eventfd, non-blocking: something to ring. Any thread may signal; the owner disposes.</summary>
public sealed unsafe class EventDescriptor : IDisposable
{
    private readonly FileHandle _file;

    private EventDescriptor(FileHandle file)
    {
        _file = file;
    }

    public int Descriptor => _file.Descriptor;

    public static Result<EventDescriptor> Create()
    {
        const int CloseOnExecNonBlocking = 0x80000 | 0x800;
        if (Check.Injected(out Errno injected))
        {
            return new Fault("eventfd", injected, "eventfd");
        }

        int fd = Libc.EventDescriptor(0, CloseOnExecNonBlocking);
        return fd >= 0 ? new EventDescriptor(FileHandle.Adopt(fd, "eventfd")) : new Fault("eventfd", Check.Last, "eventfd");
    }

    /// <summary>Takes ownership of one that came from elsewhere.</summary>
    public static EventDescriptor Adopt(int descriptor) => new(FileHandle.Adopt(descriptor, "eventfd"));

    /// <summary>Rings. Never blocks: a counter that is full has rung already.</summary>
    public void Signal()
    {
        ulong one = 1;
        _ = Libc.WriteHot(_file.Descriptor, (byte*)&one, 8);
    }

    /// <summary>Sets the counter back to zero.</summary>
    public void Drain()
    {
        ulong count;
        _ = Libc.Read(_file.Descriptor, (byte*)&count, 8);
    }

    public void Dispose() => _file.Dispose();
}

/// <summary>Pipes, both ends non-blocking: a doorbell whose ringer cannot be hung by the sleeper.</summary>
public static unsafe class Pipe
{
    public static Result<(FileHandle Read, FileHandle Write)> Create()
    {
        const int CloseOnExecNonBlocking = 0x80000 | 0x800;
        if (Check.Injected(out Errno injected))
        {
            return new Fault("pipe2", injected, "pipe");
        }

        int* both = stackalloc int[2];
        return Libc.Pipe(both, CloseOnExecNonBlocking) == 0
            ? (FileHandle.Adopt(both[0], "pipe (read end)"), FileHandle.Adopt(both[1], "pipe (write end)"))
            : new Fault("pipe2", Check.Last, "pipe");
    }

    /// <summary>Puts one byte in; false when the pipe is full (rung already) or its reader is gone.</summary>
    public static bool TryWriteByte(FileHandle writeEnd)
    {
        byte one = 1;
        return Libc.Write(writeEnd.Descriptor, &one, 1) == 1;
    }

    /// <summary>Takes out what is there.</summary>
    public static void Drain(FileHandle readEnd)
    {
        byte* bytes = stackalloc byte[64];
        while (Libc.Read(readEnd.Descriptor, bytes, 64) == 64)
        {
        }
    }
}

/// <summary>What to be told of.</summary>
[Flags]
public enum EpollInterest : uint
{
    In = 1,
    Out = 4,
    Error = 8,
    Hangup = 16,
    PeerHangup = 0x2000,
    Edge = 1u << 31,
}

/// <summary>As the kernel's packed <c>struct epoll_event</c> on x86-64.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 4)]
public struct EpollEvent
{
    public EpollInterest Events;
    public ulong Token;

    public readonly bool IsHangup => (Events & (EpollInterest.Hangup | EpollInterest.PeerHangup | EpollInterest.Error)) != 0;

    public readonly bool IsReadable => (Events & EpollInterest.In) != 0;
}

/// <summary>An epoll set. One waiting thread; the owner disposes.</summary>
public sealed unsafe class EpollSet : IDisposable
{
    private const int AddOperation = 1, RemoveOperation = 2, ChangeOperation = 3;
    private readonly FileHandle _file;

    private EpollSet(FileHandle file)
    {
        _file = file;
    }

    public static Result<EpollSet> Create()
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("epoll_create1", injected, "epoll");
        }

        int fd = Libc.EpollCreate(0x80000);
        return fd >= 0 ? new EpollSet(FileHandle.Adopt(fd, "epoll")) : new Fault("epoll_create1", Check.Last, "epoll");
    }

    public Result Add(int descriptor, EpollInterest interest, ulong token) => Control(AddOperation, descriptor, interest, token);

    public Result Change(int descriptor, EpollInterest interest, ulong token) => Control(ChangeOperation, descriptor, interest, token);

    /// <summary>To be called before the descriptor is closed: a duplicate elsewhere would keep the registration alive (DESIGN-REVIEW R55).</summary>
    public Result Remove(int descriptor) => Control(RemoveOperation, descriptor, 0, 0);

    /// <summary>Waits at most so long (-1: for ever; 0: only looks). Gives the number of events; 0 when a signal came.</summary>
    public int Wait(Span<EpollEvent> events, int timeoutMilliseconds)
    {
        fixed (EpollEvent* into = events)
        {
            int found = Libc.EpollWait(_file.Descriptor, into, events.Length, timeoutMilliseconds);

            // Anything else is a closed set or no room for events: our bug, and a loop that would spin for ever on it.
            Invariant.Holds(found >= 0 || Check.Last == Errno.EINTR);
            return Math.Max(0, found);
        }
    }

    public void Dispose() => _file.Dispose();

    private Result Control(int operation, int descriptor, EpollInterest interest, ulong token)
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("epoll_ctl", injected, $"descriptor {descriptor}");
        }

        EpollEvent what = new() { Events = interest, Token = token };
        return Libc.EpollControl(_file.Descriptor, operation, descriptor, &what) == 0 ? Result.Success : new Fault("epoll_ctl", Check.Last, $"descriptor {descriptor}");
    }
}

/// <summary>Waiting for a few descriptors at once.</summary>
public static unsafe class Poll
{
    private const short In = 1;

    /// <summary>Waits until one of two is readable or hung up, at most so long (-1: for ever). Gives which; neither when a signal came.</summary>
    public static (bool First, bool Second) Wait(int first, int second, int timeoutMilliseconds)
    {
        (bool firstIs, bool secondIs, _) = Wait(first, second, -1, timeoutMilliseconds);
        return (firstIs, secondIs);
    }

    /// <summary>As above for three. A negative descriptor is passed over.</summary>
    public static (bool First, bool Second, bool Third) Wait(int first, int second, int third, int timeoutMilliseconds)
    {
        PollEntry* entries = stackalloc PollEntry[3];
        entries[0] = new PollEntry { Descriptor = first, Wanted = In };
        entries[1] = new PollEntry { Descriptor = second, Wanted = In };
        entries[2] = new PollEntry { Descriptor = third, Wanted = In };
        int found = Libc.Poll(entries, 3, timeoutMilliseconds);
        return found > 0 ? (entries[0].Found != 0, entries[1].Found != 0, entries[2].Found != 0) : default;
    }
}
