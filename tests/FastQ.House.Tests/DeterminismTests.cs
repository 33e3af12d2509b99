using Xunit;

namespace FastQ.House;

// The engine can be replayed because its build refuses what cannot be: this keeps the refusal itself from being thinned out.
public class DeterminismTests
{
    [Theory]
    [InlineData("clock", "T:System.DateTime", "T:System.DateTimeOffset", "T:System.Diagnostics.Stopwatch", "T:System.TimeProvider", "P:System.Environment.TickCount64")]
    [InlineData("random", "T:System.Random", "M:System.Guid.NewGuid", "T:System.HashCode")]
    [InlineData("thread", "T:System.Threading.Thread", "T:System.Threading.ThreadPool", "T:System.Threading.Tasks.Task", "T:System.Threading.Timer")]
    [InlineData("file", "T:System.IO.File", "T:System.IO.FileStream", "T:System.IO.Directory")]
    public void The_engine_may_not_touch(string kind, params string[] symbols)
    {
        IEnumerable<string> banned = Repository.Text("src/FastQ.Engine/BannedSymbols.txt").Split('\n').Select(line => line.Split(';')[0].Trim());

        Findings.None(symbols.Except(banned).Select(symbol => $"{kind}: {symbol} is not banned"));
    }

    [Fact]
    public void The_engine_is_built_with_its_list_of_banned_symbols()
    {
        string project = Repository.Text("src/FastQ.Engine/FastQ.Engine.csproj");

        Assert.Contains("PackageReference Include=\"Microsoft.CodeAnalysis.BannedApiAnalyzers\"", project, StringComparison.Ordinal);
        Assert.Contains("AdditionalFiles Include=\"BannedSymbols.txt\"", project, StringComparison.Ordinal);
    }

    [Fact]
    public void No_source_of_the_engine_silences_the_rule()
    {
        Findings.None(Repository.Lines(Repository.Files.Where(file => file.StartsWith("src/", StringComparison.Ordinal)), line => line.Contains("RS0030", StringComparison.Ordinal)));
    }
}
