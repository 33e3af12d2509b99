using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using FastQ.Engine;
using FastQ.Journal;
using FastQ.Protocol;

namespace FastQ.Broker;

// Messages that wait under a schedule key, by their key; and schedules: some that are due fire each turn. A firing is an ordinary message of
// its queue, judged like any other, and a fact beside it in the same block. Its time is interval time, reckoned from the wall clock once, when the
// one before fired: a clock that jumps fires nothing. How far the calendar has come is told by the same clock: the wall clock corrects it by an
// hour at most; beyond that it holds still until the schedule is set, or paused and resumed.

public sealed partial class Broker
{
    private const int FiredATurn = 16;
    private const int MostShownScheduleBytes = 4096; // Two names, an expression and numbers.
    private const long FireAgainMicros = 100_000;
    private const long MostClockStepMicros = 3600L * 1_000_000;
    private const string ScheduleHeader = "fastq.schedule";
    private const string ScheduledHeader = "fastq.scheduled";

    private bool FireSchedules()
    {
        int fired = 0;
        while (fired < FiredATurn && _journal.Room == JournalRoom.Plenty && _engine.TryNextSchedule(_now.IntervalMicros, out ScheduleView schedule) && TryFire(schedule))
        {
            fired++;
        }

        return fired > 0;
    }

    /// <summary>Fires a schedule that is due, or passes over what it missed. False: nothing more now.</summary>
    private bool TryFire(in ScheduleView schedule)
    {
        ReadOnlySpan<byte> definition = schedule.Definition.Span;
        if (!ScheduleRule.TryRead(definition, out ScheduleRule rule, out _))
        {
            _engine.RetrySchedule(schedule.Id, _now.IntervalMicros + MostClockStepMicros); // Its time zone is not known here any more.
            return true;
        }

        long now = DateOf(schedule);
        long scheduled = schedule.NextMicros;
        long? next = rule.Next(scheduled);
        bool isLate = next <= now;
        bool wasAway = schedule.DueMicros < _startedMicros;
        MissedFirings missed = (MissedFirings)NumberIn(definition, FieldTag.Missed);
        if (missed == MissedFirings.None && (isLate || wasAway))
        {
            next = rule.Next(rule.Last(scheduled, now));
            return TryPass(schedule, Firing.Passed, isLate: false, scheduled, next, now);
        }

        if (isLate && (missed == MissedFirings.One || schedule.Late >= Limits.MostMissedFirings))
        {
            scheduled = rule.Last(scheduled, now);
            next = rule.Next(scheduled);
            isLate = false;
        }

        return TrySend(schedule, isLate, scheduled, next, now);
    }

    /// <summary>How far the calendar has come, for a schedule that is due: by interval time since the moment that it is due for, corrected by the wall clock where that has made no jump.</summary>
    private long DateOf(in ScheduleView schedule)
    {
        long reckoned = schedule.NextMicros + (_now.IntervalMicros - schedule.DueMicros);
        return Math.Abs(_now.WallMicros - reckoned) <= MostClockStepMicros ? _now.WallMicros : reckoned;
    }

    private bool TryPass(ScheduleView schedule, Firing outcome, bool isLate, long scheduled, long? next, long now) =>
        TryWriteFact(room => PassSchedule(schedule, outcome, isLate, scheduled, next, now, room));

    private int PassSchedule(in ScheduleView schedule, Firing outcome, bool isLate, long scheduled, long? next, long now, Span<byte> room)
    {
        ReadOnlySpan<byte> definition = schedule.Definition.Span;
        bool isEnough = outcome == Firing.Sent && FieldReader.TryNumber(definition, FieldTag.Most, out ulong most) && schedule.Fired + 1 >= most;
        long following = isEnough || next is not long at || at > EndIn(definition) ? 0 : at;
        long due = following == 0 ? 0 : _now.IntervalMicros + Math.Max(0, following - now);
        return _engine.PassSchedule(schedule.Id, outcome, isLate, scheduled, following, due, room, _journal.OpenBlock);
    }

