using System.Diagnostics;
using System.Threading.Channels;
using FastQ.Protocol;

namespace FastQ.Client;

// Many threads, one session:
//
//   PublishAsync, AcceptAsync, commands --> calls (bounded) --> the connection's thread --> session --> rings
//   tasks complete  <-- confirms, refusals, answers <---------'        '--> subscribers: messages, copied

/// <summary>A connection to the broker for async programs: any thread, any number of calls at once. For the last microsecond, and no allocation, use <see cref="Session"/>.</summary>
/// <remarks>
/// It owns one thread, which waits for broker and callers alike. It rides out restarts of the broker within <see cref="SessionOptions.Patience"/>; once that is over, or the broker refuses to go on, every call
/// fails with the reason, and the program connects anew. Publishes of one thread that awaits each, or starts them one after the other, stay in order.
/// </remarks>
public sealed partial class Connection : IAsyncDisposable
{
    private const int MostCallsWaiting = 1024;
    private const int MostCallsATurn = 256;
    private static readonly TimeSpan s_closePatience = TimeSpan.FromSeconds(5);
    private readonly SessionOptions _options;
    private readonly Channel<Call> _calls = Channel.CreateBounded<Call>(new BoundedChannelOptions(MostCallsWaiting) { SingleReader = true });
    private readonly TaskCompletionSource _connected = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly CancellationTokenSource _giveUp = new();
    private readonly Dictionary<ulong, ulong> _duplicates = [];
    private readonly Dictionary<ulong, int> _routed = []; // By number: how many queues took what went to an exchange.
    private readonly Dictionary<string, QueueHandle> _queues = [];
    private readonly Dictionary<string, ExchangeHandle> _exchanges = [];
    private readonly List<Subscriber> _subscribers = [];
    private readonly Queue<Submission>[] _awaited = [new(), new(), new()]; // Accepted, written, durable.
    private volatile Session? _session;
    private volatile FastQException? _fault;
    private bool _isClosing;

    private Connection(SessionOptions options)
    {
        _options = options;
    }

    /// <summary>Why it can be used no more; null while it can. Disposal is no fault.</summary>
    public FastQException? Fault => _fault;

    /// <summary>How often the broker was lost and found again.</summary>
    public int Reconnects => _session?.Reconnects ?? 0;

    /// <summary>Called with each refusal of a submission, also of those that nobody awaits. On the connection's thread: be short, and do not wait for the connection there.</summary>
    public Action<FastQException>? Refused { get; init; }

    /// <summary>Completes when the broker has taken this program in; fails when none came within the patience, or it refused.</summary>
    public Task Connected => _connected.Task;

    /// <summary>Begins to connect and does not wait for it: calls do, until the broker is there, or the patience is over and they fail. See <see cref="Connected"/>.</summary>
    /// <param name="options">Where and how; null: the defaults.</param>
    /// <param name="refused">See <see cref="Refused"/>.</param>
    public static Connection Open(SessionOptions? options = null, Action<FastQException>? refused = null)
    {
        Connection connection = new(options ?? new SessionOptions()) { Refused = refused };
        Thread thread = new(connection.Serve) { IsBackground = true, Name = "FastQ connection" };
        thread.Start();
        return connection;
    }

    /// <summary>Connects, waiting for the broker within the patience.</summary>
    /// <exception cref="FastQException">Refused, or no broker came.</exception>
    /// <exception cref="OperationCanceledException">Cancelled first.</exception>
    public static async Task<Connection> ConnectAsync(SessionOptions? options = null, Action<FastQException>? refused = null, CancellationToken cancellation = default)
    {
        Connection connection = Open(options, refused);
        using CancellationTokenRegistration registration = cancellation.Register(connection._giveUp.Cancel);
        try
        {
            await connection.Connected.ConfigureAwait(false);
        }
        catch (FastQException) when (cancellation.IsCancellationRequested)
        {
            throw new OperationCanceledException(cancellation);
        }

        if (cancellation.IsCancellationRequested)
        {
            // It came as we connected: a connection that would give up at the first restart is none.
            await connection.DisposeAsync().ConfigureAwait(false);
            throw new OperationCanceledException(cancellation);
        }

        return connection;
    }

