using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using FastQ.Client;

namespace FastQ.Server;

/// <summary>fastq reply: answers each request with what a command prints.</summary>
internal static class ReplyCommand
{
    private const int MostErrorBytes = 4096;

    public static Command Create()
    {
        Argument<string> queue = Shared.Queue();
        Option<string> exec = new("--exec") { Description = "Run by /bin/sh for each request: the body is its standard input, its standard output is the reply. Its exit code is not 0: the request fails, with what it said on standard error.", HelpName = "COMMAND", Required = true };
        Option<int> parallel = Shared.Within(new Option<int>("--parallel") { Description = "So many at once.", DefaultValueFactory = _ => 1, HelpName = "N" }, 1, 1024);
        Option<long> max = Shared.Within(new Option<long>("--max") { Description = "End after so many requests; else at SIGTERM or Ctrl-C.", DefaultValueFactory = _ => long.MaxValue, HelpName = "N" }, 1, long.MaxValue);
        (Option<string> socket, Option<TimeSpan> patience) = (Shared.Socket(), Shared.Patience());
        Command command = new("reply", "Answer the requests of a queue with a command; rides out restarts of the broker.\n\nExamples:\n  fastq reply upper --exec 'tr a-z A-Z'\n  fastq reply prices --exec ./price --parallel 4")
        {
            queue, exec, parallel, max, socket, patience,
        };
        command.SetAction((parsed, cancellation) => RunAsync(
            parsed.GetRequiredValue(queue),
            parsed.GetRequiredValue(exec),
            parsed.GetValue(parallel),
            parsed.GetValue(max),
            new SessionOptions { Path = parsed.GetRequiredValue(socket), Patience = parsed.GetValue(patience), ClientName = "fastq reply" },
            cancellation));
        return command;
    }

    private static async Task<int> RunAsync(string queue, string command, int parallel, long max, SessionOptions options, CancellationToken cancellation)
    {
        Connection connection = await Connection.ConnectAsync(options, cancellation: cancellation).ConfigureAwait(false);
        await using (connection.ConfigureAwait(false))
        {
            Subscriber subscriber = await connection.SubscribeAsync(queue, new SubscribeOptions { Credit = (int)Math.Min(parallel, max) }, cancellation).ConfigureAwait(false);
            await using (((IAsyncDisposable)subscriber).ConfigureAwait(false))
            {
                using CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
                using StopSignal signal = new(stop.Cancel);
                Answering answering = new(subscriber, command, max);
                await Task.WhenAll(Enumerable.Range(0, parallel).Select(_ => answering.WorkAsync(stop))).ConfigureAwait(false);
                await Console.Error.WriteLineAsync(string.Create(CultureInfo.InvariantCulture, $"{answering.Answered} answered, {answering.Failed} of them with an error")).ConfigureAwait(false);
            }
        }

        return 0;
    }

    /// <summary>Takes requests and answers them until it is told to stop; what was begun is finished.</summary>
    private sealed class Answering(Subscriber subscriber, string command, long max)
    {
        private long _begun;
        private long _answered;
        private long _failed;

        public long Answered => _answered;

        public long Failed => _failed;

        public async Task WorkAsync(CancellationTokenSource stop)
        {
            while (Interlocked.Increment(ref _begun) <= max && await TakeAsync(stop.Token).ConfigureAwait(false) is Message request)
            {
                await AnswerAsync(request).ConfigureAwait(false);
                if (Interlocked.Increment(ref _answered) == max)
                {
                    await stop.CancelAsync().ConfigureAwait(false);
                }
            }
        }

        private async ValueTask<Message?> TakeAsync(CancellationToken stop)
        {
            try
            {
                return await subscriber.ReceiveAsync(Timeout.InfiniteTimeSpan, stop).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                return null;
            }
        }

        private async Task AnswerAsync(Message request)
        {
            if (!request.IsRequest)
            {
                await request.RejectAsync("It has no reply-to, so there is nobody to answer.").ConfigureAwait(false);
                Interlocked.Increment(ref _failed);
                return;
            }

            using CancellationTokenSource done = new();
            Task lease = KeepAsync(request, done.Token);
            (int code, byte[] output, string error) = await ExecuteAsync(request.Body).ConfigureAwait(false);
            await done.CancelAsync().ConfigureAwait(false);
            await lease.ConfigureAwait(false);
            try
            {
                _ = code == 0
                    ? await request.ReplyAsync(output).ConfigureAwait(false)
                    : await request.ReplyErrorAsync(string.Create(CultureInfo.InvariantCulture, $"exit-{code}"), error).ConfigureAwait(false);
            }
            catch (FastQException late) when (late.Code is FastQ.Protocol.RefusalCode.LeaseLost or FastQ.Protocol.RefusalCode.AlreadySettled)
            {
                await Console.Error.WriteLineAsync($"fastq: a reply came too late: {late.Message}").ConfigureAwait(false);
            }

            if (code != 0)
            {
                Interlocked.Increment(ref _failed);
            }
        }

        /// <summary>A command may take longer than the lease.</summary>
        private async Task KeepAsync(Message request, CancellationToken done)
        {
            try
            {
                while (true)
                {
                    await Task.Delay(subscriber.Lease / 2, done).ConfigureAwait(false);
                    await request.ExtendAsync(subscriber.Lease, cancellation: done).ConfigureAwait(false);
                }
            }
            catch (OperationCanceledException)
            {
                // It is done.
            }
            catch (FastQException)
            {
                // The lease is lost: so the reply will say.
            }
        }

        private async Task<(int Code, byte[] Output, string Error)> ExecuteAsync(ReadOnlyMemory<byte> body)
        {
            ProcessStartInfo start = new("/bin/sh", ["-c", command]) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true, StandardErrorEncoding = new UTF8Encoding(false) };
            using Process process = Process.Start(start)!;
            using MemoryStream output = new();
            Task writing = FeedAsync(process, body);
            Task<string> said = process.StandardError.ReadToEndAsync();
            await process.StandardOutput.BaseStream.CopyToAsync(output).ConfigureAwait(false);
            await writing.ConfigureAwait(false);
            string error = (await said.ConfigureAwait(false)).Trim();
            await process.WaitForExitAsync().ConfigureAwait(false);
            return (process.ExitCode, output.ToArray(), error.Length > MostErrorBytes ? error[..MostErrorBytes] : error);
        }

        private static async Task FeedAsync(Process process, ReadOnlyMemory<byte> body)
        {
            try
            {
                await process.StandardInput.BaseStream.WriteAsync(body).ConfigureAwait(false);
                process.StandardInput.Close();
            }
            catch (IOException)
            {
                // The command does not read all of it.
            }
        }
    }
}
