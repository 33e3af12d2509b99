using System.Text;

namespace FastQ.Protocol;

/// <summary>Every byte vector, as this code writes it: file name and content. Numbers are chosen so that no two fields of a record look alike.</summary>
internal static class Vectors
{
    private const ulong Number = 0x0102030405060708, Delivery = 0x1112131415161718, Token = 0x2122232425262728, Tag = 0x3132333435363738;
    private const long Micros = 0x0006_4A2B_1C0D_3E4F;
    private const uint Subscription = 0x41424344, Queue = 0x51525354, Slot = 0x61626364, Offset = 0x00010208;

    private static readonly byte[] s_body = "Hello, world!"u8.ToArray();

    public static IEnumerable<(string File, Vector Vector)> All =>
        Records.Select(row => ($"record-{row.Kind}.hex", row.Vector))
            .Concat(Messages.Select(row => ($"socket-{row.Kind}.hex", row.Vector)))
            .Append(("properties.hex", new Vector("Properties of each tag and of each type.").Properties(AllProperties())))
            .Append(("value-List.hex", new Vector("The value of a list: one of each type, the last two within one another.").Value(PropertyType.List, List())))
            .Append(("value-Table.hex", new Vector("The value of a table: a list and a table in it, and empty ones.").Value(PropertyType.Table, Table())))
            .Append(("refusals.hex", Refusals()));

    public static IEnumerable<(RecordKind Kind, Vector Vector)> Records =>
        SubmissionRecords.Concat(ReplyRecords).Concat(ControlRecords).Concat(DeliveryRecords).Concat(NoticeRecords).Concat(JournalRecords).Concat(FactRecords);

    private static IEnumerable<(RecordKind Kind, Vector Vector)> SubmissionRecords =>
    [
        (RecordKind.Message, Message(new Vector("Message: as a producer writes it into its ring. Two properties, a body of 13 bytes. It waits for Durable."), RecordKind.Message, Number, 0, ConfirmLevel.Durable).Padding()),
        (RecordKind.Settle, new Vector("Settle: 7 deliveries are rejected, and this is to be Written.").Struct(new SettleRecord
        {
            LengthBytes = SettleRecord.SizeBytes,
            Kind = RecordKind.Settle,
            Flags = SettleRecord.FlagsOf(Outcome.Reject, ConfirmLevel.Written),
            Number = Number,
            Subscription = Subscription,
            Count = 7,
            FirstDelivery = Delivery,
        })),
        (RecordKind.Extend, new Vector("Extend: 7 deliveries get 45 seconds from now on. Nobody waits for it.").Struct(new SettleRecord
        {
            LengthBytes = SettleRecord.SizeBytes,
            Kind = RecordKind.Extend,
            Number = Number,
            Subscription = Subscription,
            Count = 7,
            FirstDelivery = Delivery,
            Milliseconds = 45_000,
        })),
        (RecordKind.Command, Command()),
        (RecordKind.Transaction, Transaction()),
    ];

    private static IEnumerable<(RecordKind Kind, Vector Vector)> ControlRecords =>
    [
        Control(RecordKind.Credit, "1,000 deliveries of together 1 MiB may be unsettled.", Subscription, 1000, 1 << 20),
        Control(RecordKind.Done, "the bytes of 7 deliveries are no longer read.", Subscription, 7, Delivery),
        Control(RecordKind.RefusalsSeen, "all refusals up to this number were taken.", 0, 0, Number),
        Control(RecordKind.SlotsMapped, "2 Slots messages were taken.", 2, 0, 0),
        Control(RecordKind.GrowRings, "a submission ring of 1 MiB is wanted, and a delivery ring of 512 KiB.", 1 << 20, 1 << 19, 0),
        Control(RecordKind.ClientMovesRing, "the next record stands in ring 1.", 1, 0, 0),
        Control(RecordKind.Damaged, "the record of this delivery does not have its check.", Subscription, 0, Delivery),
        Control(RecordKind.Bye, "the session ends in good order.", 0, 0, 0),
    ];

