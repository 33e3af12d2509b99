// The protocol's byte vectors (tests/vectors) through the library's own structs, readers and writers: vectors FOLDER [WORD].
#include "../src/session.h"
#include "harness.h"

static const char *folder;

enum { MOST_BYTES = 8192, MOST_LINES = 1024 };

/// A line of a vector: where its bytes begin, the name and the value that its words say.
typedef struct { size_t at; char name[40]; char value[80]; } line;
typedef struct { unsigned char bytes[MOST_BYTES]; size_t length; line lines[MOST_LINES]; int line_count; } vector;

static vector read_vector(const char *file) {
    static vector v;
    char path[512], text[512];
    memset(&v, 0, sizeof v);
    snprintf(path, sizeof path, "%s/%s", folder, file);
    FILE *input = fopen(path, "r");
    if (!CHECK(input != NULL)) {
        printf("    %s is not there\n", path);
        return v;
    }
    while (fgets(text, sizeof text, input) != NULL) {
        char *words = strchr(text, '#');
        size_t at = v.length;
        if (words != NULL) {
            *words++ = 0;
        }
        for (char *byte = strtok(text, " \n"); byte != NULL; byte = strtok(NULL, " \n")) {
            v.bytes[v.length++] = (unsigned char)strtoul(byte, NULL, 16);
        }
        if (words != NULL && v.length > at) {
            line *one = &v.lines[v.line_count++];
            one->at = at;
            sscanf(words, " %39s %79[^\n]", one->name, one->value);
        }
    }
    fclose(input);
    return v;
}

/// The number that the words say stands at a place under a name.
static bool says(const vector *v, size_t at, const char *name, uint64_t number) {
    for (int i = 0; i < v->line_count; i++) {
        if (v->lines[i].at == at && strcmp(v->lines[i].name, name) == 0) {
            uint64_t said = v->lines[i].value[0] == '-' ? (uint64_t)strtoll(v->lines[i].value, NULL, 10) : strtoull(v->lines[i].value, NULL, 10);
            return said == number;
        }
    }
    return false;
}

// A field of a struct is where the vector says, and reads as the vector says.
#define FIELD_IS(v, base, record, type, field, name) CHECK(says(&(v), (base) + offsetof(struct type, field), name, (uint64_t)(record).field))

static void a_message_is_laid_out_checked_and_written_as_its_vector(void) {
    vector v = read_vector("record-Message.hex");
    struct message_header header;
    memcpy(&header, v.bytes, sizeof header);
    FIELD_IS(v, 0, header, message_header, length, "LengthBytes");
    FIELD_IS(v, 0, header, message_header, kind, "Kind");
    FIELD_IS(v, 0, header, message_header, flags, "Flags");
    FIELD_IS(v, 0, header, message_header, property_bytes, "PropertyBytes");
    FIELD_IS(v, 0, header, message_header, number_or_time, "NumberOrTimeMicros");
    FIELD_IS(v, 0, header, message_header, queue, "Queue");
    FIELD_IS(v, 0, header, message_header, check, "Check");
    FIELD_IS(v, 0, header, message_header, tag, "Tag");
    CHECK(header.kind == KIND_MESSAGE && header.check == fastq_check_of(v.bytes + sizeof header, header.length - sizeof header));
    unsigned char properties[64];
    size_t length = 0;
    CHECK_OK(fastq_put_text(properties, sizeof properties, &length, FASTQ_MESSAGE_ID, "m-1"));
    CHECK_OK(fastq_put_header(properties, sizeof properties, &length, "colour", FASTQ_TEXT, "blue", 4));
    CHECK(length == header.property_bytes && memcmp(properties, v.bytes + sizeof header, length) == 0);
}

