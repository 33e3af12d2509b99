using FastQ.Engine;
using FastQ.Journal;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Broker;

// Ends: of a session whose client is gone, or that is sent away; of the broker, in order or because the storage failed.

public sealed partial class Broker
{
    /// <summary>The client is gone: first what its ring holds (DESIGN-REVIEW R9), then its end. Where the journal has no room for what the ring holds, both wait for it.</summary>
    private void HangUp(Session session)
    {
        if (session.IsGone)
        {
            return; // It was in the middle of this, and looked at the socket again.
        }

        session.IsGone = true;
        if (TryTakeAll(session))
        {
            End(session, RefusalCode.Disconnected, "", tell: false);
            return;
        }

        StopListening(session); // Its hang-up would wake us again and again.
        _leaving.Add(session);
    }

    private readonly List<Session> _leaving = [];

    /// <summary>Takes what the ring of a client that is gone holds. False: there is more, and no room for it in the journal now.</summary>
    private bool TryTakeAll(Session session)
    {
        const long MostDeliveries = 16L * Limits.MaxSettleRange;
        session.Answers.Clear(); // Nobody reads them.
        long deliveries = 0;
        bool wasBlocked = _isBlocked;
        _isBlocked = false;
        while (!session.HasEnded && deliveries < MostDeliveries && (TakeFrom(session) > 0 || TryFollowGone(session)))
        {
            deliveries += _deliveriesTaken; // A ring may name a hundred thousand million in its settles: nobody waits for those.
        }

        // Only room in the journal is waited for: where there is enough for a refusal, it was that in its own ring, which will never come.
        bool isAll = session.HasEnded || !_isBlocked || (_journal.Room is JournalRoom.Plenty or JournalRoom.Scarce && _journal.TryReserve(SourceRecord.SizeBytes + QueueEngine.MaxFactBytes, out _, out _));
        _isBlocked |= wasBlocked;
        return isAll;
    }

    /// <summary>Who is gone in the middle of a move to larger rings reads the old ones no more: we follow at once, and find what it wrote into the new ones.</summary>
    private bool TryFollowGone(Session session)
    {
        if (!session.IsMoving || session.HasEnded)
        {
            return false;
        }

        _ringBytes -= session.Rings.Bytes;
        session.Move();
        return true;
    }

    /// <summary>Goes on with those who are gone and whose rings had to wait.</summary>
    private bool TakeLeaving()
    {
        bool worked = false;
        for (int i = _leaving.Count - 1; i >= 0; i--)
        {
            Session session = _leaving[i];
            if (TryTakeAll(session))
            {
                _leaving.RemoveAt(i);
                End(session, RefusalCode.Disconnected, "", tell: false);
                worked = true;
            }
        }

        return worked;
    }

    private void StopListening(Session session)
    {
        _ = _epoll.Remove(session.Socket.Descriptor);
        if (session.DeafUntilMicros == 0)
        {
            _ = _epoll.Remove(session.Bell.Descriptor);
        }

        if (session.Process is FileHandle process)
        {
            _ = _epoll.Remove(process.Descriptor);
        }
    }

    /// <summary>Ends a session: its deliveries go back, its memory goes.</summary>
    private void End(Session session, RefusalCode code, string text, bool tell = true)
    {
        if (session.HasEnded)
        {
            return;
        }

        session.HasEnded = true;
        TellConnection(session, BrokerEventKind.ConnectionClosed, code);
        if (tell)
        {
            // It lives, and reads on until it has heard of it: what it may have mapped is not used again in place (DESIGN-REVIEW R8).
            _retired.UnionWith(session.KnownSlots);
            Tell(session.Socket, HandshakeKind.Ended, code, text);
        }

        // What the client has taken by now is held; what it takes later it gives up, for it looks at this word after it has moved its position.
        unsafe
        {
            Volatile.Write(ref session.Rings.Broker->Ended, 1);
        }

        FenceClients();
        Interlocked.MemoryBarrier();
        _ = session.TryUpdatePosition();
        foreach (SessionSubscription subscription in session.Subscriptions.Values)
        {
            _bySubscription.Remove(subscription.Id);
            ReleaseSubscription(session, subscription, code, _isStopping);
        }

        foreach (uint slot in session.Orphans.Values)
        {
            Unpin(slot);
        }

        _engine.DetachProducer(session.Producer, _isStopping);
        _byProducer.Remove(session.Producer);
        DropReplies(session);
        StopListening(session);
        _ringBytes -= session.Rings.Bytes + (session.Offered?.Bytes ?? 0);
        _sessions.Remove(session.Id);
        _hot.Remove(session);
        session.Socket.Shutdown();
        _dead.Add(session); // Its memory may be in use further up this turn; it goes at the next upkeep.
    }

