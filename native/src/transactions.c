// Transactions: gathered in this program's memory, sent as one record, taken whole by the broker or not at all. To roll back is to forget.
//
//   records   | message | settle | settle | message | ...     each as it would stand in the ring, from a multiple of 8 on
//
// What it is to settle stays in hand until it is decided: a transaction that is refused has changed nothing.
#include <stdio.h>
#include <stdlib.h>

#include "session.h"

static struct transaction *find(struct session *s, fastq_transaction handle) {
    for (struct transaction *t = s->transactions; t != NULL; t = t->next) {
        if (t->handle == handle) {
            return t;
        }
    }
    return NULL;
}

static void unlink_transaction(struct transaction **first, const struct transaction *t) {
    for (struct transaction **link = first; *link != NULL; link = &(*link)->next) {
        if (*link == t) {
            *link = t->next;
            return;
        }
    }
}

static void free_transaction(struct transaction *t) {
    free(t->records.at);
    free(t->named);
    free(t);
}

void free_transactions(struct session *s) {
    struct transaction **lists[] = {&s->transactions, &s->sent};
    for (size_t i = 0; i < 2; i++) {
        while (*lists[i] != NULL) {
            struct transaction *t = *lists[i];
            *lists[i] = t->next;
            free_transaction(t);
        }
    }
}

/// Its deliveries are as they were before it named them.
static void give_up_names(struct session *s, const struct transaction *t) {
    for (size_t i = 0; i < t->named_count; i++) {
        const struct subscription *u = of_handle(s, t->named[i].subscription);
        if (u != NULL && is_open(u, t->named[i].number, t->named[i].life)) {
            slot_of(u, t->named[i].number)->is_named = false;
        }
    }
}

static void forget(struct session *s, struct transaction *t) {
    give_up_names(s, t);
    unlink_transaction(&s->transactions, t);
    free_transaction(t);
}

static int roll_back_late(struct session *s, struct transaction *t) {
    int64_t within = t->within_ms;
    forget(s, t);
    return fail(FASTQ_TIMED_OUT, 0, "The transaction was not committed within %lld ms, and is rolled back", (long long)within);
}

/// Through the door, and to a transaction whose time is not over. On an error nothing is to be left.
static int enter_transaction(fastq_connection connection, fastq_transaction handle, struct session **s, struct transaction **t) {
    int code = enter(connection, s);
    if (code != FASTQ_OK) {
        return code;
    }
    *t = find(*s, handle);
    if (*t == NULL) {
        return leave(connection, fail(FASTQ_IS_CLOSED, 0, "No transaction that may still be committed has this handle"));
    }
    return is_over((*t)->deadline) ? leave(connection, roll_back_late(*s, *t)) : FASTQ_OK;
}

// ---- what the broker says of it

int take_transaction_refused(struct session *s, const struct notice_record *notice, const unsigned char *text, size_t length) {
    char words[256];
    uint64_t last = notice->number + notice->count - 1;
    if (last <= s->refusals_taken || notice->count == 0) {
        return FASTQ_OK;
    }
    int written = snprintf(words, sizeof words, "Operation %u of the transaction: nothing of it has happened. %.*s", notice->subject, (int)(length < 160 ? length : 160), length > 0 ? (const char *)text : "");
    int code = add_refusal(s, last, notice->code, notice->value, (const unsigned char *)words, (size_t)written < sizeof words ? (size_t)written : sizeof words - 1);
    s->refusals_taken = last;
    for (struct transaction *t = s->sent; t != NULL; t = t->next) {
        if (t->sent == last) {
            give_up_names(s, t);
            unlink_transaction(&s->sent, t);
            free_transaction(t);
            break;
        }
    }
    return code;
}

void take_decided(struct session *s, uint64_t decided) {
    while (s->sent != NULL && s->sent->sent <= decided) {
        struct transaction *t = s->sent;
        s->sent = t->next;
        for (size_t i = 0; i < t->named_count; i++) {
            struct subscription *u = of_handle(s, t->named[i].subscription);
            if (u != NULL && is_open(u, t->named[i].number, t->named[i].life)) {
                close_delivery(u, t->named[i].number);
            }
        }
        free_transaction(t);
    }
}

