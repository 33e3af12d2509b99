using System.Globalization;
using System.Reflection;
using System.Text;
using System.Text.RegularExpressions;
using Xunit;

namespace FastQ.Protocol;

// The tables that the client in C compiles (native/) are written from the ones that this room has: neither can move alone.
public sealed partial class NativeTests
{
    [GeneratedRegex("(?<=[a-z0-9])(?=[A-Z])")]
    private static partial Regex WordStart { get; }

    [Fact]
    public void The_headers_of_the_client_in_C_have_the_tables_of_this_room()
    {
        (string File, string Text)[] headers = [("native/include/fastq_codes.h", Codes()), ("native/src/tables.h", Tables())];
        List<string> differ = [];
        foreach ((string file, string text) in headers)
        {
            string stored = Path.Combine(Checkout.Root, file);
            if (!File.Exists(stored) || File.ReadAllText(stored) != text)
            {
                string made = Path.Combine(Directory.CreateDirectory(Path.Combine(AppContext.BaseDirectory, "native")).FullName, Path.GetFileName(file));
                File.WriteAllText(made, text);
                differ.Add($"cp {made} {stored}");
            }
        }

        Assert.True(differ.Count == 0, $"The client in C has other tables than this room. To bring it up to date, and then build it anew: {string.Join("; ", differ)}");
    }

    /// <summary>What programs see: refusals, and the numbers in messages.</summary>
    private static string Codes()
    {
        StringBuilder text = Begin("FASTQ_CODES_H", "");
        Refusal[] refusals = [.. Refusal.Table.ToArray().Where(row => row.Code != RefusalCode.None)];
        text.Append("/* Why something was refused, and what to do. The numbers never change their meaning. */\nenum fastq_refusal_code {\n");
        text.AppendJoin('\n', refusals.Select((row, i) => $"    {Symbol("FASTQ_", row.Code)} = {(int)row.Code}{(i < refusals.Length - 1 ? "," : "")} /* {row.Cause} {row.Remedy} */"));
        text.Append("\n};\n\n/* For tables: X(symbol, number, name). */\n#define FASTQ_REFUSALS(X) \\\n");
        text.AppendJoin(" \\\n", refusals.Select(row => $"    X({Symbol("FASTQ_", row.Code)}, {(int)row.Code}, \"{row.Name}\")"));
        text.Append("\n\n");
        Write<PropertyTag>(text, "Properties of a message.", "fastq_property_tag", "FASTQ_");
        Write<PropertyType>(text, "Types of their values.", "fastq_property_type", "FASTQ_");
        Write<MessageState>(text, "How a message stands in its queue.", "fastq_state", "FASTQ_STATE_");
        Write<DeathReason>(text, "Why a message died.", "fastq_reason", "FASTQ_REASON_");
        Write<ReleaseReason>(text, "Why a message came back from a consumer.", "fastq_release_reason", "FASTQ_REASON_");
        return text.Append("#endif\n").ToString();
    }

    /// <summary>What the client alone needs: kinds, tags, limits.</summary>
    private static string Tables()
    {
        StringBuilder text = Begin("FASTQ_TABLES_H", "#include <stdint.h>\n\n");
        Write<HandshakeKind>(text, "Messages of the socket.", "handshake_kind", "HANDSHAKE_");
        Write<RecordKind>(text, "Records.", "record_kind", "KIND_");
        Write<CommandKind>(text, "Commands.", "command_kind", "COMMAND_");
        Write<FieldTag>(text, "Fields.", "field_tag", "FIELD_");
        text.Append("/* Limits of the protocol. */\n");
        foreach (FieldInfo limit in typeof(Limits).GetFields(BindingFlags.Public | BindingFlags.Static).Where(field => field.IsLiteral))
        {
            long value = Convert.ToInt64(limit.GetRawConstantValue(), CultureInfo.InvariantCulture);
            text.Append(CultureInfo.InvariantCulture, $"#define {Snake(limit.Name)} {(value > int.MaxValue ? $"INT64_C({value})" : value)}\n");
        }

        return text.Append("\n#endif\n").ToString();
    }

    private static StringBuilder Begin(string guard, string includes) =>
        new($"/*\n * Generated from the tables of src/FastQ.Protocol, which broker and clients share; its tests compare. Do not edit.\n */\n#ifndef {guard}\n#define {guard}\n\n{includes}");

    private static void Write<T>(StringBuilder text, string about, string name, string prefix)
        where T : struct, Enum
    {
        // What stands for nothing has a name only where it has a meaning.
        T[] values = [.. Enum.GetValues<T>().Where(value => Enum.GetName(value) is not ("None" or "Nothing"))];
        text.Append(CultureInfo.InvariantCulture, $"/* {about} */\nenum {name} {{\n");
        text.AppendJoin(",\n", values.Select(value => $"    {Symbol(prefix, value)} = {Convert.ToInt64(value, CultureInfo.InvariantCulture)}"));
        text.Append("\n};\n\n");
    }

    private static string Symbol<T>(string prefix, T value)
        where T : struct, Enum => prefix + Snake(Enum.GetName(value)!);

    private static string Snake(string name) => WordStart.Replace(name, "_").ToUpperInvariant();
}
