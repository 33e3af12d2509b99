using FastQ.Client;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace FastQ.Hosting;

/// <summary>The host's start waits for the broker, before any other service starts. The connection itself belongs to the container, which closes it after all services have stopped.</summary>
internal sealed class ConnectionStart(Connection connection, SessionOptions options, ILogger<Connection> logger) : IHostedLifecycleService
{
    public async Task StartingAsync(CancellationToken cancellationToken)
    {
        await connection.Connected.WaitAsync(cancellationToken).ConfigureAwait(false);
        Log.Connected(logger, options.Path);
    }

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;
}
