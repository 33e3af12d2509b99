using System.Runtime.InteropServices;
using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace FastQ.Protocol;

public sealed class RingTests : IDisposable
{
    private const int Bytes = SharedRing.Bytes;
    private readonly SharedRing _ring = new();

    public void Dispose() => _ring.Dispose();

    [Fact]
    public void A_record_over_the_end_lies_in_one_piece()
    {
        _ring.BeginAt(10 * (ulong)Bytes - 16);
        _ring.Write(7, length: 1001);
        _ring.Writer.Publish();
        Assert.Equal(RingVerdict.Record, _ring.Reader.Next(out RecordPrefix prefix));
        Assert.Equal((1001u, (ushort)7), (prefix.LengthBytes, prefix.Small));
        SharedRing.AssertRecord(_ring.Reader.Bytes(1001), 7);
        SharedRing.AssertRecord(_ring.Writer.Written(10 * (ulong)Bytes - 16, 1001), 7);
        Assert.Equal(_ring.Reader.Bytes(1001)[16..], _ring.At(0, 1001 - 16)); // its rest stands at the ring's start
    }

    // One action: its bits choose which and how much. Beside the ring runs a queue.
    [Fact]
    public void A_reader_gets_what_was_published_whole_and_in_order_over_many_turns_of_the_ring()
    {
        Gen<int[]> actions = Gen.Choose(0, int.MaxValue - 1).ArrayOf(400);
        Prop.ForAll(Arb.From(actions), Run).Check(Generators.Config(100, 41));

        void Run(int[] steps)
        {
            (RingWriter writer, RingReader reader) = _ring.BeginAt((ulong)(steps[0] & ~7));
            Queue<(int Number, int Length)> unread = [];
            int written = 0, published = 0, read = 0;
            foreach (int step in steps)
            {
                int length = RecordPrefix.SizeBytes + (step >> 3) % ((step >> 20) % 4 == 0 ? 20_000 : 100);
                switch (step & 7)
                {
                    case < 3 when Limits.Align(length) <= writer.Room(_ring.Position):
                        _ring.Write(written, length);
                        unread.Enqueue((written++, length));
                        break;
                    case 3:
                        writer.Publish();
                        published = written;
                        break;
                    case 4 or 5 or 6:
                        Assert.Equal(read == published ? RingVerdict.Empty : RingVerdict.Record, reader.Next(out RecordPrefix prefix));
                        if (read < published)
                        {
                            (int number, int expected) = unread.Dequeue();
                            Assert.Equal((uint)expected, prefix.LengthBytes);
                            SharedRing.AssertRecord(reader.Bytes(expected), number);
                            reader.Advance(expected);
                            read++;
                        }

                        break;
                    default:
                        reader.Publish();
                        break;
                }

                Assert.Equal(read < published || reader.KnownBytes > 0, reader.HasNews);
                Assert.InRange(writer.Room(_ring.Position), 0, Bytes);
            }
        }
    }

    [Fact]
    public void What_is_written_but_not_published_is_not_there()
    {
        _ring.Write(1, 100);
        ulong first = _ring.Writer.Head;
        _ring.Write(2, 100);
        Assert.Equal(RingVerdict.Empty, _ring.Reader.Next(out _));
        Assert.False(_ring.Reader.HasNews);

        _ring.Writer.PublishUpTo(first);
        Assert.Equal(RingVerdict.Record, _ring.Reader.Next(out _));
        _ring.Reader.Advance(100);
        Assert.Equal(RingVerdict.Empty, _ring.Reader.Next(out _));
    }

    [Fact]
    public void What_a_reader_passed_stays_until_it_is_published()
    {
        for (int number = 0; number < 3; number++)
        {
            _ring.Write(number, 20_000);
        }

        _ring.Writer.Publish();
        List<ulong> positions = [];
        while (_ring.Reader.Next(out RecordPrefix prefix) == RingVerdict.Record)
        {
            positions.Add(_ring.Reader.Position);
            _ring.Reader.Advance((int)prefix.LengthBytes);
        }

        _ring.Reader.PublishUpTo(positions[1]);
        Assert.Equal(Bytes - 40_000, _ring.Writer.Room(_ring.Position)); // the first may go, the others may not
        SharedRing.AssertRecord(_ring.Reader.At(positions[1], 20_000), 1);
        SharedRing.AssertRecord(_ring.Reader.At(positions[2], 20_000), 2);
    }

