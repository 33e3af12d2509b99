// Queues and single messages: attributes as lines of text, answers as JSON with the keys of `fastq queue show --json`.
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "session.h"

enum form { DURATION, NUMBER, SWITCH, STRING };

/// An attribute of a queue: its name in options, its field, its key in JSON.
struct attribute { const char *name; uint16_t tag; enum form form; const char *key; };

static const struct attribute attributes[] = {
    {"lease", FIELD_LEASE_MILLISECONDS, DURATION, "leaseSeconds"},
    {"delay", FIELD_DELAY_MILLISECONDS, DURATION, "delaySeconds"},
    {"ttl", FIELD_TTL_MILLISECONDS, DURATION, "ttlSeconds"},
    {"max-deliveries", FIELD_MAX_DELIVERIES, NUMBER, "maxDeliveries"},
    {"dead-letter", FIELD_DEAD_LETTER, STRING, "deadLetter"},
    {"max-length", FIELD_MAX_LENGTH, NUMBER, "maxLength"},
    {"max-bytes", FIELD_MAX_BYTES, NUMBER, "maxBytes"},
    {"max-message-size", FIELD_MAX_MESSAGE_SIZE, NUMBER, "maxMessageSize"},
    {"priority", FIELD_PRIORITY, SWITCH, "priority"},
    {"priority-share", FIELD_PRIORITY_SHARE, NUMBER, "priorityShare"},
    {"fifo", FIELD_FIFO, SWITCH, "fifo"},
    {"fair", FIELD_FAIR, SWITCH, "fair"},
    {"fair-weights", FIELD_FAIR_WEIGHTS, STRING, "fairWeights"},
    {"single-active", FIELD_SINGLE_ACTIVE, SWITCH, "singleActive"},
    {"dedup-window", FIELD_DEDUP_MILLISECONDS, DURATION, "dedupWindowSeconds"},
    {"dedup-by-group", FIELD_DEDUP_BY_GROUP, SWITCH, "dedupByGroup"},
    {"lz4", FIELD_LZ4_FROM_BYTES, NUMBER, "lz4FromBytes"},
    {"dead-letter-exchange", FIELD_DEAD_LETTER_EXCHANGE, STRING, "deadLetterExchange"},
    {"processed-window", FIELD_PROCESSED_MILLISECONDS, DURATION, "processedWindowSeconds"},
    {"expires", FIELD_EXPIRES_MILLISECONDS, DURATION, "expiresSeconds"},
    {"temporary", FIELD_TEMPORARY, SWITCH, "temporary"},
    {"require", FIELD_REQUIRE, STRING, NULL},
};

static const struct { uint16_t tag; const char *key; } counts[] = {
    {FIELD_READY, "ready"}, {FIELD_IN_FLIGHT, "inFlight"}, {FIELD_DELAYED, "delayed"}, {FIELD_DAMAGED, "damaged"}, {FIELD_DEAD_LETTERING, "deadLettering"},
    {FIELD_MESSAGES, "messages"}, {FIELD_BYTES, "bytes"}, {FIELD_CONSUMERS, "consumers"}, {FIELD_PUBLISHED, "published"}, {FIELD_ACCEPTED, "accepted"}, {FIELD_REJECTED, "rejected"},
    {FIELD_EXHAUSTED, "exhausted"}, {FIELD_EXPIRED, "expired"}, {FIELD_OVERFLOWED, "overflowed"}, {FIELD_DEAD_LETTERED, "deadLettered"}, {FIELD_REDELIVERED, "redelivered"},
    {FIELD_PURGED, "purged"}, {FIELD_MOVED, "moved"},
};

static const char *const overflows[] = {"reject", "drop-head", "dead-letter"};

// ---- attributes

