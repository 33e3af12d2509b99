using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Text.Json;
using FastQ.Client;
using FastQ.Protocol;
using Spectre.Console;

namespace FastQ.Server;

/// <summary>fastq schedule: messages that are sent again and again; and one that waits for its time, by its schedule key.</summary>
internal static class ScheduleCommand
{
    public static Command Create() => new("schedule", "Send a message again and again; cancel or move one that waits for its time.\n\nExamples:\n  fastq schedule create nightly --queue work --cron \"0 3 * * *\" --zone Europe/Berlin --body tidy\n  fastq schedule create beat --queue work --every 30s --missed none --body beat\n  fastq publish work --body hello --delay 1h --schedule-key order-17\n  fastq schedule move work order-17 --delay 5m\n  fastq schedule cancel work order-17")
    {
        CreateOne(), ListAll(), ShowOne(), PauseOrResume(isPause: true), PauseOrResume(isPause: false), Delete(), Cancel(), Move(),
    };

    private static Command CreateOne()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Name(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Option<string> queue = new("--queue") { Description = "Where its messages go.", HelpName = "Q", Required = true };
        Option<string?> cron = new("--cron") { Description = "When: minute, hour, day, month, weekday, like \"0 3 * * 1-5\"; with seconds before them, if there are six.", HelpName = "EXPR" };
        Option<string?> zone = new("--zone") { Description = "The time zone of --cron, like Europe/Berlin (UTC).", HelpName = "ZONE" };
        Option<TimeSpan?> every = Shared.OptionalDuration("--every", "At this interval, first so long from now on.");
        Option<string> missed = new("--missed") { Description = "What becomes of firings that were missed while the broker was away, or the queue full or paused: the last is sent, all are, or none.", HelpName = "one|all|none", DefaultValueFactory = _ => "one" };
        missed.AcceptOnlyFromAmong("one", "all", "none");
        Option<DateTimeOffset?> until = Shared.Moment("--until", "It does not fire after this moment, as 2030-01-31T08:00:00Z; without a zone it is local time.");
        Option<long?> count = new("--count") { Description = "It ends with so many messages.", HelpName = "N" };
        Option<string> body = new("--body") { Description = "The body of each message, as text.", HelpName = "TEXT", Required = true };
        Option<string?> type = new("--type") { Description = "The application's own kind of message.", HelpName = "T" };
        Option<string?> contentType = new("--content-type") { Description = "Media type of the body, as application/json.", HelpName = "M" };
        Command command = new("create", "Make a schedule; one of the same name is replaced. It is kept over restarts, and goes with its queue.") { name, queue, cron, zone, every, missed, until, count, body, type, contentType, socket, patience, json };
        command.Validators.Add(result =>
        {
            if ((result.GetResult(cron) is null) == (result.GetResult(every) is null))
            {
                result.AddError("Give --cron EXPR or --every DURATION.");
            }
        });
        command.SetAction(parsed =>
        {
            ScheduleRule rule = parsed.GetValue(every) is TimeSpan interval ? ScheduleRule.Every(interval) : ScheduleRule.Cron(parsed.GetValue(cron)!, parsed.GetValue(zone));
            ScheduleOptions options = new()
            {
                Message = new PublishOptions { Type = parsed.GetValue(type), ContentType = parsed.GetValue(contentType) },
                Missed = Enum.Parse<MissedFirings>(parsed.GetRequiredValue(missed), ignoreCase: true),
                Until = parsed.GetValue(until),
                Count = parsed.GetValue(count),
            };
            return With(parsed, socket, patience, session => Print(session.SetSchedule(parsed.GetRequiredValue(name), parsed.GetRequiredValue(queue), rule, Encoding.UTF8.GetBytes(parsed.GetRequiredValue(body)), options), parsed.GetValue(json)));
        });
        return command;
    }

