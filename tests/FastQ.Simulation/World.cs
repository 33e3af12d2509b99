using System.Globalization;
using System.Text.Json;
using FastQ.Client;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Simulation;

/// <summary>How a history went.</summary>
/// <param name="Violation">The promise that was broken; null: none.</param>
/// <param name="Hash">Of all that happened.</param>
internal sealed record Verdict(string? Violation, ulong Hash, long Nanoseconds, long Messages, long Deliveries, long Crashes, long Starts, IReadOnlyDictionary<string, long> Injected);

/// <summary>Runs one history: acts one after the other, then calm, a drain, and the reckoning.</summary>
internal sealed class World : IDisposable
{
    private const long Second = 1_000_000_000;
    private const int MostSlotsAtRest = 4; // The current one, one ahead, and two that will be used again.
    private const long MostIndexBytesAtRest = 96 * 1024; // A page a queue, and what producers and subscriptions take.
    private readonly History _history;
    private readonly Trace _trace;
    private readonly Machine _machine;
    private readonly Model _model;
    private readonly List<Actor> _actors = [];
    private int _producers;
    private Dice _dice;

    private World(History history, TextWriter? text)
    {
        _history = history;
        _trace = new Trace(text);
        _dice = new Dice(history.Seed ^ 0x5DEECE66D);
        _machine = new Machine(history.Setting, _trace, new Dice(history.Seed + 1)) { Crashed = Crashed, Ended = Ended };
        _model = new Model(_trace) { Mortality = history.Setting.Mortality, IsOrdered = history.Setting.IsOrdered, HasDuplicates = history.Setting.HasDuplicates, HasKeys = history.Setting.HasKeys };
        _trace.Say($"{history.Setting}");
    }

    public static Verdict Run(History history, TextWriter? text = null)
    {
        int outstanding = Engine.PageAllocator.Outstanding;
        World world = new(history, text);
        string? violation = null;
        try
        {
            for (int i = 0; i < history.Acts.Count; i++)
            {
                world.Do(history.Acts[i]);
            }

            world.Reckon();
        }
        catch (PromiseBroken broken)
        {
            violation = broken.Message;
        }
        catch (Exception bug) when (bug is not OutOfMemoryException)
        {
            violation = $"{bug.GetType().Name}: {bug.Message}\n{bug.StackTrace}";
        }

        world.Dispose();
        if (violation is null && Engine.PageAllocator.Outstanding != outstanding)
        {
            violation = $"{Engine.PageAllocator.Outstanding - outstanding} MiB of indexes were not given back by those who started and failed, or ended";
        }

        return new Verdict(violation, world._trace.Hash, world._trace.PassedNanoseconds, world._model.All.Count(), world._model.Deliveries, world._machine.Crashes, world._machine.Starts, world._machine.Injected);
    }

    public void Dispose()
    {
        foreach (Actor actor in _actors)
        {
            actor.Die();
        }

        _machine.Dispose();
    }

    // ---- acts

    private void Do(Act act)
    {
        _dice = new Dice(act.Seed);
        _actors.RemoveAll(actor => actor.IsGone);
        Actor? actor = _actors.Count == 0 ? null : _actors[act.A % _actors.Count];
        _trace.Say($"{act.Kind} {actor?.Name}");
        if (actor is null && act.Kind is not (ActKind.Connect or ActKind.Pass or >= ActKind.Hostile))
        {
            return;
        }

        Try(actor, () => Do(act, actor!));
        foreach (Actor any in _actors.ToArray())
        {
            Try(any, any.Look);
        }
    }

    /// <summary>Does something as a client: what kills its process ends it, what the broker refuses is an answer.</summary>
    private void Try(Actor? actor, Action act)
    {
        try
        {
            act();
        }
        catch (ProcessDies)
        {
            _trace.Say($"{actor?.Name} dies");
            actor?.Die();
        }
        catch (FastQException refused) when (IsAllowed(refused.Code))
        {
            _trace.Say($"{actor?.Name} is told {refused.Name}");
            if (actor is not null && (actor.Session.IsClosed || refused.Code == RefusalCode.Disconnected))
            {
                actor.Die();
            }
        }

        foreach (Actor dead in _actors.Where(any => any.Surroundings.IsDead))
        {
            dead.Die();
        }
    }

