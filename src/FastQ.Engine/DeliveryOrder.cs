using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FastQ.Engine;

// The order of a queue that has one of its own: by priority, fair between tenants, in order within groups. Beside the index, for each
// message that came while the queue had such a switch on:
//
//   rows   [ tag, line, priority, how it stands | ... ]       by tag; 16 bytes, open addressing
//   lines  [ tenant, group or priority, first message ... ]   by both; what is ready in a line is a set of tags
//   turns  lines that may be served, twice: those whose first message may go in a run, those whose first is at its last delivery
//
// A line is a group in a queue that keeps order, else a tenant's messages of one priority. A group's line is not served while one of its
// messages is with a consumer, or one before waits after a delivery that failed: what comes behind it waits, and no other group does.
// Where several of a group may be with one consumer, a line of which one has some is served to that one alone, from turns of its own; and
// not before all is back, when one of them has come back alone: so it is first again.
//
// A tenant at its limit (Allowances.cs) is passed over in all turns; the line of a group that is at its own is not served.

/// <summary>What of a message says when its turn comes. Persistent.</summary>
/// <param name="Priority">255 first.</param>
/// <param name="Tenant">A hash of its fairness key; 0: it has none.</param>
/// <param name="Line">A group, with <see cref="KeepsOrder"/>, or the priority.</param>
internal readonly record struct Traits(byte Priority, ulong Tenant, ulong Line)
{
    public const ulong KeepsOrder = 1ul << 63;

    /// <summary>Is this what the engine would make of a message?</summary>
    public bool IsValid => (Line & KeepsOrder) != 0 || Line == Priority;
}

/// <summary>How a message of an ordered queue stands to its line.</summary>
internal enum Standing : byte
{
    /// <summary>Not in its line: its time has not come, or it is purged or expired.</summary>
    Out = 0,

    /// <summary>Ready.</summary>
    InLine = 1,

    /// <summary>Ready, and its next delivery is the last that is allowed.</summary>
    InLineLast = 2,

    /// <summary>With a consumer.</summary>
    InHand = 3,

    /// <summary>Waits for its time, and those behind it in its group for it: after a delivery that failed, or as the queue has it.</summary>
    Held = 4,
}

/// <summary>Messages of one queue in an order of its own. One thread. Its memory is charged to the budget of the indexes.</summary>
internal sealed unsafe partial class DeliveryOrder : IDisposable
{
    private const int LeastCapacity = 16;
    private const int FewBytes = 4096;
    private readonly PageAllocator _pages;
    private readonly NativeSets _sets = new();
    private readonly NativeMap<Row> _rows = new();
    private readonly NativeMap<LineKey> _keys = new();
    private readonly HashSet<ulong> _barred = [];
    private readonly Dictionary<uint, Turns> _own = []; // Lines of which a subscription has some, and may have more.
    private Turns? _plain;
    private Turns? _last;
    private Line* _lines;
    private uint _capacity;
    private uint _used = 1; // Line 0 is no line.
    private uint _free;
    private ushort _generation;
    private uint _purges;
    private int _groupInFlight = 1;
    private Dictionary<ulong, int>? _weights;
    private long _charged;

    /// <param name="pages">Whose budget.</param>
    /// <param name="generation">The queue's purge generation.</param>
    public DeliveryOrder(PageAllocator pages, ushort generation)
    {
        (_pages, _generation) = (pages, generation);
        _ofTenants = new Allowances(TenantJudged);
        _ofGroups = new Allowances(GroupJudged);
    }

    /// <summary>How many messages have a row.</summary>
    public int Count => _rows.Count;

    public long Bytes => _sets.Bytes + _rows.Bytes + _keys.Bytes + _ofTenants.Bytes + _ofGroups.Bytes + (long)_capacity * sizeof(Line);

    private Turns Plain => _plain ??= new Turns(_sets, _barred);

    private Turns Last => _last ??= new Turns(_sets, _barred);

    /// <summary>Sets how turns are taken.</summary>
    public void Rule(int lowShare, Dictionary<ulong, int>? weights)
    {
        (Plain.LowShare, Plain.Weights) = (lowShare, weights);
        Last.Weights = weights;
        _weights = weights;
        foreach (Turns own in _own.Values)
        {
            own.Weights = weights;
        }
    }

    /// <summary>Sets how many of one group may be with one consumer.</summary>
    private void LimitGroups(int inFlight)
    {
        if (inFlight == _groupInFlight)
        {
            return;
        }

        foreach (LineKey key in _keys.Rows.ToArray().Where(key => !key.IsVacant))
        {
            StepAside(ref Renewed(key.Line));
        }

        _groupInFlight = inFlight;
        _own.Clear();
        foreach (LineKey key in _keys.Rows.ToArray().Where(key => !key.IsVacant))
        {
            StepUp(ref Renewed(key.Line));
        }
    }

