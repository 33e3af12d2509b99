using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using FastQ.Client;
using FastQ.Protocol;
using Xunit;

namespace FastQ.EndToEnd;

// Faults that other brokers had, as trials; tests/CASES.md says where each of them is.
public class CaseTests
{
    [Fact]
    public void Fifty_thousand_holes_between_settled_messages_survive_a_stop_and_a_kill()
    {
        using TestBroker broker = new(); // CASES B08, B09
        const int Count = 100_000;
        broker.Run("queue", "create", "work");
        using (Session session = Session.Connect(new SessionOptions { Path = broker.Socket }, TestContext.Current.CancellationToken))
        {
            QueueHandle work = session.OpenQueue("work");
            for (int i = 0; i < Count; i++)
            {
                session.Publish(work, System.Text.Encoding.UTF8.GetBytes(i.ToString(CultureInfo.InvariantCulture)));
            }

            session.Flush();
            Subscription subscription = session.Subscribe("work", new SubscribeOptions { Credit = Count, Lease = TimeSpan.FromHours(1) });
            for (int i = 0; i < Count; i++)
            {
                Assert.True(subscription.Receive(TimeSpan.FromSeconds(20), out FastQ.Client.Delivery delivery));
                if (i % 2 == 1)
                {
                    subscription.Accept(delivery, ConfirmLevel.Durable);
                }
            }

            session.Flush();
        }

        Assert.Equal(0, broker.Stop());
        broker.Start();
        broker.Kill();
        broker.Start();
        string[] left = broker.Run("consume", "work", "--wait", "500ms").Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(Enumerable.Range(0, Count / 2).Select(i => (2 * i).ToString(CultureInfo.InvariantCulture)), left);
    }

    [Fact]
    public void A_deleted_queue_stays_deleted_after_a_kill_and_one_made_again_is_empty_and_has_its_own_settings()
    {
        using TestBroker broker = new(); // CASES B11
        broker.Run("queue", "create", "work", "--lease", "10s");
        broker.Run("publish", "work", "--body", "old", "--count", "100");
        Assert.Equal(0, broker.Run("queue", "delete", "work").ExitCode);
        broker.Kill();
        broker.Start();
        Ran shown = broker.Run("queue", "show", "work");
        Assert.Equal(1, shown.ExitCode);
        Assert.Contains("unknown-queue", shown.Error, StringComparison.Ordinal);
        broker.Run("queue", "create", "work", "--lease", "20s");
        JsonElement queue = broker.Queue("work");
        Assert.Equal((0, 20), (queue.GetProperty("messages").GetInt64(), queue.GetProperty("leaseSeconds").GetDouble()));
        Assert.Equal("", broker.Run("consume", "work", "--wait", "100ms").Output);
    }

    [Fact]
    public void The_count_of_deliveries_goes_on_over_a_stop_and_a_kill()
    {
        using TestBroker broker = new(); // CASES B13
        broker.Run("queue", "create", "work");
        broker.Run("publish", "work", "--body", "x");
        for (int count = 1; count <= 5; count++)
        {
            JsonElement message = broker.Run("consume", "work", "--max", "1", "--settle", "release", "--format", "json", "--wait", "20s").Json;
            Assert.Equal((count, count > 1), (message.GetProperty("deliveryCount").GetInt32(), message.GetProperty("redelivered").GetBoolean()));
            if (count % 2 == 0)
            {
                broker.Kill();
            }
            else
            {
                Assert.Equal(0, broker.Stop());
            }

            broker.Start();
        }
    }

    [Fact]
    public void A_consumer_that_was_killed_as_it_waited_keeps_nothing_from_the_next_one()
    {
        using TestBroker broker = new(); // CASES B94
        broker.Run("queue", "create", "work", "--lease", "1h");
        using Process waiting = Fastq.Start("consume", "work", "--follow", "--credit", "1000", "--socket", broker.Socket);
        Assert.True(SpinWait.SpinUntil(() => broker.Queue("work").GetProperty("consumers").GetInt32() == 1, TimeSpan.FromSeconds(20)));
        waiting.Kill();
        waiting.WaitForExit();
        broker.Run("publish", "work", "--body", "x", "--count", "100");
        Ran consumed = broker.Run("consume", "work", "--max", "100", "--wait", "20s");
        Assert.Equal(100, consumed.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);
        Assert.Equal(0, broker.Queue("work").GetProperty("messages").GetInt64());
    }

