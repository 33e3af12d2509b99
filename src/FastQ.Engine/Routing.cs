using System.Buffers;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using FastQ.Protocol;

namespace FastQ.Engine;

// Where a message to an exchange goes. The table of exchanges is part of the state; the search is not: which queues a message went to
// stands in its record, and a replay does not search.

/// <summary>An exchange as shown to people.</summary>
public readonly record struct ExchangeView(uint Id, string Name, ExchangeType Type, string Alternate, int Bindings, ulong Discarded);

/// <summary>A binding: of an exchange, to a queue or to another exchange.</summary>
/// <param name="Exchange">Name of the exchange.</param>
/// <param name="Target">Name of the queue, or of the other exchange.</param>
/// <param name="IsToExchange">Which of the two.</param>
/// <param name="Key">UTF-8, by convention; at most 255 bytes.</param>
/// <param name="Arguments">Headers that it names, as in a message.</param>
/// <param name="Match">How many of them a message must have.</param>
public readonly record struct BindingView(string Exchange, string Target, bool IsToExchange, ReadOnlyMemory<byte> Key, ReadOnlyMemory<byte> Arguments, HeaderMatch Match);

public sealed partial class QueueEngine
{
    private const int MostKept = 1024;
    private const int MostKeptTargets = 64 * 1024;
    private const int MostNamedCharacters = 40; // A refusal has room for so many, of any kind, and the words behind them.
    private readonly Dictionary<uint, Exchange> _exchanges = [];
    private readonly Dictionary<string, Exchange> _exchangesByName = new(StringComparer.Ordinal);
    private readonly Dictionary<uint, HashSet<Binding>> _bindingsTo = []; // By queue.
    private int _bindingCount;

    // ---- ephemeral

    private readonly Dictionary<byte[], Queue[]> _kept = new(ByteKeys.Comparer); // By exchange and key: searches done since the last change of the table.
    private readonly List<Queue> _reached = [];
    private readonly List<Binding> _matched = [];
    private readonly Queue<Exchange> _toSearch = new();
    private RoutedTarget[] _targets = new RoutedTarget[16];
    private int _keptTargets;
    private ulong _search;

    public IReadOnlyList<uint> ExchangeIds => [.. _exchangesByName.OrderBy(pair => pair.Key, StringComparer.Ordinal).Select(pair => pair.Value.Id)];

    public bool TryFindExchange(ReadOnlySpan<byte> name, out uint exchange)
    {
        bool found = _exchangesByName.TryGetValue(Encoding.UTF8.GetString(name), out Exchange? known);
        exchange = found ? known!.Id : 0;
        return found;
    }

    /// <summary>An exchange that is there.</summary>
    public ExchangeView ViewExchange(uint exchange)
    {
        Exchange e = _exchanges[exchange];
        return new ExchangeView(e.Id, Encoding.UTF8.GetString(e.Name), e.Type, e.Alternate, e.Count, e.Discarded);
    }

    /// <summary>The bindings of an exchange that is there, by target and key.</summary>
    public IReadOnlyList<BindingView> BindingsOf(uint exchange) =>
        [.. InOrder(_exchanges[exchange]).Select(b => new BindingView(Encoding.UTF8.GetString(b.From.Name), Encoding.UTF8.GetString(b.Queue?.Name ?? b.Exchange!.Name), b.Exchange is not null, b.Key, b.Arguments, b.Match))];

