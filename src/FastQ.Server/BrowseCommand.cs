using System.Buffers;
using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Text.Json;
using FastQ.Client;
using FastQ.Protocol;
using Spectre.Console;

namespace FastQ.Server;

/// <summary>fastq browse and fastq why: messages where they stand, without taking them.</summary>
internal static class BrowseCommand
{
    public static Command CreateBrowse()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Queue(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Option<int> max = Shared.Within(new Option<int>("--max") { Description = "End after so many messages.", DefaultValueFactory = _ => 100, HelpName = "N" }, 1, int.MaxValue);
        Option<ulong> from = new("--from") { Description = "The first place to look at.", HelpName = "TAG" };
        Option<string> filter = RedriveCommand.Filter();
        Option<string> state = new("--state") { Description = "Only those that are ready, in-flight, delayed, damaged or dead-lettering." };
        state.AcceptOnlyFromAmong("ready", "in-flight", "delayed", "damaged", "dead-lettering");
        Command command = new("browse", "Look at the messages of a queue without taking them: nothing is delivered, counted or changed.\n\nExamples:\n  fastq browse work\n  fastq browse work --state in-flight --json | jq .owner\n  fastq browse work.dead --filter \"reason=rejected and age<1h\"")
        {
            name, max, from, state, filter, socket, patience, json,
        };
        command.SetAction(parsed =>
        {
            using Session session = Shared.Connect(parsed.GetRequiredValue(socket), parsed.GetValue(patience), "fastq browse");
            IEnumerable<BrowsedMessage> messages = session.Browse(parsed.GetRequiredValue(name), parsed.GetValue(from), parsed.GetValue(filter) ?? "")
                .Where(message => parsed.GetValue(state) is not string wanted || StateNames.NameOf(message.State) == wanted)
                .Take(parsed.GetValue(max));
            if (parsed.GetValue(json))
            {
                PrintLines(messages, parsed.GetRequiredValue(name));
            }
            else
            {
                PrintTable(messages);
            }

            return 0;
        });
        return command;
    }

    public static Command CreateWhy()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Queue(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Argument<string> id = new("id") { Description = "The message's id, or its place (tag) as browse shows it." };
        Command command = new("why", "Say in a sentence why a message is where it is.\n\nExample:\n  fastq why work order-17") { name, id, socket, patience, json };
        command.SetAction(parsed =>
        {
            string queue = parsed.GetRequiredValue(name), wanted = parsed.GetRequiredValue(id);
            using Session session = Shared.Connect(parsed.GetRequiredValue(socket), parsed.GetValue(patience), "fastq why");
            (BrowsedMessage? message, long readyBefore) = Find(session, queue, wanted);
            if (message is null)
            {
                Console.Error.WriteLine($"fastq: queue {queue} has no message '{wanted}': it was settled or purged, or was never there.");
                return 1;
            }

            string why = Explain(message, session.GetQueue(queue), readyBefore);
            if (parsed.GetValue(json))
            {
                Shared.PrintJson(writer =>
                {
                    writer.WriteStartObject();
                    WriteStanding(writer, queue, message);
                    writer.WriteString("why", why);
                    writer.WriteEndObject();
                });
            }
            else
            {
                Console.WriteLine(why);
            }

            return 0;
        });
        return command;
    }

    /// <summary>By its id, else by its place; and how many ready ones come before it.</summary>
    public static (BrowsedMessage? Message, long ReadyBefore) Find(Session session, string queue, string wanted)
    {
        (BrowsedMessage? byPlace, long before, long ready) = (null, 0, 0);
        bool isPlace = ulong.TryParse(wanted, NumberStyles.None, CultureInfo.InvariantCulture, out ulong place);
        foreach (BrowsedMessage message in session.Browse(queue))
        {
            if (message.MessageId == wanted)
            {
                return (message, ready);
            }

            if (isPlace && message.Tag == place)
            {
                (byPlace, before) = (message, ready);
            }

            ready += message.State == MessageState.Ready ? 1 : 0;
        }

        return (byPlace, before);
    }

