using FastQ.Protocol;
using Xunit;

namespace FastQ.Journal;

// What was appended lies where it was said to, from that moment on.
public sealed class ReadingTests : IDisposable
{
    private readonly SimulatedStorage _disk = new("/sim");

    public void Dispose() => _disk.Dispose();

    [Fact]
    public void What_was_appended_can_be_read_at_once_while_its_block_is_open_on_its_way_and_written()
    {
        using Ledger ledger = Ledger.Open(_disk, "/sim/data", slotBytes: 64 * 1024, blockBytes: 4 * 1024);
        for (int i = 0; i < 12; i++)
        {
            ledger.Put(500 + 100 * i); // Some blocks are full by themselves.
            ledger.ReadAll();
        }

        ledger.Put(9000); // Larger than a block.
        ledger.ReadAll();
        ledger.Journal.Seal(); // Not polled: nothing has come back from the disk.
        Assert.True(ledger.Journal.WrittenBlock < ledger.Journal.OpenBlock - 1);
        ledger.ReadAll();
        ledger.Put(100);
        ledger.ReadAll();
        ledger.Sync();
        Assert.Equal(ledger.Journal.OpenBlock - 1, ledger.Journal.WrittenBlock);
        ledger.ReadAll();
    }

    [Fact]
    public void What_was_only_reserved_is_not_read()
    {
        using Ledger ledger = Ledger.Open(_disk, "/sim/data", slotBytes: 64 * 1024, blockBytes: 4 * 1024);
        ledger.Put(100);
        Assert.True(ledger.Journal.TryReserve(64, out Span<byte> room, out Place place));
        room.Fill(7);
        byte[] read = new byte[64];
        _ = ledger.Journal.Read(place.Slot, place.Offset, read);
        Assert.DoesNotContain((byte)7, read);
    }
}
