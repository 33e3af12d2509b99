// Waiting: yields first, then sleeps on pipe and socket together, so that a sleeper sees its doorbell and the broker's death alike. Larger rings.
//
//   sleeper (here)                          ringer (the broker)
//   number + 1  (odd: ring me)              publish the head
//   full fence                              full fence
//   look at every head and counter          number odd, and not the one rung last?  -> ring
//   nothing new: poll
//   number + 1  (even: awake)
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include "session.h"

/// While a pair is offered the broker may have gone over to it already: the number is kept in both alike.
void announce_sleep(struct session *s) {
    for (int i = s->link.reading; i < s->link.pair_count; i++) {
        unsigned char *a = s->link.pairs[i]->a;
        store(a, CLIENT_SLEEP_NUMBER, load(a, CLIENT_SLEEP_NUMBER) | 1);
    }
    atomic_thread_fence(memory_order_seq_cst); // Pairs with the broker's, between its head and its look at this number.
}

void wake(struct session *s) {
    for (int i = s->link.reading; i < s->link.pair_count; i++) {
        unsigned char *a = s->link.pairs[i]->a;
        store(a, CLIENT_SLEEP_NUMBER, (load(a, CLIENT_SLEEP_NUMBER) + 1) & ~(uint64_t)1);
    }
}

/// The broker may have gone over to an offered pair, and sleep by that one's number, before this side has read so.
void ring_broker(struct session *s) {
    bool must = false;
    for (int i = s->link.reading; i < s->link.pair_count; i++) {
        must |= must_ring(s->link.pairs[i]);
    }
    if (must) {
        uint64_t one = 1;
        while (write(s->link.bell, &one, sizeof one) < 0 && errno == EINTR) {
        }
    }
}

static void look(struct session *s, uint64_t seen[5]) {
    static const size_t offsets[5] = {BROKER_DELIVERY_HEAD, BROKER_SUBMISSION_POSITION, BROKER_DECIDED, BROKER_WRITTEN, BROKER_DURABLE};
    const unsigned char *b = reading(s)->b;
    for (int i = 0; i < 5; i++) {
        seen[i] = load(b, offsets[i]);
    }
}

bool has_news(struct session *s) {
    uint64_t now[5];
    look(s, now);
    return memcmp(now, s->seen, sizeof now) != 0;
}

int take_news(struct session *s, bool *news) {
    *news = has_news(s);
    if (!*news) {
        return FASTQ_OK;
    }
    look(s, s->seen);
    if (s->seen[4] > s->durable_seen) {
        s->durable_seen = s->seen[4];
    }
    return drain(s);
}

static void drain_pipe(int pipe) {
    char bytes[64];
    while (read(pipe, bytes, sizeof bytes) == (ssize_t)sizeof bytes) {
    }
}

/// True: the socket has something to say, or has hung up.
static bool sleep_until(struct session *s, int64_t deadline) {
    struct pollfd both[2] = {{.fd = s->link.pipe, .events = POLLIN}, {.fd = s->link.socket, .events = POLLIN}};
    if (poll(both, 2, milliseconds_left(deadline)) <= 0) {
        return false; // In time nothing, or a signal: the caller looks again.
    }
    if (both[0].revents != 0) {
        drain_pipe(s->link.pipe);
    }
    return both[1].revents != 0;
}

/// Waits until ring B or a counter may have moved since the last look, and takes what came. *news false: the time is over and nothing has.
int wait_for_news(struct session *s, int64_t deadline, bool *news) {
    enum { YIELDS = 100 };
    for (int i = 0; i < YIELDS; i++) {
        int code = take_news(s, news);
        if (code != FASTQ_OK || *news) {
            return code;
        }
        sched_yield();
    }
    int code = flush_all_settles(s);
    if (code != FASTQ_OK || (code = take_news(s, news)) != FASTQ_OK || *news) {
        return code;
    }
    announce_sleep(s);
    bool has_spoken = !has_news(s) && !is_over(deadline) && sleep_until(s, deadline);
    wake(s);
    if (has_spoken) {
        code = look_at_socket(s);
        *news = true; // The caller looks again at all it knows.
        bool any;
        return code != FASTQ_OK ? code : take_news(s, &any);
    }
    code = take_news(s, news);
    *news |= !is_over(deadline); // Woken for nothing (an old ring of the bell, a signal): there is still time.
    return code;
}

