using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using FastQ.Journal;
using FastQ.Protocol;

namespace FastQ.Server;

/// <summary>fastq journal verify|dump|repair.</summary>
internal static class JournalCommand
{
    public static Command Create() => new("journal", "Verify, dump and repair a stopped broker's directory, or a copy of one.\n\nExamples:\n  fastq journal verify ./fastq-data\n  fastq journal dump ./fastq-data --json | head\n  fastq journal repair ./fastq-data                  (says what would be lost, changes nothing)\n  fastq journal repair ./fastq-data --accept-loss")
    {
        Verify(), Dump(), Repair(),
    };

    private static Command Verify()
    {
        (Argument<string> directory, Option<bool> json) = (Directory(), Shared.Json());
        Command command = new("verify", "Read every byte and check it. Changes nothing. Exit code 1 when something is damaged.\n\nExamples:\n  fastq journal verify ./fastq-data\n  fastq journal verify /backup/fastq-data --json") { directory, json };
        command.SetAction(parsed => With(parsed.GetRequiredValue(directory), examination =>
        {
            IReadOnlyList<Problem> problems = examination.FindProblems();
            if (parsed.GetValue(json))
            {
                Shared.PrintJson(writer =>
                {
                    writer.WriteStartObject();
                    writer.WriteBoolean("ok", problems.Count == 0);
                    Write(writer, problems);
                    writer.WriteEndObject();
                });
            }
            else
            {
                Print(problems);
                Console.Out.WriteLine(problems.Count == 0 ? Sum(examination) : "Restore a copy, or see what a repair would give up: fastq journal repair DIR");
            }

            return problems.Count == 0 ? 0 : 1;
        }));
        return command;
    }

    private static Command Dump()
    {
        (Argument<string> directory, Option<bool> json) = (Directory(), Shared.Json());
        Command command = new("dump", "Print slots, blocks and records as they lie there. With --json, an object a line.\n\nExamples:\n  fastq journal dump ./fastq-data\n  fastq journal dump ./fastq-data --json | grep '\"kind\":\"Message\"'") { directory, json };
        command.SetAction(parsed => With(parsed.GetRequiredValue(directory), examination =>
        {
            using StreamWriter output = new(Console.OpenStandardOutput());
            JournalDump dump = new(output, parsed.GetValue(json));
            dump.Write(examination.Inspection);
            return 0;
        }));
        return command;
    }

    private static Command Repair()
    {
        (Argument<string> directory, Option<bool> json) = (Directory(), Shared.Json());
        Option<bool> consent = new("--accept-loss") { Description = "Write what can be kept, and give up the rest for good. Without it nothing is changed." };
        Command command = new("repair", "Keep what can be read of a damaged directory, record by record, and name what is lost. Changes nothing without --accept-loss. Copy the directory first.\n\nExamples:\n  fastq journal repair ./fastq-data\n  fastq journal repair ./fastq-data --accept-loss --json") { directory, consent, json };
        command.SetAction(parsed => With(parsed.GetRequiredValue(directory), examination => Repair(examination, parsed.GetValue(consent), parsed.GetValue(json))));
        return command;
    }

    private static int Repair(JournalExamination examination, bool consent, bool json)
    {
        IReadOnlyList<Problem> problems = examination.FindProblems();
        if (examination.Inspection.Refusal is { Kind: "not-ours" } foreign)
        {
            Console.Error.WriteLine($"fastq: {foreign.Text}");
            return 1;
        }

        if (problems.Count == 0)
        {
            Report(json, "nothing to repair", isRepaired: false, problems, null);
            return 0;
        }

        using RepairPlan plan = examination.Plan();
        if (!consent)
        {
            Report(json, "nothing was changed; --accept-loss gives up what is named above, for good", isRepaired: false, problems, plan);
            return 1;
        }

        if (examination.Carry(plan) is string failure)
        {
            Console.Error.WriteLine($"fastq: {failure}");
            return 1;
        }

        Report(json, "repaired; what is named above is lost", isRepaired: true, problems, plan);
        return 0;
    }

