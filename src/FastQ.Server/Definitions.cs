using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Unicode;
using FastQ.Client;
using FastQ.Protocol;
using Overflow = FastQ.Protocol.Overflow;

namespace FastQ.Server;

// Definitions: what there is to be, as a file. One table a kind says how each attribute is called, shown and read: by the name of its option on
// the command line, and in the option's form.
//
//   { "fastq": 1,
//     "limits": [ { "name": "api", "rate": "100/m" } ],
//     "queues": [ { "name": "work", "lease": "30s", "max-deliveries": 5, ... } ],
//     "exchanges": [ { "name": "events", "type": "topic", "alternate": "rest" } ],
//     "bindings": [ { "exchange": "events", "queue": "work", "key": "order.#" } ],
//     "schedules": [ { "name": "nightly", "queue": "work", "cron": "0 3 * * *", "body": "tidy" } ] }

/// <summary>One attribute in a file of definitions, of what the broker shows as one type and takes as another.</summary>
/// <param name="Name">As its option on the command line.</param>
/// <param name="Form">What a value looks like, for people.</param>
/// <param name="Of">The value that there is: text, a number, a boolean or an element; null: it is not written.</param>
/// <param name="Read">The options with a value in place; null: it is none.</param>
internal sealed record Attribute<TInfo, TOptions>(string Name, string Form, Func<TInfo, object?> Of, Func<TOptions, JsonElement, TOptions?> Read)
    where TOptions : class
{
    public static Attribute<TInfo, TOptions> Duration(string name, Func<TInfo, TimeSpan> of, Func<TOptions, TimeSpan, TOptions> with) =>
        Text(name, "a duration like \"30s\"", info => TextOf(of(info)), (options, text) => Shared.TryParseDuration(text, out TimeSpan span) ? with(options, span) : null);

    public static Attribute<TInfo, TOptions> Number(string name, Func<TInfo, long> of, Func<TOptions, long, TOptions> with) =>
        new(name, "a whole number, 0 or more", info => of(info), (options, value) => value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out long number) && number >= 0 ? with(options, number) : null);

    public static Attribute<TInfo, TOptions> Switch(string name, Func<TInfo, bool> of, Func<TOptions, bool, TOptions> with) =>
        new(name, "true or false", info => of(info), (options, value) => value.ValueKind is JsonValueKind.True or JsonValueKind.False ? with(options, value.GetBoolean()) : null);

    public static Attribute<TInfo, TOptions> Text(string name, string form, Func<TInfo, string?> of, Func<TOptions, string, TOptions?> with) =>
        new(name, form, of, (options, value) => value.ValueKind == JsonValueKind.String ? with(options, value.GetString()!) : null);

    /// <summary>In the largest unit in which it is a whole number.</summary>
    public static string TextOf(TimeSpan span)
    {
        long milliseconds = (long)span.TotalMilliseconds;
        (string unit, long size) = ((string, long)[])[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] is var units && milliseconds == 0 ? ("s", 1) : units.First(one => milliseconds % one.Item2 == 0);
        return string.Create(CultureInfo.InvariantCulture, $"{milliseconds / size}{unit}");
    }
}

