using FastQ.Protocol;
using Xunit;

namespace FastQ.Engine.Tests;

// The plainly right model: lists, no tricks. It does not choose who gets what (that is the engine's freedom); it judges each choice.

internal enum ModelState
{
    Ready,
    InFlight,
    Delayed,
    Damaged,
    Dying,
}

internal sealed class ModelMessage
{
    public required ulong Tag { get; init; }

    public required int BodyBytes { get; init; }

    public ModelState State { get; set; }

    public int Deliveries { get; set; }

    public uint Owner { get; set; }

    public ulong Delivery { get; set; }

    public long LeaseEndMicros { get; set; }

    public long DueMicros { get; set; }

    /// <summary>0: never.</summary>
    public long ExpiryMicros { get; set; }

    public DeathReason Reason { get; set; }

    public ulong Token { get; set; }
}

internal sealed class ModelQueue(QueueAttributes attributes)
{
    public QueueAttributes Attributes { get; set; } = attributes;

    public PausedWays Paused { get; set; }

    public List<ModelMessage> Messages { get; } = [];

    public ulong NextTag { get; set; } = 1;

    public ulong Published { get; set; }

    public ulong Accepted { get; set; }

    public Dictionary<DeathReason, ulong> Deaths { get; } = new() { [DeathReason.Rejected] = 0, [DeathReason.MaxDeliveries] = 0, [DeathReason.Expired] = 0, [DeathReason.Overflow] = 0 };

    public ulong DeadLettered { get; set; }

    public ulong Purged { get; set; }

    public bool IsLast(ModelMessage message) => Attributes.MaxDeliveries > 0 && message.Deliveries + 1 >= Attributes.MaxDeliveries;

    public IEnumerable<ModelMessage> Ready => Messages.Where(message => message.State == ModelState.Ready);
}

internal sealed class ModelSubscription
{
    public required uint Queue { get; init; }

    public required ulong Producer { get; init; }

    public required long LeaseMicros { get; init; }

    public ulong NextDelivery { get; set; } = 1;

    public uint Credit { get; set; }

    public bool IsAttached { get; set; } = true;
}

internal sealed class Model
{
    private ulong _lastToken;

    public Dictionary<uint, ModelQueue> Queues { get; } = [];

    public Dictionary<uint, ModelSubscription> Subscriptions { get; } = [];

    public Dictionary<ulong, ulong> LastNumbers { get; } = [];

    public IEnumerable<ModelMessage> HeldBy(uint subscription) =>
        Queues[Subscriptions[subscription].Queue].Messages.Where(message => message.State == ModelState.InFlight && message.Owner == subscription);

    /// <param name="queue">Where to.</param>
    /// <param name="bodyBytes">Properties counted in.</param>
    /// <param name="nowMicros">Now.</param>
    /// <param name="dueMicros">0: at once.</param>
    /// <param name="ttlMilliseconds">The message's own; 0: none.</param>
    public void Publish(uint queue, int bodyBytes, long nowMicros, long dueMicros = 0, long ttlMilliseconds = 0)
    {
        ModelQueue q = Queues[queue];
        long[] lives = [.. new[] { ttlMilliseconds, q.Attributes.TtlMilliseconds }.Where(life => life > 0)];
        long expiry = lives.Length > 0 ? Math.Max(nowMicros, dueMicros) + lives.Min() * 1000 : 0;
        q.Messages.Add(new ModelMessage { Tag = q.NextTag++, BodyBytes = bodyBytes, State = dueMicros > 0 ? ModelState.Delayed : ModelState.Ready, DueMicros = dueMicros, ExpiryMicros = expiry });
        q.Published++;
    }

    /// <summary>What has expired and is not in flight dies.</summary>
    public void Expire(long nowMicros)
    {
        foreach (ModelQueue queue in Queues.Values)
        {
            foreach (ModelMessage message in queue.Messages.Where(message => message.State is ModelState.Ready or ModelState.Delayed && message.ExpiryMicros != 0 && message.ExpiryMicros <= nowMicros).ToArray())
            {
                Die(queue, message, DeathReason.Expired);
            }
        }
    }

    private static void Die(ModelQueue queue, ModelMessage message, DeathReason reason)
    {
        queue.Deaths[reason]++;
        (message.State, message.Reason) = (ModelState.Dying, reason);
        if (queue.Attributes.DeadLetter!.Length == 0 || (reason == DeathReason.Overflow && queue.Attributes.Overflow != Overflow.DeadLetter))
        {
            queue.Messages.Remove(message);
        }
    }