// ---- gathering

static size_t most_bytes(const struct session *s) { return s->max_message_bytes < MAX_TRANSACTION_BYTES ? s->max_message_bytes : MAX_TRANSACTION_BYTES; }

/// Room for one more record, zeroed to its padding. It counts when it is written: a failure leaves all as it was.
static int next_room(struct session *s, struct transaction *t, size_t length, unsigned char **room) {
    size_t whole = align8(length);
    if (t->count == MAX_TRANSACTION_OPERATIONS) {
        return fail(FASTQ_LIMIT_REACHED, MAX_TRANSACTION_OPERATIONS, "A transaction has at most %d operations", MAX_TRANSACTION_OPERATIONS);
    }
    if (t->records.length + whole > most_bytes(s)) {
        return fail(FASTQ_TOO_LARGE, most_bytes(s), "The transaction has %zu bytes, at most %zu are taken", t->records.length + whole, most_bytes(s));
    }
    int code = buffer_reserve(&t->records, whole);
    if (code == FASTQ_OK) {
        *room = t->records.at + t->records.length;
        memset(*room + length, 0, whole - length);
        t->records.length += whole;
        t->count++;
    }
    return code;
}

static int add_message(struct session *s, struct transaction *t, fastq_queue queue, const void *body, size_t bytes, const void *properties, size_t property_bytes, uint32_t flags) {
    unsigned char *room;
    if (bytes > s->max_message_bytes) {
        return fail(FASTQ_TOO_LARGE, s->max_message_bytes, "The body has %zu bytes, the broker takes %llu", bytes, (unsigned long long)s->max_message_bytes);
    }
    if (property_bytes > MAX_PROPERTY_BYTES) {
        return fail(FASTQ_TOO_LARGE, MAX_PROPERTY_BYTES, "Properties and headers have %zu bytes, at most %d are taken", property_bytes, MAX_PROPERTY_BYTES);
    }
    struct outgoing message = {.body = body, .bytes = bytes, .properties = properties, .property_bytes = property_bytes};
    encode(s, queue, &message);
    struct message_header header = {.kind = KIND_MESSAGE, .flags = (uint8_t)flags, .property_bytes = (uint16_t)message.property_bytes, .queue = queue};
    header.length = (uint32_t)(sizeof header + message.property_bytes + message.bytes);
    int code = next_room(s, t, header.length, &room);
    if (code != FASTQ_OK) {
        return code;
    }
    if (message.property_bytes > 0) {
        memcpy(room + sizeof header, message.properties, message.property_bytes);
    }
    if (message.bytes > 0) {
        memcpy(room + sizeof header + message.property_bytes, message.body, message.bytes);
    }
    header.check = fastq_check_of(room + sizeof header, message.property_bytes + message.bytes);
    memcpy(room, &header, sizeof header);
    t->last_settle = SIZE_MAX;
    return FASTQ_OK;
}

/// The delivery behind those that the last record settles is settled in the same way: it counts on.
static bool joins(const struct transaction *t, const struct settle_record *wanted) {
    struct settle_record last;
    if (t->last_settle == SIZE_MAX) {
        return false;
    }
    memcpy(&last, t->records.at + t->last_settle, sizeof last);
    if (last.subscription != wanted->subscription || last.flags != wanted->flags || last.milliseconds != wanted->milliseconds
        || last.first_delivery + last.count != wanted->first_delivery || last.count >= MAX_SETTLE_RANGE) {
        return false;
    }
    last.count++;
    memcpy(t->records.at + t->last_settle, &last, sizeof last);
    return true;
}

