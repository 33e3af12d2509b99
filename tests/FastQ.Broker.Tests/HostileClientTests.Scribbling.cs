using System.Runtime.InteropServices;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

// Bytes that change under the broker's eyes, and bytes that mean nothing. Seeds are in the output of a test that fails.
public sealed partial class HostileClientTests
{
    [Fact]
    public void Nothing_that_was_scribbled_over_is_ever_delivered()
    {
        const int Sessions = 30, Messages = 200;
        Random random = Seeded();
        int delivered = 0;
        using (RawClient honest = _broker.Connect())
        {
            uint queue = honest.Declare($"scribbled-{Guid.NewGuid()}");
            uint subscription = honest.Subscribe(queue);
            HashSet<RefusalCode> endings = [];
            for (int i = 0; i < Sessions; i++)
            {
                using RawClient hostile = _broker.Connect(new Hello { SubmissionRingBytes = Limits.MinRingBytes });
                using CancellationTokenSource enough = new();
                int seed = random.Next();
                Thread scribbler = new(() => Scribble(hostile.Rings, new Random(seed), enough.Token));
                scribbler.Start();
                try
                {
                    SendUnderScribbles(hostile, queue, Messages, random);
                }
                finally
                {
                    enough.Cancel();
                    scribbler.Join();
                }

                endings.Add(HowItStands(hostile));
            }

            // The queue is emptied; what is delivered has its check.
            while (honest.Show(queue) is var view && view.Number(FieldTag.Messages) > 0)
            {
                foreach (RawDelivery delivery in honest.NextDeliveries())
                {
                    Assert.Equal(delivery.Header.Check, RecordCheck.Of(delivery.Record.AsSpan(MessageHeader.SizeBytes)));
                    Assert.Equal((uint)delivery.Record.Length, delivery.Header.LengthBytes);
                    Assert.Equal(subscription, delivery.Subscription);
                    honest.Accept(delivery);
                    delivered++;
                }
            }

            Assert.Contains(RefusalCode.RingViolation, endings); // Else nothing was scribbled in time, and nothing shown.
        }

        TestContext.Current.TestOutputHelper?.WriteLine($"{delivered} delivered");
        MustHaveHarmedNobody();
    }

    /// <summary>Sends until all is sent or the broker has had enough.</summary>
    private static void SendUnderScribbles(RawClient hostile, uint queue, int messages, Random random)
    {
        byte[] body = new byte[600];
        for (int i = 0; i < messages; i++)
        {
            random.NextBytes(body);
            int length = random.Next(body.Length);
            bool hasRoom = SpinWait.SpinUntil(() => hostile.Rings.Head + 1024 - hostile.Rings.SubmissionPosition < (ulong)hostile.Rings.SubmissionBytes, TimeSpan.FromMilliseconds(200));
            if (!hasRoom)
            {
                return;
            }

            hostile.PutMessage(queue, body.AsSpan(0, length));
            if (i % 7 == 0)
            {
                hostile.Commit();
            }
        }

        hostile.Commit();
    }

    /// <summary>Flips bits in bodies and headers alike, now densely at the head, now anywhere.</summary>
    private static void Scribble(RawRings rings, Random random, CancellationToken enough)
    {
        Span<byte> ring = rings.Submissions;
        while (!enough.IsCancellationRequested)
        {
            int at = random.Next(4) == 0 ? random.Next(ring.Length) : (int)((rings.SubmissionPosition + (ulong)random.Next(8192)) % (ulong)ring.Length);
            ring[at] ^= (byte)(1 << random.Next(8));
            for (int i = random.Next(2000); i > 0; i--)
            {
                Thread.SpinWait(1); // So that some messages get through whole.
            }
        }
    }

    /// <summary>None: the session lives.</summary>
    private static RefusalCode HowItStands(RawClient client)
    {
        while (client.TryHear(out (HandshakeKind Kind, byte[] Fields, int[] Descriptors) heard))
        {
            if (heard.Kind == HandshakeKind.None)
            {
                return RefusalCode.None;
            }

            if (heard.Kind == HandshakeKind.Ended)
            {
                return FieldReader.TryNumber(heard.Fields, FieldTag.Code, out ulong code) ? (RefusalCode)code : RefusalCode.None;
            }
        }

        return RefusalCode.None;
    }