    public bool Contains(ulong tag) => !Unsafe.IsNullRef(ref Find(tag));

    /// <summary>The traits of a message; false when it has none.</summary>
    public bool TryFind(ulong tag, out Traits traits)
    {
        ref Row row = ref Find(tag);
        if (Unsafe.IsNullRef(ref row))
        {
            traits = default;
            return false;
        }

        traits = TraitsOf(row);
        return true;
    }

    /// <summary>All messages with their traits, in no order.</summary>
    public IEnumerable<(ulong Tag, Traits Traits)> Rows()
    {
        for (int i = 0; i < _rows.Capacity; i++)
        {
            Row row = _rows.At(i);
            if (!row.IsVacant)
            {
                yield return (row.Tag, TraitsOf(row));
            }
        }
    }

    /// <summary>A message has come; it stands <see cref="Standing.Out"/>.</summary>
    public void Add(ulong tag, Traits traits)
    {
        uint line = LineOf(traits);
        _lines[line].Messages++;
        _rows.Set(new Row { Tag = tag, Line = line, Priority = traits.Priority });
        Charge();
    }

    /// <summary>A message has gone; nothing happens when it has no traits.</summary>
    public void Remove(ulong tag)
    {
        ref Row row = ref Find(tag);
        if (Unsafe.IsNullRef(ref row))
        {
            return;
        }

        Move(ref row, Standing.Out);
        uint line = row.Line;
        _rows.Remove(new Row { Tag = tag });
        if (--_lines[line].Messages == 0)
        {
            Forget(line);
        }

        if (_rows.Count == 0 && Bytes > FewBytes)
        {
            Free();
        }

        Charge();
    }

    /// <summary>A message stands otherwise now; nothing happens when it has no traits.</summary>
    public void Move(ulong tag, Standing to)
    {
        ref Row row = ref Find(tag);
        if (!Unsafe.IsNullRef(ref row))
        {
            Move(ref row, to);
            Charge();
        }
    }

    /// <summary>The message whose turn it is; 0: none.</summary>
    /// <param name="last">Of those at their last delivery; else of the others.</param>
    /// <param name="to">A subscription: of groups of which it has some already, too. 0: of none such.</param>
    public ulong First(bool last, uint to)
    {
        ulong first = (last ? _last : _plain)?.First() ?? 0;
        if (last || _own.Count == 0 || !_own.TryGetValue(to, out Turns? own) || own.First() is not (> 0 and ulong mine))
        {
            return first;
        }

        (int priority, int its) = (PriorityOf(mine), first == 0 ? -1 : PriorityOf(first));
        return priority > its || (priority == its && mine < first) ? mine : first;
    }

    /// <summary>Subscriptions that have some of a group may have more of it.</summary>
    public bool HasOwn => _own.Count > 0;

    /// <summary>A subscription has ended.</summary>
    public void Leave(uint subscription)
    {
        if (_own.TryGetValue(subscription, out Turns? own) && own.Count == 0)
        {
            _own.Remove(subscription);
        }
    }

    /// <summary>A message goes to a consumer; nothing happens when it has no traits.</summary>
    public void Start(ulong tag, uint subscription, long nowMicros)
    {
        ref Row row = ref Find(tag);
        if (!Unsafe.IsNullRef(ref row))
        {
            Move(ref row, Standing.InHand, subscription);
            Take(_lines[row.Line], nowMicros);
            Charge();
        }
    }

    /// <summary>After a snapshot was loaded: a message that is with a consumer is with this one.</summary>
    public void HeldBy(ulong tag, uint subscription)
    {
        ref Row row = ref Find(tag);
        if (!Unsafe.IsNullRef(ref row) && row.Standing == Standing.InHand)
        {
            ref Line line = ref Renewed(row.Line);
            StepAside(ref line);
            line.Holder = subscription;
            StepUp(ref line);
            Charge();
        }
    }

    /// <summary>Of the lowest priority, the oldest that stands first in its line; 0: none.</summary>
    public ulong Lowest() => _plain?.Lowest() is ulong tag and not 0 ? tag : _last?.Lowest() ?? 0;

    /// <summary>A message has another priority now; nothing happens when it has no traits.</summary>
    public void Reorder(ulong tag, byte priority)
    {
        if (!TryFind(tag, out Traits traits))
        {
            return;
        }

        Row row = Find(tag);
        Standing stands = row.Generation == _generation || row.Standing == Standing.InHand ? row.Standing : Standing.Out;
        Remove(tag);
        Add(tag, traits with { Priority = priority, Line = (traits.Line & Traits.KeepsOrder) != 0 ? traits.Line : priority });
        Move(tag, stands);
    }

