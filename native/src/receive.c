// Ring B, in order. Notices and answers are taken at once; runs of deliveries stay in the ring until their consumer begins them: what was
// begun counts as delivered, what was not goes back uncounted if this program dies.
//
//   published position          read up to
//      |  run (waits) | notice | run (waits) |          the position is that of the first run that waits
#include <stdio.h>
#include <stdlib.h>

#include "session.h"

static const unsigned char *at_position(const struct pair *pair, uint64_t position) { return pair->b_ring + (position & (pair->b_bytes - 1)); }

// ---- refusals, by number

static size_t place_of(const struct session *s, uint64_t number) {
    size_t low = 0, high = s->refused_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->refused[middle].number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

int add_refusal(struct session *s, uint64_t number, int code, uint64_t value, const unsigned char *text, size_t length) {
    size_t place = place_of(s, number);
    if (place == s->refused_count || s->refused[place].number != number) {
        if (!grow((void **)&s->refused, &s->refused_size, s->refused_count, sizeof *s->refused)) {
            return FASTQ_NO_MEMORY;
        }
        memmove(s->refused + place + 1, s->refused + place, (s->refused_count++ - place) * sizeof *s->refused);
    }
    fastq_refusal *refusal = &s->refused[place];
    *refusal = (fastq_refusal){.number = number, .code = code, .value = value};
    memcpy(refusal->text, text, length < sizeof refusal->text - 1 ? length : sizeof refusal->text - 1);
    return FASTQ_OK;
}

bool take_refusal(struct session *s, uint64_t number, fastq_refusal *refusal) {
    size_t place = number == 0 ? 0 : place_of(s, number);
    if (place == s->refused_count || (number != 0 && s->refused[place].number != number)) {
        return false;
    }
    *refusal = s->refused[place];
    memmove(s->refused + place, s->refused + place + 1, (--s->refused_count - place) * sizeof *s->refused);
    return true;
}

/// Now and then the broker is told which refusals it may forget.
static void tell_refusals(struct session *s) {
    enum { REFUSALS_BETWEEN = 64 };
    struct pair *pair = writing(s);
    if (s->refusals_taken - s->refusals_told >= REFUSALS_BETWEEN && room_in(pair) > (int64_t)(2 * sizeof(struct control_record)) && has_mark_room(pair)) {
        s->refusals_told = s->refusals_taken;
        write_control(s, (struct control_record){.kind = KIND_REFUSALS_SEEN, .value = s->refusals_taken});
        ring_broker(s);
    }
}

static int take_refused(struct session *s, const struct notice_record *notice, const unsigned char *text, size_t length) {
    if (notice->number >= s->next_number || notice->count > s->next_number - notice->number) {
        return fail(FASTQ_RING_VIOLATION, 0, "The broker refuses submissions that were never sent");
    }
    if (notice->subject != 0) {
        int code = take_transaction_refused(s, notice, text, length);
        tell_refusals(s);
        return code;
    }
    for (uint64_t number = notice->number; number < notice->number + notice->count; number++) {
        if (number <= s->refusals_taken) {
            continue;
        }
        int code = is_request(s, number)
            ? fail_request(s, number, notice->code, notice->value, text, length)
            : add_refusal(s, number, notice->code, notice->value, text, length);
        if (code != FASTQ_OK) {
            return code;
        }
        s->duplicates += notice->code == FASTQ_DUPLICATE;
        s->refusals_taken = number;
    }
    tell_refusals(s);
    return FASTQ_OK;
}

/// Deliveries that were no longer ours when they were settled. Their bytes are not looked at any more.
static int take_late_settle(struct session *s, const struct notice_record *notice) {
    const struct subscription *u = find_subscription(s, notice->subject);
    int code = FASTQ_OK;
    if (u != NULL && notice->number < s->next_number) {
        char text[96];
        int length = snprintf(text, sizeof text, "Deliveries %llu to %llu of queue %u", (unsigned long long)notice->value, (unsigned long long)(notice->value + notice->count - 1), u->queue);
        code = add_refusal(s, notice->number, notice->code, 0, (const unsigned char *)text, (size_t)length);
    }
    if (notice->number > s->refusals_taken && notice->number < s->next_number) {
        s->refusals_taken = notice->number;
    }
    tell_refusals(s);
    return code;
}

/// How many queues took a message is kept for whoever asks, of the last thousand.
static int take_routed(struct session *s, const struct notice_record *notice) {
    enum { MOST = 1024 };
    if (s->routed_count == MOST) {
        memmove(s->routed, s->routed + MOST / 2, MOST / 2 * sizeof *s->routed);
        s->routed_count = MOST / 2;
    }
    if (!grow((void **)&s->routed, &s->routed_size, s->routed_count, sizeof *s->routed)) {
        return FASTQ_NO_MEMORY;
    }
    s->routed[s->routed_count++] = (struct routed){.number = notice->number, .queues = notice->value};
    return FASTQ_OK;
}

// ---- runs

void free_run(struct session *s, struct run *run) {
    free(run->record);
    run->record = NULL;
    run->next_in_ring = s->pool;
    s->pool = run;
}

/// Handed out to its end: back to the pool, once it has left the ring's list, too.
static void end_run(struct session *s, struct run *run) {
    run->is_over = true;
    if (!run->is_listed) {
        free_run(s, run);
    }
}

static struct run *new_run(struct session *s) {
    struct run *run = s->pool;
    if (run != NULL) {
        s->pool = run->next_in_ring;
    } else if ((run = calloc(1, sizeof *run)) == NULL || (run->entries = malloc(MAX_RUN_ENTRIES * sizeof *run->entries)) == NULL) {
        free(run);
        fail_memory();
        return NULL;
    }
    struct delivery_entry *entries = run->entries;
    *run = (struct run){.entries = entries, .is_listed = true};
    return run;
}

static int add_run(struct session *s, uint64_t position, const unsigned char *record, uint32_t length) {
    struct deliveries_header header;
    if (length < sizeof header + sizeof(struct delivery_entry)) {
        return fail(FASTQ_RING_VIOLATION, 0, "A run of deliveries is too short");
    }
    memcpy(&header, record, sizeof header);
    header.length = length; // As it was judged.
    bool is_copy = header.kind == KIND_DELIVERY_COPY;
    if (header.count == 0 || header.count > (is_copy ? 1 : MAX_RUN_ENTRIES) || length < sizeof header + header.count * sizeof(struct delivery_entry)) {
        return fail(FASTQ_RING_VIOLATION, 0, "A run of deliveries has a count that does not fit");
    }
    struct subscription *u = find_subscription(s, header.subscription);
    if (u == NULL) {
        return FASTQ_OK; // Of one that was closed meanwhile: it goes back to its place.
    }
    struct run *run = new_run(s);
    if (run == NULL) {
        return FASTQ_NO_MEMORY;
    }
    run->position = position;
    run->header = header;
    *(s->last_run != NULL ? &s->last_run->next_in_ring : &s->first_run) = run;
    s->last_run = run;
    *(u->last_waiting != NULL ? &u->last_waiting->next_waiting : &u->first_waiting) = run;
    u->last_waiting = run;
    return FASTQ_OK;
}

/// Is this a whole message with the right check, of the queue and place that are meant? Disks have put writes in wrong places.
static bool is_sound(const unsigned char *record, size_t length, uint32_t queue, uint64_t tag) {
    struct message_header header;
    if (length < sizeof header) {
        return false;
    }
    memcpy(&header, record, sizeof header);
    size_t rest = length - sizeof header;
    return header.length == length && header.queue == queue && header.tag == tag && header.property_bytes <= rest
        && header.check == fastq_check_of(record + sizeof header, rest) && properties_are_whole(record + sizeof header, header.property_bytes);
}

/// Copies a run out of the ring: 16 bytes a delivery; of a copy the record, too.
static int take_out(struct session *s, struct run *run) {
    if (run->is_taken) {
        return FASTQ_OK;
    }
    const unsigned char *record = at_position(reading(s), run->position) + sizeof run->header;
    size_t entry_bytes = run->header.count * sizeof *run->entries;
    memcpy(run->entries, record, entry_bytes);
    if (run->header.kind == KIND_DELIVERY_COPY) {
        size_t length = run->header.length - sizeof run->header - entry_bytes;
        run->record = malloc(length > 0 ? length : 1);
        if (run->record == NULL) {
            return fail_memory();
        }
        memcpy(run->record, record + entry_bytes, length);
        run->entries[0].length = (uint32_t)length;
        if (!is_sound(run->record, length, run->header.queue, run->header.first_tag)) {
            free(run->record);
            run->record = NULL; // The run stays where it is, and the next call comes here again.
            return fail(FASTQ_CORRUPT, 0, "A copy of a message does not have its check");
        }
    }
    run->is_taken = true;
    return FASTQ_OK;
}

int take_all_out(struct session *s) {
    int code = FASTQ_OK;
    for (struct run *run = s->first_run; run != NULL && code == FASTQ_OK; run = run->next_in_ring) {
        code = take_out(s, run);
    }
    return code;
}

void publish_position(struct session *s) {
    while (s->first_run != NULL && s->first_run->is_taken) {
        struct run *run = s->first_run;
        s->first_run = run->next_in_ring;
        if (s->first_run == NULL) {
            s->last_run = NULL;
        }
        run->is_listed = false;
        if (run->is_over) {
            free_run(s, run);
        }
    }
    struct pair *pair = reading(s);
    uint64_t position = s->first_run != NULL ? s->first_run->position : pair->position;
    if (position != s->published_position) {
        s->published_position = position;
        store(pair->a, CLIENT_DELIVERY_POSITION, position);
        ring_broker(s); // It may wait for room.
    }
}

/// Runs that came and were not handed out go back to their places.
void give_up_runs(struct session *s, struct subscription *u) {
    while (u->first_waiting != NULL) {
        struct run *run = u->first_waiting;
        u->first_waiting = run->next_waiting;
        run->is_taken = true;
        end_run(s, run);
    }
    u->last_waiting = NULL;
    if (u->current != NULL) {
        struct run *current = u->current;
        u->current = NULL;
        end_run(s, current);
    }
}

// ---- the ring

static int take_notice(struct session *s, uint8_t kind, const unsigned char *record, uint32_t length) {
    if (kind == KIND_ANSWER) {
        return take_answer(s, record, length);
    }
    if (kind == KIND_REPLY_DELIVERED) {
        return take_reply(s, record, length);
    }
    struct notice_record notice;
    if (length < sizeof notice) {
        return FASTQ_OK;
    }
    memcpy(&notice, record, sizeof notice);
    if (kind == KIND_REFUSED) {
        return take_refused(s, &notice, record + sizeof notice, length - sizeof notice);
    }
    if (kind == KIND_LATE_SETTLE) {
        return take_late_settle(s, &notice);
    }
    if (kind == KIND_ROUTED) {
        return take_routed(s, &notice);
    }
    if (kind == KIND_REPLY_ENDED) {
        take_reply_ended(s, &notice);
    }
    if (kind == KIND_SLOT_RETIRED) {
        give_up_slot(s, notice.subject);
        s->beginnings_before_letting_go = 0;
    }
    struct subscription *ended = kind == KIND_SUBSCRIPTION_ENDED ? find_subscription(s, notice.subject) : NULL;
    if (ended != NULL) {
        end_subscription(s, ended, notice.code); // Nobody could settle its runs any more.
    }
    return FASTQ_OK;
}

/// Reads ring B as far as it goes.
int drain(struct session *s) {
    bool any = false;
    int code = FASTQ_OK;
    while (code == FASTQ_OK) {
        struct pair *pair = reading(s);
        if (pair->known_head == pair->position) {
            uint64_t head = load(pair->b, BROKER_DELIVERY_HEAD), ahead = head - pair->position;
            if (ahead == 0) {
                break;
            }
            if (ahead > pair->b_bytes || head % 8 != 0) {
                return fail(FASTQ_RING_VIOLATION, 0, "The broker's ring does not hold to the protocol");
            }
            pair->known_head = head;
        }
        struct record_prefix prefix;
        uint64_t position = pair->position;
        const unsigned char *record = at_position(pair, position);
        memcpy(&prefix, record, sizeof prefix);
        if (prefix.length < sizeof prefix || align8(prefix.length) > pair->known_head - position) {
            return fail(FASTQ_RING_VIOLATION, 0, "A record of the broker's does not fit where it stands");
        }
        any = true;
        pair->position += align8(prefix.length);
        code = prefix.kind == KIND_DELIVERIES || prefix.kind == KIND_DELIVERY_COPY ? add_run(s, position, record, prefix.length)
            : prefix.kind == KIND_BROKER_MOVES_RING ? move_deliveries(s)
            : take_notice(s, prefix.kind, record, prefix.length);
    }
    struct pair *pair = reading(s);
    if (code == FASTQ_OK && any && pair->position - s->published_position >= (uint64_t)pair->b_bytes * 3 / 4) {
        code = take_all_out(s); // Refusals and answers must never wait for a consumer that does not look.
    }
    if (any) {
        publish_position(s);
    }
    return code;
}

/// Asked after the position was published: the broker sets the word, fences, and then reads the position.
static bool is_ended_by_broker(struct session *s) {
    const struct pair *pair = reading(s);
    if (!pair->is_fenced_by_broker) {
        atomic_thread_fence(memory_order_seq_cst);
    }
    return atomic_load_explicit((const _Atomic uint32_t *)(const void *)(pair->b + BROKER_ENDED), memory_order_acquire) != 0;
}

/// Nothing is there: what was gathered is sent, so that credit comes back, and now and then the connection is looked at.
static int look_around(struct session *s, struct subscription *u) {
    enum { LOOKS_BEFORE_SOCKET = 1000 };
    uint64_t number;
    int code = flush_settles(s, u, &number);
    if (code == FASTQ_OK && ++s->empty_looks >= LOOKS_BEFORE_SOCKET) {
        s->empty_looks = 0;
        code = look_at_socket(s);
    }
    return code;
}

/// Begins the next run of a subscription. *is_begun false: none is there.
static int begin_run(struct session *s, struct subscription *u, bool *is_begun) {
    *is_begun = false;
    let_go_of_slots(s);
    if (u->first_waiting == NULL) {
        int code = drain(s);
        if (code != FASTQ_OK || u->first_waiting == NULL) {
            return code != FASTQ_OK ? code : look_around(s, u);
        }
    }
    // The position says what this program has taken, so it must pass a run that is begun: those of others before it are taken, too.
    struct run *run = u->first_waiting;
    int code = take_out(s, run);
    for (struct run *earlier = s->first_run; run->is_listed && earlier != run && code == FASTQ_OK; earlier = earlier->next_in_ring) {
        code = take_out(s, earlier);
    }
    if (code != FASTQ_OK) {
        return code;
    }
    u->first_waiting = run->next_waiting;
    if (u->first_waiting == NULL) {
        u->last_waiting = NULL;
    }
    run->next_waiting = NULL;
    publish_position(s);
    if (is_ended_by_broker(s)) {
        end_run(s, run); // The broker may have judged before our position moved, and given it back.
        return FASTQ_OK;
    }
    u->current = run;
    *is_begun = true;
    return FASTQ_OK;
}

// ---- deliveries

static int doubt(struct session *s, struct subscription *u, uint64_t number, uint64_t token) {
    if (!grow((void **)&u->doubted, &u->doubted_size, u->doubted_count, sizeof *u->doubted)) {
        return FASTQ_NO_MEMORY;
    }
    u->doubted[u->doubted_count++] = (struct doubted){.number = number, .token = token};
    return send_control(s, (struct control_record){.kind = KIND_DAMAGED, .subject = u->id, .value = number});
}

static uint64_t token_of_doubted(struct subscription *u, uint64_t number) {
    for (size_t i = 0; i < u->doubted_count; i++) {
        if (u->doubted[i].number == number) {
            uint64_t token = u->doubted[i].token;
            u->doubted[i] = u->doubted[--u->doubted_count];
            return token;
        }
    }
    return 0;
}

static void fill(fastq_message *message, const struct message_header *header, const unsigned char *record, uint32_t length) {
    message->time_us = (int64_t)header->number_or_time;
    message->properties = record + sizeof *header;
    message->property_bytes = header->property_bytes;
    message->body = message->properties + header->property_bytes;
    message->body_bytes = length - (uint32_t)sizeof *header - header->property_bytes;
    fastq_property encoding;
    if (header->property_bytes > 0 && find_encoding(message->properties, header->property_bytes, &encoding)) {
        message->flags |= FASTQ_ENCODED;
    }
}

/// The next delivery if one is there. Never waits, but for a slot's descriptor.
int next_delivery(struct session *s, struct subscription *u, fastq_message *message, bool *is_there) {
    *is_there = false;
    while (true) {
        if (u->current == NULL) {
            bool is_begun;
            int code = begin_run(s, u, &is_begun);
            if (code != FASTQ_OK || !is_begun) {
                return code;
            }
        }
        struct run *run = u->current;
        struct delivery_entry entry = run->entries[run->next];
        uint64_t index = (uint64_t)run->next++, tag = run->header.first_tag + index, token = run->header.first_token + index;
        *message = (fastq_message){
            .number = run->header.first_delivery + index, .tag = tag, .token = token, .delivery_count = entry.delivery_count,
            .flags = (entry.flags & ENTRY_REDELIVERED) != 0 ? FASTQ_REDELIVERED : 0,
        };
        unsigned char *copy = run->record;
        run->record = NULL; // From here on it is the delivery's.
        if (run->next == run->header.count) {
            u->current = NULL;
            end_run(s, run);
        }
        const unsigned char *record = copy;
        if (copy == NULL && (record = find_record(s, entry.slot, entry.offset, entry.length)) == NULL) {
            int code = await_slot(s, entry.slot);
            if (code != FASTQ_OK) {
                return code;
            }
            if ((record = find_record(s, entry.slot, entry.offset, entry.length)) == NULL) {
                return fail(FASTQ_RING_VIOLATION, 0, "A delivery lies outside slot %u", entry.slot);
            }
        }
        struct message_header header = {0};
        if (entry.length >= sizeof header) {
            memcpy(&header, record, sizeof header);
        }
        bool is_whole = entry.length >= sizeof header && header.length == entry.length && header.property_bytes <= entry.length - sizeof header;
        bool must_verify = copy == NULL && ((entry.flags & ENTRY_COLD) != 0 || s->verifies_all);
        if (!is_whole || (must_verify && !is_sound(record, entry.length, u->queue, tag))) {
            int code = doubt(s, u, message->number, token);
            if (code != FASTQ_OK) {
                return code;
            }
            continue;
        }
        if (token == 0) {
            message->token = token_of_doubted(u, message->number);
        }
        fill(message, &header, record, entry.length);
        int code = open_delivery(u, message->number, copy == NULL ? entry.slot : 0, copy);
        if (code != FASTQ_OK) {
            free(copy);
            return code;
        }
        message->life = u->life;
        *is_there = true;
        return FASTQ_OK;
    }
}
