using FastQ.Linux;
using Xunit;
using static FastQ.Journal.RestingDisk;

namespace FastQ.Journal;

// Rot: any byte of any file turned over. What was confirmed is found whole, or the start is refused with its place; never less, never other bytes.
public class DamageTests
{
    [Fact]
    public void Any_byte_turned_over_is_harmless_or_reported()
    {
        using SimulatedStorage disk = AtRest(out int applied, out ulong digest);
        int harmless = 0;
        Dictionary<string, int> refused = [];
        foreach (string path in FilesOf(disk))
        {
            foreach (long at in PlacesOf(disk, path))
            {
                using SimulatedStorage rotten = disk.AfterKill();
                rotten.Rot(path, at, (byte)(1 << (int)(at % 8)));
                using Ledger found = Ledger.TryOpen(rotten, Data, SlotBytes, BlockBytes);
                if (found.Refusal is JournalProblem problem)
                {
                    refused[problem.Kind] = refused.GetValueOrDefault(problem.Kind) + 1;
                    Assert.False(string.IsNullOrEmpty(problem.Text));
                    continue;
                }

                harmless++;
                Assert.True(found.Applied == applied && found.Digest == digest, $"byte {at} of {path}: {found.Applied} of {applied} found ({found.Report.Verdict}), nothing said");
            }
        }

        Assert.True(harmless > 100 && refused.GetValueOrDefault("corruption") > 100, $"{harmless} harmless, refused: {string.Join(", ", refused)}");
        Assert.Equal(["corruption", "segment-header-rot"], refused.Keys.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void A_refusal_names_the_slot_the_position_and_the_block()
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        (string path, long at, ulong block, uint slot) = AfterTheSnapshot(disk);
        disk.Rot(path, at + BlockHeader.SizeBytes + 20, 1);
        using Ledger refused = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes);
        Assert.Equal((slot, at, block), (refused.Refusal!.Slot, refused.Refusal.Position, refused.Refusal.Block));
        Assert.Contains("fastq journal repair", refused.Refusal.Text, StringComparison.Ordinal);
    }

