using System.Runtime.InteropServices;

namespace FastQ.Protocol;

// Records: what rings and blocks hold. Every record begins with 8 bytes, is 8-byte aligned and is never wrapped:
//
//   0        4      5       6         8
//   | length | kind | flags | small   | ... the kind's own fields, then its payload, then zeroes to the next multiple of 8
//
// `length` counts header, fields and payload without that padding. Numbered submissions carry their number at offset 8.
// Submissions that the engine keeps (message, settle, extend, ...) have the same layout in the journal: one copy, no translation.

/// <summary>Kinds of records. Below 64: in the submission ring (those marked "journal" in blocks too); 64 to 127: in the delivery ring; from 128: in blocks only.</summary>
public enum RecordKind : byte
{
    /// <summary>Never valid: what zeroed memory reads as.</summary>
    Nothing = 0,

    // Numbered submissions: each takes the next number of its producer.
    Message = 1,
    Settle = 2,
    Extend = 3,
    Command = 4,

    /// <summary>Messages and settlements that take effect together, or not at all.</summary>
    Transaction = 5,

    // Submissions without a number that are sent again all the same: Replies.cs.
    Reply = 7,
    RepliesUnwanted = 8,

    // Control submissions: no number, no confirm, never journaled as they are.
    Credit = 32,
    Done = 33,
    RefusalsSeen = 34,
    SlotsMapped = 35,
    GrowRings = 36,
    ClientMovesRing = 37,
    Damaged = 38,
    Bye = 39,

    // Broker to client.
    Deliveries = 64,
    DeliveryCopy = 65,
    Refused = 66,
    Answer = 67,
    LateSettle = 68,
    SlotRetired = 69,
    BrokerMovesRing = 70,
    SubscriptionEnded = 71,
    ReplyDelivered = 72,
    ReplyEnded = 73,
    Routed = 74,

    // Journal only: facts that the engine wrote.
    Source = 128,
    Delivered = 129,
    LeaseEnded = 130,
    NumberRefused = 131,
    QueueDeclared = 132,
    QueueDeleted = 133,
    QueuePurged = 134,
    PurgeSlice = 135,
    Subscribed = 136,
    Unsubscribed = 137,
    ProducerOpened = 138,
    ProducerForgotten = 139,
    RefusalFloor = 140,
    MovedMessage = 141,
    MessageDamaged = 142,
    SubscriptionResumed = 143,
    CommandDone = 144,
    MessagesDue = 145,
    DeadLetter = 146,
    MessagesExpired = 147,
    DeathStopped = 148,
    MessagesDropped = 149,
    QueueChanged = 150,
    QueuePaused = 151,
    MessageTransferred = 152,
    MessageDeleted = 153,
    MessageChanged = 154,
    SweepStarted = 155,
    SweepEnded = 156,

    // A message that several queues have, and what gives it to them.
    RoutedMessage = 157,
    SharedMessage = 158,
    ExchangeDeclared = 159,
    ExchangeDeleted = 160,
    BindingChanged = 161,
    MessageUnrouted = 162,

    /// <summary>A message of a transaction that its queue had already: only its number counts.</summary>
    PassedOver = 163,

    /// <summary>A transaction was refused: all its numbers.</summary>
    TransactionRefused = 164,

    /// <summary>A consumer has marked a key as processed, and accepted a delivery with it.</summary>
    MessageProcessed = 165,
    RequestEnded = 179,
    ScheduleSet = 172,
    ScheduleDeleted = 173,
    SchedulePaused = 174,
    ScheduleFired = 175,
    LimitSet = 167,
    LimitDeleted = 168,
    SubscriptionPaused = 169,
}

/// <summary>What kinds have in common.</summary>
public static class RecordKinds
{
    /// <summary>Is this a message with header, properties and body, where an entry of an index says that one lies?</summary>
    public static bool IsStoredMessage(this RecordKind kind) => kind is RecordKind.Message or RecordKind.MovedMessage or RecordKind.DeadLetter or RecordKind.MessageTransferred or RecordKind.SharedMessage;

    /// <summary>May it stand in a block?</summary>
    public static bool IsJournaled(this RecordKind kind) => kind is RecordKind.Message or RecordKind.Settle or RecordKind.Extend or (>= RecordKind.Source and <= RecordKind.SweepEnded) or (>= RecordKind.RoutedMessage and <= RecordKind.MessageUnrouted) or RecordKind.PassedOver or RecordKind.TransactionRefused or RecordKind.MessageProcessed or RecordKind.RequestEnded or (>= RecordKind.ScheduleSet and <= RecordKind.ScheduleFired) or (>= RecordKind.LimitSet and <= RecordKind.SubscriptionPaused);
}

