using System.Text;
using FastQ.Protocol;
using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace FastQ.Client;

// Bodies that the sender's library compresses and the receiver's decodes, whatever stands there.
public sealed class Lz4Tests : IDisposable
{
    private const int FromBytes = 1000;
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);
    private readonly RunningBroker _broker = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    /// <summary>Pieces that repeat, of random bytes and lengths: some compress well, some not at all.</summary>
    private static readonly Gen<byte[]> s_bodies =
        from length in Gen.Choose(0, 3000)
        from piece in Gen.Choose(1, 400)
        from bytes in Gen.Choose(0, 255).Select(value => (byte)value).ArrayOf(Math.Min(piece, length + 1))
        select Enumerable.Range(0, length).Select(at => bytes[at % bytes.Length]).ToArray();

    public void Dispose() => _broker.Dispose();

    private static byte[] Compressible(int bytes) => Encoding.UTF8.GetBytes(string.Concat(Enumerable.Range(0, bytes / 10 + 1).Select(i => $"line {i % 7,4} ")))[..bytes];

    private static byte[] Noise(int bytes)
    {
        byte[] noise = new byte[bytes];
        for (int i = 0; i < bytes; i += 32)
        {
            System.Security.Cryptography.SHA256.HashData(BitConverter.GetBytes(i)).AsSpan(0, Math.Min(32, bytes - i)).CopyTo(noise.AsSpan(i));
        }

        return noise;
    }

    [Fact]
    public void Bodies_from_the_queues_size_on_are_stored_smaller_and_come_as_they_were_sent()
    {
        using Session session = _broker.Connect();
        session.DeclareQueue("q", new QueueOptions { Lz4FromBytes = FromBytes });
        QueueHandle queue = session.OpenQueue("q");
        byte[] properties = new PublishOptions { Type = "t", Headers = new() { ["k"] = 7 } }.ToBytes();
        (byte[] Body, bool IsEncoded)[] sent = [(Compressible(FromBytes - 1), false), (Compressible(FromBytes), true), (Compressible(100_000), true), (Noise(5000), false), ([], false), (new byte[Limits.MaxMessageBytes], true)];
        foreach ((byte[] body, _) in sent)
        {
            session.Publish(queue, body, properties: properties);
        }

        session.Flush();
        Subscription subscription = session.Subscribe("q");
        foreach ((byte[] body, bool isEncoded) in sent)
        {
            Assert.True(subscription.Receive(Soon, out Delivery delivery));
            Assert.Equal((isEncoded, body.Length, "t", 7), (delivery.IsEncoded, delivery.BodyBytes, delivery.Text(PropertyTag.Type), delivery.Headers()["k"]));
            Assert.True(body.AsSpan().SequenceEqual(delivery.Body));
            Assert.Equal(isEncoded, delivery.StoredBody.Length < body.Length);
            byte[] copy = new byte[body.Length];
            delivery.CopyBody(copy);
            Assert.Equal(body, copy);
            if (body.Length > 0)
            {
                Assert.Throws<ArgumentException>(() => delivery.CopyBody(new byte[body.Length - 1]));
            }

            subscription.Accept(delivery);
        }
    }

    [Fact]
    public void What_is_written_in_place_and_what_says_its_encoding_itself_is_sent_as_it_is()
    {
        using Session session = _broker.Connect();
        session.DeclareQueue("q", new QueueOptions { Lz4FromBytes = FromBytes });
        QueueHandle queue = session.OpenQueue("q");
        byte[] body = Compressible(5000);
        Session.Reservation reservation = session.Reserve(queue, body.Length);
        body.CopyTo(reservation.Body);
        reservation.Commit(ConfirmLevel.Written);
        session.Publish(queue, body);
        Subscription subscription = session.Subscribe("q");
        Assert.True(subscription.Receive(Soon, out Delivery inPlace));
        Assert.False(inPlace.IsEncoded);
        Assert.True(subscription.Receive(Soon, out Delivery encoded));
        session.DeclareQueue("next", new QueueOptions { Lz4FromBytes = 1 });
        session.Publish(session.OpenQueue("next"), encoded.StoredBody, properties: encoded.Properties); // Sent on as it is stored.
        Subscription next = session.Subscribe("next");
        Assert.True(next.Receive(Soon, out Delivery again));
        Assert.True(again.StoredBody.SequenceEqual(encoded.StoredBody));
        Assert.True(again.Body.SequenceEqual(body));
    }

    [Fact]
    public void A_body_stays_what_it_was_while_others_are_looked_at_and_throws_once_it_is_settled()
    {
        using Session session = _broker.Connect();
        session.DeclareQueue("q", new QueueOptions { Lz4FromBytes = 1 });
        QueueHandle queue = session.OpenQueue("q");
        byte[] first = Compressible(2000), second = new byte[3000];
        session.Publish(queue, first);
        session.Publish(queue, second);
        Subscription subscription = session.Subscribe("q");
        Assert.True(subscription.Receive(Soon, out Delivery one));
        Assert.True(subscription.Receive(Soon, out Delivery two));
        ReadOnlySpan<byte> body = one.Body;
        Assert.True(body == one.Body); // The same memory: decoded once.
        Assert.True(two.Body.SequenceEqual(second));
        Assert.True(body.SequenceEqual(first));
        Assert.True(one.Body.SequenceEqual(first));
        subscription.Accept(one);
        Assert.Throws<FastQException>(() => one.Body.Length);
        Assert.Throws<FastQException>(() => one.BodyBytes);
    }

    [Fact]
    public async Task A_connection_compresses_and_decodes_too_and_a_change_reaches_who_opens_the_queue_anew()
    {
        await using Connection connection = await Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket }, cancellation: Cancellation);
        using Session other = _broker.Connect();
        QueueInfo queue = await connection.DeclareQueueAsync("q", cancellation: Cancellation);
        Assert.Equal(0, queue.Lz4FromBytes);
        QueueHandle opened = other.OpenQueue("q");
        byte[] body = Compressible(50_000);
        await connection.PublishAsync("q", body, cancellation: Cancellation);
        Assert.Equal(FromBytes, (await connection.ChangeQueueAsync("q", new QueueOptions { Lz4FromBytes = FromBytes }, Cancellation)).Lz4FromBytes);
        await connection.PublishAsync("q", body, cancellation: Cancellation);
        other.Publish(opened, body);
        other.Publish(other.OpenQueue("q"), body);
        other.Flush();
        FastQException differs = await Assert.ThrowsAsync<FastQException>(() => connection.DeclareQueueAsync("q", cancellation: Cancellation));
        Assert.Contains("lz4 is 1000 bytes, not 0 bytes", differs.Message, StringComparison.Ordinal);

        await using Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation);
        foreach (bool isEncoded in (bool[])[false, true, false, true])
        {
            Message message = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
            Assert.Equal(isEncoded, message.StoredBody.Length < body.Length);
            Assert.True(body.AsSpan().SequenceEqual(message.Body.Span));
            Assert.Equal(Encoding.UTF8.GetString(body), message.Text);
            await message.AcceptAsync(cancellation: Cancellation);
        }
    }

    [Fact]
    public async Task Limits_are_of_what_is_stored_and_dead_letters_and_whoever_looks_see_the_body()
    {
        await using Connection connection = await Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket }, cancellation: Cancellation);
        await connection.DeclareQueueAsync("q", new QueueOptions { Lz4FromBytes = FromBytes, MaxMessageSize = 5000 }, Cancellation);
        byte[] body = Compressible(200_000);
        await connection.PublishAsync("q", body, cancellation: Cancellation);
        FastQException tooLarge = await Assert.ThrowsAsync<FastQException>(async () => await connection.PublishAsync("q", Noise(5001), cancellation: Cancellation));
        Assert.Equal((RefusalCode.TooLarge, 5000ul), (tooLarge.Code, tooLarge.Value));
        Assert.InRange((await connection.GetQueueAsync("q", Cancellation)).Bytes, 1, 5000);
        BrowsedMessage browsed = Assert.Single(await connection.BrowseAsync("q", 10, cancellation: Cancellation));
        Assert.Equal((null, (long)body.Length, false), (browsed.Encoding, browsed.BodyBytes, browsed.IsCut));
        Assert.True(body.AsSpan().SequenceEqual(browsed.Body.Span));

        await using Subscriber subscriber = await connection.SubscribeAsync("q", cancellation: Cancellation);
        await (await subscriber.ReceiveAsync(Soon, Cancellation))!.RejectAsync("no", cancellation: Cancellation);
        await connection.DeclareQueueAsync("q.dead", new QueueOptions { DeadLetter = "" }, Cancellation);
        await using Subscriber dead = await connection.SubscribeAsync("q.dead", cancellation: Cancellation);
        Message letter = (await dead.ReceiveAsync(Soon, Cancellation))!;
        Assert.Equal("no", Assert.Single(letter.Deaths).Text);
        Assert.True(body.AsSpan().SequenceEqual(letter.Body.Span));
    }

    [Fact]
    public void A_body_of_which_only_the_beginning_is_shown_is_shown_as_it_is_stored()
    {
        using Session session = _broker.Connect();
        session.DeclareQueue("q", new QueueOptions { Lz4FromBytes = FromBytes });
        byte[] body = [.. Noise(20_000), .. new byte[20_000]];
        session.Publish(session.OpenQueue("q"), body);
        session.Flush();
        BrowsedMessage browsed = Assert.Single(session.Browse("q"));
        Assert.Equal(("lz4", 8192, true), (browsed.Encoding, browsed.Body.Length, browsed.IsCut));
        Assert.InRange(browsed.BodyBytes, 20_000, 21_000);
    }

    public static TheoryData<string, byte[]> NoEncodings => new()
    {
        { "lz4 of 4294967295 bytes", [0xFF, 0xFF, 0xFF, 0xFF, .. "lz4"u8] },
        { "lz4 of 16777217 bytes", [1, 0, 0, 1, .. "lz4"u8] },
        { "lz4 of 16777216 bytes", [0, 0, 0, 1, .. "lz4"u8] }, // More than so few bytes can hold.
        { "lz4 of 100 bytes, and is not", [100, 0, 0, 0, .. "lz4"u8] },
        { "lz4 of 0 bytes, and is not", [0, 0, 0, 0, .. "lz4"u8] },
        { "'zstd', which this library does not know", [100, 0, 0, 0, .. "zstd"u8] },
        { "'', which this library does not know", [100, 0, 0, 0] },
        { "'', which this library does not know", [] },
    };

    [Theory]
    [MemberData(nameof(NoEncodings))]
    public async Task A_body_that_cannot_be_decoded_says_so_takes_no_memory_and_can_be_rejected(string said, byte[] encoding)
    {
        await using Connection connection = await Connection.ConnectAsync(new SessionOptions { Path = _broker.Socket }, cancellation: Cancellation);
        using Session session = _broker.Connect();
        PropertyWriter writer = new(new byte[100]);
        writer.Text(PropertyTag.MessageId, "bad");
        writer.Bytes(PropertyTag.BodyEncoding, encoding);
        byte[] properties = writer.Written.ToArray();
        foreach (string name in (string[])["in place", "copied"])
        {
            session.DeclareQueue(name);
            session.Publish(session.OpenQueue(name), "no block at all"u8, properties: properties);
        }

        session.Flush();
        BrowsedMessage browsed = Assert.Single(session.Browse("in place"));
        Assert.Equal("no block at all", Encoding.UTF8.GetString(browsed.Body.Span));
        Assert.NotNull(browsed.Encoding);
        Subscription subscription = session.Subscribe("in place");
        Assert.True(subscription.Receive(Soon, out Delivery delivery));
        long before = GC.GetAllocatedBytesForCurrentThread();
        InvalidDataException refused = Assert.Throws<InvalidDataException>(() => delivery.Body.Length);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 100_000);
        Assert.Contains(said, refused.Message, StringComparison.Ordinal);
        Assert.Contains("at place 1 ", refused.Message, StringComparison.Ordinal);
        Assert.Throws<InvalidDataException>(() => delivery.CopyBody(new byte[1000]));
        Assert.Equal("no block at all"u8, delivery.StoredBody);
        subscription.Reject(delivery, "cannot be read");
        session.Flush();
        Assert.Equal(1ul, session.GetQueue("in place").Rejected);

        await using Subscriber subscriber = await connection.SubscribeAsync("copied", cancellation: Cancellation);
        Message message = (await subscriber.ReceiveAsync(Soon, Cancellation))!;
        Assert.Equal("bad", message.MessageId);
        Assert.Contains(said, Assert.Throws<InvalidDataException>(() => message.Body).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidDataException>(() => message.Text);
        await message.RejectAsync("cannot be read", cancellation: Cancellation);
        Assert.Equal(1ul, (await connection.GetQueueAsync("copied", Cancellation)).Rejected);
        Assert.Null(connection.Fault);
    }

    [Fact]
    public void Any_body_is_decoded_as_it_was_and_is_encoded_only_where_it_gets_smaller()
    {
        Prop.ForAll(Arb.From(s_bodies), body =>
        {
            if (TryEncode(body, out byte[] properties, out byte[] stored))
            {
                Assert.True(properties.Length + stored.Length < body.Length);
                Assert.True(BodyEncoding.TryRead(properties, out BodyEncoding encoding));
                Assert.Equal(body, Lz4Body.Decode(stored, encoding, 1));
            }
        }).Check(FsCheck.Config.QuickThrowOnFailure.WithMaxTest(500).WithReplay(41, 104729));
    }

    [Fact]
    public void Whatever_the_bytes_a_body_has_the_length_that_was_said_or_cannot_be_decoded()
    {
        Gen<(int At, byte Value)[]> places = Gen.Choose(0, 4).SelectMany(count => (from at in Gen.Choose(0, 1 << 20) from value in Gen.Choose(0, 255) select (at, (byte)value)).ArrayOf(count));
        Prop.ForAll(Arb.From(from body in s_bodies from damage in places from cut in Gen.Choose(0, 20) from length in Gen.Choose(-1, 4000) select (body, damage, cut, length)), sent =>
        {
            if (!TryEncode(sent.body, out _, out byte[] stored))
            {
                stored = sent.body;
            }

            stored = stored[..^Math.Min(stored.Length, sent.cut)];
            foreach ((int at, byte value) in sent.damage.Where(_ => stored.Length > 0))
            {
                stored[at % stored.Length] = value;
            }

            uint said = (uint)(sent.length < 0 ? sent.body.Length : sent.length);
            try
            {
                Assert.Equal((int)said, Lz4Body.Decode(stored, new BodyEncoding(BodyEncoding.Lz4, said), 1).Length);
            }
            catch (InvalidDataException)
            {
                // Said, not crashed.
            }
        }).Check(FsCheck.Config.QuickThrowOnFailure.WithMaxTest(3000).WithReplay(42, 104729));
    }

    private static bool TryEncode(byte[] body, out byte[] properties, out byte[] stored)
    {
        byte[] room = new byte[Lz4Body.RoomFor(body, default)];
        bool isSmaller = Lz4Body.TryEncode(body, default, room, out int propertyBytes, out int bodyBytes);
        properties = room[..propertyBytes];
        stored = isSmaller ? room[propertyBytes..(propertyBytes + bodyBytes)] : [];
        return isSmaller;
    }
}
