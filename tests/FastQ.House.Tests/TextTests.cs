using System.Text.RegularExpressions;
using Xunit;

namespace FastQ.House;

// What no tracked text may say. The forbidden words are put together from halves, so that this file does not hold them.
public partial class TextTests
{
    [GeneratedRegex("(?<![A-Za-z0-9_.}*])/(?:wo" + "rk|ro" + "ot|fa" + "rm|home/[a-z])\\b")]
    private static partial Regex MachinePath { get; }

    [GeneratedRegex("\\b(?:TO" + "DO|FIX" + "ME|HA" + "CK|XX" + "X|NotImplemented" + "Exception)\\b")]
    private static partial Regex UnfinishedWord { get; }

    [GeneratedRegex("\\bThread\\.Sle" + "ep\\b|\\bTask\\.Del" + "ay\\b")]
    private static partial Regex FixedWait { get; }

    [GeneratedRegex("\\bSkip\\w* *=|\\bExplicit *= *tr" + "ue|\\bAssert\\.Sk" + "ip")]
    private static partial Regex SkippedTest { get; }

    private static IEnumerable<string> TestSources => Repository.Files.Where(file => file.StartsWith("tests/", StringComparison.Ordinal) && file.EndsWith(".cs", StringComparison.Ordinal));

    [Fact]
    public void No_file_names_a_path_of_the_machine_it_was_written_on()
    {
        Findings.None(Repository.Lines(Repository.TextFiles, MachinePath.IsMatch));
    }

    [Fact]
    public void No_file_holds_a_word_for_unfinished_work()
    {
        Findings.None(Repository.Lines(Repository.TextFiles, UnfinishedWord.IsMatch));
    }

    [Fact]
    public void No_test_waits_for_a_time()
    {
        Assert.NotEmpty(TestSources);
        Findings.None(Repository.Lines(TestSources, FixedWait.IsMatch));
    }

    [Fact]
    public void No_test_is_skipped()
    {
        Findings.None(Repository.Lines(TestSources.Where(file => !file.EndsWith("/TextTests.cs", StringComparison.Ordinal)), SkippedTest.IsMatch));
    }
}
