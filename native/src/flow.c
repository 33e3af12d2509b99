// Limits on what flows through a queue, or through all that share a limit: | key: u8 | number: LEB128 | in a row, as one field.
#include <stdio.h>

#include "session.h"

enum form { COUNT, RATE, FLAG, NAME, BREAKER, PAUSE };

enum { MOST = 10000000, MOST_WINDOW = 10000, MOST_NAME_BYTES = 64, OF_SHARED = 3 };

/// By its name in options, its key on the wire (src/FastQ.Protocol/README.md, FlowKey), its key in JSON. The first three are those of shared limits, too.
static const struct limit { const char *name; unsigned char key; enum form form; const char *json; } limits[] = {
    {"max-in-flight", 1, COUNT, "maxInFlight"}, {"rate", 2, RATE, "rate"}, {"burst", 3, COUNT, "burst"},
    {"group-in-flight", 4, COUNT, "groupInFlight"}, {"delay-holds-group", 5, FLAG, "delayHoldsGroup"},
    {"tenant-in-flight", 6, COUNT, "tenantInFlight"}, {"tenant-rate", 7, RATE, "tenantRate"}, {"tenant-burst", 8, COUNT, "tenantBurst"},
    {"limit", 9, NAME, "limit"}, {"breaker", 10, BREAKER, "breaker"}, {"breaker-pause", 11, PAUSE, "breakerPauseSeconds"},
    {"publish-rate", 12, RATE, "publishRate"}, {"publish-burst", 13, COUNT, "publishBurst"},
};

static const char units[] = {'s', 'm', 'h'};

static void put(struct flow *flow, unsigned char key, uint64_t number, const char *text) {
    size_t bytes = text != NULL ? (size_t)number : 0;
    if (flow->length + 11 + bytes > sizeof flow->bytes) {
        flow->has_overflowed = true;
        return;
    }
    flow->bytes[flow->length++] = key;
    do {
        flow->bytes[flow->length++] = (unsigned char)((number & 127) | (number > 127 ? 128 : 0));
        number >>= 7;
    } while (number > 0);
    if (bytes > 0) {
        memcpy(flow->bytes + flow->length, text, bytes);
        flow->length += bytes;
    }
}

/// N, N/s, N/m or N/h: the count times 4, plus its unit.
static int read_rate(const struct option *option, uint64_t *number) {
    struct option count = *option;
    uint64_t unit = 0;
    if (count.value != NULL && count.value_bytes > 2 && count.value[count.value_bytes - 2] == '/') {
        const char *found = memchr(units, count.value[count.value_bytes - 1], sizeof units);
        if (found == NULL) {
            return fail(FASTQ_BAD_ARGUMENT, 0, "Option %.*s is like 10/s, 600/m or 5/h; 0: no limit", (int)option->key_bytes, option->key);
        }
        unit = (uint64_t)(found - units);
        count.value_bytes -= 2;
    }
    int code = option_number(&count, 0, MOST, number);
    *number = *number * 4 + unit;
    return code;
}

/// PERCENT%/WINDOW, or off: the window times 128, plus the percent.
static int read_breaker(const struct option *option, uint64_t *number) {
    unsigned percent = 0, window = 0;
    char text[32] = "", more;
    if (option->value_bytes < sizeof text) {
        memcpy(text, option->value != NULL ? option->value : "", option->value_bytes);
    }
    bool is_off = strcmp(text, "off") == 0;
    if (!is_off && (sscanf(text, "%3u%%/%5u%c", &percent, &window, &more) != 2 || percent < 1 || percent > 100 || window < 1 || window > MOST_WINDOW)) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "Option breaker is like 50%%/100 (1 to 100 %%, of the last 1 to %d), or off", MOST_WINDOW);
    }
    *number = (uint64_t)window * 128 + percent;
    return FASTQ_OK;
}

int put_limit(struct flow *flow, const struct option *option, bool is_shared, bool *is_one) {
    const struct limit *limit = NULL;
    for (size_t i = 0; i < (is_shared ? OF_SHARED : sizeof limits / sizeof *limits); i++) {
        limit = option_is(option, limits[i].name) ? &limits[i] : limit;
    }
    *is_one = limit != NULL;
    if (limit == NULL) {
        return FASTQ_OK;
    }
    uint64_t number = 0;
    bool is_on = false;
    int code = FASTQ_OK;
    switch (limit->form) {
        case COUNT: code = option_number(option, 0, MOST, &number); break;
        case RATE: code = read_rate(option, &number); break;
        case FLAG: code = option_switch(option, &is_on); number = is_on; break;
        case BREAKER: code = read_breaker(option, &number); break;
        case PAUSE: code = option_milliseconds(option, &number); break;
        default:
            if (option->value_bytes > MOST_NAME_BYTES) {
                return fail(FASTQ_BAD_ARGUMENT, MOST_NAME_BYTES, "The name of a limit has at most %d bytes", MOST_NAME_BYTES);
            }
            put(flow, limit->key, option->value_bytes, option->value != NULL ? option->value : "");
            return FASTQ_OK;
    }
    if (code == FASTQ_OK) {
        put(flow, limit->key, number, NULL);
    }
    return code;
}

/// The next number of a field. False: that was all, or it is cut short.
static bool next(const unsigned char **at, const unsigned char *end, unsigned char *key, uint64_t *number, const unsigned char **text) {
    if (*at == end) {
        return false;
    }
    *key = *(*at)++;
    *number = 0;
    for (int shift = 0;; shift += 7) {
        if (*at == end || shift > 63) {
            return false;
        }
        unsigned char one = *(*at)++;
        *number |= (uint64_t)(one & 127) << shift;
        if (one < 128) {
            break;
        }
    }
    *text = *at;
    if (*key == 9) {
        if (*number > (uint64_t)(end - *at)) {
            return false;
        }
        *at += *number;
    }
    return true;
}