static int add_settle(struct session *s, struct transaction *t, fastq_subscription subscription, const fastq_message *message, struct settle_record record, const unsigned char *words, size_t word_bytes) {
    const struct subscription *u = of_handle(s, subscription);
    unsigned char *room;
    if (u == NULL) {
        return fail_closed();
    }
    if (!is_open(u, message->number, message->life)) {
        return not_open(u, message->number);
    }
    if (slot_of(u, message->number)->is_named) {
        return fail(FASTQ_ALREADY_SETTLED, 0, "A transaction settles delivery %llu already", (unsigned long long)message->number);
    }
    if (!grow((void **)&t->named, &t->named_size, t->named_count, sizeof *t->named)) {
        return FASTQ_NO_MEMORY;
    }
    record.length = (uint32_t)(sizeof record + word_bytes);
    record.kind = KIND_SETTLE;
    record.subscription = u->id;
    record.first_delivery = message->number;
    record.count = 1;
    if (word_bytes > 0 || !joins(t, &record)) {
        int code = next_room(s, t, record.length, &room);
        if (code != FASTQ_OK) {
            return code;
        }
        memcpy(room, &record, sizeof record);
        if (word_bytes > 0) {
            memcpy(room + sizeof record, words, word_bytes);
        }
        t->last_settle = word_bytes > 0 ? SIZE_MAX : (size_t)(room - t->records.at);
    }
    slot_of(u, message->number)->is_named = true;
    t->named[t->named_count++] = (struct named){.subscription = subscription, .number = message->number, .life = message->life};
    return FASTQ_OK;
}

// ---- sending

static bool is_all_in_hand(struct session *s, const struct transaction *t, struct named *lost) {
    for (size_t i = 0; i < t->named_count; i++) {
        const struct subscription *u = of_handle(s, t->named[i].subscription);
        if (u == NULL || !is_open(u, t->named[i].number, t->named[i].life)) {
            *lost = t->named[i];
            return false;
        }
    }
    return true;
}

/// Its records get the next numbers, one each.
static void write_records(struct transaction *t, uint64_t number) {
    for (size_t at = 0; at < t->records.length; number++) {
        struct record_prefix prefix;
        memcpy(&prefix, t->records.at + at, sizeof prefix);
        memcpy(t->records.at + at + sizeof prefix, &number, sizeof number);
        at += align8(prefix.length);
    }
}

static int send_transaction(struct session *s, struct transaction *t, int level, uint64_t *number) {
    struct transaction_header header = {.length = (uint32_t)(sizeof header + t->records.length), .kind = KIND_TRANSACTION, .flags = (uint8_t)level, .count = t->count};
    struct named lost;
    int code = flush_all_settles(s);
    if (code != FASTQ_OK || (code = ensure_room(s, header.length)) != FASTQ_OK) {
        return code;
    }
    if (!is_all_in_hand(s, t, &lost)) { // Asked behind what may wait: a restarted broker may have given something to others.
        const struct subscription *u = of_handle(s, lost.subscription);
        return u == NULL ? fail_closed() : not_open(u, lost.number);
    }
    header.number = s->next_number;
    write_records(t, header.number);
    unsigned char *room = next_record(writing(s));
    memcpy(room, &header, sizeof header);
    memcpy(room + sizeof header, t->records.at, t->records.length);
    s->next_number += t->count - 1;
    *number = commit_numbered(s, header.length, level);
    return FASTQ_OK;
}

/// Whatever comes of it, it can be committed no more.
static int commit(struct session *s, struct transaction *t, int level, uint64_t *number) {
    *number = 0;
    int code = t->count == 0 ? FASTQ_OK : send_transaction(s, t, level == FASTQ_NONE ? FASTQ_ACCEPTED : level, number);
    if (code != FASTQ_OK || t->count == 0) {
        forget(s, t);
        return code;
    }
    unlink_transaction(&s->transactions, t);
    free(t->records.at);
    t->records = (struct buffer){0};
    t->sent = *number;
    t->next = NULL;
    struct transaction **last = &s->sent;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = t;
    return FASTQ_OK;
}

// ---- the API

