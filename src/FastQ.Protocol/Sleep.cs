namespace FastQ.Protocol;

// Who must ring, and when (DESIGN section 5, "Doorbells"; DESIGN-REVIEW R18).
//
//   sleeper                                ringer
//   number + 1  (odd: ring me)             publish the head
//   full fence                             full fence
//   look at every head                     number odd, and not the one rung last?  -> ring
//   nothing there: wait
//   number + 1  (even: awake)
//
// Either the sleeper sees the head or the ringer sees the odd number: the two fences are partners. Only the sleeper writes the word;
// the ringer remembers privately which number it rang, so nobody clears anything in foreign memory, and a sleeper is rung once.

/// <summary>The sleeping side of a sleep number. One thread.</summary>
public unsafe struct Sleeper(ulong* word)
{
    private readonly ulong* _word = word;

    /// <summary>Says "ring me", then fences. The caller looks at every head after this and waits only if there is nothing.</summary>
    public readonly void Announce()
    {
        Invariant.Holds((*_word & 1) == 0);
        Volatile.Write(ref *_word, *_word + 1);
        Interlocked.MemoryBarrier(); // Pairs with the fence in Ringer.MustRing.
    }

    /// <summary>Says "awake".</summary>
    public readonly void Wake()
    {
        Invariant.Holds((*_word & 1) == 1);
        Volatile.Write(ref *_word, *_word + 1);
    }

    /// <summary>True between <see cref="Announce"/> and <see cref="Wake"/>.</summary>
    public readonly bool IsAnnounced => (*_word & 1) == 1;
}

/// <summary>The ringing side of a sleep number. One thread.</summary>
public unsafe struct Ringer(ulong* word)
{
    private readonly ulong* _word = word;
    private ulong _rang;

    /// <summary>To be asked after the head was published. True: the other side sleeps and has not been rung for this sleep yet.</summary>
    public bool MustRing()
    {
        Interlocked.MemoryBarrier(); // Pairs with the fence in Sleeper.Announce.
        return MustRingAfterFence();
    }

    /// <summary>As <see cref="MustRing"/>, for a caller that has fenced once for many ringers, or whose sleeper fences for it (<see cref="FieldTag.FencesAll"/>).</summary>
    public bool MustRingAfterFence()
    {
        ulong number = Volatile.Read(ref *_word);
        if ((number & 1) == 0 || number == _rang)
        {
            return false;
        }

        _rang = number;
        return true;
    }
}
