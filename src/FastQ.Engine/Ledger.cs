using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastQ.Protocol;

namespace FastQ.Engine;

// Messages that a queue takes once: by deduplication id, within a window of time; and by unique key, as long as the one before is alive.
// Keys are known by a hash of 128 bits. What the ledger says is part of the state: a row whose time is over counts as not there, whenever
// it is cleared away.

/// <summary>Deduplication ids that a queue has seen, each until its time is over. One thread. Its memory is charged to the budget of the indexes.</summary>
internal sealed class Ledger(PageAllocator pages) : IDisposable
{
    private const int ClearedAtOnce = 2;
    private readonly NativeMap<Row> _rows = new();
    private readonly NativeHeap<Timed> _heap = new();
    private long _charged;

    public int Count => _rows.Count;

    public long Bytes => _rows.Bytes + _heap.Bytes;

    /// <summary>The tag of the message that came first with this id, if its window is not over.</summary>
    public bool TryFind(UInt128 key, long nowMicros, out ulong tag)
    {
        ref Row row = ref _rows.Find(new Row(key, 0, 0));
        bool isThere = !Unsafe.IsNullRef(ref row) && row.UntilMicros > nowMicros;
        tag = isThere ? row.Tag : 0;
        return isThere;
    }

    /// <summary>Notes an id; some whose time is over go.</summary>
    public void Add(UInt128 key, ulong tag, long untilMicros, long nowMicros)
    {
        Clear(nowMicros, ClearedAtOnce);
        _rows.Set(new Row(key, tag, untilMicros));
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
            ref Row row = ref _rows.Find(new Row(oldest.Key, 0, 0));
            if (!Unsafe.IsNullRef(ref row) && row.UntilMicros == oldest.UntilMicros)
            {
                _rows.Remove(new Row(oldest.Key, 0, 0));
            }
        }

        Charge();
        return _heap.Count > 0 ? _heap.Top.UntilMicros : long.MaxValue;
    }

    /// <summary>Ids whose time is not over, in no order.</summary>
    public IEnumerable<(UInt128 Key, ulong Tag, long UntilMicros)> Rows(long nowMicros)
    {
        for (int i = 0; i < _rows.Capacity; i++)
        {
            Row row = _rows.At(i);
            if (!row.IsVacant && row.UntilMicros > nowMicros)
            {
                yield return (row.Key, row.Tag, row.UntilMicros);
            }
        }
    }

    public void Dispose()
    {
        _rows.Dispose();
        _heap.Dispose();
        Charge();
    }

    private void Charge()
    {
        pages.Charge(Bytes - _charged);
        _charged = Bytes;
    }

    [StructLayout(LayoutKind.Sequential)]
    private readonly struct Row(UInt128 key, ulong tag, long untilMicros) : IMapRow<Row>
    {
        public UInt128 Key => key;

        public ulong Tag => tag;

        public long UntilMicros => untilMicros;

        public bool IsVacant => key == 0;

        public uint Hash => (uint)key;

        public bool Is(scoped in Row other) => key == other.Key;
    }

    private readonly record struct Timed(long UntilMicros, UInt128 Key) : IComparable<Timed>
    {
        public int CompareTo(Timed other) => UntilMicros != other.UntilMicros ? UntilMicros.CompareTo(other.UntilMicros) : Key.CompareTo(other.Key);
    }
}

/// <summary>Messages of which a queue holds one a key. One thread. Its memory is charged to the budget of the indexes.</summary>
internal sealed class UniqueKeys(PageAllocator pages) : IDisposable
{
    private readonly NativeMap<ByKey> _byKey = new();
    private readonly NativeMap<ByTag> _byTag = new();
    private long _charged;

    public int Count => _byTag.Count;

    public bool TryFind(UInt128 key, out ulong tag)
    {
        ref ByKey row = ref _byKey.Find(new ByKey(key, 0));
        bool isThere = !Unsafe.IsNullRef(ref row);
        tag = isThere ? row.Tag : 0;
        return isThere;
    }

    /// <summary>The key of a message, and what else was noted of it.</summary>
    public bool TryFind(ulong tag, out UInt128 key, out long note)
    {
        ref ByTag row = ref _byTag.Find(new ByTag(tag, 0, 0));
        bool isThere = !Unsafe.IsNullRef(ref row);
        (key, note) = isThere ? (row.Key, row.Note) : (0, 0);
        return isThere;
    }

    /// <param name="note">Of a unique key: not 0 where it is free when its message goes to a consumer. Of a schedule key: when the first came of those that were put off.</param>
    public void Add(UInt128 key, ulong tag, long note)
    {
        _byKey.Set(new ByKey(key, tag));
        _byTag.Set(new ByTag(tag, key, note));
        Charge();
    }

    /// <summary>The message's key is free; nothing happens when it has none.</summary>
    public void Remove(ulong tag)
    {
        if (_byTag.Count > 0 && TryFind(tag, out UInt128 key, out _))
        {
            _byTag.Remove(new ByTag(tag, 0, 0));
            _byKey.Remove(new ByKey(key, 0));
            Charge();
        }
    }

    /// <summary>The message goes to a consumer: its key is free, if it was to be until then.</summary>
    public void Start(ulong tag)
    {
        if (_byTag.Count > 0 && TryFind(tag, out _, out long note) && note != 0)
        {
            Remove(tag);
        }
    }

    public void Dispose()
    {
        _byKey.Dispose();
        _byTag.Dispose();
        Charge();
    }

    private void Charge()
    {
        long bytes = _byKey.Bytes + _byTag.Bytes;
        pages.Charge(bytes - _charged);
        _charged = bytes;
    }

    [StructLayout(LayoutKind.Sequential)]
    private readonly struct ByKey(UInt128 key, ulong tag) : IMapRow<ByKey>
    {
        public UInt128 Key => key;

        public ulong Tag => tag;

        public bool IsVacant => key == 0;

        public uint Hash => (uint)key;

        public bool Is(scoped in ByKey other) => key == other.Key;
    }

    [StructLayout(LayoutKind.Sequential)]
    private readonly struct ByTag(ulong tag, UInt128 key, long note) : IMapRow<ByTag>
    {
        public ulong Tag => tag;

        public UInt128 Key => key;

        public long Note => note;

        public bool IsVacant => tag == 0;

        public uint Hash => TagHash.Near(tag);

        public bool Is(scoped in ByTag other) => tag == other.Tag;
    }
}

public sealed partial class QueueEngine
{
    /// <summary>Was this message taken before, or is one of its key alive?</summary>
    private Decision JudgeSame(Queue queue, in MessageTerms terms)
    {
        ulong first = 0;
        bool isSame = (terms.DedupKey != 0 && queue.Ledger?.TryFind(terms.DedupKey, IntervalMicros, out first) == true)
            || (terms.UniqueKey != 0 && queue.Unique?.TryFind(terms.UniqueKey, out first) == true);
        return isSame ? Decision.Refuse(RefusalCode.Duplicate, first) : Decision.Taken;
    }

    private void NoteSame(Queue queue, ulong tag, in MessageTerms terms)
    {
        if (terms.DedupKey != 0)
        {
            long until = IntervalMicros + queue.Attributes.DedupMilliseconds * 1000;
            queue.MakeLedger().Add(terms.DedupKey, tag, until, IntervalMicros);
            NoteQueueTimer(queue, until);
        }

        if (terms.UniqueKey != 0)
        {
            queue.MakeUnique().Add(terms.UniqueKey, tag, terms.UniqueUntilStarted ? 1 : 0);
        }
    }
}
