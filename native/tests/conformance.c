// The promises of libfastq, against the real broker: what a message lives through, and what is told of bad arguments.
#include <dirent.h>
#include <sched.h>

#include "conformance.h"

static void what_is_published_is_confirmed_and_received_in_order(void) {
    fastq_connection c = connect_to(&shared, "name=order");
    fastq_queue queue = queue_of(c, "order", NULL);
    fastq_subscription s = subscribe(c, "order", NULL);
    uint64_t last = 0, reached = 0;
    for (int i = 0; i < 10000; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        last = publish_text(c, queue, text);
    }
    CHECK_OK(fastq_wait(c, last, FASTQ_DURABLE, LONG_WAIT));
    CHECK_OK(fastq_confirmed(c, FASTQ_DURABLE, &reached));
    CHECK(reached >= last);
    for (int i = 0; i < 10000;) {
        fastq_message messages[64];
        size_t count = 0;
        CHECK_OK(fastq_receive(c, s, messages, 64, LONG_WAIT, &count));
        for (size_t at = 0; at < count; at++, i++) {
            char text[16];
            snprintf(text, sizeof text, "%d", i);
            if (!CHECK(has_body(&messages[at], text)) || !CHECK_OK(fastq_settle(c, s, &messages[at], FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL))) {
                return;
            }
        }
        if (count == 0) {
            break;
        }
    }
    CHECK_OK(fastq_flush(c, FASTQ_ACCEPTED, LONG_WAIT));
    CHECK(count_of(c, "order", "messages") == 0 && count_of(c, "order", "accepted") == 10000);
    CHECK_OK(fastq_close(c));
}

static void a_body_may_be_written_in_place_and_what_is_not_committed_was_never_there(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "inplace", NULL);
    fastq_subscription s = subscribe(c, "inplace", NULL);
    void *room = NULL;
    uint64_t number;
    fastq_message message;
    CHECK_OK(fastq_reserve(c, queue, 5, NULL, 0, &room));
    memcpy(room, "never", 5);
    CHECK_OK(fastq_confirmed(c, FASTQ_ACCEPTED, &number));
    CHECK_CODE(fastq_commit(c, FASTQ_DURABLE, &number), FASTQ_BAD_ARGUMENT);
    CHECK_OK(fastq_reserve(c, queue, 6, NULL, 0, &room));
    memcpy(room, "inside", 6);
    CHECK_OK(fastq_commit(c, FASTQ_DURABLE, &number));
    CHECK_OK(fastq_wait(c, number, FASTQ_DURABLE, LONG_WAIT));
    CHECK(receive_one(c, s, &message) && has_body(&message, "inside"));
    CHECK_OK(fastq_close(c));
}

static void a_batch_arrives_with_its_properties(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "batch", NULL);
    fastq_subscription s = subscribe(c, "batch", NULL);
    unsigned char bytes[256];
    size_t length = 0, position = 0;
    int64_t count = 7;
    fastq_property property;
    fastq_message messages[2];
    CHECK_OK(fastq_put_text(bytes, sizeof bytes, &length, FASTQ_TYPE, "greeting"));
    CHECK_OK(fastq_put_header(bytes, sizeof bytes, &length, "count", FASTQ_INT64, &count, sizeof count));
    CHECK_OK(fastq_put_number(bytes, sizeof bytes, &length, FASTQ_PRIORITY, 9));
    uint32_t properties[2] = {(uint32_t)length, 0}, bodies[2] = {5, 3};
    memcpy(bytes + length, "helloyou", 8);
    uint64_t last = 0;
    CHECK_OK(fastq_publish_batch(c, queue, bytes, bodies, properties, 2, FASTQ_DURABLE, &last));
    CHECK_OK(fastq_wait(c, last, FASTQ_DURABLE, LONG_WAIT));
    CHECK(receive_one(c, s, &messages[0]) && has_body(&messages[0], "hello"));
    CHECK_OK(fastq_next_property(messages[0].properties, messages[0].property_bytes, &position, &property));
    CHECK(property.tag == FASTQ_TYPE && property.value_bytes == 8 && memcmp(property.value, "greeting", 8) == 0);
    CHECK_OK(fastq_next_property(messages[0].properties, messages[0].property_bytes, &position, &property));
    CHECK(property.tag == FASTQ_HEADER && property.key_bytes == 5 && memcmp(property.key, "count", 5) == 0 && memcmp(property.value, &count, 8) == 0);
    CHECK_OK(fastq_next_property(messages[0].properties, messages[0].property_bytes, &position, &property));
    CHECK(property.tag == FASTQ_PRIORITY && property.type == FASTQ_INT64);
    CHECK_OK(fastq_next_property(messages[0].properties, messages[0].property_bytes, &position, &property));
    CHECK(property.tag == 0);
    CHECK(receive_one(c, s, &messages[1]) && has_body(&messages[1], "you") && messages[1].property_bytes == 0);
    unsigned char copied[256];
    size_t copied_bytes = 0;
    CHECK_CODE(fastq_copy_messages(messages, 2, copied, length + 7, &copied_bytes), FASTQ_TOO_LARGE);
    CHECK_OK(fastq_copy_messages(messages, 2, copied, length + 8, &copied_bytes));
    CHECK(copied_bytes == length + 8 && memcmp(copied, bytes, length + 8) == 0);
    CHECK_CODE(fastq_copy_messages(NULL, 2, copied, length + 8, &copied_bytes), FASTQ_BAD_ARGUMENT);
    CHECK_OK(fastq_close(c));
}

