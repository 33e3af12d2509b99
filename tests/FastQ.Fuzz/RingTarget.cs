using System.Runtime.InteropServices;
using System.Text;
using FastQ.Broker;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Fuzz;

// A session whose client writes what it likes into its submission ring: | what is put right and how it is shown, as bits | the ring's bytes |
internal sealed class RingTarget : ITarget
{
    private const byte ChecksRight = 1, NumbersRight = 2, OneByOne = 4, HeadFromBytes = 8, PositionFromBytes = 16, Copies = 32;

    public IEnumerable<byte[]> Seeds
    {
        get
        {
            byte[] body = new byte[100];
            byte[] named = Fields((ref FieldWriter fields) => fields.Text(FieldTag.Name, "q"));
            byte[] subscribed = Fields((ref FieldWriter fields) => { fields.Number(FieldTag.Queue, 1); fields.Number(FieldTag.CreditMessages, 10); });
            byte[] onQueue = Fields((ref FieldWriter fields) => fields.Number(FieldTag.Queue, 1));
            byte[] declare = Record(new CommandRecord { Kind = RecordKind.Command, Command = CommandKind.DeclareQueue, Number = 1 }, named);
            byte[] subscribe = Record(new CommandRecord { Kind = RecordKind.Command, Command = CommandKind.Subscribe, Number = 2 }, subscribed);
            byte[] message = Record(new MessageHeader { Kind = RecordKind.Message, Flags = (byte)ConfirmLevel.Durable, Queue = 1, NumberOrTimeMicros = 3, Check = RecordCheck.Of(body) }, body);
            byte[] settle = Record(new SettleRecord { Kind = RecordKind.Settle, Flags = SettleRecord.FlagsOf(Outcome.Accept, ConfirmLevel.Written), Subscription = 1, FirstDelivery = 1, Count = 1, Number = 4 }, []);
            byte[] extend = Record(new SettleRecord { Kind = RecordKind.Extend, Subscription = 1, FirstDelivery = 1, Count = 2, Milliseconds = 60_000, Number = 4 }, []);
            byte[] begun = [.. declare, .. subscribe, .. message, .. message];
            foreach (byte right in (byte[])[ChecksRight | NumbersRight | OneByOne, ChecksRight | NumbersRight, NumbersRight | OneByOne | Copies | ChecksRight, 0])
            {
                yield return [right, .. begun, .. settle, .. extend];
                yield return [right, .. begun, .. message, .. extend, .. settle, .. settle];
            }

            foreach (RecordKind kind in Enum.GetValues<RecordKind>().Where(kind => kind is >= RecordKind.Credit and <= RecordKind.Bye))
            {
                yield return [ChecksRight | NumbersRight | OneByOne, .. begun, .. Record(new ControlRecord { Kind = kind, Subject = 1, Count = 1, Value = 1 }, []), .. message];
            }

            foreach (CommandKind kind in Enum.GetValues<CommandKind>())
            {
                yield return [ChecksRight | NumbersRight | OneByOne, .. begun, .. Record(new CommandRecord { Kind = RecordKind.Command, Command = kind }, kind is CommandKind.FindQueue or CommandKind.DeclareQueue ? named : onQueue), .. message];
            }

            for (byte kind = 0; kind <= (byte)RecordKind.Bye + 1; kind += (byte)(kind == (byte)RecordKind.Command + 1 ? RecordKind.Credit - RecordKind.Command - 1 : 1))
            {
                yield return [OneByOne, .. begun, 8, 0, 0, 0, kind, 0, 0, 0]; // Nothing but a prefix.
                yield return [OneByOne, .. begun, 16, 0, 0, 0, kind, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0];
            }

            yield return [HeadFromBytes, .. begun];
            yield return [ChecksRight | NumbersRight | PositionFromBytes, .. begun];
        }
    }

