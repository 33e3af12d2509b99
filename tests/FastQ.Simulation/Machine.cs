using FastQ.Broker;
using FastQ.Client;
using FastQ.Engine;
using FastQ.Journal;
using FastQ.Linux;

namespace FastQ.Simulation;

// The host: clocks, a disk, and one broker at a time. One thread: whoever waits lets the machine go on (Step), and when nobody can go on,
// time passes to the next moment at which somebody can.
//
//   real: engine, journal, the broker's turn and handshakes, rings, sockets and memory files        simulated: disk, time, who runs when

/// <summary>What a fault of the world ends a process with. Never FastQ's own.</summary>
internal sealed class ProcessDies(string why) : Exception(why);

/// <summary>A promise is broken.</summary>
internal sealed class PromiseBroken(string what) : Exception(what);

/// <summary>How the broker's process ends.</summary>
internal enum Crash
{
    /// <summary>kill -9: what was written is in the cache.</summary>
    Kill,

    /// <summary>All processes end, and of what was not synced any part may be gone.</summary>
    Power,
}

/// <summary>The host of one world.</summary>
internal sealed class Machine : IDisposable
{
    private const string Data = "/sim/data";
    private const long Millisecond = 1_000_000, Second = 1_000_000_000;
    private const int QuietTurnsBeforeSleep = 3;
    private const int SyncedWritesKept = 24;
    private readonly Dictionary<(uint Queue, ulong Tag), (int Producer, int Sequence)> _changed = [];
    private readonly string _directory = Directory.CreateTempSubdirectory("fastq-sim-").FullName;
    private readonly Setting _setting;
    private readonly Trace _trace;
    private readonly Dice _dice;
    private SimulatedStorage _disk = new("/sim");
    private Broker.Broker? _broker;
    private int _quiet;
    private bool _isAsleep;
    private long _wakeAt;
    private long _startAt;
    private long _intervalOffsetMicros;
    private long _diskIdleUntil;
    private int _looks;
    private long _steps;
    private bool _isEnding;
    private long _stalledUntil;
    private long _wallOffset = 1_700_000_000 * Second;
    private int _crashIn;
    private Crash _crashKind;
    private int _failWrites;
    private int _failSyncs;
    private int _failReads;
    private bool _isFull;
    private long _fullSince;
    private int _crashStarts;
    private Func<StorageStep, bool>? _crashWhere;
    private SimulatedStorage? _older;
    private ulong _lastEpoch;

    public Machine(Setting setting, Trace trace, Dice dice)
    {
        (_setting, _trace, _dice) = (setting, trace, dice);
        Wire();
    }

    /// <summary>Since boot; the one true time.</summary>
    public long NowNanoseconds => _trace.NowNanoseconds;

    public string SocketPath => Path.Combine(_directory, "s");

    public bool IsUp => _broker is not null;

    /// <summary>Of the broker that is up; 0: none is.</summary>
    public ulong Epoch => _broker?.Recovery.Epoch ?? 0;

    /// <summary>Told of each end of the broker's process: what the model may no longer take for granted.</summary>
    public Action<Crash>? Crashed { get; set; }

    /// <summary>Told when the broker ended by itself, in order or because its storage failed.</summary>
    public Action<string?>? Ended { get; set; }

    /// <summary>Why the last start was refused; null when it was not.</summary>
    public string? Refusal { get; private set; }

    /// <summary>Faults that were injected, by name.</summary>
    public SortedDictionary<string, long> Injected { get; } = new(StringComparer.Ordinal);

    public long Crashes { get; private set; }

    public long Starts { get; private set; }

    /// <summary>A fault lies on the disk where no start has needed it so far: a later one may be refused, and bodies may be reported as damaged.</summary>
    public bool IsRotten { get; private set; }

    /// <summary>When the broker's interval time will be this; less the rounding of some starts.</summary>
    public long MomentOf(long intervalMicros) => (intervalMicros - _intervalOffsetMicros - 100) * 1000;

    /// <summary>Recounts all that the broker that is up counts: whatever a queue took is somewhere, or went in a way that is counted.</summary>
    public void CheckCounts()
    {
        if (!_setting.IsDiskLying)
        {
            _broker?.Engine.CheckConservation();
        }
    }

