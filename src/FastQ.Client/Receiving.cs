using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using FastQ.Protocol;

namespace FastQ.Client;

// Ring B, in order. Notices and answers are taken at once; runs of deliveries stay in the ring until their consumer begins them: what was
// begun counts as delivered, what was not goes back uncounted if this program dies.
//
//   published position          read up to
//      |  run (waits) | notice | run (waits) |          the position is that of the first run that waits

public sealed unsafe partial class Session
{
    private readonly Queue<DeliveryRun> _runs = new();
    private readonly Stack<DeliveryRun> _pool = new();
    private readonly Stack<DeliveryEntry[]> _entries = new();
    private int _emptyLooks;
    private int _beginningsBeforeLettingGo;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal bool TryReceive(Subscription subscription, out Delivery delivery)
    {
        ThrowIfClosed();
        while (true)
        {
            DeliveryRun? run = subscription.Current;
            if (run is null)
            {
                if (!TryBegin(subscription))
                {
                    delivery = default;
                    return false;
                }

                continue;
            }

            DeliveryEntry entry = run.Entries![run.Next];
            ulong index = (ulong)run.Next;
            ulong number = run.Header.FirstDelivery + index;
            ulong tag = run.Header.FirstTag + index;
            ulong token = run.Header.FirstToken + index;
            byte[]? copy = run.Record;
            run.Next++;
            if (run.Next == run.Header.Count)
            {
                subscription.Current = null;
                End(run);
            }

            byte* record = copy is null ? RecordAt(entry) : null;
            bool mustVerify = (entry.Flags & DeliveryEntry.Cold) != 0 || _options.VerifiesAll;
            if (mustVerify && copy is null && !_options.Surroundings.Sees(RecordCheck.Holds(new ReadOnlySpan<byte>(record, (int)entry.LengthBytes), subscription.Queue, tag, new Place(entry.Slot, entry.Offset))))
            {
                subscription.Doubted[number] = token;
                SendControl(new ControlRecord { Kind = RecordKind.Damaged, Subject = subscription.Id, Value = number });
                continue;
            }

            if (token == 0 && subscription.Doubted.Remove(number, out ulong told))
            {
                token = told;
            }

            subscription.Open(number, copy is null ? entry.Slot : 0);
            delivery = new Delivery(subscription, subscription.Life, number, tag, token, entry.DeliveryCount, (entry.Flags & DeliveryEntry.Redelivered) != 0, record, (int)entry.LengthBytes, copy);
            return true;
        }
    }

    internal bool Receive(Subscription subscription, TimeSpan wait, out Delivery delivery)
    {
        if (TryReceive(subscription, out delivery))
        {
            return true;
        }

        Deadline deadline = new(_options.Surroundings, wait);
        do
        {
            if (subscription.Ended is FastQException ended)
            {
                throw ended;
            }

            bool news = WaitForNews(deadline);
            if (TryReceive(subscription, out delivery))
            {
                return true;
            }

            if (!news)
            {
                return false;
            }
        }
        while (!deadline.IsOver);
        return false;
    }

    /// <summary>Begins the next run of a subscription. False: none is there.</summary>
    private bool TryBegin(Subscription subscription)
    {
        if (_slots.HasGiven)
        {
            LetGoOfSlots();
        }

        if (subscription.Waiting.Count == 0)
        {
            Drain();
            if (subscription.Waiting.Count == 0)
            {
                LookAround(subscription);
                return false;
            }
        }

        DeliveryRun run = subscription.Waiting.Dequeue();
        TakeOutUpTo(run);
        PublishPosition();
        if (IsEndedByBroker())
        {
            End(run); // The broker may have judged before our position moved, and given it back.
            return false;
        }

        subscription.Current = run;
        return true;
    }

    /// <summary>The position says what this program has taken, so it must pass a run that is begun: those of others before it are taken, too.</summary>
    private void TakeOutUpTo(DeliveryRun run)
    {
        foreach (DeliveryRun earlier in _runs)
        {
            TakeOut(earlier);
            if (earlier == run)
            {
                return;
            }
        }

        TakeOut(run);
    }

