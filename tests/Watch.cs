using System.Collections.Concurrent;
using System.Globalization;
using System.Reflection;
using Xunit.v3;

[assembly: FastQ.Watch]

namespace FastQ;

/// <summary>
/// A test that hangs must not take the whole run with it: nobody would learn which one it was. After FASTQ_TEST_MINUTES, where that is set, its program says the
/// test's name and which processes it had started, and ends as failed. How a test that waits in vain should end is the test's own affair; this is for what nobody thought of.
/// </summary>
[AttributeUsage(AttributeTargets.Assembly)]
public sealed class WatchAttribute : BeforeAfterTestAttribute
{
    private static readonly ConcurrentDictionary<string, Timer> s_running = [];

    /// <inheritdoc/>
    public override void Before(MethodInfo methodUnderTest, IXunitTest test)
    {
        ArgumentNullException.ThrowIfNull(test);
        if (double.TryParse(Environment.GetEnvironmentVariable("FASTQ_TEST_MINUTES"), CultureInfo.InvariantCulture, out double minutes))
        {
            s_running[test.UniqueID] = new Timer(_ => GiveUp(test.TestDisplayName, minutes), null, TimeSpan.FromMinutes(minutes), Timeout.InfiniteTimeSpan);
        }
    }

    /// <inheritdoc/>
    public override void After(MethodInfo methodUnderTest, IXunitTest test)
    {
        ArgumentNullException.ThrowIfNull(test);
        if (s_running.TryRemove(test.UniqueID, out Timer? timer))
        {
            timer.Dispose();
        }
    }

    private static void GiveUp(string test, double minutes)
    {
        Console.Error.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{test} has not ended after {minutes} minutes. Processes that this program has started:"));
        foreach (string process in Directory.EnumerateDirectories("/proc").Where(IsChild))
        {
            string threads = string.Join(", ", Directory.EnumerateDirectories(Path.Combine(process, "task")).Select(thread => $"{TextOf(thread, "comm")} {StateOf(thread)?[0]} {TextOf(thread, "wchan")}"));
            Console.Error.WriteLine($"{Path.GetFileName(process)}: {TextOf(process, "cmdline")}({threads})");
        }

        Console.Error.Flush();
        Environment.FailFast(test); // Not Exit: that would wait for the thread that hangs, if it is one of the foreground.
    }

    private static bool IsChild(string process) => StateOf(process) is string state && state.Split(' ') is { Length: > 1 } words && words[1] == Environment.ProcessId.ToString(CultureInfo.InvariantCulture);

    /// <summary>State and parent, as in proc(5); null: it has ended, or is no process.</summary>
    private static string? StateOf(string process) =>
        TextOf(process, "stat") is { Length: > 0 } stat ? string.Join(' ', stat[(stat.LastIndexOf(')') + 2)..].Split(' ').Take(2)) : null;

    /// <summary>Empty: it has ended, or is no process.</summary>
    private static string TextOf(string process, string file)
    {
        try
        {
            return File.ReadAllText(Path.Combine(process, file)).Replace('\0', ' ').TrimEnd('\n');
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }
}
