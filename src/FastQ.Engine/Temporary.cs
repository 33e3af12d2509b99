using FastQ.Protocol;

namespace FastQ.Engine;

// Queues that go with the session of their owner. When that has ended, they are deleted; after a recovery when the owner has not come
// back within the grace that subscriptions have, too.

public sealed partial class QueueEngine
{
    private readonly Dictionary<ulong, List<Queue>> _owned = []; // By producer; those deleted meanwhile are passed over.
    private readonly Queue<Queue> _abandoned = new();

    private void Own(Queue queue)
    {
        if (!_owned.TryGetValue(queue.Owner, out List<Queue>? queues))
        {
            _owned.Add(queue.Owner, queues = []);
        }

        queues.RemoveAll(other => other.IsDeleted);
        queues.Add(queue);
    }

    private void AbandonQueuesOf(ulong producer, bool mayReturn)
    {
        if (!mayReturn && _owned.Remove(producer, out List<Queue>? queues))
        {
            queues.ForEach(_abandoned.Enqueue);
        }
    }

    /// <summary>Recovery is over: whose owners have not come back when the grace is over are deleted.</summary>
    private void StartOwners()
    {
        foreach (Queue queue in _queues.Values.Where(queue => queue.Owner != 0 && !queue.IsDeleted))
        {
            Own(queue);
            _abandoned.Enqueue(queue);
        }
    }

    /// <summary>Deletes one that nobody owns any more. Bytes written; 0: there is none.</summary>
    private int DeleteAbandoned(Span<byte> room, ulong block)
    {
        while (_abandoned.TryDequeue(out Queue? queue))
        {
            bool isOwned = _producers.TryGetValue(queue.Owner, out Producer? owner) && owner.IsAttached;
            if (!queue.IsDeleted && !isOwned)
            {
                TellDeleted(queue, EventCause.SessionEnded);
                return Write(new FactRecord { Kind = RecordKind.QueueDeleted, Subject = queue.Id }, default, room, block);
            }
        }

        return 0;
    }
}
