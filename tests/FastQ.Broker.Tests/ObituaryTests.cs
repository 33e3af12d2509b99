using System.Text;
using FastQ.Engine;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

/// <summary>What becomes of a message's properties when it dies, and when it has gone in a circle.</summary>
public sealed class ObituaryTests
{
    private static readonly byte[] s_room = new byte[Limits.MaxStoredPropertyBytes];

    private static DyingMessage Dying(string queue, DeathReason reason, string target = "t", string? words = null, int deliveries = 1)
    {
        FieldWriter fields = new(new byte[Limits.MaxWordsBytes]);
        if (words is not null)
        {
            fields.Text(FieldTag.Text, words);
        }

        return new DyingMessage(7, queue, 17, new DeliveryEntry { DeliveryCount = (ushort)deliveries }, reason, fields.Written.ToArray(), target, 0);
    }

    private static byte[] After(byte[] properties, DyingMessage message, long wallMicros) => s_room[..Obituary.Write(properties, message, wallMicros, s_room)];

    /// <summary>Each death in words, then the other tags.</summary>
    private static (string[] Deaths, PropertyTag[] Others) Read(byte[] properties)
    {
        List<string> deaths = [];
        List<PropertyTag> others = [];
        PropertyReader reader = new(properties);
        while (reader.Next())
        {
            if (reader.Tag != PropertyTag.Death)
            {
                others.Add(reader.Tag);
                continue;
            }

            Assert.Empty(others); // Before all others.
            byte[] death = reader.Value.ToArray();
            string words = FieldReader.TryBytes(death, FieldTag.Text, out ReadOnlySpan<byte> text) ? $" '{Encoding.UTF8.GetString(text)}'" : "";
            Assert.True(FieldReader.TryBytes(death, FieldTag.Name, out ReadOnlySpan<byte> name));
            deaths.Add($"{Encoding.UTF8.GetString(name)} {(DeathReason)Number(death, FieldTag.Reason)} {Number(death, FieldTag.Count)}x {Number(death, FieldTag.FirstMicros)}-{Number(death, FieldTag.LastMicros)} after {Number(death, FieldTag.Deliveries)}{words}");
        }

        Assert.False(reader.IsMalformed);
        return ([.. deaths], [.. others]);
    }

    private static ulong Number(byte[] fields, FieldTag tag)
    {
        Assert.True(FieldReader.TryNumber(fields, tag, out ulong number));
        return number;
    }

    private static byte[] Properties()
    {
        PropertyWriter writer = new(new byte[200]);
        writer.Text(PropertyTag.MessageId, "m-1");
        writer.Number(PropertyTag.Delay, PropertyType.Int64, 5);
        writer.Header("colour", "blue");
        writer.Number(PropertyTag.Ttl, PropertyType.Int64, 5);
        writer.Number((PropertyTag)200, PropertyType.Int64, 5);
        return writer.Written.ToArray();
    }

    [Fact]
    public void The_story_stands_first_times_end_with_death_and_all_else_stays()
    {
        (string[] deaths, PropertyTag[] others) = Read(After(Properties(), Dying("orders", DeathReason.Rejected, words: "no such customer", deliveries: 3), 1000));
        Assert.Equal(["orders Rejected 1x 1000-1000 after 3 'no such customer'"], deaths);
        Assert.Equal([PropertyTag.MessageId, PropertyTag.Header, (PropertyTag)200], others);
    }

    [Fact]
    public void The_same_death_again_raises_its_count_and_another_is_told_before_it()
    {
        byte[] properties = After(Properties(), Dying("orders", DeathReason.Rejected, words: "first"), 1000);
        properties = After(properties, Dying("wait", DeathReason.Expired), 2000);
        properties = After(properties, Dying("orders", DeathReason.Rejected, words: "second"), 3000);
        properties = After(properties, Dying("orders", DeathReason.MaxDeliveries, deliveries: 20), 4000);
        (string[] deaths, PropertyTag[] others) = Read(properties);
        Assert.Equal(["orders MaxDeliveries 1x 4000-4000 after 20", "orders Rejected 2x 1000-3000 after 1 'second'", "wait Expired 1x 2000-2000 after 1"], deaths);
        Assert.Equal(3, others.Length);
    }

