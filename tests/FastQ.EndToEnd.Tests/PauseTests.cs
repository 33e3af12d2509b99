using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using FastQ.Client;
using FastQ.Protocol;
using Xunit;

namespace FastQ.EndToEnd;

// Processes that stand still: SIGSTOP of the broker, and of a consumer that has a message in hand.
public class PauseTests
{
    // More than a pipe holds: 'fastq consume' stands in the middle of printing it, so it has not been settled.
    private static readonly string s_large = new('x', 200_000);

    [Fact]
    public void A_broker_that_stood_still_for_longer_than_the_time_between_syncs_and_is_killed_then_loses_nothing_confirmed()
    {
        using TestBroker broker = new(); // CASES B03
        broker.Run("queue", "create", "work");
        using Session session = Connect(broker);
        using Session other = Connect(broker);
        Subscription nothing = other.Subscribe(Declared(session, "empty"));
        QueueHandle work = session.OpenQueue("work");
        ulong confirmed = 0;
        for (int round = 0; round < 5; round++)
        {
            for (int i = 0; i < 200; i++)
            {
                confirmed = session.Publish(work, Encoding.UTF8.GetBytes($"{round}.{i}"), ConfirmLevel.Written);
            }

            Signal("STOP", broker.ProcessId);
            ulong before = session.Confirmed(ConfirmLevel.Durable);
            Assert.False(nothing.Receive(TimeSpan.FromMilliseconds(300), out _)); // Three times the longest time between syncs.
            Assert.Equal(before, session.Confirmed(ConfirmLevel.Durable)); // It stands still.
            Signal("CONT", broker.ProcessId);
            session.WaitConfirmed(confirmed, ConfirmLevel.Durable, TimeSpan.FromSeconds(20));
        }

        broker.Kill();
        broker.Start();
        string[] expected = [.. Enumerable.Range(0, 5).SelectMany(round => Enumerable.Range(0, 200).Select(i => $"{round}.{i}"))];
        Assert.Equal(expected, broker.Run("consume", "work", "--wait", "300ms").Output.Split('\n', StringSplitOptions.RemoveEmptyEntries));
    }

    [Fact]
    public void A_consumer_that_stood_still_past_its_lease_has_lost_the_message_and_its_settle_is_answered_as_late()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work");
        broker.RunWith(s_large, "publish", "work", "-");
        using Process stopped = Take(broker, lease: "300ms");
        Signal("STOP", stopped.Id.ToString(CultureInfo.InvariantCulture));

        using Session session = Connect(broker);
        Subscription subscription = session.Subscribe("work");
        Assert.True(subscription.Receive(TimeSpan.FromSeconds(20), out FastQ.Client.Delivery again));
        Assert.True(again is { IsRedelivered: true, DeliveryCount: >= 2 }); // More when the stopped one, which has credit, was given it again first.
        Signal("CONT", stopped.Id.ToString(CultureInfo.InvariantCulture));
        JsonElement first = JsonDocument.Parse(stopped.StandardOutput.ReadLine()!).RootElement;
        Assert.True(stopped.WaitForExit(30_000));
        Assert.Equal(1, stopped.ExitCode);
        Assert.Contains("lease-lost", stopped.StandardError.ReadToEnd(), StringComparison.Ordinal);
        Assert.Equal(1, first.GetProperty("deliveryCount").GetInt32());
        Assert.True(new FencingToken(subscription.Epoch, again.TokenNumber) > TokenOf(first), "The later delivery has the higher token");

        // Late is late: the message is still the second one's, and it alone settles it.
        Assert.Equal(1, broker.Queue("work").GetProperty("inFlight").GetInt64());
        subscription.Accept(again);
        session.Flush();
        JsonElement queue = broker.Queue("work");
        Assert.Equal((0, 1), (queue.GetProperty("messages").GetInt64(), queue.GetProperty("accepted").GetInt64()));
    }

    [Fact]
    public void A_consumer_that_stood_still_for_less_than_its_lease_keeps_the_message()
    {
        using TestBroker broker = new(); // CASES B144
        broker.Run("queue", "create", "work");
        broker.RunWith(s_large, "publish", "work", "-");
        using Process stopped = Take(broker, lease: "1m");
        Signal("STOP", stopped.Id.ToString(CultureInfo.InvariantCulture));
        using Session session = Connect(broker);
        Subscription subscription = session.Subscribe("work");
        Assert.False(subscription.Receive(TimeSpan.FromMilliseconds(500), out _));
        Signal("CONT", stopped.Id.ToString(CultureInfo.InvariantCulture));
        Assert.NotNull(stopped.StandardOutput.ReadLine());
        Assert.True(stopped.WaitForExit(30_000));
        Assert.Equal(0, stopped.ExitCode);
        JsonElement queue = broker.Queue("work");
        Assert.Equal((0, 1, 0), (queue.GetProperty("messages").GetInt64(), queue.GetProperty("accepted").GetInt64(), queue.GetProperty("redelivered").GetInt64()));
    }

    /// <summary>A consumer that has the message and cannot go on printing it.</summary>
    private static Process Take(TestBroker broker, string lease)
    {
        Process consumer = Fastq.Start("consume", "work", "--max", "1", "--format", "json", "--lease", lease, "--wait", "20s", "--socket", broker.Socket);
        Assert.True(SpinWait.SpinUntil(() => broker.Queue("work").GetProperty("inFlight").GetInt64() == 1 && IsWriting(consumer), TimeSpan.FromSeconds(20)));
        return consumer;
    }

    private static bool IsWriting(Process process) => File.ReadAllText($"/proc/{process.Id}/syscall").StartsWith("1 ", StringComparison.Ordinal);

    private static FencingToken TokenOf(JsonElement message)
    {
        string[] halves = message.GetProperty("token").GetString()!.Split('.');
        return new FencingToken(ulong.Parse(halves[0], CultureInfo.InvariantCulture), ulong.Parse(halves[1], CultureInfo.InvariantCulture));
    }

    private static string Declared(Session session, string name) => session.DeclareQueue(name).Name;

    private static Session Connect(TestBroker broker) => Session.Connect(new SessionOptions { Path = broker.Socket });

    private static void Signal(string signal, string process)
    {
        using Process kill = Process.Start("kill", [$"-{signal}", process]);
        kill.WaitForExit();
        Assert.Equal(0, kill.ExitCode);
    }
}
