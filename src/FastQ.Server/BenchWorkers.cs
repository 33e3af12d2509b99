using System.Buffers.Binary;
using System.CommandLine;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Text.Json;
using FastQ.Client;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Server;

// The processes of a benchmark: producers and consumers. Each connects, prints "ready", waits for a line, works, and prints one JSON object.
// A message's body: | producer: 16 bits, sequence: 48 bits | send time in ns, each 64th message | filling |

/// <summary>fastq bench-producer, bench-consumer, bench-echo: not for people, hence hidden.</summary>
internal static class BenchWorkers
{
    /// <summary>The smallest body that has both its mark and the time of its sending.</summary>
    public const int MarkBytes = 16;

    public const int MostProducers = 64;

    /// <summary>What is allocated before this message is the pools' filling, not a price of messages.</summary>
    private const long WarmMessages = 100_000;
    private const uint TimedEach = 64;

    /// <summary>A delay is counted by the broker's own clock, and looked at by the wall clock, which is slewed: by at most 1 ms in 2 s.</summary>
    private static readonly TimeSpan s_slew = TimeSpan.FromMilliseconds(5);

    public static Command CreateProducer()
    {
        (Option<string> socket, Option<string> queue, Option<int> size, Option<long> count, Option<string> confirm, Option<int> id, Option<string> scenario) = Options();
        Command command = new("bench-producer") { socket, queue, size, count, confirm, id, scenario };
        command.Hidden = true;
        command.SetAction(parsed => Produce(BenchScenario.Named(parsed.GetRequiredValue(scenario)), parsed.GetRequiredValue(socket), parsed.GetRequiredValue(queue), parsed.GetValue(size), parsed.GetValue(count), PublishCommand.LevelOf(parsed.GetRequiredValue(confirm)), parsed.GetValue(id)));
        return command;
    }

    public static Command CreateConsumer()
    {
        (Option<string> socket, Option<string> queue, Option<int> size, Option<long> count, Option<string> confirm, Option<int> id, Option<string> scenario) = Options();
        Command command = new("bench-consumer") { socket, queue, size, count, confirm, id, scenario };
        command.Hidden = true;
        command.SetAction(parsed => Consume(BenchScenario.Named(parsed.GetRequiredValue(scenario)), parsed.GetRequiredValue(socket), parsed.GetRequiredValue(queue), parsed.GetValue(size)));
        return command;
    }

    public static Command CreateEcho()
    {
        (Option<string> socket, Option<string> queue, Option<int> size, Option<long> count, Option<string> confirm, Option<int> id, Option<string> scenario) = Options();
        Command command = new("bench-echo") { socket, queue, size, count, confirm, id, scenario };
        command.Hidden = true;
        command.SetAction(parsed => Echo(parsed.GetRequiredValue(socket), parsed.GetRequiredValue(queue), PublishCommand.LevelOf(parsed.GetRequiredValue(confirm))));
        return command;
    }

    /// <summary>Round trips from this process through the broker to the echo and back.</summary>
    /// <param name="pause">Between two, so that all sleep; zero: traffic is recent.</param>
    public static long[] RoundTrips(string socket, string request, string reply, int size, long count, ConfirmLevel level, TimeSpan pause, out long allocated)
    {
        using Session session = Session.Connect(new SessionOptions { Path = socket, ClientName = "bench" });
        QueueHandle to = session.OpenQueue(request);
        Subscription replies = session.Subscribe(reply);
        byte[] body = new byte[size];
        long[] nanoseconds = new long[count];
        const int Warm = 2000;
        long before = 0;
        for (long i = -Warm; i < count; i++)
        {
            before = i == 0 ? GC.GetAllocatedBytesForCurrentThread() : before;
            if (pause > TimeSpan.Zero && i >= 0)
            {
                Thread.Sleep(pause);
            }

            BinaryPrimitives.WriteInt64LittleEndian(body, i);
            long start = Clock.MonotonicNanoseconds();
            session.Publish(to, body, level);
            Delivery delivery;
            while (!replies.Receive(TimeSpan.FromSeconds(30), out delivery))
            {
            }

            long took = Clock.MonotonicNanoseconds() - start;
            if (BinaryPrimitives.ReadInt64LittleEndian(delivery.Body) != i)
            {
                throw new IOException($"Round trip {i}: another message came back.");
            }

            replies.Accept(delivery);
            if (i >= 0)
            {
                nanoseconds[i] = took;
            }
        }

        allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        return nanoseconds;
    }

