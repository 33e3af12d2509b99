using System.Text.RegularExpressions;
using Xunit;

namespace FastQ.House;

public partial class CaseTests
{
    [Fact]
    public void Each_test_that_the_table_of_cases_names_is_there()
    {
        (string Name, string Project, string Class, string Test)[] named = [.. Named().Matches(Repository.Text("tests/CASES.md")).Select(match => (match.Value, match.Groups[1].Value, match.Groups[2].Value, match.Groups[3].Value)).Distinct()];

        Assert.NotEmpty(named);
        Findings.None(named.Where(test => !Repository.Files.Any(file => IsOf(file, test.Project, test.Class) && Regex.IsMatch(Repository.Text(file), $@"\b{test.Test}\("))).Select(test => test.Name));
    }

    /// <summary>A class may lie in several files: HostileClientTests.Rings.cs.</summary>
    private static bool IsOf(string file, string project, string name) =>
        file.StartsWith($"tests/FastQ.{project}.Tests/{name}.", StringComparison.Ordinal) && file.EndsWith(".cs", StringComparison.Ordinal);

    [GeneratedRegex(@"`(\w+)\.(\w+Tests)\.(\w+)`")]
    private static partial Regex Named();
}
