// The promises of libfastq, against the real broker: conformance BROKER [WORD]. Each test has a broker or a queue of its own.
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "harness.h"

static broker shared; // For tests that kill nobody.

static fastq_connection connect_to(const broker *b, const char *options) {
    fastq_connection c = 0;
    CHECK_OK(fastq_connect(b->socket, options, &c));
    return c;
}

static fastq_queue queue_of(fastq_connection c, const char *name, const char *attributes) {
    fastq_queue queue = 0;
    CHECK_OK(fastq_declare_queue(c, name, attributes, NULL));
    CHECK_OK(fastq_open_queue(c, name, &queue));
    return queue;
}

static fastq_subscription subscribe(fastq_connection c, const char *queue, const char *options) {
    fastq_subscription s = 0;
    CHECK_OK(fastq_subscribe(c, queue, options, &s));
    return s;
}

static bool receive_one(fastq_connection c, fastq_subscription s, fastq_message *message) {
    size_t count = 0;
    return CHECK_OK(fastq_receive(c, s, message, 1, LONG_WAIT, &count)) && CHECK(count == 1);
}

static bool has_body(const fastq_message *message, const char *text) { return message->body_bytes == strlen(text) && memcmp(message->body, text, message->body_bytes) == 0; }

static uint64_t number_in(const char *json, const char *key) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"%s\":", key);
    const char *at = strstr(json, wanted);
    return at == NULL ? UINT64_MAX : strtoull(at + strlen(wanted), NULL, 10);
}

static uint64_t count_of(fastq_connection c, const char *queue, const char *key) {
    const char *json = "";
    CHECK_OK(fastq_show_queue(c, queue, &json));
    return number_in(json, key);
}

static uint64_t publish_text(fastq_connection c, fastq_queue queue, const char *text) {
    uint64_t number = 0;
    CHECK_OK(fastq_publish(c, queue, text, strlen(text), NULL, 0, FASTQ_DURABLE, &number));
    return number;
}

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

static uint64_t publish_with_key(fastq_connection c, fastq_queue exchange, const char *text, const char *key, int level) {
    unsigned char properties[300];
    size_t length = 0;
    uint64_t number = 0;
    CHECK_OK(fastq_put_text(properties, sizeof properties, &length, FASTQ_ROUTING_KEY, key));
    CHECK_OK(fastq_publish(c, exchange, text, strlen(text), properties, length, level, &number));
    return number;
}

static void an_exchange_gives_to_the_queues_that_its_bindings_choose(void) {
    fastq_connection c = connect_to(&shared, NULL);
    const char *json = "";
    fastq_queue topic, by_headers;
    unsigned char headers[128], bad[600] = {0};
    size_t length = 0;
    int64_t seven = 7;
    double half = 0.5;
    queue_of(c, "orders", NULL);
    queue_of(c, "audit", NULL);
    CHECK_OK(fastq_declare_exchange(c, "events", "type=topic\nalternate=rest", &json));
    CHECK(strcmp(json, "{\"name\":\"events\",\"type\":\"topic\",\"alternate\":\"rest\",\"bindings\":0,\"discarded\":0}") == 0);
    CHECK_OK(fastq_declare_exchange(c, "events", "type=topic\nalternate=rest", NULL));
    CHECK_CODE(fastq_declare_exchange(c, "events", "type=fanout", NULL), FASTQ_QUEUE_EXISTS);
    CHECK_OK(fastq_bind(c, "events", "orders", "order.*", NULL, 0, 0));
    CHECK_OK(fastq_bind(c, "events", "orders", "order.*", NULL, 0, 0));
    CHECK_OK(fastq_bind(c, "events", "audit", "#", NULL, 0, 0));
    CHECK_OK(fastq_open_exchange(c, "events", &topic));
    int64_t queues = 0;
    uint64_t counted = publish_with_key(c, topic, "both", "order.made", FASTQ_DURABLE | FASTQ_COUNTED);
    CHECK_OK(fastq_wait(c, counted, FASTQ_DURABLE, LONG_WAIT));
    CHECK_OK(fastq_routed(c, counted, &queues));
    CHECK(queues == 2);
    CHECK_OK(fastq_routed(c, counted, &queues));
    CHECK(queues == -1);
    CHECK_CODE(fastq_routed(c, counted, NULL), FASTQ_BAD_ARGUMENT);
    CHECK_OK(fastq_wait(c, publish_with_key(c, topic, "one", "stock.low", FASTQ_DURABLE), FASTQ_DURABLE, LONG_WAIT));
    CHECK(count_of(c, "orders", "messages") == 1 && count_of(c, "audit", "messages") == 2);
    CHECK_OK(fastq_unbind(c, "events", "audit", "#", NULL, 0, 0));
    CHECK_OK(fastq_unbind(c, "events", "audit", "#", NULL, 0, 0));
    CHECK_CODE(fastq_wait(c, publish_with_key(c, topic, "none", "stock.low", FASTQ_DURABLE), FASTQ_DURABLE, LONG_WAIT), FASTQ_UNROUTABLE);
    counted = publish_with_key(c, topic, "none", "stock.low", FASTQ_DURABLE | FASTQ_OPTIONAL | FASTQ_COUNTED);
    CHECK_OK(fastq_wait(c, counted, FASTQ_DURABLE, LONG_WAIT));
    CHECK_OK(fastq_routed(c, counted, &queues));
    CHECK(queues == 0);
    fastq_transaction t = 0;
    unsigned char low[32];
    size_t low_bytes = 0;
    CHECK_OK(fastq_put_text(low, sizeof low, &low_bytes, FASTQ_ROUTING_KEY, "stock.low"));
    CHECK_OK(fastq_begin(c, 0, &t));
    CHECK_OK(fastq_add_publish(c, t, topic, "optional", 8, low, low_bytes, FASTQ_OPTIONAL));
    CHECK_OK(fastq_commit_transaction(c, t, FASTQ_DURABLE, &counted));
    CHECK_OK(fastq_wait(c, counted, FASTQ_DURABLE, LONG_WAIT));
    CHECK_OK(fastq_begin(c, 0, &t));
    CHECK_OK(fastq_add_publish(c, t, topic, "wanted", 6, low, low_bytes, 0));
    CHECK_OK(fastq_commit_transaction(c, t, FASTQ_DURABLE, &counted));
    CHECK_CODE(fastq_wait(c, counted, FASTQ_DURABLE, LONG_WAIT), FASTQ_UNROUTABLE);

    // To another exchange, by headers.
    CHECK_OK(fastq_declare_exchange(c, "by-headers", "type=headers", NULL));
    CHECK_OK(fastq_put_header(headers, sizeof headers, &length, "colour", FASTQ_TEXT, "blue", 4));
    CHECK_OK(fastq_put_header(headers, sizeof headers, &length, "count", FASTQ_INT64, &seven, sizeof seven));
    CHECK_OK(fastq_put_header(headers, sizeof headers, &length, "ratio", FASTQ_DOUBLE, &half, sizeof half));
    CHECK_OK(fastq_put_header(headers, sizeof headers, &length, "raw", FASTQ_BYTES, "abcd", 4));
    CHECK_OK(fastq_bind(c, "by-headers", "audit", NULL, headers, length, FASTQ_ANY_HEADER));
    CHECK_OK(fastq_bind(c, "events", "by-headers", "#", NULL, 0, FASTQ_TO_EXCHANGE));
    CHECK_OK(fastq_show_exchange(c, "by-headers", &json));
    CHECK(strstr(json, "\"bindings\":1,\"discarded\":0,\"to\":[{\"queue\":\"audit\",\"key\":\"\",\"match\":\"any\",\"headers\":{\"colour\":\"blue\",\"count\":7,\"ratio\":0.5,\"raw\":{\"type\":4,\"base64\":\"YWJjZA==\"}}}]}") != NULL);
    CHECK_OK(fastq_show_exchange(c, "events", &json));
    CHECK(strstr(json, "\"exchange\":\"by-headers\"") != NULL && strstr(json, "\"queue\":\"orders\",\"key\":\"order.*\",\"match\":\"all\",\"headers\":{}") != NULL && number_in(json, "discarded") == 2);
    CHECK_OK(fastq_list_exchanges(c, &json));
    CHECK(json[0] == '[' && strstr(json, "{\"name\":\"by-headers\"") != NULL && json[strlen(json) - 1] == ']');
    length = 0;
    uint64_t number;
    CHECK_OK(fastq_put_header(headers, sizeof headers, &length, "count", FASTQ_INT64, &seven, sizeof seven));
    CHECK_OK(fastq_open_exchange(c, "by-headers", &by_headers));
    CHECK_OK(fastq_publish_batch(c, by_headers, headers, (uint32_t[]){0}, (uint32_t[]){(uint32_t)length}, 1, FASTQ_DURABLE, &number));
    CHECK_OK(fastq_wait(c, number, FASTQ_DURABLE, LONG_WAIT));
    CHECK(count_of(c, "audit", "messages") == 3);
    CHECK_OK(fastq_delete_exchange(c, "events"));
    CHECK_CODE(fastq_show_exchange(c, "events", &json), FASTQ_UNKNOWN_EXCHANGE);
    CHECK_CODE(fastq_open_exchange(c, "events", &topic), FASTQ_UNKNOWN_EXCHANGE);
    CHECK_CODE(fastq_wait(c, publish_with_key(c, topic, "gone", "order.made", FASTQ_DURABLE), FASTQ_DURABLE, LONG_WAIT), FASTQ_QUEUE_DELETED);

    const int wrong = FASTQ_BAD_ARGUMENT;
    CHECK_CODE(fastq_declare_exchange(c, NULL, NULL, NULL), wrong);
    CHECK_CODE(fastq_declare_exchange(c, "x", "type=square", NULL), wrong);
    CHECK_CODE(fastq_declare_exchange(c, "x", "colour=blue", NULL), wrong);
    CHECK_CODE(fastq_declare_exchange(c, "fastq.x", NULL, NULL), FASTQ_BAD_NAME);
    CHECK_CODE(fastq_delete_exchange(c, NULL), wrong);
    CHECK_CODE(fastq_delete_exchange(c, "not there"), FASTQ_UNKNOWN_EXCHANGE);
    CHECK_CODE(fastq_show_exchange(c, "by-headers", NULL), wrong);
    CHECK_CODE(fastq_list_exchanges(c, NULL), wrong);
    CHECK_CODE(fastq_open_exchange(c, NULL, &topic), wrong);
    CHECK_CODE(fastq_bind(c, "by-headers", NULL, NULL, NULL, 0, 0), wrong);
    CHECK_CODE(fastq_bind(c, "by-headers", "audit", NULL, NULL, 1, 0), wrong);
    CHECK_CODE(fastq_bind(c, "by-headers", "audit", NULL, NULL, 0, 4), wrong);
    CHECK_CODE(fastq_bind(c, "by-headers", "audit", NULL, bad, 513, 0), FASTQ_TOO_LARGE);
    CHECK_CODE(fastq_bind(c, "by-headers", "not there", NULL, NULL, 0, 0), FASTQ_UNKNOWN_QUEUE);
    CHECK_CODE(fastq_unbind(c, "not there", "audit", NULL, NULL, 0, 0), FASTQ_UNKNOWN_EXCHANGE);
    CHECK_CODE(fastq_publish(c, by_headers, "x", 1, NULL, 0, 16, NULL), wrong);
    CHECK_OK(fastq_close(c));
}

