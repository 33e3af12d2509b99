using FastQ.Linux;
using FastQ.Protocol;

namespace FastQ.Broker;

// The two memory files of a session, as the broker sees them.
//
//   A: mapped read-only here, written by the client     B: written here, mapped read-only by the client
//   sealed SHRINK|GROW at birth; when the client has    sealed SHRINK|GROW|FUTURE_WRITE|SEAL before its descriptor
//   mapped it also FUTURE_WRITE|SEAL, then touched      leaves: nobody else will ever write it, nor cut it short
//
// Until Accept() the submission ring is not read: a hole punched before the seals would make our read allocate (DESIGN-REVIEW R16, R17).

/// <summary>One ring in each direction with its control pages. Owned by a session; one thread.</summary>
internal sealed unsafe class RingPair : IDisposable
{
    private readonly FileHandle _a;
    private readonly FileHandle _b;
    private readonly Mapping _aControl;
    private readonly Mapping _bControl;
    private readonly Mapping _aRing;
    private readonly Mapping _bRing;

    private RingPair(uint number, int submissionBytes, int deliveryBytes, FileHandle a, FileHandle b, Mapping aControl, Mapping aRing, Mapping bControl, Mapping bRing)
    {
        (Number, SubmissionBytes, DeliveryBytes, _a, _b, _aControl, _aRing, _bControl, _bRing) = (number, submissionBytes, deliveryBytes, a, b, aControl, aRing, bControl, bRing);
        BrokerControl* control = Broker;
        control->Magic = BrokerControl.MagicValue;
        control->Version = ProtocolVersion.Major;
        control->RingBytes = (uint)deliveryBytes;
        Submissions = new RingReader(_aRing.Address, submissionBytes, &Client->SubmissionHead, &control->SubmissionPosition);
        Deliveries = new RingWriter(_bRing.Address, deliveryBytes, &control->DeliveryHead);
        Sleep = new Sleeper(&control->SleepNumber);
        ClientRinger = new Ringer(&Client->SleepNumber);
    }

    /// <summary>Number of this pair in its session, from 0.</summary>
    public uint Number { get; }

    public int SubmissionBytes { get; }

    public int DeliveryBytes { get; }

    /// <summary>Shared memory that this pair holds, in bytes.</summary>
    public long Bytes => (long)SubmissionBytes + DeliveryBytes + 2 * Limits.ControlPageBytes;

    public ClientControl* Client => (ClientControl*)_aControl.Address;

    public BrokerControl* Broker => (BrokerControl*)_bControl.Address;

    public RingReader Submissions { get; }

    public RingWriter Deliveries { get; }

    /// <summary>Our sleep number for this session.</summary>
    public Sleeper Sleep;

    /// <summary>The client's sleep number, rung by us.</summary>
    public Ringer ClientRinger;

    public int DescriptorA => _a.Descriptor;

    public int DescriptorB => _b.Descriptor;

    /// <summary>Makes both files. Nothing is left behind when a step fails.</summary>
    public static Result<RingPair> Create(uint number, int submissionBytes, int deliveryBytes)
    {
        List<IDisposable> made = [];
        Result<RingPair> pair = Make(number, submissionBytes, deliveryBytes, made);
        if (!pair.Ok)
        {
            made.Reverse();
            made.ForEach(part => part.Dispose());
        }

        return pair;
    }

    private static Result<RingPair> Make(uint number, int submissionBytes, int deliveryBytes, List<IDisposable> made)
    {
        Result<FileHandle> a = MemoryFile.Create("fastq-a", Limits.ControlPageBytes + submissionBytes);
        if (!a.Ok)
        {
            return a.Fault;
        }

        made.Add(a.Value);
        Result<FileHandle> b = MemoryFile.Create("fastq-b", Limits.ControlPageBytes + deliveryBytes);
        if (!b.Ok)
        {
            return b.Fault;
        }

        made.Add(b.Value);
        Result<Mapping> aControl = Keep(Mapping.OfFile(a.Value, Limits.ControlPageBytes, Protection.Read), made);
        Result<Mapping> aRing = Keep(Mapping.Mirrored(a.Value, Limits.ControlPageBytes, submissionBytes, Protection.Read), made);
        Result<Mapping> bControl = Keep(Mapping.OfFile(b.Value, Limits.ControlPageBytes, Protection.ReadWrite), made);
        Result<Mapping> bRing = Keep(Mapping.Mirrored(b.Value, Limits.ControlPageBytes, deliveryBytes, Protection.ReadWrite), made);
        foreach (Result<Mapping> mapping in (ReadOnlySpan<Result<Mapping>>)[aControl, aRing, bControl, bRing])
        {
            if (!mapping.Ok)
            {
                return mapping.Fault;
            }
        }

        Result sealedA = MemoryFile.AddSeals(a.Value, Seals.Shrink | Seals.Grow);
        if (!sealedA.Ok)
        {
            return sealedA.Fault;
        }

        Result sealedB = MemoryFile.AddSeals(b.Value, Seals.Shrink | Seals.Grow | Seals.FutureWrite | Seals.Seal);
        if (!sealedB.Ok)
        {
            return sealedB.Fault;
        }

        Result touched = bRing.Value.Touch();
        return touched.Ok
            ? new RingPair(number, submissionBytes, deliveryBytes, a.Value, b.Value, aControl.Value, aRing.Value, bControl.Value, bRing.Value)
            : touched.Fault;
    }

    private static Result<Mapping> Keep(Result<Mapping> mapping, List<IDisposable> made)
    {
        if (mapping.Ok)
        {
            made.Add(mapping.Value);
        }

        return mapping;
    }

    /// <summary>The client says that it has mapped A: seal it for good, touch every page, and judge its control page.</summary>
    public Result<bool> Accept()
    {
        Result sealedNow = MemoryFile.AddSeals(_a, Seals.FutureWrite | Seals.Seal);
        if (!sealedNow.Ok)
        {
            return sealedNow.Fault;
        }

        Result touched = _aRing.Touch();
        if (!touched.Ok)
        {
            return touched.Fault;
        }

        ClientControl* client = Client;
        return client->Magic == ClientControl.MagicValue && client->Version == ProtocolVersion.Major && client->RingBytes == (uint)SubmissionBytes;
    }

    public void Dispose()
    {
        _aRing.Dispose();
        _aControl.Dispose();
        _bRing.Dispose();
        _bControl.Dispose();
        _a.Dispose();
        _b.Dispose();
    }
}
