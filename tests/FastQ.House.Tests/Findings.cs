using Xunit;

namespace FastQ.House;

// A rule is broken, or a page is wrong, in places: a failure lists every one of them, a line each, where the runner's own text stops after five.
internal static class Findings
{
    public static void None(IEnumerable<string> findings)
    {
        string[] found = [.. findings];
        Assert.True(found.Length == 0, $"{found.Length} found:\n{string.Join('\n', found)}");
    }
}