static void a_queue_of_a_connections_own_goes_with_it(void) {
    fastq_connection c = connect_to(&shared, NULL), other = connect_to(&shared, NULL);
    const char *json = "";
    char name[64] = "", again[64] = "";
    fastq_subscription s;
    fastq_queue queue;
    fastq_message message;
    CHECK_OK(fastq_declare_queue(c, NULL, "lease=5s", &json));
    CHECK(sscanf(json, "{\"name\":\"%63[^\"]", name) == 1 && strstr(json, "\"temporary\":true") != NULL && strstr(json, "\"leaseSeconds\":5,") != NULL && strstr(json, "\"deadLetter\":\"\"") != NULL);
    CHECK_OK(fastq_declare_queue(c, NULL, "dead-letter=graves", &json));
    CHECK(sscanf(json, "{\"name\":\"%63[^\"]", again) == 1 && strcmp(name, again) != 0 && strstr(json, "\"deadLetter\":\"graves\"") != NULL);
    CHECK_CODE(fastq_declare_queue(c, NULL, NULL, NULL), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_subscribe(other, name, NULL, &s), FASTQ_DENIED);
    CHECK_OK(fastq_open_queue(other, name, &queue));
    publish_text(other, queue, "to you alone");
    s = subscribe(c, name, NULL);
    CHECK(receive_one(c, s, &message) && has_body(&message, "to you alone"));
    CHECK_OK(fastq_close(c));
    while (fastq_show_queue(other, name, &json) == FASTQ_OK) { // The broker sees the end when it looks next.
    }
    CHECK_CODE(fastq_show_queue(other, name, &json), FASTQ_UNKNOWN_QUEUE);
    CHECK_OK(fastq_close(other));
}

