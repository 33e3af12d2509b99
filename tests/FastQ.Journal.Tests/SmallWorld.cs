using FastQ.Linux;

namespace FastQ.Journal;

// One short history on the simulated disk, made from a seed: puts, drops, seals, syncs, snapshots, reclaims, compactions, kills and power losses.
// After each of its steps the power fails in every way that is worth telling apart:
//
//   units      all sectors of one write (a block, a header, a snapshot's pages), one length, one name: what a step left unsynced
//   images     every subset of the newest six units, beside none and all of the older ones, and each with the newest write torn in its sectors
//   verdict    harmless: all that was confirmed is there, it is a prefix of history, it can be read, and a second start finds the same
//              reported: the start was refused            silent: anything else
//
// Images with the same survivors are recovered once and judged each time, for more may be confirmed by then.
internal sealed class SmallWorld : IDisposable
{
    private const string Data = "/sim/data";
    private const int BlockBytes = 4 * 1024, NewestUnits = 6;
    private readonly Random _dice;
    private readonly int _seed;
    private readonly int _slotBytes;
    private readonly bool _diesOften;
    private readonly List<ulong> _history = [0];
    private readonly Dictionary<ulong, Finding> _findings = [];
    private readonly HashSet<string> _usedSlots = [];
    private readonly List<ulong> _live = [];
    private SimulatedStorage _disk = new("/sim");
    private Ledger? _ledger;
    private int _confirmedBefore;
    private int _writtenBefore;

    private readonly record struct Finding(string? Refused, string? Wrong, int Applied, ulong Digest);

    private sealed class Unit(long step)
    {
        public long Step => step;

        public bool IsWrite { get; set; }

        /// <summary>Of what it consists, as a hash: later writes take sectors away.</summary>
        public ulong Mark { get; set; }
    }

    /// <summary>What was done and found, over all worlds.</summary>
    internal sealed class Tally
    {
        public long Histories, Steps, Cases, Images, Harmless, Reported, Silent;
        public long MostUnits, Snapshots, Segments, Recycled, Compactions, Kills, PowerLosses;

        public List<string> Problems { get; } = [];

        public void Add(Tally other)
        {
            Histories += other.Histories;
            Steps += other.Steps;
            Cases += other.Cases;
            Images += other.Images;
            Harmless += other.Harmless;
            Reported += other.Reported;
            Silent += other.Silent;
            MostUnits = Math.Max(MostUnits, other.MostUnits);
            Snapshots += other.Snapshots;
            Segments += other.Segments;
            Recycled += other.Recycled;
            Compactions += other.Compactions;
            Kills += other.Kills;
            PowerLosses += other.PowerLosses;
            Problems.AddRange(other.Problems);
        }
    }

    public SmallWorld(int seed)
    {
        _seed = seed;
        _dice = new Random(seed);
        _diesOften = seed % 2 == 0;
        _slotBytes = (4 + _dice.Next(3)) * 4096; // Three to five blocks a slot: a short history fills several.
    }

    public Tally Found { get; } = new() { Histories = 1 };

    /// <summary>Lives the history, and judges every crash of it.</summary>
    public void Run(int acts)
    {
        Begin();
        for (int i = 0; i < acts; i++)
        {
            Act();
        }
    }

    public void Dispose()
    {
        _disk.Stepped = null;
        _ledger?.Dispose();
    }

    private Ledger Ledger => _ledger!;

    private int Confirmed => Math.Max(_confirmedBefore, _ledger?.Confirmed ?? 0);

    private void Begin()
    {
        _disk.Stepped = Crash;
        _disk.Pick = count => _dice.Next(count + 1) - 1; // In any order, and not at once.
        Ledger found = Ledger.Open(_disk, Data, _slotBytes, BlockBytes);
        Judge(new Finding(null, null, found.Applied, found.Digest), _writtenBefore, "served in earnest");
        _history.RemoveRange(found.Applied + 1, _history.Count - found.Applied - 1);
        found.Applying = _history.Add;
        _ledger = found;
        _live.Clear();
        _live.AddRange(found.Live);
    }

