// Shared memory between one writer and one reader, and the submission ring as resend buffer.
//
//   mapped twice in a row, so that a record never wraps:
//   |<------- bytes ------->|<------- bytes ------->|
//   |  record | record | free |  record | record | free |   (the same memory again)
//        ^ position        ^ head                               both 64-bit, in bytes, only rising, multiples of 8
//
//   freed            read by the broker       head
//     |  written or durable      |  ...          |             marks: (end, number, level), neighbours of one level merged up to 1/16 of the ring
//
// Room comes back when the broker has read a record and it is durable, if its sender waits for that, else written. Not sooner, though nobody
// may wait at all: a broker that was killed takes numbers up where its journal ends, and what came after is sent again without a gap.
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "session.h"

bool is_ring(uint64_t bytes) { return bytes >= MIN_RING_BYTES && bytes <= MAX_RING_BYTES && (bytes & (bytes - 1)) == 0; }

uint64_t ring_for(uint64_t record_bytes) {
    uint64_t wanted = record_bytes + record_bytes / 3 + 64, ring = MIN_RING_BYTES;
    while (ring < wanted) {
        ring *= 2;
    }
    return ring;
}

static unsigned char *map_once(int descriptor, int protection) {
    void *at = mmap(NULL, CONTROL_PAGE_BYTES, protection, MAP_SHARED, descriptor, 0);
    if (at == MAP_FAILED) {
        return NULL;
    }
    madvise(at, CONTROL_PAGE_BYTES, MADV_DONTFORK);
    return at;
}

/// The ring's bytes at two places in a row: reserved first, so that nothing else comes between them.
static unsigned char *map_twice(int descriptor, size_t bytes, int protection) {
    unsigned char *at = mmap(NULL, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        return NULL;
    }
    for (int i = 0; i < 2; i++) {
        if (mmap(at + i * bytes, bytes, protection, MAP_SHARED | MAP_FIXED, descriptor, CONTROL_PAGE_BYTES) == MAP_FAILED) {
            munmap(at, 2 * bytes);
            return NULL;
        }
    }
    madvise(at, 2 * bytes, MADV_DONTFORK);
    return at;
}

/// Two files that are as large as is said, for a touch beyond a file's end would be a SIGBUS. Were they one, what this side writes would be news
/// from the broker, and who waits would never look whether it is still there.
static bool are_two_files(int descriptor_a, uint64_t a_bytes, int descriptor_b, uint64_t b_bytes) {
    struct stat a, b;
    return fstat(descriptor_a, &a) == 0 && fstat(descriptor_b, &b) == 0 && (uint64_t)a.st_size >= CONTROL_PAGE_BYTES + a_bytes
        && (uint64_t)b.st_size >= CONTROL_PAGE_BYTES + b_bytes && (a.st_ino != b.st_ino || a.st_dev != b.st_dev);
}

static bool are_the_brokers(const struct pair *pair) {
    uint32_t words[3];
    memcpy(words, pair->b, sizeof words);
    return words[0] == BROKER_MAGIC && words[1] == PROTOCOL_MAJOR && words[2] == pair->b_bytes;
}