static void settlements_are_laid_out_as_their_vectors(void) {
    static const struct { const char *file; int kind; } files[] = {{"record-Settle.hex", KIND_SETTLE}, {"record-Extend.hex", KIND_EXTEND}};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        vector v = read_vector(files[i].file);
        struct settle_record record;
        memcpy(&record, v.bytes, sizeof record);
        CHECK(record.kind == files[i].kind && record.length == sizeof record);
        FIELD_IS(v, 0, record, settle_record, number, "Number");
        FIELD_IS(v, 0, record, settle_record, subscription, "Subscription");
        FIELD_IS(v, 0, record, settle_record, count, "Count");
        FIELD_IS(v, 0, record, settle_record, first_delivery, "FirstDelivery");
        FIELD_IS(v, 0, record, settle_record, milliseconds, "Milliseconds");
    }
    vector v = read_vector("record-Settle.hex"); // 7 deliveries are rejected, and this is to be written.
    struct settle_record record;
    memcpy(&record, v.bytes, sizeof record);
    CHECK(record.flags == (FASTQ_WRITTEN | FASTQ_REJECT << OUTCOME_SHIFT));
}

static void transactions_are_laid_out_as_their_vector(void) {
    vector v = read_vector("record-Transaction.hex");
    struct transaction_header header;
    struct message_header message;
    struct settle_record settle;
    memcpy(&header, v.bytes, sizeof header);
    CHECK(header.kind == KIND_TRANSACTION && header.flags == FASTQ_DURABLE && header.length == v.length);
    FIELD_IS(v, 0, header, transaction_header, number, "Number");
    FIELD_IS(v, 0, header, transaction_header, count, "Count");
    memcpy(&message, v.bytes + sizeof header, sizeof message);
    memcpy(&settle, v.bytes + sizeof header + align8(message.length), sizeof settle);
    CHECK(message.kind == KIND_MESSAGE && message.number_or_time == header.number && settle.kind == KIND_SETTLE && settle.number == header.number + 1);
}

static void replies_are_laid_out_as_their_vectors(void) {
    static const struct { const char *file; int kind; } files[] = {{"Reply", KIND_REPLY}, {"RepliesUnwanted", KIND_REPLIES_UNWANTED}, {"ReplyDelivered", KIND_REPLY_DELIVERED}};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        char file[64];
        snprintf(file, sizeof file, "record-%s.hex", files[i].file);
        vector v = read_vector(file);
        struct reply_record record;
        memcpy(&record, v.bytes, sizeof record);
        CHECK(record.kind == files[i].kind);
        FIELD_IS(v, 0, record, reply_record, property_bytes, "PropertyBytes");
        FIELD_IS(v, 0, record, reply_record, request, "Request");
        FIELD_IS(v, 0, record, reply_record, producer, "Producer");
        FIELD_IS(v, 0, record, reply_record, cookie, "Cookie");
        FIELD_IS(v, 0, record, reply_record, check, "Check");
        FIELD_IS(v, 0, record, reply_record, part, "Part");
        FIELD_IS(v, 0, record, reply_record, code, "Code");
        if (record.length > sizeof record) {
            CHECK(record.check == fastq_check_of(v.bytes + sizeof record, record.length - sizeof record));
        }
    }
    vector v = read_vector("record-Reply.hex");
    CHECK(v.bytes[5] == REPLY_WANTS_WORD);
    v = read_vector("record-ReplyDelivered.hex");
    CHECK(v.bytes[5] == FASTQ_LAST);
}

static void control_records_are_laid_out_as_their_vectors(void) {
    static const struct { const char *file; int kind; } files[] = {
        {"Credit", KIND_CREDIT}, {"Done", KIND_DONE}, {"RefusalsSeen", KIND_REFUSALS_SEEN}, {"SlotsMapped", KIND_SLOTS_MAPPED}, {"GrowRings", KIND_GROW_RINGS},
        {"ClientMovesRing", KIND_CLIENT_MOVES_RING}, {"Damaged", KIND_DAMAGED}, {"Bye", KIND_BYE},
    };
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        char file[64];
        snprintf(file, sizeof file, "record-%s.hex", files[i].file);
        vector v = read_vector(file);
        struct control_record record;
        memcpy(&record, v.bytes, sizeof record);
        CHECK(v.length == sizeof record && record.length == sizeof record && record.kind == files[i].kind);
        FIELD_IS(v, 0, record, control_record, subject, "Subject");
        FIELD_IS(v, 0, record, control_record, count, "Count");
        FIELD_IS(v, 0, record, control_record, value, "Value");
    }
}

