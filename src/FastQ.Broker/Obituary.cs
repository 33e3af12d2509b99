using System.Text;
using FastQ.Engine;
using FastQ.Protocol;

namespace FastQ.Broker;

/// <summary>The story of a message that died: what its properties become (src/FastQ.Protocol/README.md, section 7). Pure; any bytes may be given.</summary>
internal static class Obituary
{
    private const int DeathBytes = 4096; // A name, numbers and Limits.MaxWordsBytes.

    /// <summary>Writes the properties of the dead letter: this death, those before it, and all else but its times.</summary>
    /// <param name="properties">As they were.</param>
    /// <param name="message">Who died, and of what.</param>
    /// <param name="wallMicros">Now.</param>
    /// <param name="room">At least <see cref="Limits.MaxStoredPropertyBytes"/>.</param>
    /// <returns>Bytes written.</returns>
    public static int Write(ReadOnlySpan<byte> properties, in DyingMessage message, long wallMicros, Span<byte> room)
    {
        PropertyWriter writer = new(room[..Limits.MaxStoredPropertyBytes]);
        (ulong before, ulong first) = SameDeath(properties, message);
        WriteDeath(ref writer, message, before + 1, before > 0 ? first : (ulong)wallMicros, (ulong)wallMicros);
        WriteOlderDeaths(ref writer, properties, message);
        PropertyReader reader = new(properties);
        while (reader.Next())
        {
            if (reader.Tag is not (PropertyTag.Death or PropertyTag.Delay or PropertyTag.DeliverAt or PropertyTag.Ttl))
            {
                writer.Raw(reader.Raw);
            }
        }

        Invariant.Holds(!writer.Overflowed);
        return writer.Length;
    }

    /// <summary>Has it died in the queue that it would go to, and has nobody rejected it since? Then it would go round for ever by itself.</summary>
    public static bool IsCircle(ReadOnlySpan<byte> properties, in DyingMessage message)
    {
        bool isRejected = message.Reason == DeathReason.Rejected;
        PropertyReader reader = new(properties);
        while (!isRejected && reader.Next())
        {
            if (reader.Tag != PropertyTag.Death)
            {
                continue;
            }

            isRejected = ReasonIn(reader.Value) == DeathReason.Rejected;
            if (!isRejected && NameIn(reader.Value) == message.Target)
            {
                return true;
            }
        }

        return false;
    }

    private static void WriteDeath(ref PropertyWriter writer, in DyingMessage message, ulong count, ulong firstMicros, ulong lastMicros)
    {
        Span<byte> room = stackalloc byte[DeathBytes];
        FieldWriter death = new(room);
        death.Text(FieldTag.Name, message.QueueName);
        death.Number(FieldTag.Queue, message.Queue);
        death.Number(FieldTag.Tag, message.Tag);
        death.Number(FieldTag.Reason, (ulong)message.Reason);
        death.Number(FieldTag.Deliveries, message.Place.DeliveryCount);
        death.Number(FieldTag.Count, count);
        death.Number(FieldTag.FirstMicros, firstMicros);
        death.Number(FieldTag.LastMicros, lastMicros);
        FieldReader words = new(message.Words.Span);
        while (words.Next())
        {
            if (words.Tag is FieldTag.Text or FieldTag.Details)
            {
                death.Bytes(words.Tag, words.Value);
            }
        }

        Invariant.Holds(!death.Overflowed);
        writer.Bytes(PropertyTag.Death, death.Written);
    }

    /// <summary>The latest of them, as many as have room beside what a sender may write.</summary>
    private static void WriteOlderDeaths(ref PropertyWriter writer, ReadOnlySpan<byte> properties, in DyingMessage message)
    {
        const int MostBytes = Limits.MaxStoredPropertyBytes - Limits.MaxPropertyBytes - Transfer.MostBytes; // Room to be moved again.
        int deaths = 1;
        PropertyReader reader = new(properties);
        while (reader.Next() && deaths < Limits.MaxDeaths)
        {
            if (reader.Tag == PropertyTag.Death && !IsSame(reader.Value, message) && writer.Length + reader.Raw.Length <= MostBytes)
            {
                writer.Raw(reader.Raw);
                deaths++;
            }
        }
    }

    /// <summary>How often it died in this queue of this reason before, and when first.</summary>
    private static (ulong Count, ulong FirstMicros) SameDeath(ReadOnlySpan<byte> properties, in DyingMessage message)
    {
        PropertyReader reader = new(properties);
        while (reader.Next())
        {
            if (reader.Tag == PropertyTag.Death && IsSame(reader.Value, message))
            {
                return (NumberIn(reader.Value, FieldTag.Count), NumberIn(reader.Value, FieldTag.FirstMicros));
            }
        }

        return (0, 0);
    }

    private static bool IsSame(ReadOnlySpan<byte> death, in DyingMessage message) => ReasonIn(death) == message.Reason && NameIn(death) == message.QueueName;

    private static DeathReason ReasonIn(ReadOnlySpan<byte> death) => (DeathReason)NumberIn(death, FieldTag.Reason);

    private static ulong NumberIn(ReadOnlySpan<byte> death, FieldTag tag) => FieldReader.TryNumber(death, tag, out ulong number) ? number : 0;

    private static string NameIn(ReadOnlySpan<byte> death) => FieldReader.TryBytes(death, FieldTag.Name, out ReadOnlySpan<byte> name) ? Encoding.UTF8.GetString(name) : "";
}
