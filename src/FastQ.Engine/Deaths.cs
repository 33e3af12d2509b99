using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using FastQ.Protocol;

namespace FastQ.Engine;

// Messages that die: rejected, delivered too often, expired, or pushed out of a full queue.
//
//   ready, delayed, in flight --> dying --DeadLetter (one record, which is the message in its new queue)--> gone here, ready there
//                            '--> gone, where the queue has no dead letters
//
// Who reads the bytes and writes that record is the broker: a message is nowhere but in the journal. Till then it stays, counted as
// dying; it is in one queue or in the other at every moment, for the record that adds it there takes it away here.

/// <summary>A message that is to leave for the dead letters.</summary>
/// <param name="Queue">Where it is.</param>
/// <param name="QueueName">The same, for its story.</param>
/// <param name="Tag">Its place there.</param>
/// <param name="Place">Where its record lies, and how often it was delivered.</param>
/// <param name="Reason">Why it died.</param>
/// <param name="Words">What a consumer said of it, as fields; or nothing.</param>
/// <param name="Target">Name of the queue that it goes to; empty: it goes to an exchange.</param>
/// <param name="Block">No message of its queue died, or was moved while it was dying, in a later block.</param>
/// <param name="Exchange">Name of the exchange that it goes to; empty: it goes to a queue.</param>
/// <param name="IsRequest">It goes nowhere: who waits for a reply is to be told, and then it ends by <see cref="QueueEngine.EndRequest"/>.</param>
public readonly record struct DyingMessage(uint Queue, string QueueName, ulong Tag, DeliveryEntry Place, DeathReason Reason, ReadOnlyMemory<byte> Words, string Target, ulong Block, string Exchange = "", bool IsRequest = false);

public sealed partial class QueueEngine
{
    private const int WordsOverhead = 64;
    private readonly Queue<Queue> _dying = new();
    private readonly List<Queue> _aside = []; // Queues with dead letters that no exchange gives to anybody.

    /// <summary>Messages are to leave for dead letters, or wait to be tried again.</summary>
    public bool HasDying => _dying.Count > 0;

    /// <summary>The next message that is to leave for the dead letters, queue by queue. It stays until <see cref="TakeIn"/>, <see cref="StopDeath"/> or <see cref="TryMarkDamaged"/>.</summary>
    /// <param name="nowMicros">Interval time.</param>
    /// <param name="message">It.</param>
    public bool TryNextDying(long nowMicros, out DyingMessage message)
    {
        for (int left = _dying.Count; left > 0; left--)
        {
            Queue queue = _dying.Dequeue();
            if (!TryFirstDying(queue, out ulong tag))
            {
                queue.IsListedAsDying = false;
                continue;
            }

            _dying.Enqueue(queue);
            if (queue.DeadLettersFromMicros > nowMicros)
            {
                continue;
            }

            ref IndexEntry entry = ref queue.Index.Find(tag);
            byte[]? words = queue.Words?.GetValueOrDefault(tag);
            DeliveryEntry place = new() { Slot = entry.Slot, Offset = entry.Offset, LengthBytes = entry.LengthBytes, DeliveryCount = entry.Deliveries };
            message = new DyingMessage(queue.Id, Encoding.UTF8.GetString(queue.Name), tag, place, entry.Reason, words, queue.DeadLetter, queue.DiedInBlock, queue.Attributes.DeadLetterExchange, entry.IsRequest);
            return true;
        }

        message = default;
        return false;
    }

    /// <summary>Takes in a message that comes from another queue, dead or moved: its record, complete but for the tag, stands in the open block; its first property says whence it comes. Refused where there is no room for it.</summary>
    public Decision TakeIn(Span<byte> record, Place place, ulong block)
    {
        ref MessageHeader header = ref MemoryMarshal.AsRef<MessageHeader>(record);
        Queue target = _queues[header.Queue];
        if ((target.Index.NeedsMemory || target.GivesTerms) && !_pages.HasRoom)
        {
            return Decision.Refuse(RefusalCode.LimitReached, (ulong)_limits.IndexBytes);
        }

        if (target.HasLimits && JudgeLimits(target, header) is { IsTaken: false } beyond)
        {
            return beyond;
        }

        header.Tag = target.Index.NextTag;
        bool fits = header.Kind == RecordKind.DeadLetter ? ApplyDeadLetter(record, place, block) : ApplyTransferred(record, place, block);
        Invariant.Holds(fits);
        return Decision.Taken;
    }

    /// <summary>A message has gone in a circle: it stays where it died. Bytes written.</summary>
    public int StopDeath(uint queue, ulong tag, Span<byte> room, ulong block) => Write(new FactRecord { Kind = RecordKind.DeathStopped, Subject = queue, First = tag }, default, room, block);

