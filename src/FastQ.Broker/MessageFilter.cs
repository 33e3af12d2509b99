using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using FastQ.Engine;
using FastQ.Protocol;

namespace FastQ.Broker;

/// <summary>Which messages of a queue are meant: conditions that must all hold, like <c>reason=rejected and age>1h and header.customer=17</c>. Pure; any text and any bytes may be given.</summary>
/// <remarks>
/// A condition is a name, an operator (= != ~ &lt; &lt;= &gt; &gt;=; ~ says that the value is part of it, letters of either case) and a value, in quotes where it has spaces or "and".
/// Names: state, deliveries, size, age (since its acceptance, like 90s, 5m, 2h, 7d), priority, id, type, correlation-id, reply-to, content-type, content-encoding, key, group, tenant, header.NAME,
/// and of dead letters reason, died-in, deaths (how often of that reason) and words (what the consumer said). What a message does not have is no text, and no number: only != holds of it.
/// </remarks>
internal sealed class MessageFilter
{
    private static readonly string[] s_operators = ["!=", "<=", ">=", "=", "~", "<", ">"];
    private readonly Condition[] _conditions;

    private MessageFilter(Condition[] conditions) => _conditions = conditions;

    public static MessageFilter All { get; } = new([]);

    public static MessageFilter None { get; } = new([new Condition("state", "=", "none", 0)]);

    public bool IsAll => _conditions.Length == 0;

    /// <summary>Reads the conditions. False: what is wrong, and where.</summary>
    public static bool TryParse(string text, out MessageFilter filter, out string fault)
    {
        (filter, fault) = (All, "");
        List<Condition> conditions = [];
        int at = 0;
        while (true)
        {
            SkipSpaces(text, ref at);
            if (at == text.Length)
            {
                break;
            }

            if (conditions.Count > 0 && !TrySkipAnd(text, ref at))
            {
                fault = $"filter: 'and' is expected at '{text[at..]}'";
                return false;
            }

            if (!TryReadCondition(text, ref at, out Condition condition, out fault))
            {
                return false;
            }

            conditions.Add(condition);
        }

        filter = new MessageFilter([.. conditions]);
        return true;
    }

    /// <summary>Is this message meant?</summary>
    /// <param name="view">How it stands.</param>
    /// <param name="record">Its whole record.</param>
    /// <param name="now">For its age.</param>
    public bool Matches(in MessageView view, ReadOnlySpan<byte> record, Now now)
    {
        foreach (Condition condition in _conditions)
        {
            if (!Holds(condition, view, record, now))
            {
                return false;
            }
        }

        return true;
    }

    private static bool Holds(Condition condition, in MessageView view, ReadOnlySpan<byte> record, Now now)
    {
        MessageHeader header = MemoryMarshal.Read<MessageHeader>(record);
        ReadOnlySpan<byte> properties = record.Slice(MessageHeader.SizeBytes, header.PropertyBytes);
        if (condition.IsNumber)
        {
            double? number = condition.Name switch
            {
                "deliveries" => view.Deliveries,
                "size" => record.Length - MessageHeader.SizeBytes - header.PropertyBytes,
                "age" => Math.Max(0, now.WallMicros - (long)header.NumberOrTimeMicros) / 1e6,
                "deaths" => DeathNumber(properties, FieldTag.Count),
                _ => NumberOf(properties, PropertyTag.Priority) ?? 0, // priority
            };
            return condition.HoldsOf(number);
        }

        string? text = condition.Name switch
        {
            "state" => StateNames.NameOf(view.State),
            "id" => PropertyReader.TextOf(properties, PropertyTag.MessageId),
            "type" => PropertyReader.TextOf(properties, PropertyTag.Type),
            "correlation-id" => PropertyReader.TextOf(properties, PropertyTag.CorrelationId),
            "reply-to" => PropertyReader.TextOf(properties, PropertyTag.ReplyTo),
            "content-type" => PropertyReader.TextOf(properties, PropertyTag.ContentType),
            "content-encoding" => PropertyReader.TextOf(properties, PropertyTag.ContentEncoding),
            "key" => PropertyReader.TextOf(properties, PropertyTag.Key),
            "group" => PropertyReader.TextOf(properties, PropertyTag.Group),
            "tenant" => PropertyReader.TextOf(properties, PropertyTag.Tenant),
            "reason" => view.Reason != DeathReason.None ? StateNames.NameOf(view.Reason) : DeathNumber(properties, FieldTag.Reason) is double reason ? StateNames.NameOf((DeathReason)reason) : null,
            "died-in" => DeathText(properties, FieldTag.Name),
            "words" => DeathText(properties, FieldTag.Text),
            _ => HeaderOf(properties, condition.Name["header.".Length..]),
        };
        return condition.HoldsOf(text);
    }

