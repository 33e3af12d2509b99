using System.Diagnostics;

namespace FastQ.Client;

/// <summary>The context of a trace, as it goes with a message: the headers of W3C Trace Context (https://www.w3.org/TR/trace-context/).</summary>
internal static class TraceContext
{
    private const string Parent = "traceparent", State = "tracestate";

    /// <summary>The options with the headers of a span. As they are, where there is none, or the caller set such headers.</summary>
    public static PublishOptions? Into(PublishOptions? options, Activity? span)
    {
        if (span is not { IdFormat: ActivityIdFormat.W3C, Id: string id } || HasOwn(options))
        {
            return options;
        }

        Dictionary<string, HeaderValue> headers = new(options?.Headers ?? []) { [Parent] = id };
        if (span.TraceStateString is { Length: > 0 } state)
        {
            headers[State] = state;
        }

        return (options ?? new PublishOptions()) with { Headers = headers };
    }

    /// <summary>Did the caller set such headers?</summary>
    public static bool HasOwn(PublishOptions? options) => options?.Headers is { } headers && (headers.ContainsKey(Parent) || headers.ContainsKey(State));

    /// <summary>The context that the caller's own headers hold. Default: none, or no sound one.</summary>
    public static ActivityContext Of(PublishOptions? options) => options?.Headers is { } headers ? Read(TextOf(headers, Parent), TextOf(headers, State)) : default;

    /// <summary>The context in which a message was sent. Default: none came with it, or no sound one.</summary>
    public static ActivityContext Of(Message message) => Read(message.HeaderText(Parent), message.HeaderText(State));

    private static string? TextOf(Dictionary<string, HeaderValue> headers, string key) => headers.TryGetValue(key, out HeaderValue value) ? value.AsText : null;

    private static ActivityContext Read(string? parent, string? state) => ActivityContext.TryParse(parent, state, isRemote: true, out ActivityContext context) ? context : default;
}
