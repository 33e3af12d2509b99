using Xunit;

namespace FastQ.Broker;

/// <summary>Tests that count what the whole process holds, and those that would disturb the count.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class OneAtATime
{
    public const string Name = "one at a time";
}
