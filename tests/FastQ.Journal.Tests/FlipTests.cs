using System.IO.Hashing;
using FastQ.Linux;
using Xunit;

namespace FastQ.Journal;

// Each byte of a journal of 1 MiB, and of a snapshot, turned over by one bit, and a start from what is then there:
//
//   harmless   all is found, byte for byte: nobody reads that place, or it was the tail
//   refused    the start is refused, with the place         passed over   the snapshot before it was taken, and the report says so
//   unsound    all is found, and the record in which the byte lies fails its own check when it is read
//   silent     anything else; never
//
// A start that is refused changes nothing and one that is served adds a slot: that is taken away again and the bit turned back, so that one disk
// serves for thousands of starts. FASTQ_TESTS=full turns over every byte, else every byte of a header and some of the rest.
public class FlipTests
{
    private const string Data = "/sim/data", SlotFolder = $"{Data}/namespaces/default/slots", SnapshotFolder = $"{Data}/namespaces/default/snapshots";
    private const int BlockBytes = 8 * 1024;

    private readonly record struct Place(string Path, long At, string Area);

    private sealed record Shelf(SimulatedStorage Disk, int SlotBytes, int Applied, ulong Digest) : IDisposable
    {
        public void Dispose() => Disk.Dispose();
    }

    private sealed class Row
    {
        public int Bytes, Flips, Harmless, Refused, PassedOver, Unsound, Silent;
    }

    [Fact]
    public void Any_byte_of_a_journal_of_a_mebibyte_turned_over_is_harmless_or_reported()
    {
        using Shelf shelf = Journal();
        List<Place> places = [.. shelf.Disk.List(SlotFolder).OrThrow().SelectMany(name => PlacesOfSlot(shelf.Disk, $"{SlotFolder}/{name}")), .. PlacesOfWhole(shelf.Disk, $"{Data}/FORMAT", "FORMAT")];
        Assert.True(places.Count >= 1 << 20, $"{places.Count} bytes");
        SortedDictionary<string, Row> table = TurnOver(shelf, places, step: 97);
        Assert.True(table["block header"].Refused > 1000 && table["segment header"].Refused > 100 && table["records"].Refused > 100 && table["records"].Unsound > 100 && table["padding"].Harmless > 100, "The journal is too tame.");
    }

    [Fact]
    public void Any_byte_of_a_snapshot_turned_over_is_harmless_or_reported()
    {
        using Shelf shelf = Snapshot();
        string newest = RestingDisk.SnapshotNames(shelf.Disk)[^1];
        List<Place> places = PlacesOfWhole(shelf.Disk, $"{SnapshotFolder}/{newest}", "snapshot state");
        Assert.True(places.Count > Format.SegmentHeaderBytes + Format.SnapshotPageBytes, $"{places.Count} bytes");
        for (int i = 0; i < Format.SegmentHeaderBytes; i++)
        {
            places[i] = places[i] with { Area = i < SnapshotHeader.SizeBytes ? "snapshot header" : "padding" };
        }

        SortedDictionary<string, Row> table = TurnOver(shelf, places, step: 97);
        Assert.Equal(SnapshotHeader.SizeBytes, table["snapshot header"].PassedOver);
        Assert.Equal(table["snapshot state"].Flips, table["snapshot state"].PassedOver);
    }

    /// <summary>Sixteen slots of 64 KiB by two lives: snapshots, things that live before and after them, a closing block, and a life that vouches for all.</summary>
    private static Shelf Journal()
    {
        const int SlotBytes = 64 * 1024, Slots = (1 << 20) / SlotBytes;
        using SimulatedStorage disk = new("/sim");
        for (int life = 1; life <= 2; life++)
        {
            using Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes);
            for (int i = 0; ledger.Journal.Statistics.Slots < life * Slots / 2; i++)
            {
                ulong id = ledger.Put(200 + i * 709 % 7000);
                if (i % 3 == 2)
                {
                    ledger.Drop(id);
                    ledger.Sync();
                }

                if (i is 39 or 59)
                {
                    ledger.Snapshot();
                }
            }

            Rest(ledger);
        }

