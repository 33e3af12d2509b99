// What the C tests share: tests by name, a broker of their own in a directory of its own, and a summary that ./build.sh adds up.
#ifndef HARNESS_H
#define HARNESS_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../include/fastq.h"

#define SECOND ((int64_t)1000000000)
#define LONG_WAIT (60 * SECOND)

static int failures_of_this;

// A failed check is told and counted; the test goes on as far as it can.
#define CHECK(condition) check((condition), #condition, __FILE__, __LINE__)
#define CHECK_OK(call) check_code((call), FASTQ_OK, #call, __FILE__, __LINE__)
#define CHECK_CODE(call, code) check_code((call), (code), #call, __FILE__, __LINE__)

__attribute__((unused)) static bool check(bool holds, const char *what, const char *file, int line) {
    if (!holds) {
        printf("    %s:%d: not so: %s\n", file, line, what);
        failures_of_this++;
    }
    return holds;
}

__attribute__((unused)) static bool check_code(int code, int wanted, const char *what, const char *file, int line) {
    if (code != wanted) {
        printf("    %s:%d: %s gave %s (%s), wanted %s\n", file, line, what, fastq_code_name(code), code == 0 ? "" : fastq_last_error(), wanted == 0 ? "ok" : fastq_code_name(wanted));
        failures_of_this++;
    }
    return code == wanted;
}

typedef struct { pid_t process; char folder[64], data[96], socket[96]; } broker;

static const char *broker_binary;

__attribute__((unused)) static void start_broker(broker *b) {
    int ready[2];
    char line[512];
    if (pipe2(ready, O_CLOEXEC) != 0 || (b->process = fork()) < 0) {
        perror("start_broker");
        exit(2);
    }
    if (b->process == 0) {
        dup2(ready[1], STDOUT_FILENO);
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDERR_FILENO);
        unsetenv("LD_PRELOAD");
        execl(broker_binary, broker_binary, "serve", "--data", b->data, "--socket", b->socket, (char *)NULL);
        _exit(127);
    }
    close(ready[1]);
    FILE *output = fdopen(ready[0], "r");
    if (fgets(line, sizeof line, output) == NULL || strncmp(line, "ready", 5) != 0) {
        printf("The broker %s does not start\n", broker_binary);
        exit(2);
    }
    fclose(output);
}

__attribute__((unused)) static void make_broker(broker *b) {
    strcpy(b->folder, "/tmp/fastq-native-XXXXXX");
    if (mkdtemp(b->folder) == NULL) {
        perror("mkdtemp");
        exit(2);
    }
    snprintf(b->data, sizeof b->data, "%s/data", b->folder);
    snprintf(b->socket, sizeof b->socket, "%s/fastq.sock", b->folder);
    start_broker(b);
}

__attribute__((unused)) static void kill_broker(broker *b, int signal) {
    kill(b->process, signal);
    waitpid(b->process, NULL, 0);
}

__attribute__((unused)) static void remove_broker(broker *b) {
    char command[160];
    kill_broker(b, SIGKILL);
    snprintf(command, sizeof command, "rm -rf '%s'", b->folder);
    if (system(command) != 0) {
        printf("could not remove %s\n", b->folder);
    }
}

typedef struct { const char *name; void (*run)(void); } test;

/// Runs all tests, or those whose name holds a word. The last two lines are what ./build.sh adds up.
__attribute__((unused)) static int run_tests(const char *suite, const test *tests, size_t count, const char *only) {
    int passed = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < count; i++) {
        if (only != NULL && strstr(tests[i].name, only) == NULL) {
            continue;
        }
        failures_of_this = 0;
        tests[i].run();
        printf("%s %s.%s\n", failures_of_this == 0 ? "passed" : "failed", suite, tests[i].name);
        *(failures_of_this == 0 ? &passed : &failed) += 1;
    }
    printf("  succeeded: %d\n  failed: %d\n", passed, failed);
    return failed == 0 && passed > 0 ? 0 : 1;
}

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

#endif
