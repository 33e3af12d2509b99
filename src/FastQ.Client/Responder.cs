namespace FastQ.Client;

/// <summary>Answers the requests that come to a queue, several at once: a <see cref="Consumer"/> whose handler gives the reply, which is sent as the request is accepted.</summary>
/// <remarks>
/// A handler that throws has its request answered with an error, whose code is the exception's type and whose words are its message: the requester's <see cref="Connection.RequestAsync"/> throws
/// <see cref="RequestFailedException"/>, and the request is not tried again. A message to which nobody waits for a reply is released or rejected then, by <see cref="ConsumerOptions.Retry"/>, and accepted where the handler returned.
/// </remarks>
public static class Responder
{
    /// <summary>Subscribes, and begins to answer.</summary>
    /// <param name="connection">Outlives the consumer.</param>
    /// <param name="queue">Its name. A queue that does not exist is an error, not a creation.</param>
    /// <param name="handler">Gives the reply's body. Its token is cancelled when its work is in vain: the lease is lost, or the consumer gives up.</param>
    /// <param name="options">Null: the defaults.</param>
    /// <param name="cancellation">Ends the subscribing. A responder that has started is ended by <see cref="Consumer.StopAsync"/>.</param>
    /// <exception cref="FastQException">There is no such queue, something in the options is out of range, or the connection is lost.</exception>
    public static Task<Consumer> StartAsync(Connection connection, string queue, Func<Message, CancellationToken, Task<ReadOnlyMemory<byte>>> handler, ConsumerOptions? options = null, CancellationToken cancellation = default) =>
        HostAsync(connection, queue, async (message, token) => new OutgoingReply(await handler(message, token).ConfigureAwait(false), null, IsError: false, IsEnd: false), options, cancellation);

    /// <summary>As <see cref="StartAsync"/>, with answers in parts, each sent as it comes. When nobody waits for them any more, the handler is asked for no more.</summary>
    public static Task<Consumer> StartStreamAsync(Connection connection, string queue, Func<Message, CancellationToken, IAsyncEnumerable<ReadOnlyMemory<byte>>> handler, ConsumerOptions? options = null, CancellationToken cancellation = default) =>
        HostAsync(
            connection,
            queue,
            async (message, token) =>
            {
                await foreach (ReadOnlyMemory<byte> part in handler(message, token).WithCancellation(token).ConfigureAwait(false))
                {
                    if (!await message.ReplyPartAsync(part, cancellation: token).ConfigureAwait(false))
                    {
                        break;
                    }
                }

                return OutgoingReply.End;
            },
            options,
            cancellation);

    private static Task<Consumer> HostAsync(Connection connection, string queue, Func<Message, CancellationToken, Task<OutgoingReply>> answer, ConsumerOptions? options, CancellationToken cancellation) =>
        Consumer.StartAsync(
            connection,
            queue,
            async (message, token) =>
            {
                try
                {
                    OutgoingReply reply = await answer(message, token).ConfigureAwait(false);
                    message.Outgoing = message.IsRequest ? reply : null;
                }
                catch (Exception failure) when (message.IsRequest && !token.IsCancellationRequested)
                {
                    message.Outgoing = OutgoingReply.Error(failure.GetType().FullName ?? failure.GetType().Name, failure.Message);
                }
            },
            options,
            cancellation);
}
