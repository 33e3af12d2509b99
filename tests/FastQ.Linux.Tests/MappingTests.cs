using Xunit;

namespace FastQ.Linux.Tests;

public sealed unsafe class MappingTests
{
    private const int Page = 4096;

    [Fact]
    public void What_is_written_over_the_end_of_the_first_half_shows_at_its_start()
    {
        using FileHandle file = MemoryFile.Create("ring", 3 * Page).OrThrow();
        using Mapping ring = Mapping.Mirrored(file, Page, 2 * Page, Protection.ReadWrite, dontFork: true).OrThrow();
        Assert.Equal(4 * Page, ring.Length);
        "across"u8.CopyTo(new Span<byte>(ring.Address + 2 * Page - 3, 6));
        Assert.Equal("oss"u8, ring.Bytes(0, 3));
        Assert.Equal("acr"u8, ring.Bytes(4 * Page - 3, 3));

        byte[] inFile = new byte[3];
        file.ReadAt(inFile, Page).OrThrow();
        Assert.Equal("oss"u8, inFile);
        file.ReadAt(inFile, 0).OrThrow();
        Assert.Equal(new byte[3], inFile); // the page before the ring is not the ring's
    }

    [Fact]
    public void Two_mappings_of_one_file_show_the_same_bytes()
    {
        using FileHandle file = MemoryFile.Create("shared", Page).OrThrow();
        using Mapping writer = Mapping.OfFile(file, Page, Protection.ReadWrite, populate: true).OrThrow();
        using Mapping reader = Mapping.OfFile(file, Page, Protection.Read, dontFork: true).OrThrow();
        file.Dispose();
        writer.Address[7] = 42;
        Assert.Equal(42, reader.Bytes(7, 1)[0]);
    }

    [Fact]
    public void A_huge_aligned_mapping_starts_at_two_mebibytes()
    {
        const int Bytes = (4 << 20) + Page; // no multiple of 2 MiB: those the kernel aligns by itself
        using FileHandle file = MemoryFile.Create("slot", Bytes).OrThrow();
        for (int i = 0; i < 3; i++)
        {
            using Mapping skew = Mapping.OfMemory(Page * (i + 1)).OrThrow();
            using Mapping mapping = Mapping.OfFile(file, Bytes, Protection.Read, hugeAligned: true).OrThrow();
            Assert.Equal(0, (long)mapping.Address % (2 << 20));
            Assert.Equal(0, mapping.Bytes(Bytes - 1, 1)[0]);
        }
    }

    [Fact]
    public void A_range_outside_the_mapping_is_our_bug()
    {
        Mapping mapping = Mapping.OfMemory(Page).OrThrow();
        Assert.Equal(Page, mapping.Bytes(0, Page).Length);
        Assert.Equal(0, mapping.Bytes(Page, 0).Length);
        Assert.Throws<InvariantViolation>(() => mapping.Bytes(1, Page).Length);
        Assert.Throws<InvariantViolation>(() => mapping.Bytes(-1, 1).Length);
        Assert.Throws<InvariantViolation>(() => mapping.Bytes(0, -1).Length);
        Assert.Throws<InvariantViolation>(() => mapping.Bytes(long.MaxValue, 1).Length);
        mapping.Dispose();
        mapping.Dispose();
        Assert.Throws<InvariantViolation>(() => mapping.Bytes(0, 1).Length);
    }

    [Fact]
    public void Touching_gives_every_page_of_a_memory_file_its_memory()
    {
        using FileHandle file = MemoryFile.Create("touched", 64 * Page).OrThrow();
        using Mapping mapping = Mapping.OfFile(file, 64 * Page, Protection.ReadWrite).OrThrow();
        Assert.Equal(0, Resident(mapping));
        mapping.Touch().OrThrow();
        Assert.Equal(64 * Page, Resident(mapping));

        using Mapping reader = Mapping.OfFile(file, 64 * Page, Protection.Read).OrThrow();
        reader.Touch().OrThrow();
        Assert.Equal(64 * Page, Resident(reader));
    }

    [Fact]
    public void A_memory_file_keeps_the_seals_that_it_was_given()
    {
        using FileHandle file = MemoryFile.Create("sealed", Page).OrThrow();
        Assert.Equal(Seals.None, MemoryFile.GetSeals(file).OrThrow());
        MemoryFile.AddSeals(file, Seals.Shrink | Seals.Grow).OrThrow();
        MemoryFile.AddSeals(file, Seals.FutureWrite | Seals.Seal).OrThrow();
        Assert.Equal(Seals.Shrink | Seals.Grow | Seals.FutureWrite | Seals.Seal, MemoryFile.GetSeals(file).OrThrow());
        Assert.Equal(Errno.EPERM, MemoryFile.AddSeals(file, Seals.Write).Fault.Errno);
    }

