using System.Buffers;
using System.Runtime.InteropServices;
using FastQ.Protocol;

namespace FastQ.Client;

// A transaction is gathered here, and goes to the broker as one record when it is committed. Until then nobody knows of it: to roll it back
// is to forget it.

/// <summary>Messages and settlements that take effect together, or not at all, on a <see cref="Session"/>. For the session's thread. What it was to settle stays in hand until it is committed.</summary>
public sealed class SessionTransaction : IDisposable
{
    private const int LeastBytes = 4096;
    private readonly Session _session;
    private readonly TimeSpan _within;
    private readonly Deadline _deadline;
    private readonly List<(Subscription Subscription, ulong Number, uint Life)> _settled = [];
    private readonly HashSet<(Subscription, ulong)> _named = [];
    private byte[] _records = [];
    private int _bytes;
    private int _count;
    private int _lastSettle = -1; // Where the record begins that neighbours of its deliveries may join.

    internal SessionTransaction(Session session, TimeSpan within, Deadline deadline) => (_session, _within, _deadline) = (session, within, deadline);

    /// <summary>How many records it has; settlements of one kind of consecutive deliveries are one.</summary>
    public int Count => _count;

    /// <summary>Committed, refused, rolled back or too late: no more can be done with it.</summary>
    public bool IsOver { get; private set; }

    internal int LengthBytes => TransactionHeader.SizeBytes + _bytes;

    /// <summary>Adds a message; it is copied, and compressed where its queue says so and it gets smaller by it.</summary>
    /// <exception cref="FastQException">It, or the transaction with it, is too large (<see cref="Limits.MaxTransactionBytes"/>, <see cref="Limits.MaxTransactionOperations"/>, or less where the broker takes less): it is as it was without it.</exception>
    public void Publish(in QueueHandle queue, ReadOnlySpan<byte> body, ReadOnlySpan<byte> properties = default)
    {
        int roomBytes = queue.Lz4FromBytes != 0 && body.Length >= queue.Lz4FromBytes ? Lz4Body.RoomFor(body, properties) : 0;
        if (roomBytes == 0)
        {
            Add(queue, body, properties);
            return;
        }

        byte[] room = ArrayPool<byte>.Shared.Rent(roomBytes);
        try
        {
            bool isEncoded = Lz4Body.TryEncode(body, properties, room, out int propertyBytes, out int bodyBytes);
            Add(queue, isEncoded ? room.AsSpan(propertyBytes, bodyBytes) : body, isEncoded ? room.AsSpan(0, propertyBytes) : properties);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(room);
        }
    }

    /// <summary>Adds a message to an exchange: to every queue that it leads to when the transaction is committed. It is copied, and not compressed.</summary>
    /// <param name="exchange">Where it goes.</param>
    /// <param name="body">Copied.</param>
    /// <param name="properties">With <see cref="PropertyTag.RoutingKey"/>: see <see cref="PublishOptions.RoutingKey"/>.</param>
    /// <param name="isMandatory">Where it reaches no queue, the whole is refused (<see cref="RefusalCode.Unroutable"/>); else this message alone is gone.</param>
    /// <exception cref="FastQException">As for a queue.</exception>
    public void Publish(in ExchangeHandle exchange, ReadOnlySpan<byte> body, ReadOnlySpan<byte> properties = default, bool isMandatory = true) =>
        Add(new QueueHandle(exchange.Id, exchange.Name), body, properties, isMandatory ? (byte)0 : MessageHeader.Optional);

    /// <summary>Adds that a delivery is done with.</summary>
    /// <exception cref="FastQException">It is not in hand, or the transaction settles it already. So with the others.</exception>
    public void Accept(in Delivery delivery) => Settle(delivery.Subscription, delivery.Number, delivery.Life, Outcome.Accept);

    /// <summary>Adds that a delivery goes back to its place; see <see cref="Subscription.Release(in Delivery, TimeSpan, bool, ConfirmLevel)"/>.</summary>
    public void Release(in Delivery delivery, TimeSpan delay = default, bool isCounted = true) =>
        Settle(delivery.Subscription, delivery.Number, delivery.Life, Outcome.Release, PublishOptions.Milliseconds(delay, "delay"), isCounted);

    /// <summary>Adds that a delivery goes to the dead letters; see <see cref="Subscription.Reject(in Delivery, string?, string?, ConfirmLevel)"/>.</summary>
    public void Reject(in Delivery delivery, string? reason = null, string? details = null) =>
        Settle(delivery.Subscription, delivery.Number, delivery.Life, Outcome.Reject, words: RejectWords.ToBytes(reason, details));

    /// <summary>Sends it, and does not wait. What it was to settle is out of hand at once: were it refused, that would come again when its lease has ended.</summary>
    /// <param name="level">What the session's counters are to reach.</param>
    /// <returns>The number whose confirm, or refusal, is that of the whole: see <see cref="Session.WaitConfirmed"/> and <see cref="Session.Flush"/>.</returns>
    /// <exception cref="FastQException">It was begun too long ago, and is rolled back.</exception>
    public ulong Send(ConfirmLevel level = ConfirmLevel.Durable)
    {
        ulong number = Submit(level);
        TakeOutOfHand();
        return number;
    }

