using FastQ.Protocol;

namespace FastQ.Simulation;

/// <summary>What a message says of its turn: in worlds with groups and priorities.</summary>
/// <param name="Priority">0 to 3.</param>
/// <param name="Group">0: none, which is a group, too.</param>
/// <param name="Tenant">0: none, which is a tenant, too.</param>
internal readonly record struct Turn(int Priority, int Group, int Tenant = 0)
{
    /// <summary>How many messages of each tenant go in a round.</summary>
    public static IReadOnlyDictionary<string, int> Weights { get; } = new Dictionary<string, int> { ["tenant 1"] = 1, ["tenant 2"] = 2, ["tenant 3"] = 5 };

    public int Weight => Tenant == 0 ? 1 : Weights[$"tenant {Tenant}"];

    public static Turn OfTenant(Dice dice) => new(0, 0, dice.Below(Weights.Count + 1));

    public static Turn Of(Dice dice) => dice.OnceIn(3) ? default : new Turn(dice.Below(4), dice.Below(5));

    public void Write(ref PropertyWriter to)
    {
        if (Priority > 0)
        {
            to.Number(PropertyTag.Priority, PropertyType.Int64, Priority);
        }

        if (Group > 0)
        {
            to.Text(PropertyTag.Group, $"group {Group}");
        }

        if (Tenant > 0)
        {
            to.Text(PropertyTag.Tenant, $"tenant {Tenant}");
        }
    }

    /// <summary>Of two messages that both may go, is this the order?</summary>
    public static bool AreInOrder(Sent first, ulong firstTag, Sent second, ulong secondTag) =>
        first.Turn.Priority > second.Turn.Priority || (first.Turn.Priority == second.Turn.Priority && firstTag < secondTag);

    /// <summary>While two tenants had messages that could go, neither was ahead by more than a round: what each was given, by its weight, follows the other's.</summary>
    /// <param name="served">Tenants' turns, one a message, in the order in which these came; at the start all of them could go.</param>
    public static void MustBeFair(IReadOnlyList<Turn> served)
    {
        Turn[] tenants = [.. served.Distinct()];
        foreach ((Turn one, Turn other) in tenants.SelectMany(one => tenants.Where(other => other.Tenant > one.Tenant).Select(other => (one, other))))
        {
            (int left, int otherLeft) = (served.Count(turn => turn == one), served.Count(turn => turn == other));
            (double ahead, double least, double most) = (0, 0, 0);
            foreach (Turn turn in served.Where(turn => turn == one || turn == other).TakeWhile(_ => left > 0 && otherLeft > 0))
            {
                ahead += turn == one ? 1.0 / one.Weight : -1.0 / other.Weight;
                (left, otherLeft) = turn == one ? (left - 1, otherLeft) : (left, otherLeft - 1);
                (least, most) = (Math.Min(least, ahead), Math.Max(most, ahead));
            }

            const double ARound = 1.001;
            Model.Must(most - least <= ARound, $"tenant {one.Tenant} of weight {one.Weight} and tenant {other.Tenant} of weight {other.Weight} were {most - least:0.00} rounds apart while both had messages");
        }
    }
}
