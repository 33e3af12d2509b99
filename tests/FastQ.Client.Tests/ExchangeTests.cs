using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

/// <summary>Exchanges through the real client: what reaches whom, what is refused, and that what is shared is read whole.</summary>
public sealed class ExchangeTests : IDisposable
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);
    private readonly RunningBroker _broker = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _broker.Dispose();

    private Task<Connection> ConnectAsync() => Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket, Patience = Soon }, cancellation: Cancellation);

    private static async Task<Message> TakeAsync(Connection connection, string queue)
    {
        await using Subscriber subscriber = await connection.SubscribeAsync(queue, cancellation: Cancellation);
        Message message = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
        await message.AcceptAsync(cancellation: Cancellation);
        return message;
    }

    [Fact]
    public async Task A_message_to_an_exchange_comes_to_each_queue_that_it_leads_to_with_its_exchange_and_key_over_a_restart()
    {
        await using Connection connection = await ConnectAsync();
        ExchangeInfo events = await connection.DeclareExchangeAsync("events", ExchangeType.Topic, "rest", Cancellation);
        Assert.Equal(("events", ExchangeType.Topic, "rest", 0, 0L), (events.Name, events.Type, events.Alternate, events.Bindings, events.Discarded));
        await connection.DeclareExchangeAsync("rest", ExchangeType.Fanout, cancellation: Cancellation);
        foreach (string queue in new[] { "orders", "all", "rest" })
        {
            await connection.DeclareQueueAsync(queue, cancellation: Cancellation);
        }

        await connection.BindAsync("events", "orders", new BindingOptions { Key = "order.*" }, Cancellation);
        await connection.BindAsync("events", "all", new BindingOptions { Key = "order.#" }, Cancellation);
        await connection.BindAsync("rest", "rest", cancellation: Cancellation);
        Assert.Equal(new Published(null, 2), await connection.PublishToExchangeAsync("events", "order.created", "one"u8.ToArray(), new PublishOptions { Type = "t" }, Cancellation));
        Assert.Equal(new Published(null, 1), await connection.PublishToExchangeAsync("events", "order", "two"u8.ToArray(), cancellation: Cancellation));
        await connection.PublishToExchangeAsync("events", "user.created", "three"u8.ToArray(), cancellation: Cancellation);
        _broker.Stop();
        _broker.Start();
        Message first = await TakeAsync(connection, "orders"), same = await TakeAsync(connection, "all"), next = await TakeAsync(connection, "all"), other = await TakeAsync(connection, "rest");
        Assert.Equal(("one", "t", "events", "order.created"), (first.Text, first.Type, first.Exchange, first.RoutingKey));
        Assert.Equal(("one", first.Timestamp, "two", "three"), (same.Text, same.Timestamp, next.Text, other.Text));
        Assert.Equal([("all", "order.#"), ("orders", "order.*")], (await connection.GetBindingsAsync("events", Cancellation)).Select(binding => (binding.Target, binding.Key)).Order());
        await connection.UnbindAsync("events", "orders", new BindingOptions { Key = "order.*" }, Cancellation);
        Assert.Equal(1, (await connection.GetExchangeAsync("events", Cancellation)).Bindings);
        await connection.DeleteExchangeAsync("rest", Cancellation);
        Assert.Equal("events", Assert.Single(await connection.ListExchangesAsync(Cancellation)).Name);
        Assert.Equal(RefusalCode.UnknownExchange, (await Assert.ThrowsAsync<FastQException>(() => connection.GetExchangeAsync("rest", Cancellation))).Code);
    }

    // CASES B107: the sender is told.
    [Fact]
    public async Task What_reaches_no_queue_is_refused_unless_the_sender_says_that_it_may_and_one_queue_that_refuses_is_named()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareExchangeAsync("e", ExchangeType.Headers, cancellation: Cancellation);
        await connection.DeclareExchangeAsync("inner", ExchangeType.Fanout, cancellation: Cancellation);
        await connection.DeclareQueueAsync("a", cancellation: Cancellation);
        await connection.DeclareQueueAsync("small", new QueueOptions { MaxLength = 1 }, Cancellation);
        FastQException nobody = await Assert.ThrowsAsync<FastQException>(async () => await connection.PublishToExchangeAsync("e", "", new byte[1], cancellation: Cancellation));
        Assert.Equal((RefusalCode.Unroutable, "unroutable"), (nobody.Code, nobody.Name));
        Assert.Equal(new Published(null, 0), await connection.PublishToExchangeAsync("e", "", new byte[1], new PublishOptions { IsMandatory = false }, Cancellation));
        Assert.Null((await connection.PublishToExchangeAsync("e", "", new byte[1], new PublishOptions { IsMandatory = false, Confirm = ConfirmLevel.None }, Cancellation)).Queues);
        Assert.Equal(2L, (await connection.GetExchangeAsync("e", Cancellation)).Discarded);
        await connection.BindAsync("e", "a", new BindingOptions { Headers = new Dictionary<string, HeaderValue> { ["n"] = 7, ["t"] = "x" } }, Cancellation);
        await connection.BindExchangeAsync("e", "inner", new BindingOptions { Headers = new Dictionary<string, HeaderValue> { ["n"] = 7 }, Match = HeaderMatch.Any }, Cancellation);
        await connection.BindAsync("inner", "small", cancellation: Cancellation);
        PublishOptions headed = new() { Headers = new() { ["n"] = 7, ["t"] = "x" } };
        await connection.PublishToExchangeAsync("e", "", new byte[1], headed, Cancellation);
        FastQException full = await Assert.ThrowsAsync<FastQException>(async () => await connection.PublishToExchangeAsync("e", "", new byte[1], headed, Cancellation));
        Assert.Equal((RefusalCode.LimitReached, 1ul), (full.Code, full.Value));
        Assert.Contains("Queue small: The queue's max-length", full.Message, StringComparison.Ordinal);
        Assert.Equal((1L, 1L), ((await connection.GetQueueAsync("a", Cancellation)).Ready, (await connection.GetQueueAsync("small", Cancellation)).Ready));
        Assert.Equal(RefusalCode.UnknownExchange, (await Assert.ThrowsAsync<FastQException>(async () => await connection.PublishToExchangeAsync("none", "", new byte[1], cancellation: Cancellation))).Code);
        Assert.Equal(RefusalCode.UnknownQueue, (await Assert.ThrowsAsync<FastQException>(() => connection.BindAsync("e", "none", cancellation: Cancellation))).Code);
    }

    // CASES B120: a large message is whole in each of the queues; by reference, by copy, and where the reader verifies.
    [Theory]
    [InlineData(100, false)]
    [InlineData(3_000_000, false)]
    [InlineData(3_000_000, true)]
    public void A_message_of_any_size_is_whole_in_every_queue_and_its_bytes_are_stored_once(int bodyBytes, bool byCopy)
    {
        using Session session = _broker.Connect(options => options with { VerifiesAll = true, WantsCopies = byCopy });
        session.DeclareExchange("e", ExchangeType.Fanout);
        for (int i = 0; i < 10; i++)
        {
            session.DeclareQueue($"q{i}");
            session.Bind("e", $"q{i}");
        }

        ExchangeHandle exchange = session.OpenExchange("e");
        byte[] body = [.. Enumerable.Range(0, bodyBytes).Select(i => (byte)(i * 31))];
        session.Publish(exchange, body, properties: new PublishOptions { RoutingKey = "k" }.ToBytes());
        session.Flush();
        using System.Text.Json.JsonDocument statistics = System.Text.Json.JsonDocument.Parse(session.GetStatistics());
        Assert.InRange(statistics.RootElement.GetProperty("journal").GetProperty("liveBytes").GetInt64(), bodyBytes, bodyBytes + 200);
        for (int i = 0; i < 10; i++)
        {
            Subscription subscription = session.Subscribe($"q{i}");
            Assert.True(subscription.Receive(Soon, out Delivery delivery));
            Assert.True(delivery.Body.SequenceEqual(body));
            Assert.Equal("k", delivery.Text(PropertyTag.RoutingKey));
            subscription.Accept(delivery);
        }

        session.Flush();
        Assert.All(session.ListQueues(), queue => Assert.Equal((1ul, 0L), (queue.Accepted, queue.Messages)));
    }

    [Fact]
    public async Task Who_listens_to_an_exchange_has_a_queue_of_its_own_that_goes_with_it()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareExchangeAsync("news", ExchangeType.Topic, cancellation: Cancellation);
        string own;
        await using (Connection listener = await ConnectAsync())
        {
            await using Subscriber one = await listener.SubscribeToExchangeAsync("news", new BindingOptions { Key = "sport.#" }, cancellation: Cancellation);
            await using Subscriber other = await listener.SubscribeToExchangeAsync("news", new BindingOptions { Key = "#" }, cancellation: Cancellation);
            await connection.PublishToExchangeAsync("news", "sport.chess", "mate"u8.ToArray(), cancellation: Cancellation);
            Message message = (await one.ReceiveAsync(Soon, Cancellation))!;
            Assert.Equal(("mate", "mate", "sport.chess"), (message.Text, (await other.ReceiveAsync(Soon, Cancellation))!.Text, message.RoutingKey));
            own = message.Queue;
            Assert.True((await connection.GetQueueAsync(own, Cancellation)).IsTemporary);
            Assert.Equal(RefusalCode.Denied, (await Assert.ThrowsAsync<FastQException>(() => connection.SubscribeAsync(own, cancellation: Cancellation))).Code);
            Assert.Equal(2, (await connection.ListQueuesAsync(Cancellation)).Count);
        }

        while ((await connection.ListQueuesAsync(Cancellation)).Count > 0)
        {
        }

        Assert.Equal(0, (await connection.GetExchangeAsync("news", Cancellation)).Bindings);
    }

    [Fact]
    public async Task Dead_letters_go_through_an_exchange_by_their_own_key_and_tell_their_story_in_every_queue()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareExchangeAsync("morgue", ExchangeType.Topic, cancellation: Cancellation);
        await connection.DeclareExchangeAsync("in", ExchangeType.Direct, cancellation: Cancellation);
        QueueInfo work = await connection.DeclareQueueAsync("work", new QueueOptions { DeadLetterExchange = "morgue" }, Cancellation);
        Assert.Equal(("morgue", ""), (work.DeadLetterExchange, work.DeadLetter));
        await connection.BindAsync("in", "work", new BindingOptions { Key = "eu.order" }, Cancellation);
        await connection.PublishToExchangeAsync("in", "eu.order", "body"u8.ToArray(), cancellation: Cancellation);
        await using (Subscriber subscriber = await connection.SubscribeAsync("work", cancellation: Cancellation))
        {
            await (await subscriber.ReceiveAsync(Soon, Cancellation))!.RejectAsync("no", cancellation: Cancellation);
        }

        BrowsedMessage stays;
        do
        {
            stays = Assert.Single(await connection.BrowseAsync("work", 9, cancellation: Cancellation));
        }
        while (stays.Reason != DeathReason.Unroutable);

        await connection.DeclareQueueAsync("europe", cancellation: Cancellation);
        await connection.DeclareQueueAsync("all", cancellation: Cancellation);
        await connection.BindAsync("morgue", "all", new BindingOptions { Key = "#" }, Cancellation);
        await connection.BindAsync("morgue", "europe", new BindingOptions { Key = "eu.*" }, Cancellation);
        Message one = await TakeAsync(connection, "all");
        Assert.Equal(("body", "work", DeathReason.Rejected, "no", "in"), (one.Text, one.Deaths[0].Queue, one.Deaths[0].Reason, one.Deaths[0].Text, one.Exchange));
        Assert.Equal((0L, 1ul), ((await connection.GetQueueAsync("work", Cancellation)).Messages, (await connection.GetQueueAsync("work", Cancellation)).DeadLettered));
    }
}
