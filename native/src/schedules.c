// Messages that wait under a schedule key, by their key; and schedules, which send messages again and again.
#include "session.h"

static const char *const missed[] = {"one", "all", "none"};

enum action { SET, DELETE, PAUSE, RESUME };

// ---- schedule keys

static int change_scheduled(fastq_connection connection, uint16_t kind, const char *queue, const char *key, uint16_t time_tag, int64_t time, uint32_t *timeliness) {
    struct session *s;
    unsigned char room[512];
    struct field_writer fields = {.room = room, .size = sizeof room};
    const unsigned char *answer;
    size_t position = 0, length;
    if (queue == NULL || key == NULL || time < 0) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "A message that waits is found by the name of its queue and its schedule key; its new time is not below 0");
    }
    put_text(&fields, FIELD_KEY, key);
    if (time_tag != 0) {
        put_number(&fields, time_tag, (uint64_t)time);
    }
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    code = ask_of(s, kind, queue, &fields);
    if (code == FASTQ_OK && timeliness != NULL && next_answer(s, &position, &answer, &length)) {
        *timeliness = (uint32_t)number_of(answer, length, FIELD_TIMELINESS);
    }
    return leave(connection, code);
}

int fastq_cancel_scheduled(fastq_connection connection, const char *queue, const char *key, uint32_t *timeliness) {
    return change_scheduled(connection, COMMAND_CANCEL_SCHEDULED, queue, key, 0, 0, timeliness);
}

int fastq_reschedule(fastq_connection connection, const char *queue, const char *key, int64_t delay_ms, uint32_t *timeliness) {
    return change_scheduled(connection, COMMAND_RESCHEDULE, queue, key, FIELD_DELAY_MILLISECONDS, delay_ms, timeliness);
}

int fastq_reschedule_at(fastq_connection connection, const char *queue, const char *key, int64_t due_us, uint32_t *timeliness) {
    return change_scheduled(connection, COMMAND_RESCHEDULE, queue, key, FIELD_DUE_MICROS, due_us, timeliness);
}

// ---- schedules

static int put_missed(struct field_writer *fields, const struct option *option) {
    for (uint64_t i = 0; i < sizeof missed / sizeof *missed; i++) {
        if (option->value != NULL && strlen(missed[i]) == option->value_bytes && memcmp(missed[i], option->value, option->value_bytes) == 0) {
            put_number(fields, FIELD_MISSED, i);
            return FASTQ_OK;
        }
    }
    return fail(FASTQ_BAD_ARGUMENT, 0, "Option missed is one, all or none");
}

static int put_rule(struct field_writer *fields, const char *text) {
    for (struct option one; next_option(&text, &one);) {
        uint64_t number = 0;
        int code = FASTQ_OK;
        if (option_is(&one, "cron") || option_is(&one, "zone")) {
            put_field(fields, option_is(&one, "cron") ? FIELD_CRON : FIELD_ZONE, one.value != NULL ? one.value : "", one.value_bytes);
        } else if (option_is(&one, "every")) {
            code = option_milliseconds(&one, &number);
            put_number(fields, FIELD_EVERY_MILLISECONDS, number);
        } else if (option_is(&one, "missed")) {
            code = put_missed(fields, &one);
        } else if (option_is(&one, "until")) {
            code = option_number(&one, 1, INT64_MAX, &number);
            put_number(fields, FIELD_END_MICROS, number);
        } else if (option_is(&one, "count")) {
            code = option_number(&one, 1, INT64_MAX, &number);
            put_number(fields, FIELD_MOST, number);
        } else {
            code = unknown_option(&one);
        }
        if (code != FASTQ_OK) {
            return code;
        }
    }
    return FASTQ_OK;
}

static int write_optional(struct buffer *to, const unsigned char *fields, size_t length, const char *key, uint16_t tag) {
    const unsigned char *value;
    size_t bytes;
    return bytes_of(fields, length, tag, &value, &bytes) ? json_field(to, fields, length, key, tag) : json_add(to, "\"%s\":null", key);
}

static int write_zone(struct buffer *to, const unsigned char *fields, size_t length) {
    const unsigned char *value;
    size_t bytes;
    return !bytes_of(fields, length, FIELD_CRON, &value, &bytes) ? json_add(to, "\"zone\":null")
        : bytes_of(fields, length, FIELD_ZONE, &value, &bytes) ? json_field(to, fields, length, "zone", FIELD_ZONE)
        : json_add(to, "\"zone\":\"UTC\"");
}

