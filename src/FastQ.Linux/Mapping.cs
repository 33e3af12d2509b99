namespace FastQ.Linux;

/// <summary>What a mapping allows.</summary>
public enum Protection
{
    Read = 1,
    ReadWrite = 3,
}

// Mirrored: the same bytes twice in a row, so that whatever starts in the first half can be read or written without wrapping.
//
//   address space   |<------ length ------>|<------ length ------>|      reserved whole first, then both halves put in its place:
//   file            |<------ length ------>|<--- the same --------|      nothing else can slip in between

/// <summary>A mapping of a file or of memory. Unmapped once, by its owner; whoever uses <see cref="Address"/> must be done by then.</summary>
public sealed unsafe class Mapping : IDisposable
{
    private const int Shared = 1, Private = 2, Fixed = 0x10, Anonymous = 0x20, NoReserve = 0x4000, Populate = 0x8000;
    private const int DontFork = 10, PopulateRead = 22, PopulateWrite = 23;
    private const long HugeBytes = 2 << 20;
    private readonly Protection _protection;
    private byte* _reserved;
    private readonly long _reservedBytes;

    private Mapping(byte* reserved, long reservedBytes, byte* address, long length, Protection protection)
    {
        _reserved = reserved;
        _reservedBytes = reservedBytes;
        Address = address;
        Length = length;
        _protection = protection;
    }

    /// <summary>The first byte. For the small types that confine it, not for passing around.</summary>
    public byte* Address { get; }

    /// <summary>Bytes mapped; of a mirrored mapping both halves.</summary>
    public long Length { get; }

    /// <summary>A range of it.</summary>
    public ReadOnlySpan<byte> Bytes(long offset, int length)
    {
        Invariant.Holds(_reserved != null && offset >= 0 && length >= 0 && offset <= Length - length);
        return new ReadOnlySpan<byte>(Address + offset, length);
    }

    /// <summary>Maps the first <paramref name="length"/> bytes of a file, shared.</summary>
    /// <param name="file">May be closed afterwards.</param>
    /// <param name="length">In bytes; what lies beyond the file's end must not be touched (SIGBUS).</param>
    /// <param name="protection">What is allowed.</param>
    /// <param name="hugeAligned">At an address that is a multiple of 2 MiB, so that large folios take one entry each.</param>
    /// <param name="populate">Take the page faults now.</param>
    /// <param name="dontFork">Not there in forked children.</param>
    public static Result<Mapping> OfFile(FileHandle file, long length, Protection protection, bool hugeAligned = false, bool populate = false, bool dontFork = false)
    {
        long reservedBytes = hugeAligned ? length + HugeBytes : length;
        Result<Mapping> reserved = Reserve(file.Path, reservedBytes, hugeAligned, length, protection);
        if (!reserved.Ok)
        {
            return reserved.Fault;
        }

        Mapping mapping = reserved.Value;
        return mapping.Place(file, 0, mapping.Address, length, populate ? Populate : 0, dontFork);
    }

    /// <summary>Maps <paramref name="length"/> bytes of a file from <paramref name="offset"/> on twice in a row. Both are multiples of 4,096.</summary>
    public static Result<Mapping> Mirrored(FileHandle file, long offset, long length, Protection protection, bool dontFork = false)
    {
        Invariant.Holds(offset % 4096 == 0 && length % 4096 == 0 && length > 0);
        Result<Mapping> reserved = Reserve(file.Path, 2 * length, false, 2 * length, protection);
        if (!reserved.Ok)
        {
            return reserved.Fault;
        }

        Mapping mapping = reserved.Value;
        Result<Mapping> first = mapping.Place(file, offset, mapping.Address, length, 0, dontFork);
        return first.Ok ? mapping.Place(file, offset, mapping.Address + length, length, 0, dontFork) : first;
    }