/// <summary>Limits on what flows: those of a queue; the first three are those that queues share, too.</summary>
internal static class FlowAttributes
{
    public static readonly Attribute<FlowLimits, FlowOptions>[] All =
    [
        Count("max-in-flight", limits => limits.MaxInFlight, (options, number) => options with { MaxInFlight = number }),
        RateOf("rate", limits => limits.Rate, (options, rate) => options with { Rate = rate }),
        Count("burst", limits => limits.Burst, (options, number) => options with { Burst = number }),
        Count("group-in-flight", limits => limits.GroupInFlight, (options, number) => options with { GroupInFlight = number }),
        RateOf("group-rate", limits => limits.GroupRate, (options, rate) => options with { GroupRate = rate }),
        Count("group-burst", limits => limits.GroupBurst, (options, number) => options with { GroupBurst = number }),
        Attribute<FlowLimits, FlowOptions>.Switch("delay-holds-group", limits => limits.DelayHoldsGroup, (options, isOn) => options with { DelayHoldsGroup = isOn }),
        Count("tenant-in-flight", limits => limits.TenantInFlight, (options, number) => options with { TenantInFlight = number }),
        RateOf("tenant-rate", limits => limits.TenantRate, (options, rate) => options with { TenantRate = rate }),
        Count("tenant-burst", limits => limits.TenantBurst, (options, number) => options with { TenantBurst = number }),
        Attribute<FlowLimits, FlowOptions>.Text("limit", "a name, or \"\"", limits => limits.Limit, (options, text) => options with { Limit = text }),
        Attribute<FlowLimits, FlowOptions>.Text("breaker", "like \"50%/100\", or \"off\"", limits => limits.Breaker.ToString(), (options, text) => BreakerRule.TryParse(text, out BreakerRule rule) ? options with { Breaker = rule } : null),
        Attribute<FlowLimits, FlowOptions>.Duration("breaker-pause", limits => TimeSpan.FromMilliseconds(limits.BreakerPauseMilliseconds), (options, span) => options with { BreakerPause = span }),
        RateOf("publish-rate", limits => limits.PublishRate, (options, rate) => options with { PublishRate = rate }),
        Count("publish-burst", limits => limits.PublishBurst, (options, number) => options with { PublishBurst = number }),
    ];

    public static Attribute<FlowLimits, FlowOptions>[] Shared => All[..3];

    private static Attribute<FlowLimits, FlowOptions> Count(string name, Func<FlowLimits, int> of, Func<FlowOptions, int, FlowOptions> with) =>
        Attribute<FlowLimits, FlowOptions>.Number(name, limits => of(limits), (options, number) => with(options, (int)Math.Min(number, int.MaxValue)));

    private static Attribute<FlowLimits, FlowOptions> RateOf(string name, Func<FlowLimits, Rate> of, Func<FlowOptions, Rate, FlowOptions> with) =>
        Attribute<FlowLimits, FlowOptions>.Text(name, "a rate like \"10/s\", \"600/m\" or \"5/h\"; \"0\": no limit", limits => of(limits) is { Count: > 0 } rate ? rate.ToString() : "0", (options, text) => Rate.TryParse(text, out Rate rate) ? with(options, rate) : null);
}

