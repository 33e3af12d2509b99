using System.Globalization;
using System.Text;

namespace FastQ.Simulation;

// Planted bugs: faults that the tests must find. planted.txt lists them as changes of the sources; a copy of the sources under artifacts/planted
// holds all of them, each behind a switch of its own, and FASTQ_PLANTED=name throws one. What is shipped never knew of them.

/// <summary>One change: in this file, these lines, once, become those. In them PLANTED says whether the switch is thrown.</summary>
internal sealed record Change(string File, string Find, string Plant);

/// <summary>A planted bug.</summary>
/// <param name="Name">Of the switch.</param>
/// <param name="Breaks">In words.</param>
/// <param name="Suite">The test project that catches it; null: the simulation does.</param>
/// <param name="Classes">Of that project, the classes to run, or single tests of them.</param>
/// <param name="FirstSeed">Of the worlds to try: for what is rare, one that once found it.</param>
/// <param name="IsQuick">Few seeds are enough: every test run tries it.</param>
/// <param name="Changes">What is changed.</param>
internal sealed record PlantedBug(string Name, string Breaks, string? Suite, IReadOnlyList<string> Classes, long FirstSeed, bool IsQuick, IReadOnlyList<Change> Changes)
{
    public const string ListFile = "tests/FastQ.Simulation/planted.txt";

    /// <summary>The switch that spoils the checker instead of the broker: every world must break.</summary>
    public const string Canary = "canary";

    /// <summary>
    /// Reads the list. A bug is a line "== name: what it breaks", a line "caught by ..." and its changes: the file's name alone, the lines
    /// that must be there once, each after "- ", and what stands in their place, each after "+ ".
    /// </summary>
    public static List<PlantedBug> Read(string path)
    {
        List<PlantedBug> bugs = [];
        string[] lines = [.. File.ReadLines(path).Where(line => line.Length > 0 && line[0] != '#')];
        for (int i = 0; i < lines.Length;)
        {
            (string name, string breaks) = Split(Expect(lines[i++], "== "), ": ");
            string[] caught = Expect(lines[i++], "caught by ").Split(' ');
            bool isUnit = caught[0].StartsWith("FastQ.", StringComparison.Ordinal);
            List<Change> changes = [];
            while (i < lines.Length && !lines[i].StartsWith("== ", StringComparison.Ordinal))
            {
                string file = Expect(lines[i++], "in ");
                changes.Add(new Change(file, TakeText(lines, ref i, '-'), TakeText(lines, ref i, '+')));
            }

            bool isWhole = changes.Count > 0 && changes.TrueForAll(change => change.Find.Length > 0 && change.Plant.Contains("PLANTED", StringComparison.Ordinal));
            if (!isWhole || bugs.Exists(bug => bug.Name == name) || (!isUnit && caught[0] != "simulation"))
            {
                throw new InvalidDataException($"{name}: each planted bug is there once, says who catches it, and each of its changes has lines to find and lines with PLANTED.");
            }

            bugs.Add(new PlantedBug(name, breaks, isUnit ? caught[0] : null, isUnit ? caught[1..] : [], caught is [_, "from", string first] ? long.Parse(first, CultureInfo.InvariantCulture) : 1, caught.Contains("quickly"), changes));
        }

        return bugs;
    }

    private static string TakeText(string[] lines, ref int at, char mark)
    {
        List<string> text = [];
        for (; at < lines.Length && lines[at][0] == mark; at++)
        {
            text.Add(lines[at].Length > 2 ? lines[at][2..] : "");
        }

        return string.Join('\n', text);
    }

    private static string Expect(string line, string start) => line.StartsWith(start, StringComparison.Ordinal) ? line[start.Length..] : throw new InvalidDataException($"'{line}' stands where '{start}' was expected.");

    private static (string Before, string After) Split(string text, string by) => text.Split(by, 2) is [string before, string after] ? (before, after) : throw new InvalidDataException($"'{text}' has no '{by}'.");
}

