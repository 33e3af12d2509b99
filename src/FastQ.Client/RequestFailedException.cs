using System.Diagnostics.CodeAnalysis;

namespace FastQ.Client;

/// <summary>The responder says that a request failed. What went wrong on the way is a <see cref="FastQException"/>.</summary>
[SuppressMessage("Design", "CA1032:Implement standard exception constructors", Justification = "Always made with a code.")]
public sealed class RequestFailedException : Exception
{
    public RequestFailedException(string code, string words)
        : base(words.Length > 0 ? $"{code}: {words}" : code)
    {
        (Code, Words) = (code, words);
    }

    /// <summary>As the responder gave it: of a <see cref="Responder"/> whose handler threw, the type of the exception; <c>rejected</c> of one that rejected the request.</summary>
    public string Code { get; }

    /// <summary>What it said; perhaps nothing.</summary>
    public string Words { get; }
}
