using System.Globalization;
using System.Runtime.InteropServices;
using FastQ.Engine;
using FastQ.Protocol;

namespace FastQ.Broker;

// Messages looked at in their places: nothing is taken, nothing is counted; of the command its end is journaled, as of any.

public sealed partial class Broker
{
    private const int MostBrowsed = 32; // Each is read from the file within the turn.
    private const int MostSearched = 128; // So many are looked at, where not all are shown.
    private const int MostShownBytes = 8 * 1024;
    private const int MostNameCharacters = 200; // Of a client, which may call itself what it likes.

    private void Browse(Session session, in CommandRecord command, ReadOnlySpan<byte> fields)
    {
        uint queue = IdIn(fields, FieldTag.Queue);
        if (!_engine.IsQueue(queue))
        {
            Answer(session, command, Decision.Refuse(RefusalCode.UnknownQueue), "", static (ref FieldWriter _) => { });
            return;
        }

        if (!MessageFilter.TryParse(TextIn(fields, FieldTag.Filter), out MessageFilter filter, out string fault))
        {
            Answer(session, command, Decision.Refuse(RefusalCode.BadArgument), fault, static (ref FieldWriter _) => { });
            return;
        }

        FieldReader.TryNumber(fields, FieldTag.Tag, out ulong first);
        int most = FieldReader.TryNumber(fields, FieldTag.Most, out ulong wanted) ? (int)Math.Clamp(wanted, 1, MostBrowsed) : MostBrowsed;
        IReadOnlyList<MessageView> messages = _engine.Browse(queue, first, filter.IsAll ? most : MostSearched, out ulong next);
        foreach (MessageView message in messages.Where(message => IsMeant(filter, queue, message)))
        {
            byte[] room = new byte[MostShownBytes * 2 + 1024];
            FieldWriter writer = new(room);
            WriteMessage(ref writer, queue, message);
            Invariant.Holds(!writer.Overflowed);
            session.Answers.Enqueue(AnswerBytes(command, Decision.Taken, AnswerRecord.More, writer.Written));
        }

        Answer(session, command, Decision.Taken, "", (ref FieldWriter writer) => writer.Number(FieldTag.Tag, next));
    }

    private bool IsMeant(MessageFilter filter, uint queue, in MessageView message) =>
        filter.IsAll || (TryReadRecord(message.Place, queue, message.Tag, out byte[] record) && filter.Matches(message, record, _now));

    private void WriteMessage(ref FieldWriter writer, uint queue, in MessageView message)
    {
        writer.Number(FieldTag.Tag, message.Tag);
        writer.Number(FieldTag.Deliveries, (ulong)message.Deliveries);
        if (message.Subscription != 0)
        {
            writer.Number(FieldTag.Subscription, message.Subscription);
            writer.Text(FieldTag.Owner, OwnerOf(message.Subscription));
            writer.Number(FieldTag.LeaseLeftMilliseconds, (ulong)Math.Max(0, (message.LeaseEndMicros - _now.IntervalMicros) / 1000));
        }

        if (message.State == MessageState.Delayed)
        {
            writer.Number(FieldTag.DueMicros, (ulong)(_now.WallMicros + message.DueMicros - _now.IntervalMicros));
        }

        if (message.WaitsFor is string limit)
        {
            writer.Text(FieldTag.WaitsFor, limit);
        }

        if (message.IsBehind)
        {
            writer.Number(FieldTag.Behind, 1);
        }

        if (message.State == MessageState.DeadLettering)
        {
            writer.Number(FieldTag.Reason, (ulong)message.Reason);
            writer.Number(FieldTag.Stopped, message.IsStopped ? 1u : 0u);
        }

        if (message.Release != ReleaseReason.None)
        {
            writer.Number(FieldTag.ReleaseReason, (ulong)message.Release);
        }

        // The check does not cover how long the properties are.
        bool isSound = TryReadRecord(message.Place, queue, message.Tag, out byte[] record) && MemoryMarshal.Read<MessageHeader>(record).PropertyBytes <= record.Length - MessageHeader.SizeBytes;
        if (message.State == MessageState.Damaged || !isSound)
        {
            writer.Number(FieldTag.State, (ulong)MessageState.Damaged);
            writer.Number(FieldTag.BodyBytes, message.Place.LengthBytes - MessageHeader.SizeBytes);
            return;
        }

        MessageHeader header = MemoryMarshal.Read<MessageHeader>(record);
        ReadOnlySpan<byte> properties = record.AsSpan(MessageHeader.SizeBytes, header.PropertyBytes);
        ReadOnlySpan<byte> body = record.AsSpan(MessageHeader.SizeBytes + header.PropertyBytes);
        writer.Number(FieldTag.State, (ulong)message.State);
        writer.Number(FieldTag.TimeMicros, header.NumberOrTimeMicros);
        writer.Number(FieldTag.BodyBytes, (ulong)body.Length);
        writer.Bytes(FieldTag.Body, body[..Math.Min(body.Length, MostShownBytes)]);
        if (properties.Length <= MostShownBytes)
        {
            writer.Bytes(FieldTag.Properties, properties);
        }
    }

    private string OwnerOf(uint subscription) =>
        _bySubscription.TryGetValue(subscription, out Session? session) ? string.Create(CultureInfo.InvariantCulture, $"{session.Name.AsSpan(0, Math.Min(session.Name.Length, MostNameCharacters))} (process {session.Peer.ProcessId})") : "";
}