    [Fact]
    public void A_full_ring_is_no_violation()
    {
        _ring.Write(1, Bytes);
        _ring.Writer.Publish();
        Assert.Equal(0, _ring.Writer.Room(_ring.Position));
        Assert.Equal(RingVerdict.Record, _ring.Reader.Next(out _));
        SharedRing.AssertRecord(_ring.Reader.Bytes(Bytes), 1);
    }

    [Theory]
    [InlineData(-8)]
    [InlineData(-8 * Bytes)]
    [InlineData(Bytes + 8)]
    [InlineData(long.MaxValue & ~7)]
    [InlineData(1)]
    [InlineData(12)]
    [InlineData(Bytes - 4)]
    public void A_head_that_goes_backwards_too_far_or_between_records_is_a_violation(long ahead)
    {
        ulong position = 100 * (ulong)Bytes + 4096;
        _ring.BeginAt(position);
        _ring.Write(1, 64); // what a reader would find, if it looked
        _ring.Head = position + (ulong)ahead;
        AssertViolation(position);
        AssertViolation(position); // it stays one
    }

    [Fact]
    public void A_head_that_goes_back_after_it_was_seen_is_a_violation_when_all_that_was_seen_is_read()
    {
        _ring.Write(1, 64);
        _ring.Write(2, 64);
        _ring.Writer.Publish();
        Assert.Equal(RingVerdict.Record, _ring.Reader.Next(out _));
        _ring.Head = 64;
        _ring.Reader.Advance(64);
        Assert.Equal(RingVerdict.Record, _ring.Reader.Next(out _)); // it had been published once
        _ring.Reader.Advance(64);
        AssertViolation(128);
    }

    [Theory]
    [InlineData(0u)]
    [InlineData(7u)]
    [InlineData(65u)]
    [InlineData(Bytes)]
    [InlineData(0x7FFF_FFFFu)]
    [InlineData(0x8000_0000u)]
    [InlineData(0xFFFF_FFF9u)]
    [InlineData(0xFFFF_FFFFu)]
    public void A_length_below_a_prefix_or_beyond_what_is_published_is_a_violation(uint length)
    {
        ulong position = 3 * (ulong)Bytes - 32; // half of it before the end
        _ring.BeginAt(position);
        MemoryMarshal.Write(_ring.At(position, 64), new RecordPrefix { LengthBytes = length, Kind = RecordKind.Message });
        _ring.Head = position + 64;
        AssertViolation(position);
        AssertViolation(position);
    }

    [Fact]
    public void A_length_that_only_its_padding_takes_to_the_head_is_a_record()
    {
        for (uint length = 57; length <= 64; length++)
        {
            _ring.BeginAt(0);
            MemoryMarshal.Write(_ring.At(0, 64), new RecordPrefix { LengthBytes = length });
            _ring.Head = 64;
            Assert.Equal(RingVerdict.Record, _ring.Reader.Next(out _));
            _ring.Reader.Advance((int)length);
            Assert.Equal(64ul, _ring.Reader.Position);
        }
    }

