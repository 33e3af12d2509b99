using System.Runtime.CompilerServices;
using FastQ.Protocol;

namespace FastQ.Client;

// A consumer's claim on a queue, on the client's side: which deliveries are in hand, and what is to be said of them.
//
//   delivery   17 18 19 20 21 22 23        one byte each: open, settled; those at the start that are settled are dropped
//   state       o  s  s  o  o  o  -
//   slot        3        3  4  4           the journal's slot that its bytes lie in

/// <summary>A subscription of a session. For the session's thread.</summary>
public sealed class Subscription
{
    /// <summary>Longest reason of a reject, in bytes of UTF-8.</summary>
    public const int MaxReasonBytes = 512;

    private readonly Session _session;
    private byte[] _states = new byte[2048];
    private uint[] _slots = new uint[2048];
    private ulong _firstKept = 1;
    private ulong _next = 1;
    private byte[]? _decoded; // The body of the last delivery that was looked at and had to be decoded.
    private (uint Life, ulong Number) _decodedAs;
    private ulong _settleFirst;
    private uint _settleCount;
    private byte _settleFlags;
    private long _settleDelay;
    private ConfirmLevel _settleLevel;

    internal Subscription(Session session, uint queue, SubscribeOptions options)
    {
        (_session, Queue, Options) = (session, queue, options);
    }

    /// <summary>Id of its queue.</summary>
    public uint Queue { get; }

    /// <summary>As given at the subscribing.</summary>
    public SubscribeOptions Options { get; }

    /// <summary>The broker's number of it; another after a reconnect that found it gone.</summary>
    public uint Id { get; internal set; }

    /// <summary>How long a delivery is held.</summary>
    public TimeSpan Lease { get; internal set; }

    /// <summary>The broker's life: the first half of fencing tokens.</summary>
    public ulong Epoch => _session.Epoch;

    /// <summary>Deliveries handed out and not settled.</summary>
    public int InHand { get; private set; }

    /// <summary>Why the broker ended it; null while it lives.</summary>
    public FastQException? Ended { get; private set; }

    /// <summary>Deliveries whose lease had ended, or that had been settled, when this side settled them.</summary>
    public long LateSettles { get; internal set; }

    /// <summary>Runs of deliveries that came and were not begun.</summary>
    internal Queue<DeliveryRun> Waiting { get; } = new();

    /// <summary>The run that is being handed out.</summary>
    internal DeliveryRun? Current { get; set; }

    /// <summary>The next delivery that was not handed out.</summary>
    internal ulong NextDelivery => _next;

    /// <summary>Delivery numbers begin anew when the broker has forgotten the subscription: one of an earlier life is not the same delivery.</summary>
    internal uint Life { get; private set; }

    /// <summary>Tokens of deliveries whose bytes this side doubted: the copy that comes for one does not say its token again.</summary>
    internal Dictionary<ulong, ulong> Doubted { get; } = [];

    /// <summary>The credit in force: <see cref="SubscribeOptions.Credit"/> unless <see cref="SetCredit"/> changed it.</summary>
    internal uint Credit { get; private set; }

    /// <summary>Takes the next delivery if one is there. Never waits, unless it settles (<see cref="SettleMode.Automatic"/>); no system call when there is none, but for one look at the connection in a thousand.</summary>
    public bool TryReceive(out Delivery delivery) => Options.Mode == SettleMode.Manual ? TryHold(out delivery) : ReceiveSettled(TimeSpan.Zero, out delivery);

    /// <summary>As above, whoever settles.</summary>
    internal bool TryHold(out Delivery delivery) => _session.TryReceive(this, out delivery);

    /// <summary>Takes the next delivery, waiting for it at most so long.</summary>
    /// <exception cref="FastQException">The subscription has ended, or the broker was away for longer than the patience.</exception>
    public bool Receive(TimeSpan wait, out Delivery delivery) => Options.Mode == SettleMode.Manual ? _session.Receive(this, wait, out delivery) : ReceiveSettled(wait, out delivery);

