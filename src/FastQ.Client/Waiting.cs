using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Client;

// Waiting: yields first, then sleeps on pipe and socket together, so that a sleeper sees its doorbell and the broker's death alike.

public sealed unsafe partial class Session
{
    private const int Yields = 100;
    private (ulong Head, ulong Position, ulong Decided, ulong Written, ulong Durable) _seen;

    /// <summary>Waits until ring B or a counter may have moved since the last look, and takes what came. False: the time is over and nothing has.</summary>
    /// <param name="deadline">At most so long.</param>
    /// <param name="isForCalls"><see cref="Call"/> ends the wait, too.</param>
    private bool WaitForNews(Deadline deadline, bool isForCalls = false)
    {
        ObjectDisposedException.ThrowIf(IsClosed, this);
        for (int i = 0; i < Yields; i++)
        {
            if (TakeNews() || (isForCalls && Volatile.Read(ref _isCalled)))
            {
                return true;
            }

            _options.Surroundings.Yield();
        }

        FlushAllSettles();
        if (TakeNews())
        {
            return true;
        }

        int callBell = isForCalls ? CallBell.Descriptor : -1; // It is there before anybody can know that it must be rung.
        _rings.Sleep.Announce();
        Volatile.Write(ref _sleepsForCalls, isForCalls);
        Interlocked.MemoryBarrier();
        bool news = HasNews() || (isForCalls && Volatile.Read(ref _isCalled));
        bool hungUp = false;
        if (!news && !deadline.IsOver)
        {
            (bool rung, bool spoke, bool called) = _options.Surroundings.Wait(_pipe.Descriptor, _socket.Descriptor, callBell, deadline.MillisecondsLeft);
            if (rung)
            {
                Pipe.Drain(_pipe);
            }

            if (called)
            {
                CallBell.Drain();
            }

            hungUp = spoke;
        }

        Volatile.Write(ref _sleepsForCalls, false);

        _rings.Sleep.Wake();
        if (hungUp)
        {
            LookAtSocket();
            _ = TakeNews();
            return true; // The caller looks again at all it knows.
        }

        return TakeNews() || !deadline.IsOver; // Woken for nothing (an old ring of the bell, a signal): there is still time.
    }

    private readonly Lock _callGate = new();
    private EventDescriptor? _call;
    private bool _isCalled;
    private bool _sleepsForCalls;

    private EventDescriptor CallBell => _call ??= EventDescriptor.Create().OrThrow();

    /// <summary>The session's thread waits for the broker and for calls of other threads alike.</summary>
    internal void WaitForNewsOrCall() => _ = WaitForNews(new Deadline(_options.Surroundings, Timeout.InfiniteTimeSpan), isForCalls: true);

    /// <summary>Waits for the broker alone, at most so long.</summary>
    internal void WaitForNewsWithin(TimeSpan span) => _ = WaitForNews(new Deadline(_options.Surroundings, span));

    /// <summary>A call came that was not taken yet.</summary>
    internal bool IsCalled => Volatile.Read(ref _isCalled);

    /// <summary>The session's thread has seen that it was called, and looks for what now.</summary>
    internal void TakeCall() => _ = Interlocked.Exchange(ref _isCalled, false);

    /// <summary>Ends the session thread's wait for calls, this one or the next. Any thread; after whatever it shall find.</summary>
    internal void Call()
    {
        Volatile.Write(ref _isCalled, true);
        Interlocked.MemoryBarrier(); // Pairs with the one between saying that we sleep and the last look.
        if (!Volatile.Read(ref _sleepsForCalls))
        {
            return;
        }

        lock (_callGate)
        {
            _call?.Signal(); // Under the lock: a descriptor that was closed may be somebody else's by now.
        }
    }

    private bool HasNews()
    {
        BrokerControl* control = _rings.Broker;
        return (Volatile.Read(ref control->DeliveryHead), Volatile.Read(ref control->SubmissionPosition), Volatile.Read(ref control->Decided), Volatile.Read(ref control->Written), Volatile.Read(ref control->Durable)) != _seen;
    }

    private bool TakeNews()
    {
        if (!HasNews())
        {
            return false;
        }

        BrokerControl* control = _rings.Broker;
        _seen = (Volatile.Read(ref control->DeliveryHead), Volatile.Read(ref control->SubmissionPosition), Volatile.Read(ref control->Decided), Volatile.Read(ref control->Written), Volatile.Read(ref control->Durable));
        _durableSeen = Math.Max(_durableSeen, _seen.Durable);
        Drain();
        return true;
    }

    /// <summary>Takes what the socket holds; a hang-up leads to a reconnect.</summary>
    private void LookAtSocket()
    {
        while (TryReadSocket(out bool isGone))
        {
            if (isGone)
            {
                Reconnect();
                return;
            }
        }
    }

    /// <summary>Waits for the descriptor of a slot.</summary>
    private void ReadSocketUntil(uint slot)
    {
        Deadline deadline = new(_options.Surroundings, _options.Patience);
        while (!_slots.Knows(slot))
        {
            bool isOver = deadline.IsOver; // Asked first: what lies there by now counts, without any patience, too.
            _ = _options.Surroundings.Wait(_socket.Descriptor, -1, -1, Math.Min(1000, deadline.MillisecondsLeft));
            if (!TryReadSocket(out bool isGone))
            {
                if (isOver)
                {
                    throw new FastQException(RefusalCode.TimedOut, $"The descriptor of slot {slot} did not come");
                }
            }
            else if (isGone)
            {
                // The run that names this slot is the old life's: its messages are delivered again or still ours after the reconnect.
                throw new FastQException(RefusalCode.Disconnected, $"The broker went away before slot {slot} came");
            }
        }
    }

