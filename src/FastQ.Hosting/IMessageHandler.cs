using FastQ.Client;

namespace FastQ.Hosting;

/// <summary>Works on the messages of a queue: made for each message, with what it needs, in a scope of its own.</summary>
public interface IMessageHandler
{
    /// <summary>Works on one message. To return accepts it; to throw has it come again, or go to the dead letters (<see cref="RetryPolicy"/>). On the thread pool.</summary>
    /// <param name="message">In hand, under a lease that is extended for as long as this runs.</param>
    /// <param name="cancellation">The work is in vain: the lease is lost, or the host's patience with its stop has ended.</param>
    Task HandleAsync(Message message, CancellationToken cancellation);
}
