using FastQ.Client;
using FastQ.Protocol;
using Xunit;

namespace FastQ.EndToEnd;

/// <summary>Transactions over kills of the real broker: each is there whole, or not at all.</summary>
public sealed class TransactionTests : IDisposable
{
    private const int Parts = 24;
    private static readonly TimeSpan s_long = TimeSpan.FromSeconds(20);
    private readonly TestBroker _broker = new();

    public void Dispose() => _broker.Dispose();

    [Fact]
    public void A_kill_at_any_moment_of_a_commit_leaves_all_of_it_or_nothing_and_the_resend_makes_it_all_once()
    {
        const int Rounds = 24;
        using Session session = Connect();
        string[] names = ["in", "a", "b"];
        Assert.All(names, name => session.DeclareQueue(name));
        QueueHandle[] queues = [.. names.Select(name => session.OpenQueue(name))];
        for (int round = 0; round < Rounds; round++)
        {
            session.Publish(queues[0], BitConverter.GetBytes(round));
        }

        session.Flush();
        Subscription subscription = session.Subscribe("in", new SubscribeOptions { Credit = 1, Lease = TimeSpan.FromHours(1) });
        int whole = 0, none = 0;
        byte[] body = new byte[20_000]; // All parts together are larger than a block.
        for (int round = 0; round < Rounds; round++)
        {
            Assert.True(subscription.Receive(s_long, out Delivery delivery));
            using SessionTransaction transaction = session.BeginTransaction();
            for (int part = 0; part < Parts; part++)
            {
                BitConverter.TryWriteBytes(body, round);
                BitConverter.TryWriteBytes(body.AsSpan(4), part);
                transaction.Publish(queues[1 + part % 2], body);
            }

            transaction.Accept(delivery);
            ulong number = transaction.Send();
            AwaitMoment(session, number, round);
            _broker.Kill();
            _broker.Start();
            int seen = PartsOf(round); // Its sender has not come back yet: nothing was sent again.
            Assert.True(seen is 0 or Parts, $"Round {round}: {seen} parts of {Parts}.");
            whole += seen == Parts ? 1 : 0;
            none += seen == 0 ? 1 : 0;
            session.WaitConfirmed(number, ConfirmLevel.Durable);
            Assert.Equal(Parts, PartsOf(round));
            Assert.Equal((ulong)round + 1, session.GetQueue("in").Accepted);
        }

        Assert.Equal(Rounds, whole + none);
        Assert.InRange(whole, Rounds / 3, Rounds); // Those that were written before the kill, at least.
    }

    // CASES B12: far larger than a block, killed as soon as the commit is answered.
    [Fact]
    public void A_large_transaction_that_was_answered_is_whole_after_a_kill_at_once()
    {
        const int Messages = 1000;
        using (Session session = Connect())
        {
            session.DeclareQueue("q");
            QueueHandle queue = session.OpenQueue("q");
            using SessionTransaction transaction = session.BeginTransaction();
            byte[] body = new byte[16_000];
            for (int i = 0; i < Messages; i++)
            {
                BitConverter.TryWriteBytes(body, i);
                transaction.Publish(queue, body);
            }

            transaction.Commit();
            _broker.Kill();
            _broker.Start();
        }

        using Session reader = Connect();
        Assert.Equal(Enumerable.Range(0, Messages), reader.Browse("q").Select(message => BitConverter.ToInt32(message.Body.Span)));
    }

    /// <summary>The kill comes at once, or when the broker has taken it, written it, or synced it.</summary>
    private static void AwaitMoment(Session session, ulong number, int round)
    {
        switch (round % 4)
        {
            case 1:
                session.WaitConfirmed(number, ConfirmLevel.Accepted);
                break;
            case 2:
                session.WaitConfirmed(number, ConfirmLevel.Written);
                break;
            case 3:
                session.WaitConfirmed(number, ConfirmLevel.Durable);
                break;
        }
    }

    private int PartsOf(int round)
    {
        using Session looker = Connect();
        return looker.Browse("a").Concat(looker.Browse("b")).Count(message => BitConverter.ToInt32(message.Body.Span) == round);
    }

    private Session Connect() => Session.Connect(new SessionOptions { Path = _broker.Socket, Patience = s_long });
}