    /// <summary>Reads one message. False: none is there.</summary>
    private bool TryReadSocket(out bool isGone)
    {
        isGone = false;
        Span<byte> message = stackalloc byte[Limits.MaxHandshakeBytes];
        Span<int> descriptors = stackalloc int[Limits.MaxSlotsPerMessage];
        Result<Received> received = _socket.Receive(message, descriptors);
        if (!received.Ok && received.Fault.Errno == Errno.ECONNRESET)
        {
            received = _socket.Receive(message, descriptors); // The peer closed with something of ours unread; what it said before that still waits behind this error.
        }

        if (!received.Ok && received.Fault.Errno == Errno.EAGAIN)
        {
            return false;
        }

        if (!received.Ok || received.Value.Bytes == 0)
        {
            isGone = true;
            return true;
        }

        ReadOnlySpan<int> came = descriptors[..received.Value.Descriptors];
        if (!Handshake.TryRead(message[..received.Value.Bytes], out HandshakeKind kind, out ReadOnlySpan<byte> fields))
        {
            Connector.CloseAll(came);
            return true;
        }

        switch (kind)
        {
            case HandshakeKind.Slots:
                TakeSlots(fields, came);
                break;
            case HandshakeKind.Rings:
                TakeRings(fields, came);
                break;
            case HandshakeKind.Ended:
                Connector.CloseAll(came);
                LastWord = Connector.RefusedWith(fields);
                break; // The hang-up follows.
            default:
                Connector.CloseAll(came);
                break;
        }

        return true;
    }

    /// <summary>What the broker said when it last ended this session; null if it never did.</summary>
    public FastQException? LastWord { get; private set; }

    private void TakeSlots(ReadOnlySpan<byte> fields, ReadOnlySpan<int> descriptors)
    {
        int next = 0;
        FieldReader reader = new(fields);
        while (reader.Next() && next < descriptors.Length)
        {
            if (reader.Tag == FieldTag.Slot)
            {
                _slots.Add((uint)reader.Number, descriptors[next++], _slotBytes).OrThrow();
            }
        }

        Connector.CloseAll(descriptors[next..]);
        if (_outbox.Room >= 2 * ControlRecord.SizeBytes && _outbox.HasMarkRoom)
        {
            WriteControl(new ControlRecord { Kind = RecordKind.SlotsMapped, Subject = 1 });
            RingBroker();
        }
        else
        {
            _slotsToAcknowledge++; // Told with the next room: until then the broker sends copies.
        }
    }

    private uint _slotsToAcknowledge;

    // ---- larger rings

    /// <summary>Asks for a larger pair and waits until it is there; what is under way stays in order.</summary>
    private void Grow(int submissionBytes)
    {
        if (submissionBytes == 0 || _isGrowing || _outbox.Rings != _rings)
        {
            return;
        }

        FreeRead();
        Deadline deadline = new(_options.Surroundings, _options.Patience);
        while ((_outbox.Room < 2 * ControlRecord.SizeBytes || !_outbox.HasMarkRoom) && WaitForNews(deadline))
        {
            FreeRead();
        }

        _isGrowing = true;
        RingWriter before = _outbox.Ring;
        WriteControl(new ControlRecord { Kind = RecordKind.GrowRings, Subject = (uint)submissionBytes, Count = (uint)Math.Max(_rings.Deliveries.RingBytes, Math.Min(submissionBytes, _options.MaxLoadRingBytes)) });
        RingBroker();

        // Only a message that does not fit must wait; growth by load comes when it comes, or not at all when the broker's budget is spent.
        Deadline patience = new(_options.Surroundings, TimeSpan.FromSeconds(2));
        while (_isGrowing && _outbox.Ring == before && !patience.IsOver)
        {
            _ = _options.Surroundings.Wait(_socket.Descriptor, -1, -1, Math.Max(1, patience.MillisecondsLeft));
            LookAtSocket();
        }

        _isGrowing = false;
    }

    private void TakeRings(ReadOnlySpan<byte> fields, ReadOnlySpan<int> descriptors)
    {
        ulong submission = Connector.Number(fields, FieldTag.SubmissionRingBytes);
        ulong delivery = Connector.Number(fields, FieldTag.DeliveryRingBytes);
        if (descriptors.Length != 2 || !Connector.IsRing(submission) || !Connector.IsRing(delivery) || _nextRings is not null)
        {
            Connector.CloseAll(descriptors);
            return;
        }

        _nextRings = ClientRings.Map((uint)Connector.Number(fields, FieldTag.Ring), (int)submission, (int)delivery, descriptors[0], descriptors[1]).OrThrow();
        _nextRings.IsFencedByBroker = _rings.IsFencedByBroker;
        Span<byte> mapped = stackalloc byte[Handshake.HeaderBytes];
        Handshake.WriteHeader(mapped, HandshakeKind.Mapped);
        _ = _socket.Send(mapped);

        // The last record of the old ring: there is always room for it, as every reservation leaves it.
        WriteControl(new ControlRecord { Kind = RecordKind.ClientMovesRing, Subject = _nextRings.Number });
        RingBroker();
        _older.Add(_outbox);
        _outbox = new Outbox(_nextRings);
        _isGrowing = false;
    }

    /// <summary>The broker has moved, too: the old ring B was read to its end.</summary>
    private void MoveDeliveries()
    {
        TakeAllOut();
        PublishPosition();
        ClientRings old = _rings;
        _rings = _nextRings!;
        _nextRings = null;
        _publishedPosition = 0;
        _seen = default;
        if (!_older.Exists(older => older.Rings == old))
        {
            old.Dispose();
        }

        RingBroker(); // What was written into the new ring while it went there: it may have lain down without a look at it.
    }
}
