using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>A part of the story that a message in a dead-letter queue tells: where and why it died. A copy; any thread.</summary>
/// <param name="Queue">Name of the queue where it died.</param>
/// <param name="Tag">Its place number there.</param>
/// <param name="Reason">Why.</param>
/// <param name="Deliveries">How often it had been delivered there, the last time; 65,535 when more.</param>
/// <param name="Count">How often it died there of this reason.</param>
/// <param name="First">When it first did, by the broker's wall clock.</param>
/// <param name="Last">When it last did.</param>
/// <param name="Text">What the consumer gave as its reason to reject it; null: nothing.</param>
/// <param name="Details">What the consumer said beyond that; null: nothing.</param>
public sealed record Death(string Queue, ulong Tag, DeathReason Reason, int Deliveries, long Count, DateTimeOffset First, DateTimeOffset Last, string? Text, string? Details)
{
    /// <summary>All that properties tell of, the latest first. What is malformed in them is left out, or reads as zero; nothing is thrown.</summary>
    /// <param name="properties">As <see cref="Delivery.Properties"/> and <see cref="BrowsedMessage.PropertyBytes"/> give them.</param>
    public static IReadOnlyList<Death> ReadAll(ReadOnlySpan<byte> properties)
    {
        List<Death>? deaths = null;
        PropertyReader reader = new(properties);
        while (reader.Next())
        {
            if (reader.Tag == PropertyTag.Death && reader.Type == PropertyType.Bytes)
            {
                (deaths ??= []).Add(From(reader.Value));
            }
        }

        return deaths is null ? [] : deaths;
    }

    private static Death From(ReadOnlySpan<byte> fields)
    {
        Death death = new("", 0, DeathReason.None, 0, 0, DateTimeOffset.UnixEpoch, DateTimeOffset.UnixEpoch, null, null);
        FieldReader reader = new(fields);
        while (reader.Next())
        {
            death = reader.Tag switch
            {
                FieldTag.Name => death with { Queue = reader.Text },
                FieldTag.Tag => death with { Tag = reader.Number },
                FieldTag.Reason => death with { Reason = (DeathReason)Math.Min(reader.Number, byte.MaxValue) },
                FieldTag.Deliveries => death with { Deliveries = (int)Math.Min(reader.Number, int.MaxValue) },
                FieldTag.Count => death with { Count = (long)Math.Min(reader.Number, long.MaxValue) },
                FieldTag.FirstMicros => death with { First = Moment(reader.Number) },
                FieldTag.LastMicros => death with { Last = Moment(reader.Number) },
                FieldTag.Text => death with { Text = reader.Text },
                FieldTag.Details => death with { Details = reader.Text },
                _ => death,
            };
        }

        return death;
    }

    /// <summary>A moment beyond the calendar's end is its end.</summary>
    private static DateTimeOffset Moment(ulong micros)
    {
        ulong most = (ulong)((DateTimeOffset.MaxValue - DateTimeOffset.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond);
        return DateTimeOffset.UnixEpoch.AddTicks((long)Math.Min(micros, most) * TimeSpan.TicksPerMicrosecond);
    }
}
