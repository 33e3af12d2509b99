using System.Runtime.CompilerServices;
using FastQ.Engine;
using FastQ.Journal;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Broker;

// The turn (DESIGN section 8): one thread, everything bounded.
//
//   completions -> rings -> hang-ups -> timers -> what is too much -> dead letters -> sweeps, schedules, events -> dispatch -> seal, write, sync -> counters, doorbells -> nothing to do: yield, then sleep
//
// This is the only place where time and I/O meet the engine. Parts: Intake.cs (rings to records), Delivery.cs (records to rings),
// Commands.cs, DeadLetters.cs, Scheduling.cs, Handshakes.cs, Ending.cs (hang-ups, stop, failure), Upkeep.cs (snapshots, reclaim, compaction).

/// <summary>A broker of one namespace. <see cref="Run"/> is its thread; only <see cref="RequestStop"/> may be called from others.</summary>
public sealed partial class Broker : IDisposable
{
    private const int YieldsBeforeSleep = 100;
    private const int TurnsBeforeCold = 20_000;
    private const int SecondLookMilliseconds = 1;
    private const int TurnsBetweenPolls = 64;
    private readonly BrokerOptions _options;
    private readonly QueueEngine _engine;
    private readonly Journal.Journal _journal;
    private readonly Listener _listener;
    private readonly EpollSet _epoll;
    private readonly EventDescriptor _stop;
    private readonly BrokerClock _clock;
    private readonly bool _fencesAll = ThisProcess.FenceAll().Ok; // Not where the kernel lacks membarrier, or a sandbox forbids it.
    private readonly Dictionary<ulong, Session> _sessions = [];
    private readonly Dictionary<uint, Session> _bySubscription = [];
    private readonly List<Session> _hot = [];
    private readonly List<Session> _undurable = [];
    private readonly EpollEvent[] _events = new EpollEvent[64];
    private readonly long _startedMicros;
    private Now _now;
    private ulong _turn;
    private ulong _sourceBlock;
    private ulong _sourceProducer = ulong.MaxValue;
    private ulong _sourceTurn;
    private ulong _nextId = 8;
    private long _ringBytes;
    private long _lastRecordMicros;
    private long _lastSyncMicros;
    private long _longestTurnMicros;
    private long _slowTurns;
    private long _nextTimerMicros;
    private int _waitingForDurable;
    private bool _isStopping;
    private bool _isBlocked; // The journal had no room for something that waits: its completion is the news, not what waits, and no timer that is due either.

    private Broker(BrokerOptions options, QueueEngine engine, Journal.Journal journal, Listener listener, EpollSet epoll, EventDescriptor stop, RecoveryReport recovery, string storageNote)
    {
        (_options, _engine, _journal, _listener, _epoll, _stop, Recovery, StorageNote) = (options, engine, journal, listener, epoll, stop, recovery, storageNote);
        _clock = new BrokerClock(options.Clocks, engine.IntervalMicros, engine.WallMicros, options.MaxDowntime);
        _now = _clock.Read();
        _startedMicros = _now.IntervalMicros;
        _engine.GraceUntilMicros = _now.IntervalMicros + (long)options.ResumeGrace.TotalMicroseconds;
        _journal.SlotGone = OnSlotGone;
        _use = new SlotUses(this);
    }

    /// <summary>What the start found and did.</summary>
    public RecoveryReport Recovery { get; }

    /// <summary>Which storage was chosen, and why.</summary>
    public string StorageNote { get; }

    /// <summary>Where it listens.</summary>
    public string SocketPath => _options.SocketPath;

    /// <summary>Starts: lock, recovery, socket. Null with a refusal in words when it cannot.</summary>
    public static Broker? Open(BrokerOptions options, out string? refusal)
    {
        DirectoryLock? directoryLock = DirectoryLock.TryTake(options.DataDirectory, options.AllowNetworkFileSystem, out refusal);
        if (directoryLock is null)
        {
            return null;
        }

        _ = ThisProcess.RaiseDescriptorLimit();
        return Open(options, StorageFactory.Open(options.Storage, out string note), directoryLock, note, out refusal);
    }

    /// <summary>As above, on a storage that is there. It and the lock are the broker's from now on, whether it starts or not.</summary>
    internal static Broker? Open(BrokerOptions options, IStorage storage, IDisposable? directoryLock, string note, out string? refusal)
    {
        EngineReplay replay = new(options.Engine with { MaxMessageBytes = options.MaxMessageBytes });
        Broker? broker = null;
        try
        {
            broker = Open(options, storage, directoryLock, replay, note, out refusal);
        }
        finally
        {
            if (broker is null)
            {
                replay.Engine.Dispose(); // Its memory is not the collector's.
            }
        }

        return broker;
    }

