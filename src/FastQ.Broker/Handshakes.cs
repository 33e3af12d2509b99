using System.Buffers.Binary;
using FastQ.Engine;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Broker;

// Connections on their way to a session: Hello -> its producer is written -> Welcome with four descriptors -> Mapped. Five seconds, 64 at once.

/// <summary>A connection that has not finished its handshake.</summary>
internal sealed class Handshaking(ulong id, UnixSocket socket, PeerCredentials peer) : IDisposable
{
    public ulong Id => id;

    public UnixSocket Socket => socket;

    public PeerCredentials Peer => peer;

    /// <summary>When the client must have said its next word; it does not run while the client waits for us.</summary>
    public required long DeadlineMicros { get; set; }

    /// <summary>What it asked for, while the producer's record is being written: a kill of the broker must not make it forget whom it has welcomed.</summary>
    public HelloFields? Hello { get; set; }

    /// <summary>Its producer; 0 before the Hello.</summary>
    public ulong Producer { get; set; }

    /// <summary>The block that the producer's record is in, or an earlier one that was open then.</summary>
    public ulong Block { get; set; }

    /// <summary>Made at the Welcome; established at Mapped.</summary>
    public Session? Session { get; set; }

    public void Dispose()
    {
        if (Session is Session session)
        {
            session.Dispose();
        }
        else
        {
            socket.Dispose();
        }
    }
}

/// <summary>What a client says first. Fields that are missing are zero or empty.</summary>
internal sealed record HelloFields(ulong MinVersion, ulong MaxVersion, string ClientName, ulong InstanceLow, ulong InstanceHigh, string Namespace, ulong Producer, ulong ClaimedDurable, ulong SubmissionRingBytes, ulong DeliveryRingBytes, bool WantsCopies)
{
    public static HelloFields From(ReadOnlySpan<byte> fields)
    {
        HelloFields hello = new(0, 0, "", 0, 0, "", 0, 0, 0, 0, false);
        FieldReader reader = new(fields);
        while (reader.Next())
        {
            hello = reader.Tag switch
            {
                FieldTag.MinVersion => hello with { MinVersion = reader.Number },
                FieldTag.MaxVersion => hello with { MaxVersion = reader.Number },
                FieldTag.ClientName => hello with { ClientName = reader.Text },
                FieldTag.Instance when reader.Value.Length == 16 => hello with { InstanceLow = BinaryPrimitives.ReadUInt64LittleEndian(reader.Value), InstanceHigh = BinaryPrimitives.ReadUInt64LittleEndian(reader.Value[8..]) },
                FieldTag.Namespace => hello with { Namespace = reader.Text },
                FieldTag.Producer => hello with { Producer = reader.Number },
                FieldTag.ClaimedDurable => hello with { ClaimedDurable = reader.Number },
                FieldTag.SubmissionRingBytes => hello with { SubmissionRingBytes = reader.Number },
                FieldTag.DeliveryRingBytes => hello with { DeliveryRingBytes = reader.Number },
                FieldTag.WantsCopies => hello with { WantsCopies = reader.Number != 0 },
                _ => hello,
            };
        }

        return hello;
    }
}

public sealed partial class Broker
{
    private readonly Dictionary<ulong, Handshaking> _handshakes = [];
    private readonly Dictionary<ulong, Session> _byProducer = [];
    private readonly List<Handshaking> _welcoming = [];
    private long _acceptAgainMicros; // 0: whoever connects wakes us.

