using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace FastQ.Protocol;

public sealed class NamesTests : IDisposable
{
    private static readonly UTF8Encoding s_strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private readonly Guarded _memory = new();

    public void Dispose() => _memory.Dispose();

    [Theory]
    [InlineData("a", true)]
    [InlineData("orders/new, 2", true)]
    [InlineData("Bücher 本 📚", true)]
    [InlineData("fastq", true)]
    [InlineData("fastq.", false)]
    [InlineData("fastq.x", false)]
    [InlineData("FASTQ.x", true)]
    [InlineData("my-fastq.x", true)]
    [InlineData("", false)]
    [InlineData("a\0b", false)]
    [InlineData("line\n", false)]
    [InlineData("a\u007f", false)]
    [InlineData("a\u0080", false)]
    [InlineData("a\u009f", false)]
    [InlineData("a\u00a0", true)]
    public void A_name_is_text_without_control_characters_and_not_of_ours(string name, bool isValid)
    {
        Assert.Equal(isValid, Names.IsValid(_memory.AtEnd(Encoding.UTF8.GetBytes(name))));
    }

    [Fact]
    public void A_name_is_at_most_255_bytes_long()
    {
        Assert.True(Names.IsValid(Encoding.UTF8.GetBytes(new string('n', 255))));
        Assert.False(Names.IsValid(Encoding.UTF8.GetBytes(new string('n', 256))));
        Assert.True(Names.IsValid(Encoding.UTF8.GetBytes(new string('é', 127))));
        Assert.False(Names.IsValid(Encoding.UTF8.GetBytes(new string('é', 128))));
    }

    // Pieces that matter: prefixes of ours, each kind of control character, the first and the last byte of longer sequences, what UTF-8 forbids.
    [Fact]
    public void Any_bytes_are_judged_as_the_page_says()
    {
        byte[][] pieces =
        [
            .. new[] { "fastq", "fastq.", ".", "a", "é", "本", "📚", "\u0085", "\u007f", "\0", "\u00a0", new string('x', 120) }.Select(Encoding.UTF8.GetBytes),
            [0xC2], [0x80], [0x9F], [0xFF], [0xC0, 0xAF], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xF0, 0x9F],
        ];
        Gen<byte[]> names = Gen.Choose(0, 4).SelectMany(count => Gen.Elements(pieces).ArrayOf(count)).Select(chosen => chosen.SelectMany(piece => piece).ToArray());

        Prop.ForAll(Arb.From(names), name => Assert.Equal(IsValidPlainly(name), Names.IsValid(_memory.AtEnd(name)))).Check(Generators.Config(3000, 21));
    }

    private static bool IsValidPlainly(byte[] name)
    {
        try
        {
            string text = s_strict.GetString(name);
            return name.Length is >= 1 and <= 255 && !text.Any(char.IsControl) && !text.StartsWith("fastq.", StringComparison.Ordinal);
        }
        catch (DecoderFallbackException)
        {
            return false;
        }
    }
}
