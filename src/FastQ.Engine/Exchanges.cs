using System.Buffers.Binary;
using System.IO.Hashing;
using FastQ.Protocol;

namespace FastQ.Engine;

// Exchanges and their bindings, and how a message finds the bindings that it fits:
//
//   direct: a table by key      topic: a tree of words      fanout: all      headers: one after the other
//
// Names of exchanges and of queues are apart: both may have the same. Their ids are not: they come from one counter.

/// <summary>An exchange.</summary>
internal sealed class Exchange(uint id, byte[] name, ExchangeType type, string alternate)
{
    private readonly Dictionary<byte[], Binding> _bindings = new(ByteKeys.Comparer);
    private readonly Dictionary<byte[], List<Binding>> _byKey = new(ByteKeys.Comparer);
    private readonly List<Binding> _all = [];
    private readonly TopicTree _topics = new();

    public uint Id => id;

    public byte[] Name => name;

    public ExchangeType Type => type;

    /// <summary>Name of the exchange that gets what this one gives to nobody; empty: none.</summary>
    public string Alternate => alternate;

    /// <summary>Messages that came to it and reached no queue.</summary>
    public ulong Discarded { get; set; }

    public int Count => _bindings.Count;

    public IEnumerable<Binding> Bindings => _bindings.Values;

    /// <summary>Bindings of other exchanges to this one.</summary>
    public HashSet<Binding> To { get; } = [];

    public bool Has(Binding binding) => _bindings.ContainsKey(binding.Identity);

    /// <summary>The binding that is the same as this one.</summary>
    public Binding Find(Binding like) => _bindings[like.Identity];

    public void Add(Binding binding)
    {
        _bindings.Add(binding.Identity, binding);
        switch (type)
        {
            case ExchangeType.Direct:
                if (!_byKey.TryGetValue(binding.Key, out List<Binding>? same))
                {
                    _byKey.Add(binding.Key, same = []);
                }

                same.Add(binding);
                break;
            case ExchangeType.Topic:
                _topics.Add(binding);
                break;
            default:
                _all.Add(binding);
                break;
        }
    }

    public void Remove(Binding binding)
    {
        _bindings.Remove(binding.Identity);
        switch (type)
        {
            case ExchangeType.Direct:
                List<Binding> same = _byKey[binding.Key];
                same.Remove(binding);
                if (same.Count == 0)
                {
                    _byKey.Remove(binding.Key);
                }

                break;
            case ExchangeType.Topic:
                _topics.Remove(binding);
                break;
            default:
                _all.Remove(binding);
                break;
        }
    }

    /// <summary>Adds the bindings that a message fits.</summary>
    public void Match(ReadOnlySpan<byte> key, ReadOnlySpan<byte> properties, List<Binding> to)
    {
        switch (type)
        {
            case ExchangeType.Direct:
                if (_byKey.GetAlternateLookup<ReadOnlySpan<byte>>().TryGetValue(key, out List<Binding>? same))
                {
                    to.AddRange(same);
                }

                break;
            case ExchangeType.Topic:
                _topics.Match(key, to);
                break;
            case ExchangeType.Fanout:
                to.AddRange(_all);
                break;
            default:
                foreach (Binding binding in _all)
                {
                    if (HeaderArguments.Fit(binding.Arguments, binding.Match, properties))
                    {
                        to.Add(binding);
                    }
                }

                break;
        }
    }

    // ---- ephemeral

    /// <summary>The last search that came by.</summary>
    public ulong ReachedBy { get; set; }
}

/// <summary>An exchange gives what fits to a queue, or to another exchange. Two of one exchange with the same target, key, arguments and match are one.</summary>
internal sealed class Binding(Exchange from, Queue? queue, Exchange? exchange, byte[] key, byte[] arguments, HeaderMatch match)
{
    /// <summary>What it takes in memory beside key and arguments, about.</summary>
    private const int OverheadBytes = 400;

    public Exchange From => from;

    public Queue? Queue => queue;

    public Exchange? Exchange => exchange;

    public byte[] Key => key;

    /// <summary>Headers, as in a message.</summary>
    public byte[] Arguments => arguments;

    public HeaderMatch Match => match;

    public uint Target => queue?.Id ?? exchange!.Id;

