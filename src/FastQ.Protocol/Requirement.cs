using System.Diagnostics.CodeAnalysis;

namespace FastQ.Protocol;

/// <summary>Properties of a message that a queue may demand. On the wire and in the journal they are a list of names: <see cref="Requirement"/>.</summary>
[Flags]
public enum RequiredProperties
{
    None = 0,
    MessageId = 1,
    Type = 2,
    CorrelationId = 4,
    ContentType = 8,
    ReplyTo = 16,
    Key = 32,
    SchemaVersion = 64,
}

/// <summary>One row of the table of properties that a queue may demand.</summary>
/// <param name="Property">As a flag.</param>
/// <param name="Name">In a list of them, and for people.</param>
/// <param name="Tag">As it stands in a message.</param>
public readonly record struct Requirement(RequiredProperties Property, string Name, PropertyTag Tag)
{
    // The one table (src/FastQ.Protocol/README.md lists it; a test compares).
    private static readonly Requirement[] s_table =
    [
        new(RequiredProperties.MessageId, "message-id", PropertyTag.MessageId),
        new(RequiredProperties.Type, "type", PropertyTag.Type),
        new(RequiredProperties.CorrelationId, "correlation-id", PropertyTag.CorrelationId),
        new(RequiredProperties.ContentType, "content-type", PropertyTag.ContentType),
        new(RequiredProperties.ReplyTo, "reply-to", PropertyTag.ReplyTo),
        new(RequiredProperties.Key, "key", PropertyTag.Key),
        new(RequiredProperties.SchemaVersion, "schema-version", PropertyTag.SchemaVersion),
    ];

    /// <summary>All that may be demanded, in the order of their flags.</summary>
    public static ReadOnlySpan<Requirement> Table => s_table;

    /// <summary>All names, as in a sentence.</summary>
    public static string AllNames { get; } = string.Join(", ", s_table.Select(row => row.Name));

    /// <summary>The names of some, with commas between; empty: of none.</summary>
    public static string NamesOf(RequiredProperties properties) => string.Join(',', s_table.Where(row => (properties & row.Property) != 0).Select(row => row.Name));

    /// <summary>Reads names with commas between, in any order. False: one of them is none of the table's.</summary>
    /// <param name="names">Empty: none is demanded.</param>
    /// <param name="properties">What they name.</param>
    /// <param name="unknown">The first that names nothing.</param>
    public static bool TryParse(string names, out RequiredProperties properties, [NotNullWhen(false)] out string? unknown)
    {
        (properties, unknown) = (RequiredProperties.None, null);
        foreach (string name in names.Length == 0 ? [] : names.Split(','))
        {
            int row = Array.FindIndex(s_table, one => one.Name == name);
            if (row < 0)
            {
                unknown = name;
                return false;
            }

            properties |= s_table[row].Property;
        }

        return true;
    }

    /// <summary>The flag of a property that a queue may demand; none of another.</summary>
    public static RequiredProperties Of(PropertyTag tag) => tag switch
    {
        PropertyTag.MessageId => RequiredProperties.MessageId,
        PropertyTag.Type => RequiredProperties.Type,
        PropertyTag.CorrelationId => RequiredProperties.CorrelationId,
        PropertyTag.ContentType => RequiredProperties.ContentType,
        PropertyTag.ReplyTo => RequiredProperties.ReplyTo,
        PropertyTag.Key => RequiredProperties.Key,
        PropertyTag.SchemaVersion => RequiredProperties.SchemaVersion,
        _ => RequiredProperties.None,
    };
}
