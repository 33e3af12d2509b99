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
    private sealed record Settings(int Size, long Count, string Confirm, int Producers, int Consumers, BenchScenario Scenario, string Queue, string? Socket, string Storage, TimeSpan Pause, bool Json);

    private const string AllOfQueues = "all";

    public static Command Create()
    {
        Option<int> size = Shared.Within(new Option<int>("--size") { Description = "Bytes of a body.", DefaultValueFactory = _ => 100, HelpName = "BYTES" }, 0, Limits.MaxMessageBytes);
        Option<long> count = Shared.Within(new Option<long>("--count") { Description = "Messages in all.", DefaultValueFactory = _ => 0, HelpName = "N" }, 1, long.MaxValue);
        Option<string> confirm = PublishCommand.Confirm("written");
        Option<int> producers = Shared.Within(new Option<int>("--producers") { DefaultValueFactory = _ => 1, Description = "Producer processes.", HelpName = "P" }, 1, 64);
        Option<int> consumers = Shared.Within(new Option<int>("--consumers") { DefaultValueFactory = _ => 0, Description = "Consumer processes; 0: as many as the scenario has, 1 but for work-queue.", HelpName = "C" }, 0, 64);
        Option<string> scenario = new("--scenario") { Description = $"{string.Join(". ", BenchScenario.All.Select(one => $"{one.Name}: {one.Says}"))}. {AllOfQueues}: those from work-queue on, one after the other.", DefaultValueFactory = _ => "throughput" };
        scenario.AcceptOnlyFromAmong([.. BenchScenario.All.Select(one => one.Name), AllOfQueues]);
        Option<string?> queue = new("--queue") { Description = "Queue to use: of throughput, latency and backlog made when it is not there (bench), of the others a new one, deleted in the end (bench-SCENARIO)." };
        Option<string?> socket = new("--socket") { Description = "A running broker; without it, one of our own in a temporary directory.", HelpName = "PATH" };
        Option<string> storage = new("--storage") { Description = "Of our own broker: auto, io_uring or thread.", DefaultValueFactory = _ => "auto" };
        storage.AcceptOnlyFromAmong("auto", "io_uring", "thread");
        Option<TimeSpan> pause = Shared.Duration("--pause", "Of latency: rest between two messages, so that all sleep.", TimeSpan.Zero);
        Option<bool> json = Shared.Json();
        Command command = new("bench", "Measure rate, latency, CPU and memory, checking every message.\n\nExamples:\n  fastq bench\n  fastq bench --size 1024 --confirm durable --json\n  fastq bench --scenario latency\n  fastq bench --scenario all --json")
        {
            size, count, confirm, producers, consumers, scenario, queue, socket, storage, pause, json,
        };
        command.Validators.Add(result =>
        {
            if (result.GetValue(scenario) is string name && Chosen(name).Any(one => one.Queue is not null) && result.GetResult(size) is { Implicit: false } && result.GetValue(size) < BenchWorkers.MarkBytes)
            {
                result.AddError($"--size is at least {BenchWorkers.MarkBytes} with --scenario {name}: a body says which message it is.");
            }
        });
        command.SetAction(parsed => Chosen(parsed.GetRequiredValue(scenario)).Max(one => Run(new Settings(
            parsed.GetValue(size),
            parsed.GetValue(count) is var wanted and not 0 ? wanted : parsed.GetValue(size) > 4096 ? Math.Min(one.Count, 100_000) : one.Count,
            parsed.GetRequiredValue(confirm),
            parsed.GetValue(producers),
            parsed.GetValue(consumers) is var processes and not 0 ? processes : one.Consumers,
            one,
            parsed.GetValue(queue) ?? (one.Queue is null ? "bench" : $"bench-{one.Name}"),
            parsed.GetValue(socket),
            parsed.GetRequiredValue(storage),
            parsed.GetValue(pause),
            parsed.GetValue(json)))));
        return command;
    }

    private static IEnumerable<BenchScenario> Chosen(string name) => BenchScenario.All.Where(one => name == AllOfQueues ? one.Queue is not null : one.Name == name);

    private static int Run(Settings settings)
    {
        using BrokerProcess? own = settings.Socket is null ? new BrokerProcess(settings.Storage) : null;
        string socket = settings.Socket ?? own!.Socket;
        using Session session = Shared.Connect(socket, TimeSpan.FromSeconds(30), "fastq bench");
        if (settings.Scenario.Queue is not null)
        {
            ThrowUnlessNew(session, settings.Queue);
        }

        foreach (string queue in QueuesOf(settings))
        {
            session.DeclareQueue(queue, settings.Scenario.Queue);
        }

        if (settings.Scenario.Copies > 1)
        {
            session.DeclareExchange(settings.Queue, ExchangeType.Fanout);
            QueuesOf(settings).ForEach(queue => session.Bind(settings.Queue, queue));
        }

        return settings.Scenario.Name switch
        {
            "latency" => Latency(settings, own, session, socket),
            "request-reply" => RequestReply(settings, session, socket),
            _ => Throughput(settings, own, session, socket),
        };
    }

    /// <summary>What lies in a queue that is there, or in that of its dead letters, would be counted with the scenario's own.</summary>
    private static void ThrowUnlessNew(Session session, string queue)
    {
        if (session.ListQueues().FirstOrDefault(other => other.Name == queue || other.Name == DeadLettersOf(queue)) is QueueInfo there)
        {
            throw new FastQException(RefusalCode.QueueExists, $"The scenario needs a new queue, and '{there.Name}' is there: name another with --queue, or: fastq queue delete {there.Name}");
        }
    }

    /// <summary>The queues that have to get each message.</summary>
    private static List<string> QueuesOf(Settings settings) => [settings.Queue, .. Enumerable.Range(2, settings.Scenario.Copies - 1).Select(number => $"{settings.Queue}-{Text(number)}")];

    private static string DeadLettersOf(string queue) => queue + ".dead";

    private static int Throughput(Settings settings, BrokerProcess? own, Session session, string socket)
    {
        BenchScenario scenario = settings.Scenario;
        using JsonDocument idle = JsonDocument.Parse(session.GetStatistics());
        int broker = idle.RootElement.GetProperty("pid").GetInt32();
        List<Process> producers = [.. Enumerable.Range(0, settings.Producers).Select(id => Worker.Start(["bench-producer", "--socket", socket, "--queue", settings.Queue, "--size", Text(settings.Size), "--count", Text(Share(settings.Count, settings.Producers, id)), "--confirm", settings.Confirm, "--id", Text(id), "--scenario", scenario.Name]))];
        List<string> queues = QueuesOf(settings);
        int consuming = Math.Max(settings.Consumers, queues.Count); // None is left without one.
        List<Process> consumers = [.. Enumerable.Range(0, consuming).Select(number => Worker.Start(["bench-consumer", "--socket", socket, "--queue", queues[number % queues.Count], "--size", Text(settings.Size), "--count", "0", "--scenario", scenario.Name]))];
        producers.Concat(consumers).ToList().ForEach(process => Expect(process, "ready"));
        double brokerCpu = CpuOf(broker);
        if (!scenario.IsBacklog)
        {
            consumers.ForEach(Go);
        }

        producers.ForEach(Go);
        List<JsonElement> produced = [.. producers.Select(Result)];
        double publishedAt = produced.Max(result => result.GetProperty("endNanoseconds").GetInt64());
        using JsonDocument full = JsonDocument.Parse(session.GetStatistics());
        double restartMilliseconds = 0;
        if (scenario.IsBacklog)
        {
            if (own is not null && scenario.RestartsBroker)
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
        foreach (string name in queues)
        {
            for (QueueInfo queue = session.GetQueue(name); queue.Messages > 0; queue = session.GetQueue(name))
            {
                progress.Report((long)queue.Accepted);
                Thread.Sleep(5);
            }
        }

        double emptyAt = Clock.MonotonicNanoseconds();
        progress.Clear();

        consumers.ForEach(Go);
        List<JsonElement> consumed = [.. consumers.Select(Result)];
        using JsonDocument after = JsonDocument.Parse(session.GetStatistics());
        long deadLetters = session.ListQueues().Where(other => scenario.RejectsEach > 0 && other.Name == DeadLettersOf(settings.Queue)).Sum(other => other.Messages);
        Verdict verdict = Verify(settings, produced, consumed, deadLetters);
        double start = produced.Min(result => result.GetProperty("startNanoseconds").GetInt64());
        double acceptedAt = scenario.RejectsEach > 0 ? emptyAt : consumed.Max(result => result.GetProperty("lastNanoseconds").GetInt64());
        double end = Math.Max(publishedAt, acceptedAt);
        double seconds = Math.Max(1e-9, ((scenario.RestartsBroker ? publishedAt : end) - start) / 1e9 - scenario.Delay.TotalSeconds);
        double cpu = CpuOf(broker) - brokerCpu;
        Print(settings, json =>
        {
            json.WriteNumber("messagesPerSecond", Math.Round(settings.Count / seconds));
            json.WriteNumber("bytesPerSecond", Math.Round(settings.Count / seconds * settings.Size));
            if (scenario.HasLatency)
            {
                verdict.Latencies.WriteFigures(json, "latencyMicroseconds");
            }

            WriteCpu(json, settings, cpu, produced.Sum(CpuSeconds), consumed.Sum(CpuSeconds));
            json.WriteNumber("syncs", after.RootElement.GetProperty("journal").GetProperty("syncs").GetInt64());
            long brokerAllocated = after.RootElement.GetProperty("allocatedBytes").GetInt64() - (scenario.RestartsBroker ? 0 : idle.RootElement.GetProperty("allocatedBytes").GetInt64());
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
            if (scenario.IsBacklog || scenario.Delay > TimeSpan.Zero)
            {
                double drainStart = scenario.IsBacklog ? publishedAt + restartMilliseconds * 1e6 : consumed.Min(result => result.GetProperty("firstNanoseconds").GetInt64());
                json.WriteNumber("publishMessagesPerSecond", Math.Round(settings.Count / Math.Max(1e-9, (publishedAt - start) / 1e9)));
                json.WriteNumber("drainMessagesPerSecond", Math.Round(settings.Count / Math.Max(1e-9, (acceptedAt - drainStart) / 1e9)));
                long queued = Math.Max(1, full.RootElement.GetProperty("messages").GetInt64());
                json.WriteNumber("bytesPerQueuedMessage", Math.Round(Growth(idle, full, "residentBytes") / queued, 2));
                json.WriteNumber("indexBytesPerQueuedMessage", Math.Round(Growth(idle, full, "indexBytes") / queued, 2));
            }

            if (scenario.RestartsBroker)
            {
                json.WriteNumber("restartMilliseconds", Math.Round(restartMilliseconds, 1));
            }

            if (scenario.RejectsEach > 0)
            {
                json.WriteNumber("deadLetters", deadLetters);
            }

            if (scenario.Copies > 1)
            {
                json.WriteNumber("deliveriesPerSecond", Math.Round(settings.Count * scenario.Copies / seconds));
                json.WriteNumber("journalBytesPerMessage", Math.Round((JournalBytes(after) - JournalBytes(idle)) / (double)settings.Count, 1));
            }

            if (scenario.RepeatsEach > 0)
            {
                json.WriteNumber("duplicates", produced.Sum(Duplicates));
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
        if (verdict.Problem.Length > 0)
        {
            Console.Error.WriteLine($"fastq: bench {scenario.Name}: {verdict.Problem}.");
            return 1;
        }

        Forget(session, settings);
        return 0;
    }

    /// <summary>The queue that the scenario has made goes, and that of its dead letters. When something was wrong they stay, to be looked at.</summary>
    private static void Forget(Session session, Settings settings)
    {
        if (settings.Scenario.Queue is null)
        {
            return;
        }

        QueuesOf(settings).ForEach(session.DeleteQueue);
        if (settings.Scenario.Copies > 1)
        {
            session.DeleteExchange(settings.Queue);
        }

        if (settings.Scenario.RejectsEach > 0)
        {
            session.DeleteQueue(DeadLettersOf(settings.Queue));
        }
    }

    /// <summary>Written to the journal's files by the broker.</summary>
    private static long JournalBytes(JsonDocument statistics) => statistics.RootElement.GetProperty("journal").GetProperty("bytesWritten").GetInt64();

    private sealed record Verdict(string Problem, long Redelivered, Latencies Latencies);

    /// <summary>Each producer's messages came, all of them, once, in the order that the scenario demands.</summary>
    private static Verdict Verify(Settings settings, List<JsonElement> produced, List<JsonElement> consumed, long deadLetters)
    {
        Latencies latencies = new();
        long redelivered = Sum(consumed, "redelivered");
        string problem = OrderProblem(settings, consumed);
        (long rejected, long repeated) = (0, 0);
        for (int id = 0; id < settings.Producers; id++)
        {
            long sent = Share(settings.Count, settings.Producers, id);
            (rejected, repeated) = (rejected + settings.Scenario.RejectedOf(sent), repeated + settings.Scenario.RepeatedOf(sent));
        }

        problem = deadLetters != rejected ? $"{deadLetters} are among the dead letters, {rejected} were rejected" : problem;
        problem = produced.Sum(Duplicates) is var told && told != repeated ? $"{told} were told to be duplicates, {repeated} were sent twice" : problem;
        problem = Sum(consumed, "total") is var total && total != settings.Count * settings.Scenario.Copies ? $"{total} came, {settings.Count} were sent" : problem;
        for (int id = 0; id < settings.Producers && settings.Size >= 8; id++)
        {
            long sent = Share(settings.Count, settings.Producers, id);
            ulong expected = (ulong)sent * (ulong)Math.Max(0, sent - 1) / 2 * (ulong)settings.Scenario.Copies;
            ulong sum = 0;
            long count = 0;
            foreach (JsonElement result in consumed)
            {
                sum += result.GetProperty("sums")[id].GetUInt64();
                count += result.GetProperty("counts")[id].GetInt64();
            }

            problem = count != sent * settings.Scenario.Copies || sum != expected ? $"Of producer {id}, {count} of {sent} came, or others than were sent" : problem;
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

    private static string OrderProblem(Settings settings, List<JsonElement> consumed)
    {
        if (Sum(consumed, "outOfOrder") is var late and > 0)
        {
            return $"{late} came out of order";
        }

        if (Sum(consumed, "early") is var early and > 0)
        {
            return $"{early} of those that are timed came before they were due";
        }

        // All but the first kind have as many messages, so that all take part in each round until those are spent: then the first has had as many as each of them.
        // With several consumers, each is told of a share of the rounds; a round more for each, and a tenth, is room for how they fall.
        double fair = Sum(consumed, "ofOtherKinds") / (settings.Scenario.Kinds - 1.0) * 1.1 + 100 * settings.Consumers;
        return settings.Scenario.HalfAreOfFirstKind && Sum(consumed, "ofFirstKindInTurns") is var first && first > fair
            ? $"{first} of the tenant that has most came while others waited, {fair:N0} at most are its share"
            : "";
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

    private static int RequestReply(Settings settings, Session session, string socket)
    {
        using JsonDocument idle = JsonDocument.Parse(session.GetStatistics());
        int broker = idle.RootElement.GetProperty("pid").GetInt32();
        Process responder = Worker.Start(["bench-responder", "--socket", socket, "--queue", settings.Queue]);
        Expect(responder, "ready");
        Go(responder);
        double cpu = CpuOf(broker);
        BenchReplyFigures figures = BenchReplies.Ask(socket, settings.Queue, settings.Size, settings.Count);
        cpu = CpuOf(broker) - cpu;
        using JsonDocument after = JsonDocument.Parse(session.GetStatistics());
        Go(responder);
        double responderCpu = responder.TotalProcessorTime.TotalSeconds;
        responder.WaitForExit();
        Print(settings, json =>
        {
            json.WriteNumber("messagesPerSecond", Math.Round(settings.Count / figures.Seconds));
            json.WriteNumber("bytesPerSecond", Math.Round(settings.Count / figures.Seconds * settings.Size));
            json.WriteNumber("underWay", BenchReplies.UnderWay);
            figures.Alone.WriteFigures(json, "latencyMicroseconds");
            figures.Together.WriteFigures(json, "latencyMicrosecondsUnderLoad");
            WriteCpu(json, settings, cpu, 0, responderCpu);
            json.WriteNumber("idleResidentBytes", idle.RootElement.GetProperty("residentBytes").GetInt64());
            json.WriteNumber("fullResidentBytes", after.RootElement.GetProperty("residentBytes").GetInt64());
            json.WriteNumber("allocatedBytesPerMessage", Math.Round(figures.AllocatedBytes / (double)settings.Count, 4));
            json.WriteBoolean("verified", true); // A wrong reply would have ended the run.
        });
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

    private static void Print(Settings settings, Action<Utf8JsonWriter> figures)
    {
        if (settings.Json)
        {
            Shared.PrintJson(json => Write(json, settings, figures));
            return;
        }

        using MemoryStream buffer = new();
        using (Utf8JsonWriter json = new(buffer))
        {
            Write(json, settings, figures);
        }

        using JsonDocument document = JsonDocument.Parse(buffer.ToArray());
        Shared.PrintTable(document.RootElement);
    }

    private static void Write(Utf8JsonWriter json, Settings settings, Action<Utf8JsonWriter> figures)
    {
        json.WriteStartObject();
        json.WriteString("scenario", settings.Scenario.Name);
        json.WriteNumber("size", settings.Size);
        json.WriteNumber("count", settings.Count);
        json.WriteString("confirm", settings.Confirm);
        json.WriteNumber("producers", settings.Producers);
        json.WriteNumber("consumers", settings.Consumers);
        json.WriteString("storage", settings.Storage);
        json.WriteNumber("pauseMilliseconds", settings.Pause.TotalMilliseconds);
        figures(json);
        json.WriteEndObject();
    }

    private static long Share(long count, int of, int id) => count / of + (id < count % of ? 1 : 0);

    private static long Allocated(JsonElement result) => result.GetProperty("allocated").GetInt64();

    private static long Duplicates(JsonElement result) => result.GetProperty("duplicates").GetInt64();

    private static long Sum(List<JsonElement> results, string figure) => results.Sum(result => result.GetProperty(figure).GetInt64());

    private static double Growth(JsonDocument before, JsonDocument after, string figure) => after.RootElement.GetProperty(figure).GetInt64() - before.RootElement.GetProperty(figure).GetInt64();

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
