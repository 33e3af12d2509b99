using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Xunit;

namespace FastQ.EndToEnd;

// libfastq as a guest of a .NET process: loaded, used while the collector stops threads and null pointers are caught by the runtime's handler of
// SIGSEGV, unloaded.
public sealed class NativeHostTests
{
    private const int Ok = 0, Accept = 0, None = 0, Durable = 3;
    private const long ForEver = -1;
    private static int s_calls;

    /// <summary>fastq_message, as fastq.h has it.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private unsafe struct NativeMessage
    {
        public ulong Number, Tag, Token;
        public long TimeMicros;
        public byte* Body, Properties;
        public uint BodyBytes;
        public ushort PropertyBytes, DeliveryCount;
        public uint Flags, Life;
    }

    [Fact]
    public async Task The_native_library_works_in_a_process_of_dotnet_and_leaves_it()
    {
        using TestBroker broker = new();
        nint library = NativeLibrary.Load(Path.Combine(Fastq.Root, "artifacts", "lib", "libfastq.so.1"));
        Assert.True(IsMapped());
        using CancellationTokenSource over = new();
        Task collecting = Task.Run(() => Collect(over.Token), TestContext.Current.CancellationToken);
        const int Rounds = 100;
        int before = GC.CollectionCount(0);
        for (int i = 0; i < Rounds; i++)
        {
            Assert.Equal($"hello {i}", ThereAndBack(library, broker.Socket, $"hello {i}"));
            Assert.Throws<NullReferenceException>(() => LengthOf(null!));
        }

        await over.CancelAsync();
        await collecting;
        Assert.InRange(GC.CollectionCount(0) - before, Rounds, int.MaxValue);
        NativeLibrary.Free(library);
        Assert.False(IsMapped());
    }

    private static bool IsMapped() => File.ReadAllText("/proc/self/maps").Contains("libfastq.so", StringComparison.Ordinal);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int LengthOf(string text) => text.Length;

    /// <summary>Stops the thread that is inside the library, once for each of its calls: collections without a pause leave no other thread of the process any time.</summary>
    private static void Collect(CancellationToken over)
    {
        for (int seen = -1; !over.IsCancellationRequested;)
        {
            int calls = Volatile.Read(ref s_calls);
            if (calls == seen)
            {
                Thread.Yield();
                continue;
            }

            seen = calls;
            GC.Collect(0, GCCollectionMode.Forced, blocking: true);
        }
    }

    private static unsafe string ThereAndBack(nint library, string socket, string text)
    {
        var abi = (delegate* unmanaged<uint>)NativeLibrary.GetExport(library, "fastq_abi");
        var open = (delegate* unmanaged<uint, byte*, byte*, ulong*, int>)NativeLibrary.GetExport(library, "fastq_open");
        var close = (delegate* unmanaged<ulong, int>)NativeLibrary.GetExport(library, "fastq_close");
        var declare = (delegate* unmanaged<ulong, byte*, byte*, byte**, int>)NativeLibrary.GetExport(library, "fastq_declare_queue");
        var openQueue = (delegate* unmanaged<ulong, byte*, uint*, int>)NativeLibrary.GetExport(library, "fastq_open_queue");
        var publish = (delegate* unmanaged<ulong, uint, byte*, nuint, byte*, nuint, int, ulong*, int>)NativeLibrary.GetExport(library, "fastq_publish");
        var flush = (delegate* unmanaged<ulong, int, long, int>)NativeLibrary.GetExport(library, "fastq_flush");
        var subscribe = (delegate* unmanaged<ulong, byte*, byte*, ulong*, int>)NativeLibrary.GetExport(library, "fastq_subscribe");
        var receive = (delegate* unmanaged<ulong, ulong, NativeMessage*, nuint, long, nuint*, int>)NativeLibrary.GetExport(library, "fastq_receive");
        var settle = (delegate* unmanaged<ulong, ulong, NativeMessage*, int, int, long, uint, ulong*, int>)NativeLibrary.GetExport(library, "fastq_settle");
        var lastError = (delegate* unmanaged<byte*>)NativeLibrary.GetExport(library, "fastq_last_error");
        ulong connection = 0, subscription = 0;
        uint queue = 0;
        nuint came = 0;
        NativeMessage message;
        byte[] body = Encoding.UTF8.GetBytes(text);
        fixed (byte* path = Encoding.UTF8.GetBytes(socket + "\0"), name = "host\0"u8, bytes = body)
        {
            Check(open(abi(), path, null, &connection));
            Check(declare(connection, name, null, null));
            Check(openQueue(connection, name, &queue));
            Check(publish(connection, queue, bytes, (nuint)body.Length, null, 0, Durable, null));
            Check(flush(connection, Durable, ForEver));
            Check(subscribe(connection, name, null, &subscription));
            Check(receive(connection, subscription, &message, 1, ForEver, &came));
            string given = Encoding.UTF8.GetString(message.Body, (int)message.BodyBytes);
            Check(settle(connection, subscription, &message, Accept, None, 0, 0, null));
            Check(close(connection));
            return given;
        }

        void Check(int code)
        {
            _ = Interlocked.Increment(ref s_calls);
            Assert.True(code == Ok, Encoding.UTF8.GetString(MemoryMarshal.CreateReadOnlySpanFromNullTerminated(lastError())));
        }
    }
}
