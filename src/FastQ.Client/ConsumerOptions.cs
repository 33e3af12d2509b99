using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>How a <see cref="Consumer"/> works.</summary>
public sealed record ConsumerOptions
{
    /// <summary>Most messages in hand at once, and the credit of its subscription: 1 to <see cref="Limits.MaxCredit"/>. What it could not begin yet stays with the broker, for other consumers. As many as there are processors, by default.</summary>
    public int Parallelism { get; init; } = Environment.ProcessorCount;

    /// <summary>Most bytes in hand at once; one message is delivered whatever its size.</summary>
    public long CreditBytes { get; init; } = 64L * 1024 * 1024;

    /// <summary>How long a message stays this consumer's after it was last heard of; null: as its queue has it. It is extended at half of that for as long as the handler works, so it bounds how long a consumer that died holds a message, not how long a handler may take.</summary>
    public TimeSpan? Lease { get; init; }

    /// <summary>What becomes of a message whose handler threw.</summary>
    public RetryPolicy Retry { get; init; } = new();

    /// <summary>What each settlement waits for before the next message is begun. By default a kill of the broker cannot undo it.</summary>
    public ConfirmLevel Confirm { get; init; } = ConfirmLevel.Written;

    /// <summary>Each message is asked for before it is handled: one whose key was processed already is accepted, and its handler not called. One that was handled is marked, with <see cref="Message.Result"/>, in one step with its accept, also when its lease was lost meanwhile. The queue needs a <see cref="QueueOptions.ProcessedWindow"/>.</summary>
    /// <remarks>Each, and not only those that were delivered before: the same may have been sent twice, or come back from the dead letters. It costs a round trip through shared memory, before and after the handler.</remarks>
    public bool IsIdempotent { get; init; }

    /// <summary>Called after each message whose handling failed, once it is known what became of it. On a thread of the pool; must not throw: that ends the consumer.</summary>
    public Action<HandlingFailure>? Failed { get; init; }

    /// <summary>Time, for extending leases and measuring handlers.</summary>
    public TimeProvider TimeProvider { get; init; } = TimeProvider.System;

    /// <exception cref="FastQException">Something is out of range.</exception>
    internal void ThrowIfOutOfRange()
    {
        if (Parallelism is < 1 or > Limits.MaxCredit)
        {
            throw new FastQException(RefusalCode.BadArgument, $"A consumer's parallelism is 1 to {Limits.MaxCredit}, not {Parallelism}");
        }

        Retry.Backoff?.ThrowIfOutOfRange();
    }
}

/// <summary>A message whose handling failed. A copy; any thread.</summary>
/// <param name="Message">It is settled, or somebody else's.</param>
/// <param name="Exception">What the handler threw; of a lost lease, how the broker or this program learnt of it.</param>
/// <param name="Outcome">What became of it.</param>
public sealed record HandlingFailure(Message Message, Exception Exception, FailureOutcome Outcome);

/// <summary>What became of a message whose handling failed.</summary>
public enum FailureOutcome
{
    /// <summary>It comes again, to anybody.</summary>
    Released,

    /// <summary>It went to the dead letters.</summary>
    Rejected,

    /// <summary>Its lease had ended: it is, or was, somebody else's, whatever the handler did.</summary>
    LeaseLost,
}
