using Xunit;

namespace FastQ.Journal;

// A hundred short histories, each with every crash that it can have; see SmallWorld. FASTQ_TESTS=full lives them longer.
public class SmallWorldTests
{
    private const int Worlds = 100, ShortActs = 50, LongActs = 400;

    [Fact]
    public void Whatever_subset_of_the_unsynced_blocks_survives_a_crash_after_any_step_what_was_confirmed_is_found()
    {
        int acts = Thoroughness.IsFull ? LongActs : ShortActs;
        SmallWorld.Tally all = new();
        Parallel.For(1, Worlds + 1, seed =>
        {
            using SmallWorld world = new(seed);
            world.Run(acts);
            lock (all)
            {
                all.Add(world.Found);
            }
        });

        Console.WriteLine($"""

            small worlds: seeds 1 to {Worlds}, {acts} acts each
            | histories | steps | cases | images recovered | harmless | reported | silent |
            |---|---|---|---|---|---|---|
            | {all.Histories} | {all.Steps} | {all.Cases} | {all.Images} | {all.Harmless} | {all.Reported} | {all.Silent} |
            among them: {all.Segments} segments, {all.Recycled} of them in a slot used again; {all.Snapshots} snapshots; {all.Compactions} compactions; {all.Kills} kills and {all.PowerLosses} power losses lived through; up to {all.MostUnits} units unsynced
            """);
        Assert.True(all.Problems.Count == 0 && all.Silent + all.Reported == 0, string.Join('\n', all.Problems.Take(20)));
        Assert.True(all.Snapshots > 50 && all.Recycled > 10 && all.Compactions > 10 && all.Kills > 10 && all.PowerLosses > 10 && all.MostUnits > 6, "The histories are too tame.");
    }
}
