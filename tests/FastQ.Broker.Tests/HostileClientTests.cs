using System.Diagnostics;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

// A hostile client harms nobody but itself. Each test does one thing that no client may do, and then asks the broker to serve somebody else
// and to hold nothing of what it gave. Parts: the handshake here; Rings, Files, Commands in their files.

/// <summary>Descriptors are counted over the whole process, so nothing of this collection runs beside anything else of it.</summary>
[Collection(OneAtATime.Name)]
public sealed partial class HostileClientTests : IClassFixture<RunningBroker>
{
    private readonly RunningBroker _broker;
    private readonly Holdings _before;

    public HostileClientTests(RunningBroker broker)
    {
        _broker = broker; // One for all tests: it has to live through the whole of it.
        Holdings unused = broker.Unused;
        using (RawClient first = _broker.Connect())
        {
            first.MustDeliver("first"); // Makes what the broker keeps for good.
            first.SayBye();
        }

        // A session's socket is the last that is closed.
        _broker.WaitUntil(() => RunningBroker.Held() is var now && now.Sockets <= unused.Sockets && now.RingMappings == 0, "the first session is gone");
        _before = RunningBroker.Held();
    }

    private void MustHaveHarmedNobody() => _broker.MustServeAndHoldNoMoreThan(_before);

    // ---- the handshake

    public static TheoryData<string, byte[], RefusalCode> WrongFirstWords => new()
    {
        { "another magic", Message(HandshakeKind.Hello, magic: 0x12345678), RefusalCode.BadArgument },
        { "shorter than a header", [1, 2, 3], RefusalCode.BadArgument },
        { "garbage", Garbage(200), RefusalCode.BadArgument },
        { "longer than a message may be", new byte[Limits.MaxHandshakeBytes + 1], RefusalCode.BadArgument },
        { "kind none", Message(HandshakeKind.None), RefusalCode.BadArgument },
        { "a kind that is not known", Message((HandshakeKind)999), RefusalCode.BadArgument },
        { "a message that only a broker sends", Message(HandshakeKind.Welcome), RefusalCode.BadArgument },
        { "Mapped without Hello", Message(HandshakeKind.Mapped), RefusalCode.BadArgument },
        { "Hello without versions", Message(HandshakeKind.Hello), RefusalCode.VersionMismatch },
        { "fields that are cut short", Message(HandshakeKind.Hello, 64, 0, 8, 0, 1), RefusalCode.VersionMismatch },
    };

    [Theory]
    [MemberData(nameof(WrongFirstWords))]
    public void A_first_word_that_is_wrong_is_refused_by_its_name(string what, byte[] message, RefusalCode code)
    {
        using (RawClient hostile = RawClient.Dial(_broker.Socket))
        {
            hostile.Socket.Send(message).OrThrow();
            Assert.True(code == hostile.WaitForEnd().Code, what);
        }

        MustHaveHarmedNobody();
    }

