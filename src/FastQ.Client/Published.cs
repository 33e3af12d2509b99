namespace FastQ.Client;

/// <summary>What became of a message that was published.</summary>
/// <param name="FirstTag">The queue has, or had, one of its deduplication id or unique key already: that one's place, 0 where it is not known any more. Null: it was taken.</param>
public readonly record struct Published(ulong? FirstTag)
{
    /// <summary>The queue had it already; it counts as published all the same.</summary>
    public bool IsDuplicate => FirstTag is not null;
}
