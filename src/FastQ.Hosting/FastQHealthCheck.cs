using FastQ.Client;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;

namespace FastQ.Hosting;

/// <summary>Healthy: the connection is in use and each consumer takes messages. To be added by <c>services.AddHealthChecks().AddCheck&lt;FastQHealthCheck&gt;("fastq")</c>.</summary>
/// <remarks>A broker that is being restarted is no fault: calls wait for it within the patience. The data hold each consumer's <see cref="ConsumerHealth"/> by the name of its queue.</remarks>
public sealed class FastQHealthCheck(Connection connection, IEnumerable<IHostedService> services) : IHealthCheck
{
    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default)
    {
        HostedConsumer[] consumers = [.. services.OfType<HostedConsumer>()];
        Dictionary<string, object> data = [];
        foreach (HostedConsumer consumer in consumers)
        {
            data[consumer.Queue] = consumer.Health is ConsumerHealth health ? health : "not started";
        }

        string? why = connection.Fault is FastQException lost
            ? $"The connection is lost: {lost.Message}"
            : consumers.Where(consumer => consumer.Health is not { State: ConsumerState.Running }).Select(Describe).FirstOrDefault();
        return Task.FromResult(why is null
            ? HealthCheckResult.Healthy($"Connected; consumers that run: {consumers.Length}.", data)
            : new HealthCheckResult(context.Registration.FailureStatus, why, connection.Fault, data));
    }

    private static string Describe(HostedConsumer consumer) => consumer.Health switch
    {
        null => $"The consumer of queue '{consumer.Queue}' has not started.",
        { State: ConsumerState.Faulted } health => $"The consumer of queue '{consumer.Queue}' has ended: {health.LastError?.Message}",
        _ => $"The consumer of queue '{consumer.Queue}' was stopped.",
    };
}
