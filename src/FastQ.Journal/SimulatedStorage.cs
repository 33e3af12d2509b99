using FastQ.Linux;

namespace FastQ.Journal;

// The third body of the seam: a disk in memory that can lose power. Deterministic: one thread, no clock, no dice but the caller's.
//
//   live     what a reader sees: the page cache          durable   what is left when the power fails
//   write -> live, its sectors unsynced          sync -> what was unsynced when it was asked for becomes durable
//   create, rename, unlink -> live names         sync of the directory -> its names become durable
//
// A power loss gives a new disk: of each unsynced sector and name change the caller says whether it was lost, kept or torn.
// A file that was opened for clients has a memory file beside it with the same bytes, which they map: what is written appears there at once.
// A failed sync leaves its sectors in the cache, clean and not on the disk, as Linux does: a later sync that succeeds does not bring them.
// A disk that lies is made of an honest one at rest: Rot, Undo and Misplace change what was synced, Put takes, adds or exchanges a file.

/// <summary>What a disk is asked for.</summary>
public enum StorageStepKind
{
    Read,
    Write,
    Allocate,
    Sync,
    Create,
    Rename,
    Unlink,
    MakeDirectory,
    SyncDirectory,
}

/// <summary>One step.</summary>
/// <param name="Kind">What.</param>
/// <param name="Number">Counts all steps but reads, from 1 on; a read has that of the step before.</param>
/// <param name="Path">On what; of a rename the old name.</param>
/// <param name="Offset">Of a read or write, in bytes.</param>
/// <param name="Bytes">Of a read, write or allocation.</param>
public readonly record struct StorageStep(StorageStepKind Kind, long Number, string Path, long Offset, long Bytes);

/// <summary>Something that a power loss may take.</summary>
/// <param name="Kind">Write: a sector. Allocate: a file's length. Else: a change of names.</param>
/// <param name="Path">Of the file or the name.</param>
/// <param name="Sector">Which 512 bytes of the file; 0 where none is meant.</param>
/// <param name="Step">The step that made it.</param>
public readonly record struct Unsynced(StorageStepKind Kind, string Path, long Sector, long Step);

/// <summary>What becomes of it.</summary>
public enum Survival
{
    Lost,
    Kept,

    /// <summary>Of a sector: the first half new, the second half old. Of a name change: kept.</summary>
    Torn,
}

/// <summary>A write that a sync has brought to the disk, and what lay there before.</summary>
/// <param name="Path">Of the file as it is called now.</param>
/// <param name="Step">The step that wrote.</param>
/// <param name="Sectors">Number, bytes before, bytes since.</param>
public sealed record SyncedWrite(string Path, long Step, IReadOnlyList<(long Sector, byte[] Before, byte[] Since)> Sectors);

/// <summary>Told of a read that was done, with what it gives.</summary>
public delegate void SimulatedRead(StorageStep step, Span<byte> bytes);

/// <summary>A disk in memory.</summary>
public sealed class SimulatedStorage : IStorage
{
    public const int SectorBytes = 512;
    private readonly SortedDictionary<string, Node> _live = new(StringComparer.Ordinal);
    private readonly SortedDictionary<string, Node> _durable = new(StringComparer.Ordinal);
    private readonly List<NameChange> _unsynced = [];
    private readonly List<Handed> _handed = [];
    private readonly Queue<StorageCompletion> _done = new();
    private readonly List<Node> _mirrored = [];
    private readonly Queue<SyncedWriteOf> _synced = new();

    private sealed record SyncedWriteOf(Node Node, long Step, List<(long Sector, byte[] Before, byte[] Since)> Sectors);

    private sealed record Handed(Func<Result> Do, ulong Token, bool IsJob);

    private sealed record NameChange(StorageStepKind Kind, string Path, string To, Node? Node, long Step);

    /// <param name="root">A directory that is there and lasts, like /sim.</param>
    public SimulatedStorage(string root)
    {
        for (string? at = root; !string.IsNullOrEmpty(at); at = System.IO.Path.GetDirectoryName(at))
        {
            _live[at] = _durable[at] = new Node(isDirectory: true);
        }
    }

    private SimulatedStorage()
    {
    }

