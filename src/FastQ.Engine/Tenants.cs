using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastQ.Protocol;

namespace FastQ.Engine;

// Limits of tenants: how much of each is with consumers at once, and how much goes in a while. A row a tenant that has something in hand or
// a bucket that is not full; a tenant at its limit is barred from all turns, and admitted when something comes back or its next token is
// due. What a bucket holds is persistent; the count is counted again after a snapshot, and who is barred follows from both.

internal sealed unsafe partial class DeliveryOrder
{
    private readonly NativeMap<TenantRow> _tenants = new();
    private readonly PriorityQueue<ulong, long> _admissions = new();
    private int _tenantInFlight;
    private BucketRule _tenantRule;
    private long _now; // The latest time that was told.

    private long TenantBytes => _tenants.Bytes;

    private bool LimitsTenants => _tenantInFlight > 0 || _tenantRule.IsOn;

    /// <summary>When a tenant may be below its rate again; <see cref="long.MaxValue"/>: none is waited for.</summary>
    public long NextAdmission => _admissions.TryPeek(out _, out long at) ? at : long.MaxValue;

    /// <summary>Sets what flows.</summary>
    public void Limit(FlowLimits limits, long nowMicros)
    {
        LimitGroups(Math.Max(1, limits.GroupInFlight));
        BucketRule rule = BucketRule.Of(limits.TenantRate, limits.TenantBurst);
        if (rule == _tenantRule && limits.TenantInFlight == _tenantInFlight)
        {
            return;
        }

        _now = Math.Max(_now, nowMicros);
        (ulong Tenant, TokenBucket Bucket)[] known = [.. Buckets(_now)];
        BucketRule before = _tenantRule;
        ForgetTenants();
        (_tenantInFlight, _tenantRule) = (limits.TenantInFlight, rule);
        foreach ((ulong tenant, TokenBucket bucket) in known)
        {
            TokenBucket converted = bucket;
            converted.Convert(before, rule, _now);
            SetBucket(tenant, converted);
        }

        foreach (LineKey key in LimitsTenants ? _keys.Rows.ToArray().Where(key => !key.IsVacant) : [])
        {
            CountInHand(key.Tenant, (int)Renewed(key.Line).InHand);
        }

        Charge();
    }

    /// <summary>Buckets that are not full, in no order.</summary>
    public IEnumerable<(ulong Tenant, TokenBucket Bucket)> Buckets(long nowMicros)
    {
        for (int i = 0; i < _tenants.Capacity && _tenantRule.IsOn; i++)
        {
            TenantRow row = _tenants.At(i);
            if (!row.IsVacant && !row.Bucket.IsFullAt(_tenantRule, nowMicros))
            {
                yield return (row.Tenant, row.Bucket);
            }
        }
    }

    /// <summary>A bucket as it was saved.</summary>
    public void SetBucket(ulong tenant, TokenBucket bucket)
    {
        if (_tenantRule.IsOn)
        {
            RowOf(tenant).Bucket = bucket;
            Judge(tenant);
            Charge();
        }
    }

    /// <summary>Time has come this far: tenants whose next token is due are admitted.</summary>
    public void Admit(long nowMicros)
    {
        _now = nowMicros;
        while (_admissions.TryPeek(out ulong tenant, out long at) && at <= nowMicros)
        {
            _admissions.Dequeue();
            ref TenantRow row = ref _tenants.Find(new TenantRow { Tenant = tenant, IsThere = 1 });
            if (!Unsafe.IsNullRef(ref row) && row.LookAtMicros == at)
            {
                row.LookAtMicros = 0;
                Judge(tenant);
            }
        }
    }

