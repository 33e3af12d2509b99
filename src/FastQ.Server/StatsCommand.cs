using System.CommandLine;
using System.Text.Json;
using FastQ.Client;

namespace FastQ.Server;

/// <summary>fastq stats: what the broker knows of itself.</summary>
internal static class StatsCommand
{
    public static Command Create()
    {
        (Option<string> socket, Option<TimeSpan> patience, Option<bool> json) = (Shared.Socket(), Shared.Patience(), Shared.Json());
        Command command = new("stats", "Show the broker's figures: memory, sessions, journal, and what its start found.\n\nExample:\n  fastq stats --json") { socket, patience, json };
        command.SetAction(parsed =>
        {
            using Session session = Shared.Connect(parsed.GetRequiredValue(socket), parsed.GetValue(patience), "fastq stats");
            string text = session.GetStatistics();
            if (parsed.GetValue(json))
            {
                Console.Out.WriteLine(text);
                return 0;
            }

            using JsonDocument document = JsonDocument.Parse(text);
            Shared.PrintTable(document.RootElement);
            return 0;
        });
        return command;
    }
}
