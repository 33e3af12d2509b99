using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using FastQ.Client;
using FastQ.Protocol;
using Xunit;

namespace FastQ.EndToEnd;

// Rounds of killing on one directory, which is kept from round to round.
//
//   this process     a producer and a consumer for each queue; their sessions ride out all restarts
//   processes        the broker; in most rounds 'fastq publish' to either queue and 'fastq consume' from the shared one
//
//   queue 'alone'    has one consumer: here each sender's messages must be seen first in the order sent
//   queue 'shared'   has two, and one of them may die
//
// A round: all of them work; what the seed chose is killed when the ledger has seen as much as the seed chose; the broker starts again, perhaps
// killed once more before it serves; everything must then be delivered and accepted, and the broker's counts must be the ledger's.

/// <summary>What a round does. The seed decides it all, but not what the machine makes of it.</summary>
internal sealed record KillPlan(int PerProducer, ConfirmLevel Level, bool HasPublisher, bool PublisherIsAlone, bool HasConsumer, bool NewSessions, IReadOnlyList<Death> Deaths)
{
    /// <summary>A consumer that dies beside the broker holds its messages until their leases end, five seconds after the start.</summary>
    public bool MustAwaitLeases => Deaths.Any(death => death.Consumer) && Deaths.Any(death => death.Broker);

    public static KillPlan Of(int seed, int round)
    {
        Random random = new(unchecked((seed * 1_000_003) + round));
        int perProducer = random.Next(50, 500);
        int kind = random.Next(100);
        bool broker = kind < 70, both = kind is >= 64 and < 67;
        bool publisher = kind is >= 50 and < 64 or >= 70 and < 86, consumer = both || kind >= 82;
        List<Death> deaths = [new Death(random.NextDouble(), broker, publisher, consumer, broker && random.Next(3) == 0 ? random.Next(1, 400_000) : 0, random.Next(2) == 0)];
        if (broker && random.Next(5) == 0)
        {
            deaths.Add(new Death(random.NextDouble(), true, false, false, 0, false));
        }

        return new KillPlan(perProducer, random.Next(2) == 0 ? ConfirmLevel.Written : ConfirmLevel.Durable, publisher || random.Next(2) == 0, random.Next(2) == 0, consumer || random.Next(2) == 0, random.Next(5) == 0,
            [.. deaths.OrderBy(death => death.At)]);
    }
}

/// <summary>Who dies together, and when.</summary>
/// <param name="At">Share of the round's progress.</param>
/// <param name="Broker">The broker.</param>
/// <param name="Publisher">The process that publishes.</param>
/// <param name="Consumer">The process that consumes.</param>
/// <param name="AgainAfter">The broker that starts after that is killed after so many turns of a loop; 0: not.</param>
/// <param name="AgainWhenReady">They are counted from when it serves, amid all that comes back; else from its start, amid its recovery.</param>
internal sealed record Death(double At, bool Broker, bool Publisher, bool Consumer, int AgainAfter, bool AgainWhenReady);

/// <summary>A run of rounds.</summary>
internal sealed class KillRounds : IDisposable
{
    private const string Alone = "alone", Shared = "shared";
    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(2);
    private readonly int _seed;
    private readonly Action<string> _say;
    private readonly TestBroker _broker = new();
    private readonly DeliveryLedger _ledger = new();
    private readonly Session _admin;
    private readonly Actor[] _actors;
    private int _round;

    public KillRounds(int seed, Action<string> say)
    {
        (_seed, _say) = (seed, say);
        _admin = Connect();
        QueueOptions immortal = new() { MaxDeliveries = 0, DeadLetter = "" }; // However often a round kills those who hold a message.
        _admin.DeclareQueue(Alone, immortal);
        _admin.DeclareQueue(Shared, immortal);
        _actors = [new Actor(this, Alone), new Actor(this, Shared)];
    }

    /// <summary>So often: the broker, publishers, consumers.</summary>
    public (int Broker, int Publisher, int Consumer) Killed { get; private set; }

    public long Messages => _ledger.ArrivedAt(Alone) + _ledger.ArrivedAt(Shared);

    public long Repeated => _ledger.Repeated;