    private static Broker? Open(BrokerOptions options, IStorage storage, IDisposable? directoryLock, EngineReplay replay, string note, out string? refusal)
    {
        JournalOptions journalOptions = new() { Directory = options.DataDirectory, SlotBytes = options.SlotBytes, AllowNetworkFileSystem = options.AllowNetworkFileSystem, BlockBytes = options.BlockBytes, NewGuid = options.NewGuid, WallMicros = () => options.Clocks.WallNanoseconds() / 1000 };
        JournalOpening opening = Journal.Journal.Open(journalOptions, storage, replay, directoryLock);
        if (opening.Journal is not Journal.Journal journal)
        {
            refusal = opening.Refusal!.Text + replay.AffectedQueues();
            storage.Dispose();
            directoryLock?.Dispose();
            return null;
        }

        replay.Engine.EndRecovery();
        Listener? listener = Listener.TryOpen(options.SocketPath, options.SocketMode, out refusal);
        if (listener is null)
        {
            journal.Dispose();
            return null;
        }

        EpollSet epoll = EpollSet.Create().OrThrow();
        EventDescriptor stop = EventDescriptor.Create().OrThrow();
        Broker broker = new(options, replay.Engine, journal, listener, epoll, stop, opening.Report, note);
        epoll.Add(listener.Socket.Descriptor, EpollInterest.In, TokenOf(0, EventKind.Listener)).OrThrow();
        if (journal.WakeDescriptor >= 0)
        {
            epoll.Add(journal.WakeDescriptor, EpollInterest.In | EpollInterest.Edge, TokenOf(0, EventKind.Journal)).OrThrow();
        }

        epoll.Add(stop.Descriptor, EpollInterest.In, TokenOf(0, EventKind.Stop)).OrThrow();
        return broker;
    }

    /// <summary>Asks the broker to stop in order. Any thread, any time.</summary>
    public void RequestStop() => _stop.Signal();

    /// <summary>Serves until it is asked to stop, or the storage fails.</summary>
    /// <returns>Null after an orderly stop; else what failed, in words.</returns>
    public string? Run()
    {
        int quiet = 0;
        while (!IsOver)
        {
            bool worked = Turn();
            quiet = worked ? 0 : quiet + 1;
            if (worked)
            {
                continue;
            }

            if (quiet < YieldsBeforeSleep)
            {
                Processor.Yield();
            }
            else
            {
                Sleep();
            }
        }

        return End();
    }

    /// <summary>Interval time now.</summary>
    internal long IntervalMicros => _clock.ReadInterval();

    /// <summary>It was asked to stop, or the storage failed.</summary>
    internal bool IsOver => _isStopping || _journal.Failure is not null;

    /// <summary>What comes after the last turn.</summary>
    internal string? End() => _journal.Failure is JournalProblem problem ? Fail(problem) : Stop();

    public void Dispose()
    {
        foreach (Session session in _sessions.Values)
        {
            session.Dispose();
        }

        _dead.ForEach(session => session.Dispose()); // A stop ends them all, and no upkeep comes after it.
        foreach (Handshaking handshake in _handshakes.Values)
        {
            handshake.Dispose();
        }

        _scan?.Dispose();
        _listener.Dispose();
        _epoll.Dispose();
        _stop.Dispose();
        _journal.Dispose();
        _engine.Dispose();
    }

    private enum EventKind
    {
        Listener = 0,
        Journal = 1,
        Stop = 2,
        Socket = 3,
        Bell = 4,
        Process = 5,
        Handshake = 6,
    }

    // The id of a session or handshake is never used again, so an event of one that has gone meets nobody (DESIGN-REVIEW R55).
    private static ulong TokenOf(ulong id, EventKind kind) => (id << 3) | (ulong)kind;

    /// <summary>The state, for those who turn the broker by hand.</summary>
    internal QueueEngine Engine => _engine;

