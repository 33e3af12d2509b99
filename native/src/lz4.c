// One LZ4 block: tokens of literals and matches. The input is anybody's, so each length is judged before it steers a read.
//
//   | token: literals' length 4 bits, match's length - 4 4 bits | more length, 255 a byte | literals | offset: u16 | more length |
//
// The last token has literals alone: five bytes at least, and no match begins within the last twelve, as decoders may copy in larger steps.
#include "wire.h"

/// A length that goes on in bytes of 255. False: the block ends within, or the length is beyond all bounds.
static bool read_length(const unsigned char **at, const unsigned char *end, size_t *length) {
    if (*length != 15) {
        return true;
    }
    unsigned char more;
    do {
        if (*at == end || *length > MAX_MESSAGE_BYTES) {
            return false;
        }
        more = *(*at)++;
        *length += more;
    } while (more == 255);
    return true;
}

bool fastq_decode_lz4(const unsigned char *block, size_t length, unsigned char *into, size_t size) {
    if (length == 0 || into == NULL) { // To count from no address is undefined. Room for nothing: a token without literals stands for that.
        return size == 0 && length == 1 && *block >> 4 == 0;
    }
    const unsigned char *at = block, *end = block + length;
    size_t written = 0;
    while (at < end) {
        unsigned token = *at++;
        size_t literals = token >> 4, match = token & 15;
        if (!read_length(&at, end, &literals) || literals > (size_t)(end - at) || literals > size - written) {
            return false;
        }
        if (literals > 0) {
            memcpy(into + written, at, literals);
        }
        at += literals;
        written += literals;
        if (at == end) {
            return written == size;
        }
        if (end - at < 2) {
            return false;
        }
        size_t offset = at[0] | (size_t)at[1] << 8;
        at += 2;
        if (!read_length(&at, end, &match) || offset == 0 || offset > written || match + 4 > size - written) {
            return false;
        }
        for (match += 4; match > 0; match--, written++) { // Byte by byte: a match may overlap what it writes.
            into[written] = into[written - offset];
        }
    }
    return false;
}

// ---- encoding: greedy, by a table of where four bytes were last seen

enum { HASH_BITS = 12, LAST_LITERALS = 5, NO_MATCH_WITHIN = 12, LEAST_MATCH = 4, MOST_OFFSET = 65535, STEPS_BEFORE_LEAP = 64 };

static uint32_t four_at(const unsigned char *at) {
    uint32_t four;
    memcpy(&four, at, sizeof four);
    return four;
}

struct block { unsigned char *at, *end; };

static void put_length(struct block *to, size_t length) {
    for (; length >= 255; length -= 255) {
        *to->at++ = 255;
    }
    *to->at++ = (unsigned char)length;
}

/// Literals, and a match of `match` bytes behind them; 0: the block's end. False: no room.
static bool put_token(struct block *to, const unsigned char *literals, size_t count, size_t offset, size_t match) {
    size_t most = 1 + count / 255 + 1 + count + 2 + match / 255 + 1, more = match > 0 ? match - LEAST_MATCH : 0;
    if (most > (size_t)(to->end - to->at)) {
        return false;
    }
    *to->at++ = (unsigned char)((count < 15 ? count : 15) << 4 | (more < 15 ? more : 15));
    if (count >= 15) {
        put_length(to, count - 15);
    }
    memcpy(to->at, literals, count);
    to->at += count;
    if (match > 0) {
        *to->at++ = (unsigned char)offset;
        *to->at++ = (unsigned char)(offset >> 8);
        if (more >= 15) {
            put_length(to, more - 15);
        }
    }
    return true;
}

size_t fastq_encode_lz4(const unsigned char *body, size_t length, unsigned char *into, size_t size) {
    uint32_t seen[1 << HASH_BITS] = {0}; // Places, one more each: 0 is none.
    struct block to = {.at = into, .end = into + size};
    size_t first = 0, at = 0, end = length > NO_MATCH_WITHIN ? length - NO_MATCH_WITHIN : 0;
    while (at < end) {
        uint32_t four = four_at(body + at), *place = &seen[four * 2654435761u >> (32 - HASH_BITS)];
        size_t before = *place;
        *place = (uint32_t)at + 1;
        if (before == 0 || at - (before - 1) > MOST_OFFSET || four_at(body + before - 1) != four) {
            at += 1 + (at - first) / STEPS_BEFORE_LEAP; // What does not compress is soon over.
            continue;
        }
        size_t match = LEAST_MATCH, most = length - LAST_LITERALS - at;
        while (match < most && body[before - 1 + match] == body[at + match]) {
            match++;
        }
        if (!put_token(&to, body + first, at - first, at - (before - 1), match)) {
            return 0;
        }
        at += match;
        first = at;
    }
    return length > 0 && put_token(&to, body + first, length - first, 0, 0) ? (size_t)(to.at - into) : 0;
}
