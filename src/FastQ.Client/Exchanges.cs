using System.Text;
using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>An exchange that messages are sent to.</summary>
/// <param name="Id">The broker's number of it; never used again.</param>
/// <param name="Name">Its name.</param>
public readonly record struct ExchangeHandle(uint Id, string Name);

/// <summary>An exchange as the broker has it.</summary>
/// <param name="Id">The broker's number of it.</param>
/// <param name="Name">Its name; a queue may have the same.</param>
/// <param name="Type">How it chooses among its bindings.</param>
/// <param name="Alternate">Name of the exchange that gets what this one gives to nobody; empty: none.</param>
/// <param name="Bindings">How many it has.</param>
/// <param name="Discarded">Messages that came to it as optional, and reached no queue.</param>
public sealed record ExchangeInfo(uint Id, string Name, ExchangeType Type, string Alternate, int Bindings, long Discarded)
{
    internal static ExchangeInfo From(ReadOnlySpan<byte> fields) => new(
        (uint)Connector.Number(fields, FieldTag.ExchangeId),
        BindingInfo.TextIn(fields, FieldTag.Name),
        (ExchangeType)Connector.Number(fields, FieldTag.ExchangeType),
        BindingInfo.TextIn(fields, FieldTag.Alternate),
        (int)Connector.Number(fields, FieldTag.Bindings),
        (long)Connector.Number(fields, FieldTag.Discarded));
}

/// <summary>What an exchange gives, and to whom.</summary>
/// <param name="Target">Name of the queue, or of the other exchange.</param>
/// <param name="IsToExchange">Which of the two.</param>
/// <param name="Key">See <see cref="BindingOptions.Key"/>. The next two likewise.</param>
/// <param name="Headers">Empty: none.</param>
/// <param name="Match">How many of them.</param>
public sealed record BindingInfo(string Target, bool IsToExchange, string Key, IReadOnlyDictionary<string, HeaderValue> Headers, HeaderMatch Match)
{
    internal static BindingInfo From(ReadOnlySpan<byte> fields)
    {
        bool isToExchange = FieldReader.TryBytes(fields, FieldTag.Target, out _);
        FieldReader.TryBytes(fields, FieldTag.Arguments, out ReadOnlySpan<byte> arguments);
        return new BindingInfo(TextIn(fields, isToExchange ? FieldTag.Target : FieldTag.Name), isToExchange, TextIn(fields, FieldTag.RoutingKey), HeaderValue.ReadAll(arguments), (HeaderMatch)Connector.Number(fields, FieldTag.Match));
    }

    internal static string TextIn(ReadOnlySpan<byte> fields, FieldTag tag) => FieldReader.TryBytes(fields, tag, out ReadOnlySpan<byte> text) ? Encoding.UTF8.GetString(text) : "";
}

/// <summary>Which messages a binding is for.</summary>
public sealed record BindingOptions
{
    /// <summary>The routing key (direct), or a pattern of its words (topic: <c>*</c> is any one word, <c>#</c> any number of words, none too); at most 255 bytes. The other types do not look at it.</summary>
    public string Key { get; init; } = "";

    /// <summary>Headers that a message must have, by name, type and value: for an exchange of type headers alone.</summary>
    public IReadOnlyDictionary<string, HeaderValue>? Headers { get; init; }

    /// <summary>How many of them.</summary>
    public HeaderMatch Match { get; init; }

    internal void Write(ref FieldWriter writer)
    {
        writer.Text(FieldTag.RoutingKey, Key);
        writer.Number(FieldTag.Match, (ulong)Match);
        if (Headers is not null)
        {
            PropertyWriter arguments = new(new byte[Limits.MaxArgumentBytes]);
            byte[] room = new byte[Limits.MaxArgumentBytes];
            foreach ((string key, HeaderValue value) in Headers)
            {
                value.Write(ref arguments, key, room);
            }

            if (arguments.Overflowed)
            {
                throw new FastQException(RefusalCode.TooLarge, "The headers of a binding do not fit, or a header's key has not 1 to 255 bytes", Limits.MaxArgumentBytes);
            }

            writer.Bytes(FieldTag.Arguments, arguments.Written);
        }
    }
}

// Exchanges: made, bound, and sent to.

public sealed unsafe partial class Session
{
    /// <summary>Makes an exchange; one that exists with the same attributes is fine.</summary>
    /// <param name="name">1 to 255 bytes of UTF-8. Names of exchanges and of queues are apart: both may have the same.</param>
    /// <param name="type">How it chooses among its bindings.</param>
    /// <param name="alternate">Name of the exchange that gets what this one gives to nobody; it need not be there yet. Null: none.</param>
    /// <exception cref="FastQException">It exists with other attributes, or the name is none.</exception>
    public ExchangeInfo DeclareExchange(string name, ExchangeType type = ExchangeType.Direct, string? alternate = null) => ExchangeInfo.From(Ask(CommandKind.DeclareExchange, (ref FieldWriter writer) =>
    {
        writer.Text(FieldTag.Name, name);
        writer.Number(FieldTag.ExchangeType, (ulong)type);
        writer.Text(FieldTag.Alternate, alternate ?? "");
    })[0]);