/// <summary>The attributes of a queue.</summary>
internal static class QueueAttribute
{
    public static readonly Attribute<QueueInfo, QueueOptions>[] All =
    [
        Attribute<QueueInfo, QueueOptions>.Duration("lease", queue => queue.Lease, (options, span) => options with { Lease = span }),
        Attribute<QueueInfo, QueueOptions>.Duration("delay", queue => queue.Delay, (options, span) => options with { Delay = span }),
        Attribute<QueueInfo, QueueOptions>.Duration("ttl", queue => queue.TimeToLive, (options, span) => options with { TimeToLive = span }),
        Attribute<QueueInfo, QueueOptions>.Number("max-deliveries", queue => queue.MaxDeliveries, (options, number) => options with { MaxDeliveries = (int)Math.Min(number, int.MaxValue) }),
        Attribute<QueueInfo, QueueOptions>.Text("backoff", "FIRST,FACTOR,MAX like \"1s,2,5m\", or \"\"", queue => TextOf(queue.Backoff), (options, text) => text.Length == 0 ? options with { Backoff = new Backoff(TimeSpan.Zero, 2, TimeSpan.FromHours(1)) } : QueueCommand.BackoffOf(text) is Backoff backoff ? options with { Backoff = backoff } : null),
        Attribute<QueueInfo, QueueOptions>.Text("dead-letter", "a name, or \"\"", queue => queue.DeadLetter, (options, text) => options with { DeadLetter = text }),
        Attribute<QueueInfo, QueueOptions>.Text("dead-letter-exchange", "a name, or \"\"", queue => queue.DeadLetterExchange, (options, text) => options with { DeadLetterExchange = text }),
        Attribute<QueueInfo, QueueOptions>.Number("max-length", queue => queue.MaxLength, (options, number) => options with { MaxLength = number }),
        Attribute<QueueInfo, QueueOptions>.Number("max-bytes", queue => queue.MaxBytes, (options, number) => options with { MaxBytes = number }),
        Attribute<QueueInfo, QueueOptions>.Text("overflow", "\"reject\", \"drop-head\" or \"dead-letter\"", queue => StateNames.NameOf(queue.Overflow), (options, text) => text switch { "reject" => options with { Overflow = Overflow.Reject }, "drop-head" => options with { Overflow = Overflow.DropHead }, "dead-letter" => options with { Overflow = Overflow.DeadLetter }, _ => null }),
        Attribute<QueueInfo, QueueOptions>.Number("max-message-size", queue => queue.MaxMessageSize, (options, number) => options with { MaxMessageSize = number }),
        Attribute<QueueInfo, QueueOptions>.Text("require", "names with commas between, or \"\"", queue => Requirement.NamesOf(queue.Require), (options, text) => Requirement.TryParse(text, out RequiredProperties properties, out _) ? options with { Require = properties } : null),
        Attribute<QueueInfo, QueueOptions>.Number("lz4", queue => queue.Lz4FromBytes, (options, number) => options with { Lz4FromBytes = number }),
        Attribute<QueueInfo, QueueOptions>.Switch("priority", queue => queue.Priority, (options, isOn) => options with { Priority = isOn }),
        Attribute<QueueInfo, QueueOptions>.Number("priority-share", queue => queue.PriorityShare, (options, number) => options with { PriorityShare = (int)Math.Min(number, int.MaxValue) }),
        Attribute<QueueInfo, QueueOptions>.Switch("fifo", queue => queue.Fifo, (options, isOn) => options with { Fifo = isOn }),
        Attribute<QueueInfo, QueueOptions>.Switch("fair", queue => queue.Fair, (options, isOn) => options with { Fair = isOn }),
        Attribute<QueueInfo, QueueOptions>.Text("fair-weights", "T=N,... like \"gold=4,silver=2\", or \"\"", queue => queue.FairWeights, (options, text) => QueueCommand.WeightsOf(text) is { } weights ? options with { FairWeights = weights } : null),
        Attribute<QueueInfo, QueueOptions>.Duration("dedup-window", queue => queue.DedupWindow, (options, span) => options with { DedupWindow = span }),
        Attribute<QueueInfo, QueueOptions>.Switch("dedup-by-group", queue => queue.DedupByGroup, (options, isOn) => options with { DedupByGroup = isOn }),
        Attribute<QueueInfo, QueueOptions>.Duration("processed-window", queue => queue.ProcessedWindow, (options, span) => options with { ProcessedWindow = span }),
        Attribute<QueueInfo, QueueOptions>.Switch("single-active", queue => queue.SingleActive, (options, isOn) => options with { SingleActive = isOn }),
        Attribute<QueueInfo, QueueOptions>.Duration("expires", queue => queue.ExpiresAfter, (options, span) => options with { ExpiresAfter = span }),
        .. FlowAttributes.All.Select(flow => new Attribute<QueueInfo, QueueOptions>(flow.Name, flow.Form, queue => flow.Of(queue.Flow), (options, value) => flow.Read(options.Flow ?? new FlowOptions(), value) is { } limits ? options with { Flow = limits } : null)),
    ];

    private static string TextOf(Backoff? backoff) => backoff is null ? "" : string.Create(CultureInfo.InvariantCulture, $"{TextOf(backoff.First)},{backoff.Factor:0.###},{TextOf(backoff.Most)}");

    private static string TextOf(TimeSpan span) => Attribute<QueueInfo, QueueOptions>.TextOf(span);
}

/// <summary>An exchange.</summary>
internal sealed record ExchangeDefinition(ExchangeType Type = ExchangeType.Direct, string Alternate = "")
{
    public static readonly Attribute<ExchangeDefinition, ExchangeDefinition>[] All =
    [
        Attribute<ExchangeDefinition, ExchangeDefinition>.Text("type", "\"direct\", \"topic\", \"fanout\" or \"headers\"", one => StateNames.NameOf(one.Type), (one, text) => Enum.GetValues<ExchangeType>().Where(type => StateNames.NameOf(type) == text).Select(type => one with { Type = type }).FirstOrDefault()),
        Attribute<ExchangeDefinition, ExchangeDefinition>.Text("alternate", "a name, or \"\"", one => one.Alternate, (one, text) => one with { Alternate = text }),
    ];
}

