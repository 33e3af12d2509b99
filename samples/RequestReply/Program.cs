using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using FastQ.Client;
using FastQ.Protocol;

// Request and reply: ask, and get the answer, or hear at once that there will be none. Replies need no queue: they pass through memory.

const string Prices = "samples.prices";
const string Countdown = "samples.countdown";
await using Connection connection = await Connection.ConnectAsync();
await connection.DeclareQueueAsync(Prices);
await connection.DeclareQueueAsync(Countdown);

try
{
    await connection.RequestAsync(Prices, "tea"u8.ToArray());
}
catch (FastQException missing) when (missing.Code == RefusalCode.NoResponder)
{
    Console.WriteLine("nobody answers yet");
}

await using Connection shop = await Connection.ConnectAsync(); // As in another process.
await using (await Responder.StartAsync(shop, Prices, (request, _) => Task.FromResult(PriceOf(request.Text)), new ConsumerOptions { Parallelism = 4 }))
{
    Reply[] replies = await Task.WhenAll("tea ink paper".Split(' ').Select(item => connection.RequestAsync(Prices, Encoding.UTF8.GetBytes(item)).AsTask()));
    Console.WriteLine($"tea, ink and paper cost {string.Join(", ", replies.Select(reply => reply.Text))}");
    try
    {
        await connection.RequestAsync(Prices, "a typewriter"u8.ToArray());
    }
    catch (RequestFailedException failed)
    {
        Console.WriteLine($"the shop says: {failed.Words} ({failed.Code})");
    }
}

await using (await Responder.StartStreamAsync(shop, Countdown, (request, cancellation) => CountAsync(int.Parse(request.Text, CultureInfo.InvariantCulture), cancellation)))
{
    await foreach (Reply part in connection.RequestStreamAsync(Countdown, "3"u8.ToArray()))
    {
        Console.WriteLine($"{part.Text} ...");
    }
}

// One that takes a request and never answers: the time-out ends the wait, and the request expires with it.
await using Subscriber silent = await shop.SubscribeAsync(Prices);
try
{
    await connection.RequestAsync(Prices, "tea"u8.ToArray(), new RequestOptions { Timeout = TimeSpan.FromMilliseconds(100) });
}
catch (FastQException late) when (late.Code == RefusalCode.TimedOut)
{
    Console.WriteLine("no reply in time");
}

static ReadOnlyMemory<byte> PriceOf(string item) => item switch
{
    "tea" => "4"u8.ToArray(),
    "ink" => "7"u8.ToArray(),
    "paper" => "2"u8.ToArray(),
    _ => throw new KeyNotFoundException($"no {item} here"),
};

static async IAsyncEnumerable<ReadOnlyMemory<byte>> CountAsync(int from, [EnumeratorCancellation] CancellationToken cancellation = default)
{
    for (int i = from; i > 0; i--)
    {
        await Task.Delay(1, cancellation); // The work.
        yield return Encoding.UTF8.GetBytes(i.ToString(CultureInfo.InvariantCulture));
    }
}
