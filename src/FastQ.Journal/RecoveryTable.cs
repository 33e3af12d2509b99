namespace FastQ.Journal;

// What the first place that fails is, and what is done with it (DESIGN section 6), as data. Every combination of the predicates matches
// exactly one row: a test goes through all of them.

/// <summary>What stands at the first place where the chain does not go on.</summary>
public enum FailingPlace
{
    /// <summary>Nothing of ours, or a block that is not whole.</summary>
    BadOrMissing,

    /// <summary>The read itself failed, or came up short inside the file.</summary>
    Unreadable,

    /// <summary>The chain goes on in a slot whose header is rotten.</summary>
    BadSegmentHeader,

    /// <summary>Another namespace's, or a newer format, or a valid block with a record that this version does not know.</summary>
    NotOurs,

    /// <summary>A segment or snapshot that the chain needs is not there at all.</summary>
    FileMissing,
}

/// <summary>What is done.</summary>
public enum RecoveryAction
{
    /// <summary>The chain ends before this place; what lies beyond was never confirmed as durable.</summary>
    Cut,

    /// <summary>Nothing is served and nothing is changed; the operator decides.</summary>
    Refuse,
}

/// <summary>One row. Null: any value.</summary>
public sealed record RecoveryRow(string Label, FailingPlace Place, bool? LaterBlock, bool? Vouched, RecoveryAction Action, string Meaning);

/// <summary>The table.</summary>
public static class RecoveryTable
{
    public static IReadOnlyList<RecoveryRow> Rows { get; } =
    [
        new("unsynced-tail", FailingPlace.BadOrMissing, false, false, RecoveryAction.Cut, "The end of what was written; nothing later exists and nothing says that it was durable."),
        new("unsynced-out-of-order", FailingPlace.BadOrMissing, true, false, RecoveryAction.Cut, "Unsynced writes that reached the disk out of order; nothing says that they were durable."),
        new("corruption", FailingPlace.BadOrMissing, null, true, RecoveryAction.Refuse, "Confirmed data is damaged: a later block, header or snapshot says that it was durable."),
        new("unreadable", FailingPlace.Unreadable, null, null, RecoveryAction.Refuse, "A place that cannot be read is not a tail: it may read well next time."),
        new("segment-header-rot", FailingPlace.BadSegmentHeader, null, null, RecoveryAction.Refuse, "A segment's header is synced before its first block, so a bad one is rot."),
        new("not-ours", FailingPlace.NotOurs, null, null, RecoveryAction.Refuse, "Another namespace's data, a newer format, or a record that this version does not know."),
        new("file-missing", FailingPlace.FileMissing, null, null, RecoveryAction.Refuse, "Files that the chain needs are gone; a missing file never looks like a first start."),
    ];

    /// <summary>The one row for a combination.</summary>
    public static RecoveryRow Of(FailingPlace place, bool laterBlock, bool vouched) => Rows.Single(row => Matches(row, place, laterBlock, vouched));

    /// <summary>Does a row speak of a combination?</summary>
    public static bool Matches(RecoveryRow row, FailingPlace place, bool laterBlock, bool vouched) =>
        row.Place == place && (row.LaterBlock ?? laterBlock) == laterBlock && (row.Vouched ?? vouched) == vouched;
}
