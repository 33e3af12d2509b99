// The doors: each call of a connection goes through one, by a handle that is never used again.
//
//   handle  = generation << 16 | index + 1
//   doors[index]: generation, is_busy, session           one call at a time; a second one is told, a late one too
//
// In a forked child the sessions' sockets are closed by the fork handler, and every handle of before answers so.
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "session.h"

enum { DOORS = 4096, INDEX_BITS = 16 };

static struct door {
    _Atomic uint32_t generation;
    _Atomic bool is_busy;
    _Atomic bool is_forked;
    struct session *session; // Looked at by who holds is_busy, or the gate.
} doors[DOORS];

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; // Of opening, closing and forking.

static struct door *door_of(fastq_connection connection) {
    uint64_t index = (connection & ((1 << INDEX_BITS) - 1)) - 1;
    return index < DOORS && atomic_load_explicit(&doors[index].generation, memory_order_acquire) == connection >> INDEX_BITS ? &doors[index] : NULL;
}

/// Goes in, to what may be closed or of another process. On success the door is held.
static int hold(fastq_connection connection, struct door **door) {
    *door = door_of(connection);
    if (*door == NULL) {
        return fail_closed();
    }
    if (atomic_exchange_explicit(&(*door)->is_busy, true, memory_order_acquire)) {
        return fail(FASTQ_BUSY, 0, "Another thread is in a call of this connection, or this call comes from its log callback");
    }
    if (door_of(connection) != *door || (*door)->session == NULL) { // Closed between the two looks.
        atomic_store_explicit(&(*door)->is_busy, false, memory_order_release);
        return fail_closed();
    }
    return FASTQ_OK;
}

int leave(fastq_connection connection, int code) {
    atomic_store_explicit(&doors[(connection & ((1 << INDEX_BITS) - 1)) - 1].is_busy, false, memory_order_release);
    return code;
}

int enter(fastq_connection connection, struct session **session) {
    size_t reserved;
    return enter_with_reserved(connection, session, &reserved);
}

int enter_with_reserved(fastq_connection connection, struct session **session, size_t *reserved) {
    struct door *door;
    int code = hold(connection, &door);
    if (code != FASTQ_OK) {
        return code;
    }
    if (atomic_load_explicit(&door->is_forked, memory_order_relaxed)) {
        return leave(connection, fail(FASTQ_FORKED, 0, "This process is a fork of the one that connected: connect anew"));
    }
    struct session *s = door->session;
    if (s->is_closed) {
        return leave(connection, fail(s->farewell_code, 0, "%s", s->farewell));
    }
    if (s->is_armed) {
        s->is_armed = false;
        wake(s);
        char bytes[64];
        while (read(s->link.pipe, bytes, sizeof bytes) == (ssize_t)sizeof bytes) {
        }
    }
    if (s->sent != NULL) { // What was decided meanwhile is out of hand before anything is done with it.
        uint64_t number;
        if ((code = confirmed(s, FASTQ_ACCEPTED, &number)) != FASTQ_OK) {
            return leave(connection, code);
        }
    }
    *reserved = s->reserved_length;
    s->reserved_length = 0; // What is reserved lasts until the next call.
    *session = s;
    return FASTQ_OK;
}

// ---- fork

static void close_in_child(struct session *s) {
    close(s->link.socket);
    close(s->link.bell);
    close(s->link.pipe);
    close(s->event);
}

static void before_fork(void) { pthread_mutex_lock(&gate); }

static void after_fork(void) { pthread_mutex_unlock(&gate); }

/// The child has none of the rings; it must not hold the sockets open either, or nobody would notice its parent's death.
static void in_child(void) {
    for (int i = 0; i < DOORS; i++) {
        struct door *door = &doors[i];
        if (door->session != NULL && !atomic_load(&door->is_forked)) {
            close_in_child(door->session);
            atomic_store(&door->is_forked, true);
        }
        atomic_store(&door->is_busy, false); // Whoever was in a call is not in this process.
    }
    pthread_mutex_unlock(&gate);
}

static int register_for_forks(void) {
    static bool is_registered; // Under the gate.
    if (!is_registered && pthread_atfork(before_fork, after_fork, in_child) != 0) {
        return fail_memory();
    }
    is_registered = true;
    return FASTQ_OK;
}

// ---- opening and closing

/// FASTQ_SOCKET, else $XDG_RUNTIME_DIR/fastq.sock, else /tmp/fastq-UID/fastq.sock: where the broker listens unless somebody says otherwise.
static char *default_path(void) {
    char path[512];
    struct stat folder;
    const char *named = getenv("FASTQ_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");
    if (named != NULL && *named != 0) {
        return strdup(named);
    }
    if (runtime != NULL && *runtime != 0 && stat(runtime, &folder) == 0 && S_ISDIR(folder.st_mode)) {
        snprintf(path, sizeof path, "%s/fastq.sock", runtime);
    } else {
        snprintf(path, sizeof path, "/tmp/fastq-%u/fastq.sock", (unsigned)geteuid());
    }
    return strdup(path);
}

