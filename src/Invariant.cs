using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace FastQ;

// Compiled into every room as an internal type (src/Directory.Build.props): each room asserts, none depends on another for it.

/// <summary>What must be true if our own code is right. On in release too: our bug must stop us before it reaches the disk.</summary>
/// <remarks>Input of others (clients, files) is judged, never asserted. Nothing below <c>Main</c> catches <see cref="InvariantViolation"/>.</remarks>
internal static class Invariant
{
    /// <summary>Stops the program when <paramref name="condition"/> is false. Costs one predicted branch when it is true.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    [StackTraceHidden]
    public static void Holds(
        [DoesNotReturnIf(false)] bool condition,
        [CallerArgumentExpression(nameof(condition))] string what = "",
        [CallerFilePath] string file = "",
        [CallerLineNumber] int line = 0)
    {
        if (!condition)
        {
            Fail(what, file, line);
        }
    }

    [DoesNotReturn]
    [StackTraceHidden]
    private static void Fail(string what, string file, int line) =>
        throw new InvariantViolation($"Invariant broken: {what} ({Path.GetFileName(file)}:{line}). This is a bug of FastQ; nothing was written after it.");
}

/// <summary>Our own bug, found by <see cref="Invariant"/>. Never caught below <c>Main</c>.</summary>
[SuppressMessage("Design", "CA1032:Implement standard exception constructors", Justification = "Made in one place only.")]
[SuppressMessage("Design", "CA1064:Exceptions should be public", Justification = "Nobody may catch it by name.")]
internal sealed class InvariantViolation(string message) : Exception(message);
