using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FastQ.Protocol;

// What the compiler made of a struct, seen from outside: each field is filled with ones in zeroed memory, and the bytes that changed are its
// place. So an attribute that says one thing and a layout that is another cannot agree by accident.

/// <summary>Where a field lies.</summary>
internal sealed record FieldPlace(int Offset, int Bytes, string Name, bool Signed);

/// <summary>A struct as it lies in memory.</summary>
internal sealed record Layout(string Name, int Bytes, FieldPlace[] Fields)
{
    /// <summary>Every struct of an assembly that could be stored or shared: bytes alone, no reference and no address in it.</summary>
    public static Layout[] AllOf(Assembly assembly) =>
        [.. from type in assembly.GetTypes()
            where type.IsValueType && !type.IsEnum && !type.IsByRefLike && !type.IsGenericType && !IsOfTheCompiler(type)
            let fields = FieldsOf(type)
            where fields.Length > 0 && fields.All(field => field.FieldType.IsEnum || (field.FieldType.IsValueType && !field.FieldType.IsPointer))
            select (Layout)s_measure.MakeGenericMethod(type).Invoke(null, [])!];

    /// <summary>One struct.</summary>
    public static Layout Of<T>()
        where T : unmanaged =>
        Measure<T>();

    private static readonly MethodInfo s_measure = typeof(Layout).GetMethod(nameof(Measure), BindingFlags.NonPublic | BindingFlags.Static)!;

    private static readonly MethodInfo s_ones = typeof(Layout).GetMethod(nameof(Ones), BindingFlags.NonPublic | BindingFlags.Static)!;

    private static bool IsOfTheCompiler(Type type) =>
        type.IsDefined(typeof(CompilerGeneratedAttribute)) || (type.DeclaringType is not null && IsOfTheCompiler(type.DeclaringType));

    private static FieldInfo[] FieldsOf(Type type) => type.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic);

    private static Layout Measure<T>()
        where T : unmanaged =>
        new(typeof(T).Name, Unsafe.SizeOf<T>(), [.. FieldsOf(typeof(T)).Select(PlaceOf<T>).OrderBy(place => place.Offset)]);

    private static FieldPlace PlaceOf<T>(FieldInfo field)
        where T : unmanaged
    {
        object boxed = default(T);
        field.SetValue(boxed, s_ones.MakeGenericMethod(field.FieldType).Invoke(null, []));
        T filled = (T)boxed;
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in filled));
        int first = bytes.IndexOf((byte)0xFF), last = bytes.LastIndexOf((byte)0xFF);
        string name = field.Name.StartsWith('<') ? field.Name[1..field.Name.IndexOf('>', StringComparison.Ordinal)] : field.Name; // a property's own field
        return new FieldPlace(first, last - first + 1, name, field.FieldType == typeof(long) || field.FieldType == typeof(int) || field.FieldType == typeof(short));
    }

    private static object Ones<T>()
        where T : unmanaged
    {
        Span<byte> bytes = stackalloc byte[Unsafe.SizeOf<T>()];
        bytes.Fill(0xFF);
        return MemoryMarshal.Read<T>(bytes);
    }
}
