using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Text.Json;
using FastQ.Client;
using FastQ.Protocol;
using Spectre.Console;

namespace FastQ.Server;

/// <summary>The options of a command that names limits on what flows: of a queue, or those that queues share.</summary>
internal sealed class FlowArguments
{
    private readonly Option<int?> _inFlight = Count("--max-in-flight", "So many messages may be with consumers at once; 0: no limit (no limit).");
    private readonly Option<Rate?> _rate = RateOf("--rate", "So many messages are delivered in a second, minute or hour; 0: no limit (no limit).");
    private readonly Option<int?> _burst = Count("--burst", "So many may go at once after a while without any (as many as come within a second).");
    private readonly Option<int?> _group = Count("--group-in-flight", "So many of one group may be with one consumer at once, with --fifo (1).");
    private readonly Option<Rate?> _groupRate = RateOf("--group-rate", "As --rate, of each group, with --fifo (no limit).");
    private readonly Option<int?> _groupBurst = Count("--group-burst", "As --burst, of each group.");
    private readonly Option<bool?> _holds = new("--delay-holds-group") { Description = "What is delayed holds those behind it in its group, with --fifo (off).", HelpName = "true|false", Arity = ArgumentArity.ZeroOrOne };
    private readonly Option<int?> _tenant = Count("--tenant-in-flight", "As --max-in-flight, of each tenant, with --fair (no limit).");
    private readonly Option<Rate?> _tenantRate = RateOf("--tenant-rate", "As --rate, of each tenant, with --fair (no limit).");
    private readonly Option<int?> _tenantBurst = Count("--tenant-burst", "As --burst, of each tenant.");
    private readonly Option<string?> _limit = new("--limit") { Description = "A limit that this queue shares with others (fastq limit create); '': none (none).", HelpName = "NAME" };
    private readonly Option<BreakerRule?> _breaker = new("--breaker") { Description = "Deliveries stop by themselves when so many of a hundred of the last so many settlements were rejects or deaths; like 50%/100, or off (off).", HelpName = "PERCENT%/N", CustomParser = ParseBreaker };
    private readonly Option<TimeSpan?> _pause = Shared.OptionalDuration("--breaker-pause", "So long after that one message is tried alone; 0s: none is, until fastq queue resume (0s).");
    private readonly Option<Rate?> _publish = RateOf("--publish-rate", "So many messages are taken in a second, minute or hour; the others are refused (no limit).");
    private readonly Option<int?> _publishBurst = Count("--publish-burst", "As --burst, of what is published.");

    /// <summary>Adds the options to a command.</summary>
    /// <param name="command">It.</param>
    /// <param name="isOfQueue">All of them; else those of a limit that queues share.</param>
    public FlowArguments(Command command, bool isOfQueue)
    {
        foreach (Option option in isOfQueue ? (Option[])[_inFlight, _rate, _burst, _group, _groupRate, _groupBurst, _holds, _tenant, _tenantRate, _tenantBurst, _limit, _breaker, _pause, _publish, _publishBurst] : [_inFlight, _rate, _burst])
        {
            command.Options.Add(option);
        }
    }

    public FlowOptions Of(ParseResult parsed) => new()
    {
        MaxInFlight = parsed.GetValue(_inFlight),
        Rate = parsed.GetValue(_rate),
        Burst = parsed.GetValue(_burst),
        GroupInFlight = parsed.GetValue(_group),
        GroupRate = parsed.GetValue(_groupRate),
        GroupBurst = parsed.GetValue(_groupBurst),
        DelayHoldsGroup = parsed.GetValue(_holds),
        TenantInFlight = parsed.GetValue(_tenant),
        TenantRate = parsed.GetValue(_tenantRate),
        TenantBurst = parsed.GetValue(_tenantBurst),
        Limit = parsed.GetValue(_limit),
        Breaker = parsed.GetValue(_breaker),
        BreakerPause = parsed.GetValue(_pause),
        PublishRate = parsed.GetValue(_publish),
        PublishBurst = parsed.GetValue(_publishBurst),
    };

