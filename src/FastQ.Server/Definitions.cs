using System.Globalization;
using System.Text;
using System.Text.Json;
using FastQ.Client;
using FastQ.Protocol;
using Overflow = FastQ.Protocol.Overflow;

namespace FastQ.Server;

// Definitions: what there is to be, as a file. One table says how each attribute of a queue is called, shown and read: by the name of its
// option on the command line, and in the option's form.
//
//   { "fastq": 1, "queues": [ { "name": "work", "lease": "30s", "max-deliveries": 5, ... } ] }

/// <summary>One attribute in a file of definitions, of what the broker shows as one type and takes as another.</summary>
/// <param name="Name">As its option on the command line.</param>
/// <param name="Form">What a value looks like, for people.</param>
/// <param name="Of">The value that there is: text, a number or a boolean.</param>
/// <param name="Read">The options with a value in place; null: it is none.</param>
internal sealed record Attribute<TInfo, TOptions>(string Name, string Form, Func<TInfo, object> Of, Func<TOptions, JsonElement, TOptions?> Read)
    where TOptions : class
{
    public static Attribute<TInfo, TOptions> Duration(string name, Func<TInfo, TimeSpan> of, Func<TOptions, TimeSpan, TOptions> with) =>
        Text(name, "a duration like \"30s\"", info => TextOf(of(info)), (options, text) => Shared.TryParseDuration(text, out TimeSpan span) ? with(options, span) : null);

    public static Attribute<TInfo, TOptions> Number(string name, Func<TInfo, long> of, Func<TOptions, long, TOptions> with) =>
        new(name, "a whole number, 0 or more", info => of(info), (options, value) => value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out long number) && number >= 0 ? with(options, number) : null);

    public static Attribute<TInfo, TOptions> Switch(string name, Func<TInfo, bool> of, Func<TOptions, bool, TOptions> with) =>
        new(name, "true or false", info => of(info), (options, value) => value.ValueKind is JsonValueKind.True or JsonValueKind.False ? with(options, value.GetBoolean()) : null);

    public static Attribute<TInfo, TOptions> Text(string name, string form, Func<TInfo, string> of, Func<TOptions, string, TOptions?> with) =>
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

    public static string Names => string.Join(", ", All.Select(attribute => attribute.Name));

    private static string TextOf(Backoff? backoff) => backoff is null ? "" : string.Create(CultureInfo.InvariantCulture, $"{TextOf(backoff.First)},{backoff.Factor:0.###},{TextOf(backoff.Most)}");

    private static string TextOf(TimeSpan span) => Attribute<QueueInfo, QueueOptions>.TextOf(span);
}

/// <summary>A queue of a file of definitions: what it says, and nothing of what it does not.</summary>
/// <param name="Name">The queue's.</param>
/// <param name="Place">Where it stands in the file.</param>
/// <param name="Options">What it says.</param>
/// <param name="Said">The attributes that it says.</param>
internal sealed record QueueDefinition(string Name, string Place, QueueOptions Options, IReadOnlyList<(Attribute<QueueInfo, QueueOptions> Attribute, JsonElement Value)> Said);

/// <summary>Reads and writes files of definitions.</summary>
internal static class Definitions
{
    /// <summary>Of the form of the file. A reader refuses another one.</summary>
    public const int Version = 1;

    private const string VersionKey = "fastq";

    public static byte[] Write(IReadOnlyList<QueueInfo> queues)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream, new JsonWriterOptions { Indented = true, Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteNumber(VersionKey, Version);
            json.WriteStartArray("queues");
            foreach (QueueInfo queue in queues.Where(queue => !queue.IsTemporary))
            {
                Write(json, queue);
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        stream.WriteByte((byte)'\n');
        return stream.ToArray();
    }

    private static void Write(Utf8JsonWriter json, QueueInfo queue)
    {
        json.WriteStartObject();
        json.WriteString("name", queue.Name);
        foreach (Attribute<QueueInfo, QueueOptions> attribute in QueueAttribute.All)
        {
            switch (attribute.Of(queue))
            {
                case bool isOn:
                    json.WriteBoolean(attribute.Name, isOn);
                    break;
                case long number:
                    json.WriteNumber(attribute.Name, number);
                    break;
                case string text:
                    json.WriteString(attribute.Name, text);
                    break;
            }
        }

        json.WriteEndObject();
    }

    /// <summary>Reads all of a file, or says what is wrong and where.</summary>
    /// <exception cref="FastQException">Something is.</exception>
    public static IReadOnlyList<QueueDefinition> Read(ReadOnlyMemory<byte> file)
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

        List<QueueDefinition> queues = [];
        foreach (JsonProperty part in root.EnumerateObject())
        {
            switch (part.Name)
            {
                case VersionKey:
                    break;
                case "queues" when part.Value.ValueKind == JsonValueKind.Array:
                    queues.AddRange(part.Value.EnumerateArray().Select(ReadQueue));
                    break;
                case "queues":
                    throw Fault("queues", "it is no list");
                default:
                    throw Fault(part.Name, "such a key is not known; there are fastq and queues");
            }
        }

        return queues.GroupBy(queue => queue.Name).FirstOrDefault(same => same.Count() > 1) is { } twice
            ? throw Fault(twice.Last().Place, $"queue '{twice.Key}' stands in the file twice")
            : queues;
    }

    private static QueueDefinition ReadQueue(JsonElement element, int index)
    {
        string place = string.Create(CultureInfo.InvariantCulture, $"queues[{index}]");
        if (element.ValueKind != JsonValueKind.Object || !element.TryGetProperty("name", out JsonElement named) || named.ValueKind != JsonValueKind.String || !FastQ.Protocol.Names.IsValid(Encoding.UTF8.GetBytes(named.GetString()!)))
        {
            throw Fault(place, "a queue is an object with a \"name\": 1 to 255 bytes of UTF-8 without control characters, not beginning with 'fastq.'");
        }

        string name = named.GetString()!;
        place = $"{place} ({name})";
        QueueOptions options = new();
        List<(Attribute<QueueInfo, QueueOptions>, JsonElement)> said = [];
        foreach (JsonProperty property in element.EnumerateObject().Where(property => property.Name != "name"))
        {
            Attribute<QueueInfo, QueueOptions> attribute = Array.Find(QueueAttribute.All, attribute => attribute.Name == property.Name) ?? throw Fault($"{place}, {property.Name}", $"such an attribute is not known; there are {QueueAttribute.Names}");
            options = attribute.Read(options, property.Value) ?? throw Fault($"{place}, {property.Name}", $"{property.Value.GetRawText()} is not {attribute.Form}");
            said.Add((attribute, property.Value));
        }

        return new QueueDefinition(name, place, options, said);
    }

    public static FastQException Fault(string place, string what) => new(RefusalCode.BadArgument, $"At {place}: {what}");
}
