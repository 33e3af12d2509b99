using Xunit;

namespace FastQ.Linux.Tests;

public sealed unsafe class IoUringTests
{
    /// <summary>Where the kernel forbids io_uring, the promise is another one: a typed failure, from which the journal falls back to its thread storage.</summary>
    private static bool Forbidden()
    {
        if (IoUring.IsAllowed())
        {
            return false;
        }

        Result<IoUring> refused = IoUring.Create(8);
        Assert.False(refused.Ok);
        Assert.Contains(refused.Fault.Errno, (Errno[])[Errno.EPERM, Errno.ENOSYS]);
        return true;
    }

    [Fact]
    public void What_was_written_and_synced_is_read_back()
    {
        if (Forbidden())
        {
            return;
        }

        using Scratch scratch = new();
        using FileHandle file = scratch.OpenNew("slot");
        using Mapping buffer = Mapping.OfMemory(8192).OrThrow();
        using IoUring ring = IoUring.Create(8).OrThrow();
        new Span<byte>(buffer.Address, 4096).Fill(0xA5);

        Assert.Equal(new Completion(1, 4096), One(ring, ring.TryWrite(file.Descriptor, buffer.Address, 4096, 4096, 1)));
        Assert.Equal(new Completion(2, 0), One(ring, ring.TryDataSync(file.Descriptor, 2)));
        Assert.Equal(new Completion(3, 4096), One(ring, ring.TryRead(file.Descriptor, buffer.Address + 4096, 4096, 4096, 3)));
        Assert.Equal(buffer.Bytes(0, 4096), buffer.Bytes(4096, 4096));
        byte[] read = new byte[8192];
        Assert.Equal(8192, file.ReadAt(read, 0).OrThrow());
        Assert.Equal(buffer.Bytes(0, 4096), read.AsSpan(4096));
    }

    [Fact]
    public void A_failed_operation_gives_the_errno_with_its_token()
    {
        if (Forbidden())
        {
            return;
        }

        using IoUring ring = IoUring.Create(2).OrThrow();
        using FileHandle full = FileHandle.Open("/dev/full", OpenMode.ReadWrite).OrThrow();
        byte one = 1;
        Assert.Equal(new Completion(9, -(int)Errno.ENOSPC), One(ring, ring.TryWrite(full.Descriptor, &one, 1, 0, 9)));
        Assert.Equal(new Completion(ulong.MaxValue, -(int)Errno.EINVAL), One(ring, ring.TryDataSync(full.Descriptor, ulong.MaxValue)));
    }

    [Fact]
    public void A_full_queue_refuses_and_has_room_after_it_was_submitted()
    {
        if (Forbidden())
        {
            return;
        }

        using IoUring ring = IoUring.Create(4).OrThrow();
        for (ulong token = 0; token < 4; token++)
        {
            Assert.True(ring.TryNop(token));
        }

        Assert.False(ring.TryNop(4));
        Assert.Equal(4, ring.Queued);
        ring.Submit().OrThrow();
        Assert.Equal(0, ring.Queued);
        Assert.True(ring.TryNop(4));
        ring.SubmitAndWait(5).OrThrow();
        Completion[] taken = new Completion[8];
        Assert.Equal(2, ring.TakeCompletions(taken.AsSpan(0, 2)));
        Assert.Equal(3, ring.TakeCompletions(taken.AsSpan(2)));
        Assert.Equal([0UL, 1UL, 2UL, 3UL, 4UL], taken[..5].Select(static one => one.Token).Order());
        Assert.Equal(0, ring.TakeCompletions(taken));
    }

    [Fact]
    public void No_completion_is_lost_however_long_they_are_left_lying()
    {
        if (Forbidden())
        {
            return;
        }

        using IoUring ring = IoUring.Create(4).OrThrow();
        ulong queued = 0;
        while (queued < 100 && ring.TryNop(queued))
        {
            queued++;
            ring.Submit().OrThrow();
        }

        Assert.Equal(8UL, queued); // as many as the completion ring holds
        Completion[] taken = new Completion[16];
        ring.SubmitAndWait(8).OrThrow();
        Assert.Equal(8, ring.TakeCompletions(taken));
        Assert.True(ring.TryNop(queued));
    }

    [Fact]
    public void The_rings_go_round_many_times()
    {
        if (Forbidden())
        {
            return;
        }

        using IoUring ring = IoUring.Create(4).OrThrow();
        for (ulong token = 0; token < 1000; token++)
        {
            Assert.Equal(new Completion(token, 0), One(ring, ring.TryNop(token)));
        }
    }

    [Fact]
    public void What_a_failed_submit_did_not_hand_over_never_begins()
    {
        if (Forbidden())
        {
            return;
        }

        using Scratch scratch = new();
        using FileHandle file = scratch.OpenNew("slot");
        using IoUring ring = IoUring.Create(4).OrThrow();
        byte one = 1;
        Assert.True(ring.TryWrite(file.Descriptor, &one, 1, 0, 1));
        Check.FailAt(1, Errno.EAGAIN);
        Assert.Equal(new Fault("io_uring_enter", Errno.EAGAIN, "io_uring"), ring.Submit().Fault);
        Assert.Equal(0, ring.Queued);
        Assert.Equal(new Completion(2, 0), One(ring, ring.TryNop(2)));
        Assert.Equal(0, ring.TakeCompletions(new Completion[4]));
        Assert.Equal(0, file.Length().OrThrow());
    }

    [Fact]
    public void The_kernel_rings_at_each_completion()
    {
        if (Forbidden())
        {
            return;
        }

        using EventDescriptor signal = EventDescriptor.Create().OrThrow();
        using IoUring ring = IoUring.Create(4, signal).OrThrow();
        Assert.True(ring.TryNop(1));
        Assert.Equal((false, false), Poll.Wait(signal.Descriptor, -1, 0));
        ring.Submit().OrThrow();
        Assert.Equal((true, false), Poll.Wait(signal.Descriptor, -1, Wait.Patience));
        Assert.Equal(1, ring.TakeCompletions(new Completion[4]));
    }

    [Fact]
    public void Waiting_for_more_than_is_under_way_is_our_bug()
    {
        if (Forbidden())
        {
            return;
        }

        using IoUring ring = IoUring.Create(4).OrThrow();
        Assert.Throws<InvariantViolation>(() => ring.SubmitAndWait(1));
    }

    private static Completion One(IoUring ring, bool queued)
    {
        Assert.True(queued);
        ring.SubmitAndWait(1).OrThrow();
        Span<Completion> taken = new Completion[2];
        Assert.Equal(1, ring.TakeCompletions(taken));
        return taken[0];
    }
}
