using System.Buffers.Text;
using System.Runtime.InteropServices;

namespace FastQ.Protocol;

// Request and reply. A request is a message with the properties Request, Ttl and ReplyTo; a reply never stands in a journal:
//
//   requester --Message--> queue --delivery--> responder --Reply--> broker --ReplyDelivered--> requester
//                                                  ^---- ReplyEnded, where it could not go ----'
//
// The address in ReplyTo says whose request it answers: fastq.reply.PRODUCER.NUMBER, both in decimal.

/// <summary>A reply, or a part of one, in both rings; then properties and body.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct ReplyRecord
{
    public const int SizeBytes = 48;

    /// <summary>In <see cref="Flags"/>: no other comes after it.</summary>
    public const byte Last = 1;

    /// <summary>In <see cref="Flags"/>: the request failed; the body says why, in words.</summary>
    public const byte Error = 2;

    /// <summary>In <see cref="Flags"/>, with <see cref="Last"/>: it is no part itself.</summary>
    public const byte End = 4;

    /// <summary>In <see cref="Flags"/>: its sender wants to be told when it is in the requester's ring, too.</summary>
    public const byte WantsWord = 8;

    [FieldOffset(0)] public uint LengthBytes;

    /// <summary><see cref="RecordKind.Reply"/>, <see cref="RecordKind.RepliesUnwanted"/> or <see cref="RecordKind.ReplyDelivered"/>.</summary>
    [FieldOffset(4)] public RecordKind Kind;

    [FieldOffset(5)] public byte Flags;
    [FieldOffset(6)] public ushort PropertyBytes;

    /// <summary>Number of the request, its requester's submission.</summary>
    [FieldOffset(8)] public ulong Request;

    /// <summary>In the submission ring: the requester. In the delivery ring: 0.</summary>
    [FieldOffset(16)] public ulong Producer;

    /// <summary>In the submission ring: its sender's own, which comes back in <see cref="RecordKind.ReplyEnded"/>. In the delivery ring: 0.</summary>
    [FieldOffset(24)] public ulong Cookie;

    /// <summary>CRC-32C over properties and body (<see cref="RecordCheck"/>), by the sender.</summary>
    [FieldOffset(32)] public uint Check;

    /// <summary>Which part of the answer it is, from 0 on.</summary>
    [FieldOffset(36)] public uint Part;

    /// <summary>Of an error that the broker tells: why. Of a responder's own: 0.</summary>
    [FieldOffset(40)] public RefusalCode Code;

    [FieldOffset(42)] public ushort Small;
    [FieldOffset(44)] public uint Reserved;

    /// <summary>Bytes of the body.</summary>
    public readonly int BodyBytes => (int)LengthBytes - SizeBytes - PropertyBytes;
}

/// <summary>Whose request a reply answers, as text in the property ReplyTo.</summary>
/// <param name="Producer">The requester.</param>
/// <param name="Request">Number of its request.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct ReplyAddress(ulong Producer, ulong Request)
{
    /// <summary>The longest text of an address, in bytes.</summary>
    public const int MostBytes = 12 + 20 + 1 + 20;

    private static ReadOnlySpan<byte> Start => "fastq.reply."u8;

    public override string ToString() => string.Create(System.Globalization.CultureInfo.InvariantCulture, $"fastq.reply.{Producer}.{Request}");

    /// <summary>Writes the text, without an allocation. Gives its length.</summary>
    /// <param name="room">At least <see cref="MostBytes"/>.</param>
    public int Write(Span<byte> room)
    {
        Start.CopyTo(room);
        int length = Start.Length;
        _ = Utf8Formatter.TryFormat(Producer, room[length..], out int bytes);
        length += bytes;
        room[length++] = (byte)'.';
        _ = Utf8Formatter.TryFormat(Request, room[length..], out bytes);
        return length + bytes;
    }

    /// <summary>Reads text of any origin. False: it is no such address.</summary>
    public static bool TryRead(ReadOnlySpan<byte> text, out ReplyAddress address)
    {
        address = default;
        if (!text.StartsWith(Start))
        {
            return false;
        }

        ReadOnlySpan<byte> rest = text[Start.Length..];
        if (!TryNumber(rest, out ulong producer, out int used) || used == rest.Length || rest[used] != (byte)'.')
        {
            return false;
        }

        rest = rest[(used + 1)..];
        if (!TryNumber(rest, out ulong request, out used) || used != rest.Length)
        {
            return false;
        }

        address = new ReplyAddress(producer, request);
        return true;
    }

    /// <summary>The address in the properties of a message. False: it is no request of the kind that is answered so.</summary>
    public static bool TryFind(ReadOnlySpan<byte> properties, out ReplyAddress address)
    {
        address = default;
        return PropertyReader.TryFind(properties, PropertyTag.ReplyTo, out PropertyReader found) && found.Type == PropertyType.Text && TryRead(found.Value, out address);
    }

    /// <summary>Decimal, above 0, without zeroes before it: each address has one text.</summary>
    private static bool TryNumber(ReadOnlySpan<byte> text, out ulong number, out int used)
    {
        bool isNumber = Utf8Parser.TryParse(text, out number, out used);
        return isNumber && number > 0 && text[0] is >= (byte)'1' and <= (byte)'9';
    }
}
