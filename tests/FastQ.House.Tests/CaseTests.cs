using System.Text.RegularExpressions;
using Xunit;

namespace FastQ.House;

// Two tables say where a promise is tested: tests/CASES.md (faults of other brokers) and tests/SCENARIOS.md (of the design). Each name in them leads somewhere.
public partial class CaseTests
{
    private const int Scenarios = 60;

    [Theory]
    [InlineData("tests/CASES.md")]
    [InlineData("tests/SCENARIOS.md")]
    public void Each_test_that_a_table_names_is_there(string table)
    {
        string[] named = [.. Spans().Matches(Repository.Text(table)).Select(match => match.Groups[1].Value).Where(span => span.Count(letter => letter == '_') > 1).Distinct()];

        Assert.NotEmpty(named);
        Findings.None(named.Where(name => !IsTest(name)));
    }

    [Fact]
    public void Each_planted_bug_that_the_table_of_scenarios_names_is_there()
    {
        string[] named = [.. Rows("tests/SCENARIOS.md", 'R').SelectMany(row => Planted().Matches(row)).Select(match => match.Groups[1].Value).Distinct()];
        string[] planted = [.. Repository.Text("tests/FastQ.Simulation/planted.txt").Split('\n').Where(line => line.StartsWith("== ", StringComparison.Ordinal)).Select(line => line[3..].Split(':')[0])];

        Assert.NotEmpty(named);
        Findings.None(named.Except(planted));
    }

    [Fact]
    public void Each_scenario_has_one_row_that_says_what_shows_it_or_what_it_waits_for()
    {
        string[][] rows = [.. Rows("tests/SCENARIOS.md", 'R').Select(row => row.Split('|', StringSplitOptions.TrimEntries)[1..^1])];

        Assert.Equal(Enumerable.Range(1, Scenarios).Select(number => $"R{number}"), rows.Select(row => row[0]));
        Findings.None(rows.Where(row => row.Length != 3 || row[1].Length == 0 || !SaysWhere(row[2])).Select(row => string.Join(" | ", row)));
    }

    [Fact]
    public void No_case_is_left_to_do()
    {
        Findings.None(Rows("tests/CASES.md", 'B').Where(row => !SaysWhere(row.Split('|', StringSplitOptions.TrimEntries)[^2])));
    }

    /// <summary>The rows of a table whose ids begin with a letter.</summary>
    private static IEnumerable<string> Rows(string table, char letter) => Repository.Text(table).Split('\n').Where(line => line.StartsWith($"| {letter}", StringComparison.Ordinal));

    private static bool SaysWhere(string cell) => cell.Contains("waits for", StringComparison.Ordinal) || Spans().Matches(cell).Any(match => IsTest(match.Groups[1].Value) || Planted().IsMatch(match.Value));

    /// <summary>Suite.Class.Method, and the method is a test. A class may lie in several files: HostileClientTests.Rings.cs.</summary>
    private static bool IsTest(string name)
    {
        string[] parts = name.Split('.');
        return parts.Length == 3 && Repository.Files.Any(file => IsOf(file, parts[0], parts[1]) && Regex.IsMatch(Repository.Text(file), $@"\[(Fact|Theory|Property)\b[^\n]*\]\s+(\[[^\n]*\]\s+)*public [^\n(]*\b{parts[2]}\("));
    }

    private static bool IsOf(string file, string suite, string name) =>
        (file.StartsWith($"tests/FastQ.{suite}.Tests/{name}.", StringComparison.Ordinal) || file.StartsWith($"tests/FastQ.{suite}/{name}.", StringComparison.Ordinal)) && file.EndsWith(".cs", StringComparison.Ordinal);

    /// <summary>What stands between backticks in one line.</summary>
    [GeneratedRegex("`([^`\n]+)`")]
    private static partial Regex Spans();

    [GeneratedRegex("`planted/([^`\n]+)`")]
    private static partial Regex Planted();
}
