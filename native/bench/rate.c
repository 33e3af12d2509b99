// How fast libfastq is, checking every message: rate SOCKET throughput|latency LEVEL COUNT [BYTES]. A producer and a consumer process, as `fastq bench` has them.
//
//   throughput   publish, deliver and accept at once; from the first publish to the last accept that is confirmed
//   latency      one message in flight, there and back; both ends in a process of their own
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../include/fastq.h"

enum { AT_ONCE = 256, FOR_EVER = -1 };

static void must(int code, const char *what) {
    if (code != FASTQ_OK) {
        fprintf(stderr, "%s: %s: %s\n", what, fastq_code_name(code), fastq_last_error());
        exit(1);
    }
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static fastq_connection connect_to(const char *socket, const char *name) {
    fastq_connection c;
    must(fastq_connect(socket, name, &c), "connect");
    return c;
}

static void publish_all(const char *socket, int level, uint64_t count, size_t bytes) {
    fastq_connection c = connect_to(socket, "name=rate producer");
    fastq_queue queue;
    must(fastq_open_queue(c, "rate", &queue), "open");
    for (uint64_t i = 0; i < count; i++) {
        void *body;
        must(fastq_reserve(c, queue, bytes, NULL, 0, &body), "reserve");
        memset(body, (int)(i & 0x7f), bytes);
        memcpy(body, &i, sizeof i);
        must(fastq_commit(c, level, NULL), "commit");
    }
    must(fastq_flush(c, level, FOR_EVER), "flush");
    must(fastq_close(c), "close");
}

static void consume_all(const char *socket, int level, uint64_t count, size_t bytes) {
    fastq_connection c = connect_to(socket, "name=rate consumer");
    fastq_subscription s;
    static fastq_message messages[AT_ONCE];
    must(fastq_subscribe(c, "rate", "credit=10000\ncredit-bytes=268435456", &s), "subscribe");
    for (uint64_t expected = 0; expected < count;) {
        size_t had;
        must(fastq_receive(c, s, messages, AT_ONCE, FOR_EVER, &had), "receive");
        for (size_t i = 0; i < had; i++, expected++) {
            uint64_t number;
            memcpy(&number, messages[i].body, sizeof number);
            if (number != expected || messages[i].body_bytes != bytes || messages[i].body[bytes - 1] != (bytes > sizeof number ? (expected & 0x7f) : messages[i].body[bytes - 1])) {
                fprintf(stderr, "message %llu is not what was sent\n", (unsigned long long)expected);
                exit(1);
            }
        }
        must(fastq_settle_many(c, s, messages, had, FASTQ_ACCEPT, FASTQ_NONE, NULL), "settle");
    }
    must(fastq_flush(c, level, FOR_EVER), "flush");
    must(fastq_close(c), "close");
}

static void answer_all(const char *socket, int level, uint64_t count, size_t bytes) {
    fastq_connection c = connect_to(socket, "name=rate answerer");
    fastq_subscription s;
    fastq_queue back;
    fastq_message message;
    must(fastq_subscribe(c, "rate", NULL, &s), "subscribe");
    must(fastq_open_queue(c, "rate-back", &back), "open");
    for (uint64_t i = 0; i < count; i++) {
        size_t had = 0;
        while (had == 0) {
            must(fastq_receive(c, s, &message, 1, FOR_EVER, &had), "receive");
        }
        must(fastq_publish(c, back, message.body, bytes, NULL, 0, level, NULL), "publish");
        must(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL), "settle");
    }
    must(fastq_close(c), "close");
}

static int by_value(const void *one, const void *other) { return (*(const double *)one > *(const double *)other) - (*(const double *)one < *(const double *)other); }

static void ask_all(const char *socket, int level, uint64_t count, size_t bytes) {
    fastq_connection c = connect_to(socket, "name=rate asker");
    fastq_subscription s;
    fastq_queue there;
    fastq_message message;
    unsigned char *body = calloc(1, bytes);
    double *took = calloc(count, sizeof *took);
    must(fastq_subscribe(c, "rate-back", NULL, &s), "subscribe");
    must(fastq_open_queue(c, "rate", &there), "open");
    for (uint64_t i = 0; i < count; i++) {
        double began = seconds();
        size_t had = 0;
        must(fastq_publish(c, there, body, bytes, NULL, 0, level, NULL), "publish");
        while (had == 0) {
            must(fastq_receive(c, s, &message, 1, FOR_EVER, &had), "receive");
        }
        took[i] = seconds() - began;
        must(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL), "settle");
    }
    qsort(took, count, sizeof *took, by_value);
    printf("{\"client\":\"c\",\"scenario\":\"latency\",\"level\":%d,\"count\":%llu,\"p50Micros\":%.1f,\"p99Micros\":%.1f}\n", level, (unsigned long long)count, took[count / 2] * 1e6, took[count * 99 / 100] * 1e6);
    free(took);
    free(body);
    must(fastq_close(c), "close");
}

int main(int count, char **arguments) {
    static const char *const levels[] = {"none", "accepted", "written", "durable"};
    if (count < 5) {
        fprintf(stderr, "Usage: rate SOCKET throughput|latency none|accepted|written|durable COUNT [BYTES]\n");
        return 2;
    }
    const char *socket = arguments[1];
    bool is_latency = strcmp(arguments[2], "latency") == 0;
    int level = 0;
    while (level < 3 && strcmp(levels[level], arguments[3]) != 0) {
        level++;
    }
    uint64_t messages = strtoull(arguments[4], NULL, 10);
    size_t bytes = count > 5 ? strtoull(arguments[5], NULL, 10) : 100;
    fastq_connection c = connect_to(socket, "name=rate");
    must(fastq_declare_queue(c, "rate", NULL, NULL), "declare");
    must(fastq_declare_queue(c, "rate-back", NULL, NULL), "declare");
    double began = seconds();
    pid_t other = fork();
    if (other == 0) {
        (is_latency ? answer_all : consume_all)(socket, level, messages, bytes);
        _exit(0);
    }
    (is_latency ? ask_all : publish_all)(socket, level, messages, bytes);
    int status;
    waitpid(other, &status, 0);
    double took = seconds() - began;
    if (!is_latency && status == 0) {
        printf("{\"client\":\"c\",\"scenario\":\"throughput\",\"level\":\"%s\",\"bytes\":%zu,\"count\":%llu,\"rate\":%.0f}\n", levels[level], bytes, (unsigned long long)messages, (double)messages / took);
    }
    must(fastq_delete_queue(c, "rate"), "delete");
    must(fastq_delete_queue(c, "rate-back"), "delete");
    must(fastq_close(c), "close");
    return status == 0 ? 0 : 1;
}
