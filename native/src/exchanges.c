// Exchanges and their bindings: what chooses the queues of a message. Answers are JSON with the keys of `fastq exchange show --json`.
#include "session.h"

static const char *const types[] = {"direct", "topic", "fanout", "headers"};

static int put_type(struct field_writer *fields, const struct option *option) {
    for (uint64_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (option->value != NULL && strlen(types[i]) == option->value_bytes && memcmp(types[i], option->value, option->value_bytes) == 0) {
            put_number(fields, FIELD_EXCHANGE_TYPE, i);
            return FASTQ_OK;
        }
    }
    return fail(FASTQ_BAD_ARGUMENT, 0, "Option type is direct, topic, fanout or headers");
}

static int put_attributes(struct field_writer *fields, const char *text) {
    for (struct option one; next_option(&text, &one);) {
        int code = FASTQ_OK;
        if (option_is(&one, "type")) {
            code = put_type(fields, &one);
        } else if (option_is(&one, "alternate")) {
            put_field(fields, FIELD_ALTERNATE, one.value != NULL ? one.value : "", one.value_bytes);
        } else {
            code = unknown_option(&one);
        }
        if (code != FASTQ_OK) {
            return code;
        }
    }
    return FASTQ_OK;
}

/// What an exchange is, without the object's end.
static int begin_exchange(struct buffer *to, const unsigned char *fields, size_t length) {
    int code = json_add(to, "{");
    code = code != FASTQ_OK ? code : json_field(to, fields, length, "name", FIELD_NAME);
    code = code != FASTQ_OK ? code : json_add(to, ",\"type\":\"%s\",", types[number_of(fields, length, FIELD_EXCHANGE_TYPE) & 3]);
    code = code != FASTQ_OK ? code : json_field(to, fields, length, "alternate", FIELD_ALTERNATE);
    return code != FASTQ_OK ? code : json_add(to, ",\"bindings\":%llu,\"discarded\":%llu",
        (unsigned long long)number_of(fields, length, FIELD_BINDINGS), (unsigned long long)number_of(fields, length, FIELD_DISCARDED));
}

static int write_headers(struct buffer *to, const unsigned char *headers, size_t length) {
    fastq_property header;
    size_t position = 0;
    int code = json_add(to, "\"headers\":{");
    for (bool is_first = true; code == FASTQ_OK && fastq_next_property(headers, length, &position, &header) == FASTQ_OK && header.tag != 0; is_first = false) {
        code = is_first ? FASTQ_OK : json_add(to, ",");
        code = code != FASTQ_OK ? code : json_string(to, (const unsigned char *)header.key, header.key_bytes);
        code = code != FASTQ_OK ? code : json_add(to, ":");
        code = code != FASTQ_OK ? code : json_value(to, &header);
    }
    return code != FASTQ_OK ? code : json_add(to, "}");
}

static int write_binding(struct buffer *to, const unsigned char *fields, size_t length) {
    const unsigned char *value = NULL;
    size_t bytes = 0;
    bool is_to_exchange = bytes_of(fields, length, FIELD_TARGET, &value, &bytes);
    int code = json_add(to, "{");
    code = code != FASTQ_OK ? code : json_field(to, fields, length, is_to_exchange ? "exchange" : "queue", is_to_exchange ? FIELD_TARGET : FIELD_NAME);
    code = code != FASTQ_OK ? code : json_add(to, ",");
    code = code != FASTQ_OK ? code : json_field(to, fields, length, "key", FIELD_ROUTING_KEY);
    code = code != FASTQ_OK ? code : json_add(to, ",\"match\":\"%s\",", number_of(fields, length, FIELD_MATCH) == 1 ? "any" : "all");
    value = NULL;
    bytes = 0;
    (void)bytes_of(fields, length, FIELD_ARGUMENTS, &value, &bytes);
    code = code != FASTQ_OK ? code : write_headers(to, value, bytes);
    return code != FASTQ_OK ? code : json_add(to, "}");
}

/// The last answer is the exchange, those before it are its bindings.
static int write_shown(struct session *s) {
    const unsigned char *fields = NULL, *next;
    size_t position = 0, length = 0, next_length;
    while (next_answer(s, &position, &next, &next_length)) {
        fields = next;
        length = next_length;
    }
    int code = fields == NULL ? json_add(&s->text, "{\"to\":[") : begin_exchange(&s->text, fields, length);
    code = code != FASTQ_OK || fields == NULL ? code : json_add(&s->text, ",\"to\":[");
    position = 0;
    for (bool is_first = true; code == FASTQ_OK && next_answer(s, &position, &next, &next_length) && next != fields; is_first = false) {
        code = is_first ? FASTQ_OK : json_add(&s->text, ",");
        code = code != FASTQ_OK ? code : write_binding(&s->text, next, next_length);
    }
    return code != FASTQ_OK ? code : json_add(&s->text, "]}");
}

static int ask_by_name(struct session *s, uint16_t kind, const char *name) {
    unsigned char room[512];
    struct field_writer fields = {.room = room, .size = sizeof room};
    put_text(&fields, FIELD_NAME, name);
    return ask(s, kind, &fields);
}