/// <summary>A binding: all of it is what makes it the one that it is.</summary>
internal sealed record BindingDefinition(string Exchange = "", string Queue = "", string ToExchange = "", string Key = "", HeaderMatch Match = HeaderMatch.All)
{
    public static readonly Attribute<BindingDefinition, BindingDefinition>[] All =
    [
        Attribute<BindingDefinition, BindingDefinition>.Text("exchange", "a name", one => one.Exchange, (one, text) => one with { Exchange = text }),
        Attribute<BindingDefinition, BindingDefinition>.Text("queue", "a name", one => NullIfEmpty(one.Queue), (one, text) => one with { Queue = text }),
        Attribute<BindingDefinition, BindingDefinition>.Text("to-exchange", "a name", one => NullIfEmpty(one.ToExchange), (one, text) => one with { ToExchange = text }),
        Attribute<BindingDefinition, BindingDefinition>.Text("key", $"text of at most {Limits.MaxNameBytes} bytes", one => NullIfEmpty(one.Key), (one, text) => Encoding.UTF8.GetByteCount(text) <= Limits.MaxNameBytes ? one with { Key = text } : null),
        new("headers", "an object like { \"region\": \"eu\", \"count\": 7, \"at:time\": \"2030-01-31T08:00:00Z\" }, with the types of --header", one => one.HeadersElement(), (one, value) => HeadersIn(value) is { } headers ? one with { Headers = headers } : null),
        Attribute<BindingDefinition, BindingDefinition>.Text("match", "\"all\" or \"any\"", one => one.Match == HeaderMatch.Any ? "any" : null, (one, text) => text switch { "all" => one with { Match = HeaderMatch.All }, "any" => one with { Match = HeaderMatch.Any }, _ => null }),
    ];

    public IReadOnlyDictionary<string, HeaderValue> Headers { get; init; } = new Dictionary<string, HeaderValue>();

    /// <summary>Two of the same name are one.</summary>
    public string Name => $"{Exchange} -> {(ToExchange.Length > 0 ? $"exchange {ToExchange}" : Queue)}{(Key.Length > 0 ? $", key {Key}" : "")}{(HeadersElement() is JsonElement headers ? $", headers {headers.GetRawText()}" : "")}{(Match == HeaderMatch.Any ? ", match any" : "")}";

    public BindingOptions Options => new() { Key = Key, Headers = Headers.Count > 0 ? Headers : null, Match = Match };

    private static string? NullIfEmpty(string text) => text.Length > 0 ? text : null;

    private JsonElement? HeadersElement()
    {
        if (Headers.Count == 0)
        {
            return null;
        }

        JsonElement written = Definitions.ElementOf(json =>
        {
            json.WriteStartObject();
            foreach ((string key, HeaderValue value) in Headers.OrderBy(header => header.Key, StringComparer.Ordinal))
            {
                HeaderArgument.Write(json, key, value);
            }

            json.WriteEndObject();
        });
        return HeadersIn(written) is { } read && read.Count == Headers.Count && read.All(header => Headers.TryGetValue(header.Key, out HeaderValue value) && value == header.Value)
            ? written
            : throw new FastQException(RefusalCode.BadArgument, $"A binding of the exchange '{Exchange}' has a header that a file of definitions cannot say: {written.GetRawText()}");
    }

    private static Dictionary<string, HeaderValue>? HeadersIn(JsonElement value)
    {
        Dictionary<string, HeaderValue> headers = [];
        foreach (JsonProperty property in value.ValueKind == JsonValueKind.Object ? value.EnumerateObject() : default)
        {
            if (HeaderArgument.Read(property.Name, property.Value) is not HeaderArgument header || !headers.TryAdd(header.Key, header.Value))
            {
                return null;
            }
        }

        return value.ValueKind == JsonValueKind.Object ? headers : null;
    }
}