static void a_settled_message_is_not_in_hand_and_a_released_one_comes_again_and_counts(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "settle", NULL);
    fastq_subscription s = subscribe(c, "settle", NULL);
    fastq_message message, again;
    uint64_t number;
    publish_text(c, queue, "once more");
    CHECK(receive_one(c, s, &message) && message.delivery_count == 1 && (message.flags & FASTQ_REDELIVERED) == 0);
    CHECK_OK(fastq_holds(c, s, &message));
    CHECK_OK(fastq_settle(c, s, &message, FASTQ_RELEASE, FASTQ_NONE, 0, 0, NULL));
    CHECK_CODE(fastq_holds(c, s, &message), FASTQ_ALREADY_SETTLED);
    CHECK_CODE(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL), FASTQ_ALREADY_SETTLED);
    CHECK(receive_one(c, s, &again) && again.tag == message.tag && again.delivery_count == 2 && (again.flags & FASTQ_REDELIVERED) != 0 && again.token > message.token);
    CHECK_OK(fastq_settle(c, s, &again, FASTQ_RELEASE, FASTQ_NONE, 0, FASTQ_UNCOUNTED, NULL));
    CHECK(receive_one(c, s, &again) && again.delivery_count == 2);
    CHECK_OK(fastq_settle(c, s, &again, FASTQ_RELEASE, FASTQ_ACCEPTED, 86400000, 0, &number));
    CHECK_OK(fastq_wait(c, number, FASTQ_ACCEPTED, LONG_WAIT));
    CHECK(count_of(c, "settle", "delayed") == 1);
    CHECK_OK(fastq_close(c));
}

static void many_are_settled_at_once(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "many", NULL);
    fastq_subscription s = subscribe(c, "many", "credit=500");
    static fastq_message messages[500];
    size_t had = 0, count;
    uint64_t number, before;
    fastq_status status = {.size = sizeof status};
    for (int i = 0; i < 500; i++) {
        publish_text(c, queue, "x");
    }
    while (had < 500 && CHECK_OK(fastq_receive(c, s, messages + had, 500 - had, LONG_WAIT, &count)) && CHECK(count > 0)) {
        had += count;
    }
    CHECK_OK(fastq_get_status(c, &status));
    before = status.last_number;
    CHECK_OK(fastq_settle_many(c, s, messages, 500, FASTQ_ACCEPT, FASTQ_DURABLE, &number));
    CHECK(number == before + 1); // One range, one record.
    CHECK_OK(fastq_wait(c, number, FASTQ_DURABLE, LONG_WAIT));
    CHECK_CODE(fastq_settle_many(c, s, messages, 2, FASTQ_ACCEPT, FASTQ_DURABLE, &number), FASTQ_ALREADY_SETTLED);
    CHECK(count_of(c, "many", "accepted") == 500);
    for (int i = 0; i < 10; i++) {
        publish_text(c, queue, "y");
    }
    for (had = 0; had < 10 && CHECK_OK(fastq_receive(c, s, messages + had, 10 - had, LONG_WAIT, &count)) && CHECK(count > 0); had += count) {
    }
    CHECK_OK(fastq_settle(c, s, &messages[4], FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL)); // A gap is passed over.
    CHECK_OK(fastq_settle_range(c, s, messages[0].number, 10, messages[0].life, FASTQ_ACCEPT, FASTQ_ACCEPTED, &number));
    CHECK_OK(fastq_wait(c, number, FASTQ_ACCEPTED, LONG_WAIT));
    CHECK(count_of(c, "many", "accepted") == 510);
    CHECK_CODE(fastq_settle_range(c, s, messages[0].number, 10, messages[0].life, FASTQ_ACCEPT, FASTQ_ACCEPTED, &number), FASTQ_ALREADY_SETTLED);
    CHECK_OK(fastq_close(c));
}

static void a_rejected_message_tells_its_words_in_the_dead_letters(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "mail", NULL);
    fastq_subscription s = subscribe(c, "mail", NULL);
    fastq_message message;
    uint64_t number;
    publish_text(c, queue, "to nobody");
    CHECK(receive_one(c, s, &message));
    CHECK_OK(fastq_reject(c, s, &message, "no such address", "in line 7", FASTQ_ACCEPTED, &number));
    CHECK_OK(fastq_wait(c, number, FASTQ_ACCEPTED, LONG_WAIT));
    fastq_subscription dead = subscribe(c, "mail.dead", NULL);
    CHECK(receive_one(c, dead, &message) && has_body(&message, "to nobody"));
    CHECK(memmem(message.properties, message.property_bytes, "no such address", 15) != NULL && memmem(message.properties, message.property_bytes, "in line 7", 9) != NULL);
    CHECK_OK(fastq_settle(c, dead, &message, FASTQ_RELEASE, FASTQ_ACCEPTED, 0, 0, NULL));
    CHECK_OK(fastq_unsubscribe(c, dead));
    const char *json;
    CHECK_OK(fastq_start_move(c, "mail.dead", NULL, NULL, 0, 0, &json));
    CHECK(receive_one(c, s, &message) && has_body(&message, "to nobody")); // Moved back to where it died.
    CHECK_OK(fastq_show_move(c, "mail.dead", &json));
    CHECK_OK(fastq_cancel_move(c, "mail.dead", &json));
    CHECK_OK(fastq_close(c));
}

static void a_lease_that_ends_gives_the_message_to_another_and_says_so(void) {
    fastq_connection c = connect_to(&shared, NULL), other = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "lease", NULL);
    fastq_subscription s = subscribe(c, "lease", "lease=20ms"), t;
    fastq_message message, again;
    uint64_t number;
    publish_text(c, queue, "slow");
    CHECK(receive_one(c, s, &message));
    t = subscribe(other, "lease", NULL);
    CHECK(receive_one(other, t, &again) && again.tag == message.tag && again.token > message.token);
    CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, &number));
    CHECK_CODE(fastq_wait(c, number, FASTQ_ACCEPTED, LONG_WAIT), FASTQ_LEASE_LOST);
    CHECK_OK(fastq_extend(other, t, &again, 60000, FASTQ_ACCEPTED, &number));
    CHECK_OK(fastq_wait(other, number, FASTQ_ACCEPTED, LONG_WAIT));
    CHECK_OK(fastq_settle(other, t, &again, FASTQ_ACCEPT, FASTQ_ACCEPTED, 0, 0, &number));
    CHECK_OK(fastq_wait(other, number, FASTQ_ACCEPTED, LONG_WAIT));
    CHECK_OK(fastq_close(other));
    CHECK_OK(fastq_close(c));
}