    /// <summary>The host's wall clock.</summary>
    public long WallMicros => (NowNanoseconds + _wallOffset) / 1000;

    /// <summary>When no broker was up, by the wall clock; of the last time the end may be open.</summary>
    public List<(long From, long To)> Downs { get; } = [];

    public void Say(string what) => _trace.Say(what);

    // ---- going on

    /// <summary>Lets the broker go on by one turn, or time by a little. Gives false when nothing can happen before <see cref="NextMoment"/>.</summary>
    public bool Step()
    {
        const long MostSteps = 2_000_000;
        if (++_steps > MostSteps)
        {
            throw new PromiseBroken($"the broker does not come to rest: {MostSteps} turns");
        }

        if (_broker is null)
        {
            if (NowNanoseconds < _startAt)
            {
                return false;
            }

            Start();
            return true;
        }

        bool hasDone = Guarded(TakeTurn);
        _looks = 0;
        _trace.NowNanoseconds += 200; // A turn takes time.
        return hasDone;
    }

    /// <summary>When something can happen that cannot now.</summary>
    public long NextMoment()
    {
        if (_broker is null)
        {
            return _startAt;
        }

        long next = _isAsleep ? _wakeAt : NowNanoseconds;
        return _disk.IsBusy ? Math.Min(next, Math.Max(_diskIdleUntil, _stalledUntil)) : next;
    }

    /// <summary>Goes on until this moment, at most.</summary>
    public void StepUntil(long limit)
    {
        if (!Step())
        {
            PassTo(Math.Min(limit, Math.Max(NextMoment(), NowNanoseconds + 1000)));
        }
    }

    public void PassTo(long moment) => _trace.NowNanoseconds = Math.Max(NowNanoseconds, moment);

    private bool TakeTurn()
    {
        Broker.Broker broker = _broker!;
        if (_isAsleep)
        {
            bool woken = broker.TakeEvents(0) || NowNanoseconds >= _wakeAt || (_disk.IsBusy && NowNanoseconds >= Math.Max(_diskIdleUntil, _stalledUntil));
            if (!woken)
            {
                return false;
            }

            _isAsleep = false;
            broker.Rise();
        }

        bool worked = broker.Turn();
        if (broker.IsOver)
        {
            EndInOrder(broker);
            return true;
        }

        _quiet = worked ? 0 : _quiet + 1;
        if (_quiet < QuietTurnsBeforeSleep)
        {
            return true;
        }

        int milliseconds = broker.LieDown();
        (_quiet, _isAsleep, _wakeAt) = (0, true, milliseconds < 0 ? long.MaxValue : NowNanoseconds + milliseconds * Millisecond);
        return true;
    }

    private void EndInOrder(Broker.Broker broker)
    {
        _isEnding = true;
        string? failure = broker.End();
        _isEnding = false;
        _trace.Say($"the broker ends: {failure ?? "in order"}");
        SimulatedStorage next = _disk.AfterKill(); // The process is gone, the machine is not.
        if (failure is null && !_setting.IsDiskLying)
        {
            MustBeFoundAgain(DiskTrial.StateOf(broker.Engine), next);
        }

        Bury(next);
        Ended?.Invoke(failure);
    }

    /// <summary>What a broker knew when it had stopped in order is what the next one will know, word for word.</summary>
    private void MustBeFoundAgain(string state, SimulatedStorage disk)
    {
        using SimulatedStorage copy = disk.AfterKill();
        JournalOptions options = new() { Directory = Data, SlotBytes = _setting.SlotBytes, BlockBytes = _setting.BlockBytes, WallMicros = () => (NowNanoseconds + _wallOffset) / 1000, NewGuid = () => new Guid(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1) };
        EngineReplay replay = new(new EngineLimits { MaxMessageBytes = _setting.MaxMessageBytes });
        JournalOpening opening = Journal.Journal.Open(options, copy, replay);
        using QueueEngine engine = replay.Engine;
        using Journal.Journal? journal = opening.Journal;
        Model.Must(opening.Refusal is null, $"a broker does not start again after an orderly stop: {opening.Refusal}");
        string found = DiskTrial.StateOf(engine);
        if (found != state)
        {
            string[] before = state.Split('\n'), after = found.Split('\n');
            int at = 0;
            while (at < before.Length && at < after.Length && before[at] == after[at])
            {
                at++;
            }

            throw new PromiseBroken($"the state after a stop is not the state before it: {before.ElementAtOrDefault(at)} became {after.ElementAtOrDefault(at)}");
        }
    }