    /// <summary>Sends it, and waits until it is confirmed. An empty one is committed at once.</summary>
    /// <param name="level">What to wait for; <see cref="ConfirmLevel.None"/> counts as <see cref="ConfirmLevel.Accepted"/>.</param>
    /// <exception cref="FastQException">
    /// One of its operations was refused, which is named: nothing of it has happened, and what it was to settle is still in hand. <see cref="RefusalCode.LeaseLost"/>: somebody else works on a message that it was to settle.
    /// <see cref="RefusalCode.TimedOut"/>: it was begun too long ago, and is rolled back. When the broker was away for longer than the patience, nobody knows.
    /// </exception>
    public void Commit(ConfirmLevel level = ConfirmLevel.Durable)
    {
        level = level == ConfirmLevel.None ? ConfirmLevel.Accepted : level;
        _session.WaitConfirmed(Submit(level), level);
        TakeOutOfHand();
    }

    /// <summary>Forgets it, if it was not committed.</summary>
    public void Dispose()
    {
        IsOver = true;
        LetGo();
    }

    internal void Settle(Subscription subscription, ulong number, uint life, Outcome outcome, long milliseconds = 0, bool isCounted = true, ReadOnlySpan<byte> words = default)
    {
        ThrowIfOver();
        subscription.ThrowUnlessOpen(number, life);
        if (!_named.Add((subscription, number)))
        {
            throw new FastQException(RefusalCode.AlreadySettled, $"The transaction settles delivery {number} twice");
        }

        byte flags = (byte)(SettleRecord.FlagsOf(outcome, ConfirmLevel.None) | (isCounted ? 0 : SettleRecord.Uncounted));
        if (words.IsEmpty && _lastSettle >= 0 && TryJoin(subscription.Id, number, flags, milliseconds))
        {
            _settled.Add((subscription, number, life));
            return;
        }

        int at = _bytes;
        int length = SettleRecord.SizeBytes + words.Length;
        Span<byte> room = Next(length);
        MemoryMarshal.Write(room, new SettleRecord { LengthBytes = (uint)length, Kind = RecordKind.Settle, Flags = flags, Subscription = subscription.Id, FirstDelivery = number, Count = 1, Milliseconds = milliseconds });
        words.CopyTo(room[SettleRecord.SizeBytes..]);
        _lastSettle = words.IsEmpty ? at : -1;
        _settled.Add((subscription, number, life));
    }

    /// <summary>Hands it to the broker. Gives the number whose confirm is that of the whole.</summary>
    internal ulong Submit(ConfirmLevel level)
    {
        ThrowIfOver();
        IsOver = true;
        ulong number = _count == 0 ? _session.LastNumber : _session.SendTransaction(this, level);
        LetGo();
        return number;
    }

    /// <summary>The broker has taken it: what it settled is not in hand any more.</summary>
    internal void TakeOutOfHand()
    {
        foreach ((Subscription subscription, ulong number, uint life) in _settled)
        {
            subscription.TakeOutOfHand(number, life);
        }
    }

    /// <summary>Asked just before it is written: the session may have waited, and found that a restarted broker gave something to others.</summary>
    internal void ThrowUnlessInHand()
    {
        foreach ((Subscription subscription, ulong number, uint life) in _settled)
        {
            subscription.ThrowUnlessOpen(number, life);
        }
    }

    /// <summary>Writes the record, <see cref="LengthBytes"/> long.</summary>
    internal void Write(Span<byte> room, ulong number, ConfirmLevel level)
    {
        Span<byte> records = _records.AsSpan(0, _bytes);
        TransactionReader reader = new(records);
        for (ulong next = number; reader.Next(); next++)
        {
            MemoryMarshal.Write(reader.Record[8..], next);
        }

        MemoryMarshal.Write(room, new TransactionHeader { LengthBytes = (uint)LengthBytes, Kind = RecordKind.Transaction, Flags = (byte)level, Number = number, Count = (uint)_count });
        records.CopyTo(room[TransactionHeader.SizeBytes..]);
    }

    private void Add(in QueueHandle queue, ReadOnlySpan<byte> body, ReadOnlySpan<byte> properties, byte flags = 0)
    {
        ThrowIfOver();
        if (body.Length > _session.MaxMessageBytes)
        {
            throw new FastQException(RefusalCode.TooLarge, $"The body has {body.Length} bytes", (ulong)_session.MaxMessageBytes);
        }

        if (properties.Length > Limits.MaxPropertyBytes)
        {
            throw new FastQException(RefusalCode.TooLarge, $"Properties and headers have {properties.Length} bytes", Limits.MaxPropertyBytes);
        }

        int length = MessageHeader.SizeBytes + properties.Length + body.Length;
        Span<byte> room = Next(length);
        MemoryMarshal.Write(room, new MessageHeader { LengthBytes = (uint)length, Kind = RecordKind.Message, Flags = flags, PropertyBytes = (ushort)properties.Length, Queue = queue.Id });
        properties.CopyTo(room[MessageHeader.SizeBytes..]);
        body.CopyTo(room[(MessageHeader.SizeBytes + properties.Length)..]);
        MemoryMarshal.AsRef<MessageHeader>(room).Check = RecordCheck.Of(room[MessageHeader.SizeBytes..]);
        _lastSettle = -1;
    }

