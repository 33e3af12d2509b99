// libfastq.so in a process that loads and unloads it: unload LIBRARY BROKER. The host's own handlers, forks and memory go on without it.
#include <dlfcn.h>

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

// The harness names these two; here they are the library's alone.
const char *fastq_code_name(int code) { (void)code; return "?"; }
const char *fastq_last_error(void) { return "?"; }

int main(int count, char **arguments) {
    static const test tests[] = {{"a_library_that_was_used_and_closed_leaves_nothing_behind", a_library_that_was_used_and_closed_leaves_nothing_behind}};
    if (count < 3) {
        fprintf(stderr, "Usage: unload LIBRARY BROKER\n");
        return 2;
    }
    library = arguments[1];
    broker_binary = arguments[2];
    return run_tests("native.unload", tests, COUNT_OF(tests), NULL);
}
