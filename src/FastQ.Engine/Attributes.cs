using System.Globalization;
using FastQ.Protocol;

namespace FastQ.Engine;

/// <summary>Attributes of a queue. Equal ones make a second declaration succeed.</summary>
/// <param name="LeaseMilliseconds">How long a delivery is held.</param>
/// <param name="DelayMilliseconds">How long a message that says nothing of it waits before it is delivered. 0: not at all.</param>
public readonly record struct QueueAttributes(long LeaseMilliseconds, long DelayMilliseconds)
{
    public static QueueAttributes Default { get; } = new(Limits.DefaultLeaseMilliseconds, 0);

    /// <summary>As they stand in a command or a record; what is not there is as by default. Not judged.</summary>
    public static QueueAttributes From(ReadOnlySpan<byte> fields)
    {
        QueueAttributes attributes = Default;
        FieldReader reader = new(fields);
        while (reader.Next())
        {
            attributes = reader.Tag switch
            {
                FieldTag.LeaseMilliseconds => attributes with { LeaseMilliseconds = NumberOf(reader) },
                FieldTag.DelayMilliseconds => attributes with { DelayMilliseconds = NumberOf(reader) },
                _ => attributes,
            };
        }

        return attributes;
    }

    public void Write(ref FieldWriter to)
    {
        to.Number(FieldTag.LeaseMilliseconds, (ulong)LeaseMilliseconds);
        to.Number(FieldTag.DelayMilliseconds, (ulong)DelayMilliseconds);
    }

    /// <summary>Says what is outside its range, or is empty.</summary>
    public string Fault()
    {
        if (LeaseMilliseconds is < Limits.MinLeaseMilliseconds or > Limits.MaxLeaseMilliseconds)
        {
            return $"lease must be {Limits.MinLeaseMilliseconds} ms to {Limits.MaxLeaseMilliseconds} ms";
        }

        return DelayMilliseconds is < 0 or > Limits.MaxDelayMilliseconds ? $"delay must be 0 ms to {Limits.MaxDelayMilliseconds} ms" : "";
    }

    /// <summary>Names what differs, or is empty.</summary>
    public string DifferenceTo(QueueAttributes other)
    {
        List<string> differences = [];
        Compare(differences, "lease", LeaseMilliseconds, other.LeaseMilliseconds);
        Compare(differences, "delay", DelayMilliseconds, other.DelayMilliseconds);
        return string.Join(", ", differences);
    }

    private static void Compare(List<string> differences, string name, long mine, long other)
    {
        if (mine != other)
        {
            differences.Add(string.Create(CultureInfo.InvariantCulture, $"{name} is {mine} ms, not {other} ms"));
        }
    }

    private static long NumberOf(in FieldReader reader) => reader.Value.Length == sizeof(ulong) ? (long)Math.Min(reader.Number, long.MaxValue) : -1;
}
