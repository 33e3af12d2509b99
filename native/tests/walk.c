// Walks every function of fastq.h (calls.h) through good and bad arguments and bad times: walk BROKER [WORD]. Whatever is given, a call answers
// with a code that has a name; the sanitizers see the rest.
//
//   walk --victim SOCKET FILE SEED   calls them at random, counting in FILE, until somebody kills it: see kills.py
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "calls.h"

static broker shared;
static struct world world;

static bool is_a_code(int code) { return code == FASTQ_OK || strcmp(fastq_code_name(code), "unknown") != 0; }

static void each_argument_that_is_not_as_it_should_be_gets_its_code(void) {
    int made = 0;
    bool is_spent = false;
    enter_world(&world, shared.socket, NULL);
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        for (int way = 0; way < calls[i].ways; way++, made++) {
            if (is_spent) {
                leave_world(&world);
                enter_world(&world, shared.socket, NULL);
            }
            int code = calls[i].make(&world, way), wanted = calls[i].wanted[way];
            if (!CHECK(is_a_code(code)) || !CHECK(wanted == ANY_CODE || code == wanted)) {
                printf("    %s, way %d: %s (%s)\n", calls[i].name, way, fastq_code_name(code), fastq_last_error());
            }
            if (code != FASTQ_OK && !CHECK(fastq_last_code() == code && fastq_last_error() != NULL)) {
                printf("    %s, way %d: %s, and the last error is %s\n", calls[i].name, way, fastq_code_name(code), fastq_code_name(fastq_last_code()));
            }
            is_spent = calls[i].takes_connection && code == FASTQ_OK; // It may have closed, deleted or settled. One that failed has done nothing:
            CHECK(is_spent || fastq_holds(world.c, world.s, world.held) == FASTQ_OK);
        }
    }
    leave_world(&world);
    printf("    %zu functions, %d calls\n", COUNT_OF(calls), made);
}

static void all_good_arguments_are_taken(void) {
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        enter_world(&world, shared.socket, NULL);
        int code = calls[i].make(&world, 0);
        // These have nothing to do in such a world: no error was before, nothing is reserved or confirmed yet, the message at place 1 is in hand, it
        // is no request, nobody has asked for anything, the queue marks nothing as processed, and its subscription has another number than 1.
        if (!CHECK(code == FASTQ_OK || strstr("fastq_last_code fastq_commit fastq_wait fastq_flush fastq_delete_message fastq_change_message fastq_pause_consumer fastq_receive_reply fastq_end_request fastq_reply_to "
                "fastq_accept_processed fastq_find_processed", calls[i].name) != NULL)) {
            printf("    %s: %s (%s)\n", calls[i].name, fastq_code_name(code), fastq_last_error());
        }
        leave_world(&world);
    }
}

/// Each call that takes a connection, with good arguments, answers with this code.
static void all_answer(struct world *w, int wanted) {
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        int code = calls[i].takes_connection && strcmp(calls[i].name, "fastq_close") != 0 ? calls[i].make(w, 0) : wanted;
        if (!CHECK(code == wanted)) {
            printf("    %s: %s\n", calls[i].name, fastq_code_name(code));
        }
    }
    CHECK_CODE(fastq_holds(w->c, w->s, w->held), wanted); // Nothing of all that was done.
}

static void a_forked_child_is_told_so_by_every_function(void) {
    int status = -1;
    enter_world(&world, shared.socket, NULL);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        failures_of_this = 0;
        all_answer(&world, FASTQ_FORKED);
        CHECK_OK(fastq_close(world.c));
        all_answer(&world, FASTQ_IS_CLOSED);
        fflush(stdout);
        _exit(failures_of_this == 0 ? 0 : 1);
    }
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_OK(fastq_holds(world.c, world.s, world.held));
    leave_world(&world);
}

static _Atomic bool is_inside;

static void hear_from_inside(void *context, const char *text) {
    (void)text;
    if (!atomic_load(&is_inside)) {
        all_answer(context, FASTQ_BUSY); // The call that tells this holds the connection.
        atomic_store(&is_inside, true);
    }
}

static void a_call_within_a_call_is_told_so_by_every_function(void) {
    broker b;
    make_broker(&b);
    enter_world(&world, b.socket, NULL);
    atomic_store(&is_inside, false);
    CHECK_OK(fastq_set_log(world.c, hear_from_inside, &world));
    kill_broker(&b, SIGKILL);
    start_broker(&b);
    while (!atomic_load(&is_inside) && CHECK_OK(fastq_tick(world.c))) {
    }
    CHECK_OK(fastq_holds(world.c, world.s, world.held));
    leave_world(&world);
    remove_broker(&b);
}

static void *wait_within(void *given) {
    struct world *w = given;
    fastq_message message;
    size_t count;
    int code;
    do {
        code = fastq_receive(w->c, w->s, &message, 1, LONG_WAIT, &count);
    } while (code == FASTQ_BUSY);
    CHECK(code == FASTQ_OK && count == 1);
    return NULL;
}