    /// <summary>Whether its tenant's limit keeps a message: negative, it does not; 0, what is in hand does; else when the next token is due.</summary>
    public long TenantLimit(ulong tag, long nowMicros)
    {
        ref Row row = ref Find(tag);
        if (!LimitsTenants || Unsafe.IsNullRef(ref row))
        {
            return -1;
        }

        ref TenantRow tenant = ref _tenants.Find(new TenantRow { Tenant = _lines[row.Line].Tenant, IsThere = 1 });
        if (Unsafe.IsNullRef(ref tenant))
        {
            return -1;
        }

        return _tenantInFlight > 0 && tenant.InHand >= _tenantInFlight ? 0
            : _tenantRule.IsOn && tenant.Bucket.TokensAt(_tenantRule, nowMicros) == 0 ? tenant.Bucket.NextMicros(_tenantRule) : -1;
    }

    private void CountInHand(ulong tenant, int change)
    {
        if (LimitsTenants && change != 0)
        {
            ref TenantRow row = ref RowOf(tenant);
            row.InHand += change;
            Judge(tenant);
        }
    }

    private void TakeOfTenant(ulong tenant, long nowMicros)
    {
        _now = Math.Max(_now, nowMicros);
        if (_tenantRule.IsOn)
        {
            RowOf(tenant).Bucket.Take(_tenantRule, 1, nowMicros);
            Judge(tenant);
        }
    }

    private ref TenantRow RowOf(ulong tenant)
    {
        ref TenantRow row = ref _tenants.Find(new TenantRow { Tenant = tenant, IsThere = 1 });
        if (Unsafe.IsNullRef(ref row))
        {
            _tenants.Set(new TenantRow { Tenant = tenant, IsThere = 1, Bucket = TokenBucket.Full(_tenantRule, _now) });
            row = ref _tenants.Find(new TenantRow { Tenant = tenant, IsThere = 1 });
        }

        return ref row;
    }

    /// <summary>Bars a tenant that is at its limit, admits one that is not, and forgets one of which there is nothing to know.</summary>
    private void Judge(ulong tenant)
    {
        ref TenantRow row = ref RowOf(tenant);
        bool lacksToken = _tenantRule.IsOn && row.Bucket.TokensAt(_tenantRule, _now) == 0;
        bool isFull = !_tenantRule.IsOn || row.Bucket.IsFullAt(_tenantRule, _now);
        bool isBarred = lacksToken || (_tenantInFlight > 0 && row.InHand >= _tenantInFlight);
        if (!isFull)
        {
            LookAt(ref row, lacksToken ? row.Bucket.NextMicros(_tenantRule) : row.Bucket.FullMicros(_tenantRule));
        }

        if (isFull && row.InHand == 0)
        {
            _tenants.Remove(new TenantRow { Tenant = tenant, IsThere = 1 });
        }

        if (isBarred && _barred.Add(tenant))
        {
            _plain?.Bar(tenant);
            _last?.Bar(tenant);
            foreach (Turns own in _own.Values)
            {
                own.Bar(tenant);
            }
        }
        else if (!isBarred && _barred.Remove(tenant))
        {
            AdmitToTurns(tenant);
        }
    }

    private void AdmitToTurns(ulong tenant)
    {
        _plain?.Admit(tenant);
        _last?.Admit(tenant);
        foreach (Turns own in _own.Values)
        {
            own.Admit(tenant);
        }
    }

    private void LookAt(ref TenantRow row, long atMicros)
    {
        if (row.LookAtMicros == 0 || atMicros < row.LookAtMicros)
        {
            row.LookAtMicros = atMicros;
            _admissions.Enqueue(row.Tenant, atMicros);
        }
    }

    private void ForgetTenants()
    {
        foreach (ulong tenant in _barred.ToArray())
        {
            _barred.Remove(tenant);
            AdmitToTurns(tenant);
        }

        _tenants.Dispose();
        _admissions.Clear();
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct TenantRow : IMapRow<TenantRow>
    {
        public ulong Tenant;
        public TokenBucket Bucket;

        /// <summary>When it is looked at again; 0: it is not.</summary>
        public long LookAtMicros;
        public int InHand;
        public int IsThere;

        public readonly bool IsVacant => IsThere == 0;

        public readonly uint Hash => TagHash.Of(Tenant);

        public readonly bool Is(scoped in TenantRow other) => Tenant == other.Tenant;
    }
}
