namespace FastQ.Client;

/// <summary>What became of a message that was published.</summary>
/// <param name="FirstTag">The queue has, or had, one of its deduplication id or unique key already: that one's place, 0 where it is not known any more. Null: it was taken.</param>
/// <param name="Queues">How many queues took it: 1 or 0 when it was sent to a queue, any number when to an exchange. Null: that is not known, for a reconnect came between, or it waits for no confirm.</param>
public readonly record struct Published(ulong? FirstTag, int? Queues)
{
    /// <summary>The queue had it already; it counts as published all the same.</summary>
    public bool IsDuplicate => FirstTag is not null;
}
