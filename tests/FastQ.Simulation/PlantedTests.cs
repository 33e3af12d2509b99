using Xunit;

namespace FastQ.Simulation;

// The teeth: bugs planted in a copy of the sources (planted.txt) must be caught. Here those that a few worlds find; ./build.sh planted tries all.
public sealed class PlantedTests(ITestOutputHelper output)
{
    private const long QuickSeeds = 50;

    private static readonly string s_root = FindRoot();

    public static TheoryData<string> QuickBugs => [.. Bugs().Where(bug => bug.IsQuick).Select(bug => bug.Name)];

    [Theory]
    [MemberData(nameof(QuickBugs))]
    public void A_planted_bug_is_caught_within_a_few_worlds(string name)
    {
        Catch result = PlantedRun.Simulate(s_root, name, 1, QuickSeeds);
        output.WriteLine(result.ToString());
        Assert.True(result.IsCaught, $"{QuickSeeds} worlds did not see '{name}'");
    }

    [Fact]
    public void The_copy_without_a_bug_thrown_keeps_every_promise() => Assert.Equal(new Catch("none", false, 20, ""), PlantedRun.Simulate(s_root, "none", 1, 20));

    [Fact]
    public void Every_world_notices_that_its_checker_was_told_of_a_loss() => Assert.Equal(10, PlantedRun.CountCanaries(s_root, 10));

    [Fact]
    public void Every_planted_bug_still_finds_its_place()
    {
        List<PlantedBug> bugs = Bugs();
        Assert.NotEmpty(Planting.Change(s_root, bugs));
        Assert.True(bugs.Count > 40, $"{bugs.Count} planted bugs");
        foreach (PlantedBug bug in bugs)
        {
            Change lost = bug.Changes[0] with { Find = bug.Changes[0].Find + " is not there" };
            InvalidDataException refusal = Assert.Throws<InvalidDataException>(() => Planting.Change(s_root, [bug with { Changes = [lost] }]));
            Assert.StartsWith(bug.Name + ":", refusal.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void What_is_shipped_has_no_switch_for_bugs() =>
        Assert.DoesNotContain(Directory.EnumerateFiles(Path.Combine(s_root, "src"), "*", SearchOption.AllDirectories), file => File.ReadAllText(file) is string text && (text.Contains("FASTQ_PLANTED", StringComparison.Ordinal) || text.Contains("PLANTED", StringComparison.Ordinal) || text.Contains("Planted.On", StringComparison.Ordinal)));

    private static List<PlantedBug> Bugs() => PlantedBug.Read(Path.Combine(s_root, PlantedBug.ListFile));

    private static string FindRoot()
    {
        string? at = AppContext.BaseDirectory;
        while (at is not null && !File.Exists(Path.Combine(at, "FastQ.sln")))
        {
            at = Path.GetDirectoryName(at);
        }

        return at ?? throw new InvalidOperationException("No folder above has FastQ.sln.");
    }
}
