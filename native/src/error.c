// The thread's last error, and the names of codes.
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "session.h"

static _Thread_local struct { int code; uint64_t value; char text[512]; } last;

int fail(int code, uint64_t value, const char *format, ...) {
    // What is said may be the last text itself, with more around it: so it is put together apart.
    char text[sizeof last.text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    last.code = code;
    last.value = value;
    memcpy(last.text, text, sizeof text);
    return code;
}

int fail_system(const char *call, const char *subject) {
    int error = errno;
    return fail(FASTQ_SYSTEM, 0, "%s failed on %s: %s (%d)", call, subject, strerror(error), error);
}

int fail_memory(void) { return fail(FASTQ_NO_MEMORY, 0, "The system gives no more memory to this process"); }

int fail_closed(void) { return fail(FASTQ_IS_CLOSED, 0, "No open connection or subscription has this handle: it was closed, or never was one"); }

int fastq_last_code(void) { return last.code; }

const char *fastq_last_error(void) { return last.text; }

uint64_t fastq_last_value(void) { return last.value; }

const char *fastq_version(void) { return FASTQ_VERSION_TEXT; }

uint32_t fastq_abi(void) { return FASTQ_ABI; }

const char *fastq_code_name(int code) {
    static const char *const refusals[] = {
#define NAME_OF(symbol, number, name) [number] = name,
        FASTQ_REFUSALS(NAME_OF)
#undef NAME_OF
    };
    static const char *const own[] = {"forked", "busy", "closed", "no-memory", "system", "wrong-abi", "unreadable"};
    if (code >= 0 && (size_t)code < sizeof refusals / sizeof *refusals && refusals[code] != NULL) {
        return refusals[code];
    }
    return code >= FASTQ_FORKED && code <= FASTQ_UNREADABLE ? own[code - FASTQ_FORKED] : "unknown";
}
