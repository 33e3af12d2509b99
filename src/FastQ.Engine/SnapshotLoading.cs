using System.Buffers;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using FastQ.Protocol;

namespace FastQ.Engine;

// Bytes back into the persistent state. A snapshot is as hostile as any file: every count, link and length is checked, and what can
// be counted again is counted again. See Snapshot.cs.

public sealed partial class QueueEngine
{
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
        ulong nextQueue = loader.Number();
        ulong nextSubscription = loader.Number();
        _nextProducer = loader.Number();
        _nextToken = loader.Number();
        if (IntervalMicros is < 0 or > LatestMicros || nextQueue is 0 or > uint.MaxValue || nextSubscription is 0 or > uint.MaxValue || _nextProducer is 0 or > MostTag || _nextToken is 0 or > MostTag)
        {
            return false;
        }

        (_nextQueue, _nextSubscription) = ((uint)nextQueue, (uint)nextSubscription);
        return LoadProducers(loader) && LoadLimits(loader) && LoadQueues(loader) && LoadSubscriptions(loader) && LoadSlots(loader) && LoadExchanges(loader) && LoadSchedules(loader) && loader.Number() == EndMark && TryRecount();
    }

    private bool LoadProducers(Loader loader)
    {
        ulong count = loader.Number();
        for (ulong i = 0; i < count && !loader.HasFailed; i++)
        {
            Producer producer = new(loader.Number()) { Last = loader.Number(), Epoch = loader.Number(), InstanceLow = loader.Number(), InstanceHigh = loader.Number(), RefusalFloor = loader.Number(), LastSeenMicros = (long)loader.Number() };
            ulong refusals = loader.Number();
            if (refusals > Limits.MaxKeptRefusals * 2 || producer.Id == 0 || producer.Id >= _nextProducer || producer.Last > MostTag || producer.LastSeenMicros < 0 || producer.LastSeenMicros > IntervalMicros || !_producers.TryAdd(producer.Id, producer))
            {
                return false;
            }

            for (ulong r = 0; r < refusals && !loader.HasFailed; r++)
            {
                (ulong number, ulong code, ulong which) = (loader.Number(), loader.Number(), loader.Number());
                KeptRefusal refusal = new(number, (RefusalCode)code, (uint)which, (uint)(which >> 32));
                if (number <= producer.RefusalFloor || number > producer.Last || refusal.Count == 0 || refusal.Count > producer.Last - number + 1)
                {
                    return false;
                }

                producer.Refusals.Add(refusal);
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
            ulong owner = loader.Number();
            ulong nameBytes = loader.Number();
            if (id == 0 || id >= _nextQueue || nameBytes > Limits.MaxNameBytes)
            {
                return false;
            }

            byte[] name = new byte[nameBytes];
            loader.Bytes(name);
            ulong attributeBytes = loader.Number();
            if (attributeBytes > MaxFactBytes)
            {
                return false;
            }

            byte[] fields = new byte[attributeBytes];
            loader.Bytes(fields);
            string text = Encoding.UTF8.GetString(name);
            Queue queue = new(id, name, QueueAttributes.From(fields).For(text), _pages, _warm, owner);
            if (!Names.IsValid(name) || queue.Attributes.Fault(text).Length > 0 || !_queues.TryAdd(id, queue) || !LoadQueue(loader, queue))
            {
                return false;
            }

            if (queue.IsDeleted)
            {
                _purging.Add(id);
            }
            else if (!_byName.TryAdd(text, queue))
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

    private bool LoadQueue(Loader loader, Queue queue)
    {
        ulong nextTag = loader.Number();
        queue.Cursor = loader.Number();
        queue.PurgeNext = loader.Number();
        queue.PurgeEnd = loader.Number();
        ulong generation = loader.Number();
        ulong isDeleted = loader.Number();
        queue.PurgeGeneration = (ushort)generation;
        queue.IsDeleted = isDeleted == 1;
        if (!queue.IsDeleted && !TryLimit(queue))
        {
            return false;
        }

        queue.Ready = (long)loader.Number();
        queue.InFlight = (long)loader.Number();
        queue.Delayed = (long)loader.Number();
        queue.Damaged = (long)loader.Number();
        queue.Dying = (long)loader.Number();
        queue.Published = loader.Number();
        queue.Accepted = loader.Number();
        queue.Rejected = loader.Number();
        queue.Exhausted = loader.Number();
        queue.Expired = loader.Number();
        queue.Overflowed = loader.Number();
        queue.DeadLettered = loader.Number();
        queue.Purged = loader.Number();
        queue.Moved = loader.Number();
        queue.Redelivered = loader.Number();
        ulong paused = loader.Number();
        queue.Pause((PausedWays)paused);
        queue.LastUsedMicros = (long)loader.Number();
        if (loader.HasFailed || queue.LastUsedMicros < 0 || queue.LastUsedMicros > IntervalMicros || nextTag is 0 or > MostTag || queue.Cursor == 0 || queue.Cursor > nextTag || generation > ushort.MaxValue || isDeleted > 1 || paused > (ulong)(PausedWays.In | PausedWays.Out | PausedWays.Breaker) || ((paused & (ulong)PausedWays.Breaker) != 0 && queue.Flow?.Breaker is null) || (queue.IsDeleted ? queue.PurgeEnd != nextTag : queue.PurgeEnd > queue.Cursor) || queue.PurgeNext > queue.PurgeEnd)
        {
            return false;
        }

        Span<byte> bytes = stackalloc byte[IndexEntry.SizeBytes];
        for (ulong tag = loader.Number(); tag != 0; tag = loader.Number())
        {
            loader.Bytes(bytes);
            IndexEntry entry = MemoryMarshal.Read<IndexEntry>(bytes);
            if (loader.HasFailed || tag < queue.Index.NextTag || tag >= nextTag || !IsEntry(entry) || entry.LengthBytes < MessageHeader.SizeBytes || (entry.State is EntryState.InFlight && entry.Deliveries == 0))
            {
                return false;
            }

            queue.Index.Add(tag) = entry;
        }

        // A deletion frees entries in their order: one that it has passed over would never be freed, nor its slot.
        queue.Index.SetNextTag(nextTag);
        return !loader.HasFailed && !(queue.IsDeleted && queue.Index.Next(0, queue.PurgeNext) < queue.PurgeNext) && LoadTimes(loader, queue) && LoadExpiries(loader, queue) && LoadWords(loader, queue) && LoadTraits(loader, queue) && LoadSweep(loader, queue) && LoadKeys(loader, queue) && LoadProcessed(loader, queue) && LoadFlow(loader, queue);
    }

    /// <summary>Is it a state that there is, and are the reasons those that there are?</summary>
    private static bool IsEntry(in IndexEntry entry) => entry.Release <= ReleaseReason.ReleasedUncounted && (entry.State == EntryState.Dying
        ? (entry.Generation & ~IndexEntry.Stopped) is >= (int)DeathReason.MaxDeliveries and <= (int)DeathReason.Overflow
        : entry.State is >= EntryState.Ready and <= EntryState.Delayed);

    private static bool LoadExpiries(Loader loader, Queue queue)
    {
        ulong last = 0;
        for (ulong tag = loader.Number(); tag != 0; tag = loader.Number())
        {
            ulong at = loader.Number();
            ref IndexEntry entry = ref queue.Index.Find(tag);
            if (loader.HasFailed || tag <= last || at is 0 or > LatestMicros || queue.IsDeleted || Unsafe.IsNullRef(ref entry) || entry.State is EntryState.Damaged or EntryState.Dying)
            {
                return false;
            }

            queue.Expiry.Set(tag, (long)at);
            last = tag;
        }

        return !loader.HasFailed;
    }

    private bool LoadWords(Loader loader, Queue queue)
    {
        ulong last = 0;
        for (ulong tag = loader.Number(); tag != 0; tag = loader.Number())
        {
            ulong length = loader.Number();
            ref IndexEntry entry = ref queue.Index.Find(tag);
            if (loader.HasFailed || tag <= last || length is 0 or > Limits.MaxWordsBytes || queue.IsDeleted || Unsafe.IsNullRef(ref entry) || entry.State != EntryState.Dying)
            {
                return false;
            }

            byte[] words = new byte[length];
            loader.Bytes(words);
            KeepWords(queue, tag, words);
            last = tag;
        }

        return !loader.HasFailed;
    }

    private bool LoadSweep(Loader loader, Queue queue)
    {
        ulong state = loader.Number();
        if (state == (ulong)SweepState.None)
        {
            return !loader.HasFailed;
        }

        (ulong action, ulong first, ulong end, ulong rate) = (loader.Number(), loader.Number(), loader.Number(), loader.Number());
        (ulong done, ulong failed) = (loader.Number(), loader.Number());
        if (state > (ulong)SweepState.Cancelled || action > (ulong)SweepAction.Delete || first > end || end > queue.Index.NextTag || rate > uint.MaxValue
            || !TryText(loader, Limits.MaxNameBytes, out string target) || !TryText(loader, Limits.MaxFilterBytes, out string filter))
        {
            return false;
        }

        queue.Sweep = new Sweep(new SweepView((SweepAction)action, first, end, target, filter, (uint)rate, default, 0, 0)) { State = (SweepState)state, Done = done, Failed = failed };
        if (queue.Sweep.State == SweepState.Running)
        {
            _sweeping.Enqueue(queue);
        }

        return !loader.HasFailed;
    }

    private bool LoadKeys(Loader loader, Queue queue)
    {
        for (ulong tag = loader.Number(); tag != 0; tag = loader.Number())
        {
            ulong until = loader.Number();
            UInt128 key = loader.Number() | ((UInt128)loader.Number() << 64);
            if (loader.HasFailed || tag >= queue.Index.NextTag || until <= (ulong)IntervalMicros || until > LatestMicros || key == 0 || queue.IsDeleted || queue.Ledger?.TryFind(key, 0, out _) == true)
            {
                return false;
            }

            queue.MakeLedger().Add(key, tag, (long)until, IntervalMicros);
        }

        return LoadKeys(loader, queue, queue.MakeUnique, mostNote: 1) && LoadKeys(loader, queue, queue.MakeScheduled, mostNote: (ulong)IntervalMicros);
    }

    private static bool LoadKeys(Loader loader, Queue queue, Func<UniqueKeys> make, ulong mostNote)
    {
        ulong last = 0;
        for (ulong tag = loader.Number(); tag != 0; tag = loader.Number())
        {
            ulong note = loader.Number();
            UInt128 key = loader.Number() | ((UInt128)loader.Number() << 64);
            ref IndexEntry entry = ref queue.Index.Find(tag);
            if (loader.HasFailed || tag <= last || note > mostNote || key == 0 || queue.IsDeleted || Unsafe.IsNullRef(ref entry) || entry.State == EntryState.Dying || make().TryFind(key, out _))
            {
                return false;
            }

            make().Add(key, tag, (long)note);
            last = tag;
        }

        return !loader.HasFailed;
    }

    private static bool TryText(Loader loader, int mostBytes, out string text)
    {
        ulong length = loader.Number();
        byte[] bytes = new byte[Math.Min(length, (ulong)mostBytes)];
        loader.Bytes(bytes);
        text = Encoding.UTF8.GetString(bytes);
        return length <= (ulong)mostBytes;
    }

    private static bool LoadTraits(Loader loader, Queue queue)
    {
        for (ulong tag = loader.Number(); tag != 0; tag = loader.Number())
        {
            ulong priority = loader.Number();
            Traits traits = new((byte)priority, loader.Number(), loader.Number());
            ref IndexEntry entry = ref queue.Index.Find(tag);
            bool mayHave = !Unsafe.IsNullRef(ref entry) && entry.State is EntryState.InFlight or EntryState.Returned or EntryState.Delayed;
            if (loader.HasFailed || queue.Order?.Contains(tag) == true || priority > byte.MaxValue || !traits.IsValid || queue.IsDeleted || !mayHave)
            {
                return false;
            }

            queue.MakeOrder().Add(tag, traits);
        }

        return !loader.HasFailed;
    }

    private static bool LoadTimes(Loader loader, Queue queue)
    {
        ulong end = queue.Index.NextTag;
        for (ulong tag = queue.Index.Next(0, end); tag < end && !loader.HasFailed; tag = queue.Index.Next(tag + 1, end))
        {
            ref IndexEntry entry = ref queue.Index.Find(tag);
            if (entry.State != EntryState.Delayed)
            {
                continue;
            }

            ulong due = loader.Number();
            if (due > LatestMicros || (due == 0) != (queue.IsDeleted || queue.IsVoid(tag, entry)))
            {
                return false;
            }

            if (due != 0)
            {
                queue.Due.Set(tag, (long)due);
            }
        }

        return !loader.HasFailed;
    }

    private bool LoadSubscriptions(Loader loader)
    {
        HashSet<(uint Queue, ulong Tag)> owned = []; // One owner a message.
        ulong count = loader.Number();
        for (ulong i = 0; i < count && !loader.HasFailed; i++)
        {
            uint id = (uint)loader.Number();
            bool known = _queues.TryGetValue((uint)loader.Number(), out Queue? queue);
            ulong producer = loader.Number();
            long lease = (long)loader.Number();
            ulong rank = loader.Number();
            ulong isPaused = loader.Number();
            ulong next = loader.Number();
            ulong open = loader.Number();
            if (!known || queue!.IsDeleted || id == 0 || id >= _nextSubscription || next is 0 or > MostTag || lease is < Limits.MinLeaseMilliseconds or > Limits.MaxLeaseMilliseconds || !ConsumerRank.IsRank(rank) || isPaused > 1 || _subscriptions.ContainsKey(id))
            {
                return false;
            }

            Subscription subscription = new(id, queue, producer, lease, ConsumerRank.From(rank)) { IsPaused = isPaused == 1 };
            AddSubscription(subscription);
            ulong last = 0;
            for (ulong k = 0; k < open; k++)
            {
                ulong delivery = loader.Number();
                OpenDelivery one = new() { Tag = loader.Number(), LeaseEndMicros = (long)loader.Number() };
                ref IndexEntry entry = ref queue.Index.Find(one.Tag);
                if (loader.HasFailed || delivery <= last || delivery >= next || one.LeaseEndMicros is < 0 or > LatestMicros || Unsafe.IsNullRef(ref entry) || entry.State != EntryState.InFlight || !owned.Add((queue.Id, one.Tag)))
                {
                    return false;
                }

                subscription.Window.Append(delivery, one);
                subscription.OpenBytes += entry.LengthBytes;
                subscription.HoldsLast = entry.Deliveries >= queue.MostDeliveries;
                last = delivery;
            }

            subscription.Window.Reach(next);
        }

        return !loader.HasFailed;
    }

    private bool LoadSlots(Loader loader)
    {
        ulong count = loader.Number();
        for (ulong i = 0; i < count && !loader.HasFailed; i++)
        {
            ulong id = loader.Number();
            if (id > uint.MaxValue || _slots.ContainsKey((uint)id))
            {
                return false;
            }

            SlotOf((uint)id).LastLeftBlock = loader.Number();
        }

        return !loader.HasFailed;
    }

    private bool LoadSchedules(Loader loader)
    {
        ulong nextId = loader.Number();
        ulong count = loader.Number();
        HashSet<uint> ids = [];
        for (ulong i = 0; i < count && !loader.HasFailed; i++)
        {
            (ulong id, ulong queueId, ulong next, ulong due, ulong last) = (loader.Number(), loader.Number(), loader.Number(), loader.Number(), loader.Number());
            (ulong fired, ulong failed, ulong late, ulong paused, ulong length) = (loader.Number(), loader.Number(), loader.Number(), loader.Number(), loader.Number());
            Queue? queue = FindQueue((uint)Math.Min(queueId, uint.MaxValue));
            if (queue is null || id == 0 || id >= nextId || !IsFiring(next, due) || last > LatestMicros || late > uint.MaxValue || paused > 1 || length > Limits.MaxScheduleBytes || !ids.Add((uint)id))
            {
                return false;
            }

            byte[] definition = new byte[length];
            loader.Bytes(definition);
            Schedule schedule = new((uint)id, queue, definition) { NextMicros = (long)next, DueMicros = (long)due, LastMicros = (long)last, Fired = fired, Failed = failed, Late = (uint)late, IsPaused = paused == 1 };
            if (!Names.IsValid(Encoding.UTF8.GetBytes(schedule.Name)) || _schedules.ContainsKey(schedule.Name))
            {
                return false;
            }

            AddSchedule(schedule);
        }

        _nextSchedule = (uint)nextId;
        return !loader.HasFailed && nextId is not 0 and <= uint.MaxValue;
    }

    /// <summary>Counts again what can be counted: states, bytes, slots, and rebuilds the heaps.</summary>
    private bool TryRecount()
    {
        foreach (Queue queue in _queues.Values)
        {
            (long ready, long inFlight, long delayed, long damaged, long dying) = (0, 0, 0, 0, 0);
            ulong end = queue.Index.NextTag;
            for (ulong tag = queue.Index.Next(0, end); tag < end; tag = queue.Index.Next(tag + 1, end))
            {
                ref IndexEntry entry = ref queue.Index.Find(tag);
                if (!_slots.ContainsKey(entry.Slot))
                {
                    return false;
                }

                if (!entry.IsShared)
                {
                    Arrive(entry.Slot, entry.LengthBytes);
                }
                else if (!TryArriveShared(new Place(entry.Slot, entry.Offset), entry.LengthBytes, 1))
                {
                    return false;
                }

                if (queue.IsDeleted || queue.IsVoid(tag, entry))
                {
                    continue;
                }

                long bytes = entry.LengthBytes - MessageHeader.SizeBytes;
                switch (entry.State)
                {
                    case EntryState.InFlight:
                        inFlight++;
                        queue.HeldBytes += bytes;
                        queue.Order?.Move(tag, Standing.InHand);
                        break;
                    case EntryState.Damaged:
                        damaged++;
                        queue.HeldBytes += bytes;
                        break;
                    case EntryState.Delayed:
                        delayed++;
                        queue.WaitingBytes += bytes;
                        queue.Order?.Move(tag, queue.StandingOfDelayed(entry));
                        break;
                    case EntryState.Dying:
                        dying++;
                        queue.HeldBytes += bytes;
                        ListAsDying(queue, tag, entry);
                        break;
                    default:
                        // What is ready and not in the heap lies from the cursor on: else dispatch would pass it by.
                        if (entry.State == EntryState.Ready && tag < queue.Cursor)
                        {
                            return false;
                        }

                        ready++;
                        queue.WaitingBytes += bytes;
                        if (entry.State != EntryState.Ready)
                        {
                            Line(queue, tag, entry);
                        }

                        break;
                }
            }

            bool adds = queue.Published == queue.Gone + (ulong)(queue.Ready + queue.InFlight + queue.Delayed + queue.Damaged);
            if (ready != queue.Ready || inFlight != queue.InFlight || delayed != queue.Delayed || damaged != queue.Damaged || dying != queue.Dying || (!queue.IsDeleted && !(adds && queue.Deaths >= queue.DeadLettered + (ulong)dying)))
            {
                return false;
            }
        }

        foreach (Subscription subscription in _subscriptions.Values)
        {
            foreach ((_, OpenDelivery one) in OpenOf(subscription))
            {
                subscription.Queue.Order?.HeldBy(one.Tag, subscription.Id);
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