    public string Name => "simulated";

    public int WakeDescriptor => -1;

    public bool IsBusy => _handed.Count > 0 || _done.Count > 0;

    /// <summary>Steps so far.</summary>
    public long Steps { get; private set; }

    /// <summary>Asked before each step: an errno to fail with, or None. A failed write writes nothing.</summary>
    public Func<StorageStep, Errno>? Fail { get; set; }

    /// <summary>Told after each step that was done. The place to let the power fail.</summary>
    public Action<StorageStep>? Stepped { get; set; }

    /// <summary>Which of the things handed over is done next, of how many; -1: none at this Poll. Without it: in order, all.</summary>
    public Func<int, int>? Pick { get; set; }

    /// <summary>Changes what a read gives, after it was read: a sector that reads wrong once.</summary>
    public SimulatedRead? Misread { get; set; }

    /// <summary>How many of the last writes that became durable it remembers, with what they wrote over.</summary>
    public int SyncedWritesKept { get; set; }

    /// <summary>The last writes that became durable, oldest first.</summary>
    public IReadOnlyList<SyncedWrite> SyncedWrites() =>
        [.. _synced.Select(write => (Write: write, Path: _durable.FirstOrDefault(pair => pair.Value == write.Node).Key)).Where(found => found.Path is not null).Select(found => new SyncedWrite(found.Path, found.Write.Step, found.Write.Sectors))];

    /// <summary>The disk as another machine would find it after the power failed now.</summary>
    public SimulatedStorage AfterPowerLoss(Func<Unsynced, Survival> survives)
    {
        SimulatedStorage image = new();
        Dictionary<Node, Node> copies = [];
        foreach ((string path, Node node) in _durable)
        {
            image._durable[path] = node;
        }

        foreach (NameChange change in _unsynced)
        {
            if (survives(new Unsynced(change.Kind, change.Path, 0, change.Step)) != Survival.Lost)
            {
                ApplyTo(image._durable, change);
            }
        }

        // A name whose directory did not last is out of reach.
        List<string> paths = [.. image._durable.Keys];
        foreach (string path in paths)
        {
            string? parent = System.IO.Path.GetDirectoryName(path);
            if (!string.IsNullOrEmpty(parent) && !image._durable.ContainsKey(parent))
            {
                image._durable.Remove(path);
                continue;
            }

            Node node = image._durable[path];
            if (!copies.TryGetValue(node, out Node? copy))
            {
                copies[node] = copy = node.AfterPowerLoss(path, survives);
            }

            image._durable[path] = image._live[path] = copy;
        }

        return image;
    }

    /// <summary>The disk as the next process finds it after this one was killed now: all that was done is in the cache, and what was not synced still is not.</summary>
    public SimulatedStorage AfterKill()
    {
        SimulatedStorage image = new() { Steps = Steps, SyncedWritesKept = SyncedWritesKept };
        Dictionary<Node, Node> copies = [];
        Node CopyOf(Node node) => copies.TryGetValue(node, out Node? copy) ? copy : copies[node] = node.Copy();
        foreach ((string path, Node node) in _live)
        {
            image._live[path] = CopyOf(node);
        }

        foreach ((string path, Node node) in _durable)
        {
            image._durable[path] = CopyOf(node);
        }

        foreach (SyncedWriteOf write in _synced.Where(write => copies.ContainsKey(write.Node)))
        {
            image._synced.Enqueue(write with { Node = copies[write.Node] });
        }

        image._unsynced.AddRange(_unsynced.Select(change => change with { Node = change.Node is null ? null : CopyOf(change.Node) }));
        foreach (Node node in _mirrored)
        {
            if (copies.TryGetValue(node, out Node? copy))
            {
                copy.Mirror = node.Mirror; // The same file: whoever has mapped it sees what the next process writes.
                node.Mirror = null;
                image._mirrored.Add(copy);
            }
        }

        return image;
    }

    /// <summary>Nothing more is done: what was handed over and not begun is dropped. For a process that is no more.</summary>
    public void PowerOff()
    {
        _handed.Clear();
        _done.Clear();
    }

