// How many messages a second three processes can pass on at most, when each does only what cannot be left out.
//
//   producer --submission ring--> broker --block of 256 KiB--> segments (the consumer maps them read-only)
//                                   |--delivery ring: references--> consumer --settlement ring: ranges--> broker
//
//   floor_pipe MODE [-n MESSAGES] [-s BODY_BYTES] [-d DIR]        DIR: where segment files lie (unlinked at once), /tmp by default
//
//   A  memory:  a block is filled in place in shared memory, and delivered at once
//   B  written: a block is filled in private memory and pwritten to a recycled file; its messages are delivered after that
//   C  durable: as B, but delivered after the fdatasync that covers the block, by a second thread; blocks fill while it runs
//
// Per message: the producer writes record and body in place; the broker judges a copy of the record, copies the body once, hashes it while it
// is in the nearest cache, and makes an index entry; the consumer gets 32 bytes, looks at the body, and settles 64 messages at a time.
// Checked: every record, the place, length and mark of every delivery, the state of every settled message, and all counts.
#include "floor.h"
#include <pthread.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    BLOCK_BYTES = 256 * 1024,
    BLOCK_HEADER_BYTES = 64,
    PAGE_BYTES = 4096,
    RECORD_MAGIC = 0x51,
    OPEN_MESSAGES = 64 * 1024, // unsettled at once; as many blocks
    RECORDS_A_TURN = 512,
    BYTES_A_TURN = 64 * 1024,
    SETTLE_TOGETHER = 64,
    YIELDS = 100, // then sleep
    SEGMENT_BYTES = 64 * 1024 * 1024,
    SEGMENTS = 4,
    LONGEST_RUN_SECONDS = 120,
};

typedef struct { // in the submission ring and in blocks; the body follows
    uint32_t magic, record_bytes, body_bytes, reserved;
    uint64_t sequence, group;
} record;

typedef struct {
    uint64_t tag, position;
    uint32_t body_bytes, segment;
    uint64_t reserved;
} reference;

typedef struct {
    uint64_t first, count;
} settlement;

typedef struct {
    uint64_t position, group;
    uint32_t body_bytes, block;
    uint32_t state, deliveries;
} index_entry;
enum { READY = 1, IN_FLIGHT, SETTLED };

typedef struct { // what the broker remembers of a block
    uint64_t position, end_sequence;
    int64_t live; // records minus settled ones; below zero while an open block's messages are settled already
} block;

typedef struct {
    uint64_t magic, number, hash;
    uint32_t bytes, records;
    uint64_t reserved[4];
} block_header;

_Static_assert(sizeof(record) == 32 && sizeof(reference) == 32 && sizeof(index_entry) == 32, "as large as a broker's own");
_Static_assert(sizeof(block_header) == BLOCK_HEADER_BYTES, "block header");

// ---- what the three processes share

static char mode = 'B';
static uint64_t count = 2000000;
static uint32_t body_bytes = 100;
static const char *folder = "/tmp";

static uint64_t ring_bytes = 4 * MIB;
#define SETTLEMENT_RING_BYTES ((uint64_t)OPEN_MESSAGES * sizeof(settlement)) // cannot overflow: a settlement settles a message at least
static uint8_t *submissions, *deliveries, *settlements;
static uint8_t *segments; // the consumer's and the broker's view of all segments in a row
static uint64_t capacity;

static struct {
    counter started;
    counter submitted, taken;      // bytes of the submission ring: written by the producer, given back by the broker
    counter delivered, received;   // bytes of the delivery ring
    counter settled;               // bytes of the settlement ring
    counter confirmed;             // messages
    counter verified;              // messages that the consumer has checked
    doorbell producer, broker, consumer, syncer;
    uint64_t start_ns, end_ns, producer_cpu_ns, broker_cpu_ns, consumer_cpu_ns;
} *shared;

