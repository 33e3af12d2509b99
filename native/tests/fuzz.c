// Bytes as a broker: whatever the library reads from one (the handshake's answer, packets with descriptors, ring records, refusals, answers, pages
// of the journal), while a program calls functions of fastq.h in any order.
//
//   input:  options | turn | call, way | turn | call, way | ...        turn: what the broker does, up to END: see enum act
//
// No thread and no waiting: the linker gives this program the library's connect, poll, sched_yield and nanosleep (--wrap), and where the library
// would wait, the broker has its turn. When the input ends the broker hangs up and stays away, so each call ends.
//
//   fuzz VECTORS [INPUTS] [SEED] [FILE]   inputs made of the byte vectors, then bent ones, the same for a seed; FILE: the input that runs now
//   fuzz --replay FILE                    one input
//   fuzz --seeds VECTORS FOLDER           the inputs made of the vectors as files: libFuzzer's corpus, for which FASTQ_LIBFUZZER leaves out main
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#include "../src/session.h"
#include "calls.h"

enum act { END, RECORD, PACKET, COUNTERS, HEAD, JOURNAL, MOVE, HANG_UP, RING, ACTS };
enum { NUMBERED = 1, CHECKED = 2, PAIRS = 2, FILE_BYTES = CONTROL_PAGE_BYTES + 2 * MIN_RING_BYTES, SLOT_BYTES = 65536, YIELDS_BETWEEN = 64, MOST_INPUT = 12288 };

static struct { const unsigned char *at; size_t left; } input;

static struct {
    int socket, pipes[2], bell, shorts, slot, empty;
    int files[2 * PAIRS];                          // A and B of each pair.
    unsigned char *memory[2 * PAIRS], *slot_memory;
    int pair;
    uint64_t heads[PAIRS], read, last_number;
    int yields;
} fake;

static struct world world;

static uint64_t take(size_t bytes) {
    uint64_t value = 0;
    bytes = bytes < input.left ? bytes : input.left;
    memcpy(&value, input.at, bytes);
    input.at += bytes;
    input.left -= bytes;
    return value;
}

static const unsigned char *take_bytes(size_t most, size_t *length) {
    const unsigned char *at = input.at;
    *length = take(2) % most;
    at = input.at;
    *length = *length < input.left ? *length : input.left;
    input.at += *length;
    input.left -= *length;
    return at;
}

// ---- the broker

/// Reads what was sent since, to know the last number: answers are for that one.
static void read_submissions(void) {
    const unsigned char *a = fake.memory[2 * fake.pair];
    uint64_t ring = fake.pair == 0 ? MIN_RING_BYTES : 2 * MIN_RING_BYTES, head = load(a, CLIENT_SUBMISSION_HEAD);
    while (head - fake.read <= ring && fake.read < head) {
        struct command_record record = {0};
        memcpy(&record, a + CONTROL_PAGE_BYTES + fake.read % ring, 16);
        if (record.kind < KIND_CREDIT) {
            fake.last_number = record.number;
        }
        fake.read += align8(record.length);
        if (record.length < 16) {
            break;
        }
    }
}

/// Makes a message of bytes that begin with its header: its length, its place and its check are as they should be.
static void mend_message(unsigned char *bytes, size_t length, uint32_t queue, uint64_t tag) {
    struct message_header header;
    if (length >= sizeof header) {
        memcpy(&header, bytes, sizeof header);
        header.length = (uint32_t)length;
        header.queue = queue;
        header.tag = tag;
        header.check = fastq_check_of(bytes + sizeof header, length - sizeof header);
        memcpy(bytes, &header, sizeof header);
    }
}

