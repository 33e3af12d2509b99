using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using FastQ.Client;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Server;

/// <summary>fastq bench: producers and consumers as processes against a broker; every message is counted and checked.</summary>
internal static class BenchCommand
{
    private sealed record Settings(int Size, long Count, string Confirm, int Producers, int Consumers, string Scenario, string Queue, string? Socket, string Storage, TimeSpan Pause, bool Json);

    public static Command Create()
    {
        Option<int> size = Shared.Within(new Option<int>("--size") { Description = "Bytes of a body.", DefaultValueFactory = _ => 100, HelpName = "BYTES" }, 0, Limits.MaxMessageBytes);
        Option<long> count = Shared.Within(new Option<long>("--count") { Description = "Messages in all.", DefaultValueFactory = _ => 0, HelpName = "N" }, 1, long.MaxValue);
        Option<string> confirm = PublishCommand.Confirm("written");
        Option<int> producers = Shared.Within(new Option<int>("--producers") { DefaultValueFactory = _ => 1, Description = "Producer processes.", HelpName = "P" }, 1, 64);
        Option<int> consumers = Shared.Within(new Option<int>("--consumers") { DefaultValueFactory = _ => 1, Description = "Consumer processes.", HelpName = "C" }, 1, 64);
        Option<string> scenario = new("--scenario") { Description = "throughput: publish, deliver and accept at once. latency: one message in flight, there and back. backlog: publish all, restart, drain.", DefaultValueFactory = _ => "throughput" };
        scenario.AcceptOnlyFromAmong("throughput", "latency", "backlog");
        Option<string> queue = new("--queue") { Description = "Queue to use; made when it is not there.", DefaultValueFactory = _ => "bench" };
        Option<string?> socket = new("--socket") { Description = "A running broker; without it, one of our own in a temporary directory.", HelpName = "PATH" };
        Option<string> storage = new("--storage") { Description = "Of our own broker: auto, io_uring or thread.", DefaultValueFactory = _ => "auto" };
        storage.AcceptOnlyFromAmong("auto", "io_uring", "thread");
        Option<TimeSpan> pause = Shared.Duration("--pause", "Of latency: rest between two messages, so that all sleep.", TimeSpan.Zero);
        Option<bool> json = Shared.Json();
        Command command = new("bench", "Measure rate, latency, CPU and memory, checking every message.\n\nExamples:\n  fastq bench\n  fastq bench --size 1024 --confirm durable --json\n  fastq bench --scenario latency")
        {
            size, count, confirm, producers, consumers, scenario, queue, socket, storage, pause, json,
        };
        command.SetAction(parsed =>
        {
            string kind = parsed.GetRequiredValue(scenario);
            long defaultCount = kind == "latency" ? 50_000 : parsed.GetValue(size) > 4096 ? 100_000 : 5_000_000;
            Settings settings = new(parsed.GetValue(size), parsed.GetValue(count) == 0 ? defaultCount : parsed.GetValue(count), parsed.GetRequiredValue(confirm), parsed.GetValue(producers), parsed.GetValue(consumers), kind, parsed.GetRequiredValue(queue), parsed.GetValue(socket), parsed.GetRequiredValue(storage), parsed.GetValue(pause), parsed.GetValue(json));
            return Run(settings);
        });
        return command;
    }

    private static int Run(Settings settings)
    {
        using BrokerProcess? own = settings.Socket is null ? new BrokerProcess(settings.Storage) : null;
        string socket = settings.Socket ?? own!.Socket;
        using Session session = Shared.Connect(socket, TimeSpan.FromSeconds(30), "fastq bench");
        session.DeclareQueue(settings.Queue);
        return settings.Scenario == "latency" ? Latency(settings, own, session, socket) : Throughput(settings, own, session, socket);
    }

