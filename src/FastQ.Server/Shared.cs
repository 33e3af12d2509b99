using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using FastQ.Client;
using Spectre.Console;

namespace FastQ.Server;

/// <summary>Options that several commands share, each in one place.</summary>
internal static class Shared
{
    public static Option<string> Socket() => new("--socket") { Description = "Path of the broker's socket. FASTQ_SOCKET overrides the default, which is per user.", DefaultValueFactory = _ => SocketPath.Default(), HelpName = "PATH" };

    public static Option<bool> Json() => new("--json") { Description = "Print data as JSON." };

    public static Option<TimeSpan> Patience() => Duration("--patience", "How long to wait for a broker that is away.", TimeSpan.FromSeconds(30));

    public static Argument<string> Queue() => new("QUEUE") { Description = "Name of the queue." };

    public static Option<TimeSpan> Duration(string name, string description, TimeSpan defaultValue) =>
        new(name) { Description = description + " Like 250ms, 30s, 5m, 2h, 7d.", HelpName = "DURATION", CustomParser = ParseDuration, DefaultValueFactory = _ => defaultValue };

    /// <summary>An option whose number lies within bounds.</summary>
    public static Option<T> Within<T>(Option<T> option, T least, T most)
        where T : IComparable<T>, IParsable<T>
    {
        option.Validators.Add(result =>
        {
            if (result.Implicit)
            {
                return; // The default needs no judging.
            }

            // By its text: asked for the value of what is no number, the result throws.
            bool isWithin = result.Tokens is [Token token] && T.TryParse(token.Value, CultureInfo.InvariantCulture, out T? value) && value.CompareTo(least) >= 0 && value.CompareTo(most) <= 0;
            if (!isWithin)
            {
                result.AddError($"{option.Name} is {least} to {most}.");
            }
        });
        return option;
    }

    public static Option<TimeSpan?> OptionalDuration(string name, string description) =>
        new(name) { Description = description + " Like 250ms, 30s, 5m, 2h, 7d.", HelpName = "DURATION", CustomParser = argument => ParseDuration(argument) };

    private static TimeSpan ParseDuration(ArgumentResult argument)
    {
        string text = argument.Tokens[0].Value;
        if (!TryParseDuration(text, out TimeSpan duration))
        {
            argument.AddError($"'{text}' is no duration. Use a number with ms, s, m, h or d, like 250ms or 30s.");
        }

        return duration;
    }

    public static Option<long?> OptionalSize(string name, string description) =>
        new(name) { Description = description + " Like 500, 64KiB, 10MiB, 2GiB.", HelpName = "SIZE", CustomParser = ParseSize };

    /// <summary>Bytes: a number, with or without a unit: B, KiB, MiB, GiB, TiB.</summary>
    private static long? ParseSize(ArgumentResult argument)
    {
        string text = argument.Tokens[0].Value;
        string[] units = ["B", "KiB", "MiB", "GiB", "TiB"];
        int unit = Array.FindLastIndex(units, unit => text.EndsWith(unit, StringComparison.Ordinal));
        ReadOnlySpan<char> number = unit < 0 ? text : text.AsSpan(0, text.Length - units[unit].Length);
        if (long.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out long value) && value <= long.MaxValue >> (10 * Math.Max(0, unit)))
        {
            return value << (10 * Math.Max(0, unit));
        }