    /// <summary>Declares an exchange. One that exists with the same attributes is a success without a record.</summary>
    /// <param name="name">Of any origin.</param>
    /// <param name="type">Judged here.</param>
    /// <param name="alternate">Name of the exchange that gets what this one gives to nobody; it need not be there yet. Empty: none.</param>
    /// <param name="room">At least <see cref="MaxFactBytes"/>.</param>
    /// <param name="block">The open block.</param>
    /// <param name="written">Bytes written.</param>
    /// <param name="exchange">Its id.</param>
    /// <param name="isNew">It was made now.</param>
    public Decision DeclareExchange(ReadOnlySpan<byte> name, ExchangeType type, ReadOnlySpan<byte> alternate, Span<byte> room, ulong block, out int written, out uint exchange, out bool isNew)
    {
        (written, exchange, isNew) = (0, 0, false);
        if (!Names.IsValid(name) || !(alternate.IsEmpty || Names.IsValid(alternate)))
        {
            return Decision.Refuse(RefusalCode.BadName);
        }

        if (type > ExchangeType.Headers || name.SequenceEqual(alternate))
        {
            return Decision.Refuse(RefusalCode.BadArgument, 0, "The type is direct, topic, fanout or headers; the alternate is another exchange");
        }

        if (_exchangesByName.TryGetValue(Encoding.UTF8.GetString(name), out Exchange? existing))
        {
            exchange = existing.Id;
            string difference = existing.Type != type ? $"its type is {StateNames.NameOf(existing.Type)}, not {StateNames.NameOf(type)}" : existing.Alternate != Encoding.UTF8.GetString(alternate) ? $"its alternate is '{existing.Alternate}'" : "";
            return difference.Length == 0 ? Decision.Taken : Decision.Refuse(RefusalCode.QueueExists, 0, difference);
        }

        if (_exchanges.Count >= _limits.MaxExchanges || !_pages.HasRoom)
        {
            return Decision.Refuse(RefusalCode.LimitReached, (ulong)_limits.MaxExchanges, "Exchanges");
        }

        Span<byte> payload = stackalloc byte[MaxFactBytes - FactRecord.SizeBytes];
        FieldWriter fields = new(payload);
        fields.Bytes(FieldTag.Name, name);
        fields.Number(FieldTag.ExchangeType, (ulong)type);
        fields.Bytes(FieldTag.Alternate, alternate);
        Invariant.Holds(!fields.Overflowed);
        exchange = _nextQueue;
        isNew = true;
        written = Write(new FactRecord { Kind = RecordKind.ExchangeDeclared, Subject = exchange }, fields.Written, room, block);
        return Decision.Taken;
    }

    /// <summary>Deletes an exchange, with the bindings from and to it.</summary>
    public Decision DeleteExchange(uint exchange, Span<byte> room, ulong block, out int written)
    {
        bool isThere = _exchanges.ContainsKey(exchange);
        written = isThere ? Write(new FactRecord { Kind = RecordKind.ExchangeDeleted, Subject = exchange }, default, room, block) : 0;
        return isThere ? Decision.Taken : Decision.Refuse(RefusalCode.UnknownExchange);
    }

    /// <summary>Binds a queue, or an exchange, to an exchange; or ends that. What is so already is a success without a record.</summary>
    /// <param name="exchange">Its id.</param>
    /// <param name="target">Id of the queue, or of the other exchange.</param>
    /// <param name="key">At most 255 bytes.</param>
    /// <param name="arguments">Headers, as in a message: at most <see cref="Limits.MaxArgumentBytes"/>.</param>
    /// <param name="match">How many of them.</param>
    /// <param name="isBound">False: it is to end.</param>
    /// <param name="room">At least <see cref="MaxFactBytes"/>.</param>
    /// <param name="block">The open block.</param>
    /// <param name="written">Bytes written.</param>
    public Decision Bind(uint exchange, uint target, ReadOnlySpan<byte> key, ReadOnlySpan<byte> arguments, HeaderMatch match, bool isBound, Span<byte> room, ulong block, out int written)
    {
        written = 0;
        if (!_exchanges.TryGetValue(exchange, out Exchange? found))
        {
            return Decision.Refuse(RefusalCode.UnknownExchange);
        }

        if (key.Length > Limits.MaxNameBytes || arguments.Length > Limits.MaxArgumentBytes || match > HeaderMatch.Any || !HeaderArguments.AreValid(arguments))
        {
            return Decision.Refuse(RefusalCode.BadArgument, 0, $"A binding has a key of at most {Limits.MaxNameBytes} bytes and headers of at most {Limits.MaxArgumentBytes}");
        }

        if (!arguments.IsEmpty && found.Type != ExchangeType.Headers)
        {
            return Decision.Refuse(RefusalCode.BadArgument, 0, "Only an exchange of type headers looks at headers");
        }

        if (!TryMakeBinding(found, target, key, arguments, match, out Binding? binding))
        {
            return Unknown(target);
        }

        if (found.Has(binding) == isBound)
        {
            return Decision.Taken;
        }

        if (isBound && (_bindingCount >= _limits.MaxBindings || !_pages.HasRoom))
        {
            return _pages.HasRoom ? Decision.Refuse(RefusalCode.LimitReached, (ulong)_limits.MaxBindings, "Bindings") : Decision.Refuse(RefusalCode.LimitReached, (ulong)_limits.IndexBytes, "Bytes of memory for the indexes of all queues");
        }

        Span<byte> payload = stackalloc byte[MaxFactBytes - FactRecord.SizeBytes];
        FieldWriter fields = new(payload);
        fields.Bytes(FieldTag.RoutingKey, key);
        fields.Bytes(FieldTag.Arguments, arguments);
        fields.Number(FieldTag.Match, (ulong)match);
        Invariant.Holds(!fields.Overflowed);
        written = Write(new FactRecord { Kind = RecordKind.BindingChanged, Small = isBound ? (ushort)1 : (ushort)0, Subject = exchange, Count = target }, fields.Written, room, block);
        return Decision.Taken;
    }

