using FastQ.Client;
using FastQ.Protocol;

namespace FastQ.Simulation;

// Worlds in which operators are at work: they move messages from queue to queue, many at once (sweeps) or one, delete them, and change when
// they are due. What a client was told of where a message is holds until somebody may have moved it again:
//
//   At = a queue     it comes from there, or from the dead letters of there after one death more
//   At = 0           a sweep was begun that may have taken it: it comes from any queue, but from one alone

/// <summary>Where messages are, as far as clients were told.</summary>
internal sealed class Whereabouts(Model model)
{
    private const long LifeRoundedNanoseconds = 50_000_000; // A move rounds what is left of a life up to a millisecond.
    private readonly HashSet<uint> _swept = [];
    private readonly HashSet<uint> _everSwept = [];

    /// <summary>From now on those that may be in this queue and match may be elsewhere; where they are deleted, they may be gone.</summary>
    /// <param name="queue">Which is swept.</param>
    /// <param name="isMeant">Whether a message matches the sweep's filter.</param>
    /// <param name="mayGo">It is swept to where it is not kept: those that are deleted, and those whose life ends among dead letters.</param>
    public void Touch(uint queue, Func<Sent, bool> isMeant, Func<Sent, bool> mayGo)
    {
        BeginSweep(queue);
        foreach (Sent message in model.All.Where(message => MayBeIn(message, queue) && isMeant(message)))
        {
            (message.At, message.AtTag) = (0, 0);
            message.MayBeGone |= mayGo(message);
        }
    }

    /// <summary>Somebody begins to move what is in a queue.</summary>
    public void BeginSweep(uint queue)
    {
        _swept.Add(queue);
        _everSwept.Add(queue);
    }

    /// <summary>A queue is known to be swept no more.</summary>
    public void EndSweep(uint queue) => _swept.Remove(queue);

    /// <summary>One message was moved, by its place.</summary>
    public void Move(Sent message, uint target)
    {
        bool isSure = !_swept.Contains(target) && !model.Queues.Any(queue => _swept.Contains(queue) && model.IsDeadLetterOf(queue, target));
        (message.At, message.AtTag, message.Count) = (isSure ? target : 0, 0, 0);
    }

    public bool MayBeIn(Sent message, uint queue) => message.At == 0 || message.At == queue || model.IsDeadLetterOf(queue, message.At);

    /// <summary>A delivery's story and properties: all that its sender wrote, and deaths that it can have died.</summary>
    public void CheckStory(Sent message, in Delivery delivery, long nowNanoseconds)
    {
        foreach (Death death in delivery.Deaths())
        {
            bool isKnown = model.Queues.Any(queue => model.NameOf(queue) == death.Queue && !model.IsGraveyard(queue));
            Model.Must(isKnown && death.Count >= 1 && Story.IsPossible(message, death, model.Mortality!.MaxDeliveries, nowNanoseconds), $"{message} did not die like this: {death}");
        }

        Model.Must(Story.WithoutTimes(delivery.Properties).AsSpan().SequenceEqual(Story.WithoutTimes(message.Properties)), $"{message} came with other properties than its sender wrote");
    }

    /// <summary>A delivery in time: it came from where it is, and has died as often as is known at least.</summary>
    public void Take(Sent message, uint queue, in Delivery delivery, long nowNanoseconds, long handedOver)
    {
        long deaths = delivery.Deaths().Sum(death => death.Count);
        Model.Must(MayBeIn(message, queue), $"{message} came from queue {queue}, and is in queue {message.At}");
        Model.Must(message.At != queue || message.AtTag == 0 || message.AtTag == delivery.Tag, $"{message} has the place {message.AtTag} of queue {queue}, and came with {delivery.Tag}");
        bool hasDiedSince = message.At != 0 && message.At != queue;
        Model.Must(deaths >= message.Deaths && (!hasDiedSince || deaths > message.DeathsTold), $"{message} came from queue {queue} with {deaths} deaths to tell of after {message.DeathsTold}, and has died {message.Deaths} times");
        if (deaths > message.DeathsTold)
        {
            (message.NotBeforeNanoseconds, message.ReleasedUntil, message.LastRelease) = (0, default, null); // It waits no more.
        }

        if (!model.IsGraveyard(queue))
        {
            CheckAlive(message, queue, delivery, deaths, nowNanoseconds, handedOver);
        }

        if (message.At != queue)
        {
            message.Count = 0; // Where it came to it counts anew.
        }

        Move(message, queue);
        (message.AtTag, message.Deaths, message.DeathsTold) = (message.At == 0 ? 0 : delivery.Tag, deaths, deaths);
    }

