using System.IO.Hashing;
using System.Runtime.InteropServices;
using FastQ.Broker;
using FastQ.Engine;
using FastQ.Engine.Tests;
using FastQ.Journal;
using FastQ.Linux;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Fuzz;

// A data directory: a good one, patched. What starts from it adds up and starts again as the same; what does not says why. Verify and salvage
// look at it, too.
//
//   input: | which checks are put right, as bits | patch | patch | ...
//   patch: | file | how | 4 KiB place | offset in it, 2 bytes | length | bytes |
internal sealed class JournalTarget : ITarget
{
    private const string Data = "/sim/data", Slots = $"{Data}/namespaces/default/slots", Snapshots = $"{Data}/namespaces/default/snapshots";
    private const int SlotBytes = 24 * 1024, BlockBytes = 4 * 1024;
    private const byte SegmentsRight = 1, BlocksRight = 2, ChainRight = 4, SnapshotsRight = 8;
    private static readonly EngineLimits s_limits = new() { IndexBytes = 16 << 20 };
    private readonly SimulatedStorage _good = Make();
    private readonly List<string> _files;

    private static JournalOptions Options
    {
        get
        {
            long micros = 1_700_000_000_000_000; // It goes on: what waits for a slot waits by this clock.
            return new() { Directory = Data, SlotBytes = SlotBytes, BlockBytes = BlockBytes, MaxRecordBytes = 8 * 1024, NewGuid = static () => new Guid(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), WallMicros = () => micros += 1000 };
        }
    }

    public JournalTarget()
    {
        _files = [.. _good.List(Slots).OrThrow().Select(name => $"{Slots}/{name}"), .. _good.List(Snapshots).OrThrow().Where(name => name.EndsWith(".snap", StringComparison.Ordinal)).Select(name => $"{Snapshots}/{name}"), $"{Data}/FORMAT"];
    }

    public IEnumerable<byte[]> Seeds
    {
        get
        {
            yield return [0];
            foreach (byte right in (byte[])[0, BlocksRight, BlocksRight | ChainRight, SegmentsRight | BlocksRight | SnapshotsRight])
            {
                for (int file = 0; file < _files.Count; file++)
                {
                    yield return [right, (byte)file, 1, 1, 8, 0, 4, 1, 0, 0, 0, (byte)file, 0, 1, 72, 0, 8, 255, 0, 0, 0, 1, 0, 0, 0, (byte)file, 1, 0, 40, 0, 1, 1];
                }
            }

            for (byte how = 2; how <= 4; how++)
            {
                yield return [0, 1, how, 2, 0, 2, 4, 0, 0, 0, 0];
            }
        }
    }

    public void Run(byte[] input)
    {
        using SimulatedStorage disk = _good.AfterKill();
        Patch(disk, input);
        using (SimulatedStorage looked = disk.AfterKill())
        {
            Inspect(looked);
        }

        string? state = Start(disk);
        if (state is not null)
        {
            using SimulatedStorage after = disk.AfterPowerLoss(static _ => Survival.Lost);
            Assert.Equal(state, Start(after));
        }
    }

    public void Dispose() => _good.Dispose();

    /// <summary>The state that a start finds, in words; null: refused.</summary>
    private static string? Start(SimulatedStorage disk)
    {
        EngineReplay replay = new(s_limits);
        JournalOpening opening = Journal.Journal.Open(Options, disk, replay);
        using QueueEngine engine = replay.Engine;
        if (opening.Journal is null)
        {
            Assert.False(string.IsNullOrEmpty(opening.Refusal!.Text));
            _ = replay.AffectedQueues();
            return null;
        }

        opening.Journal.Dispose();
        string state = World.DumpOf(engine);
        World.MustBearWork(engine);
        return state;
    }

