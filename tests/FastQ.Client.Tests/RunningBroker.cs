using FastQ.Broker;

namespace FastQ.Client;

/// <summary>A broker on a thread of this process, in a directory of its own.</summary>
public sealed class RunningBroker : IDisposable
{
    private readonly Func<BrokerOptions, BrokerOptions> _with;
    private Broker.Broker? _broker;
    private Thread? _thread;
    private string? _failure;

    public RunningBroker(Func<BrokerOptions, BrokerOptions>? with = null)
    {
        _with = with ?? (options => options);
        Start();
    }

    public string Directory { get; } = System.IO.Directory.CreateTempSubdirectory("fastq-test-").FullName;

    public string Socket => Path.Combine(Directory, "s");

    public void Start()
    {
        BrokerOptions options = _with(new BrokerOptions { DataDirectory = Path.Combine(Directory, "data"), SocketPath = Socket, ResumeGrace = TimeSpan.Zero });
        _broker = Broker.Broker.Open(options, out string? refusal) ?? throw new InvalidOperationException(refusal);
        _thread = new Thread(Serve);
        _thread.Start();
    }

    private void Serve()
    {
        try
        {
            _failure = _broker!.Run();
        }
        catch (Exception broken) when (broken.GetType().Name == "InvariantViolation")
        {
            _failure = broken.ToString(); // A process would have died; its clients see the same.
            _broker!.Dispose();
        }
    }

    /// <summary>An orderly stop; the clients see it as a restart.</summary>
    public void Stop()
    {
        _broker!.RequestStop();
        _thread!.Join();
        _broker.Dispose();
        if (_failure is not null)
        {
            throw new InvalidOperationException(_failure);
        }
    }

    public Session Connect(Func<SessionOptions, SessionOptions>? with = null)
    {
        SessionOptions options = new() { Path = Socket, Patience = TimeSpan.FromSeconds(20) };
        return Session.Connect(with is null ? options : with(options));
    }

    public void Dispose()
    {
        Stop();
        System.IO.Directory.Delete(Directory, recursive: true);
    }
}
