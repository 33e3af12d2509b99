using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

// Request and reply through a real broker: one connection asks, another answers.
public sealed class RequestTests : IDisposable
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);
    private readonly RunningBroker _broker = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _broker.Dispose();

    [Fact]
    public async Task A_reply_comes_to_its_request_with_its_properties_and_nothing_is_left()
    {
        await using Connection asking = await ConnectAsync(), answering = await ConnectAsync();
        await asking.DeclareQueueAsync("q", cancellation: Cancellation);
        await using Subscriber subscriber = await answering.SubscribeAsync("q", cancellation: Cancellation);
        RequestOptions options = new() { Message = new PublishOptions { Type = "sum", CorrelationId = "c-7", Headers = new() { ["unit"] = "cm" }, ReplyTo = "not looked at" } };
        Task<Reply> asked = asking.RequestAsync("q", "1 2 3"u8.ToArray(), options, Cancellation).AsTask();
        Message request = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
        Assert.Equal(("1 2 3", "sum", "c-7", "cm", true), (request.Text, request.Type, request.CorrelationId, request.HeaderText("unit"), request.IsRequest));
        Assert.StartsWith("fastq.reply.", request.ReplyTo, StringComparison.Ordinal);
        Assert.True(await request.ReplyAsync("6"u8.ToArray(), new ReplyOptions { ContentType = "text/plain", Type = "number", CorrelationId = request.CorrelationId, Headers = new() { ["exact"] = true } }, cancellation: Cancellation));
        Reply reply = await asked;
        Assert.Equal(("6", "text/plain", "number", "c-7"), (reply.Text, reply.ContentType, reply.Type, reply.CorrelationId));
        Assert.Equal(true, reply.Headers["exact"]);
        QueueInfo queue = await asking.GetQueueAsync("q", Cancellation);
        Assert.Equal((0L, 1ul, 1ul), (queue.Messages, queue.Published, queue.Accepted));
        Assert.Equal(["q"], (await asking.ListQueuesAsync(Cancellation)).Select(one => one.Name)); // No queue was made for the reply.
        Assert.Equal(RefusalCode.AlreadySettled, (await Assert.ThrowsAsync<FastQException>(() => request.ReplyAsync("7"u8.ToArray(), cancellation: Cancellation).AsTask())).Code);
    }

    [Fact]
    public async Task A_missing_responder_is_told_at_once_unless_the_request_waits_for_one()
    {
        await using Connection asking = await ConnectAsync(), answering = await ConnectAsync();
        await asking.DeclareQueueAsync("q", cancellation: Cancellation);
        RequestOptions longWait = new() { Timeout = TimeSpan.FromHours(1) };
        FastQException missing = await Assert.ThrowsAsync<FastQException>(() => asking.RequestAsync("q", "x"u8.ToArray(), longWait, Cancellation).AsTask());
        Assert.Equal((RefusalCode.NoResponder, "no-responder"), (missing.Code, missing.Name));
        Assert.Equal(RefusalCode.UnknownQueue, (await Assert.ThrowsAsync<FastQException>(() => asking.RequestAsync("none", "x"u8.ToArray(), longWait, Cancellation).AsTask())).Code);
        Task<Reply> patient = asking.RequestAsync("q", "x"u8.ToArray(), longWait with { WaitsForResponder = true }, Cancellation).AsTask();
        await using Consumer responder = await EchoAsync(answering, "q");
        Assert.Equal("x", (await patient).Text);
    }

    // CASES: a requester learns of its responder's death by the hang-up, not by the time-out.
    [Fact]
    public async Task A_responder_that_dies_lets_go_or_rejects_is_told_at_once_and_the_request_is_not_delivered_again()
    {
        await using Connection asking = await ConnectAsync();
        await asking.DeclareQueueAsync("q", cancellation: Cancellation);
        RequestOptions longWait = new() { Timeout = TimeSpan.FromHours(1) };
        Session dying = _broker.Connect();
        Subscription subscription = dying.Subscribe("q");
        Task<Reply> asked = asking.RequestAsync("q", "x"u8.ToArray(), longWait, Cancellation).AsTask();
        Assert.True(subscription.Receive(Soon, out _));
        dying.Abandon();
        Assert.Equal(RefusalCode.NoResponder, (await Assert.ThrowsAsync<FastQException>(() => asked)).Code);

        await using Subscriber subscriber = await asking.SubscribeAsync("q", cancellation: Cancellation);
        asked = asking.RequestAsync("q", "y"u8.ToArray(), longWait, Cancellation).AsTask();
        Message request = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
        Assert.Equal("y", request.Text);
        await request.ReleaseAsync(cancellation: Cancellation);
        Assert.Equal(RefusalCode.NoResponder, (await Assert.ThrowsAsync<FastQException>(() => asked)).Code);

        asked = asking.RequestAsync("q", "z"u8.ToArray(), longWait, Cancellation).AsTask();
        request = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
        await request.RejectAsync("no such customer", cancellation: Cancellation);
        RequestFailedException rejected = await Assert.ThrowsAsync<RequestFailedException>(() => asked);
        Assert.Equal(("rejected", "no such customer"), (rejected.Code, rejected.Words));
        QueueInfo queue = await asking.GetQueueAsync("q", Cancellation);
        Assert.Equal((0L, 2ul, 1ul, 0ul), (queue.Messages, queue.Exhausted, queue.Rejected, queue.DeadLettered));
        Assert.Equal(["q"], (await asking.ListQueuesAsync(Cancellation)).Select(one => one.Name)); // No dead letters.
    }

    [Fact]
    public async Task Where_no_reply_comes_in_time_that_is_said_the_request_is_gone_and_a_late_reply_is_told_so()
    {
        await using Connection asking = await ConnectAsync(), answering = await ConnectAsync();
        await asking.DeclareQueueAsync("q", cancellation: Cancellation);
        await using Subscriber subscriber = await answering.SubscribeAsync("q", new SubscribeOptions { Credit = 1 }, Cancellation);
        FastQException late = await Assert.ThrowsAsync<FastQException>(() => asking.RequestAsync("q", "x"u8.ToArray(), new RequestOptions { Timeout = TimeSpan.FromMilliseconds(50) }, Cancellation).AsTask());
        Assert.Equal(RefusalCode.TimedOut, late.Code);
        Assert.Contains("No reply from queue q within 50 ms", late.Message, StringComparison.Ordinal);
        Message request = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
        await Assert.ThrowsAsync<FastQException>(() => asking.RequestAsync("q", "y"u8.ToArray(), new RequestOptions { Timeout = TimeSpan.FromMilliseconds(50) }, Cancellation).AsTask()); // With nobody: it expires in the queue.
        while ((await asking.GetQueueAsync("q", Cancellation)).Expired == 0)
        {
            // So long after its acceptance, which may have been late; the requester's time began when it asked.
        }

        while (await request.ReplyPartAsync("part"u8.ToArray(), cancellation: Cancellation))
        {
            // The requester says that it wants no parts once one came.
        }

        Assert.False(await request.ReplyAsync("late"u8.ToArray(), cancellation: Cancellation));
        Assert.Null(await subscriber.ReceiveAsync(TimeSpan.FromMilliseconds(100), Cancellation));
        QueueInfo queue = await asking.GetQueueAsync("q", Cancellation);
        Assert.Equal((0L, 1ul, 1ul), (queue.Messages, queue.Expired, queue.Accepted));
    }

    [Fact]
    public async Task A_cancelled_request_ends_at_once_and_others_go_on()
    {
        await using Connection asking = await ConnectAsync(), answering = await ConnectAsync();
        await asking.DeclareQueueAsync("q", cancellation: Cancellation);
        await using Subscriber subscriber = await answering.SubscribeAsync("q", cancellation: Cancellation);
        using CancellationTokenSource first = new();
        Task<Reply> cancelled = asking.RequestAsync("q", "a"u8.ToArray(), cancellation: first.Token).AsTask();
        Task<Reply> other = asking.RequestAsync("q", "b"u8.ToArray(), cancellation: Cancellation).AsTask();
        Message a = (await subscriber.ReceiveAsync(Soon, Cancellation))!, b = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
        await first.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled);
        Assert.True(await a.ReplyAsync("to nobody"u8.ToArray(), cancellation: Cancellation));
        Assert.True(await b.ReplyAsync("to somebody"u8.ToArray(), cancellation: Cancellation));
        Assert.Equal("to somebody", (await other).Text);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => asking.RequestAsync("q", "c"u8.ToArray(), cancellation: first.Token).AsTask());
        Assert.Null(await subscriber.ReceiveAsync(TimeSpan.Zero, Cancellation)); // It was never sent.
    }

    [Fact]
    public async Task Thousands_of_requests_are_under_way_at_once_and_each_gets_its_own_reply()
    {
        const int Count = 5000;
        await using Connection asking = await ConnectAsync(), answering = await ConnectAsync();
        await asking.DeclareQueueAsync("q", cancellation: Cancellation);
        await using Subscriber subscriber = await answering.SubscribeAsync("q", new SubscribeOptions { Credit = 2 * Count }, Cancellation);
        Task<Reply>[] asked = [.. Enumerable.Range(0, Count).Select(i => asking.RequestAsync("q", Encoding.UTF8.GetBytes(i.ToString(CultureInfo.InvariantCulture)), cancellation: Cancellation).AsTask())];
        List<Message> held = [];
        while (held.Count < Count)
        {
            held.Add((await subscriber.ReceiveAsync(Soon, Cancellation))!);
        }

        Assert.DoesNotContain(asked, task => task.IsCompleted);
        held.Reverse();
        await Task.WhenAll(held.Select(request => request.ReplyAsync(Encoding.UTF8.GetBytes($"{request.Text} is answered, and at some length: {new string('.', 100)}"), cancellation: Cancellation).AsTask()));
        for (int i = 0; i < Count; i++)
        {
            Assert.StartsWith(string.Create(CultureInfo.InvariantCulture, $"{i} is answered"), (await asked[i]).Text, StringComparison.Ordinal);
        }

        Assert.Equal(0, (await asking.GetQueueAsync("q", Cancellation)).Messages);
    }

    [Fact]
    public async Task An_answer_in_parts_comes_in_order_and_ends_and_who_leaves_it_ends_its_responder()
    {
        await using Connection asking = await ConnectAsync(), answering = await ConnectAsync();
        await asking.DeclareQueueAsync("q", cancellation: Cancellation);
        TaskCompletionSource stopped = new();
        await using Consumer responder = await Responder.StartStreamAsync(answering, "q", (message, token) => CountAsync(int.Parse(message.Text, CultureInfo.InvariantCulture), stopped, token), cancellation: Cancellation);
        List<string> came = [];
        await foreach (Reply part in asking.RequestStreamAsync("q", "1000"u8.ToArray(), cancellation: Cancellation))
        {
            came.Add(part.Text);
        }

        Assert.Equal(Enumerable.Range(0, 1000).Select(i => i.ToString(CultureInfo.InvariantCulture)), came);
        await foreach (Reply _ in asking.RequestStreamAsync("q", "0"u8.ToArray(), cancellation: Cancellation))
        {
            Assert.Fail("There are no parts.");
        }

        stopped = new TaskCompletionSource();
        await foreach (Reply _ in asking.RequestStreamAsync("q", "2000000000"u8.ToArray(), cancellation: Cancellation))
        {
            break;
        }

        await stopped.Task.WaitAsync(Soon, Cancellation);
        Assert.Equal("0", (await asking.RequestAsync("q", "3"u8.ToArray(), cancellation: Cancellation)).Text); // Who wants one gets the first.
    }

    private static async IAsyncEnumerable<ReadOnlyMemory<byte>> CountAsync(int count, TaskCompletionSource stopped, [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        try
        {
            for (int i = 0; i < count; i++)
            {
                yield return Encoding.UTF8.GetBytes(i.ToString(CultureInfo.InvariantCulture));
            }
        }
        finally
        {
            stopped.TrySetResult();
        }
    }

    [Fact]
    public async Task A_handler_that_throws_answers_with_its_error_and_what_nobody_waits_for_is_tried_again()
    {
        await using Connection asking = await ConnectAsync(), answering = await ConnectAsync();
        await asking.DeclareQueueAsync("q", new QueueOptions { MaxDeliveries = 2 }, Cancellation);
        await using Consumer responder = await Responder.StartAsync(answering, "q", (message, _) => throw new InvalidOperationException($"cannot do {message.Text}"), cancellation: Cancellation);
        RequestFailedException failed = await Assert.ThrowsAsync<RequestFailedException>(() => asking.RequestAsync("q", "this"u8.ToArray(), cancellation: Cancellation).AsTask());
        Assert.Equal(("System.InvalidOperationException", "cannot do this"), (failed.Code, failed.Words));
        await asking.PublishAsync("q", "that"u8.ToArray(), cancellation: Cancellation);
        await using Subscriber dead = await DeadAsync(asking);
        Message letter = (await dead.ReceiveAsync(Soon, Cancellation))!;
        Assert.Equal(("that", DeathReason.MaxDeliveries), (letter.Text, letter.Deaths[0].Reason));
    }

    private static async Task<Subscriber> DeadAsync(Connection connection)
    {
        while (true)
        {
            try
            {
                return await connection.SubscribeAsync("q.dead", cancellation: Cancellation);
            }
            catch (FastQException notYet) when (notYet.Code == RefusalCode.UnknownQueue)
            {
                // It is made when the first one dies.
            }
        }
    }

    [Fact]
    public async Task A_reply_as_large_as_a_message_may_be_comes_and_a_larger_one_is_refused_by_the_limit()
    {
        await using Connection asking = await ConnectAsync(), answering = await ConnectAsync();
        await asking.DeclareQueueAsync("q", cancellation: Cancellation);
        await using Subscriber subscriber = await answering.SubscribeAsync("q", cancellation: Cancellation);
        byte[] body = new byte[Limits.MaxMessageBytes];
        Random.Shared.NextBytes(body);
        Task<Reply> asked = asking.RequestAsync("q", "all"u8.ToArray(), cancellation: Cancellation).AsTask();
        Task<Reply> small = asking.RequestAsync("q", "little"u8.ToArray(), cancellation: Cancellation).AsTask();
        Message request = (await subscriber.ReceiveAsync(Soon, Cancellation))!, second = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
        FastQException tooLarge = await Assert.ThrowsAsync<FastQException>(() => request.ReplyAsync(new byte[Limits.MaxMessageBytes + 1], cancellation: Cancellation).AsTask());
        Assert.Equal((RefusalCode.TooLarge, (ulong)Limits.MaxMessageBytes), (tooLarge.Code, tooLarge.Value));
        Assert.True(await request.ReplyAsync(body, cancellation: Cancellation));
        Assert.True(await second.ReplyAsync("little"u8.ToArray(), cancellation: Cancellation));
        Assert.True((await asked).Body.Span.SequenceEqual(body));
        Assert.Equal("little", (await small).Text);
    }

    [Fact]
    public async Task A_requester_that_is_gone_is_told_to_its_responder_and_its_request_is_done()
    {
        await using Connection answering = await ConnectAsync();
        await answering.DeclareQueueAsync("q", cancellation: Cancellation);
        await using Subscriber subscriber = await answering.SubscribeAsync("q", cancellation: Cancellation);
        Task<Reply> asked;
        Message first, second;
        await using (Connection asking = await ConnectAsync())
        {
            asked = asking.RequestAsync("q", "x"u8.ToArray(), cancellation: Cancellation).AsTask();
            Task<Reply> other = asking.RequestAsync("q", "y"u8.ToArray(), cancellation: Cancellation).AsTask();
            first = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
            second = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
            _ = other.ContinueWith(static gone => gone.Exception, TaskScheduler.Default);
        }

        Assert.Equal(RefusalCode.Closed, (await Assert.ThrowsAsync<FastQException>(() => asked)).Code);
        while (await first.ReplyPartAsync("x"u8.ToArray(), cancellation: Cancellation))
        {
            // The broker has not seen its end yet.
        }

        Assert.False(await first.ReplyAsync("x"u8.ToArray(), cancellation: Cancellation));
        Assert.False(await second.ReplyErrorAsync("gone", "you are", cancellation: Cancellation));
        Assert.Equal(2ul, (await answering.GetQueueAsync("q", Cancellation)).Accepted);
    }

    [Fact]
    public async Task A_reply_to_a_queue_is_a_message_there_and_what_is_no_request_cannot_be_replied_to()
    {
        await using Connection connection = await ConnectAsync();
        await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        await connection.DeclareQueueAsync("answers", cancellation: Cancellation);
        await connection.PublishAsync("q", "x"u8.ToArray(), new PublishOptions { ReplyTo = "answers", MessageId = "m-1" }, Cancellation);
        await connection.PublishAsync("q", "y"u8.ToArray(), cancellation: Cancellation);
        await using Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation), answers = await connection.SubscribeAsync("answers", cancellation: Cancellation);
        Assert.True(await (await subscriber.ReceiveAsync(Soon, Cancellation))!.ReplyAsync("done"u8.ToArray(), cancellation: Cancellation));
        Message answer = (await answers.ReceiveAsync(Soon, Cancellation))!;
        Assert.Equal(("done", "m-1"), (answer.Text, answer.CorrelationId));
        Message plain = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
        Assert.Equal(RefusalCode.BadArgument, (await Assert.ThrowsAsync<FastQException>(() => plain.ReplyAsync("?"u8.ToArray(), cancellation: Cancellation).AsTask())).Code);
        await plain.AcceptAsync(cancellation: Cancellation);
    }

    [Fact]
    public async Task Requests_and_replies_go_on_over_a_restart_of_the_broker_and_none_waits_for_ever()
    {
        await using Connection asking = await ConnectAsync(), answering = await ConnectAsync();
        await asking.DeclareQueueAsync("q", cancellation: Cancellation);
        await using Subscriber subscriber = await answering.SubscribeAsync("q", cancellation: Cancellation);
        Task<Reply> asked = asking.RequestAsync("q", "before"u8.ToArray(), cancellation: Cancellation).AsTask();
        Message request = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
        _broker.Stop();
        _broker.Start();
        await asking.GetQueueAsync("q", Cancellation); // It is back: a reply finds it.
        await answering.GetQueueAsync("q", Cancellation); // So is this one: of a reply that it sent before, nobody could say what became of it.
        Assert.True(await request.ReplyAsync("after"u8.ToArray(), cancellation: Cancellation));
        Assert.Equal("after", (await asked).Text);
        asked = asking.RequestAsync("q", "lost"u8.ToArray(), new RequestOptions { Timeout = TimeSpan.FromSeconds(1) }, Cancellation).AsTask();
        request = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
        _broker.Stop();
        _broker.Start();
        Assert.Equal(RefusalCode.TimedOut, (await Assert.ThrowsAsync<FastQException>(() => asked)).Code);
    }

    [Fact]
    public void A_session_asks_and_answers_in_place()
    {
        using Session asking = _broker.Connect(), answering = _broker.Connect();
        QueueHandle queue = new(asking.DeclareQueue("q").Id, "q");
        Subscription subscription = answering.Subscribe("q");
        Dictionary<ulong, string> came = [];
        asking.Replied = (in ReplyView reply) => came[reply.Request] = $"{Encoding.UTF8.GetString(reply.Body)} {reply.IsLast} {reply.Part}";
        ulong[] asked = [.. Enumerable.Range(0, 100).Select(i => asking.Request(queue, [(byte)('a' + i % 26)], Soon))];
        for (int i = 0; i < asked.Length; i++)
        {
            Assert.True(subscription.Receive(Soon, out Delivery request));
            answering.Reply(request, [(byte)(request.Body[0] - 32)]);
        }

        for (Deadline deadline = new(new SessionOptions().Surroundings, Soon); came.Count < asked.Length && !deadline.IsOver;)
        {
            asking.WaitForNewsWithin(TimeSpan.FromSeconds(1));
        }

        Assert.Equal(asked.Select((number, i) => (number, $"{(char)('A' + i % 26)} True 0")), came.OrderBy(one => one.Key).Select(one => (one.Key, one.Value)));
    }

    private static Task<Consumer> EchoAsync(Connection connection, string queue) => Responder.StartAsync(connection, queue, (message, _) => Task.FromResult(message.Body), cancellation: Cancellation);

    private Task<Connection> ConnectAsync() => Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket, Patience = TimeSpan.FromSeconds(20) }, cancellation: Cancellation);
}
