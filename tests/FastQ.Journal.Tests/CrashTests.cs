using Xunit;

namespace FastQ.Journal;

// A short workload on the simulated disk: the power fails after each of its steps, in several ways, and the process is killed there too.
//
//   confirmed (synced) is found again; what is found is what was written, up to some point, and nothing else     (P2)
//   whatever is said to live can be read, byte for byte; a second recovery, or one after a crash of the first, finds the same
public sealed class CrashTests : IDisposable
{
    private const string Data = "/sim/data";
    private const int SlotBytes = 40 * 1024, BlockBytes = 4 * 1024;
    private readonly SimulatedStorage _disk = new("/sim");
    private readonly List<ulong> _history = [0];
    private readonly List<string> _problems = [];
    private Ledger? _ledger;
    private int _confirmedBefore;
    private int _writtenBefore;
    private int _images;

    // What the power may leave of what was not synced. Each way is tried after each step.
    private static readonly (string Name, Func<Unsynced, long, Survival> Survives)[] Fates =
    [
        ("all lost", static (_, _) => Survival.Lost),
        ("all kept", static (_, _) => Survival.Kept),
        ("the last step lost", static (what, step) => what.Step == step ? Survival.Lost : Survival.Kept),
        ("only the last step kept", static (what, step) => what.Step == step ? Survival.Kept : Survival.Lost),
        ("first half of the last step", static (what, step) => what.Step < step || what.Sector % 8 < 4 ? Survival.Kept : Survival.Lost),
        ("second half of the last step", static (what, step) => what.Step < step || what.Sector % 8 >= 4 ? Survival.Kept : Survival.Lost),
        ("each sector torn", static (_, _) => Survival.Torn),
        ("the last step torn", static (what, step) => what.Step == step ? Survival.Torn : Survival.Kept),
        ("odd sectors", static (what, _) => what.Sector % 2 == 1 ? Survival.Kept : Survival.Lost),
        ("names kept, bytes lost", static (what, _) => what.Kind == StorageStepKind.Write ? Survival.Lost : Survival.Kept),
        ("bytes kept, names lost", static (what, _) => what.Kind == StorageStepKind.Write ? Survival.Kept : Survival.Lost),
        ("dice 1", static (what, step) => Dice(what, step, 1)),
        ("dice 2", static (what, step) => Dice(what, step, 2)),
        ("dice 3", static (what, step) => Dice(what, step, 3)),
    ];

    [Fact]
    public void Power_may_fail_after_every_step_of_a_short_life()
    {
        _disk.Stepped = step => AfterPowerLoss(_disk, step.Number);
        Work(Open(_disk));
        Assert.True(_ledger!.Journal.Statistics.Snapshots >= 3 && _images > 1500, $"{_images} images");
        Report();
    }

    [Fact]
    public void Power_may_fail_after_every_step_of_a_life_that_follows_a_kill()
    {
        Work(Open(_disk));
        SimulatedStorage disk = AfterKill(_disk);
        disk.Stepped = step => AfterPowerLoss(disk, step.Number);
        Work(Open(disk));
        Report();
    }

    [Fact]
    public void A_kill_after_any_step_loses_nothing_that_was_written()
    {
        _disk.Stepped = _ =>
        {
            int written = Math.Max(_writtenBefore, _ledger?.Written ?? 0);
            Recover(_disk.AfterKill(), written, "killed");
        };
        Work(Open(_disk));
        Report();
    }

    [Fact]
    public void What_a_life_after_a_kill_has_served_survives_the_power()
    {
        // The cache had it, so it was served: then the disk must have it too (DESIGN-REVIEW R23).
        _disk.Stepped = step =>
        {
            SimulatedStorage killed = _disk.AfterKill();
            using Ledger served = Ledger.TryOpen(killed, Data, SlotBytes, BlockBytes);
            Note(served.Refusal is null, $"killed after step {step.Number}: {served.Refusal?.Text}");
            if (served.Refusal is null)
            {
                Recover(killed.AfterPowerLoss(static _ => Survival.Lost), served.Applied, $"killed after step {step.Number}, served, power lost");
            }
        };
        Work(Open(_disk));
        Report();
    }

    [Fact]
    public void Recovery_may_itself_be_cut_off_after_every_step()
    {
        _disk.Stepped = step =>
        {
            if (step.Number % 3 != 0)
            {
                return; // Each crash of each recovery is a recovery: a third of the steps is enough.
            }

            foreach (SimulatedStorage found in (SimulatedStorage[])[_disk.AfterKill(), _disk.AfterPowerLoss(what => Dice(what, step.Number, 4))])
            {
                int confirmed = Confirmed;
                long before = found.Steps;
                found.Stepped = inner =>
                {
                    Recover(found.AfterKill(), confirmed, $"step {step.Number}, recovery killed after its step {inner.Number - before}");
                    Recover(found.AfterPowerLoss(what => Dice(what, inner.Number, 5)), confirmed, $"step {step.Number}, power lost after step {inner.Number - before} of the recovery");
                };
                using Ledger once = Ledger.TryOpen(found, Data, SlotBytes, BlockBytes);
            }
        };
        Work(Open(_disk));
        Report();
    }