    /// <summary>Sends a message; completes when it is confirmed at the level that the options name (durable by default).</summary>
    /// <param name="queue">Its name. A queue that does not exist is an error, not a creation.</param>
    /// <param name="body">Must not change until the task is over; it is copied once, into the ring, or compressed there where its queue says so (<see cref="QueueOptions.Lz4FromBytes"/>).</param>
    /// <param name="options">Level, properties, headers.</param>
    /// <param name="cancellation">A message that was not sent yet is never sent; else only the waiting ends, and the message may be confirmed all the same.</param>
    /// <returns>Whether the queue had it already, by its deduplication id or unique key; not known where nothing is confirmed.</returns>
    /// <exception cref="FastQException">It was refused, and is not in the queue; or the connection is lost, and nobody knows.</exception>
    /// <remarks>
    /// While there is a current <see cref="Activity"/>, the message carries its context in the headers <c>traceparent</c> and <c>tracestate</c>, unless the options have headers of these names; they count towards <see cref="Limits.MaxPropertyBytes"/>. For listeners of the
    /// <see cref="ActivitySource"/> and the <see cref="System.Diagnostics.Metrics.Meter"/> of the name FastQ.Client it is a span, and is measured; where nobody listens that costs nothing.
    /// </remarks>
    public ValueTask<Published> PublishAsync(string queue, ReadOnlyMemory<byte> body, PublishOptions? options = null, CancellationToken cancellation = default) =>
        Telemetry.HearsPublishes || Activity.Current is not null ? PublishTracedAsync(queue, isExchange: false, body, options, cancellation) : SendAsync(queue, isExchange: false, body, options, cancellation);

    /// <summary>Sends a message to an exchange: to every queue that it leads to, or to none of them. It is stored once. Completes when it is confirmed at the level that the options name (durable by default).</summary>
    /// <param name="exchange">Its name. An exchange that does not exist is an error, not a creation.</param>
    /// <param name="key">What the exchange chooses by; at most 255 bytes of UTF-8.</param>
    /// <param name="body">Must not change until the task is over. It is not compressed, whatever the queues say.</param>
    /// <param name="options">As for a queue; <see cref="PublishOptions.IsMandatory"/>.</param>
    /// <param name="cancellation">As for a queue.</param>
    /// <returns>How many queues took it, and whether every one of them had it already.</returns>
    /// <exception cref="FastQException">It was refused, and is in none of the queues: it reaches none (<see cref="RefusalCode.Unroutable"/>), or one of them does not take it; or the connection is lost, and nobody knows.</exception>
    public ValueTask<Published> PublishToExchangeAsync(string exchange, string key, ReadOnlyMemory<byte> body, PublishOptions? options = null, CancellationToken cancellation = default)
    {
        options = (options ?? new PublishOptions()) with { Exchange = exchange, RoutingKey = key };
        return Telemetry.HearsPublishes || Activity.Current is not null ? PublishTracedAsync(exchange, isExchange: true, body, options, cancellation) : SendAsync(exchange, isExchange: true, body, options, cancellation);
    }

    /// <summary>Begins a transaction: messages and settlements that take effect together, when it is committed, or not at all. Any number of them at once.</summary>
    /// <param name="within">It is rolled back when it is not committed within this time. Null: <see cref="Session.DefaultTransactionTime"/>.</param>
    public Transaction BeginTransaction(TimeSpan? within = null) => new(this, within ?? Session.DefaultTransactionTime, new Deadline(_options.Surroundings, within ?? Session.DefaultTransactionTime));

    /// <summary>Subscribes to a queue. The subscriber is to be disposed before the connection, or with it.</summary>
    public Task<Subscriber> SubscribeAsync(string queue, SubscribeOptions? options = null, CancellationToken cancellation = default) => AskAsync(
        session =>
        {
            // Not gathered: each settle has a confirm, or a refusal, of its own.
            Subscriber subscriber = new(this, queue, session.Subscribe(queue, (options ?? new SubscribeOptions()) with { SettleBatch = 1 }));
            _subscribers.Add(subscriber);
            return subscriber;
        },
        cancellation);