static void browsing_shows_each_message_where_it_stands_and_single_ones_are_changed(void) {
    fastq_connection c = connect_to(&shared, "name=the browser");
    fastq_queue queue = queue_of(c, "browse", "priority");
    fastq_subscription s = subscribe(c, "browse", "credit=1");
    static fastq_browsed seen[100];
    fastq_message message;
    uint64_t tag = 0, purged = 0;
    size_t count, had = 0;
    CHECK_OK(fastq_declare_queue(c, "elsewhere", NULL, NULL));
    for (int i = 0; i < 50; i++) {
        char text[16];
        snprintf(text, sizeof text, "m%d", i);
        publish_text(c, queue, text);
    }
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK(receive_one(c, s, &message));
    do {
        CHECK_OK(fastq_browse(c, "browse", NULL, &tag, seen, 100, &count));
        for (size_t i = 0; i < count; i++, had++) {
            char text[16];
            snprintf(text, sizeof text, "m%zu", had);
            CHECK(seen[i].body_bytes == strlen(text) && memcmp(seen[i].body, text, seen[i].body_bytes) == 0);
            CHECK(seen[i].state == (had == 0 ? FASTQ_STATE_IN_FLIGHT : FASTQ_STATE_READY));
            if (had == 0) {
                CHECK(seen[i].tag == message.tag && seen[i].lease_left_ms > 0 && seen[i].owner != NULL && memmem(seen[i].owner, seen[i].owner_bytes, "the browser", 11) != NULL);
            }
        }
    } while (tag != 0);
    CHECK(had == 50);
    tag = 0;
    CHECK_OK(fastq_browse(c, "browse", "state=ready", &tag, seen, 3, &count));
    CHECK(count == 3);
    uint64_t first = seen[0].tag, second = seen[1].tag, third = seen[2].tag;
    CHECK_OK(fastq_delete_message(c, "browse", first));
    CHECK_OK(fastq_change_message(c, "browse", second, 9, -1));
    CHECK_OK(fastq_change_message(c, "browse", third, -1, 3600000));
    CHECK_CODE(fastq_delete_message(c, "browse", message.tag), FASTQ_DENIED);
    CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
    CHECK(receive_one(c, s, &message) && message.tag == second);
    CHECK(count_of(c, "browse", "delayed") == 1);
    CHECK_OK(fastq_purge_queue(c, "browse", &purged));
    CHECK(purged == 47);
    CHECK_OK(fastq_settle(c, s, &message, FASTQ_RELEASE, FASTQ_DURABLE, 0, 0, NULL));
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    tag = 0;
    CHECK_OK(fastq_browse(c, "browse", NULL, &tag, seen, 100, &count));
    CHECK(count == 1 && seen[0].tag == second && seen[0].reason == FASTQ_REASON_RELEASED && seen[0].stopped == 0);
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

static fastq_transaction begin(fastq_connection c) {
    fastq_transaction t = 0;
    CHECK_OK(fastq_begin(c, 0, &t));
    return t;
}

static int commit(fastq_connection c, fastq_transaction t) {
    uint64_t number = 0;
    int code = fastq_commit_transaction(c, t, FASTQ_DURABLE, &number);
    return code != FASTQ_OK ? code : fastq_wait(c, number, FASTQ_DURABLE, LONG_WAIT);
}

static void a_transaction_takes_effect_as_a_whole_or_not_at_all(void) {
    enum { IN = 6 };
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue in = queue_of(c, "tx-in", NULL), out = queue_of(c, "tx-out", NULL), full = queue_of(c, "tx-full", "max-length=1");
    fastq_subscription s = subscribe(c, "tx-in", "credit=10");
    fastq_message messages[IN];
    uint64_t number = 0, before;
    size_t had = 0, count = 0;
    fastq_status status = {.size = sizeof status};
    for (int i = 0; i < IN; i++) {
        publish_text(c, in, "in");
    }
    while (had < IN && CHECK_OK(fastq_receive(c, s, messages + had, IN - had, LONG_WAIT, &count)) && CHECK(count > 0)) {
        had += count;
    }

    // Nothing happens before the commit, and all of it then; neighbours are one record.
    fastq_transaction t = begin(c);
    CHECK_OK(fastq_add_publish(c, t, out, "one", 3, NULL, 0, 0));
    CHECK_OK(fastq_add_settle(c, t, s, &messages[0], FASTQ_ACCEPT, 0, 0));
    CHECK_OK(fastq_add_settle(c, t, s, &messages[1], FASTQ_ACCEPT, 0, 0));
    CHECK_CODE(fastq_add_settle(c, t, s, &messages[1], FASTQ_ACCEPT, 0, 0), FASTQ_ALREADY_SETTLED);
    CHECK_OK(fastq_add_settle(c, t, s, &messages[2], FASTQ_RELEASE, 86400000, 0));
    CHECK_OK(fastq_add_reject(c, t, s, &messages[3], "no such address", NULL));
    CHECK_OK(fastq_add_publish(c, t, out, "two", 3, NULL, 0, 0));
    CHECK(count_of(c, "tx-out", "messages") == 0 && count_of(c, "tx-in", "inFlight") == IN);
    CHECK_OK(fastq_get_status(c, &status));
    before = status.last_number;
    CHECK_OK(fastq_commit_transaction(c, t, FASTQ_DURABLE, &number));
    CHECK(number == before + 5);
    CHECK(count_of(c, "tx-in", "accepted") == 2); // It is decided, though nobody has waited for it.
    CHECK_CODE(fastq_holds(c, s, &messages[2]), FASTQ_ALREADY_SETTLED);
    CHECK_OK(fastq_wait(c, number, FASTQ_DURABLE, LONG_WAIT));
    CHECK_CODE(fastq_holds(c, s, &messages[0]), FASTQ_ALREADY_SETTLED);
    CHECK_OK(fastq_holds(c, s, &messages[4]));
    CHECK(count_of(c, "tx-out", "messages") == 2 && count_of(c, "tx-in", "accepted") == 2 && count_of(c, "tx-in", "delayed") == 1 && count_of(c, "tx-in.dead", "messages") == 1);
    CHECK_CODE(fastq_commit_transaction(c, t, FASTQ_DURABLE, &number), FASTQ_IS_CLOSED);
    CHECK_CODE(fastq_rollback(c, t), FASTQ_IS_CLOSED);

    // One that is refused has changed nothing, and says why.
    CHECK_OK(fastq_wait(c, publish_text(c, full, "fits"), FASTQ_DURABLE, LONG_WAIT));
    t = begin(c);
    CHECK_OK(fastq_add_settle(c, t, s, &messages[4], FASTQ_ACCEPT, 0, 0));
    CHECK_OK(fastq_add_publish(c, t, out, "three", 5, NULL, 0, 0));
    CHECK_OK(fastq_add_publish(c, t, full, "does not", 8, NULL, 0, 0));
    CHECK_CODE(commit(c, t), FASTQ_LIMIT_REACHED);
    CHECK(strstr(fastq_last_error(), "Operation 3 of the transaction") != NULL && fastq_last_value() == 1);
    CHECK_OK(fastq_holds(c, s, &messages[4]));
    CHECK(count_of(c, "tx-out", "messages") == 2);
    t = begin(c); // It may be named again.
    CHECK_OK(fastq_add_settle(c, t, s, &messages[4], FASTQ_ACCEPT, 0, 0));
    CHECK_OK(fastq_rollback(c, t));
    t = begin(c);
    CHECK_OK(fastq_add_settle(c, t, s, &messages[4], FASTQ_ACCEPT, 0, 0));
    CHECK_OK(fastq_settle(c, s, &messages[4], FASTQ_ACCEPT, FASTQ_ACCEPTED, 0, 0, NULL));
    CHECK_CODE(commit(c, t), FASTQ_ALREADY_SETTLED); // At once: it is not in hand any more.

    // An empty one is committed at once; its time, its size, its handles.
    t = begin(c);
    CHECK_OK(fastq_commit_transaction(c, t, FASTQ_DURABLE, &number));
    CHECK(number == 0);
    CHECK_OK(fastq_begin(c, 1, &t));
    int code;
    while ((code = fastq_add_publish(c, t, out, "late", 4, NULL, 0, 0)) == FASTQ_OK) {
    }
    CHECK_CODE(code, FASTQ_TIMED_OUT);
    CHECK_CODE(fastq_add_publish(c, t, out, "late", 4, NULL, 0, 0), FASTQ_IS_CLOSED);
    t = begin(c);
    unsigned char *large = calloc(1, 9000000);
    CHECK_OK(fastq_add_publish(c, t, out, large, 9000000, NULL, 0, 0));
    CHECK_CODE(fastq_add_publish(c, t, out, large, 9000000, NULL, 0, 0), FASTQ_TOO_LARGE);
    CHECK_CODE(fastq_add_publish(c, t, out, large, SIZE_MAX, NULL, 0, 0), FASTQ_TOO_LARGE);
    CHECK_CODE(fastq_add_publish(c, t, out, "x", 1, large, 40000, 0), FASTQ_TOO_LARGE);
    free(large);
    CHECK_OK(commit(c, t));
    CHECK(count_of(c, "tx-out", "messages") == 3);
    CHECK_CODE(fastq_begin(c, 0, NULL), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_begin(c, -1, &t), FASTQ_BAD_ARGUMENT);
    t = begin(c);
    CHECK_CODE(fastq_add_publish(c, t, 0, "x", 1, NULL, 0, 0), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_add_publish(c, t, out, NULL, 1, NULL, 0, 0), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_add_settle(c, t, s, NULL, 0, 0, 0), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_add_settle(c, t, s, &messages[5], 0, 7, 0), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_add_settle(c, t, 12345, &messages[5], 0, 0, 0), FASTQ_IS_CLOSED);
    CHECK_CODE(fastq_add_reject(c, t, s, NULL, NULL, NULL), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_commit_transaction(c, t, 4, NULL), FASTQ_BAD_ARGUMENT);
    CHECK_OK(fastq_add_settle(c, t, s, &messages[5], FASTQ_ACCEPT, 0, 0));
    CHECK_OK(fastq_unsubscribe(c, s));
    CHECK_CODE(commit(c, t), FASTQ_IS_CLOSED);
    t = begin(c);
    CHECK_OK(fastq_add_publish(c, t, out, "never", 5, NULL, 0, 0));
    CHECK_OK(fastq_close(c)); // Rolls back.
}

static void a_transaction_that_settles_what_others_have_is_refused_as_lease_lost(void) {
    fastq_connection c = connect_to(&shared, NULL), other = connect_to(&shared, NULL);
    fastq_queue in = queue_of(c, "tx-lease", NULL), out = queue_of(c, "tx-never", NULL);
    fastq_subscription s = subscribe(c, "tx-lease", "lease=20ms"), t;
    fastq_message message, again;
    publish_text(c, in, "slow");
    CHECK(receive_one(c, s, &message));
    t = subscribe(other, "tx-lease", NULL);
    CHECK(receive_one(other, t, &again) && again.tag == message.tag);
    fastq_transaction late = begin(c);
    CHECK_OK(fastq_add_settle(c, late, s, &message, FASTQ_ACCEPT, 0, 0));
    CHECK_OK(fastq_add_publish(c, late, out, "result", 6, NULL, 0, 0));
    CHECK_CODE(commit(c, late), FASTQ_LEASE_LOST);
    CHECK(count_of(c, "tx-never", "messages") == 0);
    CHECK_OK(fastq_close(other));
    CHECK_OK(fastq_close(c));
}

static void kills_of_the_broker_leave_of_each_transaction_all_or_nothing(void) {
    enum { ROUNDS = 10, EACH = 40 };
    broker b;
    make_broker(&b);
    fastq_connection c = connect_to(&b, "patience=60s\nring=65536");
    fastq_queue in = queue_of(c, "in", "lease=5m"), out = queue_of(c, "out", NULL);
    fastq_subscription s = subscribe(c, "in", "credit=100"), done;
    static unsigned char seen[ROUNDS * EACH];
    memset(seen, 0, sizeof seen);
    for (uint32_t i = 0; i < ROUNDS * EACH; i++) {
        CHECK_OK(fastq_publish(c, in, &i, sizeof i, NULL, 0, FASTQ_WRITTEN, NULL));
    }
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    for (uint32_t i = 0; i < ROUNDS * EACH; i++) {
        fastq_message message;
        if (i % EACH == EACH / 2) { // Transactions of just now are not confirmed, and are sent again.
            kill_broker(&b, SIGKILL);
            start_broker(&b);
        }
        if (!receive_one(c, s, &message)) {
            break;
        }
        fastq_transaction t = begin(c);
        CHECK_OK(fastq_add_publish(c, t, out, message.body, message.body_bytes, NULL, 0, 0));
        CHECK_OK(fastq_add_settle(c, t, s, &message, FASTQ_ACCEPT, 0, 0));
        CHECK_OK(fastq_add_publish(c, t, out, message.body, message.body_bytes, NULL, 0, 0));
        CHECK_OK(fastq_commit_transaction(c, t, i % 4, NULL));
        if (i % EACH == EACH - 1) {
            CHECK_OK(fastq_flush(c, FASTQ_WRITTEN, LONG_WAIT)); // That the broker had died is met here at the latest.
        }
    }
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK(count_of(c, "in", "messages") == 0 && count_of(c, "out", "messages") == 2 * ROUNDS * EACH);
    done = subscribe(c, "out", NULL);
    for (uint32_t i = 0; i < 2 * ROUNDS * EACH; i++) {
        fastq_message message;
        uint32_t value = 0;
        if (!receive_one(c, done, &message)) {
            break;
        }
        memcpy(&value, message.body, sizeof value);
        CHECK(value == i / 2);
        CHECK_OK(fastq_settle(c, done, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
    }
    fastq_status status = {.size = sizeof status};
    CHECK_OK(fastq_get_status(c, &status));
    CHECK(status.reconnects == ROUNDS && status.resent > 0);
    CHECK_OK(fastq_close(c));
    remove_broker(&b);
}

static uint64_t ask(fastq_connection c, fastq_queue queue, const char *text, int64_t timeout_ms) {
    uint64_t number = 0;
    CHECK_OK(fastq_request(c, queue, text, strlen(text), NULL, 0, timeout_ms, 0, &number));
    return number;
}

static bool is_reply(const fastq_reply *reply, const char *text, uint32_t part, uint32_t flags) {
    return reply->body_bytes == strlen(text) && memcmp(reply->body, text, reply->body_bytes) == 0 && reply->part == part && reply->flags == flags;
}

static void a_request_gets_its_reply_and_is_told_why_there_is_none(void) {
    fastq_connection c = connect_to(&shared, "name=requester"), other = connect_to(&shared, "name=responder");
    fastq_queue queue = queue_of(c, "rpc", NULL);
    fastq_reply reply;
    fastq_message first, second;
    uint64_t one, two, number;
    unsigned char properties[64];
    size_t length = 0, position = 0;
    fastq_property property;
    CHECK_CODE(fastq_receive_reply(c, ask(c, queue, "anybody?", 60000), LONG_WAIT, &reply), FASTQ_NO_RESPONDER);
    CHECK_CODE(fastq_receive_reply(c, ask(c, 999999, "nowhere", 60000), LONG_WAIT, &reply), FASTQ_UNKNOWN_QUEUE);
    CHECK_OK(fastq_flush(c, FASTQ_ACCEPTED, LONG_WAIT)); // Told once, of the request.

    // Two under way, answered in the other order.
    fastq_subscription s = subscribe(other, "rpc", NULL);
    CHECK_OK(fastq_put_text(properties, sizeof properties, &length, FASTQ_TYPE, "question"));
    CHECK_OK(fastq_request(c, queue, "one", 3, properties, length, 60000, 0, &one));
    two = ask(c, queue, "two", 60000);
    CHECK(receive_one(other, s, &first) && has_body(&first, "one") && memmem(first.properties, first.property_bytes, "question", 8) != NULL);
    CHECK(receive_one(other, s, &second) && has_body(&second, "two"));
    CHECK_OK(fastq_reply_to(other, s, &second, "reply two", 9, properties, length, 0, FASTQ_LAST, FASTQ_WRITTEN, &number));
    CHECK_CODE(fastq_holds(other, s, &second), FASTQ_ALREADY_SETTLED);
    CHECK_OK(fastq_wait(other, number, FASTQ_WRITTEN, LONG_WAIT));
    CHECK_CODE(fastq_receive_reply(c, one, 0, &reply), FASTQ_TIMED_OUT);
    CHECK_OK(fastq_receive_reply(c, two, LONG_WAIT, &reply));
    CHECK(is_reply(&reply, "reply two", 0, FASTQ_LAST));
    CHECK_OK(fastq_next_property(reply.properties, reply.property_bytes, &position, &property));
    CHECK(property.tag == FASTQ_TYPE && property.value_bytes == 8);
    CHECK_CODE(fastq_receive_reply(c, two, LONG_WAIT, &reply), FASTQ_IS_CLOSED);
    CHECK_OK(fastq_reply_to(other, s, &first, "no luck", 7, properties, length, 0, FASTQ_LAST | FASTQ_FAILED, FASTQ_NONE, NULL));
    CHECK_OK(fastq_receive_reply(c, one, LONG_WAIT, &reply));
    CHECK(is_reply(&reply, "no luck", 0, FASTQ_LAST | FASTQ_FAILED));
    CHECK(count_of(c, "rpc", "messages") == 0 && count_of(c, "rpc", "accepted") == 2);
    CHECK_CODE(fastq_reply_to(other, s, &first, "again", 5, NULL, 0, 0, FASTQ_LAST, FASTQ_NONE, NULL), FASTQ_ALREADY_SETTLED);

    // From elsewhere, by its address alone.
    one = ask(c, queue, "by address", 60000);
    CHECK(receive_one(other, s, &first));
    char address[64] = "";
    for (position = 0; fastq_next_property(first.properties, first.property_bytes, &position, &property) == FASTQ_OK && property.tag != 0;) {
        if (property.tag == FASTQ_REPLY_TO) {
            snprintf(address, sizeof address, "%.*s", (int)property.value_bytes, (const char *)property.value);
        }
    }
    CHECK_OK(fastq_send_reply(c, address, "here", 4, NULL, 0, 0, FASTQ_LAST, &number));
    CHECK_OK(fastq_wait(c, number, FASTQ_NONE, LONG_WAIT));
    CHECK_OK(fastq_receive_reply(c, one, LONG_WAIT, &reply));
    CHECK(is_reply(&reply, "here", 0, FASTQ_LAST));
    CHECK_OK(fastq_settle(other, s, &first, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
    CHECK_CODE(fastq_send_reply(c, "fastq.reply.1", "x", 1, NULL, 0, 0, FASTQ_LAST, NULL), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_send_reply(c, NULL, "x", 1, NULL, 0, 0, FASTQ_LAST, NULL), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_send_reply(c, address, "x", 1, NULL, 0, 0, FASTQ_END, NULL), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_send_reply(c, address, "x", SIZE_MAX, NULL, 0, 0, FASTQ_LAST, NULL), FASTQ_TOO_LARGE);

    // One that is rejected, one whose responder dies, one that nobody waits for any more, one that is never answered.
    one = ask(c, queue, "x", 60000);
    CHECK(receive_one(other, s, &first));
    CHECK_OK(fastq_reject(other, s, &first, "not mine", NULL, FASTQ_NONE, NULL));
    CHECK_OK(fastq_flush(other, FASTQ_NONE, 0));
    CHECK_OK(fastq_receive_reply(c, one, LONG_WAIT, &reply));
    CHECK(is_reply(&reply, "not mine", 0, FASTQ_LAST | FASTQ_FAILED) && memmem(reply.properties, reply.property_bytes, "rejected", 8) != NULL);
    one = ask(c, queue, "y", 60000);
    CHECK(receive_one(other, s, &first));
    CHECK_OK(fastq_settle(other, s, &first, FASTQ_RELEASE, FASTQ_ACCEPTED, 0, 0, &number));
    CHECK_CODE(fastq_receive_reply(c, one, LONG_WAIT, &reply), FASTQ_NO_RESPONDER);
    fastq_connection leaver = connect_to(&shared, NULL);
    ask(leaver, queue, "z", 60000);
    CHECK(receive_one(other, s, &first));
    CHECK_OK(fastq_close(leaver));
    do { // The broker sees that it is gone when it looks next.
        CHECK_OK(fastq_reply_to(other, s, &first, "part", 4, NULL, 0, 0, 0, FASTQ_NONE, &number));
    } while (fastq_wait(other, number, FASTQ_NONE, LONG_WAIT) == FASTQ_OK);
    CHECK_OK(fastq_reply_to(other, s, &first, "late", 4, NULL, 0, 0, FASTQ_LAST, FASTQ_ACCEPTED, &number));
    CHECK_CODE(fastq_wait(other, number, FASTQ_ACCEPTED, LONG_WAIT), FASTQ_NO_REQUESTER);
    CHECK(count_of(c, "rpc", "inFlight") == 0); // Accepted all the same.
    ask(c, queue, "nobody looks", 60000);
    CHECK(receive_one(other, s, &first));
    CHECK_OK(fastq_reply_to(other, s, &first, "x", 1, NULL, 0, 0, FASTQ_LAST, FASTQ_NONE, NULL));
    CHECK_OK(fastq_flush(other, FASTQ_ACCEPTED, LONG_WAIT));
    one = ask(c, queue, "in no time", 60000);
    CHECK_CODE(fastq_receive_reply(c, one, 20000000, &reply), FASTQ_TIMED_OUT);
    CHECK_OK(fastq_end_request(c, one));
    CHECK_CODE(fastq_end_request(c, one), FASTQ_IS_CLOSED);
    CHECK_OK(fastq_unsubscribe(other, s));

    // One that waits for a responder; one that has died with its process is told.
    CHECK_OK(fastq_purge_queue(c, "rpc", NULL));
    CHECK_OK(fastq_request(c, queue, "w", 1, NULL, 0, 60000, FASTQ_WAITS_FOR_RESPONDER, &one));
    CHECK_OK(fastq_flush(c, FASTQ_ACCEPTED, LONG_WAIT));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        fastq_connection own = connect_to(&shared, NULL);
        _exit(receive_one(own, subscribe(own, "rpc", NULL), &first) ? 7 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK_CODE(fastq_receive_reply(c, one, LONG_WAIT, &reply), FASTQ_NO_RESPONDER);

    const int bad = FASTQ_BAD_ARGUMENT;
    unsigned char *large = calloc(1, 40000);
    CHECK_CODE(fastq_request(c, queue, "x", 1, NULL, 0, 0, 0, &one), bad);
    CHECK_CODE(fastq_request(c, queue, "x", 1, NULL, 0, 1, 2, &one), bad);
    CHECK_CODE(fastq_request(c, queue, "x", 1, NULL, 0, 1, 0, NULL), bad);
    CHECK_CODE(fastq_request(c, queue, "x", SIZE_MAX, NULL, 0, 1, 0, &one), FASTQ_TOO_LARGE);
    CHECK_CODE(fastq_request(c, queue, "x", 1, large, 32768, 1, 0, &one), FASTQ_TOO_LARGE);
    CHECK_CODE(fastq_receive_reply(c, 1, 0, NULL), bad);
    CHECK_CODE(fastq_receive_reply(c, 123456, 0, &reply), FASTQ_IS_CLOSED);
    CHECK_CODE(fastq_wait(c, (UINT64_C(1) << 52) + 77, 0, 0), bad);
    s = subscribe(other, "rpc", NULL);
    publish_text(c, queue, "no request");
    CHECK(receive_one(other, s, &first));
    CHECK_CODE(fastq_reply_to(other, s, &first, "x", 1, NULL, 0, 0, FASTQ_LAST, 0, NULL), bad);
    ask(c, queue, "x", 60000);
    CHECK(receive_one(other, s, &first));
    CHECK_CODE(fastq_reply_to(other, s, &first, "x", 1, NULL, 0, 0, FASTQ_END, 0, NULL), bad);
    CHECK_CODE(fastq_reply_to(other, s, &first, "x", 1, NULL, 0, 0, FASTQ_LAST, 4, NULL), bad);
    CHECK_CODE(fastq_reply_to(other, s, &first, "x", 1, large, 40000, 0, FASTQ_LAST, 0, NULL), FASTQ_TOO_LARGE);
    CHECK_CODE(fastq_reply_to(other, 999, &first, "x", 1, NULL, 0, 0, FASTQ_LAST, 0, NULL), FASTQ_IS_CLOSED);
    CHECK_CODE(fastq_reply_to(other, s, NULL, "x", 1, NULL, 0, 0, FASTQ_LAST, 0, NULL), bad);
    free(large);
    CHECK_OK(fastq_close(other));
    CHECK_OK(fastq_close(c));
}

static void an_answer_in_parts_comes_in_order_and_a_slow_requester_slows_its_responder(void) {
    enum { PARTS = 500, BYTES = 5000 };
    fastq_connection c = connect_to(&shared, "ring=65536"), other = connect_to(&shared, "ring=65536");
    fastq_queue queue = queue_of(c, "stream", "lease=5m");
    fastq_subscription s = subscribe(other, "stream", NULL);
    static unsigned char body[BYTES];
    fastq_message message;
    fastq_reply reply;
    uint64_t number, request = ask(c, queue, "all of it", 60000);
    CHECK(receive_one(other, s, &message));
    for (uint32_t part = 0; part < PARTS; part++) {
        memcpy(body, &part, sizeof part);
        CHECK_OK(fastq_reply_to(other, s, &message, body, sizeof body, NULL, 0, part, 0, FASTQ_NONE, &number));
        // In time it comes only while there is room in the ring of a requester that does not look; then it is let go on.
        while (fastq_wait(other, number, FASTQ_NONE, 5000000) == FASTQ_TIMED_OUT) {
            CHECK_OK(fastq_tick(c));
        }
    }
    CHECK_OK(fastq_reply_to(other, s, &message, NULL, 0, NULL, 0, PARTS, FASTQ_LAST | FASTQ_END, FASTQ_NONE, NULL));
    for (uint32_t part = 0; part <= PARTS; part++) {
        if (!CHECK_OK(fastq_receive_reply(c, request, LONG_WAIT, &reply))) {
            break;
        }
        CHECK(reply.part == part && reply.flags == (part < PARTS ? 0 : FASTQ_LAST | FASTQ_END) && reply.body_bytes == (part < PARTS ? BYTES : 0) && (part == PARTS || memcmp(reply.body, &part, sizeof part) == 0));
    }
    // A reply larger than a ring; and one who stops to listen is not sent the rest.
    unsigned char *large = calloc(1, 3000000);
    memset(large, 'r', 3000000);
    request = ask(c, queue, "large", 60000);
    CHECK(receive_one(other, s, &message));
    CHECK_OK(fastq_reply_to(other, s, &message, large, 3000000, NULL, 0, 0, FASTQ_LAST, FASTQ_NONE, NULL));
    CHECK_OK(fastq_receive_reply(c, request, LONG_WAIT, &reply));
    CHECK(reply.body_bytes == 3000000 && memcmp(reply.body, large, 3000000) == 0);
    free(large);
    request = ask(c, queue, "enough", 60000);
    CHECK(receive_one(other, s, &message));
    CHECK_OK(fastq_reply_to(other, s, &message, "0", 1, NULL, 0, 0, 0, FASTQ_NONE, &number));
    CHECK_OK(fastq_wait(other, number, FASTQ_NONE, LONG_WAIT));
    CHECK_OK(fastq_receive_reply(c, request, LONG_WAIT, &reply));
    CHECK(is_reply(&reply, "0", 0, 0));
    CHECK_OK(fastq_end_request(c, request));
    int code = FASTQ_OK;
    for (uint32_t part = 1; code == FASTQ_OK; part++) {
        CHECK_OK(fastq_reply_to(other, s, &message, "more", 4, NULL, 0, part, 0, FASTQ_NONE, &number));
        code = fastq_wait(other, number, FASTQ_NONE, LONG_WAIT);
        CHECK_OK(fastq_tick(c));
    }
    CHECK(code == FASTQ_NO_REQUESTER);
    CHECK_OK(fastq_close(other));
    CHECK_OK(fastq_close(c));
}

static void requests_and_replies_survive_kills_of_the_broker_or_time_out(void) {
    enum { ROUNDS = 12 };
    broker b;
    make_broker(&b);
    fastq_connection c = connect_to(&b, "patience=60s"), other = connect_to(&b, "patience=60s");
    fastq_queue queue = queue_of(c, "rpc", "lease=5m");
    fastq_subscription s = subscribe(other, "rpc", NULL);
    for (int round = 0; round < ROUNDS; round++) {
        char text[16];
        fastq_message message;
        fastq_reply reply;
        snprintf(text, sizeof text, "%d", round);
        uint64_t request = ask(c, queue, text, 60000), number = 0;
        if (round % 3 == 0) { // It is sent again, if it was not written yet. A requester that is away would be sent no reply.
            kill_broker(&b, SIGKILL);
            start_broker(&b);
            CHECK_OK(fastq_tick(c));
        }
        CHECK_OK(fastq_flush(c, FASTQ_WRITTEN, LONG_WAIT));
        CHECK(receive_one(other, s, &message) && has_body(&message, text));
        if (round % 3 == 1) { // Both are away; the request stays in hand.
            kill_broker(&b, SIGKILL);
            start_broker(&b);
            CHECK_OK(fastq_tick(c));
            CHECK_OK(fastq_tick(other));
        }
        CHECK_OK(fastq_reply_to(other, s, &message, text, strlen(text), NULL, 0, 0, FASTQ_LAST, FASTQ_WRITTEN, &number));
        if (round % 3 == 2) { // With the reply unread, or read and lost: it comes, or it does not; the accept is done once.
            kill_broker(&b, SIGKILL);
            start_broker(&b);
            CHECK_OK(fastq_tick(c));
        }
        int code = fastq_wait(other, number, FASTQ_WRITTEN, LONG_WAIT);
        if (!CHECK(code == FASTQ_OK || (round % 3 == 2 && code == FASTQ_NO_REQUESTER))) {
            printf("    round %d: %s\n", round, fastq_last_error());
        }
        code = fastq_receive_reply(c, request, round % 3 == 2 ? 200000000 : LONG_WAIT, &reply);
        CHECK(code == FASTQ_OK ? is_reply(&reply, text, 0, FASTQ_LAST) : round % 3 == 2 && code == FASTQ_TIMED_OUT);
        if (code == FASTQ_TIMED_OUT) {
            CHECK_OK(fastq_end_request(c, request));
        }
        CHECK(count_of(c, "rpc", "messages") == 0 && count_of(c, "rpc", "accepted") == (uint64_t)round + 1);
    }
    // The word of a part may be lost with the broker: who waits for it is told so, and does not wait for ever.
    fastq_message message;
    uint64_t number = 0;
    ask(c, queue, "in parts", 60000);
    CHECK(receive_one(other, s, &message));
    kill_broker(&b, SIGKILL);
    CHECK_OK(fastq_reply_to(other, s, &message, "part", 4, NULL, 0, 0, 0, FASTQ_NONE, &number));
    start_broker(&b);
    CHECK_CODE(fastq_wait(other, number, FASTQ_NONE, LONG_WAIT), FASTQ_DISCONNECTED);
    CHECK_OK(fastq_close(other));
    CHECK_OK(fastq_close(c));
    remove_broker(&b);
}

static uint64_t publish_with(fastq_connection c, fastq_queue queue, const char *text, const void *properties, size_t property_bytes) {
    uint64_t number = 0;
    CHECK_OK(fastq_publish(c, queue, text, strlen(text), properties, property_bytes, FASTQ_DURABLE, &number));
    return number;
}

static void a_message_that_waits_under_a_key_is_replaced_kept_moved_and_cancelled(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "keys", NULL);
    fastq_subscription s = subscribe(c, "keys", NULL);
    unsigned char later[128];
    size_t length = 0, with_mode;
    uint32_t timeliness = 77;
    fastq_message message;
    CHECK_OK(fastq_put_text(later, sizeof later, &length, FASTQ_SCHEDULE_KEY, "order-17"));
    CHECK_OK(fastq_put_number(later, sizeof later, &length, FASTQ_DELAY, 86400000));
    publish_with(c, queue, "first", later, length);
    publish_with(c, queue, "second", later, length);
    with_mode = length;
    CHECK_OK(fastq_put_number(later, sizeof later, &with_mode, FASTQ_SCHEDULE_MODE, 2));
    CHECK_CODE(fastq_wait(c, publish_with(c, queue, "third", later, with_mode), FASTQ_DURABLE, LONG_WAIT), FASTQ_DUPLICATE);
    CHECK(count_of(c, "keys", "delayed") == 1 && count_of(c, "keys", "purged") == 1);
    CHECK_OK(fastq_reschedule(c, "keys", "order-17", 0, &timeliness));
    CHECK(timeliness == FASTQ_IN_TIME && receive_one(c, s, &message) && has_body(&message, "second"));
    CHECK_OK(fastq_cancel_scheduled(c, "keys", "order-17", &timeliness));
    CHECK(timeliness == FASTQ_HANDED_OUT);
    CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
    CHECK_OK(fastq_cancel_scheduled(c, "keys", "order-17", &timeliness));
    CHECK(timeliness == FASTQ_GONE);
    with_mode = length;
    CHECK_OK(fastq_put_number(later, sizeof later, &with_mode, FASTQ_SCHEDULE_MODE, 1));
    CHECK_OK(fastq_put_number(later, sizeof later, &with_mode, FASTQ_LONGEST_WAIT, 1));
    publish_with(c, queue, "put off", later, with_mode); // But not beyond a millisecond after the first of them.
    publish_with(c, queue, "put off again", later, with_mode);
    CHECK(receive_one(c, s, &message) && message.body_bytes >= 7 && memcmp(message.body, "put off", 7) == 0);
    publish_with(c, queue, "to be moved", later, length);
    CHECK_OK(fastq_reschedule_at(c, "keys", "order-17", INT64_C(4102444800000000), &timeliness));
    CHECK(timeliness == FASTQ_IN_TIME);
    CHECK_OK(fastq_cancel_scheduled(c, "keys", "order-17", NULL));
    CHECK(count_of(c, "keys", "delayed") == 0);
    CHECK_CODE(fastq_cancel_scheduled(c, "keys", NULL, NULL), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_cancel_scheduled(c, "not there", "x", NULL), FASTQ_UNKNOWN_QUEUE);
    CHECK_CODE(fastq_reschedule(c, "keys", "x", -1, NULL), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_reschedule_at(c, NULL, "x", 1, NULL), FASTQ_BAD_ARGUMENT);
    CHECK_OK(fastq_close(c));
}

static void a_schedule_sends_again_and_again_until_it_is_paused_or_deleted(void) {
    fastq_connection c = connect_to(&shared, NULL);
    queue_of(c, "beats", NULL);
    fastq_subscription s = subscribe(c, "beats", NULL);
    const char *json = "";
    unsigned char properties[64], *large = calloc(1, 30000);
    size_t length = 0;
    fastq_message message;
    CHECK_OK(fastq_put_text(properties, sizeof properties, &length, FASTQ_TYPE, "beat"));
    CHECK_OK(fastq_set_schedule(c, "heart", "beats", "every=100ms\nmissed=none", "beat", 4, properties, length, &json));
    CHECK(strstr(json, "{\"name\":\"heart\",\"queue\":\"beats\",\"cron\":null,\"zone\":null,\"everySeconds\":0.100,\"missed\":\"none\",\"until\":null,\"count\":null,\"bodyBytes\":4,\"next\":\"20") != NULL);
    for (int i = 0; i < 3; i++) {
        CHECK(receive_one(c, s, &message) && has_body(&message, "beat") && memmem(message.properties, message.property_bytes, "fastq.schedule", 14) != NULL);
        CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
    }
    CHECK_OK(fastq_pause_schedule(c, "heart", 1, &json));
    CHECK(strstr(json, "\"paused\":true}") != NULL && number_in(json, "fired") >= 3);
    CHECK_OK(fastq_pause_schedule(c, "heart", 0, NULL));
    CHECK(receive_one(c, s, &message));
    CHECK_OK(fastq_set_schedule(c, "nightly", "beats", "cron=0 3 * * 1-5\nzone=Europe/Berlin\ncount=7\nuntil=4102444800000000", NULL, 0, NULL, 0, &json));
    CHECK(strstr(json, "\"cron\":\"0 3 * * 1-5\",\"zone\":\"Europe/Berlin\",\"everySeconds\":null,\"missed\":\"one\",\"until\":\"2100-01-01T00:00:00.000000Z\",\"count\":7,\"bodyBytes\":0") != NULL);
    CHECK_OK(fastq_list_schedules(c, &json));
    CHECK(strncmp(json, "[{\"name\":\"heart\"", 16) == 0 && strstr(json, "},{\"name\":\"nightly\"") != NULL);
    CHECK_OK(fastq_delete_schedule(c, "heart"));
    CHECK_OK(fastq_delete_schedule(c, "nightly"));
    CHECK_OK(fastq_list_schedules(c, &json));
    CHECK(strcmp(json, "[]") == 0);
    const int bad = FASTQ_BAD_ARGUMENT;
    CHECK_CODE(fastq_delete_schedule(c, "nightly"), bad);
    CHECK_CODE(fastq_delete_schedule(c, NULL), bad);
    CHECK_CODE(fastq_pause_schedule(c, NULL, 1, NULL), bad);
    CHECK_CODE(fastq_list_schedules(c, NULL), bad);
    CHECK_CODE(fastq_set_schedule(c, "x", "beats", "every=1ms", NULL, 0, NULL, 0, NULL), bad);
    CHECK_CODE(fastq_set_schedule(c, "x", "beats", "cron=never", NULL, 0, NULL, 0, NULL), bad);
    CHECK_CODE(fastq_set_schedule(c, "x", "beats", "missed=some", NULL, 0, NULL, 0, NULL), bad);
    CHECK_CODE(fastq_set_schedule(c, "x", "beats", "colour=blue", NULL, 0, NULL, 0, NULL), bad);
    CHECK_CODE(fastq_set_schedule(c, "x", "beats", NULL, NULL, 0, NULL, 0, NULL), bad);
    CHECK_CODE(fastq_set_schedule(c, "x", "not there", "every=1s", NULL, 0, NULL, 0, NULL), FASTQ_UNKNOWN_QUEUE);
    CHECK_CODE(fastq_set_schedule(c, "x", "beats", "every=1s", large, 30000, NULL, 0, NULL), FASTQ_TOO_LARGE);
    CHECK_CODE(fastq_set_schedule(c, "x", "beats", "every=1s", large, 24576, large, 24576, NULL), bad);
    free(large);
    CHECK_OK(fastq_close(c));
}

static void limits_on_what_flows_hold_and_are_shown(void) {
    fastq_connection c = connect_to(&shared, NULL);
    const char *json = "";
    CHECK_OK(fastq_declare_limit(c, "printers", "max-in-flight=2\nrate=600/m\nburst=9", &json));
    CHECK(strcmp(json, "{\"name\":\"printers\",\"flow\":{\"maxInFlight\":2,\"rate\":\"600/m\",\"burst\":9},\"inFlight\":0,\"queues\":0,\"waiting\":0}") == 0);
    CHECK_OK(fastq_declare_queue(c, "flow", "fifo\nfair\nmax-in-flight=3\nrate=10/s\nburst=4\ngroup-in-flight=2\ndelay-holds-group\ntenant-in-flight=5\ntenant-rate=7/h\ntenant-burst=1\nlimit=printers\n"
        "breaker=50%/100\nbreaker-pause=1500ms\npublish-rate=1000000\npublish-burst=300", &json));
    CHECK(strstr(json, "\"flow\":{\"maxInFlight\":3,\"rate\":\"10/s\",\"burst\":4,\"groupInFlight\":2,\"delayHoldsGroup\":true,\"tenantInFlight\":5,\"tenantRate\":\"7/h\",\"tenantBurst\":1,\"limit\":\"printers\",\"breaker\":\"50%/100\",\"breakerPauseSeconds\":1.500,\"publishRate\":\"1000000/s\",\"publishBurst\":300}") != NULL);
    CHECK_OK(fastq_change_queue(c, "flow", "max-in-flight=0\nrate=0\nburst=0\nbreaker=off\nbreaker-pause=0s\nlimit=", &json));
    CHECK(strstr(json, "\"flow\":{\"groupInFlight\":2,") != NULL && strstr(json, "breaker") == NULL && strstr(json, "printers") == NULL);
    CHECK_OK(fastq_change_limit(c, "printers", "max-in-flight=1", &json));
    CHECK(strstr(json, "\"flow\":{\"maxInFlight\":1,\"rate\":\"600/m\"") != NULL);
    fastq_queue queue = queue_of(c, "one-by-one", "limit=printers");
    fastq_subscription s = subscribe(c, "one-by-one", NULL);
    fastq_message message, more;
    size_t count = 7;
    publish_text(c, queue, "a");
    publish_text(c, queue, "b");
    CHECK(receive_one(c, s, &message) && has_body(&message, "a"));
    CHECK_OK(fastq_list_limits(c, &json));
    CHECK(json[0] == '[' && number_in(json, "inFlight") == 1 && number_in(json, "queues") == 1 && number_in(json, "waiting") == 1);
    CHECK_OK(fastq_receive(c, s, &more, 1, 1000000, &count));
    CHECK(count == 0);
    CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
    CHECK(receive_one(c, s, &message) && has_body(&message, "b"));
    CHECK_CODE(fastq_delete_limit(c, "printers"), FASTQ_DENIED);
    CHECK_OK(fastq_delete_queue(c, "one-by-one"));
    CHECK_OK(fastq_delete_limit(c, "printers"));
    const int bad = FASTQ_BAD_ARGUMENT;
    CHECK_CODE(fastq_declare_queue(c, "x", "rate=10/d", NULL), bad);
    CHECK_CODE(fastq_declare_queue(c, "x", "rate", NULL), bad);
    CHECK_CODE(fastq_declare_queue(c, "x", "max-in-flight=10000001", NULL), bad);
    CHECK_CODE(fastq_declare_queue(c, "x", "breaker=101%/5", NULL), bad);
    CHECK_CODE(fastq_declare_queue(c, "x", "breaker=50%/5x", NULL), bad);
    CHECK_CODE(fastq_declare_queue(c, "x", "breaker", NULL), bad);
    CHECK_CODE(fastq_declare_queue(c, "x", "limit=0123456789012345678901234567890123456789012345678901234567890123456789", NULL), bad);
    CHECK_CODE(fastq_declare_limit(c, NULL, NULL, NULL), bad);
    CHECK_CODE(fastq_declare_limit(c, "x", "publish-rate=5", NULL), bad);
    CHECK_CODE(fastq_change_limit(c, NULL, NULL, NULL), bad);
    CHECK_CODE(fastq_delete_limit(c, NULL), bad);
    CHECK_CODE(fastq_list_limits(c, NULL), bad);
    CHECK_OK(fastq_close(c));
}

static void what_was_processed_is_marked_once_and_found(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "ledger", "processed-window=1h"), without = queue_of(c, "no-ledger", NULL);
    fastq_subscription s = subscribe(c, "ledger", NULL), t = subscribe(c, "no-ledger", NULL);
    fastq_message message;
    fastq_processed processed;
    const unsigned char *result = NULL;
    size_t bytes = 7;
    CHECK_OK(fastq_find_processed(c, "ledger", "invoice-17", &result, &bytes));
    CHECK(result == NULL && bytes == 0);
    publish_text(c, queue, "a");
    publish_text(c, queue, "b");
    CHECK(receive_one(c, s, &message));
    CHECK_OK(fastq_accept_processed(c, s, &message, "invoice-17", "paid", 4, &processed));
    CHECK(processed.is_first && !processed.was_late && processed.result_bytes == 4 && memcmp(processed.result, "paid", 4) == 0);
    CHECK_CODE(fastq_holds(c, s, &message), FASTQ_ALREADY_SETTLED);
    CHECK_OK(fastq_accept_processed(c, s, &message, "invoice-18", NULL, 0, &processed)); // Not in hand any more, and marked all the same.
    CHECK(processed.is_first && processed.was_late);
    CHECK(receive_one(c, s, &message) && has_body(&message, "b"));
    CHECK_OK(fastq_accept_processed(c, s, &message, "invoice-17", "paid twice", 10, &processed));
    CHECK(!processed.is_first && !processed.was_late && processed.result_bytes == 4 && memcmp(processed.result, "paid", 4) == 0);
    CHECK_OK(fastq_find_processed(c, "ledger", "invoice-17", &result, &bytes));
    CHECK(bytes == 4 && memcmp(result, "paid", 4) == 0);
    CHECK_OK(fastq_find_processed(c, "ledger", "invoice-18", &result, &bytes));
    CHECK(result != NULL && bytes == 0);
    CHECK(count_of(c, "ledger", "accepted") == 2);
    publish_text(c, without, "c");
    CHECK(receive_one(c, t, &message));
    CHECK_CODE(fastq_accept_processed(c, t, &message, "x", NULL, 0, NULL), FASTQ_BAD_ARGUMENT);
    CHECK_OK(fastq_holds(c, t, &message));
    unsigned char large[600] = {0};
    CHECK_CODE(fastq_accept_processed(c, s, NULL, "x", NULL, 0, NULL), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_accept_processed(c, s, &message, "x", large, sizeof large, NULL), FASTQ_TOO_LARGE);
    CHECK_CODE(fastq_accept_processed(c, 999, &message, "x", NULL, 0, NULL), FASTQ_IS_CLOSED);
    CHECK_CODE(fastq_find_processed(c, "ledger", NULL, &result, &bytes), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_find_processed(c, "not there", "x", &result, &bytes), FASTQ_UNKNOWN_QUEUE);
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

static void kill_9_of_the_broker_loses_nothing_doubles_nothing_and_what_is_in_hand_stays(void) {
    enum { ROUNDS = 5, EACH = 2000 };
    broker b;
    make_broker(&b);
    fastq_connection c = connect_to(&b, "patience=60s");
    fastq_queue queue = queue_of(c, "work", "lease=5m");
    fastq_subscription s = subscribe(c, "work", "credit=100");
    fastq_status status = {.size = sizeof status};
    fastq_message held = {0}, message;
    size_t count, had = 0;
    uint64_t number;
    static unsigned char seen[ROUNDS * EACH];
    memset(seen, 0, sizeof seen);
    for (uint32_t i = 0; i < ROUNDS * EACH; i++) {
        if (i % EACH == EACH / 2) {
            kill_broker(&b, SIGKILL); // With what was sent just now unconfirmed, and messages in hand.
            start_broker(&b);
        }
        CHECK_OK(fastq_publish(c, queue, &i, sizeof i, NULL, 0, i % 4 == 0 ? FASTQ_DURABLE : i % 4, &number));
        if (i == EACH / 4) {
            CHECK(receive_one(c, s, &held));
        }
    }
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK_OK(fastq_holds(c, s, &held));
    CHECK(memcmp(held.body, "\0\0\0\0", 4) == 0);
    CHECK_OK(fastq_settle(c, s, &held, FASTQ_ACCEPT, FASTQ_DURABLE, 0, 0, &number));
    CHECK_OK(fastq_wait(c, number, FASTQ_DURABLE, LONG_WAIT));
    for (had = 1; had < ROUNDS * EACH && CHECK_OK(fastq_receive(c, s, &message, 1, LONG_WAIT, &count)) && CHECK(count == 1); had++) {
        uint32_t i;
        memcpy(&i, message.body, sizeof i);
        if (!CHECK(i == had) || !CHECK(!seen[i]++)) { // In order, once.
            break;
        }
        if (had % (ROUNDS * EACH / 4) == 0) {
            kill_broker(&b, SIGKILL); // Settlements, too, are sent again.
            start_broker(&b);
        }
        CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
    }
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK(count_of(c, "work", "messages") == 0);
    CHECK_OK(fastq_get_status(c, &status));
    CHECK(status.reconnects >= ROUNDS && status.resent > 0);
    CHECK_OK(fastq_close(c));
    remove_broker(&b);
}

static _Atomic uint64_t reached; // How far a test has come, for who kills in the midst of it.

typedef struct { broker *b; uint64_t at; } murder;

static void *kill_in_the_midst(void *given) {
    const murder *m = given;
    while (atomic_load(&reached) < m->at) {
        sched_yield();
    }
    kill_broker(m->b, SIGKILL);
    start_broker(m->b);
    return NULL;
}

static void kills_in_the_midst_of_a_burst_leave_no_gap_and_no_double(void) {
    enum { ROUNDS = 12, EACH = 3000, BYTES = 400 };
    broker b;
    make_broker(&b);
    fastq_connection c = connect_to(&b, "patience=60s\nring=65536");
    fastq_queue queue = queue_of(c, "work", NULL);
    fastq_subscription s = subscribe(c, "work", "credit=500");
    unsigned char body[BYTES] = {0};
    uint64_t sent = 0, expected = 0;
    for (int round = 0; round < ROUNDS; round++) {
        murder m = {.b = &b, .at = sent + (uint64_t)(round * 263 % EACH)};
        pthread_t killer;
        pthread_create(&killer, NULL, kill_in_the_midst, &m);
        for (int i = 0; i < EACH; i++, sent++) {
            memcpy(body, &sent, sizeof sent);
            CHECK_OK(fastq_publish(c, queue, body, sizeof body, NULL, 0, round % 4, NULL));
            atomic_store(&reached, sent);
        }
        pthread_join(killer, NULL);
    }
    CHECK_OK(fastq_flush(c, FASTQ_WRITTEN, LONG_WAIT));
    while (expected < sent) {
        fastq_message messages[100];
        size_t count = 0;
        uint64_t number = 0;
        if (!CHECK_OK(fastq_receive(c, s, messages, 100, LONG_WAIT, &count)) || !CHECK(count > 0)) {
            break;
        }
        for (size_t i = 0; i < count; i++, expected++) {
            memcpy(&number, messages[i].body, sizeof number);
            if (!CHECK(number == expected)) {
                printf("    %llu, not %llu\n", (unsigned long long)number, (unsigned long long)expected);
                expected = sent;
            }
        }
        CHECK_OK(fastq_settle_many(c, s, messages, count, FASTQ_ACCEPT, FASTQ_NONE, NULL));
    }
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK(count_of(c, "work", "messages") == 0);
    CHECK_OK(fastq_close(c));
    remove_broker(&b);
}

/// What a victim does until it is killed: all kinds of calls in turn, on the shared broker.
static void live_dangerously(_Atomic uint64_t *calls, unsigned seed) {
    fastq_connection c = connect_to(&shared, "ring=65536");
    fastq_queue queue = queue_of(c, "victims", "lease=1h\nmax-deliveries=0");
    fastq_subscription s = subscribe(c, "victims", "credit=50");
    static unsigned char body[200000];
    for (uint64_t i = 0;; i++, atomic_fetch_add(calls, 1)) {
        fastq_message messages[10];
        const char *json;
        size_t count;
        switch ((i * 7 + seed) % 8) {
            case 7: {
                uint64_t request = 0;
                fastq_reply reply;
                fastq_request(c, queue, body, 100, NULL, 0, 1000, 0, &request);
                fastq_receive(c, s, messages, 10, 0, &count);
                for (size_t at = 0; at < count; at++) {
                    fastq_reply_to(c, s, &messages[at], body, 100, NULL, 0, 0, FASTQ_LAST, (int)(i % 4), NULL);
                }
                fastq_receive_reply(c, request, 1000000, &reply);
                fastq_end_request(c, request);
                break;
            }
            case 6: {
                fastq_transaction t = 0;
                fastq_begin(c, 0, &t);
                fastq_add_publish(c, t, queue, body, 100, NULL, 0, 0);
                fastq_receive(c, s, messages, 1, 0, &count);
                if (count > 0) {
                    fastq_add_settle(c, t, s, messages, FASTQ_ACCEPT, 0, 0);
                }
                fastq_commit_transaction(c, t, (int)(i % 4), NULL);
                break;
            }
            case 0: fastq_publish(c, queue, body, (i * 997 + seed) % 20 == 0 ? sizeof body : 100, NULL, 0, (int)(i % 4), NULL); break;
            case 1: fastq_receive(c, s, messages, 10, 0, &count); fastq_settle_many(c, s, messages, count, (int)(i % 3 == 0 ? FASTQ_RELEASE : FASTQ_ACCEPT), FASTQ_NONE, NULL); break;
            case 2: fastq_flush(c, (int)(i % 4), LONG_WAIT); break;
            case 3: fastq_show_queue(c, "victims", &json); break;
            case 4: fastq_receive(c, s, messages, 1, 1000000, &count); break;
            default: fastq_unsubscribe(c, s); fastq_subscribe(c, "victims", NULL, &s); break;
        }
    }
}

static void kill_9_of_a_client_inside_any_call_harms_nobody_else(void) {
    enum { ROUNDS = 200 };
    _Atomic uint64_t *calls = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "bystander", NULL);
    fastq_subscription s = subscribe(c, "bystander", NULL);
    fflush(stdout);
    for (unsigned round = 0; round < ROUNDS && failures_of_this == 0; round++) {
        atomic_store(calls, 0);
        pid_t victim = fork();
        if (victim == 0) {
            live_dangerously(calls, round);
        }
        while (atomic_load(calls) < round % 37) {
            sched_yield();
        }
        kill(victim, SIGKILL);
        waitpid(victim, NULL, 0);
        fastq_message message;
        char text[16];
        snprintf(text, sizeof text, "%u", round);
        CHECK_OK(fastq_wait(c, publish_text(c, queue, text), FASTQ_WRITTEN, LONG_WAIT));
        CHECK(receive_one(c, s, &message) && has_body(&message, text));
        CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
    }
    fastq_status status = {.size = sizeof status};
    CHECK_OK(fastq_get_status(c, &status));
    CHECK(status.reconnects == 0);
    // Whatever the victims held is everybody's again.
    uint64_t held = 1;
    while (failures_of_this == 0 && held > 0) {
        held = count_of(c, "victims", "inFlight");
    }
    CHECK_OK(fastq_close(c));
    munmap((void *)calls, 4096);
}

static void an_orderly_stop_is_ridden_out_too(void) {
    broker b;
    make_broker(&b);
    fastq_connection c = connect_to(&b, "patience=60s");
    fastq_queue queue = queue_of(c, "work", NULL);
    fastq_subscription s = subscribe(c, "work", NULL);
    fastq_message message;
    publish_text(c, queue, "before");
    CHECK(receive_one(c, s, &message));
    kill_broker(&b, SIGTERM);
    start_broker(&b);
    CHECK_OK(fastq_tick(c));
    CHECK_OK(fastq_holds(c, s, &message));
    publish_text(c, queue, "after");
    CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_DURABLE, 0, 0, NULL));
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK(receive_one(c, s, &message) && has_body(&message, "after"));
    CHECK_OK(fastq_close(c));
    remove_broker(&b);
}

static char told[8][256];
static int told_count;

static void tell(void *context, const char *text) {
    CHECK(context == &told_count);
    if (told_count < 8) {
        snprintf(told[told_count++], sizeof told[0], "%s", text);
    }
}

static void a_broker_that_stays_away_is_told_within_the_patience_and_may_come_back(void) {
    broker b;
    make_broker(&b);
    fastq_connection c = connect_to(&b, "patience=200ms"), none;
    fastq_queue queue = queue_of(c, "work", NULL);
    fastq_subscription s = subscribe(c, "work", NULL);
    fastq_message message;
    size_t count;
    CHECK_OK(fastq_set_log(c, tell, &told_count));
    CHECK_OK(fastq_is_connected(c));
    kill_broker(&b, SIGKILL);
    while (fastq_is_connected(c) == FASTQ_OK) {
    }
    publish_text(c, queue, "while it was away");
    CHECK_CODE(fastq_receive(c, s, &message, 1, LONG_WAIT, &count), FASTQ_DISCONNECTED);
    CHECK_CODE(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT), FASTQ_DISCONNECTED);
    CHECK_CODE(fastq_connect(b.socket, "patience=0s", &none), FASTQ_DISCONNECTED);
    CHECK(strstr(fastq_last_error(), b.socket) != NULL);
    start_broker(&b);
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK(receive_one(c, s, &message) && has_body(&message, "while it was away"));
    CHECK(told_count >= 2 && strstr(told[0], "gone") != NULL && strstr(told[told_count - 1], "back") != NULL);
    CHECK_OK(fastq_close(c));
    remove_broker(&b);
}

static void an_event_loop_waits_by_the_descriptor(void) {
    fastq_connection c = connect_to(&shared, NULL), sender = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "loop", NULL);
    fastq_subscription s = subscribe(c, "loop", NULL);
    fastq_message message;
    size_t count = 0;
    int descriptor = -1, ready = 1;
    CHECK_OK(fastq_descriptor(c, &descriptor));
    for (int i = 0; i < 100; i++) {
        bool is_sent = false;
        for (count = 0; count == 0;) {
            CHECK_OK(fastq_receive(c, s, &message, 1, 0, &count));
            if (count == 0 && CHECK_OK(fastq_arm(c, &ready)) && !ready) {
                if (!is_sent) {
                    publish_text(sender, queue, "ring");
                    is_sent = true;
                }
                struct pollfd one = {.fd = descriptor, .events = POLLIN};
                if (!CHECK(poll(&one, 1, 60000) == 1)) {
                    return;
                }
            }
        }
        CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
    }
    CHECK_OK(fastq_close(sender));
    CHECK_OK(fastq_close(c));
}

