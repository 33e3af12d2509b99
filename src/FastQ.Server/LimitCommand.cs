using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using FastQ.Client;
using Spectre.Console;

namespace FastQ.Server;

/// <summary>fastq limit create|set|list|show|delete: limits that queues share by naming them.</summary>
internal static class LimitCommand
{
    public static Command Create() => new("limit", "Limits that several queues share: how much of them is with consumers at once, how much goes in a while.\n\nExamples:\n  fastq limit create api --rate 100/m --burst 10\n  fastq queue create mail --limit api\n  fastq limit set api --max-in-flight 5")
    {
        Put("create", "Create a limit. One that exists with the same numbers is fine.", static (session, name, limits) => session.DeclareLimit(name, limits)),
        Put("set", "Give a limit other numbers while it runs; those that are not named stay.", static (session, name, limits) => session.ChangeLimit(name, limits)),
        ListAll(), Show(), Delete(),
    };

    private static Command Put(string verb, string about, Func<Session, string, FlowOptions, LimitInfo> put)
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Name(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new(verb, about) { name, socket, patience, json };
        FlowArguments flow = new(command, isOfQueue: false);
        command.SetAction(parsed => With(parsed.GetRequiredValue(socket), parsed.GetValue(patience), session =>
            Print([put(session, parsed.GetRequiredValue(name), flow.Of(parsed))], parsed.GetValue(json), isList: false)));
        return command;
    }

    private static Command ListAll()
    {
        (Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new("list", "List all limits that queues may share.") { socket, patience, json };
        command.SetAction(parsed => With(parsed.GetRequiredValue(socket), parsed.GetValue(patience), session => Print(session.ListLimits(), parsed.GetValue(json), isList: true)));
        return command;
    }

    private static Command Show()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Name(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new("show", "Show a limit: its numbers, what is in flight under it, how many queues name it and wait for it.") { name, socket, patience, json };
        command.SetAction(parsed =>
        {
            using Session session = Shared.Connect(parsed.GetRequiredValue(socket), parsed.GetValue(patience), "fastq limit");
            LimitInfo? limit = session.ListLimits().SingleOrDefault(limit => limit.Name == parsed.GetRequiredValue(name));
            if (limit is null)
            {
                Console.Error.WriteLine($"fastq: there is no limit {parsed.GetRequiredValue(name)}: fastq limit list shows those that there are.");
                return 1;
            }

            Print([limit], parsed.GetValue(json), isList: false);
            return 0;
        });
        return command;
    }

    private static Command Delete()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience) = (Name(), Shared.Socket(), Shared.Patience());
        Command command = new("delete", "Delete a limit that no queue names.") { name, socket, patience };
        command.SetAction(parsed => With(parsed.GetRequiredValue(socket), parsed.GetValue(patience), session => session.DeleteLimit(parsed.GetRequiredValue(name))));
        return command;
    }

    private static Argument<string> Name() => new("NAME") { Description = "Name of the limit." };

    private static int With(string socket, TimeSpan patience, Action<Session> use)
    {
        using Session session = Shared.Connect(socket, patience, "fastq limit");
        use(session);
        session.Flush();
        return 0;
    }

    private static void Print(IReadOnlyList<LimitInfo> limits, bool json, bool isList)
    {
        if (json)
        {
            Shared.PrintJson(writer =>
            {
                if (isList)
                {
                    writer.WriteStartArray();
                }

                foreach (LimitInfo limit in limits)
                {
                    Write(writer, limit);
                }

                if (isList)
                {
                    writer.WriteEndArray();
                }
            });
            return;
        }

        Table table = new Table().AddColumn("limit").AddColumn("max in flight").AddColumn("rate").AddColumn("burst").AddColumn("in flight").AddColumn("queues").AddColumn("waiting");
        foreach (LimitInfo limit in limits)
        {
            table.AddRow(Markup.Escape(limit.Name), Number(limit.Limits.MaxInFlight), limit.Limits.Rate.Count == 0 ? "" : limit.Limits.Rate.ToString(), Number(limit.Limits.Burst), limit.InFlight.ToString("N0", CultureInfo.InvariantCulture), Number(limit.Queues), Number(limit.Waiting));
        }

        AnsiConsole.Write(table);
    }

    private static string Number(int number) => number == 0 ? "" : number.ToString("N0", CultureInfo.InvariantCulture);

    private static void Write(Utf8JsonWriter writer, LimitInfo limit)
    {
        writer.WriteStartObject();
        writer.WriteString("name", limit.Name);
        FlowArguments.Write(writer, limit.Limits);
        writer.WriteNumber("inFlight", limit.InFlight);
        writer.WriteNumber("queues", limit.Queues);
        writer.WriteNumber("waiting", limit.Waiting);
        writer.WriteEndObject();
    }
}