    /// <summary>Listens to an exchange: makes a temporary queue of this connection's own, binds it and subscribes to it. What was sent before is not seen; when the connection ends, the queue goes with all it holds.</summary>
    /// <param name="exchange">Its name.</param>
    /// <param name="binding">Which messages; null: those of the empty key, of a fanout all.</param>
    /// <param name="options">As for <see cref="SubscribeAsync"/>.</param>
    /// <param name="cancellation">Ends the waiting.</param>
    public async Task<Subscriber> SubscribeToExchangeAsync(string exchange, BindingOptions? binding = null, SubscribeOptions? options = null, CancellationToken cancellation = default)
    {
        string queue = await AskAsync(
            session =>
            {
                string name = session.MakeTemporaryQueue();
                session.Bind(exchange, name, binding);
                return name;
            },
            cancellation).ConfigureAwait(false);
        return await SubscribeAsync(queue, options, cancellation).ConfigureAwait(false);
    }

    /// <summary>Closes in order: sends what waits, gives back what is in hand, and waits up to five seconds for confirms. What is not confirmed then fails with <see cref="RefusalCode.Closed"/>.</summary>
    public async ValueTask DisposeAsync()
    {
        bool isFirst = !Interlocked.Exchange(ref _isClosing, true);
        if (isFirst)
        {
            _calls.Writer.TryComplete();
            _giveUp.CancelAfter(s_closePatience);
            Wake();
        }

        await _ended.Task.ConfigureAwait(false);
        if (isFirst)
        {
            _giveUp.Dispose();
        }
    }

    /// <summary>Ends the thread's wait. Any thread.</summary>
    internal void Wake() => _session?.Call();

    /// <summary>No more are to come to a subscriber. What came, or is on its way, stays its own.</summary>
    internal Task StopFetchingAsync(Subscriber subscriber) => AskAsync(
        session =>
        {
            if (_subscribers.Contains(subscriber))
            {
                subscriber.Subscription.SetCredit(0);
            }

            return 0;
        },
        default);

    internal async ValueTask CloseAsync(Subscriber subscriber)
    {
        try
        {
            await AskAsync(
                session =>
                {
                    ulong first = subscriber.End(null);
                    if (_subscribers.Remove(subscriber))
                    {
                        session.Close(subscriber.Subscription, first);
                    }

                    return 0;
                },
                default).ConfigureAwait(false);
        }
        catch (FastQException)
        {
            // The connection is gone, and the subscription with it.
        }
    }

    private async ValueTask<Published> PublishTracedAsync(string queue, bool isExchange, ReadOnlyMemory<byte> body, PublishOptions? options, CancellationToken cancellation)
    {
        using Activity? span = Telemetry.StartPublish(queue, body.Length, options);
        long start = Stopwatch.GetTimestamp();
        Exception? failure = null;
        try
        {
            return await SendAsync(queue, isExchange, body, TraceContext.Into(options, Activity.Current), cancellation).ConfigureAwait(false);
        }
        catch (Exception failed)
        {
            failure = failed;
            throw;
        }
        finally
        {
            Telemetry.EndPublish(span, queue, Stopwatch.GetElapsedTime(start), failure);
        }
    }

    private async ValueTask<Published> SendAsync(string name, bool isExchange, ReadOnlyMemory<byte> body, PublishOptions? options, CancellationToken cancellation)
    {
        ConfirmLevel level = options?.Confirm ?? ConfirmLevel.Durable;
        byte[] properties = options?.ToBytes() ?? [];
        bool isMandatory = options?.IsMandatory ?? true;
        Func<Session, ulong> send = isExchange
            ? session => session.Publish(FindExchange(session, name), body.Span, level, properties, isMandatory, wantsRouted: level != ConfirmLevel.None)
            : session => session.Publish(Find(session, name), body.Span, level, properties);
        Submission submission = await DoAsync(new Submission(send, level, cancellation), cancellation).ConfigureAwait(false);
        bool isKnown = isExchange || level == ConfirmLevel.None;
        return new Published(submission.FirstTag, submission.FirstTag is not null ? 0 : isKnown ? submission.Routed : 1);
    }

    internal async ValueTask SubmitAsync(Func<Session, ulong> send, ConfirmLevel level, CancellationToken cancellation) => await DoAsync(new Submission(send, level, cancellation), cancellation).ConfigureAwait(false);

