using System.Buffers;
using System.Globalization;
using System.Runtime.InteropServices;
using FastQ.Broker;
using FastQ.Engine;
using FastQ.Journal;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Server;

/// <summary>A damaged place, and what of the queues it touches.</summary>
internal sealed record Problem(JournalDamage Damage, IReadOnlyList<string> Queues, long Messages);

/// <summary>What a repair keeps and what it gives up.</summary>
internal sealed record RepairPlan(Salvage Salvage, QueueEngine Engine, IReadOnlyDictionary<string, long> LostMessages, IReadOnlyList<string> Notes) : IDisposable
{
    public void Dispose() => Engine.Dispose();
}

/// <summary>A stopped broker's directory: journal and queues looked at together. Holds the directory's lock.</summary>
internal sealed class JournalExamination : IDisposable
{
    private readonly DirectoryLock? _lock;
    private readonly IStorage _storage;
    private readonly EngineReplay _replay;
    private byte[] _record = new byte[4096];

    private JournalExamination(DirectoryLock? directoryLock, IStorage storage, JournalInspection inspection, EngineReplay replay)
    {
        (_lock, _storage, Inspection, _replay) = (directoryLock, storage, inspection, replay);
    }

    public JournalInspection Inspection { get; }

    /// <summary>Null with a refusal in words: in use, or nothing there.</summary>
    public static JournalExamination? Open(string directory, out string? refusal)
    {
        string path = Path.GetFullPath(directory);
        if (!Directory.Exists(path))
        {
            refusal = $"{path} is not a directory.";
            return null;
        }

        if (!File.Exists(Path.Combine(path, "FORMAT")) && !Directory.Exists(Path.Combine(path, "namespaces")))
        {
            refusal = $"{path} holds no data of FastQ. Name the directory that was given to fastq serve --data.";
            return null;
        }

        DirectoryLock? directoryLock = DirectoryLock.TryTake(path, allowNetworkFileSystem: true, out refusal);
        if (directoryLock is null)
        {
            return null;
        }

        return Open(new JournalOptions { Directory = path }, StorageFactory.Open(StorageKind.Thread, out _), directoryLock, out refusal);
    }

    /// <summary>As above, on a storage that is there. It and the lock are the examination's from now on.</summary>
    public static JournalExamination? Open(JournalOptions options, IStorage storage, DirectoryLock? directoryLock, out string? refusal)
    {
        EngineReplay replay = new(new EngineLimits());
        if (JournalInspection.Open(options, storage, replay, out refusal) is JournalInspection inspection)
        {
            return new JournalExamination(directoryLock, storage, inspection, replay);
        }

        replay.Engine.Dispose();
        storage.Dispose();
        directoryLock?.Dispose();
        return null;
    }

    /// <summary>What a record's own check says. Only messages have one.</summary>
    public static RecordVerdict Judge(ReadOnlySpan<byte> record)
    {
        RecordKind kind = (RecordKind)record[4];
        if (kind == RecordKind.RoutedMessage)
        {
            return StoredMessage.TryReadRouted(record, out _, out _, out ReadOnlySpan<byte> message) && RecordCheck.Holds(message) ? RecordVerdict.Sound : RecordVerdict.Unsound;
        }

        if (kind.IsStoredMessage())
        {
            if (record.Length < MessageHeader.SizeBytes)
            {
                return RecordVerdict.NoRecord;
            }

            return RecordCheck.Holds(record) ? RecordVerdict.Sound : RecordVerdict.Unsound;
        }

        return kind.IsJournaled() ? RecordVerdict.Unchecked : RecordVerdict.NoRecord;
    }

    /// <summary>The queues that have the message of a record, and its places there; none where it is no message, or cannot be read.</summary>
    private static List<(uint Queue, ulong Tag)> MessagesIn(ReadOnlySpan<byte> record)
    {
        List<(uint, ulong)> messages = [];
        if (StoredMessage.TryReadRouted(record, out _, out ReadOnlySpan<RoutedTarget> targets, out _))
        {
            foreach (RoutedTarget target in targets)
            {
                messages.Add((target.Queue, target.Tag));
            }
        }
        else if (((RecordKind)record[4]).IsStoredMessage())
        {
            MessageHeader header = MemoryMarshal.Read<MessageHeader>(record);
            messages.Add((header.Queue, header.Tag));
        }

        return messages;
    }

    /// <summary>All damage with the queues and messages that it touches, and messages that are not what the state says.</summary>
    public IReadOnlyList<Problem> FindProblems()
    {
        Dictionary<JournalDamage, HashSet<(uint Queue, ulong Tag)>> touched = Inspection.Damage.ToDictionary(damage => damage, _ => new HashSet<(uint, ulong)>());
        Dictionary<JournalDamage, HashSet<uint>> queues = Inspection.Damage.ToDictionary(damage => damage, _ => new HashSet<uint>());
        foreach (JournalDamage damage in Inspection.Damage)
        {
            foreach (InspectedBlock block in Inspection.Blocks.Where(block => !block.IsWhole && block.Slot == damage.Slot && block.Position == damage.Position && damage.Slot != 0))
            {
                Inspection.Walk(block, Judge, (_, record, verdict) =>
                {
                    foreach ((uint queue, ulong tag) in MessagesIn(record))
                    {
                        queues[damage].Add(queue);
                        if (verdict == RecordVerdict.Unsound)
                        {
                            touched[damage].Add((queue, tag));
                        }
                    }
                });
            }
        }

        foreach (KnownMessage message in BadMessages(_replay.Engine))
        {
            JournalDamage at = PlaceOf(message, touched.Keys);
            queues.TryAdd(at, []);
            queues[at].Add(message.Queue);
            touched.TryAdd(at, []);
            touched[at].Add((message.Queue, message.Tag));
        }

        return [.. touched.OrderBy(pair => pair.Key.Slot).ThenBy(pair => pair.Key.Position).Select(pair => new Problem(pair.Key, NamesOf(pair.Key, queues[pair.Key]), pair.Value.Count))];
    }

