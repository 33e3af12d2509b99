using System.Text.Json;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

/// <summary>Events of a real broker, as programs get them: messages of fastq.events.</summary>
public sealed class EventTests : IDisposable
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);
    private readonly RunningBroker _broker = new(options => options with { Engine = options.Engine with { IndexBytes = 1024 * 1024 } });
    private Session? _listener;
    private Subscription? _events;

    public void Dispose()
    {
        _listener?.Dispose();
        _broker.Dispose();
    }

    /// <summary>Everything that is told from now on, but for the listener's own connection.</summary>
    private Session Listen(string key = "#", QueueOptions? options = null)
    {
        _listener = _broker.Connect(session => session with { ClientName = "listener" });
        _listener.DeclareQueue("audit", options ?? new QueueOptions());
        _listener.Bind(Names.Events, "audit", new BindingOptions { Key = key });
        _listener.Flush();
        return _listener;
    }

    private IReadOnlyDictionary<string, HeaderValue> Next(out string key)
    {
        _events ??= _listener!.Subscribe("audit");
        Assert.True(_events.Receive(Soon, out Delivery delivery));
        IReadOnlyDictionary<string, HeaderValue> headers = delivery.Headers();
        key = PropertyReader.TextOf(delivery.Properties, PropertyTag.RoutingKey)!;
        Assert.Equal((key, Names.Events, "application/json"), (PropertyReader.TextOf(delivery.Properties, PropertyTag.Type), PropertyReader.TextOf(delivery.Properties, PropertyTag.Exchange), PropertyReader.TextOf(delivery.Properties, PropertyTag.ContentType)));
        AssertSame(headers, key, delivery.Body.ToArray());
        _events.Accept(delivery);
        return headers;
    }

    /// <summary>The body says the same as the headers, to the last of them.</summary>
    private static void AssertSame(IReadOnlyDictionary<string, HeaderValue> headers, string key, byte[] body)
    {
        using JsonDocument json = JsonDocument.Parse(body);
        Assert.Equal(key, json.RootElement.GetProperty("event").GetString());
        Assert.Equal(headers.Keys.Append("event").Order(), json.RootElement.EnumerateObject().Select(property => property.Name).Order());
        foreach ((string name, HeaderValue value) in headers)
        {
            JsonElement said = json.RootElement.GetProperty(name);
            switch (value.Type)
            {
                case PropertyType.Int64:
                    Assert.Equal(value.AsInt64, said.GetInt64());
                    break;
                case PropertyType.Boolean:
                    Assert.Equal(value.AsBoolean, said.GetBoolean());
                    break;
                case PropertyType.Timestamp:
                    Assert.Equal(value.AsTimestamp, said.GetDateTimeOffset());
                    break;
                default:
                    Assert.Equal(value.AsText, said.GetString());
                    break;
            }
        }
    }

    private static void Publish(Session session, string queue, string id = "")
    {
        PropertyWriter properties = new(new byte[100]);
        properties.Text(PropertyTag.MessageId, id);
        session.Publish(session.OpenQueue(queue), "body"u8, properties: properties.Written);
    }

    /// <summary>The next event, in words: its key, and headers by name.</summary>
    private void MustTell(string expected, params string[] names)
    {
        IReadOnlyDictionary<string, HeaderValue> headers = Next(out string key);
        Assert.InRange(headers["time"].AsTimestamp!.Value, DateTimeOffset.UtcNow - TimeSpan.FromMinutes(1), DateTimeOffset.UtcNow + TimeSpan.FromMinutes(1));
        Assert.Equal(expected, string.Join(' ', names.Select(name => headers.TryGetValue(name, out HeaderValue value) ? value.ToString() : "-").Prepend(key)));
    }

    [Fact]
    public void What_happens_to_connections_queues_and_consumers_is_told_with_who_and_why()
    {
        _ = Listen();
        using (Session other = _broker.Connect(session => session with { ClientName = "other" }))
        {
            other.DeclareQueue("work");
            other.PauseQueue("work", PausedWays.Out);
            other.PauseQueue("work", PausedWays.None);
            other.Subscribe("work").Close();
            _ = other.Subscribe("work");
            other.Flush();
        }

        using Session last = _broker.Connect(session => session with { ClientName = "last" });
        last.DeleteQueue("work");
        string process = Environment.ProcessId.ToString(System.Globalization.CultureInfo.InvariantCulture);
        MustTell($"connection.opened other {process}", "client", "process");
        MustTell("queue.created work", "queue");
        MustTell("queue.paused work out", "queue", "ways");
        MustTell("queue.resumed work out", "queue", "ways");
        MustTell("consumer.added work 1 other", "queue", "subscription", "client");
        MustTell("consumer.removed work 1 other closed", "queue", "subscription", "client", "reason");
        MustTell("consumer.added work 2", "queue", "subscription");
        MustTell("consumer.removed work 2 other closed", "queue", "subscription", "client", "reason");
        MustTell("connection.closed other closed", "client", "reason");
        MustTell("connection.opened last", "client");
        MustTell("queue.deleted work command", "queue", "reason");
    }

    [Fact]
    public void What_becomes_of_messages_is_told_with_their_place_id_and_reason()
    {
        using Session session = _broker.Connect(options => options with { ClientName = "worker" });
        session.DeclareQueue("work", new QueueOptions { DeadLetter = "graves", MaxDeliveries = 1 });
        session.DeclareQueue("lossy", new QueueOptions { DeadLetter = "", MaxLength = 1, Overflow = Overflow.DropHead });
        session.DeclareQueue("small", new QueueOptions { MaxLength = 1 });
        session.DeclareQueue("graves");
        _ = Listen();
        Publish(session, "work", "order-1");
        Publish(session, "lossy");
        Publish(session, "lossy");
        Publish(session, "small");
        session.Flush();
        MustTell("limit.hit lossy max-length 1", "queue", "limit", "value");
        MustTell("message.dropped lossy 1 overflow", "queue", "tag", "reason");
        Publish(session, "small");
        Assert.Equal(RefusalCode.LimitReached, Assert.Throws<FastQException>(() => session.Flush()).Code);
        MustTell("limit.hit small max-length 1 -", "queue", "limit", "value", "untold");
        Subscription brief = session.Subscribe("work", new SubscribeOptions { Lease = TimeSpan.FromMilliseconds(Limits.MinLeaseMilliseconds) });
        MustTell("consumer.added work worker", "queue", "client");
        MustTell($"lease.ended work 1 {brief.Id} worker 1", "queue", "tag", "subscription", "client", "deliveries");
        MustTell("message.dead-lettered work 1 order-1 max-deliveries 1 graves", "queue", "tag", "messageId", "reason", "deliveries", "to");
        brief.Close();
        MustTell("consumer.removed work closed", "queue", "reason");
        Subscription work = session.Subscribe("work");
        MustTell("consumer.added work", "queue");
        Publish(session, "work", "order-2");
        Assert.True(work.Receive(Soon, out Delivery delivery));
        work.Reject(delivery, "no");
        session.Flush();
        MustTell("message.dead-lettered work 2 order-2 rejected 1 graves", "queue", "tag", "messageId", "reason", "deliveries", "to");
    }

    [Fact]
    public void A_binding_chooses_what_it_gets_and_events_are_kept_over_a_restart_and_not_told_anew()
    {
        Session session = Listen("queue.*");
        session.DeclareQueue("one");
        _ = session.Subscribe("one");
        session.DeclareQueue("two");
        session.Flush();
        _broker.Stop();
        _broker.Start();
        session.DeclareQueue("three");
        session.Flush();
        MustTell("queue.created one", "queue");
        MustTell("queue.created two", "queue");
        MustTell("queue.created three", "queue");
        Assert.False(_events!.Receive(TimeSpan.Zero, out _));
        ExchangeInfo events = Assert.Single(session.ListExchanges());
        Assert.Equal((Names.Events, ExchangeType.Topic, 1, 0L), (events.Name, events.Type, events.Bindings, events.Discarded));
    }

    [Fact]
    public void A_full_queue_of_events_holds_up_nobody_says_nothing_of_itself_and_what_it_lacks_is_counted()
    {
        Session session = Listen("#", new QueueOptions { MaxLength = 3, DeadLetter = "" });
        for (int i = 0; i < 10; i++)
        {
            session.DeclareQueue($"q{i}");
        }

        session.Flush();
        Assert.Equal((3, 7L), (session.GetQueue("audit").Ready, session.GetExchange(Names.Events).Discarded));
        session.ChangeQueue("audit", new QueueOptions { Overflow = Overflow.DropHead });
        for (int i = 0; i < 10; i++)
        {
            session.DeleteQueue($"q{i}");
        }

        session.Flush();
        Assert.Equal((3, 7L), (session.GetQueue("audit").Ready, session.GetExchange(Names.Events).Discarded));
        MustTell("queue.deleted q7", "queue"); // Nothing of what was pushed out, nor of this consumer.
        MustTell("queue.deleted q8", "queue");
        MustTell("queue.deleted q9", "queue");
        Assert.False(_events!.Receive(TimeSpan.Zero, out _));
    }

    [Fact]
    public void Memory_that_runs_short_is_an_alarm_while_there_is_some_left_and_so_is_its_end()
    {
        Session session = Listen("alarm.*");
        session.DeclareExchange("large", ExchangeType.Topic);
        session.DeclareQueue("work");
        int bindings = 0;
        for (string end = new('k', 200); session.GetQueue("audit").Messages == 0; bindings++)
        {
            session.Bind("large", "work", new BindingOptions { Key = $"{bindings}.{end}" }); // Refused, were there no memory left.
        }

        session.DeleteExchange("large");
        session.Flush();
        MustTell("alarm.set memory", "alarm");
        MustTell("alarm.cleared memory", "alarm");
        Assert.False(_events!.Receive(TimeSpan.Zero, out _));
        Assert.InRange(bindings, 100, 2000);
    }

    [Fact]
    public void Several_queues_share_an_event_and_programs_cannot_forge_one()
    {
        Session session = Listen("queue.#");
        session.DeclareQueue("second");
        session.Bind(Names.Events, "second", new BindingOptions { Key = "*.created" });
        session.DeclareQueue("new");
        session.Flush();
        MustTell("queue.created second", "queue"); // Before it was bound.
        MustTell("queue.created new", "queue");
        Subscription second = session.Subscribe("second");
        Assert.True(second.Receive(Soon, out Delivery delivery));
        Assert.Equal("queue.created", PropertyReader.TextOf(delivery.Properties, PropertyTag.RoutingKey));
        foreach (Action forbidden in (Action[])[() => session.DeleteExchange(Names.Events), () => session.DeclareExchange(Names.Events, ExchangeType.Topic), () => { session.Publish(session.OpenExchange(Names.Events), "x"u8); session.Flush(); }])
        {
            Assert.True(Assert.Throws<FastQException>(forbidden).Code is RefusalCode.Denied or RefusalCode.BadName);
        }
    }
}