    /// <summary>Turns bits of a byte over, in the cache and on the disk.</summary>
    public void Rot(string path, long offset, byte mask)
    {
        Node node = _live[path];
        node.Live[offset] ^= mask;
        node.Durable[offset] ^= mask;
        _ = node.Mirror?.WriteAt(node.Live.AsSpan((int)offset, 1), offset);
    }

    /// <summary>The disk said that this write was on it, and it is not. False: something else lies there by now, so nothing is changed.</summary>
    public bool Undo(SyncedWrite write)
    {
        if (!_live.TryGetValue(write.Path, out Node? node) || !write.Sectors.All(sector => node.Holds(sector.Sector, sector.Since)))
        {
            return false;
        }

        foreach ((long sector, byte[] before, _) in write.Sectors)
        {
            node.Lay(before, sector);
        }

        return true;
    }

    /// <summary>Lays a write's bytes where another sector's belong, as far as that file goes.</summary>
    public void Misplace(SyncedWrite write, string path, long sector)
    {
        for (int i = 0; i < write.Sectors.Count; i++)
        {
            _live[path].Lay(write.Sectors[i].Since, sector + i);
        }
    }

    /// <summary>A file's bytes; empty when it is not there.</summary>
    public byte[] BytesOf(string path) => _live.TryGetValue(path, out Node? node) ? node.Live.AsSpan(0, (int)node.LiveLength).ToArray() : [];

    /// <summary>Somebody was at the directory while nothing ran: the file is this now; null: gone.</summary>
    public void Put(string path, byte[]? bytes)
    {
        _live.Remove(path);
        _durable.Remove(path);
        if (bytes is not null)
        {
            Node node = new(isDirectory: false);
            node.Write(bytes, 0, 0);
            node.MakeDurable(node.Cover());
            _live[path] = _durable[path] = node;
        }
    }

    public Result<IReadOnlyList<string>> List(string directory) =>
        _live.Keys.Where(path => System.IO.Path.GetDirectoryName(path) == directory).Select(path => System.IO.Path.GetFileName(path)!).ToArray();

    public Result<IStoredFile> Open(string path, bool create)
    {
        if (_live.TryGetValue(path, out Node? node))
        {
            return node.IsDirectory ? new Fault("open", Errno.EISDIR, path) : new SimulatedFile(this, node, path);
        }

        if (!create || !HasParent(path))
        {
            return new Fault("open", Errno.ENOENT, path);
        }

        node = new Node(isDirectory: false);
        Result made = Change(new NameChange(StorageStepKind.Create, path, "", node, Steps + 1));
        return made.Ok ? new SimulatedFile(this, node, path) : made.Fault;
    }

    public Result Rename(string from, string to) => _live.TryGetValue(from, out Node? node)
        ? Change(new NameChange(StorageStepKind.Rename, from, to, node, Steps + 1))
        : new Fault("rename", Errno.ENOENT, $"{from} to {to}");

    public Result Unlink(string path) => _live.ContainsKey(path)
        ? Change(new NameChange(StorageStepKind.Unlink, path, "", null, Steps + 1))
        : new Fault("unlink", Errno.ENOENT, path);

    public Result MakeDirectory(string path)
    {
        if (_live.TryGetValue(path, out Node? node))
        {
            return node.IsDirectory ? Result.Success : new Fault("mkdir", Errno.ENOTDIR, path);
        }

        return HasParent(path)
            ? Change(new NameChange(StorageStepKind.MakeDirectory, path, "", new Node(isDirectory: true), Steps + 1))
            : new Fault("mkdir", Errno.ENOENT, path);
    }

    public Result SyncDirectory(string path)
    {
        if (!_live.ContainsKey(path))
        {
            return new Fault("fsync", Errno.ENOENT, path);
        }

        return Step(new StorageStep(StorageStepKind.SyncDirectory, Steps + 1, path, 0, 0), "fsync", () =>
        {
            foreach (NameChange change in _unsynced.Where(change => System.IO.Path.GetDirectoryName(change.Path) == path))
            {
                ApplyTo(_durable, change);
            }

            _unsynced.RemoveAll(change => System.IO.Path.GetDirectoryName(change.Path) == path);
        });
    }

