using System.Runtime.Versioning;
using Xunit;

namespace FastQ.Journal;

// One broker a directory.
[SupportedOSPlatform("linux")]
public sealed class DirectoryLockTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("fastq-test-").FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Fact]
    public void A_directory_that_is_locked_is_refused_in_words_until_it_is_let_go()
    {
        string data = Path.Combine(_root, "data");
        using (DirectoryLock? first = DirectoryLock.TryTake(data, allowNetworkFileSystem: false, out string? none))
        {
            Assert.True(first is not null && none is null, none);
            Assert.Null(DirectoryLock.TryTake(data, allowNetworkFileSystem: false, out string? refusal));
            Assert.Contains("in use by another broker", refusal, StringComparison.Ordinal);
            Assert.Contains(data, refusal, StringComparison.Ordinal);
        }

        using DirectoryLock? next = DirectoryLock.TryTake(data, allowNetworkFileSystem: false, out string? problem);
        Assert.True(next is not null, problem);
        Assert.True(File.Exists(Path.Combine(data, "LOCK")), "the lock's file is never unlinked");
    }

    [Fact]
    public void All_directories_on_the_way_are_made_for_the_owner_alone()
    {
        string data = Path.Combine(_root, "a", "b", "data");
        using DirectoryLock? taken = DirectoryLock.TryTake(data + "/", allowNetworkFileSystem: false, out string? problem);
        Assert.True(taken is not null, problem);
        foreach (string made in (string[])[data, Path.Combine(_root, "a", "b"), Path.Combine(_root, "a")])
        {
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(made));
        }
    }

    [Fact]
    public void A_directory_that_cannot_be_made_is_refused_with_the_reason()
    {
        string file = Path.Combine(_root, "file");
        File.WriteAllText(file, "");
        foreach (string data in (string[])[file, Path.Combine(file, "data"), Path.Combine(file, "data", "deeper")])
        {
            Assert.Null(DirectoryLock.TryTake(data, allowNetworkFileSystem: false, out string? refusal));
            Assert.Contains("Choose another data directory", refusal, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_lock_that_cannot_be_opened_is_refused_with_the_reason()
    {
        Directory.CreateDirectory(Path.Combine(_root, "LOCK"));
        Assert.Null(DirectoryLock.TryTake(_root, allowNetworkFileSystem: false, out string? refusal));
        Assert.Contains("EISDIR", refusal, StringComparison.Ordinal);
        Assert.Contains("must be writable", refusal, StringComparison.Ordinal);
    }
}
