using FastQ.Engine;
using FastQ.Journal;
using FastQ.Protocol;

namespace FastQ.Broker;

/// <summary>Gives the journal's records to an engine.</summary>
public sealed class EngineReplay(EngineLimits limits) : IReplay
{
    /// <summary>The engine as far as it has come.</summary>
    public QueueEngine Engine { get; private set; } = new(limits);

    /// <summary>For repair.</summary>
    public bool IsLenient { get; init; }

    public IEnumerable<uint> SlotsNeeded => Engine.LiveSlots;

    public bool WouldMiss(uint slot) => Engine.Messages().Any(message => message.Place.Slot == slot);

    public void Reset()
    {
        Engine.Dispose();
        Engine = new QueueEngine(limits) { IsLenient = IsLenient };
    }

    public bool TryLoad(Stream snapshot) => Engine.TryLoad(snapshot);

    public ReplayVerdict Apply(ulong block, Place place, ReadOnlySpan<byte> record) => Engine.Apply(record, place, block) switch
    {
        ApplyVerdict.Applied => ReplayVerdict.Applied,
        ApplyVerdict.UnknownRecord => ReplayVerdict.UnknownRecord,
        _ => ReplayVerdict.Contradiction,
    };

    /// <summary>For a refusal to start: the queues whose messages may be affected.</summary>
    public string AffectedQueues()
    {
        const int MostNamed = 8;
        IReadOnlyList<uint> ids = Engine.QueueIds;
        string names = string.Join(", ", ids.Take(MostNamed).Select(id => Engine.View(id).Name));
        return ids.Count == 0 ? "" : $" Queues that may be affected: {names}{(ids.Count > MostNamed ? $" and {ids.Count - MostNamed} more" : "")}.";
    }
}