/// A number with up to three digits behind its point, in thousandths; by hand, as the host's locale may want a comma. NULL: it is none.
static const char *read_permille(const char *text, uint64_t *permille) {
    uint64_t value = 0;
    int digits = 0, behind = -1;
    for (; (*text >= '0' && *text <= '9' && digits < 9 && behind < 3) || (*text == '.' && behind < 0 && digits > 0); text++) {
        if (*text == '.') {
            behind = 0;
            continue;
        }
        value = value * 10 + (uint64_t)(*text - '0');
        digits++;
        behind += behind >= 0;
    }
    for (int i = behind < 0 ? 0 : behind; i < 3; i++) {
        value *= 10;
    }
    *permille = value;
    return digits > 0 ? text : NULL;
}

/// FIRST,FACTOR,MAX: two durations, and between them a factor.
static int put_backoff(struct field_writer *fields, const struct option *option) {
    char text[96];
    uint64_t first, most, permille;
    const char *comma = option->value == NULL ? NULL : memchr(option->value, ',', option->value_bytes);
    if (comma != NULL && option->value_bytes < sizeof text) {
        memcpy(text, option->value, option->value_bytes);
        text[option->value_bytes] = 0;
        const char *end = read_permille(text + (comma - option->value) + 1, &permille);
        if (parse_duration(text, (size_t)(comma - option->value), &first) && end != NULL && *end == ',' && parse_duration(end + 1, strlen(end + 1), &most) && permille >= 1000 && permille <= 100000 && most >= first) {
            put_number(fields, FIELD_BACKOFF_FIRST_MILLISECONDS, first);
            put_number(fields, FIELD_BACKOFF_FACTOR_PERMILLE, permille);
            put_number(fields, FIELD_BACKOFF_MOST_MILLISECONDS, most);
            return FASTQ_OK;
        }
    }
    return fail(FASTQ_BAD_ARGUMENT, 0, "Option backoff is FIRST,FACTOR,MAX: 1s,2,5m with a factor of 1 to 100 and a MAX not below FIRST");
}

static int put_overflow(struct field_writer *fields, const struct option *option) {
    for (uint64_t i = 0; i < sizeof overflows / sizeof *overflows; i++) {
        if (option->value != NULL && strlen(overflows[i]) == option->value_bytes && memcmp(overflows[i], option->value, option->value_bytes) == 0) {
            put_number(fields, FIELD_OVERFLOW, i);
            return FASTQ_OK;
        }
    }
    return fail(FASTQ_BAD_ARGUMENT, 0, "Option overflow is reject, drop-head or dead-letter");
}

static int put_attribute(struct field_writer *fields, const struct attribute *attribute, const struct option *option) {
    uint64_t number = 0;
    bool is_on = false;
    int code = FASTQ_OK;
    switch (attribute->form) {
        case DURATION: code = option_milliseconds(option, &number); break;
        case NUMBER: code = option_number(option, 0, INT64_MAX, &number); break;
        case SWITCH: code = option_switch(option, &is_on); number = is_on; break;
        default: put_field(fields, attribute->tag, option->value != NULL ? option->value : "", option->value_bytes); return FASTQ_OK;
    }
    if (code == FASTQ_OK) {
        put_number(fields, attribute->tag, number);
    }
    return code;
}

static int put_attributes(struct field_writer *fields, const char *text) {
    struct flow flow = {.length = 0};
    for (struct option one; next_option(&text, &one);) {
        bool is_limit;
        int limit = put_limit(&flow, &one, false, &is_limit);
        if (limit != FASTQ_OK) {
            return limit;
        }
        if (is_limit) {
            continue;
        }
        const struct attribute *found = NULL;
        for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++) {
            found = option_is(&one, attributes[i].name) ? &attributes[i] : found;
        }
        int code = option_is(&one, "backoff") ? put_backoff(fields, &one) : option_is(&one, "overflow") ? put_overflow(fields, &one)
            : found != NULL ? put_attribute(fields, found, &one) : unknown_option(&one);
        if (code != FASTQ_OK) {
            return code;
        }
    }
    if (flow.length > 0) {
        put_field(fields, FIELD_FLOW, flow.bytes, flow.length);
    }
    fields->has_overflowed |= flow.has_overflowed;
    return FASTQ_OK;
}

// ---- JSON

