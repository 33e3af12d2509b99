// Properties of a message: | tag: u8 | type: u8 | length: u16 | value |, in a row. Read as anybody's bytes; written into the caller's room.
#include "session.h"

static int too_large(void) { return fail(FASTQ_TOO_LARGE, MAX_PROPERTY_BYTES, "The room for properties is too small, or a value has more than 65,535 bytes"); }

/// Where a value of this length is to be written; NULL: there is no room.
static unsigned char *put_head(void *room, size_t room_bytes, size_t *length, uint32_t tag, uint32_t type, size_t value_bytes) {
    if (*length > room_bytes || value_bytes > UINT16_MAX || room_bytes - *length < 4 + value_bytes) {
        return NULL;
    }
    unsigned char *at = (unsigned char *)room + *length;
    at[0] = (unsigned char)tag;
    at[1] = (unsigned char)type;
    at[2] = (unsigned char)value_bytes;
    at[3] = (unsigned char)(value_bytes >> 8);
    *length += 4 + value_bytes;
    return at + 4;
}

int fastq_put_text(void *room, size_t room_bytes, size_t *length, uint32_t tag, const char *text) {
    if (room == NULL || length == NULL || text == NULL || tag <= FASTQ_HEADER || tag > UINT8_MAX) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_put_text needs room, a length, a tag from 2 to 255 and a text");
    }
    size_t bytes = strlen(text);
    unsigned char *value = put_head(room, room_bytes, length, tag, FASTQ_TEXT, bytes);
    if (value == NULL) {
        return too_large();
    }
    memcpy(value, text, bytes);
    return FASTQ_OK;
}

int fastq_put_number(void *room, size_t room_bytes, size_t *length, uint32_t tag, int64_t number) {
    if (room == NULL || length == NULL || tag <= FASTQ_HEADER || tag > UINT8_MAX) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_put_number needs room, a length and a tag from 2 to 255");
    }
    unsigned char *value = put_head(room, room_bytes, length, tag, tag == FASTQ_DELIVER_AT ? FASTQ_TIMESTAMP : FASTQ_INT64, sizeof number);
    if (value == NULL) {
        return too_large();
    }
    memcpy(value, &number, sizeof number);
    return FASTQ_OK;
}

int fastq_put_header(void *room, size_t room_bytes, size_t *length, const char *key, uint32_t type, const void *value, size_t value_bytes) {
    size_t key_bytes = key == NULL ? 0 : strlen(key);
    if (room == NULL || length == NULL || (value == NULL && value_bytes > 0) || type > UINT8_MAX || key_bytes == 0 || key_bytes > UINT8_MAX) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_put_header needs room, a length, a key of 1 to 255 bytes and a value");
    }
    unsigned char *at = value_bytes > UINT16_MAX ? NULL : put_head(room, room_bytes, length, FASTQ_HEADER, type, 1 + key_bytes + value_bytes);
    if (at == NULL) {
        return too_large();
    }
    *at++ = (unsigned char)key_bytes;
    memcpy(at, key, key_bytes);
    if (value_bytes > 0) {
        memcpy(at + key_bytes, value, value_bytes);
    }
    return FASTQ_OK;
}

/// False: the end, or what is there is cut short; then *is_whole is false.
static bool read_property(const unsigned char *properties, size_t length, size_t *position, fastq_property *property, bool *is_whole) {
    memset(property, 0, sizeof *property);
    *is_whole = *position == length;
    if (*position >= length || length - *position < 4) {
        return false;
    }
    const unsigned char *at = properties + *position;
    size_t bytes = at[2] | (size_t)at[3] << 8;
    if (length - *position - 4 < bytes) {
        return false;
    }
    const unsigned char *value = at + 4;
    if (at[0] == FASTQ_HEADER) {
        if (bytes == 0 || value[0] == 0 || bytes - 1 < value[0]) {
            return false;
        }
        property->key = (const char *)value + 1;
        property->key_bytes = value[0];
    }
    size_t skipped = property->key != NULL ? 1 + property->key_bytes : 0;
    property->tag = at[0];
    property->type = at[1];
    property->value = value + skipped;
    property->value_bytes = bytes - skipped;
    *position += 4 + bytes;
    *is_whole = true;
    return true;
}

int fastq_next_property(const void *properties, size_t property_bytes, size_t *position, fastq_property *property) {
    if ((properties == NULL && property_bytes > 0) || position == NULL || property == NULL) {
        return fail(FASTQ_BAD_ARGUMENT, 0, "fastq_next_property needs properties, a position and a property to fill");
    }
    bool is_whole;
    while (read_property(properties, property_bytes, position, property, &is_whole)) {
        if (property->tag != 0) { // 0 is of no meaning, and says here that there is none.
            return FASTQ_OK;
        }
    }
    return FASTQ_OK;
}

bool properties_are_whole(const unsigned char *properties, size_t length) {
    fastq_property property;
    size_t position = 0;
    bool is_whole = true;
    while (read_property(properties, length, &position, &property, &is_whole)) {
    }
    return is_whole;
}

bool find_encoding(const unsigned char *properties, size_t length, fastq_property *encoding) {
    size_t position = 0;
    bool is_whole;
    while (read_property(properties, length, &position, encoding, &is_whole)) {
        if (encoding->tag == FASTQ_BODY_ENCODING) {
            return true;
        }
    }
    return false;
}
