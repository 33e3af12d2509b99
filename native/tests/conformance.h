// What the programs that hold libfastq against the real broker share: PROGRAM BROKER [WORD]. Each test has a broker or a queue of its own.
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include "harness.h"

#define TEST(name) {#name, name}

static broker shared; // For tests that kill nobody.

__attribute__((unused)) static fastq_connection connect_to(const broker *b, const char *options) {
    fastq_connection c = 0;
    CHECK_OK(fastq_connect(b->socket, options, &c));
    return c;
}

__attribute__((unused)) static fastq_queue queue_of(fastq_connection c, const char *name, const char *attributes) {
    fastq_queue queue = 0;
    CHECK_OK(fastq_declare_queue(c, name, attributes, NULL));
    CHECK_OK(fastq_open_queue(c, name, &queue));
    return queue;
}

__attribute__((unused)) static fastq_subscription subscribe(fastq_connection c, const char *queue, const char *options) {
    fastq_subscription s = 0;
    CHECK_OK(fastq_subscribe(c, queue, options, &s));
    return s;
}

__attribute__((unused)) static bool receive_one(fastq_connection c, fastq_subscription s, fastq_message *message) {
    size_t count = 0;
    return CHECK_OK(fastq_receive(c, s, message, 1, LONG_WAIT, &count)) && CHECK(count == 1);
}

__attribute__((unused)) static bool has_body(const fastq_message *message, const char *text) { return message->body_bytes == strlen(text) && memcmp(message->body, text, message->body_bytes) == 0; }

__attribute__((unused)) static uint64_t number_in(const char *json, const char *key) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"%s\":", key);
    const char *at = strstr(json, wanted);
    return at == NULL ? UINT64_MAX : strtoull(at + strlen(wanted), NULL, 10);
}

__attribute__((unused)) static uint64_t count_of(fastq_connection c, const char *queue, const char *key) {
    const char *json = "";
    CHECK_OK(fastq_show_queue(c, queue, &json));
    return number_in(json, key);
}

__attribute__((unused)) static uint64_t publish_text(fastq_connection c, fastq_queue queue, const char *text) {
    uint64_t number = 0;
    CHECK_OK(fastq_publish(c, queue, text, strlen(text), NULL, 0, FASTQ_DURABLE, &number));
    return number;
}

__attribute__((unused)) static fastq_transaction begin(fastq_connection c) {
    fastq_transaction t = 0;
    CHECK_OK(fastq_begin(c, 0, &t));
    return t;
}

__attribute__((unused)) static int commit(fastq_connection c, fastq_transaction t) {
    uint64_t number = 0;
    int code = fastq_commit_transaction(c, t, FASTQ_DURABLE, &number);
    return code != FASTQ_OK ? code : fastq_wait(c, number, FASTQ_DURABLE, LONG_WAIT);
}

/// Runs the tests of a program with a broker that they share.
static int run_conformance(const char *suite, const test *tests, size_t tests_count, int count, char **arguments) {
    if (count < 2) {
        fprintf(stderr, "Usage: %s BROKER [WORD]\n", arguments[0]);
        return 2;
    }
    broker_binary = arguments[1];
    make_broker(&shared);
    int code = run_tests(suite, tests, tests_count, count > 2 ? arguments[2] : NULL);
    remove_broker(&shared);
    return code;
}

#endif
