using System.Globalization;
using Xunit;

namespace FastQ.Simulation;

// The whole broker with its clients on a simulated disk and clock, through histories made from seeds. What each checks stands in Model.cs.
public sealed class SimulationTests(ITestOutputHelper output)
{
    private const int SeedsInCi = 2000;

    [Fact]
    public void Every_promise_holds_in_every_world()
    {
        using StringWriter text = new(CultureInfo.InvariantCulture);
        Campaign campaign = new(firstSeed: 1, SeedsInCi, TimeSpan.FromHours(1));
        campaign.Run(text);
        output.WriteLine(text.ToString());
        Assert.True(campaign.Failures.Count == 0, text.ToString());
        Assert.True(campaign is { Seeds: SeedsInCi, Crashes: > SeedsInCi, Deliveries: > SeedsInCi * 10 }, text.ToString());
        foreach (string what in (string[])["crash inside recovery", "kill -9 of the broker", "power loss", "ENOSPC at allocation", "EIO on write", "EIO on sync, then success", "death of a message: rejected", "death of a message: max-deliveries", "death of a message: expired"])
        {
            Assert.True(campaign.Injected.ContainsKey(what), $"no {what}: {string.Join(", ", campaign.Injected.Keys)}");
        }
    }

    [Fact]
    public void Seeds_that_once_broke_a_promise_keep_it()
    {
        foreach ((ulong seed, bool mayLie) in Seeds.Kept())
        {
            Assert.True(World.Run(History.Of(seed, mayLie)).Violation is not string violation, $"seed {seed}");
        }
    }

    [Theory]
    [InlineData(3)]
    [InlineData(67)]
    [InlineData(133)]
    [InlineData(446)]
    public void The_same_seed_gives_the_same_trace(ulong seed) => Assert.Equal(World.Run(History.Of(seed)).Hash, World.Run(History.Of(seed)).Hash);

    [Fact]
    public void A_model_that_is_told_a_lie_says_so()
    {
        // The checker is awake: a message that was confirmed and never comes, and one that comes and was never sent.
        Model model = new(new Trace(null));
        Sent sent = new(1, 1, 1, Model.BodyOf(1, 1, 40, new Dice(1)), []);
        model.Publish(sent);
        Model.Confirm(sent, Protocol.ConfirmLevel.Durable);
        Assert.Throws<PromiseBroken>(() => model.MustHaveCome(new HashSet<Sent>()));
        model.MustHaveCome(new HashSet<Sent> { sent });
        model.Crash(Crash.Power);
        Assert.Throws<PromiseBroken>(() => model.MustHaveCome(new HashSet<Sent>()));
    }

    [Fact]
    public void A_death_that_was_confirmed_holds_through_what_the_confirm_covered()
    {
        Model model = new(new Trace(null)) { Mortality = new Mortality(3, 0, 1, 1) };
        Sent sent = new(1, 1, 1, Model.BodyOf(1, 1, 40, new Dice(1)), []);
        model.Publish(sent);
        Model.Confirm(sent, Protocol.ConfirmLevel.Durable);
        sent.Fate = new Fate(Protocol.ConfirmLevel.Written, Protocol.DeathReason.Rejected, default);
        sent.Grave = new Grave(2, 1, []);
        model.Crash(Crash.Kill);
        Assert.NotNull(sent.Fate);
        Assert.NotNull(sent.Grave);
        model.DeleteQueue(1);
        Assert.Throws<PromiseBroken>(() => model.MustHaveCome(new HashSet<Sent>())); // It had left that queue.
        model.Crash(Crash.Power);
        Assert.Null(sent.Fate);
        Assert.Null(sent.Grave);
        model.MustHaveCome(new HashSet<Sent>()); // It may have died with its queue.
    }
}

/// <summary>Seeds that found something, for ever: tests/seeds.txt, a line each: lying where a disk may, a number, a reason.</summary>
internal static class Seeds
{
    public static IEnumerable<(ulong Seed, bool MayLie)> Kept() =>
        File.ReadLines(Path.Combine(AppContext.BaseDirectory, "seeds.txt")).Where(line => line.Length > 0 && line[0] != '#').Select(line => line.Split(' ')).Select(words => words[0] == "lying" ? (ulong.Parse(words[1], CultureInfo.InvariantCulture), true) : (ulong.Parse(words[0], CultureInfo.InvariantCulture), false));
}
