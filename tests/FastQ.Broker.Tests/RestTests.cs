using FastQ.Journal;
using FastQ.Linux;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

// What a broker writes that has nothing to do (DESIGN-REVIEW R37). Turned by hand, on a simulated disk, by a clock that goes on only when it is told to.
public sealed class RestTests : IDisposable
{
    private const long Millisecond = 1_000_000;
    private readonly string _directory = Directory.CreateTempSubdirectory("fastq-test-").FullName;
    private readonly SimulatedStorage _disk = new("/sim");
    private readonly Broker _broker;
    private long _now = Millisecond;
    private int _blocks;
    private int _syncs;

    public RestTests()
    {
        BrokerOptions options = new() { DataDirectory = "/sim/data", SocketPath = Path.Combine(_directory, "s"), SlotBytes = 1 << 20, MaxMessageBytes = 64 * 1024, Clocks = new Clocks(() => _now, () => _now) };
        _broker = Broker.Open(options, _disk, null, "simulated", out string? refusal) ?? throw new InvalidOperationException(refusal);
        _disk.Stepped = step =>
        {
            bool isSlot = step.Path.EndsWith(".slot", StringComparison.Ordinal);
            _blocks += isSlot && step.Kind == StorageStepKind.Write && step.Offset > 0 ? 1 : 0; // At 0 lie headers, and the zeroes of a slot in the making.
            _syncs += isSlot && step.Kind == StorageStepKind.Sync ? 1 : 0;
        };
    }

    public void Dispose()
    {
        _broker.Dispose();
        _disk.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public void An_idle_broker_closes_its_journal_once_and_then_writes_nothing()
    {
        using RawClient? client = Serve(1);
        (_blocks, _syncs) = (0, 0);
        Pass(100);
        Assert.Equal((1, 1), (_blocks, _syncs));
        Pass(60_000);
        Assert.Equal((1, 1), (_blocks, _syncs));
    }

    [Fact]
    public void A_message_at_a_time_is_a_block_a_message()
    {
        const int Messages = 200;
        using RawClient? client = Serve(Messages);
        Assert.InRange(_blocks, Messages, Messages * 105 / 100);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Room_that_a_client_gave_back_before_the_broker_lay_down_is_used(bool wantsCopies)
    {
        const int Messages = 10_000; // More than the ring takes, as copies or by reference.
        using RawClient client = RawClient.Connect(_broker.SocketPath, new Hello { DeliveryRingBytes = Limits.MinRingBytes, WantsCopies = wantsCopies }, Turn);
        uint queue = client.Declare("q");
        for (int i = 0; i < Messages; i++)
        {
            client.PutMessage(queue, "x"u8);
            if (i % 100 == 99)
            {
                client.Commit();
                client.WaitForWritten(client.NextNumber - 1);
            }
        }

        client.Subscribe(queue, credit: Messages);
        Pass(100);
        ulong shown = client.Rings.DeliveryHead;
        Assert.True(client.Rings.Position < shown, "nothing waits in the ring");
        client.Drain(); // It was not told to ring yet.
        Assert.Equal(0, _broker.LieDown());
        _broker.Rise();
        Pass(10);
        Assert.True(client.Rings.DeliveryHead > shown, "Room is there, and the broker sleeps.");
    }

    [Fact]
    public void A_session_that_has_become_cold_is_rung_for_its_last_confirm()
    {
        const int TurnsUntilCold = 25_000;
        using RawClient client = RawClient.Connect(_broker.SocketPath, new Hello(), Turn);
        uint queue = client.Declare("q");
        Pass(1000); // All is durable, and the journal at rest.
        int mayDo = 0;
        _disk.Pick = _ => mayDo-- > 0 ? 0 : -1;
        client.PutMessage(queue, "x"u8, ConfirmLevel.Durable);
        client.Commit();
        for (int i = 0; i < TurnsUntilCold; i++)
        {
            _ = _broker.Turn();
        }

        Assert.True(client.Rings.SleepNumber % 2 == 1, "The session is polled still.");
        client.Rings.ShowSleepNumber(1);
        mayDo = 1; // The write.
        client.Wait(() => client.Rings.Written >= client.NextNumber - 1, "it is written");
        Assert.True(client.TakeRing(), "It is not rung for what is written.");
        Assert.True(client.Rings.Durable < client.NextNumber - 1, "It is durable already: this shows nothing.");
        client.Rings.ShowSleepNumber(3);
        _disk.Pick = null;
        client.Wait(() => client.Rings.Durable >= client.NextNumber - 1, "it is durable");
        Assert.True(client.TakeRing(), "It sleeps on, and all is done.");
    }

    [Fact]
    public void The_doorbell_of_a_session_that_has_ended_wakes_nobody()
    {
        using RawClient client = RawClient.Connect(_broker.SocketPath, new Hello(), Turn);
        client.Put(new ControlRecord { Kind = RecordKind.Nothing });
        client.Commit();
        Assert.Equal(RefusalCode.UnknownRecord, client.WaitForEnd().Code);
        Pass(100);
        while (_broker.TakeEvents(0))
        {
        }

        client.Ring(); // Its descriptor keeps the bell alive.
        Assert.False(_broker.TakeEvents(0), "It wakes for a session that is not there.");
    }

    /// <summary>A client sends so many messages, each when the one before is durable. No time passes.</summary>
    private RawClient? Serve(int messages)
    {
        RawClient? client = null;
        Exception? wrong = null;
        Thread thread = new(() =>
        {
            try
            {
                client = RawClient.Connect(_broker.SocketPath, new Hello());
                uint queue = client.Declare("q");
                _blocks = 0;
                for (int i = 0; i < messages; i++)
                {
                    client.PutMessage(queue, "x"u8, ConfirmLevel.Durable);
                    client.Commit();
                    client.Wait(() => client.Rings.Durable >= client.NextNumber - 1, "it is durable");
                }
            }
#pragma warning disable CA1031 // Whatever it was: the test's own thread tells it.
            catch (Exception any)
#pragma warning restore CA1031
            {
                wrong = any;
            }
        });
        thread.Start();
        while (thread.IsAlive)
        {
            Turn();
        }

        Assert.True(wrong is null, wrong?.ToString());
        return client;
    }

    private void Pass(int milliseconds)
    {
        for (int i = 0; i < milliseconds; i++)
        {
            _now += Millisecond;
            Turn();
        }
    }

    private void Turn()
    {
        _ = _broker.TakeEvents(0);
        if (!_broker.Turn())
        {
            Processor.Yield();
        }
    }
}
