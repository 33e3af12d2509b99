using System.Text.Json;
using System.Xml.Linq;
using Xunit;

namespace FastQ.House;

// What FastQ takes from others: named in the README, under a licence that lets anyone use it, at versions that a lock file fixes.
public class DependencyTests
{
    private static readonly string[] Licences = ["Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT"];

    // Older packages state only where their licence stands. That of K4os.Compression.LZ4 is the MIT licence.
    private static readonly Dictionary<string, string> Read = new() { ["https://github.com/MiloszKrajewski/K4os.Compression.LZ4/blob/master/LICENSE?raw=true"] = "MIT" };

    private sealed record Package(string Id, string Version);

    private static Package[] Central =>
        [.. XDocument.Parse(Repository.Text("Directory.Packages.props")).Descendants("PackageVersion").Select(item => new Package((string)item.Attribute("Include")!, (string)item.Attribute("Version")!))];

    [Fact]
    public void Each_package_is_used_by_a_project()
    {
        IEnumerable<string> used =
            from file in Repository.Files
            where file.EndsWith(".csproj", StringComparison.Ordinal) || Path.GetFileName(file) == "Directory.Build.props"
            from reference in XDocument.Parse(Repository.Text(file)).Descendants("PackageReference")
            select (string)reference.Attribute("Include")!;

        Assert.Equal(Central.Select(package => package.Id).Order(), used.Distinct().Order());
    }

    [Fact]
    public void The_README_names_each_package_and_the_licence_that_the_package_states()
    {
        string[] rows = Repository.Files.Contains("README.md") ? [.. Repository.Text("README.md").Split('\n').Where(line => line.StartsWith('|'))] : [];
        IEnumerable<string> lacking =
            from package in Central
            let licence = LicenceOf(package)
            where !rows.Any(row => Cells(row).Any(cell => cell.Split(' ').Contains(package.Id)) && Cells(row).Contains(licence))
            select $"{package.Id}: {licence}";

        Findings.None(lacking);
    }

    // Tests and benchmarks answer for the packages that they name; what is shipped answers for all that come with those, too.
    [Fact]
    public void Each_package_has_a_licence_that_lets_anyone_use_it()
    {
        IEnumerable<Package> shipped = Repository.Files.Where(file => file.StartsWith("src/", StringComparison.Ordinal) && file.EndsWith("/packages.lock.json", StringComparison.Ordinal)).SelectMany(Locked);
        IEnumerable<string> others =
            from package in Central.Concat(shipped).Distinct()
            let licence = LicenceOf(package)
            where !Licences.Contains(licence)
            select $"{package.Id} {package.Version}: {licence}";

        Findings.None(others);
    }

    [Fact]
    public void Each_project_has_a_lock_file()
    {
        Findings.None(Repository.Projects.Select(project => $"{Path.GetDirectoryName(project)}/packages.lock.json").Except(Repository.Files));
    }

    private static string[] Cells(string row) => [.. row.Split('|').Select(cell => cell.Trim(' ', '`'))];

    private static IEnumerable<Package> Locked(string lockFile)
    {
        using JsonDocument document = JsonDocument.Parse(Repository.Text(lockFile));
        return
            [.. from framework in document.RootElement.GetProperty("dependencies").EnumerateObject()
                from package in framework.Value.EnumerateObject()
                where package.Value.TryGetProperty("resolved", out _)
                select new Package(package.Name, package.Value.GetProperty("resolved").GetString()!)];
    }

    private static string LicenceOf(Package package)
    {
        string cache = Environment.GetEnvironmentVariable("NUGET_PACKAGES") ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget", "packages");
        string id = package.Id.ToLowerInvariant();
        string nuspec = Path.Combine(cache, id, package.Version, $"{id}.nuspec");
        if (!File.Exists(nuspec))
        {
            return $"not restored: {nuspec}";
        }

        XElement[] stated = [.. XDocument.Load(nuspec).Descendants().Where(element => element.Name.LocalName is "license" or "licenseUrl").OrderBy(element => element.Name.LocalName)];
        return stated.Length == 0 ? "no licence stated" : Read.GetValueOrDefault(stated[0].Value, stated[0].Value);
    }
}
