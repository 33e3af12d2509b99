using System.Runtime.InteropServices;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Broker;

/// <summary>A pair of memory files in a client's hands: counters and bytes, written as it likes.</summary>
public sealed unsafe class RawRings(ulong number, ulong submissionBytes, ulong deliveryBytes, int a, int b) : IDisposable
{
    private readonly List<Mapping> _mappings = [];

    public uint Number => (uint)number;

    public int SubmissionBytes => (int)submissionBytes;

    public FileHandle A { get; } = FileHandle.Adopt(a, "submission memory");

    public FileHandle B { get; } = FileHandle.Adopt(b, "delivery memory");

    /// <summary>The private head; the broker sees what was shown last.</summary>
    public ulong Head { get; set; }

    /// <summary>The private position in the delivery ring.</summary>
    public ulong Position { get; set; }

    private ClientControl* Own => (ClientControl*)_mappings[0].Address;

    private BrokerControl* Broker => (BrokerControl*)_mappings[2].Address;

    /// <summary>Maps both files and fills in A's control page.</summary>
    public void Map()
    {
        MapOnly();
        (Own->Magic, Own->Version, Own->RingBytes) = (ClientControl.MagicValue, ProtocolVersion.Major, (uint)SubmissionBytes);
    }

    /// <summary>Maps both files and leaves A's control page as it is.</summary>
    public void MapOnly()
    {
        _mappings.Add(Mapping.OfFile(A, Limits.ControlPageBytes, Protection.ReadWrite).OrThrow());
        _mappings.Add(Mapping.Mirrored(A, Limits.ControlPageBytes, SubmissionBytes, Protection.ReadWrite).OrThrow());
        _mappings.Add(Mapping.OfFile(B, Limits.ControlPageBytes, Protection.Read).OrThrow());
        _mappings.Add(Mapping.Mirrored(B, Limits.ControlPageBytes, (long)deliveryBytes, Protection.Read).OrThrow());
    }

    /// <summary>All bytes of the submission ring.</summary>
    public Span<byte> Submissions => new(_mappings[1].Address, SubmissionBytes);

    /// <summary>The bytes at the private head.</summary>
    public Span<byte> Next(int bytes) => new(_mappings[1].Address + Head % submissionBytes, bytes);

    public void ShowHead(ulong head) => Volatile.Write(ref Own->SubmissionHead, head);

    public void ShowPosition(ulong position) => Volatile.Write(ref Own->DeliveryPosition, position);

    public void ShowSleepNumber(ulong sleepNumber) => Volatile.Write(ref Own->SleepNumber, sleepNumber);

    public ulong DeliveryHead => Volatile.Read(ref Broker->DeliveryHead);

    public ulong SubmissionPosition => Volatile.Read(ref Broker->SubmissionPosition);

    public ulong Decided => Volatile.Read(ref Broker->Decided);

    public ulong Written => Volatile.Read(ref Broker->Written);

    public ulong Durable => Volatile.Read(ref Broker->Durable);

    public ulong SleepNumber => Volatile.Read(ref Broker->SleepNumber);

    /// <summary>The record at the private position, without its padding.</summary>
    public byte[] Read()
    {
        byte* at = _mappings[3].Address + Position % deliveryBytes;
        return new ReadOnlySpan<byte>(at, (int)MemoryMarshal.Read<uint>(new ReadOnlySpan<byte>(at, 4))).ToArray();
    }

    public void Dispose()
    {
        _mappings.ForEach(mapping => mapping.Dispose());
        A.Dispose();
        B.Dispose();
    }
}
