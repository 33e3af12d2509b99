using System.Text;
using Xunit;

namespace FastQ.Protocol;

public sealed class ReplyAddressTests
{
    [Theory]
    [InlineData(1, 1)]
    [InlineData(17, 4711)]
    [InlineData(ulong.MaxValue, ulong.MaxValue)]
    public void An_address_is_read_as_it_is_written(ulong producer, ulong request)
    {
        ReplyAddress address = new(producer, request);
        byte[] room = new byte[ReplyAddress.MostBytes];
        ReadOnlySpan<byte> text = room.AsSpan(0, address.Write(room));
        Assert.Equal($"fastq.reply.{producer}.{request}", Encoding.UTF8.GetString(text));
        Assert.Equal(address.ToString(), Encoding.UTF8.GetString(text));
        Assert.True(ReplyAddress.TryRead(text, out ReplyAddress read));
        Assert.Equal(address, read);
        Assert.False(Names.IsValid(text)); // No queue has such a name.
    }

    [Theory]
    [InlineData("")]
    [InlineData("answers")]
    [InlineData("fastq.reply.")]
    [InlineData("fastq.reply.7")]
    [InlineData("fastq.reply.7.")]
    [InlineData("fastq.reply..7")]
    [InlineData("fastq.reply.7.8.")]
    [InlineData("fastq.reply.7.8.9")]
    [InlineData("fastq.reply.7.8 ")]
    [InlineData("fastq.reply.0.8")]
    [InlineData("fastq.reply.7.0")]
    [InlineData("fastq.reply.07.8")]
    [InlineData("fastq.reply.+7.8")]
    [InlineData("fastq.reply.-7.8")]
    [InlineData("fastq.reply.18446744073709551616.1")]
    [InlineData("fastq.reply.7.18446744073709551616")]
    public void What_is_no_address_is_not_taken_for_one(string text) => Assert.False(ReplyAddress.TryRead(Encoding.UTF8.GetBytes(text), out _));
}
