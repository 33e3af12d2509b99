// The socket: one attempt at a handshake (Hello, Welcome, Mapped), and packets with descriptors. Nothing is left behind when an attempt fails.
#include <errno.h>
#include <poll.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "session.h"

void say(struct session *s, const char *format, ...) {
    if (s->log == NULL) {
        return;
    }
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    s->log(s->log_context, text);
}

void close_descriptors(const int *descriptors, int count) {
    for (int i = 0; i < count; i++) {
        close(descriptors[i]);
    }
}

int read_packet(int socket, struct packet *packet) {
    union { struct cmsghdr aligned; char bytes[CMSG_SPACE(MAX_SLOTS_PER_MESSAGE * sizeof(int))]; } control;
    struct iovec room = {.iov_base = packet->bytes, .iov_len = sizeof packet->bytes};
    struct msghdr message = {.msg_iov = &room, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t got;
    int resets = 0;
    packet->descriptor_count = 0;
    do {
        got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_NOSIGNAL);
    } while (got < 0 && (errno == EINTR || (errno == ECONNRESET && resets++ == 0))); // What the peer said before it closed waits behind that error.
    if (got < 0) {
        return errno == EAGAIN || errno == EWOULDBLOCK ? -1 : 0;
    }
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part != NULL; part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS) {
            int count = (int)((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            for (int i = 0; i < count && packet->descriptor_count < MAX_SLOTS_PER_MESSAGE; i++) {
                memcpy(&packet->descriptors[packet->descriptor_count++], CMSG_DATA(part) + i * sizeof(int), sizeof(int));
            }
        }
    }
    packet->length = (size_t)got;
    return got == 0 ? 0 : 1;
}

bool is_handshake(const struct packet *packet, uint16_t *kind, struct field_reader *fields) {
    struct handshake_header header;
    if (packet->length < sizeof header) {
        return false;
    }
    memcpy(&header, packet->bytes, sizeof header);
    *kind = header.kind;
    *fields = (struct field_reader){.at = packet->bytes + sizeof header, .left = packet->length - sizeof header};
    return header.magic == HANDSHAKE_MAGIC;
}

