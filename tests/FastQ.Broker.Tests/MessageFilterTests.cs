using System.Runtime.InteropServices;
using FastQ.Engine;
using FastQ.Protocol;
using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace FastQ.Broker;

/// <summary>Which messages a filter means, and how it says that it is not understood.</summary>
public sealed class MessageFilterTests
{
    private const long Now = 10_000_000_000;

    private static bool Matches(string text, MessageState state = MessageState.Ready)
    {
        Assert.True(MessageFilter.TryParse(text, out MessageFilter filter, out string fault), fault);
        FieldWriter death = new(new byte[200]);
        death.Text(FieldTag.Name, "orders");
        death.Number(FieldTag.Reason, (ulong)DeathReason.Rejected);
        death.Number(FieldTag.Count, 2);
        death.Text(FieldTag.Text, "No such customer");
        PropertyWriter properties = new(new byte[500]);
        properties.Bytes(PropertyTag.Death, death.Written);
        properties.Text(PropertyTag.MessageId, "m-17");
        properties.Text(PropertyTag.Type, "order and more");
        properties.Number(PropertyTag.Priority, PropertyType.Int64, 7);
        properties.Header("customer", "17");
        properties.Header("count", PropertyType.Int64, BitConverter.GetBytes(-3L));
        byte[] record = new byte[MessageHeader.SizeBytes + properties.Length + 100];
        MemoryMarshal.Write(record, new MessageHeader { LengthBytes = (uint)record.Length, Kind = RecordKind.DeadLetter, PropertyBytes = (ushort)properties.Length, NumberOrTimeMicros = Now - 90_000_000 });
        properties.Written.CopyTo(record.AsSpan(MessageHeader.SizeBytes));
        MessageView view = new(5, state, 3, default, 0, 0, 0, DeathReason.None, false, false);
        return filter.Matches(view, record, new Now(0, Now));
    }

    [Theory]
    [InlineData("")]
    [InlineData("id=m-17")]
    [InlineData("  id = m-17  and  state=ready ")]
    [InlineData("type='order and more' AND reason=rejected")]
    [InlineData("died-in=orders and deaths>=2 and words~customer")]
    [InlineData("words~'NO SUCH'")]
    [InlineData("age>89s and age<1.6m and age<=90s and age>=90000ms")]
    [InlineData("priority>6 and priority<8 and deliveries=3 and size=100")]
    [InlineData("header.customer=17 and header.count=-3 and header.nothing!=1")]
    [InlineData("group!=a and correlation-id!=x")]
    public void It_means_what_it_says(string text) => Assert.True(Matches(text));

    [Theory]
    [InlineData("id!=m-17")]
    [InlineData("id=m-17 and type=order")]
    [InlineData("group=a")]
    [InlineData("group~a")]
    [InlineData("age>2h")]
    [InlineData("deaths>2")]
    [InlineData("header.customer=18")]
    [InlineData("state=delayed")]
    [InlineData("reason=expired")]
    public void And_nothing_else(string text) => Assert.False(Matches(text));

    [Theory]
    [InlineData("colour=red", "'colour' is not known; use state")]
    [InlineData("id", "a condition like type=order is expected at 'id'")]
    [InlineData("id=", "id= has no value")]
    [InlineData("id='x", "its quote is not closed")]
    [InlineData("id=x type=y", "'and' is expected at 'type=y'")]
    [InlineData("id=x and", "'and' is expected at 'and'")]
    [InlineData("age>5", "'5' is no age; use one like 90s")]
    [InlineData("priority>x", "priority is a number")]
    [InlineData("priority~5", "priority is a number")]
    [InlineData("type>5", "type is a text")]
    [InlineData("header.=5", "'header.' is not known")]
    public void What_is_not_understood_is_said_with_its_place(string text, string fault)
    {
        Assert.False(MessageFilter.TryParse(text, out _, out string said));
        Assert.Contains(fault, said, StringComparison.Ordinal);
    }

    [Fact]
    public void Any_text_is_understood_or_refused_in_words()
    {
        Gen<string> texts = Gen.Elements("id", "age", "and ", "=", "!", "~", "<", "'", "\"", " ", "5", "s", "header.", "x", "\u00e9").ListOf().Select(parts => string.Concat(parts));
        Prop.ForAll(Arb.From(texts), text =>
        {
            bool isGood = MessageFilter.TryParse(text, out MessageFilter filter, out string fault);
            Assert.Equal(isGood, fault.Length == 0);
            Assert.True(isGood || fault.StartsWith("filter: ", StringComparison.Ordinal));
            _ = isGood && !filter.IsAll && Matches(text);
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(500).WithReplay(1299709, 15485867));
    }
}
