namespace FastQ.Fuzz;

/// <summary>A place where bytes come in. Whatever the bytes, Run returns; what it throws is a finding.</summary>
internal interface ITarget : IDisposable
{
    /// <summary>Inputs that get far, to begin with.</summary>
    IEnumerable<byte[]> Seeds { get; }

    void Run(byte[] input);
}

internal static class Targets
{
    public static readonly string[] Names = ["properties", "snapshots", "journal", "handshake", "rings"];

    public static ITarget Make(string name) => name switch
    {
        "properties" => new PropertyTarget(),
        "snapshots" => new SnapshotTarget(),
        "journal" => new JournalTarget(),
        "handshake" => new HandshakeTarget(),
        _ => new RingTarget(),
    };
}