    public void Run(byte[] input)
    {
        using LiveBroker broker = new();
        using (RawClient client = RawClient.Dial(broker.Socket))
        {
            byte how = input.Length > 0 ? input[0] : (byte)0;
            client.SayHello(new Hello { WantsCopies = (how & Copies) != 0 });
            broker.Settle();
            client.TakeWelcome();
            client.Rings.Map();
            client.SayMapped();
            broker.Settle();
            Scribble(broker, client.Rings, input.AsSpan(Math.Min(1, input.Length)).ToArray(), how);
            while (client.TryHear(out (HandshakeKind Kind, byte[] Fields, int[] Descriptors) heard) && heard.Kind != HandshakeKind.None)
            {
                Array.ForEach(heard.Descriptors, descriptor => FileHandle.Adopt(descriptor, "heard").Dispose());
            }
        }

        broker.MustStartAgainTheSame();
    }

    public void Dispose()
    {
    }

    private static void Scribble(LiveBroker broker, RawRings rings, byte[] bytes, byte how)
    {
        int length = Math.Min(bytes.Length, rings.SubmissionBytes) & ~7;
        List<int> ends = Walk(bytes.AsSpan(0, length), how);
        bytes.AsSpan(0, length).CopyTo(rings.Submissions);
        if ((how & OneByOne) != 0)
        {
            foreach (int end in ends)
            {
                rings.ShowHead((ulong)end);
                broker.Turn(4);
                rings.ShowPosition(rings.DeliveryHead);
            }
        }

        ulong last = length >= 8 ? BitConverter.ToUInt64(bytes, length - 8) : 0;
        rings.ShowHead((how & HeadFromBytes) != 0 ? last : (ulong)length);
        rings.ShowPosition((how & PositionFromBytes) != 0 ? last : rings.DeliveryHead);
        broker.Settle();
        rings.ShowPosition(rings.DeliveryHead);
        broker.Settle();
    }

    /// <summary>Where each record ends that can be made out; puts right what an honest client would have right.</summary>
    private static List<int> Walk(Span<byte> bytes, byte how)
    {
        List<int> ends = [];
        ulong number = 1;
        for (int at = 0; bytes.Length - at >= RecordPrefix.SizeBytes;)
        {
            RecordPrefix prefix = MemoryMarshal.Read<RecordPrefix>(bytes[at..]);
            if (prefix.LengthBytes < RecordPrefix.SizeBytes || prefix.LengthBytes > bytes.Length - at)
            {
                break;
            }

            Span<byte> record = bytes.Slice(at, (int)prefix.LengthBytes);
            if ((how & NumbersRight) != 0 && prefix.Kind is >= RecordKind.Message and <= RecordKind.Command && record.Length >= 16)
            {
                MemoryMarshal.Write(record[8..], number++);
            }

            if ((how & ChecksRight) != 0 && prefix.Kind == RecordKind.Message && record.Length >= MessageHeader.SizeBytes)
            {
                MessageHeader header = MemoryMarshal.Read<MessageHeader>(record);
                header.Check = RecordCheck.Of(record[MessageHeader.SizeBytes..]);
                MemoryMarshal.Write(record, header);
            }

            at += Limits.Align((int)prefix.LengthBytes);
            ends.Add(Math.Min(at, bytes.Length));
        }

        return ends;
    }

    private delegate void Write(ref FieldWriter fields);

    private static byte[] Fields(Write write)
    {
        FieldWriter fields = new(new byte[256]);
        write(ref fields);
        return fields.Written.ToArray();
    }

    /// <summary>A record with its length, padded.</summary>
    private static unsafe byte[] Record<T>(T record, ReadOnlySpan<byte> payload)
        where T : unmanaged
    {
        byte[] bytes = new byte[Limits.Align(sizeof(T) + payload.Length)];
        MemoryMarshal.Write(bytes, record);
        payload.CopyTo(bytes.AsSpan(sizeof(T)));
        MemoryMarshal.Write(bytes, sizeof(T) + payload.Length);
        return bytes;
    }
}