static int write_backoff(struct buffer *to, const unsigned char *fields, size_t length) {
    uint64_t first = number_of(fields, length, FIELD_BACKOFF_FIRST_MILLISECONDS);
    if (first == 0) {
        return json_add(to, "\"backoff\":null");
    }
    int code = json_add(to, "\"backoff\":{");
    code = code != FASTQ_OK ? code : json_seconds(to, "firstSeconds", first);
    unsigned long long permille = number_of(fields, length, FIELD_BACKOFF_FACTOR_PERMILLE);
    code = code != FASTQ_OK ? code : permille % 1000 == 0 ? json_add(to, ",\"factor\":%llu,", permille / 1000) : json_add(to, ",\"factor\":%llu.%03llu,", permille / 1000, permille % 1000);
    code = code != FASTQ_OK ? code : json_seconds(to, "mostSeconds", number_of(fields, length, FIELD_BACKOFF_MOST_MILLISECONDS));
    return code != FASTQ_OK ? code : json_add(to, "}");
}

/// Names with commas between them, as an array.
static int write_names(struct buffer *to, const char *key, const unsigned char *names, size_t bytes) {
    int code = json_add(to, "\"%s\":[", key);
    for (size_t at = 0; at < bytes && code == FASTQ_OK;) {
        const unsigned char *comma = memchr(names + at, ',', bytes - at);
        size_t end = comma != NULL ? (size_t)(comma - names) : bytes;
        code = at > 0 ? json_add(to, ",") : FASTQ_OK;
        code = code != FASTQ_OK ? code : json_string(to, names + at, end - at);
        at = end + 1;
    }
    return code != FASTQ_OK ? code : json_add(to, "]");
}

static int write_attribute(struct buffer *to, const struct attribute *attribute, const unsigned char *fields, size_t length) {
    uint64_t number = number_of(fields, length, attribute->tag);
    switch (attribute->form) {
        case DURATION: return json_seconds(to, attribute->key, number);
        case NUMBER: return json_add(to, "\"%s\":%llu", attribute->key, (unsigned long long)number);
        case SWITCH: return json_add(to, "\"%s\":%s", attribute->key, number != 0 ? "true" : "false");
        default: return json_field(to, fields, length, attribute->key, attribute->tag);
    }
}

static int write_queue(struct buffer *to, const unsigned char *fields, size_t length) {
    static const char *const ways[] = {"", "in", "out", "in,out", "breaker", "in,breaker", "out,breaker", "in,out,breaker"};
    const unsigned char *required = NULL;
    size_t required_bytes = 0;
    (void)bytes_of(fields, length, FIELD_REQUIRE, &required, &required_bytes);
    const char *paused = ways[number_of(fields, length, FIELD_PAUSED) & 7];
    uint64_t overflow = number_of(fields, length, FIELD_OVERFLOW);
    int code = json_add(to, "{");
    code = code != FASTQ_OK ? code : json_field(to, fields, length, "name", FIELD_NAME);
    for (size_t i = 0; i < sizeof counts / sizeof *counts && code == FASTQ_OK; i++) {
        code = json_add(to, ",\"%s\":%llu", counts[i].key, (unsigned long long)number_of(fields, length, counts[i].tag));
    }
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes && code == FASTQ_OK; i++) {
        code = attributes[i].key == NULL ? FASTQ_OK : json_add(to, ",");
        code = code != FASTQ_OK || attributes[i].key == NULL ? code : write_attribute(to, &attributes[i], fields, length);
    }
    uint64_t dead = number_of(fields, length, FIELD_REJECTED) + number_of(fields, length, FIELD_EXHAUSTED) + number_of(fields, length, FIELD_EXPIRED) + number_of(fields, length, FIELD_OVERFLOWED);
    code = code != FASTQ_OK ? code : json_add(to, ",\"discarded\":%llu,\"overflow\":\"%s\",",
        (unsigned long long)(dead - number_of(fields, length, FIELD_DEAD_LETTERED) - number_of(fields, length, FIELD_DEAD_LETTERING)), overflow < 3 ? overflows[overflow] : overflows[0]);
    code = code != FASTQ_OK ? code : write_backoff(to, fields, length);
    code = code != FASTQ_OK ? code : json_add(to, ",");
    code = code != FASTQ_OK ? code : write_names(to, "paused", (const unsigned char *)paused, strlen(paused));
    code = code != FASTQ_OK ? code : json_add(to, ",");
    code = code != FASTQ_OK ? code : write_names(to, "require", required, required_bytes);
    code = code != FASTQ_OK ? code : json_add(to, ",");
    code = code != FASTQ_OK ? code : json_flow(to, fields, length);
    return code != FASTQ_OK ? code : json_add(to, "}");
}