    private static bool TryReadCondition(string text, ref int at, out Condition condition, out string fault)
    {
        int start = at;
        while (at < text.Length && !char.IsWhiteSpace(text[at]) && "!=~<>".IndexOf(text[at], StringComparison.Ordinal) < 0)
        {
            at++;
        }

        (string name, condition, fault) = (text[start..at], default, "");
        SkipSpaces(text, ref at);
        string rest = text[at..];
        string? sign = Array.Find(s_operators, candidate => rest.StartsWith(candidate, StringComparison.Ordinal));
        if (name.Length == 0 || sign is null)
        {
            fault = $"filter: a condition like type=order is expected at '{text[start..]}'";
            return false;
        }

        at += sign.Length;
        SkipSpaces(text, ref at);
        if (!TryReadValue(text, ref at, out string value))
        {
            fault = $"filter: {name}{sign} has no value, or its quote is not closed";
            return false;
        }

        return TryMake(name, sign, value, out condition, out fault);
    }

    private static bool TryMake(string name, string sign, string value, out Condition condition, out string fault)
    {
        (double number, fault) = (0, "");
        bool isNumber = Condition.IsNumberName(name);
        condition = new Condition(name, sign, value, 0);
        if (!isNumber && !Condition.IsTextName(name))
        {
            fault = $"filter: '{name}' is not known; use {Condition.Names}";
            return false;
        }

        if (isNumber && (sign == "~" || !(name == "age" ? TryParseAge(value, out number) : double.TryParse(value, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out number))))
        {
            fault = name == "age" ? $"filter: '{value}' is no age; use one like 90s, 5m, 2h or 7d" : $"filter: {name} is a number, '{sign}{value}' does not fit it";
            return false;
        }

        if (!isNumber && sign is not ("=" or "!=" or "~"))
        {
            fault = $"filter: {name} is a text: use =, != or ~";
            return false;
        }

        condition = condition with { Number = number };
        return true;
    }

    private static bool TryReadValue(string text, ref int at, out string value)
    {
        value = "";
        if (at == text.Length)
        {
            return false;
        }

        char quote = text[at];
        if (quote is '\'' or '"')
        {
            int end = text.IndexOf(quote, at + 1);
            value = end < 0 ? "" : text[(at + 1)..end];
            at = end + 1;
            return end >= 0;
        }

        int start = at;
        while (at < text.Length && !char.IsWhiteSpace(text[at]))
        {
            at++;
        }

        value = text[start..at];
        return true;
    }

    private static bool TryParseAge(string text, out double seconds)
    {
        int digits = 0;
        while (digits < text.Length && (char.IsAsciiDigit(text[digits]) || text[digits] == '.'))
        {
            digits++;
        }

        double unit = text[digits..] switch { "ms" => 0.001, "s" => 1, "m" => 60, "h" => 3600, "d" => 86_400, _ => 0 };
        bool isNumber = double.TryParse(text[..digits], NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double number);
        seconds = number * unit;
        return isNumber && unit > 0;
    }

