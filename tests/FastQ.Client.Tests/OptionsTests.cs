using System.Text;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Client;

// What goes into fields and properties, and what is refused before it is sent.
public class OptionsTests
{
    private static readonly TimeSpan TooLong = TimeSpan.FromMilliseconds(Limits.MaxDelayMilliseconds + 1.0);

    public static TheoryData<QueueOptions> OutOfRange() =>
    [
        new QueueOptions { MaxDeliveries = -1 },
        new QueueOptions { MaxDeliveries = Limits.MostMaxDeliveries + 1 },
        new QueueOptions { TimeToLive = TimeSpan.FromMilliseconds(-1) },
        new QueueOptions { TimeToLive = TooLong },
        new QueueOptions { Backoff = new Backoff(TimeSpan.FromSeconds(1), 0.999, TimeSpan.FromSeconds(2)) },
        new QueueOptions { Backoff = new Backoff(TimeSpan.FromSeconds(1), 100.1, TimeSpan.FromSeconds(2)) },
        new QueueOptions { Backoff = new Backoff(TimeSpan.FromSeconds(1), double.NaN, TimeSpan.FromSeconds(2)) },
        new QueueOptions { Backoff = new Backoff(TimeSpan.FromSeconds(3), 2, TimeSpan.FromSeconds(2)) },
        new QueueOptions { Backoff = new Backoff(TimeSpan.FromSeconds(-1), 2, TimeSpan.FromSeconds(2)) },
        new QueueOptions { Backoff = new Backoff(TimeSpan.FromSeconds(1), 2, TooLong) },
    ];

    [Theory]
    [MemberData(nameof(OutOfRange), DisableDiscoveryEnumeration = true)]
    public void Attributes_of_a_queue_that_are_out_of_range_are_refused(QueueOptions options) =>
        Assert.Equal(RefusalCode.BadArgument, Assert.Throws<FastQException>(() => Fields(options)).Code);

    [Fact]
    public void Attributes_of_a_queue_are_sent_in_their_units_and_what_is_not_said_is_left_out()
    {
        byte[] fields = Fields(new QueueOptions
        {
            TimeToLive = TimeSpan.FromMicroseconds(1500),
            MaxDeliveries = 0,
            Backoff = new Backoff(TimeSpan.FromMilliseconds(0.5), 1.2345, TimeSpan.FromMinutes(5)),
            DeadLetter = "",
        });

        Assert.Equal([2, 0, 1, 1234, 300_000], ((FieldTag[])[FieldTag.TtlMilliseconds, FieldTag.MaxDeliveries, FieldTag.BackoffFirstMilliseconds, FieldTag.BackoffFactorPermille, FieldTag.BackoffMostMilliseconds]).Select(tag => (long)Connector.Number(fields, tag)));
        Assert.True(FieldReader.TryBytes(fields, FieldTag.DeadLetter, out ReadOnlySpan<byte> dead) && dead.IsEmpty);
        Assert.Empty(Fields(new QueueOptions()));
        byte[] limits = Fields(new QueueOptions { MaxLength = 5, MaxBytes = 6, Overflow = Overflow.DropHead, MaxMessageSize = 7 });
        Assert.Equal([5, 6, 1, 7], ((FieldTag[])[FieldTag.MaxLength, FieldTag.MaxBytes, FieldTag.Overflow, FieldTag.MaxMessageSize]).Select(tag => (long)Connector.Number(limits, tag)));
        Assert.Equal(RefusalCode.BadArgument, Assert.Throws<FastQException>(() => Fields(new QueueOptions { MaxBytes = -1 })).Code);
    }

    [Fact]
    public void A_queue_is_shown_with_all_that_its_fields_say()
    {
        FieldWriter writer = new(new byte[1000]);
        writer.Text(FieldTag.Name, "q");
        writer.Number(FieldTag.TtlMilliseconds, 1500);
        writer.Number(FieldTag.MaxDeliveries, 3);
        writer.Number(FieldTag.BackoffFirstMilliseconds, 1000);
        writer.Number(FieldTag.BackoffFactorPermille, 1500);
        writer.Number(FieldTag.BackoffMostMilliseconds, 60_000);
        writer.Text(FieldTag.DeadLetter, "morgue");
        writer.Number(FieldTag.DeadLettering, 2);
        writer.Number(FieldTag.Rejected, 10);
        writer.Number(FieldTag.Exhausted, 20);
        writer.Number(FieldTag.Expired, 30);
        writer.Number(FieldTag.DeadLettered, 50);

        QueueInfo queue = QueueInfo.From(writer.Written);

        Assert.Equal((TimeSpan.FromSeconds(1.5), 3, new Backoff(TimeSpan.FromSeconds(1), 1.5, TimeSpan.FromMinutes(1)), "morgue"), (queue.TimeToLive, queue.MaxDeliveries, queue.Backoff, queue.DeadLetter));
        Assert.Equal((2L, 20ul, 30ul, 50ul, 8ul), (queue.DeadLettering, queue.Exhausted, queue.Expired, queue.DeadLettered, queue.Discarded));
        Assert.Equal(new QueueInfo(), QueueInfo.From([]));
    }

    [Fact]
    public void A_message_lives_for_a_millisecond_at_least()
    {
        byte[] properties = new PublishOptions { TimeToLive = TimeSpan.FromMicroseconds(1) }.ToBytes();
        PropertyReader reader = new(properties);
        Assert.True(reader.Next() && reader.Tag == PropertyTag.Ttl && reader.TryNumber(PropertyType.Int64, out long milliseconds) && milliseconds == 1);
        foreach (TimeSpan wrong in (TimeSpan[])[TimeSpan.Zero, TimeSpan.FromSeconds(-1), TooLong])
        {
            Assert.Equal(RefusalCode.BadArgument, Assert.Throws<FastQException>(() => new PublishOptions { TimeToLive = wrong }.ToBytes()).Code);
        }
    }

    [Fact]
    public void Words_of_a_reject_fit_their_room_and_details_end_with_a_whole_character()
    {
        string longest = new('r', Subscription.MaxReasonBytes);
        byte[] words = RejectWords.ToBytes(longest, new string('€', 1000));

        Assert.InRange(words.Length, Limits.MaxWordsBytes - 2, Limits.MaxWordsBytes);
        Assert.True(FieldReader.TryBytes(words, FieldTag.Text, out ReadOnlySpan<byte> text) && Encoding.UTF8.GetString(text) == longest);
        Assert.True(FieldReader.TryBytes(words, FieldTag.Details, out ReadOnlySpan<byte> details));
        Assert.Equal(new string('€', details.Length / 3), Encoding.UTF8.GetString(details));
        Assert.True(FieldReader.TryBytes(RejectWords.ToBytes(null, "😀" + new string('x', 9)), FieldTag.Details, out details) && details.Length == 13);
        Assert.Empty(RejectWords.ToBytes(null, null));
        Assert.Empty(RejectWords.ToBytes("", ""));
        FastQException tooLong = Assert.Throws<FastQException>(() => RejectWords.ToBytes(longest + "r", null));
        Assert.Equal((RefusalCode.BadArgument, (ulong)Subscription.MaxReasonBytes), (tooLong.Code, tooLong.Value));
    }

    private static byte[] Fields(QueueOptions options)
    {
        FieldWriter writer = new(new byte[1000]);
        options.Write(ref writer);
        return writer.Written.ToArray();
    }
}