    // DESIGN-REVIEW R16: what the broker writes, sealed after both halves of its mapping exist and before the descriptor leaves.
    [Fact]
    public void A_peer_can_neither_resize_nor_write_what_only_we_write()
    {
        using FileHandle ours = MemoryFile.Create("B", 4 * Page).OrThrow();
        using Mapping writer = Mapping.Mirrored(ours, 0, 4 * Page, Protection.ReadWrite).OrThrow();
        MemoryFile.AddSeals(ours, Seals.Shrink | Seals.Grow | Seals.FutureWrite | Seals.Seal).OrThrow();
        using FileHandle theirs = Passed(ours);
        using FileHandle reopened = FileHandle.Open($"/proc/self/fd/{theirs.Descriptor}", OpenMode.ReadWrite).OrThrow();
        foreach (FileHandle hostile in new[] { theirs, reopened })
        {
            Assert.Equal(Errno.EPERM, Hostile.Of(hostile.SetLength(0)));
            Assert.Equal(Errno.EPERM, Hostile.Of(hostile.SetLength(8 * Page)));
            Assert.Equal(Errno.EPERM, Hostile.Of(hostile.Allocate(0, 8 * Page)));
            Assert.Equal(Errno.EPERM, Hostile.Of(hostile.PunchHole(0, Page)));
            Assert.Equal(Errno.EPERM, Hostile.Of(hostile.WriteAt("x"u8, 0)));
            Assert.Equal(Errno.EPERM, Hostile.Of(MemoryFile.AddSeals(hostile, Seals.Write)));
            Assert.Equal(Errno.EPERM, Hostile.Of(Mapping.OfFile(hostile, 4 * Page, Protection.ReadWrite)));
            using Mapping reader = Mapping.OfFile(hostile, 4 * Page, Protection.Read).OrThrow();
            Assert.Equal(Errno.EACCES, Hostile.ProtectWritable(reader));
            Assert.NotEqual(Errno.None, Hostile.RemovePages(reader));
            writer.Address[5 * Page]++;
            Assert.Equal(writer.Address[Page], reader.Bytes(Page, 1)[0]);
        }
    }

    // DESIGN-REVIEW R17: what the client writes, sealed against resizing at birth, against holes when the client has mapped it.
    [Fact]
    public void A_peer_still_writes_its_mapping_and_can_take_no_page_from_us()
    {
        using FileHandle ours = MemoryFile.Create("A", 4 * Page).OrThrow();
        MemoryFile.AddSeals(ours, Seals.Shrink | Seals.Grow).OrThrow();
        using FileHandle theirs = Passed(ours);
        using Mapping client = Mapping.Mirrored(theirs, 0, 4 * Page, Protection.ReadWrite).OrThrow();
        Assert.Equal(Errno.EPERM, Hostile.Of(theirs.SetLength(0)));
        theirs.PunchHole(0, Page).OrThrow(); // until then it can, so until then nothing is read

        MemoryFile.AddSeals(ours, Seals.FutureWrite | Seals.Seal).OrThrow();
        using Mapping reader = Mapping.Mirrored(ours, 0, 4 * Page, Protection.Read).OrThrow();
        reader.Touch().OrThrow();
        Assert.Equal(8 * Page, Resident(reader));

        Assert.Equal(Errno.EPERM, Hostile.Of(theirs.PunchHole(0, Page)));
        Assert.Equal(Errno.EPERM, Hostile.RemovePages(client));
        Assert.Equal(Errno.EPERM, Hostile.Of(Mapping.OfFile(theirs, Page, Protection.ReadWrite)));
        Assert.Equal(8 * Page, Resident(reader));
        client.Address[3] = 9;
        Assert.Equal(9, reader.Bytes(4 * Page + 3, 1)[0]);
    }

    private static FileHandle Passed(FileHandle file)
    {
        (UnixSocket from, UnixSocket to) = UnixSocket.Pair().OrThrow();
        using (from)
        using (to)
        {
            from.Send("x"u8, [file.Descriptor]).OrThrow();
            int[] descriptors = new int[1];
            Assert.Equal(new Received(1, 1), to.Receive(new byte[8], descriptors).OrThrow());
            return FileHandle.Adopt(descriptors[0], "passed");
        }
    }

    /// <summary>Bytes of the mapping whose pages are there, as the kernel counts them.</summary>
    private static long Resident(Mapping mapping)
    {
        long bytes = 0;
        bool inside = false;
        foreach (string line in File.ReadLines("/proc/self/smaps"))
        {
            int dash = line.IndexOf('-', StringComparison.Ordinal);
            if (dash > 0 && ulong.TryParse(line.AsSpan(0, dash), System.Globalization.NumberStyles.HexNumber, null, out ulong start))
            {
                inside = start >= (ulong)mapping.Address && start < (ulong)mapping.Address + (ulong)mapping.Length;
            }
            else if (inside && line.StartsWith("Rss:", StringComparison.Ordinal))
            {
                bytes += 1024 * long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], null);
            }
        }

        return bytes;
    }
}