    public unsafe void Write(IStoredFile file, byte* from, int length, long offset, ulong token)
    {
        nint address = (nint)from;
        _handed.Add(new Handed(() => file.WriteAt(new ReadOnlySpan<byte>((byte*)address, length), offset), token, IsJob: false));
    }

    public void Sync(IStoredFile file, ulong token)
    {
        SimulatedFile simulated = (SimulatedFile)file;
        List<Pending> covered = simulated.Node.Cover(); // Not what is written between now and its end.
        _handed.Add(new Handed(() => simulated.SyncOf("fdatasync", covered), token, IsJob: false));
    }

    public void Run(Func<Result> job, ulong token) => _handed.Add(new Handed(job, token, IsJob: true));

    public int Poll(Span<StorageCompletion> into)
    {
        while (_handed.Count > 0 && _done.Count < into.Length)
        {
            int picked = Pick?.Invoke(_handed.Count) ?? 0;
            if (picked < 0)
            {
                break;
            }

            DoOne(picked);
        }

        int count = 0;
        while (count < into.Length && _done.TryDequeue(out StorageCompletion done))
        {
            into[count++] = done;
        }

        return count;
    }

    public void WaitForCompletion()
    {
        Invariant.Holds(IsBusy);
        if (_done.Count == 0)
        {
            DoOne(Math.Max(0, Pick?.Invoke(_handed.Count) ?? 0));
        }
    }

    public void Dispose()
    {
        foreach (Node node in _mirrored)
        {
            node.Mirror?.Dispose();
            node.Mirror = null;
        }

        _mirrored.Clear();
    }

    private static void ApplyTo(SortedDictionary<string, Node> names, NameChange change)
    {
        switch (change.Kind)
        {
            case StorageStepKind.Rename:
                names.Remove(change.Path);
                names[change.To] = change.Node!;
                break;
            case StorageStepKind.Unlink:
                names.Remove(change.Path);
                break;
            default:
                names[change.Path] = change.Node!;
                break;
        }
    }

    private bool HasParent(string path) => System.IO.Path.GetDirectoryName(path) is string parent && _live.TryGetValue(parent, out Node? node) && node.IsDirectory;

    private Result Change(NameChange change) => Step(new StorageStep(change.Kind, change.Step, change.Path, 0, 0), change.Kind.ToString(), () =>
    {
        ApplyTo(_live, change);
        _unsynced.Add(change);
    });

    private void DoOne(int picked)
    {
        // Jobs run one after the other.
        int index = _handed[picked].IsJob ? _handed.FindIndex(handed => handed.IsJob) : picked;
        Handed next = _handed[index];
        _handed.RemoveAt(index);
        Result result = next.Do();
        _done.Enqueue(new StorageCompletion(next.Token, result.Ok ? null : result.Fault));
    }

    private Result Step(in StorageStep step, string call, Action act, Action? failed = null)
    {
        Errno errno = Fail?.Invoke(step) ?? Errno.None;
        if (errno != Errno.None)
        {
            failed?.Invoke();
            return new Fault(call, errno, step.Path);
        }

        if (step.Kind != StorageStepKind.Read)
        {
            Steps++;
        }

        act();
        if (step.Kind != StorageStepKind.Read)
        {
            Stepped?.Invoke(step);
        }

        return Result.Success;
    }

    private void Remember(Node node, List<Pending> covered)
    {
        if (SyncedWritesKept == 0)
        {
            return;
        }

        foreach (IGrouping<long, Pending> write in covered.GroupBy(sector => sector.Step).OrderBy(write => write.Key))
        {
            _synced.Enqueue(new SyncedWriteOf(node, write.Key, [.. write.OrderBy(sector => sector.Sector).Select(sector => (sector.Sector, node.Durable.AsSpan((int)(sector.Sector * SectorBytes), SectorBytes).ToArray(), sector.Bytes))]));
            if (_synced.Count > SyncedWritesKept)
            {
                _ = _synced.Dequeue();
            }
        }
    }

    /// <summary>A sector as it was when a sync was asked for.</summary>
    private readonly record struct Pending(long Sector, byte[] Bytes, long Step);

