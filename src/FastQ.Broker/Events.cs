using System.Buffers;
using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using FastQ.Engine;
using FastQ.Journal;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Broker;

// Events become messages of the exchange fastq.events, some each turn: what the engine told (src/FastQ.Engine/Events.cs), and what the broker
// sees itself. Each says what it says twice: as typed headers, for those who filter, and as JSON, for those who read. Best effort: what is not
// written when the broker dies is not told; what is, is a message like any other. Nobody waits for a queue that is full.

public sealed partial class Broker
{
    private const int EventsATurn = 64;
    private const int MostIdBytes = 255; // A longer one is left out: a part of an id is none.
    private const long EventsAgainMicros = 1000;
    private readonly ArrayBufferWriter<byte> _eventBody = new(1024);
    private LimitKind _alarmOfDisk;
    private LimitKind _alarmOfMemory;

    /// <summary>Events wait. At rest they do so for room in the journal alone.</summary>
    private long EventsDueMicros => _engine.WaitingEvents == 0 ? long.MaxValue : _now.IntervalMicros + (_journal.Room == JournalRoom.Plenty ? EventsAgainMicros : FireAgainMicros);

    private bool TellEvents()
    {
        if (_engine.TellsEvents)
        {
            Watch(LimitKind.Disk, _journal.Room is JournalRoom.Scarce or JournalRoom.Spent, ref _alarmOfDisk);
            Watch(LimitKind.Memory, _engine.IsMemoryShort(_alarmOfMemory != LimitKind.None), ref _alarmOfMemory);
        }

        int told = 0;
        while (told < EventsATurn && _engine.TryNextEvent(out BrokerEvent one) && _journal.Room == JournalRoom.Plenty && TryTell(one))
        {
            _engine.TakeEvent();
            told++;
        }

        return told > 0;
    }

    /// <summary>Something that the broker lacks, or does not lack any more.</summary>
    private void Watch(LimitKind of, bool isLacking, ref LimitKind alarm)
    {
        if (isLacking != (alarm != LimitKind.None))
        {
            alarm = isLacking ? of : LimitKind.None;
            _engine.Tell(new BrokerEvent(isLacking ? BrokerEventKind.AlarmSet : BrokerEventKind.AlarmCleared, _now.WallMicros) { Limit = of });
        }
    }

    private void TellConnection(Session session, BrokerEventKind kind, RefusalCode end)
    {
        if (_engine.TellsEvents && !_isStopping)
        {
            _engine.Tell(new BrokerEvent(kind, _now.WallMicros) { Client = session.Name, Process = session.Peer.ProcessId, End = end });
        }
    }

    private void TellRemoved(Session session, uint queue, uint subscription, RefusalCode end)
    {
        if (_engine.TellsEvents)
        {
            _engine.TellOf(queue, new BrokerEvent(BrokerEventKind.ConsumerRemoved, _now.WallMicros) { Subscription = subscription, Client = session.Name, Process = session.Peer.ProcessId, End = end });
        }
    }

    private void TellDeadLetter(in DyingMessage message, ReadOnlySpan<byte> properties, string target)
    {
        if (_engine.TellsEvents)
        {
            string? id = PropertyReader.TryFind(properties, PropertyTag.MessageId, out PropertyReader found) && found.Value.Length <= MostIdBytes ? Encoding.UTF8.GetString(found.Value) : null;
            _engine.TellOf(message.Queue, new BrokerEvent(BrokerEventKind.MessageDeadLettered, _now.WallMicros) { Tag = message.Tag, MessageId = id, Death = message.Reason, Deliveries = message.Place.DeliveryCount, Name = target });
        }
    }

    /// <summary>Writes an event into the queues that want it. False: no room in the journal now.</summary>
    private bool TryTell(in BrokerEvent one)
    {
        int propertyBytes = WriteEvent(one, _story, _eventBody);
        int length = MessageHeader.SizeBytes + propertyBytes + _eventBody.WrittenCount;
        Span<byte> message = LetterOf(length);
        _story.AsSpan(0, propertyBytes).CopyTo(message[MessageHeader.SizeBytes..]);
        _eventBody.WrittenSpan.CopyTo(message[(MessageHeader.SizeBytes + propertyBytes)..]);
        MemoryMarshal.Write(message, new MessageHeader { LengthBytes = (uint)length, Kind = RecordKind.Message, PropertyBytes = (ushort)propertyBytes, Queue = QueueEngine.EventsExchange, Check = RecordCheck.Of(message[MessageHeader.SizeBytes..]) });
        ReadOnlySpan<RoutedTarget> targets = _engine.RouteEvent(message);
        if (targets.IsEmpty)
        {
            return true;
        }

        if (!JudgeShared(targets.Length, length).IsTaken)
        {
            _engine.DropEvent();
            return true;
        }

        if (!_journal.TryReserve(SourceRecord.SizeBytes + Limits.Align(StoredMessage.OffsetOf(targets.Length) + length), out Span<byte> room, out Place place))
        {
            _isBlocked = true;
            return false;
        }

        int source = BeginSource(0, room);
        int written = WriteRouted(message, targets, room[source..], new Place(place.Slot, place.Offset + (uint)source));
        Commit(source + written, source > 0 ? 2u : 1u);
        return true;
    }

