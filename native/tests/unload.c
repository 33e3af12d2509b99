// libfastq.so in a process that loads and unloads it: unload LIBRARY BROKER. The host's own handlers, forks and memory go on without it.
#include <dlfcn.h>
#include <time.h>

#include "harness.h"

static const char *library;

static bool is_mapped(void) {
    char line[512];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps) != NULL) {
        found |= strstr(line, "libfastq") != NULL;
    }
    fclose(maps);
    return found;
}

static int count_descriptors(void) {
    int count = 0;
    for (int descriptor = 0; descriptor < 1024; descriptor++) {
        count += fcntl(descriptor, F_GETFD) >= 0;
    }
    return count;
}

static void a_library_that_was_used_and_closed_leaves_nothing_behind(void) {
    broker b;
    make_broker(&b);
    int before = count_descriptors(), status = -1;
    for (int round = 0; round < 3; round++) {
        void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
        if (!CHECK(handle != NULL)) {
            printf("    %s\n", dlerror());
            break;
        }
        int (*open_connection)(uint32_t, const char *, const char *, fastq_connection *) = NULL;
        int (*close_connection)(fastq_connection) = NULL;
        int (*declare_queue)(fastq_connection, const char *, const char *, const char **) = NULL;
        *(void **)&open_connection = dlsym(handle, "fastq_open");
        *(void **)&close_connection = dlsym(handle, "fastq_close");
        *(void **)&declare_queue = dlsym(handle, "fastq_declare_queue");
        fastq_connection c = 0;
        CHECK(open_connection(FASTQ_ABI, b.socket, NULL, &c) == 0 && declare_queue(c, "q", NULL, NULL) == 0 && close_connection(c) == 0);
        CHECK(dlclose(handle) == 0 && !is_mapped());
        fflush(stdout);
        pid_t child = fork(); // Were the fork handler still registered, this would call what is not there.
        if (child == 0) {
            _exit(0);
        }
        waitpid(child, &status, 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    CHECK(count_descriptors() == before);
    remove_broker(&b);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

/// What this process has in memory besides shared memory, where the rings are; in KiB.
static long resident(void) {
    char line[128];
    long part, sum = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status) != NULL) {
        if (sscanf(line, "RssAnon: %ld", &part) == 1 || sscanf(line, "RssFile: %ld", &part) == 1) {
            sum += part;
        }
    }
    fclose(status);
    return sum;
}

static void opening_takes_less_than_a_millisecond_and_than_a_mebibyte(void) {
    enum { ROUNDS = 200, MOST_KIB = 1024 };
    broker b;
    make_broker(&b);
    long before = resident(), most = 0;
    int64_t fastest = INT64_MAX;
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    int (*open_connection)(uint32_t, const char *, const char *, fastq_connection *) = NULL;
    int (*close_connection)(fastq_connection) = NULL;
    int (*declare_queue)(fastq_connection, const char *, const char *, const char **) = NULL;
    *(void **)&open_connection = dlsym(handle, "fastq_open");
    *(void **)&close_connection = dlsym(handle, "fastq_close");
    *(void **)&declare_queue = dlsym(handle, "fastq_declare_queue");
    for (int round = 0; round < ROUNDS; round++) {
        fastq_connection c = 0;
        int64_t start = now_ns();
        CHECK(open_connection(FASTQ_ABI, b.socket, NULL, &c) == 0);
        int64_t taken = now_ns() - start;
        fastest = taken < fastest ? taken : fastest; // What it takes by itself: others have the processor, too.
        CHECK(declare_queue(c, "q", NULL, NULL) == 0);
        long now = resident() - before;
        most = now > most ? now : most;
        CHECK(close_connection(c) == 0);
    }
    printf("    an open takes %lld us at best; library and connection have %ld KiB resident besides the rings\n", (long long)fastest / 1000, most);
    CHECK(fastest < SECOND / 1000 && most < MOST_KIB);
    CHECK(dlclose(handle) == 0);
    remove_broker(&b);
}

// The harness names these two; here they are the library's alone.
const char *fastq_code_name(int code) { (void)code; return "?"; }
const char *fastq_last_error(void) { return "?"; }

int main(int count, char **arguments) {
    static const test tests[] = {
        {"opening_takes_less_than_a_millisecond_and_than_a_mebibyte", opening_takes_less_than_a_millisecond_and_than_a_mebibyte}, // First: what was freed stays resident.
        {"a_library_that_was_used_and_closed_leaves_nothing_behind", a_library_that_was_used_and_closed_leaves_nothing_behind},
    };
    if (count < 3) {
        fprintf(stderr, "Usage: unload LIBRARY BROKER\n");
        return 2;
    }
    library = arguments[1];
    broker_binary = arguments[2];
    return run_tests("native.unload", tests, COUNT_OF(tests), NULL);
}