static void a_forked_child_is_told_so_and_connects_for_itself(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "fork", NULL);
    fastq_subscription s = subscribe(c, "fork", NULL);
    fastq_message message;
    int status = -1, descriptor = -1;
    CHECK_OK(fastq_descriptor(c, &descriptor));
    publish_text(c, queue, "of the parent");
    CHECK(receive_one(c, s, &message));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        failures_of_this = 0;
        CHECK(fcntl(descriptor, F_GETFD) < 0); // Nothing of the parent's connection is held open here.
        CHECK_CODE(fastq_publish(c, queue, "x", 1, NULL, 0, FASTQ_DURABLE, NULL), FASTQ_FORKED);
        CHECK_CODE(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL), FASTQ_FORKED);
        CHECK_CODE(fastq_flush(c, FASTQ_DURABLE, 0), FASTQ_FORKED);
        CHECK_OK(fastq_close(c));
        CHECK_CODE(fastq_flush(c, FASTQ_DURABLE, 0), FASTQ_IS_CLOSED);
        fastq_connection own = connect_to(&shared, NULL);
        publish_text(own, queue, "of the child");
        CHECK_OK(fastq_flush(own, FASTQ_DURABLE, LONG_WAIT));
        CHECK_OK(fastq_close(own));
        _exit(failures_of_this == 0 ? 0 : 1);
    }
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_OK(fastq_holds(c, s, &message));
    CHECK(has_body(&message, "of the parent"));
    CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
    CHECK(receive_one(c, s, &message) && has_body(&message, "of the child"));
    CHECK_OK(fastq_close(c));
}

