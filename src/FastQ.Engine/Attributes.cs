using System.Globalization;
using System.IO.Hashing;
using System.Text;
using FastQ.Protocol;

namespace FastQ.Engine;

/// <summary>Attributes of a queue. Equal ones make a second declaration succeed. What is null follows from the queue's name and the others: <see cref="For"/>.</summary>
public sealed record QueueAttributes
{
    private const long DefaultBackoffFactorPermille = 2000;
    private const int MostPriorityShare = 50;
    private const int MostWeight = 1000;
    private const int MostWeightBytes = 256;
    private const RequiredProperties NoRequirement = (RequiredProperties)int.MinValue; // What stood there names something else.
    private const long DefaultBackoffMostMilliseconds = 3_600_000;

    public static QueueAttributes Default { get; } = new();

    /// <summary>How long a delivery is held.</summary>
    public long LeaseMilliseconds { get; init; } = Limits.DefaultLeaseMilliseconds;

    /// <summary>How long a message that says nothing of it waits before it is delivered. 0: not at all.</summary>
    public long DelayMilliseconds { get; init; }

    /// <summary>How long a message lives from when it may first be delivered. 0: for ever.</summary>
    public long TtlMilliseconds { get; init; }

    /// <summary>Delivered so often and not accepted, a message dies. 0: no limit. Null: 20, or no limit where there are no dead letters.</summary>
    public long? MaxDeliveries { get; init; }

    /// <summary>How long a message waits after its first delivery failed. 0: not at all.</summary>
    public long BackoffFirstMilliseconds { get; init; }

    /// <summary>So many thousandths of the wait before is each next one.</summary>
    public long BackoffFactorPermille { get; init; } = DefaultBackoffFactorPermille;

    /// <summary>The longest wait.</summary>
    public long BackoffMostMilliseconds { get; init; } = DefaultBackoffMostMilliseconds;

    /// <summary>Name of the queue for dead letters; empty: what dies is gone. Null: <see cref="Names.DeadLetterOf"/>.</summary>
    public string? DeadLetter { get; init; }

    /// <summary>Name of the exchange for dead letters, in place of that queue; empty: there is none.</summary>
    public string DeadLetterExchange { get; init; } = "";

    /// <summary>What dies goes on somewhere.</summary>
    public bool HasDeadLetters => DeadLetter is { Length: > 0 } || DeadLetterExchange.Length > 0;

    /// <summary>So many messages may wait, ready or delayed. 0: no limit.</summary>
    public long MaxLength { get; init; }

    /// <summary>So many bytes of properties and bodies may wait. 0: no limit.</summary>
    public long MaxBytes { get; init; }

    /// <summary>What it does when one of the two is reached.</summary>
    public Overflow Overflow { get; init; }

    /// <summary>Largest body, in bytes. 0: as the broker has it.</summary>
    public long MaxMessageSize { get; init; }

    /// <summary>Messages of a higher priority go first.</summary>
    public bool Priority { get; init; }

    /// <summary>So many of a hundred deliveries go to lower priorities while the highest waits. 0: none.</summary>
    public long PriorityShare { get; init; }

    /// <summary>Messages of one group go one after the other, each when the one before is settled.</summary>
    public bool Fifo { get; init; }

    /// <summary>Tenants take turns.</summary>
    public bool Fair { get; init; }

    /// <summary>How many messages a tenant gets in a round, where that is not one: <c>gold=4,silver=2</c>.</summary>
    public string FairWeights { get; init; } = "";

    /// <summary>One consumer at a time gets messages; the others stand by.</summary>
    public bool SingleActive { get; init; }

    /// <summary>Does it deliver in an order of its own?</summary>
    public bool IsOrdered => Priority || Fifo || Fair;

    /// <summary>So long a deduplication id is remembered. 0: not at all.</summary>
    public long DedupMilliseconds { get; init; } = Limits.DefaultDedupMilliseconds;

    /// <summary>Ids are compared within a message group, not within the queue.</summary>
    public bool DedupByGroup { get; init; }

    /// <summary>So long it is remembered what consumers have marked as processed. 0: not at all.</summary>
    public long ProcessedMilliseconds { get; init; }

    /// <summary>Properties that a message must have when it is sent.</summary>
    public RequiredProperties Require { get; init; }

    /// <summary>Bodies from this size on are compressed by the libraries of their senders; the engine only tells them. 0: none.</summary>
    public long Lz4FromBytes { get; init; }

    /// <summary>So long without consumers and without a message that comes, the queue is deleted. 0: never.</summary>
    public long ExpiresMilliseconds { get; init; }