    /// <summary>Asked after the position was published: the broker sets the word, fences, and then reads the position.</summary>
    internal bool IsEndedByBroker()
    {
        if (!_rings.IsFencedByBroker)
        {
            Interlocked.MemoryBarrier();
        }

        return Volatile.Read(ref _rings.Broker->Ended) != 0;
    }

    /// <summary>Nothing is there: what was gathered is sent, so that credit comes back, and now and then the connection is looked at.</summary>
    private void LookAround(Subscription subscription)
    {
        const int LooksBeforeSocket = 1000;
        subscription.FlushSettles();
        if (++_emptyLooks >= LooksBeforeSocket)
        {
            _emptyLooks = 0;
            LookAtSocket();
        }
    }

    /// <summary>Reads ring B as far as it goes.</summary>
    private void Drain()
    {
        RingReader ring = _rings.Deliveries;
        bool any = false;
        while (true)
        {
            RingVerdict verdict = ring.Next(out RecordPrefix prefix);
            if (verdict == RingVerdict.Empty)
            {
                break;
            }

            if (verdict == RingVerdict.Violation)
            {
                throw new FastQException(RefusalCode.RingViolation, "The broker's ring does not hold to the protocol");
            }

            any = true;
            ulong position = ring.Position;
            ReadOnlySpan<byte> record = ring.Bytes((int)prefix.LengthBytes);
            ring.Advance((int)prefix.LengthBytes);
            if (prefix.Kind is RecordKind.Deliveries or RecordKind.DeliveryCopy)
            {
                AddRun(position, record);
            }
            else if (prefix.Kind == RecordKind.BrokerMovesRing)
            {
                MoveDeliveries();
                ring = _rings.Deliveries;
            }
            else
            {
                TakeNotice(prefix.Kind, record);
            }
        }

        if (!any)
        {
            return;
        }

        if (ring.Position - _publishedPosition >= (ulong)ring.RingBytes * 3 / 4)
        {
            TakeAllOut(); // Refusals and answers must never wait for a consumer that does not look (DESIGN-REVIEW R21).
        }

        PublishPosition();
    }

    private ulong _publishedPosition;

    private void PublishPosition()
    {
        while (_runs.TryPeek(out DeliveryRun? run) && run.IsTaken)
        {
            _runs.Dequeue();
            run.IsListed = false;
            if (run.IsOver)
            {
                Free(run);
            }
        }

        ulong position = _runs.TryPeek(out DeliveryRun? waiting) ? waiting.Position : _rings.Deliveries.Position;
        if (position != _publishedPosition)
        {
            _publishedPosition = position;
            _rings.Deliveries.PublishUpTo(position);
            RingBroker(); // It may wait for room.
        }
    }

    /// <summary>Handed out to its end: back to the pool, once it has left the queue, too.</summary>
    private void End(DeliveryRun run)
    {
        run.IsOver = true;
        if (!run.IsListed)
        {
            Free(run);
        }
    }

    private void Free(DeliveryRun run)
    {
        run.Record = null;
        if (run.Entries is not null)
        {
            _entries.Push(run.Entries);
            run.Entries = null;
        }

        _pool.Push(run);
    }

    private void AddRun(ulong position, ReadOnlySpan<byte> record)
    {
        if (record.Length < DeliveriesHeader.SizeBytes + DeliveryEntry.SizeBytes)
        {
            throw new FastQException(RefusalCode.RingViolation, "A run of deliveries is too short");
        }

        DeliveriesHeader header = MemoryMarshal.Read<DeliveriesHeader>(record);
        bool fits = header.Count is > 0 and <= Limits.MaxRunEntries && record.Length >= DeliveriesHeader.SizeBytes + header.Count * DeliveryEntry.SizeBytes;
        if (!fits)
        {
            throw new FastQException(RefusalCode.RingViolation, "A run of deliveries has a count that does not fit");
        }

        if (!_subscriptions.TryGetValue(header.Subscription, out Subscription? subscription))
        {
            return; // Of one that was closed meanwhile: it goes back to its place.
        }

        DeliveryRun run = _pool.TryPop(out DeliveryRun? pooled) ? pooled : new DeliveryRun();
        run.Position = position;
        run.Header = header;
        (run.Next, run.IsTaken, run.IsOver, run.IsListed, run.Record) = (0, false, false, true, null);
        _runs.Enqueue(run);
        subscription.Waiting.Enqueue(run);
    }