    private void Act()
    {
        int dice = _dice.Next(100);
        if (dice < 36 || _live.Count == 0)
        {
            _live.Add(Ledger.Put(_dice.Next(8) == 0 ? _dice.Next(_slotBytes / 5) : _dice.Next(900)));
        }
        else if (dice < 60)
        {
            ulong id = _live[_dice.Next(_live.Count)];
            _live.Remove(id);
            Ledger.Drop(id);
        }
        else if (dice < 76)
        {
            Ledger.Seal();
        }
        else if (dice < 84)
        {
            Ledger.Sync();
        }
        else if (dice < 91)
        {
            Ledger.Snapshot();
            Ledger.Reclaim();
        }
        else if (dice < 93)
        {
            Ledger.Reclaim();
        }
        else if (dice < 96)
        {
            CompactOldest();
        }
        else if (!_diesOften)
        {
            Tidy();
        }
        else if (dice < 98)
        {
            Found.Kills++;
            Die(_disk.AfterKill(), written: Ledger.Written);
        }
        else
        {
            Found.PowerLosses++;
            Dictionary<long, Survival> fates = [];
            Die(_disk.AfterPowerLoss(what => fates.TryGetValue(what.Step, out Survival fate) ? fate : fates[what.Step] = (Survival)_dice.Next(3)), written: 0);
        }
    }

    /// <summary>What has been gone for two snapshots lets its slot be used again.</summary>
    private void Tidy()
    {
        while (_live.Count > 2)
        {
            Ledger.Drop(_live[0]);
            _live.RemoveAt(0);
        }

        for (int i = 0; i < 2; i++)
        {
            _live.Add(Ledger.Put(100));
            Ledger.Snapshot();
            Ledger.Reclaim();
        }
    }

    private void CompactOldest()
    {
        if (Ledger.Journal.FullSlots > 0 && !Ledger.Journal.FullSlot(0).IsOlderLife)
        {
            Found.Compactions++;
            Ledger.Sync();
            Ledger.Compact(Ledger.Journal.FullSlot(0).Id);
        }
    }

    private void Die(SimulatedStorage image, int written)
    {
        (_confirmedBefore, _writtenBefore) = (Confirmed, Math.Max(Confirmed, written));
        _disk.Stepped = null;
        Ledger.Dispose();
        _ledger = null;
        _disk = image;
        _findings.Clear();
        Begin();
        _confirmedBefore = _writtenBefore = 0; // The new life confirms what it has found.
    }

    private void Crash(StorageStep step)
    {
        Found.Steps++;
        Count(step);
        if (step.Kind is StorageStepKind.Sync or StorageStepKind.SyncDirectory)
        {
            _findings.Clear(); // The same survivors beside another disk are another image.
        }

        List<Unit> units = UnitsOf(_disk);
        Found.MostUnits = Math.Max(Found.MostUnits, units.Count);
        int newest = Math.Min(NewestUnits, units.Count), older = units.Count - newest;
        foreach (bool olderKept in older > 0 ? (bool[])[false, true] : [false])
        {
            ulong base_ = olderKept ? units.Take(older).Aggregate(0ul, static (sum, unit) => sum + unit.Mark) : 0;
            for (int subset = 0; subset < 1 << newest; subset++)
            {
                bool canTear = newest > 0 && units[^1].IsWrite && (subset >> (newest - 1)) == 1;
                foreach (bool torn in canTear ? (bool[])[false, true] : [false])
                {
                    ulong mark = base_;
                    for (int i = 0; i < newest; i++)
                    {
                        mark += (subset >> i & 1) == 1 ? units[older + i].Mark : 0;
                    }

                    if (!_findings.TryGetValue(torn ? ~mark : mark, out Finding finding))
                    {
                        long firstNewest = newest > 0 ? units[older].Step : 0;
                        finding = Recover(_disk.AfterPowerLoss(what =>
                        {
                            int at = what.Step < firstNewest ? -1 : units.FindIndex(older, unit => unit.Step == what.Step) - older;
                            bool kept = at < 0 ? olderKept : (subset >> at & 1) == 1;
                            return !kept ? Survival.Lost : torn && what.Step == units[^1].Step ? Survival.Torn : Survival.Kept;
                        }));
                        _findings[torn ? ~mark : mark] = finding;
                    }

                    Judge(finding, Confirmed, $"step {step.Number} ({step.Kind} {step.Path} at {step.Offset}), of {units.Count} units unsynced the newest {newest} by mask {subset:b}{(torn ? ", the last torn" : "")}, older ones {(olderKept ? "kept" : "lost")}");
                }
            }
        }

        Judge(Recover(_disk.AfterKill()), Math.Max(Confirmed, Math.Max(_writtenBefore, _ledger?.Written ?? 0)), $"step {step.Number} ({step.Kind} {step.Path} at {step.Offset}), killed");
    }