static int read_options(struct session *s, const char *options) {
    enum { MOST_NAME_BYTES = 100 };
    for (struct option one; next_option(&options, &one);) {
        uint64_t number;
        int code = FASTQ_OK;
        if (option_is(&one, "name")) {
            free(s->name);
            s->name = strndup(one.value != NULL ? one.value : "", one.value_bytes < MOST_NAME_BYTES ? one.value_bytes : MOST_NAME_BYTES);
            code = s->name != NULL ? FASTQ_OK : fail_memory();
        } else if (option_is(&one, "patience")) {
            code = option_milliseconds(&one, &number);
            s->patience_ns = code != FASTQ_OK ? 0 : number > INT64_MAX / 1000000 ? FOR_EVER : (int64_t)number * 1000000;
        } else if (option_is(&one, "ring")) {
            code = option_number(&one, MIN_RING_BYTES, MAX_RING_BYTES, &number);
            if (code == FASTQ_OK && !is_ring(number)) {
                code = fail(FASTQ_BAD_ARGUMENT, 0, "Option ring is a power of two, not %llu", (unsigned long long)number);
            }
            s->ring_bytes = (uint32_t)number;
        } else if (option_is(&one, "copies")) {
            code = option_switch(&one, &s->wants_copies);
        } else if (option_is(&one, "verify")) {
            code = option_switch(&one, &s->verifies_all);
        } else {
            code = unknown_option(&one);
        }
        if (code != FASTQ_OK) {
            return code;
        }
    }
    return FASTQ_OK;
}

void free_session(struct session *s) {
    free_transactions(s);
    free_requests(s);
    free_subscriptions(s);
    for (struct run *run = s->first_run; run != NULL;) {
        struct run *next = run->next_in_ring;
        free_run(s, run);
        run = next;
    }
    while (s->pool != NULL) {
        struct run *run = s->pool;
        s->pool = run->next_in_ring;
        free(run->entries);
        free(run);
    }
    free(s->path);
    free(s->name);
    free(s->slots);
    free(s->gone);
    free(s->resuming);
    free(s->refused);
    free(s->answers.at);
    free(s->properties.at);
    free(s->lz4);
    free(s->encoded.at);
    free(s->routed);
    free(s->text.at);
    free(s);
}

/// Lets go of everything without a word, as the end of the process does.
static void abandon(struct session *s) {
    close_link(&s->link);
    if (s->event >= 0) {
        close(s->event);
    }
    unmap_slots(s);
    free_session(s);
}

static int connect_within(struct session *s) {
    int64_t deadline = deadline_in(s->patience_ns);
    bool is_there = false;
    while (!is_there) {
        int code = try_connect(s, &s->link, 0, s->ring_bytes, s->ring_bytes, deadline, &is_there);
        if (code != FASTQ_OK) {
            return code;
        }
        if (!is_there && !pause_until(deadline)) {
            return fail(FASTQ_DISCONNECTED, 0, "%s", fastq_last_error());
        }
    }
    s->event = epoll_create1(EPOLL_CLOEXEC);
    return s->event < 0 ? fail_system("epoll_create1", "the connection") : watch_link(s);
}

/// A free door, under the gate. 0: there is none.
static fastq_connection give_door(struct session *s) {
    static uint32_t last_generation;
    for (int i = 0; i < DOORS; i++) {
        if (doors[i].session == NULL && !atomic_load(&doors[i].is_busy)) {
            uint32_t generation = ++last_generation != 0 ? last_generation : ++last_generation;
            doors[i].session = s;
            atomic_store(&doors[i].is_forked, false);
            atomic_store_explicit(&doors[i].generation, generation, memory_order_release);
            return (uint64_t)generation << INDEX_BITS | (uint64_t)(i + 1);
        }
    }
    return 0;
}

int fastq_open(uint32_t abi, const char *path, const char *options, fastq_connection *connection) {
    if (abi != FASTQ_ABI) {
        return fail(FASTQ_WRONG_ABI, FASTQ_ABI, "The program was compiled for ABI %u of libfastq, this library has %u: compile it anew with this library's fastq.h", abi, FASTQ_ABI);
    }
    if (connection == NULL) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_open needs room for the connection");
    }
    *connection = 0;
    struct session *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return fail_memory();
    }
    s->link = (struct link){.socket = -1, .bell = -1, .pipe = -1};
    s->event = -1;
    s->next_number = 1;
    s->patience_ns = 30000000000;
    s->ring_bytes = DEFAULT_RING_BYTES;
    s->path = path != NULL && *path != 0 ? strdup(path) : default_path();
    s->name = strdup("libfastq");
    int code = s->path == NULL || s->name == NULL ? fail_memory() : read_options(s, options);
    if (code == FASTQ_OK && getrandom(s->instance, sizeof s->instance, 0) != (ssize_t)sizeof s->instance) {
        code = fail_system("getrandom", "the connection's proof");
    }
    if (code == FASTQ_OK) {
        code = connect_within(s);
    }
    if (code == FASTQ_OK) {
        pthread_mutex_lock(&gate);
        code = register_for_forks();
        *connection = code == FASTQ_OK ? give_door(s) : 0;
        pthread_mutex_unlock(&gate);
        if (code == FASTQ_OK && *connection == 0) {
            code = fail(FASTQ_LIMIT_REACHED, DOORS, "A process has at most %d connections", DOORS);
        }
    }
    if (code != FASTQ_OK) {
        abandon(s);
    }
    return code;
}

