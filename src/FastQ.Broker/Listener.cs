using FastQ.Linux;

namespace FastQ.Broker;

/// <summary>The socket that clients connect to, and its name in the file system.</summary>
internal sealed class Listener : IDisposable
{
    private readonly string _path;
    private readonly Result<FileIdentity> _named;

    private Listener(UnixSocket socket, string path)
    {
        (Socket, _path, _named) = (socket, path, Directories.IdentityOf(path));
    }

    public UnixSocket Socket { get; }

    /// <summary>Listens. The data directory's lock is held, so a socket file that refuses connections is a dead broker's and is replaced. Null with a refusal in words when it cannot.</summary>
    public static Listener? TryOpen(string path, int mode, out string? refusal)
    {
        string? directory = Path.GetDirectoryName(Path.GetFullPath(path));
        if (directory is not null && !Directory.Exists(directory))
        {
            Result made = Directories.CreatePrivate(directory);
            if (!made.Ok)
            {
                refusal = $"{made.Fault}. Choose another socket path (--socket).";
                return null;
            }
        }

        const int Backlog = 128;
        Result<UnixSocket> bound = UnixSocket.Listen(path, Backlog, mode);
        if (!bound.Ok && bound.Fault.Errno == Errno.EADDRINUSE)
        {
            Result<UnixSocket> other = UnixSocket.Connect(path);
            if (other.Ok)
            {
                other.Value.Dispose();
                refusal = $"Another broker listens at {path}. Stop it first, or choose another path (--socket).";
                return null;
            }

            if (other.Fault.Errno == Errno.ECONNREFUSED)
            {
                _ = Directories.Unlink(path);
                bound = UnixSocket.Listen(path, Backlog, mode);
            }
        }

        refusal = bound.Ok ? null : $"{bound.Fault}. Choose another socket path (--socket).";
        return bound.Ok ? new Listener(bound.Value, path) : null;
    }

    /// <summary>Takes the name away, if it still leads to this socket: another broker may have it by now.</summary>
    public void RemoveName()
    {
        Result<FileIdentity> now = Directories.IdentityOf(_path);
        if (_named.Ok && now.Ok && now.Value == _named.Value)
        {
            _ = Directories.Unlink(_path);
        }
    }

    public void Dispose() => Socket.Dispose();
}