    private static void Inspect(SimulatedStorage disk)
    {
        EngineReplay replay = new(s_limits) { IsLenient = true };
        using (JournalInspection? inspection = JournalInspection.Open(Options, disk, replay, out _))
        {
            if (inspection is not null)
            {
                foreach (InspectedBlock block in inspection.Blocks)
                {
                    inspection.Walk(block, Judge, static (_, _, _) => { });
                }

                _ = inspection.SalvageInto(replay, Judge);
                replay.Engine.EndSalvage();
                replay.Engine.CheckConservation();
            }
        }

        replay.Engine.Dispose();
    }

    private static RecordVerdict Judge(ReadOnlySpan<byte> record)
    {
        bool isMessage = record.Length >= MessageHeader.SizeBytes && ((RecordKind)record[4]).IsStoredMessage();
        return !isMessage ? RecordVerdict.Unchecked : RecordCheck.Holds(record) ? RecordVerdict.Sound : RecordVerdict.Unsound;
    }

    private void Patch(SimulatedStorage disk, byte[] input)
    {
        byte right = input.Length > 0 ? input[0] : (byte)0;
        Dictionary<string, byte[]> changed = [];
        for (int at = 1; at + 6 <= input.Length;)
        {
            string path = _files[input[at] % _files.Count];
            byte[] bytes = changed.TryGetValue(path, out byte[]? found) ? found : Read(disk, path);
            int place = Math.Min(bytes.Length, input[at + 2] % 24 * 4096), offset = Math.Min(bytes.Length, place + BitConverter.ToUInt16(input, at + 3) % 4096);
            int length = Math.Min(input[at + 5], input.Length - at - 6);
            ReadOnlySpan<byte> patch = input.AsSpan(at + 6, length);
            changed[path] = Patched(bytes, input[at + 1], place, offset, patch);
            at += 6 + length;
        }

        foreach ((string path, byte[] bytes) in changed)
        {
            PutRight(path, bytes, right);
            disk.Unlink(path).OrThrow();
            if (bytes.Length == 0)
            {
                continue;
            }

            using IStoredFile file = disk.Open(path, create: true).OrThrow();
            file.WriteAt(bytes, 0).OrThrow();
            file.Sync().OrThrow();
        }

        foreach (string folder in (string[])[Slots, Snapshots, Data])
        {
            disk.SyncDirectory(folder).OrThrow();
        }
    }

    private static byte[] Patched(byte[] bytes, byte how, int place, int offset, ReadOnlySpan<byte> patch)
    {
        Span<byte> room = bytes.AsSpan(offset);
        switch (how % 5)
        {
            case 0:
                patch[..Math.Min(patch.Length, room.Length)].CopyTo(room);
                return bytes;
            case 1:
                for (int i = 0; i < Math.Min(patch.Length, room.Length); i++)
                {
                    room[i] ^= patch[i];
                }

                return bytes;
            case 2:
                return bytes[..offset];
            case 3:
                return [];
            default:
                int from = Math.Min(bytes.Length, (patch.Length > 0 ? patch[0] % 6 : 0) * 4096);
                int count = Math.Min(4096, Math.Min(bytes.Length - from, bytes.Length - place));
                bytes.AsSpan(from, count).ToArray().CopyTo(bytes.AsSpan(place));
                return bytes;
        }
    }

    /// <summary>Makes the checks of what was patched true again, so that what they guard is reached.</summary>
    private void PutRight(string path, byte[] bytes, byte right)
    {
        Guid uuid = MemoryMarshal.Read<FormatFile>(Read(_good, $"{Data}/FORMAT")).Uuid;
        bool isSlot = path.StartsWith(Slots, StringComparison.Ordinal);
        if (isSlot && (right & SegmentsRight) != 0 && bytes.Length >= SegmentHeader.SizeBytes)
        {
            SegmentHeader header = MemoryMarshal.Read<SegmentHeader>(bytes);
            header.SetHash();
            MemoryMarshal.Write(bytes, header);
        }

        if (isSlot && (right & (BlocksRight | ChainRight)) != 0)
        {
            BlocksOf(bytes, uuid, (right & ChainRight) != 0);
        }

        if (path.StartsWith(Snapshots, StringComparison.Ordinal) && (right & SnapshotsRight) != 0 && bytes.Length > Format.SegmentHeaderBytes + sizeof(ulong))
        {
            SnapshotOf(bytes);
        }
    }

