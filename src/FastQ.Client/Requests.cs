using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using FastQ.Protocol;

namespace FastQ.Client;

// Request and reply of a connection: thousands may be under way. Which reply answers which request the library knows by the request's number.

public sealed partial class Connection
{
    private readonly ConcurrentDictionary<ulong, PendingRequest> _requests = [];
    private readonly ConcurrentDictionary<ulong, SentReply> _replies = [];
    private long _lastReply;
    private int _reconnectsSeen;

    /// <summary>Sends a request to a queue, and gives the reply. The request is delivered once: who asks again does so knowingly.</summary>
    /// <param name="queue">Its name. A queue that does not exist is an error, not a creation.</param>
    /// <param name="body">Must not change until the task is over.</param>
    /// <param name="options">Time-out, properties; null: the defaults.</param>
    /// <param name="cancellation">Ends the waiting; a request that was not sent yet is never sent.</param>
    /// <exception cref="RequestFailedException">The responder says that it failed.</exception>
    /// <exception cref="FastQException">There is no responder, or the one that had it is gone (<see cref="RefusalCode.NoResponder"/>); no reply came in time (<see cref="RefusalCode.TimedOut"/>); it was refused; or the connection is lost.</exception>
    /// <remarks>A reply passes through memory alone. While broker or requester is away one may be lost, and the request times out.</remarks>
    public async ValueTask<Reply> RequestAsync(string queue, ReadOnlyMemory<byte> body, RequestOptions? options = null, CancellationToken cancellation = default)
    {
        options ??= new RequestOptions();
        options.ThrowIfOutOfRange();
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        SingleRequest request = new(SenderOf(queue, body, options), cancellation);
        using CancellationTokenRegistration registration = limit.Token.Register(request.Cancel);
        limit.CancelAfter(options.Timeout);
        try
        {
            await HandInAsync(request, limit.Token).ConfigureAwait(false);
            return await request.Over.ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw TimedOut(queue, options);
        }
        finally
        {
            _requests.TryRemove(request.Number, out _);
        }
    }

