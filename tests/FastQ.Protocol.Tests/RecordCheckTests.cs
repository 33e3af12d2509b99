using System.Runtime.InteropServices;
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

    [Fact]
    public void A_message_holds_and_with_any_bit_of_its_length_check_properties_or_body_turned_over_it_does_not()
    {
        byte[] record = MessageWith(headers: 2, "a body of words, as they are"u8);
        Assert.True(RecordCheck.Holds(record));
        foreach (int at in Enumerable.Range(0, 4).Concat(Enumerable.Range(20, 4)).Concat(Enumerable.Range(MessageHeader.SizeBytes, record.Length - MessageHeader.SizeBytes)))
        {
            for (int bit = 0; bit < 8; bit++)
            {
                byte[] rotten = [.. record];
                rotten[at] ^= (byte)(1 << bit);
                Assert.False(RecordCheck.Holds(rotten), $"bit {bit} of byte {at}");
            }
        }

        for (int length = 0; length < record.Length; length++)
        {
            Assert.False(RecordCheck.Holds(record.AsSpan(0, length)));
        }
    }

    // The check covers the same bytes wherever the border between them lies.
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(3)]
    public void A_message_whose_body_begins_elsewhere_than_its_properties_end_does_not_hold(int headers)
    {
        byte[] record = MessageWith(headers, "a body of words, as they are"u8);
        for (int bit = 0; bit < 16; bit++)
        {
            byte[] moved = [.. record];
            moved[6 + bit / 8] ^= (byte)(1 << bit % 8);
            Assert.False(RecordCheck.Holds(moved), $"bit {bit}");
        }
    }

    private static byte[] MessageWith(int headers, ReadOnlySpan<byte> body)
    {
        PropertyWriter properties = new(new byte[256]);
        for (int i = 0; i < headers; i++)
        {
            properties.Header($"key {i}", $"value {i}");
        }

        byte[] record = [.. new byte[MessageHeader.SizeBytes], .. properties.Written, .. body];
        MemoryMarshal.Write(record, new MessageHeader { LengthBytes = (uint)record.Length, Kind = RecordKind.Message, PropertyBytes = (ushort)properties.Length, Check = RecordCheck.Of(record.AsSpan(MessageHeader.SizeBytes)) });
        return record;
    }
}