    [Fact]
    public void Odd_names_live_a_whole_life_over_a_kill()
    {
        using TestBroker broker = new(); // CASES B125, B126
        string[] names = ["%d%s%n", "a/b", "..", "a.b", "*", "#", ">", "a b", "'\"", "\u2603\U0001F600", "Upper", "upper", new string('x', 254), new string('y', 255), new string('\u00e9', 127)];
        foreach (string name in names)
        {
            Assert.Equal(0, broker.Run("queue", "create", name).ExitCode);
            Assert.Equal(0, broker.Run("publish", name, "--body", name).ExitCode);
        }

        broker.Kill();
        broker.Start();
        Assert.Equal(names.Order(StringComparer.Ordinal), broker.Run("queue", "list", "--json").Json.EnumerateArray().Select(queue => queue.GetProperty("name").GetString()!).Order(StringComparer.Ordinal));
        foreach (string name in names)
        {
            Assert.Equal(name + "\n", broker.Run("consume", name, "--max", "1").Output);
            Assert.Equal(1, broker.Queue(name).GetProperty("accepted").GetInt64());
            Assert.Equal(0, broker.Run("queue", "delete", name).ExitCode);
        }

        foreach (string name in (string[])["", new string('x', 256), new string('\u00e9', 128), "line\nend"])
        {
            Ran refused = broker.Run("queue", "create", name);
            Assert.True(refused.ExitCode is 1 or 2 && refused.Error.Contains("255", StringComparison.Ordinal), $"'{name}': {refused.ExitCode} {refused.Error}");
        }
    }

    [Fact]
    public void Large_messages_through_many_consumers_leave_the_broker_small()
    {
        using TestBroker broker = new(); // CASES B60
        Ran bench = broker.Run("bench", "--size", "1000000", "--count", "1200", "--consumers", "8", "--confirm", "written", "--json");
        Assert.True(bench.ExitCode == 0 && bench.Json.GetProperty("verified").GetBoolean(), bench.Error);
        string most = File.ReadLines($"/proc/{broker.ProcessId}/status").Single(line => line.StartsWith("VmHWM:", StringComparison.Ordinal));
        long kibibytes = long.Parse(most.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);
        Assert.InRange(kibibytes, 1, 512 * 1024); // Ring memory of ten sessions included.
    }

    [Fact]
    public void A_start_that_is_killed_again_and_again_loses_nothing_and_ends_one_day()
    {
        const int Count = 500_000;
        using TestBroker broker = new(); // CASES B68
        broker.Run("queue", "create", "work");
        Assert.Equal(0, broker.Run("publish", "work", "--body", "x", "--count", Count.ToString(CultureInfo.InvariantCulture), "--confirm", "durable").ExitCode);
        broker.Kill();
        for (int files = 1; files <= 12; files++)
        {
            broker.Begin();
            SpinWait.SpinUntil(() => broker.OpenFilesUnderData() >= files % 4 + 1, TimeSpan.FromSeconds(1)); // Lock, slots, snapshots: one more each time, or all there are.
            broker.Kill();
        }

        broker.Start();
        Assert.Equal(Count, broker.Queue("work").GetProperty("messages").GetInt64());
    }

    [Fact]
    public void A_header_that_was_overwritten_is_reported_and_its_file_stays()
    {
        using TestBroker broker = new(); // CASES B80
        broker.Run("queue", "create", "work");
        broker.Run("publish", "work", "--body", "kept", "--count", "10");
        broker.Kill();
        string slot = Directory.GetFiles(Path.Combine(broker.Data, "namespaces", "default", "slots")).Order(StringComparer.Ordinal).First();
        using (FileStream file = File.OpenWrite(slot))
        {
            file.Write(Enumerable.Repeat((byte)0xAA, 4096).ToArray());
        }

        byte[] before = File.ReadAllBytes(slot);
        string[] files = Directory.GetFiles(broker.Data, "*", SearchOption.AllDirectories);
        Ran refused = Fastq.Run(null, "serve", "--data", broker.Data, "--socket", broker.Socket);
        Assert.Equal(1, refused.ExitCode);
        Assert.Contains("slot 1", refused.Error, StringComparison.Ordinal);
        Assert.Equal(files, Directory.GetFiles(broker.Data, "*", SearchOption.AllDirectories));
        Assert.True(before.AsSpan().SequenceEqual(File.ReadAllBytes(slot)));
    }