    /// <summary>Sends a schedule's message. False: no room in the journal now.</summary>
    private bool TrySend(in ScheduleView schedule, bool isLate, long scheduled, long? next, long now)
    {
        int propertyBytes = WriteFiringProperties(schedule, scheduled, _story);
        _ = FieldReader.TryBytes(schedule.Definition.Span, FieldTag.Body, out ReadOnlySpan<byte> body);
        int length = MessageHeader.SizeBytes + propertyBytes + body.Length;
        if (!_journal.TryReserve(SourceRecord.SizeBytes + Limits.Align(length) + QueueEngine.MaxFactBytes, out Span<byte> room, out Place place))
        {
            _isBlocked = true;
            return false;
        }

        Facts facts = new(room, BeginSource(0, room));
        uint source = facts.Bytes > 0 ? 1u : 0u;
        Span<byte> record = facts.Rest[..Limits.Align(length)];
        MemoryMarshal.Write(record[^Limits.RecordAlignment..], 0ul); // The padding.
        _story.AsSpan(0, propertyBytes).CopyTo(record[MessageHeader.SizeBytes..]);
        body.CopyTo(record[(MessageHeader.SizeBytes + propertyBytes)..]);
        MemoryMarshal.Write(record, new MessageHeader { LengthBytes = (uint)length, Kind = RecordKind.Message, PropertyBytes = (ushort)propertyBytes, Queue = schedule.Queue, Check = RecordCheck.Of(record[MessageHeader.SizeBytes..length]) });
        Decision decision = _engine.Publish(record[..length], new Place(place.Slot, place.Offset + (uint)facts.Bytes));
        facts.Add(decision.IsTaken ? Limits.Align(length) : 0);
        if (decision.IsTaken || decision.Code is not (RefusalCode.LimitReached or RefusalCode.Paused))
        {
            Firing outcome = decision.IsTaken || decision.Code == RefusalCode.Duplicate ? Firing.Sent : Firing.Failed;
            facts.Add(PassSchedule(schedule, outcome, isLate, scheduled, next, now, facts.Rest));
        }
        else
        {
            _engine.RetrySchedule(schedule.Id, _now.IntervalMicros + FireAgainMicros);
        }

        Commit(facts.Bytes, facts.Records + source);
        return true;
    }

    /// <summary>The message's own properties, and for which schedule and moment it was.</summary>
    private static int WriteFiringProperties(in ScheduleView schedule, long scheduled, Span<byte> room)
    {
        PropertyWriter writer = new(room[..Limits.MaxPropertyBytes]);
        Span<byte> moment = stackalloc byte[sizeof(long)];
        BinaryPrimitives.WriteInt64LittleEndian(moment, scheduled);
        ReadOnlySpan<byte> definition = schedule.Definition.Span;
        _ = FieldReader.TryBytes(definition, FieldTag.Properties, out ReadOnlySpan<byte> properties);
        writer.Raw(properties);
        writer.Header(ScheduleHeader, TextIn(definition, FieldTag.Name));
        writer.Header(ScheduledHeader, PropertyType.Timestamp, moment);
        Invariant.Holds(!writer.Overflowed);
        return writer.Length;
    }

    private static ulong NumberIn(ReadOnlySpan<byte> fields, FieldTag tag) => FieldReader.TryNumber(fields, tag, out ulong number) ? number : 0;

    /// <summary>When a schedule ends, by the wall clock.</summary>
    private static long EndIn(ReadOnlySpan<byte> definition) => FieldReader.TryNumber(definition, FieldTag.EndMicros, out ulong end) ? (long)Math.Min(end, long.MaxValue) : long.MaxValue;

