using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using FastQ.Client;
using FastQ.Protocol;
using Spectre.Console;

namespace FastQ.Server;

/// <summary>fastq exchange create|list|show|delete, fastq bind, fastq unbind.</summary>
internal static class ExchangeCommand
{
    public static Command Create() => new("exchange", "Create, list, show and delete exchanges: what gives messages to queues that are bound to it. Names of exchanges and of queues are apart: both may have the same.\n\nExamples:\n  fastq exchange create events --type topic --alternate rest\n  fastq bind events audit --key \"order.#\"\n  fastq publish --exchange events --key order.created --body hello")
    {
        CreateOne(), ListAll(), ShowOne(), Delete(),
    };

    private static Argument<string> Exchange() => new("EXCHANGE") { Description = "Name of the exchange." };

    private static Command CreateOne()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Exchange(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Option<string> type = new("--type") { Description = "How it chooses: direct (the key is the binding's), topic (words with '.' between; in a binding '*' is one word, '#' any number), fanout (all), headers.", DefaultValueFactory = _ => "direct", HelpName = "direct|topic|fanout|headers" };
        type.AcceptOnlyFromAmong("direct", "topic", "fanout", "headers");
        Option<string?> alternate = new("--alternate") { Description = "The exchange that gets what this one gives to nobody (none).", HelpName = "NAME" };
        Command command = new("create", "Create an exchange. One that exists with the same attributes is fine.") { name, type, alternate, socket, patience, json };
        command.SetAction(parsed => With(parsed.GetRequiredValue(socket), parsed.GetValue(patience), session =>
            Print([session.DeclareExchange(parsed.GetRequiredValue(name), Enum.Parse<ExchangeType>(parsed.GetRequiredValue(type), ignoreCase: true), parsed.GetValue(alternate))], parsed.GetValue(json))));
        return command;
    }

    private static Command ListAll()
    {
        (Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new("list", "List all exchanges.") { socket, patience, json };
        command.SetAction(parsed => With(parsed.GetRequiredValue(socket), parsed.GetValue(patience), session =>
        {
            IReadOnlyList<ExchangeInfo> exchanges = session.ListExchanges();
            if (parsed.GetValue(json))
            {
                Shared.PrintJson(writer =>
                {
                    writer.WriteStartArray();
                    foreach (ExchangeInfo exchange in exchanges)
                    {
                        writer.WriteStartObject();
                        Write(writer, exchange);
                        writer.WriteEndObject();
                    }

                    writer.WriteEndArray();
                });
            }
            else
            {
                Print(exchanges, json: false);
            }
        }));
        return command;
    }

    private static Command ShowOne()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Exchange(), Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new("show", "Show an exchange and its bindings.") { name, socket, patience, json };
        command.SetAction(parsed => With(parsed.GetRequiredValue(socket), parsed.GetValue(patience), session =>
        {
            ExchangeInfo exchange = session.GetExchange(parsed.GetRequiredValue(name));
            IReadOnlyList<BindingInfo> bindings = session.GetBindings(exchange.Name);
            if (parsed.GetValue(json))
            {
                PrintBindings(exchange, bindings);
                return;
            }

            Print([exchange], json: false);
            Table table = new Table().AddColumn("to").AddColumn("key").AddColumn("headers");
            foreach (BindingInfo binding in bindings)
            {
                string headers = string.Join(", ", binding.Headers.Select(header => $"{header.Key}={header.Value}"));
                table.AddRow(Markup.Escape(binding.IsToExchange ? $"exchange {binding.Target}" : binding.Target), Markup.Escape(binding.Key), Markup.Escape(headers.Length > 0 ? $"{NameOf(binding.Match)}: {headers}" : ""));
            }

            AnsiConsole.Write(table);
        }));
        return command;
    }

    private static Command Delete()
    {
        (Argument<string> name, Option<string> socket, Option<TimeSpan> patience) = (Exchange(), Shared.Socket(), Shared.Patience());
        Command command = new("delete", "Delete an exchange, with the bindings from and to it. Queues stay as they are.") { name, socket, patience };
        command.SetAction(parsed => With(parsed.GetRequiredValue(socket), parsed.GetValue(patience), session => session.DeleteExchange(parsed.GetRequiredValue(name))));
        return command;
    }

