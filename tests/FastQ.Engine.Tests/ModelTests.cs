using FastQ.Protocol;
using FsCheck;
using FsCheck.Fluent;
using Xunit;
using Outcome = FastQ.Protocol.Outcome;

namespace FastQ.Engine.Tests;

/// <summary>Any sequence of commands: the engine does what the model does, and its records alone give its state.</summary>
public sealed class ModelTests
{
    /// <summary>One command: its bits choose what is done, to whom, and how much.</summary>
    internal readonly record struct Step(int Bits)
    {
        public int Kind => Bits & 31;

        public int A => (Bits >> 5) & 7;

        public int B => (Bits >> 8) & 15;

        public int C => (Bits >> 12) & 63;
    }

    private static Arbitrary<Step[]> Sequences(int length) =>
        Arb.From(
            Gen.Choose(0, (1 << 18) - 1).Select(bits => new Step(bits)).ArrayOf(length),
            Shorter);

    private static IEnumerable<Step[]> Shorter(Step[] steps)
    {
        for (int part = steps.Length / 2; part > 0; part /= 2)
        {
            for (int at = 0; at + part <= steps.Length; at += part)
            {
                yield return [.. steps[..at], .. steps[(at + part)..]];
            }
        }
    }

    [Fact]
    public void Engine_and_model_agree_after_any_commands_and_replay_from_the_start_or_from_a_snapshot_gives_the_same_state()
    {
        Prop.ForAll(Sequences(80), steps => Story.Run(steps, checkEach: true))
            .Check(Config.QuickThrowOnFailure.WithMaxTest(60).WithReplay(7919, 104729));
    }

    [Fact]
    public void Long_histories_with_restarts_from_snapshots_and_from_records_agree_with_the_model()
    {
        Prop.ForAll(Sequences(900), steps => Story.Run(steps, checkEach: false))
            .Check(Config.QuickThrowOnFailure.WithMaxTest(25).WithReplay(15485863, 32452843));
    }

    /// <summary>Runs the steps on an engine and on the model beside it.</summary>
    private sealed class Story : IDisposable
    {
        private readonly World _world = new();
        private readonly Model _model = new();
        private readonly List<ulong> _producers = [];
        private int _names;
        private QueueEngine? _fromSnapshot;
        private int _inSnapshot;

        public static void Run(Step[] steps, bool checkEach)
        {
            using Story story = new();
            story.RunAll(steps, checkEach);
        }

        public void Dispose()
        {
            _world.Dispose();
            _fromSnapshot?.Dispose();
        }

        private void RunAll(Step[] steps, bool checkEach)
        {
            int half = steps.Length / 2;
            for (int i = 0; i < 2; i++)
            {
                Declare();
                _producers.Add(_world.Open(instance: (ulong)i + 1));
                _model.LastNumbers.Add(_producers[i], 0);
            }

            for (int i = 0; i < steps.Length; i++)
            {
                Do(steps[i]);
                _world.PushOut();
                _model.PushOut();
                _model.Compare(_world.Engine);
                if (checkEach)
                {
                    _world.Check();
                }

                if (i == half)
                {
                    _fromSnapshot = new QueueEngine(new EngineLimits());
                    Assert.True(_fromSnapshot.TryLoad(new MemoryStream(_world.Saved())));
                    _inSnapshot = _world.Log.Count;
                }
            }

            _world.Check(); // By the records alone.
            CheckFromSnapshot();
        }

        /// <summary>A snapshot from halfway and the records after it give the same state.</summary>
        private void CheckFromSnapshot()
        {
            foreach (Logged logged in _world.Log.Skip(_inSnapshot))
            {
                Assert.Equal(ApplyVerdict.Applied, World.Apply(_fromSnapshot!, logged));
            }

            _fromSnapshot!.CheckConservation();
            Assert.Equal(World.DumpOf(_world.Engine), World.DumpOf(_fromSnapshot));
        }

        private void Declare()
        {
            int name = _names++ % 5;
            QueueAttributes attributes = AttributesOf(name) with { LeaseMilliseconds = 1000 };
            uint queue = _world.Declare($"q{name}", attributes);
            _model.Queues.TryAdd(queue, new ModelQueue(attributes.For($"q{name}")));
        }

        private static QueueAttributes AttributesOf(int name) => name switch
        {
            0 => QueueAttributes.Default with { MaxDeliveries = 3, MaxBytes = 400, Overflow = Overflow.DeadLetter },
            1 => QueueAttributes.Default with { DeadLetter = "", MaxLength = 20 },
            2 => QueueAttributes.Default with { TtlMilliseconds = 1500, DeadLetter = "letters" },
            3 => QueueAttributes.Default with { DelayMilliseconds = 700, MaxDeliveries = 2, BackoffFirstMilliseconds = 200, BackoffMostMilliseconds = 1000, DeadLetter = "" },
            _ => QueueAttributes.Default with { MaxDeliveries = 1, MaxLength = 12, Overflow = Overflow.DropHead },
        };

