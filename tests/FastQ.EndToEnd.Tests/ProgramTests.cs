using System.Diagnostics;
using System.Text.RegularExpressions;
using Xunit;

namespace FastQ.EndToEnd;

// The programs that the README shows are built with the solution and do what it says.
public partial class ProgramTests
{
    [Theory]
    [InlineData("FirstProgram")]
    [InlineData("SpanProgram")]
    public void A_program_of_the_README_is_the_one_that_is_built_and_it_prints_its_message(string name)
    {
        string source = File.ReadAllText(Path.Combine(Fastq.Root, "tests", "Programs", name, "Program.cs"));
        string[] shown = [.. CodeBlock().Matches(File.ReadAllText(Path.Combine(Fastq.Root, "README.md"))).Select(block => block.Groups[1].Value)];
        Assert.Contains(source, shown);

        using TestBroker broker = new();
        ProcessStartInfo start = new(Path.Combine(Fastq.Root, "artifacts", "bin", name, "debug", name)) { RedirectStandardOutput = true };
        start.Environment["FASTQ_SOCKET"] = broker.Socket;
        using Process program = Process.Start(start)!;
        if (!program.WaitForExit(30_000))
        {
            program.Kill();
            Assert.Fail("It does not end");
        }

        Assert.Equal((0, "hello\n"), (program.ExitCode, program.StandardOutput.ReadToEnd()));
        Assert.Equal(0, broker.Queue("work").GetProperty("messages").GetInt64());
    }

    [GeneratedRegex("```csharp\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex CodeBlock();
}
