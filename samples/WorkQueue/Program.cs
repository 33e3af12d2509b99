using System.Text;
using FastQ.Client;

// A work queue: whoever is free takes the next job. A job that was begun and not accepted, as its worker died, goes to somebody else.

const string Queue = "samples.work";
const int Jobs = 12;
await using Connection connection = await Connection.ConnectAsync();
await connection.DeclareQueueAsync(Queue);

TaskCompletionSource allDone = new();
int done = 0;

await using Consumer first = await Consumer.StartAsync(connection, Queue, (message, _) => WorkAsync("first", message), new ConsumerOptions { Parallelism = 2 });
await using Consumer second = await Consumer.StartAsync(connection, Queue, (message, _) => WorkAsync("second", message), new ConsumerOptions { Parallelism = 2 });

for (int job = 1; job <= Jobs; job++)
{
    await connection.PublishAsync(Queue, Encoding.UTF8.GetBytes($"job {job}")); // Back when it is on the disk.
}

await allDone.Task;
await first.StopAsync();
await second.StopAsync(); // Everything is settled now.
QueueInfo queue = await connection.GetQueueAsync(Queue);
Console.WriteLine($"{first.Health.Accepted + second.Health.Accepted} jobs done, {queue.Messages} left");

async Task WorkAsync(string worker, Message message)
{
    await Task.Delay(20); // The work.
    Console.WriteLine($"{message.Text} done by the {worker} worker");
    if (Interlocked.Increment(ref done) == Jobs)
    {
        allDone.SetResult();
    }
}