    private static bool IsAllowed(RefusalCode code) => code is RefusalCode.UnknownQueue or RefusalCode.QueueDeleted or RefusalCode.UnknownSubscription or RefusalCode.DiskFull or RefusalCode.LimitReached
        or RefusalCode.Disconnected or RefusalCode.TimedOut or RefusalCode.AlreadySettled or RefusalCode.LeaseLost or RefusalCode.Closed or RefusalCode.ShuttingDown or RefusalCode.StorageFailed;

    private void Do(Act act, Actor actor)
    {
        Dice dice = _dice;
        string queue = QueueName(act.B), place = PlaceName(act.B);
        switch (act.Kind)
        {
            case ActKind.Connect:
                Connect();
                break;
            case ActKind.Declare:
                Declare(actor, queue);
                break;
            case ActKind.Delete:
                _model.DeleteQueue(Known(actor.Session.GetQueue(place))); // From the moment that it is asked for.
                actor.Session.DeleteQueue(place);
                break;
            case ActKind.Purge:
                _model.Purge(Known(actor.Session.GetQueue(place)));
                _trace.Say($"purged {actor.Session.PurgeQueue(place)}");
                break;
            case ActKind.Publish:
                Publish(actor, queue, 1);
                break;
            case ActKind.PublishMany:
                Publish(actor, queue, dice.Between(2, 60));
                break;
            case ActKind.Flush:
                actor.Session.Flush(dice.Of(ConfirmLevel.Accepted, ConfirmLevel.Written, ConfirmLevel.Durable), TimeSpan.FromSeconds(dice.Between(1, 90)));
                break;
            case ActKind.Subscribe:
                Subscription opened = actor.Session.Subscribe(place, new SubscribeOptions { Credit = _history.Setting.Credit, SettleBatch = dice.Of(1, 4, 64), Lease = dice.OnceIn(2) ? null : TimeSpan.FromMilliseconds(dice.Of(1000, 7000)) });
                _model.Name(opened.Queue, place);
                actor.Subscriptions.Add(opened);
                break;
            case ActKind.Unsubscribe when actor.Subscriptions.Count > 0:
                Subscription closing = actor.Subscriptions[act.B % actor.Subscriptions.Count];
                actor.Subscriptions.Remove(closing);
                closing.Close();
                break;
            case ActKind.Receive when actor.Subscriptions.Count > 0:
                Receive(actor, actor.Subscriptions[act.B % actor.Subscriptions.Count], dice.Between(1, 40), TimeSpan.FromMilliseconds(dice.Of(0, 1, 1000)));
                break;
            case ActKind.Reject when _history.Setting.Mortality is not null && actor.InHand.Count > 0 && act.B % 2 == 0:
                actor.Reject([.. actor.InHand.Skip(dice.Below(actor.InHand.Count)).Take(dice.Between(1, 30))], dice.Of(ConfirmLevel.None, ConfirmLevel.Written, ConfirmLevel.Durable), dice);
                break;
            case ActKind.Accept or ActKind.Release or ActKind.Reject when actor.InHand.Count > 0:
                int first = dice.Below(actor.InHand.Count);
                Held[] several = [.. actor.InHand.Skip(first).Take(dice.Between(1, 30))];
                Outcome outcome = act.Kind == ActKind.Accept ? Outcome.Accept : act.Kind == ActKind.Release ? Outcome.Release : Outcome.Reject;
                ConfirmLevel level = dice.Of(ConfirmLevel.None, ConfirmLevel.Written, ConfirmLevel.Durable);
                bool isLater = _history.Setting.HasDelays && outcome == Outcome.Release;
                actor.Settle(several, outcome, level, isLater ? dice.Of(0, 1, 50, 2000, 20_000) : 0, isCounted: !isLater || dice.OnceIn(2));
                break;
            case ActKind.Extend when actor.InHand.Count > 0:
                actor.Extend(actor.InHand[act.B % actor.InHand.Count], TimeSpan.FromMilliseconds(dice.Of(1000, 20_000, 600_000)));
                break;
            case ActKind.Credit when actor.Subscriptions.Count > 0:
                actor.SetCredit(actor.Subscriptions[act.B % actor.Subscriptions.Count], dice.Of(0, 1, 50));
                break;
            case ActKind.Pass:
                Pass(dice.Of(10_000L, Second / 1000, Second / 20, Second, 6 * Second, 40 * Second));
                break;
            case ActKind.Leave:
                actor.Leave();
                break;
            case ActKind.Die:
                actor.Die();
                break;
            case ActKind.DieSoon:
                actor.Surroundings.DiesIn = dice.Between(1, 60);
                break;
            case ActKind.Hostile:
                new Intruder(_machine, dice).Intrude();
                break;
            case ActKind.KillBroker when _machine.IsUp:
                _machine.Fall(Crash.Kill);
                break;
            case ActKind.LosePower:
                _machine.Fall(Crash.Power);
                break;
            case ActKind.StopBroker:
                _machine.RequestStop();
                break;
            case ActKind.CrashAtStep:
                _machine.CrashAtStep(dice.Between(1, 60), dice.OnceIn(2) ? Crash.Kill : Crash.Power);
                break;
            case ActKind.StallDisk:
                _machine.StallDisk(dice.Of(Second / 100, Second, 30 * Second));
                break;
            case ActKind.FailWrite:
                _machine.FailWriteAfter(dice.Between(1, 40));
                break;
            case ActKind.FailSync:
                _machine.FailSyncAfter(dice.Between(1, 20));
                break;
            case ActKind.FillDisk:
                _machine.FillDisk(dice.OnceIn(2));
                break;
            case ActKind.FailRead:
                _machine.FailReadAfter(dice.Between(1, 60));
                break;
            case >= ActKind.RotBit and <= ActKind.SwapRecords when _history.Setting.IsDiskLying:
                TrialEnd end = _machine.Strike(act.Kind, dice);
                _model.GiveUp(end.Lost, end.Returned);
                break;
            case ActKind.CrashStarts:
                _machine.CrashStarts(dice.Between(1, 4));
                if (_machine.IsUp)
                {
                    _machine.Fall(dice.OnceIn(2) ? Crash.Kill : Crash.Power);
                }

                break;
            case ActKind.CrashWhere:
                int skipped = dice.Below(4);
                Func<Journal.StorageStep, bool> where = dice.Of<Func<Journal.StorageStep, bool>>(
                    static step => step.Path.Contains("/snapshots", StringComparison.Ordinal),
                    static step => step.Kind == Journal.StorageStepKind.Rename,
                    static step => step.Kind == Journal.StorageStepKind.Unlink,
                    static step => step.Kind == Journal.StorageStepKind.Allocate,
                    static step => step is { Kind: Journal.StorageStepKind.Write, Offset: 0 } && step.Path.EndsWith(".slot", StringComparison.Ordinal));
                _machine.CrashWhere(step => where(step) && skipped-- == 0, dice.OnceIn(2) ? Crash.Kill : Crash.Power);
                break;
            case ActKind.Transact when actor is not null:
                Transact(actor);
                break;
            case ActKind.PauseConsumer when actor?.Subscriptions.Count > 0:
                Subscription meant = actor.Subscriptions[act.B % actor.Subscriptions.Count];
                _ = actor.Session.PauseSubscription(_model.NameOf(meant.Queue), meant.Id, isPaused: dice.OnceIn(2));
                break;
            case ActKind.ShiftWall:
                ShiftWall(dice.Of(-3600, -1, 1, 60, 3600, 100_000) * Second);
                break;
        }
    }

