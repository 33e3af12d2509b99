using System.Buffers;
using System.IO.Hashing;
using System.Runtime.InteropServices;
using FastQ.Linux;

namespace FastQ.Journal;

// Snapshots: the owner's state at a block border. Two are kept, each whole, so they share no stored page.
//
//   NNN.tmp  pages are written through the page cache at once (the pause), then beside the turn:
//   wait until the described block is durable -> header -> fsync -> rename to NNN.snap -> fsync of the directory -> the third oldest goes
//
// On a full disk nothing is reclaimed without two more snapshots, which are new files: SnapshotReserve keeps the room for them.

/// <summary>Writes pages as they come: 64 KiB, then their hash. Ends with <see cref="Finish"/>. One thread.</summary>
/// <param name="file">Empty, or to be written over.</param>
/// <param name="spill">For what is written over the end of a page; lent.</param>
internal sealed class SnapshotWriter(IStoredFile file, byte[] spill) : IBufferWriter<byte>, IDisposable
{
    private const int StrideBytes = Format.SnapshotPageBytes + sizeof(ulong);
    private readonly NativeBuffer _buffer = new(16 * StrideBytes);
    private readonly XxHash3 _pages = new();
    private byte[] _spill = spill;
    private bool _spilling;
    private int _fill;
    private int _page;
    private long _position = Format.SegmentHeaderBytes;

    /// <summary>Bytes of state so far.</summary>
    public ulong PayloadBytes { get; private set; }

    /// <summary>The first write that failed; later ones are not tried.</summary>
    public Fault? Fault { get; private set; }

    public ulong PagesHash => _pages.GetCurrentHashAsUInt64();

    public void Advance(int count)
    {
        if (_spilling)
        {
            Append(_spill.AsSpan(0, count));
            return;
        }

        PayloadBytes += (ulong)count;
        _page += count;
        _fill += count;
        Invariant.Holds(_page <= Format.SnapshotPageBytes);
        if (_page == Format.SnapshotPageBytes)
        {
            EndPage();
        }
    }

    public Memory<byte> GetMemory(int sizeHint = 0)
    {
        _spill = _spill.Length >= sizeHint ? _spill : new byte[sizeHint];
        _spilling = true;
        return _spill;
    }

    public Span<byte> GetSpan(int sizeHint = 0)
    {
        int room = Format.SnapshotPageBytes - _page;
        if (sizeHint <= room)
        {
            _spilling = false;
            return _buffer.Span.Slice(_fill, room);
        }

        return GetMemory(sizeHint).Span;
    }

    /// <summary>Writes what is left. The pages are in the page cache then.</summary>
    public void Finish()
    {
        if (_page > 0)
        {
            EndPage();
        }

        Flush();
    }

    public void Dispose() => _buffer.Dispose();

    private void Append(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            int step = Math.Min(bytes.Length, Format.SnapshotPageBytes - _page);
            bytes[..step].CopyTo(_buffer.Span[_fill..]);
            _spilling = false;
            Advance(step);
            bytes = bytes[step..];
        }
    }

    private void EndPage()
    {
        Span<byte> page = _buffer.Span.Slice(_fill - _page, _page);
        ulong hash = XxHash3.HashToUInt64(page);
        MemoryMarshal.Write(_buffer.Span[_fill..], hash);
        _pages.Append(_buffer.Span.Slice(_fill, sizeof(ulong)));
        _fill += sizeof(ulong);
        _page = 0;
        if (_fill + StrideBytes > _buffer.Length)
        {
            Flush();
        }
    }

    private void Flush()
    {
        if (Fault is null && _fill > 0)
        {
            Result written = file.WriteAt(_buffer.Span[.._fill], _position);
            Fault = written.Ok ? null : written.Fault;
        }

        _position += _fill;
        _fill = 0;
    }
}

/// <summary>Reads the pages of a snapshot, each judged before a byte of it is given out. A bad page ends the reading.</summary>
internal sealed class SnapshotStream(IStoredFile file, SnapshotHeader header) : Stream
{
    private readonly byte[] _page = new byte[Format.SnapshotPageBytes + sizeof(ulong)];
    private readonly XxHash3 _pages = new();
    private ulong _left = header.PayloadBytes;
    private long _position = Format.SegmentHeaderBytes;
    private int _at;
    private int _end;

    /// <summary>A page or the whole did not have its hash, or could not be read.</summary>
    public bool IsDamaged { get; private set; }

