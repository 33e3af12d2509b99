using System.Buffers.Binary;
using System.Globalization;
using FastQ.Client;
using FastQ.Protocol;

namespace FastQ.Simulation;

// What the clients were told, and so what must be true. It knows commands, confirms, deliveries and settlements; nothing of the engine.
//
//   a message is     wanted: confirmed at a level that survived all crashes since; it must come until it is settled
//                    open: sent, but nothing was promised, or what was promised did not cover the crash that followed; it may come
//                    gone: settled, and that was confirmed at a level that survived; or refused; it must not come
//                    dead: rejected, or given back after its last delivery, and that was confirmed likewise, or it came from the dead
//                          letters: it must come from there, and from its queue no more. Till that is known it may come from either

/// <summary>A message as its producer knows it.</summary>
internal sealed class Sent(int producer, int sequence, uint queue, byte[] body, byte[] properties)
{
    public int Producer => producer;

    public int Sequence => sequence;

    public uint Queue => queue;

    /// <summary>Of the submission, in its session; 0 while it is being sent.</summary>
    public ulong Number { get; set; }

    public byte[] Body => body;

    public byte[] Properties => properties;

    /// <summary>The best confirm that still counts; a delivery counts as written.</summary>
    public ConfirmLevel Confirmed { get; set; }

    /// <summary>Its producer was told so: it must never come.</summary>
    public bool IsRefused { get; set; }

    /// <summary>The best confirm of its settling that still counts; null: nobody settled it for good, as far as is known.</summary>
    public ConfirmLevel? Gone { get; set; }

    /// <summary>A purge, or the death of who settled it, may have taken it.</summary>
    public bool MayBeGone { get; set; }

    /// <summary>0: not known.</summary>
    public ulong Tag { get; set; }

    /// <summary>Of its last delivery that a client took: the next one counts more.</summary>
    public int Count { get; set; }

    public (ulong Epoch, ulong Number) Token { get; set; }

    /// <summary>Who has it under a lease.</summary>
    public Held? Claim { get; set; }

    /// <summary>By the machine's clock: it was published to come no sooner.</summary>
    public long NotBeforeNanoseconds { get; set; }

    /// <summary>By the machine's clock: who held it last released it to come no sooner, and the best confirm of that which still counts.</summary>
    public (long Nanoseconds, ConfirmLevel Level) ReleasedUntil { get; set; }

    /// <summary>What is known of its death; null: nothing, it may be alive.</summary>
    public Fate? Fate { get; set; }

    /// <summary>Where it lies among the dead letters; null: it was not seen there.</summary>
    public Grave? Grave { get; set; }

    /// <summary>All that rejects ever said of it, whether they came in time or not.</summary>
    public List<Words> Rejects { get; } = [];

    /// <summary>The queue where it is, in worlds in which messages are moved; 0: not known.</summary>
    public uint At { get; set; }

    /// <summary>Its place there; 0: not known.</summary>
    public ulong AtTag { get; set; }

    /// <summary>It has died so often at the least, in worlds in which messages are moved.</summary>
    public long Deaths { get; set; }

    /// <summary>So many deaths it told of when it came last.</summary>
    public long DeathsTold { get; set; }

    /// <summary>So long it lives from when it is taken, its delay included; 0: for ever.</summary>
    public long LifeNanoseconds { get; init; }

    /// <summary>By the machine's clock: it does not expire before.</summary>
    public long ExpiresFromNanoseconds { get; set; }

    /// <summary>By the machine's clock: nobody gets it then or later.</summary>
    public long ExpiresByNanoseconds { get; set; } = long.MaxValue;

    /// <summary>An earlier one of its producer that has the same deduplication id; null: it has none, or it is the first.</summary>
    public Sent? SameAs { get; init; }

    /// <summary>The transaction that it was sent in; null: none.</summary>
    public Together? Together { get; init; }

    /// <summary>The one of its producer that had its schedule key before; null: it has none, or it is the first.</summary>
    public Sent? Before { get; init; }

