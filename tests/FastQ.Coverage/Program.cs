using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;

namespace FastQ.Coverage;

// Which branches of the engine and the journal do their suites and the simulation reach? Run by ./build.sh coverage, after a build of its own
// under artifacts/coverage, not optimised, for the optimiser merges branches.
//
//   Instrumenter: a trace in each branch -> the suites run -> what was not reached, against the reasons in tests/coverage.md
//
// Exit codes: 0 enough is reached and each branch that is not has a reason, 1 otherwise, 2 used wrongly.
internal static class Program
{
    private const double LeastPercent = 90;
    private const int Seeds = 400;
    private static readonly string[] s_rooms = ["FastQ.Engine", "FastQ.Journal"];
    private static readonly (string Project, string[] Arguments)[] s_suites =
    [
        ("FastQ.Simulation", ["simulate", "--seeds"]), // First: what it alone reaches is told apart.
        ("FastQ.Engine.Tests", ["-noColor"]),
        ("FastQ.Journal.Tests", ["-noColor"]),
    ];

    public static int Main(string[] args)
    {
        bool writes = false;
        string? json = null;
        string seeds = Seeds.ToString(CultureInfo.InvariantCulture);
        for (int i = 0; i < args.Length; i++)
        {
            if (args[i] == "--write")
            {
                writes = true;
            }
            else if (args[i] == "--seeds" && i + 1 < args.Length && int.TryParse(args[i + 1], NumberStyles.None, CultureInfo.InvariantCulture, out int count) && count > 0)
            {
                seeds = args[++i];
            }
            else if (args[i] == "--json" && i + 1 < args.Length)
            {
                json = args[++i];
            }
            else
            {
                Console.Error.WriteLine($"coverage does not understand '{args[i]}': [--seeds N] [--write] [--json FILE]");
                return 2;
            }
        }

        string root = Root();
        string built = Path.Combine(root, "artifacts/coverage/bin");
        string map = Path.Combine(root, "artifacts/coverage/reached");
        Instrumenter instrumenter = new(root);
        foreach (string room in s_rooms)
        {
            instrumenter.Instrument(room, Path.Combine(built, room, "debug", room + ".dll"), s_suites.Select(suite => Path.Combine(built, suite.Project, "debug", room + ".dll")).Where(File.Exists));
        }

        File.WriteAllBytes(map, new byte[instrumenter.Branches.Count]);
        byte[]? simulated = null;
        bool allGreen = true;
        foreach ((string project, string[] arguments) in s_suites)
        {
            allGreen &= Run(Path.Combine(built, project, "debug", project), project == "FastQ.Simulation" ? [.. arguments, seeds] : arguments, map);
            simulated ??= File.ReadAllBytes(map);
        }

        byte[] reached = File.ReadAllBytes(map);
        if (json is not null)
        {
            File.WriteAllText(json, new JsonObject
            {
                ["seeds"] = int.Parse(seeds, CultureInfo.InvariantCulture),
                ["rooms"] = new JsonArray([.. instrumenter.Branches.GroupBy(branch => branch.Room).Select(room => new JsonObject
                {
                    ["room"] = room.Key,
                    ["branches"] = room.Count(),
                    ["bySimulation"] = room.Count(branch => simulated![branch.Number] != 0),
                    ["reached"] = room.Count(branch => reached[branch.Number] != 0),
                })]),
            }.ToJsonString());
        }

        return Report(instrumenter.Branches, reached, new Reasons(Path.Combine(root, "tests/coverage.md")), writes) && allGreen ? 0 : 1;
    }

    private static string Root()
    {
        DirectoryInfo? folder = new(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "FastQ.sln")))
        {
            folder = folder.Parent;
        }

        return folder?.FullName ?? throw new InvalidOperationException($"No FastQ.sln in {AppContext.BaseDirectory} or above it.");
    }

    private static bool Run(string program, string[] arguments, string map)
    {
        ProcessStartInfo start = new(program, arguments);
        start.Environment[Trace.MapVariable] = map;
        start.Environment["DOTNET_STARTUP_HOOKS"] = typeof(Trace).Assembly.Location;
        using Process suite = Process.Start(start)!;
        suite.WaitForExit();
        if (suite.ExitCode != 0)
        {
            Console.WriteLine($"{Path.GetFileName(program)} ended with {suite.ExitCode}");
        }

        return suite.ExitCode == 0;
    }

    private static bool Report(IReadOnlyList<Branch> branches, byte[] reached, Reasons reasons, bool writes)
    {
        Branch[] not = [.. branches.Where(branch => reached[branch.Number] == 0).OrderBy(branch => branch.File, StringComparer.Ordinal).ThenBy(branch => branch.Line)];
        foreach (Branch branch in not)
        {
            Console.WriteLine($"{branch.Line,5} {branch.Key}{(reasons.Has(branch.Key) ? "" : "  <-- no reason")}");
        }

        Console.WriteLine();
        Console.WriteLine($"{"branches",10}{"reached",10}{"percent",10}");
        bool enough = true;
        foreach (IGrouping<string, Branch> room in branches.GroupBy(branch => branch.Room))
        {
            foreach (IGrouping<string, Branch> file in room.GroupBy(branch => branch.File).OrderBy(file => file.Key, StringComparer.Ordinal))
            {
                Row(file.Key, file, reached);
            }

            enough &= Row(room.Key, room, reached) >= LeastPercent;
        }

        Branch[] unexplained = [.. not.Where(branch => !reasons.Has(branch.Key))];
        string[] stale = [.. reasons.Listed.Except(not.Select(branch => branch.Key))];
        Console.WriteLine($"{not.Length} not reached, {unexplained.Length} of them without a reason in tests/coverage.md; {stale.Length} listed there and reached, or gone");
        if (writes)
        {
            reasons.Rewrite(not.Select(branch => branch.Key));
        }
        else
        {
            foreach (string key in stale)
            {
                Console.WriteLine($"      {key}");
            }
        }

        if (!enough)
        {
            Console.WriteLine($"A room is below {LeastPercent} %.");
        }

        return enough && unexplained.Length == 0;
    }

    private static double Row(string name, IEnumerable<Branch> branches, byte[] reached)
    {
        int all = branches.Count(), hit = branches.Count(branch => reached[branch.Number] != 0);
        double percent = 100.0 * hit / all;
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{all,10}{hit,10}{percent,10:F1}  {name}"));
        return percent;
    }
}
