using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;

namespace FastQ.Simulation;

/// <summary>What a run with one bug, or none, came to.</summary>
/// <param name="Bug">Its name.</param>
/// <param name="IsCaught">Something was red.</param>
/// <param name="Seeds">How many worlds it took; 0: none were run, or they ended with the process.</param>
/// <param name="Message">What the first red one said.</param>
internal sealed record Catch(string Bug, bool IsCaught, long Seeds, string Message);

/// <summary>Runs the programs of the copy in which bugs are planted, each in a process of its own: some bugs end it.</summary>
internal static class PlantedRun
{
    private static readonly TimeSpan s_mostSilence = TimeSpan.FromSeconds(150);

    /// <summary>Worlds of the simulation from this seed on, until one breaks or so many did not.</summary>
    public static Catch Simulate(string root, string bug, long firstSeed, long seeds)
    {
        (int code, List<string> lines) = Run(root, "FastQ.Simulation", bug, ["simulate", "--first-seed", firstSeed.ToString(CultureInfo.InvariantCulture), "--seeds", seeds.ToString(CultureInfo.InvariantCulture), "--threads", "1", "--failures", "1"]);
        string? broken = lines.Find(line => line.StartsWith("seed ", StringComparison.Ordinal));
        if (broken is not null)
        {
            string[] parts = broken["seed ".Length..].Split(": ", 2);
            return new Catch(bug, true, long.Parse(parts[0], CultureInfo.InvariantCulture) - firstSeed + 1, parts[1]);
        }

        return code == 0 ? new Catch(bug, false, seeds, "") : new Catch(bug, true, 0, EndOf(code, lines));
    }

    /// <summary>Classes, or single tests, of a unit suite.</summary>
    public static Catch Test(string root, string bug, string suite, IEnumerable<string> classes)
    {
        (int code, List<string> lines) = Run(root, suite, bug, [.. classes.SelectMany(name => new[] { name.Contains('_', StringComparison.Ordinal) ? "-method" : "-class", name }), "-noColor"]);
        string? failed = lines.Find(line => line.Contains("[FAIL]", StringComparison.Ordinal))?.Trim();
        return new Catch(bug, code != 0, 0, code == 0 ? "" : failed ?? EndOf(code, lines));
    }

    /// <summary>The checker itself is spoiled: gives how many of so many worlds noticed.</summary>
    public static long CountCanaries(string root, long seeds)
    {
        string many = seeds.ToString(CultureInfo.InvariantCulture);
        (_, List<string> lines) = Run(root, "FastQ.Simulation", PlantedBug.Canary, ["simulate", "--seeds", many, "--threads", "1", "--failures", many]);
        return lines.Count(line => line.StartsWith("seed ", StringComparison.Ordinal));
    }

    private static string EndOf(int code, List<string> lines) => $"the process ends with {code}: {lines.Find(line => line.Contains("xception", StringComparison.Ordinal) || line.Contains("silent", StringComparison.Ordinal)) ?? lines.LastOrDefault()}";

    private static (int Code, List<string> Lines) Run(string root, string program, string bug, IEnumerable<string> arguments)
    {
        string path = Path.Combine(root, Planting.Folder, "artifacts/bin", program, "debug", program);
        if (!File.Exists(path))
        {
            throw new FileNotFoundException("It is not built. Run: ./build.sh planted --build", path);
        }

        ProcessStartInfo start = new(path, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["FASTQ_PLANTED"] = bug;
        start.Environment["DOTNET_DbgEnableMiniDump"] = "0";
        List<string> lines = [];
        long heard = Stopwatch.GetTimestamp();
        using Process process = new() { StartInfo = start };
        process.OutputDataReceived += Hear;
        process.ErrorDataReceived += Hear;
        process.Start();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        while (!process.WaitForExit(TimeSpan.FromSeconds(1)))
        {
            if (Stopwatch.GetElapsedTime(Interlocked.Read(ref heard)) > s_mostSilence)
            {
                process.Kill();
                process.WaitForExit();
                return (-1, [.. lines, $"silent for {s_mostSilence.TotalSeconds} s: it does not come to an end"]);
            }
        }

        process.WaitForExit(); // All that it said, too.
        return (process.ExitCode, lines);

        void Hear(object sender, DataReceivedEventArgs said)
        {
            lock (lines)
            {
                lines.AddRange(said.Data is string line && line.Length > 0 ? [line] : []);
            }

            Interlocked.Exchange(ref heard, Stopwatch.GetTimestamp());
        }
    }
}

/// <summary>planted [--seeds N] [--only NAME,...] [--json FILE]: every planted bug must be caught; the table says by whom.</summary>
internal static class PlantedCommand
{
    private const long CanarySeeds = 20;

