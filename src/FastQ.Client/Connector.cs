using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>What a broker that took us in said and gave.</summary>
internal sealed class Welcome : IDisposable
{
    public required UnixSocket Socket { get; init; }

    public required ClientRings Rings { get; init; }

    public required EventDescriptor Bell { get; init; }

    public required FileHandle Pipe { get; init; }

    public ulong Producer { get; init; }

    public ulong Epoch { get; init; }

    public ulong NextNumber { get; init; }

    public ulong MaxMessageBytes { get; init; }

    /// <summary>0: deliveries come as copies.</summary>
    public long SlotBytes { get; init; }

    public string ServerVersion { get; init; } = "";

    public void Dispose()
    {
        Rings.Dispose();
        Bell.Dispose();
        Pipe.Dispose();
        Socket.Dispose();
    }
}

/// <summary>One attempt at a handshake: Hello, Welcome, Mapped. Nothing is left behind when it fails.</summary>
internal static class Connector
{
    /// <summary>The kernel fences this process's threads when a broker asks it to.</summary>
    private static readonly Lazy<bool> s_isFenced = new(static () => ThisProcess.RegisterForFences().Ok);

    /// <exception cref="FastQException">The broker refused; not that it is away, and not that it has reached a limit, as long as there is time.</exception>
    /// <returns>Null: no broker is there, it went away in the middle, or it is full; <paramref name="why"/> says so.</returns>
    public static Welcome? TryConnect(SessionOptions options, ReadOnlySpan<byte> instance, ulong producer, ulong claimedDurable, int submissionBytes, int deliveryBytes, Deadline deadline, out string why)
    {
        Result<UnixSocket> connected = UnixSocket.Connect(options.Path);
        if (!connected.Ok)
        {
            why = connected.Fault.ToString();
            return connected.Fault.Errno is Errno.ENAMETOOLONG or Errno.EACCES ? throw new FastQException(RefusalCode.Denied, why) : null;
        }

        UnixSocket socket = connected.Value;
        Span<byte> message = stackalloc byte[Limits.MaxHandshakeBytes];
        Handshake.WriteHeader(message, HandshakeKind.Hello);
        FieldWriter fields = new(message[Handshake.HeaderBytes..]);
        fields.Number(FieldTag.MinVersion, ProtocolVersion.Major);
        fields.Number(FieldTag.MaxVersion, ProtocolVersion.Major);
        fields.Text(FieldTag.ClientName, options.ClientName.Length > 100 ? options.ClientName.AsSpan(0, 100) : options.ClientName);
        fields.Bytes(FieldTag.Instance, instance);
        fields.Number(FieldTag.Producer, producer);
        fields.Number(FieldTag.ClaimedDurable, claimedDurable);
        fields.Number(FieldTag.SubmissionRingBytes, (ulong)submissionBytes);
        fields.Number(FieldTag.DeliveryRingBytes, (ulong)deliveryBytes);
        fields.Number(FieldTag.WantsCopies, options.WantsCopies ? 1u : 0u);
        Span<int> descriptors = stackalloc int[4];
        if (!socket.Send(message[..(Handshake.HeaderBytes + fields.Length)]).Ok || !TryAwait(socket, options, deadline) || socket.Receive(message, descriptors) is not { Ok: true, Value.Bytes: > 0 } received)
        {
            why = $"The broker at {options.Path} did not answer the handshake.";
            socket.Dispose();
            return null;
        }

        Welcome? welcome;
        try
        {
            welcome = Judge(socket, message[..received.Value.Bytes], descriptors[..received.Value.Descriptors]);
        }
        catch (FastQException full) when (full.Code == RefusalCode.LimitReached && !deadline.IsOver)
        {
            // After a restart all clients come at once, and the handshakes that may be open are fewer: there is room again soon.
            socket.Dispose();
            why = full.Message;
            return null;
        }
        catch
        {
            socket.Dispose();
            throw;
        }

        Handshake.WriteHeader(message, HandshakeKind.Mapped);
        if (welcome.Socket.Send(message[..Handshake.HeaderBytes]).Ok && socket.SetNonBlocking(true).Ok)
        {
            why = "";
            return welcome;
        }

        welcome.Dispose();
        why = "The broker went away in the handshake.";
        return null;
    }

