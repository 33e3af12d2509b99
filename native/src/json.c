// JSON for the caller: UTF-8 as the broker has taken it, written into the session's text.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "session.h"

int json_add(struct buffer *to, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return buffer_add(to, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

/// A text of anybody's, as the broker has taken it: UTF-8.
int json_string(struct buffer *to, const unsigned char *text, size_t bytes) {
    int code = buffer_add(to, "\"", 1);
    for (size_t i = 0; i < bytes && code == FASTQ_OK; i++) {
        unsigned char one = text[i];
        code = one == '"' || one == '\\' ? json_add(to, "\\%c", one) : one < ' ' ? json_add(to, "\\u%04x", one) : buffer_add(to, &one, 1);
    }
    return code != FASTQ_OK ? code : buffer_add(to, "\"", 1);
}

int json_field(struct buffer *to, const unsigned char *fields, size_t length, const char *key, uint16_t tag) {
    const unsigned char *value = NULL;
    size_t bytes = 0;
    (void)bytes_of(fields, length, tag, &value, &bytes);
    int code = json_add(to, "\"%s\":", key);
    return code != FASTQ_OK ? code : json_string(to, value, bytes);
}

/// Seconds as JSON has them, to a millisecond.
int json_seconds(struct buffer *to, const char *key, uint64_t milliseconds) {
    unsigned rest = (unsigned)(milliseconds % 1000);
    return rest == 0
        ? json_add(to, "\"%s\":%llu", key, (unsigned long long)(milliseconds / 1000))
        : json_add(to, "\"%s\":%llu.%03u", key, (unsigned long long)(milliseconds / 1000), rest);
}

int json_moment(struct buffer *to, const char *key, uint64_t micros) {
    time_t seconds = (time_t)(micros / 1000000);
    struct tm utc;
    char text[32];
    if (micros == 0 || gmtime_r(&seconds, &utc) == NULL || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc) == 0) {
        return json_add(to, "\"%s\":null", key);
    }
    return json_add(to, "\"%s\":\"%s.%06uZ\"", key, text, (unsigned)(micros % 1000000));
}

/// With a point or an exponent, so that its type is seen; the host's locale may write a comma.
int json_double(struct buffer *to, double number) {
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number) {
            break;
        }
    }
    for (char *at = text; *at != 0; at++) {
        *at = *at == ',' ? '.' : *at;
    }
    return json_add(to, "%s%s", text, strpbrk(text, ".e") == NULL ? ".0" : "");
}

static int json_base64(struct buffer *to, uint32_t type, const unsigned char *bytes, size_t length) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    int code = json_add(to, "{\"type\":%u,\"base64\":\"", (unsigned)type);
    for (size_t i = 0; i < length && code == FASTQ_OK; i += 3) {
        size_t left = length - i;
        uint32_t three = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) | (left > 2 ? bytes[i + 2] : 0);
        char four[4] = {digits[three >> 18], digits[three >> 12 & 63], left > 1 ? digits[three >> 6 & 63] : '=', left > 2 ? digits[three & 63] : '='};
        code = buffer_add(to, four, sizeof four);
    }
    return code != FASTQ_OK ? code : json_add(to, "\"}");
}

/// Text, booleans and numbers as JSON has them; all else by its type's number and its bytes.
int json_value(struct buffer *to, const fastq_property *property) {
    int64_t number;
    double real;
    if (property->type == FASTQ_TEXT) {
        return json_string(to, property->value, property->value_bytes);
    }
    if (property->type == FASTQ_BOOLEAN && property->value_bytes == 1 && property->value[0] < 2) {
        return json_add(to, property->value[0] == 1 ? "true" : "false");
    }
    if (property->type == FASTQ_INT64 && property->value_bytes == sizeof number) {
        memcpy(&number, property->value, sizeof number);
        return json_add(to, "%lld", (long long)number);
    }
    if (property->type == FASTQ_DOUBLE && property->value_bytes == sizeof real) {
        memcpy(&real, property->value, sizeof real);
        if (__builtin_isfinite(real)) {
            return json_double(to, real);
        }
    }
    return json_base64(to, property->type, property->value, property->value_bytes);
}

/// The session's text ends, and is the caller's to read until the next call.
int give_json(struct session *s, const char **json) {
    int code = buffer_add(&s->text, "", 1);
    if (code == FASTQ_OK) {
        *json = (const char *)s->text.at;
    }
    return code;
}

/// All that a command lists, of the broker or of one queue, as an array.
int give_list(struct session *s, uint16_t command, const char *queue, int (*write)(struct buffer *to, const unsigned char *fields, size_t length), const char **json) {
    struct field_writer none = {0};
    const unsigned char *fields;
    size_t position = 0, length;
    int code = queue != NULL ? ask_of(s, command, queue, NULL) : ask(s, command, &none);
    s->text.length = 0;
    code = code != FASTQ_OK ? code : json_add(&s->text, "[");
    for (bool is_first = true; code == FASTQ_OK && next_answer(s, &position, &fields, &length) && length > 0; is_first = false) { // The last one is empty.
        code = is_first ? FASTQ_OK : json_add(&s->text, ",");
        code = code != FASTQ_OK ? code : write(&s->text, fields, length);
    }
    code = code != FASTQ_OK ? code : json_add(&s->text, "]");
    return code != FASTQ_OK ? code : give_json(s, json);
}
