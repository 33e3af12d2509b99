using Xunit;

namespace FastQ.Linux.Tests;

public sealed class SocketTests
{
    [Fact]
    public void A_packet_arrives_whole_and_alone()
    {
        (UnixSocket a, UnixSocket b) = UnixSocket.Pair().OrThrow();
        using (a)
        using (b)
        {
            a.Send("one"u8).OrThrow();
            a.Send("three"u8).OrThrow();
            byte[] into = new byte[64];
            Assert.Equal(3, b.Receive(into).OrThrow());
            Assert.Equal(5, b.Receive(into).OrThrow());
            Assert.Equal("three"u8, into.AsSpan(0, 5));
            b.SetNonBlocking(true).OrThrow();
            Assert.Equal(Errno.EAGAIN, b.Receive(into).Fault.Errno);
            b.SetNonBlocking(false).OrThrow();
            a.Send("x"u8).OrThrow();
            Assert.Equal(1, b.Receive(into).OrThrow());
            a.Shutdown();
            Assert.Equal(0, b.Receive(into).OrThrow());
            Assert.Equal(Errno.EPIPE, b.Send("x"u8).Fault.Errno);
        }
    }

    [Fact]
    public void Four_descriptors_arrive_in_order_and_lead_to_the_same_files()
    {
        FileHandle[] files = [.. Enumerable.Range(0, 4).Select(static i => MemoryFile.Create($"file {i}", 0).OrThrow())];
        (UnixSocket a, UnixSocket b) = UnixSocket.Pair().OrThrow();
        using (a)
        using (b)
        {
            a.Send("welcome"u8, [.. files.Select(static file => file.Descriptor)]).OrThrow();
            int[] received = new int[4];
            Assert.Equal(new Received(7, 4), b.Receive(new byte[64], received).OrThrow());
            for (int i = 0; i < 4; i++)
            {
                const int GetDescriptorFlags = 1, CloseOnExec = 1;
                using FileHandle copy = FileHandle.Adopt(received[i], "copy");
                Assert.Equal(files[i].Identity().OrThrow(), copy.Identity().OrThrow());
                Assert.NotEqual(files[i].Descriptor, copy.Descriptor);
                Assert.Equal(CloseOnExec, Libc.Control(copy.Descriptor, GetDescriptorFlags, 0));
                files[i].Dispose();
            }
        }
    }

    [Fact]
    public void Descriptors_that_nobody_asked_for_are_not_installed()
    {
        using FileHandle file = MemoryFile.Create("bomb", 0).OrThrow();
        (UnixSocket a, UnixSocket b) = UnixSocket.Pair().OrThrow();
        using (a)
        using (b)
        {
            int[] sixteen = [.. Enumerable.Repeat(file.Descriptor, 16)];
            a.Send("hello"u8, sixteen).OrThrow();
            a.Send("hello"u8, sixteen).OrThrow();
            string[] before = Holdings.Descriptors();
            Assert.Equal(5, b.Receive(new byte[64]).OrThrow());
            Assert.Equal(before, Holdings.Descriptors());

            int[] one = new int[1];
            Assert.Equal(new Received(5, 1), b.Receive(new byte[64], one).OrThrow());
            Assert.Equal(before.Length + 1, Holdings.Descriptors().Length);
            FileHandle.Adopt(one[0], "the one asked for").Dispose();
        }
    }

    [Fact]
    public void A_packet_that_is_too_long_is_a_fault_and_its_descriptors_are_closed()
    {
        using FileHandle file = MemoryFile.Create("passed", 0).OrThrow();
        (UnixSocket a, UnixSocket b) = UnixSocket.Pair().OrThrow();
        using (a)
        using (b)
        {
            a.Send("too long"u8, [file.Descriptor, file.Descriptor]).OrThrow();
            string[] before = Holdings.Descriptors();
            Assert.Equal(Errno.EMSGSIZE, b.Receive(new byte[4], new int[4]).Fault.Errno);
            Assert.Equal(before, Holdings.Descriptors());
        }
    }