/// <summary>The first 8 bytes of every record.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct RecordPrefix
{
    public const int SizeBytes = 8;

    [FieldOffset(0)] public uint LengthBytes;
    [FieldOffset(4)] public RecordKind Kind;
    [FieldOffset(5)] public byte Flags;
    [FieldOffset(6)] public ushort Small;
}

/// <summary>A message: 32 bytes, then properties, then the body. The same in ring and journal, save two fields.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct MessageHeader
{
    public const int SizeBytes = 32;

    /// <summary>Bits 0 and 1 of <see cref="Flags"/>: the <see cref="ConfirmLevel"/> that the sender waits for.</summary>
    public const byte ConfirmMask = 0b11;

    /// <summary>In <see cref="Flags"/> of a message to an exchange: that it reaches no queue is fine.</summary>
    public const byte Optional = 0b100;

    /// <summary>In <see cref="Flags"/> of a message to an exchange: its sender wants to be told how many queues took it (<see cref="RecordKind.Routed"/>).</summary>
    public const byte WantsRouted = 0b1000;

    [FieldOffset(0)] public uint LengthBytes;
    [FieldOffset(4)] public RecordKind Kind;
    [FieldOffset(5)] public byte Flags;
    [FieldOffset(6)] public ushort PropertyBytes;

    /// <summary>In the ring: the submission's number. In the journal the broker replaces it by the wall clock at its acceptance, microseconds since 1970 (the number follows from the <see cref="SourceRecord"/> before it).</summary>
    [FieldOffset(8)] public ulong NumberOrTimeMicros;

    /// <summary>Id of the queue; of the exchange, in the ring and of a shared message.</summary>
    [FieldOffset(16)] public uint Queue;

    /// <summary>CRC-32C over properties and body (<see cref="RecordCheck"/>), by the sender.</summary>
    [FieldOffset(20)] public uint Check;

    /// <summary>In the ring: 0. In the journal: the message's place number in its queue, the same for life; of a shared message <see cref="StoredMessage.NumberOf"/>.</summary>
    [FieldOffset(24)] public ulong Tag;

    /// <summary>Bytes of the body.</summary>
    public readonly int BodyBytes => (int)LengthBytes - SizeBytes - PropertyBytes;
}

/// <summary>Settles or extends a range of deliveries. Ring and journal. Behind a reject its words may follow, a <see cref="FieldWriter"/> text of at most <see cref="Limits.MaxWordsBytes"/>.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct SettleRecord
{
    public const int SizeBytes = 40;

    [FieldOffset(0)] public uint LengthBytes;

    /// <summary><see cref="RecordKind.Settle"/> or <see cref="RecordKind.Extend"/>.</summary>
    [FieldOffset(4)] public RecordKind Kind;

    /// <summary>Of a release, in <see cref="Flags"/>: the delivery does not count.</summary>
    public const byte Uncounted = 0b1000_0000;

    /// <summary>Bits 0 and 1: the confirm level that the consumer waits for. Bits 4 to 6: the <see cref="Outcome"/>. Bit 7: <see cref="Uncounted"/>.</summary>
    [FieldOffset(5)] public byte Flags;

    [FieldOffset(6)] public ushort Small;
    [FieldOffset(8)] public ulong Number;
    [FieldOffset(16)] public uint Subscription;
    [FieldOffset(20)] public uint Count;
    [FieldOffset(24)] public ulong FirstDelivery;

    /// <summary>Of <see cref="RecordKind.Extend"/>: the lease from now on, in milliseconds. Of a release: so long the message is delayed. Else 0.</summary>
    [FieldOffset(32)] public long Milliseconds;

    public readonly Outcome Outcome => (Outcome)((Flags >> 4) & 0b111);

    public readonly bool IsUncounted => (Flags & Uncounted) != 0;

    public static byte FlagsOf(Outcome outcome, ConfirmLevel level) => (byte)(((int)outcome << 4) | (int)level);
}

/// <summary>A command with an answer: declare, delete, subscribe and the like. Its payload is a <see cref="FieldWriter"/> text.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct CommandRecord
{
    public const int SizeBytes = 24;

    [FieldOffset(0)] public uint LengthBytes;
    [FieldOffset(4)] public RecordKind Kind;
    [FieldOffset(5)] public byte Flags;
    [FieldOffset(6)] public CommandKind Command;
    [FieldOffset(8)] public ulong Number;

    /// <summary>Wall clock at the sender, for its own use; echoed in the answer.</summary>
    [FieldOffset(16)] public ulong Cookie;
}