    /// <summary>All was read, and every page and their sequence are right.</summary>
    public bool IsWhole => !IsDamaged && _left == 0 && _at == _end && _pages.GetCurrentHashAsUInt64() == header.PagesHash;

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => (long)header.PayloadBytes;

    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    public override int Read(Span<byte> buffer)
    {
        if (_at == _end && !TryNextPage())
        {
            return 0;
        }

        int count = Math.Min(buffer.Length, _end - _at);
        _page.AsSpan(_at, count).CopyTo(buffer);
        _at += count;
        return count;
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    private bool TryNextPage()
    {
        if (_left == 0 || IsDamaged)
        {
            return false;
        }

        int bytes = (int)Math.Min(_left, Format.SnapshotPageBytes);
        Result<int> read = file.ReadAt(_page.AsSpan(0, bytes + sizeof(ulong)), _position);
        ReadOnlySpan<byte> stored = _page.AsSpan(bytes, sizeof(ulong));
        if (!read.Ok || read.Value < bytes + sizeof(ulong) || XxHash3.HashToUInt64(_page.AsSpan(0, bytes)) != MemoryMarshal.Read<ulong>(stored))
        {
            IsDamaged = true;
            return false;
        }

        _pages.Append(stored);
        (_at, _end) = (0, bytes);
        _left -= (ulong)bytes;
        _position += bytes + sizeof(ulong);
        return true;
    }
}

/// <summary>A snapshot on the disk.</summary>
internal readonly record struct SnapshotInfo(ulong Block, string Path, long Bytes);

/// <summary>The snapshots of a namespace: those kept, and the one in the making.</summary>
internal sealed class Snapshots(IStorage storage, JournalOptions options, Guid uuid)
{
    /// <summary>Of snapshots: two kept, one in the making, or the room for it.</summary>
    public const int Files = 3;

    private const string MakingSuffix = ".tmp";
    private readonly List<SnapshotInfo> _kept = [];
    private readonly SnapshotReserve _reserve = new(storage, options.SnapshotDirectory, Math.Max(Format.BlockAlignment, options.SlotBytes / 256));
    private readonly byte[] _spill = new byte[4096];
    private Making? _making;

    private sealed record Making(IStoredFile File, string Path, SnapshotHeader Header, long Bytes)
    {
        public bool Handed { get; set; }
    }

    public bool IsRunning => _making is not null;

    public ulong NewestBlock => _kept.Count > 0 ? _kept[^1].Block : 0;

    /// <summary>What reclaim may rest on: the older of two; 0 while there is only one.</summary>
    public ulong OlderBlock => _kept.Count > 1 ? _kept[^2].Block : 0;

    public long Taken { get; private set; }

    public long Bytes => _kept.Sum(snapshot => snapshot.Bytes);

    public double LastPauseMilliseconds { get; private set; }

    public double LongestPauseMilliseconds { get; private set; }

    public static string FileName(ulong block) => $"{block:D20}.snap";

    /// <summary>Those whose header is good, newest last.</summary>
    public static Result<List<(SnapshotInfo Info, SnapshotHeader Header, IStoredFile File)>> Find(IStorage storage, string directory, Guid uuid, out int bad, out SegmentVerdict worst)
    {
        List<(SnapshotInfo, SnapshotHeader, IStoredFile)> found = [];
        (bad, worst) = (0, SegmentVerdict.Good);
        Result<IReadOnlyList<string>> names = storage.List(directory);
        if (!names.Ok)
        {
            return names.Fault;
        }

        byte[] head = new byte[SnapshotHeader.SizeBytes];
        foreach (string name in names.Value)
        {
            if (!name.EndsWith(".snap", StringComparison.Ordinal))
            {
                continue;
            }

            string path = Path.Combine(directory, name);
            Result<IStoredFile> file = storage.Open(path, create: false);
            if (!file.Ok)
            {
                return file.Fault;
            }

            Result<int> read = file.Value.ReadAt(head, 0);
            SnapshotHeader header = read.Ok && read.Value == head.Length ? MemoryMarshal.Read<SnapshotHeader>(head) : default;
            if (header.IsValid && header.Version <= Format.Version && header.Uuid == uuid)
            {
                Result<long> length = file.Value.Length();
                found.Add((new SnapshotInfo(header.Block, path, length.Ok ? length.Value : 0), header, file.Value));
                continue;
            }

            worst = header.IsValid ? (header.Version > Format.Version ? SegmentVerdict.Newer : SegmentVerdict.Foreign) : worst;
            bad++;
            file.Value.Dispose();
        }

        found.Sort((a, b) => a.Item1.Block.CompareTo(b.Item1.Block));
        return found;
    }

    public void Adopt(SnapshotInfo snapshot) => _kept.Add(snapshot);

    /// <summary>Removes what a crash left: snapshots in the making, which mean nothing, and those older than the two that are kept. Nobody else would ever remove them. After recovery only.</summary>
    public void RemoveLeftovers(IEnumerable<string> spare)
    {
        _reserve.Adopt();
        foreach (string path in spare)
        {
            _reserve.Release(path);
        }

        Result<IReadOnlyList<string>> names = storage.List(options.SnapshotDirectory);
        foreach (string name in names.Ok ? names.Value : [])
        {
            if (name.EndsWith(MakingSuffix, StringComparison.Ordinal))
            {
                _reserve.Release(Path.Combine(options.SnapshotDirectory, name));
            }
        }
    }

