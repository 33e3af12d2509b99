// One LZ4 block: tokens of literals and matches. The input is anybody's, so each length is judged before it steers a read.
//
//   | token: literals' length 4 bits, match's length - 4 4 bits | more length, 255 a byte | literals | offset: u16 | more length |
//
// The last token has literals alone.
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
