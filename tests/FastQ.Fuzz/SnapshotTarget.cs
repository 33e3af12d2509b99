using FastQ.Engine;
using FastQ.Engine.Tests;
using Xunit;

namespace FastQ.Fuzz;

/// <summary>An engine's state as a file has it: refused, or a state that adds up, bears work, and is saved as it was loaded.</summary>
internal sealed class SnapshotTarget : ITarget
{
    // Small, so that a count that is believed too early is seen as growth.
    private static readonly EngineLimits s_limits = new() { IndexBytes = 16 << 20 };

    public IEnumerable<byte[]> Seeds
    {
        get
        {
            using World empty = new();
            yield return empty.Saved();
            using World everything = World.WithEverything();
            yield return everything.Saved();
        }
    }

    public void Run(byte[] input)
    {
        using QueueEngine engine = new(s_limits);
        if (!engine.TryLoad(new MemoryStream(input)))
        {
            return;
        }

        System.Buffers.ArrayBufferWriter<byte> saved = new();
        engine.Save(saved);
        using QueueEngine again = new(s_limits);
        Assert.True(again.TryLoad(new MemoryStream(saved.WrittenSpan.ToArray())), "what was saved is refused");
        Assert.Equal(World.DumpOf(engine), World.DumpOf(again));
        World.MustBearWork(engine);
    }

    public void Dispose()
    {
    }
}
