using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Broker;

/// <summary>What a session knows of one of its subscriptions.</summary>
internal sealed class SessionSubscription(uint id, uint queue)
{
    public uint Id => id;

    public uint Queue => queue;

    /// <summary>Deliveries below this number were taken from the ring.</summary>
    public ulong FirstNotTaken { get; set; } = 1;

    /// <summary>The engine passes it over until there is room in the ring.</summary>
    public bool IsHeld { get; set; }
}

/// <summary>A delivery that goes as a copy, when its record is written and there is room.</summary>
internal readonly record struct PendingCopy(ulong Block, DeliveriesHeader Header, DeliveryEntry Entry);

/// <summary>A client that has finished its handshake. The broker's thread only.</summary>
internal sealed class Session(ulong id, UnixSocket socket, RingPair rings, EventDescriptor bell, FileHandle pipeWrite, FileHandle? process, PeerCredentials peer, string name, ulong producer, bool wantsCopies) : IDisposable
{
    private readonly Queue<(ulong End, SessionSubscription Subscription, ulong NextDelivery)> _runs = new();

    public ulong Id => id;

    public UnixSocket Socket => socket;

    public EventDescriptor Bell => bell;

    public FileHandle? Process => process;

    public PeerCredentials Peer => peer;

    public string Name => name;

    public ulong Producer => producer;

    /// <summary>It does not get the slot files.</summary>
    public bool WantsCopies => wantsCopies;

    public RingPair Rings { get; private set; } = rings;

    /// <summary>The next pair of rings, offered.</summary>
    public RingPair? Offered { get; set; }

    /// <summary>The client has mapped the offered pair.</summary>
    public bool OfferedIsMapped { get; set; }

    /// <summary>The client writes to the offered pair already; we follow when everything in the old one is shown.</summary>
    public bool IsMoving { get; set; }

    public Confirms Confirms { get; } = new();

    /// <summary>The highest submission number decided.</summary>
    public ulong Decided { get; set; }

    /// <summary>Delivery ring up to here is shown.</summary>
    public ulong ShownHead { get; private set; }

    /// <summary>Where the last refusal ends in the delivery ring: the decided counter waits until that is shown.</summary>
    public ulong RefusalHead { get; set; }

    public Dictionary<uint, SessionSubscription> Subscriptions { get; } = [];

    /// <summary>Slot files that the client has.</summary>
    public HashSet<uint> KnownSlots { get; } = [];

    /// <summary>Slot files that the client has, and that are gone: it is to be told, when there is room.</summary>
    public Queue<uint> GoneSlots { get; } = [];

    public int SlotMessagesInFlight { get; set; }

    /// <summary>References to bytes whose delivery ended by other than the client's word: slot by (subscription, delivery).</summary>
    public Dictionary<(uint Subscription, ulong Delivery), uint> Orphans { get; } = [];

    /// <summary>Answers that wait for room.</summary>
    public Queue<byte[]> Answers { get; } = new();

    public Queue<PendingCopy> Copies { get; } = new();

    /// <summary>Replies to its requests that wait for room.</summary>
    public Queue<WaitingReply> Replies { get; } = new();

    /// <summary>What they are charged with.</summary>
    public long ReplyBytes { get; set; }

    public UnwantedReplies Unwanted { get; } = new();

    /// <summary>Deliveries of which it complained, and whose copies wait.</summary>
    public HashSet<(uint Subscription, ulong Delivery)> Complaints { get; } = [];

    /// <summary>How far the client has read its delivery ring, as last judged.</summary>
    public ulong ClientPosition { get; private set; }

    /// <summary>Something changed that a sleeping client wants to see.</summary>
    public bool HasNews { get; set; }

    /// <summary>Polled each turn; a cold one must ring.</summary>
    public bool IsHot { get; set; }

    /// <summary>Turns without anything, for becoming cold.</summary>
    public int QuietTurns { get; set; }

    /// <summary>In the list of those with something not durable.</summary>
    public bool IsListed { get; set; }

    public bool HasEnded { get; set; }

    /// <summary>Its client is gone: what its ring holds is being taken.</summary>
    public bool IsGone { get; set; }