/// Gives back what is in hand, and waits up to five seconds for what was sent to be written.
static int close_orderly(struct session *s) {
    enum { PATIENCE_NS = 5 };
    int code = s->is_closed ? fail(s->farewell_code, 0, "%s", s->farewell) : FASTQ_OK;
    if (s->patience_ns < 0 || s->patience_ns > (int64_t)PATIENCE_NS * 1000000000) {
        s->patience_ns = (int64_t)PATIENCE_NS * 1000000000; // Nor is a broker that is away waited for any longer.
    }
    for (struct subscription *u = s->subscriptions; u != NULL && code == FASTQ_OK; u = u->next) {
        code = unsubscribe(s, u);
    }
    if (code == FASTQ_OK) {
        code = flush_all(s, FASTQ_WRITTEN, (int64_t)PATIENCE_NS * 1000000000);
    }
    return code == FASTQ_OK ? send_control(s, (struct control_record){.kind = KIND_BYE}) : code;
}

int fastq_close(fastq_connection connection) {
    struct door *door;
    int code = hold(connection, &door);
    if (code != FASTQ_OK) {
        return code;
    }
    struct session *s = door->session;
    bool is_forked = atomic_load(&door->is_forked);
    if (!is_forked) {
        s->is_armed = false;
        if (load(reading(s)->a, CLIENT_SLEEP_NUMBER) % 2 == 1) {
            wake(s);
        }
        code = close_orderly(s);
    }
    pthread_mutex_lock(&gate);
    door->session = NULL;
    atomic_store(&door->generation, 0);
    pthread_mutex_unlock(&gate);
    if (is_forked) {
        for (int i = 0; i < s->link.pair_count; i++) {
            free(s->link.pairs[i]); // The memory itself is not there in a child.
        }
        free_session(s);
    } else {
        abandon(s);
    }
    return leave(connection, code);
}

// ---- how it stands

int fastq_get_status(fastq_connection connection, fastq_status *status) {
    struct session *s;
    if (status == NULL || status->size < sizeof(size_t) || status->size > 4096) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_get_status needs a status whose size says how large it is");
    }
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    fastq_status now = {
        .size = status->size, .epoch = s->epoch, .producer = s->producer, .last_number = s->next_number - 1, .reconnects = s->reconnects, .resent = s->resent,
        .duplicates = s->duplicates, .refusals = s->refused_count, .max_message_bytes = s->max_message_bytes, .ring_bytes = writing(s)->a_bytes,
    };
    size_t known = now.size < sizeof now ? now.size : sizeof now;
    memset(status, 0, now.size); // What a newer program knows beyond this library is 0.
    memcpy(status, &now, known);
    return leave(connection, FASTQ_OK);
}

int fastq_is_connected(fastq_connection connection) {
    struct session *s;
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    struct epoll_event events[4];
    int count = epoll_wait(s->event, events, 4, 0);
    for (int i = 0; i < count; i++) {
        if ((events[i].events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0) {
            code = fail(FASTQ_DISCONNECTED, 0, "The broker has hung up");
        }
    }
    return leave(connection, code);
}

int fastq_tick(fastq_connection connection) {
    struct session *s;
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    bool news;
    code = flush_all_settles(s);
    if (code == FASTQ_OK && (code = look_at_socket(s)) == FASTQ_OK) {
        code = take_news(s, &news);
    }
    return leave(connection, code);
}

int fastq_set_log(fastq_connection connection, fastq_log log, void *context) {
    struct session *s;
    int code = enter(connection, &s);
    if (code == FASTQ_OK) {
        s->log = log;
        s->log_context = context;
        leave(connection, FASTQ_OK);
    }
    return code;
}

int fastq_descriptor(fastq_connection connection, int *descriptor) {
    struct session *s;
    if (descriptor == NULL) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_descriptor needs room for the descriptor");
    }
    int code = enter(connection, &s);
    if (code == FASTQ_OK) {
        *descriptor = s->event;
        leave(connection, FASTQ_OK);
    }
    return code;
}

int fastq_arm(fastq_connection connection, int *ready) {
    struct session *s;
    if (ready == NULL) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_arm needs room for its answer");
    }
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    code = flush_all_settles(s); // Nobody else sends them while the program waits elsewhere.
    bool news = false;
    code = code != FASTQ_OK ? code : take_news(s, &news);
    for (struct subscription *u = s->subscriptions; u != NULL; u = u->next) {
        news |= u->first_waiting != NULL || u->current != NULL;
    }
    if (code == FASTQ_OK && !news) {
        announce_sleep(s);
        s->is_armed = true;
        news = has_news(s);
    }
    *ready = news;
    return leave(connection, code);
}
