using FastQ.Linux;

namespace FastQ.Journal;

/// <summary>Writes and syncs through io_uring; jobs by the thread. A sync is submitted only by the journal, and only over writes whose completions were taken.</summary>
internal sealed class UringStorage : RealStorage
{
    private const int Entries = 256;
    private readonly IoUring _ring;
    private readonly Dictionary<ulong, Pending> _pending = [];
    private readonly Queue<StorageCompletion> _failed = new();

    private readonly record struct Pending(IStoredFile File, nint From, int Length, long Offset, bool IsSync);

    private UringStorage(IoUring ring, EventDescriptor wake)
        : base(wake)
    {
        _ring = ring;
    }

    public override string Name => "io_uring";

    public override bool IsBusy => base.IsBusy || _pending.Count > 0 || _failed.Count > 0;

    public static Result<UringStorage> Create()
    {
        Result<EventDescriptor> wake = EventDescriptor.Create();
        if (!wake.Ok)
        {
            return wake.Fault;
        }

        Result<IoUring> ring = IoUring.Create(Entries, wake.Value);
        if (ring.Ok)
        {
            return new UringStorage(ring.Value, wake.Value);
        }

        wake.Value.Dispose();
        return ring.Fault;
    }

    public override unsafe void Write(IStoredFile file, byte* from, int length, long offset, ulong token)
    {
        _pending.Add(token, new Pending(file, (nint)from, length, offset, false));
        Queue(token);
    }

    public override void Sync(IStoredFile file, ulong token)
    {
        _pending.Add(token, new Pending(file, 0, 0, 0, true));
        Queue(token);
    }

    public override int Poll(Span<StorageCompletion> into)
    {
        int count = 0;
        while (count < into.Length && _failed.TryDequeue(out StorageCompletion failed))
        {
            into[count++] = failed;
        }

        Span<Completion> taken = stackalloc Completion[16];
        while (_pending.Count > 0 && into.Length - count >= taken.Length)
        {
            int got = _ring.TakeCompletions(taken);
            for (int i = 0; i < got; i++)
            {
                if (TryFinish(taken[i], out StorageCompletion done))
                {
                    into[count++] = done;
                }
            }

            if (got < taken.Length)
            {
                break;
            }
        }

        return count + base.Poll(into[count..]);
    }

    public override void WaitForCompletion()
    {
        if (_failed.Count == 0)
        {
            base.WaitForCompletion();
        }
    }

    public override void Dispose()
    {
        Span<Completion> last = stackalloc Completion[16];
        while (_pending.Count > 0 && _ring.SubmitAndWait(1).Ok)
        {
            int got = _ring.TakeCompletions(last);
            for (int i = 0; i < got; i++)
            {
                _pending.Remove(last[i].Token);
            }
        }

        _ring.Dispose();
        base.Dispose();
    }

    private bool TryFinish(Completion completion, out StorageCompletion done)
    {
        Pending pending = _pending[completion.Token];
        _pending.Remove(completion.Token);
        done = default;
        if (completion.Value < 0)
        {
            Fault fault = new(pending.IsSync ? "fdatasync" : "write", (Errno)(-completion.Value), pending.File.Path);
            done = new StorageCompletion(completion.Token, fault);
            return true;
        }

        if (!pending.IsSync && completion.Value < pending.Length)
        {
            if (completion.Value == 0)
            {
                done = new StorageCompletion(completion.Token, new Fault("write", Errno.EIO, pending.File.Path));
                return true;
            }

            // A short write is continued, as pwritev's would be.
            _pending.Add(completion.Token, pending with { From = pending.From + completion.Value, Length = pending.Length - completion.Value, Offset = pending.Offset + completion.Value });
            Queue(completion.Token);
            return false;
        }

        done = new StorageCompletion(completion.Token, null);
        return true;
    }

    private unsafe void Queue(ulong token)
    {
        Pending pending = _pending[token];
        int descriptor = ((RealFile)pending.File).Handle.Descriptor;
        Invariant.Holds(_pending.Count <= Entries);
        bool queued = pending.IsSync
            ? _ring.TryDataSync(descriptor, token)
            : _ring.TryWrite(descriptor, (byte*)pending.From, (uint)pending.Length, pending.Offset, token);
        Invariant.Holds(queued); // Everything queued is submitted at once, so there is always room.
        Result submitted = _ring.Submit();
        if (!submitted.Ok)
        {
            _pending.Remove(token);
            _failed.Enqueue(new StorageCompletion(token, submitted.Fault));
        }
    }
}