    /// <summary>A broker that is stopped, or busy beyond all patience, holds nobody for ever. One look is always taken, even without patience.</summary>
    private static bool TryAwait(UnixSocket socket, SessionOptions options, Deadline deadline)
    {
        int atLeast = Limits.HandshakeMilliseconds;
        int left = deadline.MillisecondsLeft;
        return options.Surroundings.Wait(socket.Descriptor, -1, -1, left < 0 ? -1 : Math.Max(left, atLeast)).First;
    }

    private static Welcome Judge(UnixSocket socket, ReadOnlySpan<byte> message, ReadOnlySpan<int> descriptors)
    {
        bool isOurs = Handshake.TryRead(message, out HandshakeKind kind, out ReadOnlySpan<byte> fields);
        if (!isOurs || kind != HandshakeKind.Welcome || descriptors.Length != 4)
        {
            CloseAll(descriptors);
            throw isOurs && kind == HandshakeKind.Refused ? RefusedWith(fields) : new FastQException(RefusalCode.VersionMismatch, "What answers at this socket does not speak FastQ's protocol");
        }

        ulong submission = Number(fields, FieldTag.SubmissionRingBytes);
        ulong delivery = Number(fields, FieldTag.DeliveryRingBytes);
        if (!IsRing(submission) || !IsRing(delivery))
        {
            CloseAll(descriptors);
            throw new FastQException(RefusalCode.VersionMismatch, "The broker offers rings of sizes that the protocol does not know");
        }

        EventDescriptor bell = EventDescriptor.Adopt(descriptors[2]);
        FileHandle pipe = FileHandle.Adopt(descriptors[3], "doorbell");
        Result<ClientRings> rings = ClientRings.Map(0, (int)submission, (int)delivery, descriptors[0], descriptors[1]);
        if (!rings.Ok)
        {
            bell.Dispose();
            pipe.Dispose();
            throw new LinuxException(rings.Fault);
        }

        rings.Value.IsFencedByBroker = Number(fields, FieldTag.FencesAll) == 1 && s_isFenced.Value;
        return new Welcome
        {
            Socket = socket,
            Rings = rings.Value,
            Bell = bell,
            Pipe = pipe,
            Producer = Number(fields, FieldTag.Producer),
            Epoch = Number(fields, FieldTag.Epoch),
            NextNumber = Number(fields, FieldTag.NextNumber),
            MaxMessageBytes = Number(fields, FieldTag.MaxMessageBytes),
            SlotBytes = (long)Number(fields, FieldTag.SlotBytes),
            ServerVersion = FieldReader.TryBytes(fields, FieldTag.ServerVersion, out ReadOnlySpan<byte> version) ? System.Text.Encoding.UTF8.GetString(version) : "",
        };
    }

    internal static bool IsRing(ulong bytes) => bytes is >= Limits.MinRingBytes and <= Limits.MaxRingBytes && System.Numerics.BitOperations.IsPow2(bytes);

    internal static ulong Number(ReadOnlySpan<byte> fields, FieldTag tag) => FieldReader.TryNumber(fields, tag, out ulong value) ? value : 0;

    /// <summary>The exception for a Refused or Ended message.</summary>
    internal static FastQException RefusedWith(ReadOnlySpan<byte> fields)
    {
        string text = FieldReader.TryBytes(fields, FieldTag.Text, out ReadOnlySpan<byte> words) ? System.Text.Encoding.UTF8.GetString(words) : "";
        return new FastQException((RefusalCode)Number(fields, FieldTag.Code), text);
    }

    internal static void CloseAll(ReadOnlySpan<int> descriptors)
    {
        foreach (int descriptor in descriptors)
        {
            FileHandle.Adopt(descriptor, "unexpected").Dispose();
        }
    }
}
