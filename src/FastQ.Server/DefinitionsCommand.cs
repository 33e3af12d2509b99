using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using FastQ.Client;
using FastQ.Protocol;

namespace FastQ.Server;

/// <summary>fastq export and apply: what there is to be, as a file.</summary>
internal static class DefinitionsCommand
{
    public static Command CreateExport()
    {
        Option<string?> output = new("--output", "-o") { Description = "Write to this file; else to standard output.", HelpName = "FILE" };
        (Option<string> socket, Option<TimeSpan> patience) = (Shared.Socket(), Shared.Patience());
        Command command = new("export", "Write the definitions of all queues as JSON: every attribute, no message, no count, not what is paused, and no temporary queue.\n\nExample:\n  fastq export -o queues.json") { output, socket, patience };
        command.SetAction(parsed =>
        {
            using Session session = Shared.Connect(parsed.GetRequiredValue(socket), parsed.GetValue(patience), "fastq export");
            byte[] definitions = Definitions.Write(session.ListQueues());
            if (parsed.GetValue(output) is string path)
            {
                File.WriteAllBytes(path, definitions);
                return 0;
            }

            using Stream standard = Console.OpenStandardOutput();
            standard.Write(definitions);
            return 0;
        });
        return command;
    }

    public static Command CreateApply()
    {
        Option<string> file = new("--file", "-f") { Description = "The definitions, as fastq export writes them; '-': standard input. What an entry does not say stays as it is, or is as by default.", HelpName = "FILE", Required = true };
        Option<bool> yes = new("--yes") { Description = "Do it without asking." };
        Option<bool> dry = new("--dry-run") { Description = "Show the difference, and do nothing." };
        (Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new("apply", "Make queues as a file says: shows the difference, then creates and changes. Nothing is deleted, and nothing is done where anything in the file is wrong.\n\nExamples:\n  fastq apply -f queues.json --dry-run\n  fastq apply -f queues.json --yes") { file, yes, dry, socket, patience, json };
        command.Validators.Add(result =>
        {
            if (result.GetValue(yes) && result.GetValue(dry))
            {
                result.AddError("Give --yes or --dry-run, not both.");
            }

            if (!result.GetValue(yes) && !result.GetValue(dry) && (Console.IsInputRedirected || result.GetValue(file) == "-"))
            {
                result.AddError("There is nobody to ask: give --yes or --dry-run.");
            }
        });
        command.SetAction(parsed =>
        {
            IReadOnlyList<QueueDefinition> wanted = Definitions.Read(ReadAll(parsed.GetRequiredValue(file)));
            using Session session = Shared.Connect(parsed.GetRequiredValue(socket), parsed.GetValue(patience), "fastq apply");
            Difference difference = Difference.Of(session, wanted);
            bool isWanted = parsed.GetValue(yes);
            if (!parsed.GetValue(json))
            {
                difference.Print();
            }

            if (!isWanted && !parsed.GetValue(dry) && difference.IsAny)
            {
                Console.Error.Write("Do it? [y/N] ");
                isWanted = Console.ReadLine()?.Trim() is "y" or "Y" or "yes";
            }

            if (isWanted)
            {
                difference.Apply(session);
            }

            if (parsed.GetValue(json))
            {
                difference.PrintJson(isWanted);
            }

            return 0;
        });
        return command;
    }

    private static byte[] ReadAll(string path)
    {
        if (path != "-")
        {
            return File.ReadAllBytes(path);
        }

        using Stream input = Console.OpenStandardInput();
        using MemoryStream all = new();
        input.CopyTo(all);
        return all.ToArray();
    }
}

/// <summary>One attribute of a queue that is to be another.</summary>
internal sealed record AttributeChange(string Queue, string Attribute, string From, string To);

/// <summary>What a file of definitions wants of what there is. Judged as a whole before anything is done.</summary>
internal sealed class Difference
{
    private readonly List<QueueDefinition> _created = [];
    private readonly List<(QueueDefinition Queue, AttributeChange[] Changes)> _changed = [];
    private readonly List<string> _same = [];
    private IReadOnlyList<string> _leftAlone = [];

    public bool IsAny => _created.Count + _changed.Count > 0;

    /// <exception cref="FastQException">Something in the file contradicts itself, or what is there.</exception>
    public static Difference Of(Session session, IReadOnlyList<QueueDefinition> wanted)
    {
        Difference difference = new();
        Dictionary<string, QueueInfo> there = session.ListQueues().ToDictionary(queue => queue.Name);
        HashSet<string> limits = [.. session.ListLimits().Select(limit => limit.Name)];
        foreach (QueueDefinition definition in wanted)
        {
            if (there.Remove(definition.Name, out QueueInfo? queue) && queue.IsTemporary)
            {
                throw Definitions.Fault(definition.Place, "there is a temporary queue of this name: it is a session's");
            }

            if (definition.Options.Flow?.Limit is { Length: > 0 } limit && !limits.Contains(limit))
            {
                throw Definitions.Fault($"{definition.Place}, limit", $"there is no limit {limit}");
            }

            Judge(session, definition, queue);
            AttributeChange[] changes = queue is null ? [] : ChangesOf(definition, queue);
            if (queue is null)
            {
                difference._created.Add(definition);
            }
            else if (changes.Length > 0)
            {
                difference._changed.Add((definition, changes));
            }
            else
            {
                difference._same.Add(definition.Name);
            }
        }

        difference._leftAlone = [.. there.Values.Where(queue => !queue.IsTemporary).Select(queue => queue.Name).Order(StringComparer.Ordinal)];
        return difference;
    }

