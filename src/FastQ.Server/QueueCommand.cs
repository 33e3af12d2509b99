using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Text.Json;
using FastQ.Client;
using FastQ.Protocol;
using Spectre.Console;
using Overflow = FastQ.Protocol.Overflow;

namespace FastQ.Server;

/// <summary>fastq queue create|set|list|show|consumers|pause|resume|purge|delete.</summary>
internal static class QueueCommand
{
    public static Command Create() => new("queue", "Create, change, list, show, pause, purge and delete queues.\n\nExamples:\n  fastq queue create work --lease 1m\n  fastq queue create mail --max-deliveries 5 --backoff 1s,2,5m --ttl 1d\n  fastq queue set mail --max-length 100000 --overflow reject\n  fastq queue pause mail\n  fastq queue list --json")
    {
        CreateOne(), SetOne(), ListAll(), ShowOne(), ListConsumers(), PauseOrResume(isPause: true), PauseOrResume(isPause: false), Purge(), Delete(),
    };

    private static Command CreateOne()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Queue(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new("create", "Create a queue. One that exists with the same attributes is fine; with others it is an error that names the difference.") { name, socket, patience, json };
        Attributes attributes = new(command);
        command.SetAction(parsed => With(parsed.GetRequiredValue(socket), parsed.GetValue(patience), session =>
            Print(session.DeclareQueue(parsed.GetRequiredValue(name), attributes.Of(parsed)), parsed.GetValue(json))));
        return command;
    }

    private static Command SetOne()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Queue(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new("set", "Give a queue other attributes while it runs; those that are not named stay. Messages that are there keep their times, consumers their lease; a limit counts from the next message on.") { name, socket, patience, json };
        Attributes attributes = new(command);
        command.SetAction(parsed => With(parsed.GetRequiredValue(socket), parsed.GetValue(patience), session =>
            Print(session.ChangeQueue(parsed.GetRequiredValue(name), attributes.Of(parsed)), parsed.GetValue(json))));
        return command;
    }

    private static Command PauseOrResume(bool isPause)
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Queue(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Option<bool> comesIn = new("--in") { Description = "New messages: they are refused while it is paused." }, goesOut = new("--out") { Description = "Deliveries. What consumers hold stays theirs." };
        Option<uint?> consumer = new("--subscription") { Description = "One consumer alone, by its subscription (fastq queue consumers): it gets nothing, and what it holds stays its own.", HelpName = "ID" };
        string about = isPause ? "Let a queue stand still, over restarts too: its deliveries, unless another way is named." : "Let a paused queue go on: both ways, unless one is named. What its breaker has stopped goes on, too.";
        Command command = new(isPause ? "pause" : "resume", about) { name, comesIn, goesOut, consumer, socket, patience, json };
        command.SetAction(parsed => With(parsed.GetRequiredValue(socket), parsed.GetValue(patience), session =>
        {
            if (parsed.GetValue(consumer) is uint subscription)
            {
                Print(session.PauseSubscription(parsed.GetRequiredValue(name), subscription, isPause), parsed.GetValue(json));
                return;
            }

            PausedWays named = (parsed.GetValue(comesIn) ? PausedWays.In : PausedWays.None) | (parsed.GetValue(goesOut) ? PausedWays.Out : PausedWays.None);
            PausedWays ways = named != PausedWays.None ? named : isPause ? PausedWays.Out : PausedWays.In | PausedWays.Out | PausedWays.Breaker;
            ways |= !isPause && (ways & PausedWays.Out) != 0 ? PausedWays.Breaker : PausedWays.None;
            PausedWays before = session.GetQueue(parsed.GetRequiredValue(name)).Paused;
            Print(session.PauseQueue(parsed.GetRequiredValue(name), isPause ? before | ways : before & ~ways), parsed.GetValue(json));
        }));
        return command;
    }

