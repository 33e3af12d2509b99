using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using FastQ.Protocol;

namespace FastQ.Engine;

// Apply, of what consumers have in hand: how a record hands messages out, settles them, extends their leases, or gives them back. See Apply.cs.

public sealed partial class QueueEngine
{
    private bool ApplySettle(in SettleRecord settle, ReadOnlySpan<byte> words, ulong block)
    {
        _late.Clear();
        CountNumber();
        Subscription? subscription = _lastSubscription?.Id == settle.Subscription ? _lastSubscription : FindSubscription(settle.Subscription);
        if (subscription is null || !IsRange(subscription, settle.FirstDelivery, settle.Count) || !IsOutcome(settle, words.Length))
        {
            return false;
        }

        Queue queue = subscription.Queue;
        (long gone, long goneBytes, long recordBytes) = (0, 0, 0);
        bool isRelease = settle.Outcome == Outcome.Release;
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
                entry.Release = settle.IsUncounted ? ReleaseReason.ReleasedUncounted : ReleaseReason.Released;
                if (settle.IsUncounted)
                {
                    Uncount(queue, ref entry);
                }

                PutBack(queue, open.Tag, ref entry, !settle.IsUncounted, settle.Milliseconds, block);
                continue;
            }

            gone++;
            goneBytes += entry.LengthBytes - MessageHeader.SizeBytes;
            if (settle.Outcome == Outcome.Accept)
            {
                Free(queue, open.Tag, ref entry, block);
            }
            else
            {
                Die(queue, open.Tag, ref entry, DeathReason.Rejected, words, block);
            }

