using Cronos;
using FastQ.Protocol;

namespace FastQ.Broker;

/// <summary>When a schedule fires: a cron expression in a time zone, or an interval. Moments are microseconds of the wall clock. Pure, but for the time zones that the system knows.</summary>
internal sealed class ScheduleRule
{
    private const int MostCronBytes = 200;
    private const int MostZoneBytes = 64;
    private readonly CronExpression? _cron;
    private readonly TimeZoneInfo _zone;
    private readonly long _everyMicros;

    private ScheduleRule(CronExpression? cron, TimeZoneInfo zone, long everyMicros) => (_cron, _zone, _everyMicros) = (cron, zone, everyMicros);

    /// <summary>Reads a rule from a schedule's fields: Cron and Zone, or EveryMilliseconds.</summary>
    /// <param name="fields">Of any origin.</param>
    /// <param name="rule">It.</param>
    /// <param name="fault">What is wrong with it, in words.</param>
    public static bool TryRead(ReadOnlySpan<byte> fields, out ScheduleRule rule, out string fault)
    {
        (rule, fault) = (new ScheduleRule(null, TimeZoneInfo.Utc, 0), "");
        string cron = TextIn(fields, FieldTag.Cron), zone = TextIn(fields, FieldTag.Zone);
        bool hasInterval = FieldReader.TryNumber(fields, FieldTag.EveryMilliseconds, out ulong every);
        if (hasInterval == (cron.Length > 0))
        {
            fault = "A schedule has either a cron expression or an interval";
        }
        else if (hasInterval)
        {
            rule = new ScheduleRule(null, TimeZoneInfo.Utc, (long)Math.Min(every, (ulong)Limits.MaxDelayMilliseconds) * 1000);
            fault = every is >= Limits.MinEveryMilliseconds and <= Limits.MaxDelayMilliseconds && zone.Length == 0 ? "" : $"An interval is {Limits.MinEveryMilliseconds} to {Limits.MaxDelayMilliseconds} ms, and has no time zone";
        }
        else if (!TryFindZone(zone, out TimeZoneInfo found))
        {
            fault = $"The time zone '{zone}' is not known to the broker's system: a name like Europe/Berlin, or none for UTC";
        }
        else if (!TryParse(cron, out CronExpression? expression))
        {
            fault = $"'{cron}' is no cron expression: minute, hour, day, month, weekday, like '0 3 * * 1-5'; with seconds before them, if there are six";
        }
        else
        {
            rule = new ScheduleRule(expression, found, 0);
        }

        return fault.Length == 0;
    }

    /// <summary>The first firing of a schedule that begins now; null: there is none.</summary>
    public long? First(long nowMicros) => _cron is null ? nowMicros + _everyMicros : Next(nowMicros);

    /// <summary>The firing after one; of a cron expression after any moment. Null: there is none.</summary>
    public long? Next(long micros) => _cron is null ? micros + _everyMicros : MicrosOf(_cron.GetNextOccurrence(MomentOf(micros), _zone));

    /// <summary>The last firing up to now, counted from one that was due.</summary>
    public long Last(long dueMicros, long nowMicros)
    {
        if (_cron is null)
        {
            return dueMicros + Math.Max(0, nowMicros - dueMicros) / _everyMicros * _everyMicros;
        }

        // Halved, as there may be millions of them. The library looks back, too, but is a second off where a change of clocks leaves a moment out.
        (long last, long end) = (dueMicros, nowMicros);
        while (Next(last) is long next && next <= nowMicros)
        {
            long middle = last + (end - last) / 2;
            if (Next(middle) is long later && later <= nowMicros)
            {
                last = later;
            }
            else
            {
                (last, end) = (next, middle);
            }
        }

        return last;
    }

    private static bool TryParse(string text, out CronExpression? expression)
    {
        expression = null;
        if (text.Length > MostCronBytes)
        {
            return false;
        }

        bool hasSeconds = text.Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries).Length == 6;
        return CronExpression.TryParse(text, hasSeconds ? CronFormat.IncludeSeconds : CronFormat.Standard, out expression);
    }

    private static bool TryFindZone(string name, out TimeZoneInfo zone)
    {
        zone = TimeZoneInfo.Utc;
        return name is "" or "UTC" || (IsZoneName(name) && TimeZoneInfo.TryFindSystemTimeZoneById(name, out zone!));
    }

    /// <summary>The system looks for a file of this name: no other file may be meant.</summary>
    private static bool IsZoneName(string name) => name.Length <= MostZoneBytes && char.IsAsciiLetter(name[0]) && name.All(letter => char.IsAsciiLetterOrDigit(letter) || letter is '/' or '_' or '-' or '+');

    private static DateTime MomentOf(long micros) => DateTime.UnixEpoch.AddTicks(Math.Clamp(micros, 0, (long)(DateTime.MaxValue - DateTime.UnixEpoch).TotalMicroseconds - 1) * TimeSpan.TicksPerMicrosecond);

    private static long? MicrosOf(DateTime? moment) => moment is DateTime at ? (at - DateTime.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond : null;

    private static string TextIn(ReadOnlySpan<byte> fields, FieldTag tag) => FieldReader.TryBytes(fields, tag, out ReadOnlySpan<byte> text) ? System.Text.Encoding.UTF8.GetString(text) : "";
}
