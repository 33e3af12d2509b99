using System.CommandLine;
using System.Globalization;
using FastQ.Broker;
using FastQ.Journal;

namespace FastQ.Server;

/// <summary>fastq serve: runs the broker in the foreground.</summary>
internal static class ServeCommand
{
    public static Command Create()
    {
        Option<string> data = new("--data") { Description = "Directory of the data; made with mode 0700.", DefaultValueFactory = _ => "./fastq-data", HelpName = "DIR" };
        Option<string> socket = Shared.Socket();
        Option<string> storage = new("--storage") { Description = "How the journal is written: auto, io_uring or thread.", DefaultValueFactory = _ => "auto" };
        storage.AcceptOnlyFromAmong("auto", "io_uring", "thread");
        Option<bool> network = new("--allow-network-file-system") { Description = "Serve from NFS and the like all the same; consumers get copies." };
        Command command = new("serve", "Run the broker. Prints one line that begins with 'ready'. SIGTERM or SIGINT stop it in order; a second one at once.\n\nExamples:\n  fastq serve\n  fastq serve --data /var/lib/fastq --socket /run/fastq/fastq.sock")
        {
            data, socket, storage, network,
        };
        command.SetAction(parsed => Run(new BrokerOptions
        {
            DataDirectory = Path.GetFullPath(parsed.GetRequiredValue(data)),
            SocketPath = parsed.GetRequiredValue(socket),
            Storage = parsed.GetRequiredValue(storage) switch { "io_uring" => StorageKind.IoUring, "thread" => StorageKind.Thread, _ => StorageKind.Auto },
            AllowNetworkFileSystem = parsed.GetValue(network),
        }));
        return command;
    }

    private static int Run(BrokerOptions options)
    {
        using Broker.Broker? broker = Broker.Broker.Open(options, out string? refusal);
        if (broker is null)
        {
            Console.Error.WriteLine($"fastq: {refusal}");
            return 1;
        }

        broker.DataLost = static text => Console.Error.WriteLine($"fastq: data-lost: {text}");

        // A second signal leaves at once: what was confirmed is on the disk already.
        using StopSignal stop = new(onFirst: broker.RequestStop, onSecond: static () => Environment.Exit(1));
        RecoveryReport recovery = broker.Recovery;
        Console.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"ready socket={options.SocketPath} data={options.DataDirectory} pid={Environment.ProcessId} epoch={recovery.Epoch} recovery={recovery.Verdict} blocks={recovery.BlocksReplayed} cut={recovery.BlocksCut} rewritten={recovery.BlocksRewritten} ms={recovery.Milliseconds:0.0} storage={broker.StorageNote}"));
        Console.Out.Flush();
        string? failure = broker.Run();
        if (failure is null)
        {
            return 0;
        }

        Console.Error.WriteLine($"fastq: {failure}");
        return 1;
    }
}