static int needs_exchange(const char *what) { return fail(FASTQ_BAD_ARGUMENT, 0, "%s needs the name of an exchange and room for what it gives", what); }

// ---- the API

static int declare(struct session *s, const char *name, const char *attributes, const char **json) {
    unsigned char room[COMMAND_BYTES];
    struct field_writer fields = {.room = room, .size = sizeof room};
    const unsigned char *answer;
    size_t position = 0, length;
    put_text(&fields, FIELD_NAME, name);
    int code = put_attributes(&fields, attributes);
    code = code != FASTQ_OK ? code : ask(s, COMMAND_DECLARE_EXCHANGE, &fields);
    if (code != FASTQ_OK || json == NULL || !next_answer(s, &position, &answer, &length)) {
        return code;
    }
    s->text.length = 0;
    code = begin_exchange(&s->text, answer, length);
    code = code != FASTQ_OK ? code : json_add(&s->text, "}");
    return code != FASTQ_OK ? code : give_json(s, json);
}

int fastq_declare_exchange(fastq_connection connection, const char *name, const char *attributes, const char **json) {
    struct session *s;
    if (name == NULL) {
        return needs_exchange("fastq_declare_exchange");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, declare(s, name, attributes, json));
}

int fastq_delete_exchange(fastq_connection connection, const char *name) {
    struct session *s;
    if (name == NULL) {
        return needs_exchange("fastq_delete_exchange");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, ask_by_name(s, COMMAND_DELETE_EXCHANGE, name));
}

static int show(struct session *s, const char *name, const char **json) {
    int code = ask_by_name(s, COMMAND_SHOW_EXCHANGE, name);
    s->text.length = 0;
    code = code != FASTQ_OK ? code : write_shown(s);
    return code != FASTQ_OK ? code : give_json(s, json);
}

int fastq_show_exchange(fastq_connection connection, const char *name, const char **json) {
    struct session *s;
    if (name == NULL || json == NULL) {
        return needs_exchange("fastq_show_exchange");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, show(s, name, json));
}

static int write_exchange(struct buffer *to, const unsigned char *fields, size_t length) {
    int code = begin_exchange(to, fields, length);
    return code != FASTQ_OK ? code : json_add(to, "}");
}

int fastq_list_exchanges(fastq_connection connection, const char **json) {
    struct session *s;
    if (json == NULL) {
        return needs_exchange("fastq_list_exchanges");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, give_list(s, COMMAND_LIST_EXCHANGES, NULL, write_exchange, json));
}

static int change_binding(fastq_connection connection, uint16_t kind, const char *exchange, const char *target, const char *key, const void *headers, size_t header_bytes, uint32_t flags) {
    struct session *s;
    unsigned char room[COMMAND_BYTES];
    struct field_writer fields = {.room = room, .size = sizeof room};
    if (exchange == NULL || target == NULL || (headers == NULL && header_bytes > 0) || flags > (FASTQ_ANY_HEADER | FASTQ_TO_EXCHANGE)) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "A binding needs the name of an exchange, of a queue, headers or 0 bytes of them, and flags of enum fastq_binding_flags");
    }
    if (header_bytes > MAX_ARGUMENT_BYTES) {
        return fail(FASTQ_TOO_LARGE, MAX_ARGUMENT_BYTES, "The headers of a binding have %zu bytes, at most %d are taken", header_bytes, MAX_ARGUMENT_BYTES);
    }
    put_text(&fields, FIELD_EXCHANGE, exchange);
    put_text(&fields, (flags & FASTQ_TO_EXCHANGE) != 0 ? FIELD_TARGET : FIELD_NAME, target);
    put_text(&fields, FIELD_ROUTING_KEY, key != NULL ? key : "");
    put_number(&fields, FIELD_MATCH, (flags & FASTQ_ANY_HEADER) != 0);
    if (header_bytes > 0) {
        put_field(&fields, FIELD_ARGUMENTS, headers, header_bytes);
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, ask(s, kind, &fields));
}

int fastq_bind(fastq_connection connection, const char *exchange, const char *target, const char *key, const void *headers, size_t header_bytes, uint32_t flags) {
    return change_binding(connection, COMMAND_BIND, exchange, target, key, headers, header_bytes, flags);
}

int fastq_unbind(fastq_connection connection, const char *exchange, const char *target, const char *key, const void *headers, size_t header_bytes, uint32_t flags) {
    return change_binding(connection, COMMAND_UNBIND, exchange, target, key, headers, header_bytes, flags);
}

static int find_exchange(struct session *s, const char *name, fastq_queue *exchange) {
    const unsigned char *fields;
    size_t position = 0, length;
    int code = ask_by_name(s, COMMAND_SHOW_EXCHANGE, name);
    while (code == FASTQ_OK && next_answer(s, &position, &fields, &length)) {
        *exchange = (fastq_queue)number_of(fields, length, FIELD_EXCHANGE_ID);
    }
    return code;
}

int fastq_open_exchange(fastq_connection connection, const char *name, fastq_queue *exchange) {
    struct session *s;
    if (name == NULL || exchange == NULL) {
        return needs_exchange("fastq_open_exchange");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, find_exchange(s, name, exchange));
}
