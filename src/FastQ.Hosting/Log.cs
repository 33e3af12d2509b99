using FastQ.Client;
using Microsoft.Extensions.Logging;

namespace FastQ.Hosting;

/// <summary>All that is logged. Written by the compiler's generator: nothing is built for a level that nobody wants.</summary>
internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Information, "Connected to the broker at {Path}")]
    public static partial void Connected(ILogger logger, string path);

    [LoggerMessage(2, LogLevel.Warning, "The broker refused something")]
    public static partial void Refused(ILogger logger, FastQException refusal);

    [LoggerMessage(3, LogLevel.Information, "Takes messages of queue {Queue}, {Parallelism} at once")]
    public static partial void Started(ILogger logger, string queue, int parallelism);

    [LoggerMessage(4, LogLevel.Information, "Takes no more messages of queue {Queue}: {Accepted} accepted, {Released} released, {Rejected} rejected, {LeasesLost} leases lost")]
    public static partial void Stopped(ILogger logger, string queue, long accepted, long released, long rejected, long leasesLost);

    [LoggerMessage(5, LogLevel.Warning, "Message {Tag} of queue {Queue} failed at delivery {DeliveryCount} and comes again")]
    public static partial void Released(ILogger logger, ulong tag, string queue, int deliveryCount, Exception exception);

    [LoggerMessage(6, LogLevel.Error, "Message {Tag} of queue {Queue} failed for good at delivery {DeliveryCount} and went to the dead letters")]
    public static partial void Rejected(ILogger logger, ulong tag, string queue, int deliveryCount, Exception exception);

    [LoggerMessage(7, LogLevel.Warning, "Message {Tag} of queue {Queue} went to somebody else: the lease of delivery {DeliveryCount} was lost")]
    public static partial void LeaseLost(ILogger logger, ulong tag, string queue, int deliveryCount, Exception exception);

    [LoggerMessage(8, LogLevel.Critical, "The consumer of queue {Queue} has ended by itself; the host stops")]
    public static partial void Faulted(ILogger logger, string queue, Exception exception);
}
