using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using FastQ.Client;
using Spectre.Console;

namespace FastQ.Server;

/// <summary>fastq queue create|list|show|purge|delete.</summary>
internal static class QueueCommand
{
    public static Command Create() => new("queue", "Create, list, show, purge and delete queues.\n\nExamples:\n  fastq queue create work --lease 1m\n  fastq queue list --json")
    {
        CreateOne(), ListAll(), ShowOne(), Purge(), Delete(),
    };

    private static Command CreateOne()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Queue(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Option<TimeSpan?> lease = Shared.OptionalDuration("--lease", "How long a delivery is held before it goes to somebody else (30s).");
        Option<TimeSpan?> delay = Shared.OptionalDuration("--delay", "How long each message waits before it is delivered, unless it says otherwise (not at all).");
        Command command = new("create", "Create a queue. One that exists with the same attributes is fine; with others it is an error that names the difference.") { name, lease, delay, socket, patience, json };
        command.SetAction(parsed => With(parsed.GetRequiredValue(socket), parsed.GetValue(patience), session =>
            Print(session.DeclareQueue(parsed.GetRequiredValue(name), new QueueOptions { Lease = parsed.GetValue(lease), Delay = parsed.GetValue(delay) }), parsed.GetValue(json))));
        return command;
    }

    private static Command ListAll()
    {
        (Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new("list", "List all queues.") { socket, patience, json };
        command.SetAction(parsed => With(parsed.GetRequiredValue(socket), parsed.GetValue(patience), session =>
        {
            IReadOnlyList<QueueInfo> queues = session.ListQueues();
            if (parsed.GetValue(json))
            {
                Shared.PrintJson(writer =>
                {
                    writer.WriteStartArray();
                    foreach (QueueInfo queue in queues)
                    {
                        Write(writer, queue);
                    }

                    writer.WriteEndArray();
                });
                return;
            }

            PrintTable(queues);
        }));
        return command;
    }

    private static Command ShowOne()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Queue(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new("show", "Show a queue: what is ready, in flight, and what has passed.") { name, socket, patience, json };
        command.SetAction(parsed => With(parsed.GetRequiredValue(socket), parsed.GetValue(patience), session =>
            Print(session.GetQueue(parsed.GetRequiredValue(name)), parsed.GetValue(json))));
        return command;
    }

    private static Command Purge()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Queue(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new("purge", "Remove all messages that are ready or delayed; those in flight stay.") { name, socket, patience, json };
        command.SetAction(parsed => With(parsed.GetRequiredValue(socket), parsed.GetValue(patience), session =>
        {
            long purged = session.PurgeQueue(parsed.GetRequiredValue(name));
            session.Flush();
            if (parsed.GetValue(json))
            {
                Shared.PrintJson(writer =>
                {
                    writer.WriteStartObject();
                    writer.WriteString("name", parsed.GetRequiredValue(name));
                    writer.WriteNumber("purged", purged);
                    writer.WriteEndObject();
                });
            }
            else
            {
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{purged} purged"));
            }
        }));
        return command;
    }

    private static Command Delete()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Queue(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new("delete", "Delete a queue with all that it holds.") { name, socket, patience, json };
        command.SetAction(parsed => With(parsed.GetRequiredValue(socket), parsed.GetValue(patience), session =>
        {
            session.DeleteQueue(parsed.GetRequiredValue(name));
            session.Flush();
            if (parsed.GetValue(json))
            {
                Shared.PrintJson(writer =>
                {
                    writer.WriteStartObject();
                    writer.WriteString("deleted", parsed.GetRequiredValue(name));
                    writer.WriteEndObject();
                });
            }
        }));
        return command;
    }

    private static int With(string socket, TimeSpan patience, Action<Session> use)
    {
        using Session session = Shared.Connect(socket, patience, "fastq queue");
        use(session);
        session.Flush();
        return 0;
    }

    private static void Print(QueueInfo queue, bool json)
    {
        if (json)
        {
            Shared.PrintJson(writer => Write(writer, queue));
        }
        else
        {
            PrintAll(queue);
        }
    }

    /// <summary>A line each, of what matters first: it fits into 80 columns, which is also what Spectre takes where there is no terminal.</summary>
    private static void PrintTable(IReadOnlyList<QueueInfo> queues)
    {
        Table table = new Table().AddColumn("queue");
        foreach (string column in (ReadOnlySpan<string>)["ready", "in flight", "bytes", "consumers"])
        {
            table.AddColumn(new TableColumn(column).RightAligned().NoWrap());
        }

        foreach (QueueInfo queue in queues)
        {
            table.AddRow(Markup.Escape(queue.Name), Number(queue.Ready), Number(queue.InFlight), Number(queue.Bytes), Number(queue.Consumers));
        }

        AnsiConsole.Write(table);
    }

    private static void PrintAll(QueueInfo queue)
    {
        Table table = new Table().AddColumn("queue").AddColumn(new TableColumn(Markup.Escape(queue.Name)).RightAligned());
        table.AddRow("ready", Number(queue.Ready));
        table.AddRow("in flight", Number(queue.InFlight));
        table.AddRow("delayed", Number(queue.Delayed));
        table.AddRow("damaged", Number(queue.Damaged));
        table.AddRow("bytes", Number(queue.Bytes));
        table.AddRow("consumers", Number(queue.Consumers));
        table.AddRow("lease", string.Create(CultureInfo.InvariantCulture, $"{queue.Lease.TotalSeconds:0.###} s"));
        table.AddRow("delay", string.Create(CultureInfo.InvariantCulture, $"{queue.Delay.TotalSeconds:0.###} s"));
        table.AddRow("published", Number((long)queue.Published));
        table.AddRow("accepted", Number((long)queue.Accepted));
        table.AddRow("rejected", Number((long)queue.Rejected));
        table.AddRow("redelivered", Number((long)queue.Redelivered));
        table.AddRow("purged", Number((long)queue.Purged));
        AnsiConsole.Write(table);
    }

    private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);

    private static void Write(Utf8JsonWriter writer, QueueInfo queue)
    {
        writer.WriteStartObject();
        writer.WriteString("name", queue.Name);
        writer.WriteNumber("ready", queue.Ready);
        writer.WriteNumber("inFlight", queue.InFlight);
        writer.WriteNumber("delayed", queue.Delayed);
        writer.WriteNumber("damaged", queue.Damaged);
        writer.WriteNumber("messages", queue.Messages);
        writer.WriteNumber("bytes", queue.Bytes);
        writer.WriteNumber("consumers", queue.Consumers);
        writer.WriteNumber("leaseSeconds", queue.Lease.TotalSeconds);
        writer.WriteNumber("delaySeconds", queue.Delay.TotalSeconds);
        writer.WriteNumber("published", queue.Published);
        writer.WriteNumber("accepted", queue.Accepted);
        writer.WriteNumber("rejected", queue.Rejected);
        writer.WriteNumber("redelivered", queue.Redelivered);
        writer.WriteNumber("purged", queue.Purged);
        writer.WriteEndObject();
    }
}
