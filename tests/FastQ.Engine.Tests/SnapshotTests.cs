using FastQ.Protocol;
using Xunit;

namespace FastQ.Engine.Tests;

/// <summary>The state as bytes: whole, and as a hostile file has it.</summary>
public sealed class SnapshotTests
{
    [Fact]
    public void What_goes_on_from_a_snapshot_equals_what_goes_on_from_the_records()
    {
        using World world = World.WithEverything();
        using QueueEngine loaded = new(new EngineLimits());
        Assert.True(loaded.TryLoad(new MemoryStream(world.Saved())));
        Assert.Equal(World.DumpOf(world.Engine), World.DumpOf(loaded));
        int after = world.Log.Count;
        world.PublishMany(1, 1, 5);
        world.Advance(60_000);
        world.DispatchAll();
        world.Settle(2, 1, 10, 5);
        foreach (Logged logged in world.Log.Skip(after))
        {
            Assert.Equal(ApplyVerdict.Applied, World.Apply(loaded, logged));
        }

        loaded.CheckConservation();
        Assert.Equal(World.DumpOf(world.Engine), World.DumpOf(loaded));
    }

    [Fact]
    public void A_snapshot_of_a_loaded_snapshot_is_the_same_bytes()
    {
        using World world = World.WithEverything();
        byte[] saved = world.Saved();
        world.Restart(fromSnapshot: true);
        Assert.Equal(saved.AsSpan(24).ToArray(), world.Saved().AsSpan(24).ToArray()); // Version and clocks before: the start has its own time.
    }

    [Fact]
    public void A_snapshot_with_any_byte_changed_is_refused_or_leads_to_a_state_that_adds_up()
    {
        using World world = World.WithEverything();
        byte[] saved = world.Saved();
        int refused = 0;
        foreach (byte flip in (byte[])[0x01, 0x80, 0xFF])
        {
            for (int at = 0; at < saved.Length; at++)
            {
                byte[] hostile = [.. saved];
                hostile[at] ^= flip;
                using QueueEngine engine = new(new EngineLimits());
                if (!engine.TryLoad(new MemoryStream(hostile)))
                {
                    refused++;
                    continue;
                }

                World.MustBearWork(engine);
            }
        }

        Assert.True(refused > saved.Length, $"{refused} of {3 * saved.Length} refused");
    }

    [Fact]
    public void A_snapshot_cut_anywhere_is_refused()
    {
        using World world = World.WithEverything();
        byte[] saved = world.Saved();
        for (int length = 0; length < saved.Length; length++)
        {
            using QueueEngine engine = new(new EngineLimits());
            Assert.False(engine.TryLoad(new MemoryStream(saved, 0, length)));
        }
    }

