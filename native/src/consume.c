// A consumer's claim on a queue: which deliveries are in hand, and what is to be said of them.
//
//   delivery   17 18 19 20 21 22 23        open or not; those at the start that are settled are dropped
//   open        o  -  -  o  o  o  -
//   slot        3        3  4  4           the journal's slot that its bytes lie in, or a copy of them
#include <stdlib.h>

#include "session.h"

struct subscription *find_subscription(struct session *s, uint32_t id) {
    if (s->last_found != NULL && s->last_found->is_listed && s->last_found->id == id) {
        return s->last_found;
    }
    for (struct subscription *u = s->subscriptions; u != NULL; u = u->next) {
        if (u->is_listed && u->id == id) {
            s->last_found = u;
            return u;
        }
    }
    return NULL;
}

struct open_delivery *slot_of(const struct subscription *u, uint64_t number) { return &u->open[number & (u->open_size - 1)]; }

static int grow_open(struct subscription *u, uint64_t needed) {
    uint64_t size = u->open_size == 0 ? 2048 : u->open_size;
    while (size < needed * 2) {
        size *= 2;
    }
    struct open_delivery *open = calloc(size, sizeof *open);
    if (open == NULL) {
        return fail_memory();
    }
    for (uint64_t number = u->first_kept; number < u->next_delivery; number++) {
        open[number & (size - 1)] = *slot_of(u, number);
    }
    free(u->open);
    u->open = open;
    u->open_size = size;
    return FASTQ_OK;
}

/// A delivery is handed out; the copy, if there is one, is the subscription's from now on.
int open_delivery(struct subscription *u, uint64_t number, uint32_t slot, unsigned char *copy) {
    if (u->in_hand == 0 && u->first_kept == u->next_delivery) {
        u->first_kept = u->next_delivery = number > u->next_delivery ? number : u->next_delivery;
    }
    uint64_t first = number < u->first_kept ? number : u->first_kept, end = number < u->next_delivery ? u->next_delivery : number + 1;
    if (end - first > MAX_CREDIT * (uint64_t)4) {
        return fail(FASTQ_RING_VIOLATION, 0, "The broker's delivery numbers leap");
    }
    if (end - first > u->open_size) {
        int code = grow_open(u, end - first);
        if (code != FASTQ_OK) {
            return code;
        }
    }
    while (u->first_kept > number) { // A message whose bytes this side doubted comes again, under the number that it had.
        *slot_of(u, --u->first_kept) = (struct open_delivery){0};
    }
    for (; u->next_delivery < end; u->next_delivery++) { // What is passed over went elsewhere.
        *slot_of(u, u->next_delivery) = (struct open_delivery){0};
    }
    struct open_delivery *open = slot_of(u, number);
    u->in_hand += !open->is_open;
    free(open->copy);
    *open = (struct open_delivery){.copy = copy, .slot = slot, .is_open = true};
    return FASTQ_OK;
}

bool is_open(const struct subscription *u, uint64_t number, uint32_t life) {
    return life == u->life && number - u->first_kept < u->next_delivery - u->first_kept && slot_of(u, number)->is_open;
}

void close_delivery(struct subscription *u, uint64_t number) {
    struct open_delivery *open = slot_of(u, number);
    free(open->copy);
    *open = (struct open_delivery){0};
    u->in_hand--;
    while (u->first_kept < u->next_delivery && !slot_of(u, u->first_kept)->is_open) {
        u->first_kept++;
    }
}

bool reads_slot(const struct subscription *u, uint32_t slot) {
    for (uint64_t number = u->first_kept; number < u->next_delivery; number++) {
        if (slot_of(u, number)->is_open && slot_of(u, number)->slot == slot) {
            return true;
        }
    }
    return false;
}

/// The broker knows this subscription no more, or anew: what was in hand is lost to others.
void restart_subscription(struct subscription *u, uint32_t id, uint64_t next_delivery) {
    for (uint64_t i = 0; i < u->open_size; i++) {
        free(u->open[i].copy);
        u->open[i] = (struct open_delivery){0};
    }
    u->id = id;
    u->life++;
    u->first_kept = u->next_delivery = next_delivery;
    u->settle_count = 0;
    u->in_hand = 0;
    u->doubted_count = 0;
}

