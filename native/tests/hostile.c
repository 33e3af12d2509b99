// What the library reads from a broker that does not hold to the protocol: hostile FOLDER ROUNDS [SEED]. A session over rings of this program's
// own, and records from the byte vectors, bent at random. Whatever stands there, calls answer; the sanitizers see the rest.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "../src/session.h"
#include "harness.h"

enum { RECORDS = 16, MOST_BYTES = 1024 };

static const char *folder;
static uint64_t dice = 88172645463325252u;
static int rounds = 20000;

static uint64_t roll(uint64_t sides) {
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice % sides;
}

typedef struct { unsigned char bytes[MOST_BYTES]; size_t length; } record;

static record records[RECORDS];
static size_t record_count;

/// The bytes of a vector: what stands before # in each line.
static void read_record(const char *name) {
    char path[512], text[512];
    record *one = &records[record_count++];
    snprintf(path, sizeof path, "%s/record-%s.hex", folder, name);
    FILE *input = fopen(path, "r");
    if (input == NULL) {
        perror(path);
        exit(2);
    }
    while (fgets(text, sizeof text, input) != NULL) {
        text[strcspn(text, "#")] = 0;
        for (char *byte = strtok(text, " \n"); byte != NULL; byte = strtok(NULL, " \n")) {
            one->bytes[one->length++] = (unsigned char)strtoul(byte, NULL, 16);
        }
    }
    fclose(input);
}

typedef struct { struct session *s; int far_socket, far_pipe, a, b; unsigned char *control, *ring; uint64_t head; } fake;

static int memory_file(size_t bytes) {
    int file = memfd_create("fastq hostile", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, (off_t)bytes) != 0) {
        perror("memfd");
        exit(2);
    }
    return file;
}

/// A session as the handshake leaves it, with two subscriptions, whose broker is this program.
static fake begin(void) {
    fake f = {0};
    int sockets[2], pipes[2];
    struct session *s = f.s = calloc(1, sizeof *s);
    f.a = memory_file(CONTROL_PAGE_BYTES + MIN_RING_BYTES);
    f.b = memory_file(CONTROL_PAGE_BYTES + MIN_RING_BYTES);
    f.control = mmap(NULL, CONTROL_PAGE_BYTES + MIN_RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, f.b, 0);
    f.ring = f.control + CONTROL_PAGE_BYTES;
    uint32_t words[3] = {BROKER_MAGIC, PROTOCOL_MAJOR, MIN_RING_BYTES};
    memcpy(f.control, words, sizeof words);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets) != 0 || pipe2(pipes, O_NONBLOCK | O_CLOEXEC) != 0) {
        perror("socketpair");
        exit(2);
    }
    f.far_socket = sockets[1];
    f.far_pipe = pipes[1];
    s->link = (struct link){.socket = sockets[0], .bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), .pipe = pipes[0], .pair_count = 1};
    CHECK_OK(map_pair(0, MIN_RING_BYTES, MIN_RING_BYTES, dup(f.a), dup(f.b), &s->link.pairs[0]));
    s->event = epoll_create1(EPOLL_CLOEXEC);
    s->path = strdup("/nowhere");
    s->name = strdup("hostile");
    s->next_number = 1000;
    s->slot_bytes = 1 << 20;
    s->max_message_bytes = MAX_MESSAGE_BYTES;
    for (uint32_t id = 1; id <= 2; id++) {
        struct subscription *u = calloc(1, sizeof *u);
        *u = (struct subscription){.credit = 1000, .settle_batch = 64, .id = id, .queue = 0x51525354};
        s->subscribing = u;
        unsigned char answer[64];
        struct field_writer fields = {.room = answer, .size = sizeof answer};
        put_number(&fields, FIELD_SUBSCRIPTION, id == 1 ? 1 : 0x41424344); // The second has the number that the vectors name.
        put_number(&fields, FIELD_FIRST_DELIVERY, 1);
        begin_subscription(s, answer, fields.length);
    }
    return f;
}

static void end(fake *f) {
    struct session *s = f->s;
    close_link(&s->link);
    close(s->event);
    unmap_slots(s);
    free_session(s);
    munmap(f->control, CONTROL_PAGE_BYTES + MIN_RING_BYTES);
    close(f->far_socket);
    close(f->far_pipe);
    close(f->a);
    close(f->b);
}