    private static int Throughput(Settings settings, BrokerProcess? own, Session session, string socket)
    {
        bool isBacklog = settings.Scenario == "backlog";
        using JsonDocument idle = JsonDocument.Parse(session.GetStatistics());
        int broker = idle.RootElement.GetProperty("pid").GetInt32();
        List<Process> producers = [.. Enumerable.Range(0, settings.Producers).Select(id => Worker.Start(["bench-producer", "--socket", socket, "--queue", settings.Queue, "--size", Text(settings.Size), "--count", Text(Share(settings.Count, settings.Producers, id)), "--confirm", settings.Confirm, "--id", Text(id)]))];
        List<Process> consumers = [.. Enumerable.Range(0, settings.Consumers).Select(_ => Worker.Start(["bench-consumer", "--socket", socket, "--queue", settings.Queue, "--size", Text(settings.Size), "--count", "0"]))];
        producers.Concat(consumers).ToList().ForEach(process => Expect(process, "ready"));
        double brokerCpu = CpuOf(broker);
        if (!isBacklog)
        {
            consumers.ForEach(Go);
        }

        producers.ForEach(Go);
        List<JsonElement> produced = [.. producers.Select(Result)];
        double publishedAt = produced.Max(result => result.GetProperty("endNanoseconds").GetInt64());
        using JsonDocument full = JsonDocument.Parse(session.GetStatistics());
        double restartMilliseconds = 0;
        if (isBacklog)
        {
            if (own is not null)
            {
                brokerCpu -= CpuOf(broker);
                own.Kill();
                own.Start();
                restartMilliseconds = own.ReadyMilliseconds;
                broker = own.ProcessId;
            }

            consumers.ForEach(Go);
        }

        // Until all has been accepted; then the consumers are told that nothing more comes.
        ProgressBar progress = new("consuming", settings.Count);
        for (QueueInfo queue = session.GetQueue(settings.Queue); queue.Messages > 0; queue = session.GetQueue(settings.Queue))
        {
            progress.Report((long)queue.Accepted);
            Thread.Sleep(20);
        }

        progress.Clear();

        consumers.ForEach(Go);
        List<JsonElement> consumed = [.. consumers.Select(Result)];
        using JsonDocument after = JsonDocument.Parse(session.GetStatistics());
        Verdict verdict = Verify(settings, consumed);
        double start = produced.Min(result => result.GetProperty("startNanoseconds").GetInt64());
        double end = Math.Max(publishedAt, consumed.Max(result => result.GetProperty("lastNanoseconds").GetInt64()));
        double seconds = Math.Max(1e-9, ((isBacklog ? publishedAt : end) - start) / 1e9);
        double cpu = CpuOf(broker) - brokerCpu;
        Print(settings, json =>
        {
            json.WriteNumber("messagesPerSecond", Math.Round(settings.Count / seconds));
            json.WriteNumber("bytesPerSecond", Math.Round(settings.Count / seconds * settings.Size));
            verdict.Latencies.WriteFigures(json, "latencyMicroseconds");
            WriteCpu(json, settings, cpu, produced.Sum(CpuSeconds), consumed.Sum(CpuSeconds));
            json.WriteNumber("syncs", after.RootElement.GetProperty("journal").GetProperty("syncs").GetInt64());
            long brokerAllocated = after.RootElement.GetProperty("allocatedBytes").GetInt64() - (isBacklog ? 0 : idle.RootElement.GetProperty("allocatedBytes").GetInt64());
            long produceAllocated = produced.Sum(Allocated), consumeAllocated = consumed.Sum(Allocated);
            json.WriteNumber("allocatedBytesPerMessage", Math.Round((brokerAllocated + produceAllocated + consumeAllocated) / (double)settings.Count, 4));
            json.WriteStartObject("allocatedBytes");
            json.WriteNumber("broker", brokerAllocated);
            json.WriteNumber("producers", produceAllocated);
            json.WriteNumber("consumers", consumeAllocated);
            json.WriteEndObject();
            json.WriteNumber("idleResidentBytes", idle.RootElement.GetProperty("residentBytes").GetInt64());
            json.WriteNumber("fullResidentBytes", full.RootElement.GetProperty("residentBytes").GetInt64());
            json.WriteNumber("longestSnapshotPauseMilliseconds", after.RootElement.GetProperty("journal").GetProperty("longestSnapshotPauseMilliseconds").GetDouble());
            if (isBacklog)
            {
                double drainSeconds = (consumed.Max(result => result.GetProperty("lastNanoseconds").GetInt64()) - publishedAt) / 1e9;
                json.WriteNumber("bytesPerQueuedMessage", Math.Round((full.RootElement.GetProperty("residentBytes").GetInt64() - idle.RootElement.GetProperty("residentBytes").GetInt64()) / (double)settings.Count, 2));
                json.WriteNumber("restartMilliseconds", Math.Round(restartMilliseconds, 1));
                json.WriteNumber("drainMessagesPerSecond", Math.Round(settings.Count / Math.Max(1e-9, drainSeconds - restartMilliseconds / 1000)));
            }

            if (own is not null)
            {
                json.WriteNumber("readyMilliseconds", Math.Round(own.ReadyMilliseconds, 1));
            }

            json.WriteNumber("redelivered", verdict.Redelivered);
            json.WriteBoolean("verified", verdict.Problem.Length == 0);
            if (verdict.Problem.Length > 0)
            {
                json.WriteString("problem", verdict.Problem);
            }
        });
        return verdict.Problem.Length == 0 ? 0 : 1;
    }

