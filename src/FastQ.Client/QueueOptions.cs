using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>Attributes of a queue that is declared. What is null is as by default.</summary>
public sealed record QueueOptions
{
    /// <summary>How long a delivery is held. 30 s by default.</summary>
    public TimeSpan? Lease { get; init; }

    /// <summary>How long a message that says nothing of it waits before it is delivered. Not at all by default.</summary>
    public TimeSpan? Delay { get; init; }

    internal void Write(ref FieldWriter to)
    {
        Write(ref to, FieldTag.LeaseMilliseconds, Lease, "lease");
        Write(ref to, FieldTag.DelayMilliseconds, Delay, "delay");
    }

    private static void Write(ref FieldWriter to, FieldTag tag, TimeSpan? span, string what)
    {
        if (span is TimeSpan wanted)
        {
            to.Number(tag, (ulong)PublishOptions.Milliseconds(wanted, what));
        }
    }
}
