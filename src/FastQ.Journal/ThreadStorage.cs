using FastQ.Linux;

namespace FastQ.Journal;

/// <summary>pwritev by the caller, fdatasync by a thread. A write into the page cache takes 4 to 5 us and does not wait for the disk; handing it to another thread would cost a wake-up more than that.</summary>
internal sealed class ThreadStorage : RealStorage
{
    /// <summary>Write-back is begun a piece at a time: a request to the device costs the same for 64 KiB and for 1 MiB.</summary>
    private const int WriteBackBytes = 1024 * 1024;
    private readonly Queue<StorageCompletion> _written = new();
    private FileHandle? _dirtyFile; // Being written to: from start to end nothing was asked to be written back.
    private long _dirtyStart;
    private long _dirtyEnd;
    private readonly Worker _syncs; // Apart from the jobs: no confirm waits while a slot is zeroed.

    public ThreadStorage()
        : base(EventDescriptor.Create().OrThrow())
    {
        _syncs = new Worker("fastq-sync", Finish);
    }

    public override string Name => "thread";

    public override bool IsBusy => base.IsBusy || _written.Count > 0;

    public override unsafe void Write(IStoredFile file, byte* from, int length, long offset, ulong token)
    {
        FileHandle handle = ((RealFile)file).Handle;
        Result result = handle.WriteAt(new ReadOnlySpan<byte>(from, length), offset);
        if (result.Ok)
        {
            result = BeginWriteBack(handle, offset, length);
        }

        _written.Enqueue(new StorageCompletion(token, result.Ok ? null : result.Fault));
    }

    /// <summary>So that the sync that comes finds little left to do.</summary>
    private Result BeginWriteBack(FileHandle handle, long offset, int length)
    {
        if (handle != _dirtyFile || offset != _dirtyEnd)
        {
            (_dirtyFile, _dirtyStart) = (handle, offset);
        }

        _dirtyEnd = offset + length;
        if (_dirtyEnd - _dirtyStart < WriteBackBytes)
        {
            return Result.Success;
        }

        long start = _dirtyStart;
        _dirtyStart = _dirtyEnd;
        return handle.StartWriteBack(start, _dirtyEnd - start);
    }

    public override void Sync(IStoredFile file, ulong token) => RunOn(_syncs, file.DataSync, token);

    public override int Poll(Span<StorageCompletion> into)
    {
        int count = 0;
        while (count < into.Length && _written.TryDequeue(out StorageCompletion done))
        {
            into[count++] = done;
        }

        return count + base.Poll(into[count..]);
    }

    public override void Dispose()
    {
        _syncs.Dispose();
        base.Dispose();
    }

    public override void WaitForCompletion()
    {
        if (_written.Count == 0)
        {
            base.WaitForCompletion();
        }
    }
}
