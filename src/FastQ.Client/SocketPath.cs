using FastQ.Linux;

namespace FastQ.Client;

/// <summary>Where the broker listens unless somebody says otherwise: the same for broker and clients.</summary>
public static class SocketPath
{
    /// <summary><c>FASTQ_SOCKET</c>, else <c>$XDG_RUNTIME_DIR/fastq.sock</c>, else <c>/tmp/fastq-UID/fastq.sock</c>.</summary>
    public static string Default()
    {
        string? named = Environment.GetEnvironmentVariable("FASTQ_SOCKET");
        if (!string.IsNullOrEmpty(named))
        {
            return named;
        }

        string? runtime = Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR");
        return !string.IsNullOrEmpty(runtime) && Directory.Exists(runtime) ? Path.Combine(runtime, "fastq.sock") : $"/tmp/fastq-{ThisProcess.UserId}/fastq.sock";
    }
}
