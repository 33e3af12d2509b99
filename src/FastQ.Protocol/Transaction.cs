using System.Runtime.InteropServices;

namespace FastQ.Protocol;

// A transaction in the submission ring: one record that holds ordinary submissions, which take effect together or not at all.
//
//   | header: first number, count | message | settle | message | ...      each from a multiple of 8 on, numbers side by side
//
// In the journal there is no such record: the submissions stand there as they came, side by side in one block.

/// <summary>The head of a transaction. Its records follow, in the layout that they have by themselves.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public struct TransactionHeader
{
    public const int SizeBytes = 24;

    [FieldOffset(0)] public uint LengthBytes;
    [FieldOffset(4)] public RecordKind Kind;

    /// <summary>Bits 0 and 1: the <see cref="ConfirmLevel"/> that the sender waits for.</summary>
    [FieldOffset(5)] public byte Flags;

    [FieldOffset(6)] public ushort Small;

    /// <summary>The number of its first record; the others have the next ones.</summary>
    [FieldOffset(8)] public ulong Number;

    /// <summary>How many records: 1 to <see cref="Limits.MaxTransactionOperations"/>.</summary>
    [FieldOffset(16)] public uint Count;

    [FieldOffset(20)] public uint Reserved;

    public readonly ulong LastNumber => Number + Count - 1;
}

/// <summary>Walks over the records of a transaction. Their lengths must have been judged: <see cref="Fault"/>.</summary>
public ref struct TransactionReader(Span<byte> records)
{
    private readonly Span<byte> _records = records;
    private int _next;

    /// <summary>Where the record begins.</summary>
    public int Offset { get; private set; }

    /// <summary>The record, without its padding.</summary>
    public Span<byte> Record { get; private set; }

    public readonly RecordKind Kind => (RecordKind)Record[4];

    /// <summary>Goes on to the next record. False: there is none.</summary>
    public bool Next()
    {
        if (_next >= _records.Length)
        {
            return false;
        }

        Offset = _next;
        Record = _records.Slice(Offset, (int)MemoryMarshal.Read<uint>(_records[Offset..]));
        _next += Limits.Align(Record.Length);
        return true;
    }

    /// <summary>Says what breaks the protocol, or is empty: kinds, lengths, numbers, padding and checks of all records.</summary>
    /// <param name="records">Of any origin; they must not change meanwhile.</param>
    /// <param name="first">The number that the first must have.</param>
    /// <param name="count">How many there must be.</param>
    public static string Fault(ReadOnlySpan<byte> records, ulong first, uint count)
    {
        int at = 0;
        for (uint i = 0; i < count; i++)
        {
            if (records.Length - at < MessageHeader.SizeBytes)
            {
                return $"A transaction of {count} records ends after {i}.";
            }

            RecordPrefix prefix = MemoryMarshal.Read<RecordPrefix>(records[at..]);
            (int least, int most) = prefix.Kind switch
            {
                RecordKind.Message => (MessageHeader.SizeBytes, records.Length - at),
                RecordKind.Settle => (SettleRecord.SizeBytes, Math.Min(SettleRecord.SizeBytes + Limits.MaxWordsBytes, records.Length - at)),
                _ => (int.MaxValue, 0),
            };
            if (prefix.LengthBytes < least || prefix.LengthBytes > most)
            {
                return $"Record {i + 1} of a transaction, of kind {(byte)prefix.Kind} and {prefix.LengthBytes} bytes, is neither a message nor a settlement that fits in it.";
            }

            int length = (int)prefix.LengthBytes;
            int end = at + Limits.Align(length);
            ulong number = MemoryMarshal.Read<ulong>(records[(at + 8)..]);
            if (number != first + i || end > records.Length || records[(at + length)..end].ContainsAnyExcept((byte)0))
            {
                return $"Record {i + 1} of a transaction has number {number} instead of {first + i}, or something in its padding.";
            }

            if (prefix.Kind == RecordKind.Message && MemoryMarshal.Read<MessageHeader>(records[at..]).Check != RecordCheck.Of(records[(at + MessageHeader.SizeBytes)..(at + length)]))
            {
                return $"The bytes of message {number} do not have its check: they were changed after their commit, or were never right.";
            }

            at = end;
        }

        return at == records.Length ? "" : $"A transaction of {count} records has {records.Length - at} bytes behind them.";
    }
}
