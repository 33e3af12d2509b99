// Publishing and its confirms: the API. What is sent stands in send.c.
#include "session.h"

static bool is_level(int level) { return level >= FASTQ_NONE && level <= FASTQ_DURABLE; }

/// Of a message: perhaps with flags of enum fastq_publish_flags, which are those of the record, too.
static bool is_sent_level(int level) { return is_level(level & ~(FASTQ_OPTIONAL | FASTQ_COUNTED)); }

static int bad_level(void) { return fail(FASTQ_BAD_ARGUMENT, 0, "A level is 0 (none) to 3 (durable)"); }

static int bad_message(void) { return fail(FASTQ_BAD_ARGUMENT, 0, "A message needs the number of its queue, a body or 0 bytes of it, properties or 0 bytes of them, and a level from 0 to 3, perhaps with flags of enum fastq_publish_flags"); }

int fastq_open_queue(fastq_connection connection, const char *name, fastq_queue *queue) {
    struct session *s;
    if (name == NULL || queue == NULL) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_open_queue needs a name and room for the queue's number");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, find_queue(s, name, queue));
}

/// Header and properties of a message at the ring's head; where its body goes.
static int begin_message(struct session *s, fastq_queue queue, size_t body_bytes, const void *properties, size_t property_bytes, unsigned char **body) {
    size_t length = sizeof(struct message_header) + property_bytes + body_bytes;
    struct pair *pair = writing(s);
    bool fits = body_bytes <= s->max_message_bytes && property_bytes <= MAX_PROPERTY_BYTES && has_mark_room(pair)
        && room_in(pair) >= (int64_t)(align8(length) + sizeof(struct control_record));
    if (!fits) {
        int code = make_room(s, length, body_bytes, property_bytes);
        if (code != FASTQ_OK) {
            return code;
        }
        pair = writing(s);
    }
    struct message_header header = {.length = (uint32_t)length, .kind = KIND_MESSAGE, .property_bytes = (uint16_t)property_bytes, .number_or_time = s->next_number, .queue = queue};
    unsigned char *record = next_record(pair);
    memcpy(record, &header, sizeof header);
    if (property_bytes > 0) {
        memcpy(record + sizeof header, properties, property_bytes);
    }
    *body = record + sizeof header + property_bytes;
    return FASTQ_OK;
}

static uint64_t commit_message(struct session *s, int level) {
    struct message_header *header = (struct message_header *)(void *)next_record(writing(s));
    header->flags = (uint8_t)level;
    header->check = fastq_check_of(header + 1, header->length - sizeof *header);
    return commit_numbered(s, header->length, level & CONFIRM_MASK);
}

int note_lz4(struct session *s, uint32_t queue, const unsigned char *fields, size_t length) {
    uint64_t from = number_of(fields, length, FIELD_LZ4_FROM_BYTES);
    for (size_t i = 0; i < s->lz4_count; i++) {
        if (s->lz4[i].queue == queue) {
            s->lz4[i].from = from;
            return FASTQ_OK;
        }
    }
    if (from == 0) {
        return FASTQ_OK;
    }
    if (!grow((void **)&s->lz4, &s->lz4_size, s->lz4_count, sizeof *s->lz4)) {
        return FASTQ_NO_MEMORY;
    }
    s->lz4[s->lz4_count++] = (struct lz4_queue){.queue = queue, .from = from};
    return FASTQ_OK;
}

static bool wants_lz4(const struct session *s, fastq_queue queue, const struct outgoing *message) {
    fastq_property encoding;
    for (size_t i = 0; i < s->lz4_count; i++) {
        if (s->lz4[i].queue == queue) {
            return s->lz4[i].from != 0 && message->bytes >= s->lz4[i].from && message->bytes <= s->max_message_bytes && !find_encoding(message->properties, message->property_bytes, &encoding);
        }
    }
    return false;
}

