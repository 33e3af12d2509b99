using System.Buffers;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Client;

// A session: one connection, its rings, and all that must survive the broker's death.
//
//   Publish, Settle, commands --> Outbox (ring A; the resend buffer)        numbers: dense, from 1, over rings and reconnects
//   Receive, confirms, answers <-- ring B, read in order: notices and answers at once, runs of deliveries as they are wanted
//
// Parts: Waiting.cs (doorbells, socket), Receiving.cs (ring B), Reconnecting.cs, Administration.cs (commands).

/// <summary>A queue that messages are sent to.</summary>
/// <param name="Id">The broker's number of it; never used again.</param>
/// <param name="Name">Its name.</param>
/// <param name="Lz4FromBytes">Bodies from this size on are compressed (<see cref="QueueOptions.Lz4FromBytes"/>), as the queue had it when it was opened; 0: none.</param>
public readonly record struct QueueHandle(uint Id, string Name, int Lz4FromBytes = 0);

/// <summary>A connection for one thread at a time: synchronous, span-based, no allocation per message. For async and many threads use <see cref="Connection"/>.</summary>
/// <remarks>Rides out restarts of the broker within <see cref="SessionOptions.Patience"/>: what was not confirmed at its level is sent again under the same number, which the broker takes once.</remarks>
public sealed unsafe partial class Session : IDisposable
{
    private readonly SessionOptions _options;
    private readonly CancellationToken _giveUp;
    private readonly byte[] _instance;
    private readonly List<Outbox> _older = [];
    private readonly SortedDictionary<ulong, FastQException> _refused = [];
    private readonly Dictionary<uint, Subscription> _subscriptions = [];
    private readonly SlotMaps _slots = new();
    private UnixSocket _socket;
    private EventDescriptor _bell;
    private FileHandle _pipe;
    private ClientRings _rings;
    private Outbox _outbox;
    private ClientRings? _nextRings;
    private ulong _producer;
    private ulong _nextNumber = 1;
    private ulong _durableSeen;
    private ulong _refusalsTaken;
    private ulong _refusalsTold;
    private long _slotBytes;
    private int _fullWaits;
    private bool _isGrowing;
    private bool _isAbandoned; // Closed, and its memory and descriptors are gone; what a refusal to come back has closed still has them.

    private Session(SessionOptions options, Welcome welcome, byte[] instance, CancellationToken giveUp)
    {
        _options = options;
        _giveUp = giveUp;
        _instance = instance;
        (_socket, _bell, _pipe, _rings) = (welcome.Socket, welcome.Bell, welcome.Pipe, welcome.Rings);
        _outbox = new Outbox(_rings);
        Take(welcome);
    }

    /// <summary>The largest body that the broker takes, in bytes.</summary>
    public int MaxMessageBytes { get; private set; }

    /// <summary>The broker's life; the first half of fencing tokens.</summary>
    public ulong Epoch { get; private set; }

    /// <summary>Version of the broker.</summary>
    public string ServerVersion { get; private set; } = "";

    /// <summary>Id under which the broker knows this session's submissions.</summary>
    public ulong Producer => _producer;

    /// <summary>Number of the last submission.</summary>
    public ulong LastNumber => _nextNumber - 1;

    /// <summary>How often the broker was lost and found again.</summary>
    public int Reconnects { get; private set; }

    /// <summary>Submissions that were sent again.</summary>
    public long Resent { get; private set; }

    /// <summary>Closed by this program.</summary>
    public bool IsClosed { get; private set; }

    /// <summary>Messages that were not taken as the queue had them already: see <see cref="PublishOptions.DeduplicationId"/> and <see cref="PublishOptions.UniqueKey"/>. They count as published.</summary>
    public long Duplicates { get; private set; }

    /// <summary>Called for each of <see cref="Duplicates"/> with its number and the place (tag) of the one that the queue has, or had; 0 where that is not known any more, after a reconnect. Session's thread.</summary>
    public Action<ulong, ulong>? Duplicated { get; set; }

