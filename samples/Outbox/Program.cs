using System.Diagnostics;
using System.Globalization;
using System.Text;
using FastQ.Client;
using Microsoft.Data.Sqlite;

// A transactional outbox. The order and the message that tells of it are written in one transaction of the shop's database: there are both, or neither. A relay publishes what stands in the outbox.
//
//   shop: order + outbox row (one transaction) --> relay: publish, await the durable confirm, mark the row --> queue --> warehouse: id + parcel (one transaction), accept
//
// The relay may die between the confirm and the mark. It then publishes that row again: messages come at least once. So each carries the row's id, and the warehouse keeps the ids that it has seen, in the same
// transaction as what it does: the parcel is packed once. Here the relay is a process of its own, and is killed at that very point.

const string Queue = "samples.outbox";
if (args is ["relay", string database, string killAtRow])
{
    await RelayAsync(database, long.Parse(killAtRow, CultureInfo.InvariantCulture));
    return;
}

string folder = Directory.CreateTempSubdirectory("fastq-outbox-").FullName;
try
{
    await using Connection connection = await Connection.ConnectAsync();
    await connection.DeclareQueueAsync(Queue);
    string shop = Path.Combine(folder, "shop.db"), warehouse = Path.Combine(folder, "warehouse.db");
    TakeOrders(shop);
    RunRelay(shop, killAtRow: 2);
    RunRelay(shop, killAtRow: 0);
    await PackAsync(connection, warehouse);
    await connection.DeleteQueueAsync(Queue);
}
finally
{
    SqliteConnection.ClearAllPools();
    Directory.Delete(folder, recursive: true);
}

// ---- the shop

static void TakeOrders(string database)
{
    using SqliteConnection db = Open(database, "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT); CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT, sent INTEGER DEFAULT 0)");
    foreach (string item in (string[])["a pen", "an ink pot", "a typewriter", "some paper"])
    {
        using SqliteTransaction transaction = db.BeginTransaction();
        Execute(db, transaction, "INSERT INTO orders (item) VALUES ($text)", text: item);
        Execute(db, transaction, "INSERT INTO outbox (body) VALUES ($text)", text: item);
        if (item == "a typewriter")
        {
            transaction.Rollback(); // Sold out: no order, and no message.
            Console.WriteLine($"shop: {item} is sold out");
            continue;
        }

        transaction.Commit();
        Console.WriteLine($"shop: {item} is ordered");
    }
}

// ---- the relay, in a process of its own

static async Task RelayAsync(string database, long killAtRow)
{
    await using Connection connection = await Connection.ConnectAsync();
    using SqliteConnection db = Open(database);
    foreach ((long id, string body) in Unsent(db))
    {
        await connection.PublishAsync(Queue, Encoding.UTF8.GetBytes(body), new PublishOptions { MessageId = $"{id}" }); // Back when it is on the broker's disk.
        Console.WriteLine($"relay: row {id} is published");
        if (id == killAtRow)
        {
            Process.GetCurrentProcess().Kill(); // SIGKILL, as a crash or a power loss.
        }

        Execute(db, null, "UPDATE outbox SET sent = 1 WHERE id = $id", id: id);
    }
}

static List<(long Id, string Body)> Unsent(SqliteConnection db)
{
    using SqliteCommand command = db.CreateCommand();
    command.CommandText = "SELECT id, body FROM outbox WHERE sent = 0 ORDER BY id";
    using SqliteDataReader rows = command.ExecuteReader();
    List<(long, string)> unsent = [];
    while (rows.Read())
    {
        unsent.Add((rows.GetInt64(0), rows.GetString(1)));
    }

    return unsent;
}

static void RunRelay(string database, long killAtRow)
{
    using Process relay = Process.Start(new ProcessStartInfo(Environment.ProcessPath!, ["relay", database, $"{killAtRow}"]) { RedirectStandardOutput = true })!;
    Console.Write(relay.StandardOutput.ReadToEnd());
    relay.WaitForExit();
    Console.WriteLine(relay.ExitCode == 0 ? "relay: all is sent" : "relay: killed before it could mark the row");
}

// ---- the warehouse

static async Task PackAsync(Connection connection, string database)
{
    using SqliteConnection db = Open(database, "CREATE TABLE seen (id TEXT PRIMARY KEY); CREATE TABLE parcels (item TEXT)");
    long messages = (await connection.GetQueueAsync(Queue)).Messages;
    TaskCompletionSource all = new(TaskCreationOptions.RunContinuationsAsynchronously);
    long handled = 0;
    await using (await Consumer.StartAsync(connection, Queue, HandleAsync, new ConsumerOptions { Parallelism = 1 })) // One database connection, one at a time.
    {
        await all.Task;
    }

    Console.WriteLine($"warehouse: {messages} messages, {Execute(db, null, "SELECT count(*) FROM parcels")} parcels");

    Task HandleAsync(Message message, CancellationToken inVain)
    {
        using SqliteTransaction transaction = db.BeginTransaction();
        bool isNew = Execute(db, transaction, "INSERT OR IGNORE INTO seen VALUES ($text); SELECT changes()", text: message.MessageId) == 1;
        if (isNew)
        {
            Execute(db, transaction, "INSERT INTO parcels VALUES ($text)", text: message.Text);
        }

        transaction.Commit(); // A crash from here on brings the message again, and then it is not new.
        Console.WriteLine($"warehouse: message {message.MessageId}: {message.Text} {(isNew ? "is packed" : "was packed before")}");
        if (++handled == messages)
        {
            all.SetResult();
        }

        return Task.CompletedTask;
    }
}

// ---- SQLite

static SqliteConnection Open(string path, string? create = null)
{
    SqliteConnection db = new($"Data Source={path}");
    db.Open();
    if (create is not null)
    {
        Execute(db, null, create);
    }

    return db;
}

static long Execute(SqliteConnection db, SqliteTransaction? transaction, string sql, string? text = null, long id = 0)
{
    using SqliteCommand command = db.CreateCommand();
    (command.CommandText, command.Transaction) = (sql, transaction);
    command.Parameters.AddWithValue("$text", (object?)text ?? DBNull.Value);
    command.Parameters.AddWithValue("$id", id);
    return command.ExecuteScalar() is long number ? number : 0;
}
