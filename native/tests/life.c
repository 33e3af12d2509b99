// The promises of libfastq, against the real broker: what lasts over kills, stops, forks and threads, and what a host keeps for itself.
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "conformance.h"

static void kill_9_of_the_broker_loses_nothing_doubles_nothing_and_what_is_in_hand_stays(void) {
    enum { ROUNDS = 5, EACH = 2000 };
    broker b;
    make_broker(&b);
    fastq_connection c = connect_to(&b, "patience=60s");
    fastq_queue queue = queue_of(c, "work", "lease=5m");
    fastq_subscription s = subscribe(c, "work", "credit=100");
    fastq_status status = {.size = sizeof status};
    fastq_message held = {0}, message;
    size_t count, had = 0;
    uint64_t number;
    static unsigned char seen[ROUNDS * EACH];
    memset(seen, 0, sizeof seen);
    for (uint32_t i = 0; i < ROUNDS * EACH; i++) {
        if (i % EACH == EACH / 2) {
            kill_broker(&b, SIGKILL); // With what was sent just now unconfirmed, and messages in hand.
            start_broker(&b);
        }
        CHECK_OK(fastq_publish(c, queue, &i, sizeof i, NULL, 0, i % 4 == 0 ? FASTQ_DURABLE : i % 4, &number));
        if (i == EACH / 4) {
            CHECK(receive_one(c, s, &held));
        }
    }
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK_OK(fastq_holds(c, s, &held));
    CHECK(memcmp(held.body, "\0\0\0\0", 4) == 0);
    CHECK_OK(fastq_settle(c, s, &held, FASTQ_ACCEPT, FASTQ_DURABLE, 0, 0, &number));
    CHECK_OK(fastq_wait(c, number, FASTQ_DURABLE, LONG_WAIT));
    for (had = 1; had < ROUNDS * EACH && CHECK_OK(fastq_receive(c, s, &message, 1, LONG_WAIT, &count)) && CHECK(count == 1); had++) {
        uint32_t i;
        memcpy(&i, message.body, sizeof i);
        if (!CHECK(i == had) || !CHECK(!seen[i]++)) { // In order, once.
            break;
        }
        if (had % (ROUNDS * EACH / 4) == 0) {
            kill_broker(&b, SIGKILL); // Settlements, too, are sent again.
            start_broker(&b);
        }
        CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
    }
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK(count_of(c, "work", "messages") == 0);
    CHECK_OK(fastq_get_status(c, &status));
    CHECK(status.reconnects >= ROUNDS && status.resent > 0);
    CHECK_OK(fastq_close(c));
    remove_broker(&b);
}

static _Atomic uint64_t reached; // How far a test has come, for who kills in the midst of it.

typedef struct { broker *b; uint64_t at; } murder;

static void *kill_in_the_midst(void *given) {
    const murder *m = given;
    while (atomic_load(&reached) < m->at) {
        sched_yield();
    }
    kill_broker(m->b, SIGKILL);
    start_broker(m->b);
    return NULL;
}

static void kills_in_the_midst_of_a_burst_leave_no_gap_and_no_double(void) {
    enum { ROUNDS = 12, EACH = 3000, BYTES = 400 };
    broker b;
    make_broker(&b);
    fastq_connection c = connect_to(&b, "patience=60s\nring=65536");
    fastq_queue queue = queue_of(c, "work", NULL);
    fastq_subscription s = subscribe(c, "work", "credit=500");
    unsigned char body[BYTES] = {0};
    uint64_t sent = 0, expected = 0;
    for (int round = 0; round < ROUNDS; round++) {
        murder m = {.b = &b, .at = sent + (uint64_t)(round * 263 % EACH)};
        pthread_t killer;
        pthread_create(&killer, NULL, kill_in_the_midst, &m);
        for (int i = 0; i < EACH; i++, sent++) {
            memcpy(body, &sent, sizeof sent);
            CHECK_OK(fastq_publish(c, queue, body, sizeof body, NULL, 0, round % 4, NULL));
            atomic_store(&reached, sent);
        }
        pthread_join(killer, NULL);
    }
    CHECK_OK(fastq_flush(c, FASTQ_WRITTEN, LONG_WAIT));
    while (expected < sent) {
        fastq_message messages[100];
        size_t count = 0;
        uint64_t number = 0;
        if (!CHECK_OK(fastq_receive(c, s, messages, 100, LONG_WAIT, &count)) || !CHECK(count > 0)) {
            break;
        }
        for (size_t i = 0; i < count; i++, expected++) {
            memcpy(&number, messages[i].body, sizeof number);
            if (!CHECK(number == expected)) {
                printf("    %llu, not %llu\n", (unsigned long long)number, (unsigned long long)expected);
                expected = sent;
            }
        }
        CHECK_OK(fastq_settle_many(c, s, messages, count, FASTQ_ACCEPT, FASTQ_NONE, NULL));
    }
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK(count_of(c, "work", "messages") == 0);
    CHECK_OK(fastq_close(c));
    remove_broker(&b);
}