    /// <summary>The options of a command that names attributes of a queue.</summary>
    private sealed class Attributes
    {
        private readonly Option<TimeSpan?> _lease = Shared.OptionalDuration("--lease", "How long a delivery is held before it goes to somebody else (30s).");
        private readonly Option<TimeSpan?> _delay = Shared.OptionalDuration("--delay", "How long each message waits before it is delivered, unless it says otherwise (not at all).");
        private readonly Option<TimeSpan?> _life = Shared.OptionalDuration("--ttl", "A message expires so long after it may first be delivered, unless it says sooner (never).");
        private readonly Option<int?> _deliveries = new("--max-deliveries") { Description = "A message that was delivered so often and not accepted goes to the dead letters; 0: no limit (20; where there are no dead letters, no limit).", HelpName = "N", CustomParser = ParseDeliveries };
        private readonly Option<Backoff?> _backoff = new("--backoff") { Description = "How long a message waits after a delivery that failed: the first wait, by what each next one is multiplied, the longest. Like 1s,2,5m (not at all).", HelpName = "FIRST,FACTOR,MAX", CustomParser = ParseBackoff };
        private readonly Option<string?> _dead = new("--dead-letter") { Description = "The queue for messages that were delivered too often, rejected, expired or pushed out; it is made when needed. '': they are gone (QUEUE.dead).", HelpName = "NAME" };
        private readonly Option<string?> _deadExchange = new("--dead-letter-exchange") { Description = "The exchange for them, in place of --dead-letter: it gives them on by their own routing keys. '': none (none).", HelpName = "NAME" };
        private readonly Option<long?> _length = new("--max-length") { Description = "So many messages may wait (no limit).", HelpName = "N", CustomParser = ParseCount };
        private readonly Option<long?> _bytes = Shared.OptionalSize("--max-bytes", "So many bytes of properties and bodies may wait (no limit).");
        private readonly Option<string?> _overflow = new("--overflow") { Description = "What happens then: the next message is refused, the oldest is dropped, or the oldest goes to the dead letters (reject).", HelpName = "drop-head|reject|dead-letter" };
        private readonly Option<long?> _size = Shared.OptionalSize("--max-message-size", "Largest body, as it is stored (as the broker has it).");

        private readonly Option<RequiredProperties?> _require = new("--require") { Description = $"Properties that each message must have, or it is refused: some of {Requirement.AllNames}. '': none (none).", HelpName = "NAME,...", CustomParser = ParseRequirement };

        private readonly Option<long?> _lz4 = Shared.OptionalSize("--lz4", "Bodies from this size on are compressed by their senders, from when they open the queue the next time; 0: none (none).");

        private readonly Option<bool?> _priority = Switch("--priority", "Messages of a higher priority go first (off).");
        private readonly Option<int?> _share = new("--priority-share") { Description = "So many of a hundred deliveries, up to 50, go to lower priorities while the highest has messages (0).", HelpName = "N", CustomParser = ParseShare };
        private readonly Option<bool?> _fifo = Switch("--fifo", "Messages of one group (publish --group) go one after the other, each when the one before is settled (off).");
        private readonly Option<bool?> _fair = Switch("--fair", "Tenants (publish --tenant) take turns (off).");
        private readonly Option<string?> _weights = new("--fair-weights") { Description = "How many messages a tenant gets in a round, where that is not one; '': one each.", HelpName = "T=N,...", CustomParser = ParseWeights };
        private readonly Option<TimeSpan?> _processed = Shared.OptionalDuration("--processed-window", "So long it is remembered what consumers have marked as processed, up to 30d; 0s: not at all (0s).");
        private readonly Option<TimeSpan?> _dedup = Shared.OptionalDuration("--dedup-window", "So long a deduplication id (publish --dedup-id) is remembered, up to 30d; 0s: not at all (5m).");
        private readonly Option<bool?> _byGroup = Switch("--dedup-by-group", "Ids are compared within a group, not within the queue (off).");
        private readonly Option<TimeSpan?> _expires = Shared.OptionalDuration("--expires", "So long without consumers, and without a message that comes, the queue is deleted; 0s: never (never).");
        private readonly Option<bool?> _single = Switch("--single-active", "One consumer at a time gets messages; the next follows when it ends (off).");

