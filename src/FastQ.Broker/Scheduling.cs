using FastQ.Engine;
using FastQ.Protocol;

namespace FastQ.Broker;

// Messages that wait under a schedule key, by their key.

public sealed partial class Broker
{
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
}
