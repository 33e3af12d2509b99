using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Xunit;

namespace FastQ.Protocol;

// The vectors are read by every implementer's tests (tests/vectors/README.md): they are what this code writes, and this code reads them.
public sealed class VectorTests
{
    private static readonly string s_folder = Path.Combine(Checkout.Root, "tests", "vectors");

    private static string TextOf(string file) => File.ReadAllText(Path.Combine(s_folder, file));

    private static byte[] BytesOf(string file) => Vector.Parse(TextOf(file));

    [Fact]
    public void Each_vector_is_what_the_code_writes()
    {
        string[] stored = [.. Directory.GetFiles(s_folder, "*.hex").Select(path => Path.GetFileName(path)!)];
        string[] made = [.. Vectors.All.Select(row => row.File)];
        string[] differ = [.. Vectors.All.Where(row => !stored.Contains(row.File) || TextOf(row.File) != row.Vector.Text).Select(row => row.File)];
        if (differ.Length > 0)
        {
            string folder = Directory.CreateDirectory(Path.Combine(AppContext.BaseDirectory, "vectors")).FullName;
            foreach ((string file, Vector vector) in Vectors.All)
            {
                File.WriteAllText(Path.Combine(folder, file), vector.Text);
            }

            Assert.Fail($"The code writes other bytes than tests/vectors holds: {string.Join(", ", differ)}. Other clients have been written to these: change them only with the protocol. What the code writes lies in {folder}.");
        }

        Assert.Equal(made.Order(StringComparer.Ordinal), stored.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Each_kind_has_a_vector()
    {
        Assert.Equal(Enum.GetValues<RecordKind>().Where(kind => kind != RecordKind.Nothing), Vectors.Records.Select(row => row.Kind).Order());
        Assert.Equal(Enum.GetValues<HandshakeKind>().Where(kind => kind != HandshakeKind.None), Vectors.Messages.Select(row => row.Kind).Order());
    }

    // The words beside the bytes are what a reader believes: each number is the one in the bytes, each text too.
    [Fact]
    public void What_the_words_say_is_what_the_bytes_say()
    {
        Findings.None(
            from file in Vectors.All.Select(row => row.File)
            from line in Joined(TextOf(file).Split('\n'))
            where line.Words.Length > 1 && !Agree(line.Bytes, line.Words)
            select $"{file}: {Convert.ToHexString(line.Bytes)} # {string.Join(' ', line.Words)}");
    }

    [Fact]
    public void Each_record_has_its_length_kind_and_padding_and_a_payload_that_can_be_read()
    {
        foreach (RecordKind kind in Vectors.Records.Select(row => row.Kind))
        {
            byte[] bytes = BytesOf($"record-{kind}.hex");
            RecordPrefix prefix = MemoryMarshal.Read<RecordPrefix>(bytes);
            Assert.Equal(kind, prefix.Kind);
            Assert.Equal(Limits.Align((int)prefix.LengthBytes), bytes.Length);
            Assert.All(bytes[(int)prefix.LengthBytes..], padding => Assert.Equal(0, padding));

            string structName = Page.Table("enum RecordKind").Rows.Single(row => row[1] == kind.ToString())[2];
            byte[] payload = bytes[Page.Structs.Single(row => row.Name == structName).Bytes..(int)prefix.LengthBytes];
            switch (kind)
            {
                case RecordKind.Message or RecordKind.MovedMessage or RecordKind.DeadLetter or RecordKind.MessageTransferred or RecordKind.SharedMessage:
                    AssertMessage(bytes.AsSpan(0, (int)prefix.LengthBytes));
                    break;
                case RecordKind.RoutedMessage:
                    Assert.True(StoredMessage.TryReadRouted(bytes.AsSpan(0, (int)prefix.LengthBytes), out RoutedHeader header, out ReadOnlySpan<RoutedTarget> targets, out ReadOnlySpan<byte> message));
                    Assert.Equal((int)header.Count, targets.Length);
                    AssertMessage(message.ToArray());
                    break;
                case RecordKind.Transaction:
                    TransactionHeader transaction = MemoryMarshal.Read<TransactionHeader>(bytes);
                    Assert.Equal("", TransactionReader.Fault(payload, transaction.Number, transaction.Count));
                    break;
                case RecordKind.PassedOver:
                    Assert.NotEmpty(payload);
                    break;
                case RecordKind.Reply or RecordKind.ReplyDelivered:
                    ReplyRecord reply = MemoryMarshal.Read<ReplyRecord>(bytes);
                    Assert.Equal((reply.Check, "Hello, world!"), (RecordCheck.Of(payload), Encoding.UTF8.GetString(payload[^reply.BodyBytes..])));
                    break;
                case RecordKind.DeliveryCopy:
                    Assert.Equal((int)MemoryMarshal.Read<DeliveryEntry>(payload).LengthBytes, payload.Length - DeliveryEntry.SizeBytes);
                    AssertMessage(payload.AsSpan(DeliveryEntry.SizeBytes));
                    break;
                case RecordKind.Deliveries:
                    Assert.Equal(MemoryMarshal.Read<DeliveriesHeader>(bytes).Count * DeliveryEntry.SizeBytes, payload.Length);
                    break;
                case RecordKind.Delivered:
                    Assert.Equal(MemoryMarshal.Read<DeliveredRecord>(bytes).Runs * TagRun.SizeBytes, payload.Length);
                    Assert.Equal(MemoryMarshal.Read<DeliveredRecord>(bytes).Count, (uint)MemoryMarshal.Cast<byte, TagRun>(payload).ToArray().Sum(run => (long)run.Count));
                    break;
                case RecordKind.Command or RecordKind.Answer or RecordKind.QueueDeclared or RecordKind.QueueChanged or RecordKind.SweepStarted or RecordKind.ExchangeDeclared or RecordKind.BindingChanged or RecordKind.ScheduleSet or RecordKind.LimitSet or RecordKind.LimitDeleted:
                    Assert.NotEmpty(TagsOf(payload));
                    break;
                case RecordKind.Refused:
                    Assert.NotEmpty(Encoding.UTF8.GetString(payload));
                    break;
                default:
                    Assert.Empty(payload);
                    break;
            }
        }
    }

    [Fact]
    public void Each_message_on_the_socket_carries_the_fields_that_the_page_names_for_it()
    {
        PageTable table = Page.Table("enum HandshakeKind");
        foreach (HandshakeKind kind in Vectors.Messages.Select(row => row.Kind))
        {
            Assert.True(Handshake.TryRead(BytesOf($"socket-{kind}.hex"), out HandshakeKind read, out ReadOnlySpan<byte> fields));
            Assert.Equal(kind, read);
            string stated = table.Rows.Single(row => row[1] == kind.ToString())[4].Split(';')[0];
            Assert.Equal(stated.Split(", ").Where(name => Enum.TryParse<FieldTag>(name, out _)), TagsOf(fields).Distinct());
        }
    }

    [Fact]
    public void The_refusals_can_be_walked_like_a_ring_and_name_every_code()
    {
        byte[] bytes = BytesOf("refusals.hex");
        List<RefusalCode> codes = [];
        for (int at = 0; at < bytes.Length; at += Limits.Align((int)MemoryMarshal.Read<RecordPrefix>(bytes.AsSpan(at)).LengthBytes))
        {
            NoticeRecord notice = MemoryMarshal.Read<NoticeRecord>(bytes.AsSpan(at));
            Assert.Equal(Refusal.Of(notice.Code).Name, Encoding.UTF8.GetString(bytes.AsSpan(at + NoticeRecord.SizeBytes, (int)notice.LengthBytes - NoticeRecord.SizeBytes)));
            codes.Add(notice.Code);
        }

        Assert.Equal(Enum.GetValues<RefusalCode>().Skip(1), codes);
    }

    [Fact]
    public void The_properties_hold_every_tag_and_every_type()
    {
        byte[] bytes = BytesOf("properties.hex");
        List<PropertyTag> tags = [];
        List<PropertyType> types = [];
        PropertyReader reader = new(bytes);
        while (reader.Next())
        {
            tags.Add(reader.Tag);
            types.Add(reader.Type);
        }

        Assert.False(reader.IsMalformed);
        Assert.Equal(Enum.GetValues<PropertyTag>().Skip(1), tags.Distinct().Order());
        Assert.Equal(Enum.GetValues<PropertyType>(), types.Distinct().Order());
    }

    private static void AssertMessage(ReadOnlySpan<byte> record)
    {
        MessageHeader header = MemoryMarshal.Read<MessageHeader>(record);
        Assert.Equal(record.Length, (int)header.LengthBytes);
        Assert.Equal(header.Check, RecordCheck.Of(record[MessageHeader.SizeBytes..]));
        Assert.True(PropertyReader.AreValid(record.Slice(MessageHeader.SizeBytes, header.PropertyBytes)));
        Assert.Equal("Hello, world!", Encoding.UTF8.GetString(record[^header.BodyBytes..]));
    }

    private static List<string> TagsOf(ReadOnlySpan<byte> fields)
    {
        List<string> tags = [];
        FieldReader reader = new(fields);
        while (reader.Next())
        {
            tags.Add(reader.Tag.ToString());
        }

        Assert.False(reader.IsMalformed);
        return tags;
    }

    /// <summary>Bytes of lines without words belong to the line before.</summary>
    private static IEnumerable<(byte[] Bytes, string[] Words)> Joined(string[] lines)
    {
        List<byte> bytes = [];
        string[] words = [];
        foreach (string line in lines.Where(line => line.Length > 0 && !line.StartsWith('#')))
        {
            string[] parts = line.Split('#', 2);
            if (parts.Length == 2)
            {
                yield return ([.. bytes], words);
                bytes.Clear();
                words = parts[1].Trim().Split(' ', 2);
            }

            bytes.AddRange(Vector.Parse(line));
        }

        yield return ([.. bytes], words);
    }

    private static bool Agree(byte[] bytes, string[] words) => words[0] switch
    {
        "text" or "key" or "body" => words[1] == Encoding.UTF8.GetString(bytes),
        "double" => double.Parse(words[1], CultureInfo.InvariantCulture).Equals(BitConverter.ToDouble(bytes)),
        _ => bytes.Length <= 8 && BitConverter.ToUInt64([.. bytes, .. new byte[8 - bytes.Length]]) == unchecked((ulong)(long)Int128.Parse(words[1].Split(' ')[0], CultureInfo.InvariantCulture)),
    };
}
