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
            return true;
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
        if (queue is null || header.Tag < queue.Index.NextTag || (header.Tag != queue.Index.NextTag && !IsLenient))
        {
            return false;
        }

        ref IndexEntry entry = ref queue.Index.Add(header.Tag);
        entry.Slot = place.Slot;
        entry.Offset = place.Offset;
        entry.State = EntryState.Ready;
        entry.LengthBytes = header.LengthBytes;
        queue.Ready++;
        queue.ReadyBytes += header.LengthBytes - MessageHeader.SizeBytes;
        queue.Published++;
        Arrive(place.Slot, header.LengthBytes);
        if (!queue.IsListed)
        {
            List(queue);
        }

        return true;
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
        if (Unsafe.IsNullRef(ref entry) || entry.LengthBytes != header.LengthBytes)
        {
            return false;
        }

        Leave(entry.Slot, entry.LengthBytes, block);
        entry.Slot = place.Slot;
        entry.Offset = place.Offset;
        Arrive(place.Slot, header.LengthBytes);
        return true;
    }

    private bool ApplySettle(in SettleRecord settle, ulong block)
    {
        _late.Clear();
        CountNumber();
        Subscription? subscription = _lastSubscription?.Id == settle.Subscription ? _lastSubscription : FindSubscription(settle.Subscription);
        if (subscription is null || settle.FirstDelivery + settle.Count > subscription.NextDelivery)
        {
            return subscription is not null && IsLenient;
        }

        Queue queue = subscription.Queue;
        for (ulong delivery = settle.FirstDelivery; delivery < settle.FirstDelivery + settle.Count; delivery++)
        {
            if (!TryClose(subscription, delivery, out ulong tag))
            {
                AddLate(subscription, delivery);
                continue;
            }

            ref IndexEntry entry = ref queue.Index.Find(tag);
            Invariant.Holds(!Unsafe.IsNullRef(ref entry) && entry.State == EntryState.InFlight);
            subscription.OpenBytes -= entry.LengthBytes;
            if (settle.Outcome == Outcome.Release)
            {
                PutBack(queue, tag, ref entry);
                continue;
            }

            queue.InFlight--;
            queue.HeldBytes -= entry.LengthBytes - MessageHeader.SizeBytes;
            if (settle.Outcome == Outcome.Accept)
            {
                queue.Accepted++;
            }
            else
            {
                queue.Rejected++;
            }

            Leave(entry.Slot, entry.LengthBytes, block);
            queue.Index.Remove(tag);
        }

        DropClosed(subscription);
        if (!queue.IsListed)
        {
            List(queue);
        }

        return true;
    }

    private bool ApplyExtend(in SettleRecord settle)
    {
        _late.Clear();
        CountNumber();
        if (FindSubscription(settle.Subscription) is not Subscription subscription)
        {
            return false;
        }

        long end = IntervalMicros + settle.LeaseMilliseconds * 1000;
        for (ulong delivery = settle.FirstDelivery; delivery < settle.FirstDelivery + settle.Count; delivery++)
        {
            if (subscription.Stragglers.TryGetValue(delivery, out OpenDelivery straggler))
            {
                subscription.Stragglers[delivery] = straggler with { LeaseEndMicros = end };
            }
            else if (delivery - subscription.Window.First < subscription.Window.Count && subscription.Window[delivery].Tag != 0)
            {
                subscription.Window[delivery].LeaseEndMicros = end;
            }
            else
            {
                AddLate(subscription, delivery);
            }
        }

        subscription.EarliestLeaseEnd = Math.Min(subscription.EarliestLeaseEnd, end);
        return true;
    }

    private bool ApplyDelivered(ReadOnlySpan<byte> record)
    {
        DeliveredRecord delivered = MemoryMarshal.Read<DeliveredRecord>(record);
        if (record.Length < DeliveredRecord.SizeBytes + delivered.Runs * TagRun.SizeBytes || FindSubscription(delivered.Subscription) is not Subscription subscription || (delivered.FirstDelivery != subscription.NextDelivery && !IsLenient))
        {
            return false;
        }

        if (subscription.Window.Count == 0)
        {
            subscription.Window.StartAt(delivered.FirstDelivery);
        }

        ReadOnlySpan<TagRun> runs = MemoryMarshal.Cast<byte, TagRun>(record.Slice(DeliveredRecord.SizeBytes, delivered.Runs * TagRun.SizeBytes));
        foreach (TagRun run in runs)
        {
            for (ulong tag = run.First; tag < run.First + run.Count; tag++)
            {
                ref IndexEntry entry = ref subscription.Queue.Index.Find(tag);
                if (Unsafe.IsNullRef(ref entry) || !entry.IsReady)
                {
                    if (!IsLenient)
                    {
                        return false;
                    }

                    subscription.Window.Add(default);
                    continue;
                }

                HandOver(subscription, tag, ref entry, delivered.LeaseEndMicros);
            }
        }

        _nextToken = Math.Max(_nextToken, delivered.FirstToken + delivered.Count);
        DropGoneFromHeap(subscription.Queue);
        MoveStragglers(subscription);
        return true;
    }

    /// <summary>One message goes to a consumer.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void HandOver(Subscription subscription, ulong tag, ref IndexEntry entry, long leaseEnd)
    {
        Queue queue = subscription.Queue;
        entry.State = EntryState.InFlight;
        queue.Redelivered += entry.Deliveries > 0 ? 1u : 0u;
        entry.Deliveries = entry.Deliveries == ushort.MaxValue ? entry.Deliveries : (ushort)(entry.Deliveries + 1);
        subscription.Window.Add(new OpenDelivery { Tag = tag, LeaseEndMicros = leaseEnd });
        subscription.Open++;
        subscription.OpenBytes += entry.LengthBytes;
        subscription.EarliestLeaseEnd = Math.Min(subscription.EarliestLeaseEnd, leaseEnd);
        queue.Ready--;
        queue.InFlight++;
        long bytes = entry.LengthBytes - MessageHeader.SizeBytes;
        queue.ReadyBytes -= bytes;
        queue.HeldBytes += bytes;
        queue.Cursor = Math.Max(queue.Cursor, tag + 1);
    }

    private bool ApplyFact(in FactRecord fact, ReadOnlySpan<byte> payload, ulong block)
    {
        switch (fact.Kind)
        {
            case RecordKind.NumberRefused:
                _source?.Refusals.Add(new KeptRefusal(fact.First, (RefusalCode)fact.Small));
                CountNumber();
                return true;
            case RecordKind.CommandDone:
                CountNumber();
                return true;
            case RecordKind.QueueDeclared:
                return ApplyDeclared(fact, payload);
            case RecordKind.QueueDeleted:
                return FindQueue(fact.Subject) is Queue deleted && ApplyDeleted(deleted);
            case RecordKind.QueuePurged:
                return FindQueue(fact.Subject) is Queue purged && ApplyPurged(purged, fact.First);
            case RecordKind.PurgeSlice:
                return FindQueue(fact.Subject, withDeleted: true) is Queue sliced && ApplySlice(sliced, fact.Count, block);
            case RecordKind.Subscribed:
                return ApplySubscribed(fact);
            case RecordKind.Unsubscribed:
                return FindSubscription(fact.Subject) is Subscription ended && ApplyUnsubscribed(ended, fact.First);
            case RecordKind.SubscriptionResumed:
                return FindSubscription(fact.Subject) is Subscription resumed && GiveBack(resumed, fact.First, ulong.MaxValue, fact.First, orphan: false);
            case RecordKind.LeaseEnded:
                return FindSubscription(fact.Subject) is Subscription expired && GiveBack(expired, fact.First, fact.First + fact.Count, ulong.MaxValue, orphan: true);
            case RecordKind.ProducerOpened:
                return ApplyOpened(fact);
            case RecordKind.ProducerForgotten:
                return _producers.Remove(fact.First);
            case RecordKind.RefusalFloor:
                return ApplyFloor(fact);
            case RecordKind.MessageDamaged:
                return FindQueue(fact.Subject) is Queue damaged && ApplyDamaged(damaged, fact.First);
            default:
                return false;
        }
    }

    private bool ApplyDeclared(in FactRecord fact, ReadOnlySpan<byte> payload)
    {
        if (!FieldReader.TryBytes(payload, FieldTag.Name, out ReadOnlySpan<byte> name) || !Names.IsValid(name) || _queues.ContainsKey(fact.Subject) || fact.Subject < _nextQueue)
        {
            return false;
        }

        QueueAttributes attributes = AttributesFrom(payload);
        string text = Encoding.UTF8.GetString(name);
        Queue queue = new(fact.Subject, name.ToArray(), attributes, _pages);
        if (!_byName.TryAdd(text, queue))
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
            _ended.Enqueue(new EndedSubscription(subscription.Id, RefusalCode.QueueDeleted));
        }

        queue.PurgeNext = queue.Index.FirstTag;
        queue.PurgeEnd = queue.Index.NextTag;
        queue.Returned.Clear();
        _purging.Add(queue.Id);
        return true;
    }

    private bool ApplyPurged(Queue queue, ulong end)
    {
        if (end > queue.Index.NextTag || queue.PurgeEnd != 0)
        {
            return false;
        }

        queue.Purged += (ulong)queue.Ready;
        queue.Ready = 0;
        queue.ReadyBytes = 0;
        queue.PurgeNext = queue.Index.FirstTag;
        queue.PurgeEnd = end;
        queue.Cursor = Math.Max(queue.Cursor, end);
        queue.Returned.Clear();
        _purging.Add(queue.Id);
        return true;
    }

    /// <summary>Looks at the next <paramref name="count"/> tags of a purge or deletion. The counts have changed already.</summary>
    private bool ApplySlice(Queue queue, uint count, ulong block)
    {
        ulong end = Math.Min(queue.PurgeNext + count, queue.PurgeEnd);
        for (ulong tag = queue.PurgeNext; tag < end; tag++)
        {
            ref IndexEntry entry = ref queue.Index.Find(tag);
            if (Unsafe.IsNullRef(ref entry))
            {
                continue;
            }

            if (queue.IsDeleted || entry.State is EntryState.Ready or EntryState.Returned)
            {
                Leave(entry.Slot, entry.LengthBytes, block);
                queue.Index.Remove(tag);
            }
            else if (entry.State == EntryState.ReturnedAfterPurge)
            {
                entry.State = EntryState.Returned;
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
        if (FindQueue(fact.Count) is not Queue queue || fact.Subject < _nextSubscription)
        {
            return false;
        }

        Subscription subscription = new(fact.Subject, queue, fact.First, (long)fact.Second);
        _subscriptions.Add(fact.Subject, subscription);
        queue.Subscriptions.Add(subscription);
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
        producer.Refusals.RemoveAll(refusal => refusal.Number <= floor);
        return true;
    }

    private static bool ApplyDamaged(Queue queue, ulong tag)
    {
        ref IndexEntry entry = ref queue.Index.Find(tag);
        if (Unsafe.IsNullRef(ref entry) || !entry.IsReady)
        {
            return false;
        }

        long bytes = entry.LengthBytes - MessageHeader.SizeBytes;
        queue.Ready--;
        queue.ReadyBytes -= bytes;
        queue.Damaged++;
        queue.HeldBytes += bytes;
        entry.State = EntryState.Damaged;
        return true;
    }

    /// <summary>Ends open deliveries from <paramref name="first"/> up to <paramref name="end"/>: the messages go back to their places. From <paramref name="firstUncounted"/> on the delivery does not count.</summary>
    private bool GiveBack(Subscription subscription, ulong first, ulong end, ulong firstUncounted, bool orphan)
    {
        foreach (ulong delivery in subscription.Stragglers.Keys.Where(number => number >= first && number < end).ToArray())
        {
            GiveBackOne(subscription, delivery, firstUncounted, orphan);
        }

        ulong last = Math.Min(end, subscription.Window.End);
        for (ulong delivery = Math.Max(first, subscription.Window.First); delivery < last; delivery++)
        {
            GiveBackOne(subscription, delivery, firstUncounted, orphan);
        }

        DropClosed(subscription);
        if (!subscription.Queue.IsListed)
        {
            List(subscription.Queue);
        }

        return true;
    }

    private void GiveBackOne(Subscription subscription, ulong delivery, ulong firstUncounted, bool orphan)
    {
        if (!TryClose(subscription, delivery, out ulong tag))
        {
            return;
        }

        Queue queue = subscription.Queue;
        ref IndexEntry entry = ref queue.Index.Find(tag);
        Invariant.Holds(!Unsafe.IsNullRef(ref entry) && entry.State == EntryState.InFlight);
        subscription.OpenBytes -= entry.LengthBytes;
        if (delivery >= firstUncounted)
        {
            entry.Deliveries--;
            queue.Redelivered -= entry.Deliveries > 0 ? 1u : 0u;
        }

        if (orphan)
        {
            subscription.Lost.Add(delivery);
            _orphans.Enqueue(new OrphanReference(subscription.Id, delivery, entry.Slot));
        }

        PutBack(queue, tag, ref entry);
    }

    /// <summary>A message in flight is ready again, at its place.</summary>
    private static void PutBack(Queue queue, ulong tag, ref IndexEntry entry)
    {
        bool purgePending = queue.PurgeEnd != 0 && tag < queue.PurgeEnd && tag >= queue.PurgeNext;
        entry.State = purgePending ? EntryState.ReturnedAfterPurge : EntryState.Returned;
        long bytes = entry.LengthBytes - MessageHeader.SizeBytes;
        queue.InFlight--;
        queue.Ready++;
        queue.HeldBytes -= bytes;
        queue.ReadyBytes += bytes;
        queue.Returned.Push(tag);
    }

    /// <summary>Closes a delivery if it is open.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool TryClose(Subscription subscription, ulong delivery, out ulong tag)
    {
        if (delivery - subscription.Window.First < subscription.Window.Count)
        {
            ref OpenDelivery open = ref subscription.Window[delivery];
            tag = open.Tag;
            open.Tag = 0;
            subscription.Open -= tag != 0 ? 1 : 0;
            return tag != 0;
        }

        bool isStraggler = subscription.Stragglers.Remove(delivery, out OpenDelivery straggler);
        tag = straggler.Tag;
        subscription.Open -= isStraggler ? 1 : 0;
        return isStraggler;
    }

    /// <summary>A queue is deleted under a consumer: its deliveries end, the bytes may still be read.</summary>
    private void EndOpenAsOrphans(Subscription subscription)
    {
        for (ulong delivery = subscription.Window.First; delivery < subscription.Window.End; delivery++)
        {
            EndAsOrphan(subscription, delivery, subscription.Window[delivery].Tag);
        }

        foreach ((ulong delivery, OpenDelivery straggler) in subscription.Stragglers)
        {
            EndAsOrphan(subscription, delivery, straggler.Tag);
        }
    }

    private void EndAsOrphan(Subscription subscription, ulong delivery, ulong tag)
    {
        if (tag == 0)
        {
            return;
        }

        ref IndexEntry entry = ref subscription.Queue.Index.Find(tag);
        Invariant.Holds(!Unsafe.IsNullRef(ref entry));
        _orphans.Enqueue(new OrphanReference(subscription.Id, delivery, entry.Slot));
    }

    private void RemoveSubscription(Subscription subscription)
    {
        _subscriptions.Remove(subscription.Id);
        subscription.Queue.Subscriptions.Remove(subscription);
        _lastSubscription = _lastSubscription == subscription ? null : _lastSubscription;
        subscription.Dispose();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void DropClosed(Subscription subscription)
    {
        NativeRing<OpenDelivery> window = subscription.Window;
        while (window.Count > 0 && window[window.First].Tag == 0)
        {
            window.RemoveFirst();
        }
    }

    private static void MoveStragglers(Subscription subscription)
    {
        NativeRing<OpenDelivery> window = subscription.Window;
        while (window.Count > Subscription.MostSpan && window.Count > 4 * (ulong)subscription.Open)
        {
            OpenDelivery oldest = window[window.First];
            if (oldest.Tag != 0)
            {
                subscription.Stragglers.Add(window.First, oldest);
            }

            window.RemoveFirst();
        }
    }

    private void AddLate(Subscription subscription, ulong delivery)
    {
        bool lost = subscription.Lost.Remove(delivery) || subscription.IsRecovered;
        RefusalCode code = lost ? RefusalCode.LeaseLost : RefusalCode.AlreadySettled;
        if (_late.Count > 0 && _late[^1] is { } last && last.Code == code && last.First + last.Count == delivery)
        {
            _late[^1] = last with { Count = last.Count + 1 };
            return;
        }

        _late.Add(new LateRange(delivery, 1, code));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Arrive(uint slot, uint lengthBytes)
    {
        SlotState state = _arrivalSlot?.Id == slot ? _arrivalSlot : _arrivalSlot = SlotOf(slot);
        state.Live++;
        state.LiveBytes += lengthBytes;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Leave(uint slot, uint lengthBytes, ulong block)
    {
        SlotState state = _leaveSlot?.Id == slot ? _leaveSlot : _leaveSlot = SlotOf(slot);
        state.Live--;
        state.LiveBytes -= lengthBytes;
        state.LastLeftBlock = block;
        Invariant.Holds(state.Live >= 0);
    }
}
