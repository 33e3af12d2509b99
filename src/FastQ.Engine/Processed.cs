using System.Runtime.CompilerServices;
using FastQ.Protocol;

namespace FastQ.Engine;

// What consumers have processed: keys with small results, that a queue remembers for a time. Whoever gets such a message again, or another
// of the same key, can ask, and need not do the work twice.
//
//   AcceptProcessed --one record--> the delivery is settled, if it is open; the key is marked, if it is not: the first mark stays

/// <summary>Keys that consumers of a queue have marked as processed, each until its time is over. One thread. Its memory is charged to the budget of the indexes.</summary>
internal sealed class ProcessedKeys(PageAllocator pages) : IDisposable
{
    private const int ClearedAtOnce = 2;
    private readonly Dictionary<UInt128, (long UntilMicros, byte[] Result)> _marks = [];
    private readonly NativeHeap<Timed> _heap = new();
    private long _results;
    private long _charged;

    /// <summary>What one mark costs at most beside its result, in bytes.</summary>
    public const int MarkBytes = 192;

    public int Count => _marks.Count;

    /// <summary>The result of the first who marked this key, if its time is not over.</summary>
    public bool TryFind(UInt128 key, long nowMicros, out byte[] result)
    {
        bool isThere = _marks.TryGetValue(key, out (long UntilMicros, byte[] Result) mark) && mark.UntilMicros > nowMicros;
        result = isThere ? mark.Result : [];
        return isThere;
    }

    /// <summary>Marks a key; some whose time is over go.</summary>
    public void Add(UInt128 key, byte[] result, long untilMicros, long nowMicros)
    {
        Clear(nowMicros, ClearedAtOnce);
        if (_marks.Remove(key, out (long UntilMicros, byte[] Result) old))
        {
            _results -= old.Result.Length;
        }

        _marks.Add(key, (untilMicros, result));
        _results += result.Length;
        _heap.Push(new Timed(untilMicros, key));
        Charge();
    }

    /// <summary>Clears up to so many away whose time is over.</summary>
    /// <returns>When the next one's is; <see cref="long.MaxValue"/>: none is left.</returns>
    public long Clear(long nowMicros, int most)
    {
        for (; most > 0 && _heap.Count > 0 && _heap.Top.UntilMicros <= nowMicros; most--)
        {
            Timed oldest = _heap.Top;
            _heap.Pop();
            if (_marks.TryGetValue(oldest.Key, out (long UntilMicros, byte[] Result) mark) && mark.UntilMicros == oldest.UntilMicros)
            {
                _marks.Remove(oldest.Key);
                _results -= mark.Result.Length;
            }
        }

        if (_marks.Count == 0)
        {
            _marks.TrimExcess();
        }

        Charge();
        return _heap.Count > 0 ? _heap.Top.UntilMicros : long.MaxValue;
    }

    /// <summary>Marks whose time is not over, in the order of their keys.</summary>
    public IEnumerable<(UInt128 Key, long UntilMicros, byte[] Result)> Rows(long nowMicros) =>
        _marks.Where(mark => mark.Value.UntilMicros > nowMicros).OrderBy(mark => mark.Key).Select(mark => (mark.Key, mark.Value.UntilMicros, mark.Value.Result));

    public void Dispose()
    {
        _marks.Clear();
        _results = 0;
        _heap.Dispose();
        Charge();
    }

    private void Charge()
    {
        long bytes = _marks.Count == 0 ? 0 : (long)_marks.Count * MarkBytes + _results;
        pages.Charge(bytes - _charged);
        _charged = bytes;
    }

    private readonly record struct Timed(long UntilMicros, UInt128 Key) : IComparable<Timed>
    {
        public int CompareTo(Timed other) => UntilMicros != other.UntilMicros ? UntilMicros.CompareTo(other.UntilMicros) : Key.CompareTo(other.Key);
    }
}

/// <summary>What became of a mark.</summary>
/// <param name="IsFirst">The key was not marked before.</param>
/// <param name="Result">Of the first who marked it.</param>
/// <param name="Late">Why the delivery could not be settled; none: it was.</param>
public readonly record struct ProcessedMark(bool IsFirst, ReadOnlyMemory<byte> Result, RefusalCode Late);

