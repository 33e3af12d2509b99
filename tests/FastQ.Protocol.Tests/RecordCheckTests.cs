using System.Text;
using Xunit;

namespace FastQ.Protocol;

public class RecordCheckTests
{
    // RFC 3720, appendix B.4; the last is the check value that the catalogues of CRCs give for "123456789".
    [Fact]
    public void The_check_is_crc_32c()
    {
        Assert.Equal(0x8A9136AAu, RecordCheck.Of(new byte[32]));
        Assert.Equal(0x62A8AB43u, RecordCheck.Of(Enumerable.Repeat((byte)0xFF, 32).ToArray()));
        Assert.Equal(0x46DD794Eu, RecordCheck.Of(Enumerable.Range(0, 32).Select(i => (byte)i).ToArray()));
        Assert.Equal(0x113FDB5Cu, RecordCheck.Of(Enumerable.Range(0, 32).Select(i => (byte)(31 - i)).ToArray()));
        Assert.Equal(0xE3069283u, RecordCheck.Of(Encoding.ASCII.GetBytes("123456789")));
    }

    [Fact]
    public void Any_length_gives_what_byte_by_byte_gives()
    {
        byte[] bytes = new byte[1300]; // Three rounds of three lanes, and what is left of a fourth.
        new Random(1).NextBytes(bytes);
        for (int length = 0; length <= bytes.Length; length++)
        {
            uint crc = uint.MaxValue;
            foreach (byte one in bytes.AsSpan(0, length))
            {
                crc ^= one;
                for (int bit = 0; bit < 8; bit++)
                {
                    crc = (crc >> 1) ^ ((crc & 1) * 0x82F63B78u);
                }
            }

            Assert.Equal(~crc, RecordCheck.Of(bytes.AsSpan(0, length)));
        }
    }

    [Fact]
    public void Nothing_outside_the_bytes_is_read()
    {
        using Guarded memory = new();
        for (int length = 0; length <= 70; length++)
        {
            memory.AtEnd(length).Fill(0x5A);
            memory.AtStart(length).Fill(0x5A);
            Assert.Equal(RecordCheck.Of(Enumerable.Repeat((byte)0x5A, length).ToArray()), RecordCheck.Of(memory.AtEnd(length)));
            Assert.Equal(RecordCheck.Of(memory.AtStart(length)), RecordCheck.Of(memory.AtEnd(length)));
        }
    }
}