int fastq_begin(fastq_connection connection, int64_t within_ms, fastq_transaction *transaction) {
    enum { DEFAULT_MILLISECONDS = 30000 };
    struct session *s;
    if (transaction == NULL || within_ms < 0) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_begin needs a time from 0 ms on and room for the transaction");
    }
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    struct transaction *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return leave(connection, fail_memory());
    }
    t->within_ms = within_ms == 0 ? DEFAULT_MILLISECONDS : within_ms;
    t->deadline = t->within_ms > INT64_MAX / 1000000 ? FOR_EVER : deadline_in(t->within_ms * 1000000);
    t->last_settle = SIZE_MAX;
    t->next = s->transactions;
    s->transactions = t;
    *transaction = t->handle = ++s->next_handle;
    return leave(connection, FASTQ_OK);
}

int fastq_add_publish(fastq_connection connection, fastq_transaction transaction, fastq_queue queue, const void *body, size_t bytes, const void *properties, size_t property_bytes, uint32_t flags) {
    struct session *s;
    struct transaction *t;
    if ((body == NULL && bytes > 0) || (properties == NULL && property_bytes > 0) || queue == 0 || (flags & ~(uint32_t)FASTQ_OPTIONAL) != 0) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_add_publish needs the number of a queue, a body or 0 bytes of it, properties or 0 bytes of them, and as flags FASTQ_OPTIONAL or 0");
    }
    int code = enter_transaction(connection, transaction, &s, &t);
    return code != FASTQ_OK ? code : leave(connection, add_message(s, t, queue, body, bytes, properties, property_bytes, flags));
}

int fastq_add_settle(fastq_connection connection, fastq_transaction transaction, fastq_subscription subscription, const fastq_message *message, int outcome, int64_t delay_ms, uint32_t flags) {
    struct session *s;
    struct transaction *t;
    bool is_release = outcome == FASTQ_RELEASE;
    if (message == NULL || outcome < FASTQ_ACCEPT || outcome > FASTQ_REJECT || delay_ms < 0 || (!is_release && (delay_ms > 0 || flags != 0)) || flags > FASTQ_UNCOUNTED) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_add_settle needs a message, an outcome, and a delay from 0 ms on that stands with a release alone");
    }
    int code = enter_transaction(connection, transaction, &s, &t);
    struct settle_record record = {.flags = flags_of(outcome, FASTQ_NONE, flags), .milliseconds = delay_ms};
    return code != FASTQ_OK ? code : leave(connection, add_settle(s, t, subscription, message, record, NULL, 0));
}

int fastq_add_reject(fastq_connection connection, fastq_transaction transaction, fastq_subscription subscription, const fastq_message *message, const char *reason, const char *details) {
    struct session *s;
    struct transaction *t;
    unsigned char words[MAX_WORDS_BYTES];
    struct field_writer fields = {.room = words, .size = sizeof words};
    if (message == NULL) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_add_reject needs a message");
    }
    int code = write_words(&fields, reason, details);
    if (code != FASTQ_OK || (code = enter_transaction(connection, transaction, &s, &t)) != FASTQ_OK) {
        return code;
    }
    struct settle_record record = {.flags = flags_of(FASTQ_REJECT, FASTQ_NONE, 0)};
    return leave(connection, add_settle(s, t, subscription, message, record, words, fields.length));
}

int fastq_commit_transaction(fastq_connection connection, fastq_transaction transaction, int level, uint64_t *number) {
    struct session *s;
    struct transaction *t;
    uint64_t sent;
    if (level < FASTQ_NONE || level > FASTQ_DURABLE) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "A level is 0 (none) to 3 (durable)");
    }
    int code = enter_transaction(connection, transaction, &s, &t);
    return code != FASTQ_OK ? code : leave(connection, commit(s, t, level, number != NULL ? number : &sent));
}

int fastq_rollback(fastq_connection connection, fastq_transaction transaction) {
    struct session *s;
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    struct transaction *t = find(s, transaction);
    if (t == NULL) {
        return leave(connection, fail(FASTQ_IS_CLOSED, 0, "No transaction that may still be committed has this handle"));
    }
    forget(s, t);
    return leave(connection, FASTQ_OK);
}
