// Request and reply. A request is a message with an address for replies; its number tells which reply answers which request.
//
//   requester                               responder
//   fastq_request    --> a queue -->        fastq_receive
//   fastq_receive_reply  <-- memory alone -- fastq_reply: parts, each told of by a word; the last with its accept, in one go
//
// A reply has no number, and is sent again after a reconnect all the same: the requester drops what comes twice.
#include <stdio.h>
#include <stdlib.h>

#include "session.h"

enum { ADDRESS_BYTES = 56, MOST_WAITING_BYTES = 64 << 20 };

static const char address_start[] = "fastq.reply.";

// ---- the requester

static size_t place_of(const struct session *s, uint64_t number) {
    size_t low = 0, high = s->request_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->requests[middle].number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct request *find_request(const struct session *s, uint64_t number) {
    size_t place = place_of(s, number);
    return place < s->request_count && s->requests[place].number == number ? &s->requests[place] : NULL;
}

bool is_request(const struct session *s, uint64_t number) { return s->request_count > 0 && find_request(s, number) != NULL; }

static void free_replies(struct request *request) {
    while (request->first != NULL) {
        struct reply *reply = request->first;
        request->first = reply->next;
        free(reply);
    }
}

static void forget(struct session *s, struct request *request) {
    free_replies(request);
    size_t place = (size_t)(request - s->requests);
    memmove(request, request + 1, (--s->request_count - place) * sizeof *request);
}

void free_requests(struct session *s) {
    for (size_t i = 0; i < s->request_count; i++) {
        free_replies(&s->requests[i]);
    }
    free(s->requests);
    free(s->given);
    free(s->words);
}

static int keep_reply(struct request *request, const struct reply_record *header, uint64_t value, const unsigned char *payload, size_t length) {
    struct reply *reply = malloc(sizeof *reply + length);
    if (reply == NULL) {
        return fail_memory();
    }
    *reply = (struct reply){.header = *header, .value = value, .length = length};
    if (length > 0) {
        memcpy(reply->payload, payload, length);
    }
    *(request->first != NULL ? &request->last->next : &request->first) = reply;
    request->last = reply;
    request->waiting_bytes += length;
    request->is_over |= (header->flags & FASTQ_LAST) != 0;
    return FASTQ_OK;
}

static int fail_found(struct request *request, int code, uint64_t value, const unsigned char *text, size_t length) {
    struct reply_record header = {.flags = FASTQ_LAST | FASTQ_FAILED, .code = (uint16_t)code};
    return keep_reply(request, &header, value, text, length);
}

int fail_request(struct session *s, uint64_t number, int code, uint64_t value, const unsigned char *text, size_t length) {
    struct request *request = find_request(s, number);
    return request->is_over ? FASTQ_OK : fail_found(request, code, value, text, length);
}

/// The broker is to drop those that follow. Where there is no room, it is said at the next part.
static void refuse_replies(struct session *s, uint64_t request) {
    struct pair *pair = writing(s);
    if (room_in(pair) >= (int64_t)(sizeof(struct reply_record) + 2 * sizeof(struct control_record)) && has_mark_room(pair)) {
        struct reply_record record = {.length = sizeof record, .kind = KIND_REPLIES_UNWANTED, .request = request};
        memcpy(next_record(pair), &record, sizeof record);
        commit_record(pair, sizeof record, s->next_number - 1, FASTQ_NONE);
        ring_broker(s);
    }
}

/// The next part in order; what was sent again after a reconnect of its sender is dropped.
static int take_part(struct request *request, const struct reply_record *header, const unsigned char *payload, size_t length) {
    char words[80];
    if (header->part < request->next_part) {
        return FASTQ_OK;
    }
    if (header->part > request->next_part) {
        int written = snprintf(words, sizeof words, "Part %u of the answer was lost with a connection", request->next_part);
        return fail_found(request, FASTQ_DISCONNECTED, 0, (const unsigned char *)words, (size_t)written);
    }
    request->next_part++;
    int code = keep_reply(request, header, 0, payload, length);
    if (code == FASTQ_OK && !request->is_over && request->waiting_bytes > MOST_WAITING_BYTES) {
        static const char text[] = "Parts that came and were not looked at have too many bytes";
        code = fail_found(request, FASTQ_LIMIT_REACHED, MOST_WAITING_BYTES, (const unsigned char *)text, sizeof text - 1);
    }
    return code;
}

int take_reply(struct session *s, const unsigned char *record, size_t length) {
    struct reply_record header;
    if (length < sizeof header) {
        return FASTQ_OK;
    }
    memcpy(&header, record, sizeof header);
    const unsigned char *payload = record + sizeof header;
    length -= sizeof header;
    if (header.property_bytes > length) {
        return FASTQ_OK;
    }
    struct request *request = find_request(s, header.request);
    bool is_last = (header.flags & FASTQ_LAST) != 0;
    if (request == NULL || request->is_over) {
        if (!is_last) {
            refuse_replies(s, header.request);
        }
        return FASTQ_OK;
    }
    int code;
    if (header.check != fastq_check_of(payload, length)) {
        static const char text[] = "The sender of the reply wrote into it while the broker copied it";
        code = fail_found(request, FASTQ_CORRUPT, 0, (const unsigned char *)text, sizeof text - 1);
    } else if ((header.flags & FASTQ_FAILED) != 0) {
        header.flags |= FASTQ_LAST;
        code = keep_reply(request, &header, 0, payload, length);
    } else {
        header.code = 0;
        code = take_part(request, &header, payload, length);
    }
    if (code == FASTQ_OK && request->is_over && !is_last) {
        refuse_replies(s, header.request);
    }
    return code;
}

/// Its properties: the caller's, and what makes it a request. The address holds its number, so nothing may come between.
static int write_properties(struct session *s, const void *properties, size_t property_bytes, int64_t timeout_ms, bool waits_for_responder) {
    char address[ADDRESS_BYTES];
    size_t most = property_bytes + ADDRESS_BYTES + 64, length = property_bytes;
    s->properties.length = 0;
    int code = buffer_reserve(&s->properties, most);
    if (code != FASTQ_OK) {
        return code;
    }
    if (property_bytes > 0) {
        memcpy(s->properties.at, properties, property_bytes);
    }
    snprintf(address, sizeof address, "%s%llu.%llu", address_start, (unsigned long long)s->producer, (unsigned long long)s->next_number);
    code = fastq_put_text(s->properties.at, most, &length, FASTQ_REPLY_TO, address);
    code = code != FASTQ_OK ? code : fastq_put_number(s->properties.at, most, &length, FASTQ_TTL, timeout_ms);
    code = code != FASTQ_OK ? code : fastq_put_number(s->properties.at, most, &length, FASTQ_REQUEST, !waits_for_responder);
    s->properties.length = length;
    return code;
}

static int request(struct session *s, fastq_queue queue, const void *body, size_t bytes, const void *properties, size_t property_bytes, int64_t timeout_ms, uint32_t flags, uint64_t *number) {
    size_t most = sizeof(struct message_header) + property_bytes + ADDRESS_BYTES + 64 + bytes;
    if (bytes > s->max_message_bytes || property_bytes > MAX_PROPERTY_BYTES - ADDRESS_BYTES - 64) {
        return fail(FASTQ_TOO_LARGE, bytes > s->max_message_bytes ? s->max_message_bytes : MAX_PROPERTY_BYTES, "The request has %zu bytes of body and %zu of properties: that is more than the broker takes", bytes, property_bytes);
    }
    int code = ensure_room(s, most); // First: what it may have to wait for may take numbers of its own.
    code = code != FASTQ_OK ? code : write_properties(s, properties, property_bytes, timeout_ms, (flags & FASTQ_WAITS_FOR_RESPONDER) != 0);
    if (code != FASTQ_OK || !grow((void **)&s->requests, &s->request_size, s->request_count, sizeof *s->requests)) {
        return code != FASTQ_OK ? code : FASTQ_NO_MEMORY;
    }
    s->requests[s->request_count++] = (struct request){.number = s->next_number};
    code = publish(s, queue, body, bytes, s->properties.at, s->properties.length, FASTQ_NONE, number);
    s->request_count -= code != FASTQ_OK;
    return code;
}

static int no_such_request(void) { return fail(FASTQ_IS_CLOSED, 0, "No request of this number awaits an answer"); }

/// Gives the first that waits to the caller.
static int give_reply(struct session *s, struct request *from, fastq_reply *reply) {
    struct reply *first = from->first;
    from->first = first->next;
    from->waiting_bytes -= first->length;
    free(s->given);
    s->given = first;
    if ((first->header.flags & FASTQ_LAST) != 0) {
        forget(s, from);
    }
    if (first->header.code != 0) {
        return fail(first->header.code, first->value, "%.*s", (int)(first->length < 400 ? first->length : 400), (const char *)first->payload);
    }
    *reply = (fastq_reply){
        .properties = first->payload, .body = first->payload + first->header.property_bytes, .property_bytes = first->header.property_bytes,
        .body_bytes = (uint32_t)(first->length - first->header.property_bytes), .part = first->header.part, .flags = first->header.flags & (FASTQ_LAST | FASTQ_FAILED | FASTQ_END),
    };
    return FASTQ_OK;
}

static int receive_reply(struct session *s, uint64_t number, int64_t wait_ns, fastq_reply *reply) {
    int64_t deadline = deadline_in(wait_ns);
    int code = drain(s);
    while (code == FASTQ_OK) {
        struct request *from = find_request(s, number); // Looked for again: the wait may have moved the table.
        if (from == NULL) {
            return no_such_request();
        }
        if (from->first != NULL) {
            return give_reply(s, from, reply);
        }
        bool news = false;
        if (wait_ns != 0) {
            code = wait_for_news(s, deadline, &news);
        }
        if (code == FASTQ_OK && !news && find_request(s, number)->first == NULL) {
            return fail(FASTQ_TIMED_OUT, 0, "No reply to request %llu came in time", (unsigned long long)number);
        }
    }
    return code;
}

// ---- the responder

static const char *read_decimal(const char *at, const char *end, uint64_t *number) {
    uint64_t value = 0;
    const char *start = at;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        unsigned digit = (unsigned)(*at - '0');
        if (value > (UINT64_MAX - digit) / 10) {
            return NULL;
        }
        value = value * 10 + digit;
    }
    *number = value;
    return at > start ? at : NULL;
}