/// <summary>Makes the copy of the sources in which all bugs are planted.</summary>
internal static class Planting
{
    public const string Folder = "artifacts/planted";
    private static readonly string[] s_folders = ["src", "tests"];

    /// <summary>Gives what to build: the simulation and the suites that the list names.</summary>
    public static void Plant(string root, string into)
    {
        List<PlantedBug> bugs = PlantedBug.Read(Path.Combine(root, PlantedBug.ListFile));
        Dictionary<string, string> changed = Change(root, bugs);
        List<string> copied = [.. s_folders.SelectMany(folder => Directory.EnumerateFiles(Path.Combine(root, folder), "*", SearchOption.AllDirectories)).Select(path => Path.GetRelativePath(root, path))];
        copied.AddRange(["Directory.Build.props", "Directory.Packages.props", "global.json"]);
        foreach (string name in copied)
        {
            string text = changed.TryGetValue(name, out string? planted) ? planted : "";
            Update(Path.Combine(into, name), text.Length > 0 ? Encoding.UTF8.GetBytes(text) : File.ReadAllBytes(Path.Combine(root, name)));
        }

        RemoveOthers(into, [.. copied]);
        IEnumerable<string> projects = bugs.Select(bug => bug.Suite).OfType<string>().Append("FastQ.Simulation").Distinct().Select(name => $"<Project Path=\"tests/{name}/{name}.csproj\" />");
        Update(Path.Combine(into, "Planted.slnx"), Encoding.UTF8.GetBytes($"<Solution>{string.Concat(projects)}</Solution>\n"));
    }

    /// <summary>The changed files' texts, by name. Throws when a text is not there exactly once: then the list is not true any more.</summary>
    public static Dictionary<string, string> Change(string root, IReadOnlyList<PlantedBug> bugs)
    {
        Dictionary<string, string> changed = [];
        foreach (PlantedBug bug in bugs)
        {
            foreach (Change change in bug.Changes)
            {
                string original = File.ReadAllText(Path.Combine(root, change.File));
                string text = changed.GetValueOrDefault(change.File, original);
                int at = text.IndexOf(change.Find, StringComparison.Ordinal);
                bool isOnce = at >= 0 && text.IndexOf(change.Find, at + 1, StringComparison.Ordinal) < 0;
                if (!isOnce || original.IndexOf(change.Find, StringComparison.Ordinal) < 0)
                {
                    throw new InvalidDataException($"{bug.Name}: this must be in {change.File} exactly once, and not where another bug is planted:\n{change.Find}");
                }

                changed[change.File] = string.Concat(text.AsSpan(0, at), change.Plant.Replace("PLANTED", $"Planted.On(\"{bug.Name}\")", StringComparison.Ordinal), text.AsSpan(at + change.Find.Length));
            }
        }

        // Each changed file has the switch for itself: no room gets a neighbour that it does not have.
        const string Switch = "\nfile static class Planted\n{\n    private static readonly string? s_name = System.Environment.GetEnvironmentVariable(\"FASTQ_PLANTED\");\n\n    public static bool On(string name) => s_name == name;\n}\n";
        return changed.ToDictionary(file => file.Key, file => file.Value + Switch);
    }

    /// <summary>What has not changed keeps its time, so that it is not built again.</summary>
    private static void Update(string path, byte[] bytes)
    {
        if (!File.Exists(path) || !File.ReadAllBytes(path).AsSpan().SequenceEqual(bytes))
        {
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            File.WriteAllBytes(path, bytes);
        }
    }

    private static void RemoveOthers(string into, HashSet<string> copied)
    {
        foreach (string path in s_folders.SelectMany(folder => Directory.EnumerateFiles(Path.Combine(into, folder), "*", SearchOption.AllDirectories)).ToArray())
        {
            if (!copied.Contains(Path.GetRelativePath(into, path)))
            {
                File.Delete(path);
            }
        }
    }
}
