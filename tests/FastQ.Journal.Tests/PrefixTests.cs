using FastQ.Linux;
using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace FastQ.Journal;

// A small journal, block by block known: what it was and where it was cut or turned over says exactly what a start must find.
public class PrefixTests
{
    private const string Data = "/sim/data", SlotFolder = $"{Data}/namespaces/default/slots";
    private const int SlotBytes = 32 * 1024, BlockBytes = 4 * 1024;

    /// <summary>One block as written: where its records end, and all that was put up to there.</summary>
    private readonly record struct Written(uint Slot, int At, int End, int Applied, ulong Digest);

    [Fact]
    public void Any_prefix_of_a_journal_gives_the_prefix_of_history_that_lies_whole_in_it()
    {
        // Sizes of things, then how much of the bytes is left, in thousandths, and whether zeroes or nothing follow.
        Gen<(int[] Sizes, int Left, bool Zeroes)> cuts = from sizes in Gen.Choose(0, 6000).ArrayOf(14) from left in Gen.Choose(0, 1000) from zeroes in Gen.Elements(false, true) select (sizes, left, zeroes);
        Prop.ForAll(Arb.From(cuts), cut =>
        {
            using SimulatedStorage disk = new("/sim");
            List<Written> blocks = Write(disk, cut.Sizes);
            uint slots = blocks[^1].Slot;
            long left = Format.SegmentHeaderBytes + ((long)slots * SlotBytes - Format.SegmentHeaderBytes) * cut.Left / 1000;
            using SimulatedStorage prefix = Prefix(disk, slots, left, cut.Zeroes);
            using Ledger found = Ledger.TryOpen(prefix, Data, SlotBytes, BlockBytes);
            Assert.True(found.Refusal is null, found.Refusal?.Text);
            Written last = blocks.LastOrDefault(block => (long)(block.Slot - 1) * SlotBytes + block.End <= left);
            Assert.Equal((last.Applied, last.Digest), (found.Applied, found.Digest));
            found.ReadAll();
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(300).WithReplay(1013, 2027));
    }

    [Fact]
    public void Any_bit_turned_over_in_what_was_durable_is_corruption_and_in_what_was_not_it_is_the_tail()
    {
        using SimulatedStorage disk = new("/sim");
        List<Written> blocks = Write(disk, [200, 300, 100, 250, 150], synced: 2);
        string slot = $"{SlotFolder}/{SegmentCatalogue.FileName(1)}";
        (int Corruption, int Tail, int Rot, int Unread) = (0, 0, 0, 0);
        for (int at = 0; at < SlotBytes; at++)
        {
            Written inside = blocks.FirstOrDefault(block => at >= block.At && at < block.End);
            bool isHeader = at < SegmentHeader.SizeBytes;
            if (inside.End == 0 && !isHeader && at % 89 != 0)
            {
                continue; // Of what nobody reads, some.
            }

            for (int bit = 0; bit < 8; bit++)
            {
                using SimulatedStorage rotten = disk.AfterKill();
                rotten.Rot(slot, at, (byte)(1 << bit));
                using Ledger found = Ledger.TryOpen(rotten, Data, SlotBytes, BlockBytes);
                int block = blocks.IndexOf(inside);
                (string? refused, int applied, ulong digest) = isHeader ? ("segment-header-rot", 0, 0ul)
                    : block < 0 ? (null, blocks[^1].Applied, blocks[^1].Digest)
                    : block < 2 ? ("corruption", 0, 0ul)
                    : ((string?)null, blocks[block - 1].Applied, blocks[block - 1].Digest);
                string how = $"bit {bit} of byte {at}";
                Assert.True(refused == found.Refusal?.Kind, $"{how}: {found.Refusal?.Text ?? found.Report.Verdict}");
                _ = isHeader ? Rot++ : block < 0 ? Unread++ : block < 2 ? Corruption++ : Tail++;
                if (found.Refusal is null)
                {
                    Assert.True((applied, digest) == (found.Applied, found.Digest), $"{how}: {found.Applied} found instead of {applied}");
                    Assert.Equal(block >= 0 && block < blocks.Count - 1 ? "unsynced-out-of-order" : "unsynced-tail", found.Report.Verdict);
                    found.ReadAll();
                }
            }
        }

        Assert.True(Corruption > 1000 && Tail > 1000 && Rot == 8 * SegmentHeader.SizeBytes && Unread > 1000, $"{Corruption} corruption, {Tail} tail, {Rot} rot, {Unread} unread");
    }

    /// <summary>One life, a block a thing; the first <paramref name="synced"/> are durable, and the blocks after them say so.</summary>
    private static List<Written> Write(SimulatedStorage disk, int[] sizes, int synced = 0)
    {
        List<Written> blocks = [];
        using Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
        for (int i = 0; i < sizes.Length; i++)
        {
            ledger.Put(sizes[i]);
            int payload = ledger.Journal.OpenBytes;
            ledger.Seal();
            (uint slot, int end) = (ledger.Journal.CurrentSlot, ledger.Journal.InfoOf(ledger.Journal.CurrentSlot)!.Value.UsedBytes);
            int at = end - Format.AlignBlock(BlockHeader.SizeBytes + payload);
            blocks.Add(new Written(slot, at, at + BlockHeader.SizeBytes + payload, ledger.Applied, ledger.Digest));
            if (i + 1 == synced)
            {
                ledger.Sync();
            }
        }

        return blocks;
    }

    /// <summary>The first bytes of the slots, one after the other, and nothing of those that follow.</summary>
    private static SimulatedStorage Prefix(SimulatedStorage disk, uint slots, long left, bool zeroes)
    {
        SimulatedStorage prefix = disk.AfterKill();
        foreach (string name in disk.List(SlotFolder).OrThrow())
        {
            string path = $"{SlotFolder}/{name}";
            uint slot = uint.Parse(name.AsSpan(0, 10), System.Globalization.CultureInfo.InvariantCulture);
            int here = (int)Math.Clamp(left - (long)(slot - 1) * SlotBytes, 0, SlotBytes);
            using IStoredFile whole = disk.Open(path, create: false).OrThrow();
            byte[] bytes = new byte[zeroes && here > 0 ? SlotBytes : here];
            whole.ReadAt(bytes.AsSpan(0, here), 0).OrThrow();
            prefix.Unlink(path).OrThrow();
            if (slot > slots || here == 0)
            {
                continue;
            }

            using IStoredFile cut = prefix.Open(path, create: true).OrThrow();
            cut.WriteAt(bytes, 0).OrThrow();
            cut.Sync().OrThrow();
        }

        prefix.SyncDirectory(SlotFolder).OrThrow();
        return prefix;
    }
}