static int give_queue(struct session *s, const char **json) {
    const unsigned char *fields;
    size_t position = 0, length;
    if (json == NULL || !next_answer(s, &position, &fields, &length)) {
        return FASTQ_OK;
    }
    s->text.length = 0;
    int code = write_queue(&s->text, fields, length);
    return code != FASTQ_OK ? code : give_json(s, json);
}

// ---- the API

int needs_name(const char *what) { return fail(FASTQ_BAD_ARGUMENT, 0, "%s needs the name of a queue and room for what it gives", what); }

/// A name that nobody else has.
static int make_name(char name[static 48]) {
    unsigned char random[16];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        return fail_system("getrandom", "the name of a queue");
    }
    char *at = stpcpy(name, "temporary.");
    for (size_t i = 0; i < sizeof random; i++) {
        at += sprintf(at, "%02x", random[i]);
    }
    return FASTQ_OK;
}

static int declare(struct session *s, const char *name, const char *text, const char **json) {
    unsigned char room[COMMAND_BYTES];
    char made[48];
    struct field_writer fields = {.room = room, .size = sizeof room};
    int code = name == NULL ? make_name(made) : FASTQ_OK;
    put_text(&fields, FIELD_NAME, name == NULL ? made : name);
    code = code != FASTQ_OK ? code : put_attributes(&fields, text);
    const unsigned char *said;
    size_t bytes;
    if (name == NULL && !bytes_of(room, fields.length, FIELD_TEMPORARY, &said, &bytes)) {
        put_number(&fields, FIELD_TEMPORARY, 1);
    }
    if (name == NULL && !bytes_of(room, fields.length, FIELD_DEAD_LETTER, &said, &bytes) && !bytes_of(room, fields.length, FIELD_DEAD_LETTER_EXCHANGE, &said, &bytes)) {
        put_text(&fields, FIELD_DEAD_LETTER, ""); // What nobody can look into is of no use.
    }
    code = code != FASTQ_OK ? code : ask(s, COMMAND_DECLARE_QUEUE, &fields);
    return code != FASTQ_OK ? code : give_queue(s, json);
}

int fastq_declare_queue(fastq_connection connection, const char *name, const char *attributes_text, const char **json) {
    struct session *s;
    if (name == NULL && json == NULL) {
        return needs_name("fastq_declare_queue"); // Nobody would know what it is called.
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, declare(s, name, attributes_text, json));
}

/// A command about a queue by its name: its number first, then what the caller has put behind it.
int ask_of(struct session *s, uint16_t kind, const char *name, struct field_writer *fields) {
    unsigned char room[COMMAND_BYTES];
    struct field_writer all = {.room = room, .size = sizeof room};
    uint32_t queue;
    int code = find_queue(s, name, &queue);
    if (code != FASTQ_OK) {
        return code;
    }
    put_number(&all, FIELD_QUEUE, queue);
    if (fields != NULL) {
        all.has_overflowed |= fields->has_overflowed || all.size - all.length < fields->length;
        if (!all.has_overflowed) {
            memcpy(room + all.length, fields->room, fields->length);
            all.length += fields->length;
        }
    }
    return ask(s, kind, &all);
}

