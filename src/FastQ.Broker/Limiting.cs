using FastQ.Engine;
using FastQ.Protocol;

namespace FastQ.Broker;

// Commands about what flows: limits that queues share by name, and a queue's consumers, each of which may be paused.

public sealed partial class Broker
{
    private void SetLimit(Session session, in CommandRecord command, ReadOnlySpan<byte> fields, ref Facts facts)
    {
        string name = TextIn(fields, FieldTag.Name);
        FieldReader.TryNumber(fields, FieldTag.Action, out ulong action);
        FieldReader.TryBytes(fields, FieldTag.Flow, out ReadOnlySpan<byte> flow);
        if (action > (ulong)LimitAction.Delete)
        {
            Answer(session, command, Decision.Refuse(RefusalCode.BadArgument), "A limit is declared, changed or deleted.", static (ref FieldWriter _) => { });
            return;
        }

        Decision decision = _engine.SetLimit(name, (LimitAction)action, flow, facts.Rest, _journal.OpenBlock, out int written, out string fault);
        facts.Add(written);
        Answer(session, command, decision, fault, (ref FieldWriter writer) =>
        {
            if ((LimitAction)action != LimitAction.Delete)
            {
                WriteLimit(ref writer, _engine.SharedLimits.Single(limit => limit.Name == name));
            }
        });
    }

    private void ListLimits(Session session, in CommandRecord command)
    {
        foreach (LimitView limit in _engine.SharedLimits)
        {
            session.Answers.Enqueue(AnswerOf(command, Decision.Taken, "", AnswerRecord.More, (ref FieldWriter writer) => WriteLimit(ref writer, limit)));
        }

        Answer(session, command, Decision.Taken, "", static (ref FieldWriter _) => { });
    }

    private static void WriteLimit(ref FieldWriter writer, in LimitView limit)
    {
        writer.Text(FieldTag.Name, limit.Name);
        limit.Limits.Write(ref writer);
        writer.Number(FieldTag.InFlight, (ulong)limit.InFlight);
        writer.Number(FieldTag.Queues, (ulong)limit.Queues);
        writer.Number(FieldTag.Waiting, (ulong)limit.Waiting);
    }

    private void ListSubscriptions(Session session, in CommandRecord command, ReadOnlySpan<byte> fields)
    {
        uint queue = IdIn(fields, FieldTag.Queue);
        if (!_engine.IsQueue(queue))
        {
            Answer(session, command, Decision.Refuse(RefusalCode.UnknownQueue), "", static (ref FieldWriter _) => { });
            return;
        }

        foreach (SubscriptionView one in _engine.SubscriptionsOf(queue))
        {
            session.Answers.Enqueue(AnswerOf(command, Decision.Taken, "", AnswerRecord.More, (ref FieldWriter writer) =>
            {
                writer.Number(FieldTag.Subscription, one.Id);
                writer.Text(FieldTag.Owner, OwnerOf(one.Id));
                writer.Number(FieldTag.ConsumerPriority, one.Priority);
                writer.Number(FieldTag.Exclusive, one.IsExclusive ? 1u : 0u);
                writer.Number(FieldTag.Paused, one.IsPaused ? 1u : 0u);
                writer.Number(FieldTag.InFlight, (ulong)one.Open);
                writer.Number(FieldTag.CreditMessages, one.Credit);
            }));
        }

        Answer(session, command, Decision.Taken, "", static (ref FieldWriter _) => { });
    }

    private void PauseSubscription(Session session, in CommandRecord command, ReadOnlySpan<byte> fields, ref Facts facts)
    {
        FieldReader.TryNumber(fields, FieldTag.Paused, out ulong isPaused);
        Decision decision = _engine.PauseSubscription(IdIn(fields, FieldTag.Queue), IdIn(fields, FieldTag.Subscription), isPaused != 0, facts.Rest, _journal.OpenBlock, out int written);
        facts.Add(written);
        AnswerView(session, command, decision, IdIn(fields, FieldTag.Queue), "");
    }
}
