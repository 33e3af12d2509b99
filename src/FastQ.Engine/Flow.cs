using System.Globalization;
using FastQ.Protocol;

namespace FastQ.Engine;

// Limits on what flows out of a queue (and on how fast it flows in): how much is with consumers at once, how much goes in a while, and a
// breaker that stops a queue whose messages fail. Dispatch asks what is allowed before each run (AllowanceOf); what a run takes is taken
// where its record is applied, so that a replay takes the same at the same times.
//
//   bucket   level, as of an interval time; it fills with time, never beyond the burst, and is changed by records alone
//   shared   a named limit: a bucket and a count of what is in flight in all queues that name it; those that wait for it are woken together
//   breaker  how the last settlements ended, a bit each; tripped, the way out is paused, until somebody resumes it or one message is tried
//
// Tenants have their limits in the queue's order (DeliveryOrder.cs): a tenant at its limit steps out of its turn, and no other waits for it.

/// <summary>How a bucket fills and what it holds. In parts: so many microseconds as its unit has make a token, and each microsecond brings as many parts as its count. So nothing is rounded, in whatever time.</summary>
internal readonly record struct BucketRule(long Count, long TokenParts, long MostParts)
{
    public static BucketRule Of(Rate rate, int burst) => new(rate.Count, rate.UnitMicros, rate.UnitMicros * (burst > 0 ? burst : rate.ASecond));

    public bool IsOn => Count > 0;
}

/// <summary>Tokens. Persistent.</summary>
internal struct TokenBucket
{
    public long Parts;
    public long AtMicros;

    public static TokenBucket Full(in BucketRule rule, long now) => new() { Parts = rule.MostParts, AtMicros = now };

    public readonly long PartsAt(in BucketRule rule, long now)
    {
        long missing = Math.Max(0, rule.MostParts - Parts);
        return now - AtMicros >= missing / rule.Count + 1 ? rule.MostParts : Math.Min(rule.MostParts, Parts + Math.Max(0, now - AtMicros) * rule.Count);
    }

    /// <summary>Whole tokens that are there.</summary>
    public readonly long TokensAt(in BucketRule rule, long now) => PartsAt(rule, now) / rule.TokenParts;

    public readonly bool IsFullAt(in BucketRule rule, long now) => PartsAt(rule, now) == rule.MostParts;

    /// <summary>When there is a token: at the latest, and not a microsecond earlier.</summary>
    public readonly long NextMicros(in BucketRule rule) => MicrosOf(rule, rule.TokenParts);

    public readonly long FullMicros(in BucketRule rule) => MicrosOf(rule, rule.MostParts);

    public void Take(in BucketRule rule, long tokens, long now)
    {
        Parts = Math.Max(0, PartsAt(rule, now) - Math.Min(tokens, FlowLimits.Most) * rule.TokenParts);
        AtMicros = now;
    }

    /// <summary>The rule has changed: whole tokens stay, as far as there is room for them.</summary>
    public void Convert(in BucketRule from, in BucketRule to, long now)
    {
        long tokens = from.IsOn ? TokensAt(from, now) : FlowLimits.Most;
        this = new TokenBucket { Parts = Math.Min(tokens * to.TokenParts, to.MostParts), AtMicros = now };
    }

    private readonly long MicrosOf(in BucketRule rule, long parts) => AtMicros + (Math.Max(0, parts - Parts) + rule.Count - 1) / rule.Count;
}

/// <summary>A limit that queues share by its name.</summary>
internal sealed class SharedLimit(string name, FlowLimits limits, long now)
{
    public string Name => name;

    public FlowLimits Limits { get; private set; } = limits;

    public BucketRule Rule { get; private set; } = BucketRule.Of(limits.Rate, limits.Burst);

    public TokenBucket Bucket = TokenBucket.Full(BucketRule.Of(limits.Rate, limits.Burst), now);

    /// <summary>In all queues that name it.</summary>
    public long InFlight { get; set; }

    /// <summary>So many queues name it.</summary>
    public int Queues { get; set; }