    /// <summary>A file or directory, whatever its names.</summary>
    private sealed class Node(bool isDirectory)
    {
        private readonly Dictionary<long, long> _unsynced = [];
        private long _lengthStep;

        public bool IsDirectory => isDirectory;

        /// <summary>As long as the largest of the two, in whole sectors.</summary>
        public byte[] Live { get; private set; } = [];

        public byte[] Durable { get; private set; } = [];

        public long LiveLength { get; private set; }

        public long DurableLength { get; private set; }

        /// <summary>What clients map; null when none ever did.</summary>
        public FileHandle? Mirror { get; set; }

        public Result<FileHandle> OpenMirror(string path, List<Node> mirrored)
        {
            if (Mirror is null)
            {
                Result<FileHandle> made = MemoryFile.Create(System.IO.Path.GetFileName(path), LiveLength);
                Result written = made.Ok ? made.Value.WriteAt(Live.AsSpan(0, (int)LiveLength), 0) : made.Fault;
                if (!written.Ok)
                {
                    return written.Fault;
                }

                Mirror = made.Value;
                mirrored.Add(this);
            }

            return FileHandle.Open($"/proc/self/fd/{Mirror.Descriptor}", OpenMode.ReadOnly);
        }

        public Node Copy()
        {
            Node copy = new(isDirectory) { Live = [.. Live], Durable = [.. Durable], LiveLength = LiveLength, DurableLength = DurableLength, _lengthStep = _lengthStep };
            foreach ((long sector, long step) in _unsynced)
            {
                copy._unsynced[sector] = step;
            }

            return copy;
        }

        public Node AfterPowerLoss(string path, Func<Unsynced, Survival> survives)
        {
            byte[] bytes = [.. Durable];
            long length = DurableLength;
            if (LiveLength != DurableLength && survives(new Unsynced(StorageStepKind.Allocate, path, 0, _lengthStep)) != Survival.Lost)
            {
                length = LiveLength;
            }

            foreach ((long sector, long step) in _unsynced.OrderBy(pair => pair.Key))
            {
                Survival fate = survives(new Unsynced(StorageStepKind.Write, path, sector, step));
                if (fate == Survival.Lost)
                {
                    continue;
                }

                int at = (int)(sector * SectorBytes);
                int count = fate == Survival.Torn ? SectorBytes / 2 : SectorBytes;
                Live.AsSpan(at, count).CopyTo(bytes.AsSpan(at));
                length = Math.Max(length, Math.Min(LiveLength, at + SectorBytes));
            }

            return new Node(isDirectory) { Live = bytes, Durable = [.. bytes], LiveLength = length, DurableLength = length };
        }

        public void Reach(long length, long step)
        {
            if (length <= LiveLength)
            {
                return;
            }

            LiveLength = length;
            _lengthStep = step;
            _ = Mirror?.SetLength(length);
            long whole = (length + SectorBytes - 1) / SectorBytes * SectorBytes;
            if (whole > Live.Length)
            {
                byte[] grown = new byte[whole];
                Live.CopyTo(grown, 0);
                byte[] durable = new byte[whole];
                Durable.CopyTo(durable, 0);
                (Live, Durable) = (grown, durable);
            }
        }

        public void Write(ReadOnlySpan<byte> bytes, long offset, long step)
        {
            Reach(offset + bytes.Length, step);
            bytes.CopyTo(Live.AsSpan((int)offset));
            _ = Mirror?.WriteAt(bytes, offset);
            for (long sector = offset / SectorBytes; sector * SectorBytes < offset + bytes.Length; sector++)
            {
                _unsynced[sector] = step;
            }
        }

        /// <summary>What a sync that is asked for now will bring to the disk.</summary>
        public List<Pending> Cover() => [.. _unsynced.Select(pair => new Pending(pair.Key, Live.AsSpan((int)(pair.Key * SectorBytes), SectorBytes).ToArray(), pair.Value))];

        public bool Holds(long sector, byte[] bytes) => (sector + 1) * SectorBytes <= Durable.Length && Durable.AsSpan((int)(sector * SectorBytes), SectorBytes).SequenceEqual(bytes);

