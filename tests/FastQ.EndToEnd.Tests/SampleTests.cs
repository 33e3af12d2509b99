using Xunit;

namespace FastQ.EndToEnd;

// The programs under samples/ are built with the solution, do what they say, and leave nothing behind.
public sealed class SampleTests : IDisposable
{
    private readonly TestBroker _broker = new();

    public void Dispose() => _broker.Dispose();

    [Fact]
    public void The_work_queue_does_each_job_once_whoever_does_it()
    {
        string[] said = Run("WorkQueue");
        Assert.Equal(Enumerable.Range(1, 12).Select(job => $"job {job} done by the").Order(), said[..^1].Select(line => line[..line.LastIndexOf(" the ", StringComparison.Ordinal)] + " the").Order());
        Assert.Equal("12 jobs done, 0 left", said[^1]);
    }

    [Fact]
    public void Events_reach_whoever_is_bound_or_listens_and_what_nobody_wants_is_refused()
    {
        Assert.Equal(["nobody wants stock.empty", "screen: order.1.created", "screen: order.1.paid", "screen: order.2.created", "billing: order.1.paid", "0 left"], Run("PublishSubscribe"));
    }

    [Fact]
    public void The_retries_end_with_success_or_with_the_dead_letters()
    {
        string[] said = Run("Retry");
        Assert.Equal(
            [
                "a good order: done at attempt 1",
                "a hopeless order: attempt 1 failed (the shop is gone): Released",
                "a hopeless order: attempt 2 failed (the shop is gone): Released",
                "a hopeless order: attempt 3 failed (the shop is gone): Released",
                "a wrong order: attempt 1 failed (no such item): Rejected",
                "an unlucky order: attempt 1 failed (the shop is closed): Released",
                "an unlucky order: done at attempt 2",
            ],
            said[..^2].Order(StringComparer.Ordinal));
        Assert.Equal(
            ["dead letter: a hopeless order, of MaxDeliveries after 3 deliveries", "dead letter: a wrong order, of Rejected after 1 deliveries: System.FormatException: no such item"],
            said[^2..].Order(StringComparer.Ordinal));
    }

    [Fact]
    public void The_graceful_shutdown_finishes_one_job_and_gives_the_other_back_as_if_it_had_not_been_delivered()
    {
        string[] said = Run("GracefulShutdown");
        Assert.Equal(
            [
                "both are at work; the host is asked to stop",
                "job 1 done",
                "the host has stopped",
                "left for the next run: job 2, delivered 0 times",
                "left for the next run: job 3, delivered 0 times",
                "left for the next run: job 4, delivered 0 times",
                "left for the next run: job 5, delivered 0 times",
            ],
            said);
    }

    [Fact]
    public void The_outbox_sends_what_was_committed_at_least_once_and_the_receiver_acts_on_it_once()
    {
        string[] said = Run("Outbox");
        Assert.Equal(
            [
                "shop: a pen is ordered",
                "shop: an ink pot is ordered",
                "shop: a typewriter is sold out",
                "shop: some paper is ordered",
                "relay: row 1 is published",
                "relay: row 2 is published",
                "relay: killed before it could mark the row",
                "relay: row 2 is published",
                "relay: row 3 is published",
                "relay: all is sent",
                "warehouse: message 1: a pen is packed",
                "warehouse: message 2: an ink pot is packed",
                "warehouse: message 2: an ink pot was packed before",
                "warehouse: message 3: some paper is packed",
                "warehouse: 4 messages, 3 parcels",
            ],
            said);
    }

    [Fact]
    public void The_pipeline_makes_one_invoice_of_each_order_though_a_worker_dies_before_its_commit()
    {
        string[] said = Run("ExactlyOncePipeline");
        Assert.Equal(
            [
                "a worker that dies before its second commit: order 1 is priced",
                "a worker that dies before its second commit: order 2 is priced, and nobody will ever know",
                "the next worker: order 2 is priced",
                "the next worker: order 3 is priced",
                "the next worker: order 4 is priced",
                "samples.invoices: order 1 costs 10, order 2 costs 20, order 3 costs 30, order 4 costs 40",
                "samples.journal: priced 1, priced 2, priced 3, priced 4",
                "orders left: 0",
            ],
            said);
    }

    [Fact]
    public void The_idempotent_consumer_pays_once_what_was_sent_twice()
    {
        string[] said = Run("IdempotentConsumer");
        Assert.Equal(["payment 1 is paid", "payment 2 is paid", "payment 3 is paid", "5 messages, 1 of them were paid before", "payment 2: receipt 2"], said);
    }

    [Fact]
    public void The_priorities_go_first_and_leave_low_ones_their_share()
    {
        string[] said = Run("Priority");
        Assert.Equal(["a fire alarm", "an invoice", "another invoice", "a newsletter", "another newsletter", "of the first 40, 31 are high and 9 are low"], said);
    }

    [Fact]
    public void The_requests_get_replies_errors_parts_or_hear_that_there_are_none()
    {
        string[] said = Run("RequestReply");
        Assert.Equal(
            [
                "nobody answers yet",
                "tea, ink and paper cost 4, 7, 2",
                "the shop says: no a typewriter here (System.Collections.Generic.KeyNotFoundException)",
                "3 ...",
                "2 ...",
                "1 ...",
                "no reply in time",
            ],
            said);
    }

    private string[] Run(string sample)
    {
        Ran ran = Fastq.RunSample(sample, _broker.Socket);
        Assert.Equal((0, ""), (ran.ExitCode, ran.Error));
        return ran.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }
}