    private static IEnumerable<(RecordKind Kind, Vector Vector)> ReplyRecords =>
    [
        (RecordKind.Reply, Reply(new Vector("Reply: the third part of an answer, of 13 bytes, with a media type; more follow, and its sender wants to be told."), RecordKind.Reply, ReplyRecord.WantsWord, 2, Tag, Token)),
        (RecordKind.RepliesUnwanted, new Vector("RepliesUnwanted: nobody waits for parts of the answer to this request any more.").Struct(new ReplyRecord { LengthBytes = ReplyRecord.SizeBytes, Kind = RecordKind.RepliesUnwanted, Request = Number })),
        (RecordKind.ReplyDelivered, Reply(new Vector("ReplyDelivered: the only part of an answer."), RecordKind.ReplyDelivered, ReplyRecord.Last, 0, 0, 0)),
        (RecordKind.ReplyEnded, Notice("ReplyEnded: the requester is not there any more.", RecordKind.ReplyEnded, RefusalCode.NoRequester, Token, 0, 0, 0)),
    ];

    private static Vector Reply(Vector vector, RecordKind kind, byte flags, uint part, ulong producer, ulong cookie)
    {
        PropertyWriter properties = new(new byte[100]);
        properties.Text(PropertyTag.ContentType, "text/plain");
        byte[] payload = [.. properties.Written, .. s_body];
        return vector.Struct(new ReplyRecord
        {
            LengthBytes = (uint)(ReplyRecord.SizeBytes + payload.Length),
            Kind = kind,
            Flags = flags,
            PropertyBytes = (ushort)properties.Length,
            Request = Number,
            Producer = producer,
            Cookie = cookie,
            Check = RecordCheck.Of(payload),
            Part = part,
        }).Properties(properties.Written).Line(s_body, "body Hello, world!").Padding();
    }

    private static IEnumerable<(RecordKind Kind, Vector Vector)> DeliveryRecords =>
    [
        (RecordKind.Deliveries, new Vector("Deliveries: two, by reference. The second is cold and was delivered before.")
            .Struct(Run(RecordKind.Deliveries, 2, DeliveriesHeader.SizeBytes + 2 * DeliveryEntry.SizeBytes))
            .Struct(new DeliveryEntry { Slot = Slot, Offset = Offset, LengthBytes = 200, DeliveryCount = 1 })
            .Struct(new DeliveryEntry { Slot = Slot + 1, Offset = 4096, LengthBytes = 16_777_264, DeliveryCount = ushort.MaxValue, Flags = DeliveryEntry.Cold | DeliveryEntry.Redelivered })),
        (RecordKind.DeliveryCopy, DeliveryCopy()),
        (RecordKind.Answer, Answer()),
    ];

    private static IEnumerable<(RecordKind Kind, Vector Vector)> NoticeRecords =>
    [
        (RecordKind.Refused, Notice("Refused: 3 submissions from this number on, for the body is larger than 65,536 bytes. With text.", RecordKind.Refused, RefusalCode.TooLarge, Number, 0, 3, 65_536, "The body has 70,000 bytes; 65,536 are allowed.")),
        (RecordKind.LateSettle, Notice("LateSettle: of a settle, 2 deliveries had lost their lease.", RecordKind.LateSettle, RefusalCode.LeaseLost, Number, Subscription, 2, Delivery)),
        (RecordKind.SlotRetired, Notice("SlotRetired: unmap this slot.", RecordKind.SlotRetired, RefusalCode.None, 0, Slot, 0, 0)),
        (RecordKind.BrokerMovesRing, Notice("BrokerMovesRing: the next record stands in ring 1.", RecordKind.BrokerMovesRing, RefusalCode.None, 0, 1, 0, 0)),
        (RecordKind.Routed, Notice("Routed: ten queues took this message to an exchange.", RecordKind.Routed, RefusalCode.None, Number, 0, 0, 10)),
        (RecordKind.SubscriptionEnded, Notice("SubscriptionEnded: its queue was deleted.", RecordKind.SubscriptionEnded, RefusalCode.QueueDeleted, 0, Subscription, 0, 0)),
    ];

