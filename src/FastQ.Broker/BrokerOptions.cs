using FastQ.Engine;
using FastQ.Journal;
using FastQ.Protocol;

namespace FastQ.Broker;

/// <summary>How a broker is run. All limits are explicit; a refusal names the one it rests on.</summary>
public sealed record BrokerOptions
{
    /// <summary>Directory of the data; made with mode 0700 when it is not there.</summary>
    public required string DataDirectory { get; init; }

    /// <summary>Path of the Unix socket; made with <see cref="SocketMode"/>. At most 107 bytes.</summary>
    public required string SocketPath { get; init; }

    /// <summary>Permissions of the socket. Private by default.</summary>
    public int SocketMode { get; init; } = 0x180; // 0600

    /// <summary>Which storage writes the journal.</summary>
    public StorageKind Storage { get; init; } = StorageKind.Auto;

    /// <summary>Serve from a network file system all the same, by copies.</summary>
    public bool AllowNetworkFileSystem { get; init; }

    /// <summary>Bytes of a slot file.</summary>
    public int SlotBytes { get; init; } = 64 * 1024 * 1024;

    /// <summary>Largest body, in bytes.</summary>
    public int MaxMessageBytes { get; init; } = Limits.MaxMessageBytes;

    /// <summary>Most sessions at once.</summary>
    public int MaxSessions { get; init; } = 4096;

    /// <summary>Most connections that have not finished their handshake.</summary>
    public int MaxHandshakes { get; init; } = 64;

    /// <summary>Shared memory of all sessions together, in bytes.</summary>
    public long MaxRingBytes { get; init; } = 4L * 1024 * 1024 * 1024;

    /// <summary>A reader that alone keeps a slot from being used again for longer than this is expelled.</summary>
    public TimeSpan ReaderPatience { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>After a start no lease ends before this has passed, so that owners can come back.</summary>
    public TimeSpan ResumeGrace { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>The longest stop by which interval time is carried forward by the wall clock.</summary>
    public TimeSpan MaxDowntime { get; init; } = TimeSpan.FromDays(7);

    /// <summary>A sync follows within this time even if nobody waits for it.</summary>
    public TimeSpan SyncWithin { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>When nothing came for this long, one closing block says what is durable.</summary>
    public TimeSpan CloseAfter { get; init; } = TimeSpan.FromMilliseconds(20);

    /// <summary>Bytes of a block of the journal.</summary>
    internal int BlockBytes { get; init; } = 256 * 1024;

    internal Clocks Clocks { get; init; } = Clocks.Kernel;

    /// <summary>Random ids.</summary>
    internal Func<Guid> NewGuid { get; init; } = Guid.NewGuid;

    /// <summary>Limits of the engine.</summary>
    public EngineLimits Engine { get; init; } = new();

    /// <summary>Version shown to clients and in statistics.</summary>
    public string ServerVersion { get; init; } = "0.1.0";
}