    /// <summary>The dead letters of a queue cannot leave now: they are tried again later.</summary>
    /// <param name="queue">Where they are.</param>
    /// <param name="untilMicros">Interval time.</param>
    public void PauseDeadLetters(uint queue, long untilMicros) => _queues[queue].DeadLettersFromMicros = untilMicros;

    /// <summary>The exchange gives a dying message, which is the next one of its queue, to nobody: it is set aside till an exchange, a binding or a queue changes, and holds up no other.</summary>
    public void SetDeadLetterAside(uint queue, ulong tag)
    {
        Queue of = _queues[queue];
        Invariant.Holds(of.DyingTags.Top == tag);
        of.DyingTags.Pop();
        of.Unroutable.Push(tag);
        if (of.Unroutable.Count == 1)
        {
            _aside.Add(of);
        }
    }

    /// <summary>What was set aside may find its way now.</summary>
    private void TryAsideAgain()
    {
        foreach (Queue queue in _aside)
        {
            for (; queue.Unroutable.Count > 0; queue.Unroutable.Pop())
            {
                queue.DyingTags.Push(queue.Unroutable.Top);
            }

            ListIfDying(queue);
        }

        _aside.Clear();
    }

    /// <summary>Chooses the queues of a message that died and goes to an exchange, by its own key and headers. Changes nothing.</summary>
    /// <param name="exchange">Its name.</param>
    /// <param name="message">The whole dead letter; its Queue and Tag are not looked at.</param>
    /// <param name="id">Of the exchange.</param>
    /// <param name="targets">Until the next call.</param>
    public Decision RouteDead(string exchange, ReadOnlySpan<byte> message, out uint id, out ReadOnlySpan<RoutedTarget> targets)
    {
        id = 0;
        targets = default;
        MessageHeader header = MemoryMarshal.Read<MessageHeader>(message);
        ReadOnlySpan<byte> properties = message.Slice(MessageHeader.SizeBytes, header.PropertyBytes);
        if (!_exchangesByName.TryGetValue(exchange, out Exchange? found))
        {
            return Decision.Refuse(RefusalCode.Unroutable);
        }

        if (!TryReach(found, KeyIn(properties), properties, out ReadOnlySpan<Queue> queues) || queues.IsEmpty)
        {
            return Decision.Refuse(RefusalCode.Unroutable);
        }

        id = found.Id;
        _targets = _targets.Length >= queues.Length ? _targets : new RoutedTarget[Limits.MaxFanout];
        for (int i = 0; i < queues.Length; i++)
        {
            if (queues[i].HasLimits && JudgeLimits(queues[i], header) is { IsTaken: false } beyond)
            {
                return beyond;
            }

            _targets[i] = new RoutedTarget { Queue = queues[i].Id, Tag = queues[i].Index.NextTag };
        }

        targets = _targets.AsSpan(0, queues.Length);
        return _pages.HasRoomForPages(queues.Length + 1) ? Decision.Taken : Decision.Refuse(RefusalCode.LimitReached, (ulong)_limits.IndexBytes);
    }

    /// <summary>A message dies: it is to leave for the dead letters, or is gone where there are none. What it was counted as before is the caller's.</summary>
    private void Die(Queue queue, ulong tag, ref IndexEntry entry, DeathReason reason, ReadOnlySpan<byte> words, ulong block)
    {
        CountDeath(queue, reason, 1);
        if (entry.IsRequest ? !IsAwaited(reason) : !queue.Attributes.HasDeadLetters || (reason == DeathReason.Overflow && queue.Attributes.Overflow != Overflow.DeadLetter))
        {
            Free(queue, tag, ref entry, block);
            return;
        }

        queue.Expiry.Remove(tag);
        queue.Forget(tag);
        entry.State = EntryState.Dying;
        entry.Generation = (ushort)reason;
        queue.Dying++;
        queue.HeldBytes += entry.LengthBytes - MessageHeader.SizeBytes;
        queue.DiedInBlock = block;
        KeepWords(queue, tag, words);
        ListAsDying(queue, tag, entry);
    }

    private void ListAsDying(Queue queue, ulong tag, in IndexEntry entry)
    {
        (entry.IsRequest ? queue.DyingRequests : queue.DyingTags).Push(tag);
        ListIfDying(queue);
    }

    private void ListIfDying(Queue queue)
    {
        if (!queue.IsListedAsDying && queue.DyingTags.Count + queue.DyingRequests.Count > 0)
        {
            queue.IsListedAsDying = true;
            _dying.Enqueue(queue);
        }
    }

