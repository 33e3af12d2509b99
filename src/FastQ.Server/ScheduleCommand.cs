using System.CommandLine;
using FastQ.Client;
using FastQ.Protocol;

namespace FastQ.Server;

/// <summary>fastq schedule: messages that wait for their time, by their schedule key.</summary>
internal static class ScheduleCommand
{
    public static Command Create() => new("schedule", "Cancel or move a message that waits for its time, by its schedule key (publish --schedule-key).\n\nExamples:\n  fastq publish work --body hello --delay 1h --schedule-key order-17\n  fastq schedule move work order-17 --delay 5m\n  fastq schedule cancel work order-17")
    {
        Cancel(), Move(),
    };

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