/// A record as it should be, or with some bytes, or its length, not as they should be.
static void write_bent(fake *f) {
    record one = records[roll(record_count)];
    uint32_t small = roll(3) == 0 ? 1 : 0x41424344;
    if (one.length > 16 && roll(2) == 0) {
        memcpy(one.bytes + (one.bytes[4] < KIND_REFUSED ? 8 : 16), &small, sizeof small); // A subscription that is there.
    }
    if (roll(2) == 0 && one.bytes[4] < KIND_REFUSED) { // Numbers that follow on what was before.
        uint64_t number = 1 + roll(200);
        memcpy(one.bytes + 16, &number, sizeof number);
    }
    if (roll(10) > 0 && one.bytes[4] >= KIND_REFUSED && one.length >= sizeof(struct notice_record)) { // Of submissions that were sent.
        uint64_t number = roll(1000);
        uint32_t few = (uint32_t)roll(20);
        memcpy(one.bytes + 8, &number, sizeof number);
        memcpy(one.bytes + 20, &few, sizeof few);
    }
    for (uint64_t bends = roll(3) == 0 ? 1 + roll(3) : 0; bends > 0; bends--) {
        one.bytes[roll(one.length)] = (unsigned char)roll(256);
    }
    if (roll(100) == 0) {
        uint32_t length = (uint32_t)roll(70000);
        memcpy(one.bytes, &length, sizeof length);
    }
    uint64_t at = f->head % MIN_RING_BYTES;
    for (size_t i = 0; i < one.length; i++) {
        f->ring[(at + i) % MIN_RING_BYTES] = one.bytes[i];
    }
    f->head += align8(one.length) + (roll(200) == 0 ? 8 * roll(4) : 0);
}

/// A packet on the socket, with descriptors or without, bent as well.
static void send_bent(fake *f) {
    unsigned char packet[256] = {0};
    struct handshake_header header = {.magic = HANDSHAKE_MAGIC, .kind = (uint16_t)(roll(10) == 0 ? roll(20) : roll(2) == 0 ? HANDSHAKE_SLOTS : HANDSHAKE_RINGS)};
    struct field_writer fields = {.room = packet + sizeof header, .size = sizeof packet - sizeof header};
    memcpy(packet, &header, sizeof header);
    put_number(&fields, FIELD_SLOT, roll(4));
    put_number(&fields, FIELD_RING, roll(3));
    put_number(&fields, FIELD_SUBMISSION_RING_BYTES, roll(3) == 0 ? roll(1 << 20) : MIN_RING_BYTES);
    put_number(&fields, FIELD_DELIVERY_RING_BYTES, MIN_RING_BYTES);
    size_t length = sizeof header + (roll(3) == 0 ? roll(fields.length) : fields.length);
    if (roll(4) == 0) {
        packet[roll(length)] = (unsigned char)roll(256);
    }
    int files[2] = {f->a, f->b};
    size_t count = roll(3);
    union { struct cmsghdr aligned; char bytes[CMSG_SPACE(sizeof files)]; } control = {0};
    struct iovec part = {.iov_base = packet, .iov_len = length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        *rights = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(count * sizeof(int))};
        memcpy(CMSG_DATA(rights), files, count * sizeof(int));
    }
    (void)!sendmsg(f->far_socket, &message, MSG_NOSIGNAL);
}

static void open_request(struct session *s, uint64_t number) {
    CHECK(grow((void **)&s->requests, &s->request_size, s->request_count, sizeof *s->requests));
    s->requests[s->request_count++] = (struct request){.number = number};
}

static bool is_a_verdict(int code) {
    return code == FASTQ_OK || code == FASTQ_RING_VIOLATION || code == FASTQ_CORRUPT || code == FASTQ_TIMED_OUT || code == FASTQ_DISCONNECTED || code == FASTQ_VERSION_MISMATCH || code == FASTQ_SYSTEM;
}

static void a_broker_of_any_bytes_gets_a_verdict(void) {
    static const char *const names[] = {"Deliveries", "DeliveryCopy", "Refused", "Answer", "LateSettle", "SlotRetired", "BrokerMovesRing", "SubscriptionEnded", "ReplyDelivered", "ReplyEnded"};
    record_count = 0;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        read_record(names[i]);
    }
    long handed_out = 0, refusals = 0, replies = 0;
    for (int round = 0; round < rounds; round++) {
        fake f = begin();
        struct session *s = f.s;
        int code = FASTQ_OK;
        for (uint64_t number = 1; number < 1000; number += 37) {
            open_request(s, number);
        }
        for (int step = 0; step < 20 && code == FASTQ_OK; step++) {
            for (uint64_t more = roll(5); more > 0; more--) {
                write_bent(&f);
            }
            store(f.control, BROKER_DELIVERY_HEAD, roll(200) == 0 ? roll(UINT32_MAX) : f.head);
            store(f.control, BROKER_WRITTEN, roll(1000));
            if (roll(3) == 0) {
                send_bent(&f);
                bool any, is_gone;
                code = read_socket(s, &any, &is_gone);
            }
            for (struct subscription *u = s->subscriptions, *next; u != NULL && code == FASTQ_OK; u = next) {
                next = u->next;
                fastq_message message;
                bool is_there = true;
                for (int most = 50; most > 0 && is_there && code == FASTQ_OK; most--) {
                    code = next_delivery(s, u, &message, &is_there);
                    if (code == FASTQ_OK && is_there) {
                        size_t bytes, position = 0;
                        fastq_property property;
                        uint32_t sum = fastq_check_of(message.body, message.body_bytes) + fastq_check_of(message.properties, message.property_bytes);
                        (void)sum;
                        (void)fastq_body_size(&message, &bytes);
                        do {
                            CHECK_OK(fastq_next_property(message.properties, message.property_bytes, &position, &property));
                        } while (property.tag != 0);
                        handed_out++;
                    }
                }
            }
            s->awaited = roll(2) == 0 ? 0x0102030405060708 : 0;
            s->is_answered = roll(2) == 0;
            free_read(s);
        }
        CHECK(is_a_verdict(code));
        for (size_t i = 0; i < s->request_count; i++) {
            replies += s->requests[i].first != NULL;
        }
        refusals += code == FASTQ_RING_VIOLATION;
        end(&f);
    }
    printf("    %d sessions, %ld messages handed out, %ld violations told\n", rounds, handed_out, refusals);
    CHECK(handed_out > rounds / 50 && refusals > rounds / 50 && replies > rounds / 50); // Both sides of the judgement are seen.
}

