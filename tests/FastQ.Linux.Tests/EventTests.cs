using System.Runtime.CompilerServices;
using Xunit;

namespace FastQ.Linux.Tests;

public sealed class EventTests
{
    // DESIGN-REVIEW R32: the doorbell of a session is edge-triggered and never read.
    [Fact]
    public void A_doorbell_that_is_never_read_wakes_once_a_ring()
    {
        using EventDescriptor bell = EventDescriptor.Create().OrThrow();
        using EpollSet set = EpollSet.Create().OrThrow();
        set.Add(bell.Descriptor, EpollInterest.In | EpollInterest.Edge, 77).OrThrow();
        EpollEvent[] events = new EpollEvent[4];
        Assert.Equal(0, set.Wait(events, 0));
        for (int ring = 0; ring < 100; ring++)
        {
            bell.Signal();
            Assert.Equal(1, set.Wait(events, Wait.Patience));
            Assert.Equal((77UL, true, false), (events[0].Token, events[0].IsReadable, events[0].IsHangup));
            Assert.Equal(0, set.Wait(events, 0));
        }
    }

    [Fact]
    public void A_doorbell_out_of_the_set_wakes_nobody_and_comes_back_with_another_token()
    {
        using EventDescriptor bell = EventDescriptor.Create().OrThrow();
        using EpollSet set = EpollSet.Create().OrThrow();
        EpollEvent[] events = new EpollEvent[4];
        set.Add(bell.Descriptor, EpollInterest.In, 1).OrThrow();
        Assert.Equal(Errno.EEXIST, Hostile.Of(set.Add(bell.Descriptor, EpollInterest.In, 1)));
        bell.Signal();
        set.Remove(bell.Descriptor).OrThrow();
        Assert.Equal(0, set.Wait(events, 0));
        Assert.Equal(Errno.ENOENT, Hostile.Of(set.Remove(bell.Descriptor)));
        set.Add(bell.Descriptor, EpollInterest.In, ulong.MaxValue).OrThrow();
        set.Change(bell.Descriptor, EpollInterest.In, 1UL << 63).OrThrow();
        Assert.Equal(1, set.Wait(events, Wait.Patience));
        Assert.Equal(1UL << 63, events[0].Token);
        bell.Drain();
        Assert.Equal(0, set.Wait(events, 0));
    }

    [Fact]
    public void Several_events_of_one_wait_keep_their_tokens()
    {
        Assert.Equal(12, Unsafe.SizeOf<EpollEvent>()); // packed, as the kernel has it
        using EpollSet set = EpollSet.Create().OrThrow();
        EventDescriptor[] bells = [.. Enumerable.Range(0, 5).Select(static _ => EventDescriptor.Create().OrThrow())];
        for (int i = 0; i < bells.Length; i++)
        {
            set.Add(bells[i].Descriptor, EpollInterest.In, 1000 + (ulong)i).OrThrow();
            bells[i].Signal();
        }

        EpollEvent[] events = new EpollEvent[8];
        Assert.Equal(5, set.Wait(events, Wait.Patience));
        Assert.Equal([1000UL, 1001UL, 1002UL, 1003UL, 1004UL], events[..5].Select(static one => one.Token).Order());
        Array.ForEach(bells, static bell => bell.Dispose());
    }

    [Fact]
    public void The_end_of_a_peer_is_a_hangup()
    {
        (UnixSocket a, UnixSocket b) = UnixSocket.Pair().OrThrow();
        using EpollSet set = EpollSet.Create().OrThrow();
        using (b)
        {
            set.Add(b.Descriptor, EpollInterest.In | EpollInterest.PeerHangup, 1).OrThrow();
            EpollEvent[] events = new EpollEvent[1];
            Assert.Equal(0, set.Wait(events, 0));
            a.Dispose();
            Assert.Equal(1, set.Wait(events, Wait.Patience));
            Assert.True(events[0].IsHangup);
        }
    }

    [Fact]
    public void A_wait_on_a_closed_set_is_our_bug()
    {
        using EpollSet open = EpollSet.Create().OrThrow();
        Assert.Throws<InvariantViolation>(() => open.Wait([], 0));
        EpollSet closed = EpollSet.Create().OrThrow();
        closed.Dispose();
        Assert.Throws<InvariantViolation>(() => closed.Wait(new EpollEvent[1], 0));
    }

    [Fact]
    public void A_full_eventfd_does_not_hold_its_ringer()
    {
        using EventDescriptor bell = EventDescriptor.Create().OrThrow();
        using FileHandle raw = FileHandle.Adopt(Libc.Control(bell.Descriptor, 0, 0), "duplicate");
        Fill(raw);
        bell.Signal();
        Assert.Equal((true, false), Poll.Wait(bell.Descriptor, -1, Wait.Patience));
        bell.Drain();
        Assert.Equal((false, false), Poll.Wait(bell.Descriptor, -1, 0));
    }

    [Fact]
    public void A_full_pipe_or_one_without_reader_does_not_hold_its_ringer()
    {
        (FileHandle read, FileHandle write) = Pipe.Create().OrThrow();
        using (write)
        {
            using (read)
            {
                Assert.Equal((false, false), Poll.Wait(read.Descriptor, -1, 0));
                int written = 0;
                while (Pipe.TryWriteByte(write))
                {
                    written++;
                }

                Assert.True(written >= 4096);
                Assert.Equal((true, false), Poll.Wait(read.Descriptor, -1, Wait.Patience));
                Pipe.Drain(read);
                Assert.Equal((false, false), Poll.Wait(read.Descriptor, -1, 0));
                Assert.True(Pipe.TryWriteByte(write));
            }

            Assert.False(Pipe.TryWriteByte(write));
        }
    }

    [Fact]
    public void A_sleeper_on_two_descriptors_is_told_which_woke_it_also_when_the_ringer_died()
    {
        (FileHandle read, FileHandle write) = Pipe.Create().OrThrow();
        (UnixSocket a, UnixSocket b) = UnixSocket.Pair().OrThrow();
        using (a)
        using (b)
        using (read)
        {
            Assert.Equal((false, false), Poll.Wait(read.Descriptor, b.Descriptor, 0));
            a.Send("x"u8).OrThrow();
            Assert.Equal((false, true), Poll.Wait(read.Descriptor, b.Descriptor, Wait.Patience));
            write.Dispose();
            Assert.Equal((true, true), Poll.Wait(read.Descriptor, b.Descriptor, Wait.Patience));
        }
    }

    [Fact]
    public void A_ring_from_another_thread_ends_the_wait()
    {
        using EventDescriptor bell = EventDescriptor.Create().OrThrow();
        using EpollSet set = EpollSet.Create().OrThrow();
        set.Add(bell.Descriptor, EpollInterest.In, 5).OrThrow();
        Thread ringer = new(bell.Signal);
        ringer.Start();
        EpollEvent[] events = new EpollEvent[1];
        Assert.Equal(1, set.Wait(events, Wait.Patience));
        ringer.Join();
        Assert.Equal(5UL, events[0].Token);
    }

    private static unsafe void Fill(FileHandle eventfd)
    {
        ulong most = ulong.MaxValue - 1;
        Assert.Equal(8, Libc.Write(eventfd.Descriptor, (byte*)&most, 8));
    }
}
