using System.Runtime.InteropServices;
using System.Text;
using FastQ.Protocol;

namespace FastQ.Engine;

// What operators ask for, as it happens: a lease ended, a message was lost, a limit was hit. The engine says so in numbers, and the broker
// makes messages of it for the exchange fastq.events (Names.Events), which is always there. No part of the state: a replay tells nothing, and what was not
// made a message when the broker dies is forgotten. Where nothing is bound to the exchange all of it is one branch.
//
//   decide, apply --Tell--> ring of MostWaiting --broker--> RouteEvent --> messages, journaled as any other
//
// What happens to queues that get events is not told: else an event that overflows its queue would be an event.

/// <summary>What happened. Numbers are not kept anywhere.</summary>
public enum BrokerEventKind : byte
{
    LeaseEnded,
    MessageDeadLettered,

    /// <summary>It is gone, and there are no dead letters for it.</summary>
    MessageDropped,
    LimitHit,
    ConsumerAdded,
    ConsumerRemoved,
    QueueCreated,
    QueueDeleted,
    QueuePaused,
    QueueResumed,
    BreakerOpened,
    BreakerClosed,
    ConnectionOpened,
    ConnectionClosed,
    AlarmSet,
    AlarmCleared,
}

/// <summary>Why, where that is not the reason of a death or of an end.</summary>
public enum EventCause : byte
{
    None,

    /// <summary>Somebody asked for it.</summary>
    Command,

    /// <summary>Nobody used the queue for as long as it was told to wait.</summary>
    Idle,

    /// <summary>The session that the queue went with has ended.</summary>
    SessionEnded,
    QueueDeleted,

    /// <summary>Its client did not come back after a restart of the broker.</summary>
    NotReturned,

    /// <summary>Too many messages failed.</summary>
    Failures,

    /// <summary>The message that was tried alone failed.</summary>
    TrialFailed,

    /// <summary>The message that was tried alone was accepted.</summary>
    TrialAccepted,
}

/// <summary>A limit that was hit, or that an alarm is of.</summary>
public enum LimitKind : byte
{
    None,
    MaxLength,
    MaxBytes,
    MaxMessageSize,
    PublishRate,
    MaxInFlight,
    Rate,

    /// <summary>One that queues share: <see cref="BrokerEvent.Name"/> is its own.</summary>
    Shared,

    /// <summary>Memory for the indexes of all queues.</summary>
    Memory,
    Disk,
}

/// <summary>Something that happened. What does not belong to its kind is empty.</summary>
/// <param name="Kind">What.</param>
/// <param name="WallMicros">When.</param>
public readonly record struct BrokerEvent(BrokerEventKind Kind, long WallMicros)
{
    /// <summary>Name of the queue.</summary>
    public ReadOnlyMemory<byte> Queue { get; init; }

    public uint Subscription { get; init; }

    /// <summary>Place of the message.</summary>
    public ulong Tag { get; init; }

    public int Deliveries { get; init; }

    public DeathReason Death { get; init; }

    public EventCause Cause { get; init; }

    /// <summary>Why a connection, or a consumer with it, has ended.</summary>
    public RefusalCode End { get; init; }

    public PausedWays Ways { get; init; }

    public LimitKind Limit { get; init; }

    /// <summary>Of the limit.</summary>
    public long Value { get; init; }

    /// <summary>So many of the same were not told since the last one.</summary>
    public long Untold { get; init; }

    /// <summary>The queue goes with its session.</summary>
    public bool IsTemporary { get; init; }

    /// <summary>Name of the client. Filled in by the broker, as are the next.</summary>
    public string? Client { get; init; }

    public int Process { get; init; }

    /// <summary>The queue or exchange that a dead letter went to; or the name of a limit that queues share.</summary>
    public string? Name { get; init; }

    public string? MessageId { get; init; }
}

/// <summary>Events that wait to become messages: the oldest so many, the others are counted. Takes its memory when the first comes.</summary>
internal sealed class EventRing
{
    /// <summary>How many may wait: some turns of a flood.</summary>
    public const int MostWaiting = 1024;

    private BrokerEvent[] _ring = [];
    private int _first;

    public int Count { get; private set; }

    /// <summary>Had no room here, or in a queue that is bound.</summary>
    public ulong Dropped { get; set; }

    public void Add(in BrokerEvent one)
    {
        if (Count == MostWaiting)
        {
            Dropped++;
            return;
        }

        _ring = _ring.Length == 0 ? new BrokerEvent[MostWaiting] : _ring;
        _ring[(_first + Count++) % MostWaiting] = one;
    }

    public bool TryPeek(out BrokerEvent one)
    {
        one = Count > 0 ? _ring[_first] : default;
        return Count > 0;
    }