    private static void Report(bool json, string outcome, bool isRepaired, IReadOnlyList<Problem> problems, RepairPlan? plan)
    {
        IEnumerable<KeyValuePair<string, long>> lost = plan?.LostMessages ?? Enumerable.Empty<KeyValuePair<string, long>>();
        if (json)
        {
            Shared.PrintJson(writer =>
            {
                writer.WriteStartObject();
                writer.WriteBoolean("repaired", isRepaired);
                writer.WriteString("outcome", outcome);
                writer.WriteStartObject("lostMessages");
                foreach ((string queue, long count) in lost)
                {
                    writer.WriteNumber(queue, count);
                }

                writer.WriteEndObject();
                writer.WriteNumber("lostBlocks", plan?.Salvage.BlocksLost ?? 0);
                writer.WriteStartArray("notes");
                foreach (string note in plan?.Notes ?? [])
                {
                    writer.WriteStringValue(note);
                }

                writer.WriteEndArray();
                Write(writer, problems);
                writer.WriteEndObject();
            });
            return;
        }

        Print(problems);
        foreach ((string queue, long count) in lost)
        {
            Console.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"lost: {count} of queue {queue}"));
        }

        foreach (string note in plan?.Notes ?? [])
        {
            Console.Out.WriteLine($"note: {note}");
        }

        Console.Out.WriteLine(outcome);
    }

    private static Argument<string> Directory() => new("DIR") { Description = "The data directory of a broker that does not run, or a copy of one." };

    private static int With(string directory, Func<JournalExamination, int> use)
    {
        using JournalExamination? examination = JournalExamination.Open(directory, out string? refusal);
        if (examination is not null)
        {
            return use(examination);
        }

        Console.Error.WriteLine($"fastq: {refusal}");
        return 1;
    }

    private static string Sum(JournalExamination examination)
    {
        JournalInspection inspection = examination.Inspection;
        return string.Create(CultureInfo.InvariantCulture, $"ok: {inspection.Slots.Count} slots, {inspection.Blocks.Count} blocks, snapshot of block {inspection.Report.SnapshotBlock}, last block {inspection.Report.LastBlock}");
    }

    private static void Print(IReadOnlyList<Problem> problems)
    {
        foreach (Problem problem in problems)
        {
            JournalDamage damage = problem.Damage;
            string queues = problem.Queues.Count == 0 ? "" : $" Queues: {string.Join(", ", problem.Queues)}.";
            Console.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{damage.Kind}: slot {damage.Slot}, position {damage.Position}, block {damage.Block}, messages {problem.Messages}.{queues} {damage.Text}"));
        }
    }

    private static void Write(Utf8JsonWriter writer, IReadOnlyList<Problem> problems)
    {
        writer.WriteStartArray("problems");
        foreach (Problem problem in problems)
        {
            writer.WriteStartObject();
            writer.WriteNumber("slot", problem.Damage.Slot);
            writer.WriteNumber("position", problem.Damage.Position);
            writer.WriteNumber("block", problem.Damage.Block);
            writer.WriteString("kind", problem.Damage.Kind);
            writer.WriteStartArray("queues");
            foreach (string queue in problem.Queues)
            {
                writer.WriteStringValue(queue);
            }

            writer.WriteEndArray();
            writer.WriteNumber("messages", problem.Messages);
            writer.WriteString("text", problem.Damage.Text);
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    }
}

/// <summary>Slots, blocks and records as lines.</summary>
internal sealed class JournalDump(TextWriter output, bool json)
{
    public void Write(JournalInspection inspection)
    {
        foreach (InspectedSlot slot in inspection.Slots)
        {
            SegmentHeader header = slot.Header;
            Line("slot", [("slot", slot.Slot), ("verdict", slot.Verdict.ToString()), ("segment", header.SegmentNumber), ("epoch", header.Epoch), ("firstOfLife", header.FirstOfLife == 1), ("parentBlock", header.ParentBlock), ("gapBlock", header.GapBlock), ("leftovers", slot.HoldsLeftovers)]);
            foreach (InspectedBlock block in inspection.Blocks.Where(block => block.Slot == slot.Slot).OrderBy(block => block.Position))
            {
                Write(inspection, block);
            }
        }

        foreach (string path in inspection.BadSnapshots)
        {
            Line("snapshot", [("path", path), ("whole", false)]);
        }
    }