    /// <summary>The broker judges the queue as it would be, before there is one.</summary>
    private static void Judge(Session session, QueueDefinition definition, QueueInfo? there)
    {
        QueueOptions whole = definition.Options;
        foreach (Attribute<QueueInfo, QueueOptions> attribute in QueueAttribute.All.Where(attribute => there is not null && definition.Said.All(said => said.Attribute != attribute)))
        {
            bool isReplaced = (attribute.Name == "dead-letter" && whole.DeadLetterExchange is { Length: > 0 }) || (attribute.Name == "dead-letter-exchange" && whole.DeadLetter is { Length: > 0 }); // One takes the place of the other.
            whole = isReplaced ? whole : attribute.Read(whole, ElementOf(attribute.Of(there!)))!;
        }

        try
        {
            session.JudgeQueue(definition.Name, whole);
        }
        catch (FastQException wrong) when (wrong.Code is RefusalCode.BadArgument or RefusalCode.BadName)
        {
            throw Definitions.Fault(definition.Place, wrong.Message);
        }
    }

    private static JsonElement ElementOf(object value)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream))
        {
            switch (value)
            {
                case bool isOn:
                    json.WriteBooleanValue(isOn);
                    break;
                case long number:
                    json.WriteNumberValue(number);
                    break;
                default:
                    json.WriteStringValue((string)value);
                    break;
            }
        }

        using JsonDocument document = JsonDocument.Parse(stream.ToArray());
        return document.RootElement.Clone();
    }

    /// <summary>What is said in another form, as 60s for 1m, is the same.</summary>
    private static AttributeChange[] ChangesOf(QueueDefinition definition, QueueInfo there) =>
    [
        .. from said in definition.Said
           let before = said.Attribute.Of(there)
           where said.Attribute.Read(new QueueOptions(), said.Value)! is var wanted && !IsSame(wanted, said.Attribute.Read(new QueueOptions(), ElementOf(before))!)
           select new AttributeChange(definition.Name, said.Attribute.Name, Shown(ElementOf(before)), Shown(said.Value)),
    ];

    private static bool IsSame(QueueOptions wanted, QueueOptions there)
    {
        bool sameWeights = (wanted.FairWeights ?? new Dictionary<string, int>()).OrderBy(pair => pair.Key, StringComparer.Ordinal).SequenceEqual((there.FairWeights ?? new Dictionary<string, int>()).OrderBy(pair => pair.Key, StringComparer.Ordinal));
        bool noBackoff = wanted.Backoff?.First == TimeSpan.Zero && there.Backoff?.First == TimeSpan.Zero;
        return sameWeights && (noBackoff || wanted.Backoff == there.Backoff) && wanted with { FairWeights = null, Backoff = null } == there with { FairWeights = null, Backoff = null };
    }

    private static string Shown(JsonElement value) => value.ValueKind == JsonValueKind.String && value.GetString() is { Length: > 0 } text ? text : value.ValueKind == JsonValueKind.String ? "''" : value.GetRawText();

    public void Apply(Session session)
    {
        foreach (QueueDefinition queue in _created)
        {
            session.DeclareQueue(queue.Name, queue.Options);
        }

        foreach ((QueueDefinition queue, _) in _changed)
        {
            session.ChangeQueue(queue.Name, queue.Options);
        }

        session.Flush();
    }

    public void Print()
    {
        foreach (QueueDefinition queue in _created)
        {
            Console.WriteLine($"+ queue {queue.Name}{(queue.Said.Count == 0 ? "" : $": {string.Join(", ", queue.Said.Select(said => $"{said.Attribute.Name} {Shown(said.Value)}"))}")}");
        }

        foreach (AttributeChange change in _changed.SelectMany(changed => changed.Changes))
        {
            Console.WriteLine($"~ queue {change.Queue}: {change.Attribute} {change.From} -> {change.To}");
        }

        foreach (string queue in _leftAlone)
        {
            Console.WriteLine($"  queue {queue}: is there and not in the file; it is left alone");
        }

        Console.Error.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{_created.Count} to create, {_changed.Count} to change, {_same.Count} as they are, {_leftAlone.Count} left alone"));
    }

    public void PrintJson(bool isApplied) => Shared.PrintJson(json =>
    {
        json.WriteStartObject();
        WriteNames(json, "created", _created.Select(queue => queue.Name));
        json.WriteStartArray("changed");
        foreach (AttributeChange change in _changed.SelectMany(changed => changed.Changes))
        {
            json.WriteStartObject();
            json.WriteString("queue", change.Queue);
            json.WriteString("attribute", change.Attribute);
            json.WriteString("from", change.From);
            json.WriteString("to", change.To);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        WriteNames(json, "same", _same);
        WriteNames(json, "leftAlone", _leftAlone);
        json.WriteBoolean("applied", isApplied);
        json.WriteEndObject();
    });

    private static void WriteNames(Utf8JsonWriter json, string key, IEnumerable<string> names)
    {
        json.WriteStartArray(key);
        foreach (string name in names)
        {
            json.WriteStringValue(name);
        }

        json.WriteEndArray();
    }
}
