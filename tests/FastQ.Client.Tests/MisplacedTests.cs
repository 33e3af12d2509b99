using System.Text;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

/// <summary>A disk that put a write in the wrong place: a whole message lies where another one belongs.</summary>
public sealed class MisplacedTests
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(10);

    /// <summary>By reference the client looks first, for what lay there before the start is cold, and the broker after it; of a copy the broker alone.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_message_is_not_delivered_as_the_other_in_whose_place_it_lies(bool asCopies)
    {
        using RunningBroker broker = new();
        using (Session producer = broker.Connect())
        {
            producer.DeclareQueue("q");
            producer.Publish(producer.OpenQueue("q"), "message 1"u8, ConfirmLevel.Durable);
            producer.Publish(producer.OpenQueue("q"), "message 2"u8, ConfirmLevel.Durable);
            producer.Flush();
        }

        broker.Stop(); // Its snapshot covers them: the start does not read them.
        Lay("message 2"u8, "message 1"u8, Path.Combine(broker.Directory, "data", "namespaces", "default", "slots", "0000000001.slot"));
        broker.Start();
        using Session consumer = broker.Connect(options => options with { WantsCopies = asCopies });
        Subscription subscription = consumer.Subscribe("q");
        Assert.True(subscription.Receive(Soon, out Delivery delivery));
        Assert.Equal((2ul, "message 2"), (delivery.Tag, Encoding.UTF8.GetString(delivery.Body)));
        subscription.Accept(delivery);
        consumer.Flush();
        Assert.True(SpinWait.SpinUntil(() => consumer.GetQueue("q").Damaged == 1, Soon), "the other is kept as damaged");
        Assert.Equal((0, 0), (consumer.GetQueue("q").Ready, consumer.GetQueue("q").InFlight));
    }

    /// <summary>Puts the record of one body over that of another of the same length.</summary>
    private static void Lay(ReadOnlySpan<byte> body, ReadOnlySpan<byte> over, string slot)
    {
        using FileStream file = File.Open(slot, FileMode.Open);
        byte[] bytes = new byte[1 << 20];
        file.ReadExactly(bytes);
        int from = bytes.AsSpan().IndexOf(body), to = bytes.AsSpan().IndexOf(over);
        Assert.True(from > 0 && to > 0);
        file.Position = to - MessageHeader.SizeBytes;
        file.Write(bytes, from - MessageHeader.SizeBytes, MessageHeader.SizeBytes + body.Length);
    }
}
