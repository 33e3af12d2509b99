using FastQ.Broker;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Fuzz;

// What comes over the socket before there is a session, and after: | length, 2 bytes | message | length | message | ...
// A length with its highest bit says: on a connection of its own.
internal sealed class HandshakeTarget : ITarget
{
    private const int NewConnection = 0x8000;

    public IEnumerable<byte[]> Seeds
    {
        get
        {
            byte[] hello = Message(HandshakeKind.Hello, 1, 0, "");
            byte[] mapped = [8, 0, .. Frame(HandshakeKind.Mapped)];
            yield return hello;
            yield return [.. hello, .. mapped];
            yield return [.. hello, .. mapped, .. mapped];
            yield return [.. hello, hello[0], (byte)(hello[1] | NewConnection >> 8), .. hello[2..], .. mapped];
            yield return Message(HandshakeKind.Hello, 1, 1 << 20, "default");
            yield return Message(HandshakeKind.Hello, 2, 0, "other");
            yield return Message(HandshakeKind.Welcome, 1, 0, "");
        }
    }

    public void Run(byte[] input)
    {
        using LiveBroker broker = new();
        List<UnixSocket> sockets = [];
        for (int at = 0; at + 2 <= input.Length;)
        {
            int said = BitConverter.ToUInt16(input, at);
            int length = Math.Min(said & 0xFFF, input.Length - at - 2);
            if (sockets.Count == 0 || (said & NewConnection) != 0)
            {
                UnixSocket socket = UnixSocket.Connect(broker.Socket).OrThrow();
                socket.SetNonBlocking(true).OrThrow();
                sockets.Add(socket);
            }

            _ = sockets[^1].Send(input.AsSpan(at + 2, length)); // A broker that has hung up is not to blame.
            broker.Settle();
            at += 2 + length;
        }

        foreach (UnixSocket socket in sockets)
        {
            Hear(socket);
            socket.Dispose();
        }

        broker.MustStartAgainTheSame();
    }

    public void Dispose()
    {
    }

    private static void Hear(UnixSocket socket)
    {
        byte[] message = new byte[Limits.MaxHandshakeBytes];
        Span<int> descriptors = stackalloc int[Limits.MaxSlotsPerMessage];
        while (socket.Receive(message, descriptors) is { Ok: true } received && received.Value.Bytes > 0)
        {
            foreach (int descriptor in descriptors[..received.Value.Descriptors])
            {
                FileHandle.Adopt(descriptor, "heard").Dispose();
            }
        }
    }

    private static byte[] Frame(HandshakeKind kind)
    {
        byte[] frame = new byte[Handshake.HeaderBytes];
        Handshake.WriteHeader(frame, kind);
        return frame;
    }

    private static byte[] Message(HandshakeKind kind, ulong version, ulong ringBytes, string @namespace)
    {
        byte[] room = new byte[512];
        FieldWriter fields = new(room);
        fields.Number(FieldTag.MinVersion, version);
        fields.Number(FieldTag.MaxVersion, version);
        fields.Text(FieldTag.ClientName, "fuzz");
        fields.Bytes(FieldTag.Instance, new byte[16]);
        fields.Number(FieldTag.Producer, 0);
        fields.Number(FieldTag.SubmissionRingBytes, ringBytes);
        fields.Number(FieldTag.DeliveryRingBytes, ringBytes);
        fields.Number(FieldTag.ClaimedDurable, 0);
        fields.Number(FieldTag.WantsCopies, 0);
        fields.Text(FieldTag.Namespace, @namespace);
        byte[] message = [.. Frame(kind), .. fields.Written];
        return [(byte)message.Length, (byte)(message.Length >> 8), .. message];
    }
}
