using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FastQ.Linux;

/// <summary>The end of one operation.</summary>
/// <param name="Token">As given at submission.</param>
/// <param name="Value">What the system call would return; negative: the errno.</param>
public readonly record struct Completion(ulong Token, int Value);

// io_uring by its raw system calls: a ring of submissions that we write, a ring of completions that the kernel writes.
//
//   submissions: our tail ->  kernel's head        completions: kernel's tail -> our head
//   an entry is filled, then the tail moves (release); enter() tells the kernel; completions are read up to its tail (acquire).

/// <summary>An io_uring. One thread; the owner disposes. Buffers and descriptors must live until their completion was taken.</summary>
public sealed unsafe class IoUring : IDisposable
{
    private const int SetupCall = 425, EnterCall = 426, RegisterCall = 427;
    private const int RegisterEventDescriptor = 4;
    private const uint GetEvents = 1;
    private const uint OneMapping = 1, NeverDropsCompletions = 2; // IORING_FEAT_SINGLE_MMAP, IORING_FEAT_NODROP
    private const long RingsOffset = 0, EntriesOffset = 0x10000000;
    private readonly FileHandle _file;
    private readonly Mapping _rings;
    private readonly Mapping _entriesMap;
    private readonly Submission* _entries;
    private readonly uint* _submissionHead;
    private readonly uint* _submissionTail;
    private readonly uint* _submissionArray;
    private readonly uint* _completionHead;
    private readonly uint* _completionTail;
    private readonly Entry* _completions;
    private readonly uint _submissionMask;
    private readonly uint _completionMask;
    private uint _tail;
    private uint _submitted;

    private enum Operation : byte
    {
        Nop = 0,
        ReadVector = 1,
        WriteVector = 2,
        Sync = 3,
        Poll = 6,
        Read = 22,
        Write = 23,
    }

    private IoUring(FileHandle file, Mapping rings, Mapping entries, in Parameters p)
    {
        (_file, _rings, _entriesMap) = (file, rings, entries);
        _entries = (Submission*)entries.Address;
        byte* at = rings.Address;
        _submissionHead = (uint*)(at + p.Submissions.Head);
        _submissionTail = (uint*)(at + p.Submissions.Tail);
        _submissionArray = (uint*)(at + p.Submissions.Array);
        _submissionMask = *(uint*)(at + p.Submissions.Mask);
        _completionHead = (uint*)(at + p.Completions.Head);
        _completionTail = (uint*)(at + p.Completions.Tail);
        _completionMask = *(uint*)(at + p.Completions.Mask);
        _completions = (Entry*)(at + p.Completions.Entries);
        _tail = _submitted = *_submissionTail;
    }

    /// <summary>May this process use io_uring? Containers often forbid it.</summary>
    public static bool IsAllowed()
    {
        Result<IoUring> attempt = Create(2);
        if (attempt.Ok)
        {
            attempt.Value.Dispose();
        }

        return attempt.Ok;
    }