    private static IEnumerable<(RecordKind Kind, Vector Vector)> JournalRecords =>
    [
        (RecordKind.Source, new Vector("Source: what follows was decided at these times.").Struct(new SourceRecord
        {
            LengthBytes = SourceRecord.SizeBytes,
            Kind = RecordKind.Source,
            Producer = 12,
            FirstNumber = Number,
            IntervalMicros = 987_654_321,
            WallMicros = Micros,
        })),
        (RecordKind.Delivered, new Vector("Delivered: 5 messages, in two runs of tags.")
            .Struct(new DeliveredRecord
            {
                LengthBytes = DeliveredRecord.SizeBytes + 2 * TagRun.SizeBytes,
                Kind = RecordKind.Delivered,
                Runs = 2,
                Subscription = Subscription,
                Count = 5,
                FirstDelivery = Delivery,
                FirstToken = Token,
                LeaseEndMicros = 987_654_321,
            })
            .Struct(new TagRun { First = Tag, Count = 3 })
            .Struct(new TagRun { First = Tag + 100, Count = 2 })),
        (RecordKind.MovedMessage, Message(new Vector("MovedMessage: as Message in a slot, copied to a new place."), RecordKind.MovedMessage, (ulong)Micros, Tag, ConfirmLevel.Durable).Padding()),
        (RecordKind.DeadLetter, Message(new Vector("DeadLetter: a message with one death, in the queue for them."), RecordKind.DeadLetter, (ulong)Micros, Tag, ConfirmLevel.Durable, Story()).Padding()),
        (RecordKind.MessageTransferred, Message(new Vector("MessageTransferred: a message that was moved, in its new queue."), RecordKind.MessageTransferred, (ulong)Micros, Tag, ConfirmLevel.Durable, Origin()).Padding()),
        (RecordKind.RoutedMessage, Message(
            new Vector("RoutedMessage: a message that two queues share, with their tags of it.")
                .Struct(new RoutedHeader { LengthBytes = (uint)(StoredMessage.OffsetOf(2) + MessageHeader.SizeBytes + TwoProperties().Length + s_body.Length), Kind = RecordKind.RoutedMessage, Exchange = Queue + 2, Count = 2 })
                .Struct(new RoutedTarget { Queue = Queue, Tag = Tag })
                .Struct(new RoutedTarget { Queue = Queue + 1, Tag = 1 }),
            RecordKind.SharedMessage,
            (ulong)Micros,
            StoredMessage.NumberOf(new Place(Slot, (uint)(4096 + StoredMessage.OffsetOf(2)))),
            ConfirmLevel.None).Padding()),
        (RecordKind.SharedMessage, Message(new Vector("SharedMessage: as Message in a slot, within a RoutedMessage; it says where it lies."), RecordKind.SharedMessage, (ulong)Micros, StoredMessage.NumberOf(new Place(Slot, 4096)), ConfirmLevel.Durable).Padding()),
    ];

