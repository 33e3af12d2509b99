namespace FastQ.Simulation;

/// <summary>Makes a history that breaks a promise shorter, as long as it still breaks one (Zeller, Hildebrandt: Simplifying and isolating failure-inducing input, 2002).</summary>
internal static class Shrinking
{
    /// <summary>The indices of the acts that are needed, as far as this budget of runs goes.</summary>
    public static IReadOnlyList<int> Shrink(History history, int mostRuns)
    {
        string kind = KindOf(World.Run(history).Violation);
        List<int> kept = [.. Enumerable.Range(0, history.Acts.Count)];
        int chunk = Math.Max(1, kept.Count / 2), runs = 0;
        while (runs < mostRuns)
        {
            bool isShorter = false;
            for (int start = 0; start < kept.Count && runs < mostRuns;)
            {
                List<int> without = [.. kept[..start], .. kept[Math.Min(kept.Count, start + chunk)..]];
                runs++;
                if (KindOf(World.Run(history.With(without)).Violation) == kind)
                {
                    (kept, isShorter) = (without, true);
                }
                else
                {
                    start += chunk;
                }
            }

            if (chunk == 1 && !isShorter)
            {
                break;
            }

            chunk = Math.Max(1, isShorter ? Math.Min(chunk, kept.Count / 2) : chunk / 2);
        }

        return kept;
    }

    /// <summary>What was broken, without who and when: a shorter history must break the same.</summary>
    private static string KindOf(string? violation) => violation is null ? "" : string.Concat(violation.Split('\n')[0].Where(letter => !char.IsDigit(letter)).TakeWhile(letter => letter != '(')) + violation.Split('\n')[0].Split(')')[^1].Split(' ').LastOrDefault();
}
