using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>A run of deliveries: in the ring until it is begun, then in here. Pooled by its session.</summary>
internal sealed class DeliveryRun
{
    /// <summary>Where its record begins in the delivery ring.</summary>
    public ulong Position { get; set; }

    public DeliveriesHeader Header { get; set; }

    /// <summary>Its entries, from when it is taken out of the ring until it is over: few are out at once, however many wait.</summary>
    public DeliveryEntry[]? Entries { get; set; }

    /// <summary>Of a copy: the record.</summary>
    public byte[]? Record { get; set; }

    /// <summary>Taken out of the ring: its place there may be used again.</summary>
    public bool IsTaken { get; set; }

    /// <summary>The next entry to hand out.</summary>
    public int Next { get; set; }

    /// <summary>In the session's queue, in ring order.</summary>
    public bool IsListed { get; set; }

    /// <summary>Handed out to its end, or given up.</summary>
    public bool IsOver { get; set; }
}
