using FastQ.Client;
using FastQ.Protocol;

// Publish-subscribe: who sends knows an exchange and a key, who receives says which keys it wants. A queue that is bound keeps what comes
// while nobody is there (the billing); who only listens has a queue of its own that goes when it does (the screen).

const string Exchange = "samples.events";
const string Billing = "samples.billing";
await using Connection connection = await Connection.ConnectAsync();
await connection.DeclareExchangeAsync(Exchange, ExchangeType.Topic);
await connection.DeclareQueueAsync(Billing);
await connection.BindAsync(Exchange, Billing, new BindingOptions { Key = "order.*.paid" });

await using Subscriber screen = await connection.SubscribeToExchangeAsync(Exchange, new BindingOptions { Key = "order.#" });

foreach (string key in (string[])["order.1.created", "order.1.paid", "order.2.created"])
{
    await connection.PublishToExchangeAsync(Exchange, key, "details"u8.ToArray()); // On the disk, once, whoever gets it.
}

try
{
    await connection.PublishToExchangeAsync(Exchange, "stock.empty", "details"u8.ToArray());
}
catch (FastQException nobody) when (nobody.Code == RefusalCode.Unroutable)
{
    Console.WriteLine("nobody wants stock.empty");
}

for (int i = 0; i < 3; i++)
{
    Message shown = (await screen.ReceiveAsync(TimeSpan.FromSeconds(10)))!;
    Console.WriteLine($"screen: {shown.RoutingKey}");
    await shown.AcceptAsync();
}

await using Subscriber billing = await connection.SubscribeAsync(Billing);
Message paid = (await billing.ReceiveAsync(TimeSpan.FromSeconds(10)))!;
Console.WriteLine($"billing: {paid.RoutingKey}");
await paid.AcceptAsync();
Console.WriteLine($"{(await connection.GetQueueAsync(Billing)).Messages} left");
