using System.Runtime.InteropServices;
using FastQ.Linux;
using Xunit;

namespace FastQ.Protocol;

/// <summary>A ring of the smallest size in a memory file, mapped as client and broker map it, with the words of both sides.</summary>
internal sealed unsafe class SharedRing : IDisposable
{
    public const int Bytes = Limits.MinRingBytes;
    private static readonly byte[] s_counting = [.. Enumerable.Range(0, Bytes + 256).Select(value => (byte)value)];
    private readonly Mapping _ring;
    private readonly Mapping _words = Mapping.OfMemory(4096).OrThrow();

    /// <param name="start">Where both counters begin.</param>
    public SharedRing(ulong start = 0)
    {
        using FileHandle file = MemoryFile.Create("ring", Limits.ControlPageBytes + Bytes).OrThrow();
        _ring = Mapping.Mirrored(file, Limits.ControlPageBytes, Bytes, Protection.ReadWrite).OrThrow();
        (Writer, Reader) = BeginAt(start);
    }

    /// <summary>The word of the writer: what it, or a hostile one, has published.</summary>
    public ref ulong Head => ref *Word(0);

    /// <summary>The word of the reader.</summary>
    public ref ulong Position => ref *Word(1);

    public RingWriter Writer { get; private set; }

    public RingReader Reader { get; private set; }

    /// <summary>A sleep number: there are some, each with two sides.</summary>
    public ref ulong SleepNumber(int index) => ref *Word(2 + index);

    public Sleeper SleeperOf(int index) => new(Word(2 + index));

    public Ringer RingerOf(int index) => new(Word(2 + index));

    /// <summary>Both sides anew, with zeroed sleep numbers; the ring's bytes stay.</summary>
    public (RingWriter Writer, RingReader Reader) BeginAt(ulong start)
    {
        new Span<byte>(_words.Address, 4096).Clear();
        (Head, Position) = (start, start);
        Writer = new RingWriter(_ring.Address, Bytes, Word(0));
        Reader = new RingReader(_ring.Address, Bytes, Word(0), Word(1));
        return (Writer, Reader);
    }

    /// <summary>The reading end of a new session on the same memory, whatever stands in it.</summary>
    public RingReader Reopen() => Reader = new RingReader(_ring.Address, Bytes, Word(0), Word(1));

    /// <summary>The ring's own bytes from a position on, as a hostile writer reaches them; over the end they go on at the start.</summary>
    public Span<byte> At(ulong position, int bytes) => new(_ring.Address + position % Bytes, bytes);

    /// <summary>Writes the record of this number; nobody sees it before it is published.</summary>
    public void Write(int number, int length)
    {
        Fill(Writer.Next(Limits.Align(length)), number, length);
        Writer.Advance(length);
    }

    /// <summary>Is this the whole record of this number?</summary>
    public static void AssertRecord(ReadOnlySpan<byte> record, int number)
    {
        RecordPrefix prefix = MemoryMarshal.Read<RecordPrefix>(record);
        Assert.Equal((record.Length, (ushort)number), ((int)prefix.LengthBytes, prefix.Small));
        Assert.True(record[RecordPrefix.SizeBytes..].SequenceEqual(PayloadOf(number, record.Length)), $"record {number} is not what was written");
    }

    /// <summary>Does it lie within the two halves of the mapping?</summary>
    public void AssertInside(ReadOnlySpan<byte> bytes)
    {
        fixed (byte* first = bytes)
        {
            Assert.True(bytes.IsEmpty || (first >= _ring.Address && first + bytes.Length <= _ring.Address + 2 * Bytes), "bytes outside of the ring");
        }
    }

    public void Dispose()
    {
        _ring.Dispose();
        _words.Dispose();
    }

    private ulong* Word(int index) => (ulong*)(_words.Address + 128 * index);

    private static void Fill(Span<byte> room, int number, int length)
    {
        MemoryMarshal.Write(room, new RecordPrefix { LengthBytes = (uint)length, Kind = RecordKind.Message, Small = (ushort)number });
        PayloadOf(number, length).CopyTo(room[RecordPrefix.SizeBytes..]);
        room[length..].Clear();
    }

    /// <summary>Counts up, from another byte for each number.</summary>
    private static ReadOnlySpan<byte> PayloadOf(int number, int length) => s_counting.AsSpan(number * 31 % 256, length - RecordPrefix.SizeBytes);
}
