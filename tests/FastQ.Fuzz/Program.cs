using System.Diagnostics;
using System.Globalization;
using SharpFuzz;

namespace FastQ.Fuzz;

// Throws bytes at the places where bytes come in from outside, guided by what they reach:
//
//   Program: copies itself to artifacts/fuzz, has SharpFuzz write a trace into each branch of the copy's rooms, and runs the copy
//      '-> inside: Campaign: corpus -> mutate -> target -> reached something new? keep it -> ...
//
// A finding (an exception, a hang, growth, a death of the process) is an input in a file and the command that runs it again. Exit codes: 0
// nothing found, 1 a finding, 2 used wrongly.
internal static class Program
{
    private const string Inside = "inside";
    private static readonly string[] s_rooms = ["FastQ.Protocol", "FastQ.Journal", "FastQ.Engine", "FastQ.Broker", "FastQ.Client"];

    // Seams and threads of the machine: what they do depends on it, not on the input.
    private static readonly string[] s_notTraced = ["FastQ.Journal.SimulatedStorage", "FastQ.Journal.ThreadStorage", "FastQ.Journal.UringStorage"];

    private sealed record Options(string Target, double Minutes, long Inputs, int Seed, string? Replay, bool Keeps);

    public static int Main(string[] args)
    {
        bool isInside = args is [Inside, ..];
        if (!TryRead(isInside ? args[1..] : args, out Options options, out string problem))
        {
            Console.Error.WriteLine($"""
                {problem}
                Usage: FastQ.Fuzz [--target {string.Join('|', Targets.Names)}|all] [--minutes M | --inputs N] [--seed S] [--keep] [--replay FILE]
                """);
            return 2;
        }

        if (options.Replay is string file)
        {
            using ITarget target = Targets.Make(options.Target);
            target.Run(File.ReadAllBytes(file));
            Console.WriteLine($"{options.Target}: {file} does no harm");
            return 0;
        }

        return isInside ? RunInside(options) : RunCopy(args);
    }

    private static bool TryRead(string[] args, out Options options, out string problem)
    {
        options = new Options("all", 5, 0, 1, null, false);
        problem = "";
        for (int i = 0; i < args.Length; i++)
        {
            string value = i + 1 < args.Length ? args[i + 1] : "";
            bool isRead = true;
            (options, isRead) = args[i] switch
            {
                "--target" => (options with { Target = value }, value == "all" || Targets.Names.Contains(value)),
                "--minutes" => (options with { Minutes = double.TryParse(value, CultureInfo.InvariantCulture, out double minutes) ? minutes : 0 }, double.TryParse(value, CultureInfo.InvariantCulture, out _)),
                "--inputs" => (options with { Inputs = long.TryParse(value, out long inputs) ? inputs : 0 }, long.TryParse(value, out _)),
                "--seed" => (options with { Seed = int.TryParse(value, out int seed) ? seed : 0 }, int.TryParse(value, out _)),
                "--replay" => (options with { Replay = value }, File.Exists(value)),
                "--keep" => (options with { Keeps = true }, true),
                _ => (options, false),
            };
            if (!isRead)
            {
                problem = $"'{args[i]} {value}' is not understood.";
                return false;
            }

            i += args[i] == "--keep" ? 0 : 1;
        }

        if (options.Replay is not null && options.Target == "all")
        {
            problem = "--replay needs the --target that the file is for.";
            return false;
        }

        return true;
    }

    /// <summary>Makes the copy, runs it, and looks at how it ended.</summary>
    private static int RunCopy(string[] args)
    {
        string copy = Path.Combine(Places.Fuzz, $"traced-{Environment.ProcessId}");
        Directory.CreateDirectory(copy);
        try
        {
            foreach (string file in Directory.GetFiles(AppContext.BaseDirectory))
            {
                File.Copy(file, Path.Combine(copy, Path.GetFileName(file)));
            }

            foreach (string room in s_rooms)
            {
                _ = Fuzzer.Instrument(Path.Combine(copy, $"{room}.dll"), type => !s_notTraced.Any(name => type.StartsWith(name, StringComparison.Ordinal)), SharpFuzz.Options.Value).Count();
            }

            ProcessStartInfo start = new(Path.Combine(copy, "FastQ.Fuzz"), [Inside, .. args]);
            start.Environment["FASTQ_ROOT"] = Places.Root;
            using Process inside = Process.Start(start)!;
            inside.WaitForExit();
            if (inside.ExitCode is not (0 or 1) && Finding.TakeLast(out string target, out byte[] input))
            {
                Finding.Keep(target, input, $"the process ended with {inside.ExitCode}");
                return 1;
            }

            return inside.ExitCode;
        }
        finally
        {
            Directory.Delete(copy, recursive: true);
        }
    }

    private static int RunInside(Options options)
    {
        Trace.Begin();
        string[] names = options.Target == "all" ? Targets.Names : [options.Target];
        Console.WriteLine("| target | seed | corpus | inputs | kept | places reached | a second |\n|---|---|---|---|---|---|---|");
        foreach (string name in names)
        {
            using ITarget target = Targets.Make(name);
            Campaign campaign = new(name, target, options.Seed);
            if (!campaign.Run(TimeSpan.FromMinutes(options.Minutes / names.Length), options.Inputs, options.Keeps))
            {
                return 1;
            }
        }

        return 0;
    }
}
