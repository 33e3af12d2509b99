using System.Text;
using FastQ.Protocol;

namespace FastQ.Client;

// A ledger for consumers that must do each thing once: what was processed is marked, in one step with the accept, and whoever meets it again asks.

/// <summary>What became of marking something as processed.</summary>
/// <param name="IsFirst">Nobody had marked it before. After a reconnect in the middle it may be this program itself that had.</param>
/// <param name="Result">Of the first who marked it: what counts, whatever was found this time.</param>
/// <param name="WasLate">The lease had ended, or the message was settled before: it is marked all the same, and whoever has it now can know.</param>
public sealed record ProcessedInfo(bool IsFirst, ReadOnlyMemory<byte> Result, bool WasLate);

public sealed unsafe partial class Session
{
    /// <summary>Accepts a delivery and marks a key of its queue as processed, in one step. A second mark of a key changes nothing, and tells the result of the first. Waits until a kill of the broker cannot undo it.</summary>
    /// <param name="delivery">In hand, or lost meanwhile.</param>
    /// <param name="key">1 to 255 bytes of UTF-8; remembered for <see cref="QueueOptions.ProcessedWindow"/>.</param>
    /// <param name="result">At most <see cref="Limits.MaxResultBytes"/>.</param>
    /// <exception cref="FastQException">The queue remembers nothing, has no memory left for it, or key or result are too long: nothing has happened.</exception>
    public ProcessedInfo AcceptProcessed(in Delivery delivery, string key, ReadOnlySpan<byte> result = default) => AcceptProcessed(delivery.Subscription, delivery.Number, delivery.Life, key, result.ToArray());

    internal ProcessedInfo AcceptProcessed(Subscription subscription, ulong number, uint life, string key, ReadOnlyMemory<byte> result)
    {
        FlushAllSettles();
        byte[] answer = Ask(CommandKind.AcceptProcessed, (ref FieldWriter writer) =>
        {
            writer.Number(FieldTag.Queue, subscription.Queue);
            writer.Number(FieldTag.Subscription, subscription.IsOpen(number, life) ? subscription.Id : 0);
            writer.Number(FieldTag.FirstDelivery, number);
            writer.Text(FieldTag.ProcessedKey, key);
            writer.Bytes(FieldTag.ProcessedResult, result.Span);
        })[0];
        subscription.TakeOutOfHand(number, life);
        return new ProcessedInfo(Connector.Number(answer, FieldTag.Created) != 0, ResultIn(answer) ?? default, Connector.Number(answer, FieldTag.Late) != 0);
    }

    /// <summary>The result with which a key of a queue was marked as processed; null: it was not, or longer ago than the queue remembers.</summary>
    /// <param name="queue">Its name.</param>
    /// <param name="key">1 to 255 bytes of UTF-8.</param>
    public ReadOnlyMemory<byte>? FindProcessed(string queue, string key) => FindProcessed(GetQueue(queue).Id, key);

    internal ReadOnlyMemory<byte>? FindProcessed(uint queue, string key) => ResultIn(Ask(CommandKind.FindProcessed, (ref FieldWriter writer) =>
    {
        writer.Number(FieldTag.Queue, queue);
        writer.Text(FieldTag.ProcessedKey, key);
    })[0]);

    private static ReadOnlyMemory<byte>? ResultIn(byte[] answer) => FieldReader.TryBytes(answer, FieldTag.ProcessedResult, out ReadOnlySpan<byte> result) ? result.ToArray() : (ReadOnlyMemory<byte>?)null;
}