    /// <summary>It was taken while the one before still waited for its time: that one is gone.</summary>
    public bool HasSuperseded { get; set; }

    /// <summary>The one that has its schedule key after it.</summary>
    public Sent? After { get; set; }

    /// <summary>What it says of its turn.</summary>
    public Turn Turn { get; init; }

    /// <summary>The wall clock was set while it was there: a stop of the broker may have counted as none.</summary>
    public bool IsAgeUnknown { get; set; }

    /// <summary>The last word of who released it to come later; whether it came in time may not be known yet.</summary>
    public Settling? LastRelease { get; set; }

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"message {sequence} of producer {producer} (queue {queue}, tag {Tag}, confirmed {Confirmed}{(Gone is ConfirmLevel gone ? $", gone {gone}" : "")}{(MayBeGone ? ", may be gone" : "")})");
}

/// <summary>What takes effect together.</summary>
internal sealed class Together
{
    public List<Sent> Parts { get; } = [];

    public List<Settling> Settled { get; } = [];

    /// <summary>One part came: so all are there, or were; and what was settled with them is gone.</summary>
    public void Take(Sent seen)
    {
        Model.Must(Parts.TrueForAll(part => !part.IsRefused), $"{seen} came, and another part of its transaction was refused");
        Parts.ForEach(part => Model.Confirm(part, ConfirmLevel.Written));
        foreach (Settling settling in Settled.Where(settling => settling.Held.Message.Gone is not null))
        {
            Model.ConfirmSettle(settling, ConfirmLevel.Written);
        }
    }
}

/// <summary>A delivery in a client's hands.</summary>
internal sealed class Held(Actor owner, Subscription subscription, Delivery delivery, Sent message, long leaseEndNanoseconds)
{
    public Actor Owner => owner;

    public Subscription Subscription => subscription;

    public Delivery Delivery => delivery;

    public Sent Message => message;

    /// <summary>By the machine's clock: before this nobody else may get it.</summary>
    public long LeaseEndNanoseconds { get; set; } = leaseEndNanoseconds;

    /// <summary>It came from the dead letters.</summary>
    public bool IsDeadLetter { get; init; }

    /// <summary>So often it had died when it came, in worlds in which messages are moved.</summary>
    public long Deaths { get; } = message.DeathsTold;

    /// <summary>Its owner has given it back, or to the dead letters.</summary>
    public bool IsReleased { get; set; }

    /// <summary>Its owner has accepted or rejected it; whether in time is not known yet.</summary>
    public bool IsSettled { get; set; }

    /// <summary>Somebody else may have it: by its owner's word, loss or death, or by the lease's end.</summary>
    public bool IsOver(long nowNanoseconds) => IsReleased || owner.IsGone || owner.IsSentAway || nowNanoseconds >= LeaseEndNanoseconds || delivery.Life != subscription.Life || subscription.Ended is not null || (!IsSettled && !subscription.Holds(delivery));
}

/// <summary>A settle under way.</summary>
/// <param name="UntilNanoseconds">Of a release with a delay or a back-off: nobody gets it before.</param>
/// <param name="Fate">What it dies of, if this comes in time; null: it does not.</param>
internal sealed record Settling(ulong Number, Held Held, Outcome Outcome, long UntilNanoseconds, Fate? Fate)
{
    /// <summary>The message came to somebody before its delay was over: so this must have come too late.</summary>
    public bool CameEarly { get; set; }
}

/// <summary>The promises, and what was seen against them.</summary>
internal sealed class Model(Trace trace)
{
    private const int StampBytes = 16;
    private readonly Dictionary<(int Producer, int Sequence), Sent> _sent = [];
    private readonly Dictionary<(int Producer, int Sequence, uint Queue), Sent> _copies = []; // Of what an exchange gives to several queues, those of all but the first.
    private readonly Dictionary<(uint Queue, ulong Tag), Sent> _byTag = [];
    private readonly Dictionary<(uint Queue, int Producer), SortedDictionary<int, Sent>> _order = [];
    private readonly HashSet<uint> _deletedQueues = [];
    private readonly HashSet<uint> _passingQueues = [];
    private readonly (Func<long> WallMicros, IReadOnlyList<(long From, long To)> Downs)? _calendar;
    private readonly Dictionary<uint, string> _names = [];

