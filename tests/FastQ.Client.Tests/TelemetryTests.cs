using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

/// <summary>Listeners hear the whole process, so nothing runs beside it.</summary>
[CollectionDefinition(nameof(TelemetryTests), DisableParallelization = true)]
[Collection(nameof(TelemetryTests))]
public sealed class TelemetryTests : IDisposable
{
    private const string Name = "FastQ.Client";
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);
    private readonly RunningBroker _broker = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _broker.Dispose();

    [Fact]
    public async Task Without_a_listener_and_a_current_activity_nothing_is_added_to_a_message_and_no_activity_is_made()
    {
        await using Connection connection = await ConnectAsync();
        await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);
        (Message message, Activity? during) = await HandleOneAsync(connection);
        Assert.Empty(message.Headers);
        Assert.Null(during);
    }

    [Fact]
    public async Task A_message_carries_the_context_of_the_current_activity_beside_its_own_headers()
    {
        await using Connection connection = await ConnectAsync();
        using Activity current = new("ours") { TraceStateString = "vendor=1" };
        current.Start();
        Dictionary<string, HeaderValue> headers = new() { ["colour"] = "blue" };
        await connection.PublishAsync("q", new byte[1], new PublishOptions { Headers = headers, MessageId = "m1" }, Cancellation);
        current.Stop();

        (Message message, _) = await HandleOneAsync(connection);
        Assert.Equal(new Dictionary<string, HeaderValue> { ["colour"] = "blue", ["traceparent"] = current.Id!, ["tracestate"] = "vendor=1" }, message.Headers);
        Assert.Equal(("m1", "blue", null), (message.MessageId, message.HeaderText("colour"), message.HeaderText("color")));
        Assert.Single(headers); // The caller's own are as they were.
        Assert.Null(Activity.Current);
    }

    [Theory]
    [InlineData("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
    [InlineData("traceparent", "nonsense")]
    [InlineData("tracestate", "vendor=2")]
    public async Task Headers_of_a_trace_that_the_caller_set_are_left_alone(string key, string value)
    {
        List<Activity> spans = [];
        using ActivityListener listener = Listen(spans);
        await using Connection connection = await ConnectAsync();
        using Activity current = new("ours");
        current.Start();
        await connection.PublishAsync("q", new byte[1], new PublishOptions { Headers = new Dictionary<string, HeaderValue> { [key] = value } }, Cancellation);
        current.Stop();

        (Message message, _) = await HandleOneAsync(connection);
        Assert.Equal(new Dictionary<string, HeaderValue> { [key] = value }, message.Headers);
        Activity publish = Assert.Single(spans, span => span.OperationName == "publish q");
        Assert.Equal((ActivityKind.Client, current.TraceId), (publish.Kind, publish.TraceId)); // A span that is no context is no producer's.
        bool isSound = key == "traceparent" && value != "nonsense";
        Assert.Equal(isSound ? ["b7ad6b7169203331"] : [], publish.Links.Select(link => link.Context.SpanId.ToString()));
        Activity process = Assert.Single(spans, span => span.OperationName == "process q");
        Assert.Equal(isSound ? ["b7ad6b7169203331"] : [], process.Links.Select(link => link.Context.SpanId.ToString()));
    }

    [Fact]
    public async Task A_handlers_span_is_a_trace_of_its_own_and_linked_to_the_span_of_the_publish()
    {
        List<Activity> spans = [];
        using ActivityListener listener = Listen(spans);
        await using Connection connection = await ConnectAsync();
        using Activity current = new("ours");
        current.Start();
        await connection.PublishAsync("q", new byte[3], new PublishOptions { MessageId = "m1", CorrelationId = "c1" }, Cancellation);
        (_, Activity? during) = await HandleOneAsync(connection); // Started within our activity, and still not a part of it.
        current.Stop();

        Activity publish = Assert.Single(spans, span => span.OperationName == "publish q");
        Activity process = Assert.Single(spans, span => span.OperationName == "process q");
        Assert.Equal((ActivityKind.Producer, current.SpanId, ActivityStatusCode.Unset), (publish.Kind, publish.ParentSpanId, publish.Status));
        Assert.Equal((ActivityKind.Consumer, null, ActivityStatusCode.Unset), (process.Kind, process.ParentId, process.Status));
        Assert.NotEqual(current.TraceId, process.TraceId);
        Assert.Equal((publish.TraceId, publish.SpanId, true), (process.Links.Single().Context.TraceId, process.Links.Single().Context.SpanId, process.Links.Single().Context.IsRemote));
        Assert.Same(process, during);
        Assert.Equal(Attributes("publish", "send"), publish.TagObjects.ToDictionary());
        Assert.Equal(Attributes("process", "process"), process.TagObjects.ToDictionary());

        static Dictionary<string, object?> Attributes(string operation, string type) => new()
        {
            ["messaging.system"] = "fastq",
            ["messaging.operation.name"] = operation,
            ["messaging.operation.type"] = type,
            ["messaging.destination.name"] = "q",
            ["messaging.message.body.size"] = 3,
            ["messaging.message.id"] = "m1",
            ["messaging.message.conversation_id"] = "c1",
        };
    }

    [Fact]
    public async Task What_fails_is_said_in_span_and_measurement_by_a_refusals_name_or_an_exceptions_type()
    {
        List<Activity> spans = [];
        using ActivityListener listener = Listen(spans);
        ConcurrentQueue<Measured> measured = [];
        using MeterListener meter = Measure(measured);
        await using Connection connection = await ConnectAsync();
        await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);
        await Assert.ThrowsAsync<FastQException>(() => connection.PublishAsync("none", new byte[1], cancellation: Cancellation).AsTask());
        TaskCompletionSource failed = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using (Consumer consumer = await Consumer.StartAsync(connection, "q", (_, _) => throw new PermanentException("no"), new ConsumerOptions { Failed = _ => failed.TrySetResult() }, Cancellation))
        {
            await failed.Task.WaitAsync(Soon, Cancellation);
        }

        Activity publish = Assert.Single(spans, span => span.OperationName == "publish none");
        Assert.Equal((ActivityStatusCode.Error, "unknown-queue"), (publish.Status, publish.GetTagItem("error.type")));
        Activity process = Assert.Single(spans, span => span.OperationName == "process q");
        Assert.Equal((ActivityStatusCode.Error, "no", "FastQ.Client.PermanentException"), (process.Status, process.StatusDescription, process.GetTagItem("error.type")));
        Assert.Single(measured, one => one is { Instrument: "messaging.client.sent.messages", Queue: "none", Error: "unknown-queue" });
        Assert.Single(measured, one => one is { Instrument: "messaging.process.duration", Error: "FastQ.Client.PermanentException" });
        Assert.Single(measured, one => one is { Instrument: "messaging.client.operation.duration", Operation: "reject", Error: null });
    }

    [Fact]
    public async Task What_is_sent_handled_settled_in_hand_and_lost_is_measured_under_the_conventions_names()
    {
        ConcurrentQueue<Measured> measured = [];
        using MeterListener meter = Measure(measured);
        await using Connection connection = await ConnectAsync();
        ManualTime time = new();
        await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);
        await HandleOneAsync(connection, new ConsumerOptions { TimeProvider = time }, () => time.Advance(TimeSpan.FromSeconds(3)));

        Assert.Equal([new Measured("messaging.client.sent.messages", "{message}", 1, "publish", "q", null)], measured.Where(one => one.Instrument == "messaging.client.sent.messages"));
        Assert.Equal([new Measured("messaging.client.consumed.messages", "{message}", 1, "process", "q", null)], measured.Where(one => one.Instrument == "messaging.client.consumed.messages"));
        Assert.Equal([new Measured("messaging.process.duration", "s", 3, "process", "q", null)], measured.Where(one => one.Instrument == "messaging.process.duration"));
        Assert.Equal(["publish", "accept"], measured.Where(one => one is { Instrument: "messaging.client.operation.duration", Unit: "s" }).Select(one => one.Operation));
        Assert.Equal([1.0, -1.0], measured.Where(one => one is { Instrument: "fastq.client.messages.in_hand", Queue: "q" }).Select(one => one.Value));

        await connection.PublishAsync("q", new byte[1], cancellation: Cancellation);
        TaskCompletionSource goOn = new(TaskCreationOptions.RunContinuationsAsynchronously);
        bool isBegun = false;
        await using Consumer slow = await Consumer.StartAsync(
            connection,
            "q",
            (_, _) => Interlocked.Exchange(ref isBegun, true) ? Task.CompletedTask : goOn.Task,
            new ConsumerOptions { Parallelism = 2, TimeProvider = time, Lease = TimeSpan.FromMilliseconds(100) },
            Cancellation);
        while ((await connection.GetQueueAsync("q", Cancellation)).Accepted < 2)
        {
            Assert.False(slow.Completion.IsCompleted);
        }

        goOn.SetResult();
        await slow.StopAsync(Cancellation);
        Assert.Equal(slow.Health.LeasesLost, measured.Count(one => one is { Instrument: "fastq.client.leases.lost", Queue: "q" }));
        Assert.InRange(slow.Health.LeasesLost, 1, long.MaxValue);
    }

    /// <summary>Gives the next message to a handler. Gives it back with the activity that the handler saw.</summary>
    private static async Task<(Message Message, Activity? During)> HandleOneAsync(Connection connection, ConsumerOptions? options = null, Action? work = null)
    {
        TaskCompletionSource<(Message, Activity?)> handled = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using Consumer consumer = await Consumer.StartAsync(
            connection,
            "q",
            (message, _) =>
            {
                work?.Invoke();
                handled.SetResult((message, Activity.Current));
                return Task.CompletedTask;
            },
            options,
            Cancellation);
        return await handled.Task.WaitAsync(Soon, Cancellation);
    }

    private static ActivityListener Listen(List<Activity> spans)
    {
        ActivityListener listener = new()
        {
            ShouldListenTo = source => source.Name == Name,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = span =>
            {
                lock (spans)
                {
                    spans.Add(span);
                }
            },
        };
        ActivitySource.AddActivityListener(listener);
        return listener;
    }

    private static MeterListener Measure(ConcurrentQueue<Measured> measured)
    {
        MeterListener listener = new()
        {
            InstrumentPublished = (instrument, listener) =>
            {
                if (instrument.Meter.Name == Name)
                {
                    listener.EnableMeasurementEvents(instrument);
                }
            },
        };
        listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => measured.Enqueue(Measured.From(instrument, value, tags)));
        listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => measured.Enqueue(Measured.From(instrument, value, tags)));
        listener.Start();
        return listener;
    }

    private async Task<Connection> ConnectAsync()
    {
        Connection connection = await Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket }, cancellation: Cancellation);
        await connection.DeclareQueueAsync("q", new QueueOptions { MaxDeliveries = 0 }, Cancellation); // On a slow machine a short lease ends often.
        return connection;
    }

    private sealed record Measured(string Instrument, string? Unit, double Value, string? Operation, string? Queue, string? Error)
    {
        public static Measured From(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            Dictionary<string, object?> all = [];
            foreach ((string key, object? tag) in tags)
            {
                all[key] = tag;
            }

            Assert.Equal("fastq", all["messaging.system"]);
            return new Measured(instrument.Name, instrument.Unit, value, (string?)all["messaging.operation.name"], (string?)all["messaging.destination.name"], (string?)all.GetValueOrDefault("error.type"));
        }
    }
}