/// Takes what the socket holds; a hang-up leads to a reconnect.
int look_at_socket(struct session *s) {
    bool any = true, is_gone;
    while (any) {
        int code = read_socket(s, &any, &is_gone);
        if (code != FASTQ_OK) {
            return code;
        }
        if (is_gone) {
            return reconnect(s);
        }
    }
    return FASTQ_OK;
}

static int take_slots(struct session *s, struct field_reader *fields, const struct packet *packet) {
    int next = 0, code = FASTQ_OK;
    while (code == FASTQ_OK && next < packet->descriptor_count && next_field(fields)) {
        if (fields->tag == FIELD_SLOT) {
            code = add_slot(s, (uint32_t)fields->number, packet->descriptors[next++]);
        }
    }
    close_descriptors(packet->descriptors + next, packet->descriptor_count - next);
    if (code != FASTQ_OK) {
        return code;
    }
    s->slots_to_acknowledge++;
    struct pair *pair = writing(s);
    while (s->slots_to_acknowledge > 0 && room_in(pair) >= (int64_t)(2 * sizeof(struct control_record)) && has_mark_room(pair)) {
        s->slots_to_acknowledge--; // The rest is told with the next room: until then the broker sends copies.
        write_control(s, (struct control_record){.kind = KIND_SLOTS_MAPPED, .subject = 1});
        ring_broker(s);
    }
    return FASTQ_OK;
}

static int take_rings(struct session *s, const struct field_reader *fields, const struct packet *packet) {
    uint64_t a_bytes = number_of(fields->at, fields->left, FIELD_SUBMISSION_RING_BYTES), b_bytes = number_of(fields->at, fields->left, FIELD_DELIVERY_RING_BYTES);
    bool is_moving = writing(s) != reading(s); // One pair is offered at a time.
    if (packet->descriptor_count != 2 || !is_ring(a_bytes) || !is_ring(b_bytes) || is_moving || s->link.pair_count == MAX_PAIRS) {
        close_descriptors(packet->descriptors, packet->descriptor_count);
        return FASTQ_OK;
    }
    struct pair *next;
    int code = map_pair((uint32_t)number_of(fields->at, fields->left, FIELD_RING), a_bytes, b_bytes, packet->descriptors[0], packet->descriptors[1], &next);
    if (code != FASTQ_OK) {
        return code;
    }
    next->is_fenced_by_broker = reading(s)->is_fenced_by_broker;
    send_mapped(s->link.socket); // If it fails, the hang-up follows.
    // The last record of the old ring: there is always room for it, as every reservation leaves it.
    write_control(s, (struct control_record){.kind = KIND_CLIENT_MOVES_RING, .subject = next->number});
    ring_broker(s);
    s->link.pairs[s->link.pair_count++] = next;
    s->is_growing = false;
    return FASTQ_OK;
}

int read_socket(struct session *s, bool *any, bool *is_gone) {
    struct packet packet;
    int came = read_packet(s->link.socket, &packet);
    *any = came >= 0;
    *is_gone = came == 0;
    if (came != 1) {
        return FASTQ_OK;
    }
    uint16_t kind;
    struct field_reader fields;
    if (is_handshake(&packet, &kind, &fields) && kind == HANDSHAKE_SLOTS) {
        return take_slots(s, &fields, &packet);
    }
    if (is_handshake(&packet, &kind, &fields) && kind == HANDSHAKE_RINGS) {
        return take_rings(s, &fields, &packet);
    }
    close_descriptors(packet.descriptors, packet.descriptor_count);
    if (is_handshake(&packet, &kind, &fields) && kind == HANDSHAKE_ENDED) {
        const unsigned char *text;
        size_t bytes;
        bool has_text = bytes_of(fields.at, fields.left, FIELD_TEXT, &text, &bytes);
        s->farewell_code = (int)number_of(fields.at, fields.left, FIELD_CODE);
        size_t kept = !has_text ? 0 : bytes < sizeof s->farewell - 1 ? bytes : sizeof s->farewell - 1;
        memcpy(s->farewell, has_text ? text : (const unsigned char *)"", kept);
        s->farewell[kept] = 0;
        say(s, "The broker ended the connection (%s): %s", fastq_code_name(s->farewell_code), s->farewell); // The hang-up follows.
    }
    return FASTQ_OK;
}