    /// <summary>Has the session's thread gather a transaction and send it.</summary>
    internal async ValueTask CommitAsync(Action<SessionTransaction, Func<string, QueueHandle>, Func<string, ExchangeHandle>> gather, ConfirmLevel level, CancellationToken cancellation)
    {
        SessionTransaction? gathered = null;
        ulong Send(Session session)
        {
            gathered = session.BeginTransaction(Timeout.InfiniteTimeSpan); // The caller's time was looked at; from here on it only waits.
            gather(gathered, queue => Find(session, queue), exchange => FindExchange(session, exchange));
            return gathered.Submit(level);
        }

        await DoAsync(new Submission(Send, level, cancellation) { Confirmed = () => gathered!.TakeOutOfHand() }, cancellation).ConfigureAwait(false);
    }

    private async ValueTask<Submission> DoAsync(Submission submission, CancellationToken cancellation)
    {
        using CancellationTokenRegistration registration = cancellation.Register(submission.Cancel);
        await HandInAsync(submission, cancellation).ConfigureAwait(false);
        await submission.Over.ConfigureAwait(false);
        return submission;
    }

    private Task<bool> DoAsync(Action<Session> work, CancellationToken cancellation) => AskAsync(
        session =>
        {
            work(session);
            return true;
        },
        cancellation);

    private async Task<T> AskAsync<T>(Func<Session, T> work, CancellationToken cancellation)
    {
        Command<T> command = new(work, cancellation);
        using CancellationTokenRegistration registration = cancellation.Register(command.Cancel);
        await HandInAsync(command, cancellation).ConfigureAwait(false);
        return await command.Over.ConfigureAwait(false);
    }

    private ValueTask HandInAsync(Call call, CancellationToken cancellation)
    {
        if (_calls.Writer.TryWrite(call))
        {
            Wake();
            return ValueTask.CompletedTask;
        }

        return HandInLaterAsync(call, cancellation);
    }

    private async ValueTask HandInLaterAsync(Call call, CancellationToken cancellation)
    {
        try
        {
            await _calls.Writer.WriteAsync(call, cancellation).ConfigureAwait(false);
        }
        catch (ChannelClosedException)
        {
            throw Volatile.Read(ref _isClosing) || _fault is null ? new FastQException(RefusalCode.Closed) : _fault;
        }

        Wake();
    }

    // ---- the connection's thread

    private void Serve()
    {
        FastQException reason = new(RefusalCode.Closed);
        try
        {
            using Session session = Session.Connect(_options, _giveUp.Token);
            session.Refused = refusal =>
            {
                FailRequest(refusal.Number, refusal);
                Refused?.Invoke(refusal);
            };
            session.Duplicated = (number, first) =>
            {
                _duplicates[number] = first;
                FailRequest(number, new FastQException(RefusalCode.Duplicate, "", first, number));
            };
            session.Routed = (number, queues) => _routed[number] = queues;
            ListenForReplies(session);
            _session = session;
            _connected.TrySetResult();
            Serve(session);
        }
        catch (FastQException lost)
        {
            (_fault, reason) = (lost, lost);
            _connected.TrySetException(lost);
        }
        catch (Exception broken) when (broken is not FastQException)
        {
            // A guest's process does not die of it (no descriptor left, a bug of ours): the connection does, and says why.
            reason = new FastQException(RefusalCode.Internal, broken.Message);
            _fault = reason;
            _connected.TrySetException(reason);
        }

        EndAll(reason);
        _ended.TrySetResult();
    }

    private void Serve(Session session)
    {
        while (!Volatile.Read(ref _isClosing))
        {
            session.TakeCall();
            bool worked = RunCalls(session);
            worked |= Fetch();
            worked |= ShowConfirms(session);
            LookForLostWords(session);
            if (!worked)
            {
                session.WaitForNewsOrCall();
            }
        }

        while (RunCalls(session))
        {
        }

        foreach (Subscriber subscriber in _subscribers)
        {
            session.Close(subscriber.Subscription, subscriber.End(null));
        }

        while (_awaited.Any(level => level.Count > 0) && !_giveUp.IsCancellationRequested)
        {
            session.WaitForNewsWithin(TimeSpan.FromMilliseconds(100));
            _ = ShowConfirms(session);
        }
    }

