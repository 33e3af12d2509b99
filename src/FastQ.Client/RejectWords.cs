using System.Text;
using System.Text.Unicode;
using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>What a consumer says of a reject, as it stands behind the record.</summary>
internal static class RejectWords
{
    private const int FieldHeadBytes = 4;

    /// <summary>Empty when nothing is said. Details that do not fit are cut at a character's end.</summary>
    /// <exception cref="FastQException">The reason is longer than <see cref="Subscription.MaxReasonBytes"/>.</exception>
    public static byte[] ToBytes(string? reason, string? details)
    {
        FieldWriter writer = new(new byte[Limits.MaxWordsBytes]);
        if (!string.IsNullOrEmpty(reason))
        {
            WriteReason(ref writer, reason);
        }

        if (!string.IsNullOrEmpty(details))
        {
            Span<byte> room = stackalloc byte[Limits.MaxWordsBytes - writer.Length - FieldHeadBytes];
            Utf8.FromUtf16(details, room, out _, out int bytes);
            writer.Bytes(FieldTag.Details, room[..bytes]);
        }

        return writer.Written.ToArray();
    }

    /// <summary>An exception as a reason: its type and message, cut at a character's end to what a reason may have.</summary>
    public static string Reason(Exception exception)
    {
        string text = $"{exception.GetType()}: {exception.Message}";
        Span<byte> room = stackalloc byte[Subscription.MaxReasonBytes];
        Utf8.FromUtf16(text, room, out int fits, out _);
        return text[..fits];
    }

    private static void WriteReason(ref FieldWriter writer, string reason)
    {
        int bytes = Encoding.UTF8.GetByteCount(reason);
        if (bytes > Subscription.MaxReasonBytes)
        {
            throw new FastQException(RefusalCode.BadArgument, $"The reason of a reject has {bytes} bytes", Subscription.MaxReasonBytes);
        }

        writer.Text(FieldTag.Text, reason);
    }
}