static int change(struct session *s, const char *name, const char *text, const char **json) {
    unsigned char room[COMMAND_BYTES];
    struct field_writer fields = {.room = room, .size = sizeof room};
    int code = put_attributes(&fields, text);
    const unsigned char *answer;
    size_t position = 0, length;
    code = code != FASTQ_OK ? code : ask_of(s, COMMAND_CHANGE_QUEUE, name, &fields);
    if (code == FASTQ_OK && next_answer(s, &position, &answer, &length)) {
        code = note_lz4(s, (uint32_t)number_of(answer, length, FIELD_QUEUE), answer, length);
    }
    return code != FASTQ_OK ? code : give_queue(s, json);
}

int fastq_change_queue(fastq_connection connection, const char *name, const char *attributes_text, const char **json) {
    struct session *s;
    if (name == NULL) {
        return needs_name("fastq_change_queue");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, change(s, name, attributes_text, json));
}

int fastq_pause_queue(fastq_connection connection, const char *name, uint32_t ways) {
    struct session *s;
    unsigned char room[16];
    struct field_writer fields = {.room = room, .size = sizeof room};
    if (name == NULL || ways > 3) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_pause_queue needs the name of a queue, and ways from 0 to 3");
    }
    put_number(&fields, FIELD_PAUSED, ways);
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, ask_of(s, COMMAND_PAUSE_QUEUE, name, &fields));
}

int fastq_show_queue(fastq_connection connection, const char *name, const char **json) {
    struct session *s;
    if (name == NULL || json == NULL) {
        return needs_name("fastq_show_queue");
    }
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    uint32_t queue;
    code = find_queue(s, name, &queue);
    return leave(connection, code != FASTQ_OK ? code : give_queue(s, json));
}

int fastq_list_queues(fastq_connection connection, const char **json) {
    struct session *s;
    if (json == NULL) {
        return needs_name("fastq_list_queues");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, give_list(s, COMMAND_LIST_QUEUES, NULL, write_queue, json));
}

static int write_consumer(struct buffer *to, const unsigned char *fields, size_t length) {
    const unsigned char *owner = (const unsigned char *)"";
    size_t owner_bytes = 0;
    bytes_of(fields, length, FIELD_OWNER, &owner, &owner_bytes); // Not there while its client is away.
    int code = json_add(to, "{\"subscription\":%llu,\"owner\":", (unsigned long long)number_of(fields, length, FIELD_SUBSCRIPTION));
    code = code != FASTQ_OK ? code : json_string(to, owner, owner_bytes);
    return code != FASTQ_OK ? code : json_add(to, ",\"priority\":%llu,\"exclusive\":%s,\"paused\":%s,\"inFlight\":%llu,\"credit\":%llu}",
        (unsigned long long)number_of(fields, length, FIELD_CONSUMER_PRIORITY), number_of(fields, length, FIELD_EXCLUSIVE) == 1 ? "true" : "false",
        number_of(fields, length, FIELD_PAUSED) == 1 ? "true" : "false", (unsigned long long)number_of(fields, length, FIELD_IN_FLIGHT),
        (unsigned long long)number_of(fields, length, FIELD_CREDIT_MESSAGES));
}

int fastq_list_consumers(fastq_connection connection, const char *name, const char **json) {
    struct session *s;
    if (name == NULL || json == NULL) {
        return needs_name("fastq_list_consumers");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, give_list(s, COMMAND_LIST_SUBSCRIPTIONS, name, write_consumer, json));
}

int fastq_pause_consumer(fastq_connection connection, const char *name, uint32_t subscription, int is_paused) {
    struct session *s;
    unsigned char room[32];
    struct field_writer fields = {.room = room, .size = sizeof room};
    if (name == NULL || subscription == 0) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_pause_consumer needs the name of a queue, and the number of a subscription as fastq_list_consumers shows it");
    }
    put_number(&fields, FIELD_SUBSCRIPTION, subscription);
    put_number(&fields, FIELD_PAUSED, is_paused != 0);
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, ask_of(s, COMMAND_PAUSE_QUEUE, name, &fields));
}