    /// <summary>Does what may meet a fault of the world: then that is the broker's end.</summary>
    private bool Guarded(Func<bool> act)
    {
        try
        {
            return act();
        }
        catch (ProcessDies)
        {
            Fall(_crashKind);
            return true;
        }
    }

    // ---- the broker's life

    private void Start()
    {
        _ = Guarded(() =>
        {
            Starts++;
            if (_crashStarts > 0)
            {
                _crashStarts--;
                CrashAtStep(_dice.Between(1, 12), _dice.OnceIn(2) ? Crash.Kill : Crash.Power);
            }

            BrokerOptions options = new()
            {
                DataDirectory = Data,
                SocketPath = SocketPath,
                SlotBytes = _setting.SlotBytes,
                BlockBytes = _setting.BlockBytes,
                MaxMessageBytes = _setting.MaxMessageBytes,
                Clocks = new Clocks(() => NowNanoseconds, () => NowNanoseconds + _wallOffset),
                NewGuid = NewGuid,
            };
            _broker = Broker.Broker.Open(options, _disk, null, "simulated", out string? refusal);
            (Refusal, _quiet, _isAsleep) = (refusal, 0, false);
            if (_broker is null)
            {
                _trace.Say($"the broker does not start: {refusal}");
                SimulatedStorage next = _disk.AfterKill();
                Bury(next);
                _startAt = NowNanoseconds + Second;
                return true;
            }

            _intervalOffsetMicros = _broker.IntervalMicros - NowNanoseconds / 1000;
            _broker.DataLost = what => throw new PromiseBroken($"a client proves a loss: {what}");
            Model.Must(Epoch > _lastEpoch, $"a broker is up in epoch {Epoch} after one in epoch {_lastEpoch}");
            _lastEpoch = Epoch;
            _trace.Say($"the broker is up: {_broker.Recovery.Verdict}, epoch {_broker.Recovery.Epoch}");
            CheckCounts();
            if (Downs is [.., (long from, long.MaxValue)])
            {
                Downs[^1] = (from, WallMicros);
            }

            return true;
        });
    }

    /// <summary>The broker's process ends without a word.</summary>
    public void Fall(Crash kind)
    {
        Crashes++;
        Count(kind == Crash.Kill ? "kill -9 of the broker" : "power loss");
        _trace.Say(kind == Crash.Kill ? "the broker is killed" : "the power fails");
        _crashIn = 0;
        _isEnding = false;
        SimulatedStorage next = kind == Crash.Kill ? _disk.AfterKill() : _disk.AfterPowerLoss(SurvivalOf());
        Bury(next);
        Crashed?.Invoke(kind);
    }

    /// <summary>The power fails, and what the disk had said that it has is not all there; or somebody was at the directory. Gives what a repair gave up, if there was one.</summary>
    public TrialEnd Strike(ActKind fault, Dice dice)
    {
        IReadOnlyList<SyncedWrite> writes = _disk.SyncedWrites();
        Fall(Crash.Power);
        Count(DiskTrial.NameOf(fault));
        JournalOptions options = new() { Directory = Data, SlotBytes = _setting.SlotBytes, BlockBytes = _setting.BlockBytes, WallMicros = () => (NowNanoseconds + _wallOffset) / 1000 };
        SimulatedStorage honest = _disk;
        TrialEnd end = new DiskTrial(options, _setting.MaxMessageBytes, honest, _changed, dice, Say, fault => Count(fault)).Run(fault, writes, _older);
        if (dice.OnceIn(2))
        {
            _older = honest.AfterKill();
        }

        if (end.Disk != honest)
        {
            honest.Dispose();
            _disk = end.Disk;
            Wire();
        }

        IsRotten |= end.IsRotten;
        return end;
    }