    /// <summary>Rings without anything new in a row (DESIGN-REVIEW R32).</summary>
    public int IdleRings { get; set; }

    /// <summary>Its doorbell is not listened to until then; it is polled.</summary>
    public long DeafUntilMicros { get; set; }

    /// <summary>Room for deliveries and copies: a quarter of the ring is kept for refusals and answers (DESIGN-REVIEW R21).</summary>
    public long DeliveryRoom => Rings.Deliveries.Room(ClientPosition) - Rings.DeliveryBytes / 4;

    /// <summary>Room for a refusal or an answer. Who is gone reads none: they are not written, and keep nothing that it committed from being taken.</summary>
    public long AnswerRoom => IsGone ? long.MaxValue : Rings.Deliveries.Room(ClientPosition);

    /// <summary>Nothing keeps its ring from being read: a refusal of what comes next would fit, and no answer waits for room.</summary>
    public bool IsReadable => !IsMoving && Answers.Count == 0 && AnswerRoom >= Broker.NoticeBytes;

    /// <summary>A broker that is about to sleep would have something to do here: a submission that it may read, or room that the client gave back.</summary>
    public bool HasWork => HasGivenRoom || (IsReadable && Rings.Submissions.HasNews);

    /// <summary>The client has read on: there is room that something may wait for.</summary>
    public unsafe bool HasGivenRoom => Volatile.Read(ref Rings.Client->DeliveryPosition) != ClientPosition;

    /// <summary>Rereads how far the client has read. False: it went backwards or beyond what was shown.</summary>
    public unsafe bool TryUpdatePosition()
    {
        ulong position = Volatile.Read(ref Rings.Client->DeliveryPosition);
        if (position == ClientPosition)
        {
            return true;
        }

        if (position < ClientPosition || position > ShownHead)
        {
            return false;
        }

        ClientPosition = position;
        while (_runs.TryPeek(out (ulong End, SessionSubscription Subscription, ulong NextDelivery) run) && run.End <= position)
        {
            run.Subscription.FirstNotTaken = Math.Max(run.Subscription.FirstNotTaken, run.NextDelivery);
            _runs.Dequeue();
        }

        return true;
    }

    /// <summary>A run of deliveries ends here in the ring.</summary>
    public void AddRun(SessionSubscription subscription, ulong nextDelivery) => _runs.Enqueue((Rings.Deliveries.Head, subscription, nextDelivery));

    /// <summary>Shows the delivery ring up to a place.</summary>
    public void Show(ulong head)
    {
        Rings.Deliveries.PublishUpTo(head);
        ShownHead = head;
        HasNews = true;
    }

    /// <summary>Follows the client to the offered pair; the old one was read and shown to its end.</summary>
    public unsafe void Move()
    {
        RingPair old = Rings;
        RingPair next = Offered!;
        next.Broker->Decided = old.Broker->Decided;
        next.Broker->Written = old.Broker->Written;
        next.Broker->Durable = old.Broker->Durable;
        Rings = next;
        Offered = null;
        (IsMoving, OfferedIsMapped) = (false, false);
        (ShownHead, ClientPosition, RefusalHead) = (0, 0, 0);
        foreach ((_, SessionSubscription subscription, ulong nextDelivery) in _runs)
        {
            // What lies in the old ring stays the client's: it reads that ring to its end before it moves on.
            subscription.FirstNotTaken = Math.Max(subscription.FirstNotTaken, nextDelivery);
        }

        _runs.Clear();
        Invariant.Holds(IsHot); // Only a polled session moves, so nobody need ring for the new ring now.
        old.Dispose();
    }

    /// <summary>Rings the client, if it sleeps. After a fence.</summary>
    public void RingIfAsleep()
    {
        bool must = Rings.ClientRinger.MustRingAfterFence();
        must |= Offered is not null && Offered.ClientRinger.MustRingAfterFence();
        if (must)
        {
            _ = Pipe.TryWriteByte(pipeWrite);
        }

        HasNews = false;
    }

    public void Dispose()
    {
        Rings.Dispose();
        Offered?.Dispose();
        bell.Dispose();
        pipeWrite.Dispose();
        process?.Dispose();
        socket.Dispose();
    }
}
