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

    public ulong Token { get; set; }
}

internal sealed class ModelQueue
{
    public List<ModelMessage> Messages { get; } = [];

    public ulong NextTag { get; set; } = 1;

    public ulong Published { get; set; }

    public ulong Accepted { get; set; }

    public ulong Rejected { get; set; }

    public ulong Purged { get; set; }

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
    /// <param name="dueMicros">0: at once.</param>
    public void Publish(uint queue, int bodyBytes, long dueMicros = 0)
    {
        ModelQueue q = Queues[queue];
        q.Messages.Add(new ModelMessage { Tag = q.NextTag++, BodyBytes = bodyBytes, State = dueMicros > 0 ? ModelState.Delayed : ModelState.Ready, DueMicros = dueMicros });
        q.Published++;
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
        Assert.True(HeldBy(delivered.Subscription).Count() < subscription.Credit, "no credit");
        ModelMessage first = Queues[delivered.Queue].Ready.MinBy(message => message.Tag)!;
        Assert.Equal(first.Tag, delivered.Tag);
        Assert.Equal(subscription.NextDelivery++, delivered.Delivery);
        Assert.True(delivered.Token > _lastToken && delivered.Token > first.Token, "a token does not rise");
        Assert.Equal(first.Deliveries + 1, delivered.Count);
        Assert.Equal(first.Deliveries > 0, delivered.IsRedelivered);
        _lastToken = first.Token = delivered.Token;
        (first.State, first.Deliveries, first.Owner, first.Delivery) = (ModelState.InFlight, first.Deliveries + 1, delivered.Subscription, delivered.Delivery);
        first.LeaseEndMicros = nowMicros + subscription.LeaseMicros;
    }

    /// <summary>The delivery numbers that are not open.</summary>
    public List<ulong> Settle(uint subscription, ulong first, uint count, Outcome outcome, long dueMicros = 0, bool isCounted = true)
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
                message.Deliveries -= isCounted ? 0 : 1;
                (message.State, message.DueMicros) = (dueMicros > 0 ? ModelState.Delayed : ModelState.Ready, dueMicros);
                continue;
            }

            queue.Messages.Remove(message);
            queue.Accepted += outcome == Outcome.Accept ? 1u : 0u;
            queue.Rejected += outcome == Outcome.Reject ? 1u : 0u;
        }

        return late;
    }

    public void GiveBack(uint subscription, ulong firstNotTaken, bool onlyNotTaken)
    {
        foreach (ModelMessage message in HeldBy(subscription).ToArray())
        {
            if (message.Delivery >= firstNotTaken)
            {
                message.Deliveries--;
                message.State = ModelState.Ready;
            }
            else if (!onlyNotTaken)
            {
                message.State = ModelState.Ready;
            }
        }
    }

    public void EndLeases(long nowMicros)
    {
        foreach (uint id in Subscriptions.Keys.ToArray())
        {
            foreach (ModelMessage message in HeldBy(id).Where(message => message.LeaseEndMicros <= nowMicros).ToArray())
            {
                message.State = ModelState.Ready;
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
            Assert.Equal((queue.Published, queue.Accepted, queue.Rejected, queue.Purged), (view.Published, view.Accepted, view.Rejected, view.Purged));
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