static int write_schedule(struct buffer *to, const unsigned char *fields, size_t length) {
    uint64_t every = number_of(fields, length, FIELD_EVERY_MILLISECONDS), count = number_of(fields, length, FIELD_MOST), how = number_of(fields, length, FIELD_MISSED);
    int code = json_add(to, "{");
    code = code != FASTQ_OK ? code : json_field(to, fields, length, "name", FIELD_NAME);
    code = code != FASTQ_OK ? code : json_add(to, ",");
    code = code != FASTQ_OK ? code : json_field(to, fields, length, "queue", FIELD_TARGET);
    code = code != FASTQ_OK ? code : json_add(to, ",");
    code = code != FASTQ_OK ? code : write_optional(to, fields, length, "cron", FIELD_CRON);
    code = code != FASTQ_OK ? code : json_add(to, ",");
    code = code != FASTQ_OK ? code : write_zone(to, fields, length);
    code = code != FASTQ_OK ? code : json_add(to, ",");
    code = code != FASTQ_OK ? code : every != 0 ? json_seconds(to, "everySeconds", every) : json_add(to, "\"everySeconds\":null");
    code = code != FASTQ_OK ? code : json_add(to, ",\"missed\":\"%s\",", how < 3 ? missed[how] : missed[0]);
    code = code != FASTQ_OK ? code : json_moment(to, "until", number_of(fields, length, FIELD_END_MICROS));
    code = code != FASTQ_OK ? code : count != 0 ? json_add(to, ",\"count\":%llu", (unsigned long long)count) : json_add(to, ",\"count\":null");
    code = code != FASTQ_OK ? code : json_add(to, ",\"bodyBytes\":%llu,", (unsigned long long)number_of(fields, length, FIELD_BODY_BYTES));
    code = code != FASTQ_OK ? code : json_moment(to, "next", number_of(fields, length, FIELD_DUE_MICROS));
    code = code != FASTQ_OK ? code : json_add(to, ",");
    code = code != FASTQ_OK ? code : json_moment(to, "last", number_of(fields, length, FIELD_LAST_MICROS));
    return code != FASTQ_OK ? code : json_add(to, ",\"fired\":%llu,\"failed\":%llu,\"paused\":%s}", (unsigned long long)number_of(fields, length, FIELD_FIRED),
        (unsigned long long)number_of(fields, length, FIELD_FAILED), number_of(fields, length, FIELD_PAUSED) == 1 ? "true" : "false");
}

static int give_schedule(struct session *s, const char **json) {
    const unsigned char *answer;
    size_t position = 0, length;
    if (json == NULL || !next_answer(s, &position, &answer, &length)) {
        return FASTQ_OK;
    }
    s->text.length = 0;
    int code = write_schedule(&s->text, answer, length);
    return code != FASTQ_OK ? code : give_json(s, json);
}

static int needs_schedule(const char *what) { return fail(FASTQ_BAD_ARGUMENT, 0, "%s needs the name of a schedule, and room for what it gives", what); }

static int set(struct session *s, const char *name, const char *queue, const char *rule, const void *body, size_t bytes, const void *properties, size_t property_bytes, const char **json) {
    uint32_t id;
    int code = find_queue(s, queue, &id);
    if (code != FASTQ_OK) {
        return code;
    }
    s->properties.length = 0;
    if ((code = buffer_reserve(&s->properties, MAX_COMMAND_BYTES)) != FASTQ_OK) {
        return code;
    }
    struct field_writer fields = {.room = s->properties.at, .size = MAX_COMMAND_BYTES - sizeof(struct command_record)};
    put_text(&fields, FIELD_NAME, name);
    put_number(&fields, FIELD_ACTION, SET);
    put_number(&fields, FIELD_QUEUE, id);
    code = put_rule(&fields, rule);
    put_field(&fields, FIELD_PROPERTIES, properties, property_bytes);
    put_field(&fields, FIELD_BODY, body, bytes);
    code = code != FASTQ_OK ? code : ask(s, COMMAND_CHANGE_SCHEDULE, &fields);
    return code != FASTQ_OK ? code : give_schedule(s, json);
}

int fastq_set_schedule(fastq_connection connection, const char *name, const char *queue, const char *rule, const void *body, size_t bytes, const void *properties, size_t property_bytes, const char **json) {
    struct session *s;
    if (name == NULL || queue == NULL || rule == NULL || (body == NULL && bytes > 0) || (properties == NULL && property_bytes > 0)) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_set_schedule needs the names of a schedule and a queue, a rule, a body or 0 bytes of it, properties or 0 bytes of them");
    }
    if (bytes > MAX_SCHEDULE_BYTES || property_bytes > MAX_SCHEDULE_BYTES) {
        return fail(FASTQ_TOO_LARGE, MAX_SCHEDULE_BYTES, "The message of a schedule has %zu bytes, at most %d are taken of all that it is", bytes + property_bytes, MAX_SCHEDULE_BYTES);
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, set(s, name, queue, rule, body, bytes, properties, property_bytes, json));
}

static int change(fastq_connection connection, const char *name, enum action action, const char **json) {
    struct session *s;
    unsigned char room[512];
    struct field_writer fields = {.room = room, .size = sizeof room};
    put_text(&fields, FIELD_NAME, name);
    put_number(&fields, FIELD_ACTION, action);
    int code = enter(connection, &s);
    if (code != FASTQ_OK) {
        return code;
    }
    code = ask(s, COMMAND_CHANGE_SCHEDULE, &fields);
    return leave(connection, code != FASTQ_OK ? code : give_schedule(s, json));
}

int fastq_delete_schedule(fastq_connection connection, const char *name) { return name == NULL ? needs_schedule("fastq_delete_schedule") : change(connection, name, DELETE, NULL); }

int fastq_pause_schedule(fastq_connection connection, const char *name, int is_paused, const char **json) {
    return name == NULL ? needs_schedule("fastq_pause_schedule") : change(connection, name, is_paused ? PAUSE : RESUME, json);
}

int fastq_list_schedules(fastq_connection connection, const char **json) {
    struct session *s;
    if (json == NULL) {
        return needs_schedule("fastq_list_schedules");
    }
    int code = enter(connection, &s);
    return code != FASTQ_OK ? code : leave(connection, give_list(s, COMMAND_LIST_SCHEDULES, NULL, write_schedule, json));
}