    public void Run(int rounds)
    {
        for (_round = 1; _round <= rounds; _round++)
        {
            KillPlan plan = KillPlan.Of(_seed, _round);
            _ledger.Check(Start("round", () => Round(plan)).Join(s_patience), "The round does not end");
            if (_ledger.Violations is { Count: > 0 } violations)
            {
                _broker.IsKept = true;
                Assert.Fail($"seed {_seed}, round {_round}: {plan}\n{string.Join('\n', plan.Deaths)}\nkept: {_broker.Directory}\n{string.Join('\n', violations.Take(20))}\n{violations.Count} in all");
            }

            if (_round % 50 == 0)
            {
                _say($"round {_round}: {Killed.Broker} brokers, {Killed.Publisher} producers and {Killed.Consumer} consumers killed; {Messages} messages, {Repeated} delivered more than once");
            }
        }
    }

    public void Dispose()
    {
        if (!_broker.IsKept)
        {
            foreach (Actor actor in _actors)
            {
                actor.Dispose();
            }

            _admin.Dispose();
        }

        _broker.Dispose(); // After a failure all the rest may hang.
    }

    private Session Connect() => Session.Connect(new SessionOptions { Path = _broker.Socket });

    private void Round(KillPlan plan)
    {
        using PublisherProcess? publisher = plan.HasPublisher ? new PublisherProcess(this, plan.PublisherIsAlone ? Alone : Shared, plan) : null;
        using ConsumerProcess? consumer = plan.HasConsumer ? new ConsumerProcess(this, plan) : null;
        foreach (Actor actor in _actors)
        {
            actor.Begin(plan);
        }

        long start = _ledger.Progress;
        long expected = 2L * plan.PerProducer * (2 + (plan.HasPublisher ? 2 : 0)); // Each message is sent and seen.
        bool IsSent() => _actors.All(actor => actor.IsSent) && (publisher?.IsOver ?? true);
        foreach (Death death in plan.Deaths)
        {
            _ledger.AwaitProgress(start + (long)(death.At * expected), IsSent);
            Kill(death, publisher, consumer);
        }

        foreach (Actor actor in _actors)
        {
            actor.AwaitSent();
        }

        publisher?.AwaitEnd();
        AwaitEmpty(plan, consumer is { IsKilled: false } ? 1 : 0);
        consumer?.Stop();
        foreach (Actor actor in _actors)
        {
            actor.AwaitEnd();
        }

        _ledger.CloseAll();
        foreach (Actor actor in _actors)
        {
            CheckCounts(actor.Queue);
        }
    }

    private void Kill(Death death, PublisherProcess? publisher, ConsumerProcess? consumer)
    {
        if (death.Consumer)
        {
            consumer!.Kill();
        }

        if (death.Broker)
        {
            _broker.Kill();
        }

        if (death.Publisher)
        {
            publisher!.Kill();
        }

        Killed = (Killed.Broker + (death.Broker ? 1 : 0) + (death.AgainAfter > 0 ? 1 : 0), Killed.Publisher + (death.Publisher ? 1 : 0), Killed.Consumer + (death.Consumer ? 1 : 0));
        if (death.AgainAfter > 0)
        {
            _broker.Begin();
            if (death.AgainWhenReady)
            {
                _broker.AwaitReady();
            }

            Thread.SpinWait(death.AgainAfter);
            _broker.Kill();
        }

        if (death.Broker)
        {
            _broker.Start();
        }
    }

    /// <summary>The dead have been noticed, and nothing is left in either queue.</summary>
    private void AwaitEmpty(KillPlan plan, int consumerProcesses)
    {
        Await("the sessions of the dead are gone", () => JsonDocument.Parse(_admin.GetStatistics()).RootElement.GetProperty("sessions").GetInt32() == 1 + (2 * _actors.Length) + consumerProcesses);
        foreach (Actor actor in _actors)
        {
            Await($"{actor.Queue} is empty{(plan.MustAwaitLeases ? " (leases of a dead consumer)" : "")}", () => LookAt(actor.Queue).Messages == 0);
        }
    }

    /// <summary>A queue, whose counts must add up whenever one looks.</summary>
    private QueueInfo LookAt(string name)
    {
        QueueInfo queue = _admin.GetQueue(name);
        _ledger.Check(queue.Messages == queue.Ready + queue.InFlight + queue.Delayed + queue.Damaged + queue.DeadLettering, $"states do not add up: {queue}");
        _ledger.Check((long)(queue.Published - queue.Accepted - queue.DeadLettered - queue.Discarded - queue.Purged) == queue.Messages, $"counts do not add up: {queue}");
        _ledger.Check(queue.Damaged == 0 && queue.Rejected == 0, $"nothing was damaged, nothing rejected: {queue}");
        return queue;
    }

