using System.Text;
using FastQ.Engine;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

/// <summary>When schedules fire: a broker that is turned by hand, under clocks that the test sets.</summary>
public sealed class ScheduleTests : IDisposable
{
    private const long Second = 1_000_000, Minute = 60 * Second, Hour = 60 * Minute;
    private readonly string _directory = Directory.CreateTempSubdirectory("fastq-test-").FullName;
    private long _bootMicros = 1000 * Second;
    private long _wallMicros = 1_800_000_000 * Second; // 2027-01-15 08:00:00 UTC.
    private Broker _broker;
    private RawClient? _client;
    private uint _queue;

    public ScheduleTests()
    {
        _broker = Open();
        _queue = Client.Declare("q");
    }

    public void Dispose()
    {
        _client?.Dispose();
        _broker.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public void Each_firing_is_a_message_with_its_schedule_and_its_moment_and_a_schedule_ends_with_its_count()
    {
        Set("beat", MissedFirings.One, every: 60_000, count: 3);
        Pass(Minute - 1);
        Assert.Empty(Moments());
        Pass(1);
        Assert.Equal([Minute], Moments());
        Pass(Minute);
        Pass(Minute);
        Pass(Hour);
        Assert.Equal([Minute, 2 * Minute, 3 * Minute], Moments());
        Assert.Equal((0L, 3ul), (View().NextMicros, View().Fired));
    }

    [Theory]
    [InlineData(MissedFirings.One, new long[] { 60, 300, 360 })]
    [InlineData(MissedFirings.All, new long[] { 60, 120, 180, 240, 300, 360 })]
    [InlineData(MissedFirings.None, new long[] { 60, 360 })]
    public void What_was_missed_while_the_broker_was_away_comes_once_in_full_or_not_at_all(MissedFirings missed, long[] seconds)
    {
        Set("beat", missed, every: 60_000);
        Pass(Minute + 10 * Second);
        Away(4 * Minute);
        Turn();
        Pass(50 * Second);
        Assert.Equal(seconds, Moments().Select(moment => moment / Second));
        Assert.Equal(7 * Minute, View().NextMicros - 1_800_000_000 * Second);
    }

    [Theory]
    [InlineData(MissedFirings.One, 1)]
    [InlineData(MissedFirings.All, 1)]
    [InlineData(MissedFirings.None, 0)]
    public void One_that_fell_due_while_the_broker_was_away_is_missed_though_the_next_is_not_due(MissedFirings missed, int comes)
    {
        Set("beat", missed, every: 60_000);
        Away(Minute + Second);
        Turn();
        Assert.Equal(comes, Moments().Count);
        Pass(59 * Second);
        Assert.Equal(comes + 1, Moments().Count);
    }

    [Fact]
    public void Missed_ones_come_some_a_turn_and_of_too_many_the_first_thousand_and_the_last()
    {
        Set("beat", MissedFirings.All, every: 1000);
        Away(3000 * Second);
        _broker.Turn();
        Assert.Equal(16, _broker.Engine.View(_queue).Ready);
        Turn();
        List<long> moments = Moments(); // The first of a thousand and one.
        Assert.Equal(Limits.MostMissedFirings + 1, _broker.Engine.View(_queue).Ready);
        Assert.Equal(Second, moments[0]);
        Assert.Equal(3000 * Second, View().LastMicros - 1_800_000_000 * Second);
        Pass(Second);
        Assert.Equal(Limits.MostMissedFirings + 2, _broker.Engine.View(_queue).Ready);
    }

    [Theory]
    [InlineData(10 * 365 * 24L)]
    [InlineData(24L)]
    [InlineData(-24L)]
    [InlineData(-10 * 365 * 24L)]
    public void A_wall_clock_that_jumps_fires_nothing_and_holds_nothing_back(long hours)
    {
        Set("hourly", MissedFirings.All, cron: "0 * * * *");
        Pass(Hour);
        Assert.Equal([Hour], Moments());
        _wallMicros += hours * Hour;
        Turn();
        Pass(Hour - 1);
        Assert.Equal([Hour], Moments());
        Pass(1);
        Assert.Equal([Hour, 2 * Hour], Moments());
        Pass(Hour);
        Assert.Equal([Hour, 2 * Hour, 3 * Hour], Moments());
        Ask(CommandKind.ChangeSchedule, "hourly", writer => writer.Number(FieldTag.Action, (ulong)ScheduleAction.Pause));
        Ask(CommandKind.ChangeSchedule, "hourly", writer => writer.Number(FieldTag.Action, (ulong)ScheduleAction.Resume));
        Assert.Equal(_wallMicros / Hour * Hour + Hour, View().NextMicros); // By the clock as it is now.
    }

    [Fact]
    public void A_small_correction_of_the_clock_is_followed_and_no_firing_comes_twice_for_it()
    {
        Set("hourly", MissedFirings.All, cron: "0 * * * *");
        Pass(Hour);
        _wallMicros -= 10 * Second; // It was fast.
        Pass(Hour);
        Assert.Equal([Hour, 2 * Hour], Moments());
        Assert.Equal(Hour + 10 * Second, View().DueMicros - _broker.IntervalMicros); // Now it knows.
        _wallMicros += 20 * Second; // It was slow.
        Pass(Hour + 10 * Second);
        Assert.Equal([Hour, 2 * Hour, 3 * Hour], Moments());
    }

    [Fact]
    public void What_its_queue_does_not_take_now_comes_when_it_does_and_what_it_never_takes_is_counted()
    {
        Set("beat", MissedFirings.One, every: 60_000);
        _ = Client.Ask(CommandKind.PauseQueue, (FieldTag.Queue, _queue), (FieldTag.Paused, (ulong)PausedWays.In));
        Pass(Minute);
        Pass(Minute + 30 * Second);
        Assert.Empty(Moments());
        _ = Client.Ask(CommandKind.PauseQueue, (FieldTag.Queue, _queue), (FieldTag.Paused, 0));
        Pass(Second);
        Assert.Equal([2 * Minute], Moments());
        _ = Client.Ask(CommandKind.ChangeQueue, (FieldTag.Queue, _queue), (FieldTag.MaxMessageSize, 1));
        Pass(Minute);
        Assert.Equal((1ul, 1ul), (View().Fired, View().Failed));
        Pass(Minute);
        Assert.Equal(2ul, View().Failed);
    }

    [Fact]
    public void A_schedule_goes_on_where_it_stood_when_the_broker_was_started_anew()
    {
        Set("beat", MissedFirings.One, every: 60_000);
        Pass(Minute + Second);
        Away(Second);
        Turn();
        Assert.Equal([Minute], Moments());
        Pass(58 * Second);
        Assert.Equal([Minute, 2 * Minute], Moments());
    }

    [Theory]
    [InlineData("0 3 * * *", "Europe/Berlin", "2027-03-27T02:00:00Z 2027-03-28T01:00:00Z 2027-03-29T01:00:00Z")] // The clocks go forward on the 28th.
    [InlineData("30 2 * * *", "Europe/Berlin", "2027-03-27T01:30:00Z 2027-03-28T01:00:00Z 2027-03-29T00:30:00Z")] // 02:30 is not there that day.
    [InlineData("30 2 * * *", null, "2027-03-27T02:30:00Z 2027-03-28T02:30:00Z 2027-03-29T02:30:00Z")]
    [InlineData("15 30 2 * * *", "UTC", "2027-03-27T02:30:15Z 2027-03-28T02:30:15Z")]
    [InlineData("0 0 29 2 *", null, "2028-02-29T00:00:00Z 2032-02-29T00:00:00Z")]
    public void A_cron_expression_is_read_in_its_time_zone(string cron, string? zone, string moments)
    {
        FieldWriter fields = new(new byte[200]);
        fields.Text(FieldTag.Cron, cron);
        fields.Text(FieldTag.Zone, zone);
        Assert.True(ScheduleRule.TryRead(fields.Written, out ScheduleRule rule, out string fault), fault);
        long at = (long)(new DateTime(2027, 3, 27, 0, 0, 0, DateTimeKind.Utc) - DateTime.UnixEpoch).TotalMicroseconds;
        foreach (string moment in moments.Split(' '))
        {
            long next = rule.Next(at)!.Value;
            Assert.Equal(moment, DateTime.UnixEpoch.AddMicroseconds(next).ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", System.Globalization.CultureInfo.InvariantCulture));
            Assert.Equal(next, rule.Last(at, next));
            at = next;
        }
    }

    [Theory]
    [InlineData("", null, 0, "either a cron expression or an interval")]
    [InlineData("0 3 * *", null, 0, "is no cron expression")]
    [InlineData("61 3 * * *", null, 0, "is no cron expression")]
    [InlineData("0 3 * * *", "Mars/Olympus", 0, "time zone 'Mars/Olympus' is not known")]
    [InlineData("0 3 * * *", "/dev/zero", 0, "is not known")]
    [InlineData("0 3 * * *", "../../../dev/zero", 0, "is not known")]
    [InlineData("0 0 30 2 *", null, 0, "never fire")]
    [InlineData("", null, 99, "An interval is 100")]
    [InlineData("0 3 * * *", null, 60_000, "either a cron expression or an interval")]
    public void A_rule_that_is_none_is_refused_in_words(string cron, string? zone, ulong every, string words)
    {
        RawAnswer answer = Ask(CommandKind.ChangeSchedule, "bad", writer =>
        {
            writer.Number(FieldTag.Queue, _queue);
            writer.Text(FieldTag.Cron, cron);
            writer.Text(FieldTag.Zone, zone);
            if (every > 0)
            {
                writer.Number(FieldTag.EveryMilliseconds, every);
            }
        });
        Assert.Equal(RefusalCode.BadArgument, answer.Code);
        Assert.Contains(words, answer.Text, StringComparison.Ordinal);
        Assert.Empty(_broker.Engine.Schedules);
    }

    [Fact]
    public void A_field_that_comes_twice_or_has_no_form_is_not_kept()
    {
        RawAnswer answer = Ask(CommandKind.ChangeSchedule, "s", writer =>
        {
            writer.Number(FieldTag.Queue, _queue);
            writer.Text(FieldTag.Cron, "0 * * * *");
            writer.Text(FieldTag.Cron, new string('x', 9000));
            writer.Bytes(FieldTag.EveryMilliseconds, new byte[9000]);
        });
        Assert.True(answer.Code == RefusalCode.None, answer.Text);
        Assert.InRange(View().Definition.Length, 1, 100);
        Pass(Hour);
        Assert.Equal([Hour], Moments());
    }

    private RawClient Client => _client ??= RawClient.Connect(_broker.SocketPath, new Hello(), TurnOnce);

    private Broker Open()
    {
        BrokerOptions options = new() { DataDirectory = Path.Combine(_directory, "data"), SocketPath = Path.Combine(_directory, "s"), ResumeGrace = TimeSpan.Zero, Clocks = new Clocks(() => _bootMicros * 1000, () => _wallMicros * 1000) };
        return Broker.Open(options, out string? refusal) ?? throw new InvalidOperationException(refusal);
    }

    /// <summary>The broker stops in order, and is there again so much later. Nothing was turned since.</summary>
    private void Away(long micros)
    {
        _broker.RequestStop();
        while (!_broker.IsOver)
        {
            TurnOnce();
        }

        Assert.Null(_broker.End());
        _client?.Dispose();
        _client = null;
        _broker.Dispose();
        _bootMicros += micros;
        _wallMicros += micros;
        _broker = Open();
    }

    private void TurnOnce()
    {
        _ = _broker.TakeEvents(0);
        _ = _broker.Turn();
    }

    /// <summary>Turns until a turn does nothing more.</summary>
    private void Turn()
    {
        while (_broker.Turn())
        {
        }
    }

    private void Pass(long micros)
    {
        _bootMicros += micros;
        _wallMicros += micros;
        Turn();
    }

    private ScheduleView View() => Assert.Single(_broker.Engine.Schedules);

    private void Set(string name, MissedFirings missed, ulong every = 0, string cron = "", ulong count = 0)
    {
        RawAnswer answer = Ask(CommandKind.ChangeSchedule, name, writer =>
        {
            writer.Number(FieldTag.Queue, _queue);
            writer.Number(FieldTag.Missed, (ulong)missed);
            writer.Bytes(FieldTag.Body, Encoding.UTF8.GetBytes("beat"));
            if (every > 0)
            {
                writer.Number(FieldTag.EveryMilliseconds, every);
            }
            else
            {
                writer.Text(FieldTag.Cron, cron);
            }

            if (count > 0)
            {
                writer.Number(FieldTag.Most, count);
            }
        });
        Assert.True(answer.Code == RefusalCode.None, answer.Text);
    }

    private RawAnswer Ask(CommandKind command, string name, Action<Writer> write)
    {
        Writer writer = new();
        writer.Text(FieldTag.Name, name);
        write(writer);
        return Client.Ask(command, writer.ToBytes());
    }

    /// <summary>Fields that a lambda may write.</summary>
    private sealed class Writer
    {
        private readonly List<byte> _bytes = [];

        public void Number(FieldTag tag, ulong value)
        {
            FieldWriter writer = new(new byte[16]);
            writer.Number(tag, value);
            _bytes.AddRange(writer.Written);
        }

        public void Text(FieldTag tag, string? text) => Bytes(tag, Encoding.UTF8.GetBytes(text ?? ""));

        public void Bytes(FieldTag tag, byte[] value)
        {
            FieldWriter writer = new(new byte[value.Length + 8]);
            writer.Bytes(tag, value);
            _bytes.AddRange(writer.Written);
        }

        public byte[] ToBytes() => [.. _bytes];
    }

    /// <summary>For when the messages in the queue were sent, up to 32 of them, since the test began.</summary>
    private List<long> Moments()
    {
        List<long> moments = [];
        _ = Client.Ask(CommandKind.Sync); // What came just now is written, and so can be read.
        FieldReader fields = new(Client.Ask(CommandKind.BrowseQueue, (FieldTag.Queue, _queue), (FieldTag.Most, 32)).Fields);
        while (fields.Next())
        {
            PropertyReader reader = new(fields.Tag == FieldTag.Properties ? fields.Value : default);
            while (reader.Next())
            {
                if (reader.Tag == PropertyTag.Header && Encoding.UTF8.GetString(reader.Key) == "fastq.scheduled")
                {
                    Assert.Equal(PropertyType.Timestamp, reader.Type);
                    moments.Add(BitConverter.ToInt64(reader.Value) - 1_800_000_000 * Second);
                }
            }
        }

        return moments;
    }
}
