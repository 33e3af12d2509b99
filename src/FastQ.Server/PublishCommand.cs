using System.Buffers;
using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Text;
using FastQ.Client;
using FastQ.Protocol;

namespace FastQ.Server;

/// <summary>fastq publish: from the command line, a file or standard input into a queue; returns when all is confirmed.</summary>
internal static class PublishCommand
{
    public static Command Create()
    {
        Argument<string?> queue = new("QUEUE") { Description = "Name of the queue; none with --exchange.", Arity = ArgumentArity.ZeroOrOne };
        Argument<string?> input = new("INPUT") { Description = "'-': standard input, a message a line.", Arity = ArgumentArity.ZeroOrOne };
        Option<string?> body = new("--body") { Description = "The body, as text.", HelpName = "TEXT" };
        Option<string?> file = new("--file") { Description = "A file: a message a line.", HelpName = "PATH" };
        Option<long> count = Shared.Within(new Option<long>("--count") { Description = "Send all of it so often.", DefaultValueFactory = _ => 1, HelpName = "N" }, 1, long.MaxValue);
        Option<string> confirm = Confirm("durable");
        Option<HeaderArgument[]> header = new("--header") { Description = "A header, k=v; may be given several times. It is text, or what its key says behind a colon: k:int=5, k:double=1.5, k:bool=true, k:time=2030-01-31T08:00:00Z, k:bytes=BASE64, k:json={\"lists\":[\"and\",\"tables\"]}; k:text=v where a key ends like one of these.", HelpName = "k=v", CustomParser = HeaderArgument.Parse, DefaultValueFactory = _ => [] };
        Option<string?> id = new("--id") { Description = "The message's id, by which fastq why finds it.", HelpName = "ID" };
        Option<string?> type = new("--type") { Description = "The application's own kind of message.", HelpName = "T" };
        Option<string?> correlation = new("--correlation-id") { Description = "What it answers to.", HelpName = "C" };
        Option<string?> replyTo = new("--reply-to") { Description = "The queue where an answer is awaited.", HelpName = "Q" };
        Option<string?> contentType = new("--content-type") { Description = "Media type of the body, as application/json.", HelpName = "M" };
        Option<string?> key = new("--key") { Description = "What the message is about; with --exchange the routing key, by which that chooses queues.", HelpName = "K" };
        Option<string?> exchange = new("--exchange") { Description = "Send it to this exchange, in place of a queue: to all queues that it leads to, or to none.", HelpName = "NAME" };
        Option<bool> mandatory = new("--mandatory") { Description = "With --exchange: refuse what reaches no queue. So it is by default." };
        Option<bool> optional = new("--optional") { Description = "With --exchange: what reaches no queue is gone, and counts as published." };
        Option<string?> schema = new("--schema-version") { Description = "Version of the form that the body has.", HelpName = "V" };
        Option<TimeSpan?> delay = Shared.OptionalDuration("--delay", "Nobody gets it before so long; 0s: at once, whatever the queue's delay.");
        Option<TimeSpan?> life = Shared.OptionalDuration("--ttl", "It expires so long after it may first be delivered, and goes to the dead letters (as the queue has it).");
        Option<byte?> priority = new("--priority") { Description = "0 to 255: higher ones go first, in a queue with --priority (0).", HelpName = "N", CustomParser = ParsePriority };
        Option<string?> group = new("--group") { Description = "In a --fifo queue: messages of one group go one after the other.", HelpName = "G" };
        Option<string?> tenant = new("--tenant") { Description = "In a --fair queue: tenants take turns.", HelpName = "T" };
        Option<string?> dedup = new("--dedup-id") { Description = "A second message with this id is not taken within the queue's window (queue create --dedup-window), and counts as published.", HelpName = "ID" };
        Option<string?> unique = new("--unique") { Description = "While a message with this key is in the queue, or with a consumer, another one is not taken, and counts as published.", HelpName = "KEY" };
        Option<DateTimeOffset?> at = Shared.Moment("--at", "Nobody gets it before this moment, as 2030-01-31T08:00:00Z; without a zone it is local time.");
        Option<string?> schedule = new("--schedule-key") { Description = "While a message with this key waits for its time, a later one takes its place; by it fastq schedule cancels or moves the one that waits.", HelpName = "KEY" };
        Option<string?> mode = new("--schedule-mode") { Description = "What this one does where one of its key waits: takes its place, does so until none has come for the delay, or is not taken, and counts as published (replace).", HelpName = "replace|debounce|keep" };
        Option<bool> transaction = new("--transaction") { Description = "All of it in one transaction: every message is taken, or none; at most 65,536 of together 16 MiB." };
        mode.AcceptOnlyFromAmong("replace", "debounce", "keep");
        Option<TimeSpan?> longest = Shared.OptionalDuration("--longest-wait", "Of a debounce: it comes no later than so long after the first of them.");
        (Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new("publish", "Publish messages and wait until all are confirmed; rides out restarts of the broker.\n\nExamples:\n  fastq publish work --body hello\n  fastq publish work --file lines.txt --confirm written\n  fastq publish work --body hello --type greeting --header colour=blue --header count:int=7\n  fastq publish work --file lines.txt --transaction\n  tail -f app.log | fastq publish logs -\n  fastq publish --exchange events --key order.created --body hello")
        {
            queue, input, body, file, count, confirm, header, id, type, correlation, replyTo, contentType, key, exchange, mandatory, optional, schema, priority, group, tenant, dedup, unique, delay, life, at, transaction, schedule, mode, longest, socket, patience, json,
        };
        command.Validators.Add(result =>
        {
            bool isForExchange = result.GetValue(exchange) is not null;
            string? from = isForExchange ? result.GetValue(queue) : result.GetValue(input);
            int ways = (result.GetValue(body) is null ? 0 : 1) + (result.GetValue(file) is null ? 0 : 1) + (from is null ? 0 : 1);
            if (ways != 1)
            {
                result.AddError("Give exactly one of --body TEXT, --file PATH or '-'.");
            }

            if (result.GetResult(delay) is not null && result.GetResult(at) is not null)
            {
                result.AddError("Give --delay or --at, not both.");
            }

            bool isDebounce = result.GetValue(schedule) is not null && result.GetValue(mode) == "debounce";
            if ((result.GetResult(mode) is not null && result.GetValue(schedule) is null) || (result.GetResult(longest) is not null && !isDebounce))
            {
                result.AddError("--schedule-mode needs --schedule-key KEY, and --longest-wait --schedule-mode debounce.");
            }

            if (isForExchange ? result.GetValue(input) is not null || (result.GetValue(mandatory) && result.GetValue(optional)) : result.GetValue(queue) is null || result.GetValue(mandatory) || result.GetValue(optional))
            {
                result.AddError("Give a queue, or --exchange NAME and perhaps one of --mandatory and --optional.");
            }

            if (isForExchange && result.GetValue(transaction))
            {
                result.AddError("--transaction needs a queue: an exchange takes part in none.");
            }

            if (from is not (null or "-"))
            {
                result.AddError($"'{from}' is no input; '-' is standard input, --file PATH a file.");
            }
        });
        command.SetAction(parsed =>
        {
            PublishOptions options = new()
            {
                MessageId = parsed.GetValue(id),
                Type = parsed.GetValue(type),
                CorrelationId = parsed.GetValue(correlation),
                ReplyTo = parsed.GetValue(replyTo),
                Priority = parsed.GetValue(priority),
                Group = parsed.GetValue(group),
                Tenant = parsed.GetValue(tenant),
                DeduplicationId = parsed.GetValue(dedup),
                UniqueKey = parsed.GetValue(unique),
                ScheduleKey = parsed.GetValue(schedule),
                ScheduleMode = parsed.GetValue(mode) switch { "debounce" => ScheduleMode.Debounce, "keep" => ScheduleMode.Keep, _ => ScheduleMode.Replace },
                LongestWait = parsed.GetValue(longest),
                Delay = parsed.GetValue(delay),
                DeliverAt = parsed.GetValue(at),
                TimeToLive = parsed.GetValue(life),
                ContentType = parsed.GetValue(contentType),
                Key = parsed.GetValue(exchange) is null ? parsed.GetValue(key) : null,
                Exchange = parsed.GetValue(exchange),
                RoutingKey = parsed.GetValue(exchange) is null ? null : parsed.GetValue(key) ?? "",
                SchemaVersion = parsed.GetValue(schema),
                Headers = parsed.GetRequiredValue(header).ToDictionary(one => one.Key, one => one.Value),
            };
            byte[] properties = options.ToBytes();
            using Session session = Shared.Connect(parsed.GetRequiredValue(socket), parsed.GetValue(patience), "fastq publish");
            ConfirmLevel level = LevelOf(parsed.GetRequiredValue(confirm));
            Publishing publishing = new(session, SenderTo(session, parsed.GetValue(queue), parsed.GetValue(exchange), level, properties, !parsed.GetValue(optional)), level);
            publishing.IsTransaction = parsed.GetValue(transaction);
            return publishing.Run(parsed.GetValue(body), parsed.GetValue(file), parsed.GetValue(count), parsed.GetValue(json));
        });
        return command;
    }

    private delegate void Sender(SessionTransaction? transaction, ReadOnlySpan<byte> body);

    private static Sender SenderTo(Session session, string? queue, string? exchange, ConfirmLevel level, byte[] properties, bool isMandatory)
    {
        if (exchange is null)
        {
            QueueHandle to = session.OpenQueue(queue!);
            return (transaction, body) =>
            {
                if (transaction is null)
                {
                    session.Publish(to, body, level, properties);
                }
                else
                {
                    transaction.Publish(to, body, properties);
                }
            };
        }

        ExchangeHandle through = session.OpenExchange(exchange);
        return (_, body) => session.Publish(through, body, level, properties, isMandatory);
    }

    private static byte? ParsePriority(ArgumentResult argument)
    {
        if (byte.TryParse(argument.Tokens[0].Value, NumberStyles.None, CultureInfo.InvariantCulture, out byte number))
        {
            return number;
        }

        argument.AddError($"--priority is 0 to {byte.MaxValue}; '{argument.Tokens[0].Value}' is not.");
        return null;
    }

    public static Option<string> Confirm(string defaultLevel)
    {
        Option<string> confirm = new("--confirm") { Description = "Which confirm to wait for: none, accepted, written (survives kill -9) or durable (survives power loss).", DefaultValueFactory = _ => defaultLevel, HelpName = "LEVEL" };
        confirm.AcceptOnlyFromAmong("none", "accepted", "written", "durable");
        return confirm;
    }

    public static ConfirmLevel LevelOf(string text) => Enum.Parse<ConfirmLevel>(text, ignoreCase: true);

    private sealed class Publishing(Session session, Sender send, ConfirmLevel level)
    {
        private readonly ProgressBar _progress = new("publishing", 0);
        private SessionTransaction? _transaction;
        private long _sent;

        /// <summary>All is taken, or none.</summary>
        public bool IsTransaction { get; set; }

        public int Run(string? body, string? file, long count, bool json)
        {
            long start = Environment.TickCount64;
            using SessionTransaction? transaction = IsTransaction ? session.BeginTransaction(Timeout.InfiniteTimeSpan) : null; // A slow input is nobody's fault.
            _transaction = transaction;
            for (long round = 0; round < count && !_isStopped; round++)
            {
                if (body is not null)
                {
                    Send(Encoding.UTF8.GetBytes(body));
                }
                else
                {
                    using Stream stream = file is null ? Console.OpenStandardInput() : File.OpenRead(file);
                    SendLines(stream);
                    if (file is null)
                    {
                        break; // Standard input is there once.
                    }
                }
            }

            FastQException? refusal = null;
            try
            {
                _transaction?.Commit(level);
                session.Flush(level);
            }
            catch (FastQException first) when (first.Number != 0)
            {
                refusal = first;
            }

            _progress.Clear();
            long refused = session.Refusals.Count + (refusal is null ? 0 : 1);
            refused = _transaction is null ? Math.Max(refused, _refused) : refusal is null ? 0 : _sent;
            double seconds = (Environment.TickCount64 - start) / 1000.0;
            if (json)
            {
                Shared.PrintJson(writer =>
                {
                    writer.WriteStartObject();
                    writer.WriteNumber("sent", _sent);
                    writer.WriteNumber("confirmed", _sent - refused);
                    writer.WriteNumber("refused", refused);
                    writer.WriteNumber("duplicates", session.Duplicates);
                    writer.WriteString("confirm", level.ToString().ToUpperInvariant() switch { "NONE" => "none", "ACCEPTED" => "accepted", "WRITTEN" => "written", _ => "durable" });
                    writer.WriteNumber("seconds", seconds);
                    writer.WriteNumber("reconnects", session.Reconnects);
                    writer.WriteNumber("resent", session.Resent);
                    writer.WriteEndObject();
                });
            }
            else
            {
                Console.Error.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{_sent} sent, {_sent - refused} confirmed{(session.Duplicates == 0 ? "" : $", {session.Duplicates} were there already")}"));
            }

            if (refusal is null)
            {
                return 0;
            }

            Console.Error.WriteLine($"fastq: {refusal.Message}");
            return 1;
        }

        private long _refused;
        private bool _isStopped;

        private void Send(ReadOnlySpan<byte> body)
        {
            if (_isStopped)
            {
                return;
            }

            if (_sent == 0)
            {
                session.Refused = OnRefused;
            }

            send(_transaction, body);
            _sent++;
            if (_sent % 256 == 0)
            {
                _progress.Report(_sent);
            }
        }

        /// <summary>What is refused for itself alone does not stop the others; what will be refused again and again does.</summary>
        private void OnRefused(FastQException refusal)
        {
            _refused++;
            _isStopped |= refusal.Code != RefusalCode.TooLarge;
        }

        /// <summary>A message a line, without its end (LF or CRLF); the last one may lack it.</summary>
        private void SendLines(Stream stream)
        {
            byte[] buffer = ArrayPool<byte>.Shared.Rent(1 << 20);
            int kept = 0;
            while (!_isStopped)
            {
                int read = stream.Read(buffer, kept, buffer.Length - kept);
                if (read == 0)
                {
                    break;
                }

                int end = kept + read;
                int start = 0;
                for (int at; (at = buffer.AsSpan(start, end - start).IndexOf((byte)'\n')) >= 0; start += at + 1)
                {
                    SendLine(buffer.AsSpan(start, at));
                }

                kept = end - start;
                buffer.AsSpan(start, kept).CopyTo(buffer);
                if (kept == buffer.Length)
                {
                    if (kept > session.MaxMessageBytes)
                    {
                        throw new FastQException(RefusalCode.TooLarge, "A line", (ulong)session.MaxMessageBytes);
                    }

                    byte[] larger = ArrayPool<byte>.Shared.Rent(buffer.Length * 2);
                    buffer.CopyTo(larger, 0);
                    ArrayPool<byte>.Shared.Return(buffer);
                    buffer = larger;
                }
            }

            if (kept > 0)
            {
                SendLine(buffer.AsSpan(0, kept));
            }

            ArrayPool<byte>.Shared.Return(buffer);
        }

        private void SendLine(ReadOnlySpan<byte> line) => Send(line is [.., (byte)'\r'] ? line[..^1] : line);
    }
}
