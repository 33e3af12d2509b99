using System.Buffers;
using System.IO.Hashing;
using System.Runtime.InteropServices;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Journal;

/// <summary>A plain owner of a journal: things are put, dropped and moved. Enough of a broker to need all that the journal does.</summary>
internal sealed class Ledger : IReplay, ISlotUse, IDisposable
{
    private const RecordKind Put_ = RecordKind.Message, Drop_ = RecordKind.Settle, Move_ = RecordKind.MovedMessage;
    private readonly SortedDictionary<ulong, Thing> _live = [];
    private readonly SortedDictionary<uint, ulong> _left = [];
    private readonly List<(ulong Block, int Records)> _ends = [];
    private Journal? _journal;
    private ulong _digest;
    private int _applied;
    private int _found;
    private ulong _next = 1;
    private bool _isLenient;

    private readonly record struct Thing(Place Place, int Bytes, ulong Hash);

    private Ledger(int slotBytes, int blockBytes)
    {
        (SlotBytes, BlockBytes) = (slotBytes, blockBytes);
    }

    public int SlotBytes { get; }

    public int BlockBytes { get; }

    /// <summary>Null after an opening that was refused.</summary>
    public Journal Journal => _journal!;

    public JournalProblem? Refusal { get; private set; }

    public RecoveryReport Report { get; private set; } = new();

    /// <summary>Records applied in all lives.</summary>
    public int Applied => _applied;

    /// <summary>Of those, how many the journal calls durable.</summary>
    public int Confirmed => UpTo(Journal.DurableBlock);

    /// <summary>Of those, how many the journal calls written.</summary>
    public int Written => UpTo(Journal.WrittenBlock);

    /// <summary>All records so far, as a hash.</summary>
    public ulong Digest => _digest;

    /// <summary>Told the digest after each record, before it can be on any disk.</summary>
    public Action<ulong>? Applying { get; set; }

    public IEnumerable<ulong> Live => _live.Keys;

    public static Ledger Open(IStorage storage, string directory, int slotBytes = 64 * 1024, int blockBytes = 8 * 1024)
    {
        Ledger ledger = TryOpen(storage, directory, slotBytes, blockBytes);
        Assert.True(ledger.Refusal is null, ledger.Refusal?.Text);
        return ledger;
    }

    /// <summary>For salvage: takes what contradicts, and stays without a journal.</summary>
    public static Ledger Lenient() => new(0, 0) { _isLenient = true };

    /// <summary>A thing's bytes follow from its id: that is the check of its record.</summary>
    public static RecordVerdict Judge(ReadOnlySpan<byte> record)
    {
        if ((RecordKind)record[4] is Drop_)
        {
            return record.Length == 16 ? RecordVerdict.Unchecked : RecordVerdict.NoRecord;
        }

        if ((RecordKind)record[4] is not (Put_ or Move_) || record.Length < 16)
        {
            return RecordVerdict.NoRecord;
        }

        ulong id = MemoryMarshal.Read<ulong>(record[8..]);
        for (int i = 16; i < record.Length; i++)
        {
            if (record[i] != (byte)(id * 31 + (ulong)(i - 16)))
            {
                return RecordVerdict.Unsound;
            }
        }

        return RecordVerdict.Sound;
    }

    /// <summary>Gives up what does not lie where it is said to lie. Gives the ids.</summary>
    public IReadOnlyList<ulong> DiscardBad(JournalInspection inspection)
    {
        List<ulong> bad = [];
        foreach ((ulong id, Thing thing) in _live)
        {
            byte[] record = new byte[thing.Bytes];
            FastQ.Linux.Result<int> read = inspection.Read(thing.Place.Slot, thing.Place.Offset, record);
            if (!read.Ok || read.Value < record.Length || MemoryMarshal.Read<ulong>(record.AsSpan(8)) != id || Judge(record) != RecordVerdict.Sound)
            {
                bad.Add(id);
            }
        }

        bad.ForEach(id => _live.Remove(id));
        return bad;
    }