    /// <summary>Would so many more messages, of so many bytes, be too many?</summary>
    public static bool Exceeds(ModelQueue queue, int more, int bytes)
    {
        ModelMessage[] waiting = [.. queue.Messages.Where(message => message.State is ModelState.Ready or ModelState.Delayed)];
        return (queue.Attributes.MaxLength > 0 && waiting.Length + more > queue.Attributes.MaxLength) || (queue.Attributes.MaxBytes > 0 && waiting.Sum(message => message.BodyBytes) + bytes > queue.Attributes.MaxBytes);
    }

    /// <summary>Where more waits than may, the oldest that could be delivered goes; where none could, the delayed one that is due first.</summary>
    public void PushOut()
    {
        foreach (ModelQueue queue in Queues.Values.Where(queue => queue.Attributes.Overflow != Overflow.Reject))
        {
            while (Exceeds(queue, 0, 0))
            {
                ModelMessage oldest = queue.Ready.MinBy(message => message.Tag) ?? queue.Messages.Where(message => message.State == ModelState.Delayed).MinBy(message => (message.DueMicros, message.Tag))!;
                Die(queue, oldest, DeathReason.Overflow);
            }
        }
    }

    /// <summary>A delivery that has ended otherwise than by an accept or a reject.</summary>
    private static void Return(ModelQueue queue, ModelMessage message, bool isCounted, long nowMicros, long dueMicros = 0)
    {
        message.Deliveries -= isCounted ? 0 : 1;
        if (isCounted && queue.Attributes.MaxDeliveries > 0 && message.Deliveries >= queue.Attributes.MaxDeliveries)
        {
            Die(queue, message, DeathReason.MaxDeliveries);
        }
        else if (message.ExpiryMicros != 0 && message.ExpiryMicros <= nowMicros)
        {
            Die(queue, message, DeathReason.Expired);
        }
        else
        {
            long backoff = isCounted && dueMicros == 0 ? queue.Attributes.BackoffAfter(message.Tag, message.Deliveries) * 1000 : 0;
            message.DueMicros = backoff > 0 ? nowMicros + backoff : dueMicros;
            message.State = message.DueMicros > 0 ? ModelState.Delayed : ModelState.Ready;
        }
    }

    /// <summary>A message that died is in another queue.</summary>
    public void Bury(DyingMessage dying, uint target, ulong tag, int bytes, long nowMicros)
    {
        ModelQueue source = Queues[dying.Queue];
        ModelMessage message = source.Messages.Single(message => message.Tag == dying.Tag);
        Assert.Equal((ModelState.Dying, dying.Reason, dying.Target), (message.State, message.Reason, source.Attributes.DeadLetter));
        source.Messages.Remove(message);
        source.DeadLettered++;
        long delay = Queues[target].Attributes.DelayMilliseconds;
        Publish(target, bytes, nowMicros, delay > 0 ? nowMicros + delay * 1000 : 0);
        Assert.Equal(tag, Queues[target].Messages[^1].Tag);
    }

    public void EndDelays(long nowMicros)
    {
        foreach (ModelMessage message in Queues.Values.SelectMany(queue => queue.Messages).Where(message => message.State == ModelState.Delayed && message.DueMicros <= nowMicros))
        {
            message.State = ModelState.Ready;
        }
    }

    /// <summary>Judges a delivery: the first in line, to one who may have it, with the next number and a token that rises.</summary>
    public void Deliver(Delivered delivered, long nowMicros)
    {
        ModelSubscription subscription = Subscriptions[delivered.Subscription];
        Assert.Equal(subscription.Queue, delivered.Queue);
        ModelQueue queue = Queues[delivered.Queue];
        ModelMessage[] held = [.. HeldBy(delivered.Subscription)];
        Assert.True(held.Length < subscription.Credit, "no credit");
        Assert.False(queue.Paused.HasFlag(PausedWays.Out), "from a paused queue");
        Assert.False(held.Any(message => message.Deliveries >= queue.Attributes.MaxDeliveries && queue.Attributes.MaxDeliveries > 0), "beside a message at its last delivery");
        ModelMessage first = queue.Ready.Single(message => message.Tag == delivered.Tag);
        Assert.True(!queue.IsLast(first) || held.Length == 0, "a message at its last delivery, beside others");
        Assert.Equal(queue.Ready.Where(message => queue.IsLast(message) == queue.IsLast(first)).MinBy(message => message.Tag), first);
        Assert.True(first.ExpiryMicros == 0 || first.ExpiryMicros > nowMicros, "an expired message");
        Assert.Equal(subscription.NextDelivery++, delivered.Delivery);
        Assert.True(delivered.Token > _lastToken && delivered.Token > first.Token, "a token does not rise");
        Assert.Equal(first.Deliveries + 1, delivered.Count);
        Assert.Equal(first.Deliveries > 0, delivered.IsRedelivered);
        _lastToken = first.Token = delivered.Token;
        (first.State, first.Deliveries, first.Owner, first.Delivery) = (ModelState.InFlight, first.Deliveries + 1, delivered.Subscription, delivered.Delivery);
        first.LeaseEndMicros = nowMicros + subscription.LeaseMicros;
    }

