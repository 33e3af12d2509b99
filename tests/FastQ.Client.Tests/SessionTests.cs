using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

// What a program sees of a queue, through the real client and the real broker.
public class SessionTests
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(10);

    [Fact]
    public void A_message_comes_as_it_was_sent_in_order()
    {
        using RunningBroker broker = new();
        using Session session = broker.Connect();
        session.DeclareQueue("q");
        QueueHandle queue = session.OpenQueue("q");
        byte[] properties = new byte[256];
        PropertyWriter writer = new(properties);
        writer.Header("colour", "blue");
        for (int i = 0; i < 1000; i++)
        {
            session.Publish(queue, Encoding.UTF8.GetBytes($"message {i}"), ConfirmLevel.Durable, writer.Written);
        }

        session.Flush();
        Subscription subscription = session.Subscribe("q");
        for (int i = 0; i < 1000; i++)
        {
            Assert.True(subscription.Receive(Soon, out Delivery delivery));
            Assert.Equal($"message {i}", Encoding.UTF8.GetString(delivery.Body));
            Assert.Equal("blue", delivery.Headers()["colour"]);
            Assert.Equal((ulong)i + 1, delivery.Tag);
            Assert.InRange(delivery.Timestamp, DateTimeOffset.UtcNow.AddMinutes(-1), DateTimeOffset.UtcNow.AddMinutes(1));
            subscription.Accept(delivery);
        }

        session.Flush();
        Assert.Equal(0, session.GetQueue("q").Messages);
        Assert.Equal(1000ul, session.GetQueue("q").Accepted);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(100_000)]
    [InlineData(1_000_000)]
    [InlineData(16 * 1024 * 1024)]
    public void Bodies_of_any_size_come_whole(int size)
    {
        using RunningBroker broker = new();
        using Session session = broker.Connect();
        using Session copies = broker.Connect(options => options with { WantsCopies = true });
        session.DeclareQueue("q");
        byte[] body = new byte[size];
        new Random(size).NextBytes(body);
        for (int i = 0; i < 3; i++)
        {
            session.Publish(session.OpenQueue("q"), body);
        }

        session.Flush();
        foreach (Session consumer in (Session[])[session, copies])
        {
            Subscription subscription = consumer.Subscribe("q", new SubscribeOptions { Credit = 1 });
            Assert.True(subscription.Receive(Soon, out Delivery delivery));
            Assert.True(body.AsSpan().SequenceEqual(delivery.Body));
            subscription.Accept(delivery);
            subscription.Close();
        }

        session.Flush();
        copies.Flush();
        Assert.Equal(1, session.GetQueue("q").Ready);
    }

    [Fact]
    public void A_body_above_the_limit_is_refused_and_the_session_goes_on()
    {
        using RunningBroker broker = new(options => options with { MaxMessageBytes = 1000 });
        using Session session = broker.Connect();
        session.DeclareQueue("q");
        QueueHandle queue = session.OpenQueue("q");
        FastQException refusal = Assert.Throws<FastQException>(() => session.Publish(queue, new byte[1001]));
        Assert.Equal("too-large", refusal.Name);
        Assert.Contains("1000", refusal.Message, StringComparison.Ordinal);
        session.Publish(queue, new byte[1000]);
        session.Flush();
        Assert.Equal(1, session.GetQueue("q").Ready);
    }

    [Fact]
    public void A_message_larger_than_the_ring_waits_until_the_broker_has_memory_for_larger_ones()
    {
        using RunningBroker broker = new(options => options with { MaxRingBytes = 3 * 1024 * 1024 });
        using Session session = broker.Connect();
        Session spender = broker.Connect(options => options with { SubmissionRingBytes = 2 * 1024 * 1024 });
        session.DeclareQueue("q");
        QueueHandle queue = session.OpenQueue("q");
        Thread publisher = new(() => session.Publish(queue, new byte[300_000])) { IsBackground = true, Name = "publisher" };
        publisher.Start();
        SpinWait.SpinUntil(IsPolling, Soon); // It has asked, in vain.
        spender.Dispose();
        Assert.True(publisher.Join(Soon), "The publish does not return");
        session.Flush();
        Assert.Equal(1, session.GetQueue("q").Ready);

        static bool IsPolling() => Directory.GetDirectories("/proc/self/task").Any(task => Read(task, "comm") == "publisher\n" && Read(task, "syscall").StartsWith("7 ", StringComparison.Ordinal));

        static string Read(string task, string file)
        {
            try
            {
                return File.ReadAllText(Path.Combine(task, file));
            }
            catch (IOException)
            {
                return ""; // Another thread that has ended meanwhile: tests run beside each other.
            }
        }
    }

    [Fact]
    public void A_session_without_patience_finds_the_files_that_came_with_its_first_delivery()
    {
        using RunningBroker broker = new();
        using Session publisher = broker.Connect();
        publisher.DeclareQueue("q");
        for (int round = 0; round < 20; round++)
        {
            using Session session = broker.Connect(options => options with { Patience = TimeSpan.Zero });
            Subscription subscription = session.Subscribe("q");
            publisher.Publish(publisher.OpenQueue("q"), "message"u8);
            Delivery delivery = default;
            Assert.True(SpinWait.SpinUntil(() => subscription.TryReceive(out delivery), Soon));
            Assert.Equal("message", Encoding.UTF8.GetString(delivery.Body));
            subscription.Accept(delivery);
        }
    }

    [Fact]
    public void A_refused_message_is_told_by_number_and_those_around_it_are_taken()
    {
        using RunningBroker broker = new();
        using Session session = broker.Connect();
        session.DeclareQueue("q");
        session.DeclareQueue("gone");
        QueueHandle queue = session.OpenQueue("q");
        QueueHandle gone = session.OpenQueue("gone");
        session.DeleteQueue("gone");
        session.Publish(queue, "1"u8);
        ulong number = session.Publish(gone, "2"u8);
        session.Publish(queue, "3"u8);
        FastQException refusal = Assert.Throws<FastQException>(() => session.Flush());
        Assert.Equal(number, refusal.Number);
        Assert.Equal("queue-deleted", refusal.Name);
        session.Flush();
        Assert.Equal(2, session.GetQueue("q").Ready);
    }

    [Fact]
    public void A_settled_delivery_shows_no_bytes_any_more()
    {
        using RunningBroker broker = new();
        using Session session = broker.Connect();
        session.DeclareQueue("q");
        session.Publish(session.OpenQueue("q"), "x"u8);
        Subscription subscription = session.Subscribe("q");
        Assert.True(subscription.Receive(Soon, out Delivery delivery));
        subscription.Accept(delivery);
        Assert.Throws<FastQException>(() => delivery.Body.Length);
        Assert.Throws<FastQException>(() => subscription.Accept(delivery));
    }

    [Fact]
    public void A_released_message_comes_again_at_its_place_with_its_count()
    {
        using RunningBroker broker = new();
        using Session session = broker.Connect();
        session.DeclareQueue("q");
        for (byte i = 0; i < 10; i++)
        {
            session.Publish(session.OpenQueue("q"), [i]);
        }

        Subscription subscription = session.Subscribe("q", new SubscribeOptions { Credit = 5 });
        ulong token = 0;
        for (int i = 0; i < 5; i++)
        {
            Assert.True(subscription.Receive(Soon, out Delivery delivery));
            token = i == 0 ? delivery.TokenNumber : token;
            subscription.Release(delivery);
        }

        for (byte i = 0; i < 10; i++)
        {
            Assert.True(subscription.Receive(Soon, out Delivery delivery));
            Assert.Equal(i, delivery.Body[0]);
            Assert.Equal(i < 5 ? 2 : 1, delivery.DeliveryCount);
            Assert.True(delivery.TokenNumber > token);
            token = delivery.TokenNumber;
            subscription.Accept(delivery);
        }
    }

    [Fact]
    public void A_lease_that_ends_gives_the_message_to_another_and_the_late_settle_is_told_so()
    {
        using RunningBroker broker = new();
        using Session slow = broker.Connect();
        using Session quick = broker.Connect();
        slow.DeclareQueue("q");
        slow.Publish(slow.OpenQueue("q"), "x"u8);
        slow.Flush();
        Subscription first = slow.Subscribe("q", new SubscribeOptions { Lease = TimeSpan.FromMilliseconds(50) });
        Assert.True(first.Receive(Soon, out Delivery mine));
        Subscription second = quick.Subscribe("q");
        Assert.True(second.Receive(Soon, out Delivery again));
        Assert.True(again.IsRedelivered);
        Assert.Equal("x"u8, mine.Body); // Still readable: the reference is pinned until it is settled.
        first.Accept(mine);
        FastQException late = Assert.Throws<FastQException>(() => slow.Flush());
        Assert.Equal("lease-lost", late.Name);
        second.Accept(again);
        quick.Flush();
        Assert.Equal(0, quick.GetQueue("q").Messages);
    }

    [Fact]
    public void A_consumer_that_stays_lets_go_of_the_slots_that_are_gone()
    {
        // A mapping keeps a file's room on the disk when its name is gone.
        using RunningBroker broker = new(options => options with { SlotBytes = 1024 * 1024 });
        using Session session = broker.Connect();
        session.DeclareQueue("q");
        session.DeclareQueue("held");
        byte[] body = [.. Enumerable.Range(0, 50_000).Select(i => (byte)(i * 3))];
        session.Publish(session.OpenQueue("held"), body);
        Subscription keeper = session.Subscribe("held");
        Assert.True(keeper.Receive(Soon, out Delivery held));
        Subscription subscription = session.Subscribe("q");
        const int Backlog = 400; // Twenty slots.
        for (int i = 0; i < Backlog; i++)
        {
            session.Publish(session.OpenQueue("q"), body);
        }

        session.Flush();
        for (int i = 0; i < Backlog; i++)
        {
            Assert.True(subscription.Receive(Soon, out Delivery delivery));
            subscription.Accept(delivery);
        }

        session.Flush(ConfirmLevel.Durable);
        AwaitGoneUnmapped();
        Assert.True(held.Body.SequenceEqual(body));
        keeper.Accept(held);
        session.Flush();

        void AwaitGoneUnmapped()
        {
            Stopwatch waited = Stopwatch.StartNew();
            while (Mappings().Any(line => line.EndsWith("(deleted)", StringComparison.Ordinal)) || SlotFiles() > 8)
            {
                Assert.True(waited.Elapsed < TimeSpan.FromSeconds(60), $"{SlotFiles()} slots, {session.GetStatistics()}, mapped: {string.Join('\n', Mappings())}");
                Assert.False(subscription.Receive(TimeSpan.FromMilliseconds(10), out _));
            }
        }

        IEnumerable<string> Mappings() => File.ReadLines("/proc/self/maps").Where(line => line.Contains(broker.Directory, StringComparison.Ordinal));

        int SlotFiles() => System.IO.Directory.GetFiles(Path.Combine(broker.Directory, "data/namespaces/default/slots")).Length;
    }

    [Fact]
    public void What_is_read_beyond_its_lease_is_not_written_over_however_much_comes_after_it()
    {
        const int SlotBytes = 1024 * 1024;
        using RunningBroker broker = new(options => options with { SlotBytes = SlotBytes });
        using Session slow = broker.Connect();
        using Session quick = broker.Connect();
        slow.DeclareQueue("q");
        QueueHandle queue = quick.OpenQueue("q");
        byte[] body = [.. Enumerable.Range(0, 100_000).Select(i => (byte)(i * 7))];
        quick.Publish(queue, body);
        quick.Flush();
        Subscription first = slow.Subscribe("q", new SubscribeOptions { Lease = TimeSpan.FromMilliseconds(50) });
        Assert.True(first.Receive(Soon, out Delivery mine));
        Subscription second = quick.Subscribe("q");
        byte[] other = new byte[body.Length];
        int filled = 0, made = 0;
        for (int i = 0; filled < made + 3; i++)
        {
            Assert.True(i < 5000, $"{filled} slots were filled, {made} were made: none is used again");
            Assert.True(second.Receive(Soon, out Delivery each));
            second.Accept(each);
            quick.Publish(queue, other);
            if (i % 25 == 0)
            {
                JsonElement journal = JsonDocument.Parse(quick.GetStatistics()).RootElement.GetProperty("journal");
                filled = (int)(journal.GetProperty("bytesWritten").GetInt64() / SlotBytes);
                made = System.IO.Directory.GetFiles(Path.Combine(broker.Directory, "data/namespaces/default/slots")).Max(path => int.Parse(Path.GetFileNameWithoutExtension(path), CultureInfo.InvariantCulture));
            }
        }

        Assert.True(mine.Body.SequenceEqual(body));
    }

    [Fact]
    public void A_lease_that_is_extended_does_not_end()
    {
        using RunningBroker broker = new();
        using Session session = broker.Connect();
        session.DeclareQueue("q");
        session.Publish(session.OpenQueue("q"), "x"u8);
        session.Publish(session.OpenQueue("q"), "y"u8);
        Subscription subscription = session.Subscribe("q", new SubscribeOptions { Credit = 2, Lease = TimeSpan.FromSeconds(1) });
        Assert.True(subscription.Receive(Soon, out Delivery kept));
        Assert.True(subscription.Receive(Soon, out Delivery lost));
        subscription.Extend(kept, TimeSpan.FromHours(1));
        session.Flush();

        // When the other's lease has ended, the kept one's old one has, too.
        Assert.True(subscription.Receive(Soon, out Delivery again));
        Assert.Equal(lost.Tag, again.Tag);
        subscription.Accept(kept);
        subscription.Accept(again);
        session.Flush();
        Assert.Equal(0, session.GetQueue("q").Messages);
    }

    [Fact]
    public void Credit_bounds_what_a_consumer_holds()
    {
        using RunningBroker broker = new();
        using Session session = broker.Connect();
        session.DeclareQueue("q");
        for (int i = 0; i < 100; i++)
        {
            session.Publish(session.OpenQueue("q"), "x"u8);
        }

        Subscription subscription = session.Subscribe("q", new SubscribeOptions { Credit = 7 });
        Assert.True(subscription.Receive(Soon, out Delivery first));
        Assert.Equal(7, session.GetQueue("q").InFlight);
        subscription.Accept(first);
        session.Flush();
        Assert.Equal((92, 7), (session.GetQueue("q").Ready, session.GetQueue("q").InFlight));
    }

    [Fact]
    public void A_message_larger_than_the_credit_in_bytes_comes_when_nothing_else_fills_it()
    {
        using RunningBroker broker = new(); // CASES B95
        using Session session = broker.Connect();
        session.DeclareQueue("q");
        QueueHandle queue = session.OpenQueue("q");
        int[] sizes = [900_000, 900_000, 900_000, 5_000_000, 5_000_000, 100];
        foreach (int size in sizes)
        {
            session.Publish(queue, new byte[size]);
        }

        session.Flush();
        Subscription subscription = session.Subscribe("q", new SubscribeOptions { Credit = 100, CreditBytes = 1_000_000, SettleBatch = 1 });
        foreach (int size in sizes)
        {
            Assert.True(subscription.Receive(Soon, out Delivery delivery), $"The one of {size} bytes does not come");
            Assert.Equal(size, delivery.Body.Length);
            Assert.InRange(session.GetQueue("q").InFlight, 1, 2); // One more than fits may be open.
            subscription.Accept(delivery);
        }

        session.Flush();
        Assert.Equal(0, session.GetQueue("q").Messages);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void One_thread_gets_on_through_tiny_rings_while_refusals_and_deliveries_come(bool wantsCopies)
    {
        const int Count = 20_000; // DESIGN-REVIEW R21
        using RunningBroker broker = new();
        using Session session = broker.Connect(options => options with { SubmissionRingBytes = Limits.MinRingBytes, DeliveryRingBytes = Limits.MinRingBytes, MaxLoadRingBytes = Limits.MinRingBytes, WantsCopies = wantsCopies });
        session.DeclareQueue("q");
        session.DeclareQueue("gone");
        (QueueHandle queue, QueueHandle gone) = (session.OpenQueue("q"), session.OpenQueue("gone"));
        session.DeleteQueue("gone");
        Subscription subscription = session.Subscribe("q", new SubscribeOptions { Credit = Count });
        int refused = 0, received = 0;
        session.Refused = _ => refused++;
        Thread one = new(() =>
        {
            for (int i = 0; i < Count; i++)
            {
                session.Publish(gone, new byte[100]);
                session.Publish(queue, new byte[100]);
            }

            Assert.Throws<FastQException>(() => session.Flush());
            while (received < Count && subscription.Receive(Soon, out Delivery delivery))
            {
                subscription.Accept(delivery);
                received++;
            }

            session.Flush();
        })
        { IsBackground = true };
        one.Start();
        if (!one.Join(TimeSpan.FromSeconds(60)))
        {
            Environment.FailFast("One thread waits for room that only it could make."); // The session cannot be taken away from under it.
        }

        Assert.Equal((Count, Count), (refused, received));
        Assert.Equal(0, session.GetQueue("q").Messages);
    }

    [Fact]
    public void Properties_of_any_kind_come_back_byte_for_byte_up_to_their_limit()
    {
        using RunningBroker broker = new(); // CASES B129, B130
        using Session session = broker.Connect();
        session.DeclareQueue("q");
        QueueHandle queue = session.OpenQueue("q");
        byte[] properties = OddProperties(Limits.MaxPropertyBytes);
        session.Publish(queue, default, ConfirmLevel.Durable, properties);
        FastQException refusal = Assert.Throws<FastQException>(() => session.Publish(queue, default, ConfirmLevel.Durable, OddProperties(Limits.MaxPropertyBytes + 1)));
        Assert.Equal(RefusalCode.TooLarge, refusal.Code);
        Assert.Contains($"{Limits.MaxPropertyBytes}", refusal.Message, StringComparison.Ordinal);
        session.Flush();
        Subscription subscription = session.Subscribe("q");
        Assert.True(subscription.Receive(Soon, out Delivery delivery));
        Assert.Equal(properties, delivery.Properties);
        subscription.Release(delivery);
        session.Flush();
        broker.Stop();
        broker.Start();
        Assert.True(subscription.Receive(Soon, out Delivery again));
        Assert.Equal(properties, again.Properties);
        Assert.Equal(0, again.Body.Length);
    }

    /// <summary>Values at the ends of their types and beyond any meaning, and one that makes up the length.</summary>
    private static byte[] OddProperties(int bytes)
    {
        byte[] room = new byte[bytes];
        PropertyWriter writer = new(room);
        writer.Header("not UTF-8", PropertyType.Text, [0xFF, 0xC0, 0x00, 0x80]);
        writer.Header("\0\n\"", PropertyType.Double, BitConverter.GetBytes(double.NaN));
        writer.Header(new string('k', 255), PropertyType.Int64, BitConverter.GetBytes(long.MinValue));
        writer.Header("year 300,000", PropertyType.Timestamp, BitConverter.GetBytes(long.MaxValue));
        writer.Header("short", PropertyType.Timestamp, [1]);
        writer.Header("of no type", (PropertyType)200, []);
        for (int i = 0; i < 1000; i++)
        {
            writer.Header("k", PropertyType.Boolean, [2]);
        }

        const int HeadBytes = 4 + 1 + 4;
        writer.Header("fill", PropertyType.Bytes, new byte[bytes - writer.Length - HeadBytes]);
        Assert.False(writer.Overflowed);
        return writer.Written.ToArray();
    }

    [Fact]
    public void Competing_consumers_share_a_queue_and_each_message_has_one_owner()
    {
        using RunningBroker broker = new();
        using Session publisher = broker.Connect();
        publisher.DeclareQueue("q");
        const int Count = 10_000;
        int[] owners = new int[Count + 1];
        int total = 0;
        Thread[] consumers = [.. Enumerable.Range(1, 3).Select(id => new Thread(() =>
        {
            using Session session = broker.Connect();
            Subscription subscription = session.Subscribe("q");
            while (Volatile.Read(ref total) < Count)
            {
                if (subscription.Receive(TimeSpan.FromMilliseconds(10), out Delivery delivery))
                {
                    Interlocked.Increment(ref owners[delivery.Tag]);
                    Interlocked.Increment(ref total);
                    subscription.Accept(delivery);
                }
            }
        }))];
        Array.ForEach(consumers, thread => thread.Start());
        for (int i = 0; i < Count; i++)
        {
            publisher.Publish(publisher.OpenQueue("q"), "x"u8, ConfirmLevel.Written);
        }

        publisher.Flush(ConfirmLevel.Written);
        Array.ForEach(consumers, thread => thread.Join());
        Assert.All(owners.Skip(1), times => Assert.Equal(1, times));
    }

    [Fact]
    public void A_session_rides_out_restarts_with_what_it_holds()
    {
        using RunningBroker broker = new();
        using Session session = broker.Connect();
        session.DeclareQueue("q");
        QueueHandle queue = session.OpenQueue("q");
        session.Publish(queue, "held"u8);
        Subscription subscription = session.Subscribe("q");
        Assert.True(subscription.Receive(Soon, out Delivery held));
        for (int round = 0; round < 3; round++)
        {
            broker.Stop();
            broker.Start();
            session.Publish(queue, "more"u8);
            session.Flush();
        }

        Assert.Equal(3, session.Reconnects);
        Assert.Equal("held"u8, held.Body);
        subscription.Accept(held);
        for (int i = 0; i < 3; i++)
        {
            Assert.True(subscription.Receive(Soon, out Delivery delivery));
            Assert.False(delivery.IsRedelivered);
            subscription.Accept(delivery);
        }

        session.Flush();
        QueueInfo info = session.GetQueue("q");
        Assert.Equal((0, 4ul, 4ul), (info.Messages, info.Published, info.Accepted));
    }

    [Fact]
    public void What_was_in_hand_when_the_broker_took_the_client_for_dead_is_not_the_delivery_that_has_its_number_now()
    {
        using RunningBroker broker = new();
        NotesItsSocket surroundings = new();
        using Session session = broker.Connect(options => options with { Surroundings = surroundings });
        session.DeclareQueue("q");
        session.Publish(session.OpenQueue("q"), "one"u8);
        session.Publish(session.OpenQueue("q"), "two"u8);
        Subscription subscription = session.Subscribe("q", new SubscribeOptions { Credit = 1 });
        Assert.True(subscription.Receive(Soon, out Delivery held));
        using (System.Net.Sockets.Socket cut = new(new System.Net.Sockets.SafeSocketHandle(surroundings.Socket, ownsHandle: false)))
        {
            cut.Shutdown(System.Net.Sockets.SocketShutdown.Both);
        }

        Delivery again;
        while (!subscription.Receive(Soon, out again))
        {
        }

        Assert.Equal(1, session.Reconnects);
        Assert.True(again.IsRedelivered);
        Assert.Equal(held.Number, again.Number);
        Assert.False(subscription.Holds(held));
        Assert.Throws<FastQException>(() => subscription.Accept(held));
        Assert.True(subscription.Holds(again));
        Assert.Equal("one"u8, again.Body);
        subscription.Accept(again);
        Assert.True(subscription.Receive(Soon, out Delivery next));
        Assert.Equal("two"u8, next.Body);
    }

    /// <summary>The first that a session waits for is its socket: the broker's answer to its greeting.</summary>
    private sealed class NotesItsSocket : ISurroundings
    {
        public int Socket { get; private set; } = -1;

        public long MonotonicNanoseconds() => RealSurroundings.Instance.MonotonicNanoseconds();

        public void Yield() => RealSurroundings.Instance.Yield();

        public (bool First, bool Second, bool Third) Wait(int first, int second, int third, int milliseconds)
        {
            Socket = Socket < 0 ? first : Socket;
            return RealSurroundings.Instance.Wait(first, second, third, milliseconds);
        }

        public bool Rest(int milliseconds, CancellationToken giveUp) => RealSurroundings.Instance.Rest(milliseconds, giveUp);

        public void Fill(Span<byte> bytes) => RealSurroundings.Instance.Fill(bytes);

        public bool Sees(bool isSound) => isSound;
    }

    [Fact]
    public void Browsing_shows_every_message_where_it_stands_and_changes_nothing()
    {
        using RunningBroker broker = new();
        using Session session = broker.Connect();
        using Session consumer = broker.Connect(options => options with { ClientName = "worker " + new string('w', 900) });
        session.DeclareQueue("q", new QueueOptions { Lease = TimeSpan.FromSeconds(60) });
        QueueHandle queue = session.OpenQueue("q");
        const int Messages = 100; // Several pages.
        byte[] large = new byte[100_000];
        for (int i = 1; i <= Messages; i++)
        {
            session.Publish(queue, i == 50 ? large : Encoding.UTF8.GetBytes($"{i}"), properties: new PublishOptions { MessageId = $"id-{i}", Headers = new() { ["k"] = "v" } }.ToBytes());
        }

        session.Flush();
        Subscription subscription = consumer.Subscribe("q", new SubscribeOptions { Credit = 3 });
        Assert.True(subscription.Receive(Soon, out Delivery held));
        QueueInfo before = session.GetQueue("q");
        List<BrowsedMessage> seen = [.. session.Browse("q")];
        Assert.Equal(before, session.GetQueue("q"));
        Assert.Equal(Enumerable.Range(1, Messages).Select(i => ((ulong)i, $"id-{i}")), seen.Select(message => (message.Tag, message.MessageId!)));
        Assert.All(seen, message => Assert.Equal(message.Tag <= 3 ? MessageState.InFlight : MessageState.Ready, message.State));
        Assert.All(seen.Take(3), message => Assert.Matches("^worker w{20,193} \\(process \\d+\\)$", message.Owner));
        Assert.All(seen.Take(3), message => Assert.InRange(message.LeaseLeft!.Value.TotalSeconds, 1, 60));
        Assert.All(seen.Skip(3), message => Assert.Null(message.Owner));
        Assert.Equal([1, 1, 1, 0], seen.Take(4).Select(message => message.Deliveries));
        Assert.True(seen[49].IsCut);
        Assert.Equal((large.Length, 8192), (seen[49].BodyBytes, seen[49].Body.Length));
        Assert.All(seen.Where(message => message.Tag != 50), message => Assert.Equal($"{message.Tag}", Encoding.UTF8.GetString(message.Body.Span)));
        Assert.Equal([99ul, 100], session.Browse("q", firstTag: 99).Select(message => message.Tag));
        subscription.Accept(held);
        consumer.Flush();
        Assert.Equal(Messages - 1, session.Browse("q").Count());
        Assert.Equal("unknown-queue", Assert.Throws<FastQException>(() => session.Browse("nowhere").First()).Name);
    }

    [Fact]
    public void Words_of_a_reject_are_sent_between_gathered_settles_and_again_to_a_broker_that_was_away()
    {
        using RunningBroker broker = new();
        using Session session = broker.Connect();
        session.DeclareQueue("q");
        session.DeclareQueue("q.dead");
        QueueHandle queue = session.OpenQueue("q");
        const int Messages = 5;
        for (int i = 1; i <= Messages; i++)
        {
            session.Publish(queue, Encoding.UTF8.GetBytes($"{i}"));
        }

        session.Flush();
        Subscription subscription = session.Subscribe("q"), dead = session.Subscribe("q.dead");
        Delivery[] held = new Delivery[Messages];
        for (int i = 0; i < Messages; i++)
        {
            Assert.True(subscription.Receive(Soon, out held[i]));
        }

        FastQException tooLong = Assert.Throws<FastQException>(() => subscription.Reject(held[1], new string('x', Subscription.MaxReasonBytes + 1)));
        Assert.Equal(RefusalCode.BadArgument, tooLong.Code);
        broker.Stop();
        subscription.Accept(held[0]);
        subscription.Reject(held[1], "two", new string('d', 10_000));
        subscription.Reject(held[2]);
        subscription.Reject(held[3], "four");
        subscription.Accept(held[4]);
        broker.Start();
        session.Flush();

        Assert.Equal((0, 1), (subscription.InHand, session.Reconnects));
        string?[] texts = ["two", null, "four"];
        for (int i = 0; i < texts.Length; i++)
        {
            Assert.True(dead.Receive(Soon, out Delivery letter));
            Death death = Assert.Single(letter.Deaths());
            Assert.Equal(($"{i + 2}", texts[i], i == 0), (Encoding.UTF8.GetString(letter.Body), death.Text, death.Details is not null));
            Assert.Matches("^d*$", death.Details ?? "");
            dead.Accept(letter);
        }

        Assert.Throws<FastQException>(() => subscription.Reject(held[1], "again"));
        QueueInfo info = session.GetQueue("q");
        Assert.Equal((0L, 2ul, 3ul), (info.Messages, info.Accepted, info.Rejected));
    }

    [Fact]
    public void A_deleted_queue_ends_its_subscriptions_with_the_reason()
    {
        using RunningBroker broker = new();
        using Session session = broker.Connect();
        using Session other = broker.Connect();
        session.DeclareQueue("q");
        Subscription subscription = session.Subscribe("q");
        other.DeleteQueue("q");
        FastQException ended = Assert.Throws<FastQException>(() =>
        {
            while (!subscription.Receive(Soon, out _))
            {
            }
        });
        Assert.Equal("queue-deleted", ended.Name);
    }
}
