using System.Text;
using FastQ.Client;
using FastQ.Protocol;

using Session session = Session.Connect();
session.DeclareQueue("work");
QueueHandle work = session.OpenQueue("work");

Session.Reservation reservation = session.Reserve(work, bodyBytes: 5);
"hello"u8.CopyTo(reservation.Body);                                       // written where the broker reads it
reservation.Commit(ConfirmLevel.Durable);
session.Flush();                                                          // everything sent so far is on the disk

Subscription subscription = session.Subscribe("work");
while (subscription.Receive(TimeSpan.FromSeconds(1), out Delivery delivery))
{
    Console.WriteLine(Encoding.UTF8.GetString(delivery.Body));            // read where it lies
    subscription.Accept(delivery);
}