/// No more comes, and what is in hand is not ours any more: its bytes may be gone.
void end_subscription(struct session *s, struct subscription *u, int code) {
    give_up_runs(s, u);
    u->is_listed = false;
    u->ended_code = code;
    restart_subscription(u, u->id, u->next_delivery);
}

void begin_subscription(struct session *s, const unsigned char *answer, size_t length) {
    struct subscription *u = s->subscribing;
    restart_subscription(u, (uint32_t)number_of(answer, length, FIELD_SUBSCRIPTION), number_of(answer, length, FIELD_FIRST_DELIVERY));
    u->lease_ms = number_of(answer, length, FIELD_LEASE_MILLISECONDS);
    u->is_listed = true;
    u->next = s->subscriptions;
    s->subscriptions = u;
    s->subscribing = NULL;
}

size_t write_subscribe(const struct subscription *u, unsigned char *room, size_t size) {
    struct field_writer fields = {.room = room, .size = size};
    put_number(&fields, FIELD_QUEUE, u->queue);
    put_number(&fields, FIELD_LEASE_MILLISECONDS, u->lease_ms);
    put_number(&fields, FIELD_CREDIT_MESSAGES, u->credit);
    put_number(&fields, FIELD_CREDIT_BYTES, u->credit_bytes);
    put_number(&fields, FIELD_CONSUMER_PRIORITY, u->priority);
    put_number(&fields, FIELD_EXCLUSIVE, u->is_exclusive);
    return fields.length;
}

/// Always of the same length.
size_t write_resume(const struct subscription *u, uint32_t id, unsigned char *room, size_t size) {
    struct field_writer fields = {.room = room, .size = size};
    put_number(&fields, FIELD_SUBSCRIPTION, id);
    put_number(&fields, FIELD_FIRST_DELIVERY, u->next_delivery);
    put_number(&fields, FIELD_CREDIT_MESSAGES, u->credit);
    put_number(&fields, FIELD_CREDIT_BYTES, u->credit_bytes);
    return fields.length;
}

// ---- settling

/// Sends what was gathered. *number: of the submission that carries it; the last one when there was nothing.
int flush_settles(struct session *s, struct subscription *u, uint64_t *number) {
    *number = s->next_number - 1;
    if (u->settle_count == 0) {
        return FASTQ_OK;
    }
    struct settle_record record = {
        .kind = KIND_SETTLE, .flags = u->settle_flags, .subscription = u->id, .first_delivery = u->settle_first, .count = u->settle_count, .milliseconds = u->settle_delay,
    };
    u->settle_count = 0;
    return send_settle(s, record, u->settle_level, NULL, 0, number);
}

int flush_all_settles(struct session *s) {
    uint64_t number;
    int code = FASTQ_OK;
    for (struct subscription *u = s->subscriptions; u != NULL && code == FASTQ_OK; u = u->next) {
        code = flush_settles(s, u, &number);
    }
    return code;
}

int not_open(const struct subscription *u, uint64_t number) {
    return u->ended_code != 0
        ? fail(u->ended_code, 0, "The subscription has ended; what was in hand is with others")
        : fail(FASTQ_ALREADY_SETTLED, 0, "Delivery %llu is not in hand", (unsigned long long)number);
}

uint8_t flags_of(int outcome, int level, uint32_t flags) { return (uint8_t)(level | outcome << OUTCOME_SHIFT | ((flags & FASTQ_UNCOUNTED) != 0 ? SETTLE_UNCOUNTED : 0)); }

