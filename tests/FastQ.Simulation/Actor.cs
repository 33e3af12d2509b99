using FastQ.Client;
using FastQ.Protocol;

namespace FastQ.Simulation;

// A program with a session, and what it may take for granted.

/// <summary>One client of the world. Its producer number is its own: nobody else ever has it.</summary>
internal sealed class Actor
{
    private readonly int _producer;
    private readonly Model _model;
    private readonly Machine _machine;
    private readonly List<Sent> _unconfirmed = [];
    private readonly List<Settling> _settling = [];
    private readonly List<(ulong Number, Held Held, long LeaseEndNanoseconds)> _extending = [];
    private readonly List<FastQException> _refusals = [];
    private readonly Dictionary<Subscription, int> _mostCredit = [];
    private readonly Dictionary<uint, List<Sent>> _withIds = [];
    private readonly Dictionary<(uint Queue, int Key), Sent> _withKeys = [];
    private readonly List<(ulong Number, Mark Mark)> _marking = [];
    private int _sequence;

    public Actor(int producer, Session session, InMachine surroundings, Model model, Machine machine)
    {
        (_producer, Session, Surroundings, _model, _machine) = (producer, session, surroundings, model, machine);
        session.Refused = _refusals.Add;
        session.Duplicated = (number, _) => _unconfirmed.Where(message => message.Number == number).ToList().ForEach(Model.Refuse);
    }

    public string Name => $"client {_producer}";

    public Session Session { get; }

    public InMachine Surroundings { get; }

    public Dictionary<string, QueueHandle> Queues { get; } = [];

    /// <summary>Gives to all queues: known to be on the disk, with its bindings. Null: not known to be.</summary>
    public ExchangeHandle? Exchange { get; set; }

    public List<Subscription> Subscriptions { get; } = [];

    public List<Held> InHand { get; } = [];

    /// <summary>Its process has ended, or its session.</summary>
    public bool IsGone { get; private set; }

    /// <summary>The broker has sent it away, as it kept a slot from being used again: what it holds is others' at once, and it hears of it at its next look.</summary>
    public bool IsSentAway => !IsGone && Session.IsEndedByBroker();

    public void Publish(QueueHandle queue, int bytes, ConfirmLevel level, Dice dice, long delayMilliseconds = 0, long ttlMilliseconds = 0, Turn turn = default)
    {
        Span<byte> room = stackalloc byte[256];
        PropertyWriter writer = new(room);
        int? key = _model.HasKeys && dice.OnceIn(2) ? dice.Below(3) : null;
        if (key is not null)
        {
            delayMilliseconds = dice.Of(20, 500, 5000, 30_000);
            writer.Text(PropertyTag.ScheduleKey, $"{_producer}/{key}");
            writer.Number(PropertyTag.ScheduleMode, PropertyType.Int64, (long)dice.Of(ScheduleMode.Replace, ScheduleMode.Debounce));
        }

        if (delayMilliseconds > 0)
        {
            writer.Number(PropertyTag.Delay, PropertyType.Int64, delayMilliseconds);
        }

        if (ttlMilliseconds > 0)
        {
            writer.Number(PropertyTag.Ttl, PropertyType.Int64, ttlMilliseconds);
        }

        turn.Write(ref writer);
        Sent? same = null;
        if (_model.HasDuplicates && dice.OnceIn(2))
        {
            // Of its own ids alone: after a crash, what comes again comes in the same order.
            same = _withIds.TryGetValue(queue.Id, out List<Sent>? earlier) && dice.OnceIn(3) ? earlier[dice.Below(earlier.Count)] : null;
            writer.Text(PropertyTag.DeduplicationId, $"{_producer}/{same?.Sequence ?? _sequence + 1}");
        }

        if (dice.OnceIn(2))
        {
            writer.Header("n", $"{dice.Below(1000)}");
        }

        byte[] properties = writer.Written.ToArray();
        int sequence = ++_sequence;
        long life = ttlMilliseconds > 0 ? (delayMilliseconds + ttlMilliseconds) * 1_000_000 : 0;
        Sent message = new(_producer, sequence, queue.Id, Model.BodyOf(_producer, sequence, bytes, dice), properties)
        {
            NotBeforeNanoseconds = delayMilliseconds > 0 ? _machine.NowNanoseconds + delayMilliseconds * 1_000_000 : 0,
            LifeNanoseconds = life,
            ExpiresFromNanoseconds = _machine.NowNanoseconds + life,
            Turn = turn,
            SameAs = same,
            Before = key is int mark ? _withKeys.GetValueOrDefault((queue.Id, mark)) : null,
        };
        if (key is int held)
        {
            _withKeys[(queue.Id, held)] = message;
        }

        if (message.Before is Sent before)
        {
            (before.After, before.MayBeGone) = (message, true); // From now on: whether it still waited, the sender is not told.
        }

        if (_model.HasDuplicates && same is null && PropertyReader.TryFind(properties, PropertyTag.DeduplicationId, out _))
        {
            (_withIds.TryGetValue(queue.Id, out List<Sent>? mine) ? mine : _withIds[queue.Id] = []).Add(message);
        }

        _model.Publish(message); // Before: it may die in the middle.
        message.Number = Session.Publish(queue, message.Body, level, properties);
        _unconfirmed.Add(message);
    }

