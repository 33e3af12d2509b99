using System.Globalization;
using System.Text;
using FastQ.Client;

// Consume, process, publish: exactly once. What a step takes and what it makes of it are one transaction: there is no moment at which only one of the two has happened, whoever dies when.
//
//   orders --> price each (a transaction a message: accept the order, publish the invoice, count it) --> invoices, journal

const string Orders = "samples.orders", Invoices = "samples.invoices", Journal = "samples.journal";
await using Connection connection = await Connection.ConnectAsync();
foreach (string queue in (string[])[Orders, Invoices, Journal])
{
    await connection.DeclareQueueAsync(queue);
}

for (int order = 1; order <= 4; order++)
{
    await connection.PublishAsync(Orders, Encoding.UTF8.GetBytes($"{order}"));
}

await PriceAsync("a worker that dies before its second commit", commits: 1);
await PriceAsync("the next worker", commits: int.MaxValue);

foreach (string queue in (string[])[Invoices, Journal])
{
    IReadOnlyList<BrowsedMessage> there = await connection.BrowseAsync(queue, most: 10);
    Console.WriteLine($"{queue}: {string.Join(", ", there.Select(message => Encoding.UTF8.GetString(message.Body.Span)))}");
    await connection.DeleteQueueAsync(queue);
}

Console.WriteLine($"orders left: {(await connection.GetQueueAsync(Orders)).Messages}");
await connection.DeleteQueueAsync(Orders);

async Task PriceAsync(string worker, int commits)
{
    await using Connection own = await Connection.ConnectAsync();
    await using Subscriber orders = await own.SubscribeAsync(Orders, new SubscribeOptions { Credit = 1 });
    while (await orders.ReceiveAsync(TimeSpan.FromSeconds(1)) is Message order)
    {
        await using Transaction transaction = own.BeginTransaction();
        int price = int.Parse(order.Text, CultureInfo.InvariantCulture) * 10;
        transaction.Publish(Invoices, Encoding.UTF8.GetBytes($"order {order.Text} costs {price}"));
        transaction.Publish(Journal, Encoding.UTF8.GetBytes($"priced {order.Text}"));
        transaction.Accept(order);
        if (commits-- == 0)
        {
            Console.WriteLine($"{worker}: order {order.Text} is priced, and nobody will ever know");
            return;
        }

        await transaction.CommitAsync();
        Console.WriteLine($"{worker}: order {order.Text} is priced");
    }
}