/// Settles one delivery in hand, gathered with its neighbours.
static int settle(struct session *s, struct subscription *u, const fastq_message *message, int outcome, int level, int64_t delay_ms, uint32_t flags) {
    uint64_t number;
    if (!is_open(u, message->number, message->life)) {
        return not_open(u, message->number);
    }
    uint8_t record_flags = flags_of(outcome, level, flags);
    bool continues = u->settle_count > 0 && message->number == u->settle_first + u->settle_count && record_flags == u->settle_flags && delay_ms == u->settle_delay;
    if (!continues) {
        int code = flush_settles(s, u, &number);
        if (code != FASTQ_OK) {
            return code;
        }
        if (!is_open(u, message->number, message->life)) { // The flush may have waited, and found that a restarted broker gave this to others.
            return not_open(u, message->number);
        }
        u->settle_first = message->number;
        u->settle_flags = record_flags;
        u->settle_delay = delay_ms;
        u->settle_level = level;
    }
    close_delivery(u, message->number);
    return ++u->settle_count >= u->settle_batch ? flush_settles(s, u, &number) : FASTQ_OK;
}

/// Settles what of a range is in hand; a record for each part of it without a gap.
static int settle_range(struct session *s, struct subscription *u, uint64_t first, uint64_t count, int outcome, int level, uint32_t flags, bool *any) {
    uint32_t batch = u->settle_batch;
    int code = FASTQ_OK;
    *any = false;
    u->settle_batch = MAX_SETTLE_RANGE;
    for (uint64_t number = first; number < first + count && code == FASTQ_OK; number++) {
        fastq_message message = {.number = number, .life = u->life};
        if (is_open(u, number, u->life)) {
            *any = true;
            code = settle(s, u, &message, outcome, level, 0, flags);
        }
    }
    u->settle_batch = batch;
    return code;
}

/// Sends one record of its own for a delivery in hand, after what was gathered before.
static int settle_alone(struct session *s, struct subscription *u, const fastq_message *message, struct settle_record record, int level, const unsigned char *words, size_t word_bytes, uint64_t *number) {
    int code = flush_settles(s, u, number);
    if (code == FASTQ_OK) {
        code = ensure_room(s, sizeof record + word_bytes);
    }
    if (code != FASTQ_OK) {
        return code;
    }
    if (!is_open(u, message->number, message->life)) { // Asked behind what may wait.
        return not_open(u, message->number);
    }
    record.subscription = u->id;
    record.first_delivery = message->number;
    record.count = 1;
    if (record.kind == KIND_SETTLE) {
        close_delivery(u, message->number);
    }
    return send_settle(s, record, level, words, word_bytes, number);
}

// ---- the API

struct subscription *of_handle(struct session *s, fastq_subscription handle) {
    for (struct subscription *u = s->subscriptions; u != NULL; u = u->next) {
        if (u->handle == handle) {
            return u;
        }
    }
    return NULL;
}

/// Through the door, and to a subscription. On an error nothing is to be left.
static int enter_subscription(fastq_connection connection, fastq_subscription handle, struct session **s, struct subscription **u) {
    int code = enter(connection, s);
    if (code != FASTQ_OK) {
        return code;
    }
    *u = of_handle(*s, handle);
    return *u != NULL ? FASTQ_OK : leave(connection, fail_closed());
}

static int bad_settlement(void) { return fail(FASTQ_BAD_ARGUMENT, 0, "A settlement needs a message, an outcome, a level from 0 to 3, and a delay from 0 ms on that stands with a release alone"); }

static bool is_level(int level) { return level >= FASTQ_NONE && level <= FASTQ_DURABLE; }

static int read_options(const char *options, struct subscription *u) {
    uint64_t number;
    for (struct option one; next_option(&options, &one);) {
        int code;
        if (option_is(&one, "credit")) {
            code = option_number(&one, 1, MAX_CREDIT, &number);
            u->credit = (uint32_t)number;
        } else if (option_is(&one, "credit-bytes")) {
            code = option_number(&one, 1, INT64_MAX, &u->credit_bytes);
        } else if (option_is(&one, "lease")) {
            code = option_milliseconds(&one, &u->lease_ms);
        } else if (option_is(&one, "priority")) {
            code = option_number(&one, 0, UINT8_MAX, &number);
            u->priority = (uint32_t)number;
        } else if (option_is(&one, "batch")) {
            code = option_number(&one, 1, MAX_SETTLE_RANGE, &number);
            u->settle_batch = (uint32_t)number;
        } else if (option_is(&one, "exclusive")) {
            code = option_switch(&one, &u->is_exclusive);
        } else if (option_is(&one, "auto")) {
            code = option_switch(&one, &u->is_automatic);
        } else {
            code = unknown_option(&one);
        }
        if (code != FASTQ_OK) {
            return code;
        }
    }
    return FASTQ_OK;
}

