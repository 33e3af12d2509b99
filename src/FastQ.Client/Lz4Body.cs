using FastQ.Protocol;
using K4os.Compression.LZ4;

namespace FastQ.Client;

// Bodies that the sender's library compresses and the receiver's decodes; neither broker nor application knows of it.
//
//   as sent      | properties                 | body                     |
//   as stored    | BodyEncoding | properties  | the body as an LZ4 block |       only where that is smaller

/// <summary>Compresses bodies, and decodes those of any origin.</summary>
internal static class Lz4Body
{
    // A byte of a block stands for at most 255 of the body: who claims more is not believed, and nothing is allocated for it.
    private const long MostBytesOfOne = 255;

    /// <summary>Room for <see cref="TryEncode"/>; 0: this body is not to be compressed (it is too long, or was encoded before, or the properties leave no room).</summary>
    public static int RoomFor(ReadOnlySpan<byte> body, ReadOnlySpan<byte> properties)
    {
        bool fits = body.Length <= Limits.MaxMessageBytes && properties.Length <= Limits.MaxPropertyBytes - BodyEncoding.Lz4PropertyBytes;
        return fits && !PropertyReader.TryFind(properties, PropertyTag.BodyEncoding, out _) ? BodyEncoding.Lz4PropertyBytes + properties.Length + body.Length : 0;
    }

    /// <summary>Writes properties and body as they are to be stored. False: that would not be smaller.</summary>
    /// <param name="body">As the application gave it.</param>
    /// <param name="properties">Its properties.</param>
    /// <param name="room">At least <see cref="RoomFor"/>.</param>
    /// <param name="propertyBytes">So long are the properties, at the room's start.</param>
    /// <param name="bodyBytes">So long is the body behind them.</param>
    public static bool TryEncode(ReadOnlySpan<byte> body, ReadOnlySpan<byte> properties, Span<byte> room, out int propertyBytes, out int bodyBytes)
    {
        PropertyWriter writer = new(room);
        BodyEncoding.WriteLz4(ref writer, body.Length);
        writer.Raw(properties);
        propertyBytes = writer.Length;
        int most = Math.Max(0, body.Length - BodyEncoding.Lz4PropertyBytes - 1); // More, and it would not be smaller.
        bodyBytes = LZ4Codec.Encode(body, room.Slice(propertyBytes, most));
        return bodyBytes > 0;
    }

    /// <summary>How long a body is once it is decoded: judged, so that memory may be taken for it.</summary>
    /// <exception cref="InvalidDataException">It cannot be.</exception>
    public static int LengthOf(ReadOnlySpan<byte> stored, in BodyEncoding encoding, ulong tag)
    {
        if (encoding.Name != BodyEncoding.Lz4)
        {
            throw Refuse(tag, $"is encoded as '{encoding.Name}', which this library does not know: use a newer one");
        }

        return encoding.BodyBytes <= Limits.MaxMessageBytes && encoding.BodyBytes <= stored.Length * MostBytesOfOne
            ? (int)encoding.BodyBytes
            : throw Refuse(tag, $"is said to be lz4 of {encoding.BodyBytes} bytes: {stored.Length} bytes cannot be that");
    }

    /// <summary>Decodes a body into room of exactly <see cref="LengthOf"/>.</summary>
    /// <exception cref="InvalidDataException">It is damaged, or was never one.</exception>
    public static void Decode(ReadOnlySpan<byte> stored, Span<byte> into, ulong tag)
    {
        if (LZ4Codec.Decode(stored, into) != into.Length)
        {
            throw Refuse(tag, $"is said to be lz4 of {into.Length} bytes, and is not");
        }
    }

    /// <summary>A body decoded into memory of its own.</summary>
    /// <exception cref="InvalidDataException">It cannot be decoded.</exception>
    public static byte[] Decode(ReadOnlySpan<byte> stored, in BodyEncoding encoding, ulong tag)
    {
        byte[] body = new byte[LengthOf(stored, encoding, tag)];
        Decode(stored, body, tag);
        return body;
    }

    private static InvalidDataException Refuse(ulong tag, string what) => new($"The body of the message at place {tag} {what}. So its sender wrote it: reject the message, or read StoredBody.");
}
