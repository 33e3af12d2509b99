using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using FastQ.Protocol;
using Xunit;
using Outcome = FastQ.Protocol.Outcome;

namespace FastQ.Engine.Tests;

/// <summary>Exchanges: which queues a message goes to, all or nothing, and that it is stored once.</summary>
public sealed class RoutingTests
{
    /// <summary>Names of the queues that a message went to, in order.</summary>
    private static string Reached(World world, ulong producer, uint exchange, string key, byte[]? more = null)
    {
        Decision decision = world.Route(producer, exchange, key, out RoutedTarget[] targets, isOptional: true, more);
        Assert.True(decision.IsTaken);
        world.Check();
        return string.Join(',', targets.Select(target => world.Engine.View(target.Queue).Name).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void A_direct_exchange_gives_to_the_queues_of_the_key_and_a_fanout_to_all_each_once()
    {
        using World world = new();
        ulong producer = world.Open();
        uint direct = world.DeclareExchange("a", ExchangeType.Direct), all = world.DeclareExchange("b", ExchangeType.Fanout);
        uint a = world.Declare("a"), b = world.Declare("b"); // Names of queues are names of queues.
        Assert.True(world.Bind(direct, a, "red").IsTaken && world.Bind(direct, b, "red").IsTaken && world.Bind(direct, b, "").IsTaken);
        Assert.True(world.Bind(all, a).IsTaken && world.Bind(all, b, "x").IsTaken && world.Bind(all, b, "y").IsTaken && world.Bind(all, b, "y").IsTaken);
        Assert.Equal(("a,b", "b", "", ""), (Reached(world, producer, direct, "red"), Reached(world, producer, direct, ""), Reached(world, producer, direct, "re"), Reached(world, producer, direct, "redd")));
        Assert.Equal("a,b", Reached(world, producer, all, "whatever"));
        Assert.Equal((2ul, 3ul), (world.Engine.View(a).Published, world.Engine.View(b).Published));
        Assert.Equal((2ul, 0ul), (world.Engine.ViewExchange(direct).Discarded, world.Engine.ViewExchange(all).Discarded));
        Assert.True(world.Bind(direct, b, "red", isBound: false).IsTaken && world.Bind(direct, b, "red", isBound: false).IsTaken);
        Assert.Equal("a", Reached(world, producer, direct, "red"));
    }

    // CASES B128: '#' stands for no word, too.
    [Theory]
    [InlineData("#", "", true)]
    [InlineData("#", "a", true)]
    [InlineData("#", "a.b.c", true)]
    [InlineData("a.#", "a", true)]
    [InlineData("a.#", "a.b.c", true)]
    [InlineData("a.#", "b.a", false)]
    [InlineData("#.a", "a", true)]
    [InlineData("#.a", "a.a.b.a", true)]
    [InlineData("#.a", "a.b", false)]
    [InlineData("a.#.b", "a.b", true)]
    [InlineData("a.#.b", "a.x.y.b", true)]
    [InlineData("a.#.b", "a.x", false)]
    [InlineData("#.#", "", true)]
    [InlineData("#.*.#", "", false)]
    [InlineData("#.*.#", "a.b", true)]
    [InlineData("*", "a", true)]
    [InlineData("*", "", false)]
    [InlineData("*", "a.b", false)]
    [InlineData("*.b", "a.b", true)]
    [InlineData("*.b", ".b", true)]
    [InlineData("a.*", "a", false)]
    [InlineData("a.*", "a.", true)]
    [InlineData("a*", "ab", false)]
    [InlineData("a*", "a*", true)]
    [InlineData("a.b", "a.b", true)]
    [InlineData("a.b", "a.b.", false)]
    [InlineData("", "", true)]
    [InlineData("", "a", false)]
    public void A_topic_exchange_compares_words(string pattern, string key, bool fits)
    {
        using World world = new();
        ulong producer = world.Open();
        uint topic = world.DeclareExchange("t", ExchangeType.Topic);
        uint q = world.Declare("q"), other = world.Declare("other");
        world.Bind(topic, q, pattern);
        world.Bind(topic, other, "zz.zz");
        Assert.Equal(fits ? "q" : "", Reached(world, producer, topic, key));
        Assert.Equal(fits ? "q" : "", Reached(world, producer, topic, key)); // Now from the searches that are kept.
        world.Bind(topic, q, pattern, isBound: false);
        Assert.Equal("", Reached(world, producer, topic, key));
        Assert.Equal("other", Reached(world, producer, topic, "zz.zz"));
    }

    /// <summary>The rule of words, written down plainly.</summary>
    private static bool Fits(ReadOnlySpan<string> pattern, ReadOnlySpan<string> key)
    {
        if (pattern.IsEmpty)
        {
            return key.IsEmpty;
        }

        if (pattern[0] == "#")
        {
            return Fits(pattern[1..], key) || (!key.IsEmpty && Fits(pattern, key[1..]));
        }

        return !key.IsEmpty && (pattern[0] == "*" || pattern[0] == key[0]) && Fits(pattern[1..], key[1..]);
    }

    [Fact]
    public void Any_patterns_and_keys_fit_as_the_rule_says_and_a_key_full_of_words_takes_no_time_to_speak_of()
    {
        using World world = new(isLogging: false);
        ulong producer = world.Open();
        uint topic = world.DeclareExchange("t", ExchangeType.Topic);
        string[] words = ["#", "*", "a", "b"];
        List<(uint Queue, string[] Pattern)> patterns = [];
        for (int i = 0; i < 256; i++)
        {
            string[] pattern = [.. Enumerable.Range(0, i % 5).Select(at => words[(i >> (2 * at)) & 3])];
            uint queue = world.Declare(string.Create(CultureInfo.InvariantCulture, $"q{i}"));
            patterns.Add((queue, pattern));
            world.Bind(topic, queue, string.Join('.', pattern));
        }

        for (int i = 0; i < 128; i++)
        {
            string[] key = [.. Enumerable.Range(0, i % 6).Select(at => words[2 + ((i >> at) & 1)])];
            Assert.True(world.Route(producer, topic, string.Join('.', key), out RoutedTarget[] targets, isOptional: true).IsTaken);
            Assert.Equal(patterns.Where(row => Fits(row.Pattern, key)).Select(row => row.Queue), targets.Select(target => target.Queue).Order());
        }

        // Tried one way after the other, this would take longer than the universe lasts.
        world.Bind(topic, world.Declare("many"), string.Join('.', Enumerable.Repeat("#.a", 60)) + ".z");
        Assert.True(world.Route(producer, topic, string.Join('.', Enumerable.Repeat("a", 120)), out _, isOptional: true).IsTaken);
    }

    private static byte[] Headers(params (string Key, PropertyType Type, long Value)[] headers)
    {
        PropertyWriter writer = new(new byte[1000]);
        foreach ((string key, PropertyType type, long value) in headers)
        {
            byte[] bytes = new byte[8];
            BinaryPrimitives.WriteInt64LittleEndian(bytes, type == PropertyType.Double ? BitConverter.DoubleToInt64Bits(value) : value);
            writer.Header(key, type, type == PropertyType.Text ? Encoding.UTF8.GetBytes(value.ToString(CultureInfo.InvariantCulture)) : bytes);
        }

        return writer.Written.ToArray();
    }

    [Fact]
    public void A_headers_exchange_compares_names_types_and_values_all_or_any_of_them()
    {
        using World world = new();
        ulong producer = world.Open();
        uint headers = world.DeclareExchange("h", ExchangeType.Headers);
        uint all = world.Declare("all"), any = world.Declare("any"), none = world.Declare("none");
        byte[] wanted = Headers(("a", PropertyType.Int64, 1), ("b", PropertyType.Text, 2));
        world.Bind(headers, all, arguments: wanted);
        world.Bind(headers, any, arguments: wanted, match: HeaderMatch.Any);
        world.Bind(headers, none, match: HeaderMatch.Any);
        Assert.Equal("all,any", Reached(world, producer, headers, "k", wanted));
        Assert.Equal("any", Reached(world, producer, headers, "k", Headers(("a", PropertyType.Int64, 1))));
        Assert.Equal("any", Reached(world, producer, headers, "k", Headers(("a", PropertyType.Double, 1)))); // Integers and doubles are numbers.
        Assert.Equal("", Reached(world, producer, headers, "k", Headers(("a", PropertyType.Text, 1))));
        Assert.Equal("", Reached(world, producer, headers, "k", Headers(("A", PropertyType.Int64, 1))));
        Assert.Equal("", Reached(world, producer, headers, "k", Headers(("a", PropertyType.Int64, 1), ("a", PropertyType.Int64, 2)))); // The last counts.
        world.Bind(headers, none);
        Assert.Equal("any,none", Reached(world, producer, headers, "k", Headers(("b", PropertyType.Text, 2))));
        Assert.Equal(RefusalCode.BadArgument, world.Bind(headers, none, arguments: World.Routed("k")).Code);
        Assert.Equal(RefusalCode.BadArgument, world.Bind(world.DeclareExchange("d", ExchangeType.Direct), none, arguments: wanted).Code);
    }

    [Fact]
    public void Exchanges_bound_in_a_circle_give_a_message_to_each_queue_once_and_the_alternate_gets_what_nobody_wants()
    {
        using World world = new();
        ulong producer = world.Open();
        uint one = world.DeclareExchange("one", ExchangeType.Direct, "rest"), two = world.DeclareExchange("two", ExchangeType.Topic), rest = world.DeclareExchange("rest", ExchangeType.Fanout, "one");
        uint a = world.Declare("a"), b = world.Declare("b"), c = world.Declare("c");
        world.Bind(one, two, "k");
        world.Bind(two, one, "#");
        world.Bind(two, two, "*");
        world.Bind(one, a, "k");
        world.Bind(two, a, "k");
        world.Bind(two, b, "k");
        Assert.Equal("a,b", Reached(world, producer, one, "k"));
        Assert.Equal("a,b", Reached(world, producer, two, "k"));
        Assert.Equal("", Reached(world, producer, one, "other")); // Its alternate has no queue, and comes back.
        world.Bind(rest, c);
        Assert.Equal("c", Reached(world, producer, one, "other"));
        world.Check();
        world.Restart(fromSnapshot: true);
        Assert.Equal("c", Reached(world, producer, one, "other"));
        Assert.True(world.DeleteExchange(two).IsTaken);
        Assert.Equal(("a", RefusalCode.UnknownExchange), (Reached(world, producer, one, "k"), world.Bind(two, a, "k").Code));
        Assert.True(world.DeleteExchange(rest).IsTaken);
        Assert.Equal("", Reached(world, producer, one, "other"));
    }

    // CASES B107: a message that matches no queue is not confirmed and dropped without a word.
    [Fact]
    public void What_reaches_no_queue_is_refused_or_where_the_sender_says_so_counted()
    {
        using World world = new();
        ulong producer = world.Open();
        uint exchange = world.DeclareExchange("e", ExchangeType.Direct);
        Decision refused = world.Route(producer, exchange, "k", out _);
        Assert.Equal((RefusalCode.Unroutable, "Exchange e"), (refused.Code, refused.Limit));
        Assert.True(world.Route(producer, exchange, "k", out _, isOptional: true).IsTaken);
        Assert.Equal((1ul, 2ul, 1), (world.Engine.ViewExchange(exchange).Discarded, world.Engine.ViewProducer(producer).LastNumber, world.Engine.RefusalsOf(producer).Count));
        world.Check();
        world.Restart();
        world.Check();
    }

    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void A_message_is_stored_once_and_its_slot_is_free_when_the_last_queue_has_let_go_of_it(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint exchange = world.DeclareExchange("e", ExchangeType.Fanout);
        uint a = world.Declare("a"), b = world.Declare("b"), c = world.Declare("c", QueueAttributes.Default with { TtlMilliseconds = 1000, DeadLetter = "" });
        foreach (uint queue in new[] { a, b, c })
        {
            world.Bind(exchange, queue);
        }

        Assert.True(world.Route(producer, exchange, "k", out RoutedTarget[] targets).IsTaken);
        Assert.Equal((3, 1), (targets.Length, world.Log.Count(logged => logged.Record[4] == (byte)RecordKind.RoutedMessage)));
        int bytes = MessageHeader.SizeBytes + World.Routed("k").Length + 100;
        Assert.Equal((1L, (long)bytes), (world.Engine.Slot(1).Live, world.Engine.Slot(1).LiveBytes));
        world.Check();
        if (restart.Length > 0)
        {
            world.Restart(fromSnapshot: restart == "snapshot");
        }

        uint ofA = world.Subscribe(a, producer), ofB = world.Subscribe(b, producer);
        List<Delivered> delivered = world.DispatchAll();
        Assert.Single(delivered.Select(one => one.Place).Distinct());
        Assert.Equal([a, b], delivered.Select(one => one.Queue).Order());
        Assert.True(world.Settle(producer, ofA, 1).IsTaken);
        world.Check();
        world.Advance(1000); // It expires in one of them.
        Assert.Equal((1L, 1ul), (world.Engine.Slot(1).Live, world.Engine.View(c).Expired));
        Assert.True(world.Settle(producer, ofB, 1).IsTaken);
        Assert.Equal((0L, 0L), (world.Engine.Slot(1).Live, world.Engine.Slot(1).LiveBytes));
        world.Check();
        world.Restart(fromSnapshot: true);
    }

    [Fact]
    public void Compaction_writes_it_again_for_those_in_which_it_lives_and_leaves_it_while_a_consumer_has_it()
    {
        using World world = new();
        ulong producer = world.Open();
        uint exchange = world.DeclareExchange("e", ExchangeType.Fanout);
        uint a = world.Declare("a"), b = world.Declare("b"), c = world.Declare("c"), gone = world.Declare("gone");
        foreach (uint queue in new[] { a, b, c, gone })
        {
            world.Bind(exchange, queue);
        }

        world.Route(producer, exchange, "k", out _);
        Logged first = world.Log[^1];
        uint subscription = world.Subscribe(a, producer);
        world.DispatchAll();
        Assert.Equal(0, world.MoveRouted(first));
        world.Settle(producer, subscription, 1);
        world.Delete(gone); // Its entry is there until its slice comes.
        Assert.Equal(3, world.MoveRouted(first));
        Logged second = world.Log[^1];
        Assert.Equal(0, world.MoveRouted(first));
        world.Check();
        world.Restart(fromSnapshot: true);
        world.Purge(b);
        world.Advance(0);
        Assert.Equal(1, world.MoveRouted(second));
        Assert.Equal(1L, world.Engine.Slot(1).Live);
        world.Check();
        world.Restart();
        uint last = world.Subscribe(c, producer);
        Assert.Equal(world.Log[^2].Place.Slot, Assert.Single(world.DispatchAll()).Place.Slot);
        world.Settle(producer, last, 1);
        Assert.Equal(0L, world.Engine.Slot(1).Live);
        world.Check();
    }

    // CASES B104: where one of the queues does not take it, it is not taken, and nobody has it.
    [Fact]
    public void All_take_it_or_none_does_and_the_refusal_names_the_queue_and_a_duplicate_is_passed_over()
    {
        using World world = new();
        ulong producer = world.Open();
        uint exchange = world.DeclareExchange("e", ExchangeType.Fanout);
        uint a = world.Declare("a"), full = world.Declare("full", QueueAttributes.Default with { MaxLength = 1 }), drops = world.Declare("drops", QueueAttributes.Default with { MaxLength = 1, Overflow = Overflow.DropHead });
        foreach (uint queue in new[] { a, full, drops })
        {
            world.Bind(exchange, queue);
        }

        Assert.True(world.Route(producer, exchange, "k", out _, more: World.Same("id")).IsTaken);
        Decision beyond = world.Route(producer, exchange, "k", out _);
        Assert.Equal((RefusalCode.LimitReached, 1ul, "Queue full: The queue's max-length"), (beyond.Code, beyond.Value, beyond.Limit));
        Assert.Equal((1ul, 1ul, 1ul), (world.Engine.View(a).Published, world.Engine.View(full).Published, world.Engine.View(drops).Published));
        Decision duplicate = world.Route(producer, exchange, "k", out _, more: World.Same("id"));
        Assert.Equal((RefusalCode.Duplicate, 1ul), (duplicate.Code, duplicate.Value));
        uint late = world.Declare("late");
        world.Bind(exchange, late);
        Assert.True(world.Route(producer, exchange, "k", out RoutedTarget[] targets, more: World.Same("id")).IsTaken); // It had not come there.
        Assert.Equal(late, Assert.Single(targets).Queue);
        world.Purge(full);
        Assert.True(world.Route(producer, exchange, "k", out _).IsTaken);
        Assert.Equal(1, world.PushOut());
        Assert.Equal((1L, 1ul), (world.Engine.View(drops).Ready, world.Engine.View(drops).Overflowed));
        world.Pause(late, PausedWays.In);
        world.Purge(full);
        Decision paused = world.Route(producer, exchange, "k", out _);
        Assert.Equal((RefusalCode.Paused, "Queue late"), (paused.Code, paused.Limit));
        world.Check();
    }

    [Fact]
    public void A_message_goes_to_no_more_queues_than_may_be_and_the_table_is_bounded_and_its_memory_comes_back()
    {
        using World world = new(new EngineLimits { MaxBindings = Limits.MaxFanout + 1 }, isLogging: false);
        ulong producer = world.Open();
        uint exchange = world.DeclareExchange("e", ExchangeType.Fanout);
        long before = world.Engine.StateBytes;
        for (int i = 0; i <= Limits.MaxFanout; i++)
        {
            Assert.True(world.Bind(exchange, world.Declare(string.Create(CultureInfo.InvariantCulture, $"q{i}"))).IsTaken);
        }

        Decision refused = world.Route(producer, exchange, "k", out _);
        Assert.Equal((RefusalCode.LimitReached, (ulong)Limits.MaxFanout), (refused.Code, refused.Value));
        Decision beyond = world.Bind(exchange, world.Declare("one"));
        Assert.Equal((RefusalCode.LimitReached, (ulong)Limits.MaxFanout + 1, "Bindings"), (beyond.Code, beyond.Value, beyond.Limit));
        Assert.True(world.Engine.TryFindQueue("q7"u8, out uint seventh));
        world.Delete(seventh);
        Assert.True(world.Route(producer, exchange, "k", out RoutedTarget[] targets).IsTaken);
        Assert.Equal((Limits.MaxFanout, 1L), (targets.Length, world.Engine.Slot(1).Live + world.Engine.Slot(2).Live));
        world.Engine.CheckConservation();
        foreach (RoutedTarget target in targets)
        {
            world.Delete(target.Queue);
        }

        world.Advance(0);
        Assert.Equal((0, 0L), (world.Engine.ViewExchange(exchange).Bindings, world.Engine.LiveBytes));
        Assert.InRange(world.Engine.StateBytes, before, before + 600 * 1024); // Of queues that are there.
    }

    [Fact]
    public void An_exchange_that_exists_says_what_differs_and_a_deleted_one_leaves_its_number_to_nobody()
    {
        using World world = new();
        ulong producer = world.Open();
        uint exchange = world.DeclareExchange("e", ExchangeType.Topic);
        Assert.Equal(exchange, world.DeclareExchange("e", ExchangeType.Topic));
        Decision differs = world.Engine.DeclareExchange("e"u8, ExchangeType.Direct, default, new byte[QueueEngine.MaxFactBytes], 1, out _, out _, out _);
        Assert.Equal((RefusalCode.QueueExists, "its type is topic, not direct"), (differs.Code, differs.Limit));
        Assert.Equal(RefusalCode.BadName, world.Engine.DeclareExchange("fastq.e"u8, ExchangeType.Direct, default, new byte[QueueEngine.MaxFactBytes], 1, out _, out _, out _).Code);
        Assert.True(world.DeleteExchange(exchange).IsTaken);
        uint next = world.Declare("e");
        Assert.True(next > exchange && world.DeclareExchange("e", ExchangeType.Topic) > next);
        Assert.Equal(RefusalCode.QueueDeleted, world.Publish(producer, exchange).Code);
        world.Check();
        world.Restart(fromSnapshot: true);
    }

    [Fact]
    public void Each_queue_keeps_its_own_times_turns_and_deaths_of_what_it_shares()
    {
        using World world = new();
        ulong producer = world.Open();
        uint exchange = world.DeclareExchange("e", ExchangeType.Fanout);
        uint slow = world.Declare("slow", QueueAttributes.Default with { DelayMilliseconds = 5000 }), ordered = world.Declare("ordered", QueueAttributes.Default with { Priority = true, MaxDeliveries = 1 });
        world.Bind(exchange, slow);
        world.Bind(exchange, ordered);
        for (int i = 0; i < 3; i++)
        {
            Assert.True(world.Route(producer, exchange, "k", out _, more: World.Turn(priority: i)).IsTaken);
        }

        uint subscription = world.Subscribe(ordered, producer, credit: 1);
        Assert.Equal(3ul, Assert.Single(world.DispatchAll()).Tag);
        world.Settle(producer, subscription, 1, 1, Outcome.Release);
        world.Check();
        Assert.Equal(3ul, Assert.Single(world.Bury()).Message.Tag);
        Assert.Equal((3L, 2L, 1ul), (world.Engine.View(slow).Delayed, world.Engine.View(ordered).Ready, world.Engine.View(ordered).DeadLettered));
        world.Check();
        world.Restart(fromSnapshot: true);
        world.Advance(5000);
        Assert.Equal(3L, world.Engine.View(slow).Ready);
        world.Check();
    }

    [Fact]
    public void A_dead_letter_that_no_binding_takes_holds_up_none_behind_it_and_goes_when_one_does()
    {
        using World world = new();
        ulong producer = world.Open();
        uint morgue = world.DeclareExchange("morgue", ExchangeType.Direct);
        uint q = world.Declare("q", QueueAttributes.Default with { DeadLetterExchange = "morgue" }), a = world.Declare("a");
        uint subscription = world.Subscribe(q, producer);
        world.Bind(morgue, a, "even");
        world.PublishMany(producer, q, 4);
        world.DispatchAll();
        world.Settle(producer, subscription, 1, 4, Outcome.Reject);
        Assert.Equal([1, 1], world.BuryThrough("", tag => tag % 2 == 0 ? "even" : "odd"));
        Assert.Equal((2L, 2L), (world.Engine.View(a).Ready, world.Engine.View(q).Messages));
        world.Advance(60_000);
        Assert.Empty(world.BuryThrough("odd")); // They are not tried again for nothing.
        world.Check();
        world.Bind(morgue, a, "odd");
        Assert.Equal([1, 1], world.BuryThrough("odd"));
        Assert.Equal((4L, 0L), (world.Engine.View(a).Ready, world.Engine.View(q).Messages));
        world.Check();
    }

    [Fact]
    public void Dead_letters_go_through_an_exchange_in_one_step_and_what_it_gives_to_nobody_stays_marked_and_is_tried_again()
    {
        using World world = new();
        ulong producer = world.Open();
        uint morgue = world.DeclareExchange("morgue", ExchangeType.Direct);
        uint q = world.Declare("q", QueueAttributes.Default with { DeadLetterExchange = "morgue" }), a = world.Declare("a"), b = world.Declare("b");
        Assert.Equal((20L, ""), (world.Engine.View(q).Attributes.MaxDeliveries, world.Engine.View(q).Attributes.DeadLetter));
        uint subscription = world.Subscribe(q, producer);
        world.PublishMany(producer, q, 2);
        world.DispatchAll();
        world.Settle(producer, subscription, 1, 2, Outcome.Reject);
        Assert.Empty(world.BuryThrough("k"));
        Assert.All(world.Engine.Browse(q, 0, 9, out _), message => Assert.Equal((MessageState.DeadLettering, DeathReason.Unroutable), (message.State, message.Reason)));
        world.Check();
        world.Restart(fromSnapshot: true);
        world.Bind(morgue, a, "k");
        Assert.Equal([1, 1], world.BuryThrough("k"));
        world.Bind(morgue, b, "k");
        world.Resume(subscription, producer, ulong.MaxValue);
        world.Engine.SetCredit(subscription, 9, ulong.MaxValue);
        world.PublishMany(producer, q, 1);
        world.DispatchAll();
        world.Settle(producer, subscription, 3, 1, Outcome.Reject);
        world.Check();
        Assert.Equal([2], world.BuryThrough("k"));
        Assert.Equal((3ul, 0L, 3L, 1L), (world.Engine.View(q).DeadLettered, world.Engine.View(q).Messages, world.Engine.View(a).Ready, world.Engine.View(b).Ready));
        world.Check();
        world.Restart();
        world.Change(q, world.Engine.View(q).Attributes.With(FieldOf(FieldTag.DeadLetter, "a")));
        Assert.Equal(("a", ""), (world.Engine.View(q).Attributes.DeadLetter, world.Engine.View(q).Attributes.DeadLetterExchange));
    }

    private static byte[] FieldOf(FieldTag tag, string text)
    {
        FieldWriter writer = new(new byte[300]);
        writer.Text(tag, text);
        return writer.Written.ToArray();
    }

    [Fact]
    public void A_temporary_queue_goes_with_its_session_and_after_a_restart_when_its_owner_has_not_come_back_in_time()
    {
        using World world = new();
        ulong one = world.Open(), two = world.Open(instance: 2);
        uint exchange = world.DeclareExchange("e", ExchangeType.Fanout);
        Assert.True(world.DeclareTemporary("first", one, out uint first).IsTaken && world.DeclareTemporary("second", two, out _).IsTaken);
        Assert.Equal(RefusalCode.QueueExists, world.DeclareTemporary("second", one, out _).Code);
        world.Bind(exchange, first);
        Assert.Equal(RefusalCode.Denied, world.TrySubscribe(first, two, out _).Code);
        Assert.Equal(0, world.Advance(1000));
        world.Engine.DetachProducer(one);
        Assert.True(world.Advance(0) > 0);
        Assert.Equal((1, 0), (world.Engine.QueueCount, world.Engine.ViewExchange(exchange).Bindings));
        world.Check();
        world.Engine.DetachProducer(two, mayReturn: true);
        Assert.Equal(0, world.Advance(1000));
        foreach (bool comesBack in new[] { true, false })
        {
            world.Restart(fromSnapshot: true);
            world.Engine.GraceUntilMicros = world.IntervalMicros + 5_000_000;
            if (comesBack)
            {
                world.Open(wanted: two, instance: 2);
            }

            world.Advance(4999);
            Assert.Equal(1, world.Engine.QueueCount);
            world.Advance(1);
            Assert.Equal(comesBack ? 1 : 0, world.Engine.QueueCount);
            world.Check();
        }
    }

    // CASES B125: lengths that just fit in a byte.
    [Fact]
    public void Names_and_keys_of_255_bytes_are_as_good_as_others_and_longer_keys_fit_no_binding()
    {
        using World world = new();
        ulong producer = world.Open();
        string longest = new('k', 255), words = string.Join('.', Enumerable.Repeat("w", 128));
        uint direct = world.DeclareExchange(longest, ExchangeType.Direct, new string('a', 255)), topic = world.DeclareExchange(new string('t', 255), ExchangeType.Topic), headers = world.DeclareExchange("h", ExchangeType.Headers);
        uint q = world.Declare(new string('q', 255));
        world.Bind(direct, q, longest);
        world.Bind(topic, q, words);
        Assert.True(world.Bind(headers, q, longest, Headers([.. Enumerable.Range(0, 30).Select(i => ($"h{i}", PropertyType.Int64, (long)i))])).IsTaken);
        Assert.Equal(RefusalCode.BadArgument, world.Bind(direct, q, longest + "k").Code);
        Assert.Equal(RefusalCode.BadArgument, world.Bind(headers, q, "", Headers([.. Enumerable.Range(0, 40).Select(i => ($"h{i}", PropertyType.Int64, (long)i))])).Code);
        Assert.Equal(255, Reached(world, producer, direct, longest).Length);
        Assert.Equal(255, Reached(world, producer, topic, words).Length);
        Assert.Equal("", Reached(world, producer, direct, longest + "k"));
        world.Restart(fromSnapshot: true);
        Assert.Equal(255, Reached(world, producer, topic, words).Length);
    }

    [Fact]
    public void A_request_and_a_schedule_key_are_refused_by_an_exchange()
    {
        using World world = new();
        ulong producer = world.Open();
        uint exchange = world.DeclareExchange("e", ExchangeType.Fanout), queue = world.Declare("q"), other = world.Declare("r");
        world.Bind(exchange, queue);
        world.Bind(exchange, other);
        foreach (byte[] more in (byte[][])[World.Request(needsConsumer: false), World.Scheduled("k", 1000)])
        {
            Decision refused = world.Route(producer, exchange, "", out _, more: more);
            Assert.Equal(RefusalCode.BadArgument, refused.Code);
            Assert.Contains("goes to one queue", refused.Limit, StringComparison.Ordinal);
        }

        Assert.Equal((0ul, 0ul), (world.Engine.View(queue).Published, world.Engine.View(other).Published));
        world.Check();
    }
}
