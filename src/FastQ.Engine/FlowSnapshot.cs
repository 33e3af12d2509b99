using System.Buffers;
using System.Globalization;
using FastQ.Protocol;

namespace FastQ.Engine;

// What limits on flow have let pass, in a snapshot and in a dump. Counts of what is in flight are counted again.

public sealed partial class QueueEngine
{
    private const int LimitBytesSaved = 512;

    /// <summary>| count | length, fields, bucket | ... |</summary>
    private void SaveLimits(IBufferWriter<byte> to)
    {
        Span<byte> room = stackalloc byte[LimitBytesSaved];
        Number(to, (ulong)_limitsByName.Count);
        foreach (SharedLimit limit in _limitsByName.Values)
        {
            FieldWriter fields = new(room);
            fields.Text(FieldTag.Name, limit.Name);
            limit.Limits.Write(ref fields);
            Invariant.Holds(!fields.Overflowed);
            Number(to, (ulong)fields.Length);
            to.Write(fields.Written);
            SaveBucket(to, limit.Bucket);
        }
    }

    private bool LoadLimits(Loader loader)
    {
        ulong count = loader.Number();
        for (ulong i = 0; i < count && !loader.HasFailed; i++)
        {
            ulong length = loader.Number();
            byte[] fields = new byte[Math.Min(length, LimitBytesSaved)];
            loader.Bytes(fields);
            if (length > LimitBytesSaved || count > MostLimits || !TryLimitIn(fields, out string name, out _) || _limitsByName.ContainsKey(name) || !ApplyLimitSet(fields))
            {
                return false;
            }

            SharedLimit limit = _limitsByName[name];
            if (!TryBucket(loader, limit.Rule, out limit.Bucket))
            {
                return false;
            }
        }

        return !loader.HasFailed;
    }

    /// <summary>Of a queue with limits: | bucket | bucket of publishes | breaker: known, next, tripped, trial, bits | tenants: 1, tenant, bucket | ... | 0 | groups: 1, tenant, group, bucket | ... | 0 |</summary>
    private void SaveFlow(IBufferWriter<byte> to, Queue queue)
    {
        if (queue.Flow is not QueueFlow flow)
        {
            return;
        }

        SaveBucket(to, flow.Bucket);
        SaveBucket(to, flow.Published);
        if (flow.Breaker is Breaker breaker)
        {
            Number(to, (ulong)breaker.Known);
            Number(to, (ulong)breaker.Next);
            Number(to, (ulong)breaker.TrippedMicros);
            Number(to, breaker.Trial);
            foreach (ulong bits in breaker.Bits)
            {
                Number(to, bits);
            }
        }

        foreach ((Holder holder, TokenBucket bucket) in queue.Order?.TenantBuckets(IntervalMicros) ?? [])
        {
            Number(to, 1);
            Number(to, holder.Tenant);
            SaveBucket(to, bucket);
        }

        Number(to, 0);
        foreach ((Holder holder, TokenBucket bucket) in queue.Order?.GroupBuckets(IntervalMicros) ?? [])
        {
            Number(to, 1);
            Number(to, holder.Tenant);
            Number(to, holder.Key);
            SaveBucket(to, bucket);
        }

        Number(to, 0);
    }

    private bool LoadFlow(Loader loader, Queue queue)
    {
        if (queue.Flow is not QueueFlow flow)
        {
            return !loader.HasFailed;
        }

        if (!TryBucket(loader, flow.Rule, out flow.Bucket) || !TryBucket(loader, flow.PublishRule, out flow.Published) || (flow.Breaker is Breaker breaker && !TryBreaker(loader, queue, breaker)))
        {
            return false;
        }

        BucketRule rule = BucketRule.Of(flow.Limits.TenantRate, flow.Limits.TenantBurst);
        for (ulong more = loader.Number(); more != 0; more = loader.Number())
        {
            ulong tenant = loader.Number();
            if (more != 1 || !rule.IsOn || !TryBucket(loader, rule, out TokenBucket bucket))
            {
                return false;
            }

            queue.MakeOrder().SetTenantBucket(tenant, bucket);
        }

        rule = BucketRule.Of(flow.Limits.GroupRate, flow.Limits.GroupBurst);
        for (ulong more = loader.Number(); more != 0; more = loader.Number())
        {
            Holder group = new(loader.Number(), loader.Number());
            if (more != 1 || !rule.IsOn || !TryBucket(loader, rule, out TokenBucket bucket))
            {
                return false;
            }

            queue.MakeOrder().SetGroupBucket(group, bucket);
        }

        return !loader.HasFailed;
    }

    private bool TryBreaker(Loader loader, Queue queue, Breaker breaker)
    {
        (ulong known, ulong next, ulong tripped) = (loader.Number(), loader.Number(), loader.Number());
        breaker.Trial = loader.Number();
        int failed = 0;
        for (int i = 0; i < breaker.Bits.Length; i++)
        {
            breaker.Bits[i] = loader.Number();
            failed += System.Numerics.BitOperations.PopCount(breaker.Bits[i]);
        }

        ulong window = (ulong)breaker.Rule.Window;
        if (loader.HasFailed || known > window || next >= window || tripped > (ulong)IntervalMicros || failed > (int)known || (breaker.Trial != 0 && (queue.Paused & PausedWays.Breaker) == 0))
        {
            return false;
        }

        (breaker.Known, breaker.Next, breaker.TrippedMicros, breaker.Failed) = ((int)known, (int)next, (long)tripped, failed);
        return true;
    }

    private static void SaveBucket(IBufferWriter<byte> to, in TokenBucket bucket)
    {
        Number(to, (ulong)bucket.Parts);
        Number(to, (ulong)bucket.AtMicros);
    }

    private bool TryBucket(Loader loader, in BucketRule rule, out TokenBucket bucket)
    {
        (ulong parts, ulong at) = (loader.Number(), loader.Number());
        bucket = new TokenBucket { Parts = (long)parts, AtMicros = (long)at };
        return !loader.HasFailed && parts <= (ulong)rule.MostParts && at <= (ulong)IntervalMicros;
    }

    private void DumpLimits(TextWriter to)
    {
        foreach (SharedLimit limit in _limitsByName.Values)
        {
            to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"limit {limit.Name} {limit.Limits} {limit.Bucket.Parts} at {limit.Bucket.AtMicros} in flight {limit.InFlight} of {limit.Queues}"));
        }
    }

    private void DumpFlow(TextWriter to, Queue queue)
    {
        if (queue.Flow is not QueueFlow flow)
        {
            return;
        }

        to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  flow {flow.Bucket.Parts} at {flow.Bucket.AtMicros} published {flow.Published.Parts} at {flow.Published.AtMicros} shares {flow.Shared?.Name}"));
        if (flow.Breaker is Breaker breaker)
        {
            to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  breaker known {breaker.Known} next {breaker.Next} failed {breaker.Failed} tripped {breaker.TrippedMicros} trial {breaker.Trial} bits {string.Join(',', breaker.Bits)}"));
        }

        foreach ((string kind, Holder holder, TokenBucket bucket) in (queue.Order?.TenantBuckets(IntervalMicros) ?? []).Select(pair => ("tenant", pair.Holder, pair.Bucket))
            .Concat((queue.Order?.GroupBuckets(IntervalMicros) ?? []).Select(pair => ("group", pair.Holder, pair.Bucket))).OrderBy(row => row.Holder.Tenant).ThenBy(row => row.Holder.Key))
        {
            to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {kind} {holder.Tenant:x} {holder.Key:x} {bucket.Parts} at {bucket.AtMicros}"));
        }
    }
}
