using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using System.Xml.Linq;
using Xunit;

namespace FastQ.House;

// Which room may know which. Arrows point down only:
//
//   Server --> Broker --> Engine ----> Protocol
//      |          '-----> Journal --> Protocol, Linux
//      '-----> Client --> Protocol, Linux
//   Hosting --'
public class ArrowTests
{
    private static readonly SortedDictionary<string, string[]> MayUse = new(StringComparer.Ordinal)
    {
        ["FastQ.Broker"] = ["FastQ.Engine", "FastQ.Journal", "FastQ.Linux", "FastQ.Protocol"],
        ["FastQ.Client"] = ["FastQ.Linux", "FastQ.Protocol"],
        ["FastQ.Engine"] = ["FastQ.Protocol"],
        ["FastQ.Hosting"] = ["FastQ.Client"],
        ["FastQ.Journal"] = ["FastQ.Linux", "FastQ.Protocol"],
        ["FastQ.Linux"] = [],
        ["FastQ.Protocol"] = [],
        ["FastQ.Server"] = ["FastQ.Broker", "FastQ.Client", "FastQ.Engine", "FastQ.Journal", "FastQ.Linux", "FastQ.Protocol"],
    };

    [Fact]
    public void Each_room_declares_exactly_the_arrows_that_the_design_draws()
    {
        IEnumerable<string> declared =
            from project in Repository.Projects
            where project.StartsWith("src/", StringComparison.Ordinal)
            let references = from reference in XDocument.Parse(Repository.Text(project)).Descendants("ProjectReference")
                             let name = Path.GetFileNameWithoutExtension((string)reference.Attribute("Include")!)
                             orderby name
                             select name
            let room = Path.GetFileNameWithoutExtension(project)
            orderby room
            select $"{room} -> {string.Join(", ", references)}";

        Assert.Equal(MayUse.Select(row => $"{row.Key} -> {string.Join(", ", row.Value)}"), declared);
    }

    // The declared arrows could be widened by build properties; what the compiler wrote into the assembly cannot lie.
    [Fact]
    public void No_built_room_refers_to_a_room_above_or_beside_it()
    {
        IEnumerable<string> forbidden =
            from row in MayUse
            from assembly in BuiltAssemblies(row.Key)
            from reference in RoomsReferredToBy(assembly)
            where !row.Value.Contains(reference)
            select $"{row.Key} -> {reference} ({Path.GetRelativePath(Repository.Root, assembly)})";

        Findings.None(forbidden);
    }

    private static IEnumerable<string> BuiltAssemblies(string room)
    {
        string file = room == "FastQ.Server" ? "fastq.dll" : $"{room}.dll";
        string folder = Path.Combine(Repository.Root, "artifacts", "bin", room);
        return Directory.Exists(folder) ? Directory.EnumerateFiles(folder, file, SearchOption.AllDirectories) : [];
    }

    private static List<string> RoomsReferredToBy(string assembly)
    {
        using PEReader image = new(File.OpenRead(assembly));
        MetadataReader metadata = image.GetMetadataReader();
        return [.. metadata.AssemblyReferences.Select(handle => metadata.GetString(metadata.GetAssemblyReference(handle).Name)).Where(name => name.StartsWith("FastQ.", StringComparison.Ordinal))];
    }
}
