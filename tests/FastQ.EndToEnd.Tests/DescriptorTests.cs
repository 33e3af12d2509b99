using System.Text.Json;
using FastQ.Client;
using FastQ.Linux;
using Xunit;

namespace FastQ.EndToEnd;

// A broker that may open no more files (DESIGN-REVIEW R22).
public class DescriptorTests
{
    [Fact]
    public void Without_a_descriptor_left_the_broker_serves_those_it_has_at_rest_and_takes_the_next_when_one_is_free()
    {
        const int Most = 64, Crowd = 60; // Fewer than the handshakes that may be open: it is the descriptors that end.
        using TestBroker broker = new("sh", "-c", $"ulimit -n {Most}; exec \"$@\"", "sh");
        using Session session = Session.Connect(new SessionOptions { Path = broker.Socket }, TestContext.Current.CancellationToken);
        QueueHandle work = session.OpenQueue(session.DeclareQueue("work").Name);
        List<UnixSocket> crowd = [.. Enumerable.Range(0, Crowd).Select(_ => UnixSocket.Connect(broker.Socket).OrThrow())];
        Assert.True(SpinWait.SpinUntil(() => Directory.GetFiles($"/proc/{broker.ProcessId}/fd").Length >= Most, TimeSpan.FromSeconds(20)), "The broker has descriptors left: this shows nothing");
        Assert.True(IsCalm(session, crowd[0]), "The broker does not rest");
        session.WaitConfirmed(session.Publish(work, "served"u8), Protocol.ConfirmLevel.Durable, TimeSpan.FromSeconds(20));
        crowd.ForEach(socket => socket.Dispose());
        Assert.Equal(1, broker.Queue("work").GetProperty("messages").GetInt64());
    }

    /// <summary>In a fifth of a second the broker makes few turns: it sleeps between them.</summary>
    private static bool IsCalm(Session session, UnixSocket silent)
    {
        const int Milliseconds = 200, MostTurns = 3000;
        long from = Turns(session);
        _ = Poll.Wait(silent.Descriptor, silent.Descriptor, Milliseconds); // Nobody speaks there meanwhile.
        return Turns(session) - from < MostTurns;
    }

    private static long Turns(Session session)
    {
        using JsonDocument statistics = JsonDocument.Parse(session.GetStatistics());
        return statistics.RootElement.GetProperty("turns").GetInt64();
    }
}