    public void Take()
    {
        _ring[_first] = default; // It holds names.
        (_first, Count) = ((_first + 1) % MostWaiting, Count - 1);
    }
}

public sealed partial class QueueEngine
{
    /// <summary>Id of the exchange that gets events, <see cref="Names.Events"/>: no queue or exchange ever gets the last one (see <see cref="ApplyDeclared"/>).</summary>
    public const uint EventsExchange = uint.MaxValue;

    /// <summary>Of one limit and queue it is told so often at most.</summary>
    private const long LimitToldMicros = 1_000_000;

    private readonly Exchange _eventsExchange = new(EventsExchange, Encoding.UTF8.GetBytes(Names.Events), ExchangeType.Topic, "");

    // ---- ephemeral

    private readonly EventRing _events = new();
    private readonly HashSet<uint> _eventQueues = [];
    private readonly Dictionary<(uint Queue, LimitKind Limit), (long ToldMicros, long Untold)> _limitsTold = [];
    private bool _eventQueuesAreOld = true;
    private bool _hasEventBindings;

    /// <summary>Somebody listens. All that makes an event asks this first.</summary>
    public bool TellsEvents => _hasEventBindings && _isLive;

    /// <summary>Events that are to become messages.</summary>
    public int WaitingEvents => _events.Count;

    /// <summary>Events that had no room, here or in a queue that is bound, since the start.</summary>
    public ulong DroppedEvents => _events.Dropped;

    /// <summary>Is memory for the indexes of queues running short? Told while an event still finds some: with a sixteenth left it is, and is not any more with an eighth.</summary>
    public bool IsMemoryShort(bool wasShort) => !_pages.HasRoomForBytes(_limits.IndexBytes / (wasShort ? 8 : 16));

    /// <summary>The event that happened first. It stays until <see cref="TakeEvent"/>.</summary>
    public bool TryNextEvent(out BrokerEvent one) => _events.TryPeek(out one);

    public void TakeEvent() => _events.Take();

    /// <summary>An event had no room where it was to go.</summary>
    public void DropEvent() => _events.Dropped++;

    /// <summary>Something happened that the engine does not see, to no queue.</summary>
    public void Tell(in BrokerEvent one)
    {
        if (TellsEvents)
        {
            _events.Add(one);
        }
    }

    /// <summary>Something happened to a queue that is there, which the engine does not see.</summary>
    /// <param name="queue">Its id.</param>
    /// <param name="one">All but the queue's name.</param>
    public void TellOf(uint queue, in BrokerEvent one)
    {
        if (TellsEvents && FindQueue(queue) is Queue found)
        {
            TellOf(found, one);
        }
    }

    /// <summary>Chooses the queues of an event: each that its key leads to and that takes it now. None waits for a queue that is full: what one does not take is counted. Changes nothing else.</summary>
    /// <param name="message">A whole record for <see cref="EventsExchange"/>, with its key.</param>
    /// <returns>Until the next call.</returns>
    public ReadOnlySpan<RoutedTarget> RouteEvent(ReadOnlySpan<byte> message)
    {
        MessageHeader header = MemoryMarshal.Read<MessageHeader>(message);
        ReadOnlySpan<byte> properties = message.Slice(MessageHeader.SizeBytes, header.PropertyBytes);
        if (header.BodyBytes > _limits.MaxMessageBytes || !TryReach(_eventsExchange, KeyIn(properties), properties, out ReadOnlySpan<Queue> queues))
        {
            _events.Dropped++;
            return default;
        }

        _targets = _targets.Length >= queues.Length ? _targets : new RoutedTarget[Limits.MaxFanout];
        (int count, int needy) = (0, 0);
        foreach (Queue queue in queues)
        {
            bool needsMemory = queue.Index.NeedsMemory || queue.GivesTerms;
            bool takes = (!needsMemory || _pages.HasRoomForPages(needy + 2)) && (!queue.HasLimits || JudgeSent(queue, message, header).IsTaken); // A page more, for what several share.
            if (takes)
            {
                needy += needsMemory ? 1 : 0;
                _targets[count++] = new RoutedTarget { Queue = queue.Id, Tag = queue.Index.NextTag };
            }

            _events.Dropped += takes ? 0u : 1u;
        }

        if (count > 1 && !_pages.HasRoom)
        {
            _events.Dropped += (ulong)count;
            return default;
        }

        return _targets.AsSpan(0, count);
    }

    /// <summary>Something happened to a queue. Only where <see cref="TellsEvents"/>.</summary>
    private void TellOf(Queue queue, in BrokerEvent one)
    {
        if (_eventQueuesAreOld)
        {
            FindEventQueues();
        }

        if (!_eventQueues.Contains(queue.Id))
        {
            _events.Add(one with { Queue = queue.Name });
        }
    }