    private string QueueName(int number) => string.Create(CultureInfo.InvariantCulture, $"q{number % _history.Setting.Queues}");

    /// <summary>Where dead letters are, their queue is sometimes meant; it may not be there.</summary>
    private string PlaceName(int number) => _history.Setting.Mortality is not null && number / _history.Setting.Queues % 4 == 0 ? Names.DeadLetterOf(QueueName(number)) : QueueName(number);

    private uint Known(QueueInfo queue)
    {
        _model.Name(queue.Id, queue.Name);
        return queue.Id;
    }

    private void Connect()
    {
        if (_actors.Count >= _history.Setting.Clients)
        {
            return;
        }

        InMachine surroundings = new(_machine, _dice) { DoubtsOneIn = _history.Setting.IsDoubting ? 4 : 0 };
        SessionOptions options = new() { Path = _machine.SocketPath, ClientName = "simulated", WantsCopies = _history.Setting.WantsCopies, VerifiesAll = _history.Setting.IsDoubting, SubmissionRingBytes = Limits.MinRingBytes, DeliveryRingBytes = Limits.MinRingBytes, Surroundings = surroundings };
        Actor actor = new(++_producers, Session.Connect(options), surroundings, _model, _machine);
        _actors.Add(actor);
        for (int i = 0; i < _history.Setting.Queues; i++)
        {
            Declare(actor, QueueName(i));
        }

        if (_history.Setting.HasRouting)
        {
            BindAll(actor);
        }
    }