    [Fact]
    public void Any_head_and_any_length_get_the_verdict_of_the_page_and_only_published_bytes_are_given()
    {
        Gen<ulong> heads = Gen.OneOf(Gen.Choose(-100, 100), Gen.Choose(-Bytes - 20, Bytes + 20), Gen.Choose(int.MinValue, int.MaxValue)).Select(ahead => (ulong)ahead);
        Gen<uint> lengths = Gen.OneOf(Gen.Choose(0, 100), Gen.Choose(0, Bytes + 20), Gen.Choose(int.MinValue, int.MaxValue)).Select(length => (uint)length);
        Prop.ForAll(Arb.From(from start in Gen.Choose(0, 1 << 28) from ahead in heads from length in lengths select ((ulong)start * 8, ahead, length)), world =>
        {
            (ulong start, ulong ahead, uint length) = world;
            RingReader reader = _ring.BeginAt(start).Reader;
            MemoryMarshal.Write(_ring.At(start, 8), new RecordPrefix { LengthBytes = length });
            _ring.Head = start + ahead;

            bool headHolds = ahead % 8 == 0 && ahead <= Bytes, lengthHolds = length >= 8 && ((ulong)length + 7) / 8 * 8 <= ahead;
            RingVerdict verdict = reader.Next(out RecordPrefix prefix);
            Assert.Equal(ahead == 0 ? RingVerdict.Empty : headHolds && lengthHolds ? RingVerdict.Record : RingVerdict.Violation, verdict);
            if (verdict == RingVerdict.Record)
            {
                Assert.Equal(length, prefix.LengthBytes);
                _ring.AssertInside(reader.Bytes((int)length));
                reader.Advance((int)length);
                Assert.InRange(reader.Position, start + length, start + ahead);
            }
        }).Check(Generators.Config(3000, 42));
    }

    // The ring's two halves between pages that nobody may touch: a look outside ends the whole run by a signal.
    [Fact]
    public unsafe void Any_bytes_in_a_ring_are_walked_without_a_look_outside_of_it()
    {
        using Guarded memory = new(2 * Bytes);
        using Guarded words = new(4096);
        Gen<int[]> lengths = Gen.OneOf(Gen.Choose(0, 64), Gen.Choose(0, Bytes), Gen.Choose(int.MinValue, int.MaxValue)).ArrayOf(64);
        Prop.ForAll(Arb.From(from start in Gen.Choose(0, 1 << 28) from ahead in Gen.Choose(0, Bytes / 8) from chosen in lengths from seed in Gen.Choose(0, int.MaxValue - 1) select (Start: (ulong)start * 8, Ahead: (ulong)ahead * 8, chosen, seed)), world =>
        {
            Span<byte> halves = memory.AtStart(2 * Bytes);
            new Random(world.seed).NextBytes(halves[..Bytes]);
            Span<ulong> counters = MemoryMarshal.Cast<byte, ulong>(words.AtStart(16));
            (counters[0], counters[1]) = (world.Start + world.Ahead, world.Start);
            fixed (byte* ring = halves)
            fixed (ulong* head = counters)
            {
                RingReader reader = new(ring, Bytes, head, head + 1);
                ulong sum = 0;
                for (int i = 0; reader.KnownBytes > 0 || i == 0; i++)
                {
                    int length = world.chosen[i % world.chosen.Length];
                    MemoryMarshal.Write(halves[(int)(reader.Position % Bytes)..], length);
                    halves[..Bytes].CopyTo(halves[Bytes..]);
                    if (reader.Next(out RecordPrefix prefix) != RingVerdict.Record)
                    {
                        break;
                    }

                    foreach (byte one in reader.Bytes((int)prefix.LengthBytes))
                    {
                        sum += one;
                    }

                    reader.Advance((int)prefix.LengthBytes);
                }

                Assert.InRange(reader.Position, world.Start, world.Start + world.Ahead);
                Assert.True(sum < ulong.MaxValue);
            }
        }).Check(Generators.Config(300, 44));
    }

    // What was judged is the copy; the length that stands in the ring afterwards steers nothing.
    [Fact]
    public void A_length_that_changes_after_the_verdict_changes_nothing()
    {
        _ring.Write(1, 64);
        _ring.Writer.Publish();
        Assert.Equal(RingVerdict.Record, _ring.Reader.Next(out RecordPrefix prefix));
        MemoryMarshal.Write(_ring.At(0, 8), new RecordPrefix { LengthBytes = 0xFFFF_FFF0 });
        Assert.Equal(64u, prefix.LengthBytes);
        _ring.Reader.Advance((int)prefix.LengthBytes);
        Assert.Equal(RingVerdict.Empty, _ring.Reader.Next(out _));
    }