static void write_record(void) {
    unsigned char bytes[4096] = {0};
    unsigned mends = (unsigned)take(1);
    size_t length;
    const unsigned char *given = take_bytes(sizeof bytes, &length);
    memcpy(bytes, given, length);
    if ((mends & NUMBERED) != 0 && length >= sizeof(struct record_prefix)) {
        uint32_t whole = (uint32_t)length;
        memcpy(bytes, &whole, sizeof whole);
        if (bytes[4] >= KIND_REFUSED && length >= 16) {
            read_submissions();
            uint64_t number = fake.last_number - bytes[8] % 4;
            memcpy(bytes + 8, &number, sizeof number);
        }
    }
    if ((mends & CHECKED) != 0 && bytes[4] == KIND_DELIVERY_COPY && length >= sizeof(struct deliveries_header) + sizeof(struct delivery_entry)) {
        struct deliveries_header header;
        memcpy(&header, bytes, sizeof header);
        size_t before = sizeof header + sizeof(struct delivery_entry);
        mend_message(bytes + before, length - before, header.queue, header.first_tag);
    }
    unsigned char *b = fake.memory[2 * fake.pair + 1];
    uint64_t ring = fake.pair == 0 ? MIN_RING_BYTES : 2 * MIN_RING_BYTES;
    for (size_t i = 0; i < length; i++) {
        b[CONTROL_PAGE_BYTES + (fake.heads[fake.pair] + i) % ring] = bytes[i];
    }
    fake.heads[fake.pair] += align8(length);
    store(b, BROKER_DELIVERY_HEAD, fake.heads[fake.pair]);
}