static bool read_address(const char *text, size_t bytes, struct reply_record *to) {
    if (bytes < sizeof address_start || memcmp(text, address_start, sizeof address_start - 1) != 0) {
        return false;
    }
    const char *at = text + sizeof address_start - 1, *end = text + bytes;
    at = read_decimal(at, end, &to->producer);
    at = at != NULL && at < end && *at == '.' ? read_decimal(at + 1, end, &to->request) : NULL;
    return at == end;
}

/// Where the answer to a message goes. False: it is no request.
static bool find_address(const fastq_message *message, struct reply_record *to) {
    fastq_property property;
    size_t position = 0;
    while (fastq_next_property(message->properties, message->property_bytes, &position, &property) == FASTQ_OK && property.tag != 0) {
        if (property.tag == FASTQ_REPLY_TO && read_address((const char *)property.value, property.value_bytes, to)) {
            return true;
        }
    }
    return false;
}

/// A reply at the ring's head; room was made for it. How much room it takes.
static size_t write_reply(struct session *s, struct reply_record record, const void *body, size_t bytes, const void *properties, size_t property_bytes) {
    unsigned char *room = next_record(writing(s));
    size_t length = sizeof record + property_bytes + bytes;
    if (property_bytes > 0) {
        memcpy(room + sizeof record, properties, property_bytes);
    }
    if (bytes > 0) {
        memcpy(room + sizeof record + property_bytes, body, bytes);
    }
    memset(room + length, 0, align8(length) - length);
    record.length = (uint32_t)length;
    record.kind = KIND_REPLY;
    record.property_bytes = (uint16_t)property_bytes;
    record.check = fastq_check_of(room + sizeof record, property_bytes + bytes);
    memcpy(room, &record, sizeof record);
    return length;
}

