using System.Globalization;
using System.IO.Hashing;
using System.Text;

namespace FastQ.Simulation;

/// <summary>What happened, as a hash and, when asked for, as text. Two runs of one history have one hash: that is what deterministic means here.</summary>
internal sealed class Trace(TextWriter? text)
{
    private const long StartNanoseconds = 1000L * 1_000_000_000;
    private readonly XxHash3 _hash = new();

    public long NowNanoseconds { get; set; } = StartNanoseconds;

    public long PassedNanoseconds => NowNanoseconds - StartNanoseconds;

    public ulong Hash => _hash.GetCurrentHashAsUInt64();

    public void Say(string what)
    {
        string line = string.Create(CultureInfo.InvariantCulture, $"{PassedNanoseconds / 1000.0,14:0.0} us  {what}");
        _hash.Append(Encoding.UTF8.GetBytes(line));
        text?.WriteLine(line);
    }
}