    private void AcceptAll()
    {
        const int MostAtOnce = 64;
        for (int i = 0; i < MostAtOnce; i++)
        {
            if (_handshakes.Count >= _options.MaxHandshakes && OldestOfCrowd() is null)
            {
                PauseAccepting(); // All of them have just come, as after a restart: they go on soon.
                return;
            }

            Result<UnixSocket> accepted = _listener.Socket.Accept();
            if (!accepted.Ok)
            {
                if (accepted.Fault.Errno is not (Errno.EAGAIN or Errno.ECONNABORTED))
                {
                    PauseAccepting();
                }

                return;
            }

            UnixSocket socket = accepted.Value;
            Result<PeerCredentials> peer = socket.Peer();
            if (!peer.Ok || _sessions.Count >= _options.MaxSessions)
            {
                Tell(socket, HandshakeKind.Refused, RefusalCode.LimitReached, $"Limit reached: at most {_options.MaxSessions} sessions.");
                socket.Dispose();
                continue;
            }

            MakeRoomForHandshake();
            ulong id = _nextId++;
            Handshaking handshake = new(id, socket, peer.Value) { DeadlineMicros = HandshakeDeadline() };
            if (_epoll.Add(socket.Descriptor, EpollInterest.In | EpollInterest.PeerHangup, TokenOf(id, EventKind.Handshake)).Ok)
            {
                _handshakes.Add(id, handshake);
                OnHandshake(id); // Who has spoken already is heard before a crowd of silent ones can push it out.
            }
            else
            {
                handshake.Dispose();
            }
        }
    }

    /// <summary>No descriptor is left (EMFILE and the like), or no handshake more may be open. Those who wait in the backlog would wake us without rest until that has changed: we look again by the clock.</summary>
    private void PauseAccepting()
    {
        const long PauseMicros = 20_000;
        if (_acceptAgainMicros == 0)
        {
            _ = _epoll.Remove(_listener.Socket.Descriptor);
        }

        _acceptAgainMicros = _clock.ReadInterval() + PauseMicros;
    }

    private void AcceptAgain()
    {
        if (_acceptAgainMicros == 0 || _clock.ReadInterval() < _acceptAgainMicros)
        {
            return;
        }

        if (_epoll.Add(_listener.Socket.Descriptor, EpollInterest.In, TokenOf(0, EventKind.Listener)).Ok)
        {
            _acceptAgainMicros = 0;
        }
        else
        {
            PauseAccepting();
        }
    }

    /// <summary>Where too many are open, one of the process that has most of them goes: a crowd that goes no further keeps nobody else out.</summary>
    private void MakeRoomForHandshake()
    {
        if (_handshakes.Count >= _options.MaxHandshakes && OldestOfCrowd() is Handshaking oldest)
        {
            Drop(oldest, RefusalCode.LimitReached, $"Limit reached: at most {_options.MaxHandshakes} open handshakes, and this process has most of them.");
        }
    }

    /// <summary>Of the process that has most handshakes open, the oldest that has had time to say its next word; null: none has.</summary>
    private Handshaking? OldestOfCrowd()
    {
        const long TimeToAnswerMicros = 100_000;
        long since = HandshakeDeadline() - TimeToAnswerMicros;
        return _handshakes.Values.GroupBy(handshake => handshake.Peer.ProcessId).MaxBy(process => process.Count())?.Where(handshake => handshake.DeadlineMicros <= since).MinBy(handshake => handshake.Id);
    }

    private void OnHandshake(ulong id)
    {
        if (!_handshakes.TryGetValue(id, out Handshaking? handshake))
        {
            return;
        }

        Span<byte> message = stackalloc byte[Limits.MaxHandshakeBytes];
        Result<int> received = handshake.Socket.Receive(message);
        if (!received.Ok && received.Fault.Errno == Errno.EAGAIN)
        {
            return;
        }

        if (!received.Ok || received.Value == 0 || !Handshake.TryRead(message[..received.Value], out HandshakeKind kind, out ReadOnlySpan<byte> fields))
        {
            bool hasSpoken = received.Ok ? received.Value > 0 : received.Fault.Errno == Errno.EMSGSIZE;
            Drop(handshake, hasSpoken ? RefusalCode.BadArgument : RefusalCode.None, $"This is not FastQ's handshake: a message of at most {Limits.MaxHandshakeBytes} bytes that begins with its magic.");
            return;
        }

        switch (kind)
        {
            case HandshakeKind.Hello when handshake.Producer == 0:
                OnHello(handshake, fields);
                break;
            case HandshakeKind.Mapped when handshake.Session is not null:
                OnMapped(handshake, handshake.Session);
                break;
            default:
                Drop(handshake, RefusalCode.BadArgument, "A message of the handshake came out of turn.");
                break;
        }
    }

