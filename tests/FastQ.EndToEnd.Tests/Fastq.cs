using System.Diagnostics;
using System.Text;
using System.Text.Json;
using Xunit;

namespace FastQ.EndToEnd;

/// <summary>What a run of the binary gave.</summary>
public sealed record Ran(int ExitCode, string Output, string Error)
{
    public JsonElement Json => JsonDocument.Parse(Output).RootElement.Clone();
}

/// <summary>The published binary as a program.</summary>
public static class Fastq
{
    public static string Root { get; } = FindRoot();

    public static string Binary { get; } = Path.Combine(Root, "artifacts", "bin", "fastq");

    /// <summary>Runs it to its end; a minute at most.</summary>
    public static Ran Run(string? input, params string[] arguments)
    {
        using Process process = Start(arguments);
        return AwaitEnd(process, input, $"fastq {string.Join(' ', arguments)}");
    }

    /// <summary>Runs a program of samples/ to its end; a minute at most.</summary>
    public static Ran RunSample(string name, string socket)
    {
        ProcessStartInfo start = new(Path.Combine(Root, "artifacts", "bin", name, "debug", name)) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["FASTQ_SOCKET"] = socket;
        using Process process = Process.Start(start)!;
        return AwaitEnd(process, null, name);
    }

    private static Ran AwaitEnd(Process process, string? input, string what)
    {
        Task<string> output = process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        Task<string> error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        try
        {
            process.StandardInput.Write(input ?? "");
            process.StandardInput.Close();
        }
        catch (IOException)
        {
            // It has ended without reading all of it: what it said will tell why.
        }

        if (!process.WaitForExit(60_000))
        {
            process.Kill();
            Assert.Fail($"{what} does not end");
        }

        return new Ran(process.ExitCode, output.Result, error.Result);
    }

    public static Process Start(params string[] arguments) => StartProgram(Binary, arguments);

    public static Process StartProgram(string program, string[] arguments)
    {
        ProcessStartInfo start = new(program, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true, StandardOutputEncoding = new UTF8Encoding(false) };
        start.Environment.Remove("FASTQ_SOCKET");
        return Process.Start(start)!;
    }

    private static string FindRoot()
    {
        DirectoryInfo? at = new(AppContext.BaseDirectory);
        while (at is not null && !File.Exists(Path.Combine(at.FullName, "FastQ.sln")))
        {
            at = at.Parent;
        }

        return at!.FullName;
    }
}

/// <summary>A broker process in a directory of its own.</summary>
public sealed class TestBroker : IDisposable
{
    private string[] _prefix;
    private Process? _process;

    public TestBroker(params string[] prefix)
    {
        _prefix = prefix;
        Start();
    }

    /// <summary>A broker that is started later, on a directory that is there before it.</summary>
    private TestBroker(bool _)
    {
        _prefix = [];
    }

    public static TestBroker NotStarted() => new(false);

    public string Directory { get; } = System.IO.Directory.CreateTempSubdirectory("fastq-test-").FullName;

    public string Data => Path.Combine(Directory, "data");

    public string Socket => Path.Combine(Directory, "s");

    public string ReadyLine { get; private set; } = "";

    /// <summary>Of the broker itself, not of what it runs under.</summary>
    public string ProcessId => ReadyLine.Split(' ').Single(word => word.StartsWith("pid=", StringComparison.Ordinal))[4..];

    /// <summary>The directory stays when this object goes: somebody shall look into it.</summary>
    public bool IsKept { get; set; }

    public void Start()
    {
        Begin();
        AwaitReady();
    }

    /// <summary>Starts the process and does not wait until it serves.</summary>
    public void Begin()
    {
        string[] serve = [Fastq.Binary, "serve", "--data", Data, "--socket", Socket];
        string[] all = [.. _prefix, .. serve];
        _process?.Dispose();
        _process = Fastq.StartProgram(all[0], all[1..]);
    }

    public void AwaitReady()
    {
        ReadyLine = _process!.StandardOutput.ReadLine() ?? throw new InvalidOperationException($"No ready line: {_process.StandardError.ReadToEnd()}");
        Assert.StartsWith("ready", ReadyLine, StringComparison.Ordinal);
    }

    /// <summary>How many files of its data the process has open. While it starts, or ends, they come and go.</summary>
    public int OpenFilesUnderData()
    {
        try
        {
            return System.IO.Directory.GetFiles($"/proc/{_process!.Id}/fd").Count(path => new FileInfo(path).LinkTarget?.StartsWith(Data, StringComparison.Ordinal) == true);
        }
        catch (IOException)
        {
            return 0;
        }
    }

    public Ran Run(params string[] arguments) => Fastq.Run(null, [.. arguments, "--socket", Socket]);

    public Ran RunWith(string input, params string[] arguments) => Fastq.Run(input, [.. arguments, "--socket", Socket]);

    public JsonElement Queue(string name) => Run("queue", "show", name, "--json").Json;

    /// <summary>SIGKILL to the broker itself.</summary>
    public void Kill()
    {
        _process!.Kill(entireProcessTree: _prefix.Length > 0); // What it runs under, too. Without that it dies at once: looking for children takes its time.
        _process.WaitForExit();
    }

    /// <summary>Ends what <c>strace -D</c> does to the broker; the broker lives on.</summary>
    public void EndFaults()
    {
        string tracer = File.ReadLines($"/proc/{ProcessId}/status").Single(line => line.StartsWith("TracerPid:", StringComparison.Ordinal)).Split('\t')[1];
        using Process kill = Process.Start("kill", ["-KILL", tracer]);
        kill.WaitForExit();
    }

    /// <summary>Waits until the broker ends by itself. Gives its exit code and what it said.</summary>
    public (int ExitCode, string Error) AwaitEnd()
    {
        Assert.True(_process!.WaitForExit(30_000), "The broker does not end");
        return (_process.ExitCode, _process.StandardError.ReadToEnd());
    }

    /// <summary>The broker starts without its prefix from now on.</summary>
    public void RestartPlain() => StartUnder();

    /// <summary>The broker starts with another prefix from now on.</summary>
    public void StartUnder(params string[] prefix)
    {
        _prefix = prefix;
        Start();
    }

    /// <summary>SIGTERM. Gives the exit code.</summary>
    public int Stop()
    {
        using Process kill = Process.Start("kill", ["-TERM", ProcessId]);
        kill.WaitForExit();
        Assert.True(_process!.WaitForExit(30_000), "The broker does not stop");
        return _process.ExitCode;
    }

    public void Dispose()
    {
        if (_process is { HasExited: false })
        {
            Kill();
        }

        if (!IsKept)
        {
            System.IO.Directory.Delete(Directory, recursive: true);
        }
    }
}