static uint64_t mark_of(uint64_t sequence) { return (sequence + 1) * 0x9E3779B97F4A7C15ull; }
static uint32_t record_bytes_for(uint32_t body) { return (uint32_t)round_up(sizeof(record) + body, 8); }

static void start_together(void) {
    atomic_fetch_add(&shared->started.value, 1);
    while (look(&shared->started) < 3) {
        sched_yield();
    }
}

// ---- producer

static void produce(void) {
    uint8_t *text = malloc(body_bytes);
    for (uint32_t i = 0; i < body_bytes; i++) {
        text[i] = (uint8_t)(i * 131 + 7);
    }
    uint32_t bytes = record_bytes_for(body_bytes);
    // Once the ring is full, wait for a quarter of it: to be woken for each single record costs more than all else.
    uint64_t room_wanted = bytes > ring_bytes / 4 ? bytes : ring_bytes / 4;
    uint64_t head = 0, taken = 0;

    start_together();
    shared->start_ns = now_ns();
    for (uint64_t sequence = 0; sequence < count; sequence++) {
        if (head + bytes - taken > ring_bytes) {
            WAIT_UNTIL(&shared->producer, (taken = look(&shared->taken), head + room_wanted - taken <= ring_bytes));
        }
        uint8_t *at = submissions + head % ring_bytes;
        *(record *)at = (record){.magic = RECORD_MAGIC, .record_bytes = bytes, .body_bytes = body_bytes, .sequence = sequence, .group = 7};
        uint64_t mark = mark_of(sequence);
        memcpy(at + sizeof(record), text, body_bytes);
        memcpy(at + sizeof(record), &mark, sizeof mark);
        head += bytes;
        publish(&shared->submitted, head);
        ring(&shared->broker);
    }
    WAIT_UNTIL(&shared->producer, look(&shared->confirmed) == count);
    shared->producer_cpu_ns = cpu_ns();
}

// ---- consumer

typedef struct {
    uint64_t read, messages, settled, settlement_bytes;
} consumer_state;

static void settle_received(consumer_state *c) {
    settlement s = {c->settled, c->messages - c->settled};
    memcpy(settlements + c->settlement_bytes % SETTLEMENT_RING_BYTES, &s, sizeof s);
    c->settled = c->messages;
    c->settlement_bytes += sizeof s;
    publish(&shared->received, c->read);
    publish(&shared->settled, c->settlement_bytes);
    ring(&shared->broker);
}

static void check_delivery(const reference *r, uint64_t expected) {
    if (r->tag != expected || r->body_bytes != body_bytes || r->position > capacity - body_bytes) {
        fail("delivery %llu has tag %llu, %u bytes", (unsigned long long)expected, (unsigned long long)r->tag, r->body_bytes);
    }
    const record *in_block = (const record *)(segments + r->position - sizeof(record));
    uint64_t mark;
    memcpy(&mark, segments + r->position, sizeof mark);
    if (in_block->body_bytes != body_bytes || mark != mark_of(expected)) {
        fail("message %llu is not what was sent", (unsigned long long)expected);
    }
}

static void consume(void) {
    consumer_state c = {0};
    uint64_t delivered = 0;
    start_together();
    while (c.messages < count) {
        if (c.read == delivered && (delivered = look(&shared->delivered)) == c.read) {
            if (c.messages > c.settled) {
                settle_received(&c); // nothing to do: do not sit on what was received
            }
            WAIT_UNTIL(&shared->consumer, (delivered = look(&shared->delivered)) != c.read);
        }
        check_delivery((const reference *)(deliveries + c.read % ring_bytes), c.messages);
        c.read += sizeof(reference);
        c.messages++;
        if (c.messages - c.settled >= SETTLE_TOGETHER) {
            settle_received(&c);
        }
    }
    if (c.messages > c.settled) {
        settle_received(&c);
    }
    publish(&shared->verified, c.messages);
    shared->consumer_cpu_ns = cpu_ns();
}

