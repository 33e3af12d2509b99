// The promises of libfastq, against the real broker: exchanges, single messages, transactions, requests, schedules, limits, the ledger.

#include "conformance.h"

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

static void one_consumer_of_a_queue_stands_still_and_goes_on(void) {
    fastq_connection c = connect_to(&shared, "name=pausing");
    fastq_queue queue = queue_of(c, "shared by two", NULL);
    const char *json = NULL;
    CHECK_OK(fastq_list_consumers(c, "shared by two", &json));
    CHECK(strcmp(json, "[]") == 0);
    fastq_subscription still = subscribe(c, "shared by two", "credit=10"), other = subscribe(c, "shared by two", "credit=10\npriority=3");
    CHECK_OK(fastq_list_consumers(c, "shared by two", &json));
    uint32_t number = (uint32_t)number_in(json, "subscription");
    CHECK(strstr(json, "\"owner\":\"pausing (process ") != NULL && strstr(json, ",\"priority\":0,\"exclusive\":false,\"paused\":false,\"inFlight\":0,\"credit\":10},{") != NULL && strstr(json, "\"priority\":3,") != NULL);
    CHECK_OK(fastq_pause_consumer(c, "shared by two", number, 1));
    CHECK_OK(fastq_list_consumers(c, "shared by two", &json));
    CHECK(strstr(json, "\"priority\":0,\"exclusive\":false,\"paused\":true,") != NULL);
    CHECK_OK(fastq_unsubscribe(c, other));
    CHECK_OK(fastq_wait(c, publish_text(c, queue, "waits"), FASTQ_DURABLE, LONG_WAIT));
    fastq_message message;
    size_t count;
    CHECK_CODE(fastq_receive(c, still, &message, 1, SECOND / 20, &count), FASTQ_OK);
    CHECK(count == 0);
    CHECK_OK(fastq_pause_consumer(c, "shared by two", number, 0));
    CHECK(receive_one(c, still, &message) && has_body(&message, "waits"));
    CHECK_CODE(fastq_pause_consumer(c, "shared by two", number + 100, 1), FASTQ_UNKNOWN_SUBSCRIPTION);
    CHECK_CODE(fastq_pause_consumer(c, "shared by two", 0, 1), FASTQ_BAD_ARGUMENT);
    CHECK_CODE(fastq_list_consumers(c, "nowhere", &json), FASTQ_UNKNOWN_QUEUE);
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

int main(int count, char **arguments) {
    static const test tests[] = {
        TEST(an_exchange_gives_to_the_queues_that_its_bindings_choose),
        TEST(one_consumer_of_a_queue_stands_still_and_goes_on),
        TEST(a_queue_of_a_connections_own_goes_with_it),
        TEST(browsing_shows_each_message_where_it_stands_and_single_ones_are_changed),
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
    };
    return run_conformance("native.queues", tests, COUNT_OF(tests), count, arguments);
}
