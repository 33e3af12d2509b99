// Options as lines of key=value, fields as the wire has them, growing tables, time.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "session.h"

bool next_option(const char **at, struct option *option) {
    const char *line = *at;
    while (line != NULL && (*line == '\n' || *line == ' ')) {
        line++;
    }
    if (line == NULL || *line == 0) {
        return false;
    }
    size_t length = strcspn(line, "\n");
    const char *equals = memchr(line, '=', length);
    option->key = line;
    option->key_bytes = equals != NULL ? (size_t)(equals - line) : length;
    option->value = equals != NULL ? equals + 1 : NULL;
    option->value_bytes = equals != NULL ? length - option->key_bytes - 1 : 0;
    *at = line + length;
    return true;
}

bool option_is(const struct option *option, const char *key) { return strlen(key) == option->key_bytes && memcmp(option->key, key, option->key_bytes) == 0; }

static int bad_value(const struct option *option, const char *wanted) {
    return fail(FASTQ_BAD_ARGUMENT, 0, "Option %.*s is %s, not '%.*s'", (int)option->key_bytes, option->key, wanted, (int)option->value_bytes, option->value != NULL ? option->value : "");
}

int unknown_option(const struct option *option) {
    return fail(FASTQ_BAD_ARGUMENT, 0, "There is no option '%.*s'; fastq.h lists them", (int)option->key_bytes, option->key);
}

static bool parse_number(const char *text, size_t length, uint64_t *number) {
    uint64_t value = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned digit = (unsigned char)text[i] - (unsigned)'0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *number = value;
    return length > 0;
}

int option_number(const struct option *option, uint64_t least, uint64_t most, uint64_t *number) {
    if (!parse_number(option->value, option->value_bytes, number) || *number < least || *number > most) {
        char wanted[80];
        snprintf(wanted, sizeof wanted, "a number from %llu to %llu", (unsigned long long)least, (unsigned long long)most);
        return bad_value(option, wanted);
    }
    return FASTQ_OK;
}

bool parse_duration(const char *text, size_t length, uint64_t *milliseconds) {
    static const struct { const char *unit; uint64_t ms; } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t unit = strlen(units[i].unit);
        uint64_t number;
        if (length > unit && memcmp(text + length - unit, units[i].unit, unit) == 0 && parse_number(text, length - unit, &number) && number <= UINT64_MAX / units[i].ms) {
            *milliseconds = number * units[i].ms;
            return true;
        }
    }
    return false;
}

int option_milliseconds(const struct option *option, uint64_t *milliseconds) {
    return option->value != NULL && parse_duration(option->value, option->value_bytes, milliseconds)
        ? FASTQ_OK
        : bad_value(option, "a whole number with ms, s, m, h or d, as 250ms or 30s");
}

int option_switch(const struct option *option, bool *is_on) {
    bool is_yes = option->value == NULL || (option->value_bytes == 3 && memcmp(option->value, "yes", 3) == 0);
    if (!is_yes && !(option->value_bytes == 2 && memcmp(option->value, "no", 2) == 0)) {
        return bad_value(option, "yes or no");
    }
    *is_on = is_yes;
    return FASTQ_OK;
}

int buffer_reserve(struct buffer *buffer, size_t more) {
    if (buffer->size - buffer->length >= more) {
        return FASTQ_OK;
    }
    size_t size = buffer->size < 1024 ? 1024 : buffer->size;
    while (size - buffer->length < more) {
        size *= 2;
    }
    unsigned char *at = realloc(buffer->at, size);
    if (at == NULL) {
        return fail_memory();
    }
    buffer->at = at;
    buffer->size = size;
    return FASTQ_OK;
}

int buffer_add(struct buffer *buffer, const void *bytes, size_t length) {
    int code = buffer_reserve(buffer, length);
    if (code == FASTQ_OK && length > 0) {
        memcpy(buffer->at + buffer->length, bytes, length);
        buffer->length += length;
    }
    return code;
}

bool grow(void **items, size_t *size, size_t count, size_t item_bytes) {
    if (count < *size) {
        return true;
    }
    size_t larger = *size == 0 ? 16 : *size * 2;
    void *again = realloc(*items, larger * item_bytes);
    if (again == NULL) {
        fail_memory();
        return false;
    }
    *items = again;
    *size = larger;
    return true;
}

void put_field(struct field_writer *to, uint16_t tag, const void *value, size_t length) {
    if (to->has_overflowed || length > UINT16_MAX || to->size - to->length < 4 + length) {
        to->has_overflowed = true;
        return;
    }
    uint16_t head[2] = {tag, (uint16_t)length};
    memcpy(to->room + to->length, head, sizeof head);
    if (length > 0) {
        memcpy(to->room + to->length + 4, value, length);
    }
    to->length += 4 + length;
}

void put_number(struct field_writer *to, uint16_t tag, uint64_t number) { put_field(to, tag, &number, sizeof number); }

void put_text(struct field_writer *to, uint16_t tag, const char *text) { put_field(to, tag, text, strlen(text)); }

bool next_field(struct field_reader *from) {
    uint16_t head[2];
    if (from->left < sizeof head) {
        return false;
    }
    memcpy(head, from->at, sizeof head);
    if (from->left - sizeof head < head[1]) {
        from->left = 0;
        return false;
    }
    from->tag = head[0];
    from->bytes = head[1];
    from->value = from->at + sizeof head;
    from->number = 0;
    if (from->bytes == sizeof from->number) {
        memcpy(&from->number, from->value, sizeof from->number);
    }
    from->at += sizeof head + head[1];
    from->left -= sizeof head + head[1];
    return true;
}

bool bytes_of(const unsigned char *fields, size_t length, uint16_t tag, const unsigned char **value, size_t *bytes) {
    struct field_reader reader = {.at = fields, .left = length};
    while (next_field(&reader)) {
        if (reader.tag == tag) {
            *value = reader.value;
            *bytes = reader.bytes;
            return true;
        }
    }
    return false;
}

uint64_t number_of(const unsigned char *fields, size_t length, uint16_t tag) {
    const unsigned char *value;
    size_t bytes;
    uint64_t number = 0;
    if (bytes_of(fields, length, tag, &value, &bytes) && bytes == sizeof number) {
        memcpy(&number, value, sizeof number);
    }
    return number;
}

int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t deadline_in(int64_t wait_ns) {
    int64_t now = wait_ns < 0 ? 0 : now_ns();
    return wait_ns < 0 || wait_ns > INT64_MAX - now ? FOR_EVER : now + wait_ns;
}

bool is_over(int64_t deadline) { return deadline != FOR_EVER && now_ns() >= deadline; }

int milliseconds_left(int64_t deadline) {
    if (deadline == FOR_EVER) {
        return -1;
    }
    int64_t left = deadline - now_ns();
    return left <= 0 ? 0 : left >= (int64_t)INT32_MAX * 1000000 ? INT32_MAX : (int)((left + 999999) / 1000000); // A part of one is a whole one.
}
