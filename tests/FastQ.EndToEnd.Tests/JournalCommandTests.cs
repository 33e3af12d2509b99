using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using FastQ.Protocol;
using Xunit;

namespace FastQ.EndToEnd;

// fastq journal verify, dump and repair, on the directory of a broker that was killed or stopped.
public class JournalCommandTests
{
    [Fact]
    public void A_good_directory_verifies_whether_its_broker_was_killed_or_stopped()
    {
        using TestBroker broker = Filled();
        broker.Kill();
        Assert.True(Verify(broker, 0).GetProperty("ok").GetBoolean());
        broker.Start();
        Assert.Equal(0, broker.Stop());
        JsonElement verified = Verify(broker, 0);
        Assert.True(verified.GetProperty("ok").GetBoolean());
        Assert.Empty(verified.GetProperty("problems").EnumerateArray());
        Assert.StartsWith("ok: ", Fastq.Run(null, "journal", "verify", broker.Data).Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_directory_in_use_is_refused()
    {
        using TestBroker broker = new();
        foreach (string verb in (string[])["verify", "dump", "repair"])
        {
            Ran ran = Fastq.Run(null, "journal", verb, broker.Data);
            Assert.Equal(1, ran.ExitCode);
            Assert.Contains("is in use by another broker", ran.Error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void What_is_no_data_directory_is_refused_and_left_alone()
    {
        string directory = Directory.CreateTempSubdirectory("fastq-test-").FullName;
        Ran empty = Fastq.Run(null, "journal", "verify", directory);
        Ran missing = Fastq.Run(null, "journal", "verify", Path.Combine(directory, "nowhere"));
        Assert.Equal((1, 1), (empty.ExitCode, missing.ExitCode));
        Assert.Contains("holds no data", empty.Error, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFileSystemEntries(directory));
        Assert.Equal(2, Fastq.Run(null, "journal", "verify").ExitCode);
        Directory.Delete(directory, recursive: true);
    }

    [Fact]
    public void A_flipped_byte_in_a_body_is_found_with_slot_position_and_queue_and_the_start_is_refused()
    {
        using TestBroker broker = Filled();
        broker.Kill();
        (uint slot, long at) = Flip(broker, "message-3");
        JsonElement verified = Verify(broker, 1);
        Assert.False(verified.GetProperty("ok").GetBoolean());
        JsonElement problem = Assert.Single(verified.GetProperty("problems").EnumerateArray().ToArray());
        Assert.Equal(slot, problem.GetProperty("slot").GetUInt32());
        long position = problem.GetProperty("position").GetInt64();
        Assert.True(position % 4096 == 0 && position < at && at < position + 300_000);
        Assert.True(problem.GetProperty("block").GetUInt64() > 0);
        Assert.Equal("damaged-block", problem.GetProperty("kind").GetString());
        Assert.Equal(["orders"], problem.GetProperty("queues").EnumerateArray().Select(queue => queue.GetString()));
        Assert.Equal(1, problem.GetProperty("messages").GetInt64());

        Ran refused = Fastq.Run(null, "serve", "--data", broker.Data, "--socket", broker.Socket);
        Assert.Equal(1, refused.ExitCode);
        foreach (string word in (string[])[$"slot {slot}", $"position {position}", "orders", "fastq journal repair"])
        {
            Assert.Contains(word, refused.Error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Repair_without_consent_names_the_loss_and_changes_no_byte()
    {
        using TestBroker broker = Filled();
        broker.Kill();
        Flip(broker, "message-3");
        string before = HashOf(broker.Data);
        Ran ran = Fastq.Run(null, "journal", "repair", broker.Data, "--json");
        Assert.Equal(1, ran.ExitCode);
        Assert.False(ran.Json.GetProperty("repaired").GetBoolean());
        Assert.Equal(1, ran.Json.GetProperty("lostMessages").GetProperty("orders").GetInt64());
        Assert.Equal(before, HashOf(broker.Data));
    }

    [Theory]
    [InlineData("message-1")]
    [InlineData("message-3")]
    [InlineData("message-6")]
    public void Repair_with_consent_loses_the_damaged_message_alone_and_the_broker_serves_the_rest(string damaged)
    {
        using TestBroker broker = Filled();
        broker.Kill();
        Flip(broker, damaged);
        Ran ran = Fastq.Run(null, "journal", "repair", broker.Data, "--accept-loss", "--json");
        Assert.Equal(0, ran.ExitCode);
        Assert.True(ran.Json.GetProperty("repaired").GetBoolean());
        Assert.Equal(1, ran.Json.GetProperty("lostMessages").GetProperty("orders").GetInt64());
        Assert.True(Verify(broker, 0).GetProperty("ok").GetBoolean());

        broker.Start();
        string[] expected = [.. Enumerable.Range(1, 6).Select(i => $"message-{i}").Where(body => body != damaged)];
        Assert.Equal(5, broker.Queue("orders").GetProperty("messages").GetInt64());
        Assert.Equal(expected, Consume(broker, "orders"));
        Assert.Equal(["other"], Consume(broker, "invoices"));
        broker.Run("publish", "orders", "--body", "after");
        broker.Kill();
        broker.Start();
        Assert.Equal(["after"], Consume(broker, "orders"));
    }

    [Fact]
    public void Rot_in_a_message_that_the_snapshot_covers_is_found_and_repaired_too()
    {
        using TestBroker broker = Filled();
        Assert.Equal(0, broker.Stop());
        Flip(broker, "message-4");
        JsonElement problem = Verify(broker, 1).GetProperty("problems")[0];
        Assert.Equal("orders", problem.GetProperty("queues")[0].GetString());
        Assert.Equal(1, problem.GetProperty("messages").GetInt64());
        Assert.Equal(0, Fastq.Run(null, "journal", "repair", broker.Data, "--accept-loss").ExitCode);
        Verify(broker, 0);
        broker.Start();
        Assert.Equal(["message-1", "message-2", "message-3", "message-5", "message-6"], Consume(broker, "orders"));
    }

    [Fact]
    public void A_message_that_lies_whole_where_another_belongs_is_found_and_repair_gives_up_that_other_alone()
    {
        using TestBroker broker = Filled();
        Assert.Equal(0, broker.Stop());
        (_, long from) = Place(broker, "message-5");
        (_, long over) = Place(broker, "message-2");
        byte[] record = new byte[MessageHeader.SizeBytes + "message-5".Length];
        using (FileStream file = File.Open(SlotPath(broker), FileMode.Open))
        {
            file.Position = from - MessageHeader.SizeBytes;
            file.ReadExactly(record);
            file.Position = over - MessageHeader.SizeBytes;
            file.Write(record);
        }

        JsonElement problem = Assert.Single(Verify(broker, 1).GetProperty("problems").EnumerateArray().ToArray(), problem => problem.GetProperty("messages").GetInt64() > 0);
        Assert.Equal(("orders", 1L), (problem.GetProperty("queues")[0].GetString(), problem.GetProperty("messages").GetInt64()));
        Assert.Equal(0, Fastq.Run(null, "journal", "repair", broker.Data, "--accept-loss").ExitCode);
        Verify(broker, 0);
        broker.Start();
        Assert.Equal(["message-1", "message-3", "message-4", "message-5", "message-6"], Consume(broker, "orders"));
    }

    [Fact]
    public void A_block_whose_header_is_damaged_gives_its_messages_back_one_by_one()
    {
        using TestBroker broker = Filled();
        broker.Kill();
        (_, long at) = Place(broker, "message-3");
        FlipAt(broker, at / 4096 * 4096 + 8);
        Assert.False(Verify(broker, 1).GetProperty("ok").GetBoolean());
        Ran ran = Fastq.Run(null, "journal", "repair", broker.Data, "--accept-loss", "--json");
        Assert.Equal(0, ran.ExitCode);
        Assert.Empty(ran.Json.GetProperty("lostMessages").EnumerateObject());
        broker.Start();
        Assert.Equal(Enumerable.Range(1, 6).Select(i => $"message-{i}"), Consume(broker, "orders"));
    }

    [Fact]
    public void A_slot_that_is_gone_is_named_and_repair_gives_up_what_lay_in_it()
    {
        using TestBroker broker = Filled();
        Assert.Equal(0, broker.Stop());
        broker.Start();
        broker.Run("publish", "orders", "--body", "later");
        Assert.Equal(0, broker.Stop());
        File.Delete(SlotPath(broker));

        Ran refused = Fastq.Run(null, "serve", "--data", broker.Data, "--socket", broker.Socket);
        Assert.Equal(1, refused.ExitCode);
        Assert.Contains("0000000001.slot is not there", refused.Error, StringComparison.Ordinal);
        JsonElement problem = Assert.Single(Verify(broker, 1).GetProperty("problems").EnumerateArray().ToArray());
        Assert.Equal(("file-missing", 1u, 7L), (problem.GetProperty("kind").GetString(), problem.GetProperty("slot").GetUInt32(), problem.GetProperty("messages").GetInt64()));

        JsonElement lost = Fastq.Run(null, "journal", "repair", broker.Data, "--accept-loss", "--json").Json.GetProperty("lostMessages");
        Assert.Equal((6L, 1L), (lost.GetProperty("orders").GetInt64(), lost.GetProperty("invoices").GetInt64()));
        Verify(broker, 0);
        broker.Start();
        Assert.Equal(["later"], Consume(broker, "orders"));
    }

    [Fact]
    public void A_damaged_FORMAT_is_written_anew()
    {
        using TestBroker broker = Filled();
        broker.Kill();
        string format = Path.Combine(broker.Data, "FORMAT");
        byte[] bytes = File.ReadAllBytes(format);
        bytes[20] ^= 1;
        File.WriteAllBytes(format, bytes);
        Verify(broker, 1);
        Assert.Equal(0, Fastq.Run(null, "journal", "repair", broker.Data, "--accept-loss").ExitCode);
        broker.Start();
        Assert.Equal(6, Consume(broker, "orders").Length);
    }

    [Fact]
    public void Repair_of_a_good_directory_changes_nothing()
    {
        using TestBroker broker = Filled();
        broker.Kill();
        string before = HashOf(broker.Data);
        Ran ran = Fastq.Run(null, "journal", "repair", broker.Data, "--accept-loss");
        Assert.Equal(0, ran.ExitCode);
        Assert.Contains("nothing to repair", ran.Output, StringComparison.Ordinal);
        Assert.Equal(before, HashOf(broker.Data));
    }

    [Fact]
    public void Dump_prints_each_record_where_it_lies()
    {
        using TestBroker broker = Filled();
        broker.Kill();
        (uint slot, long at) = Place(broker, "message-3");
        Ran ran = Fastq.Run(null, "journal", "dump", broker.Data, "--json");
        Assert.Equal(0, ran.ExitCode);
        JsonElement[] lines = [.. ran.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonDocument.Parse(line).RootElement)];
        JsonElement[] messages = [.. lines.Where(line => line.GetProperty("type").GetString() == "record" && line.GetProperty("kind").GetString() == "Message")];
        Assert.Equal(7, messages.Length);
        Assert.All(messages, message => Assert.Equal("Sound", message.GetProperty("check").GetString()));
        Assert.Contains(messages, message => message.GetProperty("slot").GetUInt32() == slot && message.GetProperty("position").GetInt64() is long position && position < at && at < position + message.GetProperty("bytes").GetInt64());
        Assert.Contains("kind=Message", Fastq.Run(null, "journal", "dump", broker.Data).Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("verify")]
    [InlineData("dump")]
    [InlineData("repair")]
    public void Help_teaches_with_an_example(string verb)
    {
        Ran ran = Fastq.Run(null, "journal", verb, "--help");
        Assert.Equal(0, ran.ExitCode);
        Assert.Contains($"fastq journal {verb} ./fastq-data", ran.Output, StringComparison.Ordinal);
    }

    /// <summary>Six messages in one queue, a block each, one in another; all durable.</summary>
    private static TestBroker Filled()
    {
        TestBroker broker = new();
        broker.Run("queue", "create", "orders");
        broker.Run("queue", "create", "invoices");
        foreach (int i in Enumerable.Range(1, 6))
        {
            Assert.Equal(0, broker.Run("publish", "orders", "--body", $"message-{i}").ExitCode);
        }

        // What comes after vouches for what came before: rot in the very last block could not be told from an unsynced tail.
        Assert.Equal(0, broker.Run("publish", "invoices", "--body", "other").ExitCode);
        return broker;
    }

    private static JsonElement Verify(TestBroker broker, int exitCode)
    {
        Ran ran = Fastq.Run(null, "journal", "verify", broker.Data, "--json");
        Assert.True(ran.ExitCode == exitCode, $"{ran.ExitCode}: {ran.Output} {ran.Error}");
        return ran.Json;
    }

    private static string[] Consume(TestBroker broker, string queue) => broker.Run("consume", queue, "--wait", "500ms").Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);

    private static string SlotPath(TestBroker broker) => Path.Combine(broker.Data, "namespaces", "default", "slots", "0000000001.slot");

    private static (uint Slot, long At) Place(TestBroker broker, string body)
    {
        using FileStream file = File.OpenRead(SlotPath(broker));
        byte[] all = new byte[1 << 20];
        file.ReadExactly(all);
        int at = all.AsSpan().IndexOf(Encoding.ASCII.GetBytes(body));
        Assert.True(at > 0);
        return (1, at);
    }

    private static (uint Slot, long At) Flip(TestBroker broker, string body)
    {
        (uint slot, long at) = Place(broker, body);
        FlipAt(broker, at);
        return (slot, at);
    }

    private static void FlipAt(TestBroker broker, long at)
    {
        using FileStream file = File.Open(SlotPath(broker), FileMode.Open);
        file.Position = at;
        int old = file.ReadByte();
        file.Position = at;
        file.WriteByte((byte)(old ^ 4));
    }

    /// <summary>Names and bytes of all files.</summary>
    private static string HashOf(string directory)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (string path in Directory.EnumerateFiles(directory, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal))
        {
            hash.AppendData(Encoding.UTF8.GetBytes(path));
            hash.AppendData(File.ReadAllBytes(path));
        }

        return Convert.ToHexString(hash.GetHashAndReset());
    }
}