    /// <summary>Sends one message to all queues, through the exchange.</summary>
    public void PublishToAll(int bytes, ConfirmLevel level, Dice dice)
    {
        PropertyWriter writer = new(new byte[64]);
        writer.Text(PropertyTag.RoutingKey, $"k{dice.Below(3)}");
        byte[] properties = writer.Written.ToArray();
        int sequence = ++_sequence;
        byte[] body = Model.BodyOf(_producer, sequence, bytes, dice);
        Sent[] copies = [.. Queues.Values.Select(queue => new Sent(_producer, sequence, queue.Id, body, properties))];
        _model.Publish(copies); // Before: it may die in the middle.
        ulong number = Session.Publish(Exchange!.Value, body, level, properties);
        foreach (Sent copy in copies)
        {
            copy.Number = number;
            _unconfirmed.Add(copy);
        }
    }

    /// <summary>Publishes and accepts together. That it is taken is known of all parts when it is known of one.</summary>
    public void Transact(IReadOnlyList<(QueueHandle Queue, int Bytes, Turn Turn)> messages, IReadOnlyList<Held> several, ConfirmLevel level, Dice dice)
    {
        using SessionTransaction transaction = Session.BeginTransaction();
        Together together = new();
        foreach ((QueueHandle queue, int bytes, Turn turn) in messages)
        {
            PropertyWriter writer = new(new byte[256]);
            turn.Write(ref writer);
            int sequence = ++_sequence;
            Sent message = new(_producer, sequence, queue.Id, Model.BodyOf(_producer, sequence, bytes, dice), writer.Written.ToArray()) { Turn = turn, Together = together };
            transaction.Publish(queue, message.Body, message.Properties);
            together.Parts.Add(message);
        }

        List<Held> settled = [.. several.Where(held => held.Subscription.Holds(held.Delivery))];
        settled.ForEach(held => transaction.Accept(held.Delivery));
        if (transaction.Count == 0)
        {
            return;
        }

        together.Parts.ForEach(_model.Publish); // Before: it may die in the middle.
        ulong number = transaction.Send(level);
        _machine.Say($"{Name} publishes {string.Join(' ', together.Parts.Select(message => $"{message.Producer}/{message.Sequence}"))} and accepts {string.Join(' ', settled.Select(held => $"{held.Message.Producer}/{held.Message.Sequence}"))} together, number {number}");
        foreach (Sent message in together.Parts)
        {
            message.Number = number; // What becomes of it is told of the last one.
            _unconfirmed.Add(message);
        }

        foreach (Held held in settled)
        {
            InHand.Remove(held);
            held.IsSettled = true;
            held.Message.Gone ??= ConfirmLevel.None;
            Settling settling = new(number, held, Outcome.Accept, 0, null);
            held.Message.LastRelease = null;
            _settling.Add(settling);
            together.Settled.Add(settling);
        }
    }