    private static Command ListAll()
    {
        (Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new("list", "List all schedules.") { socket, patience, json };
        command.SetAction(parsed => With(parsed, socket, patience, session =>
        {
            IReadOnlyList<ScheduleInfo> schedules = session.ListSchedules();
            if (parsed.GetValue(json))
            {
                Shared.PrintJson(writer =>
                {
                    writer.WriteStartArray();
                    foreach (ScheduleInfo schedule in schedules)
                    {
                        Write(writer, schedule);
                    }

                    writer.WriteEndArray();
                });
                return;
            }

            Table table = new Table().AddColumn("schedule").AddColumn("queue").AddColumn("when").AddColumn("next");
            foreach (ScheduleInfo schedule in schedules)
            {
                table.AddRow(Markup.Escape(schedule.Name), Markup.Escape(schedule.Queue), Markup.Escape(RuleOf(schedule)), NextOf(schedule));
            }

            AnsiConsole.Write(table);
        }));
        return command;
    }

    private static Command ShowOne()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Name(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new("show", "Show a schedule: when it fires next, when it last did, how often.") { name, socket, patience, json };
        command.SetAction(parsed => With(parsed, socket, patience, session => Print(session.GetSchedule(parsed.GetRequiredValue(name)), parsed.GetValue(json))));
        return command;
    }

    private static Command PauseOrResume(bool isPause)
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Name(), Shared.Socket(), Shared.Patience(), Shared.Json());
        string about = isPause ? "Let a schedule stand still, over restarts too." : "Let a paused schedule go on, by the wall clock as it is; what it missed meanwhile is not sent.";
        Command command = new(isPause ? "pause" : "resume", about) { name, socket, patience, json };
        command.SetAction(parsed => With(parsed, socket, patience, session => Print(session.PauseSchedule(parsed.GetRequiredValue(name), isPause), parsed.GetValue(json))));
        return command;
    }

    private static Command Delete()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience) = (Name(), Shared.Socket(), Shared.Patience());
        Command command = new("delete", "Delete a schedule; what it has sent stays.") { name, socket, patience };
        command.SetAction(parsed => With(parsed, socket, patience, session => session.DeleteSchedule(parsed.GetRequiredValue(name))));
        return command;
    }

    private static Argument<string> Name() => new("NAME") { Description = "Name of the schedule." };

    private static int With(ParseResult parsed, Option<string> socket, Option<TimeSpan> patience, Action<Session> use)
    {
        using Session session = Shared.Connect(parsed.GetRequiredValue(socket), parsed.GetValue(patience), "fastq schedule");
        use(session);
        session.Flush();
        return 0;
    }

    private static void Print(ScheduleInfo schedule, bool json)
    {
        if (json)
        {
            Shared.PrintJson(writer => Write(writer, schedule));
            return;
        }

        Table table = new Table().AddColumn("schedule").AddColumn(Markup.Escape(schedule.Name));
        table.AddRow("queue", Markup.Escape(schedule.Queue));
        table.AddRow("when", Markup.Escape(RuleOf(schedule)));
        table.AddRow("next", NextOf(schedule));
        table.AddRow("last", schedule.Last is DateTimeOffset last ? TextOf(last) : "never");
        table.AddRow("fired", schedule.Fired.ToString("N0", CultureInfo.InvariantCulture));
        table.AddRow("failed", schedule.Failed.ToString("N0", CultureInfo.InvariantCulture));
        table.AddRow("missed", NameOf(schedule.Missed));
        table.AddRow("ends", schedule switch { { Until: DateTimeOffset until } => $"after {TextOf(until)}", { Count: long count } => string.Create(CultureInfo.InvariantCulture, $"with {count:N0} messages"), _ => "never" });
        table.AddRow("body", string.Create(CultureInfo.InvariantCulture, $"{schedule.BodyBytes:N0} B"));
        AnsiConsole.Write(table);
    }

    private static string RuleOf(ScheduleInfo schedule) => schedule.Every is TimeSpan every ? string.Create(CultureInfo.InvariantCulture, $"every {every.TotalSeconds:0.###} s") : $"{schedule.Cron} {schedule.Zone ?? "UTC"}";

    private static string NextOf(ScheduleInfo schedule) => schedule.IsPaused ? "paused" : schedule.Next is DateTimeOffset next ? TextOf(next) : "ended";

    private static string TextOf(DateTimeOffset moment) => moment.ToString("yyyy-MM-dd HH:mm:ss.FFF'Z'", CultureInfo.InvariantCulture);

    private static string NameOf(MissedFirings missed) => missed switch { MissedFirings.All => "all", MissedFirings.None => "none", _ => "one" };

    private static void Write(Utf8JsonWriter json, ScheduleInfo schedule)
    {
        json.WriteStartObject();
        json.WriteString("name", schedule.Name);
        json.WriteString("queue", schedule.Queue);
        json.WriteString("cron", schedule.Cron);
        json.WriteString("zone", schedule.Cron is null ? null : schedule.Zone ?? "UTC");
        WriteNumber(json, "everySeconds", schedule.Every?.TotalSeconds);
        json.WriteString("missed", NameOf(schedule.Missed));
        WriteMoment(json, "until", schedule.Until);
        WriteNumber(json, "count", schedule.Count);
        json.WriteNumber("bodyBytes", schedule.BodyBytes);
        WriteMoment(json, "next", schedule.Next);
        WriteMoment(json, "last", schedule.Last);
        json.WriteNumber("fired", schedule.Fired);
        json.WriteNumber("failed", schedule.Failed);
        json.WriteBoolean("paused", schedule.IsPaused);
        json.WriteEndObject();
    }

    private static void WriteNumber(Utf8JsonWriter json, string name, double? number)
    {
        if (number is double value)
        {
            json.WriteNumber(name, value);
        }
        else
        {
            json.WriteNull(name);
        }
    }

    private static void WriteMoment(Utf8JsonWriter json, string name, DateTimeOffset? moment)
    {
        if (moment is DateTimeOffset at)
        {
            json.WriteString(name, at.UtcDateTime);
        }
        else
        {
            json.WriteNull(name);
        }
    }

    private static Command Cancel()
    {
        (Argument<string> queue, Argument<string> key, Option<string> socket, Option<TimeSpan> patience) = (Shared.Queue(), Key(), Shared.Socket(), Shared.Patience());
        Command command = new("cancel", "Remove the message that waits under a key; it counts as purged. Ends with 1 when it is too late, and says why.") { queue, key, socket, patience };
        command.SetAction(parsed => WithKey(parsed, queue, key, socket, patience, (session, name, text) => session.CancelScheduled(name, text)));
        return command;
    }

    private static Command Move()
    {
        (Argument<string> queue, Argument<string> key, Option<string> socket, Option<TimeSpan> patience) = (Shared.Queue(), Key(), Shared.Socket(), Shared.Patience());
        Option<TimeSpan?> delay = Shared.OptionalDuration("--delay", "From now on so long; 0s: it may be delivered at once.");
        Option<DateTimeOffset?> at = Shared.Moment("--at", "At this moment, as 2030-01-31T08:00:00Z; without a zone it is local time.");
        Command command = new("move", "Give the message that waits under a key another time. Ends with 1 when it is too late, and says why.") { queue, key, delay, at, socket, patience };
        command.Validators.Add(result =>
        {
            if ((result.GetResult(delay) is null) == (result.GetResult(at) is null))
            {
                result.AddError("Give --delay or --at.");
            }
        });
        command.SetAction(parsed => WithKey(parsed, queue, key, socket, patience, (session, name, text) =>
            parsed.GetValue(at) is DateTimeOffset moment ? session.Reschedule(name, text, moment) : session.Reschedule(name, text, parsed.GetValue(delay)!.Value)));
        return command;
    }

    private static Argument<string> Key() => new("KEY") { Description = "The schedule key." };

    private static int WithKey(ParseResult parsed, Argument<string> queue, Argument<string> key, Option<string> socket, Option<TimeSpan> patience, Func<Session, string, string, Timeliness> change)
    {
        (string name, string text) = (parsed.GetRequiredValue(queue), parsed.GetRequiredValue(key));
        using Session session = Shared.Connect(parsed.GetRequiredValue(socket), parsed.GetValue(patience), "fastq schedule");
        Timeliness timeliness = change(session, name, text);
        session.Flush();
        if (timeliness == Timeliness.InTime)
        {
            return 0;
        }

        Console.Error.WriteLine(timeliness == Timeliness.HandedOut
            ? $"fastq: too late: the message of key '{text}' is with a consumer of queue {name}, or was once."
            : $"fastq: too late: queue {name} has no message of key '{text}' any more, or never had one.");
        return 1;
    }
}
