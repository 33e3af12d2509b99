using System.Text;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

/// <summary>Messages looked at just as they come.</summary>
public class BrowsingTests
{
    [Fact]
    public void What_is_not_written_yet_is_shown_whole()
    {
        using RunningBroker broker = new();
        using RawClient client = broker.Connect();
        uint queue = client.Declare("q");
        client.PutMessage(queue, "a body"u8); // Shown to the broker together with the command: both are taken in one turn, before its block is written.
        Assert.Equal((MessageState.Ready, "a body"), Look(client, queue));
    }

    /// <summary>How the first message stands, and its body.</summary>
    private static (MessageState State, string Body) Look(RawClient client, uint queue)
    {
        RawAnswer answer = client.Ask(CommandKind.BrowseQueue, (FieldTag.Queue, queue));
        return ((MessageState)answer.Number(FieldTag.State), FieldReader.TryBytes(answer.Fields, FieldTag.Body, out ReadOnlySpan<byte> body) ? Encoding.UTF8.GetString(body) : "");
    }
}