    private void OnHello(Handshaking handshake, ReadOnlySpan<byte> fields)
    {
        HelloFields hello = HelloFields.From(fields);
        if (hello.MinVersion > ProtocolVersion.Major || hello.MaxVersion < ProtocolVersion.Major)
        {
            Drop(handshake, RefusalCode.VersionMismatch, $"The client speaks versions {hello.MinVersion} to {hello.MaxVersion}, this broker {ProtocolVersion.Major}.");
            return;
        }

        if (hello.Namespace is not ("" or "default"))
        {
            Drop(handshake, RefusalCode.UnknownNamespace, $"There is no namespace '{hello.Namespace}' here.");
            return;
        }

        int submissionBytes = RingBytes(hello.SubmissionRingBytes);
        int deliveryBytes = RingBytes(hello.DeliveryRingBytes);
        if (submissionBytes == 0 || deliveryBytes == 0)
        {
            Drop(handshake, RefusalCode.BadArgument, $"Ring sizes are powers of two from {Limits.MinRingBytes} to {Limits.MaxRingBytes} bytes.");
            return;
        }

        if (_ringBytes + submissionBytes + deliveryBytes > _options.MaxRingBytes)
        {
            Drop(handshake, RefusalCode.LimitReached, $"Limit reached: {_options.MaxRingBytes} bytes of shared memory for all sessions.");
            return;
        }

        EndOlderOf(hello);
        if (!_journal.TryReserve(SourceRecord.SizeBytes + FactRecord.SizeBytes, out Span<byte> room, out _))
        {
            Drop(handshake, RefusalCode.LimitReached, "The journal has no room at the moment; try again.");
            return;
        }

        int source = BeginSource(0, room);
        Decision opened = _engine.OpenProducer(hello.Producer, hello.InstanceLow, hello.InstanceHigh, room[source..], _journal.OpenBlock, out int written, out ulong producer);
        Commit(source + written, (source > 0 ? 1u : 0u) + (written > 0 ? 1u : 0u));
        if (!opened.IsTaken)
        {
            Drop(handshake, opened.Code, Refusal.Of(opened.Code).Cause);
            return;
        }

        (handshake.Hello, handshake.Producer, handshake.Block, handshake.DeadlineMicros) = (hello, producer, _journal.LastBlock, long.MaxValue);
        _welcoming.Add(handshake);
    }

    private long HandshakeDeadline() => _clock.ReadInterval() + Limits.HandshakeMilliseconds * 1000L;

    /// <summary>Welcomes those whose producers are written.</summary>
    private void WelcomeWritten()
    {
        foreach (Handshaking handshake in _welcoming.Where(handshake => handshake.Block <= _journal.WrittenBlock).ToArray())
        {
            _welcoming.Remove(handshake);
            handshake.DeadlineMicros = HandshakeDeadline();
            HelloFields hello = handshake.Hello!;
            Welcome(handshake, hello, handshake.Producer, RingBytes(hello.SubmissionRingBytes), RingBytes(hello.DeliveryRingBytes));
        }
    }

    /// <summary>The same client came back before the end of its older connection was seen: one session has a producer, never two.</summary>
    private void EndOlderOf(HelloFields hello)
    {
        ulong producer = hello.Producer;
        ProducerView known = _engine.ViewProducer(producer);
        if (!known.IsKnown || (known.InstanceLow, known.InstanceHigh) != (hello.InstanceLow, hello.InstanceHigh))
        {
            return; // OpenProducer refuses it.
        }

        if (_byProducer.TryGetValue(producer, out Session? older))
        {
            HangUp(older);
            End(older, RefusalCode.Disconnected, "", tell: false); // What had to wait for room is sent again: its client is back.
        }

        foreach (Handshaking other in _handshakes.Values.Where(other => other.Producer == producer).ToArray())
        {
            Drop(other, RefusalCode.Fenced, "A newer connection uses this producer.");
        }
    }

