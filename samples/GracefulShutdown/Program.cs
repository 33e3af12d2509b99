using System.Text;
using FastQ.Client;
using FastQ.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

// A host that is stopped in the middle of its work: it takes no more, lets handlers finish, and gives back what did not finish within its patience, as if it had not been delivered.

const string Queue = "samples.shutdown";
await using Connection connection = await Connection.ConnectAsync();
await connection.DeclareQueueAsync(Queue);
for (int job = 1; job <= 5; job++)
{
    await connection.PublishAsync(Queue, Encoding.UTF8.GetBytes($"job {job}"));
}

using CountdownEvent begun = new(2);
TaskCompletionSource stopAsked = new(TaskCreationOptions.RunContinuationsAsynchronously);

HostApplicationBuilder builder = Host.CreateApplicationBuilder(args);
builder.Logging.ClearProviders(); // Only what this program says.
builder.Services.AddFastQ();
builder.Services.AddFastQConsumer(Queue, HandleAsync, new ConsumerOptions { Parallelism = 2 });
using IHost host = builder.Build();
host.Services.GetRequiredService<IHostApplicationLifetime>().ApplicationStopping.Register(stopAsked.SetResult);
await host.StartAsync();
begun.Wait();

Console.WriteLine("both are at work; the host is asked to stop");
using CancellationTokenSource patience = new(TimeSpan.FromSeconds(1)); // With RunAsync, on SIGTERM: HostOptions.ShutdownTimeout.
await host.StopAsync(patience.Token);
Console.WriteLine("the host has stopped");

foreach (BrowsedMessage left in await connection.BrowseAsync(Queue, most: 10))
{
    Console.WriteLine($"left for the next run: {Encoding.UTF8.GetString(left.Body.Span)}, delivered {left.Deliveries} times");
}

await connection.DeleteQueueAsync(Queue);

async Task HandleAsync(Message message, CancellationToken inVain)
{
    begun.Signal();
    await stopAsked.Task; // Work that is half done when the stop comes.
    if (message.Text == "job 2")
    {
        await Task.Delay(Timeout.InfiniteTimeSpan, inVain); // And this one would go on for long.
    }

    Console.WriteLine($"{message.Text} done");
}
