using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

public class AllocationTests
{
    [Fact]
    public void Publishing_receiving_and_settling_allocate_nothing_per_message()
    {
        using RunningBroker broker = new();
        using Session session = broker.Connect();
        session.DeclareQueue("q");
        QueueHandle queue = session.OpenQueue("q");
        Subscription subscription = session.Subscribe("q");
        byte[] body = new byte[100];
        const int Warm = 20_000, Count = 100_000;
        long before = 0;
        for (int i = 0; i < Warm + Count; i++)
        {
            before = i == Warm ? GC.GetAllocatedBytesForCurrentThread() : before;
            session.Publish(queue, body, ConfirmLevel.Written);
            if (subscription.TryReceive(out Delivery delivery))
            {
                subscription.Accept(delivery);
            }
        }

        // Pools may still grow a little; nothing grows with the messages.
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 64 * 1024);
    }
}