        private readonly FlowArguments _flow;

        public Attributes(Command command)
        {
            _flow = new FlowArguments(command, isOfQueue: true);
            _overflow.AcceptOnlyFromAmong("reject", "drop-head", "dead-letter");
            foreach (Option option in (Option[])[_lease, _delay, _life, _deliveries, _backoff, _dead, _deadExchange, _length, _bytes, _overflow, _size, _require, _lz4, _priority, _share, _fifo, _fair, _weights, _dedup, _byGroup, _expires, _single, _processed])
            {
                command.Options.Add(option);
            }
        }

        public QueueOptions Of(ParseResult parsed) => new()
        {
            Lease = parsed.GetValue(_lease),
            Delay = parsed.GetValue(_delay),
            TimeToLive = parsed.GetValue(_life),
            MaxDeliveries = parsed.GetValue(_deliveries),
            Backoff = parsed.GetValue(_backoff),
            DeadLetter = parsed.GetValue(_dead),
            DeadLetterExchange = parsed.GetValue(_deadExchange),
            MaxLength = parsed.GetValue(_length),
            MaxBytes = parsed.GetValue(_bytes),
            Overflow = parsed.GetValue(_overflow) switch { "drop-head" => Overflow.DropHead, "dead-letter" => Overflow.DeadLetter, "reject" => Overflow.Reject, _ => null },
            MaxMessageSize = parsed.GetValue(_size),
            Priority = parsed.GetValue(_priority),
            PriorityShare = parsed.GetValue(_share),
            Fifo = parsed.GetValue(_fifo),
            Fair = parsed.GetValue(_fair),
            FairWeights = parsed.GetValue(_weights) is string weights ? WeightsOf(weights) : null,
            SingleActive = parsed.GetValue(_single),
            ExpiresAfter = parsed.GetValue(_expires),
            DedupWindow = parsed.GetValue(_dedup),
            DedupByGroup = parsed.GetValue(_byGroup),
            ProcessedWindow = parsed.GetValue(_processed),
            Require = parsed.GetValue(_require),
            Lz4FromBytes = parsed.GetValue(_lz4),
            Flow = _flow.Of(parsed),
        };

        private static Option<bool?> Switch(string name, string description) => new(name) { Description = description, HelpName = "true|false", Arity = ArgumentArity.ZeroOrOne };
    }