    /// <summary>The limits that there are, a row each.</summary>
    public static void AddRows(Table table, FlowLimits limits)
    {
        foreach ((string name, bool isSet, object value) in Values(limits).Where(row => row.IsSet))
        {
            table.AddRow(name.Replace('-', ' '), Markup.Escape(Convert.ToString(value, CultureInfo.InvariantCulture)!));
        }
    }

    /// <summary>An object of the limits that there are: numbers, rates like <c>10/s</c>.</summary>
    public static void Write(Utf8JsonWriter writer, FlowLimits limits)
    {
        writer.WriteStartObject("flow");
        foreach ((string name, bool isSet, object value) in Values(limits).Where(row => row.IsSet))
        {
            writer.WritePropertyName(JsonNamingPolicy.CamelCase.ConvertName(string.Concat(name.Split('-').Select(part => char.ToUpperInvariant(part[0]) + part[1..]))));
            if (value is int or double)
            {
                writer.WriteNumberValue(Convert.ToDouble(value, CultureInfo.InvariantCulture));
            }
            else if (value is bool isOn)
            {
                writer.WriteBooleanValue(isOn);
            }
            else
            {
                writer.WriteStringValue(value.ToString());
            }
        }

        writer.WriteEndObject();
    }

    private static (string Name, bool IsSet, object Value)[] Values(FlowLimits limits) =>
    [
        ("max-in-flight", limits.MaxInFlight > 0, limits.MaxInFlight),
        ("rate", limits.Rate.Count > 0, limits.Rate),
        ("burst", limits.Burst > 0, limits.Burst),
        ("group-in-flight", limits.GroupInFlight > 0, limits.GroupInFlight),
        ("group-rate", limits.GroupRate.Count > 0, limits.GroupRate),
        ("group-burst", limits.GroupBurst > 0, limits.GroupBurst),
        ("delay-holds-group", limits.DelayHoldsGroup, limits.DelayHoldsGroup),
        ("tenant-in-flight", limits.TenantInFlight > 0, limits.TenantInFlight),
        ("tenant-rate", limits.TenantRate.Count > 0, limits.TenantRate),
        ("tenant-burst", limits.TenantBurst > 0, limits.TenantBurst),
        ("limit", limits.Limit.Length > 0, limits.Limit),
        ("breaker", limits.Breaker.Window > 0, limits.Breaker),
        ("breaker-pause-seconds", limits.BreakerPauseMilliseconds > 0, limits.BreakerPauseMilliseconds / 1000.0),
        ("publish-rate", limits.PublishRate.Count > 0, limits.PublishRate),
        ("publish-burst", limits.PublishBurst > 0, limits.PublishBurst),
    ];

    private static Option<int?> Count(string name, string description) => new(name)
    {
        Description = description,
        HelpName = "N",
        CustomParser = argument =>
        {
            if (int.TryParse(argument.Tokens[0].Value, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number <= FlowLimits.Most)
            {
                return number;
            }

            argument.AddError($"{name} is 0 (no limit) to {FlowLimits.Most}; '{argument.Tokens[0].Value}' is not.");
            return null;
        },
    };

    private static Option<Rate?> RateOf(string name, string description) => new(name)
    {
        Description = description,
        HelpName = "N[/s|/m|/h]",
        CustomParser = argument =>
        {
            if (Rate.TryParse(argument.Tokens[0].Value, out Rate rate))
            {
                return rate;
            }

            argument.AddError($"'{argument.Tokens[0].Value}' is no rate. Use like 10/s, 600/m or 5/h; 0: no limit.");
            return null;
        },
    };

    private static BreakerRule? ParseBreaker(ArgumentResult argument)
    {
        if (BreakerRule.TryParse(argument.Tokens[0].Value, out BreakerRule rule))
        {
            return rule;
        }

        argument.AddError($"'{argument.Tokens[0].Value}' is no breaker. Use like 50%/100 (1 to 100 %, of the last 1 to {FlowLimits.MostWindow}), or off.");
        return null;
    }
}
