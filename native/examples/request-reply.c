/* A request and its reply in C; the responder is a connection of its own, as it would be in another program. */
#include "example.h"

/* Takes one request and answers it; the request is accepted in the same step. */
static void respond(fastq_connection c, fastq_subscription s) {
    fastq_message request;
    size_t came = 0;
    char answer[64];
    while (came == 0) {
        must(fastq_receive(c, s, &request, 1, -1, &came));
    }
    int bytes = snprintf(answer, sizeof answer, "hello, %.*s", (int)request.body_bytes, (const char *)request.body);
    must(fastq_reply_to(c, s, &request, answer, (size_t)bytes, NULL, 0, 0, FASTQ_LAST, FASTQ_ACCEPTED, NULL));
    must(fastq_flush(c, FASTQ_ACCEPTED, -1));
}

int main(void) {
    fastq_connection requester, responder;
    fastq_subscription s;
    fastq_queue queue;
    fastq_reply reply;
    uint64_t number;
    must(fastq_connect(NULL, "name=responder", &responder));
    must(fastq_declare_queue(responder, "greetings", NULL, NULL));
    must(fastq_subscribe(responder, "greetings", NULL, &s));
    must(fastq_connect(NULL, "name=requester", &requester));
    must(fastq_open_queue(requester, "greetings", &queue));
    must(fastq_request(requester, queue, "world", 5, NULL, 0, 5000, 0, &number)); /* It returns at once: many may be under way. */
    respond(responder, s);
    must(fastq_receive_reply(requester, number, -1, &reply));
    printf("%.*s\n", (int)reply.body_bytes, (const char *)reply.body);
    must(fastq_close(requester));
    must(fastq_close(responder));
    return 0;
}