static void a_second_thread_is_told_so_by_every_function(void) {
    fastq_connection sender = 0;
    pthread_t thread;
    uint64_t number;
    enter_world(&world, shared.socket, NULL);
    CHECK_OK(fastq_connect(shared.socket, NULL, &sender));
    pthread_create(&thread, NULL, wait_within, &world);
    while (fastq_confirmed(world.c, FASTQ_ACCEPTED, &number) != FASTQ_BUSY) {
        sched_yield();
    }
    all_answer(&world, FASTQ_BUSY);
    CHECK_CODE(fastq_close(world.c), FASTQ_BUSY);
    CHECK_OK(fastq_publish(sender, world.q, "wake", 4, NULL, 0, FASTQ_WRITTEN, NULL));
    CHECK_OK(fastq_close(sender));
    pthread_join(thread, NULL);
    leave_world(&world);
}

static void a_broker_that_died_before_a_call_is_told_by_it_or_goes_unseen(void) {
    broker b;
    make_broker(&b);
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        enter_world(&world, b.socket, "patience=0s");
        kill_broker(&b, SIGKILL);
        for (int again = 0; again < 2; again++) { // The second time the library knows.
            int code = calls[i].make(&world, 0);
            if (!CHECK(is_a_code(code))) {
                printf("    %s: %d (%s)\n", calls[i].name, code, fastq_last_error());
            }
        }
        leave_world(&world);
        start_broker(&b);
    }
    remove_broker(&b);
}

static _Atomic uint64_t made_calls;
typedef struct { broker *b; uint64_t at; } murder;

static void *kill_at(void *given) {
    const murder *m = given;
    while (atomic_load(&made_calls) < m->at) {
        sched_yield();
    }
    kill_broker(m->b, SIGKILL);
    return NULL;
}

static void a_broker_that_dies_in_the_midst_of_any_calls_leaves_each_with_a_code(void) {
    enum { ROUNDS = 20 };
    broker b;
    make_broker(&b);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        enter_world(&world, b.socket, round % 2 == 0 ? "patience=0s" : "patience=50ms");
        murder m = {.b = &b, .at = round * 5};
        pthread_t killer;
        atomic_store(&made_calls, 0);
        pthread_create(&killer, NULL, kill_at, &m);
        for (size_t i = 0; i < 2 * COUNT_OF(calls); i++) {
            const struct call *one = &calls[(i + round * 7) % COUNT_OF(calls)];
            if (strcmp(one->name, "fastq_close") != 0) {
                (void)fastq_close(world.connection);
                world.connection = 0;
                CHECK(is_a_code(one->make(&world, 0)));
            }
            atomic_fetch_add(&made_calls, 1);
        }
        pthread_join(killer, NULL);
        leave_world(&world);
        start_broker(&b);
    }
    remove_broker(&b);
}

/// Never returns: all calls with good arguments and with others, in the order that a seed gives.
static int live_dangerously(const char *socket, const char *file, unsigned seed) {
    int counting = open(file, O_RDWR | O_CLOEXEC);
    _Atomic uint64_t *counter = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, counting, 0);
    if (counter == MAP_FAILED) {
        perror(file);
        return 2;
    }
    enter_world(&world, socket, seed % 2 == 0 ? "ring=65536" : "copies");
    while (true) {
        const struct call *one = &calls[(size_t)rand_r(&seed) % COUNT_OF(calls)];
        (void)one->make(&world, rand_r(&seed) % 4 == 0 ? rand_r(&seed) % one->ways : 0);
        if (fastq_holds(world.c, world.s, world.held) != FASTQ_OK) {
            leave_world(&world);
            enter_world(&world, socket, "ring=65536");
        }
        (void)fastq_close(world.connection);
        world.connection = 0;
        atomic_fetch_add(counter, 1);
    }
}

int main(int count, char **arguments) {
    static const test tests[] = {
        {"each_argument_that_is_not_as_it_should_be_gets_its_code", each_argument_that_is_not_as_it_should_be_gets_its_code},
        {"all_good_arguments_are_taken", all_good_arguments_are_taken},
        {"a_forked_child_is_told_so_by_every_function", a_forked_child_is_told_so_by_every_function},
        {"a_call_within_a_call_is_told_so_by_every_function", a_call_within_a_call_is_told_so_by_every_function},
        {"a_second_thread_is_told_so_by_every_function", a_second_thread_is_told_so_by_every_function},
        {"a_broker_that_died_before_a_call_is_told_by_it_or_goes_unseen", a_broker_that_died_before_a_call_is_told_by_it_or_goes_unseen},
        {"a_broker_that_dies_in_the_midst_of_any_calls_leaves_each_with_a_code", a_broker_that_dies_in_the_midst_of_any_calls_leaves_each_with_a_code},
    };
    if (count == 5 && strcmp(arguments[1], "--victim") == 0) {
        return live_dangerously(arguments[2], arguments[3], (unsigned)strtoul(arguments[4], NULL, 10));
    }
    if (count < 2) {
        fprintf(stderr, "Usage: walk BROKER [WORD] | --victim SOCKET FILE SEED\n");
        return 2;
    }
    broker_binary = arguments[1];
    make_broker(&shared);
    int code = run_tests("native.walk", tests, COUNT_OF(tests), count > 2 ? arguments[2] : NULL);
    remove_broker(&shared);
    return code;
}
