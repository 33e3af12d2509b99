using System.Text;
using Xunit;

namespace FastQ.Linux.Tests;

public sealed class FileTests
{
    [Fact]
    public void What_is_written_at_a_place_is_read_there()
    {
        using Scratch scratch = new();
        using FileHandle file = scratch.OpenNew("f");
        file.WriteAt("world"u8, 6).OrThrow();
        file.WriteAt("hello "u8, 0).OrThrow();
        file.DataSync().OrThrow();
        file.Sync().OrThrow();
        file.StartWriteBack(0, 11).OrThrow();
        file.DropCache();
        byte[] read = new byte[11];
        Assert.Equal(11, file.ReadAt(read, 0).OrThrow());
        Assert.Equal("hello world", Encoding.UTF8.GetString(read));
        Assert.Equal(11, file.Length().OrThrow());
    }

    [Fact]
    public void A_read_across_the_end_gives_what_is_there()
    {
        using Scratch scratch = new();
        using FileHandle file = scratch.OpenNew("f");
        file.WriteAt(new byte[10], 0).OrThrow();
        Assert.Equal(6, file.ReadAt(new byte[100], 4).OrThrow());
        Assert.Equal(0, file.ReadAt(new byte[100], 10).OrThrow());
    }

    [Theory]
    [InlineData(0, 1, 3, 3, 20, 200, 393, 400)] // falls short at the end of a piece, an empty one among the rest
    [InlineData(0, 0, 20, 200, 393, 400)]       // within a piece
    [InlineData(0, 400)]
    public unsafe void Pieces_are_written_one_after_the_other_though_a_write_falls_short(params int[] cuts)
    {
        byte[] whole = [.. Enumerable.Range(0, 400).Select(static i => (byte)(i * 7))];
        bool wasShort = true;
        for (int shortCall = 1; wasShort; shortCall++)
        {
            using Scratch scratch = new();
            using FileHandle file = scratch.OpenNew("f");
            fixed (byte* at = whole)
            {
                IoVector[] pieces = new IoVector[cuts.Length - 1];
                for (int i = 0; i < pieces.Length; i++)
                {
                    pieces[i] = new IoVector { Base = at + cuts[i], Length = (nuint)(cuts[i + 1] - cuts[i]) };
                }

                Check.FailAt(shortCall, Errno.None);
                file.WriteAllAt(pieces, 5).OrThrow();
            }

            wasShort = !Check.FailurePending;
            Check.FailAt(0, Errno.None);
            byte[] read = new byte[whole.Length];
            Assert.Equal(whole.Length, file.ReadAt(read, 5).OrThrow());
            Assert.Equal(whole, read);
            Assert.Equal(5 + whole.Length, file.Length().OrThrow());
        }
    }

    [Fact]
    public unsafe void More_pieces_than_one_call_takes_are_all_written()
    {
        using Scratch scratch = new();
        using FileHandle file = scratch.OpenNew("f");
        byte[] whole = [.. Enumerable.Range(0, 3000).Select(static i => (byte)(i % 251))];
        fixed (byte* at = whole)
        {
            IoVector[] pieces = new IoVector[1500];
            for (int i = 0; i < pieces.Length; i++)
            {
                pieces[i] = new IoVector { Base = at + 2 * i, Length = 2 };
            }

            file.WriteAllAt(pieces, 0).OrThrow();
        }

        byte[] read = new byte[whole.Length];
        Assert.Equal(whole.Length, file.ReadAt(read, 0).OrThrow());
        Assert.Equal(whole, read);
    }

    [Fact]
    public void A_write_that_fails_later_on_is_a_fault_that_names_the_file()
    {
        using FileHandle full = FileHandle.Open("/dev/full", OpenMode.ReadWrite).OrThrow();
        Assert.Equal(new Fault("pwritev", Errno.ENOSPC, "/dev/full"), full.WriteAt("x"u8, 0).Fault);
    }

