using System.Text.Json;
using FastQ.Client;
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
}
