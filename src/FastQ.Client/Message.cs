using System.Diagnostics;
using System.Text;
using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>A message in the hands of this consumer, under a lease: a copy, which stays valid as long as anyone holds it. Any thread. Settle it once.</summary>
public sealed partial class Message
{
    private readonly Subscriber _subscriber;
    private readonly byte[] _properties;
    private byte[]? _decoded;
    private readonly long _fetched = Stopwatch.GetTimestamp();

    internal Message(Subscriber subscriber, in Delivery delivery)
    {
        _subscriber = subscriber;
        (Handle, Life) = (delivery.Number, delivery.Life);
        (Tag, Token) = (delivery.Tag, new FencingToken(delivery.Subscription.Epoch, delivery.TokenNumber));
        (DeliveryCount, IsRedelivered, Timestamp) = (delivery.DeliveryCount, delivery.IsRedelivered, delivery.Timestamp);
        StoredBody = delivery.StoredBody.ToArray();
        _properties = delivery.Properties.ToArray();
    }

    /// <summary>The body. Where its sender's library compressed it, it is decoded at the first look, on the thread that looks.</summary>
    /// <exception cref="InvalidDataException">What is stored cannot be decoded: damaged before it was sent, or made to do harm. The message can be settled all the same.</exception>
    public ReadOnlyMemory<byte> Body
    {
        get
        {
            if (!BodyEncoding.TryRead(_properties, out BodyEncoding encoding))
            {
                return StoredBody;
            }

            byte[]? body = Volatile.Read(ref _decoded);
            if (body is null)
            {
                body = Lz4Body.Decode(StoredBody.Span, encoding, Tag);
                Volatile.Write(ref _decoded, body); // Two threads that look at once each decode it: the same bytes.
            }

            return body;
        }
    }

    /// <summary>The body as it is stored: compressed where its sender's library did so.</summary>
    public ReadOnlyMemory<byte> StoredBody { get; }

    /// <summary><see cref="Body"/> read as UTF-8.</summary>
    public string Text => Encoding.UTF8.GetString(Body.Span);

    /// <summary>The name of its queue.</summary>
    public string Queue => _subscriber.Queue;

    /// <summary>The message's place number in its queue, the same for life.</summary>
    public ulong Tag { get; }

    /// <summary>How often it has been delivered, this time included; 65,535 when more.</summary>
    public int DeliveryCount { get; }

    /// <summary>Delivered before.</summary>
    public bool IsRedelivered { get; }

    /// <summary>When the broker accepted it.</summary>
    public DateTimeOffset Timestamp { get; }

    /// <summary>Rises with each delivery of this message, to anybody: to be passed on to what the work writes to, which can then refuse a holder whose lease has ended.</summary>
    public FencingToken Token { get; }

    /// <summary>See <see cref="PublishOptions.MessageId"/>; null when it was not set. The others likewise.</summary>
    public string? MessageId => Property(PropertyTag.MessageId);

    public string? CorrelationId => Property(PropertyTag.CorrelationId);

    public string? ReplyTo => Property(PropertyTag.ReplyTo);

    public string? ContentType => Property(PropertyTag.ContentType);

    public string? ContentEncoding => Property(PropertyTag.ContentEncoding);

    public string? Type => Property(PropertyTag.Type);

    public string? Group => Property(PropertyTag.Group);

    public string? Tenant => Property(PropertyTag.Tenant);

    public string? DeduplicationId => Property(PropertyTag.DeduplicationId);

    public string? UniqueKey => Property(PropertyTag.UniqueKey);

    public string? ScheduleKey => Property(PropertyTag.ScheduleKey);

    /// <summary>See <see cref="PublishOptions.Priority"/>; 0 when it was not set.</summary>
    public byte Priority
    {
        get
        {
            PropertyReader reader = new(_properties);
            while (reader.Next())
            {
                if (reader.Tag == PropertyTag.Priority && reader.TryNumber(PropertyType.Int64, out long priority))
                {
                    return (byte)Math.Clamp(priority, 0, byte.MaxValue);
                }
            }

            return 0;
        }
    }