/// A packet on the socket, with descriptors of anything.
static void send_packet(void) {
    const int any[] = {fake.files[0], fake.files[1], fake.files[2], fake.files[3], fake.slot, fake.bell, fake.pipes[0], fake.shorts, fake.empty};
    int files[16];
    size_t count = take(1) % 8, length;
    for (size_t i = 0; i < count; i++) {
        files[i] = any[take(1) % COUNT_OF(any)];
    }
    const unsigned char *bytes = take_bytes(1024, &length);
    union { struct cmsghdr aligned; char bytes[CMSG_SPACE(sizeof files)]; } control;
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        *rights = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(count * sizeof(int))};
        memcpy(CMSG_DATA(rights), files, count * sizeof(int));
    }
    (void)!sendmsg(fake.socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void write_journal(void) {
    size_t at = take(2) * 8 % SLOT_BYTES, length;
    unsigned mends = (unsigned)take(1);
    uint32_t queue = (uint32_t)take(1);
    uint64_t tag = take(1);
    const unsigned char *bytes = take_bytes(4096, &length);
    length = length < SLOT_BYTES - at ? length : SLOT_BYTES - at;
    memcpy(fake.slot_memory + at, bytes, length);
    if ((mends & CHECKED) != 0) {
        mend_message(fake.slot_memory + at, length, queue, tag);
    }
}

static void hang_up(void) {
    if (fake.socket >= 0) {
        close(fake.socket);
        fake.socket = -1;
    }
}

/// The broker does what the input says, and hangs up where it says nothing more.
static void turn(void) {
    unsigned char *b = fake.memory[2 * fake.pair + 1];
    while (input.left > 0) {
        switch ((enum act)(take(1) % ACTS)) {
            case RECORD: write_record(); break;
            case PACKET: send_packet(); break;
            case COUNTERS:
                read_submissions();
                store(b, BROKER_SUBMISSION_POSITION, fake.read);
                store(b, BROKER_DECIDED, fake.last_number - take(1) % 4);
                store(b, BROKER_WRITTEN, fake.last_number - take(1) % 4);
                store(b, BROKER_DURABLE, fake.last_number - take(1) % 4);
                break;
            case HEAD: store(b, 8 * (take(1) % 256), take(8)); break; // Any word of the control page.
            case JOURNAL: write_journal(); break;
            case MOVE: // The other pair is written from here on.
                fake.pair = !fake.pair;
                fake.read = 0;
                b = fake.memory[2 * fake.pair + 1];
                break;
            case HANG_UP: hang_up(); return;
            case RING: (void)!write(fake.pipes[1], "!", 1); break;
            default: return;
        }
    }
    hang_up();
}

int __wrap_connect(int descriptor, const struct sockaddr *address, socklen_t length);
int __wrap_poll(struct pollfd *of, nfds_t count, int milliseconds);
int __wrap_sched_yield(void);
int __wrap_nanosleep(const struct timespec *rest, struct timespec *left);
int __real_poll(struct pollfd *of, nfds_t count, int milliseconds);

int __wrap_connect(int descriptor, const struct sockaddr *address, socklen_t length) {
    int sockets[2];
    (void)address;
    (void)length;
    if (input.left == 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) {
        errno = ECONNREFUSED;
        return -1;
    }
    hang_up();
    fake.socket = sockets[1];
    dup3(sockets[0], descriptor, O_CLOEXEC);
    close(sockets[0]);
    for (int i = 0; i < PAIRS; i++) {
        fake.heads[i] = 0;
        memset(fake.memory[2 * i + 1], 0, CONTROL_PAGE_BYTES);
        uint32_t words[3] = {BROKER_MAGIC, PROTOCOL_MAJOR, (uint32_t)MIN_RING_BYTES << i};
        memcpy(fake.memory[2 * i + 1], words, sizeof words);
    }
    fake.pair = 0;
    fake.read = 0;
    store(fake.memory[0], CLIENT_SUBMISSION_HEAD, 0);
    turn();
    return 0;
}

int __wrap_poll(struct pollfd *of, nfds_t count, int milliseconds) {
    int ready = __real_poll(of, count, 0);
    if (ready == 0 && milliseconds != 0) {
        turn();
        ready = __real_poll(of, count, 0);
    }
    return ready;
}

int __wrap_sched_yield(void) {
    if (++fake.yields % YIELDS_BETWEEN == 0) {
        turn();
    }
    return 0;
}

int __wrap_nanosleep(const struct timespec *rest, struct timespec *left) {
    (void)rest;
    (void)left;
    turn();
    return 0;
}

// ---- the program

static uint32_t looked_at; // What was read is looked at byte by byte, for the sanitizers to see it.

static void look_at(const void *bytes, size_t length) { looked_at += fastq_check_of(bytes, length); }

/// Memory that is mapped has no borders that the sanitizers know.
static void must_lie_in(const void *part, size_t part_bytes, const void *whole, size_t bytes) {
    if (part_bytes > 0 && ((const char *)part < (const char *)whole || part_bytes > bytes || (size_t)((const char *)part - (const char *)whole) > bytes - part_bytes)) {
        fprintf(stderr, "%zu bytes lie outside the %zu that they are a part of\n", part_bytes, bytes);
        abort();
    }
}

static void look_at_results(struct world *w, const struct call *one, int code) {
    if (code != FASTQ_OK && fastq_last_error()[0] != 0) {
        look_at(fastq_last_error(), strlen(fastq_last_error()));
    }
    if (code == FASTQ_OK && strcmp(one->name, "fastq_receive") == 0 && w->count > 0) {
        size_t position = 0;
        fastq_property property;
        look_at(w->messages[0].body, w->messages[0].body_bytes);
        look_at(w->messages[0].properties, w->messages[0].property_bytes);
        do {
            (void)fastq_next_property(w->messages[0].properties, w->messages[0].property_bytes, &position, &property);
            must_lie_in(property.key, property.key_bytes, w->messages[0].properties, w->messages[0].property_bytes);
            must_lie_in(property.value, property.value_bytes, w->messages[0].properties, w->messages[0].property_bytes);
            look_at(property.key, property.key_bytes);
            look_at(property.value, property.value_bytes);
        } while (property.tag != 0);
        w->held[0] = w->messages[0];
    }
    if (code == FASTQ_OK && strcmp(one->name, "fastq_browse") == 0) {
        for (size_t i = 0; i < w->count; i++) {
            look_at(w->browsed[i].body, w->browsed[i].body_bytes);
            look_at(w->browsed[i].properties, w->browsed[i].property_bytes);
            look_at(w->browsed[i].owner, w->browsed[i].owner_bytes);
        }
    }
    if (code == FASTQ_OK && w->json != NULL) {
        look_at(w->json, strlen(w->json));
    }
    if (code == FASTQ_OK && strcmp(one->name, "fastq_receive_reply") == 0) {
        look_at(w->reply.body, w->reply.body_bytes);
        look_at(w->reply.properties, w->reply.property_bytes);
    }
    if (code == FASTQ_OK && strcmp(one->name, "fastq_accept_processed") == 0) {
        look_at(w->processed.result, w->processed.result_bytes);
    }
    if (code == FASTQ_OK && strcmp(one->name, "fastq_find_processed") == 0) {
        look_at(w->found, w->bytes);
    }
    w->q = w->queue != 0 ? w->queue : 1;
    w->s = w->subscription;
    w->t = w->transaction;
    if (w->connection != 0) {
        (void)fastq_close(w->connection);
        w->connection = 0;
    }
}

static void open_memory(void) {
    for (int i = 0; i < 2 * PAIRS; i++) {
        fake.files[i] = memfd_create("fastq fuzz", MFD_CLOEXEC);
        (void)!ftruncate(fake.files[i], FILE_BYTES);
        fake.memory[i] = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fake.files[i], 0);
    }
    fake.slot = memfd_create("fastq fuzz", MFD_CLOEXEC);
    fake.shorts = memfd_create("fastq fuzz", MFD_CLOEXEC);
    fake.empty = memfd_create("fastq fuzz", MFD_CLOEXEC);
    (void)!ftruncate(fake.slot, SLOT_BYTES);
    (void)!ftruncate(fake.shorts, 5000);
    fake.slot_memory = mmap(NULL, SLOT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fake.slot, 0);
    fake.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    fake.socket = -1;
    if (pipe2(fake.pipes, O_CLOEXEC | O_NONBLOCK) != 0 || fake.slot_memory == MAP_FAILED) {
        perror("fuzz");
        exit(2);
    }
    signal(SIGPIPE, SIG_IGN);
}

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t length);

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t length) {
    static const char *const options[] = {"patience=0s", "patience=0s\nverify", "patience=0s\ncopies", "patience=0s\nring=65536"};
    struct world *w = &world;
    if (fake.slot_memory == NULL) {
        open_memory();
    }
    for (int i = 0; i < 2 * PAIRS; i++) {
        memset(fake.memory[i], 0, FILE_BYTES);
    }
    memset(fake.slot_memory, 0, SLOT_BYTES);
    fake.last_number = 0;
    fake.yields = 0;
    input.at = bytes;
    input.left = length;
    memset(w, 0, sizeof *w);
    fill_world(w);
    w->path = "/fuzz";
    w->q = 1;
    if (fastq_connect(w->path, options[take(1) % COUNT_OF(options)], &w->c) == FASTQ_OK) {
        while (input.left > 0) {
            turn();
            const struct call *one = &calls[take(1) % COUNT_OF(calls)];
            if (fastq_holds(w->c, w->s, w->held) != FASTQ_OK) {
                w->held[0] = w->zero; // Its bytes are not to be looked at any more.
            }
            w->json = NULL;
            look_at_results(w, one, one->make(w, (int)take(1) % one->ways));
        }
        (void)fastq_close(w->c);
    }
    hang_up();
    return 0;
}

