using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>How a request is sent, and how long its reply is awaited.</summary>
public sealed record RequestOptions
{
    private static readonly TimeSpan s_most = TimeSpan.FromDays(24);

    /// <summary>The longest wait for the reply; of an answer in parts, for each part. The request expires with it: nobody begins work on it later. 1 ms to 24 days; a part of a millisecond is a whole one.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Where the queue has no consumer, the request waits for one within the time-out. Else that is told at once (<see cref="RefusalCode.NoResponder"/>).</summary>
    public bool WaitsForResponder { get; init; }

    /// <summary>Properties and headers that go with it. Its confirm level, reply-to and time to live are not looked at: a request has its own.</summary>
    public PublishOptions? Message { get; init; }

    /// <summary>Parts of an answer that came and were not looked at yet have so many bytes at most; beyond, the request fails (<see cref="RefusalCode.LimitReached"/>).</summary>
    public long MaxWaitingBytes { get; init; } = 64 * 1024 * 1024;

    internal void ThrowIfOutOfRange()
    {
        if (Timeout < TimeSpan.FromMilliseconds(1) || Timeout > s_most)
        {
            throw new FastQException(RefusalCode.BadArgument, $"A time-out is 1 ms to {s_most.TotalDays} days");
        }
    }
}

/// <summary>What goes with a reply besides its body.</summary>
public sealed record ReplyOptions
{
    /// <summary>A media type, as application/json.</summary>
    public string? ContentType { get; init; }

    /// <summary>The application's own kind of reply.</summary>
    public string? Type { get; init; }

    /// <summary>The application's id of what this belongs to. Which request a reply answers the library knows without it.</summary>
    public string? CorrelationId { get; init; }

    /// <summary>As <see cref="PublishOptions.Headers"/>.</summary>
    public Dictionary<string, HeaderValue>? Headers { get; init; }

    internal PublishOptions ToPublishOptions() => new() { ContentType = ContentType, Type = Type, CorrelationId = CorrelationId, Headers = Headers };
}
