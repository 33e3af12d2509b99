using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace FastQ.Protocol;

// A ring: shared memory between one writer and one reader.
//
//   mapped twice in a row, so that a record never wraps:
//   |<------- RingBytes ------->|<------- RingBytes ------->|
//   |  record | record |   free |  record | record |   free |   (the same memory again)
//        ^ position (reader)  ^ head (writer)                   both 64-bit, in bytes, only rising
//
// Invariants: position <= head <= position + RingBytes; both are multiples of 8. The writer keeps its head privately and publishes it
// with one release-store; the reader copies what it judges. Nothing here trusts the other side: a head or length that breaks the
// invariants is a verdict, never a fault.

/// <summary>What a reader found.</summary>
public enum RingVerdict
{
    /// <summary>Nothing new.</summary>
    Empty,

    /// <summary>A record, whole in the ring as far as its length goes.</summary>
    Record,

    /// <summary>The other side broke the protocol: head moved backwards or too far, or a length that does not fit.</summary>
    Violation,
}

/// <summary>The writing end of a ring. One thread at a time. The memory must outlive it.</summary>
public sealed unsafe class RingWriter
{
    private readonly byte* _ring;
    private readonly ulong* _published;
    private readonly ulong _mask;
    private ulong _head;

    /// <param name="ring">Start of the mirrored mapping: 2 x <paramref name="ringBytes"/> bytes, 8-byte aligned.</param>
    /// <param name="ringBytes">A power of two.</param>
    /// <param name="published">The head word in the writer's control page.</param>
    public RingWriter(byte* ring, int ringBytes, ulong* published)
    {
        Invariant.Holds(System.Numerics.BitOperations.IsPow2(ringBytes) && ringBytes >= Limits.MinRingBytes);
        Invariant.Holds((nuint)ring % Limits.RecordAlignment == 0);
        _ring = ring;
        RingBytes = ringBytes;
        _published = published;
        _mask = (ulong)ringBytes - 1;
        _head = *published;
    }

    public int RingBytes { get; }

    /// <summary>Where the next record goes, in bytes since the ring's birth; ahead of what is published until <see cref="Publish"/>.</summary>
    public ulong Head => _head;

    /// <summary>Bytes that may be written while nothing at or after <paramref name="freedUpTo"/> may be overwritten.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public long Room(ulong freedUpTo) => RingBytes - (long)(_head - freedUpTo);

    /// <summary>The next <paramref name="bytes"/> bytes, to be filled in place. The caller has asked <see cref="Room"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Span<byte> Next(int bytes)
    {
        Invariant.Holds((uint)bytes <= (uint)RingBytes);
        return new Span<byte>(_ring + (_head & _mask), bytes);
    }

    /// <summary>Bytes written earlier, for sending them again. <paramref name="position"/> is not older than one ring.</summary>
    public ReadOnlySpan<byte> Written(ulong position, int bytes)
    {
        Invariant.Holds(position <= _head && _head - position <= (ulong)RingBytes && (uint)bytes <= _head - position);
        return new ReadOnlySpan<byte>(_ring + (position & _mask), bytes);
    }

    /// <summary>Moves the private head past a record; nobody sees it before <see cref="Publish"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Advance(int recordBytes) => _head += (ulong)Limits.Align(recordBytes);

    /// <summary>Shows all records up to the private head: one release-store.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Publish() => Volatile.Write(ref *_published, _head);

    /// <summary>Shows the records up to <paramref name="position"/> only: what lies beyond must wait (for its block to be written).</summary>
    /// <param name="position">End of the last record to be shown, in bytes since the ring's birth; not before what was shown last.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void PublishUpTo(ulong position)
    {
        Invariant.Holds(position <= _head);
        Volatile.Write(ref *_published, position);
    }
}

/// <summary>The reading end of a ring. One thread at a time. The memory must outlive it.</summary>
public sealed unsafe class RingReader
{
    private readonly byte* _ring;
    private readonly ulong* _head;
    private readonly ulong* _published;
    private readonly ulong _mask;
    private ulong _knownHead;
    private ulong _position;

    /// <param name="ring">Start of the mirrored mapping.</param>
    /// <param name="ringBytes">A power of two.</param>
    /// <param name="head">The writer's head word.</param>
    /// <param name="published">The reader's own position word, in its control page.</param>
    public RingReader(byte* ring, int ringBytes, ulong* head, ulong* published)
    {
        Invariant.Holds(System.Numerics.BitOperations.IsPow2(ringBytes) && ringBytes >= Limits.MinRingBytes);
        _ring = ring;
        RingBytes = ringBytes;
        _head = head;
        _published = published;
        _mask = (ulong)ringBytes - 1;
        _position = _knownHead = *published;
    }