    private void CheckAlive(Sent message, uint queue, in Delivery delivery, long deaths, long nowNanoseconds, long handedOver)
    {
        Mortality mortality = model.Mortality!;
        Model.Must(delivery.DeliveryCount <= mortality.MaxDeliveries, $"{message} came with count {delivery.DeliveryCount}, and {mortality.MaxDeliveries} are allowed");
        bool isLate = deaths == 0 && message.ExpiresByNanoseconds < long.MaxValue && handedOver >= message.ExpiresByNanoseconds + LifeRoundedNanoseconds;
        Model.Must(!isLate, $"{message} was handed over {handedOver - message.ExpiresByNanoseconds} ns after its time was over");
        if (message.At == queue && message.Claim is Held before && before.Owner.LostByLeaseAlone(before))
        {
            long end = before.LeaseEndNanoseconds + mortality.LeastWaitNanoseconds(before.Delivery.DeliveryCount);
            Model.Must(nowNanoseconds >= end, $"{message} came {end - nowNanoseconds} ns before its back-off after an ended lease was over");
        }
    }

    /// <summary>What an operator was told was written at the most; so was each death.</summary>
    public void LosePower()
    {
        _swept.UnionWith(_everSwept);
        foreach (Sent message in model.All)
        {
            (message.At, message.AtTag, message.Deaths, message.DeathsTold, message.NotBeforeNanoseconds) = (0, 0, 0, 0, 0);
        }
    }
}

/// <summary>What an operator does with what lies in queues, as one of the clients.</summary>
internal sealed class Operator(Actor actor, Model model, Machine machine, Dice dice)
{
    private const int MostLooks = 60;
    private readonly Session _session = actor.Session;

    /// <summary>Begins a sweep, and now and then waits for its end.</summary>
    /// <param name="from">Which queue.</param>
    /// <param name="places">Where messages may go.</param>
    public void Sweep(string from, IReadOnlyList<string> places)
    {
        QueueInfo swept = _session.GetQueue(from);
        model.Name(swept.Id, from);
        bool isGraveyard = model.IsGraveyard(swept.Id);
        SweepAction action = dice.OnceIn(6) ? SweepAction.Delete : SweepAction.Move;
        string? to = isGraveyard && !dice.OnceIn(3) ? null : dice.Of([.. places.Where(place => place != from)]);
        string digit = $"{dice.Below(10)}";
        string filter = dice.OnceIn(2) ? $"header.n~{digit}" : "";
        SweepOptions options = new() { Action = action, To = action == SweepAction.Move ? to : null, Filter = filter, RateASecond = dice.Of(0, 0, 1000, 50) };
        bool mayDie = action == SweepAction.Move && to is not null && to.EndsWith(Names.DeadLetterOf(""), StringComparison.Ordinal);
        machine.Say($"{actor.Name} sweeps {from}: {action} to {to ?? "where they died"} {filter}, {options.RateASecond} a second");
        Touch();
        _session.StartSweep(from, options);
        Touch(); // What came till then is in its range.
        if (dice.OnceIn(2))
        {
            Await(from, swept.Id);
        }

        void Touch() => model.Places!.Touch(swept.Id, message => filter.Length == 0 || HeaderOf(message).Contains(digit, StringComparison.Ordinal), message => action == SweepAction.Delete || (mayDie && message.LifeNanoseconds > 0));
    }

    /// <summary>Waits for a sweep's end, or brings it about.</summary>
    public void EndSweep(string queue)
    {
        uint id = _session.GetQueue(queue).Id;
        model.Name(id, queue);
        if (dice.OnceIn(2))
        {
            machine.Say($"{actor.Name} cancels the sweep of {queue}: {_session.CancelSweep(queue)}");
            model.Places!.EndSweep(id);
            return;
        }

        Await(queue, id);
    }

    private SweepInfo Await(string queue, uint id)
    {
        int looks = 0;
        SweepInfo info = _session.WaitForSweep(queue, _ => ++looks < MostLooks);
        machine.Say($"the sweep of {queue} stands at {info}");
        if (info.State != SweepState.Running)
        {
            model.Places!.EndSweep(id);
        }

        return info;
    }

