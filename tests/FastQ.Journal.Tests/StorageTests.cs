using System.Text;
using FastQ.Linux;
using Xunit;

namespace FastQ.Journal;

/// <summary>What the journal relies on, whatever the body. Each body has a class below that names it.</summary>
public abstract class StorageTests : IDisposable
{
    protected string Directory { get; } = System.IO.Directory.CreateTempSubdirectory("fastq-test-").FullName;

    /// <summary>A storage over what the test has made so far; null: this machine refuses the body, and the refusal was looked at.</summary>
    private protected abstract IStorage? Make();

    public void Dispose()
    {
        System.IO.Directory.Delete(Directory, recursive: true);
        GC.SuppressFinalize(this);
    }

    private void With(Action<IStorage> story)
    {
        using IStorage? storage = Make();
        if (storage is not null)
        {
            story(storage);
        }
    }

    private string At(string name) => Path.Combine(Directory, name);

    [Fact]
    public void A_file_that_is_not_there_is_ENOENT_and_one_that_is_made_is_listed_in_order() => With(storage =>
    {
        Result<IStoredFile> missing = storage.Open(At("b"), create: false);
        Assert.Equal(Errno.ENOENT, missing.Fault.Errno);
        storage.Open(At("b"), create: true).OrThrow().Dispose();
        storage.Open(At("a"), create: true).OrThrow().Dispose();
        Assert.Equal(["a", "b"], storage.List(Directory).OrThrow());
        Assert.Empty(storage.List(At("nowhere")).OrThrow());
        Assert.Equal(Errno.ENOENT, storage.Open(At("nowhere/c"), create: true).Fault.Errno);
    });

    [Fact]
    public void A_directory_may_be_made_twice() => With(storage =>
    {
        storage.MakeDirectory(At("d")).OrThrow();
        storage.MakeDirectory(At("d")).OrThrow();
        storage.SyncDirectory(Directory).OrThrow();
        storage.Open(At("d/f"), create: true).OrThrow().Dispose();
        Assert.Equal(["f"], storage.List(At("d")).OrThrow());
        Assert.Equal(Errno.ENOTDIR, storage.MakeDirectory(At("d/f")).Fault.Errno);
    });

    [Fact]
    public void What_was_written_reads_back_and_reads_end_with_the_file() => With(storage =>
    {
        using IStoredFile file = storage.Open(At("f"), create: true).OrThrow();
        file.WriteAt("hello"u8, 3).OrThrow();
        Assert.Equal(8, file.Length().OrThrow());
        byte[] read = new byte[16];
        Assert.Equal(8, file.ReadAt(read, 0).OrThrow());
        Assert.Equal("\0\0\0hello", Encoding.ASCII.GetString(read, 0, 8));
        Assert.Equal(2, file.ReadAt(read, 6).OrThrow());
        Assert.Equal(0, file.ReadAt(read, 100).OrThrow());
    });

    [Fact]
    public void Allocated_room_reads_as_zeroes_and_keeps_what_was_there() => With(storage =>
    {
        using IStoredFile file = storage.Open(At("f"), create: true).OrThrow();
        file.WriteAt("x"u8, 0).OrThrow();
        file.Allocate(10_000).OrThrow();
        byte[] read = new byte[10_000];
        Assert.Equal(10_000, file.Length().OrThrow());
        Assert.Equal(10_000, file.ReadAt(read, 0).OrThrow());
        Assert.Equal((byte)'x', read[0]);
        Assert.All(read[1..], one => Assert.Equal(0, one));
    });

    [Fact]
    public unsafe void Each_thing_handed_over_ends_once_under_its_token() => With(storage =>
    {
        const int Count = 40;
        using IStoredFile file = storage.Open(At("f"), create: true).OrThrow();
        using NativeBuffer buffer = new(Count * 4096);
        for (int i = 0; i < Count; i++)
        {
            new Span<byte>(buffer.Address + i * 4096, 4096).Fill((byte)(i + 1));
            storage.Write(file, buffer.Address + i * 4096, 4096, i * 4096, (ulong)(100 + i));
        }

        storage.Run(() => Result.Success, 7);
        storage.Run(() => new Fault("write", Errno.ENOSPC, "here"), 8);
        Dictionary<ulong, Fault?> ended = EndsOf(storage);
        Assert.Equal(Enumerable.Range(100, Count).Select(i => (ulong)i).Append(7ul).Append(8ul).Order(), ended.Keys.Order());
        Assert.Equal(Errno.ENOSPC, ended[8]!.Value.Errno);
        Assert.All(ended.Where(end => end.Key != 8), end => Assert.Null(end.Value));

        byte[] read = new byte[Count * 4096];
        Assert.Equal(read.Length, file.ReadAt(read, 0).OrThrow());
        Assert.All(Enumerable.Range(0, Count), i => Assert.Equal((byte)(i + 1), read[(i + 1) * 4096 - 1]));
    });