    private static string Explain(BrowsedMessage message, QueueInfo queue, long readyBefore)
    {
        string what = string.Create(CultureInfo.InvariantCulture, $"Message {message.MessageId ?? $"at place {message.Tag}"} of queue {queue.Name}{Route(message)}");
        string times = (message.Deliveries switch { 0 => "was never delivered", 1 => "was delivered once", _ => string.Create(CultureInfo.InvariantCulture, $"was delivered {message.Deliveries} times") }) + Back(message.LastRelease);
        string before = readyBefore switch { 0 => "no other comes before it", 1 => "one that is ready comes before it", _ => string.Create(CultureInfo.InvariantCulture, $"{readyBefore} that are ready come before it") };
        string standing = message.State switch
        {
            MessageState.InFlight when message.Owner is { Length: > 0 } owner => string.Create(CultureInfo.InvariantCulture, $"{what} is with {owner}, whose lease runs for another {message.LeaseLeft!.Value.TotalSeconds:0.#} s; it {times}."),
            MessageState.InFlight => string.Create(CultureInfo.InvariantCulture, $"{what} is with a consumer that is away; its lease runs for another {message.LeaseLeft!.Value.TotalSeconds:0.#} s, then it goes to somebody else; it {times}."),
            MessageState.Delayed => string.Create(CultureInfo.InvariantCulture, $"{what} is delayed until {message.Due!.Value.UtcDateTime:yyyy-MM-ddTHH:mm:ss.fffZ}; it {times}."),
            MessageState.DeadLettering when message.IsStopped => $"{what} has gone in a circle of dead-letter queues, and stays: {Cause(message.Reason)}; it {times}.",
            MessageState.DeadLettering when message.Reason == DeathReason.Unroutable => $"{what} has died, and exchange {queue.DeadLetterExchange} gives it to no queue: it stays until it does; it {times}.",
            MessageState.DeadLettering => $"{what} is on its way to {(queue.DeadLetterExchange.Length > 0 ? $"exchange {queue.DeadLetterExchange}" : $"queue {queue.DeadLetter}")}: {Cause(message.Reason)}; it {times}.",
            MessageState.Damaged => $"{what} has rotted on the disk: it is kept, and never delivered.",
            _ when (queue.Paused & PausedWays.Out) != 0 => $"{what} is ready, but the queue is paused; {before}; it {times}.{Story(message.Deaths)}",
            _ when message.WaitsFor is string limit => $"{what} is ready, but waits for {limit}; {before}; it {times}.",
            _ when message.IsBehind => $"{what} is ready, but another of its group comes first: that is with a consumer, waits for its retry, or is older; it {times}.",
            _ when queue.Consumers == 0 => $"{what} is ready, but the queue has no consumer; {before}; it {times}.",
            _ => string.Create(CultureInfo.InvariantCulture, $"{what} is ready and waits for its turn: {before}, and the queue's consumers ({queue.Consumers}) hold {queue.InFlight} and take more as their credit allows; it {times}."),
        };
        return standing + Story(message.Deaths);
    }

    /// <summary>Of a message that came back from a consumer: why it did last. Else nothing.</summary>
    private static string Back(ReleaseReason? reason) => reason switch
    {
        ReleaseReason.LeaseEnded => ", and came back last as its lease ended",
        ReleaseReason.ConsumerGone => ", and came back last as its consumer was gone",
        ReleaseReason.Released => ", and came back last as its consumer released it",
        ReleaseReason.ReleasedUncounted => ", and came back last as its consumer released it, uncounted",
        _ => "",
    };

    /// <summary>Of a message that came through an exchange: which, and by which key. Else nothing.</summary>
    private static string Route(BrowsedMessage message) => message.Exchange is string exchange ? $" (sent to exchange {OnOneLine(exchange)} with key '{OnOneLine(message.RoutingKey ?? "")}')" : "";

    /// <summary>Of a dead letter: why it came to its queue. Else nothing.</summary>
    private static string Story(IReadOnlyList<Death> deaths)
    {
        if (deaths.Count == 0)
        {
            return "";
        }

        Death last = deaths[0];
        string when = last.Count > 1 ? string.Create(CultureInfo.InvariantCulture, $"{last.Count} times for the same reason, last at") : "at";
        string words = last.Text is string text ? $", and said: {OnOneLine(text).TrimEnd('.')}" : "";
        return string.Create(CultureInfo.InvariantCulture, $" It died in queue {last.Queue} {when} {last.Last.UtcDateTime:yyyy-MM-ddTHH:mm:ss.fffZ}: {Cause(last.Reason)}{words}.");
    }

    private static string Cause(DeathReason? reason) => reason switch
    {
        DeathReason.MaxDeliveries => "it was delivered as often as its queue allows, and not accepted",
        DeathReason.Rejected => "a consumer rejected it",
        DeathReason.Expired => "its time to live was over",
        DeathReason.Overflow => "its queue was full, and it was the oldest",
        DeathReason.Unroutable => "the exchange for dead letters gives it to no queue",
        _ => "this program does not know the reason",
    };

