using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.IO.Hashing;
using System.Text;
using System.Text.Json;
using FastQ.Client;
using FastQ.Protocol;
using Xunit;

namespace FastQ.EndToEnd;

// The disk: its use follows what lives, a full one refuses publishes and nothing else, a failing one ends the confirms for good.
[Collection(nameof(DiskTests))]
public class DiskTests
{
    private const long MiB = 1024 * 1024;
    private static readonly string s_body = new('x', 100);

    [Fact]
    public async Task Fifty_million_messages_through_a_short_queue_use_less_than_512_MiB_and_one_that_is_unsettled_from_the_start_pins_nothing()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "held");
        broker.Run("queue", "create", "left");
        broker.Run("publish", "held", "--body", "held");
        broker.Run("publish", "left", "--body", "left");
        using Session session = Connect(broker, TimeSpan.FromSeconds(30));
        Subscription subscription = session.Subscribe("held", new SubscribeOptions { Lease = TimeSpan.FromHours(1) });
        Assert.True(subscription.Receive(TimeSpan.FromSeconds(20), out Delivery held));

        long most = 0;
        for (int million = 0; million < 50; million++)
        {
            // A million at a time: however the machine is loaded, the consumers are never further behind than that.
            using Process bench = Fastq.Start("bench", "--count", "1000000", "--size", "100", "--confirm", "written", "--socket", broker.Socket, "--json");
            Task<string> output = bench.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
            while (!bench.WaitForExit(50))
            {
                most = Math.Max(most, UseOf(broker.Data));
            }

            Assert.Equal(0, bench.ExitCode);
            Assert.True(JsonDocument.Parse(await output).RootElement.GetProperty("verified").GetBoolean());
        }

        Assert.InRange(most, MiB, 512 * MiB);
        Assert.Equal("held", Encoding.UTF8.GetString(held.Body));

        broker.Kill();
        Stopwatch restart = Stopwatch.StartNew();
        broker.Start();
        Assert.InRange(restart.Elapsed, TimeSpan.Zero, TimeSpan.FromSeconds(1));
        Assert.Equal("left\n", broker.Run("consume", "left", "--max", "1").Output);
        subscription.Accept(held, ConfirmLevel.Written);
        session.Flush(ConfirmLevel.Written);
        Assert.Equal(0, broker.Queue("held").GetProperty("messages").GetInt64());
    }

    [Fact]
    public void A_full_disk_refuses_publishes_by_name_and_nothing_else_and_consuming_makes_room()
    {
        // The first slots can be made and the first room for snapshots, nothing more.
        using TestBroker broker = new("strace", "-f", "-D", "-o", "/dev/null", "-e", "trace=fallocate", "-e", "inject=fallocate:error=ENOSPC:when=6+");
        broker.Run("queue", "create", "work");
        Ran full = broker.Run("publish", "work", "--body", s_body, "--count", "2000000", "--json");
        Assert.Equal(1, full.ExitCode);
        Assert.Contains("disk-full", full.Error, StringComparison.Ordinal);
        long kept = broker.Queue("work").GetProperty("messages").GetInt64();
        Assert.InRange(kept, 1_000, 1_900_000);
        Assert.Contains("ENOSPC", broker.Run("stats", "--json").Json.GetProperty("journal").GetProperty("roomFault").GetString(), StringComparison.Ordinal);
        Assert.Equal(1, broker.Run("publish", "work", "--body", "more").ExitCode);
        Assert.Equal(0, broker.Run("consume", "work", "--max", "1000").ExitCode);
        Assert.Equal(kept - 1000, broker.Queue("work").GetProperty("messages").GetInt64());

        // As full as before, but what was consumed lies in slots that are used again.
        Assert.Equal(0, broker.Run("queue", "purge", "work").ExitCode);
        Await("a publish is taken", () => broker.Run("publish", "work", "--body", "after").ExitCode == 0);
        Assert.Equal(1, broker.Queue("work").GetProperty("messages").GetInt64());
        broker.Kill();
        broker.RestartPlain();
        Assert.Equal("after\n", broker.Run("consume", "work").Output);
    }

    [Fact]
    public void When_a_full_disk_has_room_again_publishes_go_on_by_themselves()
    {
        using TestBroker broker = new("strace", "-f", "-D", "-o", "/dev/null", "-e", "trace=fallocate", "-e", "inject=fallocate:error=ENOSPC:when=6+");
        broker.Run("queue", "create", "work");
        broker.Run("queue", "create", "audit");
        Assert.Equal(0, broker.Run("bind", "fastq.events", "audit", "--key", "alarm.*").ExitCode);
        Assert.Equal(1, broker.Run("publish", "work", "--body", s_body, "--count", "2000000").ExitCode);
        long kept = broker.Queue("work").GetProperty("messages").GetInt64();
        broker.EndFaults();
        Await("a publish is taken", () => broker.Run("publish", "work", "--body", "after").ExitCode == 0);
        JsonElement[] told = [.. broker.Run("consume", "audit", "--max", "2", "--follow").Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonDocument.Parse(line).RootElement)];
        Assert.Equal(["alarm.set disk", "alarm.cleared disk"], told.Select(one => $"{one.GetProperty("event").GetString()} {one.GetProperty("alarm").GetString()}"));
        Assert.True(told[0].GetProperty("time").GetDateTimeOffset() < told[1].GetProperty("time").GetDateTimeOffset()); // When it was, not when there was room to say so.
        broker.Kill();
        broker.RestartPlain();
        Assert.Equal(kept + 1, broker.Queue("work").GetProperty("messages").GetInt64());
    }

    [Fact]
    public void A_small_file_system_that_is_full_refuses_publishes_and_when_there_is_room_the_same_session_and_a_new_one_go_on()
    {
        // CASES B86. A disk of its own, for this broker alone: two slots and a half.
        using TestBroker broker = TestBroker.NotStarted();
        Directory.CreateDirectory(broker.Data);
        broker.StartUnder(WithMounts($"mount -t tmpfs -o size=160m,mode=700 tmpfs '{broker.Data}'", "strace", "-f", "-D", "-o", "/dev/null", "-e", "trace=fallocate", "-e", "inject=fallocate:error=ENOSPC:when=6+"));
        broker.Run("queue", "create", "work");
        using Session session = Connect(broker, TimeSpan.FromSeconds(30));
        QueueHandle work = session.OpenQueue("work");
        byte[] body = new byte[10_000];
        FastQException? full = null;
        session.Refused = refused => full ??= refused;
        long sent = 0;
        for (; full is null && sent < 100_000; sent++)
        {
            session.Publish(work, body, ConfirmLevel.Written);
        }

        Assert.Equal(RefusalCode.DiskFull, full?.Code);
        Assert.Throws<FastQException>(() => session.Flush(ConfirmLevel.Written));
        session.ClearRefusals();
        long kept = broker.Queue("work").GetProperty("messages").GetInt64();
        Assert.InRange(kept, 3_000, sent - 1);

        // Consuming and settling go on; then there is room.
        Assert.Equal(0, broker.Run("consume", "work", "--max", "1000", "--format", "raw").ExitCode);
        Assert.Equal(kept - 1000, broker.Queue("work").GetProperty("messages").GetInt64());
        Assert.Equal(0, broker.Run("queue", "purge", "work").ExitCode);
        Await("a new session's publish is taken", () => broker.Run("publish", "work", "--body", "new").ExitCode == 0);
        session.WaitConfirmed(session.Publish(work, "same"u8), ConfirmLevel.Durable, TimeSpan.FromSeconds(20));
        Assert.Equal(0, session.Reconnects);
        Assert.Equal(2, broker.Queue("work").GetProperty("messages").GetInt64());
    }

    [Fact]
    public void A_disk_that_somebody_else_fills_to_the_last_byte_is_drained_by_consumers_and_comes_back_by_itself()
    {
        // DESIGN-REVIEW R27: without two more snapshots, which are new files, nothing would ever be reclaimed.
        using TestBroker broker = TestBroker.NotStarted();
        Directory.CreateDirectory(broker.Data);
        string[] prefix = WithMounts($"mount -t tmpfs -o size=340m,mode=700 tmpfs '{broker.Data}'", ["strace", "-f", "-D", "-o", "/dev/null", .. LaterSlots(broker), "-e", "trace=fallocate", "-e", "inject=fallocate:error=ENOSPC"]);
        bool isOwnDisk = prefix[0] == "unshare"; // Where nobody may mount, only slots cannot be made; snapshots can.
        broker.StartUnder(prefix);
        broker.Run("queue", "create", "work");
        Assert.Equal(0, broker.Run("publish", "work", "--body", s_body, "--count", "700000", "--confirm", "written").ExitCode); // More than a slot.
        Fill(broker, isOwnDisk);
        Ran full = broker.Run("publish", "work", "--body", s_body, "--count", "2000000", "--confirm", "written", "--json");
        Assert.Equal(1, full.ExitCode);
        Assert.Contains("disk-full", full.Error, StringComparison.Ordinal);
        Fill(broker, isOwnDisk);

        long kept = broker.Queue("work").GetProperty("messages").GetInt64();
        Ran drained = broker.Run("consume", "work", "--max", kept.ToString(CultureInfo.InvariantCulture), "--format", "raw");
        Assert.Equal(0, drained.ExitCode);
        Assert.Equal(0, broker.Queue("work").GetProperty("messages").GetInt64());
        Await("a publish is taken", () => broker.Run("publish", "work", "--body", "after").ExitCode == 0);
        Assert.Equal("after\n", broker.Run("consume", "work", "--max", "1").Output);
    }

    /// <summary>For strace: only what is done to these files.</summary>
    private static IEnumerable<string> LaterSlots(TestBroker broker) => Enumerable.Range(4, 20).SelectMany(slot => (string[])["-P", $"{broker.Data}/namespaces/default/slots/{slot:D10}.slot"]);

    /// <summary>Takes what is left of the broker's own disk, seen as the broker sees it.</summary>
    private static void Fill(TestBroker broker, bool isOwnDisk)
    {
        if (!isOwnDisk)
        {
            return;
        }

        string data = $"/proc/{broker.ProcessId}/root{broker.Data}";
        using Process cat = Fastq.StartProgram("sh", ["-c", $"cat /dev/zero >> '{data}/filler'; stat -f -c %a '{data}'"]);
        string left = cat.StandardOutput.ReadToEnd();
        cat.WaitForExit();
        Assert.Equal("0", left.Trim());
    }

    [Fact]
    public void A_disk_that_is_read_only_is_refused_at_the_start_and_left_as_it_is()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "work");
        broker.Run("publish", "work", "--body", "kept");
        Assert.Equal(0, broker.Stop());
        string[] files = Directory.GetFileSystemEntries(broker.Data, "*", SearchOption.AllDirectories);
        string[] prefix = WithMounts($"mount --bind '{broker.Data}' '{broker.Data}' && mount -o remount,bind,ro '{broker.Data}'", "strace", "-f", "-o", "/dev/null", "-P", Path.Combine(broker.Data, "LOCK"), "-e", "trace=openat", "-e", "inject=openat:error=EROFS");
        using Process refused = Fastq.StartProgram(prefix[0], [.. prefix[1..], Fastq.Binary, "serve", "--data", broker.Data, "--socket", broker.Socket]);
        string error = refused.StandardError.ReadToEnd();
        Assert.True(refused.WaitForExit(30_000), "The broker does not end");
        Assert.Equal(1, refused.ExitCode);
        Assert.Contains("EROFS", error, StringComparison.Ordinal);
        Assert.Contains(broker.Data, error, StringComparison.Ordinal);
        Assert.Equal(files, Directory.GetFileSystemEntries(broker.Data, "*", SearchOption.AllDirectories));
        broker.RestartPlain();
        Assert.Equal("kept\n", broker.Run("consume", "work", "--max", "1").Output);
    }

    [Fact]
    public void After_a_failed_sync_nothing_more_is_confirmed_every_session_is_told_and_the_broker_ends()
    {
        using TestBroker broker = new("strace", "-f", "-D", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=60+");
        broker.Run("queue", "create", "work");
        using Session idle = Connect(broker, TimeSpan.Zero);
        using Session session = Connect(broker, TimeSpan.Zero);
        QueueHandle work = session.OpenQueue("work");
        ulong confirmed = 0;
        FastQException? told = null;
        while (told is null && confirmed < 1000)
        {
            try
            {
                session.WaitConfirmed(session.Publish(work, "message"u8), ConfirmLevel.Durable, TimeSpan.FromSeconds(20));
                confirmed++;
            }
            catch (FastQException end)
            {
                told = end;
            }
        }

        Assert.True(told is not null, "A thousand durable confirms, where the sixtieth sync fails and all after it");
        Stopwatch since = Stopwatch.StartNew();
        (int exitCode, string error) = broker.AwaitEnd();

        Assert.Equal(1, exitCode);
        Assert.InRange(since.Elapsed, TimeSpan.Zero, TimeSpan.FromSeconds(5));
        Assert.Contains("EIO", error, StringComparison.Ordinal);
        Assert.Contains("storage-failed", told.Message, StringComparison.Ordinal);
        Assert.Contains("storage-failed", Assert.Throws<FastQException>(() => idle.GetQueue("work")).Message, StringComparison.Ordinal);
        broker.RestartPlain();
        Assert.True((ulong)broker.Queue("work").GetProperty("messages").GetInt64() >= confirmed, $"{confirmed} were confirmed");
    }

    [Theory]
    [InlineData(0, "FORMAT is damaged")]
    [InlineData(8, "Use a newer fastq")]
    public void A_directory_of_a_foreign_or_future_format_is_refused_and_left_as_it_is(int position, string says)
    {
        using TestBroker broker = new();
        Assert.Equal(0, broker.Stop());
        string format = Path.Combine(broker.Data, "FORMAT");
        byte[] bytes = File.ReadAllBytes(format);
        bytes[position] ^= 0x55; // The first of the magic, or of the version: which is then a far later one, and its hash is right.
        if (position == 8)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(32), XxHash3.HashToUInt64(bytes.AsSpan(0, 32)));
        }

        File.WriteAllBytes(format, bytes);

        Ran refused = Fastq.Run(null, "serve", "--data", broker.Data, "--socket", broker.Socket);
        Assert.Equal(1, refused.ExitCode);
        Assert.Contains(says, refused.Error, StringComparison.Ordinal);
        Assert.Equal(bytes, File.ReadAllBytes(format));
    }

    /// <summary>What a program must be started under to have mounts of its own; where the system does not allow that, under something that gives the same errors.</summary>
    private static string[] WithMounts(string mount, params string[] otherwise)
    {
        using Process attempt = Fastq.StartProgram("unshare", ["--mount", "--map-root-user", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]);
        attempt.WaitForExit();
        return attempt.ExitCode == 0 ? ["unshare", "--mount", "--map-root-user", "sh", "-c", $"{mount} && exec \"$@\"", "sh"] : otherwise;
    }

    private static Session Connect(TestBroker broker, TimeSpan patience) => Session.Connect(new SessionOptions { Path = broker.Socket, Patience = patience });

    private static void Await(string what, Func<bool> condition)
    {
        Stopwatch waited = Stopwatch.StartNew();
        while (!condition())
        {
            Assert.True(waited.Elapsed < TimeSpan.FromSeconds(30), $"Waited in vain until {what}");
        }
    }

    /// <summary>Bytes that the directory takes on the disk, by blocks; files may go while we look.</summary>
    private static long UseOf(string directory)
    {
        using Process du = Process.Start(new ProcessStartInfo("du", ["-s", "-B1", directory]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        string output = du.StandardOutput.ReadToEnd();
        du.WaitForExit();
        return long.Parse(output.Split('\t')[0], CultureInfo.InvariantCulture);
    }
}

/// <summary>Alone on the machine: it judges times, and what a queue that stays short needs.</summary>
[CollectionDefinition(nameof(DiskTests), DisableParallelization = true)]
public class DiskTestsCollection;