    [Fact]
    public void However_long_the_story_it_fits_beside_all_that_a_sender_may_write_and_the_latest_are_kept()
    {
        PropertyWriter full = new(new byte[Limits.MaxPropertyBytes]);
        full.Header("h", new string('x', Limits.MaxPropertyBytes - 6));
        Assert.Equal(Limits.MaxPropertyBytes, full.Length);
        byte[] properties = full.Written.ToArray();
        for (int i = 1; i <= 12; i++)
        {
            properties = After(properties, Dying($"{new string('q', 250)}{i}", DeathReason.Rejected, words: new string('w', Limits.MaxWordsBytes - 4)), i);
        }

        (string[] deaths, PropertyTag[] others) = Read(properties);
        Assert.InRange(deaths.Length, 5, Limits.MaxDeaths);
        Assert.Contains("q12 Rejected", deaths[0], StringComparison.Ordinal);
        Assert.Contains("q11 Rejected", deaths[1], StringComparison.Ordinal);
        Assert.Equal([PropertyTag.Header], others);
        properties = [];
        for (int i = 1; i <= 12; i++)
        {
            properties = After(properties, Dying($"q{i}", DeathReason.Expired), i);
        }

        Assert.Equal(Limits.MaxDeaths, Read(properties).Deaths.Length);
    }

    [Fact]
    public void What_goes_round_by_itself_is_a_circle_and_what_somebody_rejects_on_the_way_is_none()
    {
        byte[] properties = After([], Dying("a", DeathReason.Expired), 1);
        Assert.False(Obituary.IsCircle(properties, Dying("b", DeathReason.Expired, target: "c")));
        Assert.True(Obituary.IsCircle(properties, Dying("b", DeathReason.Expired, target: "a")));
        Assert.False(Obituary.IsCircle(properties, Dying("b", DeathReason.Rejected, target: "a")));

        // A queue to wait in: its messages come back for ever, as each round somebody rejects them.
        properties = [];
        for (int round = 1; round <= 20; round++)
        {
            Assert.False(Obituary.IsCircle(properties, Dying("work", DeathReason.Rejected, target: "wait")));
            properties = After(properties, Dying("work", DeathReason.Rejected, target: "wait"), round);
            Assert.False(Obituary.IsCircle(properties, Dying("wait", DeathReason.Expired, target: "work")));
            properties = After(properties, Dying("wait", DeathReason.Expired, target: "work"), round);
        }

        Assert.Equal(["wait Expired 20x 1-20 after 1", "work Rejected 20x 1-20 after 1"], Read(properties).Deaths);

        // Three queues, nobody ever looks.
        properties = After(After([], Dying("a", DeathReason.Expired), 1), Dying("b", DeathReason.MaxDeliveries), 2);
        Assert.True(Obituary.IsCircle(properties, Dying("c", DeathReason.Expired, target: "a")));
    }

    [Fact]
    public void Any_bytes_are_a_story_that_is_told_or_left_out()
    {
        Random random = new(4711);
        for (int i = 0; i < 20_000; i++)
        {
            byte[] noise = new byte[random.Next(64)];
            random.NextBytes(noise);
            byte[] properties = new byte[noise.Length + 4];
            noise.CopyTo(properties, 4);
            (properties[0], properties[1], properties[2]) = ((byte)PropertyTag.Death, (byte)PropertyType.Bytes, (byte)noise.Length);
            _ = Obituary.IsCircle(properties, Dying("a", DeathReason.Expired));
            _ = After(properties, Dying("a", DeathReason.Expired), 1);
        }
    }
}