    /// <summary>One pass. True: something was done. Apart from <see cref="Run"/> only where one thread is both client and broker.</summary>
    internal bool Turn()
    {
        _turn++;
        _now = _clock.Read();
        if (_turn % TurnsBetweenPolls == 0)
        {
            _ = TakeEvents(0);
        }

        bool worked = Complete();
        _isBlocked = false;
        worked |= TakeRings();
        worked |= TakeLeaving();
        worked |= ReleaseLeft();
        worked |= RunTimers();
        worked |= PushOut();
        worked |= MoveDeadLetters();
        worked |= MoveSweeps();
        worked |= FireSchedules();
        worked |= TellEvents();
        worked |= PushOut(); // Once more: schedules and events are messages, too.
        worked |= DispatchAll();
        bool sealedNow = _journal.Seal();
        if (sealedNow)
        {
            _lastRecordMicros = _now.IntervalMicros;
            worked = true;
        }

        RequestDueSync();
        worked |= Complete();
        Keep();
        RingSleepers();
        CountTurn(worked);
        return worked;
    }

    /// <summary>Takes completions and shows what they allow.</summary>
    private bool Complete()
    {
        bool moved = _journal.Poll();
        if (_welcoming.Count > 0)
        {
            WelcomeWritten();
        }

        for (int i = _undurable.Count - 1; i >= 0; i--)
        {
            Session session = _undurable[i];
            ShowProgress(session);

            // Not before its last news was rung for: a session that has become cold meanwhile is in no other list that is.
            if (session.HasEnded || (!session.Confirms.HasUndurable && !session.HasNews))
            {
                session.IsListed = false;
                _undurable[i] = _undurable[^1];
                _undurable.RemoveAt(_undurable.Count - 1);
            }
        }

        return moved;
    }

    private unsafe void ShowProgress(Session session)
    {
        if (session.HasEnded || session.IsGone)
        {
            return; // Who is gone looks no more, and its marks may be of rings that it was leaving.
        }

        BrokerControl* control = session.Rings.Broker;
        if (session.Confirms.TryAdvanceWritten(_journal.WrittenBlock, out ulong number, out ulong head))
        {
            session.Show(head); // Refusals first: the client looks there before it believes a counter.
            Volatile.Write(ref control->Written, number);
        }

        if (session.Decided != control->Decided && session.ShownHead >= session.RefusalHead)
        {
            Volatile.Write(ref control->Decided, session.Decided);
            session.HasNews = true;
        }

        if (session.Confirms.TryAdvanceDurable(_journal.DurableBlock, out number))
        {
            Volatile.Write(ref control->Durable, number);
            session.HasNews = true;
        }
    }

    /// <summary>Something of the session is in the open block, or in its delivery ring since.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Touch(Session session)
    {
        session.Confirms.Touch(_journal.LastBlock, session.Decided, session.Rings.Deliveries.Head);
        Watch(session);
    }

    /// <summary>There is, or will be, something to show to the session.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Watch(Session session)
    {
        if (!session.IsListed)
        {
            session.IsListed = true;
            _undurable.Add(session);
        }
    }

    private void RingSleepers()
    {
        bool fenced = false;
        foreach (Session session in _hot)
        {
            Ring(session, ref fenced);
        }

        foreach (Session session in _undurable)
        {
            Ring(session, ref fenced);
        }
    }

    private static void Ring(Session session, ref bool fenced)
    {
        if (!session.HasNews || session.HasEnded)
        {
            return;
        }

        if (!fenced)
        {
            Interlocked.MemoryBarrier(); // Pairs with Sleeper.Announce of each client: one for all of them.
            fenced = true;
        }

        session.RingIfAsleep();
    }

    private void RequestDueSync()
    {
        bool undurable = _journal.DurableBlock < _journal.OpenBlock - 1;
        if (_waitingForDurable > 0)
        {
            _journal.RequestSync();
            _waitingForDurable = 0;
            _lastSyncMicros = _now.IntervalMicros;
        }
        else if (undurable && _now.IntervalMicros - _lastSyncMicros >= (long)_options.SyncWithin.TotalMicroseconds)
        {
            _journal.RequestSync();
            _lastSyncMicros = _now.IntervalMicros;
        }

        bool quiet = _now.IntervalMicros - _lastRecordMicros >= (long)_options.CloseAfter.TotalMicroseconds;
        if (quiet && !_journal.AtRest && _journal.OpenBytes == 0 && !_journal.HasClosing)
        {
            _isBlocked |= !_journal.SealClosing(); // No room: it is due all the same, and asking again at once would be a loop without rest.
        }
    }

