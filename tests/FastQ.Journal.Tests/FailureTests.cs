using FastQ.Linux;
using Xunit;

namespace FastQ.Journal;

// The machine fails a call: nothing is confirmed that is not on the disk, nothing that cannot be read is taken for an end.
public class FailureTests
{
    private const string Data = "/sim/data";
    private const string SnapshotFolder = $"{Data}/namespaces/default/snapshots";
    private const int SlotBytes = 40 * 1024, LargeSlotBytes = 64 * 1024, BlockBytes = 4 * 1024;

    [Theory]
    [InlineData(StorageStepKind.Write)]
    [InlineData(StorageStepKind.Sync)]
    public void A_failure_at_any_step_ends_the_confirms_there_for_good(StorageStepKind kind)
    {
        long last = StepsOf(Work);
        int fatal = 0;
        for (long at = FirstStepAfterOpening(); at <= last; at++)
        {
            using SimulatedStorage disk = new("/sim");
            bool hasStruck = false;
            Ledger ledger = Open(disk);
            disk.Fail = step => step.Kind == kind && step.Number == at && !hasStruck && (hasStruck = true) ? Errno.EIO : Errno.None;
            Work(ledger);
            int confirmed = ledger.Confirmed;
            if (ledger.Journal.Failure is JournalProblem problem)
            {
                fatal++;
                Assert.Contains("stopped confirming after block", problem.Text, StringComparison.Ordinal);
                Assert.Contains("EIO", problem.Text, StringComparison.Ordinal);
                ledger.Journal.RequestSync(); // The disk is well again, and still nothing more counts.
                ledger.Poll();
                Assert.Equal(confirmed, ledger.Confirmed);
            }

            ledger.Dispose();
            using Ledger found = Open(disk.AfterPowerLoss(static _ => Survival.Lost));
            Assert.True(found.Applied >= confirmed, $"{kind} {at} failed: {found.Applied} found, {confirmed} were confirmed");
            found.ReadAll();
        }

        Assert.True(fatal > 5, $"only {fatal} were fatal");
    }

    [Fact]
    public void After_a_failed_sync_the_next_start_writes_again_what_only_the_cache_has()
    {
        using SimulatedStorage disk = new("/sim");
        Ledger ledger = Open(disk);
        ledger.Put(500);
        ledger.Sync();
        disk.Fail = step => step.Kind == StorageStepKind.Sync ? Errno.EIO : Errno.None;
        ulong second = ledger.Put(500);
        ledger.Sync();
        disk.Fail = null;
        Assert.Equal(1, ledger.Confirmed);
        Assert.Contains("fdatasync", ledger.Journal.Failure!.Text, StringComparison.Ordinal);

        // A sync that succeeds now would not bring it: it must be seen to be missing on the disk.
        SimulatedStorage killed = disk.AfterKill();
        using Ledger served = Open(killed);
        Assert.Contains(second, served.Live);
        Assert.Equal(1, served.Report.BlocksRewritten);
        using Ledger found = Open(killed.AfterPowerLoss(static _ => Survival.Lost));
        Assert.Contains(second, found.Live);
        Assert.Equal(0, found.Report.BlocksRewritten);
    }

    [Fact]
    public void What_is_good_on_the_disk_is_not_written_over()
    {
        // DESIGN-REVIEW R24: synced and confirmed, but nothing on the disk says so.
        using SimulatedStorage disk = new("/sim");
        using (Ledger ledger = Open(disk))
        {
            ledger.Put(500);
            ledger.Sync();
        }

        using SimulatedStorage found = disk.AfterPowerLoss(static _ => Survival.Lost);
        List<string> written = [];
        found.Stepped = step => written.AddRange(step.Kind == StorageStepKind.Write ? [step.Path] : Array.Empty<string>());
        using Ledger next = Open(found);
        Assert.Equal((1, 1L, 0L), (next.Applied, next.Report.BlocksProven, next.Report.BlocksRewritten));
        Assert.NotEmpty(written);
        Assert.DoesNotContain(written, path => path.EndsWith(SegmentCatalogue.FileName(1), StringComparison.Ordinal));
    }

