using System.Text;
using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>A reply to a request, or a part of one: a copy, which stays valid as long as anyone holds it. Any thread.</summary>
public sealed class Reply
{
    private readonly byte[] _properties;

    internal Reply(in ReplyView view)
    {
        Body = view.Body.ToArray();
        _properties = view.Properties.ToArray();
    }

    public ReadOnlyMemory<byte> Body { get; }

    /// <summary><see cref="Body"/> read as UTF-8.</summary>
    public string Text => Encoding.UTF8.GetString(Body.Span);

    /// <summary>See <see cref="ReplyOptions.ContentType"/>; null when it was not set. The others likewise.</summary>
    public string? ContentType => PropertyReader.TextOf(_properties, PropertyTag.ContentType);

    public string? Type => PropertyReader.TextOf(_properties, PropertyTag.Type);

    public string? CorrelationId => PropertyReader.TextOf(_properties, PropertyTag.CorrelationId);

    /// <summary>The headers, with their types; of a key that repeats the last. Made anew at each call.</summary>
    public IReadOnlyDictionary<string, HeaderValue> Headers => HeaderValue.ReadAll(_properties);
}