    /// <summary>Null: nothing dies.</summary>
    public Mortality? Mortality { get; init; }

    /// <summary>Messages have deduplication ids.</summary>
    public bool HasDuplicates { get; init; }

    /// <summary>Messages that wait have schedule keys.</summary>
    public bool HasKeys { get; init; }

    /// <summary>Messages of one group go one after the other.</summary>
    public bool IsOrdered { get; init; }

    /// <summary>Operators move messages: where these are. Null: they do not.</summary>
    public Whereabouts? Places { get; private set; }

    public bool HasSweeps
    {
        init => Places = value ? new Whereabouts(this) : null;
    }

    /// <summary>What consumers marked as processed. Null: they mark nothing.</summary>
    public Marks? Marks { get; init; }

    /// <summary>Schedules. Null: there are none.</summary>
    public Timetable? Timetable { get; private set; }

    /// <summary>Wall clock, and when no broker was up by it: where there are schedules.</summary>
    public (Func<long> WallMicros, IReadOnlyList<(long From, long To)> Downs)? Calendar
    {
        get => _calendar;
        init
        {
            _calendar = value;
            Timetable = value is null ? null : new Timetable(this);
        }
    }

    public bool HasDeletions => _deletedQueues.Count > 0;

    public IEnumerable<Sent> All => _copies.Count == 0 ? _sent.Values : _sent.Values.Concat(_copies.Values);

    public long Deliveries { get; private set; }

    /// <summary>A body that says whose it is: producer and sequence, then bytes that follow from them.</summary>
    public static byte[] BodyOf(int producer, int sequence, int length, Dice dice)
    {
        byte[] body = new byte[Math.Max(StampBytes, length)];
        for (int i = StampBytes; i < body.Length; i++)
        {
            body[i] = (byte)dice.Next();
        }

        BinaryPrimitives.WriteUInt64LittleEndian(body, (ulong)producer);
        BinaryPrimitives.WriteUInt64LittleEndian(body.AsSpan(8), (ulong)sequence);
        return body;
    }

    public void Publish(Sent message)
    {
        message.At = message.Queue;
        _sent.Add((message.Producer, message.Sequence), message);
    }

    /// <summary>One message for several queues: what is promised of it is promised in each.</summary>
    public void Publish(IReadOnlyList<Sent> copies)
    {
        Publish(copies[0]);
        foreach (Sent copy in copies.Skip(1))
        {
            _copies.Add((copy.Producer, copy.Sequence, copy.Queue), copy);
        }
    }

    public static void Confirm(Sent message, ConfirmLevel level)
    {
        if (!message.IsRefused && level > message.Confirmed)
        {
            message.Confirmed = level;
        }
    }

    public static void Refuse(Sent message)
    {
        if (message.Tag != 0)
        {
            throw new PromiseBroken($"{message} was delivered and is refused");
        }

        message.IsRefused = true;
    }

    /// <summary>It was seen that the broker has taken it: from now on it ages.</summary>
    public void Age(Sent message)
    {
        if (message is { LifeNanoseconds: > 0, IsRefused: false, IsAgeUnknown: false })
        {
            message.ExpiresByNanoseconds = Math.Min(message.ExpiresByNanoseconds, trace.NowNanoseconds + message.LifeNanoseconds);
        }
    }

    /// <summary>It was seen that the broker has taken it for the first time since a crash: where the one before it still waits, it has taken its place.</summary>
    public void Supersede(Sent message)
    {
        if (message is { Confirmed: ConfirmLevel.None, IsRefused: false, Before: Sent before })
        {
            message.HasSuperseded = trace.NowNanoseconds < before.NotBeforeNanoseconds;
        }
    }

    /// <summary>A queue's number is known.</summary>
    public void Name(uint queue, string name) => _names[queue] = name;

    public string NameOf(uint queue) => _names[queue];

