using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastQ.Protocol;

namespace FastQ.Engine;

// Limits of each tenant, and of each group: how much of it is with consumers at once, and how much goes in a while. A row a holder that has
// something in hand or a bucket that is not full; a holder at its limit is barred, and admitted when something comes back or its next token
// is due. What a bucket holds is persistent; the count is counted again after a snapshot, and who is barred follows from both.

/// <summary>Whose allowance: a tenant's (no key), or that of a group of one.</summary>
internal readonly record struct Holder(ulong Tenant, ulong Key);

/// <summary>Allowances of one kind in one queue. One thread.</summary>
/// <param name="judged">Told when a holder is barred (true), or admitted again. It may ask, and changes nothing here.</param>
internal sealed class Allowances(Action<Holder, bool> judged) : IDisposable
{
    private readonly NativeMap<Row> _rows = new();
    private readonly HashSet<Holder> _barred = [];
    private readonly PriorityQueue<Holder, long> _looks = new();
    private int _inFlight;
    private BucketRule _rule;
    private long _now; // The latest time that was told.

    public long Bytes => _rows.Bytes;

    public bool IsOn => _inFlight > 0 || _rule.IsOn;

    /// <summary>When a holder may be below its rate again; <see cref="long.MaxValue"/>: none is waited for.</summary>
    public long NextMicros => _looks.TryPeek(out _, out long at) ? at : long.MaxValue;

    public bool IsBarred(Holder holder) => _barred.Contains(holder);

    /// <summary>Sets what flows. True: that is new, and what is in hand must be counted once more (<see cref="CountInHand"/>).</summary>
    public bool Limit(int inFlight, in BucketRule rule, long nowMicros)
    {
        if (rule == _rule && inFlight == _inFlight)
        {
            return false;
        }

        _now = Math.Max(_now, nowMicros);
        (Holder Holder, TokenBucket Bucket)[] known = [.. Buckets(_now)];
        BucketRule before = _rule;
        Dispose();
        (_inFlight, _rule) = (inFlight, rule);
        foreach ((Holder holder, TokenBucket bucket) in known)
        {
            TokenBucket converted = bucket;
            converted.Convert(before, rule, _now);
            SetBucket(holder, converted);
        }

        return IsOn;
    }

    /// <summary>Buckets that are not full, in no order.</summary>
    public IEnumerable<(Holder Holder, TokenBucket Bucket)> Buckets(long nowMicros)
    {
        for (int i = 0; i < _rows.Capacity && _rule.IsOn; i++)
        {
            Row row = _rows.At(i);
            if (!row.IsVacant && !row.Bucket.IsFullAt(_rule, nowMicros))
            {
                yield return (row.Holder, row.Bucket);
            }
        }
    }

    /// <summary>A bucket as it was saved.</summary>
    public void SetBucket(Holder holder, TokenBucket bucket)
    {
        if (_rule.IsOn)
        {
            RowOf(holder).Bucket = bucket;
            Judge(holder);
        }
    }

    /// <summary>Time has come this far: those whose next token is due are admitted.</summary>
    public void Admit(long nowMicros)
    {
        _now = nowMicros;
        while (_looks.TryPeek(out Holder holder, out long at) && at <= nowMicros)
        {
            _looks.Dequeue();
            ref Row row = ref Find(holder);
            if (!Unsafe.IsNullRef(ref row) && row.LookAtMicros == at)
            {
                row.LookAtMicros = 0;
                Judge(holder);
            }
        }
    }

    /// <summary>What keeps a holder: negative, nothing does; 0, what is in hand does; else when the next token is due.</summary>
    public long LimitOn(Holder holder, long nowMicros)
    {
        ref Row row = ref Find(holder);
        if (!IsOn || Unsafe.IsNullRef(ref row))
        {
            return -1;
        }

        return _inFlight > 0 && row.InHand >= _inFlight ? 0 : _rule.IsOn && row.Bucket.TokensAt(_rule, nowMicros) == 0 ? row.Bucket.NextMicros(_rule) : -1;
    }

    public void CountInHand(Holder holder, int change)
    {
        if (IsOn && change != 0)
        {
            RowOf(holder).InHand += change;
            Judge(holder);
        }
    }

    /// <summary>One goes.</summary>
    public void Take(Holder holder, long nowMicros)
    {
        _now = Math.Max(_now, nowMicros);
        if (_rule.IsOn)
        {
            RowOf(holder).Bucket.Take(_rule, 1, nowMicros);
            Judge(holder);
        }
    }

    /// <summary>Forgets all holders, and admits them.</summary>
    public void Dispose()
    {
        foreach (Holder holder in _barred.ToArray())
        {
            _barred.Remove(holder);
            judged(holder, false);
        }

        _rows.Dispose();
        _looks.Clear();
    }

    private ref Row Find(Holder holder) => ref _rows.Find(new Row { Holder = holder, IsThere = 1 });

    private ref Row RowOf(Holder holder)
    {
        ref Row row = ref Find(holder);
        if (Unsafe.IsNullRef(ref row))
        {
            _rows.Set(new Row { Holder = holder, IsThere = 1, Bucket = TokenBucket.Full(_rule, _now) });
            row = ref Find(holder);
        }

        return ref row;
    }

