using System.CommandLine;
using FastQ.Client;
using FastQ.Protocol;

namespace FastQ.Server;

/// <summary>fastq message: delete, move or change single messages, by id, by place or by filter.</summary>
internal static class MessageCommand
{
    public static Command Create() => new("message", "Delete, move or change single messages that are with nobody.") { Delete(), Move(), Change(), Processed() };

    private static Command Delete()
    {
        Parts parts = new();
        Command command = new("delete", "Delete messages; they count as purged.\n\nExamples:\n  fastq message delete work order-17\n  fastq message delete work --filter \"type=test\" --dry-run") { parts.Name, parts.Id, parts.Filter, parts.DryRun, parts.Socket, parts.Patience, parts.Json };
        parts.Judge(command);
        command.SetAction(parsed => Sweep(parsed, parts, new SweepOptions { Action = SweepAction.Delete }));
        return command;
    }

    private static Command Move()
    {
        Parts parts = new();
        Option<string> to = new("--to") { Description = "The queue where they go.", HelpName = "NAME", Required = true };
        Command command = new("move", "Move messages to another queue; each keeps its id, headers and story.\n\nExamples:\n  fastq message move work order-17 --to slow\n  fastq message move work --filter \"size>1000000\" --to slow") { parts.Name, parts.Id, to, parts.Filter, parts.DryRun, parts.Socket, parts.Patience, parts.Json };
        parts.Judge(command);
        command.SetAction(parsed => Sweep(parsed, parts, new SweepOptions { To = parsed.GetRequiredValue(to) }));
        return command;
    }

    private static Command Change()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience) = (Shared.Queue(), Shared.Socket(), Shared.Patience());
        Argument<string> id = new("id") { Description = "The message's id, or its place (tag) as browse shows it." };
        Option<int?> priority = new("--priority") { Description = "Its priority from now on, 0 to 255; in a queue with --priority.", HelpName = "N" };
        Option<TimeSpan?> delay = Shared.OptionalDuration("--delay", "From now on so long; 0s: it may be delivered at once.");
        Command command = new("change", "Give a message that waits another priority or another time; it keeps its place.\n\nExample:\n  fastq message change work order-17 --delay 0s") { name, id, priority, delay, socket, patience };
        command.Validators.Add(result =>
        {
            if (result.GetResult(priority) is null && result.GetResult(delay) is null)
            {
                result.AddError("Give --priority or --delay.");
            }

            if (result.GetResult(priority) is not null && result.GetValue(priority) is not (>= 0 and <= byte.MaxValue))
            {
                result.AddError($"--priority is 0 to {byte.MaxValue}.");
            }
        });
        command.SetAction(parsed =>
        {
            string queue = parsed.GetRequiredValue(name);
            using Session session = Shared.Connect(parsed.GetRequiredValue(socket), parsed.GetValue(patience), "fastq message");
            if (!TryFind(session, queue, parsed.GetRequiredValue(id), out ulong tag))
            {
                return 1;
            }

            session.ChangeMessage(queue, tag, (byte?)parsed.GetValue(priority), parsed.GetValue(delay));
            session.Flush();
            return 0;
        });
        return command;
    }

    private static Command Processed()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Queue(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Argument<string> key = new("key") { Description = "Its deduplication id, else its id, else its place; or the key that the consumer chose." };
        Command command = new("processed", "Say whether a consumer has marked a message as processed, and print its result; ends with 1 if none has.\n\nExample:\n  fastq message processed work order-17") { name, key, socket, patience, json };
        command.SetAction(parsed =>
        {
            using Session session = Shared.Connect(parsed.GetRequiredValue(socket), parsed.GetValue(patience), "fastq message");
            ReadOnlyMemory<byte>? result = session.FindProcessed(parsed.GetRequiredValue(name), parsed.GetRequiredValue(key));
            if (parsed.GetValue(json))
            {
                Shared.PrintJson(writer =>
                {
                    writer.WriteStartObject();
                    writer.WriteBoolean("processed", result is not null);
                    writer.WriteBase64String("result", result.GetValueOrDefault().Span);
                    writer.WriteEndObject();
                });
            }
            else
            {
                Console.WriteLine(result is ReadOnlyMemory<byte> bytes ? $"processed {System.Text.Encoding.UTF8.GetString(bytes.Span)}".TrimEnd() : "not processed");
            }

            return result is null ? 1 : 0;
        });
        return command;
    }

    /// <summary>The options that say which messages are meant.</summary>
    private sealed class Parts
    {
        public Argument<string> Name { get; } = Shared.Queue();

        public Argument<string?> Id { get; } = new("id") { Description = "The message's id, or its place (tag) as browse shows it.", Arity = ArgumentArity.ZeroOrOne };

        public Option<string> Filter { get; } = RedriveCommand.Filter();

        public Option<bool> DryRun { get; } = new("--dry-run") { Description = "Only say how many match." };

        public Option<string> Socket { get; } = Shared.Socket();

        public Option<TimeSpan> Patience { get; } = Shared.Patience();

        public Option<bool> Json { get; } = Shared.Json();

        public void Judge(Command command) => command.Validators.Add(result =>
        {
            if ((result.GetValue(Id) is null) == (result.GetValue(Filter) is null))
            {
                result.AddError("Give the ID of one message, or --filter EXPR for several.");
            }
        });
    }

    private static int Sweep(ParseResult parsed, Parts parts, SweepOptions options)
    {
        string queue = parsed.GetRequiredValue(parts.Name);
        using Session session = Shared.Connect(parsed.GetRequiredValue(parts.Socket), parsed.GetValue(parts.Patience), "fastq message");
        options = options with { Filter = parsed.GetValue(parts.Filter) ?? "" };
        if (parsed.GetValue(parts.DryRun) && options.Filter.Length > 0)
        {
            RedriveCommand.PrintMatches(session, queue, options, parsed.GetValue(parts.Json));
            return 0;
        }

        if (parsed.GetValue(parts.Id) is string id)
        {
            if (!TryFind(session, queue, id, out ulong tag))
            {
                return 1;
            }

            options = options with { Tag = tag };
        }

        SweepInfo sweep = session.StartSweep(queue, options);
        if (options.Tag == 0)
        {
            return RedriveCommand.Finish(session, queue, waits: true, sweep, parsed.GetValue(parts.Json));
        }

        sweep = session.WaitForSweep(queue);
        session.Flush();
        if (sweep.Done == 1)
        {
            return 0;
        }

        Console.Error.WriteLine($"fastq: message '{parsed.GetValue(parts.Id)}' of queue {queue} stays where it is: it is with a consumer, has gone meanwhile, or has rotted. See: fastq why {queue} {parsed.GetValue(parts.Id)}");
        return 1;
    }

    private static bool TryFind(Session session, string queue, string wanted, out ulong tag)
    {
        tag = BrowseCommand.Find(session, queue, wanted).Message?.Tag ?? 0;
        if (tag == 0)
        {
            Console.Error.WriteLine($"fastq: queue {queue} has no message '{wanted}': it was settled or purged, or was never there.");
        }

        return tag != 0;
    }
}