    private bool RunTimers()
    {
        if (_now.IntervalMicros < _nextTimerMicros)
        {
            return false;
        }

        if (_engine.NextTimerMicros > _now.IntervalMicros)
        {
            _nextTimerMicros = Math.Max(_now.IntervalMicros + 1000, Math.Min(_engine.NextTimerMicros, _now.IntervalMicros + 10_000));
            return false;
        }

        const int MostATurn = 16;
        bool worked = false;
        for (int i = 0; i < MostATurn; i++)
        {
            if (!_journal.TryReserve(SourceRecord.SizeBytes + QueueEngine.MaxFactBytes, out Span<byte> room, out _))
            {
                _isBlocked = true;
                return worked;
            }

            int source = BeginSource(0, room);
            int written = _engine.RunTimer(room[source..], _journal.OpenBlock);
            if (written == 0)
            {
                // The source record alone says nothing: it is kept only with what follows. Time that passed without a fact need not be known.
                Commit(source, source > 0 ? 1u : 0u);
                break;
            }

            Commit(source + written, source > 0 ? 2u : 1u);
            TakeOrphansAndEnds();
            worked = true;
        }

        // Never more often than each millisecond: what is due stays due.
        _nextTimerMicros = _now.IntervalMicros + 1000;
        return worked;
    }

    /// <summary>Writes a source record at the start of the room if the open block does not have this one yet. Bytes written: it must be committed.</summary>
    private int BeginSource(ulong producer, Span<byte> room)
    {
        if (_sourceBlock == _journal.OpenBlock && _sourceProducer == producer && _sourceTurn == _turn)
        {
            return 0;
        }

        (_sourceBlock, _sourceProducer, _sourceTurn) = (_journal.OpenBlock, producer, _turn);
        _engine.OpenBlock = _journal.OpenBlock;
        return _engine.Begin(producer, _now, room);
    }

    private void Commit(int bytes, uint records)
    {
        if (bytes > 0)
        {
            _journal.Commit(bytes, records);
        }
    }

    /// <summary>Nothing to do: says so to every client, looks once more, and waits. Looks again a moment later, before it waits for long: see <see cref="FenceClients"/>.</summary>
    private void Sleep()
    {
        int milliseconds = LieDown();
        bool isLong = _fencesAll && milliseconds is < 0 or > SecondLookMilliseconds;
        bool woken = TakeEvents(isLong ? SecondLookMilliseconds : milliseconds);
        if (isLong && !woken && !HasNews())
        {
            _ = TakeEvents(milliseconds < 0 ? milliseconds : milliseconds - SecondLookMilliseconds);
        }

        Rise();
    }

    /// <summary>Says to every client that it must ring from now on, and looks once more. Gives how long to wait; -1: until an event.</summary>
    internal int LieDown()
    {
        foreach (Session session in _hot)
        {
            session.Rings.Sleep.Announce();
            if (session.Offered is RingPair offered && !offered.Sleep.IsAnnounced)
            {
                offered.Sleep.Announce();
            }
        }

        FenceClients();
        return _isBlocked ? 1 : HasNews() ? 0 : TimeToNextDeadline();
    }

    /// <summary>Has a client written something, or given room back?</summary>
    private bool HasNews()
    {
        bool news = false;
        foreach (Session session in _hot)
        {
            news |= session.HasWork;
        }

        return news;
    }

    /// <summary>Awake: nobody need ring.</summary>
    internal void Rise()
    {
        foreach (Session session in _hot)
        {
            if (session.Rings.Sleep.IsAnnounced)
            {
                session.Rings.Sleep.Wake();
            }

            if (session.Offered is RingPair offered && offered.Sleep.IsAnnounced)
            {
                offered.Sleep.Wake();
            }
        }
    }

    /// <summary>Between the announcement of sleep and the last look: clients that know of it leave out their own fence, which is one per message (DESIGN section 9).</summary>
    /// <remarks>
    /// The kernel may pass a client's thread over: a processor that was idle between threads of one process when that process registered does not know of it until another process has run there
    /// (kernel 6.18, seen in a few of a million sleeps). So what a client wrote just then may be missed here, unrung. It is seen at the second look: a store waits for no millisecond.
    /// </remarks>
    private void FenceClients()
    {
        if (_fencesAll)
        {
            ThisProcess.FenceAll().OrThrow();
        }
    }

    /// <summary>A session moves, or is deaf: both are hot, and looked at without being rung for.</summary>
    private bool IsAnyWatched()
    {
        foreach (Session session in _hot)
        {
            if (session.DeafUntilMicros != 0 || session.Offered is not null)
            {
                return true;
            }
        }

        return false;
    }