    /// <summary>Bars a holder that is at its limit, admits one that is not, and forgets one of which there is nothing to know.</summary>
    private void Judge(Holder holder)
    {
        ref Row row = ref RowOf(holder);
        bool lacksToken = _rule.IsOn && row.Bucket.TokensAt(_rule, _now) == 0;
        bool isFull = !_rule.IsOn || row.Bucket.IsFullAt(_rule, _now);
        bool isBarred = lacksToken || (_inFlight > 0 && row.InHand >= _inFlight);
        if (!isFull)
        {
            LookAt(ref row, lacksToken ? row.Bucket.NextMicros(_rule) : row.Bucket.FullMicros(_rule));
        }

        if (isFull && row.InHand == 0)
        {
            _rows.Remove(new Row { Holder = holder, IsThere = 1 });
        }

        if (isBarred ? _barred.Add(holder) : _barred.Remove(holder))
        {
            judged(holder, isBarred);
        }
    }

    private void LookAt(ref Row row, long atMicros)
    {
        if (row.LookAtMicros == 0 || atMicros < row.LookAtMicros)
        {
            row.LookAtMicros = atMicros;
            _looks.Enqueue(row.Holder, atMicros);
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Row : IMapRow<Row>
    {
        public Holder Holder;
        public TokenBucket Bucket;

        /// <summary>When it is looked at again; 0: it is not.</summary>
        public long LookAtMicros;
        public int InHand;
        public int IsThere;

        public readonly bool IsVacant => IsThere == 0;

        public readonly uint Hash => TagHash.Of(Holder.Tenant ^ (Holder.Key * 0xD1B54A32D192ED03));

        public readonly bool Is(scoped in Row other) => Holder == other.Holder;
    }
}

internal sealed unsafe partial class DeliveryOrder
{
    private readonly Allowances _ofTenants;
    private readonly Allowances _ofGroups;

    /// <summary>When a tenant or a group may be below its rate again; <see cref="long.MaxValue"/>: none is waited for.</summary>
    public long NextAdmission => Math.Min(_ofTenants.NextMicros, _ofGroups.NextMicros);

    /// <summary>Buckets of tenants that are not full, in no order.</summary>
    public IEnumerable<(Holder Holder, TokenBucket Bucket)> TenantBuckets(long nowMicros) => _ofTenants.Buckets(nowMicros);

    /// <summary>As <see cref="TenantBuckets"/>, of groups.</summary>
    public IEnumerable<(Holder Holder, TokenBucket Bucket)> GroupBuckets(long nowMicros) => _ofGroups.Buckets(nowMicros);

    /// <summary>Sets what flows.</summary>
    public void Limit(FlowLimits limits, long nowMicros)
    {
        LimitGroups(Math.Max(1, limits.GroupInFlight));
        _ = _ofGroups.Limit(0, BucketRule.Of(limits.GroupRate, limits.GroupBurst), nowMicros);
        if (_ofTenants.Limit(limits.TenantInFlight, BucketRule.Of(limits.TenantRate, limits.TenantBurst), nowMicros))
        {
            foreach (LineKey key in _keys.Rows.ToArray().Where(key => !key.IsVacant))
            {
                _ofTenants.CountInHand(new Holder(key.Tenant, 0), (int)Renewed(key.Line).InHand);
            }
        }

        Charge();
    }

    /// <summary>A tenant's bucket as it was saved.</summary>
    public void SetTenantBucket(ulong tenant, TokenBucket bucket)
    {
        _ofTenants.SetBucket(new Holder(tenant, 0), bucket);
        Charge();
    }

    /// <summary>A group's bucket as it was saved.</summary>
    public void SetGroupBucket(Holder group, TokenBucket bucket)
    {
        _ofGroups.SetBucket(group, bucket);
        Charge();
    }

    /// <summary>Time has come this far: tenants and groups whose next token is due are admitted.</summary>
    public void Admit(long nowMicros)
    {
        _ofTenants.Admit(nowMicros);
        _ofGroups.Admit(nowMicros);
    }

    /// <summary>Whether its tenant's limit keeps a message: negative, it does not; 0, what is in hand does; else when the next token is due.</summary>
    public long TenantLimit(ulong tag, long nowMicros) => TryFind(tag, out Traits traits) ? _ofTenants.LimitOn(new Holder(traits.Tenant, 0), nowMicros) : -1;

    /// <summary>As <see cref="TenantLimit"/>, of its group.</summary>
    public long GroupLimit(ulong tag, long nowMicros) => TryFind(tag, out Traits traits) ? _ofGroups.LimitOn(new Holder(traits.Tenant, traits.Line), nowMicros) : -1;

    /// <summary>A message of this line goes.</summary>
    private void Take(in Line line, long nowMicros)
    {
        (ulong tenant, ulong key) = (line.Tenant, line.Key);
        _ofTenants.Take(new Holder(tenant, 0), nowMicros);
        _ofGroups.Take(new Holder(tenant, key), nowMicros);
    }

    private void TenantJudged(Holder holder, bool isBarred)
    {
        ulong tenant = holder.Tenant;
        _ = isBarred ? _barred.Add(tenant) : _barred.Remove(tenant);
        _plain?.Judged(tenant, isBarred);
        _last?.Judged(tenant, isBarred);
        foreach (Turns own in _own.Values)
        {
            own.Judged(tenant, isBarred);
        }
    }

    /// <summary>A group's line steps aside, or up again. One of which no message is left has none.</summary>
    private void GroupJudged(Holder group, bool isBarred)
    {
        ref LineKey known = ref _keys.Find(new LineKey { Tenant = group.Tenant, Key = group.Key, Line = uint.MaxValue });
        if (!Unsafe.IsNullRef(ref known))
        {
            StepUp(ref Renewed(known.Line));
        }
    }

    private bool LacksTokens(in Line line) => _ofGroups.IsOn && _ofGroups.IsBarred(new Holder(line.Tenant, line.Key));
}