    [Fact]
    public void A_number_beyond_its_bounds_is_refused_wherever_it_stands()
    {
        const ulong Most = 1ul << 62, Latest = long.MaxValue / 4, Negative = 1ul << 63, MoreThanUint = 1ul << 32;
        const ulong ShortLease = Limits.MinLeaseMilliseconds - 1, LongLease = Limits.MaxLeaseMilliseconds + 1;
        using World world = World.WithEverything();
        byte[] saved = world.Saved();
        Dictionary<string, int> places = PlacesOf(saved);
        (string Where, ulong[] Beyond)[] table =
        [
            ("state version", [6, 8]),
            ("state interval", [Negative, Latest + 1]),
            ("state next queue", [0, MoreThanUint]),
            ("state next subscription", [0, MoreThanUint]),
            ("state next producer", [0, Most + 1]),
            ("state next token", [0, Most + 1]),
            ("producer id", [0, 3, Most]),
            ("producer last", [Most + 1]),
            ("producer seen", [Negative, Latest]),
            ("producer refusals", [Limits.MaxKeptRefusals * 2 + 1]),
            ("refusal number", [0, Most]),
            ("refusal which", [0, 1000, Most]),
            ("queue id", [0, 4, uint.MaxValue]),
            ("queue name bytes", [0, Limits.MaxNameBytes + 1]),
            ("queue attribute bytes", [QueueEngine.MaxFactBytes + 1]),
            ("queue lease", [ShortLease, LongLease]),
            ("queue delay", [Limits.MaxDelayMilliseconds + 1, Negative]),
            ("queue ttl", [Limits.MaxDelayMilliseconds + 1, Negative]),
            ("queue max deliveries", [Limits.MostMaxDeliveries + 1, Negative]),
            ("queue backoff first", [Limits.MaxDelayMilliseconds, Negative]), // Above the longest.
            ("queue backoff factor", [999, 100_001]),
            ("queue backoff most", [0, Limits.MaxDelayMilliseconds + 1]),
            ("queue overflow", [1, 3, Negative]), // It has no limit.
            ("queue max message size", [Limits.MaxMessageBytes + 1, Negative]),
            ("queue priority share", [1, 51, Negative]), // It has no priority.
            ("queue next tag", [0, Most + 1]),
            ("queue cursor", [0, 32, Most]),
            ("queue purge next", [1]),
            ("queue purge end", [22, Most]),
            ("queue generation", [ushort.MaxValue + 1]),
            ("queue deleted", [2]),
            ("queue ready", [0, Negative]),
            ("queue delayed", [0, Negative]),
            ("queue dying", [1, Negative]),
            ("queue dead lettered", [77, Most]),
            ("queue published", [0, Most]),
            ("expiry tag", [Most]),
            ("expiry at", [0, Latest + 1, Negative]),
            ("words tag", [1, Most]),
            ("words length", [0, Limits.MaxWordsBytes + 1]),
            ("queue paused", [4, Most]),
            ("queue last used", [Latest, Negative]),
            ("traits tag", [77, Most]),
            ("traits priority", [256, Negative]),
            ("sweep state", [1, 4]),
            ("dedup tag", [Most]),
            ("dedup until", [0, Latest + 1, Negative]),
            ("unique tag", [77, Most]),
            ("unique until started", [2, Negative]),
            ("scheduled tag", [77, Most]),
            ("scheduled since", [Latest, Negative]),
            ("processed until", [Latest + 1, Negative]),
            ("processed result bytes", [Limits.MaxResultBytes + 1, Negative]),
            ("limit field bytes", [513, Most]),
            ("limit parts", [Most, Negative]),
            ("limit at", [Most, Negative]),
            ("flow parts", [Most, Negative]),
            ("flow at", [Most, Negative]),
            ("flow published parts", [Most, Negative]),
            ("breaker known", [5, 1, Negative]), // Less than have failed.
            ("breaker next", [4, Negative]),
            ("breaker tripped", [Most, Negative]),
            ("tenant more", [2, Most]),
            ("tenant parts", [Most, Negative]),
            ("group more", [2, Most]),
            ("group parts", [Most, Negative]),
            ("group at", [Most, Negative]),
            ("due", [0, Latest + 1, Negative]),
            ("entry tag", [Most]),
            ("subscription id", [0, 2]),
            ("subscription queue", [0, 3, 77]), // 3 is the one that is being deleted.
            ("subscription lease", [ShortLease, LongLease]),
            ("subscription rank", [512, Most]),
            ("subscription paused", [2, Most]),
            ("subscription next delivery", [0, Most + 1]),
            ("open delivery", [0, Most]),
            ("open tag", [0, 77]),
            ("open lease end", [Negative, Latest + 1]),
            ("slot id", [MoreThanUint]),
            ("exchange id", [0, 1, Most]),
            ("exchange type", [4, Negative]),
            ("exchange name bytes", [0, Limits.MaxNameBytes + 1]),
            ("exchange alternate bytes", [Limits.MaxNameBytes + 1]),
            ("binding from", [0, 77, Most]),
            ("binding target", [0, 77, Most]),
            ("binding match", [2, Negative]),
            ("binding key bytes", [Limits.MaxNameBytes + 1]),
            ("binding arguments bytes", [Limits.MaxArgumentBytes + 1]),
            ("schedule id", [0, 2, Most]),
            ("schedule queue", [0, 3, Most]), // 3 is the one that is being deleted.
            ("schedule next", [Negative, Latest + 1]),
            ("schedule due", [Negative, Latest + 1]),
            ("schedule last", [Negative, Latest + 1]),
            ("schedule late", [MoreThanUint]),
            ("schedule paused", [2]),
            ("schedule bytes", [0, Limits.MaxScheduleBytes + 1]),
            ("schedules next", [0, 1, MoreThanUint]),
            ("end mark", [0]),
        ];
        Assert.True(IsTaken(saved));
        foreach ((string where, ulong[] beyond) in table)
        {
            foreach (ulong value in beyond)
            {
                byte[] hostile = [.. saved];
                BitConverter.TryWriteBytes(hostile.AsSpan(places[where]), value);
                Assert.False(IsTaken(hostile), $"{where} may be {value}");
            }
        }
    }