#ifndef FASTQ_LIBFUZZER

// ---- inputs

typedef struct { unsigned char bytes[MOST_INPUT]; size_t length; } made;

static const char *vectors;
static made seeds[512];
static size_t seed_count;

static void put(made *to, const void *bytes, size_t length) {
    if (length > sizeof to->bytes - to->length) {
        fprintf(stderr, "MOST_INPUT is too small for what the vectors have become\n");
        exit(2);
    }
    memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
}

static void put_byte(made *to, size_t byte) { put(to, &(unsigned char){(unsigned char)byte}, 1); }

static void put_counted(made *to, const void *bytes, size_t length) {
    put(to, &(uint16_t){(uint16_t)length}, 2);
    put(to, bytes, length);
}

/// The bytes of a vector: what stands before # in each line.
static size_t read_vector(const char *name, unsigned char *bytes, size_t most) {
    char path[512], text[512];
    size_t length = 0;
    snprintf(path, sizeof path, "%s/%s.hex", vectors, name);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        exit(2);
    }
    while (fgets(text, sizeof text, file) != NULL) {
        text[strcspn(text, "#")] = 0;
        for (char *byte = strtok(text, " \n"); byte != NULL && length < most; byte = strtok(NULL, " \n")) {
            bytes[length++] = (unsigned char)strtoul(byte, NULL, 16);
        }
    }
    fclose(file);
    return length;
}

