// What the broker does to its disk, written to a log with all its bytes; and, if asked, EIO at the
// n-th call of a kind (from there on: +) on the file whose path ends with NAME.
//
//   LD_PRELOAD=shim.so SHIM_LOG=FILE SHIM_ROOT=DIR [SHIM_FAIL=CALL:N[+]:NAME] fastq serve ...
//
// The binary finds libc's functions by dlsym, so that is what is replaced here: it gives out these instead of libc's own.
// Only files on DIR's device count: memory files, sockets and pipes are of others.
//
// A record: kind (u32), call (u32), file (u64), offset (i64), bytes (i64), length of what follows (u32), zero (u32); then a path, or data.
//   W write begun, with its data (none: all zeroes)    w write done    A allocate    C create    M mkdir    R rename (two paths, a zero between)    U unlink
//   S sync begun    s sync done    f sync failed: what it covered is not on the disk
// Changes of names are logged when they are done. A record is one write to a file in append mode, so records of threads do not mix.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct record { uint32_t kind, call; uint64_t file; int64_t offset, bytes; uint32_t length, zero; };

static int log_fd = -1;
static dev_t device;
static char fail_call[32], fail_name[128];
static unsigned long fail_at, fail_on;
static atomic_uint calls;

static void *libc_function(const char *name) { return dlvsym(RTLD_NEXT, name, "GLIBC_2.2.5"); }

static unsigned append(uint32_t kind, unsigned call, uint64_t file, int64_t offset, int64_t bytes, const void *data, size_t length)
{
    struct record record = { kind, call ? call : atomic_fetch_add(&calls, 1) + 1, file, offset, bytes, (uint32_t)length, 0 };
    struct iovec pieces[2] = { { &record, sizeof record }, { (void *)data, length } };
    int saved = errno;
    if (writev(log_fd, pieces, 2) != (ssize_t)(sizeof record + length))
        abort(); // A log with a hole proves nothing.
    errno = saved;
    return record.call;
}

// Is it a file or directory of the disk that is watched? Its number, or 0.
static uint64_t watched(int fd)
{
    struct stat status;
    int saved = errno;
    int is_ours = log_fd >= 0 && fstat(fd, &status) == 0 && status.st_dev == device && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode));
    errno = saved;
    return is_ours ? status.st_ino : 0;
}

static size_t path_of(int fd, char path[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
    return strlen(path);
}

static int must_fail(const char *call, int fd)
{
    static atomic_ulong count;
    char path[PATH_MAX];
    if (fail_at == 0 || strcmp(call, fail_call) != 0)
        return 0;
    size_t length = path_of(fd, path), suffix = strlen(fail_name);
    if (length < suffix || strcmp(path + length - suffix, fail_name) != 0)
        return 0;
    unsigned long number = atomic_fetch_add(&count, 1) + 1;
    if (number != fail_at && !(fail_on && number > fail_at))
        return 0;
    errno = EIO;
    return 1;
}

static int is_zero(const char *data, size_t length)
{
    return length == 0 || (data[0] == 0 && memcmp(data, data + 1, length - 1) == 0);
}

static int shim_open(const char *path, int flags, ...)
{
    static int (*real)(const char *, int, ...);
    if (!real)
        real = libc_function("open");
    int mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, int);
        va_end(arguments);
    }
    if (!(flags & O_CREAT))
        return real(path, flags, mode);
    int fd = real(path, flags & ~O_CREAT & ~O_EXCL, mode);
    if (fd >= 0 && (flags & O_EXCL)) {
        close(fd);
        errno = EEXIST;
        return -1;
    }
    if (fd >= 0 || errno != ENOENT)
        return fd;
    fd = real(path, flags, mode);
    uint64_t file = fd >= 0 ? watched(fd) : 0;
    if (file)
        append('C', 0, file, 0, 0, path, strlen(path));
    return fd;
}

static ssize_t shim_pwrite(int fd, const void *data, size_t length, off_t offset)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real)
        real = libc_function("pwrite");
    uint64_t file = watched(fd);
    if (!file)
        return real(fd, data, length, offset);
    if (must_fail("pwrite", fd))
        return -1;
    unsigned call = append('W', 0, file, offset, (int64_t)length, data, is_zero(data, length) ? 0 : length);
    ssize_t done = real(fd, data, length, offset);
    append('w', call, file, offset, done, NULL, 0);
    return done;
}