static void commands_and_answers_are_laid_out_as_their_vectors(void) {
    vector v = read_vector("record-Command.hex");
    struct command_record command;
    memcpy(&command, v.bytes, sizeof command);
    CHECK(command.kind == KIND_COMMAND);
    FIELD_IS(v, 0, command, command_record, command, "Command");
    FIELD_IS(v, 0, command, command_record, number, "Number");
    FIELD_IS(v, 0, command, command_record, cookie, "Cookie");
    v = read_vector("record-Answer.hex");
    struct answer_record answer;
    memcpy(&answer, v.bytes, sizeof answer);
    CHECK(answer.kind == KIND_ANSWER);
    FIELD_IS(v, 0, answer, answer_record, code, "Code");
    FIELD_IS(v, 0, answer, answer_record, number, "Number");
    FIELD_IS(v, 0, answer, answer_record, cookie, "Cookie");
    FIELD_IS(v, 0, answer, answer_record, value, "Value");
}

static void deliveries_are_laid_out_as_their_vectors(void) {
    static const struct { const char *file; int kind; } files[] = {{"record-Deliveries.hex", KIND_DELIVERIES}, {"record-DeliveryCopy.hex", KIND_DELIVERY_COPY}};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        vector v = read_vector(files[i].file);
        struct deliveries_header header;
        struct delivery_entry entry;
        memcpy(&header, v.bytes, sizeof header);
        memcpy(&entry, v.bytes + sizeof header, sizeof entry);
        CHECK(header.kind == files[i].kind);
        FIELD_IS(v, 0, header, deliveries_header, count, "Count");
        FIELD_IS(v, 0, header, deliveries_header, subscription, "Subscription");
        FIELD_IS(v, 0, header, deliveries_header, queue, "Queue");
        FIELD_IS(v, 0, header, deliveries_header, first_delivery, "FirstDelivery");
        FIELD_IS(v, 0, header, deliveries_header, first_tag, "FirstTag");
        FIELD_IS(v, 0, header, deliveries_header, first_token, "FirstToken");
        FIELD_IS(v, 0, header, deliveries_header, lease_end_micros, "LeaseEndMicros");
        FIELD_IS(v, sizeof header, entry, delivery_entry, slot, "Slot");
        FIELD_IS(v, sizeof header, entry, delivery_entry, offset, "Offset");
        FIELD_IS(v, sizeof header, entry, delivery_entry, length, "LengthBytes");
        FIELD_IS(v, sizeof header, entry, delivery_entry, delivery_count, "DeliveryCount");
        FIELD_IS(v, sizeof header, entry, delivery_entry, flags, "Flags");
    }
}

static void notices_are_laid_out_as_their_vectors_and_each_refusal_has_its_name(void) {
    static const struct { const char *file; int kind; } files[] = {
        {"Refused", KIND_REFUSED}, {"LateSettle", KIND_LATE_SETTLE}, {"SlotRetired", KIND_SLOT_RETIRED}, {"BrokerMovesRing", KIND_BROKER_MOVES_RING}, {"SubscriptionEnded", KIND_SUBSCRIPTION_ENDED}, {"ReplyEnded", KIND_REPLY_ENDED},
    };
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        char file[64];
        snprintf(file, sizeof file, "record-%s.hex", files[i].file);
        vector v = read_vector(file);
        struct notice_record record;
        memcpy(&record, v.bytes, sizeof record);
        CHECK(record.kind == files[i].kind);
        FIELD_IS(v, 0, record, notice_record, code, "Code");
        FIELD_IS(v, 0, record, notice_record, number, "Number");
        FIELD_IS(v, 0, record, notice_record, subject, "Subject");
        FIELD_IS(v, 0, record, notice_record, count, "Count");
        FIELD_IS(v, 0, record, notice_record, value, "Value");
    }
    vector v = read_vector("refusals.hex");
    int refusals = 0;
    for (size_t at = 0; at < v.length; refusals++) {
        struct notice_record record;
        memcpy(&record, v.bytes + at, sizeof record);
        const char *name = fastq_code_name(record.code);
        if (!CHECK(record.length >= sizeof record && strlen(name) == record.length - sizeof record && memcmp(name, v.bytes + at + sizeof record, strlen(name)) == 0)) {
            return;
        }
        at += align8(record.length);
    }
    CHECK(refusals >= FASTQ_DUPLICATE);
}