    /// <summary>Limits on what flows through it.</summary>
    public FlowLimits Flow { get; init; } = FlowLimits.None;

    /// <summary>Of the queue that dead letters of others go to, where nobody has declared it: what is in it stays until somebody takes it.</summary>
    public static QueueAttributes OfDeadLetters { get; } = new() { DeadLetter = "" };

    /// <summary>As they stand in a command or a record; what is not there is as by default. Not judged.</summary>
    public static QueueAttributes From(ReadOnlySpan<byte> fields) => Default.With(fields);

    /// <summary>These, with those that are named in a command or a record in their place. Not judged.</summary>
    public QueueAttributes With(ReadOnlySpan<byte> fields)
    {
        QueueAttributes attributes = this;
        FieldReader reader = new(fields);
        while (reader.Next())
        {
            attributes = reader.Tag switch
            {
                FieldTag.LeaseMilliseconds => attributes with { LeaseMilliseconds = NumberOf(reader) },
                FieldTag.DelayMilliseconds => attributes with { DelayMilliseconds = NumberOf(reader) },
                FieldTag.TtlMilliseconds => attributes with { TtlMilliseconds = NumberOf(reader) },
                FieldTag.MaxDeliveries => attributes with { MaxDeliveries = NumberOf(reader) },
                FieldTag.BackoffFirstMilliseconds => attributes with { BackoffFirstMilliseconds = NumberOf(reader) },
                FieldTag.BackoffFactorPermille => attributes with { BackoffFactorPermille = NumberOf(reader) },
                FieldTag.BackoffMostMilliseconds => attributes with { BackoffMostMilliseconds = NumberOf(reader) },
                FieldTag.DeadLetter => attributes with { DeadLetter = reader.Text, DeadLetterExchange = reader.Value.IsEmpty ? attributes.DeadLetterExchange : "" },
                FieldTag.DeadLetterExchange => attributes with { DeadLetterExchange = reader.Text, DeadLetter = reader.Value.IsEmpty ? attributes.DeadLetter : "" },
                FieldTag.MaxLength => attributes with { MaxLength = NumberOf(reader) },
                FieldTag.MaxBytes => attributes with { MaxBytes = NumberOf(reader) },
                FieldTag.Overflow => attributes with { Overflow = (Overflow)Math.Clamp(NumberOf(reader), 0, byte.MaxValue) },
                FieldTag.MaxMessageSize => attributes with { MaxMessageSize = NumberOf(reader) },
                FieldTag.Priority => attributes with { Priority = NumberOf(reader) > 0 },
                FieldTag.PriorityShare => attributes with { PriorityShare = NumberOf(reader) },
                FieldTag.Fifo => attributes with { Fifo = NumberOf(reader) > 0 },
                FieldTag.Fair => attributes with { Fair = NumberOf(reader) > 0 },
                FieldTag.FairWeights => attributes with { FairWeights = reader.Text },
                FieldTag.SingleActive => attributes with { SingleActive = NumberOf(reader) > 0 },
                FieldTag.DedupMilliseconds => attributes with { DedupMilliseconds = NumberOf(reader) },
                FieldTag.DedupByGroup => attributes with { DedupByGroup = NumberOf(reader) > 0 },
                FieldTag.ProcessedMilliseconds => attributes with { ProcessedMilliseconds = NumberOf(reader) },
                FieldTag.Lz4FromBytes => attributes with { Lz4FromBytes = NumberOf(reader) },
                FieldTag.ExpiresMilliseconds => attributes with { ExpiresMilliseconds = NumberOf(reader) },
                FieldTag.Require => attributes with { Require = Requirement.TryParse(reader.Text, out RequiredProperties wanted, out _) ? wanted : NoRequirement },
                FieldTag.Flow => attributes with { Flow = attributes.Flow.With(reader.Value) },
                _ => attributes,
            };
        }

        return attributes;
    }

    /// <summary>The same, with all that was left open decided for a queue of this name.</summary>
    public QueueAttributes For(string name)
    {
        QueueAttributes decided = this with { DeadLetter = DeadLetter ?? (DeadLetterExchange.Length > 0 ? "" : Names.DeadLetterOf(name)) };
        return decided with { MaxDeliveries = MaxDeliveries ?? (decided.HasDeadLetters ? Limits.DefaultMaxDeliveries : 0) };
    }