static void large_messages_grow_the_rings(void) {
    fastq_connection c = connect_to(&shared, "ring=65536");
    fastq_queue queue = queue_of(c, "large", NULL);
    fastq_subscription s = subscribe(c, "large", "credit-bytes=40000000");
    static const size_t sizes[] = {1000, 60000, 300000, 5000000, 16777216, 10, 16777216, 0};
    fastq_status status = {.size = sizeof status};
    unsigned char *body = malloc(16777217);
    for (size_t i = 0; i < 16777217; i++) {
        body[i] = (unsigned char)(i * 7 + i / 251);
    }
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        uint64_t number = 0;
        fastq_message message;
        CHECK_OK(fastq_publish(c, queue, body, sizes[i], NULL, 0, FASTQ_DURABLE, &number));
        CHECK_OK(fastq_wait(c, number, FASTQ_DURABLE, LONG_WAIT));
        if (receive_one(c, s, &message)) {
            CHECK(message.body_bytes == sizes[i] && memcmp(message.body, body, sizes[i]) == 0);
            CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
        }
    }
    CHECK_OK(fastq_get_status(c, &status));
    CHECK(status.ring_bytes >= 16777216 && status.max_message_bytes == 16777216);
    CHECK_CODE(fastq_publish(c, queue, body, 16777217, NULL, 0, FASTQ_DURABLE, NULL), FASTQ_TOO_LARGE);
    CHECK(fastq_last_value() == 16777216);
    free(body);
    CHECK_OK(fastq_close(c));
}

/// Every thread of the broker sleeps, each time of many that one looks.
static void await_sleep_of(const broker *b) {
    enum { LOOKS = 300 };
    for (int quiet = 0; quiet < LOOKS; quiet++) {
        char path[64], line[512];
        snprintf(path, sizeof path, "/proc/%d/task", (int)b->process);
        DIR *tasks = opendir(path);
        for (struct dirent *task; tasks != NULL && (task = readdir(tasks)) != NULL;) {
            char stat[400];
            snprintf(stat, sizeof stat, "/proc/%d/task/%.200s/stat", (int)b->process, task->d_name);
            FILE *file = task->d_name[0] == '.' ? NULL : fopen(stat, "r");
            if (file != NULL) {
                const char *state = fgets(line, sizeof line, file) != NULL ? strrchr(line, ')') : NULL;
                quiet = state != NULL && state[2] == 'S' ? quiet : 0;
                fclose(file);
            }
        }
        closedir(tasks);
        sched_yield();
    }
}

static void what_is_written_into_a_larger_ring_is_rung_for_though_the_broker_went_there_to_sleep(void) {
    broker b;
    make_broker(&b);
    fastq_connection c = connect_to(&b, "ring=65536");
    fastq_queue queue = queue_of(c, "work", NULL);
    for (size_t size = 100000; size < 4000000; size *= 4) {
        void *body = NULL;
        uint64_t number = 0;
        CHECK_OK(fastq_reserve(c, queue, size, NULL, 0, &body)); // The rings grow, the broker goes over to them.
        memset(body, 'l', size);
        await_sleep_of(&b);
        CHECK_OK(fastq_commit(c, FASTQ_WRITTEN, &number));
        CHECK_OK(fastq_wait(c, number, FASTQ_WRITTEN, 20 * SECOND));
    }
    CHECK_OK(fastq_close(c));
    remove_broker(&b);
}

static void copies_come_where_files_are_not_wanted(void) {
    fastq_connection c = connect_to(&shared, "copies\nring=65536");
    fastq_queue queue = queue_of(c, "copies", NULL);
    fastq_subscription s = subscribe(c, "copies", NULL);
    unsigned char *body = malloc(2000000);
    memset(body, 'b', 2000000);
    for (size_t size = 1; size <= 2000000; size *= 9) {
        fastq_message message;
        CHECK_OK(fastq_publish(c, queue, body, size, NULL, 0, FASTQ_WRITTEN, NULL));
        CHECK(receive_one(c, s, &message) && message.body_bytes == size && memcmp(message.body, body, size) == 0);
        CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
    }
    free(body);
    CHECK_OK(fastq_close(c));
}

static void at_most_once_bodies_stay_until_the_next_receive(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "auto", NULL);
    fastq_subscription s = subscribe(c, "auto", "auto");
    fastq_message message;
    publish_text(c, queue, "first");
    CHECK(receive_one(c, s, &message));
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK(count_of(c, "auto", "accepted") == 1 && has_body(&message, "first"));
    CHECK_CODE(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL), FASTQ_ALREADY_SETTLED);
    CHECK_OK(fastq_close(c));
}

