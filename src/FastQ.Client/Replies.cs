using FastQ.Protocol;

namespace FastQ.Client;

// What a consumer answers to a message that is a request. Its address for replies is one of the broker's (fastq.reply...), or a queue's name.

public sealed partial class Message
{
    private int _parts;

    /// <summary>What a handler leaves for its host to send when it accepts; null: nothing.</summary>
    internal OutgoingReply? Outgoing { get; set; }

    /// <summary>Somebody waits for a reply to it.</summary>
    public bool IsRequest => ReplyTo is not null;

    /// <summary>Sends the reply, and accepts the request: both at once.</summary>
    /// <param name="body">Must not change until the task is over.</param>
    /// <param name="options">Properties and headers; null: none.</param>
    /// <param name="confirm">What to wait for of the accept.</param>
    /// <param name="cancellation">Ends the waiting; reply and accept may happen all the same, unless they had not been sent.</param>
    /// <returns>False: nobody waits for it any more. The request is accepted all the same.</returns>
    /// <exception cref="FastQException">It is no request; its lease had ended, or it was settled before; the reply is too large, or more wait for the requester than have room.</exception>
    /// <remarks>Where the reply-to is the name of a queue, the reply is published there, with the request's correlation id (or its message id), before the request is accepted.</remarks>
    public ValueTask<bool> ReplyAsync(ReadOnlyMemory<byte> body, ReplyOptions? options = null, ConfirmLevel confirm = ConfirmLevel.Written, CancellationToken cancellation = default) =>
        SendLastAsync(new OutgoingReply(body, options, IsError: false, IsEnd: false), confirm, cancellation);

    /// <summary>Says that the request failed, and accepts it: it is done with.</summary>
    /// <param name="code">A word for programs, as the type of an exception.</param>
    /// <param name="words">A sentence for people; perhaps empty.</param>
    /// <param name="confirm">What to wait for of the accept.</param>
    /// <param name="cancellation">Ends the waiting.</param>
    /// <inheritdoc cref="ReplyAsync"/>
    public ValueTask<bool> ReplyErrorAsync(string code, string words, ConfirmLevel confirm = ConfirmLevel.Written, CancellationToken cancellation = default) =>
        SendLastAsync(OutgoingReply.Error(code, words), confirm, cancellation);

    /// <summary>Sends a part of the reply; the request stays in hand. Completes when the part is in the requester's ring: so a slow requester slows its responder. One at a time.</summary>
    /// <returns>False: nobody waits for it any more. End the work: <see cref="EndReplyAsync"/>, or a reject.</returns>
    /// <inheritdoc cref="ReplyAsync"/>
    public async ValueTask<bool> ReplyPartAsync(ReadOnlyMemory<byte> body, ReplyOptions? options = null, CancellationToken cancellation = default)
    {
        ReplyAddress address = ReplyAddress.TryFind(_properties, out ReplyAddress found) ? found : throw new FastQException(RefusalCode.BadArgument, "Replies in parts need a request of RequestStreamAsync or RequestAsync");
        byte[] properties = options?.ToPublishOptions().ToBytes() ?? [];
        return await _subscriber.Connection.ReplyPartAsync(new ReplyRecord { Producer = address.Producer, Request = address.Request, Part = (uint)_parts++ }, properties, body, cancellation).ConfigureAwait(false);
    }

    /// <summary>No more parts come: accepts the request.</summary>
    /// <param name="confirm">What to wait for of the accept.</param>
    /// <param name="cancellation">Ends the waiting.</param>
    /// <inheritdoc cref="ReplyAsync"/>
    public ValueTask<bool> EndReplyAsync(ConfirmLevel confirm = ConfirmLevel.Written, CancellationToken cancellation = default) => SendLastAsync(OutgoingReply.End, confirm, cancellation);

    internal async ValueTask<bool> SendLastAsync(OutgoingReply reply, ConfirmLevel confirm, CancellationToken cancellation)
    {
        PublishOptions options = (reply.Options ?? new ReplyOptions()).ToPublishOptions();
        if (ReplyAddress.TryFind(_properties, out ReplyAddress address))
        {
            int flags = ReplyRecord.Last | (reply.IsError ? ReplyRecord.Error : 0) | (reply.IsEnd ? ReplyRecord.End : 0);
            ReplyRecord record = new() { Producer = address.Producer, Request = address.Request, Part = (uint)_parts, Flags = (byte)flags };
            return await _subscriber.Connection.ReplyAsync(_subscriber, this, record, options.ToBytes(), reply.Body, confirm, cancellation).ConfigureAwait(false);
        }

        string queue = ReplyTo ?? throw Session.NoRequest();
        await _subscriber.Connection.PublishAsync(queue, reply.Body, options with { CorrelationId = options.CorrelationId ?? CorrelationId ?? MessageId }, cancellation).ConfigureAwait(false);
        await AcceptAsync(confirm, cancellation).ConfigureAwait(false);
        return true;
    }
}

/// <summary>The last, or only, reply to a request.</summary>
internal sealed record OutgoingReply(ReadOnlyMemory<byte> Body, ReplyOptions? Options, bool IsError, bool IsEnd)
{
    public static OutgoingReply End { get; } = new(default, null, IsError: false, IsEnd: true);

    public static OutgoingReply Error(string code, string words) => new(System.Text.Encoding.UTF8.GetBytes(words), new ReplyOptions { Type = code }, IsError: true, IsEnd: false);
}