    /// <summary>Of each unsynced sector and name: lost, kept or torn, by one of several ways.</summary>
    private Func<Unsynced, Survival> SurvivalOf()
    {
        int way = _dice.Below(6);
        return what => way switch
        {
            0 => Survival.Lost,
            1 => Survival.Kept,
            2 => _dice.OnceIn(2) ? Survival.Lost : Survival.Kept,
            3 => _dice.OnceIn(8) ? Survival.Lost : Survival.Kept,
            4 => _dice.OnceIn(8) ? Survival.Kept : Survival.Lost,
            _ => _dice.Of(Survival.Lost, Survival.Kept, Survival.Torn),
        };
    }

    private void Bury(SimulatedStorage next)
    {
        _disk.PowerOff();
        Broker.Broker? dead = _broker;
        if (dead is not null)
        {
            Downs.Add((WallMicros, long.MaxValue));
        }

        (_broker, _isAsleep) = (null, false);
        dead?.Dispose();
        _disk.Dispose();
        _disk = next;
        Wire();
        _startAt = NowNanoseconds + _dice.Of(0L, Millisecond, 300 * Millisecond, 2 * Second);
    }

    /// <summary>Asks the broker to stop in order.</summary>
    public void RequestStop() => _broker?.RequestStop();

    // ---- faults

    private void Wire()
    {
        _disk.Fail = Fail;
        _disk.Stepped = Stepped;
        _disk.Pick = Pick;
        _disk.SyncedWritesKept = _setting.IsDiskLying ? SyncedWritesKept : 0;
    }

    private int Pick(int waiting)
    {
        const int MostLooks = 100_000;
        if ((NowNanoseconds < _stalledUntil || NowNanoseconds < _diskIdleUntil) && !_isEnding)
        {
            Model.Must(++_looks < MostLooks, "a turn waits for the disk, and everybody for it");
            return -1;
        }

        _looks = 0;
        _diskIdleUntil = NowNanoseconds + _dice.Of(0L, 5_000L, 100_000L);
        return _setting.IsDiskOutOfOrder ? _dice.Below(waiting) : 0;
    }

    private Errno Fail(StorageStep step)
    {
        switch (step.Kind)
        {
            case StorageStepKind.Write when _failWrites > 0 && --_failWrites == 0:
                Count("EIO on write");
                return Errno.EIO;
            case StorageStepKind.Sync when _failSyncs > 0 && --_failSyncs == 0:
                Count("EIO on sync, then success");
                return Errno.EIO;
            case StorageStepKind.Read when _failReads > 0 && --_failReads == 0:
                Count("unreadable sector");
                return Errno.EIO;
            case StorageStepKind.Allocate or StorageStepKind.Create when _isFull:
                Count("ENOSPC at allocation");
                return Errno.ENOSPC;
            default:
                return Errno.None;
        }
    }

    private void Stepped(StorageStep step)
    {
        if (_crashWhere is not null && _crashWhere(step))
        {
            Count($"crash at {step.Kind} of {(step.Path.EndsWith(".slot", StringComparison.Ordinal) ? "a slot" : step.Path.Contains("snap", StringComparison.Ordinal) ? "a snapshot" : "another file")}");
            _crashWhere = null;
            _crashIn = 1;
        }

        if (_crashIn > 0 && --_crashIn == 0)
        {
            Count(_broker is null ? "crash inside recovery" : "crash at a step of the disk");
            _trace.Say($"crash after {step.Kind} of {step.Path}");
            throw new ProcessDies("at a step of its disk");
        }
    }

    public void CrashAtStep(int steps, Crash kind) => (_crashIn, _crashKind) = (steps, kind);

    /// <summary>The next starts end in the middle, one after the other.</summary>
    public void CrashStarts(int starts) => _crashStarts = starts;

    /// <summary>The broker ends at the next step of this kind: in a snapshot, in making a slot ready, in giving one up.</summary>
    public void CrashWhere(Func<StorageStep, bool> where, Crash kind) => (_crashWhere, _crashKind) = (where, kind);

    public void StallDisk(long nanoseconds)
    {
        Count("syncs and writes stall, up to 30 s");
        _stalledUntil = NowNanoseconds + nanoseconds;
    }

    public void FailWriteAfter(int writes) => _failWrites = writes;

    public void FailSyncAfter(int syncs) => _failSyncs = syncs;

    public void FailReadAfter(int reads) => _failReads = reads;

    public void FillDisk(bool isFull)
    {
        _fullSince = isFull && !_isFull ? NowNanoseconds : _fullSince;
        _isFull = isFull;
    }

