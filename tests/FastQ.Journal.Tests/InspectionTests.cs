using FastQ.Linux;
using Xunit;
using static FastQ.Journal.RestingDisk;

namespace FastQ.Journal;

// Verify and repair, whatever byte is turned over and wherever they are cut off.
public class InspectionTests
{
    private static readonly JournalOptions Options = new() { Directory = Data, SlotBytes = SlotBytes, BlockBytes = BlockBytes };

    [Fact]
    public void A_good_directory_has_no_damage_and_a_look_changes_nothing()
    {
        using SimulatedStorage disk = AtRest(out int applied, out _);
        long steps = disk.Steps;
        Ledger state = Ledger.Lenient();
        using JournalInspection inspection = Look(disk, state);
        Assert.Empty(inspection.Damage);
        Assert.Null(inspection.Refusal);
        Assert.Equal(applied, state.Applied);
        Assert.Equal(steps, disk.Steps);
    }

    [Fact]
    public void A_snapshot_under_another_name_is_taken_for_what_it_is()
    {
        using SimulatedStorage disk = AtRest(out int applied, out _);
        string newest = $"{SnapshotFolder}/{SnapshotNames(disk)[^1]}";
        disk.Rename(newest, $"{SnapshotFolder}/copy.snap").OrThrow();
        Ledger salvaged = Ledger.Lenient();
        using JournalInspection inspection = Look(disk, Ledger.Lenient());
        _ = inspection.SalvageInto(salvaged, Ledger.Judge);
        Assert.Empty(inspection.Damage);
        Assert.Equal(applied, salvaged.Applied);
    }