    private static List<Unit> UnitsOf(SimulatedStorage disk)
    {
        SortedDictionary<long, Unit> units = [];
        disk.AfterPowerLoss(what =>
        {
            if (!units.TryGetValue(what.Step, out Unit? unit))
            {
                units[what.Step] = unit = new Unit(what.Step);
            }

            unit.IsWrite |= what.Kind == StorageStepKind.Write;
            unit.Mark += Mix((ulong)what.Step << 24 ^ (ulong)what.Sector << 8 ^ (ulong)what.Kind); // A step is of one file.
            return Survival.Kept; // Or what lies in a directory whose own name is lost would not be asked for.
        }).Dispose();
        return [.. units.Values];
    }

    private static ulong Mix(ulong bits)
    {
        bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9;
        bits = (bits ^ bits >> 27) * 0x94D049BB133111EB;
        return bits ^ bits >> 31;
    }

    private Finding Recover(SimulatedStorage image)
    {
        Found.Images++;
        using Ledger found = Ledger.TryOpen(image, Data, _slotBytes, BlockBytes);
        if (found.Refusal is JournalProblem problem)
        {
            return new Finding(problem.Text, null, 0, 0);
        }

        if (!found.TryReadAll(out string unreadable))
        {
            return new Finding(null, unreadable, found.Applied, found.Digest);
        }

        using Ledger again = Ledger.TryOpen(image.AfterPowerLoss(static _ => Survival.Lost), Data, _slotBytes, BlockBytes);
        string? differs = again.Refusal is not null ? $"the second start is refused: {again.Refusal.Text}"
            : again.Applied != found.Applied || again.Digest != found.Digest ? $"the second start finds {again.Applied}, the first found {found.Applied}" : null;
        return new Finding(null, differs, found.Applied, found.Digest);
    }

    private void Judge(in Finding finding, int confirmed, string how)
    {
        Found.Cases++;
        string? problem = finding.Refused is not null ? $"refused: {finding.Refused}"
            : finding.Wrong is not null ? finding.Wrong
            : finding.Applied < confirmed ? $"{finding.Applied} found, {confirmed} were confirmed"
            : finding.Applied >= _history.Count || _history[finding.Applied] != finding.Digest ? $"{finding.Applied} found, and they are not the first {finding.Applied} of history" : null;
        if (problem is null)
        {
            Found.Harmless++;
            return;
        }

        _ = finding.Refused is not null ? Found.Reported++ : Found.Silent++;
        if (Found.Problems.Count < 3)
        {
            Found.Problems.Add($"seed {_seed}, {how}: {problem}");
        }
    }

    private void Count(StorageStep step)
    {
        Found.Snapshots += step.Kind == StorageStepKind.Rename && step.Path.EndsWith(".tmp", StringComparison.Ordinal) && step.Path.Contains("snapshots", StringComparison.Ordinal) ? 1 : 0;
        bool isHeader = step.Kind == StorageStepKind.Write && step.Offset == 0 && step.Bytes == Format.SegmentHeaderBytes && step.Path.EndsWith(".slot", StringComparison.Ordinal);
        if (isHeader)
        {
            Found.Segments++;
            Found.Recycled += _usedSlots.Add(step.Path) ? 0 : 1;
        }
    }
}
