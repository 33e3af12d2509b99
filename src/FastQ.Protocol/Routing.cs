using System.Runtime.InteropServices;

namespace FastQ.Protocol;

// A message that an exchange gave to several queues is stored once:
//
//   | RoutedHeader | RoutedTarget ... | MessageHeader (SharedMessage) | properties | body |
//                                       ^ the place that every queue's entry names
//
// So who reads a message where an entry says it lies finds a header, properties and a body, as of any other. Only whose it is does not
// stand in that header: it says its own place instead, which no other message has.

/// <summary>How an exchange chooses among its bindings.</summary>
public enum ExchangeType : byte
{
    /// <summary>The routing key is the binding's key.</summary>
    Direct = 0,

    /// <summary>The words of the routing key, with '.' between, fit the binding's: <c>*</c> is any one word, <c>#</c> any number of words, none too.</summary>
    Topic = 1,

    /// <summary>All of them.</summary>
    Fanout = 2,

    /// <summary>The message's headers are those that the binding names.</summary>
    Headers = 3,
}

/// <summary>How many of a binding's headers a message must have.</summary>
public enum HeaderMatch : byte
{
    All = 0,
    Any = 1,
}

/// <summary>The beginning of a message that is stored once for several queues. Then <c>Count</c> times <see cref="RoutedTarget"/>, then the message with a header of its own.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct RoutedHeader
{
    public const int SizeBytes = 16;

    /// <summary>In <see cref="Flags"/>: compaction wrote it again at this place, for the queues in which it is alive.</summary>
    public const byte Moved = 1;

    /// <summary>In <see cref="Flags"/>: it died elsewhere, and is no more where its first Death says.</summary>
    public const byte DeadLetter = 2;

    [FieldOffset(0)] public uint LengthBytes;
    [FieldOffset(4)] public RecordKind Kind;
    [FieldOffset(5)] public byte Flags;
    [FieldOffset(6)] public ushort Small;

    /// <summary>Id of the exchange.</summary>
    [FieldOffset(8)] public uint Exchange;

    [FieldOffset(12)] public uint Count;
}

/// <summary>A queue that has the message, and its place there.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct RoutedTarget
{
    public const int SizeBytes = 16;

    [FieldOffset(0)] public uint Queue;
    [FieldOffset(4)] public uint Reserved;
    [FieldOffset(8)] public ulong Tag;
}

/// <summary>Finds the message in a stored record. Any bytes may be given.</summary>
public static class StoredMessage
{
    /// <summary>Where the message begins in a record with so many targets: a multiple of 8.</summary>
    public static int OffsetOf(int targets) => RoutedHeader.SizeBytes + targets * RoutedTarget.SizeBytes;

    /// <summary>What a shared message says instead of its tag: the place of its header.</summary>
    public static ulong NumberOf(Place place) => ((ulong)place.Slot << 32) | place.Offset;

    /// <summary>The header, properties and body of a <see cref="RecordKind.RoutedMessage"/>, and the queues that have it.</summary>
    /// <returns>False: these bytes are none.</returns>
    public static bool TryReadRouted(ReadOnlySpan<byte> record, out RoutedHeader header, out ReadOnlySpan<RoutedTarget> targets, out ReadOnlySpan<byte> message)
    {
        header = default;
        targets = default;
        message = default;
        if (record.Length < RoutedHeader.SizeBytes)
        {
            return false;
        }

        header = MemoryMarshal.Read<RoutedHeader>(record);
        if (header.Kind != RecordKind.RoutedMessage || header.Count is 0 or > Limits.MaxFanout || record.Length - OffsetOf((int)header.Count) < MessageHeader.SizeBytes)
        {
            return false;
        }

        int offset = OffsetOf((int)header.Count);
        message = record[offset..];
        targets = MemoryMarshal.Cast<byte, RoutedTarget>(record[RoutedHeader.SizeBytes..offset]);
        MessageHeader inner = MemoryMarshal.Read<MessageHeader>(message);
        return inner.Kind == RecordKind.SharedMessage && inner.LengthBytes == message.Length && inner.PropertyBytes <= message.Length - MessageHeader.SizeBytes;
    }
}