    private static void CountDeath(Queue queue, DeathReason reason, int change)
    {
        switch (reason)
        {
            case DeathReason.Rejected:
                queue.Rejected += (ulong)change;
                break;
            case DeathReason.MaxDeliveries:
                queue.Exhausted += (ulong)change;
                break;
            case DeathReason.Overflow:
                queue.Overflowed += (ulong)change;
                break;
            default:
                queue.Expired += (ulong)change;
                break;
        }
    }

    /// <summary>A dying message is not: neither its death nor it is counted any more.</summary>
    private void Revive(Queue queue, ulong tag, in IndexEntry entry)
    {
        CountDeath(queue, entry.Reason, -1);
        queue.Dying--;
        ForgetWords(queue, tag);
    }

    private bool ApplyDeadLetter(ReadOnlySpan<byte> record, Place place, ulong block)
    {
        MessageHeader header = MemoryMarshal.Read<MessageHeader>(record);
        if (FindQueue(header.Queue) is not Queue target || !IsNext(target, header, place) || !TryTermsOf(target, record, header, out MessageTerms terms) || !TryOriginOf(record, header, PropertyTag.Death, out uint id, out ulong tag))
        {
            return false;
        }

        if (!TryDepart(id, tag, block) && !IsLenient)
        {
            return false;
        }

        EnqueueOnTerms(target, header.Tag, header.LengthBytes, place, terms, isPublished: false);
        return true;
    }

    /// <summary>Whence the message comes: in its first property, of this tag.</summary>
    private static bool TryOriginOf(ReadOnlySpan<byte> record, in MessageHeader header, PropertyTag first, out uint queue, out ulong tag)
    {
        (queue, tag) = (0, 0);
        PropertyReader reader = new(record.Slice(MessageHeader.SizeBytes, header.PropertyBytes));
        if (!reader.Next() || reader.Tag != first || !FieldReader.TryNumber(reader.Value, FieldTag.Queue, out ulong id) || id > uint.MaxValue)
        {
            return false;
        }

        queue = (uint)id;
        return FieldReader.TryNumber(reader.Value, FieldTag.Tag, out tag);
    }

    /// <summary>A dying message is gone from here. False: there is none.</summary>
    private bool TryDepart(uint id, ulong tag, ulong block)
    {
        if (FindQueue(id) is not Queue queue || !TryLeave(queue, tag, isRequest: false, block))
        {
            return false;
        }

        queue.DeadLettered++;
        return true;
    }

    private bool TryLeave(Queue queue, ulong tag, bool isRequest, ulong block)
    {
        ref IndexEntry entry = ref queue.Index.Find(tag);
        if (Unsafe.IsNullRef(ref entry) || entry.State != EntryState.Dying || entry.IsStopped || entry.IsRequest != isRequest)
        {
            return false;
        }

        queue.Dying--;
        queue.HeldBytes -= entry.LengthBytes - MessageHeader.SizeBytes;
        ForgetWords(queue, tag);
        Free(queue, tag, ref entry, block);
        return true;
    }

    private static bool ApplyStopped(Queue queue, ulong tag)
    {
        ref IndexEntry entry = ref queue.Index.Find(tag);
        if (Unsafe.IsNullRef(ref entry) || entry.State != EntryState.Dying || entry.IsStopped)
        {
            return false;
        }

        entry.Generation |= IndexEntry.Stopped;
        return true;
    }

    private static bool TryFirstDying(Queue queue, out ulong tag)
    {
        return TryFirstDying(queue, queue.DyingRequests, out tag) || (queue.Attributes.HasDeadLetters && TryFirstDying(queue, queue.DyingTags, out tag));
    }

    private static bool TryFirstDying(Queue queue, NativeHeap<ulong> dying, out ulong tag)
    {
        for (; dying.Count > 0; dying.Pop())
        {
            tag = dying.Top;
            ref IndexEntry entry = ref queue.Index.Find(tag);
            if (!Unsafe.IsNullRef(ref entry) && entry.State == EntryState.Dying && !entry.IsStopped)
            {
                return true;
            }
        }

        tag = 0;
        return false;
    }

    private void KeepWords(Queue queue, ulong tag, ReadOnlySpan<byte> words)
    {
        if (words.Length > 0)
        {
            (queue.Words ??= [])[tag] = words.ToArray();
            _pages.Charge(words.Length + WordsOverhead);
        }
    }

    private void ForgetWords(Queue queue, ulong tag)
    {
        if (queue.Words is not null && queue.Words.Remove(tag, out byte[]? words))
        {
            _pages.Charge(-(words.Length + WordsOverhead));
            queue.Words = queue.Words.Count > 0 ? queue.Words : null;
        }
    }

    private void ForgetAllWords(Queue queue)
    {
        foreach (ulong tag in queue.Words?.Keys.ToArray() ?? [])
        {
            ForgetWords(queue, tag);
        }
    }
}
