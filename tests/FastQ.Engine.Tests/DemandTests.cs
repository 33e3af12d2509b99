using FastQ.Protocol;
using Xunit;

namespace FastQ.Engine.Tests;

/// <summary>Queues that demand properties: what lacks one is refused with its name, and only its sender is judged.</summary>
public sealed class DemandTests
{
    private const RequiredProperties TypeAndSchema = RequiredProperties.Type | RequiredProperties.SchemaVersion;

    private static QueueAttributes Demanding(RequiredProperties properties) => QueueAttributes.Default with { Require = properties };

    private static byte[] Texts(params (PropertyTag Tag, string Text)[] properties)
    {
        PropertyWriter writer = new(new byte[200]);
        foreach ((PropertyTag tag, string text) in properties)
        {
            writer.Text(tag, text);
        }

        return writer.Written.ToArray();
    }

    private static Decision Lacks(string said) => Decision.Refuse(RefusalCode.MissingProperty, 0, said);

    [Fact]
    public void What_lacks_a_demanded_property_is_refused_with_the_names_of_all_it_lacks()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", Demanding(TypeAndSchema)), free = world.Declare("free");
        Assert.Equal(Lacks("The queue demands the properties type, schema-version"), world.Publish(producer, queue));
        Assert.Equal(Lacks("The queue demands the property schema-version"), world.Publish(producer, queue, properties: Texts((PropertyTag.Type, "t"), (PropertyTag.Key, "k"))));
        Assert.Equal(Lacks("The queue demands the property type"), world.Publish(producer, queue, properties: Texts((PropertyTag.SchemaVersion, "2"))));
        Assert.True(world.Publish(producer, queue, properties: Texts((PropertyTag.SchemaVersion, "2"), (PropertyTag.Key, "k"), (PropertyTag.Type, "t"))).IsTaken);
        Assert.True(world.Publish(producer, free).IsTaken);
        Assert.Equal(1, world.Engine.View(queue).Messages);
        world.Check();
    }

    [Fact]
    public void Each_property_of_the_table_can_be_demanded_alone()
    {
        using World world = new();
        ulong producer = world.Open();
        Requirement[] table = Requirement.Table.ToArray();
        foreach (Requirement wanted in table)
        {
            uint queue = world.Declare(wanted.Name, Demanding(wanted.Property));
            byte[] others = Texts([.. table.Where(other => other != wanted).Select(other => (other.Tag, "x"))]);
            Assert.Equal(Lacks($"The queue demands the property {wanted.Name}"), world.Publish(producer, queue, properties: others));
            Assert.True(world.Publish(producer, queue, properties: Texts((wanted.Tag, "x"))).IsTaken);
        }
    }

    [Fact]
    public void An_empty_text_another_type_and_a_header_of_its_name_are_not_the_property()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q", Demanding(RequiredProperties.Type));
        PropertyWriter header = new(new byte[100]);
        header.Header("type", "t");
        foreach (byte[] properties in (byte[][])[Texts((PropertyTag.Type, "")), World.Property(PropertyTag.Type, 7), header.Written.ToArray()])
        {
            Assert.Equal(Lacks("The queue demands the property type"), world.Publish(producer, queue, properties: properties));
        }

        byte[] cutShort = [.. Texts((PropertyTag.Type, "t")), 1, 2];
        Assert.Equal(RefusalCode.BadArgument, world.Publish(producer, queue, properties: cutShort).Code);
        Assert.Equal(0, world.Engine.View(queue).Messages);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_demand_is_kept_and_touches_what_comes_not_what_is_there(bool fromSnapshot)
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q");
        world.PublishMany(producer, queue, 3);
        Assert.True(world.Change(queue, Demanding(TypeAndSchema)).IsTaken);
        Assert.False(world.Publish(producer, queue).IsTaken);
        world.Restart(fromSnapshot);
        Assert.Equal(TypeAndSchema, world.Engine.View(queue).Attributes.Require);
        Assert.Equal(3, world.Engine.View(queue).Ready);
        uint subscription = world.Subscribe(queue, producer);
        Assert.Equal(3, world.DispatchAll().Count);
        world.Settle(producer, subscription, 1, 3, Outcome.Release); // They come back as they are.
        Assert.Equal(3, world.Engine.View(queue).Ready);
        Assert.False(world.Publish(producer, queue).IsTaken);
        Assert.True(world.Change(queue, QueueAttributes.Default).IsTaken);
        Assert.True(world.Publish(producer, queue).IsTaken);
        world.Check();
    }

    [Fact]
    public void Dead_letters_come_as_they_are_where_a_sender_would_be_refused()
    {
        using World world = new();
        ulong producer = world.Open();
        uint queue = world.Declare("q"), dead = world.Declare("q.dead", Demanding(RequiredProperties.Type) with { DeadLetter = "" });
        uint subscription = world.Subscribe(queue, producer);
        world.PublishMany(producer, queue, 2);
        world.DispatchAll();
        world.Settle(producer, subscription, 1, 2, Outcome.Reject);
        Assert.Equal(2, world.Bury().Count);
        Assert.Equal(2, world.Engine.View(dead).Ready);
        Assert.False(world.Publish(producer, dead).IsTaken);
        world.Check();
    }

    [Fact]
    public void A_demand_for_what_is_none_is_refused_with_the_names_that_are_and_a_difference_is_said()
    {
        FieldWriter fields = new(new byte[100]);
        fields.Text(FieldTag.Require, "type,colour");
        Assert.Equal("require must be names with commas between, of message-id, type, correlation-id, content-type, reply-to, key, schema-version", QueueAttributes.From(fields.Written).Fault("q"));
        Assert.Equal("", Demanding(TypeAndSchema).Fault("q"));
        Assert.Equal("require is 'type,schema-version', not ''", Demanding(TypeAndSchema).DifferenceTo(QueueAttributes.Default));
    }
}