static bool send_packet(int socket, uint16_t kind, unsigned char *packet, size_t length) {
    struct handshake_header header = {.magic = HANDSHAKE_MAGIC, .kind = kind};
    memcpy(packet, &header, sizeof header);
    ssize_t sent;
    do {
        sent = send(socket, packet, length, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)length;
}

int send_mapped(int socket) {
    unsigned char packet[HANDSHAKE_HEADER_BYTES];
    return send_packet(socket, HANDSHAKE_MAPPED, packet, sizeof packet) ? FASTQ_OK : fail_system("send", "the broker's socket");
}

void close_link(struct link *link) {
    for (int i = 0; i < link->pair_count; i++) {
        unmap_pair(link->pairs[i]);
    }
    if (link->socket >= 0) {
        close(link->socket);
        close(link->bell);
        close(link->pipe);
    }
    *link = (struct link){.socket = -1, .bell = -1, .pipe = -1};
}

/// A broker that is stopped, or busy beyond all patience, holds nobody for ever. One look is always taken, even without patience.
static bool await_answer(int socket, int64_t deadline) {
    struct pollfd one = {.fd = socket, .events = POLLIN};
    int left = milliseconds_left(deadline);
    int64_t end = left < 0 ? FOR_EVER : deadline_in((int64_t)(left > HANDSHAKE_MILLISECONDS ? left : HANDSHAKE_MILLISECONDS) * 1000000);
    int ready;
    do {
        ready = poll(&one, 1, milliseconds_left(end));
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

bool pause_until(int64_t deadline) {
    enum { REST_NS = 20000000 };
    if (is_over(deadline)) {
        return false;
    }
    struct timespec rest = {.tv_nsec = REST_NS};
    nanosleep(&rest, NULL);
    return true;
}

static int open_socket(const char *path, int *made) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        return fail(FASTQ_BAD_ARGUMENT, sizeof address.sun_path - 1, "The path of a socket has at most %zu bytes: %s", sizeof address.sun_path - 1, path);
    }
    strcpy(address.sun_path, path);
    *made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (*made < 0) {
        return fail_system("socket", path);
    }
    int done;
    do {
        done = connect(*made, (struct sockaddr *)&address, sizeof address);
    } while (done != 0 && errno == EINTR);
    if (done != 0) {
        int error = errno;
        close(*made);
        *made = -1;
        fail(error == EACCES ? FASTQ_DENIED : FASTQ_DISCONNECTED, 0, "No broker at %s: %s (%d). Start it with: fastq serve", path, strerror(error), error);
        return error == EACCES ? FASTQ_DENIED : FASTQ_OK;
    }
    return FASTQ_OK;
}

static bool say_hello(struct session *s, int socket, uint64_t claimed_durable, uint32_t a_bytes, uint32_t b_bytes) {
    unsigned char packet[1024];
    struct field_writer fields = {.room = packet + HANDSHAKE_HEADER_BYTES, .size = sizeof packet - HANDSHAKE_HEADER_BYTES};
    put_number(&fields, FIELD_MIN_VERSION, PROTOCOL_MAJOR);
    put_number(&fields, FIELD_MAX_VERSION, PROTOCOL_MAJOR);
    put_text(&fields, FIELD_CLIENT_NAME, s->name);
    put_field(&fields, FIELD_INSTANCE, s->instance, sizeof s->instance);
    put_number(&fields, FIELD_PRODUCER, s->producer);
    put_number(&fields, FIELD_CLAIMED_DURABLE, claimed_durable);
    put_number(&fields, FIELD_SUBMISSION_RING_BYTES, a_bytes);
    put_number(&fields, FIELD_DELIVERY_RING_BYTES, b_bytes);
    put_number(&fields, FIELD_WANTS_COPIES, s->wants_copies);
    return send_packet(socket, HANDSHAKE_HELLO, packet, HANDSHAKE_HEADER_BYTES + fields.length);
}

static int refused_with(const struct field_reader *fields) {
    const unsigned char *text;
    size_t bytes = 0;
    bool has_text = bytes_of(fields->at, fields->left, FIELD_TEXT, &text, &bytes);
    int code = (int)number_of(fields->at, fields->left, FIELD_CODE);
    return fail(code == 0 ? FASTQ_INTERNAL : code, 0, "%.*s", has_text ? (int)bytes : 0, has_text ? (const char *)text : "");
}

/// What the broker said and gave, taken over into the session and a new link.
static int take_welcome(struct session *s, struct link *link, struct packet *packet) {
    uint16_t kind = 0;
    struct field_reader fields = {0};
    bool is_ours = is_handshake(packet, &kind, &fields);
    uint64_t a_bytes = number_of(fields.at, fields.left, FIELD_SUBMISSION_RING_BYTES), b_bytes = number_of(fields.at, fields.left, FIELD_DELIVERY_RING_BYTES);
    if (!is_ours || kind != HANDSHAKE_WELCOME || packet->descriptor_count != 4 || !is_ring(a_bytes) || !is_ring(b_bytes)) {
        close_descriptors(packet->descriptors, packet->descriptor_count);
        return is_ours && kind == HANDSHAKE_REFUSED ? refused_with(&fields) : fail(FASTQ_VERSION_MISMATCH, 0, "What answers at %s does not speak FastQ's protocol", s->path);
    }
    struct pair *pair;
    int code = map_pair(0, a_bytes, b_bytes, packet->descriptors[0], packet->descriptors[1], &pair);
    if (code != FASTQ_OK) {
        close_descriptors(packet->descriptors + 2, 2);
        return code;
    }
    link->bell = packet->descriptors[2];
    link->pipe = packet->descriptors[3];
    link->pairs[0] = pair;
    link->pair_count = 1;
    link->reading = 0;
    s->producer = number_of(fields.at, fields.left, FIELD_PRODUCER);
    s->epoch = number_of(fields.at, fields.left, FIELD_EPOCH);
    s->resumed_at = number_of(fields.at, fields.left, FIELD_NEXT_NUMBER);
    s->slot_bytes = number_of(fields.at, fields.left, FIELD_SLOT_BYTES);
    uint64_t most = number_of(fields.at, fields.left, FIELD_MAX_MESSAGE_BYTES);
    s->max_message_bytes = most < MAX_MESSAGE_BYTES ? most : MAX_MESSAGE_BYTES;
    pair->is_fenced_by_broker = number_of(fields.at, fields.left, FIELD_FENCES_ALL) == 1;
    return FASTQ_OK;
}

/// The kernel fences this process's threads when a broker asks it to. Must be before Hello is answered; a second time costs nothing.
static bool register_for_fences(void) {
    enum { REGISTER_GLOBAL_EXPEDITED = 1 << 2 };
    return syscall(SYS_membarrier, REGISTER_GLOBAL_EXPEDITED, 0) == 0;
}

int try_connect(struct session *s, struct link *link, uint64_t claimed_durable, uint32_t a_bytes, uint32_t b_bytes, int64_t deadline, bool *is_there) {
    *is_there = false;
    *link = (struct link){.socket = -1, .bell = -1, .pipe = -1};
    int made = -1;
    int code = open_socket(s->path, &made);
    if (made < 0) {
        return code;
    }
    bool is_fenced = register_for_fences();
    struct packet packet = {.length = 0};
    if (!say_hello(s, made, claimed_durable, a_bytes, b_bytes) || !await_answer(made, deadline) || read_packet(made, &packet) != 1) {
        close_descriptors(packet.descriptors, packet.descriptor_count);
        close(made);
        fail(FASTQ_DISCONNECTED, 0, "The broker at %s did not answer the handshake", s->path);
        return FASTQ_OK;
    }
    code = take_welcome(s, link, &packet);
    if (code != FASTQ_OK) {
        close(made);
        // After a restart all clients come at once, and the handshakes that may be open are fewer: there is room again soon.
        return code == FASTQ_LIMIT_REACHED && !is_over(deadline) ? FASTQ_OK : code;
    }
    link->socket = made;
    link->pairs[0]->is_fenced_by_broker &= is_fenced;
    if (send_mapped(made) != FASTQ_OK || fcntl(made, F_SETFL, O_NONBLOCK) != 0 || fcntl(link->pipe, F_SETFL, O_NONBLOCK) != 0) {
        close_link(link);
        fail(FASTQ_DISCONNECTED, 0, "The broker went away in the handshake");
        return FASTQ_OK;
    }
    *is_there = true;
    return FASTQ_OK;
}

/// The event loop's descriptor stays the same; what it watches is the new link's.
int watch_link(struct session *s) {
    struct epoll_event readable = {.events = EPOLLIN | EPOLLRDHUP};
    return epoll_ctl(s->event, EPOLL_CTL_ADD, s->link.pipe, &readable) == 0 && epoll_ctl(s->event, EPOLL_CTL_ADD, s->link.socket, &readable) == 0
        ? FASTQ_OK
        : fail_system("epoll_ctl", "the connection's descriptors");
}