/// <summary>A schedule with its message.</summary>
internal sealed record ScheduleDefinition(string Queue = "", string? Cron = null, string? Zone = null, TimeSpan? Every = null, MissedFirings Missed = MissedFirings.One, DateTimeOffset? Until = null, long? Count = null)
{
    public static readonly Attribute<ScheduleDefinition, ScheduleDefinition>[] All =
    [
        Attribute<ScheduleDefinition, ScheduleDefinition>.Text("queue", "a name", one => one.Queue, (one, text) => one with { Queue = text }),
        Attribute<ScheduleDefinition, ScheduleDefinition>.Text("cron", "a cron expression like \"0 3 * * 1-5\"", one => one.Cron, (one, text) => text.Length > 0 ? one with { Cron = text, Every = null } : null),
        Attribute<ScheduleDefinition, ScheduleDefinition>.Text("zone", "a time zone like \"Europe/Berlin\", or \"\"", one => one.Zone, (one, text) => one with { Zone = text.Length > 0 ? text : null }),
        Attribute<ScheduleDefinition, ScheduleDefinition>.Text("every", "a duration like \"30s\"", one => one.Every is TimeSpan every ? Attribute<ScheduleDefinition, ScheduleDefinition>.TextOf(every) : null, (one, text) => Shared.TryParseDuration(text, out TimeSpan every) ? one with { Every = every, Cron = null, Zone = null } : null),
        Attribute<ScheduleDefinition, ScheduleDefinition>.Text("missed", "\"one\", \"all\" or \"none\"", one => NameOf(one.Missed), (one, text) => Enum.GetValues<MissedFirings>().Where(missed => NameOf(missed) == text).Select(missed => one with { Missed = missed }).FirstOrDefault()),
        Attribute<ScheduleDefinition, ScheduleDefinition>.Text("until", "a moment like \"2030-01-31T08:00:00Z\"", one => one.Until?.UtcDateTime.ToString("O", CultureInfo.InvariantCulture), (one, text) => Shared.TryParseMoment(text, out DateTimeOffset until) ? one with { Until = until.AddTicks(-(until.Ticks % TimeSpan.TicksPerMicrosecond)) } : null),
        new("count", "a whole number, 1 or more", one => one.Count, (one, value) => value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out long count) && count > 0 ? one with { Count = count } : null),
        Attribute<ScheduleDefinition, ScheduleDefinition>.Text("body", "text", one => Utf8.IsValid(one.Body) ? Encoding.UTF8.GetString(one.Body) : null, (one, text) => one with { Body = Encoding.UTF8.GetBytes(text) }),
        Attribute<ScheduleDefinition, ScheduleDefinition>.Text("body-base64", "bytes in base64", one => Utf8.IsValid(one.Body) ? null : Convert.ToBase64String(one.Body), (one, text) => BytesIn(text) is { } body ? one with { Body = body } : null),
        Attribute<ScheduleDefinition, ScheduleDefinition>.Text("type", "text", one => one.Type, (one, text) => one with { Type = text, Properties = [] }),
        Attribute<ScheduleDefinition, ScheduleDefinition>.Text("content-type", "text", one => one.ContentType, (one, text) => one with { ContentType = text, Properties = [] }),
        Attribute<ScheduleDefinition, ScheduleDefinition>.Text("properties-base64", "properties and headers as they stand in a record, in base64", one => one.Properties.Length > 0 ? Convert.ToBase64String(one.Properties) : null, (one, text) => BytesIn(text) is { } properties ? one with { Properties = properties, Type = null, ContentType = null } : null),
    ];

    public byte[] Body { get; init; } = [];

    public string? Type { get; init; }

    public string? ContentType { get; init; }

    /// <summary>All that its messages have, where that is more than those two.</summary>
    public byte[] Properties { get; init; } = [];

    public ScheduleRule Rule => Every is TimeSpan every ? ScheduleRule.Every(every) : ScheduleRule.Cron(Cron!, Zone);

    public ScheduleOptions Options => new() { Missed = Missed, Until = Until, Count = Count, Message = Properties.Length > 0 ? null : new PublishOptions { Type = Type, ContentType = ContentType }, Properties = Properties };

    /// <param name="schedule">One that was asked for by its name.</param>
    public static ScheduleDefinition Of(ScheduleInfo schedule)
    {
        ScheduleDefinition one = new(schedule.Queue, schedule.Cron, schedule.Zone, schedule.Every, schedule.Missed, schedule.Until, schedule.Count) { Body = schedule.Body.ToArray() };
        PropertyReader reader = new(schedule.Properties.Span);
        while (reader.Next())
        {
            switch (reader.Tag)
            {
                case PropertyTag.Type:
                    one = one with { Type = Encoding.UTF8.GetString(reader.Value) };
                    break;
                case PropertyTag.ContentType:
                    one = one with { ContentType = Encoding.UTF8.GetString(reader.Value) };
                    break;
                default:
                    return one with { Type = null, ContentType = null, Properties = schedule.Properties.ToArray() };
            }
        }

        return one;
    }

    private static string NameOf(MissedFirings missed) => missed switch { MissedFirings.All => "all", MissedFirings.None => "none", _ => "one" };

    private static byte[]? BytesIn(string base64)
    {
        byte[] bytes = new byte[base64.Length];
        return Convert.TryFromBase64String(base64, bytes, out int length) ? bytes[..length] : null;
    }
}

