using System.CommandLine;
using System.Globalization;
using FastQ.Client;
using FastQ.Protocol;

namespace FastQ.Server;

/// <summary>fastq redrive: dead letters back to where they died, or messages to another queue.</summary>
internal static class RedriveCommand
{
    private const string FilterHelp =
        "Conditions joined by 'and', like: reason=rejected and age>1h and header.customer=17. Operators: = != ~ (is part of it) < <= > >=. "
        + "Names: state, deliveries, size, age, priority, id, type, correlation-id, reply-to, content-type, content-encoding, key, group, tenant, header.NAME; of dead letters reason, died-in, deaths, words. Values with spaces go in quotes.";

    public static Option<string> Filter() => new("--filter") { Description = $"Only messages that match. {FilterHelp}", HelpName = "EXPR" };

    public static Command Create()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Queue(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Option<string?> to = new("--to") { Description = "The queue where they go (each back to the queue where it died last).", HelpName = "NAME" };
        Option<string> filter = Filter();
        Option<int> rate = Shared.Within(new Option<int>("--rate") { Description = "Most messages a second (no bound).", HelpName = "N" }, 0, int.MaxValue);
        Option<bool> dry = new("--dry-run") { Description = "Only say how many would go." };
        Option<bool> detach = new("--detach") { Description = "Do not wait: it goes on by itself, over restarts of the broker too." };
        Option<bool> status = new("--status") { Description = "Only say how the queue's redrive stands." };
        Option<bool> cancel = new("--cancel") { Description = "End the queue's redrive; what has gone stays where it is." };
        Command command = new("redrive", "Move the messages of a dead-letter queue back to where they died, or those of any queue elsewhere; what consumers hold stays. Each keeps its id, headers and story, and counts its deliveries anew.\n\nExamples:\n  fastq redrive work.dead --dry-run\n  fastq redrive work.dead --filter \"reason=max-deliveries and age<1d\" --rate 100\n  fastq redrive work.dead --to inspection")
        {
            name, to, filter, rate, dry, detach, status, cancel, socket, patience, json,
        };
        command.Validators.Add(result =>
        {
            if ((result.GetValue(dry) ? 1 : 0) + (result.GetValue(detach) ? 1 : 0) + (result.GetValue(status) ? 1 : 0) + (result.GetValue(cancel) ? 1 : 0) > 1)
            {
                result.AddError("Give one of --dry-run, --detach, --status and --cancel.");
            }
        });
        command.SetAction(parsed =>
        {
            string queue = parsed.GetRequiredValue(name);
            using Session session = Shared.Connect(parsed.GetRequiredValue(socket), parsed.GetValue(patience), "fastq redrive");
            SweepOptions options = new() { To = parsed.GetValue(to), Filter = parsed.GetValue(filter) ?? "", RateASecond = parsed.GetValue(rate) };
            if (parsed.GetValue(dry))
            {
                PrintMatches(session, queue, options, parsed.GetValue(json));
                return 0;
            }

            SweepInfo sweep = parsed.GetValue(cancel) ? session.CancelSweep(queue) : parsed.GetValue(status) ? session.GetSweep(queue) : session.StartSweep(queue, options);
            session.Flush();
            bool waits = !parsed.GetValue(detach) && !parsed.GetValue(status) && !parsed.GetValue(cancel);
            return Finish(session, queue, waits, sweep, parsed.GetValue(json));
        });
        return command;
    }

    /// <summary>Waits, tells how it goes, and prints how it ended. Gives the exit code: what could not go is a failure.</summary>
    public static int Finish(Session session, string queue, bool waits, SweepInfo sweep, bool json)
    {
        bool shows = waits && !json && !Console.IsErrorRedirected;
        if (waits)
        {
            sweep = session.WaitForSweep(queue, now =>
            {
                if (shows)
                {
                    Console.Error.Write(string.Create(CultureInfo.InvariantCulture, $"\r{now.Done} done, {now.Failed} failed"));
                }

                return true;
            });
            Console.Error.Write(shows ? "\r" : "");
            session.Flush(); // What was done is on the disk.
        }

        if (json)
        {
            Shared.PrintJson(writer =>
            {
                writer.WriteStartObject();
                writer.WriteString("queue", queue);
                writer.WriteString("state", StateNames.NameOf(sweep.State));
                writer.WriteString("action", sweep.Action == SweepAction.Move ? "move" : "delete");
                writer.WriteString("to", sweep.To);
                writer.WriteString("filter", sweep.Filter);
                writer.WriteNumber("done", sweep.Done);
                writer.WriteNumber("failed", sweep.Failed);
                writer.WriteEndObject();
            });
        }
        else
        {
            string failed = sweep.Failed == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $", {sweep.Failed} could not go and stay where they are (their queue is not there, or they have rotted; --to names another)");
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{StateNames.NameOf(sweep.State)}: {sweep.Done} {(sweep.Action == SweepAction.Move ? "moved" : "deleted")}{failed}"));
        }

        return sweep.Failed > 0 && waits ? 1 : 0;
    }

    /// <summary>What would be done: of what is there now and with nobody.</summary>
    public static void PrintMatches(Session session, string queue, SweepOptions options, bool json)
    {
        long matches = session.Browse(queue, filter: options.Filter).LongCount(message => message.State is MessageState.Ready or MessageState.Delayed || message.IsStopped || (message.State == MessageState.Damaged && options.Action == SweepAction.Delete));
        if (json)
        {
            Shared.PrintJson(writer =>
            {
                writer.WriteStartObject();
                writer.WriteString("queue", queue);
                writer.WriteNumber("matches", matches);
                writer.WriteEndObject();
            });
        }
        else
        {
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{matches} would be {(options.Action == SweepAction.Move ? "moved" : "deleted")}"));
        }
    }
}
