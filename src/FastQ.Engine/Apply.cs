using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using FastQ.Protocol;

namespace FastQ.Engine;

// Apply: how each record changes the state. False: the record speaks of what is not there, which live is our bug and at recovery means
// that the data is not one whole history.

public sealed partial class QueueEngine
{
    private bool ApplySource(in SourceRecord record)
    {
        _source = null;
        _sourceNumber = 0;
        IntervalMicros = Math.Max(IntervalMicros, record.IntervalMicros);
        WallMicros = record.WallMicros;
        if (record.Producer == 0)
        {
            return record.IntervalMicros is >= 0 and <= LatestMicros;
        }

        if (!_producers.TryGetValue(record.Producer, out Producer? producer))
        {
            if (!IsLenient)
            {
                return false;
            }

            _producers[record.Producer] = producer = new Producer(record.Producer) { Last = record.FirstNumber - 1 };
            _nextProducer = Math.Max(_nextProducer, record.Producer + 1);
        }

        if (record.FirstNumber != producer.Last + 1 && !IsLenient)
        {
            return false;
        }

        producer.Last = record.FirstNumber - 1;
        producer.LastSeenMicros = IntervalMicros;
        _source = producer;
        _sourceNumber = record.FirstNumber;
        return true;
    }

    /// <summary>A numbered submission was decided.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void CountNumber()
    {
        if (_source is not null)
        {
            _source.Last = _sourceNumber;
            _sourceNumber++;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool ApplyMessage(ReadOnlySpan<byte> record, Place place, ulong block)
    {
        ref readonly MessageHeader header = ref MemoryMarshal.AsRef<MessageHeader>(record);
        CountNumber();
        Queue? queue = _lastQueue?.Id == header.Queue ? _lastQueue : FindQueue(header.Queue);
        if (queue is null || !IsNext(queue, header, place))
        {
            return false;
        }

        if (!HasTerms(queue, header))
        {
            Enqueue(queue, header.Tag, header.LengthBytes, place);
            return true;
        }

        if (!TryTermsOf(queue, record, header, out MessageTerms terms))
        {
            return false;
        }

        if (terms.ScheduleKey != 0)
        {
            terms = Supersede(queue, terms, block);
        }

        EnqueueOnTerms(queue, header.Tag, header.LengthBytes, place, terms, isPublished: true);
        return true;
    }

    /// <summary>Is this a whole message, with the tag that comes next in its queue?</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool IsNext(Queue queue, in MessageHeader header, Place place) =>
        header.LengthBytes is >= MessageHeader.SizeBytes and <= int.MaxValue && (place.Offset & 7) == 0 && header.Tag >= queue.Index.NextTag && (header.Tag == queue.Index.NextTag || (IsLenient && NoteMissed(queue, header.Tag)));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Enqueue(Queue queue, ulong tag, uint lengthBytes, Place place)
    {
        _ = ref AddTo(queue, tag, lengthBytes, place);
        queue.Ready++;
        Book(queue, lengthBytes, place, isShared: false, isPublished: true);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private void EnqueueOnTerms(Queue queue, ulong tag, uint lengthBytes, Place place, in MessageTerms terms, bool isPublished, bool isShared = false)
    {
        ref IndexEntry entry = ref AddTo(queue, tag, lengthBytes, place);
        if (isShared)
        {
            entry.Share();
        }

        entry.IsRequest = terms.IsRequest;
        if (queue.Attributes.IsOrdered)
        {
            queue.MakeOrder().Add(tag, terms.Traits);
        }

        if (terms.DueMicros != 0)
        {
            Delay(queue, tag, ref entry, terms.DueMicros);
        }
        else if (queue.Attributes.IsOrdered)
        {
            MakeReady(queue, tag, ref entry);
        }
        else
        {
            queue.Ready++;
        }

        if (terms.ExpiryMicros != 0)
        {
            SetExpiry(queue, tag, terms.ExpiryMicros);
        }

        if ((terms.DedupKey | terms.UniqueKey) != 0)
        {
            NoteSame(queue, tag, terms);
        }

        if (terms.ScheduleKey != 0)
        {
            NoteScheduled(queue, tag, terms);
        }

        Book(queue, lengthBytes, place, isShared, isPublished);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ref IndexEntry AddTo(Queue queue, ulong tag, uint lengthBytes, Place place)
    {
        ref IndexEntry entry = ref queue.Index.Add(tag);
        entry.Place(place, EntryState.Ready);
        entry.LengthBytes = lengthBytes;
        queue.WaitingBytes += lengthBytes - MessageHeader.SizeBytes;
        return ref entry;
    }

    /// <summary>A message was added, and it is known how it stands.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Book(Queue queue, uint lengthBytes, Place place, bool isShared, bool isPublished)
    {
        if (queue.HasLimits)
        {
            LookIfOver(queue);
            queue.LastUsedMicros = IntervalMicros;
            if (isPublished)
            {
                TakePublish(queue);
            }
        }

        queue.Published++;
        if (!isShared)
        {
            Arrive(place.Slot, lengthBytes); // What several queues share arrives when each of them has it.
        }

        if (!queue.IsListed)
        {
            List(queue);
        }
    }

    /// <summary>A message leaves its queue. The counts are the caller's.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Free(Queue queue, ulong tag, ref IndexEntry entry, ulong block)
    {
        if (entry.State == EntryState.Delayed)
        {
            queue.Due.Remove(tag);
        }

        if (queue.Expiry.Count > 0)
        {
            queue.Expiry.Remove(tag);
        }

        if (queue.KeepsMore)
        {
            queue.Forget(tag);
        }

        if (entry.IsShared)
        {
            LeaveShared(entry, block);
        }
        else
        {
            Leave(entry.Slot, entry.LengthBytes, block);
        }

        queue.Index.Remove(tag, ref entry);
    }

    /// <summary>Compaction wrote the message again elsewhere.</summary>
    private bool ApplyMoved(ReadOnlySpan<byte> record, Place place, ulong block)
    {
        MessageHeader header = MemoryMarshal.Read<MessageHeader>(record);
        if (FindQueue(header.Queue, withDeleted: true) is not Queue queue)
        {
            return false;
        }

        ref IndexEntry entry = ref queue.Index.Find(header.Tag);
        if (Unsafe.IsNullRef(ref entry) || entry.IsShared || entry.LengthBytes != header.LengthBytes || (place.Offset & 7) != 0)
        {
            return false;
        }

        Leave(entry.Slot, entry.LengthBytes, block);
        entry.Place(place, entry.State);
        if (entry.State == EntryState.Dying)
        {
            queue.DiedInBlock = block; // Where it lies now nobody can read it before that is written.
        }

        Arrive(place.Slot, header.LengthBytes);
        return true;
    }

    private bool ApplyFact(in FactRecord fact, ReadOnlySpan<byte> payload, ulong block)
    {
        switch (fact.Kind)
        {
            case RecordKind.NumberRefused:
                return ApplyRefused(fact);
            case RecordKind.TransactionRefused:
                return ApplyTransactionRefused(fact);
            case RecordKind.MessageProcessed:
                return ApplyProcessed(fact, payload, block);
            case RecordKind.CommandDone:
                CountNumber();
                return fact.First == (_source?.Last ?? 0) || IsLenient;
            case RecordKind.QueueDeclared:
                return ApplyDeclared(fact, payload);
            case RecordKind.QueueChanged:
                return FindQueue(fact.Subject) is Queue changed && ApplyChanged(changed, payload);
            case RecordKind.QueuePaused:
                return FindQueue(fact.Subject) is Queue paused && ApplyPaused(paused, (PausedWays)fact.Small);
            case RecordKind.QueueDeleted:
                return FindQueue(fact.Subject) is Queue deleted && ApplyDeleted(deleted);
            case RecordKind.QueuePurged:
                return FindQueue(fact.Subject) is Queue purged && ApplyPurged(purged, fact.First, block);
            case RecordKind.PurgeSlice:
                return FindQueue(fact.Subject, withDeleted: true) is Queue sliced && ApplySlice(sliced, fact.Count, block);
            case RecordKind.Subscribed:
                return ApplySubscribed(fact);
            case RecordKind.Unsubscribed:
                return FindSubscription(fact.Subject) is Subscription ended && ApplyUnsubscribed(ended, fact.First, block);
            case RecordKind.SubscriptionResumed:
                return FindSubscription(fact.Subject) is Subscription resumed && GiveBack(resumed, fact.First, ulong.MaxValue, fact.First, orphan: false, block);
            case RecordKind.LeaseEnded:
                return FindSubscription(fact.Subject) is Subscription expired && IsRange(expired, fact.First, fact.Count) && GiveBack(expired, fact.First, fact.First + fact.Count, fact.Small == FactRecord.Uncounted ? fact.First : ulong.MaxValue, orphan: true, block);
            case RecordKind.ProducerOpened:
                return ApplyOpened(fact);
            case RecordKind.ProducerForgotten:
                return _producers.Remove(fact.First);
            case RecordKind.RefusalFloor:
                return ApplyFloor(fact);
            case RecordKind.MessageDamaged:
                return FindQueue(fact.Subject) is Queue damaged && ApplyDamaged(damaged, fact.First);
            case RecordKind.MessagesDue:
                return FindQueue(fact.Subject) is Queue waiting && ApplyDue(waiting, fact);
            case RecordKind.MessagesExpired:
                return FindQueue(fact.Subject) is Queue aging && ApplyExpired(aging, fact, block);
            case RecordKind.DeathStopped:
                return FindQueue(fact.Subject) is Queue circled && ApplyStopped(circled, fact.First);
            case RecordKind.RequestEnded:
                return FindQueue(fact.Subject) is Queue asked && ApplyRequestEnded(asked, fact.First, block);
            case RecordKind.MessageDeleted:
                return FindQueue(fact.Subject) is Queue thinned && ApplyDeletedMessage(thinned, fact, block);
            case RecordKind.MessageChanged:
                return FindQueue(fact.Subject) is Queue holder && ApplyChangedMessage(holder, fact);
            case RecordKind.SweepStarted:
                return FindQueue(fact.Subject) is Queue swept && ApplySweepStarted(swept, fact, payload, block);
            case RecordKind.SweepEnded:
                return FindQueue(fact.Subject) is Queue done && ApplySweepEnded(done, fact);
            case RecordKind.ExchangeDeclared:
                return ApplyExchangeDeclared(fact, payload);
            case RecordKind.ExchangeDeleted:
                return fact.Subject != EventsExchange && _exchanges.TryGetValue(fact.Subject, out Exchange? dropped) && ApplyExchangeDeleted(dropped);
            case RecordKind.BindingChanged:
                return _exchanges.TryGetValue(fact.Subject, out Exchange? bound) && ApplyBinding(bound, fact, payload);
            case RecordKind.MessageUnrouted:
                return ApplyUnrouted(fact);
            case RecordKind.ScheduleSet:
                return ApplyScheduleSet(fact, payload);
            case RecordKind.ScheduleDeleted:
                return ApplyScheduleDeleted(fact);
            case RecordKind.SchedulePaused:
                return ApplySchedulePaused(fact);
            case RecordKind.ScheduleFired:
                return ApplyScheduleFired(fact);
            case RecordKind.MessagesDropped:
                return FindQueue(fact.Subject) is Queue full && ApplyDropped(full, fact.First, fact.Count, block);
            case RecordKind.LimitSet:
                return ApplyLimitSet(payload);
            case RecordKind.LimitDeleted:
                return ApplyLimitDeleted(payload);
            case RecordKind.SubscriptionPaused:
                return FindSubscription(fact.Subject) is Subscription stopped && ApplySubscriptionPaused(stopped, fact.Small);
            default:
                return false;
        }
    }

    private bool ApplyRefused(in FactRecord fact)
    {
        CountNumber();
        if (_source is null || fact.First != _source.Last)
        {
            return false;
        }

        _source.Refusals.Add(new KeptRefusal(fact.First, (RefusalCode)fact.Small));
        return true;
    }

    private bool ApplyDeclared(in FactRecord fact, ReadOnlySpan<byte> payload)
    {
        if (!FieldReader.TryBytes(payload, FieldTag.Name, out ReadOnlySpan<byte> name) || !Names.IsValid(name) || fact.Subject < _nextQueue || fact.Subject == uint.MaxValue)
        {
            return false;
        }

        string text = Encoding.UTF8.GetString(name);
        QueueAttributes attributes = QueueAttributes.From(payload).For(text);
        Queue queue = new(fact.Subject, name.ToArray(), attributes, _pages, _warm, fact.First);
        if (attributes.Fault(text).Length > 0 || !_byName.TryAdd(text, queue))
        {
            return false;
        }

        _queues.Add(fact.Subject, queue);
        _nextQueue = fact.Subject + 1;
        Use(queue);
        LookForEventQueues(); // It may be the dead letters of one that gets events.
        return TryLimit(queue);
    }

    /// <summary>What is there stays as it is, but for how often it may still be delivered.</summary>
    private bool ApplyChanged(Queue queue, ReadOnlySpan<byte> payload)
    {
        string name = Encoding.UTF8.GetString(queue.Name);
        QueueAttributes attributes = QueueAttributes.From(payload).For(name);
        if (attributes.Fault(name).Length > 0)
        {
            return false;
        }

        int before = queue.MostDeliveries;
        bool heldGroups = queue.Attributes.Flow.DelayHoldsGroup;
        queue.Change(attributes);
        LookForEventQueues(); // Its dead letters may go elsewhere.
        if (!TryLimit(queue))
        {
            return false;
        }

        if (heldGroups != attributes.Flow.DelayHoldsGroup)
        {
            StandAgain(queue);
        }

        if (queue.MostDeliveries != before)
        {
            LineAgain(queue);
        }

        Use(queue);
        ListIfDying(queue); // It may have dead letters again.
        TryAsideAgain(); // Or they may go elsewhere.
        List(queue);
        return true;
    }

    /// <summary>Whether what is delayed holds those behind it has changed.</summary>
    private static void StandAgain(Queue queue)
    {
        ulong end = queue.Index.NextTag;
        for (ulong tag = queue.Index.Next(0, end); tag < end && queue.Order is not null; tag = queue.Index.Next(tag + 1, end))
        {
            ref IndexEntry entry = ref queue.Index.Find(tag);
            if (entry.State == EntryState.Delayed && !queue.IsVoid(tag, entry))
            {
                queue.Order.Move(tag, queue.StandingOfDelayed(entry));
            }
        }
    }

    /// <summary>Which delivery is a message's last has changed.</summary>
    private static void LineAgain(Queue queue)
    {
        ForgetReturned(queue);
        ulong end = queue.Index.NextTag;
        for (ulong tag = queue.Index.Next(0, end); tag < end; tag = queue.Index.Next(tag + 1, end))
        {
            ref IndexEntry entry = ref queue.Index.Find(tag);
            if (entry.State == EntryState.Returned && !queue.IsVoid(tag, entry))
            {
                Line(queue, tag, entry);
            }
        }
    }

    private bool ApplyPaused(Queue queue, PausedWays ways)
    {
        if ((queue.Paused & ~ways & PausedWays.Breaker) != 0)
        {
            queue.Flow!.Breaker!.Forget();
        }

        bool isKnown = ways <= (PausedWays.In | PausedWays.Out | PausedWays.Breaker) && (ways & ~queue.Paused & PausedWays.Breaker) == 0;
        queue.Pause(isKnown ? ways : queue.Paused);
        List(queue);
        return isKnown;
    }

    private bool ApplyDeleted(Queue queue)
    {
        _byName.Remove(Encoding.UTF8.GetString(queue.Name));
        UnbindAllTo(queue.Id);
        ForgetTold(queue);
        queue.IsDeleted = true;
        _lastQueue = null;
        foreach (Subscription subscription in queue.Subscriptions.ToArray())
        {
            EndOpenAsOrphans(subscription);
            RemoveSubscription(subscription);
            if (_isLive)
            {
                _ended.Enqueue(new EndedSubscription(subscription.Id, RefusalCode.QueueDeleted));
            }
        }

        queue.Ready = queue.InFlight = queue.Delayed = queue.Damaged = queue.Dying = queue.WaitingBytes = queue.HeldBytes = 0;
        Unlimit(queue);
        queue.PurgeEnd = queue.Index.NextTag;
        queue.PurgeNext = queue.Index.Next(0, queue.PurgeEnd);
        queue.Due.Dispose();
        queue.Expiry.Dispose();
        queue.Order?.Dispose();
        queue.Ledger?.Dispose();
        queue.Processed?.Dispose();
        queue.Unique?.Dispose();
        queue.Scheduled?.Dispose();
        queue.DyingTags.Dispose();
        queue.DyingRequests.Dispose();
        queue.Unroutable.Dispose();
        RemoveSchedulesOf(queue);
        ForgetAllWords(queue);
        ForgetReturned(queue);
        _purging.Add(queue.Id);
        return true;
    }

    /// <summary>All that is ready or delayed is purged by the counts. A purge that was still under way is taken in: its walk begins anew.</summary>
    private bool ApplyPurged(Queue queue, ulong end, ulong block)
    {
        if (end != queue.Index.NextTag)
        {
            return false;
        }

        if (queue.PurgeGeneration == ushort.MaxValue && queue.PurgeEnd != 0)
        {
            _ = ApplySlice(queue, uint.MaxValue, block); // Before the number begins again, nothing may hold an old one.
        }

        queue.PurgeGeneration++;
        queue.Purged += (ulong)(queue.Ready + queue.Delayed);
        queue.Ready = 0;
        queue.Delayed = 0;
        queue.WaitingBytes = 0;
        queue.PurgeNext = queue.Index.Next(0, end);
        queue.PurgeEnd = end;
        queue.Cursor = Math.Max(queue.Cursor, end);
        queue.Due.Dispose();
        queue.Order?.Purge(queue.PurgeGeneration);
        ForgetReturned(queue);
        _purging.Add(queue.Id);
        return true;
    }

    /// <summary>Looks at the next <paramref name="count"/> tags of a purge or deletion. The counts have changed already.</summary>
    private bool ApplySlice(Queue queue, uint count, ulong block)
    {
        if (queue.PurgeEnd == 0)
        {
            return false;
        }

        ulong end = Math.Min(queue.PurgeNext + count, queue.PurgeEnd);
        for (ulong tag = queue.Index.Next(queue.PurgeNext, end); tag < end; tag = queue.Index.Next(tag + 1, end))
        {
            ref IndexEntry entry = ref queue.Index.Find(tag);
            if (queue.IsDeleted || queue.IsVoid(tag, entry))
            {
                Free(queue, tag, ref entry, block);
            }
        }

        queue.PurgeNext = end;
        if (end < queue.PurgeEnd)
        {
            return true;
        }

        queue.PurgeEnd = queue.PurgeNext = 0;
        _purging.Remove(queue.Id);
        if (queue.IsDeleted)
        {
            _queues.Remove(queue.Id);
            queue.Dispose();
        }

        return true;
    }

    private bool ApplySubscribed(in FactRecord fact)
    {
        if (FindQueue(fact.Count) is not Queue queue || fact.Subject < _nextSubscription || fact.Subject == uint.MaxValue || (long)fact.Second is < Limits.MinLeaseMilliseconds or > Limits.MaxLeaseMilliseconds || !ConsumerRank.IsRank(fact.Third))
        {
            return false;
        }

        Subscription subscription = new(fact.Subject, queue, fact.First, (long)fact.Second, ConsumerRank.From(fact.Third));
        AddSubscription(subscription);
        _nextSubscription = fact.Subject + 1;
        return true;
    }

    private bool ApplyUnsubscribed(Subscription subscription, ulong firstNotTaken, ulong block)
    {
        GiveBack(subscription, 0, ulong.MaxValue, firstNotTaken, orphan: false, block);
        RemoveSubscription(subscription);
        return true;
    }

    private bool ApplyOpened(in FactRecord fact)
    {
        if (!_producers.TryGetValue(fact.First, out Producer? producer))
        {
            if (fact.First < _nextProducer || fact.First == ulong.MaxValue)
            {
                return false; // A forgotten one never comes back.
            }

            _producers[fact.First] = producer = new Producer(fact.First);
            _nextProducer = Math.Max(_nextProducer, fact.First + 1);
        }

        (producer.InstanceLow, producer.InstanceHigh) = (fact.Second, fact.Third);
        producer.Epoch++;
        producer.LastSeenMicros = IntervalMicros;
        return true;
    }

    private bool ApplyFloor(in FactRecord fact)
    {
        if (!_producers.TryGetValue(fact.First, out Producer? producer))
        {
            return false;
        }

        ulong floor = fact.Second;
        producer.RefusalFloor = floor;
        producer.LastSeenMicros = IntervalMicros;
        producer.Refusals.RemoveAll(refusal => refusal.Number <= floor);
        return true;
    }

    /// <summary>A message that is ready, or dying, is kept from now on as it is: it has no death, and does not expire.</summary>
    private bool ApplyDamaged(Queue queue, ulong tag)
    {
        ref IndexEntry entry = ref queue.Index.Find(tag);
        if (Unsafe.IsNullRef(ref entry) || !(entry.IsReady || entry.State == EntryState.Dying) || queue.IsVoid(tag, entry))
        {
            return false;
        }

        if (entry.State == EntryState.Dying)
        {
            Revive(queue, tag, entry);
        }
        else
        {
            long bytes = entry.LengthBytes - MessageHeader.SizeBytes;
            queue.Ready--;
            queue.WaitingBytes -= bytes;
            queue.HeldBytes += bytes;
            queue.Expiry.Remove(tag);
        }

        queue.Damaged++;
        queue.Order?.Remove(tag);
        entry.State = EntryState.Damaged;
        return true;
    }
}