static void a_queue_has_the_attributes_that_it_was_declared_with(void) {
    fastq_connection c = connect_to(&shared, NULL);
    const char *json = "", *all = "lease=90s\ndelay=250ms\nttl=2h\nmax-deliveries=7\nbackoff=1s,2.5,5m\ndead-letter=graves\nmax-length=100000\nmax-bytes=5000000\n"
        "overflow=dead-letter\nmax-message-size=5000\npriority\npriority-share=10\nfifo=no\nfair\nfair-weights=gold=4,silver=2\nsingle-active=no\ndedup-window=1d\n"
        "dedup-by-group=no\nlz4=2000\nrequire=type,key";
    static const char *const expected[] = {
        "\"leaseSeconds\":90", "\"delaySeconds\":0.250", "\"ttlSeconds\":7200", "\"maxDeliveries\":7", "\"deadLetter\":\"graves\"", "\"maxLength\":100000", "\"maxBytes\":5000000",
        "\"overflow\":\"dead-letter\"", "\"maxMessageSize\":5000", "\"priority\":true", "\"priorityShare\":10", "\"fifo\":false", "\"fair\":true", "\"fairWeights\":\"gold=4,silver=2\"",
        "\"singleActive\":false", "\"dedupWindowSeconds\":86400", "\"lz4FromBytes\":2000", "\"require\":[\"type\",\"key\"]", "\"backoff\":{\"firstSeconds\":1,\"factor\":2.500,\"mostSeconds\":300}",
        "\"ready\":0", "\"paused\":[]", "\"discarded\":0",
    };
    CHECK_OK(fastq_declare_queue(c, "full \"quoted\"", all, &json));
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        if (!CHECK(strstr(json, expected[i]) != NULL)) {
            printf("    %s in %s\n", expected[i], json);
        }
    }
    CHECK_OK(fastq_declare_queue(c, "full \"quoted\"", all, NULL));
    CHECK_CODE(fastq_declare_queue(c, "full \"quoted\"", NULL, NULL), FASTQ_QUEUE_EXISTS);
    CHECK_OK(fastq_change_queue(c, "full \"quoted\"", "max-length=5", &json));
    CHECK(strstr(json, "\"maxLength\":5,") != NULL && strstr(json, "full \\\"quoted\\\"") != NULL);
    CHECK_OK(fastq_pause_queue(c, "full \"quoted\"", 3));
    CHECK_OK(fastq_show_queue(c, "full \"quoted\"", &json));
    CHECK(strstr(json, "\"paused\":[\"in\",\"out\"]") != NULL);
    CHECK_OK(fastq_list_queues(c, &json));
    CHECK(json[0] == '[' && strstr(json, "full") != NULL && json[strlen(json) - 1] == ']');
    CHECK_OK(fastq_delete_queue(c, "full \"quoted\""));
    CHECK_CODE(fastq_show_queue(c, "full \"quoted\"", &json), FASTQ_UNKNOWN_QUEUE);
    CHECK_OK(fastq_show_statistics(c, &json));
    CHECK(json[0] == '{' && strstr(json, "sessions") != NULL);
    CHECK_OK(fastq_close(c));
}

static void refusals_are_told_by_wait_by_flush_and_one_by_one(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "full", "max-length=1\noverflow=reject");
    fastq_refusal refusal;
    uint64_t number;
    CHECK_OK(fastq_wait(c, publish_text(c, queue, "fits"), FASTQ_DURABLE, LONG_WAIT));
    CHECK_CODE(fastq_wait(c, publish_text(c, queue, "does not"), FASTQ_ACCEPTED, LONG_WAIT), FASTQ_LIMIT_REACHED);
    CHECK(fastq_last_value() == 1 && strlen(fastq_last_error()) > 0);
    publish_text(c, queue, "nor this");
    CHECK_CODE(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT), FASTQ_LIMIT_REACHED);
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    number = publish_text(c, queue, "nor that");
    do {
        CHECK_OK(fastq_next_refusal(c, &refusal));
    } while (refusal.number == 0);
    CHECK(refusal.number == number && refusal.code == FASTQ_LIMIT_REACHED);
    CHECK_CODE(fastq_wait(c, publish_text(c, 999999, "nowhere"), FASTQ_ACCEPTED, LONG_WAIT), FASTQ_UNKNOWN_QUEUE);
    for (int i = 0; i < 1000; i++) {
        publish_text(c, queue, "more than the broker keeps untold");
    }
    CHECK_CODE(fastq_flush(c, FASTQ_ACCEPTED, LONG_WAIT), FASTQ_LIMIT_REACHED);
    CHECK_OK(fastq_close(c));
}

static void a_duplicate_counts_as_published_and_tells_the_place_of_the_first(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "dedup", NULL);
    unsigned char properties[64];
    size_t length = 0;
    uint64_t number;
    CHECK_OK(fastq_put_text(properties, sizeof properties, &length, FASTQ_DEDUPLICATION_ID, "order-17"));
    CHECK_OK(fastq_publish(c, queue, "a", 1, properties, length, FASTQ_DURABLE, &number));
    CHECK_OK(fastq_wait(c, number, FASTQ_DURABLE, LONG_WAIT));
    CHECK_OK(fastq_publish(c, queue, "a", 1, properties, length, FASTQ_DURABLE, &number));
    CHECK_CODE(fastq_wait(c, number, FASTQ_DURABLE, LONG_WAIT), FASTQ_DUPLICATE);
    CHECK(fastq_last_value() > 0);
    CHECK_OK(fastq_publish(c, queue, "a", 1, properties, length, FASTQ_DURABLE, &number));
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK(count_of(c, "dedup", "messages") == 1);
    fastq_status status = {.size = sizeof status};
    CHECK_OK(fastq_get_status(c, &status));
    CHECK(status.duplicates == 2 && status.refusals == 0);
    CHECK_OK(fastq_close(c));
}

static void a_compressed_body_comes_as_it_was_and_one_that_is_none_says_so(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "lz4", NULL);
    fastq_subscription s = subscribe(c, "lz4", NULL);
    // "abcd" x 8 as one block: four literals, a match of 23 at offset 4, five literals at the end.
    static const unsigned char block[] = {0x4f, 'a', 'b', 'c', 'd', 4, 0, 4, 0x50, 'd', 'a', 'b', 'c', 'd'};
    static const unsigned char encoding[] = {32, 0, 0, 0, 'l', 'z', '4'};
    unsigned char properties[16] = {FASTQ_BODY_ENCODING, FASTQ_BYTES, sizeof encoding, 0};
    unsigned char body[64];
    fastq_message message;
    size_t size = 0;
    memcpy(properties + 4, encoding, sizeof encoding);
    CHECK_OK(fastq_publish(c, queue, block, sizeof block, properties, 4 + sizeof encoding, FASTQ_WRITTEN, NULL));
    CHECK(receive_one(c, s, &message) && (message.flags & FASTQ_ENCODED) != 0);
    CHECK_OK(fastq_body_size(&message, &size));
    CHECK(size == 32);
    CHECK_CODE(fastq_copy_body(&message, body, 31), FASTQ_BAD_ARGUMENT);
    CHECK_OK(fastq_copy_body(&message, body, sizeof body));
    CHECK(memcmp(body, "abcdabcdabcdabcdabcdabcdabcdabcd", 32) == 0);
    properties[4] = 33;
    CHECK_OK(fastq_publish(c, queue, block, sizeof block, properties, 4 + sizeof encoding, FASTQ_WRITTEN, NULL));
    CHECK(receive_one(c, s, &message));
    CHECK_CODE(fastq_copy_body(&message, body, sizeof body), FASTQ_UNREADABLE);
    properties[7] = 0x7f; // Two gigabytes of fourteen bytes.
    CHECK_OK(fastq_publish(c, queue, block, sizeof block, properties, 4 + sizeof encoding, FASTQ_WRITTEN, NULL));
    CHECK(receive_one(c, s, &message));
    CHECK_CODE(fastq_body_size(&message, &size), FASTQ_UNREADABLE);
    CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_ACCEPTED, 0, 0, NULL));
    CHECK_OK(fastq_close(c));
}