static void a_child_does_not_keep_its_dead_parents_messages(void) {
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "orphan", "lease=1d");
    int done[2], stay[2];
    char byte;
    publish_text(c, queue, "held");
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK(pipe(done) == 0 && pipe(stay) == 0);
    fflush(stdout);
    pid_t parent = fork();
    if (parent == 0) {
        fastq_connection own = connect_to(&shared, NULL);
        fastq_subscription s = subscribe(own, "orphan", NULL);
        fastq_message message;
        bool has = receive_one(own, s, &message);
        if (fork() == 0) { // It lives on, and does nothing.
            close(stay[1]);
            (void)!read(stay[0], &byte, 1);
            _exit(0);
        }
        (void)!write(done[1], has ? "y" : "n", 1);
        kill(getpid(), SIGKILL);
    }
    CHECK(read(done[0], &byte, 1) == 1 && byte == 'y');
    waitpid(parent, NULL, 0);
    fastq_subscription s = subscribe(c, "orphan", NULL);
    fastq_message message;
    CHECK(receive_one(c, s, &message) && has_body(&message, "held") && message.delivery_count == 2);
    close(stay[1]);
    close(stay[0]);
    close(done[0]);
    close(done[1]);
    CHECK_OK(fastq_close(c));
}

typedef struct { fastq_connection connection; fastq_subscription subscription; int code; } waiter;