    /// <summary>One of the regions of an io_uring, at the place that the kernel chooses.</summary>
    internal static Result<Mapping> OfRing(FileHandle file, long offset, long length)
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("mmap", injected, file.Path);
        }

        byte* at = Libc.Map(null, (nuint)length, (int)Protection.ReadWrite, Shared | Populate, file.Descriptor, offset);
        return (nint)at == -1 ? new Fault("mmap", Check.Last, file.Path) : new Mapping(at, length, at, length, Protection.ReadWrite);
    }

    /// <summary>Private zeroed memory.</summary>
    public static Result<Mapping> OfMemory(long length)
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("mmap", injected, "memory");
        }

        byte* at = Libc.Map(null, (nuint)length, (int)Protection.ReadWrite, Private | Anonymous, -1, 0);
        return (nint)at == -1 ? new Fault("mmap", Check.Last, $"{length} bytes of memory") : new Mapping(at, length, at, length, Protection.ReadWrite);
    }

    /// <summary>Touches every page now: later accesses take no allocating fault.</summary>
    public Result Touch()
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("madvise", injected, "mapping");
        }

        int advice = _protection == Protection.ReadWrite ? PopulateWrite : PopulateRead;
        return Libc.AdviseMemory(Address, (nuint)Length, advice) == 0 ? Result.Success : new Fault("madvise", Check.Last, $"{Length} bytes");
    }

    public void Dispose()
    {
        if (_reserved != null)
        {
            _ = Libc.Unmap(_reserved, (nuint)_reservedBytes);
            _reserved = null;
        }
    }

    private static Result<Mapping> Reserve(string subject, long reservedBytes, bool hugeAligned, long length, Protection protection)
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("mmap", injected, subject);
        }

        byte* at = Libc.Map(null, (nuint)reservedBytes, 0, Private | Anonymous | NoReserve, -1, 0);
        if ((nint)at == -1)
        {
            return new Fault("mmap", Check.Last, $"{reservedBytes} bytes of address space for {subject}");
        }

        byte* start = hugeAligned ? (byte*)(((nuint)at + HugeBytes - 1) & ~(nuint)(HugeBytes - 1)) : at;
        return new Mapping(at, reservedBytes, start, length, protection);
    }

    /// <summary>Puts the file into reserved space; on failure the whole reservation goes.</summary>
    private Result<Mapping> Place(FileHandle file, long offset, byte* at, long length, int flags, bool dontFork)
    {
        Fault fault = default;
        if (Check.Injected(out Errno injected))
        {
            fault = new Fault("mmap", injected, file.Path);
        }
        else if ((nint)Libc.Map(at, (nuint)length, (int)_protection, Shared | Fixed | flags, file.Descriptor, offset) == -1)
        {
            fault = new Fault("mmap", Check.Last, file.Path);
        }
        else if (dontFork && Check.Injected(out injected))
        {
            fault = new Fault("madvise", injected, file.Path);
        }
        else if (dontFork && Libc.AdviseMemory(at, (nuint)length, DontFork) != 0)
        {
            fault = new Fault("madvise", Check.Last, file.Path);
        }
        else
        {
            return this;
        }

        Dispose();
        return fault;
    }
}

/// <summary>Seals of a memory file: what nobody may do to it any more.</summary>
[Flags]
public enum Seals
{
    None = 0,
    Seal = 1,
    Shrink = 2,
    Grow = 4,
    Write = 8,
    FutureWrite = 16,
}

/// <summary>Files that live in memory only (memfd), to be shared by their descriptor.</summary>
public static class MemoryFile
{
    private const int AddSealsCommand = 1033, GetSealsCommand = 1034;
    private const uint CloseOnExec = 1, AllowSealing = 2;

    /// <summary>A zeroed memory file of this length.</summary>
    public static Result<FileHandle> Create(string name, long length)
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("memfd_create", injected, name);
        }

        int fd = Libc.MemoryFile(name, CloseOnExec | AllowSealing);
        if (fd < 0)
        {
            return new Fault("memfd_create", Check.Last, name);
        }

        FileHandle file = FileHandle.Adopt(fd, name);
        Result sized = file.SetLength(length);
        if (sized.Ok)
        {
            return file;
        }

        file.Dispose();
        return sized.Fault;
    }

    public static Result AddSeals(FileHandle file, Seals seals)
    {
        Errno errno = Check.Injected(out Errno injected) ? injected : Libc.Control(file.Descriptor, AddSealsCommand, (nint)seals) == 0 ? Errno.None : Check.Last;
        return errno == Errno.None ? Result.Success : new Fault("fcntl F_ADD_SEALS", errno, file.Path);
    }

    public static Result<Seals> GetSeals(FileHandle file)
    {
        if (Check.Injected(out Errno injected))
        {
            return new Fault("fcntl F_GET_SEALS", injected, file.Path);
        }

        int seals = Libc.Control(file.Descriptor, GetSealsCommand, 0);
        return seals >= 0 ? (Seals)seals : new Fault("fcntl F_GET_SEALS", Check.Last, file.Path);
    }
}