    [Fact]
    public void Hundreds_of_clients_that_come_back_at_once_are_all_served()
    {
        const int Clients = 400, Each = 5; // More than the handshakes that may be open at once.
        using TestBroker broker = new(); // CASES B117
        broker.Run("queue", "create", "work");
        using Barrier connected = new(Clients + 1), killed = new(Clients + 1);
        int failed = 0;
        Thread[] clients = [.. Enumerable.Range(0, Clients).Select(_ => new Thread(() =>
        {
            bool isBefore = true;
            try
            {
                using Session session = Connect(broker);
                QueueHandle work = session.OpenQueue("work");
                session.WaitConfirmed(session.Publish(work, "before"u8), ConfirmLevel.Durable);
                isBefore = false;
                connected.SignalAndWait();
                killed.SignalAndWait();
                for (int i = 0; i < Each; i++)
                {
                    session.WaitConfirmed(session.Publish(work, "after"u8), ConfirmLevel.Durable);
                }
            }
            catch (FastQException)
            {
                Interlocked.Increment(ref failed);
                if (isBefore)
                {
                    connected.RemoveParticipant();
                    killed.RemoveParticipant();
                }
            }
        }, maxStackSize: 256 * 1024))];
        Array.ForEach(clients, client => client.Start());
        connected.SignalAndWait(TestContext.Current.CancellationToken);
        broker.Kill();
        broker.Begin();
        killed.SignalAndWait(TestContext.Current.CancellationToken);
        broker.AwaitReady();
        Array.ForEach(clients, client => Assert.True(client.Join(TimeSpan.FromSeconds(60)), "Not all are back"));
        Assert.Equal(0, failed);
        Assert.Equal(Clients * (Each + 1), broker.Queue("work").GetProperty("messages").GetInt64());
    }

    [Fact]
    public void Odd_headers_pass_every_view()
    {
        using TestBroker broker = new(); // CASES B129
        using (Session session = Connect(broker))
        {
            session.DeclareQueue("work");
            byte[] room = new byte[4096];
            PropertyWriter writer = new(room);
            writer.Header("not UTF-8", PropertyType.Text, [0xFF, 0xC0, 0x00, 0x80]);
            writer.Header("\0\n\"", PropertyType.Double, BitConverter.GetBytes(double.NaN));
            writer.Header("infinite", PropertyType.Double, BitConverter.GetBytes(double.PositiveInfinity));
            writer.Header("late", PropertyType.Timestamp, BitConverter.GetBytes(long.MaxValue));
            writer.Header("early", PropertyType.Timestamp, BitConverter.GetBytes(long.MinValue));
            writer.Header("short", PropertyType.Int64, [1]);
            writer.Header("of no type", (PropertyType)200, [7]);
            session.Publish(session.OpenQueue("work"), "odd"u8, ConfirmLevel.Durable, writer.Written);
            session.Flush();
        }

        foreach (string settle in (string[])["release", "accept"])
        {
            Ran consumed = broker.Run("consume", "work", "--max", "1", "--format", "json", "--settle", settle);
            Assert.True(consumed.ExitCode == 0, consumed.Error);
            Assert.Equal("odd", consumed.Json.GetProperty("body").GetString());
        }

        Assert.Equal(0, broker.Stop());
        Assert.Equal(0, Fastq.Run(null, "journal", "verify", broker.Data).ExitCode);
        Ran dumped = Fastq.Run(null, "journal", "dump", broker.Data, "--json");
        Assert.True(dumped.ExitCode == 0, dumped.Error);
        Assert.All(dumped.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries), line => JsonDocument.Parse(line).Dispose());
    }

    [Theory]
    [InlineData("command line")]
    [InlineData("session")]
    [InlineData("connection")]
    public async Task Twenty_seconds_are_twenty_seconds_through_every_entry(string entry)
    {
        using TestBroker broker = new(); // CASES B146
        TimeSpan lease = TimeSpan.FromSeconds(20);
        using Session session = Connect(broker);
        await using Connection connection = await Connection.ConnectAsync(new SessionOptions { Path = broker.Socket }, cancellation: TestContext.Current.CancellationToken);
        switch (entry)
        {
            case "command line":
                Assert.Equal(0, broker.Run("queue", "create", "work", "--lease", "20s").ExitCode);
                break;
            case "session":
                session.DeclareQueue("work", new QueueOptions { Lease = lease });
                break;
            default:
                await connection.DeclareQueueAsync("work", new QueueOptions { Lease = lease }, TestContext.Current.CancellationToken);
                break;
        }

        Assert.Equal(20, broker.Queue("work").GetProperty("leaseSeconds").GetDouble());
        Assert.Equal(lease, session.GetQueue("work").Lease);
        Assert.Equal(lease, (await connection.GetQueueAsync("work", TestContext.Current.CancellationToken)).Lease);
        Assert.Equal(lease, session.Subscribe("work").Lease);
        SubscribeOptions own = new() { Lease = TimeSpan.FromSeconds(40) };
        Assert.Equal(own.Lease, session.Subscribe("work", own).Lease);
        await using Subscriber subscriber = await connection.SubscribeAsync("work", own, TestContext.Current.CancellationToken);
        Assert.Equal(own.Lease, subscriber.Lease);
    }

    private static Session Connect(TestBroker broker) => Session.Connect(new SessionOptions { Path = broker.Socket });
}