    /// <summary>Does it wait for another of its group?</summary>
    public bool IsBehind(ulong tag)
    {
        ref Row row = ref Find(tag);
        if (Unsafe.IsNullRef(ref row))
        {
            return false;
        }

        ref Line line = ref Renewed(row.Line);
        return (line.Key & Traits.KeepsOrder) != 0 && (line.First != tag || line.InHand > 0 || IsHeld(line));
    }

    public byte PriorityOf(ulong tag) => Find(tag).Priority;

    /// <summary>The message that is <see cref="First"/> goes to a consumer now.</summary>
    public void Serve(ulong tag)
    {
        ref Row row = ref Find(tag);
        TurnsOf(_lines[row.Line]).Serve(row.Priority);
    }

    /// <summary>All that is not with a consumer is out, whatever it costs to free it later.</summary>
    public void Purge(ushort generation)
    {
        _generation = generation;
        _purges++;
        _sets.Clear();
        _plain?.Clear();
        _last?.Clear();
        _own.Clear();
    }

    public void Dispose()
    {
        Free();
        _ofTenants.Dispose();
        _ofGroups.Dispose();
        Charge();
    }

    private void Free()
    {
        _sets.Dispose();
        _rows.Dispose();
        _keys.Dispose();
        _plain?.Clear();
        _last?.Clear();
        _own.Clear();
        NativeMemory.Free(_lines);
        _lines = null;
        (_capacity, _used, _free) = (0, 1, 0);
    }

    private void Move(ref Row row, Standing to, uint holder = 0)
    {
        ref Line line = ref Renewed(row.Line);
        Standing from = row.Generation == _generation || row.Standing == Standing.InHand ? row.Standing : Standing.Out;
        switch (from)
        {
            case Standing.InLine or Standing.InLineLast:
                TakeOut(ref line, KeyOf(row.Tag, from));
                break;
            case Standing.InHand:
                StepAsideInOrder(ref line); // Whose it is may change.
                line.InHand--;
                (line.Holder, line.Sent) = line.InHand == 0 ? (0u, 0ul) : (line.Holder, line.Sent);
                _ofTenants.CountInHand(new Holder(line.Tenant, 0), -1);
                break;
            case Standing.Held:
                _sets.Remove(ref line.Held, row.Tag);
                break;
        }

        (row.Standing, row.Generation) = (to, _generation);
        switch (to)
        {
            case Standing.InLine or Standing.InLineLast:
                PutIn(ref line, KeyOf(row.Tag, to));
                break;
            case Standing.InHand:
                StepAsideInOrder(ref line);
                line.InHand++;
                (line.Holder, line.Sent) = (holder, Math.Max(line.Sent, row.Tag));
                _ofTenants.CountInHand(new Holder(line.Tenant, 0), 1);
                break;
            case Standing.Held:
                _sets.Add(ref line.Held, row.Tag);
                break;
        }

        StepUp(ref line);
    }

    /// <summary>A message that is ready, in its line's set: by tag, and with how it stands, so that the line need not look at its row.</summary>
    private static ulong KeyOf(ulong tag, Standing standing) => tag * 2 + (standing == Standing.InLineLast ? 1u : 0u);

    private void PutIn(ref Line line, ulong key)
    {
        if (line.FirstKey == 0 || key < line.FirstKey)
        {
            StepAside(ref line); // It is known by its first message, which is another one now.
            line.FirstKey = key;
        }

        _sets.Add(ref line.Ready, key);
    }

    private void TakeOut(ref Line line, ulong key)
    {
        _sets.Remove(ref line.Ready, key);
        if (line.FirstKey == key)
        {
            StepAside(ref line);
            line.FirstKey = line.Ready == 0 ? 0 : _sets.First(line.Ready);
            _rows.Prefetch(new Row { Tag = line.First }); // Whoever serves it needs it next.
        }
    }

    /// <summary>A line as it is since the last purge, which took all that was ready or held.</summary>
    private ref Line Renewed(uint number)
    {
        ref Line line = ref _lines[number];
        if (line.Purges != _purges)
        {
            (line.Ready, line.FirstKey, line.Held, line.Stands, line.Purges) = (0, 0, 0, Standing.Out, _purges);
        }

        return ref line;
    }

    /// <summary>The line stands among those that may be served if it may.</summary>
    private void StepUp(ref Line line)
    {
        bool isBarred = line.First == 0 || ((line.Key & Traits.KeepsOrder) != 0 && (IsHeld(line) || LacksTokens(line) || (line.InHand > 0 && !MayJoin(line))));
        if (isBarred)
        {
            StepAside(ref line);
        }
        else if (line.Stands == Standing.Out)
        {
            line.Stands = (line.FirstKey & 1) == 0 ? Standing.InLine : Standing.InLineLast;
            line.Priority = (line.Key & Traits.KeepsOrder) != 0 ? Find(line.First).Priority : (byte)line.Key;
            TurnsOf(line).Add(line.Priority, line.Tenant, line.First);
        }
    }