    [Fact]
    public void A_start_that_is_refused_changes_no_byte()
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        (string path, long at, _, _) = AfterTheSnapshot(disk);
        disk.Rot(path, at + BlockHeader.SizeBytes + 20, 1);
        long steps = disk.Steps;
        using Ledger refused = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes);
        Assert.NotNull(refused.Refusal);
        Assert.Equal(steps, disk.Steps);
    }

    [Fact]
    public void A_rotten_snapshot_gives_way_to_the_one_before_it_and_the_report_says_so()
    {
        using SimulatedStorage disk = AtRest(out int applied, out _);
        string newest = $"{SnapshotFolder}/{disk.List(SnapshotFolder).OrThrow()[^1]}";
        disk.Rot(newest, Format.SegmentHeaderBytes + 5, 1);
        using Ledger found = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        Assert.Equal(applied, found.Applied);
        Assert.Equal(1, found.Report.SnapshotsRejected);
        Assert.True(found.Report.SnapshotBlock > 0);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Without_a_good_snapshot_and_the_segments_before_it_the_start_is_refused(bool rotten)
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        foreach (string name in disk.List(SnapshotFolder).OrThrow())
        {
            if (rotten)
            {
                disk.Rot($"{SnapshotFolder}/{name}", 0, 1);
            }
            else
            {
                disk.Unlink($"{SnapshotFolder}/{name}").OrThrow();
            }
        }

        using Ledger refused = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes);
        Assert.Equal(rotten ? "corruption" : "file-missing", refused.Refusal?.Kind);
    }

    [Fact]
    public void A_start_that_is_refused_leaves_even_unfinished_snapshots_where_they_are()
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        disk.Open($"{SnapshotFolder}/00000000000000000099.tmp", create: true).OrThrow().Dispose();
        disk.Rot($"{Data}/FORMAT", 0, 1);
        using (Ledger refused = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes))
        {
            Assert.NotNull(refused.Refusal);
        }

        Assert.Contains(disk.List(SnapshotFolder).OrThrow(), name => name.EndsWith(".tmp", StringComparison.Ordinal));
        disk.Rot($"{Data}/FORMAT", 0, 1);
        using Ledger found = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        Assert.DoesNotContain(disk.List(SnapshotFolder).OrThrow(), name => name.EndsWith(".tmp", StringComparison.Ordinal));
    }

    [Fact]
    public void A_missing_slot_is_never_an_end()
    {
        using SimulatedStorage disk = AtRest(out int applied, out _);
        foreach (string name in disk.List(SlotFolder).OrThrow())
        {
            using SimulatedStorage lacking = disk.AfterKill();
            lacking.Unlink($"{SlotFolder}/{name}").OrThrow();
            using Ledger found = Ledger.TryOpen(lacking, Data, SlotBytes, BlockBytes);
            Assert.True(found.Refusal is not null || found.Applied == applied, $"without {name}: {found.Applied} of {applied} found, nothing said");
            if (found.Refusal is null)
            {
                found.ReadAll();
            }
        }
    }

    [Fact]
    public void A_missing_FORMAT_beside_data_is_not_a_first_start()
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        disk.Unlink($"{Data}/FORMAT").OrThrow();
        long steps = disk.Steps;
        using Ledger refused = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes);
        Assert.Equal(("file-missing", steps), (refused.Refusal?.Kind, disk.Steps)); // Above all nothing was removed.
    }

    [Fact]
    public void A_slot_of_another_namespace_is_refused_and_not_touched()
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        using (IStoredFile slot = disk.Open($"{SlotFolder}/0000000099.slot", create: true).OrThrow())
        {
            SegmentHeader header = new() { Magic = Format.SegmentMagic, Version = Format.Version, Slot = 99, Uuid = Guid.Empty, SegmentNumber = 1 };
            header.SetHash();
            slot.WriteAt(System.Runtime.InteropServices.MemoryMarshal.AsBytes(new ReadOnlySpan<SegmentHeader>(in header)), 0).OrThrow();
        }

        using Ledger refused = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes);
        Assert.Equal(("not-ours", 99u), (refused.Refusal!.Kind, refused.Refusal.Slot));
    }

    [Fact]
    public void Compaction_meets_rot_before_it_copies_a_byte_of_it()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        for (int i = 0; i < 20; i++)
        {
            ledger.Put(1500);
        }

        ledger.Sync();
        SlotInfo oldest = ledger.Journal.FullSlot(0);
        disk.Rot($"{SlotFolder}/{SegmentCatalogue.FileName(oldest.Id)}", Format.SegmentHeaderBytes + BlockBytes + 200, 1);
        using SegmentScan scan = ledger.Journal.StartScan(oldest.Id)!;
        int blocks = 0;
        while (scan.TryNext(out _, out _))
        {
            blocks++;
        }

        Assert.Equal((1, true), (blocks, scan.IsDamaged));
    }

    /// <summary>The first block after the newest snapshot that is not the last of all.</summary>
    private static (string Path, long At, ulong Block, uint Slot) AfterTheSnapshot(SimulatedStorage disk)
    {
        ulong newest = ulong.Parse(disk.List(SnapshotFolder).OrThrow()[^1].AsSpan(0, 20), System.Globalization.CultureInfo.InvariantCulture);
        byte[] head = new byte[BlockHeader.SizeBytes];
        foreach (string name in disk.List(SlotFolder).OrThrow())
        {
            using IStoredFile file = disk.Open($"{SlotFolder}/{name}", create: false).OrThrow();
            for (long at = Format.SegmentHeaderBytes; at < SlotBytes; at += Format.BlockAlignment)
            {
                file.ReadAt(head, at).OrThrow();
                if (BlockHeader.TryRead(head, out BlockHeader header) && header.BlockNumber == newest + 1)
                {
                    return (file.Path, at, header.BlockNumber, uint.Parse(name.AsSpan(0, 10), System.Globalization.CultureInfo.InvariantCulture));
                }
            }
        }

        throw new InvalidOperationException("No block after the snapshot.");
    }
}