static void bodies_are_compressed_where_their_queue_wants_it_and_they_get_smaller(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "squeeze", "lz4=1000");
    fastq_subscription s = subscribe(c, "squeeze", NULL);
    static unsigned char text[200000], noise[5000], decoded[200000], properties[64];
    uint64_t dice = 88172645463325252u;
    size_t size = 0, length = 0, position = 0;
    fastq_message message;
    fastq_property property;
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (unsigned char)"order, customer, address; "[(i + i / 997) % 26];
    }
    for (size_t i = 0; i < sizeof noise; i++) {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        noise[i] = (unsigned char)dice;
    }
    CHECK_OK(fastq_put_text(properties, sizeof properties, &length, FASTQ_TYPE, "text"));
    CHECK_OK(fastq_publish(c, queue, text, sizeof text, properties, length, FASTQ_WRITTEN, NULL));
    CHECK(receive_one(c, s, &message) && (message.flags & FASTQ_ENCODED) != 0 && message.body_bytes < sizeof text / 10);
    CHECK_OK(fastq_next_property(message.properties, message.property_bytes, &position, &property));
    CHECK(property.tag == FASTQ_BODY_ENCODING); // First of all.
    CHECK_OK(fastq_next_property(message.properties, message.property_bytes, &position, &property));
    CHECK(property.tag == FASTQ_TYPE);
    CHECK_OK(fastq_body_size(&message, &size));
    CHECK(size == sizeof text);
    CHECK_OK(fastq_copy_body(&message, decoded, sizeof decoded));
    CHECK(memcmp(decoded, text, sizeof text) == 0);
    fastq_transaction t = begin(c);
    CHECK_OK(fastq_add_publish(c, t, queue, text, sizeof text, properties, length, 0));
    CHECK_OK(commit(c, t));
    CHECK(receive_one(c, s, &message) && (message.flags & FASTQ_ENCODED) != 0);
    CHECK_OK(fastq_copy_body(&message, decoded, sizeof decoded));
    CHECK(memcmp(decoded, text, sizeof text) == 0);
    // Too short; of no use; encoded before; and what the queue wants no more.
    CHECK_OK(fastq_publish(c, queue, text, 999, NULL, 0, FASTQ_WRITTEN, NULL));
    CHECK(receive_one(c, s, &message) && (message.flags & FASTQ_ENCODED) == 0 && message.body_bytes == 999);
    CHECK_OK(fastq_publish(c, queue, noise, sizeof noise, NULL, 0, FASTQ_WRITTEN, NULL));
    CHECK(receive_one(c, s, &message) && (message.flags & FASTQ_ENCODED) == 0 && message.body_bytes == sizeof noise && memcmp(message.body, noise, sizeof noise) == 0);
    CHECK_OK(fastq_publish(c, queue, text, 5000, "\12\4\7\0\0\0\0\0any", 11, FASTQ_WRITTEN, NULL));
    CHECK(receive_one(c, s, &message) && message.body_bytes == 5000);
    CHECK_OK(fastq_change_queue(c, "squeeze", "lz4=0", NULL));
    CHECK_OK(fastq_publish(c, queue, text, sizeof text, NULL, 0, FASTQ_WRITTEN, NULL));
    CHECK(receive_one(c, s, &message) && message.body_bytes == sizeof text);
    CHECK_OK(fastq_close(c));
}

static void a_queue_that_is_deleted_ends_its_subscriptions(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "gone", NULL);
    fastq_subscription s = subscribe(c, "gone", NULL);
    fastq_message message;
    size_t count;
    publish_text(c, queue, "held");
    CHECK(receive_one(c, s, &message));
    CHECK_OK(fastq_delete_queue(c, "gone"));
    CHECK_CODE(fastq_receive(c, s, &message, 1, LONG_WAIT, &count), FASTQ_QUEUE_DELETED);
    CHECK_CODE(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL), FASTQ_QUEUE_DELETED);
    CHECK_OK(fastq_unsubscribe(c, s));
    CHECK_CODE(fastq_unsubscribe(c, s), FASTQ_IS_CLOSED);
    CHECK_OK(fastq_close(c));
}

static void what_a_consumer_leaves_goes_back_uncounted(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "left", NULL);
    fastq_subscription s = subscribe(c, "left", NULL);
    fastq_message message;
    for (int i = 0; i < 1000; i++) {
        publish_text(c, queue, "x");
    }
    CHECK(receive_one(c, s, &message));
    CHECK_OK(fastq_unsubscribe(c, s));
    CHECK(count_of(c, "left", "ready") == 1000 && count_of(c, "left", "inFlight") == 0);
    s = subscribe(c, "left", "credit=1");
    CHECK(receive_one(c, s, &message) && message.delivery_count == 1 && (message.flags & FASTQ_REDELIVERED) == 0); // As if it had not been.
    CHECK_OK(fastq_set_credit(c, s, 10));
    CHECK(receive_one(c, s, &message));
    CHECK_OK(fastq_close(c));
}

