using System.Diagnostics.CodeAnalysis;
using FastQ.Client;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace FastQ.Hosting;

/// <summary>FastQ among the services of a .NET host.</summary>
public static class FastQServices
{
    /// <summary>Adds a <see cref="Connection"/> for the whole host, and <see cref="FastQHealthCheck"/>.</summary>
    /// <param name="services">The host's.</param>
    /// <param name="options">Where the broker is, and how long to wait for it; null: the defaults.</param>
    /// <remarks>
    /// It is opened when the host starts: the start waits for the broker within <see cref="SessionOptions.Patience"/>, and fails with the reason. Services may ask for it in their constructors; calls before that wait with it.
    /// It rides out restarts of the broker, and is closed when the host is disposed.
    /// </remarks>
    public static IServiceCollection AddFastQ(this IServiceCollection services, SessionOptions? options = null)
    {
        options ??= new SessionOptions();
        services.TryAddSingleton(provider =>
        {
            ILogger<Connection> logger = provider.GetRequiredService<ILogger<Connection>>();
            return Connection.Open(options, refusal => Log.Refused(logger, refusal));
        });
        services.TryAddSingleton<FastQHealthCheck>();
        if (!services.Any(service => service.ServiceType == typeof(ConnectionStart)))
        {
            services.AddSingleton(provider => new ConnectionStart(provider.GetRequiredService<Connection>(), options, provider.GetRequiredService<ILogger<Connection>>()));
            services.AddSingleton<IHostedService>(provider => provider.GetRequiredService<ConnectionStart>());
        }

        return services;
    }

    /// <summary>Adds a <see cref="Consumer"/> that runs as long as the host. Needs <see cref="AddFastQ"/>.</summary>
    /// <param name="services">The host's.</param>
    /// <param name="queue">Its name. A queue that does not exist fails the start.</param>
    /// <param name="handler">See <see cref="Consumer.StartAsync"/>.</param>
    /// <param name="options">Null: the defaults. What fails is logged beside what <see cref="ConsumerOptions.Failed"/> does.</param>
    /// <remarks>
    /// When the host stops, all consumers stop to take at once, and the stop waits for handlers within the host's ShutdownTimeout (30 s by default); then what they have in hand goes back uncounted. A consumer that ends by itself,
    /// as its queue was deleted or the broker stayed away for longer than the patience, stops the host.
    /// </remarks>
    public static IServiceCollection AddFastQConsumer(this IServiceCollection services, string queue, Func<Message, CancellationToken, Task> handler, ConsumerOptions? options = null) =>
        services.AddFastQConsumer(queue, _ => handler, options);

    /// <summary>As above, with a handler that is made for each message in a scope of its own, which ends with it.</summary>
    /// <typeparam name="THandler">Added as a scoped service, unless the program has added it.</typeparam>
    /// <inheritdoc cref="AddFastQConsumer(IServiceCollection, string, Func{Message, CancellationToken, Task}, ConsumerOptions?)"/>
    public static IServiceCollection AddFastQConsumer<[DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.PublicConstructors)] THandler>(this IServiceCollection services, string queue, ConsumerOptions? options = null)
        where THandler : class, IMessageHandler
    {
        services.TryAddScoped<THandler>();
        return services.AddFastQConsumer(queue, provider => (message, cancellation) => HandleInScopeAsync<THandler>(provider, message, cancellation), options);
    }

    private static async Task HandleInScopeAsync<THandler>(IServiceProvider provider, Message message, CancellationToken cancellation)
        where THandler : class, IMessageHandler
    {
        AsyncServiceScope scope = provider.CreateAsyncScope();
        await using (scope.ConfigureAwait(false))
        {
            await scope.ServiceProvider.GetRequiredService<THandler>().HandleAsync(message, cancellation).ConfigureAwait(false);
        }
    }

    private static IServiceCollection AddFastQConsumer(this IServiceCollection services, string queue, Func<IServiceProvider, Func<Message, CancellationToken, Task>> handler, ConsumerOptions? options) =>
        services.AddSingleton<IHostedService>(provider => new HostedConsumer(
            provider.GetService<Connection>() ?? throw new InvalidOperationException($"The consumer of queue '{queue}' needs a connection: call services.AddFastQ()."),
            queue,
            handler(provider),
            options ?? new ConsumerOptions(),
            provider.GetRequiredService<IHostApplicationLifetime>(),
            provider.GetRequiredService<ILogger<Consumer>>()));
}
