using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using FastQ.Linux;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

/// <summary>What a client says first; each field can be wrong.</summary>
public sealed record Hello
{
    public ulong MinVersion { get; init; } = ProtocolVersion.Major;

    public ulong MaxVersion { get; init; } = ProtocolVersion.Major;

    public ulong Producer { get; init; }

    public ulong Instance { get; init; } = 4711;

    public ulong SubmissionRingBytes { get; init; }

    public ulong DeliveryRingBytes { get; init; }

    public bool WantsCopies { get; init; }

    public string Namespace { get; init; } = "";
}

/// <summary>How the broker ended a connection: its last word, if it had one.</summary>
public readonly record struct Ending(RefusalCode Code, string Text);

/// <summary>One answer to a command.</summary>
public readonly record struct RawAnswer(RefusalCode Code, ulong Value, byte[] Fields)
{
    public ulong Number(FieldTag tag) => FieldReader.TryNumber(Fields, tag, out ulong value) ? value : 0;

    public string Text => FieldReader.TryBytes(Fields, FieldTag.Text, out ReadOnlySpan<byte> words) ? Encoding.UTF8.GetString(words) : "";
}

/// <summary>A delivery, with its record as it lies in the slot or came as a copy.</summary>
public readonly record struct RawDelivery(uint Subscription, ulong Number, DeliveryEntry Entry, byte[] Record)
{
    public MessageHeader Header => MemoryMarshal.Read<MessageHeader>(Record);

    public string Body => Encoding.UTF8.GetString(Record.AsSpan(MessageHeader.SizeBytes + Header.PropertyBytes));
}

// A client made of socket, memory files and rings alone, after the protocol's page. Nothing in it protects the broker: every step can be
// left out, done twice or done wrong.

