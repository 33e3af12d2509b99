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
    private int _sequence;

    public Actor(int producer, Session session, InMachine surroundings, Model model, Machine machine)
    {
        (_producer, Session, Surroundings, _model, _machine) = (producer, session, surroundings, model, machine);
        session.Refused = _refusals.Add;
    }

    public string Name => $"client {_producer}";

    public Session Session { get; }

    public InMachine Surroundings { get; }

    public Dictionary<string, QueueHandle> Queues { get; } = [];

    public List<Subscription> Subscriptions { get; } = [];

    public List<Held> InHand { get; } = [];

    /// <summary>Its process has ended, or its session.</summary>
    public bool IsGone { get; private set; }

    public void Publish(QueueHandle queue, int bytes, ConfirmLevel level, Dice dice, long delayMilliseconds = 0)
    {
        Span<byte> room = stackalloc byte[256];
        PropertyWriter writer = new(room);
        if (delayMilliseconds > 0)
        {
            writer.Number(PropertyTag.Delay, PropertyType.Int64, delayMilliseconds);
        }

        if (dice.OnceIn(2))
        {
            writer.Header("n", $"{dice.Below(1000)}");
        }

        byte[] properties = writer.Written.ToArray();
        int sequence = ++_sequence;
        Sent message = new(_producer, sequence, queue.Id, Model.BodyOf(_producer, sequence, bytes, dice), properties) { NotBeforeNanoseconds = delayMilliseconds > 0 ? _machine.NowNanoseconds + delayMilliseconds * 1_000_000 : 0 };
        _model.Publish(message); // Before: it may die in the middle.
        message.Number = Session.Publish(queue, message.Body, level, properties);
        _unconfirmed.Add(message);
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
        Sent message = _model.Deliver(this, subscription.Queue, delivery, isFresh, isInTime: _machine.NowNanoseconds < leaseEnd);
        Held held = new(this, subscription, delivery, message, leaseEnd);
        message.Claim = message.Claim is Held other && other.LeaseEndNanoseconds > leaseEnd ? other : held; // One that lay in the ring beyond its lease is nobody's.
        InHand.Add(held);
        int inHand = InHand.Count(mine => mine.Subscription == subscription && !mine.IsOver(_machine.NowNanoseconds));
        Model.Must(inHand <= _mostCredit.GetValueOrDefault(subscription, subscription.Options.Credit), $"{Name} holds {inHand} deliveries of a subscription, more than its credit ever was");
        return held;
    }

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
        long until = delayMilliseconds > 0 ? _machine.NowNanoseconds + delayMilliseconds * 1_000_000 : 0;
        List<Held> gathered = [];
        foreach (Held held in several)
        {
            InHand.Remove(held);
            if (!subscription.Holds(held.Delivery))
            {
                continue; // Lost to others while the broker was away.
            }

            ulong before = Session.LastNumber;
            ulong sent = subscription.Settle(held.Delivery.Number, held.Delivery.Life, outcome, level, delayMilliseconds, isCounted);
            if (Session.LastNumber > before && sent == 0)
            {
                Note(gathered, Session.LastNumber, outcome, until); // It did not go on where the range ended.
            }

            held.Message.Count -= isCounted ? 0 : 1;
            gathered.Add(held);
            held.IsReleased = outcome == Outcome.Release;
            held.IsSettled = !held.IsReleased;
            if (held.IsSettled)
            {
                held.Message.Gone ??= ConfirmLevel.None;
            }

            if (sent != 0)
            {
                Note(gathered, sent, outcome, until);
            }
        }

        if (gathered.Count > 0)
        {
            Note(gathered, subscription.FlushSettles(), outcome, until);
        }
    }

    private void Note(List<Held> gathered, ulong number, Outcome outcome, long until)
    {
        _machine.Say($"{Name} settles {string.Join(' ', gathered.Select(held => $"{held.Message.Producer}/{held.Message.Sequence}"))} as {outcome}, number {number}");
        foreach (Held held in gathered)
        {
            Settling settling = new(number, held, outcome, until);
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
            _unconfirmed.Where(message => message.Number <= reached).ToList().ForEach(message => Model.Confirm(message, level));
            _settling.Where(settling => settling.Number <= reached).ToList().ForEach(settling => Model.ConfirmSettle(settling, level));
            foreach ((ulong number, Held held, long end) in _extending.Where(extending => extending.Number <= reached))
            {
                held.LeaseEndNanoseconds = end;
            }

            _extending.RemoveAll(extending => extending.Number <= reached);
        }

        _unconfirmed.RemoveAll(message => message.Confirmed == ConfirmLevel.Durable || message.IsRefused);
        _settling.RemoveAll(settling => settling.Held.Message.Gone == ConfirmLevel.Durable);
        InHand.RemoveAll(held => !held.Subscription.Holds(held.Delivery));
        foreach (Held held in InHand)
        {
            Model.Must(held.Delivery.Body.SequenceEqual(held.Message.Body), $"{held.Message} changed under the eyes of {Name}, who still reads it");
        }
    }

    private void TakeRefusals()
    {
        foreach (FastQException refusal in _refusals)
        {
            _machine.Say($"{Name} is refused number {refusal.Number}: {refusal.Name}");
            _unconfirmed.Where(message => message.Number == refusal.Number).ToList().ForEach(Model.Refuse);
            foreach (Settling late in _settling.Where(settling => settling.Number == refusal.Number))
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
        if (!IsGone && Session.Epoch == _machine.Epoch && !Session.IsEndedByBroker()) // One that was sent away meanwhile is told so at its next look only.
        {
            _unconfirmed.Where(message => message.Number > 0).ToList().ForEach(message => Model.Confirm(message, ConfirmLevel.Accepted));
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
