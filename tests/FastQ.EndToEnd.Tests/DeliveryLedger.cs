using System.Globalization;
using System.Text;
using FastQ.Client;

namespace FastQ.EndToEnd;

// What was sent, confirmed, seen and accepted, by whatever came out of the broker: the judge of the kill rounds.
//
//   sender    one life of one producer on one queue: messages 0, 1, 2 ... in this order, "sender.number.filler"
//   open      from its first message to the end of its round
//   closed    all that arrived was accepted: whatever comes of it now has come back from the dead
//
// Any thread. A violation is kept, not thrown: actors go on, and the round tells all that was found.

/// <summary>One life of a producer.</summary>
public sealed class Sender(int id, string queue, bool isInOrder)
{
    public int Id => id;

    public string Queue => queue;

    /// <summary>One consumer alone takes its queue: each message is seen first when all before it have been.</summary>
    public bool IsInOrder => isInOrder;

    /// <summary>Handed to the client library, perhaps.</summary>
    public int Sent { get; internal set; }

    /// <summary>Of these the client said that they are confirmed.</summary>
    public int Confirmed { get; internal set; }

    internal List<Fate> Fates { get; } = [];

    internal record struct Fate(bool IsSeen, bool IsSeenHere, bool IsAccepted, FencingToken Token);
}

/// <summary>The judge.</summary>
public sealed class DeliveryLedger
{
    private readonly object _gate = new();
    private readonly Dictionary<int, Sender> _open = [];
    private readonly List<string> _violations = [];
    private readonly Dictionary<string, long> _arrived = [];
    private int _lastId;

    /// <summary>Messages sent and sightings so far: the clock by which processes die.</summary>
    public long Progress { get; private set; }

    /// <summary>Deliveries of a message that had been seen before.</summary>
    public long Repeated { get; private set; }

    public IReadOnlyList<string> Violations
    {
        get
        {
            lock (_gate)
            {
                return [.. _violations];
            }
        }
    }

    /// <summary>Messages of closed senders that a queue has had, each once.</summary>
    public long ArrivedAt(string queue)
    {
        lock (_gate)
        {
            return _arrived.GetValueOrDefault(queue);
        }
    }

    public Sender Open(string queue, bool isInOrder)
    {
        lock (_gate)
        {
            Sender sender = new(++_lastId, queue, isInOrder);
            _open[sender.Id] = sender;
            return sender;
        }
    }

    /// <summary>The text of a message, made from its name alone.</summary>
    public static string BodyOf(int sender, int number)
    {
        Random random = new((sender * 7919) ^ (number * 104729));
        int length = random.Next(1000) switch
        {
            < 900 => random.Next(200),
            < 990 => random.Next(4096),
            _ => random.Next(300_000),
        };
        string name = string.Create(CultureInfo.InvariantCulture, $"{sender}.{number}.");
        return string.Create(name.Length + length, (name, first: random.Next(26)), static (text, from) =>
        {
            from.name.CopyTo(text);
            for (int i = from.name.Length; i < text.Length; i++)
            {
                text[i] = (char)('a' + ((from.first + (i * 7)) % 26));
            }
        });
    }

    /// <summary>The next message of a sender is about to be sent.</summary>
    public int Sending(Sender sender)
    {
        lock (_gate)
        {
            sender.Fates.Add(default);
            Advance();
            return sender.Sent++;
        }
    }

    public void Confirmed(Sender sender, int count)
    {
        lock (_gate)
        {
            sender.Confirmed = Math.Max(sender.Confirmed, count);
        }
    }

    /// <summary>A consumer of this process has a message in hand. Gives its name; null when it is not one of ours.</summary>
    public (Sender Sender, int Number)? Saw(string queue, in Delivery delivery)
    {
        FencingToken token = new(delivery.Subscription.Epoch, delivery.TokenNumber);
        string text = Encoding.UTF8.GetString(delivery.Body);
        lock (_gate)
        {
            if (Find(queue, text) is not (Sender sender, int number))
            {
                return null;
            }

            Sender.Fate fate = sender.Fates[number];
            Check(!fate.IsAccepted, $"{Name(text)}: its accept was confirmed, and it came again");
            Check(!fate.IsSeenHere || token > fate.Token, $"{Name(text)}: token {token} after {fate.Token}");
            Check(!fate.IsSeenHere || (delivery.IsRedelivered && delivery.DeliveryCount > 1), $"{Name(text)}: came again, not marked as redelivered (count {delivery.DeliveryCount})");
            CheckOrder(sender, number, fate);
            Repeated += fate.IsSeen ? 1 : 0;
            sender.Fates[number] = fate with { IsSeen = true, IsSeenHere = true, Token = token };
            Advance();
            return (sender, number);
        }
    }

