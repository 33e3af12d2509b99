using FastQ.Broker;
using FastQ.Engine;
using FastQ.Engine.Tests;
using FastQ.Linux;
using Xunit;

namespace FastQ.Fuzz;

/// <summary>A broker that is turned by hand, in a directory of its own: client and broker are one thread, so that an input does the same each time.</summary>
internal sealed class LiveBroker : IDisposable
{
    private const int QuietTurns = 70; // It looks at its sockets each 64th.
    private readonly string _directory = Directory.CreateDirectory(Path.Combine(Directory.Exists("/dev/shm") ? "/dev/shm" : Path.GetTempPath(), $"fastq-fuzz-{Environment.ProcessId}")).FullName;
    private Broker.Broker? _broker;

    public LiveBroker()
    {
        Clear();
        _broker = Open();
    }

    public string Socket => Path.Combine(_directory, "s");

    /// <summary>Lets it do all that there is to do now.</summary>
    public void Settle()
    {
        const int MostTurns = 20_000;
        for (int quiet = 0, turns = 0; quiet < QuietTurns && turns < MostTurns; turns++)
        {
            quiet = _broker!.Turn() ? 0 : quiet + 1;
        }
    }

    /// <summary>A few passes, as between two looks of a client.</summary>
    public void Turn(int times)
    {
        for (int i = 0; i < times; i++)
        {
            _broker!.Turn();
        }
    }

    /// <summary>The counts add up; and what was journaled, whoever asked for it, starts again as the same state.</summary>
    public void MustStartAgainTheSame()
    {
        Settle();
        _broker!.Engine.CheckConservation();
        string state = StateOf(_broker);
        _broker.Dispose();
        _broker = null;
        using Broker.Broker next = Open();
        next.Engine.CheckConservation();
        Assert.Equal(state, StateOf(next));
    }

    public void Dispose()
    {
        _broker?.Dispose();
        Clear();
        Directory.Delete(_directory, recursive: true);
    }

    private static string StateOf(Broker.Broker broker) => World.DumpOf(broker.Engine);

    private Broker.Broker Open()
    {
        BrokerOptions options = new() { DataDirectory = Path.Combine(_directory, "data"), SocketPath = Socket, SlotBytes = 1 << 20, MaxMessageBytes = 64 << 10, ResumeGrace = TimeSpan.Zero, Engine = new EngineLimits { IndexBytes = 64 << 20 } };
        Broker.Broker? broker = Broker.Broker.Open(options, out string? refusal);
        Assert.True(broker is not null, refusal);
        return broker;
    }

    private void Clear()
    {
        foreach (string entry in Directory.GetFileSystemEntries(_directory))
        {
            if (Directory.Exists(entry))
            {
                Directory.Delete(entry, recursive: true);
            }
            else
            {
                File.Delete(entry);
            }
        }
    }
}