        return AtRest(disk, SlotBytes);
    }

    /// <summary>Two snapshots of more than one page each, and a few blocks after them.</summary>
    private static Shelf Snapshot()
    {
        const int SlotBytes = 256 * 1024, Things = 2600;
        using SimulatedStorage disk = new("/sim");
        using (Ledger ledger = Ledger.Open(disk, Data, SlotBytes, BlockBytes))
        {
            for (int i = 0; i < Things; i++)
            {
                ledger.Put(16);
            }

            for (int i = 0; i < 2; i++)
            {
                ledger.Snapshot();
                ledger.Put(16);
            }

            Rest(ledger);
        }

        return AtRest(disk, SlotBytes);
    }

    private static void Rest(Ledger ledger)
    {
        ledger.Sync();
        Assert.True(ledger.Journal.SealClosing());
        ledger.Sync();
    }

    private static Shelf AtRest(SimulatedStorage disk, int slotBytes)
    {
        using Ledger last = Ledger.Open(disk, Data, slotBytes, BlockBytes);
        return new Shelf(disk.AfterPowerLoss(static _ => Survival.Kept), slotBytes, last.Applied, last.Digest);
    }

    private static byte[] BytesOf(SimulatedStorage disk, string path)
    {
        using IStoredFile file = disk.Open(path, create: false).OrThrow();
        byte[] bytes = new byte[file.Length().OrThrow()];
        file.ReadAt(bytes, 0).OrThrow();
        return bytes;
    }

    private static List<Place> PlacesOfWhole(SimulatedStorage disk, string path, string area) => [.. Enumerable.Range(0, BytesOf(disk, path).Length).Select(at => new Place(path, at, area))];

    private static List<Place> PlacesOfSlot(SimulatedStorage disk, string path)
    {
        byte[] bytes = BytesOf(disk, path);
        string[] areas = new string[bytes.Length];
        Array.Fill(areas, "padding");
        areas.AsSpan(0, SegmentHeader.SizeBytes).Fill("segment header");
        for (int at = Format.SegmentHeaderBytes; at < bytes.Length && BlockHeader.TryRead(bytes.AsSpan(at), out BlockHeader header); at += Format.AlignBlock(BlockHeader.SizeBytes + (int)header.PayloadBytes))
        {
            areas.AsSpan(at, BlockHeader.SizeBytes).Fill("block header");
            areas.AsSpan(at + BlockHeader.SizeBytes, (int)header.PayloadBytes).Fill("records");
        }

        return [.. areas.Select((area, at) => new Place(path, at, area))];
    }

    private static SortedDictionary<string, Row> TurnOver(Shelf shelf, List<Place> places, int step)
    {
        SortedDictionary<string, Row> table = new(StringComparer.Ordinal);
        List<string> problems = [];
        places.ForEach(place => RowOf(table, place.Area).Bytes++);
        List<Place> chosen = [.. places.Where((place, i) => Thoroughness.IsFull || place.Area.EndsWith("header", StringComparison.Ordinal) || place.Area == "FORMAT" || i % step == 0)];
        Parallel.ForEach(chosen.Chunk(1024), chunk =>
        {
            using SimulatedStorage disk = shelf.Disk.AfterPowerLoss(static _ => Survival.Kept);
            ulong before = HashOf(disk);
            foreach (Place place in chunk)
            {
                byte bit = (byte)(1 << (int)(place.At % 8));
                disk.Rot(place.Path, place.At, bit);
                string verdict = Start(disk, shelf, place, out string said);
                disk.Rot(place.Path, place.At, bit);
                lock (table)
                {
                    Count(RowOf(table, place.Area), verdict);
                    if (verdict == "silent")
                    {
                        problems.Add($"byte {place.At} of {place.Path} ({place.Area}), bit {bit}: {said}");
                    }
                }
            }

            Assert.Equal(before, HashOf(disk)); // Each flip was of the same disk.
        });

        Print(table);
        Assert.True(problems.Count == 0, $"{problems.Count} silent:\n{string.Join('\n', problems.Take(20))}");
        return table;
    }

    /// <summary>Starts from the disk, and takes away what the start has added.</summary>
    private static string Start(SimulatedStorage disk, Shelf shelf, in Place place, out string said)
    {
        said = "";
        using Ledger found = Ledger.TryOpen(disk, Data, shelf.SlotBytes, BlockBytes);
        if (found.Refusal is JournalProblem problem)
        {
            said = problem.Text;
            return problem.Text.Length > 0 ? "refused" : "silent";
        }

        string verdict = "harmless";
        if (found.Applied != shelf.Applied || found.Digest != shelf.Digest)
        {
            said = $"{found.Applied} of {shelf.Applied} found ({found.Report.Verdict}), nothing said";
            verdict = "silent";
        }
        else if (found.Report.SnapshotsRejected > 0)
        {
            verdict = "passed over";
        }
        else if (place.Path.StartsWith(SlotFolder, StringComparison.Ordinal))
        {
            verdict = found.VerdictAt(uint.Parse(Path.GetFileNameWithoutExtension(place.Path), System.Globalization.CultureInfo.InvariantCulture), place.At) == RecordVerdict.Unsound ? "unsound" : "harmless";
        }

        bool isWhole = verdict != "harmless" || found.TryReadAll(out said);
        disk.Unlink($"{SlotFolder}/{SegmentCatalogue.FileName(found.Journal.CurrentSlot)}").OrThrow();
        disk.SyncDirectory(SlotFolder).OrThrow();
        return isWhole ? verdict : "silent";
    }

    private static ulong HashOf(SimulatedStorage disk)
    {
        XxHash3 hash = new();
        foreach (string path in (IEnumerable<string>)[.. disk.List(SlotFolder).OrThrow().Select(name => $"{SlotFolder}/{name}"), .. RestingDisk.SnapshotNames(disk).Select(name => $"{SnapshotFolder}/{name}"), $"{Data}/FORMAT"])
        {
            hash.Append(System.Text.Encoding.UTF8.GetBytes(path));
            hash.Append(BytesOf(disk, path));
        }

        return hash.GetCurrentHashAsUInt64();
    }

    private static Row RowOf(SortedDictionary<string, Row> table, string area) => table.TryGetValue(area, out Row? row) ? row : table[area] = new Row();

    private static void Count(Row row, string verdict)
    {
        row.Flips++;
        _ = verdict switch
        {
            "harmless" => row.Harmless++,
            "refused" => row.Refused++,
            "passed over" => row.PassedOver++,
            "unsound" => row.Unsound++,
            _ => row.Silent++,
        };
    }

    private static void Print(SortedDictionary<string, Row> table)
    {
        Console.WriteLine("\n| area | bytes | turned over | harmless | start refused | snapshot passed over | record unsound | silent |\n|---|---|---|---|---|---|---|---|");
        foreach ((string area, Row row) in table)
        {
            Console.WriteLine($"| {area} | {row.Bytes} | {row.Flips} | {row.Harmless} | {row.Refused} | {row.PassedOver} | {row.Unsound} | {row.Silent} |");
        }
    }
}