/// What a victim does until it is killed: all kinds of calls in turn, on the shared broker.
static void live_dangerously(_Atomic uint64_t *calls, unsigned seed) {
    fastq_connection c = connect_to(&shared, "ring=65536");
    fastq_queue queue = queue_of(c, "victims", "lease=1h\nmax-deliveries=0");
    fastq_subscription s = subscribe(c, "victims", "credit=50");
    static unsigned char body[200000];
    for (uint64_t i = 0;; i++, atomic_fetch_add(calls, 1)) {
        fastq_message messages[10];
        const char *json;
        size_t count;
        switch ((i * 7 + seed) % 8) {
            case 7: {
                uint64_t request = 0;
                fastq_reply reply;
                fastq_request(c, queue, body, 100, NULL, 0, 1000, 0, &request);
                fastq_receive(c, s, messages, 10, 0, &count);
                for (size_t at = 0; at < count; at++) {
                    fastq_reply_to(c, s, &messages[at], body, 100, NULL, 0, 0, FASTQ_LAST, (int)(i % 4), NULL);
                }
                fastq_receive_reply(c, request, 1000000, &reply);
                fastq_end_request(c, request);
                break;
            }
            case 6: {
                fastq_transaction t = 0;
                fastq_begin(c, 0, &t);
                fastq_add_publish(c, t, queue, body, 100, NULL, 0, 0);
                fastq_receive(c, s, messages, 1, 0, &count);
                if (count > 0) {
                    fastq_add_settle(c, t, s, messages, FASTQ_ACCEPT, 0, 0);
                }
                fastq_commit_transaction(c, t, (int)(i % 4), NULL);
                break;
            }
            case 0: fastq_publish(c, queue, body, (i * 997 + seed) % 20 == 0 ? sizeof body : 100, NULL, 0, (int)(i % 4), NULL); break;
            case 1: fastq_receive(c, s, messages, 10, 0, &count); fastq_settle_many(c, s, messages, count, (int)(i % 3 == 0 ? FASTQ_RELEASE : FASTQ_ACCEPT), FASTQ_NONE, NULL); break;
            case 2: fastq_flush(c, (int)(i % 4), LONG_WAIT); break;
            case 3: fastq_show_queue(c, "victims", &json); break;
            case 4: fastq_receive(c, s, messages, 1, 1000000, &count); break;
            default: fastq_unsubscribe(c, s); fastq_subscribe(c, "victims", NULL, &s); break;
        }
    }
}

static void kill_9_of_a_client_inside_any_call_harms_nobody_else(void) {
    enum { ROUNDS = 200 };
    _Atomic uint64_t *calls = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "bystander", NULL);
    fastq_subscription s = subscribe(c, "bystander", NULL);
    fflush(stdout);
    for (unsigned round = 0; round < ROUNDS && failures_of_this == 0; round++) {
        atomic_store(calls, 0);
        pid_t victim = fork();
        if (victim == 0) {
            live_dangerously(calls, round);
        }
        while (atomic_load(calls) < round % 37) {
            sched_yield();
        }
        kill(victim, SIGKILL);
        waitpid(victim, NULL, 0);
        fastq_message message;
        char text[16];
        snprintf(text, sizeof text, "%u", round);
        CHECK_OK(fastq_wait(c, publish_text(c, queue, text), FASTQ_WRITTEN, LONG_WAIT));
        CHECK(receive_one(c, s, &message) && has_body(&message, text));
        CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
    }
    fastq_status status = {.size = sizeof status};
    CHECK_OK(fastq_get_status(c, &status));
    CHECK(status.reconnects == 0);
    // Whatever the victims held is everybody's again.
    uint64_t held = 1;
    while (failures_of_this == 0 && held > 0) {
        held = count_of(c, "victims", "inFlight");
    }
    CHECK_OK(fastq_close(c));
    munmap((void *)calls, 4096);
}

static void an_orderly_stop_is_ridden_out_too(void) {
    broker b;
    make_broker(&b);
    fastq_connection c = connect_to(&b, "patience=60s");
    fastq_queue queue = queue_of(c, "work", NULL);
    fastq_subscription s = subscribe(c, "work", NULL);
    fastq_message message;
    publish_text(c, queue, "before");
    CHECK(receive_one(c, s, &message));
    kill_broker(&b, SIGTERM);
    start_broker(&b);
    CHECK_OK(fastq_tick(c));
    CHECK_OK(fastq_holds(c, s, &message));
    publish_text(c, queue, "after");
    CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_DURABLE, 0, 0, NULL));
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK(receive_one(c, s, &message) && has_body(&message, "after"));
    CHECK_OK(fastq_close(c));
    remove_broker(&b);
}