    /// <summary>Chooses the queues of a message that was sent to an exchange, and judges whether each would take it. Changes nothing.</summary>
    /// <param name="message">A whole record; its lengths were judged. Its Queue is the exchange.</param>
    /// <param name="targets">Queues and the places that it gets there; none: it reaches none, and may. Until the next call.</param>
    public Decision Route(ReadOnlySpan<byte> message, out ReadOnlySpan<RoutedTarget> targets)
    {
        targets = default;
        MessageHeader header = MemoryMarshal.Read<MessageHeader>(message);
        if (header.NumberOrTimeMicros != _sourceNumber)
        {
            return OtherNumber(header.NumberOrTimeMicros);
        }

        if (!_exchanges.TryGetValue(header.Queue, out Exchange? exchange))
        {
            return Decision.Refuse(RefusalCode.UnknownExchange);
        }

        ReadOnlySpan<byte> properties = message.Slice(MessageHeader.SizeBytes, header.PropertyBytes);
        if (JudgeAddress(exchange, header, properties) is { IsTaken: false } wrong)
        {
            return wrong;
        }

        if (!TryReach(exchange, KeyIn(properties), properties, out ReadOnlySpan<Queue> queues))
        {
            return Decision.Refuse(RefusalCode.LimitReached, Limits.MaxFanout, "Queues that one message may reach (max-fanout)");
        }

        return queues.IsEmpty ? JudgeUnrouted(exchange, header) : JudgeAll(queues, message, header, out targets);
    }

    /// <summary>Is it one that may be sent to this exchange?</summary>
    private Decision JudgeAddress(Exchange exchange, in MessageHeader header, ReadOnlySpan<byte> properties)
    {
        if (header.BodyBytes > _limits.MaxMessageBytes)
        {
            return Decision.Refuse(RefusalCode.TooLarge, (ulong)_limits.MaxMessageBytes, "The broker's max-message-size");
        }

        bool isMeant = PropertyReader.AreValid(properties) && (!PropertyReader.TryFind(properties, PropertyTag.Exchange, out PropertyReader named) || named.Value.SequenceEqual(exchange.Name));
        return isMeant ? Decision.Taken : Decision.Refuse(RefusalCode.BadArgument, 0, "The message's properties are cut short, or name another exchange");
    }

    private static Decision JudgeUnrouted(Exchange exchange, in MessageHeader header) =>
        (header.Flags & MessageHeader.Optional) != 0 ? Decision.Taken : Decision.Refuse(RefusalCode.Unroutable, 0, $"Exchange {Shown(exchange.Name)}");