    public void Change(FlowLimits to, long now)
    {
        BucketRule rule = BucketRule.Of(to.Rate, to.Burst);
        if (rule != Rule)
        {
            Bucket.Convert(Rule, rule, now);
        }

        (Limits, Rule) = (to, rule);
    }

    // ---- ephemeral

    /// <summary>Queues that have messages and consumers, and wait for it, in the order in which they came to wait.</summary>
    public List<Queue> Waiting { get; } = [];

    /// <summary>Something came back: those that wait are to look again, in their order, before the next dispatch.</summary>
    public bool IsFreed { get; set; }
}

/// <summary>How the last settlements of a queue ended.</summary>
internal sealed class Breaker(BreakerRule rule)
{
    public BreakerRule Rule => rule;

    /// <summary>A bit each, 1: it failed.</summary>
    public ulong[] Bits { get; } = new ulong[(rule.Window + 63) / 64];

    /// <summary>So many are known, up to the window.</summary>
    public int Known { get; set; }

    /// <summary>Where the next one goes.</summary>
    public int Next { get; set; }

    public int Failed { get; set; }

    /// <summary>When it tripped, or a trial failed.</summary>
    public long TrippedMicros { get; set; }

    /// <summary>The message that is tried alone; 0: none is.</summary>
    public ulong Trial { get; set; }

    public long Bytes => Bits.Length * sizeof(ulong);

    /// <summary>A message was accepted, or died of a failure. True: too many failed.</summary>
    public bool Note(bool failed)
    {
        ref ulong word = ref Bits[Next >> 6];
        ulong bit = 1ul << (Next & 63);
        Failed += (failed ? 1 : 0) - ((word & bit) != 0 ? 1 : 0);
        word = failed ? word | bit : word & ~bit;
        Next = Next + 1 == rule.Window ? 0 : Next + 1;
        Known = Math.Min(rule.Window, Known + 1);
        return Known == rule.Window && Failed * 100L >= (long)rule.Percent * rule.Window;
    }

    public void Forget()
    {
        Array.Clear(Bits);
        (Known, Next, Failed, TrippedMicros, Trial) = (0, 0, 0, 0, 0);
    }
}

/// <summary>The limits of one queue, and what they have let pass. Persistent, but for <see cref="IsWaiting"/>.</summary>
internal sealed class QueueFlow
{
    public FlowLimits Limits { get; private set; } = FlowLimits.None;

    public BucketRule Rule { get; private set; }

    public BucketRule PublishRule { get; private set; }

    public TokenBucket Bucket;

    public TokenBucket Published;

    /// <summary>Null: it names none.</summary>
    public SharedLimit? Shared { get; private set; }

    /// <summary>Null: it has none.</summary>
    public Breaker? Breaker { get; private set; }

    /// <summary>It stands among those that wait for its shared limit.</summary>
    public bool IsWaiting { get; set; }

    public long Bytes => 256 + (Breaker?.Bytes ?? 0);

    public void Change(FlowLimits to, SharedLimit? shared, long inFlight, long now)
    {
        (BucketRule rule, BucketRule publish) = (BucketRule.Of(to.Rate, to.Burst), BucketRule.Of(to.PublishRate, to.PublishBurst));
        if (rule != Rule)
        {
            Bucket.Convert(Rule, rule, now);
        }

        if (publish != PublishRule)
        {
            Published.Convert(PublishRule, publish, now);
        }

        if (to.Breaker != Limits.Breaker)
        {
            Breaker = to.Breaker.Window > 0 ? new Breaker(to.Breaker) : null;
        }

        if (Shared != shared)
        {
            Leave(inFlight);
            if (shared is not null)
            {
                shared.Queues++;
                shared.InFlight += inFlight;
            }
        }

        (Limits, Rule, PublishRule, Shared) = (to, rule, publish, shared);
    }

    /// <summary>It has no part in a shared limit any more.</summary>
    public void Leave(long inFlight)
    {
        if (Shared is not null)
        {
            Shared.Queues--;
            Shared.InFlight -= inFlight;
            Shared.Waiting.RemoveAll(queue => queue.Flow == this);
            IsWaiting = false;
            Shared = null;
        }
    }
}