    [Fact]
    public void A_writer_that_scribbles_over_everything_while_it_is_read_gets_verdicts_only()
    {
        const int Looks = 200_000;
        long patience = Environment.TickCount64 + 30_000; // The writer may have to wait for a core.
        bool isOver = false;
        Thread hostile = new(() => Scribble(new Random(43), ref isOver));
        hostile.Start();
        int[] verdicts = new int[3];
        try
        {
            for (int look = 0; look < Looks || (verdicts.Contains(0) && Environment.TickCount64 < patience); look++)
            {
                RingVerdict verdict = _ring.Reader.Next(out RecordPrefix prefix);
                verdicts[(int)verdict]++;
                if (verdict == RingVerdict.Record)
                {
                    Assert.InRange((ulong)Limits.Align((int)prefix.LengthBytes), 8ul, _ring.Reader.KnownBytes);
                    ReadOnlySpan<byte> bytes = _ring.Reader.Bytes((int)prefix.LengthBytes);
                    _ring.AssertInside(bytes);
                    _ = RecordCheck.Of(bytes[^Math.Min(64, bytes.Length)..]);
                    _ring.Reader.Advance((int)prefix.LengthBytes);
                    _ring.Reader.Publish();
                }
                else if (verdict == RingVerdict.Violation)
                {
                    _ring.Reopen();
                }
            }
        }
        finally
        {
            Volatile.Write(ref isOver, true);
            hostile.Join();
        }

        Assert.True(verdicts[(int)RingVerdict.Record] > 0 && verdicts[(int)RingVerdict.Violation] > 0, $"seed 43: {string.Join(' ', verdicts)}");
    }

    [Fact]
    public void What_only_our_own_bug_can_ask_for_stops_us()
    {
        _ring.Write(1, 64);
        _ring.Writer.Publish();
        Assert.Throws<InvariantViolation>(() => _ring.Reader.Bytes(8)); // nothing was looked at yet
        Assert.Equal(RingVerdict.Record, _ring.Reader.Next(out _));
        Assert.Throws<InvariantViolation>(() => _ring.Reader.Bytes(65));
        Assert.Throws<InvariantViolation>(() => _ring.Reader.Bytes(-1));
        Assert.Throws<InvariantViolation>(() => _ring.Reader.PublishUpTo(8));
        Assert.Throws<InvariantViolation>(() => _ring.Reader.At(0, 8)); // not passed yet
        Assert.Throws<InvariantViolation>(() => _ring.Writer.PublishUpTo(72));
        Assert.Throws<InvariantViolation>(() => _ring.Writer.Written(0, 72));
        Assert.Throws<InvariantViolation>(() => _ring.Writer.Written(72, 0));
        Assert.Throws<InvariantViolation>(() => _ring.Writer.Next(Bytes + 1));
        _ring.Reader.Advance(64);
        SharedRing.AssertRecord(_ring.Reader.At(0, 64), 1);
        Assert.Throws<InvariantViolation>(() => _ring.Reader.At(0, 65));
        Assert.Throws<InvariantViolation>(() => _ring.Reader.Advance(8));
    }

    private void AssertViolation(ulong position)
    {
        Assert.Equal(RingVerdict.Violation, _ring.Reader.Next(out _));
        Assert.Equal(position, _ring.Reader.Position);
    }

    private void Scribble(Random random, ref bool isOver)
    {
        while (!Volatile.Read(ref isOver))
        {
            ulong position = Volatile.Read(ref _ring.Position);
            uint length = (uint)random.Next(4) switch { 0 => (uint)random.Next(), 1 => (uint)random.Next(Bytes), _ => (uint)random.Next(300) };
            for (ulong at = 0; at < 512; at += 8)
            {
                Volatile.Write(ref MemoryMarshal.Cast<byte, ulong>(_ring.At(position + at, 8))[0], length);
            }

            ulong ahead = random.Next(8) switch { 0 => (ulong)random.NextInt64(), 1 => (ulong)random.Next(600), _ => (ulong)random.Next(Bytes / 8) * 8 };
            Volatile.Write(ref _ring.Head, position + ahead);
        }
    }
}