    private void CheckCounts(string name)
    {
        QueueInfo queue = LookAt(name);
        _ledger.Check(queue.Messages == 0 && (long)queue.Published == _ledger.ArrivedAt(name) && (long)queue.Accepted == _ledger.ArrivedAt(name), $"{_ledger.ArrivedAt(name)} arrived, and the broker has {queue}");
    }

    private void Await(string what, Func<bool> condition)
    {
        Stopwatch waited = Stopwatch.StartNew();
        while (!condition())
        {
            Assert.True(waited.Elapsed < TimeSpan.FromSeconds(60), $"Waited in vain until {what}: {LookAt(Alone)} {LookAt(Shared)}");
            _ledger.AwaitNews();
        }
    }

    /// <summary>A producer and a consumer of this process, on one queue. Their sessions last over rounds.</summary>
    private sealed class Actor(KillRounds run, string queue) : IDisposable
    {
        private Session _producer = run.Connect();
        private Session _consumer = run.Connect();
        private Subscription? _subscription;
        private Thread? _producing;
        private Thread? _consuming;
        private volatile bool _isSent;
        private volatile bool _isOver;

        public string Queue => queue;

        public bool IsSent => _isSent;

        public void Begin(KillPlan plan)
        {
            if (plan.NewSessions)
            {
                Dispose();
                (_producer, _consumer, _subscription) = (run.Connect(), run.Connect(), null);
            }

            (_isSent, _isOver) = (false, false);
            _subscription ??= _consumer.Subscribe(queue, new SubscribeOptions { Lease = TimeSpan.FromMinutes(10), Credit = 100 });
            Sender sender = run._ledger.Open(queue, isInOrder: queue == Alone);
            _producing = run.Start($"producer of {queue}", () => Produce(sender, plan));
            _consuming = run.Start($"consumer of {queue}", () => Consume(plan));
        }

        public void AwaitSent()
        {
            Assert.True(_producing!.Join(TimeSpan.FromSeconds(60)), $"The producer of {queue} does not end");
            _ = _producer.OpenQueue(queue); // If the broker died after its last message, it looks for the new one now.
        }

        public void AwaitEnd()
        {
            _isOver = true;
            Assert.True(_consuming!.Join(TimeSpan.FromSeconds(60)), $"The consumer of {queue} does not end");
        }

        public void Dispose()
        {
            _isOver = true;
            _consumer.Dispose();
            _producer.Dispose();
        }

        private void Produce(Sender sender, KillPlan plan)
        {
            const int Batch = 32;
            try
            {
                QueueHandle handle = _producer.OpenQueue(queue);
                for (int i = 1; i <= plan.PerProducer; i++)
                {
                    int number = run._ledger.Sending(sender);
                    _ = _producer.Publish(handle, Encoding.UTF8.GetBytes(DeliveryLedger.BodyOf(sender.Id, number)), plan.Level);
                    if (i % Batch == 0 || i == plan.PerProducer)
                    {
                        _producer.Flush(plan.Level);
                        run._ledger.Confirmed(sender, i);
                    }
                }
            }
            finally
            {
                _isSent = true;
            }
        }

        private void Consume(KillPlan plan)
        {
            const int Batch = 16, ReleaseOneOf = 20;
            List<(Sender, int)> accepted = [];
            int seen = 0;
            while (!_isOver)
            {
                if (_subscription!.Receive(TimeSpan.FromMilliseconds(20), out FastQ.Client.Delivery delivery))
                {
                    (Sender, int)? message = run._ledger.Saw(queue, delivery);
                    if (++seen % ReleaseOneOf == 0 && delivery.DeliveryCount == 1)
                    {
                        _subscription.Release(delivery, plan.Level);
                        continue;
                    }

                    _subscription.Accept(delivery, plan.Level);
                    if (message is not null)
                    {
                        accepted.Add(message.Value);
                    }

                    if (accepted.Count < Batch)
                    {
                        continue;
                    }
                }

                _consumer.Flush(plan.Level);
                run._ledger.Accepted(accepted);
                accepted.Clear();
            }
        }
    }

    private Thread Start(string name, Action work)
    {
        Thread thread = new(() =>
        {
            try
            {
                work();
            }
            catch (Exception fault) when (fault is not OutOfMemoryException)
            {
                _ledger.Check(false, $"{name}: {fault}");
            }
        })
        { IsBackground = true, Name = name };
        thread.Start();
        return thread;
    }

    /// <summary>'fastq publish' that is fed line by line: what it had read when it died may have arrived up to any line, without a gap.</summary>
    private sealed class PublisherProcess : IDisposable
    {
        private readonly KillRounds _run;
        private readonly Process _process;
        private readonly Sender _sender;
        private readonly Thread _feeding;
        private readonly int _count;
        private volatile bool _isKilled;