    [Theory]
    [InlineData(2, 9)]
    [InlineData(ulong.MaxValue, ulong.MaxValue)]
    [InlineData(0, 0)]
    public void A_version_that_is_not_shared_is_refused_and_both_are_named(ulong min, ulong max)
    {
        using RawClient hostile = RawClient.Dial(_broker.Socket);
        hostile.SayHello(new Hello { MinVersion = min, MaxVersion = max });
        Ending ending = hostile.WaitForEnd();
        Assert.Equal(RefusalCode.VersionMismatch, ending.Code);
        Assert.Contains($"{min} to {max}", ending.Text, StringComparison.Ordinal);
        Assert.Contains($"this broker {ProtocolVersion.Major}", ending.Text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1, 0)]
    [InlineData(0, 3)]
    [InlineData(Limits.MinRingBytes / 2, 0)]
    [InlineData(Limits.MaxRingBytes * 2ul, 0)]
    [InlineData(0, 1ul << 32)]
    [InlineData(0, (1ul << 32) + Limits.MinRingBytes)]
    [InlineData(Limits.MinRingBytes + 4096, 0)]
    [InlineData(ulong.MaxValue, ulong.MaxValue)]
    public void Absurd_ring_sizes_are_refused_with_the_sizes_that_are_not(ulong submission, ulong delivery)
    {
        using (RawClient hostile = RawClient.Dial(_broker.Socket))
        {
            hostile.SayHello(new Hello { SubmissionRingBytes = submission, DeliveryRingBytes = delivery });
            Ending ending = hostile.WaitForEnd();
            Assert.Equal(RefusalCode.BadArgument, ending.Code);
            Assert.Contains($"{Limits.MinRingBytes} to {Limits.MaxRingBytes}", ending.Text, StringComparison.Ordinal);
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void A_namespace_or_producer_that_is_not_there_is_refused()
    {
        using RawClient elsewhere = RawClient.Dial(_broker.Socket);
        elsewhere.SayHello(new Hello { Namespace = "elsewhere" });
        Assert.Equal(RefusalCode.UnknownNamespace, elsewhere.WaitForEnd().Code);
        using RawClient unknown = RawClient.Dial(_broker.Socket);
        unknown.SayHello(new Hello { Producer = 1 << 20 });
        Assert.Equal(RefusalCode.UnknownProducer, unknown.WaitForEnd().Code);
    }

    [Fact]
    public void A_producer_of_another_client_is_not_given_away()
    {
        using RawClient owner = _broker.Connect(new Hello { Instance = 1 });
        using RawClient thief = RawClient.Dial(_broker.Socket);
        thief.SayHello(new Hello { Producer = owner.Producer, Instance = 2 });
        Assert.Equal(RefusalCode.Fenced, thief.WaitForEnd().Code);
        owner.MustDeliver("still mine");
    }

    [Fact]
    public void Two_handshakes_for_one_producer_make_one_session()
    {
        ulong producer;
        using (RawClient earlier = _broker.Connect())
        {
            producer = earlier.Producer;
        }

        using (RawClient first = RawClient.Dial(_broker.Socket))
        using (RawClient second = RawClient.Dial(_broker.Socket))
        {
            first.SayHello(new Hello { Producer = producer });
            first.TakeWelcome();
            second.SayHello(new Hello { Producer = producer });
            second.TakeWelcome();
            first.Rings.Map();
            first.SayMapped();
            second.Rings.Map();
            second.SayMapped();
            Assert.Equal(RefusalCode.Fenced, first.WaitForEnd().Code);
            second.MustDeliver("the newer one");
        }

        MustHaveHarmedNobody();
    }

    [Theory]
    [InlineData(HandshakeKind.Hello)]
    [InlineData(HandshakeKind.Refused)]
    [InlineData(HandshakeKind.None)]
    public void What_comes_out_of_turn_after_Hello_is_refused(HandshakeKind second)
    {
        using (RawClient hostile = RawClient.Dial(_broker.Socket))
        {
            hostile.SayHello(new Hello());
            hostile.TakeWelcome();
            hostile.Say(second);
            Assert.Equal(RefusalCode.BadArgument, hostile.WaitForEnd().Code);
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void Mapped_without_a_control_page_is_refused()
    {
        using (RawClient hostile = RawClient.Dial(_broker.Socket))
        {
            hostile.SayHello(new Hello());
            hostile.TakeWelcome();
            hostile.SayMapped();
            Assert.Equal(RefusalCode.RingViolation, hostile.WaitForEnd().Code);
        }

        MustHaveHarmedNobody();
    }

    [Theory]
    [InlineData(HandshakeKind.Mapped)]
    [InlineData(HandshakeKind.Hello)]
    [InlineData(HandshakeKind.Ended)]
    public void A_message_on_the_socket_of_a_session_that_nobody_expects_ends_it(HandshakeKind kind)
    {
        using (RawClient hostile = _broker.Connect())
        {
            hostile.Say(kind);
            hostile.Say(kind); // What stays unread must not hide the last word.
            Ending ending = hostile.WaitForEnd();
            Assert.Equal(RefusalCode.RingViolation, ending.Code);
            Assert.Contains("socket", ending.Text, StringComparison.Ordinal);
        }

        MustHaveHarmedNobody();
    }

    [Fact]
    public void A_connection_that_never_says_Hello_is_closed_after_five_seconds()
    {
        using (RawClient silent = RawClient.Dial(_broker.Socket))
        {
            long start = Stopwatch.GetTimestamp();
            Assert.Equal(RefusalCode.TimedOut, silent.WaitForEnd().Code);
            Assert.InRange(Stopwatch.GetElapsedTime(start).TotalSeconds, 4.5, 20);
        }

        MustHaveHarmedNobody();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Hundreds_of_connections_that_go_no_further_do_not_keep_a_good_client_out(bool sayHello)
    {
        List<RawClient> silent = [];
        for (int i = 0; i < 300; i++)
        {
            RawClient one = RawClient.Dial(_broker.Socket);
            silent.Add(one);
            if (sayHello)
            {
                one.SayHello(new Hello { SubmissionRingBytes = Limits.MinRingBytes, DeliveryRingBytes = Limits.MinRingBytes });
            }
        }

        using (RawClient good = _broker.Connect())
        {
            good.MustDeliver("through the crowd");
            good.SayBye();
        }

        silent.ForEach(one => one.Dispose());
        MustHaveHarmedNobody();
    }

    private static byte[] Message(HandshakeKind kind, params byte[] fields) => Message(kind, Handshake.Magic, fields);

    private static byte[] Message(HandshakeKind kind, uint magic, params byte[] fields)
    {
        byte[] message = new byte[Handshake.HeaderBytes + fields.Length];
        Handshake.WriteHeader(message, kind);
        BitConverter.TryWriteBytes(message, magic);
        fields.CopyTo(message, Handshake.HeaderBytes);
        return message;
    }

    private static byte[] Garbage(int bytes)
    {
        byte[] garbage = new byte[bytes];
        new Random(bytes).NextBytes(garbage);
        return garbage;
    }
}