    [Fact]
    public unsafe void A_sync_after_the_writes_ends_and_the_disk_has_them() => With(storage =>
    {
        using IStoredFile file = storage.Open(At("f"), create: true).OrThrow();
        using NativeBuffer buffer = new(8192);
        buffer.Span.Fill(9);
        storage.Write(file, buffer.Address, 8192, 4096, 20);
        Assert.Null(EndsOf(storage)[20]);
        storage.Sync(file, 3);
        Assert.Null(EndsOf(storage)[3]);

        byte[] read = new byte[4096];
        Result<int> disk = file.ReadDisk(read, 8192);
        if (!disk.Ok)
        {
            Assert.Equal(Errno.EINVAL, disk.Fault.Errno); // A file system without a disk behind its cache says so.
            return;
        }

        Assert.Equal(4096, disk.Value);
        Assert.All(read, one => Assert.Equal(9, one));
    });

    [Fact]
    public void Jobs_run_one_after_the_other_and_see_what_the_ones_before_did() => With(storage =>
    {
        List<int> order = [];
        for (int i = 0; i < 20; i++)
        {
            int number = i;
            storage.Run(
                () =>
                {
                    order.Add(number);
                    return Result.Success;
                },
                (ulong)i);
        }

        Assert.Equal(20, EndsOf(storage).Count);
        Assert.Equal(Enumerable.Range(0, 20), order);
    });

    [Fact]
    public void Idle_it_is_not_busy_and_a_poll_gives_nothing() => With(storage =>
    {
        Assert.False(storage.IsBusy);
        Assert.Equal(0, storage.Poll(new StorageCompletion[32]));
        storage.Run(() => Result.Success, 1);
        Assert.True(storage.IsBusy);
        EndsOf(storage);
        Assert.False(storage.IsBusy);
    });

    [Fact]
    public void A_poll_without_room_takes_nothing_and_loses_nothing() => With(storage =>
    {
        storage.Run(() => Result.Success, 1);
        storage.WaitForCompletion();
        Assert.Equal(0, storage.Poll([]));
        Assert.True(storage.IsBusy);
        Assert.Null(Assert.Single(EndsOf(storage)).Value);
    });

    [Fact]
    public void A_directory_is_no_file_and_nothing_is_made_below_what_is_not_there() => With(storage =>
    {
        storage.MakeDirectory(At("d")).OrThrow();
        Assert.Equal(Errno.EISDIR, storage.Open(At("d"), create: false).Fault.Errno);
        Assert.Equal(Errno.ENOENT, storage.MakeDirectory(At("nowhere/d")).Fault.Errno);
    });

    [Fact]
    public void A_rename_replaces_and_an_unlinked_file_stays_readable_while_it_is_open() => With(storage =>
    {
        using IStoredFile old = storage.Open(At("new"), create: true).OrThrow();
        old.WriteAt("old"u8, 0).OrThrow();
        using (IStoredFile made = storage.Open(At("made.tmp"), create: true).OrThrow())
        {
            made.WriteAt("made"u8, 0).OrThrow();
            made.Sync().OrThrow();
        }

        storage.Rename(At("made.tmp"), At("new")).OrThrow();
        storage.SyncDirectory(Directory).OrThrow();
        Assert.Equal(["new"], storage.List(Directory).OrThrow());
        byte[] read = new byte[8];
        using IStoredFile now = storage.Open(At("new"), create: false).OrThrow();
        Assert.Equal("made", Encoding.ASCII.GetString(read, 0, now.ReadAt(read, 0).OrThrow()));
        Assert.Equal("old", Encoding.ASCII.GetString(read, 0, old.ReadAt(read, 0).OrThrow()));

        storage.Unlink(At("new")).OrThrow();
        Assert.Empty(storage.List(Directory).OrThrow());
        Assert.Equal("made", Encoding.ASCII.GetString(read, 0, now.ReadAt(read, 0).OrThrow()));
        Assert.Equal(Errno.ENOENT, storage.Unlink(At("new")).Fault.Errno);
        Assert.Equal(Errno.ENOENT, storage.Rename(At("new"), At("newer")).Fault.Errno);
    });

