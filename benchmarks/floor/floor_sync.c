// How long a confirm must take at least: append to a recycled file and fdatasync it, for blocks of three sizes.
//
//   floor_sync DIR [-t SECONDS]        DIR: where the file lies (unlinked at once); SECONDS for each size, 1 by default
//
// Recycled: every byte of the file was written before, so an append changes no metadata, as in the journal's slots.
#include "floor.h"

#define FILE_BYTES (64 * MIB)
#define MOST_SAMPLES 100000

static int recycled_file(const char *folder, const uint8_t *bytes) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/floor_sync.XXXXXX", folder) >= (int)sizeof path) {
        fail("path too long: %s", folder);
    }
    int file = (int)MUST(mkstemp(path));
    MUST(unlink(path));
    for (uint64_t at = 0; at < FILE_BYTES; at += 2 * MIB) {
        if (MUST(pwrite(file, bytes, 2 * MIB, (off_t)at)) != (long)(2 * MIB)) {
            fail("short write to a file in %s", folder);
        }
    }
    MUST(fsync(file));
    return file;
}

static void measure(int file, const uint8_t *bytes, size_t block_bytes, double seconds, uint64_t *samples) {
    size_t count = 0;
    uint64_t at = 0, end = now_ns() + (uint64_t)(seconds * 1e9);
    while (count < MOST_SAMPLES && now_ns() < end) {
        uint64_t start = now_ns();
        if (MUST(pwrite(file, bytes + at % (1 * MIB), block_bytes, (off_t)at)) != (long)block_bytes) {
            fail("short write of %zu bytes", block_bytes);
        }
        MUST(fdatasync(file));
        samples[count++] = now_ns() - start;
        at = (at + block_bytes) % FILE_BYTES;
    }
    char name[64];
    snprintf(name, sizeof name, "sync %zu KiB", block_bytes / KIB);
    print_latency(name, samples, count);
}

int main(int argc, char **argv) {
    double seconds = 1;
    int option;
    while ((option = getopt(argc, argv, "t:")) != -1) {
        if (option != 't' || (seconds = atof(optarg)) <= 0) {
            fail("usage: floor_sync DIR [-t SECONDS]");
        }
    }
    if (optind + 1 != argc) {
        fail("usage: floor_sync DIR [-t SECONDS]");
    }
    end_within(60 + (unsigned)(seconds * 3));

    uint8_t *bytes = malloc(2 * MIB);
    uint64_t *samples = malloc(MOST_SAMPLES * sizeof *samples);
    if (!bytes || !samples) {
        fail("no memory");
    }
    uint64_t x = 0x9E3779B97F4A7C15ull; // incompressible, for disks that compress
    for (size_t i = 0; i < 2 * MIB; i += sizeof x) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(bytes + i, &x, sizeof x);
    }

    int file = recycled_file(argv[optind], bytes);
    static const size_t sizes[] = {4 * KIB, 64 * KIB, 256 * KIB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        measure(file, bytes, sizes[i], seconds, samples);
    }
    return 0;
}