    /// <summary>All whose numbers are known.</summary>
    public IEnumerable<uint> Queues => _names.Keys;

    /// <summary>Is this a queue of dead letters?</summary>
    public bool IsGraveyard(uint queue) => _names.TryGetValue(queue, out string? name) && _names.Values.Any(origin => Names.DeadLetterOf(origin) == name);

    /// <summary>Is the first of these where messages of the second go when they die?</summary>
    public bool IsDeadLetterOf(uint queue, uint origin) => _names.TryGetValue(queue, out string? name) && _names.TryGetValue(origin, out string? diedIn) && name == Names.DeadLetterOf(diedIn);

    /// <summary>Whose body begins like this?</summary>
    public bool TryFind(ReadOnlySpan<byte> body, out Sent? message)
    {
        message = null;
        return body.Length >= StampBytes && _sent.TryGetValue(KeyOf(body), out message);
    }

    public bool TryFind(int producer, int sequence, out Sent? message) => _sent.TryGetValue((producer, sequence), out message);

    private static (int Producer, int Sequence) KeyOf(ReadOnlySpan<byte> body) => ((int)BinaryPrimitives.ReadUInt64LittleEndian(body), (int)BinaryPrimitives.ReadUInt64LittleEndian(body[8..]));

    /// <summary>Also one for dead letters: whose those were, the one who deletes it cannot know.</summary>
    public void DeleteQueue(uint queue)
    {
        _deletedQueues.Add(queue);
        foreach (Sent message in All.Where(message => Places?.MayBeIn(message, queue) ?? IsDeadLetter(message, queue)))
        {
            message.MayBeGone = true;
        }
    }

    /// <summary>A queue that will go with all that it holds.</summary>
    public void Pass(uint queue) => _passingQueues.Add(queue);

    public bool IsDeleted(uint queue) => _deletedQueues.Contains(queue);

    /// <summary>What is ready goes; what that was, the one who purges cannot know.</summary>
    public void Purge(uint queue)
    {
        foreach (Sent message in All.Where(message => Places?.MayBeIn(message, queue) ?? (message.Queue == queue || IsDeadLetter(message, queue))))
        {
            message.MayBeGone = true;
        }
    }

    /// <summary>Is this the queue where it goes when it dies? Queues of one name have the same, one after the other.</summary>
    private bool IsDeadLetter(Sent message, uint queue) => Mortality is not null && IsDeadLetterOf(queue, message.Queue);

