using System.Runtime.CompilerServices;
using FastQ.Protocol;

namespace FastQ.Client;

// The submission ring as resend buffer (DESIGN-REVIEW R20): its space comes back when the broker has read a record and it is durable, if its
// sender waits for that, else written. Not sooner, though nobody may wait at all: a broker that was killed takes numbers up where its journal
// ends, and what came after must be sent again without a gap.
//
//   freed            read by the broker       head
//     |  written or durable      |  ...          |         marks: (end, number, level), neighbours of one level merged up to 1/16 of the ring

/// <summary>A submission ring with what of it is still needed. One thread.</summary>
internal sealed class Outbox(ClientRings rings)
{
    private readonly Mark[] _marks = new Mark[64];
    private uint _first;
    private uint _end;

    private struct Mark
    {
        public ulong Start;
        public ulong End;
        public ulong Number;
        public ConfirmLevel Level;
    }

    public ClientRings Rings => rings;

    public RingWriter Ring => rings.Submissions;

    /// <summary>What lies before may be overwritten.</summary>
    public ulong Freed { get; private set; }

    /// <summary>Nothing in it is needed any more.</summary>
    public bool IsEmpty => _first == _end;

    public long Room => Ring.Room(Freed);

    /// <summary>More marks may be added, and one is left for the last record of the ring, which names the next.</summary>
    public bool HasMarkRoom => _end - _first < _marks.Length - 1;

    /// <summary>A record was committed: it begins at <paramref name="start"/>, the ring's head is its end.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Add(ulong start, ulong number, ConfirmLevel level)
    {
        if (_first != _end)
        {
            ref Mark last = ref _marks[(_end - 1) & 63];
            if (last.Level == level && start - last.Start < (ulong)Ring.RingBytes / 16)
            {
                (last.End, last.Number) = (Ring.Head, number);
                return;
            }
        }

        Invariant.Holds(_end - _first < _marks.Length);
        _marks[_end & 63] = new Mark { Start = start, End = Ring.Head, Number = number, Level = level };
        _end++;
    }

    /// <summary>Gives back what is read and confirmed.</summary>
    public void Free(ulong readPosition, ulong written, ulong durable)
    {
        while (_first != _end)
        {
            ref Mark mark = ref _marks[_first & 63];
            ulong reached = mark.Level == ConfirmLevel.Durable ? durable : written;
            if (mark.End > readPosition || mark.Number > reached)
            {
                return;
            }

            Freed = mark.End;
            _first++;
        }
    }
}