    /// <summary>Copies a run out of the ring: 16 bytes a delivery; of a copy the record, too.</summary>
    private void TakeOut(DeliveryRun run)
    {
        if (run.IsTaken)
        {
            return;
        }

        ReadOnlySpan<byte> record = _rings.Deliveries.At(run.Position, (int)run.Header.LengthBytes);
        int entriesBytes = run.Header.Count * DeliveryEntry.SizeBytes;
        run.Entries = _entries.TryPop(out DeliveryEntry[]? used) ? used : new DeliveryEntry[Limits.MaxRunEntries];
        MemoryMarshal.Cast<byte, DeliveryEntry>(record.Slice(DeliveriesHeader.SizeBytes, entriesBytes)).CopyTo(run.Entries);
        if (run.Header.Kind == RecordKind.DeliveryCopy)
        {
            run.Record = record[(DeliveriesHeader.SizeBytes + entriesBytes)..].ToArray();
            bool sound;
            fixed (byte* bytes = run.Record)
            {
                sound = IsSound(bytes, (uint)run.Record.Length);
            }

            if (!sound)
            {
                throw new FastQException(RefusalCode.Corrupt, "A copy of a message does not have its check");
            }
        }

        run.IsTaken = true;
    }

    private void TakeAllOut()
    {
        foreach (DeliveryRun run in _runs)
        {
            TakeOut(run);
        }
    }

    private void TakeNotice(RecordKind kind, ReadOnlySpan<byte> record)
    {
        if (kind == RecordKind.Answer)
        {
            TakeAnswer(record);
            return;
        }

        if (kind == RecordKind.ReplyDelivered)
        {
            TakeReply(record);
            return;
        }

        if (record.Length < NoticeRecord.SizeBytes)
        {
            return;
        }

        NoticeRecord notice = MemoryMarshal.Read<NoticeRecord>(record);
        switch (kind)
        {
            case RecordKind.Refused:
                string text = Encoding.UTF8.GetString(record[NoticeRecord.SizeBytes..]);
                if (notice.Subject != 0)
                {
                    TakeTransactionRefused(notice, text);
                    TellRefusals();
                    break;
                }

                for (ulong number = notice.Number; number < notice.Number + notice.Count; number++)
                {
                    if (number > _refusalsTaken && notice.Code == RefusalCode.Duplicate)
                    {
                        TakeDuplicate(number, notice.Value);
                        _refusalsTaken = number;
                    }
                    else if (number > _refusalsTaken)
                    {
                        FastQException refusal = new(notice.Code, text, notice.Value, number);
                        _refused[number] = refusal;
                        Refused?.Invoke(refusal);
                        _refusalsTaken = number;
                    }
                }

                TellRefusals();
                break;
            case RecordKind.Routed:
                Routed?.Invoke(notice.Number, (int)notice.Value);
                break;
            case RecordKind.LateSettle:
                TakeLateSettle(notice);
                break;
            case RecordKind.SubscriptionEnded when _subscriptions.Remove(notice.Subject, out Subscription? ended):
                GiveUpRuns(ended); // Nobody could settle them any more, and a reconnect must find no run whose subscription it does not know.
                ended.End(new FastQException(notice.Code));
                break;
            case RecordKind.ReplyEnded:
                ReplyEnded?.Invoke(notice.Number, notice.Code);
                break;
            case RecordKind.SlotRetired:
                _slots.GiveUp(notice.Subject);
                _beginningsBeforeLettingGo = 0;
                break;
        }
    }

