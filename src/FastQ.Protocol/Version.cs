namespace FastQ.Protocol;

/// <summary>Versions of the protocol. A broker serves every client of its own major version.</summary>
public static class ProtocolVersion
{
    /// <summary>Major version: what cannot be read by the one before.</summary>
    public const ushort Major = 1;

    /// <summary>Minor version: what the one before can ignore (unknown property tags, new answers to new commands).</summary>
    public const ushort Minor = 0;
}
