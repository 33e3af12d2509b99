using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using Xunit;

namespace FastQ.EndToEnd;

// The order of sync and confirm, seen from outside: the broker under strace, the client's clock beside it.
public partial class DurabilityTests
{
    [Fact]
    public void No_durable_confirm_before_the_fdatasync_that_covers_it_has_returned()
    {
        string trace = Path.GetTempFileName();
        using TestBroker broker = new("strace", "-f", "-ttt", "-T", "-e", "trace=fdatasync,pwritev", "-o", trace);
        broker.Run("queue", "create", "work");
        List<(double Before, double After)> confirms = [];
        for (int i = 0; i < 5; i++)
        {
            double before = Now();
            Ran ran = broker.Run("publish", "work", "--body", $"message {i}", "--confirm", "durable");
            Assert.Equal(0, ran.ExitCode);
            confirms.Add((before, Now()));
        }

        broker.Stop();
        (double Start, double End)[] syncs = [.. File.ReadLines(trace).Select(Sync).Where(sync => sync.End > 0)];
        File.Delete(trace);
        Assert.NotEmpty(syncs);

        // Between the publish and its confirm a sync began and returned.
        Assert.All(confirms, confirm => Assert.Contains(syncs, sync => sync.Start > confirm.Before && sync.End < confirm.After));
    }

    private static double Now() => (DateTimeOffset.UtcNow - DateTimeOffset.UnixEpoch).TotalSeconds;

    private static (double Start, double End) Sync(string line)
    {
        Match whole = WholeCall().Match(line);
        if (whole.Success)
        {
            double start = double.Parse(whole.Groups[1].Value, CultureInfo.InvariantCulture);
            return (start, start + double.Parse(whole.Groups[2].Value, CultureInfo.InvariantCulture));
        }

        Match resumed = ResumedCall().Match(line);
        if (!resumed.Success)
        {
            return (0, 0);
        }

        double end = double.Parse(resumed.Groups[1].Value, CultureInfo.InvariantCulture);
        return (end - double.Parse(resumed.Groups[2].Value, CultureInfo.InvariantCulture), end);
    }

    [GeneratedRegex(@"^\d+ +(\d+\.\d+) fdatasync\(\d+\) += 0 <(\d+\.\d+)>")]
    private static partial Regex WholeCall();

    [GeneratedRegex(@"^\d+ +(\d+\.\d+) <\.\.\. fdatasync resumed>\) += 0 <(\d+\.\d+)>")]
    private static partial Regex ResumedCall();
}