void encode(struct session *s, fastq_queue queue, struct outgoing *message) {
    // Its name, and the length of the body before, stand first of all properties.
    unsigned char head[] = {FASTQ_BODY_ENCODING, FASTQ_BYTES, 7, 0, 0, 0, 0, 0, 'l', 'z', '4'};
    if (s->lz4_count == 0 || message->property_bytes > MAX_PROPERTY_BYTES - sizeof head || !wants_lz4(s, queue, message) || message->bytes <= sizeof head) {
        return;
    }
    s->encoded.length = 0;
    if (buffer_reserve(&s->encoded, sizeof head + message->property_bytes + message->bytes) != FASTQ_OK) {
        return; // It goes as it is.
    }
    uint32_t bytes = (uint32_t)message->bytes;
    unsigned char *room = s->encoded.at;
    memcpy(head + 4, &bytes, sizeof bytes);
    memcpy(room, head, sizeof head);
    if (message->property_bytes > 0) {
        memcpy(room + sizeof head, message->properties, message->property_bytes);
    }
    unsigned char *block = room + sizeof head + message->property_bytes;
    size_t most = message->bytes - sizeof head - 1, length = fastq_encode_lz4(message->body, message->bytes, block, most); // More, and it would not be smaller.
    if (length > 0) {
        *message = (struct outgoing){.body = block, .bytes = length, .properties = room, .property_bytes = sizeof head + message->property_bytes};
    }
}

int publish(struct session *s, fastq_queue queue, const void *body, size_t bytes, const void *properties, size_t property_bytes, int level, uint64_t *number) {
    unsigned char *into;
    struct outgoing message = {.body = body, .bytes = bytes, .properties = properties, .property_bytes = property_bytes};
    encode(s, queue, &message);
    int code = begin_message(s, queue, message.bytes, message.properties, message.property_bytes, &into);
    if (code != FASTQ_OK) {
        return code;
    }
    if (message.bytes > 0) {
        memcpy(into, message.body, message.bytes);
    }
    *number = commit_message(s, level);
    return FASTQ_OK;
}

int fastq_publish(fastq_connection connection, fastq_queue queue, const void *body, size_t bytes, const void *properties, size_t property_bytes, int level, uint64_t *number) {
    struct session *s;
    if ((body == NULL && bytes > 0) || (properties == NULL && property_bytes > 0) || queue == 0 || !is_sent_level(level)) {
        return bad_message();
    }
    int code = enter(connection, &s);
    uint64_t sent = 0;
    if (code != FASTQ_OK || (code = leave(connection, publish(s, queue, body, bytes, properties, property_bytes, level, &sent))) != FASTQ_OK) {
        return code;
    }
    if (number != NULL) {
        *number = sent;
    }
    return FASTQ_OK;
}

int fastq_publish_batch(fastq_connection connection, fastq_queue queue, const void *bytes, const uint32_t *body_bytes, const uint32_t *property_bytes, size_t count, int level, uint64_t *number) {
    struct session *s;
    if (((bytes == NULL || body_bytes == NULL) && count > 0) || queue == 0 || !is_sent_level(level)) {
        return bad_message();
    }
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    const unsigned char *at = bytes;
    uint64_t last = 0;
    for (size_t i = 0; i < count && code == FASTQ_OK; i++) {
        uint32_t properties = property_bytes != NULL ? property_bytes[i] : 0;
        code = publish(s, queue, at + properties, body_bytes[i], at, properties, level, &last);
        at += (size_t)properties + body_bytes[i];
    }
    if (number != NULL) {
        *number = last;
    }
    return leave(connection, code);
}

int fastq_reserve(fastq_connection connection, fastq_queue queue, size_t bytes, const void *properties, size_t property_bytes, void **body) {
    struct session *s;
    if ((properties == NULL && property_bytes > 0) || queue == 0 || body == NULL) {
        return bad_message();
    }
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    unsigned char *into;
    code = begin_message(s, queue, bytes, properties, property_bytes, &into);
    if (code == FASTQ_OK) {
        s->reserved_length = sizeof(struct message_header) + property_bytes + bytes;
        *body = into;
    }
    return leave(connection, code);
}

