using FastQ.Client;
using FastQ.Protocol;

namespace FastQ.Simulation;

/// <summary>Of what the messages of a world die, and how long they wait between two tries.</summary>
/// <param name="MaxDeliveries">Of all its queues.</param>
/// <param name="BackoffFirstMilliseconds">0: none.</param>
/// <param name="BackoffFactor">Whole: each next wait is so many times the one before.</param>
/// <param name="BackoffMostMilliseconds">The longest wait.</param>
internal sealed record Mortality(int MaxDeliveries, int BackoffFirstMilliseconds, int BackoffFactor, int BackoffMostMilliseconds)
{
    public static Mortality Of(Dice dice)
    {
        int first = dice.OnceIn(2) ? dice.Of(20, 100, 500) : 0;
        return new Mortality(dice.OnceIn(6) ? 1 : 3, first, dice.Of(1, 2, 10), Math.Max(1, first * dice.Of(1, 4)));
    }

    public QueueOptions Options(TimeSpan lease) => new()
    {
        Lease = lease,
        MaxDeliveries = MaxDeliveries,
        Backoff = BackoffFirstMilliseconds == 0 ? null : new Backoff(TimeSpan.FromMilliseconds(BackoffFirstMilliseconds), BackoffFactor, TimeSpan.FromMilliseconds(BackoffMostMilliseconds)),
    };

    /// <summary>How long a message waits at the least after so many deliveries: four fifths of what was asked for.</summary>
    public long LeastWaitNanoseconds(int deliveries)
    {
        const long FourFifthsOfAMillisecond = 800_000;
        long wait = BackoffFirstMilliseconds;
        for (int i = 1; i < deliveries; i++)
        {
            wait = Math.Min(BackoffMostMilliseconds, wait * BackoffFactor);
        }

        return wait * FourFifthsOfAMillisecond;
    }
}

/// <summary>What a consumer says of a message that it rejects.</summary>
internal readonly record struct Words(string? Text, string? Details)
{
    public static Words Of(Dice dice) => new(dice.OnceIn(4) ? null : $"bad {dice.Below(1000)}", dice.OnceIn(2) ? $"line {dice.Below(1000)}" : null);
}

/// <summary>That a message has died, as a client was told: it must be told the same by its story.</summary>
/// <param name="Level">The best confirm of it that still counts.</param>
/// <param name="Reason">Why it died.</param>
/// <param name="Words">What was said of it.</param>
internal sealed record Fate(ConfirmLevel Level, DeathReason Reason, Words Words);

/// <summary>A message among the dead letters: it stays there, with its story.</summary>
internal sealed record Grave(uint Queue, ulong Tag, byte[] Properties);

/// <summary>What the properties of a dead letter must be.</summary>
internal static class Story
{
    /// <summary>One death, which can be true; and all that its sender wrote, but for the times.</summary>
    /// <param name="message">Whose.</param>
    /// <param name="queue">The name of the queue where it was published.</param>
    /// <param name="delivery">From the dead letters.</param>
    /// <param name="most">So many deliveries were allowed.</param>
    /// <param name="nowNanoseconds">The machine's clock.</param>
    public static void Check(Sent message, string queue, in Delivery delivery, int most, long nowNanoseconds)
    {
        IReadOnlyList<Death> deaths = delivery.Deaths();
        Model.Must(deaths.Count == 1, $"{message} died once, and tells of {deaths.Count} deaths");
        Death death = deaths[0];
        Model.Must(death.Queue == queue && death.Count == 1 && (message.Tag == 0 || death.Tag == message.Tag), $"{message} of {queue} says that it died elsewhere: {death}");
        Model.Must(IsPossible(message, death, most, nowNanoseconds), $"{message} did not die like this: {death}");
        Model.Must(message.Fate is not { Level: > ConfirmLevel.None } fate || (fate.Reason == death.Reason && fate.Words == WordsOf(death)), $"{message} died of {message.Fate}, and says: {death}");
        Model.Must(WithoutTimes(delivery.Properties).AsSpan().SequenceEqual(WithoutTimes(message.Properties)), $"{message} came from the dead letters with other properties");
    }

    public static bool IsPossible(Sent message, Death death, int most, long nowNanoseconds) => death.Reason switch
    {
        DeathReason.Rejected => death.Deliveries >= 1 && death.Deliveries <= most && message.Rejects.Contains(WordsOf(death)),
        DeathReason.MaxDeliveries => death.Deliveries == most && WordsOf(death) == default,
        DeathReason.Expired => death.Deliveries < most && WordsOf(death) == default && message.LifeNanoseconds > 0 && nowNanoseconds >= message.ExpiresFromNanoseconds,
        _ => false,
    };

    private static Words WordsOf(Death death) => new(death.Text, death.Details);

    public static byte[] WithoutTimes(ReadOnlySpan<byte> properties)
    {
        List<byte> kept = [];
        PropertyReader reader = new(properties);
        while (reader.Next())
        {
            if (reader.Tag is not (PropertyTag.Death or PropertyTag.Delay or PropertyTag.Ttl or PropertyTag.Origin))
            {
                kept.AddRange(reader.Raw);
            }
        }

        return [.. kept];
    }
}