    /// <summary>A broker that dies before this is on the disk may forget it: only then the exchange is used.</summary>
    private static void BindAll(Actor actor)
    {
        const string Exchange = "x";
        actor.Session.DeclareExchange(Exchange, ExchangeType.Topic);
        foreach (string queue in actor.Queues.Keys)
        {
            actor.Session.Bind(Exchange, queue, new BindingOptions { Key = "#" });
        }

        ExchangeHandle exchange = actor.Session.OpenExchange(Exchange);
        actor.Session.Flush();
        actor.Exchange = exchange;
    }

    private void Declare(Actor actor, string queue)
    {
        TimeSpan lease = TimeSpan.FromMilliseconds(_history.Setting.LeaseMilliseconds);
        QueueOptions options = _history.Setting.Mortality?.Options(lease) ?? new QueueOptions { Lease = lease, MaxDeliveries = 0, DeadLetter = "", Priority = _history.Setting.IsOrdered, Fifo = _history.Setting.IsOrdered, DedupWindow = TimeSpan.FromDays(30) };
        (int inFlight, int shared, int rate) = _history.Setting.Flow;
        if (inFlight > 0)
        {
            if (shared > 0)
            {
                actor.Session.DeclareLimit("shared", new FlowOptions { MaxInFlight = shared });
            }

            options = options with { Flow = new FlowOptions { MaxInFlight = inFlight, Limit = shared > 0 ? "shared" : "", Rate = new Rate(rate, RateUnit.Second) } };
        }

        actor.Queues[queue] = new QueueHandle(Known(actor.Session.DeclareQueue(queue, options)), queue);
    }

    /// <summary>Clients hold no more of a queue, nor of all together, than its limits allow; what the broker may take for lost does not count.</summary>
    private void MustBeWithinLimits(Held one)
    {
        (int inFlight, int shared, _) = _history.Setting.Flow;
        if (inFlight == 0 || one.IsOver(_machine.NowNanoseconds))
        {
            return;
        }

        Held[] open = [.. _actors.SelectMany(actor => actor.InHand).Where(held => !held.IsSettled && !held.IsOver(_machine.NowNanoseconds) && !_model.IsDeleted(held.Subscription.Queue))];
        int ofQueue = open.Count(held => held.Subscription.Queue == one.Subscription.Queue);
        Model.Must(ofQueue <= inFlight && (shared == 0 || open.Length <= shared), $"{ofQueue} of a queue are in flight that allows {inFlight}, and {open.Length} in all, of {shared}");
    }

