using Xunit;

namespace FastQ.Protocol;

// A page or a format differs in places: a failure lists every one of them, a line each.
internal static class Findings
{
    public static void None(IEnumerable<string> findings)
    {
        string[] found = [.. findings];
        Assert.True(found.Length == 0, $"{found.Length} found:\n{string.Join('\n', found)}");
    }
}
