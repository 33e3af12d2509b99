using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using FastQ.Broker;
using FastQ.Engine;
using FastQ.Journal;
using FastQ.Protocol;
using FastQ.Server;

namespace FastQ.Simulation;

// A disk that lies, or a directory that somebody was at. At a power loss the disk is honest first; then one fault is laid on a copy of it, and
// what a start makes of the two is compared. So nothing about blocks or slots has to be modelled: the honest disk says what was there.
//
//   the same state                        go on with the faulty disk: bodies that no start reads are judged when they are delivered
//   refused                               verify must name something, a repair may lose no more than it lists; go on with what was repaired, or restore
//   less, and nothing left on the disk    the one case that cannot be told (DESIGN section 6): the last blocks before anything later vouched for them.
//   speaks of what is missing             Go on with the honest disk.
//   anything else                         a silent loss

/// <summary>Which disk the world goes on with.</summary>
/// <param name="Disk">At rest.</param>
/// <param name="IsRotten">A fault is still in it, where no start needs it.</param>
/// <param name="Lost">By the repair's own word: producer and sequence.</param>
/// <param name="Returned">What was gone and came back, for the records of its going are lost, by the repair's own word.</param>
internal sealed record TrialEnd(SimulatedStorage Disk, bool IsRotten, IReadOnlyList<(int, int)> Lost, IReadOnlyList<(int, int)> Returned);

/// <summary>One fault laid on a disk at rest, and its judgement.</summary>
/// <param name="changed">Whose the messages are that an earlier fault has changed where no start looks: their bytes no longer say it. Added to.</param>
internal sealed class DiskTrial(JournalOptions options, int maxMessageBytes, SimulatedStorage honest, Dictionary<(uint Queue, ulong Tag), (int Producer, int Sequence)> changed, Dice dice, Action<string> say, Action<string> count)
{
    private const string NamespaceFolder = "/namespaces/default";

    private sealed record Served(JournalProblem? Refusal, ulong LastBlock, string State, IReadOnlyDictionary<(uint Queue, ulong Tag), byte[]> Messages, IReadOnlyDictionary<uint, string> Queues)
    {
        public IReadOnlyList<KnownMessage> Places { get; init; } = [];
    }

    private string Slots => options.Directory + NamespaceFolder + "/slots";

    private string Snapshots => options.Directory + NamespaceFolder + "/snapshots";

    /// <summary>Lays a fault on the disk and judges what comes of it.</summary>
    /// <param name="fault">Which.</param>
    /// <param name="writes">What the disk said it had, last.</param>
    /// <param name="older">An earlier copy of the directory; null: there is none.</param>
    public TrialEnd Run(ActKind fault, IReadOnlyList<SyncedWrite> writes, SimulatedStorage? older)
    {
        TrialEnd asBefore = new(honest, IsRotten: false, [], []);
        Served before = StartOn(honest.AfterKill());
        if (before.Refusal is not null || before.LastBlock == 0)
        {
            return asBefore; // Rotten from before, or nothing there yet.
        }

        SimulatedStorage faulty = honest.AfterKill();
        Action<SimulatedStorage> hook = static _ => { };
        string? what = fault switch
        {
            ActKind.RotBit => RotBit(faulty),
            ActKind.LoseWrite => LoseWrites(faulty, writes, mayMisplace: false),
            ActKind.MisplaceWrite => LoseWrites(faulty, writes, mayMisplace: true),
            ActKind.Misread => Misread(out hook),
            ActKind.SpoilSector => SpoilSector(out hook),
            ActKind.LoseFile => LoseFile(faulty),
            ActKind.ForeignFile => PutForeignSlot(faulty),
            ActKind.OldCopy => PutOldCopy(faulty, older),
            ActKind.SwapRecords => SwapRecords(faulty, before),
            _ => null,
        };
        if (what is null)
        {
            return asBefore;
        }

        say($"disk fault: {what}");
        bool isOfReading = fault is ActKind.Misread or ActKind.SpoilSector;
        Served after = StartOn(faulty.AfterKill(), hook);
        if (after.Refusal is JournalProblem problem)
        {
            count($"{NameOf(fault)}: refused");
            say($"a start is refused: {problem.Text}");
            return fault == ActKind.Misread ? asBefore : Repair(fault, before, faulty, hook, problem, isOfReading) ?? asBefore;
        }

        if (after.State == before.State)
        {
            count($"{NameOf(fault)}: nothing lost by it");
            foreach (((uint, ulong) key, byte[] bytes) in before.Messages)
            {
                if (!bytes.AsSpan().SequenceEqual(after.Messages[key]))
                {
                    changed.TryAdd(key, IdentityOf(bytes));
                }
            }

            return isOfReading ? asBefore : new TrialEnd(faulty, IsRotten: true, [], []);
        }

        bool isTail = fault != ActKind.Misread && after.LastBlock < before.LastBlock;
        string? witness = WitnessOn(faulty, after.LastBlock);
        Model.Must(isTail && witness is null, $"{what}: a start serves block {after.LastBlock} of {before.LastBlock}, {witness ?? "without a word"}; {DifferenceOf(before.State, after.State)}");
        count($"{NameOf(fault)}: took the last blocks, for which nothing vouched");
        return asBefore;
    }