    private static IEnumerable<(RecordKind Kind, Vector Vector)> FactRecords
    {
        get
        {
            FieldWriter attributes = new(new byte[100]);
            attributes.Text(FieldTag.Name, "orders");
            attributes.Number(FieldTag.LeaseMilliseconds, 30_000);
            attributes.Number(FieldTag.MaxDeliveries, 3);
            attributes.Text(FieldTag.DeadLetter, "orders.dead");
            byte[] declared = attributes.Written.ToArray();
            FieldWriter limit = new(new byte[60]);
            limit.Text(FieldTag.Name, "api");
            (FlowLimits.None with { MaxInFlight = 5, Rate = new Rate(100, RateUnit.Minute), Burst = 10 }).Write(ref limit);
            FieldWriter sweep = new(new byte[60]);
            sweep.Text(FieldTag.Target, "orders");
            sweep.Text(FieldTag.Filter, "reason=rejected");
            FieldWriter exchange = new(new byte[60]);
            exchange.Text(FieldTag.Name, "events");
            exchange.Number(FieldTag.ExchangeType, (ulong)ExchangeType.Topic);
            exchange.Text(FieldTag.Alternate, "rest");
            FieldWriter binding = new(new byte[60]);
            binding.Text(FieldTag.RoutingKey, "order.*");
            binding.Bytes(FieldTag.Arguments, default);
            binding.Number(FieldTag.Match, (ulong)HeaderMatch.All);
            return
            [
                Fact(RecordKind.LeaseEnded, "7 deliveries go back.", new FactRecord { Subject = Subscription, Count = 7, First = Delivery }),
                Fact(RecordKind.NumberRefused, "this submission was refused.", new FactRecord { Small = (ushort)RefusalCode.UnknownQueue, First = Number }),
                Fact(RecordKind.QueueDeclared, "name and lease of a new queue.", new FactRecord { Subject = Queue }, declared),
                Fact(RecordKind.QueueDeleted, "a queue is gone.", new FactRecord { Subject = Queue }),
                Fact(RecordKind.QueuePurged, "all tags before this one are purged.", new FactRecord { Subject = Queue, First = Tag }),
                Fact(RecordKind.PurgeSlice, "100 index places were cleared.", new FactRecord { Subject = Queue, Count = 100, First = Tag }),
                Fact(RecordKind.Subscribed, "producer 12, with a lease of 30 seconds, of priority 5 and exclusive.", new FactRecord { Subject = Subscription, Count = Queue, First = 12, Second = 30_000, Third = 256 + 5 }),
                Fact(RecordKind.Unsubscribed, "from this delivery on they were not taken.", new FactRecord { Subject = Subscription, First = Delivery }),
                Fact(RecordKind.ProducerOpened, "producer 12 and its instance.", new FactRecord { First = 12, Second = 0xA1A2A3A4A5A6A7A8, Third = 0xB1B2B3B4B5B6B7B8 }),
                Fact(RecordKind.ProducerForgotten, "producer 12.", new FactRecord { First = 12 }),
                Fact(RecordKind.RefusalFloor, "producer 12 has taken all refusals up to this number.", new FactRecord { First = 12, Second = Number }),
                Fact(RecordKind.MessageDamaged, "the message of this tag has rotted.", new FactRecord { Subject = Queue, First = Tag }),
                Fact(RecordKind.SubscriptionResumed, "from this delivery on they go back uncounted.", new FactRecord { Subject = Subscription, First = Delivery }),
                Fact(RecordKind.CommandDone, "this command is done.", new FactRecord { First = Number }),
                Fact(RecordKind.MessagesDue, "at most 4096 delayed messages that are due by this interval time are ready.", new FactRecord { Subject = Queue, Count = 4096, First = 123_456_789 }),
                Fact(RecordKind.MessagesExpired, "at most 4096 messages that have expired by this interval time die.", new FactRecord { Subject = Queue, Count = 4096, First = 123_456_789 }),
                Fact(RecordKind.MessagesDropped, "7 messages from this tag on are pushed out.", new FactRecord { Subject = Queue, Count = 7, First = Tag }),
                Fact(RecordKind.QueueChanged, "it has these attributes from now on.", new FactRecord { Subject = Queue }, declared[10..]),
                Fact(RecordKind.QueuePaused, "it takes no new messages and delivers none.", new FactRecord { Small = 3, Subject = Queue }),
                Fact(RecordKind.MessageDeleted, "a sweep removed the message of this tag.", new FactRecord { Small = FactRecord.Swept, Subject = Queue, First = Tag }),
                Fact(RecordKind.MessageChanged, "the message of this tag has priority 9; its time is as it was.", new FactRecord { Subject = Queue, First = Tag, Second = FactRecord.Unchanged, Third = 9 }),
                Fact(RecordKind.SweepStarted, "what matches goes to another queue, 100 a second.", new FactRecord { Subject = Queue, Count = 100, First = 1, Second = Tag }, sweep.Written.ToArray()),
                Fact(RecordKind.SweepEnded, "it was cancelled, and 2 could not go.", new FactRecord { Small = (ushort)SweepState.Cancelled, Subject = Queue, First = 2 }),
                Fact(RecordKind.ExchangeDeclared, "a topic exchange with an alternate.", new FactRecord { Subject = Queue + 1 }, exchange.Written.ToArray()),
                Fact(RecordKind.ExchangeDeleted, "an exchange is gone.", new FactRecord { Subject = Queue + 1 }),
                Fact(RecordKind.BindingChanged, "it gives to a queue what its key says.", new FactRecord { Small = 1, Subject = Queue + 1, Count = Queue }, binding.Written.ToArray()),
                Fact(RecordKind.MessageUnrouted, "this submission reached no queue.", new FactRecord { Subject = Queue + 1, First = Number }),
                (RecordKind.PassedOver, Message(new Vector("PassedOver: a message of a transaction that its queue had already."), RecordKind.PassedOver, Number, 0, ConfirmLevel.None).Padding()),
                Fact(RecordKind.TransactionRefused, "7 numbers were refused, for the third of them.", new FactRecord { Small = (ushort)RefusalCode.LeaseLost, Subject = 3, Count = 7, First = Number }),
                Fact(RecordKind.MessageProcessed, "a delivery is accepted, and a key is marked as processed without a result.", new FactRecord { Small = FactRecord.Marked, Subject = Subscription, Count = Queue, First = Delivery, Second = 0xA1A2A3A4A5A6A7A8, Third = 0xB1B2B3B4B5B6B7B8 }),
                Fact(RecordKind.RequestEnded, "the request of this tag had died and is gone.", new FactRecord { Subject = Queue, First = Tag }),
                Fact(RecordKind.ScheduleSet, "it fires each day at three.", new FactRecord { Subject = 3, Count = Queue, First = (ulong)Micros, Second = 5_000_000 }, Schedule()),
                Fact(RecordKind.ScheduleDeleted, "its messages stay.", new FactRecord { Subject = 3 }),
                Fact(RecordKind.SchedulePaused, "it stands still.", new FactRecord { Small = 1, Subject = 3, First = (ulong)Micros, Second = 5_000_000 }),
                Fact(RecordKind.ScheduleFired, "its message was sent, and the next is due.", new FactRecord { Small = (ushort)Firing.Sent, Subject = 3, Count = 1, First = (ulong)Micros, Second = (ulong)Micros + 1, Third = 5_000_001 }),
                Fact(RecordKind.DeathStopped, "the message of this tag has gone in a circle.", new FactRecord { Subject = Queue, First = Tag }),
                Fact(RecordKind.LimitSet, "5 in flight, 100 a minute, 10 at once, in all queues that name it.", default, limit.Written.ToArray()),
                Fact(RecordKind.LimitDeleted, "it is gone.", default, limit.Written[..7].ToArray()),
                Fact(RecordKind.SubscriptionPaused, "it gets nothing from now on.", new FactRecord { Small = 1, Subject = Subscription }),
            ];
        }
    }

