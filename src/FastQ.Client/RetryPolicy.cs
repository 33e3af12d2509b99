namespace FastQ.Client;

/// <summary>What becomes of a message whose handler threw: another attempt, unless the exception says that none would help.</summary>
public sealed record RetryPolicy
{
    /// <summary>How long a message waits before its next attempt, by its <see cref="Message.DeliveryCount"/>. Null, or a first wait of zero: as its queue has it. How many attempts there are says <see cref="QueueOptions.MaxDeliveries"/>.</summary>
    public Backoff? Backoff { get; init; }

    /// <summary>Exceptions of these types, and of types derived from them, are permanent, as <see cref="PermanentException"/> always is: the message is rejected and goes to the dead letters.</summary>
    public IReadOnlyCollection<Type> Permanent { get; init; } = [];

    /// <summary>Asked of exceptions of other types: are they permanent? Null: they are not. On the handler's thread; must not throw.</summary>
    public Func<Exception, bool>? IsPermanent { get; init; }

    /// <summary>Would no other attempt help?</summary>
    internal bool Rejects(Exception exception) => exception is PermanentException || Permanent.Any(type => type.IsInstanceOfType(exception)) || IsPermanent?.Invoke(exception) == true;

    /// <summary>How long a message waits for its next attempt; zero: as its queue has it.</summary>
    internal TimeSpan DelayOf(Message message) => Backoff?.After(message.Tag, message.DeliveryCount) ?? TimeSpan.Zero;
}

/// <summary>Thrown by a handler whose message no other attempt would help: it is rejected at once, with this exception's text, and goes to the dead letters.</summary>
public class PermanentException : Exception
{
    public PermanentException()
    {
    }

    public PermanentException(string message)
        : base(message)
    {
    }

    public PermanentException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}