static void put_packet(made *to, const char *vector, const char *files) {
    unsigned char bytes[1024];
    size_t length = read_vector(vector, bytes, sizeof bytes);
    struct handshake_header header;
    memcpy(&header, bytes, sizeof header);
    for (size_t at = sizeof header; at + 12 <= length; at += 4 + (bytes[at + 2] | (size_t)bytes[at + 3] << 8)) { // Sizes of this program's files.
        uint16_t tag;
        memcpy(&tag, bytes + at, sizeof tag);
        uint64_t ring = header.kind == HANDSHAKE_RINGS ? 2 * MIN_RING_BYTES : MIN_RING_BYTES;
        uint64_t value = tag == FIELD_SUBMISSION_RING_BYTES || tag == FIELD_DELIVERY_RING_BYTES ? ring : tag == FIELD_SLOT_BYTES ? SLOT_BYTES : tag == FIELD_NEXT_NUMBER ? 1 : tag == FIELD_SLOT ? 5 : 0;
        if (value != 0) {
            memcpy(bytes + at + 4, &value, sizeof value);
        }
    }
    put_byte(to, PACKET);
    put_byte(to, strlen(files));
    for (const char *file = files; *file != 0; file++) {
        put_byte(to, (size_t)(*file - '0'));
    }
    put_counted(to, bytes, length);
}

static void put_mended(made *to, size_t mends, const void *bytes, size_t length) {
    put_byte(to, RECORD);
    put_byte(to, mends);
    put_counted(to, bytes, length);
}

static void put_record(made *to, const void *bytes, size_t length) { put_mended(to, NUMBERED | CHECKED, bytes, length); }

enum content { QUEUE_ALONE, SUBSCRIPTION_ALONE, ALL_NUMBERS, ALL_TEXTS };

/// An answer to what was asked last. ALL: with every field there is.
static void put_answer(made *to, uint8_t flags, uint16_t code, enum content content) {
    enum { MOST_TAGS = 160 };
    unsigned char bytes[2048];
    struct answer_record answer = {.kind = KIND_ANSWER, .flags = flags, .code = code};
    struct field_writer fields = {.room = bytes + sizeof answer, .size = sizeof bytes - sizeof answer};
    memcpy(bytes, &answer, sizeof answer);
    if (content == QUEUE_ALONE) {
        put_number(&fields, FIELD_QUEUE, 1);
    } else if (content == SUBSCRIPTION_ALONE) {
        put_number(&fields, FIELD_SUBSCRIPTION, 1);
        put_number(&fields, FIELD_FIRST_DELIVERY, 1);
    }
    for (uint16_t tag = 1; content >= ALL_NUMBERS && tag < MOST_TAGS && !fields.has_overflowed; tag++) {
        if (content == ALL_TEXTS) {
            put_text(&fields, tag, "text");
        } else {
            put_number(&fields, tag, 1);
        }
    }
    put_record(to, bytes, sizeof answer + fields.length);
}

static void put_call(made *to, const char *name, int way) {
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        if (strcmp(calls[i].name, name) == 0) {
            put_byte(to, i);
            put_byte(to, (size_t)way);
        }
    }
}

static int calls_ways(const char *name) {
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        if (strcmp(calls[i].name, name) == 0) {
            return calls[i].ways;
        }
    }
    return 0;
}

/// A call that asks for the queue's number, and then what it wants; each is answered while it waits.
static void put_asking(made *to, const char *name, int way) {
    put_byte(to, END);
    put_call(to, name, way);
    put_answer(to, 0, 0, QUEUE_ALONE);
    put_byte(to, END);
    put_answer(to, ANSWER_MORE, 0, ALL_TEXTS);
    put_answer(to, 0, 0, ALL_NUMBERS);
    put_byte(to, END);
}