static char told[8][256];
static int told_count;

static void tell(void *context, const char *text) {
    CHECK(context == &told_count);
    if (told_count < 8) {
        snprintf(told[told_count++], sizeof told[0], "%s", text);
    }
}

static void a_broker_that_stays_away_is_told_within_the_patience_and_may_come_back(void) {
    broker b;
    make_broker(&b);
    fastq_connection c = connect_to(&b, "patience=200ms"), none;
    fastq_queue queue = queue_of(c, "work", NULL);
    fastq_subscription s = subscribe(c, "work", NULL);
    fastq_message message;
    size_t count;
    CHECK_OK(fastq_set_log(c, tell, &told_count));
    CHECK_OK(fastq_is_connected(c));
    kill_broker(&b, SIGKILL);
    while (fastq_is_connected(c) == FASTQ_OK) {
    }
    publish_text(c, queue, "while it was away");
    CHECK_CODE(fastq_receive(c, s, &message, 1, LONG_WAIT, &count), FASTQ_DISCONNECTED);
    CHECK_CODE(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT), FASTQ_DISCONNECTED);
    CHECK_CODE(fastq_connect(b.socket, "patience=0s", &none), FASTQ_DISCONNECTED);
    CHECK(strstr(fastq_last_error(), b.socket) != NULL);
    start_broker(&b);
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK(receive_one(c, s, &message) && has_body(&message, "while it was away"));
    CHECK(told_count >= 2 && strstr(told[0], "gone") != NULL && strstr(told[told_count - 1], "back") != NULL);
    CHECK_OK(fastq_close(c));
    remove_broker(&b);
}

static void an_event_loop_waits_by_the_descriptor(void) {
    fastq_connection c = connect_to(&shared, NULL), sender = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "loop", NULL);
    fastq_subscription s = subscribe(c, "loop", NULL);
    fastq_message message;
    size_t count = 0;
    int descriptor = -1, ready = 1;
    CHECK_OK(fastq_descriptor(c, &descriptor));
    for (int i = 0; i < 100; i++) {
        bool is_sent = false;
        for (count = 0; count == 0;) {
            CHECK_OK(fastq_receive(c, s, &message, 1, 0, &count));
            if (count == 0 && CHECK_OK(fastq_arm(c, &ready)) && !ready) {
                if (!is_sent) {
                    publish_text(sender, queue, "ring");
                    is_sent = true;
                }
                struct pollfd one = {.fd = descriptor, .events = POLLIN};
                if (!CHECK(poll(&one, 1, 60000) == 1)) {
                    return;
                }
            }
        }
        CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
    }
    CHECK_OK(fastq_close(sender));
    CHECK_OK(fastq_close(c));
}

static void a_forked_child_is_told_so_and_connects_for_itself(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "fork", NULL);
    fastq_subscription s = subscribe(c, "fork", NULL);
    fastq_message message;
    int status = -1, descriptor = -1;
    CHECK_OK(fastq_descriptor(c, &descriptor));
    publish_text(c, queue, "of the parent");
    CHECK(receive_one(c, s, &message));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        failures_of_this = 0;
        CHECK(fcntl(descriptor, F_GETFD) < 0); // Nothing of the parent's connection is held open here.
        CHECK_CODE(fastq_publish(c, queue, "x", 1, NULL, 0, FASTQ_DURABLE, NULL), FASTQ_FORKED);
        CHECK_CODE(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL), FASTQ_FORKED);
        CHECK_CODE(fastq_flush(c, FASTQ_DURABLE, 0), FASTQ_FORKED);
        CHECK_OK(fastq_close(c));
        CHECK_CODE(fastq_flush(c, FASTQ_DURABLE, 0), FASTQ_IS_CLOSED);
        fastq_connection own = connect_to(&shared, NULL);
        publish_text(own, queue, "of the child");
        CHECK_OK(fastq_flush(own, FASTQ_DURABLE, LONG_WAIT));
        CHECK_OK(fastq_close(own));
        _exit(failures_of_this == 0 ? 0 : 1);
    }
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_OK(fastq_holds(c, s, &message));
    CHECK(has_body(&message, "of the parent"));
    CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
    CHECK(receive_one(c, s, &message) && has_body(&message, "of the child"));
    CHECK_OK(fastq_close(c));
}