public sealed partial class QueueEngine
{
    /// <summary>Marks a key of a queue as processed, unless it is already, and accepts a delivery, if it is open: in one record. A delivery that was lost hinders no mark: whoever got its message next is to know.</summary>
    /// <param name="queue">Its id.</param>
    /// <param name="producer">Who asks.</param>
    /// <param name="subscription">Of the delivery.</param>
    /// <param name="delivery">0: none.</param>
    /// <param name="key">1 to <see cref="Limits.MaxNameBytes"/> bytes.</param>
    /// <param name="result">At most <see cref="Limits.MaxResultBytes"/>.</param>
    /// <param name="room">At least <see cref="MaxFactBytes"/>.</param>
    /// <param name="block">The open block.</param>
    /// <param name="written">Bytes written.</param>
    /// <param name="mark">What became of it.</param>
    public Decision AcceptProcessed(uint queue, ulong producer, uint subscription, ulong delivery, ReadOnlySpan<byte> key, ReadOnlySpan<byte> result, Span<byte> room, ulong block, out int written, out ProcessedMark mark)
    {
        (written, mark) = (0, default);
        if (FindQueue(queue) is not Queue found)
        {
            return Unknown(queue);
        }

        if (found.Attributes.ProcessedMilliseconds == 0)
        {
            return Decision.Refuse(RefusalCode.BadArgument, 0, "The queue remembers nothing of what was processed: give it a --processed-window");
        }

        if (key.Length is 0 or > Limits.MaxNameBytes || result.Length > Limits.MaxResultBytes)
        {
            return Decision.Refuse(RefusalCode.BadArgument, 0, $"A key has 1 to {Limits.MaxNameBytes} bytes, a result at most {Limits.MaxResultBytes}");
        }

        Subscription? holder = FindSubscription(subscription) is Subscription known && known.Producer == producer && known.Queue == found ? known : null;
        bool isOpen = holder is not null && !Unsafe.IsNullRef(ref holder.Window.Find(delivery));
        UInt128 hash = QueueAttributes.KeyOf(default, key);
        byte[]? first = null;
        bool isMarked = found.Processed?.TryFind(hash, IntervalMicros, out first) == true;
        if (!isMarked && !_pages.HasRoomForBytes(ProcessedKeys.MarkBytes + result.Length))
        {
            return Decision.Refuse(RefusalCode.LimitReached, (ulong)_limits.IndexBytes, "Bytes of memory for the indexes of all queues");
        }

        RefusalCode late = isOpen ? RefusalCode.None : holder?.WhyLate(delivery) ?? RefusalCode.LeaseLost;
        mark = new ProcessedMark(!isMarked, isMarked ? first : result.ToArray(), late);
        if (isOpen || !isMarked)
        {
            FactRecord record = new() { Kind = RecordKind.MessageProcessed, Small = isMarked ? (ushort)0 : FactRecord.Marked, Subject = isOpen ? subscription : 0, Count = queue, First = isOpen ? delivery : 0, Second = (ulong)hash, Third = (ulong)(hash >> 64) };
            written = Write(record, isMarked ? default : result, room, block);
        }

        if (isOpen)
        {
            LookIfDone(holder!);
        }

        return Decision.Taken;
    }

    /// <summary>Is a key of a queue marked as processed, and with which result?</summary>
    public Decision FindProcessed(uint queue, ReadOnlySpan<byte> key, out bool isMarked, out ReadOnlyMemory<byte> result)
    {
        (isMarked, result) = (false, default);
        if (FindQueue(queue) is not Queue found)
        {
            return Unknown(queue);
        }

        if (key.Length is 0 or > Limits.MaxNameBytes)
        {
            return Decision.Refuse(RefusalCode.BadArgument, 0, $"A key has 1 to {Limits.MaxNameBytes} bytes");
        }

        byte[]? first = null;
        isMarked = found.Processed?.TryFind(QueueAttributes.KeyOf(default, key), IntervalMicros, out first) == true;
        result = first;
        return Decision.Taken;
    }

    private bool ApplyProcessed(in FactRecord fact, ReadOnlySpan<byte> result, ulong block)
    {
        UInt128 key = fact.Second | ((UInt128)fact.Third << 64);
        if (FindQueue(fact.Count) is not Queue queue || key == 0 || result.Length > Limits.MaxResultBytes || fact.Small > FactRecord.Marked)
        {
            return false;
        }

        if (fact.Small == FactRecord.Marked)
        {
            long until = IntervalMicros + queue.Attributes.ProcessedMilliseconds * 1000;
            queue.MakeProcessed().Add(key, result.ToArray(), until, IntervalMicros);
            NoteQueueTimer(queue, until);
        }

        return fact.Subject == 0 || (FindSubscription(fact.Subject) is Subscription subscription && subscription.Queue == queue && AcceptOne(subscription, fact.First, block));
    }

    private bool AcceptOne(Subscription subscription, ulong delivery, ulong block)
    {
        if (!subscription.Window.TryTake(delivery, out OpenDelivery open))
        {
            return false;
        }

        Queue queue = subscription.Queue;
        ref IndexEntry entry = ref queue.Index.Find(open.Tag);
        Invariant.Holds(!Unsafe.IsNullRef(ref entry) && entry.State == EntryState.InFlight);
        subscription.OpenBytes -= entry.LengthBytes;
        queue.HeldBytes -= entry.LengthBytes - MessageHeader.SizeBytes;
        queue.InFlight--;
        queue.Accepted++;
        Free(queue, open.Tag, ref entry, block);
        if (!queue.IsListed)
        {
            List(queue);
        }

        return true;
    }

    /// <summary>| until when, key (2 numbers), length and bytes of the result | ... | 0 |, the keys rising.</summary>
    private void SaveProcessed(System.Buffers.IBufferWriter<byte> to, Queue queue)
    {
        foreach ((UInt128 key, long until, byte[] result) in queue.Processed?.Rows(IntervalMicros) ?? [])
        {
            Number(to, (ulong)until);
            Number(to, (ulong)key);
            Number(to, (ulong)(key >> 64));
            Number(to, (ulong)result.Length);
            System.Buffers.BuffersExtensions.Write(to, result);
        }

        Number(to, 0);
    }

    private bool LoadProcessed(Loader loader, Queue queue)
    {
        for (ulong until = loader.Number(); until != 0; until = loader.Number())
        {
            UInt128 key = loader.Number() | ((UInt128)loader.Number() << 64);
            ulong length = loader.Number();
            if (loader.HasFailed || until <= (ulong)IntervalMicros || until > LatestMicros || key == 0 || length > Limits.MaxResultBytes || queue.IsDeleted || queue.Processed?.TryFind(key, 0, out _) == true)
            {
                return false;
            }

            byte[] result = new byte[length];
            loader.Bytes(result);
            queue.MakeProcessed().Add(key, result, (long)until, IntervalMicros);
        }

        return !loader.HasFailed;
    }
}