        private void Do(Step step)
        {
            ulong producer = _producers[step.A % _producers.Count];
            uint queue = _model.Queues.Keys.ElementAtOrDefault(step.B % Math.Max(1, _model.Queues.Count));
            uint subscription = _model.Subscriptions.Keys.ElementAtOrDefault(step.B % Math.Max(1, _model.Subscriptions.Count));
            switch (step.Kind)
            {
                case <= 7 when queue != 0:
                    Publish(producer, queue, step);
                    break;
                case <= 12:
                    Dispatch(1 + step.C);
                    break;
                case <= 18 when subscription != 0:
                    Settle(subscription, step);
                    break;
                case 19 when subscription != 0 && _model.Subscriptions[subscription].IsAttached:
                    Extend(subscription, step);
                    break;
                case 20 or 21:
                    Advance(step.C * 40);
                    break;
                case 22 when queue != 0:
                    ulong before = _model.Queues[queue].Purged, purged = _world.Purge(queue);
                    _model.Purge(queue);
                    Assert.Equal(before + purged, _model.Queues[queue].Purged);
                    break;
                case 23 when queue != 0 && step.C < 12:
                    Delete(queue);
                    break;
                case 24 when step.A > 3 && queue != 0:
                    PauseOrChange(queue, step);
                    break;
                case 24:
                    Declare();
                    break;
                case 25 or 26 when queue != 0 && _model.Subscriptions.Count < 6:
                    Subscribe(queue, producer, step);
                    break;
                case 27 when subscription != 0:
                    EndOrDetach(subscription, step);
                    break;
                case 28 when subscription != 0:
                    ResumeOne(subscription, step);
                    break;
                case 29 when queue != 0:
                    DamageOrMove(queue, step);
                    break;
                case 30 when step.A > 3:
                    Bury(step.B);
                    break;
                case 30:
                    // A few slices only: what a purge or deletion has not reached yet must not show.
                    _world.Advance(0, mostRecords: step.A % 3);
                    DropEnded();
                    break;
                case 31 when step.C < 16:
                    Restart(step);
                    break;
                default:
                    break;
            }
        }

        private void Publish(ulong producer, uint queue, Step step)
        {
            for (int i = 0; i <= step.C / 8; i++)
            {
                // In the queue's way, with a delay of its own (which may be none), or at a moment (which may have passed).
                byte[] properties = step.A switch
                {
                    5 => World.Property(PropertyTag.Delay, step.B * 100),
                    6 => World.Property(PropertyTag.DeliverAt, _world.WallMicros + (step.B - 4) * 200_000),
                    7 => World.Property(PropertyTag.Ttl, 1 + step.B * 150),
                    _ => [],
                };
                long waits = step.A switch { 5 => step.B * 100_000, 6 => (step.B - 4) * 200_000, _ => _world.Engine.View(queue).Attributes.DelayMilliseconds * 1000 };
                bool isFull = _model.Queues[queue].Attributes.Overflow == Overflow.Reject && Model.Exceeds(_model.Queues[queue], 1, step.C + properties.Length);
                bool isPaused = _model.Queues[queue].Paused.HasFlag(PausedWays.In);
                Assert.Equal(isPaused ? RefusalCode.Paused : isFull ? RefusalCode.LimitReached : RefusalCode.None, _world.Publish(producer, queue, step.C, properties: properties).Code);
                if (isFull || isPaused)
                {
                    _model.LastNumbers[producer]++;
                    continue;
                }

                _model.Publish(queue, step.C + properties.Length, _world.IntervalMicros, waits > 0 ? _world.IntervalMicros + waits : 0, step.A == 7 ? 1 + step.B * 150 : 0);
                _model.LastNumbers[producer]++;
            }

            if (step.B == 0)
            {
                Assert.Equal(DecisionKind.Duplicate, _world.Publish(producer, queue, 1, number: _model.LastNumbers[producer]).Kind);
                Assert.Equal(DecisionKind.OutOfOrder, _world.Publish(producer, queue, 1, number: _model.LastNumbers[producer] + 2).Kind);
                Assert.Equal(RefusalCode.UnknownQueue, _world.Publish(producer, 1_000_000).Code);
                _model.LastNumbers[producer]++;
            }
        }