/// Maps both files and writes A's control page; the descriptors are closed in any case.
int map_pair(uint32_t number, uint64_t a_bytes, uint64_t b_bytes, int descriptor_a, int descriptor_b, struct pair **pair) {
    struct pair *made = calloc(1, sizeof *made);
    int code = made == NULL ? fail_memory() : FASTQ_OK;
    if (made != NULL && !are_two_files(descriptor_a, a_bytes, descriptor_b, b_bytes)) {
        code = fail(FASTQ_VERSION_MISMATCH, 0, "The broker's memory is not two files of the size that it says");
    } else if (made != NULL) {
        made->number = number;
        made->a_bytes = (uint32_t)a_bytes;
        made->b_bytes = (uint32_t)b_bytes;
        made->a = map_once(descriptor_a, PROT_READ | PROT_WRITE);
        made->a_ring = map_twice(descriptor_a, a_bytes, PROT_READ | PROT_WRITE);
        made->b = map_once(descriptor_b, PROT_READ);
        made->b_ring = map_twice(descriptor_b, b_bytes, PROT_READ);
        if (made->a == NULL || made->a_ring == NULL || made->b == NULL || made->b_ring == NULL) {
            code = fail_system("mmap", "the rings");
        } else if (!are_the_brokers(made)) {
            code = fail(FASTQ_VERSION_MISMATCH, 0, "The broker's memory does not begin as the protocol says");
        } else {
            uint32_t words[3] = {CLIENT_MAGIC, PROTOCOL_MAJOR, made->a_bytes};
            memcpy(made->a, words, sizeof words);
        }
    }
    close(descriptor_a);
    close(descriptor_b);
    if (code != FASTQ_OK) {
        unmap_pair(made);
        made = NULL;
    }
    *pair = made;
    return code;
}

void unmap_pair(struct pair *pair) {
    if (pair == NULL) {
        return;
    }
    if (pair->a != NULL) {
        munmap(pair->a, CONTROL_PAGE_BYTES);
    }
    if (pair->b != NULL) {
        munmap(pair->b, CONTROL_PAGE_BYTES);
    }
    if (pair->a_ring != NULL) {
        munmap(pair->a_ring, 2 * (size_t)pair->a_bytes);
    }
    if (pair->b_ring != NULL) {
        munmap(pair->b_ring, 2 * (size_t)pair->b_bytes);
    }
    free(pair);
}

int64_t room_in(const struct pair *pair) { return (int64_t)pair->a_bytes - (int64_t)(pair->head - pair->freed); }

bool has_mark_room(const struct pair *pair) { return pair->end_mark - pair->first_mark < MARKS; }

unsigned char *next_record(struct pair *pair) { return pair->a_ring + (pair->head & (pair->a_bytes - 1)); }

static struct mark *mark_at(struct pair *pair, unsigned index) { return &pair->marks[index % (MARKS + SPARE_MARKS)]; }

static void add_mark(struct pair *pair, uint64_t start, uint64_t number, int level) {
    if (pair->first_mark != pair->end_mark) {
        struct mark *last = mark_at(pair, pair->end_mark - 1);
        if (last->level == level && start - last->start < pair->a_bytes / 16) {
            last->end = pair->head;
            last->number = number;
            return;
        }
    }
    *mark_at(pair, pair->end_mark++) = (struct mark){.start = start, .end = pair->head, .number = number, .level = level};
}

void commit_record(struct pair *pair, size_t length, uint64_t number, int level) {
    uint64_t start = pair->head;
    unsigned char *end = next_record(pair) + length;
    pair->head += align8(length);
    memset(end, 0, pair->head - start - length); // The padding is zero.
    add_mark(pair, start, number, level);
    store(pair->a, CLIENT_SUBMISSION_HEAD, pair->head);
}

void free_confirmed(struct pair *pair, uint64_t read_position, uint64_t written, uint64_t durable) {
    while (pair->first_mark != pair->end_mark) {
        struct mark *mark = mark_at(pair, pair->first_mark);
        if (mark->end > read_position || mark->number > (mark->level == FASTQ_DURABLE ? durable : written)) {
            return;
        }
        pair->freed = mark->end;
        pair->first_mark++;
    }
}

/// Asked after the head was published. True: the broker sleeps and has not been rung for this sleep yet.
bool must_ring(struct pair *pair) {
    if (pair->is_fenced_by_broker) {
        atomic_signal_fence(memory_order_seq_cst); // The broker has the kernel fence this process between its announcement and its last look.
    } else {
        atomic_thread_fence(memory_order_seq_cst); // Pairs with the broker's, between its announcement and its last look.
    }
    uint64_t number = load(pair->b, BROKER_SLEEP_NUMBER);
    if ((number & 1) == 0 || number == pair->rang) {
        return false;
    }
    pair->rang = number;
    return true;
}