    [Fact]
    public void A_new_file_is_private_and_is_made_once()
    {
        using Scratch scratch = new();
        using FileHandle file = scratch.OpenNew("f");
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file.Path));
        Assert.Equal(Errno.EEXIST, Hostile.Of(FileHandle.Open(file.Path, OpenMode.ReadWrite | OpenMode.Create | OpenMode.Exclusive)));
    }

    [Fact]
    public void Opening_to_truncate_empties_the_file()
    {
        using Scratch scratch = new();
        using FileHandle file = scratch.OpenNew("f");
        file.WriteAt("x"u8, 0).OrThrow();
        FileHandle.Open(file.Path, OpenMode.ReadWrite | OpenMode.Truncate).OrThrow().Dispose();
        Assert.Equal(0, file.Length().OrThrow());
    }

    [Fact]
    public void Every_descriptor_is_closed_in_a_program_that_we_start()
    {
        const int GetDescriptorFlags = 1, CloseOnExec = 1;
        using Scratch scratch = new();
        using FileHandle file = scratch.OpenNew("f");
        using FileHandle memory = MemoryFile.Create("m", 4096).OrThrow();
        using EventDescriptor signal = EventDescriptor.Create().OrThrow();
        (FileHandle read, FileHandle write) = Pipe.Create().OrThrow();
        (UnixSocket a, UnixSocket b) = UnixSocket.Pair().OrThrow();
        using UnixSocket listener = UnixSocket.Listen(scratch.File("s"), 1, 0x180).OrThrow();
        using UnixSocket client = UnixSocket.Connect(scratch.File("s")).OrThrow();
        using UnixSocket server = listener.Accept().OrThrow();
        using (read)
        using (write)
        using (a)
        using (b)
        {
            int[] all = [file.Descriptor, memory.Descriptor, signal.Descriptor, read.Descriptor, write.Descriptor, a.Descriptor, b.Descriptor, listener.Descriptor, client.Descriptor, server.Descriptor];
            Assert.All(all, static descriptor => Assert.Equal(CloseOnExec, Libc.Control(descriptor, GetDescriptorFlags, 0)));
        }
    }

    [Fact]
    public void A_handle_closes_its_descriptor_once()
    {
        using Scratch scratch = new();
        FileHandle first = scratch.OpenNew("a");
        int number = first.Descriptor;
        first.Dispose();
        using FileHandle second = scratch.OpenNew("b");
        Assert.Equal(number, second.Descriptor); // the kernel gives the lowest free number: a second close would hit it
        first.Dispose();
        second.WriteAt("x"u8, 0).OrThrow();
        Assert.Throws<InvariantViolation>(() => first.Descriptor);
    }

    [Fact]
    public void Allocated_blocks_are_there_and_a_punched_hole_gives_them_back()
    {
        using FileHandle file = MemoryFile.Create("blocks", 0).OrThrow();
        file.Allocate(0, 1 << 20).OrThrow();
        Assert.Equal(1 << 20, file.Length().OrThrow());
        file.WriteAt("x"u8, 8192).OrThrow();
        file.PunchHole(8192, 4096).OrThrow();
        byte[] read = [1];
        file.ReadAt(read, 8192).OrThrow();
        Assert.Equal(0, read[0]);
        Assert.Equal(1 << 20, file.Length().OrThrow());
    }

    [Fact]
    public void One_of_two_opens_has_the_lock_until_it_is_closed()
    {
        using Scratch scratch = new();
        FileHandle first = scratch.OpenNew("LOCK");
        using FileHandle second = FileHandle.Open(first.Path, OpenMode.ReadWrite).OrThrow();
        Assert.True(first.TryLockExclusive().OrThrow());
        Assert.True(first.TryLockExclusive().OrThrow());
        Assert.False(second.TryLockExclusive().OrThrow());
        first.Dispose();
        Assert.True(second.TryLockExclusive().OrThrow());
    }

    [Fact]
    public void A_file_that_was_replaced_under_its_name_is_another_file()
    {
        using Scratch scratch = new();
        using FileHandle file = scratch.OpenNew("LOCK");
        FileIdentity identity = file.Identity().OrThrow();
        Assert.Equal(identity, Directories.IdentityOf(file.Path).OrThrow());
        scratch.OpenNew("other").Dispose();
        Directories.Rename(scratch.File("other"), file.Path).OrThrow();
        Assert.Equal(identity, file.Identity().OrThrow());
        Assert.NotEqual(identity, Directories.IdentityOf(file.Path).OrThrow());
        Directories.Unlink(file.Path).OrThrow();
        Assert.Equal(Errno.ENOENT, Directories.IdentityOf(file.Path).Fault.Errno);
        Assert.Equal(Errno.ENOENT, Directories.IdentityOf("").Fault.Errno);
        Assert.Equal(Errno.ENOENT, Directories.Unlink(file.Path).Fault.Errno);
        Assert.Equal(Errno.ENOENT, Directories.Rename(file.Path, scratch.File("x")).Fault.Errno);
    }

    [Fact]
    public void A_private_directory_is_the_users_alone_and_may_exist()
    {
        using Scratch scratch = new();
        string path = scratch.File("data");
        Directories.CreatePrivate(path).OrThrow();
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(path));
        Directories.CreatePrivate(path).OrThrow();
        Directories.Sync(path).OrThrow();
        scratch.OpenNew("file").Dispose();
        Assert.Equal(Errno.ENOTDIR, Directories.CreatePrivate(scratch.File("file")).Fault.Errno);
        Assert.Equal(Errno.ENOTDIR, Directories.Sync(scratch.File("file")).Fault.Errno);
        Assert.Equal(Errno.ENOENT, Directories.CreatePrivate(scratch.File("no/such")).Fault.Errno);
    }

    [Fact]
    public void The_file_system_is_told_by_name()
    {
        using Scratch scratch = new();
        Assert.Equal(new FileSystem(0x9FA0, "proc", false, false), Directories.FileSystemOf("/proc").OrThrow());
        FileSystem here = Directories.FileSystemOf(scratch.Root).OrThrow();
        string type = File.ReadLines("/proc/self/mounts").Select(static line => line.Split(' '))
            .Where(fields => scratch.Root.StartsWith(fields[1], StringComparison.Ordinal)).MaxBy(static fields => fields[1].Length)![2];
        Assert.True(here.Name.Contains(type == "overlay" ? "overlayfs" : type, StringComparison.Ordinal) || here.Name.StartsWith("0x", StringComparison.Ordinal), $"{here} on {type}");
        Assert.True(Directories.FreeBytes(scratch.Root).OrThrow() > 0);
        Assert.Equal(Errno.ENOENT, Directories.FileSystemOf("/nowhere").Fault.Errno);
    }

    [Fact]
    public void Network_file_systems_are_known_by_their_magic_and_each_magic_once()
    {
        Assert.Equal(Directories.Known.Length, Directories.Known.Select(static one => one.Magic).Distinct().Count());
        string[] network = ["nfs", "cifs", "smb2", "9p", "fuse or virtiofs", "ceph", "lustre", "gfs2", "ocfs2", "afs"];
        Assert.Superset(network.ToHashSet(), Directories.Known.Where(static one => one.IsNetwork).Select(static one => one.Name).ToHashSet());
        Assert.Equal(["bcachefs", "btrfs", "zfs"], Directories.Known.Where(static one => one.IsCopyOnWrite).Select(static one => one.Name).Order());
    }
}