    [Fact]
    public void Garbage_in_the_ring_with_any_head_ends_its_session_at_most()
    {
        Random random = Seeded();
        for (int i = 0; i < 300; i++)
        {
            using RawClient hostile = _broker.Connect(new Hello { SubmissionRingBytes = Limits.MinRingBytes, DeliveryRingBytes = Limits.MinRingBytes });
            random.NextBytes(hostile.Rings.Submissions);
            ulong head = random.Next(4) switch
            {
                0 => (ulong)random.NextInt64(),
                1 => (ulong)random.Next(Limits.MinRingBytes * 2),
                _ => (ulong)random.Next(Limits.MinRingBytes / 8) * 8,
            };
            hostile.Rings.ShowPosition(random.Next(4) == 0 ? (ulong)random.NextInt64() : 0);
            hostile.Rings.ShowSleepNumber((ulong)random.NextInt64());
            hostile.Rings.ShowHead(head);
            hostile.Ring();
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void Records_of_random_content_change_nothing_that_a_restart_does_not_find_again()
    {
        Random random = Seeded();
        using RunningBroker broker = new();
        uint queue;
        RawAnswer before;
        using (RawClient honest = broker.Connect())
        {
            queue = honest.Declare("random records");
            for (int i = 0; i < 300; i++)
            {
                using RawClient hostile = broker.Connect(new Hello { WantsCopies = random.Next(2) == 0 });
                uint own = random.Next(2) == 0 ? hostile.Subscribe(queue, credit: 50) : 0;
                for (int records = random.Next(200); records > 0; records--)
                {
                    PutRandom(hostile, random, queue, own);
                }

                hostile.Commit();
                if (random.Next(2) == 0)
                {
                    _ = HowItStands(hostile);
                }
            }

            broker.WaitUntil(() => honest.Statistic("sessions") == 1, "all random clients are gone");
            before = honest.Show(queue);
        }

        broker.Restart();
        using (RawClient honest = broker.Connect())
        {
            RawAnswer after = honest.Show(queue);
            foreach (FieldTag tag in (FieldTag[])[FieldTag.Ready, FieldTag.InFlight, FieldTag.Damaged, FieldTag.Bytes, FieldTag.Consumers, FieldTag.Published, FieldTag.Accepted, FieldTag.Rejected, FieldTag.Redelivered, FieldTag.Purged])
            {
                Assert.Equal((tag, before.Number(tag)), (tag, after.Number(tag)));
            }

            Assert.True(after.Number(FieldTag.Published) > 0, "No random message was ever taken.");
            honest.MustDeliver("after the restart");
        }
    }

    /// <summary>A record that is well formed most of the time, of any kind, that speaks of what is there about as often as not.</summary>
    private static void PutRandom(RawClient client, Random random, uint queue, uint own)
    {
        byte[] payload = new byte[random.Next(100)];
        random.NextBytes(payload);
        uint subject = random.Next(4) switch { 0 => 0, 1 => NoQueue, _ => own };
        ulong number = random.Next(50) switch { 0 => client.NextNumber - 1, 1 => (ulong)random.NextInt64(), _ => client.NextNumber++ };
        uint count = random.Next(3) == 0 ? (uint)random.NextInt64() : (uint)random.Next(4);
        ulong value = random.Next(3) == 0 ? (ulong)random.NextInt64() : (ulong)random.Next(60);
        switch (random.Next(8))
        {
            case 0 or 1 or 2:
                client.Put(client.MessageOf(random.Next(5) == 0 ? NoQueue : queue, payload) with { NumberOrTimeMicros = number, PropertyBytes = (ushort)random.Next(3), Flags = (byte)random.Next(256) }, payload);
                break;
            case 3 or 4:
                client.Put(new SettleRecord { Kind = random.Next(2) == 0 ? RecordKind.Settle : RecordKind.Extend, Flags = (byte)random.Next(256), Number = number, Subscription = subject, Count = count, FirstDelivery = value, Milliseconds = random.Next(100_000) - 1000 });
                break;
            case 5:
                PutRandomCommand(client, random, number, queue, own);
                break;
            default:
                client.NextNumber = number == client.NextNumber - 1 ? number : client.NextNumber; // It has no number: none is used up.
                RecordKind kind = (RecordKind)random.Next((int)RecordKind.Credit, (int)(random.Next(20) == 0 ? RecordKind.Bye + 2 : RecordKind.ClientMovesRing));
                client.Put(new ControlRecord { Kind = random.Next(5) == 0 ? RecordKind.Damaged : kind, Subject = kind == RecordKind.GrowRings ? 0 : subject, Count = kind == RecordKind.GrowRings ? Limits.DefaultRingBytes * 2u : count, Value = value });
                break;
        }
    }

    private static void PutRandomCommand(RawClient client, Random random, ulong number, uint queue, uint own)
    {
        byte[] room = new byte[512];
        FieldWriter fields = new(room);
        for (int i = random.Next(5); i > 0; i--)
        {
            FieldTag tag = (FieldTag)random.Next((int)FieldTag.Purge + 1);
            ulong value = tag switch
            {
                FieldTag.Queue => random.Next(2) == 0 ? NoQueue : queue,
                FieldTag.Subscription => random.Next(2) == 0 ? NoQueue : own,
                _ => (ulong)random.NextInt64(),
            };
            fields.Number(tag, value);
        }

        CommandKind kind = (CommandKind)random.Next((int)CommandKind.Sync + 2);
        kind = kind == CommandKind.DeleteQueue ? CommandKind.Sync : kind; // It would be obeyed.
        client.Put(new CommandRecord { Kind = RecordKind.Command, Command = kind, Number = number, Cookie = (ulong)random.NextInt64() }, fields.Written);
    }

    private static Random Seeded()
    {
        int seed = Random.Shared.Next();
        TestContext.Current.TestOutputHelper?.WriteLine($"seed {seed}");
        return new Random(seed);
    }
}