/// <summary>All that a broker has of what a file can define: without temporary queues, and without what leads to them.</summary>
internal sealed record DefinedThings(IReadOnlyList<LimitInfo> Limits, IReadOnlyList<QueueInfo> Queues, IReadOnlyList<ExchangeInfo> Exchanges, IReadOnlyList<BindingDefinition> Bindings, IReadOnlyList<(string Name, ScheduleDefinition Schedule, bool HasEnded)> Schedules)
{
    public static DefinedThings Of(Session session)
    {
        ILookup<bool, QueueInfo> queues = session.ListQueues().ToLookup(queue => queue.IsTemporary);
        HashSet<string> temporary = [.. queues[true].Select(queue => queue.Name)];
        IReadOnlyList<ExchangeInfo> exchanges = session.ListExchanges();
        IEnumerable<BindingDefinition> bindings = from exchange in exchanges
                                                  from binding in session.GetBindings(exchange.Name)
                                                  where binding.IsToExchange || !temporary.Contains(binding.Target)
                                                  select new BindingDefinition(exchange.Name, binding.IsToExchange ? "" : binding.Target, binding.IsToExchange ? binding.Target : "", binding.Key, binding.Match) { Headers = binding.Headers };
        return new DefinedThings(
            session.ListLimits(),
            [.. queues[false]],
            exchanges,
            [.. bindings.DistinctBy(binding => binding.Name)],
            [.. session.ListSchedules().Where(schedule => !temporary.Contains(schedule.Queue)).Select(schedule => (schedule.Name, ScheduleDefinition.Of(session.GetSchedule(schedule.Name)), schedule.Next is null))]);
    }
}

/// <summary>One entry of a file of definitions: what it says, and nothing of what it does not.</summary>
/// <param name="Name">Its own.</param>
/// <param name="Place">Where it stands in the file.</param>
/// <param name="Options">What it says.</param>
/// <param name="Said">The attributes that it says.</param>
internal sealed record Definition<TInfo, TOptions>(string Name, string Place, TOptions Options, IReadOnlyList<(Attribute<TInfo, TOptions> Attribute, JsonElement Value)> Said)
    where TOptions : class
{
    /// <summary>What is there, with what this says in its place.</summary>
    public TOptions Over(TOptions there) => Said.Aggregate(there, (options, said) => said.Attribute.Read(options, said.Value)!);

    public bool Says(string attribute) => Said.Any(said => said.Attribute.Name == attribute);
}

/// <summary>A file of definitions.</summary>
internal sealed record DefinitionFile(
    IReadOnlyList<Definition<FlowLimits, FlowOptions>> Limits,
    IReadOnlyList<Definition<QueueInfo, QueueOptions>> Queues,
    IReadOnlyList<Definition<ExchangeDefinition, ExchangeDefinition>> Exchanges,
    IReadOnlyList<Definition<BindingDefinition, BindingDefinition>> Bindings,
    IReadOnlyList<Definition<ScheduleDefinition, ScheduleDefinition>> Schedules);

