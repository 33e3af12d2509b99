using System.Diagnostics;
using System.Globalization;
using System.Runtime.Versioning;
using System.Text;
using FastQ.Client;
using FastQ.Journal;
using FastQ.Protocol;
using Xunit;

namespace FastQ.EndToEnd;

// Power loss on what the broker really wrote: every call of several lives is logged, done again up to some place, the power fails there, and the
// broker starts on what is left of the disk.
[SupportedOSPlatform("linux")]
public class PowerTests
{
    private const string Queue = "work";
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(20);

    [Fact]
    public void After_a_power_loss_at_any_sync_or_between_what_was_confirmed_is_there_and_what_was_accepted_is_not()
    {
        int images = Number("FASTQ_POWER_IMAGES", 80), seed = Number("FASTQ_POWER_SEED", 1);
        Random random = new(seed);
        using TestBroker broker = TestBroker.NotStarted();
        WriteLog log = new(broker.Directory);
        broker.StartUnder(log.NextLife());
        History history = new(log);
        using Session session = Connect(broker, TimeSpan.FromSeconds(30));
        session.DeclareQueue(Queue);
        Subscription subscription = session.Subscribe(Queue, new SubscribeOptions { Credit = 1, Lease = TimeSpan.FromHours(1) });
        history.Work(session, subscription, random);
        Assert.Equal(0, broker.Stop()); // Leaves a snapshot.
        broker.StartUnder(log.NextLife());
        history.Work(session, subscription, random);
        broker.Kill();
        broker.StartUnder(log.NextLife());
        history.Work(session, subscription, random);
        session.Dispose();
        Assert.Equal(0, broker.Stop());

        // All that there is to choose from: after each sync, and before each call that follows none.
        long[] syncs = [.. log.Read().Where(call => call.Kind == 's').Select(call => call.End)];
        long[] others = [.. log.Read().Where(call => call.Kind is not ('s' or '!')).Select(call => call.End)];
        HashSet<long> chosen = [.. Sample(syncs, images * 2 / 3, random), .. Sample(others, images / 3, random)];
        TestContext.Current.TestOutputHelper!.WriteLine($"seed {seed}: power lost at {chosen.Count} of {syncs.Length} syncs and {others.Length} other calls");

        ReplayedDisk replayed = new(broker.Directory);
        foreach (LoggedCall call in log.Read())
        {
            replayed.Do(call);
            if (chosen.Contains(call.End))
            {
                history.CheckAfterPowerLoss(replayed.Disk, broker.Directory, call.End, random.Next(), $"seed {seed}, after {call.Kind} at {call.End}");
            }
        }
    }

    [Theory]
    [InlineData("fdatasync:12:0000000001.slot")]
    [InlineData("fdatasync:25+:0000000001.slot")]
    [InlineData("pwrite:16:0000000001.slot")]
    [InlineData("pwrite:40+:0000000001.slot")]
    public void After_a_failed_call_nothing_is_confirmed_any_more_and_nothing_confirmed_is_lost_by_the_process_or_by_the_power(string fail)
    {
        Random random = new(7);
        using TestBroker broker = TestBroker.NotStarted();
        WriteLog log = new(broker.Directory);
        broker.StartUnder(log.NextLife(fail));
        History history = new(log);
        using Session idle = Connect(broker, TimeSpan.Zero);
        using Session session = Connect(broker, TimeSpan.Zero);
        session.DeclareQueue(Queue);
        Subscription subscription = session.Subscribe(Queue, new SubscribeOptions { Credit = 1, Lease = TimeSpan.FromHours(1) });
        FastQException told = Assert.Throws<FastQException>(() =>
        {
            for (int round = 0; round < 100; round++)
            {
                history.Work(session, subscription, random);
            }
        });
        Stopwatch since = Stopwatch.StartNew();
        (int exitCode, string error) = broker.AwaitEnd();
        Assert.Equal(1, exitCode);
        Assert.InRange(since.Elapsed, TimeSpan.Zero, TimeSpan.FromSeconds(5));
        Assert.Contains("EIO", error, StringComparison.Ordinal);
        Assert.Contains("storage-failed", told.Message, StringComparison.Ordinal);
        Assert.Contains("storage-failed", Assert.Throws<FastQException>(() => idle.GetQueue(Queue)).Message, StringComparison.Ordinal);
        Assert.NotEqual(0, history.ConfirmedCount);

        long end = log.Now();
        ReplayedDisk replayed = new(broker.Directory);
        foreach (LoggedCall call in log.Read())
        {
            replayed.Do(call);
        }

        for (int seed = 0; seed < 5; seed++)
        {
            history.CheckAfterPowerLoss(replayed.Disk, broker.Directory, end, seed, $"{fail}, seed {seed}");
        }

        broker.RestartPlain();
        history.Check(broker, end, fail);
    }