// A vector goes out piece by piece; the kernel may do so as well, and its caller goes on after a short write.
static ssize_t shim_pwritev(int fd, const struct iovec *pieces, int count, off_t offset)
{
    static ssize_t (*real)(int, const struct iovec *, int, off_t);
    if (!real)
        real = libc_function("pwritev");
    if (!watched(fd) || count == 0)
        return real(fd, pieces, count, offset);
    return shim_pwrite(fd, pieces[0].iov_base, pieces[0].iov_len, offset);
}

static int sync_with(const char *name, int (*real)(int), int fd)
{
    uint64_t file = watched(fd);
    if (!file)
        return real(fd);
    char path[PATH_MAX];
    size_t length = path_of(fd, path);
    unsigned call = append('S', 0, file, 0, 0, path, length);
    int result = must_fail(name, fd) ? -1 : real(fd);
    append(result == 0 ? 's' : 'f', call, file, 0, 0, path, length);
    return result;
}

static int shim_fdatasync(int fd) { return sync_with("fdatasync", libc_function("fdatasync"), fd); }
static int shim_fsync(int fd) { return sync_with("fsync", libc_function("fsync"), fd); }

static int shim_fallocate(int fd, int mode, off_t offset, off_t bytes)
{
    static int (*real)(int, int, off_t, off_t);
    if (!real)
        real = dlvsym(RTLD_NEXT, "fallocate", "GLIBC_2.10");
    uint64_t file = watched(fd);
    int result = real(fd, mode, offset, bytes);
    if (file && result == 0)
        append('A', 0, file, offset, bytes, NULL, 0);
    return result;
}

static int shim_mkdir(const char *path, mode_t mode)
{
    int (*real)(const char *, mode_t) = libc_function("mkdir");
    int result = real(path, mode);
    if (result == 0 && log_fd >= 0)
        append('M', 0, 0, 0, 0, path, strlen(path));
    return result;
}

static int shim_rename(const char *from, const char *to)
{
    int (*real)(const char *, const char *) = libc_function("rename");
    int result = real(from, to);
    if (result == 0 && log_fd >= 0) {
        char both[2 * PATH_MAX + 2];
        int length = snprintf(both, sizeof both, "%s%c%s", from, 0, to);
        append('R', 0, 0, 0, 0, both, (size_t)length);
    }
    return result;
}

static int shim_unlink(const char *path)
{
    int (*real)(const char *) = libc_function("unlink");
    int result = real(path);
    if (result == 0 && log_fd >= 0)
        append('U', 0, 0, 0, 0, path, strlen(path));
    return result;
}

void *dlsym(void *handle, const char *name)
{
    static const struct { const char *name; void *function; } shims[] = {
        { "open", shim_open }, { "pwrite", shim_pwrite }, { "pwritev", shim_pwritev }, { "fdatasync", shim_fdatasync }, { "fsync", shim_fsync },
        { "fallocate", shim_fallocate }, { "mkdir", shim_mkdir }, { "rename", shim_rename }, { "unlink", shim_unlink },
    };
    static void *(*real)(void *, const char *);
    for (size_t i = 0; log_fd >= 0 && i < sizeof shims / sizeof shims[0]; i++)
        if (strcmp(name, shims[i].name) == 0)
            return shims[i].function;
    if (!real)
        real = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
    if (!real)
        real = libc_function("dlsym");
    return real(handle, name);
}

__attribute__((constructor)) static void begin(void)
{
    const char *log = getenv("SHIM_LOG"), *root = getenv("SHIM_ROOT"), *fail = getenv("SHIM_FAIL");
    struct stat status;
    if (!log || !root || stat(root, &status) != 0)
        return;
    device = status.st_dev;
    if (fail && sscanf(fail, "%31[^:]:%lu", fail_call, &fail_at) == 2) {
        fail_on = strchr(fail, '+') != NULL;
        snprintf(fail_name, sizeof fail_name, "%s", strrchr(fail, ':') + 1);
    }
    log_fd = open(log, O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC, 0600);
}
