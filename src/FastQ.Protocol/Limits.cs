namespace FastQ.Protocol;

// Every limit that client and broker must agree on, once, with the reason for its value. The broker may be configured below a limit, never above.

/// <summary>Limits of the protocol. A refusal names the one that it rests on.</summary>
public static class Limits
{
    /// <summary>Records start on multiples of this in rings and blocks, so that their 64-bit fields are aligned.</summary>
    public const int RecordAlignment = 8;

    /// <summary>Bytes of the control page that precedes a ring in its memory file: one page, so that the ring itself can be mapped twice in a row.</summary>
    public const int ControlPageBytes = 4096;

    /// <summary>Smallest ring: a page, as mappings go by pages.</summary>
    public const int MinRingBytes = 64 * 1024;

    /// <summary>Rings at the start of a session: 1,000 idle sessions must not cost gigabytes.</summary>
    public const int DefaultRingBytes = 256 * 1024;

    /// <summary>Rings grow up to here by load: the size at which throughput peaked in measurements.</summary>
    public const int MaxLoadRingBytes = 4 * 1024 * 1024;

    /// <summary>Largest ring: room for one message of <see cref="MaxMessageBytes"/> with its header and properties.</summary>
    public const int MaxRingBytes = 64 * 1024 * 1024;

    /// <summary>Largest body, in bytes. At most half a slot, so that a slot is never mostly padding.</summary>
    public const int MaxMessageBytes = 16 * 1024 * 1024;

    /// <summary>Properties and headers of one message together, in bytes: their length is a 16-bit field.</summary>
    public const int MaxPropertyBytes = 32 * 1024;

    /// <summary>Properties of a message that died, with its story, together, in bytes: what a sender may write and 16 KiB for the story.</summary>
    public const int MaxStoredPropertyBytes = 48 * 1024;

    /// <summary>Lists and tables within one another in a header: a reader goes down no further, whatever stands there.</summary>
    public const int MaxValueDepth = 16;

    /// <summary>What a consumer may say of a reject, as fields, in bytes: a sentence and a stack trace's head.</summary>
    public const int MaxWordsBytes = 2048;

    /// <summary>Text that says which messages of a queue are meant.</summary>
    public const int MaxFilterBytes = 512;

    /// <summary>How long a deduplication id is remembered where nobody says otherwise: five minutes.</summary>
    public const long DefaultDedupMilliseconds = 5 * 60 * 1000;

    /// <summary>The longest: thirty days.</summary>
    public const long MaxDedupMilliseconds = 30L * 24 * 3600 * 1000;

    /// <summary>Most records in one transaction: bounds the work of a turn.</summary>
    public const int MaxTransactionOperations = 64 * 1024;

    /// <summary>Records of one transaction together, in bytes: as a message of the largest size, so that it fits in a ring and in a block.</summary>
    public const int MaxTransactionBytes = MaxMessageBytes;

    /// <summary>What a consumer may leave as the result of something that it has processed, in bytes.</summary>
    public const int MaxResultBytes = 512;

    /// <summary>The longest time for which a queue remembers what was processed: thirty days.</summary>
    public const long MaxProcessedMilliseconds = 30L * 24 * 3600 * 1000;

    /// <summary>A schedule with its rule and its whole message, in bytes: it is a part of the state, and goes as one command.</summary>
    public const int MaxScheduleBytes = 24 * 1024;

    /// <summary>Shortest interval of a schedule.</summary>
    public const long MinEveryMilliseconds = 100;

    /// <summary>Missed firings that a schedule sends one after the other; of those beyond the last alone.</summary>
    public const int MostMissedFirings = 1000;

    /// <summary>Deaths that a message's story tells of one by one, the latest ones.</summary>
    public const int MaxDeaths = 8;

    /// <summary>A message that was delivered so often and not accepted goes to the dead letters when nobody says otherwise.</summary>
    public const int DefaultMaxDeliveries = 20;

    /// <summary>Largest such number: counts of deliveries have 16 bits.</summary>
    public const int MostMaxDeliveries = 60_000;

    /// <summary>Longest name of a queue or namespace, in bytes of UTF-8.</summary>
    public const int MaxNameBytes = 255;

    /// <summary>Queues that one message may reach: its record and the work of one step stay small (DESIGN-REVIEW R44).</summary>
    public const int MaxFanout = 4096;

    /// <summary>Headers that a binding names, as properties, in bytes: they stand in one record with two names.</summary>
    public const int MaxArgumentBytes = 512;

    /// <summary>Longest delay, in milliseconds: a thousand years, so that sums of times never overflow.</summary>
    public const long MaxDelayMilliseconds = 1000L * 365 * 24 * 3600 * 1000;

    /// <summary>Largest count in one settle range: bounds the work of one record.</summary>
    public const int MaxSettleRange = 1 << 20;

    /// <summary>Deliveries in one run, so that a run with its header stays within a kilobyte or so and its reader soon sees it.</summary>
    public const int MaxRunEntries = 512;

    /// <summary>Most deliveries that a subscription may hold unsettled at once.</summary>
    public const int MaxCredit = 1 << 20;

    /// <summary>Longest payload of a command or an answer, in bytes.</summary>
    public const int MaxCommandBytes = 32 * 1024;

    /// <summary>Longest handshake message, in bytes.</summary>
    public const int MaxHandshakeBytes = 4096;

    /// <summary>A connection that has not finished its handshake after this long is closed.</summary>
    public const int HandshakeMilliseconds = 5_000;

    /// <summary>Messages with descriptors of slots that a session may leave unacknowledged: the kernel counts descriptors in flight per user (DESIGN-REVIEW R22).</summary>
    public const int MaxSlotMessagesInFlight = 4;

    /// <summary>Slots named in one such message.</summary>
    public const int MaxSlotsPerMessage = 8;

    /// <summary>Refused numbers above the acknowledged floor that the broker keeps for a producer; beyond, its session ends (DESIGN-REVIEW R2).</summary>
    public const int MaxKeptRefusals = 64 * 1024;

    /// <summary>Shortest and longest lease, in milliseconds.</summary>
    public const long MinLeaseMilliseconds = 10, MaxLeaseMilliseconds = 7L * 24 * 3600 * 1000;

    /// <summary>A delivery runs under a lease of this length when nobody says otherwise.</summary>
    public const long DefaultLeaseMilliseconds = 30_000;

    /// <summary>Rounds up to <see cref="RecordAlignment"/>.</summary>
    public static int Align(int bytes) => (bytes + (RecordAlignment - 1)) & ~(RecordAlignment - 1);

    /// <summary>The smallest ring that holds a record of <paramref name="recordBytes"/> bytes and leaves the quarter that is kept for answers.</summary>
    /// <returns>A power of two, or 0 when no ring may be that large.</returns>
    public static int RingBytesFor(long recordBytes)
    {
        long needed = Math.Max(MinRingBytes, recordBytes + recordBytes / 3 + 64);
        long ring = (long)System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)needed);
        return ring <= MaxRingBytes ? (int)ring : 0;
    }
}