    /// <summary>One before its first waits for its time.</summary>
    private bool IsHeld(in Line line) => line.Held != 0 && (line.First == 0 || _sets.First(line.Held) < line.First);

    /// <summary>May its first go to the consumer that has some of it? Not when it came back alone, and not at its last delivery: that goes alone.</summary>
    private bool MayJoin(in Line line) => line.InHand < _groupInFlight && line.Holder != 0 && line.First > line.Sent && Find(line.First).Standing == Standing.InLine;

    private Turns TurnsOf(in Line line)
    {
        if (line.Stands == Standing.InLineLast)
        {
            return Last;
        }

        if ((line.Key & Traits.KeepsOrder) == 0 || line.InHand == 0)
        {
            return Plain;
        }

        if (!_own.TryGetValue(line.Holder, out Turns? own))
        {
            _own[line.Holder] = own = new Turns(_sets, _barred) { Weights = _weights };
        }

        return own;
    }

    private void StepAsideInOrder(ref Line line)
    {
        if ((line.Key & Traits.KeepsOrder) != 0)
        {
            StepAside(ref line);
        }
    }

    private void StepAside(ref Line line)
    {
        if (line.Stands != Standing.Out)
        {
            TurnsOf(line).Remove(line.Priority, line.Tenant, line.First);
            line.Stands = Standing.Out;
        }
    }

    private Traits TraitsOf(in Row row) => new(row.Priority, _lines[row.Line].Tenant, _lines[row.Line].Key);

    private ref Row Find(ulong tag) => ref _rows.Find(new Row { Tag = tag });

    private uint LineOf(Traits traits)
    {
        LineKey key = new() { Tenant = traits.Tenant, Key = traits.Line };
        ref LineKey known = ref _keys.Find(key);
        if (!Unsafe.IsNullRef(ref known))
        {
            return known.Line;
        }

        key.Line = TakeLine();
        _lines[key.Line] = new Line { Tenant = traits.Tenant, Key = traits.Line, Purges = _purges };
        _keys.Set(key);
        return key.Line;
    }

    private uint TakeLine()
    {
        uint taken = _free;
        if (taken != 0)
        {
            _free = _lines[taken].Messages;
            return taken;
        }

        if (_used >= _capacity)
        {
            _capacity = Math.Max(LeastCapacity, _capacity * 2);
            _lines = (Line*)NativeMemory.Realloc(_lines, (nuint)_capacity * (nuint)sizeof(Line));
        }

        return _used++;
    }

    /// <summary>Nothing of it is left.</summary>
    private void Forget(uint line)
    {
        _keys.Remove(new LineKey { Tenant = _lines[line].Tenant, Key = _lines[line].Key });
        _lines[line].Messages = _free; // The next that is free.
        _free = line;
    }

    private void Charge()
    {
        long bytes = Bytes;
        _pages.Charge(bytes - _charged);
        _charged = bytes;
    }

    /// <summary>A message.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Row : IMapRow<Row>
    {
        public ulong Tag;
        public uint Line;

        /// <summary>Of the queue, when it came to stand so: what was ready or held under an older one is out.</summary>
        public ushort Generation;
        public byte Priority;
        public Standing Standing;

        public readonly bool IsVacant => Tag == 0;

        public readonly uint Hash => TagHash.Near(Tag);

        public readonly bool Is(scoped in Row other) => Tag == other.Tag;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct LineKey : IMapRow<LineKey>
    {
        public ulong Tenant;
        public ulong Key;
        public uint Line;

        public readonly bool IsVacant => Line == 0;

        public readonly uint Hash => TagHash.Of(Tenant ^ (Key * 0xD1B54A32D192ED03));

        public readonly bool Is(scoped in LineKey other) => Tenant == other.Tenant && Key == other.Key;
    }

    private struct Line
    {
        public ulong Tenant;
        public ulong Key;

        /// <summary>The lowest that is ready, as in its set; 0: none is.</summary>
        public ulong FirstKey;

        /// <summary>Root of the tags that are ready.</summary>
        public uint Ready;

        /// <summary>In whatever state. Of a line that is free: the next one.</summary>
        public uint Messages;
        public uint InHand;

        /// <summary>Root of the tags that wait for their time, and hold those behind them.</summary>
        public uint Held;
        public uint Purges;

        /// <summary>Which subscription has what is in hand.</summary>
        public uint Holder;

        /// <summary>The highest tag that was handed over since nothing was in hand.</summary>
        public ulong Sent;

        /// <summary>Among which lines it stands to be served.</summary>
        public Standing Stands;

        /// <summary>With this priority.</summary>
        public byte Priority;

        /// <summary>The lowest tag that is ready; 0: none is.</summary>
        public readonly ulong First => FirstKey / 2;
    }
}