    /// <summary>An exchange by its name.</summary>
    /// <exception cref="FastQException">There is none.</exception>
    public ExchangeInfo GetExchange(string name) => ExchangeInfo.From(AskForExchange(name)[^1]);

    /// <summary>The bindings of an exchange, by target and key.</summary>
    public IReadOnlyList<BindingInfo> GetBindings(string exchange) => [.. AskForExchange(exchange).SkipLast(1).Select(fields => BindingInfo.From(fields))];

    /// <summary>All exchanges, by name.</summary>
    public IReadOnlyList<ExchangeInfo> ListExchanges() => [.. Ask(CommandKind.ListExchanges, static (ref FieldWriter _) => { }).Where(fields => fields.Length > 0).Select(fields => ExchangeInfo.From(fields))];

    /// <summary>Deletes an exchange, with the bindings from and to it.</summary>
    public void DeleteExchange(string name) => _ = Ask(CommandKind.DeleteExchange, (ref FieldWriter writer) => writer.Text(FieldTag.Name, name));

    /// <summary>Has an exchange give to a queue what the options say. What is bound so already is fine.</summary>
    public void Bind(string exchange, string queue, BindingOptions? options = null) => ChangeBinding(CommandKind.Bind, exchange, FieldTag.Name, queue, options);

    /// <summary>Has an exchange give to another exchange what the options say. Circles do no harm: a message comes once to each queue.</summary>
    public void BindExchange(string exchange, string target, BindingOptions? options = null) => ChangeBinding(CommandKind.Bind, exchange, FieldTag.Target, target, options);

    /// <summary>Ends a binding to a queue: that of these options. What is not bound so is fine.</summary>
    public void Unbind(string exchange, string queue, BindingOptions? options = null) => ChangeBinding(CommandKind.Unbind, exchange, FieldTag.Name, queue, options);

    /// <summary>Ends a binding to another exchange: that of these options.</summary>
    public void UnbindExchange(string exchange, string target, BindingOptions? options = null) => ChangeBinding(CommandKind.Unbind, exchange, FieldTag.Target, target, options);

    /// <summary>Finds an exchange by its name.</summary>
    public ExchangeHandle OpenExchange(string name) => new(GetExchange(name).Id, name);

    /// <summary>Sends a message to an exchange: to every queue that it leads to, or to none of them. It is stored once. Returns its number at once; waits only while the ring is full.</summary>
    /// <param name="exchange">Where it goes.</param>
    /// <param name="body">It is not compressed, whatever the queues say.</param>
    /// <param name="level">Confirm to wait for.</param>
    /// <param name="properties">With <see cref="PropertyTag.RoutingKey"/>: see <see cref="PublishOptions.RoutingKey"/>.</param>
    /// <param name="isMandatory">It is refused (<see cref="RefusalCode.Unroutable"/>) where it reaches no queue; else it is then gone, and counts as published.</param>
    /// <param name="wantsRouted">How many queues took it is to be told by <see cref="Routed"/>.</param>
    /// <exception cref="FastQException">The body or the properties are too large.</exception>
    public ulong Publish(in ExchangeHandle exchange, ReadOnlySpan<byte> body, ConfirmLevel level = ConfirmLevel.Durable, ReadOnlySpan<byte> properties = default, bool isMandatory = true, bool wantsRouted = false)
    {
        Reservation reservation = Reserve(new QueueHandle(exchange.Id, exchange.Name), body.Length, properties);
        body.CopyTo(reservation.Body);
        return reservation.Commit(level, (byte)((isMandatory ? 0 : MessageHeader.Optional) | (wantsRouted ? MessageHeader.WantsRouted : 0)));
    }

    /// <summary>Listens to an exchange: makes a temporary queue of this session's own, binds it and subscribes to it. What was sent before is not seen; when the session ends, the queue goes with all it holds.</summary>
    /// <param name="exchange">Its name.</param>
    /// <param name="binding">Which messages; null: those of the empty key, of a fanout all.</param>
    /// <param name="options">As for <see cref="Subscribe(string, SubscribeOptions)"/>.</param>
    public Subscription SubscribeToExchange(string exchange, BindingOptions? binding = null, SubscribeOptions? options = null)
    {
        string queue = MakeTemporaryQueue();
        Bind(exchange, queue, binding);
        return Subscribe(queue, options);
    }

    /// <summary>Makes a queue of this session's own, of a name that nobody else has.</summary>
    /// <returns>Its name.</returns>
    internal string MakeTemporaryQueue()
    {
        byte[] random = new byte[16];
        _options.Surroundings.Fill(random);
        string name = $"temporary.{Convert.ToHexStringLower(random)}";
        _ = DeclareQueue(name, new QueueOptions { IsTemporary = true, DeadLetter = "" });
        return name;
    }

    private List<byte[]> AskForExchange(string name) => [.. Ask(CommandKind.ShowExchange, (ref FieldWriter writer) => writer.Text(FieldTag.Name, name))];

    private void ChangeBinding(CommandKind kind, string exchange, FieldTag targetTag, string target, BindingOptions? options) => _ = Ask(kind, (ref FieldWriter writer) =>
    {
        writer.Text(FieldTag.Exchange, exchange);
        writer.Text(targetTag, target);
        (options ?? new BindingOptions()).Write(ref writer);
    });
}
