using Xunit;

namespace FastQ.Journal;

// When a slot may be used again: each of the conditions alone keeps it.
public sealed class ReclaimTests : IDisposable
{
    private const string Data = "/sim/data";
    private readonly SimulatedStorage _disk = new("/sim");
    private readonly Ledger _ledger;

    public ReclaimTests()
    {
        _ledger = Ledger.Open(_disk, Data, slotBytes: 24 * 1024, blockBytes: 4 * 1024);
    }

    public void Dispose()
    {
        _ledger.Dispose();
        _disk.Dispose();
    }

    [Fact]
    public void What_lives_keeps_its_slot()
    {
        ulong first = FillSlotOne();
        _ledger.Snapshot();
        Pass();
        _ledger.Snapshot();
        Assert.True(SlotOneStays());
        Assert.Contains(first, _ledger.Live);
    }

    [Fact]
    public void The_older_snapshot_must_describe_the_block_in_which_the_last_thing_left()
    {
        ulong first = FillSlotOne();
        _ledger.Snapshot();
        Pass();
        _ledger.Snapshot();
        _ledger.Drop(first);
        _ledger.Seal();
        Assert.True(SlotOneStays(), "the drop is not durable");
        _ledger.Sync();
        Assert.True(SlotOneStays(), "both snapshots still say that it lives");
        _ledger.Snapshot();
        Assert.True(SlotOneStays(), "the older snapshot still says that it lives");
        Pass();
        _ledger.Snapshot();
        Assert.False(SlotOneStays());
    }

    [Fact]
    public void One_snapshot_alone_frees_nothing()
    {
        _ledger.Drop(FillSlotOne());
        _ledger.Snapshot();
        Assert.True(SlotOneStays());
    }

    [Fact]
    public void What_somebody_still_reads_keeps_its_slot_and_is_never_written_over()
    {
        _ledger.Pinned.Add(1);
        _ledger.Drop(FillSlotOne());
        SnapshotTwice();
        Assert.True(SlotOneStays());

        // Its reader was put out, and may have it mapped still: the name goes, the bytes stay.
        using IStoredFile mapped = _disk.Open($"{Data}/namespaces/default/slots/0000000001.slot", create: false).OrThrow();
        byte[] before = new byte[24 * 1024], after = new byte[24 * 1024];
        mapped.ReadAt(before, 0).OrThrow();
        _ledger.Pinned.Clear();
        _ledger.Retired.Add(1);
        Assert.False(SlotOneStays());
        for (int i = 0; i < 60; i++)
        {
            Pass();
        }

        Assert.Null(_ledger.Journal.InfoOf(1));
        mapped.ReadAt(after, 0).OrThrow();
        Assert.Equal(before, after);
    }

    private void SnapshotTwice()
    {
        for (int i = 0; i < 2; i++)
        {
            Pass();
            _ledger.Snapshot();
        }
    }

    [Fact]
    public void A_slot_that_somebody_may_still_read_against_our_will_is_unlinked_and_not_used_again()
    {
        // DESIGN-REVIEW R8: its reader was sent away, and may have it mapped.
        _ledger.Drop(FillSlotOne());
        SnapshotTwice();
        List<uint> gone = [];
        _ledger.Journal.SlotGone = gone.Add;
        _ledger.Retired.Add(1);
        _ledger.Reclaim();
        Assert.Contains(1u, gone);
        Assert.Null(_ledger.Journal.InfoOf(1));
        Assert.DoesNotContain(SegmentCatalogue.FileName(1), _disk.List($"{Data}/namespaces/default/slots").OrThrow());
    }

    [Fact]
    public void Disk_use_follows_what_lives_and_not_what_has_passed()
    {
        int most = 0;
        for (int i = 0; i < 400; i++)
        {
            Pass();
            if (_ledger.Journal.IsSnapshotDue(stateBytes: 0))
            {
                _ledger.Snapshot();
            }

            _ledger.Reclaim();
            most = Math.Max(most, _ledger.Journal.Statistics.Slots);
        }

        Assert.True(most <= 8, $"{most} slots");
    }

    /// <summary>Slot 1 is full, and one thing lives in it.</summary>
    private ulong FillSlotOne()
    {
        ulong first = _ledger.Put(1000);
        while (_ledger.Journal.CurrentSlot == 1)
        {
            Pass();
        }

        return first;
    }

    /// <summary>Something comes and goes.</summary>
    private void Pass()
    {
        ulong id = _ledger.Put(3000);
        _ledger.Drop(id);
        _ledger.Sync();
    }

    private bool SlotOneStays()
    {
        _ledger.Reclaim();
        return _ledger.Journal.InfoOf(1) is { SegmentNumber: 1, FirstBlock: 1 };
    }
}
