using Xunit;

namespace FastQ.House;

// What lies where, so that a reader knows a place before opening it.
public class LayoutTests
{
    private static readonly string[] TopLevel =
    [
        "Directory.Build.props", "Directory.Packages.props", "FastQ.sln", "LICENSE", "README.md", "benchmarks", "build.sh", "global.json", "perf-results", "samples", "src", "tests",
    ];

    // Rooms of the design that start when there is something to put in them.
    private static readonly string[] MayStartLater = ["native"];

    private static readonly string[] RoomReadmeSays = ["Purpose", "May use", "Must not know", "Read first", "Surprises"];

    [Fact]
    public void The_top_level_holds_what_the_design_names_and_nothing_else()
    {
        IEnumerable<string> found = Repository.Files.Select(file => file.Split('/')[0]).Where(name => !name.StartsWith('.')).Distinct().Except(MayStartLater);

        Assert.Equal(TopLevel.Order(StringComparer.Ordinal), found.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Each_room_has_a_README_that_says_what_it_is_for()
    {
        IEnumerable<string> lacking =
            from project in Repository.Projects
            where project.StartsWith("src/", StringComparison.Ordinal)
            let readme = $"{Path.GetDirectoryName(project)}/README.md"
            let text = Repository.Files.Contains(readme) ? Repository.Text(readme) : ""
            from heading in RoomReadmeSays
            where !text.Contains(heading, StringComparison.Ordinal)
            select $"{readme}: {heading}";

        Findings.None(lacking);
    }

    [Theory]
    [InlineData("tests")]
    [InlineData("benchmarks")]
    [InlineData("samples")]
    public void The_README_of_a_folder_of_projects_names_each_of_them(string folder)
    {
        string readme = Repository.Text($"{folder}/README.md");
        IEnumerable<string> projects = Repository.Projects.Where(project => project.StartsWith($"{folder}/", StringComparison.Ordinal)).Select(Path.GetFileNameWithoutExtension)!;

        Findings.None(projects.Where(project => !readme.Contains(project, StringComparison.Ordinal)));
    }

    [Fact]
    public void Each_project_stands_in_the_solution_and_so_is_built_and_tested()
    {
        string solution = Repository.Text("FastQ.sln").Replace('\\', '/');

        Assert.NotEmpty(Repository.Projects);
        Findings.None(Repository.Projects.Where(project => !solution.Contains($"\"{project}\"", StringComparison.Ordinal)));
    }

    [Fact]
    public void No_tracked_file_is_larger_than_512_KiB()
    {
        Findings.None(Repository.Files.Where(file => new FileInfo(Repository.PathOf(file)).Length > 512 * 1024));
    }

    [Fact]
    public void The_README_names_the_two_commands()
    {
        string readme = Repository.Files.Contains("README.md") ? Repository.Text("README.md") : "";

        Assert.Contains("./build.sh demo", readme, StringComparison.Ordinal);
        Assert.Contains("./build.sh test", readme, StringComparison.Ordinal);
    }
}
