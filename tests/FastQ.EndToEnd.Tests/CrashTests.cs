using System.Diagnostics;
using System.Text.Json;
using Xunit;

namespace FastQ.EndToEnd;

// kill -9 of broker, producer, consumer: what was confirmed is delivered until it is accepted, what was accepted never comes back.
public class CrashTests
{
    private const int Lines = 200_000;

    [Fact]
    public void A_broker_that_is_killed_while_publishing_loses_and_doubles_nothing()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work");
        string file = WriteLines(broker);
        using Process publisher = Fastq.Start("publish", "work", "--file", file, "--json", "--socket", broker.Socket);
        for (int round = 0; round < 3; round++)
        {
            AwaitMessages(broker, (round + 1) * 10_000, publisher);
            broker.Kill();
            broker.Start();
        }

        publisher.WaitForExit();
        JsonElement said = JsonDocument.Parse(publisher.StandardOutput.ReadToEnd()).RootElement;
        Assert.Equal(0, publisher.ExitCode);
        Assert.Equal(Lines, said.GetProperty("confirmed").GetInt32());
        broker.Kill();
        broker.Start();
        Ran consumed = broker.Run("consume", "work", "--wait", "300ms");
        Assert.Equal(Enumerable.Range(0, Lines).Select(i => $"line {i}"), consumed.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries));
    }

    [Fact]
    public async Task Consumers_ride_out_a_killed_broker_and_accepted_messages_never_come_back()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work");
        broker.Run("publish", "work", "--file", WriteLines(broker));
        using Process first = Fastq.Start("consume", "work", "--wait", "3s", "--socket", broker.Socket);
        using Process second = Fastq.Start("consume", "work", "--wait", "3s", "--socket", broker.Socket);
        Task<string> firstOutput = first.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        Task<string> secondOutput = second.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        AwaitAccepted(broker, Lines / 10);
        broker.Kill();
        broker.Start();
        string[] all = [.. (await firstOutput + await secondOutput).Split('\n', StringSplitOptions.RemoveEmptyEntries)];
        await first.WaitForExitAsync(TestContext.Current.CancellationToken);
        await second.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal((0, 0), (first.ExitCode, second.ExitCode));
        Assert.Equal(Lines, all.Distinct().Count());
        Assert.Equal(0, broker.Queue("work").GetProperty("messages").GetInt32());

        // Printed and not yet settled when the broker died: those may come twice, no more than both held.
        Assert.InRange(all.Length, Lines, Lines + 2000);
    }

    [Fact]
    public void A_killed_consumer_gives_its_messages_back_at_once()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work", "--lease", "1h");
        broker.Run("publish", "work", "--body", "x", "--count", "100");
        using Process consumer = Fastq.Start("consume", "work", "--settle", "none", "--follow", "--socket", broker.Socket);
        for (int i = 0; i < 100; i++)
        {
            Assert.Equal("x", consumer.StandardOutput.ReadLine());
        }

        consumer.Kill();
        consumer.WaitForExit();
        Ran again = broker.Run("consume", "work", "--max", "100", "--format", "json", "--wait", "5s");
        JsonElement[] messages = [.. again.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonDocument.Parse(line).RootElement)];
        Assert.Equal(100, messages.Length);
        Assert.All(messages, message => Assert.Equal(2, message.GetProperty("deliveryCount").GetInt32()));
    }

    [Fact]
    public void A_message_in_flight_when_the_broker_dies_comes_again_flagged_and_counted()
    {
        using TestBroker broker = new(); // CASES B05
        broker.Run("queue", "create", "work", "--lease", "6s");
        broker.Run("publish", "work", "--body", "x");
        using Process consumer = Fastq.Start("consume", "work", "--settle", "none", "--follow", "--socket", broker.Socket);
        Assert.Equal("x", consumer.StandardOutput.ReadLine());
        broker.Kill();
        consumer.Kill();
        consumer.WaitForExit();
        broker.Start();
        Ran again = broker.Run("consume", "work", "--max", "1", "--format", "json", "--wait", "20s");
        Assert.True(again.Json.GetProperty("redelivered").GetBoolean());
        Assert.Equal(2, again.Json.GetProperty("deliveryCount").GetInt32());
    }

    [Fact]
    public void An_orderly_stop_exits_0_and_the_next_start_has_little_to_replay()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work");
        broker.Run("publish", "work", "--body", "x", "--count", "1000");
        Assert.Equal(0, broker.Stop());
        Assert.False(File.Exists(broker.Socket));
        broker.Start();
        JsonElement recovery = broker.Run("stats", "--json").Json.GetProperty("recovery");
        Assert.InRange(recovery.GetProperty("recordsReplayed").GetInt64(), 0, 10);
        Assert.Equal(1000, broker.Queue("work").GetProperty("ready").GetInt32());
    }

    private static string WriteLines(TestBroker broker)
    {
        string file = Path.Combine(broker.Directory, "lines");
        File.WriteAllLines(file, Enumerable.Range(0, Lines).Select(i => $"line {i}"));
        return file;
    }

    private static void AwaitMessages(TestBroker broker, int count, Process publisher) =>
        Await(() => publisher.HasExited || broker.Queue("work").GetProperty("messages").GetInt32() >= count);

    private static void AwaitAccepted(TestBroker broker, int count) => Await(() => broker.Queue("work").GetProperty("accepted").GetInt32() >= count);

    private static void Await(Func<bool> condition)
    {
        Stopwatch since = Stopwatch.StartNew();
        while (!condition())
        {
            Assert.True(since.Elapsed.TotalSeconds < 60, "The condition does not come true");
        }
    }
}
