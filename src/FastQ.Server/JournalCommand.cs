using System.CommandLine;

namespace FastQ.Server;

/// <summary>fastq journal verify|dump|repair.</summary>
internal static class JournalCommand
{
    public static Command Create() => new("journal", "Verify, dump and repair a stopped broker's directory, or a copy of one.");
}