    public void Write(ref FieldWriter to)
    {
        to.Number(FieldTag.LeaseMilliseconds, (ulong)LeaseMilliseconds);
        to.Number(FieldTag.DelayMilliseconds, (ulong)DelayMilliseconds);
        to.Number(FieldTag.TtlMilliseconds, (ulong)TtlMilliseconds);
        if (MaxDeliveries is long most)
        {
            to.Number(FieldTag.MaxDeliveries, (ulong)most);
        }

        to.Number(FieldTag.BackoffFirstMilliseconds, (ulong)BackoffFirstMilliseconds);
        to.Number(FieldTag.BackoffFactorPermille, (ulong)BackoffFactorPermille);
        to.Number(FieldTag.BackoffMostMilliseconds, (ulong)BackoffMostMilliseconds);
        to.Number(FieldTag.MaxLength, (ulong)MaxLength);
        to.Number(FieldTag.MaxBytes, (ulong)MaxBytes);
        to.Number(FieldTag.Overflow, (ulong)Overflow);
        to.Number(FieldTag.MaxMessageSize, (ulong)MaxMessageSize);
        to.Number(FieldTag.Priority, Priority ? 1u : 0u);
        to.Number(FieldTag.PriorityShare, (ulong)PriorityShare);
        to.Number(FieldTag.Fifo, Fifo ? 1u : 0u);
        to.Number(FieldTag.Fair, Fair ? 1u : 0u);
        to.Number(FieldTag.SingleActive, SingleActive ? 1u : 0u);
        to.Text(FieldTag.FairWeights, FairWeights);
        to.Number(FieldTag.DedupMilliseconds, (ulong)DedupMilliseconds);
        to.Number(FieldTag.DedupByGroup, DedupByGroup ? 1u : 0u);
        to.Number(FieldTag.Lz4FromBytes, (ulong)Lz4FromBytes);
        to.Number(FieldTag.ProcessedMilliseconds, (ulong)ProcessedMilliseconds);
        to.Text(FieldTag.Require, Requirement.NamesOf(Require));
        if (DeadLetterExchange.Length > 0)
        {
            to.Text(FieldTag.DeadLetterExchange, DeadLetterExchange);
        }
        else if (ExpiresMilliseconds != 0)
        {
            to.Number(FieldTag.ExpiresMilliseconds, (ulong)ExpiresMilliseconds);
        }

        if (DeadLetter is not null)
        {
            to.Text(FieldTag.DeadLetter, DeadLetter);
        }

        Flow.Write(ref to);
    }

    /// <summary>Says what is outside its range or contradicts itself, or is empty.</summary>
    /// <param name="name">The queue's.</param>
    public string Fault(string name)
    {
        return OutOf("lease", LeaseMilliseconds, Limits.MinLeaseMilliseconds, Limits.MaxLeaseMilliseconds)
            ?? OutOf("delay", DelayMilliseconds, 0, Limits.MaxDelayMilliseconds)
            ?? OutOf("the deduplication window", DedupMilliseconds, 0, Limits.MaxDedupMilliseconds)
            ?? OutOf("the window of what was processed", ProcessedMilliseconds, 0, Limits.MaxProcessedMilliseconds)
            ?? OutOf("expires", ExpiresMilliseconds, 0, Limits.MaxDelayMilliseconds)
            ?? OutOf("ttl", TtlMilliseconds, 0, Limits.MaxDelayMilliseconds)
            ?? OutOf("the back-off's first wait", BackoffFirstMilliseconds, 0, Limits.MaxDelayMilliseconds)
            ?? OutOf("the back-off's longest wait", BackoffMostMilliseconds, 1, Limits.MaxDelayMilliseconds)
            ?? (BackoffFactorPermille is < 1000 or > 100_000 ? "the back-off's factor must be 1 to 100" : null)
            ?? (BackoffFirstMilliseconds > BackoffMostMilliseconds ? "the back-off's first wait is above its longest" : null)
            ?? (MaxDeliveries is < 0 or > Limits.MostMaxDeliveries ? $"max-deliveries must be 0 (no limit) to {Limits.MostMaxDeliveries}" : null)
            ?? LimitFault()
            ?? OrderFault()
            ?? (Lz4FromBytes is < 0 or > Limits.MaxMessageBytes ? $"lz4 must be 0 (no body is compressed) to {Limits.MaxMessageBytes}" : null)
            ?? (Require == NoRequirement ? $"require must be names with commas between, of {Requirement.AllNames}" : null)
            ?? FlowFault()
            ?? DeadLetterFault(name);
    }