    // ---- faults

    private string? RotBit(SimulatedStorage disk)
    {
        string path = dice.Of(PathsOf(disk));
        int length = disk.BytesOf(path).Length;
        int used = dice.OnceIn(2) ? Math.Min(length, 4096 * dice.Between(1, 16)) : length;
        long at = dice.Below(Math.Max(1, used));
        if (length == 0)
        {
            return null;
        }

        disk.Rot(path, at, (byte)(1 << dice.Below(8)));
        return string.Create(CultureInfo.InvariantCulture, $"a bit of byte {at} of {path} turned over");
    }

    private string? LoseWrites(SimulatedStorage disk, IReadOnlyList<SyncedWrite> writes, bool mayMisplace)
    {
        if (writes.Count == 0)
        {
            return null;
        }

        int last = dice.OnceIn(2) ? writes.Count - 1 : dice.Below(writes.Count);
        SyncedWrite write = writes[last];
        if (!disk.Undo(write))
        {
            return null;
        }

        string what = string.Create(CultureInfo.InvariantCulture, $"a synced write of {write.Sectors.Count} sectors from {write.Sectors[0].Sector} on of {write.Path} is not there");
        if (mayMisplace)
        {
            string path = dice.OnceIn(2) ? write.Path : dice.Of(PathsOf(disk));
            int sectors = Math.Max(1, disk.BytesOf(path).Length / SimulatedStorage.SectorBytes);
            long at = dice.OnceIn(2) ? dice.Below(sectors) : dice.Below(Math.Max(1, sectors / 8)) * 8;
            disk.Misplace(write, path, at);
            what += string.Create(CultureInfo.InvariantCulture, $" but at sector {at} of {path}");
        }

        return what;
    }

    private string Misread(out Action<SimulatedStorage> hook)
    {
        (int after, int seed) = (dice.Between(1, 60), dice.Below(1 << 20));
        hook = disk =>
        {
            int left = after;
            disk.Misread = (_, bytes) =>
            {
                if (bytes.Length > 0 && --left == 0)
                {
                    bytes[seed % bytes.Length] ^= (byte)(1 << (seed % 8));
                }
            };
        };
        return string.Create(CultureInfo.InvariantCulture, $"read {after} gives a wrong bit, once");
    }

    private string SpoilSector(out Action<SimulatedStorage> hook)
    {
        string path = dice.Of(PathsOf(honest));
        long sector = dice.Below(Math.Max(1, honest.BytesOf(path).Length / SimulatedStorage.SectorBytes));
        long from = sector * SimulatedStorage.SectorBytes;
        hook = disk => disk.Fail = step => step.Kind == StorageStepKind.Read && step.Path == path && step.Offset < from + SimulatedStorage.SectorBytes && from < step.Offset + step.Bytes ? Linux.Errno.EIO : Linux.Errno.None;
        return $"sector {sector} of {path} cannot be read";
    }

    private string LoseFile(SimulatedStorage disk)
    {
        string path = dice.Of(PathsOf(disk));
        disk.Put(path, null);
        return $"{path} is gone";
    }

