using System.Diagnostics;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

/// <summary>A broker whose fence did not reach a client (the kernel may pass one over) sees what that wrote unrung a moment later.</summary>
public class SecondLookTests
{
    [Fact]
    public void What_was_written_unrung_just_as_the_broker_lay_down_is_taken_all_the_same()
    {
        using RunningBroker broker = new();
        using RawClient client = broker.Connect();
        uint queue = client.Declare("q");
        const int Tries = 30; // Where this thread is late, the commit comes after the second look, and is rung for in the end.
        int unrung = 0;
        for (int i = 0; i < Tries && unrung < 3; i++)
        {
            ulong sleep = SleepAtRest(client);
            ulong number = client.NextNumber;
            client.PutMessage(queue, "unrung"u8);
            client.Ring(); // It wakes, finds nothing, and lies down anew.
            Spin(() => client.Rings.SleepNumber is ulong now && now % 2 == 1 && now != sleep, microseconds: 30_000_000); // It lies down anew. Not a moment may be slept here.
            _ = Spin(() => false, microseconds: 100); // It has fenced and looked once meanwhile.
            client.Rings.ShowHead(client.Rings.Head);
            if (Spin(() => client.Rings.Written >= number, microseconds: 5000))
            {
                unrung++;
                continue;
            }

            client.Ring();
            client.WaitForWritten(number);
        }

        Assert.Equal(3, unrung);
    }

    /// <summary>Waits until the broker has nothing more to do by itself: its sleep goes on.</summary>
    private static ulong SleepAtRest(RawClient client)
    {
        ulong number = 0;
        long since = 0;
        client.Wait(
            () =>
            {
                bool isSame = client.Rings.SleepNumber == number && number % 2 == 1;
                (number, since) = isSame ? (number, since) : (client.Rings.SleepNumber, Stopwatch.GetTimestamp());
                return isSame && Stopwatch.GetElapsedTime(since).TotalMilliseconds > 300;
            },
            "the broker is at rest");
        return number;
    }

    private static bool Spin(Func<bool> condition, int microseconds)
    {
        long start = Stopwatch.GetTimestamp();
        while (!condition() && Stopwatch.GetElapsedTime(start).TotalMicroseconds < microseconds)
        {
        }

        return condition();
    }
}
