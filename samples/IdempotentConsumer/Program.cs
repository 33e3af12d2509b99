using System.Text;
using FastQ.Client;

// A consumer that does each thing once, though messages come at least once: what it has done is marked in one step with its accept, in the broker's ledger, with a small result. Whoever meets the same again skips it.

const string Queue = "samples.payments";
await using Connection connection = await Connection.ConnectAsync();
await connection.DeclareQueueAsync(Queue, new QueueOptions { ProcessedWindow = TimeSpan.FromDays(7), DedupWindow = TimeSpan.Zero });

// A producer that was unsure sends the second payment again.
foreach (string payment in (string[])["payment 1", "payment 2", "payment 2", "payment 3"])
{
    await connection.PublishAsync(Queue, Encoding.UTF8.GetBytes(payment), new PublishOptions { MessageId = payment });
}

TaskCompletionSource allSeen = new();
int seen = 0;
await using (Consumer consumer = await Consumer.StartAsync(connection, Queue, PayAsync, new ConsumerOptions { Parallelism = 1, IsIdempotent = true }))
{
    await connection.PublishAsync(Queue, "the last one"u8.ToArray());
    await allSeen.Task;
    await consumer.StopAsync();
    Console.WriteLine($"{consumer.Health.Accepted} messages, {consumer.Health.AlreadyProcessed} of them were paid before");
}

ReadOnlyMemory<byte>? receipt = await connection.FindProcessedAsync(Queue, "payment 2");
Console.WriteLine($"payment 2: {Encoding.UTF8.GetString(receipt!.Value.Span)}");
await connection.DeleteQueueAsync(Queue);

Task PayAsync(Message message, CancellationToken cancellation)
{
    if (message.Text == "the last one")
    {
        allSeen.SetResult();
        return Task.CompletedTask;
    }

    Console.WriteLine($"{message.Text} is paid");
    message.Result = Encoding.UTF8.GetBytes($"receipt {++seen}"); // Kept with the mark.
    return Task.CompletedTask;
}