    /// <summary>Deletes one message, moves it, or changes when it is due.</summary>
    /// <param name="from">Which queue it is in.</param>
    /// <param name="places">Where it may go.</param>
    public void DoWithOne(string from, IReadOnlyList<string> places)
    {
        const int MostBrowsed = 40;
        uint queue = _session.GetQueue(from).Id;
        model.Name(queue, from);
        BrowsedMessage[] seen = [.. _session.Browse(from).Take(MostBrowsed).Where(one => model.TryFind(one.Body.Span, out _))];
        if (seen.Length == 0)
        {
            return;
        }

        BrowsedMessage browsed = seen[dice.Below(seen.Length)];
        _ = model.TryFind(browsed.Body.Span, out Sent? message);
        int reconnects = _session.Reconnects;
        Memory before = new(message!);
        try
        {
            switch (dice.Below(3))
            {
                case 0:
                    Delete(message!, from, browsed.Tag);
                    break;
                case 1:
                    Move(message!, from, queue, browsed, places);
                    break;
                default:
                    PutOff(message!, from, browsed.Tag);
                    break;
            }
        }
        catch (FastQException refused) when (refused.Code is RefusalCode.BadArgument or RefusalCode.Denied or RefusalCode.UnknownQueue or RefusalCode.LimitReached)
        {
            machine.Say($"{actor.Name} is told {refused.Name} of {message}");
            if (_session.Reconnects == reconnects)
            {
                before.Restore(message!); // Asked once, and refused: nothing has happened.
            }
        }
    }

    private void Delete(Sent message, string from, ulong tag)
    {
        bool mayBeGone = message.MayBeGone;
        message.MayBeGone = true; // From the moment that it is asked for.
        machine.Say($"{actor.Name} deletes {message} of {from}, place {tag}");
        _session.DeleteMessage(from, tag);
        Model.Confirm(message, ConfirmLevel.Written);
        (message.Gone, message.MayBeGone) = (ConfirmLevel.Written, mayBeGone);
    }

    private void Move(Sent message, string from, uint queue, BrowsedMessage browsed, IReadOnlyList<string> places)
    {
        string? to = browsed.Deaths.Count > 0 && model.IsGraveyard(queue) && !dice.OnceIn(3) ? null : dice.Of([.. places.Where(place => place != from)]);
        string target = to ?? browsed.Deaths[0].Queue;
        uint id = _session.GetQueue(target).Id;
        model.Name(id, target);
        machine.Say($"{actor.Name} moves {message} of {from}, place {browsed.Tag}, to {target}");
        (message.At, message.AtTag) = (0, 0);
        model.Places!.BeginSweep(queue);
        message.MayBeGone |= model.IsGraveyard(id) && message.LifeNanoseconds > 0;
        _session.StartSweep(from, new SweepOptions { To = to, Tag = browsed.Tag });
        if (Await(from, queue) is { State: SweepState.Finished, Done: 1 })
        {
            Model.Confirm(message, ConfirmLevel.Written);
            message.Claim = null; // It was with nobody.
            model.Places!.Move(message, id);
        }
    }

    private void PutOff(Sent message, string from, ulong tag)
    {
        long delay = dice.Of(0, 50, 3000, 40_000);
        (message.NotBeforeNanoseconds, message.ReleasedUntil, message.LastRelease, message.Claim) = (0, default, null, null);
        machine.Say($"{actor.Name} makes {message} of {from}, place {tag}, due in {delay} ms");
        long asked = machine.NowNanoseconds;
        int reconnects = _session.Reconnects;
        _session.ChangeMessage(from, tag, delay: TimeSpan.FromMilliseconds(delay));
        if (delay > 0 && _session.Reconnects == reconnects)
        {
            message.NotBeforeNanoseconds = asked + delay * 1_000_000;
        }
    }

    private static string HeaderOf(Sent message)
    {
        PropertyReader reader = new(message.Properties);
        while (reader.Next())
        {
            if (reader.Tag == PropertyTag.Header)
            {
                return System.Text.Encoding.UTF8.GetString(reader.Value);
            }
        }

        return "";
    }

    /// <summary>What was known of a message before something was tried with it.</summary>
    private readonly struct Memory(Sent message)
    {
        private readonly (uint, ulong) _at = (message.At, message.AtTag);
        private readonly (long, (long, ConfirmLevel), Settling?, Held?) _due = (message.NotBeforeNanoseconds, message.ReleasedUntil, message.LastRelease, message.Claim);
        private readonly bool _mayBeGone = message.MayBeGone;

        public void Restore(Sent to)
        {
            (to.At, to.AtTag) = _at;
            (to.NotBeforeNanoseconds, to.ReleasedUntil, to.LastRelease, to.Claim) = _due;
            to.MayBeGone = _mayBeGone;
        }
    }
}
