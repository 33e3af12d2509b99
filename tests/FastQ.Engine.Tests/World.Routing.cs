using System.Runtime.InteropServices;
using System.Text;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Engine.Tests;

// Exchanges, as the broker has the engine deal with them: what reaches one queue is a plain message, what reaches several is stored once.
internal sealed partial class World
{
    /// <summary>Exchanges bound to queues and to each other, messages that queues share, one that reached none, a queue that goes with its session.</summary>
    private void AddRoutes(ulong producer)
    {
        uint topic = DeclareExchange("topic", ExchangeType.Topic, "rest"), rest = DeclareExchange("rest", ExchangeType.Headers), one = Declare("fan1"), other = Declare("fan2");
        Assert.True(DeclareTemporary("own", producer, out uint own).IsTaken);
        Bind(topic, one, "k.#");
        Bind(topic, other, "k.*");
        Bind(topic, own, "#");
        Bind(topic, rest, "z");
        PropertyWriter header = new(new byte[64]);
        header.Header("h", "v");
        Bind(rest, one, "", header.Written.ToArray(), HeaderMatch.Any);
        Assert.True(Route(producer, topic, "k.a", out _).IsTaken && Route(producer, topic, "k.b", out _).IsTaken && Route(producer, rest, "", out _, isOptional: true).IsTaken);
        Assert.True(DeleteMessage(one, 1).IsTaken);
    }

    public uint DeclareExchange(string name, ExchangeType type, string alternate = "")
    {
        Begin(0);
        Decision decision = Engine.DeclareExchange(Encoding.UTF8.GetBytes(name), type, Encoding.UTF8.GetBytes(alternate), _room, Block, out int written, out uint exchange, out _);
        Assert.True(decision.IsTaken);
        Keep(written);
        return exchange;
    }

    public Decision DeleteExchange(uint exchange)
    {
        Begin(0);
        Decision decision = Engine.DeleteExchange(exchange, _room, Block, out int written);
        Keep(written);
        return decision;
    }

    public Decision Bind(uint exchange, uint target, string key = "", byte[]? arguments = null, HeaderMatch match = HeaderMatch.All, bool isBound = true)
    {
        Begin(0);
        Decision decision = Engine.Bind(exchange, target, Encoding.UTF8.GetBytes(key), arguments, match, isBound, _room, Block, out int written);
        Keep(written);
        return decision;
    }

    /// <summary>Properties with a routing key, and others behind it.</summary>
    public static byte[] Routed(string key, byte[]? more = null)
    {
        PropertyWriter writer = new(new byte[2048]);
        writer.Text(PropertyTag.RoutingKey, key);
        writer.Raw(more);
        return writer.Written.ToArray();
    }

    /// <summary>Sends to an exchange. Gives the queues and tags that it went to.</summary>
    public Decision Route(ulong producer, uint exchange, string key, out RoutedTarget[] targets, bool isOptional = false, byte[]? more = null, int bodyBytes = 100)
    {
        Begin(producer);
        byte[] properties = Routed(key, more);
        ulong number = Engine.ViewProducer(producer).LastNumber + 1;
        byte[] message = new byte[MessageHeader.SizeBytes + properties.Length + bodyBytes];
        MemoryMarshal.Write(message, new MessageHeader { LengthBytes = (uint)message.Length, Kind = RecordKind.Message, Flags = isOptional ? MessageHeader.Optional : (byte)0, PropertyBytes = (ushort)properties.Length, NumberOrTimeMicros = number, Queue = exchange });
        properties.CopyTo(message, MessageHeader.SizeBytes);
        Assert.Equal(DecisionKind.ForExchange, Engine.Publish(message, new Place(_slot, _offset)).Kind);
        Decision decision = Engine.Route(message, out ReadOnlySpan<RoutedTarget> found);
        targets = found.ToArray();
        if (!decision.IsTaken)
        {
            KeepOrRefuse(decision, number, message, default);
            return decision;
        }

        if (targets.Length == 0)
        {
            Keep(Engine.CountUnrouted(exchange, _room, Block));
            return decision;
        }

        if (targets.Length == 1)
        {
            MemoryMarshal.AsRef<MessageHeader>(message.AsSpan()).Queue = targets[0].Queue;
            Place alone = NextPlace(message.Length);
            Decision taken = Engine.Publish(message, alone);
            KeepOrRefuse(taken, number, message, alone);
            return taken;
        }

        byte[] record = RecordOf(exchange, 0, targets, message);
        Place place = NextPlace(record.Length);
        Engine.PublishRouted(record, place, Block);
        Log.Add(new Logged(record, place, Block));
        return decision;
    }