    private static bool IsTaken(byte[] state)
    {
        using QueueEngine engine = new(new EngineLimits());
        return engine.TryLoad(new MemoryStream(state));
    }

    /// <summary>Where the numbers of a state stand, as <see cref="QueueEngine.Save"/> writes them; of many of one kind the first.</summary>
    private static Dictionary<string, int> PlacesOf(byte[] saved)
    {
        Dictionary<string, int> places = [];
        int at = 0;
        All("state", "version", "interval", "wall", "next queue", "next subscription", "next producer", "next token");
        for (ulong left = Next("producers"); left > 0; left--)
        {
            All("producer", "id", "last", "epoch", "instance low", "instance high", "floor", "seen");
            for (ulong refusals = Next("producer refusals"); refusals > 0; refusals--)
            {
                All("refusal", "number", "code", "which");
            }
        }

        for (ulong left = Next("limits"); left > 0; left--)
        {
            int fieldBytes = (int)Next("limit field bytes");
            at += fieldBytes;
            All("limit", "parts", "at");
        }

        for (ulong left = Next("queues"); left > 0; left--)
        {
            All("queue", "id", "owner");
            int nameBytes = (int)Next("queue name bytes");
            at += nameBytes;
            int attributeBytes = (int)Next("queue attribute bytes");
            places.TryAdd("queue lease", at + 4); // Behind the tag and the length of its field; so the next ones.
            string[] attributes = ["delay", "ttl", "max deliveries", "backoff first", "backoff factor", "backoff most", "max length", "max bytes", "overflow", "max message size", "priority", "priority share"];
            for (int i = 0; i < attributes.Length; i++)
            {
                places.TryAdd($"queue {attributes[i]}", at + 16 + i * 12);
            }

            FlowLimits flow = QueueAttributes.From(saved.AsSpan(at, attributeBytes)).Flow;
            at += attributeBytes;
            All("queue", "next tag", "cursor", "purge next", "purge end", "generation", "deleted", "ready", "in flight", "delayed", "damaged", "dying", "published", "accepted", "rejected", "exhausted", "expired", "overflowed", "dead lettered", "purged", "moved", "redelivered", "paused", "last used");
            int delayed = 0;
            while (Next("entry tag") != 0)
            {
                delayed += System.Runtime.InteropServices.MemoryMarshal.Read<IndexEntry>(saved.AsSpan(at)).State == EntryState.Delayed ? 1 : 0;
                at += IndexEntry.SizeBytes;
            }

            for (; delayed > 0; delayed--)
            {
                Next("due");
            }

            while (Next("expiry tag") != 0)
            {
                Next("expiry at");
            }

            while (Next("words tag") != 0)
            {
                at += (int)Next("words length");
            }

            while (Next("traits tag") != 0)
            {
                All("traits", "priority", "tenant", "line");
            }

            if (Next("sweep state") != 0)
            {
                All("sweep", "action", "first", "end", "rate", "done", "failed");
                int targetBytes = (int)Next("sweep target bytes");
                at += targetBytes;
                int filterBytes = (int)Next("sweep filter bytes");
                at += filterBytes;
            }

            while (Next("dedup tag") != 0)
            {
                All("dedup", "until", "low", "high");
            }

            while (Next("unique tag") != 0)
            {
                All("unique", "until started", "low", "high");
            }

            while (Next("scheduled tag") != 0)
            {
                All("scheduled", "since", "low", "high");
            }

            while (Next("processed until") != 0)
            {
                All("processed", "low", "high");
                int resultBytes = (int)Next("processed result bytes");
                at += resultBytes;
            }

            if (flow == FlowLimits.None)
            {
                continue;
            }

            All("flow", "parts", "at", "published parts", "published at");
            if (flow.Breaker.Window > 0)
            {
                All("breaker", "known", "next", "tripped", "trial", "bits");
            }

            while (Next("tenant more") != 0)
            {
                All("tenant", "tenant", "parts", "at");
            }

            while (Next("group more") != 0)
            {
                All("group", "tenant", "key", "parts", "at");
            }
        }

        for (ulong left = Next("subscriptions"); left > 0; left--)
        {
            All("subscription", "id", "queue", "producer", "lease", "rank", "paused", "next delivery");
            for (ulong open = Next("subscription open"); open > 0; open--)
            {
                All("open", "delivery", "tag", "lease end");
            }
        }

        for (ulong left = Next("slots"); left > 0; left--)
        {
            All("slot", "id", "left");
        }

        for (ulong left = Next("exchanges"); left > 0; left--)
        {
            All("exchange", "id", "type", "discarded");
            int nameBytes = (int)Next("exchange name bytes");
            at += nameBytes;
            int alternateBytes = (int)Next("exchange alternate bytes");
            at += alternateBytes;
        }

        for (ulong left = Next("bindings"); left > 0; left--)
        {
            All("binding", "from", "target", "match");
            int keyBytes = (int)Next("binding key bytes");
            at += keyBytes;
            int argumentBytes = (int)Next("binding arguments bytes");
            at += argumentBytes;
        }

        Next("schedules next");
        for (ulong left = Next("schedules"); left > 0; left--)
        {
            All("schedule", "id", "queue", "next", "due", "last", "fired", "failed", "late", "paused");
            int definitionBytes = (int)Next("schedule bytes");
            at += definitionBytes;
        }

        Next("end mark");
        Assert.Equal(saved.Length, at);
        return places;

        void All(string of, params string[] names) => Array.ForEach(names, name => Next($"{of} {name}"));

        ulong Next(string name)
        {
            places.TryAdd(name, at);
            at += sizeof(ulong);
            return BitConverter.ToUInt64(saved, at - sizeof(ulong));
        }
    }

