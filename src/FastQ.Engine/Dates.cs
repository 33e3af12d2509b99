using System.Runtime.CompilerServices;
using FastQ.Protocol;

namespace FastQ.Engine;

// When messages may be delivered, and when they expire; and what they say of their turn (DeliveryOrder.cs). Times stand beside the index, by tag (Times.cs); one record makes up to some
// thousands of them ready, or lets them die. What is in flight does not expire: it does when it comes back.

/// <summary>What a message and its queue say of when it is delivered: dates by interval time, 0: none; and its traits, where the queue has an order of its own.</summary>
internal readonly record struct MessageTerms(long DueMicros, long ExpiryMicros, Traits Traits)
{
    /// <summary>A hash of its deduplication id; 0: it has none, or its queue does not look. The next likewise.</summary>
    public UInt128 DedupKey { get; init; }

    public UInt128 UniqueKey { get; init; }

    public bool UniqueUntilStarted { get; init; }

    /// <summary>Somebody waits for a reply; and where nobody would give one, the message is refused.</summary>
    public bool IsRequest { get; init; }

    public bool NeedsConsumer { get; init; }

    /// <summary>A hash of its schedule key; 0: it has none.</summary>
    public UInt128 ScheduleKey { get; init; }

    public ScheduleMode ScheduleMode { get; init; }

    /// <summary>Of a debounce: how long it may be put off since the first; 0: for ever.</summary>
    public long LongestWaitMicros { get; init; }

    /// <summary>When the first came of those that were put off.</summary>
    public long FirstMicros { get; init; }
}

public sealed partial class QueueEngine
{
    private const long LedgerStepMicros = 1_000_000;

    /// <summary>May this message have terms of its own, or from its queue?</summary>
    private static bool HasTerms(Queue queue, in MessageHeader header) => header.PropertyBytes != 0 || queue.GivesTerms;

    /// <summary>Reads when a message is due, when it expires, and when its turn is. False: its properties are cut short, contradict themselves, or are not its sender's to write.</summary>
    private bool TryTermsOf(Queue queue, ReadOnlySpan<byte> record, in MessageHeader header, out MessageTerms terms)
    {
        bool isRead = TryReadWish(record, header, out Wish wish);
        terms = isRead ? TermsOf(queue, header.Kind, wish) : default;
        return isRead;
    }

    /// <summary>Reads what a message says of its times and its turn, to whichever queue it goes.</summary>
    private static bool TryReadWish(ReadOnlySpan<byte> record, in MessageHeader header, out Wish wish)
    {
        wish = default;
        if (header.PropertyBytes > record.Length - MessageHeader.SizeBytes)
        {
            return false;
        }

        PropertyReader reader = new(record.Slice(MessageHeader.SizeBytes, header.PropertyBytes));
        while (reader.Next())
        {
            bool isGood = reader.Tag switch
            {
                PropertyTag.Delay => TryOnce(reader, PropertyType.Int64, 0, Limits.MaxDelayMilliseconds, ref wish.Delay),
                PropertyTag.DeliverAt => TryOnce(reader, PropertyType.Timestamp, 0, Limits.MaxDelayMilliseconds * 1000, ref wish.At),
                PropertyTag.Ttl => TryOnce(reader, PropertyType.Int64, 1, Limits.MaxDelayMilliseconds, ref wish.Ttl),
                PropertyTag.Priority => TryOnce(reader, PropertyType.Int64, 0, byte.MaxValue, ref wish.Priority),
                PropertyTag.Group => TryOnce(reader, ref wish.Group),
                PropertyTag.Tenant => TryOnce(reader, ref wish.Tenant),
                PropertyTag.DeduplicationId => TryOnce(reader, ref wish.DedupId),
                PropertyTag.UniqueKey => TryOnce(reader, ref wish.UniqueKey),
                PropertyTag.UniqueUntil => TryOnce(reader, PropertyType.Int64, 0, (long)UniqueUntil.Started, ref wish.UniqueUntil),
                PropertyTag.Exchange => TryOnce(reader, ref wish.Exchange),
                PropertyTag.RoutingKey => !wish.HasRoutingKey && (wish.HasRoutingKey = reader.Type == PropertyType.Text && reader.Value.Length <= Limits.MaxNameBytes),
                PropertyTag.Request => TryOnce(reader, PropertyType.Int64, 0, 1, ref wish.Request),
                PropertyTag.ScheduleKey => TryOnce(reader, ref wish.ScheduleKey),
                PropertyTag.ScheduleMode => TryOnce(reader, PropertyType.Int64, 0, (long)ScheduleMode.Keep, ref wish.ScheduleMode),
                PropertyTag.LongestWait => TryOnce(reader, PropertyType.Int64, 1, Limits.MaxDelayMilliseconds, ref wish.LongestWait),
                PropertyTag.Death or PropertyTag.Origin => header.Kind != RecordKind.Message,
                _ => true,
            };
            if (!isGood)
            {
                return false;
            }
        }

        return !reader.IsMalformed && (wish.Delay is null || wish.At is null) && IsSchedule(wish);
    }