// ---- the broker's state

static int segment_files[SEGMENTS];
static index_entry *entries; // by sequence
static block *blocks;        // by block number
static uint8_t *private_block;

static uint64_t submitted_seen, taken, delivered, received_seen, settlements_taken;    // bytes of rings
static uint64_t next_sequence, next_delivery, settled, visible;                        // messages; below visible they may be delivered
static uint64_t block_number, oldest_block, position;                                  // of the open block; position in the endless row of segments
static uint8_t *open_block;                                                            // NULL: none
static uint32_t block_limit, fill, hashed, records;
static bool block_full, no_room, delivery_ring_full;
static XXH3_state_t hash;

// Mode C. The broker hands over a file by syncs_asked, the syncer gives it back by syncs_done: in between the file is the syncer's.
static counter syncs_asked, syncs_done;
static int file_to_sync;
static uint64_t syncs, durable_blocks, blocks_being_synced;

// ---- broker: submission ring -> block

// False when all segments hold unsettled messages.
static bool open_next_block(void) {
    if (open_block) {
        return true;
    }
    if (position % SEGMENT_BYTES + block_limit > SEGMENT_BYTES) {
        position = round_up(position, SEGMENT_BYTES);
    }
    uint64_t oldest_position = oldest_block < block_number ? blocks[oldest_block % OPEN_MESSAGES].position : position;
    if (position + block_limit - oldest_position > capacity || block_number - oldest_block >= OPEN_MESSAGES) {
        return false;
    }
    open_block = mode == 'A' ? segments + position % capacity : private_block;
    blocks[block_number % OPEN_MESSAGES] = (block){.position = position};
    fill = hashed = BLOCK_HEADER_BYTES;
    records = 0;
    XXH3_64bits_reset(&hash);
    return true;
}

// Whole steps of 64 bytes: quicker than a call for small bodies. Both sides have room for what is copied too much.
static void copy_body(uint8_t *to, const uint8_t *from, uint32_t bytes) {
    if (bytes > PAGE_BYTES) {
        memcpy(to, from, bytes);
        return;
    }
    for (uint32_t i = 0; i < bytes; i += 64) {
        memcpy(to + i, from + i, 64);
    }
}

static void hash_new_bytes(void) {
    XXH3_64bits_update(&hash, open_block + hashed, fill - hashed);
    hashed = fill;
}

static unsigned take_submissions(void) {
    unsigned taken_now = 0;
    uint64_t stop = taken + BYTES_A_TURN;
    if (taken == submitted_seen) {
        submitted_seen = look(&shared->submitted);
    }
    block_full = no_room = false;
    while (taken_now < RECORDS_A_TURN && taken < stop && taken != submitted_seen) {
        const uint8_t *at = submissions + taken % ring_bytes;
        record r = *(const volatile record *)at; // the copy is judged and used, never the shared one
        if (r.magic != RECORD_MAGIC || r.body_bytes > ring_bytes / 2 || r.record_bytes != record_bytes_for(r.body_bytes)
            || r.record_bytes > submitted_seen - taken || r.sequence != next_sequence) {
            fail("record %llu is damaged", (unsigned long long)next_sequence);
        }
        if (next_sequence - settled >= OPEN_MESSAGES || !open_next_block()) {
            no_room = true;
            break;
        }
        if (fill + r.record_bytes + 64 > block_limit) {
            block_full = true;
            break;
        }
        uint8_t *to = open_block + fill;
        *(record *)to = r;
        copy_body(to + sizeof r, at + sizeof r, r.record_bytes - (uint32_t)sizeof r);
        entries[next_sequence % OPEN_MESSAGES] = (index_entry){
            .position = position + fill + sizeof r, .group = r.group, .body_bytes = r.body_bytes, .block = (uint32_t)block_number, .state = READY};
        fill += r.record_bytes;
        records++;
        next_sequence++;
        taken += r.record_bytes;
        taken_now++;
        if (fill - hashed >= PAGE_BYTES) {
            hash_new_bytes();
        }
    }
    return taken_now;
}