    /// <summary>A delivery came. Judges it, and gives whose message it is.</summary>
    /// <param name="who">To whom.</param>
    /// <param name="queue">From which queue.</param>
    /// <param name="delivery">What came.</param>
    /// <param name="isFreshSubscription">The queue was not deleted before.</param>
    /// <param name="isInTime">Its lease had not ended when the client took it.</param>
    /// <param name="handedOver">By the machine's clock, when the broker gave it away.</param>
    public Sent Deliver(Actor who, uint queue, in Delivery delivery, bool isFreshSubscription, bool isInTime, long handedOver)
    {
        Deliveries++;
        ReadOnlySpan<byte> body = delivery.Body;
        (int, int) key = body.Length < StampBytes ? (-1, -1) : KeyOf(body);
        Must(_copies.TryGetValue((key.Item1, key.Item2, queue), out Sent? message) || _sent.TryGetValue(key, out message) || (message = Timetable?.Find(key.Item1, queue, delivery, Calendar!.Value.WallMicros(), Calendar.Value.Downs)) is not null, $"a message that nobody sent came from queue {queue}, tag {delivery.Tag}");
        bool isDead = Places is null ? IsDeadLetter(message!, queue) : IsGraveyard(queue);
        Must(message!.Queue == queue || isDead || Places is not null, $"{message} came from queue {queue}");
        Must(body.SequenceEqual(message.Body), $"{message} came with another body");
        if (Places is not null)
        {
            Places.CheckStory(message, delivery, trace.NowNanoseconds);
        }
        else if (isDead)
        {
            Story.Check(message, _names[message.Queue], delivery, Mortality!.MaxDeliveries, trace.NowNanoseconds);
        }

        Must(isDead || Places is not null || delivery.Properties.SequenceEqual(message.Properties), $"{message} came with other properties");
        Must(!message.IsRefused, $"{message} was refused and came");
        Must(message.SameAs is not { Confirmed: > ConfirmLevel.None, IsRefused: false }, $"{message} came, and {message.SameAs} of the same deduplication id had been taken");
        Must(message.After is not { HasSuperseded: true, Confirmed: > ConfirmLevel.None, IsRefused: false }, $"{message} came, and {message.After} had taken its place while it waited");
        (ulong, ulong) token = (delivery.Subscription.Epoch, delivery.TokenNumber);
        Must(delivery.TokenNumber > 0, $"{message} came without a fencing token");
        if (!isInTime)
        {
            return message; // It lay in the ring beyond its lease: others may have had it since, and its token says so.
        }

        Must(message.Gone is null or ConfirmLevel.None, $"{message} was settled and came again to {who.Name}");
        Must(!isFreshSubscription || !_deletedQueues.Contains(queue), $"{message} came from a queue that was deleted");
        Must(message.Claim is not Held claim || claim.IsOver(trace.NowNanoseconds), $"{message} came to {who.Name} while {message.Claim?.Owner.Name} holds it");
        if (Places is not null)
        {
            Places.Take(message, queue, delivery, trace.NowNanoseconds, handedOver);
        }
        else if (isDead)
        {
            Bury(message, queue, delivery);
        }
        else
        {
            CheckAlive(message, delivery, handedOver);
        }

        if (IsOrdered)
        {
            CheckGroup(message, who);
        }

        Must(token.CompareTo(message.Token) > 0, $"{message} came with token {token} after {message.Token}");
        Must(delivery.DeliveryCount >= 1 && delivery.IsRedelivered == delivery.DeliveryCount > 1, $"{message} came with count {delivery.DeliveryCount}, redelivered {delivery.IsRedelivered}");
        Must(delivery.DeliveryCount > message.Count, $"{message} came with count {delivery.DeliveryCount} after {message.Count}");
        Must(trace.NowNanoseconds >= message.NotBeforeNanoseconds, $"{message} came {message.NotBeforeNanoseconds - trace.NowNanoseconds} ns before its delay was over");
        Must(isDead || trace.NowNanoseconds >= message.ReleasedUntil.Nanoseconds, $"{message} came {message.ReleasedUntil.Nanoseconds - trace.NowNanoseconds} ns before it was to come again");
        message.ReleasedUntil = default;
        if (message.LastRelease is Settling release && release.UntilNanoseconds > trace.NowNanoseconds && !isDead)
        {
            release.CameEarly = true;
        }

        message.LastRelease = null;
        if (!isDead && Places is null)
        {
            Place(message, delivery.Tag);
        }

        if (!isDead)
        {
            Age(message);
        }

        (message.Token, message.Count) = (token, delivery.DeliveryCount);
        Confirm(message, ConfirmLevel.Written);
        message.Together?.Take(message);
        message.Gone = null;
        return message;
    }

    /// <summary>It came from its queue: so it had not died there.</summary>
    private void CheckAlive(Sent message, in Delivery delivery, long handedOver)
    {
        if (Mortality is null)
        {
            return;
        }

        Must(message.Grave is null, $"{message} came from its queue after it had come from the dead letters");
        Must(message.Fate is null, $"{message} came from its queue after its death: {message.Fate}");
        Must(delivery.DeliveryCount <= Mortality.MaxDeliveries, $"{message} came with count {delivery.DeliveryCount}, and {Mortality.MaxDeliveries} are allowed");
        Must(handedOver < message.ExpiresByNanoseconds, $"{message} was handed over {handedOver - message.ExpiresByNanoseconds} ns after its time was over");
        if (message.Claim is Held before && before.Owner.LostByLeaseAlone(before))
        {
            long end = before.LeaseEndNanoseconds + Mortality.LeastWaitNanoseconds(before.Delivery.DeliveryCount);
            Must(trace.NowNanoseconds >= end, $"{message} came {end - trace.NowNanoseconds} ns before its back-off after an ended lease was over");
        }
    }