/// Waits for the descriptor of a slot, which was sent before the record that names it.
int await_slot(struct session *s, uint32_t slot) {
    int64_t deadline = deadline_in(s->patience_ns);
    while (!knows_slot(s, slot)) {
        bool was_over = is_over(deadline), any, is_gone; // Asked first: what lies there by now counts, without any patience, too.
        struct pollfd one = {.fd = s->link.socket, .events = POLLIN};
        int left = milliseconds_left(deadline);
        (void)poll(&one, 1, left < 0 || left > 1000 ? 1000 : left);
        int code = read_socket(s, &any, &is_gone);
        if (code != FASTQ_OK) {
            return code;
        }
        if (is_gone) {
            // The run that names this slot is the old life's: its messages are delivered again or still ours after the reconnect.
            return fail(FASTQ_DISCONNECTED, 0, "The broker went away before slot %u came", slot);
        }
        if (!any && was_over) {
            return fail(FASTQ_TIMED_OUT, 0, "The descriptor of slot %u did not come", slot);
        }
    }
    return FASTQ_OK;
}

/// Asks for a larger pair and waits until it is there; what is under way stays in order.
int grow_rings(struct session *s, uint64_t bytes) {
    enum { GROWTH_NS = 2000000000 }; // Growth by load comes when it comes, or not at all when the broker's memory is spent.
    if (s->is_growing || writing(s) != reading(s)) {
        return FASTQ_OK;
    }
    struct pair *before = writing(s);
    int code = FASTQ_OK;
    free_read(s);
    while (room_in(writing(s)) < (int64_t)(2 * sizeof(struct control_record)) || !has_mark_room(writing(s))) {
        bool news;
        if ((code = wait_for_news(s, FOR_EVER, &news)) != FASTQ_OK) {
            return code;
        }
        free_read(s);
    }
    if (writing(s) != before) {
        return FASTQ_OK; // The wait has brought another pair, or another connection.
    }
    uint64_t load_bytes = bytes < MAX_LOAD_RING_BYTES ? bytes : MAX_LOAD_RING_BYTES;
    uint64_t b_bytes = reading(s)->b_bytes > load_bytes ? reading(s)->b_bytes : load_bytes;
    s->is_growing = true;
    write_control(s, (struct control_record){.kind = KIND_GROW_RINGS, .subject = (uint32_t)bytes, .count = (uint32_t)b_bytes});
    ring_broker(s);
    int64_t deadline = deadline_in(GROWTH_NS);
    while (code == FASTQ_OK && s->is_growing && writing(s) == before && !is_over(deadline)) {
        struct pollfd one = {.fd = s->link.socket, .events = POLLIN};
        (void)poll(&one, 1, milliseconds_left(deadline));
        code = look_at_socket(s);
    }
    s->is_growing = false;
    return code;
}

/// The broker has moved, too: the old ring B was read to its end.
int move_deliveries(struct session *s) {
    if (writing(s) == reading(s)) {
        return fail(FASTQ_RING_VIOLATION, 0, "The broker moves to rings that it has not offered");
    }
    int code = take_all_out(s);
    publish_position(s);
    s->link.reading = s->link.pair_count - 1;
    s->published_position = 0;
    memset(s->seen, 0, sizeof s->seen);
    free_read(s); // Lets go of the old pair where nothing in it is needed any more.
    return code;
}