    [Fact]
    public void A_full_disk_stops_only_what_needs_a_new_slot_and_ends_when_there_is_room()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Open(disk);
        ledger.Put(500);
        ledger.Sync();
        disk.Fail = step => step.Kind == StorageStepKind.Allocate ? Errno.ENOSPC : Errno.None;
        while (ledger.TryPut(3000))
        {
            ledger.Sync();
        }

        Assert.Equal(Errno.ENOSPC, ledger.Journal.RoomFault!.Value.Errno);
        Assert.Null(ledger.Journal.Failure);
        Assert.Equal(ledger.Applied, ledger.Confirmed);
        ledger.ReadAll();

        disk.Fail = null;
        Assert.True(ledger.TryPut(3000));
        ledger.Sync();
        Assert.Null(ledger.Journal.RoomFault);
        Assert.Equal(ledger.Applied, ledger.Confirmed);
    }

    [Fact]
    public void On_a_full_disk_messages_are_refused_while_there_is_room_for_settlements_and_refusals()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Ledger.Open(disk, Data, LargeSlotBytes, BlockBytes);
        ledger.Put(100);
        for (int turn = 0; turn < 10; turn++)
        {
            ledger.Sync(); // The slots ahead are made.
        }

        disk.Fail = step => step.Kind == StorageStepKind.Allocate ? Errno.ENOSPC : Errno.None;
        List<JournalRoom> rooms = [];
        int scarce = 0;
        while (ledger.TryPut(3000))
        {
            ledger.Sync();
            ledger.Reclaim(); // Tells how much lives: by that slots may be made.
            JournalRoom room = ledger.Journal.Room;
            scarce += room == JournalRoom.Scarce ? 1 : 0;
            if (rooms.Count == 0 || rooms[^1] != room)
            {
                rooms.Add(room);
            }
        }

        Assert.Equal([JournalRoom.Plenty, JournalRoom.Scarce, JournalRoom.Spent], rooms);
        Assert.InRange(scarce, LargeSlotBytes / BlockBytes, int.MaxValue); // A whole slot of lone blocks: one is kept for this.
    }

    [Fact]
    public void As_long_as_nobody_knows_whether_there_will_be_a_next_slot_the_last_of_this_one_is_held_back()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Ledger.Open(disk, Data, LargeSlotBytes, BlockBytes);
        disk.Fail = step => step.Kind == StorageStepKind.Allocate ? Errno.ENOSPC : Errno.None;
        disk.Pick = handed => handed > 1 ? 1 : -1; // All but the first: the next slot is being made for long.
        ledger.Poll();
        while (ledger.Journal.Room == JournalRoom.Plenty)
        {
            ledger.Put(100);
            ledger.Seal();
        }

        Assert.Equal(JournalRoom.Awaited, ledger.Journal.Room);
        Assert.Null(ledger.Journal.RoomFault);
        disk.Pick = null;
        ledger.Sync();
        Assert.Equal(JournalRoom.Scarce, ledger.Journal.Room); // There is room to say so.
        disk.Fail = null;
        ledger.Sync();
        ledger.Sync();
        Assert.Equal(JournalRoom.Plenty, ledger.Journal.Room);
    }

    [Fact]
    public void Snapshots_go_on_in_the_room_kept_for_them_on_a_disk_that_never_has_any_again()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Open(disk);
        ledger.Put(500);
        Assert.Equal(["reserve.1", "reserve.2", "reserve.3"], Snapshots(disk));
        disk.Fail = IsFull;
        for (int taken = 1; taken <= 6; taken++)
        {
            ledger.Put(100);
            Assert.True(ledger.Snapshot());
            string[] files = Snapshots(disk);
            Assert.Equal(3, files.Length); // The third oldest is the next one's room.
            Assert.Equal(Math.Min(taken, 2), files.Count(name => name.EndsWith(".snap", StringComparison.Ordinal)));
        }

        // A start takes it over, and a snapshot that is cut off leaves it.
        using SimulatedStorage again = disk.AfterKill();
        using Ledger found = Open(again);
        again.Fail = IsFull;
        found.Put(100);
        Assert.True(found.Snapshot());
        again.Fail = step => step.Kind == StorageStepKind.Write && step.Path.EndsWith(".tmp", StringComparison.Ordinal) ? Errno.ENOSPC : IsFull(step);
        found.Put(100);
        Assert.False(found.Snapshot());
        again.Fail = IsFull;
        Assert.True(found.Snapshot());
        Assert.Equal(3, Snapshots(again).Length);
    }

    [Fact]
    public void Where_neither_slots_nor_snapshots_have_room_the_last_of_the_slot_is_for_settlements_alone()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Ledger.Open(disk, Data, LargeSlotBytes, BlockBytes);
        disk.Fail = IsFull;
        ledger.Journal.ReserveSnapshots(10_000_000);
        int scarce = 0;
        for (; ledger.Journal.Room == JournalRoom.Scarce; scarce++)
        {
            ledger.Put(3000);
            ledger.Sync();
        }

        Assert.Equal(JournalRoom.Spent, ledger.Journal.Room);
        Assert.InRange(scarce, 8, 14); // Of fifteen blocks.
        ledger.Drop(1);
        ledger.Sync();
        Assert.Null(ledger.Journal.Failure);
    }

    [Fact]
    public void A_snapshot_for_which_no_room_was_kept_is_given_up_on_a_full_disk()
    {
        using SimulatedStorage disk = new("/sim");
        disk.Fail = step => step.Path.Contains("/reserve.", StringComparison.Ordinal) ? Errno.ENOSPC : Errno.None;
        using Ledger ledger = Open(disk);
        ledger.Put(500);
        disk.Fail = IsFull;
        Assert.False(ledger.Snapshot());
        Assert.Empty(Snapshots(disk));
        disk.Fail = null;
        Assert.True(ledger.Snapshot());
    }

    [Fact]
    public void A_quota_that_is_used_up_is_a_full_disk()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Open(disk);
        ledger.Put(500);
        disk.Fail = step => IsFull(step) == Errno.None ? Errno.None : Errno.EDQUOT;
        Assert.True(ledger.Snapshot());
        Assert.Single(Snapshots(disk), name => name.EndsWith(".snap", StringComparison.Ordinal));
    }

    [Fact]
    public void While_the_room_for_the_next_snapshots_is_not_whole_messages_wait()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Open(disk);
        for (int i = 0; i < 3; i++)
        {
            ledger.Put(500);
            Assert.True(ledger.Snapshot());
        }

        ledger.Journal.ReserveSnapshots(1000);
        Assert.True(IsTwoAndRoomForOne(disk));
        disk.Fail = IsFull;
        ledger.Journal.ReserveSnapshots(1000);
        Assert.Equal(JournalRoom.Plenty, ledger.Journal.Room);
        ledger.Journal.ReserveSnapshots(10_000_000); // It grows with the state, where it can.
        Assert.Equal(JournalRoom.Scarce, ledger.Journal.Room);
        disk.Fail = null;
        ledger.Journal.ReserveSnapshots(10_000_000);
        Assert.Equal(JournalRoom.Plenty, ledger.Journal.Room);
    }

    private static Errno IsFull(StorageStep step) => step.Kind is StorageStepKind.Allocate or StorageStepKind.Create ? Errno.ENOSPC : Errno.None;

    private static bool IsTwoAndRoomForOne(SimulatedStorage disk) => Snapshots(disk) is [_, _, _] files && files.Count(name => name.EndsWith(".snap", StringComparison.Ordinal)) == 2 && files.Count(name => name.StartsWith("reserve.", StringComparison.Ordinal)) == 1;

    private static string[] Snapshots(SimulatedStorage disk) => [.. disk.List(SnapshotFolder).OrThrow()];

    [Fact]
    public void A_snapshot_that_finds_no_room_is_given_up_and_leaves_no_file()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Open(disk);
        ledger.Put(500);
        disk.Fail = step => step.Kind == StorageStepKind.Write && step.Path.EndsWith(".tmp", StringComparison.Ordinal) ? Errno.ENOSPC : Errno.None;
        Assert.False(ledger.Snapshot());
        disk.Fail = null;
        Assert.Equal(["reserve.1", "reserve.2", "reserve.3"], Snapshots(disk));
        Assert.Null(ledger.Journal.Failure);
        Assert.True(ledger.Snapshot());
    }

    [Fact]
    public void A_start_on_a_full_disk_is_refused_and_changes_nothing()
    {
        using SimulatedStorage disk = Worked(out int applied);
        disk.Fail = step => step.Kind == StorageStepKind.Allocate ? Errno.ENOSPC : Errno.None;
        using (Ledger refused = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes))
        {
            Assert.Equal("cannot-start", refused.Refusal!.Kind);
            Assert.Contains("ENOSPC", refused.Refusal.Text, StringComparison.Ordinal);
        }

        disk.Fail = null;
        using Ledger found = Open(disk);
        Assert.Equal(applied, found.Applied);
    }

    [Fact]
    public void A_place_that_cannot_be_read_is_never_taken_for_the_end()
    {
        int refused = 0;
        int all = ReadsOfAStart();
        for (int at = 0; at < all; at++)
        {
            using SimulatedStorage disk = Worked(out int applied);
            int reads = 0, target = at;
            disk.Fail = step => step.Kind == StorageStepKind.Read && reads++ == target ? Errno.EIO : Errno.None;
            using (Ledger once = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes))
            {
                refused += once.Refusal is null ? 0 : 1;
                Assert.True(once.Refusal is not null || once.Applied == applied, $"read {at} failed: {once.Applied} found of {applied}");
                Assert.True(once.Refusal is null || once.Refusal.Kind == "unreadable", $"read {at} failed: {once.Refusal?.Text}");
            }

            disk.Fail = null;
            using Ledger next = Open(disk);
            Assert.Equal(applied, next.Applied);
        }

        Assert.True(refused > 10, $"only {refused} of {all} reads mattered");
    }

    [Fact]
    public void A_first_start_that_fails_at_any_step_is_refused_and_the_next_one_succeeds()
    {
        int at = 0;
        for (bool hasStruck = true; hasStruck; at++)
        {
            using SimulatedStorage disk = new("/sim");
            Func<bool> struck = FailsAt(disk, at);
            using (Ledger first = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes))
            {
                hasStruck = struck();
                Assert.Equal(hasStruck ? "cannot-start" : null, first.Refusal?.Kind);
                Assert.True(!hasStruck || first.Refusal!.Text.Contains("EIO", StringComparison.Ordinal), first.Refusal?.Text);
            }

            disk.Fail = null;
            SimulatedStorage next = disk.AfterKill();
            using (Ledger served = Open(next))
            {
                served.Put(500);
                served.Sync();
            }

            using Ledger found = Open(next.AfterPowerLoss(static _ => Survival.Lost));
            Assert.Equal(1, found.Applied);
        }

        Assert.True(at > 15, $"only {at} steps");
    }

    [Fact]
    public void When_only_a_later_slot_of_a_first_life_had_a_block_when_the_power_failed_the_next_start_begins_anew()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Open(disk);
        uint first = ledger.Journal.CurrentSlot;
        while (ledger.Journal.CurrentSlot == first || ledger.Journal.Statistics.WrittenBlock < 8)
        {
            Assert.True(ledger.TryPut(3000));
            ledger.Seal();
            ledger.Poll();
        }

        string later = $"{ledger.Journal.CurrentSlot:D10}.slot";
        bool hasBlock = false;
        SimulatedStorage image = disk.AfterPowerLoss(what =>
        {
            bool isKept = what.Path.EndsWith(later, StringComparison.Ordinal);
            hasBlock |= isKept && what.Kind == StorageStepKind.Write;
            return isKept ? Survival.Kept : Survival.Lost;
        });
        Assert.True(hasBlock && ledger.Confirmed == 0, $"{ledger.Confirmed} confirmed");
        using Ledger found = Open(image);
        Assert.Equal(0, found.Applied);
        found.Put(100);
        found.Sync();
        Assert.Equal(1, found.Confirmed);
    }

    [Fact]
    public void A_parent_directory_that_may_not_be_read_was_made_by_somebody_else_and_hinders_nobody()
    {
        using SimulatedStorage disk = new("/sim");
        disk.Fail = step => step is { Kind: StorageStepKind.SyncDirectory, Path: "/sim" } ? Errno.EACCES : Errno.None;
        using Ledger ledger = Open(disk);
        ledger.Put(500);
        ledger.Sync();
        Assert.Equal(1, ledger.Confirmed);
    }

    [Fact]
    public void A_snapshot_that_fails_at_any_step_is_given_up_and_costs_nothing_else()
    {
        int at = 0;
        for (bool hasStruck = true; hasStruck; at++)
        {
            using SimulatedStorage disk = new("/sim");
            using Ledger ledger = Open(disk);
            ledger.Put(500);
            ledger.Snapshot();
            ledger.Put(500);
            Func<bool> struck = FailsAt(disk, at, "/snapshots");
            ledger.Snapshot();
            hasStruck = struck();
            disk.Fail = null;
            Assert.Null(ledger.Journal.Failure);
            Assert.DoesNotContain(disk.List(SnapshotFolder).OrThrow(), name => name.EndsWith(".tmp", StringComparison.Ordinal));
            for (int i = 0; i < 2; i++)
            {
                ledger.Put(500);
                Assert.True(ledger.Snapshot());
            }

            Assert.Equal(4, ledger.Confirmed);
            using SimulatedStorage killed = disk.AfterKill();
            using Ledger found = Open(killed);
            Assert.Equal(4, found.Applied);
            Assert.True(IsTwoAndRoomForOne(killed), $"step {at} failed: {string.Join(", ", killed.List(SnapshotFolder).OrThrow())} stay");
        }

        Assert.True(at > 5, $"only {at} steps");
    }

    [Fact]
    public void Wherever_a_crash_cuts_a_snapshot_off_the_next_start_keeps_two_and_no_file_more()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Open(disk);
        List<SimulatedStorage> images = [];
        for (int i = 0; i < 3; i++)
        {
            ledger.Put(500);
            disk.Stepped = i < 2 ? null : _ => images.AddRange([disk.AfterKill(), disk.AfterPowerLoss(static _ => Survival.Kept), disk.AfterPowerLoss(static _ => Survival.Lost)]);
            ledger.Snapshot();
        }

        Assert.True(images.Count > 15, $"only {images.Count} images");
        foreach (SimulatedStorage image in images)
        {
            using Ledger found = Open(image);
            Assert.True(found.Applied >= 2);
            Assert.True(IsTwoAndRoomForOne(image), string.Join(", ", image.List(SnapshotFolder).OrThrow()));
            image.Dispose();
        }
    }

    [Fact]
    public void Where_the_disk_cannot_be_read_around_its_cache_the_whole_tail_is_written_again()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Open(disk);
        for (int i = 0; i < 3; i++)
        {
            ledger.Put(500);
            ledger.Seal();
        }

        using SimulatedStorage killed = disk.AfterKill();
        StorageStep last = default;
        bool isProving = false;
        List<long> written = [];
        killed.Fail = step =>
        {
            // The proof begins with a sync; then each block is read through the cache, and again around it.
            bool isSame = (step.Kind, step.Path, step.Offset, step.Bytes) == (last.Kind, last.Path, last.Offset, last.Bytes);
            isProving |= step.Kind == StorageStepKind.Sync;
            last = step;
            if (step.Kind == StorageStepKind.Write && step.Path.EndsWith("/0000000001.slot", StringComparison.Ordinal))
            {
                written.Add(step.Offset);
            }

            return isProving && isSame && step.Kind == StorageStepKind.Read ? Errno.EINVAL : Errno.None;
        };
        using Ledger served = Open(killed);
        Assert.Equal((3, 3, 0), (served.Applied, served.Report.BlocksProven, served.Report.BlocksRewritten));
        Assert.Equal(3, written.Count);
        using Ledger found = Open(killed.AfterPowerLoss(static _ => Survival.Lost));
        Assert.Equal(3, found.Applied);
    }

    [Theory]
    [InlineData(StorageStepKind.Write)]
    [InlineData(StorageStepKind.Sync)]
    public void A_tail_that_cannot_be_proven_on_the_disk_is_not_served(StorageStepKind kind)
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Open(disk);
        ledger.Put(500);
        ledger.Seal();
        disk.Fail = step => step.Kind == StorageStepKind.Sync ? Errno.EIO : Errno.None;
        ledger.Sync();
        using SimulatedStorage killed = disk.AfterKill();
        killed.Fail = step => step.Kind == kind && step.Path.EndsWith("/0000000001.slot", StringComparison.Ordinal) ? Errno.EIO : Errno.None;
        using (Ledger refused = Ledger.TryOpen(killed, Data, SlotBytes, BlockBytes))
        {
            Assert.Equal(("unreadable", 1u), (refused.Refusal?.Kind, refused.Refusal?.Slot ?? 0));
        }

        killed.Fail = null;
        using Ledger next = Open(killed);
        Assert.Equal(1, next.Applied);
    }

    [Fact]
    public void No_snapshot_is_due_after_a_failure()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Open(disk);
        while (!ledger.Journal.IsSnapshotDue(0))
        {
            ledger.Put(3000);
            ledger.Sync();
        }

        disk.Fail = step => step.Kind == StorageStepKind.Write ? Errno.EIO : Errno.None;
        ledger.Journal.SealClosing();
        ledger.Sync();
        Assert.NotNull(ledger.Journal.Failure);
        Assert.False(ledger.Journal.IsSnapshotDue(0));
    }

    [Fact]
    public void While_a_snapshot_is_in_the_making_no_other_is_due_and_no_room_is_made_for_one()
    {
        using SimulatedStorage disk = new("/sim");
        const int SmallSlot = 24 * 1024;
        using Ledger ledger = Ledger.Open(disk, Data, SmallSlot, BlockBytes);
        ledger.Put(100);
        for (int i = 0; ledger.Journal.InfoOf(2) is not { SegmentNumber: > 0 }; i++)
        {
            Assert.True(i < 100, "there is no slot to go on to");
            ledger.Sync();
        }

        disk.Pick = static _ => -1; // The disk does nothing for a while.
        Assert.True(ledger.Journal.TakeSnapshot(ledger.Save).Ok);
        for (int written = 0; written < SmallSlot; written += BlockBytes)
        {
            ledger.Put(3000);
            ledger.Seal();
        }

        Assert.True(ledger.Journal.SnapshotRunning);
        Assert.False(ledger.Journal.IsSnapshotDue(0));
        long steps = disk.Steps;
        ledger.Journal.ReserveSnapshots(10_000_000); // What it will leave of the room is not known yet.
        Assert.Equal(steps, disk.Steps);
        disk.Pick = null;
        ledger.Sync();
        Assert.False(ledger.Journal.SnapshotRunning);
        Assert.True(ledger.Journal.IsSnapshotDue(0));
    }

    [Fact]
    public void A_block_that_was_opened_in_vain_becomes_the_closing_one()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Open(disk);
        ledger.Put(500);
        ledger.Sync();
        Assert.True(ledger.Journal.TryReserve(16, out _, out _)); // Nothing of it is committed.
        Assert.True(ledger.Journal.SealClosing());
        ledger.Sync();
        Assert.Equal((true, 2ul), (ledger.Journal.AtRest, ledger.Journal.DurableBlock));
        using Ledger found = Open(disk.AfterPowerLoss(static _ => Survival.Lost));
        Assert.Equal((1, 2ul), (found.Applied, found.Report.LastBlock));
    }

    [Fact]
    public void A_closing_block_waits_until_a_block_can_be_opened()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Open(disk);
        disk.Pick = static _ => -1;
        while (ledger.Journal.TryReserve(16, out _, out _))
        {
            ledger.Put(3000);
            ledger.Seal();
        }

        Assert.False(ledger.Journal.SealClosing());
        Assert.False(ledger.Journal.HasClosing);
        disk.Pick = null;
        ledger.Sync();
        Assert.True(ledger.Journal.SealClosing());
        ledger.Sync();
        Assert.True(ledger.Journal.AtRest);
    }

    [Fact]
    public void A_slot_that_cannot_be_read_is_never_taken_for_what_a_first_start_left()
    {
        using SimulatedStorage disk = new("/sim");
        disk.Fail = step => step.Kind != StorageStepKind.Read && step.Path.Contains("FORMAT", StringComparison.Ordinal) ? Errno.EIO : Errno.None;
        using (Ledger cutOff = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes))
        {
            Assert.Equal("cannot-start", cutOff.Refusal?.Kind);
        }

        long steps = disk.Steps;
        disk.Fail = step => step.Kind == StorageStepKind.Read && step.Path.EndsWith(".slot", StringComparison.Ordinal) ? Errno.EIO : Errno.None;
        using (Ledger refused = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes))
        {
            Assert.Equal(("file-missing", steps), (refused.Refusal?.Kind, disk.Steps)); // Above all nothing was removed.
        }

        disk.Fail = null;
        using Ledger served = Open(disk);
        Assert.Equal(0, served.Applied);
    }

    private static Ledger Open(SimulatedStorage disk) => Ledger.Open(disk, Data, SlotBytes, BlockBytes);

    /// <summary>Lets one step fail: of those that change something, the one that comes after so many others. Gives whether it has come to that.</summary>
    /// <summary>The reserve's own steps are left out: a start goes on without it.</summary>
    private static Func<bool> FailsAt(SimulatedStorage disk, int at, string among = "")
    {
        int steps = 0;
        disk.Fail = step => step.Kind != StorageStepKind.Read && !step.Path.Contains("/reserve.", StringComparison.Ordinal) && step.Path.Contains(among, StringComparison.Ordinal) && steps++ == at ? Errno.EIO : Errno.None;
        return () => steps > at;
    }

    private static void Work(Ledger ledger)
    {
        ulong first = ledger.TryPut(700) ? 1ul : 0;
        for (int i = 0; i < 24 && ledger.Journal.Failure is null; i++)
        {
            _ = ledger.TryPut(2000);
            ledger.Sync();
            if (i % 8 == 7 && ledger.Journal.Failure is null)
            {
                ledger.Snapshot();
            }
        }

        if (first != 0 && ledger.Journal.Failure is null)
        {
            ledger.Drop(first);
            ledger.Sync();
        }
    }

    /// <summary>A disk after work and a kill: all of it durable, some of it after the newest snapshot.</summary>
    private static SimulatedStorage Worked(out int applied)
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Open(disk);
        Work(ledger);
        ledger.Put(400);
        ledger.Sync();
        applied = ledger.Applied;
        return disk.AfterKill();
    }

    private static int ReadsOfAStart()
    {
        int reads = 0;
        using SimulatedStorage disk = Worked(out _);
        disk.Fail = step =>
        {
            reads += step.Kind == StorageStepKind.Read ? 1 : 0;
            return Errno.None;
        };
        using Ledger ledger = Open(disk);
        return reads;
    }

    private static long FirstStepAfterOpening() => StepsOf(static _ => { }) + 1;

    private static long StepsOf(Action<Ledger> work)
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Open(disk);
        work(ledger);
        return disk.Steps;
    }
}
