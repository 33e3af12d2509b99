using System.CommandLine.Parsing;
using System.Globalization;
using System.Text.Json;
using FastQ.Client;

namespace FastQ.Server;

/// <summary>A header as the command line gives it: k=v, or k:TYPE=v.</summary>
internal readonly record struct HeaderArgument(string Key, HeaderValue Value)
{
    public static HeaderArgument[] Parse(ArgumentResult argument)
    {
        List<HeaderArgument> headers = [];
        foreach (Token token in argument.Tokens)
        {
            if (!TryParse(token.Value, out HeaderArgument header, out string fault))
            {
                argument.AddError(fault);
            }
            else if (headers.Exists(other => other.Key == header.Key))
            {
                argument.AddError($"--header gives the key '{header.Key}' more than once.");
            }
            else
            {
                headers.Add(header);
            }
        }

        return [.. headers];
    }

    private static bool TryParse(string text, out HeaderArgument header, out string fault)
    {
        header = default;
        if (text.Split('=', 2) is not [{ Length: > 0 } name, string value])
        {
            fault = "--header needs k=v, with a key.";
            return false;
        }

        (string key, string type) = KeyAndType(name);
        fault = key.Length == 0 ? "--header needs k=v, with a key." : $"--header: '{value}' is no {type} for the key '{key}'.";
        HeaderValue? parsed = Of(type, value);
        header = new HeaderArgument(key, parsed ?? "");
        return parsed is not null && key.Length > 0;
    }

    /// <summary>Reads a header of a file: its name is k or k:TYPE, as on the command line; its value text in the form of that type, or what JSON says by itself. Null: it is none.</summary>
    public static HeaderArgument? Read(string name, JsonElement json)
    {
        (string key, string type) = KeyAndType(name);
        HeaderValue? value = json.ValueKind == JsonValueKind.String ? Of(type, json.GetString()!) : type is "" or "json" ? Of(json) : null;
        return key.Length > 0 && value is HeaderValue found ? new HeaderArgument(key, found) : null;
    }

    /// <summary>Writes a header of a file, as <see cref="Read"/> reads it; a raw one, and what JSON cannot say within a list or table, is then another.</summary>
    public static void Write(Utf8JsonWriter json, string key, HeaderValue value)
    {
        bool looksTyped = KeyAndType(key).Type.Length > 0;
        (string type, string? text) = value switch
        {
            { IsRaw: true } => ("json", null),
            { AsText: string own } => (looksTyped ? "text" : "", own),
            { AsTimestamp: DateTimeOffset moment } => ("time", moment.UtcDateTime.ToString("O", CultureInfo.InvariantCulture)),
            { AsBytes: ReadOnlyMemory<byte> bytes } => ("bytes", Convert.ToBase64String(bytes.Span)),
            { AsDouble: double number } when !double.IsFinite(number) => ("double", number.ToString("R", CultureInfo.InvariantCulture)),
            _ => (looksTyped ? "json" : "", null),
        };
        json.WritePropertyName(type.Length > 0 ? $"{key}:{type}" : key);
        if (text is not null)
        {
            json.WriteStringValue(text);
        }
        else
        {
            MessageJson.WriteValue(json, value);
        }
    }

    /// <summary>Of k, or k:TYPE.</summary>
    private static (string Key, string Type) KeyAndType(string name)
    {
        int colon = name.LastIndexOf(':');
        string type = colon < 0 ? "" : name[(colon + 1)..];
        return type is "text" or "int" or "double" or "bool" or "time" or "bytes" or "json" ? (name[..colon], type) : (name, "");
    }

    /// <summary>Null: the text does not say a value of this type.</summary>
    private static HeaderValue? Of(string type, string text) => type switch
    {
        "int" => long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long number) ? number : (HeaderValue?)null,
        "double" => double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double number) ? number : (HeaderValue?)null,
        "bool" => text switch { "true" => true, "false" => false, _ => (HeaderValue?)null },
        "time" => Shared.TryParseMoment(text, out DateTimeOffset moment) ? moment : (HeaderValue?)null,
        "bytes" => BytesOf(text),
        "json" => JsonOf(text),
        _ => text,
    };

    private static HeaderValue? BytesOf(string base64)
    {
        byte[] bytes = new byte[base64.Length];
        return Convert.TryFromBase64String(base64, bytes, out int length) ? bytes[..length] : (HeaderValue?)null;
    }

    private static HeaderValue? JsonOf(string text)
    {
        try
        {
            using JsonDocument json = JsonDocument.Parse(text);
            return Of(json.RootElement);
        }
        catch (JsonException)
        {
            return null;
        }
    }

    /// <summary>A number without a point and an exponent is an integer. Null: there is a null in it, or an integer of more than 64 bits.</summary>
    private static HeaderValue? Of(JsonElement json)
    {
        switch (json.ValueKind)
        {
            case JsonValueKind.String:
                return json.GetString()!;
            case JsonValueKind.True or JsonValueKind.False:
                return json.GetBoolean();
            case JsonValueKind.Number when json.GetRawText().AsSpan().ContainsAny('.', 'e', 'E'):
                return json.GetDouble();
            case JsonValueKind.Number:
                return json.TryGetInt64(out long number) ? number : (HeaderValue?)null;
            case JsonValueKind.Array:
                HeaderValue?[] values = [.. json.EnumerateArray().Select(Of)];
                return values.Any(value => value is null) ? (HeaderValue?)null : HeaderValue.ListOf([.. values.Select(value => value!.Value)]);
            case JsonValueKind.Object:
                Dictionary<string, HeaderValue> table = [];
                foreach (JsonProperty property in json.EnumerateObject())
                {
                    if (Of(property.Value) is not HeaderValue value)
                    {
                        return null;
                    }

                    table[property.Name] = value;
                }

                return table;
            default:
                return null;
        }
    }
}
