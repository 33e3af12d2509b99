using FastQ.Engine;
using FastQ.Protocol;

namespace FastQ.Broker;

// What consumers say that they have processed, and ask whether somebody has.

public sealed partial class Broker
{
    private void AcceptProcessed(Session session, in CommandRecord command, ReadOnlySpan<byte> fields, ref Facts facts)
    {
        uint subscription = IdIn(fields, FieldTag.Subscription);
        FieldReader.TryNumber(fields, FieldTag.FirstDelivery, out ulong delivery);
        FieldReader.TryBytes(fields, FieldTag.ProcessedKey, out ReadOnlySpan<byte> key);
        FieldReader.TryBytes(fields, FieldTag.ProcessedResult, out ReadOnlySpan<byte> result);
        Decision decision = _engine.AcceptProcessed(IdIn(fields, FieldTag.Queue), session.Producer, subscription, delivery, key, result, facts.Rest, _journal.OpenBlock, out int written, out ProcessedMark mark);
        facts.Add(written);
        if (decision.IsTaken && session.Orphans.Count > 0)
        {
            ReturnReferences(session, subscription, delivery, 1);
        }

        Answer(session, command, decision, "", (ref FieldWriter writer) =>
        {
            writer.Number(FieldTag.Created, mark.IsFirst ? 1u : 0u);
            writer.Bytes(FieldTag.ProcessedResult, mark.Result.Span);
            writer.Number(FieldTag.Late, (ulong)mark.Late);
        });
    }

    private void FindProcessed(Session session, in CommandRecord command, ReadOnlySpan<byte> fields)
    {
        FieldReader.TryBytes(fields, FieldTag.ProcessedKey, out ReadOnlySpan<byte> key);
        Decision decision = _engine.FindProcessed(IdIn(fields, FieldTag.Queue), key, out bool isMarked, out ReadOnlyMemory<byte> result);
        Answer(session, command, decision, "", (ref FieldWriter writer) =>
        {
            if (isMarked)
            {
                writer.Bytes(FieldTag.ProcessedResult, result.Span);
            }
        });
    }
}