/// <summary>What a <see cref="CommandRecord"/> asks for. Fields in: see the page. A number never changes its meaning.</summary>
public enum CommandKind : ushort
{
    None = 0,
    DeclareQueue = 1,
    DeleteQueue = 2,
    PurgeQueue = 3,
    FindQueue = 4,
    ShowQueue = 5,
    ListQueues = 6,
    Subscribe = 7,
    Unsubscribe = 8,
    ResumeSubscription = 9,
    Statistics = 10,

    /// <summary>Everything sent so far is to become durable now; a sync follows by itself only within 100 ms.</summary>
    Sync = 11,

    /// <summary>Looks at messages in their places, without taking them.</summary>
    BrowseQueue = 12,

    /// <summary>Gives a queue other attributes; what is not named stays.</summary>
    ChangeQueue = 13,

    /// <summary>Stops or resumes a queue's ways in and out.</summary>
    PauseQueue = 14,

    /// <summary>Removes one message that is with nobody.</summary>
    DeleteMessage = 15,

    /// <summary>Gives one message that waits another priority or another time.</summary>
    ChangeMessage = 16,

    /// <summary>Moves or deletes what matches, of what a queue holds, in the background.</summary>
    StartSweep = 17,

    /// <summary>Tells how a queue's sweep stands.</summary>
    ShowSweep = 18,

    /// <summary>Ends a queue's sweep; what it has done stays done.</summary>
    CancelSweep = 19,

    /// <summary>Makes an exchange.</summary>
    DeclareExchange = 20,

    /// <summary>Deletes an exchange with its bindings.</summary>
    DeleteExchange = 21,

    /// <summary>Tells of one exchange and its bindings.</summary>
    ShowExchange = 22,

    /// <summary>Tells of all exchanges.</summary>
    ListExchanges = 23,

    /// <summary>Has an exchange give messages to a queue, or to another exchange.</summary>
    Bind = 24,

    /// <summary>Ends that.</summary>
    Unbind = 25,

    /// <summary>Accepts a delivery and marks a key as processed.</summary>
    AcceptProcessed = 26,

    /// <summary>Asks whether a key is marked as processed.</summary>
    FindProcessed = 27,

    /// <summary>Makes, changes or deletes a limit that queues may share.</summary>
    SetLimit = 29,

    /// <summary>Lists the limits that queues may share, or one of them.</summary>
    ListLimits = 30,

    /// <summary>Lists the consumers of a queue.</summary>
    ListSubscriptions = 31,

    /// <summary>Removes the message that waits under a schedule key.</summary>
    CancelScheduled = 32,

    /// <summary>Gives the message that waits under a schedule key another time.</summary>
    Reschedule = 33,

    /// <summary>Makes, deletes, pauses or resumes a schedule: a message that is sent again and again.</summary>
    ChangeSchedule = 34,

    /// <summary>Tells how schedules stand.</summary>
    ListSchedules = 35,

    /// <summary>Says what is wrong with the attributes of a queue, and does nothing.</summary>
    JudgeQueue = 36,
}

/// <summary>What a sweep does with the messages that match.</summary>
public enum SweepAction : byte
{
    /// <summary>They go to another queue, or back to where they died last.</summary>
    Move = 0,

    /// <summary>They are removed, and count as purged.</summary>
    Delete = 1,
}

/// <summary>Whether a sweep goes on.</summary>
public enum SweepState : byte
{
    None = 0,

    Running = 1,

    /// <summary>It came to the end of what was there when it began.</summary>
    Finished = 2,

    /// <summary>Somebody ended it.</summary>
    Cancelled = 3,
}

/// <summary>How a message stands in its queue.</summary>
public enum MessageState : byte
{
    None = 0,

    /// <summary>Waits for a consumer.</summary>
    Ready = 1,

    /// <summary>With a consumer, under a lease.</summary>
    InFlight = 2,

    /// <summary>Its bytes have rotted: kept, never delivered.</summary>
    Damaged = 3,

    /// <summary>Waits for its time.</summary>
    Delayed = 4,

    /// <summary>Is to leave for the dead-letter queue and cannot yet, or never will: see its reason.</summary>
    DeadLettering = 5,
}

/// <summary>Why a message left for the dead-letter queue, or would have if there were one.</summary>
public enum DeathReason : byte
{
    None = 0,

