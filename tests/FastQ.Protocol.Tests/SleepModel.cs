namespace FastQ.Protocol;

// The protocol of Sleep.cs, step by step, on a processor that delays stores: each side's stores wait in a buffer, in order, and reach memory
// whenever the machine likes; a fence waits until its own buffer is empty. That is all that x86 allows itself (total store order), and enough
// to lose wake-ups. Every reachable state is visited.
//
//   ringer:   store head -> [buffer] -> memory      fence      load number      ring?
//   sleeper:  store number -> [buffer] -> memory    fence      look at head     wait?
//
// Both words only ever rise by one, so a buffer is two numbers: what was stored and what memory shows.

/// <summary>How the two sides are built. The defaults are the protocol, by pipe.</summary>
internal sealed record SleepProtocol
{
    public int Messages { get; init; } = 3;

    /// <summary>The ringer fences between its head and the sleep number.</summary>
    public bool RingerFences { get; init; } = true;

    /// <summary>The sleeper fences between its announcement and its look.</summary>
    public bool SleeperFences { get; init; } = true;

    /// <summary>The sleeper's fence empties the ringer's buffer, too (membarrier).</summary>
    public bool FencesAll { get; init; }

    /// <summary>The sleeper looks at the head between announcing and waiting.</summary>
    public bool Looks { get; init; } = true;

    /// <summary>The sleeper makes its number even when it wakes.</summary>
    public bool SaysAwake { get; init; } = true;

    /// <summary>What the ringer keeps of its last ring.</summary>
    public Memory Remembers { get; init; } = Memory.Number;

    /// <summary>Waiting by futex, and when its word is loaded. Else by pipe.</summary>
    public Futex ByFutex { get; init; }

    internal enum Memory
    {
        Number,
        Flag,
        Nothing,
    }

    internal enum Futex
    {
        No,
        LoadedBeforeAnnouncing,
        LoadedBeforeLook,
        LoadedAfterLook,
    }
}

/// <summary>What can happen, at worst.</summary>
/// <param name="States">How many states there are.</param>
/// <param name="Lost">The steps to a sleeper that waits for ever beside news; null: there are none.</param>
/// <param name="RungTwice">Some sleep can be rung twice.</param>
internal sealed record SleepOutcome(int States, string? Lost, bool RungTwice);

internal static class SleepModel
{
    private enum RingerAt
    {
        Store,
        Fence,
        Load,
        Ring,
    }

    private enum SleeperAt
    {
        Take,
        LoadWordFirst,
        Announce,
        Fence,
        LoadWordBetween,
        Look,
        LoadWordLast,
        Wait,
        Wake,
    }

    /// <summary>Everything that the future depends on.</summary>
    private readonly record struct State(
        RingerAt Ringer, int Sent, int HeadInMemory, int Rang, int Rings,
        SleeperAt Sleeper, int Number, int NumberInMemory, int Announced, int Taken, int LoadedWord,
        int Word, bool Bell);

    public static SleepOutcome Explore(SleepProtocol protocol)
    {
        Dictionary<State, (State Before, string Step)> seen = new() { [default] = default };
        Stack<State> open = new([default(State)]);
        string? lost = null;
        bool rungTwice = false;
        while (open.TryPop(out State state))
        {
            (string Step, State After)[] steps = [.. Steps(state, protocol)];
            rungTwice |= state.Rings > state.Announced;
            if (steps.Length == 0 && state.Taken < protocol.Messages)
            {
                lost ??= Story(state, seen);
            }

            foreach ((string step, State after) in steps)
            {
                if (seen.TryAdd(after, (state, step)))
                {
                    open.Push(after);
                }
            }
        }

        return new SleepOutcome(seen.Count, lost, rungTwice);
    }

    private static IEnumerable<(string Step, State After)> Steps(State state, SleepProtocol protocol)
    {
        if (state.HeadInMemory < state.Sent)
        {
            yield return ("  head reaches memory", state with { HeadInMemory = state.HeadInMemory + 1 });
        }

        if (state.NumberInMemory < state.Number)
        {
            yield return ("  number reaches memory", state with { NumberInMemory = state.NumberInMemory + 1 });
        }

        if (RingerStep(state, protocol) is { } ringer)
        {
            yield return ringer;
        }

        if (SleeperStep(state, protocol) is { } sleeper)
        {
            yield return sleeper;
        }
    }

