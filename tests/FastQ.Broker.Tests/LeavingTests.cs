using System.Text;
using FastQ.Engine;
using FastQ.Journal;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

// A client dies while the journal can take nothing. The disk is simulated and does nothing for a while; the broker is turned by hand.
[Collection(OneAtATime.Name)]
public sealed class LeavingTests : IDisposable
{
    private const int Messages = 200, BodyBytes = 1000;
    private readonly string _directory = Directory.CreateTempSubdirectory("fastq-test-").FullName;
    private readonly SimulatedStorage _disk = new("/sim");
    private readonly Broker _broker;
    private long _nanoseconds = 1_000_000_000;

    public LeavingTests()
    {
        BrokerOptions options = new()
        {
            DataDirectory = "/sim/data",
            SocketPath = Path.Combine(_directory, "s"),
            SlotBytes = 512 * 1024,
            BlockBytes = 16 * 1024,
            Clocks = new Clocks(() => _nanoseconds, () => 1_700_000_000_000_000_000 + _nanoseconds),
        };
        _broker = Broker.Open(options, _disk, null, "simulated", out string? refusal) ?? throw new InvalidOperationException(refusal);
    }

    public void Dispose()
    {
        _broker.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public void What_a_client_committed_before_it_died_waits_for_room_in_the_journal_and_all_of_it_is_taken_then()
    {
        string[] bodies = [.. Enumerable.Range(0, Messages).Select(i => $"{i}".PadRight(BodyBytes))];
        uint queue;
        using (RawClient dying = Connect())
        {
            queue = dying.Declare("q");
            _ = dying.Subscribe(queue, credit: 0);
            _disk.Pick = static _ => -1;
            Array.ForEach(bodies, body => dying.PutMessage(queue, Encoding.UTF8.GetBytes(body)));
            dying.Commit();
        }

        for (int i = 0; i < 1000; i++)
        {
            Turn();
        }

        Assert.InRange(View(queue).Ready, 1, Messages - 1);
        Assert.Equal(1, View(queue).Consumers); // Its end comes after what it committed.
        _disk.Pick = null;
        TurnUntil(() => View(queue).Consumers == 0, "the session ends");
        Assert.Equal((Messages, (ulong)Messages), (View(queue).Ready, View(queue).Published));

        using RawClient heir = Connect();
        _ = heir.Subscribe(queue);
        List<string> came = [];
        while (came.Count < Messages)
        {
            came.AddRange(heir.NextDeliveries().Select(delivery => delivery.Body));
        }

        Assert.Equal(bodies, came);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void What_a_client_wrote_into_larger_rings_before_it_died_on_the_way_there_is_taken(bool diskStands)
    {
        string[] bodies = [.. Enumerable.Range(0, Messages).Select(i => $"{i}".PadRight(BodyBytes))];
        uint queue;
        using (RawClient dying = Connect())
        {
            queue = dying.Declare("q");
            _ = dying.Subscribe(queue, credit: 0);
            RawRings next = dying.AskForGrowth(Limits.DefaultRingBytes * 4);
            next.Map();
            dying.SayMapped();
            _disk.Pick = diskStands ? static _ => -1 : null;
            dying.PutMessage(queue, Encoding.UTF8.GetBytes(bodies[0]));
            dying.Put(new ControlRecord { Kind = RecordKind.ClientMovesRing, Subject = next.Number });
            dying.Commit();
            dying.MoveSubmissions();
            Array.ForEach(bodies[1..], body => dying.PutMessage(queue, Encoding.UTF8.GetBytes(body)));
            dying.Commit();
        }

        for (int i = 0; diskStands && i < 1000; i++)
        {
            Turn();
        }

        _disk.Pick = null;
        TurnUntil(() => View(queue).Consumers == 0, "the session ends");
        Assert.Equal((Messages, (ulong)Messages), (View(queue).Ready, View(queue).Published));
    }

    [Theory]
    [InlineData("answers")]
    [InlineData("refusals")]
    public void What_a_client_never_read_keeps_nothing_that_it_committed_behind_it_from_being_taken(string unread)
    {
        uint queue;
        const int Unread = 7000; // More than its delivery ring holds.
        using (RawClient dying = Connect())
        {
            queue = dying.Declare("q");
            _ = dying.Subscribe(queue, credit: 0);
            for (int i = 0; i < Unread; i++)
            {
                if (unread == "refusals")
                {
                    dying.PutMessage(99, ""u8);
                }
                else
                {
                    dying.Put(new CommandRecord { Kind = RecordKind.Command, Command = CommandKind.Statistics, Number = dying.NextNumber++ });
                }

                if (i % 1000 == 999)
                {
                    dying.Commit();
                    Turn();
                    Turn();
                }
            }

            for (int i = 0; i < 5; i++)
            {
                dying.PutMessage(99, "to nobody"u8);
                dying.PutMessage(queue, "to be taken"u8);
            }

            dying.Commit();
            for (int i = 0; i < 1000; i++)
            {
                Turn();
            }

            Assert.Equal(0, View(queue).Ready); // Its ring is full of answers.
        }

        TurnUntil(() => View(queue).Consumers == 0, "the session ends");
        Assert.Equal((5L, 5ul), (View(queue).Ready, View(queue).Published));
    }

    private RawClient Connect() => RawClient.Connect(Path.Combine(_directory, "s"), new Hello(), Turn);

    private QueueView View(uint queue) => _broker.Engine.View(queue);

    private void Turn()
    {
        _nanoseconds += 100_000;
        _ = _broker.Turn();
    }

    private void TurnUntil(Func<bool> condition, string what)
    {
        const int MostTurns = 100_000;
        int turns = 0;
        while (!condition())
        {
            Assert.True(++turns < MostTurns, $"In vain: {what}.");
            Turn();
        }
    }
}