    private static void SkipSpaces(string text, ref int at)
    {
        while (at < text.Length && char.IsWhiteSpace(text[at]))
        {
            at++;
        }
    }

    private static bool TrySkipAnd(string text, ref int at)
    {
        const string And = "and ";
        bool isThere = string.Compare(text, at, And, 0, And.Length, StringComparison.OrdinalIgnoreCase) == 0;
        at += isThere ? And.Length : 0;
        SkipSpaces(text, ref at);
        return isThere;
    }

    private static double? NumberOf(ReadOnlySpan<byte> properties, PropertyTag tag) => PropertyReader.TryFind(properties, tag, out PropertyReader found) && found.TryNumber(PropertyType.Int64, out long number) ? number : null;

    private static string? HeaderOf(ReadOnlySpan<byte> properties, string key)
    {
        byte[] wanted = Encoding.UTF8.GetBytes(key);
        PropertyReader reader = new(properties);
        while (reader.Next())
        {
            if (reader.Tag == PropertyTag.Header && reader.Key.SequenceEqual(wanted))
            {
                return reader.Type switch
                {
                    PropertyType.Text => Encoding.UTF8.GetString(reader.Value),
                    PropertyType.Int64 when reader.TryNumber(PropertyType.Int64, out long number) => number.ToString(CultureInfo.InvariantCulture),
                    PropertyType.Boolean when reader.Value.Length == 1 => reader.Value[0] != 0 ? "true" : "false",
                    PropertyType.Double when reader.Value.Length == sizeof(double) => BinaryPrimitives.ReadDoubleLittleEndian(reader.Value).ToString(CultureInfo.InvariantCulture),
                    _ => null,
                };
            }
        }

        return null;
    }

    /// <summary>Of the latest death.</summary>
    private static double? DeathNumber(ReadOnlySpan<byte> properties, FieldTag tag) =>
        TryDeath(properties, out ReadOnlySpan<byte> death) && FieldReader.TryNumber(death, tag, out ulong number) ? number : null;

    private static string? DeathText(ReadOnlySpan<byte> properties, FieldTag tag) =>
        TryDeath(properties, out ReadOnlySpan<byte> death) && FieldReader.TryBytes(death, tag, out ReadOnlySpan<byte> text) ? Encoding.UTF8.GetString(text) : null;

    private static bool TryDeath(ReadOnlySpan<byte> properties, out ReadOnlySpan<byte> death)
    {
        bool isThere = PropertyReader.TryFind(properties, PropertyTag.Death, out PropertyReader found);
        death = isThere ? found.Value : default;
        return isThere;
    }

    private readonly record struct Condition(string Name, string Sign, string Value, double Number)
    {
        private static readonly string[] s_numbers = ["deliveries", "size", "age", "priority", "deaths"];
        private static readonly string[] s_texts = ["state", "id", "type", "correlation-id", "reply-to", "content-type", "content-encoding", "key", "group", "tenant", "reason", "died-in", "words"];

        public static string Names => string.Join(", ", [.. s_texts, .. s_numbers, "header.NAME"]);

        public bool IsNumber => IsNumberName(Name);

        public static bool IsNumberName(string name) => s_numbers.Contains(name);

        public static bool IsTextName(string name) => s_texts.Contains(name) || (name.StartsWith("header.", StringComparison.Ordinal) && name.Length > "header.".Length);

        public bool HoldsOf(double? number) => Sign switch
        {
            "=" => number == Number,
            "!=" => number != Number,
            "<" => number < Number,
            "<=" => number <= Number,
            ">" => number > Number,
            _ => number >= Number,
        };

        public bool HoldsOf(string? text) => Sign switch
        {
            "=" => text == Value,
            "!=" => text != Value,
            _ => text?.Contains(Value, StringComparison.OrdinalIgnoreCase) == true,
        };
    }
}