    /// <summary>Of one of several queues: which it is.</summary>
    private static Decision Naming(Queue queue, in Decision refusal) =>
        refusal with { Limit = refusal.Limit.Length > 0 ? $"Queue {Shown(queue.Name)}: {refusal.Limit}" : $"Queue {Shown(queue.Name)}" };

    /// <summary>Wishes that only a message to one queue can have.</summary>
    private static Decision JudgeWishOfRouted(in Wish wish) => !wish.ScheduleKey.IsEmpty || wish.Request is not null
        ? Decision.Refuse(RefusalCode.BadArgument, 0, "A request, and a message with a schedule key, goes to one queue: publish it there, not to an exchange")
        : Decision.Taken;

    /// <summary>Journals that the next number reached no queue. Bytes written.</summary>
    public int CountUnrouted(uint exchange, Span<byte> room, ulong block) => Write(new FactRecord { Kind = RecordKind.MessageUnrouted, Subject = exchange, First = _sourceNumber }, default, room, block);

    private static ReadOnlySpan<byte> KeyIn(ReadOnlySpan<byte> properties) => PropertyReader.TryFind(properties, PropertyTag.RoutingKey, out PropertyReader key) ? key.Value : default;

    /// <summary>Would each take it? A queue in which it is a duplicate is passed over; where it is one in all of them, it is one.</summary>
    private Decision JudgeAll(ReadOnlySpan<Queue> queues, ReadOnlySpan<byte> message, scoped in MessageHeader header, out ReadOnlySpan<RoutedTarget> targets)
    {
        targets = default;
        _targets = _targets.Length >= queues.Length ? _targets : new RoutedTarget[Limits.MaxFanout];
        int count = 0;
        int needy = 0;
        Decision duplicate = default;
        if (!TryReadWish(message, header, out Wish wish))
        {
            return Decision.Refuse(RefusalCode.BadArgument);
        }

        if (JudgeWishOfRouted(wish) is { IsTaken: false } single)
        {
            return single;
        }

        foreach (Queue queue in queues)
        {
            bool isPlain = wish.IsPlain && !queue.GivesTerms;
            MessageTerms terms = isPlain ? default : TermsOf(queue, header.Kind, wish);
            if ((terms.DedupKey | terms.UniqueKey) != 0 && JudgeSame(queue, terms) is { IsTaken: false } same)
            {
                duplicate = same;
                continue;
            }

            if (JudgePublish(queue, message, header, terms) is { IsTaken: false } beyond)
            {
                return Naming(queue, beyond);
            }

            needy += queue.Index.NeedsMemory || !isPlain ? 1 : 0;
            _targets[count++] = new RoutedTarget { Queue = queue.Id, Tag = queue.Index.NextTag };
        }

        if (count == 0)
        {
            return duplicate;
        }

        if (!_pages.HasRoomForPages(needy + 1))
        {
            return OutOfMemory();
        }

        targets = _targets.AsSpan(0, count);
        return Decision.Taken;
    }

    private static string Shown(byte[] name)
    {
        string text = Encoding.UTF8.GetString(name);
        return text.Length <= MostNamedCharacters ? text : $"{text.AsSpan(0, MostNamedCharacters)}...";
    }

    /// <summary>The queues that the bindings lead to, each once. False: they are too many.</summary>
    private bool TryReach(Exchange exchange, ReadOnlySpan<byte> key, ReadOnlySpan<byte> properties, out ReadOnlySpan<Queue> queues)
    {
        queues = default;
        if (key.Length > Limits.MaxNameBytes)
        {
            return true; // No binding has such a key.
        }

        Span<byte> kept = stackalloc byte[sizeof(uint) + Limits.MaxNameBytes];
        MemoryMarshal.Write(kept, exchange.Id);
        key.CopyTo(kept[sizeof(uint)..]);
        kept = kept[..(sizeof(uint) + key.Length)];
        if (_kept.GetAlternateLookup<ReadOnlySpan<byte>>().TryGetValue(kept, out Queue[]? found))
        {
            queues = found;
            return true;
        }

        if (!TrySearch(exchange, key, properties, out bool isOfHeaders))
        {
            return false;
        }

        queues = CollectionsMarshal.AsSpan(_reached);
        if (!isOfHeaders)
        {
            Keep(kept, queues);
        }

        return true;
    }