    private void Welcome(Handshaking handshake, HelloFields hello, ulong producer, int submissionBytes, int deliveryBytes)
    {
        Result<RingPair> rings = RingPair.Create(0, submissionBytes, deliveryBytes);
        Result<EventDescriptor> bell = EventDescriptor.Create();
        Result<(FileHandle Read, FileHandle Write)> pipe = Pipe.Create();
        if (!rings.Ok || !bell.Ok || !pipe.Ok)
        {
            Fault fault = !rings.Ok ? rings.Fault : !bell.Ok ? bell.Fault : pipe.Fault;
            DisposeIfOk(rings);
            DisposeIfOk(bell);
            if (pipe.Ok)
            {
                pipe.Value.Read.Dispose();
                pipe.Value.Write.Dispose();
            }

            Drop(handshake, RefusalCode.LimitReached, $"The broker could not make the session's memory: {fault}.");
            return;
        }

        // Where the kernel tells of a process's end: it comes even when a forked child keeps the socket open (DESIGN-REVIEW R35).
        Result<FileHandle> process = handshake.Socket.PeerProcess();
        bool wantsCopies = hello.WantsCopies || _options.AllowNetworkFileSystem;
        Session session = new(handshake.Id, handshake.Socket, rings.Value, bell.Value, pipe.Value.Write, process.Ok ? process.Value : null, handshake.Peer, hello.ClientName, producer, wantsCopies);
        handshake.Session = session;
        _ringBytes += session.Rings.Bytes;
        ProducerView view = _engine.ViewProducer(producer);
        session.Decided = view.LastNumber;

        Span<byte> message = stackalloc byte[Limits.MaxHandshakeBytes];
        Handshake.WriteHeader(message, HandshakeKind.Welcome);
        FieldWriter fields = new(message[Handshake.HeaderBytes..]);
        fields.Number(FieldTag.Producer, producer);
        fields.Number(FieldTag.ProducerEpoch, view.Epoch);
        fields.Number(FieldTag.Epoch, _journal.Epoch);
        fields.Number(FieldTag.NextNumber, view.LastNumber + 1);
        fields.Number(FieldTag.Durable, _journal.DurableBlock == _journal.LastBlock ? view.LastNumber : 0);
        fields.Number(FieldTag.SubmissionRingBytes, (ulong)submissionBytes);
        fields.Number(FieldTag.DeliveryRingBytes, (ulong)deliveryBytes);
        fields.Number(FieldTag.MaxMessageBytes, (ulong)_options.MaxMessageBytes);
        fields.Number(FieldTag.SlotBytes, wantsCopies ? 0 : (ulong)_journal.SlotBytes);
        fields.Number(FieldTag.FencesAll, _fencesAll ? 1u : 0u);
        fields.Text(FieldTag.ServerVersion, _options.ServerVersion);
        Invariant.Holds(!fields.Overflowed);
        int[] descriptors = [session.Rings.DescriptorA, session.Rings.DescriptorB, session.Bell.Descriptor, pipe.Value.Read.Descriptor];
        Result sent = handshake.Socket.Send(message[..(Handshake.HeaderBytes + fields.Length)], descriptors);
        pipe.Value.Read.Dispose();
        if (!sent.Ok)
        {
            Drop(handshake, RefusalCode.None, "");
        }

        if (hello.ClaimedDurable > view.LastNumber)
        {
            DataLost?.Invoke($"Client '{hello.ClientName}' (process {handshake.Peer.ProcessId}) holds a durable confirm for submission {hello.ClaimedDurable} of producer {producer}, the journal knows {view.LastNumber}: confirmed data was lost, or an older copy of the directory was restored.");
        }
    }

    /// <summary>Told when a client proves that confirmed data is gone (DESIGN-REVIEW R39). On the broker's thread.</summary>
    public Action<string>? DataLost { get; set; }

