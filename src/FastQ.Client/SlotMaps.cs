using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>
/// The journal's slot files, mapped read-only at first use. One that the broker has given up is let go of once nothing in hand lies in it: a
/// mapping keeps the room on the disk of a file that has no name any more.
/// </summary>
internal sealed unsafe class SlotMaps : IDisposable
{
    private readonly Dictionary<uint, (Mapping Map, FileIdentity File)> _maps = [];
    private readonly List<Mapping> _replaced = [];
    private readonly HashSet<uint> _given = []; // Up, by the broker. All are mapped.
    private readonly HashSet<uint> _kept = []; // Mapped by a connection that is over: what it handed out may be in hand under a number that was used again.
    private readonly HashSet<uint> _gone = []; // Named no more, ever: a descriptor that still lies in the socket comes too late.
    private uint _lastSlot;
    private Mapping? _last;

    /// <summary>
    /// Takes a descriptor that came by the socket; it is closed here in any case. After a reconnect the broker sends files that are mapped
    /// already: what is in hand lies in the mapping that is there, which therefore stays.
    /// </summary>
    public Result Add(uint slot, int descriptor, long slotBytes)
    {
        using FileHandle file = FileHandle.Adopt(descriptor, $"slot {slot}");
        if (_gone.Contains(slot))
        {
            return Result.Success;
        }

        Result<long> length = file.Length();
        if (!length.Ok)
        {
            return length.Fault;
        }

        Result<FileIdentity> identity = file.Identity();
        if (!identity.Ok)
        {
            return identity.Fault;
        }

        if (_maps.TryGetValue(slot, out (Mapping Map, FileIdentity File) known) && known.File == identity.Value)
        {
            return Result.Success;
        }

        // Never beyond the file's end: a touch there would be a SIGBUS.
        Result<Mapping> map = Mapping.OfFile(file, Math.Min(length.Value, slotBytes), Protection.Read, hugeAligned: true, dontFork: true);
        if (!map.Ok)
        {
            return map.Fault;
        }

        if (known.Map is not null)
        {
            _replaced.Add(known.Map); // Another file under this number: what lay in the one before may be in hand still.
            (_lastSlot, _last) = (0, null);
        }

        _maps[slot] = (map.Value, identity.Value);
        return Result.Success;
    }

    /// <summary>The broker names it no more. Slot ids are never used again.</summary>
    public void GiveUp(uint slot)
    {
        _gone.Add(slot);
        if (_maps.ContainsKey(slot) && !_kept.Contains(slot))
        {
            _given.Add(slot);
        }
    }

    /// <summary>A new connection begins: what is mapped by now stays until the session's end.</summary>
    public void KeepAll()
    {
        _kept.UnionWith(_maps.Keys);
        _given.Clear();
    }

    /// <summary>Some were given up, and are mapped still.</summary>
    public bool HasGiven => _given.Count > 0;

    /// <summary>Unmaps what was given up and is not read any more.</summary>
    public void LetGo(Func<uint, bool> isRead)
    {
        foreach (uint slot in _given.ToArray())
        {
            if (!isRead(slot))
            {
                _maps[slot].Map.Dispose();
                _maps.Remove(slot);
                _given.Remove(slot);
                (_lastSlot, _last) = (0, null);
            }
        }
    }

    public bool Knows(uint slot) => _lastSlot == slot || _maps.ContainsKey(slot);

    /// <summary>A record's first byte; null when the slot is not known or the record would not lie in it.</summary>
    public byte* Find(uint slot, uint offset, uint lengthBytes)
    {
        if (_lastSlot != slot)
        {
            if (!_maps.TryGetValue(slot, out (Mapping Map, FileIdentity File) known))
            {
                return null;
            }

            (_lastSlot, _last) = (slot, known.Map);
        }

        return (long)offset + lengthBytes <= _last!.Length ? _last.Address + offset : null;
    }

    public void Dispose()
    {
        foreach (Mapping map in _maps.Values.Select(known => known.Map).Concat(_replaced))
        {
            map.Dispose();
        }

        _maps.Clear();
        _replaced.Clear();
        (_lastSlot, _last) = (0, null);
    }
}