    private static int? ParseShare(ArgumentResult argument)
    {
        if (int.TryParse(argument.Tokens[0].Value, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number <= 50)
        {
            return number;
        }

        argument.AddError($"--priority-share is 0 to 50; '{argument.Tokens[0].Value}' is not.");
        return null;
    }

    private static string? ParseWeights(ArgumentResult argument)
    {
        string text = argument.Tokens[0].Value;
        if (text.Length == 0 || WeightsOf(text) is not null)
        {
            return text;
        }

        argument.AddError($"'{text}' are no weights. Use like gold=4,silver=2: each tenant once, each weight 1 to 1000.");
        return null;
    }

    /// <summary>Null: these are none.</summary>
    internal static Dictionary<string, int>? WeightsOf(string text)
    {
        Dictionary<string, int> weights = [];
        foreach (string part in text.Length == 0 ? [] : text.Split(','))
        {
            int sign = part.LastIndexOf('=');
            if (sign < 1 || !int.TryParse(part.AsSpan(sign + 1), NumberStyles.None, CultureInfo.InvariantCulture, out int weight) || weight is < 1 or > 1000 || !weights.TryAdd(part[..sign], weight))
            {
                return null;
            }
        }

        return weights;
    }

    private static int? ParseDeliveries(ArgumentResult argument)
    {
        if (int.TryParse(argument.Tokens[0].Value, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number <= Limits.MostMaxDeliveries)
        {
            return number;
        }

        argument.AddError($"--max-deliveries is 0 to {Limits.MostMaxDeliveries}.");
        return null;
    }

    private static long? ParseCount(ArgumentResult argument)
    {
        if (long.TryParse(argument.Tokens[0].Value, NumberStyles.None, CultureInfo.InvariantCulture, out long number))
        {
            return number;
        }

        argument.AddError($"--max-length is a number, 0 (no limit) or more; '{argument.Tokens[0].Value}' is none.");
        return null;
    }

    private static RequiredProperties? ParseRequirement(ArgumentResult argument)
    {
        if (Requirement.TryParse(argument.Tokens[0].Value, out RequiredProperties properties, out string? unknown))
        {
            return properties;
        }

        argument.AddError($"'{unknown}' is no property that a queue can demand. Use some of {Requirement.AllNames}, with commas between.");
        return null;
    }

    private static Backoff? ParseBackoff(ArgumentResult argument)
    {
        string text = argument.Tokens[0].Value;
        if (BackoffOf(text) is Backoff backoff)
        {
            return backoff;
        }

        argument.AddError($"'{text}' is no back-off. Use first wait, factor (1 to 100) and longest wait, like 1s,2,5m.");
        return null;
    }

    /// <summary>Null: this is none.</summary>
    internal static Backoff? BackoffOf(string text)
    {
        string[] parts = text.Split(',');
        return parts.Length == 3
            && Shared.TryParseDuration(parts[0], out TimeSpan first)
            && double.TryParse(parts[1], NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double factor) && factor is >= 1 and <= 100
            && Shared.TryParseDuration(parts[2], out TimeSpan most) && most >= first
            ? new Backoff(first, factor, most)
            : null;
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

    private static Command ListConsumers()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Queue(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new("consumers", "List the consumers of a queue: what each holds, and whether it is paused.") { name, socket, patience, json };
        command.SetAction(parsed => With(parsed.GetRequiredValue(socket), parsed.GetValue(patience), session =>
        {
            IReadOnlyList<SubscriptionInfo> consumers = session.ListSubscriptions(parsed.GetRequiredValue(name));
            if (parsed.GetValue(json))
            {
                Shared.PrintJson(writer =>
                {
                    writer.WriteStartArray();
                    foreach (SubscriptionInfo one in consumers)
                    {
                        writer.WriteStartObject();
                        writer.WriteNumber("subscription", one.Id);
                        writer.WriteString("owner", one.Owner);
                        writer.WriteNumber("priority", one.Priority);
                        writer.WriteBoolean("exclusive", one.IsExclusive);
                        writer.WriteBoolean("paused", one.IsPaused);
                        writer.WriteNumber("inFlight", one.InFlight);
                        writer.WriteNumber("credit", one.Credit);
                        writer.WriteEndObject();
                    }

                    writer.WriteEndArray();
                });
                return;
            }

            Table table = new Table().AddColumn("subscription").AddColumn("owner").AddColumn("in flight").AddColumn("credit").AddColumn("paused");
            foreach (SubscriptionInfo one in consumers)
            {
                table.AddRow(Number(one.Id), Markup.Escape(one.Owner.Length > 0 ? one.Owner : "away"), Number(one.InFlight), Number(one.Credit), one.IsPaused ? "yes" : "no");
            }

            AnsiConsole.Write(table);
        }));
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
        table.AddRow("dead-lettering", Number(queue.DeadLettering));
        table.AddRow("bytes", Number(queue.Bytes));
        table.AddRow("consumers", Number(queue.Consumers));
        table.AddRow("lease", Seconds(queue.Lease));
        table.AddRow("delay", Seconds(queue.Delay));
        table.AddRow("time to live", queue.TimeToLive == TimeSpan.Zero ? "for ever" : Seconds(queue.TimeToLive));
        table.AddRow("max deliveries", queue.MaxDeliveries == 0 ? "no limit" : Number(queue.MaxDeliveries));
        table.AddRow("back-off", queue.Backoff is Backoff backoff ? string.Create(CultureInfo.InvariantCulture, $"{Seconds(backoff.First)}, times {backoff.Factor:0.###}, up to {Seconds(backoff.Most)}") : "none");
        table.AddRow("dead letters go to", queue.DeadLetterExchange.Length > 0 ? $"exchange {Markup.Escape(queue.DeadLetterExchange)}" : queue.DeadLetter.Length == 0 ? "nowhere" : Markup.Escape(queue.DeadLetter));
        table.AddRow("paused", queue.Paused == PausedWays.None ? "no" : string.Join(" and ", WaysOf(queue.Paused)));
        table.AddRow("max length", queue.MaxLength == 0 ? "no limit" : Number(queue.MaxLength));
        table.AddRow("max bytes", queue.MaxBytes == 0 ? "no limit" : Number(queue.MaxBytes));
        table.AddRow("overflow", StateNames.NameOf(queue.Overflow));
        table.AddRow("order", OrderOf(queue));
        table.AddRow("consumers served", queue.SingleActive ? "one at a time" : "all");
        table.AddRow("deduplication", queue.DedupWindow == TimeSpan.Zero ? "none" : $"{Seconds(queue.DedupWindow)}{(queue.DedupByGroup ? ", by group" : "")}");
        table.AddRow("remembers what was processed", queue.ProcessedWindow == TimeSpan.Zero ? "no" : Seconds(queue.ProcessedWindow));
        table.AddRow("expires", queue.ExpiresAfter == TimeSpan.Zero ? "never" : $"unused for {Seconds(queue.ExpiresAfter)}");
        table.AddRow("requires", queue.Require == RequiredProperties.None ? "nothing" : Requirement.NamesOf(queue.Require).Replace(',', '\n'));
        table.AddRow("compressed with lz4", queue.Lz4FromBytes == 0 ? "nothing" : $"from {Number(queue.Lz4FromBytes)} B");
        FlowArguments.AddRows(table, queue.Flow);
        table.AddRow("published", Number((long)queue.Published));
        table.AddRow("accepted", Number((long)queue.Accepted));
        table.AddRow("rejected", Number((long)queue.Rejected));
        table.AddRow("exhausted", Number((long)queue.Exhausted));
        table.AddRow("expired", Number((long)queue.Expired));
        table.AddRow("overflowed", Number((long)queue.Overflowed));
        table.AddRow("dead-lettered", Number((long)queue.DeadLettered));
        table.AddRow("discarded", Number((long)queue.Discarded));
        table.AddRow("redelivered", Number((long)queue.Redelivered));
        table.AddRow("purged", Number((long)queue.Purged));
        table.AddRow("moved", Number((long)queue.Moved));
        AnsiConsole.Write(table);
    }

    private static string OrderOf(QueueInfo queue)
    {
        List<string> parts = [];
        if (queue.Priority)
        {
            parts.Add(queue.PriorityShare == 0 ? "priority" : string.Create(CultureInfo.InvariantCulture, $"priority, {queue.PriorityShare} % to low ones"));
        }

        if (queue.Fair)
        {
            parts.Add(queue.FairWeights.Length == 0 ? "fair" : $"fair, {Markup.Escape(queue.FairWeights)}");
        }

        if (queue.Fifo)
        {
            parts.Add("fifo by group");
        }

        return parts.Count == 0 ? "as published" : string.Join("; ", parts);
    }

    private static string Seconds(TimeSpan span) => string.Create(CultureInfo.InvariantCulture, $"{span.TotalSeconds:0.###} s");

    private static IEnumerable<string> WaysOf(PausedWays ways) => new[] { (PausedWays.In, "in"), (PausedWays.Out, "out"), (PausedWays.Breaker, "breaker") }.Where(way => (ways & way.Item1) != 0).Select(way => way.Item2);

    private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);

    private static void Write(Utf8JsonWriter writer, QueueInfo queue)
    {
        writer.WriteStartObject();
        writer.WriteString("name", queue.Name);
        writer.WriteNumber("ready", queue.Ready);
        writer.WriteNumber("inFlight", queue.InFlight);
        writer.WriteNumber("delayed", queue.Delayed);
        writer.WriteNumber("damaged", queue.Damaged);
        writer.WriteNumber("deadLettering", queue.DeadLettering);
        writer.WriteNumber("messages", queue.Messages);
        writer.WriteNumber("bytes", queue.Bytes);
        writer.WriteNumber("consumers", queue.Consumers);
        writer.WriteNumber("leaseSeconds", queue.Lease.TotalSeconds);
        writer.WriteNumber("delaySeconds", queue.Delay.TotalSeconds);
        writer.WriteNumber("ttlSeconds", queue.TimeToLive.TotalSeconds);
        writer.WriteNumber("maxDeliveries", queue.MaxDeliveries);
        WriteBackoff(writer, queue.Backoff);
        writer.WriteString("deadLetter", queue.DeadLetter);
        writer.WriteString("deadLetterExchange", queue.DeadLetterExchange);
        writer.WriteBoolean("temporary", queue.IsTemporary);
        writer.WriteStartArray("paused");
        foreach (string way in WaysOf(queue.Paused))
        {
            writer.WriteStringValue(way);
        }

        writer.WriteEndArray();
        writer.WriteNumber("maxLength", queue.MaxLength);
        writer.WriteNumber("maxBytes", queue.MaxBytes);
        writer.WriteString("overflow", StateNames.NameOf(queue.Overflow));
        writer.WriteNumber("maxMessageSize", queue.MaxMessageSize);
        writer.WriteBoolean("priority", queue.Priority);
        writer.WriteNumber("priorityShare", queue.PriorityShare);
        writer.WriteBoolean("fifo", queue.Fifo);
        writer.WriteBoolean("fair", queue.Fair);
        writer.WriteString("fairWeights", queue.FairWeights);
        writer.WriteBoolean("singleActive", queue.SingleActive);
        writer.WriteNumber("processedWindowSeconds", queue.ProcessedWindow.TotalSeconds);
        writer.WriteNumber("dedupWindowSeconds", queue.DedupWindow.TotalSeconds);
        writer.WriteBoolean("dedupByGroup", queue.DedupByGroup);
        writer.WriteNumber("expiresSeconds", queue.ExpiresAfter.TotalSeconds);
        writer.WriteNumber("lz4FromBytes", queue.Lz4FromBytes);
        writer.WriteStartArray("require");
        foreach (string name in Requirement.NamesOf(queue.Require).Split(',', StringSplitOptions.RemoveEmptyEntries))
        {
            writer.WriteStringValue(name);
        }

        writer.WriteEndArray();
        FlowArguments.Write(writer, queue.Flow);
        writer.WriteNumber("published", queue.Published);
        writer.WriteNumber("accepted", queue.Accepted);
        writer.WriteNumber("rejected", queue.Rejected);
        writer.WriteNumber("exhausted", queue.Exhausted);
        writer.WriteNumber("expired", queue.Expired);
        writer.WriteNumber("overflowed", queue.Overflowed);
        writer.WriteNumber("deadLettered", queue.DeadLettered);
        writer.WriteNumber("discarded", queue.Discarded);
        writer.WriteNumber("redelivered", queue.Redelivered);
        writer.WriteNumber("purged", queue.Purged);
        writer.WriteNumber("moved", queue.Moved);
        writer.WriteEndObject();
    }

    private static void WriteBackoff(Utf8JsonWriter writer, Backoff? backoff)
    {
        if (backoff is null)
        {
            writer.WriteNull("backoff");
            return;
        }

        writer.WriteStartObject("backoff");
        writer.WriteNumber("firstSeconds", backoff.First.TotalSeconds);
        writer.WriteNumber("factor", backoff.Factor);
        writer.WriteNumber("mostSeconds", backoff.Most.TotalSeconds);
        writer.WriteEndObject();
    }
}
