using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.IO.Hashing;
using System.Text;
using FastQ.Client;
using FastQ.Protocol;
using Spectre.Console;

namespace FastQ.Server;

/// <summary>fastq demo: real text through a durable queue, two competing consumers, the broker killed halfway; counts what came.</summary>
internal static class DemoCommand
{
    private const int Lines = 1_000_000;
    private const string Queue = "demo";

    public static Command Create()
    {
        Option<string?> file = new("--file") { Description = "The text, a message a line; without it, a million lines of what this machine has.", HelpName = "PATH" };
        Option<bool> json = Shared.Json();
        Command command = new("demo", "Publish real text durably, consume it with two competing consumers, kill the broker with SIGKILL halfway, restart it, and count. Ends with 1 if anything is lost.") { file, json };
        command.SetAction(parsed => new Demo(Gather(parsed.GetValue(file))).Run(parsed.GetValue(json)));
        return command;
    }

    /// <summary>Lines of a file, or of the texts that every Linux machine has, again and again until there are a million.</summary>
    private static List<byte[]> Gather(string? file)
    {
        if (file is not null)
        {
            return [.. File.ReadLines(file, Encoding.UTF8).Select(Encoding.UTF8.GetBytes)];
        }

        List<byte[]> lines = new(Lines);
        EnumerationOptions all = new() { RecurseSubdirectories = true, IgnoreInaccessible = true, AttributesToSkip = FileAttributes.ReparsePoint };
        foreach (string directory in (ReadOnlySpan<string>)["/usr/share/common-licenses", "/usr/share/dict", "/usr/share/doc", "/usr/share/perl", "/usr/include", "/var/log", "/usr/share", "/etc"])
        {
            foreach (string path in Directory.Exists(directory) ? Directory.EnumerateFiles(directory, "*", all) : [])
            {
                AddLines(path, lines);
                if (lines.Count == Lines)
                {
                    return lines;
                }
            }
        }

        for (int i = 0; lines.Count is > 0 and < Lines; i++)
        {
            lines.Add(lines[i]);
        }

        return lines;
    }

    private static void AddLines(string path, List<byte[]> lines)
    {
        try
        {
            ReadOnlySpan<byte> text = File.ReadAllBytes(path);
            if (text.Contains((byte)0))
            {
                return; // Not text.
            }

            foreach (Range range in text.Split((byte)'\n'))
            {
                if (lines.Count == Lines)
                {
                    return;
                }

                if (!text[range].IsEmpty)
                {
                    lines.Add(text[range].ToArray());
                }
            }
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            // A file that cannot be read is not part of the text.
        }
    }

    private sealed class Demo(List<byte[]> lines)
    {
        private readonly int[] _delivered = new int[lines.Count + 1]; // by tag
        private readonly long[] _sentAt = new long[lines.Count + 1];
        private readonly Latencies _latencies = new();
        private readonly Lock _latencyLock = new();
        private long _confirmed;
        private long _accepted;
        private long _deliveries;
        private long _redelivered;
        private long _wrong;
        private volatile bool _isOver;

        public int Run(bool json)
        {
            if (lines.Count == 0)
            {
                Console.Error.WriteLine("fastq: there is no text to publish.");
                return 1;
            }

            using BrokerProcess broker = new();
            using (Session session = Shared.Connect(broker.Socket, TimeSpan.FromSeconds(30), "demo"))
            {
                session.DeclareQueue(Queue);
                session.Flush();
            }

            long start = Stopwatch.GetTimestamp();
            Task publishing = Task.Factory.StartNew(() => Publish(broker.Socket), TaskCreationOptions.LongRunning);
            Task[] consuming = [.. Enumerable.Range(1, 2).Select(id => Task.Factory.StartNew(() => Consume(broker.Socket, id), TaskCreationOptions.LongRunning))];
            ProgressBar progress = new("delivered", lines.Count);
            bool isKilled = false;
            while (Volatile.Read(ref _accepted) < lines.Count && !publishing.IsFaulted && !consuming.Any(task => task.IsFaulted))
            {
                if (!isKilled && Volatile.Read(ref _accepted) >= lines.Count / 2)
                {
                    isKilled = true;
                    broker.Kill();
                    Say(json, $"killed the broker with SIGKILL after {Volatile.Read(ref _accepted):N0} messages");
                    broker.Start();
                    Say(json, $"restarted: {broker.ReadyLine}");
                }

                progress.Report(Volatile.Read(ref _accepted));
                Thread.Sleep(1);
                if (publishing.IsCompleted && Stopwatch.GetElapsedTime(Volatile.Read(ref _lastDelivery)).TotalSeconds > 40)
                {
                    break; // Longer than any lease: what has not come by now does not come.
                }
            }

            progress.Clear();
            double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            _isOver = true;
            Task.WaitAll([publishing, .. consuming]);
            broker.Stop();
            return Report(seconds, json);
        }