    private int TimeToNextDeadline()
    {
        long now = _clock.Read().IntervalMicros;
        long next = Math.Max(_engine.NextTimerMicros, _nextTimerMicros);
        if (_journal.DurableBlock < _journal.OpenBlock - 1)
        {
            next = Math.Min(next, _lastSyncMicros + (long)_options.SyncWithin.TotalMicroseconds);
        }

        if (!_journal.AtRest && !_journal.HasClosing)
        {
            next = Math.Min(next, _lastRecordMicros + (long)_options.CloseAfter.TotalMicroseconds);
        }

        if (_handshakes.Count > 0 || IsAnyWatched())
        {
            next = Math.Min(next, now + 1000);
        }

        if (_acceptAgainMicros != 0)
        {
            next = Math.Min(next, _acceptAgainMicros);
        }

        if (_upkeepWaits)
        {
            next = Math.Min(next, now + 10_000);
        }

        if (_engine.HasDying)
        {
            next = Math.Min(next, now + DeadLettersAgainMicros);
        }

        if (_engine.HasSweeps)
        {
            next = Math.Min(next, now + SweepStepMicros);
        }

        long schedule = _engine.NextScheduleMicros;
        next = Math.Min(next, schedule > now ? schedule : now + FireAgainMicros); // One that is due waits for room.

        next = Math.Min(next, EventsDueMicros);
        if (_journal.RoomFault is not null)
        {
            next = Math.Min(next, now + 100_000); // A full disk is asked again though nobody comes: whoever comes next should not be told of an old fault.
        }

        return next == long.MaxValue ? -1 : (int)Math.Clamp((next - now + 999) / 1000, 0, 60_000);
    }

    /// <summary>Waits for events at most so long, and takes them. True: there were some.</summary>
    internal bool TakeEvents(int timeoutMilliseconds)
    {
        int count = _epoll.Wait(_events, timeoutMilliseconds);
        for (int i = 0; i < count; i++)
        {
            ulong id = _events[i].Token >> 3;
            switch ((EventKind)(_events[i].Token & 7))
            {
                case EventKind.Listener:
                    AcceptAll();
                    break;
                case EventKind.Stop:
                    _isStopping = true;
                    break;
                case EventKind.Handshake:
                    OnHandshake(id);
                    break;
                case EventKind.Journal:
                    break; // Edge-triggered; the turn polls.
                default:
                    OnSession(id, (EventKind)(_events[i].Token & 7), _events[i]);
                    break;
            }
        }

        DropLateHandshakes();
        AcceptAgain();
        return count > 0;
    }

    private void OnSession(ulong id, EventKind kind, EpollEvent what)
    {
        if (!_sessions.TryGetValue(id, out Session? session))
        {
            return;
        }

        switch (kind)
        {
            case EventKind.Bell:
                OnBell(session);
                break;
            case EventKind.Process:
                HangUp(session);
                break;
            case EventKind.Socket when what.IsReadable:
                OnSocket(session);
                break;
            case EventKind.Socket when what.IsHangup:
                HangUp(session);
                break;
        }
    }

    private void OnBell(Session session)
    {
        const int MostIdleRings = 64;
        bool isNew = session.Rings.Submissions.HasNews || session.HasGivenRoom; // Not that it was offered rings: it may leave them for ever, and is polled as long as it does.
        session.IdleRings = isNew ? 0 : session.IdleRings + 1;
        if (session.IdleRings >= MostIdleRings)
        {
            // Rings for nothing: not listened to for a second, and polled meanwhile, so that an honest one loses no more than a millisecond.
            session.IdleRings = 0;
            _ = _epoll.Remove(session.Bell.Descriptor);
            session.DeafUntilMicros = _now.IntervalMicros + 1_000_000;
        }

        Warm(session);
    }

    private void Warm(Session session)
    {
        session.QuietTurns = 0;
        if (!session.IsHot)
        {
            session.IsHot = true;
            session.Rings.Sleep.Wake();
            _hot.Add(session);
        }
    }

    private void CountTurn(bool worked)
    {
        if (!worked)
        {
            return;
        }

        long took = _clock.ReadInterval() - _now.IntervalMicros;
        _longestTurnMicros = Math.Max(_longestTurnMicros, took);
        _slowTurns += took > 10_000 ? 1 : 0;
    }
}
