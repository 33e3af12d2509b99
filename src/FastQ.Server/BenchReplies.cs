using System.Buffers.Binary;
using System.CommandLine;
using FastQ.Client;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Server;

/// <summary>What one side of a benchmark of request and reply measured.</summary>
/// <param name="Alone">Times of requests of which one was under way at a time.</param>
/// <param name="Together">Times where many were.</param>
/// <param name="Seconds">How long those took.</param>
/// <param name="AllocatedBytes">On the asking thread, meanwhile.</param>
internal sealed record BenchReplyFigures(Latencies Alone, Latencies Together, double Seconds, long AllocatedBytes);

/// <summary>Request and reply in place: one process asks, another answers.</summary>
internal static class BenchReplies
{
    /// <summary>So many requests are under way at once.</summary>
    public const int UnderWay = 4096;

    private const int Warm = 2000;
    private const int Alone = 20_000;
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(30);

    public static Command CreateResponder()
    {
        (Option<string> socket, Option<string> queue) = (new("--socket"), new("--queue"));
        Command command = new("bench-responder") { socket, queue };
        command.Hidden = true;
        command.SetAction(parsed => Respond(parsed.GetRequiredValue(socket), parsed.GetRequiredValue(queue)));
        return command;
    }

    private static int Respond(string socket, string queue)
    {
        using Session session = Session.Connect(new SessionOptions { Path = socket, ClientName = "bench responder" });
        Subscription subscription = session.Subscribe(queue, new SubscribeOptions { Credit = 2 * UnderWay });
        ThisProcess.DieWithParent();
        Console.Out.WriteLine("ready");
        Console.Out.Flush();
        _ = Console.In.ReadLine();
        Task<string?> stopAsked = Task.Run(Console.In.ReadLine);
        while (!stopAsked.IsCompleted)
        {
            if (subscription.Receive(TimeSpan.FromMilliseconds(200), out Delivery request))
            {
                session.Reply(request, request.Body, ConfirmLevel.None);
            }
        }

        return 0;
    }

    /// <summary>Asks: first one at a time, then many at once. Each reply must be the request's own body, and come once.</summary>
    public static BenchReplyFigures Ask(string socket, string queue, int size, long count)
    {
        using Session session = Session.Connect(new SessionOptions { Path = socket, ClientName = "bench requester" });
        QueueHandle to = session.OpenQueue(queue);
        Asking asking = new(session, to, Math.Max(size, BenchWorkers.MarkBytes));
        asking.Run(Warm, mostUnderWay: 1, new Latencies());
        Latencies alone = new();
        asking.Run(Math.Min(Alone, count), mostUnderWay: 1, alone);
        asking.Run(Warm, UnderWay, new Latencies());
        Latencies together = new();
        long allocated = GC.GetAllocatedBytesForCurrentThread();
        long start = Clock.MonotonicNanoseconds();
        asking.Run(count, UnderWay, together);
        double seconds = (Clock.MonotonicNanoseconds() - start) / 1e9;
        return new BenchReplyFigures(alone, together, seconds, GC.GetAllocatedBytesForCurrentThread() - allocated);
    }

    private sealed class Asking
    {
        private readonly Session _session;
        private readonly QueueHandle _queue;
        private readonly byte[] _body;
        private Latencies _latencies = new();
        private long _asked;
        private long _answered;
        private long _sumAsked;
        private long _sumAnswered;

        public Asking(Session session, QueueHandle queue, int size)
        {
            (_session, _queue, _body) = (session, queue, new byte[size]);
            session.Replied = Take;
            session.Refused = refusal => throw new IOException($"A request was refused: {refusal.Message}");
        }

        public void Run(long count, int mostUnderWay, Latencies latencies)
        {
            _latencies = latencies;
            for (long end = _asked + count; _answered < end;)
            {
                while (_asked < end && _asked - _answered < mostUnderWay)
                {
                    BinaryPrimitives.WriteInt64LittleEndian(_body, _asked);
                    BinaryPrimitives.WriteInt64LittleEndian(_body.AsSpan(8), Clock.MonotonicNanoseconds());
                    _session.Request(_queue, _body, s_patience);
                    _sumAsked += _asked++;
                }

                if (!_session.WaitForReplies(s_patience))
                {
                    throw new IOException($"{_asked - _answered} requests have no reply.");
                }
            }

            if (_sumAsked != _sumAnswered)
            {
                throw new IOException("A reply came twice, or another did not come.");
            }
        }

        private void Take(in ReplyView reply)
        {
            if (reply.IsError || reply.Body.Length != _body.Length)
            {
                throw new IOException($"Request {reply.Request} failed: {reply.Code}.");
            }

            _latencies.Add(Clock.MonotonicNanoseconds() - BinaryPrimitives.ReadInt64LittleEndian(reply.Body[8..]));
            _sumAnswered += BinaryPrimitives.ReadInt64LittleEndian(reply.Body);
            _answered++;
        }
    }
}
