using FastQ.Linux;
using Xunit;

namespace FastQ.Journal;

// Rot: any byte of any file turned over. What was confirmed is found whole, or the start is refused with its place; never less, never other bytes.
public class DamageTests
{
    private const string Data = "/sim/data", Slots = $"{Data}/namespaces/default/slots", Snapshots = $"{Data}/namespaces/default/snapshots";
    private const int SlotBytes = 24 * 1024, BlockBytes = 4 * 1024;

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
        string newest = $"{Snapshots}/{disk.List(Snapshots).OrThrow()[^1]}";
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
        foreach (string name in disk.List(Snapshots).OrThrow())
        {
            if (rotten)
            {
                disk.Rot($"{Snapshots}/{name}", 0, 1);
            }
            else
            {
                disk.Unlink($"{Snapshots}/{name}").OrThrow();
            }
        }

        using Ledger refused = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes);
        Assert.Equal(rotten ? "corruption" : "file-missing", refused.Refusal?.Kind);
    }

    [Fact]
    public void A_start_that_is_refused_leaves_even_unfinished_snapshots_where_they_are()
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        disk.Open($"{Snapshots}/00000000000000000099.tmp", create: true).OrThrow().Dispose();
        disk.Rot($"{Data}/FORMAT", 0, 1);
        using (Ledger refused = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes))
        {
            Assert.NotNull(refused.Refusal);
        }

        Assert.Contains(disk.List(Snapshots).OrThrow(), name => name.EndsWith(".tmp", StringComparison.Ordinal));
        disk.Rot($"{Data}/FORMAT", 0, 1);
        using Ledger found = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        Assert.DoesNotContain(disk.List(Snapshots).OrThrow(), name => name.EndsWith(".tmp", StringComparison.Ordinal));
    }

    [Fact]
    public void A_missing_slot_is_never_an_end()
    {
        using SimulatedStorage disk = AtRest(out int applied, out _);
        foreach (string name in disk.List(Slots).OrThrow())
        {
            using SimulatedStorage lacking = disk.AfterKill();
            lacking.Unlink($"{Slots}/{name}").OrThrow();
            using Ledger found = Ledger.TryOpen(lacking, Data, SlotBytes, BlockBytes);
            Assert.True(found.Refusal is not null || found.Applied == applied, $"without {name}: {found.Applied} of {applied} found, nothing said");
        }
    }

    [Fact]
    public void A_missing_FORMAT_beside_data_is_not_a_first_start()
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        disk.Unlink($"{Data}/FORMAT").OrThrow();
        using Ledger refused = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes);
        Assert.Equal("file-missing", refused.Refusal?.Kind);
    }

    [Fact]
    public void A_slot_of_another_namespace_is_refused_and_not_touched()
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        using (IStoredFile slot = disk.Open($"{Slots}/0000000099.slot", create: true).OrThrow())
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
        SlotInfo oldest = ledger.Journal.AllSlots.First(slot => !slot.IsCurrent && slot.FirstBlock != 0);
        disk.Rot($"{Slots}/{SegmentCatalogue.FileName(oldest.Id)}", Format.SegmentHeaderBytes + BlockBytes + 200, 1);
        using SegmentScan scan = ledger.Journal.StartScan(oldest.Id)!;
        int blocks = 0;
        while (scan.TryNext(out _, out _))
        {
            blocks++;
        }

        Assert.Equal((1, true), (blocks, scan.IsDamaged));
    }

    /// <summary>A disk after two lives and a stop: recycled slots, two snapshots, blocks after them, and a closing block.</summary>
    private static SimulatedStorage AtRest(out int applied, out ulong digest)
    {
        using SimulatedStorage disk = new("/sim");
        for (int life = 1; life <= 2; life++)
        {
            using Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
            for (int i = 0; i < 12; i++)
            {
                ulong id = ledger.Put(1000);
                ledger.Sync();
                if (i < 9)
                {
                    ledger.Drop(id);
                }

                if (i % 5 == 4)
                {
                    ledger.Snapshot();
                    ledger.Reclaim();
                }
            }

            ledger.Sync();
            Assert.True(ledger.Journal.SealClosing());
            ledger.Sync();
        }

        using Ledger last = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        (applied, digest) = (last.Applied, last.Digest);
        return disk.AfterKill();
    }

    private static IEnumerable<string> FilesOf(SimulatedStorage disk) =>
        disk.List(Slots).OrThrow().Select(name => $"{Slots}/{name}").Concat(disk.List(Snapshots).OrThrow().Select(name => $"{Snapshots}/{name}")).Append($"{Data}/FORMAT");

    /// <summary>Every byte that is not zero, and some of the zeroes.</summary>
    private static List<long> PlacesOf(SimulatedStorage disk, string path)
    {
        using IStoredFile file = disk.Open(path, create: false).OrThrow();
        byte[] bytes = new byte[file.Length().OrThrow()];
        file.ReadAt(bytes, 0).OrThrow();
        return [.. Enumerable.Range(0, bytes.Length).Where(at => at % 4096 < 128 || (bytes[at] != 0 ? at % 7 == 0 : at % 61 == 0)).Select(at => (long)at)];
    }

    /// <summary>The first block after the newest snapshot that is not the last of all.</summary>
    private static (string Path, long At, ulong Block, uint Slot) AfterTheSnapshot(SimulatedStorage disk)
    {
        ulong newest = ulong.Parse(disk.List(Snapshots).OrThrow()[^1].AsSpan(0, 20), System.Globalization.CultureInfo.InvariantCulture);
        byte[] head = new byte[BlockHeader.SizeBytes];
        foreach (string name in disk.List(Slots).OrThrow())
        {
            using IStoredFile file = disk.Open($"{Slots}/{name}", create: false).OrThrow();
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
