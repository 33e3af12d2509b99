using System.Buffers;
using System.Buffers.Text;
using System.Globalization;
using FastQ.Client;
using FastQ.Protocol;

namespace FastQ.Server;

// What fastq bench can measure, a row each. Producers and consumers are processes: they are told a scenario's name, and look here for what it asks of them.
//
//   producer: message i of a producer is of kind KindOf(i), a kind has its properties   -->  queue  -->  consumer: BenchOrder judges what comes by its mark alone

/// <summary>One scenario of fastq bench: what its queue is like, what goes with a message, what becomes of it, and in which order it has to come.</summary>
/// <param name="Name">As --scenario takes it.</param>
/// <param name="Count">Messages in all, when nobody says otherwise.</param>
/// <param name="Says">For the help: what is done.</param>
internal sealed record BenchScenario(string Name, long Count, string Says)
{
    private const int KeyRoomBytes = 64;
    private const int Tenants = 100;

    public static readonly BenchScenario[] All =
    [
        new("throughput", 5_000_000, "publish, deliver and accept at once"),
        new("latency", 50_000, "one message in flight, there and back"),
        new("request-reply", 1_000_000, "one request at a time, then 4,096 under way at once; each reply is checked"),
        new("backlog", 5_000_000, "publish all, restart, drain") { IsBacklog = true, RestartsBroker = true },
        new("work-queue", 2_000_000, "four competing consumers") { Queue = new QueueOptions(), Consumers = 4 },
        new("fifo", 1_000_000, "100,000 groups in turn") { Queue = new QueueOptions { Fifo = true }, Kinds = 100_000, WriteKind = (ref writer, kind) => Key(ref writer, PropertyTag.Group, kind) },
        new("many-groups", 2_000_000, "1,000,000 groups in turn; publish all, drain") { Queue = new QueueOptions { Fifo = true }, IsBacklog = true, Kinds = 1_000_000, WriteKind = (ref writer, kind) => Key(ref writer, PropertyTag.Group, kind) },
        new("priority", 1_000_000, "10 levels in turn; publish all, drain the highest first") { Queue = new QueueOptions { Priority = true }, IsBacklog = true, Kinds = 10, DrainsHighestKindFirst = true, WriteKind = (ref writer, kind) => writer.Number(PropertyTag.Priority, PropertyType.Int64, kind) },
        new("delayed", 1_000_000, "each is due 2 s after its publishing; drained as it falls due") { Queue = new QueueOptions(), Delay = TimeSpan.FromSeconds(2), WriteKind = (ref writer, _) => writer.Number(PropertyTag.Delay, PropertyType.Int64, 2000) },
        new("dead-letter", 1_000_000, "each tenth is rejected, and has to be in QUEUE.dead") { Queue = new QueueOptions(), RejectsEach = 10 },
        new("fair", 1_000_000, "100 tenants, half of all messages are the first one's; publish all, drain in turns") { Queue = new QueueOptions { Fair = true }, IsBacklog = true, Kinds = Tenants, HalfAreOfFirstKind = true, WriteKind = (ref writer, kind) => Key(ref writer, PropertyTag.Tenant, kind) },
        new("dedup", 1_000_000, "each has a deduplication id, each tenth is sent twice and has to come once") { Queue = new QueueOptions(), RepeatsEach = 10, HasIds = true },
        new("fan-out", 200_000, "to an exchange, from there to 10 queues with a consumer each; journal bytes a message show that it is stored once") { Queue = new QueueOptions(), Copies = 10 },
        new("transactions", 1_000_000, "transactions of 10 messages each") { Queue = new QueueOptions(), TransactionOf = 10 },
    ];

    public delegate void WriteProperties(ref PropertyWriter writer, int kind);

    /// <summary>Of the queue, which has to be a new one. Null: any queue will do, and it is left as it is.</summary>
    public QueueOptions? Queue { get; init; }

    /// <summary>So many queues get each message, by an exchange of the queue's name, and have a consumer each. 1: it is sent to the queue itself.</summary>
    public int Copies { get; init; } = 1;

    /// <summary>Consumer processes, when nobody says otherwise.</summary>
    public int Consumers { get; init; } = 1;

    /// <summary>Consumers begin when all is published.</summary>
    public bool IsBacklog { get; init; }

    /// <summary>Between publishing and draining the broker is killed and started, where it is our own.</summary>
    public bool RestartsBroker { get; init; }

    /// <summary>Messages differ in their properties in so many ways: groups, levels, tenants. Those of one kind have to come in order.</summary>
    public int Kinds { get; init; } = 1;

