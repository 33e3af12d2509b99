using System.Diagnostics;
using System.IO.Hashing;

namespace FastQ.Fuzz;

/// <summary>One target for a while: first the corpus as it is, then what becomes of it. The same seed and number of inputs do the same again.</summary>
internal sealed class Campaign(string name, ITarget target, int seed)
{
    private const int MostBytes = 16 * 1024;
    private const long MostAllocatedBytes = 256L << 20, MostResidentBytes = 2L << 30;
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(20);
    private readonly Mutator _mutator = new(new Random(seed), MostBytes);
    private readonly List<byte[]> _corpus = [];
    private readonly Stopwatch _since = Stopwatch.StartNew();
    private long _inputs;
    private long _beganAt = long.MaxValue;

    /// <summary>False: there was a finding.</summary>
    public bool Run(TimeSpan time, long inputs, bool keeps)
    {
        Trace.Forget();
        using ManualResetEventSlim isOver = new();
        Thread watch = new(() => Watch(isOver)) { IsBackground = true };
        watch.Start();
        string folder = Places.CorpusOf(name);
        IEnumerable<byte[]> kept = Directory.Exists(folder) ? Directory.GetFiles(folder).Order(StringComparer.Ordinal).Select(File.ReadAllBytes) : [];
        bool isSound = kept.Concat(target.Seeds).All(Try);
        int begun = _corpus.Count;
        long corpusInputs = _inputs;
        while (isSound && (inputs > 0 ? _inputs - corpusInputs < inputs : _since.Elapsed < time))
        {
            isSound = Try(_mutator.Mutate(_corpus));
        }

        isOver.Set();
        watch.Join();
        if (isSound && keeps)
        {
            Distil(folder);
        }

        Console.WriteLine($"| {name} | {seed} | {corpusInputs} | {_inputs} | {_corpus.Count - begun} | {Trace.Reached} | {_inputs / Math.Max(0.001, _since.Elapsed.TotalSeconds):F0} |");
        return isSound;
    }

    /// <summary>Writes few inputs that together reach nearly all: again and again the one that adds most, and of two that add as much the shorter.</summary>
    private void Distil(string folder)
    {
        const int MostKept = 48;
        Directory.CreateDirectory(folder);
        Array.ForEach([.. Directory.GetFiles(folder).Where(file => !Path.GetFileName(file).StartsWith("found-", StringComparison.Ordinal))], File.Delete); // Those are kept for what they once did.
        List<(byte[] Input, int[] Places)> left = [.. _corpus.Select(input => (input, PlacesOf(input)))];
        HashSet<int> reached = [];
        for (int kept = 0; kept < MostKept && left.Count > 0; kept++)
        {
            (byte[] input, int[] places) = left.MaxBy(one => (one.Places.Count(place => !reached.Contains(place)), -one.Input.Length));
            if (reached.IsSupersetOf(places))
            {
                return;
            }

            reached.UnionWith(places);
            left.RemoveAll(one => one.Input == input);
            File.WriteAllBytes(Path.Combine(folder, $"{XxHash3.HashToUInt64(input):x16}.bin"), input);
        }
    }

    private int[] PlacesOf(byte[] input)
    {
        Trace.Clear();
        target.Run(input);
        return Trace.Places();
    }

    private bool Try(byte[] input)
    {
        const int LooksAtMemory = 256;
        Finding.Note(name, input);
        Trace.Clear();
        long allocated = GC.GetAllocatedBytesForCurrentThread();
        Volatile.Write(ref _beganAt, _since.ElapsedTicks);
        try
        {
            target.Run(input);
        }
        catch (Exception harm)
        {
            Finding.Keep(name, input, harm.ToString());
            return false;
        }
        finally
        {
            Volatile.Write(ref _beganAt, long.MaxValue);
        }

        allocated = GC.GetAllocatedBytesForCurrentThread() - allocated;
        bool hasGrown = allocated > MostAllocatedBytes || (_inputs % LooksAtMemory == 0 && Environment.WorkingSet > MostResidentBytes);
        if (hasGrown)
        {
            Finding.Keep(name, input, $"growth: {allocated} bytes allocated by this input, {Environment.WorkingSet} resident");
            return false;
        }

        _inputs++;
        if (Trace.TakeNews() || _corpus.Count == 0)
        {
            _corpus.Add(input);
        }

        return true;
    }

    /// <summary>An input that does not end is a finding, and the end.</summary>
    private void Watch(ManualResetEventSlim isOver)
    {
        while (!isOver.Wait(1000))
        {
            long began = Volatile.Read(ref _beganAt);
            if (began != long.MaxValue && _since.ElapsedTicks - began > s_patience.TotalSeconds * Stopwatch.Frequency && Finding.TakeLast(out _, out byte[] input))
            {
                Finding.Keep(name, input, $"hang: not ended after {s_patience.TotalSeconds} s");
                Environment.Exit(1);
            }
        }
    }
}