// ---- broker: block -> segment -> disk

static void finish_block(void) {
    hash_new_bytes();
    *(block_header *)open_block = (block_header){
        .magic = 0x464C4F4F52ull, .number = block_number, .hash = XXH3_64bits_digest(&hash), .bytes = fill, .records = records};
    uint64_t bytes = round_up(fill, PAGE_BYTES);
    if (mode != 'A') {
        uint64_t at = position % capacity;
        if (MUST(pwrite(segment_files[at / SEGMENT_BYTES], open_block, bytes, (off_t)(at % SEGMENT_BYTES))) != (long)bytes) {
            fail("short write of a block");
        }
    }
    block *finished = &blocks[block_number % OPEN_MESSAGES];
    finished->end_sequence = next_sequence;
    finished->live += records;
    position += bytes;
    block_number++;
    open_block = NULL;
}

static void *sync_when_asked(void *unused) {
    (void)unused;
    for (uint64_t done = 0;;) {
        WAIT_UNTIL(&shared->syncer, look(&syncs_asked) > done);
        MUST(fdatasync(file_to_sync));
        publish(&syncs_done, ++done);
        ring(&shared->broker);
    }
    return NULL;
}

// One sync covers all that was written to one file before it began.
static void begin_sync(void) {
    uint64_t segment = blocks[durable_blocks % OPEN_MESSAGES].position / SEGMENT_BYTES;
    blocks_being_synced = durable_blocks;
    while (blocks_being_synced < block_number && blocks[blocks_being_synced % OPEN_MESSAGES].position / SEGMENT_BYTES == segment) {
        blocks_being_synced++;
    }
    file_to_sync = segment_files[segment % SEGMENTS];
    publish(&syncs_asked, ++syncs);
    ring(&shared->syncer);
}

static bool syncing(void) { return durable_blocks < blocks_being_synced; }
static bool sync_is_done(void) { return syncing() && look(&syncs_done) == syncs; }

// Returns whether anything moved on.
static bool write_and_sync(bool took_records) {
    bool moved = false;
    if (sync_is_done()) {
        durable_blocks = blocks_being_synced;
        visible = blocks[(durable_blocks - 1) % OPEN_MESSAGES].end_sequence;
        moved = true;
    }
    bool something_in_block = open_block && records > 0;
    bool nothing_more_comes = !took_records && !(mode == 'A' && no_room); // in memory an open block delays nobody
    if (block_full || (something_in_block && nothing_more_comes && !syncing())) {
        finish_block();
        moved = true;
    }
    if (mode == 'A') {
        visible = next_sequence;
    } else if (mode == 'B') {
        visible = open_block ? blocks[(block_number + OPEN_MESSAGES - 1) % OPEN_MESSAGES].end_sequence : next_sequence;
    } else if (!syncing() && durable_blocks < block_number) {
        begin_sync();
        moved = true;
    }
    return moved;
}

// ---- broker: index -> delivery ring, settlement ring -> index

static unsigned deliver(void) {
    unsigned delivered_now = 0;
    delivery_ring_full = false;
    for (; delivered_now < RECORDS_A_TURN && next_delivery < visible; delivered_now++, next_delivery++) {
        if (delivered + sizeof(reference) - received_seen > ring_bytes) {
            received_seen = look(&shared->received);
            if (delivered + sizeof(reference) - received_seen > ring_bytes) {
                delivery_ring_full = true;
                break;
            }
        }
        index_entry *e = &entries[next_delivery % OPEN_MESSAGES];
        uint64_t at = e->position % capacity;
        *(reference *)(deliveries + delivered % ring_bytes) =
            (reference){.tag = next_delivery, .position = at, .body_bytes = e->body_bytes, .segment = (uint32_t)(at / SEGMENT_BYTES)};
        e->state = IN_FLIGHT;
        e->deliveries++;
        delivered += sizeof(reference);
    }
    if (delivered_now > 0) {
        publish(&shared->delivered, delivered);
        ring(&shared->consumer);
    }
    return delivered_now;
}