enum form { PLAIN = 0, ENCODED = 1, COPY = 2, UNSOUND = 4 };

/// A message in the journal, and the record that delivers it; as a copy it stands in that record.
static void put_message(made *to, uint32_t slot, uint64_t first, int form) {
    // "abcd" x 8 as one block: four literals, a match of 23 at offset 4, five literals at the end.
    static const unsigned char encoded[] = {FASTQ_BODY_ENCODING, FASTQ_BYTES, 7, 0, 32, 0, 0, 0, 'l', 'z', '4', 0x4f, 'a', 'b', 'c', 'd', 4, 0, 4, 0x50, 'd', 'a', 'b', 'c', 'd'};
    unsigned char message[256], run[sizeof(struct deliveries_header) + sizeof(struct delivery_entry) + sizeof message];
    (void)read_vector("record-Message", message, sizeof message);
    size_t length = message[0]; // Without its padding.
    if ((form & ENCODED) != 0) {
        length = sizeof(struct message_header) + sizeof encoded;
        message[6] = 11; // Of its properties.
        memcpy(message + sizeof(struct message_header), encoded, sizeof encoded);
    }
    struct deliveries_header header = {.kind = (form & COPY) != 0 ? KIND_DELIVERY_COPY : KIND_DELIVERIES, .count = 1, .subscription = 1, .queue = 1, .first_delivery = first, .first_tag = 1, .first_token = 1};
    size_t at = SLOT_BYTES - align8(length); // At the file's end: what lies behind is nobody's to read.
    struct delivery_entry entry = {.slot = slot, .offset = (uint32_t)at, .length = (uint32_t)length, .delivery_count = 1, .flags = first % 2 == 0 ? ENTRY_COLD : 0};
    memcpy(run, &header, sizeof header);
    memcpy(run + sizeof header, &entry, sizeof entry);
    if ((form & COPY) != 0) {
        memcpy(run + sizeof header + sizeof entry, message, length);
        put_mended(to, (form & UNSOUND) != 0 ? NUMBERED : NUMBERED | CHECKED, run, sizeof header + sizeof entry + length);
        return;
    }
    put_byte(to, JOURNAL);
    put(to, &(uint16_t){(uint16_t)(at / 8)}, 2);
    put_byte(to, CHECKED);
    put_byte(to, 1);
    put_byte(to, 1);
    put_counted(to, message, length);
    put_record(to, run, sizeof header + sizeof entry);
}

/// A connection, a queue's number, a subscription, a message received.
static made *begin_seed(int options) {
    made *seed = &seeds[seed_count++];
    put_byte(seed, (size_t)options);
    put_packet(seed, "socket-Welcome", "0156");
    put_byte(seed, END);
    put_byte(seed, END);
    put_call(seed, "fastq_open_queue", 0);
    put_answer(seed, 0, 0, QUEUE_ALONE);
    put_byte(seed, END);
    put_byte(seed, END);
    put_call(seed, "fastq_subscribe", 0);
    put_answer(seed, 0, 0, QUEUE_ALONE);
    put_byte(seed, END);
    put_answer(seed, 0, 0, SUBSCRIPTION_ALONE);
    put_byte(seed, END);
    put_packet(seed, "socket-Slots", "4");
    put_message(seed, 5, 1, PLAIN);
    put_byte(seed, END);
    put_call(seed, "fastq_receive", 0);
    return seed;
}