static void the_sockets_messages_read_as_their_vectors_say(void) {
    static const struct { const char *file; int kind; } files[] = {
        {"Hello", HANDSHAKE_HELLO}, {"Welcome", HANDSHAKE_WELCOME}, {"Mapped", HANDSHAKE_MAPPED}, {"Refused", HANDSHAKE_REFUSED}, {"Slots", HANDSHAKE_SLOTS}, {"Rings", HANDSHAKE_RINGS}, {"Ended", HANDSHAKE_ENDED},
    };
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        char file[64];
        snprintf(file, sizeof file, "socket-%s.hex", files[i].file);
        vector v = read_vector(file);
        struct packet packet = {.length = v.length};
        uint16_t kind = 0;
        struct field_reader fields = {0};
        memcpy(packet.bytes, v.bytes, v.length);
        CHECK(is_handshake(&packet, &kind, &fields) && kind == files[i].kind);
        while (next_field(&fields)) {
            size_t at = (size_t)(fields.value - packet.bytes);
            CHECK(fields.bytes != 8 || says(&v, at, "number", fields.number));
        }
        CHECK(fields.left == 0);
        packet.bytes[0] ^= 1;
        CHECK(!is_handshake(&packet, &kind, &fields));
    }
}

static void properties_read_as_their_vector_says_to_the_last_byte(void) {
    vector v = read_vector("properties.hex");
    fastq_property property;
    size_t position = 0;
    int seen = 0;
    for (int i = 0; i < v.line_count; i++) {
        if (strcmp(v.lines[i].name, "tag") != 0 || v.lines[i].at != position) {
            continue;
        }
        CHECK_OK(fastq_next_property(v.bytes, v.length, &position, &property));
        CHECK(says(&v, v.lines[i].at, "tag", property.tag) && says(&v, v.lines[i].at + 1, "type", property.type));
        seen++;
    }
    CHECK(seen > 20 && position == v.length && properties_are_whole(v.bytes, v.length));
    for (size_t cut = 1; cut < v.length; cut++) { // Cut short anywhere they end sooner, and nothing is read beyond.
        unsigned char *part = malloc(cut);
        memcpy(part, v.bytes, cut);
        position = 0;
        do {
            CHECK_OK(fastq_next_property(part, cut, &position, &property));
        } while (property.tag != 0);
        CHECK(position <= cut);
        free(part);
    }
}

static void the_check_is_crc_32c_however_long_the_text(void) {
    unsigned char bytes[10000];
    memset(bytes, 0, sizeof bytes);
    CHECK(fastq_check_of(bytes, 0) == 0 && fastq_check_of(bytes, 32) == 0x8a9136aa && fastq_check_of("123456789", 9) == 0xe3069283); // RFC 3720, B.4.
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)(i * 131 + i / 256);
    }
    for (size_t length = 0; length < sizeof bytes; length += 1 + length / 3) {
        uint32_t plain = ~0u; // Bit by bit, as the polynomial says.
        for (size_t i = 0; i < length; i++) {
            plain ^= bytes[i];
            for (int bit = 0; bit < 8; bit++) {
                plain = (plain & 1) != 0 ? plain >> 1 ^ 0x82f63b78 : plain >> 1;
            }
        }
        CHECK(fastq_check_of(bytes, length) == ~plain);
    }
}