        argument.AddError($"'{text}' is no size. Use a whole number of bytes, KiB, MiB, GiB or TiB, like 64KiB.");
        return null;
    }

    /// <summary>A number with a unit: ms, s, m, h, d.</summary>
    public static bool TryParseDuration(string text, out TimeSpan duration)
    {
        (string Unit, double Seconds)[] units = [("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400)];
        foreach ((string unit, double seconds) in units)
        {
            if (text.EndsWith(unit, StringComparison.Ordinal) && double.TryParse(text.AsSpan(0, text.Length - unit.Length), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double number) && number * seconds < TimeSpan.MaxValue.TotalSeconds)
            {
                duration = TimeSpan.FromSeconds(number * seconds);
                return true;
            }
        }

        duration = default;
        return false;
    }

    public static Option<DateTimeOffset?> Moment(string name, string description) => new(name) { Description = description, HelpName = "TIME", CustomParser = ParseMoment };

    private static DateTimeOffset? ParseMoment(ArgumentResult argument)
    {
        string text = argument.Tokens[0].Value;
        if (TryParseMoment(text, out DateTimeOffset moment))
        {
            return moment;
        }

        argument.AddError($"'{text}' is no moment. Use one like 2030-01-31T08:00:00Z.");
        return null;
    }

    /// <summary>A moment as in ISO 8601; without a zone it is local time.</summary>
    public static bool TryParseMoment(string text, out DateTimeOffset moment) => DateTimeOffset.TryParse(text, CultureInfo.InvariantCulture, DateTimeStyles.AssumeLocal, out moment);

    public static Session Connect(string socket, TimeSpan patience, string name) => Session.Connect(new SessionOptions { Path = socket, Patience = patience, ClientName = name });

    /// <summary>Writes one JSON object and a line end to standard output.</summary>
    public static void PrintJson(Action<Utf8JsonWriter> write)
    {
        using Stream output = Console.OpenStandardOutput();
        using MemoryStream buffer = new();
        using (Utf8JsonWriter json = new(buffer))
        {
            write(json);
        }

        buffer.WriteByte((byte)'\n');
        output.Write(buffer.GetBuffer(), 0, (int)buffer.Length);
        output.Flush();
    }

    /// <summary>Writes the figures of a JSON object to standard output as a table, a row each; those of an object within it with its name before theirs.</summary>
    public static void PrintTable(JsonElement figures)
    {
        Table table = new Table().AddColumn("figure").AddColumn(new TableColumn("value").RightAligned());
        AddRows(table, figures, "");
        AnsiConsole.Write(table);
    }

    private static void AddRows(Table table, JsonElement element, string prefix)
    {
        foreach (JsonProperty property in element.EnumerateObject())
        {
            if (property.Value.ValueKind == JsonValueKind.Object)
            {
                AddRows(table, property.Value, prefix + property.Name + ".");
            }
            else
            {
                table.AddRow(Markup.Escape(prefix + property.Name), Markup.Escape(property.Value.ToString()));
            }
        }
    }
}

/// <summary>SIGTERM and SIGINT as a flag that loops look at.</summary>
internal sealed class StopSignal : IDisposable
{
    private readonly PosixSignalRegistration _terminate;
    private readonly PosixSignalRegistration _interrupt;
    private int _count;

    /// <param name="onFirst">Called at the first signal, on a thread of the runtime.</param>
    /// <param name="onSecond">Called at the second.</param>
    public StopSignal(Action? onFirst = null, Action? onSecond = null)
    {
        void Handle(PosixSignalContext context)
        {
            context.Cancel = true;
            if (Interlocked.Increment(ref _count) == 1)
            {
                onFirst?.Invoke();
            }
            else
            {
                onSecond?.Invoke();
            }
        }

        _terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Handle);
        _interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Handle);
    }

    public bool IsRaised => Volatile.Read(ref _count) > 0;

    public void Dispose()
    {
        _terminate.Dispose();
        _interrupt.Dispose();
    }
}

/// <summary>A bar on the terminal for what takes more than a second; nothing where standard error is not a terminal.</summary>
internal sealed class ProgressBar(string what, long total)
{
    private readonly long _start = Environment.TickCount64;
    private readonly bool _isTerminal = !Console.IsErrorRedirected;
    private long _next = 1000;
    private bool _drawn;

    /// <summary>Cheap enough to be called often; draws at most ten times a second.</summary>
    public void Report(long done)
    {
        long elapsed = Environment.TickCount64 - _start;
        if (!_isTerminal || elapsed < _next)
        {
            return;
        }

        _next = elapsed + 100;
        _drawn = true;
        const int Cells = 30;
        long rate = done * 1000 / Math.Max(1, elapsed);
        int filled = total > 0 ? (int)Math.Min(Cells, done * Cells / total) : (int)(elapsed / 100 % Cells);
        string bar = total > 0 ? new string('#', filled).PadRight(Cells, '-') : "#".PadLeft(filled + 1, '-').PadRight(Cells, '-');
        string share = total > 0 ? string.Create(CultureInfo.InvariantCulture, $" {done * 100 / total,3} %") : "";
        Console.Error.Write(string.Create(CultureInfo.InvariantCulture, $"\r{what} [{bar}]{share} {done:N0} ({rate:N0}/s)   "));
    }

    /// <summary>Takes the bar off the terminal.</summary>
    public void Clear()
    {
        if (_drawn)
        {
            Console.Error.Write("\r\u001b[K");
        }
    }
}