    /// <summary>At most once: the next one that is gone from its queue, for good, before anybody sees it. One whose lease had ended meanwhile is somebody else's, and passed over.</summary>
    private bool ReceiveSettled(TimeSpan wait, out Delivery delivery)
    {
        while (wait == TimeSpan.Zero ? TryHold(out delivery) : _session.Receive(this, wait, out delivery))
        {
            byte[] bytes = delivery.CopyRecord(); // What is settled may be overwritten.
            long late = LateSettles;
            uint life = Life;
            _ = Settle(delivery.Number, delivery.Life, Outcome.Accept, ConfirmLevel.Written);
            _session.WaitConfirmed(FlushSettles(), ConfirmLevel.Written);
            if (LateSettles == late && Life == life)
            {
                delivery = delivery.Settled(bytes);
                return true;
            }
        }

        return false;
    }

    /// <summary>Done with it: gone for good.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Accept(in Delivery delivery, ConfirmLevel level = ConfirmLevel.None) => Settle(delivery, Outcome.Accept, level);

    /// <summary>Again, to anybody, at its place, after the queue's back-off if it has one.</summary>
    public void Release(in Delivery delivery, ConfirmLevel level = ConfirmLevel.None) => Settle(delivery, Outcome.Release, level);

    /// <summary>Again, to anybody, at its place.</summary>
    /// <param name="delivery">In hand.</param>
    /// <param name="delay">Not before so long, whatever the queue's back-off, up to <see cref="Limits.MaxDelayMilliseconds"/>; a part of a millisecond is a whole one. Zero: as the queue has it.</param>
    /// <param name="isCounted">False: the delivery is as if it had not been; its token stays spent.</param>
    /// <param name="level">What the session's counters are to reach.</param>
    /// <exception cref="FastQException">It is not in hand, or the delay is out of range.</exception>
    public void Release(in Delivery delivery, TimeSpan delay, bool isCounted = true, ConfirmLevel level = ConfirmLevel.None) =>
        _ = Settle(delivery.Number, delivery.Life, Outcome.Release, level, PublishOptions.Milliseconds(delay, "delay"), isCounted);

    /// <summary>Never again: it goes to the dead letters. Where its queue has none, it is gone.</summary>
    public void Reject(in Delivery delivery, ConfirmLevel level = ConfirmLevel.None) => Settle(delivery, Outcome.Reject, level);

    /// <summary>Never again: it goes to the dead letters with these words. Where its queue has none, it is gone. With words it is sent at once, by itself. Allocates.</summary>
    /// <param name="delivery">In hand.</param>
    /// <param name="reason">Why, in a sentence: at most <see cref="MaxReasonBytes"/>. Null or empty: nothing is said.</param>
    /// <param name="details">More, as a stack trace; it is cut so that both fit in <see cref="Limits.MaxWordsBytes"/>.</param>
    /// <param name="level">What the session's counters are to reach.</param>
    /// <exception cref="FastQException">It is not in hand, or the reason is too long.</exception>
    public void Reject(in Delivery delivery, string? reason, string? details = null, ConfirmLevel level = ConfirmLevel.None) =>
        _ = Reject(delivery.Number, delivery.Life, level, RejectWords.ToBytes(reason, details));

    /// <summary>Settles one delivery. Gathered with its neighbours; sent at the latest when the session waits or flushes.</summary>
    /// <exception cref="FastQException">It is not in hand: settled before, or lost to others while the broker was away.</exception>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Settle(in Delivery delivery, Outcome outcome, ConfirmLevel level = ConfirmLevel.None)
    {
        _ = Settle(delivery.Number, delivery.Life, outcome, level);
    }