    private void Keep(ReadOnlySpan<byte> kept, ReadOnlySpan<Queue> queues)
    {
        if (_kept.Count == MostKept || _keptTargets + queues.Length > MostKeptTargets)
        {
            ForgetSearches();
        }

        _kept[kept.ToArray()] = queues.ToArray();
        _keptTargets += queues.Length;
    }

    /// <summary>Exchanges, bindings or queues have changed.</summary>
    private void NoteNewRoutes()
    {
        ForgetSearches();
        TryAsideAgain();
    }

    private void ForgetSearches()
    {
        _kept.Clear();
        _keptTargets = 0;
    }

    private bool TrySearch(Exchange first, ReadOnlySpan<byte> key, ReadOnlySpan<byte> properties, out bool isOfHeaders)
    {
        isOfHeaders = false;
        _search++;
        _reached.Clear();
        _toSearch.Clear();
        Visit(first);
        while (_toSearch.TryDequeue(out Exchange? exchange))
        {
            isOfHeaders |= exchange.Type == ExchangeType.Headers;
            _matched.Clear();
            exchange.Match(key, properties, _matched);
            if (_matched.Count == 0 && exchange.Alternate.Length > 0 && _exchangesByName.TryGetValue(exchange.Alternate, out Exchange? alternate))
            {
                Visit(alternate);
            }

            foreach (Binding binding in _matched)
            {
                if (binding.Exchange is Exchange next)
                {
                    Visit(next);
                }
                else if (binding.Queue!.ReachedBy != _search)
                {
                    binding.Queue.ReachedBy = _search;
                    _reached.Add(binding.Queue);
                    if (_reached.Count > Limits.MaxFanout)
                    {
                        return false;
                    }
                }
            }
        }

        return true;
    }

    private void Visit(Exchange exchange)
    {
        if (exchange.ReachedBy != _search)
        {
            exchange.ReachedBy = _search;
            _toSearch.Enqueue(exchange);
        }
    }

    private bool TryMakeBinding(Exchange from, uint target, ReadOnlySpan<byte> key, ReadOnlySpan<byte> arguments, HeaderMatch match, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out Binding? binding)
    {
        Queue? queue = FindQueue(target);
        Exchange? exchange = queue is null ? _exchanges.GetValueOrDefault(target) : null;
        binding = queue is null && exchange is null ? null : new Binding(from, queue, exchange, key.ToArray(), arguments.ToArray(), match);
        return binding is not null;
    }

    private bool ApplyExchangeDeclared(in FactRecord fact, ReadOnlySpan<byte> payload)
    {
        if (!FieldReader.TryBytes(payload, FieldTag.Name, out ReadOnlySpan<byte> name) || !FieldReader.TryNumber(payload, FieldTag.ExchangeType, out ulong type) || !FieldReader.TryBytes(payload, FieldTag.Alternate, out ReadOnlySpan<byte> alternate)
            || fact.Subject < _nextQueue || fact.Subject == uint.MaxValue || !TryAddExchange(fact.Subject, name, type, alternate, out _))
        {
            return false;
        }

        _nextQueue = fact.Subject + 1;
        return true;
    }

    private bool TryAddExchange(uint id, ReadOnlySpan<byte> name, ulong type, ReadOnlySpan<byte> alternate, out Exchange exchange)
    {
        exchange = new Exchange(id, name.ToArray(), (ExchangeType)Math.Min(type, byte.MaxValue), Encoding.UTF8.GetString(alternate));
        if (!Names.IsValid(name) || !(alternate.IsEmpty || Names.IsValid(alternate)) || type > (ulong)ExchangeType.Headers || _queues.ContainsKey(id) || _exchanges.ContainsKey(id) || !_exchangesByName.TryAdd(Encoding.UTF8.GetString(name), exchange))
        {
            return false;
        }

        _exchanges.Add(id, exchange);
        _pages.Charge(BytesOf(exchange));
        NoteNewRoutes(); // It may be the alternate of others.
        return true;
    }