    public static IEnumerable<(HandshakeKind Kind, Vector Vector)> Messages
    {
        get
        {
            FieldWriter hello = new(new byte[500]);
            hello.Number(FieldTag.MinVersion, 1);
            hello.Number(FieldTag.MaxVersion, 1);
            hello.Text(FieldTag.ClientName, "billing");
            hello.Bytes(FieldTag.Instance, [.. Enumerable.Range(0xC0, 16).Select(value => (byte)value)]);
            hello.Text(FieldTag.Namespace, "default");
            hello.Number(FieldTag.Producer, 12);
            hello.Number(FieldTag.ClaimedDurable, Number);
            hello.Number(FieldTag.SubmissionRingBytes, 1 << 20);
            hello.Number(FieldTag.DeliveryRingBytes, 1 << 19);
            hello.Number(FieldTag.WantsCopies, 1);
            yield return Socket(HandshakeKind.Hello, "producer 12 comes back.", hello.Written);

            FieldWriter welcome = new(new byte[500]);
            welcome.Number(FieldTag.Producer, 12);
            welcome.Number(FieldTag.ProducerEpoch, 3);
            welcome.Number(FieldTag.Epoch, 5);
            welcome.Number(FieldTag.NextNumber, Number + 10);
            welcome.Number(FieldTag.Durable, Number);
            welcome.Number(FieldTag.SubmissionRingBytes, 1 << 20);
            welcome.Number(FieldTag.DeliveryRingBytes, 1 << 19);
            welcome.Number(FieldTag.MaxMessageBytes, Limits.MaxMessageBytes);
            welcome.Number(FieldTag.SlotBytes, 64 << 20);
            welcome.Number(FieldTag.FencesAll, 1);
            welcome.Text(FieldTag.ServerVersion, "0.1.0");
            yield return Socket(HandshakeKind.Welcome, "four descriptors come with it.", welcome.Written);

            yield return Socket(HandshakeKind.Mapped, "A and B are mapped.", []);

            FieldWriter refused = new(new byte[500]);
            refused.Number(FieldTag.Code, (ulong)RefusalCode.VersionMismatch);
            refused.Text(FieldTag.Text, Refusal.Of(RefusalCode.VersionMismatch).Cause);
            yield return Socket(HandshakeKind.Refused, "no version in common.", refused.Written);

            FieldWriter slots = new(new byte[500]);
            slots.Number(FieldTag.Slot, Slot);
            slots.Number(FieldTag.Slot, Slot + 1);
            yield return Socket(HandshakeKind.Slots, "two slot files come with it.", slots.Written);

            FieldWriter rings = new(new byte[500]);
            rings.Number(FieldTag.Ring, 1);
            rings.Number(FieldTag.SubmissionRingBytes, 1 << 20);
            rings.Number(FieldTag.DeliveryRingBytes, 1 << 19);
            yield return Socket(HandshakeKind.Rings, "two descriptors come with it.", rings.Written);

            FieldWriter ended = new(new byte[500]);
            ended.Number(FieldTag.Code, (ulong)RefusalCode.ShuttingDown);
            ended.Text(FieldTag.Text, Refusal.Of(RefusalCode.ShuttingDown).Cause);
            yield return Socket(HandshakeKind.Ended, "the broker stops.", ended.Written);
        }
    }

