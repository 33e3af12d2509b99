using System.Buffers;
using FastQ.Linux;
using Xunit;

namespace FastQ.Journal;

/// <summary>The pages of a snapshot: what is written into them is read from them.</summary>
public sealed class SnapshotPageTests : IDisposable
{
    private readonly SimulatedStorage _disk = new("/sim");
    private readonly IStoredFile _file;

    public SnapshotPageTests()
    {
        _file = _disk.Open("/sim/state", create: true).OrThrow();
    }

    public void Dispose()
    {
        _file.Dispose();
        _disk.Dispose();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_state_reads_back_as_it_was_written_wherever_its_pieces_fall(bool inMemory)
    {
        List<byte> all = [];
        using SnapshotWriter writer = new(_file, new byte[4096]);
        foreach (int bytes in (int[])[1, 8, 24_576, 40_000, 40_000, 39_000, Format.SnapshotPageBytes, 30_000, 3 * Format.SnapshotPageBytes, 7, 900_000, 60_000])
        {
            Span<byte> room = inMemory ? writer.GetMemory(bytes).Span : writer.GetSpan(bytes);
            for (int i = 0; i < bytes; i++)
            {
                room[i] = (byte)(all.Count % 251);
                all.Add(room[i]);
            }

            writer.Advance(bytes);
        }

        writer.Finish();
        Assert.Null(writer.Fault);
        SnapshotStream stream = new(_file, new SnapshotHeader { PayloadBytes = writer.PayloadBytes, PagesHash = writer.PagesHash });
        using MemoryStream read = new();
        stream.CopyTo(read);
        Assert.True(stream.IsWhole);
        Assert.True(read.ToArray().AsSpan().SequenceEqual(all.ToArray()), $"{read.Length} bytes of {all.Count}, or other ones");
    }

    [Fact]
    public void After_a_write_has_failed_no_further_one_is_tried()
    {
        int tried = 0;
        _disk.Fail = step => step.Kind == StorageStepKind.Write && ++tried > 0 ? Errno.ENOSPC : Errno.None;
        using SnapshotWriter writer = new(_file, new byte[4096]);
        writer.Write(new byte[3 * 1024 * 1024]);
        writer.Finish();
        Assert.Equal((1, Errno.ENOSPC), (tried, writer.Fault?.Errno));
    }
}