    public static int Run(string[] args)
    {
        long seeds = 10_000;
        string? only = null, json = null;
        for (int i = 0; i < args.Length; i++)
        {
            string? value = i + 1 < args.Length ? args[i + 1] : null;
            switch (args[i])
            {
                case "--seeds" when long.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out seeds) && seeds > 0:
                case "--only" when (only = value) is not null:
                case "--json" when (json = value) is not null:
                    i++;
                    break;
                default:
                    Console.Error.WriteLine($"planted cannot take '{args[i]}': [--seeds N] [--only NAME,...] [--json FILE]");
                    return 2;
            }
        }

        string root = Environment.CurrentDirectory;
        List<PlantedBug> bugs = PlantedBug.Read(Path.Combine(root, PlantedBug.ListFile)).FindAll(bug => bug.Name != PlantedBug.Canary && (only is null || only.Split(',').Contains(bug.Name)));
        if (bugs.Count == 0)
        {
            Console.Error.WriteLine($"no planted bug is called '{only}'; {PlantedBug.ListFile} has them all");
            return 2;
        }

        Catch?[] caught = new Catch?[bugs.Count];
        _ = Parallel.For(0, bugs.Count, new ParallelOptions { MaxDegreeOfParallelism = Environment.ProcessorCount }, i =>
        {
            caught[i] = Try(root, bugs[i], seeds);
            Console.WriteLine($"{bugs[i].Name}: {(caught[i]!.IsCaught ? $"caught{(caught[i]!.Seeds > 0 ? $" by world {caught[i]!.Seeds}" : "")}" : "SURVIVES")}");
        });

        (string controls, bool isSound) = Control(root, bugs, caught.Max(one => one!.IsCaught ? one.Seeds : 0));
        int survivors = caught.Count(one => !one!.IsCaught);
        Console.WriteLine($"{controls}\n{bugs.Count} planted bugs, {survivors} survive");
        if (json is not null)
        {
            JsonArray all = new([.. bugs.Zip(caught, (bug, one) => new JsonObject
            {
                ["name"] = bug.Name,
                ["breaks"] = bug.Breaks,
                ["by"] = !one!.IsCaught ? null : bug.Suite is null ? "simulation" : string.Join(' ', bug.Classes),
                ["seeds"] = one.Seeds,
                ["says"] = one.Message,
            })]);
            File.WriteAllText(json, new JsonObject { ["budget"] = seeds, ["bugs"] = all, ["controls"] = controls, ["isSound"] = isSound }.ToJsonString());
        }

        return survivors == 0 && isSound ? 0 : 1;
    }

    private static Catch Try(string root, PlantedBug bug, long seeds)
    {
        const int Tries = 5; // A race between real threads is not lost each time; without the bug it never is.
        if (bug.Suite is not string suite)
        {
            return PlantedRun.Simulate(root, bug.Name, bug.FirstSeed, seeds);
        }

        Catch one = PlantedRun.Test(root, bug.Name, suite, bug.Classes);
        for (int i = 1; i < Tries && !one.IsCaught; i++)
        {
            one = PlantedRun.Test(root, bug.Name, suite, bug.Classes);
        }

        return one;
    }

    /// <summary>Without a bug all of it is green, and a spoiled checker is red in every world: else the catches say nothing.</summary>
    private static (string Says, bool IsSound) Control(string root, List<PlantedBug> bugs, long seeds)
    {
        const string None = "none";
        List<Catch> controls = [PlantedRun.Simulate(root, None, 1, Math.Max(seeds, CanarySeeds))];
        foreach (IGrouping<string, PlantedBug> suite in bugs.Where(bug => bug.Suite is not null).GroupBy(bug => bug.Suite!))
        {
            controls.Add(PlantedRun.Test(root, None, suite.Key, suite.SelectMany(bug => bug.Classes).Distinct()));
        }

        long canaries = PlantedRun.CountCanaries(root, CanarySeeds);
        bool isSound = canaries == CanarySeeds && controls.TrueForAll(control => !control.IsCaught);
        string red = string.Join("; ", controls.Where(control => control.IsCaught).Select(control => $"seed {control.Seeds}: {control.Message}"));
        return ($"control without a bug: {(red.Length == 0 ? $"green, {Math.Max(seeds, CanarySeeds)} seeds and {controls.Count - 1} suites" : $"RED: {red}")}\ncanary: {canaries} of {CanarySeeds} worlds noticed that the checker was told of a loss", isSound);
    }
}
