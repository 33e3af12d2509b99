using System.Globalization;
using System.Numerics;
using System.Reflection;
using System.Text;
using Xunit;

namespace FastQ.Protocol;

// The page is what other implementers work from (src/FastQ.Protocol/README.md), the code is what runs. Each is compared with the other whole:
// what one has and the other lacks is a finding, too.
public class PageTests
{
    private static readonly Assembly Room = typeof(RecordPrefix).Assembly;

    private static readonly string[] Counters =
        ["SubmissionHead", "DeliveryPosition", "DeliveryHead", "SubmissionPosition", "Decided", "Written", "Durable", "SleepNumber", "FutexWord", "Ended"];

    [Fact]
    public void Each_struct_that_is_stored_or_shared_has_the_size_offsets_and_alignment_of_its_table_and_no_holes()
    {
        Layout[] structs = Layout.AllOf(Room);
        Assert.Equal(Page.Structs.Select(table => table.Name).Order(StringComparer.Ordinal), structs.Select(layout => layout.Name).Order(StringComparer.Ordinal));

        Findings.None(
            from layout in structs
            let stated = Page.Structs.Single(table => table.Name == layout.Name)
            from finding in TableFindings(layout, stated.Bytes, stated.Table).Concat(LayoutFindings(layout))
            select $"{layout.Name}: {finding}");
    }

    [Fact]
    public void Each_counter_of_a_control_page_has_128_bytes_to_itself()
    {
        Findings.None(
            from layout in Layout.AllOf(Room)
            where layout.Name is nameof(ClientControl) or nameof(BrokerControl)
            from field in layout.Fields
            where Counters.Contains(field.Name) ? field.Offset % 128 != 0 || layout.Fields.Any(other => other != field && other.Offset / 128 == field.Offset / 128) : field.Offset >= 128
            select $"{layout.Name}.{field.Name} at {field.Offset}");
    }

    [Fact]
    public void Each_enum_that_travels_has_the_values_of_its_table()
    {
        // What travels has a width of its own; an enum of the default width is for this process only.
        Type[] enums = [.. Room.GetTypes().Where(type => type.IsEnum && Enum.GetUnderlyingType(type) != typeof(int))];
        Assert.Equal(Page.Enums.Select(table => table.Name).Order(StringComparer.Ordinal), enums.Select(type => type.Name).Order(StringComparer.Ordinal));

        foreach (Type type in enums.Where(type => type != typeof(RefusalCode)))
        {
            Assert.Equal(Members(type), Page.Table($"enum {type.Name}").Lines("value", "name"));
        }
    }

    [Fact]
    public void Each_refusal_has_the_code_name_cause_and_remedy_of_its_row()
    {
        IEnumerable<string> rows = Refusal.Table.ToArray().Select(row => $"{(int)row.Code} | {row.Name} | {row.Cause} | {row.Remedy}");

        Assert.Equal(Page.Table("enum RefusalCode").Lines("code", "name", "cause", "remedy"), rows);
    }

    [Fact]
    public void Each_refusal_code_is_the_index_of_its_row_and_named_after_it()
    {
        Assert.Equal(Members(typeof(RefusalCode)).Select(member => member.Split(" | ")[0]), Refusal.Table.ToArray().Select(row => Number((int)row.Code)));
        foreach (RefusalCode code in Enum.GetValues<RefusalCode>())
        {
            Assert.Equal(code, Refusal.Of(code).Code);
            Assert.Equal(Kebab(code.ToString()), Refusal.Of(code).Name);
        }

        Assert.Equal(RefusalCode.Internal, Refusal.Of(Enum.GetValues<RefusalCode>()[^1] + 1).Code);
        Assert.Equal(RefusalCode.Internal, Refusal.Of((RefusalCode)ushort.MaxValue).Code);
    }

    [Fact]
    public void Each_property_that_a_queue_may_demand_has_the_name_of_its_row_and_a_flag_of_its_own()
    {
        Requirement[] table = Requirement.Table.ToArray();
        Assert.Equal(Page.Table("Properties that a queue may demand").Lines("name", "property"), table.Select(row => $"{row.Name} | {row.Tag}"));
        Assert.Equal(Enum.GetValues<RequiredProperties>().Skip(1), table.Select(row => row.Property));
        Assert.All(table, row => Assert.Equal((row.Property.ToString(), row.Property), (row.Tag.ToString(), Requirement.Of(row.Tag))));
        Assert.Equal(table.Length, Enum.GetValues<PropertyTag>().Count(tag => Requirement.Of(tag) != RequiredProperties.None));
    }

