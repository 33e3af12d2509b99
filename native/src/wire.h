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

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the protocol is little-endian");

enum {
    PROTOCOL_MAJOR = 1,
    CONTROL_PAGE_BYTES = 4096,
    MIN_RING_BYTES = 65536,
    DEFAULT_RING_BYTES = 262144,
    MAX_LOAD_RING_BYTES = 4194304,
    MAX_RING_BYTES = 67108864,
    MAX_MESSAGE_BYTES = 16777216,
    MAX_PROPERTY_BYTES = 32768,
    MAX_WORDS_BYTES = 2048,
    MAX_REASON_BYTES = 512,
    MAX_NAME_BYTES = 255,
    MAX_SETTLE_RANGE = 1048576,
    MAX_RUN_ENTRIES = 512,
    MAX_CREDIT = 1048576,
    MAX_HANDSHAKE_BYTES = 4096,
    HANDSHAKE_MILLISECONDS = 5000,
    HANDSHAKE_HEADER_BYTES = 8,
    MAX_SLOTS_PER_MESSAGE = 8,
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

enum handshake_kind { HELLO = 1, WELCOME = 2, MAPPED = 3, REFUSED_HANDSHAKE = 4, SLOTS = 5, RINGS = 6, ENDED = 7 };

enum record_kind {
    MESSAGE = 1, SETTLE = 2, EXTEND = 3, COMMAND = 4,
    CREDIT = 32, DONE = 33, REFUSALS_SEEN = 34, SLOTS_MAPPED = 35, GROW_RINGS = 36, CLIENT_MOVES_RING = 37, DAMAGED = 38, BYE = 39,
    DELIVERIES = 64, DELIVERY_COPY = 65, REFUSED = 66, ANSWER = 67, LATE_SETTLE = 68, SLOT_RETIRED = 69, BROKER_MOVES_RING = 70, SUBSCRIPTION_ENDED = 71,
};

enum command_kind {
    DECLARE_QUEUE = 1, DELETE_QUEUE = 2, PURGE_QUEUE = 3, SHOW_QUEUE = 5, LIST_QUEUES = 6, SUBSCRIBE = 7, UNSUBSCRIBE = 8, RESUME_SUBSCRIPTION = 9,
    STATISTICS = 10, SYNC = 11, BROWSE_QUEUE = 12, CHANGE_QUEUE = 13, PAUSE_QUEUE = 14, DELETE_MESSAGE = 15, CHANGE_MESSAGE = 16,
    START_SWEEP = 17, SHOW_SWEEP = 18, CANCEL_SWEEP = 19,
};

enum field_tag {
    NAME = 1, QUEUE = 2, LEASE_MILLISECONDS = 3, CREATED = 4, READY = 5, IN_FLIGHT = 6, DELAYED = 7, DAMAGED_MESSAGES = 8, MESSAGES = 9, BYTES = 10,
    CONSUMERS = 11, SUBSCRIPTION = 12, CREDIT_MESSAGES = 13, CREDIT_BYTES = 14, FIRST_DELIVERY = 15, PUBLISHED = 16, ACCEPTED = 17, REJECTED = 18,
    REDELIVERED = 19, PURGED = 20, JSON = 21, TEXT = 22, TAG = 24, STATE = 25, DELIVERY_COUNT = 26, OWNER = 27, LEASE_LEFT_MILLISECONDS = 28,
    BODY_BYTES = 29, BODY = 30, PROPERTIES = 31, TIME_MICROS = 32, MOST = 33, DELAY_MILLISECONDS = 34, DUE_MICROS = 35, TTL_MILLISECONDS = 36,
    MAX_DELIVERIES = 37, BACKOFF_FIRST_MILLISECONDS = 38, BACKOFF_FACTOR_PERMILLE = 39, BACKOFF_MOST_MILLISECONDS = 40, DEAD_LETTER = 41,
    EXHAUSTED = 42, EXPIRED = 43, DEAD_LETTERING = 44, DEAD_LETTERED = 45, REASON = 46, DETAILS = 47, STOPPED = 51, MAX_LENGTH = 52, MAX_BYTES = 53,
    OVERFLOW_ACTION = 54, MAX_MESSAGE_SIZE = 55, OVERFLOWED = 56, PAUSED = 57, PRIORITY = 58, PRIORITY_SHARE = 59, FIFO = 60, FAIR = 61,
    FAIR_WEIGHTS = 62, SINGLE_ACTIVE = 63, MIN_VERSION = 64, MAX_VERSION = 65, CLIENT_NAME = 66, INSTANCE = 67, PRODUCER = 69, CLAIMED_DURABLE = 70,
    SUBMISSION_RING_BYTES = 71, DELIVERY_RING_BYTES = 72, WANTS_COPIES = 73, EPOCH = 74, MAX_MESSAGE_BYTES_FIELD = 78, SLOT_BYTES = 79, CODE = 80,
    SLOT = 81, RING = 82, SERVER_VERSION = 83, NEXT_NUMBER = 85, FENCES_ALL = 86, CONSUMER_PRIORITY = 87, EXCLUSIVE = 88, BEHIND = 89, MOVED = 90,
    TARGET = 91, FILTER = 92, ACTION = 93, RATE = 94, SWEPT = 95, FAILED = 96, DEDUP_MILLISECONDS = 97, DEDUP_BY_GROUP = 98, REQUIRE = 100,
    LZ4_FROM_BYTES = 101,
};

enum { ENTRY_COLD = 1, ENTRY_REDELIVERED = 2, ANSWER_MORE = 1, CONFIRM_MASK = 3, OUTCOME_SHIFT = 4, SETTLE_UNCOUNTED = 0x80, BODY_ENCODING_TAG = 10, TEXT_TYPE = 0, BYTES_TYPE = 4, HEADER_TAG = 1 };

struct record_prefix { uint32_t length; uint8_t kind, flags; uint16_t small; };
struct message_header { uint32_t length; uint8_t kind, flags; uint16_t property_bytes; uint64_t number_or_time; uint32_t queue, check; uint64_t tag; };
struct settle_record { uint32_t length; uint8_t kind, flags; uint16_t zero; uint64_t number; uint32_t subscription, count; uint64_t first_delivery; int64_t milliseconds; };
struct command_record { uint32_t length; uint8_t kind, flags; uint16_t command; uint64_t number, cookie; };
struct control_record { uint32_t length; uint8_t kind, flags; uint16_t zero; uint32_t subject, count; uint64_t value, reserved; };
struct deliveries_header { uint32_t length; uint8_t kind, flags; uint16_t count; uint32_t subscription, queue; uint64_t first_delivery, first_tag, first_token; int64_t lease_end_micros; };
struct delivery_entry { uint32_t slot, offset, length; uint16_t delivery_count, flags; };
struct notice_record { uint32_t length; uint8_t kind, flags; uint16_t code; uint64_t number; uint32_t subject, count; uint64_t value, reserved; };
struct answer_record { uint32_t length; uint8_t kind, flags; uint16_t code; uint64_t number, cookie, value; };
struct handshake_header { uint32_t magic; uint16_t kind, zero; };

_Static_assert(sizeof(struct record_prefix) == 8 && sizeof(struct message_header) == 32 && sizeof(struct settle_record) == 40, "as the page says");
_Static_assert(sizeof(struct command_record) == 24 && sizeof(struct control_record) == 32 && sizeof(struct deliveries_header) == 48, "as the page says");
_Static_assert(sizeof(struct delivery_entry) == 16 && sizeof(struct notice_record) == 40 && sizeof(struct answer_record) == 32, "as the page says");
_Static_assert(sizeof(struct handshake_header) == HANDSHAKE_HEADER_BYTES, "as the page says");

/// The room of a record in its ring.
static inline uint64_t align8(uint64_t bytes) { return (bytes + 7) & ~(uint64_t)7; }

/// CRC-32C over bytes, as in RFC 3720.
uint32_t fastq_check_of(const void *bytes, size_t length);

/// Decodes one LZ4 block of any origin into exactly `size` bytes. False: it is none of that length; nothing is read or written outside.
bool fastq_decode_lz4(const unsigned char *block, size_t length, unsigned char *into, size_t size);

#endif