static void a_block_of_lz4_of_any_bytes_is_decoded_or_refused_and_nothing_else_is_touched(void) {
    static const unsigned char good[] = {0x4f, 'a', 'b', 'c', 'd', 4, 0, 4, 0x50, 'd', 'a', 'b', 'c', 'd'};
    unsigned char into[64];
    CHECK(fastq_decode_lz4(good, sizeof good, into, 32) && memcmp(into, "abcdabcdabcdabcdabcdabcdabcdabcd", 32) == 0);
    CHECK(!fastq_decode_lz4(good, sizeof good, into, 31) && !fastq_decode_lz4(good, sizeof good, into, 33));
    uint64_t dice = 88172645463325252u;
    for (int round = 0; round < 200000; round++) { // Each in memory of its own size, so that the sanitizers see a byte too many.
        dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
        size_t length = dice % 24, size = (dice >> 8) % 64;
        unsigned char *block = malloc(length + 1), *room = malloc(size + 1);
        for (size_t i = 0; i < length; i++) {
            block[i] = i < sizeof good && (dice >> 16) % 2 == 0 ? good[i] : (unsigned char)(dice >> (i % 56));
        }
        if (length > 0) {
            block[(dice >> 20) % length] ^= (unsigned char)(dice >> 40);
        }
        unsigned char *exact = realloc(block, length > 0 ? length : 1);
        (void)fastq_decode_lz4(exact, length, room, size);
        free(exact);
        free(room);
    }
}

static void what_is_encoded_is_decoded_and_never_written_beyond_its_room(void) {
    enum { MOST = 70000 };
    static unsigned char body[MOST], again[MOST];
    uint64_t dice = 88172645463325252u;
    for (int round = 0; round < 3000; round++) {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        size_t length = (size_t)(dice >> 8) % (round % 10 == 0 ? MOST : 600) + 1;
        unsigned kinds = 1 + (unsigned)(dice >> 40) % 9;
        for (size_t i = 0; i < length; i++) { // From noise of few kinds to long repeats.
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            body[i] = i > 40 && dice % 5 > 0 ? body[i - 1 - dice / 8 % 40] : (unsigned char)(dice % kinds * 37);
        }
        size_t size = length - (length > 20 ? dice % 12 : 0);
        unsigned char *block = malloc(size); // Exactly so long: the sanitizer sees what lies beyond.
        size_t written = fastq_encode_lz4(body, length, block, size);
        CHECK(written <= size);
        if (written > 0) {
            unsigned char *copy = malloc(written);
            memcpy(copy, block, written);
            CHECK(fastq_decode_lz4(copy, written, again, length) && memcmp(again, body, length) == 0);
            free(copy);
        }
        free(block);
    }
    memset(body, 'a', MOST);
    CHECK(fastq_encode_lz4(body, MOST, again, MOST) < 400 && fastq_encode_lz4(body, MOST, again, 100) == 0 && fastq_encode_lz4(body, 0, again, 100) == 0);
    CHECK(fastq_encode_lz4(body, 1, again, 2) == 0 || again[1] == 'a');
}

int main(int count, char **arguments) {
    static const test tests[] = {
#define TEST(name) {#name, name}
        TEST(a_message_is_laid_out_checked_and_written_as_its_vector),
        TEST(settlements_are_laid_out_as_their_vectors),
        TEST(transactions_are_laid_out_as_their_vector),
        TEST(replies_are_laid_out_as_their_vectors),
        TEST(control_records_are_laid_out_as_their_vectors),
        TEST(commands_and_answers_are_laid_out_as_their_vectors),
        TEST(deliveries_are_laid_out_as_their_vectors),
        TEST(notices_are_laid_out_as_their_vectors_and_each_refusal_has_its_name),
        TEST(the_sockets_messages_read_as_their_vectors_say),
        TEST(properties_read_as_their_vector_says_to_the_last_byte),
        TEST(the_check_is_crc_32c_however_long_the_text),
        TEST(a_block_of_lz4_of_any_bytes_is_decoded_or_refused_and_nothing_else_is_touched),
        TEST(what_is_encoded_is_decoded_and_never_written_beyond_its_room),
    };
    if (count < 2) {
        fprintf(stderr, "Usage: vectors FOLDER [WORD]\n");
        return 2;
    }
    folder = arguments[1];
    return run_tests("native.vectors", tests, COUNT_OF(tests), count > 2 ? arguments[2] : NULL);
}