    /// <summary>As above, by number. Gives the number of the submission that carries it, if that was sent: always with a batch of 1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal ulong Settle(ulong number, uint life, Outcome outcome, ConfirmLevel level, long delayMilliseconds = 0, bool isCounted = true)
    {
        ThrowUnlessOpen(number, life);
        Close(number);
        byte flags = (byte)(SettleRecord.FlagsOf(outcome, level) | (isCounted ? 0 : SettleRecord.Uncounted));
        bool continues = _settleCount > 0 && number == _settleFirst + _settleCount && flags == _settleFlags && delayMilliseconds == _settleDelay;
        if (!continues)
        {
            FlushSettles();
            (_settleFirst, _settleFlags, _settleDelay, _settleLevel) = (number, flags, delayMilliseconds, level);
        }

        _settleCount++;
        return _settleCount >= (uint)Options.SettleBatch ? FlushSettles() : 0;
    }

    /// <summary>As above. Nobody else's reject has the same words, so they are not gathered.</summary>
    internal ulong Reject(ulong number, uint life, ConfirmLevel level, ReadOnlySpan<byte> words)
    {
        if (words.IsEmpty)
        {
            return Settle(number, life, Outcome.Reject, level);
        }

        _ = FlushSettles();
        ThrowUnlessOpen(number, life); // Asked behind the flush: it may wait, and find that a restarted broker gave this to others.
        Close(number);
        return _session.SendSettle(new SettleRecord { Kind = RecordKind.Settle, Flags = SettleRecord.FlagsOf(Outcome.Reject, level), Subscription = Id, FirstDelivery = number, Count = 1 }, level, words);
    }

    /// <summary>The lease of a delivery begins anew with this length.</summary>
    /// <returns>The submission's number.</returns>
    public ulong Extend(in Delivery delivery, TimeSpan lease, ConfirmLevel level = ConfirmLevel.None) => Extend(delivery.Number, delivery.Life, lease, level);

    internal ulong Extend(ulong number, uint life, TimeSpan lease, ConfirmLevel level)
    {
        ThrowUnlessOpen(number, life);
        _ = FlushSettles();
        return _session.SendSettle(new SettleRecord { Kind = RecordKind.Extend, Flags = SettleRecord.FlagsOf(Outcome.Accept, level), Subscription = Id, FirstDelivery = number, Count = 1, Milliseconds = (long)lease.TotalMilliseconds }, level);
    }

    /// <summary>Sends what was gathered. Gives the submission's number; the last one when there was nothing.</summary>
    public ulong FlushSettles()
    {
        if (_settleCount == 0)
        {
            return _session.LastNumber;
        }

        SettleRecord record = new() { Kind = RecordKind.Settle, Flags = _settleFlags, Subscription = Id, FirstDelivery = _settleFirst, Count = _settleCount, Milliseconds = _settleDelay };
        _settleCount = 0;
        return _session.SendSettle(record, _settleLevel);
    }

    /// <summary>Changes the window: most deliveries unsettled at once. Zero: no more come.</summary>
    public void SetCredit(int messages)
    {
        Credit = (uint)messages;
        _session.SendControl(new ControlRecord { Kind = RecordKind.Credit, Subject = Id, Count = Credit, Value = (ulong)Options.CreditBytes });
    }

    /// <summary>Ends it in order: what is in hand and unsettled, or was not handed out, goes back to its place.</summary>
    public void Close() => _session.Close(this, NextDelivery);

    /// <summary>Is this delivery still in hand? It is not after its settling, and not when a restarted broker gave it to others.</summary>
    public bool Holds(in Delivery delivery) => IsOpen(delivery.Number, delivery.Life);

    internal void SetCreditInForce(uint credit) => Credit = credit;

    /// <summary>The body of a delivery that its sender's library encoded; kept until that of another is wanted.</summary>
    internal byte[] Decoded(in Delivery delivery, in BodyEncoding encoding, ReadOnlySpan<byte> stored)
    {
        if (_decoded is null || _decodedAs != (delivery.Life, delivery.Number))
        {
            _decoded = Lz4Body.Decode(stored, encoding, delivery.Tag);
            _decodedAs = (delivery.Life, delivery.Number);
        }

        return _decoded;
    }

