using System.Text;
using FastQ.Client;

// Priorities: what is urgent goes first, whenever it came; of one priority the oldest. With a share, low ones do not starve.

const string Queue = "samples.priority";
const string Shared = "samples.priority.shared";
await using Connection connection = await Connection.ConnectAsync();
await connection.DeclareQueueAsync(Queue, new QueueOptions { Priority = true });
await connection.DeclareQueueAsync(Shared, new QueueOptions { Priority = true, PriorityShare = 25 }); // 25 of 100 deliveries go to lower ones.

foreach ((string text, byte priority) in new[] { ("a newsletter", (byte)0), ("an invoice", (byte)5), ("a fire alarm", (byte)9), ("another newsletter", (byte)0), ("another invoice", (byte)5) })
{
    await connection.PublishAsync(Queue, Encoding.UTF8.GetBytes(text), new PublishOptions { Priority = priority });
}

foreach (string text in await TakeAsync(Queue, 5))
{
    Console.WriteLine(text);
}

for (int i = 1; i <= 40; i++)
{
    await connection.PublishAsync(Shared, Encoding.UTF8.GetBytes("low"), new PublishOptions { Priority = 1 });
    await connection.PublishAsync(Shared, Encoding.UTF8.GetBytes("high"), new PublishOptions { Priority = 8 });
}

List<string> first = await TakeAsync(Shared, 40);
Console.WriteLine($"of the first 40, {first.Count(text => text == "high")} are high and {first.Count(text => text == "low")} are low");

// One at a time: what is in hand already is not overtaken.
async Task<List<string>> TakeAsync(string queue, int count)
{
    await using Subscriber subscriber = await connection.SubscribeAsync(queue, new SubscribeOptions { Credit = 1 });
    List<string> taken = [];
    while (taken.Count < count && await subscriber.ReceiveAsync(TimeSpan.FromSeconds(10)) is Message message)
    {
        taken.Add(message.Text);
        await message.AcceptAsync();
    }

    return taken;
}
