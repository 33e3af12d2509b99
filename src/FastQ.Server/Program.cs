using System.CommandLine;
using FastQ.Client;
using FastQ.Linux;
using FastQ.Server;

// The command line. Exit codes: 0 done, 1 failed, 2 used wrongly. Results go to standard output, everything else to standard error.

RootCommand root = new("FastQ: a durable message broker for one host, over shared memory.\n\nA first try, in two terminals:\n  fastq serve\n  fastq queue create work && echo hello | fastq publish work - && fastq consume work")
{
    ServeCommand.Create(),
    QueueCommand.Create(),
    PublishCommand.Create(),
    ConsumeCommand.Create(),
    BrowseCommand.CreateBrowse(),
    BrowseCommand.CreateWhy(),
    RedriveCommand.Create(),
    MessageCommand.Create(),
    ExchangeCommand.Create(),
    ExchangeCommand.CreateBinding(isBind: true),
    ExchangeCommand.CreateBinding(isBind: false),
    ScheduleCommand.Create(),
    LimitCommand.Create(),
    StatsCommand.Create(),
    JournalCommand.Create(),
    BenchCommand.Create(),
    BenchWorkers.CreateProducer(),
    BenchWorkers.CreateConsumer(),
    BenchWorkers.CreateEcho(),
    BenchReplies.CreateResponder(),
    DemoCommand.Create(),
    RequestCommand.Create(),
    ReplyCommand.Create(),
    DefinitionsCommand.CreateExport(),
    DefinitionsCommand.CreateApply(),
};

const int Failed = 1;
const int Usage = 2;
ParseResult result = root.Parse(args);
if (result.Errors.Count > 0)
{
    foreach (System.CommandLine.Parsing.ParseError error in result.Errors)
    {
        await Console.Error.WriteLineAsync($"fastq: {error.Message}").ConfigureAwait(false);
    }

    await Console.Error.WriteLineAsync($"Try: fastq {string.Join(' ', Words(result))} --help".Replace("  ", " ", StringComparison.Ordinal)).ConfigureAwait(false);
    return Usage;
}

try
{
    return await result.InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false }).ConfigureAwait(false);
}
catch (FastQException refusal)
{
    await Console.Error.WriteLineAsync($"fastq: {refusal.Message}").ConfigureAwait(false);
    return refusal.Code is FastQ.Protocol.RefusalCode.BadName or FastQ.Protocol.RefusalCode.BadArgument ? Usage : Failed;
}
catch (Exception fault) when (fault is LinuxException or IOException or UnauthorizedAccessException)
{
    await Console.Error.WriteLineAsync($"fastq: {fault.Message}").ConfigureAwait(false);
    return Failed;
}

static IEnumerable<string> Words(ParseResult result)
{
    Stack<string> words = new();
    for (System.CommandLine.Parsing.SymbolResult? at = result.CommandResult; at is System.CommandLine.Parsing.CommandResult command && command.Parent is not null; at = at.Parent)
    {
        words.Push(command.Command.Name);
    }

    return words;
}
