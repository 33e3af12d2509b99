namespace FastQ.Protocol;

/// <summary>How states and reasons are called wherever people read or write them: the command line, JSON, filters, texts of refusals.</summary>
public static class StateNames
{
    public static string NameOf(MessageState state) => state switch { MessageState.Ready => "ready", MessageState.InFlight => "in-flight", MessageState.Delayed => "delayed", MessageState.DeadLettering => "dead-lettering", _ => "damaged" };

    public static string NameOf(DeathReason reason) => reason switch { DeathReason.MaxDeliveries => "max-deliveries", DeathReason.Rejected => "rejected", DeathReason.Expired => "expired", DeathReason.Overflow => "overflow", DeathReason.Unroutable => "unroutable", _ => "unknown" };

    public static string NameOf(ReleaseReason reason) => reason switch { ReleaseReason.LeaseEnded => "lease-ended", ReleaseReason.ConsumerGone => "consumer-gone", ReleaseReason.Released => "released", ReleaseReason.ReleasedUncounted => "released-uncounted", _ => "unknown" };

    public static string NameOf(Overflow overflow) => overflow switch { Overflow.DropHead => "drop-head", Overflow.DeadLetter => "dead-letter", _ => "reject" };

    public static string NameOf(ExchangeType type) => type switch { ExchangeType.Direct => "direct", ExchangeType.Topic => "topic", ExchangeType.Fanout => "fanout", _ => "headers" };

    public static string NameOf(SweepState state) => state switch { SweepState.Running => "running", SweepState.Finished => "finished", SweepState.Cancelled => "cancelled", _ => "none" };
}
