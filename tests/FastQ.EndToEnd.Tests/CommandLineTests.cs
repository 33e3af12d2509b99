using System.Diagnostics;
using System.Text;
using System.Text.Json;
using FastQ.Client;
using FastQ.Protocol;
using Xunit;

namespace FastQ.EndToEnd;

// The command line as scripts rely on it.
public class CommandLineTests
{
    [Fact]
    public void What_a_person_reads_of_queues_is_whole_in_eighty_columns()
    {
        using TestBroker broker = new();
        string longest = new('q', 200);
        broker.Run("queue", "create", longest);
        broker.Run("queue", "create", "work");
        broker.Run("publish", "work", "--body", "hello");
        string list = broker.Run("queue", "list").Output, one = broker.Run("queue", "show", "work").Output;
        foreach (string word in (string[])["queue", "ready", "in flight", "bytes", "consumers", "work"])
        {
            Assert.Contains(word, list, StringComparison.Ordinal);
            Assert.Contains(word, one, StringComparison.Ordinal);
        }

        Assert.Contains("redelivered", one, StringComparison.Ordinal);
        Assert.DoesNotContain("…", list + one, StringComparison.Ordinal);
        Assert.Equal(200, list.Count(letter => letter == 'q') - 1); // The name, and the heading.
        Assert.All(list.Split('\n'), line => Assert.InRange(line.Length, 0, 80));
    }

    [Fact]
    public void The_binary_is_at_most_16_MB()
    {
        Assert.InRange(new FileInfo(Fastq.Binary).Length, 1, 16_000_000);
    }

