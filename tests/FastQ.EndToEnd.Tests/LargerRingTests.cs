using FastQ.Client;
using FastQ.Protocol;
using Xunit;

namespace FastQ.EndToEnd;

// A client and a broker that go over to larger rings at different moments.
public class LargerRingTests
{
    [Fact]
    public void What_is_written_into_a_larger_ring_is_rung_for_though_the_broker_went_there_to_sleep()
    {
        using TestBroker broker = new();
        using Session session = Session.Connect(new SessionOptions { Path = broker.Socket, SubmissionRingBytes = 64 * 1024, DeliveryRingBytes = 64 * 1024 }, TestContext.Current.CancellationToken);
        session.DeclareQueue("work");
        QueueHandle queue = session.OpenQueue("work");
        for (int size = 100_000; size < 4_000_000; size *= 4)
        {
            Session.Reservation reservation = session.Reserve(queue, size); // The rings grow, the broker goes over to them.
            reservation.Body.Fill((byte)'l');
            AwaitSleepOf(broker.ProcessId);
            ulong number = reservation.Commit(ConfirmLevel.Written);
            session.WaitConfirmed(number, ConfirmLevel.Written, TimeSpan.FromSeconds(20));
        }
    }

    /// <summary>All its threads sleep, at so many looks in a row.</summary>
    private static void AwaitSleepOf(string process)
    {
        const int Looks = 300;
        for (int quiet = 0; quiet < Looks; quiet++)
        {
            foreach (string task in Directory.EnumerateDirectories($"/proc/{process}/task"))
            {
                string stat = File.ReadAllText(Path.Combine(task, "stat"));
                quiet = stat[stat.LastIndexOf(')') + 2] == 'S' ? quiet : 0;
            }

            Thread.Yield();
        }
    }
}