static void a_child_does_not_keep_its_dead_parents_messages(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "orphan", "lease=1d");
    int done[2], stay[2];
    char byte;
    publish_text(c, queue, "held");
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK(pipe(done) == 0 && pipe(stay) == 0);
    fflush(stdout);
    pid_t parent = fork();
    if (parent == 0) {
        fastq_connection own = connect_to(&shared, NULL);
        fastq_subscription s = subscribe(own, "orphan", NULL);
        fastq_message message;
        bool has = receive_one(own, s, &message);
        if (fork() == 0) { // It lives on, and does nothing.
            close(stay[1]);
            (void)!read(stay[0], &byte, 1);
            _exit(0);
        }
        (void)!write(done[1], has ? "y" : "n", 1);
        kill(getpid(), SIGKILL);
    }
    CHECK(read(done[0], &byte, 1) == 1 && byte == 'y');
    waitpid(parent, NULL, 0);
    fastq_subscription s = subscribe(c, "orphan", NULL);
    fastq_message message;
    CHECK(receive_one(c, s, &message) && has_body(&message, "held") && message.delivery_count == 2);
    close(stay[1]);
    close(stay[0]);
    close(done[0]);
    close(done[1]);
    CHECK_OK(fastq_close(c));
}

typedef struct { fastq_connection connection; fastq_subscription subscription; int code; } waiter;

static void *wait_long(void *given) {
    waiter *w = given;
    fastq_message message;
    size_t count;
    do {
        w->code = fastq_receive(w->connection, w->subscription, &message, 1, LONG_WAIT, &count);
    } while (w->code == FASTQ_BUSY); // The other one looks just now.
    return NULL;
}

static void a_second_thread_is_told_that_the_connection_is_busy(void) {
    fastq_connection c = connect_to(&shared, NULL), other = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "busy", NULL);
    waiter w = {.connection = c, .subscription = subscribe(c, "busy", NULL)};
    pthread_t thread;
    pthread_create(&thread, NULL, wait_long, &w);
    uint64_t number;
    while (fastq_confirmed(c, FASTQ_ACCEPTED, &number) != FASTQ_BUSY) {
    }
    CHECK_CODE(fastq_close(c), FASTQ_BUSY);
    publish_text(other, queue, "wake");
    pthread_join(thread, NULL);
    CHECK(w.code == FASTQ_OK);
    CHECK_OK(fastq_close(c));
    CHECK_OK(fastq_close(other));
}

enum { THREADS = 4, OF_EACH = 5000 };

static void *publish_and_consume(void *given) {
    const char *name = given;
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, name, NULL);
    fastq_subscription s = subscribe(c, name, NULL);
    for (int i = 0; i < OF_EACH; i++) {
        CHECK_OK(fastq_publish(c, queue, &i, sizeof i, NULL, 0, FASTQ_WRITTEN, NULL));
    }
    for (int i = 0; i < OF_EACH; i++) {
        fastq_message message;
        int value = -1;
        if (!receive_one(c, s, &message)) {
            break;
        }
        memcpy(&value, message.body, sizeof value);
        CHECK(value == i);
        CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
    }
    CHECK_OK(fastq_close(c));
    return NULL;
}

static void connections_of_several_threads_do_not_meet(void) {
    static char names[THREADS][32];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        snprintf(names[i], sizeof names[i], "thread-%d", i);
        pthread_create(&threads[i], NULL, publish_and_consume, names[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void on_signal(int signal) { (void)signal; }

static void the_hosts_signal_handlers_stay(void) {
    static const int signals[] = {SIGSEGV, SIGINT, SIGCHLD, SIGPIPE, SIGTERM, SIGBUS};
    struct sigaction mine = {.sa_handler = on_signal}, before[COUNT_OF(signals)], now;
    for (size_t i = 0; i < COUNT_OF(signals); i++) {
        sigaction(signals[i], &mine, &before[i]);
    }
    fastq_connection c = connect_to(&shared, NULL);
    publish_text(c, queue_of(c, "signals", NULL), "x");
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK_OK(fastq_close(c));
    for (size_t i = 0; i < COUNT_OF(signals); i++) {
        sigaction(signals[i], &before[i], &now);
        CHECK(now.sa_handler == on_signal);
    }
}

int main(int count, char **arguments) {
    static const test tests[] = {
        TEST(kill_9_of_the_broker_loses_nothing_doubles_nothing_and_what_is_in_hand_stays),
        TEST(kills_in_the_midst_of_a_burst_leave_no_gap_and_no_double),
        TEST(kill_9_of_a_client_inside_any_call_harms_nobody_else),
        TEST(an_orderly_stop_is_ridden_out_too),
        TEST(a_broker_that_stays_away_is_told_within_the_patience_and_may_come_back),
        TEST(an_event_loop_waits_by_the_descriptor),
        TEST(a_forked_child_is_told_so_and_connects_for_itself),
        TEST(a_child_does_not_keep_its_dead_parents_messages),
        TEST(a_second_thread_is_told_that_the_connection_is_busy),
        TEST(connections_of_several_threads_do_not_meet),
        TEST(the_hosts_signal_handlers_stay),
    };
    return run_conformance("native.life", tests, COUNT_OF(tests), count, arguments);
}