/// <summary>One connection. One thread.</summary>
public sealed unsafe class RawClient : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(30);
    private readonly UnixSocket _socket;
    private readonly Dictionary<uint, FileHandle> _slots = [];
    private readonly Queue<byte[]> _answers = new();
    private readonly Queue<byte[]> _deliveries = new();
    private readonly Queue<byte[]> _notices = new();
    private EventDescriptor? _bell;
    private FileHandle? _pipe;
    private RawRings? _older;

    private RawClient(UnixSocket socket)
    {
        _socket = socket;
        socket.SetNonBlocking(true).OrThrow();
    }

    public UnixSocket Socket => _socket;

    /// <summary>The pair of memory files in use.</summary>
    public RawRings Rings { get; private set; } = null!;

    /// <summary>The pair offered last.</summary>
    public RawRings? Offered { get; private set; }

    public ulong Producer { get; private set; }

    /// <summary>The number of the next submission.</summary>
    public ulong NextNumber { get; set; }

    /// <summary>What goes on while it waits: nothing of ours, where the broker has a thread; a turn, where it is turned by hand.</summary>
    public Action Meanwhile { get; set; } = static () => { };

    /// <summary>A connection that has said nothing yet.</summary>
    public static RawClient Dial(string path) => new(UnixSocket.Connect(path).OrThrow());

    /// <param name="meanwhile">See <see cref="Meanwhile"/>.</param>
    public static RawClient Connect(string path, Hello hello, Action? meanwhile = null)
    {
        RawClient client = Dial(path);
        client.Meanwhile = meanwhile ?? client.Meanwhile;
        client.SayHello(hello);
        client.TakeWelcome();
        client.Rings.Map();
        client.SayMapped();
        return client;
    }

    // ---- the socket

    public void Say(HandshakeKind kind, ReadOnlySpan<byte> fields = default)
    {
        byte[] message = new byte[Handshake.HeaderBytes + fields.Length];
        Handshake.WriteHeader(message, kind);
        fields.CopyTo(message.AsSpan(Handshake.HeaderBytes));
        _ = _socket.Send(message); // A broker that has hung up already says so when it is listened to.
    }

    public void SayHello(Hello hello)
    {
        byte[] room = new byte[1024];
        FieldWriter fields = new(room);
        fields.Number(FieldTag.MinVersion, hello.MinVersion);
        fields.Number(FieldTag.MaxVersion, hello.MaxVersion);
        fields.Text(FieldTag.ClientName, "raw");
        Span<ulong> instance = [hello.Instance, hello.Instance];
        fields.Bytes(FieldTag.Instance, MemoryMarshal.AsBytes(instance));
        fields.Number(FieldTag.Producer, hello.Producer);
        fields.Number(FieldTag.SubmissionRingBytes, hello.SubmissionRingBytes);
        fields.Number(FieldTag.DeliveryRingBytes, hello.DeliveryRingBytes);
        fields.Number(FieldTag.WantsCopies, hello.WantsCopies ? 1u : 0u);
        fields.Text(FieldTag.Namespace, hello.Namespace);
        Say(HandshakeKind.Hello, fields.Written);
    }

    public void SayMapped() => Say(HandshakeKind.Mapped);

    public void TakeWelcome()
    {
        (HandshakeKind kind, byte[] fields, int[] descriptors) = Hear();
        Assert.True(kind == HandshakeKind.Welcome, $"{kind} came instead of Welcome: {EndingOf(fields)}");
        Assert.Equal(4, descriptors.Length);
        Rings = new RawRings(0, Number(fields, FieldTag.SubmissionRingBytes), Number(fields, FieldTag.DeliveryRingBytes), descriptors[0], descriptors[1]);
        _bell = EventDescriptor.Adopt(descriptors[2]);
        _pipe = FileHandle.Adopt(descriptors[3], "doorbell");
        Producer = Number(fields, FieldTag.Producer);
        NextNumber = Number(fields, FieldTag.NextNumber);
    }

    /// <summary>Waits for the broker to end this connection. What it says before that is passed over.</summary>
    public Ending WaitForEnd()
    {
        Ending ending = default;
        while (true)
        {
            (HandshakeKind kind, byte[] fields, int[] descriptors) = Hear();
            Array.ForEach(descriptors, descriptor => FileHandle.Adopt(descriptor, "unwanted").Dispose());
            switch (kind)
            {
                case HandshakeKind.None:
                    return ending;
                case HandshakeKind.Refused or HandshakeKind.Ended:
                    ending = EndingOf(fields);
                    break;
            }
        }
    }

    /// <summary>The next message; None: the broker has hung up.</summary>
    public (HandshakeKind Kind, byte[] Fields, int[] Descriptors) Hear()
    {
        (HandshakeKind, byte[], int[]) heard = default;
        bool isHeard = SpinWait.SpinUntil(
            () =>
            {
                Meanwhile();
                return TryHear(out heard);
            },
            s_patience);
        Assert.True(isHeard, "The broker says nothing and does not hang up.");
        return heard;
    }

    /// <summary>Takes a message, if one is there.</summary>
    public bool TryHear(out (HandshakeKind Kind, byte[] Fields, int[] Descriptors) heard)
    {
        heard = (HandshakeKind.None, [], []);
        Span<byte> message = new byte[Limits.MaxHandshakeBytes];
        Span<int> descriptors = stackalloc int[Limits.MaxSlotsPerMessage];
        Result<Received> received = _socket.Receive(message, descriptors);
        if (!received.Ok && received.Fault.Errno == Errno.EAGAIN)
        {
            return false;
        }

        Assert.True(received.Ok, received.Ok ? "" : received.Fault.ToString()); // A last word must not hide behind ECONNRESET.
        if (received.Value.Bytes > 0)
        {
            Assert.True(Handshake.TryRead(message[..received.Value.Bytes], out HandshakeKind kind, out ReadOnlySpan<byte> fields));
            heard = (kind, fields.ToArray(), descriptors[..received.Value.Descriptors].ToArray());
        }

        return true;
    }

    private static Ending EndingOf(ReadOnlySpan<byte> fields) =>
        new((RefusalCode)Number(fields, FieldTag.Code), FieldReader.TryBytes(fields, FieldTag.Text, out ReadOnlySpan<byte> words) ? Encoding.UTF8.GetString(words) : "");

    private static ulong Number(ReadOnlySpan<byte> fields, FieldTag tag) => FieldReader.TryNumber(fields, tag, out ulong value) ? value : 0;

    /// <summary>Takes one message and does with it what a client must.</summary>
    private void LookAtSocket()
    {
        if (!TryHear(out (HandshakeKind Kind, byte[] Fields, int[] Descriptors) heard))
        {
            return;
        }

        switch (heard.Kind)
        {
            case HandshakeKind.Slots:
                _slots[(uint)Number(heard.Fields, FieldTag.Slot)] = FileHandle.Adopt(heard.Descriptors[0], "slot");
                Put(new ControlRecord { Kind = RecordKind.SlotsMapped, Subject = 1 });
                Commit();
                break;
            case HandshakeKind.Rings:
                Offered = new RawRings(Number(heard.Fields, FieldTag.Ring), Number(heard.Fields, FieldTag.SubmissionRingBytes), Number(heard.Fields, FieldTag.DeliveryRingBytes), heard.Descriptors[0], heard.Descriptors[1]);
                break;
            default:
                Assert.Fail($"The broker ended this session: {heard.Kind}, {EndingOf(heard.Fields)}");
                break;
        }
    }

    /// <summary>Asks for larger rings and waits for the offer.</summary>
    public RawRings AskForGrowth(uint submissionBytes)
    {
        Put(new ControlRecord { Kind = RecordKind.GrowRings, Subject = submissionBytes });
        Commit();
        Wait(() => Offered is not null, "larger rings were offered");
        return Offered!;
    }

    /// <summary>Writes into the offered pair from now on.</summary>
    public void MoveSubmissions()
    {
        _older = Rings;
        Rings = Offered!;
        Offered = null;
    }

    public void ClosePipe() => _pipe!.Dispose();

    /// <summary>The broker has rung since this was last asked.</summary>
    public bool TakeRing()
    {
        bool rang = Poll.Wait(_pipe!.Descriptor, _pipe.Descriptor, 0).First;
        if (rang)
        {
            Pipe.Drain(_pipe);
        }

        return rang;
    }

    // ---- the submission ring

    /// <summary>Rings the doorbell.</summary>
    public void Ring() => _bell!.Signal();

    /// <summary>Writes a record of any kind at the private head; its length is put right when it is zero.</summary>
    public void Put<T>(T record, ReadOnlySpan<byte> payload = default)
        where T : unmanaged
    {
        byte[] bytes = new byte[sizeof(T) + payload.Length];
        MemoryMarshal.Write(bytes, record);
        payload.CopyTo(bytes.AsSpan(sizeof(T)));
        if (MemoryMarshal.Read<uint>(bytes) == 0)
        {
            MemoryMarshal.Write(bytes, (uint)bytes.Length);
        }

        PutBytes(bytes);
    }

    public void PutBytes(ReadOnlySpan<byte> record)
    {
        record.CopyTo(Rings.Next(record.Length));
        Rings.Head += (ulong)Limits.Align(record.Length);
    }

    public void PutMessage(uint queue, ReadOnlySpan<byte> body, ConfirmLevel level = ConfirmLevel.Written)
    {
        Put(MessageOf(queue, body) with { Flags = (byte)level }, body);
        NextNumber++;
    }

    /// <summary>The header that belongs to a body; the number is the next one.</summary>
    public MessageHeader MessageOf(uint queue, ReadOnlySpan<byte> body) =>
        new() { Kind = RecordKind.Message, Queue = queue, NumberOrTimeMicros = NextNumber, Check = RecordCheck.Of(body), Flags = (byte)ConfirmLevel.Written };

    /// <summary>Shows the broker what was put, and rings.</summary>
    public void Commit()
    {
        Rings.ShowHead(Rings.Head);
        Ring();
    }

    /// <summary>Waits until everything up to this submission is written.</summary>
    public void WaitForWritten(ulong number) => Wait(() => Rings.Written >= number, $"submission {number} is written");

    public void SayBye()
    {
        Put(new ControlRecord { Kind = RecordKind.Bye });
        Commit();
        _ = WaitForEnd();
    }

    // ---- the delivery ring

    /// <summary>The next record that is neither an answer nor a delivery.</summary>
    public NoticeRecord NextNotice() => MemoryMarshal.Read<NoticeRecord>(Next(_notices));

    /// <summary>Those that came and were not looked at.</summary>
    public NoticeRecord[] NoticesTaken() => [.. RecordsTaken().Select(record => MemoryMarshal.Read<NoticeRecord>(record))];

    /// <summary>As above, whole: replies, too.</summary>
    public byte[][] RecordsTaken()
    {
        byte[][] taken = [.. _notices];
        _notices.Clear();
        return taken;
    }

    private byte[] Next(Queue<byte[]> records)
    {
        Wait(() => records.Count > 0, "a record came");
        return records.Dequeue();
    }

    /// <summary>Reads the delivery ring as far as it goes, and says so.</summary>
    public void Drain()
    {
        while (Rings.Position < Rings.DeliveryHead)
        {
            byte[] record = Rings.Read();
            Rings.Position += (ulong)Limits.Align(record.Length);
            Queue<byte[]> records = (RecordKind)record[4] switch
            {
                RecordKind.Answer => _answers,
                RecordKind.Deliveries or RecordKind.DeliveryCopy => _deliveries,
                _ => _notices,
            };
            records.Enqueue(record);
        }

        Rings.ShowPosition(Rings.Position);
    }

    /// <summary>Takes so many records from the ring, and says so; the rest stays where it is.</summary>
    public void Take(int records)
    {
        for (int i = 0; i < records; i++)
        {
            byte[] record = Rings.Read();
            Rings.Position += (ulong)Limits.Align(record.Length);
        }

        Rings.ShowPosition(Rings.Position);
    }

    /// <summary>Waits for a condition and takes what comes meanwhile, as a client must.</summary>
    public void Wait(Func<bool> condition, string what)
    {
        bool met = SpinWait.SpinUntil(
            () =>
            {
                Meanwhile();
                LookAtSocket();
                Drain();
                return condition();
            },
            s_patience);
        Assert.True(met, $"In vain: {what}.");
    }

    /// <summary>Sends a command and waits for its last answer.</summary>
    public RawAnswer Ask(CommandKind command, ReadOnlySpan<byte> fields = default)
    {
        ulong number = NextNumber++;
        Put(new CommandRecord { Kind = RecordKind.Command, Command = command, Number = number, Flags = (byte)ConfirmLevel.Written }, fields);
        Commit();
        List<byte> payload = [];
        while (true)
        {
            byte[] record = Next(_answers);
            AnswerRecord answer = MemoryMarshal.Read<AnswerRecord>(record);
            Assert.Equal(number, answer.Number);
            payload.AddRange(record.AsSpan(AnswerRecord.SizeBytes));
            if ((answer.Flags & AnswerRecord.More) == 0)
            {
                return new RawAnswer(answer.Code, answer.Value, [.. payload]);
            }
        }
    }

    public RawAnswer Ask(CommandKind command, params (FieldTag Tag, ulong Value)[] numbers)
    {
        byte[] room = new byte[256];
        FieldWriter fields = new(room);
        foreach ((FieldTag tag, ulong value) in numbers)
        {
            fields.Number(tag, value);
        }

        return Ask(command, fields.Written);
    }

    public RawAnswer DeclareNamed(ReadOnlySpan<byte> name, ulong? lease = null, ulong? maxDeliveries = null)
    {
        byte[] room = new byte[1024];
        FieldWriter fields = new(room);
        fields.Bytes(FieldTag.Name, name);
        if (lease is ulong milliseconds)
        {
            fields.Number(FieldTag.LeaseMilliseconds, milliseconds);
        }

        if (maxDeliveries is not null)
        {
            fields.Number(FieldTag.MaxDeliveries, maxDeliveries.Value);
        }

        return Ask(CommandKind.DeclareQueue, fields.Written);
    }

    public uint Declare(string name, ulong? maxDeliveries = null)
    {
        RawAnswer answer = DeclareNamed(Encoding.UTF8.GetBytes(name), maxDeliveries: maxDeliveries);
        Assert.Equal(RefusalCode.None, answer.Code);
        return (uint)answer.Number(FieldTag.Queue);
    }

    public uint Subscribe(uint queue, ulong credit = 1000)
    {
        RawAnswer answer = Ask(CommandKind.Subscribe, (FieldTag.Queue, queue), (FieldTag.CreditMessages, credit));
        Assert.Equal(RefusalCode.None, answer.Code);
        return (uint)answer.Number(FieldTag.Subscription);
    }

    /// <summary>The refusal of the submission that was sent last.</summary>
    public NoticeRecord NextRefusal()
    {
        NoticeRecord notice = NextNotice();
        Assert.Equal(RecordKind.Refused, notice.Kind);
        Assert.Equal(NextNumber - 1, notice.Number);
        return notice;
    }

    /// <summary>Records of deliveries that came and were not asked for yet.</summary>
    public int DeliveriesWaiting => _deliveries.Count;

    /// <summary>The next run of deliveries, read through the slot's file.</summary>
    public List<RawDelivery> NextDeliveries()
    {
        byte[] record = Next(_deliveries);
        DeliveriesHeader header = MemoryMarshal.Read<DeliveriesHeader>(record);
        List<RawDelivery> deliveries = [];
        ReadOnlySpan<byte> entries = record.AsSpan(DeliveriesHeader.SizeBytes, header.Count * DeliveryEntry.SizeBytes);
        foreach (DeliveryEntry entry in MemoryMarshal.Cast<byte, DeliveryEntry>(entries))
        {
            byte[] message = header.Kind == RecordKind.DeliveryCopy ? record[(DeliveriesHeader.SizeBytes + DeliveryEntry.SizeBytes)..] : ReadSlot(entry);
            deliveries.Add(new RawDelivery(header.Subscription, header.FirstDelivery + (ulong)deliveries.Count, entry, message));
        }

        return deliveries;
    }

    /// <summary>The file of a slot, as it came with a delivery out of it.</summary>
    public FileHandle SlotFile(uint slot) => _slots[slot];

    private byte[] ReadSlot(DeliveryEntry entry)
    {
        Wait(() => _slots.ContainsKey(entry.Slot), $"slot {entry.Slot} came");
        byte[] message = new byte[entry.LengthBytes];
        Assert.Equal(message.Length, _slots[entry.Slot].ReadAt(message, entry.Offset).OrThrow());
        return message;
    }

    public void Accept(RawDelivery delivery)
    {
        Put(new SettleRecord { Kind = RecordKind.Settle, Number = NextNumber++, Subscription = delivery.Subscription, Count = 1, FirstDelivery = delivery.Number, Flags = SettleRecord.FlagsOf(Outcome.Accept, ConfirmLevel.Written) });
        Commit();
        WaitForWritten(NextNumber - 1);
    }

    /// <summary>One message goes through the broker and back, and is accepted.</summary>
    public void MustDeliver(string body)
    {
        uint queue = Declare($"honest-{Guid.NewGuid()}");
        uint subscription = Subscribe(queue);
        PutMessage(queue, Encoding.UTF8.GetBytes(body));
        Commit();
        RawDelivery delivery = Assert.Single(NextDeliveries());
        Assert.Equal((subscription, body), (delivery.Subscription, delivery.Body));
        Accept(delivery);
        Assert.Equal(RefusalCode.None, Ask(CommandKind.DeleteQueue, (FieldTag.Queue, queue)).Code);
    }

    /// <summary>A number of the broker's statistics.</summary>
    public long Statistic(string name)
    {
        RawAnswer answer = Ask(CommandKind.Statistics);
        List<byte> json = [];
        FieldReader fields = new(answer.Fields);
        while (fields.Next())
        {
            json.AddRange(fields.Value);
        }

        using JsonDocument document = JsonDocument.Parse(json.ToArray());
        return document.RootElement.GetProperty(name).GetInt64();
    }

    public RawAnswer Show(uint queue) => Ask(CommandKind.ShowQueue, (FieldTag.Queue, queue));

    /// <summary>Dies: all is closed without a word.</summary>
    public void Dispose()
    {
        Rings?.Dispose();
        Offered?.Dispose();
        _older?.Dispose();
        _bell?.Dispose();
        _pipe?.Dispose();
        foreach (FileHandle slot in _slots.Values)
        {
            slot.Dispose();
        }

        _socket.Dispose();
    }
}