    private static long BytesOf(Exchange exchange) => 1024 + exchange.Name.Length + exchange.Alternate.Length * sizeof(char);

    private bool ApplyExchangeDeleted(Exchange exchange)
    {
        foreach (Binding binding in exchange.Bindings.Concat(exchange.To).ToArray())
        {
            if (binding.From.Has(binding)) // One from itself to itself stands in both.
            {
                RemoveBinding(binding);
            }
        }

        _exchanges.Remove(exchange.Id);
        _exchangesByName.Remove(Encoding.UTF8.GetString(exchange.Name));
        _pages.Charge(-BytesOf(exchange));
        NoteNewRoutes();
        return true;
    }

    private bool ApplyBinding(Exchange exchange, in FactRecord fact, ReadOnlySpan<byte> payload)
    {
        if (!FieldReader.TryBytes(payload, FieldTag.RoutingKey, out ReadOnlySpan<byte> key) || !FieldReader.TryBytes(payload, FieldTag.Arguments, out ReadOnlySpan<byte> arguments) || !FieldReader.TryNumber(payload, FieldTag.Match, out ulong match))
        {
            return false;
        }

        return TryChangeBinding(exchange, fact.Count, key, arguments, match, isBound: fact.Small == 1);
    }

    private bool TryChangeBinding(Exchange exchange, uint target, ReadOnlySpan<byte> key, ReadOnlySpan<byte> arguments, ulong match, bool isBound)
    {
        if (key.Length > Limits.MaxNameBytes || arguments.Length > Limits.MaxArgumentBytes || match > (ulong)HeaderMatch.Any || !HeaderArguments.AreValid(arguments) || !TryMakeBinding(exchange, target, key, arguments, (HeaderMatch)match, out Binding? binding) || exchange.Has(binding) == isBound)
        {
            return false;
        }

        if (isBound)
        {
            AddBinding(binding);
        }
        else
        {
            RemoveBinding(exchange.Find(binding));
        }

        return true;
    }

    private void AddBinding(Binding binding)
    {
        binding.From.Add(binding);
        TargetsOf(binding).Add(binding);
        _bindingCount++;
        _pages.Charge(binding.Bytes);
        NoteNewRoutes();
    }

    private void RemoveBinding(Binding binding)
    {
        binding.From.Remove(binding);
        HashSet<Binding> to = TargetsOf(binding);
        to.Remove(binding);
        if (to.Count == 0 && binding.Queue is Queue queue)
        {
            _bindingsTo.Remove(queue.Id);
        }

        _bindingCount--;
        _pages.Charge(-binding.Bytes);
        NoteNewRoutes();
    }

    /// <summary>The bindings that lead to the same queue or exchange.</summary>
    private HashSet<Binding> TargetsOf(Binding binding)
    {
        if (binding.Exchange is Exchange exchange)
        {
            return exchange.To;
        }

        if (!_bindingsTo.TryGetValue(binding.Target, out HashSet<Binding>? to))
        {
            _bindingsTo.Add(binding.Target, to = []);
        }

        return to;
    }

    /// <summary>A queue is gone, and its bindings with it.</summary>
    private void UnbindAllTo(uint queue)
    {
        foreach (Binding binding in _bindingsTo.GetValueOrDefault(queue)?.ToArray() ?? [])
        {
            RemoveBinding(binding);
        }
    }

    private bool ApplyUnrouted(in FactRecord fact)
    {
        CountNumber();
        if (!_exchanges.TryGetValue(fact.Subject, out Exchange? exchange) || _source is null || fact.First != _source.Last)
        {
            return false;
        }

        exchange.Discarded++;
        return true;
    }

    // ---- snapshot

    private static IEnumerable<Binding> InOrder(Exchange exchange) => exchange.Bindings.OrderBy(binding => binding.Target).ThenBy(binding => Convert.ToHexString(binding.Identity), StringComparer.Ordinal);

