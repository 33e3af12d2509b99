// Every function of fastq.h, called: calls.py writes calls.inc from abi.txt, so that a function which is new there is walked and fuzzed, or stops
// the build because nobody has said what its arguments may be.
//
//   calls[i].make(world, way)    way 0: good arguments; each way beyond: one argument is another, or one that nobody should give
#ifndef CALLS_H
#define CALLS_H

#include <limits.h>

#include "harness.h"

enum { MOST_MESSAGES = 8, MOST_BROWSED = 32, ROOM_BYTES = 65536, ANY_CODE = -1 };

/// What good arguments are taken from, and where results go.
struct world {
    const char *path;
    fastq_connection c, closed, connection;      // The open one; one that was closed; what fastq_open gave.
    fastq_subscription s, subscription;
    fastq_transaction t, transaction;            // One that is open; what fastq_begin gave.
    fastq_queue q, queue, exchange;
    fastq_reply reply;
    fastq_processed processed;
    const unsigned char *found;
    uint32_t timeliness;
    int64_t queues;
    fastq_message held[MOST_MESSAGES], absurd, zero, messages[MOST_MESSAGES];
    fastq_browsed browsed[MOST_BROWSED];
    fastq_property property;
    fastq_refusal refusal;
    fastq_status status;
    const char *json;
    void *body;
    uint64_t number, tag, purged;
    size_t count, length, position, bytes;
    int descriptor, ready;
    uint32_t lengths[MOST_MESSAGES];
    char room[ROOM_BYTES], text[ROOM_BYTES], large[1024];
};

struct call {
    const char *name;
    bool takes_connection;
    int ways;
    const int *wanted;                           // The code that a way must give; ANY_CODE: any that is one.
    int (*make)(struct world *w, int way);
};

__attribute__((unused)) static void fill_world(struct world *w) {
    memset(w->large, 'n', sizeof w->large - 1);
    memset(w->text, 't', sizeof w->text - 1);
    w->absurd = (fastq_message){.number = UINT64_MAX, .tag = UINT64_MAX, .life = UINT32_MAX, .flags = UINT32_MAX};
    w->status.size = sizeof w->status;
    for (int i = 0; i < MOST_MESSAGES; i++) {
        w->lengths[i] = 10;
    }
}

__attribute__((unused)) static void hear(void *context, const char *text) { (void)context; (void)!strlen(text); }

/// A connection with a queue, an exchange, a limit, a schedule, a transaction, a subscription, and a message in hand.
__attribute__((unused)) static void enter_world(struct world *w, const char *path, const char *options) {
    size_t count = 0;
    memset(w, 0, sizeof *w);
    fill_world(w);
    w->path = path;
    CHECK_OK(fastq_connect(path, NULL, &w->closed));
    CHECK_OK(fastq_close(w->closed));
    CHECK_OK(fastq_connect(path, options, &w->c));
    (void)fastq_delete_queue(w->c, "walk");
    CHECK_OK(fastq_declare_queue(w->c, "walk", NULL, NULL));
    CHECK_OK(fastq_open_queue(w->c, "walk", &w->q));
    CHECK_OK(fastq_declare_exchange(w->c, "walk", NULL, NULL));
    CHECK_OK(fastq_declare_limit(w->c, "walk", "max-in-flight=5", NULL));
    CHECK_OK(fastq_set_schedule(w->c, "walk", "walk", "every=1h", NULL, 0, NULL, 0, NULL));
    CHECK_OK(fastq_begin(w->c, 0, &w->t));
    CHECK_OK(fastq_subscribe(w->c, "walk", "credit=10", &w->s));
    CHECK_OK(fastq_publish(w->c, w->q, "hello", 5, NULL, 0, FASTQ_WRITTEN, NULL));
    CHECK(fastq_receive(w->c, w->s, w->held, 1, LONG_WAIT, &count) == FASTQ_OK && count == 1);
}

__attribute__((unused)) static void leave_world(struct world *w) {
    (void)fastq_close(w->connection);
    (void)fastq_close(w->c);
}

#include "calls.inc"

#endif