    private sealed record Verdict(string Problem, long Redelivered, Latencies Latencies);

    /// <summary>Each producer's messages came, all of them, once, in order.</summary>
    private static Verdict Verify(Settings settings, List<JsonElement> consumed)
    {
        Latencies latencies = new();
        string problem = "";
        long total = consumed.Sum(result => result.GetProperty("total").GetInt64());
        long redelivered = consumed.Sum(result => result.GetProperty("redelivered").GetInt64());
        long outOfOrder = consumed.Sum(result => result.GetProperty("outOfOrder").GetInt64());
        problem = total != settings.Count ? $"{total} came, {settings.Count} were sent" : outOfOrder > 0 ? $"{outOfOrder} came out of order" : problem;
        for (int id = 0; id < settings.Producers && settings.Size >= 8; id++)
        {
            long sent = Share(settings.Count, settings.Producers, id);
            ulong expected = (ulong)sent * (ulong)Math.Max(0, sent - 1) / 2;
            ulong sum = 0;
            long count = 0;
            foreach (JsonElement result in consumed)
            {
                sum += result.GetProperty("sums")[id].GetUInt64();
                count += result.GetProperty("counts")[id].GetInt64();
            }

            problem = count != sent || sum != expected ? $"Of producer {id}, {count} of {sent} came, or others than were sent" : problem;
        }

        foreach (JsonElement result in consumed)
        {
            JsonElement cells = result.GetProperty("latencies");
            long max = cells[cells.GetArrayLength() - 1].GetInt64();
            for (int i = 0; i < cells.GetArrayLength() - 2; i += 2)
            {
                latencies.Add(cells[i].GetInt32(), cells[i + 1].GetInt64(), max);
            }
        }

        return new Verdict(problem, redelivered, latencies);
    }

