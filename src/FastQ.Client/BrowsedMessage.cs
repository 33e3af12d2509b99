using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>A message as it stood in its queue when it was looked at. A copy; any thread.</summary>
/// <param name="Tag">Its place number in its queue, the same for life.</param>
/// <param name="State">How it stood.</param>
/// <param name="Deliveries">How often it has been delivered; 65,535 when more.</param>
/// <param name="Owner">In flight: name and process of the client that holds it; empty while that is away. Else null.</param>
/// <param name="LeaseLeft">In flight: how long it is held on. Else null.</param>
/// <param name="Due">Delayed: when it is ready. Else null.</param>
/// <param name="Timestamp">When the broker accepted it; null of a damaged one, and of one that came a moment ago and is not written yet, whose bytes are not shown either.</param>
/// <param name="BodyBytes">Bytes of the whole body, where it has an <see cref="Encoding"/> as it is stored; of those two with its properties.</param>
/// <param name="Body">The body, decoded, or the first 8 KiB of what is stored. One that was compressed and has more than 8 KiB of properties is shown as it is stored.</param>
/// <param name="PropertyBytes">The properties as they stand in the message; empty when they are larger than 8 KiB.</param>
public sealed record BrowsedMessage(ulong Tag, MessageState State, int Deliveries, string? Owner, TimeSpan? LeaseLeft, DateTimeOffset? Due, DateTimeOffset? Timestamp, long BodyBytes, ReadOnlyMemory<byte> Body, ReadOnlyMemory<byte> PropertyBytes)
{
    /// <summary>How <see cref="Body"/> is encoded: its sender's library compressed it, and it cannot be decoded, as it is damaged or is not shown whole. Null: it is as its sender's application gave it.</summary>
    public string? Encoding { get; init; }

    /// <summary>Dead-lettering: why it is to leave. Else null.</summary>
    public DeathReason? Reason { get; init; }

    /// <summary>Why it came back from a consumer, when it did last; null: it never did. What was with a consumer only to be given back unread is not counted, and says nothing here.</summary>
    public ReleaseReason? LastRelease { get; init; }

    /// <summary>Dead-lettering: it has gone in a circle, and stays.</summary>
    public bool IsStopped { get; init; }

    /// <summary>In flight: the subscription that holds it, for <see cref="Session.PauseSubscription"/>. Else 0.</summary>
    public uint Subscription { get; init; }

    /// <summary>Ready, but a limit on what flows keeps it: which, with its value, in words. Else null.</summary>
    public string? WaitsFor { get; init; }

    /// <summary>Ready, but in a fifo queue another of its group comes first: it is with a consumer, waits for its retry, or is older.</summary>
    public bool IsBehind { get; init; }

    /// <summary>In a dead-letter queue: where and why it died, the latest first; empty elsewhere, and when the properties are larger than 8 KiB. Made anew at each call.</summary>
    public IReadOnlyList<Death> Deaths => Death.ReadAll(PropertyBytes.Span);

    /// <summary>See <see cref="PublishOptions.MessageId"/>; null when it was not set.</summary>
    public string? MessageId => PropertyReader.TextOf(PropertyBytes.Span, PropertyTag.MessageId);

    /// <summary>The exchange that it was sent to; null: it was sent to its queue.</summary>
    public string? Exchange => PropertyReader.TextOf(PropertyBytes.Span, PropertyTag.Exchange);

    /// <summary>See <see cref="PublishOptions.RoutingKey"/>; null when it was not set.</summary>
    public string? RoutingKey => PropertyReader.TextOf(PropertyBytes.Span, PropertyTag.RoutingKey);

    /// <summary>The body is longer than what was shown of it.</summary>
    public bool IsCut => State != MessageState.Damaged && Body.Length < BodyBytes;

    internal static BrowsedMessage From(ReadOnlySpan<byte> fields)
    {
        BrowsedMessage message = new(0, MessageState.None, 0, null, null, null, null, 0, default, default);
        FieldReader reader = new(fields);
        while (reader.Next())
        {
            message = reader.Tag switch
            {
                FieldTag.Tag => message with { Tag = reader.Number },
                FieldTag.State => message with { State = (MessageState)reader.Number },
                FieldTag.Deliveries => message with { Deliveries = (int)reader.Number },
                FieldTag.Owner => message with { Owner = reader.Text },
                FieldTag.LeaseLeftMilliseconds => message with { LeaseLeft = TimeSpan.FromMilliseconds(reader.Number) },
                FieldTag.DueMicros => message with { Due = DateTimeOffset.UnixEpoch.AddMicroseconds(reader.Number) },
                FieldTag.Reason => message with { Reason = (DeathReason)reader.Number },
                FieldTag.ReleaseReason => message with { LastRelease = (ReleaseReason)reader.Number },
                FieldTag.Subscription => message with { Subscription = (uint)reader.Number },
                FieldTag.WaitsFor => message with { WaitsFor = reader.Text },
                FieldTag.Behind => message with { IsBehind = reader.Number == 1 },
                FieldTag.Stopped => message with { IsStopped = reader.Number == 1 },
                FieldTag.TimeMicros => message with { Timestamp = DateTimeOffset.UnixEpoch.AddMicroseconds(reader.Number) },
                FieldTag.BodyBytes => message with { BodyBytes = (long)reader.Number },
                FieldTag.Body => message with { Body = reader.Value.ToArray() },
                FieldTag.Properties => message with { PropertyBytes = reader.Value.ToArray() },
                _ => message,
            };
        }

        return message.Decoded();
    }

    private BrowsedMessage Decoded()
    {
        if (!BodyEncoding.TryRead(PropertyBytes.Span, out BodyEncoding encoding))
        {
            return this;
        }

        if (Body.Length == BodyBytes)
        {
            try
            {
                byte[] body = Lz4Body.Decode(Body.Span, encoding, Tag);
                return this with { Body = body, BodyBytes = body.Length };
            }
            catch (InvalidDataException)
            {
                // Shown as it is stored: whoever looks wants to see that, too.
            }
        }

        return this with { Encoding = encoding.Name };
    }
}
