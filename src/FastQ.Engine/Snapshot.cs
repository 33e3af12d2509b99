using System.Buffers;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using FastQ.Protocol;

namespace FastQ.Engine;

// The persistent state as bytes, and back. A snapshot is as hostile as any file: every count, link and length is checked, and what can
// be counted again is counted again.
//
//   | version, clocks, next ids | producers | queues: attributes, counts, index pages | subscriptions: open deliveries | slots | end mark |

public sealed partial class QueueEngine
{
    private const ulong SnapshotVersion = 1;
    private const ulong EndMark = 0x444E452051455441;

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

        Number(to, EndMark);
    }

    /// <summary>Takes a saved state in; the engine is new. False: these bytes are not one, and the engine must not be used.</summary>
    public bool TryLoad(Stream from)
    {
        Loader loader = new(from);
        if (loader.Number() != SnapshotVersion)
        {
            return false;
        }

        IntervalMicros = (long)loader.Number();
        WallMicros = (long)loader.Number();
        _nextQueue = (uint)loader.Number();
        _nextSubscription = (uint)loader.Number();
        _nextProducer = loader.Number();
        _nextToken = loader.Number();
        return LoadProducers(loader) && LoadQueues(loader) && LoadSubscriptions(loader) && LoadSlots(loader) && loader.Number() == EndMark && !loader.HasFailed && TryRecount();
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
            subscription.IsRecovered = true;
            subscription.Lost.Clear();
        }
    }

    /// <summary>The whole persistent state as text, in a fixed order: equal states give equal texts.</summary>
    public void Dump(TextWriter to)
    {
        to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"time {IntervalMicros} {WallMicros} next {_nextQueue} {_nextSubscription} {_nextProducer} {_nextToken}"));
        foreach (Producer p in _producers.Values.OrderBy(p => p.Id))
        {
            to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"producer {p.Id} last {p.Last} epoch {p.Epoch} floor {p.RefusalFloor} refused {string.Join(',', p.Refusals.Select(r => $"{r.Number}:{r.Code}"))}"));
        }

        foreach (Queue q in _queues.Values.OrderBy(q => q.Id))
        {
            to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"queue {q.Id} {Encoding.UTF8.GetString(q.Name)} {q.Attributes} next {q.Index.NextTag} ready {q.Ready} inflight {q.InFlight} damaged {q.Damaged} bytes {q.ReadyBytes}+{q.HeldBytes} published {q.Published} accepted {q.Accepted} rejected {q.Rejected} purged {q.Purged} redelivered {q.Redelivered} purge {q.PurgeNext}..{q.PurgeEnd} deleted {q.IsDeleted}"));
            for (ulong tag = q.Index.FirstTag; tag < q.Index.NextTag; tag++)
            {
                ref IndexEntry e = ref q.Index.Find(tag);
                if (!Unsafe.IsNullRef(ref e))
                {
                    to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {tag} {e.State} at {e.Slot}:{e.Offset} length {e.LengthBytes} deliveries {e.Deliveries}"));
                }
            }
        }

        foreach (Subscription s in _subscriptions.Values.OrderBy(s => s.Id))
        {
            to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"subscription {s.Id} queue {s.Queue.Id} producer {s.Producer} lease {s.LeaseMilliseconds} next {s.NextDelivery} open {s.Open} bytes {s.OpenBytes}"));
            foreach ((ulong delivery, OpenDelivery open) in OpenOf(s))
            {
                to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {delivery} tag {open.Tag} until {open.LeaseEndMicros}"));
            }
        }

        foreach (SlotState slot in _slots.Values.OrderBy(s => s.Id))
        {
            to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"slot {slot.Id} live {slot.Live} bytes {slot.LiveBytes} left {slot.LastLeftBlock}"));
        }
    }

    private static void Number(IBufferWriter<byte> to, ulong value)
    {
        MemoryMarshal.Write(to.GetSpan(sizeof(ulong)), value);
        to.Advance(sizeof(ulong));
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
        }
    }

    private static void SaveQueue(IBufferWriter<byte> to, Queue queue)
    {
        Number(to, queue.Id);
        Number(to, (ulong)queue.Name.Length);
        to.Write(queue.Name);
        Number(to, (ulong)queue.Attributes.LeaseMilliseconds);
        Number(to, queue.Index.NextTag);
        Number(to, queue.Cursor);
        Number(to, queue.PurgeNext);
        Number(to, queue.PurgeEnd);
        Number(to, queue.IsDeleted ? 1u : 0u);
        Number(to, (ulong)queue.Ready);
        Number(to, (ulong)queue.InFlight);
        Number(to, (ulong)queue.Damaged);
        Number(to, queue.Published);
        Number(to, queue.Accepted);
        Number(to, queue.Rejected);
        Number(to, queue.Purged);
        Number(to, queue.Redelivered);
        foreach ((ulong page, nint memory) in queue.Index.Pages())
        {
            Number(to, page + 1);
            to.Write(QueueIndex.BytesOf(memory));
        }

        Number(to, 0);
    }

    private static void SaveSubscription(IBufferWriter<byte> to, Subscription subscription)
    {
        Number(to, subscription.Id);
        Number(to, subscription.Queue.Id);
        Number(to, subscription.Producer);
        Number(to, (ulong)subscription.LeaseMilliseconds);
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
        foreach ((ulong delivery, OpenDelivery open) in subscription.Stragglers)
        {
            yield return (delivery, open);
        }

        for (ulong delivery = subscription.Window.First; delivery < subscription.Window.End; delivery++)
        {
            OpenDelivery open = subscription.Window[delivery];
            if (open.Tag != 0)
            {
                yield return (delivery, open);
            }
        }
    }

    private bool LoadProducers(Loader loader)
    {
        ulong count = loader.Number();
        for (ulong i = 0; i < count && !loader.HasFailed; i++)
        {
            Producer producer = new(loader.Number()) { Last = loader.Number(), Epoch = loader.Number(), InstanceLow = loader.Number(), InstanceHigh = loader.Number(), RefusalFloor = loader.Number(), LastSeenMicros = (long)loader.Number() };
            ulong refusals = loader.Number();
            if (refusals > Limits.MaxKeptRefusals * 2 || producer.Id == 0 || producer.Id >= _nextProducer || !_producers.TryAdd(producer.Id, producer))
            {
                return false;
            }

            for (ulong r = 0; r < refusals && !loader.HasFailed; r++)
            {
                producer.Refusals.Add(new KeptRefusal(loader.Number(), (RefusalCode)loader.Number()));
            }
        }

        return !loader.HasFailed;
    }

    private bool LoadQueues(Loader loader)
    {
        ulong count = loader.Number();
        for (ulong i = 0; i < count && !loader.HasFailed; i++)
        {
            uint id = (uint)loader.Number();
            ulong nameBytes = loader.Number();
            if (id == 0 || id >= _nextQueue || nameBytes > Limits.MaxNameBytes)
            {
                return false;
            }

            byte[] name = new byte[nameBytes];
            loader.Bytes(name);
            Queue queue = new(id, name, new QueueAttributes((long)loader.Number()), _pages);
            if (!Names.IsValid(name) || !_queues.TryAdd(id, queue) || !LoadQueue(loader, queue))
            {
                return false;
            }

            if (queue.IsDeleted)
            {
                _purging.Add(id);
            }
            else if (!_byName.TryAdd(Encoding.UTF8.GetString(name), queue))
            {
                return false;
            }

            if (queue.PurgeEnd != 0)
            {
                _purging.Add(id);
            }
        }

        return !loader.HasFailed;
    }

    private static bool LoadQueue(Loader loader, Queue queue)
    {
        ulong nextTag = loader.Number();
        queue.Cursor = loader.Number();
        queue.PurgeNext = loader.Number();
        queue.PurgeEnd = loader.Number();
        queue.IsDeleted = loader.Number() == 1;
        queue.Ready = (long)loader.Number();
        queue.InFlight = (long)loader.Number();
        queue.Damaged = (long)loader.Number();
        queue.Published = loader.Number();
        queue.Accepted = loader.Number();
        queue.Rejected = loader.Number();
        queue.Purged = loader.Number();
        queue.Redelivered = loader.Number();
        if (loader.HasFailed || nextTag == 0 || queue.Cursor > nextTag || queue.PurgeEnd > nextTag || queue.PurgeNext > queue.PurgeEnd)
        {
            return false;
        }

        ulong last = 0;
        for (ulong page = loader.Number(); page != 0; page = loader.Number())
        {
            // Pages rise, and none lies beyond the next tag's: so a forged number cannot make the table large.
            if (loader.HasFailed || page <= last || page - 1 > nextTag / QueueIndex.EntriesAPage)
            {
                return false;
            }

            loader.Bytes(queue.Index.LoadPage(page - 1));
            queue.Index.Recount(page - 1);
            last = page;
        }

        queue.Index.SetNextTag(nextTag);
        return !loader.HasFailed;
    }

    private bool LoadSubscriptions(Loader loader)
    {
        ulong count = loader.Number();
        for (ulong i = 0; i < count && !loader.HasFailed; i++)
        {
            uint id = (uint)loader.Number();
            bool known = _queues.TryGetValue((uint)loader.Number(), out Queue? queue);
            ulong producer = loader.Number();
            long lease = (long)loader.Number();
            ulong next = loader.Number();
            ulong open = loader.Number();
            if (!known || queue!.IsDeleted || id == 0 || id >= _nextSubscription || next == 0)
            {
                return false;
            }

            Subscription subscription = new(id, queue, producer, lease);
            if (!_subscriptions.TryAdd(id, subscription))
            {
                return false;
            }

            queue.Subscriptions.Add(subscription);
            ulong last = 0;
            for (ulong k = 0; k < open; k++)
            {
                ulong delivery = loader.Number();
                OpenDelivery one = new() { Tag = loader.Number(), LeaseEndMicros = (long)loader.Number() };
                ref IndexEntry entry = ref queue.Index.Find(one.Tag);
                if (loader.HasFailed || delivery <= last || delivery >= next || Unsafe.IsNullRef(ref entry) || entry.State != EntryState.InFlight)
                {
                    return false;
                }

                subscription.Stragglers.Add(delivery, one);
                subscription.Open++;
                subscription.OpenBytes += entry.LengthBytes;
                subscription.EarliestLeaseEnd = Math.Min(subscription.EarliestLeaseEnd, one.LeaseEndMicros);
                last = delivery;
            }

            subscription.Window.StartAt(next);
        }

        return !loader.HasFailed;
    }

    private bool LoadSlots(Loader loader)
    {
        ulong count = loader.Number();
        for (ulong i = 0; i < count && !loader.HasFailed; i++)
        {
            uint id = (uint)loader.Number();
            SlotOf(id).LastLeftBlock = loader.Number();
        }

        return !loader.HasFailed;
    }

    /// <summary>Counts again what can be counted: states, bytes, slots, and rebuilds the heaps.</summary>
    private bool TryRecount()
    {
        foreach (Queue queue in _queues.Values)
        {
            (long ready, long inFlight, long damaged) = (0, 0, 0);
            for (ulong tag = queue.Index.FirstTag; tag < queue.Index.NextTag; tag++)
            {
                ref IndexEntry entry = ref queue.Index.Find(tag);
                if (Unsafe.IsNullRef(ref entry))
                {
                    continue;
                }

                if (entry.LengthBytes < MessageHeader.SizeBytes || entry.Slot == 0 || entry.State > EntryState.ReturnedAfterPurge)
                {
                    return false;
                }

                Arrive(entry.Slot, entry.LengthBytes);
                bool isVoid = queue.IsDeleted || queue.IsVoid(tag, entry.State);
                long bytes = entry.LengthBytes - MessageHeader.SizeBytes;
                switch (entry.State)
                {
                    case EntryState.InFlight:
                        inFlight++;
                        queue.HeldBytes += bytes;
                        break;
                    case EntryState.Damaged:
                        damaged++;
                        queue.HeldBytes += bytes;
                        break;
                    default:
                        if (isVoid)
                        {
                            break;
                        }

                        ready++;
                        queue.ReadyBytes += bytes;
                        if (entry.State != EntryState.Ready)
                        {
                            queue.Returned.Push(tag);
                        }

                        break;
                }
            }

            bool adds = queue.Published == queue.Accepted + queue.Rejected + queue.Purged + (ulong)(queue.Ready + queue.InFlight + queue.Damaged);
            if (!queue.IsDeleted && (ready != queue.Ready || inFlight != queue.InFlight || damaged != queue.Damaged || !adds))
            {
                return false;
            }
        }

        long open = _subscriptions.Values.Sum(subscription => subscription.Open);
        return open == _queues.Values.Where(queue => !queue.IsDeleted).Sum(queue => queue.InFlight);
    }

    /// <summary>Reads numbers and bytes; when they end too early, everything after is zero and <see cref="HasFailed"/> tells.</summary>
    private sealed class Loader(Stream from)
    {
        private readonly byte[] _buffer = new byte[64 * 1024];
        private int _at;
        private int _end;

        public bool HasFailed { get; private set; }

        public ulong Number()
        {
            if (_end - _at < sizeof(ulong))
            {
                Span<byte> bytes = stackalloc byte[sizeof(ulong)];
                Bytes(bytes);
                return HasFailed ? 0 : MemoryMarshal.Read<ulong>(bytes);
            }

            ulong value = MemoryMarshal.Read<ulong>(_buffer.AsSpan(_at));
            _at += sizeof(ulong);
            return value;
        }

        public void Bytes(Span<byte> into)
        {
            while (!into.IsEmpty && !HasFailed)
            {
                if (_at == _end)
                {
                    (_at, _end) = (0, from.Read(_buffer));
                    HasFailed = _end == 0;
                    continue;
                }

                int step = Math.Min(into.Length, _end - _at);
                _buffer.AsSpan(_at, step).CopyTo(into);
                _at += step;
                into = into[step..];
            }
        }
    }
}