        private void Dispatch(int most)
        {
            foreach (Delivered delivered in _world.DispatchAll(most))
            {
                _model.Deliver(delivered, _world.IntervalMicros);
            }

            foreach ((uint id, ModelQueue queue) in _model.Queues.Where(pair => !pair.Value.Paused.HasFlag(PausedWays.Out)))
            {
                int[] takers = [.. _model.Subscriptions.Where(pair => pair.Value.Queue == id && Takes(pair.Key, queue)).Select(pair => _model.HeldBy(pair.Key).Count())];
                bool hasLast = queue.Ready.Any(queue.IsLast), hasPlain = queue.Ready.Any(message => !queue.IsLast(message));
                Assert.False(hasLast && takers.Contains(0), "a message at its last delivery waits for nothing");
                Assert.False(hasPlain && takers.Length > (hasLast ? 1 : 0), "somebody waits for nothing");
            }
        }

        /// <summary>Has it credit, and does it hold no message at its last delivery?</summary>
        private bool Takes(uint subscription, ModelQueue queue)
        {
            ModelMessage[] held = [.. _model.HeldBy(subscription)];
            return held.Length < _model.Subscriptions[subscription].Credit && !held.Any(message => queue.Attributes.MaxDeliveries > 0 && message.Deliveries >= queue.Attributes.MaxDeliveries);
        }

        /// <summary>What is said of names in <see cref="Declare"/> must stay so: what is changed here goes back at the next change.</summary>
        private void PauseOrChange(uint queue, Step step)
        {
            ModelQueue model = _model.Queues[queue];
            if (step.A < 7)
            {
                model.Paused = step.A == 6 ? PausedWays.None : (PausedWays)(step.C & 3);
                Assert.True(_world.Pause(queue, model.Paused).IsTaken);
                return;
            }

            // Lower and higher again. Whoever holds a message at what is its last delivery now is as it was.
            QueueAttributes before = model.Attributes;
            if (!model.Messages.Any(message => message.State == ModelState.InFlight))
            {
                Assert.True(_world.Change(queue, before with { MaxDeliveries = 1 + step.C % 3, TtlMilliseconds = 77 }).IsTaken);
                Assert.True(_world.Change(queue, before).IsTaken);
            }
        }

        private void Bury(int most)
        {
            foreach ((DyingMessage message, uint target, ulong tag, int bytes) in _world.Bury(most))
            {
                _model.Queues.TryAdd(target, new ModelQueue(QueueAttributes.OfDeadLetters.For("")));
                _model.Bury(message, target, tag, bytes, _world.IntervalMicros);
            }
        }

        private void Settle(uint subscription, Step step)
        {
            ModelSubscription who = _model.Subscriptions[subscription];
            if (who.NextDelivery == 1)
            {
                return;
            }

            ulong first = Math.Max(1, who.NextDelivery - Math.Min(who.NextDelivery, (ulong)step.C));
            first = Math.Min(first, who.NextDelivery - 1);
            uint count = (uint)Math.Min((ulong)(1 + step.A * step.B), who.NextDelivery - first);
            Outcome outcome = (step.C % 4) switch { 0 => Outcome.Release, 1 => Outcome.Reject, _ => Outcome.Accept };
            (long delay, bool isCounted) = outcome == Outcome.Release && step.B % 2 == 1 ? (step.B * 60, step.A % 2 == 0) : (0, true);
            Decision decision = outcome == Outcome.Release ? _world.Release(who.Producer, subscription, first, count, delay, isCounted) : _world.Settle(who.Producer, subscription, first, count, outcome);
            Assert.True(decision.IsTaken);
            _model.LastNumbers[who.Producer]++;
            List<ulong> late = _model.Settle(subscription, first, count, outcome, _world.IntervalMicros, delay > 0 ? _world.IntervalMicros + delay * 1000 : 0, isCounted);
            Assert.Equal(late, Expand(_world.Engine.LateRanges));
        }

        private static List<ulong> Expand(ReadOnlySpan<LateRange> ranges)
        {
            List<ulong> all = [];
            foreach (LateRange range in ranges)
            {
                for (ulong i = 0; i < range.Count; i++)
                {
                    all.Add(range.First + i);
                }
            }

            return all;
        }

        private void Extend(uint subscription, Step step)
        {
            ModelSubscription who = _model.Subscriptions[subscription];
            if (who.NextDelivery == 1)
            {
                return;
            }

            ulong first = 1 + (ulong)step.C % (who.NextDelivery - 1);
            uint count = (uint)(who.NextDelivery - first);
            Assert.True(_world.Extend(who.Producer, subscription, first, count, 3000).IsTaken);
            _model.LastNumbers[who.Producer]++;
            foreach (ModelMessage message in _model.HeldBy(subscription).Where(message => message.Delivery >= first))
            {
                message.LeaseEndMicros = _world.IntervalMicros + 3_000_000;
            }
        }

