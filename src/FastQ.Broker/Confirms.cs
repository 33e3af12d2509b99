using System.Runtime.CompilerServices;

namespace FastQ.Broker;

// What a session may be shown once its blocks are written, and what may be called durable.
//
//   block        41      42      43 (open)
//   number       17      90      120         highest submission decided in it
//   head         4096    6200    6300        delivery ring up to here belongs to it
//                 ^ durable      ^ written
//
// A ring buffer of marks: one for each block that touched the session. Costs nothing per message.

/// <summary>The marks of one session. One thread.</summary>
internal sealed class Confirms
{
    private Mark[] _marks = new Mark[16];
    private long _first;   // oldest mark that is not durable
    private long _written; // oldest mark that is not written
    private long _end;     // one past the newest
    private Mark _open;   // the block that is being touched now; Block 0: none

    private readonly record struct Mark(ulong Block, ulong Number, ulong Head);

    /// <summary>Something of the session is not yet written.</summary>
    public bool HasUnwritten => _written != _end || _open.Block != 0;

    /// <summary>Something of the session is not yet durable.</summary>
    public bool HasUndurable => _first != _end || _open.Block != 0;

    /// <summary>Block <paramref name="block"/> has the session's decisions up to <paramref name="number"/> and its delivery ring up to <paramref name="head"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Touch(ulong block, ulong number, ulong head)
    {
        if (_open.Block != block && _open.Block != 0)
        {
            Push(_open);
        }

        _open = new Mark(block, number, head);
    }

    /// <summary>Takes all marks up to a written block. False: none; else the newest number and head of them.</summary>
    public bool TryAdvanceWritten(ulong writtenBlock, out ulong number, out ulong head)
    {
        CloseUpTo(writtenBlock);
        (number, head) = (0, 0);
        bool any = false;
        while (_written != _end && At(_written).Block <= writtenBlock)
        {
            (number, head, any) = (At(_written).Number, At(_written).Head, true);
            _written++;
        }

        return any;
    }

    /// <summary>Takes all marks up to a durable block, which is never beyond the written one.</summary>
    public bool TryAdvanceDurable(ulong durableBlock, out ulong number)
    {
        number = 0;
        bool any = false;
        while (_first != _written && At(_first).Block <= durableBlock)
        {
            (number, any) = (At(_first).Number, true);
            _first++;
        }

        return any;
    }

    private void CloseUpTo(ulong block)
    {
        if (_open.Block != 0 && _open.Block <= block)
        {
            Push(_open);
            _open = default;
        }
    }

    private void Push(Mark mark)
    {
        // Equal: what came after the block was written, and belongs to it all the same, like a copy of an older message.
        Invariant.Holds(_end == _first || At(_end - 1).Block <= mark.Block);
        if (_end - _first == _marks.Length)
        {
            Grow();
        }

        _marks[_end & (_marks.Length - 1)] = mark;
        _end++;
    }

    private void Grow()
    {
        Mark[] larger = new Mark[_marks.Length * 2];
        for (long i = _first; i < _end; i++)
        {
            larger[i & (larger.Length - 1)] = At(i);
        }

        _marks = larger;
    }

    private ref readonly Mark At(long index) => ref _marks[index & (_marks.Length - 1)];
}
