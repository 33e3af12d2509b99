using System.Globalization;
using System.Text;

namespace FastQ.Simulation;

// A history: the world's constants and a list of acts, all made from one seed. Acts name what they act on by numbers that are taken modulo
// what is there, and bring dice of their own: so a history with some of its acts left out is a history, too, and can be shrunk.

/// <summary>What may happen.</summary>
internal enum ActKind
{
    Connect,
    Declare,
    Delete,
    Purge,
    Publish,
    PublishMany,
    Flush,
    Subscribe,
    Unsubscribe,
    Receive,
    Accept,
    Release,
    Reject,
    Extend,
    Credit,
    Pass,
    Leave,
    Die,
    DieSoon,
    Hostile,
    KillBroker,
    LosePower,
    StopBroker,
    CrashAtStep,
    StallDisk,
    FailWrite,
    FailSync,
    FillDisk,
    FailRead,
    ShiftWall,
    RotBit,
    LoseWrite,
    MisplaceWrite,
    Misread,
    SpoilSector,
    LoseFile,
    ForeignFile,
    OldCopy,
    SwapRecords,
    CrashStarts,
    CrashWhere,
    Transact,
    PauseConsumer,
    Sweep,
    EndSweep,
    DoWithOne,
    Process,
    AskProcessed,
    Schedule,
    UseIdle,
}

/// <summary>One act. <paramref name="A"/>, <paramref name="B"/>: whom and what it concerns; <paramref name="Seed"/>: its dice.</summary>
internal readonly record struct Act(ActKind Kind, int A, int B, ulong Seed);

/// <summary>The constants of a world.</summary>
internal sealed record Setting
{
    public int Clients { get; init; }

    public int Queues { get; init; }

    public int SlotBytes { get; init; }

    public int BlockBytes { get; init; }

    public int MostBodyBytes { get; init; }

    /// <summary>Some bodies are larger than the rings: they grow, and clients move from one pair to the next.</summary>
    public bool IsLarge { get; init; }

    /// <summary>The broker's limit.</summary>
    public int MaxMessageBytes => IsLarge ? 160 * 1024 : 32 * 1024;

    public int Credit { get; init; }

    public int LeaseMilliseconds { get; init; }

    public bool WantsCopies { get; init; }

    public bool IsDiskOutOfOrder { get; init; }

    /// <summary>What was synced is not safe: worlds of their own, see <see cref="DiskTrial"/>.</summary>
    public bool IsDiskLying { get; init; }

    /// <summary>Clients check what they are given, and see some of it as rotten that is sound.</summary>
    public bool IsDoubting { get; init; }

    /// <summary>Messages are published, and released, to come later.</summary>
    public bool HasDelays { get; init; }

    /// <summary>Messages die and go to the dead letters; null: what is rejected is gone, and nothing else dies.</summary>
    public Mortality? Mortality { get; init; }

    /// <summary>Messages have priorities, and groups of which one is in flight at a time.</summary>
    public bool IsOrdered { get; init; }

    /// <summary>Messages have deduplication ids, and some are sent twice.</summary>
    public bool HasDuplicates { get; init; }

    /// <summary>An exchange gives messages to all queues, and none of these is deleted.</summary>
    public bool HasRouting { get; init; }

    /// <summary>Messages and settlements that take effect together.</summary>
    public bool HasTransactions { get; init; }

    /// <summary>Messages that wait for their time have schedule keys, and later ones take their places.</summary>
    public bool HasKeys { get; init; }

    /// <summary>Operators move messages from queue to queue, delete them, and change when they are due.</summary>
    public bool HasSweeps { get; init; }

    /// <summary>Consumers mark what they have processed, and it is remembered so long; 0: they do not.</summary>
    public int ProcessedSeconds { get; init; }

    /// <summary>There are schedules, and a queue that expires when nobody uses it so long; 0: there are none.</summary>
    public int IdleSeconds { get; init; }

    /// <summary>Messages have tenants, who take turns by their weights.</summary>
    public bool HasTenants { get; init; }

    /// <summary>So many messages of a queue, of all queues together, are in flight at once, and so many of a queue are delivered a second; 0: no limit.</summary>
    public (int InFlight, int Shared, int RateASecond) Flow { get; init; }