static void free_subscription(struct session *s, struct subscription *u) {
    give_up_runs(s, u);
    restart_subscription(u, u->id, u->next_delivery);
    for (size_t i = s->resuming_count; i-- > 0;) {
        if (s->resuming[i].subscription == u) {
            s->resuming[i] = s->resuming[--s->resuming_count];
        }
    }
    if (s->last_found == u) {
        s->last_found = NULL;
    }
    free(u->open);
    free(u->doubted);
    free(u->kept);
    free(u);
}

static void unlink_subscription(struct session *s, const struct subscription *u) {
    for (struct subscription **link = &s->subscriptions; *link != NULL; link = &(*link)->next) {
        if (*link == u) {
            *link = u->next;
            return;
        }
    }
}

void free_subscriptions(struct session *s) {
    while (s->subscriptions != NULL) {
        struct subscription *u = s->subscriptions;
        s->subscriptions = u->next;
        free_subscription(s, u);
    }
}

int fastq_subscribe(fastq_connection connection, const char *queue, const char *options, fastq_subscription *subscription) {
    struct session *s;
    if (queue == NULL || subscription == NULL) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_subscribe needs the name of a queue and room for the subscription");
    }
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    struct subscription *u = calloc(1, sizeof *u);
    if (u == NULL) {
        return leave(connection, fail_memory());
    }
    *u = (struct subscription){.credit = 1000, .credit_bytes = 64 << 20, .settle_batch = 64};
    unsigned char room[128];
    if ((code = read_options(options, u)) == FASTQ_OK && (code = grow_open(u, 1)) == FASTQ_OK && (code = find_queue(s, queue, &u->queue)) == FASTQ_OK) {
        struct field_writer fields = {.room = room, .size = sizeof room, .length = write_subscribe(u, room, sizeof room)};
        s->subscribing = u;
        code = ask(s, COMMAND_SUBSCRIBE, &fields);
        s->subscribing = NULL;
    }
    if (code != FASTQ_OK) {
        unlink_subscription(s, u);
        free_subscription(s, u);
        return leave(connection, code);
    }
    *subscription = u->handle = ++s->next_handle;
    return leave(connection, code);
}

/// Ends it at the broker; the handle stays until it is freed.
int unsubscribe(struct session *s, struct subscription *u) {
    uint64_t number;
    bool any;
    int code = settle_range(s, u, u->first_kept, u->next_delivery - u->first_kept, FASTQ_RELEASE, FASTQ_NONE, FASTQ_UNCOUNTED, &any);
    code = code != FASTQ_OK ? code : flush_settles(s, u, &number);
    if (code != FASTQ_OK || !u->is_listed) {
        return code;
    }
    give_up_runs(s, u);
    unsigned char room[64];
    struct field_writer fields = {.room = room, .size = sizeof room};
    put_number(&fields, FIELD_SUBSCRIPTION, u->id);
    put_number(&fields, FIELD_FIRST_DELIVERY, u->next_delivery);
    u->is_closing = true;
    code = ask(s, COMMAND_UNSUBSCRIBE, &fields);
    return code == FASTQ_UNKNOWN_SUBSCRIPTION ? FASTQ_OK : code;
}

int fastq_unsubscribe(fastq_connection connection, fastq_subscription subscription) {
    struct session *s;
    struct subscription *u;
    int code = enter_subscription(connection, subscription, &s, &u);
    if (code != FASTQ_OK) {
        return code;
    }
    code = unsubscribe(s, u);
    if (code == FASTQ_DISCONNECTED) {
        u->is_closing = false;
        return leave(connection, code); // To be tried again.
    }
    unlink_subscription(s, u);
    free_subscription(s, u);
    return leave(connection, code);
}

