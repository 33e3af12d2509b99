using FastQ.Client;

await using Connection connection = await Connection.ConnectAsync();      // waits for the broker, rides out its restarts
await connection.DeclareQueueAsync("work");
await connection.PublishAsync("work", "hello"u8.ToArray());               // back when it is on the disk

await using Subscriber subscriber = await connection.SubscribeAsync("work");
await foreach (Message message in subscriber)
{
    Console.WriteLine(message.Text);
    await message.AcceptAsync();                                          // gone for good
    break;
}