static int write_limit(struct buffer *to, const struct limit *limit, uint64_t number, const unsigned char *text) {
    if (limit->form == PAUSE) {
        return json_seconds(to, limit->json, number);
    }
    int code = json_add(to, "\"%s\":", limit->json);
    if (code != FASTQ_OK) {
        return code;
    }
    switch (limit->form) {
        case RATE: return json_add(to, "\"%llu/%c\"", (unsigned long long)(number / 4), number % 4 < sizeof units ? units[number % 4] : 's');
        case FLAG: return json_add(to, number != 0 ? "true" : "false");
        case NAME: return json_string(to, text, (size_t)number);
        case BREAKER: return json_add(to, "\"%llu%%/%llu\"", (unsigned long long)(number % 128), (unsigned long long)(number / 128));
        default: return json_add(to, "%llu", (unsigned long long)number);
    }
}

/// Is a limit of this number one? A rate of nothing, whatever its unit, is none.
static bool is_set(const struct limit *limit, uint64_t number) { return limit->form == RATE ? number / 4 > 0 : limit->form == BREAKER ? number / 128 > 0 : number > 0; }

int json_flow(struct buffer *to, const unsigned char *fields, size_t length) {
    uint64_t numbers[sizeof limits / sizeof *limits] = {0}, number;
    const unsigned char *texts[sizeof limits / sizeof *limits] = {NULL}, *at = NULL, *text;
    unsigned char key;
    size_t bytes = 0;
    (void)bytes_of(fields, length, FIELD_FLOW, &at, &bytes);
    for (const unsigned char *end = at + bytes; bytes > 0 && next(&at, end, &key, &number, &text);) {
        if (key >= 1 && key <= sizeof limits / sizeof *limits) { // The keys are the places in the table.
            numbers[key - 1] = number;
            texts[key - 1] = text;
        }
    }
    int code = json_add(to, "\"flow\":{");
    bool is_first = true;
    for (size_t i = 0; i < sizeof limits / sizeof *limits && code == FASTQ_OK; i++) {
        if (is_set(&limits[i], numbers[i])) {
            code = is_first ? FASTQ_OK : json_add(to, ",");
            code = code != FASTQ_OK ? code : write_limit(to, &limits[i], numbers[i], texts[i]);
            is_first = false;
        }
    }
    return code != FASTQ_OK ? code : json_add(to, "}");
}

// ---- limits that queues share: the API

enum action { DECLARE, CHANGE, DELETE };

static int needs_limit(const char *what) { return fail(FASTQ_BAD_ARGUMENT, 0, "%s needs the name of a limit, and room for what it gives", what); }

static int write_shared(struct buffer *to, const unsigned char *fields, size_t length) {
    int code = json_add(to, "{");
    code = code != FASTQ_OK ? code : json_field(to, fields, length, "name", FIELD_NAME);
    code = code != FASTQ_OK ? code : json_add(to, ",");
    code = code != FASTQ_OK ? code : json_flow(to, fields, length);
    return code != FASTQ_OK ? code : json_add(to, ",\"inFlight\":%llu,\"queues\":%llu,\"waiting\":%llu}", (unsigned long long)number_of(fields, length, FIELD_IN_FLIGHT),
        (unsigned long long)number_of(fields, length, FIELD_QUEUES), (unsigned long long)number_of(fields, length, FIELD_WAITING));
}

static int set_limit(struct session *s, const char *name, enum action action, const char *options, const char **json) {
    unsigned char room[1024];
    struct field_writer fields = {.room = room, .size = sizeof room};
    struct flow flow = {.length = 0};
    const unsigned char *answer;
    size_t position = 0, length;
    int code = FASTQ_OK;
    for (struct option one; code == FASTQ_OK && next_option(&options, &one);) {
        bool is_one;
        code = put_limit(&flow, &one, true, &is_one);
        code = code == FASTQ_OK && !is_one ? unknown_option(&one) : code;
    }
    put_text(&fields, FIELD_NAME, name);
    put_number(&fields, FIELD_ACTION, action);
    if (flow.length > 0) {
        put_field(&fields, FIELD_FLOW, flow.bytes, flow.length);
    }
    fields.has_overflowed |= flow.has_overflowed;
    code = code != FASTQ_OK ? code : ask(s, COMMAND_SET_LIMIT, &fields);
    if (code != FASTQ_OK || json == NULL || !next_answer(s, &position, &answer, &length)) {
        return code;
    }
    s->text.length = 0;
    code = write_shared(&s->text, answer, length);
    return code != FASTQ_OK ? code : give_json(s, json);
}

int fastq_declare_limit(fastq_connection connection, const char *name, const char *limits_text, const char **json) {
    struct session *s;
    if (name == NULL) {
        return needs_limit("fastq_declare_limit");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, set_limit(s, name, DECLARE, limits_text, json));
}

int fastq_change_limit(fastq_connection connection, const char *name, const char *limits_text, const char **json) {
    struct session *s;
    if (name == NULL) {
        return needs_limit("fastq_change_limit");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, set_limit(s, name, CHANGE, limits_text, json));
}

int fastq_delete_limit(fastq_connection connection, const char *name) {
    struct session *s;
    if (name == NULL) {
        return needs_limit("fastq_delete_limit");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, set_limit(s, name, DELETE, NULL, NULL));
}

int fastq_list_limits(fastq_connection connection, const char **json) {
    struct session *s;
    if (json == NULL) {
        return needs_limit("fastq_list_limits");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, give_list(s, COMMAND_LIST_LIMITS, NULL, write_shared, json));
}