int fastq_set_credit(fastq_connection connection, fastq_subscription subscription, uint32_t messages) {
    struct session *s;
    struct subscription *u;
    if (messages > MAX_CREDIT) {
        return fail(FASTQ_BAD_ARGUMENT, MAX_CREDIT, "A credit is at most %d messages", MAX_CREDIT);
    }
    int code = enter_subscription(connection, subscription, &s, &u);
    if (code != FASTQ_OK) {
        return code;
    }
    u->credit = messages;
    return leave(connection, send_control(s, (struct control_record){.kind = KIND_CREDIT, .subject = u->id, .count = messages, .value = u->credit_bytes}));
}

/// At most once: the records are copied and accepted before the caller sees them.
static int keep_and_accept(struct session *s, struct subscription *u, fastq_message *messages, size_t count) {
    size_t needed = 0, at = 0;
    for (size_t i = 0; i < count; i++) {
        needed += messages[i].property_bytes + messages[i].body_bytes;
    }
    if (needed > u->kept_size) {
        unsigned char *kept = realloc(u->kept, needed);
        if (kept == NULL) {
            return fail_memory();
        }
        u->kept = kept;
        u->kept_size = needed;
    }
    int code = FASTQ_OK;
    for (size_t i = 0; i < count && code == FASTQ_OK; i++) {
        fastq_message *message = &messages[i];
        size_t bytes = message->property_bytes + message->body_bytes;
        if (bytes > 0) {
            memcpy(u->kept + at, message->properties, bytes);
        }
        message->properties = u->kept + at;
        message->body = message->properties + message->property_bytes;
        at += bytes;
        code = settle(s, u, message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0);
    }
    uint64_t number;
    return code != FASTQ_OK ? code : flush_settles(s, u, &number);
}

static int receive(struct session *s, struct subscription *u, fastq_message *messages, size_t most, int64_t wait_ns, size_t *count) {
    int64_t deadline = deadline_in(wait_ns);
    while (true) {
        bool is_there = true;
        while (*count < most && is_there) {
            int code = next_delivery(s, u, &messages[*count], &is_there);
            if (code != FASTQ_OK) {
                return *count > 0 ? FASTQ_OK : code; // What is in hand is not to be lost over it; the next call meets it again.
            }
            *count += is_there;
        }
        if (*count > 0 || most == 0) {
            return FASTQ_OK;
        }
        if (u->ended_code != 0) {
            return fail(u->ended_code, 0, "The subscription has ended: its queue is gone, or the broker has ended it");
        }
        if (wait_ns == 0) {
            return FASTQ_OK;
        }
        bool news;
        int code = wait_for_news(s, deadline, &news);
        if (code != FASTQ_OK) {
            return code;
        }
        if (!news) {
            wait_ns = 0; // One last look.
        }
    }
}

int fastq_receive(fastq_connection connection, fastq_subscription subscription, fastq_message *messages, size_t most, int64_t wait_ns, size_t *count) {
    struct session *s;
    struct subscription *u;
    if (messages == NULL || count == NULL) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_receive needs room for messages and for their count");
    }
    *count = 0;
    int code = enter_subscription(connection, subscription, &s, &u);
    if (code != FASTQ_OK) {
        return code;
    }
    code = receive(s, u, messages, most, wait_ns, count);
    if (code == FASTQ_OK && u->is_automatic && *count > 0) {
        code = keep_and_accept(s, u, messages, *count);
    }
    return leave(connection, code);
}

int fastq_settle(fastq_connection connection, fastq_subscription subscription, const fastq_message *message, int outcome, int level, int64_t delay_ms, uint32_t flags, uint64_t *number) {
    struct session *s;
    struct subscription *u;
    bool is_release = outcome == FASTQ_RELEASE;
    if (message == NULL || outcome < FASTQ_ACCEPT || outcome > FASTQ_REJECT || !is_level(level) || delay_ms < 0 || (!is_release && (delay_ms > 0 || flags != 0)) || flags > FASTQ_UNCOUNTED) {
        return bad_settlement();
    }
    int code = enter_subscription(connection, subscription, &s, &u);
    if (code != FASTQ_OK) {
        return code;
    }
    code = settle(s, u, message, outcome, level, delay_ms, flags);
    return leave(connection, code != FASTQ_OK || number == NULL ? code : flush_settles(s, u, number));
}

