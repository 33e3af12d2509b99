using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>What a sweep does, and with which messages.</summary>
public sealed record SweepOptions
{
    /// <summary>Move them, or delete them.</summary>
    public SweepAction Action { get; init; }

    /// <summary>The queue where they go, which is there. Null: back to the queue where each died last; one that died nowhere cannot go.</summary>
    public string? To { get; init; }

    /// <summary>Which ones: conditions like <c>reason=rejected and age>1h</c>; see <c>fastq redrive --help</c>. Empty: all.</summary>
    public string Filter { get; init; } = "";

    /// <summary>Most messages a second. 0: no bound.</summary>
    public int RateASecond { get; init; }

    /// <summary>Only the message at this place of the queue. 0: all that is there when it begins.</summary>
    public ulong Tag { get; init; }
}

/// <summary>How a sweep of a queue stands. A copy; any thread.</summary>
/// <param name="State">Whether it goes on; <see cref="SweepState.None"/>: there was none.</param>
/// <param name="Action">What it does.</param>
/// <param name="To">Where messages go; empty: back to where they died.</param>
/// <param name="Filter">Which ones.</param>
/// <param name="Done">So many were moved or deleted.</param>
/// <param name="Failed">So many should have been, and could not: where they would go is not there, or they have rotted. They stay where they are.</param>
public sealed record SweepInfo(SweepState State, SweepAction Action, string To, string Filter, long Done, long Failed)
{
    internal static SweepInfo From(ReadOnlySpan<byte> fields)
    {
        SweepInfo info = new(SweepState.None, SweepAction.Move, "", "", 0, 0);
        FieldReader reader = new(fields);
        while (reader.Next())
        {
            info = reader.Tag switch
            {
                FieldTag.State => info with { State = (SweepState)reader.Number },
                FieldTag.Action => info with { Action = (SweepAction)reader.Number },
                FieldTag.Target => info with { To = reader.Text },
                FieldTag.Filter => info with { Filter = reader.Text },
                FieldTag.Done => info with { Done = (long)reader.Number },
                FieldTag.Failed => info with { Failed = (long)reader.Number },
                _ => info,
            };
        }

        return info;
    }
}