    [Fact]
    public void Writes_may_end_in_any_order()
    {
        for (int seed = 1; seed <= 5; seed++)
        {
            using CrashTests run = new();
            uint dice = (uint)seed;
            run._disk.Pick = count => (int)(Next(ref dice) % (uint)(count + 1)) - 1;
            run._disk.Stepped = step => run.AfterPowerLoss(run._disk, step.Number);
            run.Work(run.Open(run._disk));
            Assert.True(run._problems.Count == 0, $"seed {seed}: {string.Join('\n', run._problems.Take(10))}");
        }
    }

    public void Dispose()
    {
        _disk.Stepped = null;
        _ledger?.Dispose();
        _disk.Dispose();
    }

    private int Confirmed => Math.Max(_confirmedBefore, _ledger?.Confirmed ?? 0);

    private static uint Next(ref uint dice)
    {
        dice ^= dice << 13;
        dice ^= dice >> 17;
        dice ^= dice << 5;
        return dice;
    }

    private static Survival Dice(in Unsynced what, long step, uint seed)
    {
        uint dice = (uint)((what.Sector + 1) * 2654435761) ^ (uint)(what.Step * 40503) ^ (uint)(step * 97) ^ (seed * 668265263) | 1;
        _ = Next(ref dice);
        return (Survival)(Next(ref dice) % 3);
    }

    private Ledger Open(SimulatedStorage disk)
    {
        Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        Assert.Equal(_history[ledger.Applied], ledger.Digest);
        _history.RemoveRange(ledger.Applied + 1, _history.Count - ledger.Applied - 1);
        return _ledger = ledger;
    }

    private SimulatedStorage AfterKill(SimulatedStorage disk)
    {
        disk.Stepped = null;
        (_confirmedBefore, _writtenBefore) = (_ledger!.Confirmed, _ledger.Written);
        _ledger = null;
        return disk.AfterKill();
    }

    /// <summary>Puts, drops, syncs, snapshots, rolls over segments, reclaims, compacts and recycles: all that a life does.</summary>
    private void Work(Ledger ledger)
    {
        Queue<ulong> mine = new();
        for (int round = 0; round < 5; round++)
        {
            for (int i = 0; i < 18; i++)
            {
                mine.Enqueue(Do(ledger, l => l.Put(300 + i * 97 % 900)));
                if (i % 3 == 2)
                {
                    ledger.Seal();
                }

                if (i % 9 == 8)
                {
                    ledger.Sync();
                }
            }

            while (mine.Count > 6)
            {
                ulong id = mine.Dequeue();
                if (id % 16 == 0)
                {
                    mine.Enqueue(id); // One that lives long, and so must be moved.
                    continue;
                }

                Do(ledger, l =>
                {
                    l.Drop(id);
                    return id;
                });
            }

            ledger.Seal();
            ledger.Reclaim(); // The drops are not durable yet: nothing may be freed by them.
            ledger.Poll();
            if (round == 2)
            {
                uint oldest = ledger.Journal.FullSlot(0).Id;
                Do(ledger, l =>
                {
                    l.Compact(oldest);
                    return 0ul;
                });
            }

            Assert.True(ledger.Snapshot());
            ledger.Reclaim();
            ledger.ReadAll();
        }

        // An end in the middle of things: sealed, not synced; and open.
        Do(ledger, l => l.Put(500));
        ledger.Seal();
        Do(ledger, l => l.Put(500));
    }

    /// <summary>Does it, and writes down what the state is after each record.</summary>
    private ulong Do(Ledger ledger, Func<Ledger, ulong> act)
    {
        ledger.Applying = _history.Add;
        ulong result = act(ledger);
        ledger.Applying = null;
        return result;
    }

    private void AfterPowerLoss(SimulatedStorage disk, long step)
    {
        foreach ((string name, Func<Unsynced, long, Survival> survives) in Fates)
        {
            Recover(disk.AfterPowerLoss(what => survives(what, step)), Confirmed, $"step {step}, {name}");
        }
    }

    private void Recover(SimulatedStorage image, int confirmed, string how)
    {
        _images++;
        using Ledger found = Ledger.TryOpen(image, Data, SlotBytes, BlockBytes);
        Note(found.Refusal is null, $"{how}: refused: {found.Refusal?.Text}");
        if (found.Refusal is not null)
        {
            return;
        }

        Note(found.Applied >= confirmed, $"{how}: {found.Applied} found, {confirmed} were confirmed ({found.Report.Verdict})");
        Note(found.Applied < _history.Count && _history[Math.Min(found.Applied, _history.Count - 1)] == found.Digest, $"{how}: {found.Applied} found, and not those that were written");
        Note(found.TryReadAll(out string lost), $"{how}: {lost}");
        Note(!image.List($"{Data}/namespaces/default/snapshots").Value.Any(name => name.EndsWith(".tmp", StringComparison.Ordinal)), $"{how}: a snapshot in the making stays behind");

        using Ledger again = Ledger.TryOpen(image.AfterPowerLoss(static _ => Survival.Lost), Data, SlotBytes, BlockBytes);
        Note(again.Refusal is null, $"{how}, again: refused: {again.Refusal?.Text}");
        Note(again.Refusal is not null || (again.Applied == found.Applied && again.Digest == found.Digest), $"{how}, again: {again.Applied} found instead of {found.Applied}");
    }

    private void Note(bool holds, string problem)
    {
        if (!holds)
        {
            _problems.Add(problem);
        }
    }

    private void Report() => Assert.True(_problems.Count == 0, $"{_problems.Count} of {_images} images:\n{string.Join('\n', _problems.Take(20))}");
}