    /// <summary>Compaction writes a shared record again elsewhere, for the queues in which it is alive. Gives how many these are; 0: it is to stay.</summary>
    public int MoveRouted(Logged old)
    {
        Assert.True(StoredMessage.TryReadRouted(old.Record, out RoutedHeader header, out ReadOnlySpan<RoutedTarget> targets, out ReadOnlySpan<byte> message));
        RoutedTarget[] live = new RoutedTarget[targets.Length];
        int count = Engine.LiveTargets(targets, new Place(old.Place.Slot, old.Place.Offset + (uint)StoredMessage.OffsetOf(targets.Length)), live, out bool isInFlight);
        if (count == 0 || isInFlight)
        {
            return 0;
        }

        byte[] record = RecordOf(header.Exchange, RoutedHeader.Moved, live[..count], message.ToArray());
        Place place = NextPlace(record.Length);
        Engine.PublishRouted(record, place, Block);
        Log.Add(new Logged(record, place, Block));
        return count;
    }

    /// <summary>A queue that goes with a producer's session.</summary>
    public Decision DeclareTemporary(string name, ulong owner, out uint queue)
    {
        Begin(0);
        Decision decision = Engine.DeclareQueue(Encoding.UTF8.GetBytes(name), QueueAttributes.Default, _room, Block, out int written, out queue, out _, out _, owner);
        Keep(written);
        return decision;
    }

    /// <summary>Moves messages that died to the exchange of their queue, as the broker does; the key of each is this one, or that of its tag. Gives to how many queues each went.</summary>
    public List<int> BuryThrough(string key, Func<ulong, string>? keyOf = null)
    {
        Begin(0);
        List<int> reached = [];
        while (Engine.TryNextDying(IntervalMicros, out DyingMessage message))
        {
            byte[] letter = LetterOf(message, 0, Routed(keyOf?.Invoke(message.Tag) ?? key));
            Decision decision = Engine.RouteDead(message.Exchange, letter, out uint exchange, out ReadOnlySpan<RoutedTarget> found);
            if (!decision.IsTaken)
            {
                Assert.Equal(RefusalCode.Unroutable, decision.Code);
                Engine.SetDeadLetterAside(message.Queue, message.Tag);
                continue;
            }

            byte[] record = found.Length > 1 ? RecordOf(exchange, RoutedHeader.DeadLetter, found.ToArray(), letter) : letter;
            Place place = NextPlace(record.Length);
            if (found.Length > 1)
            {
                Engine.PublishRouted(record, place, Block);
            }
            else
            {
                MemoryMarshal.AsRef<MessageHeader>(record.AsSpan()).Queue = found[0].Queue;
                Assert.True(Engine.TakeIn(record, place, Block).IsTaken);
            }

            Log.Add(new Logged(record, place, Block));
            Engine.PauseDeadLetters(message.Queue, 0);
            reached.Add(found.Length);
        }

        return reached;
    }

    private static byte[] RecordOf(uint exchange, byte flags, RoutedTarget[] targets, byte[] message)
    {
        byte[] record = new byte[StoredMessage.OffsetOf(targets.Length) + message.Length];
        MemoryMarshal.Write(record, new RoutedHeader { LengthBytes = (uint)record.Length, Kind = RecordKind.RoutedMessage, Flags = flags, Exchange = exchange, Count = (uint)targets.Length });
        MemoryMarshal.AsBytes(targets.AsSpan()).CopyTo(record.AsSpan(RoutedHeader.SizeBytes));
        message.CopyTo(record, StoredMessage.OffsetOf(targets.Length));
        return record;
    }
}