static void make_seeds(void) {
    static const char *const records[] = {"Deliveries", "DeliveryCopy", "Refused", "Answer", "LateSettle", "SlotRetired", "BrokerMovesRing", "SubscriptionEnded", "ReplyDelivered", "ReplyEnded"};
    static const char *const packets[][2] = {{"socket-Welcome", "0156"}, {"socket-Refused", ""}, {"socket-Slots", "44"}, {"socket-Rings", "23"}, {"socket-Ended", ""}};
    for (size_t i = 0; i < COUNT_OF(records); i++) {
        unsigned char bytes[2048];
        char name[64];
        uint32_t one = 1;
        made *seed = begin_seed((int)i);
        snprintf(name, sizeof name, "record-%s", records[i]);
        size_t length = read_vector(name, bytes, sizeof bytes);
        memcpy(bytes + (bytes[4] < KIND_REFUSED ? 8 : 16), &one, sizeof one); // The subscription that is there.
        if (bytes[4] == KIND_REFUSED) {
            memset(bytes + 8, 0, 8); // The last number, and no more.
            memcpy(bytes + 20, &one, sizeof one);
        }
        if (bytes[4] == KIND_BROKER_MOVES_RING) {
            put_packet(seed, "socket-Rings", "23");
            put_byte(seed, END);
            put_call(seed, "fastq_tick", 0);
        }
        put_record(seed, bytes, length);
        put_byte(seed, MOVE);
        put_byte(seed, END);
        put_call(seed, "fastq_receive", 0);
        put_asking(seed, "fastq_show_queue", 0);
    }
    for (size_t i = 0; i < COUNT_OF(packets); i++) {
        made *seed = begin_seed((int)i), *first = &seeds[seed_count++];
        put_packet(seed, packets[i][0], packets[i][1]);
        put_byte(seed, END);
        put_call(seed, "fastq_tick", 0);
        put_byte(first, 0);
        put_packet(first, packets[i][0], packets[i][1]); // And as the answer to Hello.
        put_byte(first, END);
    }
    for (int way = 0; way < calls_ways("fastq_publish"); way++) { // A broker that goes and comes back; larger rings for a larger body.
        made *seed = begin_seed(way);
        put_byte(seed, END);
        put_call(seed, "fastq_publish", way);
        put_packet(seed, "socket-Rings", "23");
        put_byte(seed, HANG_UP);
        put_call(seed, "fastq_tick", 0);
        put_packet(seed, "socket-Welcome", "0156");
        put_byte(seed, END);
        put_answer(seed, 0, way % 2 == 0 ? 0 : FASTQ_UNKNOWN_SUBSCRIPTION, SUBSCRIPTION_ALONE);
        put_byte(seed, END);
        put_call(seed, "fastq_receive", 0);
    }
    static const char *const odd_files[] = {"1156", "7756", "0856"}; // One file as both rings; rings of files that are too short.
    for (size_t i = 0; i < COUNT_OF(odd_files); i++) {
        made *seed = &seeds[seed_count++];
        put_byte(seed, 0);
        put_packet(seed, "socket-Welcome", odd_files[i]);
        put_byte(seed, END);
        put_byte(seed, END);
        put_call(seed, "fastq_list_queues", 0);
    }
    made *unsound = begin_seed(2); // A copy without its check, met twice.
    put_message(unsound, 5, 2, COPY | UNSOUND);
    for (int i = 0; i < 2; i++) {
        put_byte(unsound, END);
        put_call(unsound, "fastq_receive", 0);
    }
    for (int i = 0; i < 8; i++) { // More than once, for their end is what is to be bent.
        made *encoded = begin_seed(i);
        put_message(encoded, 5, 2 + (uint64_t)i, i % 2 == 0 ? ENCODED : ENCODED | COPY);
        put_byte(encoded, END);
        put_call(encoded, "fastq_receive", 0);
        put_byte(encoded, END);
        put_call(encoded, "fastq_copy_body", 0);
    }
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        made *seed = begin_seed((int)i);
        put_asking(seed, calls[i].name, 0);
        put_message(seed, 5, 2, PLAIN);
        put_byte(seed, COUNTERS);
        put(seed, "\0\0\0", 3);
        put_byte(seed, END);
        put_call(seed, "fastq_flush", 0);
    }
}

// ---- bending them

static uint64_t dice;

static size_t roll(size_t sides) {
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (size_t)(dice % sides);
}