    public override string ToString() => $"{Clients} clients, {Queues} queues, slots of {SlotBytes}, blocks of {BlockBytes}, bodies up to {MostBodyBytes}, credit {Credit}, lease {LeaseMilliseconds} ms{(WantsCopies ? ", copies" : "")}{(IsDiskOutOfOrder ? ", disk out of order" : "")}{(IsDiskLying ? ", lying disk" : "")}{(IsDoubting ? ", doubting clients" : "")}{(IsLarge ? ", large bodies" : "")}{(HasDelays ? ", delays" : "")}{(Mortality is null ? "" : $", {Mortality}")}{(IsOrdered ? ", groups and priorities" : "")}{(HasDuplicates ? ", duplicates" : "")}{(HasRouting ? ", an exchange" : "")}{(HasTransactions ? ", transactions" : "")}{(HasKeys ? ", schedule keys" : "")}{(HasSweeps ? ", sweeps" : "")}{(ProcessedSeconds > 0 ? $", marks of what was processed for {ProcessedSeconds} s" : "")}{(IdleSeconds > 0 ? $", schedules, a queue idle for {IdleSeconds} s" : "")}{(HasTenants ? ", tenants" : "")}{(Flow == default ? "" : $", limits {Flow}")}";
}

/// <summary>One history.</summary>
internal sealed record History(ulong Seed, Setting Setting, IReadOnlyList<Act> Acts)
{
    private static readonly ActKind[] s_usual = [ActKind.Publish, ActKind.PublishMany, ActKind.Flush, ActKind.Receive, ActKind.Accept, ActKind.Pass];

    private static readonly ActKind[] s_ofDisks = [ActKind.RotBit, ActKind.LoseWrite, ActKind.MisplaceWrite, ActKind.Misread, ActKind.SpoilSector, ActKind.LoseFile, ActKind.ForeignFile, ActKind.OldCopy];

    private static readonly ActKind[] s_ofCrashes = [ActKind.CrashStarts, ActKind.CrashWhere];

    private static readonly ActKind[] s_sometimes =
    [
        ActKind.Declare, ActKind.Delete, ActKind.Purge, ActKind.Unsubscribe, ActKind.Release, ActKind.Reject, ActKind.Extend, ActKind.Credit, ActKind.Leave, ActKind.Die, ActKind.DieSoon,
        ActKind.Hostile, ActKind.KillBroker, ActKind.LosePower, ActKind.StopBroker, ActKind.CrashAtStep, ActKind.StallDisk, ActKind.FailWrite, ActKind.FailSync, ActKind.FillDisk, ActKind.FailRead, ActKind.ShiftWall, ActKind.RotBit,
    ];

    /// <summary>Each seed switches a random part of all that may happen on (swarm testing: Groce and others, ISSTA 2012): what always comes together hides what comes alone.</summary>
    /// <param name="seed">Any number.</param>
    /// <param name="mayLie">In every fourth world the disk loses, misplaces and changes what it had said to be on it.</param>
    public static History Of(ulong seed, bool mayLie = false)
    {
        Dice dice = new(seed);
        Setting setting = new()
        {
            Clients = dice.Between(1, 4),
            Queues = dice.Between(1, 3),
            SlotBytes = dice.Of(96, 128, 256, 512) * 1024,
            BlockBytes = dice.Of(8, 16, 32) * 1024,
            MostBodyBytes = dice.Of(40, 300, 4000, 30_000),
            Credit = dice.Of(1, 3, 20, 500),
            LeaseMilliseconds = dice.Of(1000, 5000, 30_000),
            WantsCopies = dice.OnceIn(4),
            IsDiskOutOfOrder = dice.OnceIn(2),
        };
        List<ActKind> bag = [];
        foreach (ActKind kind in s_usual)
        {
            AddTimes(bag, kind, dice.Between(4, 12));
        }

        AddTimes(bag, ActKind.Connect, 3);
        AddTimes(bag, ActKind.Subscribe, 3);
        foreach (ActKind kind in s_sometimes)
        {
            AddTimes(bag, kind, dice.OnceIn(2) ? dice.Between(1, 3) : 0);
        }

        int count = dice.Between(40, 250);
        List<Act> acts = [new(ActKind.Connect, 0, 0, dice.Next()), new(ActKind.Subscribe, 0, 0, dice.Next())];
        for (int i = 0; i < count; i++)
        {
            acts.Add(new Act(bag[dice.Below(bag.Count)], dice.Below(1000), dice.Below(1000), dice.Next()));
        }

        return WithLateKinds(new History(seed, setting, acts), mayLie);
    }

