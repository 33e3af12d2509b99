using System.Buffers;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using FastQ.Protocol;

namespace FastQ.Engine;

// The persistent state as bytes. Back: SnapshotLoading.cs.
//
//   | version, clocks, next ids | producers | limits that queues share | queues: attributes, counts, entries, times of the delayed, expiries, words of the dying, traits, sweep, deduplication ids, unique keys, what was processed, schedule keys, what flowed | subscriptions: open deliveries | slots | exchanges, with what they discarded | bindings | schedules | end mark |

public sealed partial class QueueEngine
{
    private const ulong SnapshotVersion = 7;
    private const ulong EndMark = 0x444E452051455441;

    /// <summary>Tags, delivery numbers and tokens never come near: sums of them must not overflow.</summary>
    private const ulong MostTag = 1ul << 62;

    /// <summary>Writes the persistent state.</summary>
    public void Save(IBufferWriter<byte> to)
    {
        Number(to, SnapshotVersion);
        Number(to, (ulong)IntervalMicros);
        Number(to, (ulong)WallMicros);
        Number(to, _nextQueue);
        Number(to, _nextSubscription);
        Number(to, _nextProducer);
        Number(to, _nextToken);

        Number(to, (ulong)_producers.Count);
        foreach (Producer producer in _producers.Values.OrderBy(producer => producer.Id))
        {
            SaveProducer(to, producer);
        }

        SaveLimits(to);
        Number(to, (ulong)_queues.Count);
        foreach (Queue queue in _queues.Values.OrderBy(queue => queue.Id))
        {
            SaveQueue(to, queue);
        }

        Number(to, (ulong)_subscriptions.Count);
        foreach (Subscription subscription in _subscriptions.Values.OrderBy(subscription => subscription.Id))
        {
            SaveSubscription(to, subscription);
        }

        Number(to, (ulong)_slots.Count);
        foreach (SlotState slot in _slots.Values.OrderBy(slot => slot.Id))
        {
            Number(to, slot.Id);
            Number(to, slot.LastLeftBlock);
        }

        SaveExchanges(to);
        SaveSchedules(to);
        Number(to, EndMark);
    }

    /// <summary>After a recovery: what the records told of references and ends concerns nobody any more; owners may come back.</summary>
    public void EndRecovery()
    {
        _orphans.Clear();
        _ended.Clear();
        _late.Clear();
        _source = null;
        _sourceNumber = 0;
        foreach (Subscription subscription in _subscriptions.Values)
        {
            subscription.RecoveredBelow = subscription.NextDelivery;
            subscription.Lost.Clear();
        }
    }

