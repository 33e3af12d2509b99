using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>What goes with a message besides its body.</summary>
public sealed record PublishOptions
{
    /// <summary>The confirm that <see cref="Connection.PublishAsync"/> waits for.</summary>
    public ConfirmLevel Confirm { get; init; } = ConfirmLevel.Durable;

    /// <summary>The application's own id of the message.</summary>
    public string? MessageId { get; init; }

    /// <summary>What it answers to.</summary>
    public string? CorrelationId { get; init; }

    /// <summary>Where an answer is awaited.</summary>
    public string? ReplyTo { get; init; }

    /// <summary>A media type, as application/json.</summary>
    public string? ContentType { get; init; }

    /// <summary>As gzip: how the body was encoded. FastQ does not look at it.</summary>
    public string? ContentEncoding { get; init; }

    /// <summary>The application's own kind of message.</summary>
    public string? Type { get; init; }

    /// <summary>Headers: key (1 to 255 bytes of UTF-8) and text.</summary>
    public IReadOnlyDictionary<string, string>? Headers { get; init; }

    /// <summary>The properties as they stand in the record, as <see cref="Session.Publish"/> takes them; empty when there are none.</summary>
    /// <exception cref="FastQException">They do not fit in <see cref="Limits.MaxPropertyBytes"/>, or a header's key is empty or too long.</exception>
    public byte[] ToBytes()
    {
        if (MessageId is null && CorrelationId is null && ReplyTo is null && ContentType is null && ContentEncoding is null && Type is null && Headers is null)
        {
            return [];
        }

        byte[] room = new byte[Limits.MaxPropertyBytes];
        PropertyWriter writer = new(room);
        Write(ref writer, PropertyTag.MessageId, MessageId);
        Write(ref writer, PropertyTag.CorrelationId, CorrelationId);
        Write(ref writer, PropertyTag.ReplyTo, ReplyTo);
        Write(ref writer, PropertyTag.ContentType, ContentType);
        Write(ref writer, PropertyTag.ContentEncoding, ContentEncoding);
        Write(ref writer, PropertyTag.Type, Type);
        foreach ((string key, string value) in Headers ?? new Dictionary<string, string>())
        {
            writer.Header(key, value);
        }

        return writer.Overflowed
            ? throw new FastQException(RefusalCode.TooLarge, "Properties and headers do not fit, or a header's key has not 1 to 255 bytes", Limits.MaxPropertyBytes)
            : writer.Written.ToArray();
    }

    private static void Write(ref PropertyWriter writer, PropertyTag tag, string? value)
    {
        if (value is not null)
        {
            writer.Text(tag, value);
        }
    }
}
