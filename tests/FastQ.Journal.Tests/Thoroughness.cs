namespace FastQ.Journal;

/// <summary>How much of what could be tried is tried: each run a share, all of it where the environment says FASTQ_TESTS=full.</summary>
internal static class Thoroughness
{
    public static bool IsFull { get; } = Environment.GetEnvironmentVariable("FASTQ_TESTS") == "full";
}