    /// <summary>Names what differs, or is empty. Both are <see cref="For"/> the same name.</summary>
    public string DifferenceTo(QueueAttributes other)
    {
        List<string> differences = [];
        Compare(differences, "lease", LeaseMilliseconds, other.LeaseMilliseconds, " ms");
        Compare(differences, "delay", DelayMilliseconds, other.DelayMilliseconds, " ms");
        Compare(differences, "ttl", TtlMilliseconds, other.TtlMilliseconds, " ms");
        Compare(differences, "max-deliveries", MaxDeliveries ?? 0, other.MaxDeliveries ?? 0, "");
        Compare(differences, "the back-off's first wait", BackoffFirstMilliseconds, other.BackoffFirstMilliseconds, " ms");
        Compare(differences, "the back-off's factor", BackoffFactorPermille, other.BackoffFactorPermille, " thousandths");
        Compare(differences, "the back-off's longest wait", BackoffMostMilliseconds, other.BackoffMostMilliseconds, " ms");
        Compare(differences, "max-length", MaxLength, other.MaxLength, "");
        Compare(differences, "max-bytes", MaxBytes, other.MaxBytes, "");
        Compare(differences, "max-message-size", MaxMessageSize, other.MaxMessageSize, "");
        Compare(differences, "the window of what was processed", ProcessedMilliseconds, other.ProcessedMilliseconds, " ms");
        Compare(differences, "the deduplication window", DedupMilliseconds, other.DedupMilliseconds, " ms");
        Compare(differences, "deduplication by group", DedupByGroup, other.DedupByGroup);
        Compare(differences, "priority", Priority, other.Priority);
        Compare(differences, "the share of low priorities", PriorityShare, other.PriorityShare, " of a hundred");
        Compare(differences, "fifo", Fifo, other.Fifo);
        Compare(differences, "fair", Fair, other.Fair);
        Compare(differences, "single-active", SingleActive, other.SingleActive);
        if (FairWeights != other.FairWeights)
        {
            differences.Add($"fair-weights is '{FairWeights}', not '{other.FairWeights}'");
        }

        if (Overflow != other.Overflow)
        {
            differences.Add($"overflow is {StateNames.NameOf(Overflow)}, not {StateNames.NameOf(other.Overflow)}");
        }

        Compare(differences, "expires", ExpiresMilliseconds, other.ExpiresMilliseconds, " ms");
        Compare(differences, "lz4", Lz4FromBytes, other.Lz4FromBytes, " bytes");
        if (Require != other.Require)
        {
            differences.Add($"require is '{Requirement.NamesOf(Require)}', not '{Requirement.NamesOf(other.Require)}'");
        }

        if (DeadLetterExchange != other.DeadLetterExchange)
        {
            differences.Add($"dead-letter-exchange is '{DeadLetterExchange}', not '{other.DeadLetterExchange}'");
        }

        if (DeadLetter != other.DeadLetter)
        {
            differences.Add($"dead-letter is '{DeadLetter}', not '{other.DeadLetter}'");
        }

        Flow.Compare(differences, other.Flow);
        return string.Join(", ", differences);
    }

    /// <summary>How long a message waits after a delivery that failed, in milliseconds. Less up to a fifth, so that those that failed together do not come together; the same at each replay.</summary>
    public long BackoffAfter(ulong tag, int deliveries)
    {
        if (BackoffFirstMilliseconds == 0)
        {
            return 0;
        }

        long wait = BackoffFirstMilliseconds;
        for (int i = 1; i < deliveries && wait < BackoffMostMilliseconds && BackoffFactorPermille > 1000; i++)
        {
            wait = Math.Min(BackoffMostMilliseconds, wait * BackoffFactorPermille / 1000);
        }

        ulong hash = (tag * 0x9E3779B97F4A7C15 + (ulong)deliveries) * 0xD1B54A32D192ED03;
        return wait - (long)((Int128)wait * (long)(hash >> 44) / (5L << 20));
    }

    /// <summary>What a group or a tenant is known by.</summary>
    public static ulong HashOf(ReadOnlySpan<byte> key) => XxHash3.HashToUInt64(key);

    /// <summary>What a deduplication id, or a unique key, is known by; never 0.</summary>
    public static UInt128 KeyOf(ReadOnlySpan<byte> group, ReadOnlySpan<byte> id)
    {
        Span<byte> text = stackalloc byte[2 * Limits.MaxNameBytes + 1];
        text[0] = (byte)group.Length;
        group.CopyTo(text[1..]);
        id.CopyTo(text[(1 + group.Length)..]);
        UInt128 key = XxHash128.HashToUInt128(text[..(1 + group.Length + id.Length)]);
        return key == 0 ? 1 : key;
    }

