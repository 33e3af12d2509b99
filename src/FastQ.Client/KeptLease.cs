namespace FastQ.Client;

//   taken --------- half a lease --------- half a lease ----  ...  ---- end            each half: an extension, if the last one is answered
//                        '--> refused: lost, the work's token is cancelled

/// <summary>The lease of a message that somebody works on: extended at half its length, until the work is over or the lease is lost.</summary>
internal sealed class KeptLease : IDisposable
{
    private readonly Message _message;
    private readonly TimeSpan _length;
    private readonly CancellationTokenSource _work;
    private readonly ITimer _timer;
    private readonly Lock _gate = new();
    private Task _extending = Task.CompletedTask;

    /// <param name="message">In hand.</param>
    /// <param name="length">Of the lease.</param>
    /// <param name="time">Where the timer comes from.</param>
    /// <param name="stop">Cancels the work, too.</param>
    public KeptLease(Message message, TimeSpan length, TimeProvider time, CancellationToken stop)
    {
        (_message, _length) = (message, length);
        _work = CancellationTokenSource.CreateLinkedTokenSource(stop);
        TimeSpan half = length / 2, first = half - message.Age; // It may have waited for its worker.
        _timer = time.CreateTimer(static lease => ((KeptLease)lease!).Extend(), this, first > TimeSpan.Zero ? first : TimeSpan.Zero, half);
    }

    /// <summary>The work's: cancelled when the lease is lost, or the consumer gives up.</summary>
    public CancellationToken Token => _work.Token;

    /// <summary>Why it is lost; null while it is not known to be.</summary>
    public FastQException? Lost { get; private set; }

    /// <summary>The work is over, or given up. Afterwards <see cref="Lost"/> changes no more: no answer is open, so that none meets the settlement.</summary>
    public async ValueTask EndAsync()
    {
        await _timer.DisposeAsync().ConfigureAwait(false);
        Task last;
        lock (_gate)
        {
            last = _extending;
        }

        await last.ConfigureAwait(false);
    }

    /// <summary>Behind <see cref="EndAsync"/>, and when nobody holds the token any more.</summary>
    public void Dispose() => _work.Dispose();

    private void Extend()
    {
        lock (_gate)
        {
            if (_extending.IsCompleted && Lost is null)
            {
                _extending = ExtendAsync();
            }
        }
    }

    private async Task ExtendAsync()
    {
        try
        {
            await _message.ExtendAsync(_length).ConfigureAwait(false);
        }
        catch (FastQException lost)
        {
            Lost = lost;
            _ = _work.CancelAsync(); // On the pool: what the handler hangs on its token is nothing to wait for.
        }
    }
}