    private static Vector Transaction()
    {
        int message = Message(new Vector(""), RecordKind.Message, Number, 0, ConfirmLevel.None).Padding().Bytes.Length;
        Vector vector = new Vector("Transaction: a message and the settlement of 7 deliveries, together or not at all. It waits for Durable.")
            .Struct(new TransactionHeader { LengthBytes = (uint)(TransactionHeader.SizeBytes + message + SettleRecord.SizeBytes), Kind = RecordKind.Transaction, Flags = (byte)ConfirmLevel.Durable, Number = Number, Count = 2 });
        return Message(vector, RecordKind.Message, Number, 0, ConfirmLevel.None).Padding()
            .Struct(new SettleRecord { LengthBytes = SettleRecord.SizeBytes, Kind = RecordKind.Settle, Number = Number + 1, Subscription = Subscription, Count = 7, FirstDelivery = Delivery });
    }

    private static Vector Message(Vector vector, RecordKind kind, ulong numberOrTime, ulong tag, ConfirmLevel level, byte[]? story = null)
    {
        byte[] properties = [.. story ?? [], .. TwoProperties()];
        return vector
            .Struct(new MessageHeader
            {
                LengthBytes = (uint)(MessageHeader.SizeBytes + properties.Length + s_body.Length),
                Kind = kind,
                Flags = (byte)level,
                PropertyBytes = (ushort)properties.Length,
                NumberOrTimeMicros = numberOrTime,
                Queue = Queue,
                Check = RecordCheck.Of([.. properties, .. s_body]),
                Tag = tag,
            })
            .Properties(properties)
            .Line(s_body, $"body {Encoding.UTF8.GetString(s_body)}");
    }

    private static Vector Command()
    {
        FieldWriter fields = new(new byte[100]);
        fields.Text(FieldTag.Name, "orders");
        fields.Number(FieldTag.LeaseMilliseconds, 30_000);
        return new Vector("Command: declares a queue.")
            .Struct(new CommandRecord { LengthBytes = (uint)(CommandRecord.SizeBytes + fields.Length), Kind = RecordKind.Command, Command = CommandKind.DeclareQueue, Number = Number, Cookie = 0xC1C2C3C4C5C6C7C8 })
            .Fields(fields.Written)
            .Padding();
    }

    private static Vector Answer()
    {
        FieldWriter fields = new(new byte[100]);
        fields.Text(FieldTag.Text, "A session may hold 64 subscriptions.");
        return new Vector("Answer: a command is refused, for a limit of 64. (Done: Code 0, the command's fields, Value 0.)")
            .Struct(new AnswerRecord { LengthBytes = (uint)(AnswerRecord.SizeBytes + fields.Length), Kind = RecordKind.Answer, Code = RefusalCode.LimitReached, Number = Number, Cookie = 0xC1C2C3C4C5C6C7C8, Value = 64 })
            .Fields(fields.Written)
            .Padding();
    }