    /// <summary>| count | id, type, discarded | length, name | length, alternate | ... | count of bindings | exchange, target, match | length, key | length, arguments | ... |</summary>
    private void SaveExchanges(IBufferWriter<byte> to)
    {
        Number(to, (ulong)_exchanges.Count);
        foreach (Exchange exchange in _exchanges.Values.OrderBy(exchange => exchange.Id))
        {
            Number(to, exchange.Id);
            Number(to, (ulong)exchange.Type);
            Number(to, exchange.Discarded);
            SaveBytes(to, exchange.Name);
            SaveBytes(to, Encoding.UTF8.GetBytes(exchange.Alternate));
        }

        Number(to, (ulong)_bindingCount);
        foreach (Binding binding in _exchanges.Values.SelectMany(exchange => exchange.Bindings)) // Sorting them would take most of the time of a large table.
        {
            Number(to, binding.From.Id);
            Number(to, binding.Target);
            Number(to, (ulong)binding.Match);
            SaveBytes(to, binding.Key);
            SaveBytes(to, binding.Arguments);
        }
    }

    private static void SaveBytes(IBufferWriter<byte> to, byte[] bytes)
    {
        Number(to, (ulong)bytes.Length);
        to.Write(bytes);
    }

    private bool LoadExchanges(Loader loader)
    {
        ulong count = loader.Number();
        for (ulong i = 0; i < count && !loader.HasFailed; i++)
        {
            (ulong id, ulong type, ulong discarded) = (loader.Number(), loader.Number(), loader.Number());
            if (id == 0 || id >= _nextQueue || !TryBytes(loader, Limits.MaxNameBytes, out byte[] name) || !TryBytes(loader, Limits.MaxNameBytes, out byte[] alternate) || !TryAddExchange((uint)id, name, type, alternate, out Exchange exchange))
            {
                return false;
            }

            exchange.Discarded = discarded;
        }

        count = loader.Number();
        for (ulong i = 0; i < count && !loader.HasFailed; i++)
        {
            (ulong from, ulong target, ulong match) = (loader.Number(), loader.Number(), loader.Number());
            if (from > uint.MaxValue || target > uint.MaxValue || !_exchanges.TryGetValue((uint)from, out Exchange? exchange) || !TryBytes(loader, Limits.MaxNameBytes, out byte[] key) || !TryBytes(loader, Limits.MaxArgumentBytes, out byte[] arguments)
                || !TryChangeBinding(exchange, (uint)target, key, arguments, match, isBound: true))
            {
                return false;
            }
        }

        return !loader.HasFailed;
    }

    private static bool TryBytes(Loader loader, int most, out byte[] bytes)
    {
        ulong length = loader.Number();
        bytes = new byte[Math.Min(length, (ulong)most)];
        loader.Bytes(bytes);
        return length <= (ulong)most && !loader.HasFailed;
    }

    private void DumpExchanges(TextWriter to)
    {
        foreach (Exchange e in _exchanges.Values.OrderBy(e => e.Id))
        {
            to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"exchange {e.Id} {Encoding.UTF8.GetString(e.Name)} {e.Type} alternate '{e.Alternate}' discarded {e.Discarded}"));
            foreach (Binding b in InOrder(e))
            {
                to.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  to {b.Target} key {Convert.ToHexString(b.Key)} {b.Match} {Convert.ToHexString(b.Arguments)}"));
            }
        }
    }

    /// <summary>Each binding stands with its exchange and with its target, and both are there.</summary>
    private void CheckBindings()
    {
        Binding[] all = [.. _exchanges.Values.SelectMany(exchange => exchange.Bindings)];
        Invariant.Holds(all.Length == _bindingCount && all.Length == _bindingsTo.Values.Sum(to => to.Count) + _exchanges.Values.Sum(exchange => exchange.To.Count));
        Invariant.Holds(all.All(binding => TargetsOf(binding).Contains(binding) && (binding.Queue is { IsDeleted: false } || (binding.Exchange is Exchange to && _exchanges.ContainsKey(to.Id)))));
    }
}
