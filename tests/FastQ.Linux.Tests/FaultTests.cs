using System.Runtime.InteropServices;
using Xunit;

namespace FastQ.Linux.Tests;

public sealed class FaultTests
{
    [Fact]
    public void A_fault_says_which_call_which_errno_and_on_what() =>
        Assert.Equal("fdatasync orders/slots/42: EIO (5), input/output error", new Fault("fdatasync", Errno.EIO, "orders/slots/42").ToString());

    [Fact]
    public void Every_errno_has_the_name_that_the_c_library_gives_it()
    {
        for (int number = 1; number < 134; number++)
        {
            string? name = Marshal.PtrToStringUTF8(Hostile.ErrorName(number));
            Assert.Equal(name, Enum.GetName((Errno)number));
        }
    }

    [Fact]
    public void Every_errno_has_words_of_its_own()
    {
        string[] words = [.. Enum.GetValues<Errno>().Select(ErrnoText.Of)];
        Assert.DoesNotContain("", words);
        Assert.Equal(words.Length, words.Distinct().Count());
        Assert.Contains("unknown", ErrnoText.Of((Errno)4095), StringComparison.Ordinal);
    }

    [Fact]
    public void A_failed_call_throws_only_when_asked_to()
    {
        Result<FileHandle> missing = FileHandle.Open("/nowhere/at/all", OpenMode.ReadOnly);
        Assert.False(missing.Ok);
        LinuxException thrown = Assert.Throws<LinuxException>(() => missing.OrThrow());
        Assert.Equal(new Fault("open", Errno.ENOENT, "/nowhere/at/all"), thrown.Fault);
        Assert.Equal(thrown.Fault.ToString(), thrown.Message);
    }

    [Fact]
    public void Taking_the_value_of_a_failed_call_or_the_fault_of_a_good_one_is_our_bug()
    {
        Result<int> bad = new Fault("open", Errno.EIO, "x");
        Result<int> good = 1;
        Result done = Result.Success;
        Assert.Throws<InvariantViolation>(() => bad.Value);
        Assert.Throws<InvariantViolation>(() => good.Fault);
        Assert.Throws<InvariantViolation>(() => done.Fault);
        done.OrThrow();
    }
}