    /// <summary>It was delivered as often as its queue allows, and not accepted.</summary>
    MaxDeliveries = 1,

    /// <summary>A consumer rejected it.</summary>
    Rejected = 2,

    /// <summary>Its time to live was over.</summary>
    Expired = 3,

    /// <summary>Its queue was full, and it was the oldest.</summary>
    Overflow = 4,

    /// <summary>Of one that died already and is still here: the exchange for dead letters gives it to no queue, for now.</summary>
    Unroutable = 5,
}

/// <summary>How long the unique key of a message is held.</summary>
public enum UniqueUntil : byte
{
    /// <summary>Until it is accepted, or dies.</summary>
    Settled = 0,

    /// <summary>Until it goes to a consumer first.</summary>
    Started = 1,
}

/// <summary>What a message does where one of its schedule key waits for its time already.</summary>
public enum ScheduleMode : byte
{
    /// <summary>It takes the other's place: body, properties and time.</summary>
    Replace = 0,

    /// <summary>The same; and what was said of the longest wait counts from the first of them.</summary>
    Debounce = 1,

    /// <summary>It is not taken, and answered as a duplicate of the one that waits.</summary>
    Keep = 2,
}

/// <summary>Whether a word about a message that waits for its time came before it was too late.</summary>
public enum Timeliness : byte
{
    /// <summary>It waited, for its time or for a consumer: done.</summary>
    InTime = 0,

    /// <summary>It is with a consumer, or was once: nothing was done.</summary>
    HandedOut = 1,

    /// <summary>None of this key is there any more, or there never was one.</summary>
    Gone = 2,
}

/// <summary>What is done with a schedule.</summary>
public enum ScheduleAction : byte
{
    /// <summary>It is made; one of the same name is replaced.</summary>
    Set = 0,

    /// <summary>It is gone; what it has sent stays.</summary>
    Delete = 1,

    /// <summary>It stands still, over restarts too.</summary>
    Pause = 2,

    /// <summary>It goes on, by the wall clock as it is then; what it missed meanwhile is not sent.</summary>
    Resume = 3,
}

/// <summary>What a schedule does about firings that it missed: the broker was away, or the queue full or paused.</summary>
public enum MissedFirings : byte
{
    /// <summary>The last of them is sent, when it can be.</summary>
    One = 0,

    /// <summary>All are, in order; after <see cref="Limits.MostMissedFirings"/> of them the last.</summary>
    All = 1,

    /// <summary>None is.</summary>
    None = 2,
}

/// <summary>What became of a firing.</summary>
public enum Firing : byte
{
    /// <summary>It was missed, and nothing was sent.</summary>
    Passed = 0,

    /// <summary>Its message is in the queue, or is a duplicate of one that was.</summary>
    Sent = 1,

    /// <summary>The queue would never take its message: too large, or lacking a property.</summary>
    Failed = 2,
}

/// <summary>Ways of a queue that stand still. Bits.</summary>
[Flags]
public enum PausedWays : byte
{
    None = 0,

    /// <summary>It takes no new messages.</summary>
    In = 1,

    /// <summary>It delivers none.</summary>
    Out = 2,

    /// <summary>It delivers none, as its breaker found too much failing; or one message alone, to see whether it still does.</summary>
    Breaker = 4,
}

/// <summary>What is done with a limit that queues may share.</summary>
public enum LimitAction : byte
{
    /// <summary>It is made; one that exists with the same numbers is fine.</summary>
    Declare = 0,

    /// <summary>It gets other numbers; what is not named stays.</summary>
    Change = 1,

    Delete = 2,
}

/// <summary>What a full queue does with the next message.</summary>
public enum Overflow : byte
{
    /// <summary>Refuses it.</summary>
    Reject = 0,

    /// <summary>Takes it, and lets go of the oldest that wait: they are gone.</summary>
    DropHead = 1,

    /// <summary>Takes it, and lets the oldest that wait go to the dead letters.</summary>
    DeadLetter = 2,
}

/// <summary>Control submissions that need no more than two numbers: credit, done, acknowledgements, ring moves, damage, bye.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct ControlRecord
{
    public const int SizeBytes = 32;

    [FieldOffset(0)] public uint LengthBytes;
    [FieldOffset(4)] public RecordKind Kind;
    [FieldOffset(5)] public byte Flags;
    [FieldOffset(6)] public ushort Small;

    /// <summary>Credit, Done, Damaged: the subscription. GrowRings: bytes wanted of the submission ring. ...MovesRing: the number of the ring moved to. SlotsMapped: how many messages of slots were taken.</summary>
    [FieldOffset(8)] public uint Subject;

    /// <summary>Credit: most deliveries unsettled at once. Done: how many. GrowRings: bytes wanted of the delivery ring.</summary>
    [FieldOffset(12)] public uint Count;

    /// <summary>Credit: most bytes unsettled at once. Done, Damaged: first delivery number. RefusalsSeen: the number up to which all refusals were taken.</summary>
    [FieldOffset(16)] public ulong Value;

    [FieldOffset(24)] public ulong Reserved;
}