int fastq_commit(fastq_connection connection, int level, uint64_t *number) {
    struct session *s;
    if (!is_sent_level(level)) {
        return bad_level();
    }
    size_t reserved;
    int code = enter_with_reserved(connection, &s, &reserved);
    if (code != FASTQ_OK) {
        return code;
    }
    if (reserved == 0) {
        return leave(connection, fail(FASTQ_BAD_ARGUMENT, 0, "Nothing is reserved: fastq_reserve comes before fastq_commit, and no other call between them"));
    }
    uint64_t sent = commit_message(s, level);
    if (number != NULL) {
        *number = sent;
    }
    return leave(connection, FASTQ_OK);
}

int fastq_confirmed(fastq_connection connection, int level, uint64_t *number) {
    struct session *s;
    if (!is_level(level) || number == NULL) {
        return bad_level();
    }
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    code = confirmed(s, level, number);
    return leave(connection, code);
}

static int told(const fastq_refusal *refusal) { return fail(refusal->code, refusal->value, "%s", refusal->text); }

static bool is_refused(const struct session *s, uint64_t number) {
    for (size_t i = 0; i < s->refused_count && s->refused[i].number <= number; i++) {
        if (s->refused[i].number == number) {
            return true;
        }
    }
    return false;
}

static int wait_for(struct session *s, uint64_t number, int level, int64_t wait_ns) {
    int64_t deadline = deadline_in(wait_ns);
    uint64_t reached;
    int code = flush_all_settles(s);
    if (code != FASTQ_OK) {
        return code;
    }
    while ((code = confirmed(s, level, &reached)) == FASTQ_OK && reached < number && !is_refused(s, number)) {
        bool news;
        code = wait_for_news(s, deadline, &news);
        if (code != FASTQ_OK) {
            return code;
        }
        if (!news) {
            return fail(FASTQ_TIMED_OUT, 0, "Submission %llu was not confirmed in time", (unsigned long long)number);
        }
    }
    fastq_refusal refusal;
    return code == FASTQ_OK && take_refusal(s, number, &refusal) ? told(&refusal) : code;
}

int fastq_wait(fastq_connection connection, uint64_t number, int level, int64_t wait_ns) {
    struct session *s;
    if (!is_level(level)) {
        return bad_level();
    }
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    if (number >= FIRST_WORD) {
        return leave(connection, wait_for_word(s, number, wait_ns));
    }
    code = number == 0 || number >= s->next_number
        ? fail(FASTQ_BAD_ARGUMENT, s->next_number - 1, "Submission %llu was not sent", (unsigned long long)number)
        : wait_for(s, number, level, wait_ns);
    return leave(connection, code);
}

int fastq_flush(fastq_connection connection, int level, int64_t wait_ns) {
    struct session *s;
    if (!is_level(level)) {
        return bad_level();
    }
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    code = flush_all(s, level, wait_ns);
    for (size_t i = 0; i < s->refused_count && code == FASTQ_OK; i++) {
        if (s->refused[i].code != FASTQ_DUPLICATE && s->refused[i].code != FASTQ_NO_REQUESTER) {
            code = told(&s->refused[i]);
        }
    }
    if (code != FASTQ_TIMED_OUT && code != FASTQ_DISCONNECTED) {
        s->refused_count = 0;
    }
    return leave(connection, code);
}

int fastq_routed(fastq_connection connection, uint64_t number, int64_t *queues) {
    struct session *s;
    if (queues == NULL) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_routed needs room for the count");
    }
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    code = drain(s);
    *queues = -1;
    for (size_t i = 0; i < s->routed_count; i++) {
        if (s->routed[i].number == number) {
            *queues = (int64_t)s->routed[i].queues;
            memmove(s->routed + i, s->routed + i + 1, (--s->routed_count - i) * sizeof *s->routed);
            break;
        }
    }
    return leave(connection, code);
}

int fastq_next_refusal(fastq_connection connection, fastq_refusal *refusal) {
    struct session *s;
    if (refusal == NULL) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_next_refusal needs room for the refusal");
    }
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    code = drain(s);
    if (!take_refusal(s, 0, refusal)) {
        memset(refusal, 0, sizeof *refusal);
    }
    return leave(connection, code);
}