    private static (Option<string> Socket, Option<string> Queue, Option<int> Size, Option<long> Count, Option<string> Confirm, Option<int> Id, Option<string> Scenario) Options() =>
        (new("--socket"), new("--queue"), new("--size"), new("--count"), PublishCommand.Confirm("written"), new("--id"), new("--scenario") { DefaultValueFactory = _ => "throughput" });

    private static void AwaitStart()
    {
        ThisProcess.DieWithParent();
        Console.Out.WriteLine("ready");
        Console.Out.Flush();
        _ = Console.In.ReadLine();
    }

    private static int Produce(BenchScenario scenario, string socket, string queue, int size, long count, ConfirmLevel level, int id)
    {
        using Session session = Session.Connect(new SessionOptions { Path = socket, ClientName = $"bench producer {id}" });
        QueueHandle to = scenario.Copies > 1 ? new QueueHandle(session.OpenExchange(queue).Id, queue) : session.OpenQueue(queue);
        byte[] filling = new byte[Math.Max(size, MarkBytes)];
        for (int i = 0; i < filling.Length; i++)
        {
            filling[i] = (byte)(i * 31);
        }

        byte[][] kinds = scenario.PropertiesOfKinds();
        AwaitStart();
        TimeSpan cpu = Process.GetCurrentProcess().TotalProcessorTime;
        long allocated = GC.GetAllocatedBytesForCurrentThread();
        long start = Clock.MonotonicNanoseconds();
        for (long i = 0; i < count; i += Math.Max(1, scenario.TransactionOf))
        {
            if (i == WarmMessages)
            {
                allocated = GC.GetAllocatedBytesForCurrentThread();
            }

            if (scenario.TransactionOf > 0)
            {
                SendTransaction(session, to, filling.AsSpan(0, size), level, id, i, Math.Min(scenario.TransactionOf, count - i));
                continue;
            }

            Send(scenario, kinds, session, to, filling.AsSpan(0, size), level, id, i);
            if (scenario.RepeatsEach > 0 && (i + 1) % scenario.RepeatsEach == 0)
            {
                Send(scenario, kinds, session, to, filling.AsSpan(0, size), level, id, i + 1 - scenario.RepeatsEach);
            }
        }

        long sent = Clock.MonotonicNanoseconds();
        allocated = GC.GetAllocatedBytesForCurrentThread() - allocated;
        session.Flush(level == ConfirmLevel.None ? ConfirmLevel.Accepted : level);
        long end = Clock.MonotonicNanoseconds();
        double seconds = (Process.GetCurrentProcess().TotalProcessorTime - cpu).TotalSeconds;
        Shared.PrintJson(json =>
        {
            json.WriteStartObject();
            json.WriteNumber("startNanoseconds", start);
            json.WriteNumber("sentNanoseconds", sent);
            json.WriteNumber("endNanoseconds", end);
            json.WriteNumber("cpuSeconds", seconds);
            json.WriteNumber("allocated", allocated);
            json.WriteNumber("duplicates", session.Duplicates);
            json.WriteEndObject();
        });
        return 0;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Send(BenchScenario scenario, byte[][] kinds, Session session, in QueueHandle to, ReadOnlySpan<byte> filling, ConfirmLevel level, int producer, long sequence)
    {
        ulong mark = ((ulong)producer << 48) | (ulong)sequence;
        byte[] properties = kinds[scenario.KindOf(sequence)];
        if (scenario.HasIds)
        {
            BenchScenario.WriteId(properties, mark);
        }

        Session.Reservation reservation = session.Reserve(to, filling.Length, properties);
        filling.CopyTo(reservation.Body);
        Mark(reservation.Body, mark);
        reservation.Commit(level);
    }

    private static void SendTransaction(Session session, in QueueHandle to, Span<byte> body, ConfirmLevel level, int producer, long first, long count)
    {
        using SessionTransaction transaction = session.BeginTransaction();
        for (long sequence = first; sequence < first + count; sequence++)
        {
            Mark(body, ((ulong)producer << 48) | (ulong)sequence);
            transaction.Publish(to, body);
        }

        _ = transaction.Send(level);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Mark(Span<byte> body, ulong mark)
    {
        if (body.Length >= 8)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(body, mark);
        }

        if (body.Length >= MarkBytes)
        {
            BinaryPrimitives.WriteInt64LittleEndian(body[8..], mark % TimedEach == 0 ? Clock.MonotonicNanoseconds() : 0); // The producer's bits are none of these.
        }
    }

    private static int Consume(BenchScenario scenario, string socket, string queue, int size)
    {
        using Session session = Session.Connect(new SessionOptions { Path = socket, ClientName = "bench consumer" });
        AwaitStart();
        TimeSpan cpu = Process.GetCurrentProcess().TotalProcessorTime;
        Subscription subscription = session.Subscribe(queue, new SubscribeOptions { Credit = 16 * 1024, CreditBytes = 256L * 1024 * 1024 });
        BenchOrder order = new(scenario, MostProducers);
        ulong[] sums = new ulong[MostProducers];
        long[] counts = new long[MostProducers];
        Latencies latencies = new();
        long total = 0, early = 0, redelivered = 0, first = 0, last = 0;
        bool isEnded = false;
        Task<string?> stopAsked = Task.Run(Console.In.ReadLine);
        long allocated = GC.GetAllocatedBytesForCurrentThread();
        while (!isEnded || subscription.InHand > 0)
        {
            if (!subscription.TryReceive(out Delivery delivery) && !subscription.Receive(TimeSpan.FromMilliseconds(50), out delivery))
            {
                isEnded = stopAsked.IsCompleted;
                continue;
            }

            ReadOnlySpan<byte> body = delivery.Body;
            if (body.Length != size || (size > MarkBytes && body[^1] != (byte)((size - 1) * 31)))
            {
                throw new IOException("A message has another length or other contents than it was sent with.");
            }

            bool isRejected = false;
            if (size >= 8)
            {
                ulong mark = BinaryPrimitives.ReadUInt64LittleEndian(body);
                int producer = (int)(mark >> 48);
                long sequence = (long)(mark & 0xFFFF_FFFF_FFFF);
                order.Take(producer, sequence, delivery.IsRedelivered);
                isRejected = scenario.IsRejected(sequence);
                sums[producer] += (ulong)sequence;
                counts[producer]++;
            }

            if (size >= MarkBytes && BinaryPrimitives.ReadInt64LittleEndian(body[8..]) is var sentAt and not 0)
            {
                latencies.Add(Clock.MonotonicNanoseconds() - sentAt - (long)scenario.Delay.TotalNanoseconds);
                early += scenario.Delay > TimeSpan.Zero && DateTimeOffset.UtcNow - delivery.Timestamp < scenario.Delay - s_slew ? 1 : 0;
            }

            redelivered += delivery.IsRedelivered ? 1 : 0;
            first = total == 0 ? Clock.MonotonicNanoseconds() : first;
            total++;
            subscription.Settle(delivery, isRejected ? Outcome.Reject : Outcome.Accept);
            if (total == WarmMessages)
            {
                allocated = GC.GetAllocatedBytesForCurrentThread();
            }

            if ((total & 1023) == 0)
            {
                last = Clock.MonotonicNanoseconds();
            }
        }

        last = Math.Max(last, latencies.LastNanoseconds);
        allocated = GC.GetAllocatedBytesForCurrentThread() - allocated;
        session.Flush(ConfirmLevel.Written);
        double seconds = (Process.GetCurrentProcess().TotalProcessorTime - cpu).TotalSeconds;
        Shared.PrintJson(json => Report(json, total, order, early, redelivered, first, last, seconds, allocated, counts, sums, latencies));
        return 0;
    }

    private static void Report(Utf8JsonWriter json, long total, BenchOrder order, long early, long redelivered, long first, long last, double seconds, long allocated, long[] counts, ulong[] sums, Latencies latencies)
    {
        json.WriteStartObject();
        json.WriteNumber("total", total);
        json.WriteNumber("outOfOrder", order.OutOfOrder);
        json.WriteNumber("ofFirstKindInTurns", order.OfFirstKindInTurns);
        json.WriteNumber("ofOtherKinds", order.OfOtherKinds);
        json.WriteNumber("early", early);
        json.WriteNumber("redelivered", redelivered);
        json.WriteNumber("firstNanoseconds", first);
        json.WriteNumber("lastNanoseconds", last);
        json.WriteNumber("cpuSeconds", seconds);
        json.WriteNumber("allocated", allocated);
        json.WriteStartArray("counts");
        Array.ForEach(counts, json.WriteNumberValue);
        json.WriteEndArray();
        json.WriteStartArray("sums");
        Array.ForEach(sums, json.WriteNumberValue);
        json.WriteEndArray();
        json.WriteStartArray("latencies");
        latencies.Write(json);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static int Echo(string socket, string queue, ConfirmLevel level)
    {
        using Session session = Session.Connect(new SessionOptions { Path = socket, ClientName = "bench echo" });
        QueueHandle reply = session.OpenQueue(queue + "-reply");
        Subscription subscription = session.Subscribe(queue);
        AwaitStart();
        Task<string?> stopAsked = Task.Run(Console.In.ReadLine);
        while (!stopAsked.IsCompleted)
        {
            if (subscription.Receive(TimeSpan.FromMilliseconds(200), out Delivery delivery))
            {
                session.Publish(reply, delivery.Body, level);
                subscription.Accept(delivery);
            }
        }

        return 0;
    }
}

/// <summary>A histogram of times with 1.5 % of error: 64 cells an octave, in nanoseconds. Merged by adding.</summary>
internal sealed class Latencies
{
    private const int CellsAnOctave = 64;
    private readonly long[] _cells = new long[48 * CellsAnOctave];
    private long _count;

    public long Max { get; private set; }

    /// <summary>When the last one was added.</summary>
    public long LastNanoseconds { get; private set; }

    public void Add(long nanoseconds)
    {
        nanoseconds = Math.Max(1, nanoseconds);
        _cells[CellOf(nanoseconds)]++;
        _count++;
        Max = Math.Max(Max, nanoseconds);
        LastNanoseconds = Clock.MonotonicNanoseconds();
    }

    public void Add(int cell, long count, long max)
    {
        _cells[cell] += count;
        _count += count;
        Max = Math.Max(Max, max);
    }

    /// <summary>The time that this share of all is not above, in microseconds.</summary>
    public double Percentile(double share)
    {
        long rank = (long)Math.Ceiling(_count * share);
        long seen = 0;
        for (int i = 0; i < _cells.Length; i++)
        {
            seen += _cells[i];
            if (seen >= rank && _cells[i] > 0)
            {
                return Math.Min(Max, TopOf(i)) / 1000.0;
            }
        }

        return 0;
    }

    /// <summary>Pairs of cell and count, then -1 and the maximum.</summary>
    public void Write(Utf8JsonWriter json)
    {
        for (int i = 0; i < _cells.Length; i++)
        {
            if (_cells[i] > 0)
            {
                json.WriteNumberValue(i);
                json.WriteNumberValue(_cells[i]);
            }
        }

        json.WriteNumberValue(-1);
        json.WriteNumberValue(Max);
    }

    public void WriteFigures(Utf8JsonWriter json, string name)
    {
        json.WriteStartObject(name);
        json.WriteNumber("p50", Math.Round(Percentile(0.50), 3));
        json.WriteNumber("p99", Math.Round(Percentile(0.99), 3));
        json.WriteNumber("p999", Math.Round(Percentile(0.999), 3));
        json.WriteNumber("max", Math.Round(Max / 1000.0, 3));
        json.WriteEndObject();
    }

    private static int CellOf(long value)
    {
        int octave = System.Numerics.BitOperations.Log2((ulong)value);
        int within = octave >= 6 ? (int)((value >> (octave - 6)) & 63) : (int)((value << (6 - octave)) & 63);
        return octave * CellsAnOctave + within;
    }

    private static double TopOf(int cell)
    {
        (int octave, int within) = Math.DivRem(cell, CellsAnOctave);
        return Math.Pow(2, octave) * (1 + (within + 1) / (double)CellsAnOctave);
    }
}
