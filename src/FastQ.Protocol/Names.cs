using System.Text;
using System.Text.Unicode;

namespace FastQ.Protocol;

/// <summary>What may be the name of a queue.</summary>
public static class Names
{
    private const string DeadLetterEnd = ".dead";

    private static ReadOnlySpan<byte> Reserved => "fastq."u8;

    /// <summary>The exchange that gets what happens in the broker, as messages: always there, nobody's to declare, delete or publish to, anybody's to bind to.</summary>
    public const string Events = "fastq.events";

    /// <summary>Where the dead letters of a queue go when nobody says otherwise: its name with <c>.dead</c> behind it. Of a name that leaves no room for that, as many whole characters as do: such queues may share one.</summary>
    public static string DeadLetterOf(string name)
    {
        int left = Limits.MaxNameBytes - DeadLetterEnd.Length;
        int length = 0;
        foreach (Rune rune in name.EnumerateRunes())
        {
            left -= rune.Utf8SequenceLength;
            if (left < 0)
            {
                break;
            }

            length += rune.Utf16SequenceLength;
        }

        return string.Concat(name.AsSpan(0, length), DeadLetterEnd);
    }

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