    [Fact]
    public void An_unsynced_tail_is_no_damage()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        ledger.Put(1000);
        ledger.Sync();
        ledger.Put(3000);
        ledger.Seal();
        using JournalInspection inspection = Look(disk.AfterPowerLoss(what => what.Sector % 2 == 0 ? Survival.Kept : Survival.Lost), Ledger.Lenient());
        Assert.Empty(inspection.Damage);
    }

    [Fact]
    public void Whatever_byte_keeps_a_broker_from_starting_is_named_and_repaired_with_no_more_lost_than_that()
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        ulong[] all = LiveOn(disk.AfterKill());
        int repaired = 0, kept = 0;
        foreach (string path in FilesOf(disk))
        {
            foreach (long at in PlacesOf(disk, path).Where((_, i) => i % 5 == 0))
            {
                using SimulatedStorage rotten = disk.AfterKill();
                rotten.Rot(path, at, (byte)(1 << (int)(at % 8)));
                bool isRefused = IsRefused(rotten.AfterKill());
                using JournalInspection inspection = Look(rotten, Ledger.Lenient());
                Assert.True(!isRefused || inspection.Damage.Count > 0, $"byte {at} of {path}: refused, and no damage named");
                if (!isRefused)
                {
                    continue;
                }

                repaired++;
                ulong[] live = Repaired(rotten, inspection, out int lost);
                Assert.True(lost <= 1, $"byte {at} of {path}: {lost} lost");
                kept += live.Length == all.Length ? 1 : 0;
                Assert.True(all.Except(live).Count() <= 1, $"byte {at} of {path}: without {string.Join(", ", all.Except(live))}");
                using JournalInspection again = Look(rotten, Ledger.Lenient());
                Assert.True(again.Damage.Count == 0, $"byte {at} of {path}: still {string.Join("; ", again.Damage)}");
            }
        }

        Assert.True(repaired > 100 && kept > 20, $"{repaired} repaired, {kept} of them without a loss");
    }

    [Fact]
    public void Repair_may_be_cut_off_after_every_step_and_run_again()
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        string slot = $"{SlotFolder}/{disk.List(SlotFolder).Value[0]}";
        foreach (long at in PlacesOf(disk, slot).Where(at => at % Format.BlockAlignment == Format.SegmentHeaderBytes % Format.BlockAlignment + 70))
        {
            using SimulatedStorage rotten = disk.AfterKill();
            rotten.Rot(slot, at, 1);
            List<SimulatedStorage> images = [];
            rotten.Stepped = step => images.AddRange([rotten.AfterKill(), rotten.AfterPowerLoss(static _ => Survival.Lost), rotten.AfterPowerLoss(static _ => Survival.Torn)]);
            ulong[] live;
            using (JournalInspection inspection = Look(rotten, Ledger.Lenient()))
            {
                live = Repaired(rotten, inspection, out _);
            }

            foreach (SimulatedStorage image in images)
            {
                if (IsRefused(image.AfterKill()))
                {
                    using JournalInspection again = Look(image, Ledger.Lenient());
                    _ = Repaired(image, again, out _);
                }

                Assert.Equal(live, LiveOn(image));
            }
        }
    }

    [Fact]
    public void A_life_after_a_repair_says_where_the_gap_was()
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        using (JournalInspection good = Look(disk, Ledger.Lenient()))
        {
            InspectedBlock block = good.Blocks.Last(block => !block.IsVoid && block.Header.RecordCount > 0);
            disk.Rot($"{SlotFolder}/{SegmentCatalogue.FileName(block.Slot)}", block.Position + BlockHeader.SizeBytes + 30, 1);
            using JournalInspection inspection = Look(disk, Ledger.Lenient());
            JournalDamage damage = Assert.Single(inspection.Damage);
            Assert.Equal((block.Slot, block.Position, block.Header.BlockNumber), (damage.Slot, damage.Position, damage.Block));
            _ = Repaired(disk, inspection, out _);
            using JournalInspection after = Look(disk, Ledger.Lenient());
            Assert.Contains(after.Slots, slot => slot.Header.GapBlock == block.Header.BlockNumber);
        }
    }

    [Fact]
    public void A_length_that_is_rotten_costs_its_own_record_alone()
    {
        using SimulatedStorage disk = new("/sim");
        using (Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes))
        {
            foreach (int bytes in (int[])[300, 300, 300])
            {
                ledger.Put(bytes);
            }

            ledger.Sync();
            ledger.Journal.SealClosing();
            ledger.Sync();
        }

        const int First = Format.SegmentHeaderBytes + BlockHeader.SizeBytes, Second = First + 320;
        disk.Rot($"{SlotFolder}/{SegmentCatalogue.FileName(1)}", Second, 64);
        using JournalInspection inspection = Look(disk, Ledger.Lenient());
        Assert.Equal([1ul, 3ul], Repaired(disk, inspection, out _));
    }

    [Fact]
    public void A_repair_that_fails_at_any_step_says_so_and_may_be_run_again()
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        InspectedBlock block;
        using (JournalInspection good = Look(disk, Ledger.Lenient()))
        {
            block = good.Blocks.Last(block => !block.IsVoid && block.Header.RecordCount > 0);
        }

        disk.Rot($"{SlotFolder}/{SegmentCatalogue.FileName(block.Slot)}", block.Position + BlockHeader.SizeBytes + 30, 1);
        disk.Rot($"{SnapshotFolder}/{SnapshotNames(disk)[0]}", 5, 1);
        ulong[] expected;
        using (SimulatedStorage whole = disk.AfterKill())
        using (JournalInspection inspection = Look(whole, Ledger.Lenient()))
        {
            expected = Repaired(whole, inspection, out _);
            Assert.Single(inspection.BadSnapshots);
        }

        int at = 0;
        for (bool hasStruck = true; hasStruck; at++)
        {
            using SimulatedStorage failing = disk.AfterKill();
            using (JournalInspection inspection = Look(failing, Ledger.Lenient()))
            {
                Ledger salvaged = Ledger.Lenient();
                Salvage salvage = inspection.SalvageInto(salvaged, Ledger.Judge);
                _ = salvaged.DiscardBad(inspection);
                int steps = 0, target = at;
                failing.Fail = step => step.Kind != StorageStepKind.Read && steps++ == target ? Errno.EIO : Errno.None;
                Result result = inspection.Repair(salvage, salvaged.Save);
                hasStruck = steps > at;
                Assert.Equal(hasStruck, !result.Ok);
                failing.Fail = null;
            }

            foreach (SimulatedStorage image in (SimulatedStorage[])[failing.AfterKill(), failing.AfterPowerLoss(static _ => Survival.Lost)])
            {
                if (IsRefused(image.AfterKill()))
                {
                    using JournalInspection again = Look(image, Ledger.Lenient());
                    _ = Repaired(image, again, out _);
                }

                Assert.Equal(expected, LiveOn(image));
            }
        }

        Assert.True(at > 15, $"only {at} steps");
    }

    [Fact]
    public void Where_nothing_of_FastQ_is_there_is_nothing_to_look_at()
    {
        using SimulatedStorage disk = new("/sim");
        disk.MakeDirectory(Data).OrThrow();
        Assert.Null(JournalInspection.Open(Options, disk, Ledger.Lenient(), out string? refusal));
        Assert.Contains("holds no data of FastQ", refusal, StringComparison.Ordinal);
    }

    [Fact]
    public void A_missing_FORMAT_is_named_and_a_repair_makes_it_from_what_the_slots_say()
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        ulong[] all = LiveOn(disk.AfterKill());
        Guid uuid = Head<FormatFile>(disk, $"{Data}/FORMAT").Uuid;
        disk.Unlink($"{Data}/FORMAT").OrThrow();
        disk.SyncDirectory(Data).OrThrow();
        using JournalInspection inspection = Look(disk, Ledger.Lenient());
        Assert.Equal("file-missing", inspection.Refusal?.Kind);
        Assert.Contains(inspection.Damage, damage => damage.Kind == "file-missing");
        Assert.Equal(all, Repaired(disk, inspection, out int lost));
        Assert.Equal((0, uuid), (lost, Head<FormatFile>(disk, $"{Data}/FORMAT").Uuid));
    }

    [Fact]
    public void Four_KiB_that_cannot_be_read_are_named_and_cost_no_more_than_what_lies_in_them()
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        ulong[] all = LiveOn(disk.AfterKill());
        int named = 0;
        foreach (string slot in disk.List(SlotFolder).OrThrow().Select(name => $"{SlotFolder}/{name}"))
        {
            for (long bad = Format.SegmentHeaderBytes; bad < SlotBytes; bad += Format.BlockAlignment)
            {
                using SimulatedStorage failing = disk.AfterKill();
                failing.Fail = step => step.Kind == StorageStepKind.Read && step.Path == slot && step.Offset < bad + Format.BlockAlignment && bad < step.Offset + step.Bytes ? Errno.EIO : Errno.None;
                using JournalInspection inspection = Look(failing, Ledger.Lenient());
                JournalDamage damage = Assert.Single(inspection.Damage, damage => damage.Kind == "unreadable" && damage.Bytes > 0);
                Assert.Equal((bad, (long)Format.BlockAlignment), (damage.Position, damage.Bytes));
                Assert.Contains("EIO", damage.Text, StringComparison.Ordinal);
                Ledger salvaged = Ledger.Lenient();
                _ = inspection.SalvageInto(salvaged, Ledger.Judge);
                _ = salvaged.DiscardBad(inspection);
                Assert.True(all.Except(salvaged.Live).Count() <= 3, $"{bad} of {slot}: without {string.Join(", ", all.Except(salvaged.Live))}");
                named++;
            }
        }

        Assert.True(named > 10, $"only {named} places");
    }

    [Fact]
    public void The_newest_snapshot_is_salvaged_from_whatever_the_names_say()
    {
        using SimulatedStorage disk = AtRest(out int applied, out _);
        IReadOnlyList<string> names = SnapshotNames(disk);
        disk.Rename($"{SnapshotFolder}/{names[0]}", $"{SnapshotFolder}/oldest.snap").OrThrow();
        disk.Rot($"{SnapshotFolder}/oldest.snap", Format.SegmentHeaderBytes + 5, 1);
        using (JournalInspection rotten = Look(disk, Ledger.Lenient()))
        {
            Assert.Equal(("snapshot-damaged", 0ul), (Assert.Single(rotten.Damage).Kind, rotten.Damage[0].Block));
        }

        disk.Rot($"{SnapshotFolder}/oldest.snap", Format.SegmentHeaderBytes + 5, 1);
        Ledger salvaged = Ledger.Lenient();
        using JournalInspection inspection = Look(disk, Ledger.Lenient());
        Assert.Equal(0, inspection.SalvageInto(salvaged, Ledger.Judge).BlocksLost);
        Assert.Empty(inspection.Damage);
        Assert.Equal(applied, salvaged.Applied);
    }

    [Fact]
    public void A_body_that_is_rotten_costs_its_own_record_alone_and_the_record_is_shown_as_what_it_is()
    {
        using SimulatedStorage disk = new("/sim");
        using (Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes))
        {
            foreach (int bytes in (int[])[300, 300, 300])
            {
                ledger.Put(bytes);
            }

            ledger.Sync();
            ledger.Journal.SealClosing();
            ledger.Sync();
        }

        const int First = Format.SegmentHeaderBytes + BlockHeader.SizeBytes, Second = First + 320;
        disk.Rot($"{SlotFolder}/{SegmentCatalogue.FileName(1)}", Second + 100, 64);
        using JournalInspection inspection = Look(disk, Ledger.Lenient());
        List<(uint Offset, RecordVerdict Verdict)> shown = [];
        inspection.Walk(inspection.Blocks[0], Ledger.Judge, (place, _, verdict) => shown.Add((place.Offset, verdict)));
        Assert.Equal([(First, RecordVerdict.Sound), (Second, RecordVerdict.Unsound), (Second + 320, RecordVerdict.Sound)], shown);
        Assert.Equal([1ul, 3ul], Repaired(disk, inspection, out int lost));
        Assert.Equal(1, lost);
    }

    [Fact]
    public void A_block_of_another_life_in_a_slot_is_none_of_its_blocks()
    {
        using SimulatedStorage disk = new("/sim");
        uint[] slots = new uint[2];
        for (int life = 0; life < 2; life++)
        {
            using Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
            slots[life] = ledger.Journal.CurrentSlot;
            ledger.Put(1000);
            ledger.Sync();
            ledger.Put(1000);
            ledger.Sync();
        }

        string[] paths = [.. slots.Select(slot => $"{SlotFolder}/{SegmentCatalogue.FileName(slot)}")];
        byte[] older = disk.BytesOf(paths[0]);
        disk.BytesOf(paths[1]).AsSpan(Format.SegmentHeaderBytes, BlockBytes).CopyTo(older.AsSpan(4 * Format.BlockAlignment));
        disk.Put(paths[0], older);
        using JournalInspection inspection = Look(disk, Ledger.Lenient());
        Assert.Equal([1ul, 2ul], inspection.Blocks.Where(block => block.Slot == slots[0]).Select(block => block.Header.BlockNumber));
        Assert.Empty(inspection.Damage);
        Assert.Equal(Errno.ENOENT, inspection.Read(77, 0, new byte[8]).Fault.Errno);
    }

    [Fact]
    public void A_block_that_its_slot_is_too_short_for_is_named_and_costs_itself_alone()
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        ulong[] all = LiveOn(disk.AfterKill());
        InspectedBlock block;
        using (JournalInspection good = Look(disk, Ledger.Lenient()))
        {
            block = good.Blocks.Last(block => !block.IsVoid && block.Header.RecordCount > 0);
        }

        Assert.True(CutShort(disk, $"{SlotFolder}/{SegmentCatalogue.FileName(block.Slot)}", block.Position + BlockHeader.SizeBytes + 100));
        using JournalInspection inspection = Look(disk, Ledger.Lenient());
        JournalDamage damage = Assert.Single(inspection.Damage, damage => damage.Kind == "damaged-block");
        Assert.Equal((block.Slot, block.Position, block.Header.BlockNumber), (damage.Slot, damage.Position, damage.Block));
        Assert.Single(all.Except(Repaired(disk, inspection, out _)));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_snapshot_whose_header_cannot_be_read_is_named_and_the_one_before_it_salvaged(bool isCut)
    {
        using SimulatedStorage disk = AtRest(out int applied, out _);
        string newest = $"{SnapshotFolder}/{SnapshotNames(disk)[^1]}";
        if (isCut)
        {
            Assert.True(CutShort(disk, newest, SnapshotHeader.SizeBytes - 1));
        }
        else
        {
            disk.Fail = step => step.Kind == StorageStepKind.Read && step.Path == newest ? Errno.EIO : Errno.None;
        }

        Ledger salvaged = Ledger.Lenient();
        using JournalInspection inspection = Look(disk, Ledger.Lenient());
        Assert.Equal("snapshot-damaged", Assert.Single(inspection.Damage).Kind);
        Assert.Equal([newest], inspection.BadSnapshots);
        Assert.Equal(0, inspection.SalvageInto(salvaged, Ledger.Judge).BlocksLost);
        Assert.Equal(applied, salvaged.Applied);
    }

    private static JournalInspection Look(SimulatedStorage disk, Ledger state)
    {
        JournalInspection? inspection = JournalInspection.Open(Options, disk, state, out string? refusal);
        Assert.True(inspection is not null, refusal);
        return inspection;
    }

    private static bool IsRefused(SimulatedStorage disk)
    {
        using Ledger ledger = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes);
        return ledger.Refusal is not null;
    }

    private static ulong[] LiveOn(SimulatedStorage disk)
    {
        using Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        ledger.ReadAll();
        return [.. ledger.Live];
    }

    /// <summary>Repairs, starts, and shows that the new life works. Gives what lives.</summary>
    private static ulong[] Repaired(SimulatedStorage disk, JournalInspection inspection, out int lost)
    {
        Ledger salvaged = Ledger.Lenient();
        Salvage salvage = inspection.SalvageInto(salvaged, Ledger.Judge);
        lost = salvaged.DiscardBad(inspection).Count;
        inspection.Repair(salvage, salvaged.Save).OrThrow();
        disk.Stepped = null;
        ulong[] live = LiveOn(disk.AfterPowerLoss(static _ => Survival.Lost));
        Assert.Equal(salvaged.Live, live);
        using Ledger next = Ledger.Open(disk.AfterKill(), Data, SlotBytes, BlockBytes);
        next.Put(100);
        next.Sync();
        return live;
    }
}