    /// <summary>Called with the number of each message to an exchange that was published so, and how many queues took it, before it counts as confirmed. Not for one that was sent again after a reconnect, when the broker had taken it already. Session's thread.</summary>
    public Action<ulong, int>? Routed { get; set; }

    /// <summary>Called with each refusal of a message or settle as it is taken; it is also thrown by the next wait for its number, or flush. Session's thread.</summary>
    public Action<FastQException>? Refused { get; set; }

    /// <summary>Connects, waiting for the broker within the patience.</summary>
    /// <param name="options">Where and how; null: the defaults.</param>
    /// <param name="giveUp">Ends waits for a broker that is away, now and later, with <see cref="RefusalCode.Disconnected"/>. Nothing else is cut short by it.</param>
    /// <exception cref="FastQException">Refused, or no broker came.</exception>
    public static Session Connect(SessionOptions? options = null, CancellationToken giveUp = default)
    {
        options ??= new SessionOptions();
        byte[] instance = new byte[16];
        options.Surroundings.Fill(instance);
        Deadline deadline = new(options.Surroundings, options.Patience);
        while (true)
        {
            Welcome? welcome = Connector.TryConnect(options, instance, 0, 0, options.SubmissionRingBytes, options.DeliveryRingBytes, deadline, out string why);
            if (welcome is not null)
            {
                return new Session(options, welcome, instance, giveUp);
            }

            if (!deadline.TryPause(giveUp))
            {
                throw new FastQException(RefusalCode.Disconnected, why);
            }
        }
    }

    /// <summary>Finds a queue by its name.</summary>
    public QueueHandle OpenQueue(string name)
    {
        QueueInfo queue = GetQueue(name);
        return new QueueHandle(queue.Id, name, (int)Math.Min(queue.Lz4FromBytes, int.MaxValue));
    }

    /// <summary>Room for a message in the ring, to be filled in place: no copy of it is made outside, and it is not compressed, whatever the queue says. Waits while the ring is full.</summary>
    /// <param name="queue">Where it goes.</param>
    /// <param name="bodyBytes">Bytes of the body, exactly.</param>
    /// <param name="properties">Written by a <see cref="PropertyWriter"/>; may be empty.</param>
    /// <returns>To be committed before anything else is done with the session; one that is not committed was never there.</returns>
    /// <exception cref="FastQException">The body or the properties are too large.</exception>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Reservation Reserve(in QueueHandle queue, int bodyBytes, ReadOnlySpan<byte> properties = default)
    {
        int length = MessageHeader.SizeBytes + properties.Length + bodyBytes;
        if (_outbox.Room < length + ControlRecord.SizeBytes + Limits.RecordAlignment || (uint)bodyBytes > (uint)MaxMessageBytes || properties.Length > Limits.MaxPropertyBytes || !_outbox.HasMarkRoom || IsClosed)
        {
            MakeRoom(length, bodyBytes, properties.Length);
        }

        Span<byte> room = _outbox.Ring.Next(length);
        MemoryMarshal.Write(room, new MessageHeader { LengthBytes = (uint)length, Kind = RecordKind.Message, PropertyBytes = (ushort)properties.Length, NumberOrTimeMicros = _nextNumber, Queue = queue.Id });
        properties.CopyTo(room[MessageHeader.SizeBytes..]);
        return new Reservation(this, room);
    }

