using FastQ.Linux;

namespace FastQ.Journal;

/// <summary>
/// Room on the disk for the snapshots without which nothing is reclaimed (DESIGN-REVIEW R27): files that become snapshots when there is no other room.
/// The oldest snapshot then takes the place of the one used. So the room never goes back to a full disk, where another program would take it.
/// </summary>
/// <param name="storage">The disk.</param>
/// <param name="directory">Where snapshots lie.</param>
/// <param name="stepBytes">Sizes are multiples of it.</param>
internal sealed class SnapshotReserve(IStorage storage, string directory, long stepBytes)
{
    private readonly long[] _bytes = new long[Snapshots.Files];
    private int _count = Snapshots.Files;

    /// <summary>Why the files could not be made as many and as large as asked for; null when they are.</summary>
    public Fault? Fault { get; private set; }

    /// <summary>Takes over what an earlier life left, so that it is not given up on a full disk.</summary>
    public void Adopt()
    {
        for (int i = 0; i < _bytes.Length; i++)
        {
            _bytes[i] = Measure(PathOf(i));
        }
    }

    /// <summary>Keeps <paramref name="count"/> files, each with room for <paramref name="neededBytes"/>, and a quarter to grow: a growing backlog asks the disk now and then, not at each upkeep.</summary>
    public void Keep(int count, long neededBytes)
    {
        _count = count;
        Fault = null;
        long wanted = ((neededBytes + neededBytes / 4) / stepBytes + 1) * stepBytes;
        for (int i = 0; i < _bytes.Length; i++)
        {
            bool isTooLarge = _bytes[i] > 4 * wanted; // The backlog is gone.
            if (isTooLarge || (_bytes[i] > 0 && Held > count))
            {
                _bytes[i] = 0;
                _ = storage.Unlink(PathOf(i));
            }

            if (_bytes[i] > 0 ? _bytes[i] < neededBytes : Held < count)
            {
                Result made = Allocate(PathOf(i), wanted);
                _bytes[i] = made.Ok ? wanted : _bytes[i];
                Fault = made.Ok ? Fault : made.Fault;
            }
        }
    }

    /// <summary>Gives the largest file the name <paramref name="path"/>, to be written over. False: there is none, or the disk fails.</summary>
    public bool TryTake(string path)
    {
        int largest = Array.IndexOf(_bytes, _bytes.Max());

        // It may have been a snapshot, whose name must not come back with other bytes.
        if (_bytes[largest] == 0 || !storage.SyncDirectory(directory).Ok || !storage.Rename(PathOf(largest), path).Ok)
        {
            return false;
        }

        _bytes[largest] = 0;
        return true;
    }

    /// <summary>Lets go of a file of a snapshot: in the place of one that was taken, else for good.</summary>
    public void Release(string path)
    {
        int free = Array.IndexOf(_bytes, 0);
        if (Held < _count && storage.Rename(path, PathOf(free)).Ok)
        {
            _bytes[free] = Measure(PathOf(free));
            return;
        }

        _ = storage.Unlink(path); // If not now, then at the next start.
    }

    private int Held => _bytes.Count(bytes => bytes > 0);

    private string PathOf(int index) => Path.Combine(directory, $"reserve.{index + 1}");

    /// <summary>Its length, once all of it has room on the disk; 0 when it is not there. One without room is removed.</summary>
    private long Measure(string path)
    {
        Result<IStoredFile> file = storage.Open(path, create: false);
        if (!file.Ok)
        {
            return 0;
        }

        using IStoredFile open = file.Value;
        Result<long> length = open.Length();
        if (length.Ok && length.Value > 0 && open.Allocate(length.Value).Ok)
        {
            return length.Value;
        }

        _ = storage.Unlink(path);
        return 0;
    }

    private Result Allocate(string path, long bytes)
    {
        Result<IStoredFile> file = storage.Open(path, create: true);
        if (!file.Ok)
        {
            return file.Fault;
        }

        using IStoredFile open = file.Value;
        return open.Allocate(bytes);
    }
}
