using System.Diagnostics;

namespace FastQ.Server;

/// <summary>A broker of our own, as a process, in a temporary directory; for bench and demo. Ends with this object.</summary>
internal sealed class BrokerProcess : IDisposable
{
    private readonly string _storage;
    private Process? _process;

    public BrokerProcess(string storage = "auto")
    {
        _storage = storage;
        Directory = System.IO.Directory.CreateTempSubdirectory("fastq-").FullName;
        Start();
    }

    /// <summary>Its temporary directory.</summary>
    public string Directory { get; }

    public string Data => Path.Combine(Directory, "data");

    public string Socket => Path.Combine(Directory, "s");

    public int ProcessId => _process!.Id;

    /// <summary>From the start of the process to its ready line.</summary>
    public double ReadyMilliseconds { get; private set; }

    /// <summary>What it said when it was ready.</summary>
    public string ReadyLine { get; private set; } = "";

    public double CpuSeconds
    {
        get
        {
            _process!.Refresh();
            return _process.TotalProcessorTime.TotalSeconds;
        }
    }

    public void Start()
    {
        long start = Stopwatch.GetTimestamp();
        _process = Worker.Start(["serve", "--data", Data, "--socket", Socket, "--storage", _storage]);
        ReadyLine = _process.StandardOutput.ReadLine() ?? throw new IOException($"The broker did not start (exit code {ExitCode()}).");
        ReadyMilliseconds = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
    }

    /// <summary>SIGKILL.</summary>
    public void Kill()
    {
        _process!.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }

    /// <summary>SIGTERM, and waits. Gives the exit code.</summary>
    public int Stop()
    {
        _ = Linux.ThisProcess.Signal(_process!.Id, 15);
        _process.WaitForExit();
        return _process.ExitCode;
    }

    public void Dispose()
    {
        try
        {
            if (!_process!.HasExited)
            {
                Kill();
            }
        }
        catch (InvalidOperationException)
        {
            // It was never started again.
        }

        System.IO.Directory.Delete(Directory, recursive: true);
    }

    private int ExitCode()
    {
        _process!.WaitForExit();
        return _process.ExitCode;
    }
}

/// <summary>This program again, as another process.</summary>
internal static class Worker
{
    public static Process Start(IEnumerable<string> arguments) =>
        Process.Start(new ProcessStartInfo(Environment.ProcessPath!, arguments) { RedirectStandardOutput = true, RedirectStandardInput = true })!;
}
