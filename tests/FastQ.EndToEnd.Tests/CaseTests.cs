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

    private static Session Connect(TestBroker broker) => Session.Connect(new SessionOptions { Path = broker.Socket });
}
