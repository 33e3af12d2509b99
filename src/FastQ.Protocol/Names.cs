using System.Text.Unicode;

namespace FastQ.Protocol;

/// <summary>What may be the name of a queue.</summary>
public static class Names
{
    private static ReadOnlySpan<byte> Reserved => "fastq."u8;

    /// <summary>1 to 255 bytes of valid UTF-8 without control characters (C0, DEL, C1), not beginning with <c>fastq.</c>. Any bytes may be asked.</summary>
    public static bool IsValid(ReadOnlySpan<byte> name)
    {
        if (name.IsEmpty || name.Length > Limits.MaxNameBytes || name.StartsWith(Reserved) || !Utf8.IsValid(name))
        {
            return false;
        }

        for (int i = 0; i < name.Length; i++)
        {
            bool isC1 = name[i] == 0xC2 && i + 1 < name.Length && name[i + 1] is >= 0x80 and <= 0x9F;
            if (name[i] < 0x20 || name[i] == 0x7F || isC1)
            {
                return false;
            }
        }

        return true;
    }
}
