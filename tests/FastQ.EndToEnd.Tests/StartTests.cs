using System.Diagnostics;
using System.Runtime.Versioning;
using FastQ.Linux;
using Xunit;

namespace FastQ.EndToEnd;

// What a start refuses, in one line that says what to do.
[SupportedOSPlatform("linux")]
public class StartTests
{
    [Fact]
    public void A_second_broker_on_a_directory_is_refused()
    {
        using TestBroker broker = new();
        Ran second = Fastq.Run(null, "serve", "--data", broker.Data, "--socket", broker.Socket + "2");
        Assert.Equal(1, second.ExitCode);
        Assert.Contains("is in use by another broker", second.Error, StringComparison.Ordinal);
        Assert.Equal(0, broker.Run("stats").ExitCode);
    }

    [Fact]
    public void A_second_broker_on_a_socket_is_refused_and_the_first_lives()
    {
        using TestBroker broker = new();
        Ran second = Fastq.Run(null, "serve", "--data", broker.Data + "2", "--socket", broker.Socket);
        Assert.Equal(1, second.ExitCode);
        Assert.Contains("Another broker listens", second.Error, StringComparison.Ordinal);
        Assert.Equal(0, broker.Run("stats").ExitCode);
    }

    [Fact]
    public void A_stale_socket_file_is_replaced()
    {
        using TestBroker broker = new();
        broker.Kill();
        Assert.True(File.Exists(broker.Socket));
        broker.Start();
        Assert.Equal(0, broker.Run("stats").ExitCode);
    }

    [Fact]
    public void A_socket_path_that_is_too_long_is_refused_with_the_limit()
    {
        string directory = Directory.CreateTempSubdirectory("fastq-test-").FullName;
        Ran ran = Fastq.Run(null, "serve", "--data", Path.Combine(directory, "d"), "--socket", Path.Combine(directory, new string('x', 120)));
        Directory.Delete(directory, recursive: true);
        Assert.Equal(1, ran.ExitCode);
        Assert.Contains("at most 107", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void A_directory_that_cannot_be_made_is_refused()
    {
        Ran ran = Fastq.Run(null, "serve", "--data", "/proc/fastq", "--socket", "/tmp/never-made");
        Assert.Equal(1, ran.ExitCode);
        Assert.Contains("Choose another data directory", ran.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Directory_and_socket_are_private()
    {
        using TestBroker broker = new();
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(broker.Data));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(broker.Socket));
    }

    [Fact]
    public void A_connection_that_never_says_Hello_is_closed()
    {
        using TestBroker broker = new();
        using UnixSocket socket = UnixSocket.Connect(broker.Socket).OrThrow();
        Stopwatch since = Stopwatch.StartNew();
        byte[] message = new byte[4096];
        int received = socket.Receive(message).OrThrow();
        Assert.True(received > 0 && System.Text.Encoding.UTF8.GetString(message, 0, received).Contains("not finished within 5000 ms", StringComparison.Ordinal));
        Assert.Equal(0, socket.Receive(message).OrThrow());
        Assert.InRange(since.Elapsed.TotalSeconds, 4.5, 20);
    }

    [Fact]
    public void Damage_to_confirmed_data_is_refused_with_its_place_and_the_queues()
    {
        using TestBroker broker = new();
        broker.Run("queue", "create", "orders");
        broker.Run("publish", "orders", "--body", "first");
        broker.Run("publish", "orders", "--body", "second");
        broker.Kill();
        string slot = Directory.GetFiles(Path.Combine(broker.Data, "namespaces", "default", "slots")).Order().First();
        using (FileStream file = File.Open(slot, FileMode.Open))
        {
            byte[] all = new byte[1 << 20];
            file.ReadExactly(all);
            int at = all.AsSpan().IndexOf("first"u8);
            Assert.True(at > 0);
            file.Position = at;
            file.WriteByte((byte)'F');
        }

        Ran refused = Fastq.Run(null, "serve", "--data", broker.Data, "--socket", broker.Socket);
        Assert.Equal(1, refused.ExitCode);
        Assert.Contains("slot 1, position", refused.Error, StringComparison.Ordinal);
        Assert.Contains("Confirmed data is damaged", refused.Error, StringComparison.Ordinal);
        Assert.Contains("orders", refused.Error, StringComparison.Ordinal);
    }
}
