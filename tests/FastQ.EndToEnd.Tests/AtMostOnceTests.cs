using Xunit;

namespace FastQ.EndToEnd;

// Delivery at most once, as scripts see it.
public class AtMostOnceTests
{
    [Fact]
    public void What_was_printed_never_comes_again_whoever_is_killed_and_what_was_not_does()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "ticks");
        broker.RunWith("1\n2\n3\n4\n5", "publish", "ticks", "-");
        Assert.Equal("1\n2\n", broker.Run("consume", "ticks", "--at-most-once", "--max", "2").Output);

        Assert.Equal("3\n", broker.Run("consume", "ticks", "--at-most-once", "--max", "1").Output);
        broker.Kill();
        broker.Start();

        Assert.Equal("4\n5\n", broker.Run("consume", "ticks", "--wait", "500ms").Output);
        Ran wrong = broker.Run("consume", "ticks", "--at-most-once", "--settle", "release");
        Assert.Equal(2, wrong.ExitCode);
        Assert.Contains("--at-most-once settles by itself", wrong.Error, StringComparison.Ordinal);
    }
}