    private void Publish(Actor actor, string queue, int count)
    {
        if (!actor.Queues.TryGetValue(queue, out QueueHandle handle))
        {
            return;
        }

        ConfirmLevel level = _dice.Of(ConfirmLevel.None, ConfirmLevel.Accepted, ConfirmLevel.Written, ConfirmLevel.Durable, ConfirmLevel.Durable);
        for (int i = 0; i < count; i++)
        {
            int most = _history.Setting.IsLarge && !_dice.OnceIn(6) ? 3000 : _history.Setting.MostBodyBytes;
            if (actor.Exchange is not null && _dice.OnceIn(2))
            {
                actor.PublishToAll(_dice.Between(0, most), level, _dice);
                continue;
            }

            long delay = _history.Setting.HasDelays && _dice.OnceIn(3) ? _dice.Of(1, 50, 2000, 20_000) : 0;
            long ttl = _history.Setting.Mortality is not null && _dice.OnceIn(4) ? _dice.Of(5, 100, 2000, 30_000) : 0;
            actor.Publish(handle, _dice.Between(0, most), level, _dice, delay, ttl, _history.Setting.IsOrdered ? Turn.Of(_dice) : default);
        }
    }

    /// <summary>Some messages to any queues, and some of what is in hand, together.</summary>
    private void Transact(Actor actor)
    {
        const int MostBytes = 2000; // Of one: all of them are to be within what a transaction may have.
        List<(QueueHandle Queue, int Bytes, Turn Turn)> messages = [];
        for (int left = _dice.Between(1, 8); left > 0; left--)
        {
            if (actor.Queues.TryGetValue(QueueName(_dice.Below(1000)), out QueueHandle queue))
            {
                messages.Add((queue, _dice.Between(0, Math.Min(MostBytes, _history.Setting.MostBodyBytes)), _history.Setting.IsOrdered ? Turn.Of(_dice) : default));
            }
        }

        Held[] several = [.. actor.InHand.Skip(_dice.Below(actor.InHand.Count + 1)).Take(_dice.Between(0, 10))];
        actor.Transact(messages, several, _dice.Of(ConfirmLevel.Accepted, ConfirmLevel.Written, ConfirmLevel.Durable), _dice);
    }

    private void Receive(Actor actor, Subscription subscription, int most, TimeSpan wait)
    {
        for (int i = 0; i < most; i++)
        {
            if (actor.Receive(subscription, wait) is not Held held)
            {
                return;
            }

            MustBeWithinLimits(held);
            _trace.Say($"{actor.Name} (subscription {subscription.Id}) has {held.Message.Producer}/{held.Message.Sequence}, tag {held.Delivery.Tag}, token {held.Delivery.TokenNumber}, count {held.Delivery.DeliveryCount}");
        }
    }

    private void Pass(long nanoseconds)
    {
        long until = _machine.NowNanoseconds + nanoseconds;
        while (_machine.NowNanoseconds < until)
        {
            _machine.StepUntil(until);
        }
    }

    /// <summary>Time that passed while the broker was down is the wall clock's to tell: set forward, it may end leases and delays.</summary>
    private void ShiftWall(long nanoseconds)
    {
        _machine.ShiftWall(nanoseconds);
        foreach (Sent message in _model.All)
        {
            (message.IsAgeUnknown, message.ExpiresByNanoseconds) = (true, long.MaxValue);
        }

        if (nanoseconds > 0)
        {
            foreach (Sent message in _model.All)
            {
                message.ExpiresFromNanoseconds = 0;
                (message.NotBeforeNanoseconds, message.ReleasedUntil, message.LastRelease) = (0, default, null);
                if (message.Claim is Held held)
                {
                    held.LeaseEndNanoseconds = 0;
                }
            }
        }
    }