static void bend(made *one) {
    static const uint64_t odd[] = {0, 1, 7, 8, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x10000, 0x7fffffff, 0xffffffff, 0x8000000000000000, UINT64_MAX};
    for (size_t bends = 1 + roll(6); bends > 0 && one->length > 16; bends--) {
        size_t first = roll(2) * one->length * 2 / 3; // All begin alike, so their ends are bent more often.
        size_t at = first + roll(one->length - first), length = 1 + roll(8), to = roll(one->length);
        const made *other = &seeds[roll(seed_count)];
        length = length < one->length - at ? length : one->length - at;
        switch (roll(5)) {
            case 0: one->bytes[at] = (unsigned char)roll(256); break;
            case 1: one->bytes[at] ^= (unsigned char)(1 << roll(8)); break;
            case 2: memcpy(one->bytes + at, &odd[roll(COUNT_OF(odd))], length); break;
            case 3: // Something is gone.
                memmove(one->bytes + at, one->bytes + at + length, one->length - at - length);
                one->length -= length;
                break;
            default: // The end of another, or of itself.
                length = to < other->length ? other->length - to : 0;
                length = length < sizeof one->bytes - at ? length : sizeof one->bytes - at;
                memmove(one->bytes + at, other->bytes + to, length);
                one->length = at + length;
                break;
        }
    }
}

static long inputs = 16000;
static uint64_t chosen_seed = 1;
static made *running; // In memory that a file has, so that what killed the process is left behind.

static void run(const made *one) {
    enum { HANG_SECONDS = 20 };
    *running = *one;
    alarm(HANG_SECONDS);
    (void)LLVMFuzzerTestOneInput(running->bytes, running->length);
    alarm(0);
}

static void no_bytes_of_a_broker_do_harm(void) {
    long bent = 0;
    for (size_t i = 0; i < seed_count; i++) {
        run(&seeds[i]);
    }
    for (dice = 88172645463325252u ^ chosen_seed * 0x9e3779b97f4a7c15u; bent < inputs; bent++) {
        static made one;
        one = seeds[roll(seed_count)];
        bend(&one);
        run(&one);
    }
    printf("    seed %llu: %zu inputs of the vectors, %ld bent ones\n", (unsigned long long)chosen_seed, seed_count, bent);
}

static void write_seeds(const char *folder) {
    for (size_t i = 0; i < seed_count; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/seed-%03zu", folder, i);
        FILE *file = fopen(path, "w");
        if (file == NULL || fwrite(seeds[i].bytes, 1, seeds[i].length, file) != seeds[i].length || fclose(file) != 0) {
            perror(path);
            exit(2);
        }
    }
}

static int replay(const char *path) {
    static made one;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        return 2;
    }
    size_t length = fread(&one, 1, sizeof one, file);
    one.length = length == sizeof one ? one.length : length; // What ran when the process died, or an input by itself.
    fclose(file);
    one.length = one.length < sizeof one.bytes ? one.length : sizeof one.bytes;
    (void)LLVMFuzzerTestOneInput(one.bytes, one.length);
    printf("%s does no harm\n", path);
    return 0;
}

int main(int count, char **arguments) {
    static const test tests[] = {{"no_bytes_of_a_broker_do_harm", no_bytes_of_a_broker_do_harm}};
    static made unkept;
    if (count == 3 && strcmp(arguments[1], "--replay") == 0) {
        return replay(arguments[2]);
    }
    bool is_writing = count == 4 && strcmp(arguments[1], "--seeds") == 0;
    if (count < 2 || (arguments[1][0] == '-' && !is_writing)) {
        fprintf(stderr, "Usage: fuzz VECTORS [INPUTS] [SEED] [FILE] | --replay FILE | --seeds VECTORS FOLDER\n");
        return 2;
    }
    vectors = arguments[is_writing ? 2 : 1];
    make_seeds();
    if (is_writing) {
        write_seeds(arguments[3]);
        return 0;
    }
    inputs = count > 2 ? atol(arguments[2]) : inputs;
    chosen_seed = count > 3 ? strtoull(arguments[3], NULL, 10) : chosen_seed;
    running = &unkept;
    if (count > 4) {
        int file = open(arguments[4], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (file < 0 || ftruncate(file, sizeof *running) != 0 || (running = mmap(NULL, sizeof *running, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)) == MAP_FAILED) {
            perror(arguments[4]);
            return 2;
        }
    }
    return run_tests("native.fuzz", tests, COUNT_OF(tests), NULL);
}

#endif
