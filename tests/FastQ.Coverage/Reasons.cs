namespace FastQ.Coverage;

// tests/coverage.md: under each heading a reason, and the branches that it speaks for, a line each, as Branch.Key has them.

/// <summary>The committed reasons why branches are not reached.</summary>
internal sealed class Reasons
{
    private const string Item = "- ";
    private const string Heading = "## ";
    private const string NoReason = "## No reason yet";

    private readonly string _file;
    private readonly string[] _lines;
    private readonly Dictionary<string, string> _headings = [];

    public Reasons(string file)
    {
        _file = file;
        _lines = File.ReadAllLines(file);
        string heading = NoReason;
        foreach (string line in _lines)
        {
            heading = line.StartsWith(Heading, StringComparison.Ordinal) ? line : heading;
            if (line.StartsWith(Item, StringComparison.Ordinal))
            {
                _headings[line[Item.Length..]] = heading;
            }
        }
    }

    public IEnumerable<string> Listed => _headings.Keys;

    public bool Has(string key) => _headings.TryGetValue(key, out string? heading) && heading != NoReason;

    /// <summary>Drops the lines of branches that are reached or gone, and adds those that have none at the end, for someone to give them a reason.</summary>
    public void Rewrite(IEnumerable<string> notReached)
    {
        string[] keys = [.. notReached];
        string[] without = [.. keys.Where(key => !Has(key)).Order(StringComparer.Ordinal)];
        List<string> lines = [.. _lines.TakeWhile(line => line != NoReason).Where(line => !line.StartsWith(Item, StringComparison.Ordinal) || keys.Contains(line[Item.Length..]))];
        while (lines.Count > 0 && lines[^1].Length == 0)
        {
            lines.RemoveAt(lines.Count - 1);
        }

        if (without.Length > 0)
        {
            lines.AddRange(["", NoReason, "", .. without.Select(key => Item + key)]);
        }

        File.WriteAllLines(_file, lines);
    }
}