    // ---- what the machine tells

    private void Crashed(Crash kind)
    {
        _model.Crash(kind);
        if (kind == Crash.Power)
        {
            _actors.ForEach(actor => actor.Surroundings.IsDead = true);
        }
    }

    private void Ended(string? failure)
    {
        if (failure is not null)
        {
            _model.Crash(Crash.Kill); // What was accepted and could not be written.
        }
    }

    // ---- the reckoning

    /// <summary>No more faults; all clients end; whoever comes now gets all that is wanted, once, and then nothing is left.</summary>
    private void Reckon()
    {
        _trace.Say("calm");
        _machine.Calm();
        foreach (Actor actor in _actors.Where(actor => !actor.IsGone).ToArray())
        {
            Try(actor, () => EndOf(actor));
            actor.Die();
        }

        _actors.Clear();
        Pass(700 * Second); // The longest lease of all, and the broker's patience with readers.
        if (_machine is { IsUp: false, IsRotten: true })
        {
            _machine.Count("fault that was found later: refused");
            return;
        }

        Model.Must(_machine.IsUp, $"the broker does not start: {_machine.Refusal}");
        _dice = new Dice(_history.Seed);
        Connect();
        Actor last = _actors[0];
        HashSet<Sent> came = [];
        Dictionary<string, QueueInfo> counted = last.Session.ListQueues().ToDictionary(queue => queue.Name);
        Dictionary<uint, long> damaged = [];
        string[] queues = [.. Enumerable.Range(0, _history.Setting.Queues).Select(QueueName)];
        foreach (string queue in queues)
        {
            Drain(last, queue, counted[queue], came, damaged);
        }

        foreach (string queue in queues.Select(Names.DeadLetterOf).Where(counted.ContainsKey))
        {
            Drain(last, queue, counted[queue], came, damaged);
        }

        _model.MustHaveCome(came, damaged);
        CheckDeaths(counted);
        foreach (QueueInfo queue in last.Session.ListQueues())
        {
            CheckSum(queue);
            long bad = damaged[queue.Id];
            Model.Must(queue is { Ready: 0, InFlight: 0 } && queue.Messages == bad && (queue.Bytes == 0 || bad > 0), $"{queue.Name} is drained, and is said to hold {queue.Messages} messages, {queue.Bytes} bytes, {queue.Ready} ready, {queue.InFlight} in flight, {bad} damaged");
        }

        CheckFloor(last);
        last.Leave();
    }

    /// <summary>Whatever a queue took is somewhere, and what died there is among the dead letters.</summary>
    private void CheckDeaths(Dictionary<string, QueueInfo> queues)
    {
        foreach (QueueInfo queue in queues.Values)
        {
            CheckSum(queue);
            CountDeaths(queue);
            Model.Must(queue.DeadLettering == 0 && (queue.DeadLetter.Length == 0 || queue.Discarded == 0), $"{queue.Name} is at rest, and {queue.DeadLettering} messages are on their way to the dead letters, {queue.Discarded} are gone");
            ulong buried = queues.TryGetValue(queue.DeadLetter, out QueueInfo? dead) ? dead.Published : 0;
            Model.Must(queue.DeadLetter.Length == 0 || _model.HasDeletions || buried == queue.DeadLettered, $"{queue.DeadLettered} messages left {queue.Name} for the dead letters, and {buried} arrived");
        }
    }

    private void CountDeaths(QueueInfo queue)
    {
        if (queue.DeadLetter.Length > 0)
        {
            _machine.Count("death of a message: rejected", (long)queue.Rejected);
            _machine.Count("death of a message: max-deliveries", (long)queue.Exhausted);
            _machine.Count("death of a message: expired", (long)queue.Expired);
        }
    }

