namespace FastQ.Fuzz;

/// <summary>Where things lie in the repository.</summary>
internal static class Places
{
    public static string Root { get; } = Environment.GetEnvironmentVariable("FASTQ_ROOT") ?? FindRoot();

    /// <summary>What a run leaves: not tracked.</summary>
    public static string Fuzz => Path.Combine(Root, "artifacts", "fuzz");

    /// <summary>The kept inputs of a target: tracked.</summary>
    public static string CorpusOf(string target) => Path.Combine(Root, "tests", "corpus", target);

    private static string FindRoot()
    {
        DirectoryInfo? at = new(AppContext.BaseDirectory);
        while (at is not null && !File.Exists(Path.Combine(at.FullName, "FastQ.sln")))
        {
            at = at.Parent;
        }

        return at!.FullName;
    }
}