    private readonly List<Session> _dead = [];

    private readonly List<(SessionSubscription Subscription, Session Session, RefusalCode Code)> _unreleased = [];

    /// <summary>A session's end gives back at once what it held; at a stop its owner may come back, so only what it never saw goes back.</summary>
    private void ReleaseSubscription(Session session, SessionSubscription subscription, RefusalCode code, bool ownerMayReturn)
    {
        if (!_engine.IsSubscription(subscription.Id))
        {
            return;
        }

        if (!ownerMayReturn)
        {
            _unreleased.Add((subscription, session, code));
            _ = ReleaseLeft();
        }
        else if (_journal.TryReserve(SourceRecord.SizeBytes + QueueEngine.MaxFactBytes, out Span<byte> room, out _)) // Else it stays the owner's until its lease ends.
        {
            int source = BeginSource(0, room);
            int written = _engine.Detach(subscription.Id, subscription.FirstNotTaken, room[source..], _journal.OpenBlock);
            Commit(source + written, (source > 0 ? 1u : 0u) + (written > 0 ? 1u : 0u));
        }
    }

    /// <summary>Ends subscriptions whose sessions have ended. Where the journal has no room (a full disk, a slow one) they wait for it, and the turn does not.</summary>
    private bool ReleaseLeft()
    {
        bool worked = false;
        while (_unreleased.Count > 0)
        {
            if (!_journal.TryReserve(SourceRecord.SizeBytes + QueueEngine.MaxFactBytes, out Span<byte> room, out _))
            {
                _isBlocked = true;
                break;
            }

            (SessionSubscription subscription, Session session, RefusalCode code) = _unreleased[0];
            _unreleased.RemoveAt(0);
            if (_engine.IsSubscription(subscription.Id))
            {
                int source = BeginSource(0, room);
                Decision ended = _engine.Unsubscribe(subscription.Id, session.Producer, subscription.FirstNotTaken, room[source..], _journal.OpenBlock, out int written);
                Invariant.Holds(ended.IsTaken);
                TellRemoved(session, subscription.Queue, subscription.Id, code);
                Commit(source + written, (source > 0 ? 1u : 0u) + (written > 0 ? 1u : 0u));
                worked = true;
            }
        }

        return worked;
    }

    /// <summary>Its session has ended, and it is about to: nobody takes it up again.</summary>
    private bool IsUnreleased(uint subscription) => _unreleased.Count > 0 && _unreleased.Exists(left => left.Subscription.Id == subscription);

    /// <summary>An orderly stop: takes what the rings hold, finishes the blocks under way, gives back what no consumer took, and leaves a snapshot.</summary>
    private string? Stop()
    {
        foreach (Session session in _sessions.Values.ToArray())
        {
            _ = TakeFrom(session);
        }

        _journal.Seal();
        _journal.Drain();
        Complete();
        foreach (Session session in _sessions.Values.ToArray())
        {
            End(session, RefusalCode.ShuttingDown, "The broker is stopping.");
        }

        _journal.Seal();
        _journal.Drain();
        if (_journal.Failure is null && !_journal.SnapshotRunning)
        {
            _ = _journal.TakeSnapshot(_engine.Save);
            _journal.Drain();
        }

        if (_journal.Failure is null && _journal.SealClosing())
        {
            _journal.Drain();
        }

        _listener.RemoveName();
        return _journal.Failure?.Text;
    }

    /// <summary>The storage has failed: every session is told, nothing more is confirmed.</summary>
    private string Fail(JournalProblem problem)
    {
        foreach (Session session in _sessions.Values)
        {
            Tell(session.Socket, HandshakeKind.Ended, RefusalCode.StorageFailed, problem.Text);
            session.Socket.Shutdown();
        }

        _listener.RemoveName();
        return problem.Text;
    }
}