/// <summary>A run of deliveries of one subscription: consecutive delivery numbers, tags and tokens. Then <c>Count</c> entries of <see cref="DeliveryEntry"/>.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct DeliveriesHeader
{
    public const int SizeBytes = 48;

    [FieldOffset(0)] public uint LengthBytes;
    [FieldOffset(4)] public RecordKind Kind;
    [FieldOffset(5)] public byte Flags;
    [FieldOffset(6)] public ushort Count;
    [FieldOffset(8)] public uint Subscription;
    [FieldOffset(12)] public uint Queue;
    [FieldOffset(16)] public ulong FirstDelivery;
    [FieldOffset(24)] public ulong FirstTag;

    /// <summary>Fencing token of the first; the next have the next. Rises with every delivery of the namespace, over restarts too (with the broker's epoch before it).</summary>
    [FieldOffset(32)] public ulong FirstToken;

    /// <summary>End of the lease by the broker's interval clock, microseconds; for display: the lease's length counts.</summary>
    [FieldOffset(40)] public long LeaseEndMicros;
}

/// <summary>One delivery by reference.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct DeliveryEntry
{
    public const int SizeBytes = 16;

    /// <summary>The page may have been evicted since the broker verified it: check the record before use.</summary>
    public const ushort Cold = 1;

    /// <summary>Delivered before.</summary>
    public const ushort Redelivered = 2;

    [FieldOffset(0)] public uint Slot;
    [FieldOffset(4)] public uint Offset;

    /// <summary>Of the whole record: header, properties, body.</summary>
    [FieldOffset(8)] public uint LengthBytes;

    /// <summary>How often it has been delivered, this time included; 65,535 when more.</summary>
    [FieldOffset(12)] public ushort DeliveryCount;

    [FieldOffset(14)] public ushort Flags;
}

/// <summary>Broker to client: a refused submission, settle numbers that came too late, an ended subscription. Then text in UTF-8, perhaps none.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct NoticeRecord
{
    public const int SizeBytes = 40;

    [FieldOffset(0)] public uint LengthBytes;

    /// <summary><see cref="RecordKind.Refused"/>, <see cref="RecordKind.LateSettle"/>, <see cref="RecordKind.Routed"/> or <see cref="RecordKind.SubscriptionEnded"/>; also <see cref="RecordKind.SlotRetired"/> and <see cref="RecordKind.BrokerMovesRing"/> with their number in <see cref="Subject"/>.</summary>
    [FieldOffset(4)] public RecordKind Kind;

    [FieldOffset(5)] public byte Flags;
    [FieldOffset(6)] public RefusalCode Code;

    /// <summary>The submission's number.</summary>
    [FieldOffset(8)] public ulong Number;

    /// <summary>Subscription, slot or ring. Refused, of a transaction: which of its records, from 1 on; else 0.</summary>
    [FieldOffset(16)] public uint Subject;

    /// <summary>LateSettle: how many deliveries. Refused: how many submissions from <see cref="Number"/> on.</summary>
    [FieldOffset(20)] public uint Count;

    /// <summary>LateSettle: the first delivery number. Refused: the value of the limit, where one is meant. Routed: how many queues.</summary>
    [FieldOffset(24)] public ulong Value;

    [FieldOffset(32)] public ulong Reserved;
}

/// <summary>Broker to client: the answer to a <see cref="CommandRecord"/>. Then its payload, a <see cref="FieldWriter"/> text.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct AnswerRecord
{
    public const int SizeBytes = 32;

    /// <summary>Set in <see cref="Flags"/> on all but the last record of an answer in several parts (a list of queues).</summary>
    public const byte More = 1;

    [FieldOffset(0)] public uint LengthBytes;
    [FieldOffset(4)] public RecordKind Kind;
    [FieldOffset(5)] public byte Flags;
    [FieldOffset(6)] public RefusalCode Code;
    [FieldOffset(8)] public ulong Number;
    [FieldOffset(16)] public ulong Cookie;
    [FieldOffset(24)] public ulong Value;
}
