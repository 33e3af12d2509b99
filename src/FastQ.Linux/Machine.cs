using System.Globalization;
using System.Runtime.Intrinsics.X86;

namespace FastQ.Linux;

/// <summary>The kernel's clocks, in nanoseconds. About 25 ns a reading: once a turn, never once a message.</summary>
public static unsafe class Clock
{
    /// <summary>Since boot, suspension included; never set, never slewed.</summary>
    public static long BootNanoseconds() => Read(7);

    /// <summary>Since 1970; may jump.</summary>
    public static long WallNanoseconds() => Read(0);

    /// <summary>For measuring.</summary>
    public static long MonotonicNanoseconds() => Read(1);

    private static long Read(int clock)
    {
        TimeSpec time;
        _ = Libc.Clock(clock, &time);
        return time.Seconds * 1_000_000_000 + time.Nanoseconds;
    }
}

/// <summary>Waiting without sleeping.</summary>
public static class Processor
{
    /// <summary>Gives the core to whoever waits for it: 0.3 to 0.5 us.</summary>
    public static void Yield() => _ = Libc.Yield();

    /// <summary>Rests a few dozen cycles, so often.</summary>
    public static void Pause(int times)
    {
        for (int i = 0; i < times; i++)
        {
            if (X86Base.IsSupported)
            {
                X86Base.Pause();
            }
        }
    }

    /// <summary>Cores that this process may use, by its affinity and its control group's quota (rounded up), as they were at its start; at least 1.</summary>
    public static int UsableCount => Environment.ProcessorCount;
}

/// <summary>This process, as the kernel sees it.</summary>
public static unsafe class ThisProcess
{
    public static uint UserId => Libc.UserId();

    /// <summary>Resident bytes, shared ones included (/proc/self/statm).</summary>
    public static long ResidentBytes() => Resident("/proc/self/statm");

    /// <summary>Resident bytes of any process; 0 when it is gone.</summary>
    public static long ResidentBytesOf(int processId) => Resident($"/proc/{processId}/statm");

    /// <summary>Raises the limit of open descriptors as far as it may go.</summary>
    public static Result RaiseDescriptorLimit()
    {
        const int Descriptors = 7;
        ulong* both = stackalloc ulong[2];
        if (Libc.Limit(Descriptors, both) != 0)
        {
            return new Fault("getrlimit", Check.Last, "descriptors");
        }

        both[0] = both[1];
        return Libc.SetLimit(Descriptors, both) == 0 ? Result.Success : new Fault("setrlimit", Check.Last, "descriptors");
    }

    /// <summary>Asks that <see cref="FenceAll"/>, called in any process, fence the running threads of this one, too. Once a process.</summary>
    public static Result RegisterForFences() => Membarrier(4);

    /// <summary>Makes every running thread of every registered process pass a full fence before this returns (membarrier(2), global expedited). 1 to 3 us; they pay next to nothing.</summary>
    public static Result FenceAll() => Membarrier(2);

    private static Result Membarrier(int command)
    {
        const int Number = 324;
        return Libc.SystemCall(Number, command, 0, 0, 0, 0, 0) == 0 ? Result.Success : new Fault("membarrier", Check.Last, "all processes");
    }

    /// <summary>The kernel kills this process when its parent ends: a benchmark leaves nothing running.</summary>
    public static void DieWithParent() => _ = Libc.ProcessControl(1, 9, 0, 0, 0);

    /// <summary>Sends a signal.</summary>
    public static Result Signal(int processId, int signal) =>
        Libc.Kill(processId, signal) == 0 ? Result.Success : new Fault("kill", Check.Last, $"process {processId}");

    private static long Resident(string path)
    {
        try
        {
            string[] fields = File.ReadAllText(path).Split(' ');
            return long.Parse(fields[1], CultureInfo.InvariantCulture) * Environment.SystemPageSize;
        }
        catch (IOException)
        {
            return 0;
        }
    }
}
