using System.CommandLine;
using System.Text;
using System.Text.Unicode;
using FastQ.Client;

namespace FastQ.Server;

/// <summary>fastq request: asks, and prints what is answered.</summary>
internal static class RequestCommand
{
    public static Command Create()
    {
        Argument<string> queue = Shared.Queue();
        Argument<string?> input = new("INPUT") { Description = "'-': the body is standard input, all of it.", Arity = ArgumentArity.ZeroOrOne };
        Option<string?> body = new("--body") { Description = "The body, as text.", HelpName = "TEXT" };
        Option<TimeSpan> timeout = Shared.Duration("--timeout", "The longest wait for the reply; of an answer in parts, for each part. The request expires with it.", TimeSpan.FromSeconds(30));
        Option<bool> wait = new("--wait") { Description = "Where the queue has no responder, wait for one. Else that is an error at once." };
        Option<HeaderArgument[]> header = new("--header") { Description = "A header, k=v, as of fastq publish; may be given several times.", HelpName = "k=v", CustomParser = HeaderArgument.Parse, DefaultValueFactory = _ => [] };
        Option<string?> type = new("--type") { Description = "The application's own kind of request.", HelpName = "T" };
        Option<string?> correlation = new("--correlation-id") { Description = "The application's own id of what it belongs to.", HelpName = "C" };
        Option<string?> contentType = new("--content-type") { Description = "Media type of the body, as application/json.", HelpName = "M" };
        (Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new("request", "Send a request and print the reply, or the replies as they come, a line each. No reply in time, no responder or an error of its own: exit code 1.\n\nExamples:\n  fastq request prices --body tea\n  fastq request prices --body tea --timeout 250ms --json")
        {
            queue, input, body, timeout, wait, header, type, correlation, contentType, socket, patience, json,
        };
        command.Validators.Add(result =>
        {
            if ((result.GetValue(body) is null) == (result.GetValue(input) is null))
            {
                result.AddError("Give exactly one of --body TEXT or '-'.");
            }

            if (result.GetValue(input) is not (null or "-"))
            {
                result.AddError($"'{result.GetValue(input)}' is no input; '-' is standard input.");
            }
        });
        command.SetAction(async (parsed, cancellation) =>
        {
            RequestOptions options = new()
            {
                Timeout = parsed.GetValue(timeout),
                WaitsForResponder = parsed.GetValue(wait),
                Message = new PublishOptions
                {
                    Type = parsed.GetValue(type),
                    CorrelationId = parsed.GetValue(correlation),
                    ContentType = parsed.GetValue(contentType),
                    Headers = parsed.GetRequiredValue(header).ToDictionary(one => one.Key, one => one.Value),
                },
            };
            byte[] sent = parsed.GetValue(body) is string text ? Encoding.UTF8.GetBytes(text) : await ReadInputAsync(cancellation).ConfigureAwait(false);
            Connection connection = await Connection.ConnectAsync(new SessionOptions { Path = parsed.GetRequiredValue(socket), Patience = parsed.GetValue(patience), ClientName = "fastq request" }, cancellation: cancellation).ConfigureAwait(false);
            await using (connection.ConfigureAwait(false))
            {
                try
                {
                    await foreach (Reply reply in connection.RequestStreamAsync(parsed.GetRequiredValue(queue), sent, options, cancellation).ConfigureAwait(false))
                    {
                        Print(reply, parsed.GetValue(json));
                    }
                }
                catch (RequestFailedException failed)
                {
                    await Console.Error.WriteLineAsync($"fastq: {failed.Message}").ConfigureAwait(false);
                    return 1;
                }
            }

            return 0;
        });
        return command;
    }

    private static async Task<byte[]> ReadInputAsync(CancellationToken cancellation)
    {
        using Stream input = Console.OpenStandardInput();
        using MemoryStream all = new();
        await input.CopyToAsync(all, cancellation).ConfigureAwait(false);
        return all.ToArray();
    }

    private static void Print(Reply reply, bool json)
    {
        if (json)
        {
            Shared.PrintJson(writer =>
            {
                writer.WriteStartObject();
                if (Utf8.IsValid(reply.Body.Span))
                {
                    writer.WriteString("body", reply.Body.Span);
                }
                else
                {
                    writer.WriteBase64String("bodyBase64", reply.Body.Span);
                }

                foreach ((string name, string? value) in ((string, string?)[])[("type", reply.Type), ("contentType", reply.ContentType), ("correlationId", reply.CorrelationId)])
                {
                    if (value is not null)
                    {
                        writer.WriteString(name, value);
                    }
                }

                writer.WriteEndObject();
            });
            return;
        }

        using Stream output = Console.OpenStandardOutput();
        output.Write(reply.Body.Span);
        output.WriteByte((byte)'\n');
        output.Flush();
    }
}