    /// <summary>Salvages in memory. Changes nothing.</summary>
    public RepairPlan Plan()
    {
        EngineReplay lenient = new(new EngineLimits()) { IsLenient = true };
        Salvage salvage = Inspection.SalvageInto(lenient, Judge);
        QueueEngine engine = lenient.Engine;
        engine.EndSalvage();
        Dictionary<uint, long> lost = new(engine.Missed);
        foreach (KnownMessage message in BadMessages(engine).ToArray())
        {
            lost[message.Queue] = lost.GetValueOrDefault(message.Queue) + 1;
            bool discarded = engine.Discard(message.Queue, message.Tag, salvage.LastBlock);
            Invariant.Holds(discarded);
        }

        SortedDictionary<string, long> byName = new(StringComparer.Ordinal);
        foreach ((uint queue, long count) in lost.Where(pair => pair.Value > 0))
        {
            byName[NameOf(engine, queue)] = count;
        }

        return new RepairPlan(salvage, engine, byName, [.. engine.Lost, .. WhatCannotBeListed(salvage)]);
    }

    /// <summary>Lost messages are counted by the gaps that they leave between others of their queue: the newest leave none.</summary>
    private IEnumerable<string> WhatCannotBeListed(Salvage salvage)
    {
        if (Inspection.Refusal is { Kind: "file-missing" })
        {
            yield return "A file is missing: what it alone held cannot be listed.";
        }

        if (salvage.BlocksLost + salvage.BlocksDamaged > 0)
        {
            yield return string.Create(CultureInfo.InvariantCulture, $"{salvage.BlocksLost} blocks are lost and {salvage.BlocksDamaged} damaged: messages that they alone held, newer than all others of their queue, cannot be listed, and what they alone said to be settled comes back.");
        }
    }

    /// <summary>Writes what was salvaged. Null: done; else why not.</summary>
    public string? Carry(RepairPlan plan)
    {
        // What is about to be written must be readable by a start; better known before than after.
        ArrayBufferWriter<byte> state = new();
        plan.Engine.Save(state);
        using QueueEngine trial = new(new EngineLimits());
        using MemoryStream stream = new(state.WrittenSpan.ToArray());
        if (!trial.TryLoad(stream))
        {
            return "What can be salvaged does not make a whole state. Nothing was changed; restore a copy of the directory.";
        }

        Result repaired = Inspection.Repair(plan.Salvage, plan.Engine.Save);
        return repaired.Ok ? null : $"{repaired.Fault}. No block was changed; make room or see to the device, then run it again.";
    }

    public void Dispose()
    {
        Inspection.Dispose();
        _replay.Engine.Dispose();
        _storage.Dispose();
        _lock?.Dispose();
    }

    /// <summary>Messages whose bytes are not what the state says.</summary>
    private IEnumerable<KnownMessage> BadMessages(QueueEngine engine)
    {
        ProgressBar bar = new("messages", engine.MessageCount);
        long done = 0;
        foreach (KnownMessage message in engine.Messages())
        {
            if (++done % 1024 == 0)
            {
                bar.Report(done);
            }

            if (!IsAsKnown(message))
            {
                yield return message;
            }
        }

        bar.Clear();
    }

    private bool IsAsKnown(in KnownMessage message)
    {
        int length = (int)Math.Min(message.LengthBytes, int.MaxValue / 2);
        _record = _record.Length >= length ? _record : new byte[length];
        Span<byte> record = _record.AsSpan(0, length);
        Result<int> read = Inspection.Read(message.Place.Slot, message.Place.Offset, record);
        if (!read.Ok || read.Value < length || length < MessageHeader.SizeBytes)
        {
            return false;
        }

        return RecordCheck.Holds(record, message.Queue, message.Tag, message.Place) && ((RecordKind)record[4]).IsStoredMessage();
    }

    private JournalDamage PlaceOf(KnownMessage message, IEnumerable<JournalDamage> known)
    {
        uint slot = message.Place.Slot;
        if (!Inspection.Slots.Any(found => found.Slot == slot))
        {
            return known.FirstOrDefault(damage => damage.Kind == "file-missing" && damage.Slot == slot) ?? new JournalDamage("file-missing", slot, 0, 0, 0, "The slot's file is not there, but messages lie in it.");
        }

        return known.FirstOrDefault(damage => damage.Slot == slot && damage.Position <= message.Place.Offset && message.Place.Offset < damage.Position + damage.Bytes)
            ?? new JournalDamage("damaged-message", slot, message.Place.Offset, message.LengthBytes, 0, "The message does not match its check.");
    }

    private IReadOnlyList<string> NamesOf(JournalDamage damage, HashSet<uint> queues)
    {
        // Of damage in the chain itself nobody can tell what came after it: any queue may be affected.
        bool any = queues.Count == 0 && Inspection.Refusal is not null && damage.Block == Inspection.Refusal.Block;
        IEnumerable<uint> ids = any ? _replay.Engine.QueueIds : queues;
        return [.. ids.Select(id => NameOf(_replay.Engine, id)).Order(StringComparer.Ordinal)];
    }

    private static string NameOf(QueueEngine engine, uint queue) => engine.IsQueue(queue) ? engine.View(queue).Name : string.Create(CultureInfo.InvariantCulture, $"#{queue}");
}