    /// <summary>May be refused.</summary>
    public static Ledger TryOpen(IStorage storage, string directory, int slotBytes = 64 * 1024, int blockBytes = 8 * 1024)
    {
        Ledger ledger = new(slotBytes, blockBytes);
        long micros = 0;
        ulong ids = 0;
        JournalOptions options = new()
        {
            Directory = directory,
            SlotBytes = slotBytes,
            BlockBytes = blockBytes,
            MaxRecordBytes = slotBytes / 4,
            MaxSlotsBeyondLive = 3,
            PatienceMicros = 1000,
            RetryMicros = 10,
            WallMicros = () => micros += 10,
            NewGuid = () => new Guid(XxHash128.Hash(MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>([ids++, 7])))),
        };
        JournalOpening opening = Journal.Open(options, storage, ledger);
        (ledger._journal, ledger.Refusal, ledger.Report) = (opening.Journal, opening.Refusal, opening.Report);
        ledger._found = ledger._applied;
        return ledger;
    }

    /// <summary>Puts a new thing. Gives its id.</summary>
    public ulong Put(int bytes)
    {
        Assert.True(TryPut(bytes), $"no room: {Journal.Failure?.Text} {Journal.RoomFault}");
        return _next - 1;
    }

    /// <summary>Puts a new thing. False: there is no room for it, or the storage has failed.</summary>
    public bool TryPut(int bytes)
    {
        ulong id = _next;
        byte[] record = new byte[Limits.Align(16 + bytes)];
        for (int i = 0; i < bytes; i++)
        {
            record[16 + i] = (byte)(id * 31 + (ulong)i);
        }

        return TryAppend(Put_, id, record, 16 + bytes);
    }

    public void Drop(ulong id) => Assert.True(TryAppend(Drop_, id, new byte[16], 16));

    /// <summary>Writes all that lives in a slot again, read from verified blocks.</summary>
    public void Compact(uint slot)
    {
        List<(ulong Id, byte[] Record)> found = [];
        using (SegmentScan scan = Journal.StartScan(slot)!)
        {
            while (scan.TryNext(out int offset, out ReadOnlySpan<byte> payload))
            {
                for (int at = 0; at < payload.Length;)
                {
                    int length = MemoryMarshal.Read<int>(payload[at..]);
                    ulong id = MemoryMarshal.Read<ulong>(payload[(at + 8)..]);
                    if (_live.TryGetValue(id, out Thing thing) && thing.Place == new Place(slot, (uint)(offset + at)))
                    {
                        found.Add((id, payload.Slice(at, Limits.Align(length)).ToArray()));
                    }

                    at += Limits.Align(length);
                }
            }

            Assert.False(scan.IsDamaged);
        }

        found.ForEach(one => Assert.True(TryAppend(Move_, one.Id, one.Record, MemoryMarshal.Read<int>(one.Record))));
    }

    public void Seal()
    {
        Journal.Seal();
        Poll();
    }

    public void Poll() => Journal.Poll();

    /// <summary>Waits until all so far is durable, or the storage has failed.</summary>
    public void Sync()
    {
        Journal.Seal();
        Journal.Drain();
        Poll();
    }

    /// <summary>False: no room for it.</summary>
    public bool Snapshot()
    {
        Journal.Seal();
        bool begun = Journal.TakeSnapshot(Save).Ok;
        Sync();
        return begun;
    }

    public void Reclaim()
    {
        Journal.Reclaim(this);
        Poll();
    }

    /// <summary>Slots that somebody still reads from.</summary>
    public HashSet<uint> Pinned { get; } = [];

    /// <summary>Slots whose file must go when they are free: somebody may read from it for ever.</summary>
    public HashSet<uint> Retired { get; } = [];

    public SlotUse Of(uint slot)
    {
        IEnumerable<Thing> here = _live.Values.Where(thing => thing.Place.Slot == slot);
        return new SlotUse(here.Count(), here.Sum(thing => (long)thing.Bytes), _left.GetValueOrDefault(slot), Pinned: Pinned.Contains(slot), Retire: Retired.Contains(slot));
    }

    /// <summary>Everything that lives lies where it is said to lie.</summary>
    public void ReadAll() => Assert.True(TryReadAll(out string problem), problem);

    /// <summary>False: something that lives does not lie where it is said to lie.</summary>
    public bool TryReadAll(out string problem)
    {
        problem = "";
        foreach ((ulong id, Thing thing) in _live)
        {
            byte[] record = new byte[thing.Bytes];
            FastQ.Linux.Result<int> read = Journal.Read(thing.Place.Slot, thing.Place.Offset, record);
            problem = !read.Ok || read.Value < record.Length ? $"{id} at {thing.Place} cannot be read" : HashOf(record) != thing.Hash ? $"{id} at {thing.Place} holds other bytes" : problem;
        }

        return problem.Length == 0;
    }

    /// <summary>What the check of the thing says in whose record this byte lies; null: in nobody's that lives.</summary>
    public RecordVerdict? VerdictAt(uint slot, long at)
    {
        foreach ((ulong id, Thing thing) in _live)
        {
            if (thing.Place.Slot == slot && at >= thing.Place.Offset && at < thing.Place.Offset + thing.Bytes)
            {
                byte[] record = new byte[thing.Bytes];
                FastQ.Linux.Result<int> read = Journal.Read(slot, thing.Place.Offset, record);
                bool isIts = read.Ok && read.Value == record.Length && MemoryMarshal.Read<ulong>(record.AsSpan(8)) == id;
                return isIts ? Judge(record) : RecordVerdict.Unsound;
            }
        }

        return null;
    }

    public void Dispose() => _journal?.Dispose();

    IEnumerable<uint> IReplay.SlotsNeeded => _live.Values.Select(thing => thing.Place.Slot).Distinct();

    void IReplay.Reset()
    {
        _live.Clear();
        _left.Clear();
        (_applied, _digest, _next) = (0, 0, 1);
    }

    bool IReplay.TryLoad(Stream snapshot)
    {
        try
        {
            Load(snapshot);
            return true;
        }
        catch (EndOfStreamException)
        {
            return false; // A bad page ends the stream.
        }
    }

    ReplayVerdict IReplay.Apply(ulong block, Place place, ReadOnlySpan<byte> record)
    {
        RecordKind kind = (RecordKind)record[4];
        if (kind is not (Put_ or Drop_ or Move_))
        {
            return ReplayVerdict.UnknownRecord;
        }

        ulong id = MemoryMarshal.Read<ulong>(record[8..]);
        if ((kind == Put_) == _live.ContainsKey(id))
        {
            return _isLenient ? ReplayVerdict.Applied : ReplayVerdict.Contradiction;
        }

        Apply(block, place, record);
        return ReplayVerdict.Applied;
    }

    private void Load(Stream snapshot)
    {
        using BinaryReader from = new(snapshot);
        (_applied, _digest, _next) = (from.ReadInt32(), from.ReadUInt64(), from.ReadUInt64());
        for (int left = from.ReadInt32(); left > 0; left--)
        {
            _live[from.ReadUInt64()] = new Thing(new Place(from.ReadUInt32(), from.ReadUInt32()), from.ReadInt32(), from.ReadUInt64());
        }

        for (int left = from.ReadInt32(); left > 0; left--)
        {
            _left[from.ReadUInt32()] = from.ReadUInt64();
        }
    }

    private int UpTo(ulong block)
    {
        int at = _ends.FindLastIndex(end => end.Block <= block);
        return at < 0 ? _found : _ends[at].Records;
    }

    private static ulong HashOf(ReadOnlySpan<byte> record) => XxHash3.HashToUInt64(record[8..]); // Not the kind: a moved thing is the same thing.

    private void Apply(ulong block, Place place, ReadOnlySpan<byte> record)
    {
        RecordKind kind = (RecordKind)record[4];
        ulong id = MemoryMarshal.Read<ulong>(record[8..]);
        if (_live.Remove(id, out Thing old))
        {
            _left[old.Place.Slot] = block;
        }

        if (kind != Drop_)
        {
            _live[id] = new Thing(place, record.Length, HashOf(record));
        }

        _next = Math.Max(_next, id + 1);
        _applied++;
        _digest = XxHash3.HashToUInt64(record, (long)_digest);
        Applying?.Invoke(_digest);
    }

    private bool TryAppend(RecordKind kind, ulong id, byte[] padded, int length)
    {
        const int MostTries = 1000, MostTriesWhileBusy = 1_000_000; // A disk that has a thread of its own may have to wait for a core.
        Span<byte> room;
        Place place;
        for (int tries = 0; !Journal.TryReserve(padded.Length, out room, out place); tries++)
        {
            if (tries >= (Journal.IsBusy ? MostTriesWhileBusy : MostTries) || Journal.Failure is not null)
            {
                return false;
            }

            if (tries >= MostTries)
            {
                Thread.Yield();
            }

            Reclaim();
        }

        RecordPrefix prefix = new() { LengthBytes = (uint)length, Kind = kind };
        MemoryMarshal.Write(padded, prefix);
        MemoryMarshal.Write(padded.AsSpan(8), id);
        padded.CopyTo(room);
        Journal.Commit(padded.Length, 1);
        Apply(Journal.OpenBlock, place, padded.AsSpan(0, length));
        _ends.Add((Journal.OpenBlock, _applied));
        return true;
    }

    public void Save(IBufferWriter<byte> to)
    {
        using MemoryStream bytes = new();
        using BinaryWriter writer = new(bytes);
        writer.Write(_applied);
        writer.Write(_digest);
        writer.Write(_next);
        writer.Write(_live.Count);
        foreach ((ulong id, Thing thing) in _live)
        {
            writer.Write(id);
            writer.Write(thing.Place.Slot);
            writer.Write(thing.Place.Offset);
            writer.Write(thing.Bytes);
            writer.Write(thing.Hash);
        }

        writer.Write(_left.Count);
        foreach ((uint slot, ulong block) in _left)
        {
            writer.Write(slot);
            writer.Write(block);
        }

        to.Write(bytes.ToArray());
    }
}
