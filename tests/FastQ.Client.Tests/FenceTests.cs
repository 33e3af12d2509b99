using FastQ.Linux;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

// The doorbell's two looks (Sleep.cs), where the sleeper fences for the ringer: in no round may both miss what the other wrote.
public unsafe class FenceTests
{
    [Fact]
    public void A_sleeper_that_fences_all_and_a_ringer_without_a_fence_never_miss_each_other()
    {
        ThisProcess.RegisterForFences().OrThrow();
        using Mapping memory = Mapping.OfMemory(4096).OrThrow();
        ulong* head = (ulong*)memory.Address;
        ulong* number = (ulong*)(memory.Address + 1024);
        const int Rounds = 200_000;
        int ready = 0, missed = 0;
        bool rang = false;
        Thread ringer = new(() =>
        {
            Ringer bell = new(number);
            for (int round = 1; round <= Rounds; round++)
            {
                Meet(ref ready, 4 * round - 2);
                Volatile.Write(ref *head, (ulong)round);
                rang = bell.MustRingAfterFence();
                Meet(ref ready, 4 * round);
            }
        });
        ringer.Start();
        Sleeper sleeper = new(number);
        for (int round = 1; round <= Rounds; round++)
        {
            Meet(ref ready, 4 * round - 2);
            sleeper.Announce();
            ThisProcess.FenceAll().OrThrow();
            bool seen = Volatile.Read(ref *head) == (ulong)round;
            Meet(ref ready, 4 * round);
            missed += !seen && !rang ? 1 : 0;
            sleeper.Wake();
        }

        ringer.Join();
        Assert.Equal(0, missed);
    }

    private static void Meet(ref int ready, int until)
    {
        Interlocked.Increment(ref ready);
        for (int look = 1; Volatile.Read(ref ready) < until; look++)
        {
            if (look % 1000 == 0)
            {
                Processor.Yield(); // The other may have to wait for this core.
            }

            Processor.Pause(1);
        }
    }
}
