using System.Runtime.InteropServices;
using FastQ.Protocol;
using Xunit;

namespace FastQ.Broker;

// Clients of other versions of the protocol, and clients that die in the middle of a record.
[Collection(OneAtATime.Name)]
public class VersionTests
{
    [Theory]
    [InlineData(0, ProtocolVersion.Major)]
    [InlineData(ProtocolVersion.Major, ProtocolVersion.Major + 7)]
    public void A_client_whose_range_of_versions_holds_the_brokers_is_taken_and_fields_that_the_broker_does_not_know_are_passed_over(ulong min, ulong max)
    {
        using RunningBroker broker = new();
        using RawClient client = RawClient.Dial(broker.Socket);
        byte[] room = new byte[1024];
        FieldWriter fields = new(room);
        fields.Bytes((FieldTag)60_001, "a field of a later minor version"u8);
        fields.Number(FieldTag.MinVersion, min);
        fields.Number(FieldTag.MaxVersion, max);
        fields.Number((FieldTag)60_002, ulong.MaxValue);
        client.Say(HandshakeKind.Hello, fields.Written); // Without name, instance and sizes: those came later, or never.
        client.TakeWelcome();
        client.Rings.Map();
        client.SayMapped();
        client.MustDeliver("served");
    }

    [Fact]
    public void A_client_that_dies_in_the_middle_of_a_record_leaves_what_it_had_committed_and_nothing_of_that_one()
    {
        using RunningBroker broker = new();
        using RawClient other = RawClient.Connect(broker.Socket, new Hello());
        uint queue = other.Declare("q");
        using (RawClient dying = RawClient.Connect(broker.Socket, new Hello { Instance = 5 }))
        {
            dying.PutMessage(queue, "whole"u8);
            dying.Commit();
            MessageHeader half = new() { LengthBytes = MessageHeader.SizeBytes + 100, Kind = RecordKind.Message, Queue = queue, NumberOrTimeMicros = dying.NextNumber };
            MemoryMarshal.Write(dying.Rings.Next(MessageHeader.SizeBytes), half); // Reserved and begun, never shown.
        }

        other.Wait(() => other.Show(queue).Number(FieldTag.Messages) == 1, "the committed message is there");
        Assert.Equal(1ul, other.Show(queue).Number(FieldTag.Published));
    }
}