    /// <summary>What a message and this queue say together.</summary>
    private MessageTerms TermsOf(Queue queue, RecordKind kind, in Wish wish)
    {
        if (wish.IsPlain && !queue.GivesTerms)
        {
            return default;
        }

        MessageTerms terms = TermsFrom(queue, wish);
        if (wish.Request is long request)
        {
            terms = terms with { IsRequest = true, NeedsConsumer = request != 0 };
        }

        if (kind == RecordKind.Message)
        {
            terms = WithKeys(queue, terms, wish); // What moves within the broker is no publish.
            terms = wish.ScheduleKey.IsEmpty ? terms : WithSchedule(terms, wish);
        }

        return terms;
    }

    /// <summary>What a message says of its times and its turn.</summary>
    private ref struct Wish
    {
        public long? Delay;
        public long? At;
        public long? Ttl;
        public long? Priority;
        public ReadOnlySpan<byte> Group;
        public ReadOnlySpan<byte> Tenant;
        public ReadOnlySpan<byte> DedupId;
        public ReadOnlySpan<byte> UniqueKey;
        public long? UniqueUntil;
        public ReadOnlySpan<byte> Exchange;
        public bool HasRoutingKey;
        public long? Request;
        public ReadOnlySpan<byte> ScheduleKey;
        public long? ScheduleMode;
        public long? LongestWait;

        /// <summary>It says nothing that a queue which gives no terms would look at.</summary>
        public readonly bool IsPlain => Delay is null && At is null && Ttl is null && Request is null && DedupId.IsEmpty && UniqueKey.IsEmpty && ScheduleKey.IsEmpty;
    }

    /// <summary>A key: text of 1 to <see cref="Limits.MaxNameBytes"/> bytes.</summary>
    private static bool TryOnce(in PropertyReader reader, ref ReadOnlySpan<byte> key)
    {
        if (!key.IsEmpty || reader.Type != PropertyType.Text || reader.Value.Length is 0 or > Limits.MaxNameBytes)
        {
            return false;
        }

        key = reader.Value;
        return true;
    }

    private static bool TryOnce(in PropertyReader reader, PropertyType type, long least, long most, ref long? value)
    {
        if (value is not null || !reader.TryNumber(type, out long number) || number < least || number > most)
        {
            return false;
        }

        value = number;
        return true;
    }

    private MessageTerms TermsFrom(Queue queue, in Wish wish)
    {
        long waits = Math.Min(wish.At is long moment ? moment - WallMicros : (wish.Delay ?? queue.Attributes.DelayMilliseconds) * 1000, Limits.MaxDelayMilliseconds * 1000); // A journal's wall clock may say anything.
        long due = waits > 0 ? IntervalMicros + waits : 0;
        long ofQueue = queue.Attributes.TtlMilliseconds;
        long lives = Math.Min(wish.Ttl ?? long.MaxValue, ofQueue == 0 ? long.MaxValue : ofQueue);
        return new MessageTerms(due, lives == long.MaxValue ? 0 : Math.Max(due, IntervalMicros) + lives * 1000, queue.Attributes.IsOrdered ? TraitsFrom(queue.Attributes, wish) : default);
    }

    private static MessageTerms WithKeys(Queue queue, in MessageTerms terms, in Wish wish) => wish.DedupId.IsEmpty && wish.UniqueKey.IsEmpty ? terms : terms with
    {
        DedupKey = wish.DedupId.IsEmpty || queue.Attributes.DedupMilliseconds == 0 ? 0 : QueueAttributes.KeyOf(queue.Attributes.DedupByGroup ? wish.Group : default, wish.DedupId),
        UniqueKey = wish.UniqueKey.IsEmpty ? 0 : QueueAttributes.KeyOf(default, wish.UniqueKey),
        UniqueUntilStarted = wish.UniqueUntil == (long)UniqueUntil.Started,
    };

    /// <summary>Groups and tenants are known by a hash of their keys: two that share one share a turn, and nothing else.</summary>
    private static Traits TraitsFrom(QueueAttributes attributes, in Wish wish)
    {
        byte priority = attributes.Priority ? (byte)(wish.Priority ?? 0) : (byte)0;
        ulong tenant = attributes.Fair && !wish.Tenant.IsEmpty ? QueueAttributes.HashOf(wish.Tenant) : 0;
        return new Traits(priority, tenant, attributes.Fifo ? QueueAttributes.HashOf(wish.Group) | Traits.KeepsOrder : priority);
    }