int fastq_settle_many(fastq_connection connection, fastq_subscription subscription, const fastq_message *messages, size_t count, int outcome, int level, uint64_t *number) {
    struct session *s;
    struct subscription *u;
    if ((messages == NULL && count > 0) || outcome < FASTQ_ACCEPT || outcome > FASTQ_REJECT || !is_level(level)) {
        return bad_settlement();
    }
    int code = enter_subscription(connection, subscription, &s, &u), first = FASTQ_OK;
    if (code != FASTQ_OK) {
        return code;
    }
    uint32_t batch = u->settle_batch;
    u->settle_batch = MAX_SETTLE_RANGE; // One record for each range, however long.
    for (size_t i = 0; i < count && code == FASTQ_OK; i++) {
        code = settle(s, u, &messages[i], outcome, level, 0, 0);
        if (code == FASTQ_ALREADY_SETTLED) {
            first = code;
            code = FASTQ_OK;
        }
    }
    u->settle_batch = batch;
    uint64_t last;
    if (code == FASTQ_OK && (number != NULL || u->settle_count >= batch)) {
        code = flush_settles(s, u, number != NULL ? number : &last);
    }
    return leave(connection, code != FASTQ_OK ? code : first);
}

int fastq_settle_range(fastq_connection connection, fastq_subscription subscription, uint64_t first, uint64_t count, uint32_t life, int outcome, int level, uint64_t *number) {
    struct session *s;
    struct subscription *u;
    if (count == 0 || count > MAX_SETTLE_RANGE || first > UINT64_MAX - count || outcome < FASTQ_ACCEPT || outcome > FASTQ_REJECT || !is_level(level)) {
        return bad_settlement();
    }
    int code = enter_subscription(connection, subscription, &s, &u);
    if (code != FASTQ_OK) {
        return code;
    }
    bool any = false;
    uint64_t last;
    code = life == u->life ? settle_range(s, u, first, count, outcome, level, 0, &any) : FASTQ_OK;
    if (code == FASTQ_OK && !any) {
        code = not_open(u, first);
    } else if (code == FASTQ_OK) {
        code = flush_settles(s, u, number != NULL ? number : &last);
    }
    return leave(connection, code);
}

int write_words(struct field_writer *to, const char *reason, const char *details) {
    if (reason != NULL && strlen(reason) > MAX_REASON_BYTES) {
        return fail(FASTQ_BAD_ARGUMENT, MAX_REASON_BYTES, "The reason of a reject has %zu bytes, at most %d are taken", strlen(reason), MAX_REASON_BYTES);
    }
    if (reason != NULL && *reason != 0) {
        put_text(to, FIELD_TEXT, reason);
    }
    if (details != NULL && *details != 0) {
        put_text(to, FIELD_DETAILS, details);
    }
    if (to->has_overflowed) {
        return fail(FASTQ_BAD_ARGUMENT, MAX_WORDS_BYTES, "Reason and details of a reject do not fit in %d bytes", MAX_WORDS_BYTES);
    }
    return FASTQ_OK;
}

int fastq_reject(fastq_connection connection, fastq_subscription subscription, const fastq_message *message, const char *reason, const char *details, int level, uint64_t *number) {
    struct session *s;
    struct subscription *u;
    unsigned char words[MAX_WORDS_BYTES];
    struct field_writer fields = {.room = words, .size = sizeof words};
    if (message == NULL || !is_level(level)) {
        return bad_settlement();
    }
    int code = write_words(&fields, reason, details);
    if (code != FASTQ_OK || (code = enter_subscription(connection, subscription, &s, &u)) != FASTQ_OK) {
        return code;
    }
    uint64_t sent;
    struct settle_record record = {.kind = KIND_SETTLE, .flags = flags_of(FASTQ_REJECT, level, 0)};
    return leave(connection, settle_alone(s, u, message, record, level, words, fields.length, number != NULL ? number : &sent));
}