    private void Write(JournalInspection inspection, in InspectedBlock block)
    {
        BlockHeader header = block.Header;
        Line("block", [("block", header.BlockNumber), ("slot", block.Slot), ("position", block.Position), ("epoch", header.Epoch), ("sealed", DateTime.UnixEpoch.AddMicroseconds(header.SealedMicros).ToString("O", CultureInfo.InvariantCulture)), ("durableBlock", header.DurableBlock), ("payloadBytes", block.PayloadBytes), ("records", header.RecordCount), ("whole", block.IsWhole), ("void", block.IsVoid)]);
        inspection.Walk(block, JournalExamination.Judge, (place, record, verdict) => Line("record", [("slot", place.Slot), ("position", place.Offset), ("kind", ((RecordKind)record[4]).ToString()), ("bytes", record.Length), .. FieldsOf(record), ("check", verdict.ToString())]));
    }

    private static IEnumerable<(string Name, object Value)> FieldsOf(ReadOnlySpan<byte> record)
    {
        switch ((RecordKind)record[4])
        {
            case RecordKind.Message or RecordKind.MovedMessage or RecordKind.DeadLetter or RecordKind.MessageTransferred when record.Length >= MessageHeader.SizeBytes:
                MessageHeader message = MemoryMarshal.Read<MessageHeader>(record);
                return [("queue", message.Queue), ("tag", message.Tag), ("propertyBytes", message.PropertyBytes), ("bodyBytes", message.BodyBytes)];
            case RecordKind.RoutedMessage when StoredMessage.TryReadRouted(record, out RoutedHeader routed, out ReadOnlySpan<RoutedTarget> targets, out ReadOnlySpan<byte> shared):
                MessageHeader inner = MemoryMarshal.Read<MessageHeader>(shared);
                string queues = string.Join(' ', targets.ToArray().Select(target => string.Create(CultureInfo.InvariantCulture, $"{target.Queue}:{target.Tag}")));
                return [("exchange", routed.Exchange), ("queues", queues), ("propertyBytes", inner.PropertyBytes), ("bodyBytes", inner.BodyBytes)];
            case RecordKind.Settle or RecordKind.Extend when record.Length >= SettleRecord.SizeBytes:
                SettleRecord settle = MemoryMarshal.Read<SettleRecord>(record);
                return [("subscription", settle.Subscription), ("firstDelivery", settle.FirstDelivery), ("count", settle.Count), ("outcome", settle.Outcome.ToString())];
            case RecordKind.Source when record.Length >= SourceRecord.SizeBytes:
                SourceRecord source = MemoryMarshal.Read<SourceRecord>(record);
                return [("producer", source.Producer), ("firstNumber", source.FirstNumber)];
            case RecordKind.Delivered when record.Length >= DeliveredRecord.SizeBytes:
                DeliveredRecord delivered = MemoryMarshal.Read<DeliveredRecord>(record);
                return [("subscription", delivered.Subscription), ("firstDelivery", delivered.FirstDelivery), ("count", delivered.Count)];
            default:
                FactRecord fact = record.Length >= FactRecord.SizeBytes ? MemoryMarshal.Read<FactRecord>(record) : default;
                return [("subject", fact.Subject), ("count", fact.Count), ("first", fact.First)];
        }
    }

    private void Line(string type, IEnumerable<(string Name, object Value)> fields)
    {
        if (!json)
        {
            string indent = type switch { "record" => "    ", "block" => "  ", _ => "" };
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{indent}{type}{string.Concat(fields.Select(field => string.Create(CultureInfo.InvariantCulture, $" {field.Name}={field.Value}")))}"));
            return;
        }

        using MemoryStream line = new();
        using (Utf8JsonWriter writer = new(line))
        {
            writer.WriteStartObject();
            writer.WriteString("type", type);
            foreach ((string name, object value) in fields)
            {
                switch (value)
                {
                    case string text:
                        writer.WriteString(name, text);
                        break;
                    case bool flag:
                        writer.WriteBoolean(name, flag);
                        break;
                    default:
                        writer.WriteNumber(name, Convert.ToDecimal(value, CultureInfo.InvariantCulture));
                        break;
                }
            }

            writer.WriteEndObject();
        }

        output.WriteLine(System.Text.Encoding.UTF8.GetString(line.ToArray()));
    }
}