    [Theory]
    [InlineData("fdatasync:1:0000000002.slot")]
    [InlineData("fsync:1:0000000002.slot")]
    [InlineData("pwrite:3:0000000002.slot")]
    [InlineData("fsync:2:/slots")]
    public void A_failed_call_on_a_slot_in_the_making_costs_that_slot_alone_and_no_power_loss_after_it_anything(string fail)
    {
        Random random = new(11);
        using TestBroker broker = TestBroker.NotStarted();
        WriteLog log = new(broker.Directory);
        broker.StartUnder(log.NextLife(fail));
        History history = new(log);
        using (Session session = Connect(broker, TimeSpan.Zero))
        {
            session.DeclareQueue(Queue);
            Subscription subscription = session.Subscribe(Queue, new SubscribeOptions { Credit = 1, Lease = TimeSpan.FromHours(1) });
            for (int round = 0; round < 2 || !log.Read().Any(call => call.Kind == 'U' && call.Path.EndsWith("0000000002.slot", StringComparison.Ordinal)); round++)
            {
                Assert.True(round < 50, "The slot whose making failed is not given up");
                history.Work(session, subscription, random);
            }
        }

        Assert.Equal(0, broker.Stop());
        long end = log.Now();
        ReplayedDisk replayed = new(broker.Directory);
        foreach (LoggedCall call in log.Read())
        {
            replayed.Do(call);
        }

        history.CheckAfterPowerLoss(replayed.Disk, broker.Directory, end, 0, fail);
    }

    private static Session Connect(TestBroker broker, TimeSpan patience) => Session.Connect(new SessionOptions { Path = broker.Socket, Patience = patience });

    private static long[] Sample(long[] places, int count, Random random) => count >= places.Length ? places : random.GetItems(places, count);

    private static int Number(string variable, int otherwise) => Environment.GetEnvironmentVariable(variable) is string text ? int.Parse(text, CultureInfo.InvariantCulture) : otherwise;

    /// <summary>What one client sent, accepted and heard, with the places in the log between which it happened.</summary>
    private sealed class History(WriteLog log)
    {
        private readonly List<Fate> _sent = [];

        private sealed class Fate
        {
            public required string Body { get; init; }

            /// <summary>It was sent after this place, and its accept after the second.</summary>
            public long SentAfter { get; init; }

            public long AcceptedAfter { get; set; } = long.MaxValue;

            /// <summary>All that was needed for the confirm was done before this place.</summary>
            public long ConfirmedBefore { get; set; } = long.MaxValue;

            public long GoneBefore { get; set; } = long.MaxValue;
        }

        public int ConfirmedCount => _sent.Count(fate => fate.ConfirmedBefore != long.MaxValue);

        /// <summary>Lone messages, each confirmed as durable; accepts, likewise; then a burst that is confirmed as a whole.</summary>
        public void Work(Session session, Subscription subscription, Random random)
        {
            QueueHandle queue = session.OpenQueue(Queue);
            for (int i = 0; i < 12; i++)
            {
                Fate lone = Send(session, queue, random.Next(6000));
                session.Flush(timeout: s_patience);
                lone.ConfirmedBefore = log.Now();
                if (i % 3 == 2)
                {
                    AcceptOldest(session, subscription);
                }
            }

            Fate[] burst = [.. Enumerable.Range(0, 30).Select(_ => Send(session, queue, random.Next(40_000)))];
            session.Flush(timeout: s_patience);
            Array.ForEach(burst, fate => fate.ConfirmedBefore = log.Now());
        }

