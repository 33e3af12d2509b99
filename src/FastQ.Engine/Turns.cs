using System.Numerics;

namespace FastQ.Engine;

// Whose turn it is, among lines that may be served: the highest priority first; among those of one priority the tenants in turn, each as
// often in a round as its weight says (deficit round robin, Shreedhar and Varghese 1995, where each message costs the same); of a tenant
// the line whose first message is the oldest.
//
//   priority 255 .. 0 --> tenants in a round --> lines by their first message's tag

/// <summary>Lines that may be served, in the order of their turns. A line is known by the tag of its first message. One thread.</summary>
/// <param name="sets">Whose lines are kept there.</param>
/// <param name="barred">Tenants at their limit: their lines are there, and passed over.</param>
internal sealed class Turns(NativeSets sets, HashSet<ulong> barred)
{
    private const int Levels = 256;
    private const int FewTenants = 64;
    private readonly Level?[] _levels = new Level?[Levels];
    private readonly ulong[] _occupied = new ulong[Levels / 64];
    private readonly Stack<Tenant> _spare = new();
    private int _owed; // What the lower priorities are owed, in hundredths of a message.
    private int _lastLow = Levels;

    /// <summary>So many of a hundred messages go to lower priorities while the highest has some. 0: none.</summary>
    public int LowShare { get; set; }

    /// <summary>How many messages a tenant gets in a round; who is not named gets 1. Null: all get 1.</summary>
    public Dictionary<ulong, int>? Weights { get; set; }

    /// <summary>Lines, those of barred tenants with them.</summary>
    public int Count { get; private set; }

    public void Add(byte priority, ulong tenant, ulong first)
    {
        Level level = _levels[priority] ??= new Level();
        if (!level.ByKey.TryGetValue(tenant, out Tenant? found))
        {
            found = _spare.TryPop(out Tenant? spare) ? spare : new Tenant();
            (found.Key, found.Left, found.IsInRound) = (tenant, WeightOf(tenant), false);
            level.ByKey.Add(tenant, found);
        }

        sets.Add(ref found.Lines, first);
        found.Count++;
        Count++;
        if (barred.Contains(tenant))
        {
            level.Aside++;
            return;
        }

        level.Lines++;
        _occupied[priority >> 6] |= 1ul << (priority & 63);
        level.Join(found);
    }

    /// <summary>A tenant is at its limit, and its lines are passed over until it is below it again. Among the barred it is, or is not any more, already.</summary>
    public void Judged(ulong tenant, bool isBarred)
    {
        if (isBarred)
        {
            Bar(tenant);
        }
        else
        {
            Admit(tenant);
        }
    }

    private void Bar(ulong tenant)
    {
        for (int priority = 0; priority < Levels; priority++)
        {
            if (_levels[priority] is Level level && level.ByKey.TryGetValue(tenant, out Tenant? found) && found.Count > 0)
            {
                level.Aside += found.Count;
                level.Lines -= found.Count;
                CloseIfEmpty(priority, level);
            }
        }
    }

    private void Admit(ulong tenant)
    {
        for (int priority = 0; priority < Levels; priority++)
        {
            if (_levels[priority] is Level level && level.ByKey.TryGetValue(tenant, out Tenant? found) && found.Count > 0)
            {
                level.Aside -= found.Count;
                level.Lines += found.Count;
                _occupied[priority >> 6] |= 1ul << (priority & 63);
                level.Join(found);
            }
        }
    }

    public void Remove(byte priority, ulong tenant, ulong first)
    {
        Level level = _levels[priority]!;
        Tenant found = level.ByKey[tenant];
        sets.Remove(ref found.Lines, first);
        found.Count--;
        Count--;
        if (barred.Contains(tenant))
        {
            level.Aside--;
        }
        else
        {
            level.Lines--;
        }

        if (found.Count == 0 && !found.IsInRound)
        {
            level.ByKey.Remove(tenant);
            _spare.Push(found);
        }

        CloseIfEmpty(priority, level);
    }