    /// <summary>Sends a message, compressed where its queue says so and it gets smaller by it. Returns its number at once; waits only while the ring is full.</summary>
    /// <exception cref="FastQException">The body, as it would be stored, or the properties are too large.</exception>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong Publish(in QueueHandle queue, ReadOnlySpan<byte> body, ConfirmLevel level = ConfirmLevel.Durable, ReadOnlySpan<byte> properties = default) =>
        queue.Lz4FromBytes != 0 && body.Length >= queue.Lz4FromBytes ? PublishCompressed(queue, body, level, properties) : PublishAsIs(queue, body, level, properties);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private ulong PublishCompressed(in QueueHandle queue, ReadOnlySpan<byte> body, ConfirmLevel level, ReadOnlySpan<byte> properties)
    {
        int roomBytes = Lz4Body.RoomFor(body, properties);
        if (roomBytes == 0)
        {
            return PublishAsIs(queue, body, level, properties);
        }

        byte[] room = ArrayPool<byte>.Shared.Rent(roomBytes);
        try
        {
            return Lz4Body.TryEncode(body, properties, room, out int propertyBytes, out int bodyBytes)
                ? PublishAsIs(queue, room.AsSpan(propertyBytes, bodyBytes), level, room.AsSpan(0, propertyBytes))
                : PublishAsIs(queue, body, level, properties);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(room);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private ulong PublishAsIs(in QueueHandle queue, ReadOnlySpan<byte> body, ConfirmLevel level, ReadOnlySpan<byte> properties)
    {
        Reservation reservation = Reserve(queue, body.Length, properties);
        body.CopyTo(reservation.Body);
        return reservation.Commit(level);
    }

    /// <summary>The highest number that is confirmed at a level: it and all before it, but for those that were refused.</summary>
    public ulong Confirmed(ConfirmLevel level)
    {
        ulong reached = Counter(level);
        Drain(); // A refusal stands in the ring before a counter passes it.
        return Math.Max(reached, level == ConfirmLevel.Durable ? _durableSeen : 0);
    }

    /// <summary>Waits until a submission is confirmed at a level.</summary>
    /// <exception cref="FastQException">It was refused, or this did not happen in time.</exception>
    public void WaitConfirmed(ulong number, ConfirmLevel level, TimeSpan? timeout = null)
    {
        Deadline deadline = new(_options.Surroundings, timeout ?? Timeout.InfiniteTimeSpan);
        while (level != ConfirmLevel.None && Confirmed(level) < number && !_refused.ContainsKey(number))
        {
            FlushAllSettles();
            if (!WaitForNews(deadline))
            {
                throw new FastQException(RefusalCode.TimedOut, $"Submission {number} was not confirmed as {level} in time");
            }
        }

        if (_refused.Remove(number, out FastQException? refusal))
        {
            throw refusal;
        }
    }

    /// <summary>Waits until all that was sent is confirmed at a level. Throws the first refusal there was.</summary>
    /// <exception cref="FastQException">Something was refused, or this did not happen in time.</exception>
    public void Flush(ConfirmLevel level = ConfirmLevel.Durable, TimeSpan? timeout = null)
    {
        FlushAllSettles();
        ulong last = LastNumber;
        Deadline deadline = new(_options.Surroundings, timeout ?? Timeout.InfiniteTimeSpan);
        if (last > 0 && level == ConfirmLevel.Durable && Confirmed(level) < last)
        {
            AskForDurable();
            last = LastNumber;
        }

        while (last > 0 && level != ConfirmLevel.None && Confirmed(level) < last)
        {
            if (!WaitForNews(deadline))
            {
                throw new FastQException(RefusalCode.TimedOut, $"Not everything was confirmed as {level} in time: {Confirmed(level)} of {last}");
            }
        }

        if (_refused.Count > 0)
        {
            FastQException first = _refused.Values.First();
            _refused.Clear();
            throw first;
        }
    }

    /// <summary>Refusals taken and not thrown yet.</summary>
    public IReadOnlyCollection<FastQException> Refusals => _refused.Values;

    /// <summary>Takes the refusal of a submission. Null: it was not refused, or that was told already.</summary>
    internal FastQException? TakeRefusal(ulong number) => _refused.Remove(number, out FastQException? refusal) ? refusal : null;

    /// <summary>Forgets refusals that were looked at.</summary>
    public void ClearRefusals() => _refused.Clear();

    /// <summary>Closes in order: gives back what is in hand, waits up to five seconds for what was sent to be taken.</summary>
    public void Dispose()
    {
        try
        {
            if (!IsClosed)
            {
                CloseOrderly();
            }
        }
        catch (FastQException)
        {
            // The broker is away: it releases what this session held when it sees the end.
        }

        Abandon();
    }

    /// <summary>Lets go of everything without a word, as the end of the process does.</summary>
    internal void Abandon()
    {
        IsClosed = true;
        if (_isAbandoned)
        {
            return;
        }

        _isAbandoned = true;
        _socket.Dispose();
        _bell.Dispose();
        _pipe.Dispose();
        lock (_callGate)
        {
            _call?.Dispose();
            _call = null;
        }

        _older.ForEach(older => older.Rings.Dispose());
        if (_outbox.Rings != _rings)
        {
            _outbox.Rings.Dispose();
        }

        _rings.Dispose();
        _slots.Dispose();
    }

    /// <summary>Room in the ring, for one message.</summary>
    public readonly ref struct Reservation
    {
        private readonly Session _session;
        private readonly Span<byte> _record;

        internal Reservation(Session session, Span<byte> record)
        {
            _session = session;
            _record = record;
        }

        /// <summary>The body, to be filled.</summary>
        public Span<byte> Body => _record[(MessageHeader.SizeBytes + MemoryMarshal.AsRef<MessageHeader>(_record).PropertyBytes)..];

        /// <summary>Sends it. Gives its number.</summary>
        public ulong Commit(ConfirmLevel level) => Commit(level, 0);

        internal ulong Commit(ConfirmLevel level, byte flags)
        {
            ref MessageHeader header = ref MemoryMarshal.AsRef<MessageHeader>(_record);
            header.Flags = (byte)((byte)level | flags);
            header.Check = RecordCheck.Of(_record[MessageHeader.SizeBytes..]);
            return _session.Commit(_record.Length, level);
        }
    }

    /// <summary>A numbered record stands at the ring's head: shows it, and rings if the broker sleeps.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private ulong Commit(int length, ConfirmLevel level)
    {
        RingWriter ring = _outbox.Ring;
        ulong start = ring.Head;
        ulong number = _nextNumber++;
        ring.Advance(length);
        _outbox.Add(start, number, level);
        ring.Publish();
        RingBroker();
        return number;
    }

    /// <summary>The broker may have gone over to the rings that it offered, and sleep by their number, before this side has read so.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void RingBroker()
    {
        if (_rings.MustRing() || (_nextRings is not null && _nextRings.MustRing()))
        {
            _bell.Signal();
        }
    }

    /// <summary>Sends a settle or an extension; length and number are set here.</summary>
    internal ulong SendSettle(SettleRecord record, ConfirmLevel level, ReadOnlySpan<byte> words = default)
    {
        int length = SettleRecord.SizeBytes + words.Length;
        EnsureRoom(length);
        record.LengthBytes = (uint)length;
        record.Number = _nextNumber;
        Span<byte> room = _outbox.Ring.Next(length);
        MemoryMarshal.Write(room, record);
        words.CopyTo(room[SettleRecord.SizeBytes..]);

        // Nobody may wait for it, yet it must survive the broker's death: it is kept until it is written.
        return Commit(length, level == ConfirmLevel.None ? ConfirmLevel.Written : level);
    }

    /// <summary>Sends an unnumbered record.</summary>
    internal void SendControl(ControlRecord record)
    {
        EnsureRoom(ControlRecord.SizeBytes);
        WriteControl(record);
        RingBroker();
    }

    private void WriteControl(ControlRecord record)
    {
        record.LengthBytes = ControlRecord.SizeBytes;
        RingWriter ring = _outbox.Ring;
        ulong start = ring.Head;
        MemoryMarshal.Write(ring.Next(ControlRecord.SizeBytes), record);
        ring.Advance(ControlRecord.SizeBytes);
        _outbox.Add(start, LastNumber, ConfirmLevel.None);
        ring.Publish();
    }

    /// <summary>Somebody waits for everything to be durable now: a command that says so (a sync follows by itself only within 100 ms).</summary>
    private void AskForDurable() => _ = SendCommand(CommandKind.Sync, default, ConfirmLevel.Durable);

    /// <summary>The rings' memory goes with the session: a look at it afterwards would end the program, not throw.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void ThrowIfClosed() => ObjectDisposedException.ThrowIf(IsClosed, this);

    private ulong Counter(ConfirmLevel level)
    {
        ThrowIfClosed();
        BrokerControl* control = _rings.Broker;
        return level switch
        {
            ConfirmLevel.None => ulong.MaxValue,
            ConfirmLevel.Accepted => Volatile.Read(ref control->Decided),
            ConfirmLevel.Written => Volatile.Read(ref control->Written),
            _ => Volatile.Read(ref control->Durable),
        };
    }

    private void EnsureRoom(int length)
    {
        if (_outbox.Room < length + ControlRecord.SizeBytes + Limits.RecordAlignment || !_outbox.HasMarkRoom || IsClosed)
        {
            MakeRoom(length, 0, 0);
        }
    }

    /// <summary>The ring is full, or too small, or something does not fit at all.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private void MakeRoom(int length, int bodyBytes, int propertyBytes)
    {
        ObjectDisposedException.ThrowIf(IsClosed, this);
        if ((uint)bodyBytes > (uint)MaxMessageBytes)
        {
            throw new FastQException(RefusalCode.TooLarge, $"The body has {bodyBytes} bytes", (ulong)MaxMessageBytes);
        }

        if (propertyBytes > Limits.MaxPropertyBytes)
        {
            throw new FastQException(RefusalCode.TooLarge, $"Properties and headers have {propertyBytes} bytes", Limits.MaxPropertyBytes);
        }

        const int FullWaitsBeforeGrowth = 8;
        long needed = length + ControlRecord.SizeBytes + Limits.RecordAlignment;
        bool FitsInRing() => needed <= _outbox.Ring.RingBytes * 3L / 4;
        if (FitsInRing() && ++_fullWaits >= FullWaitsBeforeGrowth && _outbox.Ring.RingBytes * 2L <= _options.MaxLoadRingBytes)
        {
            _fullWaits = 0;
            Grow(_outbox.Ring.RingBytes * 2);
        }

        FreeRead();
        if (FitsInRing() && _outbox.Room >= needed && _outbox.HasMarkRoom)
        {
            return;
        }

        // Once full, come back when a quarter is free, not for each record.
        Deadline forEver = new(_options.Surroundings, Timeout.InfiniteTimeSpan);
        while (!FitsInRing() || _outbox.Room < Math.Max(needed, _outbox.Ring.RingBytes / 4) || !_outbox.HasMarkRoom)
        {
            if (!FitsInRing() && _outbox.Rings == _rings)
            {
                Grow(Limits.RingBytesFor(needed)); // Again when the broker died with our asking, or had no memory left.
            }
            else
            {
                _ = WaitForNews(forEver);
            }

            FreeRead();
        }
    }

    /// <summary>Gives back the room of what the broker has read and confirmed.</summary>
    private void FreeRead()
    {
        BrokerControl* control = _rings.Broker;
        (ulong written, ulong durable) = (Volatile.Read(ref control->Written), Volatile.Read(ref control->Durable));
        _durableSeen = Math.Max(_durableSeen, durable);
        bool isCurrent = _outbox.Rings == _rings;
        _outbox.Free(isCurrent ? Volatile.Read(ref control->SubmissionPosition) : 0, written, durable);
        for (int i = _older.Count - 1; i >= 0; i--)
        {
            Outbox older = _older[i];
            older.Free(older.Rings == _rings ? Volatile.Read(ref control->SubmissionPosition) : ulong.MaxValue, written, durable);
            if (older.IsEmpty && older.Rings != _rings)
            {
                older.Rings.Dispose();
                _older.RemoveAt(i);
            }
        }
    }

    private void FlushAllSettles()
    {
        foreach (Subscription subscription in _subscriptions.Values)
        {
            subscription.FlushSettles();
        }
    }

    private void Take(Welcome welcome)
    {
        _producer = welcome.Producer;
        Epoch = welcome.Epoch;
        MaxMessageBytes = (int)Math.Min(welcome.MaxMessageBytes, Limits.MaxMessageBytes);
        ServerVersion = welcome.ServerVersion;
        _slotBytes = welcome.SlotBytes;
    }
}