    [Fact]
    public void The_peer_is_who_the_kernel_says()
    {
        using Scratch scratch = new();
        using UnixSocket listener = UnixSocket.Listen(scratch.File("s"), 8, 0x180).OrThrow();
        Assert.Equal(Errno.EAGAIN, Hostile.Of(listener.Accept()));
        using UnixSocket client = UnixSocket.Connect(scratch.File("s")).OrThrow();
        using UnixSocket server = listener.Accept().OrThrow();
        PeerCredentials peer = server.Peer().OrThrow();
        Assert.Equal(Environment.ProcessId, peer.ProcessId);
        Assert.Equal(ThisProcess.UserId, peer.UserId);
        Assert.Equal(Errno.EAGAIN, server.Receive(new byte[8]).Fault.Errno);

        Result<FileHandle> process = server.PeerProcess();
        if (process.Ok)
        {
            using FileHandle handle = process.Value;
            Assert.Contains($"Pid:\t{Environment.ProcessId}", File.ReadLines($"/proc/self/fdinfo/{handle.Descriptor}"));
            Assert.Equal((false, false), Poll.Wait(handle.Descriptor, server.Descriptor, 0));
        }
        else
        {
            Assert.Equal(Errno.ENOPROTOOPT, process.Fault.Errno);
        }
    }

    [Theory]
    [InlineData(0x180, UnixFileMode.UserRead | UnixFileMode.UserWrite)]
    [InlineData(0x1B0, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.GroupWrite)]
    public void A_socket_is_born_with_its_mode(int mode, UnixFileMode expected)
    {
        using Scratch scratch = new();
        uint umask = Libc.Umask(0);
        try
        {
            using UnixSocket listener = UnixSocket.Listen(scratch.File("s"), 8, mode).OrThrow();
            Assert.Equal(expected, File.GetUnixFileMode(scratch.File("s")));
        }
        finally
        {
            Assert.Equal(0u, Libc.Umask(umask)); // as it was before
        }
    }

    [Fact]
    public void A_socket_file_that_is_there_is_left_alone()
    {
        using Scratch scratch = new();
        UnixSocket.Listen(scratch.File("s"), 8, 0x180).OrThrow().Dispose();
        Assert.Equal(Errno.ECONNREFUSED, Hostile.Of(UnixSocket.Connect(scratch.File("s"))));
        Assert.Equal(Errno.EADDRINUSE, Hostile.Of(UnixSocket.Listen(scratch.File("s"), 8, 0x180)));
        Assert.True(File.Exists(scratch.File("s")));
        Assert.Equal(Errno.ENOENT, Hostile.Of(UnixSocket.Connect(scratch.File("other"))));
    }

    [Fact]
    public void A_socket_path_may_have_107_bytes_and_a_longer_one_is_told_the_limit()
    {
        using Scratch scratch = new();
        string longest = scratch.File(new string('s', UnixSocket.MaxPathBytes - scratch.Root.Length - 1));
        using UnixSocket listener = UnixSocket.Listen(longest, 8, 0x180).OrThrow();
        UnixSocket.Connect(longest).OrThrow().Dispose();
        Assert.True(File.Exists(longest));

        Fault listening = UnixSocket.Listen(longest + "s", 8, 0x180).Fault;
        Fault connecting = UnixSocket.Connect(longest[..^1] + "ß").Fault; // two bytes in UTF-8
        Assert.Equal(("bind", Errno.ENAMETOOLONG), (listening.Call, listening.Errno));
        Assert.Equal(("connect", Errno.ENAMETOOLONG), (connecting.Call, connecting.Errno));
        Assert.Contains("108 bytes; a socket path has at most 107", connecting.Subject, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData("\0fastq")]
    public void No_socket_is_made_that_no_mode_protects(string path)
    {
        Assert.Equal(Errno.EINVAL, Hostile.Of(UnixSocket.Listen(path, 8, 0x180)));
        Assert.Equal(Errno.EINVAL, Hostile.Of(UnixSocket.Connect(path)));
    }
}
