using FsCheck;
using FsCheck.Fluent;

namespace FastQ.Protocol;

/// <summary>Generators of our own: FsCheck's arrays share one size among their elements, so long ones are nearly all zeroes.</summary>
internal static class Generators
{
    /// <summary>Any bytes, mostly few.</summary>
    public static Gen<byte[]> Bytes { get; } =
        from size in Gen.Choose(0, 9)
        from length in Gen.Choose(0, size switch { < 4 => 9, < 9 => 40, _ => 700 })
        from bytes in Gen.Choose(0, 255).Select(value => (byte)value).ArrayOf(length)
        select bytes;

    /// <summary>Short arrays of anything.</summary>
    public static Gen<T[]> Several<T>(Gen<T> one) => Gen.Choose(0, 9).SelectMany(count => one.ArrayOf(count));

    /// <summary>Bytes that begin well and then have some places overwritten: damage that a reader gets far into.</summary>
    public static Gen<byte[]> Damaged(Gen<byte[]> whole) =>
        from bytes in whole
        from places in Several(from at in Gen.Choose(0, 1 << 20) from value in Gen.Choose(0, 255) select (At: at, Value: (byte)value))
        select Overwrite(bytes, places);

    /// <summary>A run that can be repeated: the seeds stand in the test.</summary>
    public static Config Config(int tests, ulong seed) => FsCheck.Config.QuickThrowOnFailure.WithMaxTest(tests).WithReplay(seed, 104729);

    private static byte[] Overwrite(byte[] bytes, (int At, byte Value)[] places)
    {
        byte[] damaged = [.. bytes];
        foreach ((int at, byte value) in places.Where(_ => damaged.Length > 0))
        {
            damaged[at % damaged.Length] = value;
        }

        return damaged;
    }
}
