using System.Text;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

/// <summary>Transactions through the real client, against a broker on a thread of this process.</summary>
public sealed class TransactionTests : IDisposable
{
    private static readonly TimeSpan s_long = TimeSpan.FromSeconds(20);
    private readonly RunningBroker _broker = new();

    public void Dispose() => _broker.Dispose();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    private Task<Connection> ConnectAsync() => Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket, Patience = s_long }, cancellation: Cancellation);

    [Fact]
    public async Task What_is_consumed_and_what_is_published_of_it_take_effect_together()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("in", cancellation: Cancellation);
        await connection.DeclareQueueAsync("out", new QueueOptions { Lz4FromBytes = 100 }, Cancellation);
        await connection.DeclareQueueAsync("log", cancellation: Cancellation);
        foreach (string body in (string[])["a", "b", "c", "d"])
        {
            await connection.PublishAsync("in", Encoding.UTF8.GetBytes(body), cancellation: Cancellation);
        }

        await using Subscriber subscriber = await connection.SubscribeAsync("in", cancellation: Cancellation);
        Message[] came = [await TakeAsync(subscriber), await TakeAsync(subscriber), await TakeAsync(subscriber), await TakeAsync(subscriber)];
        await using (Transaction transaction = connection.BeginTransaction())
        {
            transaction.Publish("out", Encoding.UTF8.GetBytes(new string('x', 5000)), new PublishOptions { MessageId = "m", Headers = new() { ["k"] = 7 } });
            transaction.Accept(came[0]);
            transaction.Accept(came[1]);
            transaction.Publish("log", "done"u8.ToArray());
            transaction.Release(came[2], isCounted: false);
            transaction.Reject(came[3], "no such customer");
            Assert.Equal(0L, (await connection.GetQueueAsync("out", Cancellation)).Messages);
            await transaction.CommitAsync(cancellation: Cancellation);
        }

        QueueInfo from = await connection.GetQueueAsync("in", Cancellation);
        Assert.Equal((2ul, 1ul), (from.Accepted, from.Rejected));
        await using Subscriber outputs = await connection.SubscribeAsync("out", cancellation: Cancellation);
        Message output = await TakeAsync(outputs);
        Assert.Equal((new string('x', 5000), "m", true), (output.Text, output.MessageId, output.StoredBody.Length < 1000));
        Message again = await TakeAsync(subscriber);
        Assert.Equal(("c", 1), (again.Text, again.DeliveryCount));
        await using Subscriber dead = await connection.SubscribeAsync("in.dead", cancellation: Cancellation);
        Assert.Equal("no such customer", (await TakeAsync(dead)).Deaths[0].Text);
        Assert.Equal(1L, (await connection.GetQueueAsync("log", Cancellation)).Ready);
    }

    [Fact]
    public async Task Messages_to_exchanges_are_part_of_it_stored_once_and_judged_with_the_rest()
    {
        await using Connection connection = await ConnectAsync();
        foreach (string queue in (string[])["in", "a", "b"])
        {
            await connection.DeclareQueueAsync(queue, cancellation: Cancellation);
        }

        await connection.DeclareQueueAsync("small", new QueueOptions { MaxLength = 3 }, Cancellation);
        await connection.DeclareExchangeAsync("e", ExchangeType.Topic, cancellation: Cancellation);
        foreach ((string queue, string key) in ((string, string)[])[("a", "#"), ("b", "two.*"), ("small", "two.few")])
        {
            await connection.BindAsync("e", queue, new BindingOptions { Key = key }, Cancellation);
        }

        await connection.PublishAsync("b", "before"u8.ToArray(), new PublishOptions { DeduplicationId = "same" }, Cancellation);
        await using (Transaction transaction = connection.BeginTransaction())
        {
            transaction.Publish("a", "first"u8.ToArray());
            transaction.PublishToExchange("e", "two.few", "to three"u8.ToArray(), new PublishOptions { DeduplicationId = "d" });
            transaction.PublishToExchange("e", "two.few", "to none, for each has it"u8.ToArray(), new PublishOptions { DeduplicationId = "d" });
            transaction.PublishToExchange("e", "one", "to one"u8.ToArray());
            transaction.PublishToExchange("e", "two.x", "to a alone, for b has it"u8.ToArray(), new PublishOptions { DeduplicationId = "same" });
            transaction.Publish("a", "last"u8.ToArray());
            await transaction.CommitAsync(cancellation: Cancellation);
        }

        Transaction full = connection.BeginTransaction();
        full.PublishToExchange("e", "two.few", new byte[1]);
        full.PublishToExchange("e", "two.few", new byte[1]);
        full.PublishToExchange("e", "two.few", new byte[1]);
        FastQException beyond = await Assert.ThrowsAsync<FastQException>(async () => await full.CommitAsync(cancellation: Cancellation));
        Assert.Equal((RefusalCode.LimitReached, 3ul), (beyond.Code, beyond.Value));
        Assert.Contains("Operation 3 of the transaction: nothing of it has happened. Queue small: The queue's max-length", beyond.Message, StringComparison.Ordinal);
        await connection.DeclareExchangeAsync("nobody", cancellation: Cancellation);
        Transaction lost = connection.BeginTransaction();
        lost.Publish("in", new byte[1]);
        lost.PublishToExchange("nobody", "", new byte[1]);
        Assert.Equal(RefusalCode.Unroutable, (await Assert.ThrowsAsync<FastQException>(async () => await lost.CommitAsync(cancellation: Cancellation))).Code);
        Transaction optional = connection.BeginTransaction();
        optional.PublishToExchange("nobody", "", new byte[1], new PublishOptions { IsMandatory = false });
        optional.Publish("in", new byte[1]);
        await optional.CommitAsync(cancellation: Cancellation);
        _broker.Stop();
        _broker.Start();
        Assert.Equal(1L, (await connection.GetExchangeAsync("nobody", Cancellation)).Discarded);
        Assert.Equal(1L, (await connection.GetQueueAsync("in", Cancellation)).Messages);
        Assert.Equal(["first", "to three", "to one", "to a alone, for b has it", "last"], await TextsAsync(connection, "a", 5));
        Assert.Equal(["before", "to three"], await TextsAsync(connection, "b", 2));
        Assert.Equal(["to three"], await TextsAsync(connection, "small", 1));
        Assert.All(["a", "b", "small"], queue => Assert.Equal(0L, connection.GetQueueAsync(queue, Cancellation).Result.Messages));
    }

    private static async Task<string[]> TextsAsync(Connection connection, string queue, int count)
    {
        await using Subscriber subscriber = await connection.SubscribeAsync(queue, cancellation: Cancellation);
        string[] texts = new string[count];
        for (int i = 0; i < count; i++)
        {
            Message message = await TakeAsync(subscriber);
            texts[i] = message.Text;
            await message.AcceptAsync(cancellation: Cancellation);
        }

        return texts;
    }

    // CASES B112: what was not committed never was.
    [Fact]
    public async Task One_that_is_rolled_back_refused_or_late_has_done_nothing_and_its_messages_are_still_in_hand()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("in", cancellation: Cancellation);
        await connection.DeclareQueueAsync("out", new QueueOptions { MaxLength = 1 }, Cancellation);
        await connection.PublishAsync("in", new byte[1], cancellation: Cancellation);
        await using Subscriber subscriber = await connection.SubscribeAsync("in", cancellation: Cancellation);
        Message message = await TakeAsync(subscriber);
        await using (Transaction forgotten = connection.BeginTransaction())
        {
            forgotten.Accept(message);
            forgotten.Publish("out", new byte[1]);
            Assert.Equal(RefusalCode.AlreadySettled, Assert.Throws<FastQException>(() => forgotten.Accept(message)).Code);
        }

        await using Transaction refused = connection.BeginTransaction();
        refused.Accept(message);
        refused.Publish("out", new byte[1]);
        refused.Publish("out", new byte[1]);
        FastQException full = await Assert.ThrowsAsync<FastQException>(async () => await refused.CommitAsync(cancellation: Cancellation));
        Assert.Equal((RefusalCode.LimitReached, 1ul), (full.Code, full.Value));
        Assert.Contains("Operation 3 of the transaction: nothing of it has happened. The queue's max-length", full.Message, StringComparison.Ordinal);
        Assert.Equal(RefusalCode.Closed, Assert.Throws<FastQException>(() => refused.Publish("out", new byte[1])).Code);

        await using Transaction late = connection.BeginTransaction(TimeSpan.Zero);
        Assert.Equal(RefusalCode.TimedOut, (await Assert.ThrowsAsync<FastQException>(async () => await late.CommitAsync(cancellation: Cancellation))).Code);
        Assert.Equal((0ul, 0ul), ((await connection.GetQueueAsync("out", Cancellation)).Published, (await connection.GetQueueAsync("in", Cancellation)).Accepted));

        await using Transaction good = connection.BeginTransaction();
        good.Accept(message);
        good.Publish("out", new byte[1]);
        await good.CommitAsync(cancellation: Cancellation);
        await using Transaction twice = connection.BeginTransaction();
        twice.Publish("in", new byte[1]);
        twice.Accept(message);
        Assert.Equal(RefusalCode.AlreadySettled, (await Assert.ThrowsAsync<FastQException>(async () => await twice.CommitAsync(cancellation: Cancellation))).Code);
        Assert.Equal((1ul, 1ul, 1ul), ((await connection.GetQueueAsync("out", Cancellation)).Published, (await connection.GetQueueAsync("in", Cancellation)).Accepted, (await connection.GetQueueAsync("in", Cancellation)).Published));
    }

    // CASES B111: each commit is a record of its own with its own numbers: nothing of one can meet another.
    [Fact]
    public async Task Many_at_once_each_take_effect_alone_and_half_of_them_are_refused_or_rolled_back()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("a", cancellation: Cancellation);
        await connection.DeclareQueueAsync("b", cancellation: Cancellation);
        await connection.DeclareQueueAsync("shut", cancellation: Cancellation);
        await connection.PauseQueueAsync("shut", PausedWays.In, Cancellation);
        const int Transactions = 200;
        bool[] committed = new bool[Transactions];
        await Parallel.ForEachAsync(Enumerable.Range(0, Transactions), Cancellation, async (i, cancellation) =>
        {
            await using Transaction transaction = connection.BeginTransaction();
            transaction.Publish("a", BitConverter.GetBytes(i));
            transaction.Publish(i % 4 == 1 ? "shut" : "b", BitConverter.GetBytes(i));
            if (i % 4 != 3)
            {
                committed[i] = await IsCommittedAsync(transaction, cancellation);
            }
        });
        int[] expected = [.. Enumerable.Range(0, Transactions).Where(i => i % 2 == 0)];
        Assert.Equal(expected, Enumerable.Range(0, Transactions).Where(i => committed[i]));
        foreach (string queue in (string[])["a", "b"])
        {
            IReadOnlyList<BrowsedMessage> there = await connection.BrowseAsync(queue, 1000, cancellation: Cancellation);
            Assert.Equal(expected, there.Select(message => BitConverter.ToInt32(message.Body.Span)).Order());
        }
    }

    [Fact]
    public async Task Limits_are_refused_by_name_and_value_before_anything_is_sent()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        await using Transaction many = connection.BeginTransaction();
        byte[] body = new byte[1];
        for (int i = 0; i < Limits.MaxTransactionOperations; i++)
        {
            many.Publish("q", body);
        }

        FastQException tooMany = Assert.Throws<FastQException>(() => many.Publish("q", body));
        Assert.Equal((RefusalCode.LimitReached, 65_536ul), (tooMany.Code, tooMany.Value));
        await many.CommitAsync(cancellation: Cancellation);
        Assert.Equal(65_536L, (await connection.GetQueueAsync("q", Cancellation)).Ready);

        await using Transaction large = connection.BeginTransaction();
        large.Publish("q", new byte[9 << 20]);
        large.Publish("q", new byte[9 << 20]);
        FastQException tooLarge = await Assert.ThrowsAsync<FastQException>(async () => await large.CommitAsync(cancellation: Cancellation));
        Assert.Equal((RefusalCode.TooLarge, (ulong)Limits.MaxTransactionBytes), (tooLarge.Code, tooLarge.Value));
        Assert.Equal(65_536ul, (await connection.GetQueueAsync("q", Cancellation)).Published);
        await connection.PurgeQueueAsync("q", Cancellation);

        await using Transaction fits = connection.BeginTransaction(); // Far larger than a block.
        for (int i = 0; i < 15; i++)
        {
            fits.Publish("q", new byte[1 << 20]);
        }

        await fits.CommitAsync(cancellation: Cancellation);
        Assert.Equal(15L, (await connection.GetQueueAsync("q", Cancellation)).Ready);
    }

    [Fact]
    public void In_place_on_a_session_ranges_are_one_record_and_what_a_commit_settles_is_out_of_hand()
    {
        using Session session = _broker.Connect();
        session.DeclareQueue("in");
        session.DeclareQueue("out");
        QueueHandle from = session.OpenQueue("in"), to = session.OpenQueue("out");
        for (int i = 0; i < 6; i++)
        {
            session.Publish(from, [(byte)i]);
        }

        session.Flush();
        Subscription subscription = session.Subscribe("in");
        List<Delivery> deliveries = [];
        while (deliveries.Count < 6 && subscription.Receive(s_long, out Delivery delivery))
        {
            deliveries.Add(delivery);
        }

        using SessionTransaction transaction = session.BeginTransaction();
        transaction.Accept(deliveries[0]);
        transaction.Accept(deliveries[1]);
        transaction.Accept(deliveries[2]);
        Assert.Equal(1, transaction.Count);
        transaction.Publish(to, "x"u8);
        transaction.Release(deliveries[3]);
        transaction.Reject(deliveries[4], "no");
        Assert.Equal((4, 6), (transaction.Count, subscription.InHand));
        transaction.Commit();
        Assert.Equal((1, 3ul, 1ul, 1L), (subscription.InHand, session.GetQueue("in").Accepted, session.GetQueue("in").Rejected, session.GetQueue("out").Ready));
        Assert.False(subscription.Holds(deliveries[0]));
        Assert.True(subscription.Holds(deliveries[5]));
        Assert.Equal("x"u8.ToArray(), Assert.Single(session.Browse("out")).Body.ToArray());
    }

    [Fact]
    public void A_commit_that_the_broker_dies_under_is_sent_again_and_takes_effect_once()
    {
        using Session session = _broker.Connect();
        session.DeclareQueue("q");
        QueueHandle queue = session.OpenQueue("q");
        _broker.Stop();
        using SessionTransaction transaction = session.BeginTransaction();
        transaction.Publish(queue, [1]);
        transaction.Publish(queue, [2]);
        ulong last = transaction.Send(); // Nobody is there to take it.
        _broker.Start();
        session.WaitConfirmed(last, ConfirmLevel.Durable);
        Assert.Equal((1, 1L), (session.Reconnects, session.Resent)); // One record of the ring.
        _broker.Stop();
        _broker.Start();
        Assert.Equal(2ul, session.GetQueue("q").Published);
        session.Publish(queue, [3]);
        session.Flush();
        Assert.Equal([1, 2, 3], session.Browse("q").Select(message => (int)message.Body.Span[0]));
    }

    private static async Task<bool> IsCommittedAsync(Transaction transaction, CancellationToken cancellation)
    {
        try
        {
            await transaction.CommitAsync(ConfirmLevel.Written, cancellation);
            return true;
        }
        catch (FastQException refused) when (refused.Code == RefusalCode.Paused)
        {
            return false;
        }
    }

    private static async Task<Message> TakeAsync(Subscriber subscriber) => await subscriber.ReceiveAsync(s_long, Cancellation) ?? throw new InvalidOperationException("No message came.");
}