    /// <summary>The delivery behind those that the last record settles is settled in the same way: it counts on.</summary>
    private bool TryJoin(uint subscription, ulong number, byte flags, long milliseconds)
    {
        ref SettleRecord last = ref MemoryMarshal.AsRef<SettleRecord>(_records.AsSpan(_lastSettle));
        bool joins = last.Subscription == subscription && last.Flags == flags && last.Milliseconds == milliseconds && last.FirstDelivery + last.Count == number && last.Count < Limits.MaxSettleRange;
        last.Count += joins ? 1u : 0u;
        return joins;
    }

    private Span<byte> Next(int length)
    {
        if (_count == Limits.MaxTransactionOperations)
        {
            throw new FastQException(RefusalCode.LimitReached, "Operations of a transaction", Limits.MaxTransactionOperations);
        }

        int aligned = Limits.Align(length);
        if (_bytes + (long)aligned > _session.MaxTransactionBytes)
        {
            throw new FastQException(RefusalCode.TooLarge, $"The transaction has {_bytes + (long)aligned} bytes", (ulong)_session.MaxTransactionBytes);
        }

        if (_bytes + aligned > _records.Length)
        {
            byte[] larger = ArrayPool<byte>.Shared.Rent(Math.Max(LeastBytes, Math.Max(2 * _records.Length, _bytes + aligned)));
            _records.AsSpan(0, _bytes).CopyTo(larger);
            ArrayPool<byte>.Shared.Return(_records);
            _records = larger;
        }

        Span<byte> room = _records.AsSpan(_bytes, length);
        _records.AsSpan(_bytes + length, aligned - length).Clear(); // The padding.
        _bytes += aligned;
        _count++;
        return room;
    }

    private void LetGo()
    {
        ArrayPool<byte>.Shared.Return(_records);
        _records = [];
    }

    private void ThrowIfOver()
    {
        if (IsOver)
        {
            throw new FastQException(RefusalCode.Closed, "The transaction is over");
        }

        if (_deadline.IsOver)
        {
            IsOver = true;
            throw new FastQException(RefusalCode.TimedOut, $"The transaction was not committed within {_within.TotalSeconds:0.###} s, and is rolled back");
        }
    }
}

public sealed unsafe partial class Session
{
    /// <summary>A transaction is to be committed within this when nobody says otherwise.</summary>
    public static readonly TimeSpan DefaultTransactionTime = TimeSpan.FromSeconds(30);

    /// <summary>Bytes of the records of one transaction together.</summary>
    internal int MaxTransactionBytes => Math.Min(MaxMessageBytes, Limits.MaxTransactionBytes);

    /// <summary>Begins a transaction: messages and settlements that take effect together, when it is committed, or not at all. The session may do other things meanwhile.</summary>
    /// <param name="within">It is rolled back when it is not committed within this time. Null: <see cref="DefaultTransactionTime"/>.</param>
    public SessionTransaction BeginTransaction(TimeSpan? within = null)
    {
        TimeSpan time = within ?? DefaultTransactionTime;
        return new SessionTransaction(this, time, new Deadline(_options.Surroundings, time));
    }

    /// <summary>Sends all its records as one. Gives the number of the last.</summary>
    internal ulong SendTransaction(SessionTransaction transaction, ConfirmLevel level)
    {
        FlushAllSettles();
        EnsureRoom(transaction.LengthBytes);
        transaction.ThrowUnlessInHand();
        transaction.Write(_outbox.Ring.Next(transaction.LengthBytes), _nextNumber, level);
        RingWriter ring = _outbox.Ring;
        ulong start = ring.Head;
        _nextNumber += (ulong)transaction.Count;
        ring.Advance(transaction.LengthBytes);
        _outbox.Add(start, LastNumber, level);
        ring.Publish();
        RingBroker();
        return LastNumber;
    }

    /// <summary>All numbers of a transaction were refused, for one of its records: one refusal, of the last number.</summary>
    private void TakeTransactionRefused(in NoticeRecord notice, string text)
    {
        ulong last = notice.Number + notice.Count - 1;
        if (last <= _refusalsTaken)
        {
            return;
        }

        FastQException refusal = new(notice.Code, $"Operation {notice.Subject} of the transaction: nothing of it has happened. {text}", notice.Value, last);
        _refused[last] = refusal;
        Refused?.Invoke(refusal);
        _refusalsTaken = last;
    }
}
