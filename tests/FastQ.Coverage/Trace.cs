using System.IO.MemoryMappedFiles;

namespace FastQ.Coverage
{
    // Loaded into the suites, which write to it: what an instrumented room does at each branch is one byte stored. The bytes lie in a mapped file,
    // so they survive however a process ends, and suites and their children write into the same.

    /// <summary>A byte for each branch, not 0 once it was reached.</summary>
    public static unsafe class Trace
    {
        public const string MapVariable = "FASTQ_COVERAGE_MAP";

        /// <summary>Written by the code that <see cref="Instrumenter"/> puts in, never from here.</summary>
#pragma warning disable CA2211 // A field, for an instrumented branch must not call anything.
        public static byte* Reached;
#pragma warning restore CA2211

        private static MemoryMappedViewAccessor? s_view;

        internal static void Begin(string path)
        {
            using MemoryMappedFile map = MemoryMappedFile.CreateFromFile(path, FileMode.Open);
            s_view = map.CreateViewAccessor();
            byte* reached = null;
            s_view.SafeMemoryMappedViewHandle.AcquirePointer(ref reached);
            Reached = reached;
        }
    }
}

/// <summary>The runtime calls it before <c>Main</c>, where DOTNET_STARTUP_HOOKS names this assembly. Its name and place are the runtime's.</summary>
internal static class StartupHook
{
    public static void Initialize() => FastQ.Coverage.Trace.Begin(Environment.GetEnvironmentVariable(FastQ.Coverage.Trace.MapVariable)!);
}
