using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

/// <summary>Messages looked at just as they come.</summary>
public class BrowsingTests
{
    [Fact]
    public void What_is_not_written_yet_is_shown_as_it_stands_and_not_as_rotten()
    {
        using RunningBroker broker = new();
        using RawClient client = broker.Connect();
        uint queue = client.Declare("q");
        client.PutMessage(queue, "a body"u8); // Shown to the broker together with the command: both are taken in one turn, before its block is written.
        Assert.Equal((MessageState.Ready, false), Look(client, queue));
        Assert.Equal((MessageState.Ready, true), Look(client, queue));
    }

    /// <summary>How the first message stands, and whether its body is shown.</summary>
    private static (MessageState State, bool HasBody) Look(RawClient client, uint queue)
    {
        RawAnswer answer = client.Ask(CommandKind.BrowseQueue, (FieldTag.Queue, queue));
        return ((MessageState)answer.Number(FieldTag.State), FieldReader.TryBytes(answer.Fields, FieldTag.Body, out _));
    }
}
