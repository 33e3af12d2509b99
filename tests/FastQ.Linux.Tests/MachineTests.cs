using System.Globalization;
using Xunit;

namespace FastQ.Linux.Tests;

public sealed class MachineTests
{
    [Fact]
    public void Boot_time_and_monotonic_time_never_fall_and_the_wall_clock_tells_the_date()
    {
        long boot = Clock.BootNanoseconds();
        long monotonic = Clock.MonotonicNanoseconds();
        Assert.True(Clock.BootNanoseconds() >= monotonic); // boot time counts suspension too
        Assert.True(Clock.BootNanoseconds() >= boot);
        Assert.True(Clock.MonotonicNanoseconds() >= monotonic);
        DateTime wall = DateTime.UnixEpoch.AddTicks(Clock.WallNanoseconds() / TimeSpan.NanosecondsPerTick);
        Assert.InRange(wall, DateTime.UtcNow.AddMinutes(-1), DateTime.UtcNow.AddMinutes(1));
    }

    [Fact]
    public void Usable_cores_are_those_that_the_kernel_allows_us()
    {
        string allowed = File.ReadLines("/proc/self/status").First(static line => line.StartsWith("Cpus_allowed:", StringComparison.Ordinal)).Split('\t')[1];
        int cores = allowed.Where(char.IsAsciiHexDigit).Sum(static digit => int.PopCount(Convert.ToInt32(digit.ToString(), 16)));
        string quota = File.Exists("/sys/fs/cgroup/cpu.max") ? File.ReadAllText("/sys/fs/cgroup/cpu.max") : "max";
        Assert.InRange(Processor.UsableCount, quota.StartsWith("max", StringComparison.Ordinal) ? Math.Min(2, cores) : 1, cores);
        Processor.Yield();
        Processor.Pause(3);
    }

    [Fact]
    public void Resident_bytes_follow_what_is_touched_and_a_process_that_is_gone_has_none()
    {
        const long Bytes = 64 << 20;
        long before = ThisProcess.ResidentBytes();
        using Mapping memory = Mapping.OfMemory(Bytes).OrThrow();
        memory.Touch().OrThrow();
        Assert.True(ThisProcess.ResidentBytes() - before > Bytes / 2);
        Assert.InRange(ThisProcess.ResidentBytesOf(Environment.ProcessId), Bytes / 2, long.MaxValue);
        Assert.Equal(0, ThisProcess.ResidentBytesOf(int.MaxValue));
    }

    [Fact]
    public void The_limit_of_descriptors_is_raised_as_far_as_it_goes()
    {
        ThisProcess.RaiseDescriptorLimit().OrThrow();
        string[] limits = File.ReadLines("/proc/self/limits").First(static line => line.StartsWith("Max open files", StringComparison.Ordinal))[14..].Split(' ', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(limits[1], limits[0]);
        Assert.Equal(uint.Parse(File.ReadLines("/proc/self/status").First(static line => line.StartsWith("Uid:", StringComparison.Ordinal)).Split('\t')[1], CultureInfo.InvariantCulture), ThisProcess.UserId);
    }

    [Fact]
    public void Threads_of_registered_processes_can_be_fenced()
    {
        ThisProcess.RegisterForFences().OrThrow();
        ThisProcess.FenceAll().OrThrow();
    }

    [Fact]
    public void A_signal_reaches_who_lives_and_is_a_fault_for_who_does_not()
    {
        ThisProcess.Signal(Environment.ProcessId, 0).OrThrow();
        Assert.Equal(Errno.ESRCH, ThisProcess.Signal(int.MaxValue, 0).Fault.Errno);
    }

    [Fact]
    public void The_calls_of_the_hot_path_allocate_nothing()
    {
        using Scratch scratch = new();
        using FileHandle file = scratch.OpenNew("f");
        using EventDescriptor bell = EventDescriptor.Create().OrThrow();
        using EpollSet set = EpollSet.Create().OrThrow();
        (FileHandle read, FileHandle write) = Pipe.Create().OrThrow();
        using (read)
        using (write)
        {
            set.Add(bell.Descriptor, EpollInterest.In, 1).OrThrow();
            Once(file, bell, set, read, write);
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < 100; i++)
            {
                Once(file, bell, set, read, write);
            }

            Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        }
    }

    private static void Once(FileHandle file, EventDescriptor bell, EpollSet set, FileHandle read, FileHandle write)
    {
        Span<EpollEvent> events = stackalloc EpollEvent[2];
        bell.Signal();
        _ = set.Wait(events, 0);
        bell.Drain();
        _ = Pipe.TryWriteByte(write);
        _ = Poll.Wait(read.Descriptor, bell.Descriptor, 0);
        Pipe.Drain(read);
        file.WriteAt("block"u8, 0).OrThrow();
        _ = Clock.BootNanoseconds() + Clock.WallNanoseconds();
        Processor.Yield();
    }
}
