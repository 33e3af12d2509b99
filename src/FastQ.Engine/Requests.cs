using FastQ.Protocol;

namespace FastQ.Engine;

// Requests: messages to which somebody waits for a reply. The engine knows three things of them: they may be refused where nobody would
// answer; they are delivered once, for whoever asks again does so knowingly; and when they die, who waits is told, instead of dead letters.
// Replies are no part of the state.

public sealed partial class QueueEngine
{
    /// <summary>A request that had died is gone. Bytes written.</summary>
    public int EndRequest(uint queue, ulong tag, Span<byte> room, ulong block) => Write(new FactRecord { Kind = RecordKind.RequestEnded, Subject = queue, First = tag }, default, room, block);

    /// <summary>May somebody still wait for a reply when a request dies of this? When it has expired, nobody does.</summary>
    private static bool IsAwaited(DeathReason reason) => reason != DeathReason.Expired;

    private bool ApplyRequestEnded(Queue queue, ulong tag, ulong block) => TryLeave(queue, tag, isRequest: true, block);
}