    /// <summary>Takes one delivery, waiting at most so long. Null: none came.</summary>
    public Held? Receive(Subscription subscription, TimeSpan wait)
    {
        bool isFresh = !_model.IsDeleted(subscription.Queue);
        long until = _machine.NowNanoseconds + (long)wait.TotalNanoseconds;
        DeliveriesHeader header;
        Delivery delivery;
        do
        {
            _ = Session.Confirmed(ConfirmLevel.Accepted); // Reads the ring.
            while (NextRun(subscription) is null && _machine.NowNanoseconds < until)
            {
                Session.WaitForNewsWithin(TimeSpan.FromTicks((until - _machine.NowNanoseconds) / 100 + 1)); // Any news: confirms, too.
            }

            header = NextRun(subscription)?.Header ?? default;
            if (subscription.TryReceive(out delivery))
            {
                break;
            }

            if (_machine.NowNanoseconds >= until)
            {
                return null;
            }
        }
        while (true); // What it doubted comes again.

        bool isOfRun = delivery.Number - header.FirstDelivery < header.Count;
        long leaseEnd = isOfRun ? _machine.MomentOf(header.LeaseEndMicros) : 0;
        Sent message = _model.Deliver(this, subscription.Queue, delivery, isFresh, isInTime: _machine.NowNanoseconds < leaseEnd, leaseEnd - (long)subscription.Lease.TotalNanoseconds);
        Held held = new(this, subscription, delivery, message, leaseEnd) { IsDeadLetter = _model.Places is null ? message.Queue != subscription.Queue : _model.IsGraveyard(subscription.Queue) };
        message.Claim = message.Claim is Held other && other.LeaseEndNanoseconds > leaseEnd ? other : held; // One that lay in the ring beyond its lease is nobody's.
        InHand.Add(held);
        int inHand = InHand.Count(mine => mine.Subscription == subscription && !mine.IsOver(_machine.NowNanoseconds));
        Model.Must(inHand <= _mostCredit.GetValueOrDefault(subscription, subscription.Options.Credit), $"{Name} holds {inHand} deliveries of a subscription, more than its credit ever was");
        if (_machine.NowNanoseconds < leaseEnd)
        {
            CheckAlone(held);
        }

        return held;
    }

    /// <summary>A message's last delivery goes alone: nothing came beside it, and nothing comes till it is settled.</summary>
    private void CheckAlone(Held held)
    {
        if (_model.Mortality is Mortality mortality)
        {
            Held[] together = [.. InHand.Where(mine => mine.Subscription == held.Subscription && !mine.IsDeadLetter && !mine.IsOver(_machine.NowNanoseconds))];
            Model.Must(together.Length <= 1 || !together.Any(mine => mine.Delivery.DeliveryCount == mortality.MaxDeliveries), $"{held.Message} came to {Name} beside others, and one of them is at its last delivery");
        }
    }

    /// <summary>Nothing but its lease's end can have taken it from this client.</summary>
    public bool LostByLeaseAlone(Held held) =>
        !held.IsDeadLetter && !held.IsReleased && !held.IsSettled && !IsGone && Subscriptions.Contains(held.Subscription) && held.Subscription.Ended is null && held.Delivery.Life == held.Subscription.Life && !IsSentAway;

    public void SetCredit(Subscription subscription, int messages)
    {
        subscription.SetCredit(messages);
        _mostCredit[subscription] = Math.Max(_mostCredit.GetValueOrDefault(subscription, subscription.Options.Credit), messages);
    }

