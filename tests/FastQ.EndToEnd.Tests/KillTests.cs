using System.Globalization;
using System.Text.Json;
using Xunit;

namespace FastQ.EndToEnd;

// './build.sh kill --rounds N --seed S' runs these with as many rounds as one likes.
public class KillTests
{
    [Fact]
    public void Kill_9_of_broker_producers_and_consumers_at_random_moments_loses_and_resurrects_nothing()
    {
        int rounds = Number("FASTQ_KILL_ROUNDS", 200);
        int seed = Number("FASTQ_KILL_SEED", 1);
        ITestOutputHelper output = TestContext.Current.TestOutputHelper!;
        output.WriteLine($"seed {seed}, {rounds} rounds");
        using KillRounds run = new(seed, output.WriteLine);
        run.Run(rounds);
        output.WriteLine($"{run.Killed.Broker} brokers, {run.Killed.Publisher} producers and {run.Killed.Consumer} consumers killed; {run.Messages} messages, {run.Repeated} delivered more than once");

        if (Environment.GetEnvironmentVariable("FASTQ_KILL_JSON") is string json)
        {
            File.WriteAllText(json, JsonSerializer.Serialize(new { seed, rounds, brokers = run.Killed.Broker, producers = run.Killed.Publisher, consumers = run.Killed.Consumer, messages = run.Messages, redelivered = run.Repeated }));
        }

        // A good share of each, or the rounds prove nothing.
        Assert.True(rounds < 100 || (run.Killed.Broker > rounds / 2 && run.Killed.Publisher > rounds / 8 && run.Killed.Consumer > rounds / 8), "Too few died");
    }

    private static int Number(string variable, int otherwise) => Environment.GetEnvironmentVariable(variable) is string text ? int.Parse(text, CultureInfo.InvariantCulture) : otherwise;
}