    private string PutForeignSlot(SimulatedStorage disk)
    {
        using SimulatedStorage other = new("/sim");
        _ = StartOn(other, static _ => { }, new Guid(7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7));
        string path = dice.OnceIn(2) ? dice.Of(PathsOf(disk).Where(path => path.StartsWith(Slots, StringComparison.Ordinal)).ToArray()) : $"{Slots}/{900 + dice.Below(9):0000000000}.slot";
        disk.Put(path, other.BytesOf(PathsOf(other).First(path => path.StartsWith(Slots, StringComparison.Ordinal))));
        return $"{path} is another namespace's";
    }

    private string? PutOldCopy(SimulatedStorage disk, SimulatedStorage? older)
    {
        if (older is null)
        {
            return null;
        }

        string[] paths = [.. PathsOf(older).Where(path => !older.BytesOf(path).AsSpan().SequenceEqual(disk.BytesOf(path)))];
        if (paths.Length == 0)
        {
            return null;
        }

        string path = dice.Of(paths);
        if (path.StartsWith(Snapshots, StringComparison.Ordinal))
        {
            foreach (string newer in PathsOf(disk).Where(path => path.StartsWith(Snapshots, StringComparison.Ordinal)).ToArray())
            {
                disk.Put(newer, null);
            }
        }

        disk.Put(path, older.BytesOf(path));
        return $"an older {path} was put back";
    }

    /// <summary>What misdirected writes come to: each of two messages of one length lies whole where the other belongs.</summary>
    private string? SwapRecords(SimulatedStorage disk, Served before)
    {
        (KnownMessage One, KnownMessage Other)[] pairs = [.. before.Places.GroupBy(message => message.LengthBytes).Where(group => group.Count() > 1).OrderBy(group => group.Key).Select(group => (group.First(), group.Last()))];
        if (pairs.Length == 0)
        {
            return null;
        }

        (KnownMessage one, KnownMessage other) = dice.Of(pairs);
        foreach ((KnownMessage at, KnownMessage of) in ((KnownMessage, KnownMessage)[])[(one, other), (other, one)])
        {
            string path = PathOf(at.Place.Slot);
            byte[] bytes = disk.BytesOf(path);
            before.Messages[(of.Queue, of.Tag)].CopyTo(bytes, at.Place.Offset);
            disk.Put(path, bytes);
        }

        return string.Create(CultureInfo.InvariantCulture, $"tags {one.Tag} of queue {one.Queue} and {other.Tag} of queue {other.Queue} lie in each other's place");
    }

    private string PathOf(uint slot) => string.Create(CultureInfo.InvariantCulture, $"{Slots}/{slot:0000000000}.slot");

    private string[] PathsOf(SimulatedStorage disk)
    {
        List<string> paths = [options.Directory + "/FORMAT"];
        foreach (string folder in (string[])[Slots, Slots, Snapshots])
        {
            paths.AddRange(disk.List(folder).Value.Where(name => !name.StartsWith("reserve.", StringComparison.Ordinal)).Select(name => $"{folder}/{name}"));
        }

        return [.. paths];
    }

    public static string NameOf(ActKind fault) => fault switch
    {
        ActKind.RotBit => "bit flip at rest",
        ActKind.LoseWrite => "lost write",
        ActKind.MisplaceWrite => "misdirected write",
        ActKind.Misread => "misread sector",
        ActKind.SpoilSector => "unreadable sector at rest",
        ActKind.LoseFile => "missing file",
        ActKind.ForeignFile => "foreign slot",
        ActKind.OldCopy => "older copy put back",
        ActKind.SwapRecords => "record in another's place",
        _ => fault.ToString(),
    };

    // ---- judgement