    public string? Key => Property(PropertyTag.Key);

    /// <summary>The exchange that it was sent to; null: it was sent to its queue.</summary>
    public string? Exchange => Property(PropertyTag.Exchange);

    public string? RoutingKey => Property(PropertyTag.RoutingKey);

    public string? SchemaVersion => Property(PropertyTag.SchemaVersion);

    /// <summary>The headers, with their types; of a key that repeats the last. Made anew at each call.</summary>
    public IReadOnlyDictionary<string, HeaderValue> Headers => HeaderValue.ReadAll(_properties);

    /// <summary>Finds a header of text. Null when there is none.</summary>
    public string? HeaderText(string key) => Delivery.HeaderText(_properties, key);

    /// <summary>In a dead-letter queue: where and why it died, the latest first. Elsewhere empty. Made anew at each call.</summary>
    public IReadOnlyList<Death> Deaths => Death.ReadAll(_properties);

    internal Subscriber Subscriber => _subscriber;

    /// <summary>Delivery number, in the subscription's <see cref="Life"/>.</summary>
    internal ulong Handle { get; }

    internal uint Life { get; }

    /// <summary>Since it came to this program; its lease began somewhat earlier.</summary>
    internal TimeSpan Age => Stopwatch.GetElapsedTime(_fetched);

    /// <summary>Done with it: gone for good.</summary>
    /// <param name="confirm">What to wait for. By default a kill of the broker cannot undo it; <see cref="ConfirmLevel.None"/> waits for nothing and hears of no error.</param>
    /// <param name="cancellation">Ends the waiting; the settlement may happen all the same, unless it had not been sent.</param>
    /// <exception cref="FastQException">Its lease had ended, or it was settled before: it is, or was, somebody else's.</exception>
    public ValueTask AcceptAsync(ConfirmLevel confirm = ConfirmLevel.Written, CancellationToken cancellation = default) => _subscriber.SettleAsync(this, Outcome.Accept, confirm, cancellation);