/// <summary>A limit that queues share, as shown to people.</summary>
/// <param name="InFlight">In all queues that name it.</param>
/// <param name="Queues">So many name it.</param>
/// <param name="Waiting">So many of them have messages and consumers, and wait for it.</param>
public readonly record struct LimitView(string Name, FlowLimits Limits, long InFlight, int Queues, int Waiting);

public sealed partial class QueueEngine
{
    private const int MostLimits = 10_000;
    private const long LimitBytes = 512;
    private readonly SortedDictionary<string, SharedLimit> _limitsByName = new(StringComparer.Ordinal);
    private readonly List<SharedLimit> _freed = [];

    /// <summary>All limits that queues may share, by name.</summary>
    public IReadOnlyList<LimitView> SharedLimits => [.. _limitsByName.Values.Select(limit => new LimitView(limit.Name, limit.Limits, limit.InFlight, limit.Queues, limit.Waiting.Count))];

    /// <summary>Makes, changes or deletes a limit that queues may share.</summary>
    /// <param name="name">Of any origin.</param>
    /// <param name="action">What is done.</param>
    /// <param name="flow">The value of <see cref="FieldTag.Flow"/>: max-in-flight, rate and burst alone.</param>
    /// <param name="room">At least <see cref="MaxFactBytes"/>.</param>
    /// <param name="block">The open block.</param>
    /// <param name="written">Bytes written.</param>
    /// <param name="fault">What is wrong, in words.</param>
    public Decision SetLimit(string name, LimitAction action, ReadOnlySpan<byte> flow, Span<byte> room, ulong block, out int written, out string fault)
    {
        (written, fault) = (0, "");
        bool isThere = _limitsByName.TryGetValue(name, out SharedLimit? known);
        FlowLimits wanted = (isThere && action == LimitAction.Change ? known!.Limits : FlowLimits.None).With(flow);
        fault = JudgeLimit(name, action, wanted, known);
        if (fault.Length > 0)
        {
            return Decision.Refuse(action == LimitAction.Delete && isThere ? RefusalCode.Denied : action == LimitAction.Declare && isThere ? RefusalCode.QueueExists : RefusalCode.BadArgument);
        }

        if (action == LimitAction.Declare && !isThere && _limitsByName.Count >= MostLimits)
        {
            return Decision.Refuse(RefusalCode.LimitReached, MostLimits, "Limits that queues may share");
        }

        if (isThere && action != LimitAction.Delete && wanted == known!.Limits)
        {
            return Decision.Taken;
        }

        FieldWriter fields = new(stackalloc byte[512]);
        fields.Text(FieldTag.Name, name);
        wanted.Write(ref fields);
        Invariant.Holds(!fields.Overflowed);
        written = Write(new FactRecord { Kind = action == LimitAction.Delete ? RecordKind.LimitDeleted : RecordKind.LimitSet }, fields.Written, room, block);
        return Decision.Taken;
    }

    private static string JudgeLimit(string name, LimitAction action, FlowLimits wanted, SharedLimit? known)
    {
        if (!FlowLimits.IsName(System.Text.Encoding.UTF8.GetBytes(name)))
        {
            return $"a limit's name is 1 to {FlowLimits.MostNameBytes} bytes of UTF-8 without control characters";
        }

        if (action != LimitAction.Declare && known is null)
        {
            return $"there is no limit {name}";
        }

        if (action == LimitAction.Delete)
        {
            return known!.Queues == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $"limit {name} is named by {known.Queues} {(known.Queues == 1 ? "queue" : "queues")}: let them name another, or none, first");
        }

        if (SharedFault(wanted) is string fault)
        {
            return fault;
        }

        List<string> differences = [];
        if (action == LimitAction.Declare)
        {
            known?.Limits.Compare(differences, wanted);
        }