        public void Lay(byte[] bytes, long sector)
        {
            if ((sector + 1) * SectorBytes <= Durable.Length)
            {
                bytes.CopyTo(Durable, sector * SectorBytes);
                bytes.CopyTo(Live, sector * SectorBytes);
            }
        }

        public void MakeDurable(List<Pending> covered)
        {
            DurableLength = LiveLength;
            covered.ForEach(sector => sector.Bytes.CopyTo(Durable, sector.Sector * SectorBytes));
            Clean(covered);
        }

        /// <summary>Not unsynced any more, unless written again since.</summary>
        public void Clean(List<Pending> covered)
        {
            foreach (Pending sector in covered)
            {
                if (_unsynced.TryGetValue(sector.Sector, out long step) && step == sector.Step)
                {
                    _unsynced.Remove(sector.Sector);
                }
            }
        }

        /// <summary>Around the cache: what is unsynced is written out first, as the kernel does; what a failed sync left in the cache is not.</summary>
        public int ReadDisk(Span<byte> into, long offset)
        {
            int count = (int)Math.Clamp(LiveLength - offset, 0, into.Length);
            for (int i = 0; i < count; i++)
            {
                long at = offset + i;
                into[i] = _unsynced.ContainsKey(at / SectorBytes) ? Live[at] : Durable[at];
            }

            return count;
        }

        public int ReadLive(Span<byte> into, long offset)
        {
            int count = (int)Math.Clamp(LiveLength - offset, 0, into.Length);
            if (count > 0)
            {
                Live.AsSpan((int)offset, count).CopyTo(into);
            }

            return count;
        }
    }

    private sealed class SimulatedFile(SimulatedStorage storage, Node node, string path) : IStoredFile
    {
        private bool _isClosed;

        public Node Node => node;

        public string Path => path;

        public Result<long> Length() => node.LiveLength;

        public Result<int> ReadAt(Span<byte> into, long offset) => Read(into.Length, offset) is { Ok: false } failed ? failed.Fault : AsRead(into, offset, node.ReadLive(into, offset));

        public Result<int> ReadDisk(Span<byte> into, long offset) => Read(into.Length, offset) is { Ok: false } failed ? failed.Fault : AsRead(into, offset, node.ReadDisk(into, offset));

        public Result WriteAt(ReadOnlySpan<byte> bytes, long offset)
        {
            Invariant.Holds(!_isClosed);
            byte[] copy = bytes.ToArray();
            StorageStep step = new(StorageStepKind.Write, storage.Steps + 1, path, offset, bytes.Length);
            return storage.Step(step, "pwrite", () => node.Write(copy, offset, step.Number));
        }

        public Result Allocate(long bytes)
        {
            if (bytes <= node.LiveLength)
            {
                return Result.Success; // No file here has holes: it asks the disk for nothing, so it cannot be full.
            }

            StorageStep step = new(StorageStepKind.Allocate, storage.Steps + 1, path, 0, bytes);
            return storage.Step(step, "fallocate", () => node.Reach(bytes, step.Number));
        }

        public Result DataSync() => SyncOf("fdatasync", node.Cover());

        public Result Sync() => SyncOf("fsync", node.Cover());

        public Result SyncOf(string call, List<Pending> covered)
        {
            Invariant.Holds(!_isClosed);
            StorageStep step = new(StorageStepKind.Sync, storage.Steps + 1, path, 0, 0);
            return storage.Step(step, call, () =>
            {
                storage.Remember(node, covered);
                node.MakeDurable(covered);
            }, failed: () => node.Clean(covered));
        }

        public Result<FileHandle>? OpenReadOnly() => node.OpenMirror(path, storage._mirrored);

        public void Dispose() => _isClosed = true;

        private int AsRead(Span<byte> into, long offset, int bytes)
        {
            storage.Misread?.Invoke(new StorageStep(StorageStepKind.Read, storage.Steps, path, offset, bytes), into[..bytes]);
            return bytes;
        }

        private Result Read(int bytes, long offset)
        {
            Invariant.Holds(!_isClosed);
            return storage.Step(new StorageStep(StorageStepKind.Read, storage.Steps, path, offset, bytes), "pread", static () => { });
        }
    }
}