    [Fact]
    public void What_a_queue_demands_is_read_as_it_is_written_in_any_order_and_a_name_that_is_none_is_said()
    {
        for (int set = 0; set < 1 << Requirement.Table.Length; set++)
        {
            string[] names = Requirement.NamesOf((RequiredProperties)set).Split(',');
            Assert.Equal(BitOperations.PopCount((uint)set), names.Count(name => name.Length > 0));
            Assert.True(Requirement.TryParse(string.Join(',', names.Reverse()), out RequiredProperties read, out _));
            Assert.Equal((RequiredProperties)set, read);
        }

        foreach ((string names, string unknown) in new[] { ("type,colour", "colour"), ("Type", "Type"), (",", ""), ("type,", ""), (" type", " type") })
        {
            Assert.False(Requirement.TryParse(names, out _, out string? said));
            Assert.Equal(unknown, said);
        }
    }

    [Fact]
    public void Each_limit_has_the_value_of_its_row()
    {
        IEnumerable<string> constants = typeof(Limits).GetFields(BindingFlags.Public | BindingFlags.Static).Select(field => $"{field.Name} | {Number(field.GetRawConstantValue()!)}");

        Assert.Equal(Page.Table("Limits").Lines("name", "value").Order(StringComparer.Ordinal), constants.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Each_kind_of_record_names_a_struct_and_has_the_number_of_its_ring()
    {
        PageTable table = Page.Table("enum RecordKind");
        Findings.None(table.Column("struct").Where(name => name.Length > 0).Except(Page.Structs.Select(row => row.Name)).Select(name => $"no table for {name}"));

        // Below 64 the client writes it, below 128 the broker, from there on only the journal holds it. Nothing has no struct.
        Dictionary<string, int> firsts = new() { ["CommandRecord"] = 1, ["SettleRecord"] = 1, ["ControlRecord"] = 32, ["DeliveriesHeader"] = 64, ["NoticeRecord"] = 64, ["AnswerRecord"] = 64, ["SourceRecord"] = 128, ["DeliveredRecord"] = 128, ["FactRecord"] = 128 };
        Findings.None(
            from row in table.Rows
            let first = firsts.GetValueOrDefault(row[2], -1)
            let kind = int.Parse(row[0], CultureInfo.InvariantCulture)
            where first > 0 && (kind < first || kind >= (first < 64 ? 64 : 2 * first))
            select $"{row[1]} is {kind}, a {row[2]}");
    }

    [Fact]
    public void What_may_stand_in_a_block_is_what_the_page_says()
    {
        IEnumerable<string> journaled = Page.Table("enum RecordKind").Rows.Where(row => row[3].StartsWith("N, J.", StringComparison.Ordinal) || int.Parse(row[0], CultureInfo.InvariantCulture) >= 128).Select(row => row[1]);
        IEnumerable<string> messages = Page.Table("enum RecordKind").Rows.Where(row => row[2] == nameof(MessageHeader)).Select(row => row[1]);
        RecordKind[] kinds = Enum.GetValues<RecordKind>();
        Assert.Equal(journaled, kinds.Where(kind => kind.IsJournaled()).Select(kind => kind.ToString()));
        Assert.Equal(messages, kinds.Where(kind => kind.IsStoredMessage()).Select(kind => kind.ToString()));
        Assert.False(((RecordKind)((int)kinds[^1] + 1)).IsJournaled());
    }

    [Fact]
    public void The_fields_that_messages_and_commands_carry_are_tags_of_the_table()
    {
        string[] tags = Enum.GetNames<FieldTag>(), codes = [.. Enum.GetNames<CommandKind>(), "More", "Answer", "Exists"];
        Findings.None(
            from cell in Page.Table("enum HandshakeKind").Column("fields")
                .Concat(Page.Table("enum CommandKind").Column("fields in")).Concat(Page.Table("enum CommandKind").Column("fields of the answer"))
            from word in cell.Split(' ', ',', ';', ':', '.', '(', ')', '\'')
            where word.Length > 0 && char.IsAsciiLetterUpper(word[0]) && word is not ("As" or "Rings") && !tags.Contains(word) && !codes.Contains(word)
            select $"no tag {word} ({cell})");
    }

    [Fact]
    public void Magic_numbers_and_versions_are_those_of_the_page()
    {
        Assert.Contains($"0x{ClientControl.MagicValue:X8}: the bytes `{Ascii(ClientControl.MagicValue)}`", Page.Text, StringComparison.Ordinal);
        Assert.Contains($"0x{BrokerControl.MagicValue:X8}: the bytes `{Ascii(BrokerControl.MagicValue)}`", Page.Text, StringComparison.Ordinal);
        Assert.Contains($"magic 0x{Handshake.Magic:X8}: the bytes `{Ascii(Handshake.Magic)}`", Page.Text, StringComparison.Ordinal);
        Assert.Contains($"is the protocol, version {ProtocolVersion.Major}.{ProtocolVersion.Minor},", Page.Text, StringComparison.Ordinal);
        Assert.Contains($"major version of the protocol: {ProtocolVersion.Major} |", Page.Text, StringComparison.Ordinal);
    }

    [Fact]
    public void The_bits_of_flags_are_those_of_the_page()
    {
        Assert.Equal(0b11, MessageHeader.ConfirmMask);
        Assert.Equal((1, 2, 1), (DeliveryEntry.Cold, DeliveryEntry.Redelivered, AnswerRecord.More));
        foreach (Outcome outcome in Enum.GetValues<Outcome>())
        {
            foreach (ConfirmLevel level in Enum.GetValues<ConfirmLevel>())
            {
                SettleRecord record = new() { Flags = SettleRecord.FlagsOf(outcome, level) };
                Assert.Equal(((int)outcome << 4) + (int)level, record.Flags);
                Assert.Equal(outcome, record.Outcome);
            }
        }
    }

    [Fact]
    public void The_ring_for_a_record_is_the_smallest_that_the_page_allows()
    {
        for (long ring = Limits.MinRingBytes, largest = 0; ring <= Limits.MaxRingBytes; ring *= 2)
        {
            long fits = largest; // the largest record for which n + n / 3 + 64 is within this ring
            for (long step = ring; step > 0; step /= 2)
            {
                fits += fits + step + (fits + step) / 3 + 64 <= ring ? step : 0;
            }

            Assert.Equal(ring, Limits.RingBytesFor(largest + 1));
            Assert.Equal(ring, Limits.RingBytesFor(fits));
            largest = fits;
            Assert.Equal(ring < Limits.MaxRingBytes ? 2 * ring : 0, Limits.RingBytesFor(fits + 1));
        }
    }

    private static IEnumerable<string> TableFindings(Layout layout, int statedBytes, PageTable table)
    {
        string[] stated = table.Lines("offset", "size", "field");
        string[] made = [.. WithGaps(layout).Select(field => $"{field.Offset} | {field.Bytes} | {field.Name}")];
        return Differences(stated, made)
            .Concat(statedBytes == layout.Bytes ? [] : [$"{layout.Bytes} bytes, the page says {statedBytes}"])
            .Concat(from row in table.Rows where row[2] == "(gap)" && row[3] != "zero" select $"the gap at {row[0]} is not said to be zero")
            .Concat(
                from row in table.Rows
                let field = layout.Fields.FirstOrDefault(field => field.Name == row[2])
                where field is not null && field.Signed != row[3].StartsWith("i64", StringComparison.Ordinal)
                select $"{field.Name}: sign");
    }

    // Holes are allowed where the page names them, and it does so in control pages only.
    private static IEnumerable<string> LayoutFindings(Layout layout)
    {
        bool isControlPage = layout.Bytes == Limits.ControlPageBytes;
        return (from field in layout.Fields where field.Offset % field.Bytes != 0 || !int.IsPow2(field.Bytes) select $"{field.Name} is not aligned")
            .Concat(from field in WithGaps(layout) where field.Name == "(gap)" && !isControlPage select $"a hole at {field.Offset}")
            .Concat(layout.Bytes % Limits.RecordAlignment == 0 ? [] : ["its size is no multiple of 8"])
            .Concat(from field in Room.GetType($"FastQ.Protocol.{layout.Name}")!.GetFields(BindingFlags.Public | BindingFlags.Static)
                    where field.Name == "SizeBytes" && (int)field.GetRawConstantValue()! != layout.Bytes
                    select "SizeBytes is not its size");
    }

    private static IEnumerable<FieldPlace> WithGaps(Layout layout)
    {
        int end = 0;
        foreach (FieldPlace field in layout.Fields.Append(new FieldPlace(layout.Bytes, 0, "", false)))
        {
            if (field.Offset != end)
            {
                yield return new FieldPlace(end, field.Offset - end, "(gap)", false);
            }

            if (field.Bytes > 0)
            {
                yield return field;
            }

            end = field.Offset + field.Bytes;
        }
    }

    private static IEnumerable<string> Differences(string[] page, string[] code) =>
        page.Except(code).Select(row => $"only on the page: {row}").Concat(code.Except(page).Select(row => $"only in the code: {row}"));

    private static string[] Members(Type type) => [.. Enum.GetValues(type).Cast<object>().Select(value => $"{Number(Convert.ToInt64(value, CultureInfo.InvariantCulture))} | {value}")];

    private static string Number(object value) => Convert.ToString(value, CultureInfo.InvariantCulture)!;

    private static string Ascii(uint magic) => Encoding.ASCII.GetString(BitConverter.GetBytes(magic));

    private static string Kebab(string name) => string.Concat(name.Select((letter, index) => char.IsAsciiLetterUpper(letter) ? (index > 0 ? "-" : "") + char.ToLowerInvariant(letter) : letter.ToString()));
}