    /// <summary>Makes one with room for so many operations at once (a power of two).</summary>
    /// <param name="entries">A power of two.</param>
    /// <param name="completionSignal">Rung by the kernel at each completion, if given.</param>
    public static Result<IoUring> Create(int entries, EventDescriptor? completionSignal = null)
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("io_uring_setup", injected, "io_uring");
        }

        Parameters parameters = default;
        nint fd = Libc.SystemCall(SetupCall, entries, (nint)(&parameters), 0, 0, 0, 0);
        if (fd < 0)
        {
            return new Fault("io_uring_setup", Check.Last, $"io_uring of {entries} entries");
        }

        FileHandle file = FileHandle.Adopt((int)fd, "io_uring");
        if ((parameters.Features & (OneMapping | NeverDropsCompletions)) != (OneMapping | NeverDropsCompletions))
        {
            file.Dispose();
            return new Fault("io_uring_setup", Errno.ENOSYS, "io_uring of Linux 5.6 or later");
        }

        long ringBytes = Math.Max(parameters.Submissions.Array + parameters.SubmissionEntries * sizeof(uint), parameters.Completions.Entries + parameters.CompletionEntries * (uint)sizeof(Entry));
        Result<Mapping> rings = MapRing(file, RingsOffset, ringBytes);
        if (!rings.Ok)
        {
            file.Dispose();
            return rings.Fault;
        }

        Result<Mapping> submissions = MapRing(file, EntriesOffset, parameters.SubmissionEntries * (uint)sizeof(Submission));
        if (!submissions.Ok)
        {
            rings.Value.Dispose();
            file.Dispose();
            return submissions.Fault;
        }

        IoUring ring = new(file, rings.Value, submissions.Value, parameters);
        if (completionSignal is null)
        {
            return ring;
        }

        int signal = completionSignal.Descriptor;
        Errno errno = Check.Injected(out injected) ? injected : Libc.SystemCall(RegisterCall, fd, RegisterEventDescriptor, (nint)(&signal), 1, 0, 0) == 0 ? Errno.None : Check.Last;
        if (errno == Errno.None)
        {
            return ring;
        }

        ring.Dispose();
        return new Fault("io_uring_register", errno, "eventfd");
    }

    /// <summary>Queues a write of one buffer. False: the queue is full (submit first), or as many operations are under way as there is room for completions (take some first).</summary>
    public bool TryWrite(int descriptor, byte* from, uint length, long offset, ulong token) => TryQueue(Operation.Write, descriptor, (ulong)from, length, offset, 0, token);

    /// <summary>Queues a read into one buffer.</summary>
    public bool TryRead(int descriptor, byte* into, uint length, long offset, ulong token) => TryQueue(Operation.Read, descriptor, (ulong)into, length, offset, 0, token);

    /// <summary>Queues a fdatasync. It is not ordered against writes in the queue: submit it after their completions were taken.</summary>
    public bool TryDataSync(int descriptor, ulong token)
    {
        const uint DataOnly = 1;
        return TryQueue(Operation.Sync, descriptor, 0, 0, 0, DataOnly, token);
    }

    /// <summary>Queues an operation that does nothing.</summary>
    public bool TryNop(ulong token) => TryQueue(Operation.Nop, -1, 0, 0, 0, 0, token);

    /// <summary>Operations queued and not yet handed to the kernel.</summary>
    public int Queued => (int)(_tail - _submitted);

    /// <summary>Hands what is queued to the kernel; waits for nothing. After a fault, what the kernel has not taken is out of the queue and will never begin.</summary>
    public Result Submit() => Enter(0);

    /// <summary>Hands what is queued to the kernel and waits until so many completions are there; not more than operations are under way.</summary>
    public Result SubmitAndWait(int completions)
    {
        Invariant.Holds(completions >= 0 && (uint)completions <= _tail - *_completionHead);
        return Enter(completions);
    }

    /// <summary>Takes completions that are there, without a system call.</summary>
    public int TakeCompletions(Span<Completion> into)
    {
        uint head = *_completionHead;
        uint tail = Volatile.Read(ref *_completionTail);
        int count = 0;
        while (head != tail && count < into.Length)
        {
            ref Entry entry = ref _completions[head & _completionMask];
            into[count++] = new Completion(entry.Token, entry.Value);
            head++;
        }

        Volatile.Write(ref *_completionHead, head);
        return count;
    }

    public void Dispose()
    {
        _entriesMap.Dispose();
        _rings.Dispose();
        _file.Dispose();
    }

    private Result Enter(int wait)
    {
        while (true)
        {
            if (Check.Injected(out Errno injected))
            {
                return Withdraw(injected);
            }

            nint taken = Libc.SystemCall(EnterCall, _file.Descriptor, (nint)(_tail - _submitted), wait, wait > 0 ? (nint)GetEvents : 0, 0, 0);
            if (taken >= 0)
            {
                // A signal may end the wait although the submission counts: then we come back only to wait.
                _submitted += (uint)taken;
                if (_submitted == _tail && Volatile.Read(ref *_completionTail) - *_completionHead >= (uint)wait)
                {
                    return Result.Success;
                }
            }
            else if (Check.Last != Errno.EINTR)
            {
                return Withdraw(Check.Last);
            }
        }
    }

    /// <summary>Empties the queue, as its owner may give the buffers back after the fault. The kernel looks at the tail only in enter.</summary>
    private Fault Withdraw(Errno errno)
    {
        _tail = _submitted;
        Volatile.Write(ref *_submissionTail, _tail);
        return new Fault("io_uring_enter", errno, "io_uring");
    }

    private bool TryQueue(Operation operation, int descriptor, ulong address, uint length, long offset, uint flags, ulong token)
    {
        // One completion each, and both counts began at zero: never more under way than the completion ring holds, so it cannot overflow.
        if (_tail - Volatile.Read(ref *_submissionHead) > _submissionMask || _tail - *_completionHead > _completionMask)
        {
            return false;
        }

        uint index = _tail & _submissionMask;
        _entries[index] = new Submission { Operation = (byte)operation, Descriptor = descriptor, Offset = (ulong)offset, Address = address, Length = length, Flags = flags, Token = token };
        _submissionArray[index] = index;
        _tail++;
        Volatile.Write(ref *_submissionTail, _tail);
        return true;
    }

    private static Result<Mapping> MapRing(FileHandle file, long offset, long bytes) => Mapping.OfRing(file, offset, (bytes + 4095) & ~4095L);

    [StructLayout(LayoutKind.Sequential)]
    private struct Parameters
    {
        public uint SubmissionEntries;
        public uint CompletionEntries;
        public uint Flags;
        public uint ThreadCpu;
        public uint ThreadIdle;
        public uint Features;
        public uint WorkQueue;
        public ReservedWords Reserved;
        public SubmissionOffsets Submissions;
        public CompletionOffsets Completions;
    }

    [InlineArray(3)]
    private struct ReservedWords
    {
        private uint _word;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct SubmissionOffsets
    {
        public uint Head;
        public uint Tail;
        public uint Mask;
        public uint Entries;
        public uint Flags;
        public uint Dropped;
        public uint Array;
        public uint Reserved;
        public ulong UserAddress;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct CompletionOffsets
    {
        public uint Head;
        public uint Tail;
        public uint Mask;
        public uint EntryCount;
        public uint Overflow;
        public uint Entries;
        public uint Flags;
        public uint Reserved;
        public ulong UserAddress;
    }

    [StructLayout(LayoutKind.Explicit, Size = 64)]
    private struct Submission
    {
        [FieldOffset(0)] public byte Operation;
        [FieldOffset(4)] public int Descriptor;
        [FieldOffset(8)] public ulong Offset;
        [FieldOffset(16)] public ulong Address;
        [FieldOffset(24)] public uint Length;
        [FieldOffset(28)] public uint Flags;
        [FieldOffset(32)] public ulong Token;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Entry
    {
        public ulong Token;
        public int Value;
        public uint Flags;
    }
}
