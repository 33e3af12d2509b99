using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>The journal's slot files, mapped read-only at first use. Kept until the broker says that a slot is gone, or the end.</summary>
internal sealed unsafe class SlotMaps : IDisposable
{
    private readonly Dictionary<uint, Mapping> _maps = [];
    private uint _lastSlot;
    private Mapping? _last;

    /// <summary>Takes a descriptor that came by the socket; it is closed here in any case.</summary>
    public Result Add(uint slot, int descriptor, long slotBytes)
    {
        using FileHandle file = FileHandle.Adopt(descriptor, $"slot {slot}");
        Result<long> length = file.Length();
        if (!length.Ok)
        {
            return length.Fault;
        }

        // Never beyond the file's end: a touch there would be a SIGBUS.
        Result<Mapping> map = Mapping.OfFile(file, Math.Min(length.Value, slotBytes), Protection.Read, hugeAligned: true, dontFork: true);
        if (!map.Ok)
        {
            return map.Fault;
        }

        Remove(slot);
        _maps.Add(slot, map.Value);
        return Result.Success;
    }

    public bool Knows(uint slot) => _lastSlot == slot || _maps.ContainsKey(slot);

    /// <summary>A record's first byte; null when the slot is not known or the record would not lie in it.</summary>
    public byte* Find(uint slot, uint offset, uint lengthBytes)
    {
        if (_lastSlot != slot)
        {
            if (!_maps.TryGetValue(slot, out Mapping? map))
            {
                return null;
            }

            (_lastSlot, _last) = (slot, map);
        }

        return (long)offset + lengthBytes <= _last!.Length ? _last.Address + offset : null;
    }

    /// <summary>The slot's file is gone, and nothing of it is in hand.</summary>
    public void Remove(uint slot)
    {
        if (_maps.Remove(slot, out Mapping? map))
        {
            (_lastSlot, _last) = _lastSlot == slot ? (0u, null) : (_lastSlot, _last);
            map.Dispose();
        }
    }

    public void Dispose()
    {
        foreach (Mapping map in _maps.Values)
        {
            map.Dispose();
        }

        _maps.Clear();
        (_lastSlot, _last) = (0, null);
    }
}