    /// <summary>The whole persistent state as text, in a fixed order: equal states give equal texts.</summary>
    public void Dump(TextWriter to)
    {
        to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"time {IntervalMicros} {WallMicros} next {_nextQueue} {_nextSubscription} {_nextProducer} {_nextToken}"));
        foreach (Producer p in _producers.Values.OrderBy(p => p.Id))
        {
            to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"producer {p.Id} last {p.Last} epoch {p.Epoch} instance {p.InstanceLow:x} {p.InstanceHigh:x} seen {p.LastSeenMicros} subscriptions {p.Subscriptions} floor {p.RefusalFloor} refused {string.Join(',', p.Refusals.Select(r => $"{r.Number}:{r.Code}:{r.Count}:{r.Operation}"))}"));
        }

        DumpLimits(to);
        foreach (Queue q in _queues.Values.OrderBy(q => q.Id))
        {
            to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"queue {q.Id} {Encoding.UTF8.GetString(q.Name)} owner {q.Owner} {q.Attributes} used {q.LastUsedMicros} next {q.Index.NextTag} cursor {q.Cursor} ready {q.Ready} inflight {q.InFlight} delayed {q.Delayed} damaged {q.Damaged} dying {q.Dying} bytes {q.WaitingBytes}+{q.HeldBytes} published {q.Published} accepted {q.Accepted} rejected {q.Rejected} exhausted {q.Exhausted} expired {q.Expired} overflowed {q.Overflowed} deadlettered {q.DeadLettered} purged {q.Purged} moved {q.Moved} sweep {q.Sweep?.View} redelivered {q.Redelivered} paused {q.Paused} purge {q.PurgeGeneration}: {q.PurgeNext}..{q.PurgeEnd} deleted {q.IsDeleted}"));
            for (ulong tag = q.Index.Next(0, q.Index.NextTag); tag < q.Index.NextTag; tag = q.Index.Next(tag + 1, q.Index.NextTag))
            {
                IndexEntry e = q.Index.Find(tag);
                to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {tag} {e.State} at {e.Slot}:{e.Offset} length {e.LengthBytes}{(e.IsShared ? " shared" : "")} deliveries {e.Deliveries} generation {e.Generation}{(e.Release != ReleaseReason.None ? $" back {e.Release}" : "")}{(e.IsRequest ? " request" : "")}{(q.Due.TryFind(tag, out long due) ? $" due {due}" : "")}{(q.Expiry.TryFind(tag, out long expiry) ? $" expires {expiry}" : "")}{(q.Words is not null && q.Words.TryGetValue(tag, out byte[]? words) ? $" words {Convert.ToHexString(words)}" : "")}{(q.Order is not null && q.Order.TryFind(tag, out Traits traits) ? $" {traits}" : "")}{(q.Unique is not null && q.Unique.TryFind(tag, out UInt128 unique, out long untilStarted) ? $" unique {unique:x} {untilStarted}" : "")}{(q.Scheduled is not null && q.Scheduled.TryFind(tag, out UInt128 scheduled, out long since) ? $" scheduled {scheduled:x} since {since}" : "")}"));
            }

            DumpFlow(to, q);
            foreach ((UInt128 key, ulong tag, long until) in (q.Ledger?.Rows(IntervalMicros) ?? []).Order())
            {
                to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  id {key:x} of {tag} until {until}"));
            }

            foreach ((UInt128 key, long until, byte[] result) in q.Processed?.Rows(IntervalMicros) ?? [])
            {
                to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  processed {key:x} until {until} result {Convert.ToHexString(result)}"));
            }
        }

        foreach (Subscription s in _subscriptions.Values.OrderBy(s => s.Id))
        {
            to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"subscription {s.Id} queue {s.Queue.Id} producer {s.Producer} lease {s.LeaseMilliseconds} rank {s.Rank.Value} paused {s.IsPaused} next {s.NextDelivery} open {s.Open} bytes {s.OpenBytes}"));
            foreach ((ulong delivery, OpenDelivery open) in OpenOf(s))
            {
                to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {delivery} tag {open.Tag} until {open.LeaseEndMicros}"));
            }
        }

        DumpExchanges(to);
        foreach (SlotState slot in _slots.Values.OrderBy(s => s.Id))
        {
            to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"slot {slot.Id} live {slot.Live} bytes {slot.LiveBytes} left {slot.LastLeftBlock}"));
        }

        foreach (Schedule s in _schedules.Values)
        {
            to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"schedule {s.Id} of {_nextSchedule} {s.Name} queue {s.Queue.Id} next {s.NextMicros} due {s.DueMicros} last {s.LastMicros} fired {s.Fired} failed {s.Failed} late {s.Late} paused {s.IsPaused} {Convert.ToHexString(s.Definition)}"));
        }
    }

    private static void Number(IBufferWriter<byte> to, ulong value)
    {
        MemoryMarshal.Write(to.GetSpan(sizeof(ulong)), value);
        to.Advance(sizeof(ulong));
    }

    /// <summary>| next id | how many | id, queue, next, due, last, fired, failed, late, paused | length, definition | ...</summary>
    private void SaveSchedules(IBufferWriter<byte> to)
    {
        Number(to, _nextSchedule);
        Number(to, (ulong)_schedules.Count);
        foreach (Schedule s in _schedules.Values)
        {
            foreach (ulong number in (ReadOnlySpan<ulong>)[s.Id, s.Queue.Id, (ulong)s.NextMicros, (ulong)s.DueMicros, (ulong)s.LastMicros, s.Fired, s.Failed, s.Late, s.IsPaused ? 1u : 0u, (ulong)s.Definition.Length])
            {
                Number(to, number);
            }

            to.Write(s.Definition);
        }
    }

    private static void SaveProducer(IBufferWriter<byte> to, Producer producer)
    {
        Number(to, producer.Id);
        Number(to, producer.Last);
        Number(to, producer.Epoch);
        Number(to, producer.InstanceLow);
        Number(to, producer.InstanceHigh);
        Number(to, producer.RefusalFloor);
        Number(to, (ulong)producer.LastSeenMicros);
        Number(to, (ulong)producer.Refusals.Count);
        foreach (KeptRefusal refusal in producer.Refusals)
        {
            Number(to, refusal.Number);
            Number(to, (ulong)refusal.Code);
            Number(to, refusal.Count | ((ulong)refusal.Operation << 32));
        }
    }

    private void SaveQueue(IBufferWriter<byte> to, Queue queue)
    {
        Number(to, queue.Id);
        Number(to, queue.Owner);
        Number(to, (ulong)queue.Name.Length);
        to.Write(queue.Name);
        SaveAttributes(to, queue.Attributes);
        Number(to, queue.Index.NextTag);
        Number(to, queue.Cursor);
        Number(to, queue.PurgeNext);
        Number(to, queue.PurgeEnd);
        Number(to, queue.PurgeGeneration);
        Number(to, queue.IsDeleted ? 1u : 0u);
        Number(to, (ulong)queue.Ready);
        Number(to, (ulong)queue.InFlight);
        Number(to, (ulong)queue.Delayed);
        Number(to, (ulong)queue.Damaged);
        Number(to, (ulong)queue.Dying);
        Number(to, queue.Published);
        Number(to, queue.Accepted);
        Number(to, queue.Rejected);
        Number(to, queue.Exhausted);
        Number(to, queue.Expired);
        Number(to, queue.Overflowed);
        Number(to, queue.DeadLettered);
        Number(to, queue.Purged);
        Number(to, queue.Moved);
        Number(to, queue.Redelivered);
        Number(to, (ulong)queue.Paused);
        Number(to, (ulong)queue.LastUsedMicros);
        SaveEntries(to, queue.Index);
        SaveTimes(to, queue);
        SaveExpiries(to, queue);
        SaveWords(to, queue);
        SaveTraits(to, queue);
        SaveSweep(to, queue);
        SaveKeys(to, queue);
        SaveProcessed(to, queue);
        SaveFlow(to, queue);
    }

    /// <summary>| length | fields |</summary>
    private static void SaveAttributes(IBufferWriter<byte> to, QueueAttributes attributes)
    {
        Span<byte> room = stackalloc byte[MaxFactBytes];
        FieldWriter fields = new(room);
        attributes.Write(ref fields);
        Invariant.Holds(!fields.Overflowed);
        Number(to, (ulong)fields.Length);
        to.Write(fields.Written);
    }

    /// <summary>| time of each delayed message, in the order of their tags; 0: its queue was purged, and it waits for its slice | ... |</summary>
    private static void SaveTimes(IBufferWriter<byte> to, Queue queue)
    {
        ulong end = queue.Index.NextTag;
        for (ulong tag = queue.Index.Next(0, end); tag < end; tag = queue.Index.Next(tag + 1, end))
        {
            if (queue.Index.Find(tag).State == EntryState.Delayed)
            {
                _ = queue.Due.TryFind(tag, out long due);
                Number(to, (ulong)due);
            }
        }
    }

    /// <summary>| tag, when it expires | ... | 0 |, the tags rising.</summary>
    private static void SaveExpiries(IBufferWriter<byte> to, Queue queue)
    {
        ulong end = queue.Index.NextTag;
        for (ulong tag = queue.Index.Next(0, end); tag < end && queue.Expiry.Count > 0; tag = queue.Index.Next(tag + 1, end))
        {
            if (queue.Expiry.TryFind(tag, out long at))
            {
                Number(to, tag);
                Number(to, (ulong)at);
            }
        }

        Number(to, 0);
    }

    /// <summary>| tag, length, what was said of it | ... | 0 |, the tags rising.</summary>
    private static void SaveWords(IBufferWriter<byte> to, Queue queue)
    {
        foreach ((ulong tag, byte[] words) in queue.Words?.OrderBy(pair => pair.Key) ?? Enumerable.Empty<KeyValuePair<ulong, byte[]>>())
        {
            Number(to, tag);
            Number(to, (ulong)words.Length);
            to.Write(words);
        }

        Number(to, 0);
    }

    /// <summary>| tag, until when, id (2 numbers) | ... | 0 | unique keys | schedule keys |</summary>
    private void SaveKeys(IBufferWriter<byte> to, Queue queue)
    {
        foreach ((UInt128 key, ulong tag, long until) in queue.Ledger?.Rows(IntervalMicros) ?? [])
        {
            Number(to, tag);
            Number(to, (ulong)until);
            Number(to, (ulong)key);
            Number(to, (ulong)(key >> 64));
        }

        Number(to, 0);
        SaveKeys(to, queue, queue.Unique);
        SaveKeys(to, queue, queue.Scheduled);
    }

    /// <summary>| tag, what else was noted of it, key (2 numbers) | ... | 0 |, the tags rising.</summary>
    private static void SaveKeys(IBufferWriter<byte> to, Queue queue, UniqueKeys? of)
    {
        ulong end = queue.Index.NextTag;
        for (ulong tag = queue.Index.Next(0, end); tag < end && of is { Count: > 0 } keys; tag = queue.Index.Next(tag + 1, end))
        {
            if (keys.TryFind(tag, out UInt128 key, out long note))
            {
                Number(to, tag);
                Number(to, (ulong)note);
                Number(to, (ulong)key);
                Number(to, (ulong)(key >> 64));
            }
        }

        Number(to, 0);
    }

    /// <summary>| state | and, where that is not 0: | action, first, end, rate, done, failed | length, target | length, filter |</summary>
    private static void SaveSweep(IBufferWriter<byte> to, Queue queue)
    {
        SweepView sweep = queue.Sweep?.View ?? default;
        Number(to, (ulong)sweep.State);
        if (sweep.State != SweepState.None)
        {
            foreach (ulong number in (ReadOnlySpan<ulong>)[(ulong)sweep.Action, sweep.First, sweep.End, sweep.RateASecond, sweep.Done, sweep.Failed])
            {
                Number(to, number);
            }

            foreach (string text in (ReadOnlySpan<string>)[sweep.Target, sweep.Filter])
            {
                byte[] bytes = Encoding.UTF8.GetBytes(text);
                Number(to, (ulong)bytes.Length);
                to.Write(bytes);
            }
        }
    }

    /// <summary>| tag, priority, tenant, line | ... | 0 |, in no order.</summary>
    private static void SaveTraits(IBufferWriter<byte> to, Queue queue)
    {
        foreach ((ulong tag, Traits traits) in queue.Order?.Rows() ?? [])
        {
            Number(to, tag);
            Number(to, traits.Priority);
            Number(to, traits.Tenant);
            Number(to, traits.Line);
        }

        Number(to, 0);
    }

    /// <summary>| tag, 16 bytes of the entry | ... | 0 |, the tags rising.</summary>
    private static void SaveEntries(IBufferWriter<byte> to, QueueIndex index)
    {
        const int EntryBytes = sizeof(ulong) + IndexEntry.SizeBytes;
        const int AtOnce = 1024;
        ulong end = index.NextTag;
        ulong tag = index.Next(0, end);
        while (tag < end)
        {
            Span<byte> room = to.GetSpan(AtOnce * EntryBytes);
            int used = 0;
            for (int i = 0; i < AtOnce && tag < end; i++)
            {
                MemoryMarshal.Write(room[used..], tag);
                MemoryMarshal.Write(room[(used + sizeof(ulong))..], index.Find(tag));
                used += EntryBytes;
                tag = index.Next(tag + 1, end);
            }

            to.Advance(used);
        }

        Number(to, 0);
    }

    private static void SaveSubscription(IBufferWriter<byte> to, Subscription subscription)
    {
        Number(to, subscription.Id);
        Number(to, subscription.Queue.Id);
        Number(to, subscription.Producer);
        Number(to, (ulong)subscription.LeaseMilliseconds);
        Number(to, subscription.Rank.Value);
        Number(to, subscription.IsPaused ? 1u : 0u);
        Number(to, subscription.NextDelivery);
        Number(to, (ulong)subscription.Open);
        foreach ((ulong delivery, OpenDelivery open) in OpenOf(subscription))
        {
            Number(to, delivery);
            Number(to, open.Tag);
            Number(to, (ulong)open.LeaseEndMicros);
        }
    }

    private static IEnumerable<(ulong Delivery, OpenDelivery Open)> OpenOf(Subscription subscription)
    {
        SparseRing<OpenDelivery> window = subscription.Window;
        for (ulong delivery = window.NextOccupied(0); delivery != ulong.MaxValue; delivery = window.NextOccupied(delivery + 1))
        {
            yield return (delivery, window.Find(delivery));
        }
    }
}