static void *wait_long(void *given) {
    waiter *w = given;
    fastq_message message;
    size_t count;
    do {
        w->code = fastq_receive(w->connection, w->subscription, &message, 1, LONG_WAIT, &count);
    } while (w->code == FASTQ_BUSY); // The other one looks just now.
    return NULL;
}

static void a_second_thread_is_told_that_the_connection_is_busy(void) {
    fastq_connection c = connect_to(&shared, NULL), other = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, "busy", NULL);
    waiter w = {.connection = c, .subscription = subscribe(c, "busy", NULL)};
    pthread_t thread;
    pthread_create(&thread, NULL, wait_long, &w);
    uint64_t number;
    while (fastq_confirmed(c, FASTQ_ACCEPTED, &number) != FASTQ_BUSY) {
    }
    CHECK_CODE(fastq_close(c), FASTQ_BUSY);
    publish_text(other, queue, "wake");
    pthread_join(thread, NULL);
    CHECK(w.code == FASTQ_OK);
    CHECK_OK(fastq_close(c));
    CHECK_OK(fastq_close(other));
}

enum { THREADS = 4, OF_EACH = 5000 };

static void *publish_and_consume(void *given) {
    const char *name = given;
    fastq_connection c = connect_to(&shared, NULL);
    fastq_queue queue = queue_of(c, name, NULL);
    fastq_subscription s = subscribe(c, name, NULL);
    for (int i = 0; i < OF_EACH; i++) {
        CHECK_OK(fastq_publish(c, queue, &i, sizeof i, NULL, 0, FASTQ_WRITTEN, NULL));
    }
    for (int i = 0; i < OF_EACH; i++) {
        fastq_message message;
        int value = -1;
        if (!receive_one(c, s, &message)) {
            break;
        }
        memcpy(&value, message.body, sizeof value);
        CHECK(value == i);
        CHECK_OK(fastq_settle(c, s, &message, FASTQ_ACCEPT, FASTQ_NONE, 0, 0, NULL));
    }
    CHECK_OK(fastq_close(c));
    return NULL;
}

