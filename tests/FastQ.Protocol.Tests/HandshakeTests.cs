using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace FastQ.Protocol;

public sealed class HandshakeTests : IDisposable
{
    private readonly Guarded _memory = new();

    public void Dispose() => _memory.Dispose();

    [Fact]
    public void A_frame_gives_its_kind_and_its_fields_again()
    {
        Prop.ForAll(Arb.From(from kind in Gen.Choose(1, ushort.MaxValue) from fields in Generators.Bytes select (kind, fields)), frame =>
        {
            Span<byte> message = _memory.AtEnd(Handshake.HeaderBytes + frame.fields.Length);
            Handshake.WriteHeader(message, (HandshakeKind)frame.kind);
            frame.fields.CopyTo(message[Handshake.HeaderBytes..]);
            Assert.True(Handshake.TryRead(message, out HandshakeKind kind, out ReadOnlySpan<byte> fields));
            Assert.Equal((HandshakeKind)frame.kind, kind);
            Assert.Equal(frame.fields, fields.ToArray());
        }).Check(Generators.Config(200, 31));
    }

    [Fact]
    public void A_frame_that_is_cut_of_another_magic_or_of_no_kind_is_not_one_of_ours()
    {
        Span<byte> message = stackalloc byte[Handshake.HeaderBytes];
        Handshake.WriteHeader(message, HandshakeKind.Mapped);
        for (int length = 0; length <= message.Length; length++)
        {
            Assert.Equal(length == message.Length, Handshake.TryRead(_memory.AtEnd(message[..length]), out _, out _));
        }

        for (int bit = 0; bit < 32; bit++)
        {
            message[bit / 8] ^= (byte)(1 << bit % 8);
            Assert.False(Handshake.TryRead(message, out HandshakeKind kind, out ReadOnlySpan<byte> fields));
            Assert.True(kind == HandshakeKind.None && fields.IsEmpty);
            message[bit / 8] ^= (byte)(1 << bit % 8);
        }

        Handshake.WriteHeader(message, HandshakeKind.None);
        Assert.False(Handshake.TryRead(message, out _, out _));
    }

    [Fact]
    public void Any_bytes_get_a_verdict_and_never_an_exception()
    {
        Prop.ForAll(Arb.From(Generators.Bytes), bytes => Assert.False(Handshake.TryRead(_memory.AtEnd(bytes), out _, out _))).Check(Generators.Config(500, 32));
    }
}