    /// <summary>So long the disk has been full; 0: it has room.</summary>
    public long FullNanoseconds => _isFull ? NowNanoseconds - _fullSince : 0;

    public void ShiftWall(long nanoseconds)
    {
        Count("wall clock set");
        Downs.Clear(); // By another clock.
        _wallOffset += nanoseconds;
    }

    /// <summary>No more faults from now on.</summary>
    public void Calm()
    {
        (_crashIn, _crashStarts, _crashWhere, _failWrites, _failSyncs, _failReads, _isFull) = (0, 0, null, 0, 0, 0, false);
        _stalledUntil = Math.Min(_stalledUntil, NowNanoseconds);
    }

    public void Count(string fault, long times = 1) => Injected[fault] = Injected.GetValueOrDefault(fault) + times;

    private Guid NewGuid()
    {
        Span<byte> bytes = stackalloc byte[16];
        System.Buffers.Binary.BinaryPrimitives.WriteUInt64LittleEndian(bytes, _dice.Next());
        System.Buffers.Binary.BinaryPrimitives.WriteUInt64LittleEndian(bytes[8..], _dice.Next());
        return new Guid(bytes);
    }

    public void Dispose()
    {
        _disk.PowerOff();
        _broker?.Dispose();
        _disk.Dispose();
        Directory.Delete(_directory, recursive: true);
    }
}

/// <summary>How a client in the machine waits: the machine goes on meanwhile.</summary>
internal sealed class InMachine(Machine machine, Dice dice) : ISurroundings
{
    private const long MostNanoseconds = 600L * 1_000_000_000;
    private const long MostFullNanoseconds = 20L * 1_000_000_000;

    /// <summary>Waits and yields until this process dies; 0: it lives.</summary>
    public int DiesIn { get; set; }

    /// <summary>The whole machine lost power: it is dead already.</summary>
    public bool IsDead { get; set; }

    public long MonotonicNanoseconds() => machine.NowNanoseconds;

    public void Yield()
    {
        DieIfDue();
        if (!machine.Step())
        {
            machine.PassTo(machine.NowNanoseconds + 1000);
        }

        DieIfDead();
    }

    public (bool First, bool Second, bool Third) Wait(int first, int second, int third, int milliseconds)
    {
        DieIfDue();
        long begun = machine.NowNanoseconds;
        long until = milliseconds < 0 ? long.MaxValue : begun + milliseconds * 1_000_000L;
        while (true)
        {
            (bool First, bool Second, bool Third) found = Poll.Wait(first, second, third, 0);
            if (found != default || machine.NowNanoseconds >= until)
            {
                return found;
            }

            if (machine.NowNanoseconds - begun > MostFullNanoseconds || machine.FullNanoseconds > 3 * MostFullNanoseconds) // Who looks around now and then begins to wait anew each time.
            {
                machine.FillDisk(false); // An operator comes; until then publishers wait, and lose nothing.
            }

            if (machine.NowNanoseconds - begun > MostNanoseconds)
            {
                throw new PromiseBroken("a client sleeps for ten minutes and nobody wakes it");
            }

            machine.StepUntil(until);
            DieIfDead();
        }
    }

    public bool Rest(int milliseconds, CancellationToken giveUp)
    {
        DieIfDue();
        long until = machine.NowNanoseconds + milliseconds * 1_000_000L;
        while (machine.NowNanoseconds < until)
        {
            machine.StepUntil(until);
            DieIfDead();
        }

        return false;
    }

    /// <summary>Of so many sound records, one is seen as rotten; 0: none.</summary>
    public int DoubtsOneIn { get; init; }

    public bool Sees(bool isSound) => isSound && (DoubtsOneIn == 0 || !dice.OnceIn(DoubtsOneIn));

    public void Fill(Span<byte> bytes)
    {
        foreach (ref byte value in bytes)
        {
            value = (byte)dice.Next();
        }
    }

    private void DieIfDue()
    {
        if (DiesIn > 0 && --DiesIn == 0)
        {
            throw new ProcessDies("in the middle of a wait");
        }
    }

    private void DieIfDead()
    {
        if (IsDead)
        {
            throw new ProcessDies("with the machine");
        }
    }
}
