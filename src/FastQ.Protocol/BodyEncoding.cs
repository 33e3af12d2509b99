using System.Buffers.Binary;
using System.Text;

namespace FastQ.Protocol;

/// <summary>How the library of a message's sender encoded its body, and how long that was before. The receiver's library decodes it.</summary>
/// <param name="Name">"lz4", or another that this version does not know; empty where the property does not say.</param>
/// <param name="BodyBytes">Bytes of the body once it is decoded, as the sender says: not judged.</param>
public readonly record struct BodyEncoding(string Name, uint BodyBytes)
{
    // | bytes of the body before: u32 | name: ASCII |

    public const string Lz4 = "lz4";

    /// <summary>What it takes among the properties, in bytes.</summary>
    public const int Lz4PropertyBytes = 4 + sizeof(uint) + 3;

    /// <summary>Writes the property that says: lz4.</summary>
    public static void WriteLz4(ref PropertyWriter writer, int bodyBytes)
    {
        Span<byte> value = stackalloc byte[Lz4PropertyBytes - 4];
        BinaryPrimitives.WriteInt32LittleEndian(value, bodyBytes);
        Encoding.ASCII.GetBytes(Lz4, value[sizeof(uint)..]);
        writer.Bytes(PropertyTag.BodyEncoding, value);
    }

    /// <summary>Looks for it among properties of any origin. False: the body is as the application gave it.</summary>
    public static bool TryRead(ReadOnlySpan<byte> properties, out BodyEncoding encoding)
    {
        encoding = default;
        if (!PropertyReader.TryFind(properties, PropertyTag.BodyEncoding, out PropertyReader found))
        {
            return false;
        }

        bool isWhole = found.Type == PropertyType.Bytes && found.Value.Length > sizeof(uint);
        ReadOnlySpan<byte> name = isWhole ? found.Value[sizeof(uint)..] : default;
        encoding = new BodyEncoding(name.SequenceEqual("lz4"u8) ? Lz4 : Encoding.ASCII.GetString(name), isWhole ? BinaryPrimitives.ReadUInt32LittleEndian(found.Value) : 0);
        return true;
    }
}