/// The word of what became of a part, for its sender to wait for.
static int add_word(struct session *s, uint64_t *cookie) {
    if (!grow((void **)&s->words, &s->word_size, s->word_count, sizeof *s->words)) {
        return FASTQ_NO_MEMORY;
    }
    *cookie = FIRST_WORD + ++s->last_word;
    s->words[s->word_count++] = (struct word){.cookie = *cookie};
    return FASTQ_OK;
}

static struct word *find_word(const struct session *s, uint64_t cookie) {
    for (size_t i = 0; i < s->word_count; i++) {
        if (s->words[i].cookie == cookie) {
            return &s->words[i];
        }
    }
    return NULL;
}

static int judge_sizes(const struct session *s, size_t bytes, size_t property_bytes) {
    return bytes > s->max_message_bytes || property_bytes > MAX_PROPERTY_BYTES
        ? fail(FASTQ_TOO_LARGE, bytes > s->max_message_bytes ? s->max_message_bytes : MAX_PROPERTY_BYTES, "The reply has %zu bytes of body and %zu of properties: that is more than the broker takes", bytes, property_bytes)
        : FASTQ_OK;
}

/// A reply that settles nothing.
static int send_reply(struct session *s, struct reply_record record, const void *body, size_t bytes, const void *properties, size_t property_bytes, uint64_t *number) {
    int code = judge_sizes(s, bytes, property_bytes);
    code = code != FASTQ_OK ? code : ensure_room(s, sizeof record + property_bytes + bytes);
    code = code != FASTQ_OK || number == NULL ? code : add_word(s, number);
    if (code == FASTQ_OK) {
        record.cookie = number != NULL ? *number : 0;
        record.flags |= number != NULL ? REPLY_WANTS_WORD : 0;
        commit_record(writing(s), write_reply(s, record, body, bytes, properties, property_bytes), s->next_number - 1, FASTQ_WRITTEN);
        ring_broker(s);
    }
    return code;
}

