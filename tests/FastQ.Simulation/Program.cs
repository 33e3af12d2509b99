using System.Globalization;
using FastQ.Simulation;

// The commands (./build.sh simulate, planted), and the runner of the tests when no such word comes first.
if (args.Length > 0 && args[0] == "simulate")
{
    return SimulateCommand.Run(args[1..]);
}

if (args.Length > 0 && args[0] == "plant")
{
    Planting.Plant(Environment.CurrentDirectory, Path.GetFullPath(Planting.Folder));
    return 0;
}

if (args.Length > 0 && args[0] == "planted")
{
    return PlantedCommand.Run(args[1..]);
}

return args.Any(static arg => arg is "--server" or "--internal-msbuild-node")
    ? await Xunit.MicrosoftTestingPlatform.TestPlatformTestFramework.RunAsync(args, SelfRegisteredExtensions.AddSelfRegisteredExtensions)
    : await Xunit.Runner.InProc.SystemConsole.ConsoleRunner.Run(args);

/// <summary>simulate [--seeds N] [--minutes M] [--first-seed S] [--threads T] [--failures N] [--residues R] [--lying] [--json FILE] [--seed S [--keep ACTS] [--trace]]</summary>
internal static class SimulateCommand
{
    public static int Run(string[] args)
    {
        ulong? seed = null;
        string? keep = null, json = null, residues = null;
        long seeds = long.MaxValue;
        double minutes = 1;
        ulong firstSeed = 1;
        int threads = Math.Max(1, Environment.ProcessorCount), failures = 20;
        bool trace = false, lying = false;
        for (int i = 0; i < args.Length; i++)
        {
            switch (args[i])
            {
                case "--seed":
                    seed = ulong.Parse(args[++i], CultureInfo.InvariantCulture);
                    break;
                case "--keep":
                    keep = args[++i];
                    break;
                case "--json":
                    json = args[++i];
                    break;
                case "--seeds":
                    seeds = long.Parse(args[++i], CultureInfo.InvariantCulture);
                    minutes = double.MaxValue;
                    break;
                case "--minutes":
                    minutes = double.Parse(args[++i], CultureInfo.InvariantCulture);
                    break;
                case "--first-seed":
                    firstSeed = ulong.Parse(args[++i], CultureInfo.InvariantCulture);
                    break;
                case "--residues":
                    residues = args[++i];
                    break;
                case "--threads":
                    threads = int.Parse(args[++i], CultureInfo.InvariantCulture);
                    break;
                case "--failures":
                    failures = int.Parse(args[++i], CultureInfo.InvariantCulture);
                    break;
                case "--lying":
                    lying = true;
                    break;
                case "--trace":
                    trace = true;
                    break;
                default:
                    Console.Error.WriteLine($"simulate has no option '{args[i]}': [--seeds N] [--minutes M] [--first-seed S] [--threads T] [--failures N] [--residues R] [--lying] [--json FILE] [--seed S [--keep ACTS] [--trace]]");
                    return 2;
            }
        }

        if (seed is ulong one)
        {
            History history = History.Of(one, lying);
            history = keep is null ? history : history.With(Ranges.Read(keep));
            Verdict verdict = World.Run(history, trace ? Console.Out : null);
            Console.WriteLine(verdict.Violation ?? $"seed {one}: every promise kept, trace {verdict.Hash:x16}");
            if (verdict.Violation is not null && keep is null && !trace)
            {
                const int MostRuns = 400;
                Console.WriteLine($"replay the shortest history found: ./build.sh simulate --seed {one}{(lying ? " --lying" : "")} --keep {Ranges.Write(Shrinking.Shrink(history, MostRuns))} --trace");
            }

            return verdict.Violation is null ? 0 : 1;
        }

        Campaign campaign = new(firstSeed, seeds, TimeSpan.FromMinutes(Math.Min(minutes, 1e6))) { MayLie = lying, Threads = threads, MostFailures = failures, Residues = residues is null ? null : Ranges.Read(residues) };
        campaign.Run(Console.Out);
        if (json is not null)
        {
            File.WriteAllText(json, campaign.ToJson().ToJsonString());
        }

        return campaign.Failures.Count == 0 ? 0 : 1;
    }
}