    /// <summary>Unmaps slots that are gone. Only where the program asks for its next delivery: not while it reads the one before.</summary>
    private void LetGoOfSlots()
    {
        const int BeginningsBetween = 64; // What is in hand for long is not looked for each time.
        if (_beginningsBeforeLettingGo-- <= 0)
        {
            _beginningsBeforeLettingGo = BeginningsBetween;
            _slots.LetGo(IsRead);
        }
    }

    private bool IsRead(uint slot)
    {
        foreach (Subscription subscription in _subscriptions.Values)
        {
            if (subscription.Reads(slot) || (subscription.Current is DeliveryRun current && Names(EntriesOf(current)[current.Next..], slot)))
            {
                return true;
            }

            foreach (DeliveryRun run in subscription.Waiting)
            {
                if (Names(EntriesOf(run), slot))
                {
                    return true;
                }
            }
        }

        return false;
    }

    /// <summary>Where they lie now.</summary>
    private ReadOnlySpan<DeliveryEntry> EntriesOf(DeliveryRun run) => run.IsTaken
        ? run.Entries.AsSpan(0, run.Header.Count)
        : MemoryMarshal.Cast<byte, DeliveryEntry>(_rings.Deliveries.At(run.Position, (int)run.Header.LengthBytes).Slice(DeliveriesHeader.SizeBytes, run.Header.Count * DeliveryEntry.SizeBytes));

    private static bool Names(ReadOnlySpan<DeliveryEntry> entries, uint slot)
    {
        foreach (ref readonly DeliveryEntry entry in entries)
        {
            if (entry.Slot == slot)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The broker has one already: this counts as published.</summary>
    private void TakeDuplicate(ulong number, ulong firstTag)
    {
        Duplicates++;
        if (Duplicated is not null)
        {
            Duplicated(number, firstTag);
        }
    }

    /// <summary>Deliveries that were no longer ours when they were settled. Their bytes are not looked at any more.</summary>
    private void TakeLateSettle(in NoticeRecord notice)
    {
        if (_subscriptions.TryGetValue(notice.Subject, out Subscription? subscription))
        {
            subscription.LateSettles += notice.Count;
            FastQException late = new(notice.Code, $"Deliveries {notice.Value} to {notice.Value + notice.Count - 1} of queue {subscription.Queue}", 0, notice.Number);
            _refused[notice.Number] = late;
            Refused?.Invoke(late);
        }

        _refusalsTaken = Math.Max(_refusalsTaken, notice.Number);
        TellRefusals();
    }

    /// <summary>Now and then the broker is told which refusals it may forget.</summary>
    private void TellRefusals()
    {
        const ulong RefusalsBetween = 64;
        if (_refusalsTaken - _refusalsTold >= RefusalsBetween && _outbox.Room > 2 * ControlRecord.SizeBytes && _outbox.HasMarkRoom)
        {
            _refusalsTold = _refusalsTaken;
            WriteControl(new ControlRecord { Kind = RecordKind.RefusalsSeen, Value = _refusalsTaken });
            RingBroker();
        }
    }

    /// <summary>Where a record lies; waits for the slot's descriptor, which was sent before the record that names it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private byte* RecordAt(in DeliveryEntry entry)
    {
        byte* record = _slots.Find(entry.Slot, entry.Offset, entry.LengthBytes);
        return record != null ? record : FetchSlot(entry);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private byte* FetchSlot(in DeliveryEntry entry)
    {
        ReadSocketUntil(entry.Slot);
        byte* record = _slots.Find(entry.Slot, entry.Offset, entry.LengthBytes);
        return record != null ? record : throw new FastQException(RefusalCode.RingViolation, $"A delivery lies outside slot {entry.Slot}");
    }

    /// <summary>Is this a whole message with the right check? Reads only what the entry said.</summary>
    private static bool IsSound(byte* record, uint length) => RecordCheck.Holds(new ReadOnlySpan<byte>(record, (int)length));
}
