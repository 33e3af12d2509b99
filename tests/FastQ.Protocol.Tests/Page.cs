using System.Globalization;
using System.Text.RegularExpressions;

namespace FastQ.Protocol;

// The page of a room, read as what it promises: each table under the "### " heading that names it.
//
//   ### TagRun (16 bytes)                      a struct: offset, size, field, meaning
//   ### enum Outcome                           an enum: value, name, ...
//   ### Limits                                 constants: name, value, reason

/// <summary>A table of the page.</summary>
/// <param name="Heading">What follows "### ".</param>
/// <param name="Columns">Names of the columns.</param>
/// <param name="Rows">Cells, trimmed; as many in each row as there are columns.</param>
internal sealed record PageTable(string Heading, string[] Columns, string[][] Rows)
{
    /// <summary>The cells of one column.</summary>
    public IEnumerable<string> Column(string name) => Rows.Select(row => row[Array.IndexOf(Columns, name)]);

    /// <summary>The cells of some columns, in their order, joined for comparing.</summary>
    public string[] Lines(params string[] columns) => [.. Rows.Select(row => string.Join(" | ", columns.Select(column => row[Array.IndexOf(Columns, column)])))];
}

internal static partial class Page
{
    private static readonly string s_text = File.ReadAllText(Path.Combine(Checkout.Root, "src", "FastQ.Protocol", "README.md"));

    [GeneratedRegex(@"^(?<name>\w+) \((?<bytes>\d+) bytes\)$")]
    private static partial Regex StructHeading { get; }

    public static string Text => s_text;

    /// <summary>Every table that stands first under a heading of its own.</summary>
    public static IReadOnlyList<PageTable> Tables { get; } = [.. Read(s_text.Split('\n'))];

    /// <summary>The tables of structs: name, size as the heading says, table.</summary>
    public static IEnumerable<(string Name, int Bytes, PageTable Table)> Structs =>
        from table in Tables
        let heading = StructHeading.Match(table.Heading)
        where heading.Success
        select (heading.Groups["name"].Value, int.Parse(heading.Groups["bytes"].Value, CultureInfo.InvariantCulture), table);

    /// <summary>The tables of enums, by name.</summary>
    public static IEnumerable<(string Name, PageTable Table)> Enums =>
        from table in Tables
        where table.Heading.StartsWith("enum ", StringComparison.Ordinal)
        select (table.Heading["enum ".Length..], table);

    public static PageTable Table(string heading) => Tables.Single(table => table.Heading == heading);

    private static IEnumerable<PageTable> Read(string[] lines)
    {
        for (int i = 0; i < lines.Length; i++)
        {
            if (!lines[i].StartsWith("### ", StringComparison.Ordinal))
            {
                continue;
            }

            string heading = lines[i][4..].Trim();
            string[] table = [.. lines.Skip(i + 1).TakeWhile(line => !line.StartsWith('#')).SkipWhile(line => !line.StartsWith('|')).TakeWhile(line => line.StartsWith('|'))];
            if (table.Length > 2)
            {
                yield return new PageTable(heading, Cells(table[0]), [.. table.Skip(2).Select(Cells)]);
            }
        }
    }

    private static string[] Cells(string row) => [.. row.Trim().Trim('|').Split('|').Select(cell => cell.Trim())];
}

/// <summary>Where these tests were built from.</summary>
internal static class Checkout
{
    public static string Root { get; } = Find();

    private static string Find()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "FastQ.sln")))
            {
                return folder.FullName;
            }
        }

        throw new InvalidOperationException($"No FastQ.sln in {AppContext.BaseDirectory} or above it: these tests run inside a checkout.");
    }
}