    private void CloseIfEmpty(int priority, Level level)
    {
        if (level.Lines > 0)
        {
            return;
        }

        _occupied[priority >> 6] &= ~(1ul << (priority & 63));
        if (level.Aside == 0 && level.ByKey.Count > FewTenants)
        {
            _levels[priority] = null; // Nothing is kept of tenants that have had their say.
        }
    }

    /// <summary>The first message of the line whose turn it is; 0: there is none. The same until <see cref="Serve"/>, or until lines come or go.</summary>
    public ulong First()
    {
        int top = Below(Levels);
        if (top < 0)
        {
            return 0;
        }

        return FirstOf(_owed >= 100 && LowBelow(top) is int low and >= 0 ? low : top);
    }

    /// <summary>The oldest first message of the lowest priority; 0: there is none.</summary>
    public ulong Lowest()
    {
        for (int priority = 0; priority < Levels; priority++)
        {
            switch (_levels[priority])
            {
                case { Lines: > 0 }:
                    return FirstOf(priority);
                case { Aside: > 0 } level:
                    return level.ByKey.Values.Where(tenant => tenant.Count > 0).Min(tenant => sets.First(tenant.Lines));
            }
        }

        return 0;
    }

    /// <summary>The message that <see cref="First"/> gave goes to a consumer: its tenant has had one more of its round.</summary>
    public void Serve(byte priority)
    {
        int top = Below(Levels);
        if (LowShare > 0 && Below(top) >= 0)
        {
            _owed += LowShare;
        }

        if (priority < top)
        {
            (_owed, _lastLow) = (_owed - 100, priority);
        }

        Level level = _levels[priority]!;
        Tenant front = level.Round.Peek();
        if (--front.Left <= 0)
        {
            front.Left = WeightOf(front.Key);
            level.Round.Enqueue(level.Round.Dequeue());
        }
    }

    /// <summary>No line may be served any more; the sets are empty already.</summary>
    public void Clear()
    {
        Array.Clear(_levels);
        Array.Clear(_occupied);
        (_owed, Count) = (0, 0);
    }

    private ulong FirstOf(int priority)
    {
        Level level = _levels[priority]!;
        while (level.Round.Peek() is { } front && (front.Count == 0 || (barred.Count > 0 && barred.Contains(front.Key))))
        {
            level.Round.Dequeue();
            front.IsInRound = false;
            if (front.Count == 0)
            {
                level.ByKey.Remove(front.Key);
                _spare.Push(front);
            }
        }

        return sets.First(level.Round.Peek().Lines);
    }

    /// <summary>The lower priorities take turns, too, downwards.</summary>
    private int LowBelow(int top) => Below(Math.Min(top, _lastLow)) is int next and >= 0 ? next : Below(top);

    /// <summary>The highest priority below this one that has a line; -1: none has.</summary>
    private int Below(int priority)
    {
        for (int i = (priority - 1) >> 6; priority > 0 && i >= 0; i--)
        {
            int end = priority - 64 * i;
            ulong below = end >= 64 ? _occupied[i] : _occupied[i] & ((1ul << end) - 1);
            if (below != 0)
            {
                return 64 * i + 63 - BitOperations.LeadingZeroCount(below);
            }
        }

        return -1;
    }

    private int WeightOf(ulong tenant) => Weights is not null && Weights.TryGetValue(tenant, out int weight) ? weight : 1;

    private sealed class Level
    {
        public int Lines;

        /// <summary>Lines of tenants that are barred.</summary>
        public int Aside;

        public Dictionary<ulong, Tenant> ByKey { get; } = [];

        /// <summary>Those without a line, or barred, leave when they stand in front.</summary>
        public Queue<Tenant> Round { get; } = new();

        public void Join(Tenant tenant)
        {
            if (!tenant.IsInRound)
            {
                tenant.IsInRound = true;
                Round.Enqueue(tenant);
            }
        }
    }

    private sealed class Tenant
    {
        public ulong Key;
        public int Left;
        public uint Lines;
        public int Count;
        public bool IsInRound;
    }
}
