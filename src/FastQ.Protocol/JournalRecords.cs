using System.Runtime.InteropServices;

namespace FastQ.Protocol;

// Records that stand in blocks only: what the engine decided. Messages, settles and extends stand there as they came (Records.cs).
// All times: interval time is microseconds of the engine's interval clock; wall time is microseconds since 1970.

/// <summary>Says whose submissions follow, from which number on, and when. Everything after it, up to the next, was decided at its times. Producer 0: the broker's own doing (timers, dispatch).</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct SourceRecord
{
    public const int SizeBytes = 48;

    [FieldOffset(0)] public uint LengthBytes;
    [FieldOffset(4)] public RecordKind Kind;
    [FieldOffset(5)] public byte Flags;
    [FieldOffset(6)] public ushort Small;
    [FieldOffset(8)] public ulong Producer;

    /// <summary>Number of the first numbered submission that follows.</summary>
    [FieldOffset(16)] public ulong FirstNumber;

    [FieldOffset(24)] public long IntervalMicros;
    [FieldOffset(32)] public long WallMicros;
    [FieldOffset(40)] public ulong Reserved;
}

/// <summary>Messages were handed to a subscription: consecutive delivery numbers and tokens. Then <c>Runs</c> pairs of <see cref="TagRun"/>.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct DeliveredRecord
{
    public const int SizeBytes = 40;

    [FieldOffset(0)] public uint LengthBytes;
    [FieldOffset(4)] public RecordKind Kind;
    [FieldOffset(5)] public byte Flags;
    [FieldOffset(6)] public ushort Runs;
    [FieldOffset(8)] public uint Subscription;
    [FieldOffset(12)] public uint Count;
    [FieldOffset(16)] public ulong FirstDelivery;
    [FieldOffset(24)] public ulong FirstToken;
    [FieldOffset(32)] public long LeaseEndMicros;
}

/// <summary>Consecutive tags.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct TagRun
{
    public const int SizeBytes = 16;

    [FieldOffset(0)] public ulong First;
    [FieldOffset(8)] public ulong Count;
}

/// <summary>Small facts about one subject: see the page for which field means what in which kind. A payload (name, attributes) may follow.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct FactRecord
{
    public const int SizeBytes = 40;

    [FieldOffset(0)] public uint LengthBytes;
    [FieldOffset(4)] public RecordKind Kind;
    [FieldOffset(5)] public byte Flags;

    /// <summary>Of LeaseEnded, in <see cref="Small"/>: the deliveries do not count.</summary>
    public const ushort Uncounted = 1;

    /// <summary>Of MessageDeleted, in <see cref="Small"/>: a sweep did it.</summary>
    public const ushort Swept = 1;

    /// <summary>Of MessageProcessed, in <see cref="Small"/>: the key was not marked before.</summary>
    public const ushort Marked = 1;

    /// <summary>Of MessageChanged: this stays as it is.</summary>
    public const ulong Unchanged = ulong.MaxValue;

    /// <summary>NumberRefused, TransactionRefused: the <see cref="RefusalCode"/>. LeaseEnded: 0, or <see cref="Uncounted"/>. QueuePaused: the <see cref="PausedWays"/> from now on. MessageDeleted: 0, or <see cref="Swept"/>. MessageProcessed: 0, or <see cref="Marked"/>. SweepStarted: the <see cref="SweepAction"/>. SweepEnded: the <see cref="SweepState"/>. ScheduleFired: the <see cref="Firing"/>. SchedulePaused: 1: it stands still.</summary>
    [FieldOffset(6)] public ushort Small;

    /// <summary>Queue, subscription or schedule. TransactionRefused: which of its records, from 1 on.</summary>
    [FieldOffset(8)] public uint Subject;

    /// <summary>LeaseEnded, MessagesDropped, TransactionRefused: how many. PurgeSlice: how many entries. MessagesDue, MessagesExpired: how many at most. Subscribed: the queue. SweepStarted: most messages a second, 0: no bound. ScheduleSet: the queue. ScheduleFired: 1: the next was due already.</summary>
    [FieldOffset(12)] public uint Count;

    /// <summary>QueueDeclared: the producer that it goes with; 0: none. LeaseEnded: first delivery. NumberRefused, TransactionRefused: first number. Unsubscribed, SubscriptionResumed: deliveries from here on were not taken. QueuePurged, PurgeSlice: first tag not purged. ProducerOpened, ProducerForgotten, Subscribed, RefusalFloor: the producer. MessageDamaged, DeathStopped, RequestEnded: the tag. MessagesDropped, SweepStarted: the first tag. MessageDeleted, MessageChanged: the tag. SweepEnded: how many could not go. MessagesDue, MessagesExpired: the interval time up to which they are due.</summary>
    [FieldOffset(16)] public ulong First;

    /// <summary>ProducerOpened: first half of the client's instance. Subscribed: lease in milliseconds. RefusalFloor: number up to which refusals were taken. MessageChanged: interval time at which it is due. SweepStarted: the first tag that it does not look at.</summary>
    [FieldOffset(24)] public ulong Second;

    /// <summary>ProducerOpened: second half of the client's instance. Subscribed: the consumer's priority, plus 256 of an exclusive one. MessageChanged: its priority.</summary>
    [FieldOffset(32)] public ulong Third;
}
