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
        Command command = new("export", "Write what is defined as JSON: shared limits, queues, exchanges, bindings and schedules, each with every attribute; no message, no count, not what is paused, no temporary queue, and no schedule that has ended.\n\nExample:\n  fastq export -o fastq.json") { output, socket, patience };
        command.SetAction(parsed =>
        {
            using Session session = Shared.Connect(parsed.GetRequiredValue(socket), parsed.GetValue(patience), "fastq export");
            byte[] definitions = Definitions.Write(DefinedThings.Of(session));
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
        Command command = new("apply", "Make shared limits, queues, exchanges, bindings and schedules as a file says: shows the difference, then creates and changes. Nothing is deleted, and nothing is done where anything in the file is wrong.\n\nExamples:\n  fastq apply -f fastq.json --dry-run\n  fastq apply -f fastq.json --yes") { file, yes, dry, socket, patience, json };
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
            DefinitionFile wanted = Definitions.Read(ReadAll(parsed.GetRequiredValue(file)));
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

/// <summary>One attribute that is to be another.</summary>
internal sealed record AttributeChange(string Attribute, string From, string To);

/// <summary>What a file of definitions wants of what there is. Judged as a whole before anything is done.</summary>
internal sealed class Difference
{
    private const int MostShown = 60;

    private readonly DefinedThings _there;
    private readonly DefinitionFile _wanted;
    private readonly List<(string Kind, string Name, string Said)> _created = [];
    private readonly List<(string Kind, string Name, AttributeChange[] Changes)> _changed = [];
    private readonly List<(string Kind, string Name)> _same = [];
    private readonly List<(string Kind, string Name)> _leftAlone = [];
    private readonly List<Action<Session>> _steps = []; // In an order in which each finds what it names.

    private Difference(DefinedThings there, DefinitionFile wanted) => (_there, _wanted) = (there, wanted);

    public bool IsAny => _steps.Count > 0;

    /// <exception cref="FastQException">Something in the file contradicts itself, or what is there.</exception>
    public static Difference Of(Session session, DefinitionFile wanted)
    {
        Difference difference = new(DefinedThings.Of(session), wanted);
        difference.CompareLimits();
        difference.CompareQueues(session);
        difference.CompareExchanges();
        difference.CompareBindings();
        difference.CompareSchedules(session);
        return difference;
    }

    private void CompareLimits()
    {
        Dictionary<string, FlowLimits> there = _there.Limits.ToDictionary(limit => limit.Name, limit => limit.Limits);
        foreach (Definition<FlowLimits, FlowOptions> limit in _wanted.Limits)
        {
            bool isThere = there.Remove(limit.Name, out FlowLimits? before);
            before ??= FlowLimits.None;
            FlowLimits after = new() { MaxInFlight = limit.Options.MaxInFlight ?? before.MaxInFlight, Rate = limit.Options.Rate ?? before.Rate, Burst = limit.Options.Burst ?? before.Burst };
            if (after.Fault() is string fault)
            {
                throw Definitions.Fault(limit.Place, fault);
            }

            if (after is { MaxInFlight: 0, Rate.Count: 0 })
            {
                throw Definitions.Fault(limit.Place, "a limit needs a max-in-flight or a rate");
            }

            Add("limit", limit, isThere, ChangesOf(FlowAttributes.Shared, before, after), session => _ = isThere ? session.ChangeLimit(limit.Name, limit.Options) : session.DeclareLimit(limit.Name, limit.Options));
        }

        LeaveAlone("limit", there.Keys);
    }

    private void CompareQueues(Session session)
    {
        Dictionary<string, QueueInfo> there = _there.Queues.ToDictionary(queue => queue.Name);
        HashSet<string> limits = [.. _there.Limits.Select(limit => limit.Name), .. _wanted.Limits.Select(limit => limit.Name)];
        HashSet<string> temporary = [.. session.ListQueues().Where(queue => queue.IsTemporary).Select(queue => queue.Name)];
        foreach (Definition<QueueInfo, QueueOptions> queue in _wanted.Queues)
        {
            there.Remove(queue.Name, out QueueInfo? before);
            if (temporary.Contains(queue.Name))
            {
                throw Definitions.Fault(queue.Place, "there is a temporary queue of this name: it is a session's");
            }

            Judge(session, queue, before);
            Need(limits, queue.Options.Flow?.Limit ?? "", $"{queue.Place}, limit", "limit");
            Add("queue", queue, before is not null, before is null ? [] : ChangesOf(queue, before), session => _ = before is null ? session.DeclareQueue(queue.Name, queue.Options) : session.ChangeQueue(queue.Name, queue.Options));
        }

        LeaveAlone("queue", there.Keys);
    }

    private void CompareExchanges()
    {
        Dictionary<string, ExchangeInfo> there = _there.Exchanges.ToDictionary(exchange => exchange.Name);
        foreach (Definition<ExchangeDefinition, ExchangeDefinition> exchange in _wanted.Exchanges)
        {
            ExchangeDefinition? before = there.Remove(exchange.Name, out ExchangeInfo? found) ? new ExchangeDefinition(found.Type, found.Alternate) : null;
            ExchangeDefinition after = exchange.Over(before ?? new ExchangeDefinition());
            if (before is not null && ChangesOf(ExchangeDefinition.All, before, after) is [AttributeChange change, ..])
            {
                throw Definitions.Fault(exchange.Place, $"an exchange does not change: its {change.Attribute} is {change.From}, not {change.To}; delete it first (fastq exchange delete)");
            }

            Add("exchange", exchange, before is not null, [], session => _ = session.DeclareExchange(exchange.Name, after.Type, after.Alternate));
        }

        LeaveAlone("exchange", there.Keys.Where(name => name != Names.Events)); // Always there, and no file's.
    }

    private void CompareBindings()
    {
        HashSet<string> there = [.. _there.Bindings.Select(binding => binding.Name)];
        HashSet<string> exchanges = [.. _there.Exchanges.Select(exchange => exchange.Name), .. _wanted.Exchanges.Select(exchange => exchange.Name)];
        HashSet<string> withHeaders = [.. _there.Exchanges.Where(exchange => exchange.Type == ExchangeType.Headers).Select(exchange => exchange.Name), .. _wanted.Exchanges.Where(exchange => exchange.Options.Type == ExchangeType.Headers).Select(exchange => exchange.Name)];
        foreach (Definition<BindingDefinition, BindingDefinition> definition in _wanted.Bindings)
        {
            BindingDefinition binding = definition.Options;
            if (binding.Exchange.Length == 0 || (binding.Queue.Length == 0) == (binding.ToExchange.Length == 0))
            {
                throw Definitions.Fault(definition.Place, "a binding has an exchange, and a queue or a to-exchange");
            }

            Need(exchanges, binding.Exchange, $"{definition.Place}, exchange", "exchange");
            Need(Queues, binding.Queue, $"{definition.Place}, queue", "queue");
            Need(exchanges, binding.ToExchange, $"{definition.Place}, to-exchange", "exchange");
            if (binding.Headers.Count > 0 && !withHeaders.Contains(binding.Exchange))
            {
                throw Definitions.Fault($"{definition.Place}, headers", "only an exchange of type headers looks at headers");
            }

            Action<Session> bind = binding.Queue.Length > 0 ? session => session.Bind(binding.Exchange, binding.Queue, binding.Options) : session => session.BindExchange(binding.Exchange, binding.ToExchange, binding.Options);
            Add("binding", definition with { Said = [] }, there.Remove(binding.Name), [], bind);
        }

        LeaveAlone("binding", there);
    }

    private void CompareSchedules(Session session)
    {
        Dictionary<string, ScheduleDefinition> there = _there.Schedules.ToDictionary(schedule => schedule.Name, schedule => schedule.Schedule);
        foreach (Definition<ScheduleDefinition, ScheduleDefinition> schedule in _wanted.Schedules)
        {
            there.Remove(schedule.Name, out ScheduleDefinition? before);
            ScheduleDefinition after = schedule.Over(before ?? new ScheduleDefinition());
            foreach ((string one, string other) in (ReadOnlySpan<(string, string)>)[("cron", "every"), ("zone", "every"), ("body", "body-base64"), ("type", "properties-base64"), ("content-type", "properties-base64")])
            {
                if (schedule.Says(one) && schedule.Says(other))
                {
                    throw Definitions.Fault(schedule.Place, $"a schedule has {one} or {other}, not both");
                }
            }

            if (after.Cron is null == after.Every is null || after.Queue.Length == 0)
            {
                throw Definitions.Fault(schedule.Place, "a schedule has a queue, and cron or every");
            }

            Need(Queues, after.Queue, $"{schedule.Place}, queue", "queue");
            AttributeChange[] changes = before is null ? [] : ChangesOf(ScheduleDefinition.All, before, after);
            if (before is null || changes.Length > 0)
            {
                JudgeSchedule(schedule.Place, after);
            }

            Add("schedule", schedule, before is not null, changes, session => _ = session.SetSchedule(schedule.Name, after.Queue, after.Rule, after.Body, after.Options));
        }

        LeaveAlone("schedule", there.Keys);
    }

    private static void JudgeSchedule(string place, ScheduleDefinition schedule)
    {
        if (schedule.Until < DateTimeOffset.UtcNow)
        {
            throw Definitions.Fault($"{place}, until", "this has passed: it would never fire");
        }

        if (schedule.Cron is string cron && FastQ.Broker.Broker.CronFault(cron, schedule.Zone, DateTimeOffset.UtcNow) is string fault)
        {
            throw Definitions.Fault($"{place}, cron", fault);
        }

        if (schedule.Every is TimeSpan every && every.TotalMilliseconds is < Limits.MinEveryMilliseconds or > Limits.MaxDelayMilliseconds)
        {
            throw Definitions.Fault($"{place}, every", $"an interval is {Limits.MinEveryMilliseconds} to {Limits.MaxDelayMilliseconds} ms");
        }
    }

    private HashSet<string> Queues => [.. _there.Queues.Select(queue => queue.Name), .. _wanted.Queues.Select(queue => queue.Name)];

    private static void Need(HashSet<string> known, string name, string place, string kind)
    {
        if (name.Length > 0 && !known.Contains(name))
        {
            throw Definitions.Fault(place, $"there is no {kind} {name}, neither in the file nor here");
        }
    }

    private void Add<TInfo, TOptions>(string kind, Definition<TInfo, TOptions> definition, bool isThere, AttributeChange[] changes, Action<Session> step)
        where TOptions : class
    {
        if (isThere && changes.Length == 0)
        {
            _same.Add((kind, definition.Name));
            return;
        }

        _steps.Add(step);
        if (isThere)
        {
            _changed.Add((kind, definition.Name, changes));
        }
        else
        {
            _created.Add((kind, definition.Name, string.Join(", ", definition.Said.Select(said => $"{said.Attribute.Name} {Shown(said.Value)}"))));
        }
    }

    private void LeaveAlone(string kind, IEnumerable<string> names) => _leftAlone.AddRange(names.Order(StringComparer.Ordinal).Select(name => (kind, name)));

    /// <summary>The broker judges the queue as it would be, before there is one.</summary>
    private static void Judge(Session session, Definition<QueueInfo, QueueOptions> definition, QueueInfo? there)
    {
        QueueOptions whole = definition.Options;
        foreach (Attribute<QueueInfo, QueueOptions> attribute in QueueAttribute.All.Where(attribute => there is not null && !definition.Says(attribute.Name)))
        {
            bool isReplaced = (attribute.Name == "dead-letter" && whole.DeadLetterExchange is { Length: > 0 }) || (attribute.Name == "dead-letter-exchange" && whole.DeadLetter is { Length: > 0 }); // One takes the place of the other.
            whole = isReplaced ? whole : attribute.Read(whole, Definitions.ElementOf(attribute.Of(there!)!))!;
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

    /// <summary>What is said in another form, as 60s for 1m, is the same.</summary>
    private static AttributeChange[] ChangesOf(Definition<QueueInfo, QueueOptions> definition, QueueInfo there) =>
    [
        .. from said in definition.Said
           let before = Definitions.ElementOf(said.Attribute.Of(there)!)
           where said.Attribute.Read(new QueueOptions(), said.Value)! is var wanted && !IsSame(wanted, said.Attribute.Read(new QueueOptions(), before)!)
           select new AttributeChange(said.Attribute.Name, Shown(before), Shown(said.Value)),
    ];

    private static AttributeChange[] ChangesOf<TInfo, TOptions>(Attribute<TInfo, TOptions>[] attributes, TInfo before, TInfo after)
        where TOptions : class =>
    [
        .. from attribute in attributes
           let was = attribute.Of(before)
           let becomes = attribute.Of(after)
           where !Equals(was, becomes)
           select new AttributeChange(attribute.Name, Shown(Definitions.ElementOf(was ?? "")), Shown(Definitions.ElementOf(becomes ?? ""))),
    ];

    private static bool IsSame(QueueOptions wanted, QueueOptions there)
    {
        bool sameWeights = (wanted.FairWeights ?? new Dictionary<string, int>()).OrderBy(pair => pair.Key, StringComparer.Ordinal).SequenceEqual((there.FairWeights ?? new Dictionary<string, int>()).OrderBy(pair => pair.Key, StringComparer.Ordinal));
        bool noBackoff = wanted.Backoff?.First == TimeSpan.Zero && there.Backoff?.First == TimeSpan.Zero;
        return sameWeights && (noBackoff || wanted.Backoff == there.Backoff) && wanted with { FairWeights = null, Backoff = null } == there with { FairWeights = null, Backoff = null };
    }

    private static string Shown(JsonElement value)
    {
        string text = value.ValueKind != JsonValueKind.String || value.GetString()!.Any(char.IsControl) ? value.GetRawText() : value.GetString() is { Length: > 0 } found ? found : "''";
        return text.Length > MostShown ? $"{text[..MostShown]}..." : text;
    }

    public void Apply(Session session)
    {
        foreach (Action<Session> step in _steps)
        {
            step(session);
        }

        session.Flush();
    }

    public void Print()
    {
        foreach ((string kind, string name, string said) in _created)
        {
            Console.WriteLine($"+ {kind} {name}{(said.Length == 0 ? "" : $": {said}")}");
        }

        foreach ((string kind, string name, AttributeChange[] changes) in _changed)
        {
            foreach (AttributeChange change in changes)
            {
                Console.WriteLine($"~ {kind} {name}: {change.Attribute} {change.From} -> {change.To}");
            }
        }

        foreach ((string kind, string name) in _leftAlone)
        {
            Console.WriteLine($"  {kind} {name}: is there and not in the file; it is left alone");
        }

        Console.Error.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{_created.Count} to create, {_changed.Count} to change, {_same.Count} as they are, {_leftAlone.Count} left alone"));
    }

    public void PrintJson(bool isApplied) => Shared.PrintJson(json =>
    {
        json.WriteStartObject();
        WriteNames(json, "created", _created.Select(created => (created.Kind, created.Name)));
        json.WriteStartArray("changed");
        foreach ((string kind, string name, AttributeChange[] changes) in _changed)
        {
            foreach (AttributeChange change in changes)
            {
                json.WriteStartObject();
                json.WriteString(kind, name);
                json.WriteString("attribute", change.Attribute);
                json.WriteString("from", change.From);
                json.WriteString("to", change.To);
                json.WriteEndObject();
            }
        }

        json.WriteEndArray();
        WriteNames(json, "same", _same);
        WriteNames(json, "leftAlone", _leftAlone);
        json.WriteBoolean("applied", isApplied);
        json.WriteEndObject();
    });

    /// <summary>Objects with one key: the kind.</summary>
    private static void WriteNames(Utf8JsonWriter json, string key, IEnumerable<(string Kind, string Name)> things)
    {
        json.WriteStartArray(key);
        foreach ((string kind, string name) in things)
        {
            json.WriteStartObject();
            json.WriteString(kind, name);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }
}
