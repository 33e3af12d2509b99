using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

/// <summary>Counts what the whole process allocates, so nothing runs beside it.</summary>
[CollectionDefinition(nameof(AllocationTests), DisableParallelization = true)]
[Collection(nameof(AllocationTests))]
public class AllocationTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Publishing_receiving_and_settling_allocate_nothing_per_message(int lz4FromBytes)
    {
        using RunningBroker broker = new();
        using Session session = broker.Connect();
        session.DeclareQueue("q", new QueueOptions { Lz4FromBytes = lz4FromBytes });
        QueueHandle queue = session.OpenQueue("q");
        Subscription subscription = session.Subscribe("q");
        byte[] body = new byte[100];
        const int Warm = 20_000, Count = 100_000;
        long before = 0;
        for (int i = 0; i < Warm + Count; i++)
        {
            before = i == Warm ? GC.GetTotalAllocatedBytes(precise: true) : before;
            session.Publish(queue, body, ConfirmLevel.Written);
            Assert.True(subscription.Receive(TimeSpan.FromSeconds(10), out Delivery delivery)); // One at a time: each is a block of its own, and turns are many.
            delivery.CopyBody(body);
            subscription.Accept(delivery);
        }

        // The broker is of this process, too: its syncs allocate, at most ten a second, and a snapshot now and then its buffers of 200 KB.
        // How many of those fall into the run is chance. The smallest object a message would be 24 bytes each, half as much again as is let through.
        Assert.InRange(GC.GetTotalAllocatedBytes(precise: true) - before, 0, Count * 16);
    }
}