static int show_statistics(struct session *s, const char **json) {
    struct field_writer none = {0};
    const unsigned char *fields, *part;
    size_t position = 0, length, bytes;
    int code = ask(s, COMMAND_STATISTICS, &none);
    s->text.length = 0;
    while (code == FASTQ_OK && next_answer(s, &position, &fields, &length)) {
        code = bytes_of(fields, length, FIELD_JSON, &part, &bytes) ? buffer_add(&s->text, part, bytes) : FASTQ_OK;
    }
    return code != FASTQ_OK ? code : give_json(s, json);
}

int fastq_show_statistics(fastq_connection connection, const char **json) {
    struct session *s;
    if (json == NULL) {
        return needs_name("fastq_show_statistics");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, show_statistics(s, json));
}

int fastq_delete_queue(fastq_connection connection, const char *name) {
    struct session *s;
    if (name == NULL) {
        return needs_name("fastq_delete_queue");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, ask_of(s, COMMAND_DELETE_QUEUE, name, NULL));
}

int fastq_purge_queue(fastq_connection connection, const char *name, uint64_t *purged) {
    struct session *s;
    if (name == NULL) {
        return needs_name("fastq_purge_queue");
    }
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    const unsigned char *fields;
    size_t position = 0, length;
    code = ask_of(s, COMMAND_PURGE_QUEUE, name, NULL);
    if (code == FASTQ_OK && purged != NULL && next_answer(s, &position, &fields, &length)) {
        *purged = number_of(fields, length, FIELD_PURGED);
    }
    return leave(connection, code);
}

// ---- single messages

static void fill_browsed(fastq_browsed *message, const unsigned char *fields, size_t length) {
    *message = (fastq_browsed){0};
    struct field_reader reader = {.at = fields, .left = length};
    while (next_field(&reader)) {
        switch (reader.tag) {
            case FIELD_TAG: message->tag = reader.number; break;
            case FIELD_STATE: message->state = (uint32_t)reader.number; break;
            case FIELD_DELIVERIES: message->delivery_count = (uint32_t)reader.number; break;
            case FIELD_BODY_BYTES: message->whole_body_bytes = reader.number; break;
            case FIELD_TIME_MICROS: message->time_us = (int64_t)reader.number; break;
            case FIELD_DUE_MICROS: message->due_us = (int64_t)reader.number; break;
            case FIELD_LEASE_LEFT_MILLISECONDS: message->lease_left_ms = (int64_t)reader.number; break;
            case FIELD_REASON: message->reason = (uint32_t)reader.number; break;
            case FIELD_RELEASE_REASON: message->reason = message->reason == 0 ? (uint32_t)reader.number : message->reason; break;
            case FIELD_STOPPED: message->stopped = (uint32_t)reader.number; break;
            case FIELD_BEHIND: message->behind = (uint32_t)reader.number; break;
            case FIELD_BODY: message->body = reader.value; message->body_bytes = (uint32_t)reader.bytes; break;
            case FIELD_PROPERTIES: message->properties = reader.value; message->property_bytes = (uint32_t)reader.bytes; break;
            case FIELD_OWNER: message->owner = (const char *)reader.value; message->owner_bytes = (uint32_t)reader.bytes; break;
            default: break;
        }
    }
}

/// One request: as many as the caller has room for, 32 at most. The last answer says where to go on.
static int browse(struct session *s, const char *queue, const char *filter, uint64_t *tag, fastq_browsed *messages, size_t most, size_t *count) {
    enum { MOST_AT_ONCE = 32 };
    unsigned char room[1024];
    struct field_writer wanted = {.room = room, .size = sizeof room};
    const unsigned char *fields, *next;
    size_t position = 0, length, next_length;
    put_number(&wanted, FIELD_TAG, *tag);
    put_number(&wanted, FIELD_MOST, most < MOST_AT_ONCE ? most : MOST_AT_ONCE);
    put_text(&wanted, FIELD_FILTER, filter != NULL ? filter : "");
    int code = ask_of(s, COMMAND_BROWSE_QUEUE, queue, &wanted);
    bool is_there = code == FASTQ_OK && next_answer(s, &position, &fields, &length);
    while (is_there && next_answer(s, &position, &next, &next_length)) {
        if (*count < most) {
            fill_browsed(&messages[(*count)++], fields, length);
        }
        fields = next;
        length = next_length;
    }
    if (is_there) {
        *tag = number_of(fields, length, FIELD_TAG);
    }
    return code;
}

