using System.Buffers;
using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Unicode;
using FastQ.Client;
using FastQ.Protocol;

namespace FastQ.Server;

/// <summary>fastq consume: from a queue to standard output; settles only what was written and flushed.</summary>
internal static class ConsumeCommand
{
    public static Command Create()
    {
        Argument<string> queue = Shared.Queue();
        Option<long> max = Shared.Within(new Option<long>("--max") { Description = "End after so many messages.", DefaultValueFactory = _ => long.MaxValue, HelpName = "N" }, 0, long.MaxValue);
        Option<TimeSpan> wait = Shared.Duration("--wait", "End when nothing came for this long.", TimeSpan.FromSeconds(1));
        Option<string> settle = new("--settle") { Description = "What to say of each message once it is printed: accept, release, reject, or none.", DefaultValueFactory = _ => "accept" };
        settle.AcceptOnlyFromAmong("accept", "release", "reject", "none");
        Option<string?> reason = new("--reason") { Description = "Why they are rejected; each tells it among the dead letters. With --settle reject.", HelpName = "TEXT" };
        Option<TimeSpan?> lease = Shared.OptionalDuration("--lease", "How long this consumer holds a message (the queue's lease).");
        Option<int> credit = Shared.Within(new Option<int>("--credit") { Description = "Most messages in hand at once.", DefaultValueFactory = _ => 1000, HelpName = "N" }, 1, Limits.MaxCredit);
        Option<int> priority = Shared.Within(new Option<int>("--priority") { Description = "Consumers of a higher priority, up to 255, are served first as long as they have credit.", DefaultValueFactory = _ => 0, HelpName = "N" }, 0, byte.MaxValue);
        Option<bool> exclusive = new("--exclusive") { Description = "Be the queue's only consumer, or fail." };
        Option<bool> atMostOnce = new("--at-most-once") { Description = "Settle each message before it is printed: one that is lost on its way out does not come again." };
        Option<string> format = new("--format") { Description = "text: the body, a line each. json: an object a line. raw: bodies one after the other.", DefaultValueFactory = _ => "text" };
        format.AcceptOnlyFromAmong("text", "json", "raw");
        Option<bool> follow = new("--follow") { Description = "Never end because nothing comes." };
        (Option<string> socket, Option<TimeSpan> patience) = (Shared.Socket(), Shared.Patience());
        Command command = new("consume", "Consume messages and print them; rides out restarts of the broker.\n\nExamples:\n  fastq consume work\n  fastq consume work --max 10 --format json --settle none\n  fastq consume work --max 1 --settle reject --reason 'no such customer'\n  fastq consume logs --follow | grep ERROR\n  fastq consume ticks --at-most-once")
        {
            queue, max, wait, settle, reason, lease, credit, priority, exclusive, atMostOnce, format, follow, socket, patience,
        };
        command.Validators.Add(result =>
        {
            if (result.GetResult(reason) is not null && result.GetValue(settle) != "reject")
            {
                result.AddError("--reason needs --settle reject.");
            }

            if (result.GetValue(atMostOnce) && result.GetResult(settle) is { Implicit: false })
            {
                result.AddError("--at-most-once settles by itself: leave --settle out.");
            }

            if (result.GetValue(reason) is string words && Encoding.UTF8.GetByteCount(words) > Subscription.MaxReasonBytes)
            {
                result.AddError($"--reason has at most {Subscription.MaxReasonBytes} bytes of UTF-8.");
            }
        });
        command.SetAction(parsed =>
        {
            using StopSignal stop = new();
            using Session session = Shared.Connect(parsed.GetRequiredValue(socket), parsed.GetValue(patience), "fastq consume");
            string name = parsed.GetRequiredValue(queue);
            long most = parsed.GetValue(max);
            SubscribeOptions options = new() { Credit = (int)Math.Min(parsed.GetValue(credit), Math.Max(1, most)), Lease = parsed.GetValue(lease), Priority = (byte)parsed.GetValue(priority), IsExclusive = parsed.GetValue(exclusive), SettleBatch = int.MaxValue, Mode = parsed.GetValue(atMostOnce) ? SettleMode.Automatic : SettleMode.Manual };
            Subscription subscription = session.Subscribe(name, options);
            Consuming consuming = new(session, subscription, name, parsed.GetRequiredValue(format), parsed.GetRequiredValue(settle), parsed.GetValue(reason), stop);
            TimeSpan patienceForMessages = parsed.GetValue(follow) ? Timeout.InfiniteTimeSpan : parsed.GetValue(wait);
            return consuming.Run(most, patienceForMessages);
        });
        return command;
    }

