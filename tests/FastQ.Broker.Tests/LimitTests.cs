using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

// What many sessions together may take (DESIGN-REVIEW R31).
public sealed class LimitTests
{
    private const int Most = 4;
    private const long MostBytes = Most * 2L * (Limits.DefaultRingBytes + Limits.ControlPageBytes);

    public static TheoryData<bool, string> Bounds => new() { { true, $"{MostBytes} bytes of shared memory" }, { false, $"at most {Most} sessions" } };

    [Theory]
    [MemberData(nameof(Bounds))]
    public void Sessions_and_their_memory_are_bounded_and_the_refusal_names_the_bound(bool byMemory, string words)
    {
        using RunningBroker broker = RunningBroker.With(options => byMemory ? options with { MaxRingBytes = MostBytes } : options with { MaxSessions = Most });
        List<RawClient> clients = [.. Enumerable.Range(0, Most).Select(_ => broker.Connect())];
        clients.ForEach(client => client.MustDeliver("established"));
        Assert.Contains(words, Refused(broker), StringComparison.Ordinal);
        clients[^1].Dispose();
        broker.WaitUntil(() => clients[0].Statistic("sessions") == Most - 1, "one has gone");
        clients[^1] = broker.Connect();
        clients[^1].MustDeliver("in its place");
        Assert.Contains(words, Refused(broker), StringComparison.Ordinal);
        clients.ForEach(client => client.Dispose());
    }

    private static string Refused(RunningBroker broker)
    {
        using RawClient client = RawClient.Dial(broker.Socket);
        client.SayHello(new Hello());
        Ending ending = client.WaitForEnd();
        Assert.Equal(RefusalCode.LimitReached, ending.Code);
        return ending.Text;
    }
}
