using System.Buffers;
using System.Runtime.InteropServices;
using FastQ.Linux;
using FastQ.Protocol;
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
    public void A_sector_that_reads_wrong_once_never_cuts_what_was_confirmed()
    {
        using SimulatedStorage disk = AtRest(out int applied, out ulong digest);
        int found = 0;
        for (int wrong = 1; wrong <= 200; wrong++)
        {
            using SimulatedStorage once = disk.AfterKill();
            int left = wrong;
            once.Misread = (_, bytes) =>
            {
                if (bytes.Length > 0 && --left == 0)
                {
                    bytes[^1] ^= 1;
                    bytes[0] ^= 1;
                }
            };
            using Ledger ledger = Ledger.TryOpen(once, Data, SlotBytes, BlockBytes);
            Assert.True(ledger.Refusal is not null || (ledger.Applied == applied && ledger.Digest == digest), $"read {wrong}: {ledger.Applied} of {applied} found, nothing said");
            found += ledger.Refusal is null ? 1 : 0;
        }

        Assert.True(found > 20, $"{found} found");
    }

    [Fact]
    public void A_snapshot_vouches_for_its_blocks_even_when_it_does_not_read()
    {
        using SimulatedStorage disk = new("/sim");
        using (Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes))
        {
            ledger.Put(1000);
            ledger.Sync();
            ledger.Put(1000);
            ledger.Sync(); // Nothing later says that this block is durable.
        }

        string slot = $"{SlotFolder}/{SegmentCatalogue.FileName(1)}";
        disk.Rot(slot, 2 * Format.BlockAlignment + BlockHeader.SizeBytes + 30, 1);
        using (Ledger cut = Ledger.TryOpen(disk.AfterKill(), Data, SlotBytes, BlockBytes))
        {
            Assert.Null(cut.Refusal); // The one case that cannot be told.
        }

        disk.Put($"{SnapshotFolder}/{Snapshots.FileName(2)}", new byte[8192]);
        using Ledger refused = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes);
        Assert.Equal(("corruption", 2ul), (refused.Refusal?.Kind, refused.Refusal?.Block));
    }

    [Fact]
    public void A_life_whose_first_segment_is_gone_never_looks_like_one_that_wrote_nothing()
    {
        using SimulatedStorage disk = new("/sim");
        Ledger.Open(disk, Data, SlotBytes, BlockBytes).Dispose();
        using (Ledger second = Ledger.Open(disk, Data, SlotBytes, BlockBytes))
        {
            second.Put(1000);
            second.Sync();
        }

        foreach (string name in disk.List(SlotFolder).Value.Where(name => !name.EndsWith(SegmentCatalogue.FileName(1), StringComparison.Ordinal)).ToArray())
        {
            byte[] bytes = disk.BytesOf($"{SlotFolder}/{name}");
            _ = SegmentHeader.Judge(bytes, System.Runtime.InteropServices.MemoryMarshal.Read<SegmentHeader>(bytes).Uuid, out SegmentHeader header);
            if (header is { FirstOfLife: 1, Epoch: 2 })
            {
                // The spare of that life stays, and speaks of it.
                SegmentHeader spare = header with { Slot = 99, SegmentNumber = 99, FirstOfLife = 0, ParentBlock = 0, ParentHash = 0 };
                spare.SetHash();
                byte[] empty = new byte[SlotBytes];
                System.Runtime.InteropServices.MemoryMarshal.Write(empty, spare);
                disk.Put($"{SlotFolder}/{name}", null);
                disk.Put($"{SlotFolder}/{SegmentCatalogue.FileName(99)}", empty);
            }
        }

        using Ledger refused = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes);
        Assert.Equal("file-missing", refused.Refusal?.Kind);
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
        string newest = $"{SnapshotFolder}/{SnapshotNames(disk)[^1]}";
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
        foreach (string name in SnapshotNames(disk))
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
    public void When_all_snapshots_have_rotten_pages_and_the_segments_before_them_are_gone_the_start_is_refused()
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        IReadOnlyList<string> names = SnapshotNames(disk);
        foreach (string name in names)
        {
            disk.Rot($"{SnapshotFolder}/{name}", Format.SegmentHeaderBytes + 5, 1);
        }

        using Ledger refused = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes);
        Assert.Equal("corruption", refused.Refusal?.Kind);
        Assert.Contains($"All {names.Count} snapshots", refused.Refusal!.Text, StringComparison.Ordinal);
    }

    [Fact]
    public void A_slot_made_ready_for_its_next_use_that_still_holds_block_1_is_not_where_the_chain_begins()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        for (int i = 0; ledger.Journal.InfoOf(1) is not { SegmentNumber: > 1, FirstBlock: 0 }; i++)
        {
            Assert.True(i < 500, "the first slot is not used again");
            ledger.Drop(ledger.Put(3000));
            ledger.Sync();
            if (i % 5 == 4)
            {
                ledger.Snapshot();
                ledger.Reclaim();
            }
        }

        foreach (string name in SnapshotNames(disk))
        {
            disk.Put($"{SnapshotFolder}/{name}", null);
        }

        using Ledger refused = Ledger.TryOpen(disk.AfterKill(), Data, SlotBytes, BlockBytes);
        Assert.Equal("file-missing", refused.Refusal?.Kind);
    }

    [Theory]
    [InlineData(8)]
    [InlineData(2 * Format.SnapshotPageBytes)]
    public void A_snapshot_that_goes_on_after_the_state_is_not_believed(int bytesMore)
    {
        using SimulatedStorage disk = new("/sim");
        using (Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes))
        {
            ledger.Put(500);
            Assert.True(ledger.Snapshot());
            ledger.Put(500);
            ledger.Seal();
            ledger.Journal.TakeSnapshot(to =>
            {
                ledger.Save(to);
                to.Write(new byte[bytesMore]);
            }).OrThrow();
            ledger.Put(500);
            ledger.Sync();
        }

        using Ledger found = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        Assert.Equal((3, 1, 1ul), (found.Applied, found.Report.SnapshotsRejected, found.Report.SnapshotBlock));
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
            slot.WriteAt(MemoryMarshal.AsBytes(new ReadOnlySpan<SegmentHeader>(in header)), 0).OrThrow();
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

    [Fact]
    public void A_file_that_was_cut_short_anywhere_is_harmless_or_reported()
    {
        using SimulatedStorage disk = AtRest(out int applied, out ulong digest);
        int harmless = 0, refused = 0;
        foreach (string path in FilesOf(disk))
        {
            foreach (int length in (int[])[0, 1, 30, 100, 4096, 4096 + 30, 4096 + 300, 2 * 4096, 2 * 4096 + 300, 3 * 4096 + 30])
            {
                using SimulatedStorage cut = disk.AfterKill();
                if (!CutShort(cut, path, length))
                {
                    continue;
                }

                using Ledger found = Ledger.TryOpen(cut, Data, SlotBytes, BlockBytes);
                Assert.True(found.Refusal is not null || (found.Applied == applied && found.Digest == digest), $"{path} cut to {length}: {found.Applied} of {applied} found ({found.Report.Verdict}), nothing said");
                Assert.True(found.Refusal is null or { Kind: "corruption" or "segment-header-rot" or "unreadable" }, $"{path} cut to {length}: {found.Refusal?.Kind}");
                (harmless, refused) = found.Refusal is null ? (harmless + 1, refused) : (harmless, refused + 1);
            }
        }

        Assert.True(harmless > 10 && refused > 10, $"{harmless} harmless, {refused} refused");
    }

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(4096)]
    public void Bytes_behind_the_end_of_a_slot_are_nobodys(int more)
    {
        using SimulatedStorage disk = AtRest(out int applied, out ulong digest); // CASES B82
        foreach (string path in FilesOf(disk).Where(path => path.EndsWith(".slot", StringComparison.Ordinal)))
        {
            foreach (bool isZero in (bool[])[true, false])
            {
                using SimulatedStorage longer = disk.AfterKill();
                byte[] tail = new byte[more];
                if (!isZero)
                {
                    new Random(more).NextBytes(tail);
                }

                longer.Put(path, [.. longer.BytesOf(path), .. tail]);
                using Ledger found = Ledger.Open(longer, Data, SlotBytes, BlockBytes);
                Assert.Equal((applied, digest), (found.Applied, found.Digest));
                found.ReadAll();
            }
        }
    }

    [Fact]
    public void An_empty_slot_file_hinders_no_start()
    {
        using SimulatedStorage disk = AtRest(out int applied, out ulong digest); // CASES B82
        disk.Put($"{SlotFolder}/{SegmentCatalogue.FileName(99)}", []);
        using Ledger found = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        Assert.Equal((applied, digest), (found.Applied, found.Digest));
        found.ReadAll();
    }

    [Fact]
    public void Files_that_are_none_of_ours_hinder_nobody_and_stay()
    {
        using SimulatedStorage disk = AtRest(out int applied, out _);
        string[] others = [$"{SlotFolder}/notes.txt", $"{SlotFolder}/x.slot", $"{SlotFolder}/0000000000.slot", $"{SlotFolder}/99999999999.slot", $"{SnapshotFolder}/notes.txt"];
        foreach (string other in others)
        {
            disk.Open(other, create: true).OrThrow().Dispose();
        }

        using Ledger found = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        Assert.Equal(applied, found.Applied);
        Assert.All(others, other => disk.Open(other, create: false).OrThrow().Dispose());
    }

    public enum Whose
    {
        NewerFormat,
        NewerSegment,
        NewerSnapshot,
        ForeignSnapshot,
    }

    [Theory]
    [InlineData(Whose.NewerFormat, "newer fastq")]
    [InlineData(Whose.NewerSegment, "newer fastq")]
    [InlineData(Whose.NewerSnapshot, "newer format")]
    [InlineData(Whose.ForeignSnapshot, "another namespace")]
    public void What_a_newer_version_or_another_namespace_wrote_is_refused_by_name_and_not_touched(Whose whose, string said)
    {
        using SimulatedStorage disk = AtRest(out _, out _);
        string slot = $"{SlotFolder}/{disk.List(SlotFolder).OrThrow()[^1]}", snapshot = $"{SnapshotFolder}/{SnapshotNames(disk)[^1]}";
        switch (whose)
        {
            case Whose.NewerFormat:
                FormatFile format = Head<FormatFile>(disk, $"{Data}/FORMAT");
                format.Version++;
                format.SetHash();
                SetHead(disk, $"{Data}/FORMAT", format);
                break;
            case Whose.NewerSegment:
                SegmentHeader segment = Head<SegmentHeader>(disk, slot);
                segment.Version++;
                segment.SetHash();
                SetHead(disk, slot, segment);
                break;
            default:
                SnapshotHeader header = Head<SnapshotHeader>(disk, snapshot);
                header.Version += whose == Whose.NewerSnapshot ? 1u : 0;
                header.Uuid = whose == Whose.ForeignSnapshot ? Guid.Empty : header.Uuid;
                header.SetHash();
                SetHead(disk, snapshot, header);
                break;
        }

        long steps = disk.Steps;
        using (Ledger refused = Ledger.TryOpen(disk, Data, SlotBytes, BlockBytes))
        {
            Assert.Equal("not-ours", refused.Refusal?.Kind);
            Assert.Contains(said, refused.Refusal!.Text, StringComparison.Ordinal);
        }

        JournalOptions options = new() { Directory = Data, SlotBytes = SlotBytes, BlockBytes = BlockBytes };
        using JournalInspection inspection = JournalInspection.Open(options, disk, Ledger.Lenient(), out _)!;
        Assert.Equal("not-ours", inspection.Refusal?.Kind);
        Assert.NotEmpty(inspection.Damage);
        Assert.Equal(steps, disk.Steps);
    }

    public enum Oddity
    {
        LengthTooShort,
        LengthBeyondTheBlock,
        CountOfRecords,
        UnknownKind,
        Contradiction,
    }

    /// <summary>The hash says that these are the bytes that were written; it does not say that they make sense.</summary>
    [Theory]
    [InlineData(Oddity.LengthTooShort, "lengths that do not fit")]
    [InlineData(Oddity.LengthBeyondTheBlock, "lengths that do not fit")]
    [InlineData(Oddity.CountOfRecords, "another number of records")]
    [InlineData(Oddity.UnknownKind, "use a newer fastq")]
    [InlineData(Oddity.Contradiction, "contradicts the state before it")]
    public void A_whole_block_whose_records_make_no_sense_is_refused_by_name(Oddity oddity, string said)
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        ledger.Put(500);
        ledger.Sync();
        Assert.True(ledger.Journal.TryReserve(16, out Span<byte> room, out Place place));
        room.Clear();
        RecordPrefix prefix = new()
        {
            LengthBytes = oddity switch { Oddity.LengthTooShort => 4u, Oddity.LengthBeyondTheBlock => 24u, _ => 16u },
            Kind = oddity == Oddity.UnknownKind ? (RecordKind)250 : oddity == Oddity.CountOfRecords ? RecordKind.Message : RecordKind.Settle,
        };
        MemoryMarshal.Write(room, prefix);
        MemoryMarshal.Write(room[8..], 77ul); // Nothing lives under this number.
        ledger.Journal.Commit(16, oddity == Oddity.CountOfRecords ? 2u : 1u);
        ledger.Journal.Seal();
        ledger.Journal.Drain();
        using SimulatedStorage killed = disk.AfterKill();
        long steps = killed.Steps;
        using Ledger refused = Ledger.TryOpen(killed, Data, SlotBytes, BlockBytes);
        Assert.Equal(("not-ours", place.Slot, 2ul), (refused.Refusal?.Kind, refused.Refusal?.Slot ?? 0, refused.Refusal?.Block ?? 0));
        Assert.Contains(said, refused.Refusal!.Text, StringComparison.Ordinal);
        Assert.Equal(steps, killed.Steps);
    }

    [Fact]
    public void Compaction_meets_a_block_that_was_cut_short()
    {
        using SimulatedStorage disk = new("/sim");
        using (Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes))
        {
            for (int i = 0; i < 20; i++)
            {
                ledger.Put(1500);
            }

            ledger.Snapshot();
        }

        Assert.True(CutShort(disk, $"{SlotFolder}/{SegmentCatalogue.FileName(1)}", Format.SegmentHeaderBytes + BlockBytes + 200));
        using Ledger next = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        using SegmentScan scan = next.Journal.StartScan(1)!;
        int blocks = 0;
        while (scan.TryNext(out _, out _))
        {
            blocks++;
        }

        Assert.Equal((1, true), (blocks, scan.IsDamaged));
    }

    [Fact]
    public void A_slot_that_is_not_there_is_said_to_be_so()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        Assert.Null(ledger.Journal.InfoOf(77));
        Assert.Null(ledger.Journal.OpenReadOnly(77));
        Assert.Null(ledger.Journal.StartScan(77));
        Assert.Equal(Errno.ENOENT, ledger.Journal.Read(77, 0, new byte[8]).Fault.Errno);
    }

    [Fact]
    public void A_slot_that_is_ready_to_be_the_next_is_known_and_holds_nothing()
    {
        using SimulatedStorage disk = new("/sim");
        using Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        ledger.Put(100);
        SlotInfo? next = null;
        for (int i = 0; next is not { SegmentNumber: > 0 }; i++)
        {
            Assert.True(i < 100, "the next slot is not known");
            ledger.Sync();
            next = ledger.Journal.InfoOf(2);
        }

        Assert.Equal(new SlotInfo(2, 2, 0, 0, Format.SegmentHeaderBytes, IsCurrent: false, IsOlderLife: false), next);
        while (ledger.Journal.CurrentSlot == 1)
        {
            ledger.Put(1000);
            ledger.Seal();
        }

        Assert.Equal((2u, true), (ledger.Journal.CurrentSlot, ledger.Journal.InfoOf(2)?.IsCurrent));
    }

    /// <summary>The first block after the newest snapshot that is not the last of all.</summary>
    private static (string Path, long At, ulong Block, uint Slot) AfterTheSnapshot(SimulatedStorage disk)
    {
        ulong newest = ulong.Parse(SnapshotNames(disk)[^1].AsSpan(0, 20), System.Globalization.CultureInfo.InvariantCulture);
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