    public long Bytes => OverheadBytes + 2 * key.Length + 2 * arguments.Length;

    /// <summary>What makes it the binding that it is.</summary>
    public byte[] Identity { get; } = IdentityOf(queue?.Id ?? exchange!.Id, key, arguments, match);

    private static byte[] IdentityOf(uint target, byte[] key, byte[] arguments, HeaderMatch match)
    {
        byte[] identity = new byte[sizeof(uint) + 2 + key.Length + arguments.Length];
        BinaryPrimitives.WriteUInt32LittleEndian(identity, target);
        (identity[4], identity[5]) = ((byte)match, (byte)key.Length);
        key.CopyTo(identity, 6);
        arguments.CopyTo(identity, 6 + key.Length);
        return identity;
    }
}

/// <summary>Keys of dictionaries that are bytes, and are looked for by spans.</summary>
internal sealed class ByteKeys : IEqualityComparer<byte[]>, IAlternateEqualityComparer<ReadOnlySpan<byte>, byte[]>
{
    public static ByteKeys Comparer { get; } = new();

    public bool Equals(byte[]? x, byte[]? y) => x.AsSpan().SequenceEqual(y);

    public int GetHashCode(byte[] obj) => GetHashCode(obj.AsSpan());

    public bool Equals(ReadOnlySpan<byte> alternate, byte[] other) => alternate.SequenceEqual(other);

    public int GetHashCode(ReadOnlySpan<byte> alternate) => (int)XxHash3.HashToUInt64(alternate);

    public byte[] Create(ReadOnlySpan<byte> alternate) => alternate.ToArray();
}

/// <summary>Bindings of a topic exchange by the words of their keys. A search goes through the words of a message's key once, with all places of the tree that it may be at: each at most once a word, whatever the keys.</summary>
internal sealed class TopicTree
{
    private readonly Node _root = new(isMany: false);
    private List<Node> _at = [];
    private List<Node> _next = [];
    private ulong _step;

    public void Add(Binding binding)
    {
        Node node = _root;
        WordReader words = new(binding.Key);
        while (words.Next())
        {
            node = node.Make(words.Word);
        }

        node.Here.Add(binding);
    }

    public void Remove(Binding binding) => Remove(_root, new WordReader(binding.Key), binding);

    public void Match(ReadOnlySpan<byte> key, List<Binding> to)
    {
        _step++;
        _at.Clear();
        Enter(_root, _at);
        WordReader words = new(key);
        while (_at.Count > 0 && words.Next())
        {
            _step++;
            _next.Clear();
            foreach (Node node in _at)
            {
                if (node.IsMany)
                {
                    Enter(node, _next);
                }

                if (node.Words.GetAlternateLookup<ReadOnlySpan<byte>>().TryGetValue(words.Word, out Node? same))
                {
                    Enter(same, _next);
                }

                if (node.One is Node one)
                {
                    Enter(one, _next);
                }
            }

            (_at, _next) = (_next, _at);
        }

        foreach (Node node in _at)
        {
            to.AddRange(node.Here);
        }
    }

    /// <summary>The search may be at this place, and, as <c>#</c> stands for no word too, at what follows one.</summary>
    private void Enter(Node node, List<Node> to)
    {
        for (Node? at = node; at is not null && at.Step != _step; at = at.Many)
        {
            at.Step = _step;
            to.Add(at);
        }
    }

    private static void Remove(Node node, WordReader words, Binding binding)
    {
        if (!words.Next())
        {
            node.Here.Remove(binding);
            return;
        }

        Node next = node.Make(words.Word);
        Remove(next, words, binding);
        if (next.IsEmpty)
        {
            node.Cut(words.Word);
        }
    }

    /// <summary>The words of a key. An empty one has none; else there is one more than there are points.</summary>
    private ref struct WordReader(ReadOnlySpan<byte> key)
    {
        private ReadOnlySpan<byte> _rest = key;
        private bool _hasMore = !key.IsEmpty;

        public ReadOnlySpan<byte> Word { get; private set; }

        public bool Next()
        {
            if (!_hasMore)
            {
                return false;
            }

            int point = _rest.IndexOf((byte)'.');
            _hasMore = point >= 0;
            Word = _hasMore ? _rest[..point] : _rest;
            _rest = _hasMore ? _rest[(point + 1)..] : default;
            return true;
        }
    }