    /// <summary>A message waits for its time. It is counted nowhere else.</summary>
    private void Delay(Queue queue, ulong tag, ref IndexEntry entry, long dueMicros)
    {
        entry.State = EntryState.Delayed;
        entry.Generation = queue.PurgeGeneration;
        queue.Delayed++;
        queue.Due.Set(tag, dueMicros);
        queue.Order?.Move(tag, queue.StandingOfDelayed(entry));
        NoteQueueTimer(queue, dueMicros);
    }

    private void SetExpiry(Queue queue, ulong tag, long atMicros)
    {
        queue.Expiry.Set(tag, atMicros);
        NoteQueueTimer(queue, atMicros);
    }

    /// <summary>Is its time over? It may still be counted as ready, for a turn.</summary>
    private bool HasExpired(Queue queue, ulong tag) => queue.Expiry.Count > 0 && queue.Expiry.TryFind(tag, out long at) && at <= IntervalMicros;

    /// <summary>The delays of the first so many messages are over.</summary>
    private bool ApplyDue(Queue queue, in FactRecord fact)
    {
        if (fact.First > (ulong)IntervalMicros)
        {
            return false;
        }

        for (uint left = fact.Count; left > 0 && queue.Due.TryPeek(out TimedTag earliest) && earliest.AtMicros <= (long)fact.First;)
        {
            queue.Due.Remove(earliest.Tag);
            ref IndexEntry entry = ref queue.Index.Find(earliest.Tag);
            Invariant.Holds(!Unsafe.IsNullRef(ref entry) && entry.State == EntryState.Delayed);
            queue.Delayed--;
            MakeReady(queue, earliest.Tag, ref entry);
            left--;
        }

        NoteQueueTimer(queue, NextDate(queue));
        List(queue);
        return true;
    }

    /// <summary>The first so many messages that have expired die.</summary>
    private bool ApplyExpired(Queue queue, in FactRecord fact, ulong block)
    {
        if (fact.First > (ulong)IntervalMicros)
        {
            return false;
        }

        for (uint left = fact.Count; left > 0 && TryPeekExpiry(queue, out TimedTag earliest) && earliest.AtMicros <= (long)fact.First;)
        {
            queue.Expiry.Remove(earliest.Tag);
            ref IndexEntry entry = ref queue.Index.Find(earliest.Tag);
            Invariant.Holds(!Unsafe.IsNullRef(ref entry) && (entry.IsReady || entry.State == EntryState.Delayed));
            if (queue.IsVoid(earliest.Tag, entry))
            {
                continue;
            }

            Unline(queue, earliest.Tag, entry);
            Die(queue, earliest.Tag, ref entry, DeathReason.Expired, default, block);
            left--;
        }

        NoteQueueTimer(queue, NextDate(queue));
        List(queue); // What waited behind it in its group may go.
        return true;
    }

    /// <summary>A message that waits counts as waiting no more.</summary>
    private static void Unline(Queue queue, ulong tag, in IndexEntry entry)
    {
        queue.WaitingBytes -= entry.LengthBytes - MessageHeader.SizeBytes;
        if (entry.State == EntryState.Delayed)
        {
            queue.Due.Remove(tag);
            queue.Delayed--;
        }
        else
        {
            queue.Ready--;
        }
    }

    /// <summary>The message that expires first, of those that are not in flight.</summary>
    private static bool TryPeekExpiry(Queue queue, out TimedTag earliest)
    {
        while (queue.Expiry.TryPeek(out earliest))
        {
            ref IndexEntry entry = ref queue.Index.Find(earliest.Tag);
            if (Unsafe.IsNullRef(ref entry) || entry.State != EntryState.InFlight)
            {
                return true;
            }

            queue.Expiry.Pass();
        }

        return false;
    }

    /// <summary>When something of this queue falls due next.</summary>
    private long NextDate(Queue queue)
    {
        long due = queue.Due.TryPeek(out TimedTag first) ? first.AtMicros : long.MaxValue;
        // Ids whose time is over are cleared away some at a time, and never more often than each second.
        long seen = queue.Ledger is { Count: > 0 } ledger ? Math.Max(ledger.Clear(0, 0), IntervalMicros + LedgerStepMicros) : long.MaxValue;
        long processed = queue.Processed is { Count: > 0 } marks ? Math.Max(marks.Clear(0, 0), IntervalMicros + LedgerStepMicros) : long.MaxValue;
        due = Math.Min(Math.Min(due, Math.Min(seen, processed)), IdleMicros(queue));
        return TryPeekExpiry(queue, out TimedTag oldest) ? Math.Min(due, oldest.AtMicros) : due;
    }
}
