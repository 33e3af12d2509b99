using FastQ.Client;
using FastQ.Protocol;

namespace FastQ.Simulation;

// Worlds with idempotent consumers: what was processed is marked by a key with a result, together with the accept. The first mark of a key
// stays till its window is over: who asks or marks again till then is told its result, whoever died meanwhile.

/// <summary>What is known of one key of a queue.</summary>
internal sealed class MarkedKey
{
    /// <summary>The mark that is known to be there; null: none is.</summary>
    public Mark? Known { get; set; }

    /// <summary>By the machine's clock: from then on no mark is left, whoever made it. Those whose answer did not come may have been made at any time.</summary>
    public long OverFromNanoseconds { get; set; } = long.MinValue;

    /// <summary>All results that were ever to be marked.</summary>
    public List<byte[]> Tried { get; } = [];
}

/// <summary>A mark as its maker was told of it.</summary>
/// <param name="Result">What was found.</param>
/// <param name="FromNanoseconds">It was not made before: its window ends no sooner than that much later.</param>
internal sealed record Mark(byte[] Result, long FromNanoseconds)
{
    public bool IsDurable { get; set; }
}

/// <summary>An attempt to mark, under way.</summary>
internal sealed record MarkAttempt(MarkedKey Key, byte[] Result, long AskedNanoseconds, long OverFromNanoseconds);

/// <summary>What clients marked as processed, and what they were told of it.</summary>
internal sealed class Marks(Trace trace, TimeSpan window)
{
    private const long RoundedNanoseconds = 10_000_000;
    private readonly Dictionary<(uint Queue, string Key), MarkedKey> _keys = [];
    private readonly long _windowNanoseconds = (long)window.TotalNanoseconds;

    /// <summary>Several messages of a producer have the same.</summary>
    public static string KeyOf(Sent message) => $"{message.Producer}/{message.Sequence % 30}";

    public MarkAttempt Try(uint queue, string key, byte[] result)
    {
        MarkedKey found = Of(queue, key);
        found.Tried.Add(result);
        MarkAttempt attempt = new(found, result, trace.NowNanoseconds, found.OverFromNanoseconds);
        found.OverFromNanoseconds = long.MaxValue; // Till the answer comes.
        return attempt;
    }

    /// <summary>The answer to an attempt.</summary>
    /// <param name="attempt">It.</param>
    /// <param name="info">What was said.</param>
    /// <param name="isRepeated">It was asked again, as the broker had died: it may have been this one itself that was first.</param>
    public void Answer(MarkAttempt attempt, ProcessedInfo info, bool isRepeated)
    {
        MarkedKey key = attempt.Key;
        byte[] told = info.Result.ToArray();
        if (info.IsFirst)
        {
            Model.Must(!IsThere(key), "a key was marked a second time within its window");
            Model.Must(told.AsSpan().SequenceEqual(attempt.Result), "the first who marked a key was told another result");
            key.Known = new Mark(attempt.Result, attempt.AskedNanoseconds);
            key.OverFromNanoseconds = attempt.OverFromNanoseconds == long.MaxValue ? long.MaxValue : trace.NowNanoseconds + _windowNanoseconds;
            return;
        }

        Model.Must(isRepeated || attempt.AskedNanoseconds <= After(attempt.OverFromNanoseconds), "a key counts as marked that nobody marked, or whose window is over");
        CheckResult(key, told);
        key.OverFromNanoseconds = isRepeated ? long.MaxValue : attempt.OverFromNanoseconds;
    }

    /// <summary>The answer to a question.</summary>
    /// <param name="queue">Of the key.</param>
    /// <param name="key">It.</param>
    /// <param name="found">The result; null: it is not marked.</param>
    /// <param name="askedNanoseconds">By the machine's clock.</param>
    public void Find(uint queue, string key, ReadOnlyMemory<byte>? found, long askedNanoseconds)
    {
        MarkedKey known = Of(queue, key);
        if (found is not ReadOnlyMemory<byte> told)
        {
            Model.Must(!IsThere(known), $"key {key} of queue {queue} was marked as processed, and counts as not processed");
            return;
        }

        Model.Must(askedNanoseconds <= After(known.OverFromNanoseconds), $"key {key} of queue {queue} counts as marked, and nobody marked it, or its window is over");
        CheckResult(known, told.ToArray());
    }

    /// <summary>Marks were written at the most, but for those that are known to be durable.</summary>
    public void LosePower()
    {
        foreach (MarkedKey key in _keys.Values)
        {
            key.Known = key.Known is { IsDurable: true } ? key.Known : null;
        }
    }

    /// <summary>The wall clock was set: how long the broker will have been away is not known.</summary>
    public void MoveClock()
    {
        foreach (MarkedKey key in _keys.Values)
        {
            (key.Known, key.OverFromNanoseconds) = (null, long.MaxValue);
        }
    }

    private MarkedKey Of(uint queue, string key) => _keys.TryGetValue((queue, key), out MarkedKey? known) ? known : _keys[(queue, key)] = new MarkedKey();

    private bool IsThere(MarkedKey key) => key.Known is Mark mark && trace.NowNanoseconds + RoundedNanoseconds < mark.FromNanoseconds + _windowNanoseconds;

    private static long After(long moment) => moment is long.MaxValue or long.MinValue ? moment : moment + RoundedNanoseconds;

    private void CheckResult(MarkedKey key, byte[] told)
    {
        Model.Must(!IsThere(key) || told.AsSpan().SequenceEqual(key.Known!.Result), "who met a marked key again was told another result than the first had");
        Model.Must(key.Tried.Exists(result => told.AsSpan().SequenceEqual(result)), "who met a marked key again was told a result that nobody had");
    }
}