    private static (string, State)? RingerStep(State s, SleepProtocol protocol)
    {
        switch (s.Ringer)
        {
            case RingerAt.Store when s.Sent < protocol.Messages:
                return ("ringer: store head", s with { Sent = s.Sent + 1, Ringer = protocol.RingerFences ? RingerAt.Fence : RingerAt.Load });
            case RingerAt.Fence when s.HeadInMemory == s.Sent:
                return ("ringer: fence", s with { Ringer = RingerAt.Load });
            case RingerAt.Load:
                int number = s.NumberInMemory;
                bool mustRing = (number & 1) == 1 && protocol.Remembers switch
                {
                    SleepProtocol.Memory.Number => number != s.Rang,
                    SleepProtocol.Memory.Flag => s.Rang == 0,
                    _ => true,
                };
                return ($"ringer: load number ({number})", mustRing ? s with { Rang = number, Ringer = RingerAt.Ring } : s with { Ringer = RingerAt.Store });
            case RingerAt.Ring:
                return ("ringer: ring", s with { Word = s.Word + 1, Bell = true, Rings = s.Rings + 1, Ringer = RingerAt.Store });
            default:
                return null;
        }
    }

    private static (string, State)? SleeperStep(State s, SleepProtocol protocol)
    {
        bool hasNews = s.HeadInMemory != s.Taken;
        SleeperAt beforeAnnouncing = protocol.ByFutex == SleepProtocol.Futex.LoadedBeforeAnnouncing ? SleeperAt.LoadWordFirst : SleeperAt.Announce;
        SleeperAt afterFence = protocol.ByFutex == SleepProtocol.Futex.LoadedBeforeLook ? SleeperAt.LoadWordBetween : SleeperAt.Look;
        SleeperAt beforeWait = protocol.ByFutex == SleepProtocol.Futex.LoadedAfterLook ? SleeperAt.LoadWordLast : SleeperAt.Wait;
        bool isRung = protocol.ByFutex == SleepProtocol.Futex.No ? s.Bell : s.Word != s.LoadedWord;
        switch (s.Sleeper)
        {
            case SleeperAt.Take:
                return hasNews ? ("sleeper: take", s with { Taken = s.HeadInMemory }) : ("sleeper: nothing there", s with { Sleeper = beforeAnnouncing });
            case SleeperAt.LoadWordFirst:
                return ("sleeper: load word", s with { LoadedWord = s.Word, Sleeper = SleeperAt.Announce });
            case SleeperAt.Announce:
                return ("sleeper: announce", s with { Number = s.Number + 1, Announced = s.Announced + 1, Sleeper = protocol.SleeperFences ? SleeperAt.Fence : afterFence });
            case SleeperAt.Fence when s.NumberInMemory == s.Number:
                return ("sleeper: fence", s with { HeadInMemory = protocol.FencesAll ? s.Sent : s.HeadInMemory, Sleeper = afterFence });
            case SleeperAt.LoadWordBetween:
                return ("sleeper: load word", s with { LoadedWord = s.Word, Sleeper = SleeperAt.Look });
            case SleeperAt.Look:
                return ("sleeper: look", s with { Sleeper = protocol.Looks && hasNews ? SleeperAt.Wake : beforeWait });
            case SleeperAt.LoadWordLast:
                return ("sleeper: load word", s with { LoadedWord = s.Word, Sleeper = SleeperAt.Wait });
            case SleeperAt.Wait when isRung:
                return ("sleeper: rung", s with { Bell = false, Sleeper = SleeperAt.Wake });
            case SleeperAt.Wake:
                return ("sleeper: awake", s with { Number = protocol.SaysAwake ? s.Number + 1 : s.Number, Sleeper = SleeperAt.Take });
            default:
                return null;
        }
    }

    private static string Story(State state, Dictionary<State, (State Before, string Step)> seen)
    {
        Stack<string> steps = [];
        for (State at = state; at != default; at = seen[at].Before)
        {
            steps.Push(seen[at].Step);
        }

        return string.Join('\n', steps);
    }
}