    /// <summary>Writes the properties of a kind; null: there are none.</summary>
    public WriteProperties? WriteKind { get; init; }

    /// <summary>A message of a higher kind never comes after one of a lower.</summary>
    public bool DrainsHighestKindFirst { get; init; }

    /// <summary>Kind 0 has each second message, and may not have more of the turns than any other while those wait.</summary>
    public bool HalfAreOfFirstKind { get; init; }

    /// <summary>Nobody may get a message sooner than so long after its acceptance.</summary>
    public TimeSpan Delay { get; init; }

    /// <summary>The first of so many messages is rejected. 0: none is.</summary>
    public int RejectsEach { get; init; }

    /// <summary>Each message has a deduplication id: its mark.</summary>
    public bool HasIds { get; init; }

    /// <summary>The first of so many messages is sent again behind the last of them. 0: none is.</summary>
    public int RepeatsEach { get; init; }

    /// <summary>So many messages are published in one transaction. 0: each by itself.</summary>
    public int TransactionOf { get; init; }

    /// <summary>From publish to delivery says something: it is not how long a backlog lay.</summary>
    public bool HasLatency => !IsBacklog || RestartsBroker;

    public static BenchScenario Named(string name) => All.Single(scenario => scenario.Name == name);

    /// <summary>Of a producer's message: which of the <see cref="Kinds"/> it is.</summary>
    public int KindOf(long sequence) =>
        HalfAreOfFirstKind ? sequence % 2 == 0 ? 0 : (int)(1 + sequence / 2 % (Kinds - 1)) :
        Kinds == 1 ? 0 : (int)(sequence % Kinds);

    public bool IsRejected(long sequence) => RejectsEach > 0 && sequence % RejectsEach == 0;

    /// <summary>So many of a producer's messages are rejected.</summary>
    public long RejectedOf(long count) => RejectsEach == 0 ? 0 : (count + RejectsEach - 1) / RejectsEach;

    /// <summary>So many of a producer's messages are sent twice.</summary>
    public long RepeatedOf(long count) => RepeatsEach == 0 ? 0 : count / RepeatsEach;

    /// <summary>The properties of each kind, as they stand in the record.</summary>
    public byte[][] PropertiesOfKinds()
    {
        byte[][] kinds = new byte[Kinds][];
        Span<byte> room = stackalloc byte[KeyRoomBytes];
        for (int kind = 0; kind < Kinds; kind++)
        {
            PropertyWriter writer = new(room);
            WriteKind?.Invoke(ref writer, kind);
            if (HasIds)
            {
                writer.Text(PropertyTag.DeduplicationId, "0123456789abcdef"); // Room for a mark.
            }

            kinds[kind] = writer.Written.ToArray();
        }

        return kinds;
    }

    /// <summary>Writes a mark as the deduplication id at the end of the properties of its kind.</summary>
    public static void WriteId(Span<byte> properties, ulong mark) => Utf8Formatter.TryFormat(mark, properties[^16..], out _, new StandardFormat('x', 16));

    private static void Key(ref PropertyWriter writer, PropertyTag tag, int kind) => writer.Text(tag, kind.ToString("D6", CultureInfo.InvariantCulture));
}

/// <summary>Judges in which order messages come to one consumer.</summary>
internal sealed class BenchOrder(BenchScenario scenario, int mostProducers)
{
    private readonly long[]?[] _next = new long[mostProducers][];
    private int _lowestKind = int.MaxValue;
    private long _ofFirstKind;

    /// <summary>Messages that came behind a later one of their producer and kind, or twice, or behind a lower kind where the highest has to go first.</summary>
    public long OutOfOrder { get; private set; }

    /// <summary>Messages of the first kind that came before the last of another.</summary>
    public long OfFirstKindInTurns { get; private set; }

    /// <summary>Messages of other kinds.</summary>
    public long OfOtherKinds { get; private set; }

    public void Take(int producer, long sequence, bool isRedelivered)
    {
        int kind = scenario.KindOf(sequence);
        ref long next = ref (_next[producer] ??= new long[scenario.Kinds])[kind];
        bool isLate = sequence < next || (scenario.DrainsHighestKindFirst && kind > _lowestKind);
        OutOfOrder += isLate && !isRedelivered ? 1 : 0;
        next = sequence + 1;
        _lowestKind = Math.Min(_lowestKind, kind);
        if (kind == 0)
        {
            _ofFirstKind++;
        }
        else
        {
            OfOtherKinds++;
            OfFirstKindInTurns = _ofFirstKind;
        }
    }
}