    private static void CheckSum(QueueInfo queue)
    {
        ulong waiting = (ulong)(queue.Ready + queue.InFlight + queue.Delayed + queue.Damaged);
        Model.Must(queue.Published == queue.Accepted + queue.Rejected + queue.Exhausted + queue.Expired + queue.Purged + queue.Moved + waiting, $"the counts do not add up: {queue}");
    }

    /// <summary>All is settled: memory and slots return.</summary>
    private void CheckFloor(Actor last)
    {
        long slots, live, index;
        int asked = 0;
        do
        {
            Pass(700 * Second);
            using JsonDocument statistics = JsonDocument.Parse(last.Session.GetStatistics()); // Asking is work, too: a slot that ended just now goes when the journal has gone on.
            JsonElement journal = statistics.RootElement.GetProperty("journal");
            (slots, live, index) = (journal.GetProperty("slots").GetInt64(), journal.GetProperty("liveBytes").GetInt64(), statistics.RootElement.GetProperty("indexBytes").GetInt64());
        }
        while (slots > MostSlotsAtRest && ++asked < 8);

        Model.Must(_machine.IsRotten || (slots <= MostSlotsAtRest && live == 0 && index <= MostIndexBytesAtRest), $"nothing is left, and {slots} slots, {live} live bytes and an index of {index} bytes are");
    }

    private void EndOf(Actor actor)
    {
        if (_dice.OnceIn(2))
        {
            actor.Session.Flush(ConfirmLevel.Durable, TimeSpan.FromSeconds(300));
            actor.Look();
            actor.Leave();
        }
        else
        {
            Pass(Second); // So that the journal has room for one more.
            actor.Look(); // What was refused by now is known.
            Publish(actor, QueueName(_dice.Below(_history.Setting.Queues)), 1);
            actor.DieAfterItsCommits();
        }
    }

    private void Drain(Actor last, string queue, QueueInfo said, HashSet<Sent> came, Dictionary<uint, long> damaged)
    {
        (long counted, long bytes) = (said.Messages, said.Bytes);
        Subscription subscription = last.Session.Subscribe(queue, new SubscribeOptions { Lease = TimeSpan.FromMinutes(10) });
        List<Held> held = [];
        ulong before = 0;
        _model.Name(subscription.Queue, queue);
        while (ReceiveAny(last, subscription, held, ref counted) is Held one)
        {
            Model.Must(came.Add(one.Message), $"{one.Message} came twice");
            bool isOutOfTurn = _history.Setting.IsOrdered || (!one.IsDeadLetter && one.Delivery.DeliveryCount == _history.Setting.Mortality?.MaxDeliveries); // Those at their last delivery go first.
            MustBeInTurn(held, one);
            Model.Must(one.Delivery.Tag > before || isOutOfTurn || _history.Setting.IsDoubting, $"{one.Message} came after tag {before}: what was given back goes to its place"); // All is ready, and nobody else takes any.
            before = isOutOfTurn ? before : one.Delivery.Tag;
            held.Add(one);
            bytes -= one.Message.Body.Length + one.Delivery.Properties.Length;
            if (held.Count == 100)
            {
                AcceptAll(last, held, ref counted);
            }
        }

        last.Session.Flush(ConfirmLevel.Durable);
        last.Look();
        QueueInfo left = last.Session.GetQueue(queue);
        damaged[left.Id] = left.Damaged;
        Model.Must(left.Damaged == 0 || _machine.IsRotten, $"{queue} is said to hold {left.Damaged} damaged messages, and the disk is sound");
        Model.Must(counted == left.Damaged, $"{queue} was said to hold {counted} messages more than came, and {left.Damaged} of them are damaged");
        Model.Must(bytes == left.Bytes, $"{queue} was said to hold {bytes} bytes more than came, and {left.Bytes} are left");
    }

