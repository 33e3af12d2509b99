// CRC-32C (Castagnoli), as in RFC 3720: by the processor's instruction where it is there, else by a table.
#include "wire.h"

#include <stdatomic.h>

static uint32_t by_table(uint32_t crc, const unsigned char *at, size_t length) {
    // Sixteen entries, half a byte a step: small enough to need no start-up.
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
        0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };
    for (size_t i = 0; i < length; i++) {
        crc ^= at[i];
        crc = table[crc & 15] ^ (crc >> 4);
        crc = table[crc & 15] ^ (crc >> 4);
    }
    return crc;
}

#ifdef __x86_64__
#include <nmmintrin.h>

// The instruction takes three cycles and one can begin in each: long texts go in three lanes, and what a lane gives is carried over the next
// lane's bytes by multiplying with x^(8 x LANE) in the check's field.
enum { LANE = 1024 };

static uint32_t times_x_to_lane(uint32_t crc) {
    static _Atomic uint32_t powers[32]; // powers[i]: what bit i becomes over LANE zero bytes; all written before ready is.
    static _Atomic int ready;
    if (!atomic_load_explicit(&ready, memory_order_acquire)) {
        static const unsigned char zeroes[LANE];
        for (int bit = 0; bit < 32; bit++) {
            atomic_store_explicit(&powers[bit], by_table(1u << bit, zeroes, LANE), memory_order_relaxed);
        }
        atomic_store_explicit(&ready, 1, memory_order_release);
    }
    uint32_t result = 0;
    for (int bit = 0; bit < 32; bit++) {
        result ^= atomic_load_explicit(&powers[bit], memory_order_relaxed) & -(crc >> bit & 1);
    }
    return result;
}

static inline uint64_t word_at(const unsigned char *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const unsigned char *at, size_t length) {
    while (length >= 3 * LANE) {
        uint64_t first = crc, second = 0, third = 0;
        for (int i = 0; i < LANE; i += 8) {
            first = _mm_crc32_u64(first, word_at(at + i));
            second = _mm_crc32_u64(second, word_at(at + LANE + i));
            third = _mm_crc32_u64(third, word_at(at + 2 * LANE + i));
        }
        crc = times_x_to_lane(times_x_to_lane((uint32_t)first) ^ (uint32_t)second) ^ (uint32_t)third;
        at += 3 * LANE;
        length -= 3 * LANE;
    }
    uint64_t wide = crc;
    for (; length >= 8; at += 8, length -= 8) {
        wide = _mm_crc32_u64(wide, word_at(at));
    }
    crc = (uint32_t)wide;
    for (; length > 0; at++, length--) {
        crc = _mm_crc32_u8(crc, *at);
    }
    return crc;
}

uint32_t fastq_check_of(const void *bytes, size_t length) {
    return ~(__builtin_cpu_supports("sse4.2") ? by_instruction(~0u, bytes, length) : by_table(~0u, bytes, length));
}
#else
uint32_t fastq_check_of(const void *bytes, size_t length) { return ~by_table(~0u, bytes, length); }
#endif
