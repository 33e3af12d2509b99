using System.IO.Hashing;
using BenchmarkDotNet.Attributes;

namespace FastQ.Benchmarks;

// The physical floor of taking messages into the journal: a block cannot be filled faster than its bytes are copied and hashed.
//
//   messages of 100 B --copy--> block of 256 KiB --hash, 4 KiB at a time, while it is in the nearest cache--> one hash
//
// Figures are per message. What the journal adds to them is its own cost.
[MemoryDiagnoser]
public class CopyAndHashBenchmark
{
    private const int MessageBytes = 100;
    private const int BlockBytes = 256 * 1024;
    private const int HashedAtOnceBytes = 4096;
    private const int MessageCount = BlockBytes / MessageBytes;

    // As many messages as a ring holds: the source is in the shared cache, not in the nearest one.
    private const int SourceMessageCount = 1024 * 1024 / MessageBytes;

    private readonly byte[] _messages = new byte[SourceMessageCount * MessageBytes];
    private readonly byte[] _block = new byte[BlockBytes];
    private readonly XxHash3 _hash = new();
    private int _next;

    [GlobalSetup]
    public void FillAndCheck()
    {
        new Random(42).NextBytes(_messages);
        ulong piecewise = CopyAndHash();
        if (piecewise != XxHash3.HashToUInt64(_block.AsSpan(0, MessageCount * MessageBytes)))
        {
            throw new InvalidOperationException("The hash in pieces differs from the hash of the whole block.");
        }
    }

    [Benchmark(Baseline = true, OperationsPerInvoke = MessageCount)]
    public int Copy()
    {
        int fill = 0;
        for (int i = 0; i < MessageCount; i++)
        {
            NextMessage().CopyTo(_block.AsSpan(fill));
            fill += MessageBytes;
        }
        return fill;
    }

    [Benchmark(OperationsPerInvoke = MessageCount)]
    public ulong CopyAndHash()
    {
        _hash.Reset();
        int fill = 0;
        int hashed = 0;
        for (int i = 0; i < MessageCount; i++)
        {
            NextMessage().CopyTo(_block.AsSpan(fill));
            fill += MessageBytes;
            if (fill - hashed >= HashedAtOnceBytes)
            {
                _hash.Append(_block.AsSpan(hashed, fill - hashed));
                hashed = fill;
            }
        }
        _hash.Append(_block.AsSpan(hashed, fill - hashed));
        return _hash.GetCurrentHashAsUInt64();
    }

    private ReadOnlySpan<byte> NextMessage()
    {
        _next = _next + 1 == SourceMessageCount ? 0 : _next + 1;
        return _messages.AsSpan(_next * MessageBytes, MessageBytes);
    }
}
