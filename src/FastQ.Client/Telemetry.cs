using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Reflection;

namespace FastQ.Client;

/// <summary>What the client tells of itself to whoever listens to the <see cref="ActivitySource"/> and the <see cref="Meter"/> of the name FastQ.Client. Any thread; nothing is built where nobody listens.</summary>
/// <remarks>
/// Names, kinds, attributes and buckets are those of OpenTelemetry's semantic conventions for messaging, status "development", as of 2026:
/// https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/ and https://opentelemetry.io/docs/specs/semconv/messaging/messaging-metrics/.
/// What they have no name for begins with fastq: leases and messages in hand. <c>error.type</c> is the name of a refusal, or else an exception's type.
/// </remarks>
internal static class Telemetry
{
    private const string Name = "FastQ.Client";
    private static readonly string? s_version = typeof(Telemetry).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion;
    private static readonly ActivitySource s_source = new(Name, s_version);
    private static readonly Meter s_meter = new(Name, s_version);
    private static readonly InstrumentAdvice<double> s_seconds = new() { HistogramBucketBoundaries = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10] };
    private static readonly Counter<long> s_sent = s_meter.CreateCounter<long>("messaging.client.sent.messages", "{message}", "Messages that were sent to the broker, or tried to be.");
    private static readonly Counter<long> s_consumed = s_meter.CreateCounter<long>("messaging.client.consumed.messages", "{message}", "Messages that were given to a handler.");
    private static readonly Histogram<double> s_operations = s_meter.CreateHistogram("messaging.client.operation.duration", "s", "How long it took until a message or a settlement was confirmed.", tags: null, s_seconds);
    private static readonly Histogram<double> s_processing = s_meter.CreateHistogram("messaging.process.duration", "s", "How long handlers took.", tags: null, s_seconds);
    private static readonly Counter<long> s_leasesLost = s_meter.CreateCounter<long>("fastq.client.leases.lost", "{message}", "Messages that became somebody else's before their handler's consumer settled them.");
    private static readonly UpDownCounter<long> s_inHand = s_meter.CreateUpDownCounter<long>("fastq.client.messages.in_hand", "{message}", "Messages whose handlers run, or whose settlement is awaited.");

    /// <summary>Does anybody listen to what is published?</summary>
    public static bool HearsPublishes => s_source.HasListeners() || s_sent.Enabled || s_operations.Enabled;

    /// <summary>Begins the span of a publish; null: nobody wants it. It is what a consumer's span links to, unless the caller set a context of its own: then it links to that.</summary>
    public static Activity? StartPublish(string queue, int bodyBytes, PublishOptions? options)
    {
        if (!s_source.HasListeners())
        {
            return null;
        }

        bool isContext = !TraceContext.HasOwn(options);
        TagList tags = Tags("publish", "send", queue);
        AddMessage(ref tags, options?.MessageId, options?.CorrelationId, bodyBytes);
        return s_source.StartActivity($"publish {queue}", isContext ? ActivityKind.Producer : ActivityKind.Client, default(ActivityContext), tags, isContext ? null : Links(TraceContext.Of(options)));
    }

    /// <summary>A publish was confirmed, or failed.</summary>
    public static void EndPublish(Activity? span, string queue, TimeSpan took, Exception? failure)
    {
        SetFailure(span, failure);
        TagList tags = Tags("publish", "send", queue, failure);
        s_sent.Add(1, tags);
        s_operations.Record(took.TotalSeconds, tags);
    }

    /// <summary>Begins the span of a handler's work on a message, a trace of its own that is linked to the one in which the message was sent; null: nobody wants it.</summary>
    public static Activity? StartProcess(Message message)
    {
        if (!s_source.HasListeners())
        {
            return null;
        }

        TagList tags = Tags("process", "process", message.Queue);
        AddMessage(ref tags, message.MessageId, message.CorrelationId, message.Body.Length);
        return s_source.StartActivity($"process {message.Queue}", ActivityKind.Consumer, default(ActivityContext), tags, Links(TraceContext.Of(message)));
    }

    /// <summary>A handler has returned, or thrown.</summary>
    public static void EndProcess(Activity? span, string queue, TimeSpan took, Exception? failure)
    {
        SetFailure(span, failure);
        if (!s_consumed.Enabled && !s_processing.Enabled)
        {
            return;
        }

        TagList tags = Tags("process", "process", queue, failure);
        s_consumed.Add(1, tags);
        s_processing.Record(took.TotalSeconds, tags);
    }

    /// <summary>A settlement was confirmed, or failed.</summary>
    public static void Settled(string operation, string queue, TimeSpan took, Exception? failure)
    {
        if (s_operations.Enabled)
        {
            s_operations.Record(took.TotalSeconds, Tags(operation, "settle", queue, failure));
        }
    }

    /// <summary>One more, or one less, is in hand.</summary>
    public static void InHand(string queue, int change)
    {
        if (s_inHand.Enabled)
        {
            s_inHand.Add(change, Tags("process", "process", queue));
        }
    }

    /// <summary>A message became somebody else's.</summary>
    public static void LeaseLost(string queue) => s_leasesLost.Add(1, Tags("process", "process", queue));

    private static TagList Tags(string operation, string type, string queue, Exception? failure = null)
    {
        TagList tags = new()
        {
            { "messaging.system", "fastq" },
            { "messaging.operation.name", operation },
            { "messaging.operation.type", type },
            { "messaging.destination.name", queue },
        };
        if (failure is not null)
        {
            tags.Add("error.type", TypeOf(failure));
        }

        return tags;
    }

    private static void AddMessage(ref TagList tags, string? id, string? conversation, int bodyBytes)
    {
        tags.Add("messaging.message.body.size", bodyBytes);
        if (id is not null)
        {
            tags.Add("messaging.message.id", id);
        }

        if (conversation is not null)
        {
            tags.Add("messaging.message.conversation_id", conversation);
        }
    }

    private static void SetFailure(Activity? span, Exception? failure)
    {
        if (failure is not null)
        {
            span?.SetTag("error.type", TypeOf(failure));
            span?.SetStatus(ActivityStatusCode.Error, failure.Message);
        }
    }

    private static string TypeOf(Exception failure) => failure is FastQException refusal ? refusal.Name : failure.GetType().ToString();

    private static ActivityLink[]? Links(ActivityContext context) => context == default ? null : [new ActivityLink(context)];
}
