using Xunit;

namespace FastQ.Linux.Tests;

/// <summary>Each operation, with each of its calls failing in turn, leaves the process as it was: no descriptor, no mapping.</summary>
public sealed class LeakTests
{
    // So large that a reservation left behind cannot hide in the runtime's own coming and going: it takes address space and no memory.
    private const long Vast = 1L << 39;

    private static readonly Dictionary<string, (int Calls, Func<Scratch, Result<Both>> Run)> s_operations = new()
    {
        ["open"] = (1, static scratch => Of(FileHandle.Open(scratch.File("f"), OpenMode.ReadWrite | OpenMode.Create))),
        ["memory file"] = (2, static _ => Of(MemoryFile.Create("leak-probe", 4096))),
        ["mapping of a file"] = (2, static scratch => OverVast(file => Mapping.OfFile(file, Vast, Protection.ReadWrite))),
        ["huge mapping of a file"] = (3, static scratch => OverVast(file => Mapping.OfFile(file, Vast, Protection.Read, hugeAligned: true, dontFork: true))),
        ["mirrored mapping"] = (5, static scratch => OverVast(file => Mapping.Mirrored(file, 0, Vast, Protection.ReadWrite, dontFork: true))),
        ["memory"] = (1, static _ => Of(Mapping.OfMemory(4096))),
        ["eventfd"] = (1, static _ => Of(EventDescriptor.Create())),
        ["pipe"] = (1, static _ => Of(Pipe.Create(), static ends => new Both(ends.Read, ends.Write))),
        ["epoll"] = (1, static _ => Of(EpollSet.Create())),
        ["epoll with a descriptor"] = (3, static _ => WithEpoll()),
        ["listen"] = (3, static scratch => Of(UnixSocket.Listen(scratch.File("listening"), 1, 0x180))),
        ["connect"] = (2, static scratch => Of(UnixSocket.Connect(scratch.File("socket")))),
        ["socket pair"] = (1, static _ => Of(UnixSocket.Pair(), static ends => new Both(ends.A, ends.B))),
        ["sync of a directory"] = (2, static scratch => Done(Directories.Sync(scratch.Root))),
        ["io_uring"] = (3, static _ => Of(IoUring.Create(8))),
        ["io_uring with a signal"] = (5, static _ => WithSignal()),
    };

    public static TheoryData<string> Operations => [.. s_operations.Keys];

    [Theory]
    [MemberData(nameof(Operations))]
    public void Nothing_is_left_behind_whichever_call_fails(string name)
    {
        (int calls, Func<Scratch, Result<Both>> run) = s_operations[name];
        if (name.StartsWith("io_uring", StringComparison.Ordinal) && !IoUring.IsAllowed())
        {
            // The promise there is a typed failure of the first call that leaves nothing behind; the journal then uses its thread storage.
            using Scratch forbidden = new();
            string[] before = Holdings.Descriptors();
            Assert.False(run(forbidden).Ok);
            Assert.Equal(before, Holdings.Descriptors());
            return;
        }

        using Scratch warm = new();
        using (UnixSocket listener = UnixSocket.Listen(warm.File("socket"), 8, 0x180).OrThrow())
        {
            run(warm).OrThrow().Dispose();
        }

        int failing = 1;
        while (true)
        {
            using Scratch scratch = new();
            using UnixSocket listener = UnixSocket.Listen(scratch.File("socket"), 8, 0x180).OrThrow();
            string[] descriptors = Holdings.Descriptors();
            int mappings = Mappings();
            long addressSpace = Holdings.AddressSpace();

            Check.FailAt(failing, Errno.EMFILE);
            Result<Both> result = run(scratch);
            bool succeeded = Check.FailurePending;
            Check.FailAt(0, Errno.None);
            Assert.Equal(succeeded, result.Ok);
            if (result.Ok)
            {
                result.Value.Dispose();
            }
            else
            {
                Assert.Equal(Errno.EMFILE, result.Fault.Errno);
            }

            Assert.Equal(descriptors, Holdings.Descriptors());
            Assert.Equal(mappings, Mappings());
            Assert.InRange(Holdings.AddressSpace() - addressSpace, long.MinValue, Vast / 2);
            if (succeeded)
            {
                break;
            }

            failing++;
        }

        Assert.Equal(calls, failing - 1); // a call that cannot be made to fail would be a row that is not tested
    }

