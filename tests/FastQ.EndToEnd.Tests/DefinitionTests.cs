using System.Text.Json;
using FastQ.Client;
using FastQ.Protocol;
using Xunit;

namespace FastQ.EndToEnd;

// A file of definitions says all that a queue can be told.
public sealed class DefinitionTests
{
    [Fact]
    public void Each_attribute_that_a_queue_can_be_given_is_exported_and_each_is_an_option_of_the_command_line()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "q");
        JsonElement queue = broker.Run("export").Json.GetProperty("queues")[0];
        string[] exported = [.. queue.EnumerateObject().Select(property => property.Name).Where(name => name != "name")];
        Assert.Equal(typeof(QueueOptions).GetProperties().Length - 2 + typeof(FlowOptions).GetProperties().Length, exported.Length); // But IsTemporary, and Flow itself. A new one of either belongs into the table in src/FastQ.Server/Definitions.cs.
        string help = broker.Run("queue", "create", "--help").Output;
        Assert.All(exported, name => Assert.Contains($"--{name} ", help, StringComparison.Ordinal));
    }

    [Fact]
    public void What_a_client_made_with_headers_of_any_type_and_bytes_is_exported_whole_and_what_is_a_sessions_own_is_not()
    {
        using TestBroker one = new(), two = new();
        CancellationToken cancellation = TestContext.Current.CancellationToken;
        using Session session = Session.Connect(new SessionOptions { Path = one.Socket }, cancellation);
        Dictionary<string, HeaderValue> headers = new()
        {
            ["text"] = "7",
            ["a:int"] = "looks typed",
            ["int"] = 7,
            ["b:text"] = 8,
            ["double"] = 1.0,
            ["no number"] = double.NaN,
            ["on"] = true,
            ["at"] = new DateTimeOffset(2030, 1, 31, 8, 0, 0, TimeSpan.Zero).AddMicroseconds(5),
            ["bytes"] = new byte[] { 0, 255 },
            ["list"] = HeaderValue.ListOf(1, "two", 3.5),
            ["table"] = new Dictionary<string, HeaderValue> { ["x"] = false },
        };
        _ = session.DeclareQueue("q");
        _ = session.DeclareExchange("by", ExchangeType.Headers);
        session.Bind("by", "q", new BindingOptions { Headers = headers, Match = HeaderMatch.Any });
        _ = session.SubscribeToExchange("by", new BindingOptions { Headers = new Dictionary<string, HeaderValue> { ["own"] = true } });
        _ = session.SetSchedule("raw", "q", ScheduleRule.Every(TimeSpan.FromHours(1)), new byte[] { 0, 255 }, new ScheduleOptions { Message = new PublishOptions { Type = "t", Headers = headers } });
        _ = session.SetSchedule("large", "q", ScheduleRule.Every(TimeSpan.FromHours(1)), new byte[20_000], new ScheduleOptions { Message = new PublishOptions { Type = "t" } });
        string file = Path.Combine(one.Directory, "fastq.json");
        Ran exported = one.Run("export", "-o", file);
        Assert.Equal((0, ""), (exported.ExitCode, exported.Error));
        JsonElement root = one.Run("export").Json;
        Assert.Equal((1, 1, "q"), (root.GetProperty("queues").GetArrayLength(), root.GetProperty("bindings").GetArrayLength(), root.GetProperty("bindings")[0].GetProperty("queue").GetString()));
        Ran same = one.Run("apply", "-f", file, "--dry-run");
        Assert.Equal((0, "", "0 to create, 0 to change, 5 as they are, 0 left alone\n"), (same.ExitCode, same.Output, same.Error));
        Assert.Equal(0, two.Run("apply", "-f", file, "--yes").ExitCode);
        Assert.Equal(File.ReadAllText(file), two.Run("export").Output);
        using Session other = Session.Connect(new SessionOptions { Path = two.Socket }, cancellation);
        BindingInfo binding = Assert.Single(other.GetBindings("by"));
        Assert.Equal((HeaderMatch.Any, headers.Count), (binding.Match, binding.Headers.Count));
        Assert.All(headers, header => Assert.Equal(header.Value, binding.Headers[header.Key]));
        (ScheduleInfo made, ScheduleInfo copied) = (session.GetSchedule("raw"), other.GetSchedule("raw"));
        Assert.True(copied.Body.Span.SequenceEqual(made.Body.Span) && copied.Properties.Span.SequenceEqual(made.Properties.Span));

        string name = session.ListQueues().Single(queue => queue.IsTemporary).Name;
        Ran refused = one.RunWith($$"""{ "fastq": 1, "queues": [ { "name": "{{name}}" } ] }""", "apply", "-f", "-", "--yes");
        Assert.True(refused.ExitCode == 2 && refused.Error.Contains("a temporary queue of this name", StringComparison.Ordinal), refused.Error);
    }
}
