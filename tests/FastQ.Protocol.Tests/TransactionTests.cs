using System.Runtime.InteropServices;
using Xunit;

namespace FastQ.Protocol;

public sealed class TransactionTests
{
    private const ulong First = 100;

    [Fact]
    public void What_is_whole_is_walked_record_by_record()
    {
        byte[] records = Whole();
        Assert.Equal("", TransactionReader.Fault(records, First, 3));
        TransactionReader reader = new(records);
        List<(RecordKind, int, int)> walked = [];
        while (reader.Next())
        {
            walked.Add((reader.Kind, reader.Offset, reader.Record.Length));
        }

        Assert.Equal([(RecordKind.Message, 0, 35), (RecordKind.Settle, 40, 40), (RecordKind.Message, 80, 33)], walked);
    }

    /// <summary>Whatever bytes stand there: a verdict, never an exception; and what passes is walked to its end.</summary>
    [Fact]
    public void Any_byte_that_is_another_and_any_other_length_or_count_has_a_verdict()
    {
        byte[] whole = Whole();
        int faults = 0;
        for (int at = 0; at < whole.Length; at++)
        {
            foreach (byte flip in (byte[])[1, 0x80, 0xFF])
            {
                byte[] records = [.. whole];
                records[at] ^= flip;
                faults += Judge(records, 3);
            }
        }

        Assert.InRange(faults, whole.Length, 3 * whole.Length); // What lengths, kinds, numbers and checks say; queue ids and the like are the engine's to judge.
        for (int length = 0; length < whole.Length; length++)
        {
            Assert.NotEqual("", TransactionReader.Fault(whole.AsSpan(0, length), First, 3));
        }

        Assert.All((uint[])[0, 1, 2, 4, 65_536], count => Assert.NotEqual("", TransactionReader.Fault(whole, First, count)));
        Assert.NotEqual("", TransactionReader.Fault(whole, First + 1, 3));
        Assert.NotEqual("", TransactionReader.Fault([.. whole, .. new byte[8]], First, 3));
    }

    private static int Judge(byte[] records, uint count)
    {
        if (TransactionReader.Fault(records, First, count).Length > 0)
        {
            return 1;
        }

        int walked = 0;
        TransactionReader reader = new(records);
        while (reader.Next())
        {
            walked++;
            Assert.InRange(reader.Record.Length, MessageHeader.SizeBytes, records.Length);
        }

        Assert.Equal((int)count, walked);
        return 0;
    }

    private static byte[] Whole() => [.. Message(First, 3), .. Settle(First + 1), .. Message(First + 2, 1)];

    private static byte[] Message(ulong number, int bodyBytes)
    {
        byte[] record = new byte[Limits.Align(MessageHeader.SizeBytes + bodyBytes)];
        record.AsSpan(MessageHeader.SizeBytes, bodyBytes).Fill(7);
        MemoryMarshal.Write(record, new MessageHeader { LengthBytes = (uint)(MessageHeader.SizeBytes + bodyBytes), Kind = RecordKind.Message, NumberOrTimeMicros = number, Queue = 1, Check = RecordCheck.Of(record.AsSpan(MessageHeader.SizeBytes, bodyBytes)) });
        return record;
    }

    private static byte[] Settle(ulong number)
    {
        byte[] record = new byte[SettleRecord.SizeBytes];
        MemoryMarshal.Write(record, new SettleRecord { LengthBytes = SettleRecord.SizeBytes, Kind = RecordKind.Settle, Number = number, Subscription = 1, Count = 2, FirstDelivery = 3 });
        return record;
    }
}
