// The protocol as it lies in memory: src/FastQ.Protocol/README.md in C. Numbers and names are that page's.
//
//   memory file A, ours:      | ClientControl, 4096 | submission ring |       records below 64
//   memory file B, broker's:  | BrokerControl, 4096 | delivery ring   |       records from 64 on
//
// Records are multiples of 8 in their ring, unpadded in their length. All numbers are little-endian, as every machine is that this runs on.
#ifndef FASTQ_WIRE_H
#define FASTQ_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tables.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the protocol is little-endian");

enum {
    PROTOCOL_MAJOR = 1,
    MAX_REASON_BYTES = 512,
    HANDSHAKE_HEADER_BYTES = 8,
    INSTANCE_BYTES = 16,
};

#define CLIENT_MAGIC 0x41525146u
#define BROKER_MAGIC 0x42525146u
#define HANDSHAKE_MAGIC 0x53485146u

// Byte offsets in the control pages. Each counter has 128 bytes to itself.
enum {
    CLIENT_SUBMISSION_HEAD = 128,
    CLIENT_DELIVERY_POSITION = 256,
    CLIENT_SLEEP_NUMBER = 384,
    BROKER_DELIVERY_HEAD = 128,
    BROKER_SUBMISSION_POSITION = 256,
    BROKER_DECIDED = 384,
    BROKER_WRITTEN = 512,
    BROKER_DURABLE = 640,
    BROKER_SLEEP_NUMBER = 768,
    BROKER_ENDED = 1024,
};

enum { ENTRY_COLD = 1, ENTRY_REDELIVERED = 2, ANSWER_MORE = 1, CONFIRM_MASK = 3, OUTCOME_SHIFT = 4, SETTLE_UNCOUNTED = 0x80, REPLY_WANTS_WORD = 8 };

struct record_prefix { uint32_t length; uint8_t kind, flags; uint16_t small; };
struct message_header { uint32_t length; uint8_t kind, flags; uint16_t property_bytes; uint64_t number_or_time; uint32_t queue, check; uint64_t tag; };
struct settle_record { uint32_t length; uint8_t kind, flags; uint16_t zero; uint64_t number; uint32_t subscription, count; uint64_t first_delivery; int64_t milliseconds; };
struct transaction_header { uint32_t length; uint8_t kind, flags; uint16_t zero; uint64_t number; uint32_t count, reserved; };
struct reply_record { uint32_t length; uint8_t kind, flags; uint16_t property_bytes; uint64_t request, producer, cookie; uint32_t check, part; uint16_t code, small; uint32_t reserved; };
struct command_record { uint32_t length; uint8_t kind, flags; uint16_t command; uint64_t number, cookie; };
struct control_record { uint32_t length; uint8_t kind, flags; uint16_t zero; uint32_t subject, count; uint64_t value, reserved; };
struct deliveries_header { uint32_t length; uint8_t kind, flags; uint16_t count; uint32_t subscription, queue; uint64_t first_delivery, first_tag, first_token; int64_t lease_end_micros; };
struct delivery_entry { uint32_t slot, offset, length; uint16_t delivery_count, flags; };
struct notice_record { uint32_t length; uint8_t kind, flags; uint16_t code; uint64_t number; uint32_t subject, count; uint64_t value, reserved; };
struct answer_record { uint32_t length; uint8_t kind, flags; uint16_t code; uint64_t number, cookie, value; };
struct handshake_header { uint32_t magic; uint16_t kind, zero; };

_Static_assert(sizeof(struct record_prefix) == 8 && sizeof(struct message_header) == 32 && sizeof(struct settle_record) == 40, "as the page says");
_Static_assert(sizeof(struct reply_record) == 48, "as the page says");
_Static_assert(sizeof(struct transaction_header) == 24, "as the page says");
_Static_assert(sizeof(struct command_record) == 24 && sizeof(struct control_record) == 32 && sizeof(struct deliveries_header) == 48, "as the page says");
_Static_assert(sizeof(struct delivery_entry) == 16 && sizeof(struct notice_record) == 40 && sizeof(struct answer_record) == 32, "as the page says");
_Static_assert(sizeof(struct handshake_header) == HANDSHAKE_HEADER_BYTES, "as the page says");

/// The room of a record in its ring.
static inline uint64_t align8(uint64_t bytes) { return (bytes + 7) & ~(uint64_t)7; }

/// CRC-32C over bytes, as in RFC 3720.
uint32_t fastq_check_of(const void *bytes, size_t length);

/// Decodes one LZ4 block of any origin into exactly `size` bytes. False: it is none of that length; nothing is read or written outside.
bool fastq_decode_lz4(const unsigned char *block, size_t length, unsigned char *into, size_t size);

/// Encodes a body of at most MAX_MESSAGE_BYTES as one LZ4 block. 0: it would not fit in `size` bytes.
size_t fastq_encode_lz4(const unsigned char *body, size_t length, unsigned char *into, size_t size);

#endif
