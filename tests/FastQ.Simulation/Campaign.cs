using System.Diagnostics;
using System.Text.Json.Nodes;

namespace FastQ.Simulation;

/// <summary>Many worlds, two at once, until so many seeds or so much time.</summary>
internal sealed class Campaign(ulong firstSeed, long seeds, TimeSpan time)
{
    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(2);
    private readonly Lock _gate = new();
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private long _begun;
    private ulong _passed;
    private long _nextReport = 5;

    /// <summary>How many broken worlds are enough.</summary>
    public int MostFailures { get; init; } = 20;

    /// <summary>Some of the disks lie.</summary>
    public bool MayLie { get; init; }

    public int Threads { get; init; } = Math.Max(1, Environment.ProcessorCount);

    /// <summary>Only worlds of these residues modulo 97: of some kind. Null: all.</summary>
    public IReadOnlyList<int>? Residues { get; init; }

    public long Seeds { get; private set; }

    public double SimulatedHours { get; private set; }

    public long Messages { get; private set; }

    public long Deliveries { get; private set; }

    public long Crashes { get; private set; }

    public long Starts { get; private set; }

    public SortedDictionary<string, long> Injected { get; } = new(StringComparer.Ordinal);

    public List<(ulong Seed, string Violation)> Failures { get; } = [];

    public TimeSpan Took => _clock.Elapsed;

    public void Run(TextWriter say)
    {
        Thread[] threads = [.. Enumerable.Range(0, Threads).Select(_ => new Thread(() => Work(say)))];
        Array.ForEach(threads, thread => thread.Start());
        Array.ForEach(threads, thread => thread.Join());
        say.WriteLine($"{Seeds} seeds, {SimulatedHours:0.0} simulated hours ({SimulatedHours / Took.TotalSeconds:0.00} a second), {Messages} messages, {Deliveries} deliveries, {Crashes} crashes, {Starts} starts; broken: {Failures.Count}");
        say.WriteLine($"injected: {string.Join("; ", Injected.Select(fault => $"{fault.Key} {fault.Value}"))}");
    }

    /// <summary>All that was counted, for the page of what was verified.</summary>
    public JsonObject ToJson() => new()
    {
        ["firstSeed"] = firstSeed,
        ["seeds"] = Seeds,
        ["lying"] = MayLie,
        ["simulatedHours"] = Math.Round(SimulatedHours, 1),
        ["seconds"] = Math.Round(Took.TotalSeconds),
        ["messages"] = Messages,
        ["deliveries"] = Deliveries,
        ["crashes"] = Crashes,
        ["starts"] = Starts,
        ["injected"] = new JsonObject(Injected.Select(fault => KeyValuePair.Create(fault.Key, (JsonNode?)fault.Value))),
        ["broken"] = new JsonArray([.. Failures.Select(failure => new JsonObject { ["seed"] = failure.Seed, ["violation"] = failure.Violation })]),
    };

    private void Work(TextWriter say)
    {
        while (true)
        {
            ulong seed;
            lock (_gate)
            {
                if (_begun >= seeds || _clock.Elapsed >= time || Failures.Count >= MostFailures)
                {
                    return;
                }

                _begun++;
                while (Residues?.Contains((int)((firstSeed + _passed) % 97)) == false)
                {
                    _passed++;
                }

                seed = firstSeed + _passed++;
            }

            using Timer watch = new(_ => End(seed, say), null, s_patience, Timeout.InfiniteTimeSpan);
            Verdict verdict = World.Run(History.Of(seed, MayLie));
            lock (_gate)
            {
                Add(seed, verdict, say);
            }
        }
    }

    /// <summary>A thread that runs in a circle cannot be stopped, and all others would wait for it.</summary>
    private static void End(ulong seed, TextWriter say)
    {
        say.WriteLine($"seed {seed}: does not come to an end within {s_patience.TotalSeconds} s");
        say.Flush();
        Environment.FailFast($"The world of seed {seed} does not come to an end.");
    }

    private void Add(ulong seed, Verdict verdict, TextWriter say)
    {
        Seeds++;
        SimulatedHours += verdict.Nanoseconds / 3.6e12;
        (Messages, Deliveries, Crashes, Starts) = (Messages + verdict.Messages, Deliveries + verdict.Deliveries, Crashes + verdict.Crashes, Starts + verdict.Starts);
        foreach ((string fault, long times) in verdict.Injected)
        {
            Injected[fault] = Injected.GetValueOrDefault(fault) + times;
        }

        if (verdict.Violation is string violation)
        {
            Failures.Add((seed, violation));
            say.WriteLine($"seed {seed}: {violation}");
        }

        if (_clock.Elapsed.TotalSeconds >= _nextReport)
        {
            _nextReport += 5;
            say.WriteLine($"{Seeds} seeds, {SimulatedHours:0} simulated hours, {_clock.Elapsed.TotalSeconds:0} s, broken: {Failures.Count}");
        }
    }
}
