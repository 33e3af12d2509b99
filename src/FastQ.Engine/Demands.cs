using FastQ.Protocol;

namespace FastQ.Engine;

// Properties that a queue demands of what is sent to it, so that who uses it holds to one form of message. Only a sender is judged, and
// only at the moment of sending: what is there stays when the demands change, and dead letters come as they are.

public sealed partial class QueueEngine
{
    /// <summary>Is this what its queue takes of a sender, now?</summary>
    private Decision JudgeSent(Queue queue, ReadOnlySpan<byte> record, in MessageHeader header, in Taking before = default, long supersededBytes = -1)
    {
        Decision decision = JudgeLimits(queue, header, before, supersededBytes);
        return decision.IsTaken && queue.Attributes.Require != RequiredProperties.None ? JudgeDemands(queue.Attributes.Require, record, header) : decision;
    }

    private static Decision JudgeDemands(RequiredProperties missing, ReadOnlySpan<byte> record, in MessageHeader header)
    {
        PropertyReader reader = new(record.Slice(MessageHeader.SizeBytes, Math.Min(header.PropertyBytes, record.Length - MessageHeader.SizeBytes)));
        while (missing != RequiredProperties.None && reader.Next())
        {
            missing &= reader.Type == PropertyType.Text && !reader.Value.IsEmpty ? ~Requirement.Of(reader.Tag) : ~RequiredProperties.None;
        }

        if (missing == RequiredProperties.None)
        {
            return Decision.Taken;
        }

        string names = Requirement.NamesOf(missing).Replace(",", ", ", StringComparison.Ordinal);
        return Decision.Refuse(RefusalCode.MissingProperty, 0, $"The queue demands the {(missing & (missing - 1)) switch { 0 => "property", _ => "properties" }} {names}");
    }
}
