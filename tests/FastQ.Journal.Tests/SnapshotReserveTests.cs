using FastQ.Linux;
using Xunit;

namespace FastQ.Journal;

/// <summary>The files that keep room for the next snapshots (DESIGN-REVIEW R27).</summary>
public sealed class SnapshotReserveTests : IDisposable
{
    private const int Step = 4096;
    private readonly SimulatedStorage _disk = new("/sim");
    private readonly SnapshotReserve _reserve;

    public SnapshotReserveTests()
    {
        _reserve = new SnapshotReserve(_disk, "/sim", Step);
    }

    public void Dispose() => _disk.Dispose();

    [Fact]
    public void Room_grows_with_the_state_in_large_steps_and_goes_back_when_the_state_has_shrunk()
    {
        _reserve.Keep(3, 10_000);
        Assert.Equal([("reserve.1", 4 * Step), ("reserve.2", 4 * Step), ("reserve.3", 4 * Step)], Files());
        long steps = _disk.Steps;
        _reserve.Keep(3, 4 * Step);
        Assert.Equal(steps, _disk.Steps); // A growing backlog asks the disk now and then only.
        _reserve.Keep(3, 100_000);
        Assert.Equal([("reserve.1", 31 * Step), ("reserve.2", 31 * Step), ("reserve.3", 31 * Step)], Files());
        _reserve.Keep(3, 1000);
        Assert.Equal([("reserve.1", Step), ("reserve.2", Step), ("reserve.3", Step)], Files());
        _reserve.Keep(1, 1000);
        Assert.Equal([("reserve.3", Step)], Files());
    }

    [Theory]
    [InlineData(StorageStepKind.Create)]
    [InlineData(StorageStepKind.Allocate)]
    public void Room_that_cannot_be_made_is_said_and_asked_for_again(StorageStepKind kind)
    {
        _disk.Fail = step => step.Kind == kind ? Errno.ENOSPC : Errno.None;
        _reserve.Keep(2, 1000);
        Assert.Equal(Errno.ENOSPC, _reserve.Fault?.Errno);
        _disk.Fail = null;
        _reserve.Keep(2, 1000);
        Assert.Null(_reserve.Fault);
        Assert.Equal(2, Files().Count(file => file.Bytes == Step));
    }

    [Theory]
    [InlineData(StorageStepKind.SyncDirectory)]
    [InlineData(StorageStepKind.Rename)]
    public void Room_is_taken_where_the_disk_lets_it_and_stays_where_it_does_not(StorageStepKind kind)
    {
        Assert.False(_reserve.TryTake("/sim/1.tmp"));
        _reserve.Keep(1, 1000);
        _disk.Fail = step => step.Kind == kind ? Errno.EIO : Errno.None;
        Assert.False(_reserve.TryTake("/sim/1.tmp"));
        Assert.Equal([("reserve.1", Step)], Files());
        _disk.Fail = null;
        Assert.True(_reserve.TryTake("/sim/1.tmp"));
        Assert.Equal([("1.tmp", Step)], Files());
        Assert.False(_reserve.TryTake("/sim/2.tmp"));
    }

    [Fact]
    public void What_is_let_go_takes_the_place_of_what_was_taken_and_else_goes_for_good()
    {
        _reserve.Keep(2, 1000);
        Assert.True(_reserve.TryTake("/sim/1.tmp"));
        _disk.Put("/sim/0.snap", new byte[3 * Step]);
        _reserve.Release("/sim/0.snap");
        Assert.Equal([("1.tmp", Step), ("reserve.1", 3 * Step), ("reserve.2", Step)], Files());
        _reserve.Release("/sim/1.tmp");
        Assert.Equal([("reserve.1", 3 * Step), ("reserve.2", Step)], Files());
        Assert.True(_reserve.TryTake("/sim/2.tmp"));
        Assert.Equal([("2.tmp", 3 * Step), ("reserve.2", Step)], Files()); // The largest.
    }

    [Fact]
    public void What_cannot_take_that_place_goes_for_good()
    {
        _reserve.Keep(1, 1000);
        Assert.True(_reserve.TryTake("/sim/1.tmp"));
        _disk.Fail = step => step.Kind == StorageStepKind.Rename ? Errno.EIO : Errno.None;
        _reserve.Release("/sim/1.tmp");
        Assert.Empty(Files());
    }

    [Fact]
    public void What_an_earlier_life_left_is_taken_over_and_what_keeps_no_room_is_removed()
    {
        _disk.Put("/sim/reserve.1", new byte[2 * Step]);
        _disk.Put("/sim/reserve.2", []);
        _reserve.Adopt();
        Assert.Equal([("reserve.1", 2 * Step)], Files());
        _disk.Fail = step => step.Kind is StorageStepKind.Create or StorageStepKind.Allocate ? Errno.ENOSPC : Errno.None;
        _reserve.Keep(1, 2 * Step);
        Assert.Null(_reserve.Fault);
    }

    private (string Name, int Bytes)[] Files() => [.. _disk.List("/sim").OrThrow().Select(name => (name, _disk.BytesOf($"/sim/{name}").Length))];
}