    /// <summary>The weights of tenants by the hash of their keys; null: none is named. The text is known to be right.</summary>
    public Dictionary<ulong, int>? TenantWeights() => TryParseWeights(FairWeights, out Dictionary<ulong, int>? weights) ? weights : null;

    private string? OrderFault()
    {
        if (PriorityShare is < 0 or > MostPriorityShare)
        {
            return $"the share of low priorities must be 0 to {MostPriorityShare} of a hundred";
        }

        if (PriorityShare > 0 && !Priority)
        {
            return "a share of low priorities needs priority";
        }

        if (!TryParseWeights(FairWeights, out _))
        {
            return $"fair-weights must be like gold=4,silver=2: at most {MostWeightBytes} bytes, each weight 1 to {MostWeight}, each tenant once";
        }

        return FairWeights.Length > 0 && !Fair ? "fair-weights need fair" : null;
    }

    private static bool TryParseWeights(string text, out Dictionary<ulong, int>? weights)
    {
        weights = null;
        if (Encoding.UTF8.GetByteCount(text) > MostWeightBytes)
        {
            return false;
        }

        foreach (string part in text.Length == 0 ? [] : text.Split(','))
        {
            int sign = part.LastIndexOf('=');
            bool isGood = sign > 0 && int.TryParse(part.AsSpan(sign + 1), NumberStyles.None, CultureInfo.InvariantCulture, out int weight) && weight is >= 1 and <= MostWeight
                && (weights ??= []).TryAdd(HashOf(Encoding.UTF8.GetBytes(part[..sign])), weight);
            if (!isGood)
            {
                return false;
            }
        }

        return true;
    }

    private string? FlowFault()
    {
        if (!Fifo && (Flow.GroupInFlight > 0 || Flow.GroupRate.Count > 0 || Flow.DelayHoldsGroup))
        {
            return "group-in-flight, group-rate and delay-holds-group need fifo";
        }

        return !Fair && (Flow.TenantInFlight > 0 || Flow.TenantRate.Count > 0) ? "limits of tenants need fair" : Flow.Fault();
    }

    private string? LimitFault()
    {
        if (MaxLength < 0 || MaxBytes < 0 || MaxMessageSize is < 0 or > Limits.MaxMessageBytes)
        {
            return $"max-length and max-bytes must be 0 (no limit) or more, max-message-size 0 to {Limits.MaxMessageBytes}";
        }

        if (Overflow > Overflow.DeadLetter)
        {
            return "overflow must be reject, drop-head or dead-letter";
        }

        return Overflow != Overflow.Reject && MaxLength == 0 && MaxBytes == 0 ? $"overflow {StateNames.NameOf(Overflow)} needs a max-length or max-bytes" : null;
    }

    private string DeadLetterFault(string name)
    {
        if (!HasDeadLetters && Overflow == Overflow.DeadLetter)
        {
            return "overflow dead-letter needs a dead-letter queue";
        }

        if (DeadLetterExchange.Length > 0 && (DeadLetter is { Length: > 0 } || !Names.IsValid(Encoding.UTF8.GetBytes(DeadLetterExchange))))
        {
            return $"dead-letter-exchange must be the name of an exchange, in place of a dead-letter queue: 1 to {Limits.MaxNameBytes} bytes of UTF-8 without control characters";
        }

        if (DeadLetter == name)
        {
            return "a queue is not its own dead-letter queue";
        }

        return DeadLetter is { Length: > 0 } other && !Names.IsValid(Encoding.UTF8.GetBytes(other)) ? $"dead-letter must be the name of a queue: 1 to {Limits.MaxNameBytes} bytes of UTF-8 without control characters" : "";
    }

    private static string? OutOf(string what, long value, long least, long most) => value >= least && value <= most ? null : $"{what} must be {least} ms to {most} ms";

    private static void Compare(List<string> differences, string name, long mine, long other, string unit)
    {
        if (mine != other)
        {
            differences.Add(string.Create(CultureInfo.InvariantCulture, $"{name} is {mine}{unit}, not {other}{unit}"));
        }
    }

    private static void Compare(List<string> differences, string name, bool mine, bool other)
    {
        if (mine != other)
        {
            differences.Add($"{name} is {(mine ? "on" : "off")}, not {(other ? "on" : "off")}");
        }
    }

    private static long NumberOf(in FieldReader reader) => reader.Value.Length == sizeof(ulong) ? (long)Math.Min(reader.Number, long.MaxValue) : -1;
}