            if (queue.Flow is not null)
            {
                NoteOutcome(queue, open.Tag, failed: settle.Outcome == Outcome.Reject);
            }
        }

        KeepLate();
        subscription.OpenBytes -= recordBytes;
        queue.InFlight -= gone;
        queue.HeldBytes -= goneBytes;
        queue.Accepted += settle.Outcome == Outcome.Accept ? (ulong)gone : 0;
        NoteLess(queue);
        if (!queue.IsListed)
        {
            List(queue);
        }

        return true;
    }

    /// <summary>Only a release has a delay, or does not count; only a reject has words.</summary>
    private static bool IsOutcome(in SettleRecord settle, int wordsBytes) => settle.Outcome switch
    {
        Outcome.Release => settle.Milliseconds is >= 0 and <= Limits.MaxDelayMilliseconds && wordsBytes == 0,
        Outcome.Accept => settle.Milliseconds == 0 && !settle.IsUncounted && wordsBytes == 0,
        Outcome.Reject => settle.Milliseconds == 0 && !settle.IsUncounted && wordsBytes <= Limits.MaxWordsBytes,
        _ => false,
    };

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

        Book(subscription, handed, runs.Length > 0 ? runs[0].First : 0);
        NoteLeaseEnd(subscription, delivered.LeaseEndMicros);
        _nextToken = Math.Max(_nextToken, delivered.FirstToken + delivered.Count);
        DropGone(queue);
        return fits && number == end;
    }

    /// <summary>What a run of deliveries adds up to.</summary>
    private struct HandedOver
    {
        public int Count;
        public int Again;
        public long RecordBytes;

        /// <summary>The highest tag of those that were taken in turn: what came back, or has another order, may stand anywhere.</summary>
        public ulong Last;
    }

    /// <summary>One message goes to a consumer. <see cref="Book"/> follows.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void HandOver(Subscription subscription, ulong delivery, ulong tag, ref IndexEntry entry, long leaseEnd, ref HandedOver handed)
    {
        handed.Last = entry.State == EntryState.Ready ? Math.Max(handed.Last, tag) : handed.Last;
        entry.State = EntryState.InFlight;
        if (subscription.Queue.KeepsMore)
        {
            subscription.Queue.Start(tag, subscription.Id, IntervalMicros);
        }

        handed.Count++;
        handed.Again += entry.Deliveries > 0 ? 1 : 0;
        handed.RecordBytes += entry.LengthBytes;
        entry.Deliveries = entry.Deliveries == ushort.MaxValue ? entry.Deliveries : (ushort)(entry.Deliveries + 1);
        subscription.HoldsLast = entry.Deliveries >= subscription.Queue.MostDeliveries;
        subscription.Window.Append(delivery, new OpenDelivery { Tag = tag, LeaseEndMicros = leaseEnd });
    }

    private void Book(Subscription subscription, in HandedOver handed, ulong first)
    {
        Queue queue = subscription.Queue;
        long bytes = handed.RecordBytes - (long)handed.Count * MessageHeader.SizeBytes;
        subscription.OpenBytes += handed.RecordBytes;
        queue.Redelivered += (ulong)handed.Again;
        queue.Ready -= handed.Count;
        queue.InFlight += handed.Count;
        queue.WaitingBytes -= bytes;
        queue.HeldBytes += bytes;
        queue.Cursor = Math.Max(queue.Cursor, handed.Last + 1);
        if (queue.Flow is QueueFlow flow && handed.Count > 0)
        {
            TakeAllowance(queue, flow, first, handed.Count);
        }
    }

    /// <summary>Ends open deliveries from <paramref name="first"/> up to <paramref name="end"/>: the messages go back to their places. From <paramref name="firstUncounted"/> on the delivery does not count.</summary>
    private bool GiveBack(Subscription subscription, ulong first, ulong end, ulong firstUncounted, bool orphan, ulong block)
    {
        for (ulong delivery = subscription.Window.NextOccupied(first); delivery < end; delivery = subscription.Window.NextOccupied(delivery + 1))
        {
            GiveBackOne(subscription, delivery, delivery < firstUncounted, orphan, block);
        }

        NoteLess(subscription.Queue);

        if (!subscription.Queue.IsListed)
        {
            List(subscription.Queue);
        }

        return true;
    }

    private void GiveBackOne(Subscription subscription, ulong delivery, bool isCounted, bool orphan, ulong block)
    {
        bool wasOpen = subscription.Window.TryTake(delivery, out OpenDelivery open);
        Invariant.Holds(wasOpen);
        ulong tag = open.Tag;
        Queue queue = subscription.Queue;
        ref IndexEntry entry = ref queue.Index.Find(tag);
        Invariant.Holds(!Unsafe.IsNullRef(ref entry) && entry.State == EntryState.InFlight);
        subscription.OpenBytes -= entry.LengthBytes;
        if (!isCounted)
        {
            Uncount(queue, ref entry); // It was never begun: why it came back before, if it did, is still what there is to say.
        }
        else
        {
            entry.Release = orphan ? ReleaseReason.LeaseEnded : ReleaseReason.ConsumerGone;
            if (orphan && TellsEvents)
            {
                TellOf(queue, new BrokerEvent(BrokerEventKind.LeaseEnded, WallMicros) { Tag = tag, Subscription = subscription.Id, Deliveries = entry.Deliveries });
            }
        }

        if (orphan && _isLive)
        {
            subscription.Lost.Add(delivery);
            _orphans.Enqueue(new OrphanReference(subscription.Id, delivery, entry.Slot));
        }

        PutBack(queue, tag, ref entry, isCounted, 0, block);
    }

    /// <summary>A delivery is as if it had not been.</summary>
    private static void Uncount(Queue queue, ref IndexEntry entry)
    {
        entry.Deliveries--;
        queue.Redelivered -= entry.Deliveries > 0 ? 1u : 0u;
    }

    /// <summary>A message in flight is ready again, at its place; or waits there for its time; or dies.</summary>
    /// <param name="milliseconds">So long it waits; 0: by the queue's back-off, if the delivery counts.</param>
    private void PutBack(Queue queue, ulong tag, ref IndexEntry entry, bool isCounted, long milliseconds, ulong block)
    {
        long bytes = entry.LengthBytes - MessageHeader.SizeBytes;
        queue.InFlight--;
        queue.HeldBytes -= bytes;
        if (isCounted && (entry.Deliveries >= queue.MostDeliveries || entry.IsRequest))
        {
            Die(queue, tag, ref entry, DeathReason.MaxDeliveries, default, block);
            NoteOutcome(queue, tag, failed: true);
            return;
        }

        NoteBack(queue, tag);
        bool expires = queue.Expiry.TryFind(tag, out long expiry);
        if (expires && expiry <= IntervalMicros)
        {
            Die(queue, tag, ref entry, DeathReason.Expired, default, block);
            return;
        }

        queue.WaitingBytes += bytes;
        long waits = milliseconds == 0 && isCounted ? queue.Attributes.BackoffAfter(tag, entry.Deliveries) : milliseconds;
        if (waits > 0)
        {
            Delay(queue, tag, ref entry, IntervalMicros + waits * 1000);
        }
        else
        {
            MakeReady(queue, tag, ref entry);
        }

        LookIfOver(queue);
        if (expires)
        {
            SetExpiry(queue, tag, expiry); // It may have been passed over meanwhile.
        }
    }

    private static void MakeReady(Queue queue, ulong tag, ref IndexEntry entry)
    {
        entry.State = EntryState.Returned;
        entry.Generation = queue.PurgeGeneration;
        queue.Ready++;
        Line(queue, tag, entry);
    }

    /// <summary>A message that came back is found by dispatch from now on.</summary>
    private static void Line(Queue queue, ulong tag, in IndexEntry entry)
    {
        bool isLast = queue.IsLast(entry) && queue.MostDeliveries > 1;
        if (queue.Order?.Contains(tag) == true)
        {
            queue.Order.Move(tag, isLast ? Standing.InLineLast : Standing.InLine);
        }
        else
        {
            (isLast ? queue.Lasts : queue.Returned).Push(tag);
        }
    }

    private static void ForgetReturned(Queue queue)
    {
        queue.Returned.Dispose();
        queue.Lasts.Dispose();
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
        subscription.Queue.HasRanks |= subscription.Rank.Priority != 0;
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
        subscription.Queue.Order?.Leave(subscription.Id);
        subscription.Queue.Subscriptions.Remove(subscription);
        Use(subscription.Queue);
        subscription.Queue.Drained = subscription.Queue.Drained == subscription ? null : subscription.Queue.Drained;
        subscription.Queue.Active = subscription.Queue.Active == subscription ? null : subscription.Queue.Active;
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
        RefusalCode code = subscription.WhyLate(delivery);
        if (_late.Count > 0 && _late[^1] is { } last && last.Code == code && last.First + last.Count == delivery)
        {
            _late[^1] = last with { Count = last.Count + 1 };
            return;
        }

        _late.Add(new LateRange(delivery, 1, code));
    }
}