    /// <summary>A consumer process printed a message. We read that later than it happened, so its accept elsewhere may lie between.</summary>
    public (Sender Sender, int Number)? SawPrinted(string queue, string text)
    {
        lock (_gate)
        {
            if (Find(queue, text) is not (Sender sender, int number))
            {
                return null;
            }

            Sender.Fate fate = sender.Fates[number];
            Repeated += fate.IsSeen ? 1 : 0;
            sender.Fates[number] = fate with { IsSeen = true };
            Advance();
            return (sender, number);
        }
    }

    /// <summary>The accepts of these were confirmed.</summary>
    public void Accepted(IEnumerable<(Sender Sender, int Number)> messages)
    {
        lock (_gate)
        {
            foreach ((Sender sender, int number) in messages)
            {
                sender.Fates[number] = sender.Fates[number] with { IsAccepted = true };
            }
        }
    }

    /// <summary>Both queues are empty: all that was confirmed has been seen, what was seen of each sender has no gap, and nothing of it may come again.</summary>
    public void CloseAll()
    {
        lock (_gate)
        {
            foreach (Sender sender in _open.Values)
            {
                int seen = sender.Fates.FindLastIndex(fate => fate.IsSeen) + 1;
                int[] lost = [.. Enumerable.Range(0, Math.Max(seen, sender.Confirmed)).Where(number => !sender.Fates[number].IsSeen)];
                Check(lost.Length == 0, $"sender {sender.Id} on {sender.Queue}: {lost.Length} lost, the first is {(lost.Length > 0 ? lost[0] : 0)}; {sender.Sent} sent, {sender.Confirmed} confirmed, {seen} seen");
                _arrived[sender.Queue] = _arrived.GetValueOrDefault(sender.Queue) + seen;
            }

            _open.Clear();
        }
    }

    public void Check(bool holds, string what)
    {
        if (!holds)
        {
            lock (_gate)
            {
                _violations.Add(what);
            }
        }
    }

    /// <summary>Waits until there is this much progress, or it is over by itself.</summary>
    public void AwaitProgress(long progress, Func<bool> isOver)
    {
        lock (_gate)
        {
            while (Progress < progress && !isOver())
            {
                _ = Monitor.Wait(_gate, 20);
            }
        }
    }

    /// <summary>Until there is some progress, or somebody should look elsewhere.</summary>
    public void AwaitNews()
    {
        lock (_gate)
        {
            _ = Monitor.Wait(_gate, 2);
        }
    }

    private void Advance()
    {
        Progress++;
        Monitor.PulseAll(_gate);
    }

    private (Sender Sender, int Number)? Find(string queue, string text)
    {
        string[] parts = text.Split('.', 3);
        bool isOurs = parts.Length == 3 & int.TryParse(parts[0], CultureInfo.InvariantCulture, out int id) & int.TryParse(parts.ElementAtOrDefault(1), CultureInfo.InvariantCulture, out int number);
        Check(isOurs && text == BodyOf(id, number), $"{queue}: bytes that nobody sent: {Name(text)}");
        if (!isOurs)
        {
            return null;
        }

        if (!_open.TryGetValue(id, out Sender? sender))
        {
            Check(false, $"{Name(text)}: came back after all of its sender had been accepted");
            return null;
        }

        Check(sender.Queue == queue, $"{Name(text)}: sent to {sender.Queue}, came from {queue}");
        Check(number < sender.Sent, $"{Name(text)}: never sent");
        return number < sender.Sent ? (sender, number) : null;
    }

    private void CheckOrder(Sender sender, int number, Sender.Fate fate)
    {
        if (sender.IsInOrder && !fate.IsSeen)
        {
            Check(number == 0 || sender.Fates[number - 1].IsSeen, $"sender {sender.Id} on {sender.Queue}: {number} was seen before {number - 1}");
        }
    }

    private static string Name(string text) => text.Length > 40 ? text[..40] + "..." : text;
}
