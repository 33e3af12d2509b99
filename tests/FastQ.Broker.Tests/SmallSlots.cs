using System.Buffers.Binary;
using FastQ.Linux;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

/// <summary>A broker whose slots hold a mebibyte, so that they are soon full, used again and moved out of; and clients that make that happen.</summary>
internal static class SmallSlots
{
    public const int SlotBytes = 1 << 20, BodyBytes = 32 * 1024;

    public static RunningBroker Start(Func<BrokerOptions, BrokerOptions>? with = null) => RunningBroker.With(options =>
    {
        options = options with { SlotBytes = SlotBytes, MaxMessageBytes = 64 * 1024, BlockBytes = 16 * 1024 };
        return with is null ? options : with(options);
    });

    /// <summary>So many slots' worth of messages come and go.</summary>
    public static void Pass(RawClient client, int slots)
    {
        uint queue = client.Declare("passing");
        uint subscription = client.Subscribe(queue, credit: 10);
        byte[] body = new byte[BodyBytes];
        for (int passed = 0; passed < slots * SlotBytes; passed += BodyBytes)
        {
            client.PutMessage(queue, body);
            client.Commit();
            client.Accept(Assert.Single(client.NextDeliveries()));
        }

        Assert.Equal(RefusalCode.None, client.Ask(CommandKind.Unsubscribe, (FieldTag.Subscription, subscription)).Code);
    }

    /// <summary>Which use of a slot its file is in: a field of the segment's header.</summary>
    public static ulong SegmentOf(FileHandle slot)
    {
        const int NumberAt = 32;
        byte[] number = new byte[8];
        Assert.Equal(8, slot.ReadAt(number, NumberAt).OrThrow());
        return BinaryPrimitives.ReadUInt64LittleEndian(number);
    }

    /// <summary>The bytes of a delivery's record as its reader sees them now.</summary>
    public static byte[] Seen(RawClient reader, RawDelivery delivery)
    {
        byte[] record = new byte[delivery.Entry.LengthBytes];
        Assert.Equal(record.Length, reader.SlotFile(delivery.Entry.Slot).ReadAt(record, delivery.Entry.Offset).OrThrow());
        return record;
    }

    /// <summary>The slot's file is in another use, or has no name any more.</summary>
    public static bool IsLetGo(RunningBroker broker, FileHandle file, uint slot, ulong segment) =>
        SegmentOf(file) != segment || !File.Exists(Path.Combine(broker.SlotDirectory, $"{slot:D10}.slot"));
}