    /// <summary>A limit kept something from a queue, or in it. Told at most once a second, with how often it was not.</summary>
    /// <returns>What was given: the refusal.</returns>
    private Decision TellLimit(Queue queue, LimitKind limit, Decision refusal, string? name = null)
    {
        if (!TellsEvents)
        {
            return refusal;
        }

        bool wasTold = _limitsTold.TryGetValue((queue.Id, limit), out (long ToldMicros, long Untold) told);
        if (wasTold && IntervalMicros - told.ToldMicros < LimitToldMicros)
        {
            _limitsTold[(queue.Id, limit)] = (told.ToldMicros, told.Untold + 1);
            return refusal;
        }

        _limitsTold[(queue.Id, limit)] = (IntervalMicros, 0);
        TellOf(queue, new BrokerEvent(BrokerEventKind.LimitHit, WallMicros) { Limit = limit, Value = (long)refusal.Value, Untold = told.Untold, Name = name });
        return refusal;
    }

    /// <summary>A queue is to be deleted. Before that: its bindings say whether it gets events.</summary>
    private void TellDeleted(Queue queue, EventCause cause)
    {
        if (!TellsEvents)
        {
            return;
        }

        foreach (Subscription subscription in queue.Subscriptions)
        {
            TellOf(queue, new BrokerEvent(BrokerEventKind.ConsumerRemoved, WallMicros) { Subscription = subscription.Id, Cause = EventCause.QueueDeleted });
        }

        TellOf(queue, new BrokerEvent(BrokerEventKind.QueueDeleted, WallMicros) { Cause = cause, IsTemporary = queue.Owner != 0 });
    }

    /// <summary>A queue's ways were changed by command: what of that was not so before?</summary>
    private void TellPaused(Queue queue, PausedWays before)
    {
        if (!TellsEvents)
        {
            return;
        }

        const PausedWays Both = PausedWays.In | PausedWays.Out;
        (PausedWays was, PausedWays now) = (before & Both, queue.Paused & Both);
        if (was != now)
        {
            TellOf(queue, new BrokerEvent(now == PausedWays.None ? BrokerEventKind.QueueResumed : BrokerEventKind.QueuePaused, WallMicros) { Ways = now == PausedWays.None ? was : now });
        }

        if ((before & ~queue.Paused & PausedWays.Breaker) != 0)
        {
            TellOf(queue, new BrokerEvent(BrokerEventKind.BreakerClosed, WallMicros) { Cause = EventCause.Command });
        }
    }

    /// <summary>A queue is gone.</summary>
    private void ForgetTold(Queue queue)
    {
        for (LimitKind limit = LimitKind.None; limit <= LimitKind.Disk && _limitsTold.Count > 0; limit++)
        {
            _ = _limitsTold.Remove((queue.Id, limit));
        }
    }

    /// <summary>Bindings or queues have changed.</summary>
    private void LookForEventQueues() => (_eventQueuesAreOld, _hasEventBindings) = (true, _eventsExchange.Count > 0);

    /// <summary>Queues that may get an event: by whatever key, through exchanges behind the first, and as dead letters of one that does.</summary>
    private void FindEventQueues()
    {
        _eventQueuesAreOld = false;
        _eventQueues.Clear();
        HashSet<Exchange> seen = [_eventsExchange];
        Queue<Exchange> exchanges = new(seen);
        Queue<Queue> queues = new();
        while (exchanges.Count + queues.Count > 0)
        {
            if (exchanges.TryDequeue(out Exchange? exchange))
            {
                Follow(exchange.Alternate, seen, exchanges);
                foreach (Binding binding in exchange.Bindings)
                {
                    Follow(binding.Exchange is null ? "" : Encoding.UTF8.GetString(binding.Exchange.Name), seen, exchanges);
                    Follow(binding.Queue, queues);
                }
            }
            else if (queues.TryDequeue(out Queue? queue))
            {
                Follow(queue.Attributes.DeadLetterExchange, seen, exchanges);
                Follow(_byName.GetValueOrDefault(queue.DeadLetter), queues);
            }
        }
    }

    private void Follow(string exchange, HashSet<Exchange> seen, Queue<Exchange> to)
    {
        if (exchange.Length > 0 && _exchangesByName.TryGetValue(exchange, out Exchange? found) && seen.Add(found))
        {
            to.Enqueue(found);
        }
    }

    private void Follow(Queue? queue, Queue<Queue> to)
    {
        if (queue is not null && _eventQueues.Add(queue.Id))
        {
            to.Enqueue(queue);
        }
    }
}