    /// <summary>A start as a broker makes it, on a disk that is thrown away.</summary>
    private Served StartOn(SimulatedStorage disk, Action<SimulatedStorage>? hook = null, Guid? id = null)
    {
        hook?.Invoke(disk);
        EngineReplay replay = new(new EngineLimits { MaxMessageBytes = maxMessageBytes });
        JournalOpening opening = Journal.Journal.Open(options with { NewGuid = () => id ?? new Guid(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1) }, disk, replay);
        using QueueEngine engine = replay.Engine;
        using Journal.Journal? journal = opening.Journal;
        (disk.Fail, disk.Misread) = (null, null);
        if (opening.Refusal is not null)
        {
            return new Served(opening.Refusal, opening.Report.LastBlock, "", new Dictionary<(uint, ulong), byte[]>(), new Dictionary<uint, string>());
        }

        return new Served(null, opening.Report.LastBlock, StateOf(engine), MessagesOf(engine, disk), QueuesOf(engine)) { Places = [.. engine.Messages()] };
    }

    /// <summary>All that an engine must know again after a restart.</summary>
    public static string StateOf(QueueEngine engine)
    {
        using StringWriter state = new(CultureInfo.InvariantCulture);
        engine.Dump(state);
        // An empty slot is no part of the state: which are known depends on where the replay began.
        return string.Join('\n', state.ToString().Split('\n').Where(line => !line.Contains(" live 0 ", StringComparison.Ordinal)));
    }

    private static Dictionary<uint, string> QueuesOf(QueueEngine engine) => engine.QueueIds.ToDictionary(id => id, id => engine.View(id).Name);

    /// <summary>Properties and body of all messages, from where the state says that they lie.</summary>
    private Dictionary<(uint Queue, ulong Tag), byte[]> MessagesOf(QueueEngine engine, SimulatedStorage disk)
    {
        Dictionary<uint, byte[]> slots = [];
        Dictionary<(uint, ulong), byte[]> messages = [];
        foreach (KnownMessage message in engine.Messages())
        {
            if (!slots.TryGetValue(message.Place.Slot, out byte[]? slot))
            {
                slots[message.Place.Slot] = slot = disk.BytesOf(PathOf(message.Place.Slot));
            }

            long end = message.Place.Offset + message.LengthBytes;
            messages[(message.Queue, message.Tag)] = end <= slot.Length ? slot.AsSpan((int)message.Place.Offset, (int)message.LengthBytes).ToArray() : [];
        }

        return messages;
    }

    /// <summary>What a refusal is worth: the damage is named, and a repair loses what it lists and nothing else.</summary>
    private TrialEnd? Repair(ActKind fault, Served before, SimulatedStorage faulty, Action<SimulatedStorage> hook, JournalProblem problem, bool isOfReading)
    {
        SimulatedStorage repaired = faulty.AfterKill();
        hook(repaired);
        using JournalExamination? examination = JournalExamination.Open(options, repaired, null, out string? why);
        if (examination is null)
        {
            say($"verify: {why}");
            return null;
        }

        IReadOnlyList<Problem> problems = examination.FindProblems();
        Model.Must(problems.Count > 0, $"a start is refused ({problem.Text}), and verify finds nothing");
        if (examination.Inspection.Refusal is { Kind: "not-ours" })
        {
            return null; // The command repairs nothing that is not its own.
        }

        using RepairPlan plan = examination.Plan();
        string? failure = examination.Carry(plan);
        if (failure is not null)
        {
            Model.Must(isOfReading, $"a repair fails: {failure}");
            return null;
        }

        repaired.Fail = null;
        IReadOnlyDictionary<(uint Queue, ulong Tag), byte[]> kept = MessagesOf(plan.Engine, repaired);
        (uint Queue, ulong Tag)[] missing = [.. before.Messages.Keys.Where(key => !kept.ContainsKey(key)).Order()], extra = [.. kept.Keys.Where(key => !before.Messages.ContainsKey(key)).Order()];
        say(string.Create(CultureInfo.InvariantCulture, $"repair: {missing.Length} messages lost, {extra.Length} back, {plan.Salvage.BlocksLost} blocks lost, listed {string.Join(", ", plan.LostMessages)}"));
        foreach (IGrouping<uint, (uint Queue, ulong Tag)> ofQueue in missing.GroupBy(key => key.Queue))
        {
            long listed = plan.LostMessages.GetValueOrDefault(before.Queues[ofQueue.Key]);
            Model.Must(ofQueue.Count() <= listed || plan.Notes.Count > 0, $"{problem.Text}: a repair lists {listed} lost messages of {before.Queues[ofQueue.Key]}, and {ofQueue.Count()} are missing: {string.Join(", ", ofQueue)}");
        }

        foreach ((uint Queue, ulong Tag) key in kept.Keys.Where(before.Messages.ContainsKey))
        {
            Model.Must(kept[key].AsSpan(MessageHeader.SizeBytes).SequenceEqual(before.Messages[key].AsSpan(MessageHeader.SizeBytes)), $"{problem.Text}: a repair keeps message {key} with other bytes");
        }

        Served again = StartOn(repaired.AfterKill());
        Model.Must(again.Refusal is null, $"{problem.Text}: repaired, and a start is refused still: {again.Refusal?.Text}");
        Model.Must(again.Messages.Keys.ToHashSet().SetEquals(kept.Keys), $"{problem.Text}: repaired, and a start serves other messages than the repair kept");
        count($"{NameOf(fault)}: repaired");
        return isOfReading || dice.OnceIn(2) ? null : new TrialEnd(repaired, IsRotten: true, [.. missing.Select(key => IdentityOf(key, before.Messages[key]))], [.. extra.Select(key => IdentityOf(key, kept[key]))]);
    }

