using System.Diagnostics.CodeAnalysis;
using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>A refusal of the broker or the client library: a code of the table, and what to do.</summary>
[SuppressMessage("Design", "CA1032:Implement standard exception constructors", Justification = "Always made with a code.")]
public sealed class FastQException : Exception
{
    public FastQException(RefusalCode code, string detail = "", ulong value = 0, ulong number = 0)
        : base(TextOf(code, detail, value))
    {
        (Code, Value, Number) = (code, value, number);
    }

    /// <summary>The code; its name, cause and remedy stand in <see cref="Refusal"/>.</summary>
    public RefusalCode Code { get; }

    /// <summary>The code's name, as scripts see it.</summary>
    public string Name => Refusal.Of(Code).Name;

    /// <summary>The value of the limit, where one is meant.</summary>
    public ulong Value { get; }

    /// <summary>The submission that was refused; 0 when none is meant.</summary>
    public ulong Number { get; }

    private static string TextOf(RefusalCode code, string detail, ulong value)
    {
        Refusal row = Refusal.Of(code);
        string limit = value > 0 ? $" (limit {value})" : "";
        string more = detail.Length > 0 ? $" {detail.TrimEnd('.')}." : "";
        return $"{row.Name}: {row.Cause}{limit}{more} {row.Remedy}";
    }
}