    [Fact]
    public void A_failed_accept_or_receive_leaves_the_connection_and_the_packet_for_the_next()
    {
        using Scratch scratch = new();
        using UnixSocket listener = UnixSocket.Listen(scratch.File("socket"), 8, 0x180).OrThrow();
        using UnixSocket client = UnixSocket.Connect(scratch.File("socket")).OrThrow();
        string[] before = Holdings.Descriptors();
        Check.FailAt(1, Errno.EMFILE);
        Assert.Equal(Errno.EMFILE, Hostile.Of(listener.Accept()));
        Assert.Equal(before, Holdings.Descriptors());
        using UnixSocket server = listener.Accept().OrThrow();

        client.Send("x"u8, [client.Descriptor]).OrThrow();
        before = Holdings.Descriptors();
        int[] descriptors = new int[1];
        Check.FailAt(1, Errno.ENOMEM);
        Assert.Equal(Errno.ENOMEM, server.Receive(new byte[1], descriptors).Fault.Errno);
        Assert.Equal(before, Holdings.Descriptors());
        Assert.Equal(new Received(1, 1), server.Receive(new byte[1], descriptors).OrThrow());
        FileHandle.Adopt(descriptors[0], "received").Dispose();
    }

    [Fact]
    public void The_kernels_own_refusals_leave_nothing_behind_either()
    {
        using Scratch scratch = new();
        using FileHandle file = scratch.OpenNew("read only");
        using FileHandle readOnly = FileHandle.Open(file.Path, OpenMode.ReadOnly).OrThrow();
        using UnixSocket listener = UnixSocket.Listen(scratch.File("socket"), 8, 0x180).OrThrow();
        string[] descriptors = Holdings.Descriptors();
        long addressSpace = Holdings.AddressSpace();
        Assert.Equal(Errno.EACCES, Hostile.Of(Mapping.OfFile(readOnly, Vast, Protection.ReadWrite)));
        Assert.Equal(Errno.EACCES, Hostile.Of(Mapping.Mirrored(readOnly, 0, Vast, Protection.ReadWrite)));
        Assert.Equal(Errno.EINVAL, Hostile.Of(MemoryFile.Create(new string('n', 300), 1)));
        Assert.Equal(Errno.EINVAL, Hostile.Of(MemoryFile.Create("negative", -1)));
        Assert.Equal(Errno.EADDRINUSE, Hostile.Of(UnixSocket.Listen(scratch.File("socket"), 8, 0x180)));
        Assert.Equal(Errno.ENOENT, Hostile.Of(UnixSocket.Connect(scratch.File("nobody"))));
        Assert.Equal(descriptors, Holdings.Descriptors());
        Assert.InRange(Holdings.AddressSpace() - addressSpace, long.MinValue, Vast / 2);
    }

    private static int Mappings() => Holdings.Mappings("io_uring") + Holdings.Mappings("leak-probe");

    private static Result<Both> Of<T>(Result<T> result)
        where T : IDisposable => Of(result, static value => new Both(value));

    private static Result<Both> Of<T>(Result<T> result, Func<T, Both> owned) => result.Ok ? owned(result.Value) : result.Fault;

    private static Result<Both> Done(Result result) => result.Ok ? new Both() : result.Fault;

    private static Result<Both> OverVast(Func<FileHandle, Result<Mapping>> map)
    {
        // The file itself is made by the bare calls, so that only the mapping's calls are counted.
        using FileHandle file = FileHandle.Adopt(Libc.MemoryFile("leak-probe", 1), "leak-probe");
        Assert.Equal(0, Libc.Truncate(file.Descriptor, Vast));
        return Of(map(file));
    }

    private static Result<Both> WithEpoll()
    {
        Result<EventDescriptor> bell = EventDescriptor.Create();
        if (!bell.Ok)
        {
            return bell.Fault;
        }

        Result<EpollSet> set = EpollSet.Create();
        if (!set.Ok)
        {
            bell.Value.Dispose();
            return set.Fault;
        }

        Result added = set.Value.Add(bell.Value.Descriptor, EpollInterest.In, 1);
        Both both = new(set.Value, bell.Value);
        if (added.Ok)
        {
            return both;
        }

        both.Dispose();
        return added.Fault;
    }

    private static Result<Both> WithSignal()
    {
        Result<EventDescriptor> signal = EventDescriptor.Create();
        if (!signal.Ok)
        {
            return signal.Fault;
        }

        Result<IoUring> ring = IoUring.Create(8, signal.Value);
        if (ring.Ok)
        {
            return new Both(ring.Value, signal.Value);
        }

        signal.Value.Dispose();
        return ring.Fault;
    }

    private sealed class Both(params IDisposable[] owned) : IDisposable
    {
        public void Dispose() => Array.ForEach(owned, static one => one.Dispose());
    }
}
