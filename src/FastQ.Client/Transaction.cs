using System.Diagnostics;
using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>Messages and settlements that take effect together, or not at all: no consumer sees a part, whatever dies when. One task at a time.</summary>
/// <remarks>
/// It is gathered in this program's memory and sent when it is committed; one that is disposed before that never was. What it was to settle stays in hand until then, and its lease runs.
/// <code>
/// await using Transaction transaction = connection.BeginTransaction();
/// transaction.Publish("done", body);
/// transaction.Accept(message);
/// await transaction.CommitAsync();
/// </code>
/// </remarks>
public sealed class Transaction : IAsyncDisposable
{
    private readonly Connection _connection;
    private readonly TimeSpan _within;
    private readonly Deadline _deadline;
    private readonly List<Operation> _operations = [];
    private readonly HashSet<Message> _named = [];
    private bool _isOver;

    internal Transaction(Connection connection, TimeSpan within, Deadline deadline) => (_connection, _within, _deadline) = (connection, within, deadline);

    /// <summary>How many publishes and settlements it has.</summary>
    public int Count => _operations.Count;

    /// <summary>Adds a message.</summary>
    /// <param name="queue">Its name; looked for when it is committed.</param>
    /// <param name="body">Copied.</param>
    /// <param name="options">Properties and headers; the level is that of the commit. A message that its queue has already, by deduplication id or unique key, is passed over then.</param>
    /// <exception cref="FastQException">The transaction is over, or has <see cref="Limits.MaxTransactionOperations"/> operations; properties do not fit.</exception>
    public void Publish(string queue, ReadOnlyMemory<byte> body, PublishOptions? options = null) =>
        Add(new Operation(queue, body.ToArray(), TraceContext.Into(options, Activity.Current)?.ToBytes() ?? []));

    /// <summary>Adds a message to an exchange: to every queue that it leads to when the transaction is committed.</summary>
    /// <param name="exchange">Its name; looked for when it is committed.</param>
    /// <param name="key">What the exchange chooses by; at most 255 bytes of UTF-8.</param>
    /// <param name="body">Copied. It is not compressed, whatever the queues say.</param>
    /// <param name="options">As for a queue. Where it is mandatory (<see cref="PublishOptions.IsMandatory"/>) and reaches no queue, the whole is refused (<see cref="RefusalCode.Unroutable"/>).</param>
    /// <exception cref="FastQException">As for a queue.</exception>
    public void PublishToExchange(string exchange, string key, ReadOnlyMemory<byte> body, PublishOptions? options = null)
    {
        options = (options ?? new PublishOptions()) with { Exchange = exchange, RoutingKey = key };
        Add(new Operation(exchange, body.ToArray(), TraceContext.Into(options, Activity.Current)!.ToBytes()) { IsToExchange = true, IsMandatory = options.IsMandatory });
    }

    /// <summary>Adds that a message is done with.</summary>
    /// <exception cref="FastQException">The transaction settles it already, or is over; or it came by another connection. So with the others.</exception>
    public void Accept(Message message) => Add(new Operation(message, Outcome.Accept));

    /// <summary>Adds that a message goes back to its place; see <see cref="Message.ReleaseAsync(TimeSpan, bool, ConfirmLevel, CancellationToken)"/>.</summary>
    public void Release(Message message, TimeSpan delay = default, bool isCounted = true) =>
        Add(new Operation(message, Outcome.Release) { DelayMilliseconds = PublishOptions.Milliseconds(delay, "delay"), IsCounted = isCounted });

    /// <summary>Adds that a message goes to the dead letters; see <see cref="Message.RejectAsync(string?, string?, ConfirmLevel, CancellationToken)"/>.</summary>
    public void Reject(Message message, string? reason = null, string? details = null) => Add(new Operation(message, Outcome.Reject) { Words = RejectWords.ToBytes(reason, details) });

    /// <summary>Sends it; completes when it is confirmed.</summary>
    /// <param name="level">What to wait for; <see cref="ConfirmLevel.None"/> counts as <see cref="ConfirmLevel.Accepted"/>.</param>
    /// <param name="cancellation">One that was not sent yet is rolled back; else only the waiting ends, and it may be confirmed all the same.</param>
    /// <exception cref="FastQException">
    /// One of its operations was refused, which is named: nothing of it has happened, and what it was to settle is still in hand. <see cref="RefusalCode.LeaseLost"/>: somebody else works on a message that it was to settle.
    /// <see cref="RefusalCode.TimedOut"/>: it was begun too long ago, and is rolled back. When the connection is lost, nobody knows.
    /// </exception>
    public ValueTask CommitAsync(ConfirmLevel level = ConfirmLevel.Durable, CancellationToken cancellation = default)
    {
        ThrowIfOver();
        _isOver = true;
        return _operations.Count == 0 ? ValueTask.CompletedTask : _connection.CommitAsync(Gather, level == ConfirmLevel.None ? ConfirmLevel.Accepted : level, cancellation);
    }

    /// <summary>Rolls it back, if it was not committed: nothing of it has happened.</summary>
    public ValueTask DisposeAsync()
    {
        _isOver = true;
        return ValueTask.CompletedTask;
    }

    /// <summary>On the connection's thread.</summary>
    private void Gather(SessionTransaction into, Func<string, QueueHandle> find, Func<string, ExchangeHandle> findExchange)
    {
        foreach (Operation operation in _operations)
        {
            if (operation.Message is Message message)
            {
                into.Settle(message.Subscriber.Subscription, message.Handle, message.Life, operation.Outcome, operation.DelayMilliseconds, operation.IsCounted, operation.Words);
            }
            else if (operation.IsToExchange)
            {
                into.Publish(findExchange(operation.Target), operation.Body, operation.Properties, operation.IsMandatory);
            }
            else
            {
                into.Publish(find(operation.Target), operation.Body, operation.Properties);
            }
        }
    }

    private void Add(Operation operation)
    {
        ThrowIfOver();
        if (_operations.Count == Limits.MaxTransactionOperations)
        {
            throw new FastQException(RefusalCode.LimitReached, "Operations of a transaction", Limits.MaxTransactionOperations);
        }

        if (operation.Message is Message message)
        {
            if (message.Subscriber.Connection != _connection)
            {
                throw new FastQException(RefusalCode.BadArgument, "A transaction settles what came by its own connection");
            }

            if (!_named.Add(message))
            {
                throw new FastQException(RefusalCode.AlreadySettled, $"The transaction settles message {message.Tag} of {message.Queue} twice");
            }
        }

        _operations.Add(operation);
    }

    private void ThrowIfOver()
    {
        if (_isOver)
        {
            throw new FastQException(RefusalCode.Closed, "The transaction is over");
        }

        if (_deadline.IsOver)
        {
            _isOver = true;
            throw new FastQException(RefusalCode.TimedOut, $"The transaction was not committed within {_within.TotalSeconds:0.###} s, and is rolled back");
        }
    }

    private sealed record Operation(string Target, byte[] Body, byte[] Properties)
    {
        public Operation(Message message, Outcome outcome)
            : this("", [], [])
        {
            (Message, Outcome) = (message, outcome);
        }

        public Message? Message { get; }

        public bool IsToExchange { get; init; }

        public bool IsMandatory { get; init; }

        public Outcome Outcome { get; }

        public long DelayMilliseconds { get; init; }

        public bool IsCounted { get; init; } = true;

        public byte[] Words { get; init; } = [];
    }
}
