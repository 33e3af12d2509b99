using FastQ.Linux;
using Xunit;

namespace FastQ.Journal;

// Blocks that are whole and of this namespace, but not of this history: forks, voided tails, leftovers. And what a later block vouches for.
public sealed class HistoryTests : IDisposable
{
    private const string Data = "/sim/data", Slots = $"{Data}/namespaces/default/slots";
    private const int BlockBytes = 4 * 1024;
    private readonly SimulatedStorage _disk = new("/sim");

    public void Dispose() => _disk.Dispose();

    [Fact]
    public void A_block_of_a_fork_of_this_life_is_not_believed()
    {
        // Two copies of one directory, both served: same uuid, same epoch, same numbers.
        SimulatedStorage other = _disk.AfterKill();
        Write(_disk, 1000, 1000, 1000);
        Write(other, 1000, 1100, 1200);
        Copy(other, _disk, slot: 1, block: 3);
        using Ledger found = Open(_disk);
        Assert.Equal(2, found.Applied);
        Assert.Equal("unsynced-tail", found.Report.Verdict);
        found.ReadAll();
    }

    [Fact]
    public void What_an_older_life_wrote_after_the_newer_one_began_is_void_even_when_it_turns_up_whole()
    {
        Write(_disk, 1000, 1000, 1000);
        SimulatedStorage lost = _disk.AfterPowerLoss(what => what.Kind == StorageStepKind.Write && what.Sector / 8 == 3 ? Survival.Lost : Survival.Kept);
        Ledger newer = Open(lost);
        Assert.Equal(2, newer.Applied);
        newer.Put(1300);
        newer.Put(1400);
        newer.Seal();
        ulong digest = newer.Digest;
        newer.Dispose();

        Copy(_disk, lost, slot: 1, block: 3);
        using Ledger found = Open(lost);
        Assert.Equal((4, digest), (found.Applied, found.Digest));
    }

    [Fact]
    public void A_block_of_a_later_life_of_a_fork_is_not_believed()
    {
        // The copy was served twice more, and only the second of its lives went on after block 2; this directory went on in its own second life.
        Write(_disk, 1000, 1000);
        SimulatedStorage other = _disk.AfterKill();
        Open(other).Dispose();
        uint theirs = WriteBlock(other, 1200), ours = WriteBlock(_disk, 1300);
        Copy(other, _disk, theirs, block: 1, to: ours);
        using Ledger found = Open(_disk);
        Assert.Equal((2, "unsynced-tail"), (found.Applied, found.Report.Verdict));
        found.ReadAll();
    }

    [Fact]
    public void A_block_of_another_life_where_the_snapshot_covers_it_hides_none_of_those_behind_it()
    {
        Write(_disk, 1000, 10_000); // The second is three places long.
        uint slot;
        ulong digest;
        using (Ledger newer = Open(_disk))
        {
            slot = newer.Journal.CurrentSlot;
            newer.Put(1000);
            newer.Seal();
            newer.Put(1000);
            newer.Seal();
            newer.Put(1000);
            Assert.True(newer.Snapshot());
            newer.Put(1000);
            newer.Sync();
            digest = newer.Digest;
        }

        Copy(_disk, _disk, slot: 1, block: 2, to: slot);
        using Ledger found = Open(_disk);
        Assert.Equal((6, digest, 5ul), (found.Applied, found.Digest, found.Report.SnapshotBlock));
    }

    [Fact]
    public void A_block_of_an_older_life_vouches_for_nothing_even_when_nothing_says_any_more_where_that_life_ended()
    {
        const int SmallSlot = 24 * 1024;
        Ledger.Open(_disk, Data, SmallSlot, BlockBytes).Dispose();
        int applied;
        using (Ledger newer = Ledger.Open(_disk, Data, SmallSlot, BlockBytes))
        {
            for (int i = 0; i < 40; i++)
            {
                newer.Drop(newer.Put(3000));
                newer.Sync();
                if (i % 5 == 4)
                {
                    newer.Snapshot();
                    newer.Reclaim();
                }
            }

            newer.Put(1000);
            newer.Sync();
            applied = newer.Applied;
        }

        Assert.DoesNotContain(_disk.List(Slots).OrThrow(), name => RestingDisk.Head<SegmentHeader>(_disk, $"{Slots}/{name}") is { FirstOfLife: 1 });
        byte[] rotten = new byte[SmallSlot];
        BlockHeader old = new() { Magic = Format.BlockMagic, BlockNumber = 1000, Epoch = 1, DurableBlock = 999 };
        old.SetCheck();
        System.Runtime.InteropServices.MemoryMarshal.Write(rotten.AsSpan(Format.SegmentHeaderBytes), old);
        _disk.Put($"{Slots}/{SegmentCatalogue.FileName(99)}", rotten);
        using Ledger found = Ledger.Open(_disk, Data, SmallSlot, BlockBytes);
        Assert.Equal((applied, 0L), (found.Applied, found.Report.BlocksCut));
    }

