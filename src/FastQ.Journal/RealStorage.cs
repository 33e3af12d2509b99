using System.Collections.Concurrent;
using FastQ.Linux;

namespace FastQ.Journal;

/// <summary>What both real bodies share: files, names, and a thread for what blocks.</summary>
internal abstract class RealStorage : IStorage
{
    private readonly ConcurrentQueue<StorageCompletion> _done = new();
    private readonly Worker _jobs;
    private int _running;

    protected RealStorage(EventDescriptor wake)
    {
        Wake = wake;
        _jobs = new Worker("fastq-jobs", Finish);
    }

    public abstract string Name { get; }

    public int WakeDescriptor => Wake.Descriptor;

    public virtual bool IsBusy => _running > 0;

    protected EventDescriptor Wake { get; }

    public Result<IReadOnlyList<string>> List(string directory)
    {
        if (!Directory.Exists(directory))
        {
            return Array.Empty<string>();
        }

        string[] names = [.. Directory.EnumerateFileSystemEntries(directory).Select(path => Path.GetFileName(path)!)];
        Array.Sort(names, StringComparer.Ordinal);
        return names;
    }

    public Result<IStoredFile> Open(string path, bool create)
    {
        Result<FileHandle> file = FileHandle.Open(path, OpenMode.ReadWrite | (create ? OpenMode.Create : 0));
        return file.Ok ? new RealFile(file.Value) : file.Fault;
    }

    public Result Rename(string from, string to) => Directories.Rename(from, to);

    public Result Unlink(string path) => Directories.Unlink(path);

    public Result MakeDirectory(string path) => Directories.CreatePrivate(path);

    public Result SyncDirectory(string path) => Directories.Sync(path);

    public abstract unsafe void Write(IStoredFile file, byte* from, int length, long offset, ulong token);

    public abstract void Sync(IStoredFile file, ulong token);

    public void Run(Func<Result> job, ulong token) => RunOn(_jobs, job, token);

    public virtual int Poll(Span<StorageCompletion> into)
    {
        int count = 0;
        while (_running > 0 && count < into.Length && _done.TryDequeue(out StorageCompletion done))
        {
            into[count++] = done;
            _running--;
        }

        return count;
    }

    public virtual void WaitForCompletion()
    {
        Invariant.Holds(IsBusy);
        _ = Linux.Poll.Wait(WakeDescriptor, WakeDescriptor, 1000);
        Wake.Drain();
    }

    public virtual void Dispose()
    {
        _jobs.Dispose();
        Wake.Dispose();
    }

    protected void RunOn(Worker worker, Func<Result> job, ulong token)
    {
        _running++;
        worker.Add(job, token);
    }

    /// <summary>Called by a worker: the turn takes the completion at its next Poll.</summary>
    protected void Finish(StorageCompletion completion)
    {
        _done.Enqueue(completion);
        Wake.Signal();
    }

    /// <summary>A thread that does one thing after the other.</summary>
    protected sealed class Worker : IDisposable
    {
        private readonly BlockingCollection<(Func<Result> Job, ulong Token)> _queue = [];
        private readonly Thread _thread;

        public Worker(string name, Action<StorageCompletion> finish)
        {
            _thread = new Thread(() => Work(finish)) { IsBackground = true, Name = name };
            _thread.Start();
        }

        public void Add(Func<Result> job, ulong token) => _queue.Add((job, token));

        public void Dispose()
        {
            _queue.CompleteAdding();
            _thread.Join();
            _queue.Dispose();
        }

        private void Work(Action<StorageCompletion> finish)
        {
            foreach ((Func<Result> job, ulong token) in _queue.GetConsumingEnumerable())
            {
                Result result = job();
                finish(new StorageCompletion(token, result.Ok ? null : result.Fault));
            }
        }
    }
}

/// <summary>A file of a real disk.</summary>
internal sealed unsafe class RealFile(FileHandle file) : IStoredFile
{
    public FileHandle Handle => file;

    public string Path => file.Path;

    public Result<long> Length() => file.Length();

    public Result<int> ReadAt(Span<byte> into, long offset) => file.ReadAt(into, offset);

    public Result<int> ReadDisk(Span<byte> into, long offset)
    {
        Result<FileHandle> direct = FileHandle.Open(Path, OpenMode.ReadOnly | OpenMode.Direct);
        if (!direct.Ok)
        {
            return direct.Fault;
        }

        using FileHandle handle = direct.Value;
        int aligned = Format.AlignBlock(into.Length); // O_DIRECT wants aligned places, lengths and memory.
        using NativeBuffer buffer = new(aligned);
        Result<int> read = handle.ReadAt(buffer.Span, offset);
        if (!read.Ok)
        {
            return read;
        }

        int count = Math.Min(read.Value, into.Length);
        buffer.Span[..count].CopyTo(into);
        return count;
    }

    public Result WriteAt(ReadOnlySpan<byte> bytes, long offset) => file.WriteAt(bytes, offset);

    public Result Allocate(long bytes) => file.Allocate(0, bytes);

    public Result DataSync() => file.DataSync();

    public Result Sync() => file.Sync();

    public Result<FileHandle>? OpenReadOnly() => FileHandle.Open(Path, OpenMode.ReadOnly);

    public void Dispose() => file.Dispose();
}