    private static int Latency(Settings settings, BrokerProcess? own, Session session, string socket)
    {
        string reply = settings.Queue + "-reply";
        session.DeclareQueue(reply);
        using JsonDocument idle = JsonDocument.Parse(session.GetStatistics());
        int broker = idle.RootElement.GetProperty("pid").GetInt32();
        Process echo = Worker.Start(["bench-echo", "--socket", socket, "--queue", settings.Queue, "--confirm", settings.Confirm]);
        Expect(echo, "ready");
        Go(echo);
        double cpu = CpuOf(broker);
        long start = Clock.MonotonicNanoseconds();
        long[] times = BenchWorkers.RoundTrips(socket, settings.Queue, reply, Math.Max(8, settings.Size), settings.Count, PublishCommand.LevelOf(settings.Confirm), settings.Pause, out long allocated);
        double seconds = (Clock.MonotonicNanoseconds() - start) / 1e9;
        cpu = CpuOf(broker) - cpu;
        Go(echo);
        double echoCpu = echo.TotalProcessorTime.TotalSeconds;
        echo.WaitForExit();
        using JsonDocument after = JsonDocument.Parse(session.GetStatistics());
        Latencies latencies = new();
        Array.ForEach(times, latencies.Add);
        Print(settings, json =>
        {
            json.WriteNumber("messagesPerSecond", Math.Round(settings.Count / seconds));
            json.WriteNumber("bytesPerSecond", Math.Round(settings.Count / seconds * settings.Size));
            latencies.WriteFigures(json, "latencyMicroseconds");
            WriteCpu(json, settings, cpu, 0, echoCpu);
            json.WriteNumber("syncs", after.RootElement.GetProperty("journal").GetProperty("syncs").GetInt64() - idle.RootElement.GetProperty("journal").GetProperty("syncs").GetInt64());
            json.WriteNumber("allocatedBytesPerMessage", Math.Round(allocated / (double)settings.Count, 4));
            json.WriteBoolean("verified", true); // A wrong answer would have ended the run.
        });
        _ = own;
        return 0;
    }

    private static void WriteCpu(Utf8JsonWriter json, Settings settings, double broker, double producers, double consumers)
    {
        json.WriteStartObject("cpuSeconds");
        json.WriteNumber("broker", Math.Round(broker, 3));
        json.WriteNumber("producers", Math.Round(producers, 3));
        json.WriteNumber("consumers", Math.Round(consumers, 3));
        json.WriteEndObject();
        json.WriteStartObject("cpuNanosecondsPerMessage");
        json.WriteNumber("broker", Math.Round(broker * 1e9 / settings.Count, 1));
        json.WriteNumber("producers", Math.Round(producers * 1e9 / settings.Count, 1));
        json.WriteNumber("consumers", Math.Round(consumers * 1e9 / settings.Count, 1));
        json.WriteEndObject();
    }

    private static void Print(Settings settings, Action<Utf8JsonWriter> figures) => Shared.PrintJson(json =>
    {
        json.WriteStartObject();
        json.WriteString("scenario", settings.Scenario);
        json.WriteNumber("size", settings.Size);
        json.WriteNumber("count", settings.Count);
        json.WriteString("confirm", settings.Confirm);
        json.WriteNumber("producers", settings.Producers);
        json.WriteNumber("consumers", settings.Consumers);
        json.WriteString("storage", settings.Storage);
        json.WriteNumber("pauseMilliseconds", settings.Pause.TotalMilliseconds);
        figures(json);
        json.WriteEndObject();
    }, indented: !settings.Json);

    private static long Share(long count, int of, int id) => count / of + (id < count % of ? 1 : 0);

    private static long Allocated(JsonElement result) => result.GetProperty("allocated").GetInt64();

    private static double CpuSeconds(JsonElement result) => result.GetProperty("cpuSeconds").GetDouble();

    private static double CpuOf(int process)
    {
        try
        {
            using Process found = Process.GetProcessById(process);
            return found.TotalProcessorTime.TotalSeconds;
        }
        catch (ArgumentException)
        {
            return 0;
        }
    }

    private static void Go(Process process)
    {
        process.StandardInput.WriteLine();
        process.StandardInput.Flush();
    }

    private static void Expect(Process process, string line)
    {
        if (process.StandardOutput.ReadLine() != line)
        {
            process.WaitForExit();
            throw new IOException($"A process of the benchmark ended with code {process.ExitCode}.");
        }
    }

    private static JsonElement Result(Process process)
    {
        string text = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0)
        {
            throw new IOException($"A process of the benchmark ended with code {process.ExitCode}.");
        }

        process.Dispose();
        using JsonDocument document = JsonDocument.Parse(text);
        return document.RootElement.Clone();
    }

    private static string Text(long value) => value.ToString(CultureInfo.InvariantCulture);
}