    /// <summary>Nobody holds another of its group, and of its producer's none that is older is still to come.</summary>
    private void CheckGroup(Sent message, Actor who)
    {
        foreach (Sent other in All.Where(other => other != message && other.Queue == message.Queue && other.Turn.Group == message.Turn.Group))
        {
            bool isHeld = other.Claim is Held { IsSettled: false } claim && !claim.IsOver(trace.NowNanoseconds);
            Must(!isHeld, $"{message} came to {who.Name} while {other.Claim?.Owner.Name} holds {other} of the same group");
            bool isStillToCome = other.Producer == message.Producer && other.Sequence < message.Sequence && other is { Confirmed: > ConfirmLevel.None, Gone: null, MayBeGone: false, IsRefused: false };
            Must(!isStillToCome, $"{message} came before {other}, an older one of the same group");
        }
    }

    /// <summary>It came from the dead letters: it has one place there, and one story, and counts anew.</summary>
    private void Bury(Sent message, uint queue, in Delivery delivery)
    {
        if (message.Grave is Grave known)
        {
            Must(known.Queue == queue && known.Tag == delivery.Tag && delivery.Properties.SequenceEqual(known.Properties), $"{message} lay under tag {known.Tag} of queue {known.Queue}, and came from queue {queue} with tag {delivery.Tag} or another story");
            return;
        }

        Must(_byTag.TryAdd((queue, delivery.Tag), message), $"{message} has the tag {delivery.Tag} of another dead letter");
        message.Grave = new Grave(queue, delivery.Tag, delivery.Properties.ToArray());
        message.Count = 0;
    }

    /// <summary>A message has one place for life, and places follow the order in which its producer sent.</summary>
    private void Place(Sent message, ulong tag)
    {
        if (message.Tag != 0)
        {
            Must(message.Tag == tag, $"{message} came with tag {tag}");
            return;
        }

        if (_byTag.TryGetValue((message.Queue, tag), out Sent? other) && other != message)
        {
            Must(other.Confirmed == ConfirmLevel.None, $"{message} has the tag {tag} of {other}");
            Displace(other);
        }

        message.Tag = tag;
        _byTag[(message.Queue, tag)] = message;
        if (!_order.TryGetValue((message.Queue, message.Producer), out SortedDictionary<int, Sent>? order))
        {
            _order[(message.Queue, message.Producer)] = order = [];
        }

        foreach ((int sequence, Sent neighbour) in order)
        {
            Must(sequence < message.Sequence ? neighbour.Tag < tag : neighbour.Tag > tag, $"{message} has tag {tag}, and {neighbour} the tag {neighbour.Tag}: not the order in which they were sent");
        }

        order[message.Sequence] = message;
    }

    private void Displace(Sent message)
    {
        _byTag.Remove((message.Queue, message.Tag));
        if (_order.TryGetValue((message.Queue, message.Producer), out SortedDictionary<int, Sent>? order))
        {
            order.Remove(message.Sequence);
        }

        message.Tag = 0;
    }

    /// <summary>A settle's confirm came.</summary>
    public static void ConfirmSettle(Settling settling, ConfirmLevel level)
    {
        bool isLast = settling.Held.Message.Token == (settling.Held.Delivery.Subscription.Epoch, settling.Held.Delivery.TokenNumber); // Nobody has had it since.
        if (settling.Fate is not null && level >= ConfirmLevel.Written && isLast)
        {
            settling.Held.Message.Deaths = settling.Held.Deaths + 1;
        }

        if (settling.Fate is Fate fate)
        {
            fate = fate with { Level = level };
            settling.Held.Message.Fate = settling.Held.Message.Fate is Fate known && known.Level >= level ? known : fate;
        }
        else if (settling.Outcome is Outcome.Accept or Outcome.Reject && (settling.Held.Message.Gone ?? ConfirmLevel.None) < level)
        {
            settling.Held.Message.Gone = level;
        }

        Must(!settling.CameEarly || level < ConfirmLevel.Written, $"{settling.Held.Message} was released to come later, in time, and came at once");
        if (settling.UntilNanoseconds > 0 && isLast && level > settling.Held.Message.ReleasedUntil.Level)
        {
            settling.Held.Message.ReleasedUntil = (settling.UntilNanoseconds, level);
        }
    }

