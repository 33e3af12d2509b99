using FastQ.Client;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace FastQ.Hosting;

/// <summary>A consumer that starts and stops with the host.</summary>
internal sealed class HostedConsumer(Connection connection, string queue, Func<Message, CancellationToken, Task> handler, ConsumerOptions options, IHostApplicationLifetime lifetime, ILogger<Consumer> logger) : IHostedLifecycleService
{
    private Consumer? _consumer;
    private Task _stopped = Task.CompletedTask;

    public string Queue => queue;

    /// <summary>Null: it has not started.</summary>
    public ConsumerHealth? Health => _consumer?.Health;

    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public async Task StartAsync(CancellationToken cancellationToken)
    {
        _consumer = await Consumer.StartAsync(connection, queue, handler, options with { Failed = OnFailed }, cancellationToken).ConfigureAwait(false);
        Log.Started(logger, queue, options.Parallelism);
        _ = WatchAsync(_consumer);
    }

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <summary>The host calls this of all services before it waits for the first of them to stop: none takes messages while another finishes.</summary>
    public Task StoppingAsync(CancellationToken cancellationToken)
    {
        _stopped = _consumer?.StopAsync(cancellationToken) ?? Task.CompletedTask;
        return Task.CompletedTask;
    }

    public async Task StopAsync(CancellationToken cancellationToken)
    {
        await _stopped.ConfigureAwait(false);
        if (Health is { State: ConsumerState.Stopped } health)
        {
            Log.Stopped(logger, queue, health.Accepted, health.Released, health.Rejected, health.LeasesLost);
        }
    }

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <summary>A program that handles nothing any more looks alive to whoever watches over it: it ends, and is started again.</summary>
    private async Task WatchAsync(Consumer consumer)
    {
        try
        {
            await consumer.Completion.ConfigureAwait(false);
        }
        catch (Exception fault)
        {
            Log.Faulted(logger, queue, fault);
            lifetime.StopApplication();
        }
    }

    private void OnFailed(HandlingFailure failure)
    {
        Message message = failure.Message;
        switch (failure.Outcome)
        {
            case FailureOutcome.Released:
                Log.Released(logger, message.Tag, queue, message.DeliveryCount, failure.Exception);
                break;
            case FailureOutcome.Rejected:
                Log.Rejected(logger, message.Tag, queue, message.DeliveryCount, failure.Exception);
                break;
            default:
                Log.LeaseLost(logger, message.Tag, queue, message.DeliveryCount, failure.Exception);
                break;
        }

        options.Failed?.Invoke(failure);
    }
}