        private void Advance(long milliseconds)
        {
            _world.Advance(milliseconds);
            uint[] before = [.. _model.Subscriptions.Keys];
            _model.Expire(_world.IntervalMicros);
            _model.EndDelays(_world.IntervalMicros);
            _model.EndLeases(_world.IntervalMicros);
            Assert.All(before, id => Assert.Equal(_model.Subscriptions.ContainsKey(id), _world.Engine.IsSubscription(id)));
        }

        /// <summary>Only subscriptions that nobody speaks for, and that hold nothing, end by themselves.</summary>
        private void DropEnded()
        {
            foreach (uint id in _model.Subscriptions.Keys.Where(id => !_world.Engine.IsSubscription(id)).ToArray())
            {
                Assert.False(_model.Subscriptions[id].IsAttached || _model.HeldBy(id).Any());
                _model.Subscriptions.Remove(id);
            }
        }

        private void Delete(uint queue)
        {
            _world.Delete(queue);
            _model.Queues.Remove(queue);
            foreach (uint id in _model.Subscriptions.Where(pair => pair.Value.Queue == queue).Select(pair => pair.Key).ToArray())
            {
                _model.Subscriptions.Remove(id);
                Assert.False(_world.Engine.IsSubscription(id));
            }
        }

        private void Subscribe(uint queue, ulong producer, Step step)
        {
            uint credit = (uint)(1 + step.C);
            uint id = _world.Subscribe(queue, producer, credit, leaseMilliseconds: 500 + step.C * 10);
            _model.Subscriptions.Add(id, new ModelSubscription { Queue = queue, Producer = producer, Credit = credit, LeaseMicros = (500 + step.C * 10) * 1000 });
        }

        private void EndOrDetach(uint subscription, Step step)
        {
            ModelSubscription who = _model.Subscriptions[subscription];
            ulong notTaken = who.NextDelivery - Math.Min(who.NextDelivery, (ulong)step.C);
            if (step.A < 5)
            {
                _world.Unsubscribe(subscription, who.Producer, notTaken);
                _model.GiveBack(subscription, notTaken, onlyNotTaken: false, _world.IntervalMicros);
                _model.Subscriptions.Remove(subscription);
                return;
            }

            _world.Detach(subscription, notTaken);
            _model.GiveBack(subscription, notTaken, onlyNotTaken: true, _world.IntervalMicros);
            (who.IsAttached, who.Credit) = (false, 0);
        }

        private void ResumeOne(uint subscription, Step step)
        {
            ModelSubscription who = _model.Subscriptions[subscription];
            ulong notTaken = who.NextDelivery - Math.Min(who.NextDelivery, (ulong)step.C);
            Assert.True(_world.Resume(subscription, who.Producer, notTaken).IsTaken);
            _world.Engine.SetCredit(subscription, 20, ulong.MaxValue);
            _model.GiveBack(subscription, notTaken, onlyNotTaken: true, _world.IntervalMicros);
            (who.IsAttached, who.Credit) = (true, 20);
        }

        private void DamageOrMove(uint queue, Step step)
        {
            if (_model.Queues[queue].Messages.ElementAtOrDefault(step.C) is not ModelMessage message)
            {
                return;
            }

            if (step.A == 0)
            {
                Assert.Equal(message.State is ModelState.Ready or ModelState.Dying, _world.MarkDamaged(queue, message.Tag));
                if (message.State is ModelState.Ready or ModelState.Dying)
                {
                    _ = message.State == ModelState.Dying ? _model.Queues[queue].Deaths[message.Reason]-- : 0;
                    message.State = ModelState.Damaged;
                }

                return;
            }

            Place place = _world.Move(queue, message.Tag, message.BodyBytes);
            Assert.True(_world.Engine.IsLiveAt(queue, message.Tag, place, out bool isInFlight));
            Assert.Equal(message.State == ModelState.InFlight, isInFlight);
        }

        private void Restart(Step step)
        {
            _world.Restart(fromSnapshot: step.A % 2 == 0);
            foreach (ModelSubscription subscription in _model.Subscriptions.Values)
            {
                (subscription.IsAttached, subscription.Credit) = (false, 0);
            }

            foreach ((uint id, ModelSubscription who) in _model.Subscriptions)
            {
                if ((id + (uint)step.B) % 3 != 0)
                {
                    Assert.True(_world.Resume(id, who.Producer, who.NextDelivery).IsTaken);
                    _world.Engine.SetCredit(id, 20, ulong.MaxValue);
                    (who.IsAttached, who.Credit) = (true, 20);
                }
            }
        }
    }
}
