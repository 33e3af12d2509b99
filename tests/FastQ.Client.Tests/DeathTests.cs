using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

// The story of a dead letter as it is read, whatever its bytes are.
public class DeathTests
{
    private const ulong Micros = 1_700_000_000_123_456;

    [Fact]
    public void All_deaths_are_read_the_latest_first_and_other_properties_are_passed_over()
    {
        byte[] properties = Properties(Death("second", DeathReason.Rejected, "no such customer", "at Main()"), Death("first", DeathReason.Expired, null, null));

        IReadOnlyList<Death> deaths = FastQ.Client.Death.ReadAll(properties);

        DateTimeOffset first = DateTimeOffset.UnixEpoch.AddTicks((long)Micros * 10);
        Assert.Equal(
            [
                new Death("second", 17, DeathReason.Rejected, 3, 2, first, first.AddSeconds(1), "no such customer", "at Main()"),
                new Death("first", 17, DeathReason.Expired, 3, 2, first, first.AddSeconds(1), null, null),
            ],
            deaths);
    }

    [Fact]
    public void A_message_without_a_death_has_no_story()
    {
        Assert.Empty(FastQ.Client.Death.ReadAll(default));
        Assert.Empty(FastQ.Client.Death.ReadAll(Properties()));
    }

    [Fact]
    public void Odd_fields_read_as_the_nearest_that_there_is_or_as_nothing()
    {
        FieldWriter odd = new(new byte[300]);
        odd.Bytes(FieldTag.Name, [0xFF]);
        odd.Bytes(FieldTag.Tag, [1, 2, 3]);
        odd.Number(FieldTag.Reason, ulong.MaxValue);
        odd.Number(FieldTag.Deliveries, ulong.MaxValue);
        odd.Number(FieldTag.Count, ulong.MaxValue);
        odd.Number(FieldTag.FirstMicros, ulong.MaxValue);
        odd.Number((FieldTag)9999, 1);
        odd.Text(FieldTag.Details, "whole");

        Death death = Assert.Single(FastQ.Client.Death.ReadAll(Properties(odd.Written.ToArray())));

        Assert.Equal(("\uFFFD", 0ul, int.MaxValue, long.MaxValue), (death.Queue, death.Tag, death.Deliveries, death.Count));
        Assert.False(Enum.IsDefined(death.Reason));
        Assert.Equal((9999, DateTimeOffset.UnixEpoch), (death.First.Year, death.Last));
        Assert.Equal("whole", death.Details);
    }

    [Fact]
    public void Cut_short_anywhere_it_reads_what_is_whole_and_throws_nothing()
    {
        byte[] whole = Properties(Death("second", DeathReason.Rejected, "why", "more"), Death("first", DeathReason.Expired, null, null));
        for (int length = 0; length < whole.Length; length++)
        {
            Assert.InRange(FastQ.Client.Death.ReadAll(whole.AsSpan(0, length)).Count, 0, 2);
        }

        byte[] death = Death("q", DeathReason.Rejected, "why", "more");
        for (int length = 0; length < death.Length; length++)
        {
            Assert.Single(FastQ.Client.Death.ReadAll(Properties(death[..length])));
        }
    }

    private static byte[] Death(string queue, DeathReason reason, string? text, string? details)
    {
        FieldWriter writer = new(new byte[300]);
        writer.Text(FieldTag.Name, queue);
        writer.Number(FieldTag.Queue, 7);
        writer.Number(FieldTag.Tag, 17);
        writer.Number(FieldTag.Reason, (ulong)reason);
        writer.Number(FieldTag.Deliveries, 3);
        writer.Number(FieldTag.Count, 2);
        writer.Number(FieldTag.FirstMicros, Micros);
        writer.Number(FieldTag.LastMicros, Micros + 1_000_000);
        if (text is not null)
        {
            writer.Text(FieldTag.Text, text);
            writer.Text(FieldTag.Details, details);
        }

        return writer.Written.ToArray();
    }

    private static byte[] Properties(params byte[][] deaths)
    {
        PropertyWriter writer = new(new byte[1000]);
        foreach (byte[] death in deaths)
        {
            writer.Bytes(PropertyTag.Death, death);
        }

        writer.Text(PropertyTag.MessageId, "m1");
        writer.Text(PropertyTag.Death, "of another type: no story");
        return writer.Written.ToArray();
    }
}