    private static Vector DeliveryCopy()
    {
        int record = Message(new Vector(""), RecordKind.Message, 0, 0, ConfirmLevel.None).Bytes.Length;
        Vector vector = new Vector("DeliveryCopy: one delivery with its record behind it.")
            .Struct(Run(RecordKind.DeliveryCopy, 1, DeliveriesHeader.SizeBytes + DeliveryEntry.SizeBytes + record))
            .Struct(new DeliveryEntry { LengthBytes = (uint)record, DeliveryCount = 2, Flags = DeliveryEntry.Redelivered });
        return Message(vector, RecordKind.Message, (ulong)Micros, Tag, ConfirmLevel.Written).Padding();
    }

    private static DeliveriesHeader Run(RecordKind kind, ushort count, int length) => new()
    {
        LengthBytes = (uint)length,
        Kind = kind,
        Count = count,
        Subscription = Subscription,
        Queue = Queue,
        FirstDelivery = Delivery,
        FirstTag = Tag,
        FirstToken = Token,
        LeaseEndMicros = 987_654_321,
    };

    private static (RecordKind Kind, Vector Vector) Control(RecordKind kind, string about, uint subject, uint count, ulong value) =>
        (kind, new Vector($"{kind}: {about}").Struct(new ControlRecord { LengthBytes = ControlRecord.SizeBytes, Kind = kind, Subject = subject, Count = count, Value = value }));

    private static Vector Notice(string about, RecordKind kind, RefusalCode code, ulong number, uint subject, uint count, ulong value, string text = "") =>
        AddNotice(new Vector(about), kind, code, number, subject, count, value, text);

    private static Vector AddNotice(Vector vector, RecordKind kind, RefusalCode code, ulong number, uint subject, uint count, ulong value, string text)
    {
        byte[] words = Encoding.UTF8.GetBytes(text);
        return vector
            .Struct(new NoticeRecord { LengthBytes = (uint)(NoticeRecord.SizeBytes + words.Length), Kind = kind, Code = code, Number = number, Subject = subject, Count = count, Value = value })
            .Line(words, $"text {text}")
            .Padding();
    }

    private static (RecordKind Kind, Vector Vector) Fact(RecordKind kind, string about, FactRecord fact, byte[]? fields = null)
    {
        fact.LengthBytes = (uint)(FactRecord.SizeBytes + (fields?.Length ?? 0));
        fact.Kind = kind;
        return (kind, new Vector($"{kind}: {about}").Struct(fact).Fields(fields).Padding());
    }

    private static (HandshakeKind Kind, Vector Vector) Socket(HandshakeKind kind, string about, ReadOnlySpan<byte> fields) =>
        (kind, new Vector($"{kind}: {about}").Frame(kind).Fields(fields));

    // As they would stand in a delivery ring, one behind the other.
    private static Vector Refusals() =>
        Refusal.Table.ToArray().Skip(1).Aggregate(
            new Vector("A Refused record for each code, one behind the other as in a ring. Number: the code. Text: the refusal's name."),
            (vector, row) => AddNotice(vector, RecordKind.Refused, row.Code, (ulong)row.Code, 0, 1, 0, row.Name));

    private static byte[] TwoProperties()
    {
        PropertyWriter writer = new(new byte[100]);
        writer.Text(PropertyTag.MessageId, "m-1");
        writer.Header("colour", "blue");
        return writer.Written.ToArray();
    }

    /// <summary>Where a message was before, as a property.</summary>
    private static byte[] Origin()
    {
        FieldWriter origin = new(new byte[50]);
        origin.Number(FieldTag.Queue, 7);
        origin.Number(FieldTag.Tag, 17);
        PropertyWriter writer = new(new byte[60]);
        writer.Bytes(PropertyTag.Origin, origin.Written);
        return writer.Written.ToArray();
    }

    /// <summary>One death, as a property.</summary>
    private static byte[] Story()
    {
        FieldWriter death = new(new byte[200]);
        death.Text(FieldTag.Name, "orders");
        death.Number(FieldTag.Queue, 7);
        death.Number(FieldTag.Tag, 17);
        death.Number(FieldTag.Reason, (ulong)DeathReason.Rejected);
        death.Number(FieldTag.Deliveries, 3);
        death.Number(FieldTag.Count, 2);
        death.Number(FieldTag.FirstMicros, (ulong)Micros);
        death.Number(FieldTag.LastMicros, (ulong)Micros + 1_000_000);
        death.Text(FieldTag.Text, "no such customer");
        PropertyWriter writer = new(new byte[250]);
        writer.Bytes(PropertyTag.Death, death.Written);
        return writer.Written.ToArray();
    }

