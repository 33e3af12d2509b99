using System.Runtime.InteropServices;

namespace FastQ.Protocol;

// The control pages: the first 4 KiB of a session's two memory files. Each is written by one side only.
//
//   A, written by the client                     B, written by the broker
//   +--------------------------------+           +--------------------------------+
//   | magic, version, ring bytes     |  0        | magic, version, ring bytes     |  0
//   | SubmissionHead                 |  128      | DeliveryHead                   |  128
//   | DeliveryPosition               |  256      | SubmissionPosition             |  256
//   | SleepNumber                    |  384      | Decided | Written | Durable    |  384, 512, 640
//   +--------------------------------+           | SleepNumber, FutexWord, Ended  |  768, 896, 1024
//   | submission ring ...            |  4096     +--------------------------------+
//                                                | delivery ring ...              |  4096
//
// Counters are 64-bit, monotonic, each on its own pair of cache lines (128 bytes: the prefetcher fetches lines in pairs).

/// <summary>Control page of memory file A. Written by the client only; the broker judges what it reads there.</summary>
[StructLayout(LayoutKind.Explicit, Size = Limits.ControlPageBytes)]
public struct ClientControl
{
    public const uint MagicValue = 0x41525146; // "FQRA", little-endian

    [FieldOffset(0)] public uint Magic;
    [FieldOffset(4)] public uint Version;
    [FieldOffset(8)] public uint RingBytes;

    /// <summary>Position in bytes up to which submissions are committed.</summary>
    [FieldOffset(128)] public ulong SubmissionHead;

    /// <summary>Position in bytes up to which the client has taken records from the delivery ring.</summary>
    [FieldOffset(256)] public ulong DeliveryPosition;

    /// <summary>The client's sleep number: odd = ring me, even = awake.</summary>
    [FieldOffset(384)] public ulong SleepNumber;
}

/// <summary>Control page of memory file B. Written by the broker only.</summary>
[StructLayout(LayoutKind.Explicit, Size = Limits.ControlPageBytes)]
public struct BrokerControl
{
    public const uint MagicValue = 0x42525146; // "FQRB", little-endian

    [FieldOffset(0)] public uint Magic;
    [FieldOffset(4)] public uint Version;
    [FieldOffset(8)] public uint RingBytes;

    /// <summary>Position in bytes up to which the delivery ring holds records.</summary>
    [FieldOffset(128)] public ulong DeliveryHead;

    /// <summary>Position in bytes up to which the broker has read the submission ring.</summary>
    [FieldOffset(256)] public ulong SubmissionPosition;

    /// <summary>Highest submission number whose refusal, if any, is in the delivery ring, and that is decided.</summary>
    [FieldOffset(384)] public ulong Decided;

    /// <summary>As <see cref="Decided"/>, and whose block the file system has.</summary>
    [FieldOffset(512)] public ulong Written;

    /// <summary>As <see cref="Decided"/>, and whose block a returned sync covers.</summary>
    [FieldOffset(640)] public ulong Durable;

    /// <summary>The broker's sleep number for this session: odd = ring me, even = awake.</summary>
    [FieldOffset(768)] public ulong SleepNumber;

    /// <summary>Changed at each ring of the client, for those who wait by futex: they load it before they announce their sleep, for the only ring of that sleep may come before their look.</summary>
    [FieldOffset(896)] public uint FutexWord;

    /// <summary>1: the broker has ended the session, and judges by <see cref="ClientControl.DeliveryPosition"/> as it reads it from now on what the client has taken.</summary>
    [FieldOffset(1024)] public uint Ended;
}