    [Fact]
    public void A_second_descriptor_for_passing_on_cannot_write() => With(storage =>
    {
        using IStoredFile file = storage.Open(At("f"), create: true).OrThrow();
        if (file.OpenReadOnly() is not Result<FileHandle> second)
        {
            Assert.Equal("simulated", storage.Name); // A disk in memory has no descriptors.
            return;
        }

        using FileHandle handle = second.OrThrow();
        Assert.Equal(Errno.EBADF, handle.WriteAt("x"u8, 0).Fault.Errno);
    });

    [Fact]
    public void A_journal_written_through_it_is_found_again()
    {
        if (Make() is not IStorage storage)
        {
            return;
        }

        ulong[] put;
        using (Ledger first = Ledger.Open(storage, At("data")))
        {
            put = [.. Enumerable.Range(0, 300).Select(_ => first.Put(700))];
            first.Sync();
            Assert.Equal(300, first.Confirmed);
        }

        using Ledger second = Ledger.Open(Make()!, At("data"));
        Assert.Equal(put, second.Live);
        second.ReadAll();
    }

    private static Dictionary<ulong, Fault?> EndsOf(IStorage storage)
    {
        Dictionary<ulong, Fault?> ended = [];
        StorageCompletion[] taken = new StorageCompletion[32];
        while (storage.IsBusy)
        {
            storage.WaitForCompletion();
            int count = storage.Poll(taken);
            for (int i = 0; i < count; i++)
            {
                Assert.True(ended.TryAdd(taken[i].Token, taken[i].Fault), $"token {taken[i].Token} ended twice");
            }
        }

        return ended;
    }
}

public sealed class ThreadStorageTests : StorageTests
{
    private protected override IStorage? Make() => new ThreadStorage();
}

public sealed class UringStorageTests : StorageTests
{
    [Fact]
    public unsafe void What_was_handed_over_has_reached_the_file_when_the_ring_is_gone()
    {
        const int Bytes = 8 * 1024 * 1024;
        using NativeBuffer buffer = new(Bytes);
        buffer.Span.Fill(7);
        if (Make() is not IStorage storage)
        {
            return;
        }

        using (IStoredFile file = storage.Open(Path.Combine(Directory, "f"), create: true).OrThrow())
        {
            storage.Write(file, buffer.Address, Bytes, 0, 20);
            storage.Sync(file, 21);
            storage.Dispose();
            Assert.False(storage.IsBusy, "the kernel may still look at the buffer");
        }

        byte[] read = File.ReadAllBytes(Path.Combine(Directory, "f"));
        Assert.Equal(Bytes, read.Length);
        Assert.False(read.AsSpan().ContainsAnyExcept((byte)7));
    }

    // Where io_uring is forbidden (most containers) the promise is a refusal that says why, and the factory's other choice.
    private protected override IStorage? Make()
    {
        Result<UringStorage> made = UringStorage.Create();
        if (made.Ok)
        {
            return made.Value;
        }

        Assert.True(made.Fault.Errno is Errno.EPERM or Errno.ENOSYS or Errno.EACCES or Errno.ENOMEM, made.Fault.ToString());
        using IStorage other = StorageFactory.Open(StorageKind.IoUring, out string note);
        Assert.Equal("thread", other.Name);
        Assert.Contains(made.Fault.Errno.ToString(), note, StringComparison.Ordinal);
        return null;
    }
}

