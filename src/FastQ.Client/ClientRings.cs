using System.Runtime.CompilerServices;
using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Client;

/// <summary>One pair of rings as the client sees it: A is ours to write, B is the broker's. Not there in forked children.</summary>
internal sealed unsafe class ClientRings : IDisposable
{
    private readonly Mapping _aControl;
    private readonly Mapping _aRing;
    private readonly Mapping _bControl;
    private readonly Mapping _bRing;

    private ClientRings(uint number, int submissionBytes, int deliveryBytes, Mapping aControl, Mapping aRing, Mapping bControl, Mapping bRing)
    {
        (Number, _aControl, _aRing, _bControl, _bRing) = (number, aControl, aRing, bControl, bRing);
        ClientControl* own = Own;
        own->Magic = ClientControl.MagicValue;
        own->Version = ProtocolVersion.Major;
        own->RingBytes = (uint)submissionBytes;
        Submissions = new RingWriter(aRing.Address, submissionBytes, &own->SubmissionHead);
        Deliveries = new RingReader(bRing.Address, deliveryBytes, &Broker->DeliveryHead, &own->DeliveryPosition);
        Sleep = new Sleeper(&own->SleepNumber);
        BrokerRinger = new Ringer(&Broker->SleepNumber);
    }

    public uint Number { get; }

    public ClientControl* Own => (ClientControl*)_aControl.Address;

    public BrokerControl* Broker => (BrokerControl*)_bControl.Address;

    public RingWriter Submissions { get; }

    public RingReader Deliveries { get; }

    public Sleeper Sleep;

    public Ringer BrokerRinger;

    /// <summary>The broker fences this process, too, before it looks a last time and sleeps: the head and the sleep number need no fence between them here.</summary>
    public bool IsFencedByBroker { get; set; }

    /// <summary>Asked after the head was published.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool MustRing() => IsFencedByBroker ? BrokerRinger.MustRingAfterFence() : BrokerRinger.MustRing();

    /// <summary>Maps both files; the descriptors are closed in any case.</summary>
    public static Result<ClientRings> Map(uint number, int submissionBytes, int deliveryBytes, int descriptorA, int descriptorB)
    {
        using FileHandle a = FileHandle.Adopt(descriptorA, "submission memory");
        using FileHandle b = FileHandle.Adopt(descriptorB, "delivery memory");
        Result<Mapping>[] maps =
        [
            Mapping.OfFile(a, Limits.ControlPageBytes, Protection.ReadWrite, dontFork: true),
            Mapping.Mirrored(a, Limits.ControlPageBytes, submissionBytes, Protection.ReadWrite, dontFork: true),
            Mapping.OfFile(b, Limits.ControlPageBytes, Protection.Read, dontFork: true),
            Mapping.Mirrored(b, Limits.ControlPageBytes, deliveryBytes, Protection.Read, dontFork: true),
        ];
        foreach (Result<Mapping> map in maps)
        {
            if (!map.Ok)
            {
                Array.ForEach(maps, one => DisposeIfOk(one));
                return map.Fault;
            }
        }

        return new ClientRings(number, submissionBytes, deliveryBytes, maps[0].Value, maps[1].Value, maps[2].Value, maps[3].Value);
    }

    public void Dispose()
    {
        _aRing.Dispose();
        _aControl.Dispose();
        _bRing.Dispose();
        _bControl.Dispose();
    }

    private static void DisposeIfOk(Result<Mapping> map)
    {
        if (map.Ok)
        {
            map.Value.Dispose();
        }
    }
}
