using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace FastQ.Engine.Tests;

/// <summary>The index of a queue and what it stands on: beside a dictionary, and by the memory that it takes.</summary>
public sealed class IndexTests
{
    /// <summary>Adds a burst, removes a part by some pattern, and so on. Small and large numbers both matter: pages hold 1,023.</summary>
    private static readonly Gen<(int Adds, int Removes, int Pattern)[]> s_bursts =
        Gen.Choose(0, 1 << 20).Select(bits => ((bits & 7) switch { < 3 => bits >> 3 & 7, < 6 => bits >> 3 & 255, _ => bits >> 3 & 4095 }, bits >> 9 & 4095, bits >> 5 & 3)).ArrayOf(24);

    [Fact]
    public void An_index_holds_what_a_dictionary_holds_whatever_comes_and_goes()
    {
        Prop.ForAll(Arb.From(s_bursts), bursts =>
        {
            using PageAllocator pages = new(long.MaxValue);
            using QueueIndex index = new(pages, new WarmTails());
            SortedDictionary<ulong, uint> model = [];
            foreach ((int adds, int removes, int pattern) in bursts)
            {
                for (int i = 0; i < adds; i++)
                {
                    ulong tag = index.NextTag;
                    bool needsMemory = index.NeedsMemory;
                    long used = pages.UsedBytes;
                    ref IndexEntry entry = ref index.Add(tag);
                    (entry.Slot, entry.State) = ((uint)tag * 7, EntryState.Ready);
                    model.Add(tag, (uint)tag * 7);
                    Assert.True(needsMemory || pages.UsedBytes == used, "memory came unannounced");
                }

                foreach (ulong tag in Chosen(model.Keys.ToArray(), removes, pattern))
                {
                    index.Remove(tag, ref index.Find(tag));
                    model.Remove(tag);
                }

                Compare(index, model);
            }

            foreach (ulong tag in model.Keys.ToArray())
            {
                index.Remove(tag, ref index.Find(tag));
            }

            index.Cool();
            Assert.True(pages.UsedBytes <= PageAllocator.PageBytes, "an empty queue keeps more than one small piece");
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(40).WithReplay(982451653, 32452867));
    }

    [Fact]
    public void Messages_that_stay_cost_bytes_not_pages()
    {
        using PageAllocator pages = new(long.MaxValue);
        using QueueIndex index = new(pages, new WarmTails());
        const int Count = 2_000_000;
        for (ulong tag = 1; tag <= Count; tag++)
        {
            index.Add(tag).State = EntryState.Ready;
            if (tag > 1000 && (tag - 1000) % 1000 != 0)
            {
                index.Remove(tag - 1000, ref index.Find(tag - 1000));
            }
        }

        int left = 0;
        for (ulong tag = index.Next(0, Count + 1); tag <= Count - 1000; tag = index.Next(tag + 1, Count + 1))
        {
            left++;
        }

        Assert.Equal((Count - 1000) / 1000, left);
        long bytes = pages.UsedBytes + index.TableBytes - 3 * PageAllocator.PageBytes;
        Assert.True(bytes <= 64L * left, $"{bytes / left} bytes for a message that stays (DESIGN-REVIEW R41)");
    }

    [Fact]
    public void A_message_that_stays_for_ever_does_not_make_the_table_grow_with_what_passes()
    {
        using PageAllocator pages = new(long.MaxValue);
        using QueueIndex index = new(pages, new WarmTails());
        index.Add(1).State = EntryState.Ready;
        for (ulong tag = 2; tag <= 5_000_000; tag++)
        {
            index.Add(tag).State = EntryState.Ready;
            index.Remove(tag, ref index.Find(tag));
        }

        Assert.False(System.Runtime.CompilerServices.Unsafe.IsNullRef(ref index.Find(1)));
        Assert.True(index.TableBytes < 32 * 1024, $"the table has {index.TableBytes} bytes");
        Assert.True(pages.UsedBytes <= 3 * PageAllocator.PageBytes, $"the pages have {pages.UsedBytes} bytes");
    }

    [Fact]
    public void Many_small_queues_share_pages()
    {
        using PageAllocator pages = new(long.MaxValue);
        WarmTails warm = new();
        List<QueueIndex> indexes = [];
        for (int i = 0; i < 10_000; i++)
        {
            QueueIndex index = new(pages, warm);
            index.Add(1).State = EntryState.Ready;
            indexes.Add(index);
        }

        Assert.True(pages.UsedBytes / indexes.Count < 64, $"{pages.UsedBytes / indexes.Count} bytes for a queue of one message");
        foreach (QueueIndex index in indexes)
        {
            for (ulong tag = 2; tag < 900; tag++)
            {
                index.Add(tag).State = EntryState.Ready;
            }

            for (ulong tag = 1; tag < 900; tag++)
            {
                index.Remove(tag, ref index.Find(tag));
            }
        }

        Assert.True(pages.UsedBytes / indexes.Count < 1024, $"{pages.UsedBytes / indexes.Count} bytes for a queue that is empty again");
        Assert.True(pages.ReservedBytes < pages.UsedBytes + 4 * 1024 * 1024, "free chunks are kept");
        indexes.ForEach(index => index.Dispose());
        Assert.Equal(0, pages.UsedBytes);
    }

    [Fact]
    public void A_queue_that_is_deleted_while_it_is_warm_is_not_touched_when_others_are_warm()
    {
        using PageAllocator pages = new(long.MaxValue);
        WarmTails warm = new();
        QueueIndex deleted = NearlyEmpty(pages, warm);
        deleted.Dispose();
        List<QueueIndex> others = [.. Enumerable.Range(0, 70).Select(_ => NearlyEmpty(pages, warm))];
        Assert.Equal(0, deleted.TableBytes);
        Assert.All(others, index => Assert.Equal(100, CountOf(index)));
        others.ForEach(index => index.Dispose());
        Assert.Equal(0, pages.UsedBytes);
    }

    [Fact]
    public void What_is_left_in_the_last_two_pages_is_packed_when_others_are_warm()
    {
        using PageAllocator pages = new(long.MaxValue);
        using QueueIndex index = new(pages, new WarmTails());
        const ulong FirstOfTail = QueueIndex.EntriesAPage, End = 2001;
        AddTo(index, End);
        RemoveFrom(index, FirstOfTail, End - 50);
        index.Cool();
        RemoveFrom(index, 1, FirstOfTail - 50); // Its neighbour is packed already.
        index.Cool();
        Assert.Equal(PageAllocator.PageBytes, pages.UsedBytes);
        Assert.Equal(100, CountOf(index));
        Assert.Equal(FirstOfTail - 50, index.Next(0, End));
    }

    [Fact]
    public void A_message_that_is_gone_is_not_found_whichever_page_was_looked_at_last()
    {
        using PageAllocator pages = new(long.MaxValue);
        using QueueIndex index = new(pages, new WarmTails());
        AddTo(index, 3001);
        index.Remove(5, ref index.Find(5));
        foreach (ulong last in (ulong[])[4, 2500])
        {
            Assert.Equal(EntryState.Ready, index.Find(last).State);
            Assert.True(System.Runtime.CompilerServices.Unsafe.IsNullRef(ref index.Find(5)), $"after {last}");
        }
    }

    /// <summary>A hundred messages in a page for a thousand.</summary>
    private static QueueIndex NearlyEmpty(PageAllocator pages, WarmTails warm)
    {
        QueueIndex index = new(pages, warm);
        AddTo(index, 401);
        RemoveFrom(index, 1, 301);
        return index;
    }

    private static void AddTo(QueueIndex index, ulong end)
    {
        while (index.NextTag < end)
        {
            index.Add(index.NextTag).State = EntryState.Ready;
        }
    }

    private static void RemoveFrom(QueueIndex index, ulong first, ulong end)
    {
        for (ulong tag = first; tag < end; tag++)
        {
            index.Remove(tag, ref index.Find(tag));
        }
    }

    private static int CountOf(QueueIndex index)
    {
        int count = 0;
        for (ulong tag = index.Next(0, index.NextTag); tag < index.NextTag; tag = index.Next(tag + 1, index.NextTag))
        {
            count++;
        }

        return count;
    }

    [Fact]
    public void Memory_that_went_back_to_the_system_is_handed_to_nobody()
    {
        using PageAllocator pages = new(long.MaxValue);
        List<(nint Memory, int Bytes)> taken = [];
        const long MiB = 1024 * 1024;
        for (int round = 0; round < 3; round++)
        {
            while (pages.UsedBytes < 3 * MiB)
            {
                Take(pages, taken, PageAllocator.PageBytes);
            }

            Assert.Equal(3 * MiB, pages.ReservedBytes);
            Assert.Equal(taken.Count, taken.Select(piece => piece.Memory).Distinct().Count());
            while (taken.Count > 0)
            {
                GiveBack(pages, taken, 0);
            }

            Assert.Equal(1 * MiB, pages.ReservedBytes);
        }
    }

    [Fact]
    public void An_allocator_gives_zeroed_memory_that_nobody_else_has()
    {
        Gen<int[]> sizes = Gen.Choose(0, 9).ArrayOf(600);
        Prop.ForAll(Arb.From(sizes), steps =>
        {
            using PageAllocator pages = new(long.MaxValue);
            List<(nint Memory, int Bytes)> taken = [];
            foreach (int step in steps)
            {
                if (step < 5 || taken.Count == 0)
                {
                    Take(pages, taken, new[] { 32, 128, 512, 4096, PageAllocator.PageBytes }[step % 5]);
                }
                else
                {
                    GiveBack(pages, taken, step * 31 % taken.Count);
                }
            }

            Assert.Equal(taken.Count, taken.Select(piece => piece.Memory).Distinct().Count());
            while (taken.Count > 0)
            {
                GiveBack(pages, taken, 0);
            }

            Assert.Equal(0, pages.UsedBytes);
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(50).WithReplay(7, 15));
    }

    [Fact]
    public void A_sparse_ring_holds_what_a_dictionary_holds()
    {
        Prop.ForAll(Arb.From(s_bursts), bursts =>
        {
            using SparseRing<OpenDelivery> ring = new();
            SortedDictionary<ulong, ulong> model = [];
            ulong next = 1;
            foreach ((int adds, int removes, int pattern) in bursts)
            {
                next += pattern == 3 ? (ulong)removes * 3 : 0; // Gaps, as a repair has them.
                for (int i = 0; i < adds; i++, next++)
                {
                    ring.Append(next, new OpenDelivery { Tag = next * 3 });
                    model.Add(next, next * 3);
                }

                foreach (ulong index in Chosen(model.Keys.ToArray(), removes, pattern))
                {
                    ring.Vacate(index);
                    model.Remove(index);
                }

                Assert.Equal(model.Count, ring.Live);
                Assert.True(ring.Bytes <= 96 * 1024 + 512L * Math.Max(model.Count, adds), $"{ring.Bytes} bytes for {model.Count}");
                List<(ulong, ulong)> found = [];
                for (ulong index = ring.NextOccupied(0); index != ulong.MaxValue; index = ring.NextOccupied(index + 1))
                {
                    found.Add((index, ring.Find(index).Tag));
                }

                Assert.Equal(model.Select(pair => (pair.Key, pair.Value)), found);
            }
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(60).WithReplay(13, 27));
    }

    [Fact]
    public void What_outlives_its_neighbours_is_found_and_what_has_left_is_not()
    {
        using SparseRing<OpenDelivery> ring = new();
        ulong[] stay = [7, 1000, 2000, 3000];
        for (ulong index = 1; index <= 9000; index++)
        {
            ring.Append(index, new OpenDelivery { Tag = index });
        }

        for (ulong index = 1; index <= 8990; index++)
        {
            if (!stay.Contains(index))
            {
                ring.Vacate(index);
            }
        }

        Assert.True(ring.Bytes < 48 * 1024, $"{ring.Bytes} bytes"); // Not the 256 KiB of all that passed.
        Assert.Equal(7ul, ring.NextOccupied(0));
        ring.Vacate(1000);
        Assert.Equal(7ul, ring.NextOccupied(0));
        foreach (ulong left in (ulong[])[1, 6, 8, 999, 1000, 1001, 3001])
        {
            Assert.True(System.Runtime.CompilerServices.Unsafe.IsNullRef(ref ring.Find(left)), $"{left} is found");
            Assert.False(ring.TryTake(left, out _));
        }

        Assert.All((ulong[])[7, 2000, 3000], index => Assert.Equal(index, ring.Find(index).Tag));
        Assert.Equal(2000ul, ring.NextOccupied(8));
    }

    private static IEnumerable<ulong> Chosen(ulong[] all, int count, int pattern) => pattern switch
    {
        0 => all.Take(count),
        1 => all.Reverse().Take(count),
        2 => all.Where((_, i) => i % 97 != 0),
        _ => all.Where((_, i) => i % 3 == 0).Take(count),
    };

    private static void Compare(QueueIndex index, SortedDictionary<ulong, uint> model)
    {
        List<ulong> found = [];
        for (ulong tag = index.Next(0, index.NextTag); tag < index.NextTag; tag = index.Next(tag + 1, index.NextTag))
        {
            found.Add(tag);
            Assert.Equal(model[tag], index.Find(tag).Slot);
        }

        Assert.Equal(model.Keys, found);
    }

    private static unsafe void Take(PageAllocator pages, List<(nint Memory, int Bytes)> taken, int bytes)
    {
        byte* memory = pages.Take(bytes);
        Assert.False(new Span<byte>(memory, bytes).ContainsAnyExcept((byte)0));
        new Span<byte>(memory, bytes).Fill((byte)taken.Count);
        taken.Add(((nint)memory, bytes));
    }

    private static unsafe void GiveBack(PageAllocator pages, List<(nint Memory, int Bytes)> taken, int at)
    {
        (nint memory, int bytes) = taken[at];
        Span<byte> span = new((byte*)memory, bytes);
        Assert.False(span.ContainsAnyExcept(span[0]), "somebody else wrote there");
        pages.Return((byte*)memory, bytes);
        taken.RemoveAt(at);
    }
}