static unsigned take_settlements(void) {
    unsigned taken_now = 0;
    uint64_t head = look(&shared->settled);
    for (; settlements_taken != head; settlements_taken += sizeof(settlement), taken_now++) {
        settlement s = *(const volatile settlement *)(settlements + settlements_taken % SETTLEMENT_RING_BYTES);
        if (s.first != settled || s.count == 0 || s.count > next_delivery - s.first) {
            fail("settlement of %llu messages from %llu on", (unsigned long long)s.count, (unsigned long long)s.first);
        }
        for (uint64_t i = s.first; i < s.first + s.count; i++) {
            index_entry *e = &entries[i % OPEN_MESSAGES];
            if (e->state != IN_FLIGHT) {
                fail("message %llu is settled in state %u", (unsigned long long)i, e->state);
            }
            e->state = SETTLED;
            blocks[e->block % OPEN_MESSAGES].live--;
        }
        settled += s.count;
    }
    while (oldest_block < block_number && blocks[oldest_block % OPEN_MESSAGES].live == 0) {
        oldest_block++;
    }
    return taken_now;
}

static void tell_producer(void) {
    if (look(&shared->taken) != taken || look(&shared->confirmed) != visible) {
        publish(&shared->taken, taken);
        publish(&shared->confirmed, visible);
        ring(&shared->producer);
    }
}

static bool news(void) {
    return look(&shared->settled) != settlements_taken || (!no_room && look(&shared->submitted) != taken)
        || (delivery_ring_full && look(&shared->received) != received_seen) || sync_is_done();
}

static void run_broker(void) {
    if (mode == 'C') {
        pthread_t syncer;
        if (pthread_create(&syncer, NULL, sync_when_asked, NULL) != 0) {
            fail("no thread for syncs");
        }
    }
    start_together();
    uint64_t before = cpu_ns();
    while (settled < count) {
        bool took = take_submissions() > 0;
        bool moved = write_and_sync(took);
        bool handed_out = deliver() > 0;
        bool gave_back = take_settlements() > 0;
        tell_producer();
        if (!took && !moved && !handed_out && !gave_back) {
            WAIT_UNTIL(&shared->broker, news());
        }
    }
    shared->end_ns = now_ns();
    shared->broker_cpu_ns = cpu_ns() - before;
}

// ---- setting up, and the report

// Written once with zeroes in large pieces, then used again and again: an append changes no metadata, and pages are large.
static int segment_file(void) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/floor_pipe.XXXXXX", folder) >= (int)sizeof path) {
        fail("path too long: %s", folder);
    }
    int file = (int)MUST(mkstemp(path));
    MUST(unlink(path));
    uint8_t *zeroes = calloc(1, 4 * MIB);
    for (uint64_t at = 0; at < SEGMENT_BYTES; at += 4 * MIB) {
        if (MUST(pwrite(file, zeroes, 4 * MIB, (off_t)at)) != (long)(4 * MIB)) {
            fail("short write to a segment in %s", folder);
        }
    }
    MUST(fsync(file));
    free(zeroes);
    return file;
}

static void map_segments(void) {
    uint64_t segment_count = mode == 'A' ? 1 : SEGMENTS; // in memory: small enough to stay near the shared cache
    capacity = segment_count * SEGMENT_BYTES;
    segments = address_space(capacity);
    for (uint64_t i = 0; i < segment_count; i++) {
        segment_files[i] = mode == 'A' ? memory_file(SEGMENT_BYTES) : segment_file();
        map_file_at(segments + i * SEGMENT_BYTES, SEGMENT_BYTES, mode == 'A' ? PROT_READ | PROT_WRITE : PROT_READ, segment_files[i]);
    }
}