    [Fact]
    public void A_subscription_to_a_queue_that_is_being_deleted_is_refused()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q"), gone = world.Declare("gone");
        world.Subscribe(queue, producer);
        world.PublishMany(producer, gone, 3);
        world.Delete(gone);
        byte[] saved = world.Saved();
        Assert.True(IsTaken(saved));
        BitConverter.TryWriteBytes(saved.AsSpan(PlacesOf(saved)["subscription queue"]), (ulong)gone);
        Assert.False(IsTaken(saved));
    }

    [Fact]
    public void A_message_with_two_owners_is_refused()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        uint first = world.Subscribe(queue, producer, credit: 1);
        world.Subscribe(queue, producer, credit: 1);
        world.PublishMany(producer, queue, 2);
        Assert.Equal(2, world.DispatchAll().Count);
        byte[] saved = world.Saved();
        // | ... | delivery 1, tag, lease end of the first subscription | eight numbers of the second | delivery 1, tag, lease end | slot count, slot, left | exchanges, bindings | next schedule, schedules | end mark
        Span<ulong> numbers = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, ulong>(saved.AsSpan(saved.Length % 8));
        int secondTag = numbers.Length - 8 - 2;
        int firstTag = secondTag - 11;
        Assert.Equal(3ul, numbers[firstTag] + numbers[secondTag]);
        numbers[secondTag] = numbers[firstTag];
        using QueueEngine engine = new(new EngineLimits());
        Assert.False(engine.TryLoad(new MemoryStream(saved)));
        Assert.NotEqual(0u, first);
    }

    [Fact]
    public void A_line_that_is_no_group_has_the_priority_of_its_messages()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", QueueAttributes.Default with { Priority = true });
        world.Publish(producer, queue, properties: World.Turn(priority: 7));
        byte[] saved = world.Saved();
        BitConverter.TryWriteBytes(saved.AsSpan(PlacesOf(saved)["traits line"]), 8ul);
        Assert.False(IsTaken(saved));
    }
}