public sealed class SimulatedStorageTests : StorageTests
{
    [Fact]
    public void A_write_that_the_disk_said_it_had_can_be_taken_back_as_long_as_it_is_what_lies_there()
    {
        _disk.SyncedWritesKept = 2;
        using IStoredFile file = Durable("f", 1024);
        file.WriteAt(Filled(512, 2), 512).OrThrow();
        file.Sync().OrThrow();
        file.WriteAt(Filled(512, 3), 0).OrThrow();
        file.Sync().OrThrow();
        using SimulatedStorage next = _disk.AfterKill();
        IReadOnlyList<SyncedWrite> writes = next.SyncedWrites();
        Assert.Equal([(1L, 1, 2), (0L, 1, 3)], writes.Select(write => (write.Sectors[0].Sector, (int)write.Sectors[0].Before[0], (int)write.Sectors[0].Since[0])));
        Assert.True(next.Undo(writes[0]));
        Assert.False(next.Undo(writes[0]));
        Assert.Equal([3, 1], FirstsOf(next.BytesOf(file.Path)));
        next.Misplace(writes[1], file.Path, sector: 1);
        next.Misplace(writes[1], file.Path, sector: 2); // The file ends before it.
        Assert.Equal([3, 3], FirstsOf(next.BytesOf(file.Path)));
        next.Put(file.Path, new byte[512]);
        Assert.False(next.Undo(writes[0]));
        next.Put(file.Path, null);
        Assert.False(next.Undo(writes[1]));
        Assert.Empty(next.BytesOf(file.Path));
        Assert.Empty(next.SyncedWrites());

        static int[] FirstsOf(byte[] bytes) => [.. bytes.Chunk(512).Select(sector => (int)sector[0])];
    }

    [Fact]
    public void Two_syncs_may_cover_the_same_bytes()
    {
        using IStoredFile file = Durable("f", 1024);
        file.WriteAt(Filled(512, 2), 0).OrThrow();
        _disk.Sync(file, 1);
        _disk.Sync(file, 2);
        file.WriteAt(Filled(512, 3), 512).OrThrow();
        Assert.Equal(2, _disk.Poll(new StorageCompletion[8]));
        Assert.Equal([2, 1], SectorsAfter(_ => Survival.Lost));
        Assert.Equal([2, 3], SectorsAfter(_ => Survival.Kept));
    }

    [Fact]
    public void What_is_read_around_the_cache_is_what_was_written_last()
    {
        using IStoredFile file = Durable("f", 1024);
        file.WriteAt(Filled(512, 2), 512).OrThrow();
        byte[] read = new byte[1024];
        Assert.Equal(1024, file.ReadDisk(read, 0).OrThrow());
        Assert.Equal([1, 2], [read[0], read[512]]);
    }

    [Fact]
    public void A_file_that_was_passed_on_grows_and_rots_for_those_who_have_it_too()
    {
        using (IStoredFile file = Durable("f", 512))
        {
            using FileHandle passed = file.OpenReadOnly()!.Value.OrThrow();
            file.WriteAt(Filled(512, 2), 512).OrThrow();
            file.Allocate(2048).OrThrow();
            _disk.Rot(file.Path, 3, 0xFF);
            byte[] read = new byte[4096];
            Assert.Equal(2048, passed.ReadAt(read, 0).OrThrow());
            Assert.Equal([1, 0xFE, 1, 2, 0], [read[2], read[3], read[4], read[512], read[1024]]);
        }

        _disk.Dispose();
    }

    private readonly SimulatedStorage _disk;

    public SimulatedStorageTests()
    {
        _disk = new SimulatedStorage(Directory);
    }

    private protected override IStorage? Make() => _disk;

    // What only this body can show: the difference between the cache and the disk.
    [Fact]
    public void What_was_not_synced_is_lost_or_kept_sector_by_sector()
    {
        using IStoredFile file = Durable("f", 2048);
        file.WriteAt(Filled(2048, 2), 0).OrThrow();
        Assert.Equal([1, 1, 1, 1], SectorsAfter(_ => Survival.Lost));
        Assert.Equal([2, 2, 2, 2], SectorsAfter(_ => Survival.Kept));
        Assert.Equal([1, 2, 1, 2], SectorsAfter(what => what.Sector % 2 == 1 ? Survival.Kept : Survival.Lost));
        byte[] torn = BytesAfter(what => what.Sector == 0 ? Survival.Torn : Survival.Lost);
        Assert.Equal([2, 1], [torn[255], torn[256]]);
    }

    [Fact]
    public void A_sync_covers_what_was_there_when_it_was_asked_for()
    {
        using IStoredFile file = Durable("f", 1024);
        file.WriteAt(Filled(512, 2), 0).OrThrow();
        _disk.Sync(file, 1);
        file.WriteAt(Filled(512, 3), 512).OrThrow();
        Assert.Equal([1, 1], SectorsAfter(_ => Survival.Lost));
        Assert.Equal(1, _disk.Poll(new StorageCompletion[8]));
        Assert.Equal([2, 1], SectorsAfter(_ => Survival.Lost));
    }