    [Fact]
    public void A_witness_is_found_however_far_behind_it_lies()
    {
        const int LargeSlot = 3 * 1024 * 1024, LargeBlock = 64 * 1024;
        using (Ledger ledger = Ledger.Open(_disk, Data, LargeSlot, LargeBlock))
        {
            for (int i = 0; i < 30; i++)
            {
                ledger.Put(60_000);
                ledger.Seal();
            }

            ledger.Sync();
            Assert.True(ledger.Journal.SealClosing()); // The only one that says that the others were durable.
            ledger.Sync();
            Assert.Equal(1u, ledger.Journal.CurrentSlot);
        }

        _disk.Rot($"{Slots}/{SegmentCatalogue.FileName(1)}", Format.SegmentHeaderBytes + 200, 1);
        using Ledger refused = Ledger.TryOpen(_disk, Data, LargeSlot, LargeBlock);
        Assert.Equal(("corruption", 1ul), (refused.Refusal?.Kind, refused.Refusal?.Block));
        Assert.Contains("block 31", refused.Refusal!.Text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void A_later_block_vouches_for_what_was_durable_when_it_was_sealed(int rotten)
    {
        WriteSynced(_disk, 1000, 1000, 1000);
        _disk.Rot($"{Slots}/{SegmentCatalogue.FileName(1)}", rotten * BlockBytes + 200, 1);
        using Ledger refused = Ledger.TryOpen(_disk, Data, blockBytes: BlockBytes);
        Assert.Equal(("corruption", (ulong)rotten), (refused.Refusal?.Kind, refused.Refusal?.Block));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Blocks_that_nobody_called_durable_are_cut_where_the_first_is_bad(int rotten)
    {
        Write(_disk, 1000, 1000, 1000);
        _disk.Rot($"{Slots}/{SegmentCatalogue.FileName(1)}", rotten * BlockBytes + 200, 1);
        using Ledger found = Open(_disk);
        Assert.Equal((rotten - 1, "unsynced-out-of-order"), (found.Applied, found.Report.Verdict));
        Assert.Equal(3 - rotten + 1, found.Report.BlocksCut);
    }

    [Fact]
    public void A_new_life_vouches_for_all_that_it_accepted()
    {
        Write(_disk, 1000, 1000, 1000);
        Open(_disk).Dispose();
        _disk.Rot($"{Slots}/{SegmentCatalogue.FileName(1)}", (2 * BlockBytes) + 200, 1);
        using Ledger refused = Ledger.TryOpen(_disk, Data, blockBytes: BlockBytes);
        Assert.Equal(("corruption", 2ul), (refused.Refusal?.Kind, refused.Refusal?.Block));
        Assert.Contains("parent", refused.Refusal!.Text, StringComparison.Ordinal);
    }

    [Fact]
    public void Lives_that_wrote_nothing_may_go_by_and_their_slots_too()
    {
        Open(_disk).Dispose();
        using (Ledger second = Open(_disk))
        {
            second.Reclaim(); // The first life's empty slot is needed by nobody.
        }

        Assert.DoesNotContain(SegmentCatalogue.FileName(1), _disk.List(Slots).OrThrow());
        using Ledger third = Open(_disk);
        Assert.Equal(0, third.Applied);
    }

    [Fact]
    public void Each_life_has_a_higher_epoch_and_a_segment_of_its_own()
    {
        for (ulong life = 1; life <= 4; life++)
        {
            using Ledger ledger = Open(_disk);
            Assert.Equal(life, ledger.Journal.Epoch);
            Assert.Equal((uint)life, ledger.Journal.CurrentSlot);
        }
    }

    [Fact]
    public void A_start_writes_no_more_of_its_slot_than_the_header()
    {
        for (int life = 1; life <= 2; life++)
        {
            long written = 0; // DESIGN-REVIEW R58: zeroes come later, and beside the turn.
            _disk.Stepped = step => written += step.Kind == StorageStepKind.Write && step.Path.StartsWith(Slots, StringComparison.Ordinal) ? step.Bytes : 0;
            using Ledger ledger = Ledger.Open(_disk, Data, slotBytes: 1 << 20, blockBytes: BlockBytes);
            Assert.Equal(Format.SegmentHeaderBytes, written);
            _disk.Stepped = null;
            ledger.Put(100);
            ledger.Sync();
        }
    }

    private static Ledger Open(SimulatedStorage disk) => Ledger.Open(disk, Data, blockBytes: BlockBytes);

    /// <summary>One life, a block a thing, none of them synced.</summary>
    private static void Write(SimulatedStorage disk, params int[] things)
    {
        using Ledger ledger = Open(disk);
        foreach (int bytes in things)
        {
            ledger.Put(bytes);
            ledger.Seal();
        }
    }

    /// <summary>One life, a block a thing, each synced, and a closing block.</summary>
    private static void WriteSynced(SimulatedStorage disk, params int[] things)
    {
        using Ledger ledger = Open(disk);
        foreach (int bytes in things)
        {
            ledger.Put(bytes);
            ledger.Sync();
        }

        Assert.True(ledger.Journal.SealClosing());
        ledger.Sync();
    }

    /// <summary>One life that writes one block. Gives its slot.</summary>
    private static uint WriteBlock(SimulatedStorage disk, int bytes)
    {
        using Ledger ledger = Open(disk);
        ledger.Put(bytes);
        ledger.Seal();
        return ledger.Journal.CurrentSlot;
    }

    /// <summary>Puts the 4 KiB of a block of one disk in the same place of the same slot, or of another one, on another disk.</summary>
    private static void Copy(SimulatedStorage from, SimulatedStorage on, uint slot, int block, uint? to = null)
    {
        byte[] bytes = new byte[BlockBytes];
        using IStoredFile source = from.Open($"{Slots}/{SegmentCatalogue.FileName(slot)}", create: false).OrThrow();
        using IStoredFile target = on.Open($"{Slots}/{SegmentCatalogue.FileName(to ?? slot)}", create: false).OrThrow();
        source.ReadAt(bytes, block * BlockBytes).OrThrow();
        target.WriteAt(bytes, block * BlockBytes).OrThrow();
        target.Sync().OrThrow();
    }
}