static int reply(struct session *s, struct subscription *u, const fastq_message *message, struct reply_record record, const void *body, size_t bytes, const void *properties, size_t property_bytes, int level, uint64_t *number) {
    if ((record.flags & FASTQ_LAST) == 0) {
        return send_reply(s, record, body, bytes, properties, property_bytes, number);
    }
    size_t length = sizeof record + property_bytes + bytes;
    struct settle_record accept = {.length = sizeof accept, .kind = KIND_SETTLE, .flags = flags_of(FASTQ_ACCEPT, level, 0), .count = 1, .first_delivery = message->number};
    uint64_t gathered;
    int code = judge_sizes(s, bytes, property_bytes);
    code = code != FASTQ_OK ? code : flush_settles(s, u, &gathered);
    code = code != FASTQ_OK ? code : ensure_room(s, align8(length) + sizeof accept);
    if (code != FASTQ_OK) {
        return code;
    }
    if (!is_open(u, message->number, message->life)) { // Asked behind what may wait.
        return not_open(u, message->number);
    }
    // Both in one go, and kept until the accept is written. That nobody waited is told of the accept's number.
    record.cookie = accept.number = s->next_number;
    accept.subscription = u->id;
    size_t taken = align8(write_reply(s, record, body, bytes, properties, property_bytes));
    memcpy(next_record(writing(s)) + taken, &accept, sizeof accept);
    close_delivery(u, message->number);
    uint64_t sent = commit_numbered(s, taken + sizeof accept, level == FASTQ_NONE ? FASTQ_WRITTEN : level);
    if (number != NULL) {
        *number = sent;
    }
    return FASTQ_OK;
}

static const char *why_dropped(int code) {
    return code == FASTQ_NO_REQUESTER ? "Nobody waits for this reply any more"
        : code == FASTQ_LIMIT_REACHED ? "The reply was dropped: more wait for the requester than have room"
        : code == FASTQ_DISCONNECTED ? "The word of this part was lost with the connection"
        : "The reply was dropped";
}

void take_reply_ended(struct session *s, const struct notice_record *notice) {
    struct word *word = notice->number >= FIRST_WORD ? find_word(s, notice->number) : NULL;
    if (word != NULL && !word->is_told) {
        word->code = notice->code;
        word->is_told = true;
    }
    if (notice->number < s->next_number && notice->number > 0 && notice->code != 0) {
        const char *text = why_dropped(notice->code);
        (void)add_refusal(s, notice->number, notice->code, notice->value, (const unsigned char *)text, strlen(text));
    }
}

/// Whoever waits for it is told so, and does not wait for ever.
void lose_words(struct session *s) {
    for (size_t i = 0; i < s->word_count; i++) {
        s->words[i].code = s->words[i].is_told ? s->words[i].code : FASTQ_DISCONNECTED;
        s->words[i].is_told = true;
    }
}