    private static void BlocksOf(byte[] bytes, Guid uuid, bool chains)
    {
        (ulong number, ulong hash) = (0, 0);
        for (int at = Format.SegmentHeaderBytes; at + BlockHeader.SizeBytes <= bytes.Length; at += Format.BlockAlignment)
        {
            BlockHeader header = MemoryMarshal.Read<BlockHeader>(bytes.AsSpan(at));
            if (header.Magic != Format.BlockMagic || header.PayloadBytes > bytes.Length - at - BlockHeader.SizeBytes)
            {
                continue;
            }

            if (chains && number != 0)
            {
                (header.BlockNumber, header.ChainHash) = (number + 1, hash);
            }

            header.Hash = header.HashWith(bytes.AsSpan(at + BlockHeader.SizeBytes, (int)header.PayloadBytes), Format.Seed(uuid, header.Epoch));
            header.SetCheck();
            MemoryMarshal.Write(bytes.AsSpan(at), header);
            (number, hash) = (header.BlockNumber, header.Hash);
        }
    }

    /// <summary>Of states of one page, as these are.</summary>
    private static void SnapshotOf(byte[] bytes)
    {
        SnapshotHeader header = MemoryMarshal.Read<SnapshotHeader>(bytes);
        int state = bytes.Length - Format.SegmentHeaderBytes - sizeof(ulong);
        Span<byte> hash = bytes.AsSpan(Format.SegmentHeaderBytes + state);
        MemoryMarshal.Write(hash, XxHash3.HashToUInt64(bytes.AsSpan(Format.SegmentHeaderBytes, state)));
        header.PayloadBytes = header.PayloadBytes <= (ulong)bytes.Length ? (ulong)state : header.PayloadBytes;
        header.PagesHash = XxHash3.HashToUInt64(hash);
        header.SetHash();
        MemoryMarshal.Write(bytes, header);
    }

    private static byte[] Read(SimulatedStorage disk, string path)
    {
        using IStoredFile file = disk.Open(path, create: false).OrThrow();
        byte[] bytes = new byte[file.Length().OrThrow()];
        file.ReadAt(bytes, 0).OrThrow();
        return bytes;
    }

    /// <summary>Two lives: the records of a little of everything, two snapshots on the way, blocks after them, and the header of a third life.</summary>
    private static SimulatedStorage Make()
    {
        SimulatedStorage disk = new("/sim");
        using World world = World.WithEverything();
        int half = world.Log.Count / 2;
        Write(disk, world.Log.Take(half));
        Write(disk, world.Log.Skip(half));
        Assert.NotNull(Start(disk));
        return disk;
    }

    private static void Write(SimulatedStorage disk, IEnumerable<Logged> records)
    {
        EngineReplay replay = new(s_limits);
        JournalOpening opening = Journal.Journal.Open(Options, disk, replay);
        using Journal.Journal journal = opening.Journal!;
        using QueueEngine engine = replay.Engine;
        foreach (IGrouping<ulong, Logged> block in records.GroupBy(logged => logged.Block))
        {
            foreach (Logged logged in block)
            {
                Span<byte> room;
                Place place;
                while (!journal.TryReserve(Limits.Align(logged.Record.Length), out room, out place))
                {
                    journal.Poll();
                }

                room.Clear();
                logged.Record.CopyTo(room);
                journal.Commit(Limits.Align(logged.Record.Length), 1);
                Assert.Equal(ReplayVerdict.Applied, replay.Apply(journal.OpenBlock, place, logged.Record));
            }

            journal.Seal();
            journal.Drain();
            if (block.Key % 4 == 1)
            {
                journal.TakeSnapshot(engine.Save).OrThrow();
                journal.Drain();
            }
        }

        while (!journal.SealClosing())
        {
            journal.Poll(); // The slot is full to its last place, and the next is being made ready.
        }

        journal.Drain();
    }
}