        private long _lastDelivery = Stopwatch.GetTimestamp();

        private static void Say(bool json, FormattableString text)
        {
            if (!json)
            {
                Console.Error.WriteLine("\r\u001b[K" + text.ToString(CultureInfo.InvariantCulture));
            }
        }

        private void Publish(string socket)
        {
            using Session session = Shared.Connect(socket, TimeSpan.FromSeconds(30), "demo producer");
            QueueHandle queue = session.OpenQueue(Queue);
            for (int i = 0; i < lines.Count; i++)
            {
                _sentAt[i + 1] = Stopwatch.GetTimestamp();
                session.Publish(queue, lines[i], ConfirmLevel.Durable);
            }

            session.Flush();
            _confirmed = lines.Count;
        }

        private void Consume(string socket, int id)
        {
            using Session session = Shared.Connect(socket, TimeSpan.FromSeconds(30), $"demo consumer {id}");
            Subscription subscription = session.Subscribe(Queue);
            while (!_isOver)
            {
                if (!subscription.Receive(TimeSpan.FromMilliseconds(50), out Delivery delivery))
                {
                    continue;
                }

                Interlocked.Increment(ref _deliveries);
                _redelivered += delivery.IsRedelivered ? 1 : 0;
                Volatile.Write(ref _lastDelivery, Stopwatch.GetTimestamp());

                // One producer and one queue: the tag is the line's number.
                bool isRight = delivery.Tag <= (ulong)lines.Count && XxHash3.HashToUInt64(delivery.Body) == XxHash3.HashToUInt64(lines[(int)delivery.Tag - 1]);
                Interlocked.Add(ref _wrong, isRight ? 0 : 1);
                if (isRight && Interlocked.Increment(ref _delivered[delivery.Tag]) == 1)
                {
                    Interlocked.Increment(ref _accepted);
                    lock (_latencyLock)
                    {
                        _latencies.Add((long)Stopwatch.GetElapsedTime(_sentAt[delivery.Tag]).TotalNanoseconds);
                    }
                }

                subscription.Accept(delivery);
            }
        }

        private int Report(double seconds, bool json)
        {
            long came = _delivered.LongCount(count => count > 0);
            long lost = _confirmed - came;
            double rate = came / seconds;
            if (json)
            {
                Shared.PrintJson(writer =>
                {
                    writer.WriteStartObject();
                    writer.WriteNumber("published", lines.Count);
                    writer.WriteNumber("confirmed", _confirmed);
                    writer.WriteNumber("delivered", came);
                    writer.WriteNumber("redelivered", _redelivered);
                    writer.WriteNumber("lost", lost);
                    writer.WriteNumber("wrong", _wrong);
                    writer.WriteNumber("messagesPerSecond", Math.Round(rate));
                    writer.WriteNumber("seconds", Math.Round(seconds, 3));
                    _latencies.WriteFigures(writer, "latencyMicroseconds");
                    writer.WriteEndObject();
                });
            }
            else
            {
                Table table = new Table().Title("A durable queue over shared memory; the broker was killed halfway").AddColumn("").AddColumn(new TableColumn("").RightAligned()).HideHeaders();
                void Row(string name, string value) => table.AddRow(name, value);
                Row("published", Number(lines.Count));
                Row("confirmed durable", Number(_confirmed));
                Row("delivered", Number(came));
                Row("redelivered", Number(_redelivered));
                Row("wrong contents", Number(_wrong));
                Row("[bold]lost[/]", $"[bold]{Number(lost)}[/]");
                Row("messages a second", Number((long)rate));
                Row("latency p50", string.Create(CultureInfo.InvariantCulture, $"{_latencies.Percentile(0.5) / 1000:0.00} ms"));
                Row("latency p99", string.Create(CultureInfo.InvariantCulture, $"{_latencies.Percentile(0.99) / 1000:0.00} ms"));
                AnsiConsole.Write(table);
            }

            return lost == 0 && _wrong == 0 && came == lines.Count ? 0 : 1;
        }

        private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
    }
}
