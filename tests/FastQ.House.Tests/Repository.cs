using System.Diagnostics;
using System.Text;

namespace FastQ.House;

// The checkout that these tests look at: the files that git tracks, and their text. What is not tracked is nobody's business here.
internal static class Repository
{
    public static string Root { get; } = FindRoot();

    /// <summary>The tracked files that exist, relative to the root, with '/' between folders.</summary>
    public static IReadOnlyList<string> Files { get; } = [.. Git("ls-files", "-z").Split('\0', StringSplitOptions.RemoveEmptyEntries).Where(file => File.Exists(PathOf(file)))];

    public static IEnumerable<string> Projects => Files.Where(file => file.EndsWith(".csproj", StringComparison.Ordinal));

    public static string PathOf(string file) => Path.Combine(Root, file);

    public static string Text(string file) => File.ReadAllText(PathOf(file));

    /// <summary>Tracked files without a zero byte. Lock files hold hashes, which may spell anything, so they are left out.</summary>
    public static IEnumerable<string> TextFiles => Files.Where(file => Path.GetFileName(file) != "packages.lock.json" && !Text(file).Contains('\0', StringComparison.Ordinal));

    /// <summary>The lines of the given files that match, as "file:line: text".</summary>
    public static IEnumerable<string> Lines(IEnumerable<string> files, Func<string, bool> matches) =>
        from file in files
        from line in File.ReadLines(PathOf(file)).Index()
        where matches(line.Item)
        select $"{file}:{line.Index + 1}: {line.Item.Trim()}";

    private static string FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "FastQ.sln")))
            {
                return folder.FullName;
            }
        }
        throw new InvalidOperationException($"No FastQ.sln in {AppContext.BaseDirectory} or above it: these tests run inside a checkout.");
    }

    private static string Git(params string[] arguments)
    {
        // safe.directory: in a container the checkout often belongs to another user.
        using Process git = Process.Start(new ProcessStartInfo("git", ["-c", $"safe.directory={Root}", .. arguments])
        {
            WorkingDirectory = Root,
            RedirectStandardOutput = true,
            StandardOutputEncoding = Encoding.UTF8,
        })!;
        string output = git.StandardOutput.ReadToEnd();
        git.WaitForExit();
        return git.ExitCode == 0 ? output : throw new InvalidOperationException($"git {string.Join(' ', arguments)} ended with {git.ExitCode} in {Root}.");
    }
}
