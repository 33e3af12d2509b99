using System.Text;
using Xunit;

namespace FastQ.Client;

// A byte of a slot turns over under a broker that runs (DESIGN-REVIEW R13).
public class RotTests
{
    private static readonly TimeSpan s_soon = TimeSpan.FromSeconds(10);

    /// <summary>Who looks at the record's check before anybody gets the body.</summary>
    public enum Looker
    {
        /// <summary>The broker reads it, for a client without the files.</summary>
        Broker,

        /// <summary>The client maps it, and verifies all that it is given.</summary>
        Client,

        /// <summary>The client maps it, and verifies what the broker says is cold.</summary>
        ClientOfCold,
    }

    [Theory]
    [InlineData(Looker.Broker)]
    [InlineData(Looker.Client)]
    [InlineData(Looker.ClientOfCold)]
    public void A_body_that_has_rotted_is_handed_to_nobody_and_counted_as_damaged_and_the_queue_goes_on(Looker looker)
    {
        using RunningBroker broker = new();
        using (Session publisher = broker.Connect())
        {
            publisher.DeclareQueue("q");
            foreach (string body in (string[])["first", "it will rot", "third"])
            {
                publisher.Publish(publisher.OpenQueue("q"), Encoding.UTF8.GetBytes(body));
            }

            publisher.Flush();
        }

        if (looker == Looker.ClientOfCold)
        {
            broker.Stop(); // With a snapshot, so the next start does not read that block.
            Rot(broker, "it will rot"u8);
            broker.Start();
        }
        else
        {
            Rot(broker, "it will rot"u8);
        }

        using Session session = broker.Connect(options => options with { WantsCopies = looker == Looker.Broker, VerifiesAll = looker == Looker.Client });
        Subscription subscription = session.Subscribe("q");
        foreach (string body in (string[])["first", "third"])
        {
            Assert.True(subscription.Receive(s_soon, out Delivery delivery));
            Assert.Equal(body, Encoding.UTF8.GetString(delivery.Body));
            subscription.Accept(delivery);
        }

        session.Flush();
        Assert.True(SpinWait.SpinUntil(() => session.GetQueue("q").Damaged == 1, s_soon));
        QueueInfo queue = session.GetQueue("q");
        Assert.Equal((1L, 0L, 0L, 2ul), (queue.Messages, queue.Ready, queue.InFlight, queue.Accepted));
    }

    private static void Rot(RunningBroker broker, ReadOnlySpan<byte> body)
    {
        foreach (string slot in System.IO.Directory.GetFiles(Path.Combine(broker.Directory, "data", "namespaces", "default", "slots")))
        {
            using FileStream file = new(slot, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
            byte[] head = new byte[64 * 1024];
            file.ReadExactly(head);
            if (head.AsSpan().IndexOf(body) is int at and > 0)
            {
                file.Position = at;
                file.WriteByte((byte)(body[0] ^ 1));
                return;
            }
        }

        Assert.Fail("The body was not found.");
    }
}