    /// <summary>Nobody knows whether it was settled: it may come again, or not.</summary>
    public static void Unsettle(Sent message) => (message.Gone, message.MayBeGone) = (null, true);

    /// <summary>A repair has said that these are lost, and that the records of these others' going are.</summary>
    public void GiveUp(IReadOnlyList<(int Producer, int Sequence)> lost, IReadOnlyList<(int Producer, int Sequence)> returned)
    {
        foreach (Sent message in lost.Where(_sent.ContainsKey).Select(key => _sent[key]))
        {
            (message.MayBeGone, message.Confirmed) = (true, ConfirmLevel.None);
            if (message.Tag != 0)
            {
                Displace(message);
            }
        }

        foreach (Sent message in returned.Where(_sent.ContainsKey).Select(key => _sent[key]))
        {
            Unsettle(message);
            _deletedQueues.Remove(message.Queue);
        }
    }

    /// <summary>A crash takes back what did not cover it.</summary>
    public void Crash(Crash kind)
    {
        ConfirmLevel covered = kind == Simulation.Crash.Power ? ConfirmLevel.Durable : ConfirmLevel.Written;
        foreach (Sent message in All)
        {
            if (message.Gone is ConfirmLevel gone && gone < covered)
            {
                Unsettle(message);
            }

            message.ReleasedUntil = message.ReleasedUntil.Level < covered ? default : message.ReleasedUntil;
            message.Fate = message.Fate is Fate fate && fate.Level >= covered ? fate : null;
            if (message.Confirmed < covered)
            {
                (message.Confirmed, message.ExpiresByNanoseconds) = (ConfirmLevel.None, long.MaxValue); // Sent again, it begins to age again.
                message.HasSuperseded = false;
                if (message.Tag != 0 && kind == Simulation.Crash.Power)
                {
                    Displace(message);
                }
            }

            if (kind == Simulation.Crash.Power)
            {
                (message.Count, message.Claim) = (0, null);
                Exhume(message);
            }
        }

        if (kind == Simulation.Crash.Power)
        {
            Places?.LosePower();
            Marks?.LosePower();
        }
    }

    /// <summary>That it left for the dead letters was written at the most: it may go there again, to another place.</summary>
    private void Exhume(Sent message)
    {
        if (message.Grave is Grave grave)
        {
            _byTag.Remove((grave.Queue, grave.Tag));
            message.Grave = null;
        }
    }

    /// <summary>All was drained, and all faults have stopped: what had to come has come.</summary>
    /// <param name="came">All that came.</param>
    /// <param name="damaged">Of each queue how many messages are reported as damaged: so many, and no more, need not come.</param>
    public void MustHaveCome(IReadOnlySet<Sent> came, IReadOnlyDictionary<uint, long>? damaged = null)
    {
        Dictionary<uint, long> left = damaged is null ? [] : new(damaged);
        foreach (Sent message in All)
        {
            bool isWanted = message.Confirmed > ConfirmLevel.None && message.Gone is null && !message.MayBeGone && !message.IsRefused && !_passingQueues.Contains(message.Queue) && (Places is not null || !_deletedQueues.Contains(message.Grave?.Queue ?? message.Queue));
            if (isWanted && !came.Contains(message))
            {
                left[message.Queue] = left.GetValueOrDefault(message.Queue) - 1;
                Must(left[message.Queue] >= 0, $"{message} is lost");
            }
        }
    }

    public static void Must(bool isKept, string otherwise)
    {
        if (!isKept)
        {
            throw new PromiseBroken(otherwise);
        }
    }
}