    /// <summary>By which <see cref="AcceptProcessedAsync"/> marks it when nobody says otherwise: its deduplication id, else its message id, else its place.</summary>
    public string ProcessedKey => DeduplicationId ?? MessageId ?? Tag.ToString(System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>What a handler of an idempotent <see cref="Consumer"/> leaves as the result: at most <see cref="Limits.MaxResultBytes"/>.</summary>
    public ReadOnlyMemory<byte> Result { get; set; }

    /// <summary>Done with it, and marked as processed, in one step: whoever gets it, or another of its key, again can know. The first mark of a key stays. Completes when a kill of the broker cannot undo it.</summary>
    /// <param name="result">What is remembered, at most <see cref="Limits.MaxResultBytes"/>.</param>
    /// <param name="key">Null: <see cref="ProcessedKey"/>. 1 to 255 bytes of UTF-8.</param>
    /// <param name="cancellation">Ends the waiting; it may happen all the same, unless it had not been sent.</param>
    /// <exception cref="FastQException">The queue remembers nothing (<see cref="QueueOptions.ProcessedWindow"/>), has no memory left for it, or key or result are too long: nothing has happened. A lease that has ended is none: see <see cref="ProcessedInfo.WasLate"/>.</exception>
    public Task<ProcessedInfo> AcceptProcessedAsync(ReadOnlyMemory<byte> result = default, string? key = null, CancellationToken cancellation = default) => _subscriber.Connection.AcceptProcessedAsync(this, key ?? ProcessedKey, result, cancellation);

    /// <summary>The result with which it was marked as processed; null: it was not, or longer ago than its queue remembers. A round trip to the broker.</summary>
    public Task<ReadOnlyMemory<byte>?> FindProcessedAsync(string? key = null, CancellationToken cancellation = default) => _subscriber.Connection.FindProcessedAsync(_subscriber.Subscription.Queue, key ?? ProcessedKey, cancellation);

    /// <summary>Again, to anybody, at its place in the queue, after the queue's back-off if it has one.</summary>
    /// <inheritdoc cref="AcceptAsync"/>
    public ValueTask ReleaseAsync(ConfirmLevel confirm = ConfirmLevel.Written, CancellationToken cancellation = default) => _subscriber.SettleAsync(this, Outcome.Release, confirm, cancellation);

    /// <summary>Again, to anybody, at its place in the queue, after a while.</summary>
    /// <param name="delay">Not before so long, whatever the queue's back-off, up to <see cref="Limits.MaxDelayMilliseconds"/>; a part of a millisecond is a whole one. Zero: as the queue has it.</param>
    /// <param name="isCounted">False: the delivery is as if it had not been.</param>
    /// <param name="confirm">What to wait for.</param>
    /// <param name="cancellation">Ends the waiting; the settlement may happen all the same, unless it had not been sent.</param>
    /// <exception cref="FastQException">Its lease had ended, it was settled before, or the delay is out of range.</exception>
    public ValueTask ReleaseAsync(TimeSpan delay, bool isCounted = true, ConfirmLevel confirm = ConfirmLevel.Written, CancellationToken cancellation = default) =>
        _subscriber.ReleaseAsync(this, PublishOptions.Milliseconds(delay, "delay"), isCounted, confirm, cancellation);

    /// <summary>Never again: it goes to the dead letters. Where its queue has none, it is gone.</summary>
    /// <inheritdoc cref="AcceptAsync"/>
    public ValueTask RejectAsync(ConfirmLevel confirm = ConfirmLevel.Written, CancellationToken cancellation = default) => _subscriber.SettleAsync(this, Outcome.Reject, confirm, cancellation);

    /// <summary>Never again: it goes to the dead letters with these words. Where its queue has none, it is gone.</summary>
    /// <param name="reason">Why, in a sentence: at most <see cref="Subscription.MaxReasonBytes"/> of UTF-8. Null or empty: nothing is said.</param>
    /// <param name="details">More, as a stack trace; it is cut so that both fit in <see cref="Limits.MaxWordsBytes"/>.</param>
    /// <param name="confirm">What to wait for.</param>
    /// <param name="cancellation">Ends the waiting; the settlement may happen all the same, unless it had not been sent.</param>
    /// <exception cref="FastQException">Its lease had ended, it was settled before, or the reason is too long.</exception>
    public ValueTask RejectAsync(string? reason, string? details = null, ConfirmLevel confirm = ConfirmLevel.Written, CancellationToken cancellation = default) =>
        _subscriber.RejectAsync(this, RejectWords.ToBytes(reason, details), confirm, cancellation);

    /// <summary>The lease begins anew, with this length, when the broker takes this.</summary>
    /// <inheritdoc cref="AcceptAsync"/>
    public ValueTask ExtendAsync(TimeSpan lease, ConfirmLevel confirm = ConfirmLevel.Accepted, CancellationToken cancellation = default) => _subscriber.ExtendAsync(this, lease, confirm, cancellation);

    private string? Property(PropertyTag tag) => PropertyReader.TextOf(_properties, tag);
}

/// <summary>Compares by the broker's life first, then by the number.</summary>
/// <param name="Epoch">The broker's life in which it was given.</param>
/// <param name="Number">Rises within a life.</param>
public readonly record struct FencingToken(ulong Epoch, ulong Number) : IComparable<FencingToken>
{
    public int CompareTo(FencingToken other) => (Epoch, Number).CompareTo((other.Epoch, other.Number));

    public static bool operator <(FencingToken left, FencingToken right) => left.CompareTo(right) < 0;

    public static bool operator >(FencingToken left, FencingToken right) => left.CompareTo(right) > 0;

    public static bool operator <=(FencingToken left, FencingToken right) => left.CompareTo(right) <= 0;

    public static bool operator >=(FencingToken left, FencingToken right) => left.CompareTo(right) >= 0;
}