    /// <summary>Says what is wrong with a cron expression, or with its time zone as this system has it; null: nothing.</summary>
    /// <param name="cron">Of any origin.</param>
    /// <param name="zone">Null: UTC.</param>
    /// <param name="now">From when on it fires.</param>
    public static string? CronFault(string cron, string? zone, DateTimeOffset now)
    {
        FieldWriter fields = new(new byte[Limits.MaxCommandBytes]);
        fields.Text(FieldTag.Cron, cron);
        fields.Text(FieldTag.Zone, zone ?? "");
        if (fields.Overflowed)
        {
            return "It is too long";
        }

        return !ScheduleRule.TryRead(fields.Written, out ScheduleRule rule, out string fault) ? fault : rule.First((now - DateTimeOffset.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond) is null ? "It would never fire" : null;
    }

    // ---- commands

    private void ChangeScheduled(Session session, in CommandRecord command, ReadOnlySpan<byte> fields, ref Facts facts)
    {
        uint queue = IdIn(fields, FieldTag.Queue);
        FieldReader.TryBytes(fields, FieldTag.Key, out ReadOnlySpan<byte> key);
        int written;
        Timeliness timeliness;
        Decision decision = command.Command == CommandKind.CancelScheduled
            ? _engine.CancelScheduled(queue, key, facts.Rest, _journal.OpenBlock, out written, out timeliness)
            : _engine.Reschedule(queue, key, DueIn(fields), facts.Rest, _journal.OpenBlock, out written, out timeliness);
        facts.Add(written);
        Answer(session, command, decision, "", (ref FieldWriter writer) => writer.Number(FieldTag.Timeliness, (ulong)timeliness));
    }

    private void ChangeSchedule(Session session, in CommandRecord command, ReadOnlySpan<byte> fields, ref Facts facts)
    {
        string name = TextIn(fields, FieldTag.Name);
        string fault = "";
        int written = 0;
        Decision decision = (ScheduleAction)Math.Min(NumberIn(fields, FieldTag.Action), byte.MaxValue) switch
        {
            ScheduleAction.Set => SetSchedule(fields, facts.Rest, out written, out fault),
            ScheduleAction.Delete => _engine.DeleteSchedule(name, facts.Rest, _journal.OpenBlock, out written),
            ScheduleAction.Pause => PauseSchedule(name, isPaused: true, facts.Rest, out written),
            ScheduleAction.Resume => PauseSchedule(name, isPaused: false, facts.Rest, out written),
            _ => Decision.Refuse(RefusalCode.BadArgument, 0, "A schedule is set, deleted, paused or resumed"),
        };
        facts.Add(written);
        Answer(session, command, decision, fault, (ref FieldWriter writer) =>
        {
            if (_engine.TryViewSchedule(name, out ScheduleView schedule))
            {
                WriteSchedule(ref writer, schedule, isWhole: false);
            }
        });
    }

    private Decision SetSchedule(ReadOnlySpan<byte> fields, Span<byte> room, out int written, out string fault)
    {
        written = 0;
        if (!ScheduleRule.TryRead(fields, out ScheduleRule rule, out fault))
        {
            return Decision.Refuse(RefusalCode.BadArgument);
        }

        if (rule.First(_now.WallMicros) is not long first || first > EndIn(fields) || NumberIn(fields, FieldTag.Missed) > (ulong)MissedFirings.None)
        {
            fault = "It would never fire, or says of what is missed what is not known";
            return Decision.Refuse(RefusalCode.BadArgument);
        }

        byte[] definition = DefinitionOf(fields);
        if (!HasRoomForFiring(definition))
        {
            fault = "Its properties do not fit";
            return Decision.Refuse(RefusalCode.TooLarge, Limits.MaxPropertyBytes);
        }

        return _engine.SetSchedule(IdIn(fields, FieldTag.Queue), definition, first, _now.IntervalMicros + (first - _now.WallMicros), room, _journal.OpenBlock, out written);
    }

    /// <summary>What is kept of a command: each field once, and in its own form.</summary>
    private static byte[] DefinitionOf(ReadOnlySpan<byte> fields)
    {
        FieldWriter definition = new(new byte[Limits.MaxCommandBytes]);
        foreach (FieldTag tag in (ReadOnlySpan<FieldTag>)[FieldTag.Name, FieldTag.Cron, FieldTag.Zone, FieldTag.Properties, FieldTag.Body])
        {
            if (FieldReader.TryBytes(fields, tag, out ReadOnlySpan<byte> value) && !value.IsEmpty)
            {
                definition.Bytes(tag, value);
            }
        }

        foreach (FieldTag tag in (ReadOnlySpan<FieldTag>)[FieldTag.EveryMilliseconds, FieldTag.Missed, FieldTag.EndMicros, FieldTag.Most])
        {
            if (FieldReader.TryNumber(fields, tag, out ulong number))
            {
                definition.Number(tag, number);
            }
        }

        Invariant.Holds(!definition.Overflowed);
        return definition.Written.ToArray();
    }

    private static bool HasRoomForFiring(ReadOnlySpan<byte> definition)
    {
        const int MostHeaderBytes = 512; // Those of WriteFiringProperties.
        return !FieldReader.TryBytes(definition, FieldTag.Properties, out ReadOnlySpan<byte> properties) || properties.Length + MostHeaderBytes <= Limits.MaxPropertyBytes;
    }

    /// <summary>One that goes on begins anew by the wall clock as it is.</summary>
    private Decision PauseSchedule(string name, bool isPaused, Span<byte> room, out int written)
    {
        long next = 0;
        if (_engine.TryViewSchedule(name, out ScheduleView schedule) && schedule.NextMicros != 0 && ScheduleRule.TryRead(schedule.Definition.Span, out ScheduleRule rule, out _))
        {
            next = isPaused ? schedule.NextMicros : rule.First(_now.WallMicros) is long first && first <= EndIn(schedule.Definition.Span) ? first : 0;
        }

        long due = isPaused || next == 0 ? schedule.DueMicros : _now.IntervalMicros + (next - _now.WallMicros);
        return _engine.PauseSchedule(name, isPaused, next, due, room, _journal.OpenBlock, out written);
    }

    private void ListSchedules(Session session, in CommandRecord command, ReadOnlySpan<byte> fields)
    {
        string wanted = TextIn(fields, FieldTag.Name);
        foreach (ScheduleView schedule in _engine.Schedules.Where(schedule => wanted.Length == 0 || TextIn(schedule.Definition.Span, FieldTag.Name) == wanted))
        {
            FieldWriter writer = new(new byte[wanted.Length > 0 ? Limits.MaxCommandBytes : MostShownScheduleBytes]);
            WriteSchedule(ref writer, schedule, isWhole: wanted.Length > 0);
            Invariant.Holds(!writer.Overflowed);
            session.Answers.Enqueue(AnswerBytes(command, Decision.Taken, AnswerRecord.More, writer.Written));
        }

        Answer(session, command, Decision.Taken, "", static (ref FieldWriter _) => { });
    }

    /// <param name="writer">Where it goes.</param>
    /// <param name="schedule">It.</param>
    /// <param name="isWhole">With its message.</param>
    private static void WriteSchedule(ref FieldWriter writer, in ScheduleView schedule, bool isWhole)
    {
        FieldReader reader = new(schedule.Definition.Span);
        while (reader.Next())
        {
            if (isWhole || reader.Tag is not (FieldTag.Properties or FieldTag.Body))
            {
                writer.Bytes(reader.Tag, reader.Value);
            }
        }

        _ = FieldReader.TryBytes(schedule.Definition.Span, FieldTag.Body, out ReadOnlySpan<byte> body);
        writer.Text(FieldTag.Target, schedule.QueueName);
        writer.Number(FieldTag.BodyBytes, (ulong)body.Length);
        writer.Number(FieldTag.DueMicros, (ulong)schedule.NextMicros);
        writer.Number(FieldTag.LastMicros, (ulong)schedule.LastMicros);
        writer.Number(FieldTag.Fired, schedule.Fired);
        writer.Number(FieldTag.Failed, schedule.Failed);
        writer.Number(FieldTag.Paused, schedule.IsPaused ? 1u : 0u);
    }
}