    /// <summary>The delivery numbers that are not open.</summary>
    public List<ulong> Settle(uint subscription, ulong first, uint count, Outcome outcome, long nowMicros, long dueMicros = 0, bool isCounted = true)
    {
        List<ulong> late = [];
        ModelQueue queue = Queues[Subscriptions[subscription].Queue];
        for (ulong delivery = first; delivery < first + count; delivery++)
        {
            if (HeldBy(subscription).FirstOrDefault(message => message.Delivery == delivery) is not ModelMessage message)
            {
                late.Add(delivery);
                continue;
            }

            if (outcome == Outcome.Release)
            {
                Return(queue, message, isCounted, nowMicros, dueMicros);
                continue;
            }

            if (outcome == Outcome.Reject)
            {
                Die(queue, message, DeathReason.Rejected);
                continue;
            }

            queue.Messages.Remove(message);
            queue.Accepted++;
        }

        return late;
    }

    public void GiveBack(uint subscription, ulong firstNotTaken, bool onlyNotTaken, long nowMicros)
    {
        foreach (ModelMessage message in HeldBy(subscription).ToArray())
        {
            if (message.Delivery >= firstNotTaken || !onlyNotTaken)
            {
                Return(Queues[Subscriptions[subscription].Queue], message, message.Delivery < firstNotTaken, nowMicros);
            }
        }
    }

    public void EndLeases(long nowMicros)
    {
        foreach (uint id in Subscriptions.Keys.ToArray())
        {
            foreach (ModelMessage message in HeldBy(id).Where(message => message.LeaseEndMicros <= nowMicros).ToArray())
            {
                Return(Queues[Subscriptions[id].Queue], message, isCounted: true, nowMicros);
            }

            if (!Subscriptions[id].IsAttached && !HeldBy(id).Any())
            {
                Subscriptions.Remove(id);
            }
        }
    }

    public void Purge(uint queue)
    {
        ModelQueue q = Queues[queue];
        q.Purged += (ulong)q.Messages.RemoveAll(message => message.State is ModelState.Ready or ModelState.Delayed);
    }

    public void Compare(QueueEngine engine)
    {
        Assert.Equal(Queues.Keys.Order(), engine.QueueIds.Order());
        foreach ((uint id, ModelQueue queue) in Queues)
        {
            QueueView view = engine.View(id);
            Assert.Equal(queue.Ready.LongCount(), view.Ready);
            Assert.Equal(queue.Messages.LongCount(message => message.State == ModelState.InFlight), view.InFlight);
            Assert.Equal(queue.Messages.LongCount(message => message.State == ModelState.Delayed), view.Delayed);
            Assert.Equal(queue.Messages.LongCount(message => message.State == ModelState.Damaged), view.Damaged);
            Assert.Equal(queue.Messages.LongCount(message => message.State == ModelState.Dying), view.Dying);
            Assert.Equal((queue.Published, queue.Accepted, queue.Purged, queue.DeadLettered), (view.Published, view.Accepted, view.Purged, view.DeadLettered));
            Assert.Equal((queue.Deaths[DeathReason.Rejected], queue.Deaths[DeathReason.MaxDeliveries], queue.Deaths[DeathReason.Expired], queue.Deaths[DeathReason.Overflow]), (view.Rejected, view.Exhausted, view.Expired, view.Overflowed));
            Assert.Equal(queue.Messages.Sum(message => (long)message.BodyBytes), view.Bytes);
        }

        foreach ((uint id, ModelSubscription subscription) in Subscriptions)
        {
            Assert.Equal((subscription.Queue, subscription.NextDelivery, HeldBy(id).LongCount()), (engine.ViewSubscription(id).Queue, engine.ViewSubscription(id).NextDelivery, engine.ViewSubscription(id).Open));
        }

        foreach ((ulong producer, ulong last) in LastNumbers)
        {
            Assert.Equal(last, engine.ViewProducer(producer).LastNumber);
        }
    }
}