    /// <summary>Its bytes may be read: it is in hand, or has bytes of its own.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void ThrowUnlessReadable(ulong number, uint life)
    {
        if (!IsOpen(number, life) && life != Delivery.SettledLife)
        {
            ThrowNotOpen(number);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void ThrowUnlessOpen(ulong number, uint life)
    {
        if (!IsOpen(number, life))
        {
            ThrowNotOpen(number);
        }
    }

    private void ThrowNotOpen(ulong number) => throw Ended ?? new FastQException(RefusalCode.AlreadySettled, $"Delivery {number} is not in hand.");

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal bool IsOpen(ulong number, uint life) => life == Life && number - _firstKept < _next - _firstKept && _states[number & (ulong)(_states.Length - 1)] == 1 && !_session.IsClosed;

    /// <summary>A delivery is handed out.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void Open(ulong number, uint slot)
    {
        if (InHand == 0 && _firstKept == _next)
        {
            _firstKept = number;
        }

        if (number < _firstKept)
        {
            KeepFrom(number);
        }
        else if (number - _firstKept >= (ulong)_states.Length)
        {
            Grow(number - _firstKept + 1);
        }

        for (ulong skipped = _next; skipped < number; skipped++)
        {
            _states[skipped & (ulong)(_states.Length - 1)] = 0; // It went elsewhere (damaged, or given back).
        }

        ulong at = number & (ulong)(_states.Length - 1);
        (_states[at], _slots[at]) = (1, slot);
        _next = Math.Max(_next, number + 1);
        InHand++;
    }

    /// <summary>A transaction has settled it.</summary>
    internal void TakeOutOfHand(ulong number, uint life)
    {
        if (IsOpen(number, life))
        {
            Close(number);
        }
    }

    /// <summary>Does something in hand lie in this slot?</summary>
    internal bool Reads(uint slot)
    {
        for (ulong number = _firstKept; number < _next; number++)
        {
            ulong at = number & (ulong)(_states.Length - 1);
            if (_states[at] == 1 && _slots[at] == slot)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>No more comes, and what is in hand is not ours any more: its bytes may be gone.</summary>
    internal void End(FastQException why)
    {
        Ended = why;
        Restart(Id, _next);
    }

    /// <summary>The broker knows this subscription no more: what was in hand is lost to others.</summary>
    internal void Restart(uint id, ulong nextDelivery)
    {
        Id = id;
        Life++;
        (_firstKept, _next, _settleCount) = (nextDelivery, nextDelivery, 0);
        InHand = 0;
        Doubted.Clear();
        Array.Clear(_states);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Close(ulong number)
    {
        _states[number & (ulong)(_states.Length - 1)] = 0;
        InHand--;
        while (_firstKept < _next && _states[_firstKept & (ulong)(_states.Length - 1)] == 0)
        {
            _firstKept++;
        }
    }

    /// <summary>The broker sends a message whose bytes this side doubted again, as a copy, under the number that it had: later ones may be done with by now.</summary>
    private void KeepFrom(ulong number)
    {
        if (_next - number > (ulong)_states.Length)
        {
            Grow(_next - number);
        }

        while (_firstKept > number)
        {
            _states[--_firstKept & (ulong)(_states.Length - 1)] = 0;
        }
    }

    private void Grow(ulong needed)
    {
        int length = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)needed * 2);
        (byte[] states, uint[] slots) = (new byte[length], new uint[length]);
        for (ulong i = _firstKept; i < _next; i++)
        {
            ulong from = i & (ulong)(_states.Length - 1), to = i & (ulong)(length - 1);
            (states[to], slots[to]) = (_states[from], _slots[from]);
        }

        (_states, _slots) = (states, slots);
    }
}
