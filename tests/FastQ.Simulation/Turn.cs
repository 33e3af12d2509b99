using FastQ.Protocol;

namespace FastQ.Simulation;

/// <summary>What a message says of its turn: in worlds with groups and priorities.</summary>
/// <param name="Priority">0 to 3.</param>
/// <param name="Group">0: none, which is a group, too.</param>
internal readonly record struct Turn(int Priority, int Group)
{
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
    }

    /// <summary>Of two messages that both may go, is this the order?</summary>
    public static bool AreInOrder(Sent first, ulong firstTag, Sent second, ulong secondTag) =>
        first.Turn.Priority > second.Turn.Priority || (first.Turn.Priority == second.Turn.Priority && firstTag < secondTag);
}