static void connections_of_several_threads_do_not_meet(void) {
    static char names[THREADS][32];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        snprintf(names[i], sizeof names[i], "thread-%d", i);
        pthread_create(&threads[i], NULL, publish_and_consume, names[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void on_signal(int signal) { (void)signal; }

static void the_hosts_signal_handlers_stay(void) {
    static const int signals[] = {SIGSEGV, SIGINT, SIGCHLD, SIGPIPE, SIGTERM, SIGBUS};
    struct sigaction mine = {.sa_handler = on_signal}, before[COUNT_OF(signals)], now;
    for (size_t i = 0; i < COUNT_OF(signals); i++) {
        sigaction(signals[i], &mine, &before[i]);
    }
    fastq_connection c = connect_to(&shared, NULL);
    publish_text(c, queue_of(c, "signals", NULL), "x");
    CHECK_OK(fastq_flush(c, FASTQ_DURABLE, LONG_WAIT));
    CHECK_OK(fastq_close(c));
    for (size_t i = 0; i < COUNT_OF(signals); i++) {
        sigaction(signals[i], &before[i], &now);
        CHECK(now.sa_handler == on_signal);
    }
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
#define TEST(name) {#name, name}
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
        TEST(an_exchange_gives_to_the_queues_that_its_bindings_choose),
        TEST(a_queue_of_a_connections_own_goes_with_it),
        TEST(browsing_shows_each_message_where_it_stands_and_single_ones_are_changed),
        TEST(refusals_are_told_by_wait_by_flush_and_one_by_one),
        TEST(a_duplicate_counts_as_published_and_tells_the_place_of_the_first),
        TEST(a_compressed_body_comes_as_it_was_and_one_that_is_none_says_so),
        TEST(a_transaction_takes_effect_as_a_whole_or_not_at_all),
        TEST(a_transaction_that_settles_what_others_have_is_refused_as_lease_lost),
        TEST(kills_of_the_broker_leave_of_each_transaction_all_or_nothing),
        TEST(a_request_gets_its_reply_and_is_told_why_there_is_none),
        TEST(an_answer_in_parts_comes_in_order_and_a_slow_requester_slows_its_responder),
        TEST(requests_and_replies_survive_kills_of_the_broker_or_time_out),
        TEST(a_message_that_waits_under_a_key_is_replaced_kept_moved_and_cancelled),
        TEST(a_schedule_sends_again_and_again_until_it_is_paused_or_deleted),
        TEST(limits_on_what_flows_hold_and_are_shown),
        TEST(what_was_processed_is_marked_once_and_found),
        TEST(bodies_are_compressed_where_their_queue_wants_it_and_they_get_smaller),
        TEST(kill_9_of_the_broker_loses_nothing_doubles_nothing_and_what_is_in_hand_stays),
        TEST(kills_in_the_midst_of_a_burst_leave_no_gap_and_no_double),
        TEST(kill_9_of_a_client_inside_any_call_harms_nobody_else),
        TEST(an_orderly_stop_is_ridden_out_too),
        TEST(a_broker_that_stays_away_is_told_within_the_patience_and_may_come_back),
        TEST(an_event_loop_waits_by_the_descriptor),
        TEST(a_forked_child_is_told_so_and_connects_for_itself),
        TEST(a_child_does_not_keep_its_dead_parents_messages),
        TEST(a_second_thread_is_told_that_the_connection_is_busy),
        TEST(connections_of_several_threads_do_not_meet),
        TEST(the_hosts_signal_handlers_stay),
        TEST(a_queue_that_is_deleted_ends_its_subscriptions),
        TEST(what_a_consumer_leaves_goes_back_uncounted),
        TEST(bad_arguments_are_told_and_harm_nothing),
    };
    if (count < 2) {
        fprintf(stderr, "Usage: conformance BROKER [WORD]\n");
        return 2;
    }
    broker_binary = arguments[1];
    make_broker(&shared);
    int code = run_tests("native.conformance", tests, COUNT_OF(tests), count > 2 ? arguments[2] : NULL);
    remove_broker(&shared);
    return code;
}