    [Fact]
    public void A_failed_sync_leaves_the_bytes_in_the_cache_and_no_later_one_brings_them()
    {
        using IStoredFile file = Durable("f", 512);
        file.WriteAt(Filled(512, 2), 0).OrThrow();
        _disk.Fail = step => step.Kind == StorageStepKind.Sync ? Errno.EIO : Errno.None;
        Assert.Equal(Errno.EIO, file.DataSync().Fault.Errno);
        _disk.Fail = null;
        file.DataSync().OrThrow();
        byte[] read = new byte[512];
        file.ReadAt(read, 0).OrThrow();
        Assert.Equal(2, read[0]);
        file.ReadDisk(read, 0).OrThrow();
        Assert.Equal(1, read[0]);
        Assert.Equal([1], SectorsAfter(_ => Survival.Kept));
    }

    [Fact]
    public void A_name_lasts_only_with_its_directory_synced_and_a_rename_is_whole()
    {
        Durable("f", 512).Dispose();
        _disk.Open(Path.Combine(Directory, "g"), create: true).OrThrow().Dispose();
        _disk.Rename(Path.Combine(Directory, "f"), Path.Combine(Directory, "h")).OrThrow();
        Assert.Equal(["f"], _disk.AfterPowerLoss(_ => Survival.Lost).List(Directory).OrThrow());
        Assert.Equal(["g", "h"], _disk.AfterPowerLoss(_ => Survival.Kept).List(Directory).OrThrow());
        Assert.Equal(["h"], _disk.AfterPowerLoss(what => what.Kind == StorageStepKind.Rename ? Survival.Kept : Survival.Lost).List(Directory).OrThrow());
        _disk.SyncDirectory(Directory).OrThrow();
        Assert.Equal(["g", "h"], _disk.AfterPowerLoss(_ => Survival.Lost).List(Directory).OrThrow());
    }

    [Fact]
    public void A_killed_process_leaves_its_writes_to_the_next_and_they_are_still_not_synced()
    {
        using IStoredFile file = Durable("f", 512);
        file.WriteAt(Filled(512, 2), 0).OrThrow();
        SimulatedStorage next = _disk.AfterKill();
        using IStoredFile again = next.Open(file.Path, create: false).OrThrow();
        byte[] read = new byte[512];
        again.ReadAt(read, 0).OrThrow();
        Assert.Equal(2, read[0]);
        next.AfterPowerLoss(_ => Survival.Lost).Open(file.Path, create: false).OrThrow().ReadAt(read, 0).OrThrow();
        Assert.Equal(1, read[0]);
    }

    [Fact]
    public void A_failure_strikes_the_step_that_it_is_meant_for_and_changes_nothing()
    {
        using IStoredFile file = Durable("f", 512);
        long steps = _disk.Steps;
        _disk.Fail = step => step.Number == steps + 1 ? Errno.ENOSPC : Errno.None;
        Fault fault = file.WriteAt(Filled(512, 2), 0).Fault;
        Assert.Equal((Errno.ENOSPC, file.Path), (fault.Errno, fault.Subject));
        Assert.Equal([1], SectorsAfter(_ => Survival.Kept));
        Assert.Equal(steps, _disk.Steps);
    }

    private static byte[] Filled(int bytes, byte with)
    {
        byte[] filled = new byte[bytes];
        filled.AsSpan().Fill(with);
        return filled;
    }

    private IStoredFile Durable(string name, int bytes)
    {
        IStoredFile file = _disk.Open(Path.Combine(Directory, name), create: true).OrThrow();
        file.WriteAt(Filled(bytes, 1), 0).OrThrow();
        file.Sync().OrThrow();
        _disk.SyncDirectory(Directory).OrThrow();
        return file;
    }

    private byte[] BytesAfter(Func<Unsynced, Survival> survives)
    {
        using IStoredFile file = _disk.AfterPowerLoss(survives).Open(Path.Combine(Directory, "f"), create: false).OrThrow();
        byte[] bytes = new byte[file.Length().OrThrow()];
        file.ReadAt(bytes, 0).OrThrow();
        return bytes;
    }

    private int[] SectorsAfter(Func<Unsynced, Survival> survives) => [.. BytesAfter(survives).Chunk(512).Select(sector => (int)sector[0])];
}