    /// <summary>Kinds of acts that came later, each switched on by a draw of its own after all others and put between the acts that are there: a world that draws none is what it always was.</summary>
    private static History WithLateKinds(History history, bool mayLie)
    {
        const ulong Salt = 61UL << 32; // One with which the seeds that were kept before draw none of them.
        Dice dice = new(history.Seed ^ Salt);
        List<Act> acts = [.. history.Acts];
        bool isLying = dice.OnceIn(4) && mayLie;
        if (isLying)
        {
            Insert(acts, s_ofDisks, dice.Between(1, 6), dice);
        }

        if (dice.OnceIn(4))
        {
            Insert(acts, s_ofCrashes, dice.Between(1, 6), dice);
        }

        if (isLying && dice.OnceIn(2))
        {
            Insert(acts, [ActKind.SwapRecords], dice.Between(1, 3), dice);
        }

        bool hasDelays = history.Seed % 16 is 0 or 6 or 8;
        if (hasDelays)
        {
            Insert(acts, [ActKind.Release, ActKind.Receive], dice.Between(20, 60), dice);
        }

        Mortality? mortality = isLying ? null : MortalityOf(history.Seed, acts);
        Setting setting = history.Setting with { IsDiskLying = isLying, IsDoubting = history.Seed % 8 == 0, HasDelays = hasDelays, Mortality = mortality };
        if (history.Seed % 32 is 10 or 13 or 15 or 17 or 26 && !isLying)
        {
            Insert(acts, [ActKind.Publish, ActKind.Receive, ActKind.Receive, ActKind.Accept, ActKind.Release, ActKind.Subscribe], dice.Between(40, 120), dice);
            setting = setting with { IsOrdered = true };
        }

        if (history.Seed % 97 is 15 or 18 or (>= 20 and <= 27) && !isLying)
        {
            const ulong SaltOfTransactions = 131UL << 32;
            Dice together = new(history.Seed ^ SaltOfTransactions);
            Insert(acts, [ActKind.Transact, ActKind.Transact, ActKind.Receive, ActKind.Subscribe], together.Between(40, 120), together);
            setting = setting with { HasTransactions = true };
        }

        setting = setting with { HasDuplicates = history.Seed % 32 is 22 or 24 && !isLying };
        if (history.Seed % 97 is 0 or 3 or 5 or 6 or 8 or 9 or 10 or 11 or 12 or 14 && !isLying && mortality is null && !setting.IsOrdered && !setting.HasDuplicates)
        {
            acts.RemoveAll(act => act.Kind == ActKind.Delete);
            setting = setting with { HasRouting = true, Queues = 3 };
        }

        if (history.Seed % 97 is 45 or 46 or 48 or (>= 50 and <= 56) && !isLying && !setting.IsOrdered) // What waits for its time holds no group.
        {
            Insert(acts, [ActKind.Publish, ActKind.Publish, ActKind.Pass, ActKind.Receive, ActKind.Accept, ActKind.Release], dice.Between(20, 80), dice);
            setting = setting with { HasKeys = true };
        }

        if (history.Seed % 97 is 29 or 32 or 34 or 35 or 37 or 38 or 39 or 41 or 42 or 43 && !isLying && mortality is null)
        {
            const ulong FlowSalt = 167UL << 32;
            Dice flow = new(history.Seed ^ FlowSalt);
            Insert(acts, [ActKind.PauseConsumer, ActKind.Publish, ActKind.Receive, ActKind.Receive, ActKind.Release], flow.Between(30, 90), flow);
            setting = setting with { Flow = (flow.Of(1, 2, 5), flow.Of(0, 3, 8), flow.Of(0, 20, 300)) };
        }

        if (history.Seed % 97 is 57 or (>= 59 and <= 66) or 68 && !isLying && !setting.IsOrdered && !setting.HasDuplicates)
        {
            setting = WithSweeps(history.Seed, setting, acts);
        }

        if (history.Seed % 97 is 70 or 71 or 73 or (>= 75 and <= 77) or (>= 80 and <= 83) && !isLying && !setting.IsOrdered)
        {
            const ulong LedgerSalt = 211UL << 32;
            Dice ledger = new(history.Seed ^ LedgerSalt);
            Insert(acts, [ActKind.Process, ActKind.Process, ActKind.Process, ActKind.AskProcessed, ActKind.Publish, ActKind.Receive, ActKind.Receive, ActKind.Release, ActKind.Subscribe, ActKind.Pass], ledger.Between(60, 160), ledger);
            setting = setting with { ProcessedSeconds = ledger.Of(3, 60, 2_592_000) };
        }

        if (history.Seed % 97 is >= 90 and <= 94 and not 93 && !isLying && mortality is null && !setting.IsOrdered && !setting.HasDuplicates)
        {
            setting = WithSchedules(history.Seed, setting, acts);
        }

        if (history.Seed % 97 is >= 85 and <= 88 && !isLying && mortality is null && !setting.IsOrdered && !setting.HasDuplicates && !setting.IsDoubting)
        {
            const ulong TenantSalt = 229UL << 32;
            Dice tenants = new(history.Seed ^ TenantSalt);
            Insert(acts, [ActKind.PublishMany, ActKind.PublishMany, ActKind.Publish, ActKind.Receive, ActKind.Release], tenants.Between(20, 60), tenants);
            setting = setting with { HasTenants = true };
        }

        return history with { Setting = history.Seed % 16 == 9 ? setting with { IsLarge = true, SlotBytes = 512 * 1024, MostBodyBytes = 150_000 } : setting, Acts = acts };
    }