static void write_part(fake *f, uint64_t request, uint32_t part, uint8_t flags, const char *text) {
    struct reply_record record = {.length = (uint32_t)(sizeof record + strlen(text)), .kind = KIND_REPLY_DELIVERED, .flags = flags, .request = request, .part = part, .check = fastq_check_of(text, strlen(text))};
    memcpy(f->ring + f->head % MIN_RING_BYTES, &record, sizeof record);
    memcpy(f->ring + (f->head + sizeof record) % MIN_RING_BYTES, text, strlen(text));
    f->head += align8(record.length);
    store(f->control, BROKER_DELIVERY_HEAD, f->head);
}

static void parts_that_come_twice_are_dropped_and_one_that_is_missing_is_told(void) {
    fake f = begin();
    struct session *s = f.s;
    open_request(s, 5);
    open_request(s, 7);
    write_part(&f, 5, 0, 0, "zero");
    write_part(&f, 5, 0, 0, "zero again");
    write_part(&f, 5, 1, FASTQ_LAST, "one");
    write_part(&f, 5, 2, 0, "after the last");
    write_part(&f, 7, 0, 0, "zero");
    write_part(&f, 7, 2, FASTQ_LAST, "two");
    CHECK_OK(drain(s));
    const struct reply *first = s->requests[0].first, *second = first->next;
    CHECK(first->length == 4 && memcmp(first->payload, "zero", 4) == 0 && second->length == 3 && memcmp(second->payload, "one", 3) == 0 && second->next == NULL && s->requests[0].is_over);
    first = s->requests[1].first;
    CHECK(first->length == 4 && first->next->header.code == FASTQ_DISCONNECTED && first->next->next == NULL && s->requests[1].is_over);
    write_part(&f, 7, 3, 0, "nobody waits"); // The broker is told to drop what follows.
    uint64_t before = s->link.pairs[0]->head;
    CHECK_OK(drain(s));
    CHECK(s->link.pairs[0]->head == before + sizeof(struct reply_record));
    end(&f);
}

static void a_producer_that_a_newer_session_has_stops_and_says_so(void) {
    fake f = begin();
    unsigned char packet[256] = {0};
    struct handshake_header header = {.magic = HANDSHAKE_MAGIC, .kind = HANDSHAKE_ENDED};
    struct field_writer fields = {.room = packet + sizeof header, .size = sizeof packet - sizeof header};
    memcpy(packet, &header, sizeof header);
    put_number(&fields, FIELD_CODE, FASTQ_FENCED);
    put_text(&fields, FIELD_TEXT, "A newer session uses this producer");
    CHECK(send(f.far_socket, packet, sizeof header + fields.length, MSG_NOSIGNAL) > 0);
    shutdown(f.far_socket, SHUT_RDWR);
    CHECK_CODE(look_at_socket(f.s), FASTQ_FENCED);
    CHECK(strstr(fastq_last_error(), "newer session") != NULL && f.s->is_closed);
    end(&f);
}

int main(int count, char **arguments) {
    static const test tests[] = {
        {"a_broker_of_any_bytes_gets_a_verdict", a_broker_of_any_bytes_gets_a_verdict},
        {"parts_that_come_twice_are_dropped_and_one_that_is_missing_is_told", parts_that_come_twice_are_dropped_and_one_that_is_missing_is_told},
        {"a_producer_that_a_newer_session_has_stops_and_says_so", a_producer_that_a_newer_session_has_stops_and_says_so},
    };
    if (count < 2) {
        fprintf(stderr, "Usage: hostile FOLDER [ROUNDS] [SEED]\n");
        return 2;
    }
    folder = arguments[1];
    rounds = count > 2 ? atoi(arguments[2]) : rounds;
    dice ^= count > 3 ? strtoull(arguments[3], NULL, 10) * 0x9e3779b97f4a7c15u : 0;
    return run_tests("native.hostile", tests, COUNT_OF(tests), NULL);
}
