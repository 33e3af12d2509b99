using System.Buffers.Binary;

namespace FastQ.Protocol;

// The handshake and what else goes over the socket (Unix, SOCK_SEQPACKET: a message is a packet).
//
//   client                          broker
//   Hello           ->
//                   <-   Welcome + 4 descriptors (A, B, eventfd that wakes the broker, read end of the pipe that wakes the client)
//   Mapped          ->                                 or  <- Refused, and the end
//   ... then records in the rings, and now and then:
//                   <-   Slots + descriptors of slot files (acknowledged by a SlotsMapped record)
//                   <-   Rings + 2 descriptors (A, B of the next ring);  Mapped ->
//                   <-   Ended (code, text), and the end
//
//   | magic: u32 "FQHS" | kind: u16 | reserved: u16 | fields ... |

/// <summary>Kinds of messages on the socket.</summary>
public enum HandshakeKind : ushort
{
    None = 0,
    Hello = 1,
    Welcome = 2,
    Mapped = 3,
    Refused = 4,
    Slots = 5,
    Rings = 6,
    Ended = 7,
}

/// <summary>Frames of the socket: 8 bytes, then fields.</summary>
public static class Handshake
{
    public const uint Magic = 0x53485146; // "FQHS", little-endian
    public const int HeaderBytes = 8;

    /// <summary>Writes the frame's header; fields follow from <see cref="HeaderBytes"/> on.</summary>
    public static void WriteHeader(Span<byte> message, HandshakeKind kind)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(message, Magic);
        BinaryPrimitives.WriteUInt16LittleEndian(message[4..], (ushort)kind);
        BinaryPrimitives.WriteUInt16LittleEndian(message[6..], 0);
    }

    /// <summary>Judges a frame of any origin. False: not one of ours.</summary>
    public static bool TryRead(ReadOnlySpan<byte> message, out HandshakeKind kind, out ReadOnlySpan<byte> fields)
    {
        kind = HandshakeKind.None;
        fields = default;
        if (message.Length < HeaderBytes || BinaryPrimitives.ReadUInt32LittleEndian(message) != Magic)
        {
            return false;
        }

        kind = (HandshakeKind)BinaryPrimitives.ReadUInt16LittleEndian(message[4..]);
        fields = message[HeaderBytes..];
        return kind != HandshakeKind.None;
    }
}
