using System.Text;
using System.Threading.Channels;
using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>A request whose answer is awaited. Sent, answered and failed on the connection's thread; cancelled by any.</summary>
internal abstract class PendingRequest(Func<Session, ulong> send) : Call
{
    private uint _nextPart;

    /// <summary>Number of its submission, once it was sent.</summary>
    public ulong Number { get; private set; }

    public override void Run(Session session) => Number = send(session);

    /// <summary>Takes what came. True: it waits for no more.</summary>
    public bool Take(in ReplyView view)
    {
        if (view.IsError)
        {
            string words = Encoding.UTF8.GetString(view.Body);
            Fail(view.Code != RefusalCode.None ? new FastQException(view.Code, words) : new RequestFailedException(PropertyReader.TextOf(view.Properties, PropertyTag.Type) ?? "failed", words));
            return true;
        }

        if (view.Part < _nextPart)
        {
            return false; // Sent again after a reconnect of its sender.
        }

        if (view.Part > _nextPart)
        {
            Fail(new FastQException(RefusalCode.Disconnected, $"Part {_nextPart} of the answer was lost with a connection"));
            return true;
        }

        _nextPart++;
        return TakePart(view);
    }

    protected abstract bool TakePart(in ReplyView view);
}

/// <summary>It wants one reply: the first.</summary>
internal sealed class SingleRequest(Func<Session, ulong> send, CancellationToken cancellation) : PendingRequest(send)
{
    private readonly TaskCompletionSource<Reply> _over = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public Task<Reply> Over => _over.Task;

    public override void Fail(Exception exception) => _over.TrySetException(exception);

    protected override bool TakePart(in ReplyView view)
    {
        _over.TrySetResult(new Reply(view));
        return true;
    }

    protected override void SetCancelled() => _over.TrySetCanceled(cancellation);
}

/// <summary>It wants all parts, as they come.</summary>
internal sealed class StreamedRequest(Func<Session, ulong> send, long mostBytes, CancellationToken cancellation) : PendingRequest(send)
{
    private readonly Channel<Reply> _parts = Channel.CreateUnbounded<Reply>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });
    private long _waitingBytes;

    public ChannelReader<Reply> Parts => _parts.Reader;

    /// <summary>The next part that came, if one did.</summary>
    public bool TryNext([System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out Reply? part)
    {
        bool any = _parts.Reader.TryRead(out part);
        if (any)
        {
            Interlocked.Add(ref _waitingBytes, -part!.Body.Length);
        }

        return any;
    }

    public override void Fail(Exception exception) => _parts.Writer.TryComplete(exception);

    protected override bool TakePart(in ReplyView view)
    {
        if (!view.IsEnd)
        {
            _parts.Writer.TryWrite(new Reply(view));
            if (Interlocked.Add(ref _waitingBytes, view.Body.Length) > mostBytes)
            {
                Fail(new FastQException(RefusalCode.LimitReached, "Bytes of parts that came and were not looked at", (ulong)mostBytes));
                return true;
            }
        }

        if (view.IsLast)
        {
            _parts.Writer.TryComplete();
        }

        return view.IsLast;
    }

    protected override void SetCancelled() => _parts.Writer.TryComplete(new OperationCanceledException(cancellation));
}

/// <summary>A reply that was sent, as long as somebody wants to hear what became of it.</summary>
internal sealed class SentReply
{
    private readonly TaskCompletionSource<RefusalCode> _word = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>None: it is in its requester's ring.</summary>
    public Task<RefusalCode> Word => _word.Task;

    public void Tell(RefusalCode code) => _word.TrySetResult(code);
}
