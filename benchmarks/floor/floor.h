// What each floor program needs: to fail loudly, to read clocks, to share memory between processes, and to wake one that sleeps.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)
#define PAIR_OF_LINES 128 // the prefetcher fetches cache lines in pairs

_Noreturn __attribute__((format(printf, 1, 2))) static inline void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("FAILED: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    _exit(1);
}

static inline long checked(long result, const char *call, int line) {
    if (result < 0) {
        fail("line %d: %s: %s", line, call, strerror(errno));
    }
    return result;
}
#define MUST(call) checked((long)(call), #call, __LINE__)

static inline uint64_t round_up(uint64_t n, uint64_t unit) { return (n + unit - 1) / unit * unit; }

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// User and system time that this process, with all its threads, has had.
static inline uint64_t cpu_ns(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000 + (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

// A run that hangs ends by itself, and so do its children: nothing is left behind.
static inline void end_within(unsigned seconds) {
    alarm(seconds);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static inline void on_child_end(int number, siginfo_t *what, void *unused) {
    (void)number;
    (void)unused;
    if (what->si_code != CLD_EXITED || what->si_status != 0) {
        static const char text[] = "FAILED: a child process ended with an error\n";
        _exit(write(STDERR_FILENO, text, sizeof text - 1) < 0 ? 2 : 1);
    }
}

// Else a parent would wait in vain for what a failed child should have sent.
static inline void fail_with_children(void) {
    struct sigaction action = {.sa_sigaction = on_child_end, .sa_flags = SA_SIGINFO | SA_RESTART | SA_NOCLDSTOP};
    MUST(sigaction(SIGCHLD, &action, NULL));
}

// ---- samples

static inline int by_value(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static inline double micros_at(const uint64_t *sorted_ns, size_t count, double quantile) {
    size_t i = (size_t)(quantile * (double)count);
    return (double)sorted_ns[i < count ? i : count - 1] / 1e3;
}

// One line of JSON with the usual percentiles. Sorts the samples.
static inline void print_latency(const char *name, uint64_t *samples_ns, size_t count) {
    if (count == 0) {
        fail("%s: no samples", name);
    }
    qsort(samples_ns, count, sizeof *samples_ns, by_value);
    printf("{\"name\":\"%s\",\"count\":%zu,\"latencyMicroseconds\":{\"p50\":%.2f,\"p99\":%.2f,\"p999\":%.2f,\"max\":%.2f}}\n", name, count,
        micros_at(samples_ns, count, 0.5), micros_at(samples_ns, count, 0.99), micros_at(samples_ns, count, 0.999), micros_at(samples_ns, count, 1));
    fflush(stdout);
}

// ---- memory

// Zeroed memory that stays shared after fork.
static inline void *shared_memory(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (at == MAP_FAILED) {
        fail("mmap of %zu bytes: %s", bytes, strerror(errno));
    }
    return at;
}

static inline int memory_file(size_t bytes) {
    int file = (int)MUST(memfd_create("floor", MFD_CLOEXEC));
    MUST(ftruncate(file, (off_t)bytes));
    return file;
}

// Address space for mappings of files. It begins at a multiple of 2 MiB, for only there can the kernel map a large page at once.
static inline uint8_t *address_space(size_t bytes) {
    void *at = mmap(NULL, bytes + 2 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        fail("no address space for %zu bytes: %s", bytes, strerror(errno));
    }
    return (uint8_t *)(uintptr_t)round_up((uintptr_t)at, 2 * MIB);
}

static inline void map_file_at(uint8_t *at, size_t bytes, int protection, int file) {
    if (mmap(at, bytes, protection, MAP_SHARED | MAP_FIXED | MAP_POPULATE, file, 0) == MAP_FAILED) {
        fail("mapping a file of %zu bytes: %s", bytes, strerror(errno));
    }
}

// A ring whose pages appear twice in a row, so that what runs over its end is at its start.
static inline uint8_t *mirrored_ring(size_t bytes) {
    int file = memory_file(bytes);
    uint8_t *at = address_space(2 * bytes);
    map_file_at(at, bytes, PROT_READ | PROT_WRITE, file);
    map_file_at(at + bytes, bytes, PROT_READ | PROT_WRITE, file);
    close(file);
    return at;
}

// A number that one process writes and others read, alone on its cache lines.
typedef struct {
    _Alignas(PAIR_OF_LINES) _Atomic uint64_t value;
} counter;

static inline uint64_t look(const counter *c) { return atomic_load_explicit(&c->value, memory_order_acquire); }
static inline void publish(counter *c, uint64_t value) { atomic_store_explicit(&c->value, value, memory_order_release); }

// ---- doorbells
//
// sleeper: asleep = 1, fence, look once more, read(event)          ringer: advance the counter, fence, asleep? then write(event)
//
// Either the ringer sees the flag, or the sleeper sees the counter: no ring is lost.

typedef struct {
    _Alignas(PAIR_OF_LINES) _Atomic uint32_t asleep;
    int event;
    unsigned yields; // how often to give the core away before sleeping
} doorbell;

static inline void doorbell_init(doorbell *bell, unsigned yields) {
    bell->event = (int)MUST(eventfd(0, EFD_CLOEXEC));
    bell->yields = yields;
}

static inline void ring(doorbell *bell) {
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&bell->asleep, memory_order_relaxed) && atomic_exchange(&bell->asleep, 0)) {
        uint64_t one = 1;
        MUST(write(bell->event, &one, sizeof one));
    }
}

typedef struct {
    doorbell *bell;
    unsigned yields_left;
    bool asleep; // the flag is up: the next step sleeps
} waiter;

static inline void sleep_until_rung(doorbell *bell) {
    uint64_t rings;
    MUST(read(bell->event, &rings, sizeof rings));
}

// One step between two looks: first gives the core away, then raises the flag, then sleeps.
static inline void wait_step(waiter *w) {
    if (w->yields_left > 0) {
        w->yields_left--;
        sched_yield();
    } else if (!w->asleep) {
        w->asleep = true;
        atomic_store_explicit(&w->bell->asleep, 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
    } else {
        sleep_until_rung(w->bell);
        w->asleep = false;
        w->yields_left = w->bell->yields;
    }
}

// The flag comes down. If a ringer has taken it down already, its ring is on the way: take it, or it would cut the next sleep short.
static inline void wait_end(const waiter *w) {
    if (w->asleep && !atomic_exchange(&w->bell->asleep, 0)) {
        sleep_until_rung(w->bell);
    }
}

#define WAIT_UNTIL(own_bell, ready)                                  \
    do {                                                             \
        waiter waiter_ = {(own_bell), (own_bell)->yields, false};    \
        while (!(ready)) {                                           \
            wait_step(&waiter_);                                     \
        }                                                            \
        wait_end(&waiter_);                                          \
    } while (0)
