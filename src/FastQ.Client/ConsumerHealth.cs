namespace FastQ.Client;

/// <summary>How a <see cref="Consumer"/> does, at a moment.</summary>
/// <param name="State">Whether it works.</param>
/// <param name="InHand">Messages whose handlers run, or whose settlement is awaited.</param>
/// <param name="LastError">What went wrong last: an exception of a handler, a lost lease, or what ended the consumer. Null: nothing yet.</param>
/// <param name="LastErrorAt">When that was, by the consumer's time provider.</param>
/// <param name="Accepted">Messages whose handlers succeeded, and that are gone for good.</param>
/// <param name="Released">Messages given back for another attempt, or since the consumer stopped.</param>
/// <param name="Rejected">Messages given to the dead letters.</param>
/// <param name="LeasesLost">Messages that became somebody else's before they were settled.</param>
public sealed record ConsumerHealth(ConsumerState State, int InHand, Exception? LastError, DateTimeOffset? LastErrorAt, long Accepted, long Released, long Rejected, long LeasesLost)
{
    /// <summary>Of the accepted ones those whose handlers were not called, as they had been processed already (<see cref="ConsumerOptions.IsIdempotent"/>).</summary>
    public long AlreadyProcessed { get; init; }
}

/// <summary>Whether a consumer works.</summary>
public enum ConsumerState
{
    /// <summary>It takes messages, or waits for them.</summary>
    Running,

    /// <summary>It takes no more and finishes what is in hand.</summary>
    Stopping,

    /// <summary>It was stopped, or its connection was closed by this program.</summary>
    Stopped,

    /// <summary>It has ended by itself: <see cref="Consumer.Completion"/> says why.</summary>
    Faulted,
}
