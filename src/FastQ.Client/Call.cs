using FastQ.Protocol;

namespace FastQ.Client;

// What another thread wants of the connection's thread.
//
//   waits --> begun --> (sent, until the confirm) --> over           a cancellation: while it waits, it is never begun;
//     '------------------------------------------------^             while it is begun, it ends when the caller's memory is free again

/// <summary>One call, as the connection's thread sees it. It ends exactly once.</summary>
internal abstract class Call
{
    private readonly Lock _gate = new();
    private bool _isBegun;
    private bool _isCancelled;

    /// <summary>False: it was cancelled while it waited, and must not be done.</summary>
    public bool TryBegin()
    {
        lock (_gate)
        {
            _isBegun = !_isCancelled;
            return _isBegun;
        }
    }

    /// <summary>Nothing of the caller's is looked at any more.</summary>
    public void Pause()
    {
        lock (_gate)
        {
            _isBegun = false;
            if (!_isCancelled)
            {
                return;
            }
        }

        SetCancelled();
    }

    public void Cancel()
    {
        lock (_gate)
        {
            _isCancelled = true;
            if (_isBegun)
            {
                return; // Pause sees it.
            }
        }

        SetCancelled();
    }

    public abstract void Fail(Exception exception);

    /// <summary>Does it. On the connection's thread.</summary>
    public abstract void Run(Session session);

    protected abstract void SetCancelled();
}

/// <summary>A call that is over when it was done.</summary>
internal sealed class Command<T>(Func<Session, T> work, CancellationToken cancellation) : Call
{
    private readonly TaskCompletionSource<T> _over = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public Task<T> Over => _over.Task;

    public override void Run(Session session) => _over.TrySetResult(work(session));

    public override void Fail(Exception exception) => _over.TrySetException(exception);

    protected override void SetCancelled() => _over.TrySetCanceled(cancellation);
}

/// <summary>A call that sends a numbered record, and is over when that is confirmed.</summary>
internal sealed class Submission(Func<Session, ulong> send, ConfirmLevel level, CancellationToken cancellation) : Call
{
    private readonly TaskCompletionSource _over = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public Task Over => _over.Task;

    public ConfirmLevel Level => level;

    /// <summary>Once it was sent.</summary>
    public ulong Number { get; private set; }

    /// <summary>Called when it is confirmed, on the connection's thread; null: nothing is to be done then.</summary>
    public Action? Confirmed { get; init; }

    /// <summary>The queue had it already: the place of that one. Null: it was taken.</summary>
    public ulong? FirstTag { get; set; }

    /// <summary>How many queues took it, where it went to an exchange and that was told.</summary>
    public int? Routed { get; set; }

    public override void Run(Session session) => Number = send(session);

    public void Complete()
    {
        Confirmed?.Invoke();
        _over.TrySetResult();
    }

    public override void Fail(Exception exception) => _over.TrySetException(exception);

    protected override void SetCancelled() => _over.TrySetCanceled(cancellation);
}
