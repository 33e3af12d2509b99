using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Unicode;
using FastQ.Client;
using FastQ.Protocol;

namespace FastQ.Server;

/// <summary>What of a message every command writes in the same way.</summary>
internal static class MessageJson
{
    /// <param name="json">Into an object.</param>
    /// <param name="body">As it is shown.</param>
    /// <param name="encoding">How that is encoded; null: not at all, or decoded.</param>
    public static void WriteBody(Utf8JsonWriter json, ReadOnlySpan<byte> body, string? encoding)
    {
        if (encoding is not null)
        {
            json.WriteBase64String("bodyBase64", body);
            json.WriteString("bodyEncoding", encoding);
            return;
        }

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
            if (reader.Tag is not (PropertyTag.Header or PropertyTag.Death or PropertyTag.Origin or PropertyTag.BodyEncoding))
            {
                json.WritePropertyName(reader.Tag.ToString() is { Length: > 0 } name ? char.ToLowerInvariant(name[0]) + name[1..] : "");
                WriteValue(json, HeaderValue.Read(reader.Type, reader.Value));
            }
        }

        json.WriteEndObject();
        json.WriteStartObject("headers");
        reader = new PropertyReader(properties);
        while (reader.Next())
        {
            if (reader.Tag == PropertyTag.Header)
            {
                json.WritePropertyName(Encoding.UTF8.GetString(reader.Key));
                WriteValue(json, HeaderValue.Read(reader.Type, reader.Value));
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
            json.WriteString("reason", StateNames.NameOf(death.Reason));
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

    /// <summary>So that its type is seen: a double has a point or an exponent, a moment is text as in ISO 8601, bytes and what JSON cannot say are objects.</summary>
    public static void WriteValue(Utf8JsonWriter json, HeaderValue value)
    {
        switch (value)
        {
            case { IsRaw: true }:
                json.WriteStartObject();
                json.WriteNumber("type", (int)value.Type);
                json.WriteBase64String("base64", value.AsBytes!.Value.Span);
                json.WriteEndObject();
                break;
            case { AsText: string text }:
                json.WriteStringValue(text);
                break;
            case { AsBoolean: bool flag }:
                json.WriteBooleanValue(flag);
                break;
            case { AsInt64: long number }:
                json.WriteNumberValue(number);
                break;
            case { AsDouble: double number }:
                WriteDouble(json, number);
                break;
            case { AsBytes: ReadOnlyMemory<byte> bytes }:
                json.WriteStartObject();
                json.WriteBase64String("base64", bytes.Span);
                json.WriteEndObject();
                break;
            case { AsTimestamp: DateTimeOffset moment }:
                json.WriteStringValue(moment.UtcDateTime);
                break;
            case { AsList: IReadOnlyList<HeaderValue> list }:
                json.WriteStartArray();
                foreach (HeaderValue inner in list)
                {
                    WriteValue(json, inner);
                }

                json.WriteEndArray();
                break;
            case { AsTable: IReadOnlyDictionary<string, HeaderValue> table }:
                json.WriteStartObject();
                foreach ((string key, HeaderValue inner) in table)
                {
                    json.WritePropertyName(key);
                    WriteValue(json, inner);
                }

                json.WriteEndObject();
                break;
        }
    }

    private static void WriteDouble(Utf8JsonWriter json, double number)
    {
        string text = number.ToString("R", CultureInfo.InvariantCulture);
        if (double.IsFinite(number))
        {
            json.WriteRawValue(text.AsSpan().ContainsAny('.', 'E') ? text : text + ".0");
            return;
        }

        json.WriteStartObject(); // JSON has no such numbers.
        json.WriteString("double", text);
        json.WriteEndObject();
    }
}