    private bool RunCalls(Session session)
    {
        int done = 0;
        while (done < MostCallsATurn && _calls.Reader.TryRead(out Call? call))
        {
            done++;
            if (call.TryBegin())
            {
                Run(session, call);
                call.Pause();
            }
        }

        return done > 0;
    }

    private void Run(Session session, Call call)
    {
        try
        {
            call.Run(session);
        }
        catch (FastQException refused)
        {
            call.Fail(refused);
            if (IsFatal(session, refused))
            {
                throw;
            }

            return;
        }
        catch (Exception wrong) when (wrong is ArgumentException or InvalidOperationException)
        {
            call.Fail(wrong);
            return;
        }

        switch (call)
        {
            case Submission submission:
                Await(submission);
                break;
            case PendingRequest request:
                _requests[request.Number] = request; // Replies to it are taken by this thread, and so not before.
                break;
        }
    }

    private void Await(Submission submission)
    {
        if (submission.Level == ConfirmLevel.None)
        {
            submission.Complete();
        }
        else
        {
            _awaited[(int)submission.Level - 1].Enqueue(submission);
        }
    }

    /// <summary>Completes what the counters have passed.</summary>
    private bool ShowConfirms(Session session)
    {
        bool any = false;
        for (int i = 0; i < _awaited.Length; i++)
        {
            Queue<Submission> awaited = _awaited[i];
            if (awaited.Count == 0)
            {
                continue;
            }

            ulong confirmed = session.Confirmed((ConfirmLevel)(i + 1)); // Takes the refusals up to there, too.
            while (awaited.TryPeek(out Submission? submission) && submission.Number <= confirmed)
            {
                awaited.Dequeue();
                any = true;
                submission.FirstTag = _duplicates.Remove(submission.Number, out ulong first) ? first : null;
                submission.Routed = _routed.Remove(submission.Number, out int queues) ? queues : null;
                Conclude(submission, session.TakeRefusal(submission.Number));
            }
        }

        if (_awaited.All(level => level.Count == 0))
        {
            session.ClearRefusals(); // Of those that nobody awaits.
            _duplicates.Clear();
            _routed.Clear();
        }

        return any;
    }

    private void Conclude(Submission submission, FastQException? refusal)
    {
        if (refusal is null)
        {
            submission.Complete();
            return;
        }

        ForgetQueuesIfGone(refusal);
        submission.Fail(refusal);
    }

    private void ForgetQueuesIfGone(FastQException refusal)
    {
        if (refusal.Code is RefusalCode.UnknownQueue or RefusalCode.QueueDeleted)
        {
            _queues.Clear(); // A queue, or an exchange, made anew under the name has another number.
            _exchanges.Clear();
        }
    }

    private bool Fetch()
    {
        bool any = false;
        for (int i = _subscribers.Count - 1; i >= 0; i--)
        {
            Subscriber subscriber = _subscribers[i];
            any |= subscriber.Fetch();
            if (subscriber.Subscription.Ended is FastQException ended)
            {
                subscriber.End(ended);
                _subscribers.RemoveAt(i);
            }
        }

        return any;
    }

    private QueueHandle Find(Session session, string name)
    {
        if (!_queues.TryGetValue(name, out QueueHandle queue))
        {
            queue = session.OpenQueue(name);
            _queues[name] = queue;
        }

        return queue;
    }

    private ExchangeHandle FindExchange(Session session, string name)
    {
        if (!_exchanges.TryGetValue(name, out ExchangeHandle exchange))
        {
            exchange = session.OpenExchange(name);
            _exchanges[name] = exchange;
        }

        return exchange;
    }

    private static bool IsFatal(Session session, FastQException exception) => session.IsClosed || exception.Code is RefusalCode.Disconnected or RefusalCode.DataLost or RefusalCode.Fenced or RefusalCode.RingViolation or RefusalCode.Corrupt;

    private void EndAll(FastQException reason)
    {
        _calls.Writer.TryComplete();
        while (_calls.Reader.TryRead(out Call? call))
        {
            call.Fail(reason);
        }

        foreach (Submission submission in _awaited.SelectMany(level => level))
        {
            submission.Fail(reason);
        }

        EndRequests(reason);
        foreach (Subscriber subscriber in _subscribers)
        {
            subscriber.End(_fault);
        }
    }
}