int fastq_extend(fastq_connection connection, fastq_subscription subscription, const fastq_message *message, int64_t lease_ms, int level, uint64_t *number) {
    struct session *s;
    struct subscription *u;
    if (message == NULL || !is_level(level) || lease_ms <= 0) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_extend needs a message, a lease above 0 ms and a level from 0 to 3");
    }
    int code = enter_subscription(connection, subscription, &s, &u);
    if (code != FASTQ_OK) {
        return code;
    }
    uint64_t sent;
    struct settle_record record = {.kind = KIND_EXTEND, .flags = (uint8_t)level, .milliseconds = lease_ms};
    return leave(connection, settle_alone(s, u, message, record, level, NULL, 0, number != NULL ? number : &sent));
}

int fastq_holds(fastq_connection connection, fastq_subscription subscription, const fastq_message *message) {
    struct session *s;
    struct subscription *u;
    if (message == NULL) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_holds needs a message");
    }
    int code = enter_subscription(connection, subscription, &s, &u);
    return code != FASTQ_OK ? code : leave(connection, is_open(u, message->number, message->life) ? FASTQ_OK : not_open(u, message->number));
}

/// What the sender says of the body, judged, so that memory may be taken for it: a byte of a block stands for at most 255 of the body.
int fastq_body_size(const fastq_message *message, size_t *bytes) {
    fastq_property encoding;
    if (message == NULL || bytes == NULL) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_body_size needs a message and room for the size");
    }
    if ((message->flags & FASTQ_ENCODED) == 0 || !find_encoding(message->properties, message->property_bytes, &encoding)) {
        *bytes = message->body_bytes;
        return FASTQ_OK;
    }
    uint32_t said = 0;
    if (encoding.value_bytes != sizeof said + 3 || memcmp(encoding.value + sizeof said, "lz4", 3) != 0) {
        return fail(FASTQ_UNREADABLE, 0, "The body of the message at place %llu is encoded in a way that this library does not know: use a newer one", (unsigned long long)message->tag);
    }
    memcpy(&said, encoding.value, sizeof said);
    if (said > MAX_MESSAGE_BYTES || said > (uint64_t)message->body_bytes * 255) {
        return fail(FASTQ_UNREADABLE, 0, "The body of the message at place %llu is said to be lz4 of %u bytes: %u bytes cannot be that", (unsigned long long)message->tag, said, message->body_bytes);
    }
    *bytes = said;
    return FASTQ_OK;
}

int fastq_copy_body(const fastq_message *message, void *room, size_t room_bytes) {
    size_t bytes;
    int code = fastq_body_size(message, &bytes);
    if (code != FASTQ_OK) {
        return code;
    }
    if (room_bytes < bytes || (room == NULL && bytes > 0)) {
        return fail(FASTQ_BAD_ARGUMENT, bytes, "The body has %zu bytes, the room for it %zu", bytes, room_bytes);
    }
    if ((message->flags & FASTQ_ENCODED) == 0) {
        if (bytes > 0) {
            memcpy(room, message->body, bytes);
        }
        return FASTQ_OK;
    }
    return fastq_decode_lz4(message->body, message->body_bytes, room, bytes)
        ? FASTQ_OK
        : fail(FASTQ_UNREADABLE, 0, "The body of the message at place %llu is said to be lz4 of %zu bytes, and is not", (unsigned long long)message->tag, bytes);
}

int fastq_copy_messages(const fastq_message *messages, size_t count, void *room, size_t room_bytes, size_t *length) {
    if ((messages == NULL && count > 0) || (room == NULL && room_bytes > 0) || length == NULL) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_copy_messages needs messages, room and a length");
    }
    *length = 0;
    for (size_t i = 0; i < count; i++) {
        *length += messages[i].property_bytes + messages[i].body_bytes;
    }
    if (*length > room_bytes) {
        return fail(FASTQ_TOO_LARGE, *length, "The messages have %zu bytes, the room for them %zu", *length, room_bytes);
    }
    unsigned char *at = room;
    for (size_t i = 0; i < count; i++) {
        size_t bytes = messages[i].property_bytes + messages[i].body_bytes; // They lie one behind the other.
        if (bytes > 0) {
            memcpy(at, messages[i].properties, bytes);
            at += bytes;
        }
    }
    return FASTQ_OK;
}