    private void OnMapped(Handshaking handshake, Session session)
    {
        Result<bool> accepted = session.Rings.Accept();
        if (!accepted.Ok || !accepted.Value)
        {
            Drop(handshake, RefusalCode.RingViolation, "The control page of the submission memory does not have its magic, version and ring size.");
            return;
        }

        ulong id = session.Id;
        Result socket = _epoll.Change(session.Socket.Descriptor, EpollInterest.In | EpollInterest.PeerHangup, TokenOf(id, EventKind.Socket));
        Result bell = _epoll.Add(session.Bell.Descriptor, EpollInterest.In | EpollInterest.Edge, TokenOf(id, EventKind.Bell));
        Result process = session.Process is FileHandle handle ? _epoll.Add(handle.Descriptor, EpollInterest.In, TokenOf(id, EventKind.Process)) : Result.Success;
        if (!socket.Ok || !bell.Ok || !process.Ok)
        {
            Drop(handshake, RefusalCode.LimitReached, "The broker cannot watch one more session.");
            return;
        }

        _handshakes.Remove(handshake.Id);
        _sessions.Add(id, session);
        _byProducer[session.Producer] = session;
        TellConnection(session, BrokerEventKind.ConnectionOpened, RefusalCode.None);
        session.IsHot = true;
        _hot.Add(session);

        // What was refused and not acknowledged comes before any counter passes it.
        IReadOnlyList<KeptRefusal> kept = _engine.RefusalsOf(session.Producer);
        for (int first = 0, count; first < kept.Count && session.AnswerRoom >= 2 * NoticeBytes; first += count)
        {
            count = RunFrom(kept, first);
            Notice(session, new NoticeRecord { Kind = RecordKind.Refused, Code = kept[first].Code, Number = kept[first].Number, Subject = kept[first].Operation, Count = kept[first].Operation != 0 ? kept[first].Count : (uint)count }, "");
        }

        session.RefusalHead = session.Rings.Deliveries.Head;
        Touch(session);
    }

    /// <summary>How many refusals from <paramref name="first"/> on stand side by side and have one code: one notice tells them all. A transaction has one of its own.</summary>
    private static int RunFrom(IReadOnlyList<KeptRefusal> kept, int first)
    {
        int count = 1;
        while (kept[first].Operation == 0 && first + count < kept.Count && kept[first + count].Operation == 0 && kept[first + count].Code == kept[first].Code && kept[first + count].Number == kept[first].Number + (ulong)count)
        {
            count++;
        }

        return count;
    }

    /// <summary>A message on the socket of a session: only that an offered pair of rings is mapped.</summary>
    private void OnSocket(Session session)
    {
        Span<byte> message = stackalloc byte[Limits.MaxHandshakeBytes];
        Result<int> received = session.Socket.Receive(message);
        if (!received.Ok && received.Fault.Errno == Errno.EAGAIN)
        {
            return;
        }

        if (!received.Ok || received.Value == 0)
        {
            HangUp(session);
            return;
        }

        bool isMapped = Handshake.TryRead(message[..received.Value], out HandshakeKind kind, out _) && kind == HandshakeKind.Mapped && session.Offered is not null && !session.OfferedIsMapped;
        if (!isMapped || session.Offered!.Accept() is not { Ok: true, Value: true })
        {
            End(session, RefusalCode.RingViolation, "A message on the session's socket was not expected.");
            return;
        }

        session.OfferedIsMapped = true;
        Warm(session);
    }

    /// <summary>Offers a larger pair of rings; one at a time.</summary>
    private void Offer(Session session, uint submissionBytes, uint deliveryBytes)
    {
        if (session.Offered is not null)
        {
            return;
        }

        int submission = Math.Max(RingBytes(submissionBytes), session.Rings.SubmissionBytes);
        int delivery = Math.Max(RingBytes(deliveryBytes), session.Rings.DeliveryBytes);
        bool isLarger = submission > session.Rings.SubmissionBytes || delivery > session.Rings.DeliveryBytes;
        if (!isLarger || _ringBytes + submission + delivery > _options.MaxRingBytes)
        {
            return;
        }

        Result<RingPair> made = RingPair.Create(session.Rings.Number + 1, submission, delivery);
        if (!made.Ok)
        {
            return; // The client goes on with what it has.
        }

        Span<byte> message = stackalloc byte[128];
        Handshake.WriteHeader(message, HandshakeKind.Rings);
        FieldWriter fields = new(message[Handshake.HeaderBytes..]);
        fields.Number(FieldTag.Ring, made.Value.Number);
        fields.Number(FieldTag.SubmissionRingBytes, (ulong)submission);
        fields.Number(FieldTag.DeliveryRingBytes, (ulong)delivery);
        int[] descriptors = [made.Value.DescriptorA, made.Value.DescriptorB];
        if (!session.Socket.Send(message[..(Handshake.HeaderBytes + fields.Length)], descriptors).Ok)
        {
            made.Value.Dispose();
            return;
        }

        session.Offered = made.Value;
        _ringBytes += made.Value.Bytes;
        session.HasNews = true;
    }