    private static byte[] Schedule()
    {
        FieldWriter writer = new(new byte[100]);
        writer.Text(FieldTag.Name, "nightly");
        writer.Text(FieldTag.Cron, "0 3 * * *");
        writer.Text(FieldTag.Zone, "Europe/Berlin");
        writer.Bytes(FieldTag.Body, "good night"u8);
        return writer.Written.ToArray();
    }

    private static byte[] AllProperties()
    {
        PropertyWriter writer = new(new byte[1300]);
        foreach (PropertyTag tag in Enum.GetValues<PropertyTag>().Where(tag => tag > PropertyTag.Header))
        {
            switch (tag)
            {
                case PropertyTag.Delay or PropertyTag.Ttl or PropertyTag.Priority or PropertyTag.UniqueUntil or PropertyTag.Request or PropertyTag.ScheduleMode or PropertyTag.LongestWait:
                    writer.Number(tag, PropertyType.Int64, tag switch { PropertyTag.Priority => 200, PropertyTag.UniqueUntil or PropertyTag.Request or PropertyTag.ScheduleMode => 1, _ => 1500 });
                    break;
                case PropertyTag.DeliverAt:
                    writer.Number(tag, PropertyType.Timestamp, 1_893_456_000_000_000);
                    break;
                case PropertyTag.Origin:
                    writer.Raw(Origin());
                    break;
                case PropertyTag.BodyEncoding:
                    BodyEncoding.WriteLz4(ref writer, 4000);
                    break;
                case PropertyTag.Death:
                    writer.Raw(Story());
                    break;
                default:
                    writer.Text(tag, $"a {tag}");
                    break;
            }
        }

        writer.Header("text", "Bücher");
        writer.Header("boolean", PropertyType.Boolean, [1]);
        writer.Header("int64", PropertyType.Int64, BitConverter.GetBytes(-2L));
        writer.Header("double", PropertyType.Double, BitConverter.GetBytes(-0.1));
        writer.Header("bytes", PropertyType.Bytes, [0, 1, 254, 255]);
        writer.Header("timestamp", PropertyType.Timestamp, BitConverter.GetBytes(Micros));
        writer.Header("list", PropertyType.List, List());
        writer.Header("table", PropertyType.Table, Table());
        writer.Header("text", "A header may repeat.");
        return writer.Written.ToArray();
    }

    private static byte[] List()
    {
        ValueWriter writer = new(new byte[200]);
        writer.Value(PropertyType.Text, "Bücher"u8);
        writer.Value(PropertyType.Boolean, [1]);
        writer.Value(PropertyType.Int64, BitConverter.GetBytes(-2L));
        writer.Value(PropertyType.Double, BitConverter.GetBytes(-0.1));
        writer.Value(PropertyType.Bytes, [0, 1, 254, 255]);
        writer.Value(PropertyType.Timestamp, BitConverter.GetBytes(Micros));
        int table = writer.Begin(PropertyType.Table);
        int list = writer.Begin("list", PropertyType.List);
        writer.Value(PropertyType.Text, "inmost"u8);
        writer.End(list);
        writer.End(table);
        return writer.Written.ToArray();
    }

    private static byte[] Table()
    {
        ValueWriter writer = new(new byte[200]);
        writer.Value("text", PropertyType.Text, "red"u8);
        int list = writer.Begin("list", PropertyType.List);
        writer.Value(PropertyType.Int64, BitConverter.GetBytes(7L));
        writer.Value(PropertyType.Int64, BitConverter.GetBytes(8L));
        writer.End(list);
        int table = writer.Begin("größe", PropertyType.Table);
        writer.Value("cm", PropertyType.Double, BitConverter.GetBytes(1.5));
        writer.End(table);
        writer.Value("no list", PropertyType.List, []);
        writer.Value("no table", PropertyType.Table, []);
        return writer.Written.ToArray();
    }
}