    /// <summary>Why there is no room kept for the next snapshots; null when there is.</summary>
    public Fault? ReserveFault => _reserve.Fault;

    /// <summary>Keeps room for the snapshots that are needed before anything can be reclaimed.</summary>
    /// <param name="stateBytes">Size of the state now.</param>
    public void Reserve(long stateBytes) => _reserve.Keep(Files - _kept.Count, Format.SegmentHeaderBytes + stateBytes + stateBytes / 1024);

    /// <summary>Writes the pages: the pause. Gives a fault when the disk has no room; the journal goes on without this snapshot.</summary>
    public Result Begin(ulong block, ulong blockHash, ulong epoch, Action<IBufferWriter<byte>> save)
    {
        Invariant.Holds(_making is null);
        string path = Path.Combine(options.SnapshotDirectory, $"{block:D20}{MakingSuffix}");
        Result begun = TryBegin(path, block, blockHash, epoch, save);
        bool isFull = !begun.Ok && begun.Fault.Errno is Errno.ENOSPC or Errno.EDQUOT;
        return isFull && _reserve.TryTake(path) ? TryBegin(path, block, blockHash, epoch, save) : begun;
    }

    private Result TryBegin(string path, ulong block, ulong blockHash, ulong epoch, Action<IBufferWriter<byte>> save)
    {
        long start = Clock.MonotonicNanoseconds();
        Result<IStoredFile> file = storage.Open(path, create: true);
        if (!file.Ok)
        {
            return file.Fault;
        }

        using SnapshotWriter writer = new(file.Value, _spill);
        save(writer);
        writer.Finish();
        LastPauseMilliseconds = (Clock.MonotonicNanoseconds() - start) / 1e6;
        LongestPauseMilliseconds = Math.Max(LongestPauseMilliseconds, LastPauseMilliseconds);
        if (writer.Fault is Fault fault)
        {
            file.Value.Dispose();
            _reserve.Release(path);
            return fault;
        }

        SnapshotHeader header = new() { Magic = Format.SnapshotMagic, Version = Format.Version, Uuid = uuid, Block = block, BlockHash = blockHash, Epoch = epoch, PayloadBytes = writer.PayloadBytes, PagesHash = writer.PagesHash, WallMicros = options.WallMicros() };
        header.SetHash();
        _making = new Making(file.Value, path, header, Format.SegmentHeaderBytes + (long)writer.PayloadBytes);
        return Result.Success;
    }

    /// <summary>Goes on when the described block is durable (DESIGN-REVIEW R5). Gives true when a job was handed over under <paramref name="token"/>.</summary>
    public bool Advance(ulong durableBlock, ulong token)
    {
        if (_making is not { Handed: false } making || durableBlock < making.Header.Block)
        {
            return false;
        }

        Hand(making, token);
        return true;
    }

    /// <summary>Apart, for its closure would be made at each call of the other, which is once a turn.</summary>
    private void Hand(Making making, ulong token)
    {
        making.Handed = true;
        storage.Run(() => Publish(making), token);
    }

    /// <summary>The job has ended.</summary>
    public void Ended(Fault? fault)
    {
        Making making = _making!;
        _making = null;
        making.File.Dispose();
        if (fault is not null)
        {
            _reserve.Release(making.Path);
            return;
        }

        Taken++;
        string path = Path.Combine(options.SnapshotDirectory, FileName(making.Header.Block));
        _kept.RemoveAll(snapshot => snapshot.Block == making.Header.Block);
        _kept.Add(new SnapshotInfo(making.Header.Block, path, making.Bytes));
        while (_kept.Count == Files)
        {
            _reserve.Release(_kept[0].Path);
            _kept.RemoveAt(0);
        }
    }

    /// <summary>Does at once what is left to do of the one that was begun; for repair, beside which nothing runs.</summary>
    public Result FinishNow()
    {
        Making making = _making!;
        Invariant.Holds(!making.Handed);
        Result result = Publish(making);
        Ended(result.Ok ? null : result.Fault);
        return result;
    }

    private Result Publish(Making making)
    {
        SnapshotHeader header = making.Header;
        Result result = making.File.WriteAt(MemoryMarshal.AsBytes(new ReadOnlySpan<SnapshotHeader>(in header)), 0);
        result = result.Ok ? making.File.Sync() : result;
        result = result.Ok ? storage.Rename(making.Path, Path.Combine(options.SnapshotDirectory, FileName(header.Block))) : result;
        return result.Ok ? storage.SyncDirectory(options.SnapshotDirectory) : result;
    }
}