    private sealed class Consuming(Session session, Subscription subscription, string queue, string format, string settle, string? reason, StopSignal stop)
    {
        private const int MostGathered = 256;
        private const int FlushBytes = 1 << 18;
        private readonly Stream _output = Console.OpenStandardOutput();
        private readonly ArrayBufferWriter<byte> _lines = new(FlushBytes);
        private readonly List<Delivery> _printed = [];
        private readonly ProgressBar _progress = new("consuming", 0);
        private long _count;

        public int Run(long most, TimeSpan wait)
        {
            long last = Environment.TickCount64;
            try
            {
                while (_count < most && !stop.IsRaised)
                {
                    if (subscription.TryReceive(out Delivery delivery))
                    {
                        Print(delivery);
                        last = Environment.TickCount64;
                        continue;
                    }

                    Settle();
                    if (wait != Timeout.InfiniteTimeSpan && Environment.TickCount64 - last >= wait.TotalMilliseconds)
                    {
                        break;
                    }

                    // In steps, so that a signal is seen soon.
                    double left = wait == Timeout.InfiniteTimeSpan ? 100 : Math.Min(100, wait.TotalMilliseconds - (Environment.TickCount64 - last));
                    if (subscription.Receive(TimeSpan.FromMilliseconds(Math.Max(1, left)), out delivery))
                    {
                        Print(delivery);
                        last = Environment.TickCount64;
                    }
                }

                Settle();
                session.Flush(ConfirmLevel.Written);
            }
            catch (IOException) when (_lines.WrittenCount > 0)
            {
                // Whoever read our output is gone: what was not written is not settled.
                Report();
                return 1;
            }

            Report();
            return 0;
        }

        private void Report()
        {
            _progress.Clear();
            Console.Error.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{_count} consumed"));
        }

        private void Print(in Delivery delivery)
        {
            ReadOnlySpan<byte> body = BodyOf(delivery, out string? encoding);
            switch (format)
            {
                case "json":
                    PrintJson(delivery, body, encoding);
                    break;
                case "raw":
                    _lines.Write(body);
                    break;
                default:
                    _lines.Write(body);
                    _lines.Write("\n"u8);
                    break;
            }

            _printed.Add(delivery);
            _count++;
            if (_printed.Count >= Math.Min(MostGathered, subscription.Options.Credit) || _lines.WrittenCount >= FlushBytes)
            {
                Settle();
                _progress.Report(_count);
            }
        }

        /// <summary>Writes and flushes first; only then is anything said of the messages.</summary>
        private void Settle()
        {
            if (_lines.WrittenCount > 0)
            {
                _output.Write(_lines.WrittenSpan);
                _output.Flush();
                _lines.ResetWrittenCount();
            }

            if (settle != "none")
            {
                foreach (Delivery delivery in _printed)
                {
                    if (subscription.Holds(delivery))
                    {
                        Settle(delivery);
                    }
                }

                subscription.FlushSettles();
            }

            _printed.Clear();
        }

        private void Settle(in Delivery delivery)
        {
            switch (settle)
            {
                case "release":
                    subscription.Release(delivery, ConfirmLevel.Written);
                    break;
                case "reject":
                    subscription.Reject(delivery, reason, level: ConfirmLevel.Written);
                    break;
                default:
                    subscription.Accept(delivery, ConfirmLevel.Written);
                    break;
            }
        }

        /// <summary>The body; one that cannot be decoded as it is stored, so that it can be looked at and rejected.</summary>
        private static ReadOnlySpan<byte> BodyOf(in Delivery delivery, out string? encoding)
        {
            encoding = null;
            try
            {
                return delivery.Body;
            }
            catch (InvalidDataException damaged)
            {
                Console.Error.WriteLine($"fastq: {damaged.Message}");
                encoding = BodyEncoding.TryRead(delivery.Properties, out BodyEncoding said) ? said.Name : null;
                return delivery.StoredBody;
            }
        }

        private void PrintJson(in Delivery delivery, ReadOnlySpan<byte> body, string? encoding)
        {
            using (Utf8JsonWriter json = new(_lines))
            {
                json.WriteStartObject();
                json.WriteString("queue", queue);
                json.WriteNumber("tag", delivery.Tag);
                MessageJson.WriteBody(json, body, encoding);
                json.WriteNumber("deliveryCount", delivery.DeliveryCount);
                json.WriteBoolean("redelivered", delivery.IsRedelivered);
                json.WriteString("timestamp", delivery.Timestamp.UtcDateTime);
                json.WriteString("token", string.Create(CultureInfo.InvariantCulture, $"{subscription.Epoch}.{delivery.TokenNumber}"));
                MessageJson.WriteProperties(json, delivery.Properties);
                MessageJson.WriteDeaths(json, delivery.Deaths());
                json.WriteEndObject();
            }

            _lines.Write("\n"u8);
        }
    }
}