    private static DeliveryRun? NextRun(Subscription subscription) => subscription.Current ?? (subscription.Waiting.TryPeek(out DeliveryRun? run) ? run : null);

    /// <summary>Settles what is in hand, so many of them; neighbours of one subscription go as ranges.</summary>
    public void Settle(IReadOnlyList<Held> several, Outcome outcome, ConfirmLevel level, long delayMilliseconds = 0, bool isCounted = true)
    {
        foreach (IGrouping<Subscription, Held> group in several.GroupBy(held => held.Subscription))
        {
            SettleOf(group.Key, [.. group], outcome, level, delayMilliseconds, isCounted);
        }
    }

    private void SettleOf(Subscription subscription, IReadOnlyList<Held> several, Outcome outcome, ConfirmLevel level, long delayMilliseconds, bool isCounted)
    {
        Wish wish = new(outcome, delayMilliseconds, isCounted, _machine.NowNanoseconds);
        List<Held> gathered = [];
        foreach (Held held in several)
        {
            InHand.Remove(held);
            if (!subscription.Holds(held.Delivery))
            {
                continue; // Lost to others while the broker was away.
            }

            Foresee(held, outcome, default);
            ulong before = Session.LastNumber;
            ulong sent = subscription.Settle(held.Delivery.Number, held.Delivery.Life, outcome, level, delayMilliseconds, isCounted);
            if (Session.LastNumber > before && sent == 0)
            {
                Note(gathered, Session.LastNumber, wish); // It did not go on where the range ended.
            }

            held.Message.Count -= isCounted ? 0 : 1;
            gathered.Add(held);
            held.IsReleased = outcome == Outcome.Release || IsDeath(held, outcome);
            held.IsSettled = !held.IsReleased;
            if (held.IsSettled)
            {
                held.Message.Gone ??= ConfirmLevel.None;
            }

            if (sent != 0)
            {
                Note(gathered, sent, wish);
            }
        }

        if (gathered.Count > 0)
        {
            Note(gathered, subscription.FlushSettles(), wish);
        }
    }

    /// <summary>A settle as it was asked for, and when.</summary>
    private readonly record struct Wish(Outcome Outcome, long DelayMilliseconds, bool IsCounted, long BegunNanoseconds, Words Words = default);

    /// <summary>Rejects with words, one by one: each has words of its own.</summary>
    public void Reject(IReadOnlyList<Held> several, ConfirmLevel level, Dice dice)
    {
        foreach (Held held in several)
        {
            Words words = Words.Of(dice);
            InHand.Remove(held);
            if (held.Subscription.Holds(held.Delivery))
            {
                Foresee(held, Outcome.Reject, words);
                ulong number = held.Subscription.Reject(held.Delivery.Number, held.Delivery.Life, level, RejectWords.ToBytes(words.Text, words.Details));
                held.IsReleased = IsDeath(held, Outcome.Reject);
                held.IsSettled = !held.IsReleased;
                held.Message.Gone ??= held.IsSettled ? ConfirmLevel.None : null;
                Note([held], number == 0 ? held.Subscription.FlushSettles() : number, new Wish(Outcome.Reject, 0, true, _machine.NowNanoseconds, words));
            }
        }
    }