    /// <summary>Sends a request to a queue, and gives the parts of its answer as they come. It is sent when the first is asked for; leaving the loop tells the responder that no more are wanted.</summary>
    /// <inheritdoc cref="RequestAsync"/>
    public async IAsyncEnumerable<Reply> RequestStreamAsync(string queue, ReadOnlyMemory<byte> body, RequestOptions? options = null, [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        options ??= new RequestOptions();
        options.ThrowIfOutOfRange();
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        StreamedRequest request = new(SenderOf(queue, body, options), options.MaxWaitingBytes, cancellation);
        using CancellationTokenRegistration registration = limit.Token.Register(request.Cancel);
        try
        {
            limit.CancelAfter(options.Timeout);
            await HandInAsync(request, limit.Token).ConfigureAwait(false);
            while (await IsMoreAsync(request, queue, options, cancellation).ConfigureAwait(false))
            {
                limit.CancelAfter(Timeout.InfiniteTimeSpan); // The time that the caller takes is its own.
                while (request.TryNext(out Reply? part))
                {
                    yield return part;
                }

                limit.CancelAfter(options.Timeout);
            }
        }
        finally
        {
            _requests.TryRemove(request.Number, out _);
        }
    }

    private static async ValueTask<bool> IsMoreAsync(StreamedRequest request, string queue, RequestOptions options, CancellationToken cancellation)
    {
        try
        {
            return await request.Parts.WaitToReadAsync(CancellationToken.None).ConfigureAwait(false); // A time-out and a cancellation end the parts.
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw TimedOut(queue, options);
        }
    }

    private static FastQException TimedOut(string queue, RequestOptions options) => new(RefusalCode.TimedOut, $"No reply from queue {queue} within {options.Timeout.TotalMilliseconds} ms");

    private Func<Session, ulong> SenderOf(string queue, ReadOnlyMemory<byte> body, RequestOptions options)
    {
        byte[] properties = TraceContext.Into(options.Message, Activity.Current) is PublishOptions message ? (message with { ReplyTo = null, TimeToLive = null }).ToBytes() : [];
        return session => session.Request(Find(session, queue), body.Span, options.Timeout, options.WaitsForResponder, properties);
    }

    /// <summary>Sends a reply and accepts its request, in one go. False: nobody waits for it any more.</summary>
    internal async ValueTask<bool> ReplyAsync(Subscriber subscriber, Message message, ReplyRecord reply, byte[] properties, ReadOnlyMemory<byte> body, ConfirmLevel level, CancellationToken cancellation)
    {
        ulong cookie = (ulong)Interlocked.Increment(ref _lastReply);
        SentReply sent = new();
        _replies[cookie] = sent;
        try
        {
            await SubmitAsync(session => session.Reply(subscriber.Subscription, message.Handle, message.Life, reply with { Cookie = cookie }, properties, body.Span, level), level, cancellation).ConfigureAwait(false);
            return !sent.Word.IsCompleted || IsPassedOn(await sent.Word.ConfigureAwait(false)); // Told before the accept was confirmed, if at all.
        }
        finally
        {
            _replies.TryRemove(cookie, out _);
        }
    }

    /// <summary>Sends a part of a reply, and waits until it is in the requester's ring. False: nobody waits for it any more.</summary>
    internal async ValueTask<bool> ReplyPartAsync(ReplyRecord reply, byte[] properties, ReadOnlyMemory<byte> body, CancellationToken cancellation)
    {
        ulong cookie = (ulong)Interlocked.Increment(ref _lastReply);
        SentReply sent = new();
        _replies[cookie] = sent;
        try
        {
            await AskAsync(
                session =>
                {
                    session.SendReply(reply with { Cookie = cookie, Flags = (byte)(reply.Flags | ReplyRecord.WantsWord) }, properties, body.Span);
                    return 0;
                },
                cancellation).ConfigureAwait(false);
            return IsPassedOn(await sent.Word.WaitAsync(cancellation).ConfigureAwait(false));
        }
        finally
        {
            _replies.TryRemove(cookie, out _);
        }
    }

    private static bool IsPassedOn(RefusalCode code) => code switch
    {
        RefusalCode.None => true,
        RefusalCode.NoRequester => false,
        RefusalCode.LimitReached => throw new FastQException(code, "The reply was dropped: more wait for the requester than have room"),
        _ => throw new FastQException(code, "The reply was dropped"),
    };

    // ---- the connection's thread

    private void ListenForReplies(Session session)
    {
        session.Replied = TakeReply;
        session.ReplyEnded = (cookie, code) =>
        {
            if (_replies.TryGetValue(cookie, out SentReply? sent))
            {
                sent.Tell(code);
            }
        };
    }

    private void TakeReply(in ReplyView view)
    {
        if (!_requests.TryGetValue(view.Request, out PendingRequest? request))
        {
            if (!view.IsLast)
            {
                _session!.RefuseReplies(view.Request);
            }

            return;
        }

        if (request.Take(view))
        {
            _requests.TryRemove(view.Request, out _);
            if (!view.IsLast)
            {
                _session!.RefuseReplies(view.Request);
            }
        }
    }

    /// <summary>A submission was not taken: was it a request?</summary>
    private void FailRequest(ulong number, FastQException refusal)
    {
        if (_requests.TryRemove(number, out PendingRequest? request))
        {
            ForgetQueuesIfGone(refusal);
            request.Fail(refusal);
        }
    }

    /// <summary>The word of a part may have been lost with the broker: whoever waits for it is told so, and does not wait for ever.</summary>
    private void LookForLostWords(Session session)
    {
        if (session.Reconnects == _reconnectsSeen)
        {
            return;
        }

        _reconnectsSeen = session.Reconnects;
        foreach (SentReply sent in _replies.Values)
        {
            sent.Tell(RefusalCode.Disconnected);
        }
    }

    private void EndRequests(FastQException reason)
    {
        foreach (PendingRequest request in _requests.Values)
        {
            request.Fail(reason);
        }

        foreach (SentReply sent in _replies.Values)
        {
            sent.Tell(reason.Code);
        }
    }
}
