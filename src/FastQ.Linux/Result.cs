using System.Diagnostics.CodeAnalysis;

namespace FastQ.Linux;

// How a system call ends: with a value, or with a Fault that says which call, which errno, and on what. Callers decide; nothing is thrown
// unless they ask for it (OrThrow), and nothing is retried but EINTR and short transfers.

/// <summary>What failed.</summary>
/// <param name="Call">The system call.</param>
/// <param name="Errno">The kernel's reason.</param>
/// <param name="Subject">The path, address or thing it was about; may say more (a limit).</param>
public readonly record struct Fault(string Call, Errno Errno, string Subject)
{
    /// <summary>Like <c>fdatasync orders/slots/42: EIO (5), input/output error</c>.</summary>
    public override string ToString() => $"{Call} {Subject}: {Errno} ({(int)Errno}), {ErrnoText.Of(Errno)}";
}

/// <summary>The end of a call without a value.</summary>
[SuppressMessage("Usage", "CA2225:Operator overloads have named alternates", Justification = "Return statements read better; the constructors are the alternates.")]
public readonly struct Result
{
    private readonly Fault _fault;

    private Result(Fault fault)
    {
        (_fault, HasFailed) = (fault, true);
    }

    public static Result Success => default;

    public bool Ok => !HasFailed;

    private bool HasFailed { get; }

    /// <summary>Only when not <see cref="Ok"/>.</summary>
    public Fault Fault
    {
        get
        {
            Invariant.Holds(HasFailed);
            return _fault;
        }
    }

    public static implicit operator Result(Fault fault) => new(fault);

    /// <exception cref="LinuxException">When the call failed.</exception>
    public void OrThrow()
    {
        if (HasFailed)
        {
            throw new LinuxException(_fault);
        }
    }
}

/// <summary>The end of a call with a value.</summary>
[SuppressMessage("Usage", "CA2225:Operator overloads have named alternates", Justification = "Return statements read better; the constructors are the alternates.")]
public readonly struct Result<T>
{
    private readonly T _value;
    private readonly Fault _fault;

    private Result(T value, Fault fault, bool ok)
    {
        (_value, _fault, Ok) = (value, fault, ok);
    }

    public bool Ok { get; }

    /// <summary>Only when <see cref="Ok"/>.</summary>
    public T Value
    {
        get
        {
            Invariant.Holds(Ok);
            return _value;
        }
    }

    /// <summary>Only when not <see cref="Ok"/>.</summary>
    public Fault Fault
    {
        get
        {
            Invariant.Holds(!Ok);
            return _fault;
        }
    }

    public static implicit operator Result<T>(T value) => new(value, default, true);

    public static implicit operator Result<T>(Fault fault) => new(default!, fault, false);

    /// <exception cref="LinuxException">When the call failed.</exception>
    public T OrThrow() => Ok ? _value : throw new LinuxException(_fault);
}

/// <summary>A failed system call, for callers that want exceptions.</summary>
[SuppressMessage("Design", "CA1032:Implement standard exception constructors", Justification = "Made from a fault only.")]
public sealed class LinuxException(Fault fault) : IOException(fault.ToString())
{
    public Fault Fault { get; } = fault;
}
