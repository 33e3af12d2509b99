using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;

namespace FastQ.Hosting;

/// <summary>Keeps what is logged.</summary>
public sealed class CollectedLog : ILoggerProvider
{
    private readonly ConcurrentQueue<(LogLevel Level, string Text, Exception? Exception)> _lines = [];

    public IReadOnlyCollection<(LogLevel Level, string Text, Exception? Exception)> Lines => [.. _lines];

    public ILogger CreateLogger(string categoryName) => new Logger(categoryName.StartsWith("FastQ.", StringComparison.Ordinal) ? _lines : []);

    public void Dispose()
    {
    }

    private sealed class Logger(ConcurrentQueue<(LogLevel, string, Exception?)> lines) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) => lines.Enqueue((logLevel, formatter(state, exception), exception));
    }
}
