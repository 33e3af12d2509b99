using System.Text;
using FastQ.Client;

// What becomes of a message whose handler throws: another attempt after a while, until the queue's limit; or the dead letters at once, when no other attempt would help.

const string Queue = "samples.retry";
await using Connection connection = await Connection.ConnectAsync();
await connection.DeclareQueueAsync(Queue, new QueueOptions { MaxDeliveries = 3 }); // Dead letters go to samples.retry.dead, as nobody says otherwise.

foreach (string order in (string[])["a good order", "an unlucky order", "a wrong order", "a hopeless order"])
{
    await connection.PublishAsync(Queue, Encoding.UTF8.GetBytes(order));
}

ConsumerOptions options = new()
{
    Parallelism = 1,
    Retry = new RetryPolicy
    {
        Backoff = new Backoff(First: TimeSpan.FromMilliseconds(50), Factor: 2, Most: TimeSpan.FromSeconds(1)),
        Permanent = [typeof(FormatException)],
    },
    Failed = failure => Console.WriteLine($"{failure.Message.Text}: attempt {failure.Message.DeliveryCount} failed ({failure.Exception.Message}): {failure.Outcome}"),
};
await using (Consumer consumer = await Consumer.StartAsync(connection, Queue, (message, _) => HandleAsync(message), options))
{
    while ((await connection.GetQueueAsync(Queue)).Messages > 0) // Ready, waiting for their next attempt, or in hand.
    {
        await Task.Delay(20);
    }
}

await using Subscriber dead = await connection.SubscribeAsync($"{Queue}.dead");
for (int i = 0; i < 2; i++)
{
    Message letter = await dead.ReceiveAsync(TimeSpan.FromSeconds(10)) ?? throw new TimeoutException("A dead letter is missing");
    Death death = letter.Deaths[0];
    Console.WriteLine($"dead letter: {letter.Text}, of {death.Reason} after {death.Deliveries} deliveries{(death.Text is null ? "" : $": {death.Text}")}");
    await letter.AcceptAsync();
}

static Task HandleAsync(Message message)
{
    switch (message.Text)
    {
        case "an unlucky order" when message.DeliveryCount == 1:
            throw new TimeoutException("the shop is closed"); // Transient: it comes again.
        case "a wrong order":
            throw new FormatException("no such item"); // Permanent, as the policy lists it.
        case "a hopeless order":
            throw new TimeoutException("the shop is gone");
        default:
            Console.WriteLine($"{message.Text}: done at attempt {message.DeliveryCount}");
            return Task.CompletedTask;
    }
}
