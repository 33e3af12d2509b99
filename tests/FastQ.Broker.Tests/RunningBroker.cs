using FastQ.Journal;
using Xunit;

namespace FastQ.Broker;

/// <summary>Descriptors, sockets among them, and mappings of ring memory.</summary>
public readonly record struct Holdings(int Descriptors, int Sockets, int RingMappings)
{
    public bool IsWithin(Holdings before) => Descriptors <= before.Descriptors && Sockets <= before.Sockets && RingMappings <= before.RingMappings;
}

/// <summary>A broker on a thread of this process, in a directory of its own. What it leaves behind can be counted here, for all descriptors are this process's.</summary>
public sealed class RunningBroker : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan s_patienceOnceItFailed = TimeSpan.FromSeconds(2); // A broker that many tests share and one has broken is not waited for by each.
    private readonly string _directory = Directory.CreateTempSubdirectory("fastq-test-").FullName;
    private readonly BrokerOptions _options;
    private Broker _broker;
    private Thread _thread;
    private string? _failure;
    private bool _hasFailed;

    public RunningBroker()
        : this(null)
    {
    }

    private RunningBroker(Func<BrokerOptions, BrokerOptions>? with)
    {
        BrokerOptions options = new() { DataDirectory = Path.Combine(_directory, "data"), SocketPath = Path.Combine(_directory, "s"), ResumeGrace = TimeSpan.Zero };
        _options = with is null ? options : with(options);
        (_broker, _thread) = Start();
        WaitUntil(() => Directory.GetFiles(SlotDirectory).Length >= 3, "the current slot, the next and the reserve are made"); // Each is a descriptor.
        Unused = Held();
    }

    private (Broker Broker, Thread Thread) Start()
    {
        _broker = Broker.Open(_options, out string? refusal) ?? throw new InvalidOperationException(refusal);
        Thread thread = new(Serve) { IsBackground = true };
        thread.Start();
        return (_broker, thread);
    }

    /// <summary>Stops in order and starts again from what lies in the journal.</summary>
    public void Restart()
    {
        Stop();
        (_broker, _thread) = Start();
    }

    public static RunningBroker With(Func<BrokerOptions, BrokerOptions> with) => new(with);

    /// <summary>What was held before the first connection.</summary>
    public Holdings Unused { get; }

    public string Socket => _broker.SocketPath;

    /// <summary>Where the journal's slots lie.</summary>
    public string SlotDirectory => Path.Combine(_options.DataDirectory, "namespaces", "default", "slots");

    /// <summary>What its last start found and did.</summary>
    public RecoveryReport Recovery => _broker.Recovery;

    private void Serve()
    {
        try
        {
            _failure = _broker.Run();
        }
#pragma warning disable CA1031 // Whatever it was, a process would have died of it: the test says so.
        catch (Exception death)
#pragma warning restore CA1031
        {
            Volatile.Write(ref _failure, death.ToString());
        }
    }

    public RawClient Connect(Hello? hello = null) => RawClient.Connect(Socket, hello ?? new Hello());

    /// <summary>What this process holds. The runtime's own files are left out: it opens them as it pleases.</summary>
    public static Holdings Held()
    {
        List<string> targets = [.. Directory.GetFileSystemEntries("/proc/self/fd").Select(Target).Where(target => !target.EndsWith(".dll", StringComparison.Ordinal) && !IsSlot(target))];
        int mappings = File.ReadLines("/proc/self/maps").Count(line => line.Contains("memfd:fastq-", StringComparison.Ordinal));
        return new Holdings(targets.Count, targets.Count(target => target.StartsWith("socket:", StringComparison.Ordinal)), mappings);
    }

    /// <summary>The journal's own: how many there are follows from what it was given to write. One whose file is gone counts.</summary>
    private static bool IsSlot(string target) => target.Contains("/slots/", StringComparison.Ordinal) && !target.EndsWith("(deleted)", StringComparison.Ordinal);

    private static string Target(string descriptor)
    {
        try
        {
            return new FileInfo(descriptor).LinkTarget ?? "";
        }
        catch (IOException)
        {
            return ""; // Closed meanwhile.
        }
    }

    /// <summary>The broker lives, serves an honest client, and holds nothing more than <paramref name="before"/>, nor any session but that client's.</summary>
    public void MustServeAndHoldNoMoreThan(Holdings before)
    {
        using (RawClient honest = Connect())
        {
            honest.MustDeliver("is anybody there?");
            WaitUntil(() => honest.Statistic("sessions") == 1, "one session is left");
            honest.SayBye();
        }

        WaitUntil(() => Held().IsWithin(before), $"nothing is held beyond {before}; it is {Held()}");
    }

    /// <summary>Waits for a condition, not for a time; a broker that died ends it at once.</summary>
    public void WaitUntil(Func<bool> condition, string what)
    {
        bool met = SpinWait.SpinUntil(() => Volatile.Read(ref _failure) is not null || condition(), _hasFailed ? s_patienceOnceItFailed : s_patience);
        _hasFailed |= !met;
        Assert.True(_failure is null, _failure);
        Assert.True(met, $"In vain: {what}.");
    }

    private void Stop()
    {
        _broker.RequestStop();
        _thread.Join();
        _broker.Dispose();
        Assert.True(_failure is null, _failure);
    }

    public void Dispose()
    {
        Stop();
        Directory.Delete(_directory, recursive: true);
    }
}
