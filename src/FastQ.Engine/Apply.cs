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
    private bool ApplyMessage(ReadOnlySpan<byte> record, Place place)
    {
        ref readonly MessageHeader header = ref MemoryMarshal.AsRef<MessageHeader>(record);
        CountNumber();
        Queue? queue = _lastQueue?.Id == header.Queue ? _lastQueue : FindQueue(header.Queue);
        if (queue is null || header.LengthBytes < MessageHeader.SizeBytes || (place.Offset & 7) != 0 || header.Tag < queue.Index.NextTag || (header.Tag != queue.Index.NextTag && !(IsLenient && NoteMissed(queue, header.Tag))))
        {
            return false;
        }

        long due = 0;
        if (IsTimed(queue, header) && !TryDueOf(queue, record, header, out due))
        {
            return false;
        }

        Enqueue(queue, header.Tag, header.LengthBytes, place, due);
        return true;
    }

    /// <summary>May this message have a time of its own, or one from its queue?</summary>
    private static bool IsTimed(Queue queue, in MessageHeader header) => header.PropertyBytes != 0 || queue.Attributes.DelayMilliseconds != 0;

    /// <summary>Reads when a message is due, by interval time; 0: at once. False: its properties contradict themselves.</summary>
    private bool TryDueOf(Queue queue, ReadOnlySpan<byte> record, in MessageHeader header, out long dueMicros)
    {
        dueMicros = 0;
        if (header.PropertyBytes > record.Length - MessageHeader.SizeBytes)
        {
            return false;
        }

        (long? delay, long? at) = (null, null);
        PropertyReader reader = new(record.Slice(MessageHeader.SizeBytes, header.PropertyBytes));
        while (reader.Next())
        {
            long number = 0;
            if (reader.Tag == PropertyTag.Delay)
            {
                if (delay is not null || !reader.TryNumber(PropertyType.Int64, out number) || number is < 0 or > Limits.MaxDelayMilliseconds)
                {
                    return false;
                }

                delay = number;
            }
            else if (reader.Tag == PropertyTag.DeliverAt)
            {
                if (at is not null || !reader.TryNumber(PropertyType.Timestamp, out number) || number is < 0 or > Limits.MaxDelayMilliseconds * 1000)
                {
                    return false;
                }

                at = number;
            }
        }

        long waits = Math.Min(at is long moment ? moment - WallMicros : (delay ?? queue.Attributes.DelayMilliseconds) * 1000, Limits.MaxDelayMilliseconds * 1000); // A journal's wall clock may say anything.
        dueMicros = waits > 0 ? IntervalMicros + waits : 0;
        return delay is null || at is null;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Enqueue(Queue queue, ulong tag, uint lengthBytes, Place place, long dueMicros)
    {
        ref IndexEntry entry = ref queue.Index.Add(tag);
        entry.Place(place, EntryState.Ready);
        entry.LengthBytes = lengthBytes;
        queue.WaitingBytes += lengthBytes - MessageHeader.SizeBytes;
        if (dueMicros == 0)
        {
            queue.Ready++;
        }
        else
        {
            Delay(queue, tag, ref entry, dueMicros);
        }

        queue.Published++;
        Arrive(place.Slot, lengthBytes);
        if (!queue.IsListed)
        {
            List(queue);
        }
    }

    /// <summary>A message waits for its time. It is counted nowhere else.</summary>
    private void Delay(Queue queue, ulong tag, ref IndexEntry entry, long dueMicros)
    {
        entry.State = EntryState.Delayed;
        entry.Generation = queue.PurgeGeneration;
        queue.Delayed++;
        queue.Due.Set(tag, dueMicros);
        NoteQueueTimer(queue, dueMicros);
    }

    /// <summary>A message leaves its queue. The counts are the caller's.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Free(Queue queue, ulong tag, ref IndexEntry entry, ulong block)
    {
        if (entry.State == EntryState.Delayed)
        {
            queue.Due.Remove(tag);
        }

        Leave(entry.Slot, entry.LengthBytes, block);
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
        if (Unsafe.IsNullRef(ref entry) || entry.LengthBytes != header.LengthBytes || (place.Offset & 7) != 0)
        {
            return false;
        }

        Leave(entry.Slot, entry.LengthBytes, block);
        entry.Place(place, entry.State);
        Arrive(place.Slot, header.LengthBytes);
        return true;
    }

    private bool ApplySettle(in SettleRecord settle, ulong block)
    {
        _late.Clear();
        CountNumber();
        Subscription? subscription = _lastSubscription?.Id == settle.Subscription ? _lastSubscription : FindSubscription(settle.Subscription);
        if (subscription is null || !IsRange(subscription, settle.FirstDelivery, settle.Count) || !IsOutcome(settle))
        {
            return false;
        }

        Queue queue = subscription.Queue;
        (long gone, long goneBytes, long recordBytes) = (0, 0, 0);
        bool isRelease = settle.Outcome == Outcome.Release;
        long due = settle.Milliseconds > 0 ? IntervalMicros + settle.Milliseconds * 1000 : 0;
        ulong end = settle.FirstDelivery + settle.Count;
        for (ulong delivery = settle.FirstDelivery; delivery < end; delivery++)
        {
            if (!subscription.Window.TryTake(delivery, out OpenDelivery open))
            {
                AddLate(subscription, delivery);
                continue;
            }

            ref IndexEntry entry = ref queue.Index.Find(open.Tag);
            Invariant.Holds(!Unsafe.IsNullRef(ref entry) && entry.State == EntryState.InFlight);
            recordBytes += entry.LengthBytes;
            if (isRelease)
            {
                if (settle.IsUncounted)
                {
                    Uncount(queue, ref entry);
                }

                PutBack(queue, open.Tag, ref entry, due);
                continue;
            }

            gone++;
            goneBytes += entry.LengthBytes - MessageHeader.SizeBytes;
            Free(queue, open.Tag, ref entry, block);
        }

        KeepLate();
        subscription.OpenBytes -= recordBytes;
        queue.InFlight -= gone;
        queue.HeldBytes -= goneBytes;
        queue.Accepted += settle.Outcome == Outcome.Accept ? (ulong)gone : 0;
        queue.Rejected += settle.Outcome == Outcome.Reject ? (ulong)gone : 0;
        if (!queue.IsListed)
        {
            List(queue);
        }

        return true;
    }

    /// <summary>Only a release has a delay, or does not count.</summary>
    private static bool IsOutcome(in SettleRecord settle) =>
        settle.Outcome == Outcome.Release ? settle.Milliseconds is >= 0 and <= Limits.MaxDelayMilliseconds : settle.Outcome <= Outcome.Reject && settle.Milliseconds == 0 && !settle.IsUncounted;

    /// <summary>Were all these delivery numbers given out?</summary>
    private static bool IsRange(Subscription subscription, ulong first, ulong count) =>
        first > 0 && first < subscription.NextDelivery && count <= Limits.MaxSettleRange && count <= subscription.NextDelivery - first;

    private bool ApplyExtend(in SettleRecord settle)
    {
        _late.Clear();
        CountNumber();
        if (FindSubscription(settle.Subscription) is not Subscription subscription || !IsRange(subscription, settle.FirstDelivery, settle.Count) || settle.Milliseconds is < 0 or > Limits.MaxLeaseMilliseconds)
        {
            return false;
        }

        long end = IntervalMicros + settle.Milliseconds * 1000;
        for (ulong delivery = settle.FirstDelivery; delivery < settle.FirstDelivery + settle.Count; delivery++)
        {
            ref OpenDelivery open = ref subscription.Window.Find(delivery);
            if (Unsafe.IsNullRef(ref open))
            {
                AddLate(subscription, delivery);
                continue;
            }

            open.LeaseEndMicros = end;
        }

        KeepLate();
        NoteLeaseEnd(subscription, end);
        return true;
    }

    private bool ApplyDelivered(ReadOnlySpan<byte> record)
    {
        DeliveredRecord delivered = MemoryMarshal.Read<DeliveredRecord>(record);
        if (record.Length < DeliveredRecord.SizeBytes + delivered.Runs * TagRun.SizeBytes || FindSubscription(delivered.Subscription) is not Subscription subscription
            || delivered.FirstDelivery < subscription.NextDelivery || (delivered.FirstDelivery != subscription.NextDelivery && !IsLenient)
            || delivered.Count > Limits.MaxRunEntries || delivered.LeaseEndMicros is < 0 or > LatestMicros)
        {
            return false;
        }

        ReadOnlySpan<TagRun> runs = MemoryMarshal.Cast<byte, TagRun>(record.Slice(DeliveredRecord.SizeBytes, delivered.Runs * TagRun.SizeBytes));
        ulong number = delivered.FirstDelivery;
        ulong end = number + delivered.Count;
        Queue queue = subscription.Queue;
        HandedOver handed = default;
        bool fits = true;
        foreach (TagRun run in runs)
        {
            for (ulong i = 0; i < run.Count && fits; i++, number++)
            {
                ref IndexEntry entry = ref queue.Index.Find(run.First + i);
                bool isThere = !Unsafe.IsNullRef(ref entry) && entry.IsReady && !queue.IsVoid(run.First + i, entry);
                fits = number != end && (isThere || IsLenient);
                if (fits && isThere)
                {
                    HandOver(subscription, number, run.First + i, ref entry, delivered.LeaseEndMicros, ref handed);
                }
            }
        }

        Book(subscription, handed);
        NoteLeaseEnd(subscription, delivered.LeaseEndMicros);
        _nextToken = Math.Max(_nextToken, delivered.FirstToken + delivered.Count);
        DropGoneFromHeap(queue);
        return fits && number == end;
    }

    /// <summary>What a run of deliveries adds up to.</summary>
    private struct HandedOver
    {
        public int Count;
        public int Again;
        public long RecordBytes;
        public ulong LastTag;
    }

    /// <summary>One message goes to a consumer. <see cref="Book"/> follows.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void HandOver(Subscription subscription, ulong delivery, ulong tag, ref IndexEntry entry, long leaseEnd, ref HandedOver handed)
    {
        entry.State = EntryState.InFlight;
        handed.Count++;
        handed.Again += entry.Deliveries > 0 ? 1 : 0;
        handed.RecordBytes += entry.LengthBytes;
        handed.LastTag = Math.Max(handed.LastTag, tag);
        entry.Deliveries = entry.Deliveries == ushort.MaxValue ? entry.Deliveries : (ushort)(entry.Deliveries + 1);
        subscription.Window.Append(delivery, new OpenDelivery { Tag = tag, LeaseEndMicros = leaseEnd });
    }

    private static void Book(Subscription subscription, in HandedOver handed)
    {
        Queue queue = subscription.Queue;
        long bytes = handed.RecordBytes - (long)handed.Count * MessageHeader.SizeBytes;
        subscription.OpenBytes += handed.RecordBytes;
        queue.Redelivered += (ulong)handed.Again;
        queue.Ready -= handed.Count;
        queue.InFlight += handed.Count;
        queue.WaitingBytes -= bytes;
        queue.HeldBytes += bytes;
        queue.Cursor = Math.Max(queue.Cursor, handed.LastTag + 1);
    }

    private bool ApplyFact(in FactRecord fact, ReadOnlySpan<byte> payload, ulong block)
    {
        switch (fact.Kind)
        {
            case RecordKind.NumberRefused:
                return ApplyRefused(fact);
            case RecordKind.CommandDone:
                CountNumber();
                return fact.First == (_source?.Last ?? 0) || IsLenient;
            case RecordKind.QueueDeclared:
                return ApplyDeclared(fact, payload);
            case RecordKind.QueueDeleted:
                return FindQueue(fact.Subject) is Queue deleted && ApplyDeleted(deleted);
            case RecordKind.QueuePurged:
                return FindQueue(fact.Subject) is Queue purged && ApplyPurged(purged, fact.First, block);
            case RecordKind.PurgeSlice:
                return FindQueue(fact.Subject, withDeleted: true) is Queue sliced && ApplySlice(sliced, fact.Count, block);
            case RecordKind.Subscribed:
                return ApplySubscribed(fact);
            case RecordKind.Unsubscribed:
                return FindSubscription(fact.Subject) is Subscription ended && ApplyUnsubscribed(ended, fact.First);
            case RecordKind.SubscriptionResumed:
                return FindSubscription(fact.Subject) is Subscription resumed && GiveBack(resumed, fact.First, ulong.MaxValue, fact.First, orphan: false);
            case RecordKind.LeaseEnded:
                return FindSubscription(fact.Subject) is Subscription expired && IsRange(expired, fact.First, fact.Count) && GiveBack(expired, fact.First, fact.First + fact.Count, ulong.MaxValue, orphan: true);
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

        QueueAttributes attributes = QueueAttributes.From(payload);
        string text = Encoding.UTF8.GetString(name);
        Queue queue = new(fact.Subject, name.ToArray(), attributes, _pages, _warm);
        if (attributes.Fault().Length > 0 || !_byName.TryAdd(text, queue))
        {
            return false;
        }

        _queues.Add(fact.Subject, queue);
        _nextQueue = fact.Subject + 1;
        return true;
    }

    private bool ApplyDeleted(Queue queue)
    {
        _byName.Remove(Encoding.UTF8.GetString(queue.Name));
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

        queue.Ready = queue.InFlight = queue.Delayed = queue.Damaged = queue.WaitingBytes = queue.HeldBytes = 0;
        queue.PurgeNext = queue.Index.FirstTag;
        queue.PurgeEnd = queue.Index.NextTag;
        queue.Returned.Dispose();
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
        queue.PurgeNext = queue.Index.FirstTag;
        queue.PurgeEnd = end;
        queue.Cursor = Math.Max(queue.Cursor, end);
        queue.Returned.Dispose();
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
        if (FindQueue(fact.Count) is not Queue queue || fact.Subject < _nextSubscription || fact.Subject == uint.MaxValue || (long)fact.Second is < Limits.MinLeaseMilliseconds or > Limits.MaxLeaseMilliseconds)
        {
            return false;
        }

        Subscription subscription = new(fact.Subject, queue, fact.First, (long)fact.Second);
        AddSubscription(subscription);
        _nextSubscription = fact.Subject + 1;
        return true;
    }

    private bool ApplyUnsubscribed(Subscription subscription, ulong firstNotTaken)
    {
        GiveBack(subscription, 0, ulong.MaxValue, firstNotTaken, orphan: false);
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

    private static bool ApplyDamaged(Queue queue, ulong tag)
    {
        ref IndexEntry entry = ref queue.Index.Find(tag);
        if (Unsafe.IsNullRef(ref entry) || !entry.IsReady || queue.IsVoid(tag, entry))
        {
            return false;
        }

        long bytes = entry.LengthBytes - MessageHeader.SizeBytes;
        queue.Ready--;
        queue.WaitingBytes -= bytes;
        queue.Damaged++;
        queue.HeldBytes += bytes;
        entry.State = EntryState.Damaged;
        return true;
    }

    /// <summary>Ends open deliveries from <paramref name="first"/> up to <paramref name="end"/>: the messages go back to their places. From <paramref name="firstUncounted"/> on the delivery does not count.</summary>
    private bool GiveBack(Subscription subscription, ulong first, ulong end, ulong firstUncounted, bool orphan)
    {
        for (ulong delivery = subscription.Window.NextOccupied(first); delivery < end; delivery = subscription.Window.NextOccupied(delivery + 1))
        {
            GiveBackOne(subscription, delivery, firstUncounted, orphan);
        }

        if (!subscription.Queue.IsListed)
        {
            List(subscription.Queue);
        }

        return true;
    }

    private void GiveBackOne(Subscription subscription, ulong delivery, ulong firstUncounted, bool orphan)
    {
        bool wasOpen = subscription.Window.TryTake(delivery, out OpenDelivery open);
        Invariant.Holds(wasOpen);
        ulong tag = open.Tag;
        Queue queue = subscription.Queue;
        ref IndexEntry entry = ref queue.Index.Find(tag);
        Invariant.Holds(!Unsafe.IsNullRef(ref entry) && entry.State == EntryState.InFlight);
        subscription.OpenBytes -= entry.LengthBytes;
        if (delivery >= firstUncounted)
        {
            Uncount(queue, ref entry);
        }

        if (orphan && _isLive)
        {
            subscription.Lost.Add(delivery);
            _orphans.Enqueue(new OrphanReference(subscription.Id, delivery, entry.Slot));
        }

        PutBack(queue, tag, ref entry, 0);
    }

    /// <summary>A delivery is as if it had not been.</summary>
    private static void Uncount(Queue queue, ref IndexEntry entry)
    {
        entry.Deliveries--;
        queue.Redelivered -= entry.Deliveries > 0 ? 1u : 0u;
    }

    /// <summary>A message in flight is ready again, at its place; or waits there for its time.</summary>
    private void PutBack(Queue queue, ulong tag, ref IndexEntry entry, long dueMicros)
    {
        long bytes = entry.LengthBytes - MessageHeader.SizeBytes;
        queue.InFlight--;
        queue.HeldBytes -= bytes;
        queue.WaitingBytes += bytes;
        if (dueMicros != 0)
        {
            Delay(queue, tag, ref entry, dueMicros);
            return;
        }

        MakeReady(queue, tag, ref entry);
    }

    private static void MakeReady(Queue queue, ulong tag, ref IndexEntry entry)
    {
        entry.State = EntryState.Returned;
        entry.Generation = queue.PurgeGeneration;
        queue.Ready++;
        queue.Returned.Push(tag);
    }

    /// <summary>The delays of the first so many messages are over.</summary>
    private bool ApplyDue(Queue queue, in FactRecord fact)
    {
        if (fact.First > (ulong)IntervalMicros)
        {
            return false;
        }

        for (uint left = fact.Count; left > 0 && queue.Due.TryPeek(out TimedTag earliest) && earliest.AtMicros <= (long)fact.First;)
        {
            queue.Due.Remove(earliest.Tag);
            ref IndexEntry entry = ref queue.Index.Find(earliest.Tag);
            Invariant.Holds(!Unsafe.IsNullRef(ref entry) && entry.State == EntryState.Delayed);
            if (!queue.IsVoid(earliest.Tag, entry))
            {
                queue.Delayed--;
                MakeReady(queue, earliest.Tag, ref entry);
                left--;
            }
        }

        if (queue.Due.TryPeek(out TimedTag next))
        {
            NoteQueueTimer(queue, next.AtMicros);
        }

        List(queue);
        return true;
    }

    /// <summary>A queue is deleted under a consumer: its deliveries end, the bytes may still be read.</summary>
    private void EndOpenAsOrphans(Subscription subscription)
    {
        SparseRing<OpenDelivery> window = subscription.Window;
        for (ulong delivery = window.NextOccupied(0); _isLive && delivery != ulong.MaxValue; delivery = window.NextOccupied(delivery + 1))
        {
            ref IndexEntry entry = ref subscription.Queue.Index.Find(window.Find(delivery).Tag);
            Invariant.Holds(!Unsafe.IsNullRef(ref entry));
            _orphans.Enqueue(new OrphanReference(subscription.Id, delivery, entry.Slot));
        }
    }

    private void AddSubscription(Subscription subscription)
    {
        _subscriptions.Add(subscription.Id, subscription);
        subscription.Queue.Subscriptions.Add(subscription);
        if (_producers.TryGetValue(subscription.Producer, out Producer? producer))
        {
            producer.Subscriptions++;
        }
    }

    private void RemoveSubscription(Subscription subscription)
    {
        if (_producers.TryGetValue(subscription.Producer, out Producer? producer))
        {
            producer.Subscriptions--;
        }

        _subscriptions.Remove(subscription.Id);
        subscription.Queue.Subscriptions.Remove(subscription);
        _lastSubscription = _lastSubscription == subscription ? null : _lastSubscription;
        subscription.Dispose();
    }

    /// <summary>That a settle came too late, in whole or in part, is kept like a refusal: told again after a restart, before any counter passes its number.</summary>
    private void KeepLate()
    {
        if (_late.Count > 0 && _source is not null)
        {
            _source.Refusals.Add(new KeptRefusal(_source.Last, RefusalCode.LeaseLost));
        }
    }

    private void AddLate(Subscription subscription, ulong delivery)
    {
        bool lost = subscription.Lost.Remove(delivery) || delivery < subscription.RecoveredBelow;
        RefusalCode code = lost ? RefusalCode.LeaseLost : RefusalCode.AlreadySettled;
        if (_late.Count > 0 && _late[^1] is { } last && last.Code == code && last.First + last.Count == delivery)
        {
            _late[^1] = last with { Count = last.Count + 1 };
            return;
        }

        _late.Add(new LateRange(delivery, 1, code));
    }
}