    /// <summary>Accepts a delivery, which may be lost already, and marks its key as processed, together.</summary>
    public void Process(Held held, byte[] result)
    {
        Sent message = held.Message;
        ConfirmLevel? gone = message.Gone;
        MarkAttempt attempt = _model.Marks!.Try(held.Subscription.Queue, Marks.KeyOf(message), result);
        InHand.Remove(held);
        message.Gone ??= ConfirmLevel.None;
        held.IsSettled = true;
        int reconnects = Session.Reconnects;
        ProcessedInfo? info = null;
        try
        {
            info = Session.AcceptProcessed(held.Delivery, Marks.KeyOf(message), result);
        }
        finally
        {
            if (info is null)
            {
                Model.Unsettle(message); // It died in the middle, or was refused.
            }
        }

        bool isRepeated = Session.Reconnects != reconnects;
        ulong number = Session.LastNumber;
        _machine.Say($"{Name} has processed {message.Producer}/{message.Sequence}: first {info.IsFirst}, late {info.WasLate}, number {number}");
        _model.Marks.Answer(attempt, info, isRepeated);
        if (info.IsFirst)
        {
            _marking.Add((number, attempt.Key.Known!));
        }

        if (!info.WasLate)
        {
            Settling settling = new(number, held, Outcome.Accept, 0, null);
            _settling.Add(settling);
            message.LastRelease = null;
            Model.ConfirmSettle(settling, ConfirmLevel.Written);
            return;
        }

        (held.IsReleased, held.IsSettled) = (true, false);
        message.Gone = gone; // It is somebody else's.
        if (isRepeated)
        {
            Model.Unsettle(message); // It may have been in time when it was asked first.
        }
    }

    /// <summary>Its death is under way: should this client die in the middle, the message may tell of it all the same.</summary>
    private void Foresee(Held held, Outcome outcome, Words words)
    {
        if (IsDeath(held, outcome))
        {
            held.Message.Rejects.Add(words);
        }
    }

    /// <summary>Is this a reject that leads to the dead letters? There are none for dead letters: what is rejected there is gone.</summary>
    private bool IsDeath(Held held, Outcome outcome) => _model.Mortality is not null && outcome == Outcome.Reject && !held.IsDeadLetter;

    private Fate? FateOf(Held held, in Wish wish)
    {
        if (IsDeath(held, wish.Outcome))
        {
            return new Fate(ConfirmLevel.None, DeathReason.Rejected, wish.Words);
        }

        bool isOver = wish is { Outcome: Outcome.Release, IsCounted: true } && !held.IsDeadLetter && held.Delivery.DeliveryCount == _model.Mortality?.MaxDeliveries;
        return isOver ? new Fate(ConfirmLevel.None, DeathReason.MaxDeliveries, default) : null;
    }

    /// <summary>Till when nobody gets what is released; 0: at once, or never again from there.</summary>
    private long UntilOf(Held held, in Wish wish)
    {
        if (wish.Outcome != Outcome.Release || FateOf(held, wish) is not null)
        {
            return 0;
        }

        bool backsOff = wish is { IsCounted: true, DelayMilliseconds: 0 } && !held.IsDeadLetter;
        long wait = backsOff ? _model.Mortality?.LeastWaitNanoseconds(held.Delivery.DeliveryCount) ?? 0 : wish.DelayMilliseconds * 1_000_000;
        return wait > 0 ? wish.BegunNanoseconds + wait : 0;
    }

    private void Note(List<Held> gathered, ulong number, in Wish wish)
    {
        _machine.Say($"{Name} settles {string.Join(' ', gathered.Select(held => $"{held.Message.Producer}/{held.Message.Sequence}"))} as {wish.Outcome}, number {number}");
        foreach (Held held in gathered)
        {
            long until = UntilOf(held, wish);
            Settling settling = new(number, held, wish.Outcome, until, FateOf(held, wish));
            _settling.Add(settling);
            held.Message.LastRelease = until > 0 ? settling : null;
        }

        gathered.Clear();
    }

    public void Extend(Held held, TimeSpan lease)
    {
        if (held.Subscription.Holds(held.Delivery))
        {
            long end = _machine.NowNanoseconds + (long)lease.TotalNanoseconds;
            held.LeaseEndNanoseconds = Math.Min(held.LeaseEndNanoseconds, end); // It begins anew: that may be sooner.
            ulong number = held.Subscription.Extend(held.Delivery, lease, ConfirmLevel.Written);
            _extending.Add((number, held, end));
        }
    }