int fastq_browse(fastq_connection connection, const char *queue, const char *filter, uint64_t *tag, fastq_browsed *messages, size_t most, size_t *count) {
    struct session *s;
    if (queue == NULL || tag == NULL || messages == NULL || most == 0 || count == NULL) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_browse needs the name of a queue, a place, room for messages and their count");
    }
    *count = 0;
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, browse(s, queue, filter, tag, messages, most, count));
}

int fastq_delete_message(fastq_connection connection, const char *queue, uint64_t tag) {
    struct session *s;
    unsigned char room[16];
    struct field_writer fields = {.room = room, .size = sizeof room};
    if (queue == NULL) {
        return needs_name("fastq_delete_message");
    }
    put_number(&fields, FIELD_TAG, tag);
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, ask_of(s, COMMAND_DELETE_MESSAGE, queue, &fields));
}

int fastq_change_message(fastq_connection connection, const char *queue, uint64_t tag, int priority, int64_t delay_ms) {
    struct session *s;
    unsigned char room[64];
    struct field_writer fields = {.room = room, .size = sizeof room};
    if (queue == NULL || priority < -1 || priority > UINT8_MAX || delay_ms < -1) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_change_message needs the name of a queue, a priority from 0 to 255 or -1, a delay from 0 ms on or -1");
    }
    put_number(&fields, FIELD_TAG, tag);
    if (priority >= 0) {
        put_number(&fields, FIELD_PRIORITY, (uint64_t)priority);
    }
    if (delay_ms >= 0) {
        put_number(&fields, FIELD_DELAY_MILLISECONDS, (uint64_t)delay_ms);
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, ask_of(s, COMMAND_CHANGE_MESSAGE, queue, &fields));
}

static int sweep(struct session *s, uint16_t kind, const char *queue, struct field_writer *wanted, const char **json) {
    static const char *const states[] = {"none", "running", "finished", "cancelled"};
    const unsigned char *fields;
    size_t position = 0, length;
    int code = ask_of(s, kind, queue, wanted);
    if (code != FASTQ_OK || json == NULL || !next_answer(s, &position, &fields, &length)) {
        return code;
    }
    s->text.length = 0;
    code = json_add(&s->text, "{\"state\":\"%s\",\"done\":%llu,\"failed\":%llu}", states[number_of(fields, length, FIELD_STATE) & 3],
        (unsigned long long)number_of(fields, length, FIELD_DONE), (unsigned long long)number_of(fields, length, FIELD_FAILED));
    return code != FASTQ_OK ? code : give_json(s, json);
}

int fastq_start_move(fastq_connection connection, const char *queue, const char *target, const char *filter, uint64_t rate, uint64_t tag, const char **json) {
    struct session *s;
    unsigned char room[1024];
    struct field_writer fields = {.room = room, .size = sizeof room};
    if (queue == NULL) {
        return needs_name("fastq_start_move");
    }
    put_number(&fields, FIELD_ACTION, 0);
    put_text(&fields, FIELD_TARGET, target != NULL ? target : "");
    put_text(&fields, FIELD_FILTER, filter != NULL ? filter : "");
    put_number(&fields, FIELD_RATE, rate);
    if (tag != 0) {
        put_number(&fields, FIELD_TAG, tag);
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, sweep(s, COMMAND_START_SWEEP, queue, &fields, json));
}

int fastq_show_move(fastq_connection connection, const char *queue, const char **json) {
    struct session *s;
    if (queue == NULL || json == NULL) {
        return needs_name("fastq_show_move");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, sweep(s, COMMAND_SHOW_SWEEP, queue, NULL, json));
}

int fastq_cancel_move(fastq_connection connection, const char *queue, const char **json) {
    struct session *s;
    if (queue == NULL) {
        return needs_name("fastq_cancel_move");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, sweep(s, COMMAND_CANCEL_SWEEP, queue, NULL, json));
}