    /// <summary>All that may go has come since nothing was in hand: by priority, those of one by age.</summary>
    private void MustBeInTurn(List<Held> held, Held one)
    {
        bool isInTurn = !_history.Setting.IsOrdered || held.Count == 0 || Turn.AreInOrder(held[^1].Message, held[^1].Delivery.Tag, one.Message, one.Delivery.Tag);
        Model.Must(isInTurn, $"{one.Message} of priority {one.Message.Turn.Priority} came after tag {(held.Count > 0 ? held[^1].Delivery.Tag : 0)} of priority {(held.Count > 0 ? held[^1].Message.Turn.Priority : 0)}");
    }

    /// <summary>The next delivery; what is in hand is accepted first where that holds it back: a last delivery goes to one who holds nothing.</summary>
    private Held? ReceiveAny(Actor last, Subscription subscription, List<Held> held, ref long counted)
    {
        bool isSoonKnown = held.Count > 0 && _history.Setting.IsOrdered && _history.Setting.Flow == default; // The next of a group comes when the one before is settled; a limit on the rate lets one go that was chosen while those were in hand.
        Held? one = last.Receive(subscription, isSoonKnown ? TimeSpan.FromMilliseconds(50) : TimeSpan.FromSeconds(1));
        while (one is null && held.Count > 0)
        {
            AcceptAll(last, held, ref counted);
            one = last.Receive(subscription, TimeSpan.FromSeconds(1));
        }

        return one;
    }

    private static void AcceptAll(Actor last, List<Held> held, ref long counted)
    {
        last.Settle([.. held], Outcome.Accept, ConfirmLevel.Durable);
        counted -= held.Count;
        held.Clear();
    }
}

/// <summary>A program that does not keep to the protocol, and goes.</summary>
internal sealed unsafe class Intruder(Machine machine, Dice dice)
{
    public void Intrude()
    {
        InMachine surroundings = new(machine, dice);
        SessionOptions options = new() { Path = machine.SocketPath, ClientName = "intruder", Patience = TimeSpan.FromSeconds(1), SubmissionRingBytes = Limits.MinRingBytes, DeliveryRingBytes = Limits.MinRingBytes, Surroundings = surroundings };
        Span<byte> instance = stackalloc byte[16];
        surroundings.Fill(instance);
        using Welcome? welcome = Meet(options, instance, new Deadline(surroundings, options.Patience));
        if (welcome is null)
        {
            return;
        }

        ClientRings rings = welcome.Rings;
        for (int i = dice.OnceIn(4) ? 5000 : 0; i > 0; i--)
        {
            welcome.Bell.Signal(); // For nothing.
        }

        for (int i = 0; i < 20; i++)
        {
            int bytes = dice.Between(1, 40) * 8;
            if (rings.Submissions.Room(rings.Broker->SubmissionPosition) < bytes)
            {
                break;
            }

            surroundings.Fill(rings.Submissions.Next(bytes));
            rings.Submissions.Advance(bytes);
            rings.Submissions.Publish();
            switch (dice.Below(6))
            {
                case 0:
                    rings.Own->SubmissionHead = dice.Next();
                    break;
                case 1:
                    rings.Own->SubmissionHead -= 8;
                    break;
                case 2:
                    rings.Own->DeliveryPosition = dice.Next();
                    break;
                case 3:
                    rings.Own->SleepNumber = dice.Next();
                    break;
            }

            welcome.Bell.Signal();
            surroundings.Yield();
        }
    }

    /// <summary>As somebody new; or under the number of another's producer, with confirms that nobody gave it.</summary>
    private Welcome? Meet(SessionOptions options, ReadOnlySpan<byte> instance, in Deadline deadline)
    {
        (ulong producer, ulong claimed) = dice.OnceIn(3) ? ((ulong)dice.Between(1, 30), dice.Next()) : (0, 0);
        try
        {
            return Connector.TryConnect(options, instance, producer, claimed, options.SubmissionRingBytes, options.DeliveryRingBytes, deadline, out _);
        }
        catch (FastQException refused) when (producer != 0)
        {
            machine.Say($"an intruder that calls itself producer {producer} is told {refused.Name}");
            return null;
        }
    }
}
