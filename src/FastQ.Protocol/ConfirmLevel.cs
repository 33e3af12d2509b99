namespace FastQ.Protocol;

/// <summary>What a confirm promises; a scale, each level includes those below it (DESIGN section 4).</summary>
public enum ConfirmLevel : byte
{
    /// <summary>Nobody waits; nothing is promised.</summary>
    None = 0,

    /// <summary>The engine took it, in memory. Survives the client's death.</summary>
    Accepted = 1,

    /// <summary>The file system has the block. Survives kill -9 of the broker.</summary>
    Written = 2,

    /// <summary>The sync that covers it has returned without error. Survives power loss, as far as the disk is honest.</summary>
    Durable = 3,
}

/// <summary>What a consumer says of a delivery.</summary>
public enum Outcome : byte
{
    /// <summary>Done: the message is gone for good.</summary>
    Accept = 0,

    /// <summary>Again: back to its place in the queue, at once.</summary>
    Release = 1,

    /// <summary>Never again: the message leaves the queue as rejected.</summary>
    Reject = 2,
}