static void bad_arguments_are_told_and_harm_nothing(void) {
    fastq_connection c = connect_to(&shared, NULL), none = 77, closed = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "bad", NULL);
    fastq_subscription s = subscribe(c, "bad", NULL), other;
    fastq_message m = {0};
    fastq_browsed browsed;
    fastq_refusal refusal;
    fastq_property property;
    fastq_reply reply;
    const unsigned char *found;
    int64_t queues = 0;
    fastq_status status = {.size = 1};
    const char *json;
    void *room;
    uint64_t number = 0;
    size_t count;
    int descriptor;
    char large[600];
    memset(large, 'n', sizeof large - 1);
    large[sizeof large - 1] = 0;
    CHECK_OK(fastq_close(closed));
    CHECK_CODE(fastq_open(FASTQ_ABI + 1, NULL, NULL, &none), FASTQ_WRONG_ABI);
    CHECK_CODE(fastq_connect(shared.socket, NULL, NULL), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_connect(shared.socket, "nonsense=1", &none), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_connect(shared.socket, "ring=70000", &none), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_connect(shared.socket, "ring=", &none), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_connect(shared.socket, "patience=soon", &none), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_connect(shared.socket, "patience", &none), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_connect(large, NULL, &none), FASTQ_BAD_ARGUMENT);
    CHECK(none == 0);
    const fastq_connection handles[] = {0, closed, UINT64_MAX, 1, c + 65536};
    for (size_t i = 0; i < COUNT_OF(handles); i++) {
        fastq_connection h = handles[i];
        CHECK_CODE(fastq_close(h), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_open_queue(h, "bad", &queue), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_publish(h, 1, "x", 1, NULL, 0, 3, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_publish_batch(h, 1, NULL, NULL, NULL, 0, 3, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_reserve(h, 1, 1, NULL, 0, &room), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_commit(h, 3, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_confirmed(h, 3, &number), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_wait(h, 1, 3, 0), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_flush(h, 3, 0), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_next_refusal(h, &refusal), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_subscribe(h, "bad", NULL, &other), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_unsubscribe(h, s), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_receive(h, s, &m, 1, 0, &count), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_settle(h, s, &m, 0, 0, 0, 0, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_settle_many(h, s, &m, 1, 0, 0, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_settle_range(h, s, 1, 1, 1, 0, 0, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_reject(h, s, &m, "x", NULL, 0, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_extend(h, s, &m, 1000, 0, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_holds(h, s, &m), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_set_credit(h, s, 1), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_declare_queue(h, "bad", NULL, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_change_queue(h, "bad", NULL, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_pause_queue(h, "bad", 0), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_list_consumers(h, "bad", &json), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_pause_consumer(h, "bad", 1, 1), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_show_queue(h, "bad", &json), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_list_queues(h, &json), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_delete_queue(h, "bad"), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_purge_queue(h, "bad", NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_show_statistics(h, &json), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_declare_exchange(h, "bad", NULL, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_begin(h, 0, &number), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_add_publish(h, 1, 1, "x", 1, NULL, 0, 0), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_add_settle(h, 1, s, &m, 0, 0, 0), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_add_reject(h, 1, s, &m, NULL, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_commit_transaction(h, 1, 3, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_rollback(h, 1), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_accept_processed(h, s, &m, "x", NULL, 0, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_find_processed(h, "bad", "x", &found, &count), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_cancel_scheduled(h, "bad", "x", NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_reschedule(h, "bad", "x", 1, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_reschedule_at(h, "bad", "x", 1, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_set_schedule(h, "bad", "bad", "every=1s", NULL, 0, NULL, 0, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_delete_schedule(h, "bad"), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_pause_schedule(h, "bad", 1, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_list_schedules(h, &json), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_declare_limit(h, "bad", NULL, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_change_limit(h, "bad", NULL, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_delete_limit(h, "bad"), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_list_limits(h, &json), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_routed(h, 1, &queues), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_request(h, 1, "x", 1, NULL, 0, 1, 0, &number), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_receive_reply(h, 1, 0, &reply), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_end_request(h, 1), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_send_reply(h, "fastq.reply.1.1", "x", 1, NULL, 0, 0, FASTQ_LAST, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_reply_to(h, s, &m, "x", 1, NULL, 0, 0, FASTQ_LAST, 0, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_delete_exchange(h, "bad"), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_show_exchange(h, "bad", &json), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_list_exchanges(h, &json), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_bind(h, "bad", "bad", NULL, NULL, 0, 0), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_unbind(h, "bad", "bad", NULL, NULL, 0, 0), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_open_exchange(h, "bad", &queue), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_browse(h, "bad", NULL, &number, &browsed, 1, &count), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_delete_message(h, "bad", 1), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_change_message(h, "bad", 1, 1, 1), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_start_move(h, "bad", NULL, NULL, 0, 0, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_show_move(h, "bad", &json), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_cancel_move(h, "bad", NULL), FASTQ_IS_CLOSED);
        status.size = sizeof status;
        CHECK_CODE(fastq_get_status(h, &status), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_is_connected(h), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_tick(h), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_set_log(h, NULL, NULL), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_descriptor(h, &descriptor), FASTQ_IS_CLOSED);
        CHECK_CODE(fastq_arm(h, &descriptor), FASTQ_IS_CLOSED);
    }
    status.size = 1;
    CHECK_OK(fastq_open_queue(c, "bad", &queue));
    const int bad = FASTQ_BAD_ARGUMENT;
    CHECK_CODE(fastq_open_queue(c, NULL, &queue), bad);
    CHECK_CODE(fastq_open_queue(c, "bad", NULL), bad);
    CHECK_CODE(fastq_open_queue(c, "", &queue), FASTQ_UNKNOWN_QUEUE);
    CHECK_CODE(fastq_open_queue(c, large, &queue), bad);
    CHECK_CODE(fastq_publish(c, queue, NULL, 1, NULL, 0, 3, NULL), bad);
    CHECK_CODE(fastq_publish(c, queue, "x", 1, NULL, 1, 3, NULL), bad);
    CHECK_CODE(fastq_publish(c, queue, "x", 1, NULL, 0, 16, NULL), bad);
    CHECK_CODE(fastq_publish(c, queue, "x", 1, NULL, 0, -1, NULL), bad);
    CHECK_CODE(fastq_publish(c, 0, "x", 1, NULL, 0, 3, NULL), bad);
    CHECK_CODE(fastq_publish(c, queue, "x", SIZE_MAX, NULL, 0, 3, NULL), FASTQ_TOO_LARGE);
    CHECK_CODE(fastq_publish(c, queue, "x", (size_t)1 << 32, NULL, 0, 3, NULL), FASTQ_TOO_LARGE);
    CHECK_CODE(fastq_publish(c, queue, "x", 1, "x", 40000, 3, NULL), FASTQ_TOO_LARGE);
    CHECK_CODE(fastq_publish_batch(c, queue, NULL, NULL, NULL, 1, 3, NULL), bad);
    CHECK_CODE(fastq_reserve(c, queue, 1, NULL, 0, NULL), bad);
    CHECK_CODE(fastq_reserve(c, queue, SIZE_MAX, NULL, 0, &room), FASTQ_TOO_LARGE);
    CHECK_CODE(fastq_commit(c, 3, NULL), bad);
    CHECK_CODE(fastq_commit(c, 9, NULL), bad);
    CHECK_CODE(fastq_confirmed(c, 7, &number), bad);
    CHECK_CODE(fastq_confirmed(c, 3, NULL), bad);
    CHECK_CODE(fastq_wait(c, 0, 3, 0), bad);
    CHECK_CODE(fastq_wait(c, UINT64_MAX, 3, 0), bad);
    CHECK_CODE(fastq_wait(c, 1, 8, 0), bad);
    CHECK_CODE(fastq_flush(c, 4, 0), bad);
    CHECK_CODE(fastq_next_refusal(c, NULL), bad);
    CHECK_CODE(fastq_subscribe(c, NULL, NULL, &other), bad);
    CHECK_CODE(fastq_subscribe(c, "bad", NULL, NULL), bad);
    CHECK_CODE(fastq_subscribe(c, "bad", "credit=0", &other), bad);
    CHECK_CODE(fastq_subscribe(c, "bad", "credit", &other), bad);
    CHECK_CODE(fastq_subscribe(c, "bad", "exclusive=perhaps", &other), bad);
    CHECK_CODE(fastq_subscribe(c, "bad", "exclusive", &other), FASTQ_DENIED);
    CHECK_CODE(fastq_subscribe(c, "bad", "lease=1ms", &other), bad);
    CHECK_CODE(fastq_subscribe(c, "not there", NULL, &other), FASTQ_UNKNOWN_QUEUE);
    CHECK_CODE(fastq_unsubscribe(c, 12345), FASTQ_IS_CLOSED);
    CHECK_CODE(fastq_receive(c, s, NULL, 1, 0, &count), bad);
    CHECK_CODE(fastq_receive(c, s, &m, 1, 0, NULL), bad);
    CHECK_OK(fastq_receive(c, s, &m, 0, LONG_WAIT, &count));
    CHECK_OK(fastq_receive(c, s, &m, 1, 1000000, &count));
    CHECK(count == 0);
    CHECK_CODE(fastq_settle(c, s, NULL, 0, 0, 0, 0, NULL), bad);
    CHECK_CODE(fastq_settle(c, s, &m, 3, 0, 0, 0, NULL), bad);
    CHECK_CODE(fastq_settle(c, s, &m, 0, 0, 5, 0, NULL), bad);
    CHECK_CODE(fastq_settle(c, s, &m, 1, 0, -5, 0, NULL), bad);
    CHECK_CODE(fastq_settle(c, s, &m, 1, 0, 0, 2, NULL), bad);
    CHECK_CODE(fastq_settle(c, s, &m, 0, 0, 0, 0, NULL), FASTQ_ALREADY_SETTLED);
    m.number = UINT64_MAX;
    CHECK_CODE(fastq_settle(c, s, &m, 0, 0, 0, 0, NULL), FASTQ_ALREADY_SETTLED);
    CHECK_CODE(fastq_settle_many(c, s, NULL, 1, 0, 0, NULL), bad);
    CHECK_CODE(fastq_settle_range(c, s, 1, 0, 1, 0, 0, NULL), bad);
    CHECK_CODE(fastq_settle_range(c, s, UINT64_MAX, 5, 1, 0, 0, NULL), bad);
    CHECK_CODE(fastq_settle_range(c, s, 1, 5, 99, 0, 0, NULL), FASTQ_ALREADY_SETTLED);
    CHECK_CODE(fastq_reject(c, s, &m, large, NULL, 0, NULL), bad);
    CHECK_CODE(fastq_reject(c, s, &m, "x", NULL, 0, NULL), FASTQ_ALREADY_SETTLED);
    CHECK_CODE(fastq_extend(c, s, &m, 0, 0, NULL), bad);
    CHECK_CODE(fastq_extend(c, s, &m, 1000, 0, NULL), FASTQ_ALREADY_SETTLED);
    CHECK_CODE(fastq_holds(c, s, NULL), bad);
    CHECK_CODE(fastq_set_credit(c, s, UINT32_MAX), bad);
    CHECK_CODE(fastq_declare_queue(c, NULL, NULL, NULL), bad);
    CHECK_CODE(fastq_declare_queue(c, "fastq.x", NULL, NULL), FASTQ_BAD_NAME);
    CHECK_CODE(fastq_declare_queue(c, "x", "lease=5", NULL), bad);
    CHECK_CODE(fastq_declare_queue(c, "x", "backoff=1s,0,5s", NULL), bad);
    CHECK_CODE(fastq_declare_queue(c, "x", "backoff=1s,.5,5s", NULL), bad);
    CHECK_CODE(fastq_declare_queue(c, "x", "backoff=1s,2.0001,5s", NULL), bad);
    CHECK_CODE(fastq_declare_queue(c, "x", "backoff=1s,99999999999999,5s", NULL), bad);
    CHECK_CODE(fastq_declare_queue(c, "x", "overflow=away", NULL), bad);
    CHECK_CODE(fastq_declare_queue(c, "x", "max-length=-1", NULL), bad);
    CHECK_CODE(fastq_declare_queue(c, "x", "max-length=99999999999999999999999", NULL), bad);
    CHECK_CODE(fastq_declare_queue(c, "x", "colour=blue", NULL), bad);
    CHECK_CODE(fastq_change_queue(c, NULL, NULL, NULL), bad);
    CHECK_CODE(fastq_change_queue(c, "not there", "fair", NULL), FASTQ_UNKNOWN_QUEUE);
    CHECK_CODE(fastq_pause_queue(c, "bad", 4), bad);
    CHECK_CODE(fastq_list_consumers(c, NULL, &json), bad);
    CHECK_CODE(fastq_list_consumers(c, "bad", NULL), bad);
    CHECK_CODE(fastq_pause_consumer(c, NULL, 1, 1), bad);
    CHECK_CODE(fastq_show_queue(c, "bad", NULL), bad);
    CHECK_CODE(fastq_list_queues(c, NULL), bad);
    CHECK_CODE(fastq_delete_queue(c, NULL), bad);
    CHECK_CODE(fastq_purge_queue(c, "not there", NULL), FASTQ_UNKNOWN_QUEUE);
    CHECK_CODE(fastq_show_statistics(c, NULL), bad);
    number = 0;
    CHECK_CODE(fastq_browse(c, "bad", NULL, &number, &browsed, 0, &count), bad);
    CHECK_CODE(fastq_browse(c, "bad", "colour ? blue", &number, &browsed, 1, &count), bad);
    CHECK_CODE(fastq_delete_message(c, "bad", 12345), bad);
    CHECK_CODE(fastq_change_message(c, "bad", 1, 256, 0), bad);
    CHECK_CODE(fastq_start_move(c, "bad", "not there", NULL, 0, 0, NULL), FASTQ_UNKNOWN_QUEUE);
    CHECK_CODE(fastq_get_status(c, &status), bad);
    CHECK_CODE(fastq_get_status(c, NULL), bad);
    CHECK_CODE(fastq_descriptor(c, NULL), bad);
    CHECK_CODE(fastq_arm(c, NULL), bad);
    CHECK_CODE(fastq_body_size(NULL, &count), bad);
    CHECK_CODE(fastq_copy_body(NULL, NULL, 0), bad);
    count = 0;
    CHECK_CODE(fastq_put_text(NULL, 0, &count, FASTQ_TYPE, "x"), bad);
    CHECK_CODE(fastq_put_text(large, 4, &count, FASTQ_TYPE, "x"), FASTQ_TOO_LARGE);
    CHECK_CODE(fastq_put_number(large, 11, &count, FASTQ_TTL, 1), FASTQ_TOO_LARGE);
    CHECK_CODE(fastq_put_header(large, 100, &count, "", FASTQ_TEXT, "x", 1), bad);
    CHECK_CODE(fastq_put_header(large, 100, &count, "k", FASTQ_TEXT, "x", SIZE_MAX), FASTQ_TOO_LARGE);
    CHECK_CODE(fastq_next_property(NULL, 1, &count, &property), bad);
    CHECK(count == 0);
    CHECK_OK(fastq_next_property("\2\0\xff\xff", 4, &count, &property));
    CHECK(property.tag == 0);
    // Properties that are no properties are the broker's to refuse.
    CHECK_OK(fastq_publish(c, queue, "x", 1, "\2\0\xff\xff", 4, 3, &number));
    CHECK_CODE(fastq_wait(c, number, 3, LONG_WAIT), bad);
    CHECK(strcmp(fastq_code_name(FASTQ_UNKNOWN_QUEUE), "unknown-queue") == 0 && strcmp(fastq_code_name(FASTQ_FORKED), "forked") == 0 && strcmp(fastq_code_name(FASTQ_IS_CLOSED), "closed") == 0 && strcmp(fastq_code_name(-5), "unknown") == 0);
    CHECK(fastq_abi() == FASTQ_ABI && strlen(fastq_version()) > 0);
    CHECK_OK(fastq_publish(c, queue, NULL, 0, NULL, 0, 3, NULL)); // The connection is whole.
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK_OK(fastq_close(c));
}

int main(int count, char **arguments) {
    static const test tests[] = {
        TEST(what_is_published_is_confirmed_and_received_in_order),
        TEST(a_body_may_be_written_in_place_and_what_is_not_committed_was_never_there),
        TEST(a_batch_arrives_with_its_properties),
        TEST(a_settled_message_is_not_in_hand_and_a_released_one_comes_again_and_counts),
        TEST(many_are_settled_at_once),
        TEST(a_rejected_message_tells_its_words_in_the_dead_letters),
        TEST(a_lease_that_ends_gives_the_message_to_another_and_says_so),
        TEST(large_messages_grow_the_rings),
        TEST(what_is_written_into_a_larger_ring_is_rung_for_though_the_broker_went_there_to_sleep),
        TEST(copies_come_where_files_are_not_wanted),
        TEST(at_most_once_bodies_stay_until_the_next_receive),
        TEST(a_queue_has_the_attributes_that_it_was_declared_with),
        TEST(refusals_are_told_by_wait_by_flush_and_one_by_one),
        TEST(a_duplicate_counts_as_published_and_tells_the_place_of_the_first),
        TEST(a_compressed_body_comes_as_it_was_and_one_that_is_none_says_so),
        TEST(bodies_are_compressed_where_their_queue_wants_it_and_they_get_smaller),
        TEST(a_queue_that_is_deleted_ends_its_subscriptions),
        TEST(what_a_consumer_leaves_goes_back_uncounted),
        TEST(bad_arguments_are_told_and_harm_nothing),
    };
    return run_conformance("native.conformance", tests, COUNT_OF(tests), count, arguments);
}