    private (int Producer, int Sequence) IdentityOf((uint Queue, ulong Tag) key, ReadOnlySpan<byte> record) => changed.TryGetValue(key, out (int, int) known) ? known : IdentityOf(record);

    /// <summary>Whose a message is: its body says so.</summary>
    private static (int Producer, int Sequence) IdentityOf(ReadOnlySpan<byte> record)
    {
        MessageHeader header = record.Length < MessageHeader.SizeBytes ? default : MemoryMarshal.Read<MessageHeader>(record);
        int body = MessageHeader.SizeBytes + header.PropertyBytes;
        return record.Length < body + 16 ? (-1, -1) : ((int)BinaryPrimitives.ReadUInt64LittleEndian(record[body..]), (int)BinaryPrimitives.ReadUInt64LittleEndian(record[(body + 8)..]));
    }

    /// <summary>Anything on the disk that says that a block after this one was durable; null: nothing. Reads plainly, with nothing of what a start uses but the checks.</summary>
    private string? WitnessOn(SimulatedStorage disk, ulong block)
    {
        foreach (string path in PathsOf(disk).Distinct())
        {
            byte[] bytes = disk.BytesOf(path);
            if (path.StartsWith(Snapshots, StringComparison.Ordinal) && bytes.Length >= SnapshotHeader.SizeBytes && MemoryMarshal.Read<SnapshotHeader>(bytes) is { IsValid: true } snapshot && snapshot.Block > block)
            {
                return $"and {path} describes block {snapshot.Block}";
            }

            if (!path.StartsWith(Slots, StringComparison.Ordinal) || bytes.Length < SegmentHeader.SizeBytes || MemoryMarshal.Read<SegmentHeader>(bytes) is not { Magic: Format.SegmentMagic } segment || SegmentHeader.Judge(bytes, segment.Uuid, out _) != SegmentVerdict.Good)
            {
                continue;
            }

            if (segment.ParentBlock > block)
            {
                return $"and the header of {path} names the parent {segment.ParentBlock}";
            }

            for (int at = Format.SegmentHeaderBytes; at + BlockHeader.SizeBytes <= bytes.Length; at += Format.BlockAlignment)
            {
                if (BlockHeader.TryRead(bytes.AsSpan(at), out BlockHeader header) && header.Epoch == segment.Epoch && header.DurableBlock > block)
                {
                    return $"and block {header.BlockNumber} in {path} says that {header.DurableBlock} was durable";
                }
            }
        }

        return null;
    }

    private static string DifferenceOf(string before, string after)
    {
        string[] a = before.Split('\n'), b = after.Split('\n');
        int at = Enumerable.Range(0, Math.Min(a.Length, b.Length)).FirstOrDefault(i => a[i] != b[i], Math.Min(a.Length, b.Length));
        return $"'{(at < a.Length ? a[at].Trim() : "")}' became '{(at < b.Length ? b[at].Trim() : "")}'";
    }
}