    private sealed class Node(bool isMany)
    {
        /// <summary>It stands for <c>#</c>.</summary>
        public bool IsMany => isMany;

        public Dictionary<byte[], Node> Words { get; } = new(ByteKeys.Comparer);

        /// <summary>For <c>*</c>.</summary>
        public Node? One { get; private set; }

        /// <summary>For <c>#</c>.</summary>
        public Node? Many { get; private set; }

        public List<Binding> Here { get; } = [];

        public ulong Step { get; set; }

        public bool IsEmpty => Here.Count == 0 && Words.Count == 0 && One is null && Many is null;

        public Node Make(ReadOnlySpan<byte> word)
        {
            if (word.SequenceEqual("*"u8))
            {
                return One ??= new Node(isMany: false);
            }

            if (word.SequenceEqual("#"u8))
            {
                return Many ??= new Node(isMany: true);
            }

            byte[] key = word.ToArray();
            if (!Words.TryGetValue(key, out Node? node))
            {
                Words.Add(key, node = new Node(isMany: false));
            }

            return node;
        }

        public void Cut(ReadOnlySpan<byte> word)
        {
            if (word.SequenceEqual("*"u8))
            {
                One = null;
            }
            else if (word.SequenceEqual("#"u8))
            {
                Many = null;
            }
            else
            {
                Words.Remove(word.ToArray());
            }
        }
    }
}

/// <summary>Headers that a binding names, and those of a message. Pure; any bytes may be given.</summary>
internal static class HeaderArguments
{
    /// <summary>Are these headers, to the last byte, and nothing else?</summary>
    public static bool AreValid(ReadOnlySpan<byte> arguments)
    {
        PropertyReader reader = new(arguments);
        while (reader.Next())
        {
            if (reader.Tag != PropertyTag.Header)
            {
                return false;
            }
        }

        return !reader.IsMalformed;
    }

    /// <summary>Has a message the headers that are named? Of none all fit, and not any.</summary>
    public static bool Fit(ReadOnlySpan<byte> arguments, HeaderMatch match, ReadOnlySpan<byte> properties)
    {
        PropertyReader wanted = new(arguments);
        while (wanted.Next())
        {
            bool fits = Has(properties, wanted);
            if (fits != (match == HeaderMatch.All))
            {
                return fits;
            }
        }

        return match == HeaderMatch.All;
    }

    private static bool Has(ReadOnlySpan<byte> properties, in PropertyReader wanted)
    {
        bool has = false;
        PropertyReader reader = new(properties);
        while (reader.Next())
        {
            if (reader.Tag == PropertyTag.Header && reader.Key.SequenceEqual(wanted.Key))
            {
                has = IsSame(reader, wanted); // Of a key that comes twice the last counts.
            }
        }

        return has;
    }

    private static bool IsSame(in PropertyReader one, in PropertyReader other)
    {
        if (one.Type == other.Type)
        {
            return one.Type == PropertyType.Double && one.Value.Length == sizeof(double) && other.Value.Length == sizeof(double)
                ? DoubleIn(one) == DoubleIn(other)
                : one.Value.SequenceEqual(other.Value);
        }

        bool isIntegerFirst = one.Type == PropertyType.Int64 && other.Type == PropertyType.Double;
        bool isDoubleFirst = one.Type == PropertyType.Double && other.Type == PropertyType.Int64;
        return (isIntegerFirst || isDoubleFirst) && one.Value.Length == sizeof(long) && other.Value.Length == sizeof(long)
            && (isIntegerFirst ? IsNumber(DoubleIn(other), one) : IsNumber(DoubleIn(one), other));
    }

    /// <summary>Exactly: an integer beyond what a double can say is no double.</summary>
    private static bool IsNumber(double number, in PropertyReader integer) =>
        double.IsInteger(number) && number is >= -9.2e18 and <= 9.2e18 && (long)number == BinaryPrimitives.ReadInt64LittleEndian(integer.Value);

    private static double DoubleIn(in PropertyReader reader) => BinaryPrimitives.ReadDoubleLittleEndian(reader.Value);
}