    [Fact]
    public void What_is_published_is_consumed_as_it_was()
    {
        using TestBroker broker = new();
        Assert.Equal(0, broker.Run("queue", "create", "work").ExitCode);
        Ran published = broker.RunWith("first\nzweite Zeile, ümlaut\n\nlast", "publish", "work", "-", "--header", "k=v", "--json");
        Assert.Equal(0, published.ExitCode);
        Assert.Equal(4, published.Json.GetProperty("confirmed").GetInt32());

        Ran consumed = broker.Run("consume", "work", "--format", "json", "--wait", "200ms");
        Assert.Equal(0, consumed.ExitCode);
        JsonElement[] messages = [.. consumed.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonDocument.Parse(line).RootElement)];
        Assert.Equal(["first", "zweite Zeile, ümlaut", "", "last"], messages.Select(message => message.GetProperty("body").GetString()));
        Assert.Equal([1, 2, 3, 4], messages.Select(message => message.GetProperty("tag").GetInt32()));
        Assert.All(messages, message => Assert.Equal("v", message.GetProperty("headers").GetProperty("k").GetString()));
        Assert.All(messages, message => Assert.Equal(1, message.GetProperty("deliveryCount").GetInt32()));
        Assert.Contains("4 consumed", consumed.Error, StringComparison.Ordinal);
        Assert.Equal(0, broker.Queue("work").GetProperty("messages").GetInt32());
    }

    [Fact]
    public void Bodies_that_are_no_text_come_as_base64_and_raw()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work");
        string file = Path.Combine(broker.Directory, "bytes");
        File.WriteAllBytes(file, [0xff, 0xfe, 0x00, 0x01]);
        Assert.Equal(0, broker.Run("publish", "work", "--file", file).ExitCode);
        Ran json = broker.Run("consume", "work", "--format", "json", "--settle", "release", "--max", "1");
        Assert.Equal("//4AAQ==", json.Json.GetProperty("bodyBase64").GetString());
        Ran again = broker.Run("consume", "work", "--format", "json", "--max", "1");
        Assert.Equal(2, again.Json.GetProperty("deliveryCount").GetInt32());
        Assert.True(again.Json.GetProperty("redelivered").GetBoolean());
    }

    [Fact]
    public void Rejected_messages_are_gone_and_unsettled_ones_come_again()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work");
        broker.Run("publish", "work", "--body", "x", "--count", "3");
        broker.Run("consume", "work", "--settle", "reject", "--max", "1");
        broker.Run("consume", "work", "--settle", "none", "--max", "2");
        JsonElement queue = broker.Queue("work");
        Assert.Equal(2, queue.GetProperty("ready").GetInt32());
        Assert.Equal(1, queue.GetProperty("rejected").GetInt32());
        Assert.Equal(0, queue.GetProperty("inFlight").GetInt32());
    }

    [Fact]
    public void Headers_and_properties_are_shown_with_the_types_that_they_were_given()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work");
        string[] headers = ["text=5", "int:int=-5", "whole:double=2", "part:double=0.1", "none:double=NaN", "flag:bool=true", "at:time=2030-01-31T09:00:00.25+01:00", "bytes:bytes=AAH/", "a:int:text=v", "a:b=c=d", "table:json={\"list\":[1,2.0,\"x\",{}],\"flag\":false}"];
        string[] properties = ["--content-type", "application/json", "--correlation-id", "c", "--reply-to", "answers", "--key", "order-17", "--schema-version", "2"];
        Ran published = broker.Run(["publish", "work", "--body", "{}", .. properties, .. headers.SelectMany(header => (string[])["--header", header])]);
        Assert.True(published.ExitCode == 0, published.Error);
        foreach (JsonElement message in (JsonElement[])[broker.Run("browse", "work", "--json").Json, broker.Run("consume", "work", "--format", "json").Json])
        {
            Assert.Equal(
                """{"text":"5","int":-5,"whole":2.0,"part":0.1,"none":{"double":"NaN"},"flag":true,"at":"2030-01-31T08:00:00.25Z","bytes":{"base64":"AAH/"},"a:int":"v","a:b":"c=d","table":{"list":[1,2.0,"x",{}],"flag":false}}""",
                message.GetProperty("headers").GetRawText());
            Assert.Equal("""{"correlationId":"c","replyTo":"answers","contentType":"application/json","key":"order-17","schemaVersion":"2"}""", message.GetProperty("properties").GetRawText());
        }

        foreach ((string header, string said) in new[] { ("k:int=5.5", "'5.5' is no int for the key 'k'"), ("k:bool=yes", "'yes' is no bool"), ("k:bytes=%", "'%' is no bytes"), ("k:time=teatime", "'teatime' is no time"), ("k:double=much", "is no double"), ("k:json=[null]", "is no json"), ("k:json=[", "is no json"), ("=v", "with a key"), (":int=5", "with a key"), ("k", "with a key") })
        {
            Ran refused = broker.Run("publish", "work", "--body", "x", "--header", header);
            Assert.Equal(2, refused.ExitCode);
            Assert.Contains(said, refused.Error, StringComparison.Ordinal);
        }

        Assert.Contains("the key 'k' more than once", broker.Run("publish", "work", "--body", "x", "--header", "k=v", "--header", "k:int=5").Error, StringComparison.Ordinal);
        Assert.Contains("deep", broker.Run("publish", "work", "--body", "x", "--header", $"k:json={new string('[', 17)}{new string(']', 17)}").Error, StringComparison.Ordinal);
        Assert.Equal(0, broker.Queue("work").GetProperty("messages").GetInt32());
    }

    [Fact]
    public void A_queue_refuses_what_lacks_the_properties_that_it_demands_and_says_which()
    {
        using TestBroker broker = new();
        Assert.Contains("schema-version", broker.Run("queue", "create", "work", "--require", "schema-version,type").Output, StringComparison.Ordinal);
        Ran refused = broker.Run("publish", "work", "--body", "x", "--count", "3");
        Assert.Equal(1, refused.ExitCode);
        Assert.Contains("fastq: missing-property: ", refused.Error, StringComparison.Ordinal);
        Assert.Contains("The queue demands the properties type, schema-version.", refused.Error, StringComparison.Ordinal);
        Assert.Equal(0, broker.Run("publish", "work", "--body", "x", "--type", "t", "--schema-version", "1").ExitCode);
        broker.Kill();
        broker.Start();
        Assert.Equal("""["type","schema-version"]""", broker.Queue("work").GetProperty("require").GetRawText());
        Assert.Equal(1, broker.Run("publish", "work", "--body", "x", "--type", "t").ExitCode);
        Assert.Empty(broker.Run("queue", "set", "work", "--require", "", "--json").Json.GetProperty("require").EnumerateArray());
        Assert.Equal(0, broker.Run("publish", "work", "--body", "x").ExitCode);
        Assert.Equal(2, broker.Queue("work").GetProperty("messages").GetInt32());
        Ran unknown = broker.Run("queue", "create", "other", "--require", "type,colour");
        Assert.Equal(2, unknown.ExitCode);
        Assert.Contains("'colour' is no property that a queue can demand", unknown.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Large_bodies_are_stored_compressed_where_the_queue_says_so_and_shown_as_they_were_sent()
    {
        using TestBroker broker = new();
        Assert.Contains("from 1,024 B", broker.Run("queue", "create", "work", "--lz4", "1KiB").Output, StringComparison.Ordinal);
        string line = string.Concat(Enumerable.Repeat("a line of a log ", 2000));
        Assert.Equal(0, broker.RunWith($"{line}\nshort\n", "publish", "work", "-", "--type", "t").ExitCode);
        broker.Kill();
        broker.Start();
        JsonElement queue = broker.Queue("work");
        Assert.Equal(1024, queue.GetProperty("lz4FromBytes").GetInt32());
        Assert.InRange(queue.GetProperty("bytes").GetInt32(), 1, 1000);
        string[] browsed = broker.Run("browse", "work", "--json").Output.Split('\n', StringSplitOptions.RemoveEmptyEntries), consumed = broker.Run("consume", "work", "--format", "json", "--settle", "release", "--max", "2").Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        foreach (JsonElement[] messages in new[] { browsed, consumed }.Select(lines => lines.Select(text => JsonDocument.Parse(text).RootElement).ToArray()))
        {
            Assert.Equal([line, "short"], messages.Select(message => message.GetProperty("body").GetString()));
            Assert.Equal("""{"type":"t"}""", messages[0].GetProperty("properties").GetRawText());
        }

        Assert.Equal($"{line}\nshort\n", broker.Run("consume", "work").Output);
        Assert.Equal(0, broker.Run("queue", "set", "work", "--lz4", "0", "--json").Json.GetProperty("lz4FromBytes").GetInt32());
        broker.RunWith($"{line}\n", "publish", "work", "-");
        Assert.Equal(line.Length, broker.Queue("work").GetProperty("bytes").GetInt32());
        Assert.Contains("lz4 must be 0", broker.Run("queue", "set", "work", "--lz4", "17MiB").Error, StringComparison.Ordinal);
    }

    [Fact]
    public void A_body_that_cannot_be_decoded_is_shown_as_it_is_stored_and_can_be_rejected()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work");
        using (Session session = Session.Connect(new SessionOptions { Path = broker.Socket }, TestContext.Current.CancellationToken))
        {
            PropertyWriter properties = new(new byte[100]);
            BodyEncoding.WriteLz4(ref properties, 100);
            session.Publish(session.OpenQueue("work"), "no block at all"u8, properties: properties.Written);
            session.Flush();
        }

        Assert.Contains("(lz4, not decoded)", broker.Run("browse", "work").Output, StringComparison.Ordinal);
        Ran consumed = broker.Run("consume", "work", "--format", "json", "--settle", "reject");
        Assert.Equal(0, consumed.ExitCode);
        Assert.Contains("The body of the message at place 1 is said to be lz4 of 100 bytes, and is not.", consumed.Error, StringComparison.Ordinal);
        foreach (JsonElement message in (JsonElement[])[consumed.Json, broker.Run("browse", "work.dead", "--json").Json])
        {
            Assert.Equal(("lz4", "no block at all"), (message.GetProperty("bodyEncoding").GetString(), Encoding.UTF8.GetString(message.GetProperty("bodyBase64").GetBytesFromBase64())));
        }
    }

    [Fact]
    public void Why_a_message_is_where_it_is_is_said_in_a_sentence_and_browsing_takes_nothing()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work", "--lease", "5m");
        broker.Run("publish", "work", "--body", "one", "--id", "order-1", "--header", "k=v");
        broker.Run("publish", "work", "--body", "two", "--id", "order-2", "--type", "t");
        string before = broker.Run("why", "work", "order-2").Output;
        Assert.Contains("Message order-2 of queue work is ready, but the queue has no consumer; one that is ready comes before it; it was never delivered.", before, StringComparison.Ordinal);

        using Process consumer = Fastq.Start("consume", "work", "--max", "1", "--settle", "none", "--follow", "--credit", "1", "--socket", broker.Socket);
        Assert.Equal("one", consumer.StandardOutput.ReadLine());
        consumer.WaitForExit();
        Assert.Contains("delivered once", broker.Run("why", "work", "order-1").Output, StringComparison.Ordinal);

        using Process holder = Fastq.Start("consume", "work", "--max", "2", "--settle", "none", "--follow", "--credit", "1", "--socket", broker.Socket);
        Assert.Equal("one", holder.StandardOutput.ReadLine());
        JsonElement[] messages = [.. broker.Run("browse", "work", "--json").Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonDocument.Parse(line).RootElement)];
        Assert.Equal(["in-flight", "ready"], messages.Select(message => message.GetProperty("state").GetString()));
        Assert.Equal(["one", "two"], messages.Select(message => message.GetProperty("body").GetString()));
        Assert.Equal([2, 0], messages.Select(message => message.GetProperty("deliveries").GetInt32()));
        Assert.Equal($"fastq consume (process {holder.Id})", messages[0].GetProperty("owner").GetString());
        Assert.InRange(messages[0].GetProperty("leaseLeft").GetDouble(), 1, 300);
        Assert.Equal("v", messages[0].GetProperty("headers").GetProperty("k").GetString());
        Assert.Equal("t", messages[1].GetProperty("properties").GetProperty("type").GetString());
        Assert.Contains($"is with fastq consume (process {holder.Id}), whose lease runs", broker.Run("why", "work", "order-1").Output, StringComparison.Ordinal);
        Assert.Contains("is ready and waits for its turn: no other comes before it, and the queue's consumers (1) hold 1", broker.Run("why", "work", "2").Output, StringComparison.Ordinal);
        string table = broker.Run("browse", "work", "--state", "in-flight").Output;
        Assert.Contains("one", table, StringComparison.Ordinal);
        Assert.DoesNotContain("two", table, StringComparison.Ordinal);
        Assert.All(table.Split('\n'), line => Assert.InRange(line.Length, 0, 80));
        Assert.Equal(2, broker.Queue("work").GetProperty("messages").GetInt32());
        holder.Kill();
        holder.WaitForExit();
        Ran nobody = broker.Run("why", "work", "order-3");
        Assert.Equal(1, nobody.ExitCode);
        Assert.Contains("has no message 'order-3'", nobody.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Creating_a_queue_again_is_fine_unless_its_attributes_differ()
    {
        using TestBroker broker = new();
        Assert.Equal(0, broker.Run("queue", "create", "work", "--lease", "10s").ExitCode);
        Assert.Equal(0, broker.Run("queue", "create", "work", "--lease", "10s").ExitCode);
        Ran other = broker.Run("queue", "create", "work", "--lease", "20s");
        Assert.Equal(1, other.ExitCode);
        Assert.Contains("queue-exists", other.Error, StringComparison.Ordinal);
        Assert.Contains("lease is 10000 ms, not 20000 ms", other.Error, StringComparison.Ordinal);
        Assert.Equal(1, broker.Run("queue", "list", "--json").Json.GetArrayLength());
    }

    [Fact]
    public void Purge_and_delete_do_what_they_say()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work");
        broker.Run("publish", "work", "--body", "x", "--count", "5000");
        Assert.Equal(5000, broker.Run("queue", "purge", "work", "--json").Json.GetProperty("purged").GetInt32());
        Assert.Equal(0, broker.Queue("work").GetProperty("messages").GetInt32());
        Assert.Equal(0, broker.Run("queue", "delete", "work").ExitCode);
        Ran gone = broker.Run("queue", "show", "work");
        Assert.Equal(1, gone.ExitCode);
        Assert.Contains("unknown-queue", gone.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("unknown-queue", 1, "publish", "nowhere", "--body", "x")]
    [InlineData("unknown-queue", 1, "consume", "nowhere")]
    [InlineData("bad-name", 2, "queue", "create", "fastq.mine")]
    [InlineData("exactly one of", 2, "publish", "work")]
    [InlineData("'5 parsecs' is no duration", 2, "consume", "work", "--wait", "5 parsecs")]
    [InlineData("--credit is 1 to", 2, "consume", "work", "--credit", "0")]
    [InlineData("--max-deliveries is 0 to 60000", 2, "queue", "create", "work", "--max-deliveries", "60001")]
    [InlineData("--max-deliveries is 0 to 60000", 2, "queue", "create", "work", "--max-deliveries", "many")]
    [InlineData("'1s,2' is no back-off", 2, "queue", "create", "work", "--backoff", "1s,2")]
    [InlineData("'1s,0.5,5m' is no back-off", 2, "queue", "create", "work", "--backoff", "1s,0.5,5m")]
    [InlineData("'5m,2,1s' is no back-off", 2, "queue", "create", "work", "--backoff", "5m,2,1s")]
    [InlineData("dead-letter must be the name of a queue", 2, "queue", "create", "work", "--dead-letter", "fastq.mine")]
    [InlineData("'5XB' is no size", 2, "queue", "create", "work", "--max-bytes", "5XB")]
    [InlineData("--max-length is a number", 2, "queue", "create", "work", "--max-length", "many")]
    [InlineData("overflow drop-head needs a max-length", 2, "queue", "create", "work", "--overflow", "drop-head")]
    [InlineData("time to live is 1 to", 2, "publish", "work", "--body", "x", "--ttl", "0s")]
    [InlineData("--reason needs --settle reject", 2, "consume", "work", "--reason", "x")]
    public void Bad_input_gets_one_clear_line_and_its_exit_code(string said, int exitCode, params string[] arguments)
    {
        using TestBroker broker = new();
        Ran ran = broker.Run(arguments);
        Assert.Equal(exitCode, ran.ExitCode);
        Assert.Contains(said, ran.Error, StringComparison.Ordinal);
        Assert.Empty(ran.Output);
    }

    [Fact]
    public void A_delay_is_kept_over_a_kill_and_what_waits_is_shown_with_its_time()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "slow", "--delay", "1h");
        broker.Run("publish", "slow", "--body", "later", "--id", "later");
        broker.Run("publish", "slow", "--body", "soon", "--delay", "700ms");
        broker.Run("publish", "slow", "--body", "now", "--delay", "0s");
        broker.Run("publish", "slow", "--body", "then", "--at", "2100-01-01T00:00:00Z");
        broker.Kill();
        broker.Start();
        JsonElement queue = broker.Queue("slow");
        Assert.Equal((4, 3600.0), (queue.GetProperty("messages").GetInt32(), queue.GetProperty("delaySeconds").GetDouble()));
        Assert.Equal(["now", "soon"], broker.Run("consume", "slow", "--max", "2", "--wait", "20s").Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Order());
        Assert.Empty(broker.Run("consume", "slow", "--wait", "100ms").Output);
        Ran browsed = broker.Run("browse", "slow", "--json", "--state", "delayed");
        JsonElement[] waiting = [.. browsed.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonDocument.Parse(line).RootElement)];
        Assert.Equal(["later", "then"], waiting.Select(message => message.GetProperty("body").GetString()));
        Assert.InRange(waiting[0].GetProperty("due").GetDateTimeOffset(), DateTimeOffset.UtcNow.AddMinutes(55), DateTimeOffset.UtcNow.AddMinutes(61));
        Assert.InRange(waiting[1].GetProperty("due").GetDateTimeOffset().Year, 2099, 2100);
        Assert.Equal("2100-01-01T00:00:00Z", waiting[1].GetProperty("properties").GetProperty("deliverAt").GetString());
        Assert.Matches("^Message later of queue slow is delayed until 2.*; it was never delivered\\.$", broker.Run("why", "slow", "later").Output.Trim());
        Assert.Contains("not both", broker.Run("publish", "slow", "--body", "x", "--delay", "1s", "--at", "2100-01-01").Error, StringComparison.Ordinal);
        Assert.Contains("is no moment", broker.Run("publish", "slow", "--body", "x", "--at", "teatime").Error, StringComparison.Ordinal);
        Assert.Equal(2, broker.Run("queue", "purge", "slow", "--json").Json.GetProperty("purged").GetInt32());
    }

    [Fact]
    public void A_rejected_message_is_found_among_the_dead_letters_with_its_story()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work");
        broker.Run("publish", "work", "--body", "hello", "--id", "order-1", "--type", "t", "--header", "k=v");
        Assert.DoesNotContain("deaths", broker.Run("consume", "work", "--settle", "reject", "--reason", "no such\ncustomer.", "--format", "json").Output, StringComparison.Ordinal);
        Await(broker, "work.dead", queue => queue.GetProperty("ready").GetInt32() == 1);
        JsonElement work = broker.Queue("work");
        Assert.Equal([0, 1, 1, 0, 0], ((string[])["messages", "rejected", "deadLettered", "deadLettering", "discarded"]).Select(name => work.GetProperty(name).GetInt32()));
        Assert.Equal("work.dead", work.GetProperty("deadLetter").GetString());

        JsonElement browsed = broker.Run("browse", "work.dead", "--json").Json, consumed = broker.Run("consume", "work.dead", "--format", "json", "--settle", "none").Json;
        foreach (JsonElement message in (JsonElement[])[browsed, consumed])
        {
            JsonElement death = Assert.Single(message.GetProperty("deaths").EnumerateArray());
            Assert.Equal(["work", "rejected", "no such\ncustomer.", null], ((string[])["queue", "reason", "text", "details"]).Select(name => death.GetProperty(name).GetString()));
            Assert.Equal([1, 1, 1], ((string[])["tag", "deliveries", "count"]).Select(name => death.GetProperty(name).GetInt32()));
            Assert.Equal(death.GetProperty("first").GetDateTimeOffset(), death.GetProperty("last").GetDateTimeOffset());
            Assert.Equal(["messageId", "type"], message.GetProperty("properties").EnumerateObject().Select(property => property.Name).Order());
            Assert.Equal("v", message.GetProperty("headers").GetProperty("k").GetString());
        }

        Assert.Matches("It died in queue work at 2.*Z: a consumer rejected it, and said: no such customer\\.$", broker.Run("why", "work.dead", "order-1").Output.Trim());
    }

    [Fact]
    public void A_queue_says_how_often_and_how_soon_it_delivers_again_and_where_its_dead_go()
    {
        using TestBroker broker = new();
        string[] create = ["queue", "create", "work", "--max-deliveries", "2", "--backoff", "1h,2.5,3h", "--dead-letter", "morgue", "--ttl", "2h", "--json"];
        JsonElement queue = broker.Run(create).Json;
        Assert.Equal((2, 7200.0, "morgue"), (queue.GetProperty("maxDeliveries").GetInt32(), queue.GetProperty("ttlSeconds").GetDouble(), queue.GetProperty("deadLetter").GetString()));
        Assert.Equal([3600, 2.5, 10800], ((string[])["firstSeconds", "factor", "mostSeconds"]).Select(name => queue.GetProperty("backoff").GetProperty(name).GetDouble()));
        Assert.Equal(0, broker.Run(create).ExitCode);
        Ran other = broker.Run("queue", "create", "work", "--max-deliveries", "3", "--backoff", "1h,2.5,3h", "--dead-letter", "morgue", "--ttl", "2h");
        Assert.Equal(1, other.ExitCode);
        Assert.Contains("queue-exists", other.Error, StringComparison.Ordinal);
        Assert.Matches("deliveries is 2, not 3", other.Error);

        string shown = broker.Run("queue", "show", "work").Output;
        foreach (string word in (string[])["3600 s, times 2.5, up to 10800 s", "7200 s", "morgue", "exhausted", "expired", "dead-lettered", "discarded", "dead-lettering"])
        {
            Assert.Contains(word, shown, StringComparison.Ordinal);
        }

        Assert.All(shown.Split('\n'), line => Assert.InRange(line.Length, 0, 80));
        JsonElement plain = broker.Run("queue", "create", "plain", "--json").Json;
        Assert.Equal((JsonValueKind.Null, 20, 0.0, "plain.dead"), (plain.GetProperty("backoff").ValueKind, plain.GetProperty("maxDeliveries").GetInt32(), plain.GetProperty("ttlSeconds").GetDouble(), plain.GetProperty("deadLetter").GetString()));

        broker.Run("publish", "work", "--body", "x");
        broker.Run("consume", "work", "--settle", "release", "--max", "1");
        JsonElement waiting = broker.Run("browse", "work", "--json", "--state", "delayed").Json;
        Assert.Equal(1, waiting.GetProperty("deliveries").GetInt32());
        Assert.InRange(waiting.GetProperty("due").GetDateTimeOffset(), DateTimeOffset.UtcNow.AddMinutes(45), DateTimeOffset.UtcNow.AddMinutes(61));
    }

    [Fact]
    public void A_full_queue_says_which_limit_it_has_reached_or_lets_the_oldest_go()
    {
        using TestBroker broker = new();
        JsonElement strict = broker.Run("queue", "create", "strict", "--max-bytes", "1KiB", "--max-message-size", "2MiB", "--json").Json;
        Assert.Equal((0, 1024, "reject", 2 << 20), (strict.GetProperty("maxLength").GetInt32(), strict.GetProperty("maxBytes").GetInt32(), strict.GetProperty("overflow").GetString(), strict.GetProperty("maxMessageSize").GetInt32()));
        broker.Run("queue", "create", "latest", "--max-length", "2", "--overflow", "drop-head");
        Assert.Equal(0, broker.Run("publish", "strict", "--body", new string('x', 1000)).ExitCode);
        Ran refused = broker.Run("publish", "strict", "--body", new string('x', 100));
        Assert.Equal(1, refused.ExitCode);
        Assert.Matches("limit-reached.*1024.*max-bytes", refused.Error);
        Assert.Equal(0, broker.Run("publish", "latest", "--body", "x", "--count", "5").ExitCode);
        JsonElement latest = broker.Run("queue", "show", "latest", "--json").Json;
        Assert.Equal((2, 3, 3), (latest.GetProperty("ready").GetInt32(), latest.GetProperty("overflowed").GetInt32(), latest.GetProperty("discarded").GetInt32()));
        Assert.Contains("drop-head", broker.Run("queue", "show", "latest").Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_queue_is_changed_and_paused_while_it_runs_and_says_so()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work", "--ttl", "1h");
        JsonElement changed = broker.Run("queue", "set", "work", "--max-deliveries", "7", "--max-length", "1", "--json").Json;
        Assert.Equal((3600.0, 7, 1), (changed.GetProperty("ttlSeconds").GetDouble(), changed.GetProperty("maxDeliveries").GetInt32(), changed.GetProperty("maxLength").GetInt32()));
        Assert.Contains("dead-letter", broker.Run("queue", "set", "work", "--dead-letter", "work").Error, StringComparison.Ordinal);
        Assert.Equal(1, broker.Run("queue", "set", "nowhere", "--ttl", "1s").ExitCode);
        broker.Run("publish", "work", "--body", "x", "--id", "m-1");

        Assert.Equal(["out"], broker.Run("queue", "pause", "work", "--json").Json.GetProperty("paused").EnumerateArray().Select(way => way.GetString()));
        Assert.Equal(["in", "out"], broker.Run("queue", "pause", "work", "--in", "--json").Json.GetProperty("paused").EnumerateArray().Select(way => way.GetString()));
        broker.Kill();
        broker.Start();
        Assert.Contains("in and out", broker.Run("queue", "show", "work").Output, StringComparison.Ordinal);
        Assert.Contains("the queue is paused", broker.Run("why", "work", "m-1").Output, StringComparison.Ordinal);
        Ran refused = broker.Run("publish", "work", "--body", "y");
        Assert.Equal(1, refused.ExitCode);
        Assert.Contains("paused: ", refused.Error, StringComparison.Ordinal);
        Assert.Equal("", broker.Run("consume", "work", "--wait", "50ms").Output);
        broker.Run("queue", "resume", "work", "--out");
        Assert.Equal("x\n", broker.Run("consume", "work", "--max", "1").Output);
        Assert.Empty(broker.Run("queue", "resume", "work", "--json").Json.GetProperty("paused").EnumerateArray());
        Assert.Equal(0, broker.Run("publish", "work", "--body", "y").ExitCode);
    }

    [Fact]
    public void Dead_letters_are_redriven_over_a_kill_of_the_broker_and_none_is_lost_or_doubled()
    {
        const int Count = 3000;
        using TestBroker broker = new();
        broker.Run("queue", "create", "work");
        broker.Run("publish", "work", "--body", "x", "--count", $"{Count}");
        broker.Run("consume", "work", "--settle", "reject", "--reason", "not today");
        Await(broker, "work.dead", queue => queue.GetProperty("ready").GetInt32() == Count);
        Assert.Contains($"{Count} would be moved", broker.Run("redrive", "work.dead", "--dry-run", "--filter", "words~today").Output, StringComparison.Ordinal);
        Assert.Equal("running", broker.Run("redrive", "work.dead", "--rate", "2000", "--detach", "--json").Json.GetProperty("state").GetString());
        Await(broker, "work", queue => queue.GetProperty("ready").GetInt32() > 100);
        broker.Kill();
        broker.Start();
        Await(broker, "work.dead", queue => queue.GetProperty("ready").GetInt32() == 0);
        JsonElement done = broker.Run("redrive", "work.dead", "--status", "--json").Json;
        Assert.Equal(("finished", Count), (done.GetProperty("state").GetString(), done.GetProperty("done").GetInt32()));
        Assert.Equal(Count, broker.Run("queue", "show", "work", "--json").Json.GetProperty("ready").GetInt32());
        Assert.Equal(2, broker.Run("redrive", "work", "--filter", "colour=red").ExitCode);
        broker.Kill();
        Assert.Equal(0, Fastq.Run(null, "journal", "verify", broker.Data).ExitCode);
    }

    [Fact]
    public void A_message_of_the_same_deduplication_id_or_key_is_taken_once_over_a_kill_too()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work", "--dedup-window", "1h");
        Assert.Equal(0, broker.Run("publish", "work", "--body", "a", "--dedup-id", "17", "--json").Json.GetProperty("duplicates").GetInt32());
        broker.Run("publish", "work", "--body", "b", "--unique", "k");
        broker.Kill();
        broker.Start();
        JsonElement again = broker.Run("publish", "work", "--body", "a", "--dedup-id", "17", "--json").Json;
        Assert.Equal((1, 1, 0, 1), (again.GetProperty("sent").GetInt32(), again.GetProperty("confirmed").GetInt32(), again.GetProperty("refused").GetInt32(), again.GetProperty("duplicates").GetInt32()));
        Assert.Contains("1 were there already", broker.Run("publish", "work", "--body", "b", "--unique", "k").Error, StringComparison.Ordinal);
        Assert.Equal("a\nb\n", broker.Run("consume", "work").Output);
        Assert.Equal(1, broker.Run("publish", "work", "--body", "a", "--dedup-id", "17", "--json").Json.GetProperty("duplicates").GetInt32());
        Assert.Equal(0, broker.Run("publish", "work", "--body", "b", "--unique", "k", "--json").Json.GetProperty("duplicates").GetInt32());
        Assert.Equal(3600, broker.Run("queue", "show", "work", "--json").Json.GetProperty("dedupWindowSeconds").GetInt32());
    }

    [Fact]
    public void A_message_is_moved_changed_and_deleted_by_its_id()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work", "--priority");
        broker.Run("queue", "create", "slow");
        foreach (string id in (string[])["a", "b", "c", "d"])
        {
            broker.Run("publish", "work", "--body", id, "--id", id, "--type", "t");
        }

        Assert.Equal(0, broker.Run("message", "move", "work", "a", "--to", "slow").ExitCode);
        Assert.Equal(1, broker.Run("message", "move", "work", "a", "--to", "slow").ExitCode);
        Assert.Equal(0, broker.Run("message", "change", "work", "c", "--priority", "5").ExitCode);
        Assert.Equal(0, broker.Run("message", "change", "work", "d", "--delay", "1h").ExitCode);
        Assert.Equal("c\n", broker.Run("consume", "work", "--max", "1").Output);
        Assert.Contains("2 would be deleted", broker.Run("message", "delete", "work", "--filter", "type=t", "--dry-run").Output, StringComparison.Ordinal);
        Assert.Equal(0, broker.Run("message", "delete", "work", "b").ExitCode);
        Assert.Contains("1 deleted", broker.Run("message", "delete", "work", "--filter", "state=delayed").Output, StringComparison.Ordinal);
        Assert.Equal(0, broker.Run("queue", "show", "work", "--json").Json.GetProperty("messages").GetInt32());
        Assert.Equal("a\n", broker.Run("consume", "slow").Output);
        Assert.Equal(2, broker.Run("message", "delete", "work").ExitCode);
    }

    [Fact]
    public void A_queue_delivers_by_priority_tenant_and_group_and_says_who_waits_for_whom()
    {
        using TestBroker broker = new();
        Assert.Contains("needs priority", broker.Run("queue", "create", "work", "--priority-share", "10").Error, StringComparison.Ordinal);
        JsonElement made = broker.Run("queue", "create", "work", "--priority", "--fifo", "--fair", "--fair-weights", "gold=2", "--json").Json;
        Assert.Equal((true, true, "gold=2"), (made.GetProperty("priority").GetBoolean(), made.GetProperty("fifo").GetBoolean(), made.GetProperty("fairWeights").GetString()));
        foreach ((string body, string priority, string group) in ((string, string, string)[])[("a1", "0", "a"), ("a2", "0", "a"), ("b", "7", "b")])
        {
            broker.Run("publish", "work", "--body", body, "--id", body, "--priority", priority, "--group", group, "--tenant", "gold");
        }

        Assert.Contains("--priority is 0 to 255", broker.Run("publish", "work", "--body", "x", "--priority", "256").Error, StringComparison.Ordinal);
        broker.Kill();
        broker.Start();
        Assert.Contains("another of its group comes first", broker.Run("why", "work", "a2").Output, StringComparison.Ordinal);
        Assert.Equal("b\na1\na2\n", broker.Run("consume", "work", "--exclusive").Output);
        JsonElement off = broker.Run("queue", "set", "work", "--fifo", "false", "--single-active", "--json").Json;
        Assert.Equal((true, false, true), (off.GetProperty("priority").GetBoolean(), off.GetProperty("fifo").GetBoolean(), off.GetProperty("singleActive").GetBoolean()));
        Assert.Contains("one at a time", broker.Run("queue", "show", "work").Output, StringComparison.Ordinal);
    }

    [Fact]
    public void What_was_delivered_too_often_or_lived_too_long_goes_where_its_queue_says_or_nowhere()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work", "--max-deliveries", "2");
        broker.Run("publish", "work", "--body", "often", "--id", "often");
        broker.Run("publish", "work", "--body", "old", "--ttl", "1ms");
        Await(broker, "work.dead", queue => queue.GetProperty("ready").GetInt32() == 1);
        for (int delivery = 1; delivery <= 2; delivery++)
        {
            broker.Run("consume", "work", "--settle", "release", "--max", "1");
        }

        Await(broker, "work.dead", queue => queue.GetProperty("ready").GetInt32() == 2);
        JsonElement[] dead = [.. broker.Run("browse", "work.dead", "--json", "--state", "ready").Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonDocument.Parse(line).RootElement)];
        Assert.Equal([("old", "expired", 0), ("often", "max-deliveries", 2)], dead.Select(message => (message.GetProperty("body").GetString()!, message.GetProperty("deaths")[0].GetProperty("reason").GetString()!, message.GetProperty("deaths")[0].GetProperty("deliveries").GetInt32())));
        Assert.DoesNotContain("ttl", dead[0].GetProperty("properties").EnumerateObject().Select(property => property.Name));
        Assert.Contains("it was delivered as often as its queue allows, and not accepted.", broker.Run("why", "work.dead", "often").Output, StringComparison.Ordinal);
        Assert.Empty(broker.Run("browse", "work", "--json", "--state", "dead-lettering").Output);

        broker.Run("queue", "create", "gone", "--dead-letter", "", "--ttl", "1ms");
        broker.Run("publish", "gone", "--body", "x");
        JsonElement gone = Await(broker, "gone", queue => queue.GetProperty("messages").GetInt32() == 0);
        Assert.Equal([1, 0, 1], ((string[])["expired", "deadLettered", "discarded"]).Select(name => gone.GetProperty(name).GetInt32()));
        Assert.Equal(["gone", "work", "work.dead"], broker.Run("queue", "list", "--json").Json.EnumerateArray().Select(queue => queue.GetProperty("name").GetString()).Order());
    }

    /// <summary>Asks until a queue is there and as wanted.</summary>
    private static JsonElement Await(TestBroker broker, string queue, Func<JsonElement, bool> isAsWanted)
    {
        for (Stopwatch waited = Stopwatch.StartNew(); ;)
        {
            Ran shown = broker.Run("queue", "show", queue, "--json");
            if (shown.ExitCode == 0 && isAsWanted(shown.Json))
            {
                return shown.Json;
            }

            Assert.True(waited.Elapsed < TimeSpan.FromSeconds(30), $"Waited in vain: {shown}");
        }
    }

    [Fact]
    public void A_broker_that_is_away_is_said_after_the_patience()
    {
        Ran ran = Fastq.Run(null, "stats", "--socket", "/tmp/no-such-fastq/s", "--patience", "50ms");
        Assert.Equal(1, ran.ExitCode);
        Assert.Contains("disconnected", ran.Error, StringComparison.Ordinal);
        Assert.Contains("ENOENT", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void A_consumer_that_is_terminated_settles_what_it_printed()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work");
        broker.Run("publish", "work", "--body", "x", "--count", "10");
        using Process consumer = Fastq.Start("consume", "work", "--follow", "--socket", broker.Socket);
        for (int i = 0; i < 10; i++)
        {
            Assert.Equal("x", consumer.StandardOutput.ReadLine());
        }

        using Process kill = Process.Start("kill", ["-TERM", $"{consumer.Id}"]);
        kill.WaitForExit();
        Assert.True(consumer.WaitForExit(10_000));
        Assert.Equal(0, consumer.ExitCode);
        Assert.Equal(0, broker.Queue("work").GetProperty("messages").GetInt32());
    }

    [Fact]
    public void Statistics_name_what_scripts_read()
    {
        using TestBroker broker = new();
        JsonElement stats = broker.Run("stats", "--json").Json;
        foreach (string name in (ReadOnlySpan<string>)["pid", "uptimeSeconds", "residentBytes", "sessions", "queues", "messages", "journal", "recovery"])
        {
            Assert.True(stats.TryGetProperty(name, out _), name);
        }

        foreach (string name in (ReadOnlySpan<string>)["writtenBlock", "durableBlock", "syncs", "bytesWritten", "liveBytes", "slots", "slotBytes", "storage"])
        {
            Assert.True(stats.GetProperty("journal").TryGetProperty(name, out _), name);
        }

        Assert.Equal("first-start", stats.GetProperty("recovery").GetProperty("verdict").GetString());
        Assert.InRange(stats.GetProperty("residentBytes").GetInt64(), 1, 30L << 20);
    }

    [Fact]
    public void Help_teaches_with_examples()
    {
        Assert.Contains("Examples:", Fastq.Run(null, "publish", "--help").Output, StringComparison.Ordinal);
        Assert.Contains("fastq serve", Fastq.Run(null, "--help").Output, StringComparison.Ordinal);
    }

    [Fact]
    public void The_demo_loses_nothing()
    {
        string file = Path.GetTempFileName();
        File.WriteAllLines(file, Enumerable.Range(0, 50_000).Select(i => $"line {i}"));
        Ran ran = Fastq.Run(null, "demo", "--file", file, "--json");
        File.Delete(file);
        Assert.Equal(0, ran.ExitCode);
        Assert.Equal(50_000, ran.Json.GetProperty("delivered").GetInt32());
        Assert.Equal(0, ran.Json.GetProperty("lost").GetInt32());
        Assert.Equal(0, ran.Json.GetProperty("wrong").GetInt32());
    }

    [Theory]
    [InlineData("throughput", "durable", "auto")]
    [InlineData("throughput", "written", "io_uring")]
    [InlineData("latency", "written", "auto")]
    [InlineData("backlog", "written", "thread")]
    public void A_benchmark_checks_every_message(string scenario, string confirm, string storage)
    {
        Ran ran = Fastq.Run(null, "bench", "--scenario", scenario, "--confirm", confirm, "--storage", storage, "--count", "20000", "--json");
        Assert.True(ran.ExitCode == 0, ran.Error);
        Assert.True(ran.Json.GetProperty("verified").GetBoolean());
        Assert.True(ran.Json.GetProperty("messagesPerSecond").GetDouble() > 0);
        Assert.True(ran.Json.GetProperty("latencyMicroseconds").GetProperty("p50").GetDouble() > 0);
    }

    [Theory]
    [InlineData("work-queue", "20000", "latencyMicroseconds")]
    [InlineData("fifo", "300000", "latencyMicroseconds")] // Three of each group.
    [InlineData("priority", "20000", "indexBytesPerQueuedMessage")]
    [InlineData("delayed", "20000", "drainMessagesPerSecond")]
    [InlineData("dead-letter", "20000", "deadLetters")]
    [InlineData("fair", "20000", "publishMessagesPerSecond")]
    [InlineData("dedup", "20000", "duplicates")]
    [InlineData("fan-out", "5000", "journalBytesPerMessage")]
    [InlineData("transactions", "20003", "latencyMicroseconds")]
    public void A_benchmark_of_a_kind_of_queue_checks_what_that_queue_promises(string scenario, string count, string figure)
    {
        Ran ran = Fastq.Run(null, "bench", "--scenario", scenario, "--count", count, "--json");
        Assert.True(ran.ExitCode == 0, ran.Error);
        Assert.Equal(scenario, ran.Json.GetProperty("scenario").GetString());
        Assert.True(ran.Json.GetProperty("verified").GetBoolean());
        Assert.True(ran.Json.GetProperty("messagesPerSecond").GetDouble() > 0);
        Assert.True(ran.Json.GetProperty("fullResidentBytes").GetInt64() > 0);
        Assert.True(ran.Json.TryGetProperty(figure, out _));
    }

    [Fact]
    public void All_benchmarks_of_kinds_of_queues_run_against_a_broker_with_several_producers_and_consumers_and_leave_no_queue()
    {
        using TestBroker broker = new();
        Ran ran = broker.Run("bench", "--scenario", "all", "--count", "5000", "--producers", "2", "--consumers", "2", "--json");
        Assert.True(ran.ExitCode == 0, ran.Error);
        string[] lines = ran.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(["work-queue", "fifo", "many-groups", "priority", "delayed", "dead-letter", "fair", "dedup", "fan-out", "transactions"], lines.Select(line => JsonDocument.Parse(line).RootElement.GetProperty("scenario").GetString()));
        Assert.Equal(0, JsonDocument.Parse(broker.Run("stats", "--json").Output).RootElement.GetProperty("queues").GetInt32());
    }

    [Fact]
    public void A_benchmark_of_a_kind_of_queue_refuses_a_queue_that_is_there_and_bodies_without_room_for_a_mark()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "mine");
        Ran there = broker.Run("bench", "--scenario", "fifo", "--queue", "mine");
        Assert.Equal(1, there.ExitCode);
        Assert.Contains("'mine' is there", there.Error, StringComparison.Ordinal);
        Ran small = broker.Run("bench", "--scenario", "fifo", "--size", "15");
        Assert.Equal(2, small.ExitCode);
        Assert.Contains("--size is at least 16", small.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_benchmark_that_misses_a_message_says_so_and_ends_with_1()
    {
        using TestBroker broker = new();
        using Process bench = Fastq.Start("bench", "--scenario", "delayed", "--count", "100000", "--socket", broker.Socket, "--json");
        Task<string> output = bench.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        using (Session thief = Session.Connect(new SessionOptions { Path = broker.Socket }, TestContext.Current.CancellationToken))
        {
            Assert.True(SpinWait.SpinUntil(() => thief.ListQueues().Count > 0, TimeSpan.FromSeconds(20))); // Its messages are due two seconds later.
            Subscription subscription = thief.Subscribe("bench-delayed", new SubscribeOptions { Credit = 1 });
            Assert.True(subscription.Receive(TimeSpan.FromSeconds(20), out Delivery stolen));
            subscription.Accept(stolen, ConfirmLevel.Written);
            thief.Flush(ConfirmLevel.Written);
        }

        string error = await bench.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await bench.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(1, bench.ExitCode);
        Assert.Contains("99999 of 100000 came", error, StringComparison.Ordinal);
        Assert.False(JsonDocument.Parse(await output).RootElement.GetProperty("verified").GetBoolean());
    }

    [Fact]
    public void Messages_go_through_exchanges_over_a_kill_and_tell_by_which_they_came()
    {
        using TestBroker broker = new();
        broker.Run("exchange", "create", "events", "--type", "topic", "--alternate", "rest");
        broker.Run("exchange", "create", "rest", "--type", "fanout");
        foreach (string queue in new[] { "audit", "mail", "left" })
        {
            broker.Run("queue", "create", queue);
        }

        Assert.Equal(0, broker.Run("bind", "events", "audit", "--key", "#").ExitCode);
        Assert.Equal(0, broker.Run("bind", "events", "mail", "--key", "order.*").ExitCode);
        Assert.Equal(0, broker.Run("publish", "--exchange", "events", "--key", "order.created", "--body", "one").ExitCode);
        broker.Kill();
        broker.Start();
        Assert.Equal(0, broker.Run("publish", "--exchange", "events", "--key", "user.created", "--body", "two").ExitCode);
        JsonElement shown = broker.Run("exchange", "show", "events", "--json").Json;
        Assert.Equal(("topic", "rest", 2), (shown.GetProperty("type").GetString(), shown.GetProperty("alternate").GetString(), shown.GetProperty("to").GetArrayLength()));
        JsonElement browsed = JsonDocument.Parse(broker.Run("browse", "mail", "--json").Output.Split('\n')[0]).RootElement;
        Assert.Equal(("events", "order.created"), (browsed.GetProperty("properties").GetProperty("exchange").GetString(), browsed.GetProperty("properties").GetProperty("routingKey").GetString()));
        Assert.Contains("(sent to exchange events with key 'order.created') is ready", broker.Run("why", "mail", "1").Output, StringComparison.Ordinal);
        Assert.Equal("one\ntwo\n", broker.Run("consume", "audit").Output);
        Assert.Equal("one\n", broker.Run("consume", "mail").Output);
        broker.Run("unbind", "events", "audit", "--key", "#");
        Ran nobody = broker.Run("publish", "--exchange", "events", "--key", "user.created", "--body", "three");
        Assert.Equal(1, nobody.ExitCode);
        Assert.Contains("unroutable", nobody.Error, StringComparison.Ordinal);
        Assert.Equal(0, broker.Run("publish", "--exchange", "events", "--key", "user.created", "--body", "three", "--optional").ExitCode);
        broker.Run("bind", "rest", "left");
        Assert.Equal(0, broker.Run("publish", "--exchange", "events", "--key", "user.created", "--body", "four", "--mandatory").ExitCode);
        Assert.Equal("four\n", broker.Run("consume", "left").Output);
        Assert.Equal(1, broker.Run("exchange", "list", "--json").Json[0].GetProperty("discarded").GetInt32());
        Assert.Equal(2, broker.Run("publish", "left", "--exchange", "events", "--body", "x").ExitCode);
        Assert.Equal(2, broker.Run("bind", "events").ExitCode);
        Assert.Equal(0, broker.Run("exchange", "delete", "events").ExitCode);
        Assert.Equal(1, broker.Run("exchange", "show", "events").ExitCode);
        broker.Kill();
        Assert.Equal(0, Fastq.Run(null, "journal", "verify", broker.Data).ExitCode);
    }

    [Fact]
    public void All_lines_of_a_transaction_are_published_or_none_is_and_the_line_that_was_refused_is_named()
    {
        using TestBroker broker = new();
        Assert.Equal(0, broker.Run("queue", "create", "work", "--max-length", "5").ExitCode);
        Ran whole = Fastq.Run("a\nb\nc\n", "publish", "work", "-", "--transaction", "--json", "--socket", broker.Socket);
        Assert.Equal((0, 3, 3), (whole.ExitCode, whole.Json.GetProperty("sent").GetInt32(), whole.Json.GetProperty("confirmed").GetInt32()));
        broker.Kill();
        broker.Start();
        Ran none = Fastq.Run("d\ne\nf\n", "publish", "work", "-", "--transaction", "--socket", broker.Socket);
        Assert.Equal(1, none.ExitCode);
        Assert.Contains("limit-reached", none.Error, StringComparison.Ordinal);
        Assert.Contains("Operation 3 of the transaction: nothing of it has happened. The queue's max-length", none.Error, StringComparison.Ordinal);
        Assert.Contains("3 sent, 0 confirmed", none.Error, StringComparison.Ordinal);
        Assert.Equal(0, Fastq.Run("g\nh\n", "publish", "work", "-", "--transaction", "--socket", broker.Socket).ExitCode);
        Assert.Equal(5, broker.Run("queue", "show", "work", "--json").Json.GetProperty("ready").GetInt32());
    }

    [Fact]
    public async Task What_was_processed_is_remembered_with_its_result_over_a_kill()
    {
        using TestBroker broker = new();
        Assert.Equal(0, broker.Run("queue", "create", "work", "--processed-window", "7d").ExitCode);
        Assert.Equal(7 * 24 * 3600, broker.Queue("work").GetProperty("processedWindowSeconds").GetInt32());
        Assert.Equal(0, broker.Run("publish", "work", "--body", "hello", "--id", "order-17").ExitCode);
        Assert.Equal((1, "not processed\n"), (broker.Run("message", "processed", "work", "order-17").ExitCode, broker.Run("message", "processed", "work", "order-17").Output));
        await using (Connection connection = await Connection.ConnectAsync(new SessionOptions { Path = broker.Socket }, cancellation: TestContext.Current.CancellationToken))
        await using (Subscriber subscriber = await connection.SubscribeAsync("work", cancellation: TestContext.Current.CancellationToken))
        {
            Message message = (await subscriber.ReceiveAsync(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken))!;
            await message.AcceptProcessedAsync("paid"u8.ToArray(), cancellation: TestContext.Current.CancellationToken);
            broker.Kill();
        }

        broker.Start();
        Ran found = broker.Run("message", "processed", "work", "order-17");
        Assert.Equal((0, "processed paid\n"), (found.ExitCode, found.Output));
        Assert.Equal(0, broker.Queue("work").GetProperty("messages").GetInt32());
    }

    [Fact]
    public void A_request_gets_the_reply_of_a_command_or_says_why_not()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "upper");
        Ran nobody = broker.Run("request", "upper", "--body", "hello");
        Assert.Equal((1, ""), (nobody.ExitCode, nobody.Output));
        Assert.Contains("no-responder", nobody.Error, StringComparison.Ordinal);
        using Process responder = Fastq.Start("reply", "upper", "--exec", "read line; test \"$line\" = fail && echo it is broken >&2 && exit 3; printf %s \"$line\" | tr a-z A-Z", "--max", "4", "--parallel", "2", "--socket", broker.Socket);
        Ran first = broker.Run("request", "upper", "--body", "hello", "--wait");
        Assert.Equal((0, "HELLO\n", ""), (first.ExitCode, first.Output, first.Error));
        Ran second = broker.RunWith("from a pipe", "request", "upper", "-", "--json");
        Assert.Equal((0, "FROM A PIPE"), (second.ExitCode, second.Json.GetProperty("body").GetString()));
        Ran failed = broker.Run("request", "upper", "--body", "fail");
        Assert.Equal((1, "", "fastq: exit-3: it is broken\n"), (failed.ExitCode, failed.Output, failed.Error));
        broker.Run("publish", "upper", "--body", "nobody waits");
        Assert.True(responder.WaitForExit(20_000));
        Assert.Equal(0, responder.ExitCode);
        Assert.Equal("4 answered, 2 of them with an error\n", responder.StandardError.ReadToEnd());
        Assert.Equal(1, broker.Queue("upper.dead").GetProperty("ready").GetInt32());
        Ran late = broker.Run("request", "upper", "--body", "x", "--wait", "--timeout", "100ms");
        Assert.Equal(1, late.ExitCode);
        Assert.Contains("timed-out", late.Error, StringComparison.Ordinal);
        Assert.Equal(2, broker.Run("request", "upper").ExitCode);
    }

    [Fact]
    public void A_benchmark_of_request_and_reply_checks_each_reply()
    {
        Ran ran = Fastq.Run(null, "bench", "--scenario", "request-reply", "--count", "20000", "--json");
        Assert.True(ran.ExitCode == 0, ran.Error);
        Assert.True(ran.Json.GetProperty("verified").GetBoolean());
        Assert.True(ran.Json.GetProperty("messagesPerSecond").GetDouble() > 0);
        Assert.True(ran.Json.GetProperty("latencyMicroseconds").GetProperty("p50").GetDouble() > 0);
    }

    [Fact]
    public void What_is_exported_makes_the_same_queues_elsewhere_and_applying_it_again_changes_nothing()
    {
        using TestBroker one = new(), two = new();
        one.Run("limit", "create", "api", "--rate", "100/m", "--burst", "10");
        one.Run("queue", "create", "plain", "--limit", "api");
        one.Run("queue", "create", "routed", "--dead-letter-exchange", "dead");
        one.Run("exchange", "create", "events", "--type", "topic", "--alternate", "rest");
        one.Run("exchange", "create", "rest", "--type", "headers");
        one.Run("bind", "events", "plain", "--key", "order.#");
        one.Run("bind", "events", "--to-exchange", "rest", "--key", "*.eu");
        one.Run("bind", "rest", "plain", "--header", "region=eu", "--header", "urgent:bool=true", "--match", "any");
        one.Run("schedule", "create", "nightly", "--queue", "plain", "--cron", "0 3 * * 1-5", "--zone", "Europe/Berlin", "--missed", "none", "--body", "tidy\nup", "--type", "t", "--content-type", "text/plain");
        one.Run("schedule", "create", "beat", "--queue", "plain", "--every", "90m", "--until", "2100-01-31T08:00:00.5Z", "--count", "9", "--body", "beat");
        one.Run("queue", "create", "full", "--lease", "90s", "--delay", "250ms", "--ttl", "1d", "--max-deliveries", "5", "--backoff", "1s,1.5,5m", "--dead-letter", "plain", "--max-length", "1000", "--max-bytes", "1MiB", "--overflow", "dead-letter", "--max-message-size", "64KiB", "--require", "type,key", "--lz4", "4KiB", "--priority", "--priority-share", "10", "--fifo", "--fair", "--fair-weights", "gold=4,silver=2", "--dedup-window", "2h", "--dedup-by-group", "--single-active", "--processed-window", "3h", "--expires", "2d", "--max-in-flight", "9", "--rate", "600/m", "--burst", "20", "--group-in-flight", "2", "--group-rate", "4/m", "--group-burst", "5", "--delay-holds-group", "--tenant-in-flight", "3", "--tenant-rate", "5/s", "--tenant-burst", "6", "--breaker", "50%/100", "--breaker-pause", "30s", "--publish-rate", "7/h", "--publish-burst", "8");
        string file = Path.Combine(one.Directory, "queues.json");
        Assert.Equal(0, one.Run("export", "-o", file).ExitCode);
        Assert.Equal(File.ReadAllText(file), one.Run("export").Output);
        Ran dry = two.Run("apply", "-f", file, "--dry-run");
        Assert.Equal((0, "11 to create, 0 to change, 0 as they are, 0 left alone\n"), (dry.ExitCode, dry.Error));
        Assert.Equal(0, two.Run("stats", "--json").Json.GetProperty("queues").GetInt32());
        Ran done = two.Run("apply", "-f", file, "--yes", "--json");
        Assert.Equal((0, true), (done.ExitCode, done.Json.GetProperty("applied").GetBoolean()));
        Assert.Equal(File.ReadAllText(file), two.Run("export").Output);
        Ran again = two.Run("apply", "-f", file, "--yes");
        Assert.Equal((0, "", "0 to create, 0 to change, 11 as they are, 0 left alone\n"), (again.ExitCode, again.Output, again.Error));
    }

    [Fact]
    public void Apply_shows_what_changes_leaves_alone_what_is_not_named_and_does_nothing_where_anything_is_wrong()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work", "--lease", "60s", "--max-length", "10");
        broker.Run("queue", "create", "other");
        Ran applied = broker.RunWith("""{ "fastq": 1, "queues": [ { "name": "new", "fifo": true, "backoff": "" }, { "name": "work", "lease": "1m", "max-length": 20, "backoff": "1s,2,5m" } ] }""", "apply", "-f", "-", "--yes");
        Assert.Equal(
            (0, "+ queue new: fifo true, backoff ''\n~ queue work: max-length 10 -> 20\n~ queue work: backoff '' -> 1s,2,5m\n  queue other: is there and not in the file; it is left alone\n", "1 to create, 1 to change, 0 as they are, 1 left alone\n"),
            (applied.ExitCode, applied.Output, applied.Error));
        Assert.Equal((20, 60.0), (broker.Queue("work").GetProperty("maxLength").GetInt32(), broker.Queue("work").GetProperty("leaseSeconds").GetDouble()));
        const string More = """
            { "fastq": 1, "schedules": [ { "name": "beat", "queue": "work", "every": "EVERY", "body": "b" } ], "bindings": [ { "exchange": "events", "queue": "work", "key": "order.#" } ],
              "exchanges": [ { "name": "events", "type": "topic" } ], "queues": [ { "name": "work", "limit": "api" } ], "limits": [ { "name": "api", "rate": "RATE" } ] }
            """;
        Ran made = broker.RunWith(More.Replace("EVERY", "1h", StringComparison.Ordinal).Replace("RATE", "100/m", StringComparison.Ordinal), "apply", "-f", "-", "--yes");
        Assert.Equal(
            (0, "+ limit api: rate 100/m\n+ exchange events: type topic\n+ binding events -> work, key order.#\n+ schedule beat: queue work, every 1h, body b\n~ queue work: limit '' -> api\n  queue new: is there and not in the file; it is left alone\n  queue other: is there and not in the file; it is left alone\n", "4 to create, 1 to change, 0 as they are, 2 left alone\n"),
            (made.ExitCode, made.Output, made.Error));
        broker.Run("bind", "events", "other", "--key", "log.#");
        broker.Run("schedule", "create", "third", "--queue", "other", "--every", "1h", "--body", "b");
        Ran changed = broker.RunWith(More.Replace("EVERY", "2h", StringComparison.Ordinal).Replace("RATE", "5/s", StringComparison.Ordinal), "apply", "-f", "-", "--yes");
        Assert.Equal(
            (0, "~ limit api: rate 100/m -> 5/s\n~ schedule beat: every 1h -> 2h\n  queue new: is there and not in the file; it is left alone\n  queue other: is there and not in the file; it is left alone\n  binding events -> other, key log.#: is there and not in the file; it is left alone\n  schedule third: is there and not in the file; it is left alone\n", "0 to create, 2 to change, 3 as they are, 4 left alone\n"),
            (changed.ExitCode, changed.Output, changed.Error));
        Assert.Equal(7200, broker.Run("schedule", "show", "beat", "--json").Json.GetProperty("everySeconds").GetInt32());
        foreach ((string wrong, string words) in ((string, string)[])
        [
            ("""{ "fastq": 1, "queues": [ { "name": "a" }, { "name": "b", "leese": "1m" } ] }""", "At queues[1] (b), leese: such an attribute is not known"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" }, { "name": "b", "lease": 5 } ] }""", "At queues[1] (b), lease: 5 is not a duration"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" }, { "name": "b", "priority": "yes" } ] }""", "\"yes\" is not true or false"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" }, { "name": "b", "dead-letter": "b" } ] }""", "At queues[1] (b)"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" }, { "name": "work", "priority-share": 60 } ] }""", "At queues[1] (work)"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" }, { "name": "a" } ] }""", "'a' stands in the file twice"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" }, { "name": "fastq.b" } ] }""", "At queues[1]: a queue is an object"),
            ("""{ "fastq": 2, "queues": [ { "name": "a" } ] }""", "the version must be 1"),
            ("""{ "fastq": 1, "queue": [ { "name": "a" } ] }""", "At queue: such a key is not known"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" """, "this is no JSON"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" }, { "name": "b", "rate": "10/d" } ] }""", "At queues[1] (b), rate: \"10/d\" is not a rate"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" }, { "name": "b", "burst": 10 } ] }""", "At queues[1] (b): "),
            ("""{ "fastq": 1, "queues": [ { "name": "a", "limit": "nowhere" } ] }""", "At queues[0] (a), limit: there is no limit nowhere"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" } ], "limits": [ { "name": "l" } ] }""", "At limits[0] (l): a limit needs a max-in-flight or a rate"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" } ], "limits": [ { "name": "l", "publish-rate": "1/s" } ] }""", "At limits[0] (l), publish-rate: such an attribute is not known"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" } ], "exchanges": [ { "name": "events", "type": "fanout" } ] }""", "At exchanges[0] (events): an exchange does not change: its type is topic, not fanout"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" } ], "bindings": [ { "exchange": "events", "queue": "nowhere" } ] }""", "At bindings[0], queue: there is no queue nowhere"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" } ], "bindings": [ { "exchange": "nowhere", "queue": "a" } ] }""", "At bindings[0], exchange: there is no exchange nowhere"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" } ], "bindings": [ { "exchange": "events" } ] }""", "At bindings[0]: a binding has an exchange, and a queue or a to-exchange"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" } ], "bindings": [ { "exchange": "events", "queue": "a", "headers": { "k": 1 } } ] }""", "At bindings[0], headers: only an exchange of type headers"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" } ], "bindings": [ { "exchange": "events", "queue": "a", "headers": { "k:int": "x" } } ] }""", "At bindings[0], headers: { \"k:int\": \"x\" } is not an object like"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" } ], "schedules": [ { "name": "s", "queue": "a", "cron": "tomorrow" } ] }""", "At schedules[0] (s), cron: 'tomorrow' is no cron expression"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" } ], "schedules": [ { "name": "s", "queue": "a", "every": "1s", "cron": "0 3 * * *" } ] }""", "At schedules[0] (s): a schedule has cron or every, not both"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" } ], "schedules": [ { "name": "s", "queue": "a", "every": "1ms" } ] }""", "At schedules[0] (s), every: an interval is"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" } ], "schedules": [ { "name": "s", "queue": "a", "every": "1s", "until": "2000-01-01T00:00:00Z" } ] }""", "At schedules[0] (s), until: this has passed"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" } ], "schedules": [ { "name": "s", "queue": "nowhere", "every": "1s" } ] }""", "At schedules[0] (s), queue: there is no queue nowhere"),
            ("""{ "fastq": 1, "queues": [ { "name": "a" } ], "queues": [ ] }""", "At queues: it stands in the file twice"),
        ])
        {
            Ran refused = broker.RunWith(wrong, "apply", "-f", "-", "--yes");
            Assert.True(refused.ExitCode == 2 && refused.Error.Contains(words, StringComparison.Ordinal), $"{refused.ExitCode} {refused.Error}");
        }

        Assert.Equal(2, broker.RunWith("{}", "apply", "-f", "-").ExitCode); // Nobody to ask.
        Assert.Equal(["new", "other", "work"], broker.Run("queue", "list", "--json").Json.EnumerateArray().Select(queue => queue.GetProperty("name").GetString()));
    }

    [Fact]
    public void A_message_that_waits_is_replaced_moved_and_cancelled_by_its_schedule_key_over_a_kill_too()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work");
        broker.Run("publish", "work", "--body", "a", "--delay", "1h", "--schedule-key", "k");
        broker.Run("publish", "work", "--body", "b", "--delay", "1h", "--schedule-key", "k", "--schedule-mode", "debounce", "--longest-wait", "2h");
        broker.Kill();
        broker.Start();
        Assert.Equal(1, broker.Run("publish", "work", "--body", "c", "--delay", "1h", "--schedule-key", "k", "--schedule-mode", "keep", "--json").Json.GetProperty("duplicates").GetInt32());
        Assert.Equal(1, broker.Run("queue", "show", "work", "--json").Json.GetProperty("delayed").GetInt32());
        Assert.Equal(0, broker.Run("schedule", "move", "work", "k", "--at", "2100-01-31T08:00:00Z").ExitCode);
        Assert.Equal(0, broker.Run("schedule", "move", "work", "k", "--delay", "0s").ExitCode);
        Assert.Equal("b\n", broker.Run("consume", "work").Output);
        Ran late = broker.Run("schedule", "cancel", "work", "k");
        Assert.Equal(1, late.ExitCode);
        Assert.Contains("too late", late.Error, StringComparison.Ordinal);
        broker.Run("publish", "work", "--body", "d", "--delay", "1h", "--schedule-key", "k");
        Assert.Equal(0, broker.Run("schedule", "cancel", "work", "k").ExitCode);
        Assert.Equal(0, broker.Run("queue", "show", "work", "--json").Json.GetProperty("messages").GetInt32());
        Assert.Equal(2, broker.Run("schedule", "move", "work", "k").ExitCode);
        Assert.Equal(2, broker.Run("publish", "work", "--body", "e", "--schedule-mode", "keep").ExitCode);
    }

    [Fact]
    public void A_schedule_sends_its_message_again_and_again_and_is_kept_over_a_kill()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work");
        Ran made = broker.Run("schedule", "create", "beat", "--queue", "work", "--every", "100ms", "--missed", "none", "--body", "beat", "--type", "t", "--json");
        Assert.True(made.ExitCode == 0, made.Error);
        Assert.Equal(0.1, made.Json.GetProperty("everySeconds").GetDouble());
        Ran nightly = broker.Run("schedule", "create", "nightly", "--queue", "work", "--cron", "0 3 * * *", "--zone", "Europe/Berlin", "--body", "tidy", "--json");
        Assert.True(nightly.ExitCode == 0, nightly.Error); // Time zones are known to the native binary, too.
        Assert.Equal("Europe/Berlin", nightly.Json.GetProperty("zone").GetString());
        Assert.Equal("beat\nbeat\n", broker.Run("consume", "work", "--max", "2").Output);
        broker.Kill();
        broker.Start();
        Assert.Equal("beat\nbeat\n", broker.Run("consume", "work", "--max", "2").Output);
        Assert.True(broker.Run("schedule", "show", "beat", "--json").Json.GetProperty("fired").GetInt32() >= 4);
        Assert.True(broker.Run("schedule", "pause", "beat", "--json").Json.GetProperty("paused").GetBoolean());
        Assert.Contains("paused", broker.Run("schedule", "list").Output, StringComparison.Ordinal);
        Assert.Equal(0, broker.Run("schedule", "resume", "beat").ExitCode);
        Assert.Equal(0, broker.Run("schedule", "delete", "beat").ExitCode);
        Assert.Equal(2, broker.Run("schedule", "show", "beat").ExitCode);
        Assert.Equal(["nightly"], broker.Run("schedule", "list", "--json").Json.EnumerateArray().Select(one => one.GetProperty("name").GetString()));
        Ran wrong = broker.Run("schedule", "create", "x", "--queue", "work", "--cron", "each day", "--body", "x");
        Assert.Equal(2, wrong.ExitCode);
        Assert.Contains("is no cron expression", wrong.Error, StringComparison.Ordinal);
        Assert.Equal(2, broker.Run("schedule", "create", "x", "--queue", "work", "--body", "x").ExitCode);
    }

    [Fact]
    public void A_queue_that_nobody_uses_is_deleted_over_a_kill_too()
    {
        using TestBroker broker = new();
        Assert.Equal(3600, broker.Run("queue", "create", "work", "--expires", "1h", "--json").Json.GetProperty("expiresSeconds").GetInt32());
        broker.Run("queue", "create", "stays");
        broker.Run("publish", "work", "--body", "a");
        broker.Kill();
        broker.Start();
        Assert.Equal(1, broker.Run("queue", "show", "work", "--json").Json.GetProperty("ready").GetInt32());
        broker.Run("queue", "set", "work", "--expires", "100ms");
        Assert.True(SpinWait.SpinUntil(() => broker.Run("queue", "show", "work").ExitCode == 1, TimeSpan.FromSeconds(20)));
        Assert.Equal(["stays"], broker.Run("queue", "list", "--json").Json.EnumerateArray().Select(one => one.GetProperty("name").GetString()));
    }

    [Fact]
    public void Limits_are_kept_over_a_kill_shared_changed_and_named_and_a_breaker_and_a_consumer_are_resumed()
    {
        using TestBroker broker = new();
        Assert.Equal(0, broker.Run("limit", "create", "api", "--max-in-flight", "1", "--rate", "600/m", "--burst", "5").ExitCode);
        Assert.Contains("there is no limit other", broker.Run("queue", "create", "q", "--limit", "other").Error, StringComparison.Ordinal);
        Assert.Equal(0, broker.Run("queue", "create", "q", "--limit", "api", "--breaker", "100%/1", "--publish-rate", "2/h", "--publish-burst", "2").ExitCode);
        Assert.Equal(0, broker.RunWith("hello", "publish", "q", "-").ExitCode);
        Assert.Equal(0, broker.RunWith("hello", "publish", "q", "-").ExitCode);
        Assert.Contains("publish-rate (2/h)", broker.RunWith("hello", "publish", "q", "-").Error, StringComparison.Ordinal);
        using (Session session = Session.Connect(new SessionOptions { Path = broker.Socket }, TestContext.Current.CancellationToken))
        {
            Subscription subscription = session.Subscribe("q", new SubscribeOptions { Credit = 5 });
            Assert.True(subscription.Receive(TimeSpan.FromSeconds(20), out Delivery delivery));
            broker.Kill();
            broker.RestartPlain();
            Assert.Contains("is ready, but waits for limit api's max-in-flight of 1", broker.Run("why", "q", "2").Output, StringComparison.Ordinal);
            Assert.Contains("600/m", broker.Run("limit", "list").Output, StringComparison.Ordinal);
            JsonElement limit = broker.Run("limit", "show", "api", "--json").Json;
            Assert.Equal((1, 1), (limit.GetProperty("inFlight").GetInt32(), limit.GetProperty("queues").GetInt32()));
            Assert.Equal(1, broker.Run("limit", "delete", "api").ExitCode);

            string id = broker.Run("queue", "consumers", "q", "--json").Json[0].GetProperty("subscription").GetRawText();
            Assert.Equal(0, broker.Run("queue", "pause", "q", "--subscription", id).ExitCode);
            Assert.True(broker.Run("queue", "consumers", "q", "--json").Json[0].GetProperty("paused").GetBoolean());
            subscription.Reject(delivery, "broken");
            session.Flush(ConfirmLevel.Written);
            Assert.Equal("breaker", broker.Queue("q").GetProperty("paused")[0].GetString());
            Assert.Equal(0, broker.Run("queue", "resume", "q", "--subscription", id).ExitCode);
            Assert.Contains("the queue's breaker (100%/1)", broker.Run("why", "q", "2").Output, StringComparison.Ordinal);
            Assert.Equal(0, broker.Run("queue", "resume", "q").ExitCode);
            Assert.True(subscription.Receive(TimeSpan.FromSeconds(20), out delivery));
            Assert.Equal(7, broker.Run("limit", "set", "api", "--max-in-flight", "7", "--json").Json.GetProperty("flow").GetProperty("maxInFlight").GetInt32());
        }

        JsonElement flow = broker.Run("queue", "set", "q", "--limit", "", "--rate", "10/s", "--json").Json.GetProperty("flow");
        Assert.Equal(("10/s", "100%/1"), (flow.GetProperty("rate").GetString(), flow.GetProperty("breaker").GetString()));
        Assert.Equal(0, broker.Run("limit", "delete", "api").ExitCode);
        Assert.Equal(2, broker.Run("queue", "set", "q", "--rate", "10/d").ExitCode);
        Assert.Equal(2, broker.Run("queue", "set", "q", "--breaker", "200%/3").ExitCode);
    }
}
