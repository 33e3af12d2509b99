using Xunit;

namespace FastQ.Journal;

public class RecoveryTableTests
{
    public static TheoryData<FailingPlace, bool, bool> Combinations
    {
        get
        {
            TheoryData<FailingPlace, bool, bool> all = [];
            foreach (FailingPlace place in Enum.GetValues<FailingPlace>())
            {
                foreach (bool later in (bool[])[false, true])
                {
                    all.Add(place, later, false);
                    all.Add(place, later, true);
                }
            }

            return all;
        }
    }

    [Theory]
    [MemberData(nameof(Combinations))]
    public void Each_combination_has_exactly_one_row(FailingPlace place, bool laterBlock, bool vouched)
    {
        Assert.Single(RecoveryTable.Rows, row => RecoveryTable.Matches(row, place, laterBlock, vouched));
    }

    [Theory]
    [MemberData(nameof(Combinations))]
    public void Only_what_nobody_called_durable_is_cut(FailingPlace place, bool laterBlock, bool vouched)
    {
        bool isCut = RecoveryTable.Of(place, laterBlock, vouched).Action == RecoveryAction.Cut;
        Assert.Equal(place == FailingPlace.BadOrMissing && !vouched, isCut);
    }

    [Fact]
    public void Each_row_is_reached_and_has_a_label_of_its_own()
    {
        Assert.All(RecoveryTable.Rows, row => Assert.Contains(Combinations, data => RecoveryTable.Matches(row, data.Data.Item1, data.Data.Item2, data.Data.Item3)));
        Assert.Equal(RecoveryTable.Rows.Count, RecoveryTable.Rows.Select(row => row.Label).Distinct().Count());
    }
}