static void set_up(void) {
    shared = shared_memory(sizeof *shared);
    doorbell_init(&shared->producer, YIELDS);
    doorbell_init(&shared->broker, YIELDS);
    doorbell_init(&shared->consumer, YIELDS);
    doorbell_init(&shared->syncer, YIELDS);
    while (ring_bytes < 4 * (uint64_t)record_bytes_for(body_bytes)) {
        ring_bytes *= 2;
    }
    submissions = mirrored_ring(ring_bytes);
    deliveries = mirrored_ring(ring_bytes);
    settlements = mirrored_ring(SETTLEMENT_RING_BYTES);
    uint64_t least = BLOCK_HEADER_BYTES + record_bytes_for(body_bytes) + 64;
    block_limit = least <= BLOCK_BYTES ? BLOCK_BYTES : (uint32_t)round_up(least, PAGE_BYTES); // a large message has a block to itself
    private_block = aligned_alloc(PAGE_BYTES, block_limit + PAGE_BYTES);
    entries = shared_memory(OPEN_MESSAGES * sizeof *entries);
    blocks = shared_memory(OPEN_MESSAGES * sizeof *blocks);
    if (!private_block) {
        fail("no memory");
    }
    memset(private_block, 0, block_limit + PAGE_BYTES);
    map_segments();
}

static pid_t start(void (*role)(void)) {
    pid_t child = (pid_t)MUST(fork());
    if (child == 0) {
        end_within(LONGEST_RUN_SECONDS);
        role();
        _exit(0);
    }
    return child;
}

static void reap(pid_t child, const char *role) {
    int status;
    MUST(waitpid(child, &status, 0));
    if (status != 0) {
        fail("the %s ended with status %d", role, status);
    }
}

static void report(void) {
    double seconds = (double)(shared->end_ns - shared->start_ns) / 1e9, n = (double)count;
    printf("{\"name\":\"pipe %c\",\"size\":%u,\"count\":%llu,\"messagesPerSecond\":%.0f,\"bytesPerSecond\":%.0f,\"syncs\":%llu,"
           "\"cpuNs\":{\"producer\":%.1f,\"broker\":%.1f,\"consumer\":%.1f}}\n",
        mode, body_bytes, (unsigned long long)count, n / seconds, n * body_bytes / seconds, (unsigned long long)syncs,
        (double)shared->producer_cpu_ns / n, (double)shared->broker_cpu_ns / n, (double)shared->consumer_cpu_ns / n);
}

static _Noreturn void usage(void) { fail("usage: floor_pipe A|B|C [-n MESSAGES] [-s BODY_BYTES, 8 to 16777216] [-d DIR]"); }

static void read_options(int argc, char **argv) {
    int option;
    while ((option = getopt(argc, argv, "n:s:d:")) != -1) {
        switch (option) {
        case 'n': count = strtoull(optarg, NULL, 10); break;
        case 's': body_bytes = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'd': folder = optarg; break;
        default: usage();
        }
    }
    if (optind + 1 != argc || strlen(argv[optind]) != 1 || !strchr("ABC", argv[optind][0]) || count == 0 || body_bytes < 8 || body_bytes > 16 * MIB) {
        usage();
    }
    mode = argv[optind][0];
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    set_up();
    fail_with_children();
    pid_t producer = start(produce), consumer = start(consume);
    end_within(LONGEST_RUN_SECONDS);
    run_broker();
    reap(producer, "producer");
    reap(consumer, "consumer");
    if (next_sequence != count || settled != count || look(&shared->verified) != count) {
        fail("sent %llu, taken %llu, verified %llu, settled %llu", (unsigned long long)count, (unsigned long long)next_sequence,
            (unsigned long long)look(&shared->verified), (unsigned long long)settled);
    }
    report();
    return 0;
}