    public int RingBytes { get; }

    /// <summary>Position of the next record, in bytes since the ring's birth.</summary>
    public ulong Position => _position;

    /// <summary>Bytes that were there at the last look and are not read yet.</summary>
    public ulong KnownBytes => _knownHead - _position;

    /// <summary>Is anything there? Looks at the shared head; for use after a fence before sleeping.</summary>
    public bool HasNews => Volatile.Read(ref *_head) != _position;

    /// <summary>Judges the next record. Copies its prefix once; the rest must be copied by the caller before it is judged.</summary>
    /// <param name="prefix">A copy, valid only with <see cref="RingVerdict.Record"/>: at least 8 bytes long and inside what the writer has published.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public RingVerdict Next(out RecordPrefix prefix)
    {
        if (_knownHead == _position && !Look(out RingVerdict verdict))
        {
            prefix = default;
            return verdict;
        }

        prefix = Unsafe.ReadUnaligned<RecordPrefix>(_ring + (_position & _mask));
        ulong known = _knownHead - _position;
        Prefetch(known);
        return prefix.LengthBytes >= RecordPrefix.SizeBytes && ((prefix.LengthBytes + 7ul) & ~7ul) <= known
            ? RingVerdict.Record
            : RingVerdict.Violation;
    }

    /// <summary>The lines that come soon lie in another core's cache. What the writer has not published is left to it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Prefetch(ulong known)
    {
        const ulong Ahead = 1024, Line = 64;
        if (Sse.IsSupported && known > Ahead + 4 * Line)
        {
            byte* ahead = _ring + ((_position + Ahead) & _mask);
            Sse.Prefetch0(ahead);
            Sse.Prefetch0(ahead + Line);
            Sse.Prefetch0(ahead + 2 * Line);
        }
    }

    /// <summary>Rereads the head. False: nothing new, or a violation; <paramref name="verdict"/> says which.</summary>
    private bool Look(out RingVerdict verdict)
    {
        ulong head = Volatile.Read(ref *_head);
        ulong ahead = head - _position;
        if (ahead == 0)
        {
            verdict = RingVerdict.Empty;
            return false;
        }

        if (ahead > (ulong)RingBytes || head % Limits.RecordAlignment != 0)
        {
            verdict = RingVerdict.Violation;
            return false;
        }

        _knownHead = head;
        verdict = RingVerdict.Record;
        return true;
    }

    /// <summary>The next <paramref name="bytes"/> bytes as they are now; the writer, if hostile, may change them meanwhile.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ReadOnlySpan<byte> Bytes(int bytes)
    {
        Invariant.Holds((ulong)(uint)bytes <= _knownHead - _position);
        return new ReadOnlySpan<byte>(_ring + (_position & _mask), bytes);
    }

    /// <summary>Goes past a record of this length (unpadded).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Advance(int recordBytes)
    {
        _position += (ulong)Limits.Align(recordBytes);
        Invariant.Holds(_position <= _knownHead);
    }

    /// <summary>Tells the writer how far this side has read: one release-store.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Publish() => Volatile.Write(ref *_published, _position);

    /// <summary>Tells the writer that only what lies before <paramref name="position"/> may be overwritten; the rest stays readable by <see cref="At"/>. One release-store.</summary>
    /// <param name="position">Start of the oldest record still needed, in bytes since the ring's birth: passed already, and not before what was published last.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void PublishUpTo(ulong position)
    {
        Invariant.Holds(position <= _position);
        Volatile.Write(ref *_published, position);
    }

    /// <summary>Bytes that were passed and that <see cref="PublishUpTo"/> has kept. As with <see cref="Bytes"/>, a hostile writer may have changed them since: copy, then judge the copy.</summary>
    /// <param name="position">Where they begin, in bytes since the ring's birth: not before what was published last.</param>
    /// <param name="bytes">How many; they end at or before <see cref="Position"/>.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ReadOnlySpan<byte> At(ulong position, int bytes)
    {
        Invariant.Holds(position <= _position && _position - position <= (ulong)RingBytes && (uint)bytes <= _position - position);
        return new ReadOnlySpan<byte>(_ring + (position & _mask), bytes);
    }
}