    /// <summary>A text of anybody's: what a terminal would act upon is a space.</summary>
    private static string OnOneLine(IEnumerable<char> text) => new([.. text.Select(one => char.IsControl(one) ? ' ' : one)]);

    private static void PrintLines(IEnumerable<BrowsedMessage> messages, string queue)
    {
        using Stream output = Console.OpenStandardOutput();
        ArrayBufferWriter<byte> line = new();
        foreach (BrowsedMessage message in messages)
        {
            line.ResetWrittenCount();
            using (Utf8JsonWriter writer = new(line))
            {
                writer.WriteStartObject();
                WriteStanding(writer, queue, message);
                MessageJson.WriteBody(writer, message.Body.Span, message.Encoding);
                writer.WriteNumber("bodyBytes", message.BodyBytes);
                MessageJson.WriteProperties(writer, message.PropertyBytes.Span);
                MessageJson.WriteDeaths(writer, message.Deaths);
                writer.WriteEndObject();
            }

            line.Write("\n"u8);
            output.Write(line.WrittenSpan);
        }
    }

    private static void WriteStanding(Utf8JsonWriter writer, string queue, BrowsedMessage message)
    {
        writer.WriteString("queue", queue);
        writer.WriteNumber("tag", message.Tag);
        writer.WriteString("state", StateNames.NameOf(message.State));
        writer.WriteNumber("deliveries", message.Deliveries);
        if (message.Owner is string owner)
        {
            writer.WriteString("owner", owner);
            writer.WriteNumber("subscription", message.Subscription);
            writer.WriteNumber("leaseLeft", message.LeaseLeft!.Value.TotalSeconds);
        }

        if (message.Due is DateTimeOffset due)
        {
            writer.WriteString("due", due.UtcDateTime);
        }

        if (message.Reason is DeathReason reason)
        {
            writer.WriteString("reason", StateNames.NameOf(reason));
            writer.WriteBoolean("stopped", message.IsStopped);
        }
        else if (message.LastRelease is ReleaseReason release)
        {
            writer.WriteString("reason", StateNames.NameOf(release));
        }

        if (message.WaitsFor is string limit)
        {
            writer.WriteString("waitsFor", limit);
        }

        if (message.IsBehind)
        {
            writer.WriteBoolean("behindItsGroup", true);
        }

        if (message.Timestamp is DateTimeOffset time)
        {
            writer.WriteString("timestamp", time.UtcDateTime);
        }
    }

    private static void PrintTable(IEnumerable<BrowsedMessage> messages)
    {
        const int ShownCharacters = 30;
        Table table = new Table().AddColumn(new TableColumn("tag").RightAligned().NoWrap()).AddColumn(new TableColumn("state").NoWrap()).AddColumn(new TableColumn("times").RightAligned().NoWrap()).AddColumn("owner, when due, or why dead").AddColumn(new TableColumn("body").NoWrap());
        foreach (BrowsedMessage message in messages)
        {
            string text = message.Encoding is string encoding ? $"({encoding}, not decoded)" : OnOneLine(Encoding.UTF8.GetString(message.Body.Span).Take(ShownCharacters + 1));
            table.AddRow(message.Tag.ToString(CultureInfo.InvariantCulture), StateNames.NameOf(message.State), message.Deliveries.ToString(CultureInfo.InvariantCulture), Markup.Escape(Remark(message)), Markup.Escape(text.Length > ShownCharacters ? text[..ShownCharacters] + "…" : text));
        }

        AnsiConsole.Write(table);
    }

    /// <summary>What explains its state.</summary>
    private static string Remark(BrowsedMessage message) => message switch
    {
        { LeaseLeft: TimeSpan left } => string.Create(CultureInfo.InvariantCulture, $"{(message.Owner is { Length: > 0 } name ? name : "away")}, {left.TotalSeconds:0.#} s"),
        { Due: DateTimeOffset due } => string.Create(CultureInfo.InvariantCulture, $"due {due.UtcDateTime:yyyy-MM-ddTHH:mm:ssZ}"),
        { Reason: DeathReason reason } => StateNames.NameOf(reason) + (message.IsStopped ? ", stays" : ""),
        { WaitsFor: string limit } => $"waits for {limit}",
        { LastRelease: ReleaseReason release } => StateNames.NameOf(release),
        _ => "",
    };
}