int wait_for_word(struct session *s, uint64_t cookie, int64_t wait_ns) {
    int64_t deadline = deadline_in(wait_ns);
    int code = drain(s);
    while (code == FASTQ_OK) {
        struct word *word = find_word(s, cookie);
        if (word == NULL) {
            return fail(FASTQ_BAD_ARGUMENT, 0, "No part of an answer has this number, or what became of it was told");
        }
        if (word->is_told) {
            code = word->code;
            *word = s->words[--s->word_count];
            return code == FASTQ_OK ? FASTQ_OK : fail(code, 0, "%s", why_dropped(code));
        }
        bool news = false;
        code = wait_for_news(s, deadline, &news);
        if (code == FASTQ_OK && !news && !find_word(s, cookie)->is_told) {
            return fail(FASTQ_TIMED_OUT, 0, "Nothing was heard of the part in time");
        }
    }
    return code;
}

// ---- the API

int fastq_request(fastq_connection connection, fastq_queue queue, const void *body, size_t bytes, const void *properties, size_t property_bytes, int64_t timeout_ms, uint32_t flags, uint64_t *number) {
    struct session *s;
    if ((body == NULL && bytes > 0) || (properties == NULL && property_bytes > 0) || queue == 0 || timeout_ms < 1 || timeout_ms > MAX_DELAY_MILLISECONDS || flags > FASTQ_WAITS_FOR_RESPONDER || number == NULL) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_request needs the number of a queue, a body or 0 bytes of it, properties or 0 bytes of them, a time-out above 0 ms, flags of enum fastq_request_flags and room for the number");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, request(s, queue, body, bytes, properties, property_bytes, timeout_ms, flags, number));
}

int fastq_receive_reply(fastq_connection connection, uint64_t number, int64_t wait_ns, fastq_reply *answer) {
    struct session *s;
    if (answer == NULL) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_receive_reply needs room for the reply");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, receive_reply(s, number, wait_ns, answer));
}

int fastq_end_request(fastq_connection connection, uint64_t number) {
    struct session *s;
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    struct request *found = find_request(s, number);
    if (found == NULL) {
        return leave(connection, no_such_request());
    }
    forget(s, found);
    return leave(connection, FASTQ_OK);
}

static bool are_flags(uint32_t flags) { return flags <= (FASTQ_LAST | FASTQ_FAILED | FASTQ_END) && (flags == 0 || (flags & FASTQ_LAST) != 0); }

int fastq_send_reply(fastq_connection connection, const char *address, const void *body, size_t bytes, const void *properties, size_t property_bytes, uint32_t part, uint32_t flags, uint64_t *number) {
    struct session *s;
    struct reply_record record = {.part = part, .flags = (uint8_t)flags};
    if (address == NULL || (body == NULL && bytes > 0) || (properties == NULL && property_bytes > 0) || !are_flags(flags) || !read_address(address, strlen(address), &record)) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_send_reply needs an address as a request has it, a body or 0 bytes of it, properties or 0 bytes of them, and flags of enum fastq_reply_flags");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, send_reply(s, record, body, bytes, properties, property_bytes, number));
}

int fastq_reply_to(fastq_connection connection, fastq_subscription subscription, const fastq_message *message, const void *body, size_t bytes, const void *properties, size_t property_bytes, uint32_t part, uint32_t flags, int level, uint64_t *number) {
    struct session *s;
    struct reply_record record = {.part = part, .flags = (uint8_t)flags};
    if (message == NULL || (body == NULL && bytes > 0) || (properties == NULL && property_bytes > 0) || !are_flags(flags) || level < FASTQ_NONE || level > FASTQ_DURABLE) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_reply_to needs a message, a body or 0 bytes of it, properties or 0 bytes of them, flags of enum fastq_reply_flags (failed and end with last) and a level from 0 to 3");
    }
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    struct subscription *u = of_handle(s, subscription);
    if (u == NULL) {
        return leave(connection, fail_closed());
    }
    if (!is_open(u, message->number, message->life)) { // Before its properties are looked at: they may be gone.
        return leave(connection, not_open(u, message->number));
    }
    if (!find_address(message, &record)) {
        return leave(connection, fail(FASTQ_BAD_ARGUMENT, 0, "This message is no request: it has no address for replies"));
    }
    return leave(connection, reply(s, u, message, record, body, bytes, properties, property_bytes, level, number));
}
