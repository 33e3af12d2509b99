namespace FastQ.Protocol;

// Every order in which the steps of a few threads can happen, one run for each. A thread is an iterator: between two of its yields lies one
// step; what it yields is the condition that its next step waits for (null: none). Runs are repeated from the start with other choices,
// depth first:
//
//   a1 a2 b1 b2,  a1 b1 a2 b2,  a1 b1 b2 a2,  b1 a1 a2 b2, ...

/// <summary>Explores a small world completely.</summary>
internal static class Interleavings
{
    /// <param name="begin">Makes the world anew and gives its threads.</param>
    /// <param name="end">Judges a run when no thread can go on: all are done, or wait for ever.</param>
    /// <returns>How many runs there were.</returns>
    public static int Explore(Func<IEnumerator<Func<bool>?>[]> begin, Action end)
    {
        List<(int Chosen, int Of)> choices = [];
        int runs = 0;
        do
        {
            Run(begin(), choices);
            end();
            runs++;
        }
        while (NextChoices(choices));
        return runs;
    }

    private static void Run(IEnumerator<Func<bool>?>[] threads, List<(int Chosen, int Of)> choices)
    {
        List<IEnumerator<Func<bool>?>> alive = [.. threads.Where(thread => thread.MoveNext())]; // to the first yield: nothing is done yet
        for (int depth = 0; ; depth++)
        {
            IEnumerator<Func<bool>?>[] ready = [.. alive.Where(thread => thread.Current is null || thread.Current())];
            if (ready.Length == 0)
            {
                return;
            }

            if (depth == choices.Count)
            {
                choices.Add((0, ready.Length));
            }

            IEnumerator<Func<bool>?> chosen = ready[choices[depth].Chosen];
            if (!chosen.MoveNext())
            {
                alive.Remove(chosen);
            }
        }
    }

    private static bool NextChoices(List<(int Chosen, int Of)> choices)
    {
        while (choices.Count > 0 && choices[^1].Chosen + 1 == choices[^1].Of)
        {
            choices.RemoveAt(choices.Count - 1);
        }

        if (choices.Count > 0)
        {
            choices[^1] = (choices[^1].Chosen + 1, choices[^1].Of);
        }

        return choices.Count > 0;
    }
}