/// <summary>Reads and writes files of definitions.</summary>
internal static class Definitions
{
    /// <summary>Of the form of the file. A reader refuses another one.</summary>
    public const int Version = 1;

    private const string VersionKey = "fastq";
    private static readonly string[] s_lists = ["limits", "queues", "exchanges", "bindings", "schedules"];

    public static byte[] Write(DefinedThings things)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream, new JsonWriterOptions { Indented = true, Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteNumber(VersionKey, Version);
            Write(json, "limits", FlowAttributes.Shared, things.Limits.Select(limit => ((string?)limit.Name, limit.Limits)));
            Write(json, "queues", QueueAttribute.All, things.Queues.Select(queue => ((string?)queue.Name, queue)));
            Write(json, "exchanges", ExchangeDefinition.All, things.Exchanges.Select(exchange => ((string?)exchange.Name, new ExchangeDefinition(exchange.Type, exchange.Alternate))));
            Write(json, "bindings", BindingDefinition.All, things.Bindings.Select(binding => ((string?)null, binding)));
            Write(json, "schedules", ScheduleDefinition.All, things.Schedules.Where(schedule => !schedule.HasEnded).Select(schedule => ((string?)schedule.Name, schedule.Schedule)));
            json.WriteEndObject();
        }

        stream.WriteByte((byte)'\n');
        return stream.ToArray();
    }

    private static void Write<TInfo, TOptions>(Utf8JsonWriter json, string list, Attribute<TInfo, TOptions>[] attributes, IEnumerable<(string? Name, TInfo Info)> things)
        where TOptions : class
    {
        json.WriteStartArray(list);
        foreach ((string? name, TInfo info) in things)
        {
            json.WriteStartObject();
            if (name is not null)
            {
                json.WriteString("name", name);
            }

            foreach (Attribute<TInfo, TOptions> attribute in attributes)
            {
                if (attribute.Of(info) is object value)
                {
                    json.WritePropertyName(attribute.Name);
                    WriteValue(json, value);
                }
            }

            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    /// <summary>An attribute's value as it stands in a file.</summary>
    public static JsonElement ElementOf(object value) => ElementOf(json => WriteValue(json, value));

    public static JsonElement ElementOf(Action<Utf8JsonWriter> write)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream, new JsonWriterOptions { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            write(json);
        }

        using JsonDocument document = JsonDocument.Parse(stream.ToArray());
        return document.RootElement.Clone();
    }

    private static void WriteValue(Utf8JsonWriter json, object value)
    {
        switch (value)
        {
            case bool isOn:
                json.WriteBooleanValue(isOn);
                break;
            case long number:
                json.WriteNumberValue(number);
                break;
            case JsonElement element:
                element.WriteTo(json);
                break;
            default:
                json.WriteStringValue((string)value);
                break;
        }
    }

    /// <summary>Reads all of a file, or says what is wrong and where.</summary>
    /// <exception cref="FastQException">Something is.</exception>
    public static DefinitionFile Read(ReadOnlyMemory<byte> file)
    {
        JsonDocument document;
        try
        {
            document = JsonDocument.Parse(file, new JsonDocumentOptions { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true });
        }
        catch (JsonException wrong)
        {
            throw Fault(string.Create(CultureInfo.InvariantCulture, $"line {wrong.LineNumber + 1}"), "this is no JSON");
        }

        JsonElement root = document.RootElement;
        if (root.ValueKind != JsonValueKind.Object)
        {
            throw Fault("the file", "it is no object with \"fastq\" and \"queues\"");
        }

        if (!root.TryGetProperty(VersionKey, out JsonElement version) || version.ValueKind != JsonValueKind.Number || !version.TryGetInt32(out int number) || number != Version)
        {
            throw Fault(VersionKey, $"the version must be {Version}: this program reads no other");
        }

        Dictionary<string, JsonElement> lists = [];
        foreach (JsonProperty part in root.EnumerateObject().Where(part => part.Name != VersionKey))
        {
            if (!s_lists.Contains(part.Name))
            {
                throw Fault(part.Name, $"such a key is not known; there are {VersionKey}, {string.Join(", ", s_lists)}");
            }

            if (part.Value.ValueKind != JsonValueKind.Array || !lists.TryAdd(part.Name, part.Value))
            {
                throw Fault(part.Name, part.Value.ValueKind == JsonValueKind.Array ? "it stands in the file twice" : "it is no list");
            }
        }

        return new DefinitionFile(
            ReadAll(lists, "limits", "limit", FlowAttributes.Shared, new FlowOptions(), FlowLimits.MostNameBytes),
            ReadAll(lists, "queues", "queue", QueueAttribute.All, new QueueOptions()),
            ReadAll(lists, "exchanges", "exchange", ExchangeDefinition.All, new ExchangeDefinition()),
            ReadAll(lists, "bindings", "binding", BindingDefinition.All, new BindingDefinition(), nameOf: binding => binding.Name),
            ReadAll(lists, "schedules", "schedule", ScheduleDefinition.All, new ScheduleDefinition()));
    }

    /// <param name="lists">Of the file.</param>
    /// <param name="list">The one to read.</param>
    /// <param name="kind">What stands in it.</param>
    /// <param name="attributes">That one of this kind may have.</param>
    /// <param name="start">One that says nothing.</param>
    /// <param name="mostNameBytes">Longest name.</param>
    /// <param name="nameOf">They are named by what they say; null: by "name".</param>
    private static List<Definition<TInfo, TOptions>> ReadAll<TInfo, TOptions>(Dictionary<string, JsonElement> lists, string list, string kind, Attribute<TInfo, TOptions>[] attributes, TOptions start, int mostNameBytes = Limits.MaxNameBytes, Func<TOptions, string>? nameOf = null)
        where TOptions : class
    {
        List<Definition<TInfo, TOptions>> definitions = [];
        foreach (JsonElement element in lists.TryGetValue(list, out JsonElement found) ? found.EnumerateArray() : default)
        {
            string place = string.Create(CultureInfo.InvariantCulture, $"{list}[{definitions.Count}]");
            if (element.ValueKind != JsonValueKind.Object || (nameOf is null && !IsNamed(element, mostNameBytes)))
            {
                throw Fault(place, $"a {kind} is an object{(nameOf is null ? $" with a \"name\": 1 to {mostNameBytes} bytes of UTF-8 without control characters, not beginning with 'fastq.'" : "")}");
            }

            string name = nameOf is null ? element.GetProperty("name").GetString()! : "";
            place = nameOf is null ? $"{place} ({name})" : place;
            TOptions options = start;
            List<(Attribute<TInfo, TOptions>, JsonElement)> said = [];
            foreach (JsonProperty property in element.EnumerateObject().Where(property => nameOf is not null || property.Name != "name"))
            {
                Attribute<TInfo, TOptions> attribute = Array.Find(attributes, attribute => attribute.Name == property.Name) ?? throw Fault($"{place}, {property.Name}", $"such an attribute is not known; there are {string.Join(", ", attributes.Select(attribute => attribute.Name))}");
                options = attribute.Read(options, property.Value) ?? throw Fault($"{place}, {property.Name}", $"{property.Value.GetRawText()} is not {attribute.Form}");
                said.Add((attribute, property.Value));
            }

            definitions.Add(new Definition<TInfo, TOptions>(nameOf?.Invoke(options) ?? name, place, options, said));
        }

        return definitions.GroupBy(definition => definition.Name).FirstOrDefault(same => same.Count() > 1) is { } twice
            ? throw Fault(twice.Last().Place, $"{kind} '{twice.Key}' stands in the file twice")
            : definitions;
    }

    private static bool IsNamed(JsonElement element, int mostBytes) =>
        element.TryGetProperty("name", out JsonElement name) && name.ValueKind == JsonValueKind.String && Encoding.UTF8.GetBytes(name.GetString()!) is var bytes && bytes.Length <= mostBytes && Names.IsValid(bytes);

    public static FastQException Fault(string place, string what) => new(RefusalCode.BadArgument, $"At {place}: {what}");
}