    /// <summary>The properties of an event, and its body. Gives the bytes of the first.</summary>
    private int WriteEvent(in BrokerEvent one, Span<byte> room, ArrayBufferWriter<byte> body)
    {
        string key = KeyOf(one.Kind);
        body.ResetWrittenCount();
        using Utf8JsonWriter json = new(body);
        PropertyWriter properties = new(room[..Limits.MaxPropertyBytes]);
        properties.Text(PropertyTag.Exchange, Names.Events);
        properties.Text(PropertyTag.RoutingKey, key);
        properties.Text(PropertyTag.Type, key);
        properties.Text(PropertyTag.ContentType, "application/json");
        json.WriteStartObject();
        json.WriteString("event", key);
        EventFields fields = new(properties, json);
        fields.Moment("time", one.WallMicros);
        fields.Text("queue", Encoding.UTF8.GetString(one.Queue.Span));
        fields.Number("tag", (long)one.Tag);
        fields.Text("messageId", one.MessageId);
        fields.Number("subscription", one.Subscription);
        bool isHere = _bySubscription.TryGetValue(one.Subscription, out Session? holder);
        fields.Text("client", ShownName(one.Client ?? (isHere ? holder!.Name : null)));
        fields.Number("process", one.Client is null && isHere ? holder!.Peer.ProcessId : one.Process);
        fields.Number("deliveries", one.Deliveries);
        fields.Text("reason", ReasonOf(one));
        fields.Text("ways", WaysIn(one.Ways));
        fields.Text(one.Kind is BrokerEventKind.AlarmSet or BrokerEventKind.AlarmCleared ? "alarm" : "limit", NameOf(one.Limit));
        fields.Text(one.Limit == LimitKind.Shared ? "name" : "to", one.Name);
        fields.Number("value", one.Value);
        fields.Number("untold", one.Untold);
        fields.Flag("temporary", one.IsTemporary);
        json.WriteEndObject();
        json.Flush();
        Invariant.Holds(!fields.Overflowed);
        return fields.PropertyBytes;
    }

    /// <summary>Fields of an event, each as a header and in the body; those that are empty in neither.</summary>
    private ref struct EventFields(PropertyWriter properties, Utf8JsonWriter json)
    {
        private PropertyWriter _properties = properties;

        public readonly int PropertyBytes => _properties.Length;

        public readonly bool Overflowed => _properties.Overflowed;

        public void Text(string key, string? value)
        {
            if (!string.IsNullOrEmpty(value))
            {
                _properties.Header(key, value);
                json.WriteString(key, value);
            }
        }

        public void Number(string key, long value)
        {
            if (value != 0)
            {
                Header(key, PropertyType.Int64, value);
                json.WriteNumber(key, value);
            }
        }

        public void Flag(string key, bool value)
        {
            if (value)
            {
                _properties.Header(key, PropertyType.Boolean, [1]);
                json.WriteBoolean(key, value);
            }
        }

        public void Moment(string key, long micros)
        {
            Header(key, PropertyType.Timestamp, micros);
            json.WriteString(key, DateTime.UnixEpoch.AddMicroseconds(micros));
        }

        private void Header(string key, PropertyType type, long value)
        {
            Span<byte> bytes = stackalloc byte[sizeof(long)];
            BinaryPrimitives.WriteInt64LittleEndian(bytes, value);
            _properties.Header(key, type, bytes);
        }
    }

    /// <summary>A client may call itself what it likes.</summary>
    private static string? ShownName(string? name) => name is null || name.Length <= MostNameCharacters ? name : name[..MostNameCharacters];

    private static string KeyOf(BrokerEventKind kind) => kind switch
    {
        BrokerEventKind.LeaseEnded => "lease.ended",
        BrokerEventKind.MessageDeadLettered => "message.dead-lettered",
        BrokerEventKind.MessageDropped => "message.dropped",
        BrokerEventKind.LimitHit => "limit.hit",
        BrokerEventKind.ConsumerAdded => "consumer.added",
        BrokerEventKind.ConsumerRemoved => "consumer.removed",
        BrokerEventKind.QueueCreated => "queue.created",
        BrokerEventKind.QueueDeleted => "queue.deleted",
        BrokerEventKind.QueuePaused => "queue.paused",
        BrokerEventKind.QueueResumed => "queue.resumed",
        BrokerEventKind.BreakerOpened => "breaker.opened",
        BrokerEventKind.BreakerClosed => "breaker.closed",
        BrokerEventKind.ConnectionOpened => "connection.opened",
        BrokerEventKind.ConnectionClosed => "connection.closed",
        BrokerEventKind.AlarmSet => "alarm.set",
        _ => "alarm.cleared",
    };

    private static string ReasonOf(in BrokerEvent one) => (one.Death, one.End, one.Cause) switch
    {
        (not DeathReason.None, _, _) => StateNames.NameOf(one.Death),
        (_, not RefusalCode.None, _) => Refusal.Of(one.End).Name,
        (_, _, EventCause.Command) => "command",
        (_, _, EventCause.Idle) => "idle",
        (_, _, EventCause.SessionEnded) => "session-ended",
        (_, _, EventCause.QueueDeleted) => "queue-deleted",
        (_, _, EventCause.NotReturned) => "not-returned",
        (_, _, EventCause.Failures) => "failures",
        (_, _, EventCause.TrialFailed) => "trial-failed",
        (_, _, EventCause.TrialAccepted) => "trial-accepted",
        _ => "",
    };

    private static string NameOf(LimitKind limit) => limit switch
    {
        LimitKind.MaxLength => "max-length",
        LimitKind.MaxBytes => "max-bytes",
        LimitKind.MaxMessageSize => "max-message-size",
        LimitKind.PublishRate => "publish-rate",
        LimitKind.MaxInFlight => "max-in-flight",
        LimitKind.Rate => "rate",
        LimitKind.Shared => "shared",
        LimitKind.Memory => "memory",
        LimitKind.Disk => "disk",
        _ => "",
    };

    private static string WaysIn(PausedWays ways) => ways switch
    {
        PausedWays.In => "in",
        PausedWays.Out => "out",
        PausedWays.In | PausedWays.Out => "both",
        _ => "",
    };
}
