using System.Globalization;
using System.Runtime.Versioning;
using System.Text;
using FastQ.Journal;
using FastQ.Linux;
using Xunit;

namespace FastQ.EndToEnd;

// What a broker process did to its disk, as shim/shim.c logged it, done again on the simulated disk, which can lose power at any moment.
//
//   life 1: log   life 2: log   ...      one file each: what a killed process was about to append is not a hole for the next one
//   W ... w       a write may be on the disk from W on, and a sync that begins after w covers it
//   S ... s       what S covers is on the disk from s on; after f it is nowhere but in the cache

/// <summary>One record of a log.</summary>
/// <param name="Kind">See shim.c.</param>
/// <param name="Call">Pairs begin and end.</param>
/// <param name="File">The file's number.</param>
/// <param name="Offset">In bytes.</param>
/// <param name="Bytes">In bytes.</param>
/// <param name="Data">Path, two paths, or bytes; empty for zeroes.</param>
/// <param name="End">Where the record ends, over all lives: a place in time.</param>
internal sealed record LoggedCall(char Kind, uint Call, ulong File, long Offset, long Bytes, byte[] Data, long End)
{
    public string Path => Encoding.UTF8.GetString(Data);
}

/// <summary>The logs of a directory's lives.</summary>
internal sealed class WriteLog(string directory)
{
    private const int HeaderBytes = 40;
    private int _lives;

    /// <summary>How a life must be started for its calls to be logged.</summary>
    /// <param name="fail">As fdatasync:7:NAME or pwrite:3+:NAME, with the end of a path; empty: nothing fails.</param>
    public string[] NextLife(string fail = "")
    {
        _lives++;
        return ["env", $"LD_PRELOAD={s_shim.Value}", $"SHIM_LOG={PathOf(_lives)}", $"SHIM_ROOT={directory}", $"SHIM_FAIL={fail}"];
    }

    /// <summary>The place in time: all that was logged so far lies before it.</summary>
    public long Now()
    {
        long bytes = 0;
        for (int life = 1; life <= _lives; life++)
        {
            bytes += new FileInfo(PathOf(life)).Length;
        }

        return bytes;
    }

    public IEnumerable<LoggedCall> Read()
    {
        long before = 0;
        for (int life = 1; life <= _lives; life++)
        {
            using FileStream file = File.OpenRead(PathOf(life));
            byte[] header = new byte[HeaderBytes];
            while (file.ReadAtLeast(header, HeaderBytes, throwOnEndOfStream: false) == HeaderBytes)
            {
                byte[] data = new byte[BitConverter.ToUInt32(header, 32)];
                if (file.ReadAtLeast(data, data.Length, throwOnEndOfStream: false) < data.Length)
                {
                    break; // The process was killed as it wrote this, before the call itself.
                }

                yield return new LoggedCall((char)header[0], BitConverter.ToUInt32(header, 4), BitConverter.ToUInt64(header, 8), BitConverter.ToInt64(header, 16), BitConverter.ToInt64(header, 24), data, before + file.Position);
            }

            before += file.Length;
            yield return new LoggedCall('!', 0, 0, 0, 0, [], before);
        }
    }

    private string PathOf(int life) => Path.Combine(directory, string.Create(CultureInfo.InvariantCulture, $"calls-{life}"));

    private static readonly Lazy<string> s_shim = new(static () =>
    {
        string source = Path.Combine(Fastq.Root, "tests", "FastQ.EndToEnd.Tests", "shim", "shim.c");
        string library = Path.Combine(AppContext.BaseDirectory, "shim.so");
        using System.Diagnostics.Process gcc = Fastq.StartProgram("gcc", ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", library, source]);
        string said = gcc.StandardError.ReadToEnd();
        gcc.WaitForExit();
        Assert.True(gcc.ExitCode == 0, said);
        return library;
    });
}

/// <summary>The simulated disk, on which the logged calls are done again.</summary>
[SupportedOSPlatform("linux")]
internal sealed class ReplayedDisk(string directory)
{
    private readonly Dictionary<ulong, IStoredFile> _files = [];
    private readonly Dictionary<uint, LoggedCall> _writing = [];
    private readonly List<uint> _syncing = [];
    private Errno _nextSync;

    public SimulatedStorage Disk { get; } = new(directory);

    public void Do(LoggedCall call)
    {
        switch (call.Kind)
        {
            case 'M':
                Disk.MakeDirectory(call.Path).OrThrow();
                break;
            case 'C':
                _files[call.File] = Disk.Open(call.Path, create: true).OrThrow();
                break;
            case 'R':
                string[] names = call.Path.Split('\0');
                Disk.Rename(names[0], names[1]).OrThrow();
                break;
            case 'U':
                _ = Disk.Unlink(call.Path); // The socket's name, too, which was never made here.
                break;
            case 'A':
                _files[call.File].Allocate(call.Offset + call.Bytes).OrThrow();
                break;
            case 'W':
                _writing.Add(call.Call, call);
                break;
            case 'w':
                _ = _writing.Remove(call.Call, out LoggedCall? begun);
                Write(begun!, call.Bytes);
                break;
            case 'S' when _files.TryGetValue(call.File, out IStoredFile? file):
                Disk.Sync(file, call.Call);
                _syncing.Add(call.Call);
                break;
            case 's' or 'f':
                EndSync(call);
                break;
            case '!':
                // The life is over. What it was writing may be there, and the kernel goes on with the syncs that it had begun.
                foreach (LoggedCall left in _writing.Values)
                {
                    Write(left, left.Bytes);
                }

                _writing.Clear();
                while (_syncing.Count > 0)
                {
                    Complete(0, Errno.None);
                }

                break;
        }
    }

    private void Write(LoggedCall call, long done)
    {
        if (done > 0)
        {
            byte[] bytes = call.Data.Length > 0 ? call.Data : new byte[done];
            _files[call.File].WriteAt(bytes.AsSpan(0, (int)done), call.Offset).OrThrow();
        }
    }

    private void EndSync(LoggedCall call)
    {
        int index = _syncing.IndexOf(call.Call);
        if (index >= 0)
        {
            Complete(index, call.Kind == 's' ? Errno.None : Errno.EIO);
        }
        else if (call.Kind == 's')
        {
            Disk.SyncDirectory(call.Path).OrThrow();
        }
    }

    private void Complete(int index, Errno errno)
    {
        _syncing.RemoveAt(index);
        _nextSync = errno;
        Disk.Fail = _ => _nextSync;
        Disk.Pick = _ => index;
        Assert.Equal(1, Disk.Poll(new StorageCompletion[1]));
        Disk.Fail = null;
    }

    /// <summary>Writes a disk into a directory of the real one; zeroes stay holes.</summary>
    public static void Materialize(SimulatedStorage disk, string from, string to)
    {
        foreach (string name in disk.List(from).OrThrow())
        {
            string path = Path.Combine(from, name), copy = Path.Combine(to, name);
            Result<IStoredFile> opened = disk.Open(path, create: false);
            if (!opened.Ok)
            {
                Directory.CreateDirectory(copy, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
                Materialize(disk, path, copy);
                continue;
            }

            using IStoredFile file = opened.Value;
            using FileStream made = File.Create(copy, 1);
            long length = file.Length().OrThrow();
            made.SetLength(length);
            byte[] piece = new byte[1 << 16];
            for (long at = 0; at < length; at += piece.Length)
            {
                Span<byte> part = piece.AsSpan(0, file.ReadAt(piece, at).OrThrow());
                if (part.ContainsAnyExcept((byte)0))
                {
                    made.Position = at;
                    made.Write(part);
                }
            }
        }
    }
}