    /// <summary>Looks at what the broker has confirmed or refused since.</summary>
    public void Look()
    {
        if (IsGone)
        {
            return;
        }

        ReadOnlySpan<ConfirmLevel> levels = [ConfirmLevel.Durable, ConfirmLevel.Written, ConfirmLevel.Accepted];
        foreach (ConfirmLevel level in levels)
        {
            if (level == ConfirmLevel.Accepted && Session.Epoch != _machine.Epoch)
            {
                continue; // A dead broker's word.
            }

            ulong reached = Session.Confirmed(level); // Takes what the ring holds: refusals come before a counter passes them.
            TakeRefusals();
            _unconfirmed.Where(message => message.Number <= reached).ToList().ForEach(message => Confirm(message, level));
            _settling.Where(settling => settling.Number <= reached).ToList().ForEach(settling => Model.ConfirmSettle(settling, level));
            foreach ((ulong number, Held held, long end) in _extending.Where(extending => extending.Number <= reached))
            {
                held.LeaseEndNanoseconds = end;
            }

            _extending.RemoveAll(extending => extending.Number <= reached);
            foreach ((_, Mark mark) in _marking.Where(marking => marking.Number <= reached && level == ConfirmLevel.Durable))
            {
                mark.IsDurable = true;
            }
        }

        _unconfirmed.RemoveAll(message => message.Confirmed == ConfirmLevel.Durable || message.IsRefused);
        _settling.RemoveAll(settling => settling.Held.Message.Gone == ConfirmLevel.Durable || settling.Held.Message.Fate?.Level == ConfirmLevel.Durable);
        InHand.RemoveAll(held => !held.Subscription.Holds(held.Delivery));
        foreach (Held held in InHand)
        {
            Model.Must(held.Delivery.Body.SequenceEqual(held.Message.Body), $"{held.Message} changed under the eyes of {Name}, who still reads it");
        }
    }

    private void Confirm(Sent message, ConfirmLevel level)
    {
        _model.Supersede(message);
        Model.Confirm(message, level);
        _model.Age(message);
    }

    private void TakeRefusals()
    {
        foreach (FastQException refusal in _refusals)
        {
            _machine.Say($"{Name} is refused number {refusal.Number}: {refusal.Name}");
            _unconfirmed.Where(message => message.Number == refusal.Number).ToList().ForEach(Model.Refuse);
            foreach (Settling late in _settling.Where(settling => settling.Number == refusal.Number && settling.Fate is null))
            {
                Model.Unsettle(late.Held.Message); // Too late, at least in part: whoever has it now will settle it.
            }

            _settling.RemoveAll(settling => settling.Number == refusal.Number);
            _extending.RemoveAll(extending => extending.Number == refusal.Number);
        }

        _refusals.Clear();
        Session.ClearRefusals();
    }

    /// <summary>It dies under a broker that lives, with a disk that has room: what it committed is in memory that the broker owns, and is taken.</summary>
    public void DieAfterItsCommits()
    {
        if (!IsGone && Session.Epoch == _machine.Epoch && !IsSentAway)
        {
            // Whether one of an id that was sent before was taken, or of a transaction that was refused, it cannot know.
            _unconfirmed.Where(message => message is { Number: > 0, SameAs: null, Together: null } && !_model.IsDeleted(message.Queue)).ToList().ForEach(message => Model.Confirm(message, ConfirmLevel.Accepted));
        }

        Die();
    }

    /// <summary>The end of its process: nothing it had under way is certain any more.</summary>
    public void Die()
    {
        if (!IsGone)
        {
            Session.Abandon();
            Forget();
        }
    }

    /// <summary>Closes in order.</summary>
    public void Leave()
    {
        Session.Dispose();
        Forget();
    }

    private void Forget()
    {
        IsGone = true;
        foreach (Settling settling in _settling.Where(settling => settling.Held.Message.Gone is ConfirmLevel.None))
        {
            Model.Unsettle(settling.Held.Message);
        }

        InHand.Clear();
    }
}
