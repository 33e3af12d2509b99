using FastQ.Linux;

namespace FastQ.Journal;

/// <summary>Reads a full slot block by block, each verified before a byte of it is shown: rot is never copied on (DESIGN-REVIEW R6). One thread, a block a call.</summary>
public sealed class SegmentScan : IDisposable
{
    private readonly Slot _slot;
    private readonly Guid _uuid;
    private readonly NativeBuffer _head = new(BlockHeader.SizeBytes);
    private NativeBuffer _payload = new(512 * 1024);
    private int _offset = Format.SegmentHeaderBytes;
    private ulong _last;
    private ulong _lastHash;

    internal SegmentScan(Slot slot, Guid uuid)
    {
        (_slot, _uuid) = (slot, uuid);
    }

    public uint Slot => _slot.Id;

    /// <summary>A place that could not be read or verified was met; what lies beyond it was not looked at, so the slot must stay.</summary>
    public bool IsDamaged { get; private set; }

    /// <summary>Goes to the next block. False: the end, or damage.</summary>
    /// <param name="offset">Byte offset of the payload in the slot.</param>
    /// <param name="payload">Valid until the next call.</param>
    public bool TryNext(out int offset, out ReadOnlySpan<byte> payload)
    {
        offset = 0;
        payload = default;
        Result<int> read = _slot.File.ReadAt(_head.Span, _offset);
        if (!read.Ok)
        {
            IsDamaged = true;
            return false;
        }

        BlockHeader header = default;
        bool isBlock = read.Value == BlockHeader.SizeBytes && BlockHeader.TryRead(_head.Span, out header) && (_last == 0 || (header.BlockNumber == _last + 1 && header.ChainHash == _lastHash));
        if (!isBlock)
        {
            IsDamaged = _last < _slot.LastBlock && !_slot.IsOlderLife; // Of an older life's slot the last block may be unknown: its end is where the chain ends.
            return false;
        }

        int bytes = (int)header.PayloadBytes;
        if (_payload.Length < bytes)
        {
            _payload.Dispose();
            _payload = new NativeBuffer(Format.AlignBlock(bytes));
        }

        read = _slot.File.ReadAt(_payload.Span[..bytes], _offset + BlockHeader.SizeBytes);
        if (!read.Ok || read.Value < bytes || header.HashWith(_payload.Span[..bytes], Format.Seed(_uuid, header.Epoch)) != header.Hash)
        {
            IsDamaged = true;
            return false;
        }

        offset = _offset + BlockHeader.SizeBytes;
        payload = _payload.Span[..bytes];
        _offset += Format.AlignBlock(BlockHeader.SizeBytes + bytes);
        (_last, _lastHash) = (header.BlockNumber, header.Hash);
        return true;
    }

    public void Dispose()
    {
        _head.Dispose();
        _payload.Dispose();
    }
}