        public PublisherProcess(KillRounds run, string queue, KillPlan plan)
        {
            (_run, _count) = (run, 2 * plan.PerProducer);
            _sender = run._ledger.Open(queue, isInOrder: queue == Alone);
            _process = Fastq.Start("publish", queue, "-", "--confirm", plan.Level == ConfirmLevel.Durable ? "durable" : "written", "--json", "--socket", run._broker.Socket);
            _feeding = run.Start("feeder", Feed);
        }

        public bool IsOver => _isKilled || !_feeding.IsAlive;

        public void Kill()
        {
            _isKilled = true;
            _process.Kill();
            _process.WaitForExit();
            Assert.True(_feeding.Join(TimeSpan.FromSeconds(60)), "The feeder of a killed 'fastq publish' does not end");
        }

        public void AwaitEnd()
        {
            if (_isKilled)
            {
                return;
            }

            Assert.True(_feeding.Join(TimeSpan.FromSeconds(60)), $"'fastq publish' (process {_process.Id}) does not take its lines");
            Assert.True(_process.WaitForExit(60_000), $"'fastq publish' (process {_process.Id}) does not end");
            string output = _process.StandardOutput.ReadToEnd();
            _run._ledger.Check(_process.ExitCode == 0 && JsonDocument.Parse(output).RootElement.GetProperty("confirmed").GetInt32() == _count, $"fastq publish ended with {_process.ExitCode}: {output}");
            _run._ledger.Confirmed(_sender, _count);
        }

        public void Dispose()
        {
            if (!_process.HasExited)
            {
                Kill();
            }

            _process.Dispose();
        }

        private void Feed()
        {
            try
            {
                for (int i = 0; i < _count; i++)
                {
                    int number = _run._ledger.Sending(_sender);
                    _process.StandardInput.Write(DeliveryLedger.BodyOf(_sender.Id, number) + '\n');
                }

                _process.StandardInput.Close();
            }
            catch (IOException) when (_isKilled)
            {
                // It died with what it had read.
            }
        }
    }

    /// <summary>'fastq consume' from the shared queue. It settles what it has printed; of what it printed last, when it was killed, we cannot know.</summary>
    private sealed class ConsumerProcess : IDisposable
    {
        private readonly KillRounds _run;
        private readonly Process _process;
        private readonly Thread _reading;
        private readonly List<(Sender, int)> _printed = [];

        public ConsumerProcess(KillRounds run, KillPlan plan)
        {
            _run = run;
            // If the broker dies between giving it messages and the answer to its subscribing, it subscribes anew, and those come back by their lease.
            _process = Fastq.Start("consume", Shared, "--follow", "--credit", "100", "--lease", plan.MustAwaitLeases ? "1s" : "20s", "--socket", run._broker.Socket);
            _reading = run.Start("reader", Read);
        }

        public bool IsKilled { get; private set; }

        public void Kill()
        {
            IsKilled = true;
            _process.Kill();
            _process.WaitForExit();
            Assert.True(_reading.Join(TimeSpan.FromSeconds(60)), "The reader of a killed 'fastq consume' does not end");
        }

        public void Stop()
        {
            if (IsKilled)
            {
                return;
            }

            using Process kill = Process.Start("kill", ["-TERM", _process.Id.ToString(CultureInfo.InvariantCulture)]);
            kill.WaitForExit();
            Assert.True(_process.WaitForExit(60_000) && _reading.Join(TimeSpan.FromSeconds(60)), $"'fastq consume' (process {_process.Id}) does not stop");
            _run._ledger.Check(_process.ExitCode == 0, $"fastq consume ended with {_process.ExitCode}: {_process.StandardError.ReadToEnd()}");
            _run._ledger.Accepted(_printed);
        }

        public void Dispose()
        {
            if (!_process.HasExited)
            {
                Kill();
            }

            _process.Dispose();
        }

        private void Read()
        {
            string output = "";
            char[] buffer = new char[1 << 16];
            for (int read; (read = _process.StandardOutput.Read(buffer)) > 0;)
            {
                output += new string(buffer, 0, read);
                int start = 0;
                for (int end; (end = output.IndexOf('\n', start)) >= 0; start = end + 1)
                {
                    if (_run._ledger.SawPrinted(Shared, output[start..end]) is (Sender, int) message)
                    {
                        _printed.Add(message);
                    }
                }

                output = output[start..]; // A line that was cut off by its death was not settled.
            }
        }
    }
}
