using System.Diagnostics;
using Xunit;

namespace FastQ.EndToEnd;

// Each target gets its kept corpus and a share of new inputs, the same each time; ./build.sh fuzz goes on for as long as one likes.
public class FuzzTests
{
    [Theory]
    [InlineData("properties", 20_000)]
    [InlineData("snapshots", 8_000)]
    [InlineData("journal", 2_500)]
    [InlineData("handshake", 250)]
    [InlineData("rings", 400)]
    public void Nothing_that_comes_from_outside_does_harm(string target, int inputs)
    {
        ProcessStartInfo start = new(Path.Combine(Fastq.Root, "artifacts", "bin", "FastQ.Fuzz", "debug", "FastQ.Fuzz"), ["--target", target, "--inputs", $"{inputs}", "--seed", "1"]) { RedirectStandardOutput = true };
        using Process fuzz = Process.Start(start)!;
        string said = fuzz.StandardOutput.ReadToEnd();
        Assert.True(fuzz.WaitForExit(60_000), "It does not end");
        Console.WriteLine(said);
        Assert.True(fuzz.ExitCode == 0, said);
    }
}
