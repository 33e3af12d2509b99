using System.Text;
using System.Text.Json;
using System.Text.Unicode;
using FastQ.Client;
using FastQ.Protocol;

namespace FastQ.Server;

/// <summary>What of a message every command writes in the same way.</summary>
internal static class MessageJson
{
    public static void WriteBody(Utf8JsonWriter json, ReadOnlySpan<byte> body)
    {
        if (Utf8.IsValid(body))
        {
            json.WriteString("body", body);
        }
        else
        {
            json.WriteBase64String("bodyBase64", body);
        }
    }

    public static void WriteProperties(Utf8JsonWriter json, ReadOnlySpan<byte> properties)
    {
        json.WriteStartObject("properties");
        PropertyReader reader = new(properties);
        while (reader.Next())
        {
            if (reader.Tag is not (PropertyTag.Header or PropertyTag.Death))
            {
                WriteValue(json, reader.Tag.ToString() is { Length: > 0 } name ? char.ToLowerInvariant(name[0]) + name[1..] : "", reader);
            }
        }

        json.WriteEndObject();
        json.WriteStartObject("headers");
        reader = new PropertyReader(properties);
        while (reader.Next())
        {
            if (reader.Tag == PropertyTag.Header)
            {
                WriteValue(json, Encoding.UTF8.GetString(reader.Key), reader);
            }
        }

        json.WriteEndObject();
    }

    /// <summary>The story of a dead letter; nothing where there is none.</summary>
    public static void WriteDeaths(Utf8JsonWriter json, IReadOnlyList<Death> deaths)
    {
        if (deaths.Count == 0)
        {
            return;
        }

        json.WriteStartArray("deaths");
        foreach (Death death in deaths)
        {
            json.WriteStartObject();
            json.WriteString("queue", death.Queue);
            json.WriteNumber("tag", death.Tag);
            json.WriteString("reason", NameOf(death.Reason));
            json.WriteNumber("deliveries", death.Deliveries);
            json.WriteNumber("count", death.Count);
            json.WriteString("first", death.First.UtcDateTime);
            json.WriteString("last", death.Last.UtcDateTime);
            json.WriteString("text", death.Text);
            json.WriteString("details", death.Details);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    public static string NameOf(DeathReason reason) => reason switch { DeathReason.MaxDeliveries => "max-deliveries", DeathReason.Rejected => "rejected", DeathReason.Expired => "expired", DeathReason.Overflow => "overflow", _ => "unknown" };

    private static void WriteValue(Utf8JsonWriter json, string key, PropertyReader reader)
    {
        switch (reader.Type)
        {
            case PropertyType.Text:
                json.WriteString(key, reader.Value);
                break;
            case PropertyType.Boolean when reader.Value.Length == 1:
                json.WriteBoolean(key, reader.Value[0] != 0);
                break;
            case PropertyType.Int64 or PropertyType.Timestamp when reader.Value.Length == 8:
                json.WriteNumber(key, BitConverter.ToInt64(reader.Value));
                break;
            case PropertyType.Double when reader.Value.Length == 8 && double.IsFinite(BitConverter.ToDouble(reader.Value)): // JSON has no other numbers.
                json.WriteNumber(key, BitConverter.ToDouble(reader.Value));
                break;
            default:
                json.WriteBase64String(key, reader.Value);
                break;
        }
    }
}