    /// <summary>fastq bind, or fastq unbind.</summary>
    public static Command CreateBinding(bool isBind)
    {
        (Argument<string> exchange, Option<string> socket, Option<TimeSpan> patience) = (Exchange(), Shared.Socket(), Shared.Patience());
        Argument<string?> queue = new("QUEUE") { Description = "The queue that gets the messages.", Arity = ArgumentArity.ZeroOrOne };
        Option<string?> to = new("--to-exchange") { Description = "The exchange that gets the messages, instead of a queue.", HelpName = "NAME" };
        Option<string> key = new("--key") { Description = "Which routing keys: the key itself (direct), or a pattern like order.*.eu or log.# (topic).", DefaultValueFactory = _ => "", HelpName = "K" };
        Option<HeaderArgument[]> header = new("--header") { Description = "A header that messages must have, k=v, with its type as in publish; may be given several times.", HelpName = "k=v", CustomParser = HeaderArgument.Parse, DefaultValueFactory = _ => [] };
        Option<string> match = new("--match") { Description = "How many of the headers: all, or any.", DefaultValueFactory = _ => "all", HelpName = "all|any" };
        match.AcceptOnlyFromAmong("all", "any");
        string about = isBind
            ? "Bind a queue, or an exchange, to an exchange. What is bound so already is fine.\n\nExamples:\n  fastq bind events audit --key \"order.#\"\n  fastq bind orders europe --header region=eu --header urgent:bool=true --match any\n  fastq bind events --to-exchange archive --key \"#\""
            : "End a binding: that of the same key and headers. What is not bound so is fine.\n\nExamples:\n  fastq unbind events audit --key \"order.#\"";
        Command command = new(isBind ? "bind" : "unbind", about) { exchange, queue, to, key, header, match, socket, patience };
        command.Validators.Add(result =>
        {
            if ((result.GetValue(queue) is null) == (result.GetValue(to) is null))
            {
                result.AddError("Give a queue or --to-exchange NAME.");
            }
        });
        command.SetAction(parsed => With(parsed.GetRequiredValue(socket), parsed.GetValue(patience), session =>
        {
            HeaderArgument[] headers = parsed.GetRequiredValue(header);
            BindingOptions options = new()
            {
                Key = parsed.GetRequiredValue(key),
                Headers = headers.Length > 0 ? headers.ToDictionary(one => one.Key, one => one.Value) : null,
                Match = parsed.GetRequiredValue(match) == "any" ? HeaderMatch.Any : HeaderMatch.All,
            };
            (string from, string target) = (parsed.GetRequiredValue(exchange), parsed.GetValue(queue) ?? parsed.GetValue(to)!);
            Action<string, string, BindingOptions> change = (isBind, parsed.GetValue(queue) is null) switch
            {
                (true, true) => session.BindExchange,
                (true, false) => session.Bind,
                (false, true) => session.UnbindExchange,
                _ => session.Unbind,
            };
            change(from, target, options);
        }));
        return command;
    }

    private static int With(string socket, TimeSpan patience, Action<Session> work)
    {
        using Session session = Shared.Connect(socket, patience, "fastq exchange");
        work(session);
        session.Flush(); // What was done is on the disk.
        return 0;
    }

    private static string NameOf(HeaderMatch match) => match == HeaderMatch.Any ? "any" : "all";

    private static void Write(Utf8JsonWriter writer, ExchangeInfo exchange)
    {
        writer.WriteString("name", exchange.Name);
        writer.WriteString("type", StateNames.NameOf(exchange.Type));
        writer.WriteString("alternate", exchange.Alternate);
        writer.WriteNumber("bindings", exchange.Bindings);
        writer.WriteNumber("discarded", exchange.Discarded);
    }

    private static void PrintBindings(ExchangeInfo exchange, IReadOnlyList<BindingInfo> bindings) => Shared.PrintJson(writer =>
    {
        writer.WriteStartObject();
        Write(writer, exchange);
        writer.WriteStartArray("to");
        foreach (BindingInfo binding in bindings)
        {
            writer.WriteStartObject();
            writer.WriteString(binding.IsToExchange ? "exchange" : "queue", binding.Target);
            writer.WriteString("key", binding.Key);
            writer.WriteString("match", NameOf(binding.Match));
            writer.WriteStartObject("headers");
            foreach ((string name, HeaderValue value) in binding.Headers)
            {
                writer.WritePropertyName(name);
                MessageJson.WriteValue(writer, value);
            }

            writer.WriteEndObject();
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
        writer.WriteEndObject();
    });

    private static void Print(IReadOnlyList<ExchangeInfo> exchanges, bool json)
    {
        if (json)
        {
            Shared.PrintJson(writer =>
            {
                writer.WriteStartObject();
                Write(writer, exchanges[0]);
                writer.WriteEndObject();
            });
            return;
        }

        Table table = new Table().AddColumn("exchange").AddColumn("type").AddColumn("alternate").AddColumn(new TableColumn("bindings").RightAligned()).AddColumn(new TableColumn("discarded").RightAligned());
        foreach (ExchangeInfo exchange in exchanges)
        {
            table.AddRow(Markup.Escape(exchange.Name), StateNames.NameOf(exchange.Type), Markup.Escape(exchange.Alternate), exchange.Bindings.ToString(CultureInfo.InvariantCulture), exchange.Discarded.ToString(CultureInfo.InvariantCulture));
        }

        AnsiConsole.Write(table);
    }
}
