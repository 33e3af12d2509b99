using System.Text.RegularExpressions;
using Xunit;

namespace FastQ.House;

public partial class PromiseTests
{
    [Fact]
    public void Each_test_that_the_README_names_is_there()
    {
        string[] named = [.. Named().Matches(Repository.Text("README.md")).Select(match => $"tests/FastQ.{match.Groups[1].Value}.Tests/{match.Groups[2].Value}.cs").Distinct()];

        Assert.NotEmpty(named);
        Findings.None(named.Where(file => !Repository.Files.Contains(file)));
    }

    [GeneratedRegex(@"`(\w+)\.(\w+Tests)(\.\w+)?`")]
    private static partial Regex Named();
}