        /// <summary>The power fails now; a broker starts on a copy of what is left.</summary>
        public void CheckAfterPowerLoss(SimulatedStorage disk, string directory, long now, int seed, string what)
        {
            Random random = new(seed);
            int lost = random.Next(3) switch { 0 => 100, 1 => 50, _ => 5 }; // In a hundred; the first is the sharpest test of a confirm.
            SimulatedStorage image = disk.AfterPowerLoss(_ => random.Next(100) < lost ? Survival.Lost : random.Next(10) == 0 ? Survival.Torn : Survival.Kept);
            using TestBroker broker = TestBroker.NotStarted();
            ReplayedDisk.Materialize(image, directory, broker.Directory);
            if (File.Exists(Path.Combine(broker.Data, "FORMAT")))
            {
                Ran verified = Fastq.Run(null, "journal", "verify", broker.Data);
                Assert.True(verified.ExitCode == 0, $"{what}, dice {seed}: {verified.Output}{verified.Error}");
            }

            broker.Start();
            Check(broker, now, $"{what}, dice {seed}, {broker.ReadyLine}");
        }

        /// <summary>Everything that this broker has, against what may and must be there when the log ended at this place.</summary>
        public void Check(TestBroker broker, long now, string what)
        {
            using Session session = Connect(broker, TimeSpan.FromSeconds(30));
            QueueInfo? info = session.ListQueues().SingleOrDefault(queue => queue.Name == Queue);
            List<string> found = info is null ? [] : Take(session, info.Ready);
            Fate[] must = [.. _sent.Where(fate => fate.ConfirmedBefore <= now && fate.AcceptedAfter >= now)];
            Fate[] mayNot = [.. _sent.Where(fate => fate.GoneBefore <= now || fate.SentAfter >= now)];
            string[] missing = [.. must.Select(fate => fate.Body).Except(found)];

            // One may be in its consumer's hands still.
            Assert.True(missing.Length <= (info?.InFlight ?? 0), $"{what}: {missing.Length} of {must.Length} that were confirmed are gone, the first: {Name(missing.FirstOrDefault())}; {info}");
            Assert.True(!found.Intersect(mayNot.Select(fate => fate.Body)).Any(), $"{what}: came back, or from the future: {Name(found.Intersect(mayNot.Select(fate => fate.Body)).FirstOrDefault())}");
            string[] inOrder = [.. _sent.Select(fate => fate.Body).Where(new HashSet<string>(found).Contains)];
            Assert.True(inOrder.SequenceEqual(found), $"{what}: not as sent, each once: {string.Join(' ', found.Select(Name))}");
        }

        private static List<string> Take(Session session, long count)
        {
            List<string> found = [];
            Subscription subscription = session.Subscribe(Queue);
            while (found.Count < count)
            {
                Assert.True(subscription.Receive(TimeSpan.FromSeconds(20), out FastQ.Client.Delivery delivery), $"{count} are ready, {found.Count} came");
                found.Add(Encoding.UTF8.GetString(delivery.Body));
            }

            return found;
        }

        private Fate Send(Session session, QueueHandle queue, int length)
        {
            Fate fate = new() { Body = string.Create(CultureInfo.InvariantCulture, $"{_sent.Count}.{new string((char)('a' + (_sent.Count % 26)), length)}"), SentAfter = log.Now() };
            _sent.Add(fate);
            _ = session.Publish(queue, Encoding.UTF8.GetBytes(fate.Body));
            return fate;
        }

        private void AcceptOldest(Session session, Subscription subscription)
        {
            Assert.True(subscription.Receive(TimeSpan.FromSeconds(20), out FastQ.Client.Delivery delivery));
            string body = Encoding.UTF8.GetString(delivery.Body);
            Fate fate = _sent.Single(sent => sent.Body == body);
            fate.AcceptedAfter = log.Now();
            subscription.Accept(delivery, ConfirmLevel.Durable);
            session.Flush(timeout: s_patience);
            fate.GoneBefore = log.Now();
        }

        private static string Name(string? body) => body is null ? "none" : body[..Math.Min(10, body.Length)];
    }
}