    /// <summary>Deaths came later still: in worlds of seeds that nobody had kept.</summary>
    private static Mortality? MortalityOf(ulong seed, List<Act> acts)
    {
        const ulong Salt = 101UL << 32;
        if (seed % 32 is not (0 or 6 or 8 or 14 or 18 or 21 or 25 or 27 or 29))
        {
            return null;
        }

        Dice dice = new(seed ^ Salt);
        Insert(acts, [ActKind.Reject, ActKind.Reject, ActKind.Release, ActKind.Receive, ActKind.Receive, ActKind.Receive, ActKind.Publish, ActKind.Subscribe, ActKind.Pass], dice.Between(40, 120), dice);
        return Mortality.Of(dice);
    }

    private static Setting WithSweeps(ulong seed, Setting setting, List<Act> acts)
    {
        const ulong Salt = 193UL << 32;
        Dice dice = new(seed ^ Salt);
        Insert(acts, [ActKind.Sweep, ActKind.Sweep, ActKind.EndSweep, ActKind.DoWithOne, ActKind.DoWithOne, ActKind.DoWithOne, ActKind.Reject, ActKind.Release, ActKind.Receive, ActKind.Receive, ActKind.Publish, ActKind.Subscribe, ActKind.Pass], dice.Between(60, 160), dice);
        ActKind[] absent = [.. dice.OnceIn(4) ? (ReadOnlySpan<ActKind>)[] : [ActKind.Delete], .. dice.OnceIn(2) ? (ReadOnlySpan<ActKind>)[] : [ActKind.Purge]]; // Of what those take nothing is known.
        acts.RemoveAll(act => absent.Contains(act.Kind));
        return setting with { HasSweeps = true, Mortality = setting.Mortality ?? Mortality.Of(dice), Queues = Math.Max(2, setting.Queues) };
    }

    private static Setting WithSchedules(ulong seed, Setting setting, List<Act> acts)
    {
        const ulong Salt = 223UL << 32;
        Dice dice = new(seed ^ Salt);
        Insert(acts, [ActKind.Schedule, ActKind.Schedule, ActKind.UseIdle, ActKind.UseIdle, ActKind.Receive, ActKind.Subscribe, ActKind.Accept, ActKind.Pass], dice.Between(60, 160), dice);
        ActKind[] absent = [ActKind.Delete, ActKind.Purge, ActKind.FillDisk, .. dice.OnceIn(3) ? (ReadOnlySpan<ActKind>)[] : [ActKind.ShiftWall]]; // A schedule that is to fire must be able to.
        acts.RemoveAll(act => absent.Contains(act.Kind));
        return setting with { IdleSeconds = dice.Of(3, 30, 200) };
    }

    private static void Insert(List<Act> acts, ActKind[] kinds, int count, Dice dice)
    {
        for (int i = 0; i < count; i++)
        {
            acts.Insert(dice.Between(2, acts.Count), new Act(dice.Of(kinds), dice.Below(1000), dice.Below(1000), dice.Next()));
        }
    }

    /// <summary>The same with only some of its acts.</summary>
    public History With(IEnumerable<int> kept) => this with { Acts = [.. kept.Select(index => Acts[index])] };

    private static void AddTimes(List<ActKind> bag, ActKind kind, int times)
    {
        for (int i = 0; i < times; i++)
        {
            bag.Add(kind);
        }
    }
}

/// <summary>Numbers as people write them: 3,17,40-52.</summary>
internal static class Ranges
{
    public static string Write(IReadOnlyList<int> numbers)
    {
        StringBuilder text = new();
        for (int i = 0; i < numbers.Count;)
        {
            int last = i;
            while (last + 1 < numbers.Count && numbers[last + 1] == numbers[last] + 1)
            {
                last++;
            }

            text.Append(text.Length > 0 ? "," : "").Append(CultureInfo.InvariantCulture, $"{numbers[i]}").Append(last > i ? string.Create(CultureInfo.InvariantCulture, $"-{numbers[last]}") : "");
            i = last + 1;
        }

        return text.ToString();
    }

    public static IReadOnlyList<int> Read(string text)
    {
        List<int> numbers = [];
        foreach (string part in text.Split(',', StringSplitOptions.RemoveEmptyEntries))
        {
            string[] ends = part.Split('-');
            int first = int.Parse(ends[0], CultureInfo.InvariantCulture), last = int.Parse(ends[^1], CultureInfo.InvariantCulture);
            numbers.AddRange(Enumerable.Range(first, last - first + 1));
        }

        return numbers;
    }
}
