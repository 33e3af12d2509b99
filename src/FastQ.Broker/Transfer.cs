using System.Text;
using FastQ.Engine;
using FastQ.Protocol;

namespace FastQ.Broker;

/// <summary>What the properties of a message become when it is moved: where it was, what is left of its times, and all else. Pure; any bytes may be given.</summary>
internal static class Transfer
{
    /// <summary>So many bytes longer they become at most.</summary>
    public const int MostBytes = 128;

    /// <summary>Writes the properties.</summary>
    /// <param name="properties">As they were.</param>
    /// <param name="message">Which message, and what is left of its times.</param>
    /// <param name="room">At least <see cref="Limits.MaxStoredPropertyBytes"/>.</param>
    /// <returns>Bytes written.</returns>
    public static int Write(ReadOnlySpan<byte> properties, in SweptMessage message, Span<byte> room)
    {
        Span<byte> origin = stackalloc byte[64];
        FieldWriter fields = new(origin);
        fields.Number(FieldTag.Queue, message.Queue);
        fields.Number(FieldTag.Tag, message.View.Tag);
        PropertyWriter writer = new(room[..Limits.MaxStoredPropertyBytes]);
        writer.Bytes(PropertyTag.Origin, fields.Written);
        writer.Number(PropertyTag.Delay, PropertyType.Int64, InMilliseconds(message.DelayLeftMicros)); // None, too, whatever its new queue gives to what is published.
        if (message.LifeLeftMicros > 0)
        {
            writer.Number(PropertyTag.Ttl, PropertyType.Int64, Math.Max(1, InMilliseconds(message.LifeLeftMicros)));
        }

        PropertyReader reader = new(properties);
        while (reader.Next())
        {
            if (reader.Tag is not (PropertyTag.Origin or PropertyTag.Delay or PropertyTag.DeliverAt or PropertyTag.Ttl))
            {
                writer.Raw(reader.Raw);
            }
        }

        Invariant.Holds(!writer.Overflowed);
        return writer.Length;
    }

    /// <summary>The queue where a message died last; empty: it never did, or its story is cut short.</summary>
    public static string LastQueueOf(ReadOnlySpan<byte> properties) =>
        PropertyReader.TryFind(properties, PropertyTag.Death, out PropertyReader found) && FieldReader.TryBytes(found.Value, FieldTag.Name, out ReadOnlySpan<byte> name) ? Encoding.UTF8.GetString(name) : "";

    private static long InMilliseconds(long micros) => Math.Min((micros + 999) / 1000, Limits.MaxDelayMilliseconds);
}
