using FastQ.Protocol;
using Xunit;
using Outcome = FastQ.Protocol.Outcome;

namespace FastQ.Engine.Tests;

/// <summary>What consumers have marked as processed, with their results.</summary>
public sealed class ProcessedTests
{
    private static readonly QueueAttributes s_remembers = QueueAttributes.Default with { ProcessedMilliseconds = 60_000 };

    [Theory]
    [InlineData("")]
    [InlineData("records")]
    [InlineData("snapshot")]
    public void A_mark_is_set_with_its_accept_stays_the_first_ones_and_lasts_its_window_over_restarts(string restart)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", s_remembers);
        world.PublishMany(producer, queue, 2);
        uint subscription = world.Subscribe(queue, producer);
        world.DispatchAll();
        (Decision decision, ProcessedMark mark) = world.AcceptProcessed(producer, queue, subscription, 1, "a", [1, 2, 3]);
        Assert.Equal((Decision.Taken, true, RefusalCode.None), (decision, mark.IsFirst, mark.Late));
        Assert.Equal((1ul, 1L), (world.Engine.View(queue).Accepted, world.Engine.View(queue).InFlight));
        (_, mark) = world.AcceptProcessed(producer, queue, subscription, 2, "a", [9]);
        Assert.Equal((false, RefusalCode.None), (mark.IsFirst, mark.Late));
        Assert.Equal([1, 2, 3], mark.Result.ToArray());
        Assert.Equal((2ul, 0L), (world.Engine.View(queue).Accepted, world.Engine.View(queue).Messages));
        world.Check();
        world.Advance(59_999);
        if (restart.Length > 0)
        {
            world.Restart(fromSnapshot: restart == "snapshot");
        }

        Assert.Equal([1, 2, 3], world.FindProcessed(queue, "a")!);
        Assert.Null(world.FindProcessed(queue, "b"));
        world.Advance(1);
        Assert.Null(world.FindProcessed(queue, "a"));
        (_, mark) = world.AcceptProcessed(producer, queue, 0, 0, "a", []);
        Assert.True(mark.IsFirst);
        Assert.Empty(world.FindProcessed(queue, "a")!);
        world.Check();
    }

    [Fact]
    public void A_lost_delivery_is_marked_all_the_same_and_says_so_and_nobody_elses_is_settled()
    {
        using World world = new();
        ulong producer = world.Open(), other = world.Open(instance: 2);
        uint queue = world.Declare("q", s_remembers);
        world.PublishMany(producer, queue, 2);
        uint mine = world.Subscribe(queue, producer, credit: 1, leaseMilliseconds: 1000), theirs = world.Subscribe(queue, other, credit: 1);
        world.DispatchAll();
        world.Advance(1000);
        (_, ProcessedMark late) = world.AcceptProcessed(producer, queue, mine, 1, "a", [1]);
        Assert.Equal((true, RefusalCode.LeaseLost), (late.IsFirst, late.Late));
        (_, ProcessedMark stolen) = world.AcceptProcessed(producer, queue, theirs, 1, "b", [2]);
        Assert.Equal((true, RefusalCode.LeaseLost), (stolen.IsFirst, stolen.Late));
        Assert.Equal((0ul, 1L, 1L), (world.Engine.View(queue).Accepted, world.Engine.View(queue).InFlight, world.Engine.View(queue).Ready));
        Assert.Equal([1], world.FindProcessed(queue, "a")!);
        world.Check();
    }

    [Fact]
    public void A_queue_that_remembers_nothing_refuses_a_mark_and_keys_and_results_have_their_limits()
    {
        using World world = new();
        ulong producer = world.Open();
        uint none = world.Declare("none"), queue = world.Declare("q", s_remembers);
        world.PublishMany(producer, none, 1);
        uint subscription = world.Subscribe(none, producer);
        world.DispatchAll();
        Assert.Equal(RefusalCode.BadArgument, world.AcceptProcessed(producer, none, subscription, 1, "a", []).Decision.Code);
        Assert.Equal(1, world.Engine.View(none).InFlight);
        Assert.Equal(RefusalCode.BadArgument, world.AcceptProcessed(producer, queue, 0, 0, "", []).Decision.Code);
        Assert.Equal(RefusalCode.BadArgument, world.AcceptProcessed(producer, queue, 0, 0, new string('k', 256), []).Decision.Code);
        Assert.Equal(RefusalCode.BadArgument, world.AcceptProcessed(producer, queue, 0, 0, "a", new byte[Limits.MaxResultBytes + 1]).Decision.Code);
        Assert.True(world.AcceptProcessed(producer, queue, 0, 0, new string('k', 255), new byte[Limits.MaxResultBytes]).Decision.IsTaken);
        Assert.Equal(RefusalCode.UnknownQueue, world.AcceptProcessed(producer, 99, 0, 0, "a", []).Decision.Code);
        world.Check();
        world.Delete(queue);
        world.Check();
        world.Restart(fromSnapshot: true);
    }

    [Fact]
    public void Marks_are_bounded_by_the_memory_of_the_indexes_refused_by_its_name_and_given_back_with_time()
    {
        using World world = new(new EngineLimits { IndexBytes = 256 * 1024 });
        ulong producer = world.Open();
        uint queue = world.Declare("q", s_remembers);
        long before = world.Engine.StateBytes;
        Decision decision = Decision.Taken;
        int marks = -1;
        while (decision.IsTaken)
        {
            marks++;
            decision = world.AcceptProcessed(producer, queue, 0, 0, $"key {marks}", new byte[300]).Decision;
        }

        Assert.Equal((RefusalCode.LimitReached, 256ul * 1024), (decision.Code, decision.Value));
        Assert.InRange(marks, 200, 520);
        world.Check();
        world.Restart(fromSnapshot: true);
        for (int i = 0; i < 100; i++)
        {
            world.Advance(1000);
        }

        Assert.InRange(world.Engine.StateBytes, 0, before + 4096);
        Assert.True(world.AcceptProcessed(producer, queue, 0, 0, "again", new byte[300]).Decision.IsTaken);
    }
}
