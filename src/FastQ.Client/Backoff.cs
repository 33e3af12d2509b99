using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>How long a message waits after each delivery that failed: less up to a fifth, by its place and count, so that those that failed together do not come back together.</summary>
/// <param name="First">After the first one, up to <see cref="Limits.MaxDelayMilliseconds"/>; a part of a millisecond is a whole one. Zero: it never waits.</param>
/// <param name="Factor">Each next wait is so many times the one before: 1 to 100, to a thousandth.</param>
/// <param name="Most">The longest wait; not below <paramref name="First"/>.</param>
public sealed record Backoff(TimeSpan First, double Factor, TimeSpan Most)
{
    private const double Permille = 1000;

    private long FirstMilliseconds => PublishOptions.Milliseconds(First, "first wait of a back-off");

    private long MostMilliseconds => PublishOptions.Milliseconds(Most, "longest wait of a back-off");

    /// <exception cref="FastQException">Something is out of range.</exception>
    internal void Write(ref FieldWriter to)
    {
        ThrowIfOutOfRange();
        to.Number(FieldTag.BackoffFirstMilliseconds, (ulong)FirstMilliseconds);
        to.Number(FieldTag.BackoffFactorPermille, (ulong)Math.Round(Factor * Permille));
        to.Number(FieldTag.BackoffMostMilliseconds, (ulong)MostMilliseconds);
    }

    /// <exception cref="FastQException">Something is.</exception>
    internal void ThrowIfOutOfRange()
    {
        if (Factor is not (>= 1 and <= 100))
        {
            throw new FastQException(RefusalCode.BadArgument, "The factor of a back-off is 1 to 100");
        }

        if (Most < First)
        {
            throw new FastQException(RefusalCode.BadArgument, "The longest wait of a back-off is not below its first");
        }

        _ = (FirstMilliseconds, MostMilliseconds); // Each is in its range, or throws.
    }

    /// <summary>How long a message waits after so many deliveries that failed: what the broker works out for a queue's back-off, to a millisecond.</summary>
    internal TimeSpan After(ulong tag, int deliveries)
    {
        double wait = First == TimeSpan.Zero ? 0 : Math.Min(FirstMilliseconds * Math.Pow(Factor, deliveries - 1), MostMilliseconds);
        ulong hash = (tag * 0x9E3779B97F4A7C15 + (ulong)deliveries) * 0xD1B54A32D192ED03;
        return TimeSpan.FromMilliseconds(wait - wait * (hash >> 44) / (5L << 20));
    }

    /// <summary>Null: what failed does not wait.</summary>
    internal static Backoff? From(ReadOnlySpan<byte> fields)
    {
        ulong first = Connector.Number(fields, FieldTag.BackoffFirstMilliseconds);
        return first == 0
            ? null
            : new Backoff(
                TimeSpan.FromMilliseconds(first),
                Connector.Number(fields, FieldTag.BackoffFactorPermille) / Permille,
                TimeSpan.FromMilliseconds(Connector.Number(fields, FieldTag.BackoffMostMilliseconds)));
    }
}
