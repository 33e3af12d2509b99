using FastQ.Protocol;

namespace FastQ.Journal;

/// <summary>How a journal is kept.</summary>
public sealed record JournalOptions
{
    /// <summary>The broker's data directory.</summary>
    public required string Directory { get; init; }

    public string Namespace { get; init; } = "default";

    public int SlotBytes { get; init; } = 64 * 1024 * 1024;

    public int BlockBytes { get; init; } = 256 * 1024;

    /// <summary>Largest record; above <see cref="BlockBytes"/> it gets a block of its own.</summary>
    public int MaxRecordBytes { get; init; } = Limits.MaxMessageBytes + Limits.MaxPropertyBytes + 4096;

    public bool AllowNetworkFileSystem { get; init; }

    /// <summary>Slots that may be there besides twice the live bytes.</summary>
    public int MaxSlotsBeyondLive { get; init; } = 5;

    /// <summary>The longest that appending waits for a slot to come free before one more is made.</summary>
    public long PatienceMicros { get; init; } = 250_000;

    /// <summary>A slot that could not be made is tried again after so long: a full disk is asked, not besieged.</summary>
    public long RetryMicros { get; init; } = 100_000;

    /// <summary>Random ids; a seam for determinism.</summary>
    public Func<Guid> NewGuid { get; init; } = Guid.NewGuid;

    /// <summary>Wall clock, microseconds since 1970; a seam for determinism.</summary>
    public Func<long> WallMicros { get; init; } = static () => Linux.Clock.WallNanoseconds() / 1000;

    internal string NamespaceDirectory => Path.Combine(Directory, "namespaces", Namespace);

    internal string SlotDirectory => Path.Combine(NamespaceDirectory, "slots");

    internal string SnapshotDirectory => Path.Combine(NamespaceDirectory, "snapshots");

    internal string FormatPath => Path.Combine(Directory, "FORMAT");
}

/// <summary>Why a journal is not served, or no longer.</summary>
/// <param name="Kind">A row of <see cref="RecoveryTable"/>, or what failed while it ran.</param>
/// <param name="Slot">Id of the slot; 0 when none is meant.</param>
/// <param name="Position">Byte offset in it.</param>
/// <param name="Block">Number of the block; 0 when none is meant.</param>
/// <param name="Text">What, where, and what to do.</param>
public sealed record JournalProblem(string Kind, uint Slot, long Position, ulong Block, string Text);

/// <summary>What a start found and did.</summary>
public sealed record RecoveryReport
{
    /// <summary>The row of the recovery table that ended the chain; "first-start" when nothing was there.</summary>
    public string Verdict { get; set; } = "";

    public ulong Epoch { get; set; }

    /// <summary>Block that the snapshot in use describes; 0: none.</summary>
    public ulong SnapshotBlock { get; set; }

    public int SnapshotsRejected { get; set; }

    public long BlocksReplayed { get; set; }

    public long RecordsReplayed { get; set; }

    public long BytesReplayed { get; set; }

    /// <summary>The last block that was accepted.</summary>
    public ulong LastBlock { get; set; }

    /// <summary>Whole blocks beyond it that were given up: never confirmed as durable.</summary>
    public long BlocksCut { get; set; }

    /// <summary>Blocks that were proven on the disk before serving.</summary>
    public long BlocksProven { get; set; }

    /// <summary>Of those, the ones that only the page cache had, written again.</summary>
    public long BlocksRewritten { get; set; }

    public double Milliseconds { get; set; }
}

/// <summary>How an opening ended: a journal, or a refusal.</summary>
public sealed record JournalOpening(Journal? Journal, RecoveryReport Report, JournalProblem? Refusal);

/// <summary>What became of a record.</summary>
public enum ReplayVerdict
{
    Applied,
    UnknownRecord,
    Contradiction,
}

/// <summary>Who takes the records in: the broker's engine, or a tool that looks.</summary>
public interface IReplay
{
    /// <summary>Forget everything: another snapshot is tried, or none.</summary>
    void Reset();

    /// <summary>Takes a snapshot's payload. False: not readable; the one before it is tried.</summary>
    bool TryLoad(Stream snapshot);

    /// <summary>Ids of the slots in which something lives. One that is not there is a loss, not a start.</summary>
    IEnumerable<uint> SlotsNeeded { get; }

    /// <summary>Is there something in this slot that would be missed? Asked only of one that is not there; may take long. What was purged or deleted still counts as living until it is swept up, and nobody misses it.</summary>
    bool WouldMiss(uint slot) => true;

    /// <summary>Takes one record.</summary>
    ReplayVerdict Apply(ulong block, Place place, ReadOnlySpan<byte> record);
}

/// <summary>What the owner knows of a slot.</summary>
/// <param name="Live">Messages that live in it.</param>
/// <param name="LiveBytes">Their records' bytes.</param>
/// <param name="LastLeftBlock">The block in which the last one left it.</param>
/// <param name="Pinned">Somebody may still read from it.</param>
/// <param name="Retire">When free, unlink it instead of using it again.</param>
public readonly record struct SlotUse(long Live, long LiveBytes, ulong LastLeftBlock, bool Pinned, bool Retire);

/// <summary>The owner's answers about slots.</summary>
public interface ISlotUse
{
    SlotUse Of(uint slot);
}

/// <summary>Figures for people.</summary>
public sealed record JournalStatistics(string Storage, ulong WrittenBlock, ulong DurableBlock, long Syncs, long BytesWritten, int Slots, long SlotBytes, long Snapshots, long SnapshotBytes, double LastSnapshotPauseMilliseconds, double LongestSnapshotPauseMilliseconds, ulong OlderSnapshotBlock, ulong NewestSnapshotBlock);