        return differences.Count > 0 ? $"limit {name} exists: its {string.Join(", ", differences)}" : "";
    }

    private static string? SharedFault(FlowLimits limits)
    {
        FlowLimits own = FlowLimits.None with { MaxInFlight = limits.MaxInFlight, Rate = limits.Rate, Burst = limits.Burst };
        return limits.Fault() ?? (limits != own ? "a limit that queues share has max-in-flight, rate and burst, and nothing else" : own == FlowLimits.None ? "a limit needs a max-in-flight or a rate" : null);
    }

    private bool ApplyLimitSet(ReadOnlySpan<byte> payload)
    {
        if (!TryLimitIn(payload, out string name, out FlowLimits limits) || SharedFault(limits) is not null)
        {
            return false;
        }

        if (_limitsByName.TryGetValue(name, out SharedLimit? known))
        {
            known.Change(limits, IntervalMicros);
            Freed(known);
            return true;
        }

        _limitsByName.Add(name, new SharedLimit(name, limits, IntervalMicros));
        _pages.Charge(LimitBytes);
        return true;
    }

    private bool ApplyLimitDeleted(ReadOnlySpan<byte> payload)
    {
        if (!TryLimitIn(payload, out string name, out _) || !_limitsByName.TryGetValue(name, out SharedLimit? known) || known.Queues > 0)
        {
            return false;
        }

        _limitsByName.Remove(name);
        _pages.Charge(-LimitBytes);
        return true;
    }

    private static bool TryLimitIn(ReadOnlySpan<byte> payload, out string name, out FlowLimits limits)
    {
        limits = FlowLimits.None.With(FieldReader.TryBytes(payload, FieldTag.Flow, out ReadOnlySpan<byte> flow) ? flow : default);
        bool isNamed = FieldReader.TryBytes(payload, FieldTag.Name, out ReadOnlySpan<byte> bytes) && FlowLimits.IsName(bytes);
        name = isNamed ? System.Text.Encoding.UTF8.GetString(bytes) : "";
        return isNamed;
    }

    /// <summary>A queue names a limit that is there, or none.</summary>
    private string LimitFaultOf(QueueAttributes attributes) =>
        attributes.Flow.Limit.Length == 0 || _limitsByName.ContainsKey(attributes.Flow.Limit) ? "" : $"there is no limit {attributes.Flow.Limit}: make it first, with fastq limit create";

    /// <summary>The queue's limits are those of its attributes from now on. False: it names a limit that is not there.</summary>
    private bool TryLimit(Queue queue)
    {
        FlowLimits limits = queue.Attributes.Flow;
        SharedLimit? shared = null;
        bool isKnown = limits.Limit.Length == 0 || _limitsByName.TryGetValue(limits.Limit, out shared);
        SharedLimit? before = queue.Flow?.Shared;
        _pages.Charge(-(queue.Flow?.Bytes ?? 0));
        queue.LimitTo(limits, shared, IntervalMicros);
        _pages.Charge(queue.Flow?.Bytes ?? 0);
        if (before is not null && before != shared)
        {
            Freed(before);
        }

        return isKnown || IsLenient;
    }

    /// <summary>A queue is deleted: it has no part in a shared limit any more.</summary>
    private void Unlimit(Queue queue)
    {
        if (queue.Flow is QueueFlow flow)
        {
            SharedLimit? shared = flow.Shared;
            _pages.Charge(-flow.Bytes);
            queue.LimitTo(FlowLimits.None, null, IntervalMicros);
            if (shared is not null)
            {
                Freed(shared);
            }
        }
    }

    /// <summary>There may be room under a shared limit: those that wait for it look again before the next dispatch.</summary>
    private void Freed(SharedLimit limit)
    {
        if (limit.Waiting.Count > 0 && !limit.IsFreed)
        {
            limit.IsFreed = true;
            _freed.Add(limit);
        }
    }

    private void WakeFreed()
    {
        foreach (SharedLimit limit in _freed)
        {
            foreach (Queue queue in limit.Waiting)
            {
                queue.Flow!.IsWaiting = false;
                List(queue);
            }

            limit.Waiting.Clear();
            limit.IsFreed = false;
        }

        _freed.Clear();
    }

    /// <summary>Something of a queue with limits came back from a consumer, or is gone: so there may be room for others.</summary>
    private void NoteLess(Queue queue)
    {
        if (queue.Flow?.Shared is { Waiting.Count: > 0 } shared)
        {
            Freed(shared);
        }
    }

    /// <summary>So many messages may go now, of a queue that has limits. 0: none, and the queue is looked at again when that may have changed.</summary>
    private long AllowanceOf(Queue queue)
    {
        QueueFlow flow = queue.Flow!;
        queue.Order?.Admit(IntervalMicros);
        NoteQueueTimer(queue, queue.Order?.NextAdmission ?? long.MaxValue);
        long most = flow.Limits.MaxInFlight > 0 ? flow.Limits.MaxInFlight - queue.InFlight : long.MaxValue;
        most = (queue.Paused & PausedWays.Breaker) != 0 ? Math.Min(most, TrialOf(queue, flow)) : most;
        most = Math.Min(most, TokensOf(queue, flow.Rule, flow.Bucket));
        return Math.Max(0, most > 0 && flow.Shared is SharedLimit shared ? Math.Min(most, AllowanceOf(queue, flow, shared)) : most);
    }

    /// <summary>What the limit allows that a queue shares. Those that wait for it are woken together, in the order in which they came to wait: so each has its turn. One timer is enough for all.</summary>
    private long AllowanceOf(Queue queue, QueueFlow flow, SharedLimit shared)
    {
        bool isFirst = shared.Waiting.Count == 0 || shared.Waiting[0] == queue;
        long most = shared.Limits.MaxInFlight > 0 ? shared.Limits.MaxInFlight - shared.InFlight : long.MaxValue;
        most = Math.Min(most, TokensOf(isFirst ? queue : null, shared.Rule, shared.Bucket));
        if (most <= 0 && !flow.IsWaiting)
        {
            flow.IsWaiting = true;
            shared.Waiting.Add(queue);
        }

        return most;
    }

    private long TokensOf(Queue? timed, in BucketRule rule, in TokenBucket bucket)
    {
        if (!rule.IsOn)
        {
            return long.MaxValue;
        }

        long tokens = bucket.TokensAt(rule, IntervalMicros);
        if (tokens == 0 && timed is not null)
        {
            NoteQueueTimer(timed, bucket.NextMicros(rule));
        }

        return tokens;
    }

    /// <summary>A date of a queue has come: it may go on, and those that wait with it for a limit that they share.</summary>
    private void WakeFlow(Queue queue, QueueFlow flow)
    {
        if (flow is { IsWaiting: true, Shared: SharedLimit shared })
        {
            Freed(shared);
        }
        else
        {
            List(queue);
        }
    }

    /// <summary>A queue whose breaker has tripped: 1 when its time is over and nothing of it is being tried.</summary>
    private long TrialOf(Queue queue, QueueFlow flow)
    {
        long from = HalfOpenMicros(flow);
        if (from > IntervalMicros)
        {
            NoteQueueTimer(queue, from);
            return 0;
        }

        return flow.Breaker!.Trial == 0 ? 1 : 0;
    }

    private static long HalfOpenMicros(QueueFlow flow) => flow.Limits.BreakerPauseMilliseconds == 0 ? long.MaxValue : flow.Breaker!.TrippedMicros + flow.Limits.BreakerPauseMilliseconds * 1000;

    /// <summary>A run of a queue with limits goes to a consumer.</summary>
    private void TakeAllowance(Queue queue, QueueFlow flow, ulong first, int count)
    {
        if (flow.Rule.IsOn)
        {
            flow.Bucket.Take(flow.Rule, count, IntervalMicros);
        }

        if (flow.Shared is { Rule.IsOn: true } shared)
        {
            shared.Bucket.Take(shared.Rule, count, IntervalMicros);
        }

        if ((queue.Paused & PausedWays.Breaker) != 0)
        {
            flow.Breaker!.Trial = first;
        }
    }

    /// <summary>A message was accepted, or died as a consumer failed over it: where there is a breaker it counts.</summary>
    private void NoteOutcome(Queue queue, ulong tag, bool failed)
    {
        if (queue.Flow?.Breaker is not Breaker breaker)
        {
            return;
        }

        bool isTripped = (queue.Paused & PausedWays.Breaker) != 0;
        bool isTrial = isTripped && breaker.Trial == tag;
        if (isTrial && !failed)
        {
            Close(queue, breaker);
        }
        else if (isTrial || (!isTripped && breaker.Note(failed)))
        {
            (breaker.Trial, breaker.TrippedMicros) = (0, IntervalMicros);
            queue.Pause(queue.Paused | PausedWays.Breaker);
        }

        List(queue);
    }

    /// <summary>What was tried is back: neither good nor bad.</summary>
    private static void NoteBack(Queue queue, ulong tag)
    {
        if (queue.Flow?.Breaker is Breaker breaker && breaker.Trial == tag)
        {
            breaker.Trial = 0;
        }
    }

    private static void Close(Queue queue, Breaker breaker)
    {
        breaker.Forget();
        queue.Pause(queue.Paused & ~PausedWays.Breaker);
    }

    /// <summary>May one more be published now, by the queue's rate?</summary>
    private Decision JudgePublishRate(Queue queue, long before) => queue.Flow is { PublishRule.IsOn: true } flow && flow.Published.TokensAt(flow.PublishRule, IntervalMicros) <= before
        ? Decision.Refuse(RefusalCode.LimitReached, (ulong)flow.Limits.PublishRate.Count, $"The queue's publish-rate ({flow.Limits.PublishRate})")
        : Decision.Taken;

    private void TakePublish(Queue queue)
    {
        if (queue.Flow is { PublishRule.IsOn: true } flow)
        {
            flow.Published.Take(flow.PublishRule, 1, IntervalMicros);
        }
    }

    /// <summary>The limit that keeps a ready message of this queue where it is, with its value; null: none does.</summary>
    private string? LimitOn(Queue queue, ulong tag)
    {
        if (queue.Flow is not QueueFlow flow)
        {
            return null;
        }

        if ((queue.Paused & PausedWays.Breaker) != 0)
        {
            return flow.Breaker!.Trial != 0 ? "the queue's breaker: another message is being tried alone" : HalfOpenMicros(flow) is long from and < long.MaxValue
                ? $"the queue's breaker ({flow.Limits.Breaker}): one message is tried {Left(from)}" : $"the queue's breaker ({flow.Limits.Breaker}), till the queue is resumed";
        }

        return LimitOf("the queue's", flow.Limits, flow.Rule, flow.Bucket, queue.InFlight)
            ?? (flow.Shared is SharedLimit shared ? LimitOf($"limit {shared.Name}'s", shared.Limits, shared.Rule, shared.Bucket, shared.InFlight) : null)
            ?? (queue.Order?.TenantLimit(tag, IntervalMicros) is long admission and >= 0 ? admission == 0 ? $"its tenant's in-flight limit of {flow.Limits.TenantInFlight}" : $"its tenant's rate of {flow.Limits.TenantRate}: the next may go {Left(admission)}" : null)
            ?? (queue.Order?.GroupLimit(tag, IntervalMicros) is long next and >= 0 ? $"its group's rate of {flow.Limits.GroupRate}: the next may go {Left(next)}" : null);
    }

    private string? LimitOf(string whose, FlowLimits limits, in BucketRule rule, in TokenBucket bucket, long inFlight)
    {
        if (limits.MaxInFlight > 0 && inFlight >= limits.MaxInFlight)
        {
            return string.Create(CultureInfo.InvariantCulture, $"{whose} max-in-flight of {limits.MaxInFlight}");
        }

        return rule.IsOn && bucket.TokensAt(rule, IntervalMicros) == 0 ? $"{whose} rate of {limits.Rate}: the next may go {Left(bucket.NextMicros(rule))}" : null;
    }

    private string Left(long atMicros) => string.Create(CultureInfo.InvariantCulture, $"in {Math.Max(0, atMicros - IntervalMicros) / 1e6:0.###} s");
}