    /// <summary>The client has moved: when all of the old delivery ring is shown, we follow.</summary>
    private bool PumpMove(Session session)
    {
        if (!session.IsMoving || session.Confirms.HasUnwritten || session.AnswerRoom < NoticeBytes)
        {
            return false;
        }

        Notice(session, new NoticeRecord { Kind = RecordKind.BrokerMovesRing, Subject = session.Offered!.Number }, "");
        session.Show(session.Rings.Deliveries.Head);
        bool fenced = false;
        Ring(session, ref fenced);
        long freed = session.Rings.Bytes;
        session.Move();
        _ringBytes -= freed;
        return true;
    }

    private void DropLateHandshakes()
    {
        if (_handshakes.Count == 0)
        {
            return;
        }

        long now = _clock.Read().IntervalMicros;
        foreach (Handshaking handshake in _handshakes.Values.ToArray())
        {
            if (handshake.DeadlineMicros <= now) // No closure, which would be made at each turn.
            {
                Drop(handshake, RefusalCode.TimedOut, $"The handshake was not finished within {Limits.HandshakeMilliseconds} ms.");
            }
        }
    }

    private void Drop(Handshaking handshake, RefusalCode code, string text)
    {
        if (code != RefusalCode.None)
        {
            Tell(handshake.Socket, HandshakeKind.Refused, code, text);
        }

        if (handshake.Session is Session session)
        {
            _ringBytes -= session.Rings.Bytes;
        }

        if (handshake.Producer != 0)
        {
            _engine.DetachProducer(handshake.Producer); // No session has it, so it may be forgotten in its time.
            _welcoming.Remove(handshake);
        }

        _ = _epoll.Remove(handshake.Socket.Descriptor);
        _handshakes.Remove(handshake.Id);
        handshake.Dispose();
    }

    /// <summary>A last word; if the socket is full, it is lost, and the hang-up says enough. What the client sent meanwhile is taken out: a close with something unread would hide the word behind ECONNRESET.</summary>
    private static void Tell(UnixSocket socket, HandshakeKind kind, RefusalCode code, string text)
    {
        Span<byte> message = stackalloc byte[Limits.MaxHandshakeBytes];
        Handshake.WriteHeader(message, kind);
        FieldWriter fields = new(message[Handshake.HeaderBytes..]);
        fields.Number(FieldTag.Code, (ulong)code);
        fields.Text(FieldTag.Text, text.Length > 1000 ? text.AsSpan(0, 1000) : text);
        _ = socket.Send(message[..(Handshake.HeaderBytes + fields.Length)]);
        socket.Shutdown(); // Nothing more can come, so this ends.
        while (socket.Receive(message) is { Ok: true, Value: > 0 } or { Ok: false, Fault.Errno: Errno.EMSGSIZE })
        {
        }
    }

    private static int RingBytes(ulong wanted)
    {
        if (wanted == 0)
        {
            return Limits.DefaultRingBytes;
        }

        return wanted is >= Limits.MinRingBytes and <= Limits.MaxRingBytes && System.Numerics.BitOperations.IsPow2(wanted) ? (int)wanted : 0;
    }

    private static void DisposeIfOk<T>(Result<T> result)
        where T : IDisposable
    {
        if (result.Ok)
        {
            result.Value.Dispose();
        }
    }
}
