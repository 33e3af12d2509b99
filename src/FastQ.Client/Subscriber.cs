using System.Threading.Channels;
using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>A consumer's claim on a queue: <c>await foreach</c> over it, or <see cref="ReceiveAsync"/>. Any number of threads; each message goes to one of them.</summary>
/// <remarks>
/// Messages are fetched ahead, up to the credit and at most <see cref="MostFetched"/>; their leases run from then on. Those that nobody took go back uncounted at the end. With a credit of 1 nothing is fetched before the last one was settled.
/// </remarks>
public sealed class Subscriber : IAsyncEnumerable<Message>, IAsyncDisposable
{
    /// <summary>Most messages that wait here for a taker.</summary>
    public const int MostFetched = 256;

    private readonly Connection _connection;
    private readonly Channel<Message> _fetched = Channel.CreateUnbounded<Message>();
    private int _waiting;

    internal Subscriber(Connection connection, string queue, Subscription subscription)
    {
        (_connection, Queue, Subscription) = (connection, queue, subscription);
    }

    /// <summary>Name of its queue.</summary>
    public string Queue { get; }

    /// <summary>How long a delivery is held before it goes to somebody else.</summary>
    public TimeSpan Lease => Subscription.Lease;

    internal Connection Connection => _connection;

    /// <summary>For the connection's thread only.</summary>
    internal Subscription Subscription { get; }

    /// <summary>The next message; null when none came within the wait, or the subscriber was disposed.</summary>
    /// <param name="wait">At most so long; <see cref="Timeout.InfiniteTimeSpan"/>: for ever.</param>
    /// <param name="cancellation">Ends the waiting. No message is lost by it.</param>
    /// <exception cref="FastQException">The subscription has ended, as its queue was deleted, or the connection is lost.</exception>
    public async ValueTask<Message?> ReceiveAsync(TimeSpan wait, CancellationToken cancellation = default)
    {
        if (TryTake(out Message? message) && await IsOursAsync(message).ConfigureAwait(false))
        {
            return message;
        }

        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(wait);
        try
        {
            while (await _fetched.Reader.WaitToReadAsync(limit.Token).ConfigureAwait(false))
            {
                if (TryTake(out message) && await IsOursAsync(message).ConfigureAwait(false))
                {
                    return message;
                }
            }

            return null;
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            return null;
        }
    }

    /// <summary>As soon as a message is there: it, and what else is there, in order. Empty when none came within the wait, or the subscriber was disposed.</summary>
    /// <param name="most">At most so many, 1 or more; never more than the credit.</param>
    /// <param name="wait">For the first one, at most so long; <see cref="Timeout.InfiniteTimeSpan"/>: for ever.</param>
    /// <param name="cancellation">Ends the waiting. No message is lost by it.</param>
    /// <exception cref="FastQException">As for <see cref="ReceiveAsync"/>.</exception>
    public async ValueTask<IReadOnlyList<Message>> ReceiveManyAsync(int most, TimeSpan wait, CancellationToken cancellation = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(most, 1);
        if (await ReceiveAsync(wait, cancellation).ConfigureAwait(false) is not Message first)
        {
            return [];
        }

        List<Message> batch = [first];
        while (batch.Count < most && TryTake(out Message? next))
        {
            if (await IsOursAsync(next).ConfigureAwait(false))
            {
                batch.Add(next);
            }
        }

        return batch;
    }

    /// <summary>Messages as they come, until the subscriber is disposed. Leaving the loop loses none: what was not given out stays for the next one.</summary>
    public async IAsyncEnumerator<Message> GetAsyncEnumerator(CancellationToken cancellationToken = default)
    {
        while (await _fetched.Reader.WaitToReadAsync(cancellationToken).ConfigureAwait(false))
        {
            while (TryTake(out Message? message))
            {
                if (!await IsOursAsync(message).ConfigureAwait(false))
                {
                    continue;
                }

                yield return message;
                cancellationToken.ThrowIfCancellationRequested();
            }
        }
    }

    /// <summary>Ends it in order: what is in hand and not settled, or was not taken, goes back to its place.</summary>
    public async ValueTask DisposeAsync() => await _connection.CloseAsync(this).ConfigureAwait(false);

    /// <summary>No more are to come. What came, or is on its way, can be taken on.</summary>
    internal Task StopFetchingAsync() => _connection.StopFetchingAsync(this);

    internal ValueTask SettleAsync(Message message, Outcome outcome, ConfirmLevel level, CancellationToken cancellation) =>
        _connection.SubmitAsync(_ => Subscription.Settle(message.Handle, message.Life, outcome, level), level, cancellation);

    internal ValueTask ReleaseAsync(Message message, long delayMilliseconds, bool isCounted, ConfirmLevel level, CancellationToken cancellation) =>
        _connection.SubmitAsync(_ => Subscription.Settle(message.Handle, message.Life, Outcome.Release, level, delayMilliseconds, isCounted), level, cancellation);

    internal ValueTask RejectAsync(Message message, byte[] words, ConfirmLevel level, CancellationToken cancellation) =>
        _connection.SubmitAsync(_ => Subscription.Reject(message.Handle, message.Life, level, words), level, cancellation);

    internal ValueTask ExtendAsync(Message message, TimeSpan lease, ConfirmLevel level, CancellationToken cancellation) =>
        _connection.SubmitAsync(_ => Subscription.Extend(message.Handle, message.Life, lease, level), level, cancellation);

    /// <summary>Fetches what is there and fits. On the connection's thread. False: nothing was.</summary>
    internal bool Fetch()
    {
        bool any = false;
        while (Volatile.Read(ref _waiting) < MostFetched && Subscription.TryHold(out Delivery delivery))
        {
            any = true;
            Interlocked.Increment(ref _waiting);
            _fetched.Writer.TryWrite(new Message(this, delivery));
        }

        return any;
    }

    /// <summary>No more come. On the connection's thread. Gives the first delivery that nobody took.</summary>
    internal ulong End(FastQException? why)
    {
        _fetched.Writer.TryComplete(why);
        ulong firstNotTaken = Subscription.NextDelivery;
        while (_fetched.Reader.TryRead(out Message? message))
        {
            firstNotTaken = message.Life == Subscription.Life ? Math.Min(firstNotTaken, message.Handle) : firstNotTaken;
        }

        return firstNotTaken;
    }

    /// <summary>At most once: it is gone from its queue, for good, before anybody sees it. False: its lease had ended, and it is somebody else's.</summary>
    /// <remarks>Not cancelled: it would be lost.</remarks>
    private async ValueTask<bool> IsOursAsync(Message message)
    {
        if (Subscription.Options.Mode == SettleMode.Manual)
        {
            return true;
        }

        try
        {
            await message.AcceptAsync(ConfirmLevel.Written, CancellationToken.None).ConfigureAwait(false);
            return true;
        }
        catch (FastQException lost) when (lost.Code is RefusalCode.LeaseLost or RefusalCode.AlreadySettled)
        {
            return false;
        }
    }

    private bool TryTake([System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out Message? message)
    {
        while (_fetched.Reader.TryRead(out message))
        {
            if (Interlocked.Decrement(ref _waiting) == MostFetched / 2)
            {
                _connection.Wake(); // There is room again.
            }

            if (message.Life == Subscription.Life)
            {
                return true;
            }

            // A restarted broker did not know the subscription any more: this one goes to somebody else, or comes again.
        }

        return false;
    }
}
